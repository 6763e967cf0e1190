use super::*;
use base::Rng;
use base::planted::{self, Bug, ComputingBug};
use std::collections::{BTreeMap, BTreeSet};

// ---- supervisors -----------------------------------------------------------------------------

fn supervision(strategy: Strategy, children: &[Restart]) -> Supervision {
    let limits = Limits {
        restarts_max: 2,
        period_ms: 1_000,
        backoff: Backoff::NONE,
    };
    let mut plan = Supervision::new(strategy, limits, children.iter().copied());
    for child in 0..children.len() {
        assert_eq!(plan.poll(0), Some(Step::Start(child)));
    }
    assert_eq!(plan.poll(0), None);
    plan
}

/// What it does at once, each child that is to stop ending as it is told.
fn steps(plan: &mut Supervision, now_ms: u64) -> String {
    let mut done = Vec::new();
    while let Some(step) = plan.poll(now_ms) {
        done.push(match step {
            Step::Start(child) => format!("start {child}"),
            Step::Stop(child) => {
                plan.handle_ended(now_ms, child, End::Normal);
                format!("stop {child}")
            }
            Step::Over(end) => format!("over {end:?}"),
        });
    }
    done.join(", ")
}

const PERMANENT: [Restart; 3] = [Restart::Permanent; 3];

#[test]
fn m17_one_for_one_starts_only_the_child_that_failed() {
    let mut plan = supervision(Strategy::OneForOne, &PERMANENT);
    plan.handle_ended(10, 1, End::Failed);
    assert_eq!(steps(&mut plan, 10), "start 1");
}

#[test]
fn m17_one_for_all_stops_the_others_in_reverse_and_starts_all_in_order() {
    let mut plan = supervision(Strategy::OneForAll, &PERMANENT);
    plan.handle_ended(10, 1, End::Failed);
    assert_eq!(
        steps(&mut plan, 10),
        "stop 2, stop 0, start 0, start 1, start 2"
    );
}

#[test]
fn m17_rest_for_one_takes_those_that_were_started_later_along() {
    let mut plan = supervision(Strategy::RestForOne, &PERMANENT);
    plan.handle_ended(10, 1, End::Failed);
    assert_eq!(steps(&mut plan, 10), "stop 2, start 1, start 2");
    plan.handle_ended(20, 2, End::Failed);
    assert_eq!(steps(&mut plan, 20), "start 2");
}

#[test]
fn m17_restart_intensity_two_in_a_second_the_third_ends_the_supervisor() {
    let mut plan = supervision(Strategy::OneForOne, &PERMANENT);
    plan.handle_ended(0, 0, End::Failed);
    assert_eq!(steps(&mut plan, 0), "start 0");
    plan.handle_ended(500, 1, End::Failed);
    assert_eq!(steps(&mut plan, 500), "start 1");
    // The first is longer ago than a second.
    plan.handle_ended(1_100, 0, End::Failed);
    assert_eq!(steps(&mut plan, 1_100), "start 0");
    assert_eq!(plan.restarts(), 3);
    plan.handle_ended(1_400, 2, End::Failed);
    assert_eq!(steps(&mut plan, 1_400), "stop 1, stop 0, over Failed");
    assert_eq!(plan.poll(9_000), None);
}

#[test]
fn m17_permanent_transient_and_temporary_children() {
    use Restart::{Permanent, Temporary, Transient};
    let children = [Permanent, Transient, Temporary];
    let mut plan = supervision(Strategy::OneForOne, &children);
    plan.handle_ended(0, 0, End::Normal);
    assert_eq!(steps(&mut plan, 0), "start 0");
    plan.handle_ended(1, 1, End::Failed);
    assert_eq!(steps(&mut plan, 1), "start 1");
    plan.handle_ended(2, 1, End::Normal);
    plan.handle_ended(3, 2, End::Failed);
    assert_eq!(steps(&mut plan, 3), "");
    // Whoever has ended for good is not started for another's sake, and a temporary one is not after it.
    let mut plan = supervision(Strategy::OneForAll, &children);
    plan.handle_ended(0, 1, End::Failed);
    assert_eq!(steps(&mut plan, 0), "stop 2, stop 0, start 0, start 1");
}

#[test]
fn pauses_double_and_a_failure_during_a_restart_joins_it() {
    let limits = Limits {
        restarts_max: 9,
        period_ms: 60_000,
        backoff: Backoff {
            first_ms: 50,
            max_ms: 150,
        },
    };
    let mut plan = Supervision::new(Strategy::OneForAll, limits, PERMANENT);
    assert_eq!(steps(&mut plan, 0), "start 0, start 1, start 2");
    for (now_ms, pause_ms) in [(1_000, 50), (2_000, 100), (3_000, 150), (4_000, 150)] {
        plan.handle_ended(now_ms, 0, End::Failed);
        assert_eq!(steps(&mut plan, now_ms + pause_ms - 1), "stop 2, stop 1");
        assert_eq!(plan.wake_at_ms(), Some(now_ms + pause_ms));
        assert_eq!(
            steps(&mut plan, now_ms + pause_ms),
            "start 0, start 1, start 2"
        );
    }
    // The second fails before the third is started again.
    plan.handle_ended(9_000, 0, End::Failed);
    assert_eq!(steps(&mut plan, 9_000), "stop 2, stop 1");
    assert_eq!(plan.poll(9_150), Some(Step::Start(0)));
    assert_eq!(plan.poll(9_150), Some(Step::Start(1)));
    plan.handle_ended(9_150, 1, End::Failed);
    assert_eq!(steps(&mut plan, 9_150), "stop 0");
    assert_eq!(steps(&mut plan, 9_300), "start 0, start 1, start 2");
}

#[test]
fn supervisor_that_is_stopped_starts_nobody_any_more() {
    let mut plan = supervision(Strategy::OneForAll, &PERMANENT);
    plan.handle_ended(0, 1, End::Failed);
    assert_eq!(plan.poll(0), Some(Step::Stop(2)));
    plan.handle_stop();
    assert_eq!(plan.poll(0), None, "the last one that was told still runs");
    plan.handle_ended(5, 2, End::Failed);
    assert_eq!(steps(&mut plan, 5), "stop 0, over Normal");
}

/// Whatever ends when: nobody runs twice, all that should run do in the end, and a supervisor that gives up leaves
/// nobody.
#[test]
fn supervision_keeps_its_word_whatever_ends_when() {
    let mut gave_up = 0;
    for seed in 0..3_000 {
        let mut rng = Rng::new(seed);
        let strategies = [
            Strategy::OneForOne,
            Strategy::OneForAll,
            Strategy::RestForOne,
        ];
        let strategy = strategies[rng.range(0, 3) as usize];
        let kinds = [Restart::Permanent, Restart::Transient, Restart::Temporary];
        let children: Vec<Restart> = (0..rng.range(1, 6))
            .map(|_| kinds[rng.range(0, 3) as usize])
            .collect();
        let mut plan = Supervision::new(strategy, Limits::default(), children.iter().copied());
        let mut running = BTreeSet::new();
        let mut asked: Option<usize> = None;
        let mut over = None;
        let mut now_ms = 0;
        for turn in 0..200 {
            now_ms += rng.range(0, 200);
            match plan.poll(now_ms) {
                Some(Step::Start(child)) => assert!(running.insert(child), "{child} runs twice"),
                Some(Step::Stop(child)) => {
                    assert!(running.contains(&child) && asked.is_none());
                    asked = Some(child);
                }
                Some(Step::Over(end)) => {
                    assert!(running.is_empty() && over.is_none());
                    over = Some(end);
                }
                None => {}
            }
            if turn < 150 && rng.one_in(6) {
                let at = rng.range(0, running.len().max(1) as u64) as usize;
                if let Some(child) = running.iter().nth(at).copied() {
                    running.remove(&child);
                    asked = asked.filter(|asked| *asked != child);
                    let end = [End::Normal, End::Failed][rng.range(0, 2) as usize];
                    plan.handle_ended(now_ms, child, end);
                }
            }
            if let Some(child) = asked.filter(|_| rng.one_in(2)) {
                asked = None;
                running.remove(&child);
                plan.handle_ended(now_ms, child, End::Normal);
            }
        }
        gave_up += u32::from(over == Some(End::Failed));
        let permanent = (0..children.len()).filter(|c| children[*c] == Restart::Permanent);
        match over {
            Some(_) => assert!(running.is_empty()),
            None => assert!(
                permanent.clone().all(|c| running.contains(&c)),
                "seed {seed}"
            ),
        }
    }
    assert!(gave_up > 100 && gave_up < 2_900, "{gave_up}");
}

// ---- who runs a name -------------------------------------------------------------------------

#[test]
fn names_are_spread_and_only_those_of_a_host_that_is_gone_move() {
    let hosts = ["a:1", "b:1", "c:1", "d:1"];
    let place = |but: &str, name: &str| {
        let able = hosts.iter().map(|id| Host {
            id,
            is_able: *id != but,
        });
        owner(name, able).unwrap()
    };
    let mut counts = BTreeMap::new();
    for number in 0..4_000 {
        let name = format!("actor-{number}");
        let before = place("", &name);
        *counts.entry(before).or_insert(0) += 1;
        let after = place("c:1", &name);
        assert!(before == "c:1" && after != "c:1" || before == after);
    }
    assert!(
        counts.values().all(|n| (850..1_150).contains(n)),
        "{counts:?}"
    );
    assert_eq!(owner("x", []), None);
}

// ---- a name, its owners, and messages to them ------------------------------------------------

const LEASE_US: u64 = 1_000_000;

#[derive(Clone, Debug)]
enum Event {
    /// A host does whatever it does from time to time.
    Turn(usize),
    /// Its question for a lease arrives at the tree; when it was asked, by its clock.
    Ask(usize, u64),
    Granted(usize, u64),
    /// It has become the owner: generation, asked, version and value of the state.
    Owner(usize, i64, u64, i32, u64),
    /// A client's message arrives: the host that it knows, the generation, the message's number.
    Message(usize, i64, u64),
    /// A write of a count arrives: host, generation, expected version, count, message.
    Write(usize, i64, i32, u64, u64),
    /// The write's outcome: host, generation, new version, count, message.
    Written(usize, i64, Option<i32>, u64, u64),
    /// The client looks who owns the name, and sends.
    Client,
}

#[derive(Default)]
struct Held {
    tenure: Option<Tenure>,
    checkpoint: Option<Checkpoint>,
    count: u64,
    is_writing: bool,
    paused_until: u64,
    asks: u64,
    /// Its clock runs at so many parts of a thousand.
    rate: u64,
}

struct World {
    rng: Rng,
    now: u64,
    number: u64,
    queue: BTreeMap<(u64, u64), Event>,
    hosts: Vec<Held>,
    // The tree.
    owner: Option<(usize, i64, u64)>,
    generation: i64,
    version: i32,
    state: u64,
    // What came of it.
    answered: BTreeMap<u64, u64>,
    asked: BTreeMap<u64, i64>,
    owners: u64,
    refused: [u64; 3],
}

impl World {
    fn clock(&self, host: usize) -> u64 {
        self.now * self.hosts[host].rate / 1_000
    }

    fn later(&mut self, least_us: u64, most_us: u64, event: Event) {
        let at = self.now + self.rng.range(least_us, most_us);
        self.number += 1;
        self.queue.insert((at, self.number), event);
    }

    fn deliver(&mut self, event: Event) {
        let most_us = if self.rng.one_in(25) {
            2_500_000
        } else {
            30_000
        };
        self.later(1_000, most_us, event);
    }

    /// A host that is paused does nothing; what comes for it waits.
    fn is_paused(&mut self, event: &Event) -> bool {
        let host = match event {
            Event::Turn(host)
            | Event::Granted(host, ..)
            | Event::Owner(host, ..)
            | Event::Message(host, ..)
            | Event::Written(host, ..) => *host,
            _ => return false,
        };
        let until = self.hosts[host].paused_until;
        if until > self.now {
            self.number += 1;
            self.queue.insert((until, self.number), event.clone());
        }
        until > self.now
    }

    fn step(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::Turn(host) => {
                if self.rng.one_in(60) {
                    self.hosts[host].paused_until = self.now + self.rng.range(0, 3_000_000);
                }
                let asked = self.clock(host);
                let over = (self.hosts[host].tenure).is_some_and(|t| !t.is_valid(asked));
                if over {
                    self.hosts[host].tenure = None;
                }
                self.hosts[host].asks += 1;
                self.deliver(Event::Ask(host, asked));
                self.later(90_000, 110_000, Event::Turn(host));
            }
            Event::Ask(host, asked) => match self.owner {
                Some((owner, generation, until)) if owner == host && until > self.now => {
                    self.owner = Some((host, generation, self.now + LEASE_US));
                    self.deliver(Event::Granted(host, asked));
                    // A host that has forgotten meanwhile hears that it is the owner.
                    let (version, state) = (self.version, self.state);
                    if self.hosts[host].tenure.is_none() {
                        self.version += 1;
                        self.deliver(Event::Owner(host, generation, asked, version + 1, state));
                    }
                }
                Some((.., until)) if until > self.now => {}
                _ => {
                    self.generation += 1;
                    self.owners += 1;
                    self.owner = Some((host, self.generation, self.now + LEASE_US));
                    self.version += 1;
                    let told = (self.generation, self.version, self.state);
                    self.deliver(Event::Owner(host, told.0, asked, told.1, told.2));
                }
            },
            Event::Granted(host, asked) => {
                if let Some(tenure) = &mut self.hosts[host].tenure {
                    tenure.handle_granted(asked, LEASE_US);
                }
            }
            Event::Owner(host, generation, asked, version, state) => {
                let held = &mut self.hosts[host];
                if held.tenure.is_none_or(|t| t.generation() < generation) {
                    let mut tenure = Tenure::new(generation, 0);
                    tenure.handle_granted(asked, LEASE_US);
                    held.tenure = Some(tenure);
                    held.checkpoint = Some(Checkpoint::new(version));
                    held.count = state;
                    held.is_writing = false;
                }
            }
            Event::Client => {
                if let Some((host, generation, _)) = self.owner {
                    let message = self.asked.len() as u64;
                    self.asked.insert(message, generation);
                    self.deliver(Event::Message(host, generation, message));
                }
                self.later(5_000, 40_000, Event::Client);
            }
            Event::Message(host, generation, message) => {
                let now = self.clock(host);
                let held = &mut self.hosts[host];
                let Some(tenure) = held.tenure else {
                    self.refused[0] += 1;
                    return Ok(());
                };
                match tenure.admit(now, generation) {
                    Err(Objection::Over) => self.refused[1] += 1,
                    Err(Objection::Generation(_)) => self.refused[2] += 1,
                    Ok(()) if held.is_writing => {}
                    Ok(()) => {
                        let here = tenure.generation();
                        if here != self.asked[&message] {
                            return Err(format!("message {message} done by {here}"));
                        }
                        if self.generation > here {
                            let now = self.generation;
                            return Err(format!("{here} acts while {now} owns the name"));
                        }
                        let expects = held.checkpoint.expect("with the tenure").expects();
                        let count = held.count + 1;
                        held.is_writing = true;
                        self.deliver(Event::Write(host, here, expects, count, message));
                    }
                }
            }
            Event::Write(host, generation, expects, count, message) => {
                let fits = expects == -1 || expects == self.version;
                let version = fits.then(|| {
                    self.version += 1;
                    self.state = count;
                    self.version
                });
                self.deliver(Event::Written(host, generation, version, count, message));
            }
            Event::Written(host, generation, version, count, message) => {
                let now = self.clock(host);
                let held = &mut self.hosts[host];
                let Some(tenure) = held.tenure.filter(|t| t.generation() == generation) else {
                    return Ok(());
                };
                held.is_writing = false;
                match version {
                    Some(version) => {
                        held.count = count;
                        held.checkpoint = Some(Checkpoint::new(version));
                        if tenure.admit(now, generation).is_ok() {
                            let before = self.answered.insert(count, message);
                            if before.is_some() {
                                return Err(format!("{count} was answered twice"));
                            }
                        }
                    }
                    // Somebody else has it.
                    None => held.tenure = None,
                }
            }
        }
        Ok(())
    }
}

/// Twenty seconds of one name among three hosts that pause and whose clocks differ by two in a hundred.
fn simulate(seed: u64) -> Result<World, String> {
    let mut rng = Rng::new(seed);
    let hosts = (0..3)
        .map(|_| Held {
            rate: rng.range(980, 1_021),
            ..Held::default()
        })
        .collect();
    let mut world = World {
        rng,
        now: 0,
        number: 0,
        queue: BTreeMap::new(),
        hosts,
        owner: None,
        generation: 0,
        version: 0,
        state: 0,
        answered: BTreeMap::new(),
        asked: BTreeMap::new(),
        owners: 0,
        refused: [0; 3],
    };
    for host in 0..3 {
        world.later(0, 100_000, Event::Turn(host));
    }
    world.later(0, 1, Event::Client);
    while let Some(((at, _), event)) = world.queue.pop_first() {
        if at > 20_000_000 {
            break;
        }
        world.now = at;
        if !world.is_paused(&event) {
            world.step(event)?;
        }
    }
    Ok(world)
}

#[test]
fn m17_name_is_never_owned_twice_and_no_answered_count_is_lost() {
    let (mut owners, mut answered, mut refused) = (0, 0, [0; 3]);
    for seed in 0..150 {
        let world = simulate(seed).unwrap_or_else(|why| panic!("seed {seed}: {why}"));
        owners += world.owners;
        answered += world.answered.len();
        (0..3).for_each(|at| refused[at] += world.refused[at]);
        assert!(world.answered.keys().all(|count| *count <= world.state));
    }
    // What should have been tried was tried.
    assert!(
        owners > 300 && answered > 10_000 && refused.iter().all(|n| *n > 10),
        "{owners} {answered} {refused:?}"
    );
}

#[test]
fn planted_bugs_of_actors_names_are_found() {
    for bug in [
        ComputingBug::ActAfterLease,
        ComputingBug::AnswerForAnother,
        ComputingBug::WriteUnfenced,
    ] {
        planted::plant(Some(Bug::Computing(bug)));
        let found = (0..150).find_map(|seed| simulate(seed).err());
        planted::plant(None);
        assert!(found.is_some(), "{bug:?} was not found");
    }
}
