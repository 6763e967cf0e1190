//! A partition: its configuration, its log, its producers.

use crate::command::{LogConfig, NewBatch, PartitionId};
use crate::log::{Batch, Log};
use crate::producers::{Producers, Verdict};
use crate::reply::{ErrorCode, Reply};
use base::Writer;
use twox_hash::XxHash64;

/// One partition.
#[derive(Clone, Debug)]
pub struct Partition {
    pub id: PartitionId,
    pub name: String,
    pub config: LogConfig,
    pub log: Log,
    pub producers: Producers,
}

/// A partition as others may see it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PartitionView {
    /// Which.
    pub id: PartitionId,
    /// Its topic's name when it was made.
    pub name: String,
    /// What it keeps.
    pub config: LogConfig,
    /// The first offset that can be read.
    pub log_start: i64,
    /// The offset that comes next. What was applied is committed: this is the high watermark too.
    pub log_end: i64,
    /// Bytes of batches held.
    pub bytes: u64,
    /// Segments held.
    pub segments: usize,
    /// Idempotent producers remembered.
    pub producers: usize,
}

/// What a read finds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fetched {
    /// The first offset that can be read.
    pub log_start: i64,
    /// The offset behind the last record that may be read.
    pub high_watermark: i64,
    /// Whole batches; the first may begin before the offset asked for.
    pub batches: Vec<Batch>,
}

/// What an append did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Appended {
    /// The batch stands at this offset.
    New(i64),
    /// It stood there already.
    Before(i64),
}

impl Partition {
    /// An empty partition.
    pub fn new(id: PartitionId, name: String, config: LogConfig) -> Self {
        Self {
            id,
            name,
            config,
            log: Log::new(id, 0),
            producers: Producers::default(),
        }
    }

    /// Refuses a batch that must not be taken, whoever sent it, if `ahead` records come before it.
    pub fn check(&self, batch: &NewBatch, ahead: u64) -> Result<(), ErrorCode> {
        if batch.count == 0 || batch.bytes.is_empty() {
            return Err(ErrorCode::InvalidRecord);
        }
        if batch.bytes.len() as u64 > self.config.batch_bytes_max {
            return Err(ErrorCode::BatchTooLarge);
        }
        let count = ahead.saturating_add(batch.count.into());
        if self.log.end().checked_add_unsigned(count).is_none() {
            return Err(ErrorCode::InvalidRecord);
        }
        Ok(())
    }

    /// Takes a batch, unless it was taken before or must not be.
    pub fn append(&mut self, batch: &NewBatch, time_ms: i64) -> Result<Appended, ErrorCode> {
        self.check(batch, 0)?;
        if let Some(mark) = batch.producer {
            match self.producers.check(mark, batch.count)? {
                Verdict::Next => {}
                Verdict::Repetition(base_offset) => return Ok(Appended::Before(base_offset)),
            }
        }
        let base_offset = self.log.append(batch, &self.config, time_ms);
        if let Some(mark) = batch.producer {
            (self.producers).record(mark, batch.count, base_offset, time_ms);
        }
        Ok(Appended::New(base_offset))
    }

    /// The reply to an append.
    pub fn appended(&self, what: Appended) -> Reply {
        let (Appended::New(base_offset) | Appended::Before(base_offset)) = what;
        Reply::Appended {
            base_offset,
            log_start: self.log.start(),
        }
    }

    /// Hash of everything.
    pub fn digest(&self) -> u64 {
        let mut w = Writer::new();
        self.encode_head(&mut w);
        XxHash64::oneshot(2, w.as_slice())
            .wrapping_add(self.log.digest())
            .wrapping_add(self.producers.digest())
    }

    /// Appends the byte form of all but batches and producers.
    pub fn encode_head(&self, w: &mut Writer) {
        self.id.encode_into(w);
        w.str(&self.name);
        self.config.encode_into(w);
        w.i64(self.log.start()).i64(self.log.end());
    }

    /// For people and front ends.
    pub fn view(&self) -> PartitionView {
        PartitionView {
            id: self.id,
            name: self.name.clone(),
            config: self.config,
            log_start: self.log.start(),
            log_end: self.log.end(),
            bytes: self.log.bytes(),
            segments: self.log.segment_count(),
            producers: self.producers.len(),
        }
    }
}
