//! A supervisor: which children are stopped and started when one has ended, and when to give up.
//!
//! As Erlang/OTP's `supervisor` defines it (reference manual of stdlib, "supervisor", and "Supervision Principles" of
//! the design principles): children are started in order and stopped in reverse; a strategy says whom the end of one
//! concerns; more than `restarts_max` restarts within `period_ms` end the supervisor itself, which is its own
//! supervisor's affair. OTP restarts at once; here a pause that doubles ([`Backoff`]) may stand before.
//!
//! A child that fails while others are still being started is a child that failed: OTP tries it again and again in
//! the same way, and counts.
//!
//! Cost: a few words a child; each end costs at most a pass over the children.

use std::collections::{BTreeSet, VecDeque};

/// Whom the end of a child concerns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Strategy {
    /// Nobody else.
    OneForOne,
    /// All children.
    OneForAll,
    /// Those that were started after it.
    RestForOne,
}

/// When a child that has ended is started again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Restart {
    /// Always.
    Permanent,
    /// When it failed.
    Transient,
    /// Never.
    Temporary,
}

/// How a child ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// It had nothing more to do, or did what it was told.
    Normal,
    /// An error, a panic, or a supervisor that gave up.
    Failed,
}

/// The pause before a restart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Backoff {
    /// Before the first restart of a period, in milliseconds; doubled with each further one.
    pub first_ms: u64,
    /// At most.
    pub max_ms: u64,
}

impl Backoff {
    /// At once, as OTP has it.
    pub const NONE: Self = Self {
        first_ms: 0,
        max_ms: 0,
    };

    fn pause_ms(self, restarts: usize) -> u64 {
        let doubled = u32::try_from(restarts.saturating_sub(1)).unwrap_or(u32::MAX);
        let factor = 1_u64.checked_shl(doubled).unwrap_or(u64::MAX);
        self.first_ms.saturating_mul(factor).min(self.max_ms)
    }
}

/// How often is too often.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// So many restarts are borne…
    pub restarts_max: u32,
    /// …within so many milliseconds.
    pub period_ms: u64,
    /// What stands before each.
    pub backoff: Backoff,
}

impl Default for Limits {
    /// Three within 5 s, after 50, 100 and 200 ms.
    fn default() -> Self {
        Self {
            restarts_max: 3,
            period_ms: 5_000,
            backoff: Backoff {
                first_ms: 50,
                max_ms: 5_000,
            },
        }
    }
}

/// What is to be done next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// Start this child.
    Start(usize),
    /// Stop this child, and tell when it has ended.
    Stop(usize),
    /// All are stopped; the supervisor has ended so.
    Over(End),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// Not started yet, or to be started again.
    Idle,
    Running,
    Stopping,
    /// Never again.
    Gone,
}

/// A supervisor without its children's processes. Children are numbered in the order of their start.
#[derive(Clone, Debug)]
pub struct Supervision {
    strategy: Strategy,
    limits: Limits,
    children: Vec<(Restart, State)>,
    /// The last of them is stopped first.
    to_stop: BTreeSet<usize>,
    /// The first of them is started first, once nothing is to be stopped.
    to_start: BTreeSet<usize>,
    not_before_ms: u64,
    /// Times of restarts within the period.
    restarts: VecDeque<u64>,
    restarts_ever: u64,
    ending: Option<End>,
    is_over: bool,
}

impl Supervision {
    /// A supervisor that is to start these children.
    pub fn new(
        strategy: Strategy,
        limits: Limits,
        children: impl IntoIterator<Item = Restart>,
    ) -> Self {
        let children: Vec<_> = (children.into_iter())
            .map(|restart| (restart, State::Idle))
            .collect();
        Self {
            strategy,
            limits,
            to_stop: BTreeSet::new(),
            to_start: (0..children.len()).collect(),
            children,
            not_before_ms: 0,
            restarts: VecDeque::new(),
            restarts_ever: 0,
            ending: None,
            is_over: false,
        }
    }

    /// Restarts that were decided since it began, a failed child's count only.
    pub fn restarts(&self) -> u64 {
        self.restarts_ever
    }

    /// Whether a child has ended and will not be started again.
    pub fn is_gone(&self, child: usize) -> bool {
        (self.children.get(child)).is_some_and(|(_, state)| *state == State::Gone)
    }

    /// It shall end: all children are stopped.
    pub fn handle_stop(&mut self) {
        self.end(End::Normal);
    }

    /// A child has ended, whether it was told to or not. Ends of children that do not run are passed over.
    pub fn handle_ended(&mut self, now_ms: u64, child: usize, end: End) {
        let Some((restart, was)) = self.children.get(child).copied() else {
            return;
        };
        // A temporary one that is stopped for another's sake is not started again, either.
        let is_wanted = match (restart, was, end) {
            (Restart::Temporary, ..) => false,
            (Restart::Transient, State::Running, End::Normal) => false,
            (_, State::Running | State::Stopping, _) => true,
            (_, State::Idle | State::Gone, _) => return,
        };
        self.children[child].1 = match is_wanted {
            true => State::Idle,
            false => State::Gone,
        };
        if was == State::Running {
            self.to_stop.remove(&child);
            if is_wanted {
                self.restart(now_ms, child);
            }
        }
    }

    fn restart(&mut self, now_ms: u64, child: usize) {
        if self.ending.is_some() {
            return;
        }
        let since = now_ms.saturating_sub(self.limits.period_ms);
        while self.restarts.front().is_some_and(|at| *at < since) {
            self.restarts.pop_front();
        }
        self.restarts.push_back(now_ms);
        if self.restarts.len() > self.limits.restarts_max as usize {
            self.end(End::Failed);
            return;
        }
        self.restarts_ever += 1;
        let pause_ms = self.limits.backoff.pause_ms(self.restarts.len());
        self.not_before_ms = self.not_before_ms.max(now_ms.saturating_add(pause_ms));
        let concerned = match self.strategy {
            Strategy::OneForOne => child..child,
            Strategy::OneForAll => 0..self.children.len(),
            Strategy::RestForOne => child..self.children.len(),
        };
        self.to_start.insert(child);
        for other in concerned {
            match self.children[other].1 {
                State::Running => {
                    self.to_stop.insert(other);
                    self.to_start.insert(other);
                }
                State::Stopping | State::Idle => {
                    self.to_start.insert(other);
                }
                State::Gone => {}
            }
        }
    }

    fn end(&mut self, end: End) {
        if self.ending.is_none() {
            self.ending = Some(end);
            self.to_start.clear();
            self.to_stop = (0..self.children.len()).collect();
        }
    }

    /// What is to be done now, one thing at a time: `None` while a child that was told to stop runs, while a pause
    /// lasts, and when there is nothing to do.
    pub fn poll(&mut self, now_ms: u64) -> Option<Step> {
        let is_stopping = |(_, state): &(Restart, State)| *state == State::Stopping;
        if self.is_over || self.children.iter().any(is_stopping) {
            return None;
        }
        while let Some(child) = self.to_stop.pop_last() {
            if self.children[child].1 == State::Running {
                self.children[child].1 = State::Stopping;
                return Some(Step::Stop(child));
            }
        }
        if let Some(end) = self.ending {
            self.is_over = true;
            return Some(Step::Over(end));
        }
        if now_ms < self.not_before_ms {
            return None;
        }
        while let Some(child) = self.to_start.pop_first() {
            if self.children[child].1 == State::Idle {
                self.children[child].1 = State::Running;
                return Some(Step::Start(child));
            }
        }
        None
    }

    /// When to poll again at the latest, where a pause lasts.
    pub fn wake_at_ms(&self) -> Option<u64> {
        let waits = self.ending.is_none() && !self.to_start.is_empty();
        waits.then_some(self.not_before_ms)
    }
}
