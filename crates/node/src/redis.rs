//! The Redis front end of a core: connections, and the order of their requests and answers.
//!
//! A connection's requests are answered in the order in which they came. Writes are sent to the leader of
//! their key's shard at once; whatever comes behind a write waits in the connection's queue until the write
//! is applied *here*. Reads are served from this core's replica behind a barrier that all reads of a turn
//! share, so that they are linearizable; where the replica is the only one there is nobody to ask.

mod blocking;
mod client;
mod cluster;
mod local;
mod pubsub;
mod server;
mod transaction;

pub use client::Client;

use crate::admin::Counters;
use crate::core::{Ask, CoreConfig};
use crate::event::{Action, ClientId, FrontEnd, Level};
use crate::front::Context;
use base::map::HashMap;
use base::planted::{Bug, planted};
use base::{CoreAddress, Now, Origin, ShardId};
use blocking::Blocked;
use bytes::Bytes;
use client::{Pending, PendingKind, Waits};
use shard::{DataUnit, Shard};
use std::collections::{BTreeMap, VecDeque};
use storage::cache::{Access, Body, Cache, Command, DATABASES, Output, Reply, Spec, Unit, spec};
use wire_redis::{Limits, reply};

/// Requests of one connection that may wait; beyond it the connection is not read from.
pub const PENDING_MAX: usize = 4_096;
/// What may stand behind a blocking command before the connection is not read from, in bytes.
const STALLED_BYTES_MAX: usize = 64 << 10;

/// A write that was not answered for this long has met a cluster without a leader; its connection is closed.
const WRITE_MAX_US: u64 = 30_000_000;

impl<'a> Context<'a> {
    fn cache(&self, shard: ShardId) -> Option<&'a Cache> {
        Some(&self.data(shard)?.cache)
    }
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

    /// A client's connection ended.
    pub fn handle_closed(&mut self, id: ClientId) {
        if let Some(client) = self.clients.remove(&id) {
            self.forget(&client);
        }
    }

    fn forget(&mut self, client: &Client) {
        for pending in &client.queue {
            if let PendingKind::Write { token, .. } = pending.kind
                && let Some(waiter) = self.waiter(token)
            {
                *waiter = None;
            }
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
            match client.wire.poll() {
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
        self.commands += 1;
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
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
            .and_then(|()| self.place(cx, id, spec, &command));
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        let shard = match place {
            Ok(shard) => shard,
            Err(refusal) => {
                cx.counters.errors += 1;
                if let Some(transaction) = &mut client.transaction {
                    transaction.failed = true;
                }
                return client.answer(cx.now, refusal);
            }
        };
        if let Some(transaction) = &mut client.transaction {
            transaction.commands.push(command);
            return client.answer(cx.now, Reply::Status("QUEUED".into()));
        }
        match spec.access {
            Access::Read => self.read(cx, id, shard, command),
            Access::Write => self.write(cx, id, shard, spec, command),
        }
    }

    /// The one shard that all keys of a command lie in.
    fn place(
        &self,
        cx: &Context<'_>,
        id: ClientId,
        spec: &Spec,
        command: &Command,
    ) -> Result<ShardId, Reply> {
        let mut found = None;
        for key in command.keys() {
            let shard = self.shard_of(cx, key)?;
            if found.is_some_and(|other| other != shard) {
                return Err(Reply::error(
                    "CROSSSLOT Keys in request don't hash to the same slot",
                ));
            }
            found = Some(shard);
            if self.redirects || self.clients.get(&id).is_some_and(|c| c.knows_cluster) {
                self.redirect(cx, key, shard)?;
            }
        }
        let shard = match found {
            Some(shard) => shard,
            // About a whole database: this works where it lies in one shard.
            None => match cx.catalog.pools.get(&cx.catalog.cache_pool) {
                Some(pool) if pool.slots.len() == 1 => pool.slots[0].1,
                _ => {
                    return Err(Reply::Error(
                        format!(
                            "ERR '{}' names no key, and the cache is spread over several shards: not possible yet",
                            spec.name
                        )
                        .into(),
                    ));
                }
            },
        };
        if spec.access == Access::Write && cx.is_held_up(shard) {
            return Err(Reply::error(
                "TRYAGAIN too many writes wait for a transaction that is not decided yet",
            ));
        }
        if spec.access == Access::Write && cx.full.contains(&shard) && !spec.frees {
            return Err(Reply::error(
                "MISCONF the disk is nearly full: writes that add data are refused, reads and deletes go on",
            ));
        }
        if cx.cache(shard).is_none() {
            return Err(Reply::error(
                "CLUSTERDOWN this core has no replica of the key's shard; use another node",
            ));
        }
        Ok(shard)
    }

    fn shard_of(&self, cx: &Context<'_>, key: &[u8]) -> Result<ShardId, Reply> {
        let down = || Reply::error("CLUSTERDOWN The cluster is not formed yet; try again");
        router::key_shard(cx.catalog, key).ok_or_else(down)
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
        client.push(
            cx.now,
            PendingKind::Read {
                command,
                database,
                shard,
                barrier,
                reached: is_alone,
            },
        );
    }

    fn write(
        &mut self,
        cx: &mut Context<'_>,
        id: ClientId,
        shard: ShardId,
        spec: &Spec,
        command: Command,
    ) {
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        let database = client.database;
        let waits = if spec.is_blocking {
            let deadline_us = match blocking::deadline_us(cx.now, spec, &command) {
                Ok(deadline_us) => deadline_us,
                Err(refusal) => return client.answer(cx.now, refusal),
            };
            Some(Box::new(Waits {
                command: command.clone(),
                database,
                deadline_us,
                nothing: None,
            }))
        } else {
            None
        };
        client.stalled |= waits.is_some();
        if let [key] = command.keys().collect::<Vec<_>>()[..]
            && waits.is_some()
            && self.blocked.contains_key(&(database, key.clone()))
        {
            // Others wait already, so there is nothing to take before their turn.
            return self.block_unasked(cx, id, shard, waits, blocking::nothing(spec));
        }
        self.propose(cx, id, shard, Body::One(command), waits);
    }

    fn propose(
        &mut self,
        cx: &mut Context<'_>,
        id: ClientId,
        shard: ShardId,
        body: Body,
        waits: Option<Box<Waits>>,
    ) {
        cx.counters.writes += 1;
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        let database = client.database;
        let token = self.first_token.wrapping_add(self.waiting.len() as u64);
        self.waiting.push_back(Some(id));
        client.push(
            cx.now,
            PendingKind::Write {
                token,
                shard,
                sent: false,
                waits,
            },
        );
        self.unsent.push(id);
        self.ask(cx, token, shard, database, body);
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
        let Some(pending) = client.write(token) else {
            return;
        };
        cx.counters.errors += u64::from(answer.is_error());
        if let PendingKind::Write {
            waits: Some(waits), ..
        } = &mut pending.kind
        {
            if matches!(answer, Reply::Nil | Reply::NilArray) {
                waits.nothing = Some(answer);
                return self.block(cx, id);
            }
            self.served(cx, id);
        }
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        if let Some(pending) = client.write(token) {
            cx.counters.note_latency(cx.now, pending.since_us);
            pending.kind = PendingKind::Done(answer);
        }
        self.drain(cx, id);
    }

    /// Answers what waits for nothing more, in order.
    fn drain(&mut self, cx: &mut Context<'_>, id: ClientId) {
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        while !client.out.is_full()
            && let Some(pending) = client.queue.pop_front()
        {
            match pending.kind {
                PendingKind::Done(answer) => {
                    reply::encode(&mut client.out.bytes, &answer, client.protocol);
                }
                PendingKind::Encoded(bytes) => client.out.bytes.extend_from_slice(&bytes),
                PendingKind::Read {
                    command,
                    database,
                    shard,
                    reached: true,
                    ..
                } => {
                    let answer = match cx.cache(shard) {
                        Some(cache) => cache.read(cx.time_ms, database, &command),
                        None => Reply::error("CLUSTERDOWN the key's shard has left this node"),
                    };
                    cx.counters.note_latency(cx.now, pending.since_us);
                    reply::encode(&mut client.out.bytes, &answer, client.protocol);
                }
                PendingKind::Watch(keys) => {
                    transaction::watch(cx, client, keys);
                    client.stalled = false;
                    reply::encode(&mut client.out.bytes, &Reply::OK, client.protocol);
                }
                kind @ (PendingKind::Write { .. } | PendingKind::Read { .. }) => {
                    client.queue.push_front(Pending { kind, ..pending });
                    break;
                }
            }
        }
        self.dirty.push(id);
        if client.out.is_paused() || client.quits || client.wire.buffered_bytes() > 0 {
            self.poll_client(cx, id);
        }
    }

    /// A barrier is reached.
    pub fn handle_barrier(&mut self, cx: &mut Context<'_>, token: u64) {
        for id in self.barriers.remove(&token).unwrap_or_default() {
            let Some(client) = self.clients.get_mut(&id) else {
                continue;
            };
            for pending in &mut client.queue {
                if let PendingKind::Read {
                    barrier, reached, ..
                } = &mut pending.kind
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
            for pending in client.queue.iter_mut().rev() {
                let PendingKind::Write { shard, sent, .. } = &mut pending.kind else {
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
                    p.since_us < since
                        && matches!(
                            p.kind,
                            PendingKind::Write { waits: None, .. } | PendingKind::Read { .. }
                        )
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
