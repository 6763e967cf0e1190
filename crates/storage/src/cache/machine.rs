//! The machine: databases, the revision, the dispatch of units.
//!
//! The revision counts units that changed something. The digest is a sum over everything that is kept up
//! with each change, so it never costs a walk, at the price of hashing what goes and what comes; a digest of
//! dirty slots on demand would cost nothing with the change, but stall for all of them at once.

use super::command::Run;
use super::context::{Edit, View};
use super::database::{Database, Mark, Place};
use super::hash::{Seed, mix};
use super::restore::Restore;
use super::snapshot::{Cut, Header};
use super::{Body, Command, Ended, Output, Reply, Unit, Watched};
use base::planted::{Bug, planted};
use base::{ApplyFault, Machine, Rng, SnapshotPoll, Stamp, State};
use bytes::Bytes;
use std::cell::Cell;
use std::hint::black_box;

/// Databases, from 0.
pub const DATABASES: u32 = 16;

/// Slots freed with each unit after a database was emptied.
const SWEPT_SLOTS: usize = 4;

/// Units whose keys are brought near together.
pub const APPROACHED_MAX: usize = 16;
/// So many keys are near by themselves.
const NEAR_KEYS_MAX: usize = 1 << 10;

/// Refuses a database that does not exist.
pub const NO_DATABASE: Reply = Reply::error("ERR DB index is out of range");

/// Sizes, for people.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Keys of all databases, with those whose time is over and that were not removed yet.
    pub keys: usize,
    /// Keys that end.
    pub ending: usize,
    /// Bytes of keys and values.
    pub bytes: u64,
}

/// The replicated cache.
#[derive(Debug)]
pub struct Cache {
    revision: u64,
    time_ms: i64,
    /// Drawn from the first unit's stamp.
    seed: Option<Seed>,
    databases: Vec<Database>,
    cut: Option<Box<Cut>>,
    /// Databases emptied as a whole, to be freed little by little.
    garbage: Vec<Database>,
    restoring: Option<Box<Restore>>,
    /// Reads so far that may have drawn something; of this replica only.
    draws: Cell<u64>,
}

impl Default for Cache {
    fn default() -> Self {
        Self::new()
    }
}

impl Cache {
    /// An empty one at revision 0.
    pub fn new() -> Self {
        Self {
            revision: 0,
            time_ms: 0,
            seed: None,
            databases: (0..DATABASES).map(|_| Database::new(0)).collect(),
            cut: None,
            garbage: Vec::new(),
            restoring: None,
            draws: Cell::new(0),
        }
    }

    pub(super) fn from_parts(header: Header, databases: Vec<Database>) -> Self {
        Self {
            revision: header.revision,
            time_ms: header.time_ms,
            seed: header.seed,
            databases,
            ..Self::new()
        }
    }

    /// Applies one decoded unit; [`Machine::apply`] without the decoding and copying.
    pub fn apply_unit(
        &mut self,
        stamp: Stamp,
        unit: Unit,
        out: &mut Vec<Output>,
    ) -> Result<(), ApplyFault> {
        self.advance(stamp);
        let revision = self.revision + 1;
        let rng = Rng::new(stamp.seed).fork(revision);
        let mut edit = Edit::new(self, 0, revision, rng, out);
        let reply = match &unit.body {
            Body::One(command) => run(&mut edit, unit.database, command),
            Body::Exec { watched, commands } => exec(&mut edit, unit.database, watched, commands),
            Body::Expire(ended) => expire(&mut edit, ended),
        };
        if edit.is_touched {
            self.revision = revision;
        }
        out.push(Output::Reply {
            origin: unit.origin,
            reply,
        });
        Ok(())
    }

    /// Brings near what the next units will be about, by database and key. A look-up reads three things from memory,
    /// each of which says where the next one is; where keys are many, most of its time is waiting for them. Here all
    /// keys wait together, thing by thing.
    pub fn approach<'a>(&self, keys: impl Iterator<Item = (u32, &'a [u8])>) {
        let far = |(number, key): (u32, &[u8])| {
            let database = self.databases.get(number as usize)?;
            if database.key_count < NEAR_KEYS_MAX {
                return None;
            }
            let place = Place::of(self.seed(), key);
            Some((&database.slot(place.slot)?.entries, place.hash32()))
        };
        let tables: Vec<_> = keys.filter_map(far).collect();
        let lengths = tables.iter().map(|(table, _)| table.len() as u32);
        let mut read = lengths.fold(0, |sum, length| sum ^ length);
        for (table, hash) in &tables {
            read ^= table.approach(*hash);
        }
        for (table, hash) in &tables {
            if let Some(at) = table.find_by(*hash, |_| true) {
                read ^= table.at(at).approach();
            }
        }
        black_box(read);
    }

    /// What every unit begins with.
    pub(super) fn advance(&mut self, stamp: Stamp) {
        self.sweep();
        self.time_ms = self.time_ms.max(stamp.time_ms);
        self.seed.get_or_insert_with(|| Seed::draw(stamp.seed));
    }

    /// Makes an empty cache one in which commands of another can be tried.
    pub(super) fn begin_scratch(&mut self, of: &Self, stamp: Stamp) {
        debug_assert!(self.counts().keys == 0, "a scratch is empty");
        self.time_ms = of.time_ms;
        self.seed = Some(of.seed.unwrap_or_else(|| Seed::draw(stamp.seed)));
    }

    pub(super) fn set_revision(&mut self, revision: u64) {
        self.revision = revision;
    }

    /// Answers a command that only reads, as of `now_ms` (milliseconds since 1970): a key whose time is at
    /// most that counts as missing.
    pub fn read(&self, now_ms: i64, database: u32, command: &Command) -> Reply {
        if let Err(refusal) = command.check() {
            return refusal;
        }
        if database >= DATABASES {
            return NO_DATABASE;
        }
        let Run::Read(answer) = command.id.spec().run else {
            let name = command.id.spec().name;
            return Reply::Error(format!("ERR '{name}' is not a read").into());
        };
        let draws = self.draws.get().wrapping_add(1);
        self.draws.set(draws);
        let view = View::new(self, database, now_ms, mix(now_ms as u64) ^ mix(draws));
        answer(view, &command.args).unwrap_or_else(|refusal| refusal)
    }

    /// A number that changes whenever the key is touched: made, changed, removed. That of a missing key may
    /// change without a cause.
    pub fn version(&self, database: u32, key: &[u8]) -> u64 {
        match self.databases.get(database as usize) {
            Some(database) => database.version(Place::of(self.seed(), key), key),
            None => 0,
        }
    }

    /// At most `limit` keys whose time is over at `now_ms`, by time, for a leader to propose as
    /// [`Body::Expire`]. Costs what it yields.
    pub fn expired(&self, now_ms: i64, limit: usize) -> Vec<Ended> {
        let mut all = Vec::new();
        for (number, database) in (0..).zip(&self.databases) {
            let ending = database.ending(self.seed());
            let over = ending.take_while(|(at_ms, _)| *at_ms <= now_ms);
            all.extend(over.take(limit).map(|(at_ms, key)| Ended {
                database: number,
                key: Bytes::copy_from_slice(key),
                at_ms,
            }));
        }
        all.sort_by_key(|ended| ended.at_ms);
        all.truncate(limit);
        all
    }

    /// When the first key ends, milliseconds since 1970.
    pub fn next_expiry_ms(&self) -> Option<i64> {
        self.databases
            .iter()
            .filter_map(Database::next_end_ms)
            .min()
    }

    /// Keys of a database, with those whose time is over and that were not removed yet.
    pub fn key_count(&self, database: u32) -> usize {
        let database = self.databases.get(database as usize);
        database.map_or(0, |database| database.key_count)
    }

    /// Of these, keys that end.
    pub fn ending_count(&self, database: u32) -> usize {
        let database = self.databases.get(database as usize);
        database.map_or(0, Database::ending_count)
    }

    /// Sizes, for people.
    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for database in &self.databases {
            counts.keys += database.key_count;
            counts.ending += database.ending_count();
            counts.bytes += database.bytes;
        }
        counts
    }

    /// Memory that the keys take, an estimate that is the same on all replicas.
    pub fn bytes(&self) -> u64 {
        self.databases.iter().map(|database| database.weight).sum()
    }

    /// The machine's clock, milliseconds since 1970.
    pub fn time_ms(&self) -> i64 {
        self.time_ms
    }

    /// Units so far that changed something.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// The share of keys and values in the digest: what a refused command leaves as it was.
    pub fn data_digest(&self) -> u64 {
        (0..)
            .zip(&self.databases)
            .fold(0, |sum, (number, database)| {
                mix(number ^ mix(database.digest())).wrapping_add(sum)
            })
    }

    #[inline]
    pub(super) fn seed(&self) -> Seed {
        self.seed.unwrap_or_default()
    }

    #[inline]
    pub(super) fn database(&self, number: u32) -> &Database {
        &self.databases[number as usize]
    }

    #[inline]
    pub(super) fn change(&mut self, number: u32) -> (&mut Database, Option<&mut Cut>) {
        let database = &mut self.databases[number as usize];
        (database, self.cut.as_deref_mut())
    }

    /// Empties a database. False when it was empty.
    pub(super) fn flush(&mut self, number: u32, revision: u64) -> bool {
        let database = &mut self.databases[number as usize];
        if database.key_count == 0 {
            return false;
        }
        let old = std::mem::replace(database, Database::new(revision));
        match &mut self.cut {
            Some(cut) => cut.hand_over(old),
            None => self.garbage.push(old),
        }
        true
    }

    /// Frees a little of what was emptied, so that a large FLUSHALL holds nobody up.
    fn sweep(&mut self) {
        if let Some(database) = self.garbage.last_mut()
            && !database.free(SWEPT_SLOTS)
        {
            self.garbage.pop();
        }
    }

    /// Exchanges two databases.
    pub(super) fn swap(&mut self, one: u32, other: u32, revision: u64) {
        self.databases.swap(one as usize, other as usize);
        for number in [one, other] {
            self.databases[number as usize].floor = revision;
        }
    }
}

pub(super) fn run(edit: &mut Edit<'_>, database: u32, command: &Command) -> Reply {
    if let Err(refusal) = command.check() {
        return refusal;
    }
    if database >= DATABASES {
        return NO_DATABASE;
    }
    edit.select(database);
    let answer = match command.id.spec().run {
        Run::Read(answer) => answer(edit.view(), &command.args),
        Run::Write(answer) => answer(edit, &command.args),
    };
    answer.unwrap_or_else(|refusal| refusal)
}

fn exec(edit: &mut Edit<'_>, database: u32, watched: &[Watched], commands: &[Command]) -> Reply {
    let is_touched = watched.iter().any(|watched| edit.was_touched(watched));
    if is_touched && !planted(Bug::IgnoreTouchedWatch) {
        return Reply::NilArray;
    }
    let replies = commands.iter().map(|command| run(edit, database, command));
    Reply::Array(replies.collect())
}

/// Removes what ended; the number of keys is the answer.
fn expire(edit: &mut Edit<'_>, ended: &[Ended]) -> Reply {
    let removed = ended.iter().filter(|ended| edit.expire(ended)).count();
    Reply::Integer(removed as i64)
}

impl Machine for Cache {
    type Output = Output;

    fn apply(
        &mut self,
        stamp: Stamp,
        unit: &[u8],
        out: &mut Vec<Output>,
    ) -> Result<(), ApplyFault> {
        let unit = Unit::decode(&Bytes::copy_from_slice(unit))
            .map_err(|e| ApplyFault::UnknownCommand(e.to_string()))?;
        self.apply_unit(stamp, unit, out)
    }
}

impl State for Cache {
    fn digest(&self) -> u64 {
        let seed = self.seed();
        mix(self.revision)
            .wrapping_add(mix(self.time_ms as u64).rotate_left(1))
            .wrapping_add(mix(seed.k0 ^ seed.k1.rotate_left(1)).rotate_left(2))
            .wrapping_add(self.data_digest())
    }

    fn begin_snapshot(&mut self) {
        let header = Header {
            revision: self.revision,
            time_ms: self.time_ms,
            seed: self.seed,
            digest: self.digest(),
            key_count: self.counts().keys as u64,
        };
        self.abort_snapshot();
        self.cut = Some(Box::new(Cut::new(header, &mut self.databases)));
    }

    fn poll_snapshot(&mut self, bytes_max: usize) -> SnapshotPoll {
        let poll = match &mut self.cut {
            Some(cut) => cut.poll(&mut self.databases, &mut self.garbage, bytes_max),
            None => SnapshotPoll::Done,
        };
        if poll == SnapshotPoll::Done {
            self.abort_snapshot();
        }
        poll
    }

    fn abort_snapshot(&mut self) {
        if let Some(cut) = self.cut.take() {
            self.garbage.extend(cut.into_emptied());
        }
        for database in &mut self.databases {
            database.mark = Mark::PASSED;
        }
    }

    /// The state served stays the old one until [`Machine::finish_restore`] has found the new one whole. A
    /// first chunk begins anew; after an error, so must the caller.
    fn restore(&mut self, chunk: &[u8]) -> Result<(), String> {
        if base::chunk::is_first(chunk) {
            self.restoring = None;
        }
        let result = self.restoring.get_or_insert_default().chunk(chunk);
        if result.is_err() {
            self.restoring = None;
        }
        result
    }

    fn finish_restore(&mut self) -> Result<(), String> {
        let restoring = self
            .restoring
            .take()
            .ok_or("restoring a cache snapshot: no chunk was fed")?;
        *self = restoring.finish()?;
        Ok(())
    }
}
