//! A sorted set: members with scores in a table, and their order beside it.

use super::super::blob::Blob;
use super::super::hash::{Seed, digest};
use super::super::table::{Keyed, Table};
use super::order::{Order, Rung};
use std::cmp::Ordering;

/// A member with its score, which is never NaN.
#[derive(Clone, Debug)]
pub struct Scored {
    hash: u32,
    name: Blob,
    score: f64,
}

impl Keyed for Scored {
    fn hash(&self) -> u32 {
        self.hash
    }
    fn key(&self) -> &[u8] {
        self.name.as_slice()
    }
}

impl Scored {
    /// Its bytes.
    pub fn name(&self) -> &[u8] {
        self.name.as_slice()
    }

    /// Its score.
    pub fn score(&self) -> f64 {
        self.score
    }

    fn digest(&self) -> u64 {
        digest(self.score.to_bits(), self.name())
    }
}

/// The sorted set.
#[derive(Clone, Debug, Default)]
pub struct Sorted {
    table: Table<Scored>,
    order: Order,
    content: u64,
    bytes: usize,
}

impl Sorted {
    /// Members.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Bytes of the members, and 8 for each score.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The digest of what it holds.
    pub fn content(&self) -> u64 {
        self.content
    }

    /// All members, in the order of the table.
    pub fn iter(&self) -> std::slice::Iter<'_, Scored> {
        self.table.iter()
    }

    /// A member's score.
    pub fn score(&self, seed: Seed, name: &[u8]) -> Option<f64> {
        let at = self.table.find(seed.hash32(name), name)?;
        Some(self.table.at(at).score)
    }

    /// Sets a member's score; true when the member is new.
    pub fn set(&mut self, seed: Seed, name: &[u8], score: f64) -> bool {
        let hash = seed.hash32(name);
        let found = self.table.find(hash, name);
        let at = match found {
            Some(at) => {
                let old = self.table.at(at);
                if old.score.to_bits() == score.to_bits() {
                    return false;
                }
                self.content = self.content.wrapping_sub(old.digest());
                self.order.remove(Self::is_at(&self.table, old.score, name));
                self.table.at_mut(at).score = score;
                at
            }
            None => {
                self.bytes += name.len() + 8;
                let name = Blob::new(name);
                self.table.insert(Scored { hash, name, score })
            }
        };
        self.content = self.content.wrapping_add(self.table.at(at).digest());
        let place = (score, at as u32);
        self.order
            .insert(place, Self::is_at(&self.table, score, name));
        found.is_none()
    }

    /// Takes a member out; false when it was not there.
    pub fn remove(&mut self, seed: Seed, name: &[u8]) -> bool {
        let Some(at) = self.table.find(seed.hash32(name), name) else {
            return false;
        };
        self.take(at);
        true
    }

    /// Takes the member of a rank below `len` out.
    pub fn take_rank(&mut self, rank: usize) -> Scored {
        let (_, at) = self.order.up(rank).next().expect("a rank below the length");
        self.take(at as usize)
    }

    fn take(&mut self, at: usize) -> Scored {
        let table = &self.table;
        let gone = table.at(at);
        self.order
            .remove(Self::is_at(table, gone.score, gone.name()));
        let last = table.len() - 1;
        if at != last {
            let moved = table.at(last);
            self.order
                .rename(at as u32, Self::is_at(table, moved.score, moved.name()));
        }
        let gone = self.table.swap_remove(at);
        self.content = self.content.wrapping_sub(gone.digest());
        self.bytes -= gone.name.len() + 8;
        gone
    }

    fn is_at<'a>(
        table: &'a Table<Scored>,
        score: f64,
        name: &'a [u8],
    ) -> impl Fn(Rung) -> Ordering + 'a {
        move |(other, at)| match other.partial_cmp(&score) {
            Some(Ordering::Equal) => table.at(at as usize).name().cmp(name),
            by_score => by_score.expect("scores are numbers"),
        }
    }

    /// How many members stand before a score and a member.
    pub fn rank_of(&self, score: f64, name: &[u8]) -> usize {
        self.order.rank_by(Self::is_at(&self.table, score, name))
    }

    /// How many members stand before the first of which `is_before` is false. It must be true for all below.
    pub fn rank_where(&self, is_before: impl Fn(&Scored) -> bool) -> usize {
        self.order
            .rank_by(|(_, at)| match is_before(self.table.at(at as usize)) {
                true => Ordering::Less,
                false => Ordering::Greater,
            })
    }

    /// Members from a rank on, upwards.
    pub fn up(&self, rank: usize) -> impl Iterator<Item = &Scored> {
        self.order
            .up(rank)
            .map(|(_, at)| self.table.at(at as usize))
    }

    /// Members from below a rank on, downwards.
    pub fn down(&self, rank: usize) -> impl Iterator<Item = &Scored> {
        self.order
            .down(rank)
            .map(|(_, at)| self.table.at(at as usize))
    }

    /// See [`Table::scan`].
    pub fn scan<'a>(
        &'a self,
        from: u32,
        count: usize,
        meet: impl FnMut(&'a Scored),
    ) -> Option<u32> {
        self.table.scan(from, count, meet)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::Rng;
    use std::collections::BTreeMap;

    fn ladder(score: f64, name: &[u8], than: f64, than_name: &[u8]) -> Ordering {
        let by_score = score.partial_cmp(&than).expect("scores are numbers");
        by_score.then_with(|| name.cmp(than_name))
    }

    #[test]
    fn order_is_that_of_a_sorted_vector() {
        let mut rng = Rng::new(4);
        let seed = Seed::draw(1);
        let (mut sorted, mut model) = (Sorted::default(), BTreeMap::new());
        for step in 0..30_000u64 {
            let name = rng
                .range(0, if step < 15_000 { 4000 } else { 300 })
                .to_string();
            let score = rng.range(0, 50) as f64 / 4.0 - 3.0;
            if rng.one_in(if step < 15_000 { 4 } else { 2 }) {
                let was_there = model.remove(&name).is_some();
                assert_eq!(sorted.remove(seed, name.as_bytes()), was_there);
            } else {
                let is_new = model.insert(name.clone(), score).is_none();
                assert_eq!(sorted.set(seed, name.as_bytes(), score), is_new);
            }
            if step % 1000 == 0 {
                let mut all: Vec<_> = model.iter().map(|(n, s)| (*s, n.as_bytes())).collect();
                all.sort_by(|a, b| ladder(a.0, a.1, b.0, b.1));
                let up: Vec<_> = sorted.up(0).map(|m| (m.score(), m.name())).collect();
                assert_eq!(up, all);
                for (rank, (score, name)) in all.iter().enumerate() {
                    assert_eq!(sorted.rank_of(*score, name), rank);
                }
                let middle = all.len() / 2;
                let down: Vec<_> = sorted.down(middle).map(|m| (m.score(), m.name())).collect();
                assert!(down.iter().rev().eq(&all[..middle]));
                assert!(
                    sorted
                        .up(middle)
                        .map(|m| m.name())
                        .eq(all[middle..].iter().map(|m| m.1))
                );
                let below = sorted.rank_where(|m| m.score() < 2.0);
                assert_eq!(below, all.iter().filter(|m| m.0 < 2.0).count());
            }
        }
    }
}
