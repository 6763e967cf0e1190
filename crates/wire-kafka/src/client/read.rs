//! What a client asks to read a topic: who leads its partitions, where they begin and end, and records.

use super::{begin, end, read_text, text};
use crate::records::{self, Read};
use base::{DecodeError, Reader, Writer};

const FETCH: (u16, u16) = (1, 5);
const LIST_OFFSETS: (u16, u16) = (2, 1);
const METADATA: (u16, u16) = (3, 4);

/// Which brokers there are, and who leads a topic's partitions.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Metadata {
    /// Numbers, hosts and ports.
    pub brokers: Vec<(i32, String, i32)>,
    /// Kafka's error number for the topic, 0 for none.
    pub error: i16,
    /// Partitions and the number of who leads each, below 0 for nobody.
    pub leaders: Vec<(i32, i32)>,
}

/// What a fetch found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Fetched {
    /// Kafka's error number, 0 for none.
    pub error: i16,
    /// Where the partition ends for readers.
    pub end: i64,
    /// Records from the offset asked for, as far as there are whole batches of them.
    pub records: Vec<Read>,
}

/// The frame that asks for a topic's [`Metadata`]; a topic that is not there is made where `may_create` and the server's
/// configuration say so.
pub fn metadata(topic: &str, may_create: bool) -> Vec<u8> {
    let mut w = begin(METADATA);
    w.u32(1);
    text(&mut w, topic);
    w.bool(may_create);
    end(w)
}

/// The frame that asks where a partition begins, or ends.
pub fn list_offset(topic: &str, partition: i32, is_end: bool) -> Vec<u8> {
    let mut w = begin(LIST_OFFSETS);
    w.i32(-1);
    of_one(&mut w, topic, partition).i64(if is_end { -1 } else { -2 });
    end(w)
}

/// The frame that asks for at most about so many bytes of a partition from an offset on, and waits so long (in
/// milliseconds) where there is nothing.
pub fn fetch(topic: &str, partition: i32, offset: i64, wait_ms: i32, bytes_max: i32) -> Vec<u8> {
    let mut w = begin(FETCH);
    w.i32(-1).i32(wait_ms).i32(1).i32(bytes_max).u8(0);
    of_one(&mut w, topic, partition)
        .i64(offset)
        .i64(-1)
        .i32(bytes_max);
    end(w)
}

/// Reads the answer to [`metadata`].
///
/// # Errors
/// The frame is no such answer.
pub fn metadata_in(frame: &[u8]) -> Result<Metadata, DecodeError> {
    let mut r = Reader::new(frame);
    r.i32()?; // correlation
    r.i32()?; // throttle
    let mut found = Metadata::default();
    for _ in 0..r.count(12)? {
        let broker = (r.i32()?, read_text(&mut r)?, r.i32()?);
        read_text(&mut r)?; // rack
        found.brokers.push(broker);
    }
    read_text(&mut r)?; // cluster
    r.i32()?; // controller
    if r.u32()? != 1 {
        return Err(DecodeError::Invalid("count of topics"));
    }
    found.error = r.u16()? as i16;
    read_text(&mut r)?;
    r.bool()?; // internal
    for _ in 0..r.count(18)? {
        r.u16()?; // a partition without a leader says so by its number, too
        found.leaders.push((r.i32()?, r.i32()?));
        for _ in 0..2 {
            let count = r.count(4)?;
            r.take(count * 4)?;
        }
    }
    Ok(found)
}

/// Kafka's error number, and the offset, in the answer to [`list_offset`].
///
/// # Errors
/// The frame is no such answer.
pub fn offset_in(frame: &[u8]) -> Result<(i16, i64), DecodeError> {
    let mut r = Reader::new(frame);
    r.i32()?; // correlation
    skip_one(&mut r)?;
    let error = r.u16()? as i16;
    r.i64()?; // time
    Ok((error, r.i64()?))
}

/// Reads the answer to [`fetch`]. Records before the offset that was asked for, of the same batch, are in it.
///
/// # Errors
/// The frame is no such answer, or its batches cannot be read.
pub fn fetched_in(frame: &[u8]) -> Result<Fetched, DecodeError> {
    let mut r = Reader::new(frame);
    r.i32()?; // correlation
    r.i32()?; // throttle
    skip_one(&mut r)?;
    let (error, end) = (r.u16()? as i16, r.i64()?);
    r.i64()?; // last stable
    r.i64()?; // start
    let aborted = r.i32()?;
    r.take(usize::try_from(aborted).unwrap_or(0).saturating_mul(16))?;
    let records = match r.i32()? {
        length if length <= 0 => Vec::new(),
        length => records::read_all(r.take(length as usize)?)?,
    };
    Ok(Fetched {
        error,
        end,
        records,
    })
}

fn of_one<'a>(w: &'a mut Writer, topic: &str, partition: i32) -> &'a mut Writer {
    w.u32(1);
    text(w, topic);
    w.u32(1).i32(partition)
}

fn skip_one(r: &mut Reader<'_>) -> Result<(), DecodeError> {
    let topics = r.u32()?;
    read_text(r)?;
    let partitions = r.u32()?;
    r.i32()?;
    match (topics, partitions) {
        (1, 1) => Ok(()),
        _ => Err(DecodeError::Invalid("count of partitions")),
    }
}
