//! Uniform queueing, as in Sentinel's throttling: requests pass one interval apart, and wait at most so long.
//!
//! Idea: the time of the last pass is all there is to remember; the next may pass one interval T later. A request that
//! comes T or more after it passes at once; one that would have to wait longer than `wait_max` is refused
//! and leaves no trace. Cost: one addition.

use super::{Verdict, interval_us};

/// One interval apart, a bounded time in line.
#[derive(Clone, PartialEq, Debug)]
pub struct UniformQueue {
    interval_us: f64,
    wait_us_max: u64,
    /// When the last one granted passes.
    last_us: Option<f64>,
}

impl UniformQueue {
    /// Passes `rate` a second, an interval T = 1/`rate` apart; nobody waits longer than `wait_us_max`.
    pub fn new(rate: f64, wait_us_max: u64) -> Self {
        Self {
            interval_us: interval_us(rate),
            wait_us_max,
            last_us: None,
        }
    }

    /// Passes, takes the next free time, or refuses.
    pub fn ask(&mut self, now_us: u64) -> Verdict {
        let now = now_us as f64;
        let due = (self.last_us).map_or(now, |last| (last + self.interval_us).max(now));
        let wait_us = (due - now).ceil() as u64;
        if wait_us > self.wait_us_max {
            return Verdict::Refuse(wait_us - self.wait_us_max);
        }
        self.last_us = Some(due);
        match wait_us {
            0 => Verdict::Pass,
            us => Verdict::Wait(us),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: u64 = 100_000;

    /// One has passed at t1 = 0, and `waiting` wait since.
    fn queue(waiting: usize) -> UniformQueue {
        let mut queue = UniformQueue::new(10.0, 6 * T);
        assert_eq!(queue.ask(0), Verdict::Pass);
        for place in 1..=waiting as u64 {
            assert_eq!(queue.ask(0), Verdict::Wait(place * T));
        }
        queue
    }

    #[test]
    fn m34_uniform_queueing_golden() {
        assert_eq!(queue(0).ask(T), Verdict::Pass, "idle for T: at once");
        assert_eq!(queue(0).ask(5 * T), Verdict::Pass);
        assert_eq!(
            queue(0).ask(T / 4),
            Verdict::Wait(3 * T / 4),
            "else at t1 + T"
        );
        assert_eq!(queue(3).ask(0), Verdict::Wait(4 * T), "3 waiting: t1 + 4T");
        assert_eq!(
            queue(5).ask(0),
            Verdict::Wait(6 * T),
            "5 waiting: t1 + 6T, admitted"
        );
        assert_eq!(queue(6).ask(0), Verdict::Refuse(T), "6 waiting: refused");
        assert_eq!(
            queue(6).ask(T),
            Verdict::Wait(6 * T),
            "and the refused one left no trace"
        );
    }

    #[test]
    fn without_patience_it_is_a_pace() {
        let mut queue = UniformQueue::new(0.5, 0);
        assert_eq!(queue.ask(0), Verdict::Pass);
        assert_eq!(queue.ask(1_999_999), Verdict::Refuse(1));
        assert_eq!(queue.ask(2_000_000), Verdict::Pass);
    }
}
