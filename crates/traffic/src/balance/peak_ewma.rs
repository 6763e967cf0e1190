//! Best response time, by a peak-sensitive moving average, over all servers or the better of two drawn ones.
//!
//! Sources: peak EWMA as in Twitter's Finagle; two choices: Mitzenmacher, "The Power of Two Choices in
//! Randomized Load Balancing", IEEE TPDS 2001.
//!
//! Idea: a server costs what its answers took lately, times the requests that would wait there. A slower answer counts
//! at once, faster ones win trust back over ten seconds; without news the memory fades, so that a server that was slow is
//! tried again. Always the best of all sends everything to one server until its answers tell; drawing two and taking the
//! better one does not herd. Cost: one exponential for each server that is looked at.

use super::{Ask, Balance, Done};

/// Time after which old answers count 1/e.
const DECAY_US: f64 = 10_000_000.0;
/// What a server costs that has requests and has answered none yet.
const UNKNOWN_US: f64 = 1_000_000.0;

#[derive(Clone, Copy, PartialEq, Debug, Default)]
struct Average {
    us: f64,
    at_us: u64,
}

#[derive(Clone, PartialEq, Debug, Default)]
struct Averages(Vec<Average>);

impl Averages {
    fn cost(&self, ask: &Ask<'_>, server: usize) -> f64 {
        let seen = &ask.servers[server];
        let average = self.0.get(server).copied().unwrap_or_default();
        let faded = average.us * fade(ask.now_us.saturating_sub(average.at_us));
        let waiting = f64::from(seen.in_flight);
        let cost = match faded > 0.0 {
            true => faded * (waiting + 1.0),
            false => UNKNOWN_US * waiting,
        };
        cost / f64::from(seen.weight.max(1))
    }

    fn handle_done(&mut self, server: usize, done: Done) {
        if self.0.len() <= server {
            self.0.resize(server + 1, Average::default());
        }
        let average = &mut self.0[server];
        let latency = done.latency_us as f64;
        // A server that fails fast is no fast server.
        let latency = if done.ok {
            latency
        } else {
            latency.max(UNKNOWN_US)
        };
        let old = fade(done.now_us.saturating_sub(average.at_us));
        average.us = match latency >= average.us {
            true => latency,
            false => average.us * old + latency * (1.0 - old),
        };
        average.at_us = done.now_us;
    }
}

fn fade(us: u64) -> f64 {
    (-(us as f64) / DECAY_US).exp()
}

/// The cheapest of all.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct BestResponse(Averages);

impl Balance for BestResponse {
    fn pick(&mut self, ask: &mut Ask<'_>) -> Option<usize> {
        let cost = |i: &usize| self.0.cost(ask, *i);
        ask.usable().min_by(|a, b| cost(a).total_cmp(&cost(b)))
    }

    fn handle_done(&mut self, server: usize, done: Done) {
        self.0.handle_done(server, done);
    }
}

/// The cheaper of two that are drawn.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct TwoChoices(Averages);

impl Balance for TwoChoices {
    fn pick(&mut self, ask: &mut Ask<'_>) -> Option<usize> {
        let usable: Vec<usize> = ask.usable().collect();
        let n = usable.len() as u64;
        if n <= 1 {
            return usable.first().copied();
        }
        let first = ask.rng.range(0, n);
        let second = (first + ask.rng.range(1, n)) % n;
        let (first, second) = (usable[first as usize], usable[second as usize]);
        match self.0.cost(ask, second) < self.0.cost(ask, first) {
            true => Some(second),
            false => Some(first),
        }
    }

    fn handle_done(&mut self, server: usize, done: Done) {
        self.0.handle_done(server, done);
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{pick_with, servers};
    use super::*;
    use base::Rng;

    fn done(now_us: u64, latency_us: u64) -> Done {
        Done {
            now_us,
            latency_us,
            ok: true,
        }
    }

    #[test]
    fn slow_answer_counts_at_once_and_is_forgiven_slowly() {
        let all = servers(&[1, 1]);
        let mut balance = BestResponse::default();
        let mut rng = Rng::new(1);
        balance.handle_done(0, done(0, 1_000));
        balance.handle_done(1, done(0, 2_000));
        let mut at = |balance: &mut BestResponse, now| pick_with(balance, &all, 0, now, &mut rng);
        assert_eq!(at(&mut balance, 0), Some(0));
        balance.handle_done(0, done(1_000, 500_000));
        assert_eq!(at(&mut balance, 1_000), Some(1));
        for k in 1..=3 {
            balance.handle_done(0, done(1_000 + k, 1_000));
        }
        assert_eq!(
            at(&mut balance, 1_004),
            Some(1),
            "three fast answers are not enough"
        );
        for second in 1..=100 {
            balance.handle_done(0, done(second * 1_000_000, 1_000));
            balance.handle_done(1, done(second * 1_000_000, 2_000));
        }
        assert_eq!(at(&mut balance, 100_000_000), Some(0));
    }

    #[test]
    fn fast_failures_do_not_attract() {
        let all = servers(&[1, 1]);
        let mut balance = BestResponse::default();
        balance.handle_done(
            0,
            Done {
                ok: false,
                ..done(0, 10)
            },
        );
        balance.handle_done(1, done(0, 50_000));
        assert_eq!(
            pick_with(&mut balance, &all, 0, 1, &mut Rng::new(1)),
            Some(1)
        );
    }

    #[test]
    fn two_choices_shun_the_slow_one_and_do_not_herd() {
        let mut all = servers(&[1; 4]);
        let mut balance = TwoChoices::default();
        let mut rng = Rng::new(9);
        for i in 0..4 {
            balance.handle_done(i, done(0, if i == 2 { 900_000 } else { 1_000 }));
        }
        let mut counts = [0; 4];
        for _ in 0..3_000 {
            let i = pick_with(&mut balance, &all, 0, 1, &mut rng).unwrap();
            counts[i] += 1;
            all[i].in_flight = (all[i].in_flight + 1) % 8;
        }
        assert_eq!(counts[2], 0, "{counts:?}");
        assert!([0, 1, 3].iter().all(|i| counts[*i] > 700), "{counts:?}");
    }
}
