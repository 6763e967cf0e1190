//! Persistent watches that are not recursive: while its connection stands, each is told of every change of
//! its node once. That an event comes before what shows the change is looked at with the other watches.

use crate::history::{Answer, EventKind, History, Line, Op, Outcome, Seen, SessionNumber};
use crate::workload::WATCHED;
use node::ClientId;
use std::collections::{BTreeMap, BTreeSet};

type Change<'a> = (&'a str, i64, EventKind);

/// Objections about persistent watches on [`WATCHED`] and what is under it.
pub fn check(history: &History) -> Vec<String> {
    let changes = changes(history);
    let mut objections = Vec::new();
    for session in 0..history.sessions.len() {
        let mut by_connection: BTreeMap<ClientId, Vec<&Line>> = BTreeMap::new();
        for line in history.tape_of(session) {
            by_connection.entry(line.connection).or_default().push(line);
        }
        for lines in by_connection.values() {
            on_connection(history, session, lines, &changes, &mut objections);
        }
    }
    objections
}

/// Every change of a watched node that somebody made for certain, or saw.
fn changes(history: &History) -> BTreeSet<Change<'_>> {
    let mut changes = BTreeSet::new();
    for part in history.parts() {
        let (Op::Get { path, .. }
        | Op::Exists { path, .. }
        | Op::Set { path, .. }
        | Op::Create { path, .. }
        | Op::Delete { path, .. }) = part.op
        else {
            continue;
        };
        let (Some(reply), Outcome::Done(answer)) = (&part.operation.reply, &part.outcome) else {
            continue;
        };
        if !path.starts_with(WATCHED) {
            continue;
        }
        let mut lists = |zxid| {
            if path != WATCHED {
                changes.insert((WATCHED, zxid, EventKind::ChildrenChanged));
            }
        };
        match (part.op, answer) {
            (Op::Delete { .. }, _) => {
                lists(reply.zxid);
                changes.insert((path, reply.zxid, EventKind::Deleted));
            }
            (_, Answer::Data(_, stat) | Answer::Stat(stat) | Answer::Created(_, stat)) => {
                lists(stat.czxid);
                changes.insert((path, stat.czxid, EventKind::Created));
                if stat.mzxid != stat.czxid {
                    changes.insert((path, stat.mzxid, EventKind::DataChanged));
                }
            }
            _ => {}
        }
    }
    changes
}

fn on_connection(
    history: &History,
    session: SessionNumber,
    lines: &[&Line],
    changes: &BTreeSet<Change<'_>>,
    objections: &mut Vec<String>,
) {
    let mut asked: BTreeSet<&str> = BTreeSet::new();
    let mut armed: BTreeMap<&str, i64> = BTreeMap::new();
    let mut told: BTreeSet<Change<'_>> = BTreeSet::new();
    let mut newest = 0;
    let where_ = || format!("session {session} on connection {}", lines[0].connection.0);
    for line in lines {
        match &line.seen {
            Seen::WatchesSet(set) => asked.extend(set.persistent.iter().map(String::as_str)),
            Seen::WatchesReplied(zxid) => {
                newest = newest.max(*zxid);
                for path in &asked {
                    armed.entry(path).or_insert(*zxid);
                }
            }
            Seen::Pong(zxid) => newest = newest.max(*zxid),
            Seen::Reply(id) => {
                let operation = &history.operations[*id];
                let Some(reply) = &operation.reply else {
                    continue;
                };
                newest = newest.max(reply.zxid);
                if let (Op::AddWatch { path, .. }, Ok(_)) = (&operation.op, &reply.result) {
                    armed.entry(path).or_insert(reply.zxid);
                }
            }
            Seen::Event(kind, path, zxid) if path.starts_with(WATCHED) => {
                let (path, where_) = (path.as_str(), where_());
                if !asked.contains(path) && !armed.contains_key(path) {
                    objections.push(format!(
                        "{where_} got {kind:?} of {path} without a persistent watch"
                    ));
                }
                if *zxid > 0 && !told.insert((path, *zxid, *kind)) {
                    objections.push(format!(
                        "{where_} got {kind:?} of {path} at revision {zxid} twice"
                    ));
                }
            }
            _ => {}
        }
    }
    for (path, zxid, kind) in changes {
        if let Some(armed_at) = armed.get(path)
            && armed_at < zxid
            && *zxid <= newest
            && !told.contains(&(*path, *zxid, *kind))
        {
            objections.push(format!(
                "{} was not told {kind:?} of {path} (revision {zxid}), watched since {armed_at} and seen up to {newest}",
                where_()
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::build::{line, op, session, set, stat};
    use crate::workload::WATCHED_CHILDREN;

    const PATH: &str = WATCHED_CHILDREN[0];

    /// Watched from revision 5 on, set at 6 and 7, and seen up to 7.
    fn history(told: &[i64]) -> History {
        let mut h = History::default();
        let (watcher, writer) = (session(&mut h, 1_000), session(&mut h, 1_000));
        let (path, recursive) = (PATH.into(), false);
        let watch = Op::AddWatch { path, recursive };
        op(&mut h, watcher, 1, 1, watch, Some((2, 5, Ok(Answer::Done))));
        for zxid in [6, 7] {
            let mut after = stat(zxid, 1);
            after.czxid = 1;
            let reply = Some((4, zxid, Ok(Answer::Stat(after))));
            op(&mut h, writer, 2, 3, set(PATH, "x"), reply);
        }
        for zxid in told {
            let seen = Seen::Event(EventKind::DataChanged, PATH.into(), *zxid);
            line(&mut h, watcher, 1, 5, seen);
        }
        line(&mut h, watcher, 1, 9, Seen::Pong(7));
        h
    }

    #[test]
    fn watch_told_of_every_change_passes_and_of_fewer_or_more_is_found() {
        assert_eq!(check(&history(&[6, 7])), Vec::<String>::new());
        assert_eq!(check(&history(&[6])).len(), 1);
        assert_eq!(check(&history(&[6, 6, 7])).len(), 1);
    }

    #[test]
    fn event_without_a_watch_is_found() {
        let mut h = history(&[6, 7]);
        let seen = Seen::Event(EventKind::Created, WATCHED_CHILDREN[1].into(), 8);
        line(&mut h, 0, 1, 10, seen);
        assert_eq!(check(&h).len(), 1);
    }
}
