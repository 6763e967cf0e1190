//! Applying: one unit at a time, so that whoever is told of a unit sees the state just behind it.

use super::{Shard, ShardEvent};
use crate::entry::Batch;
use crate::follow::Followed;
use crate::version;
use base::{ApplyFault, LogIndex, Stamp, Term};
use bytes::Bytes;
use journal::{Frame, Journal, Position};
use replication::raft::{Change, Committed};
use std::collections::VecDeque;
use storage::cache::APPROACHED_MAX;

const DIGEST_EVERY: LogIndex = 256;
const DIGESTS_MAX: usize = 64;

/// What is committed and not yet applied.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    /// With a membership change: the position that must be durable first.
    entries: VecDeque<(Committed, Position)>,
    current: Option<Current>,
}

/// The entry that is being applied.
#[derive(Debug)]
struct Current {
    at: (LogIndex, Term),
    stamp: Stamp,
    units: VecDeque<Bytes>,
}

impl Backlog {
    /// Appends; membership changes wait until `change_after` is durable.
    pub(super) fn extend(&mut self, committed: Vec<Committed>, change_after: Position) {
        self.entries.extend(committed.into_iter().map(|entry| {
            let after = match entry.changes {
                Some(_) => change_after,
                None => Position::default(),
            };
            (entry, after)
        }));
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.current.is_none()
    }
}

impl Shard {
    /// Hands committed entries over to be applied.
    ///
    /// Raft uses the members that it has *applied*, and refuses to campaign while it knows of committed
    /// changes that it has not. What it knows of after a restart is the journal's: so that a change is
    /// committed is made durable before the change is applied. Without this, a founder that restarts from
    /// its first mark would lead alone, beside the cluster that it has founded.
    pub(super) fn commit(&mut self, committed: Vec<Committed>, journal: &mut Journal) {
        let mut change_after = Position::default();
        if committed.iter().any(|entry| entry.changes.is_some())
            && let Some((term, vote, commit)) = self.group().map(|g| g.hard_state())
        {
            let frame = Frame::HardState { term, vote, commit };
            change_after = journal.append(self.id, frame);
        }
        self.backlog.extend(committed, change_after);
    }

    /// Applies the next unit (or raft's own entry). False when there is nothing to apply.
    pub(super) fn apply_next(&mut self) -> bool {
        if let Some(applied) = self.machine.apply_parked(&mut self.outputs) {
            self.tell(applied);
            return true;
        }
        if let Some(current) = &mut self.backlog.current {
            if current.units.len().is_multiple_of(APPROACHED_MAX) {
                let next = current.units.iter().take(APPROACHED_MAX);
                self.machine.approach(next);
            }
            let Some(unit) = current.units.pop_front() else {
                let at = current.at;
                self.backlog.current = None;
                self.applied_entry(at);
                return true;
            };
            let stamp = current.stamp;
            current.stamp.seed = stamp.seed.wrapping_add(1);
            if let Some(version) = version::raised(&unit) {
                let known = self.config.machine_version;
                if version > known {
                    self.silence(version::unknown(version, known));
                } else {
                    self.version = self.version.max(version);
                }
                return true;
            }
            if let Some(followed) = Followed::read(&unit) {
                self.apply_followed(followed);
                return true;
            }
            if let Some(data) = self.machine.data_mut() {
                // From now on it goes its own way.
                data.source.is_closed = data.source.index > 0;
            }
            let applied = self.machine.apply(stamp, &unit, &mut self.outputs);
            self.tell(applied);
            return true;
        }
        let durable = self.durable;
        let due = (self.backlog.entries).pop_front_if(|(_, after)| *after <= durable);
        let Some((entry, _)) = due else {
            return false;
        };
        let at = (entry.index, entry.term);
        if let Some(changes) = &entry.changes {
            self.apply_membership(changes);
            self.applied_entry(at);
        } else if entry.data.is_empty() {
            self.applied_entry(at);
        } else {
            match self.open_batch(&entry) {
                Ok(batch) => {
                    self.backlog.current = Some(Current {
                        at,
                        stamp: batch.stamp,
                        units: batch.units.into(),
                    });
                }
                Err(fault) => self.silence(fault.to_string()),
            }
        }
        true
    }

    fn tell(&mut self, applied: Result<(), ApplyFault>) {
        match applied {
            Ok(()) => {
                for output in self.outputs.drain(..) {
                    self.events.push_back(ShardEvent::Output(output));
                }
            }
            Err(fault) => {
                self.outputs.clear();
                self.silence(fault.to_string());
            }
        }
    }

    fn apply_membership(&mut self, changes: &[Change]) {
        if let Some(group) = self.group_mut() {
            group.apply_membership(changes);
        }
    }

    fn open_batch(&self, entry: &Committed) -> Result<Batch, ApplyFault> {
        let batch = Batch::decode(&entry.data)
            .map_err(|e| ApplyFault::UnknownCommand(format!("entry: {e}")))?;
        if let Some((index, theirs)) = batch.digest
            && let Some((_, ours)) = self.digests.iter().find(|(i, _)| *i == index)
            && *ours != theirs
        {
            return Err(ApplyFault::Diverged(format!(
                "digest {ours:x} at index {index}, the leader had {theirs:x}"
            )));
        }
        Ok(batch)
    }

    fn applied_entry(&mut self, at: (LogIndex, Term)) {
        // All replicas see the same terms in the log: they note a digest at each change of leader too, and
        // the new one tells its own at once.
        let is_first = at.1 > self.applied.1;
        self.digest_due |= is_first && self.group().is_some_and(|g| g.term() == at.1);
        self.applied = at;
        if is_first || at.0.is_multiple_of(DIGEST_EVERY) {
            self.digests.push_back((at.0, self.machine.digest()));
            if self.digests.len() > DIGESTS_MAX {
                self.digests.pop_front();
            }
        }
        if self.backlog.is_empty() {
            if let Some(group) = self.group_mut() {
                group.handle_applied(at.0);
            }
            self.reach_barriers();
        }
    }
}
