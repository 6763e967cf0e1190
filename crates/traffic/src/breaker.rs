//! Circuit breaker: a server that fails or drags is left alone for a while, then tried with a single request.
//!
//! Source: Nygard, "Release It!" (2007); the three rules and the least number of requests as in Sentinel and
//! resilience4j. Closed, it counts; when a rule is broken it opens; after `open_us` it is half open and lets one request
//! through, whose end closes or reopens it. Requests that began before it opened end without a say. Cost: one window.

use crate::window::{Counts, Window};

/// When it opens; a rule that is `None` is off.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Rules {
    /// What takes at least so long is slow, in microseconds.
    pub slow_us: u64,
    /// Share of slow requests, above 0 up to 1, at which it opens.
    pub slow_ratio: Option<f64>,
    /// Share of failed requests, above 0 up to 1, at which it opens.
    pub error_ratio: Option<f64>,
    /// Number of failed requests at which it opens.
    pub error_count: Option<u64>,
    /// Fewer requests than this within the window open nothing.
    pub requests_min: u64,
    /// Length of the window in microseconds.
    pub window_us: u64,
    /// How long it stays open, in microseconds.
    pub open_us: u64,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            slow_us: 1_000_000,
            slow_ratio: None,
            error_ratio: Some(0.5),
            error_count: None,
            requests_min: 5,
            window_us: 10_000_000,
            open_us: 5_000_000,
        }
    }
}

/// Where it stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// Requests pass.
    Closed,
    /// None passes before this time, in monotonic microseconds.
    Open {
        /// When one is tried.
        until_us: u64,
    },
    /// One is under way, and decides.
    HalfOpen,
}

impl State {
    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open { .. } => "open",
            Self::HalfOpen => "half open",
        }
    }
}

/// The right to send one request. Given back with [`Breaker::handle_done`] or [`Breaker::handle_dropped`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Permit {
    /// Of which life of the breaker; what began in an earlier one has no say.
    life: u64,
}

/// Guards one server.
#[derive(Clone, PartialEq, Debug)]
pub struct Breaker {
    rules: Rules,
    state: State,
    window: Window,
    life: u64,
    /// How often it opened.
    pub opened: u64,
}

impl Breaker {
    /// Closed.
    pub fn new(rules: Rules) -> Self {
        Self {
            rules,
            state: State::Closed,
            window: Window::new(rules.window_us),
            life: 0,
            opened: 0,
        }
    }

    /// Where it stands.
    pub fn state(&self) -> State {
        self.state
    }

    /// Its rules.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// True when [`Self::acquire`] would grant a permit.
    pub fn is_passable(&self, now_us: u64) -> bool {
        match self.state {
            State::Closed => true,
            State::Open { until_us } => now_us >= until_us,
            State::HalfOpen => false,
        }
    }

    /// A permit, or `None` while the server is to be left alone. The first after the open time is the probe.
    pub fn acquire(&mut self, now_us: u64) -> Option<Permit> {
        if !self.is_passable(now_us) {
            return None;
        }
        if self.state != State::Closed {
            self.state = State::HalfOpen;
            self.life += 1;
        }
        Some(Permit { life: self.life })
    }

    /// A request ended.
    pub fn handle_done(&mut self, permit: Permit, now_us: u64, latency_us: u64, failed: bool) {
        if permit.life != self.life {
            return;
        }
        let slow = self.rules.slow_ratio.is_some() && latency_us >= self.rules.slow_us;
        match self.state {
            State::HalfOpen if failed || slow => self.open(now_us),
            State::HalfOpen => {
                self.state = State::Closed;
                self.life += 1;
                self.window.clear();
            }
            State::Open { .. } => {}
            State::Closed => {
                let counts = Counts {
                    requests: 1,
                    errors: u64::from(failed),
                    slow: u64::from(slow),
                    ..Counts::default()
                };
                self.window.add(now_us, counts);
                if self.is_broken(now_us) {
                    self.open(now_us);
                }
            }
        }
    }

    /// A request was given up before its server could show what it is worth. A probe's place is free again at once.
    pub fn handle_dropped(&mut self, permit: Permit, now_us: u64) {
        if permit.life == self.life && self.state == State::HalfOpen {
            self.state = State::Open { until_us: now_us };
        }
    }

    fn open(&mut self, now_us: u64) {
        self.state = State::Open {
            until_us: now_us + self.rules.open_us,
        };
        self.life += 1;
        self.opened += 1;
        self.window.clear();
    }

    fn is_broken(&mut self, now_us: u64) -> bool {
        let sum = self.window.sum(now_us);
        if sum.requests < self.rules.requests_min.max(1) {
            return false;
        }
        let reached = |share: Option<f64>, part: u64| {
            share.is_some_and(|share| part as f64 >= share * sum.requests as f64)
        };
        reached(self.rules.slow_ratio, sum.slow)
            || reached(self.rules.error_ratio, sum.errors)
            || (self.rules.error_count).is_some_and(|count| sum.errors >= count)
    }
}
