//! The writing side: gathers frames, writes and syncs them, seals, rolls and frees segments.

use crate::frame::Frame;
use crate::op::{DiskOp, DiskResult, Ticket};
use crate::recovery::Recovered;
use base::{LaneId, LogIndex, Now, ShardId};

/// A place in a lane's journal: bytes since the lane began, monotone. Of a frame: its end.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Hash)]
pub struct Position(pub u64);

/// Settings of one lane.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct JournalConfig {
    /// Which lane this is; written into each segment.
    pub lane: LaneId,
    /// A segment that has reached this many bytes is followed by a new one; one flush may overshoot.
    pub segment_bytes_max: u64,
    /// A seal goes alone when no data followed a sync for this many microseconds.
    pub seal_delay_us: u64,
}

impl Default for JournalConfig {
    fn default() -> Self {
        Self {
            lane: LaneId(0),
            segment_bytes_max: 64 << 20,
            seal_delay_us: 10_000,
        }
    }
}

/// What a completed disk operation meant for the journal.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum JournalProgress {
    /// The ticket is not the journal's: the caller's own operation.
    NotMine,
    /// The journal's, but the write under way has further steps.
    Pending,
    /// All up to here is durable.
    Synced(Position),
    /// The disk is full. Nothing is lost: what was gathered stays pending, and the next [`Journal::flush`]
    /// writes it again to the same places. The caller refuses new writes, keeps serving reads, frees
    /// what it can (snapshot, release) and calls `flush` again from time to time.
    Full,
    /// The lane is done for; said once. Nothing is emitted any more and nothing becomes durable.
    Failed(String),
}

/// One lane's journal: an append-only sequence of segments.
#[derive(Debug)]
pub struct Journal {}

impl Journal {
    /// A journal that continues after what was recovered, always in a new segment. Call [`Self::flush`]
    /// at once: what was recovered may not be durable before [`Self::opened`] is (it may have been read
    /// from the operating system's cache), so hold back every promise that leans on it until then.
    pub fn new(_recovered: &Recovered, _config: JournalConfig) -> Self {
        todo!()
    }

    /// The position that [`Self::durable`] has to reach before recovered frames may be relied upon.
    pub fn opened(&self) -> Position {
        todo!()
    }

    /// Gathers a frame for the next flush. Returns the position at which it ends.
    pub fn append(&mut self, _shard: ShardId, _frame: Frame) -> Position {
        todo!()
    }

    /// Emits a write and a sync for what was gathered, unless a sync is under way: then it goes with the next.
    pub fn flush(&mut self, _now: Now) {
        todo!()
    }

    /// Takes the report of a ticket. After `Synced`, call [`Self::flush`] again: frames may have been gathered.
    pub fn handle_done(
        &mut self,
        _now: Now,
        _ticket: Ticket,
        _result: &DiskResult,
    ) -> JournalProgress {
        todo!()
    }

    /// A ticket of this lane for the caller's own operations (snapshot files).
    pub fn next_ticket(&mut self) -> Ticket {
        todo!()
    }

    /// Up to where all is durable.
    pub fn durable(&self) -> Position {
        todo!()
    }

    /// The end of the last appended frame.
    pub fn appended(&self) -> Position {
        todo!()
    }

    /// The next disk operation, in order.
    pub fn poll_op(&mut self) -> Option<DiskOp> {
        todo!()
    }

    /// Monotonic microseconds at which [`Self::handle_tick`] wants to be called (a seal goes alone).
    pub fn deadline_us(&self) -> Option<u64> {
        todo!()
    }

    /// Writes a seal whose time has come.
    pub fn handle_tick(&mut self, _now: Now) {
        todo!()
    }

    /// The shard no longer needs entries up to `index`: it has appended a `Mark` at or above it. Takes effect
    /// once that mark is durable; frees whole segments from the front.
    pub fn release(&mut self, _shard: ShardId, _index: LogIndex) {
        todo!()
    }

    /// Same as appending [`Frame::Removed`] (for a shard that the journal knows), and nothing of the shard pins a segment any more once that is durable.
    pub fn remove_shard(&mut self, _shard: ShardId) {
        todo!()
    }

    /// A shard that keeps the oldest segment from being freed, and the bytes that it alone pins at the
    /// front (0 while others pin the oldest segment too). A cold shard is snapshotted rather than pinning one.
    pub fn oldest_pinning_shard(&self) -> Option<(ShardId, u64)> {
        todo!()
    }

    /// Bytes of the segments that exist, as far as written.
    pub fn bytes_on_disk(&self) -> u64 {
        todo!()
    }

    /// Syncs emitted in this run.
    pub fn syncs(&self) -> u64 {
        todo!()
    }

    /// Bytes of writes emitted in this run.
    pub fn bytes_written(&self) -> u64 {
        todo!()
    }
}
