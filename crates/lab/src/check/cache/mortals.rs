//! Keys that end: each has one writer, who waits for the answer before the next write. Whoever reads one sees
//! what one of the writes left, at a time at which that could be; by the clock it goes not before its time,
//! and not much later.

use crate::cache::{Answer, Op};
use crate::history::History;
use std::collections::BTreeMap;

/// A new leader takes its wall clock over when it is a second ahead of the log; clocks differ by up to 0.4 s,
/// and stamps are slewed towards them by one part in 20.
const CLOCKS_US: u64 = 1_900_000;

/// What a write left, and when that could be seen.
#[derive(Debug)]
struct State<'a> {
    value: Option<&'a str>,
    from_us: u64,
    to_us: u64,
    /// When nothing could be there any more: at the earliest, at the latest.
    gone_us: Option<(u64, u64)>,
}

/// Objections to what was read from `mortal.*`.
pub fn check(history: &History) -> Vec<String> {
    let mut keys: BTreeMap<&str, Vec<State<'_>>> = BTreeMap::new();
    for operation in &history.cache.operations {
        let (key, value, ends_ms) = match &operation.op {
            Op::Set {
                key,
                value,
                ends_ms,
            } => (key, Some(&value[..]), *ends_ms),
            Op::Delete(key) => (key, None, None),
            _ => continue,
        };
        if !key.contains("}mortal.") || operation.is_refused() {
            continue;
        }
        let (begun_us, ended_us) = (operation.invoked_us, operation.completed_us());
        let states = keys.entry(key).or_insert_with(|| {
            vec![State {
                value: None,
                from_us: 0,
                to_us: u64::MAX,
                gone_us: None,
            }]
        });
        if let Some(before) = states.last_mut() {
            before.to_us = ended_us;
        }
        let gone_us = ends_ms.map(|ms| {
            let us = u64::from(ms) * 1_000;
            if history.clocks_set {
                return (begun_us, u64::MAX);
            }
            let earliest_us = (begun_us + us).saturating_sub(CLOCKS_US).max(begun_us);
            (earliest_us, ended_us.saturating_add(us + CLOCKS_US))
        });
        states.push(State {
            value,
            from_us: begun_us,
            to_us: u64::MAX,
            gone_us,
        });
    }
    let mut objections = Vec::new();
    let mut see = |what: String, key: &str, value: Option<&str>, begun_us: u64, ended_us: u64| {
        let Some(states) = keys.get(key) else {
            return;
        };
        let fits = states.iter().any(|state| {
            let (mut from_us, mut to_us) = (state.from_us, state.to_us);
            match (value, state.gone_us) {
                (None, Some((earliest_us, _))) => from_us = earliest_us,
                (Some(_), Some((_, latest_us))) => to_us = to_us.min(latest_us),
                _ => {}
            }
            let is_it = value == state.value || value.is_none() && state.gone_us.is_some();
            is_it && from_us <= ended_us && begun_us <= to_us
        });
        if !fits {
            let value = value.map(|value| value.trim_end_matches('·'));
            objections.push(format!(
                "{what} shows {value:?} in {key} from {begun_us} to {ended_us}; it was {}",
                words(states)
            ));
        }
    };
    for (id, operation) in history.cache.operations.iter().enumerate() {
        let value = match operation.answer() {
            Some(Answer::Text(value)) => Some(&value[..]),
            Some(Answer::Nil) => None,
            _ => continue,
        };
        if let Op::Get(key) = &operation.op {
            let what = format!("operation {id} through node{}", operation.node);
            let (begun_us, ended_us) = (operation.invoked_us, operation.completed_us());
            see(what, key, value, begun_us, ended_us);
        }
    }
    objections
}

fn words(states: &[State<'_>]) -> String {
    let words: Vec<String> = (states.iter())
        .map(|state| {
            let value = state.value.map(|value| value.trim_end_matches('·'));
            let (from_us, to_us) = (state.from_us, state.to_us);
            match state.gone_us {
                None => format!("{value:?} from {from_us} to {to_us}"),
                Some(gone_us) => {
                    format!("{value:?} from {from_us} to {to_us}, gone at {gone_us:?}")
                }
            }
        })
        .collect();
    words.join(", then ")
}

#[cfg(test)]
mod tests {
    use super::super::build::{get, op, set};
    use super::*;

    const KEY: &str = "{a}mortal.c0-1";
    const S: u64 = 1_000_000;

    fn set_for(h: &mut History, from_us: u64, to_us: u64, value: &str, seconds: u32) {
        let set = Op::Set {
            key: KEY.into(),
            value: value.into(),
            ends_ms: Some(seconds * 1_000),
        };
        op(h, from_us, set, Some((to_us, Ok(Answer::Done))));
    }

    #[test]
    fn good_history_passes() {
        let mut h = History::default();
        set_for(&mut h, S, S + 5, "x", 10);
        get(&mut h, 2 * S, 2 * S + 1, KEY, "x");
        get(&mut h, 10 * S, 10 * S + 1, KEY, "");
        get(&mut h, 12 * S, 12 * S + 1, KEY, "x");
        get(&mut h, 20 * S, 20 * S + 1, KEY, "");
        set(&mut h, 21 * S, Some(22 * S), KEY, "y");
        get(&mut h, 50 * S, 50 * S + 1, KEY, "y");
        let delete = Op::Delete(KEY.into());
        op(
            &mut h,
            51 * S,
            delete,
            Some((52 * S, Ok(Answer::Number(1)))),
        );
        get(&mut h, 53 * S, 53 * S + 1, KEY, "");
        assert_eq!(check(&h), Vec::<String>::new());
    }

    #[test]
    fn key_that_goes_early_or_stays_is_found() {
        let mut h = History::default();
        set_for(&mut h, S, S + 5, "x", 10);
        get(&mut h, 5 * S, 5 * S + 1, KEY, "");
        get(&mut h, 20 * S, 20 * S + 1, KEY, "x");
        assert_eq!(check(&h).len(), 2);
        h.clocks_set = true;
        assert!(check(&h).is_empty());
    }

    #[test]
    fn key_set_anew_that_goes_all_the_same_is_found() {
        let mut h = History::default();
        set_for(&mut h, S, S + 5, "x", 1);
        set(&mut h, 2 * S, Some(3 * S), KEY, "y");
        get(&mut h, 4 * S, 4 * S + 1, KEY, "");
        assert_eq!(check(&h).len(), 1);
    }

    #[test]
    fn deleted_key_that_stays_is_found() {
        let mut h = History::default();
        set(&mut h, S, Some(S + 1), KEY, "y");
        let delete = Op::Delete(KEY.into());
        op(&mut h, 2 * S, delete, Some((3 * S, Ok(Answer::Number(1)))));
        get(&mut h, 4 * S, 4 * S + 1, KEY, "y");
        assert_eq!(check(&h).len(), 1);
    }
}
