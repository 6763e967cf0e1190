//! The reading side: what a lane's segments held, with a verdict for each shard and for the lane.

use crate::frame::{HardState, Mark, RecoveredEntry};
use crate::journal::Position;
use base::{LaneId, ShardId};
use std::collections::BTreeMap;

/// Collects what a lane's segments held.
#[derive(Debug, Default)]
pub struct Recovery {}

impl Recovery {
    /// Nothing fed yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Feeds the whole content of a segment file; in ascending order of numbers.
    pub fn feed(&mut self, _segment: u64, _content: &[u8]) {}

    /// Judges what was fed.
    pub fn finish(self) -> Recovered {
        Recovered::default()
    }
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
