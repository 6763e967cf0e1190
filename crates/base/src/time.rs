//! Time as a value. Pure code receives [`Now`] as an argument and never fetches it.

/// The two clocks of a core at one moment.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Now {
    /// Monotonic clock, microseconds since an arbitrary start. Never goes back.
    pub mono_us: u64,
    /// Wall clock, milliseconds since 1970-01-01 UTC. May step.
    pub wall_ms: i64,
}

impl Now {
    /// Monotonic milliseconds.
    pub fn mono_ms(self) -> u64 {
        self.mono_us / 1000
    }
}

/// What a leader writes on each entry; the only time and randomness that a machine sees.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stamp {
    /// Milliseconds since 1970-01-01 UTC by the leader's slewed clock.
    pub time_ms: i64,
    /// Seed for whatever the machine has to draw.
    pub seed: u64,
}
