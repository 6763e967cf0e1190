//! Election among equals: who leads? (Raft's election is the core's own, in `replication`.)
//!
//! Counting rule of every figure here: sends to oneself do not count, sends to dead peers do.

pub mod bully;
pub mod ring;
pub mod zab;

use base::peer::PeerId;

/// What a user asks of a peer.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Request {
    /// Take the leader for dead.
    Suspect,
    /// Replicate a value; dropped by who does not lead, and by algorithms that only elect.
    Write(u64),
}

/// What a peer tells its user.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Decision {
    /// It follows this leader, or leads when that is itself.
    Leader {
        /// Who leads.
        leader: PeerId,
        /// In which term; 0 in algorithms without terms. A term has one leader at most.
        term: u64,
    },
    /// It follows nobody.
    Leaderless,
    /// A value that can no longer be lost.
    Applied {
        /// Its place in the log, from 1.
        position: u64,
        /// The value.
        value: u64,
    },
}
