//! Streams: a topology of operators that stays, reads a topic and writes another one.
//!
//! Every *task* reads some partitions of the source and has some of the keys. What it reads goes through the
//! operators before `key_by` and then, by its key, to the task that has it; there it is counted in windows of
//! event time. Now and then a *barrier* goes through all channels (Carbone et al.: "Lightweight asynchronous
//! snapshots for distributed dataflows", 2015): what every task has when the barrier has come on all of its channels
//! is one consistent state. With the offsets from which the sources would read on, and the output since the barrier
//! before, it is a *checkpoint*. Whatever is lost, all begin again from the last one.
//!
//! * [`topology`]: what is to be done, read from a file and checked.
//! * [`event`]: what goes along a channel, and its byte form.
//! * [`step`]: operators that look at one record.
//! * [`window`]: counts and sums by key and window of event time.
//! * [`task`]: one of the workers' share, without IO.
//! * [`record`]: what is kept of a stream in the coordination store.
//! * [`master`]: who works on what, from which checkpoint.

pub mod event;
pub mod master;
pub mod record;
pub mod step;
pub mod task;
pub mod topology;
pub mod window;
