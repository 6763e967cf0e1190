//! A simulated Redis client: real bytes on simulated connections. What has no answer when its connection ends
//! stays without one.

use super::{Answer, Op, Operation, OperationId, Reply};
use crate::client::Context;
use crate::world::ConnectionNote;
use base::Rng;
use bytes::Bytes;
use node::{ClientId, FrontEnd};
use std::collections::VecDeque;
use wire_redis::Limits;
use wire_redis::client::{Decoder, Value, request};

const DIAL_WAIT_US: u64 = 1_500_000;
/// An answer that takes longer, and what it waits for on purpose, is not waited for.
const ANSWER_WAIT_US: u64 = 3_000_000;

/// A request under way.
#[derive(Debug)]
struct Awaited {
    operation: OperationId,
    /// Statuses that come before its answer.
    statuses: usize,
    give_up_us: u64,
}

#[derive(Debug)]
struct Link {
    id: ClientId,
    node: usize,
    is_open: bool,
    decoder: Decoder,
    awaited: VecDeque<Awaited>,
    since_us: u64,
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
    link: Option<Link>,
    /// Opens no connection before then.
    retry_at_us: u64,
}

impl Client {
    /// A client without a connection.
    pub fn new(number: usize, rng: Rng) -> Self {
        Self {
            number,
            rng,
            pinned: None,
            link: None,
            retry_at_us: 0,
        }
    }

    /// True when it can send requests.
    pub fn is_ready(&self) -> bool {
        self.link.as_ref().is_some_and(|link| link.is_open)
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

    /// Looks after the connection. To be called often.
    pub fn tick(&mut self, cx: &mut Context<'_>) {
        let now_us = cx.world.now_us;
        let Some(link) = &self.link else {
            if now_us >= self.retry_at_us {
                self.dial(cx);
            }
            return;
        };
        let waits_too_long = match link.awaited.front() {
            _ if !link.is_open => now_us > link.since_us + DIAL_WAIT_US,
            Some(awaited) => now_us > awaited.give_up_us,
            None => false,
        };
        if waits_too_long {
            self.abandon(cx, false);
        }
    }

    fn dial(&mut self, cx: &mut Context<'_>) {
        let node = match self.pinned {
            Some(node) => node,
            None if cx.nodes.is_empty() => return,
            None => cx.nodes[self.rng.range(0, cx.nodes.len() as u64) as usize],
        };
        self.link = Some(Link {
            id: cx.world.connect(node, FrontEnd::Redis),
            node,
            is_open: false,
            decoder: Decoder::new(Limits::default()),
            awaited: VecDeque::new(),
            since_us: cx.world.now_us,
        });
    }

    /// Gives the connection up and tries elsewhere.
    pub fn abandon(&mut self, cx: &mut Context<'_>, silently: bool) {
        if let Some(link) = self.link.take() {
            cx.world.client_close(link.id, silently);
        }
        self.retry_at_us = cx.world.now_us + self.rng.range(1_000, 200_000);
    }

    /// Sends requests, one behind the other. Says which they are; nothing without a connection.
    pub fn send(&mut self, cx: &mut Context<'_>, ops: Vec<Op>) -> Vec<OperationId> {
        let now_us = cx.world.now_us;
        let Some(link) = self.link.as_mut().filter(|link| link.is_open) else {
            return Vec::new();
        };
        let mut out = Vec::new();
        let mut ids = Vec::new();
        let earlier_us = link.awaited.back().map_or(now_us, |last| {
            last.give_up_us.saturating_sub(ANSWER_WAIT_US)
        });
        let mut from_us = earlier_us.max(now_us);
        for op in ops {
            if let Op::Pop {
                wait_ms: Some(wait_ms),
                ..
            } = &op
            {
                from_us += u64::from(*wait_ms) * 1_000;
            }
            encode(&mut out, &op);
            let operation = cx.history.cache.operations.len();
            link.awaited.push_back(Awaited {
                operation,
                statuses: match &op {
                    Op::Exec(ops) => 1 + ops.len(),
                    _ => 0,
                },
                give_up_us: from_us + ANSWER_WAIT_US,
            });
            cx.history.cache.operations.push(Operation {
                client: self.number,
                connection: link.id,
                node: link.node,
                invoked_us: now_us,
                op,
                reply: None,
            });
            ids.push(operation);
        }
        cx.world.client_send(link.id, out.into());
        ids
    }

    /// Takes what arrived on its connection.
    pub fn handle(&mut self, cx: &mut Context<'_>, id: ClientId, note: ConnectionNote) {
        let Some(link) = self.link.as_mut().filter(|link| link.id == id) else {
            return;
        };
        match note {
            ConnectionNote::Opened => link.is_open = true,
            ConnectionNote::Closed => {
                self.link = None;
                self.retry_at_us = cx.world.now_us + self.rng.range(1_000, 300_000);
            }
            ConnectionNote::Bytes(bytes) => self.handle_bytes(cx, &bytes),
        }
    }

    fn handle_bytes(&mut self, cx: &mut Context<'_>, bytes: &Bytes) {
        let Some(link) = &mut self.link else { return };
        link.decoder.handle_bytes(bytes);
        loop {
            let complaint = match link.decoder.poll() {
                Ok(None) => return,
                Ok(Some(value)) => match take(cx, link, value) {
                    Ok(()) => continue,
                    Err(complaint) => complaint,
                },
                Err(why) => format!("a malformed answer: {why}"),
            };
            let number = self.number;
            cx.history
                .complaints
                .push(format!("cache client {number} got {complaint}"));
            return self.abandon(cx, false);
        }
    }
}

fn take(cx: &mut Context<'_>, link: &mut Link, value: Value) -> Result<(), String> {
    let at_us = cx.world.now_us;
    let Some(awaited) = link.awaited.front_mut() else {
        return Err(format!("{value:?} that nobody waits for"));
    };
    let operation = &mut cx.history.cache.operations[awaited.operation];
    if awaited.statuses > 0 {
        awaited.statuses -= 1;
        return match value {
            // What is refused here makes EXEC be refused.
            Value::Status(_) | Value::Error(_) => Ok(()),
            other => Err(format!("{other:?} inside of {:?}", operation.op)),
        };
    }
    link.awaited.pop_front();
    let result = match value {
        Value::Error(why) => Err(String::from_utf8_lossy(&why).into_owned()),
        value => Ok(answer(&value)),
    };
    let fits = result.as_ref().map_or(true, |it| fits(&operation.op, it));
    let complaint = format!("{result:?} as the answer to {:?}", operation.op);
    cx.world.trace.comment(at_us, || {
        let (client, node) = (operation.client, operation.node);
        format!("cache client {client} on node{node}: {complaint}")
    });
    operation.reply = Some(Reply { at_us, result });
    if fits { Ok(()) } else { Err(complaint) }
}

/// True when this is an answer that such a request can have.
fn fits(op: &Op, answer: &Answer) -> bool {
    match (op, answer) {
        (Op::Get(_), Answer::Nil | Answer::Text(_)) => true,
        (Op::GetAll(keys), Answer::Many(values)) => keys.len() == values.len(),
        (Op::Range(_), Answer::Many(_)) => true,
        (Op::Set { .. } | Op::Watch(_), Answer::Done) => true,
        (Op::Establish(_) | Op::Delete(_), Answer::Number(0 | 1)) => true,
        (Op::Increment(_) | Op::Append { .. } | Op::Push { .. }, Answer::Number(n)) => *n > 0,
        (Op::Pop { .. }, Answer::Nil) => true,
        (Op::Pop { wait_ms: None, .. }, Answer::Text(_)) => true,
        (Op::Pop { list, .. }, Answer::Many(parts)) => {
            matches!(&parts[..], [Answer::Text(of), Answer::Text(_)] if of == list)
        }
        (Op::Exec(_), Answer::Nil) => true,
        (Op::Exec(ops), Answer::Many(answers)) => {
            ops.len() == answers.len() && ops.iter().zip(answers).all(|(op, a)| fits(op, a))
        }
        _ => false,
    }
}

fn answer(value: &Value) -> Answer {
    let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
    match value {
        Value::Nil | Value::NilArray => Answer::Nil,
        Value::Status(_) => Answer::Done,
        Value::Integer(number) => Answer::Number(*number),
        Value::Bulk(bytes) => Answer::Text(text(bytes)),
        Value::Array(values) => Answer::Many(values.iter().map(answer).collect()),
        other => Answer::Text(format!("{other:?}")),
    }
}

fn encode(out: &mut Vec<u8>, op: &Op) {
    match op {
        Op::Get(key) => request(out, &["GET", key]),
        Op::GetAll(keys) => request_with(out, "MGET", keys.iter().map(String::as_str)),
        Op::Range(key) => request(out, &["LRANGE", key, "0", "-1"]),
        Op::Set {
            key,
            value,
            ends_ms: None,
        } => request(out, &["SET", key, value]),
        Op::Set {
            key,
            value,
            ends_ms: Some(ms),
        } => request(out, &["SET", key, value, "PX", &ms.to_string()]),
        Op::Establish(pairs) => {
            let arguments = pairs.iter().flat_map(|(key, value)| [&key[..], value]);
            request_with(out, "MSETNX", arguments);
        }
        Op::Delete(key) => request(out, &["DEL", key]),
        Op::Increment(key) => request(out, &["INCR", key]),
        Op::Append { key, piece } => request(out, &["APPEND", key, piece]),
        Op::Push { list, element } => request(out, &["RPUSH", list, element]),
        Op::Pop {
            list,
            wait_ms: None,
        } => request(out, &["LPOP", list]),
        Op::Pop {
            list,
            wait_ms: Some(ms),
        } => {
            let seconds = f64::from(*ms) / 1_000.0;
            request(out, &["BLPOP", list, &seconds.to_string()]);
        }
        Op::Watch(keys) => request_with(out, "WATCH", keys.iter().map(String::as_str)),
        Op::Exec(ops) => {
            request(out, &["MULTI"]);
            ops.iter().for_each(|op| encode(out, op));
            request(out, &["EXEC"]);
        }
    }
}

fn request_with<'a>(out: &mut Vec<u8>, name: &'a str, rest: impl Iterator<Item = &'a str>) {
    let arguments: Vec<&str> = [name].into_iter().chain(rest).collect();
    request(out, &arguments);
}
