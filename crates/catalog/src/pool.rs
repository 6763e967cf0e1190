//! Pools: a replication policy, a durability, and the slots that are spread over the pool's shards.

use base::slot::SLOTS;
use base::{DecodeError, Reader, ShardId, Writer};

/// How a pool's shards are replicated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Policy {
    /// A majority of the members holds what is acknowledged.
    Raft,
    /// One node holds it: nothing is served while that node is away.
    Single,
}

/// When what a single copy acknowledges is on its disk. A raft pool is always [`Durability::Always`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Durability {
    /// Before it is acknowledged.
    Always,
    /// Within a second: a crash loses at most what that second acknowledged.
    EverySecond,
    /// Some time.
    None,
}

/// A pool as it is asked for when a cluster is formed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PoolSpec {
    /// Its name.
    pub name: String,
    /// How it is replicated.
    pub policy: Policy,
    /// When it is on disk.
    pub durability: Durability,
    /// Into how many shards its slots are spread, from 1 to [`POOL_SHARDS_MAX`].
    pub shards: u16,
}

/// More shards than this in one pool are refused.
pub const POOL_SHARDS_MAX: u16 = 1_024;

/// A pool.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pool {
    /// How it is replicated.
    pub policy: Policy,
    /// When it is on disk.
    pub durability: Durability,
    /// Ranges of slots in ascending order: the first slot of each, and who holds it.
    pub slots: Vec<(u16, ShardId)>,
}

impl PoolSpec {
    /// Three copies or as many as there are members, and nothing acknowledged is lost.
    pub fn main(shards: u16) -> Self {
        Self {
            name: "main".into(),
            policy: Policy::Raft,
            durability: Durability::Always,
            shards,
        }
    }

    /// Why such a pool cannot be.
    pub fn check(&self) -> Result<(), String> {
        let name = &self.name;
        if self.shards == 0 || self.shards > POOL_SHARDS_MAX {
            return Err(format!(
                "pool {name}: shards must be from 1 to {POOL_SHARDS_MAX}"
            ));
        }
        if self.policy == Policy::Raft && self.durability != Durability::Always {
            return Err(format!(
                "pool {name}: a raft pool is always durable; choose a single copy for less"
            ));
        }
        Ok(())
    }

    pub(crate) fn encode_into(&self, w: &mut Writer) {
        w.str(&self.name).u8(self.policy as u8);
        w.u8(self.durability as u8).u16(self.shards);
    }

    pub(crate) fn decode_from(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            name: r.str()?.to_owned(),
            policy: policy(r.u8()?)?,
            durability: durability(r.u8()?)?,
            shards: r.u16()?,
        })
    }
}

impl Pool {
    /// Spreads the slots evenly.
    pub fn new(spec: &PoolSpec, shards: &[ShardId]) -> Self {
        let n = shards.len();
        let first = |i: usize| (i * SLOTS as usize).div_ceil(n) as u16;
        Self {
            policy: spec.policy,
            durability: spec.durability,
            slots: shards
                .iter()
                .enumerate()
                .map(|(i, s)| (first(i), *s))
                .collect(),
        }
    }

    /// Who holds a slot.
    pub fn shard_of(&self, slot: u16) -> Option<ShardId> {
        let after = self.slots.partition_point(|(first, _)| *first <= slot);
        Some(self.slots.get(after.checked_sub(1)?)?.1)
    }

    /// Its shards, in the order of their slots.
    pub fn shards(&self) -> impl Iterator<Item = ShardId> {
        self.slots.iter().map(|(_, shard)| *shard)
    }

    /// Ranges of slots (first and last) and who holds them.
    pub fn ranges(&self) -> impl Iterator<Item = (u16, u16, ShardId)> {
        let ends = self.slots.iter().skip(1).map(|(first, _)| first - 1);
        let ends = ends.chain([SLOTS - 1]);
        (self.slots.iter().zip(ends)).map(|((first, shard), last)| (*first, last, *shard))
    }

    pub(crate) fn encode_into(&self, w: &mut Writer) {
        w.u8(self.policy as u8).u8(self.durability as u8);
        w.u32(self.slots.len() as u32);
        for (first, shard) in &self.slots {
            w.u16(*first).u64(shard.0);
        }
    }

    pub(crate) fn decode_from(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (policy, durability) = (policy(r.u8()?)?, durability(r.u8()?)?);
        let slots = (0..r.count(10)?).map(|_| Ok((r.u16()?, ShardId(r.u64()?))));
        Ok(Self {
            policy,
            durability,
            slots: slots.collect::<Result<_, DecodeError>>()?,
        })
    }
}

fn policy(number: u8) -> Result<Policy, DecodeError> {
    match number {
        0 => Ok(Policy::Raft),
        1 => Ok(Policy::Single),
        _ => Err(DecodeError::Invalid("pool policy")),
    }
}

fn durability(number: u8) -> Result<Durability, DecodeError> {
    match number {
        0 => Ok(Durability::Always),
        1 => Ok(Durability::EverySecond),
        2 => Ok(Durability::None),
        _ => Err(DecodeError::Invalid("pool durability")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn m10_slots_of_three_shards_golden() {
        let shards = [ShardId(3), ShardId(4), ShardId(5)];
        let pool = Pool::new(&PoolSpec::main(3), &shards);
        let ranges: Vec<_> = pool.ranges().map(|(a, b, _)| (a, b)).collect();
        assert_eq!(ranges, [(0, 5461), (5462, 10922), (10923, 16383)]);
        assert_eq!(pool.shard_of(base::slot::slot_of(b"foo")), Some(ShardId(5)));
        assert_eq!(pool.shard_of(0), Some(ShardId(3)));
        assert_eq!(pool.shard_of(16_383), Some(ShardId(5)));
    }

    #[test]
    fn raft_pool_with_less_durability_is_refused() {
        let mut spec = PoolSpec::main(1);
        assert!(spec.check().is_ok());
        spec.durability = Durability::EverySecond;
        assert!(spec.check().is_err());
        spec.policy = Policy::Single;
        assert!(spec.check().is_ok());
        spec.shards = 0;
        assert!(spec.check().is_err());
    }
}
