//! The Kafka front end of a core: connections, and the order of their requests and answers.
//!
//! A connection's requests are answered in the order in which they came. A request is drafted when it
//! arrives: the units that it needs are proposed at once, so that writes are pipelined, and what it reads
//! is read when all before it is answered and the barriers that it needs are reached. Partitions and groups
//! are served by the node that leads their shard; others answer so that clients look for it.
//!
//! Reading order: `draft` (what a request becomes), this file (how it is carried out), `places` (who holds
//! what), then `records`, `groups`, `topics` (requests by their kind), `answers` (what units told), and
//! `duties` (what a shard's leader does unasked).

mod answers;
mod client;
mod draft;
mod duties;
mod groups;
mod places;
mod records;
mod topics;

use crate::admin::{Counters, TopicsStatus};
use crate::config::CoreConfig;
use crate::core::Ask;
use crate::event::{Action, ClientId, FrontEnd, Level};
use crate::front::Context;
use answers::Answer;
use base::map::HashMap;
use base::{CoreAddress, Origin, ShardId};
use bytes::Bytes;
use catalog::TREE_SHARD;
use client::{Client, Pending};
use draft::{Command, Draft, Work};
use duties::Duties;
use messaging::{Output, PartitionId, RegistryOutput, RegistryUnit, Unit};
pub use places::POOL;
use records::Fetching;
use shard::{DataUnit, Shard};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use wire_kafka::{Api, Error, Incoming, Limits, Reply, Request, reply};

/// Requests of one connection that may wait; beyond it the connection is not read from.
const PENDING_MAX: usize = 1_024;
/// The same in bytes as they came.
const PENDING_BYTES_MAX: usize = 32 << 20;
/// A request that was not answered for this long has met a cluster without a leader; its connection is
/// closed. Joins and syncs wait for other members, and are not meant.
const PENDING_MAX_US: u64 = 30_000_000;

/// Who waits for a unit's answer.
#[derive(Debug)]
struct Waiter {
    client: ClientId,
    /// The request's number on its connection.
    request: u64,
    /// Which part of it.
    at: (usize, usize),
    shard: ShardId,
    /// True once it was sent to a leader.
    sent: bool,
}

/// The front end.
#[derive(Debug)]
pub struct Kafka {
    me: CoreAddress,
    limits: Limits,
    /// Where clients reach this node.
    listener: Option<String>,
    auto_create: bool,
    partition_count: u32,
    clients: HashMap<ClientId, Client>,
    next_token: u64,
    waiters: HashMap<u64, Waiter>,
    /// Waiters whose units have not been sent.
    unsent: Vec<u64>,
    /// Bytes of these units, by shard.
    unsent_bytes: BTreeMap<ShardId, usize>,
    /// The barrier that reads of this turn share, by shard.
    open_barriers: BTreeMap<ShardId, u64>,
    barriers: HashMap<u64, Vec<(ClientId, u64)>>,
    /// Fetches that wait, by partition and by when they are answered anyway.
    fetches: BTreeMap<PartitionId, BTreeSet<ClientId>>,
    deadlines: BTreeSet<(u64, ClientId)>,
    /// Connections whose fetch is to be looked at again.
    woken: BTreeSet<ClientId>,
    dirty: Vec<ClientId>,
    duties: Duties,
}

impl Kafka {
    /// A front end of the core `me`. Tokens start at a random place, so that they are unique across restarts.
    pub fn new(me: CoreAddress, config: &CoreConfig, first_token: u64) -> Self {
        Self {
            me,
            limits: Limits::default(),
            listener: config.listeners.get(&FrontEnd::Kafka).cloned(),
            auto_create: config.topics_auto_create,
            partition_count: config.topic_partitions,
            clients: HashMap::default(),
            next_token: first_token,
            waiters: HashMap::default(),
            unsent: Vec::new(),
            unsent_bytes: BTreeMap::new(),
            open_barriers: BTreeMap::new(),
            barriers: HashMap::default(),
            fetches: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            woken: BTreeSet::new(),
            dirty: Vec::new(),
            duties: Duties::default(),
        }
    }

    /// Adds what there is of clients here.
    pub fn describe(&self, status: &mut TopicsStatus) {
        status.clients += self.clients.len() as u64;
        let queued = self.clients.values().map(|client| client.queue.len());
        status.outstanding += queued.sum::<usize>() as u64;
    }

    // --- connections ---

    /// True for a connection of this front end.
    pub fn has_client(&self, id: ClientId) -> bool {
        self.clients.contains_key(&id)
    }

    /// A client connected.
    pub fn handle_opened(&mut self, id: ClientId, address: String) {
        let client = Client::new(id, address, self.limits);
        self.clients.insert(id, client);
    }

    /// A client's connection ended.
    pub fn handle_closed(&mut self, id: ClientId) {
        if self.clients.contains_key(&id) {
            self.end_fetch(id);
            self.clients.remove(&id);
            self.waiters.retain(|_, waiter| waiter.client != id);
        }
    }

    /// Sends what is answered and closes the connection.
    fn close(&mut self, id: ClientId, actions: &mut VecDeque<Action>) {
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        client.out.close(id, actions);
        self.handle_closed(id);
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
        client.wire.handle_bytes(bytes);
        self.dirty.push(id);
        self.poll_client(cx, id);
    }

    fn poll_client(&mut self, cx: &mut Context<'_>, id: ClientId) {
        loop {
            let Some(client) = self.clients.get_mut(&id) else {
                return;
            };
            if client.out.is_full()
                || client.queue.len() >= PENDING_MAX
                || client.queued_bytes > PENDING_BYTES_MAX
            {
                return client.out.pause(id, true, cx.actions);
            }
            let held = client.wire.buffered_bytes();
            match client.wire.poll() {
                Ok(None) => return client.out.pause(id, false, cx.actions),
                Ok(Some(incoming)) => {
                    let bytes = held.saturating_sub(client.wire.buffered_bytes());
                    self.request(cx, id, incoming, bytes);
                }
                Err(error) => {
                    cx.counters.malformed += 1;
                    let address = client.address.clone();
                    cx.actions.push_back(Action::Log {
                        level: Level::Warn,
                        message: format!("closed the Kafka connection from {address}: {error}"),
                    });
                    return self.close(id, cx.actions);
                }
            }
        }
    }

    // --- requests ---

    fn request(&mut self, cx: &mut Context<'_>, id: ClientId, incoming: Incoming, bytes: usize) {
        let Incoming { header, request } = incoming;
        let draft = self.draft(cx, id, request);
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        let number = client.push(Pending {
            since_us: cx.now.mono_us,
            header,
            bytes,
            left: draft.units.len(),
            work: draft.work,
        });
        for (shard, at, command) in draft.units {
            self.propose(cx, (id, number, at), shard, command);
        }
        self.bar(cx, (id, number), draft.barriers);
        self.serve(cx, id);
    }

    /// What a request becomes.
    fn draft(&mut self, cx: &Context<'_>, id: ClientId, request: Request) -> Draft {
        match request {
            Request::ApiVersions => Draft::reply(Reply::ApiVersions { is_unknown: false }),
            Request::UnknownApiVersions => Draft::reply(Reply::ApiVersions { is_unknown: true }),
            Request::Produce {
                transactional_id,
                acks,
                topics,
                ..
            } => {
                let unsent = &self.unsent_bytes;
                records::produce(cx, unsent, transactional_id.is_some(), acks, topics)
            }
            Request::Fetch(fetch) => Draft::of(Work::Fetch {
                fetch,
                is_sure: false,
            }),
            Request::DeleteRecords { topics, .. } => records::delete_records(cx, topics),
            Request::Metadata { topics, may_create } => self.metadata(cx, topics, may_create),
            Request::CreateTopics {
                topics,
                validate_only,
                ..
            } => self.create_topics(cx, topics, validate_only),
            Request::DeleteTopics { topics, .. } => topics::delete_topics(topics),
            Request::CreatePartitions {
                topics,
                validate_only,
                ..
            } => topics::create_partitions(topics, validate_only),
            Request::AlterConfigs {
                resources,
                validate_only,
            } => topics::alter_configs(resources, validate_only),
            Request::InitProducerId { transactional_id } => {
                topics::init_producer_id(transactional_id.is_some())
            }
            Request::JoinGroup(mut join) => {
                if let Some(client) = self.clients.get(&id) {
                    join.client_host = format!("/{}", client.host());
                }
                self.join_group(cx, join)
            }
            Request::SyncGroup(sync) => self.sync_group(cx, sync),
            Request::LeaveGroup { group, members } => groups::leave_group(cx, group, members),
            Request::OffsetCommit {
                group,
                member,
                generation,
                topics,
            } => self.offset_commit(cx, (group, member, generation), topics),
            Request::DeleteGroups(names) => groups::delete_groups(cx, names),
            request @ (Request::FindCoordinator { .. }
            | Request::DescribeCluster
            | Request::ListOffsets(_)
            | Request::OffsetForLeaderEpoch(_)
            | Request::Heartbeat { .. }
            | Request::OffsetFetch(_)
            | Request::DescribeGroups(_)
            | Request::ListGroups(_)
            | Request::DescribeConfigs(_)) => {
                let shards = places::read_shards(cx, &request);
                Draft::read(request, shards)
            }
        }
    }

    /// The answer to a request that reads, from what is here now.
    fn read(&mut self, cx: &Context<'_>, request: Request) -> Reply {
        match request {
            Request::Metadata { topics, .. } => self.topics_metadata(cx, topics),
            Request::DescribeCluster => self.describe_cluster(cx),
            Request::FindCoordinator { kind, keys } => self.find_coordinator(cx, kind, keys),
            Request::DescribeConfigs(queries) => self.describe_configs(cx, queries),
            Request::ListOffsets(topics) => records::list_offsets(cx, topics),
            Request::OffsetForLeaderEpoch(topics) => records::epoch_ends(cx, topics),
            Request::Heartbeat {
                group,
                member,
                generation,
            } => self.heartbeat(cx, &group, &member, generation),
            Request::OffsetFetch(groups) => groups::offset_fetch(cx, groups),
            Request::DescribeGroups(names) => groups::describe_groups(cx, names),
            Request::ListGroups(states) => groups::list_groups(cx, &states),
            _ => unreachable!("what does not read is not drafted as a read"),
        }
    }

    fn propose(
        &mut self,
        cx: &mut Context<'_>,
        (client, request, at): (ClientId, u64, (usize, usize)),
        shard: ShardId,
        command: Command,
    ) {
        cx.counters.writes += 1;
        self.next_token = self.next_token.wrapping_add(1);
        let token = self.next_token;
        let waiter = Waiter {
            client,
            request,
            at,
            shard,
            sent: false,
        };
        self.waiters.insert(token, waiter);
        self.unsent.push(token);
        let origin = Origin {
            home: self.me,
            token,
        };
        let unit = match command {
            Command::Topics(command) => DataUnit::Topics(Unit { origin, command }),
            Command::Registry(command) => DataUnit::Registry(RegistryUnit { origin, command }),
        };
        let unit = unit.encode();
        *self.unsent_bytes.entry(shard).or_default() += unit.len();
        cx.asks.push(Ask::Propose(shard, unit));
    }

    /// Lets a request wait until these shards' states here are as new as any is now.
    fn bar(
        &mut self,
        cx: &mut Context<'_>,
        (id, request): (ClientId, u64),
        shards: BTreeSet<ShardId>,
    ) {
        for shard in shards {
            // Where there is no other replica there is nobody to ask, where there is none nothing to read.
            let is_copied = shard == TREE_SHARD && cx.registry_copy.is_some();
            if !is_copied && cx.replicas.get(shard).is_none_or(Shard::is_alone) {
                continue;
            }
            cx.counters.reads += 1;
            let token = *self.open_barriers.entry(shard).or_insert_with(|| {
                self.next_token = self.next_token.wrapping_add(1);
                cx.asks.push(Ask::Barrier(shard, self.next_token));
                self.next_token
            });
            self.barriers.entry(token).or_default().push((id, request));
            if let Some(pending) = self.pending(id, request) {
                pending.left += 1;
            }
        }
    }

    fn pending(&mut self, id: ClientId, request: u64) -> Option<&mut Pending> {
        self.clients.get_mut(&id)?.pending(request)
    }

    // --- answers ---

    /// Answers what waits for nothing more, in order.
    fn serve(&mut self, cx: &mut Context<'_>, id: ClientId) {
        while let Some(client) = self.clients.get_mut(&id) {
            if client.out.is_full() {
                return;
            }
            let Some(mut pending) = client.pop_ready() else {
                return;
            };
            let work = std::mem::replace(&mut pending.work, Work::Taken);
            let answer = match work {
                Work::Reply(answer) => answer,
                Work::Silent(answer) => {
                    if answers::is_refused(&answer) {
                        // There is no other way to tell.
                        return self.close(id, cx.actions);
                    }
                    continue;
                }
                Work::Read(request) => self.read(cx, request),
                Work::Fetch { fetch, is_sure } => {
                    self.end_fetch(id);
                    let until_us = records::deadline_us(&fetch, pending.since_us);
                    match records::fetch(cx, &fetch, is_sure, until_us) {
                        Fetching::Answer(answer) => answer,
                        Fetching::Wait(partitions) => {
                            pending.work = Work::Fetch { fetch, is_sure };
                            return self.await_records(id, pending, partitions, until_us);
                        }
                        Fetching::Unsure(shards) => {
                            pending.work = Work::Fetch {
                                fetch,
                                is_sure: true,
                            };
                            if let Some(client) = self.clients.get_mut(&id) {
                                let request = client.push_front(pending);
                                self.bar(cx, (id, request), shards);
                            }
                            continue;
                        }
                    }
                }
                Work::Taken => unreachable!("it is put back or answered"),
            };
            let Some(client) = self.clients.get_mut(&id) else {
                return;
            };
            if pending.header.api != Api::Fetch {
                cx.counters.note_latency(cx.now, pending.since_us);
            }
            if let Err(why) = reply::encode(&mut client.out.bytes, &pending.header, &answer) {
                cx.counters.errors += 1;
                let message = format!("closed a Kafka connection: {why}");
                let level = Level::Error;
                cx.actions.push_back(Action::Log { level, message });
                return self.close(id, cx.actions);
            }
            self.dirty.push(id);
        }
    }

    /// The same, and takes further requests for which there is room now.
    fn drain(&mut self, cx: &mut Context<'_>, id: ClientId) {
        self.serve(cx, id);
        if let Some(client) = self.clients.get(&id)
            && (client.out.is_paused() || client.wire.buffered_bytes() > 0)
        {
            self.poll_client(cx, id);
        }
    }

    /// A fetch that found too little waits for records of these partitions.
    fn await_records(
        &mut self,
        id: ClientId,
        pending: Pending,
        partitions: Vec<PartitionId>,
        until_us: u64,
    ) {
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        client.push_front(pending);
        for partition in &partitions {
            self.fetches.entry(*partition).or_default().insert(id);
        }
        self.deadlines.insert((until_us, id));
        client.awaited = Some((until_us, partitions));
    }

    fn end_fetch(&mut self, id: ClientId) {
        let awaited = self.clients.get_mut(&id).and_then(|c| c.awaited.take());
        let Some((until_us, partitions)) = awaited else {
            return;
        };
        self.deadlines.remove(&(until_us, id));
        for partition in partitions {
            if let Some(waiting) = self.fetches.get_mut(&partition) {
                waiting.remove(&id);
                if waiting.is_empty() {
                    self.fetches.remove(&partition);
                }
            }
        }
    }

    /// Looks again at fetches whose partitions have more records, once for all records of a turn.
    pub fn serve_woken(&mut self, cx: &mut Context<'_>) {
        for id in std::mem::take(&mut self.woken) {
            self.drain(cx, id);
        }
    }

    /// One output of a shard's topics, in apply order.
    pub fn handle_output(&mut self, cx: &mut Context<'_>, shard: ShardId, output: Output) {
        match output {
            Output::Reply { origin, reply } => self.answered(cx, origin, Answer::Topics(reply)),
            Output::Appended { partition, .. } => {
                if let Some(waiting) = self.fetches.get(&partition) {
                    self.woken.extend(waiting);
                }
            }
            Output::GroupChanged { group } => self.duties.group_changed(cx, shard, &group),
        }
    }

    /// One output of the registry, in apply order.
    pub fn handle_registry(&mut self, cx: &mut Context<'_>, output: RegistryOutput) {
        match output {
            RegistryOutput::Reply { origin, reply } => {
                self.answered(cx, origin, Answer::Registry(reply));
            }
            RegistryOutput::Changed => self.duties.reconcile_soon(),
        }
    }

    fn answered(&mut self, cx: &mut Context<'_>, origin: Origin, answer: Answer) {
        if origin.home != self.me {
            return;
        }
        let Some(waiter) = self.waiters.remove(&origin.token) else {
            return;
        };
        let Some(pending) = self.pending(waiter.client, waiter.request) else {
            return;
        };
        if let Work::Reply(reply) | Work::Silent(reply) = &mut pending.work {
            answers::fill(cx, reply, waiter.at, answer);
        }
        pending.left -= 1;
        self.drain(cx, waiter.client);
    }

    /// A barrier is reached.
    pub fn handle_barrier(&mut self, cx: &mut Context<'_>, token: u64) {
        self.duties.handle_barrier(cx, token);
        for (id, request) in self.barriers.remove(&token).unwrap_or_default() {
            if let Some(pending) = self.pending(id, request) {
                pending.left -= 1;
                self.drain(cx, id);
            }
        }
    }

    // --- time and leaders ---

    /// All units for a shard that were asked for have been sent to its leader.
    pub fn mark_sent(&mut self, to: ShardId) {
        self.unsent_bytes.remove(&to);
        let waiters = &mut self.waiters;
        self.unsent.retain(|token| match waiters.get_mut(token) {
            Some(waiter) if waiter.shard == to => {
                waiter.sent = true;
                false
            }
            waiter => waiter.is_some(),
        });
    }

    /// The leader of a shard changed, or frames to it were lost: whoever has a write under way there cannot
    /// know its fate here. Who waits for records is told to look for the leader.
    pub fn handle_leader_lost(&mut self, cx: &mut Context<'_>, shard: ShardId) {
        let lost: BTreeSet<ClientId> = (self.waiters.values())
            .filter(|waiter| waiter.sent && waiter.shard == shard)
            .map(|waiter| waiter.client)
            .collect();
        for id in lost {
            self.close(id, cx.actions);
        }
        self.woken.extend(self.deadlines.iter().map(|(_, id)| *id));
    }

    /// The core was not run for so long, in microseconds.
    pub fn stalled(&mut self, by_us: u64) {
        self.duties.stalled(by_us);
    }

    /// Time passed.
    pub fn handle_tick(&mut self, cx: &mut Context<'_>) {
        self.duties.handle_tick(cx, &mut self.next_token);
        while let Some((until_us, id)) = self.deadlines.first().copied()
            && until_us <= cx.now.mono_us
        {
            self.drain(cx, id);
            // It is answered, unless it waits for a barrier or for its client to read.
            self.deadlines.remove(&(until_us, id));
        }
        let since_us = cx.now.mono_us.saturating_sub(PENDING_MAX_US);
        let mut over: Vec<ClientId> = (self.clients.values())
            .filter(|client| client.waits_since(since_us))
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

/// Stands where an answer is missing yet, or where one that came does not fit.
const UNANSWERED: Error = Error::UnknownServerError;
