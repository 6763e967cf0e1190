//! Registers are linearizable.
//!
//! Every value is written at most once, so the operations of a register fall into clusters: a write and the
//! reads that saw its value. A cluster's zone reaches from the first end of any of its operations to the last
//! beginning. The history is linearizable if and only if no read ends before its write begins and no two
//! clusters would each have to be before the other (P. B. Gibbons, E. Korach: "Testing shared memories",
//! SIAM Journal on Computing 26, 1997). A write of unknown outcome that nobody saw may never have been.

use crate::cache::{Answer, Op};
use crate::history::History;
use std::collections::BTreeMap;

#[derive(Debug)]
struct Cluster<'a> {
    value: &'a str,
    refused: bool,
    seen: bool,
    /// When its write began.
    invoked_us: u64,
    first_end_us: u64,
    last_begin_us: u64,
}

/// Objections to what was read from and written to `register.*`.
pub fn check(history: &History) -> Vec<String> {
    let mut objections = Vec::new();
    // By key, by value; nothing is the value that was there first.
    let mut keys: BTreeMap<&str, BTreeMap<&str, Cluster<'_>>> = BTreeMap::new();
    for operation in &history.cache.operations {
        let Op::Set { key, value, .. } = &operation.op else {
            continue;
        };
        if !key.contains("}register.") {
            continue;
        }
        let cluster = Cluster {
            value,
            refused: operation.is_refused(),
            seen: operation.reply.is_some(),
            invoked_us: operation.invoked_us,
            first_end_us: operation.completed_us(),
            last_begin_us: operation.invoked_us,
        };
        keys.entry(key).or_default().insert(value, cluster);
    }
    let reads = history.cache.operations.iter().filter_map(|operation| {
        let Op::Get(key) = &operation.op else {
            return None;
        };
        let value = match operation.answer()? {
            Answer::Text(value) => value,
            _ => "",
        };
        Some((
            key,
            value,
            operation.invoked_us,
            operation.completed_us(),
            operation.node,
        ))
    });
    for (key, value, invoked_us, completed_us, node) in reads {
        if !key.contains("}register.") {
            continue;
        }
        let clusters = keys.entry(key).or_default();
        if value.is_empty() {
            clusters.entry("").or_insert(Cluster {
                value: "",
                refused: false,
                seen: true,
                invoked_us: 0,
                first_end_us: 0,
                last_begin_us: 0,
            });
        }
        let Some(cluster) = clusters.get_mut(value) else {
            objections.push(format!(
                "node{node} shows {value} in {key}, which nobody wrote there"
            ));
            continue;
        };
        if cluster.refused || completed_us < cluster.invoked_us {
            objections.push(format!(
                "node{node} shows {value} in {key} before its write, or although that was refused"
            ));
        }
        cluster.seen = true;
        cluster.first_end_us = cluster.first_end_us.min(completed_us);
        cluster.last_begin_us = cluster.last_begin_us.max(invoked_us);
    }
    for (key, clusters) in &keys {
        let clusters: Vec<&Cluster<'_>> = (clusters.values())
            .filter(|cluster| cluster.seen && !cluster.refused)
            .collect();
        for (number, one) in clusters.iter().enumerate() {
            for other in &clusters[number + 1..] {
                if one.first_end_us < other.last_begin_us && other.first_end_us < one.last_begin_us
                {
                    objections.push(format!(
                        "{key}: {:?} (from {} to {}) and {:?} (from {} to {}) would each have to be before \
                         the other",
                        short(one.value),
                        one.first_end_us,
                        one.last_begin_us,
                        short(other.value),
                        other.first_end_us,
                        other.last_begin_us
                    ));
                }
            }
        }
    }
    objections
}

fn short(value: &str) -> &str {
    value.trim_end_matches('·')
}

#[cfg(test)]
mod tests {
    use super::super::build::{get, op, set};
    use super::*;

    const KEY: &str = "{a}register.0";

    #[test]
    fn good_history_passes() {
        let mut h = History::default();
        get(&mut h, 1, 2, KEY, "");
        set(&mut h, 3, Some(9), KEY, "x");
        get(&mut h, 4, 5, KEY, "");
        get(&mut h, 6, 7, KEY, "x");
        set(&mut h, 10, None, KEY, "unknown");
        set(&mut h, 11, None, KEY, "never");
        get(&mut h, 12, 13, KEY, "x");
        get(&mut h, 20, 21, KEY, "unknown");
        set(&mut h, 22, Some(23), KEY, "y");
        get(&mut h, 24, 25, KEY, "y");
        assert_eq!(check(&h), Vec::<String>::new());
    }

    #[test]
    fn stale_read_is_found() {
        let mut h = History::default();
        set(&mut h, 1, Some(2), KEY, "x");
        set(&mut h, 3, Some(4), KEY, "y");
        get(&mut h, 5, 6, KEY, "x");
        assert_eq!(check(&h).len(), 1);
    }

    #[test]
    fn read_that_goes_back_is_found() {
        let mut h = History::default();
        set(&mut h, 1, Some(2), KEY, "x");
        set(&mut h, 3, Some(20), KEY, "y");
        get(&mut h, 5, 6, KEY, "y");
        get(&mut h, 7, 8, KEY, "x");
        assert_eq!(check(&h).len(), 1);
    }

    #[test]
    fn lost_write_is_found() {
        let mut h = History::default();
        set(&mut h, 1, Some(2), KEY, "x");
        get(&mut h, 3, 4, KEY, "");
        assert_eq!(check(&h).len(), 1);
    }

    #[test]
    fn invented_and_refused_values_are_found() {
        let mut h = History::default();
        get(&mut h, 1, 2, KEY, "nobody's");
        let refused = Op::Set {
            key: KEY.into(),
            value: "r".into(),
            ends_ms: None,
        };
        op(&mut h, 3, refused, Some((4, Err("ERR".into()))));
        get(&mut h, 5, 6, KEY, "r");
        get(&mut h, 7, 8, "{a}register.1", "r");
        assert_eq!(check(&h).len(), 3);
    }
}
