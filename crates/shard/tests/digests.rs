//! Digests in the log: a replica whose state differs from its leader's finds out.

#[allow(dead_code)] // The rig serves several tests; each uses its part.
mod rig;

use base::Stamp;
use bytes::Bytes;
use coordination::{Command, Envelope, Origin, Unit};
use journal::{Frame, Journal, JournalConfig, Recovery};
use replication::raft::{Change, Membership};
use rig::{Net, Node, SHARD, place};
use shard::{Batch, DataUnit};

/// An empty log's state.
fn empty_state() -> u64 {
    let mut node = Node::bootstrap(1);
    node.settle();
    node.digest()
}

/// A replica whose journal holds these batches from index 2 on, all of term 1, in a group of `voters`.
fn replica(id: u64, voters: &[u64], batches: impl Iterator<Item = Vec<u8>>) -> Node {
    let mut membership = Membership::single(place(voters[0]));
    for voter in &voters[1..] {
        membership.conf.voters.push(*voter);
        membership.replicas.insert(place(*voter).id, place(*voter));
    }
    let mut journal = Journal::new(&Recovery::new().finish(), JournalConfig::default());
    let mark = Frame::Mark {
        replica: place(id).id,
        index: 1,
        term: 1,
        conf: Bytes::from(membership.to_bytes()),
    };
    journal.append(SHARD, mark);
    for (index, data) in (2..).zip(batches) {
        let entry = Frame::Entry {
            index,
            term: 1,
            kind: 0,
            context: Bytes::new(),
            data: Bytes::from(data),
        };
        journal.append(SHARD, entry);
    }
    let mut node = Node::bootstrap(id);
    node.journal = journal;
    node.write_journal();
    node.restart()
}

fn units(units: &[Bytes]) -> Vec<u8> {
    Batch::encode(Stamp::default(), None, units)
}

/// A lone voter's disk whose log tells this digest of entry 256.
fn log_with_digest(digest: u64) -> Node {
    let told = Batch::encode(Stamp::default(), Some((256, digest)), &[]);
    let batches = (2..=256).map(|_| units(&[])).chain([told]);
    replica(1, &[1], batches)
}

#[test]
fn digest_in_the_log_that_differs_silences() {
    let mut node = log_with_digest(empty_state() ^ 1);
    node.settle();
    assert!(node.said_silent());
    let fault = node.shard.fault().expect("it has one");
    assert!(fault.contains("differs"), "{fault}");
    assert_eq!(node.shard.applied(), 256);
}

#[test]
fn digest_in_the_log_that_agrees_is_passed() {
    let mut node = log_with_digest(empty_state());
    node.settle();
    node.tick();
    node.settle();
    assert_eq!(node.shard.fault(), None);
    // Behind it stand the new term's first entry and the digest there.
    assert_eq!(node.shard.applied(), 259);
}

fn open_session(timeout_ms: u32) -> Bytes {
    let command = Command::OpenSession {
        origin: Origin::default(),
        password: [7; 16],
        timeout_ms,
    };
    let envelope = Envelope::default();
    DataUnit::Coordination(Unit { envelope, command }).encode()
}

/// Three voters with logs of 9 entries, the third with this in the place of one unit.
fn three(third: u32) -> Net {
    let mut net = Net::default();
    for id in 1..=3 {
        let timeout_ms = |n| if id == 3 && n == 4 { third } else { 10_000 };
        let batches = (0..8).map(|n| units(&[open_session(timeout_ms(n))]));
        net.nodes.insert(id, replica(id, &[1, 2, 3], batches));
    }
    net
}

fn silent(net: &Net) -> Vec<u64> {
    let silent = net.nodes.iter().filter(|(_, n)| n.shard.fault().is_some());
    silent.map(|(id, _)| *id).collect()
}

#[test]
fn replica_that_differs_is_found_when_the_first_leader_is_elected() {
    let mut net = three(20_000);
    net.cut_off = vec![3];
    net.tick(100);
    assert_eq!(silent(&net), [0u64; 0]);
    net.cut_off.clear();
    net.tick(20);
    assert_eq!(silent(&net), [3]);
    let fault = net.node(3).shard.fault().expect("it has one");
    assert!(fault.contains("differs"), "{fault}");
}

#[test]
fn replicas_that_agree_go_on_through_changes_of_leader() {
    let mut net = three(10_000);
    net.tick(100);
    for to in [1, 2, 3, 1] {
        let leader = net.nodes.values_mut().find(|n| n.shard.is_leader());
        let leader = &mut leader.expect("one leads").shard;
        if leader.replica() == place(to).id {
            continue;
        }
        let applied = leader.applied();
        leader.transfer_leader(place(to).id);
        net.tick(20);
        assert!(net.node(to).shard.is_leader());
        // The new term's first entry, and the digest there.
        assert_eq!(net.node(to).shard.applied(), applied + 2);
        assert_eq!(silent(&net), [0u64; 0]);
    }
}

#[test]
fn newcomer_filled_by_a_snapshot_passes_digests_of_what_it_did_not_apply() {
    let mut net = Net::default();
    let mut leader = Node::bootstrap(1);
    leader.settle();
    assert!(leader.open_session());
    net.nodes.insert(1, leader);
    net.nodes.insert(2, Node::create(2));
    let change = [Change::AddLearner(place(2))];
    assert!(net.node(1).shard.propose_membership(&change));
    net.tick(50);
    assert_eq!(silent(&net), [0u64; 0]);
    assert_eq!(net.nodes[&2].digest(), net.nodes[&1].digest());
}
