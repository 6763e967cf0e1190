//! The registry's image, and reading it back.

use super::{PARTITIONS_MAX, Registry, Topic};
use crate::command::TopicId;
use base::{DecodeError, Reader, State, Writer};
use std::collections::BTreeMap;

/// Version of the form.
const FORMAT: u16 = 1;

impl Registry {
    pub(super) fn image(&self) -> Vec<u8> {
        let mut w = Writer::new();
        w.u16(FORMAT).u64(self.last_topic).i64(self.last_producer);
        w.u64(self.digest()).u32(self.topics.len() as u32);
        for topic in self.topics.values() {
            topic.encode_into(&mut w);
        }
        w.into_vec()
    }

    pub(super) fn from_image(image: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(image);
        if r.u16()? != FORMAT {
            return Err(DecodeError::Invalid("format"));
        }
        let mut made = Self {
            last_topic: r.u64()?,
            last_producer: r.i64()?,
            ..Self::default()
        };
        let digest = r.u64()?;
        for _ in 0..r.count(20)? {
            let topic = decode_topic(&mut r)?;
            if topic.partition_count > PARTITIONS_MAX - made.partitions {
                return Err(DecodeError::Invalid("partition count"));
            }
            made.put(topic);
        }
        r.finish()?;
        if made.digest() != digest || made.names.len() != made.topics.len() {
            return Err(DecodeError::Invalid("digest"));
        }
        Ok(made)
    }
}

fn decode_topic(r: &mut Reader<'_>) -> Result<Topic, DecodeError> {
    let id = TopicId(r.u64()?);
    let name = r.str()?.to_owned();
    let partition_count = r.u32()?;
    let mut config = BTreeMap::new();
    for _ in 0..r.count(8)? {
        config.insert(r.str()?.to_owned(), r.str()?.to_owned());
    }
    Topic::new(id, name, partition_count, config)
        .map_err(|_| DecodeError::Invalid("configuration of a topic"))
}
