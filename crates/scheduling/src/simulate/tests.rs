use super::*;
use trace::{Draw, draw};

fn small(architecture: Architecture) -> Plan {
    Plan {
        nodes: 100,
        ..Plan::new(architecture)
    }
}

fn jobs(nodes: u64) -> Vec<Job> {
    draw(Draw {
        seed: 1,
        nodes,
        duration_ms: 900_000,
    })
}

#[test]
fn every_architecture_places_what_there_is_room_for() {
    let jobs = jobs(100);
    let tasks: u64 = jobs.iter().map(|job| u64::from(job.tasks)).sum();
    for architecture in Architecture::ALL {
        let report = run(&small(architecture), &jobs);
        let started = tasks - report.waiting;
        assert!((started..=started + report.preempted).contains(&report.placed));
        assert!(
            report.placed >= tasks * 9 / 10,
            "{architecture}: {report:?}"
        );
        assert!(report.cpu_per_mille > 300, "{architecture}: {report:?}");
    }
}

#[test]
fn a_run_is_a_function_of_its_plan_and_trace() {
    let jobs = jobs(40);
    for architecture in Architecture::ALL {
        let plan = Plan {
            nodes: 40,
            ..Plan::new(architecture)
        };
        assert_eq!(run(&plan, &jobs), run(&plan, &jobs));
    }
}

/// A burst of batch jobs stands behind one slow service where one scheduler decides about all, and does not
/// where services have their own.
#[test]
fn only_one_scheduler_lets_batch_wait_behind_services() {
    let job = |at_ms, service| Job {
        at_ms,
        service,
        tasks: 4,
        resources: Resources::new(1000, 1 << 30, 0),
        duration_ms: 60_000,
        priority: if service { 200 } else { 10 },
    };
    let mut jobs = vec![job(0, true)];
    jobs.extend((1..=10).map(|at| job(at, false)));
    let longest = |architecture| {
        *run(&small(architecture), &jobs)
            .batch_wait_ms
            .last()
            .unwrap()
    };
    assert!(longest(Architecture::Monolithic) >= 600);
    assert!(longest(Architecture::SharedState) < 300);
}

#[test]
fn only_shared_state_conflicts_and_fit_less_than_version() {
    let jobs = jobs(100);
    let conflicts = |plan: Plan| run(&plan, &jobs).conflicts;
    assert_eq!(conflicts(small(Architecture::Monolithic)), 0);
    assert_eq!(conflicts(small(Architecture::TwoLevel)), 0);
    let shared = small(Architecture::SharedState);
    let fit = conflicts(shared);
    let version = conflicts(Plan {
        check: Check::Version,
        ..shared
    });
    let together = conflicts(Plan {
        commit: Commit::AllOrNothing,
        ..shared
    });
    assert!(
        fit > 0 && fit < version && fit < together,
        "{fit} {version} {together}"
    );
}

#[test]
fn an_offer_that_lapses_while_its_framework_decides_is_a_conflict() {
    let jobs = jobs(40);
    let plan = Plan {
        nodes: 40,
        offer_ms: 400,
        ..Plan::new(Architecture::TwoLevel)
    };
    assert!(run(&plan, &jobs).conflicts > 0);
}

/// With all nodes looked at, the placer that remembers chooses as the function that does not.
#[test]
fn m11_remembering_placer_chooses_as_place_does() {
    use crate::placement::{Running, place};
    use base::Rng;
    for rule in Rule::ALL {
        let mut rng = Rng::new(9);
        let plan = small(Architecture::Monolithic);
        let mut cell = plan.cell();
        let mut placer = Placer::new(rule, Effort::All);
        let mut running = VecDeque::new();
        for instance in 0..1500 {
            let job = rng.range(0, 5);
            let spec = TaskSpec {
                job,
                priority: if rng.one_in(4) { 200 } else { 10 },
                resources: Resources::new(rng.range(1, 9) * 500, rng.range(1, 9) << 30, 0),
                constraints: match rng.one_in(5) {
                    true => vec!["zone != zone1".parse().unwrap()],
                    false => Vec::new(),
                },
                ..TaskSpec::default()
            };
            let slow = place(cell.nodes(), &spec, rule);
            let fast = placer.place(&cell, &spec);
            match (slow, fast) {
                (Ok(slow), Ok(fast)) => {
                    assert_eq!((slow.node, &slow.preempt), (fast.node, &fast.preempt));
                    assert_eq!(slow.table, fast.table);
                    let at = cell.place_of(fast.node).unwrap();
                    for gone in fast.preempt {
                        cell.finish(at, gone);
                    }
                    let task = Running {
                        instance,
                        job,
                        priority: spec.priority,
                        resources: spec.resources,
                    };
                    cell.start(at, task);
                    running.push_back((at, instance));
                }
                (Err(slow), Err(fast)) => assert_eq!(slow, fast),
                (slow, fast) => panic!("{slow:?} but {fast:?}"),
            }
            if running.len() > 600 {
                let (at, instance) = running.pop_front().unwrap();
                cell.finish(at, instance);
            }
        }
    }
}
