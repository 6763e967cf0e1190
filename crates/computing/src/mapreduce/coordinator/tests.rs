use super::*;
use base::{Rng, planted};

/// The notes' example: three maps, two reduces, five tasks.
#[test]
fn m15_three_maps_two_reduces_are_five_tasks() {
    let mut job = Coordinator::new(3, 2, true);
    let worker = job.handle_worker();
    let mut done = Vec::new();
    while let Assignment::Do(work, attempt) = job.handle_ask(0, worker) {
        done.push(work);
        match work {
            Work::Map(at) => assert!(job.handle_map_done(0, at, attempt)),
            Work::Reduce(at) => assert!(job.handle_reduce_done(0, at, attempt)),
        }
    }
    use Work::{Map, Reduce};
    assert_eq!(done, [Map(0), Map(1), Map(2), Reduce(0), Reduce(1)]);
    assert!(job.is_done());
    assert_eq!(job.counts().attempts, 5);
    assert_eq!(job.handle_ask(0, worker), Assignment::End);
}

#[test]
fn finished_map_of_a_lost_worker_is_done_again() {
    let mut job = Coordinator::new(1, 1, true);
    let (first, second) = (job.handle_worker(), job.handle_worker());
    let Assignment::Do(Work::Map(0), attempt) = job.handle_ask(0, first) else {
        panic!("a map")
    };
    assert!(job.handle_map_done(10, 0, attempt));
    let Assignment::Do(Work::Reduce(0), reduce) = job.handle_ask(10, second) else {
        panic!("a reduce")
    };
    job.handle_worker_lost(first);
    assert_eq!(job.outputs(), [None]);
    let third = job.handle_worker();
    let Assignment::Do(Work::Map(0), again) = job.handle_ask(20, third) else {
        panic!("the map again")
    };
    assert_ne!(again, attempt);
    // Words of the dead change nothing.
    assert!(!job.handle_map_done(21, 0, attempt));
    job.handle_output_lost(0, attempt);
    assert!(job.handle_map_done(22, 0, again));
    assert_eq!(job.outputs()[0].unwrap().worker, third);
    assert!(job.is_wanted(Work::Reduce(0), reduce));
    assert!(job.handle_reduce_done(30, 0, reduce));
    // Nobody needs the maps any more.
    job.handle_worker_lost(third);
    assert!(job.is_done() && job.outputs()[0].is_some());
    assert_eq!(job.counts().outputs_lost, 1);
}

#[test]
fn straggler_is_begun_again_elsewhere_and_the_first_to_be_done_counts() {
    let mut job = Coordinator::new(3, 1, true);
    let (slow, fast) = (job.handle_worker(), job.handle_worker());
    let Assignment::Do(Work::Map(0), straggler) = job.handle_ask(0, slow) else {
        panic!("a map")
    };
    for _ in 0..2 {
        let Assignment::Do(Work::Map(at), attempt) = job.handle_ask(0, fast) else {
            panic!("a map")
        };
        job.handle_map_done(100, at, attempt);
    }
    assert_eq!(job.handle_ask(900, fast), Assignment::Wait);
    assert_eq!(job.handle_ask(5000, slow), Assignment::Wait);
    let Assignment::Do(Work::Map(0), backup) = job.handle_ask(5000, fast) else {
        panic!("the straggler's map")
    };
    assert_eq!(job.handle_ask(9000, fast), Assignment::Wait);
    assert!(job.handle_map_done(9000, 0, backup));
    assert!(!job.is_wanted(Work::Map(0), straggler));
    assert!(!job.handle_map_done(9001, 0, straggler));
    assert_eq!(job.counts().speculative, 1);
}

#[test]
fn task_that_fails_of_its_own_accord_fails_the_job_at_last() {
    let mut job = Coordinator::new(1, 1, true);
    for failure in 1..=FAILURES_MAX {
        // That workers die is not the task's fault.
        let dies = job.handle_worker();
        assert!(matches!(job.handle_ask(0, dies), Assignment::Do(..)));
        job.handle_worker_lost(dies);
        let worker = job.handle_worker();
        let Assignment::Do(work, attempt) = job.handle_ask(0, worker) else {
            panic!("{failure}")
        };
        job.handle_failed(work, attempt, "exit code 3");
    }
    assert_eq!(job.failure(), Some("map 0 failed 4 times: exit code 3"));
    let worker = job.handle_worker();
    assert_eq!(job.handle_ask(0, worker), Assignment::End);
}

/// A job in simulated time: workers that are slow, die, come back, lose an output; words that come late.
/// Returns what is wrong, if anything is.
fn simulate(seed: u64) -> Result<Counts, String> {
    let mut rng = Rng::new(seed);
    let (maps, reduces) = (rng.range(1, 8) as usize, rng.range(1, 5) as usize);
    let mut job = Coordinator::new(maps, reduces, !rng.one_in(4));
    // What each worker is at and until when; what it holds.
    let mut workers: BTreeMap<u64, Option<(Work, u64, u64)>> = BTreeMap::new();
    let mut holds: BTreeMap<u64, Vec<(usize, u64)>> = BTreeMap::new();
    // Words under way: they arrive although their worker has died since.
    let mut late: Vec<(u64, Work, u64)> = Vec::new();
    let mut published = vec![0; reduces];
    let calm_ms = 60_000;
    for step in 0..20_000u64 {
        let now_ms = step * 50;
        let faults = now_ms < calm_ms;
        if workers.len() < 3 {
            let worker = job.handle_worker();
            workers.insert(worker, None);
            holds.insert(worker, Vec::new());
        }
        if faults && rng.one_in(60) {
            let at = rng.range(0, workers.len() as u64) as usize;
            let worker = *workers.keys().nth(at).ok_or("no worker")?;
            if let Some(Some((work, attempt, _))) = workers.remove(&worker)
                && rng.one_in(2)
            {
                late.push((now_ms + rng.range(0, 3000), work, attempt));
            }
            holds.remove(&worker);
            job.handle_worker_lost(worker);
        }
        if faults && rng.one_in(300) {
            holds.values_mut().for_each(Vec::clear);
        }
        let mut publish = |job: &mut Coordinator, reduce: usize, attempt: u64| {
            if job.handle_reduce_done(now_ms, reduce, attempt) {
                published[reduce] += 1;
            }
        };
        late.retain(|&(at_ms, work, attempt)| {
            if at_ms <= now_ms {
                match work {
                    Work::Map(at) => {
                        job.handle_map_done(now_ms, at, attempt);
                    }
                    Work::Reduce(at) => publish(&mut job, at, attempt),
                }
            }
            at_ms > now_ms
        });
        for (worker, busy) in &mut workers {
            match *busy {
                None => {
                    if let Assignment::Do(work, attempt) = job.handle_ask(now_ms, *worker) {
                        let takes_ms = rng.range(10, 2000) * if rng.one_in(10) { 20 } else { 1 };
                        *busy = Some((work, attempt, now_ms + takes_ms));
                    }
                }
                Some((work, attempt, _)) if !job.is_wanted(work, attempt) && rng.one_in(2) => {
                    *busy = None;
                }
                Some((Work::Map(at), attempt, until_ms)) if until_ms <= now_ms => {
                    if job.handle_map_done(now_ms, at, attempt) {
                        holds.entry(*worker).or_default().push((at, attempt));
                    }
                    *busy = None;
                }
                Some((Work::Reduce(at), attempt, until_ms)) if until_ms <= now_ms => {
                    // It fetches now: all outputs must be there, and where they are said to be.
                    let mut complete = true;
                    for (map, output) in job.outputs().into_iter().enumerate() {
                        let Some(output) = output else {
                            complete = false;
                            continue;
                        };
                        let held = holds.get(&output.worker);
                        if !held.is_some_and(|held| held.contains(&(map, output.attempt))) {
                            complete = false;
                            // The worker is dead, and the coordinator knows: nobody else will tell.
                            if held.is_some() {
                                job.handle_output_lost(map, output.attempt);
                            }
                        }
                    }
                    if complete {
                        publish(&mut job, at, attempt);
                        *busy = None;
                    }
                }
                Some(_) => {}
            }
        }
        if let Some(twice) = published.iter().position(|times| *times > 1) {
            return Err(format!("seed {seed}: reduce {twice} published twice"));
        }
        if job.is_done() && workers.values().all(Option::is_none) && late.is_empty() {
            return match published.iter().all(|times| *times == 1) {
                true => Ok(job.counts()),
                false => Err(format!("seed {seed}: done, but published {published:?}")),
            };
        }
    }
    Err(format!("seed {seed}: never done: {:?}", job.progress()))
}

#[test]
fn every_job_is_done_and_publishes_once_however_workers_die() {
    let mut sum = Counts::default();
    for seed in 0..400 {
        let counts = simulate(seed).unwrap();
        sum.outputs_lost += counts.outputs_lost;
        sum.speculative += counts.speculative;
        sum.workers_lost += counts.workers_lost;
    }
    // What should have been tried was tried.
    assert!(
        sum.outputs_lost > 50 && sum.speculative > 50 && sum.workers_lost > 200,
        "{sum:?}"
    );
}

#[test]
fn planted_bugs_of_the_coordinator_are_found() {
    for bug in [ComputingBug::KeepLostOutput, ComputingBug::PublishTwice] {
        planted::plant(Some(Bug::Computing(bug)));
        let found = (0..400).find_map(|seed| simulate(seed).err());
        planted::plant(None);
        assert!(found.is_some(), "{bug:?} was not found");
    }
}
