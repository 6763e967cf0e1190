//! What the leader of the tree's shard does about jobs: it keeps the leases of agents, and has tasks placed.
//!
//! Leases are in the leader's memory, on its monotonic clock; what it finds over is *proposed*, with the generation
//! that was not heard, and a new leader grants everybody a full lease. Plans are made of the state that is applied
//! here; whatever is not so any more when one is applied is refused there, and planned again.

use crate::core::Core;
use crate::frame::Frame;
use base::planted::{Bug, planted};
use base::{Now, Origin, ShardId, Term};
use catalog::TREE_SHARD;
use coordination::Leases;
use scheduling::machine::Agent;
use scheduling::{AgentId, Command, Scheduling, Unit};
use shard::{DataUnit, Shard};
use std::collections::{BTreeMap, BTreeSet};

/// Between two plans, in microseconds, at least.
const PLAN_US: u64 = 50_000;
/// A plan of which nothing was heard is made again after this time, in microseconds.
const AGAIN_US: u64 = 1_000_000;
/// Agents that are found lost in a turn; the rest follow in the next.
const LOST_MAX: usize = 1_000;

/// Who has a lease, and for which of its generations.
#[derive(Debug, Default)]
struct Held {
    leases: Leases<u64, u64>,
    armed: BTreeMap<u64, u64>,
}

impl Held {
    /// Gives a lease, in milliseconds, to each of those who are there and have none for their generation, and ends those of
    /// others.
    fn follow(&mut self, now: Now, there: impl Iterator<Item = (u64, u64, u32)> + Clone) {
        for (id, generation, lease_ms) in there.clone() {
            if self.armed.insert(id, generation) != Some(generation) {
                self.leases.opened(now.mono_us, id, generation, lease_ms);
            }
        }
        if self.armed.len() == there.clone().count() {
            return;
        }
        let there: BTreeSet<u64> = there.map(|(id, ..)| id).collect();
        let gone = self.armed.keys().filter(|id| !there.contains(id));
        for id in gone.copied().collect::<Vec<u64>>() {
            self.armed.remove(&id);
            self.leases.ended(id);
        }
    }
}

/// A leader's memory; nothing in it is needed again by the next.
#[derive(Debug, Default)]
pub(crate) struct JobsDuty {
    agents: Held,
    /// Agents whose loss was proposed, with the generation: beats of these come too late.
    doomed: BTreeMap<u64, u64>,
    /// Frameworks by their jobs' numbers. Their generations are how often each was heard: a renewal stands in the log.
    frameworks: Held,
    /// The revision that leases of agents and plans were made for.
    leased: Option<u64>,
    planned: Option<u64>,
    /// When a plan may be made, and when one is made though nothing has changed.
    plan_us: u64,
    again_us: u64,
}

impl JobsDuty {
    /// The core was not run for so long, in microseconds.
    pub(crate) fn stalled(&mut self, by_us: u64) {
        self.agents.leases.stalled(by_us);
        self.frameworks.leases.stalled(by_us);
    }

    /// Gives leases to agents that are up, and to frameworks that were heard since they got their last.
    fn lease(&mut self, now: Now, cell: &Scheduling) {
        let frameworks = cell.frameworks();
        let heard = frameworks.map(|its| (its.number, its.renewals, its.lease_ms));
        self.frameworks.follow(now, heard);
        if self.leased == Some(cell.revision()) {
            return;
        }
        self.leased = Some(cell.revision());
        let up = cell.agents().filter(|agent| agent.is_up);
        let up = up.map(|agent| {
            let spec = &agent.spec;
            let is_early = planted(Bug::LoseAgentEarly);
            let lease_ms = if is_early {
                spec.lease_ms / 2
            } else {
                spec.lease_ms
            };
            (spec.id.0, agent.generation, lease_ms)
        });
        self.agents.follow(now, up);
        let armed = &self.agents.armed;
        self.doomed.retain(|id, _| armed.contains_key(id));
    }

    /// Frameworks that were silent for too long.
    fn silent(&mut self, now: Now, cell: &Scheduling) -> Vec<Command> {
        let silent = (self.frameworks.leases).poll_expired(now.mono_us, LOST_MAX);
        let quit = silent.into_iter().filter_map(|(number, renewals)| {
            let its = cell.frameworks().find(|its| its.number == number)?;
            Some(Command::Quit {
                name: its.name.to_owned(),
                generation: its.generation,
                renewals: Some(renewals),
            })
        });
        quit.collect()
    }

    /// What is to be proposed now.
    fn next(&mut self, now: Now, time_ms: i64, cell: &Scheduling) -> Vec<Command> {
        self.lease(now, cell);
        let lost = (self.agents.leases).poll_expired(now.mono_us, LOST_MAX);
        self.doomed.extend(lost.iter().copied());
        let mut commands: Vec<Command> = (lost.into_iter())
            .map(|(agent, generation)| Command::Lose {
                agent: AgentId(agent),
                generation,
                forget: false,
            })
            .collect();
        commands.extend(self.silent(now, cell));
        let is_news = self.planned != Some(cell.revision());
        if now.mono_us >= self.plan_us && (is_news || now.mono_us >= self.again_us) {
            self.planned = Some(cell.revision());
            self.plan_us = now.mono_us + PLAN_US;
            let pause_us = cell.next_due_ms(time_ms).map_or(AGAIN_US, |due_ms| {
                let left_ms = u64::try_from(due_ms - time_ms).unwrap_or_default();
                (left_ms * 1_000).clamp(PLAN_US, AGAIN_US)
            });
            self.again_us = now.mono_us + pause_us;
            commands.extend(cell.plan(time_ms));
            commands.extend(cell.wants_offers(time_ms).then_some(Command::Offer));
            commands.extend(cell.forgettable(time_ms));
        }
        commands
    }
}

impl Core {
    fn cell(&self) -> Option<&Scheduling> {
        let shard = self.replicas.get(TREE_SHARD)?;
        shard.machine().data().map(|data| &data.scheduling)
    }

    /// Does what is due, as the leader of the tree's shard.
    pub(crate) fn keep_jobs(&mut self, now: Now) {
        if !(self.replicas.get(TREE_SHARD)).is_some_and(Shard::is_leader) {
            self.jobs = JobsDuty::default();
            return;
        }
        let time_ms = self.stamp_clock.read_ms(now);
        let mut duty = std::mem::take(&mut self.jobs);
        let commands = self.cell().map(|cell| duty.next(now, time_ms, cell));
        self.jobs = duty;
        if let Some(shard) = self.replicas.get_mut(TREE_SHARD) {
            for command in commands.unwrap_or_default() {
                let origin = Origin::default();
                // One that is refused is due again.
                shard.propose(DataUnit::Scheduling(Unit { origin, command }).encode());
            }
        }
    }

    /// Hands beats of agents to the leader.
    pub(crate) fn send_beats(&mut self, now: Now) {
        let beats = self.desk.take_beats();
        if beats.is_empty() {
            return;
        }
        let Some((term, leader)) = self.router.leader(TREE_SHARD) else {
            // Nobody hears them; the next may be heard.
            return;
        };
        if leader != self.me.node {
            let frame = Frame::Beat {
                shard: TREE_SHARD,
                term,
                from: self.me,
                beats,
            };
            return self.send_to_shard(leader, TREE_SHARD, &frame);
        }
        if let Some(heard) = self.hear_beats(now, TREE_SHARD, term, beats) {
            self.with_desk(now, |desk, cx| desk.handle_beaten(cx, heard));
        }
    }

    /// Moves the leases of agents that were heard; `None` where the shard is not led in this term.
    pub(crate) fn hear_beats(
        &mut self,
        now: Now,
        shard: ShardId,
        term: Term,
        beats: Vec<(u64, AgentId, u64)>,
    ) -> Option<Vec<(u64, bool)>> {
        let group = self.replicas.get(shard).and_then(Shard::group)?;
        if shard != TREE_SHARD || !group.is_leader() || group.term() != term {
            return None;
        }
        let mut heard = Vec::with_capacity(beats.len());
        for (number, agent, generation) in beats {
            let its = self.cell().and_then(|cell| cell.agent(agent));
            let is_late = self.jobs.doomed.get(&agent.0) == Some(&generation);
            let is_it = |its: &Agent| its.is_up && its.generation == generation;
            let is_known = its.is_some_and(is_it) && !is_late;
            if is_known && self.jobs.agents.armed.get(&agent.0) == Some(&generation) {
                self.jobs.agents.leases.touch(now.mono_us, agent.0);
            }
            heard.push((number, is_known));
        }
        Some(heard)
    }
}
