//! The machine.

use crate::{Answer, Command, ErrorCode, Output, Principal, Query, Stat, Unit};
use base::{ApplyFault, CoreAddress, Machine, SessionId, SnapshotPoll, Stamp};
use bytes::Bytes;

/// A session as others may see it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SessionView {
    /// Its id.
    pub id: SessionId,
    /// Shown again to resume.
    pub password: [u8; 16],
    /// Granted time-out in milliseconds.
    pub timeout_ms: u32,
    /// Attachments so far, from 1.
    pub generation: u32,
    /// The core that its connection is (or was last) on.
    pub home: CoreAddress,
    /// The last command of this attachment that was consumed.
    pub sequence: u64,
    /// Ephemeral nodes that it owns.
    pub ephemeral_count: usize,
}

/// Sizes, for people.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Nodes of the tree, with the four that always exist.
    pub nodes: usize,
    /// Ephemeral nodes.
    pub ephemerals: usize,
    /// Sessions.
    pub sessions: usize,
    /// Bytes of names and data.
    pub data_bytes: u64,
    /// Distinct access control lists.
    pub acls: usize,
}

/// The replicated coordination machine.
#[derive(Debug, Default)]
pub struct Coordination {
    zxid: i64,
    time_ms: i64,
}

impl Coordination {
    /// A new, empty machine at revision 0.
    pub fn new() -> Self {
        Self::default()
    }

    /// Applies one decoded unit; [`Machine::apply`] without the decoding.
    pub fn apply_unit(
        &mut self,
        _stamp: Stamp,
        _unit: Unit,
        _out: &mut Vec<Output>,
    ) -> Result<(), ApplyFault> {
        Ok(())
    }

    /// Answers a read from the present state.
    pub fn query(&self, _principal: &Principal, _query: &Query) -> Result<Answer, ErrorCode> {
        Err(ErrorCode::NoNode)
    }

    /// A node's metadata without any check.
    pub fn stat(&self, _path: &str) -> Option<Stat> {
        None
    }

    /// The revision: changes so far.
    pub fn zxid(&self) -> i64 {
        self.zxid
    }

    /// The machine's clock, milliseconds since 1970.
    pub fn time_ms(&self) -> i64 {
        self.time_ms
    }

    /// One session.
    pub fn session(&self, _id: SessionId) -> Option<SessionView> {
        None
    }

    /// All sessions, by ascending id.
    pub fn sessions(&self) -> impl Iterator<Item = SessionView> + '_ {
        std::iter::empty()
    }

    /// Sizes, for people.
    pub fn counts(&self) -> Counts {
        Counts::default()
    }

    /// At most 1,000 removals that a leader should propose at machine time `now_ms`.
    pub fn reapable(&self, _now_ms: i64) -> Vec<Command> {
        Vec::new()
    }
}

impl Machine for Coordination {
    type Output = Output;

    fn apply(
        &mut self,
        stamp: Stamp,
        unit: &[u8],
        out: &mut Vec<Output>,
    ) -> Result<(), ApplyFault> {
        let unit = Unit::decode(&Bytes::copy_from_slice(unit))
            .map_err(|e| ApplyFault::UnknownCommand(e.to_string()))?;
        self.apply_unit(stamp, unit, out)
    }

    fn digest(&self) -> u64 {
        0
    }

    fn begin_snapshot(&mut self) {}

    fn poll_snapshot(&mut self, _bytes_max: usize) -> SnapshotPoll {
        SnapshotPoll::Done
    }

    fn abort_snapshot(&mut self) {}

    fn restore(&mut self, _chunk: &[u8]) -> Result<(), String> {
        Ok(())
    }

    fn finish_restore(&mut self) -> Result<(), String> {
        Ok(())
    }
}
