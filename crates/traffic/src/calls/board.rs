//! What a node was told of calls.
//!
//! Idea: the last report of each reporter, and when it came. Nothing of it is replicated: a reporter tells all of it again
//! each second, wherever it finds a node. Cost: [`REPORTERS_MAX`] reports of memory at most.

use super::{Counts, Key, MINUTE_US, Report, Row};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Reporters that are remembered at most; the one that was silent longest goes first.
const REPORTERS_MAX: usize = 512;
/// Microseconds after which a silent reporter is forgotten.
const KEPT_US: u64 = 3_600_000_000;

/// A report, and how long ago it came.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Heard {
    /// What was told.
    pub report: Report,
    /// Milliseconds since it came.
    pub silent_ms: u64,
}

/// The last report of each reporter.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Board(BTreeMap<String, (Report, u64)>);

impl Board {
    /// A report came.
    pub fn handle_report(&mut self, report: Report, now_us: u64) {
        self.0.retain(|_, (_, at_us)| *at_us + KEPT_US > now_us);
        if let Some((known, at_us)) = self.0.get_mut(&report.reporter) {
            *at_us = now_us;
            // Older ones may come late.
            if known.sequence < report.sequence {
                *known = report;
            }
            return;
        }
        if self.0.len() >= REPORTERS_MAX {
            let silent = self.0.iter().min_by_key(|(_, (_, at_us))| *at_us);
            if let Some(name) = silent.map(|(name, _)| name.clone()) {
                self.0.remove(&name);
            }
        }
        self.0.insert(report.reporter.clone(), (report, now_us));
    }

    /// All that is remembered.
    pub fn heard(&self, now_us: u64) -> Vec<Heard> {
        let heard = self.0.values().map(|(report, at_us)| Heard {
            report: report.clone(),
            silent_ms: now_us.saturating_sub(*at_us) / 1_000,
        });
        heard.collect()
    }
}

/// What several nodes were told, as one table: of each reporter its last report counts, once; its minute only while that
/// is younger than a minute.
pub fn merge(all: impl IntoIterator<Item = Heard>) -> Vec<Row> {
    let mut last: BTreeMap<String, Heard> = BTreeMap::new();
    for heard in all {
        let newest = last
            .entry(heard.report.reporter.clone())
            .or_insert_with(|| heard.clone());
        if newest.report.sequence < heard.report.sequence {
            *newest = heard;
        }
    }
    let mut rows: BTreeMap<Key, (Counts, Counts)> = BTreeMap::new();
    for heard in last.into_values() {
        let is_fresh = heard.silent_ms < MINUTE_US / 1_000;
        for row in heard.report.rows {
            let (total, minute) = rows.entry(row.call).or_default();
            total.merge(&row.total);
            if is_fresh {
                minute.merge(&row.minute);
            }
        }
    }
    let rows = rows.into_iter().map(|(call, (total, minute))| Row {
        call,
        total,
        minute,
    });
    rows.collect()
}

#[cfg(test)]
mod tests {
    use super::super::{Book, Outcome, Side};
    use super::*;

    fn counted(reporter: &str, calls: usize) -> Book {
        let mut book = Book::new(reporter.into());
        for _ in 0..calls {
            let call = Key {
                side: Side::Caller,
                service: "greeter".into(),
                method: "g.G/M".into(),
                instance: "10.0.0.1:1".into(),
                caller: "front".into(),
            };
            book.add(call, Outcome::Ok, 1_000, false, 0);
        }
        book
    }

    #[test]
    fn report_told_twice_or_late_or_at_two_nodes_counts_once() {
        let (mut one, mut other) = (Board::default(), Board::default());
        let mut book = counted("a", 3);
        let (first, second) = (book.report(0), book.report(0));
        one.handle_report(second.clone(), 0);
        one.handle_report(first.clone(), 0);
        one.handle_report(second.clone(), 0);
        other.handle_report(first, 0);
        other.handle_report(counted("b", 4).report(0), 0);
        let rows = merge(one.heard(0).into_iter().chain(other.heard(0)));
        assert_eq!(rows.len(), 1);
        assert_eq!((rows[0].total.ok, rows[0].minute.ok), (7, 7));
    }

    #[test]
    fn minute_of_a_reporter_that_fell_silent_ends_and_its_total_stays() {
        let mut board = Board::default();
        board.handle_report(counted("a", 3).report(0), 0);
        let rows = merge(board.heard(MINUTE_US));
        assert_eq!((rows[0].total.ok, rows[0].minute.ok), (3, 0));
    }

    #[test]
    fn number_of_reporters_is_bounded_and_the_silent_are_forgotten() {
        let mut board = Board::default();
        for i in 0..600 {
            board.handle_report(counted(&format!("r{i}"), 1).report(0), i);
        }
        let heard = board.heard(600);
        assert_eq!(heard.len(), REPORTERS_MAX);
        assert!(heard.iter().all(|h| h.report.reporter != "r0"));
        board.handle_report(counted("late", 1).report(0), 2 * KEPT_US);
        assert_eq!(board.heard(2 * KEPT_US).len(), 1);
    }
}
