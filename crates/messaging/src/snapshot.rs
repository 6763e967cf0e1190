//! A snapshot without stopping: partitions and then groups are visited in order between applies. What is
//! about to change before its turn leaves its image at once; what comes into being after the cut is passed
//! over. The image of a partition is handles of its segments, not copies of them: a snapshot costs memory
//! only for what retention frees while it is being taken.
//!
//! The form: a chunk is a `u16` format version, a `u32` chunk number from 0, then whole records; a record
//! is a `u32` length and so many bytes, of which the first is its tag. A partition's segments, batches and
//! producers follow its head, a group's offsets follow its head.

use crate::command::PartitionId;
use crate::groups::{Group, encode_offset};
use crate::log::Segment;
use crate::partition::Partition;
use base::planted::{Bug, planted};
use base::{SnapshotPoll, Writer};
use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

/// Version of the form.
pub const FORMAT: u16 = 1;
/// Tag of the machine's counters; the first record.
pub const HEADER: u8 = 1;
/// Tag of a partition's head.
pub const PARTITION: u8 = 2;
/// Tag of the beginning of a segment.
pub const SEGMENT: u8 = 3;
/// Tag of a batch.
pub const BATCH: u8 = 4;
/// Tag of a producer.
pub const PRODUCER: u8 = 5;
/// Tag of a group's head.
pub const GROUP: u8 = 6;
/// Tag of a committed offset.
pub const OFFSET: u8 = 7;
/// Tag of the last record.
pub const END: u8 = 8;

/// A chunk never holds less than this before it is said to be full.
const CHUNK_BYTES_MIN: usize = 64;

/// What is left to be written of one partition or group.
#[derive(Debug, Default)]
struct Image {
    records: VecDeque<Vec<u8>>,
    segments: VecDeque<Arc<Segment>>,
    /// Batches of the first segment that were written.
    batches_written: usize,
}

/// Goes through a map in order, with the old images of what changed before its turn.
#[derive(Debug)]
struct Sweep<K> {
    /// Everything up to here was visited.
    visited: Option<K>,
    /// `None`: not of the cut.
    kept: BTreeMap<K, Option<Image>>,
}

impl<K: Ord + Clone> Sweep<K> {
    fn new() -> Self {
        Self {
            visited: None,
            kept: BTreeMap::new(),
        }
    }

    fn keep<V>(&mut self, key: K, value: Option<&V>, image: impl FnOnce(&K, &V) -> Image) {
        let is_visited = self.visited.as_ref().is_some_and(|v| key <= *v);
        if !is_visited && !self.kept.contains_key(&key) {
            let image = value.map(|value| image(&key, value));
            self.kept.insert(key, image);
        }
    }

    /// The next image, or `None` at the end.
    fn next<V>(&mut self, live: &BTreeMap<K, V>, image: impl Fn(&K, &V) -> Image) -> Option<Image> {
        loop {
            let from = self
                .visited
                .as_ref()
                .map_or(Bound::Unbounded, Bound::Excluded);
            let next_live = live.range((from, Bound::Unbounded)).next();
            let next_kept = self.kept.keys().next();
            let take_kept = match (next_live, next_kept) {
                (None, None) => return None,
                (Some((a, _)), Some(b)) => b <= a,
                (live, _) => live.is_none(),
            };
            let found = if take_kept {
                let (key, image) = self.kept.pop_first().expect("it was seen");
                self.visited = Some(key);
                image
            } else {
                let (key, value) = next_live.expect("it was seen");
                let found = image(key, value);
                self.visited = Some(key.clone());
                Some(found)
            };
            if found.is_some() {
                return found;
            }
        }
    }
}

/// A snapshot being taken.
#[derive(Debug)]
pub struct Cut {
    partitions: Sweep<PartitionId>,
    groups: Sweep<String>,
    current: Image,
    records: u64,
    chunks: u32,
    ended: bool,
}

impl Cut {
    /// The cut is now.
    pub fn new(header: &[u8]) -> Self {
        let mut current = Image::default();
        current.records.push_back(record(HEADER, header));
        Self {
            partitions: Sweep::new(),
            groups: Sweep::new(),
            current,
            records: 0,
            chunks: 0,
            ended: false,
        }
    }

    /// A partition is about to change, to go, or (`None`) to come.
    pub fn keep_old_partition(&mut self, id: PartitionId, partition: Option<&Partition>) {
        if !planted(Bug::SnapshotWithoutOldImage) {
            self.partitions.keep(id, partition, partition_image);
        }
    }

    /// A group is about to change, to go, or (`None`) to come.
    pub fn keep_old_group(&mut self, name: &str, group: Option<&Group>) {
        if !planted(Bug::SnapshotWithoutOldImage) {
            self.groups.keep(name.to_owned(), group, group_image);
        }
    }

    /// The next chunk.
    pub fn poll(
        &mut self,
        partitions: &BTreeMap<PartitionId, Partition>,
        groups: &BTreeMap<String, Group>,
        bytes_max: usize,
    ) -> SnapshotPoll {
        if self.ended {
            return SnapshotPoll::Done;
        }
        let mut w = Writer::new();
        base::chunk::begin(&mut w, FORMAT, self.chunks);
        self.chunks += 1;
        let bytes_max = bytes_max.max(CHUNK_BYTES_MIN);
        while w.len() < bytes_max {
            if let Some(record) = self.current.next() {
                self.records += 1;
                w.bytes(&record);
                continue;
            }
            let next = (self.partitions.next(partitions, partition_image))
                .or_else(|| self.groups.next(groups, group_image));
            match next {
                Some(image) => self.current = image,
                None => {
                    self.ended = true;
                    let mut end = Writer::new();
                    end.u64(self.records);
                    w.bytes(&record(END, end.as_slice()));
                    break;
                }
            }
        }
        SnapshotPoll::Chunk(w.into_vec())
    }
}

impl Image {
    fn next(&mut self) -> Option<Vec<u8>> {
        if let Some(record) = self.records.pop_front() {
            return Some(record);
        }
        let segment = self.segments.front()?;
        let mut w = Writer::new();
        let Some(batch) = segment.batches.get(self.batches_written) else {
            self.segments.pop_front();
            self.batches_written = 0;
            return self.next();
        };
        if self.batches_written == 0 {
            w.i64(segment.appended_ms);
            self.records.push_back(batch_record(batch));
            self.batches_written = 1;
            return Some(record(SEGMENT, w.as_slice()));
        }
        self.batches_written += 1;
        Some(batch_record(batch))
    }
}

fn record(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut record = Vec::with_capacity(1 + body.len());
    record.push(tag);
    record.extend_from_slice(body);
    record
}

fn batch_record(batch: &crate::log::Batch) -> Vec<u8> {
    let mut w = Writer::from_vec(Vec::with_capacity(32 + batch.bytes.len()));
    w.u8(BATCH).i64(batch.base_offset).u32(batch.count);
    w.i64(batch.max_timestamp_ms).bytes(&batch.bytes);
    w.into_vec()
}

fn partition_image(_: &PartitionId, partition: &Partition) -> Image {
    let mut head = Writer::new();
    partition.encode_head(&mut head);
    let producers = partition.producers.records();
    Image {
        records: [record(PARTITION, head.as_slice())]
            .into_iter()
            .chain(producers.map(|p| record(PRODUCER, &p)))
            .collect(),
        segments: partition.log.segments(),
        batches_written: 0,
    }
}

#[allow(clippy::ptr_arg)] // the key of the map that is gone through
fn group_image(name: &String, group: &Group) -> Image {
    let mut head = Writer::new();
    group.encode_head(&mut head, name);
    let offsets = group.offsets.iter().map(|(partition, committed)| {
        let mut w = Writer::new();
        encode_offset(&mut w, *partition, committed);
        record(OFFSET, w.as_slice())
    });
    Image {
        records: [record(GROUP, head.as_slice())]
            .into_iter()
            .chain(offsets)
            .collect(),
        ..Image::default()
    }
}
