//! Consistent hashing with bounded loads: Mirrokni, Thorup, Zadimoghaddam, "Consistent Hashing with Bounded
//! Loads", SODA 2018; the ring of Karger et al., STOC 1997.
//!
//! Idea: servers stand at many points of a ring, a key belongs to the first point at or after its hash, so a server that
//! goes takes only its own keys with it. No server holds more than 5/4 of its share of the requests in flight;
//! beyond that a key goes on around the ring. Cost: a binary search, then one step for each point passed over.
//! Memory: 160 points for each unit of weight, at most 2,048 for each server.

use super::{Ask, Balance};
use crate::hash;

const POINTS_PER_WEIGHT: u32 = 160;
const POINTS_MAX: u32 = 2_048;

/// A ring of servers, none of which gets far more than its share.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConsistentHash {
    /// Sorted by point.
    ring: Vec<(u64, usize)>,
}

impl ConsistentHash {
    /// A ring of servers by name and weight. The same names give the same ring anywhere.
    pub fn new(servers: &[(String, u32)]) -> Self {
        let mut ring: Vec<(u64, usize)> = (servers.iter().enumerate())
            .flat_map(|(i, (name, weight))| {
                let points = weight.max(&1).saturating_mul(POINTS_PER_WEIGHT);
                (0..points.min(POINTS_MAX))
                    .map(move |k| (hash(format!("{name}#{k}").as_bytes()), i))
            })
            .collect();
        ring.sort_unstable();
        Self { ring }
    }

    /// Most requests in flight that a server may hold, this one among them: 5/4 of its share, rounded up.
    fn bound(ask: &Ask<'_>, server: usize) -> u64 {
        let weight = |i: usize| u64::from(ask.servers[i].weight.max(1));
        let weights: u64 = ask.usable().map(weight).sum();
        let held: u64 = (ask.usable())
            .map(|i| u64::from(ask.servers[i].in_flight))
            .sum();
        (5 * (held + 1) * weight(server)).div_ceil(4 * weights.max(1))
    }
}

impl Balance for ConsistentHash {
    fn pick(&mut self, ask: &mut Ask<'_>) -> Option<usize> {
        let start = self.ring.partition_point(|(point, _)| *point < ask.key);
        let (before, from) = self.ring.split_at(start);
        let mut passed = vec![false; ask.servers.len()];
        for (_, server) in from.iter().chain(before) {
            let Some(seen) = ask.servers.get(*server).filter(|s| s.usable) else {
                continue;
            };
            if std::mem::replace(&mut passed[*server], true) {
                continue;
            }
            if u64::from(seen.in_flight) < Self::bound(ask, *server) {
                return Some(*server);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{pick, servers};
    use super::*;

    fn names(n: usize) -> Vec<(String, u32)> {
        (0..n).map(|i| (format!("10.0.0.{i}:80"), 1)).collect()
    }

    fn key(i: u64) -> u64 {
        hash(&i.to_be_bytes())
    }

    #[test]
    fn server_that_goes_takes_only_its_own_keys_with_it() {
        let mut ring = ConsistentHash::new(&names(10));
        let mut all = servers(&[1; 10]);
        let before: Vec<_> = (0..5_000).map(|i| pick(&mut ring, &all, key(i))).collect();
        all[4].usable = false;
        let mut moved = 0;
        for (i, old) in before.iter().enumerate() {
            let new = pick(&mut ring, &all, key(i as u64));
            assert_eq!(new == *old, *old != Some(4));
            moved += usize::from(new != *old);
        }
        assert!((300..800).contains(&moved), "about a tenth: {moved}");
    }

    #[test]
    fn one_key_that_all_ask_for_does_not_drown_its_server() {
        let mut ring = ConsistentHash::new(&names(4));
        let mut all = servers(&[1; 4]);
        for _ in 0..1_000 {
            let i = pick(&mut ring, &all, key(1)).unwrap();
            all[i].in_flight += 1;
            let held: u32 = all.iter().map(|s| s.in_flight).sum();
            assert!(all.iter().all(|s| s.in_flight <= (5 * held).div_ceil(16)));
        }
    }
}
