//! Who is reachable: φ-accrual suspicion (Hayashibara, Défago, Yared, Katayama: "The φ accrual failure
//! detector", SRDS 2004) for people and for gentle decisions, plain silence for fast ones.

use std::collections::{BTreeMap, VecDeque};

/// Arrivals kept per peer.
const WINDOW: usize = 100;

/// How patient a detector is, in microseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Patience {
    /// Least standard deviation assumed: scheduling noise is not suspicion.
    pub sigma_min_us: u64,
    /// A silence that is accepted on top of the mean interval. Where it is not 0, a longer one is an outage: it
    /// is not taken for an interval, so that the peer's next death is noticed as soon as this one.
    pub pause_us: u64,
    /// The interval that is assumed of a peer from which no two signs of life were heard yet.
    pub first_us: u64,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            sigma_min_us: 20_000,
            pause_us: 0,
            first_us: 0,
        }
    }
}

#[derive(Clone, Debug, Default)]
struct Arrivals {
    last_us: u64,
    intervals_us: VecDeque<u64>,
}

/// What was heard, and when.
#[derive(Clone, Debug, Default)]
pub struct Detector {
    patience: Patience,
    peers: BTreeMap<u64, Arrivals>,
    /// Peers that are to be heard from, and since when.
    expected: BTreeMap<u64, u64>,
}

impl Detector {
    /// One that is as patient as it is told.
    pub fn new(patience: Patience) -> Self {
        Self {
            patience,
            ..Self::default()
        }
    }

    /// A peer that was never heard is to be heard from now on: its silence begins.
    pub fn expect(&mut self, peer: u64, now_us: u64) {
        self.expected.entry(peer).or_insert(now_us);
    }

    /// This node itself stood still for so long: that is nobody's silence.
    pub fn stalled(&mut self, us: u64) {
        self.peers.values_mut().for_each(|a| a.last_us += us);
        self.expected.values_mut().for_each(|since| *since += us);
    }

    /// A regular sign of life of `peer`.
    pub fn heard(&mut self, peer: u64, now_us: u64) {
        match self.peers.get_mut(&peer) {
            Some(arrivals) => {
                let interval = now_us.saturating_sub(arrivals.last_us);
                arrivals.last_us = now_us;
                let pause_us = self.patience.pause_us;
                if pause_us > 0 && interval > pause_us {
                    return;
                }
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
        self.expected.remove(&peer);
    }

    /// Microseconds since the peer was heard; `None` when it never was.
    pub fn silent_us(&self, peer: u64, now_us: u64) -> Option<u64> {
        let arrivals = self.peers.get(&peer)?;
        Some(now_us.saturating_sub(arrivals.last_us))
    }

    /// φ of the peer: −log₁₀ of the probability that it is alive and merely this late.
    pub fn phi(&self, peer: u64, now_us: u64) -> f64 {
        let Patience {
            sigma_min_us,
            pause_us,
            first_us,
        } = self.patience;
        let none = VecDeque::new();
        let (last_us, intervals) = match (self.peers.get(&peer), self.expected.get(&peer)) {
            (Some(arrivals), _) => (arrivals.last_us, &arrivals.intervals_us),
            (None, Some(since_us)) => (*since_us, &none),
            (None, None) => return 0.0,
        };
        let n = intervals.len() as f64;
        let (mean, sigma) = if intervals.is_empty() {
            if first_us == 0 {
                return 0.0;
            }
            (first_us as f64, first_us as f64 / 4.0)
        } else {
            let mean = intervals.iter().sum::<u64>() as f64 / n;
            let squares = intervals.iter().map(|i| (*i as f64 - mean).powi(2));
            (mean, (squares.sum::<f64>() / n).sqrt())
        };
        let silence = now_us.saturating_sub(last_us) as f64;
        phi(
            silence,
            mean + pause_us as f64,
            sigma.max(sigma_min_us as f64),
        )
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

    /// Heartbeats every second, as patient as Akka's cluster is unless told otherwise.
    #[test]
    fn m37_steady_heartbeats_fire_after_4523_ms_golden() {
        let mut detector = Detector::new(Patience {
            sigma_min_us: 100_000,
            pause_us: 3_000_000,
            first_us: 1_000_000,
        });
        (0..20).for_each(|beat| detector.heard(1, beat * 1_000_000));
        let fires = |ms: u64| detector.phi(1, 19_000_000 + ms * 1000) >= 8.0;
        assert_eq!((1..10_000).find(|ms| fires(*ms)), Some(4_523));
    }

    #[test]
    fn outage_is_no_interval_and_a_stall_of_ones_own_no_silence() {
        let mut detector = Detector::new(Patience {
            sigma_min_us: 100_000,
            pause_us: 800_000,
            first_us: 40_000,
        });
        detector.expect(1, 0);
        assert!(detector.phi(1, 100_000) < 1.0 && detector.phi(1, 2_000_000) > 8.0);
        (0..20).for_each(|beat| detector.heard(1, beat * 40_000));
        let mut after = detector.clone();
        let back_us = 60_000_000;
        after.heard(1, back_us);
        assert_eq!(
            after.phi(1, back_us + 1_500_000),
            detector.phi(1, 760_000 + 1_500_000)
        );
        detector.stalled(back_us);
        assert!(detector.phi(1, back_us + 800_000) < 1.0);
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
