//! Answers about groups, as the crate's messages.

use super::{
    Broker, CommittedPartition, GroupOffsets, JoinRefusal, ListedGroup, Outcome, PartitionResult,
    code, message, text,
};
use crate::error::Error;
use crate::request::ByTopic;
use kafka_protocol::messages as m;
use kafka_protocol::protocol::StrBytes;
use messaging::{Group, Joined, MemberName, Phase, Synced};

pub(super) fn coordinators(
    all: &[(String, Outcome<Broker>)],
    version: i16,
) -> m::FindCoordinatorResponse {
    let made = m::FindCoordinatorResponse::default();
    let nobody = Broker {
        id: -1,
        host: String::new(),
        port: 0,
    };
    if version < 4 {
        // These versions ask for one.
        let result = all
            .first()
            .map_or(Err(Error::InvalidRequest), |(_, r)| r.clone());
        let broker = result.as_ref().unwrap_or(&nobody);
        return made
            .with_error_code(code(&result))
            .with_error_message(message(&result).filter(|_| version >= 1))
            .with_node_id(broker.id.into())
            .with_host(text(&broker.host))
            .with_port(broker.port.into());
    }
    let all = all.iter().map(|(key, result)| {
        let broker = result.as_ref().unwrap_or(&nobody);
        m::find_coordinator_response::Coordinator::default()
            .with_key(text(key))
            .with_error_code(code(result))
            .with_error_message(message(result))
            .with_node_id(broker.id.into())
            .with_host(text(&broker.host))
            .with_port(broker.port.into())
    });
    made.with_coordinators(all.collect())
}

pub(super) fn joined(result: &Result<Joined, JoinRefusal>, version: i16) -> m::JoinGroupResponse {
    let made = m::JoinGroupResponse::default();
    let joined = match result {
        Ok(joined) => joined,
        Err(refusal) => {
            return made
                .with_error_code(refusal.error.code())
                .with_generation_id(-1)
                .with_protocol_name((version < 7).then(StrBytes::default))
                .with_member_id(text(&refusal.member));
        }
    };
    // Before version 9 a leader cannot be told not to share out: it is not told that it leads.
    let hides_leader = joined.skip_assignment && version < 9;
    let members = joined.members.iter().filter(|_| !hides_leader).map(|m| {
        let instance = m.instance.as_deref().filter(|_| version >= 5);
        m::join_group_response::JoinGroupResponseMember::default()
            .with_member_id(text(&m.id))
            .with_group_instance_id(instance.map(text))
            .with_metadata(m.metadata.clone())
    });
    made.with_generation_id(joined.generation)
        .with_protocol_type((version >= 7).then(|| text(&joined.protocol_type)))
        .with_protocol_name(Some(text(&joined.protocol)))
        .with_leader(text(if hides_leader { "" } else { &joined.leader }))
        .with_skip_assignment(joined.skip_assignment && version >= 9)
        .with_member_id(text(&joined.member))
        .with_members(members.collect())
}

pub(super) fn synced(result: &Outcome<Synced>, version: i16) -> m::SyncGroupResponse {
    let made = m::SyncGroupResponse::default().with_error_code(code(result));
    let Ok(synced) = result else {
        return made;
    };
    let made = made.with_assignment(synced.assignment.clone());
    if version < 5 {
        return made;
    }
    made.with_protocol_type(Some(text(&synced.protocol_type)))
        .with_protocol_name(Some(text(&synced.protocol)))
}

pub(super) fn left(
    result: &Outcome<Vec<(MemberName, Outcome<()>)>>,
    version: i16,
) -> m::LeaveGroupResponse {
    let made = m::LeaveGroupResponse::default();
    let members = match result {
        Err(error) => return made.with_error_code(error.code()),
        Ok(members) => members,
    };
    if version < 3 {
        // These versions name one member, and its error is that of the whole.
        return made.with_error_code(members.first().map_or(0, |(_, r)| code(r)));
    }
    let members = members.iter().map(|(name, result)| {
        m::leave_group_response::MemberResponse::default()
            .with_member_id(text(&name.id))
            .with_group_instance_id(name.instance.as_deref().map(text))
            .with_error_code(code(result))
    });
    made.with_members(members.collect())
}

pub(super) fn committed(
    topic: &ByTopic<PartitionResult>,
) -> m::offset_commit_response::OffsetCommitResponseTopic {
    let partitions = topic.partitions.iter().map(|p| {
        m::offset_commit_response::OffsetCommitResponsePartition::default()
            .with_partition_index(p.index)
            .with_error_code(code(&p.result))
    });
    m::offset_commit_response::OffsetCommitResponseTopic::default()
        .with_name(text(&topic.topic).into())
        .with_partitions(partitions.collect())
}

/// Offset, leader epoch and metadata of what was committed, or of nothing.
fn position(partition: &CommittedPartition) -> (i64, i32, StrBytes) {
    match &partition.committed {
        Some(c) => (c.offset, c.leader_epoch, text(&c.metadata)),
        None => (-1, -1, StrBytes::default()),
    }
}

pub(super) fn group_offsets(groups: &[GroupOffsets], version: i16) -> m::OffsetFetchResponse {
    use m::offset_fetch_response as r;
    let made = m::OffsetFetchResponse::default();
    if version >= 8 {
        let groups = groups.iter().map(|g| {
            let topics = g.result.iter().flatten().map(|t| {
                let partitions = t.partitions.iter().map(|p| {
                    let (offset, leader_epoch, metadata) = position(p);
                    r::OffsetFetchResponsePartitions::default()
                        .with_partition_index(p.index)
                        .with_committed_offset(offset)
                        .with_committed_leader_epoch(leader_epoch)
                        .with_metadata(Some(metadata))
                });
                r::OffsetFetchResponseTopics::default()
                    .with_name(text(&t.topic).into())
                    .with_partitions(partitions.collect())
            });
            r::OffsetFetchResponseGroup::default()
                .with_group_id(text(&g.group).into())
                .with_error_code(code(&g.result))
                .with_topics(topics.collect())
        });
        return made.with_groups(groups.collect());
    }
    // These versions ask for one group.
    let result = groups
        .first()
        .map_or(Err(Error::InvalidRequest), |g| g.result.clone());
    let topics = result.iter().flatten().map(|t| {
        let partitions = t.partitions.iter().map(|p| {
            let (offset, leader_epoch, metadata) = position(p);
            r::OffsetFetchResponsePartition::default()
                .with_partition_index(p.index)
                .with_committed_offset(offset)
                .with_committed_leader_epoch(if version >= 5 { leader_epoch } else { -1 })
                .with_metadata(Some(metadata))
        });
        r::OffsetFetchResponseTopic::default()
            .with_name(text(&t.topic).into())
            .with_partitions(partitions.collect())
    });
    let made = made.with_topics(topics.collect());
    if version >= 2 {
        made.with_error_code(code(&result))
    } else {
        made
    }
}

/// Kafka's name of a phase.
pub fn phase_name(phase: Phase) -> &'static str {
    match phase {
        Phase::Empty => "Empty",
        Phase::Joining => "PreparingRebalance",
        Phase::Syncing => "CompletingRebalance",
        Phase::Stable => "Stable",
    }
}

pub(super) fn described_group(
    name: &str,
    result: &Outcome<Option<Group>>,
    version: i16,
) -> m::describe_groups_response::DescribedGroup {
    let made = m::describe_groups_response::DescribedGroup::default()
        .with_group_id(text(name).into())
        .with_error_code(code(result));
    let Ok(Some(group)) = result else {
        return made.with_group_state(text(if result.is_ok() { "Dead" } else { "" }));
    };
    let members = group.members.iter().map(|(id, m)| {
        let instance = m.instance.as_deref().filter(|_| version >= 4);
        m::describe_groups_response::DescribedGroupMember::default()
            .with_member_id(text(id))
            .with_group_instance_id(instance.map(text))
            .with_client_id(text(&m.client_id))
            .with_client_host(text(&m.client_host))
            .with_member_metadata(m.metadata(&group.protocol))
            .with_member_assignment(m.assignment.clone())
    });
    made.with_group_state(text(phase_name(group.phase)))
        .with_protocol_type(text(&group.protocol_type))
        .with_protocol_data(text(&group.protocol))
        .with_members(members.collect())
}

pub(super) fn listed_groups(
    result: &Outcome<Vec<ListedGroup>>,
    version: i16,
) -> m::ListGroupsResponse {
    let groups = result.iter().flatten().map(|g| {
        let made = m::list_groups_response::ListedGroup::default()
            .with_group_id(text(&g.group).into())
            .with_protocol_type(text(&g.protocol_type));
        if version >= 4 {
            made.with_group_state(text(phase_name(g.phase)))
        } else {
            made
        }
    });
    m::ListGroupsResponse::default()
        .with_error_code(code(result))
        .with_groups(groups.collect())
}
