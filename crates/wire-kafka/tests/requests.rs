//! Every request in every version that is spoken, as the crate's own client writes it.

mod common;

use bytes::Bytes;
use common::{CORRELATION, batch, request};
use messaging::{
    GroupProtocol, Join, MemberName, NewBatch, ProducerMark, Sync, TopicId, TopicName,
};
use wire_kafka::request::{
    CommitPartition, ConfigChange, ConfigOp, ConfigQuery, ConfigResource, EpochQuery, Fetch,
    FetchPartition, MorePartitions, NewTopic, OffsetAt, OffsetFetchGroup, OffsetQuery,
    ProducePartition,
};
use wire_kafka::{Api, ByTopic, Connection, Limits, ProtocolError, Request};

fn decode(bytes: &[u8]) -> Result<Option<wire_kafka::Incoming>, ProtocolError> {
    let mut connection = Connection::new(Limits::default());
    connection.handle_bytes(&Bytes::copy_from_slice(bytes));
    connection.poll()
}

fn logs<T>(partitions: Vec<T>) -> Vec<ByTopic<T>> {
    let topic = "logs".into();
    vec![ByTopic { topic, partitions }]
}

fn ann(static_from: bool) -> MemberName {
    MemberName {
        id: "ann".into(),
        instance: static_from.then(|| "a".into()),
    }
}

/// What the request of `common` must come out as.
fn expected(api: Api, v: i16) -> Request {
    let group = String::from("readers");
    let resource = ConfigResource::Topic("logs".into());
    match api {
        Api::Produce => Request::Produce {
            transactional_id: None,
            acks: -1,
            timeout_ms: 30,
            topics: logs(vec![ProducePartition {
                index: 3,
                batch: Ok(NewBatch {
                    count: 2,
                    max_timestamp_ms: 1010,
                    producer: Some(ProducerMark {
                        id: 9,
                        epoch: 0,
                        sequence: 5,
                    }),
                    bytes: Bytes::from(batch((9, 0, 5), 1000, &[0, 10])),
                }),
            }]),
        },
        Api::Fetch => Request::Fetch(Fetch {
            wait_ms_max: 500,
            bytes_min: 1,
            bytes_max: 2000,
            session: if v >= 7 { 5 } else { 0 },
            session_epoch: if v >= 7 { 6 } else { -1 },
            topics: logs(vec![FetchPartition {
                index: 3,
                offset: 40,
                bytes_max: 1000,
                leader_epoch: if v >= 9 { 0 } else { -1 },
            }]),
            forgotten: if v >= 7 {
                vec![ByTopic {
                    topic: "old".into(),
                    partitions: vec![1, 2],
                }]
            } else {
                vec![]
            },
        }),
        Api::ListOffsets => {
            let all = [
                OffsetAt::Latest,
                OffsetAt::Earliest,
                OffsetAt::Newest,
                OffsetAt::Time(99),
                OffsetAt::Unknown(-9),
            ];
            let all = (0..).zip(all).map(|(index, at)| OffsetQuery { index, at });
            Request::ListOffsets(logs(all.collect()))
        }
        Api::Metadata => {
            let mut topics = vec![TopicName::Name("logs".into())];
            if v >= 12 {
                topics.push(TopicName::Id(TopicId(8)));
            }
            Request::Metadata {
                topics: Some(topics),
                may_create: true,
            }
        }
        Api::OffsetCommit => Request::OffsetCommit {
            group,
            member: ann(v >= 7),
            generation: 4,
            topics: logs(vec![CommitPartition {
                index: 3,
                offset: 40,
                leader_epoch: -1,
                metadata: "note".into(),
            }]),
        },
        Api::OffsetFetch => {
            let topics = Some(logs(vec![3]));
            let mut groups = vec![OffsetFetchGroup { group, topics }];
            if v >= 8 {
                groups.push(OffsetFetchGroup {
                    group: "others".into(),
                    topics: None,
                });
            }
            Request::OffsetFetch(groups)
        }
        Api::FindCoordinator => Request::FindCoordinator {
            kind: 0,
            keys: if v >= 4 {
                vec![group, "others".into()]
            } else {
                vec![group]
            },
        },
        Api::JoinGroup => Request::JoinGroup(Join {
            group,
            member: ann(v >= 5),
            needs_id: v >= 4,
            client_id: "tester".into(),
            client_host: String::new(),
            session_timeout_ms: 10_000,
            rebalance_timeout_ms: if v >= 1 { 60_000 } else { 10_000 },
            protocol_type: "consumer".into(),
            protocols: vec![GroupProtocol {
                name: "range".into(),
                metadata: Bytes::from_static(b"topics"),
            }],
        }),
        Api::Heartbeat => Request::Heartbeat {
            group,
            member: ann(v >= 3),
            generation: 4,
        },
        Api::LeaveGroup => Request::LeaveGroup {
            group,
            members: vec![ann(v >= 3)],
        },
        Api::SyncGroup => Request::SyncGroup(Sync {
            group,
            member: ann(false),
            generation: 4,
            protocol_type: (v >= 5).then(|| "consumer".into()),
            protocol: (v >= 5).then(|| "range".into()),
            assignments: vec![("ann".into(), Bytes::from_static(b"all"))],
        }),
        Api::DescribeGroups => Request::DescribeGroups(vec![group, "others".into()]),
        Api::ListGroups if v >= 4 => Request::ListGroups(vec!["Stable".into()]),
        Api::ListGroups => Request::ListGroups(vec![]),
        Api::ApiVersions => Request::ApiVersions,
        Api::CreateTopics => Request::CreateTopics {
            topics: vec![NewTopic {
                name: "logs".into(),
                partition_count: 3,
                replication_factor: 1,
                is_assigned: true,
                config: vec![("retention.ms".into(), Some("5".into()))],
            }],
            timeout_ms: 30,
            validate_only: true,
        },
        Api::DeleteTopics => {
            let mut topics = vec![TopicName::Name("logs".into())];
            if v >= 6 {
                topics.push(TopicName::Id(TopicId(8)));
            }
            Request::DeleteTopics {
                topics,
                timeout_ms: 30,
            }
        }
        Api::DeleteRecords => Request::DeleteRecords {
            topics: logs(vec![(3, 40)]),
            timeout_ms: 30,
        },
        Api::InitProducerId => Request::InitProducerId {
            transactional_id: None,
        },
        Api::OffsetForLeaderEpoch => {
            Request::OffsetForLeaderEpoch(logs(vec![EpochQuery { index: 3, epoch: 2 }]))
        }
        Api::DescribeConfigs => Request::DescribeConfigs(vec![ConfigQuery {
            resource,
            keys: Some(vec!["retention.ms".into()]),
        }]),
        Api::CreatePartitions => Request::CreatePartitions {
            topics: vec![MorePartitions {
                topic: "logs".into(),
                partition_count: 6,
                is_assigned: true,
            }],
            timeout_ms: 30,
            validate_only: false,
        },
        Api::DeleteGroups => Request::DeleteGroups(vec![group]),
        Api::IncrementalAlterConfigs => Request::AlterConfigs {
            resources: vec![ConfigChange {
                resource,
                changes: vec![
                    ("retention.ms".into(), ConfigOp::Set("5".into())),
                    ("segment.bytes".into(), ConfigOp::Delete),
                ],
            }],
            validate_only: false,
        },
        Api::DescribeCluster => Request::DescribeCluster,
    }
}

#[test]
fn every_version_that_is_spoken_is_understood() {
    let mut count = 0;
    for api in Api::ALL {
        for version in api.versions() {
            let incoming = decode(&request(*api, version));
            let incoming = incoming
                .unwrap_or_else(|e| panic!("{e}"))
                .expect("a whole frame");
            assert_eq!(
                incoming.request,
                expected(*api, version),
                "{api:?} {version}"
            );
            let header = incoming.header;
            assert_eq!((header.api, header.version), (*api, version));
            assert_eq!(
                (header.correlation, header.client_id.as_str()),
                (CORRELATION, "tester")
            );
            count += 1;
        }
    }
    assert_eq!(count, 139);
}

#[test]
fn whatever_way_the_stream_is_cut_the_requests_are_the_same() {
    let mut stream = Vec::new();
    let mut want = Vec::new();
    for api in Api::ALL {
        stream.extend_from_slice(&request(*api, *api.versions().end()));
        want.push(expected(*api, *api.versions().end()));
    }
    let mut rng = base::Rng::new(3);
    for _ in 0..50 {
        let mut connection = Connection::new(Limits::default());
        let (mut rest, mut found) = (&stream[..], Vec::new());
        while !rest.is_empty() {
            let take = (rng.range(1, 90) as usize).min(rest.len());
            connection.handle_bytes(&Bytes::copy_from_slice(&rest[..take]));
            rest = &rest[take..];
            if rng.one_in(3) || rest.is_empty() {
                while let Some(incoming) = connection.poll().expect("well-formed") {
                    found.push(incoming.request);
                }
            }
        }
        assert_eq!(found, want);
        assert_eq!(connection.buffered_bytes(), 0);
    }
}

#[test]
fn metadata_of_version_0_without_topics_asks_for_all() {
    let all = Some(Request::Metadata {
        topics: None,
        may_create: true,
    });
    let ask = |version, body: &[u8]| {
        let bytes = common::frame(Api::Metadata, version, body);
        decode(&bytes).expect("well-formed").map(|i| i.request)
    };
    assert_eq!(ask(0, &[0, 0, 0, 0]), all);
    assert_eq!(ask(1, &[0xff, 0xff, 0xff, 0xff]), all);
    let Some(Request::Metadata { topics, .. }) = ask(1, &[0, 0, 0, 0]) else {
        panic!("it is a Metadata");
    };
    assert_eq!(topics, Some(vec![]));
}
