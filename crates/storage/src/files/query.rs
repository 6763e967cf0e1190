//! Questions that are answered from the state.

use super::command::{ChunkId, WriteId};
use super::machine::Files;
use super::names::check_path;
use super::plan::NodeView;
use super::reply::Refusal;
use super::row::{CopyState, InodeId, Kind, LIMBO, ROOT};
use base::NodeId;
use std::collections::{BTreeMap, BTreeSet};

/// What is known of a file or a directory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FileStat {
    /// Its name; empty for the root.
    pub name: String,
    /// Its number, never used twice.
    pub inode: u64,
    /// True for a directory.
    pub is_directory: bool,
    /// Bytes of a file.
    pub length: u64,
    /// Copies that its chunks shall have; 0 for a directory.
    pub copies: u8,
    /// Chunks of a file.
    pub chunks: u64,
    /// Names in a directory.
    pub children: u64,
    /// Unix milliseconds of its last change.
    pub modified_ms: i64,
}

/// A piece of a file, and where it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ChunkPlace {
    /// Which.
    pub id: ChunkId,
    /// Which attempt at it.
    pub generation: u32,
    /// Where in the file it begins.
    pub offset: u64,
    /// Its bytes.
    pub length: u32,
    /// CRC32C of them all.
    pub checksum: u32,
    /// Its copies.
    pub copies: Vec<(NodeId, CopyState)>,
}

/// What a chunk server has to do.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Duties {
    /// Copies to be made: the chunk, with where it is.
    pub make: Vec<ChunkPlace>,
    /// Copies on its disk that nobody needs.
    pub remove: Vec<(ChunkId, u32)>,
    /// Copies that it should have and does not.
    pub lost: Vec<(ChunkId, u32)>,
    /// Copies on its disk that are said to be corrupt.
    pub suspect: Vec<(ChunkId, u32)>,
}

/// What is wrong with a chunk.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fault {
    /// The file that it is of.
    pub path: String,
    /// It.
    pub chunk: ChunkId,
    /// Copies wanted.
    pub wanted: u8,
    /// Good copies on nodes that are heard.
    pub good: Vec<NodeId>,
    /// Good copies on nodes that are not.
    pub unreachable: Vec<NodeId>,
    /// Corrupt copies.
    pub corrupt: Vec<NodeId>,
    /// Copies under way.
    pub making: Vec<NodeId>,
}

/// How the chunks are.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Health {
    /// Files.
    pub files: u64,
    /// Directories, the root among them.
    pub directories: u64,
    /// Chunks, those of writers at work among them.
    pub chunks: u64,
    /// Files that are being written.
    pub writers: u64,
    /// Chunks without a good copy anywhere.
    pub missing: u64,
    /// Chunks with good copies, none of them on a node that is heard.
    pub unreachable: u64,
    /// Chunks with fewer good copies than wanted.
    pub short: u64,
    /// Copies that are corrupt.
    pub corrupt: u64,
    /// Copies under way.
    pub making: u64,
    /// Some of the chunks with something wrong.
    pub faults: Vec<Fault>,
    /// Chunks that each node has, or is to get.
    pub held: BTreeMap<NodeId, u64>,
}

/// What a directory holds, all together.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Summary {
    /// Directories, itself among them.
    pub directories: u64,
    /// Files.
    pub files: u64,
    /// Bytes of them.
    pub length: u64,
    /// Bytes with all wanted copies.
    pub space: u64,
}

impl Files {
    /// A file or directory. A file that was never closed is not there.
    pub fn stat(&self, path: &str) -> Result<FileStat, Refusal> {
        self.stat_of(self.find(&check_path(path)?)?)
    }

    fn stat_of(&self, inode: InodeId) -> Result<FileStat, Refusal> {
        let row = self.inodes.get(inode);
        let mut stat = FileStat {
            name: row.map(|row| row.name.clone()).unwrap_or_default(),
            inode: inode.0,
            is_directory: true,
            length: 0,
            copies: 0,
            chunks: 0,
            children: 0,
            modified_ms: row.map_or(0, |row| row.modified_ms),
        };
        match self.content(inode) {
            Some(content) if content.is_closed => {
                stat.is_directory = false;
                stat.length = content.length;
                stat.copies = content.wanted;
                stat.chunks = content.parts.iter().map(|p| u64::from(p.chunks)).sum();
            }
            Some(_) => return Err(Refusal::NotFound),
            None => stat.children = self.children_of(inode).count() as u64,
        }
        Ok(stat)
    }

    fn children_of(&self, directory: InodeId) -> impl Iterator<Item = (&str, InodeId)> {
        (self.children.range((directory, String::new())..))
            .take_while(move |((parent, _), _)| *parent == directory)
            .map(|((_, name), child)| (name.as_str(), *child))
    }

    /// What is in a directory behind the name `after`, sorted, and how many more there are. Of a file, itself.
    pub fn list(
        &self,
        path: &str,
        after: &str,
        count_max: usize,
    ) -> Result<(Vec<FileStat>, u64), Refusal> {
        let directory = self.find(&check_path(path)?)?;
        if !self.is_directory(directory) {
            return Ok((vec![self.stat_of(directory)?], 0));
        }
        let behind = (self.children_of(directory)).filter(|(name, _)| *name > after);
        let mut found = behind.filter_map(|(_, child)| self.stat_of(child).ok());
        let page = found.by_ref().take(count_max).collect();
        Ok((page, found.count() as u64))
    }

    /// The length of a file, and its chunks that hold something of `length` bytes from `offset` on.
    pub fn locate(
        &self,
        path: &str,
        offset: u64,
        length: u64,
    ) -> Result<(FileStat, Vec<ChunkPlace>), Refusal> {
        let inode = self.find(&check_path(path)?)?;
        let stat = self.stat_of(inode)?;
        if stat.is_directory {
            return Err(Refusal::IsADirectory);
        }
        let (mut at, end) = (0, offset.saturating_add(length));
        let mut places = Vec::new();
        for (id, chunk) in self.chunks_in(inode) {
            let next = at + u64::from(chunk.length);
            if next > offset && at < end {
                places.push(self.place(id, at));
            }
            at = next;
            if at >= end {
                break;
            }
        }
        Ok((stat, places.into_iter().flatten().collect()))
    }

    fn place(&self, id: ChunkId, offset: u64) -> Option<ChunkPlace> {
        let chunk = self.chunks.get(id)?;
        Some(ChunkPlace {
            id,
            generation: chunk.generation,
            offset,
            length: chunk.length,
            checksum: chunk.checksum,
            copies: chunk.copies.iter().map(|(n, s)| (*n, *s)).collect(),
        })
    }

    /// What a chunk server that has `inventory` on its disk (chunk and generation) has to do.
    pub fn duties(
        &self,
        node: NodeId,
        inventory: &BTreeSet<(ChunkId, u32)>,
        count_max: usize,
    ) -> Duties {
        let state = |id: &ChunkId| {
            Some((
                self.chunks.get(*id)?,
                self.chunks.get(*id)?.copies.get(&node)?,
            ))
        };
        let is_needed = |id: &ChunkId, generation: u32| match state(id) {
            Some((chunk, _)) => chunk.generation == generation,
            // A writer's chunk comes to the disk before it is committed; one of a writer that this replica
            // has not heard of yet, too.
            None => {
                self.chunks.get(*id).is_none()
                    && (id.write > self.last_write || self.writes.get(id.write).is_some())
            }
        };
        let mut duties = Duties::default();
        for (id, generation) in inventory {
            if !is_needed(id, *generation) && duties.remove.len() < count_max {
                duties.remove.push((*id, *generation));
            }
        }
        for id in self.held.get(&node).into_iter().flatten() {
            let Some((chunk, state)) = state(id) else {
                continue;
            };
            let is_here = inventory.contains(&(*id, chunk.generation));
            match state {
                CopyState::Making { .. } if duties.make.len() < count_max => {
                    duties.make.extend(self.place(*id, 0));
                }
                CopyState::Good | CopyState::Corrupt
                    if !is_here && duties.lost.len() < count_max =>
                {
                    duties.lost.push((*id, chunk.generation));
                }
                CopyState::Corrupt if is_here && duties.suspect.len() < count_max => {
                    duties.suspect.push((*id, chunk.generation));
                }
                _ => {}
            }
        }
        duties
    }

    /// True when a node that is to leave holds nothing that others lack: each of its good copies has as many
    /// others as wanted, or as there are nodes for.
    pub fn can_release(&self, node: NodeId, members: &BTreeMap<NodeId, NodeView>) -> bool {
        let stays = |n: &NodeId| members.get(n).is_some_and(NodeView::stays);
        let places = members.keys().filter(|n| stays(n)).count();
        let held = self.held.get(&node).into_iter().flatten();
        held.filter_map(|id| self.chunks.get(*id)).all(|chunk| {
            chunk.copies.get(&node) != Some(&CopyState::Good)
                || chunk.good().filter(stays).count() >= usize::from(chunk.wanted).min(places)
        })
    }

    /// How the chunks are, seen from where `members` are seen.
    pub fn health(&self, members: &BTreeMap<NodeId, NodeView>, faults_max: usize) -> Health {
        let is_file = |row: &&super::row::Inode| matches!(row.kind, Kind::File(_));
        let files = self.inodes.rows().values().filter(is_file).count();
        let mut health = Health {
            files: files as u64,
            directories: (self.inodes.len() - files + 1) as u64,
            chunks: self.chunks.len() as u64,
            writers: self.writes.len() as u64,
            held: (self.held.iter())
                .map(|(node, chunks)| (*node, chunks.len() as u64))
                .collect(),
            ..Health::default()
        };
        let is_up = |node: &NodeId| members.get(node).is_some_and(NodeView::is_heard);
        let silent = (self.held.iter()).filter(|(node, _)| !is_up(node));
        let mut looked_at = self.unsettled.clone();
        looked_at.extend(silent.flat_map(|(_, chunks)| chunks));
        for id in looked_at {
            let Some(chunk) = self.chunks.get(id) else {
                continue;
            };
            if self.is_removed(chunk.inode) {
                continue;
            }
            let mut fault = Fault {
                path: self.path_of(chunk.inode),
                chunk: id,
                wanted: chunk.wanted,
                good: Vec::new(),
                unreachable: Vec::new(),
                corrupt: Vec::new(),
                making: Vec::new(),
            };
            for (node, state) in &chunk.copies {
                match state {
                    CopyState::Good if is_up(node) => fault.good.push(*node),
                    CopyState::Good => fault.unreachable.push(*node),
                    CopyState::Corrupt => fault.corrupt.push(*node),
                    CopyState::Making { .. } => fault.making.push(*node),
                }
            }
            let good = fault.good.len();
            health.missing += u64::from(good == 0 && fault.unreachable.is_empty());
            health.unreachable += u64::from(good == 0 && !fault.unreachable.is_empty());
            health.short += u64::from(good < usize::from(chunk.wanted));
            health.corrupt += fault.corrupt.len() as u64;
            health.making += fault.making.len() as u64;
            let is_fault = good < usize::from(chunk.wanted)
                || !fault.corrupt.is_empty()
                || !fault.making.is_empty();
            if is_fault && health.faults.len() < faults_max {
                health.faults.push(fault);
            }
        }
        health
    }

    /// Nodes that have copies, or are to get some.
    pub fn holders(&self) -> impl Iterator<Item = NodeId> {
        self.held.keys().copied()
    }

    /// Chunks that a node has, or is to get.
    pub fn held_by(&self, node: NodeId) -> usize {
        self.held.get(&node).map_or(0, |chunks| chunks.len())
    }

    /// Files and directories, chunks, and writers.
    pub fn counts(&self) -> (usize, usize, usize) {
        (self.inodes.len(), self.chunks.len(), self.writes.len())
    }

    /// Where the file of a writer at work is.
    pub fn path_of_write(&self, write: WriteId) -> Option<String> {
        let inode = self.writes.get(write)?.inode;
        (!self.is_removed(inode)).then(|| self.path_of(inode))
    }

    /// Everything below a path, added up, or `None` where it is more than `rows_max` names.
    pub fn summary(&self, path: &str, rows_max: usize) -> Result<Option<Summary>, Refusal> {
        let start = self.find(&check_path(path)?)?;
        self.stat_of(start)?;
        let mut found = Summary::default();
        let mut open = vec![start];
        let mut rows = 0;
        while let Some(inode) = open.pop() {
            rows += 1;
            if rows > rows_max {
                return Ok(None);
            }
            match self.content(inode) {
                Some(content) if content.is_closed => {
                    found.files += 1;
                    found.length += content.length;
                    found.space += content.length * u64::from(content.wanted);
                }
                Some(_) => {}
                None => {
                    found.directories += 1;
                    open.extend(self.children_of(inode).map(|(_, child)| child));
                }
            }
        }
        Ok(Some(found))
    }

    fn path_of(&self, inode: InodeId) -> String {
        let mut names = Vec::new();
        let mut at = inode;
        while at != ROOT && at != LIMBO {
            let Some(row) = self.inodes.get(at) else {
                break;
            };
            names.push(row.name.as_str());
            at = row.parent;
        }
        names.reverse();
        format!("/{}", names.join("/"))
    }
}
