//! The tree keyspace.

pub mod path;
