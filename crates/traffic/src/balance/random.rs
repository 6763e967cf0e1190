//! Random, by weight.
//!
//! Idea: needs no memory, and many gateways beside each other do not fall into step. Over few requests it spreads
//! worse than turns do. Cost: one draw and one pass over the servers.

use super::{Ask, Balance};

/// Any usable server, a heavy one more often.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Random;

impl Balance for Random {
    fn pick(&mut self, ask: &mut Ask<'_>) -> Option<usize> {
        let weight = |i: usize| u64::from(ask.servers[i].weight.max(1));
        let total: u64 = ask.usable().map(weight).sum();
        let mut point = ask.rng.range(0, total);
        let usable: Vec<usize> = ask.usable().collect();
        usable.into_iter().find(|i| {
            let weight = u64::from(ask.servers[*i].weight.max(1));
            let is_here = point < weight;
            point = point.saturating_sub(weight);
            is_here
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{pick_with, servers};
    use super::*;

    #[test]
    fn shares_come_near_the_weights() {
        let all = servers(&[1, 2, 5]);
        let mut rng = base::Rng::new(11);
        let mut counts = [0u32; 3];
        for _ in 0..8_000 {
            counts[pick_with(&mut Random, &all, 0, 0, &mut rng).unwrap()] += 1;
        }
        for (count, weight) in counts.iter().zip([1, 2, 5]) {
            assert!(count.abs_diff(weight * 1_000) < 150, "{counts:?}");
        }
    }
}
