//! What the `raft` crate reads: the tail of the log that is kept in memory.
//!
//! The journal holds the log; this holds the part of it that followers are likely to ask for. A
//! follower that is further behind gets a snapshot. The alternative, reading old entries back from the
//! journal, would make every `Storage` call asynchronous for a case that a snapshot serves better.
//! Cost: a cap of memory a group ([`crate::raft::GroupConfig::log_bytes_max`]).

use crate::raft::membership::Membership;
use base::{LogIndex, Term};
use bytes::Bytes;
use raft::eraftpb::{ConfState, Entry, HardState, Snapshot};
use raft::{GetEntriesContext, RaftState, Storage, StorageError};
use std::cell::Cell;
use std::collections::VecDeque;

/// A snapshot on disk that can be sent: where it was cut, and the manifest that says how to fetch it.
#[derive(Clone, PartialEq, Debug)]
pub struct SnapshotOffer {
    /// Last entry in it.
    pub index: LogIndex,
    /// Term of that entry.
    pub term: Term,
    /// Configuration at the cut.
    pub conf: ConfState,
    /// Opaque to raft.
    pub manifest: Bytes,
}

/// The log in memory.
#[derive(Debug, Default)]
pub struct GroupLog {
    pub(crate) hard_state: HardState,
    pub(crate) membership: Membership,
    entries: VecDeque<Entry>,
    entry_bytes: u64,
    /// The entry before the first one held.
    before: (LogIndex, Term),
    offer: Option<SnapshotOffer>,
    snapshot_wanted: Cell<bool>,
}

impl GroupLog {
    /// A log whose state up to `before` (index, term) is in a snapshot, followed by `entries`.
    pub fn new(
        membership: Membership,
        before: (LogIndex, Term),
        entries: Vec<Entry>,
        term: Term,
        vote: u64,
        commit: LogIndex,
    ) -> Self {
        let mut log = Self {
            membership,
            before,
            entry_bytes: entries.iter().map(entry_bytes).sum(),
            entries: entries.into(),
            ..Self::default()
        };
        log.hard_state.term = term.max(log.term_of(log.last()).unwrap_or(0));
        log.hard_state.vote = if log.hard_state.term == term { vote } else { 0 };
        // A torn tail may have taken entries that were known to be committed elsewhere.
        log.hard_state.commit = commit.clamp(before.0, log.last());
        log
    }

    /// First index held.
    pub fn first(&self) -> LogIndex {
        self.before.0 + 1
    }

    /// Last index held, or that of the entry before.
    pub fn last(&self) -> LogIndex {
        self.before.0 + self.entries.len() as u64
    }

    /// Term of an entry held, or of the one before.
    pub fn term_of(&self, index: LogIndex) -> Option<Term> {
        if index == self.before.0 {
            return Some(self.before.1);
        }
        let at = index.checked_sub(self.first())?;
        self.entries.get(at as usize).map(|e| e.term)
    }

    /// Bytes of entries held.
    pub fn bytes(&self) -> u64 {
        self.entry_bytes
    }

    pub(crate) fn append(&mut self, entries: &[Entry]) {
        let Some(first) = entries.first() else { return };
        assert!(
            first.index >= self.first() && first.index <= self.last() + 1,
            "entries from {} do not continue a log of {}..={}",
            first.index,
            self.first(),
            self.last()
        );
        while self.last() >= first.index {
            let dropped = self.entries.pop_back().expect("the log is not empty");
            self.entry_bytes -= entry_bytes(&dropped);
        }
        self.entry_bytes += entries.iter().map(entry_bytes).sum::<u64>();
        self.entries.extend(entries.iter().cloned());
    }

    /// Drops entries from the front while more than `bytes_max` are held, at most up to `index`.
    pub(crate) fn trim(&mut self, bytes_max: u64, index: LogIndex) {
        while self.entry_bytes > bytes_max && self.first() <= index {
            let Some(dropped) = self.entries.pop_front() else {
                break;
            };
            self.entry_bytes -= entry_bytes(&dropped);
            self.before = (dropped.index, dropped.term);
        }
    }

    /// The log restarts behind an installed snapshot.
    pub(crate) fn install(&mut self, index: LogIndex, term: Term, membership: Membership) {
        self.entries.clear();
        self.entry_bytes = 0;
        self.before = (index, term);
        self.membership = membership;
        self.hard_state.commit = self.hard_state.commit.max(index);
    }

    /// Offers a snapshot to followers that are too far behind.
    pub fn set_offer(&mut self, offer: Option<SnapshotOffer>) {
        self.offer = offer;
        self.snapshot_wanted.set(false);
    }

    /// True when a follower needs a newer snapshot than the one on offer.
    pub fn snapshot_wanted(&self) -> bool {
        self.snapshot_wanted.get()
    }
}

fn entry_bytes(entry: &Entry) -> u64 {
    // What an entry costs beside its bytes: the crate's struct.
    (entry.data.len() + entry.context.len() + 128) as u64
}

impl Storage for GroupLog {
    fn initial_state(&self) -> raft::Result<RaftState> {
        Ok(RaftState::new(
            self.hard_state.clone(),
            self.membership.conf.clone(),
        ))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        if low < self.first() {
            return Err(StorageError::Compacted.into());
        }
        if high > self.last() + 1 {
            return Err(StorageError::Unavailable.into());
        }
        let max = max_size.into().unwrap_or(u64::MAX);
        let (from, to) = (low - self.first(), high - self.first());
        let mut bytes = 0;
        let mut out = Vec::new();
        for entry in self.entries.range(from as usize..to as usize) {
            bytes += entry_bytes(entry);
            if bytes > max && !out.is_empty() {
                break;
            }
            out.push(entry.clone());
        }
        Ok(out)
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        if index < self.before.0 {
            return Err(StorageError::Compacted.into());
        }
        self.term_of(index)
            .ok_or_else(|| StorageError::Unavailable.into())
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.first())
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last())
    }

    fn snapshot(&self, request_index: u64, to: u64) -> raft::Result<Snapshot> {
        let needed = request_index.max(self.before.0);
        // A replica refuses a snapshot whose configuration does not know it.
        let knows = |conf: &ConfState| {
            (conf.voters.iter().chain(&conf.learners))
                .chain(&conf.learners_next)
                .any(|id| *id == to)
        };
        let fits = |o: &&SnapshotOffer| o.index >= needed && knows(&o.conf);
        let Some(offer) = self.offer.as_ref().filter(fits) else {
            self.snapshot_wanted.set(true);
            return Err(StorageError::SnapshotTemporarilyUnavailable.into());
        };
        let mut snapshot = Snapshot::default();
        let metadata = snapshot.mut_metadata();
        metadata.index = offer.index;
        metadata.term = offer.term;
        metadata.set_conf_state(offer.conf.clone());
        snapshot.data = offer.manifest.clone();
        Ok(snapshot)
    }
}
