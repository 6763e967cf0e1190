//! Who is reachable: φ-accrual suspicion (Hayashibara, Défago, Yared, Katayama: "The φ accrual failure
//! detector", SRDS 2004) for people and for gentle decisions, plain silence for fast ones.

use std::collections::{BTreeMap, VecDeque};

/// Arrivals kept per peer.
const WINDOW: usize = 100;
/// Least standard deviation assumed, in microseconds: scheduling noise is not suspicion.
const SIGMA_MIN_US: f64 = 20_000.0;

#[derive(Clone, Debug, Default)]
struct Arrivals {
    last_us: u64,
    intervals_us: VecDeque<u64>,
}

/// What was heard, and when.
#[derive(Clone, Debug, Default)]
pub struct Detector {
    peers: BTreeMap<u64, Arrivals>,
}

impl Detector {
    /// A regular sign of life of `peer`.
    pub fn heard(&mut self, peer: u64, now_us: u64) {
        match self.peers.get_mut(&peer) {
            Some(arrivals) => {
                let interval = now_us.saturating_sub(arrivals.last_us);
                arrivals.last_us = now_us;
                arrivals.intervals_us.push_back(interval);
                if arrivals.intervals_us.len() > WINDOW {
                    arrivals.intervals_us.pop_front();
                }
            }
            None => {
                let arrivals = Arrivals {
                    last_us: now_us,
                    intervals_us: VecDeque::new(),
                };
                self.peers.insert(peer, arrivals);
            }
        }
    }

    /// Forgets a peer.
    pub fn forget(&mut self, peer: u64) {
        self.peers.remove(&peer);
    }

    /// Microseconds since the peer was heard; `None` when it never was.
    pub fn silent_us(&self, peer: u64, now_us: u64) -> Option<u64> {
        let arrivals = self.peers.get(&peer)?;
        Some(now_us.saturating_sub(arrivals.last_us))
    }

    /// φ of the peer: −log₁₀ of the probability that it is alive and merely this late.
    pub fn phi(&self, peer: u64, now_us: u64) -> f64 {
        let Some(arrivals) = self.peers.get(&peer) else {
            return 0.0;
        };
        if arrivals.intervals_us.is_empty() {
            return 0.0;
        }
        let n = arrivals.intervals_us.len() as f64;
        let mean = arrivals.intervals_us.iter().sum::<u64>() as f64 / n;
        let variance = (arrivals.intervals_us.iter())
            .map(|i| (*i as f64 - mean).powi(2))
            .sum::<f64>()
            / n;
        let sigma = variance.sqrt().max(SIGMA_MIN_US);
        phi(now_us.saturating_sub(arrivals.last_us) as f64, mean, sigma)
    }
}

/// φ for a silence, given mean and standard deviation of the intervals, all in one unit. The normal
/// tail is the logistic approximation that Akka uses too (Bowling et al., 2009).
pub fn phi(silence: f64, mean: f64, sigma: f64) -> f64 {
    let y = (silence - mean) / sigma;
    let e = (-y * (1.597_6 + 0.070_566 * y * y)).exp();
    let tail = if silence > mean {
        e / (1.0 + e)
    } else {
        1.0 - 1.0 / (1.0 + e)
    };
    -tail.max(f64::MIN_POSITIVE).log10()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn m37_phi_golden() {
        for (silence, expected) in [(1000.0, 0.30), (1500.0, 2.22), (2000.0, 7.30)] {
            let got = phi(silence, 1000.0, 200.0);
            assert!((got - expected).abs() < 0.01, "phi({silence}) = {got}");
        }
    }

    #[test]
    fn silent_peer_is_suspected_more_and_more() {
        let mut detector = Detector::default();
        for beat in 0..20 {
            detector.heard(1, beat * 40_000);
        }
        let last = 19 * 40_000;
        assert!(detector.phi(1, last + 40_000) < 1.0);
        assert!(detector.phi(1, last + 400_000) > 8.0);
        assert_eq!(detector.silent_us(1, last + 7), Some(7));
    }
}
