//! Smooth weighted round robin, as nginx does it (`ngx_http_upstream_round_robin`).
//!
//! Idea: at each pick every server's current weight grows by its effective weight; the greatest is picked, the
//! first of several, and loses the sum of all effective weights. So a heavy server's turns lie as far apart as
//! they can. The effective weight falls when a server fails, and comes back by one a pick. Cost: one pass over
//! the servers a pick.

use super::{Ask, Balance, Done};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct State {
    current: i64,
    /// From 0 to the weight.
    effective: i64,
    weight: i64,
}

/// The heavy server's turns lie apart.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SmoothWeighted {
    servers: Vec<State>,
}

/// A failure takes the weight's part of this number from the effective weight, and at least 1.
const FAILURES_TO_NOTHING: i64 = 3;

impl SmoothWeighted {
    /// Current weights, in the order of the servers.
    pub fn current_weights(&self) -> Vec<i64> {
        self.servers.iter().map(|s| s.current).collect()
    }
}

impl Balance for SmoothWeighted {
    fn pick(&mut self, ask: &mut Ask<'_>) -> Option<usize> {
        for server in ask.servers.iter().skip(self.servers.len()) {
            let weight = i64::from(server.weight.max(1));
            self.servers.push(State {
                current: 0,
                effective: weight,
                weight,
            });
        }
        let mut total = 0;
        let mut best: Option<usize> = None;
        for i in ask.usable() {
            let state = &mut self.servers[i];
            state.current += state.effective;
            total += state.effective;
            state.effective = (state.effective + 1).min(state.weight);
            if best.is_none_or(|best| self.servers[i].current > self.servers[best].current) {
                best = Some(i);
            }
        }
        self.servers[best?].current -= total;
        best
    }

    fn handle_done(&mut self, server: usize, done: Done) {
        if !done.ok
            && let Some(state) = self.servers.get_mut(server)
        {
            let loss = (state.weight / FAILURES_TO_NOTHING).max(1);
            state.effective = (state.effective - loss).max(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{letters, servers};
    use super::*;

    #[test]
    fn m33_smooth_weighted_golden() {
        let all = servers(&[4, 1, 1]);
        let mut balance = SmoothWeighted::default();
        assert_eq!(letters(&mut balance, &all, 1), "a");
        assert_eq!(balance.current_weights(), [-2, 1, 1]);
        assert_eq!(letters(&mut balance, &all, 1), "a");
        assert_eq!(balance.current_weights(), [-4, 2, 2]);
        assert_eq!(letters(&mut balance, &all, 4), "baca");
        assert_eq!(balance.current_weights(), [0, 0, 0], "a round is over");
        assert_eq!(letters(&mut balance, &all, 6), "aabaca");
    }

    #[test]
    fn failures_lower_the_effective_weight_and_it_comes_back_pick_by_pick() {
        let all = servers(&[6, 6]);
        let mut balance = SmoothWeighted::default();
        assert_eq!(letters(&mut balance, &all, 2), "ab");
        for _ in 0..9 {
            balance.handle_done(
                0,
                Done {
                    now_us: 0,
                    latency_us: 1,
                    ok: false,
                },
            );
        }
        let picks = letters(&mut balance, &all, 12);
        let of_a = picks.matches('a').count();
        assert!(
            (1..6).contains(&of_a),
            "{picks}: fewer than its half, and not none"
        );
        assert_eq!(letters(&mut balance, &all, 24).matches('a').count(), 12);
    }

    #[test]
    fn picks_match_weights_over_whole_rounds() {
        let mut rng = base::Rng::new(5);
        for _ in 0..200 {
            let weights: Vec<u32> = (0..rng.range(1, 8))
                .map(|_| rng.range(1, 20) as u32)
                .collect();
            let all = servers(&weights);
            let mut balance = SmoothWeighted::default();
            let picks = letters(&mut balance, &all, 3 * weights.iter().sum::<u32>() as usize);
            for (i, weight) in weights.iter().enumerate() {
                let letter = char::from(b'a' + i as u8);
                assert_eq!(picks.matches(letter).count(), 3 * *weight as usize);
            }
        }
    }
}
