//! Schedulers and frameworks outside: by hand, and as part of the random runs.

use super::*;
use crate::cell::{Check, Commit};
use crate::command::Claim;
use crate::model::Framework;
use crate::offers::Refused;
use crate::query::{CellView, FrameworkView};
use crate::resources::Share;

const GIB: u64 = 1 << 30;
const LEASE_MS: u32 = 10_000;

fn claim(view: &CellView, at: usize, agent: u64) -> Claim {
    let agent = (view.agents.iter()).find(|its| its.id == AgentId(agent));
    let agent = agent.expect("it is up");
    Claim {
        slot: view.pending[at].slot,
        agent: agent.id,
        seen: agent.version,
    }
}

impl Bench {
    fn commit(&mut self, scheduler: &str, claims: Vec<Claim>, how: (Commit, Check)) -> Reply {
        let (commit, check) = how;
        let command = Command::Commit {
            scheduler: scheduler.into(),
            claims,
            commit,
            check,
        };
        self.apply(command).expect("a commit has an answer")
    }

    fn join(&mut self, name: &str) -> Result<u64, Refusal> {
        let reply = self.apply(Command::Join {
            name: name.into(),
            priority: 50,
            framework: Framework {
                weight: 1,
                lease_ms: LEASE_MS,
                generation: 0,
            },
        })?;
        match reply {
            Reply::Registered { generation } => Ok(generation),
            other => panic!("not registered: {other:?}"),
        }
    }

    fn renew(&mut self, name: &str, generation: u64, wants: bool) -> Result<Reply, Refusal> {
        self.apply(Command::Renew {
            name: name.into(),
            generation,
            wants,
        })
    }

    fn offers(&mut self, name: &str, generation: u64) -> FrameworkView {
        if self.cell.wants_offers(self.time_ms) {
            self.apply(Command::Offer).unwrap();
        }
        self.cell.framework_view(name, generation).unwrap().1
    }

    fn answer(&mut self, name: &str, offer: u64, tasks: Vec<Task>) -> Result<Reply, Refusal> {
        let number = self.cell.names[name];
        let framework = self.cell.jobs[&number].spec.placed_by.framework();
        self.apply(Command::Answer {
            name: name.into(),
            generation: framework.map_or(0, |framework| framework.generation),
            offer,
            tasks,
            filter_ms: 1_000,
        })
    }

    /// What must hold of offers.
    pub(super) fn check_offers(&self, restored: &Scheduling) {
        let cell = &self.cell;
        assert_eq!(restored.awaiting, cell.awaiting);
        let mut on_offer: BTreeMap<u64, Resources> = BTreeMap::new();
        for offer in cell.offers.all() {
            assert!(cell.renewals.contains_key(&offer.framework));
            let sum = on_offer.entry(offer.node).or_default();
            *sum = sum.saturating_add(offer.resources);
        }
        for (node, sum) in on_offer {
            let view = &cell.views[&AgentId(node)];
            assert!(view.healthy && sum.fits(view.free()), "{node}: {sum}");
        }
        for number in cell.renewals.keys() {
            let held = cell.offers.held_by(*number);
            assert_eq!(restored.offers.held_by(*number), held);
        }
    }
}

fn theirs(name: &str, scheduler: &str, tasks: Vec<Task>) -> JobSpec {
    JobSpec {
        placed_by: PlacedBy::Scheduler(scheduler.into()),
        ..job(name, 50, tasks)
    }
}

fn small(name: &str, cpu_milli: u64, memory_bytes: u64) -> Task {
    Task {
        name: name.into(),
        ..task(1, Resources::new(cpu_milli, memory_bytes, 0))
    }
}

const FIT: (Commit, Check) = (Commit::Incremental, Check::Fit);

#[test]
fn m13_two_schedulers_claim_one_agent_exactly_one_commits_and_the_cell_leaves_both_alone() {
    for check in [Check::Fit, Check::Version] {
        let mut bench = Bench::new();
        bench.agent(1, ROOM);
        let most = Resources::new(800, MIB, 0);
        for who in ["a", "b"] {
            bench.run(theirs(who, who, vec![task(1, most)])).unwrap();
        }
        assert_eq!(bench.cell.plan(bench.time_ms), None);
        let waits = bench.cell.view("a").unwrap().1.tasks[0].waits.clone();
        assert!(waits.unwrap().starts_with("for scheduler a"));
        let views = ["a", "b"].map(|who| bench.cell.cell_view(who));
        assert_eq!(views[0].pending.len(), 1);
        let how = (Commit::Incremental, check);
        let first = bench.commit("a", vec![claim(&views[0], 0, 1)], how);
        let Reply::Committed { placed, conflicts } = first else {
            panic!("{first:?}");
        };
        assert_eq!((placed.len(), conflicts), (1, vec![]));
        let second = bench.commit("b", vec![claim(&views[1], 0, 1)], how);
        let Reply::Committed { placed, conflicts } = second else {
            panic!("{second:?}");
        };
        assert_eq!(placed, []);
        assert_eq!(conflicts[0].1, "too full (cpu)");
        assert_eq!(
            (bench.cell.tally().commits, bench.cell.tally().conflicts),
            (2, 1)
        );
        // Its copy is behind; there is room elsewhere after a refresh.
        bench.agent(2, ROOM);
        let view = bench.cell.cell_view("b");
        let again = bench.commit("b", vec![claim(&view, 0, 2)], how);
        assert!(matches!(again, Reply::Committed { conflicts, .. } if conflicts.is_empty()));
        bench.check();
    }
}

#[test]
fn claim_on_a_changed_agent_with_room_is_refused_by_version_and_carried_out_by_fit() {
    for (check, is_placed) in [(Check::Fit, true), (Check::Version, false)] {
        let mut bench = Bench::new();
        bench.agent(1, ROOM);
        let little = Resources::new(100, MIB, 0);
        bench.run(theirs("a", "s", vec![task(2, little)])).unwrap();
        let view = bench.cell.cell_view("s");
        let how = (Commit::Incremental, check);
        bench.commit("s", vec![claim(&view, 0, 1)], how);
        match bench.commit("s", vec![claim(&view, 1, 1)], how) {
            Reply::Committed { placed, conflicts } => {
                assert_eq!(placed.len() == 1, is_placed);
                assert!(is_placed || conflicts[0].1.starts_with("changed: version"));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn all_or_nothing_places_nothing_beside_a_conflict_and_what_is_not_waited_for_is_refused() {
    let mut bench = Bench::new();
    bench.agent(1, ROOM);
    bench
        .run(theirs("a", "s", vec![task(2, Resources::new(600, MIB, 0))]))
        .unwrap();
    let view = bench.cell.cell_view("s");
    let both = vec![claim(&view, 0, 1), claim(&view, 1, 1)];
    let gang = (Commit::AllOrNothing, Check::Fit);
    for (claims, how, done) in [
        (both.clone(), gang, (0, 2)),
        // The same task twice, and another's.
        (vec![both[0], both[0]], gang, (0, 2)),
        (both.clone(), FIT, (1, 1)),
        (both, FIT, (0, 2)),
    ] {
        let reply = bench.commit("s", claims, how);
        let Reply::Committed { placed, conflicts } = reply else {
            panic!("{reply:?}");
        };
        assert_eq!((placed.len(), conflicts.len()), done);
        bench.check();
    }
    let other = bench.commit("t", vec![claim(&view, 1, 1)], FIT);
    assert!(
        matches!(other, Reply::Committed { conflicts, .. } if conflicts[0].1.contains("waits for this"))
    );
}

#[test]
fn task_that_pauses_is_not_placed_by_a_scheduler_either() {
    let mut bench = Bench::new();
    bench.agent(1, ROOM);
    bench.run(theirs("a", "s", vec![task(1, HALF)])).unwrap();
    let view = bench.cell.cell_view("s");
    bench.commit("s", vec![claim(&view, 0, 1)], FIT);
    let instance = bench.current("a")[0];
    bench.report(instance, failed()).unwrap();
    let view = bench.cell.cell_view("s");
    assert!(view.pending[0].due_ms > bench.time_ms);
    let early = bench.commit("s", vec![claim(&view, 0, 1)], FIT);
    assert!(
        matches!(early, Reply::Committed { conflicts, .. } if conflicts[0].1.contains("pause"))
    );
    bench.time_ms = view.pending[0].due_ms;
    let due = bench.commit("s", vec![claim(&view, 0, 1)], FIT);
    assert!(matches!(due, Reply::Committed { placed, .. } if placed.len() == 1));
}

/// The paper's example, through registrations, offers and answers: 9 CPU and 18 GiB, ⟨1 CPU, 4 GiB⟩ and ⟨3 CPU, 1 GiB⟩.
#[test]
fn m12_drf_of_the_paper_on_a_real_agent() {
    let mut bench = Bench::new();
    let total = Resources::new(9_000, 18 * GIB, 0);
    bench.agent(1, total);
    let tasks = [small("a", 1_000, 4 * GIB), small("b", 3_000, GIB)];
    let generations = ["a", "b"].map(|name| {
        let generation = bench.join(name).unwrap();
        bench.renew(name, generation, true).unwrap();
        generation
    });
    let mut idle = 0;
    while idle < 2 {
        let made = [0, 1].map(|n| bench.offers(["a", "b"][n], generations[n]).offers);
        let n = usize::from(made[0].is_empty());
        let Some(offer) = made[n].first() else { break };
        let fits = tasks[n].resources.fits(offer.resources);
        let wanted = fits.then(|| tasks[n].clone()).into_iter().collect();
        bench.answer(["a", "b"][n], offer.id, wanted).unwrap();
        idle = if fits { 0 } else { idle + 1 };
        bench.check();
    }
    let counts = ["a", "b"].map(|name| bench.current(name).len());
    assert_eq!(counts, [3, 2]);
    for its in bench.cell.framework_summaries() {
        assert_eq!(Share::of(its.share_per_mille, 1_000), Share::of(666, 1_000));
    }
}

#[test]
fn offer_goes_when_its_room_does_and_what_is_wrong_is_refused_in_words() {
    let mut bench = Bench::new();
    let first = bench.agent(1, ROOM);
    let generation = bench.join("f").unwrap();
    bench.renew("f", generation, true).unwrap();
    let offer = bench.offers("f", generation).offers[0].clone();
    assert_eq!(offer.resources, ROOM);
    let far = Task {
        constraints: vec!["zone = mars".parse::<Constraint>().unwrap()],
        ..small("far", 1, MIB)
    };
    let refused = bench.answer("f", offer.id, vec![far]).unwrap_err();
    assert!(refused.to_string().contains("not zone = mars"), "{refused}");
    let much = bench.answer("f", offer.id, vec![small("t", 1_001, MIB)]);
    assert_eq!(much, Err(Refusal::Offer(Refused::TooMuch)));
    let many = vec![task(u32::MAX, Resources::NONE)];
    assert_eq!(
        bench.answer("f", offer.id, many),
        Err(Refusal::Offer(Refused::TooMuch))
    );
    let none = bench.answer("f", offer.id + 1, vec![small("t", 1, MIB)]);
    assert_eq!(none, Err(Refusal::Offer(Refused::NoOffer)));
    // A job of the cell's own is first.
    bench.run(job("own", 50, vec![task(1, HALF)])).unwrap();
    bench.plan();
    bench.check();
    let late = bench.answer("f", offer.id, vec![small("t", 500, MIB)]);
    assert_eq!(late, Err(Refusal::Offer(Refused::NoOffer)));
    let offer = bench.offers("f", generation).offers[0].clone();
    assert_eq!(offer.resources, Resources::new(500, 500 * MIB, 0));
    // An agent that is lost takes its offer and the framework's tasks along.
    bench
        .answer("f", offer.id, vec![small("t", 100, MIB)])
        .unwrap();
    let generation_of_agent = first;
    bench
        .apply(Command::Lose {
            agent: AgentId(1),
            generation: generation_of_agent,
            forget: false,
        })
        .unwrap();
    let told = bench.offers("f", generation);
    assert_eq!(told.offers, []);
    assert_eq!(told.tasks[0].phase, Phase::Ended(End::Lost));
    bench.check();
}

#[test]
fn framework_that_comes_again_is_another_and_one_that_is_silent_goes_with_its_tasks() {
    let mut bench = Bench::new();
    bench.agent(1, ROOM);
    let old = bench.join("f").unwrap();
    bench.renew("f", old, true).unwrap();
    let offer = bench.offers("f", old).offers[0].id;
    bench
        .answer("f", offer, vec![small("t", 100, MIB)])
        .unwrap();
    assert!(!bench.offers("f", old).offers.is_empty());
    let new = bench.join("f").unwrap();
    assert_eq!(new, old + 1);
    assert_eq!(bench.renew("f", old, true), Err(Refusal::Outdated));
    assert!(bench.cell.framework_view("f", old).is_err());
    let seen = bench.cell.framework_view("f", new).unwrap().1;
    assert_eq!((seen.offers.len(), seen.tasks.len()), (0, 1));
    // One that was heard since is not silent.
    let renewals = bench.cell.frameworks().next().unwrap().renewals;
    bench.renew("f", new, true).unwrap();
    let quit = |renewals| Command::Quit {
        name: "f".into(),
        generation: new,
        renewals,
    };
    assert_eq!(bench.apply(quit(Some(renewals))), Err(Refusal::Outdated));
    bench.apply(quit(Some(renewals + 1))).unwrap();
    assert_eq!(bench.state("f"), JobState::Stopping);
    assert_eq!(bench.join("f"), Err(Refusal::Runs("f".into())));
    let instance = bench.current("f")[0];
    bench.report(instance, Some(End::Stopped)).unwrap();
    assert_eq!(bench.join("f"), Ok(1));
    bench.check();
}

#[test]
fn framework_forgets_what_has_ended_long_ago_and_names_are_used_again() {
    let mut bench = Bench::new();
    bench.agent(1, ROOM);
    let generation = bench.join("f").unwrap();
    bench.renew("f", generation, true).unwrap();
    for n in 0..130 {
        let offer = bench.offers("f", generation).offers[0].id;
        // More names than a job has kinds of tasks.
        let task = small(&format!("t{n}"), 100, MIB);
        match bench.answer("f", offer, vec![task]) {
            Ok(_) => {}
            Err(refusal) => {
                assert!(n >= crate::model::TASKS_MAX, "{refusal}");
                return;
            }
        }
        let instance = bench.current("f")[0];
        bench.report(instance, Some(End::Succeeded)).unwrap();
        bench.check();
    }
    panic!("the names of what is remembered are bounded");
}

/// Schedulers with their copies, and frameworks.
#[derive(Default)]
pub(super) struct Outside {
    copies: BTreeMap<String, CellView>,
    frameworks: BTreeMap<String, u64>,
}

impl Outside {
    pub(super) fn step(&mut self, rng: &mut Rng, bench: &mut Bench) {
        let who = format!("s{}", below(rng, 2));
        let framework = format!("f{}", below(rng, 2));
        let generation = self.frameworks.get(&framework).copied();
        match (below(rng, 10), generation) {
            (0 | 1, _) => drop(self.copies.insert(who.clone(), bench.cell.cell_view(&who))),
            (2..=4, _) => self.commit(rng, bench, &who),
            (5, _) if below(rng, 3) == 0 => {
                if let Ok(generation) = bench.join(&framework) {
                    self.frameworks.insert(framework, generation);
                }
            }
            (6, Some(generation)) => {
                let wants = below(rng, 4) > 0;
                if bench.renew(&framework, generation, wants).is_err() {
                    self.frameworks.remove(&framework);
                }
            }
            (7 | 8, Some(generation)) => {
                if bench.cell.wants_offers(bench.time_ms) {
                    bench.apply(Command::Offer).unwrap();
                }
                let Ok((_, view)) = bench.cell.framework_view(&framework, generation) else {
                    return;
                };
                for offer in view.offers {
                    let part = Resources::new(1 + below(rng, 6) * 100, 100 * MIB, 0);
                    let fits = part.fits(offer.resources);
                    let wanted = fits && below(rng, 4) > 0;
                    let name = format!("t{}", part.cpu_milli);
                    let task = small(&name, part.cpu_milli, part.memory_bytes);
                    let tasks = wanted.then_some(task).into_iter().collect();
                    let reply = bench.answer(&framework, offer.id, tasks);
                    // An offer that stands is carried out as a whole.
                    match reply {
                        Ok(Reply::Launched(launched)) => {
                            assert_eq!(launched.len(), usize::from(wanted))
                        }
                        Err(Refusal::Offer(Refused::NoOffer)) => {}
                        other => panic!("{other:?}"),
                    }
                }
            }
            (9, Some(generation)) if below(rng, 4) == 0 => {
                let _ = bench.apply(Command::Quit {
                    name: framework.clone(),
                    generation,
                    renewals: None,
                });
                self.frameworks.remove(&framework);
            }
            _ => {}
        }
    }

    /// What fits by the copy, which may be old.
    fn commit(&mut self, rng: &mut Rng, bench: &mut Bench, who: &str) {
        let Some(view) = self.copies.get_mut(who) else {
            return;
        };
        let mut claims = Vec::new();
        for task in &view.pending {
            let fitting = (view.agents.iter_mut()).find(|its| task.resources.fits(its.free));
            if let Some(agent) = fitting.filter(|_| below(rng, 3) > 0) {
                agent.free = agent.free.saturating_sub(task.resources);
                claims.push(Claim {
                    slot: task.slot,
                    agent: agent.id,
                    seen: agent.version,
                });
            }
        }
        let count = claims.len();
        let how = match below(rng, 3) {
            0 => FIT,
            1 => (Commit::Incremental, Check::Version),
            _ => (Commit::AllOrNothing, Check::Fit),
        };
        match bench.commit(who, claims, how) {
            Reply::Committed { placed, conflicts } => {
                assert_eq!(placed.len() + conflicts.len(), count);
                let is_gang = how.0 == Commit::AllOrNothing;
                assert!(!is_gang || placed.is_empty() || conflicts.is_empty());
                for (slot, instance) in placed {
                    assert_eq!(bench.cell.slots[&slot].current, Some(instance));
                }
            }
            other => panic!("{other:?}"),
        }
    }

    /// Frameworks go, and schedulers place what waits for them.
    pub(super) fn place_all(&mut self, bench: &mut Bench) {
        for (name, generation) in std::mem::take(&mut self.frameworks) {
            let _ = bench.apply(Command::Quit {
                name,
                generation,
                renewals: None,
            });
        }
        for who in ["s0", "s1"] {
            let view = bench.cell.cell_view(who);
            let mut agents = view.agents.iter().cycle();
            let claims = view.pending.iter().filter_map(|task| {
                let agent = agents.next()?;
                Some(Claim {
                    slot: task.slot,
                    agent: agent.id,
                    seen: agent.version,
                })
            });
            let claims = claims.collect();
            bench.commit(who, claims, FIT);
        }
    }
}
