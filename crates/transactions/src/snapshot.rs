//! A snapshot: everything, copied at the cut. It is bounded: what is under way, what waits, what is remembered.
//!
//! A chunk is a `u16` format version, a `u32` chunk number from 0, then whole records: a `u32` length, a tag, a
//! body. The last record says how many there were.

use crate::ended::Ended;
use crate::machine::Transactions;
use crate::record::{Item, Promise, Record};
use crate::unit::{TxnId, Work};
use base::{DecodeError, Reader, SnapshotPoll, Stamp, State, Writer};
use bytes::Bytes;
use std::collections::VecDeque;

const FORMAT: u16 = 1;
const HEADER: u8 = 1;
const RECORD: u8 = 2;
const PROMISE: u8 = 3;
const PARKED: u8 = 4;
const ENDED: u8 = 5;
const END: u8 = 6;

#[derive(Debug)]
pub(crate) struct Cut {
    records: VecDeque<Vec<u8>>,
    chunks: u32,
}

impl Cut {
    pub fn new<W: Work>(all: &Transactions<W>, counters: [u64; 3]) -> Self {
        let mut records = VecDeque::new();
        let mut put = |tag: u8, write: &dyn Fn(&mut Writer)| {
            let mut w = Writer::new();
            w.u8(tag);
            write(&mut w);
            records.push_back(w.into_vec());
        };
        put(HEADER, &|w| {
            counters.iter().for_each(|counter| {
                w.u64(*counter);
            });
            w.u64(all.parked.first()).u64(all.digest());
        });
        for (id, record) in all.records.iter() {
            put(RECORD, &|w| {
                w.str(id.as_str());
                record.encode_into(w);
            });
        }
        for (id, promise) in all.promises.iter() {
            put(PROMISE, &|w| {
                w.str(id.as_str());
                promise.encode_into(w);
            });
        }
        for (stamp, unit) in all.parked.iter() {
            put(PARKED, &|w| {
                w.i64(stamp.time_ms).u64(stamp.seed).bytes(unit);
            });
        }
        for (id, ended) in all.ended.iter() {
            put(ENDED, &|w| {
                w.str(id.as_str());
                ended.encode_into(w);
            });
        }
        let count = records.len() as u64;
        let mut w = Writer::new();
        w.u8(END).u64(count);
        records.push_back(w.into_vec());
        Self { records, chunks: 0 }
    }

    pub fn poll(&mut self, bytes_max: usize) -> SnapshotPoll {
        if self.records.is_empty() {
            return SnapshotPoll::Done;
        }
        let mut w = Writer::new();
        base::chunk::begin(&mut w, FORMAT, self.chunks);
        self.chunks += 1;
        while let Some(record) = self.records.pop_front() {
            w.bytes(&record);
            if w.len() >= bytes_max {
                break;
            }
        }
        SnapshotPoll::Chunk(w.into_vec())
    }
}

#[derive(Debug)]
pub(crate) struct Restore<W> {
    made: Transactions<W>,
    chunks: u32,
    records: u64,
    counters: [u64; 3],
    digest: u64,
    ended: bool,
}

impl<W> Default for Restore<W> {
    fn default() -> Self {
        Self {
            made: Transactions::default(),
            chunks: 0,
            records: 0,
            counters: [0; 3],
            digest: 0,
            ended: false,
        }
    }
}

impl<W: Work> Restore<W> {
    pub fn digest(&self) -> u64 {
        self.digest
    }

    pub fn chunk(&mut self, chunk: &[u8]) -> Result<(), String> {
        let number = self.chunks;
        let place = |e: String| format!("chunk {number} of a snapshot of transactions: {e}");
        let mut r = base::chunk::open(chunk, FORMAT, number).map_err(place)?;
        self.chunks += 1;
        while !r.is_empty() {
            let record = r.bytes().map_err(|e| place(e.to_string()))?;
            (self.record(&Bytes::copy_from_slice(record))).map_err(|e| place(e.to_string()))?;
        }
        Ok(())
    }

    fn record(&mut self, bytes: &Bytes) -> Result<(), DecodeError> {
        let r = &mut Reader::new(bytes);
        let tag = r.u8()?;
        if self.ended || (tag == HEADER) != (self.records == 0) {
            return Err(DecodeError::Invalid("order of records"));
        }
        match tag {
            HEADER => {
                for counter in &mut self.counters {
                    *counter = r.u64()?;
                }
                self.made.parked.begin_at(r.u64()?);
                self.digest = r.u64()?;
            }
            RECORD => {
                let id = TxnId::decode_from(r)?;
                let record = Record::decode_from(bytes, r)?;
                self.made.records.put(id, record);
            }
            PROMISE => {
                let id = TxnId::decode_from(r)?;
                let promise = Promise::decode_from(bytes, r)?;
                self.made.promises.put(id, promise);
            }
            PARKED => {
                let stamp = Stamp {
                    time_ms: r.i64()?,
                    seed: r.u64()?,
                };
                self.made.parked.push(stamp, bytes.slice_ref(r.bytes()?));
            }
            ENDED => {
                let id = TxnId::decode_from(r)?;
                let ended = Ended::decode_from(bytes, r)?;
                self.made.ended.insert(id, ended);
            }
            END => {
                self.ended = r.u64()? == self.records;
                if !self.ended {
                    return Err(DecodeError::Invalid("number of records"));
                }
            }
            _ => return Err(DecodeError::Invalid("tag of a record")),
        }
        self.records += 1;
        r.finish()
    }

    pub fn finish(self) -> Result<([u64; 3], Transactions<W>), String> {
        if !self.ended {
            return Err("a snapshot of transactions ends before its last record".into());
        }
        Ok((self.counters, self.made))
    }
}
