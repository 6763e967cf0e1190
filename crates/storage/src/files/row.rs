//! The rows of the files' tables, and their byte forms.

use super::command::{ChunkId, WriteId, WriteMode};
use base::{DecodeError, NodeId, Reader, Writer};
use std::collections::BTreeMap;

/// Whatever a table's key or value is.
pub(super) trait Row: Sized {
    fn encode(&self, w: &mut Writer);
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError>;
}

/// A directory or a file.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct InodeId(pub u64);

/// The root, which is there always and is no row.
pub(super) const ROOT: InodeId = InodeId(1);
/// The directory of what was removed and is not swept yet. No path leads there, and it is no row.
pub(super) const LIMBO: InodeId = InodeId(2);

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Inode {
    /// The directory that it is in.
    pub parent: InodeId,
    pub name: String,
    /// Unix milliseconds of the last change, by the leaders' stamps.
    pub modified_ms: i64,
    pub kind: Kind,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Directory,
    File(Content),
}

/// A file's content. One that was never closed is not there yet for anybody but its writer.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Content {
    /// What closed writers left, in order.
    pub parts: Vec<Part>,
    pub length: u64,
    pub wanted: u8,
    pub is_closed: bool,
    /// Who writes now; 0: nobody.
    pub writer: WriteId,
}

/// What one writer left in a file: its chunks from 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Part {
    pub write: WriteId,
    pub chunks: u32,
}

/// A writer at work.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Write {
    pub inode: InodeId,
    pub mode: WriteMode,
    pub holder: u64,
    pub copies: u8,
    pub lease_ms: u32,
    pub deadline_ms: i64,
    /// Chunks committed, and their bytes.
    pub chunks: u32,
    pub length: u64,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Chunk {
    /// The file that it is of.
    pub inode: InodeId,
    pub generation: u32,
    pub length: u32,
    pub checksum: u32,
    pub wanted: u8,
    pub copies: BTreeMap<NodeId, CopyState>,
}

/// How a copy is, as far as is known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CopyState {
    /// The node is to make it.
    Making {
        /// Since when, Unix milliseconds.
        since_ms: i64,
    },
    /// On disk.
    Good,
    /// On disk, with a wrong checksum.
    Corrupt,
}

impl Chunk {
    pub fn good(&self) -> impl Iterator<Item = NodeId> {
        let is_good = |(_, state): &(&NodeId, &CopyState)| **state == CopyState::Good;
        self.copies.iter().filter(is_good).map(|(node, _)| *node)
    }

    /// True when there is nothing to do: as many copies as wanted, all good.
    pub fn is_settled(&self) -> bool {
        self.copies.len() == usize::from(self.wanted)
            && self.copies.values().all(|state| *state == CopyState::Good)
    }
}

impl Row for InodeId {
    fn encode(&self, w: &mut Writer) {
        w.u64(self.0);
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self(r.u64()?))
    }
}

impl Row for u64 {
    fn encode(&self, w: &mut Writer) {
        w.u64(*self);
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        r.u64()
    }
}

impl Row for ChunkId {
    fn encode(&self, w: &mut Writer) {
        w.u64(self.write).u32(self.number);
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            write: r.u64()?,
            number: r.u32()?,
        })
    }
}

impl Row for Inode {
    fn encode(&self, w: &mut Writer) {
        w.u64(self.parent.0).str(&self.name).i64(self.modified_ms);
        match &self.kind {
            Kind::Directory => {
                w.u8(1);
            }
            Kind::File(content) => {
                w.u8(2).u64(content.length).u8(content.wanted);
                w.bool(content.is_closed).u64(content.writer);
                w.u32(content.parts.len() as u32);
                for part in &content.parts {
                    w.u64(part.write).u32(part.chunks);
                }
            }
        }
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (parent, name) = (InodeId(r.u64()?), r.str()?.to_owned());
        let modified_ms = r.i64()?;
        let kind = match r.u8()? {
            1 => Kind::Directory,
            2 => Kind::File(Content {
                length: r.u64()?,
                wanted: r.u8()?,
                is_closed: r.bool()?,
                writer: r.u64()?,
                parts: (0..r.count(12)?)
                    .map(|_| {
                        Ok(Part {
                            write: r.u64()?,
                            chunks: r.u32()?,
                        })
                    })
                    .collect::<Result<_, DecodeError>>()?,
            }),
            _ => return Err(DecodeError::Invalid("kind of an inode")),
        };
        Ok(Self {
            parent,
            name,
            modified_ms,
            kind,
        })
    }
}

impl Row for Write {
    fn encode(&self, w: &mut Writer) {
        let mode = match self.mode {
            WriteMode::Create => 1,
            WriteMode::Replace => 2,
            WriteMode::Append => 3,
        };
        w.u64(self.inode.0).u8(mode).u64(self.holder);
        w.u8(self.copies).u32(self.lease_ms).i64(self.deadline_ms);
        w.u32(self.chunks).u64(self.length);
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            inode: InodeId(r.u64()?),
            mode: match r.u8()? {
                1 => WriteMode::Create,
                2 => WriteMode::Replace,
                3 => WriteMode::Append,
                _ => return Err(DecodeError::Invalid("mode of a write")),
            },
            holder: r.u64()?,
            copies: r.u8()?,
            lease_ms: r.u32()?,
            deadline_ms: r.i64()?,
            chunks: r.u32()?,
            length: r.u64()?,
        })
    }
}

impl Row for Chunk {
    fn encode(&self, w: &mut Writer) {
        w.u64(self.inode.0).u32(self.generation).u32(self.length);
        w.u32(self.checksum).u8(self.wanted);
        w.u32(self.copies.len() as u32);
        for (node, state) in &self.copies {
            w.u64(node.0);
            match state {
                CopyState::Making { since_ms } => w.u8(1).i64(*since_ms),
                CopyState::Good => w.u8(2),
                CopyState::Corrupt => w.u8(3),
            };
        }
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            inode: InodeId(r.u64()?),
            generation: r.u32()?,
            length: r.u32()?,
            checksum: r.u32()?,
            wanted: r.u8()?,
            copies: (0..r.count(9)?)
                .map(|_| {
                    let node = NodeId(r.u64()?);
                    let state = match r.u8()? {
                        1 => CopyState::Making { since_ms: r.i64()? },
                        2 => CopyState::Good,
                        3 => CopyState::Corrupt,
                        _ => return Err(DecodeError::Invalid("state of a copy")),
                    };
                    Ok((node, state))
                })
                .collect::<Result<_, DecodeError>>()?,
        })
    }
}
