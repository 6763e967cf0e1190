//! The reading side: what a lane's segments held, with a verdict for each shard and for the lane.
//!
//! Where a segment ends is known from its successor's head; the last one ends at the first damage that no
//! seal of its own vouches for. Damage before the end is rot. Rot with an intact header concerns one
//! shard, and is harmless where a later mark or hard state (or the other copy of it) stands in for what is lost;
//! rot of a header may concern any shard known so far. The re-statement at the start of the next segment tells
//! how far each log reached, so nothing vanishes unnoticed, not even whole files.

use crate::found::Found;
use crate::frame::{HardState, Mark, RecoveredEntry};
use crate::journal::Position;
use crate::pass::Pass;
use crate::scan::{Piece, Scan, What};
use crate::wire::{self, Kind, SegmentHead};
use base::planted::{Bug, planted};
use base::{LaneId, LogIndex, ShardId};
use bytes::Bytes;
use std::collections::BTreeMap;

/// A segment that is judged once its successor, or that there is none, is known.
#[derive(Debug)]
struct Waiting {
    number: u64,
    head: SegmentHead,
    content: Vec<u8>,
}

/// A segment whose head cannot be read.
#[derive(Debug)]
struct Unreadable {
    number: u64,
    bytes: u64,
    /// A seal in it says that something here was durable.
    sealed: bool,
}

/// Collects what a lane's segments held.
#[derive(Debug, Default)]
pub struct Recovery {
    pub(crate) shards: BTreeMap<ShardId, Found>,
    segments: Vec<(u64, u64)>,
    waiting: Option<Waiting>,
    unreadable: Vec<Unreadable>,
    void: Vec<u64>,
    last_number: u64,
    lane: Option<LaneId>,
    end: Position,
    tail: Option<(u64, u64)>,
    unvouched: Bytes,
    torn: Option<LaneVerdict>,
    /// Frames were lost since the last complete re-statement, and nobody knows whose.
    pub(crate) unknown_loss: Option<String>,
    /// As before, but never to be known.
    pub(crate) rotten: Option<String>,
    /// The successor that the last segment names.
    pub(crate) successor: Option<u64>,
}

impl Recovery {
    /// Nothing fed yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Feeds the whole content of a segment file; in ascending order of numbers, each once.
    pub fn feed(&mut self, segment: u64, content: &[u8]) {
        assert!(
            segment > self.last_number,
            "segments are fed in ascending order"
        );
        self.last_number = segment;
        match SegmentHead::decode(content).filter(|head| head.segment == segment) {
            None => self.unreadable.push(Unreadable {
                number: segment,
                bytes: content.len() as u64,
                sealed: has_seal(content),
            }),
            Some(head) => {
                self.settle(&head);
                self.waiting = Some(Waiting {
                    number: segment,
                    head,
                    content: content.to_vec(),
                });
            }
        }
    }

    /// Judges what was fed.
    pub fn finish(mut self) -> Recovered {
        let empty = self.last_number == 0;
        if let Some(last) = self.waiting.take() {
            self.read(&last, None);
            let (end, file_bytes) = (self.tail.map_or(0, |t| t.1), last.content.len() as u64);
            if end < file_bytes {
                self.torn = Some(LaneVerdict::TornTail {
                    segment: last.number,
                    offset: end,
                    bytes: file_bytes - end,
                });
            }
            if let Some(next) = self.successor {
                self.lose_all(&format!(
                    "segment {next}, which segment {} names as its successor, is missing or its head is damaged",
                    last.number
                ));
            }
        } else if self.unreadable.first().is_some_and(|u| u.number != 1) {
            self.lose_all("no segment has a readable head, and earlier ones were there");
        }
        for unreadable in std::mem::take(&mut self.unreadable) {
            if unreadable.sealed {
                self.lose_all(&format!(
                    "the head of segment {} is damaged",
                    unreadable.number
                ));
            }
            self.void.push(unreadable.number);
            self.torn.get_or_insert(LaneVerdict::TornTail {
                segment: unreadable.number,
                offset: 0,
                bytes: unreadable.bytes,
            });
        }
        let verdict = match (self.rotten.or(self.unknown_loss), self.torn) {
            (Some(why), _) => LaneVerdict::Rotten(why),
            (None, Some(torn)) => torn,
            (None, None) if empty => LaneVerdict::Empty,
            (None, None) => LaneVerdict::Clean,
        };
        let mut segments: Vec<_> = self
            .segments
            .iter()
            .map(|(number, bytes)| FoundSegment {
                number: *number,
                bytes: *bytes,
                entries: BTreeMap::new(),
            })
            .collect();
        for (shard, found) in &self.shards {
            for segment in &mut segments {
                if let Some(highest) = found.segments.get(&segment.number) {
                    segment.entries.insert(*shard, *highest);
                }
            }
        }
        Recovered {
            shards: self
                .shards
                .into_iter()
                .map(|(id, f)| (id, f.finish()))
                .collect(),
            verdict,
            lane: self.lane,
            end: self.end,
            resume: Resume {
                last_number: self.last_number,
                tail: self.tail,
                unvouched: self.unvouched,
                segments,
                void: self.void,
            },
        }
    }

    /// The next readable segment says where the one before ended: judges what came before it.
    fn settle(&mut self, next: &SegmentHead) {
        let mut lost = None;
        if let Some(before) = self.waiting.take() {
            if before.number > next.previous {
                self.void.push(before.number);
            } else {
                let end = (before.number == next.previous).then_some(next.previous_end);
                self.read(&before, end);
                if end.is_none() {
                    lost = Some(next.previous);
                }
            }
        }
        for unreadable in std::mem::take(&mut self.unreadable) {
            if unreadable.number <= next.previous {
                lost.get_or_insert(unreadable.number);
            }
            self.void.push(unreadable.number);
        }
        if let Some(number) = lost {
            self.lose_all(&format!(
                "segment {number} is missing or its head is damaged"
            ));
        }
    }

    /// Anything may be lost, of any shard.
    pub(crate) fn lose_all(&mut self, why: &str) {
        for found in self.shards.values_mut() {
            found.anything_lost(why);
        }
        self.unknown_loss.get_or_insert_with(|| why.to_owned());
    }

    /// Takes in a segment: all of it up to `end` if its successor states that, otherwise as far as its own
    /// seals vouch for it and from there to the first damage.
    fn read(&mut self, segment: &Waiting, end: Option<u64>) {
        let (number, head) = (segment.number, &segment.head);
        let file_bytes = segment.content.len() as u64;
        let (vouched, end) = match end {
            Some(end) => (end, end),
            None => readable_end(&segment.content, head.base),
        };
        if self.lane.is_some_and(|lane| lane.0 != head.lane) {
            self.lose_all(&format!("segment {number} belongs to another lane"));
        }
        self.lane = Some(LaneId(head.lane));
        self.successor = None;
        let content = &segment.content[..end.min(file_bytes) as usize];
        let unvouched = content.get(vouched as usize..).unwrap_or_default();
        self.unvouched = Bytes::copy_from_slice(unvouched);
        Pass::new(self, number, head).run(content, end);
        self.segments.push((number, file_bytes));
        self.tail = Some((number, end));
        self.end = Position(head.base.saturating_add(end));
    }
}

/// Of the last segment, up to where a seal vouches for it, and where it ends: at the first damage behind that.
fn readable_end(content: &[u8], base: u64) -> (u64, u64) {
    let mut vouched = 0;
    for piece in Scan::new(content, base) {
        let What::Frame { found, data, .. } = piece.what else {
            continue;
        };
        match found.header.kind {
            Kind::Seal => {
                let sealed = wire::decode_seal(data).map_or(0, |(position, _)| position);
                if sealed <= found.at {
                    vouched = vouched.max(sealed.saturating_sub(base));
                }
            }
            // Written only once all before it is durable.
            Kind::Next => vouched = vouched.max(piece.start),
            _ => {}
        }
    }
    if planted(Bug::CutSealedFrame) {
        vouched = 0;
    }
    let damage = |p: &Piece<'_>| !matches!(p.what, What::Frame { .. });
    let end = Scan::new(content, base)
        .filter(damage)
        .map(|p| p.start)
        .find(|start| *start >= vouched)
        .unwrap_or(content.len() as u64);
    (vouched, end)
}

/// True when a segment without a readable head holds a seal all the same.
fn has_seal(content: &[u8]) -> bool {
    let mut from = 0;
    while let Some(offset) = wire::find_magic(content, from) {
        from = offset + 1;
        let sealed = wire::header(&content[offset..])
            .filter(|found| matches!(found.header.kind, Kind::Seal | Kind::Next));
        if sealed.is_some_and(|found| wire::payload(&content[offset..], &found).is_some()) {
            return true;
        }
    }
    false
}

/// A lane's journal as it was found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Recovered {
    /// Every shard with frames in the lane, the removed and the rotten ones too.
    pub shards: BTreeMap<ShardId, RecoveredShard>,
    /// How the lane as a whole was found.
    pub verdict: LaneVerdict,
    /// The lane that the segments say they belong to; `None` when no segment could be read.
    pub lane: Option<LaneId>,
    /// Where the readable journal ends.
    pub end: Position,
    pub(crate) resume: Resume,
}

/// What a journal needs to go on.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Resume {
    /// Highest number seen, whatever its content.
    pub last_number: u64,
    /// The last readable segment and where its content ends, bytes.
    pub tail: Option<(u64, u64)>,
    /// The last bytes before that end. No seal says that they ever became durable, and that they could be
    /// read says nothing: after a failed sync the operating system's cache shows what the disk does not hold.
    pub unvouched: Bytes,
    /// Readable segments, oldest first.
    pub segments: Vec<FoundSegment>,
    /// Numbers of segments without content that anybody needs.
    pub void: Vec<u64>,
}

/// A segment and the highest entry index of each shard in it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct FoundSegment {
    pub number: u64,
    pub bytes: u64,
    pub entries: BTreeMap<ShardId, LogIndex>,
}

/// How a lane was found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum LaneVerdict {
    /// There was no segment at all. Right for a new data directory only; with an identity file it is a lost log.
    #[default]
    Empty,
    /// Nothing damaged beyond what shard verdicts say.
    Clean,
    /// The last write before the crash was incomplete and was cut: nothing that was ever reported durable
    /// (unless it was damaged later, before its seal was written).
    TornTail {
        /// In which segment.
        segment: u64,
        /// From which offset on, bytes.
        offset: u64,
        /// How many bytes were dropped.
        bytes: u64,
    },
    /// Frames are lost and it is unknown whose: every replica that this lane ever held is rotten, those
    /// that `shards` does not name too. In words.
    Rotten(String),
}

/// A shard as it was found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RecoveredShard {
    /// Whether the rest may be relied upon.
    pub verdict: ShardVerdict,
    /// The latest mark.
    pub mark: Option<Mark>,
    /// The latest promise.
    pub hard_state: Option<HardState>,
    /// Contiguous, from the one after `mark.index` (from 1 without a mark). Empty when rotten.
    pub entries: Vec<RecoveredEntry>,
    /// The replica was removed for good.
    pub removed: bool,
}

/// Whether a shard's log can be relied upon.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum ShardVerdict {
    /// Everything that was reported durable is here.
    #[default]
    Clean,
    /// Something of it was lost or damaged; in words. The replica stays silent for ever.
    Rotten(String),
}
