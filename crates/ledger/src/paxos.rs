//! Single-decree Paxos. Source: Lamport, "The part-time parliament" (ACM TOCS 16(2), 1998) and "Paxos made simple" (2001).
//!
//! A proposer asks a majority to promise to take nothing older than its ballot; what they have taken before
//! binds it. Two majorities share a peer, so once a value is chosen every later ballot hears of it.

use super::{Decision, Request};
use base::algorithm::{Family, Header, Trouble};
use base::peer::{Context, Peer, PeerId, majority, others};
use base::planted::{PeerBug, misbehaves};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// A proposer that has come to nothing tries again after this and up to twice as long.
const RETRY_US: u64 = 250_000;

/// A round, and who proposes in it.
pub type Ballot = (u64, PeerId);

/// What peers tell each other.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Message {
    /// Promise to take nothing older than this.
    Prepare(Ballot),
    /// I do, and this I have taken before.
    Promise(Ballot, Option<(Ballot, u64)>),
    /// Take this value.
    Accept(Ballot, u64),
    /// I have.
    Accepted(Ballot),
    /// I have promised a later one.
    Later(Ballot),
    /// This value is chosen.
    Chosen(u64),
}

/// Names of timers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Timer {
    /// Propose again.
    Retry,
}

/// What survives a crash.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub struct State {
    promised: Ballot,
    accepted: Option<(Ballot, u64)>,
    chosen: Option<u64>,
}

/// One peer: proposer, acceptor and learner.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Paxos {
    me: PeerId,
    nodes: usize,
    state: State,
    /// What its user wants chosen.
    wants: Option<u64>,
    ballot: Ballot,
    promises: BTreeMap<PeerId, Option<(Ballot, u64)>>,
    proposed: Option<u64>,
    accepted: BTreeSet<PeerId>,
}

impl Paxos {
    fn propose(&mut self, cx: &mut Context<'_, Self>) {
        if self.state.chosen.is_some() || self.wants.is_none() {
            return;
        }
        let round = self.ballot.0.max(self.state.promised.0) + 1;
        self.ballot = (round, self.me);
        self.promises.clear();
        self.accepted.clear();
        self.proposed = None;
        cx.send_each(1..=self.nodes, &Message::Prepare(self.ballot));
        let after_us = cx.rng.range(RETRY_US, 2 * RETRY_US);
        cx.set_timer(Timer::Retry, after_us);
    }

    fn promised(&mut self, cx: &mut Context<'_, Self>) {
        if self.promises.len() < majority(self.nodes) || self.proposed.is_some() {
            return;
        }
        let bound = self.promises.values().flatten().max();
        self.proposed = bound.map(|(_, value)| *value).or(self.wants);
        if let Some(value) = self.proposed {
            cx.send_each(1..=self.nodes, &Message::Accept(self.ballot, value));
        }
    }

    fn choose(&mut self, cx: &mut Context<'_, Self>, value: u64) {
        if self.state.chosen.is_none() {
            self.state.chosen = Some(value);
            cx.cancel_timer(Timer::Retry);
            cx.persist(self.state, |_| {});
            cx.decide(Decision::Decided { position: 1, value });
        }
    }
}

impl Peer for Paxos {
    type Message = Message;
    type Timer = Timer;
    type State = State;
    type Request = Request;
    type Decision = Decision;

    const HEADER: Header = Header {
        name: "paxos",
        family: Family::Consensus,
        title: "Paxos, single decree",
        source: "Lamport: The part-time parliament (ACM TOCS 1998); Paxos made simple (2001)",
        idea: "A proposer first asks a majority to promise to take nothing older than its ballot, and hears what they have taken; if anything, that is what it proposes. A value that a majority takes in one ballot is chosen.",
        assumptions: "Processes crash and come back with their disk; messages may be lost, late, repeated or reordered. A majority is there, for progress.",
        cost: "5(n - 1) messages and 2 round trips, with one proposer; 2 syncs at each acceptor.",
        not_guaranteed: "Progress while proposers keep outbidding each other; they wait for random times. One value only: for a log use multi-paxos or raft.",
        choose_when: "one decision must be made once and for all, by whoever is there.",
        avoid_when: "there are many decisions: a leader saves the first round trip (multi-paxos, raft).",
        alternatives: &["multi-paxos", "pbft", "raft"],
        survives: Trouble::PASSING_AND_DEATH,
    };

    fn new(me: PeerId, nodes: usize) -> Self {
        Self {
            me,
            nodes,
            state: State::default(),
            wants: None,
            ballot: (0, me),
            promises: BTreeMap::new(),
            proposed: None,
            accepted: BTreeSet::new(),
        }
    }

    fn handle_start(&mut self, cx: &mut Context<'_, Self>, recovered: Option<State>) {
        self.state = recovered.unwrap_or_default();
        if let Some(value) = self.state.chosen {
            cx.decide(Decision::Decided { position: 1, value });
        }
    }

    fn handle_message(&mut self, cx: &mut Context<'_, Self>, from: PeerId, message: Message) {
        if let (Some(value), Message::Prepare(_) | Message::Accept(..)) =
            (self.state.chosen, &message)
        {
            cx.send(from, Message::Chosen(value));
            return;
        }
        match message {
            Message::Prepare(ballot) | Message::Accept(ballot, _)
                if ballot < self.state.promised && !misbehaves(PeerBug::ForgetPromise) =>
            {
                cx.send(from, Message::Later(self.state.promised));
            }
            Message::Prepare(ballot) => {
                self.state.promised = ballot;
                let promise = Message::Promise(ballot, self.state.accepted);
                cx.send_durable(self.state, from, promise);
            }
            Message::Accept(ballot, value) => {
                self.state.promised = ballot;
                self.state.accepted = Some((ballot, value));
                cx.send_durable(self.state, from, Message::Accepted(ballot));
            }
            Message::Promise(ballot, accepted) if ballot == self.ballot => {
                self.promises.insert(from, accepted);
                self.promised(cx);
            }
            Message::Accepted(ballot) if ballot == self.ballot => {
                self.accepted.insert(from);
                if let (Some(value), true) =
                    (self.proposed, self.accepted.len() >= majority(self.nodes))
                {
                    cx.send_each(others(self.me, self.nodes), &Message::Chosen(value));
                    self.choose(cx, value);
                }
            }
            Message::Later(ballot) => self.ballot.0 = self.ballot.0.max(ballot.0),
            Message::Chosen(value) => self.choose(cx, value),
            Message::Promise(..) | Message::Accepted(_) => {}
        }
    }

    fn handle_timer(&mut self, cx: &mut Context<'_, Self>, Timer::Retry: Timer) {
        self.propose(cx);
    }

    fn handle_request(&mut self, cx: &mut Context<'_, Self>, value: Request) {
        self.wants = self.wants.or(Some(value));
        self.propose(cx);
    }

    fn role(&self) -> &'static str {
        match (self.state.chosen.is_some(), self.proposed.is_some()) {
            (true, _) => "agreed",
            (false, true) => "candidate",
            (false, false) => "",
        }
    }
}
