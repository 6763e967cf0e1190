//! One step at a time from the membership that a group has to the one that the catalog wants.

use base::{LogIndex, NodeId, ReplicaId};
use catalog::VOTERS_MAX;
use replication::raft::{Change, Membership, Progress, Replica};
use std::collections::BTreeMap;

/// A learner this close to the leader's log may be promoted.
const CAUGHT_UP_ENTRIES: u64 = 1_000;

/// The next membership change that a leader should propose, empty when nothing is left to do.
///
/// New replicas come in as learners first. Promotions of those that have caught up and removals of the
/// unwanted go together, through one joint configuration. The leader never removes itself here.
///
/// The leader's catalog may be old. That an id is not wanted means something only when the catalog has
/// given it out (it is below `next_replica`): then it was withdrawn, for ever. On a node that may not vote a
/// replica stays a learner.
pub fn next_changes(
    me: ReplicaId,
    membership: &Membership,
    (wanted, next_replica): (&BTreeMap<ReplicaId, NodeId>, u64),
    address_of: impl Fn(NodeId) -> Option<String>,
    may_vote: impl Fn(NodeId) -> bool,
    progress: &[Progress],
    last: LogIndex,
) -> Vec<Change> {
    for (id, node) in wanted {
        if !membership.contains(*id)
            && let Some(address) = address_of(*node)
        {
            let replica = Replica {
                id: *id,
                node: *node,
                address,
            };
            return vec![Change::AddLearner(replica)];
        }
    }
    let mut changes = Vec::new();
    let mut voters = membership.conf.voters.len();
    for id in membership.replicas.keys() {
        let withdrawn = !wanted.contains_key(id) && id.0 < next_replica;
        if withdrawn && *id != me {
            changes.push(Change::Remove(*id));
            voters -= usize::from(membership.is_voter(*id));
        }
    }
    for id in &membership.conf.learners {
        let caught_up = progress.iter().any(|p| {
            let filled = p.matched > 0 && !p.in_snapshot;
            p.replica.0 == *id && p.recent_active && filled && p.matched + CAUGHT_UP_ENTRIES >= last
        });
        let is_wanted = (wanted.get(&ReplicaId(*id))).is_some_and(|node| may_vote(*node));
        if caught_up && voters < VOTERS_MAX && is_wanted {
            changes.push(Change::Promote(ReplicaId(*id)));
            voters += 1;
        }
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(voters: &[u64], learners: &[u64]) -> Membership {
        let mut m = Membership::default();
        m.conf.voters = voters.to_vec();
        m.conf.learners = learners.to_vec();
        for id in voters.iter().chain(learners) {
            let replica = Replica {
                id: ReplicaId(*id),
                node: NodeId(*id),
                address: String::new(),
            };
            m.replicas.insert(ReplicaId(*id), replica);
        }
        m
    }

    fn wanted(ids: &[u64]) -> BTreeMap<ReplicaId, NodeId> {
        ids.iter().map(|i| (ReplicaId(*i), NodeId(*i))).collect()
    }

    fn steps(m: &Membership, want: &[u64], matched: &[(u64, u64)]) -> Vec<Change> {
        let progress: Vec<Progress> = matched
            .iter()
            .map(|(id, matched)| Progress {
                replica: ReplicaId(*id),
                matched: *matched,
                recent_active: true,
                in_snapshot: false,
            })
            .collect();
        let address = |_| Some(String::new());
        let catalog = (&wanted(want), 10);
        let may_vote = |node: NodeId| node != NodeId(7);
        let me = ReplicaId(1);
        next_changes(me, m, catalog, address, may_vote, &progress, 5_000)
    }

    #[test]
    fn wanted_replica_comes_in_as_a_learner_and_is_promoted_when_caught_up() {
        let changes = steps(&group(&[1], &[]), &[1, 2], &[]);
        assert!(matches!(&changes[..], [Change::AddLearner(r)] if r.id == ReplicaId(2)));
        let m = group(&[1], &[2]);
        assert_eq!(steps(&m, &[1, 2], &[(2, 3_000)]), vec![]);
        let promoted = steps(&m, &[1, 2], &[(2, 4_500)]);
        assert_eq!(promoted, vec![Change::Promote(ReplicaId(2))]);
    }

    #[test]
    fn replacement_is_one_joint_change() {
        let m = group(&[1, 2, 3], &[4]);
        let changes = steps(&m, &[1, 2, 4], &[(4, 5_000)]);
        let expected = vec![Change::Remove(ReplicaId(3)), Change::Promote(ReplicaId(4))];
        assert_eq!(changes, expected);
    }

    #[test]
    fn replica_on_a_node_that_may_not_vote_stays_a_learner() {
        let m = group(&[1], &[2, 7]);
        let changes = steps(&m, &[1, 2, 7], &[(2, 5_000), (7, 5_000)]);
        assert_eq!(changes, vec![Change::Promote(ReplicaId(2))]);
    }

    #[test]
    fn sixth_replica_stays_a_learner() {
        let m = group(&[1, 2, 3, 4, 5], &[6]);
        assert_eq!(steps(&m, &[1, 2, 3, 4, 5, 6], &[(6, 5_000)]), vec![]);
    }

    #[test]
    fn replica_that_the_catalog_does_not_know_yet_stays() {
        assert_eq!(steps(&group(&[1, 2], &[12]), &[1, 2], &[]), vec![]);
        let removed = steps(&group(&[1, 2], &[9]), &[1, 2], &[]);
        assert_eq!(removed, vec![Change::Remove(ReplicaId(9))]);
    }

    #[test]
    fn leader_does_not_remove_itself() {
        assert_eq!(steps(&group(&[1, 2], &[]), &[2], &[]), vec![]);
    }
}
