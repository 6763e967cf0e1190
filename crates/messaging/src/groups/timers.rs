//! Deadlines of groups, kept in memory by the shard's leader only, on its monotonic clock.
//!
//! The idea is that of the sessions' leases: a keep-alive only moves a deadline in a table, and the queue,
//! which holds one entry a group, is corrected when its turn comes. Expiry is never done here: what ran out
//! is handed to the caller as a command to propose; `apply` decides. A new leader grants everybody a full
//! time-out.

use super::{Group, Phase, Waiting};
use crate::command::Command;
use crate::machine::Topics;
use std::collections::{BTreeMap, BTreeSet};

/// How long a proposal may take before it is made again.
const RETRY_US: u64 = 1_000_000;

#[derive(Clone, Copy, Debug)]
struct Deadline {
    timeout_us: u64,
    at_us: u64,
    /// It waits for an answer, and is not expected to speak.
    is_waiting: bool,
}

#[derive(Clone, Copy, Debug)]
struct Rebalance {
    phase: Phase,
    generation: i32,
    at_us: u64,
}

#[derive(Clone, Debug, Default)]
struct Timers {
    members: BTreeMap<String, Deadline>,
    rebalance: Option<Rebalance>,
    generation: i32,
    /// Where the group stands in the queue.
    queued_us: u64,
}

impl Timers {
    fn next_us(&self) -> u64 {
        let speaking = self.members.values().filter(|d| !d.is_waiting);
        let members = speaking.map(|d| d.at_us).min();
        let rebalance = self.rebalance.map(|r| r.at_us);
        members
            .into_iter()
            .chain(rebalance)
            .min()
            .unwrap_or(u64::MAX)
    }
}

/// The deadlines of all groups of a shard. Times are monotonic microseconds.
#[derive(Clone, Debug, Default)]
pub struct GroupTimers {
    groups: BTreeMap<String, Timers>,
    queue: BTreeSet<(u64, String)>,
    /// Time during which this core was not running: deadlines are kept on a clock without it.
    stalled_us: u64,
}

impl GroupTimers {
    /// No groups.
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts over as a new leader: everybody is granted a full time-out.
    pub fn reset(&mut self, now_us: u64, topics: &Topics) {
        *self = Self::default();
        for (name, _) in topics.groups() {
            self.group_changed(now_us, topics, name);
        }
    }

    /// Takes over what [`crate::Output::GroupChanged`] told of.
    pub fn group_changed(&mut self, now_us: u64, topics: &Topics, name: &str) {
        let now_us = now_us.saturating_sub(self.stalled_us);
        let mut timers = self.groups.remove(name).unwrap_or_default();
        self.queue.remove(&(timers.queued_us, name.to_owned()));
        let Some(group) = topics.group(name) else {
            return;
        };
        timers
            .members
            .retain(|id, _| group.members.contains_key(id) || group.pending.contains_key(id));
        for (id, timeout_ms) in &group.pending {
            arm(&mut timers.members, id, *timeout_ms, false, now_us);
        }
        for (id, member) in &group.members {
            let is_waiting = member.waiting != Waiting::No;
            arm(
                &mut timers.members,
                id,
                member.session_timeout_ms,
                is_waiting,
                now_us,
            );
        }
        timers.rebalance = rebalance(group, timers.rebalance, now_us);
        timers.generation = group.generation;
        self.enqueue(name, timers);
    }

    fn enqueue(&mut self, name: &str, mut timers: Timers) {
        timers.queued_us = timers.next_us();
        if timers.queued_us < u64::MAX {
            self.queue.insert((timers.queued_us, name.to_owned()));
        }
        self.groups.insert(name.to_owned(), timers);
    }

    /// A member was heard of.
    pub fn touch(&mut self, now_us: u64, group: &str, member: &str) {
        let now_us = now_us.saturating_sub(self.stalled_us);
        let timers = self.groups.get_mut(group);
        if let Some(deadline) = timers.and_then(|t| t.members.get_mut(member)) {
            deadline.at_us = deadline.at_us.max(now_us + deadline.timeout_us);
        }
    }

    /// Commands for what ran out, about `max` of them. Each is handed out once, and again a second later
    /// if it is still due.
    pub fn poll_expired(&mut self, now_us: u64, max: usize) -> Vec<Command> {
        let now_us = now_us.saturating_sub(self.stalled_us);
        let mut expired = Vec::new();
        while expired.len() < max
            && let Some((at_us, _)) = self.queue.first()
            && *at_us <= now_us
        {
            let (_, name) = self.queue.pop_first().expect("it was seen");
            let mut timers = self
                .groups
                .remove(&name)
                .expect("queued groups have timers");
            for (id, deadline) in &mut timers.members {
                if !deadline.is_waiting && deadline.at_us <= now_us {
                    deadline.at_us = now_us + RETRY_US;
                    expired.push(Command::ExpireMember {
                        group: name.clone(),
                        member: id.clone(),
                        generation: timers.generation,
                    });
                }
            }
            if let Some(rebalance) = &mut timers.rebalance
                && rebalance.at_us <= now_us
            {
                rebalance.at_us = now_us + RETRY_US;
                expired.push(Command::EndRebalance {
                    group: name.clone(),
                    generation: rebalance.generation,
                    joining: rebalance.phase == Phase::Joining,
                });
            }
            self.enqueue(&name, timers);
        }
        expired
    }

    /// When to call [`Self::poll_expired`] next; `u64::MAX` without groups. It may be early, never late.
    pub fn deadline_us(&self) -> u64 {
        let first = self.queue.first();
        first.map_or(u64::MAX, |(at_us, _)| at_us.saturating_add(self.stalled_us))
    }

    /// The core itself did not run for this long: members are not to blame, and all deadlines move.
    pub fn stalled(&mut self, by_us: u64) {
        self.stalled_us = self.stalled_us.saturating_add(by_us);
    }
}

/// A member that is new, or that was just answered, has its full time-out before it.
fn arm(
    members: &mut BTreeMap<String, Deadline>,
    id: &str,
    timeout_ms: u32,
    is_waiting: bool,
    now_us: u64,
) {
    let timeout_us = u64::from(timeout_ms) * 1000;
    let fresh = Deadline {
        timeout_us,
        at_us: now_us + timeout_us,
        is_waiting,
    };
    match members.get_mut(id) {
        Some(known) if known.is_waiting == is_waiting && known.timeout_us == timeout_us => {}
        Some(known) => *known = fresh,
        None => {
            members.insert(id.to_owned(), fresh);
        }
    }
}

/// The deadline of a joining or a syncing; one that is under way keeps its own.
fn rebalance(group: &Group, known: Option<Rebalance>, now_us: u64) -> Option<Rebalance> {
    let is_under_way = matches!(group.phase, Phase::Joining | Phase::Syncing);
    let same = |r: &Rebalance| (r.phase, r.generation) == (group.phase, group.generation);
    let fresh = Rebalance {
        phase: group.phase,
        generation: group.generation,
        at_us: now_us + u64::from(group.rebalance_timeout_ms()) * 1000,
    };
    is_under_way.then(|| known.filter(same).unwrap_or(fresh))
}
