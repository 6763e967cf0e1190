//! The two clocks, as the value that cores take.

use base::Now;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Monotonic microseconds count from one second before the clock was made, so that 0 never occurs.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// Starts counting.
    pub fn new() -> Self {
        Self {
            start: Instant::now(),
        }
    }

    /// Both clocks, read now.
    pub fn now(&self) -> Now {
        let wall = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Now {
            mono_us: 1_000_000 + self.start.elapsed().as_micros() as u64,
            wall_ms: wall.as_millis() as i64,
        }
    }
}
