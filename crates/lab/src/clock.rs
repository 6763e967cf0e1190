//! A node's clocks: both run at the same slightly wrong rate; only the wall clock steps.

use base::Now;

const WALL_START_MS: i64 = 1_700_000_000_000;

/// The clocks of one node, as functions of simulated time in microseconds.
#[derive(Clone, Debug)]
pub struct NodeClock {
    anchor_us: u64,
    mono_us: u64,
    wall_us: i64,
    drift_ppm: i64,
}

impl NodeClock {
    /// Clocks that are `offset_ms` off in wall time and run `drift_ppm` parts in a million too fast.
    pub fn new(offset_ms: i64, drift_ppm: i64) -> Self {
        Self {
            anchor_us: 0,
            mono_us: 0,
            wall_us: (WALL_START_MS + offset_ms) * 1000,
            drift_ppm,
        }
    }

    fn elapsed_us(&self, at_us: u64) -> u64 {
        let real = at_us.saturating_sub(self.anchor_us) as i64;
        (real + real / 1_000_000 * self.drift_ppm + real % 1_000_000 * self.drift_ppm / 1_000_000)
            as u64
    }

    /// What the node reads at simulated time `at_us`.
    pub fn read(&self, at_us: u64) -> Now {
        let elapsed = self.elapsed_us(at_us);
        Now {
            mono_us: self.mono_us + elapsed,
            wall_ms: (self.wall_us + elapsed as i64).div_euclid(1000),
        }
    }

    /// The simulated time at which the monotonic clock shows at least `mono_us`.
    pub fn when(&self, mono_us: u64) -> u64 {
        let wanted = u128::from(mono_us.saturating_sub(self.mono_us));
        let real = wanted * 1_000_000 / (1_000_000 + self.drift_ppm) as u128 + 2;
        self.anchor_us
            .saturating_add(u64::try_from(real).unwrap_or(u64::MAX))
    }

    fn settle(&mut self, at_us: u64) {
        let elapsed = self.elapsed_us(at_us);
        self.mono_us += elapsed;
        self.wall_us += elapsed as i64;
        self.anchor_us = at_us;
    }

    /// From `at_us` on the clocks run at another rate.
    pub fn set_drift(&mut self, at_us: u64, drift_ppm: i64) {
        self.settle(at_us);
        self.drift_ppm = drift_ppm;
    }

    /// Someone sets the wall clock.
    pub fn step_wall(&mut self, at_us: u64, by_ms: i64) {
        self.settle(at_us);
        self.wall_us += by_ms * 1000;
    }

    /// The process starts again: its monotonic clock counts from elsewhere.
    pub fn restart(&mut self, at_us: u64, mono_us: u64) {
        self.settle(at_us);
        self.mono_us = mono_us;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_are_met_when_the_simulated_time_says_so() {
        for drift in [-500, 0, 500] {
            let mut clock = NodeClock::new(-40, drift);
            clock.restart(1_000, 77);
            for wanted in [0, 77, 78, 5_000, 3_000_000_001] {
                let at = clock.when(wanted);
                assert!(clock.read(at).mono_us >= wanted, "{drift} {wanted}");
            }
        }
    }

    #[test]
    fn a_wall_step_leaves_monotonic_time_alone() {
        let mut clock = NodeClock::new(0, 300);
        let before = clock.read(9_000_000);
        clock.step_wall(9_000_000, -5_000);
        let after = clock.read(9_000_000);
        assert_eq!(after.mono_us, before.mono_us);
        assert_eq!(after.wall_ms, before.wall_ms - 5_000);
        clock.set_drift(9_000_000, -300);
        assert_eq!(clock.read(9_000_000), after);
    }
}
