//! Counts and sums by key and window of event time.
//!
//! Source of the meaning: Akidau et al.: "The dataflow model" (VLDB 2015), as Flink has it. A window is told when the
//! *watermark* reaches its end. It is kept for the allowed lateness behind that; a record that comes meanwhile changes
//! it, and it is told again. A record all of whose windows are over by more than that is late, and changes nothing.
//! Sessions of a key that touch become one.
//!
//! The watermark is part of the state: after a restart the same records are late.
//!
//! Costs: two entries of ordered maps for each window that is kept, O(log n) for each record and window.

use super::event::Event;
use super::step::field;
use super::topology::{Aggregate, Kind, Window};
use base::{DecodeError, Reader, Writer};
use std::collections::{BTreeMap, BTreeSet};

/// The watermark before anything was heard.
pub const NO_TIME: i64 = i64::MIN;

#[derive(Clone, PartialEq, Eq, Debug)]
struct Pane {
    end_ms: i64,
    count: u64,
    value: i64,
    is_told: bool,
}

/// The windows of one task.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Windows {
    window: Window,
    separator: String,
    watermark_ms: i64,
    /// By key and first instant.
    panes: BTreeMap<(String, i64), Pane>,
    /// When something happens to which of them: it is told, or goes.
    due: BTreeSet<(i64, String, i64)>,
}

/// What became of a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Taken {
    /// It counts.
    Counted,
    /// All its windows are over.
    Late,
    /// The field that is to be looked at holds no whole number.
    Unreadable,
}

impl Windows {
    /// None yet.
    pub fn new(window: Window, separator: &str) -> Self {
        Self {
            window,
            separator: separator.to_owned(),
            watermark_ms: NO_TIME,
            panes: BTreeMap::new(),
            due: BTreeSet::new(),
        }
    }

    /// The watermark, [`NO_TIME`] at the beginning.
    pub fn watermark_ms(&self) -> i64 {
        self.watermark_ms
    }

    /// How many windows are kept.
    pub fn len(&self) -> usize {
        self.panes.len()
    }

    /// True when none is kept.
    pub fn is_empty(&self) -> bool {
        self.panes.is_empty()
    }

    /// Takes a record under its key. What is to be told at once, because it came late, is appended to `out`.
    pub fn add(&mut self, event: &Event, out: &mut Vec<Event>) -> Taken {
        let number = match self.window.aggregate {
            Aggregate::Count => 0,
            Aggregate::Sum(at) | Aggregate::Min(at) | Aggregate::Max(at) => {
                let found = field(&event.value, &self.separator, at);
                match found.and_then(|text| text.trim().parse().ok()) {
                    Some(number) => number,
                    None => return Taken::Unreadable,
                }
            }
        };
        let pane = |end_ms| Pane {
            end_ms,
            count: 1,
            value: number,
            is_told: false,
        };
        let time_ms = event.time_ms;
        match self.window.kind {
            Kind::Sliding { size_ms, every_ms } => {
                let mut taken = Taken::Late;
                let mut start_ms = time_ms.div_euclid(every_ms).saturating_mul(every_ms);
                while start_ms > time_ms.saturating_sub(size_ms) {
                    let end_ms = start_ms.saturating_add(size_ms);
                    if !self.is_over(end_ms) {
                        self.merge(&event.key, start_ms, pane(end_ms), out);
                        taken = Taken::Counted;
                    }
                    start_ms = start_ms.saturating_sub(every_ms);
                }
                taken
            }
            Kind::Session { gap_ms } => {
                let (mut start_ms, mut all) = (time_ms, pane(time_ms.saturating_add(gap_ms)));
                let of_key = (event.key.clone(), i64::MIN)..=(event.key.clone(), all.end_ms);
                let touching: Vec<i64> = (self.panes.range(of_key))
                    .filter(|(_, other)| other.end_ms >= start_ms)
                    .map(|((_, start), _)| *start)
                    .collect();
                let end_ms = touching.iter().fold(all.end_ms, |end_ms, start| {
                    let other = self.panes.get(&(event.key.clone(), *start));
                    end_ms.max(other.map_or(end_ms, |other| other.end_ms))
                });
                if self.is_over(end_ms) {
                    return Taken::Late;
                }
                for start in touching {
                    if let Some(other) = self.remove(&event.key, start) {
                        start_ms = start_ms.min(start);
                        self.join(&mut all, &other);
                    }
                }
                self.merge(&event.key, start_ms, all, out);
                Taken::Counted
            }
        }
    }

    fn is_over(&self, end_ms: i64) -> bool {
        end_ms.saturating_add(self.window.allowed_lateness_ms) <= self.watermark_ms
    }

    fn join(&self, all: &mut Pane, other: &Pane) {
        all.end_ms = all.end_ms.max(other.end_ms);
        all.count += other.count;
        all.value = match self.window.aggregate {
            Aggregate::Count | Aggregate::Sum(_) => all.value.saturating_add(other.value),
            Aggregate::Min(_) => all.value.min(other.value),
            Aggregate::Max(_) => all.value.max(other.value),
        };
    }

    fn remove(&mut self, key: &str, start_ms: i64) -> Option<Pane> {
        let pane = self.panes.remove(&(key.to_owned(), start_ms))?;
        let due_ms = self.due_ms(&pane);
        self.due.remove(&(due_ms, key.to_owned(), start_ms));
        Some(pane)
    }

    fn due_ms(&self, pane: &Pane) -> i64 {
        match pane.is_told {
            false => pane.end_ms,
            true => pane.end_ms.saturating_add(self.window.allowed_lateness_ms),
        }
    }

    /// Puts `pane` in, or to what is there; tells it if its end is over already.
    fn merge(&mut self, key: &str, start_ms: i64, mut pane: Pane, out: &mut Vec<Event>) {
        if let Some(other) = self.remove(key, start_ms) {
            self.join(&mut pane, &other);
        }
        pane.is_told = pane.end_ms <= self.watermark_ms;
        if pane.is_told {
            out.push(self.result(key, start_ms, &pane));
        }
        let due_ms = self.due_ms(&pane);
        self.due.insert((due_ms, key.to_owned(), start_ms));
        self.panes.insert((key.to_owned(), start_ms), pane);
    }

    /// `key,start,end,result`, at the window's last instant.
    fn result(&self, key: &str, start_ms: i64, pane: &Pane) -> Event {
        let number = match self.window.aggregate {
            Aggregate::Count => i64::try_from(pane.count).unwrap_or(i64::MAX),
            _ => pane.value,
        };
        let (by, end_ms) = (&self.separator, pane.end_ms);
        Event {
            key: key.to_owned(),
            value: format!("{key}{by}{start_ms}{by}{end_ms}{by}{number}"),
            time_ms: end_ms - 1,
        }
    }

    /// The watermark is here now; one that goes back changes nothing. What is over is appended to `out`, in the order
    /// of ends and keys.
    pub fn advance(&mut self, watermark_ms: i64, out: &mut Vec<Event>) {
        self.watermark_ms = self.watermark_ms.max(watermark_ms);
        while let Some((due_ms, ..)) = self.due.first()
            && *due_ms <= self.watermark_ms
        {
            let Some((_, key, start_ms)) = self.due.pop_first() else {
                return;
            };
            let id = (key, start_ms);
            let Some(mut pane) = self.panes.remove(&id) else {
                continue;
            };
            if !pane.is_told {
                pane.is_told = true;
                out.push(self.result(&id.0, start_ms, &pane));
            }
            if !self.is_over(pane.end_ms) {
                let due_ms = self.due_ms(&pane);
                self.due.insert((due_ms, id.0.clone(), start_ms));
                self.panes.insert(id, pane);
            }
        }
    }

    /// Appends the state's byte form.
    pub fn snapshot(&self, w: &mut Writer) {
        w.i64(self.watermark_ms).u32(self.panes.len() as u32);
        for ((key, start_ms), pane) in &self.panes {
            w.bytes(key.as_bytes()).i64(*start_ms).i64(pane.end_ms);
            w.u64(pane.count).i64(pane.value).bool(pane.is_told);
        }
    }

    /// Adds what [`Self::snapshot`] wrote, as far as `is_mine` says of a key; watermarks are those of one checkpoint.
    ///
    /// # Errors
    /// Other bytes.
    pub fn restore(
        &mut self,
        r: &mut Reader<'_>,
        is_mine: impl Fn(&str) -> bool,
    ) -> Result<(), DecodeError> {
        self.watermark_ms = self.watermark_ms.max(r.i64()?);
        for _ in 0..r.count(37)? {
            let (key, start_ms) = (r.str()?, r.i64()?);
            let pane = Pane {
                end_ms: r.i64()?,
                count: r.u64()?,
                value: r.i64()?,
                is_told: r.bool()?,
            };
            if is_mine(key) {
                self.due
                    .insert((self.due_ms(&pane), key.to_owned(), start_ms));
                self.panes.insert((key.to_owned(), start_ms), pane);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Bench(Windows);

    impl Bench {
        fn new(kind: Kind, aggregate: Aggregate, allowed_lateness_ms: i64) -> Self {
            let window = Window {
                kind,
                aggregate,
                allowed_lateness_ms,
            };
            Self(Windows::new(window, ","))
        }

        /// What is told of a record with key, time and value.
        fn add(&mut self, key: &str, time_ms: i64, value: &str) -> (Taken, Vec<String>) {
            let mut out = Vec::new();
            let event = Event {
                key: key.into(),
                value: value.into(),
                time_ms,
            };
            let taken = self.0.add(&event, &mut out);
            (taken, out.into_iter().map(|event| event.value).collect())
        }

        fn count(&mut self, key: &str, time_ms: i64) {
            assert_eq!(self.add(key, time_ms, ""), (Taken::Counted, Vec::new()));
        }

        fn at(&mut self, watermark_ms: i64) -> Vec<String> {
            let mut out = Vec::new();
            self.0.advance(watermark_ms, &mut out);
            // What is kept can be written and read, whenever.
            let mut w = Writer::new();
            self.0.snapshot(&mut w);
            let bytes = w.into_vec();
            let mut again = Windows::new(self.0.window, ",");
            let mut r = Reader::new(&bytes);
            again.restore(&mut r, |_| true).unwrap();
            assert_eq!((&again, r.finish()), (&self.0, Ok(())));
            out.into_iter().map(|event| event.value).collect()
        }
    }

    const TEN: Kind = Kind::Sliding {
        size_ms: 10,
        every_ms: 10,
    };

    #[test]
    fn m16_tumbling_windows_are_told_once_when_the_watermark_reaches_their_end() {
        let mut bench = Bench::new(TEN, Aggregate::Count, 0);
        for time_ms in [0, 9, 3, 10, -1] {
            bench.count("a", time_ms);
        }
        bench.count("b", 5);
        assert_eq!(bench.at(9), ["a,-10,0,1"]);
        assert_eq!(bench.at(10), ["a,0,10,3", "b,0,10,1"]);
        assert_eq!(bench.add("a", 9, ""), (Taken::Late, vec![]));
        assert_eq!(bench.at(5), Vec::<String>::new());
        assert_eq!(bench.at(20), ["a,10,20,1"]);
        assert!(bench.0.is_empty() && bench.0.due.is_empty());
    }

    #[test]
    fn m16_sliding_windows_overlap_and_one_record_is_late_for_some_of_them() {
        let kind = Kind::Sliding {
            size_ms: 10,
            every_ms: 5,
        };
        let mut bench = Bench::new(kind, Aggregate::Sum(2), 0);
        assert_eq!(bench.add("a", 7, "a,3"), (Taken::Counted, vec![]));
        assert_eq!(bench.add("a", 4, "a,-1"), (Taken::Counted, vec![]));
        assert_eq!(bench.at(10), ["a,-5,5,-1", "a,0,10,2"]);
        // [0, 10) is over, [5, 15) is not.
        assert_eq!(bench.add("a", 8, "a,100"), (Taken::Counted, vec![]));
        assert_eq!(bench.add("a", 4, "a,5"), (Taken::Late, vec![]));
        assert_eq!(bench.add("a", 12, "a,x"), (Taken::Unreadable, vec![]));
        assert_eq!(bench.at(15), ["a,5,15,103"]);
    }

    #[test]
    fn m16_sessions_that_touch_become_one() {
        let mut bench = Bench::new(Kind::Session { gap_ms: 5 }, Aggregate::Count, 0);
        for time_ms in [0, 20, 10, 30] {
            bench.count("a", time_ms);
        }
        bench.count("b", 7);
        bench.count("a", 5); // joins 0 and 10
        assert_eq!(bench.at(14), ["b,7,12,1"]);
        assert_eq!(bench.at(15), ["a,0,15,3"]);
        // It touches what is over, and nothing that is there.
        assert_eq!(bench.add("a", 10, ""), (Taken::Late, vec![]));
        bench.count("a", 15); // joins 20, from before
        assert_eq!(bench.at(24), Vec::<String>::new());
        assert_eq!(bench.at(25), ["a,15,25,2"]);
        assert_eq!(bench.at(40), ["a,30,35,1"]);
        assert!(bench.0.is_empty() && bench.0.due.is_empty());
    }

    #[test]
    fn m16_records_within_the_allowed_lateness_tell_a_window_again() {
        let mut bench = Bench::new(TEN, Aggregate::Max(1), 5);
        bench.add("a", 1, "7");
        assert_eq!(bench.at(10), ["a,0,10,7"]);
        assert_eq!(bench.add("a", 2, "9").1, ["a,0,10,9"]);
        assert_eq!(bench.add("b", 2, "1").1, ["b,0,10,1"]);
        assert_eq!(bench.at(14), Vec::<String>::new());
        assert_eq!(bench.add("a", 3, "8").1, ["a,0,10,9"]);
        assert_eq!(bench.at(15), Vec::<String>::new());
        assert_eq!(bench.add("a", 3, "8"), (Taken::Late, vec![]));
        assert!(bench.0.is_empty());
        let mut bench = Bench::new(Kind::Session { gap_ms: 5 }, Aggregate::Min(1), 10);
        bench.add("a", 1, "7");
        assert_eq!(bench.at(10), ["a,1,6,7"]);
        assert_eq!(bench.add("a", 4, "9").1, ["a,1,9,7"]);
        bench.add("a", 9, "3");
        assert_eq!(bench.at(14), ["a,1,14,3"]);
    }

    /// Whatever the order of records within what is allowed: what is told is what is counted at once from all.
    #[test]
    fn any_order_within_the_bound_tells_the_same() {
        for seed in 0..200 {
            let mut rng = base::Rng::new(seed);
            let every_ms = rng.range(1, 20) as i64;
            let size_ms = every_ms + rng.range(0, 30) as i64;
            let mut bench = Bench::new(Kind::Sliding { size_ms, every_ms }, Aggregate::Count, 0);
            let mut wanted: BTreeMap<(String, i64), u64> = BTreeMap::new();
            let mut told = Vec::new();
            let mut newest = 0;
            for _ in 0..100 {
                let time_ms =
                    (newest - rng.range(0, 30) as i64 + rng.range(0, 10) as i64).max(newest - 25);
                newest = newest.max(time_ms);
                let key = format!("k{}", rng.range(0, 3));
                told.extend(bench.at(newest - 25));
                assert_eq!(bench.add(&key, time_ms, "").0, Taken::Counted);
                for start in (time_ms - size_ms + 1)..=time_ms {
                    if start.rem_euclid(every_ms) == 0 {
                        *wanted.entry((key.clone(), start)).or_default() += 1;
                    }
                }
            }
            told.extend(bench.at(i64::MAX));
            let mut wanted: Vec<String> = (wanted.into_iter())
                .map(|((key, start), count)| format!("{key},{start},{},{count}", start + size_ms))
                .collect();
            wanted.sort();
            told.sort();
            assert_eq!(told, wanted, "seed {seed}");
        }
    }
}
