//! A snapshot without stopping. Slots are visited in order between applies, inside of a slot by ascending
//! hash. An entry belongs to the cut if its version is at most the cut's revision. One that is about to
//! change or go before its turn is written at once, as it still is; its version is then younger, and it is
//! passed over. A database that is emptied as a whole is handed over to the snapshot. So the stream holds
//! each entry of the cut exactly once, and memory holds the old images not yet polled.
//!
//! The form is a stream of records; a record is a `u64` length and so many bytes, of which the first is its
//! tag. A chunk is a `u16` format version, a `u32` chunk number from 0, then the next bytes of the stream: a
//! key may be larger than any chunk.

use super::database::{Database, Mark};
use super::entry::Entry;
use super::hash::Seed;
use super::table::Keyed;
use super::value::Value;
use base::planted::{Bug, planted};
use base::slot::SLOTS;
use base::{SnapshotPoll, Writer};
use std::collections::{BTreeSet, VecDeque};

/// Version of the form.
pub const FORMAT: u16 = 1;
/// Tag of the machine's counters; the first record.
pub const HEADER: u8 = 1;
/// Tag of a database.
pub const DATABASE: u8 = 2;
/// Tag of what a slot remembers of removals.
pub const EMPTIED: u8 = 3;
/// Tag of a key.
pub const KEY: u8 = 4;
/// Tag of the last record.
pub const END: u8 = 5;

/// Waiting records are gathered in pieces of about this size.
const PIECE_BYTES: usize = 64 << 10;
/// A chunk never holds less than this before it is said to be full.
const CHUNK_BYTES_MIN: usize = 64;
/// Entries visited before looking whether a chunk is full.
const VISIT_ENTRIES: usize = 4;

/// A snapshot being taken.
#[derive(Debug)]
pub struct Cut {
    revision: u64,
    /// Databases emptied since the cut, with what they held.
    emptied: Vec<Database>,
    /// Entries that were written before their turn and then did not change: database, slot and key.
    unchanged: BTreeSet<(u32, u16, Vec<u8>)>,
    /// Records not yet polled, in pieces.
    waiting: VecDeque<Vec<u8>>,
    /// Bytes of the first piece that were polled.
    polled: usize,
    waiting_bytes: usize,
    records: u64,
    chunks: u32,
    /// The last record waits or was polled.
    is_last_written: bool,
    ended: bool,
}

/// The machine's counters at the cut.
#[derive(Clone, Copy, Debug)]
pub struct Header {
    /// Units so far that changed something.
    pub revision: u64,
    /// The machine's clock.
    pub time_ms: i64,
    /// The key of its hash, once it was drawn.
    pub seed: Option<Seed>,
    /// The digest.
    pub digest: u64,
    /// Keys of all databases.
    pub key_count: u64,
}

impl Cut {
    /// The cut is now.
    pub fn new(header: Header, databases: &mut [Database]) -> Self {
        let mut cut = Self {
            revision: header.revision,
            emptied: Vec::new(),
            unchanged: BTreeSet::new(),
            waiting: VecDeque::new(),
            polled: 0,
            waiting_bytes: 0,
            records: 0,
            chunks: 0,
            is_last_written: false,
            ended: false,
        };
        cut.record(|w| {
            w.u8(HEADER).u64(header.revision).i64(header.time_ms);
            w.bool(header.seed.is_some());
            let seed = header.seed.unwrap_or_default();
            w.u64(seed.k0).u64(seed.k1);
            w.u64(header.digest).u64(header.key_count);
        });
        for (number, database) in (0..).zip(databases) {
            let cursor = (0, 0);
            database.mark = Mark { number, cursor };
            if database.floor > 0 {
                cut.record(|w| {
                    w.u8(DATABASE).u32(number).u64(database.floor);
                });
            }
        }
        cut
    }

    /// The entry is about to change or to go: writes it as it is, if its turn has not come, and says so.
    #[inline]
    pub fn keep_old_image(&mut self, mark: Mark, slot: u16, entry: &Entry) -> bool {
        let is_due = mark.cursor <= (slot, entry.hash())
            && entry.version <= self.revision
            && !self.was_kept(mark.number, slot, entry)
            && !planted(Bug::SnapshotWithoutOldImage);
        if is_due {
            self.record(|w| encode_entry(w, mark.number, entry));
        }
        is_due
    }

    /// The entry that was kept is as it was: its version does not tell that it was written.
    pub fn note_unchanged(&mut self, mark: Mark, slot: u16, entry: &Entry) {
        let place = (mark.number, slot, entry.key().to_vec());
        self.unchanged.insert(place);
    }

    fn was_kept(&self, number: u32, slot: u16, entry: &Entry) -> bool {
        !self.unchanged.is_empty()
            && (self.unchanged).contains(&(number, slot, entry.key().to_vec()))
    }

    /// What the slot remembers is about to change: writes it, if its turn has not come.
    #[inline]
    pub fn keep_emptied(&mut self, mark: Mark, slot: u16, at: u64) {
        // The cursor is inside of a slot once the slot's own record is written.
        if mark.cursor <= (slot, 0) && 0 < at && at <= self.revision {
            self.record(|w| encode_emptied(w, mark.number, slot, at));
        }
    }

    /// The database was emptied as a whole; what it held may not have been visited.
    pub fn hand_over(&mut self, database: Database) {
        self.emptied.push(database);
    }

    /// What was handed over and not visited yet.
    pub fn into_emptied(self) -> Vec<Database> {
        self.emptied
    }

    fn record(&mut self, write: impl FnOnce(&mut Writer)) {
        self.records += 1;
        let is_full = |piece: &Vec<u8>| piece.len() >= PIECE_BYTES;
        if self.waiting.back().is_none_or(is_full) {
            self.waiting.push_back(Vec::new());
        }
        let piece = self.waiting.back_mut().expect("one was pushed");
        let mut w = Writer::from_vec(std::mem::take(piece));
        let start = w.len();
        w.u64(0);
        write(&mut w);
        *piece = w.into_vec();
        let length = (piece.len() - start - 8) as u64;
        piece[start..start + 8].copy_from_slice(&length.to_be_bytes());
        self.waiting_bytes += piece.len() - start;
    }

    /// The next chunk. Databases that were handed over become garbage once they were visited.
    pub fn poll(
        &mut self,
        databases: &mut [Database],
        garbage: &mut Vec<Database>,
        bytes_max: usize,
    ) -> SnapshotPoll {
        if self.ended {
            return SnapshotPoll::Done;
        }
        let room = bytes_max.max(CHUNK_BYTES_MIN) - 6;
        let mut is_visited = false;
        while self.waiting_bytes < room && !is_visited {
            is_visited = match self.emptied.pop() {
                Some(mut database) => {
                    match self.visit(&mut database) {
                        true => self.emptied.push(database),
                        false => garbage.push(database),
                    }
                    false
                }
                None => !databases.iter_mut().any(|database| self.visit(database)),
            };
        }
        if is_visited && !self.is_last_written {
            self.is_last_written = true;
            let records = self.records;
            self.record(|w| {
                w.u8(END).u64(records);
            });
        }
        let mut w = Writer::new();
        base::chunk::begin(&mut w, FORMAT, self.chunks);
        self.chunks += 1;
        let mut left = room;
        while left > 0
            && let Some(piece) = self.waiting.front()
        {
            let taken = left.min(piece.len() - self.polled);
            w.raw(&piece[self.polled..self.polled + taken]);
            left -= taken;
            self.polled += taken;
            self.waiting_bytes -= taken;
            if self.polled == piece.len() {
                self.waiting.pop_front();
                self.polled = 0;
            }
        }
        self.ended = self.is_last_written && self.waiting.is_empty();
        SnapshotPoll::Chunk(w.into_vec())
    }

    /// Writes a few entries of a database. False when all were visited.
    fn visit(&mut self, database: &mut Database) -> bool {
        let number = database.mark.number;
        let (mut slot, mut hash) = database.mark.cursor;
        // Empty slots may remember removals, so each is looked at.
        let Some(visited) = database.slot(slot) else {
            database.mark.cursor = (SLOTS, 0);
            return false;
        };
        if hash == 0 && 0 < visited.emptied_at && visited.emptied_at <= self.revision {
            self.record(|w| encode_emptied(w, number, slot, visited.emptied_at));
        }
        let next = visited.entries.scan(hash, VISIT_ENTRIES, |entry| {
            if entry.version <= self.revision && !self.was_kept(number, slot, entry) {
                self.record(|w| encode_entry(w, number, entry));
            }
        });
        (slot, hash) = match next {
            Some(hash) => (slot, hash),
            None => (slot + 1, 0),
        };
        database.mark.cursor = (slot, hash);
        true
    }
}

fn encode_emptied(w: &mut Writer, number: u32, slot: u16, at: u64) {
    w.u8(EMPTIED).u32(number).u16(slot).u64(at);
}

fn encode_entry(w: &mut Writer, number: u32, entry: &Entry) {
    w.u8(KEY).u32(number).u64(entry.version).i64(entry.ends_ms);
    w.bytes(entry.key()).u8(entry.kind() as u8);
    match entry.value() {
        None => {
            w.bytes(entry.text());
        }
        Some(Value::List(list)) => {
            w.u32(list.len() as u32);
            list.iter().for_each(|element| {
                w.bytes(element);
            });
        }
        Some(Value::Hash(fields)) => {
            w.u32(fields.len() as u32);
            fields.iter().for_each(|field| {
                w.bytes(field.name()).bytes(field.value());
            });
        }
        Some(Value::Set(members)) => {
            w.u32(members.len() as u32);
            members.iter().for_each(|member| {
                w.bytes(member);
            });
        }
        Some(Value::Sorted(sorted)) => {
            w.u32(sorted.len() as u32);
            sorted.iter().for_each(|member| {
                w.u64(member.score().to_bits()).bytes(member.name());
            });
        }
    }
}
