//! Reading a snapshot back: chunks in order, whole records, and at the end the proof that counts and digest
//! are those of the cut.

use crate::Coordination;
use crate::sessions::{self, Sessions};
use crate::tree::restore::TreeRestore;
use crate::tree::snapshot::{END, FORMAT, NODE};
pub use crate::tree::snapshot::{HEADER, SESSION};
use base::{DecodeError, Reader, State, chunk};

/// What the first record says of the state at the cut.
#[derive(Clone, Copy, Debug)]
struct Header {
    zxid: i64,
    time_ms: i64,
    digest: u64,
    nodes: u64,
    sessions: u64,
}

/// A machine whose state is still arriving.
#[derive(Debug)]
pub struct Restore {
    header: Option<Header>,
    sessions: Sessions,
    tree: TreeRestore,
    records: u64,
    chunks: u32,
    ended: bool,
}

impl Default for Restore {
    fn default() -> Self {
        Self {
            header: None,
            sessions: Sessions::default(),
            tree: TreeRestore::new(),
            records: 0,
            chunks: 0,
            ended: false,
        }
    }
}

impl Restore {
    /// Takes the next chunk.
    pub fn chunk(&mut self, chunk: &[u8]) -> Result<(), String> {
        let number = self.chunks;
        self.records_of(chunk)
            .map_err(|what| format!("restoring chunk {number} of a coordination snapshot: {what}"))
    }

    fn records_of(&mut self, chunk: &[u8]) -> Result<(), String> {
        let mut r = chunk::open(chunk, FORMAT, self.chunks)?;
        if self.ended {
            return Err("the snapshot had ended before it".into());
        }
        self.chunks += 1;
        while !r.is_empty() {
            let mut record = Reader::new(r.bytes().map_err(|e| e.to_string())?);
            self.record(&mut record)
                .and_then(|()| record.finish())
                .map_err(|e| format!("record {}: {e}", self.records))?;
        }
        Ok(())
    }

    fn record(&mut self, r: &mut Reader<'_>) -> Result<(), DecodeError> {
        let tag = r.u8()?;
        if self.ended {
            return Err(DecodeError::Invalid("record after the last one"));
        }
        if self.header.is_some() == (tag == HEADER) {
            return Err(DecodeError::Invalid("place of the header"));
        }
        match tag {
            HEADER => {
                self.header = Some(Header {
                    zxid: r.i64()?,
                    time_ms: r.i64()?,
                    digest: r.u64()?,
                    nodes: r.u64()?,
                    sessions: r.u64()?,
                });
            }
            SESSION => {
                let (id, session) = sessions::decode(r)?;
                self.sessions.put(id, session);
            }
            NODE => self.tree.node(r)?,
            END => {
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

    /// The machine, if it is the one of the cut.
    pub fn finish(self) -> Result<Coordination, String> {
        let refuse =
            |what: String| format!("restoring a coordination snapshot: {what}; take another");
        let header = match self.header {
            Some(header) if self.ended => header,
            _ => return Err(refuse(format!("it ends after {} chunks", self.chunks))),
        };
        let tree = self.tree.finish().map_err(refuse)?;
        let counts = (tree.node_count() as u64, self.sessions.len() as u64);
        if counts != (header.nodes, header.sessions) {
            return Err(refuse(format!(
                "it holds {} nodes and {} sessions, at the cut there were {} and {}",
                counts.0, counts.1, header.nodes, header.sessions
            )));
        }
        let is_unknown = |owner: &i64| self.sessions.get(base::SessionId(*owner)).is_none();
        if let Some(owner) = tree.owners().find(is_unknown) {
            let session = base::SessionId(owner);
            return Err(refuse(format!(
                "it has nodes of {session}, which is no session"
            )));
        }
        let machine = Coordination::from_parts(header.zxid, header.time_ms, self.sessions, tree);
        if machine.digest() != header.digest {
            return Err(refuse(format!(
                "its digest is {:016x}, at the cut it was {:016x}",
                machine.digest(),
                header.digest
            )));
        }
        Ok(machine)
    }
}
