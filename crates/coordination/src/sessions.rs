//! Replicated sessions: who may still speak, from where, and what of it has been heard.

use crate::{Envelope, UnitRefusal};
use base::planted::{Bug, planted};
use base::{CoreAddress, CoreId, DecodeError, NodeId, Reader, SessionId, Writer};
use std::collections::BTreeMap;
use twox_hash::XxHash64;

/// One session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Session {
    pub password: [u8; 16],
    pub timeout_ms: u32,
    pub generation: u32,
    pub home: CoreAddress,
    pub sequence: u64,
}

/// All sessions by id, and the sum of their hashes.
#[derive(Debug, Default)]
pub struct Sessions {
    table: BTreeMap<SessionId, Session>,
    digest: u64,
}

/// What becomes of a session's command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Admission {
    /// It is the next one, and counts as consumed from now on.
    Next,
    /// It was consumed before: nothing happens.
    Repetition,
    /// It is not looked at.
    Refused(UnitRefusal),
}

impl Sessions {
    /// A new session, or a changed one in place of the old.
    pub fn put(&mut self, id: SessionId, session: Session) {
        self.digest = self.digest.wrapping_add(hash(id, &session));
        if let Some(old) = self.table.insert(id, session) {
            self.digest = self.digest.wrapping_sub(hash(id, &old));
        }
    }

    /// Ends a session.
    pub fn remove(&mut self, id: SessionId) -> Option<Session> {
        let session = self.table.remove(&id)?;
        self.digest = self.digest.wrapping_sub(hash(id, &session));
        Some(session)
    }

    pub fn get(&self, id: SessionId) -> Option<&Session> {
        self.table.get(&id)
    }

    pub fn iter(&self) -> impl Iterator<Item = (SessionId, &Session)> {
        self.table.iter().map(|(id, session)| (*id, session))
    }

    pub fn len(&self) -> usize {
        self.table.len()
    }

    pub fn digest(&self) -> u64 {
        self.digest
    }

    /// Decides about a command by its envelope; an accepted one advances the sequence.
    pub fn admit(&mut self, envelope: &Envelope) -> Admission {
        let Some(session) = self.table.get(&envelope.session) else {
            return Admission::Refused(UnitRefusal::NoSession);
        };
        if session.generation != envelope.generation {
            return if planted(Bug::SkipGenerationCheck) {
                Admission::Next
            } else {
                Admission::Refused(UnitRefusal::OldGeneration)
            };
        }
        if envelope.sequence <= session.sequence {
            return if planted(Bug::ApplyTwice) {
                Admission::Next
            } else {
                Admission::Repetition
            };
        }
        if envelope.sequence != session.sequence + 1 {
            return Admission::Refused(UnitRefusal::Gap);
        }
        let next = Session {
            sequence: envelope.sequence,
            ..*session
        };
        self.put(envelope.session, next);
        Admission::Next
    }
}

fn hash(id: SessionId, session: &Session) -> u64 {
    let mut w = Writer::new();
    encode(&mut w, id, session);
    XxHash64::oneshot(0, w.as_slice())
}

/// Appends the byte form, for snapshots and digests.
pub fn encode(w: &mut Writer, id: SessionId, session: &Session) {
    w.i64(id.0).raw(&session.password);
    w.u32(session.timeout_ms).u32(session.generation);
    w.u64(session.home.node.0).u16(session.home.core.0);
    w.u64(session.sequence);
}

/// Reads the byte form.
pub fn decode(r: &mut Reader<'_>) -> Result<(SessionId, Session), DecodeError> {
    let id = SessionId(r.i64()?);
    if id.0 <= 0 {
        return Err(DecodeError::Invalid("session id"));
    }
    let session = Session {
        password: r.take(16)?.try_into().expect("16 bytes were taken"),
        timeout_ms: r.u32()?,
        generation: r.u32()?,
        home: CoreAddress {
            node: NodeId(r.u64()?),
            core: CoreId(r.u16()?),
        },
        sequence: r.u64()?,
    };
    Ok((id, session))
}
