//! What a transaction does in one shard: conditions, then steps, each with its place in the whole transaction.

use super::touch::{key_resource, parent_of, partition_resource, path_resource};
use base::{DecodeError, Reader, Writer};
use bytes::Bytes;
use coordination::{Acl, CreateMode, TreeOp};
use messaging::{NewBatch, PartitionId, TopicId};
use storage::cache::transaction::KeyCondition;
use storage::cache::{Command, CommandId, Reply};
use transactions::Resource;

/// The part of a transaction that lies in one shard.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Work {
    /// What must hold before anything is done; with the place among all conditions.
    pub conditions: Vec<(u32, Condition)>,
    /// What is done, in order; with the place among all operations.
    pub steps: Vec<(u32, Step)>,
}

/// What must hold.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Condition {
    /// Of a key of the cache.
    Key {
        /// Its database.
        database: u32,
        /// The key.
        key: Bytes,
        /// What.
        is: KeyCondition,
    },
    /// A partition's next record would have this offset.
    LogEnd {
        /// Which.
        partition: PartitionId,
        /// The offset.
        offset: i64,
    },
    /// A node is there.
    Node {
        /// Its path.
        path: String,
        /// Its version; −1: any.
        version: i32,
    },
    /// No node is there.
    NoNode {
        /// The path.
        path: String,
    },
}

/// What is done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// A command of the cache.
    Cache {
        /// In which database.
        database: u32,
        /// Which.
        command: Command,
    },
    /// An operation of the tree: create (not ephemeral), set, delete or check.
    Tree(TreeOp),
    /// A batch of no producer is appended.
    Append {
        /// Where.
        partition: PartitionId,
        /// What.
        batch: NewBatch,
    },
}

/// What a step yielded.
#[derive(Clone, PartialEq, Debug)]
pub enum StepResult {
    /// The answer of a command of the cache, and the version of its first key behind it.
    Cache {
        /// The answer.
        reply: Reply,
        /// The version.
        version: u64,
    },
    /// A node was created.
    Created {
        /// Its path, with its number if that was asked for.
        path: String,
    },
    /// A node's data were set.
    Set {
        /// Its version now.
        version: i32,
    },
    /// It is done, and there is nothing to tell.
    Done,
    /// A batch was appended.
    Appended {
        /// The offset of its first record.
        offset: i64,
    },
}

/// Where in a transaction something is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// Among its conditions, from 0.
    Condition(u32),
    /// Among its operations, from 0.
    Operation(u32),
}

/// Why a part could not be carried out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WorkRefusal {
    /// What was refused.
    pub place: Place,
    /// Why, in words.
    pub words: String,
}

impl WorkRefusal {
    /// The byte form.
    pub fn encode(&self) -> Bytes {
        let mut w = Writer::new();
        match self.place {
            Place::Condition(at) => w.u8(1).u32(at),
            Place::Operation(at) => w.u8(2).u32(at),
        };
        w.str(&self.words);
        w.into_bytes()
    }

    /// Reads the byte form; everything must be consumed.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let r = &mut Reader::new(bytes);
        let place = match r.u8()? {
            1 => Place::Condition(r.u32()?),
            2 => Place::Operation(r.u32()?),
            _ => return Err(DecodeError::Invalid("place in a transaction")),
        };
        let words = r.str()?.to_owned();
        r.finish()?;
        Ok(Self { place, words })
    }
}

/// The byte form of what a part yielded, each with its step's place.
pub fn encode_results(results: &[(u32, StepResult)]) -> Bytes {
    let mut w = Writer::new();
    w.u32(results.len() as u32);
    for (at, result) in results {
        w.u32(*at);
        match result {
            StepResult::Cache { reply, version } => {
                w.u8(1);
                reply.encode_into(&mut w);
                w.u64(*version);
            }
            StepResult::Created { path } => {
                w.u8(2).str(path);
            }
            StepResult::Set { version } => {
                w.u8(3).i32(*version);
            }
            StepResult::Done => {
                w.u8(4);
            }
            StepResult::Appended { offset } => {
                w.u8(5).i64(*offset);
            }
        }
    }
    w.into_bytes()
}

/// Reads the byte form of what a part yielded; everything must be consumed.
pub fn decode_results(bytes: &Bytes) -> Result<Vec<(u32, StepResult)>, DecodeError> {
    let r = &mut Reader::new(bytes);
    let results = (0..r.count(5)?)
        .map(|_| {
            let at = r.u32()?;
            let result = match r.u8()? {
                1 => StepResult::Cache {
                    reply: Reply::decode_from(bytes, r)?,
                    version: r.u64()?,
                },
                2 => StepResult::Created {
                    path: r.str()?.to_owned(),
                },
                3 => StepResult::Set { version: r.i32()? },
                4 => StepResult::Done,
                5 => StepResult::Appended { offset: r.i64()? },
                _ => return Err(DecodeError::Invalid("result of a transaction's step")),
            };
            Ok((at, result))
        })
        .collect::<Result<_, DecodeError>>()?;
    r.finish()?;
    Ok(results)
}

impl transactions::Work for Work {
    fn encode_into(&self, w: &mut Writer) {
        w.u32(self.conditions.len() as u32);
        for (at, condition) in &self.conditions {
            w.u32(*at);
            encode_condition(w, condition);
        }
        w.u32(self.steps.len() as u32);
        for (at, step) in &self.steps {
            w.u32(*at);
            encode_step(w, step);
        }
    }

    fn decode_from(source: &Bytes, r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let conditions = (0..r.count(5)?)
            .map(|_| Ok((r.u32()?, decode_condition(source, r)?)))
            .collect::<Result<_, DecodeError>>()?;
        let steps = (0..r.count(5)?)
            .map(|_| Ok((r.u32()?, decode_step(source, r)?)))
            .collect::<Result<_, DecodeError>>()?;
        Ok(Self { conditions, steps })
    }

    fn resources(&self) -> Vec<Resource> {
        let mut all = Vec::new();
        for (_, condition) in &self.conditions {
            match condition {
                Condition::Key { database, key, .. } => all.push(key_resource(*database, key)),
                Condition::LogEnd { partition, .. } => all.push(partition_resource(*partition)),
                Condition::Node { path, .. } => all.push(path_resource(path)),
                Condition::NoNode { path } => {
                    all.push(path_resource(path));
                    all.push(path_resource(parent_of(path)));
                }
            }
        }
        for (_, step) in &self.steps {
            match step {
                Step::Cache { database, command } => {
                    all.extend(command.keys().map(|key| key_resource(*database, key)));
                }
                Step::Tree(op) => all.extend(op_paths(op).map(path_resource)),
                Step::Append { partition, .. } => all.push(partition_resource(*partition)),
            }
        }
        all
    }
}

/// The nodes that an operation reads or changes: for what comes and goes, its parent too.
pub(super) fn op_paths(op: &TreeOp) -> impl Iterator<Item = &str> {
    let (path, is_of_parent) = match op {
        TreeOp::Create { path, .. } | TreeOp::Delete { path, .. } => (path, true),
        TreeOp::SetData { path, .. } | TreeOp::SetAcl { path, .. } | TreeOp::Check { path, .. } => {
            (path, false)
        }
    };
    let parent = is_of_parent.then(|| parent_of(path));
    [path.as_str()].into_iter().chain(parent)
}

fn encode_condition(w: &mut Writer, condition: &Condition) {
    match condition {
        Condition::Key { database, key, is } => {
            w.u8(1).u32(*database).bytes(key);
            match is {
                KeyCondition::Exists => w.u8(1),
                KeyCondition::Missing => w.u8(2),
                KeyCondition::Equals(value) => w.u8(3).bytes(value),
                KeyCondition::Version(version) => w.u8(4).u64(*version),
            };
        }
        Condition::LogEnd { partition, offset } => {
            encode_partition(w.u8(2), *partition);
            w.i64(*offset);
        }
        Condition::Node { path, version } => {
            w.u8(3).str(path).i32(*version);
        }
        Condition::NoNode { path } => {
            w.u8(4).str(path);
        }
    }
}

fn decode_condition(source: &Bytes, r: &mut Reader<'_>) -> Result<Condition, DecodeError> {
    Ok(match r.u8()? {
        1 => Condition::Key {
            database: r.u32()?,
            key: source.slice_ref(r.bytes()?),
            is: match r.u8()? {
                1 => KeyCondition::Exists,
                2 => KeyCondition::Missing,
                3 => KeyCondition::Equals(source.slice_ref(r.bytes()?)),
                4 => KeyCondition::Version(r.u64()?),
                _ => return Err(DecodeError::Invalid("condition of a key")),
            },
        },
        2 => Condition::LogEnd {
            partition: decode_partition(r)?,
            offset: r.i64()?,
        },
        3 => Condition::Node {
            path: r.str()?.to_owned(),
            version: r.i32()?,
        },
        4 => Condition::NoNode {
            path: r.str()?.to_owned(),
        },
        _ => return Err(DecodeError::Invalid("condition of a transaction")),
    })
}

fn encode_step(w: &mut Writer, step: &Step) {
    match step {
        Step::Cache { database, command } => {
            w.u8(1).u32(*database).u16(command.id as u16);
            w.u32(command.args.len() as u32);
            for arg in &command.args {
                w.bytes(arg);
            }
        }
        Step::Tree(op) => {
            w.u8(2);
            encode_op(w, op);
        }
        Step::Append { partition, batch } => {
            encode_partition(w.u8(3), *partition);
            w.u32(batch.count).i64(batch.max_timestamp_ms);
            w.bytes(&batch.bytes);
        }
    }
}

fn decode_step(source: &Bytes, r: &mut Reader<'_>) -> Result<Step, DecodeError> {
    Ok(match r.u8()? {
        1 => Step::Cache {
            database: r.u32()?,
            command: Command {
                id: CommandId::from_number(r.u16()?)
                    .ok_or(DecodeError::Invalid("command number"))?,
                args: (0..r.count(4)?)
                    .map(|_| Ok(source.slice_ref(r.bytes()?)))
                    .collect::<Result<_, DecodeError>>()?,
            },
        },
        2 => Step::Tree(decode_op(source, r)?),
        3 => Step::Append {
            partition: decode_partition(r)?,
            batch: NewBatch {
                count: r.u32()?,
                max_timestamp_ms: r.i64()?,
                producer: None,
                bytes: source.slice_ref(r.bytes()?),
            },
        },
        _ => return Err(DecodeError::Invalid("step of a transaction")),
    })
}

/// Operations as transactions have them: what they cannot have has no byte form here.
fn encode_op(w: &mut Writer, op: &TreeOp) {
    match op {
        TreeOp::Create {
            path, data, mode, ..
        } => {
            w.u8(1).str(path).bytes(data);
            match mode {
                CreateMode::Persistent { sequential } => w.u8(1).bool(*sequential),
                CreateMode::Container => w.u8(2),
                CreateMode::Ttl { ttl_ms, sequential } => w.u8(3).bool(*sequential).i64(*ttl_ms),
                CreateMode::Ephemeral { .. } => w.u8(4),
            };
        }
        TreeOp::Delete { path, version } => {
            w.u8(2).str(path).i32(*version);
        }
        TreeOp::SetData {
            path,
            data,
            version,
        } => {
            w.u8(3).str(path).bytes(data).i32(*version);
        }
        TreeOp::Check { path, version } => {
            w.u8(4).str(path).i32(*version);
        }
        TreeOp::SetAcl { .. } => {
            w.u8(5);
        }
    }
}

fn decode_op(source: &Bytes, r: &mut Reader<'_>) -> Result<TreeOp, DecodeError> {
    Ok(match r.u8()? {
        1 => TreeOp::Create {
            path: r.str()?.to_owned(),
            data: source.slice_ref(r.bytes()?),
            acl: vec![Acl::open()],
            mode: match r.u8()? {
                1 => CreateMode::Persistent {
                    sequential: r.bool()?,
                },
                2 => CreateMode::Container,
                3 => CreateMode::Ttl {
                    sequential: r.bool()?,
                    ttl_ms: r.i64()?,
                },
                _ => return Err(DecodeError::Invalid("create mode")),
            },
        },
        2 => TreeOp::Delete {
            path: r.str()?.to_owned(),
            version: r.i32()?,
        },
        3 => TreeOp::SetData {
            path: r.str()?.to_owned(),
            data: source.slice_ref(r.bytes()?),
            version: r.i32()?,
        },
        4 => TreeOp::Check {
            path: r.str()?.to_owned(),
            version: r.i32()?,
        },
        _ => return Err(DecodeError::Invalid("tree operation")),
    })
}

fn encode_partition(w: &mut Writer, partition: PartitionId) {
    w.u64(partition.topic.0).u32(partition.index);
}

fn decode_partition(r: &mut Reader<'_>) -> Result<PartitionId, DecodeError> {
    Ok(PartitionId {
        topic: TopicId(r.u64()?),
        index: r.u32()?,
    })
}
