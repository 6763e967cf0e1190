//! A replica of a shard that follows another cluster's, and of one that is followed.

use super::{Shard, ShardEvent};
use crate::entry::Batch;
use crate::follow::{Followed, Source};
use crate::snapshot::Restorer;
use crate::version;
use base::{ApplyFault, LogIndex};
use bytes::Bytes;

/// A snapshot of the other cluster's shard that is coming in.
#[derive(Debug)]
pub(super) struct Staged {
    pub(super) index: LogIndex,
    pub(super) offset: u64,
    pub(super) restorer: Restorer,
}

impl Shard {
    /// While it follows (or was deposed), nothing is proposed but what is followed.
    pub fn set_follows(&mut self, follows: bool) {
        self.follows = follows;
    }

    /// How far it has followed.
    pub fn source(&self) -> Source {
        (self.machine.data()).map_or_else(Source::default, |data| data.source)
    }

    /// The snapshot that is coming in, and how many bytes of it are here.
    pub fn staged(&self) -> Option<(LogIndex, u64)> {
        self.staged.as_ref().map(|s| (s.index, s.offset))
    }

    /// As the leader of a shard that follows.
    pub fn propose_followed(&mut self, followed: &Followed) -> bool {
        let unit = followed.encode();
        if !self.is_leader() || unit.len() > self.room_bytes() {
            return false;
        }
        self.pending_bytes += unit.len();
        self.pending_units.push_back(unit);
        true
    }

    /// Committed entries from an index on, at most about so many bytes; `None` when they are in a snapshot only.
    pub fn committed_from(
        &self,
        index: LogIndex,
        bytes_max: u64,
    ) -> Option<Vec<(LogIndex, Bytes)>> {
        self.group()?.committed_from(index, bytes_max)
    }

    pub(super) fn apply_followed(&mut self, followed: Followed) {
        match followed {
            Followed::Entry {
                index,
                commit,
                data,
            } => self.apply_entry(index, commit, &data),
            Followed::Piece {
                index,
                offset,
                is_last,
                bytes,
            } => self.apply_piece(index, offset, is_last, &bytes),
        }
    }

    fn apply_entry(&mut self, index: LogIndex, commit: LogIndex, data: &Bytes) {
        let Some(state) = self.machine.data_mut() else {
            return;
        };
        if !state.source.expects(index) {
            return;
        }
        state.source.index = index;
        state.source.commit = commit;
        self.staged = None;
        if data.is_empty() {
            return;
        }
        let batch = match Batch::decode(data) {
            Ok(batch) => batch,
            Err(e) => return self.silence(format!("followed entry {index} cannot be read: {e}")),
        };
        let mut stamp = batch.stamp;
        for unit in batch.units {
            let result = match version::raised(&unit) {
                Some(version) if version > self.config.machine_version => {
                    let known = self.config.machine_version;
                    return self.silence(version::unknown(version, known));
                }
                Some(version) => {
                    self.version = self.version.max(version);
                    Ok(())
                }
                // That cluster followed one itself, and begins anew here.
                None if Followed::read(&unit).is_some() => Ok(()),
                None => self.machine.apply(stamp, &unit, &mut self.outputs),
            };
            stamp.seed = stamp.seed.wrapping_add(1);
            if let Err(fault) = result.and_then(|()| self.apply_all_parked()) {
                return self.silence(fault.to_string());
            }
            // They were told there; nobody here waits for them.
            self.outputs.clear();
        }
    }

    /// Where they were parked they were taken up before the next unit of the log, and so here.
    fn apply_all_parked(&mut self) -> Result<(), ApplyFault> {
        while let Some(applied) = self.machine.apply_parked(&mut self.outputs) {
            applied?;
        }
        Ok(())
    }

    fn apply_piece(&mut self, index: LogIndex, offset: u64, is_last: bool, bytes: &Bytes) {
        let source = self.source();
        if source.is_closed || index <= source.index {
            return;
        }
        if offset == 0 {
            self.staged = Some(Staged {
                index,
                offset,
                restorer: Restorer::new(self.id, self.config.machine_version),
            });
        }
        let is_next = |s: &Staged| (s.index, s.offset) == (index, offset);
        let Some(mut staged) = self.staged.take_if(|s| is_next(s)) else {
            return;
        };
        if staged.restorer.feed(bytes).is_err() {
            // Damaged at its source or on the way: it is asked for from the start.
            return;
        }
        staged.offset += bytes.len() as u64;
        if !is_last {
            self.staged = Some(staged);
            return;
        }
        let Ok((mut machine, header)) = staged.restorer.finish() else {
            return;
        };
        if let Some(data) = machine.data_mut() {
            data.source = Source {
                index: header.index,
                commit: header.index,
                ..Source::default()
            };
        }
        self.machine = machine;
        self.version = self.version.max(header.version);
        self.events.push_back(ShardEvent::Installed);
    }
}
