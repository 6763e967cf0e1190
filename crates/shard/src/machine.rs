//! The machines that a shard can hold: the one place where chapters meet.
//!
//! A data shard holds a slice of every chapter. In the log a unit begins with its chapter's number; in a
//! snapshot each chunk does. All chapters share one cut, since no unit is applied between their
//! `begin_snapshot`s.

use crate::follow::Source;
use crate::transaction::Work;
use crate::transaction::store::Chapters;
use crate::transaction::touch;
use base::{ApplyFault, DecodeError, Machine, SnapshotPoll, Stamp, State, Writer};
use bytes::Bytes;
use catalog::{Catalog, CatalogOutput, META_SHARD};
use coordination::Coordination;
use coordination::services::{self, Services};
use messaging::{Registry, Topics};
use scheduling::Scheduling;
use storage::cache::{self, Cache};
use storage::files::{self, Files};
use transactions::Transactions;
use transactions::global::{self, Globals};

/// A shard's state.
#[derive(Debug)]
pub enum ShardMachine {
    /// The meta shard's.
    Catalog(Box<Catalog>),
    /// Any other's.
    Data(Box<Data>),
}

/// What a data shard holds, chapter by chapter.
#[derive(Debug, Default)]
pub struct Data {
    /// The coordination store; only the tree shard's is ever used.
    pub coordination: Coordination,
    /// The cache.
    pub cache: Cache,
    /// Partitions of topics, and consumer groups.
    pub topics: Topics,
    /// Which topics there are; only the tree shard's is ever used.
    pub registry: Registry,
    /// Who offers what, where; only the tree shard's is ever used.
    pub services: Services,
    /// Files' names and the places of their chunks; only the tree shard's is ever used.
    pub files: Files,
    /// Transactions under way, and who waits for them.
    pub transactions: Transactions<Work>,
    /// Global transactions of services outside; only the tree shard's are ever used.
    pub globals: Globals,
    /// Jobs, agents, and what runs where; only the tree shard's is ever used.
    pub scheduling: Scheduling,
    /// How far this shard has followed another cluster's.
    pub source: Source,
    /// An empty cache in which commands of transactions are tried.
    scratch: Cache,
    /// Empty between units; kept for its room.
    cache_outputs: Vec<cache::Output>,
    /// Which chapter the snapshot under way is at.
    cut: Option<Chapter>,
}

/// The chapters of a data shard, in the order of a snapshot. Numbers stand in logs and snapshots.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Chapter {
    Coordination = 1,
    Cache = 2,
    Topics = 3,
    Registry = 4,
    Services = 5,
    Files = 6,
    Transactions = 7,
    Globals = 8,
    Scheduling = 9,
    Source = 11,
}

impl Chapter {
    const ALL: &[Self] = &[
        Self::Coordination,
        Self::Cache,
        Self::Topics,
        Self::Registry,
        Self::Services,
        Self::Files,
        Self::Transactions,
        Self::Globals,
        Self::Scheduling,
        Self::Source,
    ];

    fn from_number(number: u8) -> Option<Self> {
        (Self::ALL.iter().copied()).find(|chapter| *chapter as u8 == number)
    }

    fn next(self) -> Option<Self> {
        (Self::ALL.iter().copied()).find(|chapter| *chapter as u8 > self as u8)
    }
}

/// What a data shard is asked to apply as a whole.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DataUnit {
    /// For the coordination store.
    Coordination(coordination::Unit),
    /// For the cache.
    Cache(cache::Unit),
    /// For topics' partitions and groups.
    Topics(messaging::Unit),
    /// For the registry of topics.
    Registry(messaging::RegistryUnit),
    /// For the services.
    Services(services::Unit),
    /// For files.
    Files(files::Unit),
    /// For transactions over chapters.
    Transactions(transactions::Unit<Work>),
    /// For global transactions.
    Globals(global::Unit),
    /// For jobs and agents.
    Scheduling(scheduling::Unit),
}

impl DataUnit {
    /// The byte form, as it stands in the log.
    pub fn encode(&self) -> Bytes {
        let mut w = Writer::with_capacity(match self {
            Self::Cache(unit) => 1 + unit.encoded_bytes(),
            Self::Topics(messaging::Unit {
                command: messaging::Command::Append { batch, .. },
                ..
            }) => 256 + batch.bytes.len(),
            _ => 256,
        });
        match self {
            Self::Coordination(unit) => {
                w.u8(Chapter::Coordination as u8);
                unit.encode_into(&mut w);
            }
            Self::Cache(unit) => {
                w.u8(Chapter::Cache as u8);
                unit.encode_into(&mut w);
            }
            Self::Topics(unit) => {
                w.u8(Chapter::Topics as u8);
                unit.encode_into(&mut w);
            }
            Self::Registry(unit) => {
                w.u8(Chapter::Registry as u8);
                unit.encode_into(&mut w);
            }
            Self::Services(unit) => {
                w.u8(Chapter::Services as u8);
                unit.encode_into(&mut w);
            }
            Self::Files(unit) => {
                w.u8(Chapter::Files as u8);
                unit.encode_into(&mut w);
            }
            Self::Transactions(unit) => {
                w.u8(Chapter::Transactions as u8);
                unit.encode_into(&mut w);
            }
            Self::Globals(unit) => {
                w.u8(Chapter::Globals as u8);
                unit.encode_into(&mut w);
            }
            Self::Scheduling(unit) => {
                w.u8(Chapter::Scheduling as u8);
                unit.encode_into(&mut w);
            }
        }
        w.into_bytes()
    }

    /// Reads the byte form; everything must be consumed.
    pub fn decode(bytes: &Bytes) -> Result<Self, DecodeError> {
        let number = *bytes.first().ok_or(DecodeError::Truncated)?;
        let chapter = Chapter::from_number(number).ok_or(DecodeError::Invalid("chapter"))?;
        let unit = bytes.slice(1..);
        Ok(match chapter {
            Chapter::Coordination => Self::Coordination(coordination::Unit::decode(&unit)?),
            Chapter::Cache => Self::Cache(cache::Unit::decode(&unit)?),
            Chapter::Topics => Self::Topics(messaging::Unit::decode(&unit)?),
            Chapter::Registry => Self::Registry(messaging::RegistryUnit::decode(&unit)?),
            Chapter::Services => Self::Services(services::Unit::decode(&unit)?),
            Chapter::Files => Self::Files(files::Unit::decode(&unit)?),
            Chapter::Transactions => Self::Transactions(transactions::Unit::decode(&unit)?),
            Chapter::Globals => Self::Globals(global::Unit::decode(&unit)?),
            Chapter::Scheduling => Self::Scheduling(scheduling::Unit::decode(&unit)?),
            // It has units of another form, which the shard applies.
            Chapter::Source => return Err(DecodeError::Invalid("chapter")),
        })
    }
}

/// What applying tells the outside.
#[derive(Clone, PartialEq, Debug)]
pub enum ShardOutput {
    /// From the catalog.
    Catalog(CatalogOutput),
    /// From the coordination store.
    Coordination(coordination::Output),
    /// From the cache.
    Cache(cache::Output),
    /// From topics' partitions and groups.
    Topics(messaging::Output),
    /// From the registry of topics.
    Registry(messaging::RegistryOutput),
    /// From the services.
    Services(services::Output),
    /// From files.
    Files(files::Output),
    /// From transactions over chapters.
    Transactions(transactions::Output<Work>),
    /// From global transactions.
    Globals(global::Output),
    /// From jobs and agents.
    Scheduling(scheduling::Output),
}

impl ShardMachine {
    /// The empty machine of a shard.
    pub fn empty(shard: base::ShardId) -> Self {
        if shard == META_SHARD {
            Self::Catalog(Box::default())
        } else {
            Self::Data(Box::default())
        }
    }

    /// A data shard's chapters.
    pub fn data(&self) -> Option<&Data> {
        match self {
            Self::Data(data) => Some(data),
            Self::Catalog(_) => None,
        }
    }

    pub(crate) fn data_mut(&mut self) -> Option<&mut Data> {
        match self {
            Self::Data(data) => Some(data),
            Self::Catalog(_) => None,
        }
    }

    /// Brings near what the next units will be about; see [`Cache::approach`].
    pub fn approach<'a>(&self, units: impl Iterator<Item = &'a Bytes>) {
        if let Self::Data(data) = self {
            data.cache.approach(units.filter_map(|unit| {
                let (chapter, unit) = unit.split_first()?;
                (*chapter == Chapter::Cache as u8).then(|| cache::Unit::key_of(unit))?
            }));
        }
    }

    /// Applies one unit.
    pub fn apply(
        &mut self,
        stamp: Stamp,
        unit: &Bytes,
        out: &mut Vec<ShardOutput>,
    ) -> Result<(), ApplyFault> {
        match self {
            Self::Catalog(m) => {
                let mut outputs = Vec::new();
                m.apply(stamp, unit, &mut outputs)?;
                out.extend(outputs.into_iter().map(ShardOutput::Catalog));
            }
            Self::Data(m) => m.apply(stamp, unit, out)?,
        }
        Ok(())
    }

    /// Applies the next unit that waited for a transaction and waits no more. `None` when there is none: only
    /// then may the next unit of the log be applied.
    pub fn apply_parked(&mut self, out: &mut Vec<ShardOutput>) -> Option<Result<(), ApplyFault>> {
        match self {
            Self::Catalog(_) => None,
            Self::Data(m) => m.apply_parked(out),
        }
    }

    /// The latest time that the machine has seen, in milliseconds; 0 for one that keeps none.
    pub fn time_ms(&self) -> i64 {
        match self {
            Self::Catalog(_) => 0,
            Self::Data(m) => {
                let transactions = m.transactions.time_ms();
                let times = [
                    m.cache.time_ms(),
                    m.topics.time_ms(),
                    m.services.time_ms(),
                    m.files.time_ms(),
                    m.globals.time_ms(),
                    m.scheduling.time_ms(),
                    transactions,
                ];
                times.into_iter().fold(m.coordination.time_ms(), i64::max)
            }
        }
    }

    /// Bytes that a snapshot is likely to take.
    pub fn bytes(&self) -> u64 {
        match self {
            Self::Catalog(_) => 4096,
            Self::Data(m) => {
                let counts = m.coordination.counts();
                let topics = 100 * u64::from(m.registry.partition_count());
                counts.data_bytes
                    + 100 * counts.nodes as u64
                    + m.cache.bytes()
                    + m.topics.bytes()
                    + topics
                    + m.services.bytes()
                    + m.files.bytes()
                    + m.globals.bytes()
                    + m.scheduling.bytes()
            }
        }
    }

    /// See [`Machine::digest`].
    pub fn digest(&self) -> u64 {
        match self {
            Self::Catalog(m) => m.digest(),
            Self::Data(m) => {
                let all = Chapter::ALL.iter().copied().zip(0..);
                all.fold(0, |digest, (chapter, turns)| {
                    digest ^ m.part(chapter).digest().rotate_left(turns)
                })
            }
        }
    }

    /// See [`Machine::begin_snapshot`].
    pub fn begin_snapshot(&mut self) {
        match self {
            Self::Catalog(m) => m.begin_snapshot(),
            Self::Data(m) => {
                for &chapter in Chapter::ALL {
                    m.part_mut(chapter).begin_snapshot();
                }
                m.cut = Some(Chapter::ALL[0]);
            }
        }
    }

    /// See [`Machine::poll_snapshot`].
    pub fn poll_snapshot(&mut self, bytes_max: usize) -> SnapshotPoll {
        match self {
            Self::Catalog(m) => m.poll_snapshot(bytes_max),
            Self::Data(m) => m.poll_snapshot(bytes_max),
        }
    }

    /// See [`Machine::abort_snapshot`].
    pub fn abort_snapshot(&mut self) {
        match self {
            Self::Catalog(m) => m.abort_snapshot(),
            Self::Data(m) => {
                m.cut = None;
                for &chapter in Chapter::ALL {
                    m.part_mut(chapter).abort_snapshot();
                }
            }
        }
    }

    /// See [`Machine::restore`].
    pub fn restore(&mut self, chunk: &[u8]) -> Result<(), String> {
        match self {
            Self::Catalog(m) => m.restore(chunk),
            Self::Data(m) => {
                let (number, chunk) = chunk.split_first().ok_or("an empty chunk")?;
                match Chapter::from_number(*number) {
                    Some(chapter) => m.part_mut(chapter).restore(chunk),
                    None => Err(format!(
                        "a chunk of chapter {number}, which is not known here"
                    )),
                }
            }
        }
    }

    /// See [`Machine::finish_restore`].
    pub fn finish_restore(&mut self) -> Result<(), String> {
        match self {
            Self::Catalog(m) => m.finish_restore(),
            Self::Data(m) => Chapter::ALL
                .iter()
                .try_for_each(|&chapter| m.part_mut(chapter).finish_restore()),
        }
    }
}

impl Data {
    fn part(&self, chapter: Chapter) -> &dyn State {
        match chapter {
            Chapter::Coordination => &self.coordination,
            Chapter::Cache => &self.cache,
            Chapter::Topics => &self.topics,
            Chapter::Registry => &self.registry,
            Chapter::Services => &self.services,
            Chapter::Files => &self.files,
            Chapter::Transactions => &self.transactions,
            Chapter::Globals => &self.globals,
            Chapter::Scheduling => &self.scheduling,
            Chapter::Source => &self.source,
        }
    }

    fn part_mut(&mut self, chapter: Chapter) -> &mut dyn State {
        match chapter {
            Chapter::Coordination => &mut self.coordination,
            Chapter::Cache => &mut self.cache,
            Chapter::Topics => &mut self.topics,
            Chapter::Registry => &mut self.registry,
            Chapter::Services => &mut self.services,
            Chapter::Files => &mut self.files,
            Chapter::Transactions => &mut self.transactions,
            Chapter::Globals => &mut self.globals,
            Chapter::Scheduling => &mut self.scheduling,
            Chapter::Source => &mut self.source,
        }
    }

    fn apply(
        &mut self,
        stamp: Stamp,
        bytes: &Bytes,
        out: &mut Vec<ShardOutput>,
    ) -> Result<(), ApplyFault> {
        let unit = decode(bytes)?;
        if self.transactions.is_holding()
            && let Some(touches) = touch::touches(&unit)
            && self.transactions.holds_up(&touches)
        {
            self.transactions.park(stamp, bytes.clone());
            return Ok(());
        }
        self.run(stamp, unit, out)
    }

    fn apply_parked(&mut self, out: &mut Vec<ShardOutput>) -> Option<Result<(), ApplyFault>> {
        let unit = match decode(self.transactions.due_parked()?) {
            Ok(unit) => unit,
            Err(fault) => return Some(Err(fault)),
        };
        let touches = touch::touches(&unit).unwrap_or_default();
        let (stamp, _) = self.transactions.unpark(&touches)?;
        Some(self.run(stamp, unit, out))
    }

    fn run(
        &mut self,
        stamp: Stamp,
        unit: DataUnit,
        out: &mut Vec<ShardOutput>,
    ) -> Result<(), ApplyFault> {
        match unit {
            DataUnit::Coordination(unit) => {
                let mut outputs = Vec::new();
                self.coordination.apply_unit(stamp, unit, &mut outputs)?;
                out.extend(outputs.into_iter().map(ShardOutput::Coordination));
            }
            DataUnit::Cache(mut unit) => {
                self.leave_held(&mut unit);
                (self.cache).apply_unit(stamp, unit, &mut self.cache_outputs)?;
                out.extend(self.cache_outputs.drain(..).map(ShardOutput::Cache));
            }
            DataUnit::Topics(unit) => {
                let mut outputs = Vec::new();
                self.topics.apply_unit(stamp, unit, &mut outputs);
                out.extend(outputs.into_iter().map(ShardOutput::Topics));
            }
            DataUnit::Registry(unit) => {
                let mut outputs = Vec::new();
                self.registry.apply_unit(unit, &mut outputs);
                out.extend(outputs.into_iter().map(ShardOutput::Registry));
            }
            DataUnit::Services(unit) => {
                let mut outputs = Vec::new();
                self.services.apply_unit(stamp, unit, &mut outputs);
                out.extend(outputs.into_iter().map(ShardOutput::Services));
            }
            DataUnit::Files(unit) => {
                let mut outputs = Vec::new();
                self.files.apply_unit(stamp, unit, &mut outputs);
                out.extend(outputs.into_iter().map(ShardOutput::Files));
            }
            DataUnit::Globals(unit) => {
                let mut outputs = Vec::new();
                self.globals.apply_unit(stamp, unit, &mut outputs);
                out.extend(outputs.into_iter().map(ShardOutput::Globals));
            }
            DataUnit::Scheduling(unit) => {
                let mut outputs = Vec::new();
                self.scheduling.apply_unit(stamp, unit, &mut outputs);
                out.extend(outputs.into_iter().map(ShardOutput::Scheduling));
            }
            DataUnit::Transactions(unit) => {
                let mut outputs = Vec::new();
                let mut chapters = Chapters {
                    coordination: &mut self.coordination,
                    cache: &mut self.cache,
                    scratch: &mut self.scratch,
                    topics: &mut self.topics,
                    out,
                };
                (self.transactions).apply(stamp, unit, &mut chapters, &mut outputs);
                out.extend(outputs.into_iter().map(ShardOutput::Transactions));
            }
        }
        Ok(())
    }

    /// Keys whose time is over stay while a transaction holds them; the leader proposes their removal again.
    fn leave_held(&self, unit: &mut cache::Unit) {
        if let cache::Body::Expire(ended) = &mut unit.body
            && self.transactions.is_holding()
        {
            ended.retain(|e| {
                let key = touch::key_resource(e.database, &e.key);
                !self.transactions.is_held(&key)
            });
        }
    }

    fn poll_snapshot(&mut self, bytes_max: usize) -> SnapshotPoll {
        while let Some(chapter) = self.cut {
            match self.part_mut(chapter).poll_snapshot(bytes_max) {
                SnapshotPoll::Chunk(mut bytes) => {
                    bytes.insert(0, chapter as u8);
                    return SnapshotPoll::Chunk(bytes);
                }
                SnapshotPoll::Done => self.cut = chapter.next(),
            }
        }
        SnapshotPoll::Done
    }
}

fn decode(unit: &Bytes) -> Result<DataUnit, ApplyFault> {
    DataUnit::decode(unit)
        .map_err(|e| ApplyFault::UnknownCommand(format!("a data shard's unit: {e}")))
}
