//! What may be read.

use crate::command::Why;
use crate::machine::{Agent, Instance, Job, Phase, Scheduling, Wanted};
use crate::model::{AgentId, InstanceId, JobSpec, Task};
use crate::reply::Refusal;
use crate::resources::Resources;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

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

impl Scheduling {
    /// Raised by every change.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Instances that want an agent.
    pub fn pending_count(&self) -> usize {
        self.pending.len()
    }

    /// Jobs, those that have ended among them.
    pub fn job_count(&self) -> usize {
        self.jobs.len()
    }

    /// Instances that have an agent and have not ended.
    pub fn live_count(&self) -> usize {
        self.live_on.values().map(BTreeSet::len).sum()
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
    pub fn agents(&self) -> impl Iterator<Item = &Agent> {
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
