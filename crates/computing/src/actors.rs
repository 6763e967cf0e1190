//! Actors: what is decided about them. A supervisor's plan ([`Supervision`]), who runs an actor of a name
//! ([`owner`]), and how long whoever runs it may act under that name ([`Tenure`]).
//!
//! The crate `actors` carries it out: tasks, mailboxes, sockets and the tree.

mod supervision;
mod tenure;
#[cfg(test)]
mod tests;

pub use supervision::{Backoff, End, Limits, Restart, Step, Strategy, Supervision};
pub use tenure::{Checkpoint, Host, Objection, Tenure, owner};
