//! The cell: by hand, and against a model under random commands.

use super::*;
use crate::model::{OnLost, Restart};
use crate::placement::{Constraint, Rule};
use crate::query::JobState;
use crate::resources::Resources;
use base::{CoreAddress, Rng};

mod outside;

const MIB: u64 = 1 << 20;

struct Bench {
    cell: Scheduling,
    time_ms: i64,
    next: u64,
}

impl Bench {
    fn new() -> Self {
        Self {
            cell: Scheduling::new(),
            time_ms: 1_000,
            next: 0,
        }
    }

    /// Applies it through its byte form; the reply.
    fn apply(&mut self, command: Command) -> Result<Reply, Refusal> {
        self.next += 1;
        let origin = Origin {
            home: CoreAddress::default(),
            token: self.next,
        };
        let unit = Unit { origin, command };
        let bytes = Bytes::from(unit.encode());
        assert_eq!(Unit::decode(&bytes).as_ref(), Ok(&unit));
        let stamp = Stamp {
            time_ms: self.time_ms,
            seed: 0,
        };
        let mut out = Vec::new();
        self.cell.apply(stamp, &bytes, &mut out).expect("known");
        match out.pop() {
            Some(Output::Reply { reply, .. }) => reply,
            other => panic!("no reply: {other:?}"),
        }
    }

    fn agent(&mut self, id: u64, resources: Resources) -> u64 {
        self.register(id, resources, Vec::new())
    }

    fn register(&mut self, id: u64, resources: Resources, has: Vec<InstanceId>) -> u64 {
        let agent = AgentSpec {
            id: AgentId(id),
            name: format!("n{id}"),
            address: "127.0.0.1:1".into(),
            zone: format!("z{}", id % 2),
            attributes: BTreeMap::new(),
            packages: BTreeSet::new(),
            resources,
            enforces: String::new(),
            lease_ms: 3_000,
        };
        match self.apply(Command::Register {
            agent,
            has,
            attempt: 0,
        }) {
            Ok(Reply::Registered { generation }) => generation,
            other => panic!("not registered: {other:?}"),
        }
    }

    fn run(&mut self, job: JobSpec) -> Result<Reply, Refusal> {
        self.apply(Command::Run { job })
    }

    /// Plans and places until there is nothing to be placed.
    fn plan(&mut self) {
        for _ in 0..1_000 {
            let Some(command) = self.cell.plan(self.time_ms) else {
                return;
            };
            self.apply(command).unwrap();
        }
        panic!("it is never done");
    }

    fn report(&mut self, instance: InstanceId, end: Option<End>) -> Result<Reply, Refusal> {
        let agent = self.cell.instances[&instance].agent;
        let generation = self.cell.agents[&agent].generation;
        let seen = vec![Seen { instance, end }];
        self.apply(Command::Report {
            agent,
            generation,
            seen,
        })
    }

    /// Whether an agent is there in this generation, and up where that is asked.
    fn is_known(&self, id: AgentId, generation: u64, up: bool) -> bool {
        let agent = self.cell.agents.get(&id);
        agent.is_some_and(|agent| agent.generation == generation && (agent.is_up || !up))
    }

    /// The current attempts of a job.
    fn current(&self, name: &str) -> Vec<InstanceId> {
        let slots = self.cell.slots_of(self.cell.names[name]);
        let current = slots
            .iter()
            .filter_map(|slot| self.cell.slots[slot].current);
        current.collect()
    }

    fn state(&self, name: &str) -> JobState {
        self.cell.job(name).expect("it is there").state()
    }

    /// What must always hold.
    fn check(&self) {
        let cell = &self.cell;
        for (id, agent) in &cell.agents {
            let live = cell.live_on.get(id).into_iter().flatten();
            let given = live.filter(|id| cell.instances[id].waits_for.is_empty());
            let asks = given.filter_map(|id| cell.ask(cell.instances[id].slot));
            let sum = asks.fold(Resources::NONE, |sum, ask| {
                sum.saturating_add(ask.resources)
            });
            assert!(sum.fits(agent.spec.resources), "{id}: {sum}");
            let view = &cell.views[id];
            assert!(view.used.fits(view.total), "{id} is promised {}", view.used);
            let running = view.running.iter();
            let used = running.fold(Resources::NONE, |sum, r| sum.saturating_add(r.resources));
            assert_eq!(view.used, used);
        }
        for (slot, wanted) in &cell.slots {
            let of = cell
                .instances
                .iter()
                .filter(|(_, i)| i.slot == *slot && i.is_live());
            let live: Vec<InstanceId> = of.map(|(id, _)| *id).collect();
            assert_eq!(
                live,
                Vec::from_iter(wanted.current),
                "one attempt at a time"
            );
            assert!(wanted.past.len() <= PAST_MAX);
        }
        let last = cell.instances.keys().next_back();
        assert!(last.is_none_or(|last| last.0 <= cell.last_instance));
        for job in cell.jobs.values() {
            let number = cell.names[&job.spec.name];
            let slots: Vec<&Wanted> = (cell.slots_of(number).iter())
                .map(|s| &cell.slots[s])
                .collect();
            let open = slots.iter().filter(|w| w.end.is_none()).count() as u32;
            let live = slots.iter().filter(|w| w.current.is_some()).count() as u32;
            assert_eq!((job.open, job.live), (open, live));
        }
        let restored = Scheduling::from_image(&cell.image()).expect("its image is whole");
        assert_eq!(restored.digest(), cell.digest());
        assert_eq!(restored.pending, cell.pending);
        assert_eq!(restored.waiters, cell.waiters);
        assert_eq!(restored.bytes(), cell.bytes());
        self.check_offers(&restored);
        for (id, view) in &cell.views {
            assert_eq!(restored.views.get(id).map(|v| v.used), Some(view.used));
        }
    }
}

fn task(count: u32, resources: Resources) -> Task {
    Task {
        name: "main".into(),
        count,
        command: vec!["true".into()],
        env: [("KEY".to_owned(), "value".to_owned())].into(),
        resources,
        files_max: 64,
        cpu_seconds_max: 0,
        restart: Restart {
            policy: Policy::OnFailure,
            attempts_max: 2,
            pause_ms: 100,
            pause_ms_max: 1_000,
        },
        on_lost: OnLost::Stop,
        grace_ms: 1_000,
        constraints: Vec::new(),
        packages: BTreeSet::new(),
    }
}

fn job(name: &str, priority: u32, tasks: Vec<Task>) -> JobSpec {
    JobSpec {
        name: name.into(),
        priority,
        rule: Rule::Spread,
        tasks,
        placed_by: PlacedBy::Cell,
    }
}

const ROOM: Resources = Resources::new(1_000, 1_000 * MIB, 0);
const HALF: Resources = Resources::new(500, 500 * MIB, 0);

fn failed() -> Option<End> {
    Some(End::Failed { code: 1 })
}

#[test]
fn tasks_are_placed_run_and_succeed() {
    let mut bench = Bench::new();
    bench.agent(1, ROOM);
    bench.agent(2, ROOM);
    let reply = bench.run(job("a", 50, vec![task(2, HALF)]));
    assert_eq!(reply, Ok(Reply::Wanted { number: 1 }));
    bench.plan();
    let current = bench.current("a");
    let agents: BTreeSet<AgentId> = current
        .iter()
        .map(|id| bench.cell.instances[id].agent)
        .collect();
    assert_eq!(agents.len(), 2, "they are spread");
    let (_, work) = bench.cell.work(AgentId(1), 1).unwrap();
    assert_eq!(
        (work.len(), work[0].run, work[0].job.as_str()),
        (1, true, "a")
    );
    for &id in &current {
        bench.report(id, None).unwrap();
        bench.check();
    }
    assert_eq!(bench.cell.summaries()[0].running, 2);
    for &id in &current {
        bench.report(id, Some(End::Succeeded)).unwrap();
    }
    assert_eq!(bench.state("a"), JobState::Succeeded);
    assert_eq!(bench.cell.summaries()[0].succeeded, 2);
    bench.check();
    assert_eq!(
        bench.run(job("a", 50, vec![task(1, HALF)])),
        Ok(Reply::Wanted { number: 2 })
    );
    bench.check();
}

#[test]
fn task_that_fails_is_started_again_after_growing_pauses_and_then_has_failed() {
    let mut bench = Bench::new();
    bench.agent(1, ROOM);
    bench.run(job("a", 50, vec![task(1, HALF)])).unwrap();
    let mut seen = BTreeSet::new();
    for pause_ms in [100, 200] {
        bench.plan();
        let id = bench.current("a")[0];
        assert!(seen.insert(id), "a number is never used twice");
        bench.report(id, failed()).unwrap();
        bench.time_ms += pause_ms - 1;
        assert_eq!(bench.cell.plan(bench.time_ms), None, "it pauses");
        assert_eq!(
            bench.cell.next_due_ms(bench.time_ms),
            Some(bench.time_ms + 1)
        );
        bench.time_ms += 1;
    }
    bench.plan();
    let id = bench.current("a")[0];
    bench.report(id, failed()).unwrap();
    assert_eq!(bench.state("a"), JobState::Failed);
    assert_eq!(bench.cell.summaries()[0].restarts, 2);
    bench.check();
}

#[test]
fn tasks_of_a_lost_agent_start_elsewhere_and_what_it_says_later_does_nothing() {
    let mut bench = Bench::new();
    let generation = bench.agent(1, ROOM);
    bench.run(job("a", 50, vec![task(2, HALF)])).unwrap();
    bench.plan();
    let before = bench.current("a");
    before.iter().for_each(|id| drop(bench.report(*id, None)));
    bench.agent(2, ROOM);
    let agent = AgentId(1);
    let lose = Command::Lose {
        agent,
        generation,
        forget: false,
    };
    assert_eq!(bench.apply(lose.clone()), Ok(Reply::Done));
    assert_eq!(bench.apply(lose), Err(Refusal::Outdated), "once");
    bench.plan();
    bench.check();
    let after = bench.current("a");
    assert!(after.iter().min() > before.iter().max());
    assert!(
        after
            .iter()
            .all(|id| bench.cell.instances[id].agent == AgentId(2))
    );
    assert!(bench.cell.work(agent, generation).is_err());
    let seen = vec![Seen {
        instance: before[0],
        end: failed(),
    }];
    let stale = Command::Report {
        agent,
        generation,
        seen: seen.clone(),
    };
    let digest = bench.cell.digest();
    assert_eq!(bench.apply(stale), Err(Refusal::Outdated));
    let generation = bench.register(1, ROOM, before);
    assert_eq!(
        bench.cell.work(agent, generation).unwrap().1,
        [],
        "it is to end them"
    );
    let again = Command::Report {
        agent,
        generation,
        seen,
    };
    assert_eq!(bench.apply(again), Ok(Reply::Done));
    assert_eq!(bench.current("a"), after);
    assert_ne!(bench.cell.digest(), digest, "the agent is there again");
    assert_eq!(
        bench.cell.summaries()[0].restarts,
        0,
        "a loss is no fault of the task"
    );
    bench.check();
}

#[test]
fn agent_that_comes_back_in_time_keeps_what_it_still_has() {
    let mut bench = Bench::new();
    let old = bench.agent(1, ROOM);
    bench.run(job("a", 50, vec![task(2, HALF)])).unwrap();
    bench.plan();
    let ids = bench.current("a");
    ids.iter().for_each(|id| drop(bench.report(*id, None)));
    let new = bench.register(1, ROOM, vec![ids[0]]);
    assert_eq!(new, old + 1);
    let late = Command::Lose {
        agent: AgentId(1),
        generation: old,
        forget: false,
    };
    assert_eq!(bench.apply(late), Err(Refusal::Outdated));
    assert_eq!(bench.current("a"), [ids[0]], "the other is lost");
    bench.check();
}

#[test]
fn more_important_task_waits_until_those_that_it_evicts_have_ended() {
    let mut bench = Bench::new();
    bench.agent(1, ROOM);
    bench.run(job("low", 10, vec![task(2, HALF)])).unwrap();
    bench.plan();
    let low = bench.current("low");
    low.iter().for_each(|id| drop(bench.report(*id, None)));
    bench.run(job("high", 90, vec![task(1, ROOM)])).unwrap();
    bench.plan();
    bench.check();
    let high = bench.current("high")[0];
    let (_, work) = bench.cell.work(AgentId(1), 1).unwrap();
    assert!(work.iter().all(|work| work.instance != high && !work.run));
    bench.report(low[0], Some(End::Succeeded)).unwrap();
    assert_eq!(bench.cell.work(AgentId(1), 1).unwrap().1.len(), 1);
    bench.report(low[1], Some(End::Stopped)).unwrap();
    let (_, work) = bench.cell.work(AgentId(1), 1).unwrap();
    assert_eq!((work[0].instance, work[0].run), (high, true));
    bench.check();
    // The evicted ones want back, and have no room.
    assert_eq!(bench.cell.pending_count(), 2);
    let (_, view) = bench.cell.view("low").unwrap();
    let waits = view.tasks[0].waits.as_deref().unwrap_or_default();
    assert!(waits.contains("too full (cpu)"), "{waits}");
}

#[test]
fn job_that_stops_gives_back_the_room_that_waits_for_its_victims() {
    let mut bench = Bench::new();
    bench.agent(1, ROOM);
    bench.run(job("low", 10, vec![task(1, ROOM)])).unwrap();
    bench.plan();
    bench.run(job("high", 90, vec![task(1, HALF)])).unwrap();
    bench.plan();
    bench
        .apply(Command::Stop {
            name: "high".into(),
        })
        .unwrap();
    bench.check();
    assert_eq!(bench.state("high"), JobState::Stopped);
    assert_eq!(
        bench.cell.views[&AgentId(1)].used,
        ROOM,
        "the victim has not ended"
    );
    let low = bench.current("low")[0];
    bench.report(low, Some(End::Stopped)).unwrap();
    assert_eq!(bench.cell.views[&AgentId(1)].used, Resources::NONE);
    bench.check();
}

#[test]
fn registration_that_comes_late_ends_nothing() {
    let mut bench = Bench::new();
    bench.agent(1, ROOM);
    let spec = bench.cell.agents[&AgentId(1)].spec.clone();
    let register = |bench: &mut Bench, has: &[InstanceId], attempt| {
        let (agent, has) = (spec.clone(), has.to_vec());
        bench.apply(Command::Register {
            agent,
            has,
            attempt,
        })
    };
    register(&mut bench, &[], 2).unwrap();
    bench.run(job("a", 50, vec![task(1, HALF)])).unwrap();
    bench.plan();
    let id = bench.current("a")[0];
    bench.report(id, None).unwrap();
    for late in [1, 2] {
        let refused = register(&mut bench, &[], late);
        assert_eq!(refused, Err(Refusal::Outdated));
        assert_eq!(bench.current("a"), [id], "it runs on");
    }
    register(&mut bench, &[id], 3).unwrap();
    assert_eq!(bench.current("a"), [id]);
    register(&mut bench, &[], 4).unwrap();
    assert_eq!(bench.cell.instances[&id].phase, Phase::Ended(End::Lost));
    bench.check();
}

#[test]
fn job_stops_and_is_removed_and_another_of_its_name_waits_for_that() {
    let mut bench = Bench::new();
    bench.agent(1, ROOM);
    bench.run(job("a", 50, vec![task(1, HALF)])).unwrap();
    bench.plan();
    let id = bench.current("a")[0];
    bench.report(id, None).unwrap();
    let stop = Command::Stop { name: "a".into() };
    bench.apply(stop).unwrap();
    assert_eq!(bench.state("a"), JobState::Stopping);
    let runs = Err(Refusal::Runs("a".into()));
    assert_eq!(bench.apply(Command::Remove { name: "a".into() }), runs);
    assert_eq!(bench.run(job("a", 50, vec![task(1, HALF)])), runs);
    // What ends with 0 when it is told to was stopped all the same.
    bench.report(id, Some(End::Succeeded)).unwrap();
    assert_eq!(bench.cell.instances[&id].phase, Phase::Ended(End::Stopped));
    assert_eq!(bench.state("a"), JobState::Stopped);
    bench.apply(Command::Remove { name: "a".into() }).unwrap();
    let unknown = Err(Refusal::UnknownJob("a".into()));
    assert_eq!(bench.apply(Command::Stop { name: "a".into() }), unknown);
    assert_eq!((bench.cell.instances.len(), bench.cell.slots.len()), (0, 0));
    bench.check();
}

#[test]
fn what_cannot_be_is_refused_in_words() {
    let mut bench = Bench::new();
    let bad = [
        (job("a b", 1, vec![task(1, HALF)]), "the job's name"),
        (job("a", 1_001, vec![task(1, HALF)]), "priority"),
        (job("a", 1, Vec::new()), "kinds of tasks"),
        (job("a", 1, vec![task(0, HALF)]), "count = 0"),
        (
            job("a", 1, vec![task(1, HALF), task(1, HALF)]),
            "two tasks are named",
        ),
        (job("a", 1, vec![task(10_001, HALF)]), "count = 10001"),
        (
            job(
                "a",
                1,
                vec![Task {
                    command: Vec::new(),
                    ..task(1, HALF)
                }],
            ),
            "command must name",
        ),
        (
            job(
                "a",
                1,
                vec![Task {
                    command: vec!["\0".into()],
                    ..task(1, HALF)
                }],
            ),
            "NUL",
        ),
        (
            job(
                "a",
                1,
                vec![Task {
                    grace_ms: 90_000_000,
                    ..task(1, HALF)
                }],
            ),
            "grace_ms",
        ),
    ];
    for (spec, says) in bad {
        match bench.run(spec) {
            Err(Refusal::Invalid(why)) => assert!(why.contains(says), "{why}"),
            other => panic!("{says}: {other:?}"),
        }
    }
    bench.check();
}

#[test]
fn constraint_keeps_a_task_where_it_holds() {
    let mut bench = Bench::new();
    for id in 1..=4 {
        bench.agent(id, ROOM);
    }
    let constraints: Vec<Constraint> =
        vec!["zone = z1".parse().unwrap(), "node != n1".parse().unwrap()];
    let picky = Task {
        constraints,
        ..task(2, HALF)
    };
    bench.run(job("a", 50, vec![picky])).unwrap();
    bench.plan();
    let on = bench
        .current("a")
        .into_iter()
        .map(|id| bench.cell.instances[&id].agent);
    assert_eq!(on.collect::<Vec<_>>(), [AgentId(3), AgentId(3)]);
}

#[test]
fn job_of_1000_tasks_is_placed_by_each_rule_and_says_why() {
    for rule in Rule::ALL {
        let mut bench = Bench::new();
        for id in 1..=100 {
            bench.agent(id, Resources::new(10_000, 10_000 * MIB, 0));
        }
        let tasks = vec![task(1_000, Resources::new(700, 700 * MIB, 0))];
        bench
            .run(JobSpec {
                rule,
                ..job("a", 50, tasks)
            })
            .unwrap();
        bench.plan();
        bench.check();
        let current = bench.current("a");
        assert_eq!(current.len(), 1_000, "{rule}");
        for id in &current {
            let instance = &bench.cell.instances[id];
            assert_eq!(instance.why.considered, 100);
            let best = &instance.why.scores[0];
            assert_eq!(best.agent, instance.agent);
            assert!(
                instance
                    .why
                    .scores
                    .iter()
                    .all(|score| score.total <= best.total)
            );
        }
        let full = bench.cell.live_on.values().map(BTreeSet::len).max();
        let used = bench.cell.live_on.len();
        match rule {
            Rule::Spread | Rule::WorstFit => assert_eq!((used, full), (100, Some(10))),
            Rule::BestFit => assert_eq!((used, full), (72, Some(14))),
            Rule::PackageLocality | Rule::Mixed => {}
        }
    }
}

/// Agents as they are: what runs there, and what they were told last.
#[derive(Default)]
struct Machines {
    generation: BTreeMap<u64, u64>,
    running: BTreeMap<u64, BTreeSet<InstanceId>>,
    stale: Vec<Command>,
}

fn below(rng: &mut Rng, n: u64) -> u64 {
    rng.next_u64() % n
}

/// A run of random commands; what must hold is looked at after each.
fn random_run(seed: u64, steps: usize) {
    let mut rng = Rng::new(seed);
    let mut bench = Bench::new();
    let mut machines = Machines::default();
    let mut outside = outside::Outside::default();
    let mut highest = 0;
    for step in 0..steps {
        bench.time_ms += rng.range(0, 400) as i64;
        match below(&mut rng, 16) {
            12.. => outside.step(&mut rng, &mut bench),
            0 => {
                let id = 1 + below(&mut rng, 4);
                let has = machines.running.get(&id).into_iter().flatten().copied();
                let has: Vec<InstanceId> = has.filter(|_| below(&mut rng, 4) > 0).collect();
                machines.running.insert(id, has.iter().copied().collect());
                let generation = bench.register(id, ROOM, has);
                machines.generation.insert(id, generation);
            }
            1 => {
                let name = format!("j{}", below(&mut rng, 5));
                let size = 1 + below(&mut rng, 9);
                let resources = Resources::new(size * 100, size * 100 * MIB, 0);
                let tasks = vec![task(1 + below(&mut rng, 5) as u32, resources)];
                let mut job = job(&name, 10 * below(&mut rng, 4) as u32, tasks);
                if below(&mut rng, 2) == 0 {
                    job.placed_by = PlacedBy::Scheduler(format!("s{}", below(&mut rng, 2)));
                }
                let _ = bench.run(job);
            }
            2 if below(&mut rng, 3) == 0 => {
                let name = format!("j{}", below(&mut rng, 5));
                let _ = bench.apply(Command::Stop { name });
            }
            3 => {
                let Some((id, generation)) =
                    machines.generation.iter().nth(below(&mut rng, 4) as usize)
                else {
                    continue;
                };
                let agent = AgentId(*id);
                let generation = generation - below(&mut rng, 2);
                let lose = Command::Lose {
                    agent,
                    generation,
                    forget: below(&mut rng, 4) == 0,
                };
                let is_it = bench.is_known(agent, generation, false);
                let lost = bench.apply(lose).is_ok();
                assert!(
                    is_it || !lost,
                    "only the generation that was not heard is lost"
                );
            }
            4 if !machines.stale.is_empty() => {
                let at = below(&mut rng, machines.stale.len() as u64) as usize;
                let old = machines.stale.swap_remove(at);
                let is_stale = match &old {
                    Command::Report {
                        agent, generation, ..
                    } => !bench.is_known(*agent, *generation, true),
                    _ => false,
                };
                let reply = bench.apply(old);
                assert!(
                    !is_stale || reply == Err(Refusal::Outdated),
                    "a stale report counts"
                );
            }
            5..=7 => {
                // A plan may come late.
                if let Some(command) = bench.cell.plan(bench.time_ms) {
                    match below(&mut rng, 3) {
                        0 => machines.stale.push(command),
                        _ => drop(bench.apply(command)),
                    }
                }
            }
            _ => {
                let Some((&id, &generation)) =
                    machines.generation.iter().nth(below(&mut rng, 4) as usize)
                else {
                    continue;
                };
                let Ok((_, work)) = bench.cell.work(AgentId(id), generation) else {
                    continue;
                };
                let running = machines.running.entry(id).or_default();
                running.retain(|id| work.iter().any(|work| work.instance == *id));
                let mut seen = Vec::new();
                for work in work {
                    let fate = below(&mut rng, 6);
                    let end = match (work.run, fate) {
                        (true, 0..=3) => None,
                        (true, 4) => failed(),
                        (true, _) => Some(End::Succeeded),
                        (false, 0..=2) => continue,
                        (false, _) => Some(End::Stopped),
                    };
                    match end {
                        None => running.insert(work.instance),
                        Some(_) => running.remove(&work.instance),
                    };
                    seen.push(Seen {
                        instance: work.instance,
                        end,
                    });
                }
                let report = Command::Report {
                    agent: AgentId(id),
                    generation,
                    seen,
                };
                if below(&mut rng, 3) == 0 {
                    machines.stale.push(report.clone());
                }
                if below(&mut rng, 5) > 0 {
                    let _ = bench.apply(report);
                }
            }
        }
        assert!(bench.cell.last_instance >= highest, "step {step}");
        highest = bench.cell.last_instance;
        bench.check();
    }
    // It heals: agents come back, everything that is wanted runs.
    for id in 1..=8 {
        bench.register(id, Resources::new(100_000, 100_000 * MIB, 0), Vec::new());
    }
    bench.time_ms += 10_000;
    bench.plan();
    outside.place_all(&mut bench);
    bench.check();
    assert_eq!(
        bench.cell.pending_count(),
        0,
        "all that is wanted has an agent"
    );
}

#[test]
fn cell_keeps_its_promises_under_random_commands() {
    (0..40).for_each(|seed| random_run(seed, 300));
}

#[cfg(debug_assertions)]
#[test]
fn planted_bugs_of_the_cell_are_found() {
    use base::planted::plant;
    for bug in [
        Bug::PromiseTwice,
        Bug::HearStaleReports,
        Bug::LoseAgentThatCameBack,
    ] {
        plant(Some(bug));
        let found = (0..40).any(|seed| std::panic::catch_unwind(|| random_run(seed, 300)).is_err());
        plant(None);
        assert!(found, "{bug:?} was not found");
    }
}
