//! Where a key lives: pool → slot → shard, and who leads that shard.
//!
//! A pool has 16,384 slots; a key's slot is CRC-16 (XMODEM) of it, or of its hash tag (the text between
//! the first `{` and the next `}`, when there is any). The tag `{tree}` leads to the tree's own shard.

use base::{NodeId, ShardId, Term};
use catalog::{Catalog, TREE_SHARD};
use std::collections::BTreeMap;

/// Slots of a pool.
pub const SLOTS: u16 = 16_384;
/// The hash tag that co-locates with the coordination store.
pub const TREE_TAG: &str = "tree";

/// What of a key is hashed.
pub fn hash_tag(key: &[u8]) -> &[u8] {
    let Some(open) = key.iter().position(|b| *b == b'{') else {
        return key;
    };
    let rest = &key[open + 1..];
    match rest.iter().position(|b| *b == b'}') {
        Some(close) if close > 0 => &rest[..close],
        _ => key,
    }
}

/// The slot of a key, 0 to 16,383.
pub fn slot_of(key: &[u8]) -> u16 {
    crc16(hash_tag(key)) % SLOTS
}

/// CRC-16/XMODEM: polynomial 0x1021, initial value 0.
fn crc16(bytes: &[u8]) -> u16 {
    let mut crc = 0u16;
    for byte in bytes {
        crc ^= u16::from(*byte) << 8;
        for _ in 0..8 {
            crc = if crc & 0x8000 == 0 {
                crc << 1
            } else {
                (crc << 1) ^ 0x1021
            };
        }
    }
    crc
}

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
    fn m10_slots_golden() {
        assert_eq!(slot_of(b"foo"), 12_182);
        let thirds = [0..=5500, 5501..=11000, 11001..=16383u16];
        let third = thirds.iter().position(|r| r.contains(&slot_of(b"foo")));
        assert_eq!(third, Some(2), "the third node's");
    }

    #[test]
    fn hash_tags_co_locate() {
        assert_eq!(slot_of(b"{user1}.a"), slot_of(b"{user1}.b"));
        assert_eq!(hash_tag(b"a{}b"), b"a{}b");
        assert_eq!(hash_tag(b"a{b"), b"a{b");
        assert_eq!(hash_tag(b"{{x}y"), b"{x");
    }

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
