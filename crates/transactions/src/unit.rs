//! What a shard's log may hold of transactions: a closed set and its byte form.

use crate::Resource;
use crate::output::{Refusal, decode_option, encode_option};
use base::{DecodeError, Origin, Reader, ShardId, Writer};
use bytes::Bytes;
use std::fmt;

/// Bytes of a transaction's id.
pub const TXN_ID_BYTES_MAX: usize = 64;

/// A transaction's name, chosen by the client or drawn for it: 1 to 64 visible ASCII characters.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TxnId(String);

impl TxnId {
    /// The id of this text; `None` unless it is 1 to 64 visible ASCII characters.
    pub fn new(text: &str) -> Option<Self> {
        let is_valid = !text.is_empty()
            && text.len() <= TXN_ID_BYTES_MAX
            && text.bytes().all(|b| b.is_ascii_graphic());
        is_valid.then(|| Self(text.to_owned()))
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn decode_from(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Self::new(r.str()?).ok_or(DecodeError::Invalid("transaction id"))
    }
}

impl fmt::Display for TxnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a transaction does in one shard.
pub trait Work: Clone + PartialEq + Eq + fmt::Debug {
    /// Appends the byte form.
    fn encode_into(&self, w: &mut Writer);
    /// Reads the byte form out of `source`, which `r` reads.
    fn decode_from(source: &Bytes, r: &mut Reader<'_>) -> Result<Self, DecodeError>;
    /// Everything that it reads or changes, maybe twice.
    fn resources(&self) -> Vec<Resource>;
}

/// A shard's part of a transaction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Part<W> {
    /// The shard.
    pub shard: ShardId,
    /// What it does there.
    pub work: W,
}

/// One replicated unit. Each but `Begin` may come twice, or late, and then does nothing new.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Unit<W> {
    /// Begins a transaction, for its first participant; the same id again is answered as it was.
    Begin {
        /// Who waits for the outcome.
        origin: Origin,
        /// Which.
        id: TxnId,
        /// Hash of what its client asked for: the same id with another one is refused.
        content: u64,
        /// By ascending shard, at least one; the first is the shard that this is for.
        parts: Vec<Part<W>>,
    },
    /// Asks a participant to promise that it can do its part, whenever that is decided.
    Prepare {
        /// Which.
        id: TxnId,
        /// Where its record is.
        record: ShardId,
        /// The participant that this is for.
        shard: ShardId,
        /// When it was asked, Unix milliseconds: by its record's shard when the transaction began, or by the
        /// participant itself, see [`Unit::AskAgain`].
        asked_ms: i64,
        /// The participant's part.
        work: W,
    },
    /// A participant has promised, or cannot; for the record's shard.
    Voted {
        /// Which.
        id: TxnId,
        /// The participant.
        shard: ShardId,
        /// Its vote.
        vote: Result<(), Refusal>,
    },
    /// A participant's clock lies far from when it was asked: it is to be asked again, by its own clock. For
    /// the record's shard.
    AskAgain {
        /// Which.
        id: TxnId,
        /// The participant.
        shard: ShardId,
        /// What its clock shows, Unix milliseconds.
        now_ms: i64,
    },
    /// The decision, for a participant.
    Decide {
        /// Which.
        id: TxnId,
        /// Where its record is.
        record: ShardId,
        /// The participant that this is for.
        shard: ShardId,
        /// True to do it, false to forget it.
        commit: bool,
    },
    /// A participant has done its part; for the record's shard.
    Applied {
        /// Which.
        id: TxnId,
        /// The participant.
        shard: ShardId,
        /// What it yielded; `None` when that was forgotten meanwhile.
        results: Option<Bytes>,
    },
    /// A participant that has promised asks what was decided; for the record's shard.
    Inquire {
        /// Which.
        id: TxnId,
        /// The participant.
        shard: ShardId,
        /// The record's shard.
        record: ShardId,
    },
    /// The record's leader gives a transaction up that could not be prepared in time.
    Abort {
        /// Which.
        id: TxnId,
    },
}

impl<W: Work> Unit<W> {
    /// Appends the byte form.
    pub fn encode_into(&self, w: &mut Writer) {
        match self {
            Self::Begin {
                origin,
                id,
                content,
                parts,
            } => {
                w.u8(1);
                origin.encode_into(w);
                w.str(id.as_str()).u64(*content);
                encode_parts(w, parts);
            }
            Self::Prepare {
                id,
                record,
                shard,
                asked_ms,
                work,
            } => {
                w.u8(2).str(id.as_str()).u64(record.0).u64(shard.0);
                w.i64(*asked_ms);
                work.encode_into(w);
            }
            Self::Voted { id, shard, vote } => {
                w.u8(3).str(id.as_str()).u64(shard.0);
                w.bool(vote.is_ok());
                if let Err(refusal) = vote {
                    refusal.encode_into(w);
                }
            }
            Self::Decide {
                id,
                record,
                shard,
                commit,
            } => {
                w.u8(4).str(id.as_str()).u64(record.0).u64(shard.0);
                w.bool(*commit);
            }
            Self::Applied { id, shard, results } => {
                w.u8(5).str(id.as_str()).u64(shard.0);
                encode_option(w, results.as_ref());
            }
            Self::Inquire { id, shard, record } => {
                w.u8(6).str(id.as_str()).u64(shard.0).u64(record.0);
            }
            Self::Abort { id } => {
                w.u8(7).str(id.as_str());
            }
            Self::AskAgain { id, shard, now_ms } => {
                w.u8(8).str(id.as_str()).u64(shard.0).i64(*now_ms);
            }
        }
    }

    /// Reads the byte form; everything must be consumed.
    pub fn decode(source: &Bytes) -> Result<Self, DecodeError> {
        let r = &mut Reader::new(source);
        let unit = match r.u8()? {
            1 => Self::Begin {
                origin: Origin::decode_from(r)?,
                id: TxnId::decode_from(r)?,
                content: r.u64()?,
                parts: decode_parts(source, r)?,
            },
            2 => Self::Prepare {
                id: TxnId::decode_from(r)?,
                record: ShardId(r.u64()?),
                shard: ShardId(r.u64()?),
                asked_ms: r.i64()?,
                work: W::decode_from(source, r)?,
            },
            3 => Self::Voted {
                id: TxnId::decode_from(r)?,
                shard: ShardId(r.u64()?),
                vote: match r.bool()? {
                    true => Ok(()),
                    false => Err(Refusal::decode_from(source, r)?),
                },
            },
            4 => Self::Decide {
                id: TxnId::decode_from(r)?,
                record: ShardId(r.u64()?),
                shard: ShardId(r.u64()?),
                commit: r.bool()?,
            },
            5 => Self::Applied {
                id: TxnId::decode_from(r)?,
                shard: ShardId(r.u64()?),
                results: decode_option(source, r)?,
            },
            6 => Self::Inquire {
                id: TxnId::decode_from(r)?,
                shard: ShardId(r.u64()?),
                record: ShardId(r.u64()?),
            },
            7 => Self::Abort {
                id: TxnId::decode_from(r)?,
            },
            8 => Self::AskAgain {
                id: TxnId::decode_from(r)?,
                shard: ShardId(r.u64()?),
                now_ms: r.i64()?,
            },
            _ => return Err(DecodeError::Invalid("kind of a transactions unit")),
        };
        r.finish()?;
        Ok(unit)
    }

    /// What it must have for itself before it is looked at; `None` for what is never to wait.
    pub fn resources(&self) -> Option<Vec<Resource>> {
        match self {
            Self::Begin { parts, .. } => parts.first().map(|part| part.work.resources()),
            Self::Prepare { work, .. } => Some(work.resources()),
            Self::Voted { .. }
            | Self::AskAgain { .. }
            | Self::Decide { .. }
            | Self::Applied { .. }
            | Self::Inquire { .. }
            | Self::Abort { .. } => None,
        }
    }
}

pub(crate) fn encode_parts<W: Work>(w: &mut Writer, parts: &[Part<W>]) {
    w.u32(parts.len() as u32);
    for part in parts {
        w.u64(part.shard.0);
        part.work.encode_into(w);
    }
}

/// At least one, by ascending shard.
pub(crate) fn decode_parts<W: Work>(
    source: &Bytes,
    r: &mut Reader<'_>,
) -> Result<Vec<Part<W>>, DecodeError> {
    let n = r.count(8)?;
    let mut parts: Vec<Part<W>> = Vec::with_capacity(n);
    for _ in 0..n {
        let part = Part {
            shard: ShardId(r.u64()?),
            work: W::decode_from(source, r)?,
        };
        if parts.last().is_some_and(|last| last.shard >= part.shard) {
            return Err(DecodeError::Invalid("order of a transaction's parts"));
        }
        parts.push(part);
    }
    if parts.is_empty() {
        return Err(DecodeError::Invalid("transaction without parts"));
    }
    Ok(parts)
}
