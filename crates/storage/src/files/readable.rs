//! Which copy of a chunk a reader turns to, without IO.
//!
//! HDFS' rules (MSST 2010, §3.3 and Hadoop's `DFSInputStream`): the nearest copy first; a node that cannot be read
//! from is remembered by this reader's node and asked last from then on, and nobody is told, for the fault may be on
//! this side. A copy whose checksum is wrong is another matter: that is reported.

use super::query::ChunkPlace;
use super::row::CopyState;
use base::NodeId;
use std::collections::{BTreeMap, VecDeque};

/// A node that could not be read from is asked last for this long, in microseconds.
pub const REMEMBERED_US: u64 = 300_000_000;

/// Nodes that could not be read from lately, as one node remembers them.
#[derive(Clone, Debug, Default)]
pub struct Unreadable {
    nodes: BTreeMap<NodeId, u64>,
}

impl Unreadable {
    /// A node could not be read from at `now_us`, by a clock that does not go back.
    pub fn remember(&mut self, node: NodeId, now_us: u64) {
        self.nodes.insert(node, now_us);
    }

    /// Copies that may be good, in the order in which `reader` tries them: its own first, those on nodes that could not
    /// be read from last. Readers on different nodes begin with different ones.
    pub fn in_order(
        &mut self,
        place: &ChunkPlace,
        reader: NodeId,
        now_us: u64,
    ) -> VecDeque<NodeId> {
        (self.nodes).retain(|_, since_us| now_us.saturating_sub(*since_us) < REMEMBERED_US);
        let good = (place.copies.iter()).filter(|(_, state)| *state == CopyState::Good);
        let mut nodes: Vec<NodeId> = good.map(|(node, _)| *node).collect();
        nodes.sort_by_key(|node| {
            let spread =
                node.0 ^ reader.0.rotate_left(17) ^ place.id.write ^ u64::from(place.id.number);
            (
                *node != reader,
                self.nodes.contains_key(node),
                spread.wrapping_mul(0x9E37_79B9_7F4A_7C15),
            )
        });
        nodes.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::ChunkId;

    fn place(copies: &[(u64, CopyState)]) -> ChunkPlace {
        ChunkPlace {
            id: ChunkId::default(),
            generation: 1,
            offset: 0,
            length: 1,
            checksum: 0,
            copies: copies.iter().map(|(n, s)| (NodeId(*n), *s)).collect(),
        }
    }

    #[test]
    fn own_copy_is_first_and_who_could_not_be_read_from_is_last_for_a_while() {
        let place = place(&[
            (1, CopyState::Good),
            (2, CopyState::Good),
            (3, CopyState::Good),
            (4, CopyState::Corrupt),
            (5, CopyState::Making { since_ms: 0 }),
        ]);
        let mut unreadable = Unreadable::default();
        for node in 1..=3 {
            unreadable.remember(NodeId(node), 0);
            let order = unreadable.in_order(&place, NodeId(3), 10);
            assert_eq!(order.len(), 3);
            assert_eq!(order[0], NodeId(3));
            unreadable = Unreadable::default();
        }
        unreadable.remember(NodeId(2), 0);
        let order = |unreadable: &mut Unreadable, now_us| {
            let order = unreadable.in_order(&place, NodeId(9), now_us);
            order.into_iter().map(|node| node.0).collect::<Vec<_>>()
        };
        assert_eq!(order(&mut unreadable, 10)[2], 2);
        let fresh = order(&mut Unreadable::default(), 10);
        assert_eq!(order(&mut unreadable, REMEMBERED_US), fresh);
    }
}
