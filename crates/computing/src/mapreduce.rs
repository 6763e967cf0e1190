//! MapReduce (Dean, Ghemawat: "MapReduce: simplified data processing on large clusters", OSDI 2004), with the
//! contract of Hadoop's streaming: mapper and reducer are commands that read and write lines; a line's key is
//! what stands before its first tab, or all of it.
//!
//! * [`split`]: the input in M pieces of whole lines.
//! * [`record`]: keys of lines, and the partition of a key.
//! * [`buffer`]: a mapper's output, sorted when the buffer is full.
//! * [`merge`]: sorted runs into one.
//! * [`coordinator`]: who does what, again after a death, twice when slow.

pub mod buffer;
pub mod coordinator;
pub mod merge;
pub mod record;
pub mod split;
