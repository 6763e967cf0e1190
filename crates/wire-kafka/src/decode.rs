//! From the crate's messages to ours. The body's shape was checked before.

use crate::api::{Api, Header};
use crate::records;
use crate::request::{
    ByTopic, CommitPartition, ConfigChange, ConfigOp, ConfigQuery, ConfigResource, EpochQuery,
    Fetch, FetchPartition, MorePartitions, NewTopic, OffsetAt, OffsetFetchGroup, OffsetQuery,
    ProducePartition, Request,
};
use bytes::Bytes;
use kafka_protocol::messages as m;
use kafka_protocol::protocol::{Decodable, StrBytes};
use messaging::{GroupProtocol, Join, MemberName, Sync, TopicId, TopicName};
use uuid::Uuid;

/// Decodes a body.
pub fn request(header: &Header, body: Bytes) -> Result<Request, String> {
    let v = header.version;
    Ok(match header.api {
        Api::ApiVersions => {
            read::<m::ApiVersionsRequest>(body, v)?;
            Request::ApiVersions
        }
        Api::Metadata => metadata(read(body, v)?, v),
        Api::Produce => produce(read(body, v)?),
        Api::Fetch => fetch(read(body, v)?),
        Api::ListOffsets => list_offsets(read(body, v)?),
        Api::FindCoordinator => {
            let r: m::FindCoordinatorRequest = read(body, v)?;
            let keys = if v >= 4 {
                r.coordinator_keys
            } else {
                vec![r.key]
            };
            Request::FindCoordinator {
                kind: r.key_type,
                keys: texts(keys),
            }
        }
        Api::JoinGroup => join_group(read(body, v)?, header),
        Api::SyncGroup => sync_group(read(body, v)?),
        Api::Heartbeat => {
            let r: m::HeartbeatRequest = read(body, v)?;
            Request::Heartbeat {
                group: text(r.group_id.0),
                member: member(r.member_id, r.group_instance_id),
                generation: r.generation_id,
            }
        }
        Api::LeaveGroup => {
            let r: m::LeaveGroupRequest = read(body, v)?;
            let members = if v >= 3 {
                let all = r.members.into_iter();
                all.map(|m| member(m.member_id, m.group_instance_id))
                    .collect()
            } else {
                vec![member(r.member_id, None)]
            };
            Request::LeaveGroup {
                group: text(r.group_id.0),
                members,
            }
        }
        Api::OffsetCommit => offset_commit(read(body, v)?),
        Api::OffsetFetch => offset_fetch(read(body, v)?, v),
        Api::CreateTopics => create_topics(read(body, v)?),
        Api::DeleteTopics => delete_topics(read(body, v)?),
        Api::DeleteRecords => {
            let r: m::DeleteRecordsRequest = read(body, v)?;
            let of = |t: m::delete_records_request::DeleteRecordsTopic| {
                let all = t.partitions.iter();
                by_topic(t.name, all.map(|p| (p.partition_index, p.offset)).collect())
            };
            Request::DeleteRecords {
                topics: r.topics.into_iter().map(of).collect(),
                timeout_ms: r.timeout_ms,
            }
        }
        Api::InitProducerId => {
            let r: m::InitProducerIdRequest = read(body, v)?;
            Request::InitProducerId {
                transactional_id: r.transactional_id.map(|id| text(id.0)),
            }
        }
        Api::OffsetForLeaderEpoch => {
            let r: m::OffsetForLeaderEpochRequest = read(body, v)?;
            let of = |t: m::offset_for_leader_epoch_request::OffsetForLeaderTopic| {
                let all = t.partitions.iter().map(|p| EpochQuery {
                    index: p.partition,
                    epoch: p.leader_epoch,
                });
                by_topic(t.topic, all.collect())
            };
            Request::OffsetForLeaderEpoch(r.topics.into_iter().map(of).collect())
        }
        Api::DescribeGroups => {
            let r: m::DescribeGroupsRequest = read(body, v)?;
            Request::DescribeGroups(r.groups.into_iter().map(|g| text(g.0)).collect())
        }
        Api::ListGroups => {
            let r: m::ListGroupsRequest = read(body, v)?;
            Request::ListGroups(texts(r.states_filter))
        }
        Api::DeleteGroups => {
            let r: m::DeleteGroupsRequest = read(body, v)?;
            let names = r.groups_names.into_iter();
            Request::DeleteGroups(names.map(|g| text(g.0)).collect())
        }
        Api::DescribeConfigs => {
            let r: m::DescribeConfigsRequest = read(body, v)?;
            let all = r.resources.into_iter().map(|r| ConfigQuery {
                resource: resource(r.resource_type, r.resource_name),
                keys: r.configuration_keys.map(texts),
            });
            Request::DescribeConfigs(all.collect())
        }
        Api::IncrementalAlterConfigs => alter_configs(read(body, v)?),
        Api::CreatePartitions => {
            let r: m::CreatePartitionsRequest = read(body, v)?;
            let all = r.topics.into_iter().map(|t| MorePartitions {
                topic: text(t.name.0),
                partition_count: t.count,
                is_assigned: t.assignments.is_some_and(|a| !a.is_empty()),
            });
            Request::CreatePartitions {
                topics: all.collect(),
                timeout_ms: r.timeout_ms,
                validate_only: r.validate_only,
            }
        }
        Api::DescribeCluster => {
            read::<m::DescribeClusterRequest>(body, v)?;
            Request::DescribeCluster
        }
    })
}

fn read<T: Decodable>(mut body: Bytes, version: i16) -> Result<T, String> {
    T::decode(&mut body, version).map_err(|e| e.to_string())
}

fn text(text: StrBytes) -> String {
    text.as_str().to_owned()
}

fn texts(all: Vec<StrBytes>) -> Vec<String> {
    all.into_iter().map(text).collect()
}

fn option(text: Option<StrBytes>) -> Option<String> {
    text.map(|t| t.as_str().to_owned())
}

fn by_topic<T>(topic: m::TopicName, partitions: Vec<T>) -> ByTopic<T> {
    ByTopic {
        topic: text(topic.0),
        partitions,
    }
}

fn member(id: StrBytes, instance: Option<StrBytes>) -> MemberName {
    MemberName {
        id: text(id),
        instance: option(instance),
    }
}

/// A name, or else an id; ids that are none of ours are 0, which no topic has.
fn topic_name(name: Option<m::TopicName>, id: Uuid) -> TopicName {
    match name {
        Some(name) => TopicName::Name(text(name.0)),
        None => TopicName::Id(TopicId(u64::try_from(id.as_u128()).unwrap_or(0))),
    }
}

fn metadata(r: m::MetadataRequest, version: i16) -> Request {
    let topics = r.topics.map(|all| {
        let names = all.into_iter().map(|t| topic_name(t.name, t.topic_id));
        names.collect::<Vec<_>>()
    });
    Request::Metadata {
        // Before there was a null, no topic at all meant all topics.
        topics: topics.filter(|all| version > 0 || !all.is_empty()),
        may_create: r.allow_auto_topic_creation,
    }
}

fn produce(r: m::ProduceRequest) -> Request {
    let of = |t: m::produce_request::TopicProduceData| {
        let all = t.partition_data.into_iter().map(|p| ProducePartition {
            index: p.index,
            batch: records::parse(p.records.unwrap_or_default()),
        });
        by_topic(t.name, all.collect())
    };
    Request::Produce {
        transactional_id: r.transactional_id.map(|id| text(id.0)),
        acks: r.acks,
        timeout_ms: r.timeout_ms,
        topics: r.topic_data.into_iter().map(of).collect(),
    }
}

fn fetch(r: m::FetchRequest) -> Request {
    let of = |t: m::fetch_request::FetchTopic| {
        let all = t.partitions.iter().map(|p| FetchPartition {
            index: p.partition,
            offset: p.fetch_offset,
            bytes_max: p.partition_max_bytes,
            leader_epoch: p.current_leader_epoch,
        });
        by_topic(t.topic, all.collect())
    };
    let forgotten = r.forgotten_topics_data.into_iter();
    Request::Fetch(Fetch {
        wait_ms_max: r.max_wait_ms,
        bytes_min: r.min_bytes,
        bytes_max: r.max_bytes,
        session: r.session_id,
        session_epoch: r.session_epoch,
        topics: r.topics.into_iter().map(of).collect(),
        forgotten: forgotten.map(|t| by_topic(t.topic, t.partitions)).collect(),
    })
}

fn list_offsets(r: m::ListOffsetsRequest) -> Request {
    let of = |t: m::list_offsets_request::ListOffsetsTopic| {
        let all = t.partitions.iter().map(|p| OffsetQuery {
            index: p.partition_index,
            at: match p.timestamp {
                -1 => OffsetAt::Latest,
                -2 => OffsetAt::Earliest,
                -3 => OffsetAt::Newest,
                time if time >= 0 => OffsetAt::Time(time),
                other => OffsetAt::Unknown(other),
            },
        });
        by_topic(t.name, all.collect())
    };
    Request::ListOffsets(r.topics.into_iter().map(of).collect())
}

fn join_group(r: m::JoinGroupRequest, header: &Header) -> Request {
    let session_timeout_ms = u32::try_from(r.session_timeout_ms).unwrap_or(0);
    let rebalance_timeout_ms = u32::try_from(r.rebalance_timeout_ms).unwrap_or(session_timeout_ms);
    let protocols = r.protocols.into_iter().map(|p| GroupProtocol {
        name: text(p.name),
        metadata: p.metadata,
    });
    Request::JoinGroup(Join {
        group: text(r.group_id.0),
        member: member(r.member_id, r.group_instance_id),
        needs_id: header.version >= 4,
        client_id: header.client_id.clone(),
        client_host: String::new(),
        session_timeout_ms,
        rebalance_timeout_ms,
        protocol_type: text(r.protocol_type),
        protocols: protocols.collect(),
    })
}

fn sync_group(r: m::SyncGroupRequest) -> Request {
    let assignments = r.assignments.into_iter();
    Request::SyncGroup(Sync {
        group: text(r.group_id.0),
        member: member(r.member_id, r.group_instance_id),
        generation: r.generation_id,
        protocol_type: option(r.protocol_type),
        protocol: option(r.protocol_name),
        assignments: assignments
            .map(|a| (text(a.member_id), a.assignment))
            .collect(),
    })
}

fn offset_commit(r: m::OffsetCommitRequest) -> Request {
    let of = |t: m::offset_commit_request::OffsetCommitRequestTopic| {
        let all = t.partitions.into_iter().map(|p| CommitPartition {
            index: p.partition_index,
            offset: p.committed_offset,
            leader_epoch: p.committed_leader_epoch,
            metadata: option(p.committed_metadata).unwrap_or_default(),
        });
        by_topic(t.name, all.collect())
    };
    Request::OffsetCommit {
        group: text(r.group_id.0),
        member: member(r.member_id, r.group_instance_id),
        generation: r.generation_id_or_member_epoch,
        topics: r.topics.into_iter().map(of).collect(),
    }
}

fn offset_fetch(r: m::OffsetFetchRequest, version: i16) -> Request {
    if version >= 8 {
        let groups = r.groups.into_iter().map(|g| OffsetFetchGroup {
            group: text(g.group_id.0),
            topics: g.topics.map(|all| {
                let all = all.into_iter();
                all.map(|t| by_topic(t.name, t.partition_indexes)).collect()
            }),
        });
        return Request::OffsetFetch(groups.collect());
    }
    let topics = r.topics.map(|all| {
        let all = all.into_iter();
        all.map(|t| by_topic(t.name, t.partition_indexes)).collect()
    });
    let group = text(r.group_id.0);
    Request::OffsetFetch(vec![OffsetFetchGroup { group, topics }])
}

fn create_topics(r: m::CreateTopicsRequest) -> Request {
    let topics = r.topics.into_iter().map(|t| NewTopic {
        name: text(t.name.0),
        partition_count: t.num_partitions,
        replication_factor: t.replication_factor,
        is_assigned: !t.assignments.is_empty(),
        config: (t.configs.into_iter())
            .map(|c| (text(c.name), option(c.value)))
            .collect(),
    });
    Request::CreateTopics {
        topics: topics.collect(),
        timeout_ms: r.timeout_ms,
        validate_only: r.validate_only,
    }
}

fn delete_topics(r: m::DeleteTopicsRequest) -> Request {
    let states = r.topics.into_iter().map(|t| topic_name(t.name, t.topic_id));
    let names = r.topic_names.into_iter();
    let names = names.map(|name| TopicName::Name(text(name.0)));
    Request::DeleteTopics {
        topics: states.chain(names).collect(),
        timeout_ms: r.timeout_ms,
    }
}

fn resource(kind: i8, name: StrBytes) -> ConfigResource {
    match kind {
        2 => ConfigResource::Topic(text(name)),
        4 => ConfigResource::Broker(text(name)),
        other => ConfigResource::Other(other, text(name)),
    }
}

fn alter_configs(r: m::IncrementalAlterConfigsRequest) -> Request {
    let op = |operation: i8, value: Option<StrBytes>| match (operation, value) {
        (0, Some(value)) => ConfigOp::Set(text(value)),
        (0, None) | (1, _) => ConfigOp::Delete,
        _ => ConfigOp::Other,
    };
    let resources = r.resources.into_iter().map(|r| ConfigChange {
        resource: resource(r.resource_type, r.resource_name),
        changes: (r.configs.into_iter())
            .map(|c| (text(c.name), op(c.config_operation, c.value)))
            .collect(),
    });
    Request::AlterConfigs {
        resources: resources.collect(),
        validate_only: r.validate_only,
    }
}
