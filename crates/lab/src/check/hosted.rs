//! Groups of nodes: never two users inside, fences that grow, one value in each place, and what was acknowledged is
//! still there; and what the lab's algorithms are checked for, on what the members wrote down.

use crate::groups::GroupsHistory;
use crate::history::History;
use crate::peers::logs;
use group::{Kind, What};
use std::collections::{BTreeMap, BTreeSet};

/// What is wrong.
pub fn check(history: &History) -> Vec<String> {
    let groups = &history.groups;
    let mut objections = Vec::new();
    one_is_inside(groups, &mut objections);
    places_hold(groups, &mut objections);
    // With clocks that were set, and logs whose last lines a power loss took, stamps of two lives of a member may
    // overlap; only times of entries depend on that.
    if let Some(kind) = groups.kind
        && !(kind == Kind::Lock && history.clocks_set)
    {
        let verdict = logs::check(kind, &groups.logs, &BTreeSet::new(), false);
        objections.extend(verdict.violations);
    }
    objections
}

fn one_is_inside(groups: &GroupsHistory, objections: &mut Vec<String>) {
    for (i, hold) in groups.holds.iter().enumerate() {
        for later in &groups.holds[i + 1..] {
            if later.from_us < hold.until_us && hold.from_us < later.until_us {
                objections.push(format!("two were inside: {hold:?} and {later:?}"));
            }
            if later.invoked_us > hold.from_us && later.fence <= hold.fence {
                objections.push(format!("{later:?} has no greater fence than {hold:?}"));
            }
        }
    }
}

fn places_hold(groups: &GroupsHistory, objections: &mut Vec<String>) {
    let mut decided: BTreeMap<u64, u64> = BTreeMap::new();
    for event in groups.logs.values().flatten() {
        if let What::Decided { position, value } = event.what {
            decided.insert(position, value);
            if !groups.asked.contains(&value) {
                objections.push(format!(
                    "{value} has place {position}, and nobody asked for it"
                ));
            }
        }
    }
    let is_whole = groups.logs.len() == groups.members;
    let mut told: BTreeMap<u64, u64> = BTreeMap::new();
    for (value, place) in &groups.appended {
        if told
            .insert(*place, *value)
            .is_some_and(|other| other != *value)
        {
            objections.push(format!(
                "place {place} was given to {value}, and to another value"
            ));
        }
        let is = decided.get(place);
        if is.is_some_and(|is| is != value) || (is.is_none() && is_whole) {
            objections.push(format!("{value} was given place {place}, where {is:?} is"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::groups::Hold;
    use group::Event;

    fn hold(invoked_us: u64, from_us: u64, until_us: u64, fence: u64) -> Hold {
        Hold {
            user: 0,
            node: 0,
            invoked_us,
            from_us,
            until_us,
            fence,
        }
    }

    fn of(holds: &[Hold]) -> usize {
        let mut history = History::default();
        history.groups.holds = holds.to_vec();
        check(&history).len()
    }

    #[test]
    fn two_inside_and_fences_that_do_not_grow_are_found() {
        let first = hold(1, 10, 20, 5);
        assert_eq!(of(&[first, hold(2, 21, 30, 6)]), 0);
        assert_eq!(of(&[first, hold(2, 19, 30, 6)]), 1);
        assert_eq!(of(&[first, hold(11, 21, 30, 5)]), 1);
        assert_eq!(
            of(&[first, hold(2, 21, 30, 4)]),
            0,
            "it may have entered first"
        );
    }

    #[test]
    fn place_with_two_values_and_acknowledged_value_that_is_gone_are_found() {
        let with = |appended: &[(u64, u64)], decided: &[(u64, u64)]| {
            let mut history = History::default();
            let groups = &mut history.groups;
            groups.kind = Some(Kind::Log { by_all: false });
            groups.asked = [7, 8].into();
            groups.appended = appended.to_vec();
            groups.members = 1;
            let log = decided.iter().map(|(position, value)| Event {
                ms: 1,
                n: 0,
                peer: 1,
                what: What::Decided {
                    position: *position,
                    value: *value,
                },
            });
            groups.logs.insert(1, log.collect());
            check(&history).len()
        };
        assert_eq!(with(&[(7, 1)], &[(1, 7), (2, 8)]), 0);
        assert_eq!(with(&[(7, 1)], &[(2, 8)]), 1, "gone");
        assert_eq!(with(&[(7, 1)], &[(1, 8)]), 1, "another is there");
        assert_eq!(with(&[], &[(1, 9)]), 1, "nobody asked");
        assert_eq!(with(&[], &[(1, 7), (1, 8)]), 1);
    }
}
