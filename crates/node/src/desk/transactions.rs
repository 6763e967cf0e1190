//! Calls that are transactions: where their parts lie, and what became of them.
//!
//! The desk forgets nothing that matters, for it knows nothing that matters: a transaction is proposed again
//! under its id when the leader of its first shard changes, and done once.

use super::CallReply;
use crate::front::Context;
use base::{Origin, ShardId};
use bytes::Bytes;
use catalog::{Durability, TREE_SHARD};
use coordination::{CreateMode, TreeOp};
use messaging::{PartitionId, Topic};
use shard::DataUnit;
use shard::transaction::{self as parts, Place, Step, StepResult, Work, WorkRefusal};
use std::collections::BTreeMap;
use storage::cache::transaction::{KeyCondition, may_join};
use storage::cache::{Command, Reply, spec};
use transactions::{Outcome, Part, Refusal, TxnId, Unit};
use wire_kafka::records::{self, Record};

/// Conditions and operations of a transaction together.
pub const TRANSACTION_STEPS_MAX: usize = 1_000;
/// Bytes of a transaction's keys, values and commands.
pub const TRANSACTION_BYTES_MAX: usize = 1 << 20;

/// A transaction, as its caller says it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Transaction {
    /// Its id; the same one again is answered as it was. Without one, it is drawn here.
    pub id: Option<TxnId>,
    /// Hash of what the caller asked for: the same id with another one is refused.
    pub content: u64,
    /// What must hold.
    pub conditions: Vec<Condition>,
    /// What is done then, in order.
    pub operations: Vec<Operation>,
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
    /// The next record of a partition has this offset.
    LogEnd {
        /// The topic.
        topic: String,
        /// The partition.
        partition: u32,
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
pub enum Operation {
    /// A command of the cache, with its name, as its clients send it.
    Cache {
        /// In which database.
        database: u32,
        /// Name and arguments.
        words: Vec<Bytes>,
    },
    /// An operation of the tree; not `SetAcl`, and no ephemeral node.
    Tree(TreeOp),
    /// A record is appended.
    Append {
        /// The topic.
        topic: String,
        /// The partition; without one, the key's, and 0 without a key.
        partition: Option<u32>,
        /// The record.
        record: Record,
    },
}

/// How a transaction ended.
#[derive(Clone, PartialEq, Debug)]
pub enum Transacted {
    /// All of it is done. What each operation yielded, in order; `None` for what was forgotten since.
    Committed(Vec<Option<StepResult>>),
    /// Nothing of it is done.
    Refused {
        /// Because of what, if it was one condition or operation.
        place: Option<Place>,
        /// Why, and what to do.
        words: String,
    },
}

impl Eq for Transacted {}

/// Why a transaction cannot be placed. That is no outcome: its id was not used.
enum Misplaced {
    /// It cannot be meant like this.
    Wrong(Option<Place>, String),
    /// What it is about is not known here now.
    NotNow(String),
}

/// The same of one of its conditions or operations.
enum Fault {
    Wrong(String),
    NotNow(&'static str),
}

impl From<String> for Fault {
    fn from(words: String) -> Self {
        Self::Wrong(words)
    }
}

impl From<&str> for Fault {
    fn from(words: &str) -> Self {
        Self::Wrong(words.to_owned())
    }
}

impl Fault {
    fn at(self, place: Place) -> Misplaced {
        match self {
            Self::Wrong(words) => Misplaced::Wrong(Some(place), words),
            Self::NotNow(words) => Misplaced::NotNow(words.to_owned()),
        }
    }
}

const NOT_FORMED: Fault = Fault::NotNow("the cluster is not formed yet; try again");

impl Transaction {
    /// The id it has, or is given.
    fn id(&self, origin: Origin) -> TxnId {
        let drawn = || {
            let (home, token) = (origin.home, origin.token);
            let text = format!("{:x}-{:x}-{token:x}", home.node.0, home.core.0);
            TxnId::new(&text).expect("hexadecimal digits")
        };
        self.id.clone().unwrap_or_else(drawn)
    }

    /// The shard that keeps its record, and the unit for it.
    pub fn unit(&self, cx: &Context<'_>, origin: Origin) -> Result<(ShardId, DataUnit), CallReply> {
        let id = self.id(origin);
        match self.parts(cx) {
            Ok(parts) => {
                let first = parts[0].shard;
                let unit = Unit::Begin {
                    origin,
                    id,
                    content: self.content,
                    parts,
                };
                Ok((first, DataUnit::Transactions(unit)))
            }
            Err(Misplaced::Wrong(place, words)) => Err(CallReply::Misplaced { place, words }),
            Err(Misplaced::NotNow(message)) => Err(CallReply::Refused { message }),
        }
    }

    fn parts(&self, cx: &Context<'_>) -> Result<Vec<Part<Work>>, Misplaced> {
        let steps = self.conditions.len() + self.operations.len();
        if steps == 0 || steps > TRANSACTION_STEPS_MAX {
            let words = format!(
                "a transaction has from 1 to {TRANSACTION_STEPS_MAX} conditions and operations, this one {steps}"
            );
            return Err(Misplaced::Wrong(None, words));
        }
        let mut works: BTreeMap<ShardId, Work> = BTreeMap::new();
        for (at, condition) in (0..).zip(&self.conditions) {
            let placed = place_condition(cx, condition);
            let (shard, condition) = placed.map_err(|fault| fault.at(Place::Condition(at)))?;
            let work = works.entry(shard).or_default();
            work.conditions.push((at, condition));
        }
        for (at, operation) in (0..).zip(&self.operations) {
            let placed = place_operation(cx, operation);
            let (shard, step) = placed.map_err(|fault| fault.at(Place::Operation(at)))?;
            works.entry(shard).or_default().steps.push((at, step));
        }
        let parts: Vec<Part<Work>> = works
            .into_iter()
            .map(|(shard, work)| Part { shard, work })
            .collect();
        check_shards(cx, &parts)?;
        Ok(parts)
    }
}

/// Several shards only where what is acknowledged is never lost; and none whose disks are nearly full.
fn check_shards(cx: &Context<'_>, parts: &[Part<Work>]) -> Result<(), Misplaced> {
    for Part { shard, .. } in parts {
        if cx.full.contains(shard) {
            let words =
                "the disk is nearly full: what adds data is refused; remove something first";
            return Err(Misplaced::NotNow(words.into()));
        }
        let durability = cx.catalog.durability(*shard);
        if parts.len() > 1 && durability != Durability::Always {
            let record = cx.catalog.shards.get(shard);
            let pool = record.map_or("?", |record| record.pool.as_str());
            let words = format!(
                "a transaction over several shards needs pools that lose nothing that they acknowledged, and pool \
                 {pool} may: use keys of one shard, or set cache.durability = \"always\""
            );
            return Err(Misplaced::Wrong(None, words));
        }
    }
    let bytes: usize = parts
        .iter()
        .map(|part| {
            let mut w = base::Writer::new();
            transactions::Work::encode_into(&part.work, &mut w);
            w.len()
        })
        .sum();
    if bytes > TRANSACTION_BYTES_MAX {
        let words = format!(
            "a transaction may have {TRANSACTION_BYTES_MAX} bytes, this one has {bytes}: divide it"
        );
        return Err(Misplaced::Wrong(None, words));
    }
    Ok(())
}

fn place_condition(
    cx: &Context<'_>,
    condition: &Condition,
) -> Result<(ShardId, parts::Condition), Fault> {
    Ok(match condition {
        Condition::Key { database, key, is } => (
            key_shard(cx, key)?,
            parts::Condition::Key {
                database: *database,
                key: key.clone(),
                is: is.clone(),
            },
        ),
        Condition::LogEnd {
            topic,
            partition,
            offset,
        } => {
            let topic = find_topic(cx, topic)?;
            let (shard, partition) = find_partition(cx, topic, *partition)?;
            let offset = *offset;
            (shard, parts::Condition::LogEnd { partition, offset })
        }
        Condition::Node { path, version } => {
            let (path, version) = (path.clone(), *version);
            (TREE_SHARD, parts::Condition::Node { path, version })
        }
        Condition::NoNode { path } => {
            let path = path.clone();
            (TREE_SHARD, parts::Condition::NoNode { path })
        }
    })
}

fn place_operation(cx: &Context<'_>, operation: &Operation) -> Result<(ShardId, Step), Fault> {
    match operation {
        Operation::Cache { database, words } => {
            let (name, args) = words.split_first().ok_or("a command has a name")?;
            let id = spec(name).map(|spec| spec.id).ok_or_else(|| {
                let name = String::from_utf8_lossy(name);
                format!("{name} is no command of the cache")
            })?;
            let command = Command {
                id,
                args: args.to_vec(),
            };
            if let Err(Reply::Error(words)) = may_join(*database, &command) {
                return Err(words.into_owned().into());
            }
            let mut found = None;
            for key in command.keys() {
                let shard = key_shard(cx, key)?;
                if found.is_some_and(|other| other != shard) {
                    return Err(
                        "the command's keys lie in several shards: give them one hash tag, or make it several \
                         operations"
                            .into(),
                    );
                }
                found = Some(shard);
            }
            let shard = found.ok_or("the command names no key")?;
            let database = *database;
            Ok((shard, Step::Cache { database, command }))
        }
        Operation::Tree(op) => match op {
            TreeOp::SetAcl { .. } => Err("access control lists are not set by transactions".into()),
            TreeOp::Create {
                mode: CreateMode::Ephemeral { .. },
                ..
            } => Err("a transaction has no session that an ephemeral node could be of".into()),
            op => Ok((TREE_SHARD, Step::Tree(op.clone()))),
        },
        Operation::Append {
            topic,
            partition,
            record,
        } => {
            let topic = find_topic(cx, topic)?;
            let by_key = || match &record.key {
                Some(key) => records::partition_of(key, topic.partition_count),
                None => 0,
            };
            let index = partition.unwrap_or_else(by_key);
            let (shard, partition) = find_partition(cx, topic, index)?;
            let batch = records::encode(cx.time_ms, None, std::slice::from_ref(record));
            Ok((shard, Step::Append { partition, batch }))
        }
    }
}

fn key_shard(cx: &Context<'_>, key: &[u8]) -> Result<ShardId, Fault> {
    router::key_shard(cx.catalog, key).ok_or(NOT_FORMED)
}

fn find_topic<'a>(cx: &Context<'a>, name: &str) -> Result<&'a Topic, Fault> {
    let registry = (cx.registry()).ok_or(Fault::NotNow(
        "the registry of topics is on another core or node; use that",
    ))?;
    registry
        .topic(name)
        .ok_or_else(|| format!("there is no topic {name}: make it first").into())
}

fn find_partition(
    cx: &Context<'_>,
    topic: &Topic,
    index: u32,
) -> Result<(ShardId, PartitionId), Fault> {
    if index >= topic.partition_count {
        let (name, count) = (&topic.name, topic.partition_count);
        return Err(format!("topic {name} has the partitions from 0 to {}", count - 1).into());
    }
    let shard = cx.partition_shard(topic, index).ok_or(NOT_FORMED)?;
    let id = PartitionId {
        topic: topic.id,
        index,
    };
    Ok((shard, id))
}

/// What became of a transaction, as its caller is told.
pub fn reply(
    cx: &Context<'_>,
    transaction: &Transaction,
    id: TxnId,
    outcome: Outcome,
) -> CallReply {
    let name = |shard: ShardId| {
        let record = cx.catalog.shards.get(&shard);
        record.map_or_else(|| shard.to_string(), |record| record.name.clone())
    };
    let transacted = match outcome {
        Outcome::Committed(parts) => {
            let mut results = vec![None; transaction.operations.len()];
            let known = parts.iter().flatten().map(parts::decode_results);
            for (at, result) in known.filter_map(Result::ok).flatten() {
                if let Some(place) = results.get_mut(at as usize) {
                    *place = Some(result);
                }
            }
            Transacted::Committed(results)
        }
        Outcome::Refused(Refusal::Work(words)) => match WorkRefusal::decode(&words) {
            Ok(WorkRefusal { place, words }) => Transacted::Refused {
                place: Some(place),
                words,
            },
            Err(_) => refused(
                "refused for a reason that this build does not know; upgrade this node".into(),
            ),
        },
        Outcome::Refused(Refusal::TooLate(shard)) => refused(format!(
            "shard {} did not promise in time: try again",
            name(shard)
        )),
        Outcome::Refused(Refusal::TooMany(shard)) => refused(format!(
            "shard {} has as many transactions under way as it may have: try again later",
            name(shard)
        )),
        Outcome::Refused(Refusal::OtherContent) => {
            refused("this id was given to another transaction: choose another id".into())
        }
    };
    CallReply::Transacted { id, transacted }
}

fn refused(words: String) -> Transacted {
    Transacted::Refused { place: None, words }
}
