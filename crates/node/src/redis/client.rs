//! One client connection.

use super::forward::Link;
use super::many::Combine;
use crate::event::ClientId;
use crate::front::Outbox;
use base::planted::{Bug, planted};
use base::{CoreAddress, Now, ShardId};
use bytes::Bytes;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use storage::cache::{Access, Command, Reply, Watched, spec};
use wire_redis::{Connection, Limits, Protocol, reply};

/// A connection.
#[derive(Debug)]
pub struct Client {
    /// Its number.
    pub id: ClientId,
    /// Its IP address and port.
    pub address: String,
    /// Its bytes.
    pub wire: Connection,
    /// Which version it speaks.
    pub protocol: Protocol,
    /// Which database it has selected.
    pub database: u32,
    /// Requests not answered yet, in order.
    pub queue: VecDeque<Pending>,
    /// A read may be among them.
    pub has_reads: bool,
    /// How many of them, from the front, have their answers and wait for room.
    pub settled: usize,
    /// What waits to be sent.
    pub out: Outbox,
    /// True while a request at the end of the queue holds up what comes behind it.
    pub stalled: bool,
    /// To be closed once what is queued is answered.
    pub quits: bool,
    /// MULTI was said and not yet EXEC.
    pub transaction: Option<Transaction>,
    /// What EXEC depends on, and where it lies.
    pub watched: Vec<(ShardId, Watched)>,
    /// What EXEC depends on elsewhere: where it lies, and the link by which it is watched.
    pub watched_there: Vec<(ShardId, u64)>,
    /// It is a link from another core: its client is there.
    pub is_linked: bool,
    /// Its links to other cores.
    pub links: BTreeMap<CoreAddress, Link>,
    /// A request that was taken and waits, see [`Client::must_wait`].
    pub postponed: Option<Vec<Bytes>>,
    /// By which of them commands about a shard went, while any is under way.
    pub routes: BTreeMap<ShardId, CoreAddress>,
    /// Subscribed channels.
    pub channels: BTreeSet<Bytes>,
    /// Subscribed patterns.
    pub patterns: BTreeSet<Bytes>,
    /// Names that it gave itself: of the connection, its library and that one's version.
    pub names: [String; 3],
    /// It follows redirections.
    pub knows_cluster: bool,
    /// What it asked last.
    pub last_command: Cow<'static, str>,
    /// When it came, and when it was heard last; monotonic microseconds.
    pub seen_us: (u64, u64),
}

/// Commands between MULTI and EXEC.
#[derive(Debug, Default)]
pub struct Transaction {
    /// In order.
    pub commands: Vec<Command>,
    /// One was refused: EXEC will be, too.
    pub failed: bool,
}

/// A request that is not answered yet.
#[derive(Debug)]
pub struct Pending {
    /// When it came.
    pub since_us: u64,
    /// What it waits for.
    pub kind: PendingKind,
}

/// What a request waits for.
#[derive(Debug)]
pub enum PendingKind {
    /// To be applied here.
    Write {
        /// The answer comes under this token.
        token: u64,
        /// Whose.
        shard: ShardId,
        /// True once it was sent to a leader.
        sent: bool,
        /// For a blocking command: it is tried again when there is something to take.
        waits: Option<Box<Waits>>,
    },
    /// For the shard's state to be as new as it was anywhere when the request came.
    Read {
        /// What to read.
        command: Command,
        /// In which database.
        database: u32,
        /// Where.
        shard: ShardId,
        /// The barrier.
        barrier: u64,
        /// True once reached.
        reached: bool,
    },
    /// For those before it: then it notes the versions of these keys.
    Watch(Vec<(ShardId, Bytes)>),
    /// For those before it.
    Done(Reply),
    /// For those before it; encoded already.
    Encoded(Bytes),
    /// For the answer that comes by a link.
    Forwarded {
        /// Which.
        link: u64,
        /// It may change something: if the link is lost, nobody knows whether it did.
        is_write: bool,
        /// What comes behind it waits.
        is_blocking: bool,
        /// When it is not waited for any longer, monotonic microseconds.
        give_up_us: Option<u64>,
    },
    /// For all of these; then they make one answer.
    Many(Vec<PendingKind>, Combine),
}

impl PendingKind {
    /// Itself, or what it waits for in several places.
    pub fn parts(&self) -> &[Self] {
        match self {
            Self::Many(parts, _) => parts,
            one => std::slice::from_ref(one),
        }
    }

    /// The same.
    pub fn parts_mut(&mut self) -> &mut [Self] {
        match self {
            Self::Many(parts, _) => parts,
            one => std::slice::from_mut(one),
        }
    }

    /// True when it waits for nothing but those before it.
    pub fn is_ready(&self) -> bool {
        self.parts().iter().all(|part| match part {
            Self::Read { reached, .. } => *reached,
            Self::Watch(_) | Self::Done(_) | Self::Encoded(_) => true,
            Self::Write { .. } | Self::Forwarded { .. } | Self::Many(..) => false,
        })
    }
}

/// A blocking command that found nothing, or is being tried.
#[derive(Debug)]
pub struct Waits {
    /// The command.
    pub command: Command,
    /// Its database.
    pub database: u32,
    /// Until when, monotonic microseconds.
    pub deadline_us: Option<u64>,
    /// What is answered when there was nothing; `None` while it is being tried.
    pub nothing: Option<Reply>,
    /// False while it waits behind others without having been tried.
    pub is_tried: bool,
}

impl Client {
    /// A connection that has said nothing yet.
    pub fn new(id: ClientId, address: String, limits: Limits, now: Now) -> Self {
        Self {
            id,
            address,
            wire: Connection::new(limits),
            protocol: Protocol::Resp2,
            database: 0,
            queue: VecDeque::new(),
            has_reads: false,
            settled: 0,
            out: Outbox::default(),
            stalled: false,
            quits: false,
            transaction: None,
            watched: Vec::new(),
            watched_there: Vec::new(),
            is_linked: false,
            links: BTreeMap::new(),
            postponed: None,
            routes: BTreeMap::new(),
            channels: BTreeSet::new(),
            patterns: BTreeSet::new(),
            names: Default::default(),
            knows_cluster: false,
            last_command: "NULL".into(),
            seen_us: (now.mono_us, now.mono_us),
        }
    }

    /// Appends a request.
    pub fn push(&mut self, now: Now, kind: PendingKind) {
        let is_read = |part: &PendingKind| matches!(part, PendingKind::Read { .. });
        self.has_reads |= kind.parts().iter().any(is_read);
        self.queue.push_back(Pending {
            since_us: now.mono_us,
            kind,
        });
    }

    /// Answers now, or behind what is not answered yet.
    pub fn answer(&mut self, now: Now, answer: Reply) {
        if self.queue.is_empty() {
            reply::encode(&mut self.out.bytes, &answer, self.protocol);
        } else {
            self.push(now, PendingKind::Done(answer));
        }
    }

    /// Tells something that is no answer, behind what is not answered yet.
    pub fn tell(&mut self, now: Now, kind: &str, parts: &[Reply]) {
        if self.queue.is_empty() {
            reply::push(&mut self.out.bytes, kind, parts, self.protocol);
        } else {
            let mut bytes = Vec::new();
            reply::push(&mut bytes, kind, parts, self.protocol);
            self.push(now, PendingKind::Encoded(bytes.into()));
        }
    }

    /// Channels and patterns that it is subscribed to.
    pub fn subscriptions(&self) -> usize {
        self.channels.len() + self.patterns.len()
    }

    /// True for a write while reads wait that must not see it: for a barrier, or behind answers that come by
    /// links.
    pub fn must_wait(&self, arguments: &[Bytes]) -> bool {
        let parts = || self.queue.iter().flat_map(|pending| pending.kind.parts());
        let is_far = || {
            !self.links.is_empty()
                && parts().any(|part| matches!(part, PendingKind::Forwarded { .. }))
        };
        let waits = || {
            parts().any(|part| match part {
                PendingKind::Read { reached, .. } => !reached || is_far(),
                _ => false,
            })
        };
        self.has_reads
            && waits()
            && match spec(&arguments[0]) {
                Some(spec) => spec.access == Access::Write,
                None => arguments[0].eq_ignore_ascii_case(b"exec"),
            }
    }

    /// True when a write of it to this shard is not answered.
    pub fn has_write(&self, to: ShardId) -> bool {
        let mut parts = self.queue.iter().flat_map(|pending| pending.kind.parts());
        parts.any(|part| matches!(part, PendingKind::Write { shard, .. } if *shard == to))
    }

    /// True when a write of it was sent to the leader of this shard and is not answered.
    pub fn has_sent_write(&self, to: ShardId) -> bool {
        let mut parts = self.queue.iter().flat_map(|pending| pending.kind.parts());
        parts.any(
            |part| matches!(part, PendingKind::Write { shard, sent: true, .. } if *shard == to),
        )
    }

    /// The write that is answered under this token, and when it came.
    pub fn write(&mut self, under: u64) -> Option<(u64, &mut PendingKind)> {
        let is_it = |token| token == under || planted(Bug::AnswerAnotherWaiter);
        let parts = (self.queue.iter_mut()).flat_map(|pending| {
            let since_us = pending.since_us;
            let parts = pending.kind.parts_mut().iter_mut();
            parts.map(move |part| (since_us, part))
        });
        let mut parts = parts;
        parts.find(|(_, part)| matches!(part, PendingKind::Write { token, .. } if is_it(*token)))
    }

    /// The blocking command at the end of its queue.
    pub fn blocking(&mut self) -> Option<&mut Pending> {
        let is_blocking = |pending: &&mut Pending| {
            matches!(pending.kind, PendingKind::Write { waits: Some(_), .. })
        };
        self.queue.back_mut().filter(is_blocking)
    }
}
