//! Answers about topics and their configuration, as the crate's messages.

use super::{CreatedTopic, DeletedTopic, EpochEnd, Outcome, code, message, text, uuid};
use crate::request::{ByTopic, ConfigResource};
use kafka_protocol::messages as m;
use kafka_protocol::protocol::StrBytes;
use messaging::registry::ConfigEntry;

pub(super) fn created_topic(
    topic: &CreatedTopic,
    version: i16,
) -> m::create_topics_response::CreatableTopicResult {
    let made = m::create_topics_response::CreatableTopicResult::default()
        .with_name(text(&topic.name).into())
        .with_error_code(code(&topic.result))
        .with_error_message(message(&topic.result));
    let Ok((id, partition_count, replication_factor, config)) = &topic.result else {
        return made;
    };
    if version < 5 {
        return made;
    }
    let config = config.iter().map(|entry| {
        m::create_topics_response::CreatableTopicConfigs::default()
            .with_name(text(entry.name))
            .with_value(Some(text(&entry.value)))
            .with_read_only(entry.is_fixed)
            .with_config_source(source(entry))
    });
    let made = made
        .with_num_partitions(i32::try_from(*partition_count).unwrap_or(i32::MAX))
        .with_replication_factor(*replication_factor)
        .with_configs(Some(config.collect()));
    if version >= 7 {
        made.with_topic_id(uuid(*id))
    } else {
        made
    }
}

pub(super) fn deleted_topic(
    topic: &DeletedTopic,
    version: i16,
) -> m::delete_topics_response::DeletableTopicResult {
    // Only from version 6 on may a topic be without a name.
    let name = topic.name.as_deref();
    let name = name.or((version < 6).then_some(""));
    let made = m::delete_topics_response::DeletableTopicResult::default()
        .with_name(name.map(|name| text(name).into()))
        .with_error_code(code(&topic.result));
    let made = if version >= 5 {
        made.with_error_message(message(&topic.result))
    } else {
        made
    };
    if version >= 6 {
        made.with_topic_id(uuid(topic.id))
    } else {
        made
    }
}

pub(super) fn deleted_records(
    topic: &ByTopic<(i32, Outcome<i64>)>,
) -> m::delete_records_response::DeleteRecordsTopicResult {
    let partitions = topic.partitions.iter().map(|(index, result)| {
        m::delete_records_response::DeleteRecordsPartitionResult::default()
            .with_partition_index(*index)
            .with_low_watermark(result.unwrap_or(-1))
            .with_error_code(code(result))
    });
    m::delete_records_response::DeleteRecordsTopicResult::default()
        .with_name(text(&topic.topic).into())
        .with_partitions(partitions.collect())
}

pub(super) fn epoch_ends(
    topic: &ByTopic<EpochEnd>,
) -> m::offset_for_leader_epoch_response::OffsetForLeaderTopicResult {
    let partitions = topic.partitions.iter().map(|p| {
        let (epoch, end) = p.result.unwrap_or((-1, -1));
        m::offset_for_leader_epoch_response::EpochEndOffset::default()
            .with_partition(p.index)
            .with_error_code(code(&p.result))
            .with_leader_epoch(epoch)
            .with_end_offset(end)
    });
    m::offset_for_leader_epoch_response::OffsetForLeaderTopicResult::default()
        .with_topic(text(&topic.topic).into())
        .with_partitions(partitions.collect())
}

pub(super) fn resource(resource: &ConfigResource) -> (i8, StrBytes) {
    match resource {
        ConfigResource::Topic(name) => (2, text(name)),
        ConfigResource::Broker(name) => (4, text(name)),
        ConfigResource::Other(kind, name) => (*kind, text(name)),
    }
}

/// Kafka's number for where a value comes from: the topic, or the default.
fn source(entry: &ConfigEntry) -> i8 {
    if entry.is_default { 5 } else { 1 }
}

pub(super) fn described(
    of: &ConfigResource,
    result: &Outcome<Vec<ConfigEntry>>,
) -> m::describe_configs_response::DescribeConfigsResult {
    let entries = result.iter().flatten().map(|entry| {
        m::describe_configs_response::DescribeConfigsResourceResult::default()
            .with_name(text(entry.name))
            .with_value(Some(text(&entry.value)))
            .with_read_only(entry.is_fixed)
            .with_config_source(source(entry))
    });
    let (kind, name) = resource(of);
    m::describe_configs_response::DescribeConfigsResult::default()
        .with_error_code(code(result))
        .with_error_message(message(result))
        .with_resource_type(kind)
        .with_resource_name(name)
        .with_configs(entries.collect())
}
