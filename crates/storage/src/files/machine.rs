//! The machine: its state, and which command does what.

use super::command::{ChunkId, Command, Unit, WriteId};
use super::reply::{Output, Refusal, Reply};
use super::restore::{Cut, Restoring};
use super::row::{Chunk, Inode, InodeId, LIMBO, ROOT, Write};
use super::table::Table;
use base::{ApplyFault, Machine, NodeId, Origin, SnapshotPoll, Stamp, State, Writer};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use twox_hash::XxHash64;

/// Names, contents and places. See the module's head.
#[derive(Debug)]
pub struct Files {
    pub(super) inodes: Table<InodeId, Inode>,
    pub(super) chunks: Table<ChunkId, Chunk>,
    pub(super) writes: Table<WriteId, Write>,
    pub(super) last_inode: u64,
    pub(super) last_write: WriteId,
    pub(super) time_ms: i64,
    /// What follows from the tables: names in a directory, …
    pub(super) children: BTreeMap<(InodeId, String), InodeId>,
    /// … chunks of which a node has, or is to have, a copy, …
    pub(super) held: BTreeMap<NodeId, BTreeSet<ChunkId>>,
    /// … and chunks about whose copies there is something to do.
    pub(super) unsettled: BTreeSet<ChunkId>,
    pub(super) cut: Option<Cut>,
    pub(super) restoring: Option<Box<Restoring>>,
}

impl Default for Files {
    fn default() -> Self {
        Self {
            inodes: Table::new(11),
            chunks: Table::new(12),
            writes: Table::new(13),
            last_inode: LIMBO.0,
            last_write: 0,
            time_ms: 0,
            children: BTreeMap::new(),
            held: BTreeMap::new(),
            unsettled: BTreeSet::new(),
            cut: None,
            restoring: None,
        }
    }
}

impl Files {
    /// An empty root directory.
    pub fn new() -> Self {
        Self::default()
    }

    /// The latest time that the machine has seen, Unix milliseconds.
    pub fn time_ms(&self) -> i64 {
        self.time_ms
    }

    /// Bytes that a snapshot is likely to take.
    pub fn bytes(&self) -> u64 {
        (80 * self.inodes.len() + 80 * self.chunks.len() + 60 * self.writes.len()) as u64
    }

    /// Applies one decoded unit; [`Machine::apply`] without the decoding and copying.
    pub fn apply_unit(&mut self, stamp: Stamp, unit: Unit, out: &mut Vec<Output>) {
        self.time_ms = self.time_ms.max(stamp.time_ms);
        let reply = self.command(unit.command);
        if unit.origin != Origin::default() {
            out.push(Output::Reply {
                origin: unit.origin,
                reply,
            });
        }
    }

    fn command(&mut self, command: Command) -> Result<Reply, Refusal> {
        match command {
            Command::MakeDirectory { path } => self.make_directory(&path),
            Command::Delete { path, recursive } => self.delete(&path, recursive),
            Command::Rename { from, to } => self.rename(&from, &to),
            Command::SetWanted { path, copies } => self.set_wanted(&path, copies),
            Command::Begin {
                path,
                mode,
                holder,
                copies,
                lease_ms,
            } => self.begin(&path, mode, holder, copies, lease_ms),
            Command::Renew { write } => self.renew(write),
            Command::Commit { chunk, new } => self.commit(chunk, &new),
            Command::Close { write } => self.close(write),
            Command::Abandon { write } => self.abandon(write),
            Command::Expire { write, deadline_ms } => self.expire(write, deadline_ms),
            Command::Copies { changes } => Ok(Reply::Changed {
                count: changes.iter().map(|c| self.change_copy(c)).sum(),
            }),
            Command::Sweep => Ok(self.sweep()),
        }
    }

    /// Removes, changes or adds a chunk, and what follows from it.
    pub(super) fn put_chunk(&mut self, id: ChunkId, chunk: Option<Chunk>) {
        let before = self.chunks.get(id).map(|chunk| &chunk.copies);
        for node in before.into_iter().flat_map(BTreeMap::keys) {
            if let Some(held) = self.held.get_mut(node) {
                held.remove(&id);
            }
        }
        self.unsettled.remove(&id);
        match chunk {
            Some(chunk) => {
                self.index_chunk(id, &chunk);
                self.chunks.put(id, chunk);
            }
            None => drop(self.chunks.remove(id)),
        }
        self.held.retain(|_, chunks| !chunks.is_empty());
    }

    pub(super) fn index_chunk(&mut self, id: ChunkId, chunk: &Chunk) {
        for node in chunk.copies.keys() {
            self.held.entry(*node).or_default().insert(id);
        }
        if !chunk.is_settled() {
            self.unsettled.insert(id);
        }
    }

    /// True for what no path leads to any more.
    pub(super) fn is_removed(&self, mut inode: InodeId) -> bool {
        loop {
            match self.inodes.get(inode) {
                Some(row) => inode = row.parent,
                None => return inode != ROOT,
            }
        }
    }
}

impl Machine for Files {
    type Output = Output;

    fn apply(
        &mut self,
        stamp: Stamp,
        unit: &[u8],
        out: &mut Vec<Output>,
    ) -> Result<(), ApplyFault> {
        let unit = Unit::decode(&Bytes::copy_from_slice(unit))
            .map_err(|e| ApplyFault::UnknownCommand(format!("files: {e}")))?;
        self.apply_unit(stamp, unit, out);
        Ok(())
    }
}

impl State for Files {
    /// 0 while it was never used: a replica of a version without files has the same.
    fn digest(&self) -> u64 {
        if self.last_inode == LIMBO.0 {
            return 0;
        }
        let mut w = Writer::new();
        w.u64(self.last_inode).u64(self.last_write);
        XxHash64::oneshot(14, w.as_slice())
            .wrapping_add(self.inodes.digest())
            .wrapping_add(self.chunks.digest())
            .wrapping_add(self.writes.digest())
    }

    fn begin_snapshot(&mut self) {
        self.begin_cut();
    }

    fn poll_snapshot(&mut self, bytes_max: usize) -> SnapshotPoll {
        self.poll_cut(bytes_max)
    }

    fn abort_snapshot(&mut self) {
        self.abort_cut();
    }

    fn restore(&mut self, chunk: &[u8]) -> Result<(), String> {
        self.feed(chunk)
    }

    fn finish_restore(&mut self) -> Result<(), String> {
        self.finish_feeding()
    }
}
