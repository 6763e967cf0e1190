//! Registers are linearizable, with the revision as the witness of their order.
//!
//! Every value is written at most once, so a read names the write that it saw. Writes have the place of
//! their revision; a read has the place just behind the write it saw. If every operation that began after
//! another had ended has a later place (or, for reads, no earlier one), that order is a linearization. A
//! search over orders is not needed. Plain reads may be stale, but what they saw was committed by then.

use crate::history::{Answer, History, Op, Outcome};
use std::collections::BTreeMap;

#[derive(Debug)]
struct Write {
    path: String,
    invoked_us: u64,
    place: Option<(i64, i32)>,
    refused: bool,
    seen: bool,
}

#[derive(Debug)]
struct Timed {
    invoked_us: u64,
    completed_us: u64,
    zxid: i64,
    /// A write must lie strictly behind what ended before it began.
    strict: bool,
    /// Stale reads are held to nothing, but later operations are held to them.
    bound: bool,
    what: String,
}

/// Objections to what was read from and written to `/register/*`.
pub fn check(history: &History) -> Vec<String> {
    let mut objections = Vec::new();
    let mut writes: BTreeMap<String, Write> = BTreeMap::new();
    let mut timed: Vec<Timed> = Vec::new();
    for part in history.parts() {
        let (path, value) = match part.op {
            Op::Set { path, value, .. } | Op::Create { path, value, .. } => (path, value),
            _ => continue,
        };
        if !path.starts_with("/register/") {
            continue;
        }
        let place = match &part.outcome {
            Outcome::Done(Answer::Stat(stat) | Answer::Created(_, stat)) => {
                Some((stat.mzxid, stat.version))
            }
            _ => None,
        };
        if let (Some((zxid, _)), Some(reply)) = (place, &part.operation.reply) {
            timed.push(Timed {
                invoked_us: part.operation.invoked_us,
                completed_us: reply.at_us,
                zxid,
                strict: true,
                bound: true,
                what: format!("the write of {value} to {path} by operation {}", part.id),
            });
            if let Op::Set { version, .. } = part.op
                && *version >= 0
                && place.map(|(_, v)| v) != Some(version + 1)
            {
                objections.push(format!(
                    "setting {path} at version {version} yielded version {:?}",
                    place.map(|(_, v)| v)
                ));
            }
        }
        writes.insert(
            value.clone(),
            Write {
                path: path.clone(),
                invoked_us: part.operation.invoked_us,
                place,
                refused: part.outcome == Outcome::Refused,
                seen: false,
            },
        );
    }

    let mut observations = Vec::new();
    for (id, operation) in history.operations.iter().enumerate() {
        let (Op::Get { path, .. }, Some(reply)) = (&operation.op, &operation.reply) else {
            continue;
        };
        let Ok(Answer::Data(value, stat)) = &reply.result else {
            continue;
        };
        if !path.starts_with("/register/") {
            continue;
        }
        observations.push((
            path.clone(),
            value.clone(),
            *stat,
            reply.at_us,
            format!("operation {id}"),
        ));
        let begun_us = operation.synced_by.map_or(operation.invoked_us, |sync| {
            history.operations[sync].invoked_us
        });
        timed.push(Timed {
            invoked_us: begun_us,
            completed_us: reply.at_us,
            zxid: stat.mzxid,
            strict: false,
            bound: operation.synced_by.is_some(),
            what: format!("the read of {path} by operation {id}"),
        });
    }
    for (node, tree) in &history.trees {
        for (path, (value, stat)) in tree {
            if path.starts_with("/register/") {
                let what = format!("node{node}'s tree");
                observations.push((path.clone(), value.clone(), *stat, u64::MAX, what));
            }
        }
    }

    for (path, value, stat, at_us, what) in observations {
        let Some(write) = writes.get_mut(&value) else {
            objections.push(format!(
                "{what} shows {value} in {path}, which nobody wrote"
            ));
            continue;
        };
        if write.path != path || write.invoked_us > at_us {
            objections.push(format!(
                "{what} shows {value} in {path} before or beside its write"
            ));
        }
        if write.refused {
            objections.push(format!(
                "{what} shows {value} in {path}, whose write was refused"
            ));
        }
        write.seen = true;
        let place = *write.place.get_or_insert((stat.mzxid, stat.version));
        if place != (stat.mzxid, stat.version) {
            objections.push(format!(
                "{what} shows {value} in {path} at revision {} version {}, elsewhere it is {place:?}: \
                 applied twice, or replicas differ",
                stat.mzxid, stat.version
            ));
        }
    }

    let mut places: BTreeMap<(&str, i64), (i32, &str)> = BTreeMap::new();
    let mut unplaced: BTreeMap<&str, usize> = BTreeMap::new();
    for (value, write) in &writes {
        match write.place {
            Some((mzxid, version)) => {
                if let Some((_, other)) = places.insert((&write.path, mzxid), (version, value)) {
                    objections.push(format!(
                        "{value} and {other} were both written to {} at revision {mzxid}",
                        write.path
                    ));
                }
            }
            None if !write.refused => *unplaced.entry(&write.path).or_default() += 1,
            None => {}
        }
    }
    let mut last: BTreeMap<&str, (i32, i32)> = BTreeMap::new(); // (version, versions missing)
    for ((path, mzxid), (version, value)) in &places {
        let (before, missing) = last.entry(path).or_insert((-1, 0));
        if *version <= *before {
            objections.push(format!(
                "{value} in {path} has version {version} at revision {mzxid}, behind version {before}"
            ));
        }
        *missing += (*version - *before - 1).max(0);
        *before = *version;
    }
    for (path, (version, missing)) in last {
        let allowed = unplaced.get(path).copied().unwrap_or(0);
        if missing as usize > allowed {
            objections.push(format!(
                "{path} reached version {version} with {missing} versions that nobody saw, \
                 but only {allowed} writes of unknown outcome: something was applied twice"
            ));
        }
    }
    for (path, tree_value) in final_registers(history) {
        let newest = places
            .range((path, i64::MIN)..=(path, i64::MAX))
            .next_back();
        if let Some(((_, mzxid), (_, value))) = newest
            && *mzxid > tree_value
        {
            objections.push(format!(
                "{value} was written to {path} at revision {mzxid} and is lost: the end shows {tree_value}"
            ));
        }
    }
    objections.extend(real_time(timed));
    objections
}

fn final_registers(history: &History) -> impl Iterator<Item = (&str, i64)> {
    history.trees.iter().flat_map(|(_, tree)| {
        tree.iter()
            .filter(|(path, _)| path.starts_with("/register/"))
            .map(|(path, (_, stat))| (path.as_str(), stat.mzxid))
    })
}

fn real_time(mut timed: Vec<Timed>) -> Vec<String> {
    let mut objections = Vec::new();
    let mut ends: Vec<(u64, i64, String)> = timed
        .iter()
        .map(|t| (t.completed_us, t.zxid, t.what.clone()))
        .collect();
    ends.sort();
    timed.sort_by_key(|t| t.invoked_us);
    let mut next = 0;
    let mut newest: Option<(i64, String)> = None;
    // Places are revisions of the whole machine, so the order is checked across all registers for
    // writes; a read shows one register only and is held to the ends of that register's operations.
    let mut newest_of: BTreeMap<String, (i64, String)> = BTreeMap::new();
    for op in timed {
        while next < ends.len() && ends[next].0 < op.invoked_us {
            let (_, zxid, what) = &ends[next];
            if newest.as_ref().is_none_or(|(top, _)| zxid > top) {
                newest = Some((*zxid, what.clone()));
            }
            let of = newest_of
                .entry(register_in(what))
                .or_insert((*zxid, what.clone()));
            if *zxid > of.0 {
                *of = (*zxid, what.clone());
            }
            next += 1;
        }
        let before = if op.strict {
            newest.as_ref()
        } else {
            newest_of.get(&register_in(&op.what))
        };
        let Some((zxid, what)) = before else { continue };
        if op.bound && (op.zxid < *zxid || (op.strict && op.zxid == *zxid)) {
            objections.push(format!(
                "{} is at revision {} although {what} (revision {zxid}) had ended before it began",
                op.what, op.zxid
            ));
        }
    }
    objections
}

fn register_in(what: &str) -> String {
    what.split(' ')
        .find(|word| word.starts_with("/register/"))
        .unwrap_or_default()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::build::{get, op, set, stat};

    const PATH: &str = "/register/0";

    fn write(h: &mut History, value: &str, invoked: u64, completed: u64, zxid: i64, version: i32) {
        let reply = (completed, zxid, Ok(Answer::Stat(stat(zxid, version))));
        op(h, 0, 1, invoked, set(PATH, value), Some(reply));
    }

    fn read(h: &mut History, value: &str, invoked: u64, completed: u64, zxid: i64, version: i32) {
        let sync = op(
            h,
            0,
            1,
            invoked,
            Op::Sync,
            Some((completed, zxid, Ok(Answer::Done))),
        );
        let answer = Answer::Data(value.into(), stat(zxid, version));
        let id = op(
            h,
            0,
            1,
            invoked,
            get(PATH, false),
            Some((completed, zxid, Ok(answer))),
        );
        h.operations[id].synced_by = Some(sync);
    }

    #[test]
    fn a_good_history_passes() {
        let mut h = History::default();
        write(&mut h, "a", 1, 5, 10, 0);
        op(&mut h, 0, 1, 6, set(PATH, "unknown"), None);
        read(&mut h, "unknown", 8, 9, 11, 1);
        write(&mut h, "b", 20, 25, 12, 2);
        read(&mut h, "b", 30, 31, 12, 2);
        assert_eq!(check(&h), Vec::<String>::new());
    }

    #[test]
    fn a_stale_synced_read_is_found() {
        let mut h = History::default();
        write(&mut h, "a", 1, 5, 10, 0);
        write(&mut h, "b", 6, 7, 11, 1);
        read(&mut h, "a", 8, 9, 10, 0);
        assert_eq!(check(&h).len(), 1);
    }

    #[test]
    fn an_invented_value_is_found() {
        let mut h = History::default();
        read(&mut h, "nobody's", 8, 9, 10, 0);
        assert!(!check(&h).is_empty());
    }

    #[test]
    fn a_refused_value_that_shows_is_found() {
        let mut h = History::default();
        op(&mut h, 0, 1, 1, set(PATH, "a"), Some((2, 3, Err(-103))));
        read(&mut h, "a", 8, 9, 10, 0);
        assert!(!check(&h).is_empty());
    }

    #[test]
    fn a_write_applied_twice_is_found_by_the_versions() {
        let mut h = History::default();
        write(&mut h, "a", 1, 5, 10, 0);
        write(&mut h, "b", 6, 7, 12, 2);
        assert_eq!(check(&h).len(), 1);
    }

    #[test]
    fn one_value_at_two_places_is_found() {
        let mut h = History::default();
        write(&mut h, "a", 1, 5, 10, 0);
        read(&mut h, "a", 6, 7, 11, 1);
        assert!(!check(&h).is_empty());
    }

    #[test]
    fn a_lost_write_is_found_at_the_end() {
        let mut h = History::default();
        write(&mut h, "a", 1, 5, 10, 0);
        write(&mut h, "b", 6, 7, 11, 1);
        let tree = [(PATH.to_owned(), ("a".to_owned(), stat(10, 0)))];
        h.trees.push((0, tree.into()));
        assert!(!check(&h).is_empty());
    }

    #[test]
    fn writes_against_real_time_are_found() {
        let mut h = History::default();
        write(&mut h, "a", 1, 5, 11, 1);
        write(&mut h, "b", 6, 7, 10, 0);
        assert!(!check(&h).is_empty());
    }
}
