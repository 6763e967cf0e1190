//! One client connection.

use crate::event::ClientId;
use crate::front::Outbox;
use base::{Now, SessionId};
use coordination::{Command, Principal};
use std::collections::VecDeque;
use wire_zookeeper::{ConnectRequest, Connection, Limits, Request, WriteShape};

/// Requests of one connection that may wait; beyond it the connection is not read from.
pub const PENDING_MAX: usize = 1_000;
/// Of them those that do not write: each may be answered with all data of a node, in one turn.
pub const LOCALS_MAX: usize = 64;

/// A connection.
#[derive(Debug)]
pub struct Client {
    /// Its number.
    pub id: ClientId,
    /// Its IP address.
    pub address: String,
    /// Its bytes.
    pub wire: Connection,
    /// How far it has come.
    pub stage: Stage,
    /// Who it is.
    pub principal: Principal,
    /// Requests not answered yet, in order.
    pub queue: VecDeque<Pending>,
    /// Those in the queue that do not write.
    locals: usize,
    /// What waits to be sent.
    pub out: Outbox,
    /// When it came.
    pub opened_us: u64,
}

/// How far a connection has come.
#[derive(Debug)]
pub enum Stage {
    /// Nothing complete has arrived.
    New,
    /// Its session is being opened or attached.
    Connecting {
        /// The answer comes under this token.
        token: u64,
        /// What it asked.
        request: ConnectRequest,
        /// What was proposed; proposed again when no answer comes.
        command: Command,
        /// When it was proposed last.
        asked_us: u64,
        /// When it was proposed first.
        since_us: u64,
        /// True once it was proposed again.
        repeated: bool,
    },
    /// It speaks for a session.
    Established(Link),
}

/// A connection's hold on a session.
#[derive(Clone, Debug)]
pub struct Link {
    /// The session.
    pub session: SessionId,
    /// Its attachment.
    pub generation: u32,
    /// Commands sent in this attachment.
    pub sequence: u64,
    /// The session's time-out.
    pub timeout_ms: u32,
}

/// A request that is not answered yet.
#[derive(Debug)]
pub struct Pending {
    /// The client's number for it.
    pub xid: i32,
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
        /// Its place in the attachment.
        sequence: u64,
        /// How it is answered.
        reply: WriteReply,
        /// True once it was sent to a leader.
        sent: bool,
    },
    /// For local state to be as new as it was anywhere when the request came.
    Barrier {
        /// The barrier.
        token: u64,
        /// Echoed in the answer.
        path: String,
        /// True once reached.
        reached: bool,
    },
    /// For those before it.
    Local(Box<Request>),
}

/// How a write is answered.
#[derive(Debug)]
pub enum WriteReply {
    /// One operation.
    One(WriteShape),
    /// A multi.
    Multi(Vec<WriteShape>),
    /// The session's end.
    Close,
}

impl Client {
    /// A connection that has said nothing yet.
    pub fn new(id: ClientId, address: String, limits: Limits, now: Now) -> Self {
        Self {
            id,
            principal: Principal {
                address: address.clone(),
                ..Principal::default()
            },
            address,
            wire: Connection::new(limits),
            stage: Stage::New,
            queue: VecDeque::new(),
            locals: 0,
            out: Outbox::default(),
            opened_us: now.mono_us,
        }
    }

    /// Its hold on a session, once it has one.
    pub fn link(&self) -> Option<&Link> {
        match &self.stage {
            Stage::Established(link) => Some(link),
            _ => None,
        }
    }

    /// Appends a request.
    pub fn push(&mut self, now: Now, xid: i32, kind: PendingKind) {
        self.locals += usize::from(!matches!(kind, PendingKind::Write { .. }));
        self.queue.push_back(Pending {
            xid,
            since_us: now.mono_us,
            kind,
        });
    }

    /// Takes what stands at the head of the queue if it can be served now.
    pub fn take_ready(&mut self) -> Option<Pending> {
        let ready = matches!(
            self.queue.front()?.kind,
            PendingKind::Local(_) | PendingKind::Barrier { reached: true, .. }
        );
        self.locals -= usize::from(ready);
        ready.then(|| self.queue.pop_front()).flatten()
    }

    /// True when no more of its requests are taken for now.
    pub fn is_full(&self) -> bool {
        self.queue.len() >= PENDING_MAX || self.locals >= LOCALS_MAX || self.out.is_full()
    }

    /// True when one that was full is read from again.
    pub fn has_room(&self) -> bool {
        self.queue.len() <= PENDING_MAX / 2 && self.locals <= LOCALS_MAX / 2 && !self.out.is_full()
    }

    /// Takes the write at the head of the queue if it is this one.
    pub fn take_write(&mut self, sequence: u64) -> Option<Pending> {
        let at_head = matches!(
            self.queue.front()?.kind,
            PendingKind::Write { sequence: s, .. } if s == sequence
        );
        at_head.then(|| self.queue.pop_front()).flatten()
    }

    /// All its writes were sent to a leader.
    pub fn mark_sent(&mut self) {
        for pending in &mut self.queue {
            if let PendingKind::Write { sent, .. } = &mut pending.kind {
                *sent = true;
            }
        }
    }

    /// True while a write of its is under way.
    pub fn has_sent_write(&self) -> bool {
        (self.queue.iter()).any(|p| matches!(p.kind, PendingKind::Write { sent: true, .. }))
    }

    /// True when the next answer is that to the session's end.
    pub fn awaits_close(&self) -> bool {
        (self.queue.front()).is_some_and(|p| {
            matches!(
                p.kind,
                PendingKind::Write {
                    reply: WriteReply::Close,
                    ..
                }
            )
        })
    }
}
