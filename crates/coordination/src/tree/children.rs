//! The children of one node: slot numbers in the order of their names, in blocks of a bounded length. The
//! names stand in the nodes only: an ordered map would keep each name (or a counted pointer to it) twice,
//! about 50 bytes a child more. Comparing names means fetching nodes from all over memory, so beside each
//! slot stands a print of its name: a look-up finds its block by order and its place by print, and fetches
//! few nodes. Prints that collide cost a comparison each, at most a block of them.

use super::slab::SlotId;
use std::cmp::Ordering;
use twox_hash::XxHash64;

/// Longest block: two times 2 KiB are moved at most.
const BLOCK_MAX: usize = 512;

/// Where a child stands or shall stand.
#[derive(Clone, Copy, Debug)]
pub struct Position {
    block: usize,
    at: usize,
}

/// A few bits of a name's hash.
pub fn print(name: &str) -> u32 {
    XxHash64::oneshot(0, name.as_bytes()) as u32
}

#[derive(Debug)]
struct Block {
    slots: Vec<SlotId>,
    prints: Vec<u32>,
}

/// Never empty but while it is being made.
#[derive(Debug, Default)]
pub struct Children {
    /// None of them is empty.
    blocks: Vec<Block>,
    len: usize,
}

impl Children {
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn iter(&self) -> impl Iterator<Item = SlotId> + '_ {
        self.blocks.iter().flat_map(|b| &b.slots).copied()
    }

    /// The slot at a position that was found.
    pub fn get(&self, position: Position) -> SlotId {
        self.blocks[position.block].slots[position.at]
    }

    /// Where the child is for which `order` says equal; its name has this print.
    pub fn find(&self, print: u32, order: impl Fn(SlotId) -> Ordering) -> Option<Position> {
        let block = self.block_of(&order);
        let Block { slots, prints } = self.blocks.get(block)?;
        let same = prints.iter().enumerate().filter(|(_, p)| **p == print);
        same.map(|(at, _)| at)
            .find(|at| order(slots[*at]) == Ordering::Equal)
            .map(|at| Position { block, at })
    }

    /// Where a child that is not there would be.
    pub fn place(&self, order: impl Fn(SlotId) -> Ordering) -> Position {
        let block = self.block_of(&order);
        let at = self.blocks.get(block).map_or(0, |b| {
            b.slots
                .partition_point(|slot| order(*slot) == Ordering::Less)
        });
        Position { block, at }
    }

    /// The last block that does not begin behind the name, or the first.
    fn block_of(&self, order: impl Fn(SlotId) -> Ordering) -> usize {
        let begins = |b: &Block| order(b.slots[0]) != Ordering::Greater;
        match self.blocks.len() {
            0 | 1 => 0,
            _ => self.blocks.partition_point(begins).saturating_sub(1),
        }
    }

    pub fn insert(&mut self, position: Position, print: u32, slot: SlotId) {
        self.len += 1;
        let Some(block) = self.blocks.get_mut(position.block) else {
            self.blocks.push(Block {
                slots: vec![slot],
                prints: vec![print],
            });
            return;
        };
        block.slots.insert(position.at, slot);
        block.prints.insert(position.at, print);
        if block.slots.len() > BLOCK_MAX {
            // Who appends, as sequential names do, leaves full blocks behind.
            let is_append = position.at == BLOCK_MAX;
            let keep = if is_append { BLOCK_MAX } else { BLOCK_MAX / 2 };
            let tail = Block {
                slots: block.slots.split_off(keep),
                prints: block.prints.split_off(keep),
            };
            block.slots.shrink_to_fit();
            block.prints.shrink_to_fit();
            self.blocks.insert(position.block + 1, tail);
        }
    }

    pub fn remove(&mut self, position: Position) {
        self.len -= 1;
        let at = position.block;
        self.blocks[at].slots.remove(position.at);
        self.blocks[at].prints.remove(position.at);
        let left = self.blocks[at].slots.len();
        let next = self.blocks.get(at + 1).map_or(0, |b| b.slots.len());
        if left == 0 {
            self.blocks.remove(at);
        } else if next > 0 && left + next <= BLOCK_MAX / 2 {
            let next = self.blocks.remove(at + 1);
            self.blocks[at].slots.extend(next.slots);
            self.blocks[at].prints.extend(next.prints);
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
            // Prints that collide often.
            let print = slot % 7;
            let found = children.find(print, |s| s.cmp(&slot));
            assert_eq!(found.is_some(), model.contains(&slot));
            let is_growing = !rng.one_in(if round < 20_000 { 4 } else { 1 });
            match found {
                Some(position) if !is_growing => {
                    assert_eq!(children.get(position), slot);
                    children.remove(position);
                    model.remove(&slot);
                }
                None if is_growing => {
                    let position = children.place(|s| s.cmp(&slot));
                    children.insert(position, print, slot);
                    model.insert(slot);
                }
                _ => {}
            }
            assert_eq!(children.len(), model.len());
        }
        assert!(model.len() < 1000, "the second half removed most");
        assert!(children.iter().eq(model.iter().copied()));
        assert!(
            children.blocks.iter().all(
                |b| (1..=BLOCK_MAX).contains(&b.slots.len()) && b.slots.len() == b.prints.len()
            )
        );
        for slot in model {
            let position = children.find(slot % 7, |s| s.cmp(&slot));
            children.remove(position.expect("it is there"));
        }
        assert!(children.blocks.is_empty());
    }

    #[test]
    fn appending_fills_blocks() {
        let mut children = Children::default();
        for slot in 0..10_000 {
            children.insert(children.place(|s| s.cmp(&slot)), 0, slot);
        }
        assert_eq!(children.blocks.len(), 10_000_usize.div_ceil(BLOCK_MAX));
        assert!(children.iter().eq(0..10_000));
    }
}
