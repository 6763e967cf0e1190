//! The meta machine: who is a member, which pools and shards there are, and which replica of which
//! shard belongs on which node. Gossip may say who is reachable; only this says who belongs.
//!
//! The catalog holds what is *wanted*. The leader of each shard compares it with its group's membership
//! and takes one step at a time towards it (see the `shard` crate); when a node's last replica is gone,
//! the leader of the meta shard forgets the node.

pub mod command;
pub mod machine;
pub mod pool;

pub use command::CatalogCommand;
pub use machine::{
    Catalog, CatalogOutput, FOLLOWERS_MAX, GROUPS_MAX, GroupRecord, META_SHARD, Member,
    MemberState, SWITCHES_MAX, ShardRecord, TREE_SHARD, VOTERS_MAX,
};
pub use pool::{Durability, POOL_SHARDS_MAX, Policy, Pool, PoolSpec};
