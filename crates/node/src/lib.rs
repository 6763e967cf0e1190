//! The core of a node: a single-threaded sans-IO machine. [`Core::handle`] takes an [`Event`],
//! [`Core::poll_action`] yields [`Action`]s.
//!
//! Reading order: [`event`] (the boundary), [`core`] (the loop), `turn` (time and frames), `replicas`
//! (shards and lanes), `formation` (how a node comes to be of a cluster), `reports` (when it may go),
//! `gossip` (who is reachable), `groups` (protocols among equals), `holders` and `links` (what other cores serve), `front`, `zookeeper`, `redis`, `kafka` and [`desk`] (the front ends),
//! `standby` (following another cluster), `people` (status and orders), `space` (when a disk is nearly full).

pub mod admin;
pub mod config;
mod core;
pub mod desk;
pub mod event;
mod files;
mod formation;
mod frame;
mod front;
mod gossip;
mod groups;
pub mod hello;
mod holders;
mod incoming;
mod jobs;
mod kafka;
mod lane;
mod links;
mod once;
mod peers;
mod people;
mod redis;
mod registry;
mod replicas;
mod reports;
mod space;
mod standby;
mod transactions;
mod turn;
mod zookeeper;

pub use crate::core::{Core, LaneStart};
pub use admin::{AdminCommand, AdminReply, DiskSpace, Status};
pub use catalog::{Durability, Policy, PoolSpec};
pub use config::CoreConfig;
pub use desk::{
    After, Call, CallReply, ChunkServer, Condition, FilesAnswer, FilesQuery, GlobalsAnswer,
    GlobalsQuery, JobsAnswer, JobsQuery, Operation, Probe, ProbeResult, ProbeTarget,
    TRANSACTION_BYTES_MAX, TRANSACTION_STEPS_MAX, Transacted, Transaction,
};
pub use event::{Action, ClientId, Endpoint, Event, FrontEnd, Hello, Level, RequestId, StreamId};
pub use groups::{GroupAnswer, GroupCall};
