//! Who works on what, from which checkpoint: one of several that may be there leads, and any of them may die, or go on
//! for a while although another one leads by now.
//!
//! * An *epoch* is a set of workers that share the tasks. It begins with a claim: the [`Record`] is read and its epoch
//!   raised by comparing its version. Whatever an earlier epoch still wants to store is refused from then on, so what
//!   is begun from is the last checkpoint and stays it.
//! * When a member is lost, or says that it cannot go on, the epoch is over, and another one begins with who is there
//!   then. There is one path for that, whatever happened.
//! * A checkpoint is stored when *all* members have acknowledged it: offsets, state and output together.
//! * Its output is published in steps, each of which changes the record in the same transaction. So a step counts once
//!   or not at all, and whoever claims the record goes on behind the last step.
//!
//! Without IO: the host carries out what [`Master::poll`] tells, and says how it went.

use super::record::{Position, Record};
use super::task::Counts;
use base::planted::{Bug, ComputingBug, planted};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// How long workers are waited for when there are fewer than wanted, in milliseconds.
pub const GATHER_MS: u64 = 2_000;
/// How long after the end of an epoch the next one begins at the earliest, in milliseconds.
const PAUSE_MS: u64 = 200;
/// A checkpoint that is not complete after so long, in milliseconds, ends the epoch.
const COMPLETE_MS: u64 = 60_000;

/// A worker's acknowledgement of a checkpoint.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Ack {
    /// Where its sources read on.
    pub positions: BTreeMap<i32, Position>,
    /// The file that it has written.
    pub file: String,
    /// How many records of output are in it.
    pub outputs: u64,
    /// Its watermark, if it has one.
    pub watermark_ms: Option<i64>,
    /// What happened since the checkpoint before.
    pub counts: Counts,
}

/// What the host is to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// Read the record, raise its epoch under comparison of its version, and say so to [`Master::handle_claimed`].
    Claim,
    /// Tell these workers, the first of which is task 0, to begin anew from this record.
    Assign {
        /// The workers.
        members: Vec<u64>,
        /// From where.
        record: Record,
    },
    /// Tell the sources of all these workers to put the barrier of this checkpoint.
    Begin {
        /// The workers.
        members: Vec<u64>,
        /// The epoch.
        epoch: u64,
        /// The checkpoint.
        checkpoint: u64,
    },
    /// In one transaction: if the record has this version, append some of the output behind `published` to the sink,
    /// and put this record with `published` so much further. Then say so to [`Master::handle_stored`].
    Store {
        /// The record.
        record: Record,
        /// The version it replaces.
        version: i32,
    },
    /// Remove the files that are left over ([`Record::is_left_over`]).
    Sweep {
        /// The record.
        record: Record,
    },
    /// The stream was stopped, and all that it read is in its last checkpoint.
    End,
}

/// How it is going.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// It waits for workers.
    Gathering,
    /// It asks for the record.
    Claiming,
    /// It runs on so many workers.
    Running(usize),
    /// It was stopped.
    Ended,
}

#[derive(Clone, Debug)]
enum Phase {
    Gathering { since_ms: u64 },
    Claiming { members: Vec<u64> },
    Running(Running),
    Ended,
}

#[derive(Clone, Debug)]
struct Running {
    members: Vec<u64>,
    record: Record,
    version: i32,
    is_storing: bool,
    pending: Option<Pending>,
    /// When the last checkpoint began, or the epoch.
    begun_ms: u64,
    /// The checkpoint under way is the last.
    is_last: bool,
}

#[derive(Clone, Debug)]
struct Pending {
    checkpoint: u64,
    acks: BTreeMap<usize, Ack>,
}

/// The state of who leads a stream.
#[derive(Clone, Debug)]
pub struct Master {
    wanted: usize,
    checkpoint_ms: u64,
    workers: BTreeSet<u64>,
    phase: Phase,
    is_stopping: bool,
    actions: VecDeque<Action>,
}

impl Master {
    /// One that begins to lead now a stream of so many workers and a checkpoint each so many milliseconds.
    pub fn new(now_ms: u64, wanted: usize, checkpoint_ms: u64) -> Self {
        Self {
            wanted: wanted.max(1),
            checkpoint_ms,
            workers: BTreeSet::new(),
            phase: Phase::Gathering { since_ms: now_ms },
            is_stopping: false,
            actions: VecDeque::new(),
        }
    }

    /// What is to be done next.
    pub fn poll(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// How it is going.
    pub fn state(&self) -> State {
        match &self.phase {
            Phase::Gathering { .. } => State::Gathering,
            Phase::Claiming { .. } => State::Claiming,
            Phase::Running(running) => State::Running(running.members.len()),
            Phase::Ended => State::Ended,
        }
    }

    /// A worker is there; its number was never another one's.
    pub fn handle_worker(&mut self, worker: u64) {
        self.workers.insert(worker);
    }

    /// A worker is gone.
    pub fn handle_worker_lost(&mut self, now_ms: u64, worker: u64) {
        self.workers.remove(&worker);
        let is_member = match &self.phase {
            Phase::Running(Running { members, .. }) | Phase::Claiming { members } => {
                members.contains(&worker)
            }
            Phase::Gathering { .. } | Phase::Ended => false,
        };
        if is_member {
            self.gather(now_ms);
        }
    }

    /// A worker says that it cannot go on with what it was told in `epoch`.
    pub fn handle_failed(&mut self, now_ms: u64, worker: u64, epoch: u64) {
        if let Phase::Running(running) = &self.phase
            && running.record.epoch == epoch
            && running.members.contains(&worker)
        {
            self.gather(now_ms);
        }
    }

    /// The stream is to end with a last checkpoint.
    pub fn handle_stop(&mut self) {
        self.is_stopping = true;
    }

    fn gather(&mut self, now_ms: u64) {
        self.phase = Phase::Gathering { since_ms: now_ms };
    }

    /// Time goes by.
    pub fn handle_tick(&mut self, now_ms: u64) {
        let passed = |since_ms: u64| now_ms.saturating_sub(since_ms);
        match &mut self.phase {
            Phase::Gathering { since_ms } => {
                let waited_ms = passed(*since_ms);
                let enough = self.workers.len() >= self.wanted && waited_ms >= PAUSE_MS;
                if enough || (!self.workers.is_empty() && waited_ms >= GATHER_MS) {
                    let members = self.workers.iter().copied().take(self.wanted).collect();
                    self.phase = Phase::Claiming { members };
                    self.actions.push_back(Action::Claim);
                }
            }
            Phase::Running(running) => {
                if running.pending.is_some() {
                    if passed(running.begun_ms) > COMPLETE_MS {
                        self.gather(now_ms);
                    }
                    return;
                }
                if running.is_storing || !running.record.is_published() {
                    return;
                }
                if running.members.len() < self.wanted.min(self.workers.len()) {
                    return self.gather(now_ms);
                }
                if self.is_stopping || passed(running.begun_ms) >= self.checkpoint_ms {
                    let checkpoint = running.record.checkpoint + 1;
                    running.begun_ms = now_ms;
                    running.is_last = self.is_stopping;
                    running.pending = Some(Pending {
                        checkpoint,
                        acks: BTreeMap::new(),
                    });
                    self.actions.push_back(Action::Begin {
                        members: running.members.clone(),
                        epoch: running.record.epoch,
                        checkpoint,
                    });
                }
            }
            Phase::Claiming { .. } | Phase::Ended => {}
        }
    }

    /// The record was claimed: so it is now, with this version. Nothing: it could not be.
    pub fn handle_claimed(&mut self, now_ms: u64, claimed: Option<(Record, i32)>) {
        let Phase::Claiming { members } = &self.phase else {
            return;
        };
        let Some((record, version)) = claimed else {
            return self.gather(now_ms);
        };
        let members = members.clone();
        self.actions.push_back(Action::Sweep {
            record: record.clone(),
        });
        self.actions.push_back(Action::Assign {
            members: members.clone(),
            record: record.clone(),
        });
        let mut running = Running {
            members,
            record,
            version,
            is_storing: false,
            pending: None,
            begun_ms: now_ms,
            is_last: false,
        };
        // The master before may have died over it.
        if !running.record.is_published() {
            running.is_storing = true;
            self.actions.push_back(Action::Store {
                record: running.record.clone(),
                version,
            });
        }
        self.phase = Phase::Running(running);
    }

    /// A worker has its part of a checkpoint on disk.
    pub fn handle_ack(&mut self, worker: u64, epoch: u64, checkpoint: u64, ack: Ack) {
        let Phase::Running(running) = &mut self.phase else {
            return;
        };
        let index = running.members.iter().position(|member| *member == worker);
        let (Some(index), Some(pending)) = (index, &mut running.pending) else {
            return;
        };
        if running.record.epoch != epoch || pending.checkpoint != checkpoint {
            return;
        }
        pending.acks.insert(index, ack);
        let missing = running.members.len() - pending.acks.len();
        let early = planted(Bug::Computing(ComputingBug::CompleteEarly));
        if missing > usize::from(early) {
            return;
        }
        let Some(pending) = running.pending.take() else {
            return;
        };
        let acks = || pending.acks.values();
        let before = &running.record;
        let mut positions = before.positions.clone();
        acks().for_each(|ack| positions.extend(ack.positions.clone()));
        let mut record = Record {
            epoch,
            checkpoint,
            positions,
            files: acks().map(|ack| ack.file.clone()).collect(),
            outputs: acks().map(|ack| ack.outputs).sum(),
            published: 0,
            watermark_ms: acks().filter_map(|ack| ack.watermark_ms).min(),
            read: before.read + acks().map(|ack| ack.counts.read).sum::<u64>(),
            late: before.late + acks().map(|ack| ack.counts.late).sum::<u64>(),
            unreadable: before.unreadable + acks().map(|ack| ack.counts.unreadable).sum::<u64>(),
        };
        if planted(Bug::Computing(ComputingBug::OffsetsWithoutState)) {
            record.files.clone_from(&before.files);
            record.outputs = before.outputs;
            record.published = before.outputs;
        }
        running.is_storing = true;
        self.actions.push_back(Action::Store {
            record,
            version: running.version,
        });
    }

    /// A step of storing in `epoch` is done: so the record is now, with this version. Nothing: it was refused, or
    /// nobody knows; then the record tells when it is claimed.
    pub fn handle_stored(&mut self, now_ms: u64, epoch: u64, stored: Option<(Record, i32)>) {
        let Phase::Running(running) = &mut self.phase else {
            return;
        };
        if running.record.epoch != epoch {
            return;
        }
        let Some((record, version)) = stored else {
            return self.gather(now_ms);
        };
        (running.record, running.version) = (record.clone(), version);
        if !record.is_published() {
            self.actions.push_back(Action::Store { record, version });
            return;
        }
        running.is_storing = false;
        self.actions.push_back(Action::Sweep { record });
        if running.is_last {
            self.phase = Phase::Ended;
            self.actions.push_back(Action::End);
        }
    }
}

#[cfg(test)]
mod tests;
