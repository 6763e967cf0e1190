//! The journal: frames, seals and recovery verdicts. Emits disk operations, does none.

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
