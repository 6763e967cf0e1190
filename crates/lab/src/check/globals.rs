//! Global transactions: each ends, as one thing in all services, and never otherwise than it was seen to have ended;
//! none fails unless somebody refused; none is both confirmed and cancelled.

use crate::globals::{ACCOUNTS, FUNDS, GlobalsHistory, SERVICES};
use crate::history::History;
use std::collections::BTreeMap;
use transactions::global::Status;

/// Operations of which a transaction never sees both.
const OPPOSITES: [(&str, &str); 2] = [("confirm", "cancel"), ("commit", "rollback")];

/// What is wrong.
pub fn check(history: &History) -> Vec<String> {
    let globals = &history.globals;
    let mut objections = Vec::new();
    ends_hold(globals, &mut objections);
    all_end(globals, &mut objections);
    services_agree(globals, &mut objections);
    no_opposites(globals, &mut objections);
    objections
}

/// What is asked after an answer came shows no older state, and no other end.
fn ends_hold(globals: &GlobalsHistory, objections: &mut Vec<String>) {
    let mut of_gid: BTreeMap<&str, Vec<_>> = BTreeMap::new();
    for seen in &globals.seen {
        of_gid.entry(&seen.gid).or_default().push(seen);
    }
    for (gid, seen) in of_gid {
        for (at, later) in seen.iter().enumerate() {
            for earlier in seen[..at].iter().filter(|e| e.at_us < later.invoked_us) {
                let (Some(was), is) = (earlier.was, later.was) else {
                    continue;
                };
                let version = is.map_or(0, |(_, version)| version);
                let is_other = was.0.is_ended() && is.map(|(status, _)| status) != Some(was.0);
                if version < was.1 || is_other {
                    objections.push(format!(
                        "{gid} was {was:?} at {}, and {is:?} at {}",
                        earlier.at_us, later.at_us
                    ));
                }
            }
        }
    }
}

fn all_end(globals: &GlobalsHistory, objections: &mut Vec<String>) {
    for transfer in &globals.transfers {
        match globals.last.get(&transfer.gid) {
            None if transfer.acknowledged => {
                objections.push(format!("{} was acknowledged and has no end", transfer.gid));
            }
            Some(Status::Failed) if !transfer.may_fail => objections.push(format!(
                "{} failed, and nobody had refused it",
                transfer.gid
            )),
            _ => {}
        }
    }
}

/// What a transaction has changed is what its end says, and all of it together is nothing.
fn services_agree(globals: &GlobalsHistory, objections: &mut Vec<String>) {
    for transfer in &globals.transfers {
        let changed = |service: usize| globals.services[service].changed(&transfer.gid);
        let is = (changed(transfer.from.0), changed(transfer.to.0));
        let end = globals.last.get(&transfer.gid);
        let shall_be = match end {
            Some(Status::Succeeded) => (-transfer.amount, transfer.amount),
            _ => (0, 0),
        };
        if is != shall_be {
            objections.push(format!(
                "{} ({}) ended as {end:?}, and changed {is:?}, not {shall_be:?}",
                transfer.gid,
                transfer.kind.name()
            ));
        }
    }
    let sums = globals.services.iter().map(|service| service.sums());
    let sum = sums.fold((0, 0), |sum, own| (sum.0 + own.0, sum.1 + own.1));
    let whole = (SERVICES as u64 * ACCOUNTS) as i64 * FUNDS;
    if sum != (whole, 0) {
        objections.push(format!(
            "of {whole} there are {} and {} reserved",
            sum.0, sum.1
        ));
    }
}

fn no_opposites(globals: &GlobalsHistory, objections: &mut Vec<String>) {
    for transfer in &globals.transfers {
        let is_called = |op: &str| {
            let place = (transfer.gid.clone(), op.to_owned());
            globals.called.contains_key(&place)
        };
        for (one, other) in OPPOSITES {
            if is_called(one) && is_called(other) {
                objections.push(format!(
                    "{} was called to {one} and to {other}",
                    transfer.gid
                ));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::globals::{Answer, Seen, Transfer};
    use transactions::global::Kind;

    fn transfer(may_fail: bool) -> Transfer {
        Transfer {
            kind: Kind::Tcc,
            gid: "a".into(),
            from: (0, 0),
            to: (1, 0),
            amount: 30,
            acknowledged: true,
            may_fail,
        }
    }

    /// Operations with their service and branch, and how it is said to have ended.
    fn found(may_fail: bool, ops: &[(usize, &str, &str)], end: Option<Status>) -> usize {
        let mut history = History::default();
        let globals = &mut history.globals;
        globals.transfers.push(transfer(may_fail));
        for (service, branch, op) in ops {
            let change = if *service == 0 { -30 } else { 30 };
            let answer = globals.services[*service].handle("a", branch, op, 0, change);
            assert_eq!(answer, Answer::Yes);
        }
        globals.last.extend(end.map(|end| ("a".to_owned(), end)));
        check(&history).len()
    }

    const TRIED: [(usize, &str, &str); 2] = [(0, "01", "try"), (1, "02", "try")];
    const CONFIRMED: [(usize, &str, &str); 2] = [(1, "02", "confirm"), (0, "01", "confirm")];
    const CANCELLED: [(usize, &str, &str); 2] = [(1, "02", "cancel"), (0, "01", "cancel")];

    #[test]
    fn end_that_the_services_do_not_show_is_found() {
        let (yes, no) = (Some(Status::Succeeded), Some(Status::Failed));
        let confirmed = [TRIED, CONFIRMED].concat();
        let cancelled = [TRIED, CANCELLED].concat();
        assert_eq!(found(true, &confirmed, yes), 0);
        assert_eq!(found(true, &cancelled, no), 0);
        assert!(found(true, &confirmed, no) > 0);
        assert!(found(true, &cancelled, yes) > 0);
        assert!(
            found(true, &confirmed[..3], yes) > 0,
            "it is still reserved"
        );
        assert_eq!(found(false, &cancelled, no), 1, "nobody had refused");
        assert!(found(true, &cancelled, None) > 0, "it was acknowledged");
    }

    #[test]
    fn late_and_repeated_operations_change_nothing() {
        let no = Some(Status::Failed);
        let late = [TRIED, CANCELLED, CANCELLED, TRIED].concat();
        assert_eq!(found(true, &late, no), 0);
        let first = [CANCELLED, TRIED].concat();
        assert_eq!(found(true, &first, no), 0, "the cancel came first");
    }

    #[test]
    fn end_that_changes_and_version_that_goes_back_are_found() {
        let of = |was, is| {
            let mut history = History::default();
            for (us, was) in [(10, was), (30, is)] {
                history.globals.seen.push(Seen {
                    gid: "a".into(),
                    invoked_us: us,
                    at_us: us + 5,
                    was,
                });
            }
            check(&history).len()
        };
        let (yes, no) = (Status::Succeeded, Status::Failed);
        assert_eq!(of(Some((yes, 4)), Some((no, 5))), 1);
        assert_eq!(of(Some((Status::Submitted, 4)), Some((yes, 3))), 1);
        assert_eq!(of(Some((Status::Submitted, 4)), Some((yes, 5))), 0);
        assert_eq!(of(Some((yes, 4)), None), 1);
        assert_eq!(of(None, Some((yes, 4))), 0);
    }

    #[test]
    fn calls_to_both_ends_are_found() {
        let mut history = History::default();
        history.globals.transfers.push(transfer(true));
        history.globals.last.insert("a".into(), Status::Failed);
        for op in ["confirm", "cancel"] {
            let place = ("a".to_owned(), op.to_owned());
            history.globals.called.insert(place, 1);
        }
        assert_eq!(check(&history).len(), 1);
    }
}
