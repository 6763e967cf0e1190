//! The machine: one revision over all keyspaces, the sessions, and the dispatch of units.
//!
//! The revision (`zxid`) counts units that changed something; it is kept here and handed down, so that a
//! further keyspace beside the tree counts by the same one. Phases of a unit: time is clamped, the session's
//! envelope is admitted, the operations run (undone as a whole if one is refused), the revision advances,
//! events stand in the output already, the reply follows.

use crate::restore::Restore;
use crate::sessions::{self, Admission, Session, Sessions};
use crate::tree::Tree;
use crate::tree::kind::NodeKind;
use crate::tree::ops::Context;
use crate::{
    Answer, AttachRefusal, Command, Envelope, ErrorCode, OpReply, Origin, Output, Principal, Query,
    Reply, SessionEnd, Stat, TreeOp, Unit,
};
use base::{ApplyFault, CoreAddress, Machine, SessionId, SnapshotPoll, Stamp, State, Writer};
use bytes::Bytes;
use twox_hash::XxHash64;

/// A session as others may see it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SessionView {
    /// Its id.
    pub id: SessionId,
    /// Shown again to resume.
    pub password: [u8; 16],
    /// Granted time-out in milliseconds.
    pub timeout_ms: u32,
    /// Attachments so far, from 1.
    pub generation: u32,
    /// The core that its connection is (or was last) on.
    pub home: CoreAddress,
    /// The last command of this attachment that was consumed.
    pub sequence: u64,
    /// Ephemeral nodes that it owns.
    pub ephemeral_count: usize,
}

/// Sizes, for people.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Nodes of the tree, with the four that always exist.
    pub nodes: usize,
    /// Ephemeral nodes.
    pub ephemerals: usize,
    /// Sessions.
    pub sessions: usize,
    /// Bytes of names and data.
    pub data_bytes: u64,
    /// Distinct access control lists.
    pub acls: usize,
}

/// The replicated coordination machine.
#[derive(Debug)]
pub struct Coordination {
    pub(crate) zxid: i64,
    pub(crate) time_ms: i64,
    sessions: Sessions,
    pub(crate) tree: Tree,
    restoring: Option<Box<Restore>>,
}

impl Default for Coordination {
    fn default() -> Self {
        Self::new()
    }
}

/// Low bits of a session id that come from the stamp; those above are the revision that opened it, so ids
/// ascend and are never reused.
const SESSION_SEED_BITS: u32 = 12;

impl Coordination {
    /// A new machine at revision 0: the root, `/zookeeper` and its two children, no sessions.
    pub fn new() -> Self {
        Self {
            zxid: 0,
            time_ms: 0,
            sessions: Sessions::default(),
            tree: Tree::new(),
            restoring: None,
        }
    }

    pub(crate) fn from_parts(zxid: i64, time_ms: i64, sessions: Sessions, tree: Tree) -> Self {
        Self {
            zxid,
            time_ms,
            sessions,
            tree,
            restoring: None,
        }
    }

    /// Applies one decoded unit; [`Machine::apply`] without the decoding and copying.
    pub fn apply_unit(
        &mut self,
        stamp: Stamp,
        unit: Unit,
        out: &mut Vec<Output>,
    ) -> Result<(), ApplyFault> {
        let Unit { envelope, command } = unit;
        if envelope.namespace != 0 {
            let what = format!("a command for namespace {}", envelope.namespace);
            return Err(ApplyFault::UnknownCommand(what));
        }
        self.time_ms = self.time_ms.max(stamp.time_ms);
        match command {
            Command::OpenSession {
                origin,
                password,
                timeout_ms,
            } => self.open_session(stamp.seed, origin, password, timeout_ms, out),
            Command::AttachSession {
                origin,
                session,
                password,
                timeout_ms,
            } => self.attach_session(origin, session, password, timeout_ms, out),
            Command::ExpireSession {
                session,
                generation,
            } => {
                let is_current = |s: &Session| s.generation == generation;
                if self.sessions.get(session).is_some_and(is_current) {
                    self.end_session(session, out);
                    let why = SessionEnd::Expired;
                    out.push(Output::SessionEnded { session, why });
                }
            }
            Command::Reap { path, pzxid, mzxid } => {
                let seen = (pzxid, mzxid);
                let next = self.zxid + 1;
                if self.tree.reap(&path, seen, next, self.time_ms, out) {
                    self.tree.commit();
                    self.zxid = next;
                }
            }
            Command::CloseSession => {
                if self.admit(&envelope, out) {
                    self.end_session(envelope.session, out);
                    self.reply(&envelope, Reply::Closed, out);
                    out.push(Output::SessionEnded {
                        session: envelope.session,
                        why: SessionEnd::Closed,
                    });
                }
            }
            Command::Write(op) => {
                if self.admit(&envelope, out) {
                    let result = self.write(&envelope, op, out);
                    self.reply(&envelope, Reply::Write(result), out);
                }
            }
            Command::Multi(ops) => {
                if self.admit(&envelope, out) {
                    let result = self.multi(&envelope, ops, out);
                    self.reply(&envelope, Reply::Multi(result), out);
                }
            }
        }
        Ok(())
    }

    fn open_session(
        &mut self,
        seed: u64,
        origin: Origin,
        password: [u8; 16],
        timeout_ms: u32,
        out: &mut Vec<Output>,
    ) {
        self.zxid += 1;
        let low = seed as i64 & ((1 << SESSION_SEED_BITS) - 1);
        let session = SessionId(self.zxid << SESSION_SEED_BITS | low);
        assert!(session.0 > 0, "revisions stay below 2^51");
        let state = Session {
            password,
            timeout_ms,
            generation: 1,
            home: origin.home,
            sequence: 0,
        };
        self.sessions.put(session, state);
        out.push(Output::SessionOpened {
            origin,
            session,
            password,
            timeout_ms,
            zxid: self.zxid,
        });
    }

    fn attach_session(
        &mut self,
        origin: Origin,
        session: SessionId,
        password: [u8; 16],
        timeout_ms: u32,
        out: &mut Vec<Output>,
    ) {
        let old = match self.sessions.get(session) {
            Some(old) if old.password == password => *old,
            found => {
                let why = match found {
                    Some(_) => AttachRefusal::WrongPassword,
                    None => AttachRefusal::NoSession,
                };
                out.push(Output::AttachRefused { origin, why });
                return;
            }
        };
        self.zxid += 1;
        let generation = old.generation.wrapping_add(1);
        let state = Session {
            password,
            timeout_ms,
            generation,
            home: origin.home,
            sequence: 0,
        };
        self.sessions.put(session, state);
        out.push(Output::SessionAttached {
            origin,
            session,
            generation,
            password,
            timeout_ms,
            previous_home: old.home,
            zxid: self.zxid,
        });
    }

    fn end_session(&mut self, session: SessionId, out: &mut Vec<Output>) {
        self.zxid += 1;
        self.tree.end_session(session.0, self.zxid, out);
        self.tree.commit();
        self.sessions.remove(session);
    }

    /// True when the command shall run.
    fn admit(&mut self, envelope: &Envelope, out: &mut Vec<Output>) -> bool {
        match self.sessions.admit(envelope) {
            Admission::Next => true,
            Admission::Repetition => false,
            Admission::Refused(why) => {
                out.push(Output::Refused {
                    session: envelope.session,
                    generation: envelope.generation,
                    sequence: envelope.sequence,
                    why,
                });
                false
            }
        }
    }

    fn context<'a>(&self, envelope: &'a Envelope) -> Context<'a> {
        Context {
            zxid: self.zxid + 1,
            time_ms: self.time_ms,
            principal: &envelope.principal,
            session: envelope.session.0,
        }
    }

    fn write(
        &mut self,
        envelope: &Envelope,
        op: TreeOp,
        out: &mut Vec<Output>,
    ) -> Result<OpReply, ErrorCode> {
        let reply = self.tree.run(self.context(envelope), op, out)?;
        self.tree.commit();
        if reply != OpReply::Checked {
            self.zxid += 1;
        }
        Ok(reply)
    }

    fn multi(
        &mut self,
        envelope: &Envelope,
        ops: Vec<TreeOp>,
        out: &mut Vec<Output>,
    ) -> Result<Vec<OpReply>, Vec<Option<ErrorCode>>> {
        let cx = self.context(envelope);
        let events_start = out.len();
        let op_count = ops.len();
        let mut replies = Vec::with_capacity(op_count);
        for op in ops {
            match self.tree.run(cx, op, out) {
                Ok(reply) => replies.push(reply),
                Err(error) => {
                    self.tree.roll_back();
                    out.truncate(events_start);
                    let mut errors = vec![None; replies.len()];
                    errors.push(Some(error));
                    errors.resize(op_count, Some(ErrorCode::RuntimeInconsistency));
                    return Err(errors);
                }
            }
        }
        self.tree.commit();
        if replies.iter().any(|reply| *reply != OpReply::Checked) {
            self.zxid += 1;
        }
        Ok(replies)
    }

    fn reply(&self, envelope: &Envelope, reply: Reply, out: &mut Vec<Output>) {
        out.push(Output::Reply {
            session: envelope.session,
            generation: envelope.generation,
            sequence: envelope.sequence,
            zxid: self.zxid,
            reply,
        });
    }

    /// Answers a read from the present state.
    pub fn query(&self, principal: &Principal, query: &Query) -> Result<Answer, ErrorCode> {
        self.tree.query(principal, query)
    }

    /// A node's metadata without any check.
    pub fn stat(&self, path: &str) -> Option<Stat> {
        self.tree.stat(path)
    }

    /// What keeps a node: ZooKeeper's metadata tell clients of ephemeral nodes only.
    pub fn kind(&self, path: &str) -> Option<NodeKind> {
        self.tree.kind(path)
    }

    /// The revision: changes so far.
    pub fn zxid(&self) -> i64 {
        self.zxid
    }

    /// The machine's clock, milliseconds since 1970.
    pub fn time_ms(&self) -> i64 {
        self.time_ms
    }

    /// One session.
    pub fn session(&self, id: SessionId) -> Option<SessionView> {
        self.sessions.get(id).map(|session| self.view(id, session))
    }

    /// All sessions, by ascending id.
    pub fn sessions(&self) -> impl Iterator<Item = SessionView> + '_ {
        self.sessions
            .iter()
            .map(|(id, session)| self.view(id, session))
    }

    fn view(&self, id: SessionId, session: &Session) -> SessionView {
        SessionView {
            id,
            password: session.password,
            timeout_ms: session.timeout_ms,
            generation: session.generation,
            home: session.home,
            sequence: session.sequence,
            ephemeral_count: self.tree.ephemeral_count_of(id.0),
        }
    }

    /// Sizes, for people.
    pub fn counts(&self) -> Counts {
        Counts {
            nodes: self.tree.node_count(),
            ephemerals: self.tree.ephemeral_count(),
            sessions: self.sessions.len(),
            data_bytes: self.tree.data_bytes(),
            acls: self.tree.acl_count(),
        }
    }

    /// At most 1,000 removals that a leader should propose at machine time `now_ms` (milliseconds since
    /// 1970): containers that had children and have none now, childless TTL nodes that have outlived their
    /// time. Costs what it yields, whatever the size of the tree.
    pub fn reapable(&self, now_ms: i64) -> Vec<Command> {
        self.tree.reapable(now_ms)
    }

    /// The share of the tree in the digest: what a refused or undone unit leaves as it was.
    pub fn tree_digest(&self) -> u64 {
        self.tree.digest()
    }
}

impl Machine for Coordination {
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

impl State for Coordination {
    fn digest(&self) -> u64 {
        let mut w = Writer::new();
        w.i64(self.zxid).i64(self.time_ms);
        XxHash64::oneshot(0, w.as_slice())
            .wrapping_add(self.tree.digest())
            .wrapping_add(self.sessions.digest())
    }

    /// Copies the sessions (about 60 bytes each, held until polled); the tree is written as it is visited.
    fn begin_snapshot(&mut self) {
        self.tree.abort_snapshot();
        let mut header = Writer::new();
        header.u8(crate::restore::HEADER);
        header.i64(self.zxid).i64(self.time_ms).u64(self.digest());
        header.u64(self.tree.node_count() as u64);
        header.u64(self.sessions.len() as u64);
        let sessions = self.sessions.iter().map(|(id, session)| {
            let mut w = Writer::new();
            w.u8(crate::restore::SESSION);
            sessions::encode(&mut w, id, session);
            w.into_vec()
        });
        self.tree
            .begin_snapshot(std::iter::once(header.into_vec()).chain(sessions));
    }

    fn poll_snapshot(&mut self, bytes_max: usize) -> SnapshotPoll {
        self.tree.poll_snapshot(bytes_max)
    }

    fn abort_snapshot(&mut self) {
        self.tree.abort_snapshot();
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
            .ok_or("restoring a coordination snapshot: no chunk was fed")?;
        *self = restoring.finish()?;
        Ok(())
    }
}
