//! What a request becomes: what it proposes, what it waits for, and how it is answered.

use base::ShardId;
use catalog::TREE_SHARD;
use messaging::RegistryCommand;
use std::collections::BTreeSet;
use wire_kafka::request::Fetch;
use wire_kafka::{Reply, Request};

/// Something to propose.
#[derive(Debug)]
pub enum Command {
    /// To a shard's topics.
    Topics(messaging::Command),
    /// To the registry.
    Registry(RegistryCommand),
}

/// How a request is answered, once it waits for nothing more.
#[derive(Debug)]
pub enum Work {
    /// By this; units under way fill in what is missing.
    Reply(Reply),
    /// Not at all, unless something is refused: then the connection is closed.
    Silent(Reply),
    /// By what is read then.
    Read(Request),
    /// By records, once there are enough or the time is over.
    Fetch {
        /// What is asked for.
        fetch: Fetch,
        /// True once the shards' states here are known to be as new as any was: an offset that is not there
        /// does not exist.
        is_sure: bool,
    },
    /// It is being answered.
    Taken,
}

/// A request on its way into a connection's queue.
#[derive(Debug)]
pub struct Draft {
    /// How it is answered.
    pub work: Work,
    /// What is proposed where, and which part of the answer that is: topic and partition, or place in a list.
    pub units: Vec<(ShardId, (usize, usize), Command)>,
    /// Shards whose states here must be as new as any is now.
    pub barriers: BTreeSet<ShardId>,
}

impl Draft {
    /// Without units and barriers.
    pub fn of(work: Work) -> Self {
        Self {
            work,
            units: Vec::new(),
            barriers: BTreeSet::new(),
        }
    }

    /// Answered by this, as far as no unit fills it in.
    pub fn reply(reply: Reply) -> Self {
        Self::of(Work::Reply(reply))
    }

    /// Answered by what these shards hold.
    pub fn read(request: Request, barriers: BTreeSet<ShardId>) -> Self {
        Self {
            barriers,
            ..Self::of(Work::Read(request))
        }
    }

    /// Proposes to a shard's topics.
    pub fn unit(&mut self, shard: ShardId, at: (usize, usize), command: messaging::Command) {
        self.units.push((shard, at, Command::Topics(command)));
    }

    /// Proposes to the registry.
    pub fn registry(&mut self, at: usize, command: RegistryCommand) {
        let command = Command::Registry(command);
        self.units.push((TREE_SHARD, (at, 0), command));
    }
}
