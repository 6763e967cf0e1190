//! The contract of a deterministic machine fed by a replicated log.

use crate::Stamp;
use std::fmt;

/// A local fault: this replica must stop, for it can no longer follow the log. Everything that all
/// replicas decide alike (a refused command) is a reply, never this.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ApplyFault {
    /// The unit holds a command that this version of the machine does not know.
    UnknownCommand(String),
    /// The replica's state contradicts the log or another replica's digest.
    Diverged(String),
}

impl fmt::Display for ApplyFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownCommand(what) => write!(
                f,
                "unknown command ({what}); upgrade this node before it serves this shard"
            ),
            Self::Diverged(what) => write!(f, "state differs from the log's: {what}"),
        }
    }
}

/// What [`State::poll_snapshot`] yields.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SnapshotPoll {
    /// The next piece; feed it to [`State::restore`] in the same order, whole.
    Chunk(Vec<u8>),
    /// There is no more; the snapshot is complete.
    Done,
}

/// State that is a pure function of the log: compared by digest, carried by snapshots.
///
/// A snapshot is taken without stopping: after [`Self::begin_snapshot`], pieces are polled between
/// applies, and whatever a unit is about to change that has not been visited yet is written out first.
pub trait State {
    /// A hash of the whole state, kept up as it changes; equal on replicas with the same state.
    fn digest(&self) -> u64;

    /// Marks the cut: what is polled from now on is the state of this moment.
    fn begin_snapshot(&mut self);

    /// The next piece, near `bytes_max` long (one oversize value may exceed it). Only after `begin_snapshot`.
    fn poll_snapshot(&mut self, bytes_max: usize) -> SnapshotPoll;

    /// Gives up the snapshot that was begun, if any.
    fn abort_snapshot(&mut self);

    /// Feeds a piece into an empty machine. An error names what is wrong with the piece.
    fn restore(&mut self, chunk: &[u8]) -> Result<(), String>;

    /// Ends a restore: links what was fed and checks that it is whole.
    fn finish_restore(&mut self) -> Result<(), String>;
}

/// What changes [`State`]: `apply` sees one *unit* (one command or one transaction), which sees its own
/// writes and takes effect as a whole or not at all.
pub trait Machine: State {
    /// What applying tells the outside: replies and events, in order.
    type Output;

    /// Applies one unit. Time is clamped inside so that it never goes back.
    fn apply(
        &mut self,
        stamp: Stamp,
        unit: &[u8],
        out: &mut Vec<Self::Output>,
    ) -> Result<(), ApplyFault>;
}
