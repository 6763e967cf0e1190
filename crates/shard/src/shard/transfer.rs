//! Snapshots of a replica: taking them, loading them at the start, serving them to peers, receiving
//! them from the leader, and installing them.
//!
//! A snapshot is always a file first; peers read it in pieces at their own pace and can resume.

use super::{Phase, Shard, ShardEvent, SnapshotPiece};
use crate::machine::ShardMachine;
use crate::snapshot::{Header, Record, Restorer};
use base::{LogIndex, NodeId, Now, ReplicaId, SnapshotPoll, Term};
use bytes::Bytes;
use journal::{DiskOp, DiskResult, FileId, Frame, Journal, Ticket};
use replication::raft::log::SnapshotOffer;
use replication::raft::{GroupLog, Membership, Message};

const READ_BYTES: u32 = 1 << 20;
/// Chunks between syncs of a snapshot that is being written.
const SYNC_EVERY_CHUNKS: u64 = 16;
const FETCH_RETRY_US: u64 = 1_000_000;
const FETCH_RETRIES_MAX: u32 = 10;
/// A follower that was offered a snapshot asks for its next piece within this.
const OFFER_US: u64 = 2_000_000;
const SERVE_GRACE_US: u64 = 10_000_000;

#[derive(Debug)]
pub(super) struct Loading {
    pub(super) restorer: Restorer,
    pub(super) offset: u64,
    pub(super) log: GroupLog,
    pub(super) index: LogIndex,
}

#[derive(Clone, Debug)]
pub(super) struct SnapshotFile {
    pub(super) index: LogIndex,
    pub(super) term: Term,
    pub(super) members: Membership,
    pub(super) bytes: u64,
}

/// A snapshot file that a newer one replaced, kept while a peer may be reading it.
#[derive(Debug)]
pub(super) struct Retired {
    pub(super) index: LogIndex,
    pub(super) bytes: u64,
    pub(super) used_us: u64,
}

#[derive(Debug)]
pub(super) struct Taking {
    pub(super) header: Header,
    pub(super) offset: u64,
    pub(super) since_sync: u64,
    pub(super) chunks: u32,
    pub(super) digest: u64,
    /// Polls only while no disk operation is awaited.
    pub(super) awaiting: bool,
}

#[derive(Debug)]
pub(super) struct Receiving {
    pub(super) message: Message,
    pub(super) at_cut: Membership,
    pub(super) restorer: Restorer,
    pub(super) offset: u64,
    pub(super) total: u64,
    pub(super) asked_us: u64,
    pub(super) asks: u32,
    pub(super) storing: bool,
    /// With its machine version.
    pub(super) installed_machine: Option<(ShardMachine, u16)>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Waiting {
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

impl Shard {
    // --- receiving a snapshot ---

    /// The leader offers a snapshot: raft sees the message once the state is here.
    pub(super) fn offered_snapshot(&mut self, now: Now, message: Message, at_cut: Membership) {
        let Phase::Active(group) = &mut self.phase else {
            return;
        };
        let index = message.get_snapshot().get_metadata().index;
        let stale = message.term < group.term() || index <= group.commit();
        if stale {
            // Raft answers it without needing the state.
            group.step(message);
            return;
        }
        let total = manifest_bytes(&message.get_snapshot().data);
        match &mut self.receiving {
            Some(r) if snapshot_index(&r.message) == index && r.message.from == message.from => {
                r.message = message;
            }
            Some(r) if r.storing => {}
            _ => {
                self.drop_received();
                if let Some(taking) = self.taking.take() {
                    self.machine.abort_snapshot();
                    self.delete_part(taking.header.index);
                }
                self.receiving = Some(Box::new(Receiving {
                    message,
                    at_cut,
                    restorer: Restorer::new(self.id, self.config.machine_version),
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

    pub(super) fn fetch(&mut self, now: Now) {
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

    pub(super) fn retry_fetch(&mut self, now: Now) {
        let Some(r) = &self.receiving else { return };
        if r.storing || now.mono_us < r.asked_us + FETCH_RETRY_US {
            return;
        }
        if r.asks > FETCH_RETRIES_MAX {
            // The leader offers one again when it sees that this replica does not follow.
            self.drop_received();
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
            self.drop_received();
            return;
        }
        if piece.offset != r.offset || piece.bytes.is_empty() {
            return;
        }
        if r.restorer.feed(&piece.bytes).is_err() {
            // Damaged on the way or at its source; the leader will offer another.
            self.drop_received();
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
        let restorer = std::mem::replace(&mut r.restorer, Restorer::new(self.id, 0));
        match restorer.finish() {
            Ok((machine, header)) => {
                r.installed_machine = Some((machine, header.version));
                r.storing = true;
                self.sync(file, Waiting::ReceiveSync, journal);
            }
            Err(_) => self.drop_received(),
        }
    }

    pub(super) fn install_received(&mut self) {
        let Some(r) = &mut self.receiving else { return };
        let message = std::mem::take(&mut r.message);
        let at_cut = std::mem::take(&mut r.at_cut);
        let index = snapshot_index(&message);
        let Some(group) = self.group_mut() else {
            return;
        };
        group.step_snapshot(message, at_cut);
        if !group.is_installing() {
            // Raft did not want it any more: its leader's term is over, or the log came in meanwhile.
            self.drop_received();
            let file = FileId::Snapshot(self.id, index);
            self.events
                .push_back(ShardEvent::Disk(DiskOp::Delete { file }));
        }
    }

    // --- serving a snapshot ---

    /// A follower that was offered a snapshot and does not come for it (it restarted, or the offer was
    /// lost) is offered one again: raft itself would wait for ever.
    pub(super) fn renew_offers(&mut self, now: Now) {
        let Phase::Active(group) = &mut self.phase else {
            return;
        };
        let waiting = group.progress().into_iter().filter(|p| p.in_snapshot);
        let waiting: Vec<ReplicaId> = waiting.map(|p| p.replica).collect();
        self.offered_us
            .retain(|replica, _| waiting.contains(replica));
        for replica in waiting {
            let since = *self.offered_us.entry(replica).or_insert(now.mono_us);
            if now.mono_us > since + OFFER_US {
                self.offered_us.remove(&replica);
                group.report_snapshot_failure(replica);
            }
        }
    }

    /// Deletes replaced files that no peer has asked for lately.
    pub(super) fn delete_retired(&mut self, now: Now) {
        let horizon = now.mono_us.saturating_sub(SERVE_GRACE_US);
        let id = self.id;
        for old in self.retired.extract_if(.., |r| r.used_us < horizon) {
            let file = FileId::Snapshot(id, old.index);
            self.events
                .push_back(ShardEvent::Disk(DiskOp::Delete { file }));
        }
    }

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
        let members = self.group().map(|g| &g.membership().replicas);
        let asking =
            members.and_then(|m| m.values().find(|r| r.node == to && r.id != self.replica));
        if let Some(replica) = asking.map(|r| r.id)
            && let Some(since) = self.offered_us.get_mut(&replica)
        {
            *since = now.mono_us;
        }
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

    pub(super) fn sync(&mut self, file: FileId, waiting: Waiting, journal: &mut Journal) {
        let ticket = journal.next_ticket();
        self.tickets.insert(ticket, waiting);
        self.events
            .push_back(ShardEvent::Disk(DiskOp::Sync { file, ticket }));
    }

    pub(super) fn rename(&mut self, index: LogIndex, waiting: Waiting, journal: &mut Journal) {
        let ticket = journal.next_ticket();
        self.tickets.insert(ticket, waiting);
        self.events.push_back(ShardEvent::Disk(DiskOp::Rename {
            from: FileId::SnapshotPart(self.id, index),
            to: FileId::Snapshot(self.id, index),
            ticket,
        }));
    }

    pub(super) fn load_next(&mut self, journal: &mut Journal) {
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

    /// Gives up the snapshot that is being received.
    fn drop_received(&mut self) {
        if let Some(r) = self.receiving.take() {
            self.delete_part(snapshot_index(&r.message));
        }
    }

    pub(super) fn delete_part(&mut self, index: LogIndex) {
        let file = FileId::SnapshotPart(self.id, index);
        self.events
            .push_back(ShardEvent::Disk(DiskOp::Delete { file }));
    }

    pub(super) fn file_bytes(&self, index: LogIndex) -> u64 {
        let latest = self.snapshot.iter().map(|s| (s.index, s.bytes));
        let older = self.retired.iter().map(|r| (r.index, r.bytes));
        (latest.chain(older))
            .find(|(i, _)| *i == index)
            .map_or(0, |(_, bytes)| bytes)
    }

    pub(super) fn loaded(&mut self, bytes: &Bytes, journal: &mut Journal) {
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
                self.version = header.version;
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

    pub(super) fn silence(&mut self, reason: String) {
        self.events.push_back(ShardEvent::Silent(reason.clone()));
        self.phase = Phase::Silent(reason);
        self.unsynced.clear();
        // What stands behind the entry that it could not apply is not applied either.
        self.backlog.clear();
        self.taking = None;
        self.receiving = None;
    }

    // --- taking and installing ---

    pub(super) fn begin_snapshot_if_due(&mut self) {
        let Some(group) = self.group() else { return };
        let wanted = group.snapshot_wanted();
        let due = self.log_bytes_since_snapshot > self.config.snapshot_log_bytes
            && self.log_bytes_since_snapshot > self.machine.bytes();
        // A state that is coming in stands in the log only.
        if !(due || wanted || self.snapshot_requested) || self.staged.is_some() {
            return;
        }
        let membership = group.membership().clone();
        if !self.backlog.is_empty() {
            // Cut when everything that was handed over is applied.
            self.snapshot_requested |= due || wanted;
            return;
        }
        self.snapshot_requested = false;
        if self.applied.0 <= self.snapshot_index().max(1) {
            self.offer();
            return;
        }
        let header = Header {
            shard: self.id,
            index: self.applied.0,
            term: self.applied.1,
            version: self.version,
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

    pub(super) fn poll_snapshot(&mut self, journal: &mut Journal) {
        let Some(t) = &mut self.taking else { return };
        if t.awaiting {
            return;
        }
        let mut bytes = Vec::new();
        let done = match self.machine.poll_snapshot(self.config.snapshot_chunk_bytes) {
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
        } else if t.since_sync >= SYNC_EVERY_CHUNKS * self.config.snapshot_chunk_bytes as u64 {
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

    pub(super) fn taken(&mut self, now: Now, journal: &mut Journal) {
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
    pub(super) fn replace_snapshot(&mut self, now: Now, file: SnapshotFile, journal: &mut Journal) {
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
    pub(super) fn install(&mut self, now: Now, index: LogIndex, term: Term, journal: &mut Journal) {
        let received = self.receiving.take();
        let Some(((machine, version), bytes)) =
            received.and_then(|r| Some((r.installed_machine?, r.offset)))
        else {
            self.silence("raft installed a snapshot that was not received".into());
            return;
        };
        self.machine = machine;
        self.version = version;
        self.staged = None;
        self.backlog.clear();
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
    }

    pub(super) fn offer(&mut self) {
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
}

pub(super) fn snapshot_index(message: &Message) -> LogIndex {
    message.get_snapshot().get_metadata().index
}

pub(super) fn manifest_bytes(manifest: &[u8]) -> u64 {
    base::Reader::new(manifest).u64().unwrap_or(0)
}
