//! Disk operations as values. The journal emits them and does none; the host's disk thread (or the
//! lab's simulated disk) carries them out, strictly in the order in which a lane emitted them.

use base::{LogIndex, ShardId};
use bytes::Bytes;

/// Names the completion of an operation; unique within a lane and a run, ascending.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Hash)]
pub struct Ticket(pub u64);

/// A file of a lane's directory. The host maps it to a path; nothing pure knows paths.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum FileId {
    /// A piece of the journal, numbered from 1.
    Segment(u64),
    /// A complete snapshot of a shard at an index.
    Snapshot(ShardId, LogIndex),
    /// A snapshot being written or received; never read back after a restart.
    SnapshotPart(ShardId, LogIndex),
    /// The lane's identity: which node it is of, and which replicas it was given.
    Identity,
    /// The next identity, before it is renamed over the old one.
    IdentityPart,
    /// What this node's peer of a group must not forget, by the group's number.
    Group(u64),
    /// The next of it, before it is renamed over the old one.
    GroupPart(u64),
    /// What this node's peer of a group did, for people and checkers. Never synced.
    GroupLog(u64),
}

/// One operation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DiskOp {
    /// Write all of `bytes` at `offset`, creating the file when it is not there. Not durable before a `Sync`.
    Write {
        /// Which file.
        file: FileId,
        /// Where, in bytes.
        offset: u64,
        /// What.
        bytes: Bytes,
    },
    /// Make all earlier writes to the file durable, then report the ticket.
    Sync {
        /// Which file.
        file: FileId,
        /// Reported when done.
        ticket: Ticket,
    },
    /// Rename over `to` and make the directory durable, then report the ticket.
    Rename {
        /// Existing file, already synced.
        from: FileId,
        /// Its new name.
        to: FileId,
        /// Reported when done.
        ticket: Ticket,
    },
    /// Remove the file if it is there. Needs no report.
    Delete {
        /// Which file.
        file: FileId,
    },
    /// Read up to `length` bytes; fewer only at the file's end. Reported with the bytes.
    Read {
        /// Which file.
        file: FileId,
        /// Where, in bytes.
        offset: u64,
        /// How many.
        length: u32,
        /// Reported with the bytes.
        ticket: Ticket,
    },
}

/// How an operation with a ticket ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DiskResult {
    /// Done; bytes for a `Read`, empty otherwise.
    Done(Bytes),
    /// There is no such file.
    NotFound,
    /// The disk refused for lack of space. Nothing of the failed write may be relied upon.
    Full,
    /// Any other failure, in words. The lane must not be used further: after a failed sync nothing is known.
    Failed(String),
}
