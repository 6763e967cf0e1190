//! The four golden signals of a route (latency, traffic, errors, saturation: Google's SRE book, chapter 6), and its alarms.
//!
//! Alarms look at the last ten seconds; each looks at one signal of one route only. Latencies are kept in buckets of powers
//! of two. Cost: one window and 32 counters a route.

use crate::window::{Counts, Window};
use serde::{Deserialize, Serialize};

const BUCKETS: usize = 32;
const WINDOW_US: u64 = 10_000_000;

/// Bounds beyond which an alarm is raised; `None` never raises it.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Bounds {
    /// More than a hundredth of the requests take at least so long, in microseconds.
    pub latency_us: Option<u64>,
    /// Requests a second.
    pub requests_per_s: Option<f64>,
    /// Failed requests in percent.
    pub error_percent: Option<f64>,
    /// Places taken in percent of all.
    pub saturation_percent: Option<f64>,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            latency_us: None,
            requests_per_s: None,
            error_percent: Some(5.0),
            saturation_percent: Some(80.0),
        }
    }
}

/// Which alarms are raised.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Alarms {
    /// Answers take long.
    pub latency: bool,
    /// Many requests come.
    pub traffic: bool,
    /// Requests fail.
    pub errors: bool,
    /// Places run out.
    pub saturation: bool,
}

impl Alarms {
    /// Each with its name.
    pub fn named(&self) -> [(&'static str, bool); 4] {
        [
            ("latency", self.latency),
            ("traffic", self.traffic),
            ("errors", self.errors),
            ("saturation", self.saturation),
        ]
    }
}

/// The signals of one route.
#[derive(Clone, PartialEq, Debug)]
pub struct Signals {
    bounds: Bounds,
    window: Window,
    /// `latency[i]` counts requests that took from 2^(i−1) to below 2^i microseconds.
    pub latency: [u64; BUCKETS],
    /// Sum of latencies in microseconds.
    pub latency_sum_us: u64,
    /// Requests answered since the start, refused ones not among them.
    pub requests: u64,
    /// Of these, such that failed.
    pub errors: u64,
    /// Requests that a limit refused.
    pub refused: u64,
}

impl Signals {
    /// Nothing seen yet.
    pub fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            window: Window::new(WINDOW_US),
            latency: [0; BUCKETS],
            latency_sum_us: 0,
            requests: 0,
            errors: 0,
            refused: 0,
        }
    }

    /// Sets other bounds, and goes on counting.
    pub fn set_bounds(&mut self, bounds: Bounds) {
        self.bounds = bounds;
    }

    /// A request ended.
    pub fn handle_done(&mut self, now_us: u64, latency_us: u64, failed: bool, timed_out: bool) {
        self.requests += 1;
        self.errors += u64::from(failed);
        self.latency_sum_us += latency_us;
        let bucket = (64 - latency_us.leading_zeros()) as usize;
        self.latency[bucket.min(BUCKETS - 1)] += 1;
        let slow = self
            .bounds
            .latency_us
            .is_some_and(|bound| latency_us >= bound);
        self.window.add(
            now_us,
            Counts {
                requests: 1,
                errors: u64::from(failed),
                timeouts: u64::from(timed_out),
                slow: u64::from(slow),
                refused: 0,
            },
        );
    }

    /// A limit refused a request.
    pub fn handle_refused(&mut self, now_us: u64) {
        self.refused += 1;
        let counts = Counts {
            refused: 1,
            ..Counts::default()
        };
        self.window.add(now_us, counts);
    }

    /// What was counted within the last ten seconds.
    pub fn lately(&mut self, now_us: u64) -> Counts {
        self.window.sum(now_us)
    }

    /// Requests a second over the last ten seconds.
    pub fn rate(&mut self, now_us: u64) -> f64 {
        self.lately(now_us).requests as f64 * 1e6 / WINDOW_US as f64
    }

    /// Which alarms are raised, when `saturation` is the part of places taken, from 0 to 1.
    pub fn alarms(&mut self, now_us: u64, saturation: f64) -> Alarms {
        let lately = self.lately(now_us);
        let percent = |part: u64| 100.0 * part as f64 / lately.requests.max(1) as f64;
        let over = |bound: Option<f64>, value: f64| bound.is_some_and(|bound| value >= bound);
        Alarms {
            latency: percent(lately.slow) > 1.0,
            traffic: over(self.bounds.requests_per_s, self.rate(now_us)),
            errors: lately.errors > 0 && over(self.bounds.error_percent, percent(lately.errors)),
            saturation: over(self.bounds.saturation_percent, 100.0 * saturation),
        }
    }

    /// Microseconds below which a part of the requests since the start took, to a power of two.
    pub fn quantile_us(&self, part: f64) -> u64 {
        let total: u64 = self.latency.iter().sum();
        let wanted = (part * total as f64).ceil() as u64;
        let mut below = 0;
        for (i, n) in self.latency.iter().enumerate() {
            below += n;
            if total > 0 && below >= wanted {
                return 1 << i;
            }
        }
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn m41_each_signal_raises_only_its_alarm() {
        let bounds = Bounds {
            latency_us: Some(100_000),
            requests_per_s: Some(50.0),
            ..Bounds::default()
        };
        let quiet = |signals: &mut Signals| {
            (0..100).for_each(|i| signals.handle_done(i * 1_000, 1_000, false, false));
        };
        let alarms = |change: &dyn Fn(&mut Signals), saturation| {
            let mut signals = Signals::new(bounds);
            quiet(&mut signals);
            change(&mut signals);
            signals.alarms(1_000_000, saturation)
        };
        let none = Alarms::default();
        assert_eq!(alarms(&|_| {}, 0.5), none);
        assert_eq!(
            alarms(&|_| {}, 0.8),
            Alarms {
                saturation: true,
                ..none
            }
        );
        let slow =
            |s: &mut Signals| (0..3).for_each(|_| s.handle_done(200_000, 100_000, false, false));
        assert_eq!(
            alarms(&slow, 0.0),
            Alarms {
                latency: true,
                ..none
            }
        );
        let failing =
            |s: &mut Signals| (0..6).for_each(|_| s.handle_done(200_000, 10, true, false));
        assert_eq!(
            alarms(&failing, 0.0),
            Alarms {
                errors: true,
                ..none
            }
        );
        let many =
            |s: &mut Signals| (0..500).for_each(|_| s.handle_done(200_000, 10, false, false));
        assert_eq!(
            alarms(&many, 0.0),
            Alarms {
                traffic: true,
                ..none
            }
        );
        let mut signals = Signals::new(bounds);
        failing(&mut signals);
        assert_eq!(
            signals.alarms(20_000_000, 0.0),
            none,
            "what is over is over"
        );
    }

    #[test]
    fn quantiles_are_upper_bounds_to_a_power_of_two() {
        let mut signals = Signals::new(Bounds::default());
        assert_eq!(signals.quantile_us(0.99), 0);
        (0..99).for_each(|_| signals.handle_done(0, 900, false, false));
        signals.handle_done(0, 70_000, false, false);
        assert_eq!(
            (signals.quantile_us(0.5), signals.quantile_us(1.0)),
            (1_024, 131_072)
        );
    }
}
