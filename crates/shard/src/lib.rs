//! A shard's replica: replication → journal → machine, joined.
//!
//! Reading order: [`machine`] (the closed set of machines), [`entry`] (what a log entry holds),
//! [`snapshot`] (files of snapshots), then [`shard`]: the life of a replica.

pub mod entry;
pub mod follow;
pub mod machine;
pub mod membership;
pub mod shard;
pub mod snapshot;
pub mod transaction;
pub mod version;

pub use entry::Batch;
pub use machine::{Data, DataUnit, ShardMachine, ShardOutput};
pub use membership::next_changes;
pub use shard::{Shard, ShardConfig, ShardEvent, SnapshotPiece};
pub use version::{FIRST_VERSION, MACHINE_VERSION};
