//! A simulated disk: what was synced survives a crash, what was not may or may not.
//!
//! Each lane carries out its operations in order; those on snapshot files have a queue of their own,
//! which the journal's may overtake. A file is kept twice: as reads see it, and as a power failure
//! would leave it, with the writes in between in order. Power failure keeps any subset of those, the
//! last possibly torn.

use base::{LaneId, Rng};
use bytes::Bytes;
use journal::{DiskOp, DiskResult, FileId, Ticket};
use std::collections::{BTreeMap, VecDeque};

const SECTOR_BYTES: usize = 512;

/// Which of a lane's two queues.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Track {
    /// Journal and identity.
    Journal,
    /// Snapshot files.
    Snapshot,
}

#[derive(Clone, Debug, Default)]
struct File {
    current: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<(u64, Bytes)>,
    /// The file's name survives a power failure.
    named: bool,
    /// What the next sync will report.
    error: Option<DiskResult>,
    /// Length that two syncs back covered: all of it lies before a durable seal.
    sealed_bytes: usize,
    synced_bytes: usize,
}

impl File {
    fn write(&mut self, offset: u64, bytes: Bytes) {
        overlay(&mut self.current, offset, &bytes);
        self.unsynced.push((offset, bytes));
    }

    fn sync(&mut self) {
        if !self.unsynced.is_empty() {
            self.sealed_bytes = self.synced_bytes;
            // Not all that is read: what an earlier sync failed to write counts as clean and is not tried again.
            for (offset, bytes) in std::mem::take(&mut self.unsynced) {
                overlay(&mut self.durable, offset, &bytes);
            }
            self.synced_bytes = self.durable.len();
        }
        self.named = true;
    }
}

fn overlay(image: &mut Vec<u8>, offset: u64, bytes: &[u8]) {
    let (start, end) = (offset as usize, offset as usize + bytes.len());
    if image.len() < end {
        image.resize(end, 0);
    }
    image[start..end].copy_from_slice(bytes);
}

#[derive(Clone, Debug, Default)]
struct Lane {
    files: BTreeMap<FileId, File>,
    /// Deletions that a power failure may undo, oldest first.
    deleted: Vec<(FileId, File)>,
    queues: [VecDeque<DiskOp>; 2],
    free_at_us: [u64; 2],
}

/// What is wrong with a disk at the moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct DiskFault {
    /// Syncs take this many microseconds more.
    pub slow_us: u64,
    /// Writes are refused.
    pub full: bool,
    /// Syncs fail.
    pub failing: bool,
}

/// The disk of one node.
#[derive(Clone, Debug)]
pub struct Disk {
    lanes: Vec<Lane>,
    rng: Rng,
    /// What is wrong with it.
    pub fault: DiskFault,
}

impl Disk {
    /// An empty disk with this many lanes.
    pub fn new(lanes: u16, rng: Rng) -> Self {
        Self {
            lanes: vec![Lane::default(); usize::from(lanes)],
            rng,
            fault: DiskFault::default(),
        }
    }

    /// Queues an operation. When it will report, says when to call [`Self::complete`].
    pub fn submit(&mut self, now_us: u64, lane: LaneId, op: DiskOp) -> Option<(u64, Track)> {
        let track = match &op {
            DiskOp::Write { file, .. }
            | DiskOp::Sync { file, .. }
            | DiskOp::Delete { file }
            | DiskOp::Read { file, .. }
            | DiskOp::Rename { from: file, .. } => match file {
                FileId::Snapshot(..) | FileId::SnapshotPart(..) => Track::Snapshot,
                _ => Track::Journal,
            },
        };
        let took_us = match &op {
            DiskOp::Write { bytes, .. } => 2 + bytes.len() as u64 / 1000,
            DiskOp::Sync { .. } => {
                let slow = self.fault.slow_us;
                self.rng.range(100, 1_500) + self.rng.range(slow / 2, slow)
            }
            DiskOp::Rename { .. } => self.rng.range(100, 1_000),
            DiskOp::Read { .. } => self.rng.range(30, 400),
            DiskOp::Delete { .. } => 5,
        };
        let reports = matches!(
            op,
            DiskOp::Sync { .. } | DiskOp::Rename { .. } | DiskOp::Read { .. }
        );
        let lane = &mut self.lanes[usize::from(lane.0)];
        let free_at_us = &mut lane.free_at_us[track as usize];
        *free_at_us = now_us.max(*free_at_us) + took_us;
        lane.queues[track as usize].push_back(op);
        reports.then_some((*free_at_us, track))
    }

    /// Carries out queued operations up to the first that reports.
    pub fn complete(&mut self, lane: LaneId, track: Track) -> Option<(Ticket, DiskResult)> {
        while let Some(op) = self.lanes[usize::from(lane.0)].queues[track as usize].pop_front() {
            if let Some(report) = self.execute(lane, op) {
                return Some(report);
            }
        }
        None
    }

    fn execute(&mut self, lane: LaneId, op: DiskOp) -> Option<(Ticket, DiskResult)> {
        let fault = self.fault;
        let lane = &mut self.lanes[usize::from(lane.0)];
        match op {
            DiskOp::Write {
                file,
                offset,
                bytes,
            } => {
                let file = lane.files.entry(file).or_default();
                if fault.full {
                    file.error = Some(DiskResult::Full);
                    let part = self.rng.range(0, bytes.len() as u64 + 1) as usize;
                    file.write(offset, bytes.slice(..part));
                } else {
                    file.write(offset, bytes);
                }
                None
            }
            DiskOp::Sync { file, ticket } => {
                let Some(file) = lane.files.get_mut(&file) else {
                    return Some((ticket, DiskResult::NotFound));
                };
                if fault.failing {
                    // The pages are marked clean although any of them may not have reached the disk.
                    crash_file(file, &mut self.rng);
                    return Some((ticket, DiskResult::Failed("simulated I/O error".into())));
                }
                if let Some(error) = file.error.take() {
                    return Some((ticket, error));
                }
                if !file.named {
                    lane.deleted.clear();
                }
                file.sync();
                Some((ticket, DiskResult::Done(Bytes::new())))
            }
            DiskOp::Rename { from, to, ticket } => {
                if fault.failing {
                    return Some((ticket, DiskResult::Failed("simulated I/O error".into())));
                }
                let Some(mut file) = lane.files.remove(&from) else {
                    return Some((ticket, DiskResult::NotFound));
                };
                file.named = true;
                lane.files.insert(to, file);
                lane.deleted.clear();
                Some((ticket, DiskResult::Done(Bytes::new())))
            }
            DiskOp::Delete { file } => {
                if let Some(content) = lane.files.remove(&file) {
                    lane.deleted.push((file, content));
                }
                None
            }
            DiskOp::Read {
                file,
                offset,
                length,
                ticket,
            } => {
                let result = match lane.files.get(&file) {
                    None => DiskResult::NotFound,
                    Some(file) => {
                        let start = usize::try_from(offset)
                            .unwrap_or(usize::MAX)
                            .min(file.current.len());
                        let end = start
                            .saturating_add(length as usize)
                            .min(file.current.len());
                        DiskResult::Done(Bytes::copy_from_slice(&file.current[start..end]))
                    }
                };
                Some((ticket, result))
            }
        }
    }

    /// The process dies. With `power`, the machine does too, and unsynced writes may be lost.
    pub fn crash(&mut self, power: bool) {
        for number in 0..self.lanes.len() {
            let id = LaneId(number as u16);
            for track in [Track::Journal, Track::Snapshot] {
                let queued = self.lanes[number].queues[track as usize].len() as u64;
                for _ in 0..self.rng.range(0, queued + 1) {
                    let op = self.lanes[number].queues[track as usize].pop_front();
                    self.execute(id, op.expect("as many as were counted"));
                }
                self.lanes[number].queues[track as usize].clear();
                self.lanes[number].free_at_us[track as usize] = 0;
            }
            let lane = &mut self.lanes[number];
            if power {
                let kept = self.rng.range(0, lane.deleted.len() as u64 + 1) as usize;
                for (name, file) in lane.deleted.split_off(kept) {
                    lane.files.entry(name).or_insert(file);
                }
                let names: Vec<FileId> = lane.files.keys().copied().collect();
                for name in names {
                    let file = lane.files.get_mut(&name).expect("listed");
                    if !file.named && self.rng.one_in(2) {
                        lane.files.remove(&name);
                        continue;
                    }
                    crash_file(file, &mut self.rng);
                    file.current.clone_from(&file.durable);
                    file.named = true;
                }
            }
            lane.deleted.clear();
            // A restarted host leaves no half-written snapshot or identity behind.
            lane.files.retain(|name, _| {
                !matches!(
                    name,
                    FileId::SnapshotPart(..) | FileId::IdentityPart | FileId::GroupPart(_)
                )
            });
            for file in lane.files.values_mut() {
                file.error = None;
            }
        }
    }

    /// All files are gone.
    pub fn wipe(&mut self) {
        for lane in &mut self.lanes {
            *lane = Lane::default();
        }
    }

    /// The journal and its snapshots are gone, the identity is still there.
    pub fn lose_log(&mut self) {
        for lane in &mut self.lanes {
            lane.files
                .retain(|name, _| !matches!(name, FileId::Segment(_) | FileId::Snapshot(..)));
        }
    }

    /// Flips a bit of what the journal had sealed at rest, if there is any. Says where.
    pub fn flip(&mut self) -> Option<String> {
        let mut candidates = Vec::new();
        for (number, lane) in self.lanes.iter().enumerate() {
            let last = lane
                .files
                .keys()
                .rfind(|name| matches!(name, FileId::Segment(_)));
            for (name, file) in &lane.files {
                if matches!(name, FileId::Segment(_)) {
                    let bytes = if Some(name) == last {
                        file.sealed_bytes
                    } else {
                        file.durable.len()
                    };
                    if bytes > 0 {
                        candidates.push((number, *name, bytes));
                    }
                }
            }
        }
        if candidates.is_empty() {
            return None;
        }
        let pick = self.rng.range(0, candidates.len() as u64) as usize;
        let (lane, name, bytes) = candidates[pick];
        let at = self.rng.range(0, bytes as u64) as usize;
        let bit = 1 << self.rng.range(0, 8);
        let file = self.lanes[lane].files.get_mut(&name).expect("listed");
        file.current[at] ^= bit;
        if at < file.durable.len() {
            file.durable[at] ^= bit;
        }
        Some(format!("lane {lane} {name:?} byte {at} of {bytes}"))
    }

    /// The segments of a lane in order.
    pub fn segments(&self, lane: LaneId) -> impl Iterator<Item = (u64, &[u8])> {
        self.lanes[usize::from(lane.0)]
            .files
            .iter()
            .filter_map(|(name, file)| match name {
                FileId::Segment(number) => Some((*number, &file.current[..])),
                _ => None,
            })
    }

    /// Names of the complete snapshots of a lane.
    pub fn snapshots(&self, lane: LaneId) -> Vec<FileId> {
        let files = self.lanes[usize::from(lane.0)].files.keys();
        files
            .copied()
            .filter(|name| matches!(name, FileId::Snapshot(..)))
            .collect()
    }

    /// The identity file's content.
    pub fn identity(&self, lane: LaneId) -> Option<Bytes> {
        let file = self.lanes[usize::from(lane.0)]
            .files
            .get(&FileId::Identity)?;
        Some(Bytes::copy_from_slice(&file.current))
    }
}

/// Lets a subset of the unsynced writes reach the disk; the last of them may be torn.
fn crash_file(file: &mut File, rng: &mut Rng) {
    let writes = std::mem::take(&mut file.unsynced);
    // Most often a prefix, as file systems tend to do it; sometimes any subset, as they may.
    let any_subset = rng.one_in(3);
    let prefix = rng.range(0, writes.len() as u64 + 1) as usize;
    for (i, (offset, bytes)) in writes.iter().enumerate() {
        let kept = if any_subset {
            rng.one_in(2)
        } else {
            i < prefix
        };
        if kept && i + 1 < writes.len() {
            overlay(&mut file.durable, *offset, bytes);
        } else if kept || (!any_subset && i == prefix) {
            tear(&mut file.durable, *offset, bytes, rng);
        }
    }
    file.synced_bytes = file.durable.len();
}

fn tear(image: &mut Vec<u8>, offset: u64, bytes: &[u8], rng: &mut Rng) {
    match rng.range(0, 3) {
        0 => overlay(image, offset, bytes),
        1 => {
            let part = rng.range(0, bytes.len() as u64 + 1) as usize;
            overlay(image, offset, &bytes[..part]);
        }
        _ => {
            let mut start = 0;
            while start < bytes.len() {
                // Sectors are aligned in the file, not in the write.
                let into = (offset as usize + start) % SECTOR_BYTES;
                let end = (start + SECTOR_BYTES - into).min(bytes.len());
                if rng.one_in(2) {
                    overlay(image, offset + start as u64, &bytes[start..end]);
                }
                start = end;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LANE: LaneId = LaneId(0);
    const FILE: FileId = FileId::Segment(1);

    fn write(disk: &mut Disk, offset: u64, bytes: &'static [u8]) {
        let op = DiskOp::Write {
            file: FILE,
            offset,
            bytes: Bytes::from_static(bytes),
        };
        assert_eq!(disk.submit(0, LANE, op), None);
    }

    fn sync(disk: &mut Disk) -> DiskResult {
        let op = DiskOp::Sync {
            file: FILE,
            ticket: Ticket(1),
        };
        let (_, track) = disk.submit(0, LANE, op).expect("a sync reports");
        disk.complete(LANE, track).expect("a sync reports").1
    }

    fn content(disk: &Disk) -> Vec<u8> {
        disk.segments(LANE)
            .next()
            .map(|(_, bytes)| bytes.to_vec())
            .unwrap_or_default()
    }

    fn done() -> DiskResult {
        DiskResult::Done(Bytes::new())
    }

    #[test]
    fn synced_writes_survive_every_power_failure() {
        for seed in 0..200 {
            let mut disk = Disk::new(1, Rng::new(seed));
            write(&mut disk, 0, b"kept");
            assert_eq!(sync(&mut disk), done());
            write(&mut disk, 4, b"maybe");
            disk.crash(true);
            assert!(content(&disk).starts_with(b"kept"), "{seed}");
        }
    }

    #[test]
    fn unsynced_writes_are_sometimes_lost_sometimes_kept_sometimes_torn() {
        let (mut lost, mut kept, mut torn) = (0, 0, 0);
        for seed in 0..200 {
            let mut disk = Disk::new(1, Rng::new(seed));
            write(&mut disk, 0, b"abcd");
            disk.complete(LANE, Track::Journal);
            disk.crash(true);
            match content(&disk).as_slice() {
                b"" => lost += 1,
                b"abcd" => kept += 1,
                _ => torn += 1,
            }
        }
        assert!(lost > 0 && kept > 0 && torn > 0, "{lost} {kept} {torn}");
    }

    #[test]
    fn a_killed_process_keeps_what_was_written() {
        let mut disk = Disk::new(1, Rng::new(3));
        write(&mut disk, 0, b"abcd");
        disk.complete(LANE, Track::Journal);
        disk.crash(false);
        assert_eq!(content(&disk), b"abcd");
    }

    #[test]
    fn a_full_disk_says_so_at_the_sync_and_recovers() {
        let mut disk = Disk::new(1, Rng::new(3));
        disk.fault.full = true;
        write(&mut disk, 0, b"abcd");
        assert_eq!(sync(&mut disk), DiskResult::Full);
        disk.fault.full = false;
        write(&mut disk, 0, b"abcd");
        assert_eq!(sync(&mut disk), done());
        assert_eq!(content(&disk), b"abcd");
    }

    #[test]
    fn a_flip_hits_only_what_lies_two_syncs_back() {
        let mut disk = Disk::new(1, Rng::new(3));
        write(&mut disk, 0, b"abcd");
        sync(&mut disk);
        assert_eq!(disk.flip(), None);
        write(&mut disk, 4, b"efgh");
        sync(&mut disk);
        assert!(disk.flip().is_some());
        let after = content(&disk);
        assert_ne!(&after[..4], b"abcd");
        assert_eq!(&after[4..], b"efgh");
    }

    #[test]
    fn a_deletion_may_be_undone_until_the_directory_is_durable() {
        let mut undone = 0;
        for seed in 0..50 {
            let mut disk = Disk::new(1, Rng::new(seed));
            write(&mut disk, 0, b"abcd");
            sync(&mut disk);
            disk.submit(0, LANE, DiskOp::Delete { file: FILE });
            disk.complete(LANE, Track::Journal);
            disk.crash(true);
            undone += usize::from(!content(&disk).is_empty());
        }
        assert!(undone > 0 && undone < 50);
    }

    #[test]
    fn a_rename_replaces_and_is_durable() {
        let mut disk = Disk::new(1, Rng::new(5));
        for (file, bytes) in [
            (FileId::Identity, &b"old"[..]),
            (FileId::IdentityPart, &b"new"[..]),
        ] {
            disk.submit(
                0,
                LANE,
                DiskOp::Write {
                    file,
                    offset: 0,
                    bytes: Bytes::from_static(bytes),
                },
            );
            disk.submit(
                0,
                LANE,
                DiskOp::Sync {
                    file,
                    ticket: Ticket(1),
                },
            );
            disk.complete(LANE, Track::Journal);
        }
        disk.submit(
            0,
            LANE,
            DiskOp::Rename {
                from: FileId::IdentityPart,
                to: FileId::Identity,
                ticket: Ticket(3),
            },
        );
        assert_eq!(
            disk.complete(LANE, Track::Journal),
            Some((Ticket(3), done()))
        );
        disk.crash(true);
        assert_eq!(disk.identity(LANE).as_deref(), Some(&b"new"[..]));
    }
}
