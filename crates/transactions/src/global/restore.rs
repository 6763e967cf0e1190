//! The snapshot of global transactions, and reading it back: a head that says what the whole must be, then rows.
//! A machine that was never used has no piece at all, so that versions without it can read the others'.

use super::machine::Globals;
use super::model::Global;
use base::{DecodeError, SnapshotPoll, State, Writer, chunk};
use std::collections::VecDeque;
use std::sync::Arc;

/// Version of the form.
const FORMAT: u16 = 1;

#[derive(Debug)]
pub(super) struct Cut {
    head: Option<Vec<u8>>,
    rows: VecDeque<(String, Arc<Global>)>,
    number: u32,
}

impl Cut {
    pub fn new(all: &Globals, rows: VecDeque<(String, Arc<Global>)>) -> Self {
        let mut w = Writer::new();
        w.u64(all.begun).u64(all.succeeded).u64(all.failed);
        w.u64(all.called).i64(all.time_ms).u64(all.digest());
        Self {
            head: Some(w.into_vec()),
            rows,
            number: 0,
        }
    }

    pub fn poll(&mut self, bytes_max: usize) -> SnapshotPoll {
        if self.head.is_none() && self.rows.is_empty() {
            return SnapshotPoll::Done;
        }
        let mut w = Writer::new();
        chunk::begin(&mut w, FORMAT, self.number);
        self.number += 1;
        if let Some(head) = self.head.take() {
            w.raw(&head);
        }
        while w.len() < bytes_max
            && let Some((gid, global)) = self.rows.pop_front()
        {
            w.str(&gid);
            global.encode_into(&mut w);
        }
        SnapshotPoll::Chunk(w.into_vec())
    }
}

#[derive(Debug, Default)]
pub(super) struct Restoring {
    all: Globals,
    digest: u64,
    number: u32,
}

impl Restoring {
    pub fn feed(&mut self, piece: &[u8]) -> Result<(), String> {
        let fault =
            |e: DecodeError| format!("a piece of global transactions: {e}; take another snapshot");
        let mut r = chunk::open(piece, FORMAT, self.number)?;
        let mut read = || {
            if self.number == 0 {
                self.all.begun = r.u64()?;
                self.all.succeeded = r.u64()?;
                self.all.failed = r.u64()?;
                self.all.called = r.u64()?;
                self.all.time_ms = r.i64()?;
                self.digest = r.u64()?;
            }
            while !r.is_empty() {
                let gid = r.str()?.to_owned();
                self.all.link(gid, Arc::new(Global::decode_from(&mut r)?));
            }
            Ok(())
        };
        read().map_err(fault)?;
        self.number += 1;
        Ok(())
    }

    pub fn finish(self) -> Result<Globals, String> {
        if self.all.digest() != self.digest {
            return Err("what was restored of global transactions has another digest; take another snapshot".into());
        }
        Ok(self.all)
    }
}
