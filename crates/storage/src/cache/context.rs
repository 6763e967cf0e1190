//! What a command works on: a [`View`] to read, an [`Edit`] to change.
//!
//! To both, a key whose time is over is missing. An `Edit` removes such a key when it meets it. A command
//! parses and checks everything through the view before its first change, so a refused one changes nothing.

use super::database::{Change, Database, Place};
use super::entry::{Entry, NEVER_MS};
use super::hash::Seed;
use super::machine::DATABASES;
use super::value::{Fields, Held, Kind, List, Members, Sorted, Value};
use super::{Cache, Ended, Output, Reply, Watched};
use base::Rng;
use base::planted::{Bug, planted};
use bytes::Bytes;

/// What a command yields: its reply, or a refusal, which is a reply too.
pub type Answer = Result<Reply, Reply>;

/// One database at one time.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    cache: &'a Cache,
    database: &'a Database,
    /// The database's number.
    pub number: u32,
    /// Milliseconds since 1970.
    pub now_ms: i64,
    draw: u64,
}

impl<'a> View<'a> {
    /// Of a database that exists; `draw` feeds random choices.
    pub fn new(cache: &'a Cache, number: u32, now_ms: i64, draw: u64) -> Self {
        Self {
            cache,
            database: cache.database(number),
            number,
            now_ms,
            draw,
        }
    }

    /// The same time elsewhere.
    pub fn of(self, number: u32) -> Self {
        Self::new(self.cache, number, self.now_ms, self.draw)
    }

    /// The key of the hashes.
    pub fn seed(self) -> Seed {
        self.cache.seed()
    }

    /// A generator for this command.
    pub fn rng(self) -> Rng {
        Rng::new(self.draw)
    }

    /// The database itself, with keys whose time is over.
    pub fn database(self) -> &'a Database {
        self.database
    }

    /// True unless the entry's time is over.
    pub fn lives(self, entry: &Entry) -> bool {
        entry.ends_ms > self.now_ms
    }

    /// The entry of a key.
    #[inline]
    pub fn entry(self, key: &[u8]) -> Option<&'a Entry> {
        if self.database.key_count == 0 {
            return None;
        }
        let place = Place::of(self.seed(), key);
        let entry = self.database.get(place, key)?;
        self.lives(entry).then_some(entry)
    }

    /// The string of a key.
    #[inline]
    pub fn string(self, key: &[u8]) -> Result<Option<&'a [u8]>, Reply> {
        match self.entry(key) {
            None => Ok(None),
            Some(entry) if entry.value().is_none() => Ok(Some(entry.text())),
            Some(_) => Err(Reply::WRONG_TYPE),
        }
    }

    fn held<T: Held + 'a>(self, key: &[u8]) -> Result<Option<&'a T>, Reply> {
        let Some(entry) = self.entry(key) else {
            return Ok(None);
        };
        let value = entry.value().and_then(T::of).ok_or(Reply::WRONG_TYPE)?;
        Ok(Some(value))
    }

    /// The list of a key.
    pub fn list(self, key: &[u8]) -> Result<Option<&'a List>, Reply> {
        self.held(key)
    }

    /// The hash of a key.
    pub fn hash(self, key: &[u8]) -> Result<Option<&'a Fields>, Reply> {
        self.held(key)
    }

    /// The set of a key.
    pub fn set(self, key: &[u8]) -> Result<Option<&'a Members>, Reply> {
        self.held(key)
    }

    /// The sorted set of a key.
    pub fn sorted(self, key: &[u8]) -> Result<Option<&'a Sorted>, Reply> {
        self.held(key)
    }
}

/// When a key shall end that gets a new value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    /// As before.
    Keep,
    /// At this time, or [`NEVER_MS`].
    At(i64),
}

/// One unit's work on one database.
pub struct Edit<'a> {
    cache: &'a mut Cache,
    number: u32,
    revision: u64,
    rng: Rng,
    out: &'a mut Vec<Output>,
    now_ms: i64,
    /// Something was changed.
    pub is_touched: bool,
}

impl<'a> Edit<'a> {
    /// On a database that exists.
    pub fn new(
        cache: &'a mut Cache,
        number: u32,
        revision: u64,
        rng: Rng,
        out: &'a mut Vec<Output>,
    ) -> Self {
        Self {
            now_ms: cache.time_ms(),
            cache,
            number,
            revision,
            rng,
            out,
            is_touched: false,
        }
    }

    /// The same at another time than the machine's clock shows, milliseconds since 1970.
    pub fn at(mut self, now_ms: i64) -> Self {
        self.now_ms = now_ms;
        self
    }

    /// What is there now.
    pub fn view(&self) -> View<'_> {
        View::new(
            self.cache,
            self.number,
            self.now_ms(),
            self.rng.clone().next_u64(),
        )
    }

    /// The time, milliseconds since 1970.
    pub fn now_ms(&self) -> i64 {
        self.now_ms
    }

    /// The key of the hashes.
    pub fn seed(&self) -> Seed {
        self.cache.seed()
    }

    /// A generator for this command.
    pub fn rng(&mut self) -> Rng {
        Rng::new(self.rng.next_u64())
    }

    /// Goes on with another database.
    pub fn select(&mut self, number: u32) {
        self.number = number;
    }

    /// Where a key belongs, and where its entry stands; removes it if its time is over.
    #[inline]
    fn find(&mut self, key: &[u8]) -> (Place, Option<usize>) {
        let place = Place::of(self.cache.seed(), key);
        let database = self.cache.database(self.number);
        let Some(at) = database.find(place, key) else {
            return (place, None);
        };
        if database.at(place, at).ends_ms > self.now_ms() {
            return (place, Some(at));
        }
        self.take(place, at);
        (place, None)
    }

    #[inline]
    fn change(&mut self) -> (&mut Database, Change<'_>) {
        let (database, cut) = self.cache.change(self.number);
        let change = Change {
            revision: self.revision,
            cut,
            is_touched: &mut self.is_touched,
        };
        (database, change)
    }

    fn take(&mut self, place: Place, at: usize) -> Entry {
        let (database, mut change) = self.change();
        database.remove(place, at, &mut change)
    }

    fn ready(&mut self, key: &Bytes) {
        self.out.push(Output::Ready {
            database: self.number,
            key: key.clone(),
        });
    }

    /// Makes a key hold a string, whatever it held.
    #[inline]
    pub fn put_string(&mut self, key: &[u8], value: &[u8], ending: Ending) {
        let (place, found) = self.find(key);
        let (database, mut change) = self.change();
        match found {
            Some(at) => database.touch(place, at, &mut change, |entry| {
                let before = entry.content();
                entry.set_text(value);
                if let Ending::At(ends_ms) = ending {
                    entry.ends_ms = ends_ms;
                }
                ((), Some(entry.content().wrapping_sub(before)))
            }),
            None => {
                let ends_ms = match ending {
                    Ending::Keep => NEVER_MS,
                    Ending::At(ends_ms) => ends_ms,
                };
                let entry = Entry::string(place.hash32(), key, value, ends_ms);
                database.insert(place, entry, &mut change);
            }
        }
    }

    /// Writes into a string at an offset, behind zeros if it is shorter. The key holds a string or nothing.
    /// Yields the new length.
    pub fn write_string(&mut self, key: &[u8], offset: usize, bytes: &[u8]) -> usize {
        let (place, found) = self.find(key);
        let Some(at) = found else {
            let mut value = vec![0; offset];
            value.extend_from_slice(bytes);
            self.put_string(key, &value, Ending::Keep);
            return value.len();
        };
        let (database, mut change) = self.change();
        database.touch(place, at, &mut change, |entry| {
            let content = entry.write_text(offset, bytes);
            (entry.text().len(), Some(content))
        })
    }

    /// Works on the value of a key. A missing one is made if `create`, and kept if it is not empty then; one
    /// that is empty afterwards is removed. `None` when there is no value.
    pub fn with<T: Held, R>(
        &mut self,
        key: &Bytes,
        create: bool,
        work: impl FnOnce(&mut T) -> R,
    ) -> Result<Option<R>, Reply> {
        let (place, found) = self.find(key);
        let Some(at) = found else {
            if !create {
                return Ok(None);
            }
            let mut value = T::default();
            let result = work(&mut value);
            if value.len() > 0 {
                let value = value.into_value();
                let entry = Entry::held(place.hash32(), key, value, NEVER_MS);
                let (database, mut change) = self.change();
                database.insert(place, entry, &mut change);
                if T::IS_WAITED_FOR {
                    self.ready(key);
                }
            }
            return Ok(Some(result));
        };
        let entry = self.cache.database(self.number).at(place, at);
        if entry.kind() != T::KIND {
            return Err(Reply::WRONG_TYPE);
        }
        let before = entry.value().map_or(0, Value::len);
        let (database, mut change) = self.change();
        let (result, after) = database.touch(place, at, &mut change, |entry| {
            let value = entry.value_mut().and_then(T::of_mut);
            let value = value.expect("the kind was checked");
            let old = (value.content(), value.len());
            let result = work(value);
            let new = (value.content(), value.len());
            let content = (new != old).then(|| new.0.wrapping_sub(old.0));
            ((result, new.1), content)
        });
        if after == 0 {
            self.take(place, at);
        } else if T::IS_WAITED_FOR && after > before {
            self.ready(key);
        }
        Ok(Some(result))
    }

    /// Makes a key hold a value without end; an empty one removes it.
    pub fn put(&mut self, key: &Bytes, value: Value) {
        if value.len() == 0 {
            self.remove(key);
            return;
        }
        let is_waited_for = matches!(value.kind(), Kind::List | Kind::Sorted);
        let (place, found) = self.find(key);
        let (database, mut change) = self.change();
        match found {
            Some(at) => database.touch(place, at, &mut change, |entry| {
                let before = entry.content();
                entry.set_value(value);
                entry.ends_ms = NEVER_MS;
                ((), Some(entry.content().wrapping_sub(before)))
            }),
            None => {
                let entry = Entry::held(place.hash32(), key, value, NEVER_MS);
                database.insert(place, entry, &mut change);
            }
        }
        if is_waited_for {
            self.ready(key);
        }
    }

    /// Puts an entry, copied or taken from elsewhere, under a key, whatever that held.
    pub fn put_entry(&mut self, key: &Bytes, make: impl FnOnce(Place) -> Entry) {
        let (place, found) = self.find(key);
        if let Some(at) = found {
            self.take(place, at);
        }
        let entry = make(place);
        let is_waited_for = matches!(entry.kind(), Kind::List | Kind::Sorted);
        let (database, mut change) = self.change();
        database.insert(place, entry, &mut change);
        if is_waited_for {
            self.ready(key);
        }
    }

    /// Removes a key. Yields what it held.
    pub fn remove(&mut self, key: &[u8]) -> Option<Entry> {
        let (place, found) = self.find(key);
        found.map(|at| self.take(place, at))
    }

    /// Lets a key that exists end at this time.
    pub fn end_at(&mut self, key: &[u8], ends_ms: i64) {
        let (place, found) = self.find(key);
        if let Some(at) = found {
            let (database, mut change) = self.change();
            database.touch(place, at, &mut change, |entry| {
                entry.ends_ms = ends_ms;
                ((), Some(0))
            });
        }
    }

    /// True when a watched key is no longer what it was. One whose time is over is removed first.
    pub fn was_touched(&mut self, watched: &Watched) -> bool {
        if watched.database >= DATABASES {
            return false;
        }
        self.select(watched.database);
        self.find(&watched.key);
        self.cache.version(watched.database, &watched.key) != watched.version
    }

    /// Removes a key whose time is over, if it still is to end then. False when it is not.
    pub fn expire(&mut self, ended: &Ended) -> bool {
        if ended.database >= DATABASES || ended.at_ms > self.now_ms() {
            return false;
        }
        self.select(ended.database);
        let place = Place::of(self.cache.seed(), &ended.key);
        let database = self.cache.database(self.number);
        let Some(at) = database.find(place, &ended.key) else {
            return false;
        };
        let is_set_anew = database.at(place, at).ends_ms != ended.at_ms;
        if is_set_anew && !planted(Bug::ExpireSetAnew) {
            return false;
        }
        self.take(place, at);
        true
    }

    /// Removes all keys of a database.
    pub fn flush(&mut self, number: u32) {
        self.is_touched |= self.cache.flush(number, self.revision);
    }

    /// Exchanges two databases.
    pub fn swap(&mut self, one: u32, other: u32) {
        self.cache.swap(one, other, self.revision);
        self.is_touched = true;
    }
}
