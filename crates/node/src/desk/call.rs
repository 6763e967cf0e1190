//! What may be asked, and what is answered.

use super::*;
use crate::groups::{GroupAnswer, GroupCall};

/// Something for a shard.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Call {
    /// Changes the services.
    ChangeServices(chapter::Command),
    /// Asks about the services.
    ReadServices {
        /// What.
        query: chapter::Query,
        /// Wait for a change.
        after: Option<After>,
    },
    /// Does several things to several chapters' data, all or none of them.
    Transact(Box<Transaction>),
    /// Changes files' names, or what is known of their chunks.
    ChangeFiles(file_chapter::Command),
    /// Asks about files.
    ReadFiles(FilesQuery),
    /// Changes global transactions.
    ChangeGlobals(global::Command),
    /// Asks about global transactions.
    ReadGlobals {
        /// What.
        query: GlobalsQuery,
        /// Wait for a change of the one that is asked about.
        after: Option<After>,
    },
    /// Changes jobs, or what is known of agents.
    ChangeJobs(scheduling::Command),
    /// Asks about jobs and agents.
    ReadJobs {
        /// What.
        query: JobsQuery,
        /// Wait for a change.
        after: Option<After>,
    },
    /// Something for a group of nodes; no shard's.
    Group(GroupCall),
    /// An agent is there.
    Beat {
        /// Which.
        agent: AgentId,
        /// In which generation.
        generation: u64,
    },
}

/// "Not before there is something new."
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct After {
    /// The index that the caller has seen.
    pub index: u64,
    /// How long to wait for a higher one, in microseconds.
    pub wait_us: u64,
}

/// The answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CallReply {
    /// Of `ChangeServices`: it was applied, or refused by what is there.
    ServicesChanged(Result<chapter::Reply, chapter::Refusal>),
    /// Of `ReadServices`.
    Services {
        /// To be named in [`After::index`].
        index: u64,
        /// What was asked for.
        answer: chapter::Answer,
    },
    /// Of `Transact`.
    Transacted {
        /// Its id.
        id: TxnId,
        /// How it ended.
        transacted: Transacted,
    },
    /// Of `Transact` that cannot be placed: nothing was done, and its id was not used.
    Misplaced {
        /// Which condition or operation, if it is one.
        place: Option<Place>,
        /// Why, and what to do.
        words: String,
    },
    /// Of `ChangeFiles`: it was applied, or refused by what is there.
    FilesChanged(Result<file_chapter::Reply, file_chapter::Refusal>),
    /// Of `ReadFiles`.
    Files(Box<FilesAnswer>),
    /// Of `ChangeGlobals`: it was applied, or refused by what is there.
    GlobalsChanged(Result<global::Reply, global::Refusal>),
    /// Of `ReadGlobals`.
    Globals {
        /// To be named in [`After::index`].
        index: u64,
        /// What was asked for.
        answer: Box<GlobalsAnswer>,
    },
    /// Of `ChangeJobs`: it was applied, or refused by what is there.
    JobsChanged(Result<scheduling::Reply, scheduling::Refusal>),
    /// Of `ReadJobs`.
    Jobs {
        /// To be named in [`After::index`].
        index: u64,
        /// What was asked for.
        answer: Box<JobsAnswer>,
    },
    /// Of `Group`.
    Group(Box<GroupAnswer>),
    /// Of `Beat`: the leader has heard it.
    Beaten {
        /// Whether there is such an agent in this generation. If not, it has to register again.
        is_known: bool,
    },
    /// Nothing was done: this core does not hold the shard. Another core of the node may.
    NotHere {
        /// In words, with what to do.
        message: String,
    },
    /// Nothing was done: it cannot be now.
    Refused {
        /// In words, with what to do.
        message: String,
    },
    /// Whether it was done is not known here.
    Unknown {
        /// In words, with what to do.
        message: String,
    },
}

/// What a read saw.
pub(super) struct Seen {
    pub(super) reply: CallReply,
    pub(super) index: u64,
    /// A change of any of these may be a change of what was seen.
    pub(super) watched: Vec<Watched>,
}

/// What those who wait for a change wait for.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Watched {
    /// Which services there are, with their tags.
    Names,
    /// Any service.
    Services,
    /// The service of this name.
    Service(String),
    /// The global transaction of this gid.
    Global(String),
    /// Any job or agent.
    Cell,
    /// The job of this name.
    Job(String),
    /// What this agent has to run.
    Agent(AgentId),
}

impl Call {
    /// The shard that it is for, and the unit of a call that writes.
    pub(super) fn place(
        &self,
        cx: &Context<'_>,
        origin: Origin,
    ) -> Result<(ShardId, Option<DataUnit>), CallReply> {
        Ok(match self {
            Self::ChangeServices(command) => {
                let unit = services::unit(origin, command.clone());
                (services::SHARD, Some(unit))
            }
            Self::ReadServices { .. } => (services::SHARD, None),
            Self::ChangeFiles(command) => {
                let unit = files::unit(origin, command.clone());
                (files::SHARD, Some(unit))
            }
            Self::ReadFiles(_) => (files::SHARD, None),
            Self::ChangeGlobals(command) => {
                let unit = globals::unit(origin, command.clone());
                (globals::SHARD, Some(unit))
            }
            Self::ReadGlobals { .. } => (globals::SHARD, None),
            Self::ChangeJobs(command) => {
                let unit = jobs::unit(origin, command.clone());
                (jobs::SHARD, Some(unit))
            }
            Self::ReadJobs { .. } | Self::Beat { .. } => (jobs::SHARD, None),
            Self::Transact(transaction) => {
                let (shard, unit) = transaction.unit(cx, origin)?;
                (shard, Some(unit))
            }
            // The core takes it before the desk does.
            Self::Group(_) => {
                let message = "groups are asked at the core that runs them".into();
                return Err(CallReply::NotHere { message });
            }
        })
    }

    /// True for a write that needs room.
    pub(super) fn adds(&self) -> bool {
        match self {
            Self::ChangeServices(command) => services::adds(command),
            Self::ChangeFiles(command) => command.adds(),
            Self::ChangeGlobals(command) => command.adds(),
            Self::ReadGlobals { .. } => false,
            Self::ChangeJobs(command) => command.adds(),
            Self::ReadServices { .. } | Self::ReadFiles(_) => false,
            Self::ReadJobs { .. } | Self::Beat { .. } | Self::Group(_) => false,
            Self::Transact(_) => true,
        }
    }

    /// What a call that reads sees in its shard.
    pub(super) fn look(&self, cx: &Context<'_>, data: &Data) -> Option<Seen> {
        match self {
            Self::ReadServices { query, .. } => Some(services::look(&data.services, query)),
            Self::ReadFiles(query) => Some(files::look(cx, &data.files, query)),
            Self::ReadGlobals { query, .. } => Some(globals::look(&data.globals, query)),
            Self::ReadJobs { query, .. } => Some(jobs::look(&data.scheduling, query)),
            Self::ChangeServices(_)
            | Self::ChangeFiles(_)
            | Self::ChangeJobs(_)
            | Self::Beat { .. }
            | Self::ChangeGlobals(_)
            | Self::Group(_)
            | Self::Transact(_) => None,
        }
    }

    pub(super) fn after(&self) -> Option<After> {
        match self {
            Self::ReadServices { after, .. }
            | Self::ReadJobs { after, .. }
            | Self::ReadGlobals { after, .. } => *after,
            Self::ChangeServices(_)
            | Self::ChangeFiles(_)
            | Self::ChangeGlobals(_)
            | Self::ReadFiles(_)
            | Self::ChangeJobs(_)
            | Self::Beat { .. }
            | Self::Group(_)
            | Self::Transact(_) => None,
        }
    }
}
