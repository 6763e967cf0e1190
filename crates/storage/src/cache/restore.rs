//! Reading a snapshot back: chunks in order, records as soon as they are whole, and at the end the proof that count and digest
//! are those of the cut.

use super::Cache;
use super::database::{Database, Place};
use super::entry::Entry;
use super::hash::Seed;
use super::machine::DATABASES;
use super::snapshot::{DATABASE, EMPTIED, END, FORMAT, HEADER, Header, KEY};
use super::value::End;
use super::value::{Fields, Held, Kind, List, Members, Sorted, Value};
use base::slot::SLOTS;
use base::{DecodeError, Reader, State, chunk};

/// A machine whose state is still arriving.
#[derive(Debug, Default)]
pub struct Restore {
    header: Option<Header>,
    databases: Vec<Database>,
    /// The part of a record that has arrived.
    arrived: Vec<u8>,
    records: u64,
    chunks: u32,
    ended: bool,
}

impl Restore {
    /// Takes the next chunk.
    pub fn chunk(&mut self, chunk: &[u8]) -> Result<(), String> {
        let number = self.chunks;
        self.records_of(chunk)
            .map_err(|what| format!("restoring chunk {number} of a cache snapshot: {what}"))
    }

    fn records_of(&mut self, chunk: &[u8]) -> Result<(), String> {
        let r = chunk::open(chunk, FORMAT, self.chunks)?;
        if self.ended {
            return Err("the snapshot had ended before it".into());
        }
        self.chunks += 1;
        let mut arrived = std::mem::take(&mut self.arrived);
        arrived.extend_from_slice(r.rest());
        let mut rest = &arrived[..];
        while let Some((length, behind)) = rest.split_first_chunk()
            && let Ok(length) = usize::try_from(u64::from_be_bytes(*length))
            && let Some((record, behind)) = behind.split_at_checked(length)
        {
            let mut record = Reader::new(record);
            self.record(&mut record)
                .and_then(|()| record.finish())
                .map_err(|e| format!("record {}: {e}", self.records))?;
            rest = behind;
        }
        let done = arrived.len() - rest.len();
        arrived.drain(..done);
        self.arrived = arrived;
        Ok(())
    }

    fn record(&mut self, r: &mut Reader<'_>) -> Result<(), DecodeError> {
        let tag = r.u8()?;
        if self.ended {
            return Err(DecodeError::Invalid("record after the last one"));
        }
        match (tag, self.header) {
            (HEADER, None) => self.header(r)?,
            (HEADER, Some(_)) | (_, None) => {
                return Err(DecodeError::Invalid("place of the header"));
            }
            (DATABASE, _) => {
                let database = self.database(r)?;
                database.floor = r.u64()?;
            }
            (EMPTIED, _) => self.emptied(r)?,
            (KEY, Some(header)) => self.key(header.seed.unwrap_or_default(), r)?,
            (END, _) => {
                if r.u64()? != self.records {
                    return Err(DecodeError::Invalid("count of records"));
                }
                self.ended = true;
                return Ok(());
            }
            _ => return Err(DecodeError::Invalid("record tag")),
        }
        self.records += 1;
        Ok(())
    }

    fn header(&mut self, r: &mut Reader<'_>) -> Result<(), DecodeError> {
        let (revision, time_ms, is_drawn) = (r.u64()?, r.i64()?, r.bool()?);
        let seed = Seed {
            k0: r.u64()?,
            k1: r.u64()?,
        };
        self.header = Some(Header {
            revision,
            time_ms,
            seed: is_drawn.then_some(seed),
            digest: r.u64()?,
            key_count: r.u64()?,
        });
        self.databases = (0..DATABASES).map(|_| Database::new(0)).collect();
        Ok(())
    }

    fn database(&mut self, r: &mut Reader<'_>) -> Result<&mut Database, DecodeError> {
        self.databases
            .get_mut(r.u32()? as usize)
            .ok_or(DecodeError::Invalid("number of a database"))
    }

    fn emptied(&mut self, r: &mut Reader<'_>) -> Result<(), DecodeError> {
        let database = self.database(r)?;
        let (slot, at) = (r.u16()?, r.u64()?);
        let was_known = database.slot(slot).is_some_and(|slot| slot.emptied_at > 0);
        if slot >= SLOTS || at == 0 || was_known {
            return Err(DecodeError::Invalid("slot"));
        }
        database.restore_emptied(slot, at);
        Ok(())
    }

    fn key(&mut self, seed: Seed, r: &mut Reader<'_>) -> Result<(), DecodeError> {
        let database = self.database(r)?;
        let (version, ends_ms) = (r.u64()?, r.i64()?);
        let key = r.bytes()?;
        let place = Place::of(seed, key);
        if database.find(place, key).is_some() {
            return Err(DecodeError::Invalid("key twice"));
        }
        let mut entry = match r.u8()? {
            kind if kind == Kind::String as u8 => {
                Entry::string(place.hash32(), key, r.bytes()?, ends_ms)
            }
            kind => Entry::held(place.hash32(), key, decode_value(seed, kind, r)?, ends_ms),
        };
        entry.version = version;
        database.restore(place, entry);
        Ok(())
    }

    /// The machine, if it is the one of the cut.
    pub fn finish(self) -> Result<Cache, String> {
        let refuse = |what: String| format!("restoring a cache snapshot: {what}; take another");
        let header = match self.header {
            Some(header) if self.ended && self.arrived.is_empty() => header,
            _ => return Err(refuse(format!("it ends after {} chunks", self.chunks))),
        };
        let cache = Cache::from_parts(header, self.databases);
        let key_count = cache.counts().keys as u64;
        if key_count != header.key_count {
            return Err(refuse(format!(
                "it holds {key_count} keys, at the cut there were {}",
                header.key_count
            )));
        }
        if cache.digest() != header.digest {
            return Err(refuse(format!(
                "its digest is {:016x}, at the cut it was {:016x}",
                cache.digest(),
                header.digest
            )));
        }
        Ok(cache)
    }
}

fn decode_value(seed: Seed, kind: u8, r: &mut Reader<'_>) -> Result<Value, DecodeError> {
    let twice = DecodeError::Invalid("element twice");
    let is_kind = |of: Kind| kind == of as u8;
    let count = r.count(4)?;
    let value = if is_kind(Kind::List) {
        let mut list = List::default();
        for _ in 0..count {
            list.push(End::Right, r.bytes()?);
        }
        list.into_value()
    } else if is_kind(Kind::Hash) {
        let mut fields = Fields::default();
        for _ in 0..count {
            if !fields.set(seed, r.bytes()?, r.bytes()?) {
                return Err(twice);
            }
        }
        fields.into_value()
    } else if is_kind(Kind::Set) {
        let mut members = Members::default();
        for _ in 0..count {
            if !members.add(seed, r.bytes()?) {
                return Err(twice);
            }
        }
        members.into_value()
    } else if is_kind(Kind::Sorted) {
        let mut sorted = Sorted::default();
        for _ in 0..count {
            let score = f64::from_bits(r.u64()?);
            if score.is_nan() {
                return Err(DecodeError::Invalid("score"));
            }
            if !sorted.set(seed, r.bytes()?, score) {
                return Err(twice);
            }
        }
        sorted.into_value()
    } else {
        return Err(DecodeError::Invalid("kind of a value"));
    };
    match value.len() {
        0 => Err(DecodeError::Invalid("empty value")),
        _ => Ok(value),
    }
}
