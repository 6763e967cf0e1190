//! What became of transactions, remembered for a while.
//!
//! In a record's shard, so that the same id asked for again is answered and not done again. In a participant,
//! so that a `Prepare` that comes late (twice, or behind the decision) promises nothing: it is refused while it
//! is younger than [`PREPARE_MS_MAX`], because the participant remembers for [`PROMISE_MS`], and when it is
//! older, because it is too old. A record's shard whose clock lies further away than that is told the time and
//! asks again; a record that has ended does not.

use crate::output::Outcome;
use crate::unit::TxnId;
use base::{DecodeError, Reader, Writer};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use twox_hash::XxHash64;

/// How long an outcome is remembered in the record's shard, milliseconds.
pub const OUTCOME_MS: i64 = 10 * 60 * 1000;
/// How long a participant remembers, milliseconds.
pub const PROMISE_MS: i64 = 60 * 1000;
/// A `Prepare` that was asked longer ago, or so far ahead, is to be asked again, milliseconds.
pub const PREPARE_MS_MAX: i64 = 20 * 1000;
/// Outcomes remembered at most; beyond, the one that would be forgotten first is.
pub const ENDED_MAX: usize = 100_000;
/// Bytes of results remembered at most; beyond, the oldest outcomes lose theirs.
pub const RESULTS_BYTES_MAX: usize = 16 << 20;

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Ended {
    pub outcome: Outcome,
    /// Hash of what its client asked for; 0 in a participant.
    pub content: u64,
    /// When to forget it, Unix milliseconds.
    pub until_ms: i64,
}

#[derive(Debug, Default)]
pub(crate) struct Memory {
    map: BTreeMap<TxnId, Ended>,
    by_time: BTreeSet<(i64, TxnId)>,
    /// Those that still have results, by time.
    with_results: BTreeSet<(i64, TxnId)>,
    bytes: usize,
    digest: u64,
}

impl Memory {
    pub fn get(&self, id: &TxnId) -> Option<&Ended> {
        self.map.get(id)
    }

    pub fn len(&self) -> usize {
        self.map.len()
    }

    pub fn digest(&self) -> u64 {
        self.digest
    }

    pub fn iter(&self) -> impl Iterator<Item = (&TxnId, &Ended)> {
        self.map.iter()
    }

    /// Those that are remembered for longest, newest first.
    pub fn latest(&self, max: usize) -> Vec<(&TxnId, i64, &Outcome)> {
        let latest = self.by_time.iter().rev().take(max);
        let found = latest.filter_map(|(until_ms, id)| {
            let ended = self.map.get(id)?;
            Some((id, *until_ms, &ended.outcome))
        });
        found.collect()
    }

    /// Remembers, and forgets what is over or too much.
    pub fn put(&mut self, id: TxnId, ended: Ended, time_ms: i64) {
        self.insert(id, ended);
        while self.bytes > RESULTS_BYTES_MAX
            && let Some((_, id)) = self.with_results.first().cloned()
            && let Some(mut ended) = self.remove(&id)
        {
            ended.outcome.forget_results();
            self.insert(id, ended);
        }
        while let Some((until_ms, id)) = self.by_time.first()
            && (*until_ms <= time_ms || self.map.len() > ENDED_MAX)
        {
            let id = id.clone();
            self.remove(&id);
        }
    }

    pub fn insert(&mut self, id: TxnId, ended: Ended) {
        self.remove(&id);
        let bytes = ended.outcome.bytes();
        self.bytes += bytes;
        if bytes > 0 && matches!(ended.outcome, Outcome::Committed(_)) {
            self.with_results.insert((ended.until_ms, id.clone()));
        }
        self.by_time.insert((ended.until_ms, id.clone()));
        self.digest = self.digest.wrapping_add(hash(&id, &ended));
        self.map.insert(id, ended);
    }

    fn remove(&mut self, id: &TxnId) -> Option<Ended> {
        let ended = self.map.remove(id)?;
        let place = (ended.until_ms, id.clone());
        self.by_time.remove(&place);
        self.with_results.remove(&place);
        self.bytes -= ended.outcome.bytes();
        self.digest = self.digest.wrapping_sub(hash(id, &ended));
        Some(ended)
    }
}

impl Ended {
    pub fn encode_into(&self, w: &mut Writer) {
        w.u64(self.content).i64(self.until_ms);
        self.outcome.encode_into(w);
    }

    pub fn decode_from(source: &Bytes, r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            content: r.u64()?,
            until_ms: r.i64()?,
            outcome: Outcome::decode_from(source, r)?,
        })
    }
}

/// Without results and words: they are told, not built upon.
fn hash(id: &TxnId, ended: &Ended) -> u64 {
    let mut w = Writer::new();
    w.str(id.as_str()).u64(ended.content).i64(ended.until_ms);
    w.bool(matches!(ended.outcome, Outcome::Committed(_)));
    XxHash64::oneshot(3, w.as_slice())
}
