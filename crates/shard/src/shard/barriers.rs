//! Read barriers: "local state is at least as new as anything anywhere was when this was asked".
//!
//! Raft's read-index (Ongaro, §6.4), gathered per turn. The crate drops requests before its term's
//! first commit and on a change of leader, so they are asked again; contexts are unique across restarts.

use super::{Shard, ShardEvent};
use base::planted::{Bug, planted};
use base::{LogIndex, Now};
use std::collections::BTreeMap;

const BARRIER_RETRY_US: u64 = 100_000;

#[derive(Debug, Default)]
pub(super) struct Barriers {
    pub(super) incarnation: u64,
    pub(super) next: u64,
    pub(super) unsent: Vec<u64>,
    /// Under way: number → (tokens, when asked last).
    pub(super) asked: BTreeMap<u64, (Vec<u64>, u64)>,
    /// Answered: wait until the index is applied.
    pub(super) answered: Vec<(LogIndex, Vec<u64>)>,
}

impl Shard {
    /// Asks for a read barrier; answered by [`ShardEvent::Barrier`].
    pub fn request_barrier(&mut self, token: u64) {
        if planted(Bug::SyncWithoutReadIndex) {
            self.events.push_back(ShardEvent::Barrier(token));
            return;
        }
        self.barriers.unsent.push(token);
    }

    pub(super) fn ask_barriers(&mut self, now: Now) {
        let b = &mut self.barriers;
        let mut contexts = Vec::new();
        if !b.unsent.is_empty() {
            b.next += 1;
            let tokens = std::mem::take(&mut b.unsent);
            b.asked.insert(b.next, (tokens, now.mono_us));
            contexts.push(b.context(b.next));
        }
        for (number, (_, asked_us)) in &mut b.asked {
            // Raft drops read-index requests before its term's first commit and on a change of leader.
            if now.mono_us >= *asked_us + BARRIER_RETRY_US {
                *asked_us = now.mono_us;
                contexts.push(context(b.incarnation, *number));
            }
        }
        if let Some(group) = self.group_mut() {
            for context in contexts {
                group.read_index(context);
            }
        }
    }

    pub(super) fn reach_barriers(&mut self) {
        let applied = self.applied.0;
        for (_, tokens) in (self.barriers.answered).extract_if(.., |(index, _)| *index <= applied) {
            for token in tokens {
                self.events.push_back(ShardEvent::Barrier(token));
            }
        }
    }

    /// True while this replica is the only voter and has applied an entry of its own term: then nothing is
    /// acknowledged that is not applied here, and its state needs no barrier.
    pub fn is_alone(&self) -> bool {
        self.group().is_some_and(|group| {
            let members = group.membership();
            group.is_leader()
                && !members.is_joint()
                && members.conf.voters == [self.replica.0]
                && self.applied.1 == group.term()
        })
    }
}

impl Barriers {
    pub(super) fn context(&self, number: u64) -> Vec<u8> {
        context(self.incarnation, number)
    }

    pub(super) fn answer(&mut self, bytes: &[u8], index: LogIndex) {
        let mut r = base::Reader::new(bytes);
        let (Ok(incarnation), Ok(number)) = (r.u64(), r.u64()) else {
            return;
        };
        if incarnation == self.incarnation
            && let Some((tokens, _)) = self.asked.remove(&number)
        {
            self.answered.push((index, tokens));
        }
    }
}

fn context(incarnation: u64, number: u64) -> Vec<u8> {
    let mut w = base::Writer::new();
    w.u64(incarnation).u64(number);
    w.into_vec()
}
