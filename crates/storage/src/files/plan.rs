//! What the shard's leader decides about copies, as a function of the state and of which nodes it hears.
//!
//! The order of GFS (§4.3) and HDFS (§3.2, block manager) in a smaller form: chunks that lost most copies
//! first; a new copy goes where the fewest are. A node that is silent but not for long keeps counting, so
//! that a restart moves nothing; one that is silent for longer is replaced, and when it comes back what is
//! then too much is dropped.

use super::command::{ChunkId, CopyChange};
use super::machine::Files;
use super::row::{Chunk, CopyState};
use base::NodeId;
use std::collections::BTreeMap;

/// A copy that was not made in this time is given to another node, in milliseconds.
const MAKE_MS_MAX: i64 = 60_000;
/// Copies that a node is to make at a time.
const MAKING_MAX: usize = 8;
/// Chunks looked at in one turn.
const SCAN_MAX: usize = 2_000;

/// How a chunk server is, as its planner sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sight {
    /// It is heard.
    Up,
    /// It was heard until lately.
    Silent,
    /// It is heard and is to leave: its copies can be read, and do not count.
    Leaving,
    /// It has been silent for too long: its copies do not count.
    Dead,
}

/// A chunk server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NodeView {
    /// Whether it is heard.
    pub sight: Sight,
    /// False while its disk is nearly full, or it serves no chunks: it gets no copies.
    pub has_room: bool,
}

impl NodeView {
    /// True when its copies can be read now.
    pub fn is_heard(&self) -> bool {
        matches!(self.sight, Sight::Up | Sight::Leaving)
    }

    /// True when its copies count.
    pub fn stays(&self) -> bool {
        matches!(self.sight, Sight::Up | Sight::Silent)
    }
}

/// Goes through the chunks in turns.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// Where the last turn ended.
    after: Option<ChunkId>,
}

/// A chunk that lacks copies.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Lack {
    /// Copies that can be read now.
    pub good: usize,
    /// Which.
    pub chunk: ChunkId,
}

impl Plan {
    /// What is to be proposed now. `members` holds every node of the cluster; a node that holds copies and is
    /// not among them has left.
    pub fn next(&mut self, files: &Files, members: &BTreeMap<NodeId, NodeView>) -> Vec<CopyChange> {
        let gone = files.held.keys().filter(|node| !members.contains_key(node));
        let mut changes: Vec<CopyChange> =
            gone.map(|node| CopyChange::Gone { node: *node }).collect();
        if !changes.is_empty() {
            return changes;
        }
        let (chunks, after) = self.scan(files, members);
        self.after = after;
        let mut load = Load::new(files, members);
        let mut lacks = Vec::new();
        for id in chunks {
            let Some(chunk) = files.chunks.get(id) else {
                continue;
            };
            let view = View::of(chunk, members);
            view.tidy(id, chunk, files.time_ms, members, &mut changes);
            let has = view.counted + view.making;
            if view.up > 0 && has < usize::from(chunk.wanted) {
                lacks.push((
                    Lack {
                        good: view.counted,
                        chunk: id,
                    },
                    chunk,
                ));
            } else if view.making == 0
                && let Some(node) = view.surplus(chunk, members, &load)
            {
                changes.push(CopyChange::Surplus { chunk: id, node });
            }
        }
        lacks.sort_by_key(|(lack, _)| *lack);
        for (lack, chunk) in lacks {
            if let Some(node) = load.place(chunk) {
                let chunk = lack.chunk;
                changes.push(CopyChange::Make { chunk, node });
            }
        }
        changes
    }

    /// The chunks of this turn: those not settled, and those with copies that do not count.
    fn scan(
        &self,
        files: &Files,
        members: &BTreeMap<NodeId, NodeView>,
    ) -> (Vec<ChunkId>, Option<ChunkId>) {
        let dead = (members.iter())
            .filter(|(_, view)| !view.stays())
            .filter_map(|(node, _)| files.held.get(node));
        let mut found: Vec<ChunkId> = std::iter::once(&files.unsettled)
            .chain(dead)
            .flat_map(|set| {
                let from = match self.after {
                    Some(after) => std::ops::Bound::Excluded(after),
                    None => std::ops::Bound::Unbounded,
                };
                set.range((from, std::ops::Bound::Unbounded)).take(SCAN_MAX)
            })
            .copied()
            .collect();
        found.sort_unstable();
        found.dedup();
        found.truncate(SCAN_MAX);
        let after = found.last().filter(|_| found.len() == SCAN_MAX).copied();
        (found, after)
    }
}

/// A chunk's copies by how their nodes are.
struct View {
    /// Good, and can be read now.
    up: usize,
    /// Good, and to stay.
    counted: usize,
    /// Under way, where they are to stay.
    making: usize,
}

impl View {
    fn of(chunk: &Chunk, members: &BTreeMap<NodeId, NodeView>) -> Self {
        let mut view = Self {
            up: 0,
            counted: 0,
            making: 0,
        };
        for (node, state) in &chunk.copies {
            let Some(node) = members.get(node) else {
                continue;
            };
            match state {
                CopyState::Good => {
                    view.counted += usize::from(node.stays());
                    view.up += usize::from(node.is_heard());
                }
                CopyState::Making { .. } => view.making += usize::from(node.stays()),
                CopyState::Corrupt => {}
            }
        }
        view
    }

    /// Forgets copies that will not be made, and corrupt ones that are needed no more.
    fn tidy(
        &self,
        id: ChunkId,
        chunk: &Chunk,
        time_ms: i64,
        members: &BTreeMap<NodeId, NodeView>,
        changes: &mut Vec<CopyChange>,
    ) {
        for (&node, state) in &chunk.copies {
            let stays = members.get(&node).is_some_and(NodeView::stays);
            let drop = match state {
                CopyState::Making { since_ms } => !stays || time_ms - since_ms > MAKE_MS_MAX,
                CopyState::Corrupt => self.counted >= usize::from(chunk.wanted),
                CopyState::Good => false,
            };
            if drop {
                changes.push(CopyChange::Lost { chunk: id, node });
            }
        }
    }

    /// The good copy that can go, on the fullest node, where there are more than wanted.
    fn surplus(
        &self,
        chunk: &Chunk,
        members: &BTreeMap<NodeId, NodeView>,
        load: &Load<'_>,
    ) -> Option<NodeId> {
        let is_up = |node: &NodeId| members.get(node).is_some_and(|v| v.sight == Sight::Up);
        let up: Vec<NodeId> = chunk.good().filter(is_up).collect();
        if up.len() <= usize::from(chunk.wanted) {
            return None;
        }
        up.into_iter()
            .max_by_key(|node| load.held.get(node).copied())
    }
}

/// How many chunks each node has, with those that it is to get.
struct Load<'a> {
    members: &'a BTreeMap<NodeId, NodeView>,
    held: BTreeMap<NodeId, usize>,
    making: BTreeMap<NodeId, usize>,
}

impl<'a> Load<'a> {
    fn new(files: &Files, members: &'a BTreeMap<NodeId, NodeView>) -> Self {
        let held = |node: &NodeId| files.held.get(node).map_or(0, |chunks| chunks.len());
        let mut making = BTreeMap::new();
        for id in &files.unsettled {
            let copies = files.chunks.get(*id).into_iter().flat_map(|c| &c.copies);
            for (node, state) in copies {
                if matches!(state, CopyState::Making { .. }) {
                    *making.entry(*node).or_default() += 1;
                }
            }
        }
        Self {
            members,
            held: members.keys().map(|node| (*node, held(node))).collect(),
            making,
        }
    }

    /// Where a chunk's next copy is to be made. Where its copy is corrupt comes last: that disk is not the
    /// best of disks.
    fn place(&mut self, chunk: &Chunk) -> Option<NodeId> {
        let can_take = |(node, view): &(&NodeId, &NodeView)| {
            let free = match chunk.copies.get(node) {
                None | Some(CopyState::Corrupt) => true,
                Some(_) => false,
            };
            let making = self.making.get(node).copied().unwrap_or(0);
            view.sight == Sight::Up && view.has_room && free && making < MAKING_MAX
        };
        let best = (self.members.iter())
            .filter(can_take)
            .min_by_key(|(node, _)| (chunk.copies.contains_key(node), self.held.get(node), **node));
        let (&node, _) = best?;
        *self.held.entry(node).or_default() += 1;
        *self.making.entry(node).or_default() += 1;
        Some(node)
    }
}
