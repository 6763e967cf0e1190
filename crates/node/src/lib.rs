//! The core of a node: a single-threaded sans-IO machine. [`Core::handle`] takes an [`Event`],
//! [`Core::poll_action`] yields [`Action`]s.

pub mod admin;
mod core;
pub mod event;
pub mod hello;

pub use admin::{AdminCommand, AdminReply, Status};
pub use core::{Core, CoreConfig, LaneStart};
pub use event::{Action, ClientId, Endpoint, Event, FrontEnd, Hello, Level, RequestId, StreamId};
