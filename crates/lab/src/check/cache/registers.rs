//! Registers are linearizable.

use crate::cache::{Answer, Op};
use crate::check::register::Register;
use crate::history::History;
use std::collections::BTreeMap;

/// Objections to what was read from and written to `register.*`.
pub fn check(history: &History) -> Vec<String> {
    let mut objections = Vec::new();
    let mut keys: BTreeMap<&str, Register<'_>> = BTreeMap::new();
    for operation in &history.cache.operations {
        if let Op::Set { key, value, .. } = &operation.op
            && key.contains("}register.")
        {
            let done = operation.reply.as_ref().map(|reply| reply.result.is_ok());
            let (from_us, to_us) = (operation.invoked_us, operation.completed_us());
            let register = keys.entry(key).or_default();
            register.write(value, from_us, to_us, done);
        }
    }
    for operation in &history.cache.operations {
        let (Op::Get(key), Some(answer)) = (&operation.op, operation.answer()) else {
            continue;
        };
        if !key.contains("}register.") {
            continue;
        }
        let value = match answer {
            Answer::Text(value) => value,
            _ => "",
        };
        let (from_us, to_us) = (operation.invoked_us, operation.completed_us());
        if let Err(why) = keys.entry(key).or_default().read(value, from_us, to_us) {
            let node = operation.node;
            objections.push(format!("node{node} shows {value} in {key}, {why}"));
        }
    }
    for (key, register) in &keys {
        let conflicts = register.conflicts().into_iter();
        objections.extend(conflicts.map(|conflict| format!("{key}: {conflict}")));
    }
    objections
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
