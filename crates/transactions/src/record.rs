//! A transaction under way, as its record's shard and as a participant knows it, and a table of either.

use crate::Resource;
use crate::output::{decode_option, encode_option};
use crate::unit::{Part, TxnId, Work, decode_parts, encode_parts};
use base::{DecodeError, Origin, Reader, ShardId, Stamp, Writer};
use bytes::Bytes;
use std::collections::BTreeMap;
use twox_hash::XxHash64;

/// Who waits for one transaction; an id may be asked for again.
pub(crate) const ORIGINS_MAX: usize = 8;

/// The record: what the first participant knows.
#[derive(Clone, Debug)]
pub(crate) struct Record<W> {
    /// Who waits.
    pub origins: Vec<Origin>,
    /// By what its own part was prepared, and is carried out.
    pub at: Stamp,
    pub parts: Vec<Part<W>>,
    /// Hash of what its client asked for.
    pub content: u64,
    pub phase: Phase,
}

#[derive(Clone, Debug)]
pub(crate) enum Phase {
    /// The parts before this one have promised, this one is asked.
    Preparing {
        part: usize,
        /// When, Unix milliseconds: see [`crate::Unit::Prepare`].
        asked_ms: i64,
    },
    /// It is decided. Which parts have said that they have done it, and what that yielded.
    Committed(Vec<Done>),
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Done {
    No,
    Yes(Option<Bytes>),
}

/// A promise: what another participant knows.
#[derive(Clone, Debug)]
pub(crate) struct Promise<W> {
    /// Where the record is.
    pub record: ShardId,
    /// This shard.
    pub shard: ShardId,
    /// By what it was prepared, and will be carried out.
    pub at: Stamp,
    pub work: W,
}

/// What a table holds.
pub(crate) trait Item: Sized {
    fn encode_into(&self, w: &mut Writer);
    fn decode_from(source: &Bytes, r: &mut Reader<'_>) -> Result<Self, DecodeError>;
    fn resources(&self) -> Vec<Resource>;
}

impl<W: Work> Item for Record<W> {
    fn encode_into(&self, w: &mut Writer) {
        w.u32(self.origins.len() as u32);
        for origin in &self.origins {
            origin.encode_into(w);
        }
        w.i64(self.at.time_ms).u64(self.at.seed);
        w.u64(self.content);
        encode_parts(w, &self.parts);
        match &self.phase {
            Phase::Preparing { part, asked_ms } => {
                w.u8(1).u32(*part as u32).i64(*asked_ms);
            }
            Phase::Committed(done) => {
                w.u8(2);
                for done in done {
                    w.bool(*done != Done::No);
                    if let Done::Yes(results) = done {
                        encode_option(w, results.as_ref());
                    }
                }
            }
        }
    }

    fn decode_from(source: &Bytes, r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let origins = (0..r.count(18)?)
            .map(|_| Origin::decode_from(r))
            .collect::<Result<_, _>>()?;
        let at = Stamp {
            time_ms: r.i64()?,
            seed: r.u64()?,
        };
        let content = r.u64()?;
        let parts = decode_parts(source, r)?;
        let phase = match r.u8()? {
            1 => match r.u32()? as usize {
                part if (1..parts.len()).contains(&part) => Phase::Preparing {
                    part,
                    asked_ms: r.i64()?,
                },
                _ => return Err(DecodeError::Invalid("part of a transaction")),
            },
            2 => Phase::Committed(
                (parts.iter())
                    .map(|_| {
                        Ok(match r.bool()? {
                            true => Done::Yes(decode_option(source, r)?),
                            false => Done::No,
                        })
                    })
                    .collect::<Result<_, DecodeError>>()?,
            ),
            _ => return Err(DecodeError::Invalid("phase of a transaction")),
        };
        Ok(Self {
            origins,
            at,
            content,
            parts,
            phase,
        })
    }

    /// Its own part's, until it is decided.
    fn resources(&self) -> Vec<Resource> {
        match self.phase {
            Phase::Preparing { .. } => self.parts[0].work.resources(),
            Phase::Committed(_) => Vec::new(),
        }
    }
}

impl<W: Work> Item for Promise<W> {
    fn encode_into(&self, w: &mut Writer) {
        w.u64(self.record.0).u64(self.shard.0);
        w.i64(self.at.time_ms).u64(self.at.seed);
        self.work.encode_into(w);
    }

    fn decode_from(source: &Bytes, r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            record: ShardId(r.u64()?),
            shard: ShardId(r.u64()?),
            at: Stamp {
                time_ms: r.i64()?,
                seed: r.u64()?,
            },
            work: W::decode_from(source, r)?,
        })
    }

    fn resources(&self) -> Vec<Resource> {
        self.work.resources()
    }
}

/// Items by id, and the sum of their hashes.
#[derive(Debug)]
pub(crate) struct Table<T> {
    map: BTreeMap<TxnId, T>,
    digest: u64,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self {
            map: BTreeMap::new(),
            digest: 0,
        }
    }
}

impl<T: Item> Table<T> {
    pub fn put(&mut self, id: TxnId, item: T) {
        self.remove(&id);
        self.digest = self.digest.wrapping_add(hash(&id, &item));
        self.map.insert(id, item);
    }

    pub fn remove(&mut self, id: &TxnId) -> Option<T> {
        let item = self.map.remove(id)?;
        self.digest = self.digest.wrapping_sub(hash(id, &item));
        Some(item)
    }

    pub fn get(&self, id: &TxnId) -> Option<&T> {
        self.map.get(id)
    }

    pub fn len(&self) -> usize {
        self.map.len()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&TxnId, &T)> {
        self.map.iter()
    }

    pub fn digest(&self) -> u64 {
        self.digest
    }
}

fn hash<T: Item>(id: &TxnId, item: &T) -> u64 {
    let mut w = Writer::new();
    w.str(id.as_str());
    item.encode_into(&mut w);
    XxHash64::oneshot(2, w.as_slice())
}
