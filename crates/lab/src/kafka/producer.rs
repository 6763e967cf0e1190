//! A producer: batches to each partition, acknowledged by a majority.
//!
//! An idempotent one sends what was not acknowledged again, in order, until it is; up to five batches of a
//! partition are under way. The first one is sent alone: a partition that does not know the producer takes
//! any sequence. After an error, too, one is sent at a time, until the first that waits is acknowledged.
//! Any other producer sends each batch once.

use super::client::{Client, Tag, Told, Use};
use super::protocol::{Answer, Mark, Request, batch, error};
use super::{Fate, PARTITIONS, Partition, Run, Sent, record};
use crate::client::Context;
use node::ClientId;
use std::collections::VecDeque;

/// As many as a partition remembers of a producer.
const BATCHES_MAX: usize = 5;

#[derive(Debug)]
struct Waiting {
    /// Its place in the history.
    id: usize,
    run: Run,
    sequence: i32,
    /// It is acknowledged, or not to be sent again.
    is_over: bool,
}

/// The way to one partition.
#[derive(Debug)]
struct Lane {
    is_idempotent: bool,
    partition: Partition,
    waiting: VecDeque<Waiting>,
    /// So many of them were sent on this connection.
    sent: usize,
    connection: Option<ClientId>,
    /// Answers that are to come on it.
    under_way: usize,
    /// The one that is sent alone is answered before another.
    alone: bool,
    next_sequence: i32,
}

/// A producer.
#[derive(Debug)]
pub struct Producer {
    is_idempotent: bool,
    /// Its id and epoch, once it has them.
    own: Option<(i64, i16)>,
    is_asking: bool,
    lanes: Vec<Lane>,
    next_record: u32,
    padding: usize,
}

impl Producer {
    /// One that has sent nothing.
    pub fn new(is_idempotent: bool, padding: usize) -> Self {
        let lane = |partition: Partition| Lane {
            is_idempotent,
            partition,
            waiting: VecDeque::new(),
            sent: 0,
            connection: None,
            under_way: 0,
            alone: is_idempotent,
            next_sequence: 0,
        };
        Self {
            is_idempotent,
            own: None,
            is_asking: false,
            lanes: PARTITIONS.map(lane).into(),
            next_record: 0,
            padding,
        }
    }

    fn is_ready(&self) -> bool {
        !self.is_idempotent || self.own.is_some()
    }

    /// A new batch of so many records for this partition, if there is room; its place in the history.
    pub fn add(
        &mut self,
        cx: &mut Context<'_>,
        client: &Client,
        to: Partition,
        count: u32,
    ) -> Option<usize> {
        let is_ready = self.is_ready();
        let lane = self.lanes.iter_mut().find(|lane| lane.partition == to)?;
        if !is_ready || lane.waiting.len() == BATCHES_MAX {
            return None;
        }
        let first = record(client.number, self.next_record);
        self.next_record += count;
        let run = Run { first, count };
        let id = cx.history.kafka.sent.len();
        lane.waiting.push_back(Waiting {
            id,
            run,
            sequence: lane.next_sequence,
            is_over: false,
        });
        lane.next_sequence += count as i32;
        cx.history.kafka.sent.push(Sent {
            client: client.number,
            connection: ClientId(0),
            is_idempotent: self.is_idempotent,
            partition: to,
            run,
            invoked_us: cx.world.now_us,
            fate: Fate::Unknown,
        });
        Some(id)
    }

    /// Sends what can be sent.
    pub fn drive(&mut self, cx: &mut Context<'_>, client: &mut Client) {
        if !self.is_ready() {
            if !self.is_asking {
                let node = client.any_node(cx);
                let request = Request::InitProducer;
                self.is_asking = client.ask(cx, (node, Use::Produce), request, Tag::Producer);
            }
            return;
        }
        for lane in &mut self.lanes {
            lane.drive(cx, client, self.own, self.padding);
        }
    }

    /// Takes an answer.
    pub fn handle(&mut self, cx: &mut Context<'_>, client: &mut Client, told: &Told) {
        let now_us = cx.world.now_us;
        match (told.tag, &told.answer) {
            (Tag::Producer, answer) => {
                self.is_asking = false;
                if let Some(Answer::Producer(error::NONE, id, epoch)) = answer {
                    self.own = Some((*id, *epoch));
                }
            }
            (Tag::Batch(id), answer) => {
                let (error, offset) = match answer {
                    Some(Answer::Produced(error, offset)) => (Some(*error), *offset),
                    _ => (None, -1),
                };
                let to = cx.history.kafka.sent[id].partition;
                let Some(lane) = self.lanes.iter_mut().find(|lane| lane.partition == to) else {
                    return;
                };
                if let Some(complaint) = lane.answered(id, told.connection, error) {
                    cx.history.complaints.push(complaint);
                }
                let sent = &mut cx.history.kafka.sent[id];
                match error {
                    Some(error::NONE) if sent.fate == Fate::Unknown => {
                        sent.fate = Fate::Acknowledged(now_us, offset);
                    }
                    // The same again is the same answer.
                    Some(error::NONE) if !matches!(sent.fate, Fate::Acknowledged(_, at) if at == offset) =>
                    {
                        cx.history.complaints.push(format!(
                            "a batch to {to} that is {:?} is acknowledged at {offset}",
                            sent.fate
                        ));
                    }
                    Some(error::NONE) => {}
                    Some(_) if !self.is_idempotent => sent.fate = Fate::Refused,
                    _ => {}
                }
                if error != Some(error::NONE) {
                    client.refresh(now_us);
                }
            }
            _ => {}
        }
    }

    /// True when nothing waits for its answer.
    pub fn is_idle(&self) -> bool {
        self.lanes.iter().all(|lane| lane.waiting.is_empty())
    }
}

impl Lane {
    fn drive(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut Client,
        own: Option<(i64, i16)>,
        padding: usize,
    ) {
        if self.sent == self.waiting.len() {
            return;
        }
        let Some(node) = client.leader(cx.world.now_us, self.partition) else {
            return;
        };
        let Some(link) = client.link(cx, node, Use::Produce) else {
            return;
        };
        if self.connection != Some(link) {
            if self.under_way > 0 {
                // What is on its way elsewhere is answered, or lost, before.
                return;
            }
            self.connection = Some(link);
            self.sent = 0;
        }
        while let Some(next) = self.waiting.get(self.sent)
            && !(self.alone && self.under_way > 0)
        {
            self.sent += 1;
            if next.is_over {
                continue;
            }
            let mark: Option<Mark> = own.map(|(id, epoch)| (id, epoch, next.sequence));
            let request = Request::Produce {
                partition: self.partition,
                batch: batch(mark, next.run, padding),
            };
            let sent = &mut cx.history.kafka.sent[next.id];
            if sent.connection == ClientId(0) {
                sent.connection = link;
                sent.invoked_us = cx.world.now_us;
            }
            client.ask(cx, (node, Use::Produce), request, Tag::Batch(next.id));
            self.under_way += 1;
        }
    }

    /// An answer to a batch came on this connection, or (no error number) will not come. Says what is wrong
    /// with it.
    fn answered(&mut self, id: usize, on: ClientId, error: Option<i16>) -> Option<String> {
        if self.connection != Some(on) {
            return None;
        }
        self.under_way -= 1;
        let at = self.waiting.iter().position(|waiting| waiting.id == id)?;
        let sequence = self.waiting[at].sequence;
        let is_first = self.alone && at == 0;
        if error == Some(error::NONE) || !self.is_idempotent {
            self.waiting[at].is_over = true;
            self.alone &= at > 0;
            while self.waiting.pop_front_if(|w| w.is_over).is_some() {
                self.sent = self.sent.saturating_sub(1);
            }
        } else {
            self.alone = true;
            self.sent = 0;
        }
        match error? {
            error::NONE
            | error::UNKNOWN_PARTITION
            | error::LEADER_NOT_AVAILABLE
            | error::NOT_LEADER
            | error::REQUEST_TIMED_OUT
            | error::NOT_ENOUGH_REPLICAS
            | error::STORAGE => None,
            error::OUT_OF_ORDER_SEQUENCE if self.is_idempotent && !is_first => None,
            other => Some(format!(
                "batch {sequence} to {}, all before which are acknowledged, is refused with error {other}",
                self.partition
            )),
        }
    }
}
