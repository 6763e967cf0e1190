//! Where a key lives: pool → slot → shard, and who leads that shard.
//!
//! The tag `{tree}` leads to the tree's own shard.

pub use base::slot::{SLOTS, hash_tag, slot_of};
use base::{NodeId, ShardId, Term};
use catalog::{Catalog, TREE_SHARD};
use std::collections::BTreeMap;

/// The hash tag that co-locates with the coordination store.
pub const TREE_TAG: &str = "tree";

/// The shard of a key of the cache; `None` while no shard of its pool holds its slot.
pub fn key_shard(catalog: &Catalog, key: &[u8]) -> Option<ShardId> {
    if catalog.cache_pool == "main" && hash_tag(key) == TREE_TAG.as_bytes() {
        return Some(TREE_SHARD);
    }
    let pool = catalog.pools.get(&catalog.cache_pool)?;
    match pool.slots.as_slice() {
        [(_, shard)] => Some(*shard),
        _ => pool.shard_of(slot_of(key)),
    }
}

/// Who leads what, as far as this core knows.
#[derive(Clone, Debug, Default)]
pub struct Router {
    leaders: BTreeMap<ShardId, (Term, Option<NodeId>)>,
}

impl Router {
    /// A replica here has seen this leader (or none) in this term. True when that is a change.
    pub fn set_leader(&mut self, shard: ShardId, term: Term, leader: Option<NodeId>) -> bool {
        self.leaders.insert(shard, (term, leader)) != Some((term, leader))
    }

    /// A shard has no replica here any more.
    pub fn forget(&mut self, shard: ShardId) {
        self.leaders.remove(&shard);
    }

    /// Term and node of the leader, while one is known.
    pub fn leader(&self, shard: ShardId) -> Option<(Term, NodeId)> {
        let (term, leader) = self.leaders.get(&shard)?;
        leader.map(|node| (*term, node))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use catalog::{Pool, PoolSpec};

    #[test]
    fn keys_lie_in_their_slots_and_the_tree_tag_leads_to_the_tree() {
        let mut catalog = Catalog::new();
        catalog.cache_pool = "main".into();
        assert_eq!(key_shard(&catalog, b"lock"), None);
        let shards = [ShardId(3), ShardId(4)];
        let pool = Pool::new(&PoolSpec::main(2), &shards);
        catalog.pools.insert("main".into(), pool);
        assert_eq!(key_shard(&catalog, b"{tree}lock"), Some(TREE_SHARD));
        assert_eq!(key_shard(&catalog, b"foo"), Some(ShardId(4)));
        assert_eq!(key_shard(&catalog, b"a{foo}"), Some(ShardId(4)));
    }
}
