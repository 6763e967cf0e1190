//! What this process counts of its calls, and who tells the cluster.

use crate::agent::Shared;
use std::sync::{Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};
use traffic::calls::{Book, Key, Outcome, Report};

/// How often the cluster is told.
const REPORT_TIME: Duration = Duration::from_secs(1);

pub(crate) struct Monitor {
    start: Instant,
    book: Mutex<Book>,
}

impl Monitor {
    pub fn new(name: &str) -> Self {
        let run = crate::context::draw();
        Self {
            start: Instant::now(),
            book: Mutex::new(Book::new(format!("{name}-{run:016x}"))),
        }
    }

    pub fn add(&self, call: Key, outcome: Outcome, latency: Duration, is_repeated: bool) {
        let latency_us = latency.as_micros() as u64;
        let now_us = self.now_us();
        self.book()
            .add(call, outcome, latency_us, is_repeated, now_us);
    }

    pub fn report(&self) -> Report {
        let now_us = self.now_us();
        self.book().report(now_us)
    }

    /// Nothing panics while it holds the lock; if something did, the counts are still whole.
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now_us(&self) -> u64 {
        self.start.elapsed().as_micros() as u64
    }
}

/// Tells all that was counted each second, until the agent is gone. What cannot be told now is in the next report.
pub(crate) async fn tell(agent: Weak<Shared>) {
    let mut ticks = tokio::time::interval(REPORT_TIME);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(agent) = agent.upgrade() else { return };
        let report = agent.monitor().report();
        if !report.rows.is_empty() {
            let _ = agent.tell(&report).await;
        }
    }
}
