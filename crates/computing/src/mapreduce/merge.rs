//! Sorted runs into one: a heap of the runs' first lines. Lines of one key come in the order of their runs, so
//! the result does not depend on who was fast. Cost O(log k) comparisons a line, for k runs.

use super::record::key;
use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

/// Runs that are merged at once; more are merged in several passes.
pub const RUNS_MAX: usize = 128;

/// The lines of sorted runs, sorted by key.
#[derive(Debug)]
pub struct Merge<I> {
    runs: Vec<I>,
    heads: BinaryHeap<Reverse<Head>>,
    started: bool,
}

#[derive(Debug, PartialEq, Eq)]
struct Head {
    line: Vec<u8>,
    run: usize,
}

impl Ord for Head {
    fn cmp(&self, other: &Self) -> Ordering {
        let keys = key(&self.line).cmp(key(&other.line));
        keys.then(self.run.cmp(&other.run))
    }
}

impl PartialOrd for Head {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<I, E> Merge<I>
where
    I: Iterator<Item = Result<Vec<u8>, E>>,
{
    /// Merges `runs`, each sorted by key.
    pub fn new(runs: Vec<I>) -> Self {
        Self {
            runs,
            heads: BinaryHeap::new(),
            started: false,
        }
    }

    fn pull(&mut self, run: usize) -> Result<(), E> {
        if let Some(line) = self.runs[run].next() {
            self.heads.push(Reverse(Head { line: line?, run }));
        }
        Ok(())
    }
}

impl<I, E> Iterator for Merge<I>
where
    I: Iterator<Item = Result<Vec<u8>, E>>,
{
    type Item = Result<Vec<u8>, E>;

    fn next(&mut self) -> Option<Self::Item> {
        if !std::mem::replace(&mut self.started, true) {
            for run in 0..self.runs.len() {
                if let Err(error) = self.pull(run) {
                    return Some(Err(error));
                }
            }
        }
        let Reverse(head) = self.heads.pop()?;
        match self.pull(head.run) {
            Ok(()) => Some(Ok(head.line)),
            Err(error) => Some(Err(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::Rng;

    type Run = std::vec::IntoIter<Result<Vec<u8>, ()>>;

    fn run(lines: &[&str]) -> Run {
        let lines: Vec<_> = lines.iter().map(|l| Ok(l.as_bytes().to_vec())).collect();
        lines.into_iter()
    }

    #[test]
    fn equal_keys_come_in_the_order_of_their_runs() {
        let merged = Merge::new(vec![
            run(&["a\t9", "b\t1"]),
            run(&[]),
            run(&["a\t1", "a\t0"]),
        ]);
        let lines: Vec<String> = merged
            .map(|line| String::from_utf8(line.unwrap()).unwrap())
            .collect();
        assert_eq!(lines, ["a\t9", "a\t1", "a\t0", "b\t1"]);
    }

    #[test]
    fn merged_runs_are_what_sorting_all_gives() {
        let mut rng = Rng::new(4);
        for _ in 0..200 {
            let mut all = Vec::new();
            let mut runs = Vec::new();
            for _ in 0..rng.range(0, 6) {
                let mut lines: Vec<Vec<u8>> = (0..rng.range(0, 30))
                    .map(|at| format!("k{}\t{at}", rng.range(0, 9)).into_bytes())
                    .collect();
                lines.sort_by(|a, b| key(a).cmp(key(b)));
                all.extend(lines.clone());
                let lines: Vec<Result<Vec<u8>, ()>> = lines.into_iter().map(Ok).collect();
                runs.push(lines.into_iter());
            }
            all.sort_by(|a, b| key(a).cmp(key(b)));
            let merged: Vec<Vec<u8>> = Merge::new(runs).map(Result::unwrap).collect();
            assert_eq!(merged, all);
        }
    }
}
