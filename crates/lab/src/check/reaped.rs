//! What goes by itself: a container when it is empty after having had a child, and only then; a node with a
//! time to live not before its time, and not much later.

use crate::history::{Answer, History, Life, Op, Outcome};
use std::collections::{BTreeMap, BTreeSet};

const NO_NODE: i32 = -101;
/// A new leader takes its wall clock over when it is a second ahead of the log; clocks differ by up to 0.4 s,
/// and stamps are slewed towards them by one part in 20.
const EARLY_US: u64 = 1_900_000;

/// Objections to what is gone from `/box` and `/ttl`, and to what is not.
pub fn check(history: &History) -> Vec<String> {
    let mut objections = containers(history);
    if !history.clocks_set {
        objections.extend(ttls(history));
    }
    objections
}

fn containers(history: &History) -> Vec<String> {
    let Some((_, tree)) = history.trees.first() else {
        return Vec::new();
    };
    let mut objections = Vec::new();
    // Created for certain; given a child, perhaps; deleted, perhaps.
    let mut created: BTreeMap<&str, usize> = BTreeMap::new();
    let mut given: BTreeSet<&str> = BTreeSet::new();
    let mut deleted: BTreeSet<&str> = BTreeSet::new();
    for part in history.parts() {
        match part.op {
            Op::Create { path, .. } if path.starts_with("/box/") => {
                if matches!(part.outcome, Outcome::Done(_)) {
                    created.insert(path, part.id);
                }
                if part.outcome != Outcome::Refused {
                    given.extend(path.rsplit_once('/').map(|(parent, _)| parent));
                }
            }
            Op::Delete { path, .. } if part.outcome != Outcome::Refused => {
                deleted.insert(path);
            }
            _ => {}
        }
    }
    for (path, id) in created {
        let may_go = given.contains(path) || deleted.contains(path);
        if !may_go && !tree.contains_key(path) {
            let what = "never had a child and was never deleted";
            objections.push(format!("{path} of operation {id} is gone: it {what}"));
        }
    }
    for (path, (_, stat)) in tree.iter().filter(|(path, _)| is_container(path)) {
        if stat.num_children == 0 && stat.cversion > 0 {
            objections.push(format!("{path} is empty, had children, and stays"));
        }
    }
    objections
}

fn is_container(path: &str) -> bool {
    path.strip_prefix("/box/").is_some_and(|n| !n.contains('/'))
}

fn ttls(history: &History) -> Vec<String> {
    let mut objections = Vec::new();
    let mut ttls_ms: BTreeMap<&str, u64> = BTreeMap::new();
    // Path → when it was created or set: sent at, answered at.
    let mut changed: BTreeMap<&str, Vec<(u64, u64)>> = BTreeMap::new();
    for part in history.parts() {
        let (Op::Create { path, .. } | Op::Set { path, .. }) = part.op else {
            continue;
        };
        if let Op::Create { kind, .. } = part.op
            && let Life::Ttl(ms) = kind.life
        {
            ttls_ms.insert(path, u64::from(ms));
        }
        if let Outcome::Done(Answer::Created(..) | Answer::Stat(_)) = part.outcome
            && let Some(reply) = &part.operation.reply
        {
            let times = changed.entry(path).or_default();
            times.push((part.operation.invoked_us, reply.at_us));
        }
    }
    for (id, operation) in history.operations.iter().enumerate() {
        let (Op::Exists { path, .. }, Some(sync), Some(reply)) =
            (&operation.op, operation.synced_by, &operation.reply)
        else {
            continue;
        };
        let path = path.as_str();
        let (Some(ttl_ms), Some(times)) = (ttls_ms.get(path), changed.get(path)) else {
            continue;
        };
        if reply.result != Err(NO_NODE) {
            continue;
        }
        let begun_us = history.operations[sync].invoked_us;
        let before = times.iter().filter(|(_, done_us)| *done_us < begun_us);
        let Some(changed_us) = before.map(|(sent_us, _)| *sent_us).max() else {
            continue;
        };
        if reply.at_us + EARLY_US < changed_us + ttl_ms * 1000 {
            objections.push(format!(
                "operation {id} does not find {path} {} ms after it was changed; it was to stay for {ttl_ms} ms",
                (reply.at_us - changed_us) / 1000
            ));
        }
    }
    // The end comes long after the last of them.
    for (node, tree) in &history.trees {
        let left = tree.keys().find(|path| path.starts_with("/ttl/"));
        objections.extend(left.map(|path| format!("node{node} holds {path}: it never went")));
    }
    objections
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::build::{create, op, session, stat};
    use crate::history::{Kind, Tree};

    fn make(h: &mut History, path: &str) {
        let answer = Answer::Created(path.into(), stat(5, 0));
        let create = create(path, path, false, false);
        op(h, 0, 1, 1, create, Some((2, 5, Ok(answer))));
    }

    fn end(h: &mut History, left: &[(&str, i32, i32)]) {
        let node = |(path, cversion, num_children): &(&str, i32, i32)| {
            let mut stat = stat(5, 0);
            (stat.cversion, stat.num_children) = (*cversion, *num_children);
            ((*path).to_owned(), (String::new(), stat))
        };
        h.trees = vec![(0, left.iter().map(node).collect::<Tree>())];
    }

    #[test]
    fn container_goes_when_it_is_empty_after_having_had_a_child() {
        let mut h = History::default();
        session(&mut h, 1_000);
        make(&mut h, "/box/a");
        end(&mut h, &[("/box/a", 0, 0)]);
        assert_eq!(check(&h), Vec::<String>::new());
        end(&mut h, &[]);
        assert_eq!(check(&h).len(), 1, "it never had a child");
        make(&mut h, "/box/a/b");
        assert_eq!(check(&h).len(), 1, "its child was never deleted");
        end(&mut h, &[("/box/a", 1, 1), ("/box/a/b", 0, 0)]);
        assert_eq!(check(&h), Vec::<String>::new());
        let path = "/box/a/b".into();
        op(&mut h, 0, 1, 3, Op::Delete { path, version: -1 }, None);
        end(&mut h, &[]);
        assert_eq!(check(&h), Vec::<String>::new());
        end(&mut h, &[("/box/a", 2, 0)]);
        assert_eq!(check(&h).len(), 1, "it is empty and stays");
    }

    fn ttl(h: &mut History, looked_us: u64) {
        let s = session(h, 1_000);
        let create = Op::Create {
            path: "/ttl/a".into(),
            value: "x".into(),
            kind: Kind::of(Life::Ttl(6_000)),
        };
        let answer = Answer::Created("/ttl/a".into(), stat(5, 0));
        op(h, s, 1, 10, create, Some((20, 5, Ok(answer))));
        let sync = op(h, s, 1, looked_us, Op::Sync, None);
        let path = "/ttl/a".into();
        let look = Op::Exists { path, watch: false };
        let look = op(h, s, 1, looked_us, look, Some((looked_us, 6, Err(NO_NODE))));
        h.operations[look].synced_by = Some(sync);
    }

    #[test]
    fn node_that_goes_before_its_time_or_never_is_found() {
        let mut h = History::default();
        ttl(&mut h, 3_000_000);
        assert_eq!(check(&h).len(), 1);
        h.clocks_set = true;
        assert_eq!(check(&h), Vec::<String>::new());
        let mut h = History::default();
        ttl(&mut h, 6_000_000);
        assert_eq!(check(&h), Vec::<String>::new());
        end(&mut h, &[("/ttl/a", 0, 0)]);
        assert_eq!(check(&h).len(), 1);
    }
}
