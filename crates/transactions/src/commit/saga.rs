//! Sagas. Source: Garcia-Molina, Salem, "Sagas" (SIGMOD 1987), backward and forward recovery.
//!
//! Steps take effect one after the other. Backward: when one is refused, those before it are undone, last
//! first. Forward: a step that is refused is tried until it succeeds.

use super::{COORDINATOR, Decision, Request, Txn};
use base::algorithm::{Family, Header, Trouble};
use base::peer::{Context, Peer, PeerId};
use base::planted::{PeerBug, misbehaves};
use std::collections::{BTreeMap, BTreeSet};
use std::marker::PhantomData;

const RESEND_US: u64 = 250_000;
/// A forward saga's refusing participant changes its mind after so many tries.
const REFUSALS: u32 = 3;

/// Which way a saga goes when a step is refused.
pub trait Way: Clone + std::hash::Hash + PartialEq + Eq + std::fmt::Debug {
    /// What people are told about the algorithm.
    const HEADER: Header;
    /// Undo, or try again.
    const BACKWARD: bool;
}

/// Undo.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Backward;

/// Try again.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Forward;

impl Way for Backward {
    const HEADER: Header = Header {
        name: "saga-backward",
        family: Family::Commit,
        title: "Saga with compensation",
        source: "Garcia-Molina, Salem: Sagas (SIGMOD 1987)",
        idea: "The steps take effect one after the other, each at its participant. When one is refused, those before it are compensated, last first. The coordinator writes down how far it is and repeats every call until it is answered; participants do each once.",
        assumptions: "As 2pc. Every step can be compensated, and compensations are not refused.",
        cost: "2n messages when all agree; up to 4n when the last refuses; n round trips one after the other. Nothing is locked or reserved.",
        not_guaranteed: "Isolation: effects are seen before they are undone. An end while the coordinator is dead.",
        choose_when: "transactions take long, and each step can be undone.",
        avoid_when: "a step cannot be undone, or what is undone must never have been seen.",
        alternatives: &["saga-forward", "tcc", "2pc"],
        survives: Trouble::PASSING,
    };
    const BACKWARD: bool = true;
}

impl Way for Forward {
    const HEADER: Header = Header {
        name: "saga-forward",
        title: "Saga that goes forward",
        idea: "The steps take effect one after the other; a step that is refused is tried again until it succeeds. In the lab a participant refuses three times.",
        assumptions: "As 2pc. Every step succeeds in the end.",
        cost: "2n messages and one more pair for each refusal; n round trips one after the other.",
        not_guaranteed: "Isolation; an end while a step is refused, or the coordinator is dead.",
        choose_when: "turning back makes no sense: an order that is paid is delivered, sooner or later.",
        avoid_when: "a step may be refused for good.",
        alternatives: &["saga-backward", "reliable-message"],
        ..Backward::HEADER
    };
    const BACKWARD: bool = false;
}

/// What peers tell each other.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Message {
    /// Take the step.
    Do(Txn),
    /// Taken, or refused.
    Done(Txn, bool),
    /// Undo it.
    Compensate(Txn),
    /// Undone.
    Compensated(Txn),
}

/// How far a saga is: the participant that is called, and which way it goes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Progress {
    /// This participant's step is next.
    At(PeerId),
    /// This participant's compensation is next.
    Back(PeerId),
    /// All steps are taken (true), or undone.
    Over(bool),
}

/// What survives a crash.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct State {
    sagas: BTreeMap<Txn, Progress>,
    /// Steps taken here (true), or undone or refused for good.
    steps: BTreeMap<Txn, bool>,
}

/// One peer.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Saga<W> {
    me: PeerId,
    nodes: usize,
    state: State,
    refused: BTreeSet<Txn>,
    refusals: BTreeMap<Txn, u32>,
    way: PhantomData<W>,
}

/// One peer of sagas that turn back.
pub type SagaBackward = Saga<Backward>;
/// One peer of sagas that go on.
pub type SagaForward = Saga<Forward>;

impl<W: Way> Saga<W> {
    fn go(&mut self, cx: &mut Context<'_, Self>, txn: Txn, to: Progress) {
        self.state.sagas.insert(txn, to);
        cx.persist(self.state.clone(), |then| match to {
            Progress::Over(true) => then.decide(Decision::Committed(txn)),
            Progress::Over(false) => then.decide(Decision::Aborted(txn)),
            Progress::At(_) | Progress::Back(_) => {
                then.set_timer(txn, RESEND_US);
                Self::call(then, txn, to);
            }
        });
    }

    fn call(cx: &mut Context<'_, Self>, txn: Txn, progress: Progress) {
        match progress {
            Progress::At(peer) => cx.send(peer, Message::Do(txn)),
            Progress::Back(peer) => cx.send(peer, Message::Compensate(txn)),
            Progress::Over(_) => {}
        }
    }

    /// Behind the compensation of `peer`.
    fn back_from(peer: PeerId) -> Progress {
        let first = COORDINATOR + 1 + usize::from(misbehaves(PeerBug::SkipCompensation));
        if peer > first {
            Progress::Back(peer - 1)
        } else {
            Progress::Over(false)
        }
    }

    fn done(&mut self, cx: &mut Context<'_, Self>, from: PeerId, txn: Txn, yes: bool) {
        if self.state.sagas.get(&txn) != Some(&Progress::At(from)) {
            return;
        }
        match (yes, W::BACKWARD) {
            (true, _) if from == self.nodes => self.go(cx, txn, Progress::Over(true)),
            (true, _) => self.go(cx, txn, Progress::At(from + 1)),
            (false, false) if misbehaves(PeerBug::SkipRefusedStep) => {
                self.done(cx, from, txn, true);
            }
            (false, true) => self.go(cx, txn, Self::back_from(from)),
            // The timer tries again.
            (false, false) => {}
        }
    }

    fn step(&mut self, cx: &mut Context<'_, Self>, txn: Txn) {
        match self.state.steps.get(&txn).copied() {
            Some(taken) => {
                let answer = Message::Done(txn, taken);
                cx.send_durable(self.state.clone(), COORDINATOR, answer);
            }
            None if self.refuses(txn) => cx.send(COORDINATOR, Message::Done(txn, false)),
            None => {
                self.state.steps.insert(txn, true);
                cx.persist(self.state.clone(), |then| {
                    then.decide(Decision::Committed(txn));
                    then.send(COORDINATOR, Message::Done(txn, true));
                });
            }
        }
    }

    fn refuses(&mut self, txn: Txn) -> bool {
        let refusals = self.refusals.entry(txn).or_default();
        *refusals += 1;
        self.refused.contains(&txn) && (W::BACKWARD || *refusals <= REFUSALS)
    }
}

impl<W: Way> Peer for Saga<W> {
    type Message = Message;
    /// Repeats the saga's call.
    type Timer = Txn;
    type State = State;
    type Request = Request;
    type Decision = Decision;

    const HEADER: Header = W::HEADER;

    fn new(me: PeerId, nodes: usize) -> Self {
        Self {
            me,
            nodes,
            state: State::default(),
            refused: BTreeSet::new(),
            refusals: BTreeMap::new(),
            way: PhantomData,
        }
    }

    fn handle_start(&mut self, cx: &mut Context<'_, Self>, recovered: Option<State>) {
        self.state = recovered.unwrap_or_default();
        for (txn, progress) in &self.state.sagas {
            if !matches!(progress, Progress::Over(_)) {
                cx.set_timer(*txn, RESEND_US);
            }
        }
    }

    fn handle_message(&mut self, cx: &mut Context<'_, Self>, from: PeerId, message: Message) {
        match message {
            Message::Do(txn) => self.step(cx, txn),
            Message::Done(txn, yes) => self.done(cx, from, txn, yes),
            Message::Compensate(txn) => match self.state.steps.get(&txn) {
                Some(true) => {
                    self.state.steps.insert(txn, false);
                    cx.persist(self.state.clone(), |then| {
                        then.decide(Decision::Compensated(txn));
                        then.send(COORDINATOR, Message::Compensated(txn));
                    });
                }
                _ => {
                    let answer = Message::Compensated(txn);
                    cx.send_durable(self.state.clone(), COORDINATOR, answer);
                }
            },
            Message::Compensated(txn) => {
                if self.state.sagas.get(&txn) == Some(&Progress::Back(from)) {
                    self.go(cx, txn, Self::back_from(from));
                }
            }
        }
    }

    fn handle_timer(&mut self, cx: &mut Context<'_, Self>, txn: Txn) {
        let progress = self.state.sagas.get(&txn).copied();
        if let Some(progress @ (Progress::At(_) | Progress::Back(_))) = progress {
            Self::call(cx, txn, progress);
            cx.set_timer(txn, RESEND_US);
        }
    }

    fn handle_request(&mut self, cx: &mut Context<'_, Self>, request: Request) {
        match request {
            Request::Begin(txn) if self.me == COORDINATOR => {
                self.go(cx, txn, Progress::At(COORDINATOR + 1));
            }
            Request::Refuse(txn) => {
                self.refused.insert(txn);
            }
            Request::Begin(_) => {}
        }
    }
}
