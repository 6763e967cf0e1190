//! Warm-up: after a rest the rate begins at a part of what it is, and rises over a set time.
//!
//! Source: Guava's `SmoothWarmingUp` as Sentinel counts it. With count c a second, period W and cold factor f, coldness is
//! a store of tokens: warning line W·c/(f−1), maximum warning + 2·W·c/(1+f), slope (f−1)/c/(maximum − warning). Above the
//! line the rate is 1/(above·slope + 1/c), which is c/f at the maximum; below it, c. Once a second (or, where even a cold
//! second has less than one request, in that one's time) what passed is taken from the store, and c is put back for each second below the line, or above it while fewer than c/f pass.
//! Sentinel compares whole requests within a second, so a count below 1 never passes; here the rate of the moment fills a bucket
//! of at most one second's worth, and at least one request. Cost: a few multiplications.

use super::{Verdict, interval_us};

#[cfg(test)]
const SECOND_US: u64 = 1_000_000;

/// A rate that has to warm up.
#[derive(Clone, PartialEq, Debug)]
pub struct WarmUp {
    count: f64,
    cold_factor: f64,
    warning: f64,
    maximum: f64,
    slope: f64,
    /// Coldness.
    stored: f64,
    /// What may pass now.
    credit: f64,
    /// When both were last brought up to date.
    since_us: Option<u64>,
    credit_us: u64,
    passed: u64,
    /// How often coldness is counted anew.
    period_us: u64,
}

impl WarmUp {
    /// `count` requests a second once warm, `period_s` seconds after it was as cold as can be; then it is
    /// `count / cold_factor`. Begins cold. `cold_factor` is above 1.
    pub fn new(count: f64, period_s: f64, cold_factor: f64) -> Self {
        let cold_factor = cold_factor.max(1.001);
        let warning = period_s * count / (cold_factor - 1.0);
        let maximum = warning + 2.0 * period_s * count / (1.0 + cold_factor);
        Self {
            count,
            cold_factor,
            warning,
            maximum,
            slope: (cold_factor - 1.0) / count / (maximum - warning).max(1e-9),
            stored: maximum,
            credit: 1.0,
            since_us: None,
            // Long enough for one request at the coldest.
            period_us: (interval_us(count / cold_factor) as u64).max(1_000_000),
            credit_us: 0,
            passed: 0,
        }
    }

    /// Requests a second that it lets pass now.
    pub fn rate(&self) -> f64 {
        let above = (self.stored - self.warning).max(0.0);
        1.0 / (above * self.slope + 1.0 / self.count)
    }

    /// Passes, or refuses until the rate of the moment allows one more.
    pub fn ask(&mut self, now_us: u64) -> Verdict {
        self.sync(now_us);
        if self.credit >= 1.0 - 1e-9 {
            self.credit = (self.credit - 1.0).max(0.0);
            self.passed += 1;
            Verdict::Pass
        } else {
            let wait = (1.0 - self.credit) * interval_us(self.rate());
            Verdict::Refuse(wait.ceil() as u64)
        }
    }

    fn sync(&mut self, now_us: u64) {
        let since = *self.since_us.get_or_insert_with(|| {
            self.credit_us = now_us;
            now_us
        });
        let periods = now_us.saturating_sub(since) / self.period_us;
        if periods > 0 {
            let seconds = (periods * self.period_us) as f64 / 1e6;
            let passed = self.passed as f64;
            let refills =
                self.stored < self.warning || passed / seconds < self.count / self.cold_factor;
            // What passed was taken before what is put back now.
            self.stored = (self.stored - passed).max(0.0);
            if refills {
                self.stored = (self.stored + seconds * self.count).min(self.maximum);
            }
            self.passed = 0;
            self.since_us = Some(since + periods * self.period_us);
        }
        let gone_us = now_us.saturating_sub(self.credit_us);
        let rate = self.rate();
        self.credit = (self.credit + rate * gone_us as f64 / 1e6).min(rate.max(1.0));
        self.credit_us = self.credit_us.max(now_us);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Requests that pass in each second when far too many come.
    fn flood(limit: &mut WarmUp, from_s: u64, seconds: u64) -> Vec<u64> {
        (from_s..from_s + seconds)
            .map(|second| {
                (0..1_000)
                    .filter(|ms| {
                        let now = second * SECOND_US + ms * 1_000;
                        limit.ask(now) == Verdict::Pass
                    })
                    .count() as u64
            })
            .collect()
    }

    #[test]
    fn m34_warm_up_golden() {
        let limit = WarmUp::new(100.0, 10.0, 3.0);
        assert_eq!((limit.warning, limit.maximum), (500.0, 1_000.0));
        assert!((limit.slope - 4e-5).abs() < 1e-12);
        assert!(
            (limit.rate() - 100.0 / 3.0).abs() < 1e-6,
            "a third when cold"
        );
        let half = WarmUp {
            stored: 750.0,
            ..limit.clone()
        };
        assert!((half.rate() - 50.0).abs() < 1e-6);
        assert_eq!(
            WarmUp {
                stored: 500.0,
                ..limit
            }
            .rate(),
            100.0
        );
    }

    #[test]
    fn flood_after_a_rest_rises_from_a_third_to_the_count_and_cools_again() {
        let mut limit = WarmUp::new(100.0, 10.0, 3.0);
        let passed = flood(&mut limit, 0, 20);
        assert!((33..=36).contains(&passed[0]), "{passed:?}");
        assert!(
            passed.windows(2).all(|two| two[1] + 2 >= two[0]),
            "it only rises: {passed:?}"
        );
        let warm = passed.iter().position(|n| *n >= 99).unwrap();
        assert!(
            (8..=12).contains(&warm),
            "warm after about the period: {passed:?}"
        );
        assert!(
            passed[15..].iter().all(|n| (99..=101).contains(n)),
            "{passed:?}"
        );
        let again = flood(&mut limit, 120, 2);
        assert!(again[1] <= 40, "a long rest makes it cold: {again:?}");
    }

    #[test]
    fn count_below_one_a_second_passes_in_its_time() {
        let mut limit = WarmUp::new(0.5, 4.0, 3.0);
        let passed: u64 = flood(&mut limit, 0, 60).iter().sum();
        assert!((20..=31).contains(&passed), "{passed}");
    }
}
