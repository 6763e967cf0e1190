//! Shares and positions: what a generation works with.

use super::{Committed, Cx, Group, OFFSET_METADATA_BYTES_MAX, Phase, Waiting, record};
use crate::command::{MemberName, OffsetCommit, PartitionId, Sync, TopicId};
use crate::reply::{ErrorCode, Reply, Synced};
use base::planted::{Bug, planted};
use bytes::Bytes;
use std::collections::BTreeMap;

impl Group {
    /// A member asks for its share; the leader brings everybody's.
    pub(crate) fn sync(&mut self, sync: Sync, cx: &mut Cx<'_>) -> bool {
        match self.try_sync(sync, cx) {
            Ok(changed) => changed,
            Err(error) => {
                cx.reply(Err(error));
                false
            }
        }
    }

    fn try_sync(&mut self, sync: Sync, cx: &mut Cx<'_>) -> Result<bool, ErrorCode> {
        self.check_member(&sync.member)?;
        if sync.generation != self.generation {
            return Err(ErrorCode::IllegalGeneration);
        }
        let differs = |said: &Option<String>, is: &str| said.as_deref().is_some_and(|s| s != is);
        if differs(&sync.protocol_type, &self.protocol_type)
            || differs(&sync.protocol, &self.protocol)
        {
            return Err(ErrorCode::InconsistentProtocol);
        }
        let id = sync.member.id;
        match self.phase {
            Phase::Empty => Err(ErrorCode::UnknownMember),
            Phase::Joining => Err(ErrorCode::RebalanceInProgress),
            Phase::Stable => {
                let synced = self.synced(&id);
                cx.reply(Ok(Reply::Synced(synced)));
                Ok(false)
            }
            Phase::Syncing => {
                let member = self.members.get_mut(&id).expect("it was checked");
                if let Waiting::Sync(origin) = member.waiting {
                    // The same member asks again, over another connection.
                    cx.reply_to(origin, Err(ErrorCode::RebalanceInProgress));
                }
                member.waiting = Waiting::Sync(cx.origin);
                if self.leader == id {
                    self.share_out(sync.assignments, cx);
                }
                Ok(true)
            }
        }
    }

    fn share_out(&mut self, assignments: Vec<(String, Bytes)>, cx: &mut Cx<'_>) {
        let shares: BTreeMap<String, Bytes> = assignments.into_iter().collect();
        self.phase = Phase::Stable;
        let ids: Vec<String> = self.members.keys().cloned().collect();
        for id in ids {
            let member = self.members.get_mut(&id).expect("it is there");
            let share = shares.get(&id).map_or(&[][..], |share| share);
            member.assignment = Bytes::copy_from_slice(share);
            if let Waiting::Sync(origin) = member.waiting {
                member.waiting = Waiting::No;
                let synced = self.synced(&id);
                cx.reply_to(origin, Ok(Reply::Synced(synced)));
            }
        }
    }

    fn synced(&self, id: &str) -> Synced {
        let id = if planted(Bug::GiveLeadersShare) {
            &self.leader
        } else {
            id
        };
        Synced {
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            assignment: self.members[id].assignment.clone(),
        }
    }

    /// Who may commit: the members of this generation, and anybody while the group has none.
    fn check_commit(&self, member: &MemberName, generation: i32) -> Result<(), ErrorCode> {
        if generation < 0 && self.members.is_empty() {
            return Ok(());
        }
        self.check_member(member)?;
        if generation != self.generation && !planted(Bug::CommitInThePast) {
            return Err(ErrorCode::IllegalGeneration);
        }
        match self.phase {
            Phase::Syncing => Err(ErrorCode::RebalanceInProgress),
            Phase::Empty | Phase::Joining | Phase::Stable => Ok(()),
        }
    }

    /// Remembers positions.
    pub(crate) fn commit(
        &mut self,
        member: &MemberName,
        generation: i32,
        offsets: Vec<OffsetCommit>,
        cx: &mut Cx<'_>,
    ) -> bool {
        if let Err(error) = self.check_commit(member, generation) {
            cx.reply(Err(error));
            return false;
        }
        self.used_ms = cx.time_ms;
        let mut results = Vec::with_capacity(offsets.len());
        for commit in offsets {
            if commit.metadata.len() > OFFSET_METADATA_BYTES_MAX {
                results.push(Err(ErrorCode::OffsetMetadataTooLarge));
                continue;
            }
            let committed = Committed {
                offset: commit.offset,
                leader_epoch: commit.leader_epoch,
                metadata: commit.metadata,
                committed_ms: cx.time_ms,
            };
            self.put_offset(commit.partition, committed);
            results.push(Ok(()));
        }
        cx.reply(Ok(Reply::Committed(results)));
        true
    }

    pub(crate) fn put_offset(&mut self, partition: PartitionId, committed: Committed) {
        let hash = record::offset_hash(partition, &committed);
        self.offsets_digest = self.offsets_digest.wrapping_add(hash);
        if let Some(old) = self.offsets.insert(partition, committed) {
            let hash = record::offset_hash(partition, &old);
            self.offsets_digest = self.offsets_digest.wrapping_sub(hash);
        }
    }

    /// Forgets what was committed of a topic; true when there was something.
    pub(crate) fn forget_topic(&mut self, topic: TopicId) -> bool {
        let of_topic: Vec<PartitionId> = self.offsets_of(topic).collect();
        for partition in &of_topic {
            let old = self.offsets.remove(partition).expect("it is there");
            let hash = record::offset_hash(*partition, &old);
            self.offsets_digest = self.offsets_digest.wrapping_sub(hash);
        }
        !of_topic.is_empty()
    }

    /// The partitions of a topic of which something was committed.
    pub(crate) fn offsets_of(&self, topic: TopicId) -> impl Iterator<Item = PartitionId> {
        let first = PartitionId { topic, index: 0 };
        let last = PartitionId {
            topic,
            index: u32::MAX,
        };
        self.offsets.range(first..=last).map(|(p, _)| *p)
    }
}
