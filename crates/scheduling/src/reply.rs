//! What is answered, and what applying tells the outside.

use crate::command::Slot;
use crate::model::{AgentId, InstanceId};
use crate::offers::Refused;
use base::Origin;
use std::fmt;

/// What was done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reply {
    /// It is so now.
    Done,
    /// A job is wanted; its number, which no other job ever has.
    Wanted {
        /// It.
        number: u64,
    },
    /// An agent or a framework is known; its generation, which it names from now on.
    Registered {
        /// It.
        generation: u64,
    },
    /// What became of a commit.
    Committed {
        /// What was carried out, with the numbers of the attempts.
        placed: Vec<(Slot, InstanceId)>,
        /// What was not, and why.
        conflicts: Vec<(Slot, String)>,
    },
    /// What a framework runs on an offer that it accepted.
    Launched(Vec<(Slot, InstanceId)>),
}

/// Why nothing was done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// A field does not keep its limits.
    Invalid(String),
    /// There is no job of this name.
    UnknownJob(String),
    /// A job of this name has not ended.
    Runs(String),
    /// There is no such task in the job.
    UnknownTask(String),
    /// There is no room for more.
    TooMany,
    /// An offer cannot be answered so.
    Offer(Refused),
    /// What the command leans on is not so any more: another generation of the agent, or none.
    Outdated,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(why) => f.write_str(why),
            Self::UnknownJob(name) => write!(
                f,
                "there is no job {name:?}; `althing job list` shows those there are"
            ),
            Self::Runs(name) => write!(
                f,
                "a job {name:?} is there and has not ended: stop it first (`althing job stop {name}`), or take another name"
            ),
            Self::UnknownTask(task) => write!(f, "the job has no task {task:?}"),
            Self::TooMany => f.write_str(
                "there is no room for more jobs or agents: remove jobs that have ended (`althing job stop --remove NAME`)",
            ),
            Self::Offer(refused) => refused.fmt(f),
            Self::Outdated => f.write_str("what this leaned on is not so any more"),
        }
    }
}

/// What applying tells the outside.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Output {
    /// The answer to a command.
    Reply {
        /// Who waits for it.
        origin: Origin,
        /// The answer.
        reply: Result<Reply, Refusal>,
    },
    /// A job came, went, or changed, or its tasks did.
    Job {
        /// Its name.
        name: String,
    },
    /// What an agent has to run changed.
    Agent {
        /// It.
        id: AgentId,
    },
}
