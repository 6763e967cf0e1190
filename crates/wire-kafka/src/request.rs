//! What clients ask, free of versions. Names, ids and numbers are as they came: whether they mean
//! something is decided elsewhere.

use crate::error::Error;
use messaging::{Join, MemberName, NewBatch, Sync, TopicName};

/// A topic's name with something for some of its partitions.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ByTopic<T> {
    /// The name.
    pub topic: String,
    /// What is asked, or answered, of each partition.
    pub partitions: Vec<T>,
}

/// One request.
#[derive(Clone, PartialEq, Debug)]
pub enum Request {
    /// Which requests are spoken?
    ApiVersions,
    /// The same in a version that is not spoken here.
    UnknownApiVersions,
    /// Where are brokers and partitions?
    Metadata {
        /// Of these topics; `None`: of all.
        topics: Option<Vec<TopicName>>,
        /// Topics that do not exist may be made.
        may_create: bool,
    },
    /// Append.
    Produce {
        /// The transaction, if there is one.
        transactional_id: Option<String>,
        /// 0: no reply at all; 1, −1: once it is safe (here that is one and the same).
        acks: i16,
        /// How long the client waits, in milliseconds.
        timeout_ms: i32,
        /// What to append where.
        topics: Vec<ByTopic<ProducePartition>>,
    },
    /// Read.
    Fetch(Fetch),
    /// Look up offsets.
    ListOffsets(Vec<ByTopic<OffsetQuery>>),
    /// Who leads these groups?
    FindCoordinator {
        /// 0: groups; 1: transactions.
        kind: i8,
        /// Their names.
        keys: Vec<String>,
    },
    /// See [`messaging::Command::Join`]; the host is for the front end to fill in.
    JoinGroup(Join),
    /// See [`messaging::Command::Sync`].
    SyncGroup(Sync),
    /// A member is alive.
    Heartbeat {
        /// The group.
        group: String,
        /// Who.
        member: MemberName,
        /// In which generation.
        generation: i32,
    },
    /// Members leave.
    LeaveGroup {
        /// The group.
        group: String,
        /// Who.
        members: Vec<MemberName>,
    },
    /// Remember positions.
    OffsetCommit {
        /// The group.
        group: String,
        /// Who says so.
        member: MemberName,
        /// In which generation; negative for no member.
        generation: i32,
        /// Where.
        topics: Vec<ByTopic<CommitPartition>>,
    },
    /// Which positions are remembered?
    OffsetFetch(Vec<OffsetFetchGroup>),
    /// Make topics.
    CreateTopics {
        /// Which.
        topics: Vec<NewTopic>,
        /// How long the client waits, in milliseconds.
        timeout_ms: i32,
        /// Only say whether it could be.
        validate_only: bool,
    },
    /// Delete topics.
    DeleteTopics {
        /// Which.
        topics: Vec<TopicName>,
        /// How long the client waits, in milliseconds.
        timeout_ms: i32,
    },
    /// Delete records up to an offset (−1: all), by partition.
    DeleteRecords {
        /// Partitions with their offsets.
        topics: Vec<ByTopic<(i32, i64)>>,
        /// How long the client waits, in milliseconds.
        timeout_ms: i32,
    },
    /// A producer id.
    InitProducerId {
        /// The transaction, if there is one.
        transactional_id: Option<String>,
    },
    /// Where did these leader epochs end?
    OffsetForLeaderEpoch(Vec<ByTopic<EpochQuery>>),
    /// Describe groups.
    DescribeGroups(Vec<String>),
    /// List groups in these states, all if there is none named.
    ListGroups(Vec<String>),
    /// Forget groups.
    DeleteGroups(Vec<String>),
    /// How are topics or brokers configured?
    DescribeConfigs(Vec<ConfigQuery>),
    /// Configure topics or brokers.
    AlterConfigs {
        /// Which, and how.
        resources: Vec<ConfigChange>,
        /// Only say whether it could be.
        validate_only: bool,
    },
    /// Give topics more partitions.
    CreatePartitions {
        /// Names and how many they shall have.
        topics: Vec<MorePartitions>,
        /// How long the client waits, in milliseconds.
        timeout_ms: i32,
        /// Only say whether it could be.
        validate_only: bool,
    },
    /// Which brokers are there?
    DescribeCluster,
}

/// What to append to one partition.
#[derive(Clone, PartialEq, Debug)]
pub struct ProducePartition {
    /// Its number.
    pub index: i32,
    /// The batch, or why it is refused.
    pub batch: Result<NewBatch, Error>,
}

/// Read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fetch {
    /// How long to wait for `bytes_min`, in milliseconds.
    pub wait_ms_max: i32,
    /// Answer once there is so much.
    pub bytes_min: i32,
    /// In all; the first batch may exceed it.
    pub bytes_max: i32,
    /// A fetch session; answering with session 0 declines to have one.
    pub session: i32,
    /// Its epoch.
    pub session_epoch: i32,
    /// What to read.
    pub topics: Vec<ByTopic<FetchPartition>>,
    /// What the session shall no longer hold.
    pub forgotten: Vec<ByTopic<i32>>,
}

/// What to read of one partition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FetchPartition {
    /// Its number.
    pub index: i32,
    /// From here on.
    pub offset: i64,
    /// At most so much of this partition.
    pub bytes_max: i32,
    /// The leader epoch that the client believes in, −1 when it does not say.
    pub leader_epoch: i32,
}

/// Which offset is looked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OffsetAt {
    /// The log's start.
    Earliest,
    /// The log's end.
    Latest,
    /// The record with the newest time.
    Newest,
    /// The first record that is not older, Unix milliseconds.
    Time(i64),
    /// Something that these versions do not have.
    Unknown(i64),
}

/// An offset that is looked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OffsetQuery {
    /// The partition's number.
    pub index: i32,
    /// Which.
    pub at: OffsetAt,
}

/// A position to remember.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CommitPartition {
    /// The partition's number.
    pub index: i32,
    /// The next record to read.
    pub offset: i64,
    /// The leader epoch of the last record read, −1 when unknown.
    pub leader_epoch: i32,
    /// Whatever the client wants to remember with it.
    pub metadata: String,
}

/// Which positions of a group are asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OffsetFetchGroup {
    /// The group.
    pub group: String,
    /// `None`: all.
    pub topics: Option<Vec<ByTopic<i32>>>,
}

/// A topic to be made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewTopic {
    /// Its name.
    pub name: String,
    /// Its partitions; −1: as many as is usual.
    pub partition_count: i32,
    /// Its copies; −1: as many as is usual.
    pub replication_factor: i16,
    /// True when the client wants to say which brokers hold what.
    pub is_assigned: bool,
    /// What is configured otherwise than by default; without a value: the default.
    pub config: Vec<(String, Option<String>)>,
}

/// More partitions for a topic.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MorePartitions {
    /// Its name.
    pub topic: String,
    /// How many it shall have.
    pub partition_count: i32,
    /// True when the client wants to say which brokers hold what.
    pub is_assigned: bool,
}

/// Where a leader epoch ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EpochQuery {
    /// The partition's number.
    pub index: i32,
    /// The epoch.
    pub epoch: i32,
}

/// What can be configured.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ConfigResource {
    /// A topic, by name.
    Topic(String),
    /// A broker, by number in text.
    Broker(String),
    /// Something else, by Kafka's number of its kind.
    Other(i8, String),
}

/// Whose configuration is asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigQuery {
    /// Whose.
    pub resource: ConfigResource,
    /// `None`: all keys.
    pub keys: Option<Vec<String>>,
}

/// What to do with a key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ConfigOp {
    /// Give it this value.
    Set(String),
    /// Its default again.
    Delete,
    /// Something that only lists can have (append, subtract).
    Other,
}

/// Whose configuration shall be changed, and how.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigChange {
    /// Whose.
    pub resource: ConfigResource,
    /// Keys and what to do with them.
    pub changes: Vec<(String, ConfigOp)>,
}
