//! What one process counts of its calls.
//!
//! Idea: for each [`Key`] a sum and a ring of twelve slices of five seconds. Cost of an attempt: one step down a tree.

use super::{Counts, Key, MINUTE_US, OTHERS, Outcome, ROWS_MAX, Report, Row};
use std::collections::BTreeMap;

const SLICES: u64 = 12;
const SLICE_US: u64 = MINUTE_US / SLICES;
/// Kept free for those that find no place of their own: one for each side.
const ROWS_FOR_OTHERS: usize = 2;

#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Entry {
    total: Counts,
    slices: [Counts; SLICES as usize],
    /// Number of the newest slice since the beginning of time.
    newest: u64,
}

/// A process' calls.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Book {
    reporter: String,
    sequence: u64,
    entries: BTreeMap<Key, Entry>,
}

impl Book {
    /// An empty one of a reporter whose name no other run of any process has.
    pub fn new(reporter: String) -> Self {
        Self {
            reporter,
            sequence: 0,
            entries: BTreeMap::new(),
        }
    }

    /// An attempt ended.
    pub fn add(
        &mut self,
        call: Key,
        outcome: Outcome,
        latency_us: u64,
        is_repeated: bool,
        now_us: u64,
    ) {
        let is_full = self.entries.len() >= ROWS_MAX - ROWS_FOR_OTHERS;
        let call = match is_full && !self.entries.contains_key(&call) {
            false => call,
            true => others(&call),
        };
        let entry = self.entries.entry(call).or_default();
        entry.turn(now_us);
        entry.total.add(outcome, latency_us, is_repeated);
        let newest = &mut entry.slices[(entry.newest % SLICES) as usize];
        newest.add(outcome, latency_us, is_repeated);
    }

    /// All of it.
    pub fn report(&mut self, now_us: u64) -> Report {
        self.sequence += 1;
        let rows = self.entries.iter_mut().map(|(call, entry)| {
            entry.turn(now_us);
            let mut minute = Counts::default();
            entry.slices.iter().for_each(|slice| minute.merge(slice));
            Row {
                call: call.clone(),
                total: entry.total.clone(),
                minute,
            }
        });
        Report {
            reporter: self.reporter.clone(),
            sequence: self.sequence,
            rows: rows.collect(),
        }
    }
}

impl Entry {
    fn turn(&mut self, now_us: u64) {
        let now = now_us / SLICE_US;
        let passed = now.saturating_sub(self.newest).min(SLICES);
        for step in 0..passed {
            self.slices[((now - step) % SLICES) as usize] = Counts::default();
        }
        self.newest = self.newest.max(now);
    }
}

fn others(call: &Key) -> Key {
    Key {
        side: call.side,
        service: OTHERS.into(),
        method: OTHERS.into(),
        instance: OTHERS.into(),
        caller: OTHERS.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Side;
    use super::*;

    fn call(instance: usize) -> Key {
        Key {
            side: Side::Caller,
            service: "greeter".into(),
            method: "g.G/M".into(),
            instance: format!("10.0.0.1:{instance}"),
            caller: "front".into(),
        }
    }

    #[test]
    fn minute_forgets_by_slices_and_the_total_nothing() {
        let mut book = Book::new("r".into());
        book.add(call(1), Outcome::Ok, 900, false, 0);
        book.add(call(1), Outcome::Failed, 900, true, 30_000_000);
        let row = book.report(59_000_000).rows.remove(0);
        assert_eq!((row.minute.all(), row.total.all()), (2, 2));
        let report = book.report(61_000_000);
        assert_eq!(report.sequence, 2);
        let row = &report.rows[0];
        assert_eq!(
            (row.minute.ok, row.minute.failed, row.minute.repeated),
            (0, 1, 1)
        );
        assert_eq!(row.total.all(), 2);
        assert_eq!(book.report(900_000_000).rows[0].minute.all(), 0);
    }

    #[test]
    fn what_finds_no_row_is_counted_with_the_others_and_the_report_holds() {
        let mut book = Book::new("r".into());
        for instance in 0..1_000 {
            book.add(call(instance), Outcome::Ok, 1, false, 0);
        }
        let report = book.report(0);
        assert_eq!(report.check(), Ok(()));
        assert_eq!(report.rows.iter().map(|r| r.total.ok).sum::<u64>(), 1_000);
        let rest = report.rows.iter().find(|r| r.call.service == OTHERS);
        assert_eq!(rest.map(|r| r.total.ok), Some(1_000 - 254));
    }
}
