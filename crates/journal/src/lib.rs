//! The journal: frames, seals and recovery verdicts. Emits disk operations, does none.
//!
//! **Idea.** All shards of a lane append to one sequence of segment files, so one sync serves them all.
//! A crash and a bad disk both leave damage behind, and they call for opposite answers: what a crash tore was
//! never reported durable and is cut; what was durable and is damaged must silence the replica, or it would
//! vote and acknowledge from a log that it no longer has. Three witnesses tell them apart: a *seal* behind
//! each sync says up to where all was durable; the head of each segment says where the one before ended;
//! and a finished segment names its successor, so that not even a missing last file looks like a short log.
//! Each segment begins with a re-statement of every live shard (mark, hard state twice, last index), which
//! lets whole segments be freed from the front and shows a log that ends too early.
//!
//! **Not taken.** A file for each shard: no shared fate in one damaged header, but a sync for each. A
//! checksum chain alone: it finds damage and cannot tell a torn tail from rot. Re-using segment files
//! in place: saves a little metadata, and old frames have to be told from new ones for ever.
//!
//! **Cost.** 56 bytes and two CRC-32 a frame (each byte is copied once, into the write); 68 bytes a seal, no
//! sync of its own; one more sync at each new segment, in the old file, and about 400 bytes a shard. Until a seal is written (10 ms at most when the lane is idle)
//! damage to what it would vouch for is taken for a torn tail. A damaged header silences every shard of
//! the lane, unless what it hid provably did not matter.
//!
//! **Who does what.** [`Recovery`] is fed every segment file; [`Journal::new`] goes on from what it found.
//! The host carries out [`DiskOp`]s strictly in order and makes a file's creation durable with its first sync.
//! A write that fails is reported with the next sync of its file.

pub mod frame;
pub mod journal;
pub mod op;
pub mod recovery;

mod found;
mod pass;
mod scan;
mod segments;
mod shape;
mod wire;

pub use frame::{Frame, HardState, Mark, RecoveredEntry};
pub use journal::{Journal, JournalConfig, JournalProgress, Position};
pub use op::{DiskOp, DiskResult, FileId, Ticket};
pub use recovery::{LaneVerdict, Recovered, RecoveredShard, Recovery, ShardVerdict};

/// Longest context of an entry and longest membership of a mark, bytes.
pub const CONTEXT_BYTES_MAX: usize = 1 << 20;
/// Longest data of an entry, bytes.
pub const DATA_BYTES_MAX: usize = 256 << 20;

#[cfg(test)]
mod tests;
