//! Retry budget: repetitions may be so large a part of all requests, and no more.
//!
//! Source: Finagle's retry budgets; "Addressing Cascading Failures" in Google's SRE book (2016). Idea: each request pays in a part
//! of a token, a repetition takes a whole one; so when everything fails, load grows by that part instead of being multiplied.
//! A few a second are always allowed, for routes with little traffic. Cost: an addition.

/// A purse of repetitions.
#[derive(Clone, PartialEq, Debug)]
pub struct RetryBudget {
    ratio: f64,
    least_per_s: f64,
    tokens: f64,
    at_us: Option<u64>,
}

/// Tokens saved at most.
const TOKENS_MAX: f64 = 100.0;

impl RetryBudget {
    /// Repetitions may be `ratio` (0.2: a fifth) of requests, and `least_per_s` a second in any case.
    pub fn new(ratio: f64, least_per_s: f64) -> Self {
        Self {
            ratio,
            least_per_s,
            tokens: least_per_s,
            at_us: None,
        }
    }

    /// A request came.
    pub fn handle_request(&mut self) {
        self.tokens = (self.tokens + self.ratio).min(TOKENS_MAX);
    }

    /// Pays for a repetition, or refuses it.
    #[must_use]
    pub fn acquire(&mut self, now_us: u64) -> bool {
        let passed_us = now_us.saturating_sub(self.at_us.unwrap_or(now_us));
        // What time gives is for now: it is not saved beyond a second's worth.
        let given = self.least_per_s * passed_us as f64 / 1e6;
        if self.tokens < self.least_per_s {
            self.tokens = (self.tokens + given).min(self.least_per_s);
        }
        self.at_us = Some(now_us.max(self.at_us.unwrap_or(0)));
        let is_paid = self.tokens >= 1.0 - 1e-9;
        if is_paid {
            self.tokens = (self.tokens - 1.0).max(0.0);
        }
        is_paid
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn when_all_requests_fail_load_grows_by_the_ratio() {
        let mut budget = RetryBudget::new(0.2, 0.0);
        let repeated = (0..1_000)
            .filter(|_| {
                budget.handle_request();
                budget.acquire(0)
            })
            .count();
        assert!((195..=200).contains(&repeated), "{repeated}");
    }

    #[test]
    fn quiet_route_may_repeat_a_few_a_second() {
        let mut budget = RetryBudget::new(0.0, 2.0);
        assert!(budget.acquire(0) && budget.acquire(0) && !budget.acquire(0));
        assert!(budget.acquire(500_000) && !budget.acquire(500_000));
        assert!(budget.acquire(60_000_000) && budget.acquire(60_000_000));
        assert!(!budget.acquire(60_000_000));
    }
}
