//! Actors: state that only its own messages change. A library for users' programs, no part of a node.
//!
//! * An [`Actor`] has state, a behaviour ([`Actor::handle`]) and a mailbox, and handles one message at a time. An
//!   [`Address`] sends to it: [`Address::tell`], or [`Address::ask`] for an answer by a deadline. A full mailbox makes
//!   senders wait.
//! * A [`Supervisor`] starts actors and other supervisors, and starts them again when they fail, by an error or a
//!   panic. The mailbox outlives that: what waits is handled by the next incarnation, the message that failed is not
//!   handled again.
//! * A [`System`] runs actors of names for a cluster. Whoever is connected ([`Names`]) says which names there shall be,
//!   and asks them, wherever they run ([`Ref`]). A name has one owner at a time, by an ephemeral node of the tree; when
//!   its host dies, another host runs it, with the state that it kept ([`Context::save`]).
//!
//! What is promised of messages: each is carried out at most once; those of one sender to one actor in the order in which
//! they were sent, as long as the sender waits for each call to return. An error says whether it was carried out:
//! [`CallError`].
//!
//! Not there: TLS and users between hosts, death notices of actors of names, moving an actor while it runs.

mod actor;
mod address;
mod context;
mod host;
mod names;
mod supervisor;
mod system;
#[cfg(test)]
mod tests;
mod tree;
mod wire;

pub use actor::{Actor, CallError, Death, Failure};
pub use address::{Address, spawn};
pub use computing::actors::{Backoff, End, Limits, Restart, Strategy};
pub use context::Context;
pub use names::{Listed, Names, NamesError, Ref};
pub use supervisor::{Running, Supervisor};
pub use system::{Builder, Start, System};
