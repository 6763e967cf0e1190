//! The machines that a shard can hold: the one place where chapters meet.

use base::{ApplyFault, Machine, SnapshotPoll, Stamp};
use bytes::Bytes;
use catalog::{Catalog, CatalogOutput, META_SHARD};
use coordination::{Coordination, Output, Unit};

/// A shard's state.
#[derive(Debug)]
pub enum ShardMachine {
    /// The meta shard's.
    Catalog(Box<Catalog>),
    /// The tree shard's.
    Coordination(Box<Coordination>),
}

/// What applying tells the outside.
#[derive(Clone, PartialEq, Debug)]
pub enum ShardOutput {
    /// From the catalog.
    Catalog(CatalogOutput),
    /// From the coordination store.
    Coordination(Output),
}

impl ShardMachine {
    /// The empty machine of a shard.
    pub fn empty(shard: base::ShardId) -> Self {
        if shard == META_SHARD {
            Self::Catalog(Box::default())
        } else {
            Self::Coordination(Box::new(Coordination::new()))
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
            Self::Coordination(m) => {
                let unit = Unit::decode(unit)
                    .map_err(|e| ApplyFault::UnknownCommand(format!("coordination: {e}")))?;
                let mut outputs = Vec::new();
                m.apply_unit(stamp, unit, &mut outputs)?;
                out.extend(outputs.into_iter().map(ShardOutput::Coordination));
            }
        }
        Ok(())
    }

    /// The latest time that the machine has seen, in milliseconds; 0 for one that keeps none.
    pub fn time_ms(&self) -> i64 {
        match self {
            Self::Catalog(_) => 0,
            Self::Coordination(m) => m.time_ms(),
        }
    }

    /// Bytes that a snapshot is likely to take.
    pub fn bytes(&self) -> u64 {
        match self {
            Self::Catalog(_) => 4096,
            Self::Coordination(m) => {
                let counts = m.counts();
                counts.data_bytes + 100 * counts.nodes as u64
            }
        }
    }

    /// See [`Machine::digest`].
    pub fn digest(&self) -> u64 {
        match self {
            Self::Catalog(m) => m.digest(),
            Self::Coordination(m) => m.digest(),
        }
    }

    /// See [`Machine::begin_snapshot`].
    pub fn begin_snapshot(&mut self) {
        match self {
            Self::Catalog(m) => m.begin_snapshot(),
            Self::Coordination(m) => m.begin_snapshot(),
        }
    }

    /// See [`Machine::poll_snapshot`].
    pub fn poll_snapshot(&mut self, bytes_max: usize) -> SnapshotPoll {
        match self {
            Self::Catalog(m) => m.poll_snapshot(bytes_max),
            Self::Coordination(m) => m.poll_snapshot(bytes_max),
        }
    }

    /// See [`Machine::abort_snapshot`].
    pub fn abort_snapshot(&mut self) {
        match self {
            Self::Catalog(m) => m.abort_snapshot(),
            Self::Coordination(m) => m.abort_snapshot(),
        }
    }

    /// See [`Machine::restore`].
    pub fn restore(&mut self, chunk: &[u8]) -> Result<(), String> {
        match self {
            Self::Catalog(m) => m.restore(chunk),
            Self::Coordination(m) => m.restore(chunk),
        }
    }

    /// See [`Machine::finish_restore`].
    pub fn finish_restore(&mut self) -> Result<(), String> {
        match self {
            Self::Catalog(m) => m.finish_restore(),
            Self::Coordination(m) => m.finish_restore(),
        }
    }
}
