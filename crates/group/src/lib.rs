//! Groups: a [`base::peer::Peer`] among real nodes. The files that the lab simulates run here as they are; this
//! crate gives them what the lab gives them there: messages in bytes, timers, a state that is on disk before what
//! leans on it leaves, and users that ask.
//!
//! Reading order: [`protocols`] (which algorithms there are), [`seat`] (one peer of any of them), [`member`] (a
//! node's part in a group: its seat, its users and its log), [`event`] (what the log says). All of it is pure: the
//! node's core moves the bytes.

pub mod event;
pub mod member;
pub mod protocols;
pub mod seat;

pub use event::{Event, What};
pub use member::{Answer, Member, Out};
pub use protocols::{Kind, Protocol};
