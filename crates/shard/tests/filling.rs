//! Several replicas: filling one that is far behind, membership, hand-over.

#[allow(dead_code)] // The rig serves several tests; each uses its part.
mod rig;

use base::{ReplicaId, State};
use replication::raft::Change;
use rig::{Net, Node, place};
use shard::ShardEvent;
use shard::follow::Followed;

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

// --- following another cluster ---

/// The primary's entries that the stand-by lacks, proposed there. False when they are in a snapshot only.
fn follow(primary: &mut Node, standby: &mut Node) -> bool {
    let next = standby.shard.source().index.max(1) + 1;
    let Some(entries) = primary.shard.committed_from(next, 1 << 20) else {
        return false;
    };
    let commit = primary.shard.applied();
    for (index, data) in entries {
        let entry = Followed::Entry {
            index,
            commit,
            data,
        };
        assert!(standby.shard.propose_followed(&entry));
    }
    standby.settle();
    true
}

fn tree_digest(node: &Node) -> u64 {
    let data = node.shard.machine().data();
    data.expect("the tree's shard").coordination.digest()
}

fn primary() -> Node {
    let mut primary = Node::bootstrap(1);
    primary.settle();
    assert!(primary.open_session());
    primary.settle();
    for i in 0..30 {
        primary.create_node(&format!("/n{i}"), 100_000);
        primary.settle();
    }
    primary
}

#[test]
fn standby_has_the_primarys_state_and_what_is_repeated_changes_nothing() {
    let mut primary = primary();
    let mut standby = Node::bootstrap(2);
    standby.settle();
    standby.shard.set_follows(true);
    assert!(!standby.open_session(), "it proposes nothing of its own");
    while standby.shard.source().index < primary.shard.applied() {
        assert!(follow(&mut primary, &mut standby));
    }
    assert_eq!(tree_digest(&standby), tree_digest(&primary));
    let late = Followed::Entry {
        index: 5,
        commit: 5,
        data: bytes::Bytes::from_static(b"not even an entry"),
    };
    assert!(standby.shard.propose_followed(&late));
    standby.settle();
    assert_eq!(tree_digest(&standby), tree_digest(&primary));
    // It knows how far it is when it starts again, from its log and from its snapshot.
    for with_snapshot in [false, true] {
        if with_snapshot {
            standby.shard.request_snapshot();
            standby.settle();
            assert!(standby.shard.snapshot_index() > 0);
        }
        standby = standby.restart();
        standby.settle();
        let at = standby.shard.source().index;
        assert_eq!(at, primary.shard.applied(), "{with_snapshot}");
        assert_eq!(tree_digest(&standby), tree_digest(&primary));
    }
}

#[test]
fn promoted_standby_takes_no_entry_of_the_old_primary_any_more() {
    let mut primary = primary();
    let mut standby = Node::bootstrap(2);
    standby.settle();
    standby.shard.set_follows(true);
    while standby.shard.source().index < primary.shard.applied() {
        assert!(follow(&mut primary, &mut standby));
    }
    standby.shard.set_follows(false);
    assert!(standby.open_session());
    standby.settle();
    let own = tree_digest(&standby);
    assert_ne!(own, tree_digest(&primary));
    primary.create_node("/late", 10);
    primary.settle();
    assert!(follow(&mut primary, &mut standby));
    assert_eq!(tree_digest(&standby), own);
}

#[test]
fn standby_is_filled_by_a_snapshot_that_passes_through_its_log() {
    let mut primary = primary();
    primary.shard.request_snapshot();
    primary.settle();
    let index = primary.shard.snapshot_index();
    primary = primary.restart();
    primary.settle();
    let mut standby = Node::bootstrap(2);
    standby.settle();
    standby.shard.set_follows(true);
    assert!(!follow(&mut primary, &mut standby), "a snapshot only");
    let mut offset = 0;
    while standby.shard.source().index < index {
        primary.told.clear();
        let (now, to) = (primary.now, base::NodeId(2));
        let journal = &mut primary.journal;
        (primary.shard).handle_fetch(now, to, index, offset, 256 << 10, journal);
        primary.settle();
        let piece = primary.told.iter().find_map(|event| match event {
            ShardEvent::Piece { piece, .. } => Some(piece.clone()),
            _ => None,
        });
        let piece = piece.expect("a piece");
        offset += piece.bytes.len() as u64;
        let piece = Followed::Piece {
            index,
            offset: piece.offset,
            is_last: offset >= piece.total,
            bytes: piece.bytes,
        };
        assert!(standby.shard.propose_followed(&piece));
        standby.settle();
        // What is half here survives a restart.
        if offset == 512 << 10 {
            standby = standby.restart();
            standby.settle();
            assert_eq!(standby.shard.staged(), Some((index, offset)));
        }
    }
    while standby.shard.source().index < primary.shard.applied() {
        assert!(follow(&mut primary, &mut standby));
    }
    assert_eq!(tree_digest(&standby), tree_digest(&primary));
}
