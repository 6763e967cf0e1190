//! The chapter of storage: a cache with structures, and files.
//!
//! [`cache::Cache`] is a deterministic machine over slots of keys, [`files::Files`] one over names and the
//! places of chunks. Nothing here knows Redis' bytes, HTTP, a connection, a shard, a disk or a clock.

pub mod cache;
pub mod files;
