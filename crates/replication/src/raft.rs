//! The raft engine: the `raft` crate inside, our own codec and our own randomness outside.
//!
//! Reading order: [`log`] (what the crate reads), [`membership`] (who is in), [`codec`] (bytes between
//! nodes), [`group`] (the engine). The crate's protobuf never meets the network: messages travel in
//! [`codec`], and a membership change travels in its entry's context in [`membership`]'s form.

pub mod codec;
pub mod group;
pub mod log;
pub mod membership;

pub use codec::{decode_message, encode_message};
pub use group::{Committed, Group, GroupConfig, Persist, Progress, Ready, Role};
pub use log::GroupLog;
pub use membership::{Change, Membership, Replica};
pub use raft::eraftpb::{Entry, EntryType, Message, MessageType};
