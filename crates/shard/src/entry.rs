//! What a log entry holds: a stamp, and units applied strictly in order.

use base::{DecodeError, LogIndex, Reader, Stamp, Writer};
use bytes::Bytes;

const VERSION: u8 = 1;
const HEAD_BYTES_MAX: usize = 38;

/// The content of an entry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Batch {
    /// The leader's time and seed; the seed of a unit is the batch's plus its place.
    pub stamp: Stamp,
    /// The leader's digest of the state at an index that it had applied, for the others to compare.
    pub digest: Option<(LogIndex, u64)>,
    /// The units.
    pub units: Vec<Bytes>,
}

impl Batch {
    /// The byte form.
    pub fn encode(stamp: Stamp, digest: Option<(LogIndex, u64)>, units: &[Bytes]) -> Vec<u8> {
        let bytes: usize = units.iter().map(|unit| 4 + unit.len()).sum();
        let mut w = Writer::with_capacity(HEAD_BYTES_MAX + bytes);
        w.u8(VERSION).i64(stamp.time_ms).u64(stamp.seed);
        w.bool(digest.is_some());
        if let Some((index, digest)) = digest {
            w.u64(index).u64(digest);
        }
        w.u32(units.len() as u32);
        for unit in units {
            w.bytes(unit);
        }
        w.into_vec()
    }

    /// Reads the byte form; units borrow from it.
    pub fn decode(bytes: &Bytes) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        if r.u8()? != VERSION {
            return Err(DecodeError::Invalid("entry version"));
        }
        let stamp = Stamp {
            time_ms: r.i64()?,
            seed: r.u64()?,
        };
        let digest = match r.bool()? {
            true => Some((r.u64()?, r.u64()?)),
            false => None,
        };
        let n = r.count(4)?;
        let mut units = Vec::with_capacity(n);
        for _ in 0..n {
            units.push(bytes.slice_ref(r.bytes()?));
        }
        r.finish()?;
        Ok(Self {
            stamp,
            digest,
            units,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batch_survives_its_byte_form() {
        let batch = Batch {
            stamp: Stamp {
                time_ms: -1,
                seed: 2,
            },
            digest: Some((3, 4)),
            units: vec![Bytes::from_static(b"a"), Bytes::new()],
        };
        let bytes = Bytes::from(Batch::encode(batch.stamp, batch.digest, &batch.units));
        assert_eq!(Batch::decode(&bytes), Ok(batch));
        assert!((0..bytes.len()).all(|cut| Batch::decode(&bytes.slice(..cut)).is_err()));
    }
}
