//! What chunk servers do unasked, as the host's keeper does: each compares its disk with what it should have, makes and
//! removes copies, and reads everything again and again.

use super::Key;
use super::transfers::{Outcome, Process, Transfers, Unread};
use super::writing::node_of;
use crate::caller::Caller;
use crate::client::Context;
use base::{NodeId, Rng};
use node::{Call, CallReply, FilesAnswer, FilesQuery, RequestId};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use storage::files::{ChunkId, ChunkPlace, Command, CopyChange, Duties, Reply, Unreadable};

/// Between two comparisons, at most.
const INTERVAL_US: u64 = 600_000;
/// Between two chunks that are read again.
const SCRUB_US: u64 = 40_000;
const DUTIES_MAX: usize = 64;
const PATIENCE_US: u64 = 6_000_000;

#[derive(Clone, PartialEq, Eq, Debug)]
enum What {
    Duties,
    /// Copies that are said to be good, and since when they are there.
    Tell(Vec<(ChunkId, u64)>, usize),
    Report,
}

#[derive(Debug)]
struct Making {
    place: ChunkPlace,
    order: VecDeque<NodeId>,
    transfer: Option<(u64, NodeId)>,
}

#[derive(Debug)]
struct Keeper {
    process: Process,
    next_us: u64,
    scrub_us: u64,
    scrubbed: Option<Key>,
    makes: VecDeque<ChunkPlace>,
    making: Option<Making>,
    unreadable: Unreadable,
    /// When it was asked for what was found to be nothing.
    idle_us: u64,
}

/// The keepers of all nodes.
#[derive(Debug)]
pub(crate) struct Keepers {
    keepers: BTreeMap<usize, Keeper>,
    caller: Caller<(usize, What)>,
    transfers: Transfers,
}

impl Keepers {
    pub(crate) fn new() -> Self {
        Self {
            keepers: BTreeMap::new(),
            caller: Caller::new(),
            transfers: Transfers::default(),
        }
    }

    pub(crate) fn calls(&self) -> (usize, usize) {
        self.caller.counts
    }

    /// Who is not idle, in words.
    pub(crate) fn describe(&self) -> String {
        let rows = self.keepers.iter().map(|(node, keeper)| {
            let (idle_us, makes) = (keeper.idle_us, keeper.makes.len());
            format!(
                "node{node} idle at {idle_us}, {makes} to make, {:?}",
                keeper.making
            )
        });
        rows.collect::<Vec<_>>().join("; ")
    }

    /// Nothing was to be done anywhere since then.
    pub(crate) fn are_idle(&self, cx: &Context<'_>, since_us: u64) -> bool {
        cx.nodes.iter().all(|node| {
            let keeper = self.keepers.get(node);
            keeper.is_some_and(|k| k.process.lives(cx.world) && k.idle_us > since_us)
        })
    }

    /// Goes on, to be called often.
    pub(crate) fn tick(&mut self, cx: &mut Context<'_>, rng: &mut Rng) {
        self.keepers
            .retain(|_, keeper| keeper.process.lives(cx.world));
        for node in 0..cx.world.nodes.len() {
            if cx.world.is_up(node) {
                self.keepers.entry(node).or_insert_with(|| Keeper {
                    process: Process::of(cx.world, node),
                    next_us: 0,
                    scrub_us: 0,
                    scrubbed: None,
                    makes: VecDeque::new(),
                    making: None,
                    unreadable: Unreadable::default(),
                    idle_us: 0,
                });
            }
        }
        self.caller.forget_lost(cx, |_| PATIENCE_US);
        for (number, outcome) in self.transfers.tick(cx, rng) {
            self.transferred(cx, number, &outcome);
        }
        let nodes: Vec<usize> = self.keepers.keys().copied().collect();
        for node in nodes {
            self.scrub(cx, rng, node);
            self.make(cx, rng, node);
            self.compare(cx, rng, node);
        }
    }

    fn compare(&mut self, cx: &mut Context<'_>, rng: &mut Rng, node: usize) {
        let is_calling = |what: &(usize, What)| what.0 == node && what.1 != What::Report;
        let is_busy = self.caller.is_calling(is_calling);
        let Some(keeper) = self.keepers.get_mut(&node) else {
            return;
        };
        let now_us = cx.world.now_us;
        if is_busy || keeper.making.is_some() || !keeper.makes.is_empty() || now_us < keeper.next_us
        {
            return;
        }
        keeper.next_us = now_us + rng.range(INTERVAL_US / 3, INTERVAL_US);
        let disk = cx.history.files.disks.entry(node).or_default();
        let query = FilesQuery::Duties {
            inventory: Arc::new(disk.chunks.keys().copied().collect()),
            count_max: DUTIES_MAX,
        };
        let call = Call::ReadFiles(query);
        self.caller.call_at(cx, node, (node, What::Duties), call);
    }

    fn scrub(&mut self, cx: &mut Context<'_>, rng: &mut Rng, node: usize) {
        let now_us = cx.world.now_us;
        let Some(keeper) = self.keepers.get_mut(&node) else {
            return;
        };
        if now_us < keeper.scrub_us {
            return;
        }
        keeper.scrub_us = now_us + rng.range(SCRUB_US / 2, SCRUB_US);
        let disk = cx.history.files.disks.entry(node).or_default();
        let after = keeper.scrubbed;
        let next = disk.chunks.keys().find(|key| Some(**key) > after).copied();
        keeper.scrubbed = next;
        if let Some(key) = next
            && disk.read(key) == Some(Err(()))
        {
            self.report(cx, node, key, cx.world.nodes[node].id());
        }
    }

    /// Tells that a copy is corrupt.
    fn report(&mut self, cx: &mut Context<'_>, node: usize, key: Key, at: NodeId) {
        let change = CopyChange::Corrupt {
            chunk: key.0,
            generation: key.1,
            node: at,
        };
        let changes = vec![change];
        let call = Call::ChangeFiles(Command::Copies { changes });
        self.caller.call_at(cx, node, (node, What::Report), call);
    }

    fn tell(&mut self, cx: &mut Context<'_>, node: usize, changes: Vec<CopyChange>, since_us: u64) {
        let made = changes.iter().filter_map(|change| match change {
            CopyChange::Made { chunk, .. } => Some((*chunk, since_us)),
            _ => None,
        });
        let what = What::Tell(made.collect(), changes.len());
        let call = Call::ChangeFiles(Command::Copies { changes });
        self.caller.call_at(cx, node, (node, what), call);
    }

    /// Makes the next copy.
    fn make(&mut self, cx: &mut Context<'_>, rng: &mut Rng, node: usize) {
        let Some(keeper) = self.keepers.get_mut(&node) else {
            return;
        };
        let now_us = cx.world.now_us;
        let own = cx.world.nodes[node].id();
        if keeper.making.is_none() {
            let Some(place) = keeper.makes.pop_front() else {
                return;
            };
            let key = (place.id, place.generation);
            let disk = cx.history.files.disks.entry(node).or_default();
            if matches!(disk.read(key), Some(Ok(_))) {
                let made = made(&place, own);
                return self.tell(cx, node, vec![made], now_us);
            }
            keeper.making = Some(Making {
                order: keeper.unreadable.in_order(&place, own, now_us),
                place,
                transfer: None,
            });
        }
        let Some(making) = keeper.making.as_mut().filter(|m| m.transfer.is_none()) else {
            return;
        };
        let Some(id) = making.order.pop_front() else {
            // It is wanted still, and comes again.
            keeper.making = None;
            return;
        };
        if let Some(from) = node_of(cx, id) {
            let key = (making.place.id, making.place.generation);
            let number = self.transfers.read(cx, rng, keeper.process, from, key);
            making.transfer = Some((number, id));
        }
    }

    fn transferred(&mut self, cx: &mut Context<'_>, number: u64, outcome: &Outcome) {
        let is_its = |keeper: &&mut Keeper| {
            let transfer = keeper.making.as_ref().and_then(|making| making.transfer);
            transfer.is_some_and(|(own, _)| own == number)
        };
        let Some(keeper) = self.keepers.values_mut().find(is_its) else {
            return;
        };
        let (Some(mut making), Outcome::Read(found)) = (keeper.making.take(), outcome) else {
            return;
        };
        let node = keeper.process.node;
        let from = making.transfer.take().map_or(NodeId(0), |(_, from)| from);
        let key = (making.place.id, making.place.generation);
        match found {
            Ok(bytes) if crc32c::crc32c(bytes) == making.place.checksum => {
                let fault = &cx.world.nodes[node].disk.fault;
                if !fault.full && !fault.failing {
                    let since_us = cx.world.now_us;
                    let sum = making.place.checksum;
                    cx.history.files.put(node, key, bytes.clone(), sum);
                    let made = made(&making.place, cx.world.nodes[node].id());
                    self.tell(cx, node, vec![made], since_us);
                }
            }
            Ok(_) => {
                let complaint = format!("chunk {} is copied as another one", key.0);
                cx.history.files.complaints.push(complaint);
            }
            Err(Unread::Corrupt) => {
                keeper.making = Some(making);
                self.report(cx, node, key, from);
            }
            Err(Unread::Away) => {
                keeper.unreadable.remember(from, cx.world.now_us);
                keeper.making = Some(making);
            }
        }
    }

    /// Takes the answer to a call, if that is its own.
    pub(crate) fn handle_called(
        &mut self,
        cx: &mut Context<'_>,
        request: RequestId,
        reply: &CallReply,
    ) {
        let Some(pending) = self.caller.take(cx, request, reply) else {
            return;
        };
        let (node, what) = pending.what;
        match (what, reply) {
            (What::Duties, CallReply::Files(answer)) => {
                if let FilesAnswer::Duties { duties, .. } = &**answer {
                    self.carry_out(cx, node, pending.invoked_us, duties.clone());
                }
            }
            (What::Tell(made, all), CallReply::FilesChanged(Ok(Reply::Changed { count })))
                if *count as usize == all =>
            {
                for (chunk, since_us) in made {
                    cx.history.files.say(chunk, node, since_us);
                }
            }
            // What was not heard is found again.
            _ => {}
        }
    }

    fn carry_out(&mut self, cx: &mut Context<'_>, node: usize, asked_us: u64, duties: Duties) {
        let own = cx.world.nodes[node].id();
        let Some(keeper) = self.keepers.get_mut(&node) else {
            return;
        };
        if duties == Duties::default() {
            keeper.idle_us = asked_us;
        }
        for key in duties.remove {
            cx.history.files.remove(node, key);
        }
        let disk = cx.history.files.disks.entry(node).or_default();
        let mut changes = Vec::new();
        for (chunk, generation) in duties.lost {
            if !disk.chunks.contains_key(&(chunk, generation)) {
                changes.push(CopyChange::Lost { chunk, node: own });
            }
        }
        for (chunk, generation) in duties.suspect {
            if matches!(disk.read((chunk, generation)), Some(Ok(_))) {
                changes.push(CopyChange::Made {
                    chunk,
                    generation,
                    node: own,
                });
            }
        }
        keeper.makes.extend(duties.make);
        if !changes.is_empty() {
            self.tell(cx, node, changes, asked_us);
        }
    }
}

fn made(place: &ChunkPlace, node: NodeId) -> CopyChange {
    CopyChange::Made {
        chunk: place.id,
        generation: place.generation,
        node,
    }
}
