//! Calls between services: who called what, how often, how it ended and how long it took.
//!
//! Idea: a process keeps a [`Book`] and tells all of it, again and again, as a [`Report`] of what it counted since its
//! start. So a report that is lost or comes twice changes nothing, and the next one makes up for it, also at another
//! node: of one reporter's reports the one with the highest sequence holds ([`merge`]), which is the join of a state-based
//! counter (Shapiro, Preguiça, Baquero, Zawirski, "Conflict-free Replicated Data Types", SSS 2011). The alternative,
//! telling what is new, would count twice what is told twice. Cost: a report has all rows, [`ROWS_MAX`] at most.

mod board;
mod book;

pub use board::{Board, Heard, merge};
pub use book::Book;

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Rows of a report at most; a book counts what is beyond as [`OTHERS`].
pub const ROWS_MAX: usize = 256;
/// Bytes of a name at most.
pub const NAME_BYTES_MAX: usize = 256;
/// What rows are called that found no place of their own.
pub const OTHERS: &str = "(others)";
/// Microseconds that [`Row::minute`] covers.
pub const MINUTE_US: u64 = 60_000_000;
/// One more than the highest number of a bucket: longer calls are in the last.
pub const BUCKETS: u8 = 144;

/// Who counted.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Side {
    /// The one that called. It counts attempts, each at one instance.
    Caller,
    /// The one that was called.
    Provider,
}

/// How an attempt ended.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Outcome {
    /// Answered.
    Ok,
    /// Answered with an error.
    Failed,
    /// Not answered in time; whether it was carried out is not known.
    TimedOut,
    /// Surely not carried out: no instance, no connection, or not taken.
    NotSent,
    /// Sent, and never answered: whether it was carried out is not known.
    Unknown,
}

/// What a row is about.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Key {
    /// Who counted.
    pub side: Side,
    /// The name under which the service is registered.
    pub service: String,
    /// As `package.Service/Method`.
    pub method: String,
    /// `host:port` of the instance; empty where none was found.
    pub instance: String,
    /// The name of the one that called; empty when it is not known.
    pub caller: String,
}

impl Key {
    /// Names are cut to what a report may hold; an empty service or method becomes `(none)`.
    pub fn new(side: Side, service: &str, method: &str, instance: &str, caller: &str) -> Self {
        let name = |text: &str| -> String {
            let clean = text.chars().filter(char::is_ascii_graphic);
            clean.take(NAME_BYTES_MAX).collect()
        };
        let some = |text: &str| match name(text) {
            none if none.is_empty() => "(none)".into(),
            some => some,
        };
        Self {
            side,
            service: some(service),
            method: some(method),
            instance: name(instance),
            caller: name(caller),
        }
    }
}

/// What was counted.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Counts {
    /// See [`Outcome::Ok`].
    pub ok: u64,
    /// See [`Outcome::Failed`].
    pub failed: u64,
    /// See [`Outcome::TimedOut`].
    pub timed_out: u64,
    /// See [`Outcome::NotSent`].
    pub not_sent: u64,
    /// See [`Outcome::Unknown`].
    pub unknown: u64,
    /// Of all, those that were not their call's first attempt.
    pub repeated: u64,
    /// Microseconds of all that were answered.
    pub latency_sum_us: u64,
    /// How many of those that were answered took how long; see [`bucket`].
    pub latency: BTreeMap<u8, u64>,
}

/// A line of a report.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// What it is about.
    pub call: Key,
    /// Since the start of the reporter.
    pub total: Counts,
    /// In the minute before the report, to five seconds.
    pub minute: Counts,
}

/// What several nodes were told.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Table {
    /// Ordered by what they are about.
    pub rows: Vec<Row>,
    /// How many nodes said what they were told.
    pub nodes: u64,
    /// What is not counted, and why, in words.
    pub missing: Vec<String>,
}

/// All that a process has counted.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// Names the process, this run of it.
    pub reporter: String,
    /// Counts the reporter's reports.
    pub sequence: u64,
    /// Ordered by what they are about.
    pub rows: Vec<Row>,
}

/// The bucket of a time: exact below 4 µs, then four for each power of two, so that a bound is at most a quarter off.
pub fn bucket(us: u64) -> u8 {
    if us < 4 {
        return us as u8;
    }
    let power = us.ilog2();
    let quarter = (us >> (power - 2)) & 3;
    let number = (u64::from(power) - 1) * 4 + quarter;
    number.min(u64::from(BUCKETS) - 1) as u8
}

/// The lowest time, in microseconds, that is above all of a bucket.
pub fn bound_us(bucket: u8) -> u64 {
    let next = u64::from(bucket) + 1;
    match next {
        0..4 => next,
        _ => (4 + next % 4) << (next / 4 - 1),
    }
}

impl Counts {
    /// Counts an attempt.
    pub fn add(&mut self, outcome: Outcome, latency_us: u64, is_repeated: bool) {
        *self.of_mut(outcome) += 1;
        self.repeated += u64::from(is_repeated);
        if matches!(outcome, Outcome::Ok | Outcome::Failed) {
            self.latency_sum_us = self.latency_sum_us.saturating_add(latency_us);
            *self.latency.entry(bucket(latency_us)).or_default() += 1;
        }
    }

    /// Adds what another counted.
    pub fn merge(&mut self, other: &Self) {
        for (own, theirs) in [
            (&mut self.ok, other.ok),
            (&mut self.failed, other.failed),
            (&mut self.timed_out, other.timed_out),
            (&mut self.not_sent, other.not_sent),
            (&mut self.unknown, other.unknown),
            (&mut self.repeated, other.repeated),
            (&mut self.latency_sum_us, other.latency_sum_us),
        ] {
            *own = own.saturating_add(theirs);
        }
        for (bucket, count) in &other.latency {
            let own = self.latency.entry(*bucket).or_default();
            *own = own.saturating_add(*count);
        }
    }

    /// Attempts, however they ended.
    pub fn all(&self) -> u64 {
        self.outcomes()
            .iter()
            .fold(0, |sum, (_, count)| sum.saturating_add(*count))
    }

    /// Attempts that did not end well.
    pub fn errors(&self) -> u64 {
        self.all() - self.ok
    }

    /// Each way to end, by name.
    pub fn outcomes(&self) -> [(&'static str, u64); 5] {
        [
            ("ok", self.ok),
            ("failed", self.failed),
            ("timed_out", self.timed_out),
            ("not_sent", self.not_sent),
            ("unknown", self.unknown),
        ]
    }

    /// A time, in microseconds, within which this part (0 to 1) of the answers came; `None` without answers.
    pub fn quantile_us(&self, part: f64) -> Option<u64> {
        let answers = (self.latency.values()).fold(0u64, |sum, count| sum.saturating_add(*count));
        let wanted = (answers as f64 * part).ceil().max(1.0) as u64;
        let mut seen = 0u64;
        let found = self.latency.iter().find(|(_, count)| {
            seen = seen.saturating_add(**count);
            seen >= wanted
        });
        found.map(|(bucket, _)| bound_us(*bucket))
    }

    fn of_mut(&mut self, outcome: Outcome) -> &mut u64 {
        match outcome {
            Outcome::Ok => &mut self.ok,
            Outcome::Failed => &mut self.failed,
            Outcome::TimedOut => &mut self.timed_out,
            Outcome::NotSent => &mut self.not_sent,
            Outcome::Unknown => &mut self.unknown,
        }
    }
}

impl Report {
    /// Refuses what no book tells.
    pub fn check(&self) -> Result<(), String> {
        let name = |what: &str, name: &str| match name.len() {
            0..=NAME_BYTES_MAX if !name.chars().any(char::is_control) => Ok(()),
            _ => Err(format!(
                "{what} {:?} must have at most {NAME_BYTES_MAX} bytes and no control characters",
                name.chars().take(40).collect::<String>()
            )),
        };
        if self.reporter.is_empty() {
            return Err("a report names its reporter, differently in each run".into());
        }
        name("reporter", &self.reporter)?;
        if self.rows.len() > ROWS_MAX {
            let rows = self.rows.len();
            return Err(format!(
                "a report has at most {ROWS_MAX} rows, this one {rows}"
            ));
        }
        for row in &self.rows {
            let call = &row.call;
            if call.service.is_empty() || call.method.is_empty() {
                return Err("each row names a service and a method".into());
            }
            name("service", &call.service)?;
            name("method", &call.method)?;
            name("instance", &call.instance)?;
            name("caller", &call.caller)?;
            let buckets = row.total.latency.keys().chain(row.minute.latency.keys());
            if let Some(bucket) = buckets.into_iter().find(|bucket| **bucket >= BUCKETS) {
                let last = BUCKETS - 1;
                return Err(format!(
                    "latency bucket {bucket} is beyond the last, {last}"
                ));
            }
        }
        if !self.rows.is_sorted_by(|a, b| a.call < b.call) {
            return Err("rows are ordered by what they are about, each once".into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_follow_on_each_other_and_hold_what_they_say() {
        for number in 0..BUCKETS - 1 {
            let bound = bound_us(number);
            assert_eq!(bucket(bound - 1), number, "below {bound}");
            assert_eq!(bucket(bound), number + 1, "at {bound}");
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
        assert_eq!(
            (bound_us(bucket(1_000)), bound_us(bucket(1_100))),
            (1_024, 1_280)
        );
    }

    #[test]
    fn quantile_is_the_bound_of_the_bucket_that_holds_it() {
        let mut counts = Counts::default();
        assert_eq!(counts.quantile_us(0.5), None);
        for us in 1..=100 {
            counts.add(Outcome::Ok, us * 1_000, false);
        }
        counts.add(Outcome::NotSent, 5, false);
        let (median, tail) = (counts.quantile_us(0.5), counts.quantile_us(0.99));
        assert_eq!((median, tail), (Some(57_344), Some(114_688)));
        assert_eq!((counts.all(), counts.errors()), (101, 1));
    }

    #[test]
    fn report_that_no_book_tells_is_refused_with_what_is_wrong() {
        let call = Key {
            side: Side::Caller,
            service: "greeter".into(),
            method: "g.G/M".into(),
            instance: "10.0.0.1:1".into(),
            caller: "front".into(),
        };
        let row = Row {
            call,
            total: Counts::default(),
            minute: Counts::default(),
        };
        let good = Report {
            reporter: "front-1".into(),
            sequence: 1,
            rows: vec![row.clone()],
        };
        assert_eq!(good.check(), Ok(()));
        type Spoil = fn(&mut Report);
        let cases: [(Spoil, &str); 7] = [
            (|r| r.reporter.clear(), "names its reporter"),
            (|r| r.reporter = "x".repeat(300), "at most 256 bytes"),
            (|r| r.rows[0].call.method.clear(), "a service and a method"),
            (|r| r.rows[0].call.caller = "a\nb".into(), "control"),
            (|r| r.rows.push(r.rows[0].clone()), "each once"),
            (
                |r| r.rows = vec![r.rows[0].clone(); 257],
                "at most 256 rows",
            ),
            (
                |r| r.rows[0].total.latency.extend([(200, 1)]),
                "beyond the last",
            ),
        ];
        for (spoil, says) in cases {
            let mut bad = good.clone();
            spoil(&mut bad);
            let why = bad.check().expect_err(says);
            assert!(why.contains(says), "{why}");
        }
    }
}
