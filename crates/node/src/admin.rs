//! What people may ask of a node, and what they are told: the value behind console, REST and command line.

mod topics;

use scheduling::machine::Tally;
use scheduling::query::{AgentView, Attempt, FrameworkSummary, JobSummary};
use serde::{Deserialize, Serialize};
pub use topics::{
    GroupRow, MemberRow, PartitionRow, PositionRow, TopicRow, TopicsPage, TopicsStatus,
};

/// A question or an order.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case")]
pub enum AdminCommand {
    /// Everything in [`Status`].
    Status,
    /// Make this fresh node join the cluster of `seed` (`host:port` between nodes; several with commas between them).
    Join {
        /// An inter-node address of any member.
        seed: String,
    },
    /// Remove a member, by node id in hexadecimal or by address. Its replicas are replaced or removed first.
    Leave {
        /// Which.
        node: String,
    },
    /// Let this cluster take the place of the one that it follows.
    Promote {
        /// Although that one was heard a moment ago, or nothing of a shard has come.
        force: bool,
    },
    /// Hand the leadership of a shard to a member.
    TransferLeader {
        /// The shard's name, as `meta`, `tree` or `main/0`.
        shard: String,
        /// Node id in hexadecimal, or address.
        to: String,
    },
    /// Take a snapshot of a shard on this node now.
    Snapshot {
        /// The shard's name, as `meta`, `tree` or `main/0`.
        shard: String,
    },
    /// Read a node of the tree as an unauthenticated client at `address` would.
    TreeRead {
        /// Absolute path.
        path: String,
        /// The asking person's IP address in text.
        address: String,
    },
    /// Look at keys of the cache, as this node's replica of one shard has them.
    CacheKeys {
        /// The shard's name, as `main/0`; empty: the pool's first.
        shard: String,
        /// Number of the database.
        database: u32,
        /// What their names begin with.
        prefix: String,
        /// Where to go on: 0, or [`KeysPage::next`].
        cursor: u64,
    },
    /// Look at topics and consumer groups, as this node's replicas have them.
    Topics {
        /// What their names begin with.
        prefix: String,
    },
    /// The switches of the gateways, as this node knows them.
    Switches,
    /// Set a switch on all nodes.
    SetSwitch {
        /// A route's name.
        name: String,
        /// `on`, `off`, a level's name, or `auto`, which removes it.
        value: String,
    },
}

/// The answer.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "kebab-case")]
pub enum AdminReply {
    /// Of `Status`.
    Status(Box<Status>),
    /// Of the orders: what was done or begun.
    Done {
        /// In words.
        message: String,
    },
    /// It was refused or failed.
    Refused {
        /// What was wrong and what to do.
        message: String,
    },
    /// Of `TreeRead`.
    Tree(TreePage),
    /// Of `CacheKeys`.
    Keys(KeysPage),
    /// Of `Topics`.
    Topics(TopicsPage),
    /// Of `Switches`.
    Switches {
        /// Values by name; what is not there is `auto`.
        switches: std::collections::BTreeMap<String, String>,
    },
}

// `Status` holds floats; equality is wanted for tests only, and they are never NaN.
impl Eq for AdminReply {}

/// One node of the tree, for browsing.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct TreePage {
    /// Absolute path.
    pub path: String,
    /// Data as text when they are UTF-8, else in hexadecimal; at most the first 64 KiB.
    pub data: String,
    /// True when `data` is hexadecimal.
    pub data_is_hex: bool,
    /// Bytes of data.
    pub data_bytes: u64,
    /// (name, value) of every metadata field.
    pub stat: Vec<(String, String)>,
    /// The access control list, a line each.
    pub acl: Vec<String>,
    /// Names of children, sorted; at most 1,000.
    pub children: Vec<String>,
    /// Children there are.
    pub children_count: u64,
}

/// Some keys of one shard of the cache, for browsing.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct KeysPage {
    /// The shard's name.
    pub shard: String,
    /// Number of the database.
    pub database: u32,
    /// What their names begin with.
    pub prefix: String,
    /// The keys, in no order.
    pub keys: Vec<KeyRow>,
    /// Where to go on; 0 when all were seen.
    pub next: u64,
}

/// A key of the cache.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct KeyRow {
    /// Its name; what is not UTF-8 is shown as `\xNN`.
    pub key: String,
    /// `string`, `list`, `hash`, `set`, `zset`.
    pub kind: String,
    /// Milliseconds that it has left; `None`: it stays.
    pub ttl_ms: Option<u64>,
    /// Bytes of a string, elements of anything else.
    pub size: u64,
    /// How its value begins.
    pub value: String,
}

/// A core's state in one value.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Status {
    /// The product's version.
    pub version: String,
    /// Cluster id, in hexadecimal; empty while the node has none.
    pub cluster: String,
    /// This node's id, in hexadecimal.
    pub node: String,
    /// This core.
    pub core: u16,
    /// Cores of the node.
    pub cores: u16,
    /// Lanes of the data directory.
    pub lanes: u16,
    /// `starting`, `waiting` (for the other initial members), `joining`, `serving`, `electing`, `stopped`.
    pub phase: String,
    /// What the phase waits for, in words; empty when serving.
    pub waiting_for: String,
    /// True when this node answers clients.
    pub ready: bool,
    /// Microseconds since the core started.
    pub uptime_us: u64,
    /// All members.
    pub members: Vec<MemberStatus>,
    /// The shards of which this core has a replica.
    pub shards: Vec<ShardStatus>,
    /// The coordination store on this node, when the core holds it.
    pub tree: Option<TreeStatus>,
    /// The services, when the core holds them.
    pub services: Option<ServicesStatus>,
    /// The cluster's files, when this core holds their names and any were ever there.
    pub files: Option<FilesStatus>,
    /// Jobs and agents, when this core holds them and any were ever there.
    pub jobs: Option<JobsStatus>,
    /// The cache on this core, once the cluster is formed.
    pub cache: Option<CacheStatus>,
    /// Transactions over chapters, shard by shard; shards that have seen none are left out.
    pub transactions: Vec<TransactionsStatus>,
    /// Global transactions of services, when the core holds them and any was ever begun.
    #[serde(default)]
    pub globals: Option<GlobalsStatus>,
    /// Groups of nodes that run protocols among equals, when this core is the one that runs them.
    #[serde(default)]
    pub groups: Vec<GroupStatus>,
    /// Topics on this core, when it holds their registry.
    #[serde(default)]
    pub topics: Option<TopicsStatus>,
    /// The cluster's pools, as this core knows them.
    pub pools: Vec<PoolStatus>,
    /// Room on this node's disks.
    pub disk: DiskSpace,
    /// True while writes that add data are refused here because disks are nearly full.
    pub additions_refused: bool,
    /// On a stand-by, and on what was one: how far it has followed.
    #[serde(default)]
    pub follows: Option<FollowStatus>,
    /// The stand-by that took this cluster's place, for people; empty where none did.
    #[serde(default)]
    pub superseded_by: String,
    /// Counters since start.
    pub counters: Counters,
}

/// A group of nodes that run a protocol among equals, as one node sees it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct GroupStatus {
    /// Its name.
    pub name: String,
    /// The protocol's name.
    pub protocol: String,
    /// What it is for: `lock`, `leader`, `leader and log`, `log`.
    pub kind: String,
    /// Its members, by their peers' numbers.
    pub members: Vec<GroupMember>,
    /// The number of this node's peer; 0: it is no member.
    pub me: usize,
    /// One word for what the peer here does now.
    pub role: String,
    /// Peers whose answers the one here cannot go on without, as far as it knows.
    pub waits_for: Vec<usize>,
    /// Users that wait here for the lock.
    pub waiters: usize,
    /// The fence of the user that is inside here.
    pub fence: Option<u64>,
    /// The number of the peer that leads, as far as the one here knows.
    pub leader: Option<usize>,
    /// In which term; 0 in protocols without terms.
    pub term: u64,
    /// Values that were decided, as far as the peer here knows.
    pub decided: u64,
    /// The last of them: place and value.
    pub last: Vec<(u64, u64)>,
    /// Why the peer here is silent; empty when it is not.
    pub fault: String,
}

/// A member of a group.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct GroupMember {
    /// Its peer's number.
    pub peer: usize,
    /// Node id, in hexadecimal.
    pub node: String,
    /// `host:port` between nodes; empty once it has left the cluster.
    pub address: String,
    /// Where it answers over HTTP; empty while that is not known.
    pub console: String,
    /// Heard from lately.
    pub reachable: bool,
}

/// How far a stand-by has followed.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct FollowStatus {
    /// The cluster that is followed, in hexadecimal; 0 while it was not heard.
    pub cluster: String,
    /// Where its nodes are asked.
    pub addresses: Vec<String>,
    /// True once this cluster took its place.
    pub promoted: bool,
    /// Shards of which this core has a replica.
    pub shards: Vec<FollowRow>,
}

/// How far a shard has followed.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct FollowRow {
    /// Its name.
    pub shard: String,
    /// The primary's last entry that is in the state here.
    pub index: u64,
    /// The last that the primary is known to have committed.
    pub commit: u64,
    /// Milliseconds since the primary answered.
    pub silent_ms: u64,
}

/// Room on the disk of a data directory; of the fullest one where lanes have disks of their own.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct DiskSpace {
    /// Bytes that may still be written. Both are 0 while nothing was measured.
    pub free_bytes: u64,
    /// Bytes that the disk holds.
    pub total_bytes: u64,
    /// True when so little is free that data must not be added.
    pub low: bool,
}

/// A member of the cluster.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct MemberStatus {
    /// Node id, in hexadecimal.
    pub node: String,
    /// `host:port` between nodes.
    pub address: String,
    /// `joining`, `member`, `observer` (it follows without a vote), `leaving`.
    pub state: String,
    /// Heard from lately; always true for this node.
    pub reachable: bool,
    /// Milliseconds since it was last heard from.
    pub silent_ms: u64,
    /// Its wall clock less ours, in milliseconds, when known.
    pub clock_offset_ms: i64,
    /// True for this node.
    pub this_node: bool,
    /// So little of its disk is free that data must not be added.
    pub disk_low: bool,
    /// Suspicion level of the φ-accrual detector.
    pub phi: f64,
    /// `reachable`, `suspected` or `unreachable`, by what its monitors say; empty where this core does not gossip.
    #[serde(default)]
    pub verdict: String,
    /// For how many milliseconds it has been so, seen from here.
    #[serde(default)]
    pub since_ms: u64,
    /// Milliseconds since there was news of it by gossip; `None` when there never was.
    #[serde(default)]
    pub gossip_ms: Option<u64>,
    /// The members that watch it.
    #[serde(default)]
    pub monitors: Vec<MonitorStatus>,
    /// Which of its lives this is; it grows with each start.
    #[serde(default)]
    pub incarnation: u64,
    /// What it says about itself: `version`, `role`, `zone`, and where clients reach it, by protocol.
    #[serde(default)]
    pub facts: std::collections::BTreeMap<String, String>,
}

/// A member that watches another one.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct MonitorStatus {
    /// Node id, in hexadecimal.
    pub node: String,
    /// Whether it was heard of lately: else it has no say.
    pub heard: bool,
    /// φ that it sees; of other nodes' views, rounded down.
    pub phi: f64,
}

/// A replica on this core.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct ShardStatus {
    /// The machine version of its log's commands.
    pub machine_version: u16,
    /// As `meta`, `tree` or `main/0`.
    pub name: String,
    /// The pool it belongs to.
    pub pool: String,
    /// Shard id, in hexadecimal.
    pub shard: String,
    /// This replica's id, in hexadecimal.
    pub replica: String,
    /// `leader`, `follower`, `candidate`, `learner`, or `silent` (its log is lost).
    pub role: String,
    /// Node id of the leader in hexadecimal, empty when unknown.
    pub leader: String,
    /// Current term.
    pub term: u64,
    /// Highest index known committed.
    pub commit: u64,
    /// Highest index applied here.
    pub applied: u64,
    /// Last index of the log here.
    pub last: u64,
    /// Entries committed but not applied here.
    pub lag: u64,
    /// Index of the latest snapshot on disk.
    pub snapshot: u64,
    /// Replicas: (node id in hexadecimal, `voter` or `learner`, match index if this is the leader).
    pub replicas: Vec<(String, String, u64)>,
    /// True while the idle group sends nothing.
    pub hibernating: bool,
    /// Bytes of log kept in memory.
    pub log_bytes: u64,
    /// Why it is silent, or empty.
    pub fault: String,
}

/// The coordination store on this node.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct TreeStatus {
    /// The revision.
    pub zxid: i64,
    /// Nodes in the tree.
    pub znodes: u64,
    /// Of them ephemeral.
    pub ephemerals: u64,
    /// Bytes of paths and data.
    pub data_bytes: u64,
    /// Replicated sessions, in the whole cluster.
    pub sessions: u64,
    /// Client connections here.
    pub connections: u64,
    /// Watches here.
    pub watches: u64,
    /// Requests received and not yet answered here.
    pub outstanding: u64,
    /// Some of the sessions: (id in hexadecimal, time-out in ms, home node, ephemeral nodes). At most 1,000.
    pub session_list: Vec<(String, u32, String, u64)>,
}

/// The services, as this node's replica has them.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ServicesStatus {
    /// Services that have instances.
    pub services: u64,
    /// Instances of all of them.
    pub instances: u64,
    /// Checks that pass.
    pub passing: u64,
    /// Checks that warn.
    pub warning: u64,
    /// Checks that are critical.
    pub critical: u64,
    /// Probes that this node has run since it started.
    pub probes: u64,
    /// Calls under way on this node, blocking queries among them.
    pub calls: u64,
    /// Some of the instances, by service and id; at most 1,000.
    pub list: Vec<InstanceRow>,
}

/// An instance of a service.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct InstanceRow {
    /// The service's name.
    pub service: String,
    /// The instance's id.
    pub id: String,
    /// `host:port`.
    pub address: String,
    /// The node that it was registered at, in hexadecimal.
    pub node: String,
    /// Its tags, with commas between them.
    pub tags: String,
    /// `passing`, `warning` or `critical`: the worst of its checks.
    pub status: String,
    /// Its checks.
    pub checks: u64,
    /// What the worst of them said last.
    pub output: String,
    /// The node that runs it, in hexadecimal; empty without checks.
    pub runner: String,
    /// For how many milliseconds it has said so.
    pub since_ms: u64,
}

/// The cluster's files, as this node's replica of their names has them.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct FilesStatus {
    /// Files.
    pub files: u64,
    /// Directories.
    pub directories: u64,
    /// Chunks of all files.
    pub chunks: u64,
    /// Files being written.
    pub writers: u64,
    /// Chunks without a good copy anywhere.
    pub missing: u64,
    /// Chunks whose good copies are all on nodes that are not heard.
    pub unreachable: u64,
    /// Chunks with fewer good copies on nodes that are heard than wanted.
    pub short: u64,
    /// Copies that are corrupt.
    pub corrupt: u64,
    /// Copies under way.
    pub making: u64,
    /// Chunk servers: node id in hexadecimal, address for chunks, whether heard, whether it has room, chunks.
    pub servers: Vec<(String, String, bool, bool, u64)>,
    /// Some of the chunks with something wrong: path, chunk, good copies, copies wanted.
    pub faults: Vec<(String, String, u64, u64)>,
}

/// Jobs and agents, as this node's replica of them has them.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct JobsStatus {
    /// Jobs that are there, those that have ended among them.
    pub jobs: u64,
    /// Instances that have an agent and have not ended.
    pub live: u64,
    /// Instances that want an agent.
    pub pending: u64,
    /// The newest jobs.
    pub newest: Vec<JobSummary>,
    /// Agents.
    pub agents: Vec<AgentView>,
    /// The newest attempts, each with its job and task.
    pub attempts: Vec<(String, String, Attempt)>,
    /// Frameworks, by name.
    pub frameworks: Vec<FrameworkSummary>,
    /// What this node's replica has seen done since it was made.
    pub tally: Tally,
    /// Tasks by state: placed, running, stopping.
    pub by_state: [u64; 3],
}

/// The cache on this core.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct CacheStatus {
    /// The pool that its keys are of.
    pub pool: String,
    /// Keys of the shards that this core has a replica of, with those whose time is over and that were not
    /// removed yet.
    pub keys: u64,
    /// Of these, keys that end.
    pub ending: u64,
    /// Memory that they take, an estimate, in bytes.
    pub memory_bytes: u64,
    /// Databases that are not empty: number, keys, and of these such that end.
    pub databases: Vec<(u32, u64, u64)>,
    /// Client connections here.
    pub clients: u64,
    /// Of these, such that wait in a blocking command.
    pub blocked: u64,
    /// Channels and patterns that somebody here listens to.
    pub subscriptions: u64,
    /// Requests received and not yet answered here, blocking ones among them.
    pub outstanding: u64,
    /// Commands received since the core started.
    pub commands: u64,
    /// Connections accepted since the core started.
    pub connections: u64,
}

/// Global transactions, as this node's replica has them.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct GlobalsStatus {
    /// Under way, parked ones among them.
    pub under_way: u64,
    /// Parked: nothing is done until a person says so.
    pub parked: u64,
    /// Calls of services that are wanted now.
    pub wanted: u64,
    /// Begun since the cluster was made.
    pub begun: u64,
    /// Succeeded since the cluster was made.
    pub succeeded: u64,
    /// Failed, and undone everywhere, since the cluster was made.
    pub failed: u64,
    /// Calls of services whose result was taken since the cluster was made.
    pub called: u64,
    /// Calls that this node has made since it started.
    pub calls_made: u64,
    /// Some that are under way, parked ones first; at most 100.
    pub list: Vec<GlobalRow>,
    /// The last that have ended; at most 50.
    pub last: Vec<GlobalRow>,
}

/// A global transaction.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct GlobalRow {
    /// Its gid.
    pub gid: String,
    /// `saga`, `tcc`, `msg` or `xa`.
    pub kind: String,
    /// Its state.
    pub status: String,
    /// Why it is parked; empty when it is not.
    pub parked: String,
    /// For how many milliseconds it has been under way, or how long ago it ended.
    pub since_ms: u64,
    /// What is being done, or why it failed.
    pub words: String,
}

/// A shard's transactions, as the replica here has them.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct TransactionsStatus {
    /// The shard's name.
    pub shard: String,
    /// True where the shard's leader is here.
    pub leads: bool,
    /// Under way, of which the record is here.
    pub records: u64,
    /// Promised here and not decided yet: in doubt.
    pub promises: u64,
    /// Keys, partitions and nodes that they hold.
    pub locks: u64,
    /// Units that wait for them.
    pub parked: u64,
    /// Committed since the shard was made, by where their record was.
    pub committed: u64,
    /// Refused since the shard was made, by where their record was.
    pub refused: u64,
    /// Some of those under way: id, shard of the record, milliseconds since, `preparing`, `in doubt` or
    /// `committed`, and the shards that are waited for. At most 100.
    pub under_way: Vec<(String, String, u64, String, Vec<String>)>,
    /// The last that ended: id, milliseconds for which that is remembered still, how. At most 20.
    pub last: Vec<(String, u64, String)>,
}

/// A pool of shards.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct PoolStatus {
    /// Its name.
    pub name: String,
    /// `raft` (a majority holds what is acknowledged) or `single` (one copy).
    pub policy: String,
    /// When what is acknowledged is on disk: `always` (before), `everysec`, `none` (some time).
    pub durability: String,
    /// True for the pool that the cache's keys are of.
    pub holds_cache: bool,
    /// Ranges of slots: first, last, the shard's name, and the node that leads it in hexadecimal (empty when
    /// unknown here).
    pub slots: Vec<(u16, u16, String, String)>,
}

/// Counters since start, and what the golden signals are drawn from.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Counters {
    /// Requests that read.
    pub reads: u64,
    /// Requests that write.
    pub writes: u64,
    /// Requests answered with an error.
    pub errors: u64,
    /// Watch events and published messages sent to clients.
    pub notifications: u64,
    /// Bytes from clients.
    pub bytes_in: u64,
    /// Bytes to clients.
    pub bytes_out: u64,
    /// Sessions opened here.
    pub sessions_opened: u64,
    /// Sessions that expired (counted where they had their home).
    pub sessions_expired: u64,
    /// Malformed frames.
    pub malformed: u64,
    /// Elections won here.
    pub elections_won: u64,
    /// Journal syncs done.
    pub syncs: u64,
    /// Journal bytes written.
    pub journal_bytes: u64,
    /// Latency of requests in power-of-two buckets of microseconds: `latency[i]` counts those from 2^(i−1)
    /// to below 2^i µs, each once.
    pub latency: Vec<u64>,
    /// Sum of latencies in microseconds.
    pub latency_sum_us: u64,
}

/// Buckets of [`Counters::latency`]; the last one is open at its top.
const LATENCY_BUCKETS: usize = 32;

impl Counters {
    /// Counts the latency of a request that came at `since_us`.
    pub fn note_latency(&mut self, now: base::Now, since_us: u64) {
        let us = now.mono_us.saturating_sub(since_us);
        self.latency.resize(LATENCY_BUCKETS, 0);
        let bucket = (64 - us.leading_zeros()) as usize;
        self.latency[bucket.min(LATENCY_BUCKETS - 1)] += 1;
        self.latency_sum_us += us;
    }

    /// Least, mean and greatest latency in milliseconds, as far as the buckets tell.
    pub fn latency_ms(&self) -> (u64, f64, u64) {
        let total: u64 = self.latency.iter().sum();
        if total == 0 {
            return (0, 0.0, 0);
        }
        let below = |i: usize| (1u64 << i) / 1000;
        let least = self.latency.iter().position(|n| *n > 0).unwrap_or(0);
        let greatest = self.latency.iter().rposition(|n| *n > 0).unwrap_or(0);
        let mean = self.latency_sum_us as f64 / total as f64 / 1000.0;
        (below(least.saturating_sub(1)), mean, below(greatest))
    }
}
