//! A contender on the cache.

use super::{Held, Hold, LOCKS, Play, hold, receive};
use crate::client::Context;
use crate::player::{self, Phase};
use crate::world::ConnectionNote;
use base::Rng;
use coordination::lock::cache::{Contender, Reply};
use coordination::lock::{Mode, State};
use node::{ClientId, FrontEnd};
use wire_redis::Limits;
use wire_redis::client::{Decoder, Value, request};

const ANSWER_WAIT_US: u64 = 2_000_000;

#[derive(Debug)]
struct Link {
    id: ClientId,
    is_open: bool,
    decoder: Decoder,
    /// Answers that are to come, and those that have.
    awaited: usize,
    answers: Vec<Reply>,
    give_up_us: u64,
}

/// One player.
#[derive(Debug)]
pub struct Player {
    number: usize,
    rng: Rng,
    link: Option<Link>,
    retry_us: u64,
    contender: Option<Contender>,
    attempts: u64,
    wanted_us: u64,
    held: Option<Held>,
    /// What it was to do in this phase is done.
    done: bool,
}

impl Player {
    /// Without a connection.
    pub fn new(number: usize, rng: Rng) -> Self {
        Self {
            number,
            rng,
            link: None,
            retry_us: 0,
            contender: None,
            attempts: 0,
            wanted_us: 0,
            held: None,
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
                    id: cx.world.connect(node, FrontEnd::Redis),
                    is_open: false,
                    decoder: Decoder::new(Limits::default()),
                    awaited: 0,
                    answers: Vec::new(),
                    give_up_us: now_us + ANSWER_WAIT_US,
                });
            }
            return;
        };
        let is_late = (!link.is_open || link.awaited > 0) && now_us > link.give_up_us;
        if is_late || play == Play::Freely && self.rng.one_in(150) {
            let silently = self.rng.one_in(2);
            return self.abandon(cx, silently);
        }
        if link.is_open {
            self.contend(cx, play);
            self.ask(cx);
        }
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
        match contender.state() {
            State::Waiting if play == Play::Rest => contender.release(),
            State::Waiting => {}
            // It was without a connection for too long; that is said when it is asked what to do next.
            State::Held(_) if now_us / 1_000 >= contender.lease_until_ms() => {}
            State::Held(fence) => {
                let (player, fence, wanted_us) = (self.number, *fence, self.wanted_us);
                hold(cx, &mut self.rng, &mut self.held, |held_us| Hold {
                    player,
                    lock: LOCKS[1],
                    mode: Mode::Exclusive,
                    fence,
                    wanted_us,
                    held_us,
                    confirmed_us: held_us,
                });
                let is_over = self.held.is_some_and(|held| now_us >= held.until_us);
                if is_over || play == Play::Rest {
                    contender.release();
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
        self.wanted_us = now_us;
        let give_up_ms = match play == Play::Freely && self.rng.one_in(4) {
            true => now_us / 1_000 + self.rng.range(0, 800),
            false => u64::MAX,
        };
        let id = format!("p{}.{}", self.number, self.attempts);
        let ttl_ms = self.rng.range(600, 2_000);
        self.contender = Some(Contender::new(LOCKS[1], &id, ttl_ms, give_up_ms));
    }

    fn end(&mut self) {
        self.contender = None;
        self.held = None;
    }

    fn ask(&mut self, cx: &mut Context<'_>) {
        let now_us = cx.world.now_us;
        let (Some(link), Some(contender)) = (&mut self.link, &mut self.contender) else {
            return;
        };
        if link.awaited > 0 {
            return;
        }
        let Some(batch) = contender.poll_request(now_us / 1_000) else {
            return;
        };
        let mut out = Vec::new();
        for command in &batch.commands {
            request(&mut out, command);
        }
        link.awaited = batch.commands.len();
        link.give_up_us = now_us + batch.wait_ms * 1_000 + ANSWER_WAIT_US;
        cx.world.client_send(link.id, out.into());
    }

    fn abandon(&mut self, cx: &mut Context<'_>, silently: bool) {
        if let Some(link) = self.link.take() {
            cx.world.client_close(link.id, silently);
        }
        self.retry_us = cx.world.now_us + self.rng.range(1_000, 300_000);
    }

    fn take_note(&mut self, cx: &mut Context<'_>, id: ClientId, note: &ConnectionNote) {
        let now_us = cx.world.now_us;
        let Some(link) = self.link.as_mut().filter(|link| link.id == id) else {
            return;
        };
        match note {
            ConnectionNote::Opened => {
                link.is_open = true;
                if let Some(contender) = &mut self.contender {
                    contender.handle_reconnected();
                }
            }
            ConnectionNote::Closed => {
                self.link = None;
                self.retry_us = now_us + self.rng.range(1_000, 300_000);
            }
            ConnectionNote::Bytes(bytes) => {
                link.decoder.handle_bytes(bytes);
                while let Ok(Some(value)) = link.decoder.poll() {
                    link.answers.push(reply(&value));
                }
                if link.awaited == 0 || link.answers.len() < link.awaited {
                    return;
                }
                link.awaited = 0;
                let answers = std::mem::take(&mut link.answers);
                let Some(contender) = &mut self.contender else {
                    return;
                };
                if let Err(why) = contender.handle_replies(now_us / 1_000, answers) {
                    let complaint = format!("lock player {}: {why}", self.number);
                    cx.history.complaints.push(complaint);
                    self.end();
                }
                self.ask(cx);
            }
        }
    }
}

impl player::Player for Player {
    fn begin(&mut self, phase: Phase) {
        self.done = Play::is_done_in(phase);
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
            "contender {} on the cache: {:?}",
            self.number, self.contender
        )
    }
}

fn reply(value: &Value) -> Reply {
    match value {
        Value::Status(_) => Reply::Done,
        Value::Integer(number) => Reply::Number(*number),
        Value::Bulk(bytes) => Reply::Text(bytes.to_vec()),
        Value::Array(values) => Reply::Many(values.iter().map(reply).collect()),
        Value::Error(why) => Reply::Refused(String::from_utf8_lossy(why).into_owned()),
        _ => Reply::Nil,
    }
}
