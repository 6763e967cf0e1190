//! The machine: what is under way, what is promised, what is held, who waits, what has ended.
//!
//! A promise can always be kept: a part is tried with the stamp of the `Prepare`, and carried out later with
//! the same stamp on what was locked meanwhile, so that it is the same computation.
//!
//! Steps of a transaction over the shards 2 and 3, each one entry of a log:
//!
//! ```text
//! 2  Begin    its own part is tried, what it touches is locked, the record is made
//! 3  Prepare  the part is tried, what it touches is locked, the promise is made
//! 2  Voted    all have promised: this is the decision. The own part is carried out, its locks go
//! 3  Decide   the part is carried out, its locks and the promise go
//! 2  Applied  all have done it: the client is answered, the record goes
//! ```

use crate::ended::{Ended, Memory, OUTCOME_MS, PREPARE_MS_MAX, PROMISE_MS};
use crate::locks::{Locks, Resource, Touch};
use crate::output::{Outcome, Output, Refusal};
use crate::parked::Parked;
use crate::record::{Done, Item, ORIGINS_MAX, Phase, Promise, Record, Table};
use crate::snapshot::{Cut, Restore};
use crate::unit::{Part, TxnId, Unit, Work};
use base::planted::{Bug, planted};
use base::{Origin, ShardId, SnapshotPoll, Stamp, State, Writer};
use bytes::Bytes;
use twox_hash::XxHash64;

/// Transactions of which a shard holds the record, or has promised its part, at a time.
pub const UNDER_WAY_MAX: usize = 1_000;
/// A transaction that is not prepared after so many milliseconds is given up.
pub const PREPARING_MS_MAX: i64 = 10_000;
/// What has not been answered after so many milliseconds is asked again.
pub const RETRY_MS: i64 = 500;

/// The data that transactions are about.
pub trait Store {
    /// What is done to it.
    type Work: Work;
    /// Whether this work could be done now; changes nothing. The refusal is in the store's own words.
    fn attempt(&mut self, at: Stamp, work: &Self::Work) -> Result<(), Bytes>;
    /// Does it, after `attempt` with the same stamp, and with nothing of what it touches changed since. Yields
    /// what it yields.
    fn carry_out(&mut self, at: Stamp, work: &Self::Work) -> Bytes;
}

/// Sizes, for people.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Transactions of which the record is here, under way.
    pub records: usize,
    /// Promises that were made here and are not decided yet.
    pub promises: usize,
    /// Things that they hold.
    pub locks: usize,
    /// Units that wait for them.
    pub parked: usize,
    /// Outcomes remembered.
    pub ended: usize,
    /// Committed since the shard was made, by their record.
    pub committed: u64,
    /// Refused since the shard was made, by their record.
    pub refused: u64,
}

/// A transaction under way, for people.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct View {
    /// Which.
    pub id: TxnId,
    /// Where its record is.
    pub record: ShardId,
    /// Since when it is under way here, Unix milliseconds.
    pub since_ms: i64,
    /// What it waits for, in a word: `preparing`, `in doubt`, `committed`.
    pub state: &'static str,
    /// The shards that are asked.
    pub waits_for: Vec<ShardId>,
}

/// A shard's transactions.
#[derive(Debug)]
pub struct Transactions<W> {
    time_ms: i64,
    committed: u64,
    refused: u64,
    pub(crate) records: Table<Record<W>>,
    pub(crate) promises: Table<Promise<W>>,
    pub(crate) locks: Locks,
    pub(crate) parked: Parked,
    pub(crate) ended: Memory,
    cut: Option<Cut>,
    restoring: Option<Box<Restore<W>>>,
}

impl<W> Default for Transactions<W> {
    fn default() -> Self {
        Self {
            time_ms: 0,
            committed: 0,
            refused: 0,
            records: Table::default(),
            promises: Table::default(),
            locks: Locks::default(),
            parked: Parked::default(),
            ended: Memory::default(),
            cut: None,
            restoring: None,
        }
    }
}

impl<W: Work> Transactions<W> {
    // --- who waits ---

    /// True when a unit has to be asked about before it is applied: something is held, or some wait already.
    #[inline]
    pub fn is_holding(&self) -> bool {
        !self.locks.is_empty() || !self.parked.is_empty()
    }

    /// True when a unit that touches this has to wait.
    pub fn holds_up(&self, touches: &[Touch]) -> bool {
        !self.parked.is_empty() || touches.iter().any(|touch| self.locks.meets(touch))
    }

    /// True while a transaction holds this.
    pub fn is_held(&self, resource: &Resource) -> bool {
        self.locks.holds(resource)
    }

    /// Lets a unit wait behind those that do.
    pub fn park(&mut self, stamp: Stamp, unit: Bytes) {
        self.parked.push(stamp, unit);
    }

    /// The first unit that waits, if it is worth looking at again.
    pub fn due_parked(&self) -> Option<&Bytes> {
        self.parked.front().filter(|_| self.parked.is_due)
    }

    /// Takes the first unit that waits, unless one of these is held.
    pub fn unpark(&mut self, touches: &[Touch]) -> Option<(Stamp, Bytes)> {
        if touches.iter().any(|touch| self.locks.meets(touch)) {
            self.parked.is_due = false;
            return None;
        }
        self.parked.pop()
    }

    /// True when no more should be proposed that would have to wait.
    pub fn is_full(&self) -> bool {
        self.parked.is_full()
    }

    // --- units ---

    /// Applies one unit, on the data of this shard.
    pub fn apply<S: Store<Work = W>>(
        &mut self,
        stamp: Stamp,
        unit: Unit<W>,
        store: &mut S,
        out: &mut Vec<Output<W>>,
    ) {
        self.time_ms = self.time_ms.max(stamp.time_ms);
        let stamp = Stamp {
            time_ms: self.time_ms,
            ..stamp
        };
        match unit {
            Unit::Begin {
                origin,
                id,
                content,
                parts,
            } => self.begin(stamp, origin, (id, content), parts, store, out),
            Unit::Prepare {
                id,
                record,
                shard,
                asked_ms,
                work,
            } => {
                let promise = Promise {
                    record,
                    shard,
                    at: stamp,
                    work,
                };
                self.prepare(id, promise, asked_ms, store, out);
            }
            Unit::Voted { id, shard, vote } => self.voted(&id, shard, vote, store, out),
            Unit::AskAgain { id, shard, now_ms } => self.ask_again(id, shard, now_ms, out),
            Unit::Decide {
                id,
                record,
                shard,
                commit: true,
            } => self.commit(id, (record, shard), store, out),
            Unit::Decide { id, .. } => self.forget(id),
            Unit::Applied { id, shard, results } => self.applied(&id, shard, results, out),
            Unit::Inquire { id, shard, record } => self.inquired(id, record, shard, out),
            Unit::Abort { id } => {
                if let Some(record) = self.records.get(&id)
                    && let Phase::Preparing { part, .. } = record.phase
                {
                    let why = Refusal::TooLate(record.parts[part].shard);
                    self.abort(&id, why, out);
                }
            }
        }
    }

    fn begin<S: Store<Work = W>>(
        &mut self,
        stamp: Stamp,
        origin: Origin,
        (id, content): (TxnId, u64),
        parts: Vec<Part<W>>,
        store: &mut S,
        out: &mut Vec<Output<W>>,
    ) {
        let reply = |outcome| Output::Reply {
            origin,
            id: id.clone(),
            outcome,
        };
        if let Some(record) = self.records.get(&id) {
            if record.content != content {
                out.push(reply(Outcome::Refused(Refusal::OtherContent)));
            } else if record.origins.len() < ORIGINS_MAX {
                let mut record = record.clone();
                record.origins.push(origin);
                self.records.put(id, record);
            }
            return;
        }
        if let Some(ended) = self.ended.get(&id) {
            out.push(reply(match ended.content == content {
                true => ended.outcome.clone(),
                false => Outcome::Refused(Refusal::OtherContent),
            }));
            return;
        }
        let own = &parts[0];
        if self.records.len() >= UNDER_WAY_MAX {
            let why = Refusal::TooMany(own.shard);
            out.push(reply(Outcome::Refused(why)));
            return;
        }
        let outcome = match store.attempt(stamp, &own.work) {
            Err(words) => Outcome::Refused(Refusal::Work(words)),
            Ok(()) if parts.len() == 1 => {
                Outcome::Committed(vec![Some(store.carry_out(stamp, &own.work))])
            }
            Ok(()) => {
                self.locks.take(&id, own.work.resources());
                let record = Record {
                    origins: vec![origin],
                    at: stamp,
                    parts,
                    content,
                    phase: Phase::Preparing {
                        part: 1,
                        asked_ms: stamp.time_ms,
                    },
                };
                out.extend(prepare(&id, &record));
                self.records.put(id, record);
                return;
            }
        };
        out.push(reply(outcome.clone()));
        self.end(id, outcome, content);
    }

    fn prepare<S: Store<Work = W>>(
        &mut self,
        id: TxnId,
        promise: Promise<W>,
        asked_ms: i64,
        store: &mut S,
        out: &mut Vec<Output<W>>,
    ) {
        let (record, shard) = (promise.record, promise.shard);
        let vote = if self.promises.get(&id).is_some() {
            Ok(())
        } else if self.ended.get(&id).is_some() {
            Err(Refusal::TooLate(shard))
        } else if self.time_ms.abs_diff(asked_ms) > PREPARE_MS_MAX as u64 {
            let now_ms = self.time_ms;
            out.push(Output::Tell {
                to: record,
                unit: Unit::AskAgain { id, shard, now_ms },
            });
            return;
        } else if self.promises.len() >= UNDER_WAY_MAX {
            Err(Refusal::TooMany(shard))
        } else if let Err(words) = store.attempt(promise.at, &promise.work) {
            Err(Refusal::Work(words))
        } else {
            self.locks.take(&id, promise.resources());
            self.promises.put(id.clone(), promise);
            if planted(Bug::CommitBeforeDecision) {
                out.push(tell_decision(&id, record, shard, true));
            }
            Ok(())
        };
        out.push(Output::Tell {
            to: record,
            unit: Unit::Voted { id, shard, vote },
        });
    }

    fn voted<S: Store<Work = W>>(
        &mut self,
        id: &TxnId,
        shard: ShardId,
        vote: Result<(), Refusal>,
        store: &mut S,
        out: &mut Vec<Output<W>>,
    ) {
        let Some(record) = self.records.get(id) else {
            return;
        };
        let next = match record.phase {
            Phase::Preparing { part, .. } if record.parts[part].shard == shard => part + 1,
            _ => return,
        };
        if let Err(refusal) = vote {
            return self.abort(id, refusal, out);
        }
        let mut record = record.clone();
        if next < record.parts.len() {
            record.phase = Phase::Preparing {
                part: next,
                asked_ms: self.time_ms,
            };
            out.extend(prepare(id, &record));
        } else {
            let own = &record.parts[0];
            let results = store.carry_out(record.at, &own.work);
            self.release(id, own.work.resources());
            let mut done = vec![Done::No; record.parts.len()];
            done[0] = Done::Yes(Some(results));
            record.phase = Phase::Committed(done);
            out.extend(decide(id, &record));
        }
        self.records.put(id.clone(), record);
    }

    /// The participant that is asked has another time.
    fn ask_again(&mut self, id: TxnId, shard: ShardId, now_ms: i64, out: &mut Vec<Output<W>>) {
        let Some(record) = self.records.get(&id) else {
            return;
        };
        let mut record = record.clone();
        match &mut record.phase {
            Phase::Preparing { part, asked_ms } if record.parts[*part].shard == shard => {
                *asked_ms = now_ms;
            }
            _ => return,
        }
        out.extend(prepare(&id, &record));
        self.records.put(id, record);
    }

    fn abort(&mut self, id: &TxnId, why: Refusal, out: &mut Vec<Output<W>>) {
        let Some(record) = self.records.remove(id) else {
            return;
        };
        self.release(id, record.parts[0].work.resources());
        let Phase::Preparing { part: last, .. } = record.phase else {
            debug_assert!(false, "what is decided is not aborted");
            return;
        };
        for part in &record.parts[1..=last] {
            out.push(tell_decision(id, record.parts[0].shard, part.shard, false));
        }
        self.answer(id, &record, Outcome::Refused(why), out);
    }

    /// As a participant: the transaction is committed.
    fn commit<S: Store<Work = W>>(
        &mut self,
        id: TxnId,
        (record, shard): (ShardId, ShardId),
        store: &mut S,
        out: &mut Vec<Output<W>>,
    ) {
        let results = match self.promises.remove(&id) {
            Some(promise) => {
                let results = store.carry_out(promise.at, &promise.work);
                self.release(&id, promise.resources());
                let outcome = Outcome::Committed(vec![Some(results.clone())]);
                self.remember(id.clone(), outcome, 0, PROMISE_MS);
                Some(results)
            }
            // It was done before; nobody is told to commit what was not promised.
            None => match self.ended.get(&id).map(|ended| &ended.outcome) {
                Some(Outcome::Committed(parts)) => parts.first().cloned().flatten(),
                _ => None,
            },
        };
        out.push(Output::Tell {
            to: record,
            unit: Unit::Applied { id, shard, results },
        });
    }

    /// As a participant: the transaction is aborted.
    fn forget(&mut self, id: TxnId) {
        if let Some(promise) = self.promises.remove(&id) {
            self.release(&id, promise.resources());
        } else if self.ended.get(&id).is_some() {
            return;
        }
        let why = Refusal::OtherContent;
        self.remember(id, Outcome::Refused(why), 0, PROMISE_MS);
    }

    fn applied(
        &mut self,
        id: &TxnId,
        shard: ShardId,
        results: Option<Bytes>,
        out: &mut Vec<Output<W>>,
    ) {
        let Some(record) = self.records.get(id) else {
            return;
        };
        let mut record = record.clone();
        let Phase::Committed(done) = &mut record.phase else {
            return;
        };
        for (part, done) in record.parts.iter().zip(done.iter_mut()) {
            if part.shard == shard && *done == Done::No {
                *done = Done::Yes(results.clone());
            }
        }
        if done.contains(&Done::No) {
            self.records.put(id.clone(), record);
            return;
        }
        let results = std::mem::take(done).into_iter().map(|done| match done {
            Done::Yes(results) => results,
            Done::No => None,
        });
        let outcome = Outcome::Committed(results.collect());
        self.records.remove(id);
        self.answer(id, &record, outcome, out);
    }

    /// What has no record was aborted, or this participant has done its part: either way there is nothing
    /// that it should still do.
    fn inquired(&self, id: TxnId, record: ShardId, shard: ShardId, out: &mut Vec<Output<W>>) {
        let commit = match self.records.get(&id).map(|record| &record.phase) {
            Some(Phase::Preparing { .. }) => return,
            Some(Phase::Committed(_)) => true,
            None => planted(Bug::CommitWithoutRecord),
        };
        out.push(tell_decision(&id, record, shard, commit));
    }

    fn answer(
        &mut self,
        id: &TxnId,
        record: &Record<W>,
        outcome: Outcome,
        out: &mut Vec<Output<W>>,
    ) {
        out.extend(record.origins.iter().map(|origin| Output::Reply {
            origin: *origin,
            id: id.clone(),
            outcome: outcome.clone(),
        }));
        self.end(id.clone(), outcome, record.content);
    }

    fn end(&mut self, id: TxnId, outcome: Outcome, content: u64) {
        match outcome {
            Outcome::Committed(_) => self.committed += 1,
            Outcome::Refused(_) => self.refused += 1,
        }
        self.remember(id, outcome, content, OUTCOME_MS);
    }

    fn remember(&mut self, id: TxnId, outcome: Outcome, content: u64, for_ms: i64) {
        let ended = Ended {
            outcome,
            content,
            until_ms: self.time_ms.saturating_add(for_ms),
        };
        self.ended.put(id, ended, self.time_ms);
    }

    fn release(&mut self, id: &TxnId, resources: Vec<Resource>) {
        self.locks.release(id, resources);
        self.parked.is_due = true;
    }

    // --- the leader's duties ---

    /// What a leader proposes at this time (Unix milliseconds by its stamps) because nobody has answered for
    /// [`RETRY_MS`], with the shard that it is for; at most `max`.
    pub fn due(&self, time_ms: i64, max: usize) -> Vec<(ShardId, Unit<W>)> {
        // Stamps never go back: behind a leader whose clock was ahead they stand still, and what is from then
        // looks younger than now.
        let is_due = |since_ms: i64| time_ms.abs_diff(since_ms) > RETRY_MS as u64;
        let is_over = |since_ms: i64| time_ms.saturating_sub(since_ms) > PREPARING_MS_MAX;
        let mut due = Vec::new();
        for (id, record) in self.records.iter() {
            if !is_due(record.at.time_ms) {
                continue;
            }
            let told = match record.phase {
                Phase::Preparing { .. } if is_over(record.at.time_ms) => {
                    vec![Output::Tell {
                        to: record.parts[0].shard,
                        unit: Unit::Abort { id: id.clone() },
                    }]
                }
                Phase::Preparing { .. } => prepare(id, record).into_iter().collect(),
                Phase::Committed(_) => decide(id, record),
            };
            due.extend(told.into_iter().filter_map(|output| match output {
                Output::Tell { to, unit } => Some((to, unit)),
                Output::Reply { .. } => None,
            }));
            if due.len() >= max {
                break;
            }
        }
        let in_doubt = (self.promises.iter()).filter(|(_, p)| is_due(p.at.time_ms));
        due.extend(in_doubt.map(|(id, promise)| {
            let unit = Unit::Inquire {
                id: id.clone(),
                shard: promise.shard,
                record: promise.record,
            };
            (promise.record, unit)
        }));
        due.truncate(max);
        due
    }

    // --- for people ---

    /// Sizes, for people.
    pub fn counts(&self) -> Counts {
        Counts {
            records: self.records.len(),
            promises: self.promises.len(),
            locks: self.locks.len(),
            parked: self.parked.len(),
            ended: self.ended.len(),
            committed: self.committed,
            refused: self.refused,
        }
    }

    /// Transactions under way, at most `max` of either kind.
    pub fn views(&self, max: usize) -> Vec<View> {
        let records = self.records.iter().take(max).map(|(id, record)| {
            let (state, waits_for) = match &record.phase {
                Phase::Preparing { part, .. } => ("preparing", vec![record.parts[*part].shard]),
                Phase::Committed(done) => {
                    let all = record.parts.iter().zip(done);
                    let open = all.filter(|(_, done)| **done == Done::No);
                    ("committed", open.map(|(part, _)| part.shard).collect())
                }
            };
            View {
                id: id.clone(),
                record: record.parts[0].shard,
                since_ms: record.at.time_ms,
                state,
                waits_for,
            }
        });
        let promises = self.promises.iter().take(max).map(|(id, promise)| View {
            id: id.clone(),
            record: promise.record,
            since_ms: promise.at.time_ms,
            state: "in doubt",
            waits_for: vec![promise.record],
        });
        records.chain(promises).collect()
    }

    /// The latest outcomes remembered, newest first: id, until when it is remembered (Unix milliseconds), how
    /// it ended.
    pub fn outcomes(&self, max: usize) -> Vec<(&TxnId, i64, &Outcome)> {
        self.ended.latest(max)
    }

    /// The machine's clock, milliseconds since 1970.
    pub fn time_ms(&self) -> i64 {
        self.time_ms
    }

    fn lock_anew(&mut self) {
        self.locks.clear();
        self.parked.is_due = true;
        if planted(Bug::ForgetLocksOnSnapshot) {
            return;
        }
        let records = self.records.iter().map(|(id, r)| (id, r.resources()));
        let promises = self.promises.iter().map(|(id, p)| (id, p.resources()));
        for (id, resources) in records.chain(promises) {
            self.locks.take(id, resources);
        }
    }
}

impl<W: Work> State for Transactions<W> {
    fn digest(&self) -> u64 {
        let mut w = Writer::new();
        w.i64(self.time_ms).u64(self.committed).u64(self.refused);
        w.u64(self.parked.first());
        XxHash64::oneshot(5, w.as_slice())
            .wrapping_add(self.records.digest())
            .wrapping_add(self.promises.digest())
            .wrapping_add(self.parked.digest())
            .wrapping_add(self.ended.digest())
    }

    /// Copies everything, which is bounded.
    fn begin_snapshot(&mut self) {
        let counters = [self.time_ms as u64, self.committed, self.refused];
        self.cut = Some(Cut::new(self, counters));
    }

    fn poll_snapshot(&mut self, bytes_max: usize) -> SnapshotPoll {
        let poll = match &mut self.cut {
            Some(cut) => cut.poll(bytes_max),
            None => SnapshotPoll::Done,
        };
        if poll == SnapshotPoll::Done {
            self.cut = None;
        }
        poll
    }

    fn abort_snapshot(&mut self) {
        self.cut = None;
    }

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
        let restoring = (self.restoring.take())
            .ok_or("restoring a snapshot of transactions: no chunk was fed")?;
        let digest = restoring.digest();
        let (counters, mut made) = restoring.finish()?;
        made.time_ms = counters[0] as i64;
        (made.committed, made.refused) = (counters[1], counters[2]);
        made.lock_anew();
        if made.digest() != digest {
            return Err("a snapshot of transactions does not have the digest that it names".into());
        }
        *self = made;
        Ok(())
    }
}

/// The question to the participant whose turn it is.
fn prepare<W: Work>(id: &TxnId, record: &Record<W>) -> Option<Output<W>> {
    let Phase::Preparing { part, asked_ms } = record.phase else {
        return None;
    };
    let part = record.parts[part].clone();
    Some(Output::Tell {
        to: part.shard,
        unit: Unit::Prepare {
            id: id.clone(),
            record: record.parts[0].shard,
            shard: part.shard,
            asked_ms,
            work: part.work,
        },
    })
}

/// The decision for all that have not said that they know it.
fn decide<W: Work>(id: &TxnId, record: &Record<W>) -> Vec<Output<W>> {
    let Phase::Committed(done) = &record.phase else {
        return Vec::new();
    };
    let open = record.parts.iter().zip(done);
    open.filter(|(_, done)| **done == Done::No)
        .map(|(part, _)| tell_decision(id, record.parts[0].shard, part.shard, true))
        .collect()
}

fn tell_decision<W>(id: &TxnId, record: ShardId, to: ShardId, commit: bool) -> Output<W> {
    Output::Tell {
        to,
        unit: Unit::Decide {
            id: id.clone(),
            record,
            shard: to,
            commit,
        },
    }
}
