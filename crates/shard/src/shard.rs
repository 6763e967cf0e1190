//! The life of a replica: loading → active → (perhaps) silent.
//!
//! Phases of [`Shard::flush`]: propose what was gathered, then take raft's work (send, write, apply)
//! until there is none, then move snapshots along. Nothing here does IO: what is to be done comes out
//! of [`Shard::poll_event`], what is durable is told by the journal's position.

mod apply;
mod barriers;
mod follow;
mod transfer;

use crate::entry::Batch;
use crate::machine::{ShardMachine, ShardOutput};
use crate::snapshot::Restorer;
use crate::version::FIRST_VERSION;
use apply::Backlog;
use barriers::Barriers;
use base::planted::{Bug, planted};
use base::{LogIndex, NodeId, Now, ReplicaId, Rng, ShardId, Stamp, Term};
use bytes::Bytes;
use journal::{DiskOp, Frame, Journal, Position, RecoveredShard, ShardVerdict, Ticket};
use replication::raft::{
    Change, Entry, EntryType, Group, GroupConfig, GroupLog, Membership, Message, Persist, Replica,
};
use std::collections::{BTreeMap, VecDeque};
use transfer::{Loading, Receiving, Retired, SnapshotFile, Taking, Waiting};

/// Settings of a replica.
#[derive(Clone, Debug)]
pub struct ShardConfig {
    /// Of its group.
    pub group: GroupConfig,
    /// The machine version that this build can apply: [`crate::MACHINE_VERSION`].
    pub machine_version: u16,
    /// Snapshot when the log since the last one exceeds this and the state's own size, in bytes.
    pub snapshot_log_bytes: u64,
    /// A snapshot is written in chunks of about this many bytes, one a turn.
    pub snapshot_chunk_bytes: usize,
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
    /// The shard's machine version, as far as applied here.
    version: u16,
    applied: (LogIndex, Term),
    pending_units: VecDeque<Bytes>,
    pending_bytes: usize,
    unsynced: VecDeque<Unsynced>,
    barriers: Barriers,
    digests: VecDeque<(LogIndex, u64)>,
    digest_sent: LogIndex,
    is_lazy: bool,
    follows: bool,
    staged: Option<follow::Staged>,
    /// This replica leads, has applied its term's first entry, and owes the others the digest there.
    digest_due: bool,
    log_bytes_since_snapshot: u64,
    snapshot_requested: bool,
    snapshot: Option<SnapshotFile>,
    retired: Vec<Retired>,
    /// Followers that were offered a snapshot: when they were last heard to fetch it.
    offered_us: BTreeMap<ReplicaId, u64>,
    taking: Option<Taking>,
    receiving: Option<Box<Receiving>>,
    release_at: Option<(Position, LogIndex)>,
    tickets: BTreeMap<Ticket, Waiting>,
    backlog: Backlog,
    /// The journal's, as of the last look.
    durable: Position,
    /// Empty between units; kept for its room.
    outputs: Vec<ShardOutput>,
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
struct Unsynced {
    position: Position,
    number: u64,
    messages: Vec<Message>,
    /// A snapshot up to here was installed: raft counts it as applied once it is durable.
    installed: Option<LogIndex>,
}

const ENTRY_BYTES_MAX: usize = 512 << 10;
const ENTRY_UNITS_MAX: usize = 2_048;
const PENDING_BYTES_MAX: usize = 64 << 20;

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
            version: FIRST_VERSION,
            applied: (0, 0),
            pending_units: VecDeque::new(),
            pending_bytes: 0,
            unsynced: VecDeque::new(),
            barriers,
            digests: VecDeque::new(),
            digest_sent: 0,
            is_lazy: false,
            follows: false,
            staged: None,
            digest_due: false,
            log_bytes_since_snapshot: 0,
            snapshot_requested: false,
            snapshot: None,
            retired: Vec::new(),
            offered_us: BTreeMap::new(),
            taking: None,
            receiving: None,
            release_at: None,
            tickets: BTreeMap::new(),
            backlog: Backlog::default(),
            durable: Position::default(),
            outputs: Vec::new(),
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
                restorer: Restorer::new(id, shard.config.machine_version),
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

    /// Bytes of units that [`Self::propose`] has room for now; what was taken waits while too much is under way.
    pub fn room_bytes(&self) -> usize {
        PENDING_BYTES_MAX.saturating_sub(self.pending_bytes)
    }

    /// Gathers a unit for the next entry. False when this replica does not lead, has too much waiting, or follows
    /// another cluster.
    pub fn propose(&mut self, unit: Bytes) -> bool {
        if !self.is_leader() || unit.len() > self.room_bytes() || self.follows {
            return false;
        }
        self.pending_bytes += unit.len();
        self.pending_units.push_back(unit);
        true
    }

    /// Whether a single copy acknowledges before its journal is durable.
    pub fn set_lazy(&mut self, is_lazy: bool) {
        self.is_lazy = is_lazy;
    }

    /// The shard's machine version, as far as applied here.
    pub fn version(&self) -> u16 {
        self.version
    }

    /// As the leader: raises the shard's machine version, which all of its members must support.
    pub fn raise_version(&mut self, version: u16) -> bool {
        version > self.version && self.propose(crate::version::raise(version))
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
        self.renew_offers(now);
        self.delete_retired(now);
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
        self.offered_snapshot(now, message, at_cut);
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
            self.commit(ready.committed, journal);
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
            self.digest_due = false;
            return;
        }
        while self.digest_due || !self.pending_units.is_empty() {
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
            self.digest_due = false;
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
        self.durable = durable;
        // Nobody else leans on what a lone replica says of its log: how long it keeps its word after a crash
        // is the pool's choice.
        let durable = match self.is_lazy && self.is_alone() {
            true => journal.appended(),
            false => durable,
        };
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

    fn note_role(&mut self) {
        let role = self.group().map(|g| (g.role(), g.leader(), g.term()));
        if role != self.last_role {
            self.last_role = role;
            self.events.push_back(ShardEvent::Role);
        }
    }

    /// The next event, in order.
    ///
    /// Committed units are applied here, one by one, each when everything told of the one before was
    /// taken: the caller sees the state exactly as that unit left it.
    pub fn poll_event(&mut self) -> Option<ShardEvent> {
        while self.events.is_empty() && self.apply_next() {}
        self.events.pop_front()
    }
}
