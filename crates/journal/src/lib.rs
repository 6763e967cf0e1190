//! The journal: frames, seals and recovery verdicts. Emits disk operations, does none.

pub mod op;

pub use op::{DiskOp, DiskResult, FileId, Ticket};
