//! Patterns of parallel work, by name, on one job: [`Job`] says what the job is, [`Pattern`] how it can be
//! divided, [`shares`] how much each worker has to do under those that deal work out, in simulated time.

use std::collections::VecDeque;
use std::fmt;
use std::str::FromStr;

/// A job of independent items of unequal cost. Its answer is a sum, so it does not depend on the order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Job {
    /// How many items.
    pub items: u64,
    /// What an even item costs, in rounds.
    pub rounds: u64,
    /// The first items cost most: item i costs `rounds` × items ÷ (8 (i + 1)), but at least `rounds`.
    pub skewed: bool,
}

impl Job {
    /// What item `at` costs, in rounds.
    pub fn cost(&self, at: u64) -> u64 {
        match self.skewed {
            true => self.rounds.max(self.rounds * self.items / (8 * (at + 1))),
            false => self.rounds,
        }
    }

    /// Where the work on item `at` begins; never 0, which the generator would stay at.
    pub fn begin(&self, at: u64) -> u64 {
        (at << 1) | 1
    }

    /// So many rounds of it: the generator of Marsaglia ("Xorshift RNGs", 2003).
    pub fn work(&self, mut state: u64, rounds: u64) -> u64 {
        for _ in 0..rounds {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
        }
        state
    }

    /// The answer of one item.
    pub fn item(&self, at: u64) -> u64 {
        self.work(self.begin(at), self.cost(at))
    }

    /// The answer of all, one after the other.
    pub fn answer(&self) -> u64 {
        (0..self.items).fold(0, |sum, at| sum.wrapping_add(self.item(at)))
    }
}

/// How a job is divided.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pattern {
    /// A master hands out items one by one, workers send back what they found.
    Farm,
    /// All run the same program, each on its share of the items, and meet at the end.
    Spmd,
    /// Each item goes through stages, each in another's hands.
    Pipeline,
    /// Halves of halves, until they are small.
    DivideAndConquer,
    /// One block of items for each worker; all are waited for.
    ForkJoin,
    /// Each block is done twice at the same time, in two ways; the first to be done counts.
    Speculation,
    /// Each worker has a block; who has done his takes half of what another has left.
    WorkStealing,
}

impl Pattern {
    /// Every pattern.
    pub const ALL: [Self; 7] = [
        Self::Farm,
        Self::Spmd,
        Self::Pipeline,
        Self::DivideAndConquer,
        Self::ForkJoin,
        Self::Speculation,
        Self::WorkStealing,
    ];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Farm => "farm",
            Self::Spmd => "spmd",
            Self::Pipeline => "pipeline",
            Self::DivideAndConquer => "divide-and-conquer",
            Self::ForkJoin => "fork-join",
            Self::Speculation => "speculation",
            Self::WorkStealing => "work-stealing",
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Pattern {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|pattern| pattern.name() == name);
        found.ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            format!("no pattern {name:?}: there are {names}")
        })
    }
}

/// The items of worker `rank` of `workers` when they are divided into blocks beforehand.
pub fn block(items: u64, rank: usize, workers: usize) -> std::ops::Range<u64> {
    let border = |rank: usize| (u128::from(items) * rank as u128 / workers.max(1) as u128) as u64;
    border(rank)..border(rank + 1)
}

/// What is dealt out to workers who have a block each, when a thief takes half of what the richest has left
/// (Blumofe, Leiserson: "Scheduling multithreaded computations by work stealing", JACM 1999; whom to steal from
/// is drawn there, and the richest here, so that a run is the same each time).
#[derive(Clone, Debug)]
pub struct Blocks {
    left: Vec<VecDeque<u64>>,
    /// How often something was stolen.
    pub thefts: u64,
}

impl Blocks {
    /// `items`, in a block for each of `workers`.
    pub fn new(items: u64, workers: usize) -> Self {
        let workers = workers.max(1);
        Self {
            left: (0..workers)
                .map(|rank| block(items, rank, workers).collect())
                .collect(),
            thefts: 0,
        }
    }

    /// The next item of worker `rank`: his own first, else stolen; `None` when nothing is left anywhere.
    pub fn next(&mut self, rank: usize, steals: bool) -> Option<u64> {
        if self.left[rank].is_empty() && steals {
            let richest = (0..self.left.len()).max_by_key(|other| self.left[*other].len())?;
            let rich = &mut self.left[richest];
            let half = rich.split_off(rich.len() / 2);
            if !half.is_empty() {
                self.thefts += 1;
                self.left[rank] = half;
            }
        }
        self.left[rank].pop_front()
    }
}

/// How much each of `workers` has done when all is done, in rounds, if each round takes them the same time: with
/// blocks dealt beforehand, and stolen from or not.
pub fn shares(job: &Job, workers: usize, steals: bool) -> Vec<u64> {
    let workers = workers.max(1);
    let mut blocks = Blocks::new(job.items, workers);
    let mut done = vec![0; workers];
    let mut resting = vec![false; workers];
    // Whoever is free first takes the next item.
    while let Some(rank) = (0..workers)
        .filter(|rank| !resting[*rank])
        .min_by_key(|rank| (done[*rank], *rank))
    {
        match blocks.next(rank, steals) {
            Some(at) => done[rank] += job.cost(at),
            None => resting[rank] = true,
        }
    }
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    const JOB: Job = Job {
        items: 1000,
        rounds: 10,
        skewed: true,
    };

    #[test]
    fn m19_stealing_beats_a_static_split_on_skewed_work() {
        for workers in [2, 4, 8] {
            let all: u64 = (0..JOB.items).map(|at| JOB.cost(at)).sum();
            let (fixed, stolen) = (shares(&JOB, workers, false), shares(&JOB, workers, true));
            assert_eq!(fixed.iter().sum::<u64>(), all);
            assert_eq!(stolen.iter().sum::<u64>(), all);
            let longest = |shares: &[u64]| *shares.iter().max().unwrap();
            let costliest = JOB.cost(0);
            // Never worse than an even share and one item more.
            assert!(longest(&stolen) <= all / workers as u64 + costliest);
            assert!(
                longest(&stolen) < longest(&fixed),
                "{workers}: {stolen:?} {fixed:?}"
            );
        }
    }

    #[test]
    fn stealing_costs_nothing_where_work_is_even() {
        let job = Job {
            skewed: false,
            ..JOB
        };
        assert_eq!(shares(&job, 4, true), shares(&job, 4, false));
    }

    #[test]
    fn every_item_is_dealt_once() {
        let mut blocks = Blocks::new(100, 7);
        let mut seen = Vec::new();
        while let Some(at) = blocks.next(3, true) {
            seen.push(at);
        }
        seen.sort_unstable();
        assert_eq!(seen, (0..100).collect::<Vec<_>>());
        assert!(blocks.thefts >= 6);
    }

    #[test]
    fn two_halves_of_the_work_are_all_of_it() {
        let half = JOB.cost(0) / 2;
        let first = JOB.work(JOB.begin(0), half);
        assert_eq!(JOB.work(first, JOB.cost(0) - half), JOB.item(0));
        assert_eq!("spmd".parse(), Ok(Pattern::Spmd));
        assert!(
            "smpd"
                .parse::<Pattern>()
                .unwrap_err()
                .contains("farm, spmd")
        );
    }
}
