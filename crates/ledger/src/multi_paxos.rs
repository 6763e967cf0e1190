//! Multi-Paxos: a log whose every place is a decision of Paxos, under one leader. Source: Lamport, "Paxos made
//! simple" (2001), section 3.
//!
//! The first round of Paxos names no value, so one of them serves all places at once: a leader makes it
//! when it begins and hears what was taken in every place that is not known to be chosen. From then on a value
//! costs one round. What a leader finds taken it offers again, places in between it fills with nothing.

use super::{Decision, Request};
use base::algorithm::{Family, Header, Trouble};
use base::peer::{Context, Peer, PeerId, majority, others};
use base::planted::{PeerBug, misbehaves};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// A leader shows itself this often, and repeats what was not answered.
const BEAT_US: u64 = 50_000;
/// Who hears no leader for this, and up to twice as long, stands.
const SILENCE_US: u64 = 300_000;
/// The first of a group stands so soon, so that there is a leader at once.
const FIRST_US: u64 = 20_000;
/// The value of a place that was filled because a later one was taken.
const NOTHING: u64 = 0;

/// A round, and who leads in it.
pub type Ballot = (u64, PeerId);
/// A place in the log, from 0 on.
pub type Slot = u64;
/// What was taken in places that are not known to be chosen.
pub type Taken = BTreeMap<Slot, (Ballot, u64)>;

/// What peers tell each other.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Message {
    /// Promise to take nothing older than this, in any place; I know what is chosen before this one.
    Prepare(Ballot, Slot),
    /// I do. This is chosen from the place on that you named, and this I have taken behind it.
    Promise(Ballot, Slot, Vec<u64>, Taken),
    /// Take this value in this place.
    Accept(Ballot, Slot, u64),
    /// I have.
    Accepted(Ballot, Slot),
    /// I have promised a later one.
    Later(Ballot),
    /// I lead, and everything before this place is chosen.
    Beat(Ballot, Slot),
    /// I know what is chosen before this place only, and these values wait here.
    Heard(Ballot, Slot, BTreeSet<u64>),
    /// These are chosen, from this place on.
    Log(Slot, Vec<u64>),
}

/// Names of timers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Timer {
    /// No leader was heard.
    Silence,
    /// Show oneself.
    Beat,
}

/// What survives a crash.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub struct State {
    promised: Ballot,
    taken: Taken,
    /// What is known to be chosen, from the first place on without a gap.
    chosen: Vec<u64>,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Role {
    Follower,
    Candidate(BTreeMap<PeerId, Taken>),
    /// What is offered and not known to be chosen without a gap: the value, and who has taken it.
    Leader(BTreeMap<Slot, (u64, BTreeSet<PeerId>)>),
}

/// One peer: proposer, acceptor and learner.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct MultiPaxos {
    me: PeerId,
    nodes: usize,
    state: State,
    role: Role,
    /// One's own last.
    ballot: Ballot,
    /// The latest round heard of.
    round: u64,
    /// Values that the user wants, and that are not known to be chosen.
    waiting: BTreeSet<u64>,
    /// Values told of. One that was chosen in two places counts in the first.
    told: BTreeSet<u64>,
    /// Places told of.
    told_to: usize,
}

impl MultiPaxos {
    /// Whether this peer takes itself for the leader.
    pub fn leads(&self) -> bool {
        matches!(self.role, Role::Leader(_))
    }

    fn end(&self) -> Slot {
        self.state.chosen.len() as Slot
    }

    fn wait_for_leader(&mut self, cx: &mut Context<'_, Self>) {
        let after_us = cx.rng.range(SILENCE_US, 2 * SILENCE_US);
        cx.set_timer(Timer::Silence, after_us);
    }

    /// Somebody is at work under this ballot.
    fn follow(&mut self, cx: &mut Context<'_, Self>, ballot: Ballot) {
        self.state.promised = ballot;
        self.round = self.round.max(ballot.0);
        if ballot != self.ballot {
            self.retire(cx);
        }
    }

    fn retire(&mut self, cx: &mut Context<'_, Self>) {
        self.role = Role::Follower;
        cx.cancel_timer(Timer::Beat);
        self.wait_for_leader(cx);
    }

    fn stand(&mut self, cx: &mut Context<'_, Self>) {
        self.round = self.round.max(self.state.promised.0) + 1;
        self.ballot = (self.round, self.me);
        self.role = Role::Candidate(BTreeMap::new());
        cx.send_each(1..=self.nodes, &Message::Prepare(self.ballot, self.end()));
        self.wait_for_leader(cx);
    }

    fn lead(&mut self, cx: &mut Context<'_, Self>) {
        let Role::Candidate(promises) = &self.role else {
            return;
        };
        if promises.len() < majority(self.nodes) {
            return;
        }
        let mut bound = Taken::new();
        for (slot, taken) in promises.values().flatten() {
            let latest = bound.entry(*slot).or_insert(*taken);
            *latest = *taken.max(latest);
        }
        bound.retain(|slot, _| *slot >= self.end());
        if misbehaves(PeerBug::LeadUnheard) {
            bound.clear();
        }
        self.role = Role::Leader(BTreeMap::new());
        cx.cancel_timer(Timer::Silence);
        if let Some((last, _)) = bound.last_key_value() {
            for slot in self.end()..=*last {
                let value = bound.get(&slot).map_or(NOTHING, |(_, value)| *value);
                self.offer(cx, slot, value);
            }
        }
        self.offer_waiting(cx);
        self.handle_timer(cx, Timer::Beat);
    }

    fn offer(&mut self, cx: &mut Context<'_, Self>, slot: Slot, value: u64) {
        if let Role::Leader(open) = &mut self.role {
            open.insert(slot, (value, BTreeSet::new()));
            let word = Message::Accept(self.ballot, slot, value);
            cx.send_each(1..=self.nodes, &word);
        }
    }

    fn offer_waiting(&mut self, cx: &mut Context<'_, Self>) {
        for value in self.waiting.clone() {
            let Role::Leader(open) = &self.role else {
                return;
            };
            let next = open
                .last_key_value()
                .map_or(self.end(), |(slot, _)| slot + 1);
            if open.values().all(|(other, _)| *other != value) {
                self.offer(cx, next, value);
            }
        }
    }

    /// What is known to be chosen goes on with these, from this place on.
    fn learn(&mut self, cx: &mut Context<'_, Self>, from: Slot, values: &[u64]) {
        let known = (self.end().saturating_sub(from)) as usize;
        if from > self.end() || known >= values.len() {
            return;
        }
        for value in &values[known..] {
            self.state.taken.remove(&self.end());
            self.state.chosen.push(*value);
        }
        for place in self.told_to..self.state.chosen.len() {
            let value = self.state.chosen[place];
            self.waiting.remove(&value);
            if value != NOTHING && self.told.insert(value) {
                let position = place as u64 + 1;
                cx.decide(Decision::Decided { position, value });
            }
        }
        self.told_to = self.state.chosen.len();
    }

    fn accepted(&mut self, cx: &mut Context<'_, Self>, from: PeerId, slot: Slot) {
        let Role::Leader(open) = &mut self.role else {
            return;
        };
        if let Some((_, who)) = open.get_mut(&slot) {
            who.insert(from);
        }
        let first = self.state.chosen.len() as Slot;
        let mut values = Vec::new();
        while let Some((value, who)) = open.get(&(first + values.len() as Slot))
            && who.len() >= majority(self.nodes)
        {
            values.push(*value);
        }
        if values.is_empty() {
            return;
        }
        *open = open.split_off(&(first + values.len() as Slot));
        self.learn(cx, first, &values);
        let word = Message::Beat(self.ballot, self.end());
        cx.send_each(others(self.me, self.nodes), &word);
    }

    /// What was taken under the leader's own ballot is what it has offered: it is chosen if it says so.
    fn beat(&mut self, cx: &mut Context<'_, Self>, ballot: Ballot, chosen: Slot) {
        let taken = (self.end()..chosen).map_while(|slot| match self.state.taken.get(&slot) {
            Some((of, value)) if *of == ballot => Some(*value),
            _ => None,
        });
        let values: Vec<u64> = taken.collect();
        self.learn(cx, self.end(), &values);
        if self.end() < chosen || !self.waiting.is_empty() {
            let word = Message::Heard(ballot, self.end(), self.waiting.clone());
            cx.send(ballot.1, word);
        }
    }
}

impl Peer for MultiPaxos {
    type Message = Message;
    type Timer = Timer;
    type State = State;
    type Request = Request;
    type Decision = Decision;

    const HEADER: Header = Header {
        name: "multi-paxos",
        family: Family::Consensus,
        title: "Multi-Paxos",
        source: "Lamport: Paxos made simple (2001), section 3",
        idea: "Every place of a log is decided by Paxos, and one leader makes the first round for all places at once. It offers again what it finds taken, fills the places in between with nothing, and then puts one value after the other into the log. Whoever hears no leader stands, with a later ballot.",
        assumptions: "Processes crash and come back with their disk; messages may be lost, late, repeated or reordered. A majority is there, for progress.",
        cost: "3(n - 1) messages and 1 round trip a value under a leader, 1 sync at each acceptor; 2(n - 1) messages and a round trip for a new leader; n - 1 every 50 ms to show itself.",
        not_guaranteed: "A place to each value: a value may be put into two, of which the first counts. Progress while leaders keep outbidding each other.",
        choose_when: "many values are to be decided in one order, and a majority stays.",
        avoid_when: "members change or logs grow: raft says how, Paxos does not.",
        alternatives: &["raft", "paxos", "pbft"],
        survives: Trouble::PASSING_AND_DEATH,
    };

    fn new(me: PeerId, nodes: usize) -> Self {
        Self {
            me,
            nodes,
            state: State::default(),
            role: Role::Follower,
            ballot: (0, me),
            round: 0,
            waiting: BTreeSet::new(),
            told: BTreeSet::new(),
            told_to: 0,
        }
    }

    fn handle_start(&mut self, cx: &mut Context<'_, Self>, recovered: Option<State>) {
        match (self.me, &recovered) {
            (1, None) => cx.set_timer(Timer::Silence, FIRST_US),
            _ => self.wait_for_leader(cx),
        }
        let chosen = recovered.map(|state| {
            let chosen = state.chosen.clone();
            self.state = State {
                chosen: Vec::new(),
                ..state
            };
            chosen
        });
        self.learn(cx, 0, &chosen.unwrap_or_default());
    }

    fn handle_message(&mut self, cx: &mut Context<'_, Self>, from: PeerId, message: Message) {
        match message {
            Message::Prepare(ballot, _)
            | Message::Accept(ballot, ..)
            | Message::Beat(ballot, _)
                if ballot < self.state.promised =>
            {
                cx.send(from, Message::Later(self.state.promised));
            }
            Message::Prepare(ballot, slot) => {
                self.follow(cx, ballot);
                let chosen = self.state.chosen.iter().skip(slot as usize).copied();
                let word =
                    Message::Promise(ballot, slot, chosen.collect(), self.state.taken.clone());
                cx.send_durable(self.state.clone(), from, word);
            }
            Message::Promise(ballot, slot, chosen, taken) if ballot == self.ballot => {
                self.learn(cx, slot, &chosen);
                if let Role::Candidate(promises) = &mut self.role {
                    promises.insert(from, taken);
                    self.lead(cx);
                }
            }
            Message::Accept(ballot, slot, value) => {
                self.follow(cx, ballot);
                if slot >= self.end() {
                    self.state.taken.insert(slot, (ballot, value));
                }
                let word = Message::Accepted(ballot, slot);
                cx.send_durable(self.state.clone(), from, word);
            }
            Message::Accepted(ballot, slot) if ballot == self.ballot => {
                self.accepted(cx, from, slot);
            }
            Message::Beat(ballot, chosen) => {
                self.follow(cx, ballot);
                self.beat(cx, ballot, chosen);
            }
            Message::Later(ballot) => {
                self.round = self.round.max(ballot.0);
                if ballot > self.ballot && self.role != Role::Follower {
                    self.retire(cx);
                }
            }
            Message::Heard(ballot, slot, waiting) => {
                if ballot == self.ballot && self.leads() {
                    let new = waiting.difference(&self.told);
                    self.waiting.extend(new);
                    self.offer_waiting(cx);
                }
                let chosen: Vec<u64> = (self.state.chosen.iter())
                    .skip(slot as usize)
                    .copied()
                    .collect();
                if !chosen.is_empty() {
                    cx.send(from, Message::Log(slot, chosen));
                }
            }
            Message::Log(slot, values) => self.learn(cx, slot, &values),
            Message::Promise(..) | Message::Accepted(..) => {}
        }
    }

    fn handle_timer(&mut self, cx: &mut Context<'_, Self>, timer: Timer) {
        match timer {
            Timer::Silence => self.stand(cx),
            Timer::Beat => {
                let Role::Leader(open) = &self.role else {
                    return;
                };
                for (slot, (value, who)) in open {
                    let silent = (1..=self.nodes).filter(|peer| !who.contains(peer));
                    let word = Message::Accept(self.ballot, *slot, *value);
                    cx.send_each(silent, &word);
                }
                let word = Message::Beat(self.ballot, self.end());
                cx.send_each(others(self.me, self.nodes), &word);
                cx.set_timer(Timer::Beat, BEAT_US);
            }
        }
    }

    fn handle_request(&mut self, cx: &mut Context<'_, Self>, value: Request) {
        if !self.told.contains(&value) {
            self.waiting.insert(value);
            self.offer_waiting(cx);
        }
    }

    fn role(&self) -> &'static str {
        match self.role {
            Role::Follower => "follower",
            Role::Candidate(_) => "candidate",
            Role::Leader(_) => "leader",
        }
    }
}
