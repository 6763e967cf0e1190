//! Kafka's requests and answers, the client's side, in one fixed version each: those before lengths became
//! varints. Batches are of format 2, uncompressed.

use super::{BRIEF, BRIEF_RECORDS, KEPT, Partition, Run};
use base::{DecodeError, Reader, Writer};

/// Errors by their numbers, as far as clients act on them.
pub mod error {
    /// None.
    pub const NONE: i16 = 0;
    /// The offset is not there.
    pub const OFFSET_OUT_OF_RANGE: i16 = 1;
    /// There is no such partition here.
    pub const UNKNOWN_PARTITION: i16 = 3;
    /// Nobody leads it yet.
    pub const LEADER_NOT_AVAILABLE: i16 = 5;
    /// Another one leads it.
    pub const NOT_LEADER: i16 = 6;
    /// Nobody coordinates the group.
    pub const COORDINATOR_NOT_AVAILABLE: i16 = 15;
    /// Another one coordinates it.
    pub const NOT_COORDINATOR: i16 = 16;
    /// It took too long.
    pub const REQUEST_TIMED_OUT: i16 = 7;
    /// A majority does not keep up.
    pub const NOT_ENOUGH_REPLICAS: i16 = 19;
    /// The group is in another generation.
    pub const ILLEGAL_GENERATION: i16 = 22;
    /// The group has no such member.
    pub const UNKNOWN_MEMBER: i16 = 25;
    /// The group gathers for another generation.
    pub const REBALANCE_IN_PROGRESS: i16 = 27;
    /// Batches of this producer are missing.
    pub const OUT_OF_ORDER_SEQUENCE: i16 = 45;
    /// The disk is full.
    pub const STORAGE: i16 = 56;
    /// Join again with this id.
    pub const MEMBER_ID_REQUIRED: i16 = 79;
}

const FETCH_WAIT_MS: i32 = 100;
const SESSION_TIMEOUT_MS: i32 = 6_000;
const REBALANCE_TIMEOUT_MS: i32 = 2_000;
const BATCH_HEADER_BYTES: usize = 61;

/// What a client asks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Request {
    /// Who leads what.
    Metadata,
    /// The topics of this workload.
    CreateTopics,
    /// A producer's id.
    InitProducer,
    /// One batch to one partition.
    Produce {
        partition: Partition,
        batch: Vec<u8>,
    },
    /// From one partition.
    Fetch {
        partition: Partition,
        offset: i64,
        bytes_max: i32,
    },
    /// Where a log ends, or begins.
    ListOffsets { partition: Partition, is_end: bool },
    /// Who coordinates a group.
    FindCoordinator { group: &'static str },
    /// Into the next generation.
    Join { group: &'static str, member: String },
    /// One's share; the leader brings everybody's.
    Sync {
        group: &'static str,
        member: String,
        generation: i32,
        shares: Vec<(String, Vec<u8>)>,
    },
    /// Still there.
    Heartbeat {
        group: &'static str,
        member: String,
        generation: i32,
    },
    /// Gone.
    Leave { group: &'static str, member: String },
    /// A position.
    Commit {
        group: &'static str,
        member: String,
        generation: i32,
        partition: Partition,
        offset: i64,
        metadata: String,
    },
    /// Positions of all partitions.
    OffsetFetch { group: &'static str },
}

/// What an answer held; errors by their numbers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// Hosts of brokers by their ids; partitions and who leads them, −1 for nobody.
    Metadata {
        hosts: Vec<(i32, String)>,
        leaders: Vec<(Partition, i32)>,
    },
    /// Each topic's error.
    Created(Vec<i16>),
    /// A producer's id and epoch.
    Producer(i16, i64, i16),
    /// Error and offset.
    Produced(i16, i64),
    /// Error, beginning and end of the log, batches.
    Fetched {
        error: i16,
        start: i64,
        end: i64,
        batches: Vec<(i64, Run)>,
    },
    /// Error and offset.
    Offset(i16, i64),
    /// Error and host.
    Coordinator(i16, String),
    /// The generation, and to its leader all members.
    Joined {
        error: i16,
        generation: i32,
        leader: String,
        member: String,
        members: Vec<String>,
    },
    /// Error and share.
    Synced(i16, Vec<u8>),
    /// Of heartbeats, leaves and commits.
    Error(i16),
    /// Position and metadata, −1 for none.
    Offsets(i16, Vec<(Partition, i64, String)>),
}

impl Request {
    fn key_and_version(&self) -> (u16, u16) {
        match self {
            Self::Produce { .. } => (0, 5),
            Self::Fetch { .. } => (1, 5),
            Self::ListOffsets { .. } => (2, 1),
            Self::Metadata => (3, 4),
            Self::Commit { .. } => (8, 5),
            Self::OffsetFetch { .. } => (9, 3),
            Self::FindCoordinator { .. } => (10, 1),
            Self::Join { .. } => (11, 4),
            Self::Heartbeat { .. } => (12, 1),
            Self::Leave { .. } => (13, 1),
            Self::Sync { .. } => (14, 2),
            Self::CreateTopics => (19, 2),
            Self::InitProducer => (22, 0),
        }
    }

    /// The whole frame.
    pub fn encode(&self, correlation: i32) -> Vec<u8> {
        let (key, version) = self.key_and_version();
        let mut w = Writer::new();
        w.u32(0).u16(key).u16(version).i32(correlation);
        text(&mut w, "lab");
        self.encode_body(&mut w);
        let length = w.len() as u32 - 4;
        w.patch_u32(0, length);
        w.into_vec()
    }

    fn encode_body(&self, w: &mut Writer) {
        match self {
            Self::Metadata => {
                w.u32(2);
                text(w, KEPT);
                text(w, BRIEF);
                w.u8(0);
            }
            Self::CreateTopics => {
                let records = BRIEF_RECORDS.to_string();
                w.u32(2);
                new_topic(w, KEPT, 3, &[("retention.ms", "-1")]);
                let brief = [
                    ("retention.ms", "-1"),
                    ("retention.records", &records[..]),
                    ("segment.bytes", "600"),
                ];
                new_topic(w, BRIEF, 2, &brief);
                w.u32(1_000).u8(0);
            }
            Self::InitProducer => {
                w.u16(u16::MAX).u32(1_000);
            }
            Self::Produce { partition, batch } => {
                w.u16(u16::MAX).u16(u16::MAX).u32(1_000);
                one(w, *partition).bytes(batch);
            }
            Self::Fetch {
                partition,
                offset,
                bytes_max,
            } => {
                w.i32(-1).i32(FETCH_WAIT_MS).i32(1).i32(1 << 20).u8(0);
                one(w, *partition).i64(*offset).i64(-1).i32(*bytes_max);
            }
            Self::ListOffsets { partition, is_end } => {
                w.i32(-1);
                one(w, *partition).i64(if *is_end { -1 } else { -2 });
            }
            Self::FindCoordinator { group } => {
                text(w, group);
                w.u8(0);
            }
            Self::Join { group, member } => {
                text(w, group);
                w.i32(SESSION_TIMEOUT_MS).i32(REBALANCE_TIMEOUT_MS);
                text(w, member);
                text(w, "consumer");
                w.u32(1);
                text(w, "lab");
                w.bytes(b"all");
            }
            Self::Sync {
                group,
                member,
                generation,
                shares,
            } => {
                text(w, group);
                w.i32(*generation);
                text(w, member);
                w.u32(shares.len() as u32);
                for (member, share) in shares {
                    text(w, member);
                    w.bytes(share);
                }
            }
            Self::Heartbeat {
                group,
                member,
                generation,
            } => {
                text(w, group);
                w.i32(*generation);
                text(w, member);
            }
            Self::Leave { group, member } => {
                text(w, group);
                text(w, member);
            }
            Self::Commit {
                group,
                member,
                generation,
                partition,
                offset,
                metadata,
            } => {
                text(w, group);
                w.i32(*generation);
                text(w, member);
                one(w, *partition).i64(*offset);
                text(w, metadata);
            }
            Self::OffsetFetch { group } => {
                text(w, group);
                w.u32(2);
                for (topic, count) in [(KEPT, 3), (BRIEF, 2)] {
                    text(w, topic);
                    w.i32(count);
                    (0..count).for_each(|index| {
                        w.i32(index);
                    });
                }
            }
        }
    }

    /// The answer in a frame; the error says what is wrong with it.
    pub fn decode(&self, frame: &[u8], correlation: i32) -> Result<Answer, String> {
        let mut r = Reader::new(frame);
        let read = |r: &mut Reader<'_>| -> Result<Answer, DecodeError> {
            if r.i32()? != correlation {
                return Err(DecodeError::Invalid("correlation"));
            }
            let answer = self.decode_body(r)?;
            r.finish()?;
            Ok(answer)
        };
        read(&mut r).map_err(|why| format!("the answer to {self:?} cannot be read: {why}"))
    }

    fn decode_body(&self, r: &mut Reader<'_>) -> Result<Answer, DecodeError> {
        Ok(match self {
            Self::Metadata => metadata(r)?,
            Self::CreateTopics => {
                r.i32()?;
                let errors = list(r, |r| {
                    read_text(r)?;
                    let error = read_error(r)?;
                    read_text(r)?;
                    Ok(error)
                });
                Answer::Created(errors?)
            }
            Self::InitProducer => {
                r.i32()?;
                Answer::Producer(read_error(r)?, r.i64()?, read_error(r)?)
            }
            Self::Produce { partition, .. } => {
                read_one(r, *partition)?;
                let (error, offset) = (read_error(r)?, r.i64()?);
                r.i64()?;
                r.i64()?;
                r.i32()?;
                Answer::Produced(error, offset)
            }
            Self::Fetch { partition, .. } => {
                r.i32()?;
                read_one(r, *partition)?;
                let (error, end) = (read_error(r)?, r.i64()?);
                r.i64()?;
                let start = r.i64()?;
                if r.i32()? > 0 {
                    return Err(DecodeError::Invalid("aborted transactions"));
                }
                let batches = read_batches(r.bytes()?)?;
                Answer::Fetched {
                    error,
                    start,
                    end,
                    batches,
                }
            }
            Self::ListOffsets { partition, .. } => {
                read_one(r, *partition)?;
                let error = read_error(r)?;
                r.i64()?;
                Answer::Offset(error, r.i64()?)
            }
            Self::FindCoordinator { .. } => {
                r.i32()?;
                let error = read_error(r)?;
                read_text(r)?;
                r.i32()?;
                let host = read_text(r)?;
                r.i32()?;
                Answer::Coordinator(error, host)
            }
            Self::Join { .. } => {
                r.i32()?;
                let (error, generation) = (read_error(r)?, r.i32()?);
                read_text(r)?;
                let (leader, member) = (read_text(r)?, read_text(r)?);
                let members = list(r, |r| {
                    let member = read_text(r)?;
                    r.bytes()?;
                    Ok(member)
                });
                Answer::Joined {
                    error,
                    generation,
                    leader,
                    member,
                    members: members?,
                }
            }
            Self::Sync { .. } => {
                r.i32()?;
                Answer::Synced(read_error(r)?, r.bytes()?.to_vec())
            }
            Self::Heartbeat { .. } | Self::Leave { .. } => {
                r.i32()?;
                Answer::Error(read_error(r)?)
            }
            Self::Commit { partition, .. } => {
                r.i32()?;
                read_one(r, *partition)?;
                Answer::Error(read_error(r)?)
            }
            Self::OffsetFetch { .. } => offsets(r)?,
        })
    }
}

fn metadata(r: &mut Reader<'_>) -> Result<Answer, DecodeError> {
    r.i32()?;
    let hosts = list(r, |r| {
        let (id, host) = (r.i32()?, read_text(r)?);
        r.i32()?;
        read_text(r)?;
        Ok((id, host))
    })?;
    read_text(r)?;
    r.i32()?;
    let topics = list(r, |r| {
        read_error(r)?;
        let topic = read_text(r)?;
        r.bool()?;
        list(r, |r| {
            read_error(r)?;
            let (index, leader) = (r.i32()?, r.i32()?);
            list(r, |r| r.i32())?;
            list(r, |r| r.i32())?;
            let partition = Partition::find(&topic, index);
            let partition = partition.ok_or(DecodeError::Invalid("partition"))?;
            Ok((partition, leader))
        })
    })?;
    let leaders = topics.into_iter().flatten().collect();
    Ok(Answer::Metadata { hosts, leaders })
}

fn offsets(r: &mut Reader<'_>) -> Result<Answer, DecodeError> {
    r.i32()?;
    let topics = list(r, |r| {
        let topic = read_text(r)?;
        list(r, |r| {
            let (index, offset, metadata) = (r.i32()?, r.i64()?, read_text(r)?);
            if read_error(r)? != error::NONE {
                return Err(DecodeError::Invalid("error of a partition"));
            }
            let partition = Partition::find(&topic, index);
            let partition = partition.ok_or(DecodeError::Invalid("partition"))?;
            Ok((partition, offset, metadata))
        })
    })?;
    let positions = topics.into_iter().flatten().collect();
    Ok(Answer::Offsets(read_error(r)?, positions))
}

fn new_topic(w: &mut Writer, name: &str, partitions: i32, config: &[(&str, &str)]) {
    text(w, name);
    w.i32(partitions).u16(u16::MAX).u32(0);
    w.u32(config.len() as u32);
    for (key, value) in config {
        text(w, key);
        text(w, value);
    }
}

/// One topic with one partition, of which what follows is written.
fn one(w: &mut Writer, partition: Partition) -> &mut Writer {
    w.u32(1);
    text(w, partition.0);
    w.u32(1).i32(partition.1)
}

fn read_one(r: &mut Reader<'_>, partition: Partition) -> Result<(), DecodeError> {
    let is_it =
        r.u32()? == 1 && read_text(r)? == partition.0 && r.u32()? == 1 && r.i32()? == partition.1;
    is_it.then_some(()).ok_or(DecodeError::Invalid("partition"))
}

fn text(w: &mut Writer, text: &str) {
    w.u16(text.len() as u16).raw(text.as_bytes());
}

/// A text, or nothing for null.
fn read_text(r: &mut Reader<'_>) -> Result<String, DecodeError> {
    let length = r.u16()?;
    let length = if length == u16::MAX { 0 } else { length };
    let bytes = r.take(length.into())?;
    String::from_utf8(bytes.to_vec()).map_err(|_| DecodeError::Invalid("UTF-8"))
}

fn read_error(r: &mut Reader<'_>) -> Result<i16, DecodeError> {
    Ok(r.u16()? as i16)
}

fn list<T>(
    r: &mut Reader<'_>,
    item: impl Fn(&mut Reader<'_>) -> Result<T, DecodeError>,
) -> Result<Vec<T>, DecodeError> {
    let count = r.count(1)?;
    (0..count).map(|_| item(r)).collect()
}

/// A producer's mark on a batch: id, epoch, sequence of the first record.
pub type Mark = (i64, i16, i32);

/// A batch of records that hold their numbers and `padding` bytes.
pub fn batch(mark: Option<Mark>, run: Run, padding: usize) -> Vec<u8> {
    let mut records = Vec::new();
    for i in 0..run.count {
        let mut record = vec![0];
        varint(&mut record, 0); // time
        varint(&mut record, i64::from(i));
        varint(&mut record, -1); // key
        varint(&mut record, 8 + padding as i64);
        record.extend_from_slice(&(run.first + u64::from(i)).to_be_bytes());
        record.resize(record.len() + padding, b'.');
        varint(&mut record, 0); // headers
        varint(&mut records, record.len() as i64);
        records.extend_from_slice(&record);
    }
    let (id, epoch, sequence) = mark.unwrap_or((-1, -1, -1));
    let mut checked = Writer::new();
    checked.u16(0).u32(run.count - 1).i64(0).i64(0);
    checked.i64(id).u16(epoch as u16).i32(sequence);
    checked.u32(run.count).raw(&records);
    let mut whole = Writer::new();
    whole.i64(0).u32(checked.len() as u32 + 9).i32(-1).u8(2);
    whole.u32(crc32c::crc32c(checked.as_slice()));
    whole.raw(checked.as_slice());
    whole.into_vec()
}

fn read_batches(mut bytes: &[u8]) -> Result<Vec<(i64, Run)>, DecodeError> {
    let mut batches = Vec::new();
    while !bytes.is_empty() {
        let mut head = Reader::new(bytes);
        let (base, length) = (head.i64()?, head.u32()? as usize);
        let mut r = Reader::new(head.take(length)?);
        bytes = head.rest();
        r.take(5)?;
        if crc32c::crc32c(r.rest().get(4..).unwrap_or_default()) != r.u32()? {
            return Err(DecodeError::Invalid("check sum of a batch"));
        }
        r.take(BATCH_HEADER_BYTES - 21 - 4)?;
        let count = r.u32()?;
        let mut rest = r.rest();
        let mut first = None;
        for i in 0..count {
            let number = read_record(&mut rest, i64::from(i))?;
            if *first.get_or_insert(number) + u64::from(i) != number {
                return Err(DecodeError::Invalid("record among others"));
            }
        }
        let first = first.ok_or(DecodeError::Invalid("empty batch"))?;
        batches.push((base, Run { first, count }));
    }
    Ok(batches)
}

/// Takes a record off the front; its number.
fn read_record(rest: &mut &[u8], offset_delta: i64) -> Result<u64, DecodeError> {
    read_varint(rest)?;
    *rest = rest.get(1..).ok_or(DecodeError::Truncated)?;
    read_varint(rest)?;
    if read_varint(rest)? != offset_delta || read_varint(rest)? != -1 {
        return Err(DecodeError::Invalid("record"));
    }
    let length = read_varint(rest)? as usize;
    let (value, behind) = rest
        .split_at_checked(length)
        .ok_or(DecodeError::Truncated)?;
    *rest = behind;
    read_varint(rest)?;
    Reader::new(value).u64()
}

fn varint(out: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

fn read_varint(rest: &mut &[u8]) -> Result<i64, DecodeError> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, behind) = rest.split_first().ok_or(DecodeError::Truncated)?;
        *rest = behind;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok((value >> 1) as i64 ^ -((value & 1) as i64));
        }
    }
    Err(DecodeError::Invalid("varint"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_come_back_as_they_were_written() {
        let run = |first, count| Run { first, count };
        let mut bytes = batch(None, run(7, 1), 0);
        bytes.extend(batch(
            Some((1, 0, 5)),
            run(super::super::record(3, 9), 300),
            70,
        ));
        let batches = read_batches(&bytes).expect("well-formed");
        let second = run(super::super::record(3, 9), 300);
        assert_eq!(batches, [(0, run(7, 1)), (0, second)]);
        *bytes.last_mut().expect("not empty") ^= 1;
        assert!(read_batches(&bytes).is_err());
    }
}
