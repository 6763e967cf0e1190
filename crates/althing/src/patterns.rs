//! `althing patterns`: the same job divided in different ways, on threads.

use crate::{Failure, Outcome, failed, table};
use clap::{Args, Subcommand};
use computing::patterns::{Blocks, Job, Pattern, block, shares};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Barrier, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::Instant;

/// Items waiting between two stages of the pipeline, or for one worker of the farm.
const WAITING: usize = 16;

/// What can be done.
#[derive(Args, Debug)]
pub struct Options {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand, Debug)]
enum Verb {
    /// Run a job by these patterns (all when none is named): their answers must be equal
    Run {
        /// farm, spmd, pipeline, divide-and-conquer, fork-join, speculation, work-stealing
        patterns: Vec<Pattern>,
        /// Threads
        #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=256))]
        workers: u32,
        /// Independent parts of the job
        #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
        items: u64,
        /// What each part costs, in rounds of arithmetic
        #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
        rounds: u64,
        /// Let all parts cost the same; else the first cost most
        #[arg(long)]
        even: bool,
    },
}

/// Runs a job by patterns, and compares.
pub fn run(options: &Options) -> Outcome {
    let Verb::Run {
        patterns,
        workers,
        items,
        rounds,
        even,
    } = &options.verb;
    let job = Job {
        items: *items,
        rounds: *rounds,
        skewed: !even,
    };
    if job
        .items
        .checked_mul(job.rounds)
        .is_none_or(|all| all > 1 << 50)
    {
        let words = "so many items of so many rounds would take days: ask for fewer";
        return Err(Failure::Usage(words.to_owned()));
    }
    let workers = *workers as usize;
    let chosen = match patterns.is_empty() {
        true => Pattern::ALL.to_vec(),
        false => patterns.clone(),
    };
    let begun = Instant::now();
    let expected = job.answer();
    let mut rows = vec![row("one after the other", expected, begun, "")];
    let mut differs = false;
    for pattern in chosen {
        let begun = Instant::now();
        let (answer, words) = divide(pattern, &job, workers);
        differs |= answer != expected;
        rows.push(row(pattern.name(), answer, begun, &words));
    }
    print!("{}", table::render(&["PATTERN", "ANSWER", "MS", ""], &rows));
    let all: u64 = (0..job.items).map(|at| job.cost(at)).sum();
    let part = |steals| {
        let longest = shares(&job, workers, steals).into_iter().max();
        longest.unwrap_or(0) as f64 * 100.0 / all as f64
    };
    println!(
        "The busiest of {workers} workers has {:.1} % of the work when blocks are dealt beforehand, {:.1} % when they are stolen from.",
        part(false),
        part(true)
    );
    match differs {
        true => Err(failed("the answers differ")),
        false => Ok(()),
    }
}

fn row(name: &str, answer: u64, begun: Instant, words: &str) -> Vec<String> {
    let took_ms = begun.elapsed().as_secs_f64() * 1000.0;
    vec![
        name.to_owned(),
        format!("{answer:016x}"),
        format!("{took_ms:.1}"),
        words.to_owned(),
    ]
}

/// The job's answer by `pattern`, and something to say about how it went.
fn divide(pattern: Pattern, job: &Job, workers: usize) -> (u64, String) {
    match pattern {
        Pattern::Farm => farm(job, workers),
        Pattern::Spmd => spmd(job, workers),
        Pattern::Pipeline => pipeline(job),
        Pattern::DivideAndConquer => {
            let grain = (job.items / (4 * workers as u64)).max(1);
            (
                halves(job, 0..job.items, grain),
                format!("down to {grain} items"),
            )
        }
        Pattern::ForkJoin => fork_join(job, workers),
        Pattern::Speculation => speculation(job, workers),
        Pattern::WorkStealing => work_stealing(job, workers),
    }
}

fn sum(job: &Job, items: impl Iterator<Item = u64>) -> u64 {
    items.fold(0, |sum, at| sum.wrapping_add(job.item(at)))
}

/// A master hands out items over a channel, and gathers answers from another.
fn farm(job: &Job, workers: usize) -> (u64, String) {
    let (answers, answered) = mpsc::channel();
    let (items, to_do) = mpsc::sync_channel::<u64>(WAITING);
    let to_do = Mutex::new(to_do);
    let (mut answer, mut by) = (0u64, vec![0u64; workers]);
    thread::scope(|scope| {
        for rank in 0..workers {
            let (answers, to_do) = (answers.clone(), &to_do);
            scope.spawn(move || {
                loop {
                    let next = to_do.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    let Ok(at) = next else { return };
                    let _ = answers.send((rank, job.item(at)));
                }
            });
        }
        drop(answers);
        scope.spawn(move || (0..job.items).try_for_each(|at| items.send(at)));
        for (rank, one) in answered {
            answer = answer.wrapping_add(one);
            by[rank] += 1;
        }
    });
    (answer, format!("items by worker: {by:?}"))
}

/// The same program everywhere: each adds its share, all meet, and one reads what came together.
fn spmd(job: &Job, workers: usize) -> (u64, String) {
    let (together, met) = (AtomicU64::new(0), Barrier::new(workers));
    let told = Mutex::new(0);
    thread::scope(|scope| {
        for rank in 0..workers {
            let (together, met, told) = (&together, &met, &told);
            scope.spawn(move || {
                let mine = sum(job, (rank as u64..job.items).step_by(workers));
                together.fetch_add(mine, Ordering::Relaxed);
                met.wait();
                if rank == 0 {
                    *told.lock().unwrap_or_else(PoisonError::into_inner) =
                        together.load(Ordering::Relaxed);
                }
            });
        }
    });
    let answer = told.into_inner().unwrap_or_else(PoisonError::into_inner);
    (answer, format!("item i by worker i mod {workers}"))
}

/// Three stages: begin, the first half of the rounds, the second half.
fn pipeline(job: &Job) -> (u64, String) {
    let (to_first, first) = mpsc::sync_channel::<(u64, u64)>(WAITING);
    let (to_second, second) = mpsc::sync_channel::<(u64, u64)>(WAITING);
    let (to_end, end) = mpsc::sync_channel::<u64>(WAITING);
    let mut answer = 0u64;
    thread::scope(|scope| {
        scope.spawn(move || (0..job.items).try_for_each(|at| to_first.send((at, job.begin(at)))));
        scope.spawn(move || {
            first
                .into_iter()
                .try_for_each(|(at, state)| to_second.send((at, job.work(state, job.cost(at) / 2))))
        });
        scope.spawn(move || {
            second.into_iter().try_for_each(|(at, state)| {
                let cost = job.cost(at);
                to_end.send(job.work(state, cost - cost / 2))
            })
        });
        answer = end.into_iter().fold(0, u64::wrapping_add);
    });
    (answer, "3 stages".to_owned())
}

/// Both halves at the same time, until they are small.
fn halves(job: &Job, items: std::ops::Range<u64>, grain: u64) -> u64 {
    if items.end - items.start <= grain {
        return sum(job, items);
    }
    let middle = items.start + (items.end - items.start) / 2;
    thread::scope(|scope| {
        let left = scope.spawn(|| halves(job, items.start..middle, grain));
        let right = halves(job, middle..items.end, grain);
        join(left).wrapping_add(right)
    })
}

fn join<T>(thread: thread::ScopedJoinHandle<'_, T>) -> T {
    thread
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn fork_join(job: &Job, workers: usize) -> (u64, String) {
    let answer = thread::scope(|scope| {
        let forked: Vec<_> = (0..workers)
            .map(|rank| scope.spawn(move || sum(job, block(job.items, rank, workers))))
            .collect();
        forked.into_iter().map(join).fold(0, u64::wrapping_add)
    });
    (answer, format!("{workers} blocks"))
}

/// Each block forwards and backwards at once; who is done first stops the other.
fn speculation(job: &Job, workers: usize) -> (u64, String) {
    let backwards = AtomicU64::new(0);
    let answer = thread::scope(|scope| {
        let blocks: Vec<_> = (0..workers)
            .map(|rank| {
                let backwards = &backwards;
                scope.spawn(move || {
                    let items = block(job.items, rank, workers);
                    let (done, found) = (AtomicBool::new(false), AtomicU64::new(0));
                    thread::scope(|scope| {
                        let (done, found) = (&done, &found);
                        let back = items.clone().rev();
                        scope.spawn(move || {
                            if race(job, back, done, found) {
                                backwards.fetch_add(1, Ordering::Relaxed);
                            }
                        });
                        race(job, items, done, found);
                    });
                    found.into_inner()
                })
            })
            .collect();
        blocks.into_iter().map(join).fold(0, u64::wrapping_add)
    });
    let won = backwards.into_inner();
    (
        answer,
        format!("{workers} blocks; backwards was first in {won}"),
    )
}

/// True when this was the first to be done; its sum is in `found` then.
fn race(job: &Job, items: impl Iterator<Item = u64>, done: &AtomicBool, found: &AtomicU64) -> bool {
    let mut sum = 0u64;
    for at in items {
        if done.load(Ordering::Relaxed) {
            return false;
        }
        sum = sum.wrapping_add(job.item(at));
    }
    let first = !done.swap(true, Ordering::Relaxed);
    if first {
        // The scope that both run in ends before it is read.
        found.store(sum, Ordering::Relaxed);
    }
    first
}

fn work_stealing(job: &Job, workers: usize) -> (u64, String) {
    let blocks = Mutex::new(Blocks::new(job.items, workers));
    let answer = thread::scope(|scope| {
        let working: Vec<_> = (0..workers)
            .map(|rank| {
                let blocks = &blocks;
                scope.spawn(move || {
                    let next = || {
                        let mut blocks = blocks.lock().unwrap_or_else(PoisonError::into_inner);
                        blocks.next(rank, true)
                    };
                    sum(job, std::iter::from_fn(next))
                })
            })
            .collect();
        working.into_iter().map(join).fold(0, u64::wrapping_add)
    });
    let blocks = blocks.into_inner().unwrap_or_else(PoisonError::into_inner);
    (answer, format!("{} thefts", blocks.thefts))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn m19_every_pattern_gives_the_same_answer() {
        for (items, workers) in [(1, 4), (3, 4), (500, 1), (500, 3)] {
            let job = Job {
                items,
                rounds: 50,
                skewed: true,
            };
            for pattern in Pattern::ALL {
                let (answer, _) = divide(pattern, &job, workers);
                assert_eq!(answer, job.answer(), "{pattern} of {items} by {workers}");
            }
        }
    }
}
