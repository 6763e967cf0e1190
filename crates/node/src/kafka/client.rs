//! One client connection.

use super::draft::Work;
use crate::event::ClientId;
use crate::front::Outbox;
use messaging::PartitionId;
use std::collections::VecDeque;
use wire_kafka::{Api, Connection, Header, Limits};

/// A connection.
#[derive(Debug)]
pub struct Client {
    /// Its number.
    pub id: ClientId,
    /// Its IP address and port.
    pub address: String,
    /// Its bytes.
    pub wire: Connection,
    /// Requests not answered yet, in order.
    pub queue: VecDeque<Pending>,
    /// The number of the first of them.
    first: u64,
    /// Bytes of these requests as they came.
    pub queued_bytes: usize,
    /// What waits to be sent.
    pub out: Outbox,
    /// Until when (monotonic microseconds) and for whose records the first request waits, if it does.
    pub awaited: Option<(u64, Vec<PartitionId>)>,
}

/// A request that is not answered yet.
#[derive(Debug)]
pub struct Pending {
    /// When it came, monotonic microseconds.
    pub since_us: u64,
    /// What it began with.
    pub header: Header,
    /// Its length.
    pub bytes: usize,
    /// Units and barriers without which it cannot be answered.
    pub left: usize,
    /// How it is answered then.
    pub work: Work,
}

impl Client {
    /// A connection that has said nothing yet.
    pub fn new(id: ClientId, address: String, limits: Limits) -> Self {
        Self {
            id,
            address,
            wire: Connection::new(limits),
            queue: VecDeque::new(),
            first: 0,
            queued_bytes: 0,
            out: Outbox::default(),
            awaited: None,
        }
    }

    /// Its IP address.
    pub fn host(&self) -> &str {
        let address = self.address.rsplit_once(':');
        address.map_or(self.address.as_str(), |(host, _)| host)
    }

    /// Appends a request; its number.
    pub fn push(&mut self, pending: Pending) -> u64 {
        self.queued_bytes += pending.bytes;
        self.queue.push_back(pending);
        self.first + self.queue.len() as u64 - 1
    }

    /// Puts back the request that was taken last; its number.
    pub fn push_front(&mut self, pending: Pending) -> u64 {
        self.queued_bytes += pending.bytes;
        self.first -= 1;
        self.queue.push_front(pending);
        self.first
    }

    /// The first request, if it waits for no unit and no barrier.
    pub fn pop_ready(&mut self) -> Option<Pending> {
        let pending = self.queue.pop_front_if(|pending| pending.left == 0)?;
        self.first += 1;
        self.queued_bytes -= pending.bytes;
        Some(pending)
    }

    /// The request of this number, if it is not answered.
    pub fn pending(&mut self, number: u64) -> Option<&mut Pending> {
        let at = usize::try_from(number.checked_sub(self.first)?).ok()?;
        self.queue.get_mut(at)
    }

    /// True when its first request has waited for units or barriers since before this time.
    pub fn waits_since(&self, since_us: u64) -> bool {
        self.queue.front().is_some_and(|pending| {
            let for_others = matches!(pending.header.api, Api::JoinGroup | Api::SyncGroup);
            pending.left > 0 && !for_others && pending.since_us < since_us
        })
    }
}
