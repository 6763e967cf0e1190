//! Units that wait for a transaction to be decided, in the order of the log.
//!
//! The first one waits because it meets a lock; everything behind it waits because it is behind it. So the
//! order of a shard's units stays one order, for whoever may count on it, at the price that a busy locked key
//! holds its shard up until the decision is there. Parking by client instead would need to know who counts on
//! which order: a session, a connection that pipelines, a producer.

use base::{Stamp, Writer};
use bytes::Bytes;
use std::collections::VecDeque;
use twox_hash::XxHash64;

/// Front ends refuse more once so many units wait.
pub const PARKED_MAX: usize = 10_000;
/// Front ends refuse more once so many bytes wait.
pub const PARKED_BYTES_MAX: usize = 16 << 20;

#[derive(Debug, Default)]
pub(crate) struct Parked {
    units: VecDeque<(Stamp, Bytes)>,
    /// Number of the first.
    first: u64,
    bytes: usize,
    digest: u64,
    /// The first may go: locks were released since it was looked at. No part of the state.
    pub is_due: bool,
}

impl Parked {
    pub fn is_empty(&self) -> bool {
        self.units.is_empty()
    }

    pub fn len(&self) -> usize {
        self.units.len()
    }

    pub fn is_full(&self) -> bool {
        self.units.len() >= PARKED_MAX || self.bytes >= PARKED_BYTES_MAX
    }

    pub fn digest(&self) -> u64 {
        self.digest
    }

    pub fn push(&mut self, stamp: Stamp, unit: Bytes) {
        let number = self.first + self.units.len() as u64;
        self.digest = self.digest.wrapping_add(hash(number, stamp, &unit));
        self.bytes += unit.len();
        self.units.push_back((stamp, unit));
    }

    pub fn front(&self) -> Option<&Bytes> {
        self.units.front().map(|(_, unit)| unit)
    }

    pub fn pop(&mut self) -> Option<(Stamp, Bytes)> {
        let (stamp, unit) = self.units.pop_front()?;
        self.digest = (self.digest).wrapping_sub(hash(self.first, stamp, &unit));
        self.first += 1;
        self.bytes -= unit.len();
        Some((stamp, unit))
    }

    pub fn iter(&self) -> impl Iterator<Item = &(Stamp, Bytes)> {
        self.units.iter()
    }

    pub fn first(&self) -> u64 {
        self.first
    }

    pub fn begin_at(&mut self, first: u64) {
        self.first = first;
    }
}

fn hash(number: u64, stamp: Stamp, unit: &[u8]) -> u64 {
    let mut w = Writer::new();
    w.u64(number).i64(stamp.time_ms).u64(stamp.seed);
    XxHash64::oneshot(XxHash64::oneshot(1, w.as_slice()), unit)
}
