//! What may be asked of a shard's topics: a closed set of commands and their byte form.

use base::{DecodeError, Origin, Reader, Writer};
use bytes::Bytes;
use std::fmt;

/// A topic, for ever: a topic of the same name that is made later has another id.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct TopicId(pub u64);

/// A partition of a topic.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct PartitionId {
    /// The topic.
    pub topic: TopicId,
    /// Its number in it, from 0.
    pub index: u32,
}

impl fmt::Display for PartitionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "t{}/{}", self.topic.0, self.index)
    }
}

/// What a partition keeps, and how.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogConfig {
    /// Oldest segments go as long as this many bytes stay without them.
    pub retention_bytes: u64,
    /// Oldest segments go as long as this many records stay without them; `None`: any number.
    pub retention_records: Option<u64>,
    /// A segment goes when its newest record is older than this many milliseconds; `None`: never.
    pub retention_ms: Option<u64>,
    /// A segment is sealed before it grows beyond this many bytes.
    pub segment_bytes: u64,
    /// The largest batch, in bytes.
    pub batch_bytes_max: u64,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            retention_bytes: 256 << 20,
            retention_records: None,
            retention_ms: Some(7 * 24 * 3600 * 1000),
            segment_bytes: 1 << 20,
            batch_bytes_max: (1 << 20) + 12,
        }
    }
}

/// One replicated unit: a command and who waits for its answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unit {
    /// Who waits; the default when nobody does, and then no reply is told.
    pub origin: Origin,
    /// What to do.
    pub command: Command,
}

/// Everything that the log may hold for this machine.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Command {
    /// Makes a partition, or gives an existing one another configuration.
    OpenPartition {
        /// Which.
        partition: PartitionId,
        /// Its topic's name, for people.
        name: String,
        /// What it keeps.
        config: LogConfig,
    },
    /// Forgets a partition and everything in it.
    DropPartition {
        /// Which.
        partition: PartitionId,
    },
    /// Appends a batch; its offsets are given in apply.
    Append {
        /// Where.
        partition: PartitionId,
        /// What.
        batch: NewBatch,
    },
    /// Moves the log's start forward: a client deletes records, or a leader applies the retention.
    Trim {
        /// Which.
        partition: PartitionId,
        /// The new start; −1 is the end.
        log_start: i64,
    },
    /// A member enters a group, or enters its next generation.
    Join(Join),
    /// A member asks for its assignment; the group's leader brings everybody's.
    Sync(Sync),
    /// Members leave.
    Leave {
        /// The group.
        group: String,
        /// Who.
        members: Vec<MemberName>,
    },
    /// Remembers how far a group has come.
    Commit {
        /// The group.
        group: String,
        /// Who says so.
        member: MemberName,
        /// The generation that it believes in; negative for a client that is no member.
        generation: i32,
        /// Where.
        offsets: Vec<OffsetCommit>,
    },
    /// Proposed by a leader: a member was not heard of for its session's time-out.
    ExpireMember {
        /// The group.
        group: String,
        /// The member, or an id that was given out and never came back.
        member: String,
        /// The generation in which it fell silent.
        generation: i32,
    },
    /// Proposed by a leader: the time to join, or to sync, ran out; who has not done so is dropped.
    EndRebalance {
        /// The group.
        group: String,
        /// The generation that the leader saw.
        generation: i32,
        /// Whether it saw members joining.
        joining: bool,
    },
    /// Forgets a group without members.
    DeleteGroup {
        /// The group.
        group: String,
    },
    /// Proposed by a leader: forgets a group without members that nobody has used since.
    ExpireGroup {
        /// The group.
        group: String,
        /// Its last use when the leader looked, Unix milliseconds.
        used_ms: i64,
    },
    /// Proposed by a leader: forgets what groups have committed of a topic that is gone.
    ForgetTopic {
        /// The topic.
        topic: TopicId,
    },
}

/// A batch of records on its way in. What is inside of `bytes` is the wire's business.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewBatch {
    /// Records in it, at least 1.
    pub count: u32,
    /// The newest record's time, Unix milliseconds; negative: none.
    pub max_timestamp_ms: i64,
    /// The idempotent producer, or `None`.
    pub producer: Option<ProducerMark>,
    /// The batch, whole.
    pub bytes: Bytes,
}

/// By which a repeated or lost batch is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProducerMark {
    /// The producer, from [`crate::registry::RegistryCommand::NewProducer`].
    pub id: i64,
    /// Its epoch, from 0.
    pub epoch: i16,
    /// The first record's sequence, from 0; after 2^31 − 1 comes 0.
    pub sequence: i32,
}

/// A member by its id, by its static name, or both.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct MemberName {
    /// Its id; empty when it is not known.
    pub id: String,
    /// The name that survives its restart (`group.instance.id`).
    pub instance: Option<String>,
}

/// What a member says when it joins.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Join {
    /// The group.
    pub group: String,
    /// Who; the id is empty the first time.
    pub member: MemberName,
    /// True when a member without an id shall be given one first, and join with it.
    pub needs_id: bool,
    /// For people, and the beginning of the member's id.
    pub client_id: String,
    /// For people.
    pub client_host: String,
    /// It is dropped when it is silent for so long, in milliseconds.
    pub session_timeout_ms: u32,
    /// So long it may take to join a rebalance, in milliseconds.
    pub rebalance_timeout_ms: u32,
    /// `consumer`, `connect`, …: the same for all members.
    pub protocol_type: String,
    /// How it could be given its share, best first.
    pub protocols: Vec<GroupProtocol>,
}

/// A way to share out, and what the member tells the leader for it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupProtocol {
    /// Its name: `range`, `roundrobin`, …
    pub name: String,
    /// Opaque.
    pub metadata: Bytes,
}

/// What a member says when it asks for its assignment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sync {
    /// The group.
    pub group: String,
    /// Who.
    pub member: MemberName,
    /// The generation that it joined.
    pub generation: i32,
    /// What it believes the group to be of, if it says.
    pub protocol_type: Option<String>,
    /// What it believes was chosen, if it says.
    pub protocol: Option<String>,
    /// By member id; only the leader brings them.
    pub assignments: Vec<(String, Bytes)>,
}

/// One position that a group has reached.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OffsetCommit {
    /// Where.
    pub partition: PartitionId,
    /// The next record to read.
    pub offset: i64,
    /// The leader epoch of the last record read, −1 when unknown.
    pub leader_epoch: i32,
    /// Whatever the client wants to remember with it.
    pub metadata: String,
}

impl PartitionId {
    pub(crate) fn encode_into(self, w: &mut Writer) {
        w.u64(self.topic.0).u32(self.index);
    }

    pub(crate) fn decode_from(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            topic: TopicId(r.u64()?),
            index: r.u32()?,
        })
    }
}

impl LogConfig {
    pub(crate) fn encode_into(&self, w: &mut Writer) {
        w.u64(self.retention_bytes);
        for limit in [self.retention_records, self.retention_ms] {
            w.bool(limit.is_some()).u64(limit.unwrap_or(0));
        }
        w.u64(self.segment_bytes).u64(self.batch_bytes_max);
    }

    pub(crate) fn decode_from(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let limit = |r: &mut Reader<'_>| match (r.bool()?, r.u64()?) {
            (true, limit) => Ok(Some(limit)),
            (false, 0) => Ok(None),
            (false, _) => Err(DecodeError::Invalid("retention")),
        };
        Ok(Self {
            retention_bytes: r.u64()?,
            retention_records: limit(r)?,
            retention_ms: limit(r)?,
            segment_bytes: r.u64()?,
            batch_bytes_max: r.u64()?,
        })
    }
}

impl MemberName {
    fn encode_into(&self, w: &mut Writer) {
        w.str(&self.id);
        encode_option(w, self.instance.as_deref());
    }

    fn decode_from(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            id: r.str()?.to_owned(),
            instance: decode_option(r)?,
        })
    }
}

pub(crate) fn encode_option(w: &mut Writer, text: Option<&str>) {
    w.bool(text.is_some());
    if let Some(text) = text {
        w.str(text);
    }
}

pub(crate) fn decode_option(r: &mut Reader<'_>) -> Result<Option<String>, DecodeError> {
    Ok(if r.bool()? {
        Some(r.str()?.to_owned())
    } else {
        None
    })
}

impl Unit {
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
            Command::OpenPartition {
                partition,
                name,
                config,
            } => {
                w.u8(1);
                partition.encode_into(w);
                w.str(name);
                config.encode_into(w);
            }
            Command::DropPartition { partition } => {
                w.u8(2);
                partition.encode_into(w);
            }
            Command::Append { partition, batch } => {
                w.u8(3);
                partition.encode_into(w);
                w.u32(batch.count).i64(batch.max_timestamp_ms);
                w.bool(batch.producer.is_some());
                if let Some(mark) = batch.producer {
                    w.i64(mark.id).i32(mark.epoch.into()).i32(mark.sequence);
                }
                w.bytes(&batch.bytes);
            }
            Command::Trim {
                partition,
                log_start,
            } => {
                w.u8(4);
                partition.encode_into(w);
                w.i64(*log_start);
            }
            Command::Join(join) => {
                w.u8(5);
                encode_join(w, join);
            }
            Command::Sync(sync) => {
                w.u8(6);
                encode_sync(w, sync);
            }
            Command::Leave { group, members } => {
                w.u8(7).str(group).u32(members.len() as u32);
                for member in members {
                    member.encode_into(w);
                }
            }
            Command::Commit {
                group,
                member,
                generation,
                offsets,
            } => {
                w.u8(8).str(group);
                member.encode_into(w);
                w.i32(*generation).u32(offsets.len() as u32);
                for commit in offsets {
                    commit.partition.encode_into(w);
                    w.i64(commit.offset).i32(commit.leader_epoch);
                    w.str(&commit.metadata);
                }
            }
            Command::ExpireMember {
                group,
                member,
                generation,
            } => {
                w.u8(9).str(group).str(member).i32(*generation);
            }
            Command::EndRebalance {
                group,
                generation,
                joining,
            } => {
                w.u8(10).str(group).i32(*generation).bool(*joining);
            }
            Command::DeleteGroup { group } => {
                w.u8(11).str(group);
            }
            Command::ExpireGroup { group, used_ms } => {
                w.u8(12).str(group).i64(*used_ms);
            }
            Command::ForgetTopic { topic } => {
                w.u8(13).u64(topic.0);
            }
        }
    }

    /// Reads the byte form; everything must be consumed.
    pub fn decode(bytes: &Bytes) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        let origin = Origin::decode_from(&mut r)?;
        let command = decode_command(&mut r, bytes)?;
        r.finish()?;
        Ok(Self { origin, command })
    }
}

fn encode_join(w: &mut Writer, join: &Join) {
    w.str(&join.group);
    join.member.encode_into(w);
    w.bool(join.needs_id);
    w.str(&join.client_id).str(&join.client_host);
    w.u32(join.session_timeout_ms)
        .u32(join.rebalance_timeout_ms);
    w.str(&join.protocol_type).u32(join.protocols.len() as u32);
    for protocol in &join.protocols {
        w.str(&protocol.name).bytes(&protocol.metadata);
    }
}

fn encode_sync(w: &mut Writer, sync: &Sync) {
    w.str(&sync.group);
    sync.member.encode_into(w);
    w.i32(sync.generation);
    encode_option(w, sync.protocol_type.as_deref());
    encode_option(w, sync.protocol.as_deref());
    w.u32(sync.assignments.len() as u32);
    for (member, assignment) in &sync.assignments {
        w.str(member).bytes(assignment);
    }
}

fn decode_command(r: &mut Reader<'_>, whole: &Bytes) -> Result<Command, DecodeError> {
    Ok(match r.u8()? {
        1 => Command::OpenPartition {
            partition: PartitionId::decode_from(r)?,
            name: r.str()?.to_owned(),
            config: LogConfig::decode_from(r)?,
        },
        2 => Command::DropPartition {
            partition: PartitionId::decode_from(r)?,
        },
        3 => Command::Append {
            partition: PartitionId::decode_from(r)?,
            batch: NewBatch {
                count: r.u32()?,
                max_timestamp_ms: r.i64()?,
                producer: decode_mark(r)?,
                bytes: whole.slice_ref(r.bytes()?),
            },
        },
        4 => Command::Trim {
            partition: PartitionId::decode_from(r)?,
            log_start: r.i64()?,
        },
        5 => Command::Join(decode_join(r, whole)?),
        6 => Command::Sync(decode_sync(r, whole)?),
        7 => Command::Leave {
            group: r.str()?.to_owned(),
            members: (0..r.count(5)?)
                .map(|_| MemberName::decode_from(r))
                .collect::<Result<_, _>>()?,
        },
        8 => Command::Commit {
            group: r.str()?.to_owned(),
            member: MemberName::decode_from(r)?,
            generation: r.i32()?,
            offsets: (0..r.count(28)?)
                .map(|_| decode_offset(r))
                .collect::<Result<_, _>>()?,
        },
        9 => Command::ExpireMember {
            group: r.str()?.to_owned(),
            member: r.str()?.to_owned(),
            generation: r.i32()?,
        },
        10 => Command::EndRebalance {
            group: r.str()?.to_owned(),
            generation: r.i32()?,
            joining: r.bool()?,
        },
        11 => Command::DeleteGroup {
            group: r.str()?.to_owned(),
        },
        12 => Command::ExpireGroup {
            group: r.str()?.to_owned(),
            used_ms: r.i64()?,
        },
        13 => Command::ForgetTopic {
            topic: TopicId(r.u64()?),
        },
        _ => return Err(DecodeError::Invalid("topics command")),
    })
}

fn decode_mark(r: &mut Reader<'_>) -> Result<Option<ProducerMark>, DecodeError> {
    if !r.bool()? {
        return Ok(None);
    }
    let id = r.i64()?;
    let epoch = i16::try_from(r.i32()?).map_err(|_| DecodeError::Invalid("producer epoch"))?;
    let sequence = r.i32()?;
    Ok(Some(ProducerMark {
        id,
        epoch,
        sequence,
    }))
}

fn decode_join(r: &mut Reader<'_>, whole: &Bytes) -> Result<Join, DecodeError> {
    Ok(Join {
        group: r.str()?.to_owned(),
        member: MemberName::decode_from(r)?,
        needs_id: r.bool()?,
        client_id: r.str()?.to_owned(),
        client_host: r.str()?.to_owned(),
        session_timeout_ms: r.u32()?,
        rebalance_timeout_ms: r.u32()?,
        protocol_type: r.str()?.to_owned(),
        protocols: (0..r.count(8)?)
            .map(|_| {
                Ok(GroupProtocol {
                    name: r.str()?.to_owned(),
                    metadata: whole.slice_ref(r.bytes()?),
                })
            })
            .collect::<Result<_, DecodeError>>()?,
    })
}

fn decode_sync(r: &mut Reader<'_>, whole: &Bytes) -> Result<Sync, DecodeError> {
    Ok(Sync {
        group: r.str()?.to_owned(),
        member: MemberName::decode_from(r)?,
        generation: r.i32()?,
        protocol_type: decode_option(r)?,
        protocol: decode_option(r)?,
        assignments: (0..r.count(8)?)
            .map(|_| Ok((r.str()?.to_owned(), whole.slice_ref(r.bytes()?))))
            .collect::<Result<_, DecodeError>>()?,
    })
}

fn decode_offset(r: &mut Reader<'_>) -> Result<OffsetCommit, DecodeError> {
    Ok(OffsetCommit {
        partition: PartitionId::decode_from(r)?,
        offset: r.i64()?,
        leader_epoch: r.i32()?,
        metadata: r.str()?.to_owned(),
    })
}
