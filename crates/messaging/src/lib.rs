//! Messaging: topics with partitions, and groups that read them. Two machines, both a pure function of
//! their logs: the [`registry`] says which topics there are, and each data shard's [`Topics`] holds
//! partitions' records, consumer groups and what they committed.
//!
//! For a front end: (1) it proposes a [`registry::RegistryUnit`] to the tree's shard to make, change or
//! delete topics and for producer ids; on [`RegistryOutput::Changed`], when it begins to lead, and every
//! now and then, a data shard's leader proposes what [`Topics::reconcile`] tells, which makes, configures
//! and drops partitions; an `Append` that comes before that is answered `UnknownPartition`, and is worth
//! trying again while the registry has the topic. (2) A write is a [`Unit`] for the shard that owns the
//! partition or the group, and its answer an [`Output::Reply`] that names the [`base::Origin`]; that of a
//! `Join` or `Sync` comes when the rebalance is over, maybe units later. (3) Reads ([`Topics::read`],
//! [`Topics::batch_at_time`], [`Topics::group`], [`groups::Group::heartbeat`]) are answered by the shard's
//! leader from its state; a fetch that waits is woken by [`Output::Appended`]. (4) The shard's leader keeps
//! a [`GroupTimers`]: `reset` when it begins to lead, `group_changed` for each [`Output::GroupChanged`],
//! `touch` for every join, sync, heartbeat and commit of a member; it proposes what `poll_expired` gives
//! and, about once a second, what [`Topics::due`] gives, with the default origin.
//!
//! The crate knows no wire format, no socket and no clock; a batch of records is opaque to it. Reading
//! order: [`command`] (what may be asked), [`output`] and [`reply`] (what is told), `log`, `producers` and
//! `partition` (records), [`groups`], [`machine`], then [`registry`].

pub mod command;
pub mod groups;
mod log;
pub mod machine;
pub mod output;
mod partition;
mod producers;
pub mod registry;
pub mod reply;
mod restore;
mod snapshot;

pub use command::{
    Command, GroupProtocol, Join, LogConfig, MemberName, NewBatch, OffsetCommit, PartitionId,
    ProducerMark, Sync, TopicId, Unit,
};
pub use groups::{Committed, Group, GroupTimers, Member, Phase, Waiting};
pub use log::Batch;
pub use machine::{Counts, Topics};
pub use output::{Output, RegistryOutput};
pub use partition::{Fetched, PartitionView};
pub use registry::{Registry, RegistryCommand, RegistryUnit, Topic, TopicName};
pub use reply::{ErrorCode, Joined, JoinedMember, RegistryReply, Reply, Synced};
