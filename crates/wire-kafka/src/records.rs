//! Batches of records in Kafka's format 2: the header read and checked, the records themselves left as
//! they are, compressed or not.
//!
//! Offsets: 0 base offset, 8 length of what follows, 12 leader epoch, 16 format, 17 CRC-32C of the rest,
//! 21 attributes, 23 last offset's delta, 27 base time, 35 newest time, 43 producer, 51 its epoch, 53 base
//! sequence, 57 count, 61 records. Base offset and leader epoch lie outside of the check sum, so that they
//! can be written without touching it.

use crate::error::Error;
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

struct Record {
    time_delta: i64,
    offset_delta: i64,
}

/// Takes a record off the front of uncompressed ones.
fn next_record(rest: &mut &[u8]) -> Option<Record> {
    let length = usize::try_from(varint(rest)?).ok()?;
    let (mut body, behind) = rest.split_at_checked(length)?;
    *rest = behind;
    body = body.get(1..)?; // attributes
    Some(Record {
        time_delta: varint(&mut body)?,
        offset_delta: varint(&mut body)?,
    })
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

fn i16_at(bytes: &[u8], at: usize) -> i16 {
    i16::from_be_bytes(bytes[at..at + 2].try_into().expect("two bytes"))
}

fn i32_at(bytes: &[u8], at: usize) -> i32 {
    i32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn i64_at(bytes: &[u8], at: usize) -> i64 {
    i64::from_be_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}
