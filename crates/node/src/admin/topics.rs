//! What people are told of topics and consumer groups.

use serde::{Deserialize, Serialize};

/// The topics on this core, in figures.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct TopicsStatus {
    /// Topics in the cluster.
    pub topics: u64,
    /// Partitions of the shards that this core has a replica of.
    pub partitions: u64,
    /// Bytes of records in these.
    pub bytes: u64,
    /// Consumer groups of these shards.
    pub groups: u64,
    /// Members of these groups.
    pub members: u64,
    /// Client connections here.
    pub clients: u64,
    /// Requests received and not yet answered here, with fetches that wait for records.
    pub outstanding: u64,
    /// Partitions that are led here: topic, number, where the log begins, where it ends, bytes of records.
    /// At most 1,000.
    pub led: Vec<(String, u32, i64, i64, u64)>,
    /// Groups that are coordinated here, and the topics that they read: group, topic, how many records are
    /// behind what was committed. At most 1,000.
    pub lags: Vec<(String, String, u64)>,
}

/// Topics and groups, for browsing.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct TopicsPage {
    /// What their names begin with.
    pub prefix: String,
    /// Topics by name, as this node's replicas have them; at most 200.
    pub topics: Vec<TopicRow>,
    /// Topics there are of such names.
    pub topic_count: u64,
    /// Groups by name; at most 200.
    pub groups: Vec<GroupRow>,
    /// Groups there are of such names in the shards that are here.
    pub group_count: u64,
}

/// A topic.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct TopicRow {
    /// Its name.
    pub name: String,
    /// What is configured otherwise than by default, by Kafka's names.
    pub config: Vec<(String, String)>,
    /// Partitions there are.
    pub partition_count: u64,
    /// Those that this core has a replica of, by number; at most 100.
    pub partitions: Vec<PartitionRow>,
}

/// A partition.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct PartitionRow {
    /// Its number.
    pub index: u32,
    /// The name of the shard that it lies in, as `main/0`.
    pub shard: String,
    /// Node id of its leader in hexadecimal, empty when unknown.
    pub leader: String,
    /// The first offset that can be read.
    pub start: i64,
    /// The offset that comes next.
    pub end: i64,
    /// Bytes of records.
    pub bytes: u64,
    /// Idempotent producers remembered.
    pub producers: u64,
}

/// A consumer group.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct GroupRow {
    /// Its name.
    pub name: String,
    /// `Empty`, `PreparingRebalance`, `CompletingRebalance`, `Stable`.
    pub state: String,
    /// The generation that began last.
    pub generation: i32,
    /// How partitions are shared out; empty between generations.
    pub protocol: String,
    /// Node id of its coordinator in hexadecimal, empty when unknown.
    pub coordinator: String,
    /// Its members; at most 100.
    pub members: Vec<MemberRow>,
    /// Members there are.
    pub member_count: u64,
    /// What was committed; at most 200 partitions.
    pub positions: Vec<PositionRow>,
    /// How many records are behind what was committed, of all its partitions.
    pub lag: u64,
}

/// A member of a group.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct MemberRow {
    /// Its id.
    pub id: String,
    /// Its static name, or empty.
    pub instance: String,
    /// What its client calls itself.
    pub client: String,
    /// Where it is, as `/127.0.0.1`.
    pub host: String,
    /// True for the member that shares out.
    pub leads: bool,
}

/// How far a group has come in a partition.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct PositionRow {
    /// The topic's name.
    pub topic: String,
    /// The partition's number.
    pub index: u32,
    /// The next record to read.
    pub offset: i64,
    /// Where the log ends; `None` when its partition is not here.
    pub end: Option<i64>,
    /// How many records are behind; 0 when that is not known.
    pub lag: u64,
}
