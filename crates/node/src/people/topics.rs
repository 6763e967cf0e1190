//! What people are told of topics and consumer groups.

use crate::admin::{
    AdminReply, GroupRow, MemberRow, PartitionRow, PositionRow, TopicRow, TopicsPage, TopicsStatus,
};
use crate::core::Core;
use crate::event::FrontEnd;
use crate::kafka::POOL;
use base::ShardId;
use catalog::TREE_SHARD;
use messaging::{Group, PartitionId, Registry, Topic, TopicId, Topics};
use std::collections::BTreeMap;
use wire_kafka::reply::phase_name;

/// Topics, and groups, on one page.
const ROWS_SHOWN: usize = 200;
const PARTITIONS_SHOWN: usize = 100;
const MEMBERS_SHOWN: usize = 100;
const POSITIONS_SHOWN: usize = 200;
/// Partitions, and lags, that a status tells of.
const STATUS_ROWS: usize = 1_000;

impl Core {
    fn registry(&self) -> Option<&Registry> {
        // With several cores, the one that has the records and a copy answers.
        let pool = self.catalog.pools.get(POOL)?;
        let has_records = pool.shards().next().is_some_and(|shard| self.holds(shard));
        if self.config.listeners.contains_key(&FrontEnd::Kafka) && !has_records {
            return None;
        }
        let here = (self.replicas.get(TREE_SHARD)).and_then(|shard| shard.machine().data());
        here.map(|data| &data.registry)
            .or(self.copies.copy.as_deref())
    }

    /// What the shards that are here hold of topics.
    fn topics_here(&self) -> Vec<(ShardId, &Topics)> {
        let shards = self.catalog.pools.get(POOL);
        let shards = shards.into_iter().flat_map(|pool| pool.shards());
        let here = |shard| Some((shard, &self.replicas.get(shard)?.machine().data()?.topics));
        shards.filter_map(here).collect()
    }

    fn leads(&self, shard: ShardId) -> bool {
        self.replicas.get(shard).is_some_and(|s| s.is_leader())
    }

    fn leader_name(&self, shard: ShardId) -> String {
        match self.router.leader(shard) {
            Some((_, node)) => format!("{:x}", node.0),
            None => String::new(),
        }
    }

    pub(super) fn topics_status(&self) -> Option<TopicsStatus> {
        let registry = self.registry()?;
        let here = self.topics_here();
        let mut status = TopicsStatus {
            topics: registry.topics().count() as u64,
            ..TopicsStatus::default()
        };
        for (shard, topics) in &here {
            let counts = topics.counts();
            status.partitions += counts.partitions as u64;
            status.bytes += counts.bytes;
            status.groups += counts.groups as u64;
            status.members += counts.members as u64;
            if !self.leads(*shard) {
                continue;
            }
            let room = STATUS_ROWS - status.led.len();
            let led = topics.partitions().take(room);
            (status.led).extend(led.map(|p| (p.name, p.id.index, p.log_start, p.log_end, p.bytes)));
            for (name, group) in topics.groups() {
                if status.lags.len() >= STATUS_ROWS {
                    break;
                }
                let mut lags: BTreeMap<TopicId, u64> = BTreeMap::new();
                for (partition, committed) in &group.offsets {
                    let end = end_of(&here, *partition).unwrap_or(0);
                    *lags.entry(partition.topic).or_default() += behind(end, committed.offset);
                }
                let named = lags.into_iter().filter_map(|(topic, lag)| {
                    let topic = registry.topic_by_id(topic)?.name.clone();
                    Some((name.to_owned(), topic, lag))
                });
                status.lags.extend(named);
            }
        }
        self.kafka.describe(&mut status);
        Some(status)
    }

    pub(super) fn read_topics(&self, prefix: &str) -> AdminReply {
        let Some(registry) = self.registry() else {
            let message = "this core does not hold the registry of topics; ask another node".into();
            return AdminReply::Refused { message };
        };
        let here = self.topics_here();
        let mut page = TopicsPage {
            prefix: prefix.to_owned(),
            ..TopicsPage::default()
        };
        for topic in registry.topics().filter(|t| t.name.starts_with(prefix)) {
            page.topic_count += 1;
            if page.topics.len() < ROWS_SHOWN {
                page.topics.push(self.topic_row(&here, topic));
            }
        }
        for (shard, topics) in &here {
            let named = topics.groups().filter(|(name, _)| name.starts_with(prefix));
            for (name, group) in named {
                page.group_count += 1;
                if page.groups.len() < ROWS_SHOWN {
                    let row = group_row(&here, registry, name, group);
                    page.groups.push(GroupRow {
                        coordinator: self.leader_name(*shard),
                        ..row
                    });
                }
            }
        }
        page.groups.sort_by(|a, b| a.name.cmp(&b.name));
        AdminReply::Topics(page)
    }

    fn topic_row(&self, here: &[(ShardId, &Topics)], topic: &Topic) -> TopicRow {
        let partition = |index| {
            let id = PartitionId {
                topic: topic.id,
                index,
            };
            let mut found = here.iter();
            let (shard, view) = found.find_map(|(shard, t)| Some((*shard, t.partition(id)?)))?;
            Some(PartitionRow {
                index,
                shard: self.label(shard),
                leader: self.leader_name(shard),
                start: view.log_start,
                end: view.log_end,
                bytes: view.bytes,
                producers: view.producers as u64,
            })
        };
        TopicRow {
            name: topic.name.clone(),
            config: topic.config.clone().into_iter().collect(),
            partition_count: topic.partition_count.into(),
            partitions: (0..topic.partition_count)
                .filter_map(partition)
                .take(PARTITIONS_SHOWN)
                .collect(),
        }
    }
}

fn end_of(here: &[(ShardId, &Topics)], id: PartitionId) -> Option<i64> {
    here.iter()
        .find_map(|(_, t)| t.bounds(id))
        .map(|(_, end)| end)
}

fn behind(end: i64, offset: i64) -> u64 {
    u64::try_from(end.saturating_sub(offset.max(0))).unwrap_or(0)
}

fn group_row(
    here: &[(ShardId, &Topics)],
    registry: &Registry,
    name: &str,
    group: &Group,
) -> GroupRow {
    let members = group.members.iter().take(MEMBERS_SHOWN);
    let mut row = GroupRow {
        name: name.to_owned(),
        state: phase_name(group.phase).into(),
        generation: group.generation,
        protocol: group.protocol.clone(),
        members: members
            .map(|(id, member)| MemberRow {
                id: id.clone(),
                instance: member.instance.clone().unwrap_or_default(),
                client: member.client_id.clone(),
                host: member.client_host.clone(),
                leads: *id == group.leader,
            })
            .collect(),
        member_count: group.members.len() as u64,
        ..GroupRow::default()
    };
    for (id, committed) in &group.offsets {
        // What was committed of a topic that is gone is forgotten soon.
        let Some(topic) = registry.topic_by_id(id.topic) else {
            continue;
        };
        let end = end_of(here, *id);
        let lag = end.map_or(0, |end| behind(end, committed.offset));
        row.lag += lag;
        if row.positions.len() < POSITIONS_SHOWN {
            row.positions.push(PositionRow {
                topic: topic.name.clone(),
                index: id.index,
                offset: committed.offset,
                end,
                lag,
            });
        }
    }
    row
}
