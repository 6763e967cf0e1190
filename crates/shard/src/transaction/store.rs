//! The chapters of a shard as the one store that a transaction's part is tried and carried out on.
//!
//! Chapters do not know each other, so steps of different chapters cannot depend on each other: each chapter
//! takes its own, in their order.

use super::work::{Condition, Place, Step, StepResult, Work, WorkRefusal, encode_results};
use crate::machine::ShardOutput;
use base::Stamp;
use bytes::Bytes;
use coordination::{Coordination, ErrorCode, OpReply, TreeOp};
use messaging::{NewBatch, PartitionId, Topics};
use storage::cache::transaction::KeyCondition;
use storage::cache::{Cache, Reply};
use transactions::Store;

/// What a transaction may change.
pub struct Chapters<'a> {
    /// The tree.
    pub coordination: &'a mut Coordination,
    /// The cache.
    pub cache: &'a mut Cache,
    /// An empty cache, to try commands in.
    pub scratch: &'a mut Cache,
    /// Partitions.
    pub topics: &'a mut Topics,
    /// What applying tells, in order.
    pub out: &'a mut Vec<ShardOutput>,
}

/// A part's steps by chapter, each with its place in the whole.
#[derive(Default)]
struct ByChapter<'a> {
    cache: Vec<(u32, storage::cache::transaction::Step<'a>)>,
    tree: (Vec<u32>, Vec<TreeOp>),
    appends: Vec<(u32, (PartitionId, &'a NewBatch))>,
}

impl<'a> ByChapter<'a> {
    fn of(work: &'a Work) -> Self {
        let mut all = Self::default();
        for (at, step) in &work.steps {
            match step {
                Step::Cache { database, command } => all.cache.push((*at, (*database, command))),
                Step::Tree(op) => {
                    all.tree.0.push(*at);
                    all.tree.1.push(op.clone());
                }
                Step::Append { partition, batch } => all.appends.push((*at, (*partition, batch))),
            }
        }
        all
    }

    fn commands(&self) -> Vec<storage::cache::transaction::Step<'a>> {
        self.cache.iter().map(|(_, step)| *step).collect()
    }

    fn batches(&self) -> Vec<(PartitionId, &'a NewBatch)> {
        self.appends.iter().map(|(_, append)| *append).collect()
    }
}

impl Chapters<'_> {
    /// What is otherwise than a condition says.
    fn objection(&mut self, at: Stamp, condition: &Condition) -> Option<String> {
        match condition {
            Condition::Key { database, key, is } => {
                let now_ms = at.time_ms;
                if self.cache.holds(now_ms, *database, key, is) {
                    return None;
                }
                let is_there = (self.cache).holds(now_ms, *database, key, &KeyCondition::Exists);
                Some(match is {
                    KeyCondition::Exists => "the key is missing".into(),
                    KeyCondition::Missing => "the key exists".into(),
                    KeyCondition::Version(_) => {
                        let version = self.cache.version(*database, key);
                        format!("the key's version is {version}")
                    }
                    KeyCondition::Equals(_) if is_there => "the key holds something else".into(),
                    KeyCondition::Equals(_) => "the key is missing".into(),
                })
            }
            Condition::LogEnd { partition, offset } => match self.topics.bounds(*partition) {
                Some((_, end)) if end == *offset => None,
                Some((_, end)) => Some(format!("the next offset is {end}")),
                None => Some("the partition is not there".into()),
            },
            Condition::Node { path, version } => {
                let path = path.clone();
                let check = TreeOp::Check {
                    path,
                    version: *version,
                };
                let refused = self.coordination.attempt(at, &[check]).err();
                refused.map(|(_, error)| tree_words(error))
            }
            Condition::NoNode { path } => {
                let is_there = self.coordination.stat(path).is_some();
                is_there.then(|| "the node exists".into())
            }
        }
    }

    fn try_steps(&mut self, at: Stamp, work: &Work) -> Result<(), WorkRefusal> {
        let steps = ByChapter::of(work);
        let refusal = |at: u32, words: String| WorkRefusal {
            place: Place::Operation(at),
            words,
        };
        (self.cache.attempt(at, &steps.commands(), self.scratch)).map_err(|(i, reply)| {
            let words = match reply {
                Reply::Error(words) => words.into_owned(),
                _ => "refused".into(),
            };
            refusal(steps.cache[i].0, words)
        })?;
        (self.coordination.attempt(at, &steps.tree.1))
            .map_err(|(i, error)| refusal(steps.tree.0[i], tree_words(error)))?;
        (self.topics.attempt(&steps.batches())).map_err(|(i, error)| {
            let words = match error {
                messaging::ErrorCode::UnknownPartition => "the partition is not there".into(),
                messaging::ErrorCode::BatchTooLarge => {
                    "larger than the topic's max.message.bytes".into()
                }
                other => format!("{other:?}"),
            };
            refusal(steps.appends[i].0, words)
        })
    }
}

fn tree_words(error: ErrorCode) -> String {
    match error {
        ErrorCode::NoNode => "the node, or its parent, is not there".into(),
        ErrorCode::NodeExists => "the node exists".into(),
        ErrorCode::BadVersion => "the node has another version".into(),
        ErrorCode::NotEmpty => "the node has children".into(),
        ErrorCode::NoAuth => "the node's access control list does not let everybody do this".into(),
        ErrorCode::NoChildrenForEphemerals => "ephemeral nodes have no children".into(),
        ErrorCode::BadArguments => "the path or the mode is not possible".into(),
        other => format!("{other:?}"),
    }
}

impl Store for Chapters<'_> {
    type Work = Work;

    fn attempt(&mut self, at: Stamp, work: &Work) -> Result<(), Bytes> {
        let objection = work.conditions.iter().find_map(|(number, condition)| {
            let words = self.objection(at, condition)?;
            Some(WorkRefusal {
                place: Place::Condition(*number),
                words,
            })
        });
        match objection {
            Some(refusal) => Err(refusal),
            None => self.try_steps(at, work),
        }
        .map_err(|refusal| refusal.encode())
    }

    fn carry_out(&mut self, at: Stamp, work: &Work) -> Bytes {
        let steps = ByChapter::of(work);
        let mut results: Vec<(u32, StepResult)> = Vec::with_capacity(work.steps.len());
        if !steps.cache.is_empty() {
            let mut outputs = Vec::new();
            let replies = self.cache.carry_out(at, &steps.commands(), &mut outputs);
            (self.out).extend(outputs.into_iter().map(ShardOutput::Cache));
            for ((number, (database, command)), reply) in steps.cache.iter().zip(replies) {
                debug_assert!(!reply.is_error(), "it was tried: {reply:?}");
                let key = command.keys().next();
                let version = key.map_or(0, |key| self.cache.version(*database, key));
                results.push((*number, StepResult::Cache { reply, version }));
            }
        }
        if !steps.tree.1.is_empty() {
            let mut outputs = Vec::new();
            let replies = (self.coordination).carry_out(at, &steps.tree.1, &mut outputs);
            (self.out).extend(outputs.into_iter().map(ShardOutput::Coordination));
            for (number, reply) in steps.tree.0.iter().zip(replies) {
                debug_assert!(reply.is_ok(), "it was tried: {reply:?}");
                let result = match reply {
                    Ok(OpReply::Created { path, .. }) => StepResult::Created { path },
                    Ok(OpReply::DataSet(stat)) => StepResult::Set {
                        version: stat.version,
                    },
                    _ => StepResult::Done,
                };
                results.push((*number, result));
            }
        }
        if !steps.appends.is_empty() {
            let mut outputs = Vec::new();
            let replies = self.topics.carry_out(at, &steps.batches(), &mut outputs);
            (self.out).extend(outputs.into_iter().map(ShardOutput::Topics));
            for ((number, _), reply) in steps.appends.iter().zip(replies) {
                debug_assert!(reply.is_ok(), "it was tried: {reply:?}");
                let offset = reply.unwrap_or(-1);
                results.push((*number, StepResult::Appended { offset }));
            }
        }
        results.sort_by_key(|(number, _)| *number);
        encode_results(&results)
    }
}
