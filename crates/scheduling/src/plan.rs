//! The planner: which tasks get which agents next, as the leader proposes it.
//!
//! It places one task after another on its own copy of what is promised, the most important first, so that one plan
//! holds many placements that fit beside each other. A task that fits nowhere is passed over, with all of its kind
//! (tasks of a job that ask for the same are one equivalence class: Borg, section 3.4), and is tried again in the next
//! plan. Cost: agents × classes that do not fit, plus agents × placements; both are bounded by [`LOOKS_MAX`].

use crate::command::{Command, Placement, Score, Slot, Why};
use crate::machine::Scheduling;
use crate::model::{AgentId, InstanceId};
use crate::placement::{Choice, NodeView, Running, WhyNot, place};
use std::collections::BTreeSet;

/// Agents that are looked at for all tasks of a plan together, about: what a leader can do between two beats of its
/// heart.
pub const LOOKS_MAX: usize = 100_000;
/// Placements of a plan.
pub const PLACEMENTS_MAX: usize = 500;
/// An agent that is lost is forgotten after this time, milliseconds.
pub const FORGET_MS: i64 = 86_400_000;

impl Scheduling {
    /// What is to be proposed next at this time (Unix milliseconds), as far as places for tasks go.
    pub fn plan(&self, time_ms: i64) -> Option<Command> {
        if self.pending.is_empty() || self.views.is_empty() {
            return None;
        }
        let mut views: Vec<NodeView> = self.views.values().cloned().collect();
        let mut looks = (LOOKS_MAX / views.len()).max(1);
        let mut hopeless: BTreeSet<(u64, u16)> = BTreeSet::new();
        let mut placements = Vec::new();
        for (_, slot) in &self.pending {
            let is_due = |slot| self.slots.get(slot).is_some_and(|w| w.due_ms <= time_ms);
            if hopeless.contains(&(slot.job, slot.task)) || !is_due(slot) {
                continue;
            }
            if looks == 0 || placements.len() == PLACEMENTS_MAX {
                break;
            }
            looks -= 1;
            let (Some(ask), Some(job)) = (self.ask(*slot), self.jobs.get(&slot.job)) else {
                continue;
            };
            let Ok(choice) = place(&views, &ask, job.spec.rule) else {
                hopeless.insert((slot.job, slot.task));
                continue;
            };
            let Some(view) = views.iter_mut().find(|view| view.id == choice.node) else {
                continue;
            };
            // As the cell counts it (see `machine`): of this plan nobody is evicted twice, or at all.
            let mut resources = ask.resources;
            for victim in &choice.preempt {
                if let Some(its) = view.remove(*victim) {
                    resources = resources.saturating_sub(its.resources);
                    view.add(Running {
                        priority: u32::MAX,
                        ..its
                    });
                }
            }
            view.add(Running {
                instance: u64::MAX - placements.len() as u64,
                job: ask.job,
                priority: u32::MAX,
                resources,
            });
            let agent = AgentId(choice.node);
            let generation = self.agents.get(&agent).map_or(0, |agent| agent.generation);
            placements.push(Placement {
                slot: *slot,
                agent,
                generation,
                evict: choice.preempt.iter().copied().map(InstanceId).collect(),
                why: Why::of(&choice),
            });
        }
        (!placements.is_empty()).then_some(Command::Place { placements })
    }

    /// Why a slot that has no agent would get one now, or would not.
    pub fn why_not(&self, slot: Slot) -> Option<WhyNot> {
        let rule = self.jobs.get(&slot.job)?.spec.rule;
        let views: Vec<NodeView> = self.views.values().cloned().collect();
        place(&views, &self.ask(slot)?, rule).err()
    }

    /// When a plan may have something to do that it had not before, because a pause is over; Unix milliseconds.
    pub fn next_due_ms(&self, time_ms: i64) -> Option<i64> {
        let due = |(_, slot): &(_, Slot)| self.slots.get(slot).map(|wanted| wanted.due_ms);
        let later = self.pending.iter().filter_map(due);
        later.filter(|due_ms| *due_ms > time_ms).min()
    }

    /// Agents that were lost so long ago that nobody asks for them, with their generations.
    pub fn forgettable(&self, time_ms: i64) -> Vec<Command> {
        let agents = self.agents.values();
        let old = agents.filter(|agent| !agent.is_up && agent.since_ms + FORGET_MS <= time_ms);
        old.map(|agent| Command::Lose {
            agent: agent.spec.id,
            generation: agent.generation,
            forget: true,
        })
        .collect()
    }
}

impl Why {
    fn of(choice: &Choice) -> Self {
        let score = |scored: &crate::placement::Scored| Score {
            agent: AgentId(scored.node),
            total: scored.total,
            parts: (scored.parts.iter())
                .map(|(part, points, weight)| {
                    (part.to_string(), u64::from(*points) * u64::from(*weight))
                })
                .collect(),
        };
        Self {
            considered: choice.considered as u32,
            feasible: choice.feasible as u32,
            scores: choice.table.iter().map(score).collect(),
        }
    }
}
