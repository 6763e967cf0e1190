//! The outline of a shard's log: where it begins and ends and which terms its entries have, without them.

use base::{LogIndex, Term};

/// Runs of equal terms; raft's terms change rarely, so this stays tiny.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Shape {
    mark: (LogIndex, Term),
    /// First index of each run and its term, ascending, all after the mark.
    runs: Vec<(LogIndex, Term)>,
    last: LogIndex,
}

impl Shape {
    /// Index and term of the last entry, or of the mark when there is none behind it.
    pub fn last(&self) -> (LogIndex, Term) {
        match self.runs.last() {
            Some((_, term)) => (self.last, *term),
            None => self.mark,
        }
    }

    /// Index of the mark, 0 without one.
    pub fn mark_index(&self) -> LogIndex {
        self.mark.0
    }

    fn term_at(&self, index: LogIndex) -> Option<Term> {
        if index == self.mark.0 {
            return Some(self.mark.1);
        }
        if index > self.last().0 {
            return None;
        }
        let run = self.runs.iter().rev().find(|(first, _)| *first <= index);
        run.map(|(_, term)| *term)
    }

    /// An entry at `index`, replacing what was there and behind. A gap is taken as filled.
    pub fn push(&mut self, index: LogIndex, term: Term) {
        self.runs.retain(|(first, _)| *first < index);
        if self.runs.last().is_none_or(|(_, t)| *t != term) {
            self.runs.push((index, term));
        }
        self.last = index;
    }

    /// Moves the mark; true when the entries behind it stay, false when the whole log was dropped.
    pub fn mark(&mut self, index: LogIndex, term: Term) -> bool {
        let keep = self.term_at(index) == Some(term);
        if keep {
            self.mark_keep(index, term);
        } else {
            self.reset(index, term);
        }
        keep
    }

    /// Moves the mark and keeps the entries behind it.
    pub fn mark_keep(&mut self, index: LogIndex, term: Term) {
        if self.last().0 <= index {
            return self.reset(index, term);
        }
        let run = self.runs.iter().rposition(|(first, _)| *first <= index + 1);
        if let Some(run) = run {
            self.runs.drain(..run);
            self.runs[0].0 = index + 1;
        }
        self.mark = (index, term);
    }

    /// Nothing but a mark.
    pub fn reset(&mut self, index: LogIndex, term: Term) {
        *self = Self {
            mark: (index, term),
            runs: Vec::new(),
            last: index,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(terms: &[Term]) -> Shape {
        let mut shape = Shape::default();
        for (i, term) in terms.iter().enumerate() {
            shape.push(i as u64 + 1, *term);
        }
        shape
    }

    #[test]
    fn mark_with_matching_term_keeps_later_entries() {
        let mut s = shape(&[1, 1, 2, 2]);
        assert!(s.mark(2, 1));
        assert_eq!((s.last(), s.mark_index()), ((4, 2), 2));
        assert!(s.mark(3, 2));
        assert_eq!(s.last(), (4, 2));
        assert!(s.mark(4, 2));
        assert_eq!(s.last(), (4, 2));
    }

    #[test]
    fn mark_with_other_term_or_beyond_the_end_drops_the_log() {
        let mut s = shape(&[1, 1, 1]);
        assert!(!s.mark(2, 5));
        assert_eq!(s.last(), (2, 5));
        let mut s = shape(&[1, 1, 1]);
        assert!(!s.mark(9, 1));
        assert_eq!(s.last(), (9, 1));
    }

    #[test]
    fn entry_at_an_older_index_cuts_what_is_behind() {
        let mut s = shape(&[1, 1, 2, 2]);
        s.push(2, 3);
        assert_eq!(
            (s.last(), s.term_at(1), s.term_at(3)),
            ((2, 3), Some(1), None)
        );
    }
}
