//! Faults: their names, and a schedule of them drawn from a seed.

use base::Rng;
use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

/// A kind of fault that can be switched on and off.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Name {
    /// A process is killed, or its machine loses power, and comes back.
    Crash,
    /// All machines lose power at once.
    Blackout,
    /// A process stands still for a while.
    Pause,
    /// Some nodes do not hear others.
    Partition,
    /// The streams between two nodes break.
    Streams,
    /// Frames arrive twice.
    Duplicate,
    /// The client connections of a node break.
    Connections,
    /// Syncs take long.
    Slow,
    /// A disk is full for a while.
    Full,
    /// Syncs of a disk fail for a while; what they were to write stays readable and may not be on the disk.
    Fail,
    /// A wall clock is set, or the clocks run at another rate.
    Clock,
    /// A data directory is wiped.
    Wipe,
    /// A bit flips at rest.
    Flip,
    /// A journal is gone, its identity file is not.
    Lose,
    /// A member loses its log while another is behind and the third is down: only silence is safe.
    Rot,
    /// A node joins, a node leaves.
    Members,
    /// A leadership is handed over.
    Transfer,
    /// A snapshot is taken.
    Snapshot,
}

/// Every fault with its name and mean interval in milliseconds.
const NAMES: [(Name, &str, u64); 18] = [
    (Name::Crash, "crash", 4_000),
    (Name::Blackout, "blackout", 5_000),
    (Name::Pause, "pause", 4_000),
    (Name::Partition, "partition", 4_000),
    (Name::Streams, "streams", 1_000),
    (Name::Connections, "connections", 2_500),
    (Name::Slow, "slow", 4_000),
    (Name::Full, "full", 9_000),
    (Name::Fail, "fail", 9_000),
    (Name::Clock, "clock", 3_000),
    (Name::Wipe, "wipe", 7_000),
    (Name::Flip, "flip", 7_000),
    (Name::Lose, "lose", 9_000),
    (Name::Rot, "rot", 7_000),
    (Name::Members, "members", 5_000),
    (Name::Transfer, "transfer", 3_000),
    (Name::Snapshot, "snapshot", 1_500),
    (Name::Duplicate, "duplicate", 3_000),
];

/// Which faults a run may have.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Faults {
    /// Each seed draws its own selection.
    All,
    /// Exactly these.
    Only(BTreeSet<Name>),
}

impl Faults {
    /// True when a node may lose touch with its leader for a while.
    pub fn may_cut_off(&self) -> bool {
        let harmless = [
            Name::Connections,
            Name::Duplicate,
            Name::Snapshot,
            Name::Clock,
        ];
        match self {
            Self::All => true,
            Self::Only(names) => names.iter().any(|name| !harmless.contains(name)),
        }
    }

    /// No faults.
    pub fn none() -> Self {
        Self::Only(BTreeSet::new())
    }
}

impl FromStr for Faults {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "all" => return Ok(Self::All),
            "none" => return Ok(Self::none()),
            _ => {}
        }
        let mut names = BTreeSet::new();
        for word in text.split(',') {
            let known = NAMES.iter().find(|(_, name, _)| *name == word);
            let Some((name, ..)) = known else {
                let all: Vec<&str> = NAMES.iter().map(|(_, name, _)| *name).collect();
                return Err(format!(
                    "there is no fault `{word}`; use all, none, or some of {}",
                    all.join(",")
                ));
            };
            names.insert(*name);
        }
        Ok(Self::Only(names))
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Only(names) = self else {
            return f.write_str("all");
        };
        if names.is_empty() {
            return f.write_str("none");
        }
        let words: Vec<&str> = NAMES
            .iter()
            .filter(|(name, ..)| names.contains(name))
            .map(|(_, word, _)| *word)
            .collect();
        f.write_str(&words.join(","))
    }
}

/// Who does not hear whom.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shape {
    /// Two sides.
    Halves,
    /// One against the others.
    Isolate,
    /// One is heard by nobody but hears everyone.
    OneWay,
    /// Two sides with one member in both.
    Bridge,
}

/// A fault with its figures. `pick` numbers choose among whoever is there when it happens.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs)] // each is explained at its name
pub enum Fault {
    Crash {
        pick: u64,
        power: bool,
        down_us: u64,
    },
    /// Of scenarios only: nothing draws it.
    #[cfg(test)]
    CrashLeader {
        power: bool,
        down_us: u64,
    },
    Blackout {
        down_us: u64,
    },
    Pause {
        pick: u64,
        for_us: u64,
    },
    Partition {
        shape: Shape,
        pick: u64,
        for_us: u64,
    },
    Streams {
        pick: u64,
    },
    Duplicate {
        for_us: u64,
    },
    Connections {
        pick: u64,
    },
    Slow {
        pick: u64,
        everyone: bool,
        extra_us: u64,
        for_us: u64,
    },
    Full {
        pick: u64,
        for_us: u64,
    },
    Fail {
        pick: u64,
        for_us: u64,
    },
    Step {
        pick: u64,
        by_ms: i64,
    },
    Drift {
        pick: u64,
        ppm: i64,
    },
    Wipe {
        pick: u64,
    },
    Flip {
        pick: u64,
    },
    Lose {
        pick: u64,
    },
    Rot {
        pick: u64,
        lose: bool,
    },
    Members {
        pick: u64,
    },
    Transfer {
        pick: u64,
        to: u64,
        meta: bool,
    },
    Snapshot {
        pick: u64,
        meta: bool,
    },
}

/// A fault and when it happens.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Planned {
    /// Simulated time.
    pub at_us: u64,
    /// What.
    pub fault: Fault,
}

/// Draws a schedule. Each kind has its own stream of randomness, so that switching one off leaves the others.
pub fn schedule(seed: &Rng, faults: &Faults, from_us: u64, to_us: u64) -> Vec<Planned> {
    let mut planned = Vec::new();
    for (i, (name, _, mean_ms)) in NAMES.iter().enumerate() {
        let mut rng = seed.fork(i as u64 + 1);
        let chosen = rng.one_in(2);
        let on = match faults {
            Faults::All => chosen,
            Faults::Only(names) => names.contains(name),
        };
        if !on {
            continue;
        }
        let mut at_us = from_us;
        loop {
            at_us += rng.range(mean_ms * 200, mean_ms * 1_800);
            if at_us >= to_us {
                break;
            }
            let fault = draw(*name, &mut rng);
            planned.push(Planned { at_us, fault });
        }
    }
    planned.sort_by_key(|planned| planned.at_us);
    planned
}

fn draw(name: Name, rng: &mut Rng) -> Fault {
    let pick = rng.next_u64() >> 8;
    match name {
        Name::Crash => Fault::Crash {
            pick,
            power: rng.one_in(2),
            down_us: rng.range(10_000, 2_500_000),
        },
        Name::Blackout => Fault::Blackout {
            down_us: rng.range(10_000, 1_000_000),
        },
        Name::Pause => Fault::Pause {
            pick,
            for_us: rng.range(50_000, 3_000_000),
        },
        Name::Partition => Fault::Partition {
            shape: [Shape::Halves, Shape::Isolate, Shape::OneWay, Shape::Bridge]
                [rng.range(0, 4) as usize],
            pick,
            for_us: rng.range(100_000, 4_000_000),
        },
        Name::Streams => Fault::Streams { pick },
        Name::Duplicate => Fault::Duplicate {
            for_us: rng.range(100_000, 2_000_000),
        },
        Name::Connections => Fault::Connections { pick },
        Name::Slow => Fault::Slow {
            pick,
            everyone: rng.one_in(2),
            extra_us: rng.range(5_000, 400_000),
            for_us: rng.range(200_000, 3_000_000),
        },
        Name::Full => Fault::Full {
            pick,
            for_us: rng.range(100_000, 3_000_000),
        },
        Name::Fail => Fault::Fail {
            pick,
            for_us: rng.range(100_000, 2_000_000),
        },
        Name::Clock if rng.one_in(2) => Fault::Step {
            pick,
            by_ms: rng.range(0, 120_000) as i64 - 60_000,
        },
        Name::Clock => Fault::Drift {
            pick,
            ppm: rng.range(0, 801) as i64 - 400,
        },
        Name::Wipe => Fault::Wipe { pick },
        Name::Flip => Fault::Flip { pick },
        Name::Lose => Fault::Lose { pick },
        Name::Rot => Fault::Rot {
            pick,
            lose: rng.one_in(2),
        },
        Name::Members => Fault::Members { pick },
        Name::Transfer => Fault::Transfer {
            pick,
            to: rng.next_u64() >> 8,
            meta: rng.one_in(3),
        },
        Name::Snapshot => Fault::Snapshot {
            pick,
            meta: rng.one_in(4),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_survive_their_text() {
        for text in ["all", "none", "crash,partition,members"] {
            assert_eq!(
                text.parse::<Faults>().map(|f| f.to_string()).as_deref(),
                Ok(text)
            );
        }
        assert!("crush".parse::<Faults>().is_err());
    }

    #[test]
    fn switching_one_kind_off_leaves_the_others_where_they_were() {
        let seed = Rng::new(5);
        let both = schedule(&seed, &"crash,pause".parse().unwrap(), 0, 60_000_000);
        let one = schedule(&seed, &"crash".parse().unwrap(), 0, 60_000_000);
        let crashes: Vec<_> = both
            .into_iter()
            .filter(|planned| matches!(planned.fault, Fault::Crash { .. }))
            .collect();
        assert!(!one.is_empty());
        assert_eq!(crashes, one);
    }
}
