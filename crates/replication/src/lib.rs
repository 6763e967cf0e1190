//! Replication engines, and the usual ways of keeping copies. [`raft`] is the engine that shards run on: majority, nothing
//! acknowledged is lost. [`copies`] are protocols among equals, for comparison.

pub mod copies;
pub mod raft;
