//! Degradation: how badly a route fares, in four levels, and the switches that send it to its fallback.
//!
//! Levels: general (latencies jitter, or the service is cold), warning (5 % of requests fail), error (20 % fail, or as many are
//! not answered in time), severe (nothing is answered). Notes that name 5 to 10 % and 20 to 30 % leave a gap: here a level holds
//! from its lower bound to the next one's. Severe levels send a route to its fallback by themselves; people can set or forbid
//! that with a switch, which wins over what is measured. Cost: a few comparisons.

use crate::window::Counts;
use serde::{Deserialize, Serialize};

/// How badly a route fares.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should.
    #[default]
    Normal,
    /// Latencies jitter, or the service is cold.
    General,
    /// Some requests fail; the service as a whole goes on.
    Warning,
    /// Many fail or are not answered in time.
    Error,
    /// Nothing is answered.
    Severe,
}

impl Level {
    /// All, from the best.
    pub const ALL: [Self; 5] = [
        Self::Normal,
        Self::General,
        Self::Warning,
        Self::Error,
        Self::Severe,
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::General => "general",
            Self::Warning => "warning",
            Self::Error => "error",
            Self::Severe => "severe",
        }
    }

    /// The level of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.name() == name)
    }
}

/// Percent of failed requests at which a level begins.
pub const WARNING_PERCENT: u64 = 5;
/// The same, of failed ones or of those not answered in time.
pub const ERROR_PERCENT: u64 = 20;
/// Fewer requests than this within the window say nothing.
pub const REQUESTS_MIN: u64 = 10;

/// What is measured of a route.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Measure {
    /// Of the last seconds.
    pub counts: Counts,
    /// No server may be asked.
    pub is_down: bool,
    /// The service has begun to serve only now.
    pub is_cold: bool,
    /// Its latencies scatter.
    pub jitters: bool,
}

/// The level that is measured.
pub fn level(measure: &Measure) -> Level {
    let Counts {
        requests,
        errors,
        timeouts,
        ..
    } = measure.counts;
    let enough = requests >= REQUESTS_MIN;
    let reaches = |part: u64, percent: u64| enough && part * 100 >= requests * percent;
    if measure.is_down || reaches(errors, 100) {
        Level::Severe
    } else if reaches(errors, ERROR_PERCENT) || reaches(timeouts, ERROR_PERCENT) {
        Level::Error
    } else if reaches(errors, WARNING_PERCENT) {
        Level::Warning
    } else if measure.is_cold || measure.jitters {
        Level::General
    } else {
        Level::Normal
    }
}

/// What people have set.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Switch {
    /// What is measured decides.
    #[default]
    Auto,
    /// The fallback answers.
    On,
    /// It does not, whatever is measured; single requests that fail still have it.
    Off,
    /// The route is taken to fare like this.
    Level(Level),
}

impl Switch {
    /// The switch of this name: `auto`, `on`, `off` or a level's name.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "auto" => Some(Self::Auto),
            "on" => Some(Self::On),
            "off" => Some(Self::Off),
            name => Level::named(name).map(Self::Level),
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::On => "on",
            Self::Off => "off",
            Self::Level(level) => level.name(),
        }
    }
}

/// Whether the fallback answers in the server's place: by a switch, or from level `from` on.
pub fn is_degraded(switch: Switch, measured: Level, from: Level) -> bool {
    match switch {
        Switch::On => true,
        Switch::Off => false,
        Switch::Auto => measured >= from,
        Switch::Level(level) => level >= from,
    }
}

/// Whether latencies scatter: their mean deviation exceeds their mean (smoothed as round-trip times are in
/// RFC 6298).
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Jitter {
    mean_us: f64,
    deviation_us: f64,
    answers: u64,
}

impl Jitter {
    /// An answer came after so long.
    pub fn handle_latency(&mut self, latency_us: u64) {
        let latency = latency_us as f64;
        if self.answers == 0 {
            self.mean_us = latency;
        } else {
            let off = (latency - self.mean_us).abs();
            self.deviation_us += (off - self.deviation_us) / 4.0;
            self.mean_us += (latency - self.mean_us) / 8.0;
        }
        self.answers += 1;
    }

    /// They scatter.
    pub fn is_high(&self) -> bool {
        self.answers >= REQUESTS_MIN && self.deviation_us > self.mean_us
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(requests: u64, errors: u64, timeouts: u64) -> Measure {
        Measure {
            counts: Counts {
                requests,
                errors,
                timeouts,
                ..Counts::default()
            },
            ..Measure::default()
        }
    }

    #[test]
    fn m35_levels_golden() {
        for (errors, expected) in [
            (0, Level::Normal),
            (49, Level::Normal),
            (50, Level::Warning),
            (100, Level::Warning),
            (199, Level::Warning),
            (200, Level::Error),
            (300, Level::Error),
            (999, Level::Error),
            (1_000, Level::Severe),
        ] {
            assert_eq!(
                level(&of(1_000, errors, 0)),
                expected,
                "{errors} of 1000 fail"
            );
        }
        assert_eq!(level(&of(1_000, 200, 200)), Level::Error, "mass time-outs");
        assert_eq!(level(&of(9, 9, 0)), Level::Normal, "too few to say");
        let cold = Measure {
            is_cold: true,
            ..of(1_000, 0, 0)
        };
        let jitters = Measure {
            jitters: true,
            ..of(1_000, 49, 0)
        };
        let down = Measure {
            is_down: true,
            ..of(0, 0, 0)
        };
        assert_eq!(level(&cold), Level::General);
        assert_eq!(level(&jitters), Level::General);
        assert_eq!(level(&down), Level::Severe);
    }

    #[test]
    fn switch_wins_over_what_is_measured() {
        let from = Level::Error;
        for (switch, measured, expected) in [
            ("auto", Level::Warning, false),
            ("auto", Level::Error, true),
            ("on", Level::Normal, true),
            ("off", Level::Severe, false),
            ("general", Level::Severe, false),
            ("severe", Level::Normal, true),
        ] {
            let parsed = Switch::named(switch).unwrap();
            assert_eq!(parsed.name(), switch);
            assert_eq!(
                is_degraded(parsed, measured, from),
                expected,
                "{switch} {measured:?}"
            );
        }
        assert_eq!(Switch::named("maybe"), None);
    }

    #[test]
    fn steady_latencies_do_not_jitter_and_scattered_ones_do() {
        let mut jitter = Jitter::default();
        (0..100).for_each(|i| jitter.handle_latency(1_000 + i % 200));
        assert!(!jitter.is_high());
        (0..100).for_each(|i| jitter.handle_latency(if i % 8 == 0 { 80_000 } else { 100 }));
        assert!(jitter.is_high());
    }
}
