//! Requests about records: produce, fetch, offsets.

use super::draft::{Draft, Work};
use super::places::led_partition;
use super::{Context, UNANSWERED};
use base::ShardId;
use messaging::{Command, ErrorCode, NewBatch, PartitionId, Topics};
use shard::Shard;
use std::collections::{BTreeMap, BTreeSet};
use wire_kafka::reply::{EpochEnd, FetchedPartition, FoundOffset, Outcome, Produced};
use wire_kafka::request::{EpochQuery, Fetch, OffsetAt, OffsetQuery, ProducePartition};
use wire_kafka::{ByTopic, Error, Reply, error_of, records};

/// The most records that one fetch is answered with, in bytes; a larger batch comes alone.
const FETCH_BYTES_MAX: usize = 8 << 20;

/// Room for units that batches leave to others, in bytes: whose unit finds none loses its connection.
const ROOM_LEFT_BYTES: usize = 16 << 20;
/// A unit is longer than its batch by less than this.
const UNIT_BYTES: usize = 256;

/// What became of a fetch.
pub enum Fetching {
    /// Answer this.
    Answer(Reply),
    /// There is too little yet; these are the partitions that are worth waiting for.
    Wait(Vec<PartitionId>),
    /// An offset is not here that may be elsewhere: what these shards have here may be old.
    Unsure(BTreeSet<ShardId>),
}

/// Each batch is a unit. All acknowledgements mean the same: a majority has it. While a majority does not keep
/// up, what finds no room is refused with an error upon which clients try again; `unsent` is what was asked
/// for before.
pub fn produce(
    cx: &Context<'_>,
    unsent: &BTreeMap<ShardId, usize>,
    is_transactional: bool,
    acks: i16,
    topics: Vec<ByTopic<ProducePartition>>,
) -> Draft {
    let refusal = if !(-1..=1).contains(&acks) {
        Some(Error::InvalidRequiredAcks)
    } else if is_transactional {
        Some(Error::TransactionalIdAuthorizationFailed)
    } else {
        None
    };
    let mut bytes = unsent.clone();
    let mut has_room = |shard: ShardId, batch: &NewBatch| {
        let room = cx.shard(shard).map_or(0, Shard::room_bytes);
        let asked = bytes.entry(shard).or_default();
        let with = *asked + batch.bytes.len() + UNIT_BYTES;
        let fits = with <= room.saturating_sub(ROOM_LEFT_BYTES);
        if fits {
            *asked = with;
        }
        fits
    };
    let mut draft = Draft::of(Work::Taken);
    let mut answers = Vec::with_capacity(topics.len());
    for (t, topic) in topics.into_iter().enumerate() {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for (p, part) in topic.partitions.into_iter().enumerate() {
            let place = match refusal {
                Some(error) => Err(error),
                None => led_partition(cx, &topic.topic, part.index),
            };
            let result = match (place, part.batch) {
                (Ok((shard, ..)), _) if cx.full.contains(&shard) => Err(Error::KafkaStorageError),
                (Ok((shard, ..)), _) if cx.is_held_up(shard) => Err(Error::RequestTimedOut),
                (Ok((shard, ..)), Ok(batch)) if !has_room(shard, &batch) => {
                    Err(Error::NotEnoughReplicas)
                }
                (Ok((shard, partition, _)), Ok(batch)) => {
                    draft.unit(shard, (t, p), Command::Append { partition, batch });
                    Err(UNANSWERED)
                }
                (Err(error), _) | (_, Err(error)) => Err(error),
            };
            let index = part.index;
            partitions.push(Produced { index, result });
        }
        let topic = topic.topic;
        answers.push(ByTopic { topic, partitions });
    }
    let reply = Reply::Produce(answers);
    draft.work = match acks {
        0 => Work::Silent(reply),
        _ => Work::Reply(reply),
    };
    draft
}

/// When a fetch is answered whatever there is, monotonic microseconds.
pub fn deadline_us(fetch: &Fetch, since_us: u64) -> u64 {
    let wait_ms = u64::try_from(fetch.wait_ms_max).unwrap_or(0);
    since_us + wait_ms * 1_000
}

/// Reads what a fetch asks for, if it can be answered now.
pub fn fetch(cx: &Context<'_>, fetch: &Fetch, is_sure: bool, until_us: u64) -> Fetching {
    let size = |bytes: i32| usize::try_from(bytes).unwrap_or(0);
    let bytes_max = size(fetch.bytes_max).min(FETCH_BYTES_MAX);
    let bytes_min = size(fetch.bytes_min).min(bytes_max);
    let (mut bytes, mut has_failed) = (0, fetch.topics.is_empty());
    let (mut awaited, mut unsure) = (Vec::new(), BTreeSet::new());
    let mut topics = Vec::with_capacity(fetch.topics.len());
    for topic in &fetch.topics {
        let partitions = topic.partitions.iter().map(|part| {
            let found = led_partition(cx, &topic.topic, part.index);
            let result = found.and_then(|(shard, id, held)| {
                awaited.push(id);
                let room = bytes_max.saturating_sub(bytes);
                let most = size(part.bytes_max).min(room);
                let read = held.read(id, part.offset, most, bytes == 0 && bytes_max > 0);
                if read == Err(ErrorCode::OffsetOutOfRange) {
                    unsure.insert(shard);
                }
                let read = read.map_err(error_of)?;
                bytes += read.batches.iter().map(|b| b.bytes.len()).sum::<usize>();
                Ok(read)
            });
            has_failed |= result.is_err();
            let index = part.index;
            FetchedPartition { index, result }
        });
        let partitions = partitions.collect();
        let topic = topic.topic.clone();
        topics.push(ByTopic { topic, partitions });
    }
    if !unsure.is_empty() && !is_sure {
        Fetching::Unsure(unsure)
    } else if has_failed || bytes >= bytes_min || cx.now.mono_us >= until_us {
        Fetching::Answer(Reply::Fetch(topics))
    } else {
        Fetching::Wait(awaited)
    }
}

pub fn list_offsets(cx: &Context<'_>, topics: Vec<ByTopic<OffsetQuery>>) -> Reply {
    let find = |topic: &str, query: &OffsetQuery| {
        let (_, id, held) = led_partition(cx, topic, query.index)?;
        find_offset(held, id, query.at)
    };
    let found = by_topic(topics, |topic, query| FoundOffset {
        index: query.index,
        result: find(topic, &query),
    });
    Reply::ListOffsets(found)
}

fn find_offset(held: &Topics, id: PartitionId, at: OffsetAt) -> Outcome<(i64, i64)> {
    let (start, end) = held.bounds(id).ok_or(Error::LeaderNotAvailable)?;
    let found = match at {
        OffsetAt::Earliest => return Ok((start, -1)),
        OffsetAt::Latest => return Ok((end, -1)),
        OffsetAt::Newest => {
            let batch = held.newest_batch(id).map_err(error_of)?;
            batch.map(|batch| records::find_time(batch, batch.max_timestamp_ms))
        }
        OffsetAt::Time(time_ms) => {
            let batch = held.batch_at_time(id, time_ms).map_err(error_of)?;
            batch.map(|batch| records::find_time(batch, time_ms))
        }
        OffsetAt::Unknown(_) => return Err(Error::UnsupportedVersion),
    };
    Ok(found.unwrap_or((-1, -1)))
}

/// Logs are never cut at their end, so there is one epoch, 0.
pub fn epoch_ends(cx: &Context<'_>, topics: Vec<ByTopic<EpochQuery>>) -> Reply {
    let find = |topic: &str, query: &EpochQuery| {
        let (_, id, held) = led_partition(cx, topic, query.index)?;
        let (_, end) = held.bounds(id).ok_or(Error::LeaderNotAvailable)?;
        Ok(if query.epoch == 0 { (0, end) } else { (-1, -1) })
    };
    let found = by_topic(topics, |topic, query| EpochEnd {
        index: query.index,
        result: find(topic, &query),
    });
    Reply::OffsetForLeaderEpoch(found)
}

pub fn delete_records(cx: &Context<'_>, topics: Vec<ByTopic<(i32, i64)>>) -> Draft {
    let mut draft = Draft::of(Work::Taken);
    let mut answers = Vec::with_capacity(topics.len());
    for (t, topic) in topics.into_iter().enumerate() {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for (p, (index, log_start)) in topic.partitions.into_iter().enumerate() {
            let result = match led_partition(cx, &topic.topic, index) {
                Ok((shard, partition, _)) => {
                    let command = Command::Trim {
                        partition,
                        log_start,
                    };
                    draft.unit(shard, (t, p), command);
                    Err(UNANSWERED)
                }
                Err(error) => Err(error),
            };
            partitions.push((index, result));
        }
        let topic = topic.topic;
        answers.push(ByTopic { topic, partitions });
    }
    draft.work = Work::Reply(Reply::DeleteRecords(answers));
    draft
}

/// The same shape with something else for each partition.
fn by_topic<A, B>(topics: Vec<ByTopic<A>>, make: impl Fn(&str, A) -> B) -> Vec<ByTopic<B>> {
    let of = |t: ByTopic<A>| {
        let partitions = t.partitions.into_iter().map(|p| make(&t.topic, p));
        ByTopic {
            partitions: partitions.collect(),
            topic: t.topic,
        }
    };
    topics.into_iter().map(of).collect()
}
