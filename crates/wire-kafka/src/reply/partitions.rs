//! Answers about partitions and their records, as the crate's messages.

use super::{Broker, FetchedPartition, FoundOffset, Produced, TopicMetadata, code, text, uuid};
use crate::error::Error;
use crate::records;
use crate::request::ByTopic;
use bytes::Bytes;
use kafka_protocol::messages as m;
use messaging::Batch;

pub(super) fn metadata_broker(broker: &Broker) -> m::metadata_response::MetadataResponseBroker {
    m::metadata_response::MetadataResponseBroker::default()
        .with_node_id(broker.id.into())
        .with_host(text(&broker.host))
        .with_port(broker.port.into())
}

pub(super) fn cluster_broker(
    broker: &Broker,
) -> m::describe_cluster_response::DescribeClusterBroker {
    m::describe_cluster_response::DescribeClusterBroker::default()
        .with_broker_id(broker.id.into())
        .with_host(text(&broker.host))
        .with_port(broker.port.into())
}

pub(super) fn topic_metadata(
    topic: &TopicMetadata,
    version: i16,
) -> m::metadata_response::MetadataResponseTopic {
    let partitions = topic.partitions.iter().flatten().map(|p| {
        let replicas: Vec<m::BrokerId> = p.replicas.iter().map(|id| (*id).into()).collect();
        let error = match p.leader {
            Some(_) => 0,
            None => Error::LeaderNotAvailable.code(),
        };
        m::metadata_response::MetadataResponsePartition::default()
            .with_error_code(error)
            .with_partition_index(p.index)
            .with_leader_id(p.leader.unwrap_or(-1).into())
            .with_leader_epoch(if version >= 7 { 0 } else { -1 })
            .with_replica_nodes(replicas.clone())
            .with_isr_nodes(replicas)
    });
    // Only from version 12 on may a topic be without a name.
    let name = topic.name.as_deref();
    let name = name.or((version < 12).then_some(""));
    let made = m::metadata_response::MetadataResponseTopic::default()
        .with_error_code(code(&topic.partitions))
        .with_name(name.map(|name| text(name).into()))
        .with_partitions(partitions.collect());
    if version >= 10 {
        made.with_topic_id(uuid(topic.id))
    } else {
        made
    }
}

pub(super) fn produced(topic: &ByTopic<Produced>) -> m::produce_response::TopicProduceResponse {
    let partitions = topic.partitions.iter().map(|p| {
        let (base_offset, log_start) = p.result.unwrap_or((-1, -1));
        m::produce_response::PartitionProduceResponse::default()
            .with_index(p.index)
            .with_error_code(code(&p.result))
            .with_base_offset(base_offset)
            .with_log_append_time_ms(-1)
            .with_log_start_offset(log_start)
    });
    m::produce_response::TopicProduceResponse::default()
        .with_name(text(&topic.topic).into())
        .with_partition_responses(partitions.collect())
}

fn gathered(batches: &[Batch]) -> Bytes {
    let mut bytes = Vec::new();
    records::write(&mut bytes, batches);
    Bytes::from(bytes)
}

pub(super) fn fetched(
    topic: &ByTopic<FetchedPartition>,
) -> m::fetch_response::FetchableTopicResponse {
    let partitions = topic.partitions.iter().map(|p| {
        let made = m::fetch_response::PartitionData::default()
            .with_partition_index(p.index)
            .with_error_code(code(&p.result))
            .with_aborted_transactions(None);
        match &p.result {
            Ok(found) => made
                .with_high_watermark(found.high_watermark)
                .with_last_stable_offset(found.high_watermark)
                .with_log_start_offset(found.log_start)
                .with_records(Some(gathered(&found.batches))),
            Err(_) => made
                .with_high_watermark(-1)
                .with_last_stable_offset(-1)
                .with_log_start_offset(-1)
                .with_records(Some(Bytes::new())),
        }
    });
    m::fetch_response::FetchableTopicResponse::default()
        .with_topic(text(&topic.topic).into())
        .with_partitions(partitions.collect())
}

pub(super) fn found_offsets(
    topic: &ByTopic<FoundOffset>,
    version: i16,
) -> m::list_offsets_response::ListOffsetsTopicResponse {
    let partitions = topic.partitions.iter().map(|p| {
        let (offset, time_ms) = p.result.unwrap_or((-1, -1));
        m::list_offsets_response::ListOffsetsPartitionResponse::default()
            .with_partition_index(p.index)
            .with_error_code(code(&p.result))
            .with_offset(offset)
            .with_timestamp(time_ms)
            .with_leader_epoch(if version >= 4 && offset >= 0 { 0 } else { -1 })
    });
    m::list_offsets_response::ListOffsetsTopicResponse::default()
        .with_name(text(&topic.topic).into())
        .with_partitions(partitions.collect())
}
