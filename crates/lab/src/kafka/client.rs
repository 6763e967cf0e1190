//! A simulated Kafka client: real bytes on simulated connections, one to each broker for each use, and what it
//! has heard of who leads what. What has no answer when its connection ends is told to be lost.

use super::Partition;
use super::protocol::{Answer, Request};
use crate::client::Context;
use crate::world::ConnectionNote;
use base::Rng;
use base::frames::Frames;
use node::{ClientId, FrontEnd};
use std::collections::{BTreeMap, VecDeque};

const FRAME_BYTES_MAX: u32 = 16 << 20;
const DIAL_WAIT_US: u64 = 1_500_000;
const ANSWER_WAIT_US: u64 = 3_000_000;
/// Who joins waits for others.
const JOIN_WAIT_US: u64 = 6_000_000;

/// What a connection is for: answers come in order, and some wait on purpose.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Use {
    /// Records go out.
    Produce,
    /// Records come in, and everything that is not of a group.
    Fetch,
    /// What members of groups ask.
    Group,
}

/// Who waits for an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tag {
    /// The client itself.
    Own,
    /// The producer, for a batch by its place in the history.
    Batch(usize),
    /// The producer, for its id.
    Producer,
    /// The member of a group; the number tells its lives apart.
    Member(u64),
    /// The member, for a commit by its place in the history.
    Commit(usize),
    /// The player.
    Player,
}

/// An answer, or that it will not come.
#[derive(Debug)]
pub struct Told {
    /// For whom.
    pub tag: Tag,
    /// What was asked.
    pub request: Request,
    /// Through which node.
    pub node: usize,
    /// On which connection.
    pub connection: ClientId,
    /// When.
    pub invoked_us: u64,
    /// The answer; `None` when the connection ended before it.
    pub answer: Option<Answer>,
}

#[derive(Debug)]
struct Awaited {
    tag: Tag,
    request: Request,
    correlation: i32,
    invoked_us: u64,
}

impl Awaited {
    fn give_up_us(&self) -> u64 {
        let waits = matches!(self.request, Request::Join { .. } | Request::Sync { .. });
        self.invoked_us + if waits { JOIN_WAIT_US } else { ANSWER_WAIT_US }
    }
}

#[derive(Debug)]
struct Link {
    id: ClientId,
    is_open: bool,
    frames: Frames,
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
    links: BTreeMap<(usize, Use), Link>,
    /// Not dialled before then.
    retry_at_us: BTreeMap<(usize, Use), u64>,
    told: VecDeque<Told>,
    leaders: BTreeMap<Partition, usize>,
    is_asking: bool,
    refresh_at_us: Option<u64>,
    next_correlation: i32,
}

impl Client {
    /// A client without connections.
    pub fn new(number: usize, rng: Rng) -> Self {
        Self {
            number,
            rng,
            links: BTreeMap::new(),
            retry_at_us: BTreeMap::new(),
            told: VecDeque::new(),
            leaders: BTreeMap::new(),
            is_asking: false,
            refresh_at_us: Some(0),
            next_correlation: 0,
        }
    }

    /// Nodes that it is connected to.
    pub fn nodes(&self) -> Vec<usize> {
        let open = self.links.iter().filter(|(_, link)| link.is_open);
        open.map(|((node, _), _)| *node).collect()
    }

    /// The node that leads a partition, as far as it has heard.
    pub fn leader(&mut self, now_us: u64, partition: Partition) -> Option<usize> {
        let leader = self.leaders.get(&partition).copied();
        if leader.is_none() {
            self.refresh(now_us);
        }
        leader
    }

    /// True when it has heard of a leader of each of these.
    pub fn knows(&self, partitions: &[Partition]) -> bool {
        partitions.iter().all(|p| self.leaders.contains_key(p))
    }

    /// What it has heard may be old: it will ask again.
    pub fn refresh(&mut self, now_us: u64) {
        let at_us = now_us + self.rng.range(1_000, 150_000);
        self.refresh_at_us.get_or_insert(at_us);
    }

    /// Any member.
    pub fn any_node(&mut self, cx: &Context<'_>) -> usize {
        match cx.nodes.len() as u64 {
            0 => 0,
            count => cx.nodes[self.rng.range(0, count) as usize],
        }
    }

    /// The connection to a node for this use, if it is open; else it will be.
    pub fn link(&mut self, cx: &mut Context<'_>, node: usize, what_for: Use) -> Option<ClientId> {
        let key = (node, what_for);
        if let Some(link) = self.links.get(&key) {
            return link.is_open.then_some(link.id);
        }
        let now_us = cx.world.now_us;
        if self.retry_at_us.get(&key).is_none_or(|at| now_us >= *at) {
            let link = Link {
                id: cx.world.connect(node, FrontEnd::Kafka),
                is_open: false,
                frames: Frames::new(FRAME_BYTES_MAX),
                awaited: VecDeque::new(),
                since_us: now_us,
            };
            self.links.insert(key, link);
        }
        None
    }

    /// Sends a request; false without a connection yet.
    pub fn ask(
        &mut self,
        cx: &mut Context<'_>,
        (node, what_for): (usize, Use),
        request: Request,
        tag: Tag,
    ) -> bool {
        if self.link(cx, node, what_for).is_none() {
            return false;
        }
        let Some(link) = self.links.get_mut(&(node, what_for)) else {
            return false;
        };
        self.next_correlation += 1;
        let correlation = self.next_correlation;
        cx.history.kafka.requests.0 += 1;
        cx.world
            .client_send(link.id, request.encode(correlation).into());
        link.awaited.push_back(Awaited {
            tag,
            request,
            correlation,
            invoked_us: cx.world.now_us,
        });
        true
    }

    /// Looks after connections and leaders. To be called often.
    pub fn tick(&mut self, cx: &mut Context<'_>) {
        let now_us = cx.world.now_us;
        let waits_too_long = |link: &Link| match link.awaited.front() {
            _ if !link.is_open => now_us > link.since_us + DIAL_WAIT_US,
            Some(awaited) => now_us > awaited.give_up_us(),
            None => false,
        };
        let late = self.links.iter().filter(|(_, link)| waits_too_long(link));
        let late: Vec<(usize, Use)> = late.map(|(key, _)| *key).collect();
        for key in late {
            self.abandon(cx, key, false);
        }
        if !self.is_asking && self.refresh_at_us.is_some_and(|at| now_us >= at) {
            let node = self.any_node(cx);
            self.is_asking = self.ask(cx, (node, Use::Fetch), Request::Metadata, Tag::Own);
        }
    }

    /// Gives any connection up.
    pub fn abandon_any(&mut self, cx: &mut Context<'_>, silently: bool) {
        let keys: Vec<(usize, Use)> = self.links.keys().copied().collect();
        if let Some(count) = (!keys.is_empty()).then_some(keys.len() as u64) {
            let pick = self.rng.range(0, count) as usize;
            self.abandon(cx, keys[pick], silently);
        }
    }

    fn abandon(&mut self, cx: &mut Context<'_>, key: (usize, Use), silently: bool) {
        if let Some(link) = self.links.get(&key) {
            cx.world.client_close(link.id, silently);
            self.lose(cx.world.now_us, key);
        }
    }

    fn lose(&mut self, now_us: u64, key: (usize, Use)) {
        let Some(link) = self.links.remove(&key) else {
            return;
        };
        let wait_us = self.rng.range(1_000, 200_000);
        self.retry_at_us.insert(key, now_us + wait_us);
        self.refresh(now_us);
        for awaited in link.awaited {
            self.tell(key.0, link.id, awaited, None);
        }
    }

    fn tell(&mut self, node: usize, connection: ClientId, of: Awaited, answer: Option<Answer>) {
        let Awaited {
            tag,
            request,
            invoked_us,
            ..
        } = of;
        if tag != Tag::Own {
            return self.told.push_back(Told {
                tag,
                request,
                node,
                connection,
                invoked_us,
                answer,
            });
        }
        self.is_asking = false;
        if let Some(Answer::Metadata { hosts, leaders }) = answer {
            self.refresh_at_us = None;
            let node_of = |broker: i32| {
                let (_, host) = hosts.iter().find(|(id, _)| *id == broker)?;
                node_at(host)
            };
            let known = leaders.into_iter();
            self.leaders = known.filter_map(|(p, b)| Some((p, node_of(b)?))).collect();
        }
    }

    /// The next answer.
    pub fn poll(&mut self) -> Option<Told> {
        self.told.pop_front()
    }

    /// Takes what arrived on one of its connections.
    pub fn handle(&mut self, cx: &mut Context<'_>, id: ClientId, note: &ConnectionNote) {
        let found = self.links.iter_mut().find(|(_, link)| link.id == id);
        let Some((key, link)) = found.map(|(key, link)| (*key, link)) else {
            return;
        };
        match note {
            ConnectionNote::Opened => link.is_open = true,
            ConnectionNote::Closed => self.lose(cx.world.now_us, key),
            ConnectionNote::Bytes(bytes) => {
                link.frames.push(bytes);
                while let Some(complaint) = self.take(cx, key).err() {
                    let number = self.number;
                    let complaint = format!("Kafka client {number} got {complaint}");
                    cx.history.complaints.push(complaint);
                    self.abandon(cx, key, false);
                }
            }
        }
    }

    /// Takes all whole frames of a connection.
    fn take(&mut self, cx: &mut Context<'_>, key: (usize, Use)) -> Result<(), String> {
        while let Some(link) = self.links.get_mut(&key) {
            let frame = link.frames.poll();
            let frame = frame.map_err(|why| format!("a malformed frame: {why:?}"))?;
            let Some(frame) = frame else { break };
            let awaited = link.awaited.pop_front();
            let awaited = awaited.ok_or("an answer that nobody waits for")?;
            let answer = awaited.request.decode(&frame, awaited.correlation)?;
            cx.history.kafka.requests.1 += 1;
            let (id, number) = (link.id, self.number);
            cx.world.trace.comment(cx.world.now_us, || {
                let (node, request) = (key.0, brief(&awaited.request));
                format!(
                    "Kafka client {number} on node{node}: {answer:?} as the answer to {request}"
                )
            });
            self.tell(key.0, id, awaited, Some(answer));
        }
        Ok(())
    }
}

fn brief(request: &Request) -> String {
    match request {
        Request::Produce { partition, batch } => {
            format!("Produce {partition}, {} bytes", batch.len())
        }
        other => format!("{other:?}"),
    }
}

/// The node whose Kafka clients connect to this host.
pub fn node_at(host: &str) -> Option<usize> {
    let number: usize = host.strip_prefix("10.0.0.")?.parse().ok()?;
    number.checked_sub(1)
}

/// Where a node's Kafka clients connect to.
pub fn host(node: usize) -> String {
    format!("10.0.0.{}", node + 1)
}
