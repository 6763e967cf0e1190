//! The life of one replica over its journal: what is told when, and what a restart gets back.

#[allow(dead_code)] // The rig serves several tests; each uses its part.
mod rig;

use bytes::Bytes;
use replication::raft::Role;
use rig::Node;
use shard::ShardEvent;

fn with_session() -> Node {
    let mut node = Node::bootstrap(1);
    node.settle();
    assert!(node.open_session());
    node.settle();
    node
}

#[test]
fn lone_voter_bootstrapped_or_restarted_leads_at_once() {
    let mut node = Node::bootstrap(1);
    node.settle();
    assert_eq!(node.shard.group().unwrap().role(), Role::Leader);
    let mut node = node.restart();
    node.settle();
    assert_eq!(node.shard.group().unwrap().role(), Role::Leader);
    assert_eq!(node.now.mono_us, 1_000_000, "without a tick");
}

#[test]
fn proposal_not_yet_synced_is_neither_applied_nor_told() {
    let mut node = with_session();
    let (digest, told) = (node.digest(), node.opened());
    node.disk_stands = true;
    assert!(node.open_session());
    node.settle();
    assert_eq!((node.digest(), node.opened()), (digest, told));
    node.disk_stands = false;
    node.settle();
    assert_ne!(node.digest(), digest);
    assert_eq!(node.opened(), told + 1);
}

#[test]
fn unsynced_proposal_is_gone_after_power_is_lost() {
    let mut node = with_session();
    let digest = node.digest();
    node.disk_stands = true;
    assert!(node.open_session());
    node.settle();
    let mut node = node.restart();
    node.settle();
    assert_eq!(node.digest(), digest);
}

#[test]
fn restart_recovers_the_same_state_again_and_again() {
    let mut node = with_session();
    for i in 0..50 {
        node.create_node(&format!("/n{i}"), i);
        if i % 7 == 0 {
            node.settle();
        }
    }
    node.settle();
    let (digest, count) = (node.digest(), node.node_count());
    for _ in 0..3 {
        node = node.restart();
        node.settle();
        assert_eq!((node.digest(), node.node_count()), (digest, count));
    }
    assert!(node.open_session(), "and it goes on");
    node.settle();
    assert_ne!(node.digest(), digest);
}

#[test]
fn restart_before_anything_was_synced_in_this_run_loses_nothing() {
    let mut node = with_session();
    let digest = node.digest();
    for _ in 0..3 {
        // The new run's first segment never reaches the disk.
        node.disk_stands = true;
        node.settle();
        node = node.restart();
    }
    node.settle();
    assert_eq!(node.digest(), digest);
}

fn fill(node: &mut Node, from: usize, to: usize) {
    for i in from..to {
        node.create_node(&format!("/n{i}"), 10_000);
    }
}

#[test]
fn snapshot_taken_while_units_are_applied_recovers_with_the_log_behind_it() {
    let mut node = with_session();
    fill(&mut node, 0, 200);
    node.settle();
    node.shard.request_snapshot();
    let mut written = 0;
    while node.shard.snapshot_index() == 0 {
        node.create_node(&format!("/late{written}"), 100);
        // Parts that the snapshot has visited already, and parts that it has not.
        node.set_node(&format!("/n{}", written * 37 % 200), b"changed");
        node.set_node(&format!("/n{}", 199 - written % 200), b"changed");
        node.step();
        written += 1;
        assert!(written < 1_000, "the snapshot is never done");
    }
    assert!(written > 5, "units were applied between its pieces");
    let cut = node.shard.snapshot_index();
    assert!(cut < node.shard.applied(), "the cut lies before them");
    node.settle();
    let (digest, applied) = (node.digest(), node.shard.applied());
    assert!((node.told.iter()).any(|e| *e == ShardEvent::SnapshotTaken(cut)));

    let mut node = node.restart();
    node.settle();
    assert_eq!(node.digest(), digest);
    assert_eq!(node.shard.snapshot_index(), cut);
    // Behind the recovered log stand the new term's first entry and the digest there.
    assert_eq!(node.shard.applied(), applied + 2);
}

#[test]
fn power_lost_while_a_snapshot_is_taken_leaves_the_one_before() {
    let mut node = with_session();
    fill(&mut node, 0, 100);
    node.settle();
    node.shard.request_snapshot();
    node.settle();
    let cut = node.shard.snapshot_index();
    fill(&mut node, 100, 200);
    node.settle();
    node.shard.request_snapshot();
    for _ in 0..4 {
        node.step();
    }
    assert_eq!(node.shard.snapshot_index(), cut, "the next is under way");
    let digest = node.digest();
    let mut node = node.restart();
    node.settle();
    assert_eq!((node.digest(), node.shard.snapshot_index()), (digest, cut));
}

#[test]
fn rotten_snapshot_makes_the_replica_silent() {
    let mut node = with_session();
    fill(&mut node, 0, 20);
    node.shard.request_snapshot();
    node.settle();
    let file = node.disk.snapshots()[0];
    node.disk.flip(file);
    let mut node = node.restart();
    node.settle();
    assert!(node.said_silent());
    let fault = node.shard.fault().expect("it has one");
    assert!(fault.contains("snapshot is rotten"), "{fault}");
    assert!(!node.open_session(), "and takes nothing");
    let sent = |e: &ShardEvent| matches!(e, ShardEvent::Send(_));
    assert!(!node.told.iter().any(sent), "and sends nothing");
}

#[test]
fn unknown_command_silences_rather_than_being_skipped() {
    let mut node = with_session();
    assert!(
        node.shard
            .propose(Bytes::from_static(b"from a later release"))
    );
    assert!(node.open_session());
    node.settle();
    assert!(node.said_silent());
    let fault = node.shard.fault().expect("it has one");
    assert!(fault.contains("unknown command"), "{fault}");
    assert_eq!(node.opened(), 1, "what stands behind it is not applied");
}

#[test]
fn barrier_is_reached_behind_what_was_proposed_before_it() {
    let mut node = with_session();
    node.told.clear();
    assert!(node.open_session());
    node.settle();
    node.shard.request_barrier(42);
    node.settle();
    let at = |wanted: &ShardEvent| node.told.iter().position(|e| e == wanted);
    assert!(at(&ShardEvent::Barrier(42)).is_some());
    assert_eq!(node.opened(), 1);
}
