//! Reliable messages with check-back. Source: RocketMQ's transactional messages (half message, confirmation,
//! check-back); Helland, "Life beyond Distributed Transactions" (CIDR 2007), for consumers that tell repetitions.
//!
//! Peer 1 has a local transaction and a message about it. It leaves the message with the broker (peer 2)
//! before the transaction, and confirms it after. When the confirmation does not come, the broker asks
//! back. Confirmed messages are delivered to the others until they answer.

use super::{COORDINATOR, Decision, Request, Txn};
use base::algorithm::{Family, Header, Trouble};
use base::peer::{Context, Peer, PeerId};
use base::planted::{PeerBug, misbehaves};
use std::collections::{BTreeMap, BTreeSet};

/// The peer that keeps messages.
pub const BROKER: PeerId = 2;
/// A half message that is not confirmed is asked after, this often.
const CHECK_US: u64 = 500_000;
/// Deliveries, and half messages, are repeated this often.
const RESEND_US: u64 = 300_000;

/// What peers tell each other.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Message {
    /// Keep this; do not deliver it yet.
    Half(Txn),
    /// It is kept.
    Kept(Txn),
    /// Deliver it, or forget it.
    Confirm(Txn, bool),
    /// What became of your transaction?
    Check(Txn),
    /// The message.
    Deliver(Txn),
    /// I have it.
    Ack(Txn),
}

/// What the broker knows of a message.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Kept {
    /// Not confirmed.
    Half,
    /// Confirmed: who has not got it.
    Confirmed(BTreeSet<PeerId>),
    /// Forgotten.
    Dropped,
}

/// What survives a crash.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct State {
    /// The sender's local transactions: committed or not.
    local: BTreeMap<Txn, bool>,
    /// The broker's messages.
    kept: BTreeMap<Txn, Kept>,
    /// A consumer's messages.
    consumed: BTreeSet<Txn>,
}

/// Names of timers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Timer {
    /// Send the half message again.
    Half(Txn),
    /// Ask the sender.
    Check(Txn),
    /// Deliver again.
    Deliver(Txn),
}

/// One peer.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct ReliableMessage {
    me: PeerId,
    nodes: usize,
    state: State,
    /// Half messages that are not yet known to be kept.
    leaving: BTreeSet<Txn>,
    refused: BTreeSet<Txn>,
}

impl ReliableMessage {
    /// The sender's transaction ends, in writing; the broker hears of it.
    fn end(&mut self, cx: &mut Context<'_, Self>, txn: Txn, commit: bool) {
        self.leaving.remove(&txn);
        cx.cancel_timer(Timer::Half(txn));
        self.state.local.insert(txn, commit);
        cx.persist(self.state.clone(), |then| {
            then.decide(if commit {
                Decision::Committed(txn)
            } else {
                Decision::Aborted(txn)
            });
            then.send(BROKER, Message::Confirm(txn, commit));
        });
    }

    fn confirmed(&mut self, cx: &mut Context<'_, Self>, txn: Txn, commit: bool) {
        if !matches!(self.state.kept.get(&txn), None | Some(Kept::Half)) {
            return;
        }
        cx.cancel_timer(Timer::Check(txn));
        let consumers: BTreeSet<PeerId> = (BROKER + 1..=self.nodes).collect();
        let kept = if commit {
            Kept::Confirmed(consumers.clone())
        } else {
            Kept::Dropped
        };
        self.state.kept.insert(txn, kept);
        cx.persist(self.state.clone(), |then| {
            if commit {
                then.decide(Decision::Committed(txn));
                then.send_each(consumers, &Message::Deliver(txn));
                then.set_timer(Timer::Deliver(txn), RESEND_US);
            }
        });
    }
}

impl Peer for ReliableMessage {
    type Message = Message;
    type Timer = Timer;
    type State = State;
    type Request = Request;
    type Decision = Decision;

    const HEADER: Header = Header {
        name: "reliable-message",
        family: Family::Commit,
        title: "Reliable message with check-back",
        source: "RocketMQ's transactional messages; Helland: Life beyond Distributed Transactions (CIDR 2007)",
        idea: "The sender leaves a half message with a broker, carries out its local transaction, and confirms or drops the message. A broker that hears nothing asks back. What is confirmed is delivered until it is answered; consumers tell repetitions.",
        assumptions: "As 2pc, with a broker that keeps what it has. Consumers cannot refuse.",
        cost: "3 messages between sender and broker, 2 for each consumer; the sender waits for 1 round trip.",
        not_guaranteed: "Isolation, or any bound on when consumers follow; a way back once the sender has committed.",
        choose_when: "one service decides, and the others only have to follow.",
        avoid_when: "a consumer may have to refuse: use a saga or tcc.",
        alternatives: &["saga-forward", "tcc"],
        survives: Trouble::PASSING,
    };

    fn new(me: PeerId, nodes: usize) -> Self {
        Self {
            me,
            nodes,
            state: State::default(),
            leaving: BTreeSet::new(),
            refused: BTreeSet::new(),
        }
    }

    fn handle_start(&mut self, cx: &mut Context<'_, Self>, recovered: Option<State>) {
        self.state = recovered.unwrap_or_default();
        for (txn, kept) in &self.state.kept {
            match kept {
                Kept::Half => cx.set_timer(Timer::Check(*txn), CHECK_US),
                Kept::Confirmed(missing) if !missing.is_empty() => {
                    cx.set_timer(Timer::Deliver(*txn), RESEND_US);
                }
                _ => {}
            }
        }
    }

    fn handle_message(&mut self, cx: &mut Context<'_, Self>, from: PeerId, message: Message) {
        match message {
            Message::Half(txn) => {
                if misbehaves(PeerBug::DeliverHalf) {
                    self.confirmed(cx, txn, true);
                    return;
                }
                let known = self.state.kept.contains_key(&txn);
                self.state.kept.entry(txn).or_insert(Kept::Half);
                cx.persist(self.state.clone(), |then| {
                    then.send(from, Message::Kept(txn));
                    if !known {
                        then.set_timer(Timer::Check(txn), CHECK_US);
                    }
                });
            }
            Message::Kept(txn) => {
                if self.leaving.contains(&txn) {
                    self.end(cx, txn, !self.refused.contains(&txn));
                }
            }
            Message::Confirm(txn, commit) => self.confirmed(cx, txn, commit),
            Message::Check(txn) => match self.state.local.get(&txn) {
                Some(commit) => {
                    let answer = Message::Confirm(txn, *commit);
                    cx.send_durable(self.state.clone(), from, answer);
                }
                None if self.leaving.contains(&txn) => {}
                // It died before its transaction: there is none, and there will be none.
                None => self.end(cx, txn, false),
            },
            Message::Deliver(txn) => {
                if self.state.consumed.insert(txn) {
                    cx.persist(self.state.clone(), |then| {
                        then.decide(Decision::Committed(txn));
                        then.send(from, Message::Ack(txn));
                    });
                } else {
                    cx.send_durable(self.state.clone(), from, Message::Ack(txn));
                }
            }
            Message::Ack(txn) => {
                if let Some(Kept::Confirmed(missing)) = self.state.kept.get_mut(&txn) {
                    missing.remove(&from);
                    if missing.is_empty() {
                        cx.cancel_timer(Timer::Deliver(txn));
                    }
                }
            }
        }
    }

    fn handle_timer(&mut self, cx: &mut Context<'_, Self>, timer: Timer) {
        match timer {
            Timer::Half(txn) => {
                cx.send(BROKER, Message::Half(txn));
                cx.set_timer(timer, RESEND_US);
            }
            Timer::Check(txn) => {
                cx.send(COORDINATOR, Message::Check(txn));
                cx.set_timer(timer, CHECK_US);
            }
            Timer::Deliver(txn) => {
                if let Some(Kept::Confirmed(missing)) = self.state.kept.get(&txn) {
                    cx.send_each(missing.iter().copied(), &Message::Deliver(txn));
                    cx.set_timer(timer, RESEND_US);
                }
            }
        }
    }

    fn handle_request(&mut self, cx: &mut Context<'_, Self>, request: Request) {
        match request {
            Request::Begin(txn) if self.me == COORDINATOR => {
                self.leaving.insert(txn);
                self.handle_timer(cx, Timer::Half(txn));
            }
            Request::Refuse(txn) => {
                self.refused.insert(txn);
            }
            Request::Begin(_) => {}
        }
    }
}
