//! The journal: frames, seals and recovery verdicts. Emits disk operations, does none.

pub mod op;

pub use op::{DiskOp, DiskResult, FileId, Ticket};

/// Collects what a lane's segments held (see the recovery module).
#[derive(Debug, Default)]
pub struct Recovery {}

impl Recovery {
    /// Nothing fed yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Feeds the whole content of a segment file; in ascending order of numbers.
    pub fn feed(&mut self, _segment: u64, _content: &[u8]) {}
}
