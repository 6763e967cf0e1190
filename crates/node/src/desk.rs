//! The desk: a front end without a socket. Other protocols' front ends turn bytes into commands; here
//! whoever speaks HTTP for the node hands in a [`Call`] and is handed back a [`CallReply`], always.
//!
//! A call that writes becomes one unit in the log of its shard, and is answered when that is applied here. A
//! call that reads is answered from this core's replica behind a barrier that all reads of a turn share, so
//! that it is linearizable. One that names the index that its caller has seen ([`After`]) waits until the
//! index is beyond that, or its time is over: then it is answered behind another barrier, as it is.
//!
//! Nothing is tried twice. A write whose leader was lost, or that was not answered for [`CALL_MAX_US`], is
//! answered with [`CallReply::Unknown`].
//!
//! To add a chapter's calls: a variant of [`Call`], one of [`CallReply`], and a file beside `services` that
//! says which shard a call is for, what its unit is, and what a read sees.

mod call;
mod checks;
mod files;
mod globals;
mod jobs;
mod services;
mod transactions;

pub use transactions::{
    Condition, Operation, TRANSACTION_BYTES_MAX, TRANSACTION_STEPS_MAX, Transacted, Transaction,
};

pub use call::{After, Call, CallReply};
pub use checks::{Probe, ProbeResult, ProbeTarget};

use crate::core::Ask;
use crate::event::{Action, RequestId};
use crate::front::Context;
use ::transactions::global;
use ::transactions::{Outcome, TxnId};
use base::map::HashMap;
use base::planted::{Bug, planted};
use base::{CoreAddress, Origin, ShardId};
use bytes::Bytes;
use call::{Seen, Watched};
use catalog::TREE_SHARD;
use checks::Checks;
use coordination::services as chapter;
use scheduling::AgentId;
use shard::transaction::Place;
use shard::{Data, DataUnit, Shard};
use std::collections::{BTreeMap, BTreeSet};
use storage::files as file_chapter;

pub use files::{ChunkServer, FilesAnswer, FilesQuery};
pub use globals::{GlobalsAnswer, GlobalsQuery};
pub use jobs::{JobsAnswer, JobsQuery};

/// A call that was not answered for this long is answered with what is known, in microseconds.
const CALL_MAX_US: u64 = 30_000_000;
/// Calls under way, those that wait for a change among them; beyond it they are refused.
const CALLS_MAX: usize = 50_000;

/// How far a call is.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Stage {
    /// Its unit is on its way; true once it was sent to a leader.
    Write { token: u64, sent: bool },
    /// It waits for a barrier, then to be looked at: for the last time?
    Barrier { is_last: bool },
    /// Its beat is on its way to the leader.
    Beat { token: u64 },
    /// It waits for a change of these.
    Wait { watched: Vec<Watched> },
}

#[derive(Debug)]
struct Pending {
    call: Call,
    shard: ShardId,
    /// Of a transaction: to be proposed again when its leader is lost.
    unit: Option<Bytes>,
    since_us: u64,
    /// When something is done about it anyway.
    until_us: u64,
    stage: Stage,
}

/// The front end.
#[derive(Debug)]
pub struct Desk {
    me: CoreAddress,
    next_token: u64,
    calls: HashMap<RequestId, Pending>,
    /// Whose unit a token is.
    writes: HashMap<u64, RequestId>,
    /// Units that have not been sent.
    unsent: Vec<u64>,
    /// The barrier that reads of this turn share, by shard.
    open_barriers: BTreeMap<ShardId, u64>,
    barriers: HashMap<u64, Vec<RequestId>>,
    deadlines: BTreeSet<(u64, RequestId)>,
    waiting: BTreeMap<Watched, BTreeSet<RequestId>>,
    /// Calls that are to be looked at again.
    woken: BTreeSet<RequestId>,
    /// Beats that have not been sent: number, agent, generation.
    beats: Vec<(u64, AgentId, u64)>,
    checks: Checks,
    calls_out: globals::Calls,
}

impl Desk {
    /// The desk of the core `me`. Tokens start at a random place, so that they are unique across restarts.
    pub fn new(me: CoreAddress, first_token: u64) -> Self {
        Self {
            me,
            next_token: first_token,
            calls: HashMap::default(),
            writes: HashMap::default(),
            unsent: Vec::new(),
            open_barriers: BTreeMap::new(),
            barriers: HashMap::default(),
            deadlines: BTreeSet::new(),
            waiting: BTreeMap::new(),
            woken: BTreeSet::new(),
            beats: Vec::new(),
            checks: Checks::new(me),
            calls_out: globals::Calls::default(),
        }
    }

    // --- calls ---

    /// Somebody calls.
    pub fn handle_call(&mut self, cx: &mut Context<'_>, request: RequestId, call: Call) {
        self.take_call(cx, request, call, false);
    }

    /// A call whose places are known for sure, or as far as this core has heard.
    fn take_call(&mut self, cx: &mut Context<'_>, request: RequestId, call: Call, is_sure: bool) {
        self.next_token = self.next_token.wrapping_add(1);
        let token = self.next_token;
        let origin = Origin {
            home: self.me,
            token,
        };
        let (shard, unit) = match call.place(cx, origin) {
            Ok((shard, unit)) => (shard, unit.map(|unit| unit.encode())),
            // What it names may have been made a moment ago, and not have come here yet.
            Err(CallReply::Misplaced { .. })
                if !is_sure
                    && self.calls.len() < CALLS_MAX
                    && nothing_is_there(cx, TREE_SHARD).is_none() =>
            {
                let until_us = cx.now.mono_us + CALL_MAX_US;
                let pending = Pending {
                    call,
                    shard: TREE_SHARD,
                    unit: None,
                    since_us: cx.now.mono_us,
                    until_us,
                    stage: Stage::Barrier { is_last: false },
                };
                self.deadlines.insert((until_us, request));
                self.calls.insert(request, pending);
                return self.bar(cx, request, false);
            }
            Err(refusal) => return answer(cx, request, refusal),
        };
        if let Some(message) = nothing_is_there(cx, shard) {
            return answer(cx, request, CallReply::NotHere { message });
        }
        let refusal = if self.calls.len() >= CALLS_MAX {
            Some("too many calls are under way on this node; call again later, or another node")
        } else if unit.is_some() && !cx.has_looked {
            Some(
                "this node has just started and does not know yet whether another cluster took this one's place; try again",
            )
        } else if unit.is_some() && cx.follows {
            Some(
                "this cluster follows another one, or was superseded, and takes no writes: write where the primary is, or promote this one",
            )
        } else if call.adds() && cx.full.contains(&shard) {
            Some("the disk is nearly full: what adds data is refused; remove something first")
        } else {
            None
        };
        if let Some(message) = refusal {
            let message = message.to_owned();
            return answer(cx, request, CallReply::Refused { message });
        }
        let until_us = cx.now.mono_us + CALL_MAX_US;
        self.deadlines.insert((until_us, request));
        let stage = match (&unit, &call) {
            (Some(_), _) => Stage::Write { token, sent: false },
            (None, Call::Beat { agent, generation }) => {
                self.beats.push((token, *agent, *generation));
                self.writes.insert(token, request);
                Stage::Beat { token }
            }
            (None, _) => Stage::Barrier { is_last: false },
        };
        let is_beat = matches!(stage, Stage::Beat { .. });
        let is_transaction = matches!(call, Call::Transact(_));
        let pending = Pending {
            call,
            shard,
            unit: unit.clone().filter(|_| is_transaction),
            since_us: cx.now.mono_us,
            until_us,
            stage,
        };
        self.calls.insert(request, pending);
        match unit {
            Some(unit) => {
                cx.counters.writes += 1;
                self.writes.insert(token, request);
                self.unsent.push(token);
                cx.asks.push(Ask::Propose(shard, unit));
            }
            None if is_beat => {}
            None => {
                cx.counters.reads += 1;
                self.bar(cx, request, false);
            }
        }
    }

    /// Nobody waits for this call any more.
    pub fn handle_hung_up(&mut self, request: RequestId) {
        self.take(request);
    }

    /// Lets a read wait until its shard's state here is as new as any is now, and look then.
    fn bar(&mut self, cx: &mut Context<'_>, request: RequestId, is_last: bool) {
        let Some(shard) = self.calls.get(&request).map(|pending| pending.shard) else {
            return;
        };
        let until_us = cx.now.mono_us + CALL_MAX_US;
        self.set_stage(request, Stage::Barrier { is_last }, until_us);
        if cx.shard(shard).is_none_or(Shard::is_alone) {
            return self.look(cx, request);
        }
        let token = *self.open_barriers.entry(shard).or_insert_with(|| {
            self.next_token = self.next_token.wrapping_add(1);
            cx.asks.push(Ask::Barrier(shard, self.next_token));
            self.next_token
        });
        self.barriers.entry(token).or_default().push(request);
    }

    /// Answers a read from what is here, unless its caller has seen that and can wait.
    fn look(&mut self, cx: &mut Context<'_>, request: RequestId) {
        let Some(pending) = self.calls.get(&request) else {
            return;
        };
        if matches!(pending.call, Call::Transact(_)) {
            if let Some(pending) = self.take(request) {
                self.take_call(cx, request, pending.call, true);
            }
            return;
        }
        let data = cx.data(pending.shard);
        let Some(seen) = data.and_then(|data| pending.call.look(cx, data)) else {
            let message = nothing_is_there(cx, pending.shard).unwrap_or_default();
            return self.finish(cx, request, CallReply::Refused { message });
        };
        let is_last = pending.stage == Stage::Barrier { is_last: true };
        match pending.call.after() {
            Some(after) if !is_last && after.index == seen.index => {
                let until_us = pending.since_us + after.wait_us;
                let watched = seen.watched;
                for what in &watched {
                    let waiting = self.waiting.entry(what.clone()).or_default();
                    waiting.insert(request);
                }
                self.set_stage(request, Stage::Wait { watched }, until_us);
            }
            _ => self.finish(cx, request, seen.reply),
        }
    }

    fn set_stage(&mut self, request: RequestId, stage: Stage, until_us: u64) {
        let Some(pending) = self.calls.get_mut(&request) else {
            return;
        };
        self.deadlines.remove(&(pending.until_us, request));
        self.deadlines.insert((until_us, request));
        pending.until_us = until_us;
        let left = std::mem::replace(&mut pending.stage, stage);
        if let Stage::Wait { watched } = left {
            self.stop_waiting(request, &watched);
        }
    }

    fn stop_waiting(&mut self, request: RequestId, watched: &[Watched]) {
        for what in watched {
            if let Some(waiting) = self.waiting.get_mut(what) {
                waiting.remove(&request);
                if waiting.is_empty() {
                    self.waiting.remove(what);
                }
            }
        }
    }

    /// Forgets a call.
    fn take(&mut self, request: RequestId) -> Option<Pending> {
        let pending = self.calls.remove(&request)?;
        self.deadlines.remove(&(pending.until_us, request));
        match &pending.stage {
            Stage::Write { token, .. } | Stage::Beat { token } => {
                self.writes.remove(token);
            }
            Stage::Barrier { .. } => {}
            Stage::Wait { watched } => self.stop_waiting(request, watched),
        }
        Some(pending)
    }

    fn finish(&mut self, cx: &mut Context<'_>, request: RequestId, reply: CallReply) {
        if let Some(pending) = self.take(request) {
            if pending.call.after().is_none() {
                cx.counters.note_latency(cx.now, pending.since_us);
            }
            answer(cx, request, reply);
        }
    }

    // --- what shards tell ---

    /// One output of the services, in apply order.
    pub fn handle_services(&mut self, cx: &mut Context<'_>, output: chapter::Output) {
        match output {
            chapter::Output::Reply { origin, reply } => {
                self.applied(cx, origin, CallReply::ServicesChanged(reply));
            }
            chapter::Output::Changed { service, instances } => {
                if !instances && planted(Bug::SleepThroughChecks) {
                    return;
                }
                if instances {
                    self.changed(&Watched::Names);
                }
                self.changed(&Watched::Services);
                self.changed(&Watched::Service(service));
            }
            chapter::Output::Check { number } => self.checks.check_changed(cx, number),
        }
    }

    /// A transaction that was begun here has ended.
    pub fn handle_transaction(
        &mut self,
        cx: &mut Context<'_>,
        origin: Origin,
        id: TxnId,
        outcome: Outcome,
    ) {
        let request = self.writes.get(&origin.token).copied();
        let pending = request.and_then(|request| self.calls.get(&request));
        if let Some(pending) = pending.filter(|_| origin.home == self.me)
            && let Call::Transact(transaction) = &pending.call
        {
            let reply = transactions::reply(cx, transaction, id, outcome);
            self.applied(cx, origin, reply);
        }
    }

    /// One output of the files, in apply order.
    pub fn handle_files(&mut self, cx: &mut Context<'_>, output: file_chapter::Output) {
        let file_chapter::Output::Reply { origin, reply } = output;
        self.applied(cx, origin, CallReply::FilesChanged(reply));
    }

    /// One output of the global transactions, in apply order.
    pub fn handle_globals(&mut self, cx: &mut Context<'_>, output: global::Output) {
        match output {
            global::Output::Reply { origin, reply } => {
                self.applied(cx, origin, CallReply::GlobalsChanged(reply));
            }
            global::Output::Changed { gid } => {
                self.calls_out.handle_changed();
                self.changed(&Watched::Global(gid));
            }
        }
    }

    /// One output of jobs and agents, in apply order.
    pub fn handle_scheduling(&mut self, cx: &mut Context<'_>, output: scheduling::Output) {
        match output {
            scheduling::Output::Reply { origin, reply } => {
                self.applied(cx, origin, CallReply::JobsChanged(reply));
            }
            scheduling::Output::Job { name } => {
                self.changed(&Watched::Cell);
                self.changed(&Watched::Job(name));
            }
            scheduling::Output::Agent { id } => {
                self.changed(&Watched::Cell);
                self.changed(&Watched::Agent(id));
            }
        }
    }

    /// Beats for the leader: number, agent, generation.
    pub fn take_beats(&mut self) -> Vec<(u64, AgentId, u64)> {
        std::mem::take(&mut self.beats)
    }

    /// The leader has heard beats: number, and whether there is such an agent.
    pub fn handle_beaten(&mut self, cx: &mut Context<'_>, heard: Vec<(u64, bool)>) {
        for (number, is_known) in heard {
            if let Some(request) = self.writes.get(&number).copied() {
                self.finish(cx, request, CallReply::Beaten { is_known });
            }
        }
    }

    fn applied(&mut self, cx: &mut Context<'_>, origin: Origin, reply: CallReply) {
        if origin.home == self.me
            && let Some(request) = self.writes.get(&origin.token).copied()
        {
            self.finish(cx, request, reply);
        }
    }

    fn changed(&mut self, what: &Watched) {
        if let Some(waiting) = self.waiting.get(what) {
            self.woken.extend(waiting);
        }
    }

    /// Looks again at calls that wait for what changed, once for all changes of a turn.
    pub fn serve_woken(&mut self, cx: &mut Context<'_>) {
        for request in std::mem::take(&mut self.woken) {
            if let Some(pending) = self.calls.get(&request)
                && matches!(pending.stage, Stage::Wait { .. })
            {
                self.look(cx, request);
            }
        }
        self.calls_out.serve(cx);
    }

    /// A barrier is reached.
    pub fn handle_barrier(&mut self, cx: &mut Context<'_>, token: u64) {
        for request in self.barriers.remove(&token).unwrap_or_default() {
            if let Some(pending) = self.calls.get(&request)
                && matches!(pending.stage, Stage::Barrier { .. })
            {
                self.look(cx, request);
            }
        }
    }

    /// A shard's state here was replaced by a snapshot: answers that were under way are in it, unsaid, and so
    /// may be changes that calls wait for.
    pub fn handle_installed(&mut self, cx: &mut Context<'_>, shard: ShardId) {
        self.give_up(cx, shard);
        self.woken.extend(self.waiting.values().flatten());
        self.checks.handle_installed();
    }

    /// What a probe has seen.
    pub fn handle_probed(&mut self, cx: &mut Context<'_>, probe: Probe, result: &ProbeResult) {
        match probe {
            Probe::Check { number, epoch } => {
                self.checks.handle_probed(cx, (number, epoch), result);
            }
            Probe::Call { number } => self.calls_out.handle_called(cx, number, result),
        }
    }

    /// The core was not run for so long, in microseconds.
    pub fn stalled(&mut self, by_us: u64) {
        self.checks.stalled(by_us);
    }

    /// Calls under way.
    pub fn call_count(&self) -> u64 {
        self.calls.len() as u64
    }

    /// Probes that were run here since the core started.
    pub fn probe_count(&self) -> u64 {
        self.checks.probe_count()
    }

    /// Calls of services for global transactions that were made here since the core started.
    pub fn called_count(&self) -> u64 {
        self.calls_out.call_count()
    }

    /// The leader of a shard changed, or frames to it were lost.
    pub fn handle_leader_lost(&mut self, cx: &mut Context<'_>, shard: ShardId) {
        self.give_up(cx, shard);
    }

    /// Says that the fate of what was sent to a shard's leader is not known; what is done once under its id,
    /// however often it is asked for, is asked for again.
    fn give_up(&mut self, cx: &mut Context<'_>, shard: ShardId) {
        let is_lost = |pending: &Pending| {
            pending.shard == shard && matches!(pending.stage, Stage::Write { sent: true, .. })
        };
        let mut lost: Vec<RequestId> = (self.calls.iter())
            .filter(|(_, pending)| is_lost(pending))
            .map(|(request, _)| *request)
            .collect();
        lost.sort_unstable();
        for request in lost {
            match self.calls.get_mut(&request) {
                Some(Pending {
                    unit: Some(unit),
                    stage: Stage::Write { token, sent },
                    ..
                }) => {
                    *sent = false;
                    self.unsent.push(*token);
                    cx.asks.push(Ask::Propose(shard, unit.clone()));
                }
                _ => self.finish(cx, request, unknown("the shard's leader was lost")),
            }
        }
    }

    /// All units for a shard that were asked for have been sent to its leader.
    pub fn mark_sent(&mut self, to: ShardId) {
        let (writes, calls) = (&self.writes, &mut self.calls);
        self.unsent.retain(|token| {
            let pending = (writes.get(token)).and_then(|request| calls.get_mut(request));
            match pending {
                Some(pending) if pending.shard == to => {
                    if let Stage::Write { sent, .. } = &mut pending.stage {
                        *sent = true;
                    }
                    false
                }
                pending => pending.is_some(),
            }
        });
    }

    // --- time ---

    /// Time passed.
    pub fn handle_tick(&mut self, cx: &mut Context<'_>) {
        self.checks.handle_tick(cx);
        self.calls_out.handle_tick(cx);
        while let Some((until_us, request)) = self.deadlines.first().copied()
            && until_us <= cx.now.mono_us
        {
            self.deadlines.remove(&(until_us, request));
            match self.calls.get(&request).map(|pending| &pending.stage) {
                Some(Stage::Wait { .. }) => self.bar(cx, request, true),
                Some(Stage::Write { .. }) => {
                    self.finish(cx, request, unknown("it was not answered for 30 s"));
                }
                Some(Stage::Barrier { .. } | Stage::Beat { .. }) => {
                    let message = "the shard's leader could not be reached for 30 s; ask again, or another node";
                    let message = message.to_owned();
                    self.finish(cx, request, CallReply::Refused { message });
                }
                None => {}
            }
        }
    }

    /// The turn ends: later reads need another barrier.
    pub fn flush(&mut self) {
        self.open_barriers.clear();
    }
}

/// Why a shard cannot be asked here, or `None` when it can.
fn nothing_is_there(cx: &Context<'_>, shard: ShardId) -> Option<String> {
    if cx.data(shard).is_some() {
        return None;
    }
    let name = (cx.catalog.shards.get(&shard)).map_or("unknown", |record| record.name.as_str());
    Some(format!(
        "this core has no replica of the shard that holds it ({name}); ask another node"
    ))
}

fn unknown(why: &str) -> CallReply {
    CallReply::Unknown {
        message: format!("{why}: it may have been done or not; look, then do it again if need be"),
    }
}

fn answer(cx: &mut Context<'_>, request: RequestId, reply: CallReply) {
    if matches!(reply, CallReply::Refused { .. } | CallReply::Unknown { .. }) {
        cx.counters.errors += 1;
    }
    cx.actions.push_back(Action::CallReply { request, reply });
}
