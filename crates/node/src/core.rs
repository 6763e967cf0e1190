//! The core itself: one loop over closed events.
//!
//! Phases of a turn: [`Core::handle`] takes events and only gathers; [`Core::flush`] lets the shards
//! propose, write, send and apply, hands what applying told to the front ends, and repeats while that
//! leads to more; then the host polls [`Action`]s.

use crate::admin::Counters;
use crate::event::{Action, Endpoint, Event, FrontEnd, Hello, Level};
use crate::formation::Formation;
use crate::frame::Frame;
use crate::lane::Lane;
use crate::peers::{Peers, core_of, lane_of};
use crate::replicas::Replicas;
use crate::reports::Reports;
use crate::space::Space;
use crate::zookeeper::{Ask, Context, Zookeeper};
use base::{ClusterId, CoreAddress, CoreId, LaneId, NodeId, Now, ReplicaId, Rng, ShardId};
use bytes::Bytes;
use catalog::{Catalog, META_SHARD, TREE_SHARD};
use cluster::StampClock;
use coordination::leases::Leases;
use coordination::{Coordination, Unit};
use journal::FileId;
use replication::raft::Membership;
use router::Router;
use shard::ShardMachine;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

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
            snapshot_chunk_bytes: 256 << 10,
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
    pub(crate) config: CoreConfig,
    pub(crate) me: CoreAddress,
    pub(crate) rng: Rng,
    pub(crate) started_us: u64,
    pub(crate) cluster: ClusterId,
    pub(crate) catalog: Catalog,
    pub(crate) catalog_index: u64,
    pub(crate) lanes: BTreeMap<LaneId, Lane>,
    pub(crate) replicas: Replicas,
    pub(crate) peers: Peers,
    pub(crate) router: Router,
    pub(crate) formation: Formation,
    pub(crate) reports: Reports,
    /// Where a replica's messages came from, for those whose membership is not known here yet.
    pub(crate) origins: BTreeMap<(ShardId, ReplicaId), NodeId>,
    pub(crate) zookeeper: Zookeeper,
    pub(crate) leases: Leases,
    pub(crate) stamp_clock: StampClock,
    pub(crate) front_open: bool,
    pub(crate) caught_up: bool,
    pub(crate) catch_up_token: Option<u64>,
    pub(crate) unsent: VecDeque<(ShardId, Bytes)>,
    pub(crate) contact_us: u64,
    pub(crate) counters: Counters,
    pub(crate) actions: VecDeque<Action>,
    pub(crate) asks: Vec<Ask>,
    pub(crate) stopped: bool,
    pub(crate) space: Space,
    /// Nodes of other clusters whose streams were refused.
    pub(crate) refused: BTreeSet<(String, ClusterId)>,
    pub(crate) timers: Timers,
    /// What the front end sees while this core has no tree; nothing is served from it.
    empty_tree: Coordination,
}

/// When things are due again, monotonic microseconds.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    pub tick_us: u64,
    pub ping_us: u64,
    pub touch_us: u64,
    pub reconcile_us: u64,
    pub formation_us: u64,
    pub reap_us: u64,
    pub hand_over_us: u64,
    pub lost_us: u64,
    pub tell_us: u64,
    pub last_turn_us: u64,
}

/// A core that was not run for longer than this does not hold the time against its sessions.
const STALL_US: u64 = 500_000;

impl Core {
    /// A core over what its lanes held (those with `lane % cores == core`). Snapshot files are read
    /// later, through disk operations.
    pub fn new(now: Now, config: CoreConfig, lanes: Vec<(LaneId, LaneStart)>) -> Self {
        let me = CoreAddress {
            node: config.node,
            core: config.core,
        };
        let mut rng = Rng::new(config.seed ^ config.node.0).fork(u64::from(config.core.0));
        let zookeeper = Zookeeper::new(me, &config, rng.next_u64());
        let mut core = Self {
            me,
            started_us: now.mono_us,
            cluster: ClusterId(0),
            catalog: Catalog::new(),
            catalog_index: 0,
            lanes: BTreeMap::new(),
            replicas: Replicas::default(),
            peers: Peers::default(),
            router: Router::default(),
            formation: Formation::new(&config),
            reports: Reports::default(),
            origins: BTreeMap::new(),
            zookeeper,
            leases: Leases::new(),
            stamp_clock: StampClock::default(),
            front_open: false,
            caught_up: false,
            catch_up_token: None,
            unsent: VecDeque::new(),
            contact_us: now.mono_us,
            counters: Counters::default(),
            actions: VecDeque::new(),
            asks: Vec::new(),
            stopped: false,
            space: Space::default(),
            refused: BTreeSet::new(),
            empty_tree: Coordination::new(),
            timers: Timers {
                last_turn_us: now.mono_us,
                tick_us: now.mono_us,
                ..Timers::default()
            },
            rng,
            config,
        };
        for (id, start) in lanes {
            core.open_lane(id, start);
        }
        core
    }

    /// Takes one event. Cheap; everything that takes long is an action.
    pub fn handle(&mut self, now: Now, event: Event) {
        if self.stopped {
            return;
        }
        let stalled_us = now.mono_us.saturating_sub(self.timers.last_turn_us);
        if stalled_us > STALL_US {
            // Keep-alives that came meanwhile stand behind this event in the host's buffers.
            self.leases.stalled(stalled_us);
            if self.catalog.members.len() <= 1 {
                self.contact_us += stalled_us;
            } else {
                // A leader elsewhere may have expired sessions meanwhile: what their clients sent is not
                // to be answered as if nothing had happened.
                let contact_us = self.contact_us;
                self.with_front_end(now, |front, cx| front.handle_tick(cx, contact_us));
            }
        }
        self.timers.last_turn_us = now.mono_us;
        match event {
            Event::Tick => {}
            Event::PeerOpened { stream, hello } => self.peer_opened(stream, hello),
            Event::PeerFrame { stream, frame } => self.peer_frame(now, stream, &frame),
            Event::PeerClosed { stream } => self.peers.closed(stream),
            Event::SendFailed { to } => self.send_failed(now, &to),
            Event::ClientOpened {
                client,
                front: FrontEnd::Zookeeper,
                address,
            } => {
                self.zookeeper.handle_opened(now, client, address);
            }
            Event::ClientBytes { client, bytes } => {
                self.with_front_end(now, |front, cx| front.handle_bytes(cx, client, &bytes));
            }
            Event::ClientClosed { client } => self.zookeeper.handle_closed(client),
            Event::DiskDone {
                lane,
                ticket,
                result,
            } => self.disk_done(now, lane, ticket, &result),
            Event::DiskSpace(space) => self.disk_measured(space),
            Event::Admin { request, command } => self.admin(now, request, command),
        }
    }

    /// Called once after a batch of events: proposes, writes and sends what they gathered.
    pub fn flush(&mut self, now: Now) {
        if self.stopped {
            return;
        }
        self.timers.last_turn_us = now.mono_us;
        self.run_timers(now);
        // Applying may lead to asks, asks to proposals; a lone voter's may be applied at once.
        for _ in 0..4 {
            self.route_asks();
            self.flush_shards(now);
            if self.asks.is_empty() {
                break;
            }
        }
        self.route_asks();
        self.flush_lanes(now);
        self.zookeeper.flush(&mut self.counters, &mut self.actions);
    }

    /// The next action, in order. Poll until `None` after each `flush`.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// What the host (or the lab) sends first on a stream that it dials to `to` for this core.
    pub fn hello(&self, to: &Endpoint) -> Hello {
        Hello {
            cluster: self.cluster,
            from: self.me,
            address: self.config.address.clone(),
            to_core: to.core,
            cores: self.config.cores,
            lanes: self.config.lanes,
        }
    }

    /// Monotonic microseconds at which the core wants its next [`Event::Tick`].
    pub fn deadline_us(&self) -> u64 {
        if self.stopped {
            return u64::MAX;
        }
        if self.replicas.is_busy() {
            return 0;
        }
        let journals = self.lanes.values().filter_map(|l| l.journal.deadline_us());
        journals.fold(self.timers.tick_us, u64::min)
    }

    // --- shared by the parts of the core ---

    pub(crate) fn log(&mut self, level: Level, message: String) {
        self.actions.push_back(Action::Log { level, message });
    }

    pub(crate) fn stop(&mut self, reason: String) {
        self.stopped = true;
        self.actions.push_back(Action::Stop {
            reason,
            orderly: false,
        });
    }

    /// What people call a shard.
    pub(crate) fn label(&self, shard: ShardId) -> String {
        match shard {
            META_SHARD => "meta".into(),
            TREE_SHARD => "tree".into(),
            other => other.to_string(),
        }
    }

    /// True when this core is the one of its node that holds the shard.
    pub(crate) fn holds(&self, shard: ShardId) -> bool {
        core_of(shard, self.config.lanes, self.config.cores) == self.me.core
    }

    pub(crate) fn lane_of(&self, shard: ShardId) -> LaneId {
        LaneId(lane_of(shard, self.config.lanes))
    }

    pub(crate) fn send(&mut self, to: Endpoint, frame: &Frame) {
        let frame = frame.encode(self.cluster, &Membership::default());
        self.actions.push_back(Action::SendPeer { to, frame });
    }

    pub(crate) fn send_to_shard(&mut self, node: NodeId, shard: ShardId, frame: &Frame) {
        if let Some(to) = self.peers.endpoint(node, shard) {
            self.send(to, frame);
        }
    }

    pub(crate) fn tree(&self) -> Option<&Coordination> {
        match self.replicas.get(TREE_SHARD)?.machine() {
            ShardMachine::Coordination(tree) => Some(tree),
            ShardMachine::Catalog(_) => None,
        }
    }

    pub(crate) fn with_front_end(
        &mut self,
        now: Now,
        run: impl FnOnce(&mut Zookeeper, &mut Context<'_>),
    ) {
        let tree = match self.replicas.get(TREE_SHARD).map(|s| s.machine()) {
            Some(ShardMachine::Coordination(tree)) => tree,
            _ => &self.empty_tree,
        };
        let mut cx = Context {
            now,
            tree,
            asks: &mut self.asks,
            actions: &mut self.actions,
            counters: &mut self.counters,
        };
        run(&mut self.zookeeper, &mut cx);
    }

    /// Sends what the front end asked for on its way.
    fn route_asks(&mut self) {
        for ask in std::mem::take(&mut self.asks) {
            match ask {
                Ask::Propose(unit) => self.propose(TREE_SHARD, &unit),
                Ask::Barrier(token) => match self.replicas.get_mut(TREE_SHARD) {
                    Some(shard) => shard.request_barrier(token),
                    None => self.log(Level::Warn, "a sync came where no tree is".into()),
                },
            }
        }
        self.send_proposals();
    }

    pub(crate) fn propose(&mut self, shard: ShardId, unit: &Unit) {
        self.unsent.push_back((shard, Bytes::from(unit.encode())));
    }

    /// Hands gathered units to the leader, when there is one.
    fn send_proposals(&mut self) {
        if self.unsent.is_empty() {
            return;
        }
        let Some((term, node)) = self.router.leader(TREE_SHARD) else {
            return;
        };
        let units: Vec<Bytes> = self.unsent.drain(..).map(|(_, unit)| unit).collect();
        self.zookeeper.mark_sent();
        if node == self.me.node {
            let mut refused = false;
            if let Some(shard) = self.replicas.get_mut(TREE_SHARD) {
                for unit in units {
                    refused |= !shard.propose(unit);
                }
            }
            if refused {
                let now = Now {
                    mono_us: self.timers.last_turn_us,
                    wall_ms: 0,
                };
                self.with_front_end(now, |front, cx| front.handle_leader_lost(cx));
            }
        } else {
            let frame = Frame::Propose {
                shard: TREE_SHARD,
                term,
                units,
            };
            self.send_to_shard(node, TREE_SHARD, &frame);
        }
    }

    fn flush_lanes(&mut self, now: Now) {
        for lane in self.lanes.values_mut() {
            let mut ops = Vec::new();
            lane.flush(now, &mut ops);
            let id = lane.id;
            (self.actions).extend(ops.into_iter().map(|op| Action::Disk { lane: id, op }));
        }
    }

    /// The catalog changed: addresses, and what the identity remembers of them.
    pub(crate) fn catalog_changed(&mut self) {
        let me = self.me.node;
        for (node, member) in &self.catalog.members {
            if *node != me {
                self.peers.set_address(*node, &member.address);
            }
        }
        let addresses: BTreeSet<String> = (self.catalog.members.values())
            .map(|m| m.address.clone())
            .filter(|a| *a != self.config.address)
            .collect();
        for lane in self.lanes.values_mut() {
            if !addresses.is_empty() {
                lane.identity.addresses.clone_from(&addresses);
            }
        }
        if self.cluster == ClusterId(0) && self.catalog.cluster != ClusterId(0) {
            self.set_cluster(self.catalog.cluster);
        }
        self.bootstrap_founding_replicas();
    }

    pub(crate) fn set_cluster(&mut self, cluster: ClusterId) {
        self.cluster = cluster;
        for lane in self.lanes.values_mut() {
            lane.identity.cluster = cluster;
        }
    }

    /// The catalog of this core: the machine's own where it is held, else what the core that holds it told.
    pub(crate) fn refresh_catalog(&mut self) {
        if let Some(shard) = self.replicas.get(META_SHARD)
            && let ShardMachine::Catalog(catalog) = shard.machine()
            && shard.applied() > self.catalog_index
        {
            self.catalog_index = shard.applied();
            if self.catalog != **catalog {
                self.catalog = (**catalog).clone();
                self.catalog_changed();
                self.tell_other_cores();
            }
        }
    }

    pub(crate) fn tell_other_cores(&mut self) {
        let frame = Frame::Catalog {
            index: self.catalog_index,
            bytes: Bytes::from(self.catalog.encode()),
        };
        let me = self.me.core.0;
        for core in (0..self.config.cores).filter(|c| *c != me) {
            let to = Endpoint {
                address: self.config.address.clone(),
                core: CoreId(core),
            };
            self.send(to, &frame);
        }
    }
}
