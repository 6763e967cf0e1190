//! The machine: its rows, and which command does what.

use super::command::{Command, NewGlobal, Refusal, Reply, Unit};
use super::command::{check_branch_id, check_gid, check_url};
use super::model::{Branch, Call, Global, Kind, Op, Status};
use super::restore::{Cut, Restoring};
use super::{BRANCHES_MAX, ENDED_BYTES_MAX, ENDED_MAX, GLOBAL_BYTES_MAX, UNDER_WAY_MAX};
use base::{ApplyFault, Machine, Origin, SnapshotPoll, Stamp, State, Writer};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;
use twox_hash::XxHash64;

/// What applying tells, in order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Output {
    /// The answer to a unit.
    Reply {
        /// Who waits for it.
        origin: Origin,
        /// It.
        reply: Result<Reply, Refusal>,
    },
    /// A transaction was begun, changed or forgotten.
    Changed {
        /// Which.
        gid: String,
    },
}

/// How many there are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Under way, parked ones among them.
    pub under_way: u64,
    /// Parked.
    pub parked: u64,
    /// Calls that are wanted now.
    pub wanted: u64,
    /// Ended and remembered.
    pub remembered: u64,
    /// Begun, ever.
    pub begun: u64,
    /// Succeeded, ever.
    pub succeeded: u64,
    /// Failed, ever.
    pub failed: u64,
    /// Results of calls that were taken, ever.
    pub called: u64,
}

#[derive(Clone, Debug)]
struct Row {
    global: Arc<Global>,
    hash: u64,
    bytes: u64,
}

/// Global transactions. See the module's head.
#[derive(Debug, Default)]
pub struct Globals {
    rows: BTreeMap<String, Row>,
    pub(super) begun: u64,
    pub(super) succeeded: u64,
    pub(super) failed: u64,
    pub(super) called: u64,
    pub(super) time_ms: i64,
    /// What follows from the rows: when there is something to do about which, …
    timers: BTreeSet<(i64, String)>,
    /// … which calls are wanted, by how long they are, …
    wanted: BTreeSet<(i64, String, u32)>,
    /// … which are parked, …
    parked: BTreeSet<String>,
    /// … which have ended, by when, …
    ended: BTreeSet<(i64, String)>,
    ended_bytes: u64,
    /// … and all bytes and hashes added up.
    bytes: u64,
    rows_digest: u64,
    cut: Option<Cut>,
    pub(super) restoring: Option<Box<Restoring>>,
}

impl Globals {
    /// None.
    pub fn new() -> Self {
        Self::default()
    }

    /// The latest time that the machine has seen, Unix milliseconds.
    pub fn time_ms(&self) -> i64 {
        self.time_ms
    }

    /// Bytes that a snapshot is likely to take.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How many there are.
    pub fn counts(&self) -> Counts {
        Counts {
            under_way: (self.rows.len() - self.ended.len()) as u64,
            parked: self.parked.len() as u64,
            wanted: self.wanted.len() as u64,
            remembered: self.ended.len() as u64,
            begun: self.begun,
            succeeded: self.succeeded,
            failed: self.failed,
            called: self.called,
        }
    }

    /// One transaction.
    pub fn get(&self, gid: &str) -> Option<&Global> {
        self.rows.get(gid).map(|row| &*row.global)
    }

    /// All of them, by gid, behind one.
    pub fn after(&self, gid: &str) -> impl Iterator<Item = (&String, &Global)> {
        let from = match gid {
            "" => Bound::Unbounded,
            gid => Bound::Excluded(gid),
        };
        let rows = self.rows.range::<str, _>((from, Bound::Unbounded));
        rows.map(|(gid, row)| (gid, &*row.global))
    }

    /// Those that are parked, by gid.
    pub fn parked(&self) -> impl Iterator<Item = (&String, &Global)> {
        self.parked
            .iter()
            .filter_map(|gid| Some((gid, self.get(gid)?)))
    }

    /// Those that want a call or wait for a time, the most urgent first; some may come more than once.
    pub fn busy(&self) -> impl Iterator<Item = (&String, &Global)> {
        let wanted = self.wanted.iter().map(|(_, gid, _)| gid);
        let waiting = self.timers.iter().map(|(_, gid)| gid);
        let all = wanted
            .chain(waiting)
            .filter_map(|gid| Some((gid, self.get(gid)?)));
        all.filter(|(_, global)| !global.status.is_ended())
    }

    /// Those that have ended, the last first.
    pub fn last_ended(&self) -> impl Iterator<Item = (&String, &Global)> {
        let ended = self.ended.iter().rev();
        ended.filter_map(|(_, gid)| Some((gid, self.get(gid)?)))
    }

    /// The calls that are wanted, those that are for longest first: gid, operation, attempt.
    pub fn wanted(&self) -> impl Iterator<Item = (&String, u32, u64)> {
        self.wanted.iter().filter_map(|(_, gid, index)| {
            match self.get(gid)?.branches.get(*index as usize)?.call {
                Call::Wanted { attempt, .. } => Some((gid, *index, attempt)),
                Call::No | Call::Waits { .. } => None,
            }
        })
    }

    /// Those about which there is something to do at a time, at most so many.
    pub fn due(&self, time_ms: i64, count_max: usize) -> Vec<String> {
        let due = self
            .timers
            .iter()
            .take_while(|(at_ms, _)| *at_ms <= time_ms);
        due.take(count_max).map(|(_, gid)| gid.clone()).collect()
    }

    /// Applies one decoded unit; [`Machine::apply`] without the decoding and copying.
    pub fn apply_unit(&mut self, stamp: Stamp, unit: Unit, out: &mut Vec<Output>) {
        self.time_ms = self.time_ms.max(stamp.time_ms);
        let reply = self.command(unit.command, out);
        if unit.origin != Origin::default() {
            let origin = unit.origin;
            out.push(Output::Reply { origin, reply });
        }
    }

    fn command(&mut self, command: Command, out: &mut Vec<Output>) -> Result<Reply, Refusal> {
        let now_ms = self.time_ms;
        match command {
            Command::Prepare(new) => self.prepare(&new, out)?,
            Command::Submit(new) => self.submit(&new, out)?,
            Command::Abort { gid, kind, reason } => self.abort(&gid, kind, &reason, out)?,
            Command::Register {
                gid,
                kind,
                branch,
                forward,
                backward,
                data,
            } => {
                let ends = [(true, forward), (false, backward)];
                self.register(&gid, kind, &branch, ends, &data, out)?;
            }
            Command::Called {
                gid,
                index,
                attempt,
                outcome,
            } => {
                let mut is_taken = false;
                self.change(&gid, out, |global| {
                    is_taken = global.take(index as usize, attempt, &outcome, now_ms);
                });
                self.called += u64::from(is_taken);
            }
            Command::Wake { gids } => gids.iter().for_each(|gid| self.wake(gid, out)),
            Command::Stop { gid } => {
                let status = self.existing(&gid)?.status;
                if status.is_ended() {
                    let name = status.name();
                    return Err(Refusal::Conflict(format!(
                        "current status '{name}', cannot stop"
                    )));
                }
                self.change(&gid, out, |global| {
                    global.reason = "stopped by hand; its branches are as they were".into();
                    global.end(Status::Failed, now_ms);
                });
            }
            Command::Resume { gid } => {
                self.existing(&gid)?;
                self.change(&gid, out, |global| {
                    if !global.status.is_ended() {
                        global.resume(now_ms);
                    }
                });
            }
        }
        Ok(Reply::Done)
    }

    fn existing(&self, gid: &str) -> Result<&Global, Refusal> {
        self.get(gid)
            .ok_or_else(|| Refusal::NotFound(gid.to_owned()))
    }

    fn prepare(&mut self, new: &NewGlobal, out: &mut Vec<Output>) -> Result<(), Refusal> {
        new.check(false).map_err(Refusal::Invalid)?;
        match self.get(&new.gid) {
            None => self.begin(new, Status::Prepared, out),
            Some(global) if global.kind == new.kind && global.status == Status::Prepared => Ok(()),
            Some(global) => Err(conflict(global, new.kind, "prepare")),
        }
    }

    fn submit(&mut self, new: &NewGlobal, out: &mut Vec<Output>) -> Result<(), Refusal> {
        new.check(true).map_err(Refusal::Invalid)?;
        let Some(global) = self.get(&new.gid) else {
            return match new.kind {
                Kind::Saga | Kind::Message => self.begin(new, Status::Submitted, out),
                Kind::Tcc | Kind::Xa => Err(Refusal::NotFound(new.gid.clone())),
            };
        };
        match (global.kind == new.kind, global.status) {
            (true, Status::Prepared) => {}
            // Whoever asks again was not answered: what it asked for is so.
            (true, Status::Submitted | Status::Succeeded) => return Ok(()),
            _ => return Err(conflict(global, new.kind, "submit")),
        }
        let now_ms = self.time_ms;
        self.change(&new.gid, out, |global| {
            // Steps that are known only now count if none were named before; so does the delay.
            if !global.branches.iter().any(|b| b.op == Op::Action) {
                let steps = new.branches().into_iter().filter(|b| b.op == Op::Action);
                global.branches.extend(steps);
            }
            if new.delay_ms > 0 {
                global.hold_until_ms = global.created_ms.saturating_add_unsigned(new.delay_ms);
            }
            global.options.wait_result |= new.options.wait_result;
            global.submit(now_ms);
        });
        Ok(())
    }

    fn begin(
        &mut self,
        new: &NewGlobal,
        status: Status,
        out: &mut Vec<Output>,
    ) -> Result<(), Refusal> {
        if self.rows.len() - self.ended.len() >= UNDER_WAY_MAX {
            return Err(Refusal::TooMany);
        }
        let now_ms = self.time_ms;
        let mut global = Global {
            kind: new.kind,
            status,
            options: new.options.clone(),
            custom_data: new.custom_data.clone(),
            before: new.before.clone(),
            hold_until_ms: match new.delay_ms {
                0 => 0,
                delay_ms => now_ms.saturating_add_unsigned(delay_ms),
            },
            branches: new.branches(),
            created_ms: now_ms,
            updated_ms: now_ms,
            ended_ms: 0,
            reason: String::new(),
            parked: None,
            attempt: 0,
            version: 1,
        };
        global.advance(now_ms);
        self.begun += 1;
        self.count_end(Status::Prepared, global.status);
        self.put(new.gid.clone(), Some(global));
        out.push(Output::Changed {
            gid: new.gid.clone(),
        });
        Ok(())
    }

    fn abort(
        &mut self,
        gid: &str,
        kind: Kind,
        reason: &str,
        out: &mut Vec<Output>,
    ) -> Result<(), Refusal> {
        let global = self.existing(gid)?;
        let now_ms = self.time_ms;
        let is_two_sided = matches!(kind, Kind::Tcc | Kind::Xa);
        match (global.kind == kind, global.status) {
            (true, Status::Prepared) if kind == Kind::Message => {
                self.change(gid, out, |global| {
                    global.reason = reason.to_owned();
                    global.end(Status::Failed, now_ms);
                });
            }
            (true, Status::Prepared) if is_two_sided => {
                self.change(gid, out, |global| {
                    global.turn_back(reason.to_owned(), now_ms);
                    global.advance(now_ms);
                });
            }
            // Whoever asks again was not answered.
            (true, Status::Aborting) if is_two_sided => {}
            (true, Status::Failed) if kind != Kind::Saga => {}
            _ => return Err(conflict(global, kind, "abort")),
        }
        Ok(())
    }

    fn register(
        &mut self,
        gid: &str,
        kind: Kind,
        id: &str,
        ends: [(bool, String); 2],
        data: &Bytes,
        out: &mut Vec<Output>,
    ) -> Result<(), Refusal> {
        let check = || {
            check_gid(gid)?;
            check_branch_id(id)?;
            let urls = ends.iter().map(|(_, url)| url);
            urls.filter(|url| !url.is_empty())
                .try_for_each(|url| check_url(url))
        };
        check().map_err(Refusal::Invalid)?;
        let op = |is_forward| match (kind, is_forward) {
            (Kind::Xa, true) => Op::Commit,
            (Kind::Xa, false) => Op::Rollback,
            (_, true) => Op::Confirm,
            (_, false) => Op::Cancel,
        };
        // As they are told: what undoes stands first.
        let [forward, backward] = ends;
        let added: Vec<Branch> = [backward, forward]
            .map(|(is_forward, url)| Branch::new(id.to_owned(), op(is_forward), url, data.clone()))
            .into();
        let global = self.existing(gid)?;
        if !matches!(kind, Kind::Tcc | Kind::Xa)
            || global.kind != kind
            || global.status != Status::Prepared
        {
            return Err(conflict(global, kind, "register a branch"));
        }
        let there: Vec<&Branch> = global.branches.iter().filter(|b| b.id == id).collect();
        if !there.is_empty() {
            return match there.into_iter().eq(added.iter()) {
                true => Ok(()),
                false => Err(Refusal::Conflict(format!("there is another branch {id:?}"))),
            };
        }
        let bytes = self.rows.get(gid).map_or(0, |row| row.bytes) as usize;
        if global.branches.len() + 2 > BRANCHES_MAX || bytes + data.len() > GLOBAL_BYTES_MAX {
            return Err(Refusal::Invalid(format!(
                "a transaction has at most {} branches and {GLOBAL_BYTES_MAX} bytes",
                BRANCHES_MAX / 2
            )));
        }
        self.change(gid, out, |global| global.branches.extend(added));
        Ok(())
    }

    fn wake(&mut self, gid: &str, out: &mut Vec<Output>) {
        let now_ms = self.time_ms;
        let Some(global) = self.get(gid) else {
            return;
        };
        match (global.next_ms(), global.status.is_ended()) {
            (Some(at_ms), true) if at_ms <= now_ms => {
                self.put(gid.to_owned(), None);
                let gid = gid.to_owned();
                out.push(Output::Changed { gid });
            }
            (Some(at_ms), false) if at_ms <= now_ms => {
                self.change(gid, out, |global| global.wake(now_ms));
            }
            _ => {}
        }
    }

    /// Changes a transaction that is there, and what follows from it.
    fn change(&mut self, gid: &str, out: &mut Vec<Output>, change: impl FnOnce(&mut Global)) {
        let Some(row) = self.rows.get(gid) else {
            return;
        };
        let mut global = (*row.global).clone();
        change(&mut global);
        if global == *row.global {
            return;
        }
        global.version += 1;
        global.updated_ms = self.time_ms;
        self.count_end(row.global.status, global.status);
        self.put(gid.to_owned(), Some(global));
        let gid = gid.to_owned();
        out.push(Output::Changed { gid });
    }

    fn count_end(&mut self, before: Status, after: Status) {
        if !before.is_ended() {
            self.succeeded += u64::from(after == Status::Succeeded);
            self.failed += u64::from(after == Status::Failed);
        }
    }

    /// Puts a row, or takes it away, with all that follows from it; forgets the oldest where there are too many.
    fn put(&mut self, gid: String, global: Option<Global>) {
        self.unlink(&gid);
        if let Some(global) = global {
            self.link(gid, Arc::new(global));
        }
        while self.ended.len() > ENDED_MAX || self.ended_bytes > ENDED_BYTES_MAX {
            let Some((_, oldest)) = self.ended.first().cloned() else {
                return;
            };
            self.unlink(&oldest);
        }
    }

    pub(super) fn link(&mut self, gid: String, global: Arc<Global>) {
        let mut w = Writer::new();
        w.str(&gid);
        global.encode_into(&mut w);
        let row = Row {
            hash: XxHash64::oneshot(15, w.as_slice()),
            bytes: w.len() as u64,
            global,
        };
        self.bytes += row.bytes;
        self.rows_digest = self.rows_digest.wrapping_add(row.hash);
        if let Some(at_ms) = row.global.next_ms() {
            self.timers.insert((at_ms, gid.clone()));
        }
        for (index, branch) in row.global.branches.iter().enumerate() {
            if let Call::Wanted { since_ms, .. } = branch.call {
                self.wanted.insert((since_ms, gid.clone(), index as u32));
            }
        }
        if row.global.parked.is_some() {
            self.parked.insert(gid.clone());
        }
        if row.global.status.is_ended() {
            self.ended.insert((row.global.ended_ms, gid.clone()));
            self.ended_bytes += row.bytes;
        }
        self.rows.insert(gid, row);
    }

    fn unlink(&mut self, gid: &str) {
        let Some(row) = self.rows.remove(gid) else {
            return;
        };
        self.bytes -= row.bytes;
        self.rows_digest = self.rows_digest.wrapping_sub(row.hash);
        if let Some(at_ms) = row.global.next_ms() {
            self.timers.remove(&(at_ms, gid.to_owned()));
        }
        for (index, branch) in row.global.branches.iter().enumerate() {
            if let Call::Wanted { since_ms, .. } = branch.call {
                self.wanted
                    .remove(&(since_ms, gid.to_owned(), index as u32));
            }
        }
        self.parked.remove(gid);
        if row.global.status.is_ended() {
            self.ended.remove(&(row.global.ended_ms, gid.to_owned()));
            self.ended_bytes -= row.bytes;
        }
    }
}

impl Global {
    /// Its initiator says that it shall be.
    fn submit(&mut self, now_ms: i64) {
        for branch in &mut self.branches {
            branch.call = Call::No;
        }
        self.status = Status::Submitted;
        self.parked = None;
        self.advance(now_ms);
    }
}

fn conflict(global: &Global, kind: Kind, what: &str) -> Refusal {
    Refusal::Conflict(match global.kind == kind {
        true => format!("current status '{}', cannot {what}", global.status.name()),
        false => format!(
            "the gid is that of a {} transaction, not {}",
            global.kind.name(),
            kind.name()
        ),
    })
}

impl Machine for Globals {
    type Output = Output;

    fn apply(
        &mut self,
        stamp: Stamp,
        unit: &[u8],
        out: &mut Vec<Output>,
    ) -> Result<(), ApplyFault> {
        let unit = Unit::decode(&Bytes::copy_from_slice(unit))
            .map_err(|e| ApplyFault::UnknownCommand(format!("global transactions: {e}")))?;
        self.apply_unit(stamp, unit, out);
        Ok(())
    }
}

impl State for Globals {
    /// 0 while none was ever begun: a replica of a version without them has the same.
    fn digest(&self) -> u64 {
        if self.begun == 0 {
            return 0;
        }
        let mut w = Writer::new();
        w.u64(self.begun).u64(self.succeeded);
        w.u64(self.failed).u64(self.called);
        XxHash64::oneshot(16, w.as_slice()).wrapping_add(self.rows_digest)
    }

    fn begin_snapshot(&mut self) {
        // Rows are shared with the cut until they change: its cost is a pointer each.
        self.cut = (self.begun > 0).then(|| {
            let rows = self.rows.iter();
            let rows = rows.map(|(gid, row)| (gid.clone(), row.global.clone()));
            Cut::new(self, rows.collect())
        });
    }

    fn poll_snapshot(&mut self, bytes_max: usize) -> SnapshotPoll {
        match &mut self.cut {
            Some(cut) => cut.poll(bytes_max),
            None => SnapshotPoll::Done,
        }
    }

    fn abort_snapshot(&mut self) {
        self.cut = None;
    }

    fn restore(&mut self, chunk: &[u8]) -> Result<(), String> {
        self.restoring.get_or_insert_default().feed(chunk)
    }

    fn finish_restore(&mut self) -> Result<(), String> {
        match self.restoring.take() {
            None => Ok(()),
            Some(restoring) => {
                *self = restoring.finish()?;
                Ok(())
            }
        }
    }
}
