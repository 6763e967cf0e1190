//! Figures and stories of the notes and of the papers, told by the algorithms themselves.
//!
//! Counting rule: sends to oneself do not count, sends to dead peers do. Heartbeats are not counted:
//! where there are any, the algorithm is run without them.

use base::peer::{Peer, PeerId};
use cluster::spread::{Spread, Way};
use coordination::election::bully::{Bully, Prefer};
use coordination::election::ring::ChangRoberts;
use coordination::election::zab::Zab;
use coordination::mutex::{
    centralized::Centralized, lamport::Lamport, maekawa, maekawa::Maekawa, majority::Majority,
    ricart_agrawala::RicartAgrawala, token_ring::TokenRing,
};
use lab::peers::fields::agreement::{Agreement, Asking};
use lab::peers::fields::commit::{Commit, Promise};
use lab::peers::fields::election::Election;
use lab::peers::fields::mutex::{Mutex, Users};
use lab::peers::fields::rumours::Rumours;
use lab::peers::raft::Raft;
use lab::peers::registry::{find, quorum};
use lab::peers::replicated_commit::ReplicatedTwoPhase;
use lab::peers::script::read_script;
use lab::peers::simulation::{Outcome, Pace, Plan, What, run};
use lab::peers::study::{self, Downtimes};
use ledger::multi_paxos::MultiPaxos;
use ledger::pbft::Pbft;
use replication::copies::quorum::{Choice, Counts};
use std::collections::{BTreeMap, BTreeSet};
use transactions::commit::three_phase::ThreePhase;
use transactions::commit::two_phase::TwoPhase;

fn plan(nodes: usize, seed: u64, until_ms: u64, script: &str) -> Plan {
    let script = read_script(script, nodes).expect("a script");
    Plan {
        nodes,
        seed,
        script,
        until_ms,
        pace: Pace::default(),
        keep: true,
    }
}

fn users(who: Vec<PeerId>, entries: u64, think_us: u64) -> Mutex {
    Mutex::new(Users {
        who,
        resources: 1,
        stay_us: 15_000,
        think_us,
        entries,
        from_us: 10_000,
    })
}

/// Messages of `entries` entries of each of `who`.
fn messages<P>(nodes: usize, who: Vec<PeerId>, entries: u64, think_us: u64) -> Outcome
where
    P: Peer<Request = coordination::mutex::Request, Decision = coordination::mutex::Decision>,
{
    let plan = plan(nodes, 3, 600_000, "");
    let outcome = run(
        &plan,
        &|me| P::new(me, nodes),
        users(who.clone(), entries, think_us),
    );
    assert_eq!(outcome.unsafe_, Vec::<String>::new());
    assert_eq!(outcome.figures["entries"], [entries * who.len() as u64]);
    outcome
}

#[test]
fn m03_centralized_three_messages_an_entry() {
    for nodes in [3, 5, 9] {
        // The coordinator's own entries cost nothing.
        let who: Vec<PeerId> = (2..=nodes).collect();
        let entries = 10 * who.len() as u64;
        let outcome = messages::<Centralized>(nodes, who, 10, 50_000);
        assert_eq!(outcome.sent, 3 * entries);
    }
    assert_eq!(messages::<Centralized>(5, vec![1], 10, 50_000).sent, 0);
}

#[test]
fn m03_distributed_two_n_less_one_messages_an_entry() {
    for nodes in [2, 3, 5, 9] {
        let entries = 10 * nodes as u64;
        let each = nodes as u64 - 1;
        let ricart = messages::<RicartAgrawala>(nodes, (1..=nodes).collect(), 10, 50_000);
        assert_eq!(
            ricart.sent,
            2 * each * entries,
            "Ricart-Agrawala of {nodes}"
        );
        let lamport = messages::<Lamport>(nodes, (1..=nodes).collect(), 10, 50_000);
        // The replies to the last requests may be under way when the last has left.
        assert_eq!(lamport.sent, 3 * each * entries, "Lamport of {nodes}");
    }
}

#[test]
fn m03_voting_three_messages_a_voter_when_alone() {
    for nodes in [3, 7, 9, 13, 21] {
        let others = maekawa::quorum(2, nodes).len() as u64 - 1;
        let alone = messages::<Maekawa>(nodes, vec![2], 10, 50_000);
        assert_eq!(alone.sent, 3 * others * 10, "Maekawa of {nodes}");
        let majority = messages::<Majority>(nodes, vec![2], 10, 50_000);
        let expected = 3 * (nodes as u64 - 1) * 10;
        assert_eq!(majority.sent, expected, "majority of {nodes}");
    }
}

#[test]
fn m03_token_ring_one_message_an_entry_when_all_want_and_n_when_one_does() {
    for nodes in [3, 5, 9] {
        let all = messages::<TokenRing>(nodes, (1..=nodes).collect(), 50, 0);
        let entries = 50 * nodes as u64;
        // Before the first wants to enter, the token goes round for nothing, 10 ms long.
        assert!(
            (entries..=entries + 12).contains(&all.sent),
            "{nodes}: {}",
            all.sent
        );
        let one = messages::<TokenRing>(nodes, vec![2], 50, 0);
        let (each, n) = (one.sent / 50, nodes as u64);
        assert!(
            each == n || one.sent <= 50 * n + 12,
            "{nodes}: {}",
            one.sent
        );
        assert!(one.sent + n >= 50 * n, "{nodes}: {}", one.sent);
    }
}

#[test]
fn m03_token_ring_waits_zero_to_n_less_one_hops() {
    let nodes = 5;
    let outcome = messages::<TokenRing>(nodes, vec![2], 200, 60_000);
    let (mut hops, mut waits) = (None, Vec::new());
    for shown in &outcome.shown {
        match &shown.what {
            What::Asked(text) if text.contains("Acquire") => hops = Some(0),
            What::Sent(..) => hops = hops.map(|n: usize| n + 1),
            What::Decided(_) => waits.extend(hops.take()),
            _ => {}
        }
    }
    assert_eq!(waits.len(), 200);
    assert_eq!(waits.iter().min(), Some(&0));
    assert_eq!(waits.iter().max(), Some(&(nodes - 1)));
}

fn elects<P>(plan: &Plan, make: &dyn Fn(PeerId) -> P) -> Outcome
where
    P: Peer<Request = coordination::election::Request, Decision = coordination::election::Decision>,
{
    let outcome = run(plan, make, Election::new(false));
    assert_eq!(outcome.unsafe_, Vec::<String>::new());
    outcome
}

/// The last leader that each node told of.
fn leaders(outcome: &Outcome, nodes: usize) -> Vec<String> {
    let last = |node| {
        let mut told = outcome
            .shown
            .iter()
            .rev()
            .filter(|shown| shown.node == node);
        told.find_map(|shown| match &shown.what {
            What::Decided(text) if text.contains("Leader") => Some(text.clone()),
            _ => None,
        })
    };
    (1..=nodes)
        .map(|node| last(node).unwrap_or_default())
        .collect()
}

#[test]
fn m04_bully_worst_case_n_squared_less_n_less_one_best_case_n_less_one() {
    for nodes in [3, 5, 8] {
        let suspect = |node: usize| {
            format!(
                "[[fault]]\nat_ms = 0\nkind = \"crash\"\nnode = {nodes}\n\
                 [[fault]]\nat_ms = 10\nkind = \"ask\"\nnode = {node}\nrequest = \"suspect\"\n"
            )
        };
        let make = |me| Bully::settled(me, nodes, nodes);
        let worst = elects(&plan(nodes, 1, 5_000, &suspect(1)), &make);
        assert_eq!(
            worst.sent as usize,
            nodes * nodes - nodes - 1,
            "worst of {nodes}"
        );
        let best = elects(&plan(nodes, 1, 5_000, &suspect(nodes - 1)), &make);
        assert_eq!(best.sent as usize, nodes - 1, "best of {nodes}");
    }
    assert_eq!(5 * 5 - 5 - 1, 19);
}

#[test]
fn m04_bully_elects_the_largest_or_the_smallest_that_lives() {
    let script = "[[fault]]\nat_ms = 0\nkind = \"crash\"\nnode = 5\n\
                  [[fault]]\nat_ms = 0\nkind = \"crash\"\nnode = 1\n";
    for (prefer, winner) in [(Prefer::Largest, 4), (Prefer::Smallest, 2)] {
        let outcome = elects(&plan(5, 1, 5_000, script), &|me| {
            Bully::preferring(me, 5, prefer)
        });
        for node in [2, 3, 4] {
            let told = &leaders(&outcome, 5)[node - 1];
            assert!(
                told.contains(&format!("leader: {winner},")),
                "{node}: {told}"
            );
        }
    }
}

#[test]
fn m04_ring_two_n_less_one_candidacies_at_best_and_the_triangle_at_worst() {
    for nodes in [3, 5, 8] {
        let counts = |ring: Vec<PeerId>| {
            let make = |me| ChangRoberts::on_ring(me, ring.clone(), false);
            let outcome = elects(&plan(nodes, 1, 5_000, ""), &make);
            assert!(
                leaders(&outcome, nodes)
                    .iter()
                    .all(|l| l.contains(&format!("leader: {nodes},")))
            );
            outcome.kinds["Word"] as usize - nodes
        };
        assert_eq!(counts((1..=nodes).collect()), 2 * nodes - 1);
        assert_eq!(counts((1..=nodes).rev().collect()), nodes * (nodes + 1) / 2);
    }
}

#[test]
fn m04_zab_started_together_three_leads() {
    let outcome = elects(&plan(3, 1, 5_000, ""), &|me| Zab::new(me, 3));
    let votes: Vec<(PeerId, &str)> = (outcome.shown.iter())
        .filter_map(|shown| match &shown.what {
            What::Sent(_, _, text) if text.starts_with("Vote") && text.contains("Looking") => {
                Some((shown.node, text.as_str()))
            }
            _ => None,
        })
        .collect();
    // In the first round each votes for itself, 2 messages each.
    for (i, (node, vote)) in votes[..6].iter().enumerate() {
        assert_eq!(*node, i / 2 + 1);
        assert!(
            vote.contains(&format!("zxid: (0, 0), server: {node} }}")),
            "{vote}"
        );
    }
    // Then 1 and 2 vote for 3, and nobody else changes its vote.
    for node in [1, 2] {
        let last = votes
            .iter()
            .rev()
            .find(|(n, _)| *n == node)
            .expect("a vote");
        assert!(last.1.contains("server: 3"), "{}", last.1);
    }
    assert!(
        votes
            .iter()
            .filter(|(n, _)| *n == 3)
            .all(|(_, v)| v.contains("server: 3"))
    );
    let expected = "Leader { leader: 3, term: 1 }";
    assert_eq!(leaders(&outcome, 3), [expected; 3]);
}

#[test]
fn m04_zab_started_one_by_one_two_leads() {
    let script = "[[fault]]\nat_ms = 0\nkind = \"crash\"\nnode = 2\n\
                  [[fault]]\nat_ms = 0\nkind = \"crash\"\nnode = 3\n\
                  [[fault]]\nat_ms = 1000\nkind = \"restart\"\nnode = 2\n\
                  [[fault]]\nat_ms = 3000\nkind = \"restart\"\nnode = 3\n";
    let outcome = elects(&plan(3, 1, 9_000, script), &|me| Zab::new(me, 3));
    assert_eq!(leaders(&outcome, 3), ["Leader { leader: 2, term: 1 }"; 3]);
}

#[test]
fn m04_zab_observer_follows_and_does_not_vote() {
    // With two of three voters dead, the observer makes no majority.
    let script = "[[fault]]\nat_ms = 2000\nkind = \"crash\"\nnode = 1\n\
                  [[fault]]\nat_ms = 2000\nkind = \"crash\"\nnode = 2\n";
    let outcome = elects(&plan(4, 1, 9_000, script), &|me| Zab::new(me, 4));
    let early = |node: PeerId| {
        (outcome.shown.iter()).any(|s| {
            s.node == node
                && s.at_us < 2_000_000
                && matches!(&s.what, What::Decided(t) if t.contains("leader: 3"))
        })
    };
    assert!((1..=4).all(early));
    assert_eq!(leaders(&outcome, 4)[2..], ["Leaderless"; 2]);
}

/// Five nodes, 4 leads; the network splits into {1, 2, 3} and {4, 5}. What 4 takes on its side is never
/// committed, what 1 takes on the other is; on healing 4 steps down, and 4 and 5 drop the one for the other.
#[test]
fn m04_raft_split_brain_heals_to_the_majority() {
    let script = "[[fault]]\nat_ms = 5\nkind = \"ask\"\nnode = 4\nrequest = \"suspect\"\n\
         [[fault]]\nat_ms = 1000\nuntil_ms = 4000\nkind = \"partition\"\nsides = [[1, 2, 3], [4, 5]]\n\
         [[fault]]\nat_ms = 1010\nkind = \"ask\"\nnode = 4\nrequest = \"write 8\"\n\
         [[fault]]\nat_ms = 3000\nkind = \"ask\"\nnode = 1\nrequest = \"write 5\"\n";
    let mut told = 0;
    for seed in 1..=40 {
        let outcome = elects(&plan(5, seed, 9_000, script), &|me| Raft::new(me, 5));
        let before = |node: PeerId, at_us: u64| {
            let mut shown = outcome
                .shown
                .iter()
                .rev()
                .filter(|s| s.node == node && s.at_us < at_us);
            shown.find_map(|s| match &s.what {
                What::Decided(text) if text.contains("Leader {") => Some(text.clone()),
                _ => None,
            })
        };
        // The majority elects whom it will: the story is that of node 1.
        let old = before(4, 1_000_000).expect("a leader");
        let new = before(1, 3_000_000).expect("a leader");
        if !old.contains("leader: 4,") || !new.contains("leader: 1,") {
            continue;
        }
        told += 1;
        let term = |text: &str| text.rsplit(' ').nth(1).and_then(|t| t.parse::<u64>().ok());
        assert!(term(&new) > term(&old), "{new} {old}");
        for node in 1..=5 {
            let applied: Vec<&str> = (outcome.shown.iter().filter(|s| s.node == node))
                .filter_map(|s| match &s.what {
                    What::Decided(text) if text.contains("Applied") => Some(text.as_str()),
                    _ => None,
                })
                .collect();
            assert_eq!(applied.len(), 1, "node {node}: {applied:?}");
            assert!(applied[0].contains("value: 5"), "node {node}: {applied:?}");
        }
        let last = leaders(&outcome, 5);
        assert!(
            last[3].contains("leader: 1,") && last[4] == last[3],
            "{last:?}"
        );
    }
    assert!(told > 0, "node 1 led the majority in none of 40 seeds");
}

fn one_transaction<P>(nodes: usize, script: &str, until_ms: u64) -> Outcome
where
    P: Peer<Request = transactions::commit::Request, Decision = transactions::commit::Decision>,
{
    let plan = plan(nodes, 1, until_ms, script);
    let field = Commit::agreeable(Promise::Atomic, 1);
    run(&plan, &|me| P::new(me, nodes), field)
}

fn decisions(outcome: &Outcome, word: &str) -> usize {
    (outcome.shown.iter())
        .filter(|s| matches!(&s.what, What::Decided(text) if text.starts_with(word)))
        .count()
}

#[test]
fn m06_two_phase_three_n_messages_and_three_phase_five_n() {
    for participants in [1, 4, 10] {
        let n = participants as u64;
        let two = one_transaction::<TwoPhase>(participants + 1, "", 10_000);
        assert_eq!((two.sent, two.kinds["Ack"]), (4 * n, n));
        assert_eq!(decisions(&two, "Committed"), participants + 1);
        let three = one_transaction::<ThreePhase>(participants + 1, "", 10_000);
        assert_eq!(three.sent, 5 * n);
        assert_eq!(decisions(&three, "Committed"), participants + 1);
    }
}

/// The word to commit reaches five of ten participants; then the coordinator dies.
const DIES_HALFWAY: &str = "[[fault]]\nat_ms = 408\nuntil_ms = 2000\nkind = \"one-way\"\nfrom = [1]\nto = [7, 8, 9, 10, 11]\n\
    [[fault]]\nat_ms = 430\nkind = \"crash\"\nnode = 1\n\
    [[fault]]\nat_ms = 3000\nkind = \"restart\"\nnode = 1\n";

#[test]
fn m06_two_phase_coordinator_dies_after_five_commits_the_others_wait_and_end_the_same() {
    let outcome = one_transaction::<TwoPhase>(11, DIES_HALFWAY, 14_000);
    let early = |node: PeerId| {
        (outcome.shown.iter()).any(|s| {
            s.node == node
                && s.at_us < 3_000_000
                && matches!(&s.what, What::Decided(t) if t.starts_with("Committed"))
        })
    };
    assert!((2..=6).all(early) && !(7..=11).any(early));
    assert_eq!(decisions(&outcome, "Committed"), 11);
    assert!(
        outcome.unsafe_.is_empty() && outcome.stalled.is_empty(),
        "{outcome:?}"
    );
}

#[test]
fn m06_three_phase_coordinator_dies_the_others_end_without_it() {
    let outcome = one_transaction::<ThreePhase>(11, DIES_HALFWAY, 14_000);
    let early = |node: PeerId| {
        (outcome.shown.iter()).any(|s| {
            s.node == node
                && s.at_us < 3_000_000
                && matches!(&s.what, What::Decided(t) if t.starts_with("Committed"))
        })
    };
    assert!((2..=11).all(early), "{:?}", outcome.stalled);
    assert!(outcome.unsafe_.is_empty() && outcome.stalled.is_empty());
}

/// The same, and the network splits between those who know of the agreement and those who do not.
#[test]
fn m06_three_phase_partition_mixed_outcome() {
    let script = format!(
        "{DIES_HALFWAY}[[fault]]\nat_ms = 430\nuntil_ms = 6000\nkind = \"partition\"\nsides = [[2, 3, 4, 5, 6], [7, 8, 9, 10, 11]]\n"
    );
    let outcome = one_transaction::<ThreePhase>(11, &script, 16_000);
    let ended = |node: PeerId, word: &str| {
        (outcome.shown.iter()).any(|s| {
            s.node == node
                && s.at_us < 6_000_000
                && matches!(&s.what, What::Decided(t) if t.starts_with(word))
        })
    };
    assert!((2..=6).all(|node| ended(node, "Committed")));
    assert!((7..=11).all(|node| ended(node, "Aborted")));
    assert!(!outcome.unsafe_.is_empty());
    let calm = one_transaction::<TwoPhase>(11, &script, 16_000);
    assert!(
        calm.unsafe_.is_empty() && calm.stalled.is_empty(),
        "2PC waits instead"
    );
}

/// Counted with the user's request, and the reply of each; here the user asks the primary alone.
#[test]
fn m05_pbft_two_n_squared_less_n_plus_one_messages_from_request_to_replies() {
    for (nodes, expected) in [(4, 29), (7, 92), (10, 191)] {
        let ask = "[[fault]]\nat_ms = 100\nkind = \"ask\"\nnode = 1\nrequest = \"propose 1\"\n";
        let make = |me| Pbft::new(me, nodes);
        let outcome = run(
            &plan(nodes, 1, 900, ask),
            &make,
            Agreement::new(Asking::Scripted),
        );
        assert_eq!(outcome.unsafe_, Vec::<String>::new());
        let replies = decisions(&outcome, "Decided");
        assert_eq!(replies, nodes);
        assert_eq!(1 + outcome.sent as usize + replies, expected);
    }
}

#[test]
fn m05_pbft_commits_with_one_liar_of_four_and_refuses_three_nodes() {
    let pbft = find("pbft").expect("an algorithm");
    for how in ["withhold", "equivocate", "forge"] {
        for liar in 1..=4 {
            let script = format!(
                "[[fault]]\nat_ms = 0\nuntil_ms = 8000\nkind = \"lie\"\nnode = {liar}\nhow = \"{how}\"\n"
            );
            let outcome = (pbft.run)(&plan(4, liar as u64, 20_000, &script));
            assert_eq!(outcome.unsafe_, Vec::<String>::new(), "{how} {liar}");
            assert_eq!(outcome.stalled, Vec::<String>::new(), "{how} {liar}");
            assert_eq!(outcome.figures["decided"], [40], "{how} {liar}");
        }
    }
    let three = (pbft.run)(&plan(3, 1, 12_000, ""));
    assert_eq!(decisions(&three, "Refused"), 3);
    assert_eq!((three.sent, three.figures["decided"][0]), (0, 0));
}

/// The primary dies over and over right after it has acknowledged.
fn primaries_die(name: &str, seeds: u64) -> (u64, u64) {
    let algorithm = find(name).expect("an algorithm");
    let (mut acknowledged, mut lost) = (0, 0);
    for seed in 1..=seeds {
        // Cut off from its backups for a moment, then dead: what it acknowledged meanwhile is only there.
        let script = "[[fault]]\nat_ms = 1950\nuntil_ms = 2400\nkind = \"one-way\"\nfrom = [1]\nto = [2, 3, 4, 5]\n\
             [[fault]]\nat_ms = 2200\nkind = \"crash\"\nnode = 1\n\
             [[fault]]\nat_ms = 5000\nkind = \"restart\"\nnode = 1\n";
        let outcome = (algorithm.run)(&plan(5, seed, 15_000, script));
        assert_eq!(outcome.unsafe_, Vec::<String>::new(), "{name}");
        assert_eq!(outcome.stalled, Vec::<String>::new(), "{name}");
        acknowledged += outcome.figures["acknowledged"][0];
        lost += outcome.figures["lost"][0];
        let told = outcome
            .told
            .iter()
            .any(|text| text.contains("lost although"));
        assert_eq!(told, outcome.figures["lost"][0] > 0, "{:?}", outcome.told);
    }
    (acknowledged, lost)
}

#[test]
fn m26_primary_killed_synchronous_and_majority_lose_nothing_asynchronous_names_what_it_lost() {
    for name in ["synchronous", "semi-majority", "semi-one"] {
        let (acknowledged, lost) = primaries_die(name, 20);
        assert!(acknowledged > 1_000, "{name}: {acknowledged}");
        assert_eq!(lost, 0, "{name}");
    }
    let (_, lost) = primaries_die("asynchronous", 20);
    assert!(lost >= 20, "{lost}");
}

#[test]
fn m27_three_copies_which_w_and_r_read_fresh_and_which_let_writes_miss_each_other() {
    for (write, read, fresh, exclusive) in [
        (3, 1, true, true),
        (2, 2, true, true),
        (1, 3, true, false),
        (1, 1, false, false),
        (2, 1, false, true),
    ] {
        let counts = Counts { write, read };
        let algorithm = quorum(Choice::Majority.header(), move |_| counts);
        let (mut stale, mut missed) = (0, 0);
        for seed in 1..=30 {
            let script =
                "[[fault]]\nat_ms = 1000\nuntil_ms = 4000\nkind = \"slow\"\nnode = 3\nby_ms = 60\n";
            let outcome = (algorithm.run)(&plan(3, seed, 14_000, script));
            assert_eq!(outcome.unsafe_, Vec::<String>::new(), "{counts:?}");
            stale += outcome.figures["stale reads"][0];
            missed += outcome.figures["overwritten unseen"][0];
        }
        assert_eq!(stale == 0, fresh, "{counts:?}: {stale} stale reads");
        assert_eq!(missed == 0, exclusive, "{counts:?}: {missed} overwritten");
    }
}

#[test]
fn m08_two_hundred_milliseconds_of_skew_are_told_within_ten() {
    for name in ["cristian", "berkeley"] {
        let algorithm = find(name).expect("an algorithm");
        for seed in 1..=20 {
            let script = "[[fault]]\nat_ms = 1000\nkind = \"clock-step\"\nnode = 3\nby_ms = 200\n";
            let outcome = (algorithm.run)(&plan(5, seed, 14_000, script));
            // The field compares the last words of each with the truth, within 10 ms.
            assert_eq!(outcome.stalled, Vec::<String>::new(), "{name}");
            let said = outcome.shown.iter().rev().find_map(|s| match &s.what {
                What::Decided(text) if s.node == 3 => Some(text.clone()),
                _ => None,
            });
            let said = said.expect("a word of node 3");
            let ms: i64 = said
                .trim_start_matches("Ahead(")
                .trim_end_matches(')')
                .parse()
                .expect("a number");
            let truth = if name == "cristian" { 200 } else { 160 };
            assert!((ms - truth).abs() <= 10, "{name}: {said}");
        }
    }
}

#[test]
fn push_gossip_reaches_all_in_the_sum_of_two_logarithms_of_rounds() {
    for nodes in [16_usize, 64, 100] {
        let plan = Plan {
            keep: false,
            ..plan(nodes, 2, 60_000, "")
        };
        let outcome = run(
            &plan,
            &|me| Spread::by(me, nodes, Way::Push),
            Rumours::new(1),
        );
        let rounds = outcome.figures["rounds"][0] as f64;
        let n = nodes as f64;
        let expected = n.log2() + n.ln();
        assert!(
            (expected - 6.0..expected + 6.0).contains(&rounds),
            "{nodes}: {rounds} rounds, {expected} expected"
        );
    }
}

#[test]
fn one_more_fault_does_not_reshuffle_the_rest() {
    let with = |script: &str| {
        let outcome = run(
            &plan(5, 9, 10_000, script),
            &|me| RicartAgrawala::new(me, 5),
            users((1..=5).collect(), 1_000, 50_000),
        );
        let early = outcome
            .shown
            .into_iter()
            .take_while(|s| s.at_us < 5_000_000);
        early.collect::<Vec<_>>()
    };
    let late = "[[fault]]\nat_ms = 5000\nuntil_ms = 6000\nkind = \"loss\"\npercent = 50\n";
    assert_eq!(with(""), with(late));
    // Nor does a fault that stands before another one in the script.
    let early = "[[fault]]\nat_ms = 100\nuntil_ms = 4000\nkind = \"duplicate\"\npercent = 50\n";
    assert_eq!(with(early), with(&format!("{late}{early}")));
}

fn trials(least_ms: u32, most_ms: u32, count: u64) -> Downtimes {
    let setting = study::Setting::usual(least_ms, most_ms);
    let mut all = Downtimes::new(setting);
    for seed in 1..=count {
        all.add(&study::trial(&setting, seed));
    }
    all.sort();
    assert!(all.discarded * 2 < count, "{} discarded", all.discarded);
    all
}

/// Raft paper, figure 16. `althing lab study raft-elections` has a thousand trials of each.
#[test]
fn raft_election_study_without_randomness_no_leader_and_with_five_milliseconds_287() {
    let none = trials(150, 150, 40);
    assert!(none.leaderless >= 12, "{none:?}");
    let five = trials(150, 155, 150);
    let median = five.ms(500);
    assert!((median - 287.0).abs() < 0.15 * 287.0, "{median}");
    let fifty = trials(150, 200, 60);
    assert!(fifty.ms(500) < 180.0 && fifty.leaderless == 0, "{fifty:?}");
    let short = trials(12, 24, 60);
    assert!(short.ms(500) < 50.0 && short.leaderless == 0, "{short:?}");
}

/// A round trip of two messages a peer under a leader, and a word to all that it is chosen.
#[test]
fn m05_multi_paxos_three_n_less_one_messages_a_value_under_a_leader() {
    for nodes in [3, 5, 7] {
        let ask = |value: u64| {
            let at_ms = 200 + 50 * value;
            format!(
                "[[fault]]\nat_ms = {at_ms}\nkind = \"ask\"\nnode = 1\nrequest = \"propose {value}\"\n"
            )
        };
        let script: String = (1..=10).map(ask).collect();
        let plan = plan(nodes, 1, 900, &script);
        let make = |me| MultiPaxos::new(me, nodes);
        let outcome = run(&plan, &make, Agreement::new(Asking::Scripted));
        assert_eq!(outcome.unsafe_, Vec::<String>::new());
        assert_eq!(decisions(&outcome, "Decided"), 10 * nodes);
        let others = nodes as u64 - 1;
        let of = |kind: &str| outcome.kinds.get(kind).copied().unwrap_or(0);
        assert_eq!((of("Prepare"), of("Promise")), (others, others));
        // Of ten that follow closely two may be offered again by a heartbeat.
        assert_eq!(
            of("Accept").min(11 * others),
            of("Accept"),
            "{:?}",
            outcome.kinds
        );
        assert!(of("Accept") >= 10 * others, "{:?}", outcome.kinds);
    }
}

#[test]
fn m05_chains_by_stake_decide_all_with_one_liar_and_with_a_producer_killed() {
    for name in ["coin-age", "delegates"] {
        let algorithm = find(name).expect("an algorithm");
        for how in ["withhold", "equivocate", "forge"] {
            for liar in 1..=5 {
                let script = format!(
                    "[[fault]]\nat_ms = 0\nuntil_ms = 8000\nkind = \"lie\"\nnode = {liar}\nhow = \"{how}\"\n"
                );
                let outcome = (algorithm.run)(&plan(5, liar as u64, 20_000, &script));
                assert_eq!(outcome.unsafe_, Vec::<String>::new(), "{name} {how} {liar}");
                assert_eq!(outcome.stalled, Vec::<String>::new(), "{name} {how} {liar}");
                assert_eq!(outcome.figures["decided"], [40], "{name} {how} {liar}");
            }
        }
        for dead in 1..=5 {
            let script = format!("[[fault]]\nat_ms = 2000\nkind = \"crash\"\nnode = {dead}\n");
            let outcome = (algorithm.run)(&plan(5, dead as u64, 20_000, &script));
            assert_eq!(outcome.unsafe_, Vec::<String>::new(), "{name} {dead}");
            assert_eq!(outcome.stalled, Vec::<String>::new(), "{name} {dead}");
        }
    }
}

/// Who has made blocks, by slot.
fn makers(outcome: &Outcome) -> BTreeMap<u64, usize> {
    let number = |text: &str, name: &str| -> Option<u64> {
        let rest = &text[text.rfind(name)? + name.len()..];
        rest.split(|c: char| !c.is_ascii_digit())
            .next()?
            .parse()
            .ok()
    };
    (outcome.shown.iter())
        .filter_map(|shown| match &shown.what {
            What::Sent(_, _, text) => {
                let made = (
                    number(text, "slot: ")?,
                    number(text, "producer: ")? as usize,
                );
                (made.1 == shown.node).then_some(made)
            }
            _ => None,
        })
        .collect()
}

#[test]
fn m05_delegate_is_voted_out_while_the_chain_runs_and_its_successor_makes_blocks() {
    let script = include_str!("../../../docs/lab/votes.toml");
    let algorithm = find("delegates").expect("an algorithm");
    for seed in 1..=5 {
        let outcome = (algorithm.run)(&plan(5, seed, 20_000, script));
        assert_eq!(outcome.unsafe_, Vec::<String>::new());
        assert_eq!(outcome.stalled, Vec::<String>::new());
        let mut makers = makers(&outcome);
        // Epochs are of four rounds of four; the votes fall into the first one.
        let after: BTreeSet<usize> = makers.split_off(&32).into_values().collect();
        let before: BTreeSet<usize> = makers.into_values().collect();
        assert_eq!((before, after), ([2, 3, 4, 5].into(), [1, 2, 3, 4].into()));
        let role = |node: usize| {
            let mut last = "";
            for shown in outcome.shown.iter().filter(|shown| shown.node == node) {
                if let What::Role(role) = shown.what {
                    last = role;
                }
            }
            last
        };
        assert_eq!((role(1), role(5)), ("delegate", "standing by"));
    }
}

/// Its coordinators and participants are groups; node 1, where the coordinators' leader is, dies for good at
/// any moment of a transaction.
#[test]
fn m06_replicated_two_phase_goes_on_when_the_coordinator_dies() {
    for dies_ms in 400..460 {
        let script = format!("[[fault]]\nat_ms = {dies_ms}\nkind = \"crash\"\nnode = 1\n");
        let plan = plan(5, dies_ms, 12_000, &script);
        let field = Commit::agreeable(Promise::Replicated, 1);
        let outcome = run(&plan, &|me| ReplicatedTwoPhase::new(me, 5), field);
        assert_eq!(outcome.unsafe_, Vec::<String>::new(), "{dies_ms}");
        assert_eq!(outcome.stalled, Vec::<String>::new(), "{dies_ms}");
    }
}

#[test]
fn m06_replicated_two_phase_messages_of_one_transaction() {
    for participants in [2, 4] {
        let nodes = participants + 1;
        let plan = plan(nodes, 1, 10_000, "");
        let field = Commit::agreeable(Promise::Replicated, 1);
        let outcome = run(&plan, &|me| ReplicatedTwoPhase::new(me, nodes), field);
        assert_eq!(outcome.unsafe_, Vec::<String>::new());
        assert_eq!(decisions(&outcome, "Committed"), nodes);
        let of = |kind: &str| outcome.kinds.get(kind).copied().unwrap_or(0);
        let n = participants as u64;
        let entries = (outcome.shown.iter())
            .filter(|s| matches!(&s.what, What::Sent(_, _, text) if text.contains("Accept(")))
            .count() as u64;
        // Two entries of the coordinators' log and two of each participant's, each sent to two others.
        // A heartbeat may repeat what is under way.
        let least = 2 * (2 + 2 * n);
        assert!(
            (least..=2 * least).contains(&entries),
            "{entries}: {:?}",
            outcome.kinds
        );
        for kind in ["Prepare", "Vote", "Outcome", "Ack"] {
            assert!((2 * n..=3 * n).contains(&of(kind)), "{:?}", outcome.kinds);
        }
    }
}

/// What its header says. What a heartbeat repeats is more than that, so the least of some seeds counts.
#[test]
fn m06_replicated_two_phase_costs_twenty_messages_a_participant() {
    for participants in [2, 3, 4, 6] {
        let nodes = participants + 1;
        let of = |seed| {
            let plan = plan(nodes, seed, 10_000, "");
            let field = Commit::agreeable(Promise::Replicated, 1);
            let outcome = run(&plan, &|me| ReplicatedTwoPhase::new(me, nodes), field);
            let is_counted = |text: &str| {
                let words = ["Prepare(", "Vote(", "Outcome(", "Ack("];
                let is_word = words.iter().any(|word| text.starts_with(word));
                is_word || text.contains(", Accept(") || text.contains(", Accepted(")
            };
            (outcome.shown.iter())
                .filter(|s| matches!(&s.what, What::Sent(_, _, text) if is_counted(text)))
                .count()
        };
        assert_eq!((1..=12).map(of).min(), Some(20 * participants));
    }
}
