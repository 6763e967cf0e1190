//! What the leaders of all shards tell the leader of the meta shard, and what it concludes.
//!
//! A member stops once the meta shard has let it go, and the cluster serves once all initial members
//! vote: both concern every shard, and no core holds them all. So whoever leads a shard reports how far
//! its group is, again and again while something hangs on it; the meta shard's leader keeps the newest
//! report of each shard in memory, and a new one begins with none. Sibling cores and other nodes report
//! alike, through `Frame::Report`.

use crate::core::Core;
use crate::frame::Frame;
use base::{ClusterId, NodeId, ShardId, Term};
use catalog::{CatalogCommand, META_SHARD, MemberState, Policy, TREE_SHARD, VOTERS_MAX};
use shard::Shard;
use std::collections::BTreeMap;

/// What a shard's leader says of its group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    /// Of which shard.
    pub shard: ShardId,
    /// In which term it leads.
    pub term: Term,
    /// Voters, as of what it has applied.
    pub voters: u32,
    /// Nodes that it knows are to leave and that hold no replica of the group: it needs their votes no
    /// more. That a node is not in the group does not suffice: a leader whose catalog is older than the
    /// order to leave may still take it in.
    pub released: Vec<NodeId>,
}

/// The newest report of each shard, while this core leads the meta shard.
#[derive(Debug, Default)]
pub struct Reports {
    newest: BTreeMap<ShardId, Report>,
}

impl Reports {
    /// Takes a report, unless it is of an older term than the one that is there.
    pub fn take(&mut self, report: Report) {
        let newest = self.newest.get(&report.shard);
        if newest.is_none_or(|n| n.term <= report.term) {
            self.newest.insert(report.shard, report);
        }
    }

    /// Forgets them all.
    pub fn clear(&mut self) {
        self.newest.clear();
    }

    /// True when the leaders of all `shards` have reported what `is` asks for.
    pub fn all<'a>(
        &self,
        mut shards: impl Iterator<Item = &'a ShardId>,
        is: impl Fn(&Report) -> bool,
    ) -> bool {
        shards.all(|shard| self.newest.get(shard).is_some_and(&is))
    }
}

impl Core {
    /// Reports the shards that are led here, while a member is to leave or the cluster is not complete.
    pub(crate) fn report(&mut self) {
        let leaving: Vec<NodeId> = (self.catalog.members.iter())
            .filter(|(_, m)| m.state == MemberState::Leaving)
            .map(|(node, _)| *node)
            .collect();
        if leaving.is_empty() && self.catalog.formed {
            return;
        }
        let led = (self.replicas.iter())
            .filter(|shard| shard.id() != META_SHARD)
            .filter_map(|shard| Some((shard.id(), shard.group().filter(|g| g.is_leader())?)));
        let reports: Vec<Report> = led
            .map(|(shard, group)| {
                let members = group.membership();
                let holds = |node: &NodeId| members.replicas.values().any(|r| r.node == *node);
                Report {
                    shard,
                    term: group.term(),
                    voters: members.conf.voters.len() as u32,
                    released: (leaving.iter().copied())
                        .filter(|n| !holds(n))
                        .filter(|n| shard != TREE_SHARD || self.files_release(*n))
                        .collect(),
                }
            })
            .collect();
        for report in reports {
            self.pass_on_report(2, report);
        }
    }

    /// A report on its way to the leader of the meta shard.
    pub(crate) fn pass_on_report(&mut self, hops: u8, report: Report) {
        if self.leads_meta() {
            if self.catalog.shards.contains_key(&report.shard) {
                self.reports.take(report);
            }
        } else {
            self.send_to_meta(hops, |hops| Frame::Report { hops, report });
        }
    }

    /// True for a node that no shard but the meta shard needs any more.
    pub(crate) fn is_released(&self, node: NodeId) -> bool {
        let others = self.catalog.shards.keys().filter(|s| **s != META_SHARD);
        (self.reports).all(others, |report| report.released.contains(&node))
    }

    /// The meta shard's leader closes what all have finished.
    pub(crate) fn lead_meta(&mut self) {
        let Some(group) = self.replicas.get(META_SHARD).and_then(Shard::group) else {
            return;
        };
        let members = group.membership();
        let wanted = self.catalog.initial_members.min(VOTERS_MAX as u32);
        let all_vote = members.conf.voters.len() as u32 >= wanted && {
            // A single copy has one vote and stays where it is.
            let copied = |r: &catalog::ShardRecord| self.catalog.policy(r) == Policy::Raft;
            let others = (self.catalog.shards.iter())
                .filter(|(shard, record)| **shard != META_SHARD && copied(record))
                .map(|(shard, _)| shard);
            self.reports.all(others, |report| report.voters >= wanted)
        };
        let gone: Vec<NodeId> = (self.catalog.members.iter())
            .filter(|(_, m)| m.state == MemberState::Leaving)
            .map(|(node, _)| *node)
            .filter(|node| members.replicas.values().all(|r| r.node != *node))
            .filter(|node| self.is_released(*node))
            .collect();
        if self.catalog.cluster != ClusterId(0) && !self.catalog.formed && all_vote {
            self.propose_meta(&CatalogCommand::Formed);
        }
        for node in gone {
            self.propose_meta(&CatalogCommand::Forget { node });
            self.peers.forget(node);
            self.heard_of_disk(node, false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(shard: u64, term: Term, released: &[u64]) -> Report {
        Report {
            shard: ShardId(shard),
            term,
            voters: 3,
            released: released.iter().copied().map(NodeId).collect(),
        }
    }

    fn releases(reports: &Reports, shards: &[u64], node: u64) -> bool {
        let shards: Vec<ShardId> = shards.iter().copied().map(ShardId).collect();
        reports.all(shards.iter(), |r| r.released.contains(&NodeId(node)))
    }

    #[test]
    fn node_is_released_when_the_leaders_of_all_shards_say_so() {
        let mut reports = Reports::default();
        reports.take(report(2, 5, &[9]));
        assert!(releases(&reports, &[2], 9));
        assert!(!releases(&reports, &[2, 3], 9), "shard 3 said nothing");
        reports.take(report(3, 1, &[8]));
        assert!(!releases(&reports, &[2, 3], 9), "shard 3 holds it");
        reports.take(report(3, 1, &[8, 9]));
        assert!(releases(&reports, &[2, 3], 9));
        reports.clear();
        assert!(!releases(&reports, &[2], 9));
    }

    #[test]
    fn report_of_a_newer_term_counts_and_one_of_an_older_does_not() {
        let mut reports = Reports::default();
        reports.take(report(2, 5, &[9]));
        reports.take(report(2, 6, &[]));
        assert!(!releases(&reports, &[2], 9), "a new leader knows less");
        reports.take(report(2, 5, &[9]));
        assert!(!releases(&reports, &[2], 9), "the old leader is late");
    }
}
