//! The files' side of a run: chunk servers with disks of their own, writers and readers on nodes, what they did and
//! what they saw.
//!
//! Names and places are the nodes' own, and so is what a writer and a reader decide ([`storage::files::Sending`],
//! [`storage::files::Unreadable`]). The way of the data and the disks are modelled after
//! [the host's](../../../host/src/files): [`transfers`] has the chain of nodes and the reading of a copy, [`keeper`] what
//! a chunk server does unasked, [`player`] who writes and reads.
//!
//! What is *really* on the disks is ground truth in [`FilesHistory`]. So is what the cluster has *said* to be there: no
//! fault takes the last copy of a chunk of those that were said, and what is lost all the same was not there.

pub(crate) mod keeper;
pub(crate) mod player;
pub(crate) mod transfers;
pub(crate) mod writing;

use base::NodeId;
use std::collections::{BTreeMap, BTreeSet};
use storage::files::{ChunkId, ChunkPlace};

/// A chunk with the attempt at it.
pub type Key = (ChunkId, u32);
/// How long each directory is in use; the one before the last is removed as a whole.
pub const ERA_US: u64 = 2_000_000;
/// Pairs of names in each, between which files are renamed.
pub const PAIRS: usize = 2;
/// A writer's lease.
pub const LEASE_MS: u32 = 3_000;

/// What a chunk server has on its disk under its name: nothing else outlives its process.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    /// Chunks with their bytes, and the checksum that was written with them.
    pub chunks: BTreeMap<Key, (Vec<u8>, u32)>,
    /// When it last lost some of what it had.
    pub harmed_us: u64,
}

impl Disk {
    /// What a reader gets; `None` when it is not there.
    pub fn read(&self, key: Key) -> Option<Result<&[u8], ()>> {
        let (bytes, sum) = self.chunks.get(&key)?;
        Some(match crc32c::crc32c(bytes) == *sum {
            true => Ok(bytes),
            false => Err(()),
        })
    }
}

/// What somebody wanted of a pair of names, with what is known to have come of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Did {
    /// A writer began at a name. It will create, replace (`false`), or append (`true`).
    Began {
        /// Its number.
        write: u64,
        /// Which of the two names.
        slot: usize,
        /// It appends.
        appends: bool,
    },
    /// A writer could not begin: the name was taken (`true`), or there was nothing to append to (`false`).
    BeganNot {
        /// Which of the two names.
        slot: usize,
        /// There was a file.
        is_there: bool,
    },
    /// A writer closed: its content is the file's.
    Closed {
        /// Its number.
        write: u64,
        /// What it wrote; 0: nothing.
        token: u64,
    },
    /// A file was removed; `false`: there was none.
    Removed {
        /// Which of the two names.
        slot: usize,
        /// There was one.
        was_there: bool,
    },
    /// The file of one name got the other; `None`: there was nothing to rename, or the other name was taken.
    Renamed {
        /// The name that it had.
        from: usize,
        /// Whether it was done, or why not: something was there (`true`), nothing was (`false`).
        outcome: Result<(), bool>,
    },
    /// Both names went with their directory.
    Swept,
    /// What a file held, token by token; `None`: there was none.
    Read {
        /// Which of the two names.
        slot: usize,
        /// It.
        was: Option<Vec<u64>>,
    },
}

/// Something that was asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Operation {
    /// Which pair of names.
    pub pair: usize,
    /// When it was asked for.
    pub invoked_us: u64,
    /// When it was answered; `None`: whether it was done is not known.
    pub ended_us: Option<u64>,
    /// What.
    pub did: Did,
}

/// What was done and seen.
#[derive(Clone, Debug, Default)]
pub struct FilesHistory {
    /// What there really is, by node.
    pub disks: BTreeMap<usize, Disk>,
    /// Nodes that were said to have a chunk, without those that a fault took it from.
    pub said: BTreeMap<ChunkId, BTreeSet<usize>>,
    /// Copies that a fault has damaged, and that nobody has put right yet.
    pub damaged: BTreeSet<(ChunkId, usize)>,
    /// Chunks whose last copy a fault took after all: a machine whose log was lost had to be wiped.
    pub excused: BTreeSet<ChunkId>,
    /// What was asked for, in order.
    pub operations: Vec<Operation>,
    /// What was read that no writer can have written, and other things that must never be.
    pub complaints: Vec<String>,
    /// Eras that any client has worked in: it is not the same moment for all.
    pub eras: usize,
    /// Clients whose last write got through: they write no more.
    pub through: BTreeSet<usize>,
    /// At the very end: the chunks of every file.
    pub last: Vec<ChunkPlace>,
    /// At the very end: where each node is.
    pub nodes: BTreeMap<NodeId, usize>,
}

impl FilesHistory {
    /// True when a copy may go: nothing is wrong with the chunk's others, and there is one.
    pub fn can_spare(&self, chunk: ChunkId, node: usize) -> bool {
        let is_damaged = |(of, at): &(ChunkId, usize)| *of == chunk && *at != node;
        let others = |nodes: &BTreeSet<usize>| nodes.iter().any(|other| *other != node);
        !self.damaged.iter().any(is_damaged) && self.said.get(&chunk).is_none_or(others)
    }

    /// True when everything that a node has may go.
    pub fn can_spare_all(&self, node: usize) -> bool {
        let mut its = self.said.iter().filter(|(_, nodes)| nodes.contains(&node));
        its.all(|(chunk, _)| self.can_spare(*chunk, node))
    }

    /// A fault took everything that a node had.
    pub fn wipe(&mut self, node: usize, now_us: u64) {
        for (chunk, nodes) in &mut self.said {
            let is_damaged = self.damaged.iter().any(|(of, _)| of == chunk);
            if nodes.remove(&node) && (nodes.is_empty() || is_damaged) {
                self.excused.insert(*chunk);
            }
        }
        self.damaged.retain(|(_, at)| *at != node);
        let disk = self.disks.entry(node).or_default();
        disk.chunks.clear();
        disk.harmed_us = now_us;
    }

    /// A byte of a copy flips.
    pub fn flip(&mut self, node: usize, key: Key, at: usize) {
        if let Some(nodes) = self.said.get_mut(&key.0) {
            nodes.remove(&node);
        }
        self.damaged.insert((key.0, node));
        let disk = self.disks.entry(node).or_default();
        if let Some((bytes, _)) = disk.chunks.get_mut(&key) {
            let at = at % bytes.len();
            bytes[at] ^= 0x20;
        }
    }

    /// A chunk server has written a copy.
    pub fn put(&mut self, node: usize, key: Key, bytes: Vec<u8>, sum: u32) {
        self.damaged.remove(&(key.0, node));
        let disk = self.disks.entry(node).or_default();
        disk.chunks.insert(key, (bytes, sum));
    }

    /// A chunk server was told that nobody needs its copy.
    pub fn remove(&mut self, node: usize, key: Key) {
        let disk = self.disks.entry(node).or_default();
        if disk.chunks.remove(&key).is_none() {
            return;
        }
        self.damaged.remove(&(key.0, node));
        if let Some(nodes) = self.said.get_mut(&key.0) {
            nodes.remove(&node);
        }
        let is_there = |disk: &Disk| disk.chunks.keys().any(|(chunk, _)| *chunk == key.0);
        if !self.disks.values().any(is_there) {
            self.said.remove(&key.0);
        }
    }

    /// The cluster has said that a node has a chunk, which came there after `since_us`.
    pub fn say(&mut self, chunk: ChunkId, node: usize, since_us: u64) {
        let harmed_us = self.disks.get(&node).map_or(0, |disk| disk.harmed_us);
        if harmed_us < since_us && !self.damaged.contains(&(chunk, node)) {
            self.said.entry(chunk).or_default().insert(node);
        }
    }
}

/// Where a name of a pair is: there are [`PAIRS`] in each era.
pub fn path(pair: usize, slot: usize) -> String {
    format!("/e{}/p{}-{}", pair / PAIRS, pair % PAIRS, ["a", "b"][slot])
}

/// The pieces of what a writer writes: each says of which content it is which part.
pub fn pieces(token: u64, count: usize, padding: usize) -> Vec<Vec<u8>> {
    let piece = |number: usize| {
        let pad = "~".repeat(1 + (token as usize * 7 + number * 3) % (1 + padding));
        format!("[{token}.{number}/{count}{pad}]").into_bytes()
    };
    (0..count).map(piece).collect()
}

/// The contents in a file, or what is wrong with it.
pub fn tokens(bytes: &[u8]) -> Result<Vec<u64>, String> {
    let wrong = || format!("`{}` is no content", String::from_utf8_lossy(bytes));
    let text = std::str::from_utf8(bytes).map_err(|_| wrong())?;
    let mut tokens = Vec::new();
    let mut expected = None;
    let inner = match text {
        "" => return Ok(tokens),
        _ => text.strip_prefix('[').and_then(|t| t.strip_suffix(']')),
    };
    for piece in inner.ok_or_else(wrong)?.split("][") {
        let parse = || {
            let (token, rest) = piece.split_once('.')?;
            let (number, count) = rest.split_once('/')?;
            let count = count.trim_end_matches('~');
            Some((
                token.parse::<u64>().ok()?,
                number.parse::<usize>().ok()?,
                count.parse::<usize>().ok()?,
            ))
        };
        let (token, number, count) = parse().ok_or_else(wrong)?;
        if (token, number) != expected.take().unwrap_or((token, 0)) {
            return Err(wrong());
        }
        match number + 1 == count {
            true => tokens.push(token),
            false => expected = Some((token, number + 1)),
        }
    }
    match expected {
        None => Ok(tokens),
        Some(_) => Err(wrong()),
    }
}
