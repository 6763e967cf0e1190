//! A disk that forgets: unsynced writes survive a crash in any subset.

use crate::{DiskOp, FileId, Journal, Recovered, Recovery, Ticket};
use base::Rng;
use bytes::Bytes;
use std::collections::BTreeMap;

#[derive(Clone, Debug, Default)]
pub struct File {
    /// What a process reads.
    seen: Vec<u8>,
    /// What a loss of power leaves for sure.
    synced: Vec<u8>,
    /// What the next sync writes.
    unsynced: Vec<(u64, Bytes)>,
}

fn write(content: &mut Vec<u8>, offset: u64, bytes: &[u8]) {
    let end = offset as usize + bytes.len();
    if content.len() < end {
        content.resize(end, 0);
    }
    content[offset as usize..end].copy_from_slice(bytes);
}

impl File {
    pub fn seen(&self) -> &[u8] {
        &self.seen
    }

    fn write(&mut self, offset: u64, bytes: Bytes) {
        write(&mut self.seen, offset, &bytes);
        self.unsynced.push((offset, bytes));
    }

    fn sync(&mut self) {
        for (offset, bytes) in std::mem::take(&mut self.unsynced) {
            write(&mut self.synced, offset, &bytes);
        }
    }

    /// What is seen, and changed so, is what the disk holds.
    pub fn change(&mut self, change: impl FnOnce(&mut Vec<u8>)) {
        change(&mut self.seen);
        self.synced.clone_from(&self.seen);
        self.unsynced.clear();
    }
}

#[derive(Clone, Debug, Default)]
pub struct Disk {
    pub files: BTreeMap<u64, File>,
    /// Removed since the last crash; the removal may not have lasted.
    pub deleted: BTreeMap<u64, File>,
    /// Syncs fail: nothing more reaches the disk, and later syncs do not try again.
    pub failing: bool,
}

impl Disk {
    /// Carries out all operations of `journal`; returns the tickets of its syncs.
    pub fn carry_out(&mut self, journal: &mut Journal) -> Vec<Ticket> {
        let mut tickets = Vec::new();
        while let Some(op) = journal.poll_op() {
            if let Some(ticket) = self.carry_out_one(op) {
                tickets.push(ticket);
            }
        }
        tickets
    }

    pub fn carry_out_one(&mut self, op: DiskOp) -> Option<Ticket> {
        match op {
            DiskOp::Write {
                file: FileId::Segment(n),
                offset,
                bytes,
            } => {
                self.files.entry(n).or_default().write(offset, bytes);
                None
            }
            DiskOp::Sync {
                file: FileId::Segment(n),
                ticket,
            } => {
                let file = self.files.get_mut(&n).expect("a synced file exists");
                if self.failing {
                    file.unsynced.clear();
                } else {
                    file.sync();
                }
                Some(ticket)
            }
            DiskOp::Delete {
                file: FileId::Segment(n),
            } => {
                if let Some(file) = self.files.remove(&n) {
                    self.deleted.insert(n, file);
                }
                None
            }
            other => panic!("the journal asked for {other:?}"),
        }
    }

    /// Power is lost: `keep` decides of each unsynced write how many of its bytes last.
    pub fn crash(&mut self, mut keep: impl FnMut(usize, &Bytes) -> usize) {
        let mut number = 0;
        self.files.retain(|_, file| {
            let mut exists = !file.synced.is_empty();
            for (offset, bytes) in std::mem::take(&mut file.unsynced) {
                let kept = keep(number, &bytes).min(bytes.len());
                number += 1;
                if kept > 0 {
                    write(&mut file.synced, offset, &bytes[..kept]);
                    exists = true;
                }
            }
            file.seen.clone_from(&file.synced);
            exists
        });
        self.deleted.clear();
    }

    /// Power is lost: any subset of writes, some torn, and of removals lasts.
    pub fn crash_at_random(&mut self, rng: &mut Rng) {
        for (n, file) in std::mem::take(&mut self.deleted) {
            if rng.one_in(3) {
                self.files.insert(n, file);
            }
        }
        self.crash(|_, bytes| match rng.range(0, 3) {
            0 => 0,
            1 => bytes.len(),
            _ => rng.range(0, bytes.len() as u64 + 1) as usize,
        });
    }

    pub fn recover(&self) -> Recovered {
        let mut recovery = Recovery::new();
        for (n, file) in &self.files {
            recovery.feed(*n, file.seen());
        }
        recovery.finish()
    }
}
