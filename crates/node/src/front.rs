//! What the front ends have in common: what they see of their core, and what waits to be sent to a client.

use crate::admin::Counters;
use crate::core::Ask;
use crate::event::{Action, ClientId};
use crate::holders::Holders;
use crate::peers::Peers;
use crate::replicas::Replicas;
use crate::space::Space;
use base::{Now, ShardId};
use bytes::Bytes;
use catalog::Catalog;
use messaging::Registry;
use router::Router;
use shard::{Data, Shard};
use std::collections::{BTreeSet, VecDeque};

/// More than this is not sent to a client before it has read it, in bytes; one answer may exceed it.
const OUT_BYTES_MAX: usize = 1 << 20;
/// What may come for a client that has not read what was sent, in bytes: the answers of a full queue fit,
/// events and messages without end do not. Beyond it the connection is closed.
const HELD_BYTES_MAX: usize = 64 << 20;

/// What a front end needs for a moment.
pub struct Context<'a> {
    /// The time.
    pub now: Now,
    /// What a leader here would stamp an entry with, Unix milliseconds.
    pub time_ms: i64,
    /// The shards that are here.
    pub replicas: &'a Replicas,
    /// Pools, shards and members.
    pub catalog: &'a Catalog,
    /// Who leads what.
    pub router: &'a Router,
    /// The other nodes.
    pub peers: &'a Peers,
    /// Which other cores hold which shards.
    pub holders: &'a Holders,
    /// The registry of topics, where another core of this node holds it.
    pub registry_copy: Option<&'a Registry>,
    /// What is known of disks.
    pub space: &'a Space,
    /// Shards that take no more data: their disks are nearly full.
    pub full: &'a BTreeSet<ShardId>,
    /// True on a stand-by, and where another cluster took this one's place: no writes are taken.
    pub follows: bool,
    /// False while it is not known yet whether another cluster took this one's place.
    pub has_looked: bool,
    /// Requests to the core, in order.
    pub asks: &'a mut Vec<Ask>,
    /// For the host.
    pub actions: &'a mut VecDeque<Action>,
    /// Counted.
    pub counters: &'a mut Counters,
}

impl<'a> Context<'a> {
    /// A shard's replica here.
    pub fn shard(&self, shard: ShardId) -> Option<&'a Shard> {
        self.replicas.get(shard)
    }

    /// True while too much waits in a shard for a transaction to be decided: no more writes are taken.
    pub fn is_held_up(&self, shard: ShardId) -> bool {
        self.data(shard)
            .is_some_and(|data| data.transactions.is_full())
    }

    /// What a data shard's replica here holds.
    pub fn data(&self, shard: ShardId) -> Option<&'a Data> {
        self.shard(shard)?.machine().data()
    }
}

/// What waits to be sent to a client. A client that has not read a lot is sent nothing more, and nothing more
/// is taken from it, until it has.
#[derive(Debug, Default)]
pub struct Outbox {
    /// Until the next flush.
    pub bytes: Vec<u8>,
    /// Sent since it was last heard to have read everything.
    sent_bytes: usize,
    is_unread: bool,
    is_paused: bool,
}

impl Outbox {
    /// True when no more of its requests are answered for now.
    pub fn is_full(&self) -> bool {
        self.is_unread || self.bytes.len() > OUT_BYTES_MAX
    }

    /// True while the host does not read from it.
    pub fn is_paused(&self) -> bool {
        self.is_paused
    }

    /// Stops the host reading from it, or lets it go on.
    pub fn pause(&mut self, client: ClientId, paused: bool, actions: &mut VecDeque<Action>) {
        if self.is_paused != paused {
            self.is_paused = paused;
            actions.push_back(Action::PauseClient { client, paused });
        }
    }

    /// Hands what was written to the host. False when too much came for a client that does not read: it is to
    /// be closed.
    #[must_use]
    pub fn flush(
        &mut self,
        client: ClientId,
        counters: &mut Counters,
        actions: &mut VecDeque<Action>,
    ) -> bool {
        if self.is_unread {
            return self.bytes.len() <= HELD_BYTES_MAX;
        }
        self.sent_bytes += self.bytes.len();
        if self.sent_bytes > OUT_BYTES_MAX {
            self.sent_bytes = 0;
            self.is_unread = true;
            actions.push_back(Action::AwaitDrain { client });
        }
        counters.bytes_out += self.bytes.len() as u64;
        self.send(client, actions);
        true
    }

    /// It has read all that was sent.
    pub fn handle_drained(&mut self) {
        self.is_unread = false;
    }

    /// Sends what there is and ends the connection.
    pub fn close(&mut self, client: ClientId, actions: &mut VecDeque<Action>) {
        self.send(client, actions);
        actions.push_back(Action::CloseClient { client });
    }

    fn send(&mut self, client: ClientId, actions: &mut VecDeque<Action>) {
        if !self.bytes.is_empty() {
            let bytes = Bytes::from(std::mem::take(&mut self.bytes));
            actions.push_back(Action::SendClient { client, bytes });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn much_in_small_pieces_is_waited_for_too() {
        let (mut out, mut counters, mut actions) =
            (Outbox::default(), Counters::default(), VecDeque::new());
        for _ in 0..2 {
            assert!(!out.is_full());
            out.bytes = vec![0; OUT_BYTES_MAX];
            assert!(out.flush(ClientId(1), &mut counters, &mut actions));
        }
        assert!(out.is_full(), "it has not read what was sent");
        assert!(matches!(actions[1], Action::AwaitDrain { .. }));
    }

    #[test]
    fn slow_reader_is_sent_nothing_more_and_not_cut_off_before_much_is_held() {
        let (mut out, mut counters, mut actions) =
            (Outbox::default(), Counters::default(), VecDeque::new());
        let client = ClientId(1);
        out.bytes = vec![0; OUT_BYTES_MAX + 1];
        assert!(out.is_full() && out.flush(client, &mut counters, &mut actions));
        assert!(matches!(actions[0], Action::AwaitDrain { .. }));
        assert!(matches!(actions[1], Action::SendClient { .. }));
        out.bytes = vec![0; HELD_BYTES_MAX];
        assert!(out.is_full() && out.flush(client, &mut counters, &mut actions));
        assert_eq!(actions.len(), 2, "it waits until the client has read");
        out.bytes.push(0);
        assert!(!out.flush(client, &mut counters, &mut actions));
        out.handle_drained();
        out.bytes.truncate(3);
        assert!(!out.is_full() && out.flush(client, &mut counters, &mut actions));
        assert_eq!(actions.len(), 3);
    }
}
