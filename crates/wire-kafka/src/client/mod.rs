//! The client's side of the requests that the command line makes: topics are made, deleted, read ([`mod@read`]) and
//! appended to ([`append`]), also for a consumer group ([`group`]).
//! Their versions are the last ones before lengths became varints.

pub mod append;
pub mod group;
pub mod read;

use base::{DecodeError, Reader, Writer};
use bytes::Bytes;

const CREATE_TOPICS: (u16, u16) = (19, 2);
const DELETE_TOPICS: (u16, u16) = (20, 1);
/// How long the server may take, in milliseconds.
const TIMEOUT_MS: u32 = 30_000;

/// The frame that makes a topic; `None` leaves the number of partitions to the server.
pub fn create_topic(name: &str, partitions: Option<u32>, config: &[(String, String)]) -> Vec<u8> {
    let mut w = begin(CREATE_TOPICS);
    w.u32(1);
    text(&mut w, name);
    let partitions = partitions.and_then(|n| i32::try_from(n).ok());
    w.i32(partitions.unwrap_or(-1));
    w.u16(u16::MAX); // as many copies as there are
    w.u32(0).u32(config.len() as u32);
    for (key, value) in config {
        text(&mut w, key);
        text(&mut w, value);
    }
    w.u32(TIMEOUT_MS).u8(0);
    end(w)
}

/// The frame that deletes a topic.
pub fn delete_topic(name: &str) -> Vec<u8> {
    let mut w = begin(DELETE_TOPICS);
    w.u32(1);
    text(&mut w, name);
    w.u32(TIMEOUT_MS);
    end(w)
}

/// Kafka's error number in the answer to either, 0 for none. An error: the frame is no such answer.
pub fn error_in(frame: &Bytes) -> Result<i16, DecodeError> {
    let mut r = Reader::new(frame);
    r.i32()?; // correlation
    r.i32()?; // throttle
    if r.u32()? != 1 {
        return Err(DecodeError::Invalid("count of topics"));
    }
    let length = r.u16()?;
    r.take(length.into())?;
    Ok(r.u16()? as i16)
}

fn begin((key, version): (u16, u16)) -> Writer {
    let mut w = Writer::new();
    w.u32(0).u16(key).u16(version).i32(1);
    text(&mut w, "althing");
    w
}

fn end(mut w: Writer) -> Vec<u8> {
    let length = w.len() as u32 - 4;
    w.patch_u32(0, length);
    w.into_vec()
}

fn text(w: &mut Writer, text: &str) {
    w.u16(text.len() as u16).raw(text.as_bytes());
}

/// A text, empty for null.
fn read_text(r: &mut Reader<'_>) -> Result<String, DecodeError> {
    let length = r.u16()?;
    let bytes = r.take(if length == u16::MAX { 0 } else { length }.into())?;
    std::str::from_utf8(bytes)
        .map(str::to_owned)
        .map_err(|_| DecodeError::Invalid("UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reply::{self, CreatedTopic, DeletedTopic};
    use crate::request::{OffsetAt, Request};
    use crate::{Api, Connection, Error, Header, Limits, Reply};
    use messaging::{Batch, ProducerMark, TopicId, TopicName};

    fn read(frame: Vec<u8>) -> Request {
        let mut connection = Connection::new(Limits::default());
        connection.handle_bytes(&frame.into());
        let incoming = connection.poll().expect("well-formed");
        incoming.expect("whole").request
    }

    fn answer(api: Api, version: i16, reply: &Reply) -> Bytes {
        let header = Header {
            api,
            version,
            correlation: 1,
            client_id: String::new(),
        };
        let mut out = Vec::new();
        reply::encode(&mut out, &header, reply).expect("it has a form");
        Bytes::from(out).slice(4..)
    }

    #[test]
    fn topics_are_asked_for_as_the_server_reads_it() {
        let config = [("retention.ms".to_owned(), "5".to_owned())];
        let Request::CreateTopics { topics, .. } = read(create_topic("logs", Some(3), &config))
        else {
            panic!("another request");
        };
        assert_eq!(topics.len(), 1);
        assert_eq!(
            (&topics[0].name[..], topics[0].partition_count),
            ("logs", 3)
        );
        assert_eq!(topics[0].replication_factor, -1);
        assert_eq!(
            topics[0].config,
            [("retention.ms".into(), Some("5".into()))]
        );
        let Request::DeleteTopics { topics, .. } = read(delete_topic("logs")) else {
            panic!("another request");
        };
        assert_eq!(topics, [TopicName::Name("logs".into())]);
    }

    #[test]
    fn errors_are_found_in_answers() {
        for (result, error) in [
            (Err(Error::TopicAlreadyExists), 36),
            (Ok((TopicId(4), 3, 1, Vec::new())), 0),
        ] {
            let name = "logs".to_owned();
            let reply = Reply::CreateTopics(vec![CreatedTopic { name, result }]);
            assert_eq!(error_in(&answer(Api::CreateTopics, 2, &reply)), Ok(error));
        }
        for (result, error) in [(Err(Error::UnknownTopicOrPartition), 3), (Ok(()), 0)] {
            let (name, id) = (Some("logs".to_owned()), TopicId(0));
            let reply = Reply::DeleteTopics(vec![DeletedTopic { name, id, result }]);
            assert_eq!(error_in(&answer(Api::DeleteTopics, 1, &reply)), Ok(error));
        }
        assert!(error_in(&Bytes::from_static(b"nothing")).is_err());
    }

    #[test]
    fn topic_is_read_as_the_server_answers() {
        let frame = Request::Metadata {
            topics: Some(vec![TopicName::Name("logs".into())]),
            may_create: false,
        };
        assert_eq!(read(self::read::metadata("logs", false)), frame);
        let broker = |id, host: &str, port| crate::reply::Broker {
            id,
            host: host.into(),
            port,
        };
        let partition = |index, leader: Option<i32>| reply::PartitionMetadata {
            index,
            leader,
            replicas: vec![1, 2],
        };
        let metadata = Reply::Metadata {
            brokers: vec![broker(1, "a", 9), broker(2, "b", 10)],
            cluster_id: "c".into(),
            controller: 1,
            topics: vec![reply::TopicMetadata {
                name: Some("logs".into()),
                id: TopicId(4),
                partitions: Ok(vec![partition(0, Some(2)), partition(1, None)]),
            }],
        };
        let found = self::read::metadata_in(&answer(Api::Metadata, 4, &metadata)).unwrap();
        assert_eq!(found.brokers, [(1, "a".into(), 9), (2, "b".into(), 10)]);
        assert_eq!((found.error, found.leaders), (0, vec![(0, 2), (1, -1)]));

        let record = |value: &'static str| crate::records::Record {
            key: Some("k".into()),
            value: Some(value.into()),
            headers: vec![("h".into(), None)],
        };
        let batch = crate::records::encode(5, None, &[record("one"), record("two")]);
        let batches = vec![Batch {
            base_offset: 7,
            count: 2,
            max_timestamp_ms: 5,
            bytes: batch.bytes,
        }];
        let fetched = Reply::Fetch(vec![crate::ByTopic {
            topic: "logs".into(),
            partitions: vec![reply::FetchedPartition {
                index: 1,
                result: Ok(messaging::Fetched {
                    log_start: 0,
                    high_watermark: 9,
                    batches,
                }),
            }],
        }]);
        let bytes = answer(Api::Fetch, 5, &fetched);
        let found = self::read::fetched_in(&bytes).unwrap();
        let values: Vec<_> = (found.records.iter())
            .map(|r| (r.offset, r.time_ms, r.value.as_deref().unwrap()))
            .collect();
        assert_eq!(values, [(7, 5, &b"one"[..]), (8, 5, b"two")]);
        assert_eq!((found.error, found.end), (0, 9));
        let mut damaged = bytes.to_vec();
        *damaged.last_mut().unwrap() ^= 1;
        assert!(self::read::fetched_in(&damaged).is_err());

        let offset = Reply::ListOffsets(vec![crate::ByTopic {
            topic: "logs".into(),
            partitions: vec![reply::FoundOffset {
                index: 1,
                result: Ok((42, -1)),
            }],
        }]);
        let bytes = answer(Api::ListOffsets, 1, &offset);
        assert_eq!(self::read::offset_in(&bytes), Ok((0, 42)));
        for (asked, at) in [(true, OffsetAt::Latest), (false, OffsetAt::Earliest)] {
            let Request::ListOffsets(asked) = read(self::read::list_offset("logs", 3, asked))
            else {
                panic!("another request")
            };
            let query = &asked[0].partitions[0];
            assert_eq!((&asked[0].topic[..], query.index), ("logs", 3));
            assert_eq!(query.at, at);
        }
        let Request::Fetch { .. } = read(self::read::fetch("logs", 3, 17, 100, 1 << 20)) else {
            panic!("another request")
        };
    }

    #[test]
    fn records_are_appended_as_the_server_reads_it() {
        let mark = ProducerMark {
            id: 77,
            epoch: 0,
            sequence: 40,
        };
        let record = crate::records::Record {
            value: Some("one".into()),
            ..crate::records::Record::default()
        };
        let batch = crate::records::encode(5, Some(mark), &[record.clone(), record]);
        let frame = append::produce("logs", 3, -1, &batch);
        let Request::Produce {
            transactional_id: None,
            acks: -1,
            topics,
            ..
        } = read(frame)
        else {
            panic!("another request");
        };
        let found = &topics[0].partitions[0];
        assert_eq!((&topics[0].topic[..], found.index), ("logs", 3));
        assert_eq!(found.batch, Ok(batch));
        let asked = read(append::new_producer());
        assert!(matches!(
            asked,
            Request::InitProducerId {
                transactional_id: None,
                ..
            }
        ));

        for (result, wanted) in [
            (Ok((17, 3)), (0, 17)),
            (Err(Error::NotLeaderOrFollower), (6, -1)),
        ] {
            let reply = Reply::Produce(vec![crate::ByTopic {
                topic: "logs".into(),
                partitions: vec![reply::Produced { index: 3, result }],
            }]);
            let bytes = answer(Api::Produce, 3, &reply);
            assert_eq!(append::produced_in(&bytes), Ok(wanted));
        }
        let bytes = answer(Api::InitProducerId, 0, &Reply::InitProducerId(Ok(77)));
        assert_eq!(append::new_producer_in(&bytes), Ok((0, 77)));
    }

    #[test]
    fn groups_are_asked_as_the_server_reads_it() {
        let Request::FindCoordinator { kind: 0, keys } = read(group::coordinator("g")) else {
            panic!("another request");
        };
        assert_eq!(keys, ["g"]);
        let broker = crate::reply::Broker {
            id: 4,
            host: "a".into(),
            port: 9,
        };
        let reply = Reply::FindCoordinator(vec![("g".into(), Ok(broker))]);
        let bytes = answer(Api::FindCoordinator, 0, &reply);
        assert_eq!(group::coordinator_in(&bytes), Ok((0, "a".into(), 9)));

        let Request::OffsetFetch(groups) = read(group::positions("g", "logs", &[0, 2])) else {
            panic!("another request");
        };
        let topics = groups[0].topics.as_ref().expect("one");
        assert_eq!(groups[0].group, "g");
        assert_eq!(
            (&topics[0].topic[..], &topics[0].partitions[..]),
            ("logs", &[0, 2][..])
        );

        let Request::OffsetCommit {
            group,
            generation: -1,
            topics,
            ..
        } = read(group::commit("g", "logs", &[(0, 5), (2, 7)]))
        else {
            panic!("another request");
        };
        let offsets: Vec<_> = (topics[0].partitions.iter())
            .map(|p| (p.index, p.offset))
            .collect();
        assert_eq!((&group[..], offsets), ("g", vec![(0, 5), (2, 7)]));
        for (result, wanted) in [(Ok(()), 0), (Err(Error::UnknownMemberId), 25)] {
            let partition = |index, result| reply::PartitionResult { index, result };
            let reply = Reply::OffsetCommit(vec![crate::ByTopic {
                topic: "logs".into(),
                partitions: vec![partition(0, Ok(())), partition(2, result)],
            }]);
            let bytes = answer(Api::OffsetCommit, 2, &reply);
            assert_eq!(group::committed_in(&bytes), Ok(wanted));
        }
    }
}
