//! The life of a replica: loading → active → (perhaps) silent.
//!
//! Phases of [`Shard::flush`]: propose what was gathered, then take raft's work (send, write, apply)
//! until there is none, then move snapshots along. Nothing here does IO: what is to be done comes out
//! of [`Shard::poll_event`], what is durable is told by the journal's position.

use crate::entry::Batch;
use crate::machine::{ShardMachine, ShardOutput};
use crate::snapshot::{Header, Record, Restorer};
use base::planted::{Bug, planted};
use base::{LogIndex, NodeId, Now, ReplicaId, Rng, ShardId, SnapshotPoll, Stamp, Term};
use bytes::Bytes;
use journal::{
    DiskOp, DiskResult, FileId, Frame, Journal, Position, RecoveredShard, ShardVerdict, Ticket,
};
use replication::raft::log::SnapshotOffer;
use replication::raft::{
    Change, Committed, Entry, EntryType, Group, GroupConfig, GroupLog, Membership, Message,
    Persist, Replica,
};
use std::collections::{BTreeMap, VecDeque};

/// Settings of a replica.
#[derive(Clone, Debug)]
pub struct ShardConfig {
    /// Of its group.
    pub group: GroupConfig,
    /// Snapshot when the log since the last one exceeds this and the state's own size, in bytes.
    pub snapshot_log_bytes: u64,
}

/// A piece of a snapshot file on its way to a peer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SnapshotPiece {
    /// Which snapshot.
    pub index: LogIndex,
    /// Where in the file.
    pub offset: u64,
    /// The file's size; 0 says that this snapshot is not there (any more).
    pub total: u64,
    /// The bytes.
    pub bytes: Bytes,
}

/// What a replica tells its core, in order.
#[derive(Clone, PartialEq, Debug)]
pub enum ShardEvent {
    /// Send to the replica named in the message.
    Send(Message),
    /// A unit was applied and told this.
    Output(ShardOutput),
    /// The read barrier of this token is reached: local state is at least as new as when it was asked for.
    Barrier(u64),
    /// Role, leader or term changed.
    Role,
    /// Members changed.
    Membership,
    /// Ask the node of this replica for a piece of a snapshot.
    Fetch {
        /// Whom.
        from: ReplicaId,
        /// Which snapshot.
        index: LogIndex,
        /// From where.
        offset: u64,
        /// At most so many bytes.
        length: u32,
    },
    /// Send this piece to a node that asked.
    Piece {
        /// The node.
        to: NodeId,
        /// The piece.
        piece: SnapshotPiece,
    },
    /// A snapshot replaced the state: whoever depended on the order of events here must start anew.
    Installed,
    /// This replica says nothing any more; the catalog shall replace it.
    Silent(String),
    /// The group removed this replica.
    Removed,
    /// Tell this follower that the group sleeps.
    Hibernate {
        /// The follower.
        to: ReplicaId,
        /// In which term.
        term: Term,
        /// With which last index.
        last: LogIndex,
    },
    /// Carry out a disk operation on the shard's lane.
    Disk(DiskOp),
    /// A snapshot is complete on disk.
    SnapshotTaken(LogIndex),
}

/// A replica of a shard.
#[derive(Debug)]
pub struct Shard {
    id: ShardId,
    replica: ReplicaId,
    config: ShardConfig,
    rng: Rng,
    phase: Phase,
    machine: ShardMachine,
    applied: (LogIndex, Term),
    pending_units: VecDeque<Bytes>,
    pending_bytes: usize,
    unsynced: VecDeque<Unsynced>,
    barriers: Barriers,
    digests: VecDeque<(LogIndex, u64)>,
    digest_sent: LogIndex,
    log_bytes_since_snapshot: u64,
    snapshot_requested: bool,
    snapshot: Option<SnapshotFile>,
    retired: Vec<Retired>,
    taking: Option<Taking>,
    receiving: Option<Box<Receiving>>,
    release_at: Option<(Position, LogIndex)>,
    tickets: BTreeMap<Ticket, Waiting>,
    last_role: Option<(replication::raft::Role, Option<ReplicaId>, Term)>,
    events: VecDeque<ShardEvent>,
}

#[derive(Debug)]
enum Phase {
    Loading(Box<Loading>),
    Active(Box<Group>),
    Silent(String),
}

#[derive(Debug)]
struct Loading {
    restorer: Restorer,
    offset: u64,
    log: GroupLog,
    index: LogIndex,
}

#[derive(Debug)]
struct Unsynced {
    position: Position,
    number: u64,
    messages: Vec<Message>,
    /// A snapshot up to here was installed: raft counts it as applied once it is durable.
    installed: Option<LogIndex>,
}

#[derive(Clone, Debug)]
struct SnapshotFile {
    index: LogIndex,
    term: Term,
    members: Membership,
    bytes: u64,
}

/// A snapshot file that a newer one replaced, kept while a peer may be reading it.
#[derive(Debug)]
struct Retired {
    index: LogIndex,
    bytes: u64,
    used_us: u64,
}

#[derive(Debug)]
struct Taking {
    header: Header,
    offset: u64,
    since_sync: u64,
    chunks: u32,
    digest: u64,
    /// Polls only while no disk operation is awaited.
    awaiting: bool,
}

#[derive(Debug)]
struct Receiving {
    message: Message,
    at_cut: Membership,
    restorer: Restorer,
    offset: u64,
    total: u64,
    asked_us: u64,
    asks: u32,
    storing: bool,
    installed_machine: Option<ShardMachine>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Waiting {
    Load,
    TakeSync,
    TakeFinalSync,
    TakeRename,
    ReceiveSync,
    ReceiveRename,
    Serve {
        to: NodeId,
        index: LogIndex,
        offset: u64,
    },
}

#[derive(Debug, Default)]
struct Barriers {
    incarnation: u64,
    next: u64,
    unsent: Vec<u64>,
    /// Under way: number → (tokens, when asked last).
    asked: BTreeMap<u64, (Vec<u64>, u64)>,
    /// Answered: wait until the index is applied.
    answered: Vec<(LogIndex, Vec<u64>)>,
}

const READ_BYTES: u32 = 1 << 20;
const CHUNK_BYTES: usize = 256 << 10;
const SYNC_EVERY_BYTES: u64 = 4 << 20;
const ENTRY_BYTES_MAX: usize = 512 << 10;
const ENTRY_UNITS_MAX: usize = 2_048;
const PENDING_BYTES_MAX: usize = 64 << 20;
const DIGEST_EVERY: LogIndex = 256;
const DIGESTS_MAX: usize = 64;
const BARRIER_RETRY_US: u64 = 100_000;
const FETCH_RETRY_US: u64 = 1_000_000;
const FETCH_RETRIES_MAX: u32 = 10;
const SERVE_GRACE_US: u64 = 10_000_000;

const KIND_UNITS: u8 = 0;
const KIND_MEMBERSHIP: u8 = 1;

impl Shard {
    fn new(
        id: ShardId,
        replica: ReplicaId,
        config: ShardConfig,
        mut rng: Rng,
        phase: Phase,
    ) -> Self {
        let barriers = Barriers {
            incarnation: rng.next_u64(),
            ..Barriers::default()
        };
        Self {
            id,
            replica,
            config,
            rng,
            phase,
            machine: ShardMachine::empty(id),
            applied: (0, 0),
            pending_units: VecDeque::new(),
            pending_bytes: 0,
            unsynced: VecDeque::new(),
            barriers,
            digests: VecDeque::new(),
            digest_sent: 0,
            log_bytes_since_snapshot: 0,
            snapshot_requested: false,
            snapshot: None,
            retired: Vec::new(),
            taking: None,
            receiving: None,
            release_at: None,
            tickets: BTreeMap::new(),
            last_role: None,
            events: VecDeque::new(),
        }
    }

    /// The first replica of a new shard: its group begins with it alone, behind an imagined entry 1 of
    /// term 1, so that whoever joins later needs the snapshot that tells who was there at the beginning.
    pub fn bootstrap(
        id: ShardId,
        replica: Replica,
        config: ShardConfig,
        rng: Rng,
        journal: &mut Journal,
    ) -> Self {
        let membership = Membership::single(replica.clone());
        let conf = Bytes::from(membership.to_bytes());
        let mark = Frame::Mark {
            replica: replica.id,
            index: 1,
            term: 1,
            conf,
        };
        journal.append(id, mark);
        let log = GroupLog::new(membership, (1, 1), Vec::new(), 1, 0, 1);
        let mut shard = Self::new(id, replica.id, config, rng, Phase::Silent(String::new()));
        shard.activate(log, (1, 1));
        shard
    }

    /// A replica that its leader will fill.
    pub fn create(
        id: ShardId,
        replica: ReplicaId,
        config: ShardConfig,
        rng: Rng,
        journal: &mut Journal,
    ) -> Self {
        let conf = Bytes::from(Membership::default().to_bytes());
        let mark = Frame::Mark {
            replica,
            index: 0,
            term: 0,
            conf,
        };
        journal.append(id, mark);
        let mut shard = Self::new(id, replica, config, rng, Phase::Silent(String::new()));
        shard.activate(GroupLog::default(), (0, 0));
        shard
    }

    /// A replica that is known to have lost its log: it only says so.
    pub fn lost(
        id: ShardId,
        replica: ReplicaId,
        config: ShardConfig,
        rng: Rng,
        reason: String,
    ) -> Self {
        let phase = Phase::Silent(reason.clone());
        let mut shard = Self::new(id, replica, config, rng, phase);
        shard.events.push_back(ShardEvent::Silent(reason));
        shard
    }

    /// A replica as its journal had it.
    pub fn recover(
        id: ShardId,
        found: RecoveredShard,
        config: ShardConfig,
        rng: Rng,
        journal: &mut Journal,
    ) -> Self {
        let Some(mark) = found.mark else {
            let reason = "its journal has no mark".to_owned();
            return Self::lost(id, ReplicaId(0), config, rng, reason);
        };
        if let ShardVerdict::Rotten(reason) = found.verdict {
            return Self::lost(id, mark.replica, config, rng, reason);
        }
        let membership = match Membership::decode(&mut base::Reader::new(&mark.conf)) {
            Ok(membership) => membership,
            Err(e) => {
                let reason = format!("its mark's membership cannot be read: {e}");
                return Self::lost(id, mark.replica, config, rng, reason);
            }
        };
        let entries: Vec<Entry> = (found.entries.into_iter())
            .map(|e| {
                let mut entry = Entry::default();
                if e.kind == KIND_MEMBERSHIP {
                    entry.set_entry_type(EntryType::EntryConfChangeV2);
                }
                entry.index = e.index;
                entry.term = e.term;
                entry.context = e.context;
                entry.data = e.data;
                entry
            })
            .collect();
        let hard_state = found.hard_state.unwrap_or_default();
        let at = (mark.index, mark.term);
        let log_bytes = entries.iter().map(|e| e.data.len() as u64).sum();
        let log = GroupLog::new(
            membership,
            at,
            entries,
            hard_state.term,
            hard_state.vote,
            hard_state.commit,
        );
        let mut shard = Self::new(id, mark.replica, config, rng, Phase::Silent(String::new()));
        shard.log_bytes_since_snapshot = log_bytes;
        if mark.index > 1 {
            shard.phase = Phase::Loading(Box::new(Loading {
                restorer: Restorer::new(id),
                offset: 0,
                log,
                index: mark.index,
            }));
            shard.load_next(journal);
        } else {
            shard.activate(log, at);
        }
        shard
    }

    fn activate(&mut self, log: GroupLog, applied: (LogIndex, Term)) {
        self.applied = applied;
        let rng = self.rng.fork(1);
        let config = self.config.group.clone();
        let mut group = Group::new(self.replica, config, log, applied.0, rng);
        // A lone voter has nobody to wait for.
        if group.membership().conf.voters == [self.replica.0] && !group.membership().is_joint() {
            group.campaign();
        }
        self.phase = Phase::Active(Box::new(group));
    }

    /// The shard.
    pub fn id(&self) -> ShardId {
        self.id
    }

    /// This replica.
    pub fn replica(&self) -> ReplicaId {
        self.replica
    }

    /// Its raft group while it is active.
    pub fn group(&self) -> Option<&Group> {
        match &self.phase {
            Phase::Active(group) => Some(group),
            _ => None,
        }
    }

    fn group_mut(&mut self) -> Option<&mut Group> {
        match &mut self.phase {
            Phase::Active(group) => Some(group),
            _ => None,
        }
    }

    /// Why it is silent, if it is.
    pub fn fault(&self) -> Option<&str> {
        match &self.phase {
            Phase::Silent(reason) => Some(reason),
            _ => None,
        }
    }

    /// Its state. What a silent or loading replica has is not to be served.
    pub fn machine(&self) -> &ShardMachine {
        &self.machine
    }

    /// Last index applied.
    pub fn applied(&self) -> LogIndex {
        self.applied.0
    }

    /// Index of the latest snapshot on disk, 0 for none.
    pub fn snapshot_index(&self) -> LogIndex {
        self.snapshot.as_ref().map_or(0, |s| s.index)
    }

    /// True when this replica leads.
    pub fn is_leader(&self) -> bool {
        self.group().is_some_and(Group::is_leader)
    }

    /// True when [`Self::flush`] has work that waits for nothing but being called.
    pub fn is_busy(&self) -> bool {
        self.taking.as_ref().is_some_and(|t| !t.awaiting)
    }

    /// Gathers a unit for the next entry. False when this replica does not lead or has too much waiting.
    pub fn propose(&mut self, unit: Bytes) -> bool {
        if !self.is_leader() || self.pending_bytes + unit.len() > PENDING_BYTES_MAX {
            return false;
        }
        self.pending_bytes += unit.len();
        self.pending_units.push_back(unit);
        true
    }

    /// Asks for a read barrier; answered by [`ShardEvent::Barrier`].
    pub fn request_barrier(&mut self, token: u64) {
        if planted(Bug::SyncWithoutReadIndex) {
            self.events.push_back(ShardEvent::Barrier(token));
            return;
        }
        self.barriers.unsent.push(token);
    }

    /// Takes a snapshot soon, if there is anything new since the last.
    pub fn request_snapshot(&mut self) {
        self.snapshot_requested = true;
    }

    /// Proposes a membership change. False when it was not taken.
    pub fn propose_membership(&mut self, changes: &[Change]) -> bool {
        self.group_mut()
            .is_some_and(|g| g.propose_membership(changes))
    }

    /// Begins to hand leadership over.
    pub fn transfer_leader(&mut self, to: ReplicaId) {
        if let Some(group) = self.group_mut() {
            group.transfer_leader(to);
        }
    }

    /// Raft's tick.
    pub fn tick(&mut self, now: Now) {
        let Phase::Active(group) = &mut self.phase else {
            return;
        };
        group.tick();
        if group.may_hibernate() {
            let (me, term, last) = (group.id(), group.term(), group.last());
            for id in group.membership().replicas.keys() {
                if *id != me {
                    let to = *id;
                    self.events
                        .push_back(ShardEvent::Hibernate { to, term, last });
                }
            }
            group.hibernate(me, term, last);
        }
        self.retry_fetch(now);
        let horizon = now.mono_us.saturating_sub(SERVE_GRACE_US);
        let id = self.id;
        for old in self.retired.extract_if(.., |r| r.used_us < horizon) {
            let file = FileId::Snapshot(id, old.index);
            self.events
                .push_back(ShardEvent::Disk(DiskOp::Delete { file }));
        }
    }

    /// The leader says that the group sleeps.
    pub fn handle_hibernate(&mut self, from: ReplicaId, term: Term, last: LogIndex) {
        if let Some(group) = self.group_mut() {
            group.hibernate(from, term, last);
        }
    }

    /// Something happened that a sleeping group should look into (its leader's node is not heard).
    pub fn wake(&mut self) {
        if let Some(group) = self.group_mut() {
            group.wake();
        }
    }

    /// Frames to this replica may have been lost.
    pub fn handle_unreachable(&mut self, replica: ReplicaId) {
        let Some(group) = self.group_mut() else {
            return;
        };
        group.report_unreachable(replica);
        let in_snapshot = |p: &replication::raft::Progress| p.replica == replica && p.in_snapshot;
        if group.progress().iter().any(in_snapshot) {
            group.report_snapshot_failure(replica);
        }
    }

    /// A raft message for this replica arrived; with a snapshot, the membership at its cut.
    pub fn handle_message(&mut self, now: Now, message: Message, at_cut: Option<Membership>) {
        let Phase::Active(group) = &mut self.phase else {
            return;
        };
        let Some(at_cut) = at_cut else {
            group.step(message);
            return;
        };
        let index = message.get_snapshot().get_metadata().index;
        let stale = message.term < group.term() || index <= group.commit();
        if stale {
            // Raft answers it without needing the state.
            group.step_snapshot(message, at_cut);
            return;
        }
        let total = manifest_bytes(&message.get_snapshot().data);
        match &mut self.receiving {
            Some(r) if snapshot_index(&r.message) == index && r.message.from == message.from => {
                r.message = message;
            }
            Some(r) if r.storing => {}
            _ => {
                self.taking = None;
                self.machine.abort_snapshot();
                self.receiving = Some(Box::new(Receiving {
                    message,
                    at_cut,
                    restorer: Restorer::new(self.id),
                    offset: 0,
                    total,
                    asked_us: 0,
                    asks: 0,
                    storing: false,
                    installed_machine: None,
                }));
                self.fetch(now);
            }
        }
    }

    // --- receiving a snapshot ---

    fn fetch(&mut self, now: Now) {
        let Some(r) = &mut self.receiving else { return };
        r.asked_us = now.mono_us;
        r.asks += 1;
        self.events.push_back(ShardEvent::Fetch {
            from: ReplicaId(r.message.from),
            index: snapshot_index(&r.message),
            offset: r.offset,
            length: READ_BYTES,
        });
    }

    fn retry_fetch(&mut self, now: Now) {
        let Some(r) = &self.receiving else { return };
        if r.storing || now.mono_us < r.asked_us + FETCH_RETRY_US {
            return;
        }
        if r.asks > FETCH_RETRIES_MAX {
            // The leader offers one again when it sees that this replica does not follow.
            self.receiving = None;
        } else {
            self.fetch(now);
        }
    }

    /// A piece of the snapshot that is being received.
    pub fn handle_piece(&mut self, now: Now, piece: SnapshotPiece, journal: &mut Journal) {
        let Some(r) = &mut self.receiving else { return };
        let index = snapshot_index(&r.message);
        if piece.index != index || r.storing {
            return;
        }
        if piece.total != r.total {
            self.receiving = None;
            return;
        }
        if piece.offset != r.offset || piece.bytes.is_empty() {
            return;
        }
        if r.restorer.feed(&piece.bytes).is_err() {
            // Damaged on the way or at its source; the leader will offer another.
            self.receiving = None;
            return;
        }
        let file = FileId::SnapshotPart(self.id, index);
        let write = DiskOp::Write {
            file,
            offset: r.offset,
            bytes: piece.bytes.clone(),
        };
        self.events.push_back(ShardEvent::Disk(write));
        r.offset += piece.bytes.len() as u64;
        r.asks = 0;
        if r.offset < r.total {
            self.fetch(now);
            return;
        }
        let restorer = std::mem::replace(&mut r.restorer, Restorer::new(self.id));
        match restorer.finish() {
            Ok((machine, _)) => {
                r.installed_machine = Some(machine);
                r.storing = true;
                self.sync(file, Waiting::ReceiveSync, journal);
            }
            Err(_) => self.receiving = None,
        }
    }

    fn install_received(&mut self) {
        let Some(r) = &mut self.receiving else { return };
        let message = std::mem::take(&mut r.message);
        let at_cut = std::mem::take(&mut r.at_cut);
        if let Some(group) = self.group_mut() {
            group.step_snapshot(message, at_cut);
        }
    }

    // --- serving a snapshot ---

    /// A node asks for a piece of a snapshot.
    pub fn handle_fetch(
        &mut self,
        now: Now,
        to: NodeId,
        index: LogIndex,
        offset: u64,
        length: u32,
        journal: &mut Journal,
    ) {
        if let Some(old) = self.retired.iter_mut().find(|r| r.index == index) {
            old.used_us = now.mono_us;
        }
        if self.file_bytes(index) == 0 {
            let piece = SnapshotPiece {
                index,
                offset,
                total: 0,
                bytes: Bytes::new(),
            };
            self.events.push_back(ShardEvent::Piece { to, piece });
            return;
        }
        let ticket = journal.next_ticket();
        let waiting = Waiting::Serve { to, index, offset };
        self.tickets.insert(ticket, waiting);
        self.events.push_back(ShardEvent::Disk(DiskOp::Read {
            file: FileId::Snapshot(self.id, index),
            offset,
            length: length.min(READ_BYTES),
            ticket,
        }));
    }

    // --- disk ---

    fn sync(&mut self, file: FileId, waiting: Waiting, journal: &mut Journal) {
        let ticket = journal.next_ticket();
        self.tickets.insert(ticket, waiting);
        self.events
            .push_back(ShardEvent::Disk(DiskOp::Sync { file, ticket }));
    }

    fn rename(&mut self, index: LogIndex, waiting: Waiting, journal: &mut Journal) {
        let ticket = journal.next_ticket();
        self.tickets.insert(ticket, waiting);
        self.events.push_back(ShardEvent::Disk(DiskOp::Rename {
            from: FileId::SnapshotPart(self.id, index),
            to: FileId::Snapshot(self.id, index),
            ticket,
        }));
    }

    fn load_next(&mut self, journal: &mut Journal) {
        let Phase::Loading(loading) = &self.phase else {
            return;
        };
        let ticket = journal.next_ticket();
        self.tickets.insert(ticket, Waiting::Load);
        self.events.push_back(ShardEvent::Disk(DiskOp::Read {
            file: FileId::Snapshot(self.id, loading.index),
            offset: loading.offset,
            length: READ_BYTES,
            ticket,
        }));
    }

    /// A ticket of the lane that is not the journal's. False when it is not this shard's either.
    pub fn handle_disk(
        &mut self,
        now: Now,
        ticket: Ticket,
        result: &DiskResult,
        journal: &mut Journal,
    ) -> bool {
        let Some(waiting) = self.tickets.remove(&ticket) else {
            return false;
        };
        match (waiting, result) {
            (Waiting::Load, DiskResult::Done(bytes)) => self.loaded(bytes, journal),
            (Waiting::Load, other) => {
                self.silence(format!("its snapshot cannot be read: {other:?}"));
            }
            (Waiting::Serve { to, index, offset }, DiskResult::Done(bytes)) => {
                let total = self.file_bytes(index);
                let piece = SnapshotPiece {
                    index,
                    offset,
                    total,
                    bytes: bytes.clone(),
                };
                self.events.push_back(ShardEvent::Piece { to, piece });
            }
            (Waiting::Serve { .. }, _) => {}
            (Waiting::TakeSync, DiskResult::Done(_)) => {
                if let Some(t) = &mut self.taking {
                    t.awaiting = false;
                }
            }
            (Waiting::TakeFinalSync, DiskResult::Done(_)) => {
                if let Some(index) = self.taking.as_ref().map(|t| t.header.index) {
                    self.rename(index, Waiting::TakeRename, journal);
                }
            }
            (Waiting::TakeRename, DiskResult::Done(_)) => self.taken(now, journal),
            (Waiting::ReceiveSync, DiskResult::Done(_)) => {
                if let Some(index) = self.receiving.as_ref().map(|r| snapshot_index(&r.message)) {
                    self.rename(index, Waiting::ReceiveRename, journal);
                }
            }
            (Waiting::ReceiveRename, DiskResult::Done(_)) => self.install_received(),
            (Waiting::TakeSync | Waiting::TakeFinalSync | Waiting::TakeRename, _) => {
                // No room or a fault: the log keeps what the snapshot would have held; try again later.
                if let Some(t) = self.taking.take() {
                    self.machine.abort_snapshot();
                    self.delete_part(t.header.index);
                }
            }
            (Waiting::ReceiveSync | Waiting::ReceiveRename, _) => {
                if let Some(r) = self.receiving.take() {
                    self.delete_part(snapshot_index(&r.message));
                }
            }
        }
        true
    }

    fn delete_part(&mut self, index: LogIndex) {
        let file = FileId::SnapshotPart(self.id, index);
        self.events
            .push_back(ShardEvent::Disk(DiskOp::Delete { file }));
    }

    fn file_bytes(&self, index: LogIndex) -> u64 {
        let latest = self.snapshot.iter().map(|s| (s.index, s.bytes));
        let older = self.retired.iter().map(|r| (r.index, r.bytes));
        (latest.chain(older))
            .find(|(i, _)| *i == index)
            .map_or(0, |(_, bytes)| bytes)
    }

    fn loaded(&mut self, bytes: &Bytes, journal: &mut Journal) {
        let Phase::Loading(loading) = &mut self.phase else {
            return;
        };
        loading.offset += bytes.len() as u64;
        if let Err(e) = loading.restorer.feed(bytes) {
            self.silence(format!("its snapshot is rotten: {e}"));
            return;
        }
        if bytes.len() == READ_BYTES as usize {
            self.load_next(journal);
            return;
        }
        let phase = std::mem::replace(&mut self.phase, Phase::Silent(String::new()));
        let Phase::Loading(loading) = phase else {
            return;
        };
        match loading.restorer.finish() {
            Ok((machine, header)) if header.index == loading.index => {
                self.machine = machine;
                let at = (header.index, header.term);
                self.snapshot = Some(SnapshotFile {
                    index: header.index,
                    term: header.term,
                    members: header.membership,
                    bytes: loading.offset,
                });
                self.activate(loading.log, at);
                self.offer();
            }
            Ok((_, header)) => self.silence(format!(
                "its snapshot is of index {}, not {}",
                header.index, loading.index
            )),
            Err(e) => self.silence(format!("its snapshot is rotten: {e}")),
        }
    }

    fn silence(&mut self, reason: String) {
        self.events.push_back(ShardEvent::Silent(reason.clone()));
        self.phase = Phase::Silent(reason);
        self.unsynced.clear();
        self.taking = None;
        self.receiving = None;
    }

    // --- the loop ---

    /// Proposes, sends, writes and applies what has gathered. `stamp_ms` is the leader's clock.
    pub fn flush(&mut self, now: Now, stamp_ms: i64, journal: &mut Journal) {
        self.handle_durable(journal);
        if !matches!(self.phase, Phase::Active(_)) {
            return;
        }
        self.propose_pending(stamp_ms);
        self.ask_barriers(now);
        while let Some(group) = self.group_mut() {
            let Some(ready) = group.poll_ready() else {
                break;
            };
            for message in ready.messages {
                self.events.push_back(ShardEvent::Send(message));
            }
            for (context, index) in ready.reads {
                self.barriers.answer(&context, index);
            }
            if let Some(persist) = ready.persist {
                self.persist(now, persist, journal);
            }
            self.apply(ready.committed);
            self.handle_durable(journal);
        }
        self.reach_barriers();
        if self.taking.is_none() && self.receiving.is_none() {
            self.begin_snapshot_if_due();
        }
        self.poll_snapshot(journal);
        self.note_role();
    }

    fn propose_pending(&mut self, stamp_ms: i64) {
        if !self.is_leader() {
            // Whoever sent them sees the change of leader and closes what depended on them.
            self.pending_units.clear();
            self.pending_bytes = 0;
            return;
        }
        while !self.pending_units.is_empty() {
            let (mut n, mut bytes) = (0, 0);
            for unit in self.pending_units.iter().take(ENTRY_UNITS_MAX) {
                if n > 0 && bytes + unit.len() > ENTRY_BYTES_MAX {
                    break;
                }
                n += 1;
                bytes += unit.len();
            }
            let stamp = Stamp {
                time_ms: stamp_ms.max(self.machine.time_ms()),
                seed: self.rng.next_u64(),
            };
            let newest = self.digests.back().copied();
            let digest = newest.filter(|(index, _)| *index > self.digest_sent);
            let units = self.pending_units.make_contiguous();
            let data = Batch::encode(stamp, digest, &units[..n]);
            if !self.group_mut().is_some_and(|g| g.propose(data)) {
                // Too much under way, or handing over: they wait.
                return;
            }
            if let Some((index, _)) = digest {
                self.digest_sent = index;
            }
            self.pending_bytes -= bytes;
            self.pending_units.drain(..n);
        }
    }

    fn persist(&mut self, now: Now, persist: Persist, journal: &mut Journal) {
        if let Some((index, term)) = persist.installed {
            self.install(now, index, term, journal);
        }
        for entry in persist.entries {
            let is_change = entry.get_entry_type() != EntryType::EntryNormal;
            self.log_bytes_since_snapshot += entry.data.len() as u64;
            let frame = Frame::Entry {
                index: entry.index,
                term: entry.term,
                kind: if is_change {
                    KIND_MEMBERSHIP
                } else {
                    KIND_UNITS
                },
                context: entry.context,
                data: if is_change { Bytes::new() } else { entry.data },
            };
            journal.append(self.id, frame);
        }
        if let Some((term, vote, commit)) = persist.hard_state {
            journal.append(self.id, Frame::HardState { term, vote, commit });
        }
        // Even a step that writes nothing may lean on what an earlier one wrote.
        self.unsynced.push_back(Unsynced {
            position: journal.appended(),
            number: persist.number,
            messages: persist.messages_after,
            installed: persist.installed.map(|(index, _)| index),
        });
    }

    /// Lets go of what waited for the journal.
    fn handle_durable(&mut self, journal: &mut Journal) {
        let durable = journal.durable();
        let early = planted(Bug::AcknowledgeBeforeSync);
        while (self.unsynced.front()).is_some_and(|u| early || u.position <= durable) {
            let step = self.unsynced.pop_front().expect("it was just seen");
            for message in step.messages {
                self.events.push_back(ShardEvent::Send(message));
            }
            if let Some(group) = self.group_mut() {
                group.handle_persisted(step.number);
                if let Some(index) = step.installed {
                    group.handle_applied(index);
                }
            }
        }
        if let Some((position, index)) = self.release_at
            && position <= durable
        {
            self.release_at = None;
            journal.release(self.id, index);
        }
    }

    fn apply(&mut self, committed: Vec<Committed>) {
        if committed.is_empty() {
            return;
        }
        let mut outputs = Vec::new();
        for entry in committed {
            if let Some(changes) = &entry.changes {
                if let Some(group) = self.group_mut() {
                    group.apply_membership(changes);
                    let me = group.id();
                    let removed = changes.contains(&Change::Remove(me));
                    if removed && !group.membership().contains(me) {
                        self.events.push_back(ShardEvent::Removed);
                    }
                }
                self.events.push_back(ShardEvent::Membership);
            } else if !entry.data.is_empty()
                && let Err(fault) = self.apply_batch(&entry, &mut outputs)
            {
                self.silence(fault.to_string());
                return;
            }
            self.applied = (entry.index, entry.term);
            if entry.index.is_multiple_of(DIGEST_EVERY) {
                self.digests.push_back((entry.index, self.machine.digest()));
                if self.digests.len() > DIGESTS_MAX {
                    self.digests.pop_front();
                }
            }
        }
        let applied = self.applied.0;
        if let Some(group) = self.group_mut() {
            group.handle_applied(applied);
        }
    }

    fn apply_batch(
        &mut self,
        entry: &Committed,
        outputs: &mut Vec<ShardOutput>,
    ) -> Result<(), base::ApplyFault> {
        let batch = Batch::decode(&entry.data)
            .map_err(|e| base::ApplyFault::UnknownCommand(format!("entry: {e}")))?;
        if let Some((index, theirs)) = batch.digest
            && let Some((_, ours)) = self.digests.iter().find(|(i, _)| *i == index)
            && *ours != theirs
        {
            return Err(base::ApplyFault::Diverged(format!(
                "digest {ours:x} at index {index}, the leader had {theirs:x}"
            )));
        }
        for (place, unit) in batch.units.iter().enumerate() {
            let stamp = Stamp {
                time_ms: batch.stamp.time_ms,
                seed: batch.stamp.seed.wrapping_add(place as u64),
            };
            self.machine.apply(stamp, unit, outputs)?;
            self.events
                .extend(outputs.drain(..).map(ShardEvent::Output));
        }
        Ok(())
    }

    fn note_role(&mut self) {
        let role = self.group().map(|g| (g.role(), g.leader(), g.term()));
        if role != self.last_role {
            self.last_role = role;
            self.events.push_back(ShardEvent::Role);
        }
    }

    // --- barriers ---

    fn ask_barriers(&mut self, now: Now) {
        let b = &mut self.barriers;
        let mut contexts = Vec::new();
        if !b.unsent.is_empty() {
            b.next += 1;
            let tokens = std::mem::take(&mut b.unsent);
            b.asked.insert(b.next, (tokens, now.mono_us));
            contexts.push(b.context(b.next));
        }
        for (number, (_, asked_us)) in &mut b.asked {
            // Raft drops read-index requests before its term's first commit and on a change of leader.
            if now.mono_us >= *asked_us + BARRIER_RETRY_US {
                *asked_us = now.mono_us;
                contexts.push(context(b.incarnation, *number));
            }
        }
        if let Some(group) = self.group_mut() {
            for context in contexts {
                group.read_index(context);
            }
        }
    }

    fn reach_barriers(&mut self) {
        let applied = self.applied.0;
        for (_, tokens) in (self.barriers.answered).extract_if(.., |(index, _)| *index <= applied) {
            for token in tokens {
                self.events.push_back(ShardEvent::Barrier(token));
            }
        }
    }

    /// True while a barrier is not reached; it wants [`Self::flush`] from time to time.
    pub fn has_barriers(&self) -> bool {
        !self.barriers.asked.is_empty() || !self.barriers.unsent.is_empty()
    }

    // --- taking and installing snapshots ---

    fn begin_snapshot_if_due(&mut self) {
        let Some(group) = self.group() else { return };
        let wanted = group.snapshot_wanted();
        let due = self.log_bytes_since_snapshot > self.config.snapshot_log_bytes
            && self.log_bytes_since_snapshot > self.machine.bytes();
        if !(due || wanted || self.snapshot_requested) {
            return;
        }
        let membership = group.membership().clone();
        self.snapshot_requested = false;
        if self.applied.0 <= self.snapshot_index().max(1) {
            self.offer();
            return;
        }
        let header = Header {
            shard: self.id,
            index: self.applied.0,
            term: self.applied.1,
            membership,
        };
        let digest = self.machine.digest();
        self.machine.begin_snapshot();
        let mut bytes = Vec::new();
        Record::Header(header.clone()).encode(&mut bytes);
        let offset = bytes.len() as u64;
        self.events.push_back(ShardEvent::Disk(DiskOp::Write {
            file: FileId::SnapshotPart(self.id, header.index),
            offset: 0,
            bytes: bytes.into(),
        }));
        self.log_bytes_since_snapshot = 0;
        self.taking = Some(Taking {
            header,
            offset,
            since_sync: 0,
            chunks: 0,
            digest,
            awaiting: false,
        });
    }

    fn poll_snapshot(&mut self, journal: &mut Journal) {
        let Some(t) = &mut self.taking else { return };
        if t.awaiting {
            return;
        }
        let mut bytes = Vec::new();
        let done = match self.machine.poll_snapshot(CHUNK_BYTES) {
            SnapshotPoll::Chunk(chunk) => {
                t.chunks += 1;
                Record::Chunk(chunk).encode(&mut bytes);
                false
            }
            SnapshotPoll::Done => {
                let (chunks, digest) = (t.chunks, t.digest);
                Record::End { chunks, digest }.encode(&mut bytes);
                true
            }
        };
        let file = FileId::SnapshotPart(self.id, t.header.index);
        let offset = t.offset;
        t.offset += bytes.len() as u64;
        t.since_sync += bytes.len() as u64;
        let sync = if done {
            Some(Waiting::TakeFinalSync)
        } else if t.since_sync >= SYNC_EVERY_BYTES {
            t.since_sync = 0;
            Some(Waiting::TakeSync)
        } else {
            None
        };
        t.awaiting = sync.is_some();
        self.events.push_back(ShardEvent::Disk(DiskOp::Write {
            file,
            offset,
            bytes: bytes.into(),
        }));
        if let Some(waiting) = sync {
            self.sync(file, waiting, journal);
        }
    }

    fn taken(&mut self, now: Now, journal: &mut Journal) {
        let Some(t) = self.taking.take() else { return };
        let index = t.header.index;
        let file = SnapshotFile {
            index,
            term: t.header.term,
            members: t.header.membership,
            bytes: t.offset,
        };
        self.replace_snapshot(now, file, journal);
        self.events.push_back(ShardEvent::SnapshotTaken(index));
    }

    /// From now on the log begins behind this snapshot, which is durable.
    fn replace_snapshot(&mut self, now: Now, file: SnapshotFile, journal: &mut Journal) {
        let frame = Frame::Mark {
            replica: self.replica,
            index: file.index,
            term: file.term,
            conf: Bytes::from(file.members.to_bytes()),
        };
        let position = journal.append(self.id, frame);
        self.release_at = Some((position, file.index));
        if let Some(old) = self.snapshot.replace(file) {
            // The new mark may not be durable yet, and a peer may still be reading the old file.
            self.retired.push(Retired {
                index: old.index,
                bytes: old.bytes,
                used_us: now.mono_us,
            });
        }
        self.offer();
    }

    /// Raft took the received snapshot: its state becomes ours.
    fn install(&mut self, now: Now, index: LogIndex, term: Term, journal: &mut Journal) {
        let received = self.receiving.take();
        let Some((machine, bytes)) = received.and_then(|r| Some((r.installed_machine?, r.offset)))
        else {
            self.silence("raft installed a snapshot that was not received".into());
            return;
        };
        self.machine = machine;
        self.applied = (index, term);
        self.digests.clear();
        self.log_bytes_since_snapshot = 0;
        let members = self.group().map(|g| g.membership().clone());
        let file = SnapshotFile {
            index,
            term,
            members: members.unwrap_or_default(),
            bytes,
        };
        self.replace_snapshot(now, file, journal);
        self.events.push_back(ShardEvent::Installed);
        self.events.push_back(ShardEvent::Membership);
    }

    fn offer(&mut self) {
        let offer = self.snapshot.as_ref().map(|file| SnapshotOffer {
            index: file.index,
            term: file.term,
            conf: file.members.conf.clone(),
            manifest: Bytes::copy_from_slice(&file.bytes.to_be_bytes()),
        });
        if let Some(group) = self.group_mut() {
            group.offer_snapshot(offer);
        }
    }

    /// The next event, in order.
    pub fn poll_event(&mut self) -> Option<ShardEvent> {
        self.events.pop_front()
    }
}

impl Barriers {
    fn context(&self, number: u64) -> Vec<u8> {
        context(self.incarnation, number)
    }

    fn answer(&mut self, bytes: &[u8], index: LogIndex) {
        let mut r = base::Reader::new(bytes);
        let (Ok(incarnation), Ok(number)) = (r.u64(), r.u64()) else {
            return;
        };
        if incarnation == self.incarnation
            && let Some((tokens, _)) = self.asked.remove(&number)
        {
            self.answered.push((index, tokens));
        }
    }
}

fn context(incarnation: u64, number: u64) -> Vec<u8> {
    let mut w = base::Writer::new();
    w.u64(incarnation).u64(number);
    w.into_vec()
}

fn snapshot_index(message: &Message) -> LogIndex {
    message.get_snapshot().get_metadata().index
}

fn manifest_bytes(manifest: &[u8]) -> u64 {
    base::Reader::new(manifest).u64().unwrap_or(0)
}
