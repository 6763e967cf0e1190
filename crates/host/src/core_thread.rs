//! A core's thread: polls its sockets, feeds the core, carries out what it decides.
//!
//! A round is: wait → mail → accept → read (at most [`READ_BYTES`] a socket) → tick → flush → actions →
//! one write a socket. What the actions themselves cause (a broken stream, a full buffer) is told to the
//! core in the next round, which then does not wait.

use crate::clock::Clock;
use crate::connection::{Client, ClientState, Dial, Inbound, Outbound, Outgoing, Readiness};
use crate::disk::LaneDisk;
use crate::frame;
use crate::log;
use crate::mail::{Mail, Mailbox};
use crate::sockets::{self, Bound};
use base::map::HashMap;
use base::{LaneId, Now};
use bytes::{Bytes, BytesMut};
use mio::event::Event as Polled;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use node::{
    Action, AdminReply, ClientId, Core, Endpoint, Event, FrontEnd, Hello, RequestId, StreamId,
};
use std::collections::{BTreeMap, VecDeque};
use std::io::{self, ErrorKind, Read};
use std::net::{Shutdown, SocketAddr, ToSocketAddrs};
use std::sync::mpsc::Receiver;
use std::time::Duration;

/// Read from one socket in one round, at most.
const READ_BYTES: usize = 64 << 10;
/// A client with more than this to be sent is not read.
const CLIENT_OUT_BYTES_HIGH: usize = 1 << 20;
/// A client with more than this to be sent is closed.
const CLIENT_OUT_BYTES_MAX: usize = 16 << 20;
/// A peer with more than this to be sent is cut off.
const PEER_OUT_BYTES_MAX: usize = 256 << 20;
/// Connections accepted in one round, at most.
const ACCEPT_MAX: usize = 256;
/// Questions of people under way, at most.
const ADMIN_MAX: usize = 1_024;
/// Pause after a failed dial, and after the machine ran out of files.
const REDIAL_PAUSE_US: u64 = 50_000;
const ACCEPT_PAUSE_US: u64 = 100_000;
/// A connection that is not made in this time has failed.
const DIAL_TIMEOUT_US: u64 = 1_000_000;
/// A closed client gets this long to take what is queued.
const LINGER_US: u64 = 2_000_000;
/// Sent and unacknowledged for this long, a stream to a peer is broken.
const PEER_SILENCE: Duration = Duration::from_secs(5);

const WAKER: u64 = 0;
const LISTENER: u64 = 1;
const FIRST_SOCKET: u64 = 16;
/// The token that wakes a core's thread.
pub const WAKER_TOKEN: Token = Token(WAKER as usize);

/// Everything a core's thread is made of.
pub struct CoreParts {
    /// For log lines.
    pub name: String,
    /// The core.
    pub core: Core,
    /// The clock of the process.
    pub clock: Clock,
    /// With the waker registered.
    pub poll: Poll,
    /// This core's mail.
    pub mail: Receiver<Mail>,
    /// The way into it.
    pub mailbox: Mailbox,
    /// The disk threads of this core's lanes.
    pub disks: BTreeMap<LaneId, LaneDisk>,
    /// The port for ZooKeeper clients, bound and not listening.
    pub zookeeper: Option<Bound>,
    /// Whether the port is shared with other cores.
    pub shared_port: bool,
    /// Client connections at a time.
    pub clients_max: usize,
}

enum Port {
    Off,
    Bound(Bound),
    Listening(TcpListener),
    /// Could not be bound again after it was closed; tried again when it shall open.
    Lost,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    /// A closed client's time is over.
    Linger(u64),
    /// A dial takes too long.
    Dial(u64),
    /// An endpoint may be dialled again.
    Redial(u64),
    /// Accept again.
    Accept,
}

/// Frames to an endpoint are dropped until its pause is over.
struct Pause {
    to: Endpoint,
    dropped: bool,
}

/// Runs the core until it stops (the reason) or [`Mail::Stop`] comes (`None`).
pub fn run(parts: CoreParts) -> Option<String> {
    let mut thread = CoreThread::new(parts);
    let reason = thread.serve();
    thread.write_all();
    reason
}

struct CoreThread {
    name: String,
    core: Core,
    clock: Clock,
    poll: Poll,
    mail: Receiver<Mail>,
    mailbox: Mailbox,
    disks: BTreeMap<LaneId, LaneDisk>,
    port: Port,
    port_address: Option<SocketAddr>,
    shared_port: bool,
    accept_ready: bool,
    accept_paused: bool,
    clients_max: usize,
    refused_clients: u64,
    next_socket: u64,
    next_request: u64,
    clients: HashMap<u64, Client>,
    inbound: HashMap<u64, Inbound>,
    outbound: HashMap<u64, Outbound>,
    dialled: BTreeMap<Endpoint, u64>,
    pauses: HashMap<u64, Pause>,
    paused: BTreeMap<Endpoint, u64>,
    timers: std::collections::BTreeSet<(u64, Timer)>,
    /// Sockets to be read in the next round.
    readable: Vec<u64>,
    /// Sockets to be written at the end of this round.
    dirty: Vec<u64>,
    /// What the host has to tell the core in the next round.
    events: VecDeque<Event>,
    questions: HashMap<u64, tokio::sync::oneshot::Sender<AdminReply>>,
    scratch: Vec<u8>,
    stop: Option<Option<String>>,
}

impl CoreThread {
    fn new(parts: CoreParts) -> Self {
        Self {
            name: parts.name,
            core: parts.core,
            clock: parts.clock,
            poll: parts.poll,
            mail: parts.mail,
            mailbox: parts.mailbox,
            disks: parts.disks,
            port_address: parts.zookeeper.as_ref().map(Bound::address),
            port: parts.zookeeper.map_or(Port::Off, Port::Bound),
            shared_port: parts.shared_port,
            accept_ready: false,
            accept_paused: false,
            clients_max: parts.clients_max,
            refused_clients: 0,
            next_socket: FIRST_SOCKET,
            next_request: 1,
            clients: HashMap::default(),
            inbound: HashMap::default(),
            outbound: HashMap::default(),
            dialled: BTreeMap::new(),
            pauses: HashMap::default(),
            paused: BTreeMap::new(),
            timers: std::collections::BTreeSet::new(),
            readable: Vec::new(),
            dirty: Vec::new(),
            events: VecDeque::new(),
            questions: HashMap::default(),
            scratch: vec![0; READ_BYTES],
            stop: None,
        }
    }

    fn serve(&mut self) -> Option<String> {
        let mut polled = Events::with_capacity(1_024);
        // What the core wants before anything has happened.
        let now = self.clock.now();
        self.core.handle(now, Event::Tick);
        self.finish_round(now);
        while self.stop.is_none() {
            let timeout = self.timeout();
            if let Err(error) = self.round(&mut polled, timeout) {
                return Some(format!("{}: polling failed: {error}", self.name));
            }
        }
        self.stop.take().flatten()
    }

    fn round(&mut self, polled: &mut Events, timeout: Duration) -> io::Result<()> {
        match self.poll.poll(polled, Some(timeout)) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
            Err(_) => polled.clear(),
            Ok(()) => {}
        }
        let now = self.clock.now();
        for event in polled.iter() {
            self.note(now, event);
        }
        while let Some(event) = self.events.pop_front() {
            self.core.handle(now, event);
        }
        self.take_mail(now);
        self.run_timers(now);
        self.accept(now);
        self.read(now);
        if now.mono_us >= self.core.deadline_us() {
            self.core.handle(now, Event::Tick);
        }
        self.finish_round(now);
        Ok(())
    }

    fn finish_round(&mut self, now: Now) {
        self.core.flush(now);
        while let Some(action) = self.core.poll_action() {
            self.carry_out(now, action);
        }
        self.write_all();
    }

    fn timeout(&self) -> Duration {
        if !self.events.is_empty() || !self.readable.is_empty() || self.can_accept() {
            return Duration::ZERO;
        }
        let mut deadline = self.core.deadline_us();
        if let Some((at, _)) = self.timers.first() {
            deadline = deadline.min(*at);
        }
        let wait = deadline.saturating_sub(self.clock.now().mono_us);
        Duration::from_micros(wait.min(60_000_000))
    }

    // ---- what polling says -------------------------------------------------------------------

    fn note(&mut self, now: Now, event: &Polled) {
        let token = event.token().0 as u64;
        match token {
            WAKER => {}
            LISTENER => self.accept_ready = true,
            _ if self.outbound.contains_key(&token) => self.note_outbound(now, token, event),
            _ => {
                let ended = event.is_read_closed() || event.is_error();
                if event.is_writable()
                    && let Some(client) = self.clients.get_mut(&token)
                    && !client.out.is_empty()
                {
                    mark(&mut self.dirty, &mut client.dirty, token);
                }
                let ready = match (self.clients.get_mut(&token), self.inbound.get_mut(&token)) {
                    (Some(client), _) => &mut client.ready,
                    (_, Some(inbound)) => &mut inbound.ready,
                    _ => return,
                };
                ready.ended |= ended;
                if event.is_readable() || ended {
                    ready.readable = true;
                    mark(&mut self.readable, &mut ready.listed, token);
                }
            }
        }
    }

    fn note_outbound(&mut self, now: Now, token: u64, event: &Polled) {
        let Some(peer) = self.outbound.get_mut(&token) else {
            return;
        };
        if let Dial::Connecting(socket) = &peer.dial {
            if let Some(error) = socket.take_error().unwrap_or_else(Some) {
                return self.break_outbound(now, token, &error.to_string());
            }
            match socket.peer_addr() {
                Ok(_) => {
                    let Dial::Connecting(socket) =
                        std::mem::replace(&mut peer.dial, Dial::Resolving)
                    else {
                        return;
                    };
                    peer.dial = Dial::Open(socket);
                }
                Err(_) => return,
            }
        }
        if let Dial::Open(socket) = &mut peer.dial {
            if event.is_readable() || event.is_read_closed() || event.is_error() {
                // Nothing is ever sent back on a dialled stream: this can only be its end.
                match socket.read(&mut [0; 16]) {
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Err(error) => return self.break_outbound(now, token, &error.to_string()),
                    Ok(_) => return self.break_outbound(now, token, "closed by the other side"),
                }
            }
            mark(&mut self.dirty, &mut peer.dirty, token);
        }
    }

    // ---- input -------------------------------------------------------------------------------

    fn take_mail(&mut self, now: Now) {
        while let Ok(mail) = self.mail.try_recv() {
            match mail {
                Mail::Disk {
                    lane,
                    ticket,
                    result,
                } => self.core.handle(
                    now,
                    Event::DiskDone {
                        lane,
                        ticket,
                        result,
                    },
                ),
                Mail::Admin { command, reply } => {
                    if self.questions.len() >= ADMIN_MAX {
                        self.questions.retain(|_, reply| !reply.is_closed());
                    }
                    if self.questions.len() >= ADMIN_MAX {
                        let _ = reply.send(AdminReply::Refused {
                            message: "too many questions are under way; ask again later".into(),
                        });
                        continue;
                    }
                    let request = RequestId(self.next_request);
                    self.next_request += 1;
                    self.questions.insert(request.0, reply);
                    self.core.handle(now, Event::Admin { request, command });
                }
                Mail::Stream {
                    socket,
                    hello,
                    rest,
                } => self.add_stream(now, socket, hello, &rest),
                Mail::Resolved { dial, address } => self.connect(now, dial, address),
                Mail::Stop => self.stop = Some(None),
            }
        }
    }

    fn add_stream(&mut self, now: Now, socket: std::net::TcpStream, hello: Hello, rest: &[u8]) {
        let from = format!("{} ({})", hello.address, hello.from.node);
        let mut socket = TcpStream::from_std(socket);
        let token = self.next_token();
        if let Err(error) = self.register(&mut socket, token) {
            return log::warn(format!("cannot poll the stream from {from}: {error}"));
        }
        self.inbound.insert(
            token,
            Inbound {
                socket,
                buffer: BytesMut::from(rest),
                // Whatever came while the stream was handed over raised no event here.
                ready: Readiness {
                    readable: true,
                    ended: false,
                    listed: true,
                },
                from,
            },
        );
        self.readable.push(token);
        let stream = StreamId(token);
        self.core.handle(now, Event::PeerOpened { stream, hello });
        self.take_frames(now, token);
    }

    fn can_accept(&self) -> bool {
        self.accept_ready && !self.accept_paused && matches!(self.port, Port::Listening(_))
    }

    fn accept(&mut self, now: Now) {
        if !self.can_accept() {
            return;
        }
        for _ in 0..ACCEPT_MAX {
            let Port::Listening(listener) = &self.port else {
                return;
            };
            match listener.accept() {
                Ok((socket, address)) => self.add_client(now, socket, address),
                Err(error) => match error.raw_os_error() {
                    _ if error.kind() == ErrorKind::WouldBlock => {
                        self.accept_ready = false;
                        return;
                    }
                    Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::ENOBUFS) => {
                        log::warn(format!(
                            "cannot accept a client: {error}; trying again in {} ms",
                            ACCEPT_PAUSE_US / 1_000
                        ));
                        self.accept_paused = true;
                        self.timers
                            .insert((now.mono_us + ACCEPT_PAUSE_US, Timer::Accept));
                        return;
                    }
                    // The client went away before it was accepted.
                    _ => {}
                },
            }
        }
    }

    fn add_client(&mut self, now: Now, mut socket: TcpStream, address: SocketAddr) {
        if self.clients.len() >= self.clients_max {
            self.refused_clients += 1;
            if self.refused_clients.is_power_of_two() {
                log::warn(format!(
                    "{} clients are connected, the most allowed: {address} was turned away ({} so far)",
                    self.clients.len(),
                    self.refused_clients
                ));
            }
            return;
        }
        let token = self.next_token();
        let outcome = sockets::tune(&socket, None).and_then(|()| self.register(&mut socket, token));
        if let Err(error) = outcome {
            return log::warn(format!("cannot serve the client {address}: {error}"));
        }
        self.clients.insert(
            token,
            Client {
                socket,
                front: FrontEnd::Zookeeper,
                out: Outgoing::default(),
                ready: Readiness::default(),
                dirty: false,
                paused: false,
                state: ClientState::Open,
            },
        );
        self.core.handle(
            now,
            Event::ClientOpened {
                client: ClientId(token),
                front: FrontEnd::Zookeeper,
                address: address.ip().to_canonical().to_string(),
            },
        );
    }

    fn read(&mut self, now: Now) {
        for token in std::mem::take(&mut self.readable) {
            if self.clients.contains_key(&token) {
                self.read_client(now, token);
            } else if self.inbound.contains_key(&token) {
                self.read_inbound(now, token);
            }
        }
    }

    fn read_client(&mut self, now: Now, token: u64) {
        let Some(client) = self.clients.get_mut(&token) else {
            return;
        };
        client.ready.listed = false;
        if client.state == ClientState::Open
            && (client.paused || client.out.len() > CLIENT_OUT_BYTES_HIGH)
        {
            // Listed again when it is resumed or has taken what is queued.
            return;
        }
        match read_some(&mut client.socket, &mut client.ready, &mut self.scratch) {
            Ok(0) => self.close_client(now, token),
            Ok(n) => {
                if client.ready.readable {
                    mark(&mut self.readable, &mut client.ready.listed, token);
                }
                if client.state == ClientState::Open {
                    let bytes = Bytes::copy_from_slice(&self.scratch[..n]);
                    let client = ClientId(token);
                    self.core.handle(now, Event::ClientBytes { client, bytes });
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => self.close_client(now, token),
        }
    }

    fn read_inbound(&mut self, now: Now, token: u64) {
        let Some(peer) = self.inbound.get_mut(&token) else {
            return;
        };
        peer.ready.listed = false;
        match read_some(&mut peer.socket, &mut peer.ready, &mut self.scratch) {
            Ok(0) => self.close_inbound(now, token),
            Ok(n) => {
                peer.buffer.extend_from_slice(&self.scratch[..n]);
                if peer.ready.readable {
                    mark(&mut self.readable, &mut peer.ready.listed, token);
                }
                self.take_frames(now, token);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => {
                log::info(format!("the stream from {} broke: {error}", peer.from));
                self.close_inbound(now, token);
            }
        }
    }

    fn take_frames(&mut self, now: Now, token: u64) {
        while let Some(peer) = self.inbound.get_mut(&token) {
            match frame::take(&mut peer.buffer, frame::FRAME_BYTES_MAX) {
                Ok(Some(frame)) => {
                    let stream = StreamId(token);
                    self.core.handle(now, Event::PeerFrame { stream, frame });
                }
                Ok(None) => {
                    if peer.buffer.is_empty() {
                        // An idle stream holds no buffer.
                        peer.buffer = BytesMut::new();
                    }
                    return;
                }
                Err(error) => {
                    log::error(format!(
                        "the stream from {} is closed: {error}; the sender will open a new one",
                        peer.from
                    ));
                    return self.close_inbound(now, token);
                }
            }
        }
    }

    fn close_inbound(&mut self, now: Now, token: u64) {
        if self.inbound.remove(&token).is_some() {
            let stream = StreamId(token);
            self.core.handle(now, Event::PeerClosed { stream });
        }
    }

    /// The client's side ended, or its connection broke.
    fn close_client(&mut self, now: Now, token: u64) {
        if let Some(client) = self.clients.remove(&token)
            && client.state == ClientState::Open
        {
            let client = ClientId(token);
            self.core.handle(now, Event::ClientClosed { client });
        }
    }

    fn run_timers(&mut self, now: Now) {
        while let Some((at, timer)) = self.timers.first().copied()
            && at <= now.mono_us
        {
            self.timers.pop_first();
            match timer {
                Timer::Accept => self.accept_paused = false,
                Timer::Linger(token) => {
                    self.clients.remove(&token);
                }
                Timer::Dial(token) => {
                    let waiting = self
                        .outbound
                        .get(&token)
                        .is_some_and(|peer| !matches!(peer.dial, Dial::Open(_)));
                    if waiting {
                        self.break_outbound(now, token, "no connection in time");
                    }
                }
                Timer::Redial(pause) => {
                    if let Some(pause) = self.pauses.remove(&pause) {
                        self.paused.remove(&pause.to);
                        if pause.dropped {
                            self.core.handle(now, Event::SendFailed { to: pause.to });
                        }
                    }
                }
            }
        }
    }

    // ---- output ------------------------------------------------------------------------------

    fn carry_out(&mut self, now: Now, action: Action) {
        match action {
            Action::SendPeer { to, frame } => self.send_peer(now, to, frame),
            Action::ClosePeer { stream } => {
                self.inbound.remove(&stream.0);
            }
            Action::SendClient { client, bytes } => self.send_client(client, bytes),
            Action::PauseClient { client, paused } => {
                if let Some(connection) = self.clients.get_mut(&client.0) {
                    connection.paused = paused;
                    if !paused && connection.ready.readable {
                        mark(&mut self.readable, &mut connection.ready.listed, client.0);
                    }
                }
            }
            Action::CloseClient { client } => {
                if let Some(connection) = self.clients.get_mut(&client.0)
                    && connection.state == ClientState::Open
                {
                    connection.state = ClientState::Flushing;
                    mark(&mut self.dirty, &mut connection.dirty, client.0);
                    self.timers
                        .insert((now.mono_us + LINGER_US, Timer::Linger(client.0)));
                }
            }
            Action::Disk { lane, op } => match self.disks.get(&lane) {
                Some(disk) => disk.submit(op),
                None => {
                    self.stop = Some(Some(format!(
                        "{} asked for {lane}, which it does not have; this is a defect, please report it",
                        self.name
                    )));
                }
            },
            Action::OpenFrontEnd(FrontEnd::Zookeeper) => self.open_port(),
            Action::CloseFrontEnd(front @ FrontEnd::Zookeeper) => self.close_port(front),
            Action::AdminReply { request, reply } => {
                if let Some(waiting) = self.questions.remove(&request.0) {
                    // Who asked may have given up.
                    let _ = waiting.send(reply);
                }
            }
            Action::Log { level, message } => log::line(level, &message),
            Action::Stop {
                reason,
                orderly: true,
            } => {
                log::info(&reason);
                self.stop = Some(None);
            }
            Action::Stop { reason, .. } => self.stop = Some(Some(reason)),
        }
    }

    fn send_client(&mut self, client: ClientId, bytes: Bytes) {
        let Some(connection) = self.clients.get_mut(&client.0) else {
            return;
        };
        if connection.state != ClientState::Open {
            return;
        }
        connection.out.push(bytes);
        if connection.out.len() > CLIENT_OUT_BYTES_MAX {
            log::warn(format!(
                "a client ({}) does not read: {} bytes wait for it, the connection is closed",
                connection
                    .socket
                    .peer_addr()
                    .map_or_else(|_| "gone".into(), |address| address.to_string()),
                connection.out.len()
            ));
            self.clients.remove(&client.0);
            self.events.push_back(Event::ClientClosed { client });
            return;
        }
        mark(&mut self.dirty, &mut connection.dirty, client.0);
    }

    fn open_port(&mut self) {
        let bound = match std::mem::replace(&mut self.port, Port::Off) {
            Port::Bound(bound) => Ok(bound),
            Port::Lost => self.bind_again(),
            other => {
                self.port = other;
                return;
            }
        };
        let opened = bound.and_then(Bound::listen).and_then(|listener| {
            let mut listener = TcpListener::from_std(listener);
            let token = Token(LISTENER as usize);
            self.poll
                .registry()
                .register(&mut listener, token, Interest::READABLE)?;
            Ok(listener)
        });
        match (opened, self.port_address) {
            (Ok(listener), _) => {
                self.port = Port::Listening(listener);
                self.accept_ready = true;
            }
            (Err(error), Some(address)) => {
                let error =
                    sockets::listen_error(address, "ZooKeeper clients", "zookeeper", &error);
                self.stop = Some(Some(error.to_string()));
            }
            (Err(_), None) => {}
        }
    }

    fn bind_again(&self) -> io::Result<Bound> {
        let address = self
            .port_address
            .ok_or_else(|| io::Error::other("the front end is off"))?;
        Bound::new(address, self.shared_port)
    }

    fn close_port(&mut self, front: FrontEnd) {
        if let Port::Listening(_) = self.port {
            self.port = Port::Lost;
            self.accept_ready = false;
            // Keep the port without listening; if that fails now, it is tried again on opening.
            if let Ok(bound) = self.bind_again() {
                self.port = Port::Bound(bound);
            }
        }
        self.clients.retain(|token, client| {
            if client.front == front && client.state == ClientState::Open {
                let client = ClientId(*token);
                self.events.push_back(Event::ClientClosed { client });
            }
            client.front != front
        });
    }

    // ---- streams to peers --------------------------------------------------------------------

    fn send_peer(&mut self, now: Now, to: Endpoint, frame: Bytes) {
        if frame.len() > frame::FRAME_BYTES_MAX {
            log::error(format!(
                "a frame of {} bytes to {} exceeds the cap and is dropped; this is a defect, please report it",
                frame.len(),
                to.address
            ));
            self.events.push_back(Event::SendFailed { to });
            return;
        }
        if let Some(pause) = self.paused.get(&to) {
            if let Some(pause) = self.pauses.get_mut(pause) {
                pause.dropped = true;
            }
            return;
        }
        let hello = self.core.hello(&to);
        if let Some(token) = self.dialled.get(&to).copied()
            && self
                .outbound
                .get(&token)
                .is_some_and(|peer| peer.hello != hello)
        {
            self.retire(token);
        }
        let token = match self.dialled.get(&to) {
            Some(token) => *token,
            None => self.dial(now, &to, hello),
        };
        let Some(peer) = self.outbound.get_mut(&token) else {
            // The dial failed at once; the core hears of it in the next round.
            return;
        };
        peer.out.push_copy(&frame::header(&frame));
        peer.out.push(frame);
        if peer.out.len() > PEER_OUT_BYTES_MAX {
            return self.break_outbound(now, token, "it takes frames too slowly");
        }
        if matches!(peer.dial, Dial::Open(_)) {
            mark(&mut self.dirty, &mut peer.dirty, token);
        }
    }

    /// Ends a stream whose greeting no longer holds: this node came to belong to a cluster since. What
    /// it had still to send is sent, or told as failed.
    fn retire(&mut self, token: u64) {
        let Some(mut peer) = self.outbound.remove(&token) else {
            return;
        };
        self.dialled.remove(&peer.to);
        let sent = match &mut peer.dial {
            Dial::Open(socket) => peer.out.write_to(socket).unwrap_or(false),
            Dial::Resolving | Dial::Connecting(_) => false,
        };
        if !sent {
            self.events.push_back(Event::SendFailed { to: peer.to });
        }
    }

    fn dial(&mut self, now: Now, to: &Endpoint, hello: Hello) -> u64 {
        let token = self.next_token();
        let greeting = hello.encode();
        let mut out = Outgoing::default();
        out.push_copy(&frame::header(&greeting));
        out.push_copy(&greeting);
        self.outbound.insert(
            token,
            Outbound {
                to: to.clone(),
                hello,
                dial: Dial::Resolving,
                out,
                dirty: false,
            },
        );
        self.dialled.insert(to.clone(), token);
        self.timers
            .insert((now.mono_us + DIAL_TIMEOUT_US, Timer::Dial(token)));
        match to.address.parse() {
            Ok(address) => self.connect(now, token, Ok(address)),
            Err(_) => self.resolve(token, to.address.clone()),
        }
        token
    }

    /// Looks a host name up on a thread of its own: it may take seconds.
    fn resolve(&self, dial: u64, name: String) {
        let mailbox = self.mailbox.clone();
        let spawned = std::thread::Builder::new()
            .name("resolve".into())
            .spawn(move || {
                let address = name
                    .to_socket_addrs()
                    .and_then(|mut all| {
                        all.next()
                            .ok_or_else(|| io::Error::other("the name has no address"))
                    })
                    .map_err(|error| format!("cannot look up {name}: {error}"));
                mailbox.send(Mail::Resolved { dial, address });
            });
        if let Err(error) = spawned {
            // The dial's time-out reports it to the core.
            log::warn(format!("cannot start a thread to look up a name: {error}"));
        }
    }

    fn connect(&mut self, now: Now, token: u64, address: Result<SocketAddr, String>) {
        let Some(peer) = self.outbound.get_mut(&token) else {
            return;
        };
        let connecting = address.and_then(|address| {
            let mut socket = TcpStream::connect(address).map_err(|error| error.to_string())?;
            sockets::tune(&socket, Some(PEER_SILENCE))
                .and_then(|()| {
                    self.poll.registry().register(
                        &mut socket,
                        Token(token as usize),
                        Interest::READABLE | Interest::WRITABLE,
                    )
                })
                .map_err(|error| error.to_string())?;
            Ok(socket)
        });
        match connecting {
            Ok(socket) => peer.dial = Dial::Connecting(socket),
            Err(why) => self.break_outbound(now, token, &why),
        }
    }

    /// Drops a dialled stream, tells the core in the next round, and starts the pause.
    fn break_outbound(&mut self, now: Now, token: u64, why: &str) {
        let Some(peer) = self.outbound.remove(&token) else {
            return;
        };
        self.dialled.remove(&peer.to);
        if matches!(peer.dial, Dial::Open(_)) {
            log::info(format!("the stream to {} broke: {why}", peer.to.address));
        }
        let pause = self.next_token();
        self.paused.insert(peer.to.clone(), pause);
        self.pauses.insert(
            pause,
            Pause {
                to: peer.to.clone(),
                dropped: false,
            },
        );
        self.timers
            .insert((now.mono_us + REDIAL_PAUSE_US, Timer::Redial(pause)));
        self.events.push_back(Event::SendFailed { to: peer.to });
    }

    // ---- writing -----------------------------------------------------------------------------

    fn write_all(&mut self) {
        let now = self.clock.now();
        for token in std::mem::take(&mut self.dirty) {
            if self.clients.contains_key(&token) {
                self.write_client(token);
            } else if let Some(peer) = self.outbound.get_mut(&token) {
                peer.dirty = false;
                if let Dial::Open(socket) = &mut peer.dial
                    && let Err(error) = peer.out.write_to(socket)
                {
                    self.break_outbound(now, token, &error.to_string());
                }
            }
        }
    }

    fn write_client(&mut self, token: u64) {
        let Some(client) = self.clients.get_mut(&token) else {
            return;
        };
        client.dirty = false;
        match client.out.write_to(&mut client.socket) {
            Ok(drained) => {
                if drained && client.state == ClientState::Flushing {
                    client.state = ClientState::Lingering;
                    if client.ready.ended || client.socket.shutdown(Shutdown::Write).is_err() {
                        self.clients.remove(&token);
                        return;
                    }
                }
                let wanted = client.state != ClientState::Open
                    || (!client.paused && client.out.len() <= CLIENT_OUT_BYTES_HIGH);
                if wanted && client.ready.readable {
                    mark(&mut self.readable, &mut client.ready.listed, token);
                }
            }
            Err(_) => {
                if let Some(client) = self.clients.remove(&token)
                    && client.state == ClientState::Open
                {
                    let client = ClientId(token);
                    self.events.push_back(Event::ClientClosed { client });
                }
            }
        }
    }

    fn next_token(&mut self) -> u64 {
        self.next_socket += 1;
        self.next_socket
    }

    fn register(&self, socket: &mut TcpStream, token: u64) -> io::Result<()> {
        self.poll.registry().register(
            socket,
            Token(token as usize),
            Interest::READABLE | Interest::WRITABLE,
        )
    }
}

/// Puts `token` on `list` unless its flag says that it is there.
fn mark(list: &mut Vec<u64>, listed: &mut bool, token: u64) {
    if !*listed {
        *listed = true;
        list.push(token);
    }
}

/// One read. Clears `readable` when the socket has been emptied: a read that would block, or one
/// shorter than asked for while the other side has not ended.
fn read_some(
    socket: &mut TcpStream,
    ready: &mut Readiness,
    scratch: &mut [u8],
) -> io::Result<usize> {
    loop {
        match socket.read(scratch) {
            Ok(n) => {
                if n < scratch.len() && !ready.ended {
                    ready.readable = false;
                }
                return Ok(n);
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => {
                ready.readable = false;
                return Err(error);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::CoreId;
    use mio::Waker;
    use node::CoreConfig;
    use std::io::{Read, Write};
    use std::sync::Arc;
    use std::sync::mpsc::channel;
    use std::time::Instant;

    /// A core's thread whose rounds the test runs.
    fn thread() -> CoreThread {
        let clock = Clock::new();
        let poll = Poll::new().unwrap();
        let waker = Arc::new(Waker::new(poll.registry(), WAKER_TOKEN).unwrap());
        let (sender, mail) = channel();
        let config = CoreConfig {
            initial_members: Vec::new(),
            ..CoreConfig::default()
        };
        CoreThread::new(CoreParts {
            name: "core 0".into(),
            core: Core::new(clock.now(), config, Vec::new()),
            clock,
            poll,
            mail,
            mailbox: Mailbox::new(sender, waker),
            disks: BTreeMap::new(),
            zookeeper: Some(Bound::new(([127, 0, 0, 1], 0).into(), false).unwrap()),
            shared_port: false,
            clients_max: 2,
        })
    }

    /// Runs rounds, without the core's own wishes, until `done` yields something.
    fn until<T>(thread: &mut CoreThread, mut done: impl FnMut(&mut CoreThread) -> Option<T>) -> T {
        let mut polled = Events::with_capacity(64);
        let start = Instant::now();
        loop {
            assert!(
                start.elapsed() < Duration::from_secs(10),
                "it never happens"
            );
            if let Some(value) = done(thread) {
                return value;
            }
            thread
                .poll
                .poll(&mut polled, Some(Duration::from_millis(5)))
                .unwrap();
            let now = thread.clock.now();
            for event in &polled {
                thread.note(now, event);
            }
            thread.take_mail(now);
            thread.run_timers(now);
            thread.accept(now);
            thread.read(now);
            thread.write_all();
        }
    }

    fn endpoint(address: SocketAddr) -> Endpoint {
        Endpoint {
            address: address.to_string(),
            core: CoreId(0),
        }
    }

    #[test]
    fn frames_to_a_peer_follow_the_greeting_in_order_and_a_broken_stream_is_told() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let to = endpoint(listener.local_addr().unwrap());
        let mut thread = thread();
        let now = thread.clock.now();
        for size in [0, 10, 5_000, 3_000_000] {
            thread.send_peer(now, to.clone(), vec![7; size].into());
        }
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_nonblocking(true).unwrap();
        let (mut buffer, mut frames) = (BytesMut::new(), Vec::new());
        until(&mut thread, |_| {
            let mut scratch = [0; 100_000];
            while let Ok(n @ 1..) = stream.read(&mut scratch) {
                buffer.extend_from_slice(&scratch[..n]);
            }
            while let Some(frame) = frame::take(&mut buffer, frame::FRAME_BYTES_MAX).unwrap() {
                frames.push(frame);
            }
            (frames.len() == 5).then_some(())
        });
        assert_eq!(Hello::decode(&frames[0]), Ok(thread.core.hello(&to)));
        let sizes: Vec<usize> = frames[1..].iter().map(Bytes::len).collect();
        assert_eq!(sizes, [0, 10, 5_000, 3_000_000]);

        drop(stream);
        let event = until(&mut thread, |thread| thread.events.pop_front());
        assert_eq!(event, Event::SendFailed { to: to.clone() });
        // During the pause frames are dropped and nothing is dialled; after it they are again.
        let now = thread.clock.now();
        thread.send_peer(now, to.clone(), Bytes::from_static(b"lost"));
        assert!(thread.outbound.is_empty());
        until(&mut thread, |thread| thread.paused.is_empty().then_some(()));
        let now = thread.clock.now();
        thread.send_peer(now, to, Bytes::from_static(b"again"));
        until(&mut thread, |thread| {
            thread
                .outbound
                .values()
                .all(|peer| matches!(peer.dial, Dial::Open(_)))
                .then_some(())
        });
    }

    #[test]
    fn failed_dial_is_told() {
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let to = endpoint(closed.local_addr().unwrap());
        drop(closed);
        let mut thread = thread();
        let now = thread.clock.now();
        thread.send_peer(now, to.clone(), Bytes::from_static(b"x"));
        let event = until(&mut thread, |thread| thread.events.pop_front());
        assert_eq!(event, Event::SendFailed { to });
    }

    fn connect(thread: &mut CoreThread) -> (std::net::TcpStream, u64) {
        thread.open_port();
        let before: Vec<u64> = thread.clients.keys().copied().collect();
        let stream = std::net::TcpStream::connect(thread.port_address.unwrap()).unwrap();
        let token = until(thread, |thread| {
            thread
                .clients
                .keys()
                .copied()
                .find(|token| !before.contains(token))
        });
        (stream, token)
    }

    #[test]
    fn closed_client_gets_what_is_queued_and_then_the_end() {
        let mut thread = thread();
        let (mut stream, token) = connect(&mut thread);
        let now = thread.clock.now();
        let client = ClientId(token);
        stream.write_all(b"something that nobody reads").unwrap();
        let bytes = Bytes::from(vec![1; 1 << 20]);
        thread.send_client(client, bytes);
        thread.carry_out(now, Action::CloseClient { client });
        let reader = std::thread::spawn(move || {
            let mut got = Vec::new();
            stream.read_to_end(&mut got).map(|_| got.len())
        });
        until(&mut thread, |thread| {
            thread.clients.is_empty().then_some(())
        });
        assert_eq!(reader.join().unwrap().unwrap(), 1 << 20);
        assert!(thread.events.is_empty(), "the core knows that it closed it");
    }

    #[test]
    fn client_that_does_not_read_is_closed_at_the_cap() {
        let mut thread = thread();
        let (_stream, token) = connect(&mut thread);
        let client = ClientId(token);
        for _ in 0..40 {
            thread.send_client(client, Bytes::from(vec![1; 1 << 20]));
            thread.write_all();
        }
        assert!(thread.clients.is_empty());
        assert_eq!(
            thread.events.pop_front(),
            Some(Event::ClientClosed { client })
        );
    }

    #[test]
    fn paused_client_is_read_only_after_it_is_resumed() {
        let mut thread = thread();
        let (mut stream, token) = connect(&mut thread);
        let now = thread.clock.now();
        let client = ClientId(token);
        thread.carry_out(
            now,
            Action::PauseClient {
                client,
                paused: true,
            },
        );
        stream.write_all(b"hello").unwrap();
        until(&mut thread, |thread| {
            thread.clients[&token].ready.readable.then_some(())
        });
        thread.carry_out(
            now,
            Action::PauseClient {
                client,
                paused: false,
            },
        );
        // A short read shows that the bytes were taken.
        until(&mut thread, |thread| {
            (!thread.clients[&token].ready.readable).then_some(())
        });
    }

    #[test]
    fn clients_beyond_the_cap_are_turned_away_and_a_closed_port_refuses() {
        let mut thread = thread();
        let (_first, _) = connect(&mut thread);
        let (_second, _) = connect(&mut thread);
        let mut third = std::net::TcpStream::connect(thread.port_address.unwrap()).unwrap();
        third.set_nonblocking(true).unwrap();
        until(&mut thread, |_| {
            matches!(third.read(&mut [0]), Ok(0)).then_some(())
        });
        assert_eq!(thread.clients.len(), 2);

        thread.close_port(FrontEnd::Zookeeper);
        assert!(thread.clients.is_empty());
        assert_eq!(thread.events.len(), 2);
        let address = thread.port_address.unwrap();
        assert!(std::net::TcpStream::connect(address).is_err());
        thread.open_port();
        std::net::TcpStream::connect(address).unwrap();
    }
}
