//! Counters and logs: what only grows has its order in its answers.
//!
//! Each write's answer is its place, and a read's place is that of the last write it saw. Whatever a log shows
//! is a beginning of what it shows later.

use crate::cache::{Answer, Op, PIECE_BYTES};
use crate::check::order::{self, Placed};
use crate::history::History;
use std::collections::{BTreeMap, BTreeSet};

/// Objections to `count` and `log`.
pub fn check(history: &History) -> Vec<String> {
    let mut objections = Vec::new();
    let mut keys: BTreeMap<&str, Vec<Placed>> = BTreeMap::new();
    let mut begun: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    let mut logs: BTreeMap<&str, &str> = BTreeMap::new();
    for (id, operation) in history.cache.operations.iter().enumerate() {
        let (key, is_write) = match &operation.op {
            Op::Get(key) if key.ends_with("}count") || key.ends_with("}log") => (key, false),
            Op::Increment(key) | Op::Append { key, .. } => (key, true),
            _ => continue,
        };
        if is_write && !operation.is_refused() {
            begun.entry(key).or_default().push(operation.invoked_us);
        }
        let is_log = key.ends_with("}log");
        let place = match operation.answer() {
            None => continue,
            Some(Answer::Nil) => Some(0),
            Some(Answer::Number(number)) if is_log => Some(number / PIECE_BYTES as i64),
            Some(Answer::Number(number)) => Some(*number),
            Some(Answer::Text(text)) if is_log => {
                let longest = logs.entry(key).or_default();
                let (less, more) = if text.len() < longest.len() {
                    (&text[..], *longest)
                } else {
                    (*longest, &text[..])
                };
                if !more.starts_with(less) {
                    objections.push(format!("{key} was {less} and is {more}"));
                }
                *longest = more;
                Some((text.len() / PIECE_BYTES) as i64)
            }
            Some(Answer::Text(text)) => text.parse().ok(),
            Some(_) => None,
        };
        let Some(place) = place else {
            objections.push(format!("{:?} was read from {key}", operation.answer()));
            continue;
        };
        keys.entry(key).or_default().push(Placed {
            invoked_us: operation.invoked_us,
            completed_us: operation.completed_us(),
            from: place - i64::from(is_write),
            to: place,
            what: format!("operation {id} through node{}", operation.node),
        });
    }
    for (key, placed) in keys {
        let begun = begun.get(key).map_or(&[][..], |times| &times[..]);
        objections.extend(order(key, placed, begun));
    }
    for (key, log) in logs {
        objections.extend(pieces(history, key, log));
    }
    objections
}

/// `begun`: when writes were sent, ascending.
fn order(key: &str, placed: Vec<Placed>, begun: &[u64]) -> Vec<String> {
    let mut objections = Vec::new();
    let mut places: BTreeMap<i64, &str> = BTreeMap::new();
    for one in &placed {
        if one.from < one.to
            && let Some(other) = places.insert(one.to, &one.what)
        {
            objections.push(format!(
                "{key}: {} and {other} both have place {}",
                one.what, one.to
            ));
        }
        let possible = begun.partition_point(|at_us| *at_us <= one.completed_us);
        if one.to > possible as i64 {
            objections.push(format!(
                "{key}: {} shows {} writes, and only {possible} were sent by then",
                one.what, one.to
            ));
        }
    }
    objections.extend(order::check(key, placed));
    objections
}

/// No piece is in a log twice, each is where its answer said, and none is there that was refused.
fn pieces(history: &History, key: &str, log: &str) -> Vec<String> {
    let mut objections = Vec::new();
    let mut seen = BTreeSet::new();
    let mut sent: BTreeMap<&str, Option<i64>> = BTreeMap::new();
    for operation in &history.cache.operations {
        let Op::Append { key: of, piece } = &operation.op else {
            continue;
        };
        if of == key && !operation.is_refused() {
            let place = match operation.answer() {
                Some(Answer::Number(length)) => Some(*length / PIECE_BYTES as i64),
                _ => None,
            };
            sent.insert(piece, place);
        }
    }
    for (number, piece) in (1..).zip(log.as_bytes().chunks(PIECE_BYTES)) {
        let piece = String::from_utf8_lossy(piece);
        if !seen.insert(piece.clone()) {
            objections.push(format!("{key} holds {piece} twice"));
        }
        match sent.get(&*piece) {
            None => objections.push(format!("{key} holds {piece}, which nobody appended")),
            Some(Some(place)) if *place != number => objections.push(format!(
                "{key} holds {piece} at place {number}; its answer said {place}"
            )),
            Some(_) => {}
        }
    }
    objections
}

#[cfg(test)]
mod tests {
    use super::super::build::{get, op};
    use super::*;

    fn add(h: &mut History, from_us: u64, to_us: u64, count: i64) {
        let answer = Ok(Answer::Number(count));
        op(
            h,
            from_us,
            Op::Increment("{a}count".into()),
            Some((to_us, answer)),
        );
    }

    fn append(h: &mut History, from_us: u64, to_us: Option<u64>, piece: &str, length: i64) {
        let append = Op::Append {
            key: "{a}log".into(),
            piece: piece.into(),
        };
        let reply = to_us.map(|at_us| (at_us, Ok(Answer::Number(length))));
        op(h, from_us, append, reply);
    }

    #[test]
    fn good_history_passes() {
        let mut h = History::default();
        add(&mut h, 1, 9, 2);
        add(&mut h, 2, 8, 1);
        op(&mut h, 10, Op::Increment("{a}count".into()), None);
        get(&mut h, 11, 12, "{a}count", "3");
        append(&mut h, 1, Some(2), "00.000001;", 10);
        append(&mut h, 3, None, "00.000002;", 0);
        get(&mut h, 4, 5, "{a}log", "00.000001;");
        get(&mut h, 6, 7, "{a}log", "00.000001;00.000002;");
        assert_eq!(check(&h), Vec::<String>::new());
    }

    #[test]
    fn count_applied_twice_is_found() {
        let mut h = History::default();
        add(&mut h, 1, 2, 1);
        add(&mut h, 3, 4, 3);
        assert_eq!(check(&h).len(), 1);
    }

    #[test]
    fn lost_and_repeated_counts_are_found() {
        let mut h = History::default();
        add(&mut h, 1, 2, 1);
        add(&mut h, 3, 4, 1);
        get(&mut h, 5, 6, "{a}count", "");
        assert_eq!(check(&h).len(), 3);
    }

    #[test]
    fn log_that_forks_or_repeats_is_found() {
        let mut h = History::default();
        append(&mut h, 1, Some(2), "00.000001;", 10);
        append(&mut h, 1, Some(3), "00.000002;", 20);
        get(&mut h, 4, 5, "{a}log", "00.000001;00.000002;");
        assert!(check(&h).is_empty());
        get(&mut h, 6, 7, "{a}log", "00.000002;00.000001;");
        assert!(!check(&h).is_empty());
        let mut h = History::default();
        append(&mut h, 1, Some(2), "00.000001;", 10);
        append(&mut h, 1, None, "00.000003;", 0);
        get(&mut h, 4, 5, "{a}log", "00.000001;00.000001;");
        assert_eq!(check(&h).len(), 2);
    }
}
