//! Jobs: what was promised is not lost, no two processes of a task that must not run twice are there at a time, no
//! machine is promised more than it has, and what a machine that fell has run soon runs elsewhere.

use crate::history::History;
use crate::jobs::{Committed, JobsHistory, LEASE_MS, ROOM_MILLI, Ran, Work};
use scheduling::model::OnLost;
use scheduling::query::JobState;
use std::collections::{BTreeMap, BTreeSet};

/// Once nothing is broken, tasks of a machine that fell run elsewhere after so many of its leases.
const LEASES_MAX: u64 = 2;

/// What is wrong.
pub fn check(history: &History) -> Vec<String> {
    let jobs = &history.jobs;
    let mut objections = Vec::new();
    acknowledged_are_listed(jobs, &mut objections);
    none_runs_twice(jobs, &mut objections);
    rooms_suffice(jobs, &mut objections);
    fallen_run_elsewhere(jobs, &mut objections);
    lists_tell_what_runs(jobs, &mut objections);
    commits_count_once(jobs, &mut objections);
    objections
}

/// What was acknowledged is in each list that is asked for later, until it is asked to be forgotten.
fn acknowledged_are_listed(jobs: &JobsHistory, objections: &mut Vec<String>) {
    for wanted in &jobs.wanted {
        let Some(since_us) = wanted.acknowledged_us else {
            continue;
        };
        let until_us = wanted.removed_us.unwrap_or(u64::MAX);
        let lists = (jobs.listed.iter()).filter(|l| l.invoked_us > since_us && l.at_us < until_us);
        for listed in lists {
            let its = listed.jobs.iter().find(|(name, ..)| *name == wanted.name);
            match its {
                None => objections.push(format!(
                    "{} was acknowledged at {since_us}, and missing at {}",
                    wanted.name, listed.at_us
                )),
                Some((_, JobState::Stopping | JobState::Stopped, ..))
                    if wanted.stopped_us.is_none_or(|us| us > listed.at_us) =>
                {
                    objections.push(format!(
                        "{} was stopped at {} without being asked",
                        wanted.name, listed.at_us
                    ));
                }
                Some((_, state @ (JobState::Succeeded | JobState::Failed), ..))
                    if wanted.work == Work::Serves =>
                {
                    objections.push(format!("{} has ended by itself: {state:?}", wanted.name));
                }
                Some(_) => {}
            }
        }
    }
}

fn overlaps(one: &Ran, other: &Ran) -> bool {
    let is_before = |a: &Ran, b: &Ran| a.until_us.is_some_and(|until_us| until_us <= b.from_us);
    !is_before(one, other) && !is_before(other, one)
}

/// An attempt is of one machine; and where a task stops when it is cut off, no two attempts run at a time.
fn none_runs_twice(jobs: &JobsHistory, objections: &mut Vec<String>) {
    let mut machines: BTreeMap<u64, usize> = BTreeMap::new();
    let mut of_task: BTreeMap<&(String, u32), Vec<&Ran>> = BTreeMap::new();
    for ran in &jobs.ran {
        let machine = *machines.entry(ran.instance).or_insert(ran.machine);
        if machine != ran.machine {
            objections.push(format!(
                "attempt {} ran on the machines {machine} and {}",
                ran.instance, ran.machine
            ));
        }
        let before = of_task.entry(&ran.task).or_default();
        for other in before.iter().filter(|other| overlaps(other, ran)) {
            if ran.on_lost == OnLost::Stop || ran.instance == other.instance {
                objections.push(format!(
                    "{} {} ran twice at {}: attempt {} on machine {} and attempt {} on machine {}",
                    ran.task.0,
                    ran.task.1,
                    ran.from_us,
                    other.instance,
                    other.machine,
                    ran.instance,
                    ran.machine
                ));
            }
        }
        before.push(ran);
    }
}

/// Neither what is promised nor what really runs exceeds what a machine has. What a machine let run on while it was
/// cut off is nobody's any more, and not counted.
fn rooms_suffice(jobs: &JobsHistory, objections: &mut Vec<String>) {
    for account in &jobs.accounts {
        for (machine, used_milli) in &account.used_milli {
            if *used_milli > ROOM_MILLI {
                objections.push(format!(
                    "of machine {machine} {used_milli} were promised at {}",
                    account.at_us
                ));
            }
        }
    }
    let counted: Vec<&Ran> = (jobs.ran.iter())
        .filter(|ran| ran.on_lost == OnLost::Stop)
        .collect();
    for ran in &counted {
        let beside = counted.iter().filter(|other| {
            other.machine == ran.machine
                && other.from_us <= ran.from_us
                && other.until_us.is_none_or(|us| us > ran.from_us)
        });
        let used_milli: u64 = beside.map(|other| other.cpu_milli).sum();
        if used_milli > ROOM_MILLI {
            objections.push(format!(
                "machine {} ran {used_milli} at {}",
                ran.machine, ran.from_us
            ));
        }
    }
}

/// What ran on the machine that fell, and was wanted, runs elsewhere soon after.
fn fallen_run_elsewhere(jobs: &JobsHistory, objections: &mut Vec<String>) {
    let Some((machine, fallen_us)) = jobs.fallen else {
        return;
    };
    let until_us = fallen_us + LEASES_MAX * u64::from(LEASE_MS) * 1_000;
    let is_its = |ran: &&Ran| ran.machine == machine && ran.until_us == Some(fallen_us);
    for ran in jobs.ran.iter().filter(is_its) {
        let wanted = jobs.wanted.iter().find(|w| w.name == ran.task.0);
        if wanted.is_none_or(|w| w.stopped_us.is_some() || w.work != Work::Serves) {
            continue;
        }
        let again = jobs
            .ran
            .iter()
            .find(|other| other.task == ran.task && other.from_us > fallen_us);
        if again.is_none_or(|again| again.from_us > until_us) {
            objections.push(format!(
                "{} {} ran on machine {machine} until that fell at {fallen_us}, and then from {:?}",
                ran.task.0,
                ran.task.1,
                again.map(|again| again.from_us)
            ));
        }
    }
}

/// At the end each task of a job that runs has one process, each of one that has ended none; and nothing has
/// succeeded that never ran.
fn lists_tell_what_runs(jobs: &JobsHistory, objections: &mut Vec<String>) {
    for listed in &jobs.last {
        for (name, state, _, wanted) in &listed.jobs {
            let its: Vec<&Ran> = jobs.ran.iter().filter(|ran| ran.task.0 == *name).collect();
            let live = its.iter().filter(|ran| ran.until_us.is_none()).count();
            let ever: BTreeSet<u32> = its.iter().map(|ran| ran.task.1).collect();
            let is_so = match state {
                JobState::Runs => live == *wanted as usize,
                JobState::Succeeded => live == 0 && ever.len() == *wanted as usize,
                JobState::Stopped | JobState::Failed => live == 0,
                JobState::Stopping => false,
            };
            if !is_so {
                objections.push(format!(
                    "{name} is {state:?} at the end, wants {wanted}, and has {live} processes ({} of its tasks ever ran)",
                    ever.len()
                ));
            }
        }
    }
}

/// An attempt that a scheduler was told of is of one task, and no other scheduler was told of it.
fn commits_count_once(jobs: &JobsHistory, objections: &mut Vec<String>) {
    let mut told = BTreeMap::new();
    for committed in &jobs.committed {
        let Committed {
            at_us,
            slot,
            instance,
        } = committed;
        if let Some(before) = told.insert(*instance, *slot) {
            objections.push(format!(
                "attempt {instance} was committed for {before:?}, and at {at_us} for {slot:?}"
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jobs::{Account, Listed, Wanted};

    fn ran(machine: usize, instance: u64, from_us: u64, until_us: Option<u64>) -> Ran {
        Ran {
            machine,
            instance,
            task: ("a".into(), 0),
            cpu_milli: 600,
            on_lost: OnLost::Stop,
            from_us,
            until_us,
        }
    }

    fn wanted(acknowledged_us: u64) -> Wanted {
        Wanted {
            name: "a".into(),
            work: Work::Serves,
            acknowledged_us: Some(acknowledged_us),
            stopped_us: None,
            removed_us: None,
        }
    }

    fn listed(invoked_us: u64, jobs: &[(JobState, u32)]) -> Listed {
        let of = |(state, wanted): &(JobState, u32)| ("a".into(), *state, 0, *wanted);
        Listed {
            invoked_us,
            at_us: invoked_us + 5,
            jobs: jobs.iter().map(of).collect(),
        }
    }

    fn found(change: impl FnOnce(&mut JobsHistory)) -> usize {
        let mut history = History::default();
        change(&mut history.jobs);
        check(&history).len()
    }

    #[test]
    fn job_that_is_missing_after_its_acknowledgement_is_found() {
        let of = |at_us, removed_us| {
            found(|jobs| {
                jobs.wanted.push(Wanted {
                    removed_us,
                    ..wanted(100)
                });
                jobs.listed.push(listed(at_us, &[]));
            })
        };
        assert_eq!((of(110, None), of(90, None), of(110, Some(111))), (1, 0, 0));
    }

    #[test]
    fn job_that_stops_or_ends_unasked_is_found() {
        let of = |state, stopped_us| {
            found(|jobs| {
                jobs.wanted.push(Wanted {
                    stopped_us,
                    ..wanted(100)
                });
                jobs.listed.push(listed(200, &[(state, 1)]));
            })
        };
        assert_eq!(of(JobState::Stopped, None), 1);
        assert_eq!(of(JobState::Stopped, Some(150)), 0);
        assert_eq!(of(JobState::Succeeded, None), 1);
        assert_eq!(of(JobState::Runs, None), 0);
    }

    #[test]
    fn two_processes_of_a_task_at_a_time_are_found_unless_it_may_run_on() {
        let of = |until_us, on_lost| {
            found(|jobs| {
                let one = ran(0, 1, 100, until_us);
                let other = ran(1, 2, 200, None);
                for ran in [one, other] {
                    jobs.ran.push(Ran { on_lost, ..ran });
                }
            })
        };
        assert_eq!(of(Some(201), OnLost::Stop), 1);
        assert_eq!(of(None, OnLost::Stop), 1);
        assert_eq!(of(Some(200), OnLost::Stop), 0);
        assert_eq!(of(Some(201), OnLost::Keep), 0);
    }

    #[test]
    fn attempt_on_two_machines_is_found() {
        let of = |machine| {
            found(|jobs| {
                jobs.ran.push(ran(0, 1, 100, Some(150)));
                jobs.ran.push(ran(machine, 1, 200, Some(250)));
            })
        };
        assert_eq!((of(1), of(0)), (1, 0));
    }

    #[test]
    fn machine_with_more_than_it_has_is_found() {
        let of = |until_us| {
            found(|jobs| {
                let task = ("b".to_owned(), 0);
                jobs.ran.push(ran(0, 1, 100, until_us));
                jobs.ran.push(Ran {
                    task,
                    ..ran(0, 2, 200, Some(300))
                });
            })
        };
        assert_eq!((of(Some(201)), of(Some(200))), (1, 0));
        let promised = |used_milli| {
            let at_us = 1;
            let used_milli = vec![(0, used_milli)];
            found(|jobs| jobs.accounts.push(Account { at_us, used_milli }))
        };
        assert_eq!((promised(1_001), promised(1_000)), (1, 0));
    }

    #[test]
    fn attempt_that_was_committed_twice_is_found() {
        let of = |second| {
            found(|jobs| {
                let committed = |index, instance| Committed {
                    at_us: 1,
                    slot: scheduling::command::Slot {
                        index,
                        ..Default::default()
                    },
                    instance,
                };
                jobs.committed.push(committed(0, 1));
                jobs.committed.push(committed(1, second));
            })
        };
        assert_eq!((of(1), of(2)), (1, 0));
    }

    #[test]
    fn task_of_a_fallen_machine_that_stays_away_is_found() {
        let of = |again_us: Option<u64>| {
            found(|jobs| {
                jobs.wanted.push(wanted(10));
                jobs.fallen = Some((0, 1_000));
                jobs.ran.push(ran(0, 1, 100, Some(1_000)));
                jobs.ran
                    .extend(again_us.map(|us| ran(1, 2, us, Some(us + 1))));
            })
        };
        assert_eq!(
            (of(None), of(Some(9_000_000)), of(Some(5_000_000))),
            (1, 1, 0)
        );
    }

    #[test]
    fn list_that_does_not_tell_what_runs_is_found() {
        let of = |state, until_us| {
            found(|jobs| {
                jobs.ran.push(ran(0, 1, 100, until_us));
                jobs.last.push(listed(200, &[(state, 1)]));
            })
        };
        assert_eq!(of(JobState::Runs, None), 0);
        assert_eq!(of(JobState::Runs, Some(150)), 1);
        assert_eq!(of(JobState::Stopped, None), 1);
        assert_eq!(of(JobState::Succeeded, Some(150)), 0);
        let never = found(|jobs| jobs.last.push(listed(200, &[(JobState::Succeeded, 1)])));
        assert_eq!(never, 1);
    }
}
