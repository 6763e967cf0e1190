//! A core's thread: polls its sockets, feeds the core, carries out what it decides.
//!
//! A round is: wait → mail → accept → read (at most [`READ_BYTES`] a socket) → tick → flush → actions →
//! one write a socket. What the actions themselves cause (a broken stream, a full buffer) is told to the
//! core in the next round, which then does not wait.
//!
//! Here is the loop; what it calls for client ports, clients and streams to other cores is in [`ports`],
//! [`clients`] and [`peers`].

mod clients;
mod peers;
mod ports;
#[cfg(test)]
mod tests;

use crate::clock::Clock;
use crate::connection::{Client, Inbound, Outbound, Readiness};
use crate::disk::LaneDisk;
use crate::log;
use crate::mail::{Mail, Mailbox};
use crate::probes::Prober;
use crate::sockets::Bound;
use base::map::HashMap;
use base::{LaneId, Now};
use mio::event::Event as Polled;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use node::{Action, AdminReply, CallReply, Core, Endpoint, Event, FrontEnd, RequestId};
use peers::Pause;
use ports::Port;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::{self, ErrorKind, Read};
use std::sync::mpsc::Receiver;
use std::time::Duration;

/// Read from one socket in one round, at most.
const READ_BYTES: usize = 64 << 10;
/// Questions of people under way, at most.
const ADMIN_MAX: usize = 1_024;

/// Callers who have hung up are looked for this often, in microseconds.
const CALLS_US: u64 = 1_000_000;

const WAKER: u64 = 0;
/// Tokens from here to [`FIRST_SOCKET`] are those of the client ports.
const FIRST_PORT: u64 = 1;
const FIRST_SOCKET: u64 = 16;
/// For what is written late, at the end, in microseconds.
const WRITE_OUT_US: u64 = 5_000_000;
const _: () = assert!(FIRST_PORT + FrontEnd::ALL.len() as u64 <= FIRST_SOCKET);
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
    /// Runs probes.
    pub prober: Prober,
    /// The disk threads of this core's lanes.
    pub disks: BTreeMap<LaneId, LaneDisk>,
    /// The ports for clients, bound and not listening.
    pub ports: BTreeMap<FrontEnd, Bound>,
    /// Whether the ports are shared with other cores.
    pub shared_ports: bool,
    /// Client connections at a time.
    pub clients_max: usize,
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
    /// See who has hung up.
    Calls,
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
    prober: Prober,
    disks: BTreeMap<LaneId, LaneDisk>,
    ports: BTreeMap<FrontEnd, Port>,
    shared_ports: bool,
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
    timers: BTreeSet<(u64, Timer)>,
    /// Sockets to be read in the next round.
    readable: Vec<u64>,
    /// Sockets to be written at the end of this round.
    dirty: Vec<u64>,
    /// What the host has to tell the core in the next round.
    events: VecDeque<Event>,
    questions: HashMap<u64, tokio::sync::oneshot::Sender<AdminReply>>,
    calls: HashMap<u64, tokio::sync::oneshot::Sender<CallReply>>,
    /// [`Timer::Calls`] is set.
    watches_calls: bool,
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
            prober: parts.prober,
            disks: parts.disks,
            ports: parts
                .ports
                .into_iter()
                .map(|(front, bound)| (front, Port::new(bound)))
                .collect(),
            shared_ports: parts.shared_ports,
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
            timers: BTreeSet::new(),
            readable: Vec::new(),
            dirty: Vec::new(),
            events: VecDeque::new(),
            questions: HashMap::default(),
            calls: HashMap::default(),
            watches_calls: false,
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
        let reason = self.stop.take().flatten();
        if reason.is_none() {
            self.write_out(&mut polled);
        }
        reason
    }

    /// Before a wanted end, what a pool allows to be written late is written.
    fn write_out(&mut self, polled: &mut Events) {
        let now = self.clock.now();
        let until_us = now.mono_us + WRITE_OUT_US;
        self.core.handle(now, Event::Stopping);
        self.finish_round(now);
        while !self.core.is_written()
            && self.clock.now().mono_us < until_us
            && self.round(polled, Duration::from_millis(10)).is_ok()
        {}
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
            FIRST_PORT..FIRST_SOCKET => self.note_port(token),
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
                Mail::DiskSpace(space) => self.core.handle(now, Event::DiskSpace(space)),
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
                Mail::Call { call, reply } => {
                    let request = RequestId(self.next_request);
                    self.next_request += 1;
                    self.watch_calls(now);
                    self.calls.insert(request.0, reply);
                    self.core.handle(now, Event::Call { request, call });
                }
                Mail::Probed { probe, result } => {
                    self.core.handle(now, Event::Probed { probe, result });
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

    fn read(&mut self, now: Now) {
        for token in std::mem::take(&mut self.readable) {
            if self.clients.contains_key(&token) {
                self.read_client(now, token);
            } else if self.inbound.contains_key(&token) {
                self.read_inbound(now, token);
            }
        }
    }

    fn run_timers(&mut self, now: Now) {
        while let Some((at, timer)) = self.timers.first().copied()
            && at <= now.mono_us
        {
            self.timers.pop_first();
            match timer {
                Timer::Accept => self.accept_paused = false,
                Timer::Calls => self.end_calls(now),
                Timer::Linger(token) => {
                    self.clients.remove(&token);
                }
                Timer::Dial(token) => self.end_dial(now, token),
                Timer::Redial(pause) => self.end_pause(now, pause),
            }
        }
    }

    /// Tells the core of callers who have hung up.
    fn end_calls(&mut self, now: Now) {
        let mut gone: Vec<u64> = (self.calls.iter())
            .filter(|(_, reply)| reply.is_closed())
            .map(|(request, _)| *request)
            .collect();
        gone.sort_unstable();
        for request in gone {
            self.calls.remove(&request);
            let request = RequestId(request);
            self.core.handle(now, Event::HungUp { request });
        }
        self.watches_calls = false;
        if !self.calls.is_empty() {
            self.watch_calls(now);
        }
    }

    fn watch_calls(&mut self, now: Now) {
        if !self.watches_calls {
            self.watches_calls = true;
            (self.timers).insert((now.mono_us + CALLS_US, Timer::Calls));
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
            Action::AwaitDrain { client } => self.await_drain(client),
            Action::PauseClient { client, paused } => self.pause_client(client, paused),
            Action::CloseClient { client } => self.end_client(now, client),
            Action::Disk { lane, op } => match self.disks.get(&lane) {
                Some(disk) => disk.submit(op),
                None => {
                    self.stop = Some(Some(format!(
                        "{} asked for {lane}, which it does not have; this is a defect, please report it",
                        self.name
                    )));
                }
            },
            Action::OpenFrontEnd(front) => self.open_port(front),
            Action::CloseFrontEnd(front) => self.close_port(front),
            Action::AdminReply { request, reply } => {
                if let Some(waiting) = self.questions.remove(&request.0) {
                    // Who asked may have given up.
                    let _ = waiting.send(reply);
                }
            }
            Action::Probe {
                probe,
                target,
                timeout_us,
            } => {
                let mailbox = self.mailbox.clone();
                let time = Duration::from_micros(timeout_us);
                self.prober.probe(probe, target, time, mailbox);
            }
            Action::CallReply { request, reply } => {
                if let Some(waiting) = self.calls.remove(&request.0) {
                    // Who called may have hung up.
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

    // ---- writing -----------------------------------------------------------------------------

    fn write_all(&mut self) {
        let now = self.clock.now();
        for token in std::mem::take(&mut self.dirty) {
            if self.clients.contains_key(&token) {
                self.write_client(token);
            } else {
                self.write_outbound(now, token);
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
