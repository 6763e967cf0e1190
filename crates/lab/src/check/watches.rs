//! Watches: the event of a change comes before anything that shows the change, an armed watch fires when
//! its node changes (after a reconnect at the latest), a one-shot watch fires once, and a recursive one
//! sees every creation exactly once while its connection stands.

use crate::history::{Answer, EventKind, History, Line, Op, Seen, SessionNumber};
use crate::workload::WATCHED;
use node::ClientId;
use std::collections::{BTreeMap, BTreeSet};

const NO_NODE: i32 = -101;

#[derive(Default)]
struct Armed {
    /// Path → the data revision when it was armed, `None` for a node that was not there.
    data: BTreeMap<String, Option<i64>>,
    /// Path → the revision of the list of children.
    child: BTreeMap<String, i64>,
    /// A deletion may be told once for the data and once for the children.
    told_deleted: BTreeSet<String>,
}

/// Objections about watches.
pub fn check(history: &History) -> Vec<String> {
    let mut objections = Vec::new();
    for session in 0..history.sessions.len() {
        one_shot(history, session, &mut objections);
        recursive(history, session, &mut objections);
    }
    objections
}

fn one_shot(history: &History, session: SessionNumber, objections: &mut Vec<String>) {
    let mut armed = Armed::default();
    let mut connection = None;
    let mut newest = 0; // revision of the last reply on this connection
    let mut replaying = false;
    for line in history.tape_of(session) {
        if connection != Some(line.connection) {
            connection = Some(line.connection);
            newest = 0;
            replaying = false;
        }
        match &line.seen {
            Seen::WatchesSet(_) => replaying = true,
            Seen::WatchesReplied(zxid) => {
                replaying = false;
                newest = newest.max(*zxid);
            }
            Seen::Pong(zxid) => newest = newest.max(*zxid),
            Seen::Ended => armed = Armed::default(),
            Seen::Event(kind, path, zxid) => {
                if *zxid > 0 && *zxid <= newest && !replaying {
                    objections.push(format!(
                        "session {session} got the event {kind:?} of {path} (revision {zxid}) after a reply \
                         at revision {newest}"
                    ));
                }
                // Those of persistent watches are looked at elsewhere.
                let lasting = path.starts_with("/log") || path.starts_with(WATCHED);
                if !lasting && !consume(&mut armed, *kind, path) {
                    objections.push(format!(
                        "session {session} got the event {kind:?} of {path} without an armed watch, or twice"
                    ));
                }
            }
            Seen::Reply(id) => {
                let operation = &history.operations[*id];
                let Some(reply) = &operation.reply else {
                    continue;
                };
                newest = newest.max(reply.zxid);
                for change in shown(&operation.op, &reply.result) {
                    if let Some(objection) = unannounced(&armed, &change) {
                        objections.push(format!(
                            "session {session}: operation {id} shows {objection}, and no event came before"
                        ));
                        forget(&mut armed, &change);
                    }
                }
                arm(&mut armed, &operation.op, &reply.result);
            }
            Seen::Attached | Seen::Detached => {}
        }
    }
}

/// What a reply shows of a node.
enum Shown<'a> {
    Data(&'a str, Option<i64>),
    Children(&'a str, i64),
}

fn shown<'a>(op: &'a Op, result: &Result<Answer, i32>) -> Vec<Shown<'a>> {
    match (op, result) {
        (Op::Get { path, .. }, Ok(Answer::Data(_, stat)))
        | (Op::Exists { path, .. } | Op::Set { path, .. }, Ok(Answer::Stat(stat))) => {
            vec![Shown::Data(path, Some(stat.mzxid))]
        }
        (Op::Get { path, .. } | Op::Exists { path, .. }, Err(NO_NODE)) => {
            vec![Shown::Data(path, None)]
        }
        (Op::Delete { path, .. }, Ok(_)) => vec![Shown::Data(path, None)],
        (Op::Create { path, kind, .. }, Ok(Answer::Created(_, stat))) if !kind.sequential => {
            vec![Shown::Data(path, Some(stat.mzxid))]
        }
        (Op::Children { path, .. }, Ok(Answer::Children(_, stat))) => {
            vec![
                Shown::Children(path, stat.pzxid),
                Shown::Data(path, Some(stat.mzxid)),
            ]
        }
        (Op::Multi(ops), Ok(Answer::Multi(results))) => ops
            .iter()
            .zip(results)
            .filter_map(|(op, result)| match (op, result) {
                (Op::Set { path, .. }, wire_zookeeper::client::MultiResult::DataSet(stat)) => {
                    Some(Shown::Data(path, Some(stat.mzxid)))
                }
                _ => None,
            })
            .collect(),
        _ => Vec::new(),
    }
}

fn unannounced(armed: &Armed, change: &Shown<'_>) -> Option<String> {
    match change {
        Shown::Data(path, now) => {
            let then = armed.data.get(*path)?;
            (then != now).then(|| format!("{path} at {now:?}, watched since {then:?}"))
        }
        Shown::Children(path, now) => {
            let then = armed.child.get(*path)?;
            (then != now).then(|| format!("children of {path} at {now}, watched since {then}"))
        }
    }
}

fn forget(armed: &mut Armed, change: &Shown<'_>) {
    match change {
        Shown::Data(path, _) => {
            armed.data.remove(*path);
        }
        Shown::Children(path, _) => {
            armed.child.remove(*path);
        }
    }
}

fn arm(armed: &mut Armed, op: &Op, result: &Result<Answer, i32>) {
    match (op, result) {
        (Op::Get { path, watch: true }, Ok(Answer::Data(_, stat)))
        | (Op::Exists { path, watch: true }, Ok(Answer::Stat(stat))) => {
            armed.data.insert(path.clone(), Some(stat.mzxid));
            armed.told_deleted.remove(path);
        }
        (Op::Exists { path, watch: true }, Err(NO_NODE)) => {
            armed.data.insert(path.clone(), None);
            armed.told_deleted.remove(path);
        }
        (Op::Children { path, watch: true }, Ok(Answer::Children(_, stat))) => {
            armed.child.insert(path.clone(), stat.pzxid);
            armed.told_deleted.remove(path);
        }
        _ => {}
    }
}

/// Disarms what the event fires; false when nothing was armed for it.
fn consume(armed: &mut Armed, kind: EventKind, path: &str) -> bool {
    match kind {
        EventKind::ChildrenChanged => armed.child.remove(path).is_some(),
        EventKind::Created | EventKind::DataChanged => armed.data.remove(path).is_some(),
        EventKind::Deleted => {
            let data = armed.data.remove(path).is_some();
            let child = armed.child.remove(path).is_some();
            if data && child {
                armed.told_deleted.insert(path.to_owned());
            }
            data || child || armed.told_deleted.remove(path)
        }
    }
}

fn recursive(history: &History, session: SessionNumber, objections: &mut Vec<String>) {
    let Some((_, tree)) = history.trees.first() else {
        return;
    };
    let mut by_connection: BTreeMap<ClientId, Vec<&Line>> = BTreeMap::new();
    for line in history.tape_of(session) {
        by_connection.entry(line.connection).or_default().push(line);
    }
    for (connection, lines) in by_connection {
        let mut armed_at: Option<i64> = None;
        let mut newest = 0;
        let mut last_event = 0;
        let mut told: BTreeSet<&str> = BTreeSet::new();
        let mut set_again = false;
        let where_ = format!("session {session} on connection {}", connection.0);
        for line in lines {
            match &line.seen {
                Seen::WatchesSet(set) => set_again = set.recursive.iter().any(|p| p == "/log"),
                Seen::WatchesReplied(zxid) => {
                    newest = newest.max(*zxid);
                    if set_again && armed_at.is_none() {
                        armed_at = Some(*zxid);
                    }
                }
                Seen::Pong(zxid) => newest = newest.max(*zxid),
                Seen::Reply(id) => {
                    let operation = &history.operations[*id];
                    let Some(reply) = &operation.reply else {
                        continue;
                    };
                    newest = newest.max(reply.zxid);
                    if matches!(&operation.op, Op::AddWatch { path, .. } if path == "/log")
                        && reply.result.is_ok()
                        && armed_at.is_none()
                    {
                        armed_at = Some(reply.zxid);
                    }
                }
                Seen::Event(kind, path, zxid) if path.starts_with("/log/") => {
                    if *kind != EventKind::Created || !tree.contains_key(path) {
                        objections.push(format!(
                            "{where_} got {kind:?} of {path}: it never happened"
                        ));
                    }
                    if !told.insert(path) {
                        objections.push(format!("{where_} was told twice of {path}"));
                    }
                    if *zxid > 0 && *zxid < last_event && armed_at.is_some() {
                        objections.push(format!("{where_} was told of {path} out of order"));
                    }
                    last_event = (*zxid).max(last_event);
                    if armed_at.is_none() && !set_again {
                        objections.push(format!("{where_} was told of {path} without a watch"));
                    }
                }
                _ => {}
            }
        }
        let Some(armed_at) = armed_at else { continue };
        for (path, (_, stat)) in tree.iter().filter(|(path, _)| path.starts_with("/log/")) {
            if stat.czxid > armed_at && stat.czxid <= newest && !told.contains(path.as_str()) {
                objections.push(format!(
                    "{where_} was not told of {path} (revision {}), watched since {armed_at} and seen up to {newest}",
                    stat.czxid
                ));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::build::{get, line, op, session, set, stat};

    const PATH: &str = "/register/0";

    fn read(h: &mut History, s: usize, conn: u64, at: u64, zxid: i64, watch: bool) {
        let answer = Answer::Data("x".into(), stat(zxid, 0));
        op(
            h,
            s,
            conn,
            at,
            get(PATH, watch),
            Some((at, zxid, Ok(answer))),
        );
    }

    fn event(h: &mut History, s: usize, conn: u64, at: u64, zxid: i64) {
        let seen = Seen::Event(EventKind::DataChanged, PATH.into(), zxid);
        line(h, s, conn, at, seen);
    }

    #[test]
    fn an_event_before_the_data_passes() {
        let mut h = History::default();
        let s = session(&mut h, 1_000);
        read(&mut h, s, 1, 1, 5, true);
        event(&mut h, s, 1, 2, 6);
        read(&mut h, s, 1, 3, 6, false);
        assert_eq!(check(&h), Vec::<String>::new());
    }

    #[test]
    fn data_without_or_before_the_event_are_found() {
        let mut h = History::default();
        let s = session(&mut h, 1_000);
        read(&mut h, s, 1, 1, 5, true);
        read(&mut h, s, 2, 3, 6, false);
        assert_eq!(check(&h).len(), 1);
        let mut h = History::default();
        let s = session(&mut h, 1_000);
        op(
            &mut h,
            s,
            1,
            1,
            set(PATH, "a"),
            Some((2, 6, Ok(Answer::Stat(stat(6, 1))))),
        );
        event(&mut h, s, 1, 3, 6);
        assert!(!check(&h).is_empty());
    }

    #[test]
    fn a_second_firing_is_found() {
        let mut h = History::default();
        let s = session(&mut h, 1_000);
        read(&mut h, s, 1, 1, 5, true);
        event(&mut h, s, 1, 2, 6);
        event(&mut h, s, 1, 3, 7);
        assert_eq!(check(&h).len(), 1);
    }

    fn log_history(told: &[(&str, i64)], seen_up_to: i64) -> History {
        let mut h = History::default();
        let s = session(&mut h, 1_000);
        let watch = Op::AddWatch {
            path: "/log".into(),
            recursive: true,
        };
        op(&mut h, s, 1, 1, watch, Some((2, 5, Ok(Answer::Done))));
        for (path, zxid) in told {
            let seen = Seen::Event(EventKind::Created, (*path).into(), *zxid);
            line(&mut h, s, 1, 3, seen);
        }
        line(&mut h, s, 1, 9, Seen::Pong(seen_up_to));
        let node = |path: &str, zxid| (path.to_owned(), ("x".to_owned(), stat(zxid, 0)));
        let tree = [node("/log/a", 5), node("/log/b", 6), node("/log/c", 7)];
        h.trees.push((0, tree.into()));
        h
    }

    #[test]
    fn a_recursive_watch_is_told_of_everything_once() {
        assert_eq!(
            check(&log_history(&[("/log/b", 6), ("/log/c", 7)], 7)),
            Vec::<String>::new()
        );
        assert_eq!(
            check(&log_history(&[("/log/b", 6)], 6)),
            Vec::<String>::new()
        );
        assert_eq!(check(&log_history(&[("/log/b", 6)], 7)).len(), 1);
        let twice = [("/log/b", 6), ("/log/b", 6), ("/log/c", 7)];
        assert_eq!(check(&log_history(&twice, 7)).len(), 1);
        assert!(!check(&log_history(&[("/log/c", 7), ("/log/b", 6)], 7)).is_empty());
    }
}
