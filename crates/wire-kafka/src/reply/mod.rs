//! Answers to bytes: a neutral [`Reply`] for each request, written in the version that was asked.

mod groups;
mod partitions;
mod topics;

pub use groups::phase_name;

use crate::api::{Api, Header};
use crate::error::Error;
use crate::request::{ByTopic, ConfigResource};
use kafka_protocol::messages as m;
use kafka_protocol::protocol::{Encodable, HeaderVersion, StrBytes};
use messaging::registry::ConfigEntry;
use messaging::{Committed, Group, Joined, MemberName, Phase, Synced, TopicId};
use uuid::Uuid;

/// What became of one thing that was asked.
pub type Outcome<T> = Result<T, Error>;

/// What is answered. The order of topics and partitions should be that of the request.
#[derive(Clone, PartialEq, Debug)]
pub enum Reply {
    /// Of `ApiVersions`, in any version.
    ApiVersions {
        /// True for [`crate::Request::UnknownApiVersions`].
        is_unknown: bool,
    },
    /// Of `Metadata`.
    Metadata {
        /// All brokers.
        brokers: Vec<Broker>,
        /// The cluster.
        cluster_id: String,
        /// The broker that administers topics.
        controller: i32,
        /// What was asked for.
        topics: Vec<TopicMetadata>,
    },
    /// Of `Produce`, unless `acks` was 0.
    Produce(Vec<ByTopic<Produced>>),
    /// Of `Fetch`.
    Fetch(Vec<ByTopic<FetchedPartition>>),
    /// Of `ListOffsets`.
    ListOffsets(Vec<ByTopic<FoundOffset>>),
    /// Of `FindCoordinator`, in the order of the keys.
    FindCoordinator(Vec<(String, Outcome<Broker>)>),
    /// Of `JoinGroup`.
    JoinGroup(Result<Joined, JoinRefusal>),
    /// Of `SyncGroup`.
    SyncGroup(Outcome<Synced>),
    /// Of `Heartbeat`.
    Heartbeat(Outcome<()>),
    /// Of `LeaveGroup`; the members in the order asked.
    LeaveGroup(Outcome<Vec<(MemberName, Outcome<()>)>>),
    /// Of `OffsetCommit`.
    OffsetCommit(Vec<ByTopic<PartitionResult>>),
    /// Of `OffsetFetch`.
    OffsetFetch(Vec<GroupOffsets>),
    /// Of `CreateTopics`.
    CreateTopics(Vec<CreatedTopic>),
    /// Of `DeleteTopics`.
    DeleteTopics(Vec<DeletedTopic>),
    /// Of `DeleteRecords`: the log's start by partition.
    DeleteRecords(Vec<ByTopic<(i32, Outcome<i64>)>>),
    /// Of `InitProducerId`: the id, with the epoch 0.
    InitProducerId(Outcome<i64>),
    /// Of `OffsetForLeaderEpoch`.
    OffsetForLeaderEpoch(Vec<ByTopic<EpochEnd>>),
    /// Of `DescribeGroups`; without a group: it is dead, which is no error.
    DescribeGroups(Vec<(String, Outcome<Option<Group>>)>),
    /// Of `ListGroups`.
    ListGroups(Outcome<Vec<ListedGroup>>),
    /// Of `DeleteGroups`.
    DeleteGroups(Vec<(String, Outcome<()>)>),
    /// Of `DescribeConfigs`.
    DescribeConfigs(Vec<(ConfigResource, Outcome<Vec<ConfigEntry>>)>),
    /// Of `AlterConfigs`.
    AlterConfigs(Vec<(ConfigResource, Outcome<()>)>),
    /// Of `CreatePartitions`.
    CreatePartitions(Vec<(String, Outcome<()>)>),
    /// Of `DescribeCluster`.
    DescribeCluster {
        /// All brokers.
        brokers: Vec<Broker>,
        /// The cluster.
        cluster_id: String,
        /// The broker that administers topics.
        controller: i32,
    },
}

/// A broker.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Broker {
    /// Its number.
    pub id: i32,
    /// Where clients reach it.
    pub host: String,
    /// Where clients reach it.
    pub port: u16,
}

/// A topic and who leads its partitions.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TopicMetadata {
    /// Its name, if it is known.
    pub name: Option<String>,
    /// Its id; 0 when it is not known.
    pub id: TopicId,
    /// Its partitions, or why there are none.
    pub partitions: Outcome<Vec<PartitionMetadata>>,
}

/// A partition and who leads it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PartitionMetadata {
    /// Its number.
    pub index: i32,
    /// Its leader's number, or `None` while there is none.
    pub leader: Option<i32>,
    /// The numbers of all that hold it.
    pub replicas: Vec<i32>,
}

/// What became of an append.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Produced {
    /// The partition's number.
    pub index: i32,
    /// Offset of the first record, and the log's start.
    pub result: Outcome<(i64, i64)>,
}

/// What was read of a partition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FetchedPartition {
    /// The partition's number.
    pub index: i32,
    /// What was found.
    pub result: Outcome<messaging::Fetched>,
}

/// An offset that was looked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FoundOffset {
    /// The partition's number.
    pub index: i32,
    /// The offset and its record's time; both −1 when there is none, the time −1 for the ends of the log.
    pub result: Outcome<(i64, i64)>,
}

/// Where a leader epoch ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EpochEnd {
    /// The partition's number.
    pub index: i32,
    /// The epoch, and the offset behind it.
    pub result: Outcome<(i32, i64)>,
}

/// Why a member may not join.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct JoinRefusal {
    /// Why; `MemberIdRequired` with the id that was given out.
    pub error: Error,
    /// The member's id, as it came or as it was given out.
    pub member: String,
}

/// What became of a partition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PartitionResult {
    /// Its number.
    pub index: i32,
    /// What became of it.
    pub result: Outcome<()>,
}

/// What a group has committed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupOffsets {
    /// The group.
    pub group: String,
    /// By partition; `None` where nothing was committed.
    pub result: Outcome<Vec<ByTopic<CommittedPartition>>>,
}

/// What was committed of a partition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CommittedPartition {
    /// Its number.
    pub index: i32,
    /// The position, if there is one.
    pub committed: Option<Committed>,
}

/// What became of a topic to be made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CreatedTopic {
    /// Its name.
    pub name: String,
    /// Its id, partitions, copies and configuration.
    pub result: Outcome<(TopicId, u32, i16, Vec<ConfigEntry>)>,
}

/// What became of a topic to be deleted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DeletedTopic {
    /// Its name, if it is known.
    pub name: Option<String>,
    /// Its id; 0 when it is not known.
    pub id: TopicId,
    /// What became of it.
    pub result: Outcome<()>,
}

/// A group in a list.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ListedGroup {
    /// Its name.
    pub group: String,
    /// What it is of.
    pub protocol_type: String,
    /// Where it stands.
    pub phase: Phase,
}

/// The largest frame that can be written: its length is 31 bits.
const FRAME_BYTES_MAX: usize = i32::MAX as usize;

/// Appends the whole frame of an answer to the request with this header. The reply must be of the header's
/// kind; a reply that its version cannot hold is an error of the caller's, and told as such.
pub fn encode(out: &mut Vec<u8>, header: &Header, reply: &Reply) -> Result<(), String> {
    let at = out.len();
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&header.correlation.to_be_bytes());
    let written = body(out, header, reply).and_then(|()| {
        i32::try_from((out.len() - at - 4).min(FRAME_BYTES_MAX + 1))
            .map_err(|_| "it is longer than a frame can be".to_owned())
    });
    match written {
        Ok(length) => {
            out[at..at + 4].copy_from_slice(&length.to_be_bytes());
            Ok(())
        }
        Err(why) => {
            out.truncate(at);
            Err(format!(
                "answering a {:?} of version {}: {why}",
                header.api, header.version
            ))
        }
    }
}

fn body(out: &mut Vec<u8>, header: &Header, reply: &Reply) -> Result<(), String> {
    let v = header.version;
    match (header.api, reply) {
        (Api::ApiVersions, Reply::ApiVersions { is_unknown }) => {
            put(out, v, api_versions(*is_unknown))
        }
        (
            Api::Metadata,
            Reply::Metadata {
                brokers,
                cluster_id,
                controller,
                topics,
            },
        ) => {
            let made = m::MetadataResponse::default()
                .with_brokers(brokers.iter().map(partitions::metadata_broker).collect())
                .with_cluster_id(Some(text(cluster_id)))
                .with_controller_id((*controller).into())
                .with_topics(
                    topics
                        .iter()
                        .map(|t| partitions::topic_metadata(t, v))
                        .collect(),
                );
            put(out, v, made)
        }
        (Api::Produce, Reply::Produce(topics)) => {
            let made = topics.iter().map(partitions::produced).collect();
            put(out, v, m::ProduceResponse::default().with_responses(made))
        }
        (Api::Fetch, Reply::Fetch(topics)) => {
            let made = topics.iter().map(partitions::fetched).collect();
            put(out, v, m::FetchResponse::default().with_responses(made))
        }
        (Api::ListOffsets, Reply::ListOffsets(topics)) => {
            let made = topics
                .iter()
                .map(|t| partitions::found_offsets(t, v))
                .collect();
            put(out, v, m::ListOffsetsResponse::default().with_topics(made))
        }
        (Api::FindCoordinator, Reply::FindCoordinator(all)) => {
            put(out, v, groups::coordinators(all, v))
        }
        (Api::JoinGroup, Reply::JoinGroup(result)) => put(out, v, groups::joined(result, v)),
        (Api::SyncGroup, Reply::SyncGroup(result)) => put(out, v, groups::synced(result, v)),
        (Api::Heartbeat, Reply::Heartbeat(result)) => {
            let made = m::HeartbeatResponse::default().with_error_code(code(result));
            put(out, v, made)
        }
        (Api::LeaveGroup, Reply::LeaveGroup(result)) => put(out, v, groups::left(result, v)),
        (Api::OffsetCommit, Reply::OffsetCommit(topics)) => {
            let made = topics.iter().map(groups::committed).collect();
            put(out, v, m::OffsetCommitResponse::default().with_topics(made))
        }
        (Api::OffsetFetch, Reply::OffsetFetch(groups)) => {
            put(out, v, groups::group_offsets(groups, v))
        }
        (Api::CreateTopics, Reply::CreateTopics(topics)) => {
            let made = topics.iter().map(|t| topics::created_topic(t, v)).collect();
            put(out, v, m::CreateTopicsResponse::default().with_topics(made))
        }
        (Api::DeleteTopics, Reply::DeleteTopics(topics)) => {
            let made = topics.iter().map(|t| topics::deleted_topic(t, v)).collect();
            put(
                out,
                v,
                m::DeleteTopicsResponse::default().with_responses(made),
            )
        }
        (Api::DeleteRecords, Reply::DeleteRecords(topics)) => {
            let made = topics.iter().map(topics::deleted_records).collect();
            put(
                out,
                v,
                m::DeleteRecordsResponse::default().with_topics(made),
            )
        }
        (Api::InitProducerId, Reply::InitProducerId(result)) => {
            let made = m::InitProducerIdResponse::default()
                .with_error_code(code(result))
                .with_producer_id(result.unwrap_or(-1).into())
                .with_producer_epoch(if result.is_ok() { 0 } else { -1 });
            put(out, v, made)
        }
        (Api::OffsetForLeaderEpoch, Reply::OffsetForLeaderEpoch(topics)) => {
            let made = topics.iter().map(topics::epoch_ends).collect();
            let all = m::OffsetForLeaderEpochResponse::default().with_topics(made);
            put(out, v, all)
        }
        (Api::DescribeGroups, Reply::DescribeGroups(groups)) => {
            let made = groups
                .iter()
                .map(|(name, g)| groups::described_group(name, g, v));
            let all = m::DescribeGroupsResponse::default().with_groups(made.collect());
            put(out, v, all)
        }
        (Api::ListGroups, Reply::ListGroups(result)) => {
            put(out, v, groups::listed_groups(result, v))
        }
        (Api::DeleteGroups, Reply::DeleteGroups(groups)) => {
            let made = groups.iter().map(|(name, result)| {
                m::delete_groups_response::DeletableGroupResult::default()
                    .with_group_id(text(name).into())
                    .with_error_code(code(result))
            });
            let all = m::DeleteGroupsResponse::default().with_results(made.collect());
            put(out, v, all)
        }
        (Api::DescribeConfigs, Reply::DescribeConfigs(resources)) => {
            let made = resources
                .iter()
                .map(|(r, entries)| topics::described(r, entries));
            let all = m::DescribeConfigsResponse::default().with_results(made.collect());
            put(out, v, all)
        }
        (Api::IncrementalAlterConfigs, Reply::AlterConfigs(resources)) => {
            let made = resources.iter().map(|(r, result)| {
                let (kind, name) = topics::resource(r);
                m::incremental_alter_configs_response::AlterConfigsResourceResponse::default()
                    .with_error_code(code(result))
                    .with_error_message(message(result))
                    .with_resource_type(kind)
                    .with_resource_name(name)
            });
            let all = m::IncrementalAlterConfigsResponse::default();
            put(out, v, all.with_responses(made.collect()))
        }
        (Api::CreatePartitions, Reply::CreatePartitions(topics)) => {
            let made = topics.iter().map(|(name, result)| {
                m::create_partitions_response::CreatePartitionsTopicResult::default()
                    .with_name(text(name).into())
                    .with_error_code(code(result))
                    .with_error_message(message(result))
            });
            let all = m::CreatePartitionsResponse::default().with_results(made.collect());
            put(out, v, all)
        }
        (
            Api::DescribeCluster,
            Reply::DescribeCluster {
                brokers,
                cluster_id,
                controller,
            },
        ) => {
            let made = m::DescribeClusterResponse::default()
                .with_brokers(brokers.iter().map(partitions::cluster_broker).collect())
                .with_cluster_id(text(cluster_id))
                .with_controller_id((*controller).into());
            put(out, v, made)
        }
        _ => Err("the reply is of another kind".into()),
    }
}

/// The rest of the reply's header, and the message.
fn put<T: Encodable + HeaderVersion>(
    out: &mut Vec<u8>,
    version: i16,
    message: T,
) -> Result<(), String> {
    if T::header_version(version) >= 1 {
        out.push(0); // no tagged fields
    }
    message.encode(out, version).map_err(|e| e.to_string())
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn code<T>(result: &Outcome<T>) -> i16 {
    result.as_ref().err().map_or(0, Error::code)
}

/// For people: the error's name.
fn message<T>(result: &Outcome<T>) -> Option<StrBytes> {
    result.as_ref().err().map(|e| text(&e.to_string()))
}

fn uuid(id: TopicId) -> Uuid {
    Uuid::from_u128(id.0.into())
}

fn api_versions(is_unknown: bool) -> m::ApiVersionsResponse {
    let keys = Api::ALL.iter().map(|api| {
        let range = api.told_versions();
        m::api_versions_response::ApiVersion::default()
            .with_api_key(api.key())
            .with_min_version(*range.start())
            .with_max_version(*range.end())
    });
    let error = if is_unknown {
        Error::UnsupportedVersion.code()
    } else {
        0
    };
    m::ApiVersionsResponse::default()
        .with_error_code(error)
        .with_api_keys(keys.collect())
}
