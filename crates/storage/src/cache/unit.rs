//! What the log holds for the cache, and what applying it tells.

use super::{Command, Reply};
use base::Origin;
use bytes::Bytes;

/// One replicated unit: seen whole or not at all by everybody else.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unit {
    /// Who waits for the answer; the default when nobody does.
    pub origin: Origin,
    /// Number of the database (Redis' SELECT), which stands in front of every key.
    pub database: u32,
    /// What to do.
    pub body: Body,
}

/// What a unit does.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Body {
    /// One command.
    One(Command),
    /// Redis' EXEC: if no watched key was touched, all commands in order; one that is refused does not
    /// stop those behind it. Reads may be among them.
    Exec {
        /// What must not have been touched.
        watched: Vec<Watched>,
        /// What to do then.
        commands: Vec<Command>,
    },
    /// Proposed by a leader: removes keys whose time ran out, each if it still ends at exactly that time.
    Expire(Vec<Ended>),
}

/// A key that a transaction depends on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Watched {
    /// Its database.
    pub database: u32,
    /// The key.
    pub key: Bytes,
    /// `Cache::version` when the client began to watch.
    pub version: u64,
}

/// A key whose time ran out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ended {
    /// Its database.
    pub database: u32,
    /// The key.
    pub key: Bytes,
    /// When it was to end, Unix milliseconds.
    pub at_ms: i64,
}

/// What applying tells the outside, in order.
#[derive(Clone, PartialEq, Debug)]
pub enum Output {
    /// The answer to a unit; `Exec` answers with an array, or `NilArray` when it was not carried out.
    Reply {
        /// Who waits.
        origin: Origin,
        /// The answer.
        reply: Reply,
    },
    /// A list or sorted set has elements that it did not have: somebody may wait for one.
    Ready {
        /// The database.
        database: u32,
        /// The key.
        key: Bytes,
    },
}
