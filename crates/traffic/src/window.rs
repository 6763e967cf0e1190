//! What was counted lately: a ring of ten slices of a window.
//!
//! Idea: a slice is emptied when its time comes again, so memory is fixed and old counts go a tenth at a time. A window that slid
//! exactly would keep every event. Cost: one step for each slice that passed unused, ten at most.

const SLICES: usize = 10;

/// What is counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Requests that ended.
    pub requests: u64,
    /// Of these, such that failed, time-outs among them.
    pub errors: u64,
    /// Of these, such that were not answered in time.
    pub timeouts: u64,
    /// Such that took long.
    pub slow: u64,
    /// Such that a limit refused; not among the requests.
    pub refused: u64,
}

impl Counts {
    fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.errors += other.errors;
        self.timeouts += other.timeouts;
        self.slow += other.slow;
        self.refused += other.refused;
    }
}

/// Counts of the last `length_us`, to a tenth.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Window {
    slice_us: u64,
    slices: [Counts; SLICES],
    /// Number of the newest slice since the beginning of time.
    newest: u64,
}

impl Window {
    /// An empty window of this length.
    pub fn new(length_us: u64) -> Self {
        Self {
            slice_us: (length_us / SLICES as u64).max(1),
            slices: [Counts::default(); SLICES],
            newest: 0,
        }
    }

    /// Adds to what is counted at `now_us`.
    pub fn add(&mut self, now_us: u64, counts: Counts) {
        self.turn(now_us);
        self.slices[(self.newest % SLICES as u64) as usize].add(&counts);
    }

    /// All that is within the window at `now_us`.
    pub fn sum(&mut self, now_us: u64) -> Counts {
        self.turn(now_us);
        let mut sum = Counts::default();
        self.slices.iter().for_each(|slice| sum.add(slice));
        sum
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.slices = [Counts::default(); SLICES];
    }

    fn turn(&mut self, now_us: u64) {
        let now = now_us / self.slice_us;
        let passed = now.saturating_sub(self.newest).min(SLICES as u64);
        for step in 0..passed {
            self.slices[((now - step) % SLICES as u64) as usize] = Counts::default();
        }
        self.newest = self.newest.max(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one() -> Counts {
        Counts {
            requests: 1,
            ..Counts::default()
        }
    }

    #[test]
    fn counts_leave_the_window_a_slice_at_a_time() {
        let mut window = Window::new(1_000);
        window.add(50, one());
        window.add(950, one());
        assert_eq!(window.sum(999).requests, 2);
        assert_eq!(window.sum(1_000).requests, 1);
        assert_eq!(window.sum(1_899).requests, 1);
        assert_eq!(window.sum(1_900).requests, 0);
        window.add(1_000_000, one());
        assert_eq!(window.sum(1_000_000).requests, 1);
    }
}
