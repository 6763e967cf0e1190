//! The core itself: one loop over closed events.

use crate::event::{Action, Endpoint, Event, Hello};
use base::{ClusterId, CoreAddress, CoreId, LaneId, NodeId, Now};
use bytes::Bytes;
use journal::FileId;
use std::collections::VecDeque;

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
    /// This node's id: drawn at random (never 0) when the data directory is made and kept in it. Whoever
    /// makes the directory draws a *new* one whenever any lane's identity file is missing, so that a
    /// wiped directory or lane comes back as another node (DESIGN.md, decision 4).
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
    /// Sessions time out between these bounds, in milliseconds.
    pub session_timeout_ms: (u32, u32),
}

impl Default for CoreConfig {
    fn default() -> Self {
        Self {
            core: CoreId(0),
            cores: 1,
            lanes: 1,
            address: "127.0.0.1:7401".into(),
            initial_members: vec!["127.0.0.1:7401".into()],
            node: NodeId(1),
            seed: 0,
            secret: [0; 32],
            superuser_digest: None,
            data_bytes_max: 1_048_575,
            tick_us: 10_000,
            election_ticks: 15,
            heartbeat_ticks: 4,
            snapshot_log_bytes: 64 << 20,
            session_timeout_ms: (1_000, 600_000),
        }
    }
}

/// What a lane's directory held when the core started.
#[derive(Debug, Default)]
pub struct LaneStart {
    /// Every segment file, fed in order.
    pub recovery: journal::Recovery,
    /// Content of the lane's identity file, if there is one.
    pub identity: Option<Bytes>,
    /// The complete snapshot files that are there.
    pub snapshots: Vec<FileId>,
}

/// One core of a node.
#[derive(Debug)]
pub struct Core {
    config: CoreConfig,
    actions: VecDeque<Action>,
}

impl Core {
    /// A core over what its lanes held: each of its lanes with what was fed to its recovery (every
    /// segment file, in order). Snapshot files are read later, through disk operations.
    pub fn new(_now: Now, config: CoreConfig, _lanes: Vec<(LaneId, journal::Recovery)>) -> Self {
        Self {
            config,
            actions: VecDeque::new(),
        }
    }

    /// Takes one event. Cheap; everything that takes long is an action.
    pub fn handle(&mut self, _now: Now, _event: Event) {}

    /// Called once after a batch of events: proposes, writes and sends what they gathered.
    pub fn flush(&mut self, _now: Now) {}

    /// The next action, in order. Poll until `None` after each `flush`.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// What the host (or the lab) sends first on a stream that it dials to `to` for this core.
    pub fn hello(&self, to: &Endpoint) -> Hello {
        Hello {
            cluster: ClusterId(0),
            from: CoreAddress {
                node: NodeId(0),
                core: self.config.core,
            },
            address: self.config.address.clone(),
            to_core: to.core,
            cores: self.config.cores,
            lanes: self.config.lanes,
        }
    }

    /// Monotonic microseconds at which the core wants its next [`Event::Tick`].
    pub fn deadline_us(&self) -> u64 {
        u64::MAX
    }
}
