//! What a core is told at its start.

use crate::event::FrontEnd;
use crate::peers::CHUNKS;
use base::{CoreId, NodeId};
use catalog::PoolSpec;
use std::collections::BTreeMap;

/// Everything a core is told at its start.
#[derive(Clone, Debug)]
pub struct CoreConfig {
    /// Which core of the node this is.
    pub core: CoreId,
    /// Cores of the node.
    pub cores: u16,
    /// Lanes of the data directory; this core has those with `lane % cores == core`.
    pub lanes: u16,
    /// This node's own inter-node address, as others reach it.
    pub address: String,
    /// Inter-node addresses of all initial members, this node's among them. Empty: wait to be told to join.
    pub initial_members: Vec<String>,
    /// Inter-node addresses of members to join where there are no initial members: they are asked in turn.
    pub join: Vec<String>,
    /// Inter-node addresses of a cluster that the one which this node founds or is of shall follow; empty: none.
    pub standby_of: Vec<String>,
    /// Whether this node, when it joins, is to follow without a vote.
    pub observes: bool,
    /// This node's id: drawn at random (never 0) when the data directory is made and kept in it. Whoever
    /// makes the directory draws a *new* one whenever any lane's identity file is missing, so that a
    /// wiped directory or lane comes back as another node (decision 0005).
    pub node: NodeId,
    /// Seed of the core's generator; entropy under the host.
    pub seed: u64,
    /// Secret that session passwords are derived from; entropy under the host.
    pub secret: [u8; 32],
    /// Credentials of the super user as `user:base64(sha1(user:password))`, if configured.
    pub superuser_digest: Option<String>,
    /// Largest data of one node plus its path, in bytes (ZooKeeper's jute.maxbuffer; default 1,048,575).
    pub data_bytes_max: u32,
    /// Length of a raft tick in microseconds; everything about elections is counted in these.
    pub tick_us: u64,
    /// Least election time-out in ticks; a random part of the same size is added.
    pub election_ticks: u32,
    /// Heartbeat interval in ticks.
    pub heartbeat_ticks: u32,
    /// Take a snapshot when the log since the last one exceeds this many bytes and the state's size.
    pub snapshot_log_bytes: u64,
    /// A snapshot is written in chunks of about this many bytes, one a turn.
    pub snapshot_chunk_bytes: usize,
    /// Sessions time out between these bounds, in milliseconds.
    pub session_timeout_ms: (u32, u32),
    /// Pools of a cluster that this node founds.
    pub pools: Vec<PoolSpec>,
    /// Of which of them cache keys are.
    pub cache_pool: String,
    /// The machine version that this build can apply; another one only in tests.
    pub machine_version: u16,
    /// Where clients reach this node, by protocol: `host:port`, told to those who ask where keys lie.
    pub listeners: BTreeMap<FrontEnd, String>,
    /// Where this node takes and gives chunks of files: `host:port`; `None` where it keeps none.
    pub chunks_address: Option<String>,
    /// Copies on a node that has been silent for this long are made anew elsewhere, in microseconds.
    pub files_copy_after_us: u64,
    /// Whether every client of the cache is sent to the node that leads a key's shard, as in Redis' cluster
    /// mode; else only one that has asked for the slots.
    pub cache_redirects: bool,
    /// Whether a topic is made when a Kafka client asks for one that does not exist.
    pub topics_auto_create: bool,
    /// Partitions of a topic whose maker does not say how many, at least 1.
    pub topic_partitions: u32,
    /// Where this node stands, for people and for those who place: a rack, a room; empty where nobody said.
    pub zone: String,
    /// Monitors of each member, the same on all nodes; `None`: all others below 6 members, else 5.
    pub monitors: Option<usize>,
}

impl Default for CoreConfig {
    fn default() -> Self {
        Self {
            core: CoreId(0),
            cores: 1,
            lanes: 1,
            address: "127.0.0.1:7401".into(),
            initial_members: vec!["127.0.0.1:7401".into()],
            join: Vec::new(),
            standby_of: Vec::new(),
            observes: false,
            node: NodeId(1),
            seed: 0,
            secret: [0; 32],
            superuser_digest: None,
            data_bytes_max: 1_048_575,
            tick_us: 10_000,
            election_ticks: 15,
            heartbeat_ticks: 4,
            snapshot_log_bytes: 64 << 20,
            snapshot_chunk_bytes: 256 << 10,
            session_timeout_ms: (1_000, 600_000),
            pools: vec![PoolSpec::main(1)],
            cache_pool: "main".into(),
            machine_version: shard::MACHINE_VERSION,
            listeners: BTreeMap::new(),
            chunks_address: None,
            files_copy_after_us: 60_000_000,
            cache_redirects: false,
            topics_auto_create: true,
            topic_partitions: 1,
            zone: String::new(),
            monitors: None,
        }
    }
}

impl CoreConfig {
    /// Where clients and other nodes reach this node, by what they want of it.
    pub(crate) fn addresses(&self) -> BTreeMap<String, String> {
        let fronts = self.listeners.iter();
        let fronts = fronts.map(|(front, address)| (front.key().to_owned(), address.clone()));
        let chunks = self.chunks_address.iter();
        let chunks = chunks.map(|address| (CHUNKS.to_owned(), address.clone()));
        fronts.chain(chunks).collect()
    }
}
