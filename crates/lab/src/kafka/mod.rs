//! The topics' side of a run: clients that speak Kafka's protocol, what they do and what they saw.
//!
//! Each client produces to every partition, some of them idempotently, and is a member of one of two groups.
//! Of `kept` nothing may ever go; of `brief` all but the newest records go. Every record has a number that no
//! other one has, and of one client's records a later one's is larger.

pub mod client;
pub mod member;
pub mod player;
pub mod producer;
pub mod protocol;

use node::ClientId;

/// The topic that keeps everything.
pub const KEPT: &str = "kept";
/// The topic that keeps little.
pub const BRIEF: &str = "brief";
/// So many records of each partition of [`BRIEF`] must stay.
pub const BRIEF_RECORDS: i64 = 30;
/// All partitions.
pub const PARTITIONS: [Partition; 5] = [
    Partition(KEPT, 0),
    Partition(KEPT, 1),
    Partition(KEPT, 2),
    Partition(BRIEF, 0),
    Partition(BRIEF, 1),
];
/// Consumer groups; "near" is slot 11764 and "far" slot 8126.
pub const GROUPS: [&str; 2] = ["near", "far"];

/// A topic's partition.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Partition(pub &'static str, pub i32);

impl Partition {
    /// The one of these names, if there is such.
    pub fn find(topic: &str, index: i32) -> Option<Self> {
        let is_it = |it: &&Self| it.0 == topic && it.1 == index;
        PARTITIONS.iter().find(is_it).copied()
    }
}

impl std::fmt::Display for Partition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.0, self.1)
    }
}

/// The number of a client's record: the client's above, its own count below.
pub fn record(client: usize, count: u32) -> u64 {
    (client as u64) << 32 | u64::from(count)
}

/// Records that stand, or shall stand, one behind the other, with numbers that do so too.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Run {
    /// The first one's number.
    pub first: u64,
    /// How many.
    pub count: u32,
}

/// What became of a batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// Nobody knows.
    Unknown,
    /// It was refused: it must not be there.
    Refused,
    /// It was acknowledged, at this time, as standing at this offset.
    Acknowledged(u64, i64),
}

/// A batch that was sent, perhaps several times.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sent {
    /// Whose.
    pub client: usize,
    /// On which connection; of an idempotent producer's, on which first.
    pub connection: ClientId,
    /// Whether it is an idempotent producer's, and may be sent again.
    pub is_idempotent: bool,
    /// Where to.
    pub partition: Partition,
    /// What.
    pub run: Run,
    /// When it was sent first.
    pub invoked_us: u64,
    /// What became of it.
    pub fate: Fate,
}

/// A fetch that found something.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Read {
    /// Through which node.
    pub node: usize,
    /// From where.
    pub partition: Partition,
    /// The offset that was asked for.
    pub asked: i64,
    /// Where the log began.
    pub start: i64,
    /// Where it ended.
    pub end: i64,
    /// Batches with their offsets.
    pub batches: Vec<(i64, Run)>,
}

/// What was asked about a log's bounds, and told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bound {
    /// Through which node.
    pub node: usize,
    /// Which log.
    pub partition: Partition,
    /// The end was asked for; else the beginning.
    pub is_end: bool,
    /// When it was asked.
    pub invoked_us: u64,
    /// When it was told.
    pub at_us: u64,
    /// The offset.
    pub offset: i64,
}

/// A member was told of a generation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Joined {
    /// The group.
    pub group: &'static str,
    /// The member's id.
    pub member: String,
    /// The generation.
    pub generation: i32,
    /// The member that leads it.
    pub leader: String,
    /// When it was asked.
    pub invoked_us: u64,
    /// When it was told.
    pub at_us: u64,
}

/// A member was given its share.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Share {
    /// The group.
    pub group: &'static str,
    /// The member's id.
    pub member: String,
    /// The generation.
    pub generation: i32,
    /// Who shared out, as the share itself says.
    pub by: String,
    /// For whom, as the share itself says.
    pub to: String,
    /// What.
    pub partitions: Vec<Partition>,
}

/// A position was committed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Commit {
    /// The group.
    pub group: &'static str,
    /// Of which partition.
    pub partition: Partition,
    /// In which generation.
    pub generation: i32,
    /// The position, and a word that no other commit has.
    pub value: String,
    /// When it was sent.
    pub invoked_us: u64,
    /// When it was answered, and whether it was taken.
    pub reply: Option<(u64, bool)>,
}

/// A committed position was read; nothing, if there was none.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Committed {
    /// The group.
    pub group: &'static str,
    /// Of which partition.
    pub partition: Partition,
    /// Position and word.
    pub value: String,
    /// When it was asked.
    pub invoked_us: u64,
    /// When it was told.
    pub at_us: u64,
}

/// What Kafka's clients did and saw.
#[derive(Clone, Debug, Default)]
pub struct KafkaHistory {
    /// In the order in which they were made.
    pub sent: Vec<Sent>,
    /// In the order in which they were answered.
    pub reads: Vec<Read>,
    /// Offsets that were said not to be there: node, partition, offset.
    pub out_of_range: Vec<(usize, Partition, i64)>,
    /// In the order in which they were told.
    pub bounds: Vec<Bound>,
    /// In the order in which they were told.
    pub joined: Vec<Joined>,
    /// In the order in which they were given.
    pub shares: Vec<Share>,
    /// In the order in which they were sent.
    pub commits: Vec<Commit>,
    /// In the order in which they were told.
    pub committed: Vec<Committed>,
    /// Where the partitions began and ended at last.
    pub last: Vec<(Partition, i64, i64)>,
    /// Requests sent, and those that were answered.
    pub requests: (usize, usize),
}
