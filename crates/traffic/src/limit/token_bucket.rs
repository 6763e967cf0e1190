//! Token bucket: a bucket of `burst` tokens is refilled at `rate`; a request takes one or is refused.
//!
//! Idea: short bursts pass at once as long as the mean stays below the rate. Source: Turner, "New Directions in
//! Communications", IEEE Communications Magazine 1986, as a meter (ITU-T I.371's equivalent view). Tokens are computed when
//! somebody asks; there is no timer. Cost: a multiplication.

use super::{Verdict, interval_us};

/// Bursts pass, the mean is held.
#[derive(Clone, PartialEq, Debug)]
pub struct TokenBucket {
    rate: f64,
    burst: f64,
    tokens: f64,
    at_us: Option<u64>,
}

impl TokenBucket {
    /// A full bucket of `burst` tokens (at least 1), refilled with `rate` tokens a second.
    pub fn new(rate: f64, burst: f64) -> Self {
        let burst = burst.max(1.0);
        Self {
            rate,
            burst,
            tokens: burst,
            at_us: None,
        }
    }

    /// Takes a token, or refuses until the next one is there.
    pub fn ask(&mut self, now_us: u64) -> Verdict {
        let passed_us = now_us.saturating_sub(self.at_us.unwrap_or(now_us));
        self.tokens = (self.tokens + self.rate * passed_us as f64 / 1e6).min(self.burst);
        self.at_us = Some(now_us.max(self.at_us.unwrap_or(0)));
        // A token that is there but for rounding is there.
        if self.tokens >= 1.0 - 1e-9 {
            self.tokens = (self.tokens - 1.0).max(0.0);
            Verdict::Pass
        } else {
            Verdict::Refuse(((1.0 - self.tokens) * interval_us(self.rate)).ceil() as u64)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn burst_passes_then_the_rate_holds() {
        let mut bucket = TokenBucket::new(10.0, 3.0);
        for _ in 0..3 {
            assert_eq!(bucket.ask(0), Verdict::Pass);
        }
        assert_eq!(bucket.ask(0), Verdict::Refuse(100_000));
        assert_eq!(bucket.ask(40_000), Verdict::Refuse(60_000));
        assert_eq!(bucket.ask(100_000), Verdict::Pass);
        assert_eq!(bucket.ask(100_000), Verdict::Refuse(100_000));
        for _ in 0..3 {
            assert_eq!(
                bucket.ask(10_000_000),
                Verdict::Pass,
                "no more than the burst is saved"
            );
        }
        assert!(matches!(bucket.ask(10_000_000), Verdict::Refuse(_)));
    }

    #[test]
    fn rate_below_one_a_second_is_a_rate() {
        let mut bucket = TokenBucket::new(0.25, 1.0);
        assert_eq!(bucket.ask(0), Verdict::Pass);
        assert_eq!(bucket.ask(1_000_000), Verdict::Refuse(3_000_000));
        assert_eq!(bucket.ask(4_000_000), Verdict::Pass);
    }

    #[test]
    fn time_that_goes_back_gives_nothing() {
        let mut bucket = TokenBucket::new(1.0, 1.0);
        assert_eq!(bucket.ask(5_000_000), Verdict::Pass);
        assert!(matches!(bucket.ask(0), Verdict::Refuse(_)));
        assert!(matches!(bucket.ask(5_000_000), Verdict::Refuse(_)));
    }
}
