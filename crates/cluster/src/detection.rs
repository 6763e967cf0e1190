//! Failure detection among equals: who is dead? In an asynchronous network nobody can know (Chandra,
//! Toueg, "Unreliable failure detectors for reliable distributed systems", JACM 43(2), 1996); what differs
//! is how soon the dead are suspected, how rarely the living are, and what that costs.

pub mod accrual;
pub mod heartbeat;
pub mod swim;

use base::peer::PeerId;

/// What a peer tells its user.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Decision {
    /// It takes this peer for dead.
    Suspects(PeerId),
    /// It takes this peer for alive again.
    Trusts(PeerId),
}
