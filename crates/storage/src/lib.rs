//! The chapter of storage: a cache with structures.
//!
//! [`cache::Cache`] is a deterministic machine over slots of keys. Nothing here knows Redis' bytes, a
//! connection, a shard or a clock.

pub mod cache;
