//! Services: whoever is told in time is never dropped, whoever is not is dropped within bounds, indexes never
//! go back, and who waits misses no change.

use crate::history::History;
use crate::services::Looked;
use coordination::services::Status;

/// Time for an expiry to be proposed and applied once nothing is broken.
const DROP_US: u64 = 3_000_000;
/// What a change may take to whoever waits for it, once nothing is broken.
const WAKE_US: u64 = 1_500_000;
/// Clocks may run faster than they should: a time-out may be over so much earlier.
const DRIFT_PART: u64 = 50;

/// What is wrong.
pub fn check(history: &History) -> Vec<String> {
    let mut objections = Vec::new();
    kept_are_there(history, &mut objections);
    silent_are_dropped(history, &mut objections);
    indexes_rise(history, &mut objections);
    waiters_wake(history, &mut objections);
    for (client, at_us, what) in &history.services.unanswered {
        objections.push(format!(
            "client {client} was never answered what it called at {at_us}: {what}"
        ));
    }
    objections
}

/// A look that begins after a check was told, and ends before the time-out is over, sees it pass.
fn kept_are_there(history: &History, objections: &mut Vec<String>) {
    let services = &history.services;
    for looked in &services.looked {
        // Who waited was answered from the state of some moment in between.
        for told in &services.told {
            let is_before = told.reply_us.is_some_and(|us| us < looked.invoked_us);
            let until_us = told.invoked_us + told.ttl_us - told.ttl_us / DRIFT_PART;
            if !is_before || looked.at_us >= until_us {
                continue;
            }
            let its = looked.instances.iter().find(|(c, _)| *c == told.client);
            let is_own = told.client % crate::services::SERVICES == looked.service;
            if is_own && its.is_none_or(|(_, status)| *status != Status::Passing) {
                objections.push(format!(
                    "client {} was told to pass at {} for {} us, yet node{} showed {its:?} at {}",
                    told.client, told.invoked_us, told.ttl_us, looked.node, looked.at_us
                ));
            }
        }
    }
}

/// Long after the owners fell silent, every check is critical.
fn silent_are_dropped(history: &History, objections: &mut Vec<String>) {
    let services = &history.services;
    for looked in &services.last {
        for (client, status) in &looked.instances {
            let told = services.told.iter().filter(|told| told.client == *client);
            let until_us = told.map(|told| told.invoked_us + told.ttl_us).max();
            let is_over = until_us.is_none_or(|us| us + DROP_US < looked.invoked_us);
            if is_over && *status != Status::Critical {
                objections.push(format!(
                    "client {client} was silent, yet {status:?} at {}",
                    looked.at_us
                ));
            }
        }
    }
}

/// What is asked after an answer came shows no older state.
fn indexes_rise(history: &History, objections: &mut Vec<String>) {
    let looked = &history.services.looked;
    for service in 0..crate::services::SERVICES {
        let mut its: Vec<&Looked> = looked.iter().filter(|l| l.service == service).collect();
        its.sort_by_key(|looked| looked.invoked_us);
        let mut answered: Vec<&Looked> = its.clone();
        answered.sort_by_key(|looked| looked.at_us);
        let (mut next, mut highest) = (0, 0);
        for looked in its {
            while answered
                .get(next)
                .is_some_and(|before| before.at_us < looked.invoked_us)
            {
                highest = highest.max(answered[next].index);
                next += 1;
            }
            if looked.index < highest {
                objections.push(format!(
                    "the index of service {service} was {highest}, and then {} on node{} at {}",
                    looked.index, looked.node, looked.at_us
                ));
            }
        }
    }
}

/// Once nothing is broken, whoever waits is answered soon after others see the change.
fn waiters_wake(history: &History, objections: &mut Vec<String>) {
    let services = &history.services;
    let Some(healed_us) = services.healed_us else {
        return;
    };
    let waits = services.looked.iter().filter_map(|l| Some((l, l.after?)));
    for (looked, (index, _)) in waits.filter(|(l, _)| l.invoked_us > healed_us) {
        let seen = services.looked.iter().filter(|other| {
            other.service == looked.service && other.index > index && other.at_us < looked.at_us
        });
        let first_us = seen.map(|other| other.at_us.max(looked.invoked_us)).min();
        if let Some(first_us) = first_us
            && looked.at_us > first_us + WAKE_US
        {
            objections.push(format!(
                "a change of service {} was seen at {first_us}, and who waited for it on node{} was told at {}",
                looked.service, looked.node, looked.at_us
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::services::Told;

    fn told(invoked_us: u64, reply_us: Option<u64>) -> Told {
        Told {
            client: 0,
            invoked_us,
            reply_us,
            ttl_us: 2_000_000,
        }
    }

    fn looked(invoked_us: u64, at_us: u64, index: u64, status: Status) -> Looked {
        Looked {
            service: 0,
            node: 1,
            invoked_us,
            at_us,
            after: None,
            index,
            instances: vec![(0, status)],
        }
    }

    fn found(change: impl FnOnce(&mut History)) -> usize {
        let mut history = History::default();
        change(&mut history);
        check(&history).len()
    }

    #[test]
    fn kept_instance_that_is_shown_critical_is_found() {
        let of = |told_us, reply_us, looked_us| {
            found(|h| {
                h.services.told.push(told(told_us, reply_us));
                let at_us = looked_us + 1_000;
                (h.services.looked).push(looked(looked_us, at_us, 5, Status::Critical));
            })
        };
        assert_eq!(of(1_000_000, Some(1_100_000), 2_000_000), 1);
        assert_eq!(
            of(1_000_000, None, 2_000_000),
            0,
            "it may not have been told"
        );
        assert_eq!(
            of(1_000_000, Some(1_100_000), 3_500_000),
            0,
            "its time is over"
        );
        assert_eq!(
            of(1_000_000, Some(2_500_000), 2_000_000),
            0,
            "before it was told"
        );
    }

    #[test]
    fn silent_instance_that_passes_at_the_end_is_found() {
        let of = |status| {
            found(|h| {
                h.services.told.push(told(1_000_000, Some(1_100_000)));
                (h.services.last).push(looked(9_000_000, 9_001_000, 5, status));
            })
        };
        assert_eq!((of(Status::Passing), of(Status::Critical)), (1, 0));
    }

    #[test]
    fn index_that_goes_back_is_found() {
        let of = |second_us| {
            found(|h| {
                let passing = Status::Passing;
                h.services.looked.push(looked(10, 20, 7, passing));
                h.services.looked.push(looked(second_us, 40, 6, passing));
            })
        };
        assert_eq!((of(30), of(15)), (1, 0));
    }

    #[test]
    fn waiter_that_slept_through_a_change_is_found() {
        let of = |told_us| {
            found(|h| {
                h.services.healed_us = Some(1_000_000);
                let seen = looked(3_000_000, 3_001_000, 7, Status::Passing);
                let mut waited = looked(2_000_000, told_us, 7, Status::Passing);
                waited.after = Some((6, 10_000_000));
                h.services.looked.extend([seen, waited]);
            })
        };
        assert_eq!((of(12_000_000), of(3_100_000)), (1, 0));
    }
}
