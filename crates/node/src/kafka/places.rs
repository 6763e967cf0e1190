//! Who holds what: partitions and groups by slot, brokers by node.

use super::{Context, Kafka};
use crate::event::FrontEnd;
use base::{NodeId, ShardId};
use catalog::TREE_SHARD;
use messaging::{PartitionId, Registry, Topic, Topics};
use router::{TREE_TAG, slot_of};
use shard::Shard;
use std::collections::BTreeSet;
use wire_kafka::reply::{Broker, Outcome};
use wire_kafka::{Error, Reply, Request};

/// The pool that partitions and groups lie in.
pub const POOL: &str = "main";

impl<'a> Context<'a> {
    /// Which topics there are.
    pub fn registry(&self) -> Option<&'a Registry> {
        let here = self.data(TREE_SHARD).map(|data| &data.registry);
        here.or(self.registry_copy)
    }

    /// What a shard holds of topics.
    pub fn topics(&self, shard: ShardId) -> Option<&'a Topics> {
        Some(&self.data(shard)?.topics)
    }

    /// The shards that partitions and groups lie in.
    pub fn shards(&self) -> BTreeSet<ShardId> {
        let pool = self.catalog.pools.get(POOL);
        let shards = pool.into_iter().flat_map(|pool| pool.shards());
        shards.chain([TREE_SHARD]).collect()
    }

    /// The shard of a group.
    pub fn group_shard(&self, group: &str) -> Option<ShardId> {
        let pool = self.catalog.pools.get(POOL)?;
        pool.shard_of(slot_of(group.as_bytes()))
    }

    /// The shard of a partition.
    pub fn partition_shard(&self, topic: &Topic, index: u32) -> Option<ShardId> {
        let pool = self.catalog.pools.get(POOL)?;
        match (topic.placement_tag(), pool.slots.as_slice()) {
            (Some(TREE_TAG), _) => Some(TREE_SHARD),
            (_, [(_, shard)]) => Some(*shard),
            (Some(tag), _) => pool.shard_of(slot_of(tag.as_bytes())),
            (None, _) => pool.shard_of(slot_of(format!("{}-{index}", topic.name).as_bytes())),
        }
    }

    /// True when the replica here leads its shard, as far as it knows.
    pub fn leads(&self, shard: ShardId) -> bool {
        self.replicas.get(shard).is_some_and(Shard::is_leader)
    }

    /// The nodes that shall hold a shard.
    pub fn holders(&self, shard: ShardId) -> Vec<NodeId> {
        let record = self.catalog.shards.get(&shard);
        let nodes = record.iter().flat_map(|r| r.replicas.values().copied());
        nodes.collect()
    }
}

/// A partition that exists.
pub fn partition(
    cx: &Context<'_>,
    topic: &str,
    index: i32,
) -> Outcome<(Option<ShardId>, PartitionId)> {
    let registry = cx.registry().ok_or(Error::LeaderNotAvailable)?;
    let topic = registry
        .topic(topic)
        .ok_or(Error::UnknownTopicOrPartition)?;
    let index = u32::try_from(index).map_err(|_| Error::UnknownTopicOrPartition)?;
    if index >= topic.partition_count {
        return Err(Error::UnknownTopicOrPartition);
    }
    let id = PartitionId {
        topic: topic.id,
        index,
    };
    Ok((cx.partition_shard(topic, index), id))
}

/// The same if this node leads its shard, with what that holds.
pub fn led_partition<'a>(
    cx: &Context<'a>,
    topic: &str,
    index: i32,
) -> Outcome<(ShardId, PartitionId, &'a Topics)> {
    let (shard, id) = partition(cx, topic, index)?;
    let shard = shard.ok_or(Error::LeaderNotAvailable)?;
    if !cx.leads(shard) {
        return Err(Error::NotLeaderOrFollower);
    }
    match cx.topics(shard) {
        Some(topics) if topics.has_partition(id) => Ok((shard, id, topics)),
        // It is about to be opened.
        _ => Err(Error::LeaderNotAvailable),
    }
}

/// The shard of a group that is coordinated here, with what that holds.
pub fn led_group<'a>(cx: &Context<'a>, group: &str) -> Outcome<(ShardId, &'a Topics)> {
    let shard = cx
        .group_shard(group)
        .ok_or(Error::CoordinatorNotAvailable)?;
    if !cx.leads(shard) {
        return Err(Error::NotCoordinator);
    }
    let topics = cx.topics(shard).ok_or(Error::CoordinatorNotAvailable)?;
    Ok((shard, topics))
}

/// The shards whose states a read needs to be as new as any: those of them that are led here, and the
/// registry's where that is what is asked for.
pub fn read_shards(cx: &Context<'_>, request: &Request) -> BTreeSet<ShardId> {
    let of = |topic: &str, index: i32| {
        led_partition(cx, topic, index)
            .ok()
            .map(|(shard, ..)| shard)
    };
    let of_group = |group: &str| led_group(cx, group).ok().map(|(shard, _)| shard);
    match request {
        Request::DescribeConfigs(_) => BTreeSet::from([TREE_SHARD]),
        Request::ListOffsets(topics) => (topics.iter())
            .flat_map(|t| t.partitions.iter().filter_map(|p| of(&t.topic, p.index)))
            .collect(),
        Request::OffsetForLeaderEpoch(topics) => (topics.iter())
            .flat_map(|t| t.partitions.iter().filter_map(|p| of(&t.topic, p.index)))
            .collect(),
        Request::Heartbeat { group, .. } => of_group(group).into_iter().collect(),
        // A topic that is not known here yet would be one of which nothing was committed.
        Request::OffsetFetch(groups) => (groups.iter())
            .filter_map(|group| of_group(&group.group))
            .flat_map(|shard| [shard, TREE_SHARD])
            .collect(),
        Request::DescribeGroups(names) => names.iter().filter_map(|n| of_group(n)).collect(),
        Request::ListGroups(_) => {
            let all = cx.shards().into_iter();
            all.filter(|shard| cx.leads(*shard)).collect()
        }
        _ => BTreeSet::new(),
    }
}

/// The number that Kafka's clients know a node by. Nodes' ids are random, so two nodes of a cluster have
/// different numbers but for one chance in two thousand million.
pub fn broker_id(node: NodeId) -> i32 {
    ((node.0 ^ (node.0 >> 32)) & 0x7fff_ffff) as i32
}

impl Kafka {
    /// A node as a broker, once it is known where clients reach it.
    pub(super) fn broker(&self, cx: &Context<'_>, node: NodeId) -> Option<Broker> {
        let address = if node == self.me.node {
            self.listener.as_ref()
        } else {
            cx.peers.listener(node, FrontEnd::Kafka)
        };
        let (host, port) = address?.rsplit_once(':')?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        Some(Broker {
            id: broker_id(node),
            host: host.to_owned(),
            port: port.parse().ok()?,
        })
    }

    pub(super) fn brokers(&self, cx: &Context<'_>) -> Vec<Broker> {
        let nodes = cx.catalog.members.keys();
        nodes.filter_map(|node| self.broker(cx, *node)).collect()
    }

    /// The broker that leads a shard, once it is known where clients reach it.
    pub(super) fn leader(&self, cx: &Context<'_>, shard: ShardId) -> Option<Broker> {
        let (_, node) = cx.router.leader(shard)?;
        self.broker(cx, node)
    }

    /// The broker that administers topics: any can, and that which leads knows of it first. While it is not known
    /// which one that is, or where, it is this one: told of none, a client of librdkafka asks once more and then waits
    /// for something else to change.
    pub(super) fn controller(&self, cx: &Context<'_>) -> i32 {
        let leader = self.leader(cx, TREE_SHARD).map(|broker| broker.id);
        leader.unwrap_or_else(|| broker_id(self.me.node))
    }

    pub(super) fn describe_cluster(&self, cx: &Context<'_>) -> Reply {
        Reply::DescribeCluster {
            brokers: self.brokers(cx),
            cluster_id: cluster_id(cx),
            controller: self.controller(cx),
        }
    }

    pub(super) fn find_coordinator(&self, cx: &Context<'_>, kind: i8, keys: Vec<String>) -> Reply {
        let find = |key: &str| match kind {
            0 => (cx.group_shard(key))
                .and_then(|shard| self.leader(cx, shard))
                .ok_or(Error::CoordinatorNotAvailable),
            // There are no transactions; this error ends a client's attempts.
            1 => Err(Error::TransactionalIdAuthorizationFailed),
            _ => Err(Error::InvalidRequest),
        };
        let found = keys.into_iter().map(|key| {
            let broker = find(&key);
            (key, broker)
        });
        Reply::FindCoordinator(found.collect())
    }
}

/// What the cluster is called.
pub fn cluster_id(cx: &Context<'_>) -> String {
    format!("{:016x}", cx.catalog.cluster.0)
}
