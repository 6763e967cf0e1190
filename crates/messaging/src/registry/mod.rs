//! The definitions of all topics: one small machine, in the tree's shard, the same for the whole cluster.
//!
//! It says what shall be; [`crate::Topics::reconcile`] tells each data shard's leader what to propose so
//! that it is. It also gives out producer ids, because it is the one place that no two shards share.

mod command;
mod config;
mod restore;

pub use command::{RegistryCommand, RegistryUnit, TopicName};
pub use config::{ConfigEntry, describe};

use crate::command::{LogConfig, TopicId};
use crate::output::RegistryOutput;
use crate::reply::{ErrorCode, RegistryReply};
use base::{ApplyFault, DecodeError, Image, Machine, Origin, SnapshotPoll, Stamp, State, Writer};
use bytes::Bytes;
use std::collections::BTreeMap;
use twox_hash::XxHash64;

/// Bytes of a topic's name.
pub const TOPIC_NAME_BYTES_MAX: usize = 249;
/// Partitions of all topics together.
pub const PARTITIONS_MAX: u32 = 50_000;

/// What is known of a topic.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Topic {
    /// Its id.
    pub id: TopicId,
    /// Its name.
    pub name: String,
    /// Its partitions.
    pub partition_count: u32,
    /// What was configured otherwise than by default, by Kafka's names.
    pub config: BTreeMap<String, String>,
    log_config: LogConfig,
}

impl Topic {
    /// What its partitions keep.
    pub fn log_config(&self) -> LogConfig {
        self.log_config
    }

    /// The hash tag that says where its partitions lie, if one was configured.
    pub fn placement_tag(&self) -> Option<&str> {
        let tag = self.config.get(config::PLACEMENT_TAG)?;
        (!tag.is_empty()).then_some(tag.as_str())
    }

    fn new(
        id: TopicId,
        name: String,
        partition_count: u32,
        config: BTreeMap<String, String>,
    ) -> Result<Self, ErrorCode> {
        Ok(Self {
            id,
            name,
            partition_count,
            log_config: config::log_config(&config)?,
            config,
        })
    }

    fn encode_into(&self, w: &mut Writer) {
        w.u64(self.id.0).str(&self.name).u32(self.partition_count);
        w.u32(self.config.len() as u32);
        for (key, value) in &self.config {
            w.str(key).str(value);
        }
    }

    fn hash(&self) -> u64 {
        let mut w = Writer::new();
        self.encode_into(&mut w);
        XxHash64::oneshot(7, w.as_slice())
    }
}

/// All topics.
#[derive(Clone, Debug, Default)]
pub struct Registry {
    topics: BTreeMap<String, Topic>,
    names: BTreeMap<TopicId, String>,
    /// The last topic id and the last producer id given out.
    last_topic: u64,
    last_producer: i64,
    partitions: u32,
    digest: u64,
    cut: Image,
    restoring: Vec<u8>,
}

/// What is registered, whatever is under way of snapshots.
impl PartialEq for Registry {
    fn eq(&self, other: &Self) -> bool {
        self.topics == other.topics
            && self.last_topic == other.last_topic
            && self.last_producer == other.last_producer
    }
}

impl Registry {
    /// The byte form.
    pub fn encode(&self) -> Vec<u8> {
        self.image()
    }

    /// Reads it.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        Self::from_image(bytes)
    }

    /// No topics.
    pub fn new() -> Self {
        Self::default()
    }

    /// The topic of this name.
    pub fn topic(&self, name: &str) -> Option<&Topic> {
        self.topics.get(name)
    }

    /// The topic of this id.
    pub fn topic_by_id(&self, id: TopicId) -> Option<&Topic> {
        self.names.get(&id).and_then(|name| self.topics.get(name))
    }

    /// True for an id that was given out, whatever became of the topic.
    pub fn had(&self, id: TopicId) -> bool {
        id.0 <= self.last_topic
    }

    /// All topics, by name.
    pub fn topics(&self) -> impl Iterator<Item = &Topic> {
        self.topics.values()
    }

    /// Partitions of all topics.
    pub fn partition_count(&self) -> u32 {
        self.partitions
    }

    /// Applies one decoded unit; [`Machine::apply`] without the decoding and copying.
    pub fn apply_unit(&mut self, unit: RegistryUnit, out: &mut Vec<RegistryOutput>) {
        let topics_digest = self.digest;
        let reply = self.command(unit.command);
        if self.digest != topics_digest {
            out.push(RegistryOutput::Changed);
        }
        let origin = unit.origin;
        if origin != Origin::default() {
            out.push(RegistryOutput::Reply { origin, reply });
        }
    }

    fn command(&mut self, command: RegistryCommand) -> Result<RegistryReply, ErrorCode> {
        match command {
            RegistryCommand::CreateTopic {
                name,
                partition_count,
                config,
                validate_only,
            } => self.create(name, partition_count, config, validate_only),
            RegistryCommand::DeleteTopic { topic } => self.delete(&topic),
            RegistryCommand::AddPartitions {
                name,
                partition_count,
                validate_only,
            } => {
                let topic = self.topic(&name).ok_or(ErrorCode::UnknownTopic)?;
                if partition_count <= topic.partition_count {
                    return Err(ErrorCode::InvalidPartitions);
                }
                let mut changed = topic.clone();
                changed.partition_count = partition_count;
                self.change(changed, validate_only)
            }
            RegistryCommand::Configure {
                name,
                changes,
                replace,
                validate_only,
            } => {
                let topic = self.topic(&name).ok_or(ErrorCode::UnknownTopic)?;
                let mut config = topic.config.clone();
                if replace {
                    config.retain(|key, _| key == config::PLACEMENT_TAG);
                }
                for (key, value) in changes {
                    config::check_key(&key)?;
                    match value {
                        Some(value) => config.insert(key, value),
                        None => config.remove(&key),
                    };
                }
                let changed = Topic::new(topic.id, name, topic.partition_count, config)?;
                if changed.placement_tag() != topic.placement_tag() {
                    // Partitions do not move.
                    return Err(ErrorCode::InvalidConfig);
                }
                self.change(changed, validate_only)
            }
            RegistryCommand::NewProducer => {
                self.last_producer += 1;
                let id = self.last_producer;
                Ok(RegistryReply::Producer { id })
            }
        }
    }

    fn create(
        &mut self,
        name: String,
        partition_count: u32,
        config: Vec<(String, String)>,
        validate_only: bool,
    ) -> Result<RegistryReply, ErrorCode> {
        if !is_topic_name(&name) {
            return Err(ErrorCode::InvalidTopicName);
        }
        if self.topics.contains_key(&name) {
            return Err(ErrorCode::TopicExists);
        }
        if partition_count == 0 {
            return Err(ErrorCode::InvalidPartitions);
        }
        let id = TopicId(self.last_topic + 1);
        let topic = Topic::new(id, name, partition_count, config.into_iter().collect())?;
        let reply = self.change(topic, validate_only)?;
        if !validate_only {
            self.last_topic = id.0;
        }
        Ok(reply)
    }

    /// Puts a topic in place of what was there, if all topics together stay within their limit.
    fn change(&mut self, topic: Topic, validate_only: bool) -> Result<RegistryReply, ErrorCode> {
        let old = self.topics.get(&topic.name);
        let others = self.partitions - old.map_or(0, |t| t.partition_count);
        if topic.partition_count > PARTITIONS_MAX - others {
            return Err(ErrorCode::TooManyPartitions);
        }
        let reply = RegistryReply::Topic {
            id: if validate_only && old.is_none() {
                TopicId(0)
            } else {
                topic.id
            },
            partition_count: topic.partition_count,
        };
        if !validate_only {
            self.put(topic);
        }
        Ok(reply)
    }

    fn put(&mut self, topic: Topic) {
        self.digest = self.digest.wrapping_add(topic.hash());
        self.partitions += topic.partition_count;
        self.names.insert(topic.id, topic.name.clone());
        if let Some(old) = self.topics.insert(topic.name.clone(), topic) {
            self.digest = self.digest.wrapping_sub(old.hash());
            self.partitions -= old.partition_count;
        }
    }

    fn delete(&mut self, topic: &TopicName) -> Result<RegistryReply, ErrorCode> {
        let name = match topic {
            TopicName::Name(name) => Some(name),
            TopicName::Id(id) => self.names.get(id),
        };
        let name = name.ok_or(ErrorCode::UnknownTopic)?.clone();
        let gone = self.topics.remove(&name).ok_or(ErrorCode::UnknownTopic)?;
        self.names.remove(&gone.id);
        self.partitions -= gone.partition_count;
        self.digest = self.digest.wrapping_sub(gone.hash());
        Ok(RegistryReply::Deleted { id: gone.id, name })
    }
}

/// Letters, digits, `.`, `_` and `-`, but not `.` and `..`.
pub fn is_topic_name(name: &str) -> bool {
    let is_allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    (1..=TOPIC_NAME_BYTES_MAX).contains(&name.len())
        && name != "."
        && name != ".."
        && name.bytes().all(is_allowed)
}

impl Machine for Registry {
    type Output = RegistryOutput;

    fn apply(
        &mut self,
        _: Stamp,
        unit: &[u8],
        out: &mut Vec<RegistryOutput>,
    ) -> Result<(), ApplyFault> {
        let unit = RegistryUnit::decode(&Bytes::copy_from_slice(unit))
            .map_err(|e| ApplyFault::UnknownCommand(format!("topics' registry: {e}")))?;
        self.apply_unit(unit, out);
        Ok(())
    }
}

impl State for Registry {
    fn digest(&self) -> u64 {
        let mut w = Writer::new();
        w.u64(self.last_topic).i64(self.last_producer);
        self.digest.wrapping_add(XxHash64::oneshot(8, w.as_slice()))
    }

    /// The registry is small (its limit is [`PARTITIONS_MAX`]): its image is taken at once.
    fn begin_snapshot(&mut self) {
        self.cut = Image::of(self.image());
    }

    fn poll_snapshot(&mut self, bytes_max: usize) -> SnapshotPoll {
        self.cut.poll(bytes_max)
    }

    fn abort_snapshot(&mut self) {
        self.cut = Image::default();
    }

    fn restore(&mut self, chunk: &[u8]) -> Result<(), String> {
        self.restoring.extend_from_slice(chunk);
        Ok(())
    }

    fn finish_restore(&mut self) -> Result<(), String> {
        let image = std::mem::take(&mut self.restoring);
        *self = Self::from_image(&image)
            .map_err(|e| format!("restoring the topics' registry: {e}; take another snapshot"))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_placement_tag_is_given_at_birth_and_stays() {
        let mut registry = Registry::new();
        let tag = |tag: &str| (config::PLACEMENT_TAG.to_owned(), tag.to_owned());
        let made = registry.create("t".into(), 1, vec![tag("tree")], false);
        assert!(made.is_ok());
        let mut configure = |changes: Vec<(String, Option<String>)>, replace| {
            registry.command(RegistryCommand::Configure {
                name: "t".into(),
                changes,
                replace,
                validate_only: false,
            })
        };
        let (key, other) = tag("other");
        let refused = Err(ErrorCode::InvalidConfig);
        assert_eq!(configure(vec![(key.clone(), Some(other))], false), refused);
        assert_eq!(configure(vec![(key, None)], false), refused);
        assert!(configure(vec![], true).is_ok());
        let topic = registry.topic("t").expect("it is there");
        assert_eq!(topic.placement_tag(), Some("tree"));
    }

    #[test]
    fn names_that_kafka_would_not_take_are_refused() {
        for name in ["a", "A.b_c-9", &"x".repeat(249)] {
            assert!(is_topic_name(name), "{name}");
        }
        for name in ["", ".", "..", "a b", "ä", "a/b", &"x".repeat(250)] {
            assert!(!is_topic_name(name), "{name}");
        }
    }
}
