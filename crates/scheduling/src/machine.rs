//! The cell: jobs, agents, and which instance of which task is where. One machine, fed by a log.
//!
//! Nothing is chosen here. A leader plans (see [`crate::plan`]) and proposes [`Command::Place`]; each placement is
//! checked again with the function that the planner used ([`objection`]), against what is there now, and those
//! that hold are carried out, the others not: incremental transactions (Schwarzkopf et al.: "Omega", EuroSys 2013,
//! section 3.4; all or nothing doubled the conflicts). No replica decides by its own clock: pauses are counted on the
//! leader's stamps, and that an agent is lost is proposed with the generation that was not heard.
//!
//! What is left of an agent is counted when something is *promised*, not when it starts. A task that evicts others
//! is promised their room at once, and given to the agent once they have ended; until then their room counts as theirs,
//! and only what it wants beyond that as its own. So neither promises nor what runs ever exceed what an agent has.

mod commits;
mod frameworks;
mod state;
mod tables;

pub use frameworks::{ENDED_MAX, FILTER_MS_MAX, FRAMEWORKS_MAX, OFFER_MS, OFFERS_MAX};
pub use state::{Agent, Instance, Job, Phase, Tally, Wanted};

use crate::command::{Command, Placement, Seen, Slot, Unit, Why};
use crate::model::{AgentId, AgentSpec, End, InstanceId, JobSpec, PlacedBy, Policy, Task};
use crate::offers::Offers;
use crate::placement::{self, NodeView, Running, objection};
use crate::reply::{Output, Refusal, Reply};
use base::planted::{Bug, planted};
use base::{ApplyFault, Digest, Image, Machine, Origin, SnapshotPoll, Stamp, State, Writer};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use twox_hash::XxHash64;

/// Agents.
pub const AGENTS_MAX: usize = 10_000;
/// Jobs, those that have ended among them.
pub const JOBS_MAX: usize = 10_000;
/// Instances that all jobs together want.
pub const SLOTS_MAX: usize = 200_000;
/// Instances that have ended and are remembered, of each that is wanted.
pub const PAST_MAX: usize = 3;
/// Claims of a commit.
pub const CLAIMS_MAX: usize = 1_000;

/// The cell.
#[derive(Clone, Debug, Default)]
pub struct Scheduling {
    pub(crate) agents: BTreeMap<AgentId, Agent>,
    pub(crate) jobs: BTreeMap<u64, Job>,
    pub(crate) slots: BTreeMap<Slot, Wanted>,
    pub(crate) instances: BTreeMap<InstanceId, Instance>,
    /// Raised by each change that somebody may wait for.
    pub(crate) revision: u64,
    pub(crate) last_job: u64,
    pub(crate) last_instance: u64,
    pub(crate) time_ms: i64,
    /// Frameworks, and what each is offered.
    pub(crate) offers: Offers,
    /// How often each framework was heard, by its job's number.
    pub(crate) renewals: BTreeMap<u64, u64>,

    // --- what follows from the above ---
    pub(crate) names: BTreeMap<String, u64>,
    /// Slots that want an agent, the most important first.
    pub(crate) pending: BTreeSet<(Reverse<u32>, Slot)>,
    /// The same of jobs that others place, by the scheduler's name.
    pub(crate) awaiting: BTreeMap<String, BTreeSet<(Reverse<u32>, Slot)>>,
    /// What is promised of each agent.
    pub(crate) views: BTreeMap<AgentId, NodeView>,
    pub(crate) live_on: BTreeMap<AgentId, BTreeSet<InstanceId>>,
    /// Who waits for the end of which.
    pub(crate) waiters: BTreeMap<InstanceId, InstanceId>,
    /// All agents, jobs, slots and instances.
    pub(crate) rows: Digest,

    // --- empty between units ---
    pub(crate) changed_jobs: BTreeSet<u64>,
    pub(crate) changed_agents: BTreeSet<AgentId>,

    /// What was done since this replica was made; no part of the state.
    pub(crate) tally: Tally,

    pub(crate) cut: Image,
    pub(crate) restoring: Vec<u8>,
}

impl Scheduling {
    /// An empty cell.
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes that a snapshot takes.
    pub fn bytes(&self) -> u64 {
        self.rows.bytes
    }

    /// The latest time that was seen, Unix milliseconds.
    pub fn time_ms(&self) -> i64 {
        self.time_ms
    }

    // --- applying ---

    /// Applies one decoded unit; [`Machine::apply`] without the decoding.
    pub fn apply_unit(&mut self, stamp: Stamp, unit: Unit, out: &mut Vec<Output>) {
        self.time_ms = self.time_ms.max(stamp.time_ms);
        let reply = match unit.command {
            Command::Run { job } => self.run(job, out),
            Command::Stop { name } => self.stop(&name),
            Command::Remove { name } => self.remove(&name, out),
            Command::Register {
                agent,
                has,
                attempt,
            } => self.register(agent, &has, attempt),
            Command::Lose {
                agent,
                generation,
                forget,
            } => self.lose(agent, generation, forget, out),
            Command::Report {
                agent,
                generation,
                seen,
            } => self.report(agent, generation, seen),
            Command::Place { placements } => {
                for placement in placements {
                    // What cannot be any more is planned again.
                    let _ = self.place(placement);
                }
                Ok(Reply::Done)
            }
            Command::Commit {
                scheduler,
                claims,
                commit,
                check,
            } => self.commit(&scheduler, &claims, commit, check),
            Command::Join {
                name,
                priority,
                framework,
            } => self.join(name, priority, framework, out),
            Command::Renew {
                name,
                generation,
                wants,
            } => self.renew(&name, generation, wants),
            Command::Quit {
                name,
                generation,
                renewals,
            } => self.quit(&name, generation, renewals),
            Command::Offer => self.offer(),
            Command::Answer {
                name,
                generation,
                offer,
                tasks,
                filter_ms,
            } => self.answer(&name, generation, offer, tasks, filter_ms),
        };
        self.tell(out);
        let origin = unit.origin;
        if origin != Origin::default() {
            out.push(Output::Reply { origin, reply });
        }
    }

    fn run(&mut self, spec: JobSpec, out: &mut Vec<Output>) -> Result<Reply, Refusal> {
        spec.check()?;
        if let Some(job) = self.job(&spec.name) {
            if !job.has_ended() {
                return Err(Refusal::Runs(spec.name));
            }
            self.remove(&spec.name.clone(), out)?;
        }
        let count: usize = spec.tasks.iter().map(|task| task.count as usize).sum();
        if self.jobs.len() >= JOBS_MAX || self.slots.len() + count > SLOTS_MAX {
            return Err(Refusal::TooMany);
        }
        self.last_job += 1;
        let number = self.last_job;
        let slots: Vec<Slot> = (spec.tasks.iter().enumerate())
            .flat_map(|(task, of)| {
                (0..of.count).map(move |index| Slot {
                    job: number,
                    task: task as u16,
                    index,
                })
            })
            .collect();
        self.put_job(number, Job::new(spec, self.time_ms));
        for slot in slots {
            self.put_slot(slot, Wanted::default());
        }
        self.changed_jobs.insert(number);
        Ok(Reply::Wanted { number })
    }

    fn stop(&mut self, name: &str) -> Result<Reply, Refusal> {
        let number = self.number(name)?;
        let Some(mut job) = self.take_job(number) else {
            return Ok(Reply::Done);
        };
        job.is_stopped = true;
        self.put_job(number, job);
        self.renewals.remove(&number);
        self.offers.leave(number);
        self.changed_jobs.insert(number);
        for slot in self.slots_of(number) {
            if let Some(wanted) = self.take_slot(slot) {
                let current = wanted.current;
                self.put_slot(slot, wanted);
                current.into_iter().for_each(|id| self.tell_to_end(id));
            }
        }
        Ok(Reply::Done)
    }

    fn remove(&mut self, name: &str, out: &mut Vec<Output>) -> Result<Reply, Refusal> {
        let number = self.number(name)?;
        if !self.jobs.get(&number).is_some_and(Job::has_ended) {
            return Err(Refusal::Runs(name.to_owned()));
        }
        for slot in self.slots_of(number) {
            let wanted = self.take_slot(slot).unwrap_or_default();
            for id in wanted.past {
                self.take_instance(id);
            }
        }
        self.take_job(number);
        self.revision += 1;
        out.push(Output::Job {
            name: name.to_owned(),
        });
        Ok(Reply::Done)
    }

    fn register(
        &mut self,
        spec: AgentSpec,
        has: &[InstanceId],
        attempt: u64,
    ) -> Result<Reply, Refusal> {
        spec.check()?;
        let id = spec.id;
        let last = self.agents.get(&id).map_or(0, |agent| agent.attempt);
        if attempt > 0 && attempt <= last {
            // It comes late: tasks that were started since would be taken for lost.
            return Err(Refusal::Outdated);
        }
        if self.agents.len() >= AGENTS_MAX && !self.agents.contains_key(&id) {
            return Err(Refusal::TooMany);
        }
        let generation = self.take_agent(id).map_or(0, |agent| agent.generation) + 1;
        self.put_agent(Agent {
            spec,
            generation,
            is_up: true,
            since_ms: self.time_ms,
            index: self.revision,
            attempt: attempt.max(last),
        });
        self.changed_agents.insert(id);
        for instance in self.live_of(id) {
            let started = (self.instances.get(&instance)).is_some_and(|i| i.phase != Phase::Placed);
            if started && !has.contains(&instance) {
                self.end(instance, End::Lost);
            }
        }
        Ok(Reply::Registered { generation })
    }

    fn lose(
        &mut self,
        id: AgentId,
        generation: u64,
        forget: bool,
        out: &mut Vec<Output>,
    ) -> Result<Reply, Refusal> {
        let is_it =
            |agent: &&Agent| agent.generation == generation || planted(Bug::LoseAgentThatCameBack);
        let agent = self.agents.get(&id).filter(is_it);
        let was_up = agent.ok_or(Refusal::Outdated)?.is_up;
        if !was_up && !forget {
            return Err(Refusal::Outdated);
        }
        if let Some(mut agent) = self.take_agent(id).filter(|_| was_up) {
            agent.is_up = false;
            agent.since_ms = self.time_ms;
            self.put_agent(agent);
            self.tally.agents_lost += 1;
        }
        for instance in self.live_of(id) {
            self.end(instance, End::Lost);
        }
        self.changed_agents.insert(id);
        if forget {
            self.take_agent(id);
            self.changed_agents.remove(&id);
            self.rescind(id);
            self.revision += 1;
            out.push(Output::Agent { id });
        }
        Ok(Reply::Done)
    }

    fn report(&mut self, id: AgentId, generation: u64, seen: Vec<Seen>) -> Result<Reply, Refusal> {
        let is_its = |agent: &Agent| agent.generation == generation && agent.is_up;
        let is_known = self.agents.get(&id).is_some_and(is_its);
        if !is_known && !planted(Bug::HearStaleReports) {
            return Err(Refusal::Outdated);
        }
        for Seen { instance, end } in seen {
            let its = self.instances.get(&instance);
            let Some(its) = its.filter(|its| its.agent == id && its.is_live()) else {
                continue;
            };
            match end {
                Some(_) if its.phase == Phase::Stopping => self.end(instance, End::Stopped),
                Some(end) => self.end(instance, end),
                None if its.started_ms == 0 => self.change(instance, |its, time_ms| {
                    its.started_ms = time_ms;
                    if its.phase == Phase::Placed {
                        its.phase = Phase::Runs;
                    }
                }),
                None => {}
            }
        }
        Ok(Reply::Done)
    }

    /// `None` when it cannot be any more.
    fn place(&mut self, placement: Placement) -> Option<InstanceId> {
        let (slot, agent) = (placement.slot, placement.agent);
        let job = self.jobs.get(&slot.job)?;
        let is_wanted = |wanted: &&Wanted| wanted.current.is_none() && wanted.end.is_none();
        self.slots.get(&slot).filter(is_wanted)?;
        let is_its = |it: &&Agent| it.is_up && it.generation == placement.generation;
        self.agents.get(&agent).filter(is_its)?;
        let ask = self.ask(slot)?;
        let mut view = self.views.get(&agent)?.clone();
        for victim in &placement.evict {
            view.remove(victim.0)
                .filter(|v| v.priority < ask.priority)?;
        }
        let refused = objection(&view, &ask).is_some() && !planted(Bug::PromiseTwice);
        if job.is_stopped || refused {
            return None;
        }
        self.last_instance += 1;
        let id = InstanceId(self.last_instance);
        self.tally.placements += 1;
        self.tally.evictions += placement.evict.len() as u64;
        for &victim in &placement.evict {
            self.waiters.insert(victim, id);
            self.tell_to_end(victim);
        }
        self.put_instance(
            id,
            Instance {
                slot,
                agent,
                phase: Phase::Placed,
                placed_ms: self.time_ms,
                started_ms: 0,
                ended_ms: 0,
                waits_for: placement.evict.into_iter().collect(),
                why: placement.why,
            },
        );
        let mut wanted = self.take_slot(slot)?;
        wanted.current = Some(id);
        self.put_slot(slot, wanted);
        self.changed_jobs.insert(slot.job);
        self.changed_agents.insert(agent);
        Some(id)
    }

    // --- parts ---

    /// What a slot asks of an agent.
    pub(crate) fn ask(&self, slot: Slot) -> Option<placement::TaskSpec> {
        let job = self.jobs.get(&slot.job)?;
        let task = job.task(slot)?;
        Some(placement::TaskSpec {
            job: slot.job,
            priority: job.spec.priority,
            resources: task.resources,
            constraints: task.constraints.clone(),
            packages: task.packages.clone(),
        })
    }

    pub(crate) fn job(&self, name: &str) -> Option<&Job> {
        self.jobs.get(self.names.get(name)?)
    }

    fn number(&self, name: &str) -> Result<u64, Refusal> {
        let number = self.names.get(name).copied();
        number.ok_or_else(|| Refusal::UnknownJob(name.chars().take(100).collect()))
    }

    pub(crate) fn slots_of(&self, job: u64) -> Vec<Slot> {
        let first = Slot {
            job,
            ..Slot::default()
        };
        let after = Slot {
            job: job + 1,
            ..Slot::default()
        };
        self.slots.range(first..after).map(|(s, _)| *s).collect()
    }

    fn live_of(&self, agent: AgentId) -> Vec<InstanceId> {
        let live = self.live_on.get(&agent).into_iter().flatten();
        live.copied().collect()
    }

    /// A live instance is wanted no more.
    fn tell_to_end(&mut self, id: InstanceId) {
        let Some(instance) = self.instances.get(&id) else {
            return;
        };
        if !instance.waits_for.is_empty() {
            // Its agent was never told of it.
            return self.end(id, End::Stopped);
        }
        self.change(id, |instance, _| instance.phase = Phase::Stopping);
    }

    fn change(&mut self, id: InstanceId, change: impl FnOnce(&mut Instance, i64)) {
        if let Some(mut instance) = self.take_instance(id) {
            change(&mut instance, self.time_ms);
            self.changed_jobs.insert(instance.slot.job);
            self.changed_agents.insert(instance.agent);
            self.put_instance(id, instance);
        }
    }

    /// A live instance has ended.
    fn end(&mut self, id: InstanceId, end: End) {
        let Some(mut instance) = self.take_instance(id) else {
            return;
        };
        let slot = instance.slot;
        instance.phase = Phase::Ended(end.clone());
        instance.ended_ms = self.time_ms;
        let freed = std::mem::take(&mut instance.waits_for);
        let ran_ms = match instance.started_ms {
            0 => 0,
            started_ms => self.time_ms - started_ms,
        };
        self.changed_jobs.insert(slot.job);
        self.changed_agents.insert(instance.agent);
        self.put_instance(id, instance);
        // Nobody has their room any more: it is theirs until they end.
        for victim in freed {
            self.waiters.remove(&victim);
            self.change(victim, |_, _| {});
        }
        if let Some(waiter) = self.waiters.remove(&id) {
            self.change(waiter, |waiter, _| {
                waiter.waits_for.remove(&id);
            });
        }
        let Some(mut wanted) = self.take_slot(slot) else {
            return;
        };
        if wanted.current == Some(id) {
            wanted.current = None;
        }
        wanted.past.push(id);
        while wanted.past.len() > PAST_MAX {
            let oldest = wanted.past.remove(0);
            self.take_instance(oldest);
        }
        if let Some(job) = self.jobs.get(&slot.job).filter(|job| !job.is_stopped)
            && let Some(task) = job.task(slot)
        {
            if end == End::Lost {
                self.tally.losses += 1;
            }
            if job.spec.placed_by.framework().is_some() {
                // What comes next is the framework's business.
                wanted.end = Some(end);
            } else {
                let before = wanted.restarts;
                wanted.ended(task, end, self.time_ms, ran_ms);
                self.tally.restarts += u64::from(wanted.restarts - before);
            }
        }
        self.put_slot(slot, wanted);
    }

    /// Says what has changed.
    fn tell(&mut self, out: &mut Vec<Output>) {
        if !self.renewals.is_empty() {
            for id in self.changed_agents.clone() {
                self.rescind(id);
            }
        }
        let jobs = std::mem::take(&mut self.changed_jobs);
        let agents = std::mem::take(&mut self.changed_agents);
        if jobs.is_empty() && agents.is_empty() {
            return;
        }
        self.revision += 1;
        for number in jobs {
            if let Some(mut job) = self.take_job(number) {
                job.index = self.revision;
                let name = job.spec.name.clone();
                self.put_job(number, job);
                out.push(Output::Job { name });
            }
        }
        for id in agents {
            if let Some(mut agent) = self.take_agent(id) {
                agent.index = self.revision;
                self.put_agent(agent);
                out.push(Output::Agent { id });
            }
        }
    }
}

#[cfg(test)]
mod tests;

impl Machine for Scheduling {
    type Output = Output;

    fn apply(
        &mut self,
        stamp: Stamp,
        unit: &[u8],
        out: &mut Vec<Output>,
    ) -> Result<(), ApplyFault> {
        let unit = Unit::decode(&Bytes::copy_from_slice(unit))
            .map_err(|e| ApplyFault::UnknownCommand(format!("scheduling: {e}")))?;
        self.apply_unit(stamp, unit, out);
        Ok(())
    }
}

impl State for Scheduling {
    fn digest(&self) -> u64 {
        let mut w = Writer::new();
        w.u64(self.revision).u64(self.last_job);
        w.u64(self.last_instance).i64(self.time_ms);
        let counters = XxHash64::oneshot(6, w.as_slice());
        (self.rows.hash)
            .wrapping_add(counters)
            .wrapping_add(self.offers_digest())
    }

    /// What a cell remembers is bounded, and small against its tasks: the image is taken at once.
    fn begin_snapshot(&mut self) {
        self.cut = Image::of(self.image());
    }

    fn poll_snapshot(&mut self, bytes_max: usize) -> SnapshotPoll {
        self.cut.poll(bytes_max)
    }

    fn abort_snapshot(&mut self) {
        self.cut = Image::default();
    }

    fn restore(&mut self, chunk: &[u8]) -> Result<(), String> {
        self.restoring.extend_from_slice(chunk);
        Ok(())
    }

    fn finish_restore(&mut self) -> Result<(), String> {
        let image = std::mem::take(&mut self.restoring);
        if image.is_empty() {
            // The snapshot is from before there were jobs.
            return Ok(());
        }
        *self = Self::from_image(&image)
            .map_err(|e| format!("restoring jobs and agents: {e}; take another snapshot"))?;
        Ok(())
    }
}
