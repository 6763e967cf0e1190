//! Reading a snapshot back: chunks in order, whole records, and at the end the proof that counts and digest
//! are those of the cut.

use crate::command::{LogConfig, PartitionId};
use crate::groups::{Group, decode_offset};
use crate::log::{Batch, Log};
use crate::machine::Topics;
use crate::partition::Partition;
use crate::snapshot::{BATCH, END, FORMAT, GROUP, HEADER, OFFSET, PARTITION, PRODUCER, SEGMENT};
use base::{DecodeError, Reader, State, chunk};
use bytes::Bytes;
use std::collections::BTreeMap;

/// What the first record says of the state at the cut.
#[derive(Clone, Copy, Debug)]
struct Header {
    revision: u64,
    time_ms: i64,
    digest: u64,
    partitions: u64,
    groups: u64,
}

/// A partition that is arriving, and where it must end.
#[derive(Debug)]
struct Arriving {
    partition: Partition,
    end: i64,
    segment_ms: Option<i64>,
}

/// A machine whose state is still arriving.
#[derive(Debug, Default)]
pub struct Restore {
    header: Option<Header>,
    arriving: Option<Arriving>,
    partitions: BTreeMap<PartitionId, Partition>,
    groups: BTreeMap<String, Group>,
    /// The group whose offsets arrive.
    group: Option<String>,
    records: u64,
    chunks: u32,
    ended: bool,
}

impl Restore {
    /// Takes the next chunk.
    pub fn chunk(&mut self, chunk: &[u8]) -> Result<(), String> {
        let number = self.chunks;
        self.records_of(chunk)
            .map_err(|what| format!("restoring chunk {number} of a snapshot of topics: {what}"))
    }

    fn records_of(&mut self, chunk: &[u8]) -> Result<(), String> {
        let mut r = chunk::open(chunk, FORMAT, self.chunks)?;
        if self.ended {
            return Err("the snapshot had ended before it".into());
        }
        self.chunks += 1;
        while !r.is_empty() {
            let mut record = Reader::new(r.bytes().map_err(|e| e.to_string())?);
            self.record(&mut record)
                .and_then(|()| record.finish())
                .map_err(|e| format!("record {}: {e}", self.records))?;
        }
        Ok(())
    }

    fn record(&mut self, r: &mut Reader<'_>) -> Result<(), DecodeError> {
        let tag = r.u8()?;
        if self.ended {
            return Err(DecodeError::Invalid("record after the last one"));
        }
        if self.header.is_some() == (tag == HEADER) {
            return Err(DecodeError::Invalid("place of the header"));
        }
        if matches!(tag, PARTITION | GROUP | END) {
            self.end_partition()?;
        }
        match tag {
            HEADER => {
                self.header = Some(Header {
                    revision: r.u64()?,
                    time_ms: r.i64()?,
                    digest: r.u64()?,
                    partitions: r.u64()?,
                    groups: r.u64()?,
                });
            }
            PARTITION => self.arriving = Some(decode_partition(r)?),
            SEGMENT => {
                let arriving = self.arriving()?;
                arriving.partition.log.seal();
                arriving.segment_ms = Some(r.i64()?);
            }
            BATCH => {
                let batch = Batch {
                    base_offset: r.i64()?,
                    count: r.u32()?,
                    max_timestamp_ms: r.i64()?,
                    bytes: Bytes::copy_from_slice(r.bytes()?),
                };
                let arriving = self.arriving()?;
                let time_ms = arriving.segment_ms;
                let time_ms = time_ms.ok_or(DecodeError::Invalid("batch before a segment"))?;
                if !arriving.partition.log.put_restored(batch, time_ms) {
                    return Err(DecodeError::Invalid("offset of a batch"));
                }
            }
            PRODUCER => self.arriving()?.partition.producers.restore(r)?,
            GROUP => {
                let (name, group) = Group::decode_head(r)?;
                self.group = Some(name.clone());
                if self.groups.insert(name, group).is_some() {
                    return Err(DecodeError::Invalid("group that came before"));
                }
            }
            OFFSET => {
                let (partition, committed) = decode_offset(r)?;
                let group = self.group.as_ref().and_then(|g| self.groups.get_mut(g));
                let group = group.ok_or(DecodeError::Invalid("offset before a group"))?;
                group.put_offset(partition, committed);
            }
            END => {
                if r.u64()? != self.records {
                    return Err(DecodeError::Invalid("count of records"));
                }
                self.ended = true;
                return Ok(());
            }
            _ => return Err(DecodeError::Invalid("record tag")),
        }
        self.records += 1;
        Ok(())
    }

    fn arriving(&mut self) -> Result<&mut Arriving, DecodeError> {
        let none = DecodeError::Invalid("record before a partition");
        self.arriving.as_mut().ok_or(none)
    }

    fn end_partition(&mut self) -> Result<(), DecodeError> {
        let Some(arriving) = self.arriving.take() else {
            return Ok(());
        };
        if !arriving.partition.log.ends_restored(arriving.end) {
            return Err(DecodeError::Invalid("end of a partition"));
        }
        let id = arriving.partition.id;
        if self.partitions.insert(id, arriving.partition).is_some() {
            return Err(DecodeError::Invalid("partition that came before"));
        }
        Ok(())
    }

    /// The machine, if it is the one of the cut.
    pub fn finish(self) -> Result<Topics, String> {
        let refuse = |what: String| format!("restoring a snapshot of topics: {what}; take another");
        let header = match self.header {
            Some(header) if self.ended => header,
            _ => return Err(refuse(format!("it ends after {} chunks", self.chunks))),
        };
        let counts = (self.partitions.len() as u64, self.groups.len() as u64);
        if counts != (header.partitions, header.groups) {
            return Err(refuse(format!(
                "it holds {} partitions and {} groups, at the cut there were {} and {}",
                counts.0, counts.1, header.partitions, header.groups
            )));
        }
        let topics = Topics::from_parts(
            header.revision,
            header.time_ms,
            self.partitions,
            self.groups,
        );
        if topics.digest() != header.digest {
            return Err(refuse(format!(
                "its digest is {:016x}, at the cut it was {:016x}",
                topics.digest(),
                header.digest
            )));
        }
        Ok(topics)
    }
}

fn decode_partition(r: &mut Reader<'_>) -> Result<Arriving, DecodeError> {
    let id = PartitionId::decode_from(r)?;
    let name = r.str()?.to_owned();
    let config = LogConfig::decode_from(r)?;
    let (start, end) = (r.i64()?, r.i64()?);
    if start < 0 || end < start {
        return Err(DecodeError::Invalid("offsets of a partition"));
    }
    let mut partition = Partition::new(id, name, config);
    partition.log = Log::new(id, start);
    Ok(Arriving {
        partition,
        end,
        segment_ms: None,
    })
}
