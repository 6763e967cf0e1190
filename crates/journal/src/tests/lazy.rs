//! Frames that may wait: when they are written, and what takes them along.

use super::sim::Disk;
use crate::journal::LAZY_BYTES_MAX;
use crate::{DiskOp, DiskResult, Frame, Journal, JournalConfig, Recovery};
use base::{Now, ReplicaId, ShardId};
use bytes::Bytes;

const PROMISED: ShardId = ShardId(1);
const LAZY: ShardId = ShardId(2);
const DELAY_US: u64 = 1_000_000;

fn at(mono_us: u64) -> Now {
    Now {
        mono_us,
        wall_ms: 0,
    }
}

fn mark(index: u64) -> Frame {
    Frame::Mark {
        replica: ReplicaId(1),
        index,
        term: 1,
        conf: Bytes::new(),
    }
}

/// One turn of the caller at a time; true when something was made durable.
fn turn(journal: &mut Journal, disk: &mut Disk, mono_us: u64) -> bool {
    let before = journal.durable();
    journal.handle_tick(at(mono_us));
    journal.flush(at(mono_us));
    let mut tickets = disk.carry_out(journal);
    while let Some(ticket) = tickets.pop() {
        journal.handle_done(at(mono_us), ticket, &DiskResult::Done(Bytes::new()));
        tickets.extend(disk.carry_out(journal));
    }
    journal.durable() > before
}

fn journal() -> (Journal, Disk) {
    let mut journal = Journal::new(&Recovery::default().finish(), JournalConfig::default());
    let mut disk = Disk::default();
    journal.append(PROMISED, mark(1));
    journal.append(LAZY, mark(1));
    assert!(turn(&mut journal, &mut disk, 0));
    journal.set_lazy(LAZY, Some(DELAY_US));
    // The seal of what was promised goes alone.
    turn(&mut journal, &mut disk, 20_000);
    (journal, disk)
}

#[test]
fn lazy_frame_is_written_when_it_has_waited_and_not_before() {
    let (mut journal, mut disk) = journal();
    let position = journal.append(LAZY, mark(2));
    for mono_us in [100_000, 500_000, 1_099_999] {
        assert!(!turn(&mut journal, &mut disk, mono_us), "{mono_us}");
        assert_eq!(journal.deadline_us(), Some(100_000 + DELAY_US));
        journal.append(LAZY, mark(mono_us));
    }
    assert!(journal.durable() < position);
    assert!(turn(&mut journal, &mut disk, 100_000 + DELAY_US));
    assert_eq!(journal.durable(), journal.appended());
}

#[test]
fn promised_frame_takes_lazy_ones_along() {
    let (mut journal, mut disk) = journal();
    journal.append(LAZY, mark(2));
    assert!(!turn(&mut journal, &mut disk, 100_000));
    journal.append(PROMISED, mark(2));
    assert!(turn(&mut journal, &mut disk, 100_001));
    assert_eq!(journal.durable(), journal.appended());
}

#[test]
fn seal_of_what_was_promised_does_not_wait_with_lazy_frames() {
    let (mut journal, mut disk) = journal();
    journal.append(PROMISED, mark(2));
    assert!(turn(&mut journal, &mut disk, 100_000));
    journal.append(LAZY, mark(2));
    assert!(!turn(&mut journal, &mut disk, 100_001));
    assert_eq!(journal.deadline_us(), Some(110_000));
    assert!(turn(&mut journal, &mut disk, 110_000));
    // What followed was promised to nobody.
    journal.append(LAZY, mark(3));
    assert!(!turn(&mut journal, &mut disk, 120_000));
    assert!(!turn(&mut journal, &mut disk, 140_000));
}

#[test]
fn hurry_writes_what_waits() {
    let (mut journal, mut disk) = journal();
    journal.append(LAZY, mark(2));
    assert!(!turn(&mut journal, &mut disk, 100_000));
    journal.hurry();
    assert!(turn(&mut journal, &mut disk, 100_001));
}

#[test]
fn memory_of_what_was_written_is_gathered_in_again() {
    let (mut journal, mut disk) = journal();
    let mut places = Vec::new();
    for round in 1..=6 {
        let conf = Bytes::from(vec![7; LAZY_BYTES_MAX / 4]);
        for n in 0..5 {
            let mark = Frame::Mark {
                replica: ReplicaId(1),
                index: 10 * round + n,
                term: 1,
                conf: conf.clone(),
            };
            journal.append(LAZY, mark);
        }
        journal.flush(at(20_000));
        let mut op = journal.poll_op();
        if let Some(DiskOp::Write { bytes, .. }) = &op {
            places.push(bytes.as_ptr());
        }
        while let Some(done) = op {
            if let Some(ticket) = disk.carry_out_one(done) {
                journal.handle_done(at(20_000), ticket, &DiskResult::Done(Bytes::new()));
            }
            op = journal.poll_op();
        }
    }
    // One is gathered in while the other is written.
    assert_eq!(places.len(), 6);
    assert_eq!(places[2..4], places[0..2]);
    assert_eq!(places[4..6], places[0..2]);
}
