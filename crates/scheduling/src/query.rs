//! What may be read.

use crate::command::{Slot, Why};
use crate::machine::{Agent, Instance, Job, Phase, Scheduling, Tally, Wanted};
use crate::model::{AgentId, InstanceId, JobSpec, PlacedBy, Task};
use crate::reply::Refusal;
use crate::resources::Resources;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// How a job is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum JobState {
    /// It is wanted, and not all of it has ended.
    Runs,
    /// It is wanted no more, and not all of it has ended.
    Stopping,
    /// It was stopped.
    Stopped,
    /// All of it has succeeded.
    Succeeded,
    /// All of it has ended, some of it by a fault.
    Failed,
}

impl JobState {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Runs,
        Self::Stopping,
        Self::Stopped,
        Self::Succeeded,
        Self::Failed,
    ];

    /// The word for it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Runs => "runs",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
        }
    }
}

/// A job in short.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct JobSummary {
    /// Its name.
    pub name: String,
    /// Its number.
    pub number: u64,
    /// How it is.
    pub state: JobState,
    /// Its priority.
    pub priority: u32,
    /// When it was first wanted, Unix milliseconds.
    pub created_ms: i64,
    /// Instances wanted; of these, running; without an agent; ended for good by success, and by a fault.
    pub wanted: u32,
    /// See `wanted`.
    pub running: u32,
    /// See `wanted`.
    pub pending: u32,
    /// See `wanted`.
    pub succeeded: u32,
    /// See `wanted`.
    pub failed: u32,
    /// How often tasks were started again by their policies.
    pub restarts: u64,
    /// Who places its tasks, in words.
    #[serde(default)]
    pub placed_by: String,
}

/// A job in full.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct JobView {
    /// In short.
    pub summary: JobSummary,
    /// What is wanted.
    pub spec: JobSpec,
    /// Each wanted instance.
    pub tasks: Vec<TaskView>,
}

/// One of the wanted instances of a task.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TaskView {
    /// The task's name.
    pub task: String,
    /// Which of its instances, from 0.
    pub index: u32,
    /// What is known of it.
    pub wanted: Wanted,
    /// The attempts that are remembered, the newest first.
    pub attempts: Vec<Attempt>,
    /// Why it has no agent, while it has none.
    pub waits: Option<String>,
}

/// An attempt.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Attempt {
    /// Its number, a fencing token.
    pub id: InstanceId,
    /// What is known of it.
    pub instance: Instance,
    /// Its agent's name and address; empty for one that is forgotten.
    pub agent: String,
    /// See `agent`.
    pub address: String,
}

/// An agent with what runs there.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AgentView {
    /// It.
    pub agent: Agent,
    /// What is promised of it.
    pub used: Resources,
    /// Instances on it that have not ended.
    pub running: usize,
}

/// What an agent is to do about an instance.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Work {
    /// Which.
    pub instance: InstanceId,
    /// False: it is to end.
    pub run: bool,
    /// Its job's name.
    pub job: String,
    /// Which of its task's instances, from 0.
    pub index: u32,
    /// What to run.
    pub task: Task,
}

/// What a scheduler outside works on: all agents, and the tasks that wait for it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CellView {
    /// All agents that are up.
    pub agents: Vec<CellAgent>,
    /// What waits for it, the more important first.
    pub pending: Vec<CellTask>,
}

/// An agent as schedulers and frameworks see it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CellAgent {
    /// It.
    pub id: AgentId,
    /// For people.
    pub name: String,
    /// Its failure domain.
    pub zone: String,
    /// What tasks may ask for.
    pub attributes: BTreeMap<String, String>,
    /// Packages that it has.
    pub packages: BTreeSet<String>,
    /// The revision at which what is promised of it last changed: a claim names it.
    pub version: u64,
    /// What it has.
    pub total: Resources,
    /// What is not promised.
    pub free: Resources,
}

/// A task that waits for a scheduler.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CellTask {
    /// Which; a claim names it.
    pub slot: Slot,
    /// Its job's name.
    pub job: String,
    /// Its name.
    pub task: String,
    /// Its job's priority.
    pub priority: u32,
    /// What it wants.
    pub resources: Resources,
    /// What must hold of its agent.
    pub constraints: Vec<String>,
    /// Packages that it needs.
    pub packages: BTreeSet<String>,
    /// Not to be placed before, Unix milliseconds.
    pub due_ms: i64,
}

/// What a framework is told.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FrameworkView {
    /// The offers that stand.
    pub offers: Vec<OfferView>,
    /// Its tasks, those that have ended and are remembered among them.
    pub tasks: Vec<FrameworkTask>,
}

/// An offer.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct OfferView {
    /// Its number; an answer names it.
    pub id: u64,
    /// Of which agent.
    pub agent: CellAgent,
    /// So much of it.
    pub resources: Resources,
    /// From then on it is withdrawn, Unix milliseconds.
    pub until_ms: u64,
}

/// A task of a framework.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FrameworkTask {
    /// Its name.
    pub task: String,
    /// Which of that name, from 0.
    pub index: u32,
    /// Its attempt; a framework's task has one.
    pub instance: InstanceId,
    /// Where.
    pub agent: AgentId,
    /// How far it is: `lost` when its agent is.
    pub phase: Phase,
}

/// A framework in short.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FrameworkSummary {
    /// Its name, and its job's.
    pub name: String,
    /// Of twice the weight, twice the share is fair.
    pub weight: u32,
    /// What its tasks hold.
    pub used: Resources,
    /// Its tasks that have not ended.
    pub running: u32,
    /// The greatest part of any resource that its tasks hold of all agents', thousandths.
    pub share_per_mille: u64,
    /// Of which resource that is.
    pub dominant: String,
    /// Offers that it has not answered.
    pub offers: usize,
    /// Not heard for this long it is gone, milliseconds.
    pub lease_ms: u32,
}

/// What a leader needs to know of a framework's lease.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FrameworkLease<'a> {
    /// Its job's number.
    pub number: u64,
    /// Its name.
    pub name: &'a str,
    /// Its generation.
    pub generation: u64,
    /// Not heard for this long it is gone, milliseconds.
    pub lease_ms: u32,
    /// How often it was heard.
    pub renewals: u64,
}

impl Scheduling {
    /// Raised by every change.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Instances that want an agent.
    pub fn pending_count(&self) -> usize {
        self.pending.len() + self.awaiting.values().map(BTreeSet::len).sum::<usize>()
    }

    /// What this replica has seen done.
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// Jobs, those that have ended among them.
    pub fn job_count(&self) -> usize {
        self.jobs.len()
    }

    /// Instances that have an agent and have not ended.
    pub fn live_count(&self) -> usize {
        self.live_on.values().map(BTreeSet::len).sum()
    }

    /// Instances that have not ended: placed, running, stopping.
    pub fn by_state(&self) -> [u64; 3] {
        let mut counts = [0; 3];
        let live = self.live_on.values().flatten();
        for instance in live.filter_map(|id| self.instances.get(id)) {
            match instance.phase {
                Phase::Placed => counts[0] += 1,
                Phase::Runs => counts[1] += 1,
                Phase::Stopping => counts[2] += 1,
                Phase::Ended(_) => {}
            }
        }
        counts
    }

    /// The newest jobs in short.
    pub fn newest(&self, count_max: usize) -> Vec<JobSummary> {
        let newest = self.jobs.iter().rev().take(count_max);
        newest
            .map(|(number, job)| self.summary(*number, job))
            .collect()
    }

    /// The newest attempts, each with the names of its job and task.
    pub fn newest_attempts(&self, count_max: usize) -> Vec<(String, String, Attempt)> {
        let newest = self.instances.iter().rev().take(count_max);
        let named = newest.filter_map(|(id, instance)| {
            let job = self.jobs.get(&instance.slot.job)?;
            let task = format!("{} {}", job.task(instance.slot)?.name, instance.slot.index);
            Some((job.spec.name.clone(), task, self.attempt(*id)?))
        });
        named.collect()
    }

    /// All agents.
    pub fn agents(&self) -> impl Iterator<Item = &Agent> + Clone {
        self.agents.values()
    }

    /// The agent, unless it is forgotten.
    pub fn agent(&self, id: AgentId) -> Option<&Agent> {
        self.agents.get(&id)
    }

    /// The instance, unless it is forgotten.
    pub fn instance(&self, id: InstanceId) -> Option<&Instance> {
        self.instances.get(&id)
    }

    /// All jobs in short, by name.
    pub fn summaries(&self) -> Vec<JobSummary> {
        let numbers = self.names.values();
        let jobs = numbers.filter_map(|number| Some((*number, self.jobs.get(number)?)));
        jobs.map(|(number, job)| self.summary(number, job))
            .collect()
    }

    fn summary(&self, number: u64, job: &Job) -> JobSummary {
        let mut summary = JobSummary {
            name: job.spec.name.clone(),
            number,
            state: job.state(),
            priority: job.spec.priority,
            created_ms: job.created_ms,
            wanted: 0,
            running: 0,
            pending: 0,
            succeeded: 0,
            failed: job.failed,
            restarts: 0,
            placed_by: job.spec.placed_by.to_string(),
        };
        for slot in self.slots_of(number) {
            let Some(wanted) = self.slots.get(&slot) else {
                continue;
            };
            summary.wanted += 1;
            summary.restarts += u64::from(wanted.restarts);
            let instance = wanted.current.and_then(|id| self.instances.get(&id));
            let runs = instance.is_some_and(|instance| instance.phase == Phase::Runs);
            summary.running += u32::from(runs);
            let is_open = wanted.end.is_none();
            let waits = is_open && wanted.current.is_none() && !job.is_stopped;
            summary.pending += u32::from(waits);
        }
        summary.succeeded = summary.wanted - job.open - job.failed;
        summary
    }

    /// A job in full, and the revision of its last change.
    ///
    /// # Errors
    /// When there is none of this name.
    pub fn view(&self, name: &str) -> Result<(u64, JobView), Refusal> {
        let unknown = || Refusal::UnknownJob(name.chars().take(100).collect());
        let number = *self.names.get(name).ok_or_else(unknown)?;
        let job = self.jobs.get(&number).ok_or_else(unknown)?;
        let slots = self.slots_of(number);
        // Tasks of one kind wait for the same.
        let mut reasons: Vec<Option<String>> = vec![None; job.spec.tasks.len()];
        let tasks = slots.into_iter().filter_map(|slot| {
            let wanted = self.slots.get(&slot)?.clone();
            let attempts = wanted.past.iter().copied().chain(wanted.current);
            let mut attempts: Vec<Attempt> = attempts.filter_map(|id| self.attempt(id)).collect();
            attempts.reverse();
            let waits = wanted.current.is_none() && wanted.end.is_none() && !job.is_stopped;
            let waits = waits.then(|| match wanted.due_ms > self.time_ms {
                true => "it is started again after a pause".to_owned(),
                false if job.spec.placed_by != PlacedBy::Cell => {
                    format!(
                        "for {}: GET /v1/cell, POST /v1/cell/commit",
                        job.spec.placed_by
                    )
                }
                false => {
                    let reason = &mut reasons[usize::from(slot.task)];
                    let why_not = || self.why_not(slot).map(|why| why.to_string());
                    reason
                        .get_or_insert_with(|| why_not().unwrap_or("it is its turn next".into()))
                        .clone()
                }
            });
            Some(TaskView {
                task: job.task(slot)?.name.clone(),
                index: slot.index,
                wanted,
                attempts,
                waits,
            })
        });
        let view = JobView {
            tasks: tasks.collect(),
            summary: self.summary(number, job),
            spec: job.spec.clone(),
        };
        Ok((job.index, view))
    }

    /// What a scheduler of this name works on.
    pub fn cell_view(&self, scheduler: &str) -> CellView {
        let up = self.agents.values().filter(|agent| agent.is_up);
        let waits = self.awaiting.get(scheduler).into_iter().flatten();
        let task = |slot: &Slot| {
            let job = self.jobs.get(&slot.job)?;
            let task = job.task(*slot)?;
            Some(CellTask {
                slot: *slot,
                job: job.spec.name.clone(),
                task: task.name.clone(),
                priority: job.spec.priority,
                resources: task.resources,
                constraints: task.constraints.iter().map(|c| c.to_string()).collect(),
                packages: task.packages.clone(),
                due_ms: self.slots.get(slot)?.due_ms,
            })
        };
        CellView {
            agents: up.map(|agent| self.cell_agent(agent)).collect(),
            pending: waits.filter_map(|(_, slot)| task(slot)).collect(),
        }
    }

    fn cell_agent(&self, agent: &Agent) -> CellAgent {
        let spec = &agent.spec;
        let view = self.views.get(&spec.id);
        CellAgent {
            id: spec.id,
            name: spec.name.clone(),
            zone: spec.zone.clone(),
            attributes: spec.attributes.clone(),
            packages: spec.packages.clone(),
            version: agent.index,
            total: spec.resources,
            free: view.map_or(Resources::NONE, |view| view.free()),
        }
    }

    /// What a framework is told, and the revision of the last change.
    ///
    /// # Errors
    /// [`Refusal::Outdated`] when it is not there in this generation: it has to register again.
    pub fn framework_view(
        &self,
        name: &str,
        generation: u64,
    ) -> Result<(u64, FrameworkView), Refusal> {
        let number = self.names.get(name).ok_or(Refusal::Outdated)?;
        let job = self.jobs.get(number).ok_or(Refusal::Outdated)?;
        let framework = job.spec.placed_by.framework().ok_or(Refusal::Outdated)?;
        if framework.generation != generation || job.is_stopped {
            return Err(Refusal::Outdated);
        }
        let offers = self.offers.all().filter(|offer| offer.framework == *number);
        let offers = offers.filter_map(|offer| {
            let agent = self.agents.get(&AgentId(offer.node))?;
            Some(OfferView {
                id: offer.id,
                agent: self.cell_agent(agent),
                resources: offer.resources,
                until_ms: offer.until_ms,
            })
        });
        let tasks = self.slots_of(*number).into_iter().filter_map(|slot| {
            let wanted = self.slots.get(&slot)?;
            let id = wanted.current.or_else(|| wanted.past.last().copied())?;
            let instance = self.instances.get(&id)?;
            Some(FrameworkTask {
                task: job.task(slot)?.name.clone(),
                index: slot.index,
                instance: id,
                agent: instance.agent,
                phase: instance.phase.clone(),
            })
        });
        let view = FrameworkView {
            offers: offers.collect(),
            tasks: tasks.collect(),
        };
        Ok((job.index, view))
    }

    /// All frameworks in short, by name.
    pub fn framework_summaries(&self) -> Vec<FrameworkSummary> {
        let total = self.total();
        let frameworks = self.names.values().filter_map(|number| {
            let job = self.jobs.get(number).filter(|job| !job.is_stopped)?;
            let framework = job.spec.placed_by.framework()?;
            let offers = self.offers.all().filter(|offer| offer.framework == *number);
            let offers: Vec<_> = offers.collect();
            let on_offer = offers.iter().fold(Resources::NONE, |sum, offer| {
                sum.saturating_add(offer.resources)
            });
            let used = self.offers.held_by(*number).saturating_sub(on_offer);
            let (kind, share) = used.dominant(total);
            Some(FrameworkSummary {
                name: job.spec.name.clone(),
                weight: framework.weight,
                used,
                running: job.live,
                share_per_mille: share.per_mille(),
                dominant: kind.to_string(),
                offers: offers.len(),
                lease_ms: framework.lease_ms,
            })
        });
        frameworks.collect()
    }

    /// Frameworks with what a leader needs for their leases.
    pub fn frameworks(&self) -> impl Iterator<Item = FrameworkLease<'_>> + Clone {
        self.renewals.iter().filter_map(|(number, renewals)| {
            let job = self.jobs.get(number)?;
            let its = job.spec.placed_by.framework()?;
            Some(FrameworkLease {
                number: *number,
                name: &job.spec.name,
                generation: its.generation,
                lease_ms: its.lease_ms,
                renewals: *renewals,
            })
        })
    }

    fn attempt(&self, id: InstanceId) -> Option<Attempt> {
        let instance = self.instances.get(&id)?.clone();
        let agent = self.agents.get(&instance.agent).map(|agent| &agent.spec);
        Some(Attempt {
            id,
            agent: agent.map_or(String::new(), |spec| spec.name.clone()),
            address: agent.map_or(String::new(), |spec| spec.address.clone()),
            instance,
        })
    }

    /// All agents with what runs there.
    pub fn agent_views(&self) -> Vec<AgentView> {
        let view = |agent: &Agent| AgentView {
            agent: agent.clone(),
            used: (self.views.get(&agent.spec.id)).map_or(Resources::NONE, |view| view.used),
            running: self
                .live_on
                .get(&agent.spec.id)
                .map_or(0, |live| live.len()),
        };
        self.agents.values().map(view).collect()
    }

    /// What an agent is to do, and the revision of its last change.
    ///
    /// # Errors
    /// [`Refusal::Outdated`] when it is not known in this generation, or is lost: it has to register again.
    pub fn work(&self, id: AgentId, generation: u64) -> Result<(u64, Vec<Work>), Refusal> {
        let is_it = |agent: &&Agent| agent.generation == generation && agent.is_up;
        let agent = self
            .agents
            .get(&id)
            .filter(is_it)
            .ok_or(Refusal::Outdated)?;
        let live = self.live_on.get(&id).into_iter().flatten();
        let work = live.filter_map(|instance| {
            let its = self.instances.get(instance)?;
            let job = self.jobs.get(&its.slot.job)?;
            its.waits_for.is_empty().then(|| Work {
                instance: *instance,
                run: its.phase != Phase::Stopping,
                job: job.spec.name.clone(),
                index: its.slot.index,
                task: job.task(its.slot).cloned().expect("a slot is of a task"),
            })
        });
        Ok((agent.index, work.collect()))
    }

    /// Why an instance is where it is.
    pub fn why(&self, id: InstanceId) -> Option<&Why> {
        self.instances.get(&id).map(|instance| &instance.why)
    }
}

impl Job {
    /// How it is.
    pub fn state(&self) -> JobState {
        match (self.has_ended(), self.is_stopped) {
            (false, false) => JobState::Runs,
            (false, true) => JobState::Stopping,
            (true, true) => JobState::Stopped,
            (true, false) if self.failed > 0 => JobState::Failed,
            (true, false) => JobState::Succeeded,
        }
    }
}
