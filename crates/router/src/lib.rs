//! Where a key lives: pool → slot → shard, and who leads that shard.
//!
//! The tag `{tree}` leads to the tree's own shard.

pub use base::slot::{SLOTS, hash_tag, slot_of};
use base::{NodeId, ShardId, Term};
use catalog::{Catalog, TREE_SHARD};
use std::collections::BTreeMap;

/// The hash tag that co-locates with the coordination store.
pub const TREE_TAG: &str = "tree";

/// Who leads what, as far as this core knows.
#[derive(Clone, Debug, Default)]
pub struct Router {
    leaders: BTreeMap<ShardId, (Term, Option<NodeId>)>,
}

impl Router {
    /// The shard of a key in pool `main`; `None` while no shard of the pool holds its slot.
    pub fn shard_of(&self, catalog: &Catalog, key: &[u8]) -> Option<ShardId> {
        let is_tree = hash_tag(key) == TREE_TAG.as_bytes();
        (is_tree && catalog.shards.contains_key(&TREE_SHARD)).then_some(TREE_SHARD)
    }

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

    #[test]
    fn tree_tag_leads_to_the_tree() {
        let router = Router::default();
        let mut catalog = Catalog::new();
        assert_eq!(router.shard_of(&catalog, b"{tree}lock"), None);
        let record = catalog::ShardRecord {
            name: "tree".into(),
            pool: "main".into(),
            replicas: BTreeMap::new(),
        };
        catalog.shards.insert(TREE_SHARD, record);
        assert_eq!(router.shard_of(&catalog, b"{tree}lock"), Some(TREE_SHARD));
        assert_eq!(router.shard_of(&catalog, b"lock"), None);
    }
}
