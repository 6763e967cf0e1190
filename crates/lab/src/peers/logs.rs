//! The checks of simulated runs, on what real nodes wrote down.
//!
//! Logs are merged by their stamps, so that no effect comes before its cause. Where a life of a peer ends without a
//! word, it may have died at any moment since its last event: it counts as dead from there on, so what is said to
//! be wrong is wrong, and a crash hides a second at most (who is inside says so once a second).

use super::fields::Safety;
use super::fields::agreement::Places;
use super::fields::election::Terms;
use super::fields::mutex::Inside;
use base::peer::PeerId;
use coordination::{election, mutex};
use group::{Event, Kind, What};
use std::collections::{BTreeMap, BTreeSet};

/// What came of a check.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Verdict {
    /// What must never be, and was.
    pub violations: Vec<String>,
    /// Events that were looked at.
    pub events: usize,
    /// Entries of a lock.
    pub entries: usize,
    /// Leaders that followed one another, by what peers said of themselves.
    pub leaders: usize,
    /// Places of a log that were filled.
    pub decided: usize,
}

/// Something that happened, or a death that must have.
enum Step {
    Said(What),
    Died,
}

/// Checks the logs of a group. `logs`: by peer; `dead`: those of them whose process is gone. `whole`: every member's
/// log is there from its beginning, so that what none of them was asked for was asked for by nobody.
pub fn check(
    kind: Kind,
    logs: &BTreeMap<PeerId, Vec<Event>>,
    dead: &BTreeSet<PeerId>,
    whole: bool,
) -> Verdict {
    let mut steps: Vec<((i64, u32, PeerId), u8, Step)> = Vec::new();
    let read = logs.values().flatten();
    let read = read.filter(|event| event.what == What::Read);
    // One log may have been read before what another says.
    let until = read.map(Event::order).min();
    for (peer, log) in logs {
        let mut last = None;
        for event in log {
            if until.is_some_and(|until| event.order() >= until) {
                break;
            }
            if let (What::Started, Some(last)) = (event.what, last) {
                steps.push((last, 1, Step::Died));
            }
            last = Some(event.order());
            steps.push((event.order(), 0, Step::Said(event.what)));
        }
        if let (true, Some(last)) = (dead.contains(peer), last) {
            steps.push((last, 1, Step::Died));
        }
    }
    steps.sort_by_key(|(at, after, _)| (*at, *after));
    let mut verdict = Verdict::default();
    let (mut inside, mut terms, mut places) =
        (Inside::default(), Terms::default(), Places::default());
    if !whole {
        for event in logs.values().flatten() {
            if let What::Decided { value, .. } = event.what {
                places.asked(event.peer, &value);
            }
        }
    }
    let mut leader = None;
    for ((ms, _, peer), _, step) in steps {
        let Step::Said(what) = step else {
            inside.crashed(peer);
            terms.crashed(peer);
            continue;
        };
        verdict.events += 1;
        let objection = match what {
            What::Started | What::Inside | What::Refused | What::Read => None,
            What::Acquire => {
                inside.asked(peer, &mutex::Request::Acquire(0));
                None
            }
            What::Release => {
                inside.asked(peer, &mutex::Request::Release(0));
                None
            }
            What::Entered => {
                verdict.entries += 1;
                inside.decided(peer, &mutex::Decision::Entered(0))
            }
            What::Leader { leader: now, term } => {
                if now == peer && leader.replace((now, term)) != Some((now, term)) {
                    verdict.leaders += 1;
                }
                terms.decided(peer, &election::Decision::Leader { leader: now, term })
            }
            What::Leaderless => terms.decided(peer, &election::Decision::Leaderless),
            What::Asked { value } => {
                places.asked(peer, &value);
                None
            }
            What::Decided { position, value } => {
                verdict.decided = verdict.decided.max(position as usize);
                match kind {
                    Kind::LeaderLog => {
                        terms.decided(peer, &election::Decision::Applied { position, value })
                    }
                    _ => places.decided(peer, &ledger::Decision::Decided { position, value }),
                }
            }
        };
        let at = base::time::utc(ms);
        verdict
            .violations
            .extend(objection.map(|words| format!("{at} {words}")));
    }
    verdict
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(peer: PeerId, events: &[(i64, What)]) -> Vec<Event> {
        let event = |(ms, what): &(i64, What)| Event {
            ms: *ms,
            n: 0,
            peer,
            what: *what,
        };
        events.iter().map(event).collect()
    }

    fn violations(kind: Kind, logs: &[Vec<Event>], dead: &[PeerId]) -> Vec<String> {
        let logs = (1..).zip(logs.iter().cloned()).collect();
        check(kind, &logs, &dead.iter().copied().collect(), true).violations
    }

    #[test]
    fn second_entry_is_found_unless_the_first_holder_had_died() {
        let one = log(
            1,
            &[(1, What::Started), (2, What::Entered), (5, What::Inside)],
        );
        let before = log(2, &[(1, What::Started), (4, What::Entered)]);
        let after = log(2, &[(1, What::Started), (6, What::Entered)]);
        let found = |two: &Vec<Event>, dead: &[PeerId]| {
            violations(Kind::Lock, &[one.clone(), two.clone()], dead).len()
        };
        assert_eq!((found(&before, &[]), found(&after, &[])), (1, 1));
        // Dead, it was inside up to 5 at least.
        assert_eq!((found(&before, &[1]), found(&after, &[1])), (1, 0));
        let mut again = one.clone();
        again.extend(log(1, &[(9, What::Started)]));
        assert_eq!(violations(Kind::Lock, &[again, after], &[]).len(), 0);
        let mut left = one.clone();
        left.extend(log(1, &[(7, What::Release)]));
        let later = log(2, &[(8, What::Entered)]);
        assert_eq!(violations(Kind::Lock, &[left, later], &[]).len(), 0);
    }

    #[test]
    fn two_leaders_of_a_term_and_two_values_of_a_place_are_found() {
        let leads = |leader, term| What::Leader { leader, term };
        let one = log(1, &[(1, leads(1, 1))]);
        assert_eq!(
            violations(
                Kind::LeaderLog,
                &[one.clone(), log(2, &[(2, leads(2, 1))])],
                &[]
            )
            .len(),
            1
        );
        assert_eq!(
            violations(Kind::LeaderLog, &[one, log(2, &[(2, leads(2, 2))])], &[]).len(),
            0
        );
        let has = |position, value| What::Decided { position, value };
        for kind in [Kind::LeaderLog, Kind::Log { by_all: true }] {
            let one = log(1, &[(1, What::Asked { value: 7 }), (2, has(1, 7))]);
            let other = log(2, &[(1, What::Asked { value: 8 }), (3, has(1, 8))]);
            assert_eq!(violations(kind, &[one.clone(), other], &[]).len(), 1);
            assert_eq!(
                violations(kind, &[one, log(2, &[(3, has(1, 7))])], &[]).len(),
                0
            );
        }
    }

    #[test]
    fn what_came_after_a_log_was_read_is_not_held_against_it() {
        let one = log(1, &[(1, What::Entered), (3, What::Read)]);
        let two = log(
            2,
            &[(2, What::Started), (5, What::Entered), (6, What::Read)],
        );
        assert!(violations(Kind::Lock, &[one.clone(), two], &[]).is_empty());
        let two = log(2, &[(2, What::Entered), (6, What::Read)]);
        assert_eq!(violations(Kind::Lock, &[one, two], &[]).len(), 1);
    }

    #[test]
    fn value_that_nobody_asked_for_is_found_where_all_logs_are_there() {
        let logs = BTreeMap::from([(
            1,
            log(
                1,
                &[(
                    1,
                    What::Decided {
                        position: 1,
                        value: 7,
                    },
                )],
            ),
        )]);
        let kind = Kind::Log { by_all: true };
        assert_eq!(
            check(kind, &logs, &BTreeSet::new(), true).violations.len(),
            1
        );
        assert!(
            check(kind, &logs, &BTreeSet::new(), false)
                .violations
                .is_empty()
        );
    }
}
