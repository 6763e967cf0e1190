//! The simulated world: one queue of occurrences in order of (time, number), nodes with their clocks
//! and disks, and everything that they can see of each other and of clients.
//!
//! The world is single-threaded and a pure function of its seed and of what is asked of it.

use crate::clock::NodeClock;
use crate::disk::{Disk, Track};
use crate::network::{Connection, Network, Parcel};
use crate::process::{Boot, Process};
use crate::trace::Trace;
use base::{LaneId, NodeId, Rng};
use bytes::Bytes;
use node::{
    Action, AdminCommand, AdminReply, ClientId, CoreConfig, Endpoint, Event, RequestId, StreamId,
};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};

/// Events that a core is given before it must flush.
const BATCH_EVENTS_MAX: u64 = 32;

/// Something that will happen.
#[derive(Debug)]
pub(crate) enum Occurrence {
    Wake {
        node: usize,
        life: u64,
    },
    Timer {
        node: usize,
        life: u64,
    },
    Disk {
        node: usize,
        life: u64,
        lane: LaneId,
        track: Track,
    },
    Boot {
        node: usize,
    },
    Dialled {
        from: usize,
        life: u64,
        to: Endpoint,
    },
    Parcel {
        stream: StreamId,
        parcel: Parcel,
    },
    SendFailed {
        from: usize,
        life: u64,
        to: Endpoint,
    },
    ToServer {
        client: ClientId,
        note: ConnectionNote,
    },
    ToClient {
        client: ClientId,
        note: ConnectionNote,
    },
    /// The driver's own: clients' timers, faults, probes.
    Alarm(u64),
}

/// What travels on a client's connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ConnectionNote {
    /// It is open.
    Opened,
    /// Bytes, in order.
    Bytes(Bytes),
    /// It has ended, or was refused.
    Closed,
}

struct Entry {
    at_us: u64,
    number: u64,
    what: Occurrence,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}
impl Eq for Entry {}
impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at_us, self.number).cmp(&(other.at_us, other.number))
    }
}

/// Where a node is in its life.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum NodeState {
    /// Its process runs (perhaps stopped in its tracks for a while).
    Up,
    /// Its process does not run.
    Down,
    /// Its process said that it must stop, with these words.
    Stopped(String),
}

/// One node: a process with clocks and a disk of its own.
pub struct Node {
    /// Where others reach it.
    pub address: String,
    /// What its process is started with.
    pub config: CoreConfig,
    /// Whether it runs.
    pub state: NodeState,
    /// Counts starts.
    pub life: u64,
    /// Its clocks.
    pub clock: NodeClock,
    /// Its disk.
    pub disk: Disk,
    /// Accepts clients.
    pub accepting: bool,
    /// Gets no processor time before then.
    pub paused_until_us: u64,
    /// Drawn when the data directory is made, and again when an identity in it is missing.
    id: NodeId,
    process: Option<Box<dyn Process>>,
    inbox: VecDeque<Event>,
    wake_at_us: Option<u64>,
    timer_at_us: Option<u64>,
    busy_until_us: u64,
    rng: Rng,
}

impl Node {
    pub(crate) fn lives(&self, life: u64) -> bool {
        self.life == life && self.state == NodeState::Up
    }
}

/// What a step tells the driver.
#[derive(Debug)]
pub enum News {
    /// Something reached the far end of a client's connection.
    Client(ClientId, ConnectionNote),
    /// An alarm that was set rang.
    Alarm(u64),
    /// A node answered its administrator.
    Admin(RequestId, AdminReply),
    /// A node's process stopped by itself.
    Stopped(usize, String),
}

/// The world.
pub struct World {
    /// Simulated time in microseconds.
    pub now_us: u64,
    /// The nodes, those that left among them.
    pub nodes: Vec<Node>,
    /// What happened.
    pub trace: Trace,
    pub(crate) network: Network,
    pub(crate) connections: BTreeMap<ClientId, Connection>,
    next_client: u64,
    next_request: u64,
    queue: BinaryHeap<Reverse<Entry>>,
    next_number: u64,
    news: VecDeque<News>,
    boot: Boot,
    seed: Rng,
}

impl World {
    /// A world without nodes.
    pub fn new(seed: u64, boot: Boot, trace: Trace) -> Self {
        let seed = Rng::new(seed);
        Self {
            now_us: 0,
            nodes: Vec::new(),
            trace,
            network: Network::new(seed.fork(1)),
            connections: BTreeMap::new(),
            next_client: 1,
            next_request: 1,
            queue: BinaryHeap::new(),
            next_number: 0,
            news: VecDeque::new(),
            boot,
            seed,
        }
    }

    /// Adds a node that does not run yet. `config` says where it is and whom it knows.
    pub fn add_node(&mut self, config: CoreConfig) -> usize {
        let number = self.nodes.len();
        let mut rng = self.seed.fork(1_000 + number as u64);
        let offset_ms = rng.range(0, 400) as i64 - 200;
        let drift_ppm = rng.range(0, 401) as i64 - 200;
        self.nodes.push(Node {
            address: config.address.clone(),
            disk: Disk::new(config.lanes, self.seed.fork(2_000 + number as u64)),
            config,
            state: NodeState::Down,
            life: 0,
            clock: NodeClock::new(offset_ms, drift_ppm),
            accepting: false,
            paused_until_us: 0,
            id: NodeId(0),
            process: None,
            inbox: VecDeque::new(),
            wake_at_us: None,
            timer_at_us: None,
            busy_until_us: 0,
            rng,
        });
        number
    }

    pub(crate) fn schedule(&mut self, at_us: u64, what: Occurrence) {
        let number = self.next_number;
        self.next_number += 1;
        self.queue.push(Reverse(Entry {
            at_us: at_us.max(self.now_us),
            number,
            what,
        }));
    }

    /// Rings [`News::Alarm`] at `at_us`.
    pub fn set_alarm(&mut self, at_us: u64, token: u64) {
        self.schedule(at_us, Occurrence::Alarm(token));
    }

    /// Starts a node's process at `at_us`, unless it runs by then.
    pub fn boot_at(&mut self, at_us: u64, node: usize) {
        self.schedule(at_us, Occurrence::Boot { node });
    }

    /// True while the node's process runs.
    pub fn is_up(&self, node: usize) -> bool {
        self.nodes[node].state == NodeState::Up
    }

    fn start(&mut self, number: usize) {
        let now_us = self.now_us;
        let boot = self.boot;
        let node = &mut self.nodes[number];
        if node.state == NodeState::Up {
            return;
        }
        node.state = NodeState::Up;
        node.life += 1;
        let origin = node.rng.range(0, 1 << 40);
        node.clock.restart(now_us, origin);
        let mut config = node.config.clone();
        config.seed = node.rng.next_u64();
        node.rng.fill(&mut config.secret);
        let whole = (0..config.lanes).all(|lane| node.disk.identity(LaneId(lane)).is_some());
        if !whole || node.id.0 == 0 {
            node.id = NodeId(node.rng.next_u64() | 1);
        }
        config.node = node.id;
        let now = node.clock.read(now_us);
        node.process = Some(boot(now, config, &node.disk));
        node.inbox.clear();
        node.wake_at_us = None;
        node.timer_at_us = None;
        node.busy_until_us = now_us;
        node.paused_until_us = 0;
        node.accepting = false;
        let life = node.life;
        self.trace
            .note(now_us, &format!("node{number} starts (life {life})"));
        self.deliver(number, Event::Tick);
    }

    /// The node's process dies; with `power` its machine does, and what was not synced may be lost.
    pub fn crash(&mut self, number: usize, power: bool) {
        if self.nodes[number].state == NodeState::Up {
            self.end_process(number, NodeState::Down, power);
            let how = if power { "loses power" } else { "is killed" };
            self.trace.note(self.now_us, &format!("node{number} {how}"));
        }
    }

    fn end_process(&mut self, number: usize, state: NodeState, power: bool) {
        let node = &mut self.nodes[number];
        node.state = state;
        node.process = None;
        node.inbox.clear();
        node.accepting = false;
        node.disk.crash(power);
        self.drop_streams_of(number, power);
        self.drop_connections_of(number);
    }

    /// The node gets no processor time until `until_us`.
    pub fn pause(&mut self, node: usize, until_us: u64) {
        self.nodes[node].paused_until_us = until_us;
        self.trace.note(
            self.now_us,
            &format!("node{node} stands still until {} ms", until_us / 1000),
        );
    }

    /// Hands an event to a node's process, when it next runs.
    pub(crate) fn deliver(&mut self, number: usize, event: Event) {
        let now_us = self.now_us;
        let node = &mut self.nodes[number];
        if node.process.is_none() {
            return;
        }
        node.inbox.push_back(event);
        if node.wake_at_us.is_none() {
            let at_us = (now_us + 1)
                .max(node.busy_until_us)
                .max(node.paused_until_us);
            node.wake_at_us = Some(at_us);
            let life = node.life;
            self.schedule(at_us, Occurrence::Wake { node: number, life });
        }
    }

    fn wake(&mut self, number: usize) {
        let now_us = self.now_us;
        let node = &mut self.nodes[number];
        node.wake_at_us = None;
        if node.paused_until_us > now_us {
            let (at_us, life) = (node.paused_until_us, node.life);
            node.wake_at_us = Some(at_us);
            self.schedule(at_us, Occurrence::Wake { node: number, life });
            return;
        }
        let Some(mut process) = node.process.take() else {
            return;
        };
        let batch = node.rng.range(1, BATCH_EVENTS_MAX + 1);
        let mut cost_us = 3;
        let now = node.clock.read(now_us);
        for _ in 0..batch {
            let Some(event) = node.inbox.pop_front() else {
                break;
            };
            cost_us += 2;
            if let Event::SendFailed { to } = &event {
                self.network.told_of_failure(number, to);
            }
            self.trace.event(now_us, number, &event);
            process.handle(now, event);
        }
        process.flush(now);
        let busy_until_us = now_us + cost_us;
        node.busy_until_us = busy_until_us;
        let life = node.life;
        node.process = Some(process);
        // Actions take place as the processor gets to them; none is later than the next batch.
        while self.nodes[number].life == life {
            let Some(process) = self.nodes[number].process.as_mut() else {
                return;
            };
            let Some(action) = process.poll_action() else {
                break;
            };
            self.trace.action(now_us, number, &action);
            self.act(number, action);
        }
        let node = &mut self.nodes[number];
        let Some(process) = node.process.as_ref() else {
            return;
        };
        let deadline_us = process.deadline_us();
        if deadline_us < u64::MAX {
            let at_us = node.clock.when(deadline_us).max(now_us + 50);
            if node.timer_at_us != Some(at_us) {
                node.timer_at_us = Some(at_us);
                self.schedule(at_us, Occurrence::Timer { node: number, life });
            }
        }
        let node = &mut self.nodes[number];
        if !node.inbox.is_empty() && node.wake_at_us.is_none() {
            node.wake_at_us = Some(busy_until_us);
            self.schedule(busy_until_us, Occurrence::Wake { node: number, life });
        }
    }

    fn act(&mut self, number: usize, action: Action) {
        match action {
            Action::SendPeer { to, frame } => self.send_peer(number, to, frame),
            Action::ClosePeer { stream } => self.close_stream_at_receiver(number, stream),
            Action::SendClient { client, bytes } => {
                self.server_note(number, client, ConnectionNote::Bytes(bytes));
            }
            Action::PauseClient { client, paused } => self.pause_connection(client, paused),
            Action::CloseClient { client } => {
                self.server_note(number, client, ConnectionNote::Closed);
            }
            Action::Disk { lane, op } => {
                let now_us = self.now_us;
                let life = self.nodes[number].life;
                if let Some((at_us, track)) = self.nodes[number].disk.submit(now_us, lane, op) {
                    let node = number;
                    self.schedule(
                        at_us,
                        Occurrence::Disk {
                            node,
                            life,
                            lane,
                            track,
                        },
                    );
                }
            }
            Action::OpenFrontEnd(_) => self.nodes[number].accepting = true,
            Action::CloseFrontEnd(_) => {
                self.nodes[number].accepting = false;
                self.drop_connections_of(number);
            }
            Action::AdminReply { request, reply } => {
                self.news.push_back(News::Admin(request, reply));
            }
            Action::Log { .. } => {}
            Action::Stop { reason } => {
                self.trace
                    .note(self.now_us, &format!("node{number} stops: {reason}"));
                self.end_process(number, NodeState::Stopped(reason.clone()), false);
                self.news.push_back(News::Stopped(number, reason));
            }
        }
    }

    /// Asks a node something; [`News::Admin`] answers, unless the node dies first.
    pub fn ask(&mut self, node: usize, command: AdminCommand) -> RequestId {
        let request = RequestId(self.next_request);
        self.next_request += 1;
        self.deliver(node, Event::Admin { request, command });
        request
    }

    /// A new connection of a client to a node; [`News::Client`] tells whether it opened.
    pub fn connect(&mut self, node: usize) -> ClientId {
        let client = ClientId(self.next_client);
        self.next_client += 1;
        self.dial_client(client, node);
        client
    }

    /// Goes on until there is news, or until nothing happens before `until_us`.
    pub fn step(&mut self, until_us: u64) -> Option<News> {
        loop {
            if let Some(news) = self.news.pop_front() {
                return Some(news);
            }
            match self.queue.peek() {
                Some(Reverse(entry)) if entry.at_us <= until_us => {}
                _ => {
                    self.now_us = self.now_us.max(until_us);
                    return None;
                }
            }
            let Reverse(entry) = self.queue.pop().expect("peeked");
            self.now_us = entry.at_us;
            self.occur(entry.what);
        }
    }

    fn occur(&mut self, what: Occurrence) {
        match what {
            Occurrence::Wake { node, life } => {
                if self.nodes[node].lives(life) {
                    self.wake(node);
                }
            }
            Occurrence::Timer { node, life } => {
                if self.nodes[node].lives(life) && self.nodes[node].timer_at_us == Some(self.now_us)
                {
                    self.nodes[node].timer_at_us = None;
                    self.deliver(node, Event::Tick);
                }
            }
            Occurrence::Disk {
                node,
                life,
                lane,
                track,
            } => {
                if self.nodes[node].lives(life)
                    && let Some((ticket, result)) = self.nodes[node].disk.complete(lane, track)
                {
                    let event = Event::DiskDone {
                        lane,
                        ticket,
                        result,
                    };
                    self.deliver(node, event);
                }
            }
            Occurrence::Boot { node } => self.start(node),
            Occurrence::Dialled { from, life, to } => {
                if self.nodes[from].lives(life) {
                    self.dialled(from, to);
                }
            }
            Occurrence::Parcel { stream, parcel } => self.arrive(stream, parcel),
            Occurrence::SendFailed { from, life, to } => {
                if self.nodes[from].lives(life) {
                    self.deliver(from, Event::SendFailed { to });
                }
            }
            Occurrence::ToServer { client, note } => self.reach_server(client, note),
            Occurrence::ToClient { client, note } => {
                if self.reach_client(client, &note) {
                    self.news.push_back(News::Client(client, note));
                }
            }
            Occurrence::Alarm(token) => self.news.push_back(News::Alarm(token)),
        }
    }

    /// What the process of `from` says first on a stream to `to`.
    pub(crate) fn hello_of(&self, from: usize, to: &Endpoint) -> Option<node::Hello> {
        Some(self.nodes[from].process.as_ref()?.hello(to))
    }
}
