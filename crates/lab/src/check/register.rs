//! A register of which every value is written at most once: it is linearizable.
//!
//! Its operations fall into clusters: a write and the reads that saw its value. A cluster's zone reaches from
//! the first end of any of its operations to the last beginning. The history is linearizable if and only if no
//! read ends before its write begins and no two clusters would each have to be before the other (P. B. Gibbons,
//! E. Korach: "Testing shared memories", SIAM Journal on Computing 26, 1997). A write of unknown outcome that
//! nobody saw may never have been. The empty value is what was there first.
//!
//! Two clusters would each have to be before the other when each has an end before a beginning of the other.
//! Then at least one of them has an end before its own last beginning; those are gone through by their ends,
//! with the latest beginning of any before: sorting is all that it costs.

use std::collections::BTreeMap;

#[derive(Debug)]
struct Cluster {
    refused: bool,
    seen: bool,
    /// When its write began.
    invoked_us: u64,
    first_end_us: u64,
    last_begin_us: u64,
}

/// What was done to a register.
#[derive(Debug, Default)]
pub struct Register<'a> {
    clusters: BTreeMap<&'a str, Cluster>,
}

impl<'a> Register<'a> {
    /// A write: from when to when, and whether it was done; `None`: nobody knows, or will.
    pub fn write(&mut self, value: &'a str, invoked_us: u64, end_us: u64, done: Option<bool>) {
        let cluster = Cluster {
            refused: done == Some(false),
            seen: done == Some(true),
            invoked_us,
            first_end_us: end_us,
            last_begin_us: invoked_us,
        };
        self.clusters.insert(value, cluster);
    }

    /// A read, once all writes are there. Says what is wrong with the value.
    pub fn read(&mut self, value: &'a str, invoked_us: u64, end_us: u64) -> Result<(), String> {
        if value.is_empty() {
            self.clusters.entry("").or_insert(Cluster {
                refused: false,
                seen: true,
                invoked_us: 0,
                first_end_us: 0,
                last_begin_us: 0,
            });
        }
        let Some(cluster) = self.clusters.get_mut(value) else {
            return Err("which nobody wrote there".into());
        };
        cluster.seen = true;
        cluster.first_end_us = cluster.first_end_us.min(end_us);
        cluster.last_begin_us = cluster.last_begin_us.max(invoked_us);
        if cluster.refused || end_us < cluster.invoked_us {
            return Err("before its write, or although that was refused".into());
        }
        Ok(())
    }

    /// Values that would each have to be before the other, in words.
    pub fn conflicts(&self) -> Vec<String> {
        let mut all: Vec<(&str, &Cluster)> = (self.clusters.iter())
            .filter(|(_, cluster)| cluster.seen && !cluster.refused)
            .map(|(value, cluster)| (*value, cluster))
            .collect();
        all.sort_by_key(|(_, cluster)| cluster.first_end_us);
        // Of the clusters so far that end before they begin for the last time, the one that begins last.
        let mut found = Vec::new();
        let mut latest: Option<(&str, &Cluster)> = None;
        let mut forward = Vec::new();
        for (value, one) in &all {
            if one.first_end_us >= one.last_begin_us {
                continue;
            }
            if let Some((other_value, other)) = latest
                && one.first_end_us < other.last_begin_us
                && other.first_end_us < one.last_begin_us
            {
                found.push(words((other_value, other), (value, one)));
            }
            if latest.is_none_or(|(_, other)| one.last_begin_us > other.last_begin_us) {
                latest = Some((value, one));
            }
            // In the order of their ends, with the latest beginning up to there.
            forward.push((one.first_end_us, latest));
        }
        for (value, one) in all {
            if one.first_end_us < one.last_begin_us {
                continue;
            }
            let before = forward.partition_point(|(end_us, _)| *end_us < one.last_begin_us);
            let latest = before.checked_sub(1).and_then(|at| forward[at].1);
            if let Some((other_value, other)) = latest
                && one.first_end_us < other.last_begin_us
            {
                found.push(words((other_value, other), (value, one)));
            }
        }
        found
    }
}

fn words(one: (&str, &Cluster), other: (&str, &Cluster)) -> String {
    let words = |(value, cluster): (&str, &Cluster)| {
        let (from_us, to_us) = (cluster.first_end_us, cluster.last_begin_us);
        format!(
            "{:?} (from {from_us} to {to_us})",
            value.trim_end_matches('·')
        )
    };
    format!(
        "{} and {} would each have to be before the other",
        words(one),
        words(other)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::Rng;

    /// Every pair, by the definition.
    fn slowly(register: &Register<'_>) -> bool {
        let all: Vec<&Cluster> = (register.clusters.values()).filter(|c| c.seen).collect();
        let clash = |one: &&Cluster, other: &&Cluster| {
            one.first_end_us < other.last_begin_us && other.first_end_us < one.last_begin_us
        };
        (all.iter().enumerate()).any(|(i, one)| all[i + 1..].iter().any(|two| clash(one, two)))
    }

    #[test]
    fn conflicts_are_those_of_the_definition() {
        let values = ["a", "b", "c", "d", "e"];
        let mut rng = Rng::new(5);
        let mut found = [0, 0];
        for _ in 0..20_000 {
            let mut register = Register::default();
            for value in values {
                let from_us = rng.range(1, 30);
                register.write(value, from_us, from_us + rng.range(1, 12), Some(true));
            }
            for _ in 0..rng.range(0, 6) {
                let value = values[rng.range(0, 5) as usize];
                let from_us = rng.range(1, 40);
                let _ = register.read(value, from_us, from_us + rng.range(1, 12));
            }
            let is_bad = slowly(&register);
            assert_eq!(!register.conflicts().is_empty(), is_bad, "{register:?}");
            found[usize::from(is_bad)] += 1;
        }
        assert!(found[0] > 1_000 && found[1] > 1_000, "{found:?}");
    }
}
