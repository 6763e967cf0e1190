//! What may be asked of the files' machine, and its byte form.

use super::row::Row;
use base::{DecodeError, NodeId, Origin, Reader, Writer};
use bytes::Bytes;
use std::fmt;

/// One writer's turn at one file. Never used twice.
pub type WriteId = u64;

/// A chunk: the writer that made it, and its number among what that one wrote, from 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash, Default)]
pub struct ChunkId {
    /// Who wrote it.
    pub write: WriteId,
    /// Which of its chunks.
    pub number: u32,
}

impl fmt::Display for ChunkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}-{:x}", self.write, self.number)
    }
}

/// One replicated unit: a command and who waits for its answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unit {
    /// Who waits; the default when nobody does, and then no reply is told.
    pub origin: Origin,
    /// What to do.
    pub command: Command,
}

/// What a writer wants to do with a name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WriteMode {
    /// A new file; refused where one is.
    Create,
    /// The content of a file that may be there. Readers see the old one until the new one is whole.
    Replace,
    /// More at the end of a file that is there.
    Append,
}

/// A chunk as its writer commits it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewChunk {
    /// Which attempt at writing it this is, from 1: copies of others are no copies of it.
    pub generation: u32,
    /// Its bytes.
    pub length: u32,
    /// CRC32C of them all.
    pub checksum: u32,
    /// The nodes that have it on disk, at least one.
    pub copies: Vec<NodeId>,
}

/// What became of a copy, or what shall.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CopyChange {
    /// The shard's leader wants the node to make a copy.
    Make {
        /// Of which chunk.
        chunk: ChunkId,
        /// Where.
        node: NodeId,
    },
    /// The node has it, read back and checked.
    Made {
        /// Which chunk.
        chunk: ChunkId,
        /// Of which generation.
        generation: u32,
        /// Where.
        node: NodeId,
    },
    /// A reader, or the node itself, found that the copy's checksum is wrong.
    Corrupt {
        /// Which chunk.
        chunk: ChunkId,
        /// Of which generation.
        generation: u32,
        /// Where.
        node: NodeId,
    },
    /// The node has no such copy, or shall not make it after all.
    Lost {
        /// Which chunk.
        chunk: ChunkId,
        /// Where.
        node: NodeId,
    },
    /// There are enough without it. Refused unless as many others as wanted are good.
    Surplus {
        /// Which chunk.
        chunk: ChunkId,
        /// Where.
        node: NodeId,
    },
    /// The node has left the cluster, with all its copies.
    Gone {
        /// Which.
        node: NodeId,
    },
}

/// Everything that the log may hold for this machine. Paths are absolute.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Command {
    /// Makes a directory, and those above it. One that is there is left as it is.
    MakeDirectory {
        /// Where.
        path: String,
    },
    /// Removes a file or a directory.
    Delete {
        /// Which.
        path: String,
        /// A directory may have something in it.
        recursive: bool,
    },
    /// Gives a file or directory another name. A target that is a directory takes it in.
    Rename {
        /// Which.
        from: String,
        /// Where to.
        to: String,
    },
    /// How many copies there shall be of a file's chunks.
    SetWanted {
        /// Which file.
        path: String,
        /// From 1 to [`super::COPIES_MAX`].
        copies: u8,
    },
    /// A writer begins. The same holder asking again is told the same.
    Begin {
        /// Which file; directories above it are made.
        path: String,
        /// What for.
        mode: WriteMode,
        /// Drawn by the writer, not 0.
        holder: u64,
        /// Copies of its chunks, from 1 to [`super::COPIES_MAX`].
        copies: u8,
        /// Its lease, in milliseconds, up to [`super::LEASE_MS_MAX`].
        lease_ms: u32,
    },
    /// A writer needs more time.
    Renew {
        /// Whose.
        write: WriteId,
    },
    /// A writer's next chunk is on disk. Renews the lease.
    Commit {
        /// Whose, and its number.
        chunk: ChunkId,
        /// The rest.
        new: NewChunk,
    },
    /// The writer is done: readers see what it wrote. Asking again is harmless.
    Close {
        /// Whose.
        write: WriteId,
    },
    /// The writer gives up.
    Abandon {
        /// Whose.
        write: WriteId,
    },
    /// The shard's leader found a lease at its end. Does nothing if it was renewed meanwhile.
    Expire {
        /// Whose.
        write: WriteId,
        /// When it was to end, Unix milliseconds.
        deadline_ms: i64,
    },
    /// What became of copies; each for itself.
    Copies {
        /// In order.
        changes: Vec<CopyChange>,
    },
    /// Forgets a bounded part of what was removed; the shard's leader asks again while there is more.
    Sweep,
}

impl Command {
    /// True for what adds data, and is refused where disks are nearly full.
    pub fn adds(&self) -> bool {
        matches!(
            self,
            Self::MakeDirectory { .. } | Self::Begin { .. } | Self::SetWanted { .. }
        )
    }
}

impl Unit {
    /// The byte form, as it stands in the log.
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        self.encode_into(&mut w);
        w.into_vec()
    }

    /// Appends the byte form.
    pub fn encode_into(&self, w: &mut Writer) {
        self.origin.encode_into(w);
        match &self.command {
            Command::MakeDirectory { path } => {
                w.u8(1).str(path);
            }
            Command::Delete { path, recursive } => {
                w.u8(2).str(path).bool(*recursive);
            }
            Command::Rename { from, to } => {
                w.u8(3).str(from).str(to);
            }
            Command::SetWanted { path, copies } => {
                w.u8(4).str(path).u8(*copies);
            }
            Command::Begin {
                path,
                mode,
                holder,
                copies,
                lease_ms,
            } => {
                let mode = match mode {
                    WriteMode::Create => 1,
                    WriteMode::Replace => 2,
                    WriteMode::Append => 3,
                };
                w.u8(5).str(path).u8(mode).u64(*holder);
                w.u8(*copies).u32(*lease_ms);
            }
            Command::Renew { write } => {
                w.u8(6).u64(*write);
            }
            Command::Commit { chunk, new } => {
                w.u8(7);
                chunk.encode(w);
                w.u32(new.generation).u32(new.length).u32(new.checksum);
                w.u32(new.copies.len() as u32);
                for node in &new.copies {
                    w.u64(node.0);
                }
            }
            Command::Close { write } => {
                w.u8(8).u64(*write);
            }
            Command::Abandon { write } => {
                w.u8(9).u64(*write);
            }
            Command::Expire { write, deadline_ms } => {
                w.u8(10).u64(*write).i64(*deadline_ms);
            }
            Command::Copies { changes } => {
                w.u8(11).u32(changes.len() as u32);
                for change in changes {
                    encode_change(w, change);
                }
            }
            Command::Sweep => {
                w.u8(12);
            }
        }
    }

    /// Reads the byte form; everything must be consumed.
    pub fn decode(bytes: &Bytes) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        let origin = Origin::decode_from(&mut r)?;
        let command = match r.u8()? {
            1 => Command::MakeDirectory {
                path: r.str()?.to_owned(),
            },
            2 => Command::Delete {
                path: r.str()?.to_owned(),
                recursive: r.bool()?,
            },
            3 => Command::Rename {
                from: r.str()?.to_owned(),
                to: r.str()?.to_owned(),
            },
            4 => Command::SetWanted {
                path: r.str()?.to_owned(),
                copies: r.u8()?,
            },
            5 => Command::Begin {
                path: r.str()?.to_owned(),
                mode: match r.u8()? {
                    1 => WriteMode::Create,
                    2 => WriteMode::Replace,
                    3 => WriteMode::Append,
                    _ => return Err(DecodeError::Invalid("mode of a write")),
                },
                holder: r.u64()?,
                copies: r.u8()?,
                lease_ms: r.u32()?,
            },
            6 => Command::Renew { write: r.u64()? },
            7 => Command::Commit {
                chunk: ChunkId::decode(&mut r)?,
                new: NewChunk {
                    generation: r.u32()?,
                    length: r.u32()?,
                    checksum: r.u32()?,
                    copies: (0..r.count(8)?)
                        .map(|_| Ok(NodeId(r.u64()?)))
                        .collect::<Result<_, DecodeError>>()?,
                },
            },
            8 => Command::Close { write: r.u64()? },
            9 => Command::Abandon { write: r.u64()? },
            10 => Command::Expire {
                write: r.u64()?,
                deadline_ms: r.i64()?,
            },
            11 => Command::Copies {
                changes: (0..r.count(9)?)
                    .map(|_| decode_change(&mut r))
                    .collect::<Result<_, DecodeError>>()?,
            },
            12 => Command::Sweep,
            _ => return Err(DecodeError::Invalid("files command")),
        };
        r.finish()?;
        Ok(Self { origin, command })
    }
}

fn encode_change(w: &mut Writer, change: &CopyChange) {
    let mut chunk_at = |number: u8, chunk: &ChunkId, node: &NodeId| {
        w.u8(number).u64(node.0);
        chunk.encode(w);
    };
    match change {
        CopyChange::Make { chunk, node } => chunk_at(1, chunk, node),
        CopyChange::Made {
            chunk,
            generation,
            node,
        } => {
            chunk_at(2, chunk, node);
            w.u32(*generation);
        }
        CopyChange::Corrupt {
            chunk,
            generation,
            node,
        } => {
            chunk_at(3, chunk, node);
            w.u32(*generation);
        }
        CopyChange::Lost { chunk, node } => chunk_at(4, chunk, node),
        CopyChange::Surplus { chunk, node } => chunk_at(5, chunk, node),
        CopyChange::Gone { node } => {
            w.u8(6).u64(node.0);
        }
    }
}

fn decode_change(r: &mut Reader<'_>) -> Result<CopyChange, DecodeError> {
    let (kind, node) = (r.u8()?, NodeId(r.u64()?));
    if kind == 6 {
        return Ok(CopyChange::Gone { node });
    }
    let chunk = ChunkId::decode(r)?;
    Ok(match kind {
        1 => CopyChange::Make { chunk, node },
        2 => CopyChange::Made {
            chunk,
            generation: r.u32()?,
            node,
        },
        3 => CopyChange::Corrupt {
            chunk,
            generation: r.u32()?,
            node,
        },
        4 => CopyChange::Lost { chunk, node },
        5 => CopyChange::Surplus { chunk, node },
        _ => return Err(DecodeError::Invalid("change of a copy")),
    })
}
