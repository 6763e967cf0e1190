//! Requests as a client writes them, by the crate's own encoder, in every version.
#![allow(dead_code)] // each test uses its part

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages as m;
use kafka_protocol::protocol::{Encodable, StrBytes};
use uuid::Uuid;
use wire_kafka::Api;

pub const CORRELATION: i32 = 77;

fn s(text: &'static str) -> StrBytes {
    StrBytes::from_static_str(text)
}

fn topic(name: &'static str) -> m::TopicName {
    s(name).into()
}

fn group(name: &'static str) -> m::GroupId {
    s(name).into()
}

/// A whole frame around a body.
pub fn frame(api: Api, version: i16, body: &[u8]) -> Vec<u8> {
    let key = m::ApiKey::try_from(api.key()).expect("the crate has it");
    let header = m::RequestHeader::default()
        .with_request_api_key(api.key())
        .with_request_api_version(version)
        .with_correlation_id(CORRELATION)
        .with_client_id(Some(s("tester")));
    let mut inner = BytesMut::new();
    header
        .encode(&mut inner, key.request_header_version(version))
        .expect("a header");
    inner.put_slice(body);
    let mut whole = (inner.len() as i32).to_be_bytes().to_vec();
    whole.extend_from_slice(&inner);
    whole
}

/// A request with something in each of its fields.
pub fn request(api: Api, version: i16) -> Vec<u8> {
    frame(api, version, &body(api, version))
}

fn put(version: i16, message: impl Encodable) -> Vec<u8> {
    let mut out = BytesMut::new();
    message
        .encode(&mut out, version)
        .unwrap_or_else(|e| panic!("version {version}: {e}"));
    out.to_vec()
}

/// An uncompressed batch; of each record its time relative to the first.
pub fn batch(producer: (i64, i16, i32), base_time_ms: i64, deltas: &[i64]) -> Vec<u8> {
    let mut records = Vec::new();
    for (i, delta) in deltas.iter().enumerate() {
        let mut record = vec![0]; // attributes
        varint(&mut record, *delta);
        varint(&mut record, i as i64);
        varint(&mut record, -1); // no key
        varint(&mut record, 1);
        record.push(b'v');
        varint(&mut record, 0); // no headers
        varint(&mut records, record.len() as i64);
        records.extend_from_slice(&record);
    }
    let newest = base_time_ms + deltas.iter().max().copied().unwrap_or(0);
    let mut checked = 0i16.to_be_bytes().to_vec();
    checked.extend_from_slice(&(deltas.len() as i32 - 1).to_be_bytes());
    checked.extend_from_slice(&base_time_ms.to_be_bytes());
    checked.extend_from_slice(&newest.to_be_bytes());
    checked.extend_from_slice(&producer.0.to_be_bytes());
    checked.extend_from_slice(&producer.1.to_be_bytes());
    checked.extend_from_slice(&producer.2.to_be_bytes());
    checked.extend_from_slice(&(deltas.len() as i32).to_be_bytes());
    checked.extend_from_slice(&records);
    sealed(&checked)
}

/// Puts what is not checked, and the check sum, before what is.
pub fn sealed(checked: &[u8]) -> Vec<u8> {
    let mut whole = 0i64.to_be_bytes().to_vec();
    whole.extend_from_slice(&(checked.len() as i32 + 9).to_be_bytes());
    whole.extend_from_slice(&(-1i32).to_be_bytes());
    whole.push(2);
    whole.extend_from_slice(&crc32c::crc32c(checked).to_be_bytes());
    whole.extend_from_slice(checked);
    whole
}

fn varint(out: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

pub fn body(api: Api, v: i16) -> Vec<u8> {
    match api {
        Api::Produce => {
            let partition = m::produce_request::PartitionProduceData::default()
                .with_index(3)
                .with_records(Some(Bytes::from(batch((9, 0, 5), 1000, &[0, 10]))));
            let data = m::produce_request::TopicProduceData::default()
                .with_name(topic("logs"))
                .with_partition_data(vec![partition]);
            put(
                v,
                m::ProduceRequest::default()
                    .with_acks(-1)
                    .with_timeout_ms(30)
                    .with_topic_data(vec![data]),
            )
        }
        Api::Fetch => {
            let mut partition = m::fetch_request::FetchPartition::default()
                .with_partition(3)
                .with_fetch_offset(40)
                .with_partition_max_bytes(1000);
            if v >= 9 {
                partition = partition.with_current_leader_epoch(0);
            }
            let read = m::fetch_request::FetchTopic::default()
                .with_topic(topic("logs"))
                .with_partitions(vec![partition]);
            let mut made = m::FetchRequest::default()
                .with_replica_id((-1).into())
                .with_max_wait_ms(500)
                .with_min_bytes(1)
                .with_max_bytes(2000)
                .with_topics(vec![read]);
            if v >= 7 {
                let forgotten = m::fetch_request::ForgottenTopic::default()
                    .with_topic(topic("old"))
                    .with_partitions(vec![1, 2]);
                made = made
                    .with_session_id(5)
                    .with_session_epoch(6)
                    .with_forgotten_topics_data(vec![forgotten]);
            }
            if v >= 11 {
                made = made.with_rack_id(s("rack"));
            }
            if v >= 12 {
                made = made.with_cluster_id(Some(s("cluster")));
            }
            put(v, made)
        }
        Api::ListOffsets => {
            let of = |index, time_ms| {
                m::list_offsets_request::ListOffsetsPartition::default()
                    .with_partition_index(index)
                    .with_timestamp(time_ms)
            };
            let all = vec![of(0, -1), of(1, -2), of(2, -3), of(3, 99), of(4, -9)];
            let asked = m::list_offsets_request::ListOffsetsTopic::default()
                .with_name(topic("logs"))
                .with_partitions(all);
            put(v, m::ListOffsetsRequest::default().with_topics(vec![asked]))
        }
        Api::Metadata => {
            let mut all = vec![
                m::metadata_request::MetadataRequestTopic::default().with_name(Some(topic("logs"))),
            ];
            if v >= 12 {
                all.push(
                    m::metadata_request::MetadataRequestTopic::default()
                        .with_topic_id(Uuid::from_u128(8))
                        .with_name(None),
                );
            }
            put(
                v,
                m::MetadataRequest::default()
                    .with_topics(Some(all))
                    .with_allow_auto_topic_creation(true),
            )
        }
        Api::OffsetCommit => {
            let partition = m::offset_commit_request::OffsetCommitRequestPartition::default()
                .with_partition_index(3)
                .with_committed_offset(40)
                .with_committed_metadata(Some(s("note")));
            let asked = m::offset_commit_request::OffsetCommitRequestTopic::default()
                .with_name(topic("logs"))
                .with_partitions(vec![partition]);
            let mut made = m::OffsetCommitRequest::default()
                .with_group_id(group("readers"))
                .with_generation_id_or_member_epoch(4)
                .with_member_id(s("ann"))
                .with_topics(vec![asked]);
            if v >= 7 {
                made = made.with_group_instance_id(Some(s("a")));
            }
            put(v, made)
        }
        Api::OffsetFetch => {
            if v >= 8 {
                let asked = m::offset_fetch_request::OffsetFetchRequestTopics::default()
                    .with_name(topic("logs"))
                    .with_partition_indexes(vec![3]);
                let one = m::offset_fetch_request::OffsetFetchRequestGroup::default()
                    .with_group_id(group("readers"))
                    .with_topics(Some(vec![asked]));
                let all = m::offset_fetch_request::OffsetFetchRequestGroup::default()
                    .with_group_id(group("others"))
                    .with_topics(None);
                let groups = vec![one, all];
                return put(v, m::OffsetFetchRequest::default().with_groups(groups));
            }
            let asked = m::offset_fetch_request::OffsetFetchRequestTopic::default()
                .with_name(topic("logs"))
                .with_partition_indexes(vec![3]);
            put(
                v,
                m::OffsetFetchRequest::default()
                    .with_group_id(group("readers"))
                    .with_topics(Some(vec![asked])),
            )
        }
        Api::FindCoordinator if v >= 4 => put(
            v,
            m::FindCoordinatorRequest::default()
                .with_coordinator_keys(vec![s("readers"), s("others")]),
        ),
        Api::FindCoordinator => put(
            v,
            m::FindCoordinatorRequest::default().with_key(s("readers")),
        ),
        Api::JoinGroup => {
            let protocol = m::join_group_request::JoinGroupRequestProtocol::default()
                .with_name(s("range"))
                .with_metadata(Bytes::from_static(b"topics"));
            let mut made = m::JoinGroupRequest::default()
                .with_group_id(group("readers"))
                .with_session_timeout_ms(10_000)
                .with_member_id(s("ann"))
                .with_protocol_type(s("consumer"))
                .with_protocols(vec![protocol]);
            if v >= 1 {
                made = made.with_rebalance_timeout_ms(60_000);
            }
            if v >= 5 {
                made = made.with_group_instance_id(Some(s("a")));
            }
            put(v, made)
        }
        Api::Heartbeat => {
            let mut made = m::HeartbeatRequest::default()
                .with_group_id(group("readers"))
                .with_generation_id(4)
                .with_member_id(s("ann"));
            if v >= 3 {
                made = made.with_group_instance_id(Some(s("a")));
            }
            put(v, made)
        }
        Api::LeaveGroup if v >= 3 => {
            let ann = m::leave_group_request::MemberIdentity::default()
                .with_member_id(s("ann"))
                .with_group_instance_id(Some(s("a")));
            put(
                v,
                m::LeaveGroupRequest::default()
                    .with_group_id(group("readers"))
                    .with_members(vec![ann]),
            )
        }
        Api::LeaveGroup => put(
            v,
            m::LeaveGroupRequest::default()
                .with_group_id(group("readers"))
                .with_member_id(s("ann")),
        ),
        Api::SyncGroup => {
            let share = m::sync_group_request::SyncGroupRequestAssignment::default()
                .with_member_id(s("ann"))
                .with_assignment(Bytes::from_static(b"all"));
            let mut made = m::SyncGroupRequest::default()
                .with_group_id(group("readers"))
                .with_generation_id(4)
                .with_member_id(s("ann"))
                .with_assignments(vec![share]);
            if v >= 5 {
                made = made
                    .with_protocol_type(Some(s("consumer")))
                    .with_protocol_name(Some(s("range")));
            }
            put(v, made)
        }
        Api::DescribeGroups => {
            let groups = vec![group("readers"), group("others")];
            put(v, m::DescribeGroupsRequest::default().with_groups(groups))
        }
        Api::ListGroups => {
            let mut made = m::ListGroupsRequest::default();
            if v >= 4 {
                made = made.with_states_filter(vec![s("Stable")]);
            }
            put(v, made)
        }
        Api::ApiVersions => {
            let mut made = m::ApiVersionsRequest::default();
            if v >= 3 {
                made = made
                    .with_client_software_name(s("tester"))
                    .with_client_software_version(s("1"));
            }
            put(v, made)
        }
        Api::CreateTopics => {
            let assigned = m::create_topics_request::CreatableReplicaAssignment::default()
                .with_broker_ids(vec![1.into()]);
            let config = m::create_topics_request::CreatableTopicConfig::default()
                .with_name(s("retention.ms"))
                .with_value(Some(s("5")));
            let made = m::create_topics_request::CreatableTopic::default()
                .with_name(topic("logs"))
                .with_num_partitions(3)
                .with_replication_factor(1)
                .with_assignments(vec![assigned])
                .with_configs(vec![config]);
            put(
                v,
                m::CreateTopicsRequest::default()
                    .with_topics(vec![made])
                    .with_timeout_ms(30)
                    .with_validate_only(true),
            )
        }
        Api::DeleteTopics if v >= 6 => {
            let by_name = m::delete_topics_request::DeleteTopicState::default()
                .with_name(Some(topic("logs")));
            let by_id = m::delete_topics_request::DeleteTopicState::default()
                .with_name(None)
                .with_topic_id(Uuid::from_u128(8));
            put(
                v,
                m::DeleteTopicsRequest::default()
                    .with_topics(vec![by_name, by_id])
                    .with_timeout_ms(30),
            )
        }
        Api::DeleteTopics => put(
            v,
            m::DeleteTopicsRequest::default()
                .with_topic_names(vec![topic("logs")])
                .with_timeout_ms(30),
        ),
        Api::DeleteRecords => {
            let partition = m::delete_records_request::DeleteRecordsPartition::default()
                .with_partition_index(3)
                .with_offset(40);
            let asked = m::delete_records_request::DeleteRecordsTopic::default()
                .with_name(topic("logs"))
                .with_partitions(vec![partition]);
            put(
                v,
                m::DeleteRecordsRequest::default()
                    .with_topics(vec![asked])
                    .with_timeout_ms(30),
            )
        }
        Api::InitProducerId => {
            let mut made = m::InitProducerIdRequest::default()
                .with_transactional_id(None)
                .with_transaction_timeout_ms(30);
            if v >= 3 {
                made = made.with_producer_id((-1).into()).with_producer_epoch(-1);
            }
            put(v, made)
        }
        Api::OffsetForLeaderEpoch => {
            let partition = m::offset_for_leader_epoch_request::OffsetForLeaderPartition::default()
                .with_partition(3)
                .with_leader_epoch(2);
            let asked = m::offset_for_leader_epoch_request::OffsetForLeaderTopic::default()
                .with_topic(topic("logs"))
                .with_partitions(vec![partition]);
            put(
                v,
                m::OffsetForLeaderEpochRequest::default().with_topics(vec![asked]),
            )
        }
        Api::DescribeConfigs => {
            let asked = m::describe_configs_request::DescribeConfigsResource::default()
                .with_resource_type(2)
                .with_resource_name(s("logs"))
                .with_configuration_keys(Some(vec![s("retention.ms")]));
            put(
                v,
                m::DescribeConfigsRequest::default().with_resources(vec![asked]),
            )
        }
        Api::CreatePartitions => {
            let assigned = m::create_partitions_request::CreatePartitionsAssignment::default()
                .with_broker_ids(vec![1.into()]);
            let asked = m::create_partitions_request::CreatePartitionsTopic::default()
                .with_name(topic("logs"))
                .with_count(6)
                .with_assignments(Some(vec![assigned]));
            put(
                v,
                m::CreatePartitionsRequest::default()
                    .with_topics(vec![asked])
                    .with_timeout_ms(30),
            )
        }
        Api::DeleteGroups => {
            let names = vec![group("readers")];
            put(
                v,
                m::DeleteGroupsRequest::default().with_groups_names(names),
            )
        }
        Api::IncrementalAlterConfigs => {
            let set = m::incremental_alter_configs_request::AlterableConfig::default()
                .with_name(s("retention.ms"))
                .with_value(Some(s("5")));
            let clear = m::incremental_alter_configs_request::AlterableConfig::default()
                .with_name(s("segment.bytes"))
                .with_config_operation(1)
                .with_value(None);
            let asked = m::incremental_alter_configs_request::AlterConfigsResource::default()
                .with_resource_type(2)
                .with_resource_name(s("logs"))
                .with_configs(vec![set, clear]);
            put(
                v,
                m::IncrementalAlterConfigsRequest::default().with_resources(vec![asked]),
            )
        }
        Api::DescribeCluster => put(v, m::DescribeClusterRequest::default()),
    }
}
