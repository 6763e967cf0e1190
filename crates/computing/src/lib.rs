//! Computing: work that is divided among many, and put together again.
//!
//! Everything here is without IO: who runs processes and opens files hands in what it read and carries out
//! what it is told.
//!
//! * [`actors`]: what supervisors decide, and who runs an actor of a name.
//! * [`mapreduce`]: what a coordinator and its workers decide, sort and merge.
//! * [`pipeline`]: what stages do with items, and what their overlapping is worth.
//! * [`patterns`]: ways to divide one job.
//! * [`stream`]: operators that stay, with windows and checkpoints.

pub mod actors;
pub mod mapreduce;
pub mod patterns;
pub mod pipeline;
pub mod stream;
