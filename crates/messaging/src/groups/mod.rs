//! Consumer groups, as in Kafka's classic protocol.
//!
//! A group goes Empty → Joining → Syncing → Stable and back to Joining with every member that comes, goes
//! or changes its mind. Each completed joining is a *generation*; one member, the leader, shares the
//! partitions out and tells the machine everybody's share. What is replicated is what must survive a
//! change of the shard's leader: members, generation, assignments, committed offsets, and who waits for an
//! answer. Deadlines are not: [`crate::GroupTimers`] keeps them at the shard's leader, and what ran out is
//! a proposed command.
//!
//! Source: KIP-62 (rebalance time-out), KIP-345 (static members), KIP-394 (ids before joining). Not taken:
//! Kafka's delay before the first generation of an empty group; groups that begin with many members go
//! through more generations here.

mod join;
mod record;
mod sync;
mod timers;

pub(crate) use record::{decode_offset, encode_offset};
pub use timers::GroupTimers;

use crate::command::{GroupProtocol, MemberName, PartitionId};
use crate::output::Output;
use crate::reply::{ErrorCode, Reply};
use base::Origin;
use bytes::Bytes;
use std::collections::BTreeMap;

/// Members of a group, with ids given out that have not joined.
pub const MEMBERS_MAX: usize = 1_000;
/// Bytes of a group's name.
pub const GROUP_NAME_BYTES_MAX: usize = 1_024;
/// Bytes of the metadata of one committed offset.
pub const OFFSET_METADATA_BYTES_MAX: usize = 4_096;
/// The shortest session time-out, in milliseconds.
pub const SESSION_TIMEOUT_MS_MIN: u32 = 6_000;
/// The longest session time-out, in milliseconds.
pub const SESSION_TIMEOUT_MS_MAX: u32 = 1_800_000;

/// Where a group stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// It has no members; perhaps offsets.
    Empty,
    /// Members join the next generation (Kafka: PreparingRebalance).
    Joining,
    /// A generation has begun, its leader shares out (Kafka: CompletingRebalance).
    Syncing,
    /// Everybody has a share.
    Stable,
}

/// What a member waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Waiting {
    /// Nothing.
    #[default]
    No,
    /// The next generation.
    Join(Origin),
    /// Its assignment.
    Sync(Origin),
}

/// A member.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member {
    /// Its static name.
    pub instance: Option<String>,
    /// For people.
    pub client_id: String,
    /// For people.
    pub client_host: String,
    /// It is dropped when it is silent for so long.
    pub session_timeout_ms: u32,
    /// So long it may take to join or to sync.
    pub rebalance_timeout_ms: u32,
    /// How it could be given its share, best first.
    pub protocols: Vec<GroupProtocol>,
    /// Its share, once the leader has brought it.
    pub assignment: Bytes,
    /// What it waits for.
    pub waiting: Waiting,
}

impl Member {
    /// What it said for this protocol.
    pub fn metadata(&self, protocol: &str) -> Bytes {
        let found = self.protocols.iter().find(|p| p.name == protocol);
        found.map_or_else(Bytes::new, |p| p.metadata.clone())
    }
}

/// A position that was committed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Committed {
    /// The next record to read.
    pub offset: i64,
    /// The leader epoch of the last record read, −1 when unknown.
    pub leader_epoch: i32,
    /// Whatever the client wanted to remember.
    pub metadata: String,
    /// When, Unix milliseconds.
    pub committed_ms: i64,
}

/// A group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Group {
    /// Where it stands.
    pub phase: Phase,
    /// The generation that began last; 0 before the first.
    pub generation: i32,
    /// What it is of; empty for a group that only ever committed offsets.
    pub protocol_type: String,
    /// What was chosen for this generation.
    pub protocol: String,
    /// The member that shares out.
    pub leader: String,
    /// Members by id.
    pub members: BTreeMap<String, Member>,
    /// Ids given out that have not joined yet, with their session time-outs in milliseconds.
    pub pending: BTreeMap<String, u32>,
    /// What was committed.
    pub offsets: BTreeMap<PartitionId, Committed>,
    /// The last join, leave or commit, Unix milliseconds.
    pub used_ms: i64,
    offsets_digest: u64,
}

/// What a group may lean on while a unit is applied.
pub(crate) struct Cx<'a> {
    pub name: &'a str,
    pub origin: Origin,
    pub time_ms: i64,
    /// No other unit of this shard has it; begins the ids of new members.
    pub unique: u64,
    pub out: &'a mut Vec<Output>,
}

impl Cx<'_> {
    /// Answers `origin`, unless nobody waits.
    pub fn reply_to(&mut self, origin: Origin, reply: Result<Reply, ErrorCode>) {
        if origin != Origin::default() {
            self.out.push(Output::Reply { origin, reply });
        }
    }

    /// Answers who sent the unit.
    pub fn reply(&mut self, reply: Result<Reply, ErrorCode>) {
        self.reply_to(self.origin, reply);
    }
}

impl Group {
    pub(crate) fn new(time_ms: i64) -> Self {
        Self {
            phase: Phase::Empty,
            generation: 0,
            protocol_type: String::new(),
            protocol: String::new(),
            leader: String::new(),
            members: BTreeMap::new(),
            pending: BTreeMap::new(),
            offsets: BTreeMap::new(),
            used_ms: time_ms,
            offsets_digest: 0,
        }
    }

    /// The time that its slowest member is given to join or to sync, in milliseconds.
    pub fn rebalance_timeout_ms(&self) -> u32 {
        let all = self.members.values().map(|m| m.rebalance_timeout_ms);
        all.max().unwrap_or(0)
    }

    fn holder(&self, instance: &str) -> Option<&str> {
        let holds = |m: &Member| m.instance.as_deref() == Some(instance);
        let mut all = self.members.iter();
        all.find(|(_, m)| holds(m)).map(|(id, _)| id.as_str())
    }

    /// Checks that this is a member, and still the one that has its static name.
    fn check_member(&self, name: &MemberName) -> Result<(), ErrorCode> {
        if let Some(instance) = &name.instance {
            match self.holder(instance) {
                None => return Err(ErrorCode::UnknownMember),
                Some(id) if id != name.id => return Err(ErrorCode::FencedInstance),
                Some(_) => {}
            }
        }
        if self.members.contains_key(&name.id) {
            Ok(())
        } else {
            Err(ErrorCode::UnknownMember)
        }
    }

    /// Answers a heartbeat; the caller also tells [`GroupTimers::touch`].
    pub fn heartbeat(&self, member: &MemberName, generation: i32) -> Result<(), ErrorCode> {
        self.check_member(member)?;
        if generation != self.generation {
            return Err(ErrorCode::IllegalGeneration);
        }
        match self.phase {
            Phase::Empty => Err(ErrorCode::UnknownMember),
            Phase::Joining => Err(ErrorCode::RebalanceInProgress),
            Phase::Syncing | Phase::Stable => Ok(()),
        }
    }

    /// Begins to gather members for the next generation.
    fn prepare_rebalance(&mut self, cx: &mut Cx<'_>) {
        for member in self.members.values_mut() {
            if let Waiting::Sync(origin) = member.waiting {
                member.waiting = Waiting::No;
                cx.reply_to(origin, Err(ErrorCode::RebalanceInProgress));
            }
        }
        self.phase = Phase::Joining;
        self.complete_if_all_joined(cx);
    }

    fn complete_if_all_joined(&mut self, cx: &mut Cx<'_>) {
        let joined = |m: &Member| matches!(m.waiting, Waiting::Join(_));
        // Who was given an id is waited for, but not by a group that has nobody else.
        let is_complete = self.members.is_empty() || self.pending.is_empty();
        if self.phase == Phase::Joining && is_complete && self.members.values().all(joined) {
            self.begin_generation(cx);
        }
    }

    /// Removes a member; what it waited for is refused.
    fn remove(&mut self, id: &str, cx: &mut Cx<'_>) {
        let Some(member) = self.members.remove(id) else {
            return;
        };
        if let Waiting::Join(origin) | Waiting::Sync(origin) = member.waiting {
            cx.reply_to(origin, Err(ErrorCode::UnknownMember));
        }
        if self.leader == id {
            self.leader = self.members.keys().next().cloned().unwrap_or_default();
        }
    }

    /// After members were removed.
    fn after_removal(&mut self, cx: &mut Cx<'_>) {
        match self.phase {
            Phase::Stable | Phase::Syncing => self.prepare_rebalance(cx),
            Phase::Joining => self.complete_if_all_joined(cx),
            Phase::Empty => {}
        }
    }

    /// Members say that they leave.
    pub(crate) fn leave(&mut self, names: &[MemberName], cx: &mut Cx<'_>) {
        let mut had_members = false;
        let mut results = Vec::with_capacity(names.len());
        for name in names {
            let id = match &name.instance {
                None => name.id.clone(),
                Some(instance) => match self.holder(instance) {
                    None => {
                        results.push(Err(ErrorCode::UnknownMember));
                        continue;
                    }
                    Some(id) if !name.id.is_empty() && id != name.id => {
                        results.push(Err(ErrorCode::FencedInstance));
                        continue;
                    }
                    Some(id) => id.to_owned(),
                },
            };
            let is_pending = self.pending.remove(&id).is_some();
            let is_member = self.members.contains_key(&id);
            self.remove(&id, cx);
            had_members |= is_pending || is_member;
            results.push(if is_pending || is_member {
                Ok(())
            } else {
                Err(ErrorCode::UnknownMember)
            });
        }
        if had_members {
            self.used_ms = cx.time_ms;
        }
        // The answer of who leaves comes before those of who waited for it.
        cx.reply(Ok(Reply::Left(results)));
        if had_members {
            self.after_removal(cx);
        }
    }

    /// A leader saw that a member was silent; true when something changed.
    pub(crate) fn expire_member(&mut self, id: &str, generation: i32, cx: &mut Cx<'_>) -> bool {
        let is_due = match self.members.get(id) {
            // Who waits is not expected to speak.
            Some(member) => member.waiting == Waiting::No && self.generation == generation,
            None => self.pending.contains_key(id),
        };
        if is_due {
            self.pending.remove(id);
            self.remove(id, cx);
            self.used_ms = cx.time_ms;
            self.after_removal(cx);
        }
        is_due
    }

    /// A leader saw that the time to join or to sync ran out; true when something changed.
    pub(crate) fn end_rebalance(
        &mut self,
        generation: i32,
        joining: bool,
        cx: &mut Cx<'_>,
    ) -> bool {
        let expected = if joining {
            Phase::Joining
        } else {
            Phase::Syncing
        };
        if self.generation != generation || self.phase != expected {
            return false;
        }
        let is_late = |m: &Member| match m.waiting {
            // A static member may come back under its name until its session ends.
            Waiting::No => !joining || m.instance.is_none(),
            Waiting::Join(_) | Waiting::Sync(_) => false,
        };
        let late: Vec<String> = (self.members.iter())
            .filter(|(_, m)| is_late(m))
            .map(|(id, _)| id.clone())
            .collect();
        for id in &late {
            self.remove(id, cx);
        }
        if !joining {
            if late.is_empty() {
                return false;
            }
            self.prepare_rebalance(cx);
            return true;
        }
        let joined = |m: &Member| matches!(m.waiting, Waiting::Join(_));
        if self.members.is_empty() || self.members.values().any(joined) {
            self.begin_generation(cx);
            return true;
        }
        !late.is_empty()
    }
}
