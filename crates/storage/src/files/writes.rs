//! Writers: one at a file, under a lease (GFS §3.1), and all or nothing of what they write.

use super::command::{ChunkId, NewChunk, WriteId, WriteMode};
use super::machine::Files;
use super::names::{check_path, chunks_of};
use super::reply::{Refusal, Reply};
use super::row::{Chunk, Content, CopyState, InodeId, Kind, Part, Write};
use super::{CHUNK_BYTES_MAX, CHUNKS_MAX, COPIES_MAX, INODES_MAX, LEASE_MS_MAX, WRITES_MAX};
use base::planted::{Bug, planted};

impl Files {
    pub(super) fn begin(
        &mut self,
        path: &str,
        mode: WriteMode,
        holder: u64,
        copies: u8,
        lease_ms: u32,
    ) -> Result<Reply, Refusal> {
        let names = check_path(path)?;
        let (name, above) = names.split_last().ok_or(Refusal::IsADirectory)?;
        if !(1..=COPIES_MAX).contains(&copies) {
            return Err(Refusal::OutOfRange("the number of copies"));
        }
        if holder == 0 || !(1..=LEASE_MS_MAX).contains(&lease_ms) {
            return Err(Refusal::OutOfRange("the lease"));
        }
        let there = match self.find(&names) {
            Ok(inode) => Some(inode),
            Err(Refusal::NotFound) => None,
            Err(other) => return Err(other),
        };
        let mut wanted = copies;
        if let Some(inode) = there {
            let content = self.content(inode).ok_or(Refusal::IsADirectory)?;
            let (writer, is_closed) = (content.writer, content.is_closed);
            match self.writes.get(writer) {
                Some(write) if write.holder == holder && write.mode == mode => {
                    let copies = write.copies;
                    return Ok(Reply::Begun {
                        write: writer,
                        copies,
                    });
                }
                Some(write) if write.deadline_ms >= self.time_ms => {
                    return Err(Refusal::BeingWritten);
                }
                _ => {}
            }
            match mode {
                WriteMode::Create if is_closed => return Err(Refusal::Exists),
                WriteMode::Append if !is_closed => return Err(Refusal::NotFound),
                WriteMode::Append => wanted = content.wanted,
                _ => {}
            }
        } else if mode == WriteMode::Append {
            return Err(Refusal::NotFound);
        }
        if self.writes.len() >= WRITES_MAX {
            return Err(Refusal::TooMany("writers"));
        }
        if self.inodes.len() + names.len() >= INODES_MAX {
            return Err(Refusal::TooMany("files and directories"));
        }
        let writer = there
            .and_then(|inode| self.content(inode))
            .map(|c| c.writer);
        if let Some(writer) = writer.filter(|writer| *writer != 0) {
            // Its lease has ended.
            self.end_write(writer);
        }
        // One that was never closed went with its writer.
        let inode = match self.find(&names) {
            Ok(inode) => inode,
            Err(_) => {
                let parent = self.make_path(above)?;
                self.add(parent, (*name).to_owned(), Kind::File(Content::default()))
            }
        };
        self.last_write += 1;
        let id = self.last_write;
        self.change_content(inode, |content| content.writer = id);
        let write = Write {
            inode,
            mode,
            holder,
            copies: wanted,
            lease_ms,
            deadline_ms: self.time_ms.saturating_add(i64::from(lease_ms)),
            chunks: 0,
            length: 0,
        };
        self.writes.put(id, write);
        Ok(Reply::Begun {
            write: id,
            copies: wanted,
        })
    }

    /// A write that may go on: not ended, and its file not removed.
    fn under_way(&self, write: WriteId) -> Result<&Write, Refusal> {
        let found = self.writes.get(write).ok_or(Refusal::NoSuchWrite)?;
        if self.is_removed(found.inode) {
            return Err(Refusal::NoSuchWrite);
        }
        Ok(found)
    }

    fn extend_lease(&mut self, write: WriteId) {
        let time_ms = self.time_ms;
        self.writes.change(write, |write| {
            write.deadline_ms = time_ms.saturating_add(i64::from(write.lease_ms));
        });
    }

    pub(super) fn renew(&mut self, write: WriteId) -> Result<Reply, Refusal> {
        self.under_way(write)?;
        self.extend_lease(write);
        Ok(Reply::Done)
    }

    pub(super) fn commit(&mut self, id: ChunkId, new: &NewChunk) -> Result<Reply, Refusal> {
        let write = match self.under_way(id.write) {
            Ok(write) => write.clone(),
            Err(_) if planted(Bug::CommitWithoutLease) => return self.commit_late(id, new),
            Err(refusal) => return Err(refusal),
        };
        if !(1..=CHUNK_BYTES_MAX).contains(&new.length) {
            return Err(Refusal::OutOfRange("the length of a chunk"));
        }
        if new.copies.is_empty() || new.copies.len() > usize::from(COPIES_MAX) {
            return Err(Refusal::OutOfRange("the number of copies"));
        }
        if id.number != write.chunks {
            let again = self.chunks.get(id).is_some_and(|chunk| {
                chunk.generation == new.generation && chunk.checksum == new.checksum
            });
            return if again {
                Ok(Reply::Done)
            } else {
                Err(Refusal::OutOfOrder)
            };
        }
        if self.chunks.len() >= CHUNKS_MAX {
            return Err(Refusal::TooMany("chunks"));
        }
        let chunk = Chunk {
            inode: write.inode,
            generation: new.generation,
            length: new.length,
            checksum: new.checksum,
            wanted: write.copies,
            copies: new.copies.iter().map(|n| (*n, CopyState::Good)).collect(),
        };
        self.put_chunk(id, Some(chunk));
        self.writes.change(id.write, |write| {
            write.chunks += 1;
            write.length += u64::from(new.length);
        });
        self.extend_lease(id.write);
        Ok(Reply::Done)
    }

    /// What a machine without fencing would do: the chunk of a writer that has ended becomes part of whatever
    /// the last file closed is.
    fn commit_late(&mut self, id: ChunkId, new: &NewChunk) -> Result<Reply, Refusal> {
        let last = (self.inodes.rows().iter())
            .filter(|(inode, _)| !self.is_removed(**inode))
            .filter(|(_, row)| matches!(&row.kind, Kind::File(content) if content.is_closed))
            .map(|(inode, _)| *inode)
            .next_back();
        let inode = last.ok_or(Refusal::NoSuchWrite)?;
        if self.chunks.get(id).is_some() || id.number != 0 {
            return Err(Refusal::NoSuchWrite);
        }
        let copies = new.copies.iter().map(|n| (*n, CopyState::Good)).collect();
        let chunk = Chunk {
            inode,
            generation: new.generation,
            length: new.length,
            checksum: new.checksum,
            wanted: 1,
            copies,
        };
        self.put_chunk(id, Some(chunk));
        self.change_content(inode, |content| {
            content.length += u64::from(new.length);
            content.parts.push(Part {
                write: id.write,
                chunks: 1,
            });
        });
        Ok(Reply::Done)
    }

    pub(super) fn close(&mut self, id: WriteId) -> Result<Reply, Refusal> {
        let write = match self.under_way(id) {
            Ok(write) => write.clone(),
            Err(refusal) => {
                // The answer to the first asking may have been lost.
                let first = self.chunks.get(ChunkId {
                    write: id,
                    number: 0,
                });
                let inode = first
                    .map(|chunk| chunk.inode)
                    .filter(|at| !self.is_removed(*at));
                let content = inode.and_then(|inode| self.content(inode));
                let again = content.is_some_and(|c| c.parts.iter().any(|part| part.write == id));
                return if again { Ok(Reply::Done) } else { Err(refusal) };
            }
        };
        let part = Part {
            write: id,
            chunks: write.chunks,
        };
        self.writes.remove(id);
        self.touch(write.inode);
        let old = self.change_content(write.inode, |content| {
            let old = match write.mode {
                WriteMode::Append => Vec::new(),
                WriteMode::Create | WriteMode::Replace => {
                    content.length = 0;
                    content.wanted = write.copies;
                    std::mem::take(&mut content.parts)
                }
            };
            if part.chunks > 0 {
                content.parts.push(part);
            }
            content.length += write.length;
            content.is_closed = true;
            content.writer = 0;
            old
        });
        self.discard(old.unwrap_or_default());
        Ok(Reply::Done)
    }

    pub(super) fn abandon(&mut self, write: WriteId) -> Result<Reply, Refusal> {
        self.under_way(write)?;
        self.end_write(write);
        Ok(Reply::Done)
    }

    pub(super) fn expire(&mut self, write: WriteId, deadline_ms: i64) -> Result<Reply, Refusal> {
        let found = self.writes.get(write).ok_or(Refusal::NoSuchWrite)?;
        if found.deadline_ms == deadline_ms && deadline_ms < self.time_ms {
            self.end_write(write);
        }
        Ok(Reply::Done)
    }

    /// Writers whose lease has ended, with when.
    pub fn expired(&self, time_ms: i64, count_max: usize) -> Vec<(WriteId, i64)> {
        (self.writes.rows().iter())
            .filter(|(_, write)| write.deadline_ms < time_ms)
            .map(|(id, write)| (*id, write.deadline_ms))
            .take(count_max)
            .collect()
    }

    /// Ends a write without a trace of it.
    fn end_write(&mut self, id: WriteId) {
        let Some(write) = self.writes.remove(id) else {
            return;
        };
        let part = Part {
            write: id,
            chunks: write.chunks,
        };
        let was_new = self.change_content(write.inode, |content| {
            content.writer = 0;
            if content.is_closed {
                return false;
            }
            content.parts.push(part);
            true
        });
        match was_new {
            Some(true) => self.remove(write.inode),
            _ => self.discard(vec![part]),
        }
    }

    /// The chunks of a file, in order, with where each begins.
    pub(super) fn chunks_in(&self, inode: InodeId) -> impl Iterator<Item = (ChunkId, &Chunk)> {
        let parts = self.content(inode).map(|content| &content.parts[..]);
        (parts.unwrap_or_default().iter())
            .flat_map(chunks_of)
            .filter_map(|id| Some((id, self.chunks.get(id)?)))
    }
}
