//! Appends and questions for a log's bounds are linearizable: an append's offset is its place, the end is the
//! place of whoever asks for it, and the beginning never goes back. Retention keeps what it must: all of
//! `kept`, the newest records of `brief`. An offset is out of range only when it is.

use crate::check::order::{self, Placed};
use crate::history::History;
use crate::kafka::{BRIEF_RECORDS, Fate, KEPT, Partition};
use std::collections::BTreeMap;

/// Objections to offsets.
pub fn check(history: &History) -> Vec<String> {
    let kafka = &history.kafka;
    let mut objections = Vec::new();
    let mut logs: BTreeMap<(Partition, bool), Vec<Placed>> = BTreeMap::new();
    for sent in &kafka.sent {
        if let Fate::Acknowledged(at_us, offset) = sent.fate {
            let placed = logs.entry((sent.partition, true)).or_default();
            placed.push(Placed {
                invoked_us: sent.invoked_us,
                completed_us: at_us,
                from: offset,
                to: offset + i64::from(sent.run.count),
                what: format!("client {}'s batch {:x}", sent.client, sent.run.first),
            });
        }
    }
    for bound in &kafka.bounds {
        let placed = logs.entry((bound.partition, bound.is_end)).or_default();
        placed.push(Placed {
            invoked_us: bound.invoked_us,
            completed_us: bound.at_us,
            from: bound.offset,
            to: bound.offset,
            what: format!("what node{} says", bound.node),
        });
    }
    for ((partition, is_end), placed) in logs {
        let of = if is_end { "end" } else { "beginning" };
        objections.extend(order::check(&format!("{of} of {partition}"), placed));
    }
    let least = |partition: Partition, end: i64| match partition {
        Partition(KEPT, _) => 0,
        _ => (end - BRIEF_RECORDS).max(0),
    };
    let fetched = (kafka.reads.iter()).map(|read| (read.partition, read.start, read.end));
    for (partition, start, end) in fetched.chain(kafka.last.iter().copied()) {
        if start > least(partition, end) {
            objections.push(format!(
                "{partition} begins at {start} and ends at {end}: what must be kept is gone"
            ));
        }
    }
    for (node, partition, offset) in &kafka.out_of_range {
        let last = kafka.last.iter().find(|(of, ..)| of == partition);
        if last.is_some_and(|(_, start, end)| (start..=end).contains(&offset)) {
            objections.push(format!(
                "node{node} says that {offset} is out of range in {partition}, and it is there at the end"
            ));
        }
    }
    objections
}

#[cfg(test)]
mod tests {
    use super::super::build::{P, Q, run, sent};
    use super::*;
    use crate::kafka::Bound;

    fn bound(h: &mut History, invoked_us: u64, at_us: u64, is_end: bool, offset: i64) {
        h.kafka.bounds.push(Bound {
            node: 0,
            partition: P,
            is_end,
            invoked_us,
            at_us,
            offset,
        });
    }

    #[test]
    fn ends_that_go_back_and_appends_before_others_are_found() {
        let mut h = History::default();
        sent(&mut h, 1, P, run(0, 2), Fate::Acknowledged(5, 0));
        sent(&mut h, 2, P, run(2, 1), Fate::Acknowledged(4, 2));
        bound(&mut h, 3, 9, true, 2);
        bound(&mut h, 6, 7, true, 3);
        bound(&mut h, 8, 9, false, 0);
        assert_eq!(check(&h), Vec::<String>::new());
        bound(&mut h, 8, 9, true, 2);
        sent(&mut h, 6, P, run(3, 1), Fate::Acknowledged(7, 2));
        assert_eq!(check(&h).len(), 2);
    }

    #[test]
    fn records_that_go_too_early_are_found() {
        let mut h = History::default();
        h.kafka.last = vec![(P, 0, 99), (Q, 69, 99)];
        h.kafka.out_of_range = vec![(0, Q, 68), (0, Q, 100)];
        assert_eq!(check(&h), Vec::<String>::new());
        h.kafka.last = vec![(P, 1, 99), (Q, 70, 99)];
        h.kafka.out_of_range = vec![(0, Q, 70)];
        assert_eq!(check(&h).len(), 3);
    }
}
