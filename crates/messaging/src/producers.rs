//! Idempotent producers of one partition: a batch that was lost before is refused, one that was appended
//! before is answered again and not appended.
//!
//! Source: Kafka's KIP-98. Of each producer the last five batches are remembered, which is as many as a
//! client may have under way. A producer that this partition does not know may begin with any sequence:
//! it may have been forgotten here, a day after its last batch or when too many came after it.

use crate::command::ProducerMark;
use crate::reply::ErrorCode;
use base::planted::{Bug, planted};
use base::{DecodeError, Reader, Writer};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use twox_hash::XxHash64;

/// Batches remembered of each producer.
pub const BATCHES_MAX: usize = 5;
/// Producers remembered by a partition; beyond, the one that was silent for longest is forgotten.
pub const PRODUCERS_MAX: usize = 10_000;
/// A producer that was silent for so long is forgotten.
pub const FORGET_AFTER_MS: i64 = 24 * 3600 * 1000;

/// What becomes of a batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It is the next one.
    Next,
    /// It was appended before, at this offset.
    Repetition(i64),
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Sent {
    first: i32,
    last: i32,
    base_offset: i64,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Producer {
    epoch: i16,
    used_ms: i64,
    /// Oldest first, 1 to [`BATCHES_MAX`].
    sent: VecDeque<Sent>,
}

/// The producers of a partition.
#[derive(Clone, Debug, Default)]
pub struct Producers {
    table: BTreeMap<i64, Producer>,
    by_use: BTreeSet<(i64, i64)>,
    digest: u64,
}

impl Producers {
    /// Producers remembered.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Hash of all.
    pub fn digest(&self) -> u64 {
        self.digest
    }

    /// Decides about a batch of `count` records.
    pub fn check(&self, mark: ProducerMark, count: u32) -> Result<Verdict, ErrorCode> {
        if mark.id < 0 || mark.epoch < 0 || mark.sequence < 0 {
            return Err(ErrorCode::InvalidRecord);
        }
        let Some(known) = self.table.get(&mark.id) else {
            return Ok(Verdict::Next);
        };
        if mark.epoch < known.epoch {
            return Err(ErrorCode::InvalidProducerEpoch);
        }
        if mark.epoch > known.epoch {
            return if mark.sequence == 0 {
                Ok(Verdict::Next)
            } else {
                Err(ErrorCode::OutOfOrderSequence)
            };
        }
        let last = last_sequence(mark.sequence, count);
        let same = |sent: &&Sent| (sent.first, sent.last) == (mark.sequence, last);
        if let Some(sent) = known.sent.iter().find(same) {
            if planted(Bug::RepeatBatch) {
                return Ok(Verdict::Next);
            }
            return Ok(Verdict::Repetition(sent.base_offset));
        }
        let next = known.sent.back().map_or(0, |sent| following(sent.last));
        if mark.sequence == next {
            Ok(Verdict::Next)
        } else {
            Err(ErrorCode::OutOfOrderSequence)
        }
    }

    /// Remembers a batch that was appended.
    pub fn record(&mut self, mark: ProducerMark, count: u32, base_offset: i64, time_ms: i64) {
        let old = self.remove(mark.id).filter(|old| old.epoch == mark.epoch);
        let mut sent = old.map_or_else(VecDeque::new, |old| old.sent);
        if sent.len() == BATCHES_MAX {
            sent.pop_front();
        }
        sent.push_back(Sent {
            first: mark.sequence,
            last: last_sequence(mark.sequence, count),
            base_offset,
        });
        let producer = Producer {
            epoch: mark.epoch,
            used_ms: time_ms,
            sent,
        };
        self.insert(mark.id, producer);
        while let Some(&(used_ms, id)) = self.by_use.first()
            && (self.table.len() > PRODUCERS_MAX || time_ms - used_ms > FORGET_AFTER_MS)
        {
            self.remove(id);
        }
    }

    fn insert(&mut self, id: i64, producer: Producer) {
        self.digest = self.digest.wrapping_add(hash(id, &producer));
        self.by_use.insert((producer.used_ms, id));
        self.table.insert(id, producer);
    }

    fn remove(&mut self, id: i64) -> Option<Producer> {
        let producer = self.table.remove(&id)?;
        self.by_use.remove(&(producer.used_ms, id));
        self.digest = self.digest.wrapping_sub(hash(id, &producer));
        Some(producer)
    }

    /// The byte forms of all, for a snapshot.
    pub fn records(&self) -> impl Iterator<Item = Vec<u8>> {
        self.table.iter().map(|(id, producer)| {
            let mut w = Writer::new();
            encode(&mut w, *id, producer);
            w.into_vec()
        })
    }

    /// Reads one back.
    pub fn restore(&mut self, r: &mut Reader<'_>) -> Result<(), DecodeError> {
        let id = r.i64()?;
        let epoch = i16::try_from(r.i32()?).map_err(|_| DecodeError::Invalid("producer epoch"))?;
        let used_ms = r.i64()?;
        let count = r.count(16)?;
        if !(1..=BATCHES_MAX).contains(&count) || self.table.contains_key(&id) {
            return Err(DecodeError::Invalid("producer"));
        }
        let mut sent = VecDeque::with_capacity(count);
        for _ in 0..count {
            sent.push_back(Sent {
                first: r.i32()?,
                last: r.i32()?,
                base_offset: r.i64()?,
            });
        }
        let producer = Producer {
            epoch,
            used_ms,
            sent,
        };
        self.insert(id, producer);
        Ok(())
    }
}

fn encode(w: &mut Writer, id: i64, producer: &Producer) {
    w.i64(id).i32(producer.epoch.into()).i64(producer.used_ms);
    w.u32(producer.sent.len() as u32);
    for sent in &producer.sent {
        w.i32(sent.first).i32(sent.last).i64(sent.base_offset);
    }
}

fn hash(id: i64, producer: &Producer) -> u64 {
    let mut w = Writer::new();
    encode(&mut w, id, producer);
    XxHash64::oneshot(1, w.as_slice())
}

/// Sequences are 31 bits and begin again at 0.
fn following(sequence: i32) -> i32 {
    sequence.checked_add(1).unwrap_or(0)
}

fn last_sequence(first: i32, count: u32) -> i32 {
    ((i64::from(first) + i64::from(count) - 1) & i64::from(i32::MAX)) as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(id: i64, epoch: i16, sequence: i32) -> ProducerMark {
        ProducerMark {
            id,
            epoch,
            sequence,
        }
    }

    #[test]
    fn sequences_begin_again_behind_the_largest() {
        let mut producers = Producers::default();
        producers.record(mark(1, 0, i32::MAX - 1), 2, 0, 0);
        assert_eq!(producers.check(mark(1, 0, 0), 1), Ok(Verdict::Next));
        let mut producers = Producers::default();
        producers.record(mark(1, 0, i32::MAX), 3, 0, 0);
        assert_eq!(producers.check(mark(1, 0, 2), 1), Ok(Verdict::Next));
        assert_eq!(
            producers.check(mark(1, 0, i32::MAX), 3),
            Ok(Verdict::Repetition(0))
        );
    }

    #[test]
    fn silent_and_supernumerary_producers_are_forgotten() {
        let mut producers = Producers::default();
        for id in 0..PRODUCERS_MAX as i64 + 10 {
            producers.record(mark(id, 0, 0), 1, id, id);
        }
        assert_eq!(producers.len(), PRODUCERS_MAX);
        assert_eq!(
            producers.check(mark(10, 0, 7), 1),
            Err(ErrorCode::OutOfOrderSequence)
        );
        assert_eq!(
            producers.check(mark(9, 0, 7), 1),
            Ok(Verdict::Next),
            "forgotten"
        );
        producers.record(
            mark(5, 0, 0),
            1,
            0,
            FORGET_AFTER_MS + PRODUCERS_MAX as i64 + 10,
        );
        assert_eq!(producers.len(), 1);
        producers.remove(5);
        assert_eq!((producers.digest(), producers.by_use.len()), (0, 0));
    }
}
