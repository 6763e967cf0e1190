//! What applied units told, written into the answers that wait for it.

use super::topics::copies;
use super::{Context, UNANSWERED};
use messaging::registry::describe;
use messaging::{ErrorCode, RegistryReply};
use wire_kafka::reply::{JoinRefusal, Outcome};
use wire_kafka::{Error, Reply, error_of};

/// What a unit told.
pub enum Answer {
    /// One of a shard's topics.
    Topics(Result<messaging::Reply, ErrorCode>),
    /// One of the registry.
    Registry(Result<RegistryReply, ErrorCode>),
}

/// Writes a unit's answer into its place.
pub fn fill(cx: &Context<'_>, reply: &mut Reply, at: (usize, usize), answer: Answer) {
    match answer {
        Answer::Topics(answer) => of_topics(reply, at, answer.map_err(error_of)),
        Answer::Registry(answer) => of_registry(cx, reply, at.0, answer.map_err(error_of)),
    }
}

/// What is not of the kind that was asked for, which cannot be.
const fn odd<T>() -> Outcome<T> {
    Err(UNANSWERED)
}

fn of_topics(reply: &mut Reply, (i, j): (usize, usize), answer: Outcome<messaging::Reply>) {
    use messaging::Reply as Told;
    match reply {
        Reply::Produce(topics) => {
            topics[i].partitions[j].result = match answer {
                Ok(Told::Appended {
                    base_offset,
                    log_start,
                }) => Ok((base_offset, log_start)),
                // It was dropped meanwhile, or not opened yet: the client shall look again.
                Err(Error::UnknownTopicOrPartition) => Err(Error::LeaderNotAvailable),
                answer => answer.and(odd()),
            };
        }
        Reply::DeleteRecords(topics) => {
            topics[i].partitions[j].1 = match answer {
                Ok(Told::Trimmed { log_start }) => Ok(log_start),
                answer => answer.and(odd()),
            };
        }
        Reply::JoinGroup(result) => match answer {
            Ok(Told::Joined(joined)) => *result = Ok(joined),
            Ok(Told::MemberId(member)) => {
                let error = Error::MemberIdRequired;
                *result = Err(JoinRefusal { error, member });
            }
            answer => {
                if let (Err(refusal), Err(error)) = (result, answer) {
                    refusal.error = error;
                }
            }
        },
        Reply::SyncGroup(result) => {
            *result = match answer {
                Ok(Told::Synced(synced)) => Ok(synced),
                answer => answer.and(odd()),
            };
        }
        Reply::LeaveGroup(result) => match (result, answer) {
            (Ok(members), Ok(Told::Left(left))) => {
                for ((_, result), told) in members.iter_mut().zip(left) {
                    *result = told.map_err(error_of);
                }
            }
            (result, answer) => *result = answer.and(odd()),
        },
        Reply::OffsetCommit(topics) => {
            let partitions = topics.iter_mut().flat_map(|t| &mut t.partitions);
            let asked = partitions.filter(|p| p.result == Err(UNANSWERED));
            match answer {
                Ok(Told::Committed(results)) => {
                    for (partition, told) in asked.zip(results) {
                        partition.result = told.map_err(error_of);
                    }
                }
                Ok(_) => {}
                Err(error) => asked.for_each(|p| p.result = Err(error)),
            }
        }
        Reply::DeleteGroups(groups) => groups[i].1 = answer.map(|_| ()),
        _ => {}
    }
}

fn of_registry(cx: &Context<'_>, reply: &mut Reply, i: usize, answer: Outcome<RegistryReply>) {
    match reply {
        Reply::CreateTopics(topics) => {
            let made = &mut topics[i];
            made.result = match answer {
                Ok(RegistryReply::Topic {
                    id,
                    partition_count,
                }) => {
                    let topic = cx.registry().and_then(|r| r.topic_by_id(id));
                    let config = topic.map_or_else(Vec::new, describe);
                    Ok((id, partition_count, copies(cx), config))
                }
                answer => answer.and(odd()),
            };
        }
        Reply::DeleteTopics(topics) => {
            let gone = &mut topics[i];
            gone.result = match answer {
                Ok(RegistryReply::Deleted { id, name }) => {
                    (gone.id, gone.name) = (id, Some(name));
                    Ok(())
                }
                answer => answer.and(odd()),
            };
        }
        Reply::CreatePartitions(topics) => topics[i].1 = answer.map(|_| ()),
        Reply::AlterConfigs(resources) => resources[i].1 = answer.map(|_| ()),
        Reply::InitProducerId(result) => {
            *result = match answer {
                Ok(RegistryReply::Producer { id }) => Ok(id),
                answer => answer.and(odd()),
            };
        }
        _ => {}
    }
}

/// True when a part of a `Produce` was refused.
pub fn is_refused(reply: &Reply) -> bool {
    match reply {
        Reply::Produce(topics) => topics
            .iter()
            .any(|t| t.partitions.iter().any(|p| p.result.is_err())),
        _ => false,
    }
}
