//! Calls about services.

use super::{CallReply, Seen, Watched};
use base::{Origin, ShardId};
use catalog::TREE_SHARD;
use coordination::services::{Command, Query, Services, Unit};
use shard::DataUnit;

/// The shard that holds them.
pub const SHARD: ShardId = TREE_SHARD;

/// The unit of a command.
pub fn unit(origin: Origin, command: Command) -> DataUnit {
    DataUnit::Services(Unit { origin, command })
}

/// True for a command that needs room.
pub fn adds(command: &Command) -> bool {
    matches!(
        command,
        Command::Register { .. } | Command::RegisterCheck { .. }
    )
}

/// What a query sees.
pub fn look(services: &Services, query: &Query) -> Seen {
    let (index, answer) = services.read(query);
    let watched = match query {
        Query::Names => Watched::Names,
        Query::AnyCase { .. } | Query::Instances | Query::Checks => Watched::Services,
        Query::Service { name } => Watched::Service(name.clone()),
    };
    Seen {
        reply: CallReply::Services { index, answer },
        index,
        watched: vec![watched],
    }
}
