//! Which segments exist, and whose entries keep them from being freed.

use base::{LogIndex, ShardId};
use std::collections::{BTreeMap, VecDeque};

/// One file of the journal.
#[derive(Debug)]
struct Segment {
    number: u64,
    bytes: u64,
    /// Highest entry index of each life of a shard in here.
    entries: BTreeMap<u64, LogIndex>,
}

/// One life of a shard: from its first frame here to its removal.
#[derive(Debug)]
struct Life {
    shard: ShardId,
    /// What the shard released.
    released: LogIndex,
    /// Where its latest durable mark is: never is more freed than this.
    marked: LogIndex,
}

/// Segments, oldest first; the last one is being written.
#[derive(Debug, Default)]
pub struct Segments {
    all: VecDeque<Segment>,
    lives: BTreeMap<u64, Life>,
}

impl Segments {
    pub fn push(&mut self, number: u64, bytes: u64) {
        self.all.push_back(Segment {
            number,
            bytes,
            entries: BTreeMap::new(),
        });
    }

    pub fn written(&mut self, number: u64, bytes: u64) {
        if let Some(segment) = self.all.iter_mut().rev().find(|s| s.number == number) {
            segment.bytes = bytes;
        }
    }

    pub fn bytes(&self) -> u64 {
        self.all.iter().map(|s| s.bytes).sum()
    }

    pub fn begin_life(&mut self, life: u64, shard: ShardId) {
        let fresh = Life {
            shard,
            released: 0,
            marked: 0,
        };
        self.lives.insert(life, fresh);
    }

    /// The life pins nothing any more.
    pub fn end_life(&mut self, life: u64) {
        self.lives.remove(&life);
    }

    /// The last segment holds the life's entry `index`.
    pub fn pin(&mut self, life: u64, index: LogIndex) {
        if let Some(segment) = self.all.back_mut() {
            let highest = segment.entries.entry(life).or_default();
            *highest = (*highest).max(index);
        }
    }

    pub fn release(&mut self, life: u64, index: LogIndex) {
        if let Some(life) = self.lives.get_mut(&life) {
            life.released = life.released.max(index);
        }
    }

    pub fn marked(&mut self, life: u64, index: LogIndex) {
        if let Some(life) = self.lives.get_mut(&life) {
            life.marked = life.marked.max(index);
        }
    }

    /// The life's entries from `from` on in segments before `before_segment` were replaced.
    pub fn overridden(&mut self, life: u64, from: LogIndex, before_segment: u64) {
        for segment in &mut self.all {
            if segment.number < before_segment
                && let Some(highest) = segment.entries.get_mut(&life)
            {
                *highest = (*highest).min(from.saturating_sub(1));
            }
        }
    }

    /// Drops and returns the numbers of the oldest segments before `number` that nobody pins.
    pub fn free_before(&mut self, number: u64) -> Vec<u64> {
        let mut freed = Vec::new();
        while let Some(first) = self.all.front() {
            if first.number >= number || self.pinning(first).next().is_some() {
                break;
            }
            freed.push(first.number);
            self.all.pop_front();
        }
        freed
    }

    /// A shard that pins the oldest segment (before `number`), and the bytes at the front that it alone pins.
    pub fn oldest_pinning(&self, number: u64) -> Option<(ShardId, u64)> {
        let mut old = self.all.iter().take_while(|s| s.number < number);
        let shard = self.pinning(old.next()?).next()?;
        let alone = self
            .all
            .iter()
            .take_while(|s| s.number < number && self.pinning(s).all(|other| other == shard));
        Some((shard, alone.map(|s| s.bytes).sum()))
    }

    fn pinning(&self, segment: &Segment) -> impl Iterator<Item = ShardId> {
        segment.entries.iter().filter_map(|(life, highest)| {
            let life = self.lives.get(life)?;
            (*highest > life.released.min(life.marked)).then_some(life.shard)
        })
    }
}
