//! One database: slots of entries, an index by time, and what is kept up with each change.
//!
//! Every change goes through [`Database::insert`], [`Database::touch`] and [`Database::remove`]: they keep
//! the digest, the bytes and the index by time, and write an entry's old image if a snapshot has not come by.

use super::entry::{Entry, NEVER_MS, content_factor};
use super::hash::{Seed, mix};
use super::snapshot::Cut;
use super::table::{Keyed, Table};
use base::slot::{SLOTS, slot_of};
use std::collections::BTreeSet;

/// Where a key belongs.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// Its slot.
    pub slot: u16,
    /// Its keyed hash.
    pub hash: u64,
}

impl Place {
    /// Of a key.
    #[inline]
    pub fn of(seed: Seed, key: &[u8]) -> Self {
        Self {
            slot: slot_of(key),
            hash: seed.hash(key),
        }
    }

    /// The hash in the slot's table.
    #[inline]
    pub fn hash32(self) -> u32 {
        (self.hash >> 32) as u32
    }
}

/// The keys of one slot.
#[derive(Debug, Default)]
pub struct Slot {
    /// The entries.
    pub entries: Table<Entry>,
    /// Revision of the unit that removed one last; 0 if none ever did.
    pub emptied_at: u64,
}

/// What stands behind a change: a unit's revision, and a snapshot that may want what was.
pub struct Change<'a> {
    /// The revision that the unit makes.
    pub revision: u64,
    /// The snapshot being taken.
    pub cut: Option<&'a mut Cut>,
    /// Set when something was changed.
    pub is_touched: &'a mut bool,
}

/// How far a snapshot has come in a database.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    /// The database's number at the cut.
    pub number: u32,
    /// Entries below were visited: slot, then hash.
    pub cursor: (u16, u32),
}

impl Mark {
    /// Nothing of it belongs to the cut, or all was visited.
    pub const PASSED: Self = Self {
        number: 0,
        cursor: (SLOTS, 0),
    };
}

/// The database.
#[derive(Debug)]
pub struct Database {
    /// Empty until a first key comes; then one for each slot.
    slots: Vec<Slot>,
    /// One bit a slot: it has entries.
    occupied: Vec<u64>,
    /// Time, slot and hash of the keys that end. Two keys could share all three with a probability of 2^-64;
    /// then one of them would be removed only when it is met.
    ends: BTreeSet<(i64, u16, u64)>,
    /// Keys.
    pub key_count: usize,
    /// Bytes of keys and values.
    pub bytes: u64,
    /// Estimated memory.
    pub weight: u64,
    /// Digest of all entries and of what slots remember.
    digest: u64,
    /// All versions in it are at least this: the revision that emptied or swapped it last.
    pub floor: u64,
    /// How far a snapshot has come.
    pub mark: Mark,
}

impl Database {
    /// An empty one.
    pub fn new(floor: u64) -> Self {
        Self {
            slots: Vec::new(),
            occupied: Vec::new(),
            ends: BTreeSet::new(),
            key_count: 0,
            bytes: 0,
            weight: 0,
            digest: 0,
            floor,
            mark: Mark::PASSED,
        }
    }

    /// Frees the memory of some slots; the database is of no more use. False when all is free.
    pub fn free(&mut self, slots: usize) -> bool {
        const ENDS: usize = 256;
        for _ in 0..ENDS {
            self.ends.pop_first();
        }
        self.slots.truncate(self.slots.len().saturating_sub(slots));
        !self.slots.is_empty() || !self.ends.is_empty()
    }

    /// The slot, if the database has any.
    #[inline]
    pub fn slot(&self, slot: u16) -> Option<&Slot> {
        self.slots.get(usize::from(slot))
    }

    /// The first slot from `slot` on that has entries.
    pub fn occupied_from(&self, slot: u16) -> Option<u16> {
        let mut word = usize::from(slot / 64);
        let mut bits = self.occupied.get(word)? & (u64::MAX << (slot % 64));
        while bits == 0 {
            word += 1;
            bits = *self.occupied.get(word)?;
        }
        Some((word * 64) as u16 + bits.trailing_zeros() as u16)
    }

    /// The entry of a key, whether or not its time is over.
    #[inline]
    pub fn get(&self, place: Place, key: &[u8]) -> Option<&Entry> {
        let slot = self.slot(place.slot)?;
        let at = slot.entries.find(place.hash32(), key)?;
        Some(slot.entries.at(at))
    }

    /// Where the entry of a key stands in its slot.
    #[inline]
    pub fn find(&self, place: Place, key: &[u8]) -> Option<usize> {
        self.slot(place.slot)?.entries.find(place.hash32(), key)
    }

    /// The entry at a place in a slot.
    #[inline]
    pub fn at(&self, place: Place, at: usize) -> &Entry {
        self.slots[usize::from(place.slot)].entries.at(at)
    }

    /// All entries, slot by slot.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.slots.iter().flat_map(|slot| slot.entries.iter())
    }

    /// The version of a key, see [`super::Cache::version`].
    pub fn version(&self, place: Place, key: &[u8]) -> u64 {
        let Some(slot) = self.slot(place.slot) else {
            return self.floor;
        };
        let own = match slot.entries.find(place.hash32(), key) {
            Some(at) => slot.entries.at(at).version,
            None => slot.emptied_at,
        };
        own.max(self.floor)
    }

    /// Adds an entry whose key is not there.
    pub fn insert(&mut self, place: Place, mut entry: Entry, change: &mut Change<'_>) {
        entry.version = change.revision;
        *change.is_touched = true;
        self.restore(place, entry);
    }

    /// Adds an entry of a snapshot.
    pub fn restore(&mut self, place: Place, entry: Entry) {
        if self.slots.is_empty() {
            self.slots.resize_with(usize::from(SLOTS), Slot::default);
            self.occupied = vec![0; usize::from(SLOTS) / 64];
        }
        self.add(place, &entry, entry.content());
        self.key_count += 1;
        self.occupied[usize::from(place.slot / 64)] |= 1 << (place.slot % 64);
        self.slots[usize::from(place.slot)].entries.insert(entry);
    }

    /// Restores what a slot remembers.
    pub fn restore_emptied(&mut self, slot: u16, at: u64) {
        if self.slots.is_empty() {
            self.slots.resize_with(usize::from(SLOTS), Slot::default);
            self.occupied = vec![0; usize::from(SLOTS) / 64];
        }
        self.digest = self.digest.wrapping_add(emptied_digest(slot, at));
        self.slots[usize::from(slot)].emptied_at = at;
    }

    /// Changes an entry. Beside its result, `f` yields by how much it has changed the content; `None` if it
    /// has changed nothing, which is no touch: whether a snapshot is under way is this replica's own affair.
    #[inline]
    pub fn touch<R>(
        &mut self,
        place: Place,
        at: usize,
        change: &mut Change<'_>,
        f: impl FnOnce(&mut Entry) -> (R, Option<u64>),
    ) -> R {
        let entry = self.slots[usize::from(place.slot)].entries.at_mut(at);
        let is_kept = match &mut change.cut {
            Some(cut) => cut.keep_old_image(self.mark, place.slot, entry),
            None => false,
        };
        let old = (entry.head(place.hash), entry.bytes(), entry.weight());
        let old_ends_ms = entry.ends_ms;
        let (result, content) = f(entry);
        let Some(content) = content else {
            if let Some(cut) = &mut change.cut
                && is_kept
            {
                cut.note_unchanged(self.mark, place.slot, entry);
            }
            return result;
        };
        *change.is_touched = true;
        entry.version = change.revision;
        let new = (entry.head(place.hash), entry.bytes(), entry.weight());
        self.digest = self
            .digest
            .wrapping_add(new.0)
            .wrapping_sub(old.0)
            .wrapping_add(content.wrapping_mul(content_factor(place.hash)));
        self.bytes = self.bytes + new.1 as u64 - old.1 as u64;
        self.weight = self.weight + new.2 as u64 - old.2 as u64;
        if entry.ends_ms != old_ends_ms {
            let ends_ms = entry.ends_ms;
            self.unschedule(place, old_ends_ms);
            self.schedule(place, ends_ms);
        }
        result
    }

    /// Takes an entry out.
    pub fn remove(&mut self, place: Place, at: usize, change: &mut Change<'_>) -> Entry {
        let slot = &mut self.slots[usize::from(place.slot)];
        if let Some(cut) = &mut change.cut {
            cut.keep_old_image(self.mark, place.slot, slot.entries.at(at));
            cut.keep_emptied(self.mark, place.slot, slot.emptied_at);
        }
        *change.is_touched = true;
        let entry = slot.entries.swap_remove(at);
        let old_emptied = std::mem::replace(&mut slot.emptied_at, change.revision);
        if slot.entries.is_empty() {
            self.occupied[usize::from(place.slot / 64)] &= !(1 << (place.slot % 64));
        }
        let weighed = entry.content().wrapping_mul(content_factor(place.hash));
        self.digest = self
            .digest
            .wrapping_sub(entry.head(place.hash))
            .wrapping_sub(weighed)
            .wrapping_sub(emptied_digest(place.slot, old_emptied))
            .wrapping_add(emptied_digest(place.slot, change.revision));
        self.bytes -= entry.bytes() as u64;
        self.weight -= entry.weight() as u64;
        self.key_count -= 1;
        self.unschedule(place, entry.ends_ms);
        entry
    }

    fn add(&mut self, place: Place, entry: &Entry, content: u64) {
        self.digest = self
            .digest
            .wrapping_add(entry.head(place.hash))
            .wrapping_add(content.wrapping_mul(content_factor(place.hash)));
        self.bytes += entry.bytes() as u64;
        self.weight += entry.weight() as u64;
        self.schedule(place, entry.ends_ms);
    }

    fn schedule(&mut self, place: Place, ends_ms: i64) {
        if ends_ms != NEVER_MS {
            self.ends.insert((ends_ms, place.slot, place.hash));
        }
    }

    fn unschedule(&mut self, place: Place, ends_ms: i64) {
        if ends_ms != NEVER_MS {
            self.ends.remove(&(ends_ms, place.slot, place.hash));
        }
    }

    /// Keys that end, by time, with the time.
    pub fn ending(&self, seed: Seed) -> impl Iterator<Item = (i64, &[u8])> {
        self.ends.iter().filter_map(move |(at_ms, slot, hash)| {
            let entries = &self.slot(*slot)?.entries;
            let hash32 = (hash >> 32) as u32;
            let at = entries.find_by(hash32, |entry| {
                entry.ends_ms == *at_ms && seed.hash(entry.key()) == *hash
            })?;
            Some((*at_ms, entries.at(at).key()))
        })
    }

    /// Keys that end.
    pub fn ending_count(&self) -> usize {
        self.ends.len()
    }

    /// When the first key ends.
    pub fn next_end_ms(&self) -> Option<i64> {
        self.ends.first().map(|(at_ms, ..)| *at_ms)
    }

    /// The digest of the whole database.
    pub fn digest(&self) -> u64 {
        self.digest.wrapping_add(mix(self.floor))
    }
}

fn emptied_digest(slot: u16, at: u64) -> u64 {
    match at {
        0 => 0,
        at => mix(mix(at).wrapping_add(u64::from(slot))),
    }
}
