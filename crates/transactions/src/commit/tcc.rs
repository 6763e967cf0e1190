//! Try, confirm, cancel. Source: Helland, "Life beyond Distributed Transactions" (CIDR 2007) for the
//! reservations; the three anomalies and their guards as in Seata's TCC fence.
//!
//! * **Empty cancel**: a cancel for a try that never came is answered, with no effect.
//! * **Hanging**: the try that comes after its cancel is refused, or its reservation would stay for ever.
//! * **Repetition**: each step takes effect once, however often it is called.
//!
//! The guard is one record a transaction and branch, written together with the effect.

use super::{COORDINATOR, Decision, Request, Txn};
use base::algorithm::{Family, Header, Trouble};
use base::peer::{Context, Peer, PeerId, others};
use base::planted::{PeerBug, misbehaves};
use std::collections::{BTreeMap, BTreeSet};

/// Tries are waited for so long.
const TRIES_US: u64 = 400_000;
/// Confirmations and cancellations are repeated this often until all have answered.
const RESEND_US: u64 = 300_000;

/// What peers tell each other.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Message {
    /// Reserve.
    Try(Txn),
    /// Reserved, or not.
    Tried(Txn, bool),
    /// Use what is reserved.
    Confirm(Txn),
    /// Free what is reserved.
    Cancel(Txn),
    /// Confirmed, or cancelled.
    Done(Txn),
}

/// A branch's guard.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Branch {
    /// Reserved.
    Tried,
    /// Used.
    Confirmed,
    /// Freed, or never to be reserved.
    Cancelled,
}

/// The coordinator's stage.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Stage {
    /// Tries are out. After a restart this is a cancellation.
    Trying,
    /// All have reserved: who has not confirmed.
    Confirming(BTreeSet<PeerId>),
    /// One has not: who has not cancelled.
    Cancelling(BTreeSet<PeerId>),
}

/// Names of timers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Timer {
    /// The tries have not all answered.
    Tries(Txn),
    /// Repeat the second call.
    Resend(Txn),
}

/// What survives a crash.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct State {
    stages: BTreeMap<Txn, Stage>,
    branches: BTreeMap<Txn, Branch>,
}

/// One peer.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Tcc {
    me: PeerId,
    nodes: usize,
    state: State,
    trying: BTreeMap<Txn, BTreeSet<PeerId>>,
    refused: BTreeSet<Txn>,
}

impl Tcc {
    fn second(&mut self, cx: &mut Context<'_, Self>, txn: Txn, confirm: bool) {
        self.trying.remove(&txn);
        cx.cancel_timer(Timer::Tries(txn));
        let all: BTreeSet<PeerId> = others(COORDINATOR, self.nodes).collect();
        let (stage, call, decision) = if confirm {
            let stage = Stage::Confirming(all.clone());
            (stage, Message::Confirm(txn), Decision::Committed(txn))
        } else {
            let stage = Stage::Cancelling(all.clone());
            (stage, Message::Cancel(txn), Decision::Aborted(txn))
        };
        self.state.stages.insert(txn, stage);
        cx.persist(self.state.clone(), |then| {
            then.send_each(all, &call);
            then.decide(decision);
            then.set_timer(Timer::Resend(txn), RESEND_US);
        });
    }

    fn branch(&mut self, cx: &mut Context<'_, Self>, txn: Txn, to: Branch) {
        let decision = match to {
            Branch::Tried => Decision::Reserved(txn),
            Branch::Confirmed => Decision::Committed(txn),
            Branch::Cancelled => Decision::Aborted(txn),
        };
        let answer = match to {
            Branch::Tried => Message::Tried(txn, true),
            _ => Message::Done(txn),
        };
        self.state.branches.insert(txn, to);
        cx.persist(self.state.clone(), |then| {
            then.decide(decision);
            then.send(COORDINATOR, answer);
        });
    }
}

impl Peer for Tcc {
    type Message = Message;
    type Timer = Timer;
    type State = State;
    type Request = Request;
    type Decision = Decision;

    const HEADER: Header = Header {
        name: "tcc",
        family: Family::Commit,
        title: "TCC: try, confirm, cancel",
        source: "Helland: Life beyond Distributed Transactions (CIDR 2007); guards as in Seata's TCC fence",
        idea: "Each participant offers three calls: try reserves, confirm uses the reservation, cancel frees it. When all tries succeed all are confirmed, else all are cancelled, each repeated until it is answered. A record a branch guards against empty cancels, tries after their cancel, and repetitions.",
        assumptions: "As 2pc. Confirm and cancel cannot fail for reasons of the business.",
        cost: "4n messages for n participants; the same round trips as 2pc, but nothing is locked in a database between them.",
        not_guaranteed: "Isolation: reservations are seen. An end while the coordinator is dead.",
        choose_when: "services, not databases, take part, and each can reserve.",
        avoid_when: "a step cannot be reserved (a mail, a payment outside): use a saga.",
        alternatives: &["2pc", "saga-backward"],
        survives: Trouble::PASSING,
    };

    fn new(me: PeerId, nodes: usize) -> Self {
        Self {
            me,
            nodes,
            state: State::default(),
            trying: BTreeMap::new(),
            refused: BTreeSet::new(),
        }
    }

    fn handle_start(&mut self, cx: &mut Context<'_, Self>, recovered: Option<State>) {
        self.state = recovered.unwrap_or_default();
        for (txn, stage) in self.state.stages.clone() {
            match stage {
                Stage::Trying => self.second(cx, txn, false),
                Stage::Confirming(missing) | Stage::Cancelling(missing) => {
                    if !missing.is_empty() {
                        cx.set_timer(Timer::Resend(txn), RESEND_US);
                    }
                }
            }
        }
    }

    fn handle_message(&mut self, cx: &mut Context<'_, Self>, from: PeerId, message: Message) {
        match message {
            Message::Try(txn) => match self.state.branches.get(&txn) {
                None if self.refused.contains(&txn) => {
                    cx.send(from, Message::Tried(txn, false));
                }
                None => self.branch(cx, txn, Branch::Tried),
                Some(Branch::Cancelled) if misbehaves(PeerBug::TryAfterCancel) => {
                    self.branch(cx, txn, Branch::Tried);
                }
                Some(Branch::Cancelled) => cx.send(from, Message::Tried(txn, false)),
                Some(_) => {
                    let answer = Message::Tried(txn, true);
                    cx.send_durable(self.state.clone(), from, answer);
                }
            },
            Message::Tried(txn, yes) => {
                if let Some(missing) = self.trying.get_mut(&txn) {
                    missing.remove(&from);
                    if !yes || missing.is_empty() {
                        self.second(cx, txn, yes);
                    }
                }
            }
            Message::Confirm(txn) => match self.state.branches.get(&txn) {
                Some(Branch::Tried) => self.branch(cx, txn, Branch::Confirmed),
                Some(Branch::Confirmed) if misbehaves(PeerBug::ConfirmAgain) => {
                    self.branch(cx, txn, Branch::Confirmed);
                }
                _ => cx.send_durable(self.state.clone(), from, Message::Done(txn)),
            },
            Message::Cancel(txn) => match self.state.branches.get(&txn) {
                // Also when there was no try: the record keeps a late one out.
                None | Some(Branch::Tried) => self.branch(cx, txn, Branch::Cancelled),
                _ => cx.send_durable(self.state.clone(), from, Message::Done(txn)),
            },
            Message::Done(txn) => {
                if let Some(Stage::Confirming(missing) | Stage::Cancelling(missing)) =
                    self.state.stages.get_mut(&txn)
                {
                    missing.remove(&from);
                    if missing.is_empty() {
                        cx.cancel_timer(Timer::Resend(txn));
                    }
                }
            }
        }
    }

    fn handle_timer(&mut self, cx: &mut Context<'_, Self>, timer: Timer) {
        match timer {
            Timer::Tries(txn) if self.trying.contains_key(&txn) => self.second(cx, txn, false),
            Timer::Tries(_) => {}
            Timer::Resend(txn) => {
                let (missing, call) = match self.state.stages.get(&txn) {
                    Some(Stage::Confirming(missing)) => (missing.clone(), Message::Confirm(txn)),
                    Some(Stage::Cancelling(missing)) => (missing.clone(), Message::Cancel(txn)),
                    _ => return,
                };
                cx.send_each(missing, &call);
                cx.set_timer(Timer::Resend(txn), RESEND_US);
            }
        }
    }

    fn handle_request(&mut self, cx: &mut Context<'_, Self>, request: Request) {
        match request {
            Request::Begin(txn) if self.me == COORDINATOR => {
                let all: BTreeSet<PeerId> = others(COORDINATOR, self.nodes).collect();
                self.trying.insert(txn, all.clone());
                self.state.stages.insert(txn, Stage::Trying);
                cx.persist(self.state.clone(), |then| {
                    then.send_each(all, &Message::Try(txn));
                });
                cx.set_timer(Timer::Tries(txn), TRIES_US);
            }
            Request::Refuse(txn) => {
                self.refused.insert(txn);
            }
            Request::Begin(_) => {}
        }
    }

    fn role(&self) -> &'static str {
        let reserved = self.state.branches.values().any(|b| *b == Branch::Tried);
        if reserved { "reserved" } else { "" }
    }
}
