//! The simulated world: one queue of occurrences in order of (time, number), nodes with their clocks
//! and disks, and everything that they can see of each other and of clients.
//!
//! The world is single-threaded and a pure function of its seed and of what is asked of it.

use crate::clock::NodeClock;
use crate::disk::{Disk, Track};
use crate::network::{Connection, Network, Parcel};
use crate::process::{Boot, Process};
use crate::trace::Trace;
use base::{CoreId, LaneId, NodeId, Rng};
use bytes::Bytes;
use node::{
    Action, AdminCommand, AdminReply, Call, CallReply, ClientId, CoreConfig, Endpoint, Event,
    FrontEnd, Probe, ProbeResult, ProbeTarget, RequestId, StreamId,
};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};

/// Events that a core is given before it must flush.
const BATCH_EVENTS_MAX: u64 = 32;

/// One core of a node.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Place {
    pub node: usize,
    pub core: u16,
}

/// Something that will happen.
#[derive(Debug)]
pub(crate) enum Occurrence {
    Wake {
        place: Place,
        life: u64,
    },
    Timer {
        place: Place,
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
        from: Place,
        life: u64,
        to: Endpoint,
    },
    Parcel {
        stream: StreamId,
        parcel: Parcel,
    },
    SendFailed {
        from: Place,
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

/// One core of a node that runs.
struct Seat {
    process: Box<dyn Process>,
    inbox: VecDeque<Event>,
    wake_at_us: Option<u64>,
    timer_at_us: Option<u64>,
    busy_until_us: u64,
    /// The front ends that accept clients.
    accepting: BTreeSet<FrontEnd>,
}

/// One node: cores with clocks and a disk in common.
pub struct Node {
    /// Where others reach it.
    pub address: String,
    /// What its cores are started with; each start draws their number from 1 to that in it.
    pub config: CoreConfig,
    /// Whether it runs.
    pub state: NodeState,
    /// Counts starts.
    pub life: u64,
    /// Its clocks.
    pub clock: NodeClock,
    /// Its disk.
    pub disk: Disk,
    /// Gets no processor time before then.
    pub paused_until_us: u64,
    /// Drawn when the data directory is made, and again when an identity in it is missing.
    id: NodeId,
    seats: Vec<Seat>,
    rng: Rng,
}

impl Node {
    /// Cores that run.
    pub fn cores(&self) -> u16 {
        self.seats.len() as u16
    }

    /// The core that takes a client's connection to a front end: any that accepts.
    pub(crate) fn accepting(&self, client: ClientId, front: FrontEnd) -> Option<u16> {
        let accepting = |core: &u16| self.seats[usize::from(*core)].accepting.contains(&front);
        let cores: Vec<u16> = (0..self.cores()).filter(accepting).collect();
        let pick = client.0.checked_rem(cores.len() as u64)?;
        Some(cores[pick as usize])
    }

    /// Under which name the others know it.
    pub(crate) fn id(&self) -> NodeId {
        self.id
    }

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
    /// A node answered a call.
    Called(RequestId, CallReply),
    /// A node asks whether something answers; [`World::probed`] is to be told.
    Probe(Probing),
    /// A node's process stopped by itself.
    Stopped(usize, String),
}

/// A node's question whether something answers.
#[derive(Clone, Debug)]
pub(crate) struct Probing {
    place: Place,
    life: u64,
    probe: Probe,
    /// Whom it asks.
    pub target: ProbeTarget,
    /// How long it may take.
    pub timeout_us: u64,
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
    /// Orders that a node's next core is asked when one refuses.
    orders: BTreeMap<RequestId, (Place, u64, AdminCommand)>,
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
            orders: BTreeMap::new(),
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
            paused_until_us: 0,
            id: NodeId(0),
            seats: Vec::new(),
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
        if config.cores > 1 {
            config.cores = node.rng.range(1, u64::from(config.cores) + 1) as u16;
        }
        let now = node.clock.read(now_us);
        node.seats.clear();
        for core in 0..config.cores {
            let mut config = config.clone();
            config.core = CoreId(core);
            if core > 0 {
                config.seed = node.rng.next_u64();
            }
            node.seats.push(Seat {
                process: boot(now, config, &node.disk),
                inbox: VecDeque::new(),
                wake_at_us: None,
                timer_at_us: None,
                busy_until_us: now_us,
                accepting: BTreeSet::new(),
            });
        }
        node.paused_until_us = 0;
        let life = node.life;
        let cores = match config.cores {
            1 => String::new(),
            cores => format!(", {cores} cores"),
        };
        self.trace
            .note(now_us, &format!("node{number} starts (life {life}{cores})"));
        for core in 0..config.cores {
            let node = number;
            self.deliver(Place { node, core }, Event::Tick);
        }
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
        node.seats.clear();
        node.disk.crash(power);
        self.drop_streams_of(number, power);
        self.drop_connections_of(|at, _| at.node == number);
    }

    /// The node gets no processor time until `until_us`.
    pub fn pause(&mut self, node: usize, until_us: u64) {
        self.nodes[node].paused_until_us = until_us;
        self.trace.note(
            self.now_us,
            &format!("node{node} stands still until {} ms", until_us / 1000),
        );
    }

    /// Hands an event to a core, when it next runs.
    pub(crate) fn deliver(&mut self, place: Place, event: Event) {
        let now_us = self.now_us;
        let node = &mut self.nodes[place.node];
        let Some(seat) = node.seats.get_mut(usize::from(place.core)) else {
            return;
        };
        seat.inbox.push_back(event);
        if seat.wake_at_us.is_none() {
            let at_us = (now_us + 1)
                .max(seat.busy_until_us)
                .max(node.paused_until_us);
            seat.wake_at_us = Some(at_us);
            let life = node.life;
            self.schedule(at_us, Occurrence::Wake { place, life });
        }
    }

    fn wake(&mut self, place: Place) {
        let now_us = self.now_us;
        let (number, core) = (place.node, usize::from(place.core));
        let node = &mut self.nodes[number];
        let life = node.life;
        let Some(seat) = node.seats.get_mut(core) else {
            return;
        };
        seat.wake_at_us = None;
        if node.paused_until_us > now_us {
            let at_us = node.paused_until_us;
            seat.wake_at_us = Some(at_us);
            self.schedule(at_us, Occurrence::Wake { place, life });
            return;
        }
        let batch = node.rng.range(1, BATCH_EVENTS_MAX + 1);
        let mut cost_us = 3;
        let now = node.clock.read(now_us);
        for _ in 0..batch {
            let Some(event) = seat.inbox.pop_front() else {
                break;
            };
            cost_us += 2;
            if let Event::SendFailed { to } = &event {
                self.network.told_of_failure(place, to);
            }
            self.trace.event(now_us, place, &event);
            seat.process.handle(now, event);
        }
        seat.process.flush(now);
        let busy_until_us = now_us + cost_us;
        seat.busy_until_us = busy_until_us;
        // Actions take place as the processor gets to them; none is later than the next batch.
        while self.nodes[number].life == life {
            let Some(seat) = self.nodes[number].seats.get_mut(core) else {
                return;
            };
            let Some(action) = seat.process.poll_action() else {
                break;
            };
            self.trace.action(now_us, place, &action);
            self.act(place, action);
        }
        let node = &mut self.nodes[number];
        let Some(seat) = node.seats.get_mut(core) else {
            return;
        };
        let deadline_us = seat.process.deadline_us();
        let mut timer_at_us = None;
        if deadline_us < u64::MAX {
            let at_us = node.clock.when(deadline_us).max(now_us + 50);
            if seat.timer_at_us != Some(at_us) {
                seat.timer_at_us = Some(at_us);
                timer_at_us = Some(at_us);
            }
        }
        let again = !seat.inbox.is_empty() && seat.wake_at_us.is_none();
        if again {
            seat.wake_at_us = Some(busy_until_us);
        }
        if let Some(at_us) = timer_at_us {
            self.schedule(at_us, Occurrence::Timer { place, life });
        }
        if again {
            self.schedule(busy_until_us, Occurrence::Wake { place, life });
        }
    }

    fn act(&mut self, place: Place, action: Action) {
        let number = place.node;
        match action {
            Action::SendPeer { to, frame } => self.send_peer(place, to, frame),
            Action::ClosePeer { stream } => self.close_stream_at_receiver(place, stream),
            Action::SendClient { client, bytes } => {
                self.server_note(place, client, ConnectionNote::Bytes(bytes));
            }
            Action::AwaitDrain { client } => {
                self.deliver(place, Event::ClientDrained { client });
            }
            Action::PauseClient { client, paused } => self.pause_connection(client, paused),
            Action::CloseClient { client } => {
                self.server_note(place, client, ConnectionNote::Closed);
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
            Action::OpenFrontEnd(front) => self.accept(place, front, true),
            Action::CloseFrontEnd(front) => {
                self.accept(place, front, false);
                self.drop_connections_of(|at, of| (at, of) == (place, front));
            }
            Action::AdminReply { request, reply } => self.answer(request, reply),
            Action::CallReply { request, reply } => {
                self.news.push_back(News::Called(request, reply));
            }
            Action::Probe {
                probe,
                target,
                timeout_us,
            } => {
                let life = self.nodes[number].life;
                self.news.push_back(News::Probe(Probing {
                    place,
                    life,
                    probe,
                    target,
                    timeout_us,
                }));
            }
            Action::Log { .. } => {}
            Action::Stop { reason, .. } => {
                self.trace
                    .note(self.now_us, &format!("node{number} stops: {reason}"));
                self.end_process(number, NodeState::Stopped(reason.clone()), false);
                self.news.push_back(News::Stopped(number, reason));
            }
        }
    }

    fn accept(&mut self, place: Place, front: FrontEnd, accepting: bool) {
        if let Some(seat) = self.nodes[place.node]
            .seats
            .get_mut(usize::from(place.core))
        {
            if accepting {
                seat.accepting.insert(front);
            } else {
                seat.accepting.remove(&front);
            }
        }
    }

    /// Asks one core something; [`News::Admin`] answers, unless the node dies first.
    pub(crate) fn ask_core(&mut self, place: Place, command: AdminCommand) -> RequestId {
        let request = RequestId(self.next_request);
        self.next_request += 1;
        self.deliver(place, Event::Admin { request, command });
        request
    }

    /// Calls one core; [`News::Called`] answers, unless the node dies first.
    pub(crate) fn call(&mut self, place: Place, call: Call) -> RequestId {
        let request = RequestId(self.next_request);
        self.next_request += 1;
        self.deliver(place, Event::Call { request, call });
        request
    }

    /// A question of a node has its answer.
    pub(crate) fn probed(&mut self, probing: &Probing, result: ProbeResult) {
        if self.nodes[probing.place.node].lives(probing.life) {
            let probe = probing.probe;
            self.deliver(probing.place, Event::Probed { probe, result });
        }
    }

    /// Asks a node's cores in turn until one does not refuse: a shard lies on one core of a node.
    pub fn ask(&mut self, node: usize, command: AdminCommand) -> RequestId {
        let place = Place { node, core: 0 };
        let request = self.ask_core(place, command.clone());
        if self.nodes[node].cores() > 1 {
            let life = self.nodes[node].life;
            self.orders.insert(request, (place, life, command));
        }
        request
    }

    fn answer(&mut self, request: RequestId, reply: AdminReply) {
        if let Some((place, life, command)) = self.orders.remove(&request)
            && matches!(reply, AdminReply::Refused { .. })
            && self.nodes[place.node].lives(life)
            && place.core + 1 < self.nodes[place.node].cores()
        {
            let place = Place {
                core: place.core + 1,
                ..place
            };
            self.orders.insert(request, (place, life, command.clone()));
            self.deliver(place, Event::Admin { request, command });
            return;
        }
        self.news.push_back(News::Admin(request, reply));
    }

    /// A new connection of a client to a node's front end; [`News::Client`] tells whether it opened.
    pub fn connect(&mut self, node: usize, front: FrontEnd) -> ClientId {
        let client = ClientId(self.next_client);
        self.next_client += 1;
        self.dial_client(client, node, front);
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
            Occurrence::Wake { place, life } => {
                if self.nodes[place.node].lives(life) {
                    self.wake(place);
                }
            }
            Occurrence::Timer { place, life } => {
                let now_us = self.now_us;
                let node = &mut self.nodes[place.node];
                if node.lives(life)
                    && let Some(seat) = node.seats.get_mut(usize::from(place.core))
                    && seat.timer_at_us == Some(now_us)
                {
                    seat.timer_at_us = None;
                    self.deliver(place, Event::Tick);
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
                    let core = lane.0 % self.nodes[node].cores();
                    self.deliver(Place { node, core }, event);
                }
            }
            Occurrence::Boot { node } => self.start(node),
            Occurrence::Dialled { from, life, to } => {
                if self.nodes[from.node].lives(life) {
                    self.dialled(from, to);
                }
            }
            Occurrence::Parcel { stream, parcel } => self.arrive(stream, parcel),
            Occurrence::SendFailed { from, life, to } => {
                if self.nodes[from.node].lives(life) {
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
    pub(crate) fn hello_of(&self, from: Place, to: &Endpoint) -> Option<node::Hello> {
        let seat = self.nodes[from.node].seats.get(usize::from(from.core))?;
        Some(seat.process.hello(to))
    }
}
