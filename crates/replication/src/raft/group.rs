//! One raft group: the `raft` crate behind a surface without IO, time or ambient randomness.
//!
//! Source: Ongaro, "Consensus: Bridging Theory and Practice" (2014): §3 basics, §4.3 joint membership,
//! §6.4 read-index, §9.6 pre-vote, §10.2.1 leaders write to their disk while followers do.

use crate::raft::log::{GroupLog, SnapshotOffer};
use crate::raft::membership::{Change, Membership, conf_change, decode_changes, encode_changes};
use base::{LogIndex, ReplicaId, Rng, Term};
use bytes::Bytes;
use raft::eraftpb::{Entry, EntryType, Message, MessageType};
use raft::{
    Config, GetEntriesContext, ProgressState, RawNode, ReadOnlyOption, SnapshotStatus, StateRole,
    Storage,
};

/// Settings of a group. Times are in ticks.
#[derive(Clone, Debug)]
pub struct GroupConfig {
    /// Least election time-out.
    pub election_ticks: u32,
    /// Up to so many ticks are added to it at random.
    pub election_spread_ticks: u32,
    /// Ask before standing whether an election could be won, refuse votes while a leader is heard, and step
    /// down without a majority. Without it (to study plain Raft) nothing of the three.
    pub pre_vote: bool,
    /// Between heartbeats.
    pub heartbeat_ticks: u32,
    /// Idle ticks after which a leader lets its group hibernate.
    pub hibernate_ticks: u32,
    /// Log kept in memory for followers, in bytes.
    pub log_bytes_max: u64,
    /// Bytes of proposals that may be under way; more are refused until some commit.
    pub uncommitted_bytes_max: u64,
}

impl Default for GroupConfig {
    fn default() -> Self {
        Self {
            election_ticks: 15,
            election_spread_ticks: 14,
            pre_vote: true,
            heartbeat_ticks: 4,
            hibernate_ticks: 200,
            log_bytes_max: 8 << 20,
            uncommitted_bytes_max: 64 << 20,
        }
    }
}

/// A replica's role now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// Proposes.
    Leader,
    /// Follows, and votes.
    Follower,
    /// Asks for votes or pre-votes.
    Candidate,
    /// Follows without a vote.
    Learner,
}

/// What must be made durable before [`Group::handle_persisted`] is called with its number.
#[derive(Clone, PartialEq, Debug)]
pub struct Persist {
    /// Names this step.
    pub number: u64,
    /// (term, vote, commit) when term or vote changed.
    pub hard_state: Option<(Term, u64, LogIndex)>,
    /// New entries; they replace what the log held from the first one's index on.
    pub entries: Vec<Entry>,
    /// A snapshot was installed: the log restarts behind (index, term).
    pub installed: Option<(LogIndex, Term)>,
    /// Messages that must not leave before.
    pub messages_after: Vec<Message>,
}

/// A committed entry.
#[derive(Clone, PartialEq, Debug)]
pub struct Committed {
    /// Its index.
    pub index: LogIndex,
    /// Its term.
    pub term: Term,
    /// What was proposed; empty for raft's own entries and for membership changes.
    pub data: Bytes,
    /// A membership change, to be handed to [`Group::apply_membership`].
    pub changes: Option<Vec<Change>>,
}

/// One batch of work.
#[derive(Clone, PartialEq, Debug)]
pub struct Ready {
    /// Send at once.
    pub messages: Vec<Message>,
    /// Write.
    pub persist: Option<Persist>,
    /// Apply, in order.
    pub committed: Vec<Committed>,
    /// Read-index requests answered: (context, index that must be applied first).
    pub reads: Vec<(Vec<u8>, LogIndex)>,
}

/// How far a replica has come, as its leader sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Progress {
    /// Which.
    pub replica: ReplicaId,
    /// Last index known to be on it.
    pub matched: LogIndex,
    /// Heard from since the last check.
    pub recent_active: bool,
    /// True while it is being sent a snapshot.
    pub in_snapshot: bool,
}

/// One replica of a raft group.
pub struct Group {
    raw: RawNode<GroupLog>,
    config: GroupConfig,
    rng: Rng,
    hibernating: bool,
    idle_ticks: u32,
    installing: Option<Membership>,
}

impl std::fmt::Debug for Group {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let r = &self.raw.raft;
        write!(f, "Group({} {:?} term {})", r.id, r.state, r.term)
    }
}

impl Group {
    /// A replica over its recovered log, whose state is applied up to `applied`.
    pub fn new(
        id: ReplicaId,
        config: GroupConfig,
        log: GroupLog,
        applied: LogIndex,
        rng: Rng,
    ) -> Self {
        let election = config.election_ticks as usize;
        let crate_config = Config {
            id: id.0,
            election_tick: election,
            heartbeat_tick: config.heartbeat_ticks as usize,
            applied,
            max_size_per_msg: 1 << 20,
            max_inflight_msgs: 256,
            check_quorum: config.pre_vote,
            pre_vote: config.pre_vote,
            min_election_tick: election,
            max_election_tick: election + config.election_spread_ticks as usize + 1,
            read_only_option: ReadOnlyOption::Safe,
            skip_bcast_commit: false,
            // The crate would put entries behind an empty append whose index they do not follow.
            batch_append: false,
            priority: 0,
            max_uncommitted_size: config.uncommitted_bytes_max,
            max_committed_size_per_ready: 4 << 20,
        };
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let raw = RawNode::new(&crate_config, log, &logger)
            .expect("the configuration is valid and the log is in memory");
        let mut group = Self {
            raw,
            config,
            rng,
            hibernating: false,
            idle_ticks: 0,
            installing: None,
        };
        group.redraw();
        group
    }

    /// The crate draws election time-outs from ambient randomness whenever it resets; every reset also
    /// zeroes the elapsed count, so whenever that is zero after a step we draw again from our own
    /// generator. (A heartbeat zeroes it too; drawing then is harmless.)
    fn redraw(&mut self) {
        let raft = &mut self.raw.raft;
        if raft.election_elapsed == 0 {
            let least = u64::from(self.config.election_ticks);
            let most = least + u64::from(self.config.election_spread_ticks);
            let drawn = self.rng.range(least, most + 1);
            raft.set_randomized_election_timeout(drawn as usize);
        }
    }

    /// One tick passed.
    pub fn tick(&mut self) {
        if self.hibernating {
            return;
        }
        self.idle_ticks = self.idle_ticks.saturating_add(1);
        self.raw.tick();
        self.redraw();
    }

    /// A `MsgSnapshot` arrived and its state is at hand; `at_cut` says where its replicas live.
    pub fn step_snapshot(&mut self, message: Message, at_cut: Membership) {
        self.installing = Some(at_cut);
        self.step(message);
    }

    /// True when a snapshot was stepped, taken, and comes out of the next [`Self::poll_ready`].
    pub fn is_installing(&self) -> bool {
        self.raw.snap().is_some_and(|s| !s.is_empty())
    }

    /// Any other message arrived.
    pub fn step(&mut self, message: Message) {
        let kind = message.get_msg_type();
        if !matches!(
            kind,
            MessageType::MsgHeartbeat | MessageType::MsgHeartbeatResponse
        ) {
            self.idle_ticks = 0;
        }
        // What a sleeping leader asked before it slept may be answered late; that is no news.
        if kind != MessageType::MsgHeartbeatResponse || message.term > self.term() {
            self.wake();
        }
        // Refusals (an unknown peer, a dropped proposal) are the protocol's business: peers retry.
        let _ = self.raw.step(message);
        self.redraw();
    }

    /// Proposes an entry. False when it was not taken: not the leader, handing over, or too much under way.
    pub fn propose(&mut self, data: Vec<u8>) -> bool {
        self.idle_ticks = 0;
        self.wake();
        self.is_leader() && self.raw.propose(Vec::new(), data).is_ok()
    }

    /// Proposes a membership change; several steps go through a joint configuration. False when it was not taken.
    pub fn propose_membership(&mut self, changes: &[Change]) -> bool {
        self.idle_ticks = 0;
        self.wake();
        self.is_leader()
            && !self.change_is_pending()
            && self
                .raw
                .propose_conf_change(encode_changes(changes), conf_change(changes))
                .is_ok()
    }

    /// True while a proposed change is not applied, or a joint configuration is not left.
    pub fn change_is_pending(&self) -> bool {
        self.raw.raft.has_pending_conf() || self.membership().is_joint()
    }

    /// Asks for a read-index; answered in [`Ready::reads`], or never (then ask again). The context must be unique across restarts.
    pub fn read_index(&mut self, context: Vec<u8>) {
        self.idle_ticks = 0;
        self.wake();
        self.raw.read_index(context);
    }

    /// Begins to hand leadership over.
    pub fn transfer_leader(&mut self, to: ReplicaId) {
        self.idle_ticks = 0;
        self.wake();
        self.raw.transfer_leader(to.0);
    }

    /// Starts an election at once (a lone voter at its start need not wait).
    pub fn campaign(&mut self) {
        self.wake();
        let _ = self.raw.campaign();
        self.redraw();
    }

    /// Messages to this replica may have been lost.
    pub fn report_unreachable(&mut self, replica: ReplicaId) {
        self.raw.report_unreachable(replica.0);
    }

    /// The replica does not take the snapshot that it was sent; it will be offered one again.
    pub fn report_snapshot_failure(&mut self, replica: ReplicaId) {
        self.raw.report_snapshot(replica.0, SnapshotStatus::Failure);
    }

    /// The next batch of work, if there is any. Entries in it are already readable by the crate.
    pub fn poll_ready(&mut self) -> Option<Ready> {
        if !self.raw.has_ready() {
            return None;
        }
        let mut rd = self.raw.ready();
        let mut out = Ready {
            messages: rd.take_messages(),
            persist: None,
            committed: Vec::new(),
            reads: Vec::new(),
        };
        let mut after = Vec::new();
        // A follower would pass others' requests on to whom it takes for the leader, under their sender's id:
        // the leader would learn a wrong place for that replica, and answer there. Those who ask try again.
        let me = self.raw.raft.id;
        let mine = |message: &Message| message.from == me;
        out.messages.retain(mine);
        for message in rd.take_persisted_messages().into_iter().filter(mine) {
            if must_follow_sync(message.get_msg_type()) {
                after.push(message);
            } else {
                out.messages.push(message);
            }
        }
        for state in rd.take_read_states() {
            out.reads.push((state.request_ctx, state.index));
        }
        let mut hard_state = None;
        if let Some(hs) = rd.hs() {
            let store = self.raw.raft.store();
            if hs.term != store.hard_state.term || hs.vote != store.hard_state.vote {
                hard_state = Some((hs.term, hs.vote, hs.commit));
            }
        }
        let installed = (!rd.snapshot().is_empty()).then(|| {
            let m = rd.snapshot().get_metadata();
            (m.index, m.term)
        });
        let new_hard_state = rd.hs().cloned();
        let entries = rd.take_entries();
        let store = self.raw.mut_store();
        if let Some((index, term)) = installed {
            let at_cut = self.installing.take();
            store.install(index, term, at_cut.unwrap_or_default());
        }
        if let Some(hs) = new_hard_state {
            store.hard_state = hs;
        }
        store.append(&entries);
        for entry in rd.take_committed_entries() {
            out.committed.push(committed(entry));
        }
        let number = rd.number();
        self.raw.advance_append_async(rd);
        out.persist = Some(Persist {
            number,
            hard_state,
            entries,
            installed,
            messages_after: after,
        });
        self.redraw();
        Some(out)
    }

    /// Everything up to step `number` is durable.
    pub fn handle_persisted(&mut self, number: u64) {
        self.raw.on_persist_ready(number);
        self.redraw();
    }

    /// Everything up to `index` is applied.
    pub fn handle_applied(&mut self, index: LogIndex) {
        self.raw.advance_apply_to(index);
        let max = self.config.log_bytes_max;
        let keep_from = self.slowest_matched().min(index);
        // Followers that are a little behind are served from memory up to twice the cap.
        let store = self.raw.mut_store();
        store.trim(max, keep_from);
        store.trim(2 * max, index);
    }

    fn slowest_matched(&self) -> LogIndex {
        if !self.is_leader() {
            return LogIndex::MAX;
        }
        self.progress()
            .iter()
            .filter(|p| p.recent_active)
            .map(|p| p.matched)
            .min()
            .unwrap_or(LogIndex::MAX)
    }

    /// Applies a committed membership change.
    pub fn apply_membership(&mut self, changes: &[Change]) {
        for change in changes {
            if let Change::AddLearner(replica) = change {
                let replicas = &mut self.raw.mut_store().membership.replicas;
                replicas.insert(replica.id, replica.clone());
            }
        }
        // On an error the proposer had checked against an older configuration; every replica refuses alike.
        let conf = match self.raw.apply_conf_change(&conf_change(changes)) {
            Ok(conf) => conf,
            Err(_) => self.raw.raft.prs().conf().to_conf_state(),
        };
        self.raw.mut_store().membership.set_conf(conf);
        // Whoever is no member any more does not lead: the crate would look for its own progress in vain.
        let me = self.id();
        if self.is_leader() && !self.membership().contains(me) {
            let term = self.raw.raft.term;
            self.raw.raft.become_follower(term, raft::INVALID_ID);
        }
    }

    /// Offers a snapshot on disk to followers that are too far behind.
    pub fn offer_snapshot(&mut self, offer: Option<SnapshotOffer>) {
        self.raw.mut_store().set_offer(offer);
    }

    /// True when a follower needs a newer snapshot than the one on offer.
    pub fn snapshot_wanted(&self) -> bool {
        self.raw.store().snapshot_wanted()
    }

    /// True when nothing has been asked of this leader for a while and everything is everywhere. Not on
    /// a tick on which a heartbeat leaves: it would follow the word that the group sleeps, and wake it.
    pub fn may_hibernate(&self) -> bool {
        let raft = &self.raw.raft;
        let last = raft.raft_log.last_index();
        !self.hibernating
            && self.is_leader()
            && self.idle_ticks >= self.config.hibernate_ticks
            && !self.raw.has_ready()
            && raft.raft_log.committed == last
            && raft.raft_log.applied == last
            && raft.pending_read_count() == 0
            && !self.change_is_pending()
            && raft.lead_transferee.is_none()
            && self
                .progress()
                .iter()
                .all(|p| p.matched == last && (p.recent_active || p.replica == self.id()))
    }

    /// Stops ticking until something happens. A follower obeys its leader only when it has everything.
    pub fn hibernate(&mut self, leader: ReplicaId, term: Term, last: LogIndex) {
        let raft = &self.raw.raft;
        if raft.term == term
            && raft.leader_id == leader.0
            && raft.raft_log.last_index() == last
            && raft.raft_log.committed == last
        {
            self.hibernating = true;
        }
    }

    /// Ticks again; a leader also tells its followers.
    pub fn wake(&mut self) {
        if std::mem::take(&mut self.hibernating) {
            self.idle_ticks = 0;
            self.raw.ping();
        }
    }

    /// Committed entries from `low` on: index and data, empty for raft's own; at most about so many bytes, and
    /// at least one if there is one. `None` when the log in memory begins later.
    pub fn committed_from(&self, low: LogIndex, bytes_max: u64) -> Option<Vec<(LogIndex, Bytes)>> {
        let log = self.raw.store();
        let end = self.commit().min(log.last()) + 1;
        if low < log.first() {
            return None;
        }
        if low >= end {
            return Some(Vec::new());
        }
        let all = GetEntriesContext::empty(false);
        let entries = log.entries(low, end, bytes_max, all).ok()?;
        let units = |e: Entry| match e.get_entry_type() {
            EntryType::EntryNormal => (e.index, e.data),
            _ => (e.index, Bytes::new()),
        };
        Some(entries.into_iter().map(units).collect())
    }

    /// This replica.
    pub fn id(&self) -> ReplicaId {
        ReplicaId(self.raw.raft.id)
    }

    /// Its role.
    pub fn role(&self) -> Role {
        match self.raw.raft.state {
            StateRole::Leader => Role::Leader,
            StateRole::Candidate | StateRole::PreCandidate => Role::Candidate,
            StateRole::Follower if self.membership().is_voter(self.id()) => Role::Follower,
            StateRole::Follower => Role::Learner,
        }
    }

    /// True when this replica leads.
    pub fn is_leader(&self) -> bool {
        self.raw.raft.state == StateRole::Leader
    }

    /// True when this leader is handing over.
    pub fn is_handing_over(&self) -> bool {
        self.raw.raft.lead_transferee.is_some()
    }

    /// The leader that this replica knows of, in its term.
    pub fn leader(&self) -> Option<ReplicaId> {
        let id = self.raw.raft.leader_id;
        (id != 0).then_some(ReplicaId(id))
    }

    /// Current term.
    pub fn term(&self) -> Term {
        self.raw.raft.term
    }

    /// Term, vote and commit as they would be written now.
    pub fn hard_state(&self) -> (Term, u64, LogIndex) {
        let hs = &self.raw.store().hard_state;
        (hs.term, hs.vote, hs.commit)
    }

    /// Highest index known committed.
    pub fn commit(&self) -> LogIndex {
        self.raw.raft.raft_log.committed
    }

    /// Last index of the log, durable or not.
    pub fn last(&self) -> LogIndex {
        self.raw.raft.raft_log.last_index()
    }

    /// Term of an entry that is still in memory.
    pub fn term_at(&self, index: LogIndex) -> Option<Term> {
        self.raw.store().term(index).ok()
    }

    /// Members.
    pub fn membership(&self) -> &Membership {
        &self.raw.store().membership
    }

    /// Bytes of log in memory.
    pub fn log_bytes(&self) -> u64 {
        self.raw.store().bytes()
    }

    /// True while idle and silent.
    pub fn is_hibernating(&self) -> bool {
        self.hibernating
    }

    /// Replicas as this leader sees them; empty for others.
    pub fn progress(&self) -> Vec<Progress> {
        if !self.is_leader() {
            return Vec::new();
        }
        let mut all: Vec<Progress> = (self.raw.raft.prs().iter())
            .map(|(id, p)| Progress {
                replica: ReplicaId(*id),
                matched: p.matched,
                recent_active: p.recent_active,
                in_snapshot: p.state == ProgressState::Snapshot,
            })
            .collect();
        all.sort_by_key(|p| p.replica);
        all
    }
}

/// A heartbeat's answer, a forwarded read or a pre-vote promises nothing that a crash could break;
/// acknowledgements and votes do.
fn must_follow_sync(kind: MessageType) -> bool {
    matches!(
        kind,
        MessageType::MsgAppendResponse
            | MessageType::MsgRequestVote
            | MessageType::MsgRequestVoteResponse
            | MessageType::MsgAppend
    )
}

fn committed(mut entry: Entry) -> Committed {
    let changes = (entry.get_entry_type() != EntryType::EntryNormal).then(|| {
        decode_changes(&entry.context).expect("our own leader wrote it and checksums cover it")
    });
    Committed {
        index: entry.index,
        term: entry.term,
        data: if changes.is_some() {
            Bytes::new()
        } else {
            std::mem::take(&mut entry.data)
        },
        changes,
    }
}
