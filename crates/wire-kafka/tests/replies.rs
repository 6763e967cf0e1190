//! Every reply in every version, read back by the crate's own client.

mod common;

use bytes::{Buf, Bytes};
use common::batch;
use kafka_protocol::messages as m;
use kafka_protocol::protocol::{Decodable, HeaderVersion};
use messaging::registry::ConfigEntry;
use messaging::{
    Batch, Command, Committed, Fetched, GroupProtocol, Join, Joined, JoinedMember, MemberName,
    Phase, Synced, TopicId, Topics, Unit,
};
use wire_kafka::reply::{
    Broker, CommittedPartition, CreatedTopic, DeletedTopic, EpochEnd, FetchedPartition,
    FoundOffset, GroupOffsets, JoinRefusal, ListedGroup, PartitionMetadata, PartitionResult,
    Produced, TopicMetadata, encode,
};
use wire_kafka::request::ConfigResource;
use wire_kafka::{Api, ByTopic, Error, Header, Reply, records};

fn header(api: Api, version: i16) -> Header {
    Header {
        api,
        version,
        correlation: 77,
        client_id: String::new(),
    }
}

/// The message of a reply, as the crate's client reads it; nothing may be left over.
fn read<T: Decodable + HeaderVersion>(api: Api, version: i16, reply: &Reply) -> T {
    let mut out = b"before".to_vec();
    encode(&mut out, &header(api, version), reply).unwrap_or_else(|e| panic!("{e}"));
    let mut bytes = Bytes::from(out).slice(6..);
    assert_eq!(bytes.get_i32() as usize, bytes.len(), "{api:?} {version}");
    let head = m::ResponseHeader::decode(&mut bytes, T::header_version(version)).expect("a header");
    assert_eq!(head.correlation_id, 77);
    let message =
        T::decode(&mut bytes, version).unwrap_or_else(|e| panic!("{api:?} {version}: {e}"));
    assert!(
        bytes.is_empty(),
        "{api:?} {version} leaves {} bytes",
        bytes.len()
    );
    message
}

fn logs<T>(partitions: Vec<T>) -> Vec<ByTopic<T>> {
    let topic = "logs".into();
    vec![ByTopic { topic, partitions }]
}

fn broker() -> Broker {
    Broker {
        id: 1,
        host: "localhost".into(),
        port: 9092,
    }
}

fn group() -> messaging::Group {
    let mut topics = Topics::new();
    let join = Join {
        group: "readers".into(),
        member: MemberName {
            id: String::new(),
            instance: Some("a".into()),
        },
        needs_id: false,
        client_id: "tester".into(),
        client_host: "/127.0.0.1".into(),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 10_000,
        protocol_type: "consumer".into(),
        protocols: vec![GroupProtocol {
            name: "range".into(),
            metadata: Bytes::from_static(b"topics"),
        }],
    };
    let unit = Unit {
        origin: base::Origin::default(),
        command: Command::Join(join),
    };
    topics.apply_unit(base::Stamp::default(), unit, &mut Vec::new());
    topics.group("readers").expect("it was made").clone()
}

fn entry() -> ConfigEntry {
    ConfigEntry {
        name: "retention.ms",
        value: "5".into(),
        is_default: false,
        is_fixed: false,
    }
}

fn each(api: Api, mut check: impl FnMut(i16)) {
    api.versions().for_each(&mut check);
}

#[test]
fn api_versions_tells_what_is_spoken_and_answers_the_unknown_in_version_0() {
    each(Api::ApiVersions, |v| {
        let is_unknown = false;
        let r: m::ApiVersionsResponse =
            read(Api::ApiVersions, v, &Reply::ApiVersions { is_unknown });
        assert_eq!((r.error_code, r.api_keys.len()), (0, Api::ALL.len()));
        let produce = &r.api_keys[0];
        assert_eq!((produce.min_version, produce.max_version), (0, 11));
    });
    let is_unknown = true;
    let r: m::ApiVersionsResponse = read(Api::ApiVersions, 0, &Reply::ApiVersions { is_unknown });
    assert_eq!(r.error_code, 35);
    assert!(
        r.api_keys
            .iter()
            .any(|k| k.api_key == 18 && k.max_version == 4)
    );
}

#[test]
fn cluster_and_topics() {
    let reply = Reply::Metadata {
        brokers: vec![broker()],
        cluster_id: "c".into(),
        controller: 1,
        topics: vec![
            TopicMetadata {
                name: Some("logs".into()),
                id: TopicId(8),
                partitions: Ok(vec![
                    PartitionMetadata {
                        index: 0,
                        leader: Some(1),
                        replicas: vec![1, 2],
                    },
                    PartitionMetadata {
                        index: 1,
                        leader: None,
                        replicas: vec![1],
                    },
                ]),
            },
            TopicMetadata {
                name: None,
                id: TopicId(0),
                partitions: Err(Error::UnknownTopicId),
            },
        ],
    };
    each(Api::Metadata, |v| {
        let r: m::MetadataResponse = read(Api::Metadata, v, &reply);
        assert_eq!(r.brokers[0].port, 9092);
        let t = &r.topics[0];
        let codes: Vec<i16> = t.partitions.iter().map(|p| p.error_code).collect();
        assert_eq!(codes, [0, Error::LeaderNotAvailable.code()]);
        assert_eq!(t.partitions[0].isr_nodes.len(), 2);
        assert_eq!(r.topics[1].error_code, Error::UnknownTopicId.code());
        assert_eq!(t.topic_id.as_u128(), if v >= 10 { 8 } else { 0 });
    });
    let reply = Reply::DescribeCluster {
        brokers: vec![broker()],
        cluster_id: "c".into(),
        controller: 1,
    };
    each(Api::DescribeCluster, |v| {
        let r: m::DescribeClusterResponse = read(Api::DescribeCluster, v, &reply);
        assert_eq!((r.cluster_id.as_str(), r.brokers.len()), ("c", 1));
    });
}

#[test]
fn topics_are_made_changed_and_deleted() {
    let reply = Reply::CreateTopics(vec![
        CreatedTopic {
            name: "logs".into(),
            result: Ok((TopicId(8), 3, 1, vec![entry()])),
        },
        CreatedTopic {
            name: "old".into(),
            result: Err(Error::TopicAlreadyExists),
        },
    ]);
    each(Api::CreateTopics, |v| {
        let r: m::CreateTopicsResponse = read(Api::CreateTopics, v, &reply);
        let codes: Vec<i16> = r.topics.iter().map(|t| t.error_code).collect();
        assert_eq!(codes, [0, 36]);
        assert_eq!(r.topics[0].num_partitions, if v >= 5 { 3 } else { -1 });
    });
    let reply = Reply::DeleteTopics(vec![
        DeletedTopic {
            name: Some("logs".into()),
            id: TopicId(8),
            result: Ok(()),
        },
        DeletedTopic {
            name: None,
            id: TopicId(9),
            result: Err(Error::UnknownTopicId),
        },
    ]);
    each(Api::DeleteTopics, |v| {
        let r: m::DeleteTopicsResponse = read(Api::DeleteTopics, v, &reply);
        assert_eq!(r.responses[1].error_code, Error::UnknownTopicId.code());
        assert_eq!(r.responses[1].name.is_none(), v >= 6);
    });
    let resource = ConfigResource::Topic("logs".into());
    let reply = Reply::DescribeConfigs(vec![
        (resource.clone(), Ok(vec![entry()])),
        (
            ConfigResource::Other(8, "x".into()),
            Err(Error::InvalidRequest),
        ),
    ]);
    each(Api::DescribeConfigs, |v| {
        let r: m::DescribeConfigsResponse = read(Api::DescribeConfigs, v, &reply);
        assert_eq!(r.results[0].configs[0].config_source, 1);
        assert_eq!(r.results[1].resource_type, 8);
    });
    let reply = Reply::AlterConfigs(vec![(resource, Err(Error::InvalidConfig))]);
    each(Api::IncrementalAlterConfigs, |v| {
        let r: m::IncrementalAlterConfigsResponse = read(Api::IncrementalAlterConfigs, v, &reply);
        assert_eq!(r.responses[0].error_code, 40);
    });
    let reply = Reply::CreatePartitions(vec![("logs".into(), Err(Error::InvalidPartitions))]);
    each(Api::CreatePartitions, |v| {
        let r: m::CreatePartitionsResponse = read(Api::CreatePartitions, v, &reply);
        assert_eq!(r.results[0].error_code, 37);
    });
}

#[test]
fn records_are_written_and_read() {
    let reply = Reply::Produce(logs(vec![
        Produced {
            index: 0,
            result: Ok((40, 2)),
        },
        Produced {
            index: 1,
            result: Err(Error::OutOfOrderSequenceNumber),
        },
    ]));
    each(Api::Produce, |v| {
        let r: m::ProduceResponse = read(Api::Produce, v, &reply);
        let all = &r.responses[0].partition_responses;
        assert_eq!((all[0].base_offset, all[0].error_code), (40, 0));
        assert_eq!((all[1].base_offset, all[1].error_code), (-1, 45));
    });
    let stored = Batch {
        base_offset: 40,
        count: 2,
        max_timestamp_ms: 1005,
        bytes: Bytes::from(batch((-1, -1, -1), 1000, &[0, 5])),
    };
    let reply = Reply::Fetch(logs(vec![
        FetchedPartition {
            index: 0,
            result: Ok(Fetched {
                log_start: 2,
                high_watermark: 42,
                batches: vec![stored.clone(), stored.clone()],
            }),
        },
        FetchedPartition {
            index: 1,
            result: Err(Error::OffsetOutOfRange),
        },
    ]));
    each(Api::Fetch, |v| {
        let r: m::FetchResponse = read(Api::Fetch, v, &reply);
        let all = &r.responses[0].partitions;
        assert_eq!((all[0].high_watermark, all[1].error_code), (42, 1));
        let bytes = all[0].records.clone().expect("records");
        assert_eq!(bytes.len(), 2 * stored.bytes.len());
        assert_eq!(bytes[..8], 40i64.to_be_bytes());
        assert_eq!(bytes[12..16], [0; 4], "the leader epoch");
        // The check sum still holds, for it does not cover what was written.
        assert!(records::parse(bytes.slice(..stored.bytes.len())).is_ok());
    });
    let found = |index, result| FoundOffset { index, result };
    let reply = Reply::ListOffsets(logs(vec![
        found(0, Ok((40, 1000))),
        found(1, Ok((-1, -1))),
        found(2, Err(Error::NotLeaderOrFollower)),
    ]));
    each(Api::ListOffsets, |v| {
        let r: m::ListOffsetsResponse = read(Api::ListOffsets, v, &reply);
        let all = &r.topics[0].partitions;
        assert_eq!(
            (all[0].offset, all[1].offset, all[2].error_code),
            (40, -1, 6)
        );
    });
    let reply = Reply::DeleteRecords(logs(vec![(0, Ok(40)), (1, Err(Error::OffsetOutOfRange))]));
    each(Api::DeleteRecords, |v| {
        let r: m::DeleteRecordsResponse = read(Api::DeleteRecords, v, &reply);
        assert_eq!(r.topics[0].partitions[0].low_watermark, 40);
    });
    each(Api::InitProducerId, |v| {
        let r: m::InitProducerIdResponse =
            read(Api::InitProducerId, v, &Reply::InitProducerId(Ok(9)));
        assert_eq!((r.producer_id.0, r.producer_epoch), (9, 0));
        let refused = Reply::InitProducerId(Err(Error::InvalidRequest));
        let r: m::InitProducerIdResponse = read(Api::InitProducerId, v, &refused);
        assert_eq!(
            (r.producer_id.0, r.producer_epoch, r.error_code),
            (-1, -1, 42)
        );
    });
    let reply = Reply::OffsetForLeaderEpoch(logs(vec![EpochEnd {
        index: 0,
        result: Ok((0, 42)),
    }]));
    each(Api::OffsetForLeaderEpoch, |v| {
        let r: m::OffsetForLeaderEpochResponse = read(Api::OffsetForLeaderEpoch, v, &reply);
        assert_eq!(r.topics[0].partitions[0].end_offset, 42);
    });
}

#[test]
fn groups_are_joined_and_left() {
    let joined = |skip_assignment| {
        Reply::JoinGroup(Ok(Joined {
            generation: 4,
            protocol_type: "consumer".into(),
            protocol: "range".into(),
            leader: "ann".into(),
            member: "ann".into(),
            skip_assignment,
            members: vec![JoinedMember {
                id: "ann".into(),
                instance: Some("a".into()),
                metadata: Bytes::from_static(b"topics"),
            }],
        }))
    };
    each(Api::JoinGroup, |v| {
        let r: m::JoinGroupResponse = read(Api::JoinGroup, v, &joined(false));
        assert_eq!(
            (r.generation_id, r.leader.as_str(), r.members.len()),
            (4, "ann", 1)
        );
        let r: m::JoinGroupResponse = read(Api::JoinGroup, v, &joined(true));
        assert_eq!(
            (r.leader.as_str() == "ann", r.skip_assignment),
            (v >= 9, v >= 9)
        );
        let refused = Reply::JoinGroup(Err(JoinRefusal {
            error: Error::MemberIdRequired,
            member: "ann-1".into(),
        }));
        let r: m::JoinGroupResponse = read(Api::JoinGroup, v, &refused);
        assert_eq!(
            (r.error_code, r.member_id.as_str(), r.generation_id),
            (79, "ann-1", -1)
        );
    });
    let synced = Reply::SyncGroup(Ok(Synced {
        protocol_type: "consumer".into(),
        protocol: "range".into(),
        assignment: Bytes::from_static(b"all"),
    }));
    each(Api::SyncGroup, |v| {
        let r: m::SyncGroupResponse = read(Api::SyncGroup, v, &synced);
        assert_eq!(r.assignment, "all");
        let refused = Reply::SyncGroup(Err(Error::RebalanceInProgress));
        let r: m::SyncGroupResponse = read(Api::SyncGroup, v, &refused);
        assert_eq!(r.error_code, 27);
    });
    each(Api::Heartbeat, |v| {
        let refused = Reply::Heartbeat(Err(Error::IllegalGeneration));
        let r: m::HeartbeatResponse = read(Api::Heartbeat, v, &refused);
        assert_eq!(r.error_code, 22);
    });
    let name = MemberName {
        id: "ann".into(),
        instance: Some("a".into()),
    };
    let left = Reply::LeaveGroup(Ok(vec![(name, Err(Error::UnknownMemberId))]));
    each(Api::LeaveGroup, |v| {
        let r: m::LeaveGroupResponse = read(Api::LeaveGroup, v, &left);
        let own = r.members.first().map_or(r.error_code, |m| m.error_code);
        assert_eq!((own, r.members.len()), (25, usize::from(v >= 3)));
    });
    let found = Reply::FindCoordinator(vec![("readers".into(), Ok(broker()))]);
    each(Api::FindCoordinator, |v| {
        let r: m::FindCoordinatorResponse = read(Api::FindCoordinator, v, &found);
        let host = r.coordinators.first().map_or(&r.host, |c| &c.host);
        assert_eq!(host.as_str(), "localhost");
        let none = Reply::FindCoordinator(vec![(
            "readers".into(),
            Err(Error::CoordinatorNotAvailable),
        )]);
        let r: m::FindCoordinatorResponse = read(Api::FindCoordinator, v, &none);
        let error = r
            .coordinators
            .first()
            .map_or(r.error_code, |c| c.error_code);
        assert_eq!(error, 15);
    });
}

#[test]
fn groups_are_described_and_their_offsets_kept() {
    let result = |index, result| PartitionResult { index, result };
    let reply = Reply::OffsetCommit(logs(vec![
        result(0, Ok(())),
        result(1, Err(Error::OffsetMetadataTooLarge)),
    ]));
    each(Api::OffsetCommit, |v| {
        let r: m::OffsetCommitResponse = read(Api::OffsetCommit, v, &reply);
        assert_eq!(r.topics[0].partitions[1].error_code, 12);
    });
    let reply = Reply::OffsetFetch(vec![GroupOffsets {
        group: "readers".into(),
        result: Ok(logs(vec![
            CommittedPartition {
                index: 0,
                committed: Some(Committed {
                    offset: 40,
                    leader_epoch: 0,
                    metadata: "note".into(),
                    committed_ms: 5,
                }),
            },
            CommittedPartition {
                index: 1,
                committed: None,
            },
        ])),
    }]);
    each(Api::OffsetFetch, |v| {
        let r: m::OffsetFetchResponse = read(Api::OffsetFetch, v, &reply);
        let offsets: Vec<i64> = if v >= 8 {
            let all = &r.groups[0].topics[0].partitions;
            all.iter().map(|p| p.committed_offset).collect()
        } else {
            let all = &r.topics[0].partitions;
            all.iter().map(|p| p.committed_offset).collect()
        };
        assert_eq!(offsets, [40, -1]);
        let refused = Reply::OffsetFetch(vec![GroupOffsets {
            group: "readers".into(),
            result: Err(Error::NotCoordinator),
        }]);
        let r: m::OffsetFetchResponse = read(Api::OffsetFetch, v, &refused);
        let error = r.groups.first().map_or(r.error_code, |g| g.error_code);
        assert_eq!(error, if v >= 2 { 16 } else { 0 });
    });
    let reply = Reply::DescribeGroups(vec![
        ("readers".into(), Ok(Some(group()))),
        ("gone".into(), Ok(None)),
        ("far".into(), Err(Error::NotCoordinator)),
    ]);
    each(Api::DescribeGroups, |v| {
        let r: m::DescribeGroupsResponse = read(Api::DescribeGroups, v, &reply);
        let states: Vec<_> = r.groups.iter().map(|g| g.group_state.as_str()).collect();
        assert_eq!(states, ["CompletingRebalance", "Dead", ""]);
        assert_eq!(r.groups[0].members[0].member_metadata, "topics");
    });
    let reply = Reply::ListGroups(Ok(vec![ListedGroup {
        group: "readers".into(),
        protocol_type: "consumer".into(),
        phase: Phase::Stable,
    }]));
    each(Api::ListGroups, |v| {
        let r: m::ListGroupsResponse = read(Api::ListGroups, v, &reply);
        assert_eq!(
            r.groups[0].group_state.as_str(),
            if v >= 4 { "Stable" } else { "" }
        );
    });
    let reply = Reply::DeleteGroups(vec![("readers".into(), Err(Error::NonEmptyGroup))]);
    each(Api::DeleteGroups, |v| {
        let r: m::DeleteGroupsResponse = read(Api::DeleteGroups, v, &reply);
        assert_eq!(r.results[0].error_code, 68);
    });
}

#[test]
fn reply_of_another_kind_leaves_nothing_behind() {
    let mut out = b"before".to_vec();
    let why = encode(&mut out, &header(Api::Fetch, 4), &Reply::Heartbeat(Ok(())));
    assert!(why.expect_err("another kind").contains("Fetch"));
    assert_eq!(out, b"before");
}

#[test]
fn lookup_by_time_finds_the_record_inside_of_a_batch() {
    let stored = |attributes: u8| {
        let mut bytes = batch((-1, -1, -1), 1000, &[0, 20, 10, 30]);
        bytes[22] = attributes;
        Batch {
            base_offset: 40,
            count: 4,
            max_timestamp_ms: 1030,
            bytes: Bytes::from(bytes),
        }
    };
    let plain = stored(0);
    for (time_ms, want) in [
        (0, (40, 1000)),
        (1000, (40, 1000)),
        (1001, (41, 1020)),
        (1020, (41, 1020)),
        (1021, (43, 1030)),
    ] {
        assert_eq!(records::find_time(&plain, time_ms), want);
    }
    // Compressed records are not looked into: never a record too late, maybe some too early.
    assert_eq!(records::find_time(&stored(1), 1001), (40, 1030));
}
