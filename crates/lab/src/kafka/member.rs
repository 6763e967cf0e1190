//! A member of a consumer group: it joins, is given its share, reads from where the group has come, and says
//! how far it has come. Now and then it leaves, is gone without a word, or commits in a generation that is over.

use super::client::{Client, Tag, Told, Use, node_at};
use super::protocol::{Answer, Request, error};
use super::{Commit, Committed, GROUPS, Joined, PARTITIONS, Partition, Read, Share};
use crate::client::Context;
use base::{Reader, Writer};
use std::collections::{BTreeMap, BTreeSet};

const HEARTBEAT_US: u64 = 300_000;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// It is to join.
    Out,
    /// It is to ask for its share.
    Joined,
    /// It is to ask how far the group has come.
    Sharing,
    /// It reads.
    Reading,
}

/// A member.
#[derive(Debug)]
pub struct Member {
    group: &'static str,
    /// Its id, once it has one.
    id: String,
    /// Answers to an earlier life are not for this one.
    life: u64,
    phase: Phase,
    generation: i32,
    shares: Vec<(String, Vec<u8>)>,
    coordinator: Option<usize>,
    /// A request of this life is under way.
    is_asking: bool,
    heartbeat_us: u64,
    /// Where it reads on, of each partition of its share.
    positions: BTreeMap<Partition, i64>,
    fetching: BTreeSet<Partition>,
    /// What it has read and not committed.
    uncommitted: BTreeSet<Partition>,
    is_committing: bool,
    /// Commits since this was set to 0.
    pub committed: u64,
    next_word: u64,
    /// A generation that it was in, and the id it had there.
    past: Option<(i32, String)>,
}

impl Member {
    /// One that has not joined.
    pub fn new(client: usize) -> Self {
        Self {
            group: GROUPS[client % GROUPS.len()],
            id: String::new(),
            life: 0,
            phase: Phase::Out,
            generation: -1,
            shares: Vec::new(),
            coordinator: None,
            is_asking: false,
            heartbeat_us: 0,
            positions: BTreeMap::new(),
            fetching: BTreeSet::new(),
            uncommitted: BTreeSet::new(),
            is_committing: false,
            committed: 0,
            next_word: 0,
            past: None,
        }
    }

    /// True when it has its share, and has committed something or has nothing to read.
    pub fn is_settled(&self) -> bool {
        self.phase == Phase::Reading && (self.committed > 0 || self.positions.is_empty())
    }

    /// Takes the next step.
    pub fn drive(&mut self, cx: &mut Context<'_>, client: &mut Client) {
        let group = self.group;
        if self.phase == Phase::Reading {
            self.read(cx, client);
        }
        if self.is_asking {
            return;
        }
        let Some(node) = self.coordinator else {
            let node = client.any_node(cx);
            let request = Request::FindCoordinator { group };
            return self.ask(cx, client, node, request);
        };
        let (member, generation) = (self.id.clone(), self.generation);
        let request = match self.phase {
            Phase::Out => Request::Join { group, member },
            Phase::Joined => Request::Sync {
                group,
                member,
                generation,
                shares: self.shares.clone(),
            },
            Phase::Sharing => Request::OffsetFetch { group },
            Phase::Reading if cx.world.now_us >= self.heartbeat_us => Request::Heartbeat {
                group,
                member,
                generation,
            },
            Phase::Reading => return self.commit(cx, client, node),
        };
        self.ask(cx, client, node, request);
    }

    fn ask(&mut self, cx: &mut Context<'_>, client: &mut Client, node: usize, request: Request) {
        self.is_asking = client.ask(cx, (node, Use::Group), request, Tag::Member(self.life));
        if !self.is_asking && client.rng.one_in(20) {
            // Nobody may be there.
            self.coordinator = None;
        }
    }

    fn read(&mut self, cx: &mut Context<'_>, client: &mut Client) {
        for (partition, position) in &self.positions {
            if self.fetching.contains(partition) {
                continue;
            }
            let Some(node) = client.leader(cx.world.now_us, *partition) else {
                continue;
            };
            let request = match *position {
                // Nothing was committed: from the beginning.
                -1 => Request::ListOffsets {
                    partition: *partition,
                    is_end: false,
                },
                offset => Request::Fetch {
                    partition: *partition,
                    offset,
                    bytes_max: client.rng.range(1, 3_000) as i32,
                },
            };
            if client.ask(cx, (node, Use::Fetch), request, Tag::Member(self.life)) {
                self.fetching.insert(*partition);
            }
        }
    }

    fn commit(&mut self, cx: &mut Context<'_>, client: &mut Client, node: usize) {
        let Some(partition) = self.uncommitted.first().copied() else {
            return;
        };
        if self.is_committing || client.rng.one_in(2) {
            return;
        }
        let offset = self.positions.get(&partition).copied().unwrap_or(0);
        let (generation, member) = (self.generation, self.id.clone());
        if self.send_commit(cx, client, node, (generation, member), (partition, offset)) {
            self.uncommitted.remove(&partition);
            self.is_committing = true;
        }
    }

    fn send_commit(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut Client,
        node: usize,
        (generation, member): (i32, String),
        (partition, offset): (Partition, i64),
    ) -> bool {
        let metadata = format!("c{}.{}", client.number, self.next_word);
        let request = Request::Commit {
            group: self.group,
            member,
            generation,
            partition,
            offset,
            metadata: metadata.clone(),
        };
        let id = cx.history.kafka.commits.len();
        let sent = client.ask(cx, (node, Use::Group), request, Tag::Commit(id));
        if sent {
            self.next_word += 1;
            cx.history.kafka.commits.push(Commit {
                group: self.group,
                partition,
                generation,
                value: format!("{offset} {metadata}"),
                invoked_us: cx.world.now_us,
                reply: None,
            });
        }
        sent
    }

    /// Commits as if a generation that is over were not.
    pub fn commit_in_the_past(&mut self, cx: &mut Context<'_>, client: &mut Client) {
        if let (Some((generation, id)), Some(node)) = (self.past.clone(), self.coordinator) {
            let partition = PARTITIONS[client.rng.range(0, PARTITIONS.len() as u64) as usize];
            self.send_commit(cx, client, node, (generation, id), (partition, 0));
        }
    }

    /// It goes, with a word or without one, and comes back as another.
    pub fn leave(&mut self, cx: &mut Context<'_>, client: &mut Client, silently: bool) {
        if let (Some(node), false) = (self.coordinator, silently || self.id.is_empty()) {
            let (group, member) = (self.group, self.id.clone());
            let request = Request::Leave { group, member };
            client.ask(cx, (node, Use::Group), request, Tag::Member(u64::MAX));
        }
        self.id.clear();
        self.start_over();
    }

    fn start_over(&mut self) {
        if self.phase == Phase::Reading {
            self.past = Some((self.generation, self.id.clone()));
        }
        self.life += 1;
        self.phase = Phase::Out;
        self.is_asking = false;
        self.is_committing = false;
        self.positions.clear();
        self.fetching.clear();
        self.uncommitted.clear();
    }

    /// Takes an answer.
    pub fn handle(&mut self, cx: &mut Context<'_>, client: &mut Client, told: &Told) {
        if let Tag::Commit(id) = told.tag {
            return self.committed(cx, id, told);
        }
        if told.tag != Tag::Member(self.life) {
            return;
        }
        match &told.request {
            Request::Fetch { partition, .. } | Request::ListOffsets { partition, .. } => {
                self.fetching.remove(partition);
                self.take(cx, client, *partition, told);
                return;
            }
            _ => self.is_asking = false,
        }
        let Some(answer) = &told.answer else {
            self.coordinator = None;
            return;
        };
        match answer {
            Answer::Coordinator(error::NONE, host) => self.coordinator = node_at(host),
            Answer::Joined {
                error: error::NONE,
                generation,
                leader,
                member,
                members,
            } => {
                (self.id, self.generation) = (member.clone(), *generation);
                self.phase = Phase::Joined;
                self.shares = share_out(*generation, leader, members);
                cx.history.kafka.joined.push(Joined {
                    group: self.group,
                    member: member.clone(),
                    generation: *generation,
                    leader: leader.clone(),
                    invoked_us: told.invoked_us,
                    at_us: cx.world.now_us,
                });
            }
            Answer::Joined {
                error: error::MEMBER_ID_REQUIRED,
                member,
                ..
            } => self.id = member.clone(),
            Answer::Synced(error::NONE, share) => match self.read_share(share) {
                Some(share) => {
                    let mine = share.partitions.iter().map(|p| (*p, -1));
                    self.positions = mine.collect();
                    self.phase = Phase::Sharing;
                    cx.history.kafka.shares.push(share);
                }
                None => {
                    let complaint = format!("a share in {} cannot be read: {share:?}", self.group);
                    cx.history.complaints.push(complaint);
                }
            },
            Answer::Offsets(error::NONE, positions) => {
                self.phase = Phase::Reading;
                note_committed(cx, self.group, told.invoked_us, positions);
                for (partition, offset, _) in positions {
                    if let Some(position) = self.positions.get_mut(partition) {
                        *position = *offset;
                    }
                }
            }
            Answer::Error(error::NONE) => {
                self.heartbeat_us = cx.world.now_us + HEARTBEAT_US;
            }
            Answer::Coordinator(error, _)
            | Answer::Joined { error, .. }
            | Answer::Synced(error, _)
            | Answer::Offsets(error, _)
            | Answer::Error(error) => self.refused(cx, *error, told),
            _ => {}
        }
    }

    fn refused(&mut self, cx: &mut Context<'_>, error: i16, told: &Told) {
        match error {
            error::NOT_COORDINATOR | error::COORDINATOR_NOT_AVAILABLE => self.coordinator = None,
            error::REBALANCE_IN_PROGRESS => self.start_over(),
            error::ILLEGAL_GENERATION | error::UNKNOWN_MEMBER => {
                self.start_over();
                self.id.clear();
            }
            other => {
                let request = &told.request;
                let complaint = format!("error {other} is the answer to {request:?}");
                cx.history.complaints.push(complaint);
            }
        }
    }

    fn committed(&mut self, cx: &mut Context<'_>, id: usize, told: &Told) {
        self.is_committing = false;
        let Some(Answer::Error(error)) = told.answer else {
            return;
        };
        cx.history.kafka.commits[id].reply = Some((cx.world.now_us, error == error::NONE));
        self.committed += u64::from(error == error::NONE);
        if matches!(
            error,
            error::NOT_COORDINATOR | error::COORDINATOR_NOT_AVAILABLE
        ) {
            self.coordinator = None;
        }
    }

    fn take(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut Client,
        partition: Partition,
        told: &Told,
    ) {
        let found = note_read(cx, client, partition, told);
        let Some(position) = self.positions.get_mut(&partition) else {
            return;
        };
        match found {
            Some(found) if found > *position => {
                *position = found;
                self.uncommitted.insert(partition);
            }
            // Out of range: from the beginning.
            Some(-1) => {
                *position = -1;
                self.uncommitted.remove(&partition);
            }
            _ => {}
        }
    }

    fn read_share(&self, share: &[u8]) -> Option<Share> {
        let mut r = Reader::new(share);
        let (generation, by, to) = (r.i32().ok()?, r.str().ok()?, r.str().ok()?);
        let mut partitions = Vec::new();
        while !r.is_empty() {
            partitions.push(*PARTITIONS.get(usize::from(r.u8().ok()?))?);
        }
        (generation == self.generation).then(|| Share {
            group: self.group,
            member: self.id.clone(),
            generation,
            by: by.to_owned(),
            to: to.to_owned(),
            partitions,
        })
    }
}

/// Everybody's share: generation, who shares out, for whom, and what.
fn share_out(generation: i32, leader: &str, members: &[String]) -> Vec<(String, Vec<u8>)> {
    let share = |(at, member): (usize, &String)| {
        let mut w = Writer::new();
        w.i32(generation).str(leader).str(member);
        for number in (at..PARTITIONS.len()).step_by(members.len()) {
            w.u8(number as u8);
        }
        (member.clone(), w.into_vec())
    };
    members.iter().enumerate().map(share).collect()
}

/// Writes down what a fetch, or a question for a log's bounds, found. Says where to read on, −1 for the
/// beginning; `None`: the same again.
pub fn note_read(
    cx: &mut Context<'_>,
    client: &mut Client,
    partition: Partition,
    told: &Told,
) -> Option<i64> {
    let now_us = cx.world.now_us;
    let node = told.node;
    let error = match (&told.request, told.answer.as_ref()?) {
        (Request::ListOffsets { is_end, .. }, Answer::Offset(error::NONE, offset)) => {
            cx.history.kafka.bounds.push(super::Bound {
                node,
                partition,
                is_end: *is_end,
                invoked_us: told.invoked_us,
                at_us: now_us,
                offset: *offset,
            });
            return Some(*offset);
        }
        (
            Request::Fetch { offset, .. },
            Answer::Fetched {
                error: error::NONE,
                start,
                end,
                batches,
            },
        ) => {
            cx.history.kafka.reads.push(Read {
                node,
                partition,
                asked: *offset,
                start: *start,
                end: *end,
                batches: batches.clone(),
            });
            let (base, run) = batches.last()?;
            return Some(base + i64::from(run.count));
        }
        (
            Request::Fetch { offset, .. },
            Answer::Fetched {
                error: error::OFFSET_OUT_OF_RANGE,
                ..
            },
        ) => {
            let told = (node, partition, *offset);
            cx.history.kafka.out_of_range.push(told);
            return Some(-1);
        }
        (_, Answer::Offset(error, _) | Answer::Fetched { error, .. }) => *error,
        _ => return None,
    };
    client.refresh(now_us);
    if !matches!(
        error,
        error::NOT_LEADER | error::LEADER_NOT_AVAILABLE | error::UNKNOWN_PARTITION
    ) {
        let complaint = format!("error {error} is the answer to {:?}", told.request);
        cx.history.complaints.push(complaint);
    }
    None
}

/// Writes down how far a group has come.
pub fn note_committed(
    cx: &mut Context<'_>,
    group: &'static str,
    invoked_us: u64,
    positions: &[(Partition, i64, String)],
) {
    let at_us = cx.world.now_us;
    for (partition, offset, metadata) in positions {
        cx.history.kafka.committed.push(Committed {
            group,
            partition: *partition,
            value: match offset {
                -1 => String::new(),
                offset => format!("{offset} {metadata}"),
            },
            invoked_us,
            at_us,
        });
    }
}
