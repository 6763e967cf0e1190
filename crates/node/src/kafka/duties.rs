//! What a shard's leader does unasked: members that fall silent, retention, and partitions as the registry
//! wants them.
//!
//! A leader compares its shard with the registry only behind a barrier on the registry's shard, asked for
//! while it leads: an older registry would not know topics that the shard has partitions of already, and
//! they would be dropped.

use super::Context;
use crate::core::Ask;
use base::{Origin, ShardId};
use catalog::TREE_SHARD;
use messaging::{Command, GroupTimers, Topic, Unit};
use shard::DataUnit;
use std::collections::BTreeMap;

/// Retention and groups that nobody uses are looked at so often.
const DUE_US: u64 = 1_000_000;
/// The registry is compared so often, also when nothing is known to have changed.
const RECONCILE_US: u64 = 2_000_000;
/// A barrier that was not reached for so long is asked for again.
const BARRIER_US: u64 = 10_000_000;
/// Commands that are proposed at a time; the rest follow.
const COMMANDS_MAX: usize = 1_000;

/// The duties of this core's leaders.
#[derive(Debug, Default)]
pub struct Duties {
    /// Of the shards that are led here.
    timers: BTreeMap<ShardId, GroupTimers>,
    /// When things are due again, monotonic microseconds.
    due_us: u64,
    reconcile_us: u64,
    is_changed: bool,
    barrier: Option<Barrier>,
}

/// A barrier on the registry that is under way.
#[derive(Debug)]
struct Barrier {
    token: u64,
    /// When it was asked for, monotonic microseconds.
    since_us: u64,
    /// What was led here then.
    shards: Vec<ShardId>,
}

impl Duties {
    /// A group changed.
    pub fn group_changed(&mut self, cx: &Context<'_>, shard: ShardId, group: &str) {
        if let (Some(timers), Some(topics)) = (self.timers.get_mut(&shard), cx.topics(shard)) {
            timers.group_changed(cx.now.mono_us, topics, group);
        }
    }

    /// A member was heard of.
    pub fn touch(&mut self, cx: &Context<'_>, shard: ShardId, group: &str, member: &str) {
        if let Some(timers) = self.timers.get_mut(&shard) {
            timers.touch(cx.now.mono_us, group, member);
        }
    }

    /// The core was not run for so long, in microseconds.
    pub fn stalled(&mut self, by_us: u64) {
        for timers in self.timers.values_mut() {
            timers.stalled(by_us);
        }
    }

    /// The registry changed.
    pub fn reconcile_soon(&mut self) {
        self.is_changed = true;
    }

    /// Time passed.
    pub fn handle_tick(&mut self, cx: &mut Context<'_>, last_token: &mut u64) {
        self.timers.retain(|shard, _| cx.leads(*shard));
        for shard in cx.shards() {
            if cx.leads(shard)
                && !self.timers.contains_key(&shard)
                && let Some(topics) = cx.topics(shard)
            {
                let mut timers = GroupTimers::new();
                timers.reset(cx.now.mono_us, topics);
                self.timers.insert(shard, timers);
                self.is_changed = true;
            }
        }
        let now_us = cx.now.mono_us;
        for (shard, timers) in &mut self.timers {
            propose(cx, *shard, timers.poll_expired(now_us, COMMANDS_MAX));
        }
        if now_us >= self.due_us {
            self.due_us = now_us + DUE_US;
            for shard in self.timers.keys() {
                let due = cx.topics(*shard).map(|t| t.due(cx.time_ms, COMMANDS_MAX));
                propose(cx, *shard, due.unwrap_or_default());
            }
        }
        self.ask_registry(cx, last_token);
    }

    fn ask_registry(&mut self, cx: &mut Context<'_>, last_token: &mut u64) {
        let now_us = cx.now.mono_us;
        let is_due = self.is_changed || now_us >= self.reconcile_us;
        let is_fresh = |barrier: &Barrier| now_us < barrier.since_us + BARRIER_US;
        let is_asked = self.barrier.as_ref().is_some_and(is_fresh);
        if is_due && !is_asked && !self.timers.is_empty() && cx.registry().is_some() {
            self.is_changed = false;
            self.reconcile_us = now_us + RECONCILE_US;
            *last_token = last_token.wrapping_add(1);
            self.barrier = Some(Barrier {
                token: *last_token,
                since_us: now_us,
                shards: self.timers.keys().copied().collect(),
            });
            cx.asks.push(Ask::Barrier(TREE_SHARD, *last_token));
        }
    }

    /// A barrier is reached: if it is that on the registry, what is here may be compared with it.
    pub fn handle_barrier(&mut self, cx: &mut Context<'_>, reached: u64) {
        let barrier = self.barrier.take_if(|barrier| barrier.token == reached);
        let (Some(barrier), Some(registry)) = (barrier, cx.registry()) else {
            return;
        };
        for shard in barrier.shards {
            let Some(topics) = cx.topics(shard).filter(|_| cx.leads(shard)) else {
                continue;
            };
            let owns = |topic: &Topic, index: u32| cx.partition_shard(topic, index) == Some(shard);
            let commands = topics.reconcile(registry, owns, COMMANDS_MAX);
            self.is_changed |= commands.len() >= COMMANDS_MAX;
            propose(cx, shard, commands);
        }
    }
}

fn propose(cx: &mut Context<'_>, shard: ShardId, commands: Vec<Command>) {
    for command in commands {
        let origin = Origin::default();
        let unit = DataUnit::Topics(Unit { origin, command });
        // One that is lost is due again.
        cx.asks.push(Ask::Propose(shard, unit.encode()));
    }
}
