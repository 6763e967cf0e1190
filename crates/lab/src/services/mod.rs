//! The services' side of a run: clients that call the desk, what they do and what they saw.
//!
//! Each client owns one instance with a check that must be told in time, tells it for a while, falls silent,
//! and begins again; reads its service; and waits for changes of it with blocking queries, one after another.

pub mod player;

use coordination::services::Status;

/// Services; client `i` offers, reads and watches the one with number `i` modulo this.
pub const SERVICES: usize = 2;

/// The name of the service that a client offers.
pub fn service_of(client: usize) -> String {
    format!("service-{}", client % SERVICES)
}

/// The id of a client's instance.
pub fn instance_of(client: usize) -> String {
    format!("i{client}")
}

/// An owner told its check.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Told {
    /// Whose.
    pub client: usize,
    /// When it was sent.
    pub invoked_us: u64,
    /// When it was acknowledged, if it was.
    pub reply_us: Option<u64>,
    /// The check's time-out.
    pub ttl_us: u64,
}

/// A service was looked at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Looked {
    /// The service's number.
    pub service: usize,
    /// Through which node.
    pub node: usize,
    /// When it was asked.
    pub invoked_us: u64,
    /// When it was answered.
    pub at_us: u64,
    /// The index that was seen before, and how long was to be waited for another, in microseconds.
    pub after: Option<(u64, u64)>,
    /// The index of the answer.
    pub index: u64,
    /// Instances by client, and what their checks say.
    pub instances: Vec<(usize, Status)>,
}

/// What these clients did and saw.
#[derive(Clone, Debug, Default)]
pub struct ServicesHistory {
    /// In the order in which it was sent.
    pub told: Vec<Told>,
    /// In the order in which it was answered.
    pub looked: Vec<Looked>,
    /// When all faults had ended, and all nodes served again.
    pub healed_us: Option<u64>,
    /// When the owners stopped telling for good.
    pub silent_us: Option<u64>,
    /// What was read at the very end.
    pub last: Vec<Looked>,
    /// Calls that were never answered by a node that lived on: client, when, what.
    pub unanswered: Vec<(usize, u64, String)>,
}
