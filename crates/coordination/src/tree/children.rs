//! The children of one node: slot numbers in the order of their names, in blocks of a bounded length. The
//! names stand in the nodes only. An ordered map would keep each name (or a counted pointer to it) twice,
//! about 55 bytes a child more; a look-up here costs the same number of comparisons, an insertion also
//! moves at most one block.

use super::slab::SlotId;
use std::cmp::Ordering;

/// Longest block: 2 KiB are moved at most.
const BLOCK_MAX: usize = 512;

/// Where a child stands or would stand.
#[derive(Clone, Copy, Debug)]
pub struct Position {
    block: usize,
    at: usize,
}

/// Never empty but while it is being made.
#[derive(Debug, Default)]
pub struct Children {
    /// None of them is empty.
    blocks: Vec<Vec<SlotId>>,
    len: usize,
}

impl Children {
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn iter(&self) -> impl Iterator<Item = SlotId> + '_ {
        self.blocks.iter().flatten().copied()
    }

    /// The slot at a position that was found.
    pub fn get(&self, position: Position) -> SlotId {
        self.blocks[position.block][position.at]
    }

    /// Where the child is for which `order` says equal, or else where it would be.
    pub fn find(&self, order: impl Fn(SlotId) -> Ordering) -> Result<Position, Position> {
        let is_after = |block: &Vec<SlotId>| order(block[0]) == Ordering::Greater;
        let block = self
            .blocks
            .partition_point(|b| !is_after(b))
            .saturating_sub(1);
        let slots = self.blocks.get(block).map_or(&[][..], Vec::as_slice);
        slots
            .binary_search_by(|slot| order(*slot))
            .map(|at| Position { block, at })
            .map_err(|at| Position { block, at })
    }

    pub fn insert(&mut self, position: Position, slot: SlotId) {
        self.len += 1;
        let Some(block) = self.blocks.get_mut(position.block) else {
            self.blocks.push(vec![slot]);
            return;
        };
        block.insert(position.at, slot);
        if block.len() > BLOCK_MAX {
            // Who appends, as sequential names do, leaves full blocks behind.
            let is_append = position.at == BLOCK_MAX;
            let tail = block.split_off(if is_append { BLOCK_MAX } else { BLOCK_MAX / 2 });
            block.shrink_to_fit();
            self.blocks.insert(position.block + 1, tail);
        }
    }

    pub fn remove(&mut self, position: Position) {
        self.len -= 1;
        let block = position.block;
        self.blocks[block].remove(position.at);
        let next_len = self.blocks.get(block + 1).map_or(0, Vec::len);
        if self.blocks[block].is_empty() {
            self.blocks.remove(block);
        } else if next_len > 0 && self.blocks[block].len() + next_len <= BLOCK_MAX / 2 {
            let next = self.blocks.remove(block + 1);
            self.blocks[block].extend(next);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::Rng;
    use std::collections::BTreeSet;

    #[test]
    fn random_insertions_and_removals_keep_order_and_blocks() {
        let mut rng = Rng::new(1);
        let mut children = Children::default();
        let mut model = BTreeSet::new();
        for round in 0..40_000 {
            // Mostly growing, then mostly shrinking.
            let slot = rng.range(0, 6000) as SlotId;
            let found = children.find(|s| s.cmp(&slot));
            assert_eq!(found.is_ok(), model.contains(&slot));
            let is_growing = !rng.one_in(if round < 20_000 { 4 } else { 1 });
            match found {
                Ok(position) if !is_growing => {
                    assert_eq!(children.get(position), slot);
                    children.remove(position);
                    model.remove(&slot);
                }
                Err(position) if is_growing => {
                    children.insert(position, slot);
                    model.insert(slot);
                }
                _ => {}
            }
            assert_eq!(children.len(), model.len());
        }
        assert!(model.len() < 1000, "the second half removed most");
        assert!(children.iter().eq(model.iter().copied()));
        assert!(
            children
                .blocks
                .iter()
                .all(|b| (1..=BLOCK_MAX).contains(&b.len()))
        );
        for slot in model {
            children.remove(children.find(|s| s.cmp(&slot)).expect("it is there"));
        }
        assert!(children.blocks.is_empty());
    }

    #[test]
    fn appending_fills_blocks() {
        let mut children = Children::default();
        for slot in 0..10_000 {
            let at = children.find(|s| s.cmp(&slot)).expect_err("it is new");
            children.insert(at, slot);
        }
        assert_eq!(children.blocks.len(), 10_000_usize.div_ceil(BLOCK_MAX));
        assert!(children.iter().eq(0..10_000));
    }
}
