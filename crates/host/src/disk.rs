//! Disk threads: two a lane, so that a snapshot never stands before a journal sync.
//!
//! Each carries out its operations in order. Order between the two classes matters for one thing: a
//! segment may be deleted only after the snapshot that replaces it. So the journal thread passes such
//! deletions on, and the snapshot thread carries them out behind everything that was asked of it before.
//!
//! Adjacent syncs of one file that wait in the queue become one; all their tickets are reported after it.

use crate::directory::{Directory, sync_folder};
use crate::mail::{Mail, Mailbox};
use base::LaneId;
use bytes::Bytes;
use journal::{DiskOp, DiskResult, FileId, Ticket};
use rustix::fs::{Advice, fadvise};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::num::NonZeroU64;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

/// Files that a thread keeps open at most; synced ones are closed first.
const OPEN_FILES_MAX: usize = 32;
/// A segment that is synced is filled with zeros so far ahead, or half as far at least.
const FILL_BYTES: u64 = 1 << 20;
/// What is on disk is taken out of the kernel's memory by so much at once.
const FORGET_BYTES: u64 = 1 << 20;
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
/// Operations taken from the queue at once.
const BATCH_MAX: usize = 1_024;

/// The disk threads of one lane. Dropping it ends them after what they were asked.
pub struct LaneDisk {
    journal: Option<Sender<DiskOp>>,
    snapshots: Option<Sender<DiskOp>>,
    threads: Vec<JoinHandle<()>>,
}

impl LaneDisk {
    /// Starts the threads of `lane`; results go to `mailbox`.
    pub fn start(directory: &Directory, lane: LaneId, mailbox: Mailbox) -> io::Result<Self> {
        let (journal, journal_ops) = channel();
        let (snapshots, snapshot_ops) = channel();
        let mut threads = Vec::new();
        for (kind, ops, deletions) in [
            ("journal", journal_ops, Some(snapshots.clone())),
            ("snapshots", snapshot_ops, None),
        ] {
            let files = Files::new(directory.clone(), lane);
            let mailbox = mailbox.clone();
            let name = format!("{lane}-{kind}");
            threads.push(
                std::thread::Builder::new()
                    .name(name)
                    .spawn(move || serve(&ops, files, deletions.as_ref(), &mailbox, lane))?,
            );
        }
        Ok(Self {
            journal: Some(journal),
            snapshots: Some(snapshots),
            threads,
        })
    }

    /// Queues an operation.
    pub fn submit(&self, op: DiskOp) {
        let queue = if is_snapshot(file_of(&op)) {
            &self.snapshots
        } else {
            &self.journal
        };
        if let Some(queue) = queue {
            // The threads end only when this value is dropped.
            let _ = queue.send(op);
        }
    }
}

impl Drop for LaneDisk {
    fn drop(&mut self) {
        self.journal = None;
        self.snapshots = None;
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn file_of(op: &DiskOp) -> FileId {
    match op {
        DiskOp::Write { file, .. }
        | DiskOp::Sync { file, .. }
        | DiskOp::Delete { file }
        | DiskOp::Read { file, .. } => *file,
        DiskOp::Rename { from, .. } => *from,
    }
}

fn is_snapshot(file: FileId) -> bool {
    matches!(file, FileId::Snapshot(..) | FileId::SnapshotPart(..))
}

fn serve(
    ops: &Receiver<DiskOp>,
    mut files: Files,
    deletions: Option<&Sender<DiskOp>>,
    mailbox: &Mailbox,
    lane: LaneId,
) {
    let mut report = |ticket: Ticket, result: DiskResult| {
        mailbox.send(Mail::Disk {
            lane,
            ticket,
            result,
        });
    };
    while let Ok(first) = ops.recv() {
        let mut batch = vec![first];
        batch.extend(ops.try_iter().take(BATCH_MAX - 1));
        let mut later: Vec<Ticket> = Vec::new();
        for at in 0..batch.len() {
            if let DiskOp::Sync { file, ticket } = batch[at] {
                later.push(ticket);
                if !synced_again(file, &batch[at + 1..]) {
                    let result = files.sync(file);
                    for ticket in later.drain(..) {
                        report(ticket, result.clone());
                    }
                }
                continue;
            }
            if let (
                DiskOp::Delete {
                    file: file @ FileId::Segment(_),
                },
                Some(queue),
            ) = (&batch[at], deletions)
            {
                files.forget(*file);
                let _ = queue.send(batch[at].clone());
                continue;
            }
            // Write buffers are let go as soon as they are written.
            let op = std::mem::replace(
                &mut batch[at],
                DiskOp::Delete {
                    file: FileId::IdentityPart,
                },
            );
            files.carry_out(op, &mut report);
        }
    }
}

/// True when nothing but writes to `file` stands between here and its next sync.
fn synced_again(file: FileId, rest: &[DiskOp]) -> bool {
    for op in rest {
        match op {
            DiskOp::Write { file: other, .. } if *other == file => {}
            DiskOp::Sync { file: other, .. } => return *other == file,
            _ => return false,
        }
    }
    false
}

struct Open {
    file: File,
    dirty: bool,
    /// Made in this run, and its directory entry not yet synced. Entries found at the start were synced then.
    new: bool,
    /// Where what was written ends.
    end: u64,
    /// Bytes that the file has on disk, the zeros ahead of what was written among them.
    filled: u64,
    /// Where what was written ended at the last sync, and at the last that the kernel was told to forget.
    synced: u64,
    forgotten: u64,
}

impl Open {
    fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.dirty = true;
        self.file.write_all_at(bytes, offset)?;
        self.end = self.end.max(offset + bytes.len() as u64);
        self.filled = self.filled.max(self.end);
        Ok(())
    }

    /// Puts zeros ahead of what was written, behind a sync: who syncs will sync again. A sync of bytes that
    /// replace zeros need not write the file's size and extents too: it took two thirds of the time of one
    /// behind an append (ext4). Recovery cuts zeros as it cuts any tail.
    /// Where each sync brings as much as that by itself, there is nothing to gain.
    fn fill_ahead(&mut self) {
        let brought = self.end - std::mem::replace(&mut self.synced, self.end);
        if brought >= FILL_BYTES || self.filled - self.end >= FILL_BYTES / 2 {
            return;
        }
        let target = self.end + FILL_BYTES;
        while self.filled < target {
            let zeros = &ZEROS[..ZEROS.len().min((target - self.filled) as usize)];
            // Only a matter of speed: where there is no room for it, the writes themselves will tell.
            if self.file.write_all_at(zeros, self.filled).is_err() {
                return;
            }
            self.filled += zeros.len() as u64;
        }
    }

    /// Lets the kernel forget what is on disk: nobody reads it before the next start. The next writes take the pages
    /// that this gives back, and what others read stays in memory. (A page that was never touched costs a virtual
    /// machine eight times what the copy into it does.)
    fn forget_synced(&mut self) {
        let Some(bytes) = NonZeroU64::new(self.end - self.forgotten) else {
            return;
        };
        if bytes.get() >= FORGET_BYTES {
            // Advice that is not taken costs only memory.
            let _ = fadvise(&self.file, self.forgotten, Some(bytes), Advice::DontNeed);
            self.forgotten = self.end;
        }
    }
}

/// The open files of one thread, and what went wrong with them since their last report.
struct Files {
    directory: Directory,
    lane: LaneId,
    open: BTreeMap<FileId, Open>,
    failed: BTreeMap<FileId, DiskResult>,
}

impl Files {
    fn new(directory: Directory, lane: LaneId) -> Self {
        Self {
            directory,
            lane,
            open: BTreeMap::new(),
            failed: BTreeMap::new(),
        }
    }

    fn path(&self, file: FileId) -> PathBuf {
        self.directory.path(self.lane, file)
    }

    fn carry_out(&mut self, op: DiskOp, report: &mut impl FnMut(Ticket, DiskResult)) {
        match op {
            DiskOp::Write {
                file,
                offset,
                bytes,
            } => self.write(file, offset, &bytes),
            DiskOp::Sync { file, ticket } => {
                let result = self.sync(file);
                report(ticket, result);
            }
            DiskOp::Rename { from, to, ticket } => {
                let result = self.rename(from, to);
                report(ticket, result);
            }
            DiskOp::Delete { file } => self.delete(file),
            DiskOp::Read {
                file,
                offset,
                length,
                ticket,
            } => {
                let result = self.read(file, offset, length);
                report(ticket, result);
            }
        }
    }

    /// A failed write is reported by the file's next sync; writes after it are not even tried.
    fn write(&mut self, file: FileId, offset: u64, bytes: &[u8]) {
        if self.failed.contains_key(&file) {
            return;
        }
        let outcome = self.opened(file).and_then(|open| open.write(offset, bytes));
        if let Err(error) = outcome {
            let result = self.describe("write", file, &error);
            self.failed.insert(file, result);
        }
    }

    fn sync(&mut self, file: FileId) -> DiskResult {
        if let Some(result) = self.failed.get(&file) {
            let result = result.clone();
            // A full disk may have room later; any other failure leaves the file unknown for good.
            if result == DiskResult::Full {
                self.failed.remove(&file);
            }
            return result;
        }
        let folder = self.directory.folder(self.lane);
        let outcome = self.opened(file).and_then(|open| {
            open.file.sync_data()?;
            if open.new {
                sync_folder(&folder)?;
            }
            open.dirty = false;
            open.new = false;
            open.forget_synced();
            if matches!(file, FileId::Segment(_)) {
                open.fill_ahead();
            }
            Ok(())
        });
        match outcome {
            Ok(()) => DiskResult::Done(Bytes::new()),
            Err(error) => {
                // After a failed sync the kernel may have dropped the pages: never try again.
                let result = self.describe("sync", file, &error);
                let sticky = DiskResult::Failed(format!(
                    "an earlier sync of {} failed: {error}",
                    self.path(file).display()
                ));
                self.failed.insert(file, sticky);
                result
            }
        }
    }

    fn rename(&mut self, from: FileId, to: FileId) -> DiskResult {
        self.forget(from);
        self.forget(to);
        let folder = self.directory.folder(self.lane);
        let outcome =
            std::fs::rename(self.path(from), self.path(to)).and_then(|()| sync_folder(&folder));
        match outcome {
            Ok(()) => DiskResult::Done(Bytes::new()),
            Err(error) => self.describe("rename", from, &error),
        }
    }

    fn delete(&mut self, file: FileId) {
        self.forget(file);
        if let Err(error) = std::fs::remove_file(self.path(file))
            && error.kind() != ErrorKind::NotFound
        {
            crate::log::warn(format!(
                "cannot delete {}: {error}; it takes up space until the next start",
                self.path(file).display()
            ));
        }
    }

    fn read(&mut self, file: FileId, offset: u64, length: u32) -> DiskResult {
        // Read through a handle of its own: a missing file must not be created.
        let path = self.path(file);
        let outcome = File::open(&path).and_then(|handle| {
            let there = handle.metadata()?.len().saturating_sub(offset);
            let mut bytes = vec![0; there.min(u64::from(length)) as usize];
            handle.read_exact_at(&mut bytes, offset)?;
            Ok(bytes)
        });
        match outcome {
            Ok(bytes) => DiskResult::Done(bytes.into()),
            Err(error) => self.describe("read", file, &error),
        }
    }

    fn forget(&mut self, file: FileId) {
        self.open.remove(&file);
        self.failed.remove(&file);
    }

    fn opened(&mut self, file: FileId) -> io::Result<&mut Open> {
        if !self.open.contains_key(&file) {
            if self.open.len() >= OPEN_FILES_MAX {
                self.open.retain(|_, open| open.dirty);
            }
            let path = self.path(file);
            let new = !path.exists();
            let handle = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(&path)?;
            let end = handle.metadata()?.len();
            self.open.insert(
                file,
                Open {
                    file: handle,
                    dirty: false,
                    new,
                    end,
                    filled: end,
                    synced: end,
                    forgotten: end,
                },
            );
        }
        Ok(self.open.get_mut(&file).expect("opened above"))
    }

    fn describe(&self, what: &str, file: FileId, error: &io::Error) -> DiskResult {
        match error.kind() {
            ErrorKind::NotFound => DiskResult::NotFound,
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => DiskResult::Full,
            _ => DiskResult::Failed(format!(
                "cannot {what} {}: {error}",
                self.path(file).display()
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directory::{take_synced, test_directory};
    use base::ShardId;
    use mio::{Poll, Token, Waker};
    use std::sync::Arc;
    use std::time::Duration;

    struct Rig {
        disk: Option<LaneDisk>,
        mail: Receiver<Mail>,
        directory: Directory,
        _poll: Poll,
        _root: crate::directory::TestRoot,
    }

    fn rig(name: &str) -> Rig {
        let (root, directory) = test_directory(name);
        let poll = Poll::new().unwrap();
        let waker = Arc::new(Waker::new(poll.registry(), Token(0)).unwrap());
        let (sender, mail) = channel();
        let disk = LaneDisk::start(&directory, LaneId(0), Mailbox::new(sender, waker)).unwrap();
        Rig {
            disk: Some(disk),
            mail,
            directory,
            _poll: poll,
            _root: root,
        }
    }

    impl Rig {
        fn submit(&self, op: DiskOp) {
            self.disk.as_ref().unwrap().submit(op);
        }
        fn result(&self) -> (u64, DiskResult) {
            match self.mail.recv_timeout(Duration::from_secs(10)).unwrap() {
                Mail::Disk { ticket, result, .. } => (ticket.0, result),
                _ => panic!("only disk results are sent"),
            }
        }
    }

    fn write(file: FileId, offset: u64, bytes: &'static [u8]) -> DiskOp {
        DiskOp::Write {
            file,
            offset,
            bytes: Bytes::from_static(bytes),
        }
    }
    fn sync(file: FileId, ticket: u64) -> DiskOp {
        DiskOp::Sync {
            file,
            ticket: Ticket(ticket),
        }
    }
    fn read(file: FileId, offset: u64, length: u32, ticket: u64) -> DiskOp {
        DiskOp::Read {
            file,
            offset,
            length,
            ticket: Ticket(ticket),
        }
    }
    const SEGMENT: FileId = FileId::Segment(1);

    #[test]
    fn operations_of_a_file_take_effect_in_order() {
        let rig = rig("order");
        for ticket in 1..=50 {
            rig.submit(write(SEGMENT, 0, b"old!"));
            rig.submit(write(SEGMENT, 2, b"new!"));
            rig.submit(sync(SEGMENT, ticket));
        }
        rig.submit(read(SEGMENT, 1, 8, 51));
        for ticket in 1..=50 {
            assert_eq!(rig.result(), (ticket, DiskResult::Done(Bytes::new())));
        }
        assert_eq!(
            rig.result(),
            (51, DiskResult::Done(Bytes::from_static(b"lnew!\0\0\0")))
        );
        rig.submit(read(SEGMENT, 6 + FILL_BYTES, 4, 52));
        assert_eq!(rig.result(), (52, DiskResult::Done(Bytes::new())));
    }

    #[test]
    fn snapshot_part_renamed_is_a_snapshot_and_a_missing_file_is_not_found() {
        let rig = rig("rename");
        let (part, whole) = (
            FileId::SnapshotPart(ShardId(2), 9),
            FileId::Snapshot(ShardId(2), 9),
        );
        rig.submit(write(part, 0, b"state"));
        rig.submit(sync(part, 1));
        rig.submit(DiskOp::Rename {
            from: part,
            to: whole,
            ticket: Ticket(2),
        });
        rig.submit(read(whole, 0, 5, 3));
        rig.submit(read(part, 0, 5, 4));
        let done = |bytes: &'static [u8]| DiskResult::Done(Bytes::from_static(bytes));
        assert_eq!(rig.result(), (1, done(b"")));
        assert_eq!(rig.result(), (2, done(b"")));
        assert_eq!(rig.result(), (3, done(b"state")));
        assert_eq!(rig.result(), (4, DiskResult::NotFound));
    }

    #[test]
    fn failed_write_is_reported_by_the_next_sync_and_stays_failed() {
        let rig = rig("failed");
        // A folder in the file's place: opening it for writing fails whoever we are.
        std::fs::create_dir(rig.directory.path(LaneId(0), SEGMENT)).unwrap();
        rig.submit(write(SEGMENT, 0, b"x"));
        for ticket in 1..3 {
            rig.submit(sync(SEGMENT, ticket));
            let (reported, result) = rig.result();
            assert_eq!(reported, ticket);
            assert!(matches!(result, DiskResult::Failed(text) if text.contains("segment")));
        }
    }

    #[test]
    fn identity_that_is_deleted_and_written_again_is_there() {
        let rig = rig("identity");
        let part = FileId::IdentityPart;
        for round in 0..200 {
            rig.submit(DiskOp::Delete { file: part });
            rig.submit(write(part, 0, b"who I am"));
            rig.submit(sync(part, 2 * round));
            rig.submit(DiskOp::Rename {
                from: part,
                to: FileId::Identity,
                ticket: Ticket(2 * round + 1),
            });
            for ticket in [2 * round, 2 * round + 1] {
                assert_eq!(rig.result(), (ticket, DiskResult::Done(Bytes::new())));
            }
        }
    }

    #[test]
    fn segment_deletion_happens_and_ending_the_threads_finishes_the_queue() {
        let mut rig = rig("delete");
        let (one, two) = (FileId::Segment(1), FileId::Segment(2));
        rig.submit(write(one, 0, b"x"));
        rig.submit(sync(one, 1));
        rig.submit(DiskOp::Delete { file: one });
        rig.submit(write(two, 0, b"y"));
        rig.disk = None;
        assert!(!rig.directory.path(LaneId(0), one).exists());
        let content = std::fs::read(rig.directory.path(LaneId(0), two)).unwrap();
        assert_eq!(content, b"y"); // never synced, so nothing ahead of it
    }

    #[test]
    fn folder_is_synced_with_the_first_sync_of_a_file_made_in_this_run_and_not_again() {
        let (_root, directory) = test_directory("entry");
        let lane = LaneId(0);
        let (found, made) = (FileId::Segment(1), FileId::Segment(2));
        std::fs::write(directory.path(lane, found), "left by an earlier run").unwrap();
        let folder = directory.folder(lane);
        let mut files = Files::new(directory, lane);
        take_synced();
        for (file, synced) in [
            (found, vec![]),
            (made, vec![folder]),
            (made, vec![]),
            (found, vec![]),
        ] {
            files.write(file, 0, b"x");
            assert_eq!(take_synced(), [] as [PathBuf; 0]);
            assert_eq!(files.sync(file), DiskResult::Done(Bytes::new()));
            assert_eq!(take_synced(), synced);
            // As if it had been closed to make room for others.
            files.open.clear();
        }
    }

    #[test]
    fn large_writes_are_not_followed_by_zeros_and_are_whole_once_forgotten() {
        let (_root, directory) = test_directory("forgotten");
        let mut files = Files::new(directory, LaneId(0));
        let large: Vec<u8> = (0..2 * FORGET_BYTES + 17).map(|n| n as u8).collect();
        let mut offset = 0;
        for _ in 0..3 {
            files.write(SEGMENT, offset, &large);
            offset += large.len() as u64;
            assert_eq!(files.sync(SEGMENT), DiskResult::Done(Bytes::new()));
            let open = &files.open[&SEGMENT];
            assert_eq!((open.filled, open.forgotten), (offset, offset));
        }
        files.write(SEGMENT, offset, b"x");
        assert_eq!(files.sync(SEGMENT), DiskResult::Done(Bytes::new()));
        let open = &files.open[&SEGMENT];
        let (end, filled) = (offset + 1, offset + 1 + FILL_BYTES);
        assert_eq!(
            (open.end, open.filled, open.forgotten),
            (end, filled, offset)
        );
        let content = std::fs::read(files.path(SEGMENT)).unwrap();
        let expected = [&large[..], &large, &large, b"x"].concat();
        assert_eq!(content[..expected.len()], expected);
    }

    #[test]
    fn full_disk_is_full() {
        let (_root, directory) = test_directory("full");
        let files = Files::new(directory, LaneId(0));
        let full = io::Error::from_raw_os_error(libc::ENOSPC);
        assert_eq!(files.describe("write", SEGMENT, &full), DiskResult::Full);
        let quota = io::Error::from_raw_os_error(libc::EDQUOT);
        assert_eq!(files.describe("write", SEGMENT, &quota), DiskResult::Full);
    }
}
