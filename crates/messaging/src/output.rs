//! What applying tells the outside, in order.

use crate::command::PartitionId;
use crate::reply::{ErrorCode, RegistryReply, Reply};
use base::Origin;

/// What a shard's topics tell.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Output {
    /// The answer to a unit; that of a `Join` or `Sync` may come behind a later unit.
    Reply {
        /// Who waits.
        origin: Origin,
        /// The answer.
        reply: Result<Reply, ErrorCode>,
    },
    /// A partition has more records: somebody may wait for them.
    Appended {
        /// Which.
        partition: PartitionId,
        /// The offset that comes next.
        log_end: i64,
    },
    /// A group's members, generation or phase changed: for [`crate::GroupTimers::group_changed`].
    GroupChanged {
        /// Which.
        group: String,
    },
}

/// What the registry tells.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RegistryOutput {
    /// The answer to a unit.
    Reply {
        /// Who waits.
        origin: Origin,
        /// The answer.
        reply: Result<RegistryReply, ErrorCode>,
    },
    /// Topics were made, changed or deleted: shards' leaders [`crate::Topics::reconcile`].
    Changed,
}
