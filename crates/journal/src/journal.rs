//! The writing side: gathers frames, writes and syncs them, seals, rolls and frees segments.

mod frames;

use crate::frame::{Frame, HardState, Mark};
use crate::op::{DiskOp, DiskResult, FileId, Ticket};
use crate::recovery::{LaneVerdict, Recovered, ShardVerdict};
use crate::segments::Segments;
use crate::shape::Shape;
use crate::wire::{Header, Kind};
use base::{LaneId, LogIndex, Now, ShardId};
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};

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

/// Frames that may wait are written when they have become so many bytes.
pub(crate) const LAZY_BYTES_MAX: usize = 4 << 20;

/// Room made beforehand for what is gathered next, and kept of what was written; where frames may wait, as much as
/// they come to. Memory that is asked for anew costs a fault each 4 KiB.
const GATHER_BYTES_KEPT: usize = 256 << 10;
const LAZY_BYTES_KEPT: usize = 2 * LAZY_BYTES_MAX;

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

/// What has to be re-stated of a shard at the start of each segment.
#[derive(Debug, Default)]
struct Live {
    /// Names one life of the shard here; its pins on segments go by this.
    life: u64,
    shape: Shape,
    mark: Option<Mark>,
    hard_state: Option<HardState>,
    rotten: Option<String>,
}

/// What becomes true for the pins once a batch is durable.
#[derive(Debug)]
enum Effect {
    Marked {
        life: u64,
        index: LogIndex,
    },
    Overridden {
        life: u64,
        from: LogIndex,
        before_segment: u64,
    },
    Ended {
        life: u64,
    },
}

/// Frames being gathered: the next write, encoded as it will stand in the file.
#[derive(Debug, Default)]
struct Gather {
    bytes: Vec<u8>,
    /// Of `bytes`, a seal that went alone already: it is written again with what follows, since nobody
    /// reports whether a write without a sync succeeded.
    seal_bytes: usize,
    /// Written and made durable in the segment before, once this one is.
    next: Option<Piece>,
    /// Made durable before this is written.
    rewrite: Option<Piece>,
    effects: Vec<Effect>,
}

impl Gather {
    fn is_empty(&self) -> bool {
        self.bytes.len() == self.seal_bytes
    }
}

/// Bytes for a finished segment: the frame that tells which one follows, or what a former run wrote at its end
/// and may have failed to make durable.
#[derive(Debug)]
struct Piece {
    segment: u64,
    offset: u64,
    bytes: Bytes,
}

/// The phases of a batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// The end of the segment before, as recovery read it, is written again and synced: only then may a head
    /// say that the segment reaches that far. Another sync alone could succeed without having written
    /// anything, since pages whose sync failed count as clean.
    Rewrite,
    /// The frames are being written and synced.
    Data,
    /// They are durable; the segment before is being told of its successor.
    Next,
}

/// What is under way.
#[derive(Debug)]
struct Batch {
    phase: Phase,
    segment: u64,
    offset: u64,
    bytes: Bytes,
    next: Option<Piece>,
    rewrite: Option<Piece>,
    effects: Vec<Effect>,
    end: Position,
    chain: u32,
    waiting: Vec<Ticket>,
    full: bool,
    is_urgent: bool,
}

/// One lane's journal: an append-only sequence of segments.
#[derive(Debug)]
pub struct Journal {
    config: JournalConfig,
    next_ticket: u64,
    next_life: u64,
    ops: VecDeque<DiskOp>,
    live: BTreeMap<ShardId, Live>,
    segments: Segments,
    /// Segments of no content, deleted once the first batch is durable.
    void: Vec<u64>,
    lane_rotten: bool,
    /// The segment being written: its number, the position of its first byte, where `gather` begins in it.
    segment: u64,
    base: u64,
    offset: u64,
    /// Running checksum of the segment, up to the end of `gather`.
    chain: u32,
    gather: Gather,
    /// Of the last batch, for the one after the next.
    spare: Vec<u8>,
    batch: Option<Batch>,
    opened: Position,
    appended: Position,
    durable: Position,
    /// Durable, of the current segment, and not sealed: the position and the running checksum there.
    unsealed: Option<(Position, u32)>,
    seal_at_us: u64,
    /// What is not sealed was promised: its seal does not wait with what may.
    seal_is_owed: bool,
    /// Shards whose frames may wait, and how long, in microseconds.
    lazy: BTreeMap<ShardId, u64>,
    /// Something that was gathered may not wait.
    is_urgent: bool,
    /// Since when what was gathered has been waiting, and how long it may.
    waits: Option<(u64, u64)>,
    failed: bool,
    syncs: u64,
    bytes_written: u64,
}

impl Journal {
    /// A journal that continues after what was recovered, always in a new segment. Call [`Self::flush`]
    /// at once: what was recovered may not be durable before [`Self::opened`] is (it may have been read
    /// from the operating system's cache), so hold back every promise that leans on it until then.
    pub fn new(recovered: &Recovered, config: JournalConfig) -> Self {
        let resume = &recovered.resume;
        let mut journal = Self {
            config,
            next_ticket: 1,
            next_life: 1,
            ops: VecDeque::new(),
            live: BTreeMap::new(),
            segments: Segments::default(),
            void: resume.void.clone(),
            lane_rotten: matches!(recovered.verdict, LaneVerdict::Rotten(_)),
            segment: resume.last_number,
            base: recovered.end.0,
            offset: 0,
            chain: 0,
            gather: Gather::default(),
            spare: Vec::new(),
            batch: None,
            opened: Position(0),
            appended: Position(0),
            durable: recovered.end,
            unsealed: None,
            seal_at_us: 0,
            seal_is_owed: false,
            lazy: BTreeMap::new(),
            is_urgent: true,
            waits: None,
            failed: false,
            syncs: 0,
            bytes_written: 0,
        };
        for (shard, found) in &recovered.shards {
            if found.removed {
                continue;
            }
            let mut live = journal.begin_life(*shard);
            let (mark_index, mark_term) = found.mark.as_ref().map_or((0, 0), |m| (m.index, m.term));
            live.shape.reset(mark_index, mark_term);
            for entry in &found.entries {
                live.shape.push(entry.index, entry.term);
            }
            live.mark = found.mark.clone();
            live.hard_state = found.hard_state;
            if let ShardVerdict::Rotten(why) = &found.verdict {
                live.rotten = Some(why.clone());
            }
            journal.segments.marked(live.life, mark_index);
            journal.live.insert(*shard, live);
        }
        for found in &resume.segments {
            journal.segments.push(found.number, found.bytes);
            for (shard, index) in &found.entries {
                // Nobody will ever read a rotten log: it pins nothing.
                if let Some(live) = journal.live.get(shard).filter(|l| l.rotten.is_none()) {
                    journal.segments.pin(live.life, *index);
                }
            }
        }
        let (previous, previous_end) = resume.tail.unwrap_or((0, 0));
        journal.begin_segment(previous, previous_end);
        journal.gather.rewrite = (!resume.unvouched.is_empty()).then(|| Piece {
            segment: previous,
            offset: previous_end - resume.unvouched.len() as u64,
            bytes: resume.unvouched.clone(),
        });
        journal.opened = journal.end();
        journal.appended = journal.opened;
        journal
    }

    /// The position that [`Self::durable`] has to reach before recovered frames may be relied upon.
    pub fn opened(&self) -> Position {
        self.opened
    }

    /// Lets the frames of a shard wait for so many microseconds before they are written, unless something that
    /// may not wait goes before; `None`: they are written with the next flush.
    pub fn set_lazy(&mut self, shard: ShardId, delay_us: Option<u64>) {
        match delay_us {
            Some(delay_us) => self.lazy.insert(shard, delay_us),
            None => self.lazy.remove(&shard),
        };
    }

    /// Nothing that was gathered may wait any longer: the process is to end.
    pub fn hurry(&mut self) {
        self.is_urgent = true;
    }

    /// Gathers a frame for the next flush. Returns the position at which it ends.
    ///
    /// # Panics
    /// On an entry that leaves a gap in its shard's log or lies at or below its mark, and on a frame
    /// beyond the size limits: the caller is broken, and what it would write could not be recovered.
    pub fn append(&mut self, shard: ShardId, frame: Frame) -> Position {
        if self.gather.is_empty() && self.offset >= self.config.segment_bytes_max {
            self.begin_segment(self.segment, self.offset);
        }
        self.is_urgent |= !self.lazy.contains_key(&shard);
        let mut live = match self.live.remove(&shard) {
            Some(live) => live,
            None => self.begin_life(shard),
        };
        match frame {
            Frame::Entry {
                index,
                term,
                kind,
                context,
                data,
            } => {
                self.append_entry(shard, &mut live, index, term, kind, &context, &data);
            }
            Frame::HardState { term, vote, commit } => {
                let new = HardState { term, vote, commit };
                let old = live.hard_state.replace(new);
                let promise = |s: HardState| (s.term, s.vote);
                self.put_hard_state(shard, new, old.map(promise) != Some(promise(new)));
            }
            Frame::Mark {
                replica,
                index,
                term,
                conf,
            } => {
                let mark = Mark {
                    replica,
                    index,
                    term,
                    conf,
                };
                live = self.append_mark(shard, live, mark);
            }
            Frame::Removed => {
                self.put(Header::of(Kind::Removed, shard.0), &[], &[]);
                self.gather.effects.push(Effect::Ended { life: live.life });
                self.appended = self.end();
                return self.appended;
            }
        }
        self.live.insert(shard, live);
        self.appended = self.end();
        self.appended
    }

    /// Emits a write and a sync for what was gathered, unless a sync is under way: then it goes with the
    /// next. After [`JournalProgress::Full`], emits again what did not fit.
    pub fn flush(&mut self, now: Now) {
        if self.failed {
            return;
        }
        if let Some(batch) = &mut self.batch {
            if batch.full && batch.waiting.is_empty() {
                batch.full = false;
                self.emit_batch();
            }
            return;
        }
        if self.gather.is_empty() || self.may_wait(now) {
            return;
        }
        self.waits = None;
        self.seal();
        let gather = std::mem::take(&mut self.gather);
        // The next one will hardly be shorter by much; growing step by step copies it again and again.
        self.gather.bytes = std::mem::take(&mut self.spare);
        (self.gather.bytes).reserve(gather.bytes.len().min(GATHER_BYTES_KEPT));
        let batch = Batch {
            phase: match gather.rewrite {
                Some(_) => Phase::Rewrite,
                None => Phase::Data,
            },
            segment: self.segment,
            offset: self.offset,
            bytes: Bytes::from(gather.bytes),
            next: gather.next,
            rewrite: gather.rewrite,
            effects: gather.effects,
            end: Position(0),
            chain: self.chain,
            waiting: Vec::new(),
            full: false,
            is_urgent: std::mem::take(&mut self.is_urgent),
        };
        self.offset += batch.bytes.len() as u64;
        self.segments.written(self.segment, self.offset);
        self.batch = Some(Batch {
            end: self.end(),
            ..batch
        });
        self.emit_batch();
    }

    /// True when there are frames that no write has taken yet.
    pub fn is_gathering(&self) -> bool {
        !self.gather.is_empty()
    }

    fn may_wait(&mut self, now: Now) -> bool {
        let seal_is_due = self.seal_is_owed && now.mono_us >= self.seal_at_us;
        if self.is_urgent || seal_is_due || self.gather.bytes.len() >= LAZY_BYTES_MAX {
            return false;
        }
        let delay_us = self.lazy.values().copied().min().unwrap_or(0);
        let (since_us, delay_us) = *self.waits.get_or_insert((now.mono_us, delay_us));
        now.mono_us < since_us + delay_us
    }

    /// Takes the report of a ticket. After `Synced`, call [`Self::flush`] again: frames may have been gathered.
    pub fn handle_done(
        &mut self,
        now: Now,
        ticket: Ticket,
        result: &DiskResult,
    ) -> JournalProgress {
        let Some(batch) = &mut self.batch else {
            return JournalProgress::NotMine;
        };
        let Some(i) = batch.waiting.iter().position(|t| *t == ticket) else {
            return JournalProgress::NotMine;
        };
        batch.waiting.swap_remove(i);
        match result {
            DiskResult::Done(_) => {}
            DiskResult::Full => batch.full = true,
            DiskResult::NotFound => return self.fail("its file is gone".into()),
            DiskResult::Failed(why) => return self.fail(why.clone()),
        }
        if self.failed || !batch.waiting.is_empty() {
            return JournalProgress::Pending;
        }
        if batch.full {
            return JournalProgress::Full;
        }
        let phase = match batch.phase {
            Phase::Rewrite => Some(Phase::Data),
            Phase::Data if batch.next.is_some() => Some(Phase::Next),
            Phase::Data | Phase::Next => None,
        };
        if let Some(phase) = phase {
            batch.phase = phase;
            self.emit_batch();
            return JournalProgress::Pending;
        }
        let batch = self.batch.take().expect("looked at above");
        self.complete(now, batch);
        JournalProgress::Synced(self.durable)
    }

    /// A ticket of this lane for the caller's own operations (snapshot files).
    pub fn next_ticket(&mut self) -> Ticket {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        ticket
    }

    /// Up to where all is durable.
    pub fn durable(&self) -> Position {
        self.durable
    }

    /// The end of the last appended frame (before the first: [`Self::opened`]). A seal does not move it:
    /// that may be long without a sync behind it.
    pub fn appended(&self) -> Position {
        self.appended
    }

    fn end(&self) -> Position {
        Position(self.base + self.offset + self.gather.bytes.len() as u64)
    }

    /// The next disk operation, in order.
    pub fn poll_op(&mut self) -> Option<DiskOp> {
        self.ops.pop_front()
    }

    /// Monotonic microseconds at which [`Self::handle_tick`] and [`Self::flush`] want to be called: a seal goes
    /// alone, or what was let wait has waited.
    pub fn deadline_us(&self) -> Option<u64> {
        let idle = self.batch.is_none() && !self.failed;
        let waits = self.waits.filter(|_| idle).map(|(since_us, delay_us)| {
            let end_us = since_us + delay_us;
            match self.seal_is_owed {
                true => end_us.min(self.seal_at_us),
                false => end_us,
            }
        });
        self.seal_deadline_us().into_iter().chain(waits).min()
    }

    fn seal_deadline_us(&self) -> Option<u64> {
        let idle = self.batch.is_none() && self.gather.is_empty() && !self.failed;
        (idle && self.unsealed.is_some()).then_some(self.seal_at_us)
    }

    /// Writes a seal whose time has come. Without a sync: the data that it vouches for is durable already;
    /// should the seal be lost in a crash, damage there is called a torn tail for want of a better
    /// witness, as in the 10 ms before. A sync for it would double the syncs of a lightly loaded lane.
    pub fn handle_tick(&mut self, now: Now) {
        if self.seal_deadline_us().is_none_or(|at| now.mono_us < at) {
            return;
        }
        self.seal();
        self.gather.seal_bytes = self.gather.bytes.len();
        self.bytes_written += self.gather.bytes.len() as u64;
        self.ops.push_back(DiskOp::Write {
            file: FileId::Segment(self.segment),
            offset: self.offset,
            bytes: Bytes::copy_from_slice(&self.gather.bytes),
        });
    }

    /// The shard no longer needs entries up to `index`: it has appended a `Mark` at or above it. Takes effect
    /// once that mark is durable; frees whole segments from the front.
    pub fn release(&mut self, shard: ShardId, index: LogIndex) {
        if let Some(live) = self.live.get(&shard) {
            self.segments.release(live.life, index);
            self.free();
        }
    }

    /// Appends [`Frame::Removed`] for a shard that the journal knows; once that is durable, nothing of
    /// the shard pins a segment any more.
    pub fn remove_shard(&mut self, shard: ShardId) {
        if self.live.contains_key(&shard) {
            self.append(shard, Frame::Removed);
        }
    }

    /// A shard that keeps the oldest segment from being freed, and the bytes that it alone pins at the
    /// front (0 while others pin the oldest segment too). A cold shard is snapshotted rather than pinning one.
    pub fn oldest_pinning_shard(&self) -> Option<(ShardId, u64)> {
        self.segments.oldest_pinning(self.segment)
    }

    /// Bytes of the segments that exist, as far as written.
    pub fn bytes_on_disk(&self) -> u64 {
        self.segments.bytes()
    }

    /// Syncs emitted in this run.
    pub fn syncs(&self) -> u64 {
        self.syncs
    }

    /// Bytes of writes emitted in this run.
    pub fn bytes_written(&self) -> u64 {
        self.bytes_written
    }

    fn free(&mut self) {
        // A segment may go once a durable later one re-states what it held.
        if self.durable < self.opened || self.failed {
            return;
        }
        let durable_segment = if self.durable.0 > self.base {
            self.segment
        } else {
            self.segment - 1
        };
        for number in self.segments.free_before(durable_segment) {
            self.ops.push_back(DiskOp::Delete {
                file: FileId::Segment(number),
            });
        }
    }

    // Disk operations.

    fn emit_batch(&mut self) {
        let Some(mut batch) = self.batch.take() else {
            return;
        };
        let piece = match batch.phase {
            Phase::Rewrite => &batch.rewrite,
            Phase::Data => &None,
            Phase::Next => &batch.next,
        };
        let (segment, offset, bytes) = match piece {
            Some(piece) => (piece.segment, piece.offset, piece.bytes.clone()),
            None => (batch.segment, batch.offset, batch.bytes.clone()),
        };
        self.bytes_written += bytes.len() as u64;
        self.ops.push_back(DiskOp::Write {
            file: FileId::Segment(segment),
            offset,
            bytes,
        });
        batch.waiting.push(self.emit_sync(segment));
        self.batch = Some(batch);
    }

    fn emit_sync(&mut self, segment: u64) -> Ticket {
        let ticket = self.next_ticket();
        self.syncs += 1;
        self.ops.push_back(DiskOp::Sync {
            file: FileId::Segment(segment),
            ticket,
        });
        ticket
    }

    fn complete(&mut self, now: Now, batch: Batch) {
        self.durable = batch.end;
        let bytes_kept = match self.lazy.is_empty() {
            true => GATHER_BYTES_KEPT,
            false => LAZY_BYTES_KEPT,
        };
        // The disk has let go of it; if not, it would be copied.
        if batch.bytes.is_unique() {
            let mut spare = Vec::from(batch.bytes);
            spare.clear();
            spare.shrink_to(bytes_kept);
            self.spare = spare;
        }
        if batch.segment == self.segment {
            self.unsealed = Some((batch.end, batch.chain));
            self.seal_at_us = now.mono_us + self.config.seal_delay_us;
            self.seal_is_owed = batch.is_urgent;
        }
        for number in std::mem::take(&mut self.void) {
            self.ops.push_back(DiskOp::Delete {
                file: FileId::Segment(number),
            });
        }
        for effect in batch.effects {
            match effect {
                Effect::Marked { life, index } => self.segments.marked(life, index),
                Effect::Overridden {
                    life,
                    from,
                    before_segment,
                } => self.segments.overridden(life, from, before_segment),
                Effect::Ended { life } => self.segments.end_life(life),
            }
        }
        self.free();
    }

    fn fail(&mut self, why: String) -> JournalProgress {
        self.failed = true;
        self.batch = None;
        self.ops.clear();
        JournalProgress::Failed(format!(
            "writing the journal of {} at position {} failed: {why}",
            self.config.lane, self.durable.0
        ))
    }
}
