//! Commit protocols among equals: all participants do it, or none. Peer 1 coordinates, or sends; the
//! others take part.
//!
//! Counting rule of every figure here: sends to oneself do not count, sends to dead peers do.

pub mod reliable_message;
pub mod saga;
pub mod tcc;
pub mod three_phase;
pub mod two_phase;

/// Names a transaction.
pub type Txn = u64;

/// The peer that coordinates.
pub const COORDINATOR: base::peer::PeerId = 1;

/// What a user asks of a peer.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Request {
    /// Carry a transaction out: asked of the coordinator.
    Begin(Txn),
    /// Do not agree to this transaction when asked: of a participant, before it is.
    Refuse(Txn),
}

/// What a peer tells its user.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Decision {
    /// It has set aside what the transaction needs, and waits for the outcome.
    Reserved(Txn),
    /// The transaction takes effect here. Told once.
    Committed(Txn),
    /// It never will, here.
    Aborted(Txn),
    /// It had taken effect here, and that is undone. Told once.
    Compensated(Txn),
}
