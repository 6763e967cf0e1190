//! A writer and a reader, as the host's are: on a node, and gone with its process.

use super::transfers::{Outcome, Process, Transfers, Unread};
use super::{Did, Operation};
use crate::client::Context;
use base::{NodeId, Rng};
use node::{Call, CallReply, FilesAnswer, FilesQuery};
use std::collections::VecDeque;
use storage::files::{
    Attempt, ChunkId, ChunkPlace, Command, CopyChange, Refusal, Reply, Sending, Sight, Target,
    Unreadable, WriteMode,
};

/// How often a change whose outcome is unknown is tried again, and how long after.
const TRIES: u32 = 20;
const TRY_AGAIN_US: u64 = 250_000;
/// Between attempts at a chunk.
const ATTEMPT_US: u64 = 400_000;
/// How often the places of a chunk are asked for anew when none could be read, and how long after.
const LOOKS: u32 = 4;
const LOOK_AGAIN_US: u64 = 500_000;
/// Copies that are on disk before a chunk is acknowledged.
const COPIES_MIN: u8 = 2;

/// The node of a number, as the cluster knows it.
pub(crate) fn node_of(cx: &Context<'_>, id: NodeId) -> Option<usize> {
    cx.world.nodes.iter().position(|node| node.id() == id)
}

/// Where something that takes several steps is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Next {
    /// It waits for a transfer, or for its time.
    Wait,
    /// This is to be asked at its node.
    Ask(Box<Call>),
    /// It is over.
    Over,
}

fn ask(call: Call) -> Next {
    Next::Ask(Box::new(call))
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Stage {
    Begin,
    Servers,
    Transfer(u64, Attempt, u64),
    /// With when it was sent, and those who are to be said to have it and do not.
    Commit(storage::files::NewChunk, u64, Vec<usize>),
    Close,
    Abandon,
    Over,
}

/// Somebody who writes a file.
#[derive(Debug)]
pub(crate) struct Writing {
    pub process: Process,
    pub pair: usize,
    pub slot: usize,
    path: String,
    mode: WriteMode,
    token: u64,
    copies: u8,
    holder: u64,
    pieces: VecDeque<Vec<u8>>,
    pieces_count: usize,
    id: ChunkId,
    sending: Sending,
    stage: Stage,
    next_us: u64,
    tries: u32,
    begun_us: u64,
    /// When it was first asked to be closed.
    closed_us: Option<u64>,
    /// A try to close it may have worked.
    unsure: bool,
    /// It was closed.
    pub done: bool,
}

impl Writing {
    pub(crate) fn new(
        cx: &Context<'_>,
        node: usize,
        (pair, slot): (usize, usize),
        mode: WriteMode,
        (token, pieces): (u64, Vec<Vec<u8>>),
        (copies, holder): (u8, u64),
    ) -> Self {
        let id = ChunkId::default();
        Self {
            process: Process::of(cx.world, node),
            pair,
            slot,
            path: super::path(pair, slot),
            mode,
            token,
            copies,
            holder,
            pieces_count: pieces.len(),
            pieces: pieces.into(),
            id,
            sending: Sending::new(id, copies, COPIES_MIN, cx.world.nodes[node].id()),
            stage: Stage::Begin,
            next_us: 0,
            tries: 0,
            begun_us: cx.world.now_us,
            closed_us: None,
            unsure: false,
            done: false,
        }
    }

    /// What it wants now.
    pub(crate) fn next(&mut self, cx: &mut Context<'_>) -> Next {
        if cx.world.now_us < self.next_us {
            return Next::Wait;
        }
        let write = self.id.write;
        let command = match &self.stage {
            Stage::Begin => Command::Begin {
                path: self.path.clone(),
                mode: self.mode,
                holder: self.holder,
                copies: self.copies,
                lease_ms: super::LEASE_MS,
            },
            Stage::Servers => return ask(Call::ReadFiles(FilesQuery::Servers)),
            Stage::Transfer(..) => return Next::Wait,
            Stage::Commit(new, ..) => Command::Commit {
                chunk: self.id,
                new: new.clone(),
            },
            Stage::Close => {
                self.closed_us.get_or_insert(cx.world.now_us);
                Command::Close { write }
            }
            Stage::Abandon => Command::Abandon { write },
            Stage::Over => return Next::Over,
        };
        ask(Call::ChangeFiles(command))
    }

    /// Its lease goes on, where it has one.
    pub(crate) fn renewal(&self) -> Option<Call> {
        let write = self.id.write;
        let is_on = !matches!(self.stage, Stage::Begin | Stage::Abandon | Stage::Over);
        is_on.then_some(Call::ChangeFiles(Command::Renew { write }))
    }

    fn enter(&mut self, stage: Stage) {
        self.stage = stage;
        self.tries = 0;
    }

    fn next_chunk(&mut self, own: NodeId) {
        let stage = match self.pieces.is_empty() {
            true => Stage::Close,
            false => {
                self.sending = Sending::new(self.id, self.copies, COPIES_MIN, own);
                Stage::Servers
            }
        };
        self.enter(stage);
    }

    /// The answer to what it asked last at `invoked_us`; `None`: there was none.
    pub(crate) fn answered(
        &mut self,
        cx: &mut Context<'_>,
        (transfers, rng): (&mut Transfers, &mut Rng),
        invoked_us: u64,
        reply: Option<&CallReply>,
    ) {
        let now_us = cx.world.now_us;
        let own = cx.world.nodes[self.process.node].id();
        match (self.stage.clone(), reply) {
            (Stage::Begin, Some(CallReply::FilesChanged(Ok(Reply::Begun { write, copies })))) => {
                self.id.write = *write;
                self.copies = *copies;
                let appends = self.mode == WriteMode::Append;
                let (write, slot) = (*write, self.slot);
                let did = Did::Began {
                    write,
                    slot,
                    appends,
                };
                self.record(cx, self.begun_us, Some(now_us), did);
                self.next_chunk(own);
            }
            (Stage::Begin, Some(CallReply::FilesChanged(Err(refusal)))) => {
                let is_there = match refusal {
                    Refusal::Exists => Some(true),
                    Refusal::NotFound => Some(false),
                    _ => None,
                };
                if let Some(is_there) = is_there {
                    let slot = self.slot;
                    let did = Did::BeganNot { slot, is_there };
                    self.record(cx, invoked_us, Some(now_us), did);
                }
                self.enter(Stage::Over);
            }
            (Stage::Servers, Some(CallReply::Files(answer))) => {
                let FilesAnswer::Servers(servers) = &**answer else {
                    return;
                };
                let seen = servers.iter().map(|server| Target {
                    node: server.node,
                    is_able: server.sight == Sight::Up && server.has_room,
                    held: server.held,
                });
                let Ok(attempt) = self.sending.attempt(&seen.collect::<Vec<_>>()) else {
                    return self.enter(Stage::Abandon);
                };
                let targets = attempt.targets.iter().filter_map(|id| node_of(cx, *id));
                let targets = targets.collect();
                let key = (self.id, attempt.generation);
                let bytes = self.pieces[0].clone();
                let number = transfers.put(cx, rng, self.process, (key, bytes), targets);
                self.enter(Stage::Transfer(number, attempt, now_us));
            }
            (Stage::Commit(new, since_us, without), Some(CallReply::FilesChanged(Ok(_)))) => {
                for node in without {
                    let id = self.id;
                    let complaint = format!("node{node} is said to have chunk {id}, and does not");
                    cx.history.files.complaints.push(complaint);
                }
                for id in new.copies {
                    if let Some(node) = node_of(cx, id) {
                        cx.history.files.say(self.id, node, since_us);
                    }
                }
                self.pieces.pop_front();
                self.id.number += 1;
                self.next_chunk(own);
            }
            (Stage::Close, Some(CallReply::FilesChanged(Ok(_)))) => {
                self.closed(cx, Some(now_us));
                self.done = true;
                self.enter(Stage::Over);
            }
            (Stage::Close, Some(CallReply::FilesChanged(Err(_)))) => {
                if self.unsure {
                    self.closed(cx, None);
                }
                self.enter(Stage::Over);
            }
            (Stage::Commit(..), Some(CallReply::FilesChanged(Err(_)))) => {
                self.enter(Stage::Abandon);
            }
            (Stage::Abandon, _) => self.enter(Stage::Over),
            (stage, reply) => {
                let is_certain = matches!(
                    reply,
                    Some(CallReply::Refused { .. } | CallReply::NotHere { .. })
                );
                self.unsure |= stage == Stage::Close && !is_certain;
                self.tries += 1;
                self.next_us = now_us + TRY_AGAIN_US;
                if self.tries == TRIES {
                    if self.unsure {
                        self.closed(cx, None);
                    }
                    self.enter(match stage {
                        Stage::Begin => Stage::Over,
                        _ => Stage::Abandon,
                    });
                }
            }
        }
    }

    /// A transfer has ended, perhaps its own.
    pub(crate) fn transferred(&mut self, cx: &Context<'_>, number: u64, outcome: &Outcome) {
        let (Stage::Transfer(own, attempt, since_us), Outcome::Put(nodes)) = (&self.stage, outcome)
        else {
            return;
        };
        if *own != number {
            return;
        }
        let since_us = *since_us;
        let has = |node: &usize, key| {
            let disk = cx.history.files.disks.get(node);
            disk.is_some_and(|disk| disk.chunks.contains_key(&key) || disk.harmed_us >= since_us)
        };
        let holders = nodes.iter().map(|node| cx.world.nodes[*node].id());
        let bytes = &self.pieces[0];
        let (length, sum) = (bytes.len() as u32, crc32c::crc32c(bytes));
        let ended = self.sending.ended(attempt, holders.collect(), length, sum);
        match ended {
            Some(new) => {
                let key = (self.id, new.generation);
                let said = new.copies.iter().filter_map(|id| node_of(cx, *id));
                let without = said.filter(|node| !has(node, key)).collect();
                self.enter(Stage::Commit(new, since_us, without));
            }
            None => {
                self.next_us = cx.world.now_us + ATTEMPT_US;
                self.enter(Stage::Servers);
            }
        }
    }

    /// Its node's process has died.
    pub(crate) fn died(&mut self, cx: &mut Context<'_>) {
        if self.closed_us.is_some() && matches!(self.stage, Stage::Close) {
            self.closed(cx, None);
        }
        self.enter(Stage::Over);
    }

    fn closed(&mut self, cx: &mut Context<'_>, ended_us: Option<u64>) {
        let invoked_us = self.closed_us.unwrap_or(cx.world.now_us);
        let did = Did::Closed {
            write: self.id.write,
            token: match self.pieces_count {
                0 => 0,
                _ => self.token,
            },
        };
        self.record(cx, invoked_us, ended_us, did);
    }

    fn record(&self, cx: &mut Context<'_>, invoked_us: u64, ended_us: Option<u64>, did: Did) {
        cx.history.files.operations.push(Operation {
            pair: self.pair,
            invoked_us,
            ended_us,
            did,
        });
    }
}

/// Somebody who reads a file.
#[derive(Debug)]
pub(crate) struct Reading {
    pub process: Process,
    pub pair: usize,
    pub slot: usize,
    is_located: bool,
    invoked_us: u64,
    located_us: u64,
    places: VecDeque<ChunkPlace>,
    /// All places, as they were found first.
    pub found: Vec<ChunkPlace>,
    order: VecDeque<NodeId>,
    transfer: Option<(u64, NodeId)>,
    bytes: Vec<u8>,
    looks: u32,
    next_us: u64,
    /// How it ended: read, or not.
    pub end: Option<bool>,
}

impl Reading {
    pub(crate) fn new(cx: &Context<'_>, node: usize, (pair, slot): (usize, usize)) -> Self {
        Self {
            process: Process::of(cx.world, node),
            pair,
            slot,
            is_located: false,
            invoked_us: 0,
            located_us: 0,
            places: VecDeque::new(),
            found: Vec::new(),
            order: VecDeque::new(),
            transfer: None,
            bytes: Vec::new(),
            looks: 0,
            next_us: 0,
            end: None,
        }
    }

    /// What it wants now.
    pub(crate) fn next(
        &mut self,
        cx: &mut Context<'_>,
        (transfers, rng): (&mut Transfers, &mut Rng),
    ) -> Next {
        if self.end.is_some() {
            return Next::Over;
        }
        if cx.world.now_us < self.next_us || self.transfer.is_some() {
            return Next::Wait;
        }
        if let Some(id) = self.order.pop_front() {
            let key = (self.places[0].id, self.places[0].generation);
            // A node that has left is not there.
            let Some(node) = node_of(cx, id) else {
                return Next::Wait;
            };
            let number = transfers.read(cx, rng, self.process, node, key);
            self.transfer = Some((number, id));
            return Next::Wait;
        }
        if self.is_located {
            self.looks += 1;
            self.next_us = cx.world.now_us + LOOK_AGAIN_US;
            self.is_located = false;
            if self.looks > LOOKS {
                self.end = Some(false);
            }
            return Next::Wait;
        }
        ask(Call::ReadFiles(FilesQuery::Locate {
            path: super::path(self.pair, self.slot),
            offset: 0,
            length: u64::MAX,
        }))
    }

    /// The answer to what it asked last at `invoked_us`; `None`: there was none.
    pub(crate) fn answered(
        &mut self,
        cx: &mut Context<'_>,
        unreadable: &mut Unreadable,
        invoked_us: u64,
        reply: Option<&CallReply>,
    ) {
        let now_us = cx.world.now_us;
        let located = match reply {
            Some(CallReply::Files(answer)) => match &**answer {
                FilesAnswer::Located { located, .. } => located,
                _ => return,
            },
            _ => {
                self.looks += 1;
                self.next_us = now_us + LOOK_AGAIN_US;
                if self.looks > LOOKS {
                    self.end = Some(false);
                }
                return;
            }
        };
        let is_first = self.located_us == 0;
        match located {
            Ok((_, places)) if is_first => {
                (self.invoked_us, self.located_us) = (invoked_us, now_us);
                self.places = places.iter().cloned().collect();
                self.found = places.clone();
                self.begin_chunk(cx, unreadable);
            }
            Ok((_, places)) => {
                // Copies may have been made meanwhile.
                let again = places.iter().find(|place| place.id == self.places[0].id);
                if let Some(place) = again {
                    self.places[0] = place.clone();
                    self.begin_chunk(cx, unreadable);
                } else {
                    self.end = Some(false);
                }
            }
            Err(Refusal::NotFound) if is_first => {
                (self.invoked_us, self.located_us) = (invoked_us, now_us);
                self.record(cx, None);
            }
            Err(_) => self.end = Some(false),
        }
    }

    fn begin_chunk(&mut self, cx: &mut Context<'_>, unreadable: &mut Unreadable) {
        let Some(place) = self.places.front() else {
            let read = super::tokens(&self.bytes);
            match read {
                Ok(tokens) => self.record(cx, Some(tokens)),
                Err(what) => {
                    let path = super::path(self.pair, self.slot);
                    let complaint = format!("{path} was read: {what}");
                    cx.history.files.complaints.push(complaint);
                    self.end = Some(true);
                }
            }
            return;
        };
        self.is_located = true;
        let own = cx.world.nodes[self.process.node].id();
        self.order = unreadable.in_order(place, own, cx.world.now_us);
    }

    /// A transfer has ended, perhaps its own. A corrupt copy is to be reported.
    pub(crate) fn transferred(
        &mut self,
        cx: &mut Context<'_>,
        unreadable: &mut Unreadable,
        number: u64,
        outcome: &Outcome,
    ) -> Option<Call> {
        let node = self.transfer.filter(|(own, _)| *own == number)?.1;
        let Outcome::Read(found) = outcome else {
            return None;
        };
        self.transfer = None;
        let place = &self.places[0];
        match found {
            Ok(bytes) => {
                if (bytes.len() as u32, crc32c::crc32c(bytes)) != (place.length, place.checksum) {
                    let complaint = format!("chunk {} is read as another one", place.id);
                    cx.history.files.complaints.push(complaint);
                }
                self.bytes.extend_from_slice(bytes);
                self.places.pop_front();
                self.order.clear();
                self.begin_chunk(cx, unreadable);
                None
            }
            Err(Unread::Away) => {
                if node != cx.world.nodes[self.process.node].id() {
                    unreadable.remember(node, cx.world.now_us);
                }
                None
            }
            Err(Unread::Corrupt) => {
                let change = CopyChange::Corrupt {
                    chunk: place.id,
                    generation: place.generation,
                    node,
                };
                let changes = vec![change];
                Some(Call::ChangeFiles(Command::Copies { changes }))
            }
        }
    }

    fn record(&mut self, cx: &mut Context<'_>, was: Option<Vec<u64>>) {
        let slot = self.slot;
        cx.history.files.operations.push(Operation {
            pair: self.pair,
            invoked_us: self.invoked_us,
            ended_us: Some(self.located_us),
            did: Did::Read { slot, was },
        });
        self.end = Some(true);
    }
}
