//! Data on its way: chunks that go along a chain of nodes, and copies that are read. A message that is under way when
//! its node dies, or a line is cut, is lost; who waits for it gives up in the end.

use super::Key;
use crate::client::Context;
use crate::world::World;
use base::Rng;
use std::collections::{BTreeMap, BTreeSet};

/// A node that does not answer for this long, and for as long again for each behind it, is given up.
const HOP_US: u64 = 1_000_000;
/// A node that sends nothing for this long is not read from.
const READ_US: u64 = 1_500_000;

/// A node's process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Process {
    pub node: usize,
    pub life: u64,
}

impl Process {
    pub(crate) fn of(world: &World, node: usize) -> Self {
        let life = world.nodes[node].life;
        Self { node, life }
    }

    pub(crate) fn lives(self, world: &World) -> bool {
        world.nodes[self.node].lives(self.life)
    }
}

/// Why a copy was not read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Unread {
    /// Its checksum is wrong.
    Corrupt,
    /// It is not there, or its node is not.
    Away,
}

/// What has come to its end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Outcome {
    /// Nodes that have the chunk.
    Put(Vec<usize>),
    /// A copy's bytes.
    Read(Result<Vec<u8>, Unread>),
}

#[derive(Debug)]
struct Hop {
    process: Process,
    /// The chunk is on its disk, or is not going to be.
    own: Option<bool>,
    /// Who has it behind this one.
    behind: Option<Vec<usize>>,
}

/// A chunk on its way. The first hop is who sends it, and has none itself.
#[derive(Debug)]
struct Put {
    key: Key,
    bytes: Vec<u8>,
    sum: u32,
    hops: Vec<Hop>,
    left: Vec<usize>,
}

#[derive(Debug)]
enum Step {
    Arrive(u64, usize),
    Stored(u64, usize),
    Answer(u64, usize, Vec<usize>),
    /// Nothing came from behind this hop.
    Late(u64, usize),
    Asked(u64, Process, usize, Key),
    Read(u64, Process, usize, Result<Vec<u8>, Unread>),
    Unread(u64),
}

/// Transfers under way.
#[derive(Debug, Default)]
pub(crate) struct Transfers {
    queue: BTreeMap<(u64, u64), Step>,
    count: u64,
    puts: BTreeMap<u64, Put>,
    /// Puts whose sender has no outcome yet.
    waiting: BTreeSet<u64>,
    reads: BTreeMap<u64, Process>,
}

impl Transfers {
    fn at(&mut self, at_us: u64, step: Step) {
        self.count += 1;
        self.queue.insert((at_us, self.count), step);
    }

    /// Sends a chunk along a chain; the outcome comes under the number that this yields.
    pub(crate) fn put(
        &mut self,
        cx: &Context<'_>,
        rng: &mut Rng,
        from: Process,
        (key, bytes): (Key, Vec<u8>),
        targets: Vec<usize>,
    ) -> u64 {
        self.count += 1;
        let number = self.count;
        let sender = Hop {
            process: from,
            own: Some(true),
            behind: None,
        };
        let put = Put {
            key,
            sum: crc32c::crc32c(&bytes),
            bytes,
            hops: vec![sender],
            left: targets,
        };
        self.puts.insert(number, put);
        self.waiting.insert(number);
        self.hand_on(cx, rng, number, 0);
        number
    }

    /// To the first of those that are left which takes a connection.
    fn hand_on(&mut self, cx: &Context<'_>, rng: &mut Rng, number: u64, hop: usize) {
        let Some(put) = self.puts.get_mut(&number) else {
            return;
        };
        let from = put.hops[hop].process;
        let takes = |to: &usize| cx.world.is_up(*to) && cx.world.reaches(from.node, *to);
        let Some(at) = put.left.iter().position(takes) else {
            put.left.clear();
            put.hops[hop].behind = Some(Vec::new());
            let now_us = cx.world.now_us;
            return self.at(now_us, Step::Late(number, hop));
        };
        let rest = put.left.split_off(at + 1);
        let process = Process::of(cx.world, put.left[at]);
        put.left = rest;
        let late_us = cx.world.now_us + HOP_US * (1 + put.left.len() as u64);
        put.hops.push(Hop {
            process,
            own: None,
            behind: None,
        });
        let next = put.hops.len() - 1;
        self.at(late_us, Step::Late(number, hop));
        let at_us = cx.world.now_us + delay_us(rng);
        self.at(at_us, Step::Arrive(number, next));
    }

    /// Reads a node's copy; the outcome comes under the number that this yields.
    pub(crate) fn read(
        &mut self,
        cx: &Context<'_>,
        rng: &mut Rng,
        reader: Process,
        node: usize,
        key: Key,
    ) -> u64 {
        self.count += 1;
        let number = self.count;
        self.reads.insert(number, reader);
        let now_us = cx.world.now_us;
        self.at(now_us + READ_US, Step::Unread(number));
        if cx.world.is_up(node) && cx.world.reaches(reader.node, node) {
            let process = Process::of(cx.world, node);
            let at_us = now_us + delay_us(rng);
            self.at(at_us, Step::Asked(number, process, node, key));
        } else {
            self.at(now_us, Step::Unread(number));
        }
        number
    }

    /// What is due happens; what has ended, by its number.
    pub(crate) fn tick(&mut self, cx: &mut Context<'_>, rng: &mut Rng) -> Vec<(u64, Outcome)> {
        let mut ended = Vec::new();
        while let Some(entry) = self.queue.first_entry()
            && entry.key().0 <= cx.world.now_us
        {
            match entry.remove() {
                Step::Arrive(number, hop) => self.arrive(cx, rng, number, hop),
                Step::Stored(number, hop) => {
                    self.store(cx, number, hop);
                    self.answer(cx, rng, number, hop, &mut ended);
                }
                Step::Answer(number, hop, nodes) => {
                    if self.is_heard(cx, number, hop) {
                        self.heard(number, hop - 1, nodes);
                        self.answer(cx, rng, number, hop - 1, &mut ended);
                    }
                }
                Step::Late(number, hop) => {
                    self.heard(number, hop, Vec::new());
                    self.answer(cx, rng, number, hop, &mut ended);
                }
                Step::Asked(number, process, node, key) => {
                    let reader = self.reads.get(&number).copied();
                    if let Some(reader) = reader
                        && process.lives(cx.world)
                        && cx.world.reaches(reader.node, node)
                    {
                        let disk = cx.history.files.disks.get(&node);
                        let found = match disk.and_then(|disk| disk.read(key)) {
                            None => Err(Unread::Away),
                            Some(Err(())) => Err(Unread::Corrupt),
                            Some(Ok(bytes)) => Ok(bytes.to_vec()),
                        };
                        let at_us = cx.world.now_us + delay_us(rng);
                        self.at(at_us, Step::Read(number, process, node, found));
                    }
                }
                Step::Read(number, process, node, found) => {
                    if let Some(reader) = self.reads.get(&number).copied()
                        && process.lives(cx.world)
                        && cx.world.reaches(reader.node, node)
                    {
                        self.reads.remove(&number);
                        ended.push((number, Outcome::Read(found)));
                    }
                }
                Step::Unread(number) => {
                    if self.reads.remove(&number).is_some() {
                        ended.push((number, Outcome::Read(Err(Unread::Away))));
                    }
                }
            }
        }
        ended
    }

    fn arrive(&mut self, cx: &Context<'_>, rng: &mut Rng, number: u64, hop: usize) {
        if !self.is_heard(cx, number, hop) {
            return;
        }
        let node = self.puts[&number].hops[hop].process.node;
        let slow_us = cx.world.nodes[node].disk.fault.slow_us;
        let at_us = cx.world.now_us + rng.range(200, 8_000) + slow_us;
        self.at(at_us, Step::Stored(number, hop));
        self.hand_on(cx, rng, number, hop);
    }

    /// The chunk is synced and has its name, unless the process died before that, or the disk takes nothing.
    fn store(&mut self, cx: &mut Context<'_>, number: u64, hop: usize) {
        let Some(put) = self.puts.get_mut(&number) else {
            return;
        };
        let process = put.hops[hop].process;
        let fault = &cx.world.nodes[process.node].disk.fault;
        let is_stored = process.lives(cx.world) && !fault.full && !fault.failing;
        if is_stored {
            let files = &mut cx.history.files;
            files.put(process.node, put.key, put.bytes.clone(), put.sum);
        }
        put.hops[hop].own = Some(is_stored);
    }

    /// Both ends of the way to a hop live, and it is open.
    fn is_heard(&self, cx: &Context<'_>, number: u64, hop: usize) -> bool {
        let Some(put) = self.puts.get(&number) else {
            return false;
        };
        let (from, to) = (put.hops[hop - 1].process, put.hops[hop].process);
        let is_open = cx.world.reaches(from.node, to.node);
        is_open && from.lives(cx.world) && to.lives(cx.world)
    }

    fn heard(&mut self, number: u64, hop: usize, nodes: Vec<usize>) {
        if let Some(put) = self.puts.get_mut(&number) {
            put.hops[hop].behind.get_or_insert(nodes);
        }
    }

    /// A hop that has all that it waits for answers who sent to it.
    fn answer(
        &mut self,
        cx: &Context<'_>,
        rng: &mut Rng,
        number: u64,
        hop: usize,
        ended: &mut Vec<(u64, Outcome)>,
    ) {
        let Some(put) = self.puts.get(&number) else {
            return;
        };
        let its = &put.hops[hop];
        let (Some(own), Some(behind)) = (its.own, &its.behind) else {
            return;
        };
        let mut nodes = behind.clone();
        if hop == 0 {
            // Those behind go on with it, whoever still waits.
            if self.waiting.remove(&number) {
                ended.push((number, Outcome::Put(nodes)));
            }
            return;
        }
        nodes.insert(0, its.process.node);
        if !own {
            nodes.clear();
        }
        if its.process.lives(cx.world) {
            let at_us = cx.world.now_us + delay_us(rng);
            self.at(at_us, Step::Answer(number, hop, nodes));
        }
    }
}

fn delay_us(rng: &mut Rng) -> u64 {
    let is_slow = rng.one_in(20);
    rng.range(100, if is_slow { 300_000 } else { 3_000 })
}
