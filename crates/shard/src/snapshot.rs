//! The file of a snapshot: a sequence of checksummed records, the same on disk and between nodes.
//!
//! Record: kind (1 byte), length (u32), CRC-32 of kind and payload (u32), payload. One header (which
//! shard, which cut), chunks as the machine made them, one end (how many chunks, the digest at the cut).

use base::{DecodeError, LogIndex, Reader, ShardId, Term, Writer};
use bytes::{Buf, BytesMut};
use replication::raft::Membership;

const MAGIC: u32 = 0x414c_534e; // "ALSN"
const VERSION: u8 = 1;
/// No record is longer; a machine's chunk is far below.
const RECORD_BYTES_MAX: usize = 64 << 20;
const PREFIX_BYTES: usize = 9;

/// Which cut a file holds.
#[derive(Clone, PartialEq, Debug)]
pub struct Header {
    /// Of which shard.
    pub shard: ShardId,
    /// The last entry in it.
    pub index: LogIndex,
    /// Its term.
    pub term: Term,
    /// The machine version there.
    pub version: u16,
    /// Members at the cut.
    pub membership: Membership,
}

/// A record that was read.
#[derive(Clone, PartialEq, Debug)]
pub enum Record {
    /// The first.
    Header(Header),
    /// For the machine.
    Chunk(Vec<u8>),
    /// The last.
    End {
        /// Chunks there must have been.
        chunks: u32,
        /// The machine's digest at the cut.
        digest: u64,
    },
}

impl Record {
    /// Appends the byte form.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut w = Writer::new();
        let kind = match self {
            Self::Header(h) => {
                w.u32(MAGIC).u8(VERSION).u64(h.shard.0);
                w.u64(h.index).u64(h.term).u16(h.version);
                h.membership.encode(&mut w);
                1
            }
            Self::Chunk(bytes) => {
                w.raw(bytes);
                2
            }
            Self::End { chunks, digest } => {
                w.u32(*chunks).u64(*digest);
                3
            }
        };
        let mut prefix = Writer::new();
        prefix.u8(kind).u32(w.len() as u32);
        prefix.u32(checksum(kind, w.as_slice()));
        out.extend_from_slice(prefix.as_slice());
        out.extend_from_slice(w.as_slice());
    }

    fn decode(kind: u8, payload: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(payload);
        let record = match kind {
            1 => {
                if r.u32()? != MAGIC || r.u8()? != VERSION {
                    return Err(DecodeError::Invalid("snapshot format"));
                }
                Self::Header(Header {
                    shard: ShardId(r.u64()?),
                    index: r.u64()?,
                    term: r.u64()?,
                    version: r.u16()?,
                    membership: Membership::decode(&mut r)?,
                })
            }
            2 => return Ok(Self::Chunk(payload.to_vec())),
            3 => Self::End {
                chunks: r.u32()?,
                digest: r.u64()?,
            },
            _ => return Err(DecodeError::Invalid("snapshot record")),
        };
        r.finish()?;
        Ok(record)
    }
}

fn checksum(kind: u8, payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&[kind]);
    hasher.update(payload);
    hasher.finalize()
}

/// Reads records from pieces of a file of any size.
#[derive(Debug, Default)]
pub struct RecordReader {
    buffer: BytesMut,
}

impl RecordReader {
    /// Adds the next bytes.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole record.
    pub fn poll(&mut self) -> Result<Option<Record>, String> {
        if self.buffer.len() < PREFIX_BYTES {
            return Ok(None);
        }
        let mut r = Reader::new(&self.buffer);
        let (kind, length, sum) = (
            r.u8().expect("length was checked"),
            r.u32().expect("length was checked") as usize,
            r.u32().expect("length was checked"),
        );
        if length > RECORD_BYTES_MAX {
            return Err(format!("a snapshot record claims {length} bytes"));
        }
        if self.buffer.len() < PREFIX_BYTES + length {
            return Ok(None);
        }
        self.buffer.advance(PREFIX_BYTES);
        let payload = self.buffer.split_to(length);
        if checksum(kind, &payload) != sum {
            return Err("a snapshot record's checksum does not match".into());
        }
        Record::decode(kind, &payload)
            .map(Some)
            .map_err(|e| format!("a snapshot record cannot be read: {e}"))
    }

    /// Bytes that are not yet a whole record.
    pub fn left_over(&self) -> usize {
        self.buffer.len()
    }
}

/// Restores a machine from a file's bytes, piece by piece.
#[derive(Debug)]
pub struct Restorer {
    shard: ShardId,
    /// Machine versions up to this can be restored.
    known: u16,
    reader: RecordReader,
    machine: crate::ShardMachine,
    header: Option<Header>,
    chunks: u32,
    done: bool,
}

impl Restorer {
    /// Nothing fed yet.
    pub fn new(shard: ShardId, known: u16) -> Self {
        Self {
            shard,
            known,
            reader: RecordReader::default(),
            machine: crate::ShardMachine::empty(shard),
            header: None,
            chunks: 0,
            done: false,
        }
    }

    /// Takes the next bytes of the file.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.reader.feed(bytes);
        while let Some(record) = self.reader.poll()? {
            if self.done {
                return Err("a snapshot has records behind its end".into());
            }
            match (record, &self.header) {
                (Record::Header(h), None) if h.version > self.known => {
                    return Err(crate::version::unknown(h.version, self.known));
                }
                (Record::Header(h), None) if h.shard == self.shard => self.header = Some(h),
                (Record::Chunk(bytes), Some(_)) => {
                    self.machine.restore(&bytes)?;
                    self.chunks += 1;
                }
                (Record::End { chunks, digest }, Some(_)) => {
                    if chunks != self.chunks {
                        return Err(format!(
                            "a snapshot has {} chunks, its end says {chunks}",
                            self.chunks
                        ));
                    }
                    self.machine.finish_restore()?;
                    if self.machine.digest() != digest {
                        return Err("the restored state's digest is not the snapshot's".into());
                    }
                    self.done = true;
                }
                _ => return Err("a snapshot's records are out of order".into()),
            }
        }
        Ok(())
    }

    /// The restored machine and its cut; an error when the file ended early.
    pub fn finish(self) -> Result<(crate::ShardMachine, Header), String> {
        match self.header {
            Some(header) if self.done && self.reader.left_over() == 0 => Ok((self.machine, header)),
            _ => Err("a snapshot ends before its end record".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::{NodeId, ReplicaId, SnapshotPoll};
    use catalog::META_SHARD;

    fn file() -> Vec<u8> {
        let mut machine = crate::ShardMachine::empty(META_SHARD);
        let mut out = Vec::new();
        Record::Header(Header {
            shard: META_SHARD,
            index: 5,
            term: 2,
            version: 1,
            membership: Membership::single(replication::raft::Replica {
                id: ReplicaId(1),
                node: NodeId(1),
                address: "a:1".into(),
            }),
        })
        .encode(&mut out);
        machine.begin_snapshot();
        let mut chunks = 0;
        while let SnapshotPoll::Chunk(bytes) = machine.poll_snapshot(100) {
            Record::Chunk(bytes).encode(&mut out);
            chunks += 1;
        }
        let digest = machine.digest();
        Record::End { chunks, digest }.encode(&mut out);
        out
    }

    #[test]
    fn file_fed_in_any_pieces_restores() {
        let file = file();
        for size in [1, 7, file.len()] {
            let mut restorer = Restorer::new(META_SHARD, 1);
            for piece in file.chunks(size) {
                restorer.feed(piece).unwrap();
            }
            let (_, header) = restorer.finish().unwrap();
            assert_eq!((header.index, header.term), (5, 2));
        }
    }

    #[test]
    fn snapshot_of_a_later_machine_version_is_refused_in_words() {
        let refused = Restorer::new(META_SHARD, 0).feed(&file()).unwrap_err();
        assert!(refused.contains("upgrade this node"), "{refused}");
    }

    #[test]
    fn any_flipped_bit_or_cut_is_refused() {
        let file = file();
        for at in 0..file.len() {
            for bit in 0..8 {
                let mut bad = file.clone();
                bad[at] ^= 1 << bit;
                let mut restorer = Restorer::new(META_SHARD, 1);
                let fed = restorer.feed(&bad);
                assert!(fed.is_err() || restorer.finish().is_err(), "byte {at}");
            }
            let mut restorer = Restorer::new(META_SHARD, 1);
            restorer.feed(&file[..at]).unwrap();
            assert!(restorer.finish().is_err());
        }
    }
}
