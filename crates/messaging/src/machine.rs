//! The machine of a shard: partitions and groups, and the dispatch of units.
//!
//! Phases of a unit: time is clamped; what is about to change is shown to a snapshot that is being taken;
//! the change is made, or refused as a whole; the digest follows; outputs stand in order.

use crate::command::{
    Command, Join, LogConfig, MemberName, NewBatch, OffsetCommit, PartitionId, Sync, TopicId, Unit,
};
use crate::groups::{Cx, GROUP_NAME_BYTES_MAX, Group, Phase};
use crate::log::Batch;
use crate::output::Output;
use crate::partition::{Appended, Fetched, Partition, PartitionView};
use crate::registry::{Registry, Topic};
use crate::reply::{ErrorCode, Reply};
use crate::restore::Restore;
use crate::snapshot::Cut;
use base::{ApplyFault, Machine, Origin, SnapshotPoll, Stamp, State, Writer};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use twox_hash::XxHash64;

/// A group without members is forgotten when nobody has used it for so long, with what it committed.
pub const GROUP_RETENTION_MS: i64 = 7 * 24 * 3600 * 1000;
/// A group without members and without offsets is forgotten sooner.
pub const EMPTY_GROUP_RETENTION_MS: i64 = 10 * 60 * 1000;

/// Sizes, for people.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Partitions.
    pub partitions: usize,
    /// Bytes of batches held.
    pub bytes: u64,
    /// Groups.
    pub groups: usize,
    /// Members of all groups.
    pub members: usize,
}

/// A shard's partitions and groups.
#[derive(Debug, Default)]
pub struct Topics {
    /// Units applied, whatever became of them.
    revision: u64,
    time_ms: i64,
    partitions: BTreeMap<PartitionId, Partition>,
    groups: BTreeMap<String, Group>,
    /// Bytes of batches in all partitions.
    bytes: u64,
    /// Sum of the digests of partitions and groups.
    digest: u64,
    cut: Option<Box<Cut>>,
    restoring: Option<Box<Restore>>,
}

impl Topics {
    /// No partitions, no groups.
    pub fn new() -> Self {
        Self::default()
    }

    pub(crate) fn from_parts(
        revision: u64,
        time_ms: i64,
        partitions: BTreeMap<PartitionId, Partition>,
        groups: BTreeMap<String, Group>,
    ) -> Self {
        let mut digest = 0u64;
        for partition in partitions.values() {
            digest = digest.wrapping_add(partition.digest());
        }
        for (name, group) in &groups {
            digest = digest.wrapping_add(group.digest(name));
        }
        Self {
            revision,
            time_ms,
            bytes: partitions.values().map(|p| p.log.bytes()).sum(),
            partitions,
            groups,
            digest,
            cut: None,
            restoring: None,
        }
    }

    /// Applies one decoded unit; [`Machine::apply`] without the decoding and copying.
    pub fn apply_unit(&mut self, stamp: Stamp, unit: Unit, out: &mut Vec<Output>) {
        self.time_ms = self.time_ms.max(stamp.time_ms);
        self.revision += 1;
        let Unit { origin, command } = unit;
        match command {
            Command::OpenPartition {
                partition,
                name,
                config,
            } => {
                self.open_partition(partition, name, config);
                reply(out, origin, Ok(Reply::Done));
            }
            Command::DropPartition { partition } => {
                let done = self.drop_partition(partition);
                reply(out, origin, done.map(|()| Reply::Done));
            }
            Command::Append { partition, batch } => {
                let done = self.take_batch(partition, &batch, out);
                reply(out, origin, done);
            }
            Command::Trim {
                partition,
                log_start,
            } => {
                let done = self.trim(partition, log_start);
                reply(out, origin, done);
            }
            Command::Join(join) => self.join(origin, join, out),
            Command::Sync(sync) => self.sync(origin, sync, out),
            Command::Leave { group, members } => {
                let or = ErrorCode::UnknownMember;
                self.with_group(origin, &group, or, out, |g, cx| {
                    g.leave(&members, cx);
                    true
                });
            }
            Command::Commit {
                group,
                member,
                generation,
                offsets,
            } => self.commit(origin, &group, &member, generation, offsets, out),
            Command::ExpireMember {
                group,
                member,
                generation,
            } => {
                let or = ErrorCode::GroupNotFound;
                self.with_group(origin, &group, or, out, |g, cx| {
                    g.expire_member(&member, generation, cx)
                });
            }
            Command::EndRebalance {
                group,
                generation,
                joining,
            } => {
                let or = ErrorCode::GroupNotFound;
                self.with_group(origin, &group, or, out, |g, cx| {
                    g.end_rebalance(generation, joining, cx)
                });
            }
            Command::DeleteGroup { group } => {
                let done = self.delete_group(&group, out);
                reply(out, origin, done.map(|()| Reply::Done));
            }
            Command::ExpireGroup { group, used_ms } => {
                if self
                    .groups
                    .get(&group)
                    .is_some_and(|g| g.used_ms == used_ms)
                {
                    // One that has members meanwhile stays.
                    let _ = self.delete_group(&group, out);
                }
            }
            Command::ForgetTopic { topic } => self.forget_topic(topic),
        }
    }

    fn open_partition(&mut self, id: PartitionId, name: String, config: LogConfig) {
        self.keep_old_partition(id);
        let partition = (self.partitions.entry(id))
            .and_modify(|p| self.digest = self.digest.wrapping_sub(p.digest()))
            .or_insert_with(|| Partition::new(id, name, config));
        partition.config = config;
        self.digest = self.digest.wrapping_add(partition.digest());
    }

    fn drop_partition(&mut self, id: PartitionId) -> Result<(), ErrorCode> {
        self.keep_old_partition(id);
        let gone = self.partitions.remove(&id);
        let gone = gone.ok_or(ErrorCode::UnknownPartition)?;
        self.digest = self.digest.wrapping_sub(gone.digest());
        self.bytes -= gone.log.bytes();
        Ok(())
    }

    fn take_batch(
        &mut self,
        id: PartitionId,
        batch: &NewBatch,
        out: &mut Vec<Output>,
    ) -> Result<Reply, ErrorCode> {
        self.keep_old_partition(id);
        let partition = self.partitions.get_mut(&id);
        let partition = partition.ok_or(ErrorCode::UnknownPartition)?;
        let (digest, bytes) = (partition.digest(), partition.log.bytes());
        let done = partition.append(batch, self.time_ms);
        self.digest = (self.digest)
            .wrapping_sub(digest)
            .wrapping_add(partition.digest());
        self.bytes += partition.log.bytes() - bytes;
        if let Ok(Appended::New(_)) = done {
            out.push(Output::Appended {
                partition: id,
                log_end: partition.log.end(),
            });
        }
        done.map(|what| partition.appended(what))
    }

    /// Whether batches of no producer would be refused if they were appended one after the other: the place and
    /// the refusal of the first that is.
    pub fn attempt(&self, appends: &[(PartitionId, &NewBatch)]) -> Result<(), (usize, ErrorCode)> {
        let mut ahead: BTreeMap<PartitionId, u64> = BTreeMap::new();
        for (at, (id, batch)) in appends.iter().enumerate() {
            let ahead = ahead.entry(*id).or_default();
            let partition = self.partition_of(*id);
            let checked = partition.and_then(|p| match batch.producer {
                None => p.check(batch, *ahead),
                Some(_) => Err(ErrorCode::InvalidRecord),
            });
            checked.map_err(|error| (at, error))?;
            *ahead += u64::from(batch.count);
        }
        Ok(())
    }

    /// Appends batches as one unit: the first offset of each. After [`Self::attempt`] on the same partitions none
    /// is refused.
    pub fn carry_out(
        &mut self,
        stamp: Stamp,
        appends: &[(PartitionId, &NewBatch)],
        out: &mut Vec<Output>,
    ) -> Vec<Result<i64, ErrorCode>> {
        self.time_ms = self.time_ms.max(stamp.time_ms);
        self.revision += 1;
        let append = |(id, batch): &(PartitionId, &NewBatch)| {
            let end = self.partition_of(*id)?.log.end();
            self.take_batch(*id, batch, out).map(|_| end)
        };
        appends.iter().map(append).collect()
    }

    fn trim(&mut self, id: PartitionId, log_start: i64) -> Result<Reply, ErrorCode> {
        self.keep_old_partition(id);
        let partition = self.partitions.get_mut(&id);
        let partition = partition.ok_or(ErrorCode::UnknownPartition)?;
        let log_start = match log_start {
            -1 => partition.log.end(),
            start if start < 0 || start > partition.log.end() => {
                return Err(ErrorCode::OffsetOutOfRange);
            }
            start => start,
        };
        let (digest, bytes) = (partition.digest(), partition.log.bytes());
        let log_start = partition.log.trim(log_start);
        self.digest = (self.digest)
            .wrapping_sub(digest)
            .wrapping_add(partition.digest());
        self.bytes -= bytes - partition.log.bytes();
        Ok(Reply::Trimmed { log_start })
    }

    fn join(&mut self, origin: Origin, join: Join, out: &mut Vec<Output>) {
        let name = join.group.clone();
        if !self.groups.contains_key(&name) {
            let why = if name.is_empty() || name.len() > GROUP_NAME_BYTES_MAX {
                ErrorCode::InvalidGroup
            } else {
                ErrorCode::UnknownMember
            };
            if why == ErrorCode::InvalidGroup || !join.member.id.is_empty() {
                return reply(out, origin, Err(why));
            }
        }
        self.with_new_group(origin, &name, out, |g, cx| g.join(join, cx));
    }

    fn sync(&mut self, origin: Origin, sync: Sync, out: &mut Vec<Output>) {
        let name = sync.group.clone();
        let or = ErrorCode::UnknownMember;
        self.with_group(origin, &name, or, out, |g, cx| g.sync(sync, cx));
    }

    fn commit(
        &mut self,
        origin: Origin,
        name: &str,
        member: &MemberName,
        generation: i32,
        offsets: Vec<OffsetCommit>,
        out: &mut Vec<Output>,
    ) {
        if name.len() > GROUP_NAME_BYTES_MAX {
            return reply(out, origin, Err(ErrorCode::InvalidGroup));
        }
        if !self.groups.contains_key(name) && generation >= 0 {
            return reply(out, origin, Err(ErrorCode::IllegalGeneration));
        }
        // Positions do not move a deadline, so nobody is told that the group changed.
        let told = out.len();
        self.with_new_group(origin, name, out, |g, cx| {
            g.commit(member, generation, offsets, cx)
        });
        let is_change = |o: &Output| matches!(o, Output::GroupChanged { .. });
        if let Some(at) = out[told..].iter().position(is_change) {
            out.remove(told + at);
        }
    }

    /// Lets `change` act on a group; it says whether something changed.
    fn with_group(
        &mut self,
        origin: Origin,
        name: &str,
        or: ErrorCode,
        out: &mut Vec<Output>,
        change: impl FnOnce(&mut Group, &mut Cx<'_>) -> bool,
    ) {
        if self.groups.contains_key(name) {
            self.with_new_group(origin, name, out, change);
        } else {
            reply(out, origin, Err(or));
        }
    }

    /// The same; a group that does not exist is made if something changes.
    fn with_new_group(
        &mut self,
        origin: Origin,
        name: &str,
        out: &mut Vec<Output>,
        change: impl FnOnce(&mut Group, &mut Cx<'_>) -> bool,
    ) {
        self.keep_old_group(name);
        let old = self.groups.remove(name);
        let old_digest = old.as_ref().map_or(0, |g| g.digest(name));
        let is_new = old.is_none();
        let mut group = old.unwrap_or_else(|| Group::new(self.time_ms));
        let mut cx = Cx {
            name,
            origin,
            time_ms: self.time_ms,
            unique: self.revision,
            out,
        };
        let changed = change(&mut group, &mut cx);
        if changed {
            let group = cx.name.to_owned();
            cx.out.push(Output::GroupChanged { group });
        } else if is_new {
            return;
        }
        self.digest = (self.digest)
            .wrapping_sub(old_digest)
            .wrapping_add(group.digest(name));
        self.groups.insert(name.to_owned(), group);
    }

    fn delete_group(&mut self, name: &str, out: &mut Vec<Output>) -> Result<(), ErrorCode> {
        let group = self.groups.get(name).ok_or(ErrorCode::GroupNotFound)?;
        if group.phase != Phase::Empty {
            return Err(ErrorCode::NonEmptyGroup);
        }
        self.keep_old_group(name);
        let gone = self.groups.remove(name).expect("it was seen");
        self.digest = self.digest.wrapping_sub(gone.digest(name));
        out.push(Output::GroupChanged {
            group: name.to_owned(),
        });
        Ok(())
    }

    fn forget_topic(&mut self, topic: TopicId) {
        let knows = |g: &Group| g.offsets_of(topic).next().is_some();
        let names: Vec<String> = (self.groups.iter())
            .filter(|(_, g)| knows(g))
            .map(|(name, _)| name.clone())
            .collect();
        for name in names {
            self.keep_old_group(&name);
            let group = self.groups.get_mut(&name).expect("it was seen");
            self.digest = self.digest.wrapping_sub(group.digest(&name));
            group.forget_topic(topic);
            self.digest = self.digest.wrapping_add(group.digest(&name));
        }
    }

    fn keep_old_partition(&mut self, id: PartitionId) {
        if let Some(cut) = &mut self.cut {
            cut.keep_old_partition(id, self.partitions.get(&id));
        }
    }

    fn keep_old_group(&mut self, name: &str) {
        if let Some(cut) = &mut self.cut {
            cut.keep_old_group(name, self.groups.get(name));
        }
    }

    /// Commands that a leader proposes at this time (Unix milliseconds by its stamps), at most `max`:
    /// retention, and groups that nobody uses.
    pub fn due(&self, time_ms: i64, max: usize) -> Vec<Command> {
        let trims = self.partitions.values().filter_map(|p| {
            let log_start = p.log.retained_from(&p.config, time_ms)?;
            let partition = p.id;
            Some(Command::Trim {
                partition,
                log_start,
            })
        });
        let groups = self.groups.iter().filter_map(|(name, g)| {
            let keep_ms = if g.offsets.is_empty() {
                EMPTY_GROUP_RETENTION_MS
            } else {
                GROUP_RETENTION_MS
            };
            let is_due = g.phase == Phase::Empty && time_ms.saturating_sub(g.used_ms) > keep_ms;
            is_due.then(|| Command::ExpireGroup {
                group: name.clone(),
                used_ms: g.used_ms,
            })
        });
        trims.chain(groups).take(max).collect()
    }

    /// Commands that bring this shard to what the registry says, at most `max`: partitions that are missing
    /// or configured otherwise, partitions and committed offsets of topics that are gone. `owns` says
    /// whether a topic's partition belongs to this shard.
    pub fn reconcile(
        &self,
        registry: &Registry,
        owns: impl Fn(&Topic, u32) -> bool,
        max: usize,
    ) -> Vec<Command> {
        let mut commands: Vec<Command> = Vec::new();
        for topic in registry.topics() {
            for index in 0..topic.partition_count {
                let id = PartitionId {
                    topic: topic.id,
                    index,
                };
                let has = self.partitions.get(&id).map(|p| p.config);
                if has != Some(topic.log_config()) && owns(topic, index) {
                    commands.push(Command::OpenPartition {
                        partition: id,
                        name: topic.name.clone(),
                        config: topic.log_config(),
                    });
                }
                if commands.len() >= max {
                    return commands;
                }
            }
        }
        // A topic that the registry never had is one of a newer registry.
        let is_gone = |topic| registry.had(topic) && registry.topic_by_id(topic).is_none();
        let is_lost = |id: PartitionId| match registry.topic_by_id(id.topic) {
            Some(topic) => !owns(topic, id.index),
            None => is_gone(id.topic),
        };
        let gone = self.partitions.keys().filter(|id| is_lost(**id));
        commands.extend(gone.map(|id| Command::DropPartition { partition: *id }));
        let committed: BTreeSet<TopicId> = (self.groups.values())
            .flat_map(|g| g.offsets.keys().map(|p| p.topic))
            .collect();
        let gone = (committed.into_iter()).filter(|topic| is_gone(*topic));
        commands.extend(gone.map(|topic| Command::ForgetTopic { topic }));
        commands.truncate(max);
        commands
    }

    fn partition_of(&self, id: PartitionId) -> Result<&Partition, ErrorCode> {
        self.partitions.get(&id).ok_or(ErrorCode::UnknownPartition)
    }

    /// Batches from the one that holds `offset` on, up to `bytes_max`; the first one is given even if it is
    /// larger, when `at_least_one`.
    pub fn read(
        &self,
        id: PartitionId,
        offset: i64,
        bytes_max: usize,
        at_least_one: bool,
    ) -> Result<Fetched, ErrorCode> {
        let log = &self.partition_of(id)?.log;
        Ok(Fetched {
            log_start: log.start(),
            high_watermark: log.end(),
            batches: log.read(offset, bytes_max, at_least_one)?,
        })
    }

    /// The first batch with a record that is not older than `time_ms`, if there is one. Which record of it
    /// that is, only the wire can say.
    pub fn batch_at_time(
        &self,
        id: PartitionId,
        time_ms: i64,
    ) -> Result<Option<&Batch>, ErrorCode> {
        Ok(self.partition_of(id)?.log.batch_at_time(time_ms))
    }

    /// The first batch that holds a record of the newest time, if there is one.
    pub fn newest_batch(&self, id: PartitionId) -> Result<Option<&Batch>, ErrorCode> {
        Ok(self.partition_of(id)?.log.newest_batch())
    }

    /// True when this shard has the partition.
    pub fn has_partition(&self, id: PartitionId) -> bool {
        self.partitions.contains_key(&id)
    }

    /// The log's start and the offset that comes next.
    pub fn bounds(&self, id: PartitionId) -> Option<(i64, i64)> {
        let log = &self.partitions.get(&id)?.log;
        Some((log.start(), log.end()))
    }

    /// A partition, for its offsets and for people.
    pub fn partition(&self, id: PartitionId) -> Option<PartitionView> {
        self.partitions.get(&id).map(Partition::view)
    }

    /// All partitions, in order of their ids.
    pub fn partitions(&self) -> impl Iterator<Item = PartitionView> {
        self.partitions.values().map(Partition::view)
    }

    /// A group.
    pub fn group(&self, name: &str) -> Option<&Group> {
        self.groups.get(name)
    }

    /// All groups, in order of their names.
    pub fn groups(&self) -> impl Iterator<Item = (&str, &Group)> {
        self.groups.iter().map(|(name, g)| (name.as_str(), g))
    }

    /// Units applied.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// The latest time that was applied, Unix milliseconds.
    pub fn time_ms(&self) -> i64 {
        self.time_ms
    }

    /// Bytes of batches held.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Sizes, for people; goes through all groups.
    pub fn counts(&self) -> Counts {
        Counts {
            partitions: self.partitions.len(),
            bytes: self.bytes,
            groups: self.groups.len(),
            members: self.groups.values().map(|g| g.members.len()).sum(),
        }
    }
}

fn reply(out: &mut Vec<Output>, origin: Origin, reply: Result<Reply, ErrorCode>) {
    if origin != Origin::default() {
        out.push(Output::Reply { origin, reply });
    }
}

impl Machine for Topics {
    type Output = Output;

    fn apply(
        &mut self,
        stamp: Stamp,
        unit: &[u8],
        out: &mut Vec<Output>,
    ) -> Result<(), ApplyFault> {
        let unit = Unit::decode(&Bytes::copy_from_slice(unit))
            .map_err(|e| ApplyFault::UnknownCommand(format!("topics: {e}")))?;
        self.apply_unit(stamp, unit, out);
        Ok(())
    }
}

impl State for Topics {
    fn digest(&self) -> u64 {
        let mut w = Writer::new();
        w.u64(self.revision).i64(self.time_ms);
        self.digest.wrapping_add(XxHash64::oneshot(6, w.as_slice()))
    }

    fn begin_snapshot(&mut self) {
        let mut w = Writer::new();
        w.u64(self.revision).i64(self.time_ms).u64(self.digest());
        w.u64(self.partitions.len() as u64)
            .u64(self.groups.len() as u64);
        self.cut = Some(Box::new(Cut::new(w.as_slice())));
    }

    fn poll_snapshot(&mut self, bytes_max: usize) -> SnapshotPoll {
        let Some(cut) = &mut self.cut else {
            return SnapshotPoll::Done;
        };
        let polled = cut.poll(&self.partitions, &self.groups, bytes_max);
        if polled == SnapshotPoll::Done {
            self.cut = None;
        }
        polled
    }

    fn abort_snapshot(&mut self) {
        self.cut = None;
    }

    fn restore(&mut self, chunk: &[u8]) -> Result<(), String> {
        if base::chunk::is_first(chunk) {
            self.restoring = None;
        }
        self.restoring.get_or_insert_default().chunk(chunk)
    }

    fn finish_restore(&mut self) -> Result<(), String> {
        let restoring = self.restoring.take().unwrap_or_default();
        *self = restoring.finish()?;
        Ok(())
    }
}
