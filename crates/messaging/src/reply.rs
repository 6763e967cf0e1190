//! What commands and reads answer, free of any protocol.

use crate::command::TopicId;
use base::{DecodeError, Reader, Writer};
use bytes::Bytes;

/// Why something was refused. Nothing was changed, unless the variant says so.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum ErrorCode {
    /// This shard has no such partition (yet).
    UnknownPartition,
    /// The offset lies before the log's start or behind its end.
    OffsetOutOfRange,
    /// The batch contradicts itself.
    InvalidRecord,
    /// The batch is larger than the partition allows.
    BatchTooLarge,
    /// A batch of this producer is missing before this one.
    OutOfOrderSequence,
    /// The producer has a newer epoch.
    InvalidProducerEpoch,
    /// The group's name is empty or too long.
    InvalidGroup,
    /// The group has no such member.
    UnknownMember,
    /// The member believes in another generation.
    IllegalGeneration,
    /// The group is about to have another generation: join it.
    RebalanceInProgress,
    /// The member has no protocol in common with the others.
    InconsistentProtocol,
    /// Another member has taken this static name.
    FencedInstance,
    /// The time-out is outside of what is allowed.
    InvalidSessionTimeout,
    /// The group has as many members as it may have.
    GroupFull,
    /// There is no such group.
    GroupNotFound,
    /// The group has members.
    NonEmptyGroup,
    /// The metadata of a commit are too long.
    OffsetMetadataTooLarge,
    /// There is a topic of this name.
    TopicExists,
    /// There is no such topic.
    UnknownTopic,
    /// The name is none that a topic may have.
    InvalidTopicName,
    /// The number of partitions is not possible.
    InvalidPartitions,
    /// The configuration has a key or a value that does not exist.
    InvalidConfig,
    /// The registry holds as many partitions as it may.
    TooManyPartitions,
}

impl ErrorCode {
    /// All of them; between cores of one node each travels as its place here.
    const ALL: [Self; 23] = [
        Self::UnknownPartition,
        Self::OffsetOutOfRange,
        Self::InvalidRecord,
        Self::BatchTooLarge,
        Self::OutOfOrderSequence,
        Self::InvalidProducerEpoch,
        Self::InvalidGroup,
        Self::UnknownMember,
        Self::IllegalGeneration,
        Self::RebalanceInProgress,
        Self::InconsistentProtocol,
        Self::FencedInstance,
        Self::InvalidSessionTimeout,
        Self::GroupFull,
        Self::GroupNotFound,
        Self::NonEmptyGroup,
        Self::OffsetMetadataTooLarge,
        Self::TopicExists,
        Self::UnknownTopic,
        Self::InvalidTopicName,
        Self::InvalidPartitions,
        Self::InvalidConfig,
        Self::TooManyPartitions,
    ];
}

/// What a unit yields.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reply {
    /// It is done, and there is nothing to tell.
    Done,
    /// Of `Append`; the same again for a batch that had been appended before.
    Appended {
        /// The first record's offset.
        base_offset: i64,
        /// The log's start.
        log_start: i64,
    },
    /// Of `Trim`.
    Trimmed {
        /// The log's start now.
        log_start: i64,
    },
    /// Of a `Join` without an id that needs one: join again with it.
    MemberId(String),
    /// Of `Join`.
    Joined(Joined),
    /// Of `Sync`.
    Synced(Synced),
    /// Of `Leave`, in the order asked.
    Left(Vec<Result<(), ErrorCode>>),
    /// Of `Commit`, in the order asked.
    Committed(Vec<Result<(), ErrorCode>>),
}

/// A generation, as one member is told of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Joined {
    /// Its number, from 1.
    pub generation: i32,
    /// What the group is of.
    pub protocol_type: String,
    /// What was chosen.
    pub protocol: String,
    /// The member that shares out.
    pub leader: String,
    /// The member that is told.
    pub member: String,
    /// True when the assignments in force stay, and a leader shall not make new ones.
    pub skip_assignment: bool,
    /// All members, if the one that is told leads.
    pub members: Vec<JoinedMember>,
}

/// A member, as the leader is told of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct JoinedMember {
    /// Its id.
    pub id: String,
    /// Its static name.
    pub instance: Option<String>,
    /// What it said for the protocol that was chosen.
    pub metadata: Bytes,
}

/// A member's share.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Synced {
    /// What the group is of.
    pub protocol_type: String,
    /// What was chosen.
    pub protocol: String,
    /// Opaque.
    pub assignment: Bytes,
}

/// What a registry's unit yields.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RegistryReply {
    /// A topic was made or changed, or (for `validate_only`) could be.
    Topic {
        /// Which; 0 when it was only looked at.
        id: TopicId,
        /// Its partitions.
        partition_count: u32,
    },
    /// A topic is gone.
    Deleted {
        /// Which.
        id: TopicId,
        /// Its name.
        name: String,
    },
    /// A producer id that nobody else has.
    Producer {
        /// The id, from 1.
        id: i64,
    },
}

impl RegistryReply {
    /// The byte form of an answer, for other cores of the same node.
    pub fn encode_result(answer: &Result<Self, ErrorCode>) -> Bytes {
        let mut w = Writer::new();
        match answer {
            Ok(Self::Topic {
                id,
                partition_count,
            }) => {
                w.u8(0).u64(id.0).u32(*partition_count);
            }
            Ok(Self::Deleted { id, name }) => {
                w.u8(1).u64(id.0).str(name);
            }
            Ok(Self::Producer { id }) => {
                w.u8(2).i64(*id);
            }
            Err(code) => {
                let at = ErrorCode::ALL.iter().position(|known| known == code);
                w.u8(3).u8(at.unwrap_or_default() as u8);
            }
        }
        w.into_bytes()
    }

    /// Reads it.
    pub fn decode_result(bytes: &Bytes) -> Result<Result<Self, ErrorCode>, DecodeError> {
        let mut r = Reader::new(bytes);
        let answer = match r.u8()? {
            0 => Ok(Self::Topic {
                id: TopicId(r.u64()?),
                partition_count: r.u32()?,
            }),
            1 => Ok(Self::Deleted {
                id: TopicId(r.u64()?),
                name: r.str()?.to_owned(),
            }),
            2 => Ok(Self::Producer { id: r.i64()? }),
            3 => {
                let code = ErrorCode::ALL.get(usize::from(r.u8()?)).copied();
                Err(code.ok_or(DecodeError::Invalid("error of the registry"))?)
            }
            _ => return Err(DecodeError::Invalid("answer of the registry")),
        };
        r.finish()?;
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_of_the_registry_survive_their_byte_form() {
        let id = TopicId(7);
        let name = "t".to_owned();
        let made = RegistryReply::Topic {
            id,
            partition_count: 3,
        };
        let told = [
            made,
            RegistryReply::Deleted { id, name },
            RegistryReply::Producer { id: 9 },
        ];
        let refused = ErrorCode::ALL.into_iter().map(Err);
        for answer in told.into_iter().map(Ok).chain(refused) {
            let bytes = RegistryReply::encode_result(&answer);
            assert_eq!(RegistryReply::decode_result(&bytes), Ok(answer));
            let cut = bytes.slice(..bytes.len() - 1);
            assert!(RegistryReply::decode_result(&cut).is_err());
        }
    }
}
