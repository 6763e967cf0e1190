//! Logs: offsets are dense and the same for all readers; nothing acknowledged is lost, nothing is there twice,
//! nothing that was refused or never sent; one producer's records stand in the order in which they were sent,
//! over all connections where it is idempotent, else over one.

use crate::history::History;
use crate::kafka::{Fate, Partition, Read, Run, Sent};
use node::ClientId;
use std::collections::BTreeMap;

/// The batches of a partition by their offsets, as anybody saw them.
type Log = BTreeMap<i64, Run>;

/// Objections to what was read from partitions.
pub fn check(history: &History) -> Vec<String> {
    let kafka = &history.kafka;
    let mut objections = Vec::new();
    let mut logs: BTreeMap<Partition, Log> = BTreeMap::new();
    for read in &kafka.reads {
        let log = logs.entry(read.partition).or_default();
        if let Err(objection) = merge(log, read) {
            objections.push(objection);
        }
    }
    let sent: BTreeMap<u64, &Sent> = kafka.sent.iter().map(|s| (s.run.first, s)).collect();
    for (partition, start, end) in &kafka.last {
        let log = logs.remove(partition).unwrap_or_default();
        let mut all = Reading {
            partition: *partition,
            objections: &mut objections,
        };
        all.is_dense(&log, *start, *end);
        all.is_what_was_sent(&log, &sent);
        all.holds_what_was_acknowledged(&log, &kafka.sent, *start, *end);
    }
    objections
}

/// Puts what a fetch saw to what is known.
fn merge(log: &mut Log, read: &Read) -> Result<(), String> {
    let (node, partition) = (read.node, read.partition);
    let mut expected = None;
    for (base, run) in &read.batches {
        let end = base + i64::from(run.count);
        let follows = match expected {
            None => (*base..end).contains(&read.asked),
            Some(expected) => *base == expected,
        };
        if !follows || end > read.end {
            return Err(format!(
                "node{node} shows offsets {base} to {end} of {partition} when asked for {} and what follows, \
                 of {}",
                read.asked, read.end
            ));
        }
        expected = Some(end);
        let known = log.insert(*base, *run);
        if let Some(known) = known.filter(|known| known != run) {
            return Err(format!(
                "node{node} shows {run:x?} at {base} of {partition}, where {known:x?} was"
            ));
        }
    }
    Ok(())
}

struct Reading<'a> {
    partition: Partition,
    objections: &'a mut Vec<String>,
}

impl Reading<'_> {
    /// From the beginning to the end there is no gap, and nowhere an overlap.
    fn is_dense(&mut self, log: &Log, start: i64, end: i64) {
        let partition = self.partition;
        let mut expected = None;
        for (base, run) in log {
            let gap = expected.is_some_and(|e| if e > start { *base != e } else { *base < e });
            if gap {
                self.objections.push(format!(
                    "{partition} has a batch at {base} behind one that ends at {expected:?}"
                ));
            }
            expected = Some(base + i64::from(run.count));
        }
        let begins = log.keys().next().is_none_or(|base| *base <= start);
        if start < end && (!begins || expected != Some(end)) || expected > Some(end) {
            self.objections.push(format!(
                "{partition} begins at {start} and ends at {end}; batches were seen from {:?} to {expected:?}",
                log.keys().next()
            ));
        }
    }

    fn is_what_was_sent(&mut self, log: &Log, sent: &BTreeMap<u64, &Sent>) {
        let partition = self.partition;
        let mut latest: BTreeMap<(usize, Option<ClientId>), u64> = BTreeMap::new();
        let mut places: BTreeMap<u64, i64> = BTreeMap::new();
        for (base, run) in log {
            let of = sent.get(&run.first);
            let Some(of) = of.filter(|of| of.run == *run && of.partition == partition) else {
                self.objections.push(format!(
                    "{partition} holds {run:x?} at {base}, which nobody sent there"
                ));
                continue;
            };
            if of.fate == Fate::Refused {
                self.objections.push(format!(
                    "{partition} holds {run:x?} at {base}, which was refused"
                ));
            }
            if let Some(other) = places.insert(run.first, *base) {
                self.objections.push(format!(
                    "{partition} holds {run:x?} at {other} and at {base}"
                ));
                continue;
            }
            let connection = (!of.is_idempotent).then_some(of.connection);
            let before = latest.insert((of.client, connection), run.first);
            if before.is_some_and(|before| before > run.first) {
                self.objections.push(format!(
                    "{partition} holds {run:x?} at {base} behind {before:x?}, which was sent later"
                ));
            }
        }
    }

    fn holds_what_was_acknowledged(&mut self, log: &Log, sent: &[Sent], start: i64, end: i64) {
        let partition = self.partition;
        for of in sent.iter().filter(|of| of.partition == partition) {
            let Fate::Acknowledged(_, offset) = of.fate else {
                continue;
            };
            let found = log.get(&offset);
            let is_there = found == Some(&of.run) || (found.is_none() && offset < start);
            if !is_there || offset + i64::from(of.run.count) > end {
                self.objections.push(format!(
                    "{partition} holds {found:x?} at {offset}, where {:x?} was acknowledged; it begins at \
                     {start} and ends at {end}",
                    of.run
                ));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::build::{P, read, run, sent};
    use super::*;

    /// Two batches that are acknowledged, one of unknown outcome, one that was refused; all read to the end.
    fn good() -> History {
        let mut h = History::default();
        sent(&mut h, 1, P, run(10, 2), Fate::Acknowledged(2, 0));
        sent(&mut h, 3, P, run(12, 1), Fate::Acknowledged(4, 2));
        sent(&mut h, 5, P, run(13, 1), Fate::Unknown);
        sent(&mut h, 6, P, run(14, 1), Fate::Refused);
        read(&mut h, 0, 2, &[(0, run(10, 2))]);
        read(
            &mut h,
            1,
            4,
            &[(0, run(10, 2)), (2, run(12, 1)), (3, run(13, 1))],
        );
        h.kafka.last = vec![(P, 0, 4)];
        h
    }

    #[test]
    fn good_history_passes() {
        assert_eq!(check(&good()), Vec::<String>::new());
    }

    #[test]
    fn records_that_are_lost_or_cut_off_are_found() {
        let mut h = good();
        h.kafka.last = vec![(P, 0, 3)];
        assert!(!check(&h).is_empty());
        let mut h = good();
        h.kafka.reads.pop();
        assert!(!check(&h).is_empty());
        let mut h = good();
        h.kafka.sent[1].fate = Fate::Acknowledged(4, 3);
        assert!(!check(&h).is_empty());
    }

    #[test]
    fn records_that_are_doubled_are_found() {
        let mut h = good();
        read(&mut h, 4, 5, &[(4, run(12, 1))]);
        h.kafka.last = vec![(P, 0, 5)];
        assert_eq!(check(&h).len(), 1);
    }

    #[test]
    fn records_out_of_order_or_refused_or_never_sent_are_found() {
        for (first, words) in [(9, "sent later"), (14, "refused"), (99, "nobody")] {
            let mut h = good();
            sent(&mut h, 7, P, run(9, 1), Fate::Unknown);
            read(&mut h, 4, 5, &[(4, run(first, 1))]);
            h.kafka.last = vec![(P, 0, 5)];
            let found = check(&h);
            assert!(found.len() == 1 && found[0].contains(words), "{found:?}");
        }
    }

    #[test]
    fn readers_that_see_different_logs_or_gaps_are_found() {
        for (asked, batches) in [
            (0, vec![(0, run(13, 2))]),
            (0, vec![(0, run(10, 2)), (3, run(13, 1))]),
            (0, vec![(2, run(12, 1))]),
            (2, vec![(2, run(12, 1)), (3, run(13, 2))]),
        ] {
            let mut h = good();
            read(&mut h, asked, 4, &batches);
            assert!(!check(&h).is_empty(), "{batches:?}");
        }
    }
}
