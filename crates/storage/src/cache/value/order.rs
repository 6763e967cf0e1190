//! The order of a sorted set: places of its table by score and member, in blocks.
//!
//! A vector of blocks of at most [`BLOCK_MAX`] entries. A place is found by binary search among the blocks'
//! first entries, then inside of one; a rank adds up the lengths of the blocks before. The alternative, a
//! skip list with spans as Redis has it, costs more memory and a cache miss a level. Cost: 16 bytes and the
//! slack of half-full blocks an entry; O(log n) comparisons, O(n / 384) for a rank, a fraction of a
//! microsecond for a million.

use std::cmp::Ordering;

const BLOCK_MAX: usize = 512;

/// A score and the member's place in the table.
pub type Rung = (f64, u32);

/// The order.
#[derive(Clone, Debug, Default)]
pub struct Order {
    /// None is empty.
    blocks: Vec<Vec<Rung>>,
}

impl Order {
    /// How many rungs stand before the first one that is not `Less` than what is sought: its rank.
    pub fn rank_by(&self, compare: impl Fn(Rung) -> Ordering) -> usize {
        let (block, at) = self.position(&compare);
        let before = self.blocks[..block].iter().map(Vec::len);
        before.sum::<usize>() + at
    }

    /// Adds a rung at its place.
    pub fn insert(&mut self, rung: Rung, compare: impl Fn(Rung) -> Ordering) {
        let (block, at) = self.position(&compare);
        let Some(rungs) = self.blocks.get_mut(block) else {
            match self.blocks.last_mut() {
                Some(last) if last.len() < BLOCK_MAX => last.push(rung),
                _ => self.blocks.push(vec![rung]),
            }
            return;
        };
        rungs.insert(at, rung);
        if rungs.len() > BLOCK_MAX {
            let upper = rungs.split_off(BLOCK_MAX / 2);
            self.blocks.insert(block + 1, upper);
        }
    }

    /// Takes the rung out that compares `Equal`.
    pub fn remove(&mut self, compare: impl Fn(Rung) -> Ordering) {
        let (block, at) = self.position(&compare);
        let rungs = &mut self.blocks[block];
        rungs.remove(at);
        let length = rungs.len();
        if length == 0 {
            self.blocks.remove(block);
        } else if length < BLOCK_MAX / 8
            && let Some(next) = self.blocks.get(block + 1)
            && next.len() < BLOCK_MAX / 4
        {
            let next = self.blocks.remove(block + 1);
            self.blocks[block].extend(next);
        }
    }

    /// Changes the place that the rung which compares `Equal` names.
    pub fn rename(&mut self, place: u32, compare: impl Fn(Rung) -> Ordering) {
        let (block, at) = self.position(&compare);
        self.blocks[block][at].1 = place;
    }

    /// Rungs from a rank on, upwards.
    pub fn up(&self, rank: usize) -> impl Iterator<Item = Rung> + '_ {
        let (block, at) = self.locate(rank);
        let blocks = self.blocks.get(block..).unwrap_or_default();
        blocks.iter().flatten().skip(at).copied()
    }

    /// Rungs from below a rank on, downwards.
    pub fn down(&self, rank: usize) -> impl Iterator<Item = Rung> + '_ {
        let (block, at) = self.locate(rank);
        let whole = &self.blocks[..block];
        let part = self.blocks.get(block).map_or(&[][..], |rungs| &rungs[..at]);
        let whole = whole.iter().rev().flat_map(|rungs| rungs.iter().rev());
        part.iter().rev().chain(whole).copied()
    }

    fn locate(&self, rank: usize) -> (usize, usize) {
        let mut at = rank;
        for (block, rungs) in self.blocks.iter().enumerate() {
            if at < rungs.len() {
                return (block, at);
            }
            at -= rungs.len();
        }
        (self.blocks.len(), 0)
    }

    fn position(&self, compare: &impl Fn(Rung) -> Ordering) -> (usize, usize) {
        let is_before = |rung: &Rung| compare(*rung) == Ordering::Less;
        // The block in front of the first one that begins at or above what is sought may hold it.
        let above = self.blocks.partition_point(|rungs| is_before(&rungs[0]));
        let Some(block) = above.checked_sub(1) else {
            return (0, 0);
        };
        let at = self.blocks[block].partition_point(is_before);
        if at == self.blocks[block].len() {
            return (above, 0);
        }
        (block, at)
    }
}
