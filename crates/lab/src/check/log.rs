//! `/log` is a record of what was applied: nothing acknowledged is missing, nothing is there twice,
//! nothing refused is there, and each session's requests stand in the order in which they were sent,
//! without a gap within one connection.

use crate::history::{Answer, History, Op, Outcome, Tree};
use node::ClientId;
use std::collections::BTreeMap;

/// Objections to what stands under `/log` at the end.
pub fn check(history: &History) -> Vec<String> {
    let Some((_, tree)) = history.trees.first() else {
        return Vec::new();
    };
    let mut objections = Vec::new();
    let mut applied = applied_values(tree, &mut objections);
    let mut newest: BTreeMap<usize, (i64, usize)> = BTreeMap::new();
    let mut gaps: BTreeMap<ClientId, usize> = BTreeMap::new();
    for part in history.parts() {
        let Op::Create { path, value, .. } = part.op else {
            continue;
        };
        if !path.starts_with("/log/") {
            continue;
        }
        let id = part.id;
        let found = applied.remove(value.as_str());
        match (&part.outcome, found) {
            (Outcome::Refused, Some((path, _))) => {
                objections.push(format!(
                    "{path} ({value}) is there although operation {id} was refused"
                ));
            }
            (Outcome::Done(Answer::Created(told, stat)), Some((path, czxid)))
                if told != path || (stat.czxid != 0 && stat.czxid != czxid) =>
            {
                objections.push(format!(
                    "operation {id} was told {told} at {}, the end shows {path} at {czxid}",
                    stat.czxid
                ));
            }
            (Outcome::Done(_), None) => {
                objections.push(format!(
                    "{value} of operation {id} was acknowledged and is lost"
                ));
            }
            _ => {}
        }
        if part.operation.ghost {
            if let Some((path, _)) = found
                && history
                    .moved_us(part.operation)
                    .is_some_and(|at| part.operation.invoked_us >= at)
            {
                objections.push(format!(
                    "{path} came from operation {id}, sent through a home that its session had left"
                ));
            }
            continue;
        }
        let connection = part.operation.connection;
        match found {
            // A multi of unknown outcome may have been refused for its guard.
            None if part.outcome == Outcome::Unknown && part.op == &part.operation.op => {
                gaps.entry(connection).or_insert(id);
            }
            None => {}
            Some((_, czxid)) => {
                if let Some(gap) = gaps.get(&connection)
                    && *gap != id
                {
                    objections.push(format!(
                        "operation {id} took effect, operation {gap} before it on the same connection did not"
                    ));
                }
                let session = part.operation.session;
                let last = newest.entry(session).or_insert((czxid, id));
                if czxid < last.0 {
                    objections.push(format!(
                        "operation {id} of session {session} took effect at revision {czxid}, \
                         before its earlier operation {} at {}",
                        last.1, last.0
                    ));
                }
                *last = (czxid.max(last.0), id);
            }
        }
    }
    for (value, (path, _)) in applied {
        objections.push(format!("{path} holds {value}, which nobody wrote"));
    }
    objections
}

fn applied_values<'a>(
    tree: &'a Tree,
    objections: &mut Vec<String>,
) -> BTreeMap<&'a str, (&'a str, i64)> {
    let mut applied: BTreeMap<&str, (&str, i64)> = BTreeMap::new();
    let mut last = (0, "");
    for (path, (value, stat)) in tree.iter().filter(|(path, _)| path.starts_with("/log/")) {
        if let Some((other, _)) = applied.insert(value, (path, stat.czxid)) {
            objections.push(format!("{value} was applied twice: {other} and {path}"));
        }
        if stat.czxid < last.0 {
            objections.push(format!("{path} was created before {}", last.1));
        }
        last = (stat.czxid, path);
    }
    applied
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::build::{create, line, op, stat};
    use crate::history::Seen;

    fn append(h: &mut History, conn: u64, value: &str, done: Option<(&str, i64)>) {
        let at = h.operations.len() as u64;
        let reply = done.map(|(path, zxid)| {
            let answer = Answer::Created(path.into(), stat(zxid, 0));
            (at + 1, zxid, Ok(answer))
        });
        op(h, 0, conn, at, create("/log/n-", value, false, true), reply);
    }

    fn end(h: &mut History, nodes: &[(&str, &str, i64)]) {
        let tree = nodes
            .iter()
            .map(|(path, value, zxid)| ((*path).to_owned(), ((*value).to_owned(), stat(*zxid, 0))))
            .collect();
        h.trees.push((0, tree));
    }

    #[test]
    fn a_good_record_passes() {
        let mut h = History::default();
        append(&mut h, 1, "a", Some(("/log/n-0", 5)));
        append(&mut h, 1, "b", None);
        append(&mut h, 2, "c", Some(("/log/n-2", 7)));
        end(
            &mut h,
            &[
                ("/log/n-0", "a", 5),
                ("/log/n-1", "b", 6),
                ("/log/n-2", "c", 7),
            ],
        );
        assert_eq!(check(&h), Vec::<String>::new());
    }

    #[test]
    fn an_acknowledged_write_that_is_missing_is_found() {
        let mut h = History::default();
        append(&mut h, 1, "a", Some(("/log/n-0", 5)));
        end(&mut h, &[]);
        assert_eq!(check(&h).len(), 1);
    }

    #[test]
    fn a_write_that_is_there_twice_is_found() {
        let mut h = History::default();
        append(&mut h, 1, "a", Some(("/log/n-1", 6)));
        end(&mut h, &[("/log/n-0", "a", 5), ("/log/n-1", "a", 6)]);
        assert_eq!(check(&h).len(), 1);
    }

    #[test]
    fn a_write_through_the_home_that_was_left_is_found() {
        let mut h = History::default();
        append(&mut h, 1, "a", None);
        h.operations[0].ghost = true;
        h.operations[0].invoked_us = 5;
        end(&mut h, &[("/log/n-0", "a", 5)]);
        assert_eq!(check(&h), Vec::<String>::new());
        line(&mut h, 0, 2, 5, Seen::Attached);
        assert_eq!(check(&h).len(), 1);
    }

    #[test]
    fn a_gap_in_a_connection_is_found() {
        let mut h = History::default();
        append(&mut h, 1, "a", None);
        append(&mut h, 1, "b", None);
        end(&mut h, &[("/log/n-0", "b", 5)]);
        assert_eq!(check(&h).len(), 1);
    }

    #[test]
    fn a_late_write_of_an_older_connection_is_found() {
        let mut h = History::default();
        append(&mut h, 1, "a", None);
        append(&mut h, 2, "b", Some(("/log/n-0", 5)));
        end(&mut h, &[("/log/n-0", "b", 5), ("/log/n-1", "a", 6)]);
        assert_eq!(check(&h).len(), 1);
    }
}
