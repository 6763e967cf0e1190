//! An initiator of global transactions. The first one also stands for the services.

use super::callouts::{Callouts, Request};
use super::{ACCOUNTS, Answer, SERVICES, Seen, Transfer};
use crate::caller::Caller;
use crate::client::Context;
use crate::player::{self, Phase};
use crate::world::{ConnectionNote, Probing};
use base::Rng;
use bytes::Bytes;
use node::{Call, CallReply, ClientId, GlobalsAnswer, GlobalsQuery, RequestId};
use transactions::global::{Command, Kind, NewGlobal, Options, Step};

/// What was not answered for so long is asked again, of another node.
const PATIENCE_US: u64 = 2_000_000;
/// What is neither submitted nor given up for so long is given up, or asked about, in milliseconds.
const TIMEOUT_MS: u64 = 6_000;

#[derive(Clone, PartialEq, Eq, Debug)]
enum What {
    /// A step of the transfer under way.
    Change(Command),
    Look(String),
}

/// The transfer under way.
#[derive(Clone, Debug)]
struct UnderWay {
    /// Its place in the history.
    transfer: usize,
    step: usize,
    gives_up: bool,
    /// A saga's own limit of time.
    is_hasty: bool,
}

/// An initiator.
#[derive(Debug)]
pub(crate) struct Player {
    number: usize,
    rng: Rng,
    callouts: Callouts,
    caller: Caller<What>,
    /// To be asked again.
    again: Option<Command>,
    under_way: Option<UnderWay>,
    /// Its transfers, by their places in the history.
    own: Vec<usize>,
    phase: Phase,
    next_us: u64,
    /// What it has done in this phase, or looked at.
    progress: usize,
    done: bool,
}

impl Player {
    pub(crate) fn new(number: usize, rng: Rng) -> Self {
        Self {
            number,
            rng,
            callouts: Callouts::default(),
            caller: Caller::new(),
            again: None,
            under_way: None,
            own: Vec::new(),
            phase: Phase::Setup,
            next_us: 0,
            progress: 0,
            done: true,
        }
    }

    fn is_calm(&self) -> bool {
        self.phase != Phase::Work
    }

    fn is_lost(&mut self) -> bool {
        !self.is_calm() && self.rng.one_in(4)
    }

    fn begin_transfer(&mut self, cx: &mut Context<'_>) {
        let transfers = &mut cx.history.globals.transfers;
        let kind = Kind::ALL[self.rng.range(0, 4) as usize];
        let from = self.rng.range(0, SERVICES as u64) as usize;
        let is_hasty = kind == Kind::Saga && self.rng.one_in(3);
        let transfer = Transfer {
            kind,
            gid: format!("g{}-{}", self.number, transfers.len()),
            from: (from, self.rng.range(0, ACCOUNTS)),
            to: (1 - from, self.rng.range(0, ACCOUNTS)),
            amount: self.rng.range(1, 80) as i64,
            acknowledged: false,
            may_fail: is_hasty,
        };
        self.own.push(transfers.len());
        self.under_way = Some(UnderWay {
            transfer: transfers.len(),
            step: 0,
            gives_up: self.rng.one_in(5),
            is_hasty,
        });
        transfers.push(transfer);
    }

    fn describe(&self, transfer: &Transfer, under_way: &UnderWay) -> NewGlobal {
        let step = |(service, account): (usize, u64), change: i64| Step {
            action: format!("http://s{service}/do"),
            compensate: match transfer.kind {
                Kind::Saga => format!("http://s{service}/undo"),
                _ => String::new(),
            },
            data: Bytes::from(format!("{account} {change}")),
        };
        let out = step(transfer.from, -transfer.amount);
        let into = step(transfer.to, transfer.amount);
        NewGlobal {
            gid: transfer.gid.clone(),
            kind: transfer.kind,
            options: Options {
                concurrent: under_way.transfer % 3 == 1,
                timeout_ms: match transfer.kind {
                    Kind::Saga if !under_way.is_hasty => 0,
                    _ => TIMEOUT_MS,
                },
                request_timeout_ms: 300,
                retry_interval_ms: 300,
                ..Options::default()
            },
            custom_data: String::new(),
            before: Vec::new(),
            delay_ms: 0,
            query_prepared: match transfer.kind {
                Kind::Message => format!("http://s{}/check", transfer.from.0),
                _ => String::new(),
            },
            steps: match transfer.kind {
                // The last refuses now and then, so that there is something to undo.
                Kind::Saga if under_way.transfer % 4 == 3 => vec![into, out],
                Kind::Saga => vec![out, into],
                Kind::Message => vec![into],
                Kind::Tcc | Kind::Xa => Vec::new(),
            },
        }
    }

    fn ask(&mut self, cx: &mut Context<'_>, command: Command) {
        let call = Call::ChangeGlobals(command.clone());
        self.again = Some(command.clone());
        self.caller
            .call(cx, &mut self.rng, What::Change(command), call);
    }

    fn abort(&mut self, cx: &mut Context<'_>, transfer: &Transfer) {
        self.may_fail(cx);
        let (gid, kind) = (transfer.gid.clone(), transfer.kind);
        let reason = "given up".into();
        self.ask(cx, Command::Abort { gid, kind, reason });
        if let Some(under_way) = &mut self.under_way {
            under_way.step = usize::MAX;
        }
    }

    fn may_fail(&mut self, cx: &mut Context<'_>) {
        if let Some(under_way) = &self.under_way {
            cx.history.globals.transfers[under_way.transfer].may_fail = true;
        }
    }

    /// Its own call of a service: what it hears, if anything.
    fn own_call(
        &mut self,
        cx: &mut Context<'_>,
        transfer: &Transfer,
        branch: &str,
        op: &str,
    ) -> Option<Answer> {
        if self.is_lost() {
            return None;
        }
        let is_out = branch != "02";
        let ((service, account), change) = match is_out {
            true => (transfer.from, -transfer.amount),
            false => (transfer.to, transfer.amount),
        };
        let request = Request {
            service,
            gid: transfer.gid.clone(),
            branch: branch.into(),
            op: op.into(),
            account,
            change,
        };
        if !self.is_calm() && self.rng.one_in(10) {
            // It arrives when its initiator has given up: it hangs.
            let at_us = cx.world.now_us + self.rng.range(1, 12_000_000);
            self.callouts.deliver_at(at_us, request);
            return None;
        }
        let answer = request.carry_out(cx);
        (!self.is_lost()).then_some(answer)
    }

    /// The next step of the transfer under way.
    fn proceed(&mut self, cx: &mut Context<'_>) {
        let Some(under_way) = self.under_way.clone() else {
            return;
        };
        // It dies between any two steps, never to come back.
        if under_way.step > 0 && !self.is_calm() && self.rng.one_in(8) {
            self.may_fail(cx);
            self.under_way = None;
            return;
        }
        let transfer = cx.history.globals.transfers[under_way.transfer].clone();
        let new = self.describe(&transfer, &under_way);
        match (transfer.kind, under_way.step) {
            (Kind::Saga, 0) => self.ask(cx, Command::Submit(new)),
            (Kind::Saga, _) => self.under_way = None,
            (_, 0) => self.ask(cx, Command::Prepare(new)),
            (Kind::Message, 1) if under_way.gives_up => self.abort(cx, &transfer),
            (Kind::Message, 1) => match self.own_call(cx, &transfer, "00", "msg") {
                Some(Answer::Yes) => self.ask(cx, Command::Submit(new)),
                Some(Answer::No) => self.abort(cx, &transfer),
                // It does not know, and leaves it to the check-back.
                None => self.under_way = None,
            },
            (Kind::Message, _) => self.under_way = None,
            (kind, step @ (1 | 3)) => {
                let (is_out, branch) = (step == 1, format!("{:02}", step / 2 + 1));
                let ((service, account), change) = match is_out {
                    true => (transfer.from, -transfer.amount),
                    false => (transfer.to, transfer.amount),
                };
                let url = format!("http://s{service}/end");
                self.ask(
                    cx,
                    Command::Register {
                        gid: transfer.gid.clone(),
                        kind,
                        branch,
                        forward: url.clone(),
                        backward: url,
                        data: Bytes::from(format!("{account} {change}")),
                    },
                );
            }
            (_, step @ (2 | 4)) => {
                let branch = format!("{:02}", step / 2);
                let is_given_up = under_way.gives_up && step == 4;
                if is_given_up || self.own_call(cx, &transfer, &branch, "try") != Some(Answer::Yes)
                {
                    self.abort(cx, &transfer);
                } else if let Some(under_way) = &mut self.under_way {
                    under_way.step += 1;
                }
            }
            (_, 5) => self.ask(cx, Command::Submit(new)),
            _ => self.under_way = None,
        }
    }

    /// A step was answered.
    fn stepped(&mut self, cx: &mut Context<'_>, command: &Command, is_done: bool) {
        self.again = None;
        let Some(under_way) = &mut self.under_way else {
            return;
        };
        let transfer = &mut cx.history.globals.transfers[under_way.transfer];
        let is_begun = matches!(command, Command::Submit(_) | Command::Prepare(_));
        if is_done {
            transfer.acknowledged |= is_begun;
            under_way.step = under_way.step.saturating_add(1);
            return;
        }
        let transfer = transfer.clone();
        match (transfer.kind, command) {
            (Kind::Message, Command::Submit(_)) => {
                // The check-back may have been first; then it said yes, too.
                cx.history.complaints.push(format!(
                    "{} was committed by its sender and cannot be submitted",
                    transfer.gid
                ));
                self.under_way = None;
            }
            (_, Command::Register { .. }) => self.abort(cx, &transfer),
            _ => {
                // Too late: its time was over.
                self.may_fail(cx);
                self.under_way = None;
            }
        }
    }

    fn look(&mut self, cx: &mut Context<'_>, transfer: usize) {
        let gid = cx.history.globals.transfers[transfer].gid.clone();
        let query = GlobalsQuery::One { gid: gid.clone() };
        let call = Call::ReadGlobals { query, after: None };
        self.caller.call(cx, &mut self.rng, What::Look(gid), call);
    }

    fn work(&mut self, cx: &mut Context<'_>) {
        let now_us = cx.world.now_us;
        if now_us < self.next_us {
            return;
        }
        self.next_us = now_us + self.rng.range(1_000, 150_000);
        match &self.under_way {
            Some(_) if self.rng.one_in(4) => {}
            Some(_) => return self.proceed(cx),
            None => return self.begin_transfer(cx),
        }
        let at = self.rng.range(0, self.own.len() as u64) as usize;
        self.look(cx, self.own[at]);
    }

    /// What is under way is brought to its end, and one more.
    fn insist(&mut self, cx: &mut Context<'_>) {
        match &self.under_way {
            Some(_) => self.proceed(cx),
            None if self.progress == 0 => {
                self.progress = 1;
                self.begin_transfer(cx);
            }
            None => self.done = true,
        }
    }

    /// Each is looked at until it has ended.
    fn last_look(&mut self, cx: &mut Context<'_>) {
        let now_us = cx.world.now_us;
        if now_us < self.next_us {
            return;
        }
        let Some(transfer) = self.own.get(self.progress).copied() else {
            self.done = true;
            return;
        };
        self.next_us = now_us + 50_000;
        self.look(cx, transfer);
    }

    fn looked(
        &mut self,
        cx: &mut Context<'_>,
        gid: String,
        invoked_us: u64,
        answer: &GlobalsAnswer,
    ) {
        let GlobalsAnswer::One(global) = answer else {
            return;
        };
        let globals = &mut cx.history.globals;
        let was = global.as_ref().map(|g| (g.status, g.version));
        globals.seen.push(Seen {
            gid: gid.clone(),
            invoked_us,
            at_us: cx.world.now_us,
            was,
        });
        let is_over = global.as_ref().is_none_or(|g| g.status.is_ended());
        if self.phase == Phase::Look && is_over {
            self.progress += 1;
            self.next_us = 0;
        }
        if let Some(global) = global.as_ref().filter(|g| g.status.is_ended()) {
            globals.last.insert(gid, global.status);
        }
    }
}

impl player::Player for Player {
    fn begin(&mut self, phase: Phase) {
        self.phase = phase;
        self.progress = 0;
        self.next_us = 0;
        self.done = !matches!(phase, Phase::Heal | Phase::Look);
    }

    fn is_done(&self) -> bool {
        self.done
    }

    fn handle(&mut self, _: &mut Context<'_>, _: ClientId, _: &ConnectionNote) {}

    fn handle_called(&mut self, cx: &mut Context<'_>, request: RequestId, reply: &CallReply) {
        let Some(pending) = self.caller.take(cx, request, reply) else {
            return;
        };
        match (pending.what, reply) {
            (What::Change(command), CallReply::GlobalsChanged(reply)) => {
                self.stepped(cx, &command, reply.is_ok());
            }
            (What::Look(gid), CallReply::Globals { answer, .. }) => {
                self.looked(cx, gid, pending.invoked_us, answer);
            }
            // It is asked again.
            _ => {}
        }
    }

    fn handle_probe(&mut self, cx: &mut Context<'_>, probing: &Probing) -> bool {
        let is_calm = self.is_calm();
        self.number == 0 && (self.callouts).take(cx, &mut self.rng, probing, is_calm)
    }

    fn drive(&mut self, cx: &mut Context<'_>, phase: Phase) {
        let is_calm = self.is_calm();
        self.callouts.tick(cx, &mut self.rng, is_calm);
        self.caller.forget_lost(cx, |_| PATIENCE_US);
        if self.caller.is_calling(|_| true) {
            return;
        }
        if let Some(command) = self.again.clone() {
            return self.ask(cx, command);
        }
        match phase {
            Phase::Work => self.work(cx),
            Phase::Heal if !self.done => self.insist(cx),
            Phase::Look if !self.done => self.last_look(cx),
            _ => {}
        }
    }

    fn rng(&mut self) -> &mut Rng {
        &mut self.rng
    }

    fn calls(&self) -> (usize, usize) {
        self.caller.counts
    }

    fn describe(&self) -> String {
        let left = self.own.get(self.progress);
        format!(
            "initiator {} ({:?}, to be asked {:?}, looks at the transfer {left:?})",
            self.number, self.under_way, self.again
        )
    }
}
