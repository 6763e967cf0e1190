//! One shard as recovery finds it, frame by frame: what is known, what is lost, what heals a loss.

use crate::frame::{HardState, Mark, RecoveredEntry};
use crate::pass::Place;
use crate::recovery::{RecoveredShard, ShardVerdict};
use crate::shape::Shape;
use crate::wire;
use base::{LogIndex, Term};
use std::collections::BTreeMap;

/// A loss, healed by what comes later or else the shard's verdict.
#[derive(Clone, Debug)]
struct Loss {
    /// Entries up to here may be lost or wrong; harmless once a mark is at or above it.
    until: LogIndex,
    why: String,
}

/// The state of one shard so far.
#[derive(Clone, Debug, Default)]
pub struct Found {
    shape: Shape,
    mark: Option<Mark>,
    hard_state: Option<HardState>,
    entries: BTreeMap<LogIndex, RecoveredEntry>,
    lost_entries: Option<Loss>,
    lost_mark: Option<String>,
    lost_hard_state: Option<String>,
    /// Found rotten by an earlier recovery.
    rotten: Option<String>,
    pub removed: bool,
    /// Highest entry index by segment, for freeing.
    pub segments: BTreeMap<u64, LogIndex>,
}

impl Found {
    fn lose(&mut self, until: LogIndex, why: &str) {
        match &mut self.lost_entries {
            Some(loss) => loss.until = loss.until.max(until),
            None => {
                let why = why.to_owned();
                self.lost_entries = Some(Loss { until, why });
            }
        }
    }

    /// Entries from `index` on are not part of the log any more.
    fn forget_from(&mut self, index: LogIndex) {
        self.entries.split_off(&index);
        for highest in self.segments.values_mut() {
            *highest = (*highest).min(index.saturating_sub(1));
        }
        if let Some(loss) = &mut self.lost_entries {
            loss.until = loss.until.min(index.saturating_sub(1));
        }
    }

    /// A frame other than a removal comes: a removed shard begins anew.
    pub fn touch(&mut self) {
        if self.removed {
            *self = Self::default();
        }
    }

    /// An entry, without its content when that is damaged.
    pub fn entry(
        &mut self,
        segment: u64,
        index: LogIndex,
        term: Term,
        entry: Option<RecoveredEntry>,
        place: Place,
    ) {
        if index <= self.shape.mark_index() {
            return;
        }
        let last = self.shape.last().0;
        if index - 1 > last {
            self.lose(
                index - 1,
                &format!("entries {}..{index} are missing before {place}", last + 1),
            );
        }
        // Nearly every entry is the next one: nothing to forget then, unless a loss is to be narrowed.
        if index <= last || self.lost_entries.is_some() {
            self.forget_from(index);
        }
        self.shape.push(index, term);
        self.segments.insert(segment, index);
        match entry {
            Some(entry) => {
                self.entries.insert(index, entry);
            }
            None => self.lose(index, &format!("entry {index} is damaged at {place}")),
        }
    }

    /// What is known of a removed shard.
    pub fn removed() -> Self {
        Self {
            removed: true,
            ..Self::default()
        }
    }

    /// A mark; `sub` says what becomes of the log behind it.
    pub fn mark(&mut self, mark: Mark, sub: u8) {
        let other = |old: &Mark| old.replica != mark.replica;
        if sub == wire::NEW_LIFE || self.mark.as_ref().is_some_and(other) {
            *self = Self::default();
        }
        if sub == wire::RESET {
            self.forget_from(mark.index.saturating_add(1));
            self.shape.reset(mark.index, mark.term);
        } else {
            self.shape.mark_keep(mark.index, mark.term);
        }
        self.entries = self.entries.split_off(&mark.index.saturating_add(1));
        self.lost_mark = None;
        self.mark = Some(mark);
    }

    /// A mark whose content is damaged.
    pub fn damaged_mark(&mut self, sub: u8, place: Place) {
        if sub == wire::NEW_LIFE {
            *self = Self::default();
        }
        self.lost_mark = Some(format!("a mark is damaged at {place}"));
    }

    /// An intact copy of the hard state.
    pub fn hard_state(&mut self, state: HardState) {
        self.hard_state = Some(state);
        self.lost_hard_state = None;
    }

    /// A damaged copy, the other one not being known to be good (yet).
    pub fn damaged_hard_state(&mut self, place: Place) {
        self.lost_hard_state = Some(format!("term and vote are damaged at {place}"));
    }

    /// The last index and term, as re-stated at the start of a segment; `whole` when nothing of the
    /// re-statement before it was damaged, so that what it did not name is not there.
    pub fn tail(&mut self, index: LogIndex, term: Term, place: Place, whole: bool) {
        if whole {
            self.lost_mark = None;
            self.lost_hard_state = None;
        }
        if let Some(loss) = &mut self.lost_entries {
            loss.until = loss.until.min(index);
        }
        if self.shape.last() != (index, term) {
            let last = self.shape.last().0;
            self.lose(
                index,
                &format!("its log ends at {last} where {place} says that it ended at {index}"),
            );
            self.entries.split_off(&index.saturating_add(1));
            if index > self.shape.mark_index() {
                self.shape.push(index, term);
            }
        }
    }

    /// A re-stated tail that is damaged.
    pub fn damaged_tail(&mut self, place: Place) {
        self.lose(
            LogIndex::MAX,
            &format!("its re-stated end is damaged at {place}"),
        );
    }

    /// An earlier recovery's verdict.
    pub fn rotten(&mut self, why: String) {
        self.rotten = Some(why);
    }

    /// Any frame of the shard may have been lost.
    pub fn anything_lost(&mut self, why: &str) {
        if self.removed {
            return;
        }
        self.lose(LogIndex::MAX, why);
        self.lost_mark.get_or_insert_with(|| why.to_owned());
        self.lost_hard_state.get_or_insert_with(|| why.to_owned());
    }

    fn verdict(&self) -> Option<String> {
        let mark = self.shape.mark_index();
        let entries = self.lost_entries.as_ref().filter(|l| l.until > mark);
        let why = self
            .rotten
            .as_ref()
            .or(entries.map(|l| &l.why))
            .or(self.lost_hard_state.as_ref())
            .or(self.lost_mark.as_ref());
        if let Some(why) = why {
            return Some(why.clone());
        }
        let last = self.shape.last().0;
        let whole = self
            .entries
            .keys()
            .copied()
            .eq(mark.saturating_add(1)..=last);
        (!whole)
            .then(|| format!("its log should reach from its mark at {mark} to {last} and does not"))
    }

    /// The end of the matter.
    pub fn finish(self) -> RecoveredShard {
        if self.removed {
            return RecoveredShard {
                removed: true,
                ..RecoveredShard::default()
            };
        }
        let verdict = self.verdict();
        let entries = match verdict {
            None => self.entries.into_values().collect(),
            Some(_) => Vec::new(),
        };
        RecoveredShard {
            verdict: verdict.map_or(ShardVerdict::Clean, ShardVerdict::Rotten),
            mark: self.mark,
            hard_state: self.hard_state,
            entries,
            removed: false,
        }
    }
}
