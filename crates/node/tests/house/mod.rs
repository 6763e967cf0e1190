//! Whole nodes in one process: a perfect network without delay, disks in memory, one clock. No faults but
//! those that a test makes between boots; the lab is for the rest.

use base::{CoreId, LaneId, NodeId, Now, SessionId};
use bytes::Bytes;
use journal::{DiskOp, DiskResult, FileId, Recovery, Ticket};
use node::{
    Action, AdminCommand, AdminReply, Call, CallReply, ClientId, Core, CoreConfig, DiskSpace,
    Endpoint, Event, FrontEnd, Hello, LaneStart, PoolSpec, Probe, ProbeResult, ProbeTarget,
    RequestId, Status, StreamId,
};
use std::collections::{BTreeMap, VecDeque};
use wire_zookeeper::ConnectRequest;
use wire_zookeeper::client::{ConnectResponse, Decoder, Response, request};

const STEP_US: u64 = 5_000;
/// Rounds of messages in one step; what is left goes on in the next.
const ROUNDS_MAX: usize = 200;

pub type Disk = BTreeMap<FileId, Vec<u8>>;

/// One machine: a data directory, and the node that runs on it.
pub struct Machine {
    /// The machine version that its build can apply.
    pub version: u16,
    pub address: String,
    pub members: Vec<String>,
    pub cores: u16,
    pub disks: Vec<Disk>,
    pub node: NodeId,
    pub log: Vec<String>,
    pub stopped: Option<String>,
    pub serves: Option<usize>,
    /// Its disks have not got round to what concerns the identity.
    pub identity_waits: bool,
    running: Vec<Core>,
    inboxes: Vec<VecDeque<Event>>,
    replies: Vec<AdminReply>,
    /// Probes that it has run.
    pub probed: u32,
    answers: BTreeMap<RequestId, CallReply>,
}

impl Machine {
    fn new(address: String, members: Vec<String>, lanes: u16) -> Self {
        Self {
            address,
            members,
            version: 1,
            cores: 1,
            disks: vec![Disk::default(); usize::from(lanes)],
            node: NodeId(0),
            log: Vec::new(),
            stopped: None,
            serves: None,
            identity_waits: false,
            running: Vec::new(),
            inboxes: Vec::new(),
            replies: Vec::new(),
            probed: 0,
            answers: BTreeMap::new(),
        }
    }
}

/// A client's end of a connection.
pub struct Client {
    machine: usize,
    core: usize,
    decoder: Decoder,
    /// What came, in order.
    pub heard: Vec<Response>,
    pub closed: bool,
    /// False: what was sent to it stays on its way.
    pub reads: bool,
    is_awaited: bool,
}

struct Stream {
    id: StreamId,
    hello: Hello,
}

#[derive(Default)]
pub struct House {
    pub now: Now,
    /// Shards of pool `main` of a cluster that is formed here; 0 is 1.
    pub main_shards: u16,
    pub machines: Vec<Machine>,
    pub clients: BTreeMap<ClientId, Client>,
    /// What does not answer probes.
    pub refuses: Vec<ProbeTarget>,
    /// Services do not answer calls of global transactions, nor does anybody say so.
    pub keeps_calls: bool,
    streams: BTreeMap<(usize, usize, Endpoint), Stream>,
    next: u64,
}

impl House {
    /// `n` machines that name each other, none of them running.
    pub fn new(n: usize, lanes: u16) -> Self {
        let members: Vec<String> = (0..n).map(|i| format!("10.0.0.{i}:7401")).collect();
        Self {
            now: Now {
                mono_us: 1_000_000,
                wall_ms: 1_700_000_000_000,
            },
            machines: (members.iter())
                .map(|address| Machine::new(address.clone(), members.clone(), lanes))
                .collect(),
            next: 1,
            ..Self::default()
        }
    }

    /// A cluster that serves.
    pub fn serving(n: usize, lanes: u16) -> Self {
        let mut house = Self::new(n, lanes);
        (0..n).for_each(|m| house.boot(m));
        house.until_all_serve();
        house
    }

    /// One more machine, with a data directory like the others'.
    pub fn add(&mut self) -> usize {
        let m = self.machines.len();
        let lanes = self.machines[0].disks.len() as u16;
        let machine = Machine::new(format!("10.0.0.{m}:7401"), Vec::new(), lanes);
        self.machines.push(machine);
        m
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    pub fn boot(&mut self, m: usize) {
        let number = self.number();
        let machine = &mut self.machines[m];
        assert!(machine.running.is_empty(), "it runs already");
        let whole = (machine.disks.iter()).all(|d| d.contains_key(&FileId::Identity));
        if !whole {
            machine.node = NodeId(0x1000 + number);
        }
        machine.stopped = None;
        for core in 0..machine.cores {
            let config = CoreConfig {
                core: CoreId(core),
                cores: machine.cores,
                lanes: machine.disks.len() as u16,
                address: machine.address.clone(),
                initial_members: machine.members.clone(),
                machine_version: machine.version,
                node: machine.node,
                chunks_address: Some(machine.address.clone()),
                files_copy_after_us: 5_000_000,
                pools: vec![PoolSpec::main(self.main_shards.max(1))],
                seed: number.wrapping_mul(0x9E37_79B9_7F4A_7C15),
                ..CoreConfig::default()
            };
            let mine = (machine.disks.iter().enumerate())
                .map(|(lane, disk)| (LaneId(lane as u16), disk))
                .filter(|(lane, _)| lane.0 % machine.cores == core);
            let starts = mine.map(|(lane, disk)| (lane, lane_start(disk))).collect();
            (machine.running).push(Core::new(self.now, config, starts));
            // As a host does: what its start led to is polled at once.
            machine.inboxes.push(VecDeque::from([Event::Tick]));
        }
    }

    /// The process ends. The disks in memory lose nothing: torn and lost writes are the lab's.
    pub fn kill(&mut self, m: usize) {
        let machine = &mut self.machines[m];
        machine.running.clear();
        machine.inboxes.clear();
        machine.serves = None;
        let gone: Vec<_> = (self.streams.keys())
            .filter(|(from, _, to)| *from == m || to.address == machine.address)
            .cloned()
            .collect();
        for key in gone {
            self.end_stream(&key);
        }
        for client in self.clients.values_mut().filter(|c| c.machine == m) {
            client.closed = true;
        }
    }

    fn post(&mut self, m: usize, core: usize, event: Event) {
        if let Some(inbox) = self.machines[m].inboxes.get_mut(core) {
            inbox.push_back(event);
        }
    }

    fn machine_at(&self, to: &Endpoint) -> Option<(usize, usize)> {
        let m = (self.machines.iter()).position(|m| m.address == to.address)?;
        let core = usize::from(to.core.0);
        (core < self.machines[m].running.len()).then_some((m, core))
    }

    fn end_stream(&mut self, key: &(usize, usize, Endpoint)) {
        if let Some(stream) = self.streams.remove(key)
            && let Some((m, core)) = self.machine_at(&key.2)
        {
            self.post(m, core, Event::PeerClosed { stream: stream.id });
        }
    }

    // --- running ---

    /// Lets time pass.
    pub fn run(&mut self, ms: u64) {
        for _ in 0..ms * 1000 / STEP_US {
            self.now.mono_us += STEP_US;
            self.now.wall_ms += STEP_US as i64 / 1000;
            for _ in 0..ROUNDS_MAX {
                if !self.round() {
                    break;
                }
            }
        }
    }

    /// Lets time pass until something holds; panics after 30 s.
    pub fn run_until(&mut self, what: &str, holds: impl Fn(&mut Self) -> bool) {
        for _ in 0..3_000 {
            if holds(self) {
                return;
            }
            self.run(10);
        }
        let logs: Vec<_> = self.machines.iter().map(|m| m.log.join("\n")).collect();
        panic!("not within 30 s: {what}\n{}", logs.join("\n---\n"));
    }

    pub fn until_all_serve(&mut self) {
        self.run_until("all serve", |house| {
            house
                .machines
                .iter()
                .all(|m| m.running.is_empty() || m.serves.is_some())
        });
    }

    /// Lets all do what there is to do now, once: what they send arrives in the next round.
    pub fn round(&mut self) -> bool {
        let mut busy = false;
        for m in 0..self.machines.len() {
            for core in 0..self.machines[m].running.len() {
                let now = self.now;
                let machine = &mut self.machines[m];
                let (Some(running), Some(inbox)) =
                    (machine.running.get_mut(core), machine.inboxes.get_mut(core))
                else {
                    continue;
                };
                if running.deadline_us() <= now.mono_us {
                    inbox.push_back(Event::Tick);
                }
                if inbox.is_empty() {
                    continue;
                }
                busy = true;
                for event in inbox.drain(..) {
                    running.handle(now, event);
                }
                running.flush(now);
                while let Some(action) =
                    (self.machines[m].running.get_mut(core)).and_then(Core::poll_action)
                {
                    self.act(m, core, action);
                }
            }
        }
        busy
    }

    fn act(&mut self, m: usize, core: usize, action: Action) {
        match action {
            Action::SendPeer { to, frame } => self.send(m, core, to, frame),
            Action::ClosePeer { stream } => self.streams.retain(|_, s| s.id != stream),
            Action::SendClient { client, bytes } => {
                if let Some(client) = self.clients.get_mut(&client).filter(|c| !c.closed) {
                    client.decoder.handle_bytes(&bytes);
                    while let Some(response) = client.decoder.poll().expect("a readable reply") {
                        client.heard.push(response);
                    }
                }
            }
            Action::PauseClient { .. } => {}
            Action::AwaitDrain { client } => match self.clients.get_mut(&client) {
                Some(slow) if !slow.reads => slow.is_awaited = true,
                _ => self.post(m, core, Event::ClientDrained { client }),
            },
            Action::CloseClient { client } => {
                if let Some(client) = self.clients.get_mut(&client) {
                    client.closed = true;
                }
            }
            Action::Disk { lane, op } => {
                if self.machines[m].identity_waits && concerns_identity(&op) {
                    return;
                }
                let disk = &mut self.machines[m].disks[usize::from(lane.0)];
                if let Some((ticket, result)) = execute(disk, op) {
                    let event = Event::DiskDone {
                        lane,
                        ticket,
                        result,
                    };
                    self.post(m, core, event);
                }
            }
            Action::OpenFrontEnd(FrontEnd::Zookeeper) => self.machines[m].serves = Some(core),
            Action::CloseFrontEnd(FrontEnd::Zookeeper) => self.machines[m].serves = None,
            Action::OpenFrontEnd(_) | Action::CloseFrontEnd(_) => {}
            Action::AdminReply { reply, .. } => self.machines[m].replies.push(reply),
            Action::CallReply { request, reply } => {
                self.machines[m].answers.insert(request, reply);
            }
            Action::Probe { probe, target, .. } => {
                self.machines[m].probed += 1;
                let is_call = matches!(probe, Probe::Call { .. });
                if is_call && self.keeps_calls {
                    return;
                }
                let result = match self.refuses.contains(&target) {
                    true => ProbeResult::Failed {
                        why: "connection refused".into(),
                    },
                    false if is_call => ProbeResult::Answered {
                        code: 200,
                        body: String::new(),
                    },
                    false => ProbeResult::Connected,
                };
                self.post(m, core, Event::Probed { probe, result });
            }
            Action::Log { message, .. } => self.machines[m].log.push(message),
            Action::Stop { reason, .. } => {
                self.kill(m);
                self.machines[m].stopped = Some(reason);
            }
        }
    }

    fn send(&mut self, m: usize, core: usize, to: Endpoint, frame: Bytes) {
        let Some((receiver, its_core)) = self.machine_at(&to) else {
            self.post(m, core, Event::SendFailed { to });
            return;
        };
        let hello = self.machines[m].running[core].hello(&to);
        let key = (m, core, to);
        if self.streams.get(&key).is_some_and(|s| s.hello != hello) {
            self.end_stream(&key);
        }
        if !self.streams.contains_key(&key) {
            let stream = StreamId(self.number());
            let said = Hello::decode(&hello.encode()).expect("a greeting is read back");
            let opened = Event::PeerOpened {
                stream,
                hello: said,
            };
            self.post(receiver, its_core, opened);
            let id = stream;
            self.streams.insert(key.clone(), Stream { id, hello });
        }
        let stream = self.streams[&key].id;
        self.post(receiver, its_core, Event::PeerFrame { stream, frame });
    }

    /// What a host measures: little room on this machine's disk, or enough.
    pub fn measure(&mut self, m: usize, low: bool) {
        let (total_bytes, free_bytes) = (1_000, if low { 1 } else { 500 });
        for core in 0..self.machines[m].running.len() {
            let space = DiskSpace {
                free_bytes,
                total_bytes,
                low,
            };
            self.post(m, core, Event::DiskSpace(space));
        }
    }

    // --- people and clients ---

    /// The answer of a core to people.
    fn tell(&mut self, m: usize, core: usize, command: AdminCommand) -> AdminReply {
        let request = RequestId(self.number());
        self.machines[m].replies.clear();
        self.post(m, core, Event::Admin { request, command });
        while self.machines[m].replies.is_empty() {
            assert!(self.round(), "an order is answered");
        }
        self.machines[m].replies.remove(0)
    }

    /// The answer of a machine's first core.
    pub fn order(&mut self, m: usize, command: AdminCommand) -> AdminReply {
        self.tell(m, 0, command)
    }

    /// Calls a machine's first core; the answer is to be had from [`Self::answer`].
    pub fn call(&mut self, m: usize, call: Call) -> RequestId {
        let request = RequestId(self.number());
        self.post(m, 0, Event::Call { request, call });
        request
    }

    /// Nobody waits for a call any more.
    pub fn hang_up(&mut self, m: usize, request: RequestId) {
        self.post(m, 0, Event::HungUp { request });
    }

    /// The answer to a call, if it has come.
    pub fn answer(&mut self, m: usize, request: RequestId) -> Option<CallReply> {
        self.machines[m].answers.remove(&request)
    }

    /// The answer to a call, awaited.
    pub fn called(&mut self, m: usize, call: Call) -> CallReply {
        let request = self.call(m, call);
        self.run_until("the call is answered", |h| {
            h.machines[m].answers.contains_key(&request)
        });
        self.answer(m, request).expect("it is there")
    }

    /// The status of a core.
    pub fn status(&mut self, m: usize, core: usize) -> Status {
        match self.tell(m, core, AdminCommand::Status) {
            AdminReply::Status(status) => *status,
            other => panic!("asked for the status, got {other:?}"),
        }
    }

    /// A connection to the core that serves, with this connect request sent.
    pub fn connect(&mut self, m: usize, connect: &ConnectRequest) -> ClientId {
        let core = self.machines[m].serves.expect("it serves");
        let id = ClientId(self.number());
        let client = Client {
            machine: m,
            core,
            decoder: Decoder::new(16 << 20),
            heard: Vec::new(),
            closed: false,
            reads: true,
            is_awaited: false,
        };
        self.clients.insert(id, client);
        let opened = Event::ClientOpened {
            client: id,
            front: FrontEnd::Zookeeper,
            address: "10.9.9.9".into(),
            port: 1,
        };
        self.post(m, core, opened);
        self.ask(id, |out| request::connect(out, connect));
        id
    }

    /// A new session on a machine.
    pub fn open(&mut self, m: usize) -> (ClientId, ConnectResponse) {
        let connect = ConnectRequest {
            timeout_ms: 10_000,
            password: vec![0; 16],
            ..ConnectRequest::default()
        };
        let id = self.connect(m, &connect);
        let granted = self.connected(id);
        assert_ne!(granted.session, SessionId(0));
        (id, granted)
    }

    /// The answer to the connect request.
    pub fn connected(&mut self, id: ClientId) -> ConnectResponse {
        self.run_until("the connection is answered", |h| {
            !h.clients[&id].heard.is_empty()
        });
        match self.client(id).heard.remove(0) {
            Response::Connect(response) => response,
            other => panic!("connected, got {other:?}"),
        }
    }

    /// A client that did not read reads all that was sent, and reads on.
    pub fn read(&mut self, id: ClientId) {
        let client = self.client(id);
        client.reads = true;
        let (m, core) = (client.machine, client.core);
        if std::mem::take(&mut client.is_awaited) {
            self.post(m, core, Event::ClientDrained { client: id });
        }
    }

    pub fn client(&mut self, id: ClientId) -> &mut Client {
        self.clients.get_mut(&id).expect("it was opened")
    }

    /// Sends what `encode` writes.
    pub fn ask(&mut self, id: ClientId, encode: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = Vec::new();
        encode(&mut bytes);
        let (m, core) = (self.clients[&id].machine, self.clients[&id].core);
        let bytes = Bytes::from(bytes);
        self.post(m, core, Event::ClientBytes { client: id, bytes });
    }

    /// Sends, waits for `n` things to be heard, and takes them.
    pub fn heard(&mut self, id: ClientId, n: usize) -> Vec<Response> {
        self.run_until("the answers are there", |h| h.clients[&id].heard.len() >= n);
        std::mem::take(&mut self.client(id).heard)
    }
}

fn concerns_identity(op: &DiskOp) -> bool {
    let file = match op {
        DiskOp::Write { file, .. }
        | DiskOp::Sync { file, .. }
        | DiskOp::Read { file, .. }
        | DiskOp::Delete { file }
        | DiskOp::Rename { to: file, .. } => *file,
    };
    matches!(file, FileId::Identity | FileId::IdentityPart)
}

fn lane_start(disk: &Disk) -> LaneStart {
    let mut recovery = Recovery::new();
    let mut snapshots = Vec::new();
    for (file, content) in disk {
        match file {
            FileId::Segment(number) => recovery.feed(*number, content),
            FileId::Snapshot(..) => snapshots.push(*file),
            _ => {}
        }
    }
    LaneStart {
        recovery,
        identity: disk
            .get(&FileId::Identity)
            .map(|b| Bytes::copy_from_slice(b)),
        snapshots,
    }
}

fn execute(disk: &mut Disk, op: DiskOp) -> Option<(Ticket, DiskResult)> {
    let done = |ticket| Some((ticket, DiskResult::Done(Bytes::new())));
    match op {
        DiskOp::Write {
            file,
            offset,
            bytes,
        } => {
            let content = disk.entry(file).or_default();
            let (start, end) = (offset as usize, offset as usize + bytes.len());
            content.resize(content.len().max(end), 0);
            content[start..end].copy_from_slice(&bytes);
            None
        }
        DiskOp::Sync { ticket, .. } => done(ticket),
        DiskOp::Rename { from, to, ticket } => {
            let content = disk.remove(&from).expect("a renamed file is there");
            disk.insert(to, content);
            done(ticket)
        }
        DiskOp::Delete { file } => {
            disk.remove(&file);
            None
        }
        DiskOp::Read {
            file,
            offset,
            length,
            ticket,
        } => {
            let Some(content) = disk.get(&file) else {
                return Some((ticket, DiskResult::NotFound));
            };
            let start = content.len().min(offset as usize);
            let end = content.len().min(start + length as usize);
            let bytes = Bytes::copy_from_slice(&content[start..end]);
            Some((ticket, DiskResult::Done(bytes)))
        }
    }
}
