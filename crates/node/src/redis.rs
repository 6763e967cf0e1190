//! The Redis front end of a core: connections, and the order of their requests and answers.
//!
//! A connection's requests are answered in the order in which they came. Writes are sent to the leader of
//! their key's shard at once; whatever comes behind a write waits in the connection's queue until the write
//! is applied *here*. Reads are served from this core's replica behind a barrier that all reads of a turn
//! share, so that they are linearizable; where the replica is the only one there is nobody to ask.
//!
//! No read sees a write that stands behind it. Behind an unanswered write of its connection a read takes its turn
//! in the log, a write behind a read that waits for a barrier waits, too, and a read whose turn has come while
//! there is no room for its answer is read then.

mod blocking;
mod client;
mod cluster;
mod forward;
mod local;
mod many;
mod place;
mod pubsub;
mod server;
mod transaction;

pub use client::Client;

use crate::admin::Counters;
use crate::config::CoreConfig;
use crate::core::Ask;
use crate::event::{Action, ClientId, FrontEnd, Level};
use crate::front::Context;
use base::map::HashMap;
use base::planted::{Bug, planted};
use base::{CoreAddress, Now, Origin, ShardId};
use blocking::Blocked;
use bytes::Bytes;
use client::{Pending, PendingKind, Waits};
use place::Place;
use shard::{DataUnit, Shard};
use std::collections::{BTreeMap, VecDeque};
use storage::cache::{Access, Body, Cache, Command, DATABASES, Output, Reply, Spec, Unit, spec};
use wire_redis::{Limits, reply};

/// Requests of one connection that may wait; beyond it the connection is not read from.
pub const PENDING_MAX: usize = 4_096;
/// What may stand behind a blocking command before the connection is not read from, in bytes.
const STALLED_BYTES_MAX: usize = 64 << 10;

const DOWN: Reply = Reply::error("CLUSTERDOWN The cluster is not formed yet; try again");

/// A write that was not answered for this long has met a cluster without a leader; its connection is closed.
const WRITE_MAX_US: u64 = 30_000_000;

impl<'a> Context<'a> {
    fn cache(&self, shard: ShardId) -> Option<&'a Cache> {
        Some(&self.data(shard)?.cache)
    }
}

/// The answer to what waits for nothing more.
fn answer(cx: &mut Context<'_>, client: &mut Client, since_us: u64, kind: PendingKind) -> Reply {
    match kind {
        PendingKind::Done(answer) => answer,
        PendingKind::Read {
            command,
            database,
            shard,
            ..
        } => {
            cx.counters.note_latency(cx.now, since_us);
            match cx.cache(shard) {
                Some(cache) => cache.read(cx.time_ms, database, &command),
                None => Reply::error("CLUSTERDOWN the key's shard has left this node"),
            }
        }
        PendingKind::Watch(keys) => {
            transaction::watch(cx, client, keys);
            client.stalled = false;
            Reply::OK
        }
        PendingKind::Write { .. }
        | PendingKind::Forwarded { .. }
        | PendingKind::Encoded(_)
        | PendingKind::Many(..) => unreachable!("it waits, or is no part"),
    }
}

/// What waits for nothing more, with its answer.
fn settled(cx: &mut Context<'_>, client: &mut Client, pending: Pending) -> PendingKind {
    let since_us = pending.since_us;
    PendingKind::Done(match pending.kind {
        kind @ PendingKind::Encoded(_) => return kind,
        PendingKind::Many(parts, combine) => {
            let parts = parts.into_iter();
            let answers = parts.map(|part| answer(cx, client, since_us, part));
            combine.answer(answers.collect())
        }
        kind => answer(cx, client, since_us, kind),
    })
}

/// The front end.
#[derive(Debug)]
pub struct Redis {
    me: CoreAddress,
    limits: Limits,
    listeners: BTreeMap<FrontEnd, String>,
    redirects: bool,
    clients: HashMap<ClientId, Client>,
    /// Whose writes are under way: the first one's token, then in order. `None`: nobody waits any more.
    first_token: u64,
    waiting: VecDeque<Option<ClientId>>,
    /// The barrier that reads of this turn share, by shard.
    open_barriers: BTreeMap<ShardId, u64>,
    next_barrier: u64,
    barriers: HashMap<u64, Vec<ClientId>>,
    unsent: Vec<ClientId>,
    dirty: Vec<ClientId>,
    blocked: BTreeMap<(u32, Bytes), Blocked>,
    /// Keys whose first waiter left: the next is tried.
    rewake: Vec<(ShardId, (u32, Bytes))>,
    channels: BTreeMap<Bytes, Vec<ClientId>>,
    patterns: BTreeMap<Bytes, Vec<ClientId>>,
    commands: u64,
    connections: u64,
    started_us: u64,
    /// Whose links these are.
    linked: HashMap<u64, (ClientId, CoreAddress)>,
    next_link: u64,
    /// Connections whose links have something to send, and links that are not needed any more.
    unlinked: Vec<ClientId>,
    ended: Vec<(u64, CoreAddress)>,
    /// A client that says nothing for so many seconds is sent away; 0: never. CONFIG SET timeout.
    idle_seconds_max: u64,
}

impl Redis {
    /// A front end of the core `me`. Tokens start at a random place, so that they are unique across restarts.
    pub fn new(now: Now, me: CoreAddress, config: &CoreConfig, first_token: u64) -> Self {
        Self {
            me,
            limits: Limits::default(),
            listeners: config.listeners.clone(),
            redirects: config.cache_redirects,
            clients: HashMap::default(),
            first_token,
            waiting: VecDeque::new(),
            open_barriers: BTreeMap::new(),
            next_barrier: first_token,
            barriers: HashMap::default(),
            unsent: Vec::new(),
            dirty: Vec::new(),
            blocked: BTreeMap::new(),
            rewake: Vec::new(),
            channels: BTreeMap::new(),
            patterns: BTreeMap::new(),
            commands: 0,
            connections: 0,
            started_us: now.mono_us,
            linked: HashMap::default(),
            // Half the numbers are above, and no link is number 0.
            next_link: first_token >> 1,
            unlinked: Vec::new(),
            ended: Vec::new(),
            idle_seconds_max: 0,
        }
    }

    // --- connections ---

    /// True for a connection of this front end.
    pub fn has_client(&self, id: ClientId) -> bool {
        self.clients.contains_key(&id)
    }

    /// A client connected.
    pub fn handle_opened(&mut self, now: Now, id: ClientId, address: String) {
        self.connections += 1;
        let client = Client::new(id, address, self.limits, now);
        self.clients.insert(id, client);
    }

    /// A client of another core is served here.
    pub fn handle_link_opened(&mut self, now: Now, id: ClientId, address: String) {
        let mut client = Client::new(id, address, self.limits, now);
        client.is_linked = true;
        self.clients.insert(id, client);
    }

    /// A client's connection ended.
    pub fn handle_closed(&mut self, id: ClientId) {
        if let Some(client) = self.clients.remove(&id) {
            self.forget(&client);
        }
    }

    fn forget(&mut self, client: &Client) {
        for part in client.queue.iter().flat_map(|p| p.kind.parts()) {
            if let PendingKind::Write { token, .. } = part
                && let Some(waiter) = self.waiter(*token)
            {
                *waiter = None;
            }
        }
        for link in client.links.values() {
            self.end_link(link);
        }
        self.unblock(client);
        self.unsubscribe_all(client);
    }

    /// Sends what is answered and closes the connection.
    fn close(&mut self, id: ClientId, actions: &mut VecDeque<Action>) {
        let Some(mut client) = self.clients.remove(&id) else {
            return;
        };
        self.forget(&client);
        client.out.close(id, actions);
    }

    /// Closes every connection: what they depended on is gone.
    pub fn close_all(&mut self, actions: &mut VecDeque<Action>) {
        let mut all: Vec<ClientId> = self.clients.keys().copied().collect();
        all.sort_unstable();
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
        client.seen_us.1 = cx.now.mono_us;
        client.wire.handle_bytes(bytes);
        self.dirty.push(id);
        self.poll_client(cx, id);
    }

    fn poll_client(&mut self, cx: &mut Context<'_>, id: ClientId) {
        loop {
            let Some(client) = self.clients.get_mut(&id) else {
                return;
            };
            if client.out.is_full() {
                return client.out.pause(id, true, cx.actions);
            }
            if client.quits {
                if client.queue.is_empty() {
                    self.close(id, cx.actions);
                }
                return;
            }
            if client.stalled || client.queue.len() >= PENDING_MAX {
                // A client that waits with little behind it is read from on, lest its end go unnoticed.
                let is_long = client.wire.buffered_bytes() > STALLED_BYTES_MAX;
                (client.out).pause(id, is_long || !client.stalled, cx.actions);
                return;
            }
            let next = match client.postponed.take() {
                Some(arguments) => Ok(Some(arguments)),
                None => client.wire.poll(),
            };
            match next {
                Ok(Some(arguments)) if client.must_wait(&arguments) => {
                    client.postponed = Some(arguments);
                    let is_long = client.wire.buffered_bytes() > STALLED_BYTES_MAX;
                    return client.out.pause(id, is_long, cx.actions);
                }
                Ok(None) => return client.out.pause(id, false, cx.actions),
                Ok(Some(arguments)) => self.request(cx, id, arguments),
                Err(error) => {
                    cx.counters.malformed += 1;
                    client.answer(cx.now, error.reply());
                    client.quits = true;
                    let address = client.address.clone();
                    cx.actions.push_back(Action::Log {
                        level: Level::Warn,
                        message: format!("closed the Redis connection from {address}: {error}"),
                    });
                }
            }
        }
    }

    // --- requests ---

    fn request(&mut self, cx: &mut Context<'_>, id: ClientId, mut arguments: Vec<Bytes>) {
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        self.commands += u64::from(!client.is_linked);
        if client.subscriptions() > 0 && !pubsub::is_allowed(client, &arguments[0]) {
            let name = String::from_utf8_lossy(&arguments[0]).to_lowercase();
            return client.answer(
                cx.now,
                Reply::Error(
                    format!(
                        "ERR Can't execute '{name}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / \
                         RESET are allowed in this context"
                    )
                    .into(),
                ),
            );
        }
        let only = match client.is_linked {
            true => many::take_shard(&mut arguments),
            false => None,
        };
        let Some(spec) = spec(&arguments[0]) else {
            return self.local(cx, id, &arguments);
        };
        client.last_command = spec.name.into();
        arguments.remove(0);
        let command = Command {
            id: spec.id,
            args: arguments,
        };
        let place = command
            .check()
            .and_then(|()| self.place(cx, id, spec, &command, only));
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        let result = match place {
            Ok(Place::One(..)) if client.transaction.is_some() => {
                if let Some(transaction) = &mut client.transaction {
                    transaction.commands.push(command);
                }
                return client.answer(cx.now, Reply::Status("QUEUED".into()));
            }
            Ok(Place::Many(_)) if client.transaction.is_some() => Err(Reply::error(
                "CROSSSLOT a transaction lies in one shard, and this command is about several",
            )),
            Ok(Place::Many(shards)) => self.many(cx, id, spec, command, &shards),
            Ok(Place::One(shard, None)) => match spec.access {
                Access::Read => {
                    self.read(cx, id, shard, command);
                    Ok(())
                }
                Access::Write => self.write(cx, id, shard, spec, command),
            },
            Ok(Place::One(shard, Some(to))) => self.forward(cx, id, (shard, to), spec, &command),
            Err(refusal) => Err(refusal),
        };
        if let (Err(refusal), Some(client)) = (result, self.clients.get_mut(&id)) {
            cx.counters.errors += 1;
            if let Some(transaction) = &mut client.transaction {
                transaction.failed = true;
            }
            client.answer(cx.now, refusal);
        }
    }

    fn read(&mut self, cx: &mut Context<'_>, id: ClientId, shard: ShardId, command: Command) {
        cx.counters.reads += 1;
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        let database = client.database;
        let is_alone =
            cx.shard(shard).is_some_and(Shard::is_alone) || planted(Bug::ReadWithoutBarrier);
        if is_alone && client.queue.is_empty() {
            if let Some(cache) = cx.cache(shard) {
                let answer = cache.read(cx.time_ms, database, &command);
                cx.counters.note_latency(cx.now, cx.now.mono_us);
                reply::encode(&mut client.out.bytes, &answer, client.protocol);
            }
            return;
        }
        if !is_alone && client.has_write(shard) {
            // Behind a write of its own it takes its turn in the log: what comes behind it need not wait.
            return self.propose(cx, id, shard, Body::One(command), None);
        }
        let kind = self.reading(cx, id, database, shard, command);
        if let Some(client) = self.clients.get_mut(&id) {
            client.push(cx.now, kind);
        }
    }

    /// A read that waits until the replica here is as new as any was, if there is another.
    fn reading(
        &mut self,
        cx: &mut Context<'_>,
        id: ClientId,
        database: u32,
        shard: ShardId,
        command: Command,
    ) -> PendingKind {
        let is_alone =
            cx.shard(shard).is_some_and(Shard::is_alone) || planted(Bug::ReadWithoutBarrier);
        let mut barrier = 0;
        if !is_alone {
            barrier = *self.open_barriers.entry(shard).or_insert_with(|| {
                self.next_barrier = self.next_barrier.wrapping_add(1);
                cx.asks.push(Ask::Barrier(shard, self.next_barrier));
                self.next_barrier
            });
            let readers = self.barriers.entry(barrier).or_default();
            if readers.last() != Some(&id) {
                readers.push(id);
            }
        }
        PendingKind::Read {
            command,
            database,
            shard,
            barrier,
            reached: is_alone,
        }
    }

    fn write(
        &mut self,
        cx: &mut Context<'_>,
        id: ClientId,
        shard: ShardId,
        spec: &Spec,
        command: Command,
    ) -> Result<(), Reply> {
        let client = self.clients.get_mut(&id).ok_or(DOWN)?;
        let database = client.database;
        let waits = if spec.is_blocking {
            let deadline_us = blocking::deadline_us(cx.now, spec, &command)?;
            Some(Box::new(Waits {
                command: command.clone(),
                database,
                deadline_us,
                nothing: None,
                is_tried: true,
            }))
        } else {
            None
        };
        client.stalled |= waits.is_some();
        if waits.is_some()
            && let [key] = command.keys().collect::<Vec<_>>()[..]
            && self.blocked.contains_key(&(database, key.clone()))
        {
            // Others wait already, so there is nothing to take before their turn.
            self.block_unasked(cx, id, shard, waits, blocking::nothing(spec));
            return Ok(());
        }
        self.propose(cx, id, shard, Body::One(command), waits);
        Ok(())
    }

    fn propose(
        &mut self,
        cx: &mut Context<'_>,
        id: ClientId,
        shard: ShardId,
        body: Body,
        waits: Option<Box<Waits>>,
    ) {
        let Some(database) = self.clients.get(&id).map(|client| client.database) else {
            return;
        };
        let kind = self.writing(cx, id, database, shard, body, waits);
        if let Some(client) = self.clients.get_mut(&id) {
            client.push(cx.now, kind);
        }
    }

    /// A write on its way into the log.
    fn writing(
        &mut self,
        cx: &mut Context<'_>,
        id: ClientId,
        database: u32,
        shard: ShardId,
        body: Body,
        waits: Option<Box<Waits>>,
    ) -> PendingKind {
        cx.counters.writes += 1;
        let token = self.first_token.wrapping_add(self.waiting.len() as u64);
        self.waiting.push_back(Some(id));
        if self.unsent.last() != Some(&id) {
            self.unsent.push(id);
        }
        self.ask(cx, token, shard, database, body);
        PendingKind::Write {
            token,
            shard,
            sent: false,
            waits,
        }
    }

    fn ask(&self, cx: &mut Context<'_>, token: u64, shard: ShardId, database: u32, body: Body) {
        let origin = Origin {
            home: self.me,
            token,
        };
        let unit = DataUnit::Cache(Unit {
            origin,
            database,
            body,
        });
        cx.asks.push(Ask::Propose(shard, unit.encode()));
    }

    fn waiter(&mut self, token: u64) -> Option<&mut Option<ClientId>> {
        let at = usize::try_from(token.wrapping_sub(self.first_token)).ok()?;
        self.waiting.get_mut(at)
    }

    // --- answers ---

    /// One output of a cache, in apply order.
    pub fn handle_output(&mut self, cx: &mut Context<'_>, shard: ShardId, output: Output) {
        match output {
            Output::Reply { origin, reply } => {
                if origin.home == self.me
                    && let Some(waiter) = self.waiter(origin.token)
                    && let Some(id) = waiter.take()
                {
                    self.answered(cx, id, origin.token, reply);
                }
                while let Some(None) = self.waiting.front() {
                    self.waiting.pop_front();
                    self.first_token = self.first_token.wrapping_add(1);
                }
            }
            Output::Ready { database, key } => self.wake(cx, shard, (database, key)),
        }
    }

    fn answered(&mut self, cx: &mut Context<'_>, id: ClientId, token: u64, answer: Reply) {
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        let Some((since_us, pending)) = client.write(token) else {
            return;
        };
        cx.counters.errors += u64::from(answer.is_error());
        let PendingKind::Write { waits, .. } = pending else {
            return;
        };
        cx.counters.note_latency(cx.now, since_us);
        let Some(waits) = waits else {
            *pending = PendingKind::Done(answer);
            return self.drain(cx, id);
        };
        if matches!(answer, Reply::Nil | Reply::NilArray) {
            waits.nothing = Some(answer);
            return self.block(cx, id);
        }
        self.served(cx, id);
        let client = self.clients.get_mut(&id);
        if let Some((_, pending)) = client.and_then(|client| client.write(token)) {
            *pending = PendingKind::Done(answer);
        }
        self.drain(cx, id);
    }

    /// Answers what waits for nothing more, in order, and takes further requests for which there is room now.
    fn drain(&mut self, cx: &mut Context<'_>, id: ClientId) {
        self.settle(cx, id);
        self.drain_links(id);
        if let Some(client) = self.clients.get(&id)
            && (client.out.is_paused()
                || client.quits
                || client.postponed.is_some()
                || client.wire.buffered_bytes() > 0)
        {
            self.poll_client(cx, id);
        }
    }

    fn settle(&mut self, cx: &mut Context<'_>, id: ClientId) {
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        while !client.out.is_full()
            && let Some(pending) = (client.queue).pop_front_if(|pending| pending.kind.is_ready())
        {
            client.settled = client.settled.saturating_sub(1);
            match settled(cx, client, pending) {
                PendingKind::Done(answer) => {
                    reply::encode(&mut client.out.bytes, &answer, client.protocol);
                }
                PendingKind::Encoded(bytes) => client.out.bytes.extend_from_slice(&bytes),
                _ => unreachable!("it has its answer"),
            }
        }
        // Without room for its answer, a read still must not see a write that came behind it.
        let is_write = |pending: &Pending| {
            let mut parts = pending.kind.parts().iter();
            parts.any(|part| matches!(part, PendingKind::Write { .. }))
        };
        if client.out.is_full()
            && let Some(last) = client.queue.iter().rposition(is_write)
        {
            while client.settled < last && client.queue[client.settled].kind.is_ready() {
                let pending = &mut client.queue[client.settled];
                let since_us = pending.since_us;
                let kind = std::mem::replace(&mut pending.kind, PendingKind::Done(Reply::Nil));
                let kind = settled(cx, client, Pending { since_us, kind });
                client.queue[client.settled].kind = kind;
                client.settled += 1;
            }
        }
        client.has_reads &= !client.queue.is_empty();
        if self.dirty.last() != Some(&id) {
            self.dirty.push(id);
        }
    }

    /// A barrier is reached.
    pub fn handle_barrier(&mut self, cx: &mut Context<'_>, token: u64) {
        for id in self.barriers.remove(&token).unwrap_or_default() {
            let Some(client) = self.clients.get_mut(&id) else {
                continue;
            };
            let pending = client.queue.iter_mut();
            for part in pending.flat_map(|p| p.kind.parts_mut()) {
                if let PendingKind::Read {
                    barrier, reached, ..
                } = part
                {
                    *reached |= *barrier == token;
                }
            }
            self.drain(cx, id);
        }
    }

    // --- time and leaders ---

    /// All units for a shard that were asked for have been sent to its leader.
    pub fn mark_sent(&mut self, to: ShardId) {
        for id in std::mem::take(&mut self.unsent) {
            let Some(client) = self.clients.get_mut(&id) else {
                continue;
            };
            let mut left = false;
            // Those at the end were asked for last.
            let parts = (client.queue.iter_mut().rev()).flat_map(|p| p.kind.parts_mut());
            for part in parts {
                let PendingKind::Write { shard, sent, .. } = part else {
                    continue;
                };
                if *shard != to {
                    left |= !*sent;
                } else if std::mem::replace(sent, true) {
                    break;
                }
            }
            if left {
                self.unsent.push(id);
            }
        }
    }

    /// The leader of a shard changed, or frames to it were lost: whoever has a write under way there cannot
    /// know its fate here.
    pub fn handle_leader_lost(&mut self, cx: &mut Context<'_>, shard: ShardId) {
        let mut lost: Vec<ClientId> = (self.clients.values())
            .filter(|client| client.has_sent_write(shard))
            .map(|client| client.id)
            .collect();
        lost.sort_unstable();
        for id in lost {
            self.close(id, cx.actions);
        }
    }

    /// Time passed.
    pub fn handle_tick(&mut self, cx: &mut Context<'_>) {
        self.end_waits(cx);
        let since = cx.now.mono_us.saturating_sub(WRITE_MAX_US);
        let idle_us = self.idle_seconds_max.saturating_mul(1_000_000);
        let mut over: Vec<ClientId> = (self.clients.values())
            .filter(|client| {
                let is_idle = client.queue.is_empty() && client.subscriptions() == 0;
                if idle_us > 0 && is_idle && cx.now.mono_us > client.seen_us.1 + idle_us {
                    return true;
                }
                (client.queue.front()).is_some_and(|p| {
                    p.kind.parts().iter().any(|part| match part {
                        PendingKind::Write { waits: None, .. } | PendingKind::Read { .. } => {
                            p.since_us < since
                        }
                        PendingKind::Forwarded { give_up_us, .. } => {
                            give_up_us.is_some_and(|at_us| at_us <= cx.now.mono_us)
                        }
                        _ => false,
                    })
                })
            })
            .map(|client| client.id)
            .collect();
        over.sort_unstable();
        for id in over {
            self.close(id, cx.actions);
        }
    }

    /// Hands what was written to the host.
    pub fn flush(&mut self, counters: &mut Counters, actions: &mut VecDeque<Action>) {
        self.open_barriers.clear();
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
            self.drain(cx, id);
        }
    }
}
