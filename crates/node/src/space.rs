//! Room on disk: what the host measures here, what other members say of theirs, and what follows.
//!
//! Writes that add data are refused at their home, before they are proposed, while the leader's disk is
//! nearly full or no majority has room. One full member alone stops nobody: as the leader it hands over,
//! as a follower it falls behind. What frees room (deletes, ends of sessions) goes on, and sessions are
//! opened as ever, for without one nobody could delete.

use crate::admin::DiskSpace;
use crate::core::Core;
use crate::event::Level;
use crate::turn::HAND_OVER_US;
use base::{NodeId, Now, ShardId};
use catalog::TREE_SHARD;
use shard::Shard;
use std::collections::BTreeSet;

/// What is known of disks.
#[derive(Debug, Default)]
pub struct Space {
    /// As measured last.
    pub own: DiskSpace,
    /// Shards that take no more data.
    pub full: BTreeSet<ShardId>,
    /// Other nodes that said of themselves that they have little room.
    low: BTreeSet<NodeId>,
}

impl Space {
    /// True while a node's disk is nearly full.
    pub fn is_low(&self, node: NodeId, is_me: bool) -> bool {
        if is_me {
            self.own.low
        } else {
            self.low.contains(&node)
        }
    }
}

impl Core {
    pub(crate) fn disk_measured(&mut self, space: DiskSpace) {
        self.space.own = space;
        self.refuse_additions();
    }

    pub(crate) fn heard_of_disk(&mut self, node: NodeId, low: bool) {
        if low {
            self.space.low.insert(node);
        } else {
            self.space.low.remove(&node);
        }
    }

    pub(crate) fn disk_is_low(&self, node: NodeId) -> bool {
        self.space.is_low(node, node == self.me.node)
    }

    /// Voters of a shard as far as known here, and those of them with room.
    fn voters_with_room(&self, shard: ShardId) -> (usize, usize) {
        let Some(group) = self.replicas.get(shard).and_then(Shard::group) else {
            return (0, 0);
        };
        let members = group.membership();
        let voters = (members.replicas.values()).filter(|r| members.is_voter(r.id));
        voters.fold((0, 0), |(all, room), r| {
            (all + 1, room + usize::from(!self.disk_is_low(r.node)))
        })
    }

    fn majority_has_room(&self, shard: ShardId) -> bool {
        let (all, room) = self.voters_with_room(shard);
        all == 0 || room > all / 2
    }

    fn is_full(&self, shard: ShardId) -> bool {
        let leader = self.router.leader(shard).map(|(_, node)| node);
        leader.is_some_and(|node| self.disk_is_low(node)) || !self.majority_has_room(shard)
    }

    fn refuse_additions(&mut self) {
        let shards = self.replicas.ids().into_iter();
        let full: BTreeSet<ShardId> = shards.filter(|shard| self.is_full(*shard)).collect();
        let refuses = !full.is_empty();
        let changed = refuses == self.space.full.is_empty();
        self.zookeeper.refuses_additions = full.contains(&TREE_SHARD);
        self.space.full = full;
        if !changed {
            return;
        }
        if !refuses {
            let message = "there is room on disk again: all writes are taken";
            return self.log(Level::Info, message.into());
        }
        let low: Vec<String> = (self.catalog.members.iter())
            .filter(|(node, _)| self.disk_is_low(**node))
            .map(|(_, member)| member.address.clone())
            .collect();
        self.log(
            Level::Warn,
            format!(
                "refuses writes that add data: the disk is nearly full at {}; reads and deletes go on",
                low.join(", ")
            ),
        );
    }

    /// Decides again who is refused, and hands over what a member with room can lead better.
    pub(crate) fn check_space(&mut self, now: Now) {
        self.refuse_additions();
        if !self.space.own.low || now.mono_us < self.timers.hand_over_us {
            return;
        }
        for id in self.replicas.ids() {
            let leads = (self.replicas.get(id)).is_some_and(Shard::is_leader);
            if leads && self.majority_has_room(id) {
                self.timers.hand_over_us = now.mono_us + HAND_OVER_US;
                let name = self.label(id);
                self.log(
                    Level::Warn,
                    format!("hands over {name}: this disk is nearly full"),
                );
                self.hand_over(id, |core, node| i64::from(core.disk_is_low(node)));
            }
        }
    }
}
