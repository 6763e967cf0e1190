//! Batches of records in Kafka's format 2: the header read and checked, the records themselves left as
//! they are, compressed or not.
//!
//! Offsets: 0 base offset, 8 length of what follows, 12 leader epoch, 16 format, 17 CRC-32C of the rest,
//! 21 attributes, 23 last offset's delta, 27 base time, 35 newest time, 43 producer, 51 its epoch, 53 base
//! sequence, 57 count, 61 records. Base offset and leader epoch lie outside of the check sum, so that they
//! can be written without touching it.

use crate::error::Error;
use base::DecodeError;
use bytes::Bytes;
use messaging::{Batch, NewBatch, ProducerMark};

/// Bytes before the records.
pub const HEADER_BYTES: usize = 61;
const LENGTH_AT: usize = 8;
const EPOCH_AT: usize = 12;
const FORMAT_AT: usize = 16;
const CRC_AT: usize = 17;
const ATTRIBUTES_AT: usize = 21;
const BASE_TIME_AT: usize = 27;
/// What the length does not count: base offset and itself.
const UNCOUNTED_BYTES: usize = 12;

const CODEC_MASK: i16 = 7;
/// None, gzip, snappy, lz4, zstd.
const CODECS: i16 = 5;
const LOG_APPEND_TIME: i16 = 1 << 3;
const TRANSACTIONAL: i16 = 1 << 4;
const CONTROL: i16 = 1 << 5;

/// The one batch that a client may send to a partition at a time, or why it is refused.
pub fn parse(bytes: Bytes) -> Result<NewBatch, Error> {
    if bytes.len() < HEADER_BYTES {
        return Err(Error::CorruptMessage);
    }
    if bytes[FORMAT_AT] != 2 {
        return Err(Error::UnsupportedForMessageFormat);
    }
    let length = i64::from(i32_at(&bytes, LENGTH_AT)) + UNCOUNTED_BYTES as i64;
    if length > bytes.len() as i64 || length < HEADER_BYTES as i64 {
        return Err(Error::CorruptMessage);
    }
    if length < bytes.len() as i64 {
        return Err(Error::InvalidRecord); // a second batch
    }
    if crc32c::crc32c(&bytes[ATTRIBUTES_AT..]) != i32_at(&bytes, CRC_AT) as u32 {
        return Err(Error::CorruptMessage);
    }
    let attributes = i16_at(&bytes, ATTRIBUTES_AT);
    if attributes & CODEC_MASK >= CODECS {
        return Err(Error::UnsupportedCompressionType);
    }
    if attributes & CONTROL != 0 {
        return Err(Error::InvalidRecord);
    }
    if attributes & TRANSACTIONAL != 0 {
        return Err(Error::InvalidTxnState);
    }
    let (last_delta, count) = (i32_at(&bytes, 23), i32_at(&bytes, 57));
    let is_plain = attributes & CODEC_MASK == 0;
    if count < 1
        || last_delta != count - 1
        || (is_plain && !is_well_formed(&bytes[HEADER_BYTES..], count))
    {
        return Err(Error::InvalidRecord);
    }
    let max_timestamp_ms = i64_at(&bytes, 35);
    if attributes & LOG_APPEND_TIME != 0 || max_timestamp_ms < -1 {
        return Err(Error::InvalidTimestamp);
    }
    let (id, epoch) = (i64_at(&bytes, 43), i16_at(&bytes, 51));
    let sequence = i32_at(&bytes, 53);
    if id >= 0 && (epoch < 0 || sequence < 0) {
        return Err(Error::InvalidRecord);
    }
    Ok(NewBatch {
        count: count as u32,
        max_timestamp_ms,
        producer: (id >= 0).then_some(ProducerMark {
            id,
            epoch,
            sequence,
        }),
        bytes,
    })
}

/// A record that is made here.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Record {
    /// Its key.
    pub key: Option<Bytes>,
    /// Its value; none marks the key as deleted.
    pub value: Option<Bytes>,
    /// Names with values.
    pub headers: Vec<(String, Option<Bytes>)>,
}

/// A plain batch of records of this time (Unix milliseconds).
pub fn encode(time_ms: i64, producer: Option<ProducerMark>, all: &[Record]) -> NewBatch {
    let count = all.len() as i32;
    let mut batch = vec![0; HEADER_BYTES];
    for (offset, record) in (0..).zip(all) {
        let mut body = vec![0]; // attributes
        put_varint(&mut body, 0);
        put_varint(&mut body, offset);
        put_nullable(&mut body, record.key.as_deref());
        put_nullable(&mut body, record.value.as_deref());
        put_varint(&mut body, record.headers.len() as i64);
        for (name, value) in &record.headers {
            put_nullable(&mut body, Some(name.as_bytes()));
            put_nullable(&mut body, value.as_deref());
        }
        put_varint(&mut batch, body.len() as i64);
        batch.extend_from_slice(&body);
    }
    let length = (batch.len() - UNCOUNTED_BYTES) as i32;
    let mut put = |at: usize, bytes: &[u8]| batch[at..at + bytes.len()].copy_from_slice(bytes);
    put(LENGTH_AT, &length.to_be_bytes());
    put(FORMAT_AT, &[2]);
    put(23, &(count - 1).to_be_bytes());
    put(BASE_TIME_AT, &time_ms.to_be_bytes());
    put(35, &time_ms.to_be_bytes());
    let of_none = ProducerMark {
        id: -1,
        epoch: -1,
        sequence: -1,
    };
    let mark = producer.unwrap_or(of_none);
    put(43, &mark.id.to_be_bytes());
    put(51, &mark.epoch.to_be_bytes());
    put(53, &mark.sequence.to_be_bytes());
    put(57, &count.to_be_bytes());
    let crc = crc32c::crc32c(&batch[ATTRIBUTES_AT..]);
    batch[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_be_bytes());
    NewBatch {
        count: all.len() as u32,
        max_timestamp_ms: time_ms,
        producer,
        bytes: Bytes::from(batch),
    }
}

/// The partition that Kafka's own clients choose for a key: MurmurHash2 (Appleby) of it, with their seed.
pub fn partition_of(key: &[u8], partition_count: u32) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mut hash = 0x9747_b28c ^ key.len() as u32;
    let mut words = key.chunks_exact(4);
    for word in &mut words {
        let mut k = u32::from_le_bytes(word.try_into().expect("four bytes")).wrapping_mul(M);
        k = (k ^ (k >> 24)).wrapping_mul(M);
        hash = hash.wrapping_mul(M) ^ k;
    }
    let rest = words.remainder();
    if !rest.is_empty() {
        let tail = rest.iter().rev();
        hash ^= tail.fold(0, |tail, byte| tail << 8 | u32::from(*byte));
        hash = hash.wrapping_mul(M);
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(M);
    ((hash ^ (hash >> 15)) & 0x7fff_ffff) % partition_count.max(1)
}

/// Appends stored batches as a client reads them: with their offsets, under the leader epoch 0.
pub fn write(out: &mut Vec<u8>, batches: &[Batch]) {
    out.reserve(batches.iter().map(|b| b.bytes.len()).sum());
    for batch in batches {
        let at = out.len();
        out.extend_from_slice(&batch.bytes);
        out[at..at + 8].copy_from_slice(&batch.base_offset.to_be_bytes());
        out[at + EPOCH_AT..at + EPOCH_AT + 4].copy_from_slice(&0i32.to_be_bytes());
    }
}

/// The first record of a stored batch that is not older than `time_ms`: its offset and time. Compressed
/// records are not looked into: then it is the batch's first offset, with the newest time if the first
/// record is older.
pub fn find_time(batch: &Batch, time_ms: i64) -> (i64, i64) {
    let base_time_ms = i64_at(&batch.bytes, BASE_TIME_AT);
    let whole = (batch.base_offset, batch.max_timestamp_ms);
    if base_time_ms >= time_ms {
        return (batch.base_offset, base_time_ms);
    }
    if i16_at(&batch.bytes, ATTRIBUTES_AT) & CODEC_MASK != 0 {
        return whole;
    }
    let mut rest = &batch.bytes[HEADER_BYTES..];
    while let Some(record) = next_record(&mut rest) {
        let at_ms = base_time_ms.saturating_add(record.time_delta);
        if at_ms >= time_ms {
            return (batch.base_offset + record.offset_delta, at_ms);
        }
    }
    whole
}

/// A record as a client reads it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Read {
    /// Its offset.
    pub offset: i64,
    /// Its time, in milliseconds since 1970.
    pub time_ms: i64,
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Its value.
    pub value: Option<Vec<u8>>,
}

/// The records of whole batches, in order; one that is cut off at the end is left out. Batches that say nothing to
/// readers (of control) are passed over.
///
/// # Errors
/// A batch is not of format 2, is damaged, or compressed.
pub fn read_all(mut bytes: &[u8]) -> Result<Vec<Read>, DecodeError> {
    let mut all = Vec::new();
    while bytes.len() >= HEADER_BYTES {
        let length = i64::from(i32_at(bytes, LENGTH_AT)) + UNCOUNTED_BYTES as i64;
        let length =
            usize::try_from(length).map_err(|_| DecodeError::Invalid("length of a batch"))?;
        let Some((batch, behind)) = bytes.split_at_checked(length) else {
            break;
        };
        bytes = behind;
        if length < HEADER_BYTES || batch[FORMAT_AT] != 2 {
            return Err(DecodeError::Invalid("format of a batch"));
        }
        if crc32c::crc32c(&batch[ATTRIBUTES_AT..]) != i32_at(batch, CRC_AT) as u32 {
            return Err(DecodeError::Invalid("check sum of a batch"));
        }
        let attributes = i16_at(batch, ATTRIBUTES_AT);
        if attributes & CODEC_MASK != 0 {
            return Err(DecodeError::Invalid(
                "batch: it is compressed, which is not read here",
            ));
        }
        if attributes & CONTROL != 0 {
            continue;
        }
        let (base, base_time_ms) = (i64_at(batch, 0), i64_at(batch, BASE_TIME_AT));
        let of_batch = (attributes & LOG_APPEND_TIME != 0).then(|| i64_at(batch, 35));
        let mut rest = &batch[HEADER_BYTES..];
        while !rest.is_empty() {
            let stored = next_record(&mut rest).ok_or(DecodeError::Invalid("record"))?;
            let mut body = stored.body;
            let mut part = || nullable(&mut body).ok_or(DecodeError::Invalid("record"));
            let (key, value) = (part()?, part()?);
            all.push(Read {
                offset: base + stored.offset_delta,
                time_ms: of_batch.unwrap_or(base_time_ms.saturating_add(stored.time_delta)),
                key,
                value,
            });
        }
    }
    Ok(all)
}

struct Stored<'a> {
    time_delta: i64,
    offset_delta: i64,
    /// Key, value and headers.
    body: &'a [u8],
}

/// Takes a record off the front of uncompressed ones.
fn next_record<'a>(rest: &mut &'a [u8]) -> Option<Stored<'a>> {
    let length = usize::try_from(varint(rest)?).ok()?;
    let (mut body, behind) = rest.split_at_checked(length)?;
    *rest = behind;
    body = body.get(1..)?; // attributes
    Some(Stored {
        time_delta: varint(&mut body)?,
        offset_delta: varint(&mut body)?,
        body,
    })
}

/// Bytes behind their length, which is −1 for none.
fn nullable(rest: &mut &[u8]) -> Option<Option<Vec<u8>>> {
    let Ok(length) = usize::try_from(varint(rest)?) else {
        return Some(None);
    };
    let (bytes, behind) = rest.split_at_checked(length)?;
    *rest = behind;
    Some(Some(bytes.to_vec()))
}

/// Exactly so many records, with ascending offsets and nothing behind them.
fn is_well_formed(mut rest: &[u8], count: i32) -> bool {
    let is_next = |i: i32, rest: &mut &[u8]| {
        next_record(rest).is_some_and(|record| record.offset_delta == i64::from(i))
    };
    (0..count).all(|i| is_next(i, &mut rest)) && rest.is_empty()
}

/// A zigzag varint of at most ten bytes.
fn varint(rest: &mut &[u8]) -> Option<i64> {
    let mut value = 0u64;
    for (i, byte) in rest.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            *rest = &rest[i + 1..];
            return Some((value >> 1) as i64 ^ -((value & 1) as i64));
        }
    }
    None
}

fn put_varint(out: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// Bytes behind their length; −1 for none.
fn put_nullable(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    put_varint(out, bytes.map_or(-1, |bytes| bytes.len() as i64));
    out.extend_from_slice(bytes.unwrap_or_default());
}

fn i16_at(bytes: &[u8], at: usize) -> i16 {
    i16::from_be_bytes(bytes[at..at + 2].try_into().expect("two bytes"))
}

fn i32_at(bytes: &[u8], at: usize) -> i32 {
    i32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn i64_at(bytes: &[u8], at: usize) -> i64 {
    i64::from_be_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_made_here_is_one_that_a_client_may_send() {
        let record = |n: usize| Record {
            key: (n > 0).then(|| Bytes::from(vec![b'k'; n])),
            value: Some(Bytes::from(vec![b'v'; 300 * n])),
            headers: vec![("h".into(), None), ("i".into(), Some("j".into()))],
        };
        let made = encode(1_234, None, &[record(0), record(1), record(2)]);
        assert_eq!(parse(made.bytes.clone()).as_ref(), Ok(&made));
        let stored = Batch {
            base_offset: 10,
            count: made.count,
            max_timestamp_ms: made.max_timestamp_ms,
            bytes: made.bytes,
        };
        assert_eq!(find_time(&stored, 1_234), (10, 1_234));
    }

    #[test]
    fn partitions_of_keys_golden() {
        // What Kafka's own tests say of the hash.
        let golden = [
            ("21", -973_932_308i32),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            (
                "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8",
                -58_897_971,
            ),
        ];
        for (key, hash) in golden {
            let positive = (hash & 0x7fff_ffff) as u32;
            assert_eq!(
                partition_of(key.as_bytes(), 1_000_003),
                positive % 1_000_003
            );
        }
    }
}
