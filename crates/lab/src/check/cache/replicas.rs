//! At the end every member shows the same keys.
//!
//! Whoever reads goes by the clock of the node that he asks: where clocks were set, keys that end may still be
//! there for one and not for another.

use crate::history::History;

/// Objections: where members differ.
pub fn check(history: &History) -> Vec<String> {
    let mut objections = Vec::new();
    let Some((first, _, reference)) = history.cache.dumps.first() else {
        return objections;
    };
    for (node, _, dump) in &history.cache.dumps[1..] {
        let keys = reference.keys().chain(dump.keys());
        let different = keys
            .filter(|key| !history.clocks_set || !key.contains("}mortal."))
            .filter(|key| reference.get(*key) != dump.get(*key))
            .min();
        if let Some(key) = different {
            objections.push(format!(
                "node{first} and node{node} differ in {key}: {:?} and {:?}",
                reference.get(key),
                dump.get(key)
            ));
        }
    }
    objections
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::{Answer, Dump};

    #[test]
    fn equal_members_pass_and_different_ones_are_found() {
        let dump = |value: &str| -> Dump { [("k".into(), Answer::Text(value.into()))].into() };
        let mut h = History::default();
        h.cache.dumps = vec![(0, 1, dump("x")), (1, 1, dump("x"))];
        assert!(check(&h).is_empty());
        h.cache.dumps.push((2, 1, dump("y")));
        h.cache.dumps.push((3, 1, Dump::new()));
        assert_eq!(check(&h).len(), 2);
    }
}
