//! What the cell remembers of agents, jobs, tasks and attempts.

use super::*;

/// An agent.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Agent {
    /// What it says of itself.
    pub spec: AgentSpec,
    /// Raised each time it registers.
    pub generation: u64,
    /// False once it is lost.
    pub is_up: bool,
    /// When that changed, Unix milliseconds.
    pub since_ms: i64,
    /// The revision at which what it has to run last changed.
    pub index: u64,
    /// Which of its registrations counts; see [`Command::Register`].
    pub attempt: u64,
}

/// A job.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Job {
    /// What is wanted.
    pub spec: JobSpec,
    /// True once it is wanted no more.
    pub is_stopped: bool,
    /// When it was first wanted, Unix milliseconds.
    pub created_ms: i64,
    /// The revision of its last change.
    pub index: u64,
    pub(crate) spec_hash: u64,
    pub(super) spec_bytes: u64,
    /// Instances that are wanted and have not ended for good; that have, by a fault; that are alive.
    pub(crate) open: u32,
    pub(crate) failed: u32,
    pub(crate) live: u32,
}

/// One of the wanted instances of a task.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Wanted {
    /// The attempt that is under way.
    pub current: Option<InstanceId>,
    /// How it ended for good.
    pub end: Option<End>,
    /// How often it was started again by its policy, and in a row.
    pub restarts: u32,
    pub(crate) streak: u32,
    /// Not to be placed before, Unix milliseconds.
    pub due_ms: i64,
    /// The last attempts that have ended, the oldest first.
    pub past: Vec<InstanceId>,
}

/// How far an instance is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// It has an agent.
    Placed,
    /// Its agent has started it.
    Runs,
    /// It is told to end.
    Stopping,
    /// It has ended.
    Ended(End),
}

/// An attempt to run a task.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Instance {
    /// Of which task.
    pub slot: Slot,
    /// Where.
    pub agent: AgentId,
    /// How far it is.
    pub phase: Phase,
    /// When it was placed, Unix milliseconds.
    pub placed_ms: i64,
    /// When its agent said that it runs, Unix milliseconds; 0: not yet.
    pub started_ms: i64,
    /// When it ended, Unix milliseconds; 0: not yet.
    pub ended_ms: i64,
    /// Those that have to end before it is given to its agent.
    pub waits_for: BTreeSet<InstanceId>,
    /// Why it is where it is.
    pub why: Why,
}

impl Instance {
    /// True while it may hold something of its agent.
    pub fn is_live(&self) -> bool {
        !matches!(self.phase, Phase::Ended(_))
    }
}

/// What a replica has seen done since it was made, by kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Tally {
    /// Tasks that got an agent.
    pub placements: u64,
    /// Tasks that were told to go for more important ones.
    pub evictions: u64,
    /// Tasks that were started again by their policies.
    pub restarts: u64,
    /// Attempts that were lost with their agents.
    pub losses: u64,
    /// Agents that were lost.
    pub agents_lost: u64,
    /// Commits of schedulers outside.
    pub commits: u64,
    /// Claims of these that were not carried out.
    pub conflicts: u64,
    /// Offers to frameworks.
    pub offers_made: u64,
    /// Of these, such that were accepted.
    pub offers_accepted: u64,
    /// Of these, such that were declined.
    pub offers_declined: u64,
    /// Of these, such that were not answered in time, or whose room was gone before.
    pub offers_withdrawn: u64,
}

impl Wanted {
    /// What comes after an attempt that ended so and ran for so long.
    pub(super) fn ended(&mut self, task: &Task, end: End, time_ms: i64, ran_ms: i64) {
        let restart = task.restart;
        let again = match (&end, restart.policy) {
            _ if end.is_no_fault() => {
                self.due_ms = time_ms;
                return;
            }
            (_, Policy::Always) => true,
            (End::Succeeded, _) => false,
            (_, policy) => policy == Policy::OnFailure,
        };
        if ran_ms > i64::from(restart.pause_ms_max) {
            self.streak = 0;
        }
        if !again || (restart.attempts_max > 0 && self.streak >= restart.attempts_max) {
            self.end = Some(end);
            return;
        }
        let pause_ms = u64::from(restart.pause_ms) << self.streak.min(30);
        let pause_ms = pause_ms.min(u64::from(restart.pause_ms_max));
        self.streak += 1;
        self.restarts += 1;
        self.due_ms = time_ms + pause_ms as i64;
    }
}

impl Job {
    pub(crate) fn new(spec: JobSpec, created_ms: i64) -> Self {
        let mut job = Self {
            spec_hash: 0,
            spec_bytes: 0,
            spec: spec.clone(),
            is_stopped: false,
            created_ms,
            index: 0,
            open: 0,
            failed: 0,
            live: 0,
        };
        job.set_spec(spec);
        job
    }

    /// Something else is wanted.
    pub(crate) fn set_spec(&mut self, spec: JobSpec) {
        let mut w = Writer::new();
        spec.encode_into(&mut w);
        if spec.placed_by != PlacedBy::Cell {
            spec.placed_by.encode_into(&mut w);
        }
        self.spec_hash = XxHash64::oneshot(5, w.as_slice());
        self.spec_bytes = w.len() as u64;
        self.spec = spec;
    }

    /// The task of one of its slots.
    pub fn task(&self, slot: Slot) -> Option<&Task> {
        self.spec.tasks.get(usize::from(slot.task))
    }

    /// True when nothing of it runs, or ever will.
    pub fn has_ended(&self) -> bool {
        let is_done = self.open == 0 && self.spec.placed_by.framework().is_none();
        self.live == 0 && (self.is_stopped || is_done)
    }

    /// `by` is 1, or −1 in 32 bits.
    pub(super) fn count(&mut self, wanted: &Wanted, by: u32) {
        let add = |to: &mut u32, holds: bool| {
            if holds {
                *to = to.wrapping_add(by);
            }
        };
        add(&mut self.open, wanted.end.is_none());
        add(&mut self.live, wanted.current.is_some());
        let is_fault = |end: &End| *end != End::Succeeded;
        add(&mut self.failed, wanted.end.as_ref().is_some_and(is_fault));
    }
}
