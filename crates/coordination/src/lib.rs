//! Coordination: one replicated machine with one revision (ZooKeeper calls it the zxid), a tree
//! keyspace, sessions that own ephemeral nodes, and an event stream that watches filter.
//!
//! The crate knows no wire format, no socket and no clock. Reading order: [`command`] (what may be
//! asked), [`output`] (what is told), [`machine`] (the replicated state, its revision and its sessions),
//! `tree` (the one keyspace so far), [`services`] (a machine of its own), then what is *not* replicated:
//! [`watches`] at each session's home, [`leases`] at the leader. [`lock`] is for contenders: recipes of clients,
//! which run on other machines.

pub mod acl;
pub mod command;
pub mod election;
pub mod leases;
pub mod lock;
pub mod machine;
pub mod mutex;
pub mod output;
mod restore;
pub mod services;
mod sessions;
mod transaction;
mod tree;
pub mod watches;

pub use base::Origin;
pub use command::{
    Acl, Command, CreateMode, Envelope, Identity, Principal, TreeOp, Unit, permission,
};
pub use leases::Leases;
pub use machine::{Coordination, Counts, SessionView};
pub use output::{
    Answer, AttachRefusal, ErrorCode, Event, EventKind, OpReply, Output, Query, Reply, SessionEnd,
    Stat, UnitRefusal,
};
pub use tree::kind::NodeKind;
pub use watches::{WatchKind, WatchReplay, WatchSelection, Watches, WatchesFull};
