//! A snapshot without stopping: slots are visited in order between applies; a slot that is about to change
//! before its turn is written at once, as it still is, and then passed over. What comes into a free or new
//! slot after the cut is passed over too. So the stream holds each node of the cut exactly once, in no
//! particular order, and memory holds one bit a slot plus the old images not yet polled.
//!
//! The form: a chunk is a `u16` format version, a `u32` chunk number from 0, then whole records; a record
//! is a `u32` length and so many bytes, of which the first is its tag.

use super::acl_table::{self, AclTable};
use super::slab::{Node, Slab, SlotId};
use crate::command::encode_acl;
use base::planted::{Bug, planted};
use base::{SnapshotPoll, Writer};
use std::collections::VecDeque;

/// Version of the form.
pub const FORMAT: u16 = 1;
/// Tag of the machine's counters; the first record.
pub const HEADER: u8 = 1;
/// Tag of a session.
pub const SESSION: u8 = 2;
/// Tag of a node.
pub const NODE: u8 = 3;
/// Tag of the last record.
pub const END: u8 = 4;

/// Slots visited in one poll, so that a slab full of holes does not hold up the core.
const VISIT_MAX: u32 = 65_536;
/// Waiting records are gathered in pieces of about this size.
const PIECE_BYTES: usize = 16 << 10;
/// A chunk never holds less than this before it is said to be full.
const CHUNK_BYTES_MIN: usize = 64;

/// A snapshot being taken.
#[derive(Debug)]
pub struct Cut {
    /// Slots below were visited.
    cursor: SlotId,
    /// Slots from here on are younger than the cut.
    end: SlotId,
    /// One bit a slot: written already, or not of the cut.
    passed: Vec<u64>,
    /// Records not yet polled, in pieces.
    waiting: VecDeque<Vec<u8>>,
    records: u64,
    chunks: u32,
    ended: bool,
}

impl Cut {
    /// The cut is now. `records` are written first.
    pub fn new(slab: &Slab, records: impl IntoIterator<Item = Vec<u8>>) -> Self {
        let end = slab.slot_count();
        let mut cut = Self {
            cursor: 0,
            end,
            passed: vec![0; end.div_ceil(64) as usize],
            waiting: VecDeque::new(),
            records: 0,
            chunks: 0,
            ended: false,
        };
        for record in records {
            cut.wait(&record);
        }
        cut
    }

    /// A node came into this slot after the cut.
    pub fn skip(&mut self, slot: SlotId) {
        if slot < self.end {
            self.passed[(slot / 64) as usize] |= 1 << (slot % 64);
        }
    }

    /// The node is about to change: writes it as it is, if it belongs to the cut and was not written.
    pub fn keep_old_image(&mut self, slot: SlotId, node: &Node, acls: &AclTable) {
        if !self.is_due(slot) || planted(Bug::SnapshotWithoutOldImage) {
            return;
        }
        self.skip(slot);
        let mut w = Writer::new();
        encode_node(&mut w, slot, node, acls);
        self.wait(w.as_slice());
    }

    fn is_due(&self, slot: SlotId) -> bool {
        (self.cursor..self.end).contains(&slot)
            && self.passed[(slot / 64) as usize] & (1 << (slot % 64)) == 0
    }

    fn wait(&mut self, record: &[u8]) {
        self.records += 1;
        let mut w = match self.waiting.pop_back() {
            Some(piece) if piece.len() < PIECE_BYTES => Writer::from_vec(piece),
            Some(piece) => {
                self.waiting.push_back(piece);
                Writer::new()
            }
            None => Writer::new(),
        };
        w.bytes(record);
        self.waiting.push_back(w.into_vec());
    }

    /// The next chunk.
    pub fn poll(&mut self, slab: &Slab, acls: &AclTable, bytes_max: usize) -> SnapshotPoll {
        if self.ended {
            return SnapshotPoll::Done;
        }
        let bytes_max = bytes_max.max(CHUNK_BYTES_MIN);
        let mut w = Writer::new();
        base::chunk::begin(&mut w, FORMAT, self.chunks);
        let empty = w.len();
        self.chunks += 1;
        while let Some(mut piece) = self.waiting.pop_front() {
            let taken = whole_records(&piece, bytes_max.saturating_sub(w.len()), w.len() == empty);
            w.raw(&piece[..taken]);
            if taken < piece.len() {
                piece.drain(..taken);
                self.waiting.push_front(piece);
                return SnapshotPoll::Chunk(w.into_vec());
            }
        }
        let stop = self.end.min(self.cursor.saturating_add(VISIT_MAX));
        while self.cursor < stop {
            let slot = self.cursor;
            if self.is_due(slot)
                && let Some(node) = slab.get(slot)
            {
                let before = w.len();
                w.u32(0);
                encode_node(&mut w, slot, node, acls);
                w.patch_u32(before, (w.len() - before - 4) as u32);
                if w.len() > bytes_max && before > empty {
                    let mut bytes = w.into_vec();
                    bytes.truncate(before);
                    return SnapshotPoll::Chunk(bytes);
                }
                self.records += 1;
            }
            self.cursor += 1;
        }
        if self.cursor == self.end {
            self.ended = true;
            w.u32(9).u8(END).u64(self.records);
        }
        SnapshotPoll::Chunk(w.into_vec())
    }
}

/// How many bytes of whole records fit into `room`; at least one record when `at_least_one`.
fn whole_records(piece: &[u8], room: usize, at_least_one: bool) -> usize {
    let mut taken = 0;
    while taken < piece.len() {
        let length = piece[taken..taken + 4].try_into().expect("four bytes");
        let next = taken + 4 + u32::from_be_bytes(length) as usize;
        if next > room && !(at_least_one && taken == 0) {
            break;
        }
        taken = next;
    }
    taken
}

fn encode_node(w: &mut Writer, slot: SlotId, node: &Node, acls: &AclTable) {
    w.u8(NODE).u32(slot).u32(node.parent);
    w.i64(node.czxid).i64(node.mzxid).i64(node.pzxid);
    w.i64(node.ctime_ms).i64(node.mtime_ms).i64(node.owner);
    w.i32(node.version).i32(node.creations).i32(node.aversion);
    w.str(&node.name);
    if node.acl == acl_table::OPEN {
        w.bool(false);
    } else {
        w.bool(true);
        encode_acl(w, acls.lines(node.acl));
    }
    w.bytes(&node.data);
}
