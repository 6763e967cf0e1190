//! What a client asks to append records under a producer's number, so that asking again doubles nothing.

use super::{begin, end, read_text, text};
use base::{DecodeError, Reader};
use messaging::NewBatch;

const PRODUCE: (u16, u16) = (0, 3);
const INIT_PRODUCER_ID: (u16, u16) = (22, 0);
/// How long the server may take, in milliseconds.
const TIMEOUT_MS: i32 = 10_000;

/// The frame that asks for a producer's number.
pub fn new_producer() -> Vec<u8> {
    let mut w = begin(INIT_PRODUCER_ID);
    w.u16(u16::MAX).i32(TIMEOUT_MS);
    end(w)
}

/// Kafka's error number, and the producer's, in the answer to [`new_producer`].
///
/// # Errors
/// The frame is no such answer.
pub fn new_producer_in(frame: &[u8]) -> Result<(i16, i64), DecodeError> {
    let mut r = Reader::new(frame);
    r.i32()?; // correlation
    r.i32()?; // throttle
    Ok((r.u16()? as i16, r.i64()?))
}

/// The frame that appends a batch to a partition. With `acks` 0 there is no answer.
pub fn produce(topic: &str, partition: i32, acks: i16, batch: &NewBatch) -> Vec<u8> {
    let mut w = begin(PRODUCE);
    w.u16(u16::MAX).u16(acks as u16).i32(TIMEOUT_MS).u32(1);
    text(&mut w, topic);
    w.u32(1).i32(partition).u32(batch.bytes.len() as u32);
    w.raw(&batch.bytes);
    end(w)
}

/// Kafka's error number, and the offset of the batch's first record, in the answer to [`produce`].
///
/// # Errors
/// The frame is no such answer.
pub fn produced_in(frame: &[u8]) -> Result<(i16, i64), DecodeError> {
    let mut r = Reader::new(frame);
    r.i32()?; // correlation
    r.u32()?; // topics
    read_text(&mut r)?;
    r.u32()?; // partitions
    r.i32()?;
    Ok((r.u16()? as i16, r.i64()?))
}
