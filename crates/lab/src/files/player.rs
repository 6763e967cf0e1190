//! A client of files: it writes, appends, reads, renames and removes, on any node. The first of them stands for all
//! chunk servers, and for what happens to their disks.

use super::keeper::Keepers;
use super::transfers::{Process, Transfers};
use super::writing::{Next, Reading, Writing};
use super::{Did, ERA_US, LEASE_MS, Operation, PAIRS};
use crate::caller::Caller;
use crate::client::Context;
use crate::player::{self, Phase};
use crate::world::ConnectionNote;
use base::Rng;
use node::{Call, CallReply, ClientId, FilesAnswer, FilesQuery, RequestId};
use std::collections::BTreeMap;
use storage::files::{Command, Fault, Refusal, Unreadable, WriteMode};

/// What a call is waited for: the desk has given up by then.
const PATIENCE_US: u64 = 6_000_000;
const CHUNKS_MAX: u64 = 4;
const PADDING: usize = 24;

#[derive(Clone, PartialEq, Eq, Debug)]
enum What {
    /// The next step of what is under way.
    Step,
    Renew,
    Report,
    Health,
}

/// Something that is one step.
#[derive(Debug)]
struct Change {
    process: Process,
    command: Command,
    /// What it did when it was done, of each pair that it touches.
    did: Vec<(usize, Did)>,
    invoked_us: Option<u64>,
    is_over: bool,
}

#[derive(Debug)]
enum Doing {
    Write(Box<Writing>),
    Read(Box<Reading>),
    Change(Change),
}

/// A client of files.
#[derive(Debug)]
pub(crate) struct Player {
    number: usize,
    clients: usize,
    copies_max: u8,
    rng: Rng,
    caller: Caller<What>,
    transfers: Transfers,
    keepers: Option<Keepers>,
    unreadable: BTreeMap<Process, Unreadable>,
    doing: Option<Doing>,
    tokens: u64,
    /// Directories up to this one, exclusive, were removed as a whole.
    swept: usize,
    era: usize,
    next_us: u64,
    renew_us: u64,
    phase: Phase,
    since_us: u64,
    progress: usize,
    /// Since when every answer says that all chunks are as they should be and nobody writes, by when it was asked for; 0:
    /// the last one does not.
    healthy_us: u64,
    faults: Vec<Fault>,
    done: bool,
}

impl Player {
    /// Of so many clients the one with this number, in a cluster of so many nodes.
    pub(crate) fn new(number: usize, clients: usize, nodes: usize, rng: Rng) -> Self {
        Self {
            number,
            clients,
            copies_max: nodes.clamp(1, 3) as u8,
            keepers: (number == 0).then(Keepers::new),
            rng,
            caller: Caller::new(),
            transfers: Transfers::default(),
            unreadable: BTreeMap::new(),
            doing: None,
            tokens: 0,
            swept: 0,
            era: 0,
            next_us: 0,
            renew_us: 0,
            phase: Phase::Setup,
            since_us: 0,
            progress: 0,
            healthy_us: 0,
            faults: Vec::new(),
            done: true,
        }
    }

    fn some_node(&mut self, cx: &Context<'_>) -> Option<usize> {
        let up = cx.nodes.iter().copied().filter(|n| cx.world.is_up(*n));
        let up: Vec<usize> = up.collect();
        let at = self.rng.range(0, up.len().max(1) as u64) as usize;
        up.get(at).copied()
    }

    fn some_place(&mut self) -> (usize, usize) {
        let pair = self.era * PAIRS + self.rng.range(0, PAIRS as u64) as usize;
        (pair, self.rng.range(0, 2) as usize)
    }

    fn write(&mut self, cx: &Context<'_>, node: usize, mode: WriteMode) {
        let place = self.some_place();
        self.tokens += 1;
        let token = self.tokens * self.clients as u64 + self.number as u64 + 1;
        let count = self.rng.range(0, CHUNKS_MAX + 1) as usize;
        let pieces = super::pieces(token, count, PADDING);
        let least = self.copies_max.min(2);
        let copies = self
            .rng
            .range(u64::from(least), u64::from(self.copies_max) + 1) as u8;
        let holder = self.rng.next_u64() | 1;
        let write = Writing::new(cx, node, place, mode, (token, pieces), (copies, holder));
        self.renew_us = cx.world.now_us + u64::from(LEASE_MS) * 1_000 / 3;
        self.doing = Some(Doing::Write(Box::new(write)));
    }

    fn read(&mut self, cx: &Context<'_>, node: usize, place: (usize, usize)) {
        let reading = Reading::new(cx, node, place);
        self.doing = Some(Doing::Read(Box::new(reading)));
    }

    fn change(&mut self, cx: &Context<'_>, node: usize, command: Command, did: Vec<(usize, Did)>) {
        self.doing = Some(Doing::Change(Change {
            process: Process::of(cx.world, node),
            command,
            did,
            invoked_us: None,
            is_over: false,
        }));
    }

    fn work(&mut self, cx: &mut Context<'_>) {
        let now_us = cx.world.now_us;
        self.era = ((now_us - self.since_us) / ERA_US) as usize;
        cx.history.files.eras = cx.history.files.eras.max(self.era + 1);
        if self.doing.is_some() || now_us < self.next_us {
            return;
        }
        self.next_us = now_us + self.rng.range(500, 120_000);
        let Some(node) = self.some_node(cx) else {
            return;
        };
        if self.number == 0 && self.swept + 2 <= self.era {
            let era = self.swept;
            self.swept += 1;
            let pairs = era * PAIRS..(era + 1) * PAIRS;
            let did = pairs.map(|pair| (pair, Did::Swept)).collect();
            let command = Command::Delete {
                path: format!("/e{era}"),
                recursive: true,
            };
            return self.change(cx, node, command, did);
        }
        let (pair, slot) = self.some_place();
        let path = super::path(pair, slot);
        match self.rng.range(0, 14) {
            0 | 1 => self.write(cx, node, WriteMode::Create),
            2..5 => self.write(cx, node, WriteMode::Replace),
            5..7 => self.write(cx, node, WriteMode::Append),
            7 => {
                let was_there = true;
                let did = vec![(pair, Did::Removed { slot, was_there })];
                let recursive = false;
                let command = Command::Delete { path, recursive };
                self.change(cx, node, command, did);
            }
            8 | 9 => {
                let (from, outcome) = (slot, Ok(()));
                let did = vec![(pair, Did::Renamed { from, outcome })];
                let to = super::path(pair, 1 - slot);
                let from = path;
                self.change(cx, node, Command::Rename { from, to }, did);
            }
            _ => self.read(cx, node, (pair, slot)),
        }
    }

    /// Something happens to a disk, perhaps.
    fn suffer(&mut self, cx: &mut Context<'_>) {
        let files = &mut cx.history.files;
        let draw = self.rng.range(0, 1_500);
        let node = cx.nodes[self.rng.range(0, cx.nodes.len() as u64) as usize];
        match draw {
            0..15 => {
                let its = files.disks.entry(node).or_default().chunks.keys();
                let keys: Vec<super::Key> = its.copied().collect();
                let key = keys.get(self.rng.range(0, keys.len().max(1) as u64) as usize);
                if let Some(key) = key.filter(|key| {
                    let is_said = files.said.get(&key.0).is_some_and(|n| n.contains(&node));
                    is_said && files.can_spare(key.0, node)
                }) {
                    files.flip(node, *key, self.rng.range(0, 1 << 20) as usize);
                    let text = format!("a byte of chunk {:?} flips on node{node}", key.0);
                    cx.world.trace.note(cx.world.now_us, &text);
                }
            }
            15 if files.can_spare_all(node) => {
                files.wipe(node, cx.world.now_us);
                let text = format!("node{node} loses its chunks");
                cx.world.trace.note(cx.world.now_us, &text);
            }
            _ => {}
        }
    }

    /// One write gets through; the first waits until every chunk is as it should be.
    fn insist(&mut self, cx: &mut Context<'_>) {
        let now_us = cx.world.now_us;
        if self.done || self.doing.is_some() || now_us < self.next_us {
            return;
        }
        self.next_us = now_us + 200_000;
        let Some(node) = self.some_node(cx) else {
            return;
        };
        if self.progress == 0 {
            return self.write(cx, node, WriteMode::Replace);
        }
        cx.history.files.through.insert(self.number);
        let Some(keepers) = &self.keepers else {
            self.done = true;
            return;
        };
        if cx.history.files.through.len() < self.clients {
            self.healthy_us = 0;
            return;
        }
        // What a writer has left lying is nobody's only when its lease is over.
        if self.healthy_us > 0 && keepers.are_idle(cx, self.healthy_us) {
            self.done = true;
            return;
        }
        if !self.caller.is_calling(|what| *what == What::Health) {
            let query = FilesQuery::Health { faults_max: 1_000 };
            let call = Call::ReadFiles(query);
            self.caller.call_at(cx, node, What::Health, call);
        }
    }

    /// Everything is read.
    fn look_at_all(&mut self, cx: &mut Context<'_>) {
        let now_us = cx.world.now_us;
        if self.done || self.doing.is_some() || now_us < self.next_us {
            return;
        }
        let places = cx.history.files.eras * PAIRS * 2;
        let at = self.progress * self.clients + self.number;
        if at >= places {
            self.done = true;
            let nodes = cx.nodes.iter().map(|n| (cx.world.nodes[*n].id(), *n));
            cx.history.files.nodes = nodes.collect();
            return;
        }
        if let Some(node) = self.some_node(cx) {
            self.read(cx, node, (at / 2, at % 2));
        }
    }

    /// Goes on with what is under way.
    fn proceed(&mut self, cx: &mut Context<'_>) {
        let Some(mut doing) = self.doing.take() else {
            return;
        };
        let process = doing.process();
        if !process.lives(cx.world) {
            self.caller.forget();
            return self.died(cx, doing);
        }
        if self.caller.is_calling(|what| *what == What::Step) {
            self.renew(cx, &doing);
            self.doing = Some(doing);
            return;
        }
        let next = match &mut doing {
            Doing::Write(writing) => writing.next(cx),
            Doing::Read(reading) => reading.next(cx, (&mut self.transfers, &mut self.rng)),
            Doing::Change(change) if change.is_over => Next::Over,
            Doing::Change(change) => {
                change.invoked_us = Some(cx.world.now_us);
                Next::Ask(Box::new(Call::ChangeFiles(change.command.clone())))
            }
        };
        match next {
            Next::Over => return self.ended(cx, doing),
            Next::Wait => self.renew(cx, &doing),
            Next::Ask(call) => self.caller.call_at(cx, process.node, What::Step, *call),
        }
        self.doing = Some(doing);
    }

    fn renew(&mut self, cx: &mut Context<'_>, doing: &Doing) {
        if let Doing::Write(writing) = doing
            && cx.world.now_us >= self.renew_us
            && let Some(call) = writing.renewal()
        {
            self.renew_us = cx.world.now_us + u64::from(LEASE_MS) * 1_000 / 3;
            self.caller
                .call_at(cx, writing.process.node, What::Renew, call);
        }
    }

    fn died(&mut self, cx: &mut Context<'_>, doing: Doing) {
        match doing {
            Doing::Write(mut writing) => writing.died(cx),
            Doing::Change(change) => change.record(cx, None),
            Doing::Read(_) => {}
        }
    }

    fn ended(&mut self, cx: &mut Context<'_>, doing: Doing) {
        match (self.phase, doing) {
            (Phase::Heal, Doing::Write(writing)) if writing.done => self.progress = 1,
            (Phase::Dump, Doing::Read(reading)) => {
                let is_excused = (reading.found.iter())
                    .any(|place| cx.history.files.excused.contains(&place.id));
                if reading.end == Some(true) || is_excused {
                    self.progress += 1;
                    cx.history.files.last.extend(reading.found);
                }
            }
            _ => {}
        }
    }

    /// The answer to the step under way.
    fn stepped(&mut self, cx: &mut Context<'_>, invoked_us: u64, reply: Option<&CallReply>) {
        let Some(doing) = &mut self.doing else {
            return;
        };
        match doing {
            Doing::Write(writing) => {
                let tools = (&mut self.transfers, &mut self.rng);
                writing.answered(cx, tools, invoked_us, reply);
            }
            Doing::Read(reading) => {
                let unreadable = self.unreadable.entry(reading.process).or_default();
                reading.answered(cx, unreadable, invoked_us, reply);
            }
            Doing::Change(change) => {
                change.is_over = true;
                match reply {
                    Some(CallReply::FilesChanged(outcome)) => {
                        change.record(cx, Some(outcome.clone()))
                    }
                    // Nothing was done.
                    Some(CallReply::Refused { .. } | CallReply::NotHere { .. }) => {}
                    _ => change.record(cx, None),
                }
            }
        }
    }

    fn health(&mut self, cx: &Context<'_>, invoked_us: u64, answer: &FilesAnswer) {
        let FilesAnswer::Health { health, .. } = answer else {
            return;
        };
        let excused = &cx.history.files.excused;
        let faults = health.faults.iter().filter(|f| !excused.contains(&f.chunk));
        self.faults = faults.take(3).cloned().collect();
        if !self.faults.is_empty() || health.writers > 0 {
            self.healthy_us = 0;
        } else if self.healthy_us == 0 {
            self.healthy_us = invoked_us;
        }
    }
}

impl Doing {
    fn process(&self) -> Process {
        match self {
            Self::Write(writing) => writing.process,
            Self::Read(reading) => reading.process,
            Self::Change(change) => change.process,
        }
    }
}

impl Change {
    /// Writes down what came of it; `None`: that is not known.
    fn record(
        &self,
        cx: &mut Context<'_>,
        outcome: Option<Result<storage::files::Reply, Refusal>>,
    ) {
        let Some(invoked_us) = self.invoked_us else {
            return;
        };
        for (pair, did) in &self.did {
            let did = match (did.clone(), outcome.as_ref()) {
                (did, None | Some(Ok(_))) => did,
                (Did::Removed { slot, .. }, Some(Err(Refusal::NotFound))) => Did::Removed {
                    slot,
                    was_there: false,
                },
                (Did::Renamed { from, .. }, Some(Err(Refusal::NotFound))) => Did::Renamed {
                    from,
                    outcome: Err(false),
                },
                (Did::Renamed { from, .. }, Some(Err(Refusal::Exists))) => Did::Renamed {
                    from,
                    outcome: Err(true),
                },
                _ => continue,
            };
            cx.history.files.operations.push(Operation {
                pair: *pair,
                invoked_us,
                ended_us: outcome.as_ref().map(|_| cx.world.now_us),
                did,
            });
        }
    }
}

impl player::Player for Player {
    fn begin(&mut self, phase: Phase) {
        self.phase = phase;
        self.progress = 0;
        self.next_us = 0;
        self.since_us = 0;
        self.healthy_us = 0;
        self.done = !matches!(phase, Phase::Heal | Phase::Dump);
    }

    fn is_done(&self) -> bool {
        self.done
    }

    fn handle(&mut self, _: &mut Context<'_>, _: ClientId, _: &ConnectionNote) {}

    fn handle_called(&mut self, cx: &mut Context<'_>, request: RequestId, reply: &CallReply) {
        if let Some(keepers) = &mut self.keepers {
            keepers.handle_called(cx, request, reply);
        }
        let Some(pending) = self.caller.take(cx, request, reply) else {
            return;
        };
        match (pending.what, reply) {
            (What::Step, reply) => self.stepped(cx, pending.invoked_us, Some(reply)),
            (What::Health, CallReply::Files(answer)) => {
                self.health(cx, pending.invoked_us, answer);
            }
            _ => {}
        }
    }

    fn drive(&mut self, cx: &mut Context<'_>, phase: Phase) {
        if self.since_us == 0 {
            self.since_us = cx.world.now_us;
        }
        if phase == Phase::Work && self.number == 0 {
            self.suffer(cx);
        }
        if let Some(keepers) = &mut self.keepers {
            keepers.tick(cx, &mut self.rng);
        }
        for late in self.caller.forget_lost(cx, |_| PATIENCE_US) {
            if late.what == What::Step {
                self.stepped(cx, late.invoked_us, None);
            }
        }
        for (number, outcome) in self.transfers.tick(cx, &mut self.rng) {
            match &mut self.doing {
                Some(Doing::Write(writing)) => writing.transferred(cx, number, &outcome),
                Some(Doing::Read(reading)) => {
                    let process = reading.process;
                    let unreadable = self.unreadable.entry(process).or_default();
                    let report = reading.transferred(cx, unreadable, number, &outcome);
                    if let Some(call) = report {
                        self.caller.call_at(cx, process.node, What::Report, call);
                    }
                }
                _ => {}
            }
        }
        self.proceed(cx);
        match phase {
            Phase::Work => self.work(cx),
            Phase::Heal => self.insist(cx),
            Phase::Dump => self.look_at_all(cx),
            Phase::Setup | Phase::Look | Phase::Quiet | Phase::Done => {}
        }
    }

    fn rng(&mut self) -> &mut Rng {
        &mut self.rng
    }

    fn calls(&self) -> (usize, usize) {
        let keepers = self.keepers.as_ref().map_or((0, 0), Keepers::calls);
        let own = self.caller.counts;
        (own.0 + keepers.0, own.1 + keepers.1)
    }

    fn describe(&self) -> String {
        let keepers = self.keepers.as_ref().map(Keepers::describe);
        format!(
            "client {} of files ({:?}, progress {}, healthy at {}, faults {:?}, {})",
            self.number,
            self.doing,
            self.progress,
            self.healthy_us,
            self.faults,
            keepers.unwrap_or_default()
        )
    }
}
