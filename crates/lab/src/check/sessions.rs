//! Sessions: what a session sees never goes back; it expires only when its client was silent for its
//! time-out; its ephemerals live exactly as long; the home that it left serves it no more.

use crate::history::{Answer, Ending, History, Life, Op, Outcome, Seen};
use std::collections::BTreeMap;

/// Clocks of nodes may run this much too fast, in parts per million.
const DRIFT_PPM: u64 = 1_000;
/// A follower answers a ping, and tells the leader with its next batch of keep-alives: one that is cut
/// off in between has vouched for its clients this much too long.
const TOLD_LATER_US: u64 = 400_000;
const NO_NODE: i32 = -101;

/// Objections about sessions.
pub fn check(history: &History) -> Vec<String> {
    let mut objections = monotonic(history);
    objections.extend(honest_expiry(history));
    objections.extend(ephemerals_live(history));
    objections.extend(ephemerals_at_the_end(history));
    objections.extend(moved(history));
    objections
}

fn monotonic(history: &History) -> Vec<String> {
    let mut objections = Vec::new();
    let mut newest: BTreeMap<usize, i64> = BTreeMap::new();
    // (session, path) → the newest data revision that the session has read or written.
    let mut known: BTreeMap<(usize, &str), i64> = BTreeMap::new();
    for line in &history.tape {
        let zxid = match &line.seen {
            Seen::Reply(id) => history.operations[*id].reply.as_ref().map_or(0, |r| r.zxid),
            Seen::Pong(zxid) | Seen::WatchesReplied(zxid) => *zxid,
            _ => 0,
        };
        if zxid > 0 {
            let newest = newest.entry(line.session).or_insert(zxid);
            if zxid < *newest {
                objections.push(format!(
                    "session {} saw revision {zxid} after {newest} ({:?})",
                    line.session, line.seen
                ));
            }
            *newest = zxid.max(*newest);
        }
        if let Seen::Reply(id) = &line.seen {
            let operation = &history.operations[*id];
            let Some(reply) = &operation.reply else {
                continue;
            };
            let (Op::Get { path, .. } | Op::Set { path, .. }, Ok(answer)) =
                (&operation.op, &reply.result)
            else {
                continue;
            };
            let (Answer::Data(_, stat) | Answer::Stat(stat)) = answer else {
                continue;
            };
            let last = known.entry((line.session, path)).or_insert(stat.mzxid);
            if stat.mzxid < *last {
                objections.push(format!(
                    "session {} saw {path} at revision {} after {last} (operation {id})",
                    line.session, stat.mzxid
                ));
            }
            *last = stat.mzxid.max(*last);
        }
    }
    objections
}

fn honest_expiry(history: &History) -> Vec<String> {
    let mut objections = Vec::new();
    for (number, session) in history.sessions.iter().enumerate() {
        if let Some(Ending::Expired(at_us)) = session.ending {
            let timeout_us = session.timeout_ms * 1000;
            // A home goes on answering for a quarter of the time-out after it lost touch with the leader, and
            // the client may not have been heard of for another third before that.
            let granted_us = if history.cut_off {
                timeout_us / 3
            } else {
                timeout_us
            };
            let slack_us = timeout_us * DRIFT_PPM / 1_000_000 + TOLD_LATER_US;
            let earliest_us = session.vouched_us + granted_us.saturating_sub(slack_us);
            if at_us < earliest_us {
                objections.push(format!(
                    "session {number} expired at {at_us} µs, {} ms after a request that was answered; \
                     its time-out is {} ms",
                    (at_us.saturating_sub(session.vouched_us)) / 1000,
                    session.timeout_ms
                ));
            }
        }
    }
    objections
}

/// A synced look must not miss an ephemeral whose session is known to live on.
fn ephemerals_live(history: &History) -> Vec<String> {
    let mut objections = Vec::new();
    let mut created: BTreeMap<&str, Vec<(u64, usize, usize)>> = BTreeMap::new();
    let mut deleted: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for part in history.parts() {
        match (part.op, &part.outcome) {
            (Op::Create { path, kind, .. }, Outcome::Done(_))
                if kind.life == Life::Ephemeral && !kind.sequential =>
            {
                let at_us = part.operation.reply.as_ref().map_or(u64::MAX, |r| r.at_us);
                let of = created.entry(path).or_default();
                of.push((at_us, part.operation.session, part.id));
            }
            (Op::Delete { path, .. }, outcome) if *outcome != Outcome::Refused => {
                deleted.entry(path).or_default().push(part.id);
            }
            _ => {}
        }
    }
    for (id, operation) in history.operations.iter().enumerate() {
        let (Op::Exists { path, .. }, Some(sync), Some(reply)) =
            (&operation.op, operation.synced_by, &operation.reply)
        else {
            continue;
        };
        if reply.result != Err(NO_NODE) {
            continue;
        }
        let begun_us = history.operations[sync].invoked_us;
        for (created_us, session, creation) in created.get(path.as_str()).into_iter().flatten() {
            let lives = history.sessions[*session].vouched_us > reply.at_us;
            let not_deleted = deleted.get(path.as_str()).is_none_or(|deletions| {
                !deletions.iter().any(|deletion| {
                    deletion > creation && history.operations[*deletion].invoked_us <= reply.at_us
                })
            });
            let not_closing = !matches!(
                history.sessions[*session].ending,
                Some(Ending::Closing(at_us)) if at_us <= reply.at_us
            );
            if *created_us < begun_us && lives && not_deleted && not_closing {
                objections.push(format!(
                    "operation {id} did not see {path}, which operation {creation} had created and whose \
                     session {session} was served afterwards"
                ));
            }
        }
    }
    objections
}

fn ephemerals_at_the_end(history: &History) -> Vec<String> {
    let mut objections = Vec::new();
    let Some((_, tree)) = history.trees.first() else {
        return objections;
    };
    for (path, (_, stat)) in tree.iter().filter(|(path, _)| path.starts_with("/live/")) {
        let owner = history
            .sessions
            .iter()
            .position(|s| s.id.0 == stat.ephemeral_owner);
        match owner {
            None => objections.push(format!(
                "{path} belongs to session {:x}, which nobody has",
                stat.ephemeral_owner
            )),
            Some(number) if history.sessions[number].ending.is_some() => objections.push(format!(
                "{path} outlived session {number} ({:?})",
                history.sessions[number].ending
            )),
            Some(_) => {}
        }
    }
    let mut deletions: BTreeMap<&str, usize> = BTreeMap::new();
    for part in history.parts() {
        if let Op::Delete { path, .. } = part.op
            && part.outcome != Outcome::Refused
        {
            deletions.insert(path, part.id);
        }
    }
    for part in history.parts() {
        let (Op::Create { kind, .. }, Outcome::Done(Answer::Created(path, _))) =
            (part.op, &part.outcome)
        else {
            continue;
        };
        let lives = history.sessions[part.operation.session].ending.is_none();
        let deleted = deletions.get(path.as_str()).is_some_and(|id| *id > part.id);
        if kind.life == Life::Ephemeral && lives && !deleted && !tree.contains_key(path) {
            objections.push(format!(
                "{path} of operation {} is gone although its session {} lives",
                part.id, part.operation.session
            ));
        }
    }
    objections
}

/// A session that was moved to another node is served there only.
fn moved(history: &History) -> Vec<String> {
    let mut objections = Vec::new();
    for (id, ghost) in history
        .operations
        .iter()
        .enumerate()
        .filter(|(_, o)| o.ghost)
    {
        let Some(reply) = &ghost.reply else { continue };
        if reply.result.is_err() {
            continue;
        }
        let moved_us = history.moved_us(ghost);
        let Some(moved_us) = moved_us else { continue };
        let is_write = matches!(ghost.op, Op::Set { .. });
        if is_write && ghost.invoked_us > moved_us {
            objections.push(format!(
                "operation {id} wrote through a home that session {} had left",
                ghost.session
            ));
        }
        let written = history
            .operations
            .iter()
            .filter(|o| o.session == ghost.session && o.connection > ghost.connection && !o.ghost)
            .filter(|o| matches!(o.op, Op::Set { .. } | Op::Create { .. }))
            .find_map(|o| o.reply.as_ref().filter(|r| r.result.is_ok()));
        if let Some(written) = written
            && reply.zxid >= written.zxid
        {
            objections.push(format!(
                "operation {id} was answered at revision {} by a home that session {} had left before {}",
                reply.zxid, ghost.session, written.zxid
            ));
        }
    }
    objections
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::build::{create, get, line, op, session, set, stat};

    #[test]
    fn a_good_history_passes() {
        let mut h = History::default();
        let s = session(&mut h, 1_000);
        let answer = Answer::Created("/live/a".into(), stat(4, 0));
        op(
            &mut h,
            s,
            1,
            1,
            create("/live/a", "x", true, false),
            Some((2, 4, Ok(answer))),
        );
        h.sessions[s].ending = Some(Ending::Expired(1_000_001));
        h.trees.push((0, Default::default()));
        assert_eq!(check(&h), Vec::<String>::new());
    }

    #[test]
    fn a_revision_that_goes_back_is_found() {
        let mut h = History::default();
        let s = session(&mut h, 1_000);
        line(&mut h, s, 1, 1, Seen::Pong(5));
        line(&mut h, s, 2, 2, Seen::Pong(4));
        assert_eq!(check(&h).len(), 1);
    }

    #[test]
    fn a_read_older_than_the_own_write_is_found() {
        let mut h = History::default();
        let s = session(&mut h, 1_000);
        let (written, read) = (stat(5, 1), stat(4, 0));
        op(
            &mut h,
            s,
            1,
            1,
            set("/register/0", "a"),
            Some((2, 5, Ok(Answer::Stat(written)))),
        );
        let answer = Answer::Data("b".into(), read);
        op(
            &mut h,
            s,
            1,
            3,
            get("/register/0", false),
            Some((4, 5, Ok(answer))),
        );
        assert_eq!(check(&h).len(), 1);
    }

    #[test]
    fn an_early_expiry_is_found() {
        let mut h = History::default();
        let s = session(&mut h, 1_000);
        h.sessions[s].vouched_us = 100;
        h.sessions[s].ending = Some(Ending::Expired(500_000));
        assert_eq!(check(&h).len(), 1);
    }

    #[test]
    fn an_ephemeral_that_is_missed_while_its_session_lives_is_found() {
        let mut h = History::default();
        let s = session(&mut h, 1_000);
        let answer = Answer::Created("/live/a".into(), stat(4, 0));
        op(
            &mut h,
            s,
            1,
            1,
            create("/live/a", "x", true, false),
            Some((2, 4, Ok(answer))),
        );
        let sync = op(&mut h, s, 2, 10, Op::Sync, None);
        let look = Op::Exists {
            path: "/live/a".into(),
            watch: false,
        };
        let look = op(&mut h, s, 2, 10, look, Some((12, 5, Err(NO_NODE))));
        h.operations[look].synced_by = Some(sync);
        assert_eq!(check(&h).len(), 0);
        h.sessions[s].vouched_us = 20;
        assert_eq!(check(&h).len(), 1);
    }

    #[test]
    fn an_ephemeral_that_outlives_its_session_is_found() {
        let mut h = History::default();
        let s = session(&mut h, 1_000);
        h.sessions[s].ending = Some(Ending::Closing(5));
        let mut owned = stat(4, 0);
        owned.ephemeral_owner = 1;
        let tree = [("/live/a".to_owned(), ("x".to_owned(), owned))];
        h.trees.push((0, tree.into()));
        assert_eq!(check(&h).len(), 1);
    }

    #[test]
    fn a_write_through_the_home_that_was_left_is_found() {
        let mut h = History::default();
        let s = session(&mut h, 1_000);
        line(&mut h, s, 2, 10, Seen::Attached);
        let answer = Answer::Stat(stat(9, 1));
        let id = op(
            &mut h,
            s,
            1,
            11,
            set("/register/0", "a"),
            Some((12, 9, Ok(answer))),
        );
        h.operations[id].ghost = true;
        assert_eq!(check(&h).len(), 1);
    }
}
