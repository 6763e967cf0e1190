//! The core itself: one loop over closed events.
//!
//! Phases of a turn: [`Core::handle`] takes events and only gathers; [`Core::flush`] lets the shards
//! propose, write, send and apply, hands what applying told to the front ends, and repeats while that
//! leads to more; then the host polls [`Action`]s.

use crate::admin::Counters;
use crate::config::CoreConfig;
use crate::desk::{Call, Desk};
use crate::event::{Action, ClientId, Endpoint, Event, FrontEnd, Hello, Level};
use crate::files::FilesDuty;
use crate::formation::Formation;
use crate::frame::Frame;
use crate::front::Context;
use crate::gossip::{ROUND_INTERVALS, Verdicts};
use crate::groups::Groups;
use crate::holders::{Held, Holders};
use crate::jobs::JobsDuty;
use crate::kafka::{self, Kafka};
use crate::lane::Lane;
use crate::links::{Links, Step};
use crate::once::Once;
use crate::peers::{Peers, core_of, lane_of};
use crate::redis::Redis;
use crate::registry::Copies;
use crate::replicas::Replicas;
use crate::reports::Reports;
use crate::space::Space;
use crate::standby::Standby;
use crate::zookeeper::{self, Zookeeper};
use base::{ClusterId, CoreAddress, CoreId, LaneId, NodeId, Now, ReplicaId, Rng, ShardId};
use bytes::Bytes;
use catalog::{Catalog, Durability, META_SHARD, TREE_SHARD};
use cluster::{Gossip, StampClock};
use coordination::Coordination;
use coordination::leases::Leases;
use journal::FileId;
use replication::raft::Membership;
use router::Router;
use shard::ShardMachine;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

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

/// What a front end asks of its core.
#[derive(Debug)]
pub enum Ask {
    /// Propose this unit to the shard's leader.
    Propose(ShardId, Bytes),
    /// Tell the front ends of this token once the shard's state here is as new as any was when this was asked.
    Barrier(ShardId, u64),
    /// Send a frame to the core of a node that holds (or would hold) a shard.
    Send(NodeId, ShardId, Frame),
    /// A step of a link to another core that this front end has opened.
    Link(u64, CoreAddress, Step),
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
    pub(crate) holders: Holders,
    /// What the other cores were told last of what is held here.
    pub(crate) held: Vec<Held>,
    pub(crate) links: Links,
    pub(crate) copies: Copies,
    pub(crate) formation: Formation,
    pub(crate) gossip: Gossip,
    /// Its own, so that whom it tells something changes nothing else.
    pub(crate) gossip_rng: Rng,
    pub(crate) verdicts: Verdicts,
    pub(crate) groups: Groups,
    pub(crate) reports: Reports,
    /// Where a replica's messages came from, for those whose membership is not known here yet.
    pub(crate) origins: BTreeMap<(ShardId, ReplicaId), NodeId>,
    pub(crate) zookeeper: Zookeeper,
    pub(crate) leases: Leases,
    pub(crate) stamp_clock: StampClock,
    pub(crate) redis: Redis,
    pub(crate) kafka: Kafka,
    pub(crate) desk: Desk,
    pub(crate) files: FilesDuty,
    pub(crate) jobs: JobsDuty,
    /// Front ends that serve.
    pub(crate) open_fronts: BTreeSet<FrontEnd>,
    /// Replicas that were as new as any since they came to be.
    pub(crate) caught_up: BTreeSet<ShardId>,
    /// Barriers that will tell so.
    pub(crate) catch_up: BTreeMap<u64, ShardId>,
    /// Units that wait for a leader.
    pub(crate) unsent: BTreeMap<ShardId, Vec<Bytes>>,
    /// What tells this core's proposals from those before it was started.
    sender: u64,
    frames_proposed: u64,
    /// Which frames with proposals were taken, by shard and sender, in this term.
    pub(crate) proposals_taken: BTreeMap<(ShardId, u64), (u64, Once)>,
    pub(crate) contact_us: u64,
    pub(crate) counters: Counters,
    pub(crate) actions: VecDeque<Action>,
    pub(crate) asks: Vec<Ask>,
    pub(crate) stopped: bool,
    pub(crate) space: Space,
    pub(crate) standby: Standby,
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
    pub transactions_us: u64,
    pub listeners_us: u64,
    pub gossip_us: u64,
    pub last_turn_us: u64,
}

/// What may wait a second is written so long before, in microseconds; a sync under load takes the rest.
const EVERY_SECOND_US: u64 = 900_000;
/// What nobody was promised is written after this, in microseconds.
const NO_DURABILITY_US: u64 = 10_000_000;
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
        let redis = Redis::new(now, me, &config, rng.next_u64());
        let kafka = Kafka::new(me, &config, rng.next_u64());
        let desk = Desk::new(me, rng.next_u64());
        let interval_us = config.tick_us * u64::from(config.heartbeat_ticks);
        let round_us = ROUND_INTERVALS * interval_us;
        let mut core = Self {
            me,
            started_us: now.mono_us,
            cluster: ClusterId(0),
            catalog: Catalog::new(),
            catalog_index: 0,
            lanes: BTreeMap::new(),
            replicas: Replicas::default(),
            peers: Peers::new(interval_us),
            router: Router::default(),
            holders: Holders::default(),
            held: Vec::new(),
            links: Links::default(),
            copies: Copies::default(),
            formation: Formation::new(&config),
            gossip: Gossip::new(
                me.node,
                now.wall_ms.max(0) as u64,
                config.monitors,
                round_us,
            ),
            gossip_rng: rng.fork(2),
            verdicts: Verdicts::new(),
            groups: Groups::new(rng.fork(3)),
            reports: Reports::default(),
            origins: BTreeMap::new(),
            zookeeper,
            leases: Leases::new(),
            stamp_clock: StampClock::default(),
            redis,
            kafka,
            desk,
            files: FilesDuty::default(),
            jobs: JobsDuty::default(),
            open_fronts: BTreeSet::new(),
            caught_up: BTreeSet::new(),
            catch_up: BTreeMap::new(),
            unsent: BTreeMap::new(),
            sender: rng.fork(1).next_u64(),
            frames_proposed: 0,
            proposals_taken: BTreeMap::new(),
            contact_us: now.mono_us,
            counters: Counters::default(),
            actions: VecDeque::new(),
            asks: Vec::new(),
            stopped: false,
            space: Space::default(),
            standby: Standby::default(),
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
        let (version, addresses) = (core.config.machine_version, core.config.addresses());
        core.peers.introduce(me.node, version, addresses);
        for (id, start) in lanes {
            core.open_lane(id, start);
        }
        let main = (core.config.pools.iter()).find(|pool| pool.name == kafka::POOL);
        if core.config.cores.min(core.config.lanes) > 1
            && main.is_some_and(|pool| pool.shards > 1)
            && core.me.core == CoreId(0)
            && core.config.listeners.contains_key(&FrontEnd::Kafka)
        {
            let message = "Kafka's clients are served only where one core holds all records: with several cores and \
                           lanes, leave pools.main_shards at 1";
            core.log(Level::Warn, message.into());
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
            self.jobs.stalled(stalled_us);
            self.peers.detector.stalled(stalled_us);
            self.kafka.stalled(stalled_us);
            self.desk.stalled(stalled_us);
            if self.catalog.members.len() <= 1 {
                self.contact_us += stalled_us;
            } else {
                // A leader elsewhere may have expired sessions meanwhile: what their clients sent is not
                // to be answered as if nothing had happened.
                let contact_us = self.contact_us;
                self.with_zookeeper(now, |front, cx| front.handle_tick(cx, contact_us));
            }
        }
        self.timers.last_turn_us = now.mono_us;
        match event {
            Event::Tick => {}
            Event::PeerOpened { stream, hello } => self.peer_opened(stream, hello),
            Event::PeerFrame { stream, frame } => self.peer_frame(now, stream, &frame),
            Event::PeerClosed { stream } => {
                if let Some(node) = self.peers.closed(stream) {
                    self.wake_led_by(node);
                }
                self.links_stream_closed(stream);
            }
            Event::SendFailed { to } => self.send_failed(now, &to),
            Event::ClientOpened {
                client,
                front,
                address,
                port,
            } => match front {
                FrontEnd::Zookeeper => self.zookeeper.handle_opened(now, client, address),
                FrontEnd::Redis => {
                    let address = format!("{address}:{port}");
                    self.redis.handle_opened(now, client, address);
                }
                FrontEnd::Kafka => {
                    (self.kafka).handle_opened(client, format!("{address}:{port}"));
                }
            },
            Event::ClientBytes { client, bytes } => self.client_bytes(now, client, &bytes),
            Event::ClientDrained { client } => self.client_drained(now, client),
            Event::ClientClosed { client } => self.client_closed(client),
            Event::Stopping => {
                for lane in self.lanes.values_mut() {
                    lane.journal.hurry();
                }
            }
            Event::DiskDone {
                lane,
                ticket,
                result,
            } => self.disk_done(now, lane, ticket, &result),
            Event::DiskSpace(space) => self.disk_measured(space),
            Event::Admin { request, command } => self.admin(now, request, command),
            Event::Call {
                request,
                call: Call::Group(call),
            } => self.group_call(now, request, call),
            Event::Call { request, call } => {
                self.with_desk(now, |desk, cx| desk.handle_call(cx, request, call));
            }
            Event::Probed { probe, result } => {
                self.with_desk(now, |desk, cx| desk.handle_probed(cx, probe, &result));
            }
            Event::HungUp { request } => {
                self.groups.handle_hung_up(request);
                self.desk.handle_hung_up(request);
            }
        }
    }

    pub(crate) fn client_bytes(&mut self, now: Now, client: ClientId, bytes: &Bytes) {
        if self.redis.has_client(client) {
            self.with_redis(now, |front, cx| front.handle_bytes(cx, client, bytes));
        } else if self.kafka.has_client(client) {
            self.with_kafka(now, |front, cx| front.handle_bytes(cx, client, bytes));
        } else {
            self.with_zookeeper(now, |front, cx| front.handle_bytes(cx, client, bytes));
        }
    }

    pub(crate) fn client_drained(&mut self, now: Now, client: ClientId) {
        self.with_zookeeper(now, |front, cx| front.handle_drained(cx, client));
        self.with_redis(now, |front, cx| front.handle_drained(cx, client));
        self.with_kafka(now, |front, cx| front.handle_drained(cx, client));
    }

    pub(crate) fn client_closed(&mut self, client: ClientId) {
        self.zookeeper.handle_closed(client);
        self.redis.handle_closed(client);
        self.kafka.handle_closed(client);
    }

    /// Called once after a batch of events: proposes, writes and sends what they gathered.
    pub fn flush(&mut self, now: Now) {
        if self.stopped {
            return;
        }
        self.timers.last_turn_us = now.mono_us;
        self.run_timers(now);
        self.run_groups(now);
        // Applying may lead to asks, asks to proposals; a lone voter's may be applied at once.
        for _ in 0..4 {
            self.route_asks(now);
            self.flush_shards(now);
            if self.asks.is_empty() {
                break;
            }
        }
        self.with_kafka(now, |front, cx| front.serve_woken(cx));
        self.with_desk(now, |desk, cx| desk.serve_woken(cx));
        self.route_asks(now);
        self.flush_registry();
        self.flush_lanes(now);
        self.zookeeper.flush(&mut self.counters, &mut self.actions);
        self.redis.flush(&mut self.counters, &mut self.actions);
        self.kafka.flush(&mut self.counters, &mut self.actions);
        self.desk.flush();
    }

    /// The next action, in order. Poll until `None` after each `flush`.
    pub fn poll_action(&mut self) -> Option<Action> {
        while let Some(action) = self.actions.pop_front() {
            if let Some(action) = self.link_action(action) {
                return Some(action);
            }
        }
        None
    }

    /// True when all that its journals were given is durable.
    pub fn is_written(&self) -> bool {
        (self.lanes.values()).all(|lane| lane.journal.durable() >= lane.journal.appended())
    }

    /// What the host (or the lab) sends first on a stream that it dials to `to` for this core.
    pub fn hello(&self, to: &Endpoint) -> Hello {
        Hello {
            cluster: self.cluster_for(&to.address),
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
        let journals = self.lanes.values().filter_map(Lane::deadline_us);
        let groups = self.groups.deadline_us();
        journals.fold(self.timers.tick_us.min(groups), u64::min)
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
        match (shard, self.catalog.shards.get(&shard)) {
            (META_SHARD, _) => "meta".into(),
            (TREE_SHARD, _) => "tree".into(),
            (_, Some(record)) => record.name.clone(),
            (other, None) => other.to_string(),
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
        let to = match node == self.me.node {
            true => self.endpoint_of(CoreAddress {
                node,
                core: core_of(shard, self.config.lanes, self.config.cores),
            }),
            false => self.peers.endpoint(node, shard),
        };
        if let Some(to) = to {
            self.send(to, frame);
        }
    }

    pub(crate) fn tree(&self) -> Option<&Coordination> {
        Some(
            &self
                .replicas
                .get(TREE_SHARD)?
                .machine()
                .data()?
                .coordination,
        )
    }

    pub(crate) fn with_zookeeper(
        &mut self,
        now: Now,
        run: impl FnOnce(&mut Zookeeper, &mut zookeeper::Context<'_>),
    ) {
        let data = (self.replicas.get(TREE_SHARD)).and_then(|shard| shard.machine().data());
        let mut cx = zookeeper::Context {
            now,
            tree: data.map_or(&self.empty_tree, |data| &data.coordination),
            asks: &mut self.asks,
            actions: &mut self.actions,
            counters: &mut self.counters,
            is_held_up: data.is_some_and(|data| data.transactions.is_full()),
        };
        run(&mut self.zookeeper, &mut cx);
    }

    /// The front ends that take a [`Context`], and that.
    fn fronts(&mut self, now: Now) -> (&mut Redis, &mut Kafka, &mut Desk, Context<'_>) {
        let follows = self.follows() || self.superseded_by().is_some();
        let has_looked = self.has_looked();
        let cx = Context {
            now,
            time_ms: self.stamp_clock.read_ms(now),
            replicas: &self.replicas,
            catalog: &self.catalog,
            router: &self.router,
            peers: &self.peers,
            holders: &self.holders,
            registry_copy: self.copies.copy.as_deref(),
            space: &self.space,
            full: &self.space.full,
            follows,
            has_looked,
            asks: &mut self.asks,
            actions: &mut self.actions,
            counters: &mut self.counters,
        };
        (&mut self.redis, &mut self.kafka, &mut self.desk, cx)
    }

    pub(crate) fn with_redis(&mut self, now: Now, run: impl FnOnce(&mut Redis, &mut Context<'_>)) {
        let (redis, _, _, mut cx) = self.fronts(now);
        run(redis, &mut cx);
    }

    pub(crate) fn with_kafka(&mut self, now: Now, run: impl FnOnce(&mut Kafka, &mut Context<'_>)) {
        let (_, kafka, _, mut cx) = self.fronts(now);
        run(kafka, &mut cx);
    }

    pub(crate) fn with_desk(&mut self, now: Now, run: impl FnOnce(&mut Desk, &mut Context<'_>)) {
        let (_, _, desk, mut cx) = self.fronts(now);
        run(desk, &mut cx);
    }

    /// Tells the front ends that the fate of what was sent to a shard's leader cannot be known here.
    pub(crate) fn leader_lost(&mut self, now: Now, shard: ShardId) {
        if shard == TREE_SHARD {
            self.with_zookeeper(now, |front, cx| front.handle_leader_lost(cx));
        }
        self.with_redis(now, |front, cx| front.handle_leader_lost(cx, shard));
        self.with_kafka(now, |front, cx| front.handle_leader_lost(cx, shard));
        self.with_desk(now, |desk, cx| desk.handle_leader_lost(cx, shard));
    }

    /// Sends what the front ends asked for on its way.
    fn route_asks(&mut self, now: Now) {
        self.redis.flush_links(&mut self.asks);
        let is_elsewhere = self.registry_is_elsewhere();
        let mut asks = std::mem::take(&mut self.asks);
        for ask in asks.drain(..) {
            match ask {
                Ask::Propose(shard, unit) => self.unsent.entry(shard).or_default().push(unit),
                Ask::Barrier(shard, token) => match self.replicas.get_mut(shard) {
                    Some(shard) => shard.request_barrier(token),
                    None if shard == TREE_SHARD && is_elsewhere => self.ask_for_registry(token),
                    None => self.log(Level::Warn, format!("a read came where no {shard} is")),
                },
                Ask::Send(node, shard, frame) => self.send_to_shard(node, shard, &frame),
                Ask::Link(link, to, step) => self.link_ask(link, to, step),
            }
        }
        if self.asks.is_empty() {
            self.asks = asks; // its room serves the next turn
        }
        let shards: Vec<ShardId> = self.unsent.keys().copied().collect();
        for shard in shards {
            self.send_proposals(now, shard);
        }
    }

    /// Hands gathered units to the leader, when there is one.
    fn send_proposals(&mut self, now: Now, shard: ShardId) {
        let Some((term, node)) = self.router.leader(shard) else {
            return;
        };
        let units = self.unsent.remove(&shard).unwrap_or_default();
        if shard == TREE_SHARD {
            self.zookeeper.mark_sent();
        }
        self.redis.mark_sent(shard);
        self.kafka.mark_sent(shard);
        self.desk.mark_sent(shard);
        if node == self.me.node && self.holds(shard) {
            let replica = self.replicas.get_mut(shard);
            let taken = replica.is_some_and(|r| units.into_iter().all(|unit| r.propose(unit)));
            if !taken {
                self.leader_lost(now, shard);
            }
        } else {
            self.frames_proposed += 1;
            let frame = Frame::Propose {
                shard,
                term,
                sender: self.sender,
                number: self.frames_proposed,
                units,
            };
            self.send_to_shard(node, shard, &frame);
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
        self.set_durabilities();
    }

    /// Single copies of pools with less durability acknowledge early, and are written late.
    pub(crate) fn set_durabilities(&mut self) {
        for id in self.replicas.ids() {
            let delay_us = match self.catalog.durability(id) {
                Durability::Always => None,
                Durability::EverySecond => Some(EVERY_SECOND_US),
                Durability::None => Some(NO_DURABILITY_US),
            };
            let lane = self.lane_of(id);
            if let (Some(shard), Some(lane)) =
                (self.replicas.get_mut(id), self.lanes.get_mut(&lane))
            {
                shard.set_lazy(delay_us.is_some());
                lane.journal.set_lazy(id, delay_us);
            }
        }
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
