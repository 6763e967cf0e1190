//! The jobs' side of a run: users who want jobs, machines that run their tasks, what they do and what they saw.
//!
//! A user has a scheduler and a framework, too, which place tasks on what they saw a while ago.
//!
//! Each client is both. Its machine has an agent that registers, beats, takes work and says how it ended; the agent
//! is killed while its tasks run on, the machine loses power with all of them, and the line to the cell breaks while
//! answers are under way. What *really* ran, and when, is in [`Ran`]: the checkers compare it with what was promised.

pub(crate) mod machine;
pub(crate) mod outside;
pub(crate) mod player;

use scheduling::command::Slot;
use scheduling::model::OnLost;
use scheduling::query::JobState;

/// What each machine has, in thousandths of a processor.
pub const ROOM_MILLI: u64 = 1_000;
/// What a lease is worth, milliseconds.
pub const LEASE_MS: u32 = 3_000;

/// What a task of a job does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Work {
    /// It runs until it is told to end.
    Serves,
    /// It runs for so many milliseconds; now and then it fails, and is started again.
    Ends(u64),
}

/// A job that somebody wanted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Wanted {
    /// Its name, which no other has.
    pub name: String,
    /// What its tasks do.
    pub work: Work,
    /// When the cell said that it is wanted.
    pub acknowledged_us: Option<u64>,
    /// When it was first asked to be stopped.
    pub stopped_us: Option<u64>,
    /// When it was first asked to be forgotten.
    pub removed_us: Option<u64>,
}

/// A process that ran on a machine.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ran {
    /// Which machine.
    pub machine: usize,
    /// The attempt's number.
    pub instance: u64,
    /// Of which job, and which of its tasks' instances.
    pub task: (String, u32),
    /// What it was given.
    pub cpu_milli: u64,
    /// What becomes of it while its machine is cut off.
    pub on_lost: OnLost,
    /// From when, until when; it may still run.
    pub from_us: u64,
    /// See `from_us`.
    pub until_us: Option<u64>,
}

/// A list of all jobs, as it was read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listed {
    /// When it was asked for, and answered.
    pub invoked_us: u64,
    /// See `invoked_us`.
    pub at_us: u64,
    /// Jobs with their state, and how many of their tasks run of how many that are wanted.
    pub jobs: Vec<(String, JobState, u32, u32)>,
}

/// A list of all agents, as it was read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Account {
    /// When it was answered.
    pub at_us: u64,
    /// What is promised of each machine.
    pub used_milli: Vec<(u64, u64)>,
}

/// A claim of a scheduler outside that was carried out, as it was told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Committed {
    /// When that was told.
    pub at_us: u64,
    /// Which task.
    pub slot: Slot,
    /// The attempt's number.
    pub instance: u64,
}

/// What these clients did and saw.
#[derive(Clone, Debug, Default)]
pub struct JobsHistory {
    /// In the order in which they were asked for.
    pub wanted: Vec<Wanted>,
    /// In the order in which they began.
    pub ran: Vec<Ran>,
    /// In the order in which they were answered.
    pub listed: Vec<Listed>,
    /// In the order in which they were answered.
    pub accounts: Vec<Account>,
    /// In the order in which they were told.
    pub committed: Vec<Committed>,
    /// Once nothing was broken any more, this machine lost power for good, then.
    pub fallen: Option<(usize, u64)>,
    /// What was listed at the very end.
    pub last: Vec<Listed>,
}
