//! Computing: work that is divided among many, and put together again.
//!
//! Everything here is without IO: who runs processes and opens files hands in what it read and carries out
//! what it is told.
//!
//! * [`mapreduce`]: what a coordinator and its workers decide, sort and merge.

pub mod mapreduce;
