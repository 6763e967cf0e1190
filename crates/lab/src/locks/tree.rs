//! A contender on the tree, with a session of its own that it resumes on any node.

use super::{Held, Hold, LOCKS, Play, hold, receive};
use crate::client::Context;
use crate::player::{self, Phase};
use crate::world::ConnectionNote;
use base::{Rng, SessionId};
use bytes::Bytes;
use coordination::lock::tree::{Contender, Names, Reply, Request};
use coordination::lock::{Mode, State};
use coordination::{Acl, CreateMode, ErrorCode};
use node::{ClientId, FrontEnd};
use wire_zookeeper::client::{Decoder, Response, body, request};
use wire_zookeeper::{ConnectRequest, WriteShape, error_code, opcode};

const FRAME_BYTES_MAX: u32 = 16 << 20;
const ANSWER_WAIT_US: u64 = 1_500_000;
const EVENT_DELETED: i32 = 2;

#[derive(Debug)]
struct Link {
    id: ClientId,
    is_ready: bool,
    decoder: Decoder,
    /// What is asked, when.
    asked: Option<(Request, u64)>,
    next_xid: i32,
    since_us: u64,
    heard_us: u64,
    sent_us: u64,
}

/// One player.
#[derive(Debug)]
pub struct Player {
    number: usize,
    rng: Rng,
    timeout_ms: u32,
    session: SessionId,
    password: Vec<u8>,
    last_zxid: i64,
    link: Option<Link>,
    retry_us: u64,
    contender: Option<Contender>,
    attempts: u64,
    mode: Mode,
    wanted_us: u64,
    give_up_us: u64,
    held: Option<Held>,
    /// Connections may be broken on purpose.
    is_free: bool,
    /// What it was to do in this phase is done.
    done: bool,
}

impl Player {
    /// Without a connection.
    pub fn new(number: usize, mut rng: Rng) -> Self {
        Self {
            number,
            timeout_ms: rng.range(1_500, 5_000) as u32,
            rng,
            session: SessionId(0),
            password: vec![0; 16],
            last_zxid: 0,
            link: None,
            retry_us: 0,
            contender: None,
            attempts: 0,
            mode: Mode::Exclusive,
            wanted_us: 0,
            give_up_us: u64::MAX,
            held: None,
            is_free: false,
            done: true,
        }
    }

    fn play(&mut self, cx: &mut Context<'_>, play: Play) {
        receive(cx);
        let now_us = cx.world.now_us;
        let Some(link) = &mut self.link else {
            if now_us >= self.retry_us && !cx.nodes.is_empty() {
                let node = cx.nodes[self.rng.range(0, cx.nodes.len() as u64) as usize];
                self.link = Some(Link {
                    id: cx.world.connect(node, FrontEnd::Zookeeper),
                    is_ready: false,
                    decoder: Decoder::new(FRAME_BYTES_MAX),
                    asked: None,
                    next_xid: 1,
                    since_us: now_us,
                    heard_us: now_us,
                    sent_us: now_us,
                });
            }
            return;
        };
        let third_us = u64::from(self.timeout_ms) * 1_000 / 3;
        let is_silent = match (&link.asked, link.is_ready) {
            (_, false) => now_us > link.since_us + ANSWER_WAIT_US,
            (Some((_, sent_us)), _) => now_us > sent_us + ANSWER_WAIT_US,
            (None, _) => now_us > link.heard_us.max(link.sent_us) + third_us,
        };
        if is_silent || play == Play::Freely && self.rng.one_in(150) {
            let silently = self.rng.one_in(2);
            return self.abandon(cx, silently);
        }
        if !link.is_ready {
            return;
        }
        if now_us > link.sent_us + third_us / 2 {
            let mut out = Vec::new();
            request::ping(&mut out);
            link.sent_us = now_us;
            cx.world.client_send(link.id, out.into());
        }
        self.contend(cx, play);
        self.ask(cx);
    }

    fn contend(&mut self, cx: &mut Context<'_>, play: Play) {
        let now_us = cx.world.now_us;
        let Some(contender) = &mut self.contender else {
            self.done |= play == Play::Rest;
            if !self.done && (play == Play::Once || self.rng.one_in(4)) {
                self.begin(now_us, play);
            }
            return;
        };
        let is_hasty = play == Play::Rest || play == Play::Freely && now_us >= self.give_up_us;
        match contender.state() {
            State::Waiting if is_hasty => contender.release(),
            State::Waiting => {}
            State::Held(fence) => {
                let fence = *fence;
                let (player, mode, wanted_us) = (self.number, self.mode, self.wanted_us);
                hold(cx, &mut self.rng, &mut self.held, |held_us| Hold {
                    player,
                    lock: LOCKS[0],
                    mode,
                    fence,
                    wanted_us,
                    held_us,
                    confirmed_us: held_us,
                });
                let is_over = self.held.is_some_and(|held| now_us >= held.until_us);
                match is_over || is_hasty && play == Play::Rest {
                    true => contender.release(),
                    false => contender.confirm(),
                }
            }
            State::Lost(_) => self.end(),
            State::Released => {
                self.done |= play == Play::Once && self.held.is_some();
                self.end();
            }
        }
    }

    fn begin(&mut self, now_us: u64, play: Play) {
        self.attempts += 1;
        self.mode = match self.rng.one_in(3) {
            true => Mode::Shared,
            false => Mode::Exclusive,
        };
        let names = match self.rng.one_in(2) {
            true => Names::Kazoo,
            false => Names::Curator,
        };
        self.wanted_us = now_us;
        self.give_up_us = match play == Play::Freely && self.rng.one_in(4) {
            true => now_us + self.rng.range(0, 500_000),
            false => u64::MAX,
        };
        let id = format!("p{}.{}", self.number, self.attempts);
        self.contender = Contender::new(LOCKS[0], &id, self.mode, names);
    }

    fn end(&mut self) {
        self.contender = None;
        self.held = None;
    }

    fn ask(&mut self, cx: &mut Context<'_>) {
        let (Some(link), Some(contender)) = (&mut self.link, &mut self.contender) else {
            return;
        };
        if link.asked.is_some() {
            return;
        }
        let Some(request) = contender.poll_request() else {
            return;
        };
        let mut out = Vec::new();
        encode(&mut out, link.next_xid, &request);
        link.next_xid += 1;
        link.sent_us = cx.world.now_us;
        let is_create = matches!(request, Request::Create { .. });
        link.asked = Some((request, cx.world.now_us));
        cx.world.client_send(link.id, out.into());
        // Whether it is carried out will not be known.
        if is_create && self.is_free && self.rng.one_in(10) {
            self.abandon(cx, false);
        }
    }

    fn abandon(&mut self, cx: &mut Context<'_>, silently: bool) {
        if let Some(link) = self.link.take() {
            cx.world.client_close(link.id, silently);
        }
        self.retry_us = cx.world.now_us + self.rng.range(1_000, 300_000);
    }

    fn take_note(&mut self, cx: &mut Context<'_>, id: ClientId, note: &ConnectionNote) {
        let Some(link) = self.link.as_mut().filter(|link| link.id == id) else {
            return;
        };
        match note {
            ConnectionNote::Opened => {
                let mut out = Vec::new();
                request::connect(
                    &mut out,
                    &ConnectRequest {
                        last_zxid_seen: self.last_zxid,
                        timeout_ms: self.timeout_ms,
                        session: self.session,
                        password: self.password.clone(),
                        had_read_only_flag: true,
                        ..ConnectRequest::default()
                    },
                );
                cx.world.client_send(id, out.into());
            }
            ConnectionNote::Closed => {
                self.link = None;
                self.retry_us = cx.world.now_us + self.rng.range(1_000, 300_000);
            }
            ConnectionNote::Bytes(bytes) => {
                link.decoder.handle_bytes(bytes);
                link.heard_us = cx.world.now_us;
                while let Some(link) = &mut self.link {
                    match link.decoder.poll() {
                        Ok(None) => break,
                        Ok(Some(response)) => self.hear(cx, response),
                        Err(why) => {
                            let complaint = format!("lock player {}: {why}", self.number);
                            cx.history.complaints.push(complaint);
                            return self.abandon(cx, false);
                        }
                    }
                }
                self.ask(cx);
            }
        }
    }

    fn hear(&mut self, cx: &mut Context<'_>, response: Response) {
        let Some(link) = &mut self.link else { return };
        match response {
            Response::Connect(connect) if connect.session.0 == 0 || connect.timeout_ms <= 0 => {
                self.session = SessionId(0);
                self.password = vec![0; 16];
                self.last_zxid = 0;
                if let Some(contender) = &mut self.contender {
                    contender.handle_expired();
                }
                self.abandon(cx, false);
            }
            Response::Connect(connect) => {
                link.is_ready = true;
                let is_resumed = self.session.0 != 0;
                self.session = connect.session;
                self.password = connect.password;
                self.timeout_ms = connect.timeout_ms as u32;
                if let (true, Some(contender)) = (is_resumed, &mut self.contender) {
                    contender.handle_reconnected();
                }
            }
            Response::Notification { kind, path, .. } => {
                if let (EVENT_DELETED, Some(contender)) = (kind, &mut self.contender) {
                    contender.handle_deleted(&path);
                }
            }
            Response::Reply {
                xid: opcode::PING_XID,
                ..
            } => {}
            Response::Reply {
                zxid, error, body, ..
            } => {
                self.last_zxid = self.last_zxid.max(zxid);
                let Some((request, sent_us)) = link.asked.take() else {
                    let complaint = format!("lock player {}: nobody waits for it", self.number);
                    return cx.history.complaints.push(complaint);
                };
                let Some(reply) = decode(&request, error, &body) else {
                    // The disk is full, or the session moved: as if the connection had broken.
                    return self.abandon(cx, false);
                };
                self.take(cx, &request, sent_us, reply);
            }
        }
    }

    fn take(&mut self, cx: &mut Context<'_>, request: &Request, sent_us: u64, reply: Reply) {
        let Some(contender) = &mut self.contender else {
            return;
        };
        let own = contender.node().map(|name| format!("{}/{name}", LOCKS[0]));
        let is_own = match (request, &reply) {
            (Request::Exists { path, .. }, Reply::Found { .. })
            | (Request::Delete { path }, Reply::Done) => Some(path) == own.as_ref(),
            _ => false,
        };
        if let (true, Some(held)) = (is_own, self.held) {
            let hold = &mut cx.history.locks.holds[held.number];
            hold.confirmed_us = hold.confirmed_us.max(sent_us);
        }
        contender.handle_reply(reply);
    }
}

impl player::Player for Player {
    fn begin(&mut self, phase: Phase) {
        self.done = Play::is_done_in(phase);
        self.is_free = phase == Phase::Work;
    }

    fn is_done(&self) -> bool {
        self.done
    }

    fn handle(&mut self, cx: &mut Context<'_>, id: ClientId, note: &ConnectionNote) {
        self.take_note(cx, id, note);
    }

    fn drive(&mut self, cx: &mut Context<'_>, phase: Phase) {
        self.play(cx, Play::of(phase));
    }

    fn rng(&mut self) -> &mut Rng {
        &mut self.rng
    }

    fn describe(&self) -> String {
        format!(
            "contender {} on the tree: {:?}",
            self.number, self.contender
        )
    }
}

fn encode(out: &mut Vec<u8>, xid: i32, request: &Request) {
    let acl = [Acl::open()];
    match request {
        Request::Ensure { path, is_container } => {
            let mode = match is_container {
                true => CreateMode::Container,
                false => CreateMode::Persistent { sequential: false },
            };
            request::create(out, xid, path, b"", &acl, mode, WriteShape::WithStat);
        }
        Request::Create { path } => {
            let mode = CreateMode::Ephemeral { sequential: true };
            request::create(out, xid, path, b"", &acl, mode, WriteShape::WithStat);
        }
        Request::Sync { path } => request::sync(out, xid, path),
        Request::List { path } => request::get_children(out, xid, path, false),
        Request::Exists { path, watch } => request::exists(out, xid, path, *watch),
        Request::Delete { path } => request::delete(out, xid, path, -1),
    }
}

/// None for a refusal that the recipe does not know.
fn decode(request: &Request, error: i32, bytes: &Bytes) -> Option<Reply> {
    match (error_code(error), request) {
        (None, _) if error == 0 => {}
        (Some(ErrorCode::NoNode), _) => return Some(Reply::NoNode),
        (Some(ErrorCode::NodeExists), Request::Ensure { .. }) => return Some(Reply::Done),
        _ => return None,
    }
    match request {
        Request::Ensure { .. } | Request::Sync { .. } | Request::Delete { .. } => Some(Reply::Done),
        Request::Create { .. } => {
            let (path, stat) = body::path_and_stat(bytes).ok()?;
            Some(Reply::Created {
                path,
                czxid: stat.czxid,
            })
        }
        Request::List { .. } => Some(Reply::Children(body::children(bytes).ok()?)),
        Request::Exists { .. } => Some(Reply::Found {
            czxid: body::stat(bytes).ok()?.czxid,
        }),
    }
}
