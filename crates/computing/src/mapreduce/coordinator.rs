//! Who does what. Workers ask; what they do is an *attempt* with a number that is never used twice, and a word
//! about an attempt that is no longer wanted changes nothing.
//!
//! * A map's output stays on its worker. It is needed until all reduces are done, so a worker that is lost takes
//!   its *finished* maps with it, and they are done again (the paper's section 3.3). There is one path for that:
//!   [`Coordinator::handle_worker_lost`], for its running attempts and its outputs alike.
//! * Reduces begin once all maps are done. One that cannot fetch an output says so
//!   ([`Coordinator::handle_output_lost`]), waits for the map to be done again, and goes on.
//! * When nothing is left to begin, the attempt that takes much longer than its equals took is begun a second
//!   time elsewhere (section 3.6); whichever is done first counts.
//! * A reduce's output counts once: [`Coordinator::handle_reduce_done`] says to whom it may be published.

use base::planted::{Bug, ComputingBug, planted};
use std::collections::BTreeMap;

/// A task that failed in so many attempts of its own accord fails the job.
pub const FAILURES_MAX: u32 = 4;
/// Attempts shorter than this are never begun a second time.
const SLOW_MIN_MS: u64 = 1000;

/// What a worker does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Work {
    /// The map of that split.
    Map(usize),
    /// The reduce of that partition.
    Reduce(usize),
}

/// What a worker that asked is told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Assignment {
    /// Do this, under this attempt's number.
    Do(Work, u64),
    /// There is nothing now; ask again soon.
    Wait,
    /// There will be nothing any more.
    End,
}

/// Where the output of a map is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Output {
    /// The attempt that made it.
    pub attempt: u64,
    /// The worker that has it.
    pub worker: u64,
}

/// What happened, in numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Attempts begun.
    pub attempts: u64,
    /// Of these, of tasks that had another attempt running.
    pub speculative: u64,
    /// Finished maps whose output was lost.
    pub outputs_lost: u64,
    /// Workers lost.
    pub workers_lost: u64,
    /// Attempts that failed of their own accord.
    pub failures: u64,
}

/// The state of a job.
#[derive(Clone, Debug)]
pub struct Coordinator {
    maps: Vec<Task>,
    reduces: Vec<Task>,
    workers: BTreeMap<u64, ()>,
    attempts: u64,
    workers_seen: u64,
    failed: Option<String>,
    speculate: bool,
    counts: Counts,
    /// How long attempts took that were done, of maps and of reduces.
    took_ms: [Vec<u64>; 2],
}

#[derive(Clone, Debug, Default)]
struct Task {
    running: BTreeMap<u64, Running>,
    done: Option<Output>,
    failures: u32,
}

#[derive(Clone, Copy, Debug)]
struct Running {
    worker: u64,
    since_ms: u64,
}

impl Coordinator {
    /// A job of so many maps and reduces, each at least 1.
    pub fn new(maps: usize, reduces: usize, speculate: bool) -> Self {
        Self {
            maps: vec![Task::default(); maps.max(1)],
            reduces: vec![Task::default(); reduces.max(1)],
            workers: BTreeMap::new(),
            attempts: 0,
            workers_seen: 0,
            failed: None,
            speculate,
            counts: Counts::default(),
            took_ms: [Vec::new(), Vec::new()],
        }
    }

    /// A worker came; returns its number, never used twice. One that was lost and comes back is another.
    pub fn handle_worker(&mut self) -> u64 {
        self.workers_seen += 1;
        self.workers.insert(self.workers_seen, ());
        self.workers_seen
    }

    /// True while `worker` is not lost.
    pub fn has_worker(&self, worker: u64) -> bool {
        self.workers.contains_key(&worker)
    }

    /// What happened so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Maps done, reduces done.
    pub fn progress(&self) -> (usize, usize) {
        let done = |tasks: &[Task]| tasks.iter().filter(|task| task.done.is_some()).count();
        (done(&self.maps), done(&self.reduces))
    }

    /// True when every reduce is done.
    pub fn is_done(&self) -> bool {
        self.reduces.iter().all(|task| task.done.is_some())
    }

    /// Why the job failed, once it has.
    pub fn failure(&self) -> Option<&str> {
        self.failed.as_deref()
    }

    fn tasks(&mut self, work: Work) -> Option<&mut Task> {
        match work {
            Work::Map(at) => self.maps.get_mut(at),
            Work::Reduce(at) => self.reduces.get_mut(at),
        }
    }

    /// `worker` has nothing to do.
    pub fn handle_ask(&mut self, now_ms: u64, worker: u64) -> Assignment {
        if self.failed.is_some() || self.is_done() || !self.has_worker(worker) {
            return Assignment::End;
        }
        let idle = |tasks: &[Task]| {
            tasks
                .iter()
                .position(|task| task.done.is_none() && task.running.is_empty())
        };
        let maps_done = self.maps.iter().all(|task| task.done.is_some());
        let work = match idle(&self.maps) {
            Some(at) => Some(Work::Map(at)),
            None if maps_done => idle(&self.reduces).map(Work::Reduce),
            None => None,
        };
        let work = match work {
            Some(work) => work,
            None => match self.slow(now_ms, worker) {
                Some(work) => {
                    self.counts.speculative += 1;
                    work
                }
                None => return Assignment::Wait,
            },
        };
        self.attempts += 1;
        self.counts.attempts += 1;
        let attempt = self.attempts;
        let running = Running {
            worker,
            since_ms: now_ms,
        };
        if let Some(task) = self.tasks(work) {
            task.running.insert(attempt, running);
        }
        Assignment::Do(work, attempt)
    }

    /// The task that takes longest, if that is more than half as long again as the median of its equals, and
    /// nobody else is at it.
    fn slow(&self, now_ms: u64, worker: u64) -> Option<Work> {
        if !self.speculate {
            return None;
        }
        let maps = (0..self.maps.len()).map(|at| (Work::Map(at), &self.maps[at], 0));
        let reduces = (0..self.reduces.len()).map(|at| (Work::Reduce(at), &self.reduces[at], 1));
        maps.chain(reduces)
            .filter(|(_, task, _)| task.done.is_none() && task.running.len() == 1)
            .filter_map(|(work, task, sort)| {
                let running = task.running.values().next()?;
                let took_ms = now_ms.saturating_sub(running.since_ms);
                let slow_ms = (median(&self.took_ms[sort])? * 3 / 2).max(SLOW_MIN_MS);
                (running.worker != worker && took_ms > slow_ms).then_some((took_ms, work))
            })
            .max()
            .map(|(_, work)| work)
    }

    /// True when that attempt is still wanted: its worker should go on.
    pub fn is_wanted(&self, work: Work, attempt: u64) -> bool {
        let task = match work {
            Work::Map(at) => self.maps.get(at),
            Work::Reduce(at) => self.reduces.get(at),
        };
        self.failed.is_none() && task.is_some_and(|task| task.running.contains_key(&attempt))
    }

    /// A map's output is on its worker. False when it is not wanted (any more), and may be removed.
    pub fn handle_map_done(&mut self, now_ms: u64, map: usize, attempt: u64) -> bool {
        self.done(now_ms, Work::Map(map), attempt)
    }

    /// A reduce's output is complete. True when it is to be published: never said twice for a partition.
    pub fn handle_reduce_done(&mut self, now_ms: u64, reduce: usize, attempt: u64) -> bool {
        self.done(now_ms, Work::Reduce(reduce), attempt)
    }

    fn done(&mut self, now_ms: u64, work: Work, attempt: u64) -> bool {
        if self.failed.is_some() {
            return false;
        }
        let Some(task) = self.tasks(work) else {
            return false;
        };
        let late =
            matches!(work, Work::Reduce(_)) && planted(Bug::Computing(ComputingBug::PublishTwice));
        let Some(running) = task.running.remove(&attempt) else {
            return late;
        };
        task.done = Some(Output {
            attempt,
            worker: running.worker,
        });
        if !late {
            // Whoever else is at it may stop.
            task.running.clear();
        }
        let sort = usize::from(matches!(work, Work::Reduce(_)));
        self.took_ms[sort].push(now_ms.saturating_sub(running.since_ms));
        true
    }

    /// An attempt failed of its own accord: its command did, or its disk. A task that does so
    /// [`FAILURES_MAX`] times fails the job.
    pub fn handle_failed(&mut self, work: Work, attempt: u64, why: &str) {
        let Some(task) = self.tasks(work) else { return };
        if task.running.remove(&attempt).is_none() {
            return;
        }
        task.failures += 1;
        let failures = task.failures;
        self.counts.failures += 1;
        if failures >= FAILURES_MAX && self.failed.is_none() {
            let (sort, at) = match work {
                Work::Map(at) => ("map", at),
                Work::Reduce(at) => ("reduce", at),
            };
            self.failed = Some(format!("{sort} {at} failed {failures} times: {why}"));
        }
    }

    /// Where the maps' outputs are, in their order; nothing for one that is being done again.
    pub fn outputs(&self) -> Vec<Option<Output>> {
        self.maps.iter().map(|task| task.done).collect()
    }

    /// The output of that map's attempt could not be fetched, or was damaged: the map is done again.
    pub fn handle_output_lost(&mut self, map: usize, attempt: u64) {
        if let Some(task) = self.maps.get_mut(map)
            && task.done.is_some_and(|done| done.attempt == attempt)
        {
            task.done = None;
            self.counts.outputs_lost += 1;
        }
    }

    /// `worker` is gone: with it, what it was at, and the outputs of its maps while they are needed.
    pub fn handle_worker_lost(&mut self, worker: u64) {
        if self.workers.remove(&worker).is_none() {
            return;
        }
        self.counts.workers_lost += 1;
        for task in self.maps.iter_mut().chain(&mut self.reduces) {
            task.running.retain(|_, running| running.worker != worker);
        }
        if self.is_done() || planted(Bug::Computing(ComputingBug::KeepLostOutput)) {
            return;
        }
        for map in 0..self.maps.len() {
            if let Some(done) = self.maps[map].done
                && done.worker == worker
            {
                self.handle_output_lost(map, done.attempt);
            }
        }
    }
}

fn median(times: &[u64]) -> Option<u64> {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied()
}

#[cfg(test)]
mod tests;
