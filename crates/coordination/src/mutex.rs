//! Mutual exclusion among equals: who wants a resource asks the others, or waits for a token.
//!
//! Counting rule of every figure here: sends to oneself do not count, sends to dead peers do.

pub mod centralized;
pub mod hashed;
pub mod lamport;
pub mod lease;
pub mod maekawa;
pub mod majority;
mod permission;
pub mod regenerating_ring;
pub mod ricart_agrawala;
pub mod ricart_agrawala_detecting;
pub mod token_ring;
pub mod two_level_ring;

pub use permission::Permission;

use serde::{Deserialize, Serialize};

/// Names a resource. Algorithms for a single one know resource 0 only.
pub type Resource = u8;

/// What a user asks of a peer.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Request {
    /// Enter the resource's critical section.
    Acquire(Resource),
    /// Leave it.
    Release(Resource),
}

/// What a peer tells its user.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Decision {
    /// The user is inside, until it releases.
    Entered(Resource),
}

/// One's place among those who want to enter: by Lamport's clock, then by peer. The number tells
/// requests of one peer apart, also across its restarts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Ticket {
    /// Lamport's clock.
    pub clock: u64,
    /// Who asks.
    pub peer: base::peer::PeerId,
    /// Drawn for each request.
    pub number: u32,
}
