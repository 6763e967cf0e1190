//! Blocking commands: the machine tries once; who found nothing waits here, first come first served, until
//! a key of his has something, and is tried again through the log.

use super::client::{Client, PendingKind, Waits};
use super::{Context, Redis};
use crate::event::ClientId;
use base::{Now, ShardId};
use bytes::Bytes;
use std::collections::VecDeque;
use storage::cache::{Body, Command, Reply, Spec};

/// Who waits for a key, in order.
#[derive(Debug, Default)]
pub struct Blocked {
    queue: VecDeque<ClientId>,
    /// Something came while the first was being tried: perhaps too late for it.
    again: bool,
}

/// Longest time that may be waited, in seconds; Redis' bound.
const TIMEOUT_SECONDS_MAX: f64 = 1e10;

/// Until when a blocking command may wait: its time-out stands first in the multi-key forms, else last.
pub fn deadline_us(now: Now, spec: &Spec, command: &Command) -> Result<Option<u64>, Reply> {
    let text = match spec.name {
        "blmpop" | "bzmpop" => command.args.first(),
        _ => command.args.last(),
    };
    let text = text.and_then(|bytes| std::str::from_utf8(bytes).ok());
    let seconds = text.and_then(|text| text.parse::<f64>().ok());
    match seconds.filter(|s| s.is_finite()) {
        None => Err(Reply::error("ERR timeout is not a float or out of range")),
        Some(s) if s < 0.0 => Err(Reply::error("ERR timeout is negative")),
        Some(s) if s > TIMEOUT_SECONDS_MAX => Err(Reply::error("ERR timeout is out of range")),
        Some(0.0) => Ok(None),
        Some(s) => Ok(Some(now.mono_us + (s * 1e6) as u64)),
    }
}

/// What is answered when there was nothing in time.
pub fn nothing(spec: &Spec) -> Reply {
    match spec.name {
        "blmove" | "brpoplpush" => Reply::Nil,
        _ => Reply::NilArray,
    }
}

impl Redis {
    /// A command waits behind others without having been tried.
    pub(super) fn block_unasked(
        &mut self,
        cx: &mut Context<'_>,
        id: ClientId,
        shard: ShardId,
        waits: Option<Box<Waits>>,
        nothing: Reply,
    ) {
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        let waits = waits.map(|mut waits| {
            waits.nothing = Some(nothing);
            waits.is_tried = false;
            waits
        });
        // No answer is under way: the token is one that has been given already.
        let token = self.first_token.wrapping_sub(1);
        client.push(
            cx.now,
            PendingKind::Write {
                token,
                shard,
                sent: false,
                waits,
            },
        );
        self.block(cx, id);
    }

    /// A command found nothing: it waits for its keys, in the place that it may have had already.
    pub(super) fn block(&mut self, cx: &mut Context<'_>, id: ClientId) {
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        let Some(pending) = client.blocking() else {
            return;
        };
        let PendingKind::Write {
            shard,
            waits: Some(waits),
            ..
        } = &pending.kind
        else {
            return;
        };
        if (waits.deadline_us).is_some_and(|deadline_us| deadline_us <= cx.now.mono_us) {
            return self.give_up(cx, id);
        }
        let shard = *shard;
        let keys: Vec<(u32, Bytes)> = (waits.command.keys())
            .map(|key| (waits.database, key.clone()))
            .collect();
        let mut again = None;
        for key in keys {
            let blocked = self.blocked.entry(key.clone()).or_default();
            if !blocked.queue.contains(&id) {
                blocked.queue.push_back(id);
            }
            if blocked.again && blocked.queue.front() == Some(&id) {
                again = Some(key);
            }
        }
        if let Some(key) = again {
            self.wake(cx, shard, key);
        }
    }

    /// A key has something: the first who waits for it is tried; who is being tried already, is again if he
    /// finds nothing.
    pub(super) fn wake(&mut self, cx: &mut Context<'_>, shard: ShardId, key: (u32, Bytes)) {
        let first = self.blocked.get(&key).and_then(|b| b.queue.front());
        let Some(id) = first.copied() else { return };
        let Some(begun) = self.attempt(cx, shard, id) else {
            return;
        };
        if let Some(blocked) = self.blocked.get_mut(&key) {
            blocked.again = !begun;
        }
    }

    /// Tries who waits through the log; false when that is under way already, `None` when it does not wait.
    fn attempt(&mut self, cx: &mut Context<'_>, shard: ShardId, id: ClientId) -> Option<bool> {
        let token = self.first_token.wrapping_add(self.waiting.len() as u64);
        let pending = self.clients.get_mut(&id).and_then(Client::blocking);
        let Some(PendingKind::Write {
            token: under,
            sent,
            waits: Some(waits),
            ..
        }) = pending.map(|pending| &mut pending.kind)
        else {
            return None;
        };
        if waits.nothing.take().is_none() {
            return Some(false);
        }
        waits.is_tried = true;
        (*under, *sent) = (token, false);
        let (database, body) = (waits.database, Body::One(waits.command.clone()));
        self.waiting.push_back(Some(id));
        self.unsent.push(id);
        self.ask(cx, token, shard, database, body);
        Some(true)
    }

    /// A blocking command was served: it waits no more, and whoever is next may find something left.
    pub(super) fn served(&mut self, cx: &mut Context<'_>, id: ClientId) {
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        client.stalled = false;
        let Some(pending) = client.blocking() else {
            return;
        };
        let PendingKind::Write {
            shard,
            waits: Some(waits),
            ..
        } = &pending.kind
        else {
            return;
        };
        let shard = *shard;
        let keys: Vec<(u32, Bytes)> = (waits.command.keys())
            .map(|key| (waits.database, key.clone()))
            .collect();
        for key in keys {
            if self.leave_queue(&key, id) {
                self.wake(cx, shard, key);
            }
        }
    }

    /// Ends waits whose time is over, except those that are being tried: their answer comes. Who has only stood
    /// behind others is tried first: there may be more than these take.
    pub(super) fn end_waits(&mut self, cx: &mut Context<'_>) {
        for (shard, key) in std::mem::take(&mut self.rewake) {
            self.wake(cx, shard, key);
        }
        let mut over = Vec::new();
        for id in self.blocked.values().flat_map(|blocked| &blocked.queue) {
            let waits = self.clients.get_mut(id).and_then(Client::blocking);
            if let Some(PendingKind::Write {
                shard,
                waits: Some(waits),
                ..
            }) = waits.map(|pending| &pending.kind)
                && waits.nothing.is_some()
                && (waits.deadline_us).is_some_and(|deadline_us| deadline_us <= cx.now.mono_us)
            {
                over.push((*id, *shard, waits.is_tried));
            }
        }
        over.dedup();
        for (id, shard, is_tried) in over {
            if is_tried {
                self.give_up(cx, id);
            } else {
                self.attempt(cx, shard, id);
            }
        }
    }

    fn give_up(&mut self, cx: &mut Context<'_>, id: ClientId) {
        let Some(pending) = self.clients.get_mut(&id).and_then(Client::blocking) else {
            return;
        };
        let PendingKind::Write {
            waits: Some(waits), ..
        } = &mut pending.kind
        else {
            return;
        };
        let nothing = waits.nothing.take().unwrap_or(Reply::NilArray);
        self.served(cx, id);
        if let Some(pending) = self.clients.get_mut(&id).and_then(Client::blocking) {
            pending.kind = PendingKind::Done(nothing);
        }
        self.drain(cx, id);
    }

    /// True when others wait there still.
    fn leave_queue(&mut self, key: &(u32, Bytes), id: ClientId) -> bool {
        let Some(blocked) = self.blocked.get_mut(key) else {
            return false;
        };
        blocked.queue.retain(|other| *other != id);
        let others = !blocked.queue.is_empty();
        if !others {
            self.blocked.remove(key);
        }
        others
    }

    /// A client that goes waits for nothing.
    pub(super) fn unblock(&mut self, client: &Client) {
        for pending in &client.queue {
            if let PendingKind::Write {
                shard,
                waits: Some(waits),
                ..
            } = &pending.kind
            {
                for key in waits.command.keys() {
                    let key = (waits.database, key.clone());
                    if self.leave_queue(&key, client.id) {
                        // What its attempt did not find may be for those behind it.
                        self.rewake.push((*shard, key));
                    }
                }
            }
        }
    }
}
