//! What is asked of the journal to keep, as values.

use base::{LogIndex, ReplicaId, Term};
use bytes::Bytes;

/// Something that a shard wants kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Frame {
    /// An entry of the shard's log. Drops the shard's entries at and above `index`; `index` is at most one
    /// beyond the last.
    Entry {
        /// Its position in the shard's log.
        index: LogIndex,
        /// The term in which it was proposed.
        term: Term,
        /// What kind of entry; opaque here.
        kind: u8,
        /// Opaque, travels with the entry; at most [`crate::CONTEXT_BYTES_MAX`].
        context: Bytes,
        /// Opaque; at most [`crate::DATA_BYTES_MAX`].
        data: Bytes,
    },
    /// The replica's promise. Kept twice whenever term or vote change.
    HardState {
        /// Latest term seen.
        term: Term,
        /// Replica voted for in that term, 0 for none.
        vote: u64,
        /// Highest index known to be committed (a hint: an older one may come back).
        commit: LogIndex,
    },
    /// A durable snapshot holds the shard's state at `index`; entries up to there are not needed. Later
    /// entries stay if the log's entry at `index` is of `term`; otherwise the whole log is dropped.
    /// Of another replica than before: a new life of the shard here, nothing of the old one stays.
    Mark {
        /// Which copy of the shard this is.
        replica: ReplicaId,
        /// Last index that the snapshot includes.
        index: LogIndex,
        /// Its term.
        term: Term,
        /// The membership at `index`; opaque; at most [`crate::CONTEXT_BYTES_MAX`].
        conf: Bytes,
    },
    /// This replica is gone for good; its old log is never taken up again.
    Removed,
}

/// An entry that was found again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RecoveredEntry {
    /// Its position in the shard's log.
    pub index: LogIndex,
    /// The term in which it was proposed.
    pub term: Term,
    /// What kind of entry; opaque here.
    pub kind: u8,
    /// Opaque, travels with the entry.
    pub context: Bytes,
    /// Opaque.
    pub data: Bytes,
}

/// A replica's promise.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct HardState {
    /// Latest term seen.
    pub term: Term,
    /// Replica voted for in that term, 0 for none.
    pub vote: u64,
    /// Highest index known to be committed, as far as it was kept.
    pub commit: LogIndex,
}

/// Where a shard's log begins: a snapshot.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mark {
    /// Which copy of the shard this is.
    pub replica: ReplicaId,
    /// Last index that the snapshot includes.
    pub index: LogIndex,
    /// Its term.
    pub term: Term,
    /// The membership at `index`; opaque.
    pub conf: Bytes,
}
