//! Coordination: one replicated machine with one revision (ZooKeeper calls it the zxid), a tree
//! keyspace, sessions that own ephemeral nodes, and an event stream that watches filter.
//!
//! The crate knows no wire format, no socket and no clock. Reading order: [`command`] (what may be
//! asked), [`output`] (what is told), then the machine.

pub mod command;
pub mod output;

pub use command::{
    Acl, Command, CreateMode, Envelope, Identity, Origin, Principal, TreeOp, Unit, permission,
};
pub use output::{
    Answer, AttachRefusal, ErrorCode, Event, EventKind, OpReply, Output, Query, Reply, SessionEnd,
    Stat, UnitRefusal,
};
