//! Leaky bucket: requests flow in as they come and out at a steady rate; what does not fit spills.
//!
//! Source: Turner 1986, as a queue. Idea: the server behind sees one request each 1/`rate`, never a burst; `depth`
//! requests may be in the bucket, the one that flows out now among them. Unlike [`super::UniformQueue`] its bound is a
//! number of requests, not a time. Cost: one subtraction.

use super::{Verdict, interval_us};

/// Steady outflow, a bounded number inside.
#[derive(Clone, PartialEq, Debug)]
pub struct LeakyBucket {
    interval_us: f64,
    depth: f64,
    /// When the last one that is in flows out.
    last_us: Option<f64>,
}

impl LeakyBucket {
    /// Lets `rate` requests a second flow out and holds at most `depth` (at least 1).
    pub fn new(rate: f64, depth: f64) -> Self {
        Self {
            interval_us: interval_us(rate),
            depth: depth.max(1.0),
            last_us: None,
        }
    }

    /// A place in the bucket, or a refusal until there is one.
    pub fn ask(&mut self, now_us: u64) -> Verdict {
        let now = now_us as f64;
        let out = (self.last_us).map_or(now, |last| (last + self.interval_us).max(now));
        let wait = out - now;
        let most = (self.depth - 1.0) * self.interval_us;
        // What is over by less than a microsecond is rounding.
        if wait > most + 0.5 {
            return Verdict::Refuse((wait - most).ceil() as u64);
        }
        self.last_us = Some(out);
        match wait.ceil() as u64 {
            0 => Verdict::Pass,
            us => Verdict::Wait(us),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outflow_is_steady_and_what_does_not_fit_spills() {
        let mut bucket = LeakyBucket::new(100.0, 3.0);
        assert_eq!(bucket.ask(0), Verdict::Pass);
        assert_eq!(bucket.ask(0), Verdict::Wait(10_000));
        assert_eq!(bucket.ask(0), Verdict::Wait(20_000));
        assert_eq!(bucket.ask(0), Verdict::Refuse(10_000));
        assert_eq!(
            bucket.ask(10_000),
            Verdict::Wait(20_000),
            "one has flowed out"
        );
        assert_eq!(bucket.ask(1_000_000), Verdict::Pass);
    }

    #[test]
    fn depth_of_one_holds_no_queue() {
        let mut bucket = LeakyBucket::new(0.5, 1.0);
        assert_eq!(bucket.ask(0), Verdict::Pass);
        assert_eq!(bucket.ask(500_000), Verdict::Refuse(1_500_000));
        assert_eq!(bucket.ask(2_000_000), Verdict::Pass);
    }
}
