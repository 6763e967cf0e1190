//! What the leader of the tree's shard does about files: it ends leases, has copies made and dropped, and
//! sweeps what was removed. What exactly is decided by [`Plan`]; here it is told who is there.

use crate::core::Core;
use crate::peers::Peers;
use crate::space::Space;
use base::{NodeId, Now, Origin};
use catalog::{Catalog, MemberState, TREE_SHARD};
use shard::{DataUnit, Shard};
use std::collections::BTreeMap;
use storage::files::{Command, NodeView, Plan, Sight, Unit};

/// Between two plans, in microseconds.
const PLAN_US: u64 = 500_000;
/// A node is taken to have left when it has been in no catalog and unheard for this long, in microseconds.
const GONE_US: u64 = 10_000_000;
/// Leases ended in a turn; the rest follow in the next.
const EXPIRED_MAX: usize = 1_000;

/// A leader's memory; nothing in it is needed again by the next.
#[derive(Debug, Default)]
pub(crate) struct FilesDuty {
    plan: Plan,
    due_us: u64,
    /// Nodes that have copies and are in no catalog, and since when.
    absent: BTreeMap<NodeId, u64>,
}

/// How each member is as a chunk server, seen from here.
pub(crate) fn views(catalog: &Catalog, peers: &Peers, space: &Space) -> BTreeMap<NodeId, NodeView> {
    let view = |(node, member): (&NodeId, &catalog::Member)| {
        let sight = match (peers.is_heard(*node), member.state) {
            (true, MemberState::Leaving) => Sight::Leaving,
            (true, _) => Sight::Up,
            (false, _) => Sight::Silent,
        };
        let is_me = peers.me() == Some(*node);
        let has_room = peers.chunks_address(*node).is_some() && !space.is_low(*node, is_me);
        (*node, NodeView { sight, has_room })
    };
    catalog.members.iter().map(view).collect()
}

impl Core {
    /// Does what is due, as the leader of the tree's shard.
    pub(crate) fn keep_files(&mut self, now: Now) {
        let leads = (self.replicas.get(TREE_SHARD)).is_some_and(Shard::is_leader);
        if !leads || now.mono_us < self.files.due_us {
            return;
        }
        self.files.due_us = now.mono_us + PLAN_US;
        let time_ms = self.stamp_clock.read_ms(now);
        let members = self.members_for_plan(now);
        let Some(data) = (self.replicas.get(TREE_SHARD)).and_then(|shard| shard.machine().data())
        else {
            return;
        };
        let files = &data.files;
        let mut commands: Vec<Command> = (files.expired(time_ms, EXPIRED_MAX).into_iter())
            .map(|(write, deadline_ms)| Command::Expire { write, deadline_ms })
            .collect();
        if files.has_removed() {
            commands.push(Command::Sweep);
        }
        let changes = self.files.plan.next(files, &members);
        if !changes.is_empty() {
            commands.push(Command::Copies { changes });
        }
        if let Some(shard) = self.replicas.get_mut(TREE_SHARD) {
            for command in commands {
                let origin = Origin::default();
                // One that is refused is due again.
                shard.propose(DataUnit::Files(Unit { origin, command }).encode());
            }
        }
    }

    /// As [`views`], with those dead that were silent for long, and those that may not have left yet.
    fn members_for_plan(&mut self, now: Now) -> BTreeMap<NodeId, NodeView> {
        let mut members = views(&self.catalog, &self.peers, &self.space);
        let up_us = now.mono_us.saturating_sub(self.started_us);
        for (node, view) in &mut members {
            let silent_us = self.peers.detector.silent_us(node.0, now.mono_us);
            let is_dead = silent_us.unwrap_or(up_us) > self.config.files_copy_after_us;
            if view.sight == Sight::Silent && is_dead {
                view.sight = Sight::Dead;
            }
        }
        let data = (self.replicas.get(TREE_SHARD)).and_then(|shard| shard.machine().data());
        let holders = data.into_iter().flat_map(|data| data.files.holders());
        let absent: Vec<NodeId> = holders.filter(|n| !members.contains_key(n)).collect();
        self.files.absent.retain(|node, _| absent.contains(node));
        for node in absent {
            let since_us = *self.files.absent.entry(node).or_insert(now.mono_us);
            let silent_us = self.peers.detector.silent_us(node.0, now.mono_us);
            let is_silent = silent_us.is_none_or(|silent_us| silent_us > GONE_US);
            if now.mono_us.saturating_sub(since_us) < GONE_US || !is_silent {
                let sight = Sight::Dead;
                let has_room = false;
                members.insert(node, NodeView { sight, has_room });
            }
        }
        members
    }

    /// False while a node that is to leave has copies of chunks that others lack.
    pub(crate) fn files_release(&self, node: NodeId) -> bool {
        let data = (self.replicas.get(TREE_SHARD)).and_then(|shard| shard.machine().data());
        let members = views(&self.catalog, &self.peers, &self.space);
        // One that is not heard has nothing to give any more.
        let is_heard = members.get(&node).is_some_and(NodeView::is_heard);
        !is_heard || data.is_none_or(|data| data.files.can_release(node, &members))
    }
}
