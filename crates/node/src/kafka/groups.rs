//! Requests about consumer groups. They are served by the node that leads the group's shard.

use super::draft::{Draft, Work};
use super::places::{led_group, partition};
use super::{Context, Kafka, UNANSWERED};
use messaging::{Command, Group, Join, MemberName, OffsetCommit, PartitionId, Sync};
use std::collections::BTreeMap;
use wire_kafka::reply::{
    CommittedPartition, GroupOffsets, JoinRefusal, ListedGroup, PartitionResult, phase_name,
};
use wire_kafka::request::{CommitPartition, OffsetFetchGroup};
use wire_kafka::{ByTopic, Error, Reply, error_of};

impl Kafka {
    pub(super) fn join_group(&mut self, cx: &Context<'_>, join: Join) -> Draft {
        let refusal = |error| {
            let member = join.member.id.clone();
            Reply::JoinGroup(Err(JoinRefusal { error, member }))
        };
        match led_group(cx, &join.group) {
            Err(error) => Draft::reply(refusal(error)),
            Ok((shard, _)) => {
                self.duties.touch(cx, shard, &join.group, &join.member.id);
                let mut draft = Draft::reply(refusal(UNANSWERED));
                draft.unit(shard, (0, 0), Command::Join(join));
                draft
            }
        }
    }

    pub(super) fn sync_group(&mut self, cx: &Context<'_>, sync: Sync) -> Draft {
        match led_group(cx, &sync.group) {
            Err(error) => Draft::reply(Reply::SyncGroup(Err(error))),
            Ok((shard, _)) => {
                self.duties.touch(cx, shard, &sync.group, &sync.member.id);
                let mut draft = Draft::reply(Reply::SyncGroup(Err(UNANSWERED)));
                draft.unit(shard, (0, 0), Command::Sync(sync));
                draft
            }
        }
    }

    pub(super) fn heartbeat(
        &mut self,
        cx: &Context<'_>,
        group: &str,
        member: &MemberName,
        generation: i32,
    ) -> Reply {
        let beat = led_group(cx, group).and_then(|(shard, topics)| {
            let found = topics.group(group).ok_or(Error::UnknownMemberId)?;
            let answer = found.heartbeat(member, generation).map_err(error_of);
            if matches!(answer, Ok(()) | Err(Error::RebalanceInProgress)) {
                self.duties.touch(cx, shard, group, &member.id);
            }
            answer
        });
        Reply::Heartbeat(beat)
    }

    pub(super) fn offset_commit(
        &mut self,
        cx: &Context<'_>,
        (group, member, generation): (String, MemberName, i32),
        topics: Vec<ByTopic<CommitPartition>>,
    ) -> Draft {
        let led = led_group(cx, &group);
        let mut offsets = Vec::new();
        let mut answers = Vec::with_capacity(topics.len());
        for topic in topics {
            let mut partitions = Vec::with_capacity(topic.partitions.len());
            for part in topic.partitions {
                let place = led.and_then(|_| partition(cx, &topic.topic, part.index));
                let result = place.and_then(|(_, partition)| {
                    offsets.push(OffsetCommit {
                        partition,
                        offset: part.offset,
                        leader_epoch: part.leader_epoch,
                        metadata: part.metadata,
                    });
                    Err(UNANSWERED)
                });
                let index = part.index;
                partitions.push(PartitionResult { index, result });
            }
            let topic = topic.topic;
            answers.push(ByTopic { topic, partitions });
        }
        let mut draft = Draft::reply(Reply::OffsetCommit(answers));
        if let Ok((shard, _)) = led
            && !offsets.is_empty()
        {
            self.duties.touch(cx, shard, &group, &member.id);
            let command = Command::Commit {
                group,
                member,
                generation,
                offsets,
            };
            draft.unit(shard, (0, 0), command);
        }
        draft
    }
}

pub fn leave_group(cx: &Context<'_>, group: String, members: Vec<MemberName>) -> Draft {
    match led_group(cx, &group) {
        Err(error) => Draft::reply(Reply::LeaveGroup(Err(error))),
        Ok((shard, _)) => {
            let answers = members.iter().map(|m| (m.clone(), Err(UNANSWERED)));
            let mut draft = Draft::reply(Reply::LeaveGroup(Ok(answers.collect())));
            draft.unit(shard, (0, 0), Command::Leave { group, members });
            draft
        }
    }
}

pub fn delete_groups(cx: &Context<'_>, names: Vec<String>) -> Draft {
    let mut draft = Draft::of(Work::Taken);
    let mut answers = Vec::with_capacity(names.len());
    for (i, group) in names.into_iter().enumerate() {
        let error = match led_group(cx, &group) {
            Err(error) => error,
            Ok((shard, _)) => {
                let group = group.clone();
                draft.unit(shard, (i, 0), Command::DeleteGroup { group });
                UNANSWERED
            }
        };
        answers.push((group, Err(error)));
    }
    draft.work = Work::Reply(Reply::DeleteGroups(answers));
    draft
}

pub fn offset_fetch(cx: &Context<'_>, groups: Vec<OffsetFetchGroup>) -> Reply {
    let of = |asked: OffsetFetchGroup| {
        let result = led_group(cx, &asked.group).map(|(_, topics)| {
            let group = topics.group(&asked.group);
            match asked.topics {
                Some(topics) => topics
                    .into_iter()
                    .map(|t| committed_of(cx, group, t))
                    .collect(),
                None => all_committed(cx, group),
            }
        });
        let group = asked.group;
        GroupOffsets { group, result }
    };
    Reply::OffsetFetch(groups.into_iter().map(of).collect())
}

fn committed_of(
    cx: &Context<'_>,
    group: Option<&Group>,
    asked: ByTopic<i32>,
) -> ByTopic<CommittedPartition> {
    let partitions = asked.partitions.iter().map(|index| {
        let place = partition(cx, &asked.topic, *index).ok();
        let committed = place.and_then(|(_, id)| group?.offsets.get(&id));
        CommittedPartition {
            index: *index,
            committed: committed.cloned(),
        }
    });
    ByTopic {
        partitions: partitions.collect(),
        topic: asked.topic,
    }
}

fn all_committed(cx: &Context<'_>, group: Option<&Group>) -> Vec<ByTopic<CommittedPartition>> {
    let mut topics: BTreeMap<&str, Vec<CommittedPartition>> = BTreeMap::new();
    let name = |id: PartitionId| Some(cx.registry()?.topic_by_id(id.topic)?.name.as_str());
    for (id, committed) in group.iter().flat_map(|group| &group.offsets) {
        if let Some(name) = name(*id) {
            topics.entry(name).or_default().push(CommittedPartition {
                index: id.index as i32,
                committed: Some(committed.clone()),
            });
        }
    }
    let of = |(topic, partitions): (&str, Vec<CommittedPartition>)| ByTopic {
        topic: topic.to_owned(),
        partitions,
    };
    topics.into_iter().map(of).collect()
}

pub fn describe_groups(cx: &Context<'_>, names: Vec<String>) -> Reply {
    let described = names.into_iter().map(|name| {
        let group = led_group(cx, &name).map(|(_, topics)| topics.group(&name).cloned());
        (name, group)
    });
    Reply::DescribeGroups(described.collect())
}

/// The groups that are coordinated here.
pub fn list_groups(cx: &Context<'_>, states: &[String]) -> Reply {
    let led = cx.shards().into_iter().filter(|shard| cx.leads(*shard));
    let groups = led.filter_map(|shard| cx.topics(shard));
    let listed = groups.flat_map(|topics| topics.groups()).map(|(name, g)| {
        let protocol_type = g.protocol_type.clone();
        ListedGroup {
            group: name.to_owned(),
            protocol_type,
            phase: g.phase,
        }
    });
    let is_asked = |group: &ListedGroup| {
        let is_named = |state: &String| state.eq_ignore_ascii_case(phase_name(group.phase));
        states.is_empty() || states.iter().any(is_named)
    };
    Reply::ListGroups(Ok(listed.filter(is_asked).collect()))
}
