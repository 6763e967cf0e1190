//! A partition's log, in memory: batches in segments, of which only the last one grows.
//!
//! The idea: batches are copied out of the network's buffers into chunks that grow with the partition up
//! to a segment's size, so that an idle partition costs a few KiB and a busy one a few allocations a MiB.
//! Records leave from the front by whole segments only. Sealed segments are shared, not copied, with a
//! snapshot that is being taken; a store on disk can take their place without the machine's contract
//! changing. Where segments begin is part of the replicated state: it decides what a trim frees.
//!
//! Cost: a read is two binary searches; an append is one copy and one hash of the batch.

use crate::command::{LogConfig, NewBatch, PartitionId};
use crate::reply::ErrorCode;
use base::Writer;
use base::planted::{Bug, planted};
use bytes::{Bytes, BytesMut};
use std::collections::VecDeque;
use std::sync::Arc;
use twox_hash::XxHash64;

/// The first chunk of a partition that begins to be written.
const CHUNK_BYTES_MIN: usize = 4 << 10;
/// Chunks do not grow beyond this, unless for one batch.
const CHUNK_BYTES_MAX: usize = 1 << 20;

/// Records that were appended together.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Batch {
    /// Offset of the first record. It does not stand in `bytes`: whoever sends them writes it there.
    pub base_offset: i64,
    /// Records in it.
    pub count: u32,
    /// The newest record's time, Unix milliseconds; negative: none.
    pub max_timestamp_ms: i64,
    /// The batch as it came.
    pub bytes: Bytes,
}

impl Batch {
    /// The offset behind the last record.
    pub fn end_offset(&self) -> i64 {
        self.base_offset + i64::from(self.count)
    }
}

/// A run of batches.
#[derive(Clone, Debug, Default)]
pub struct Segment {
    pub batches: Vec<Batch>,
    pub bytes: u64,
    pub max_timestamp_ms: i64,
    /// When the last batch was appended.
    pub appended_ms: i64,
    pub digest: u64,
}

impl Segment {
    fn base_offset(&self) -> i64 {
        self.batches.first().map_or(0, |b| b.base_offset)
    }

    fn end_offset(&self) -> i64 {
        self.batches.last().map_or(0, Batch::end_offset)
    }

    /// Hash of where it begins and of when it was last appended to; 0 while it is empty.
    fn mark(&self) -> u64 {
        if self.batches.is_empty() {
            return 0;
        }
        let mut w = Writer::new();
        w.i64(self.base_offset()).i64(self.appended_ms);
        XxHash64::oneshot(9, w.as_slice())
    }

    /// The time by which the segment ages: its newest record's, or for want of one that of the append.
    fn newest_ms(&self) -> i64 {
        if self.max_timestamp_ms >= 0 {
            self.max_timestamp_ms
        } else {
            self.appended_ms
        }
    }
}

/// The log.
#[derive(Clone, Debug)]
pub struct Log {
    partition: PartitionId,
    sealed: VecDeque<Arc<Segment>>,
    open: Segment,
    /// What is left of the chunk that batches are copied to.
    chunk: BytesMut,
    chunk_bytes: usize,
    start: i64,
    end: i64,
    bytes: u64,
    digest: u64,
}

impl Log {
    /// An empty log that begins at `start`.
    pub fn new(partition: PartitionId, start: i64) -> Self {
        Self {
            partition,
            sealed: VecDeque::new(),
            open: Segment {
                max_timestamp_ms: -1,
                ..Segment::default()
            },
            chunk: BytesMut::new(),
            chunk_bytes: CHUNK_BYTES_MIN / 2,
            start,
            end: start,
            bytes: 0,
            digest: 0,
        }
    }

    /// The first offset that can be read.
    pub fn start(&self) -> i64 {
        self.start
    }

    /// The offset that comes next.
    pub fn end(&self) -> i64 {
        self.end
    }

    /// Bytes of batches held.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Segments held, with the one that grows.
    pub fn segment_count(&self) -> usize {
        self.sealed.len() + usize::from(!self.open.batches.is_empty())
    }

    /// Hash of all batches held.
    pub fn digest(&self) -> u64 {
        self.digest
    }

    /// Takes a batch; returns its first record's offset.
    pub fn append(&mut self, batch: &NewBatch, config: &LogConfig, time_ms: i64) -> i64 {
        let size = batch.bytes.len() as u64;
        if self.open.bytes > 0 && self.open.bytes + size > config.segment_bytes {
            self.seal();
        }
        let stored = Batch {
            base_offset: self.end,
            count: batch.count,
            max_timestamp_ms: batch.max_timestamp_ms,
            bytes: self.copy(&batch.bytes),
        };
        self.put(stored, time_ms);
        self.end - i64::from(batch.count)
    }

    /// Ends the segment that grows.
    pub fn seal(&mut self) {
        if !self.open.batches.is_empty() {
            let next = Segment {
                max_timestamp_ms: -1,
                ..Segment::default()
            };
            self.sealed
                .push_back(Arc::new(std::mem::replace(&mut self.open, next)));
        }
    }

    /// A batch of a snapshot; false when it does not follow the one before.
    pub fn put_restored(&mut self, mut batch: Batch, time_ms: i64) -> bool {
        let is_first = self.segment_count() == 0;
        let follows = if is_first {
            batch.base_offset <= self.start
        } else {
            batch.base_offset == self.end
        };
        let end = batch.base_offset.checked_add(i64::from(batch.count));
        if !follows || batch.count == 0 || batch.base_offset < 0 || end.is_none() {
            return false;
        }
        batch.bytes = self.copy(&batch.bytes);
        self.end = batch.base_offset;
        self.put(batch, time_ms);
        true
    }

    /// True when all that a snapshot held has come.
    pub fn ends_restored(&self, end: i64) -> bool {
        self.end == end
    }

    fn put(&mut self, batch: Batch, time_ms: i64) {
        let hash = hash(self.partition, &batch);
        let size = batch.bytes.len() as u64;
        self.end = batch.end_offset();
        self.bytes += size;
        let open = &mut self.open;
        let before = open.digest;
        open.digest = before.wrapping_sub(open.mark()).wrapping_add(hash);
        open.bytes += size;
        open.max_timestamp_ms = open.max_timestamp_ms.max(batch.max_timestamp_ms);
        open.appended_ms = time_ms;
        open.batches.push(batch);
        open.digest = open.digest.wrapping_add(open.mark());
        self.digest = self.digest.wrapping_add(open.digest.wrapping_sub(before));
    }

    fn copy(&mut self, bytes: &[u8]) -> Bytes {
        if self.chunk.capacity() < bytes.len() {
            self.chunk_bytes = (self.chunk_bytes * 2).min(CHUNK_BYTES_MAX);
            self.chunk = BytesMut::with_capacity(self.chunk_bytes.max(bytes.len()));
        }
        self.chunk.extend_from_slice(bytes);
        self.chunk.split().freeze()
    }

    /// Moves the start forward to `to` (never back, never behind the end) and frees the segments that lie
    /// before it as a whole. Returns the start.
    pub fn trim(&mut self, to: i64) -> i64 {
        self.start = to.clamp(self.start, self.end);
        if self.start == self.end {
            self.seal();
            self.chunk = BytesMut::new();
            self.chunk_bytes = CHUNK_BYTES_MIN / 2;
        }
        while let Some(first) = self.sealed.front()
            && first.end_offset() <= self.start
        {
            self.bytes -= first.bytes;
            self.digest = self.digest.wrapping_sub(first.digest);
            self.sealed.pop_front();
        }
        self.start
    }

    /// Where the log would begin if the retention were applied now; `None` when nothing has to go.
    pub fn retained_from(&self, config: &LogConfig, time_ms: i64) -> Option<i64> {
        let mut bytes = self.bytes;
        let mut from = self.start;
        let open = (!self.open.batches.is_empty()).then_some(&self.open);
        let divisor = 1 + u64::from(planted(Bug::TrimTooMuch));
        let kept = config.retention_records.map(|n| n / divisor);
        for segment in self.sealed.iter().map(Arc::as_ref).chain(open) {
            let is_open = std::ptr::eq(segment, &self.open);
            let too_much = !is_open && bytes - segment.bytes >= config.retention_bytes;
            let records_left = (self.end - segment.end_offset()) as u64;
            let too_many = !is_open && kept.is_some_and(|n| records_left >= n);
            let age_ms = time_ms.saturating_sub(segment.newest_ms());
            let too_old = config
                .retention_ms
                .is_some_and(|ms| age_ms > i64::try_from(ms).unwrap_or(i64::MAX));
            if !too_much && !too_many && !too_old {
                break;
            }
            bytes -= segment.bytes;
            from = segment.end_offset();
        }
        (from > self.start).then_some(from)
    }

    /// Batches from the one that holds `offset` on, up to `bytes_max`; the first one is given even if it
    /// is larger, when `at_least_one`.
    pub fn read(
        &self,
        offset: i64,
        bytes_max: usize,
        at_least_one: bool,
    ) -> Result<Vec<Batch>, ErrorCode> {
        if !(self.start..=self.end).contains(&offset) {
            return Err(ErrorCode::OffsetOutOfRange);
        }
        let mut found: Vec<Batch> = Vec::new();
        let mut room = bytes_max;
        for batch in self.batches_from(offset) {
            let size = batch.bytes.len();
            if size > room && !(at_least_one && found.is_empty()) {
                break;
            }
            room = room.saturating_sub(size);
            found.push(batch.clone());
        }
        Ok(found)
    }

    fn batches_from(&self, offset: i64) -> impl Iterator<Item = &Batch> {
        let first = self.sealed.partition_point(|s| s.end_offset() <= offset);
        let segments = (self.sealed.range(first..).map(Arc::as_ref)).chain([&self.open]);
        segments.flat_map(move |s| {
            let at = s.batches.partition_point(|b| b.end_offset() <= offset);
            &s.batches[at..]
        })
    }

    /// The first batch with a record that is not older than `time_ms`.
    pub fn batch_at_time(&self, time_ms: i64) -> Option<&Batch> {
        let segments = self.sealed.iter().map(Arc::as_ref).chain([&self.open]);
        segments
            .filter(|s| s.max_timestamp_ms >= time_ms)
            .flat_map(|s| &s.batches)
            .find(|b| b.max_timestamp_ms >= time_ms && b.end_offset() > self.start)
    }

    /// The first batch with the newest record's time, if any record has one.
    pub fn newest_batch(&self) -> Option<&Batch> {
        let segments = self.sealed.iter().map(Arc::as_ref).chain([&self.open]);
        let newest = segments.clone().map(|s| s.max_timestamp_ms).max()?;
        if newest < 0 {
            return None;
        }
        let mut holding = segments.filter(|s| s.max_timestamp_ms == newest);
        let batches = &holding.next()?.batches;
        batches.iter().find(|b| b.max_timestamp_ms == newest)
    }

    /// All segments, as they are now; only the handles of the one that grows are copied.
    pub fn segments(&self) -> VecDeque<Arc<Segment>> {
        let mut all = self.sealed.clone();
        if !self.open.batches.is_empty() {
            all.push_back(Arc::new(self.open.clone()));
        }
        debug_assert!(
            all.iter()
                .zip(all.iter().skip(1))
                .all(|(a, b)| a.end_offset() == b.base_offset())
        );
        all
    }
}

fn hash(partition: PartitionId, batch: &Batch) -> u64 {
    let mut w = Writer::new();
    partition.encode_into(&mut w);
    w.i64(batch.base_offset).u32(batch.count);
    w.i64(batch.max_timestamp_ms);
    XxHash64::oneshot(XxHash64::oneshot(0, w.as_slice()), &batch.bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(count: u32, size: usize, time_ms: i64) -> NewBatch {
        NewBatch {
            count,
            max_timestamp_ms: time_ms,
            producer: None,
            bytes: Bytes::from(vec![7; size]),
        }
    }

    fn filled(config: &LogConfig, batches: &[NewBatch]) -> Log {
        let mut log = Log::new(PartitionId::default(), 0);
        for b in batches {
            log.append(b, config, b.max_timestamp_ms);
        }
        log
    }

    const SMALL: LogConfig = LogConfig {
        retention_bytes: 250,
        retention_records: None,
        retention_ms: Some(1000),
        segment_bytes: 100,
        batch_bytes_max: 1000,
    };

    #[test]
    fn reading_inside_of_a_batch_gives_the_whole_batch() {
        let log = filled(&SMALL, &[batch(10, 60, 1), batch(5, 60, 2)]);
        let at = |offset| {
            let found = log.read(offset, 1000, false).expect("in range");
            found.iter().map(|b| b.base_offset).collect::<Vec<_>>()
        };
        assert_eq!(at(0), [0, 10]);
        assert_eq!(at(9), [0, 10]);
        assert_eq!(at(10), [10]);
        assert_eq!(at(15), []);
        assert_eq!(log.read(16, 1, true), Err(ErrorCode::OffsetOutOfRange));
        assert_eq!(log.read(-1, 1, true), Err(ErrorCode::OffsetOutOfRange));
    }

    #[test]
    fn reading_stops_at_the_limit_but_gives_one_batch_if_told_to() {
        let log = filled(&SMALL, &[batch(1, 60, 1), batch(1, 60, 2)]);
        let count = |max, one| log.read(0, max, one).expect("in range").len();
        assert_eq!(count(59, false), 0);
        assert_eq!(count(59, true), 1);
        assert_eq!(count(119, true), 1);
        assert_eq!(count(120, true), 2);
    }

    #[test]
    fn m21_retention_by_size_keeps_at_least_what_is_configured() {
        // Segments of 100 bytes, 250 to be kept: the oldest of four goes, the second of the rest stays.
        let all: Vec<_> = (0..8).map(|i| batch(1, 50, i)).collect();
        let mut log = filled(&SMALL, &all);
        assert_eq!(log.segment_count(), 4);
        assert_eq!(log.retained_from(&SMALL, 8), Some(2));
        log.trim(2);
        assert_eq!((log.bytes(), log.retained_from(&SMALL, 8)), (300, None));
    }

    #[test]
    fn m21_retention_by_age_frees_a_segment_once_its_newest_record_is_too_old() {
        let all: Vec<_> = (0..5).map(|i| batch(1, 50, i * 100)).collect();
        let mut log = filled(&SMALL, &all);
        // Segments hold the times (0, 100) (200, 300) (400).
        assert_eq!(log.retained_from(&SMALL, 1100), None);
        assert_eq!(log.retained_from(&SMALL, 1101), Some(2));
        assert_eq!(log.retained_from(&SMALL, 1301), Some(4));
        assert_eq!(log.retained_from(&SMALL, 1401), Some(5));
        log.trim(5);
        assert_eq!((log.bytes(), log.digest(), log.start()), (0, 0, 5));
        assert_eq!(log.append(&batch(1, 50, 9), &SMALL, 9), 5);
    }

    #[test]
    fn trim_inside_of_a_segment_hides_without_freeing() {
        let all: Vec<_> = (0..4).map(|i| batch(10, 50, i)).collect();
        let mut log = filled(&SMALL, &all);
        assert_eq!(log.trim(15), 15);
        assert_eq!(log.bytes(), 200);
        assert_eq!(log.read(14, 1, true), Err(ErrorCode::OffsetOutOfRange));
        assert_eq!(log.read(15, 1, true).expect("in range")[0].base_offset, 10);
        assert_eq!(log.trim(25), 25);
        assert_eq!(log.bytes(), 100);
        assert_eq!((log.trim(3), log.trim(99)), (25, 40));
    }

    #[test]
    fn lookup_by_time_gives_the_first_batch_that_reaches_it() {
        let log = filled(
            &SMALL,
            &[batch(1, 60, 10), batch(1, 60, 30), batch(1, 60, 20)],
        );
        let at = |t| log.batch_at_time(t).map(|b| b.base_offset);
        assert_eq!(
            [at(0), at(10), at(11), at(30), at(31)],
            [Some(0), Some(0), Some(1), Some(1), None]
        );
        assert_eq!(log.newest_batch().map(|b| b.base_offset), Some(1));
    }
}
