//! What applying tells the outside.

use crate::unit::{TxnId, Unit};
use base::{DecodeError, Origin, Reader, ShardId, Writer};
use bytes::Bytes;

/// What a shard's transactions tell, in order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Output<W> {
    /// The shard's leader proposes this to another shard (or its own). What is lost is due again.
    Tell {
        /// The shard.
        to: ShardId,
        /// What.
        unit: Unit<W>,
    },
    /// A transaction has ended.
    Reply {
        /// Who waits.
        origin: Origin,
        /// Which.
        id: TxnId,
        /// How.
        outcome: Outcome,
    },
}

/// How a transaction ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// All of it is done, everywhere. What each part yielded, by ascending shard; `None` for what was
    /// forgotten meanwhile.
    Committed(Vec<Option<Bytes>>),
    /// Nothing of it is done, nowhere.
    Refused(Refusal),
}

/// Why nothing was done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// A condition does not hold, or an operation cannot be done: in the store's own words.
    Work(Bytes),
    /// A shard could not be asked, or did not promise, in time.
    TooLate(ShardId),
    /// The shard has as many transactions under way as it may have.
    TooMany(ShardId),
    /// This id was given to another transaction before.
    OtherContent,
}

impl Refusal {
    pub(crate) fn encode_into(&self, w: &mut Writer) {
        match self {
            Self::Work(words) => w.u8(1).bytes(words),
            Self::TooLate(shard) => w.u8(2).u64(shard.0),
            Self::TooMany(shard) => w.u8(3).u64(shard.0),
            Self::OtherContent => w.u8(4),
        };
    }

    pub(crate) fn decode_from(source: &Bytes, r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match r.u8()? {
            1 => Self::Work(source.slice_ref(r.bytes()?)),
            2 => Self::TooLate(ShardId(r.u64()?)),
            3 => Self::TooMany(ShardId(r.u64()?)),
            4 => Self::OtherContent,
            _ => return Err(DecodeError::Invalid("refusal of a transaction")),
        })
    }
}

impl Outcome {
    pub(crate) fn encode_into(&self, w: &mut Writer) {
        match self {
            Self::Committed(parts) => {
                w.u8(1).u32(parts.len() as u32);
                for results in parts {
                    encode_option(w, results.as_ref());
                }
            }
            Self::Refused(refusal) => {
                w.u8(2);
                refusal.encode_into(w);
            }
        }
    }

    pub(crate) fn decode_from(source: &Bytes, r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match r.u8()? {
            1 => Self::Committed(
                (0..r.count(1)?)
                    .map(|_| decode_option(source, r))
                    .collect::<Result<_, _>>()?,
            ),
            2 => Self::Refused(Refusal::decode_from(source, r)?),
            _ => return Err(DecodeError::Invalid("outcome of a transaction")),
        })
    }

    /// Bytes of what it yielded.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Committed(parts) => parts.iter().flatten().map(Bytes::len).sum(),
            Self::Refused(Refusal::Work(words)) => words.len(),
            Self::Refused(_) => 0,
        }
    }

    /// The same without what it yielded.
    pub(crate) fn forget_results(&mut self) {
        if let Self::Committed(parts) = self {
            parts.iter_mut().for_each(|results| *results = None);
        }
    }
}

pub(crate) fn encode_option(w: &mut Writer, bytes: Option<&Bytes>) {
    w.bool(bytes.is_some());
    if let Some(bytes) = bytes {
        w.bytes(bytes);
    }
}

pub(crate) fn decode_option(
    source: &Bytes,
    r: &mut Reader<'_>,
) -> Result<Option<Bytes>, DecodeError> {
    Ok(match r.bool()? {
        true => Some(source.slice_ref(r.bytes()?)),
        false => None,
    })
}
