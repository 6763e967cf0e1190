//! One of Kafka's clients with what it is about: it produces, it reads as a member of a group, and it asks for
//! logs' bounds.

use super::client::{Client, Tag, Told, Use};
use super::member::{self, Member};
use super::producer::Producer;
use super::protocol::{Answer, Request, error};
use super::{Fate, GROUPS, PARTITIONS, Partition};
use crate::client::Context;
use crate::player::{self, Phase};
use crate::world::ConnectionNote;
use base::Rng;
use node::ClientId;
use std::collections::BTreeMap;

/// What is read at the end.
#[derive(Debug, Default)]
struct Look {
    /// Questions not yet answered.
    wanted: Vec<Request>,
    /// One of them is under way.
    is_asking: bool,
    /// Where logs end.
    ends: BTreeMap<Partition, i64>,
    /// Logs are read, too.
    reads: bool,
}

/// A client and its intentions.
#[derive(Debug)]
pub struct Player {
    client: Client,
    producer: Producer,
    member: Member,
    /// Batches that must be acknowledged.
    pending: Vec<usize>,
    look: Look,
    is_asking: bool,
    done: bool,
}

impl Player {
    /// A client with intentions. Every second one is an idempotent producer.
    pub fn new(number: usize, rng: Rng, padding: usize) -> Self {
        Self {
            client: Client::new(number, rng),
            producer: Producer::new(number.is_multiple_of(2), padding),
            member: Member::new(number / 2),
            pending: Vec::new(),
            look: Look::default(),
            is_asking: false,
            done: number > 0,
        }
    }

    fn any_partition(&mut self) -> Partition {
        PARTITIONS[self.client.rng.range(0, PARTITIONS.len() as u64) as usize]
    }

    fn any_leader(&mut self, cx: &Context<'_>, partition: Partition) -> usize {
        let leader = self.client.leader(cx.world.now_us, partition);
        leader.unwrap_or_else(|| self.client.any_node(cx))
    }

    /// Topics, and then somebody who leads each of their partitions.
    fn set_up(&mut self, cx: &mut Context<'_>) {
        if self.client.knows(&PARTITIONS) {
            self.done = true;
        } else if !self.is_asking {
            let node = self.client.any_node(cx);
            let to = (node, Use::Group);
            self.is_asking = self.client.ask(cx, to, Request::CreateTopics, Tag::Player);
        }
    }

    /// Something of everything.
    fn work(&mut self, cx: &mut Context<'_>) {
        match self.client.rng.range(0, 1_000) {
            0..8 => {
                let silently = self.client.rng.one_in(2);
                self.client.abandon_any(cx, silently);
            }
            8..14 => {
                let silently = self.client.rng.one_in(2);
                self.member.leave(cx, &mut self.client, silently);
            }
            14..30 => self.member.commit_in_the_past(cx, &mut self.client),
            30..100 => {
                let partition = self.any_partition();
                let is_end = self.client.rng.one_in(2);
                let node = self.any_leader(cx, partition);
                let request = Request::ListOffsets { partition, is_end };
                self.client
                    .ask(cx, (node, Use::Fetch), request, Tag::Player);
            }
            // Whoever does not lead, and may believe that he does, is asked for what was there.
            100..140 => {
                let partition = self.any_partition();
                let known = cx.history.kafka.reads.iter().rev().take(50);
                let offset = known
                    .filter(|r| r.partition == partition)
                    .map(|r| r.end)
                    .max();
                let node = self.client.any_node(cx);
                let request = Request::Fetch {
                    partition,
                    offset: offset.unwrap_or(0),
                    bytes_max: 1_000,
                };
                self.client
                    .ask(cx, (node, Use::Fetch), request, Tag::Player);
            }
            140..600 => {
                let partition = self.any_partition();
                let count = self.client.rng.range(1, 5) as u32;
                self.producer.add(cx, &self.client, partition, count);
            }
            _ => {}
        }
        self.producer.drive(cx, &mut self.client);
        self.member.drive(cx, &mut self.client);
    }

    /// A batch to each partition must be acknowledged, and the group must be read in.
    fn heal(&mut self, cx: &mut Context<'_>) {
        if self.done {
            return;
        }
        let is_acknowledged =
            |id: &usize| matches!(cx.history.kafka.sent[*id].fate, Fate::Acknowledged(..));
        let all = !self.pending.is_empty() && self.pending.iter().all(is_acknowledged);
        if self.producer.is_idle() && !all {
            self.pending.clear();
            for partition in PARTITIONS {
                self.pending
                    .extend(self.producer.add(cx, &self.client, partition, 1));
            }
        }
        self.done = all && self.member.is_settled();
        self.producer.drive(cx, &mut self.client);
        self.member.drive(cx, &mut self.client);
    }

    /// Everything that can be asked, until it is answered.
    fn look(&mut self, cx: &mut Context<'_>) {
        if self.done || self.look.is_asking {
            return;
        }
        let Some(request) = self.look.wanted.last().cloned() else {
            self.done = true;
            return;
        };
        let to = match &request {
            Request::ListOffsets { partition, .. } | Request::Fetch { partition, .. } => {
                (self.any_leader(cx, *partition), Use::Fetch)
            }
            _ => (self.client.any_node(cx), Use::Group),
        };
        self.look.is_asking = self.client.ask(cx, to, request, Tag::Player);
    }

    fn handle_look(&mut self, cx: &mut Context<'_>, told: &Told, next: Option<i64>) {
        let look = &mut self.look;
        look.is_asking = false;
        if look.wanted.last() != Some(&told.request) {
            return;
        }
        let reads_on = match (&told.request, next) {
            (Request::OffsetFetch { .. }, _) => match told.answer {
                Some(Answer::Offsets(error::NONE, _)) => None,
                _ => return,
            },
            (Request::ListOffsets { partition, is_end }, Some(offset)) if *is_end => {
                look.ends.insert(*partition, offset);
                None
            }
            (Request::ListOffsets { partition, .. }, Some(start)) => {
                if let Some(end) = look.ends.get(partition).filter(|_| look.reads) {
                    cx.history.kafka.last.push((*partition, start, *end));
                }
                Some((*partition, start))
            }
            (Request::Fetch { partition, .. }, Some(offset)) => Some((*partition, offset.max(0))),
            // The same again.
            _ => return,
        };
        look.wanted.pop();
        if let Some((partition, offset)) = reads_on
            && look.reads
            && look.ends.get(&partition).is_some_and(|end| offset < *end)
        {
            look.wanted.push(Request::Fetch {
                partition,
                offset,
                bytes_max: 1 << 20,
            });
        }
    }

    fn handle_told(&mut self, cx: &mut Context<'_>, told: &Told) {
        match told.tag {
            Tag::Batch(_) | Tag::Producer => {
                self.producer.handle(cx, &mut self.client, told);
            }
            Tag::Member(_) | Tag::Commit(_) => self.member.handle(cx, &mut self.client, told),
            Tag::Own => {}
            Tag::Player => {
                self.is_asking = false;
                let next = match &told.request {
                    Request::ListOffsets { partition, .. } | Request::Fetch { partition, .. } => {
                        member::note_read(cx, &mut self.client, *partition, told)
                    }
                    Request::OffsetFetch { group } => {
                        if let Some(Answer::Offsets(error::NONE, positions)) = &told.answer {
                            member::note_committed(cx, group, told.invoked_us, positions);
                        }
                        None
                    }
                    _ => {
                        self.client.refresh(cx.world.now_us);
                        None
                    }
                };
                self.handle_look(cx, told, next);
            }
        }
    }
}

impl player::Player for Player {
    fn begin(&mut self, phase: Phase) {
        self.done = false;
        self.pending.clear();
        self.member.committed = 0;
        self.look = Look::default();
        let bounds =
            |is_end| PARTITIONS.map(|partition| Request::ListOffsets { partition, is_end });
        let positions = GROUPS.map(|group| Request::OffsetFetch { group });
        match phase {
            Phase::Look => {
                self.look.wanted.extend(positions);
                self.look.wanted.extend(bounds(false));
                self.look.wanted.extend(bounds(true));
            }
            // One of them is enough.
            Phase::Dump if self.client.number == 0 => {
                self.look.reads = true;
                self.look.wanted.extend(bounds(false));
                self.look.wanted.extend(bounds(true));
            }
            Phase::Dump => self.done = true,
            _ => {}
        }
    }

    fn is_done(&self) -> bool {
        self.done
    }

    fn handle(&mut self, cx: &mut Context<'_>, id: ClientId, note: &ConnectionNote) {
        self.client.handle(cx, id, note);
        while let Some(told) = self.client.poll() {
            self.handle_told(cx, &told);
        }
    }

    fn drive(&mut self, cx: &mut Context<'_>, phase: Phase) {
        self.client.tick(cx);
        while let Some(told) = self.client.poll() {
            self.handle_told(cx, &told);
        }
        match phase {
            Phase::Setup if self.client.number == 0 => self.set_up(cx),
            Phase::Work => self.work(cx),
            Phase::Heal => self.heal(cx),
            Phase::Look | Phase::Dump => self.look(cx),
            Phase::Setup | Phase::Quiet | Phase::Done => {}
        }
    }

    fn rng(&mut self) -> &mut Rng {
        &mut self.client.rng
    }

    fn describe(&self) -> String {
        let (number, nodes) = (self.client.number, self.client.nodes());
        let (member, asked) = (&self.member, &self.look.wanted);
        format!("Kafka client {number} (connected to {nodes:?}; {member:?}; asks {asked:?})")
    }
}
