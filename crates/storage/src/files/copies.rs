//! Copies of chunks: what is known of each, and which changes are allowed.

use super::COPIES_MAX;
use super::command::{ChunkId, CopyChange};
use super::machine::Files;
use super::row::{Chunk, CopyState};
use base::planted::{Bug, planted};

impl Files {
    /// Makes a change if it is one and allowed; how many copies it changed.
    pub(super) fn change_copy(&mut self, change: &CopyChange) -> u32 {
        match *change {
            CopyChange::Make { chunk, node } => {
                let making = CopyState::Making {
                    since_ms: self.time_ms,
                };
                self.change_chunk(chunk, |row| {
                    let has_room = row.copies.len() < usize::from(COPIES_MAX);
                    match row.copies.get(&node) {
                        None if has_room => row.copies.insert(node, making).is_none(),
                        // In its place: there is nowhere else to go.
                        Some(CopyState::Corrupt) => row.copies.insert(node, making).is_some(),
                        _ => false,
                    }
                })
            }
            CopyChange::Made {
                chunk,
                generation,
                node,
            } => self.change_chunk(chunk, |row| match row.copies.get_mut(&node) {
                Some(state) if row.generation == generation && *state != CopyState::Good => {
                    *state = CopyState::Good;
                    true
                }
                _ => false,
            }),
            CopyChange::Corrupt {
                chunk,
                generation,
                node,
            } => self.change_chunk(chunk, |row| match row.copies.get_mut(&node) {
                Some(state) if row.generation == generation && *state == CopyState::Good => {
                    *state = match planted(Bug::TrustCorruptCopy) {
                        true => CopyState::Good,
                        false => CopyState::Corrupt,
                    };
                    true
                }
                _ => false,
            }),
            CopyChange::Lost { chunk, node } => {
                self.change_chunk(chunk, |row| row.copies.remove(&node).is_some())
            }
            CopyChange::Surplus { chunk, node } => self.change_chunk(chunk, |row| {
                let others = row.good().filter(|good| *good != node).count();
                others >= usize::from(row.wanted) && row.copies.remove(&node).is_some()
            }),
            CopyChange::Gone { node } => {
                let held = self.held.get(&node).cloned().unwrap_or_default();
                let lost = |chunk| CopyChange::Lost { chunk, node };
                held.into_iter().map(|c| self.change_copy(&lost(c))).sum()
            }
        }
    }

    fn change_chunk(&mut self, id: ChunkId, change: impl FnOnce(&mut Chunk) -> bool) -> u32 {
        let Some(mut chunk) = self.chunks.get(id).cloned() else {
            return 0;
        };
        if !change(&mut chunk) {
            return 0;
        }
        self.put_chunk(id, Some(chunk));
        1
    }
}
