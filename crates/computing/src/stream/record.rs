//! What is kept of a stream in the coordination store: its last checkpoint, and who may make the next one.
//!
//! The record changes by comparing its version only. A master first raises the *epoch*: from then on, whatever an
//! earlier one still has under way is refused. Output is published in the transactions that change the record.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How far a partition of the source was read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Position {
    /// The next record's offset.
    pub offset: i64,
    /// The latest event time that was met, if any was.
    pub newest_ms: Option<i64>,
}

/// The record.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Record {
    /// Raised by whoever begins anew.
    pub epoch: u64,
    /// The checkpoint's number; 0 where there is none yet.
    pub checkpoint: u64,
    /// Where the sources read on, by partition.
    pub positions: BTreeMap<i32, Position>,
    /// The files with what the tasks had, and with their output, in the order of tasks.
    pub files: Vec<String>,
    /// How many records of output there are in the files.
    pub outputs: u64,
    /// How many of them, counted from the first, are published.
    pub published: u64,
    /// The watermark, if there is one.
    pub watermark_ms: Option<i64>,
    /// Records read by all checkpoints together.
    pub read: u64,
    /// Of these, those that came too late.
    pub late: u64,
    /// And those that cannot be read.
    pub unreadable: u64,
}

impl Record {
    /// The file of that task for the next checkpoint of this epoch.
    pub fn file(epoch: u64, checkpoint: u64, task: usize) -> String {
        format!("{epoch}-{checkpoint}-{task}")
    }

    /// True when nobody needs that file any more, whoever leads now: it is older than this record, and not of it.
    /// Younger ones may be of a checkpoint that is under way.
    pub fn is_left_over(&self, file: &str) -> bool {
        let mut numbers = file.split('-').map(|text| text.parse::<u64>().ok());
        let (Some(Some(epoch)), Some(Some(checkpoint))) = (numbers.next(), numbers.next()) else {
            return false;
        };
        let is_older = (epoch, checkpoint) <= (self.epoch, self.checkpoint);
        is_older && self.files.iter().all(|named| named != file)
    }

    /// True when all output of the checkpoint is published.
    pub fn is_published(&self) -> bool {
        self.published == self.outputs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_nobody_can_need_is_left_over() {
        let record = Record {
            epoch: 5,
            checkpoint: 7,
            files: vec![Record::file(4, 7, 0), Record::file(4, 7, 1)],
            ..Record::default()
        };
        for (file, is_left_over) in [
            ("4-7-0", false),
            ("4-7-2", true),
            ("4-8-0", true),
            ("5-7-0", true),
            ("5-8-0", false),
            ("6-1-0", false),
            ("notes.txt", false),
        ] {
            assert_eq!(record.is_left_over(file), is_left_over, "{file}");
        }
    }
}
