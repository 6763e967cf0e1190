//! The snapshot of the files, and reading it back.
//!
//! Pieces of rows, table by table. The first piece says what the whole must be; a machine that was never used
//! has none at all, so that versions without files can read it.

use super::command::ChunkId;
use super::machine::Files;
use super::row::{Chunk, Inode, InodeId, LIMBO, ROOT, Row, Write};
use base::{Reader, SnapshotPoll, State, Writer, chunk};

/// Version of the form.
const FORMAT: u16 = 1;

/// What a piece holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Section {
    Head = 0,
    Inodes = 1,
    Chunks = 2,
    Writes = 3,
}

/// A cut under way.
#[derive(Clone, Debug)]
pub(super) struct Cut {
    section: Section,
    head: Vec<u8>,
    number: u32,
}

/// A restore under way.
#[derive(Debug, Default)]
pub(super) struct Restoring {
    files: Files,
    digest: Option<u64>,
    number: u32,
}

impl Files {
    pub(super) fn begin_cut(&mut self) {
        if self.last_inode == LIMBO.0 {
            return;
        }
        let mut w = Writer::new();
        w.u64(self.last_inode).u64(self.last_write);
        w.i64(self.time_ms).u64(self.digest());
        self.cut = Some(Cut {
            section: Section::Head,
            head: w.into_vec(),
            number: 0,
        });
        self.inodes.begin_cut();
        self.chunks.begin_cut();
        self.writes.begin_cut();
    }

    pub(super) fn abort_cut(&mut self) {
        self.cut = None;
        self.inodes.abort_cut();
        self.chunks.abort_cut();
        self.writes.abort_cut();
    }

    pub(super) fn poll_cut(&mut self, bytes_max: usize) -> SnapshotPoll {
        let Some(mut cut) = self.cut.take() else {
            return SnapshotPoll::Done;
        };
        let mut w = Writer::new();
        chunk::begin(&mut w, FORMAT, cut.number);
        let begun = w.len();
        loop {
            let at = w.len();
            w.u8(cut.section as u8);
            let more = match cut.section {
                Section::Head => {
                    w.raw(&cut.head);
                    cut.section = Section::Inodes;
                    continue;
                }
                Section::Inodes => put(&mut w, self.inodes.poll_cut()),
                Section::Chunks => put(&mut w, self.chunks.poll_cut()),
                Section::Writes => put(&mut w, self.writes.poll_cut()),
            };
            if !more {
                let mut whole = w.into_vec();
                whole.truncate(at);
                w = Writer::from_vec(whole);
                cut.section = match cut.section {
                    Section::Head | Section::Inodes => Section::Chunks,
                    Section::Chunks => Section::Writes,
                    Section::Writes if w.len() == begun => return SnapshotPoll::Done,
                    Section::Writes => {
                        // Nothing is left: the next poll says so.
                        return SnapshotPoll::Chunk(w.into_vec());
                    }
                };
            } else if w.len() >= bytes_max {
                cut.number += 1;
                self.cut = Some(cut);
                return SnapshotPoll::Chunk(w.into_vec());
            }
        }
    }

    pub(super) fn feed(&mut self, piece: &[u8]) -> Result<(), String> {
        let restoring = self.restoring.get_or_insert_default();
        let fault = |e: base::DecodeError| format!("a piece of files: {e}; take another snapshot");
        let mut r = chunk::open(piece, FORMAT, restoring.number)?;
        restoring.number += 1;
        while !r.is_empty() {
            restoring.row(&mut r).map_err(fault)?;
        }
        Ok(())
    }

    pub(super) fn finish_feeding(&mut self) -> Result<(), String> {
        let Some(restoring) = self.restoring.take() else {
            return Ok(());
        };
        let (mut files, digest) = (restoring.files, restoring.digest);
        files.link()?;
        if Some(files.digest()) != digest {
            return Err(
                "what was restored of files has another digest; take another snapshot".into(),
            );
        }
        *self = files;
        Ok(())
    }

    /// Makes what follows from the tables.
    fn link(&mut self) -> Result<(), String> {
        let twisted = |what: String| Err(format!("{what}; take another snapshot"));
        for (inode, row) in self.inodes.rows() {
            let place = (row.parent, row.name.clone());
            let is_there = matches!(row.parent, ROOT | LIMBO) || self.is_directory(row.parent);
            if !is_there || self.children.insert(place, *inode).is_some() {
                return twisted(format!("inode {:x} has no place of its own", inode.0));
            }
        }
        let chunks: Vec<(ChunkId, Chunk)> = (self.chunks.rows().iter())
            .map(|(id, chunk)| (*id, chunk.clone()))
            .collect();
        for (id, chunk) in chunks {
            self.index_chunk(id, &chunk);
        }
        Ok(())
    }
}

fn put<K: Row, V: Row>(w: &mut Writer, row: Option<(K, V)>) -> bool {
    let Some((key, value)) = row else {
        return false;
    };
    key.encode(w);
    value.encode(w);
    true
}

impl Restoring {
    fn row(&mut self, r: &mut Reader<'_>) -> Result<(), base::DecodeError> {
        let files = &mut self.files;
        match r.u8()? {
            0 => {
                files.last_inode = r.u64()?;
                files.last_write = r.u64()?;
                files.time_ms = r.i64()?;
                self.digest = Some(r.u64()?);
            }
            1 => files.inodes.put(InodeId::decode(r)?, Inode::decode(r)?),
            2 => files.chunks.put(ChunkId::decode(r)?, Chunk::decode(r)?),
            3 => files.writes.put(u64::decode(r)?, Write::decode(r)?),
            _ => return Err(base::DecodeError::Invalid("section")),
        }
        Ok(())
    }
}
