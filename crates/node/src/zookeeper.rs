//! The ZooKeeper front end of a core: connections, the sessions that have their home here, their order
//! of replies and events, and their watches.
//!
//! A connection's requests are answered in the order in which they came. Writes are sent to the leader
//! at once, one behind the other; whatever comes behind a write (a read, a ping, a sync) waits in the
//! connection's queue until the write is applied *here*, and is then served from the local state. Events
//! go into the same buffer in apply order, so a client sees the event before any data that shows it.

mod client;
mod local;
mod sessions;
mod words;

pub use client::{Client, Link, PendingKind, Stage, WriteReply};

use crate::admin::Counters;
use crate::config::CoreConfig;
use crate::core::Ask;
use crate::event::{Action, ClientId};
use base::planted::{Bug, planted};
use base::{CoreAddress, Now, SessionId};
use bytes::Bytes;
use catalog::TREE_SHARD;
use coordination::leases::CUT_OFF_DIVISOR;
use coordination::watches::Watches;
use coordination::{
    AttachRefusal, Command, Coordination, Envelope, ErrorCode, Event, Origin, Output, Principal,
    Reply, SessionEnd, Unit,
};
use sha1::Digest;
use shard::DataUnit;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use wire_zookeeper::{ConnectRequest, Incoming, Limits, Request, reply};

/// Watches that one connection may hold; one that wants more is closed with a log line.
pub const WATCHES_MAX: usize = 2_000_000;
/// Watches of ended connections that are given back in one tick.
const REAPED_MAX: usize = 2_000;
/// A connection must complete its first request within this, in microseconds.
pub const FIRST_REQUEST_US: u64 = 10_000_000;
/// An unanswered connect is proposed again after this, in microseconds: the leader may have changed.
const CONNECT_RETRY_US: u64 = 1_000_000;
/// A connect that was not answered for this long is given up, in microseconds.
const CONNECT_MAX_US: u64 = 30_000_000;

/// Remembered tokens of connects that were given up or repeated; a session that slips through expires.
const STRAYS_MAX: usize = 10_000;

fn propose(unit: Unit) -> Ask {
    Ask::Propose(TREE_SHARD, DataUnit::Coordination(unit).encode())
}

/// What the front end needs for a moment.
pub struct Context<'a> {
    /// The time.
    pub now: Now,
    /// The tree as this replica has it.
    pub tree: &'a Coordination,
    /// Requests to the core, in order.
    pub asks: &'a mut Vec<Ask>,
    /// For the host.
    pub actions: &'a mut VecDeque<Action>,
    /// Counted.
    pub counters: &'a mut Counters,
    /// Too much waits for a transaction to be decided: no more writes are taken.
    pub is_held_up: bool,
}

/// The front end.
#[derive(Debug)]
pub struct Zookeeper {
    me: CoreAddress,
    limits: Limits,
    timeout_bounds_ms: (u32, u32),
    superuser_digest: Option<String>,
    secret: [u8; 32],
    passwords: u64,
    clients: BTreeMap<ClientId, Client>,
    sessions: BTreeMap<SessionId, ClientId>,
    waiting: BTreeMap<u64, ClientId>,
    next_token: u64,
    /// Tokens under which a session may still be opened that nobody waits for.
    strays: BTreeSet<u64>,
    barriers: BTreeMap<u64, ClientId>,
    watches: Watches,
    touched: BTreeSet<SessionId>,
    unsent: Vec<ClientId>,
    dirty: Vec<ClientId>,
    fired: Vec<(u64, coordination::EventKind)>,
    late_events: Vec<Event>,
    /// For the four-letter words: `leader`, `follower`, `observer`, `standalone`.
    pub mode: &'static str,
    /// True while disks are too full for writes that add data.
    pub refuses_additions: bool,
}

impl Zookeeper {
    /// A front end of the core `me`. Tokens start at a random place, so that they are unique across restarts.
    pub fn new(me: CoreAddress, config: &CoreConfig, first_token: u64) -> Self {
        Self {
            me,
            limits: Limits {
                frame_bytes_max: config.data_bytes_max.saturating_add(1024),
            },
            timeout_bounds_ms: config.session_timeout_ms,
            superuser_digest: config.superuser_digest.clone(),
            secret: config.secret,
            passwords: first_token,
            clients: BTreeMap::new(),
            sessions: BTreeMap::new(),
            waiting: BTreeMap::new(),
            next_token: first_token,
            strays: BTreeSet::new(),
            barriers: BTreeMap::new(),
            watches: Watches::new(WATCHES_MAX),
            touched: BTreeSet::new(),
            unsent: Vec::new(),
            dirty: Vec::new(),
            fired: Vec::new(),
            late_events: Vec::new(),
            mode: "follower",
            refuses_additions: false,
        }
    }

    /// Connections.
    pub fn connection_count(&self) -> usize {
        self.clients.len()
    }

    /// Watches armed here.
    pub fn watch_count(&self) -> usize {
        self.watches.len()
    }

    /// Requests that wait.
    pub fn outstanding(&self) -> usize {
        self.clients.values().map(|c| c.queue.len()).sum()
    }

    /// Sessions heard from since this was called last.
    pub fn take_touched(&mut self) -> Vec<i64> {
        std::mem::take(&mut self.touched)
            .into_iter()
            .map(|s| s.0)
            .collect()
    }

    /// True while any session has its home here.
    pub fn has_sessions(&self) -> bool {
        !self.sessions.is_empty()
    }

    fn token(&mut self) -> u64 {
        self.next_token = self.next_token.wrapping_add(1);
        self.next_token
    }

    /// Not guessable from passwords that were handed out: a keyed hash of a counter.
    fn password(&mut self) -> [u8; 16] {
        self.passwords = self.passwords.wrapping_add(1);
        let mut input = self.secret.to_vec();
        input.extend_from_slice(&self.passwords.to_be_bytes());
        let hash: [u8; 20] = sha1::Sha1::digest(&input).into();
        let mut password = [0; 16];
        password.copy_from_slice(&hash[..16]);
        password
    }

    // --- connections ---

    /// A client connected.
    pub fn handle_opened(&mut self, now: Now, id: ClientId, address: String) {
        let client = Client::new(id, address, self.limits, now);
        self.clients.insert(id, client);
    }

    /// A client's connection ended.
    pub fn handle_closed(&mut self, id: ClientId) {
        let Some(client) = self.clients.remove(&id) else {
            return;
        };
        self.forget(&client);
    }

    fn forget(&mut self, client: &Client) {
        self.watches.remove_watcher(client.id.0);
        match &client.stage {
            Stage::Connecting { token, .. } => {
                self.waiting.remove(token);
                self.note_stray(*token);
            }
            Stage::Established(link) => {
                if self.sessions.get(&link.session) == Some(&client.id) {
                    self.sessions.remove(&link.session);
                }
            }
            Stage::New => {}
        }
        for pending in &client.queue {
            if let PendingKind::Barrier { token, .. } = &pending.kind {
                self.barriers.remove(token);
            }
        }
    }

    /// Sends what is queued and closes the connection.
    fn close(&mut self, id: ClientId, actions: &mut VecDeque<Action>) {
        let Some(mut client) = self.clients.remove(&id) else {
            return;
        };
        self.forget(&client);
        client.out.close(id, actions);
    }

    /// Closes every connection: what they depended on is gone.
    pub fn close_all(&mut self, actions: &mut VecDeque<Action>) {
        let all: Vec<ClientId> = self.clients.keys().copied().collect();
        for id in all {
            self.close(id, actions);
        }
    }

    /// Bytes from a client.
    pub fn handle_bytes(&mut self, cx: &mut Context<'_>, id: ClientId, bytes: &Bytes) {
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        cx.counters.bytes_in += bytes.len() as u64;
        client.wire.handle_bytes(bytes);
        if let Stage::Established(link) = &client.stage {
            self.touched.insert(link.session);
        }
        self.poll_client(cx, id);
    }

    fn poll_client(&mut self, cx: &mut Context<'_>, id: ClientId) {
        loop {
            let Some(client) = self.clients.get_mut(&id) else {
                return;
            };
            let connecting = matches!(client.stage, Stage::Connecting { .. });
            if connecting || client.is_full() {
                if client.wire.buffered_bytes() > 0 || client.is_full() {
                    client.out.pause(id, true, cx.actions);
                }
                return;
            }
            match client.wire.poll() {
                Ok(None) => {
                    return client.out.pause(id, false, cx.actions);
                }
                Ok(Some(Incoming::Word(word))) => {
                    let text = self.word(cx, word);
                    if let Some(client) = self.clients.get_mut(&id) {
                        client.out.bytes.extend_from_slice(text.as_bytes());
                    }
                    return self.close(id, cx.actions);
                }
                Ok(Some(Incoming::Connect(request))) => self.connect(cx, id, request),
                Ok(Some(Incoming::Request { xid, request })) => {
                    self.request(cx, id, xid, request);
                }
                Err(error) => {
                    cx.counters.malformed += 1;
                    let address = client.address.clone();
                    cx.actions.push_back(Action::Log {
                        level: crate::Level::Warn,
                        message: format!("closed the ZooKeeper connection from {address}: {error}"),
                    });
                    return self.close(id, cx.actions);
                }
            }
        }
    }

    // --- requests ---

    fn request(&mut self, cx: &mut Context<'_>, id: ClientId, xid: i32, request: Request) {
        let (command, write) = match request {
            Request::Write { op, shape } => (Command::Write(op), WriteReply::One(shape)),
            Request::Multi(ops) => {
                let (ops, shapes) = ops.into_iter().unzip();
                (Command::Multi(ops), WriteReply::Multi(shapes))
            }
            Request::CloseSession => (Command::CloseSession, WriteReply::Close),
            Request::Sync { path } => return self.sync(cx, id, xid, path),
            request => {
                if let Request::AddAuth { scheme, auth } = &request {
                    self.authenticate(id, scheme, auth);
                }
                let kind = PendingKind::Local(Box::new(request));
                return self.enqueue(cx, id, xid, kind);
            }
        };
        cx.counters.writes += 1;
        if cx.is_held_up {
            return self.close(id, cx.actions);
        }
        if self.refuses_additions && command.adds() {
            let error = ErrorCode::SystemError;
            let kind = PendingKind::Local(Box::new(Request::Refused { error }));
            return self.enqueue(cx, id, xid, kind);
        }
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        let Stage::Established(link) = &mut client.stage else {
            return;
        };
        link.sequence += 1;
        let envelope = Envelope {
            namespace: 0,
            principal: client.principal.clone(),
            session: link.session,
            generation: link.generation,
            sequence: link.sequence,
        };
        let kind = PendingKind::Write {
            sequence: link.sequence,
            reply: write,
            sent: false,
        };
        client.push(cx.now, xid, kind);
        self.unsent.push(id);
        cx.asks.push(propose(Unit { envelope, command }));
    }

    fn sync(&mut self, cx: &mut Context<'_>, id: ClientId, xid: i32, path: String) {
        cx.counters.reads += 1;
        let token = self.token();
        self.barriers.insert(token, id);
        cx.asks.push(Ask::Barrier(TREE_SHARD, token));
        let kind = PendingKind::Barrier {
            token,
            path,
            reached: false,
        };
        self.enqueue(cx, id, xid, kind);
    }

    fn enqueue(&mut self, cx: &mut Context<'_>, id: ClientId, xid: i32, kind: PendingKind) {
        if let Some(client) = self.clients.get_mut(&id) {
            client.push(cx.now, xid, kind);
        }
        self.drain(cx, id, false);
    }

    fn authenticate(&mut self, id: ClientId, scheme: &str, auth: &[u8]) {
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        if scheme != "digest" {
            return;
        }
        if let Some(identity) = wire_zookeeper::digest_identity(auth) {
            client.principal.superuser |= self.superuser_digest.as_ref() == Some(&identity.id);
            if !client.principal.identities.contains(&identity) {
                client.principal.identities.push(identity);
            }
        }
    }

    /// Serves what stands at the head of a connection's queue and waits for nothing. `waited`: it stood
    /// behind a write.
    fn drain(&mut self, cx: &mut Context<'_>, id: ClientId, waited: bool) {
        loop {
            let Some(client) = self.clients.get_mut(&id) else {
                return;
            };
            let Some(pending) = client.take_ready() else {
                break;
            };
            self.dirty.push(id);
            cx.counters.note_latency(cx.now, pending.since_us);
            match pending.kind {
                PendingKind::Local(request) => {
                    if !self.serve(cx, id, pending.xid, *request, waited) {
                        return self.close(id, cx.actions);
                    }
                }
                PendingKind::Barrier { path, .. } => {
                    let zxid = cx.tree.zxid();
                    if let Some(client) = self.clients.get_mut(&id) {
                        reply::sync(&mut client.out.bytes, pending.xid, zxid, &path);
                    }
                }
                PendingKind::Write { .. } => {}
            }
        }
        self.resume(cx, id);
    }

    /// Reads again from a connection that was full and has room now.
    fn resume(&mut self, cx: &mut Context<'_>, id: ClientId) {
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        if client.out.is_paused() && client.link().is_some() && client.has_room() {
            client.out.pause(id, false, cx.actions);
            if client.wire.buffered_bytes() > 0 {
                self.poll_client(cx, id);
            }
        }
    }

    /// A barrier is reached.
    pub fn handle_barrier(&mut self, cx: &mut Context<'_>, token: u64) {
        let Some(id) = self.barriers.remove(&token) else {
            return;
        };
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        for pending in &mut client.queue {
            if let PendingKind::Barrier {
                token: t, reached, ..
            } = &mut pending.kind
                && *t == token
            {
                *reached = true;
            }
        }
        self.drain(cx, id, true);
    }

    // --- what applying tells ---

    /// One output of the tree's machine, in apply order.
    pub fn handle_output(&mut self, cx: &mut Context<'_>, output: Output) {
        match output {
            Output::Event(event) if planted(Bug::EventAfterData) => self.late_events.push(event),
            Output::Event(event) => self.event(cx, &event),
            Output::Reply {
                session,
                generation,
                sequence,
                zxid,
                reply,
            } => {
                self.reply(cx, session, generation, sequence, zxid, &reply);
                self.tell_late(cx);
            }
            Output::Refused {
                session,
                generation,
                ..
            } => {
                if let Some(id) = self.client_of(session, generation) {
                    self.close(id, cx.actions);
                }
            }
            Output::SessionOpened {
                origin,
                session,
                password,
                timeout_ms,
                zxid,
            } => self.established(cx, origin, session, 1, password, timeout_ms, zxid),
            Output::SessionAttached {
                origin,
                session,
                generation,
                password,
                timeout_ms,
                zxid,
                ..
            } => {
                if origin.home != self.me
                    && !planted(Bug::ServeAfterMove)
                    && let Some(id) = self.sessions.get(&session)
                {
                    self.close(*id, cx.actions);
                }
                self.established(cx, origin, session, generation, password, timeout_ms, zxid);
            }
            Output::AttachRefused { origin, why } => self.attach_refused(cx, origin, why),
            Output::SessionEnded { session, why } => {
                self.tell_late(cx);
                let Some(id) = self.sessions.get(&session).copied() else {
                    return;
                };
                cx.counters.sessions_expired += u64::from(why == SessionEnd::Expired);
                let closing = self.clients.get(&id).is_some_and(Client::awaits_close);
                if !(why == SessionEnd::Closed && closing) {
                    self.close(id, cx.actions);
                }
            }
        }
    }

    fn tell_late(&mut self, cx: &mut Context<'_>) {
        for event in std::mem::take(&mut self.late_events) {
            self.event(cx, &event);
        }
    }

    fn event(&mut self, cx: &mut Context<'_>, event: &Event) {
        self.fired.clear();
        self.watches.handle_event(event, &mut self.fired);
        for (watcher, kind) in &self.fired {
            let id = ClientId(*watcher);
            if let Some(client) = self.clients.get_mut(&id) {
                reply::notification(&mut client.out.bytes, event.zxid, *kind, &event.path);
                cx.counters.notifications += 1;
                self.dirty.push(id);
            }
        }
    }

    fn client_of(&self, session: SessionId, generation: u32) -> Option<ClientId> {
        let id = *self.sessions.get(&session)?;
        let link = self.clients.get(&id)?.link()?;
        (link.generation == generation).then_some(id)
    }

    fn reply(
        &mut self,
        cx: &mut Context<'_>,
        session: SessionId,
        generation: u32,
        sequence: u64,
        zxid: i64,
        answer: &Reply,
    ) {
        let Some(id) = self.client_of(session, generation) else {
            return;
        };
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        let Some(pending) = client.take_write(sequence) else {
            return;
        };
        cx.counters.note_latency(cx.now, pending.since_us);
        let (out, xid) = (&mut client.out.bytes, pending.xid);
        match (answer, pending.kind) {
            (Reply::Write(result), PendingKind::Write { reply, .. }) => {
                cx.counters.errors += u64::from(result.is_err());
                let shape = match reply {
                    WriteReply::One(shape) => shape,
                    _ => wire_zookeeper::WriteShape::Plain,
                };
                reply::write(out, xid, zxid, shape, result);
            }
            (Reply::Multi(result), PendingKind::Write { reply, .. }) => {
                cx.counters.errors += u64::from(result.is_err());
                let shapes = match reply {
                    WriteReply::Multi(shapes) => shapes,
                    _ => Vec::new(),
                };
                reply::multi(out, xid, zxid, shapes, result);
            }
            _ => {
                reply::ok(out, xid, zxid);
                return self.close(id, cx.actions);
            }
        }
        self.dirty.push(id);
        self.drain(cx, id, true);
    }

    // --- time and leaders ---

    /// All units that were asked for have been sent to a leader.
    pub fn mark_sent(&mut self) {
        for id in self.unsent.drain(..) {
            if let Some(client) = self.clients.get_mut(&id) {
                client.mark_sent();
            }
        }
    }

    /// The leader changed, or frames to it were lost: whoever has a write under way cannot know its fate here.
    pub fn handle_leader_lost(&mut self, cx: &mut Context<'_>) {
        let lost: Vec<ClientId> = (self.clients.values())
            .filter(|c| c.has_sent_write())
            .map(|c| c.id)
            .collect();
        for id in lost {
            self.close(id, cx.actions);
        }
        for client in self.clients.values_mut() {
            if let Stage::Connecting { asked_us, .. } = &mut client.stage {
                *asked_us = 0;
            }
        }
    }

    /// Time passed. `contact_us`: when the leader was last known to have heard of our sessions.
    pub fn handle_tick(&mut self, cx: &mut Context<'_>, contact_us: u64) {
        self.watches.reap(REAPED_MAX);
        let now_us = cx.now.mono_us;
        let mut over = Vec::new();
        for client in self.clients.values_mut() {
            match &mut client.stage {
                Stage::New if now_us > client.opened_us + FIRST_REQUEST_US => over.push(client.id),
                Stage::Connecting {
                    command,
                    asked_us,
                    since_us,
                    repeated,
                    ..
                } => {
                    if now_us > *since_us + CONNECT_MAX_US {
                        over.push(client.id);
                    } else if now_us > *asked_us + CONNECT_RETRY_US {
                        *asked_us = now_us;
                        *repeated = true;
                        cx.asks.push(propose(Unit {
                            envelope: Envelope::default(),
                            command: command.clone(),
                        }));
                    }
                }
                // The leader may be expiring it without our knowing: better to let the client look elsewhere.
                Stage::Established(link)
                    if now_us
                        > contact_us
                            + u64::from(link.timeout_ms) * 1000 / u64::from(CUT_OFF_DIVISOR) =>
                {
                    over.push(client.id);
                }
                _ => {}
            }
        }
        for id in over {
            self.close(id, cx.actions);
        }
    }

    /// Hands what was written to the host.
    pub fn flush(&mut self, counters: &mut Counters, actions: &mut VecDeque<Action>) {
        for id in std::mem::take(&mut self.dirty) {
            if let Some(client) = self.clients.get_mut(&id)
                && !client.out.flush(id, counters, actions)
            {
                self.close(id, actions);
            }
        }
    }

    /// A client has read what was sent: what waited for that goes on.
    pub fn handle_drained(&mut self, cx: &mut Context<'_>, id: ClientId) {
        if let Some(client) = self.clients.get_mut(&id) {
            client.out.handle_drained();
            self.dirty.push(id);
            self.drain(cx, id, false);
        }
    }

    /// The home's principal of a connection, for reads by people.
    pub fn anonymous(address: &str) -> Principal {
        Principal {
            address: address.to_owned(),
            ..Principal::default()
        }
    }
}
