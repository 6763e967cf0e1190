//! Replication engines. [`raft`] is the first: majority, nothing acknowledged is lost.

pub mod raft;
