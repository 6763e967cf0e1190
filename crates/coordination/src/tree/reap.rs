//! Which nodes may be removed by themselves: containers that had children and have none now, and childless
//! TTL nodes by the time at which they run out. Kept up with every change, so that nobody scans the tree.

use super::Tree;
use super::kind::NodeKind;
use super::slab::{Node, SlotId};
use crate::{Command, Output};
use base::planted::{Bug, planted};
use std::collections::BTreeSet;

/// Removals proposed by one look.
const REAP_MAX: usize = 1000;

#[derive(Debug, Default)]
pub struct ReapIndex {
    containers: BTreeSet<SlotId>,
    /// By the last millisecond at which the node may stay.
    ttls: BTreeSet<(i64, SlotId)>,
}

enum Due {
    Now,
    After(i64),
}

fn due(node: &Node) -> Option<Due> {
    if node.children.is_some() {
        return None;
    }
    match NodeKind::of_owner(node.owner) {
        NodeKind::Container => {
            (node.creations != 0 || planted(Bug::ReapUnused)).then_some(Due::Now)
        }
        NodeKind::Ttl(ms) => {
            let ms = if planted(Bug::ReapEarly) { ms / 2 } else { ms };
            Some(Due::After(node.mtime_ms.saturating_add(ms)))
        }
        NodeKind::Persistent | NodeKind::Ephemeral(_) => None,
    }
}

impl ReapIndex {
    pub fn insert(&mut self, slot: SlotId, node: &Node) {
        match due(node) {
            Some(Due::Now) => self.containers.insert(slot),
            Some(Due::After(time_ms)) => self.ttls.insert((time_ms, slot)),
            None => false,
        };
    }

    pub fn remove(&mut self, slot: SlotId, node: &Node) {
        match due(node) {
            Some(Due::Now) => self.containers.remove(&slot),
            Some(Due::After(time_ms)) => self.ttls.remove(&(time_ms, slot)),
            None => false,
        };
    }
}

impl Tree {
    /// What a leader should propose to remove at `now_ms`; at most 1,000, outlived TTL nodes first.
    pub fn reapable(&self, now_ms: i64) -> Vec<Command> {
        let outlived = self
            .reap
            .ttls
            .iter()
            .take_while(|(time_ms, _)| *time_ms < now_ms);
        outlived
            .map(|(_, slot)| slot)
            .chain(&self.reap.containers)
            .take(REAP_MAX)
            .map(|slot| {
                let node = self.slab.node(*slot);
                Command::Reap {
                    path: self.path_of(*slot),
                    pzxid: node.pzxid,
                    mzxid: node.mzxid,
                }
            })
            .collect()
    }

    /// Removes a node if it may still be removed and is as the leader saw it; false otherwise.
    pub fn reap(
        &mut self,
        path: &str,
        (pzxid, mzxid): (i64, i64),
        zxid: i64,
        time_ms: i64,
        out: &mut Vec<Output>,
    ) -> bool {
        let Some(slot) = self.lookup(path) else {
            return false;
        };
        let node = self.slab.node(slot);
        let is_due = match due(node) {
            Some(Due::Now) => true,
            Some(Due::After(last_ms)) => last_ms < time_ms,
            None => false,
        };
        if !is_due || (node.pzxid, node.mzxid) != (pzxid, mzxid) {
            return false;
        }
        self.delete_slot(slot, self.path_of(slot), zxid, out);
        true
    }
}
