//! What may be asked of the registry, and its byte form.

use crate::command::{TopicId, decode_option, encode_option};
use base::{DecodeError, Origin, Reader, Writer};
use bytes::Bytes;

/// One replicated unit: a command and who waits for its answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RegistryUnit {
    /// Who waits; the default when nobody does, and then no reply is told.
    pub origin: Origin,
    /// What to do.
    pub command: RegistryCommand,
}

/// A topic, as a client names it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum TopicName {
    /// By its name.
    Name(String),
    /// By its id.
    Id(TopicId),
}

/// Everything that the log may hold for this machine. What is `validate_only` changes nothing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RegistryCommand {
    /// A new topic.
    CreateTopic {
        /// Its name.
        name: String,
        /// Its partitions, at least 1.
        partition_count: u32,
        /// What is configured otherwise than by default, by Kafka's names.
        config: Vec<(String, String)>,
        /// Only say whether it could be.
        validate_only: bool,
    },
    /// Forgets a topic.
    DeleteTopic {
        /// Which.
        topic: TopicName,
    },
    /// Gives a topic more partitions.
    AddPartitions {
        /// Its name.
        name: String,
        /// How many it shall have, more than now.
        partition_count: u32,
        /// Only say whether it could be.
        validate_only: bool,
    },
    /// Configures a topic.
    Configure {
        /// Its name.
        name: String,
        /// Keys with their values; `None`: the default again.
        changes: Vec<(String, Option<String>)>,
        /// What is not named goes back to its default too.
        replace: bool,
        /// Only say whether it could be.
        validate_only: bool,
    },
    /// A producer id that nobody else has.
    NewProducer,
}

impl RegistryUnit {
    /// The byte form, as it stands in the log.
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        self.encode_into(&mut w);
        w.into_vec()
    }

    /// Appends the byte form.
    pub fn encode_into(&self, w: &mut Writer) {
        self.origin.encode_into(w);
        match &self.command {
            RegistryCommand::CreateTopic {
                name,
                partition_count,
                config,
                validate_only,
            } => {
                w.u8(1).str(name).u32(*partition_count);
                w.bool(*validate_only).u32(config.len() as u32);
                for (key, value) in config {
                    w.str(key).str(value);
                }
            }
            RegistryCommand::DeleteTopic { topic } => match topic {
                TopicName::Name(name) => {
                    w.u8(2).bool(true).str(name);
                }
                TopicName::Id(id) => {
                    w.u8(2).bool(false).u64(id.0);
                }
            },
            RegistryCommand::AddPartitions {
                name,
                partition_count,
                validate_only,
            } => {
                w.u8(3).str(name).u32(*partition_count);
                w.bool(*validate_only);
            }
            RegistryCommand::Configure {
                name,
                changes,
                replace,
                validate_only,
            } => {
                w.u8(4).str(name).bool(*replace).bool(*validate_only);
                w.u32(changes.len() as u32);
                for (key, value) in changes {
                    w.str(key);
                    encode_option(w, value.as_deref());
                }
            }
            RegistryCommand::NewProducer => {
                w.u8(5);
            }
        }
    }

    /// Reads the byte form; everything must be consumed.
    pub fn decode(bytes: &Bytes) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        let origin = Origin::decode_from(&mut r)?;
        let command = match r.u8()? {
            1 => {
                let name = r.str()?.to_owned();
                let partition_count = r.u32()?;
                let validate_only = r.bool()?;
                let config = (0..r.count(8)?)
                    .map(|_| Ok((r.str()?.to_owned(), r.str()?.to_owned())))
                    .collect::<Result<_, DecodeError>>()?;
                RegistryCommand::CreateTopic {
                    name,
                    partition_count,
                    config,
                    validate_only,
                }
            }
            2 => RegistryCommand::DeleteTopic {
                topic: if r.bool()? {
                    TopicName::Name(r.str()?.to_owned())
                } else {
                    TopicName::Id(TopicId(r.u64()?))
                },
            },
            3 => RegistryCommand::AddPartitions {
                name: r.str()?.to_owned(),
                partition_count: r.u32()?,
                validate_only: r.bool()?,
            },
            4 => {
                let name = r.str()?.to_owned();
                let (replace, validate_only) = (r.bool()?, r.bool()?);
                let changes = (0..r.count(5)?)
                    .map(|_| Ok((r.str()?.to_owned(), decode_option(&mut r)?)))
                    .collect::<Result<_, DecodeError>>()?;
                RegistryCommand::Configure {
                    name,
                    changes,
                    replace,
                    validate_only,
                }
            }
            5 => RegistryCommand::NewProducer,
            _ => return Err(DecodeError::Invalid("registry command")),
        };
        r.finish()?;
        Ok(Self { origin, command })
    }
}
