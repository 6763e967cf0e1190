//! Two-phase commit with presumed abort. Source: Gray, "Notes on Data Base Operating Systems" (1978);
//! Mohan, Lindsay, "Efficient commit protocols for the tree of processes model" (PODC 1983) for the
//! presumption.
//!
//! What was not committed in writing was aborted: the coordinator writes nothing before all have agreed,
//! and of an abort nothing at all. A prepared participant that hears nothing asks, as long as it takes.

use super::{COORDINATOR, Decision, Request, Txn};
use base::algorithm::{Family, Header, Trouble};
use base::peer::{Context, Peer, PeerId};
use base::planted::{PeerBug, misbehaves};
use std::collections::{BTreeMap, BTreeSet};

/// Votes are waited for so long.
const VOTES_US: u64 = 400_000;
/// Acknowledgements of a commit are asked for this often.
const RESEND_US: u64 = 300_000;
/// A prepared participant asks for the outcome this often.
const ASK_US: u64 = 500_000;

/// What peers tell each other.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Message {
    /// Can you commit?
    Prepare(Txn),
    /// Yes or no.
    Vote(Txn, bool),
    /// Do it.
    Commit(Txn),
    /// Do not.
    Abort(Txn),
    /// It is done.
    Ack(Txn),
    /// What became of it?
    Ask(Txn),
}

/// Names of timers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Timer {
    /// The votes are not all here.
    Votes(Txn),
    /// The acknowledgements are not all here.
    Resend(Txn),
    /// The outcome is not known.
    Ask(Txn),
}

/// What survives a crash.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct State {
    /// The coordinator's commits, with who has not acknowledged yet.
    commits: BTreeMap<Txn, BTreeSet<PeerId>>,
    /// A participant's transactions: prepared (false) or committed (true). Aborted ones are forgotten.
    taken: BTreeMap<Txn, bool>,
}

/// One peer.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct TwoPhase {
    me: PeerId,
    nodes: usize,
    state: State,
    /// The coordinator's transactions whose votes are still coming in: who has not voted.
    voting: BTreeMap<Txn, BTreeSet<PeerId>>,
    refused: BTreeSet<Txn>,
    /// Of these, which the user has been told of, or will be behind a sync.
    told: BTreeSet<Txn>,
}

impl TwoPhase {
    fn participants(&self) -> impl Iterator<Item = PeerId> + use<> {
        (1..=self.nodes).filter(|peer| *peer != COORDINATOR)
    }

    fn voted(&mut self, cx: &mut Context<'_, Self>, from: PeerId, txn: Txn, yes: bool) {
        let Some(missing) = self.voting.get_mut(&txn) else {
            return;
        };
        missing.remove(&from);
        if !yes {
            self.abort(cx, txn);
        } else if missing.is_empty() {
            self.voting.remove(&txn);
            cx.cancel_timer(Timer::Votes(txn));
            let all: BTreeSet<PeerId> = self.participants().collect();
            if misbehaves(PeerBug::CommitBeforeLog) {
                cx.send_each(all.iter().copied(), &Message::Commit(txn));
            }
            self.state.commits.insert(txn, all.clone());
            cx.persist(self.state.clone(), |then| {
                then.send_each(all, &Message::Commit(txn));
                then.decide(Decision::Committed(txn));
                then.set_timer(Timer::Resend(txn), RESEND_US);
            });
        }
    }

    fn abort(&mut self, cx: &mut Context<'_, Self>, txn: Txn) {
        if self.voting.remove(&txn).is_some() {
            cx.cancel_timer(Timer::Votes(txn));
            cx.send_each(self.participants(), &Message::Abort(txn));
            cx.decide(Decision::Aborted(txn));
        }
    }

    fn prepare(&mut self, cx: &mut Context<'_, Self>, txn: Txn) {
        if self.state.taken.contains_key(&txn) {
            cx.send_durable(self.state.clone(), COORDINATOR, Message::Vote(txn, true));
        } else if self.refused.contains(&txn) {
            cx.send(COORDINATOR, Message::Vote(txn, false));
            if self.told.insert(txn) {
                cx.decide(Decision::Aborted(txn));
            }
        } else {
            self.state.taken.insert(txn, false);
            cx.persist(self.state.clone(), |then| {
                then.send(COORDINATOR, Message::Vote(txn, true));
                then.decide(Decision::Reserved(txn));
                then.set_timer(Timer::Ask(txn), ASK_US);
            });
        }
    }

    fn outcome(&mut self, cx: &mut Context<'_, Self>, txn: Txn, commit: bool) {
        match (self.state.taken.get(&txn), commit) {
            (Some(false), true) => {
                self.state.taken.insert(txn, true);
                cx.cancel_timer(Timer::Ask(txn));
                cx.persist(self.state.clone(), |then| {
                    then.decide(Decision::Committed(txn));
                    then.send(COORDINATOR, Message::Ack(txn));
                });
            }
            (Some(false), false) => {
                self.state.taken.remove(&txn);
                // A late repetition of the question must not be agreed to again.
                self.refused.insert(txn);
                self.told.insert(txn);
                cx.cancel_timer(Timer::Ask(txn));
                cx.persist(self.state.clone(), |then| {
                    then.decide(Decision::Aborted(txn));
                });
            }
            (Some(true), true) => {
                cx.send_durable(self.state.clone(), COORDINATOR, Message::Ack(txn));
            }
            (None, false) => {
                self.refused.insert(txn);
            }
            (Some(true), false) | (None, true) => {}
        }
    }
}

impl Peer for TwoPhase {
    type Message = Message;
    type Timer = Timer;
    type State = State;
    type Request = Request;
    type Decision = Decision;

    const HEADER: Header = Header {
        name: "2pc",
        family: Family::Commit,
        title: "Two-phase commit, presumed abort",
        source: "Gray: Notes on Data Base Operating Systems (1978); Mohan, Lindsay (PODC 1983)",
        idea: "The coordinator asks all to prepare. Who agrees writes that down and can no longer back out. When all have agreed, the coordinator writes down the commit and tells all; of an abort nothing is written, for what is not written was aborted.",
        assumptions: "Processes crash and come back with their disk; messages may be lost, late, repeated or reordered. No bound on time is needed.",
        cost: "3n messages for n participants, 4n with acknowledgements of the commit; 2 round trips; n + 1 syncs before the outcome, n after.",
        not_guaranteed: "Progress: while the coordinator is dead, prepared participants wait and hold what they have reserved.",
        choose_when: "all must agree, and the coordinator comes back or is replicated.",
        avoid_when: "participants must not wait for a dead coordinator, or transactions take long.",
        alternatives: &["2pc-replicated", "3pc", "tcc", "saga-backward"],
        survives: Trouble::PASSING,
    };

    fn new(me: PeerId, nodes: usize) -> Self {
        Self {
            me,
            nodes,
            state: State::default(),
            voting: BTreeMap::new(),
            refused: BTreeSet::new(),
            told: BTreeSet::new(),
        }
    }

    fn handle_start(&mut self, cx: &mut Context<'_, Self>, recovered: Option<State>) {
        self.state = recovered.unwrap_or_default();
        for (txn, missing) in &self.state.commits {
            if !missing.is_empty() {
                cx.set_timer(Timer::Resend(*txn), RESEND_US);
            }
        }
        for (txn, _) in self.state.taken.iter().filter(|(_, done)| !**done) {
            cx.set_timer(Timer::Ask(*txn), ASK_US);
        }
    }

    fn handle_message(&mut self, cx: &mut Context<'_, Self>, from: PeerId, message: Message) {
        match message {
            Message::Prepare(txn) => self.prepare(cx, txn),
            Message::Vote(txn, yes) => self.voted(cx, from, txn, yes),
            Message::Commit(txn) => self.outcome(cx, txn, true),
            Message::Abort(txn) => self.outcome(cx, txn, false),
            Message::Ack(txn) => {
                if let Some(missing) = self.state.commits.get_mut(&txn) {
                    missing.remove(&from);
                    if missing.is_empty() {
                        cx.cancel_timer(Timer::Resend(txn));
                    }
                }
            }
            Message::Ask(txn) => {
                if self.state.commits.contains_key(&txn) {
                    cx.send_durable(self.state.clone(), from, Message::Commit(txn));
                } else if !self.voting.contains_key(&txn) {
                    cx.send(from, Message::Abort(txn));
                }
            }
        }
    }

    fn handle_timer(&mut self, cx: &mut Context<'_, Self>, timer: Timer) {
        match timer {
            Timer::Votes(txn) => self.abort(cx, txn),
            Timer::Resend(txn) => {
                let missing = self.state.commits.get(&txn).cloned().unwrap_or_default();
                cx.send_each(missing, &Message::Commit(txn));
                cx.set_timer(Timer::Resend(txn), RESEND_US);
            }
            Timer::Ask(txn) if misbehaves(PeerBug::AbortWhenUncertain) => {
                self.outcome(cx, txn, false);
            }
            // It may have ended while the sync that set this timer was under way.
            Timer::Ask(txn) if self.state.taken.get(&txn) != Some(&false) => {}
            Timer::Ask(txn) => {
                cx.send(COORDINATOR, Message::Ask(txn));
                cx.set_timer(Timer::Ask(txn), ASK_US);
            }
        }
    }

    fn handle_request(&mut self, cx: &mut Context<'_, Self>, request: Request) {
        match request {
            Request::Begin(txn) if self.me == COORDINATOR => {
                self.voting.insert(txn, self.participants().collect());
                cx.send_each(self.participants(), &Message::Prepare(txn));
                cx.set_timer(Timer::Votes(txn), VOTES_US);
            }
            Request::Refuse(txn) => {
                self.refused.insert(txn);
            }
            Request::Begin(_) => {}
        }
    }

    fn role(&self) -> &'static str {
        let prepared = self.state.taken.values().any(|done| !done);
        match (self.me == COORDINATOR, prepared) {
            (true, _) => "coordinator",
            (false, true) => "prepared",
            (false, false) => "",
        }
    }
}
