//! Commands about shards that are not here go on to a core that has them, by a link of this connection.
//!
//! The home speaks to that core as a Redis client does, in the protocol version and the database of its own
//! client, so an answer goes on as it came. It only keeps count of them. What is lost with a link: reads are
//! refused, so that the client may try again; a write closes the connection, for its fate is not known.

use super::client::{Client, PendingKind};
use super::many::reply_of;
use super::{Context, Redis, WRITE_MAX_US, blocking};
use crate::core::Ask;
use crate::event::{ClientId, FrontEnd};
use crate::links::{Step, Uplink};
use base::planted::{Bug, planted};
use base::{CoreAddress, ShardId};
use bytes::{Bytes, BytesMut};
use std::collections::VecDeque;
use storage::cache::{Access, Command, Reply, Spec};
use wire_redis::client::{Decoder, request};
use wire_redis::{Limits, Protocol};

/// Answers come from a core of this cluster, which has bounded what they are about.
const LIMITS: Limits = Limits {
    bulk_bytes_max: usize::MAX >> 2,
    arguments_max: usize::MAX >> 8,
    inline_bytes_max: usize::MAX >> 2,
    request_bytes_max: usize::MAX >> 2,
};

const LOST: Reply = Reply::error("CLUSTERDOWN the core that holds the key was lost; try again");

/// A connection's link to one other core.
#[derive(Debug)]
pub struct Link {
    up: Uplink,
    decoder: Decoder,
    /// What came and is not a whole answer yet.
    came: BytesMut,
    protocol: Protocol,
    database: u32,
    /// For each request under way: true when its answer is the client's.
    awaited: VecDeque<bool>,
    /// What was asked and is not answered, for a planted bug.
    asked: VecDeque<Vec<u8>>,
}

impl Link {
    fn new(id: u64, to: CoreAddress) -> Self {
        Self {
            up: Uplink::new(id, to),
            decoder: Decoder::new(LIMITS),
            came: BytesMut::new(),
            protocol: Protocol::Resp2,
            database: 0,
            awaited: VecDeque::new(),
            asked: VecDeque::new(),
        }
    }

    /// Asks something. `is_for_client`: so is the answer.
    fn ask<A: AsRef<[u8]>>(&mut self, arguments: &[A], is_for_client: bool) {
        let from = self.up.out.len();
        request(&mut self.up.out, arguments);
        self.awaited.push_back(is_for_client);
        if planted(Bug::ForwardTwice) {
            self.asked.push_back(self.up.out[from..].to_vec());
        }
    }
}

impl Redis {
    /// The core that serves a shard for this connection; `None`: this one.
    pub(super) fn whereabouts(
        &self,
        cx: &Context<'_>,
        client: &Client,
        shard: ShardId,
    ) -> Result<Option<CoreAddress>, Reply> {
        // What is under way about a shard keeps its order: the rest follows it.
        if let Some(to) = client.routes.get(&shard)
            && !client.queue.is_empty()
        {
            return Ok(Some(*to));
        }
        if cx.cache(shard).is_some() {
            return Ok(None);
        }
        let known = match client.is_linked {
            true => None,
            false => cx.holders.of(cx.now.mono_us, self.me.node, shard),
        };
        known.map(Some).ok_or(Reply::error(
            "CLUSTERDOWN no node that is heard serves the key's shard; try again",
        ))
    }

    /// Passes a command on.
    pub(super) fn forward(
        &mut self,
        cx: &mut Context<'_>,
        id: ClientId,
        place: (ShardId, CoreAddress),
        spec: &Spec,
        command: &Command,
    ) -> Result<(), Reply> {
        let now_us = cx.now.mono_us;
        let waits_until_us = match spec.is_blocking {
            true => blocking::deadline_us(cx.now, spec, command)?,
            false => Some(now_us),
        };
        let name = Bytes::from_static(spec.name.as_bytes());
        let words: Vec<Bytes> = [name].into_iter().chain(command.args.clone()).collect();
        let kind = self.forwarded(id, place, &[words], spec.access == Access::Write);
        let Some(client) = self.clients.get_mut(&id) else {
            return Ok(());
        };
        client.push(cx.now, kind);
        client.stalled |= spec.is_blocking;
        if let Some(PendingKind::Forwarded {
            is_blocking,
            give_up_us,
            ..
        }) = client.queue.back_mut().map(|pending| &mut pending.kind)
        {
            *is_blocking = spec.is_blocking;
            *give_up_us = waits_until_us.map(|at_us| at_us + WRITE_MAX_US);
        }
        Ok(())
    }

    /// Sends commands by the connection's link to a core; the answer to the last is its client's.
    pub(super) fn forwarded(
        &mut self,
        id: ClientId,
        (shard, to): (ShardId, CoreAddress),
        commands: &[Vec<Bytes>],
        is_write: bool,
    ) -> PendingKind {
        let Some(client) = self.clients.get_mut(&id) else {
            return PendingKind::Done(LOST);
        };
        if client.queue.is_empty() {
            client.routes.clear();
        }
        client.routes.insert(shard, to);
        let link = client.links.entry(to).or_insert_with(|| {
            self.next_link += 1;
            self.linked.insert(self.next_link, (id, to));
            Link::new(self.next_link, to)
        });
        if link.protocol != client.protocol {
            link.protocol = client.protocol;
            let version = if client.protocol == Protocol::Resp3 {
                "3"
            } else {
                "2"
            };
            link.ask(&["HELLO", version], false);
        }
        if link.database != client.database {
            link.database = client.database;
            link.ask(&["SELECT", &client.database.to_string()], false);
        }
        for (i, command) in commands.iter().enumerate() {
            link.ask(command, i + 1 == commands.len());
        }
        self.unlinked.push(id);
        PendingKind::Forwarded {
            link: link.up.id,
            is_write,
            is_blocking: false,
            give_up_us: None,
        }
    }

    /// Passes a transaction on, if what it depends on is watched there, or nothing is.
    pub(super) fn forward_exec(
        &mut self,
        cx: &mut Context<'_>,
        id: ClientId,
        place: (ShardId, CoreAddress),
        commands: Vec<Command>,
    ) -> Option<Reply> {
        let client = self.clients.get_mut(&id)?;
        let link = client.links.get(&place.1).map(|link| link.up.id);
        let is_there = |(_, by): &(ShardId, u64)| Some(*by) == link;
        if !client.watched.is_empty() || !client.watched_there.iter().all(is_there) {
            self.unwatch(id);
            return Some(Reply::NilArray);
        }
        client.watched_there.clear();
        let word = |text: &'static str| Bytes::from_static(text.as_bytes());
        let mut all = vec![vec![word("MULTI")]];
        all.extend(commands.into_iter().map(|command| {
            let name = word(command.id.spec().name);
            [name].into_iter().chain(command.args).collect()
        }));
        all.push(vec![word("EXEC")]);
        let mut kind = self.forwarded(id, place, &all, true);
        if let PendingKind::Forwarded { give_up_us, .. } = &mut kind {
            *give_up_us = Some(cx.now.mono_us + WRITE_MAX_US);
        }
        self.clients.get_mut(&id)?.push(cx.now, kind);
        None
    }

    /// Watches keys where they lie elsewhere.
    pub(super) fn watch_there(
        &mut self,
        id: ClientId,
        (shard, to): (ShardId, CoreAddress),
        keys: Vec<Bytes>,
    ) -> PendingKind {
        let words = [Bytes::from_static(b"WATCH")].into_iter().chain(keys);
        let kind = self.forwarded(id, (shard, to), &[words.collect()], false);
        if let (PendingKind::Forwarded { link, .. }, Some(client)) =
            (&kind, self.clients.get_mut(&id))
        {
            client.watched_there.push((shard, *link));
        }
        kind
    }

    /// Nothing is watched any more.
    pub(super) fn unwatch(&mut self, id: ClientId) {
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        client.watched.clear();
        let watched = std::mem::take(&mut client.watched_there);
        for link in client.links.values_mut() {
            if watched.iter().any(|(_, by)| *by == link.up.id) {
                link.ask(&["UNWATCH"], false);
                self.unlinked.push(id);
            }
        }
    }

    // --- what comes back ---

    /// Something came by a link.
    pub fn handle_link(&mut self, cx: &mut Context<'_>, link: u64, step: Step) {
        let Some((id, to)) = self.linked.get(&link).copied() else {
            return;
        };
        let found = self.clients.get_mut(&id).and_then(|c| c.links.get_mut(&to));
        let Some(found) = found else { return };
        match step {
            Step::Bytes(bytes) => {
                found.came.extend_from_slice(&bytes);
                found.decoder.handle_bytes(&bytes);
                self.take_answers(cx, id, to);
            }
            Step::Await => {
                found.up.await_drain();
                self.drain(cx, id);
            }
            Step::Close => self.link_lost(cx, id, to),
            Step::Open { .. } | Step::Drained => {}
        }
    }

    fn take_answers(&mut self, cx: &mut Context<'_>, id: ClientId, to: CoreAddress) {
        while let Some(client) = self.clients.get_mut(&id)
            && let Some(link) = client.links.get_mut(&to)
        {
            let value = match link.decoder.poll() {
                Ok(Some(value)) => value,
                Ok(None) => break,
                Err(_) => return self.link_lost(cx, id, to),
            };
            let length = link.came.len() - link.decoder.buffered_bytes();
            let bytes = link.came.split_to(length).freeze();
            link.asked.pop_front();
            if link.awaited.pop_front() != Some(true) {
                continue;
            }
            let by = link.up.id;
            for pending in &mut client.queue {
                let is_part = matches!(pending.kind, PendingKind::Many(..));
                let is_it = |part: &&mut PendingKind| matches!(part, PendingKind::Forwarded { link, .. } if *link == by);
                if let Some(part) = pending.kind.parts_mut().iter_mut().find(is_it) {
                    if let PendingKind::Forwarded {
                        is_blocking: true, ..
                    } = part
                    {
                        client.stalled = false;
                    }
                    *part = match is_part {
                        true => PendingKind::Done(reply_of(value)),
                        false => PendingKind::Encoded(bytes),
                    };
                    break;
                }
            }
        }
        self.drain(cx, id);
    }

    /// What was asked by a link may or may not have been carried out.
    fn link_lost(&mut self, cx: &mut Context<'_>, id: ClientId, to: CoreAddress) {
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        let Some(link) = client.links.remove(&to) else {
            return;
        };
        client.routes.retain(|_, core| *core != to);
        let by = link.up.id;
        let mut parts = client.queue.iter_mut().flat_map(|p| p.kind.parts_mut());
        if planted(Bug::ForwardTwice) {
            let mut again = Link::new(by, to);
            again.awaited = link.awaited;
            again.protocol = link.protocol;
            again.up.out = link.asked.iter().flatten().copied().collect();
            again.asked = link.asked;
            self.next_link += 1;
            again.up.id = self.next_link;
            self.linked.insert(self.next_link, (id, to));
            for part in parts {
                if let PendingKind::Forwarded { link, .. } = part
                    && *link == by
                {
                    *link = self.next_link;
                }
            }
            client.links.insert(to, again);
            return self.unlinked.push(id);
        }
        self.linked.remove(&by);
        let is_write_lost = parts.any(|part| {
            matches!(part, PendingKind::Forwarded { link, is_write: true, .. } if *link == by)
        });
        if is_write_lost {
            return self.close(id, cx.actions);
        }
        for part in client.queue.iter_mut().flat_map(|p| p.kind.parts_mut()) {
            if matches!(part, PendingKind::Forwarded { link, .. } if *link == by) {
                *part = PendingKind::Done(LOST);
            }
        }
        self.drain(cx, id);
    }

    // --- what goes out ---

    /// A connection that has ended needs its links no more.
    pub(super) fn end_link(&mut self, link: &Link) {
        self.linked.remove(&link.up.id);
        self.ended.push((link.up.id, link.up.to));
    }

    /// Tells cores that wait for it that the client has read what came.
    pub(super) fn drain_links(&mut self, id: ClientId) {
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        if client.links.values().any(|link| link.up.is_awaited()) && !client.out.is_full() {
            let came = |kind: &PendingKind| {
                let is = |part: &_| matches!(part, PendingKind::Encoded(_) | PendingKind::Done(_));
                kind.parts().iter().any(is)
            };
            if !client.queue.iter().any(|pending| came(&pending.kind)) {
                client.links.values_mut().for_each(|link| link.up.drained());
                self.unlinked.push(id);
            }
        }
    }

    /// Asks for what is to go by links.
    pub fn flush_links(&mut self, asks: &mut Vec<Ask>) {
        for (link, to) in std::mem::take(&mut self.ended) {
            asks.push(Ask::Link(link, to, Step::Close));
        }
        for id in std::mem::take(&mut self.unlinked) {
            if let Some(client) = self.clients.get_mut(&id) {
                for link in client.links.values_mut() {
                    link.up.flush(FrontEnd::Redis, &client.address, asks);
                }
            }
        }
    }
}
