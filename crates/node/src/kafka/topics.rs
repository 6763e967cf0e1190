//! Requests about topics and their configuration. Any node takes them; what they change, the registry does.

use super::draft::{Draft, Work};
use super::places::{broker_id, cluster_id};
use super::{Context, Kafka, UNANSWERED};
use base::NodeId;
use catalog::TREE_SHARD;
use messaging::registry::{ConfigEntry, describe, is_topic_name};
use messaging::{PartitionId, RegistryCommand, Topic, TopicId, TopicName};
use wire_kafka::reply::{CreatedTopic, DeletedTopic, Outcome, PartitionMetadata, TopicMetadata};
use wire_kafka::request::{
    ConfigChange, ConfigOp, ConfigQuery, ConfigResource, MorePartitions, NewTopic,
};
use wire_kafka::{Error, Reply, Request};

/// So many topics are made because one request names them.
const AUTO_CREATED_MAX: usize = 100;

impl Kafka {
    /// Topics that do not exist are made first, if that is wanted and allowed.
    pub(super) fn metadata(
        &self,
        cx: &Context<'_>,
        topics: Option<Vec<TopicName>>,
        may_create: bool,
    ) -> Draft {
        let mut missing: Vec<String> = Vec::new();
        if may_create && self.auto_create && !cx.full.contains(&TREE_SHARD) {
            let is_new = |name: &String| {
                is_topic_name(name) && cx.registry().is_some_and(|r| r.topic(name).is_none())
            };
            let named = topics.iter().flatten().filter_map(|topic| match topic {
                TopicName::Name(name) if is_new(name) => Some(name.clone()),
                _ => None,
            });
            missing = named.take(AUTO_CREATED_MAX).collect();
        }
        let request = Request::Metadata { topics, may_create };
        let mut draft = Draft::of(Work::Read(request));
        for (i, name) in missing.into_iter().enumerate() {
            let command = RegistryCommand::CreateTopic {
                name,
                partition_count: self.partition_count,
                config: Vec::new(),
                validate_only: false,
            };
            draft.registry(i, command);
        }
        draft
    }

    pub(super) fn topics_metadata(
        &self,
        cx: &Context<'_>,
        topics: Option<Vec<TopicName>>,
    ) -> Reply {
        let registry = cx.registry();
        let topics = match topics {
            None => (registry.into_iter().flat_map(|r| r.topics()))
                .map(|topic| self.topic_metadata(cx, topic))
                .collect(),
            Some(names) => (names.into_iter())
                .map(|name| self.named_metadata(cx, name))
                .collect(),
        };
        Reply::Metadata {
            brokers: self.brokers(cx),
            cluster_id: cluster_id(cx),
            controller: self.controller(cx),
            topics,
        }
    }

    fn named_metadata(&self, cx: &Context<'_>, name: TopicName) -> TopicMetadata {
        let found = cx.registry().and_then(|registry| match &name {
            TopicName::Name(name) => registry.topic(name),
            TopicName::Id(id) => registry.topic_by_id(*id),
        });
        match (found, name) {
            (Some(topic), _) => self.topic_metadata(cx, topic),
            (None, TopicName::Name(name)) => TopicMetadata {
                id: TopicId(0),
                partitions: Err(if is_topic_name(&name) {
                    Error::UnknownTopicOrPartition
                } else {
                    Error::InvalidTopicException
                }),
                name: Some(name),
            },
            (None, TopicName::Id(id)) => TopicMetadata {
                name: None,
                id,
                partitions: Err(Error::UnknownTopicId),
            },
        }
    }

    fn topic_metadata(&self, cx: &Context<'_>, topic: &Topic) -> TopicMetadata {
        let partitions = (0..topic.partition_count).map(|index| {
            let shard = cx.partition_shard(topic, index);
            let id = PartitionId {
                topic: topic.id,
                index,
            };
            let is_open = |shard: &_| cx.topics(*shard).is_some_and(|t| t.has_partition(id));
            let leader = shard.filter(is_open).and_then(|s| self.leader(cx, s));
            let holders = shard.map_or_else(Vec::new, |shard| cx.holders(shard));
            PartitionMetadata {
                index: index as i32,
                leader: leader.map(|broker| broker.id),
                replicas: holders.into_iter().map(broker_id).collect(),
            }
        });
        TopicMetadata {
            name: Some(topic.name.clone()),
            id: topic.id,
            partitions: Ok(partitions.collect()),
        }
    }

    pub(super) fn create_topics(
        &self,
        cx: &Context<'_>,
        topics: Vec<NewTopic>,
        validate_only: bool,
    ) -> Draft {
        let mut draft = Draft::of(Work::Taken);
        let mut answers = Vec::with_capacity(topics.len());
        for (i, topic) in topics.into_iter().enumerate() {
            let name = topic.name.clone();
            let error = match self.new_topic(cx, topic, validate_only) {
                Ok(command) => {
                    draft.registry(i, command);
                    UNANSWERED
                }
                Err(error) => error,
            };
            let result = Err(error);
            answers.push(CreatedTopic { name, result });
        }
        draft.work = Work::Reply(Reply::CreateTopics(answers));
        draft
    }

    fn new_topic(
        &self,
        cx: &Context<'_>,
        topic: NewTopic,
        validate_only: bool,
    ) -> Outcome<RegistryCommand> {
        if cx.full.contains(&TREE_SHARD) {
            return Err(Error::KafkaStorageError);
        }
        if topic.is_assigned {
            return Err(Error::InvalidReplicaAssignment);
        }
        let partition_count = match topic.partition_count {
            -1 => self.partition_count,
            count => u32::try_from(count).map_err(|_| Error::InvalidPartitions)?,
        };
        // There are as many copies as the pool has; more than there are members cannot be.
        let members = cx.catalog.members.len();
        match topic.replication_factor {
            -1 => {}
            factor if factor >= 1 && factor as usize <= members => {}
            _ => return Err(Error::InvalidReplicationFactor),
        }
        let config = topic.config.into_iter();
        Ok(RegistryCommand::CreateTopic {
            name: topic.name,
            partition_count,
            config: config.filter_map(|(k, v)| Some((k, v?))).collect(),
            validate_only,
        })
    }

    pub(super) fn describe_configs(&self, cx: &Context<'_>, queries: Vec<ConfigQuery>) -> Reply {
        let of = |query: ConfigQuery| {
            let found = match &query.resource {
                ConfigResource::Topic(name) => (cx.registry())
                    .and_then(|registry| registry.topic(name))
                    .map(describe)
                    .ok_or(Error::UnknownTopicOrPartition),
                ConfigResource::Broker(id) if *id == broker_id(self.me.node).to_string() => {
                    Ok(self.own_config())
                }
                ConfigResource::Broker(_) | ConfigResource::Other(..) => Err(Error::InvalidRequest),
            };
            let is_asked = |entry: &ConfigEntry| match &query.keys {
                Some(keys) => keys.iter().any(|key| key == entry.name),
                None => true,
            };
            let found = found.map(|entries| entries.into_iter().filter(is_asked).collect());
            (query.resource, found)
        };
        Reply::DescribeConfigs(queries.into_iter().map(of).collect())
    }

    /// What of this node's configuration file has a name in Kafka.
    fn own_config(&self) -> Vec<ConfigEntry> {
        let entry = |name, value, is_default| ConfigEntry {
            name,
            value,
            is_default,
            is_fixed: true,
        };
        let auto_create = self.auto_create.to_string();
        let partitions = self.partition_count.to_string();
        vec![
            entry("auto.create.topics.enable", auto_create, self.auto_create),
            entry("num.partitions", partitions, self.partition_count == 1),
        ]
    }
}

/// How many copies there are of what the registry's pool holds.
pub fn copies(cx: &Context<'_>) -> i16 {
    let nodes: Vec<NodeId> = cx.holders(TREE_SHARD);
    i16::try_from(nodes.len()).unwrap_or(i16::MAX)
}

pub fn delete_topics(topics: Vec<TopicName>) -> Draft {
    let mut draft = Draft::of(Work::Taken);
    let mut answers = Vec::with_capacity(topics.len());
    for (i, topic) in topics.into_iter().enumerate() {
        let (name, id) = match &topic {
            TopicName::Name(name) => (Some(name.clone()), TopicId(0)),
            TopicName::Id(id) => (None, *id),
        };
        let result = Err(UNANSWERED);
        answers.push(DeletedTopic { name, id, result });
        draft.registry(i, RegistryCommand::DeleteTopic { topic });
    }
    draft.work = Work::Reply(Reply::DeleteTopics(answers));
    draft
}

pub fn create_partitions(topics: Vec<MorePartitions>, validate_only: bool) -> Draft {
    let mut draft = Draft::of(Work::Taken);
    let mut answers = Vec::with_capacity(topics.len());
    for (i, more) in topics.into_iter().enumerate() {
        let name = more.topic.clone();
        let error = match u32::try_from(more.partition_count) {
            Ok(_) if more.is_assigned => Error::InvalidReplicaAssignment,
            Err(_) => Error::InvalidPartitions,
            Ok(partition_count) => {
                let command = RegistryCommand::AddPartitions {
                    name: more.topic,
                    partition_count,
                    validate_only,
                };
                draft.registry(i, command);
                UNANSWERED
            }
        };
        answers.push((name, Err(error)));
    }
    draft.work = Work::Reply(Reply::CreatePartitions(answers));
    draft
}

pub fn alter_configs(resources: Vec<ConfigChange>, validate_only: bool) -> Draft {
    let mut draft = Draft::of(Work::Taken);
    let mut answers = Vec::with_capacity(resources.len());
    for (i, change) in resources.into_iter().enumerate() {
        let result = match &change.resource {
            ConfigResource::Topic(name) => changes(change.changes).map(|changes| {
                let command = RegistryCommand::Configure {
                    name: name.clone(),
                    changes,
                    replace: false,
                    validate_only,
                };
                draft.registry(i, command);
            }),
            // Nodes are configured by their files.
            ConfigResource::Broker(_) | ConfigResource::Other(..) => Err(Error::InvalidRequest),
        };
        answers.push((change.resource, result.and(Err(UNANSWERED))));
    }
    draft.work = Work::Reply(Reply::AlterConfigs(answers));
    draft
}

fn changes(changes: Vec<(String, ConfigOp)>) -> Outcome<Vec<(String, Option<String>)>> {
    let of = |(key, op)| match op {
        ConfigOp::Set(value) => Ok((key, Some(value))),
        ConfigOp::Delete => Ok((key, None)),
        // No key is a list.
        ConfigOp::Other => Err(Error::InvalidConfig),
    };
    changes.into_iter().map(of).collect()
}

pub fn init_producer_id(is_transactional: bool) -> Draft {
    if is_transactional {
        let refusal = Err(Error::TransactionalIdAuthorizationFailed);
        return Draft::reply(Reply::InitProducerId(refusal));
    }
    let mut draft = Draft::reply(Reply::InitProducerId(Err(UNANSWERED)));
    draft.registry(0, RegistryCommand::NewProducer);
    draft
}
