//! Whether a request goes on now, goes on later, or is refused. One method a file.
//!
//! Rates are requests a second and may be below 1. A wait that is granted is a place taken: the caller waits, and
//! then goes on without asking again.

mod concurrency;
mod keyed;
mod leaky_bucket;
mod token_bucket;
mod uniform;
mod warm_up;

pub use concurrency::Concurrency;
pub use keyed::{KEYS_MAX, Keyed};
pub use leaky_bucket::LeakyBucket;
pub use token_bucket::TokenBucket;
pub use uniform::UniformQueue;
pub use warm_up::WarmUp;

/// What is said to a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Go on now.
    Pass,
    /// Go on in so many microseconds.
    Wait(u64),
    /// Go away; asking again makes sense in so many microseconds.
    Refuse(u64),
}

/// A limit on a rate.
#[derive(Clone, PartialEq, Debug)]
pub enum RateLimit {
    /// [`TokenBucket`].
    TokenBucket(TokenBucket),
    /// [`LeakyBucket`].
    LeakyBucket(LeakyBucket),
    /// [`WarmUp`].
    WarmUp(WarmUp),
    /// [`UniformQueue`].
    Uniform(UniformQueue),
}

impl RateLimit {
    /// Decides about one request at `now_us`, and takes its place when it may go on.
    pub fn ask(&mut self, now_us: u64) -> Verdict {
        match self {
            Self::TokenBucket(limit) => limit.ask(now_us),
            Self::LeakyBucket(limit) => limit.ask(now_us),
            Self::WarmUp(limit) => limit.ask(now_us),
            Self::Uniform(limit) => limit.ask(now_us),
        }
    }
}

/// Microseconds between two requests at `rate` a second.
fn interval_us(rate: f64) -> f64 {
    1e6 / rate.max(1e-9)
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::Rng;

    #[test]
    fn no_method_lets_more_pass_than_its_rate_and_what_it_may_save() {
        let mut rng = Rng::new(4);
        for round in 0..400 {
            let rate = [0.2, 0.5, 1.0, 7.5, 100.0, 2_000.0][rng.range(0, 6) as usize];
            let burst = rng.range(1, 20) as f64;
            let (mut limit, saved) = match round % 4 {
                0 => (RateLimit::TokenBucket(TokenBucket::new(rate, burst)), burst),
                1 => (RateLimit::LeakyBucket(LeakyBucket::new(rate, burst)), burst),
                2 => (
                    RateLimit::WarmUp(WarmUp::new(rate, 3.0, 3.0)),
                    rate.max(1.0),
                ),
                _ => (RateLimit::Uniform(UniformQueue::new(rate, 0)), 1.0),
            };
            let began = rng.range(0, 1 << 40);
            let mut now = began;
            let mut passed = 0u64;
            for _ in 0..1_000 {
                now += rng.range(0, (2e6 / rate) as u64);
                match limit.ask(now) {
                    Verdict::Pass => passed += 1,
                    Verdict::Wait(us) => assert!(us > 0 && round % 4 == 1),
                    Verdict::Refuse(us) => {
                        assert!(us > 0, "refused without a time to wait: {limit:?}");
                    }
                }
            }
            let most = saved + rate * (now - began) as f64 / 1e6 + 1.0;
            assert!(passed as f64 <= most, "{passed} > {most} by {limit:?}");
            assert!(passed > 0);
        }
    }
}
