//! A simulated ZooKeeper client: real bytes on simulated connections. It resumes its session on any node,
//! pings, registers its watches anew, and writes down everything that it sees.

use crate::history::{
    Answer, Ending, EventKind, History, Line, Op, Operation, OperationId, Reply, Seen, Session,
    SessionNumber, WatchSet,
};
use crate::protocol;
use crate::workload::CREDENTIALS;
use crate::world::{ConnectionNote, World};
use base::{Rng, SessionId};
use bytes::Bytes;
use node::{ClientId, FrontEnd};
use std::collections::{BTreeSet, VecDeque};
use wire_zookeeper::client::{ConnectResponse, Decoder, Response, request};
use wire_zookeeper::{ConnectRequest, opcode};

const FRAME_BYTES_MAX: u32 = 16 << 20;
const GREETING_WAIT_US: u64 = 1_500_000;
const SESSION_MOVED: i32 = -118;
const SESSION_EXPIRED: i32 = -112;

/// What the client is allowed to see and touch.
pub struct Context<'a> {
    /// The world.
    pub world: &'a mut World,
    /// The notebook.
    pub history: &'a mut History,
    /// Nodes that it may connect to.
    pub nodes: &'a [usize],
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Dialling,
    Greeting,
    Ready,
}

#[derive(Debug)]
struct Link {
    id: ClientId,
    node: usize,
    phase: Phase,
    decoder: Decoder,
    awaited: VecDeque<(i32, OperationId)>,
    pings: VecDeque<u64>,
    since_us: u64,
    heard_us: u64,
    sent_us: u64,
    next_xid: i32,
}

impl Link {
    fn new(id: ClientId, node: usize, now_us: u64) -> Self {
        Self {
            id,
            node,
            phase: Phase::Dialling,
            decoder: Decoder::new(FRAME_BYTES_MAX),
            awaited: VecDeque::new(),
            pings: VecDeque::new(),
            since_us: now_us,
            heard_us: now_us,
            sent_us: now_us,
            next_xid: 1,
        }
    }
}

#[derive(Clone, Debug)]
struct Held {
    number: SessionNumber,
    id: SessionId,
    password: Vec<u8>,
    timeout_us: u64,
}

/// Watches as the client believes them to be armed.
#[derive(Clone, Debug, Default)]
struct Watches {
    data: BTreeSet<String>,
    exist: BTreeSet<String>,
    child: BTreeSet<String>,
    persistent: BTreeSet<String>,
    recursive: BTreeSet<String>,
}

impl Watches {
    fn set(&self) -> WatchSet {
        let list = |paths: &BTreeSet<String>| paths.iter().cloned().collect();
        WatchSet {
            data: list(&self.data),
            exist: list(&self.exist),
            child: list(&self.child),
            persistent: list(&self.persistent),
            recursive: list(&self.recursive),
        }
    }

    fn fired(&mut self, kind: EventKind, path: &str) {
        if kind == EventKind::ChildrenChanged {
            self.child.remove(path);
            return;
        }
        self.data.remove(path);
        self.exist.remove(path);
        if kind == EventKind::Deleted {
            self.child.remove(path);
        }
    }

    fn replied(&mut self, op: &Op, result: &Result<Answer, i32>) {
        match (op, result) {
            (Op::Get { path, watch: true } | Op::Exists { path, watch: true }, Ok(_)) => {
                self.data.insert(path.clone());
            }
            (Op::Exists { path, watch: true }, Err(-101)) => {
                self.exist.insert(path.clone());
            }
            (Op::Children { path, watch: true }, Ok(_)) => {
                self.child.insert(path.clone());
            }
            (Op::AddWatch { path, recursive }, Ok(_)) => {
                if *recursive {
                    self.recursive.insert(path.clone());
                } else {
                    self.persistent.insert(path.clone());
                }
            }
            _ => {}
        }
    }
}

/// One client.
#[derive(Debug)]
pub struct Client {
    /// Its number.
    pub number: usize,
    /// Its own randomness.
    pub rng: Rng,
    /// The only node that it connects to, if there is such.
    pub pinned: Option<usize>,
    /// Shows the credentials that the guarded nodes ask for.
    pub credentials: bool,
    /// Time-out that it asks for.
    pub timeout_ms: u32,
    /// Sends nothing, not even pings, before then.
    pub nap_until_us: u64,
    /// Opens no connection before then.
    pub retry_at_us: u64,
    /// The latest reply's revision.
    pub last_zxid: i64,
    session: Option<Held>,
    link: Option<Link>,
    /// The connection from which the session was moved away.
    ghost: Option<Link>,
    watches: Watches,
    closing: bool,
    moved: bool,
}

impl Client {
    /// A client without a session.
    pub fn new(number: usize, rng: Rng, timeout_ms: u32) -> Self {
        Self {
            number,
            rng,
            pinned: None,
            credentials: false,
            timeout_ms,
            nap_until_us: 0,
            retry_at_us: 0,
            last_zxid: 0,
            session: None,
            link: None,
            ghost: None,
            watches: Watches::default(),
            closing: false,
            moved: false,
        }
    }

    /// True when it can send requests.
    pub fn is_ready(&self) -> bool {
        !self.closing && self.link.as_ref().is_some_and(|l| l.phase == Phase::Ready)
    }

    /// The node it is connected to.
    pub fn node(&self) -> Option<usize> {
        self.link.as_ref().map(|link| link.node)
    }

    /// The connection it uses.
    pub fn connection(&self) -> Option<ClientId> {
        self.link.as_ref().map(|link| link.id)
    }

    /// Requests without an answer on the present connection.
    pub fn outstanding(&self) -> usize {
        self.link.as_ref().map_or(0, |link| link.awaited.len())
    }

    /// Looks after connection and session. To be called often.
    pub fn tick(&mut self, cx: &mut Context<'_>) {
        let now_us = cx.world.now_us;
        let timeout_us = self
            .session
            .as_ref()
            .map_or(4_000_000, |held| held.timeout_us);
        let Some(link) = &mut self.link else {
            if now_us >= self.retry_at_us {
                self.dial(cx);
            }
            return;
        };
        if link.phase != Phase::Ready {
            if now_us > link.since_us + GREETING_WAIT_US {
                self.abandon(cx, false);
            }
            return;
        }
        if now_us < self.nap_until_us {
            return;
        }
        let silent_us = now_us - link.heard_us.max(self.nap_until_us);
        if silent_us > timeout_us * 2 / 3 {
            self.abandon(cx, false);
        } else if now_us - link.sent_us > timeout_us / 3 {
            link.sent_us = now_us;
            link.pings.push_back(now_us);
            let mut out = Vec::new();
            request::ping(&mut out);
            cx.world.client_send(link.id, out.into());
        }
    }

    fn pick_node(&mut self, cx: &Context<'_>, but: Option<usize>) -> Option<usize> {
        if let Some(node) = self.pinned {
            return Some(node);
        }
        let nodes: Vec<usize> = cx
            .nodes
            .iter()
            .copied()
            .filter(|n| Some(*n) != but)
            .collect();
        if nodes.is_empty() {
            return None;
        }
        Some(nodes[self.rng.range(0, nodes.len() as u64) as usize])
    }

    fn dial(&mut self, cx: &mut Context<'_>) {
        if let Some(node) = self.pick_node(cx, None) {
            let id = cx.world.connect(node, FrontEnd::Zookeeper);
            self.link = Some(Link::new(id, node, cx.world.now_us));
        }
    }

    /// Gives the connection up and tries elsewhere.
    pub fn abandon(&mut self, cx: &mut Context<'_>, silently: bool) {
        if let Some(link) = self.link.take() {
            cx.world.client_close(link.id, silently);
            self.detached(cx, &link);
        }
        self.retry_at_us = cx.world.now_us + self.rng.range(1_000, 200_000);
    }

    fn detached(&mut self, cx: &mut Context<'_>, link: &Link) {
        if link.phase == Phase::Ready {
            self.note(cx, link.id, Seen::Detached);
        }
        if self.closing {
            self.forget(cx, link.id);
        }
    }

    fn note(&self, cx: &mut Context<'_>, connection: ClientId, seen: Seen) {
        if let Some(held) = &self.session {
            let operations = &cx.history.operations;
            cx.world.trace.comment(cx.world.now_us, || {
                let of = match &seen {
                    Seen::Reply(id) => format!("{:?}", operations[*id]),
                    _ => String::new(),
                };
                let number = held.number;
                format!("session {number} on {connection:?} {seen:?} {of}")
            });
            cx.history.tape.push(Line {
                at_us: cx.world.now_us,
                session: held.number,
                connection,
                seen,
            });
        }
    }

    fn forget(&mut self, cx: &mut Context<'_>, connection: ClientId) {
        self.note(cx, connection, Seen::Ended);
        self.session = None;
        self.watches = Watches::default();
        self.last_zxid = 0;
        self.closing = false;
        if let Some(ghost) = self.ghost.take() {
            cx.world.client_close(ghost.id, false);
        }
    }

    /// Opens another connection for the same session elsewhere, and leaves the old one open to see
    /// whether it is still served.
    pub fn steal(&mut self, cx: &mut Context<'_>) {
        let here = self.node();
        if self.ghost.is_some() || self.session.is_none() || !self.is_ready() {
            return;
        }
        let Some(node) = self.pick_node(cx, here) else {
            return;
        };
        let id = cx.world.connect(node, FrontEnd::Zookeeper);
        let link = Link::new(id, node, cx.world.now_us);
        if let Some(old) = self.link.replace(link) {
            self.note(cx, old.id, Seen::Detached);
            self.ghost = Some(old);
        }
    }

    /// Sends requests, one behind the other. Says which they are.
    pub fn send(&mut self, cx: &mut Context<'_>, ops: Vec<Op>) -> Vec<OperationId> {
        let now_us = cx.world.now_us;
        let (Some(held), Some(link)) = (&self.session, &mut self.link) else {
            return Vec::new();
        };
        let ids = send_on(cx, link, held.number, ops, false);
        if let Some(id) = ids.last()
            && cx.history.operations[*id].op == Op::Close
        {
            self.closing = true;
            cx.history.sessions[held.number].ending = Some(Ending::Closing(now_us));
        }
        ids
    }

    /// Sends requests on the connection from which the session was moved away.
    pub fn send_as_ghost(&mut self, cx: &mut Context<'_>, ops: Vec<Op>) {
        if let (Some(held), Some(ghost)) = (&self.session, &mut self.ghost)
            && ghost.phase == Phase::Ready
        {
            send_on(cx, ghost, held.number, ops, true);
        }
    }

    /// True once after the session was moved away from a connection that is still open: the moment at
    /// which its old home may not know yet.
    pub fn take_moved(&mut self) -> bool {
        std::mem::take(&mut self.moved)
    }

    /// True while an old connection is left open.
    pub fn has_ghost(&self) -> bool {
        self.ghost.is_some()
    }

    /// Takes what arrived on one of its connections.
    pub fn handle(&mut self, cx: &mut Context<'_>, id: ClientId, note: ConnectionNote) {
        if self.ghost.as_ref().is_some_and(|ghost| ghost.id == id) {
            self.handle_ghost(cx, note);
            return;
        }
        let Some(link) = self.link.as_mut().filter(|link| link.id == id) else {
            return;
        };
        match note {
            ConnectionNote::Opened => {
                link.phase = Phase::Greeting;
                let connect = ConnectRequest {
                    protocol_version: 0,
                    last_zxid_seen: self.last_zxid,
                    timeout_ms: self.timeout_ms,
                    session: self.session.as_ref().map_or(SessionId(0), |held| held.id),
                    password: match &self.session {
                        Some(held) => held.password.clone(),
                        None => vec![0; 16],
                    },
                    read_only: false,
                    had_read_only_flag: true,
                };
                link.sent_us = cx.world.now_us;
                let mut out = Vec::new();
                request::connect(&mut out, &connect);
                cx.world.client_send(id, out.into());
            }
            ConnectionNote::Closed => {
                if let Some(link) = self.link.take() {
                    self.detached(cx, &link);
                }
                self.retry_at_us = cx.world.now_us + self.rng.range(1_000, 300_000);
            }
            ConnectionNote::Bytes(bytes) => self.handle_bytes(cx, &bytes),
        }
    }

    fn handle_bytes(&mut self, cx: &mut Context<'_>, bytes: &Bytes) {
        let Some(link) = &mut self.link else { return };
        link.decoder.handle_bytes(bytes);
        link.heard_us = cx.world.now_us;
        while let Some(link) = &mut self.link {
            match link.decoder.poll() {
                Ok(None) => return,
                Ok(Some(response)) => self.handle_response(cx, response),
                Err(why) => {
                    let number = self.number;
                    let complaint = format!("client {number} got a malformed frame: {why}");
                    cx.history.complaints.push(complaint);
                    self.abandon(cx, false);
                    return;
                }
            }
        }
    }

    fn handle_response(&mut self, cx: &mut Context<'_>, response: Response) {
        let now_us = cx.world.now_us;
        let Some(link) = &mut self.link else { return };
        let id = link.id;
        match response {
            Response::Connect(connect) => self.handle_connect(cx, connect),
            Response::Notification {
                zxid, kind, path, ..
            } => match protocol::event_kind(kind) {
                Some(kind) => {
                    self.watches.fired(kind, &path);
                    self.note(cx, id, Seen::Event(kind, path, zxid));
                }
                None => cx
                    .history
                    .complaints
                    .push(format!("an event of kind {kind}")),
            },
            Response::Reply {
                xid: opcode::PING_XID,
                zxid,
                ..
            } => {
                if let Some(sent_us) = link.pings.pop_front() {
                    self.vouch(cx, sent_us);
                }
                self.saw(zxid);
                self.note(cx, id, Seen::Pong(zxid));
            }
            Response::Reply {
                xid: opcode::AUTH_XID,
                error,
                ..
            } => {
                if error != 0 {
                    let complaint = format!("credentials were refused: {error}");
                    cx.history.complaints.push(complaint);
                }
            }
            Response::Reply {
                xid: opcode::SET_WATCHES_XID,
                zxid,
                ..
            } => {
                self.saw(zxid);
                self.note(cx, id, Seen::WatchesReplied(zxid));
            }
            Response::Reply {
                xid,
                zxid,
                error,
                body,
            } => {
                let Some((wanted, operation)) = link.awaited.pop_front() else {
                    let complaint = format!("a reply {xid} that nobody waits for");
                    cx.history.complaints.push(complaint);
                    return;
                };
                if wanted != xid {
                    let complaint = format!("reply {xid} where {wanted} was due");
                    cx.history.complaints.push(complaint);
                    self.abandon(cx, false);
                    return;
                }
                let result = read_reply(cx.history, operation, error, &body);
                let record = &mut cx.history.operations[operation];
                record.reply = Some(Reply {
                    at_us: now_us,
                    zxid,
                    result: result.clone(),
                });
                let (op, sent_us) = (record.op.clone(), record.invoked_us);
                self.watches.replied(&op, &result);
                self.saw(zxid);
                self.note(cx, id, Seen::Reply(operation));
                match result {
                    Err(SESSION_MOVED | SESSION_EXPIRED) => self.abandon(cx, false),
                    _ => self.vouch(cx, sent_us),
                }
                if op == Op::Close {
                    self.abandon(cx, false);
                }
            }
        }
    }

    fn saw(&mut self, zxid: i64) {
        if zxid > 0 {
            self.last_zxid = self.last_zxid.max(zxid);
        }
    }

    fn vouch(&self, cx: &mut Context<'_>, sent_us: u64) {
        if let Some(held) = &self.session {
            let session = &mut cx.history.sessions[held.number];
            session.vouched_us = session.vouched_us.max(sent_us);
        }
    }

    fn handle_connect(&mut self, cx: &mut Context<'_>, connect: ConnectResponse) {
        let now_us = cx.world.now_us;
        let Some(link) = &mut self.link else { return };
        let (id, greeted_us) = (link.id, link.sent_us);
        if connect.session.0 == 0 || connect.timeout_ms <= 0 {
            match &self.session {
                Some(held) => {
                    let session = &mut cx.history.sessions[held.number];
                    session.ending.get_or_insert(Ending::Expired(now_us));
                    self.forget(cx, id);
                }
                None => cx
                    .history
                    .complaints
                    .push("a new session was refused as expired".into()),
            }
            self.abandon(cx, false);
            return;
        }
        link.phase = Phase::Ready;
        if let Some(held) = &mut self.session {
            if held.id != connect.session {
                let complaint = format!("resumed {} and got {}", held.id, connect.session);
                cx.history.complaints.push(complaint);
            }
            held.timeout_us = connect.timeout_ms as u64 * 1000;
            let number = held.number;
            cx.history.sessions[number].timeout_ms = connect.timeout_ms as u64;
            self.vouch(cx, greeted_us);
        } else {
            let number = cx.history.sessions.len();
            cx.history.sessions.push(Session {
                client: self.number,
                id: connect.session,
                credentials: self.credentials,
                timeout_ms: connect.timeout_ms as u64,
                vouched_us: greeted_us,
                ending: None,
            });
            self.session = Some(Held {
                number,
                id: connect.session,
                password: connect.password,
                timeout_us: connect.timeout_ms as u64 * 1000,
            });
        }
        self.moved = self.ghost.is_some();
        self.note(cx, id, Seen::Attached);
        if self.credentials {
            let mut out = Vec::new();
            request::add_auth(&mut out, "digest", CREDENTIALS.as_bytes());
            cx.world.client_send(id, out.into());
        }
        let set = self.watches.set();
        if !set.is_empty() {
            let mut out = Vec::new();
            let paths: [&[String]; 5] = [
                &set.data,
                &set.exist,
                &set.child,
                &set.persistent,
                &set.recursive,
            ];
            request::set_watches(&mut out, self.last_zxid, paths);
            cx.world.client_send(id, out.into());
            self.note(cx, id, Seen::WatchesSet(set));
        }
    }

    fn handle_ghost(&mut self, cx: &mut Context<'_>, note: ConnectionNote) {
        let now_us = cx.world.now_us;
        let Some(ghost) = &mut self.ghost else { return };
        match note {
            ConnectionNote::Opened => {}
            ConnectionNote::Closed => self.ghost = None,
            ConnectionNote::Bytes(bytes) => {
                ghost.decoder.handle_bytes(&bytes);
                while let Ok(Some(response)) = ghost.decoder.poll() {
                    let Response::Reply {
                        xid,
                        zxid,
                        error,
                        body,
                    } = response
                    else {
                        continue;
                    };
                    if ghost
                        .awaited
                        .front()
                        .is_some_and(|(wanted, _)| *wanted == xid)
                        && let Some((_, operation)) = ghost.awaited.pop_front()
                    {
                        let result = read_reply(cx.history, operation, error, &body);
                        cx.history.operations[operation].reply = Some(Reply {
                            at_us: now_us,
                            zxid,
                            result,
                        });
                    }
                }
            }
        }
    }
}

fn read_reply(
    history: &mut History,
    operation: OperationId,
    error: i32,
    body: &Bytes,
) -> Result<Answer, i32> {
    if error != 0 {
        return Err(error);
    }
    match protocol::decode(&history.operations[operation].op, body) {
        Ok(answer) => Ok(answer),
        Err(why) => {
            history.complaints.push(why);
            Err(i32::MIN)
        }
    }
}

fn send_on(
    cx: &mut Context<'_>,
    link: &mut Link,
    session: SessionNumber,
    ops: Vec<Op>,
    ghost: bool,
) -> Vec<OperationId> {
    let now_us = cx.world.now_us;
    let mut out = Vec::new();
    let mut ids = Vec::new();
    let mut synced_by = None;
    for op in ops {
        let id = cx.history.operations.len();
        let xid = link.next_xid;
        link.next_xid += 1;
        protocol::encode(&mut out, xid, &op);
        let is_sync = op == Op::Sync;
        cx.history.operations.push(Operation {
            session,
            connection: link.id,
            invoked_us: now_us,
            op,
            synced_by,
            ghost,
            reply: None,
        });
        if is_sync {
            synced_by = Some(id);
        }
        link.awaited.push_back((xid, id));
        ids.push(id);
    }
    link.sent_us = now_us;
    cx.world.client_send(link.id, out.into());
    ids
}
