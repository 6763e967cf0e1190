//! What a reader that is no member asks of a consumer group: where it has come to, and to remember how far.

use super::{begin, end, read_text, text};
use base::{DecodeError, Reader};

const OFFSET_COMMIT: (u16, u16) = (8, 2);
const OFFSET_FETCH: (u16, u16) = (9, 1);
const FIND_COORDINATOR: (u16, u16) = (10, 0);

/// The frame that asks which broker coordinates a group.
pub fn coordinator(group: &str) -> Vec<u8> {
    let mut w = begin(FIND_COORDINATOR);
    text(&mut w, group);
    end(w)
}

/// Kafka's error number, and the broker's host and port, in the answer to [`coordinator`].
///
/// # Errors
/// The frame is no such answer.
pub fn coordinator_in(frame: &[u8]) -> Result<(i16, String, i32), DecodeError> {
    let mut r = Reader::new(frame);
    r.i32()?; // correlation
    let error = r.u16()? as i16;
    r.i32()?; // number
    Ok((error, read_text(&mut r)?, r.i32()?))
}

/// The frame that asks where a group has come to.
pub fn positions(group: &str, topic: &str, partitions: &[i32]) -> Vec<u8> {
    let mut w = begin(OFFSET_FETCH);
    text(&mut w, group);
    w.u32(1);
    text(&mut w, topic);
    w.u32(partitions.len() as u32);
    for partition in partitions {
        w.i32(*partition);
    }
    end(w)
}

/// Partitions with the offset that is read next, below 0 where nothing is remembered, and Kafka's error number.
pub type Positions = Vec<(i32, i64, i16)>;

/// Reads the answer to [`positions`].
///
/// # Errors
/// The frame is no such answer.
pub fn positions_in(frame: &[u8]) -> Result<Positions, DecodeError> {
    of_partitions(frame, |r| {
        let offset = r.i64()?;
        read_text(r)?; // what a client remembers with it
        Ok(offset)
    })
}

/// The frame that makes a group without members remember which offsets of partitions it reads next.
pub fn commit(group: &str, topic: &str, offsets: &[(i32, i64)]) -> Vec<u8> {
    let mut w = begin(OFFSET_COMMIT);
    text(&mut w, group);
    w.i32(-1); // no generation
    text(&mut w, "");
    w.i64(-1).u32(1); // kept as usual
    text(&mut w, topic);
    w.u32(offsets.len() as u32);
    for (partition, offset) in offsets {
        w.i32(*partition).i64(*offset).u16(u16::MAX);
    }
    end(w)
}

/// Kafka's first error number in the answer to [`commit`], 0 for none.
///
/// # Errors
/// The frame is no such answer.
pub fn committed_in(frame: &[u8]) -> Result<i16, DecodeError> {
    let found = of_partitions(frame, |_| Ok(0))?;
    let mut errors = found.into_iter().map(|(.., error)| error);
    Ok(errors.find(|error| *error != 0).unwrap_or(0))
}

fn of_partitions(
    frame: &[u8],
    mut offset: impl FnMut(&mut Reader<'_>) -> Result<i64, DecodeError>,
) -> Result<Positions, DecodeError> {
    let mut r = Reader::new(frame);
    r.i32()?; // correlation
    let mut all = Vec::new();
    for _ in 0..r.count(6)? {
        read_text(&mut r)?;
        for _ in 0..r.count(6)? {
            let partition = r.i32()?;
            let offset = offset(&mut r)?;
            all.push((partition, offset, r.u16()? as i16));
        }
    }
    Ok(all)
}
