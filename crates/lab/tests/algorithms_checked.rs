//! Every algorithm keeps its promise under what it says it survives; every planted bug is found, and the
//! same run passes without it; small groups are searched whole.

use base::planted::PeerBug;
use lab::peers::fields::GRACE_US;
use lab::peers::registry::{all, find};
use lab::peers::script::{Fault, Planned, Script};
use lab::peers::search::Bounds;
use lab::peers::simulation::{Outcome, Pace, Plan};
use lab::peers::troubles;

/// Of the 2,000 that `althing lab check` runs.
const SEEDS: u64 = 40;

fn run(name: &str, faults: &str, nodes: usize, seed: u64) -> Outcome {
    let algorithm = find(name).expect("an algorithm");
    let script = match faults {
        "restarts" => restarts(nodes, seed),
        "cut off, then dead" => cut_off_then_dead(nodes, seed),
        "two stand, one forgets" => two_stand(seed),
        "chosen, then dead" => chosen_then_dead(nodes, seed),
        "apart" => apart(nodes),
        "votes apart" => votes_apart(nodes),
        "referee between" => referee_between(nodes),
        _ => troubles::parse(faults, algorithm.header.survives, nodes, seed)
            .expect("names of faults"),
    };
    let until_ms = 10_000.max(script.end_ms() + GRACE_US / 1000 + 2_000);
    (algorithm.run)(&Plan {
        nodes,
        seed,
        script,
        until_ms,
        pace: Pace::default(),
        keep: false,
    })
}

fn script(faults: impl IntoIterator<Item = (u64, Option<u64>, Fault)>) -> Script {
    let planned = faults.into_iter().map(|(at_ms, until_ms, fault)| Planned {
        at_ms,
        until_ms,
        fault,
    });
    Script {
        faults: planned.collect(),
    }
}

/// One after the other dies and is back at once.
fn restarts(nodes: usize, seed: u64) -> Script {
    script((0..40).flat_map(|i| {
        let node = (i as usize + seed as usize) % nodes + 1;
        let at_ms = 500 + i * 130 + seed % 97;
        let back_ms = at_ms + 1 + seed % 5;
        [
            (at_ms, None, Fault::Crash { node }),
            (back_ms, None, Fault::Restart { node }),
        ]
    }))
}

/// The first transaction's coordinator is not heard by some any more, and dies some milliseconds later.
fn cut_off_then_dead(nodes: usize, seed: u64) -> Script {
    let to = (2 + seed as usize % 2..=nodes).collect();
    script([
        (406, Some(2_000), Fault::OneWay { from: vec![1], to }),
        (407 + seed % 12, None, Fault::Crash { node: 1 }),
        (3_000, None, Fault::Restart { node: 1 }),
    ])
}

/// Before there is a leader, 1 and 2 stand at once; 3 dies when it may have voted, and is back at once.
fn two_stand(seed: u64) -> Script {
    let ask = |node| Fault::Ask {
        node,
        request: "suspect".into(),
    };
    script([
        (5, None, ask(1)),
        (5 + seed % 3, None, ask(2)),
        (8 + seed % 13, None, Fault::Crash { node: 3 }),
        (9 + seed % 13, None, Fault::Restart { node: 3 }),
    ])
}

fn propose(node: usize, value: u64) -> Fault {
    let request = format!("propose {value}");
    Fault::Ask { node, request }
}

/// What only the leader was asked for is taken by all; then nobody hears it any more, and it dies.
fn chosen_then_dead(nodes: usize, seed: u64) -> Script {
    let to = (2..=nodes).collect();
    script([
        (1_000, None, propose(1, 1_001)),
        (
            1_006 + seed % 3,
            Some(2_000),
            Fault::OneWay { from: vec![1], to },
        ),
        (1_014 + seed % 3, None, Fault::Crash { node: 1 }),
        (3_000, None, Fault::Restart { node: 1 }),
    ])
}

/// One is apart from the others for a while, and each side has a value of its own.
fn apart(nodes: usize) -> Script {
    let sides = vec![vec![1], (2..=nodes).collect()];
    script([
        (1_000, Some(4_000), Fault::Partition { sides }),
        (1_300, None, propose(1, 1_001)),
        (1_300, None, propose(2, 1_002)),
        // Nobody else has heard of it, and its own blocks were dropped.
        (5_000, None, propose(1, 1_001)),
    ])
}

/// Two sides that only the last node, the referee, hears both of.
fn referee_between(nodes: usize) -> Script {
    let sides = vec![(2..=nodes).collect(), vec![1, nodes]];
    script([(1_000, Some(6_000), Fault::Partition { sides })])
}

/// Votes that only one hears of for a while.
fn votes_apart(nodes: usize) -> Script {
    let vote = |voter| {
        let request = format!("vote 1 by {voter} for 2");
        Fault::Ask { node: 1, request }
    };
    let (from, to) = (vec![1], (2..=nodes).collect());
    script([
        (1_000, Some(2_000), Fault::OneWay { from, to }),
        (1_100, None, vote(2)),
        (1_101, None, vote(3)),
        // It says so once more; nobody repeats by itself what was lost.
        (5_000, None, vote(2)),
        (5_001, None, vote(3)),
    ])
}

fn wrong(outcome: &Outcome) -> Option<&String> {
    outcome.unsafe_.first().or(outcome.stalled.first())
}

#[test]
fn algorithms_keep_their_promises_under_what_they_survive() {
    let names: Vec<&str> = all()
        .iter()
        .map(|algorithm| algorithm.header.name)
        .collect();
    let mut failures = Vec::new();
    for name in names {
        for seed in 1..=SEEDS {
            let nodes = 3 + (seed % 4) as usize;
            if let Some(why) = wrong(&run(name, "survived", nodes, seed)) {
                failures.push(format!(
                    "{why}\n  althing lab run {name} --nodes {nodes} --seed {seed} --faults survived"
                ));
                break;
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn run_of_a_seed_repeats_exactly() {
    for algorithm in all() {
        let name = algorithm.header.name;
        let (a, b) = (run(name, "survived", 5, 7), run(name, "survived", 5, 7));
        assert_eq!(
            (a.hash, a.sent, a.steps),
            (b.hash, b.sent, b.steps),
            "{name}"
        );
    }
}

/// Those without a planted bug: they promise nothing that one line could break. Copies that are acknowledged before
/// anybody else has them may be lost, W = R = 1 may read anything that was written, and where all stop there is no
/// condition to get wrong.
const WITHOUT_BUG: [&str; 3] = ["asynchronous", "quorum-one-one", "down-all"];

#[test]
fn every_algorithm_has_a_planted_bug_or_is_named() {
    for algorithm in all() {
        let name = algorithm.header.name;
        let has = BUGS.iter().any(|(_, of, _)| *of == name);
        assert!(has != WITHOUT_BUG.contains(&name), "{name}");
    }
}

const BUGS: &[(PeerBug, &str, &str)] = &[
    (PeerBug::GrantWhileHeld, "centralized", "none"),
    (PeerBug::CoordinatorOfOnesOwn, "hashed-coordinators", "none"),
    (PeerBug::EnterUnheard, "lamport", "none"),
    (PeerBug::AnswerRivals, "ricart-agrawala", "none"),
    (
        PeerBug::SkipClockSync,
        "ricart-agrawala-detecting",
        "restarts",
    ),
    (PeerBug::HalfIsMajority, "majority", "partition"),
    (PeerBug::ForgetVote, "maekawa", "restarts"),
    (PeerBug::PassWhileInside, "token-ring", "none"),
    (PeerBug::PassWhileInside, "weighted-token-ring", "none"),
    (PeerBug::ReplaceUnasked, "regenerating-token-ring", "crash"),
    (PeerBug::PassGlobalEarly, "two-level-token-ring", "none"),
    (PeerBug::IgnoreAlive, "bully", "crash"),
    (PeerBug::ForwardSmaller, "chang-roberts", "none"),
    (PeerBug::RankByIdFirst, "zab", "crash,partition"),
    (PeerBug::CommitBeforeLog, "2pc", "cut off, then dead"),
    (PeerBug::AbortWhenUncertain, "2pc", "loss"),
    (PeerBug::CommitUnprepared, "3pc", "cut off, then dead"),
    (PeerBug::TryAfterCancel, "tcc", "loss,duplicate,reorder"),
    (PeerBug::ConfirmAgain, "tcc", "duplicate"),
    (PeerBug::SkipCompensation, "saga-backward", "none"),
    (PeerBug::DeliverHalf, "reliable-message", "none"),
    (PeerBug::SuspectForEver, "heartbeat", "crash"),
    (PeerBug::SuspectForEver, "phi-accrual", "crash"),
    (PeerBug::DeafToRefutation, "swim", "crash"),
    (PeerBug::GrantDuringLease, "lease", "none"),
    (PeerBug::AcknowledgeAlone, "synchronous", "partition,crash"),
    (PeerBug::AcknowledgeAlone, "semi-one", "partition,crash"),
    (PeerBug::PromoteUnheard, "semi-majority", "crash,loss"),
    (PeerBug::ReadFirst, "quorum-majority", "partition"),
    (PeerBug::CountHints, "quorum-majority", "partition"),
    (PeerBug::StayWithHalf, "keep-majority", "halves"),
    (PeerBug::KeepRumour, "ring-neighbours", "none"),
    (PeerBug::BelievePrimary, "pbft", "liar"),
    (PeerBug::ForgetVote, "raft", "two stand, one forgets"),
    (PeerBug::ForgetPromise, "paxos", "none"),
    (PeerBug::LeadUnheard, "multi-paxos", "chosen, then dead"),
    (PeerBug::TakeAnyChain, "proof-of-work", "apart"),
    (PeerBug::CountBlocks, "delegates", "apart"),
    (PeerBug::CountHeardVotes, "delegates", "votes apart"),
    (PeerBug::DecideAtOnce, "coin-age", "apart"),
    (PeerBug::SkipRefusedStep, "saga-forward", "none"),
    (PeerBug::CountHints, "quorum-write-all", "partition"),
    (PeerBug::ReadFirst, "quorum-write-one", "partition"),
    (PeerBug::StayWithHalf, "static-quorum", "halves"),
    (PeerBug::StayAlone, "keep-oldest", "isolate"),
    (PeerBug::NameAgain, "arbiter", "referee between"),
    (PeerBug::NameAgain, "lease-majority", "referee between"),
    (PeerBug::HearOneRumour, "push", "slow"),
    (PeerBug::HearOneRumour, "pull", "slow"),
    (PeerBug::HearOneRumour, "push-pull", "slow"),
    (PeerBug::KeepOldAnswers, "cristian", "clock"),
    (PeerBug::KeepOldAnswers, "berkeley", "clock"),
    (PeerBug::TellUnwritten, "2pc-replicated", "one-way"),
];

#[cfg(debug_assertions)]
#[test]
fn planted_bugs_of_algorithms_are_found() {
    use base::planted::{Bug, plant};
    const SEEDS_MAX: u64 = 400;
    let mut missed = Vec::new();
    for (bug, name, faults) in BUGS {
        let nodes = match bug {
            // Two sets of voters shall meet in one peer only.
            PeerBug::ForgetVote => 3,
            // Not everybody shall be a neighbour.
            PeerBug::KeepRumour => 8,
            _ => 4,
        };
        let found = (1..=SEEDS_MAX).find_map(|seed| {
            plant(Some(Bug::Peer(*bug)));
            let with = run(name, faults, nodes, seed);
            plant(None);
            wrong(&with).cloned().map(|why| (seed, why))
        });
        match found {
            None => missed.push(format!("{bug:?} of {name} was not found")),
            Some((seed, why)) => {
                println!("{bug:?} of {name}: seed {seed}: {why}");
                if let Some(why) = wrong(&run(name, faults, nodes, seed)) {
                    missed.push(format!(
                        "{name} fails without {bug:?} too, seed {seed}: {why}"
                    ));
                }
            }
        }
    }
    assert!(missed.is_empty(), "{}", missed.join("\n"));
}

fn bounds(nodes: usize, crashes: u8, losses: u8, timers: u8) -> Bounds {
    Bounds {
        nodes,
        losses,
        crashes,
        timers,
        fifo: true,
        states: 60_000,
    }
}

/// A sample of what `althing lab search` looks at.
fn few(nodes: usize, crashes: u8, losses: u8, timers: u8) -> Bounds {
    Bounds {
        states: 15_000,
        ..bounds(nodes, crashes, losses, timers)
    }
}

#[test]
fn small_groups_searched_hold_in_every_order_of_events() {
    for (name, bounds, whole) in [
        ("centralized", bounds(3, 0, 0, 0), true),
        ("centralized", bounds(2, 1, 1, 1), false),
        ("lamport", bounds(2, 0, 0, 0), true),
        ("lamport", bounds(3, 0, 0, 0), false),
        ("ricart-agrawala", bounds(3, 0, 0, 0), true),
        ("majority", bounds(3, 0, 0, 0), false),
        ("maekawa", bounds(3, 0, 0, 0), false),
        ("2pc", bounds(3, 1, 0, 1), true),
        ("2pc", bounds(3, 1, 1, 1), false),
        ("tcc", bounds(3, 1, 0, 0), false),
        ("bully", bounds(2, 1, 0, 1), false),
        ("chang-roberts", bounds(3, 0, 0, 0), false),
        ("lease", few(2, 0, 0, 0), false),
        ("token-ring", few(3, 0, 0, 1), false),
        ("weighted-token-ring", few(3, 0, 0, 1), false),
        ("regenerating-token-ring", few(3, 0, 0, 0), false),
        ("two-level-token-ring", few(4, 0, 0, 0), false),
        ("chang-roberts", bounds(3, 0, 0, 0), true),
        ("zab", bounds(3, 0, 0, 0), true),
        ("zab", few(3, 1, 0, 1), false),
        ("pbft", few(4, 0, 0, 0), false),
        ("multi-paxos", few(3, 1, 0, 2), false),
        ("zab", few(2, 0, 0, 1), false),
        ("3pc", few(3, 1, 0, 0), false),
        ("synchronous", few(2, 1, 0, 1), false),
        ("semi-one", few(3, 1, 0, 1), false),
        ("quorum-majority", few(3, 0, 1, 0), false),
        ("paxos", few(3, 0, 0, 1), false),
    ] {
        let search = find(name)
            .expect("an algorithm")
            .search
            .expect("can be searched");
        let finding = search(&bounds);
        assert!(
            finding.violation.is_none(),
            "{name}: {:?}",
            finding.violation
        );
        assert!(finding.whole || !whole, "{name}: {} states", finding.states);
    }
}

/// What the headers say is not promised, found by the search: the path is the shortest there is.
#[test]
fn search_finds_the_shortest_path_to_what_is_not_promised() {
    let search = |name: &str, bounds: &Bounds| {
        let search = find(name)
            .expect("an algorithm")
            .search
            .expect("can be searched");
        search(bounds).violation.expect(name)
    };
    // Messages that overtake each other let two in.
    let unordered = Bounds {
        fifo: false,
        ..bounds(3, 0, 0, 0)
    };
    let (wrong, path) = search("lamport", &unordered);
    assert!(wrong.contains("enters while node 1 is inside"), "{wrong}");
    assert_eq!(path.len(), 7, "{path:#?}");
    // Two messages that do not get through are a partition: one side commits, the other does not.
    let (wrong, path) = search("3pc", &bounds(3, 0, 2, 3));
    assert!(wrong.contains("transaction 1, which node"), "{wrong}");
    assert!(path.len() <= 16, "{path:#?}");
}
