//! Ways of keeping copies among equals: one appointed primary with backups, and quorums without a
//! primary. What an acknowledgement is worth differs; that is what they are compared by.
//!
//! Counting rule of every figure here: sends to oneself do not count, sends to dead peers do.

pub mod primary_backup;
pub mod quorum;
