//! The laboratory: whole nodes under one simulated clock, network and disk, with clients, faults and
//! checkers. A run is a pure function of its seed and options.
//!
//! Reading order: [`run()`] (one run and its phases), `world` (the queue of occurrences), `network`, `disk`
//! and `clock` (what nodes stand on), `player`, `client` and `workload` (who asks), `cache` and `kafka` (who asks
//! in Redis' and in Kafka's protocol), `locks` (who contends for locks), `tellers` (who calls for transactions),
//! `caller` (calls to desks), `services`, `jobs`, `globals`, `files`, `groups` (who asks over HTTP), `standby` (a primary and its stand-by), `faults` and `inject` (what goes wrong), `history` (what was seen) and `check` (what is wrong with it).

#![warn(missing_docs)]

mod cache;
mod caller;
mod check;
mod cli;
mod client;
mod clock;
mod disk;
mod dump;
mod faults;
mod files;
mod globals;
mod gossip;
mod groups;
mod history;
mod inject;
mod jobs;
mod kafka;
mod kinds;
mod locks;
mod network;
pub mod peers;
mod player;
mod process;
mod protocol;
mod run;
#[cfg(test)]
mod scenarios;
mod schedule;
mod services;
mod standby;
mod tellers;
mod trace;
mod workload;
mod world;
#[cfg(test)]
mod world_tests;

pub use cli::{ClusterArgs, cluster};
pub use faults::{Faults, Name};
pub use kinds::Workload;
pub use run::{Options, Report, run};
pub use schedule::{ScheduleArgs, schedule};
