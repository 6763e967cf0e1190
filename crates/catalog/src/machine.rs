//! The catalog's state.

use crate::command::CatalogCommand;
use crate::pool::{Durability, Policy, Pool};
use base::{
    ApplyFault, ClusterId, DecodeError, Machine, NodeId, Reader, ReplicaId, ShardId, SnapshotPoll,
    Stamp, State, Writer,
};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};

/// The catalog's own shard.
pub const META_SHARD: ShardId = ShardId(1);
/// The shard that holds the coordination store, in pool `main`; hash tag `{tree}` leads to it.
pub const TREE_SHARD: ShardId = ShardId(2);
/// More members than this follow without a vote: a larger quorum costs latency and buys nothing.
pub const VOTERS_MAX: usize = 5;

/// Most switches that are set at a time.
pub const SWITCHES_MAX: usize = 1_000;
/// Nodes of stand-bys that are remembered; further ones follow all the same.
pub const FOLLOWERS_MAX: usize = 16;
/// Most groups at a time.
pub const GROUPS_MAX: usize = 64;

const FORMAT: u8 = 1;

/// A member's state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MemberState {
    /// It belongs.
    Member,
    /// Its replicas are being taken away.
    Leaving,
}

/// A member.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member {
    /// `host:port` between nodes.
    pub address: String,
    /// Whether it stays.
    pub state: MemberState,
    /// It follows without a vote, and serves reads.
    pub observes: bool,
}

/// A shard and where its replicas are wanted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ShardRecord {
    /// For people: `meta`, `tree`.
    pub name: String,
    /// The pool that sets its policy.
    pub pool: String,
    /// Wanted replicas and their nodes.
    pub replicas: BTreeMap<ReplicaId, NodeId>,
}

/// A group of nodes that run a protocol among equals.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupRecord {
    /// For people.
    pub name: String,
    /// By its name.
    pub protocol: String,
    /// In the order of their peers' numbers, from 1 on.
    pub nodes: Vec<NodeId>,
}

/// What applying a catalog command tells the outside.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CatalogOutput {
    /// Something changed; look at the whole, it is small.
    Changed,
}

/// The cluster that this one follows, or followed.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Source {
    /// Its id; 0 while it was not heard.
    pub cluster: ClusterId,
    /// Inter-node addresses of its nodes.
    pub addresses: Vec<String>,
    /// This cluster took its place.
    pub is_promoted: bool,
}

/// The meta machine.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Catalog {
    /// The cluster; 0 until it is formed.
    pub cluster: ClusterId,
    /// Nodes named at the start.
    pub initial_members: u32,
    /// True once they all voted; from then on clients are served.
    pub formed: bool,
    /// Members by node.
    pub members: BTreeMap<NodeId, Member>,
    /// Shards.
    pub shards: BTreeMap<ShardId, ShardRecord>,
    /// The next replica id: they are never reused.
    pub next_replica: u64,
    /// Pools by name.
    pub pools: BTreeMap<String, Pool>,
    /// Of which pool cache keys are.
    pub cache_pool: String,
    /// Switches of the gateways that are set, by name.
    pub switches: BTreeMap<String, String>,
    /// Set on a stand-by, and on what was one.
    pub source: Option<Source>,
    /// The stand-by that took this cluster's place: it serves nobody any more.
    pub superseded_by: Option<String>,
    /// Nodes of stand-bys that follow this cluster, or did: their inter-node addresses.
    pub followers: BTreeSet<String>,
    /// Groups, by numbers that are never used twice.
    pub groups: BTreeMap<u64, GroupRecord>,
    next_group: u64,
    cut: Option<Vec<u8>>,
}

impl Catalog {
    /// Before the first entry.
    pub fn new() -> Self {
        Self::default()
    }

    /// The shard of this name.
    pub fn shard_named(&self, name: &str) -> Option<ShardId> {
        (self.shards.iter())
            .find(|(_, s)| s.name == name)
            .map(|(id, _)| *id)
    }

    /// The group of this name, with its number.
    pub fn group_named(&self, name: &str) -> Option<(u64, &GroupRecord)> {
        let mut groups = self.groups.iter();
        let found = groups.find(|(_, group)| group.name == name);
        found.map(|(number, group)| (*number, group))
    }

    /// True when no replica is wanted on the node.
    pub fn holds_nothing(&self, node: NodeId) -> bool {
        (self.shards.values()).all(|s| s.replicas.values().all(|n| *n != node))
    }

    /// How a shard is replicated.
    pub fn policy(&self, record: &ShardRecord) -> Policy {
        (self.pools.get(&record.pool)).map_or(Policy::Raft, |pool| pool.policy)
    }

    /// When what a shard acknowledges is on disk.
    pub fn durability(&self, shard: ShardId) -> Durability {
        (self.shards.get(&shard))
            .and_then(|record| self.pools.get(&record.pool))
            .map_or(Durability::Always, |pool| pool.durability)
    }

    fn new_shard(&mut self, shard: ShardId, name: &str, pool: &str, node: NodeId) {
        let record = ShardRecord {
            name: name.into(),
            pool: pool.into(),
            replicas: BTreeMap::from([(ReplicaId(shard.0), node)]),
        };
        self.shards.insert(shard, record);
    }

    fn new_replica(&mut self, shard: ShardId, node: NodeId) {
        let id = ReplicaId(self.next_replica);
        self.next_replica += 1;
        if let Some(record) = self.shards.get_mut(&shard) {
            record.replicas.insert(id, node);
        }
    }

    fn apply_command(&mut self, command: CatalogCommand) {
        match command {
            CatalogCommand::Form {
                cluster,
                node,
                address,
                initial_members,
                pools,
                cache_pool,
            } => {
                if self.cluster != ClusterId::default() {
                    return;
                }
                self.cluster = cluster;
                self.initial_members = initial_members;
                self.formed = initial_members <= 1;
                self.add_member(node, address, false);
                // The founder's first replica of each shard has the shard's number.
                self.new_shard(META_SHARD, "meta", "meta", node);
                self.new_shard(TREE_SHARD, "tree", "main", node);
                let mut next = TREE_SHARD.0 + 1;
                for spec in pools.iter().filter(|spec| spec.check().is_ok()) {
                    let ids: Vec<ShardId> =
                        (next..).map(ShardId).take(spec.shards.into()).collect();
                    for (i, shard) in ids.iter().enumerate() {
                        let name = format!("{}/{i}", spec.name);
                        self.new_shard(*shard, &name, &spec.name, node);
                    }
                    next += ids.len() as u64;
                    self.pools.insert(spec.name.clone(), Pool::new(spec, &ids));
                }
                self.cache_pool = cache_pool;
                self.next_replica = next;
            }
            CatalogCommand::Admit {
                node,
                address,
                observes,
            } => {
                if self.members.contains_key(&node) {
                    return;
                }
                // Another node at this address has lost its data directory: it will not come back.
                let replaced: Vec<NodeId> = (self.members.iter())
                    .filter(|(_, m)| m.address == address)
                    .map(|(id, _)| *id)
                    .collect();
                for old in replaced {
                    self.leave(old);
                }
                self.add_member(node, address, observes);
                let shards: Vec<ShardId> = (self.shards.iter())
                    .filter(|(_, record)| self.policy(record) == Policy::Raft)
                    .map(|(id, _)| *id)
                    .collect();
                for shard in shards {
                    self.new_replica(shard, node);
                }
            }
            CatalogCommand::Leave { node } => self.leave(node),
            CatalogCommand::Forget { node } => {
                let leaving =
                    (self.members.get(&node)).is_some_and(|m| m.state == MemberState::Leaving);
                if leaving && self.holds_nothing(node) {
                    self.members.remove(&node);
                }
            }
            CatalogCommand::ReplaceReplica { shard, replica } => {
                let Some(record) = self.shards.get_mut(&shard) else {
                    return;
                };
                if let Some(node) = record.replicas.remove(&replica) {
                    self.new_replica(shard, node);
                }
            }
            CatalogCommand::Formed => self.formed = true,
            CatalogCommand::Follow { cluster, addresses } => {
                let source = self.source.get_or_insert_default();
                let is_it = source.cluster == ClusterId::default() || source.cluster == cluster;
                if !source.is_promoted && is_it {
                    source.cluster = cluster;
                    source.addresses = addresses;
                }
            }
            CatalogCommand::Promote => {
                if let Some(source) = &mut self.source {
                    source.is_promoted = true;
                }
            }
            CatalogCommand::Supersede { by } => {
                self.superseded_by.get_or_insert(by);
            }
            CatalogCommand::FollowedBy { address } => {
                if self.followers.len() < FOLLOWERS_MAX {
                    self.followers.insert(address);
                }
            }
            CatalogCommand::SetSwitch { name, value } => {
                if value.is_empty() {
                    self.switches.remove(&name);
                } else if self.switches.len() < SWITCHES_MAX || self.switches.contains_key(&name) {
                    self.switches.insert(name, value);
                }
            }
            CatalogCommand::CreateGroup {
                name,
                protocol,
                nodes,
            } => {
                if self.groups.len() < GROUPS_MAX && self.group_named(&name).is_none() {
                    self.next_group += 1;
                    let group = GroupRecord {
                        name,
                        protocol,
                        nodes,
                    };
                    self.groups.insert(self.next_group, group);
                }
            }
            CatalogCommand::DeleteGroup { name } => {
                self.groups.retain(|_, group| group.name != name);
            }
        }
    }

    fn add_member(&mut self, node: NodeId, address: String, observes: bool) {
        let member = Member {
            address,
            state: MemberState::Member,
            observes,
        };
        self.members.insert(node, member);
    }

    /// Its replicas are not wanted any more; a single copy is wanted on another member instead.
    fn leave(&mut self, node: NodeId) {
        let Some(member) = self.members.get_mut(&node) else {
            return;
        };
        member.state = MemberState::Leaving;
        let heir = (self.members.iter())
            .find(|(_, m)| m.state == MemberState::Member && !m.observes)
            .map(|(id, _)| *id);
        let mut moved = Vec::new();
        for (shard, record) in &mut self.shards {
            let held = record.replicas.len();
            record.replicas.retain(|_, n| *n != node);
            if held > 0 && record.replicas.is_empty() {
                moved.push(*shard);
            }
        }
        if let Some(heir) = heir {
            moved.into_iter().for_each(|s| self.new_replica(s, heir));
        }
    }

    /// A hash of which data shards there are and which slots they hold: a stand-by has the same.
    pub fn layout(&self) -> u64 {
        let mut w = Writer::new();
        for (shard, record) in &self.shards {
            w.u64(shard.0).str(&record.name).str(&record.pool);
        }
        for (name, pool) in &self.pools {
            w.str(name);
            pool.encode_into(&mut w);
        }
        w.str(&self.cache_pool);
        let mut hasher = base::map::Fnv::default();
        std::hash::Hasher::write(&mut hasher, w.as_slice());
        std::hash::Hasher::finish(&hasher)
    }

    /// The whole state in bytes; also what a node's cores tell each other.
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        w.u8(FORMAT).u64(self.cluster.0).u32(self.initial_members);
        w.bool(self.formed).u64(self.next_replica);
        w.u32(self.members.len() as u32);
        for (node, member) in &self.members {
            w.u64(node.0).str(&member.address);
            let leaving = u8::from(member.state == MemberState::Leaving);
            w.u8(leaving | u8::from(member.observes) << 1);
        }
        w.u32(self.shards.len() as u32);
        for (shard, record) in &self.shards {
            w.u64(shard.0).str(&record.name).str(&record.pool);
            w.u32(record.replicas.len() as u32);
            for (replica, node) in &record.replicas {
                w.u64(replica.0).u64(node.0);
            }
        }
        w.u32(self.pools.len() as u32);
        for (name, pool) in &self.pools {
            w.str(name);
            pool.encode_into(&mut w);
        }
        w.str(&self.cache_pool);
        // Without any of these the form is as it was before there were any.
        let stands_by = self.source.is_some() || self.superseded_by.is_some();
        let followed = !self.followers.is_empty();
        let groups = self.next_group > 0 || followed;
        if !self.switches.is_empty() || stands_by || groups {
            w.u32(self.switches.len() as u32);
            for (name, value) in &self.switches {
                w.str(name).str(value);
            }
        }
        if stands_by || groups {
            w.str(self.superseded_by.as_deref().unwrap_or_default());
            w.bool(self.source.is_some());
        }
        if let Some(source) = &self.source {
            w.u64(source.cluster.0).bool(source.is_promoted);
            w.u32(source.addresses.len() as u32);
            source.addresses.iter().for_each(|address| {
                w.str(address);
            });
        }
        if groups {
            w.u64(self.next_group).u32(self.groups.len() as u32);
            for (number, group) in &self.groups {
                w.u64(*number).str(&group.name).str(&group.protocol);
                w.u32(group.nodes.len() as u32);
                group.nodes.iter().for_each(|node| {
                    w.u64(node.0);
                });
            }
        }
        if followed {
            w.u32(self.followers.len() as u32);
            for address in &self.followers {
                w.str(address);
            }
        }
        w.into_vec()
    }

    /// Reads the whole state.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        if r.u8()? != FORMAT {
            return Err(DecodeError::Invalid("catalog format"));
        }
        let mut catalog = Self {
            cluster: ClusterId(r.u64()?),
            initial_members: r.u32()?,
            formed: r.bool()?,
            next_replica: r.u64()?,
            ..Self::default()
        };
        for _ in 0..r.count(13)? {
            let node = NodeId(r.u64()?);
            let address = r.str()?.to_owned();
            let flags = r.u8()?;
            if flags > 3 {
                return Err(DecodeError::Invalid("state of a member"));
            }
            let member = Member {
                address,
                state: match flags & 1 {
                    0 => MemberState::Member,
                    _ => MemberState::Leaving,
                },
                observes: flags & 2 != 0,
            };
            catalog.members.insert(node, member);
        }
        for _ in 0..r.count(20)? {
            let shard = ShardId(r.u64()?);
            let (name, pool) = (r.str()?.to_owned(), r.str()?.to_owned());
            let mut replicas = BTreeMap::new();
            for _ in 0..r.count(16)? {
                replicas.insert(ReplicaId(r.u64()?), NodeId(r.u64()?));
            }
            let record = ShardRecord {
                name,
                pool,
                replicas,
            };
            catalog.shards.insert(shard, record);
        }
        for _ in 0..r.count(10)? {
            let name = r.str()?.to_owned();
            catalog.pools.insert(name, Pool::decode_from(&mut r)?);
        }
        r.str()?.clone_into(&mut catalog.cache_pool);
        if !r.is_empty() {
            for _ in 0..r.count(8)? {
                let name = r.str()?.to_owned();
                catalog.switches.insert(name, r.str()?.to_owned());
            }
        }
        if !r.is_empty() {
            let by = r.str()?;
            catalog.superseded_by = (!by.is_empty()).then(|| by.to_owned());
            if r.bool()? {
                let (cluster, is_promoted) = (ClusterId(r.u64()?), r.bool()?);
                let addresses = (0..r.count(4)?).map(|_| Ok(r.str()?.to_owned()));
                catalog.source = Some(Source {
                    cluster,
                    is_promoted,
                    addresses: addresses.collect::<Result<_, DecodeError>>()?,
                });
            }
        }
        if !r.is_empty() {
            catalog.next_group = r.u64()?;
            for _ in 0..r.count(20)? {
                let number = r.u64()?;
                let group = GroupRecord {
                    name: r.str()?.to_owned(),
                    protocol: r.str()?.to_owned(),
                    nodes: (0..r.count(8)?)
                        .map(|_| Ok(NodeId(r.u64()?)))
                        .collect::<Result<_, DecodeError>>()?,
                };
                catalog.groups.insert(number, group);
            }
            if !r.is_empty() {
                for _ in 0..r.count(4)? {
                    catalog.followers.insert(r.str()?.to_owned());
                }
            }
        }
        r.finish()?;
        Ok(catalog)
    }
}

impl Machine for Catalog {
    type Output = CatalogOutput;

    fn apply(
        &mut self,
        _stamp: Stamp,
        unit: &[u8],
        out: &mut Vec<CatalogOutput>,
    ) -> Result<(), ApplyFault> {
        let unit = Bytes::copy_from_slice(unit);
        let command =
            CatalogCommand::decode(&unit).map_err(|e| ApplyFault::UnknownCommand(e.to_string()))?;
        self.apply_command(command);
        out.push(CatalogOutput::Changed);
        Ok(())
    }
}

impl State for Catalog {
    /// FNV-1a over the byte form: the catalog is small and changes seldom.
    fn digest(&self) -> u64 {
        let mut hasher = base::map::Fnv::default();
        std::hash::Hasher::write(&mut hasher, &self.encode());
        std::hash::Hasher::finish(&hasher)
    }

    /// A few kilobytes, copied at once.
    fn begin_snapshot(&mut self) {
        self.cut = Some(self.encode());
    }

    fn poll_snapshot(&mut self, _bytes_max: usize) -> SnapshotPoll {
        match self.cut.take() {
            Some(bytes) => SnapshotPoll::Chunk(bytes),
            None => SnapshotPoll::Done,
        }
    }

    fn abort_snapshot(&mut self) {
        self.cut = None;
    }

    fn restore(&mut self, chunk: &[u8]) -> Result<(), String> {
        *self = Self::decode(chunk).map_err(|e| format!("catalog snapshot: {e}"))?;
        Ok(())
    }

    fn finish_restore(&mut self) -> Result<(), String> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::PoolSpec;

    fn formed() -> Catalog {
        let mut c = Catalog::new();
        c.apply_command(CatalogCommand::Form {
            cluster: ClusterId(9),
            node: NodeId(1),
            address: "a:1".into(),
            initial_members: 3,
            pools: vec![PoolSpec::main(1)],
            cache_pool: "main".into(),
        });
        c
    }

    fn admit(c: &mut Catalog, node: u64, address: &str) {
        c.apply_command(CatalogCommand::Admit {
            node: NodeId(node),
            address: address.into(),
            observes: false,
        });
    }

    #[test]
    fn admitted_node_is_wanted_in_every_shard_under_fresh_ids() {
        let mut c = formed();
        admit(&mut c, 2, "b:1");
        assert_eq!(c.shards[&META_SHARD].replicas[&ReplicaId(4)], NodeId(2));
        assert_eq!(c.shards[&TREE_SHARD].replicas[&ReplicaId(5)], NodeId(2));
        let before = c.clone();
        admit(&mut c, 2, "b:1");
        assert_eq!(c, before, "repeating it is harmless");
    }

    #[test]
    fn standby_is_promoted_once_and_follows_one_cluster() {
        let mut c = formed();
        let plain = c.encode();
        let follow = |c: &mut Catalog, cluster, address: &str| {
            c.apply_command(CatalogCommand::Follow {
                cluster: ClusterId(cluster),
                addresses: vec![address.into()],
            });
        };
        c.apply_command(CatalogCommand::Promote);
        assert_eq!(c.encode(), plain, "there is nothing to promote");
        follow(&mut c, 0, "a:1");
        follow(&mut c, 5, "b:1");
        follow(&mut c, 6, "c:1");
        let source = c.source.clone().expect("a source");
        assert_eq!(
            (source.cluster, &source.addresses[0][..]),
            (ClusterId(5), "b:1")
        );
        c.apply_command(CatalogCommand::Promote);
        follow(&mut c, 5, "d:1");
        let source = c.source.clone().expect("a source");
        assert_eq!(
            (source.is_promoted, &source.addresses[0][..]),
            (true, "b:1")
        );
        assert_eq!(Catalog::decode(&c.encode()), Ok(c.clone()));
        c.apply_command(CatalogCommand::Supersede { by: "x".into() });
        c.apply_command(CatalogCommand::Supersede { by: "y".into() });
        assert_eq!(c.superseded_by.as_deref(), Some("x"));
        assert_eq!(Catalog::decode(&c.encode()), Ok(c));
    }

    #[test]
    fn so_many_followers_are_remembered_and_no_more() {
        let mut c = formed();
        for number in 0..=FOLLOWERS_MAX {
            let address = format!("s{number:02}:1");
            c.apply_command(CatalogCommand::FollowedBy { address });
            assert_eq!(Catalog::decode(&c.encode()), Ok(c.clone()));
        }
        assert_eq!(c.followers.len(), FOLLOWERS_MAX);
        assert!(c.followers.contains("s00:1"));
    }

    #[test]
    fn observer_is_no_heir_and_survives_the_byte_form() {
        let mut c = formed();
        c.apply_command(CatalogCommand::Admit {
            node: NodeId(2),
            address: "b:1".into(),
            observes: true,
        });
        assert!(c.members[&NodeId(2)].observes && !c.members[&NodeId(1)].observes);
        assert_eq!(c.shards[&TREE_SHARD].replicas[&ReplicaId(5)], NodeId(2));
        assert_eq!(Catalog::decode(&c.encode()), Ok(c.clone()));
        c.apply_command(CatalogCommand::Leave { node: NodeId(2) });
        assert_eq!(Catalog::decode(&c.encode()), Ok(c));
    }

    #[test]
    fn wiped_node_replaces_the_one_at_its_address() {
        let mut c = formed();
        admit(&mut c, 2, "b:1");
        admit(&mut c, 3, "b:1");
        assert_eq!(c.members[&NodeId(2)].state, MemberState::Leaving);
        assert!(c.holds_nothing(NodeId(2)));
        assert_eq!(c.shards[&TREE_SHARD].replicas[&ReplicaId(8)], NodeId(3));
        c.apply_command(CatalogCommand::Forget { node: NodeId(3) });
        assert!(c.members.contains_key(&NodeId(3)), "it is not leaving");
        c.apply_command(CatalogCommand::Forget { node: NodeId(2) });
        assert!(!c.members.contains_key(&NodeId(2)));
    }

    #[test]
    fn single_copy_is_not_given_to_newcomers_and_moves_when_its_node_leaves() {
        let mut c = Catalog::new();
        let single = PoolSpec {
            name: "cache".into(),
            policy: Policy::Single,
            durability: Durability::EverySecond,
            shards: 2,
        };
        c.apply_command(CatalogCommand::Form {
            cluster: ClusterId(9),
            node: NodeId(1),
            address: "a:1".into(),
            initial_members: 1,
            pools: vec![PoolSpec::main(1), single],
            cache_pool: "cache".into(),
        });
        admit(&mut c, 2, "b:1");
        let shard = c.pools["cache"].shard_of(16_383).unwrap();
        assert_eq!(c.shards[&shard].name, "cache/1");
        assert_eq!(c.durability(shard), Durability::EverySecond);
        assert_eq!(c.durability(TREE_SHARD), Durability::Always);
        let on = |c: &Catalog| {
            c.shards[&shard]
                .replicas
                .values()
                .copied()
                .collect::<Vec<_>>()
        };
        assert_eq!(on(&c), [NodeId(1)]);
        c.apply_command(CatalogCommand::Leave { node: NodeId(1) });
        assert_eq!(on(&c), [NodeId(2)]);
        assert!(c.holds_nothing(NodeId(1)));
        assert_eq!(Catalog::decode(&c.encode()), Ok(c));
    }

    #[test]
    fn lost_replica_comes_back_under_another_id() {
        let mut c = formed();
        c.apply_command(CatalogCommand::ReplaceReplica {
            shard: TREE_SHARD,
            replica: ReplicaId(2),
        });
        assert_eq!(
            c.shards[&TREE_SHARD].replicas,
            BTreeMap::from([(ReplicaId(4), NodeId(1))])
        );
    }

    #[test]
    fn switches_are_kept_until_they_are_removed_and_are_bounded() {
        let mut c = formed();
        let before = c.encode();
        let mut set = |name: &str, value: &str| {
            c.apply_command(CatalogCommand::SetSwitch {
                name: name.into(),
                value: value.into(),
            });
            c.clone()
        };
        let now = set("shop", "on");
        assert_eq!(now.switches["shop"], "on");
        assert_eq!(Catalog::decode(&now.encode()), Ok(now));
        assert_eq!(set("shop", "").encode(), before);
        (0..SWITCHES_MAX).for_each(|i| _ = set(&i.to_string(), "off"));
        assert_eq!(set("more", "on").switches.len(), SWITCHES_MAX);
        assert_eq!(set("7", "severe").switches["7"], "severe");
    }

    #[test]
    fn catalog_survives_its_byte_form_and_refuses_cuts() {
        let mut c = formed();
        admit(&mut c, 2, "b:1");
        c.apply_command(CatalogCommand::Leave { node: NodeId(2) });
        let bytes = c.encode();
        assert_eq!(Catalog::decode(&bytes), Ok(c));
        assert!((0..bytes.len()).all(|cut| Catalog::decode(&bytes[..cut]).is_err()));
    }
}
