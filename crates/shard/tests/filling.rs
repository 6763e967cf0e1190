//! Several replicas: filling one that is far behind, membership, hand-over.

#[allow(dead_code)] // The rig serves several tests; each uses its part.
mod rig;

use base::ReplicaId;
use replication::raft::Change;
use rig::{Net, Node, place};
use shard::ShardEvent;

/// A leader with some megabytes of state, its snapshot, and an empty second replica that is to learn.
fn leader_and_newcomer(megabytes: usize) -> Net {
    let mut net = Net::default();
    let mut leader = Node::bootstrap(1);
    leader.settle();
    assert!(leader.open_session());
    leader.settle();
    for i in 0..megabytes * 10 {
        leader.create_node(&format!("/n{i}"), 100_000);
    }
    leader.settle();
    net.nodes.insert(1, leader);
    net.nodes.insert(2, Node::create(2));
    let change = [Change::AddLearner(place(2))];
    assert!(net.node(1).shard.propose_membership(&change));
    net
}

fn caught_up(net: &mut Net) -> bool {
    let (one, two) = (net.node(1).shard.applied(), net.node(2).shard.applied());
    one == two && net.node(1).digest() == net.node(2).digest()
}

#[test]
fn newcomer_is_filled_by_manifest_and_pieces_then_by_the_log() {
    let mut net = leader_and_newcomer(3);
    net.settle();
    net.tick(20);
    assert!(caught_up(&mut net));
    assert!(net.pieces >= 3, "{} pieces", net.pieces);
    assert!(net.node(2).shard.snapshot_index() > 0, "the file is kept");
    let before = net.pieces;
    net.node(1).create_node("/behind", 10);
    net.settle();
    net.tick(5);
    assert!(caught_up(&mut net));
    assert_eq!(net.pieces, before, "by the log alone");
}

#[test]
fn newcomer_resumes_where_a_piece_was_lost() {
    let mut whole = leader_and_newcomer(3);
    whole.settle();
    whole.tick(20);
    let needed = whole.pieces;

    let mut net = leader_and_newcomer(3);
    net.pieces_to_lose = 1;
    net.settle();
    net.tick(50);
    assert!(
        !caught_up(&mut net),
        "the piece is asked for again after a second"
    );
    net.tick(100);
    assert!(caught_up(&mut net));
    assert_eq!(
        net.pieces, needed,
        "no piece was sent twice but the lost one"
    );
}

#[test]
fn rotten_snapshot_of_the_leader_is_not_installed_and_the_next_is() {
    let mut net = leader_and_newcomer(2);
    while net.node(1).shard.snapshot_index() == 0 {
        net.tick(1);
        net.pieces_to_lose = usize::MAX;
    }
    let file = net.node(1).disk.snapshots()[0];
    net.node(1).disk.flip(file);
    net.pieces_to_lose = 0;
    net.tick(1_000);
    assert!(net.pieces > 0, "it was sent");
    assert_eq!(
        (
            net.node(2).shard.applied(),
            net.node(2).shard.snapshot_index()
        ),
        (0, 0)
    );
    net.node(1).create_node("/new", 1);
    net.settle();
    net.node(1).shard.request_snapshot();
    net.settle();
    net.tick(2_000);
    assert!(caught_up(&mut net));
}

#[test]
fn newcomer_filled_and_restarted_has_what_it_had() {
    let mut net = leader_and_newcomer(2);
    net.settle();
    net.tick(20);
    let digest = net.node(2).digest();
    let two = net.nodes.remove(&2).unwrap().restart();
    net.nodes.insert(2, two);
    net.node(2).settle();
    assert_eq!(net.node(2).digest(), digest);
    net.tick(20);
    assert!(caught_up(&mut net));
}

#[test]
fn learner_promoted_makes_a_quorum_of_two() {
    let mut net = leader_and_newcomer(1);
    net.settle();
    net.tick(20);
    let change = [Change::Promote(ReplicaId(2))];
    assert!(net.node(1).shard.propose_membership(&change));
    net.settle();
    net.tick(5);
    let applied = net.node(1).shard.applied();
    net.cut_off = vec![2];
    net.node(1).create_node("/waits", 1);
    net.settle();
    assert_eq!(
        net.node(1).shard.applied(),
        applied,
        "one of two is no majority"
    );
    net.cut_off.clear();
    net.tick(20);
    assert!(caught_up(&mut net));
    assert!(net.node(1).shard.applied() > applied);
}

#[test]
fn barrier_of_a_leader_without_its_majority_is_not_reached() {
    let mut net = leader_and_newcomer(1);
    net.settle();
    net.tick(20);
    let change = [Change::Promote(ReplicaId(2))];
    assert!(net.node(1).shard.propose_membership(&change));
    net.settle();
    net.tick(5);
    net.cut_off = vec![2];
    net.node(1).shard.request_barrier(7);
    net.settle();
    net.tick(10);
    let reached = |net: &mut Net| net.node(1).told.contains(&ShardEvent::Barrier(7));
    assert!(net.node(1).shard.is_leader(), "it does not know yet");
    assert!(!reached(&mut net));
    net.cut_off.clear();
    net.tick(30);
    assert!(reached(&mut net), "it is asked again");
}

#[test]
fn leadership_handed_over_is_taken_up_and_goes_on() {
    let mut net = leader_and_newcomer(1);
    net.settle();
    net.tick(20);
    let change = [Change::Promote(ReplicaId(2))];
    assert!(net.node(1).shard.propose_membership(&change));
    net.settle();
    net.tick(5);
    net.node(1).shard.transfer_leader(ReplicaId(2));
    net.settle();
    assert!(net.node(2).shard.is_leader());
    assert!(!net.node(1).open_session(), "the old one takes nothing");
    assert!(net.node(2).open_session());
    net.settle();
    net.tick(5);
    assert!(caught_up(&mut net));
}

#[test]
fn removed_replica_is_out_of_the_membership() {
    let mut net = leader_and_newcomer(1);
    net.settle();
    net.tick(20);
    let change = [Change::Remove(ReplicaId(2))];
    assert!(net.node(1).shard.propose_membership(&change));
    net.settle();
    let members = net.node(1).shard.group().unwrap().membership().clone();
    assert!(!members.contains(ReplicaId(2)));
}
