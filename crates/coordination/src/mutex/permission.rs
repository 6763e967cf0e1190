//! Exclusion by votes: everybody has one vote, and one enters with enough of them. What differs between
//! algorithms is whom one asks and how many must agree ([`Rule`]).
//!
//! A voter writes down whom its vote went to before it says so: a restart must not give it twice. Votes
//! can be spread so that nobody has enough; the voter then asks its vote back for an earlier request, and
//! who is not inside returns it (Sanders, "The information structure of distributed mutual exclusion
//! algorithms", TOCS 1987, mends Maekawa's own repair; returning whenever not inside is the simplest of
//! the correct ways, at the price of a few more messages). Users ask again, and voters ask silent
//! holders, so that lost messages and restarts cost time only.

use super::{Decision, Request, Ticket};
use base::algorithm::Header;
use base::peer::{Context, Peer, PeerId};
use base::planted::{PeerBug, misbehaves};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::marker::PhantomData;

const RETRY_US: u64 = 300_000;
const CHECK_US: u64 = 500_000;

/// Whom one asks, and how many must agree.
pub trait Rule: Clone + std::hash::Hash + PartialEq + Eq + std::fmt::Debug {
    /// What people are told about the algorithm.
    const HEADER: Header;
    /// The voters of `me`, and how many of them are needed. Any two of these sets must meet.
    fn quorum(me: PeerId, nodes: usize) -> (BTreeSet<PeerId>, usize);
}

/// Counts the votes that a voter has given. A vote that comes late, after its return, is told by it from
/// the same voter's next vote for the same request.
pub type VoteNumber = u64;

/// What peers tell each other.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Message {
    /// May I enter?
    Ask(Ticket),
    /// You have my vote.
    Vote(Ticket, VoteNumber),
    /// Somebody has asked before you: if you are not inside, give it back.
    Recall(Ticket, VoteNumber),
    /// Here it is; I still want it.
    Return(Ticket, VoteNumber),
    /// I have left, or do not know of it.
    Release(Ticket),
}

/// Names of timers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Timer {
    /// Ask those voters again that have not voted.
    Retry,
    /// Ask who has my vote.
    Check,
}

/// One peer, user and voter.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Permission<R> {
    me: PeerId,
    voters: BTreeSet<PeerId>,
    needed: usize,
    clock: u64,
    mine: Option<Ticket>,
    votes: BTreeSet<PeerId>,
    /// The last vote of each voter that was given back.
    returned: BTreeMap<PeerId, VoteNumber>,
    inside: bool,
    /// Who has this peer's vote.
    given: Option<Ticket>,
    /// The number of the last vote given.
    number: VoteNumber,
    waiting: BTreeSet<Ticket>,
    rule: PhantomData<R>,
}

impl<R: Rule> Permission<R> {
    fn give(&mut self, cx: &mut Context<'_, Self>, to: Option<Ticket>) {
        self.given = to;
        self.number += 1;
        let number = self.number;
        cx.persist(self.durable(), |then| {
            if let Some(ticket) = to {
                then.send(ticket.peer, Message::Vote(ticket, number));
            }
        });
        if self.waiting.is_empty() {
            cx.cancel_timer(Timer::Check);
        } else {
            cx.set_timer(Timer::Check, CHECK_US);
        }
    }

    fn durable(&self) -> (Option<Ticket>, VoteNumber) {
        let given = self.given.filter(|_| !misbehaves(PeerBug::ForgetVote));
        (given, self.number)
    }

    fn asked(&mut self, cx: &mut Context<'_, Self>, ticket: Ticket) {
        self.clock = self.clock.max(ticket.clock) + 1;
        match self.given {
            None => self.give(cx, Some(ticket)),
            Some(given) if given == ticket => {
                cx.send_durable(
                    self.durable(),
                    ticket.peer,
                    Message::Vote(ticket, self.number),
                );
            }
            Some(given) => {
                // A check that runs goes on: those who wait ask more often than it takes.
                if self.waiting.is_empty() {
                    cx.set_timer(Timer::Check, CHECK_US);
                }
                self.waiting.retain(|waiting| waiting.peer != ticket.peer);
                self.waiting.insert(ticket);
                // A user has one request at a time: of two, one is a late repetition, or is over.
                if ticket < given || ticket.peer == given.peer {
                    cx.send(given.peer, Message::Recall(given, self.number));
                }
            }
        }
    }

    /// The vote is free again, or `ticket` no longer wants it.
    fn released(&mut self, cx: &mut Context<'_, Self>, ticket: Ticket) {
        self.waiting.remove(&ticket);
        if self.given == Some(ticket) {
            let next = self.waiting.pop_first();
            self.give(cx, next);
        }
    }

    fn try_enter(&mut self, cx: &mut Context<'_, Self>) {
        if self.mine.is_some() && !self.inside && self.votes.len() >= self.needed {
            self.inside = true;
            cx.cancel_timer(Timer::Retry);
            cx.decide(Decision::Entered(0));
        }
    }
}

impl<R: Rule> Peer for Permission<R> {
    type Message = Message;
    type Timer = Timer;
    type State = (Option<Ticket>, VoteNumber);
    type Request = Request;
    type Decision = Decision;

    const HEADER: Header = R::HEADER;

    fn new(me: PeerId, nodes: usize) -> Self {
        let (voters, needed) = R::quorum(me, nodes);
        Self {
            me,
            voters,
            needed,
            clock: 0,
            mine: None,
            votes: BTreeSet::new(),
            returned: BTreeMap::new(),
            inside: false,
            given: None,
            number: 0,
            waiting: BTreeSet::new(),
            rule: PhantomData,
        }
    }

    fn handle_start(&mut self, cx: &mut Context<'_, Self>, recovered: Option<Self::State>) {
        (self.given, self.number) = recovered.unwrap_or_default();
        if let Some(given) = self.given {
            self.clock = given.clock;
            cx.set_timer(Timer::Check, CHECK_US);
        }
    }

    fn handle_message(&mut self, cx: &mut Context<'_, Self>, from: PeerId, message: Message) {
        match message {
            Message::Ask(ticket) => self.asked(cx, ticket),
            Message::Vote(ticket, number) if self.mine == Some(ticket) => {
                if self.returned.get(&from).is_none_or(|last| *last < number) {
                    self.votes.insert(from);
                    self.try_enter(cx);
                } else {
                    // Its return was lost, or this word was late: then the voter has counted on.
                    cx.send(from, Message::Return(ticket, number));
                }
            }
            Message::Recall(ticket, number) if self.mine == Some(ticket) => {
                if !self.inside {
                    self.votes.remove(&from);
                    let last = self.returned.entry(from).or_insert(number);
                    *last = number.max(*last);
                    cx.send(from, Message::Return(ticket, number));
                }
            }
            Message::Vote(ticket, _) | Message::Recall(ticket, _) => {
                cx.send(from, Message::Release(ticket));
            }
            Message::Return(ticket, number) => {
                if self.given == Some(ticket) && self.number == number {
                    self.waiting.insert(ticket);
                    let next = self.waiting.pop_first();
                    self.give(cx, next);
                }
            }
            Message::Release(ticket) => self.released(cx, ticket),
        }
    }

    fn handle_timer(&mut self, cx: &mut Context<'_, Self>, timer: Timer) {
        match (timer, self.mine, self.given) {
            (Timer::Retry, Some(mine), _) if !self.inside => {
                let silent = self.voters.difference(&self.votes).copied();
                cx.send_each(silent, &Message::Ask(mine));
                cx.set_timer(Timer::Retry, RETRY_US);
            }
            (Timer::Check, _, Some(given)) => {
                cx.send(given.peer, Message::Recall(given, self.number));
                cx.set_timer(Timer::Check, CHECK_US);
            }
            _ => {}
        }
    }

    fn handle_request(&mut self, cx: &mut Context<'_, Self>, request: Request) {
        match (request, self.mine) {
            (Request::Acquire(_), None) => {
                self.clock += 1;
                let ticket = Ticket {
                    clock: self.clock,
                    peer: self.me,
                    number: cx.rng.next_u64() as u32,
                };
                self.mine = Some(ticket);
                self.votes.clear();
                cx.send_each(self.voters.iter().copied(), &Message::Ask(ticket));
                cx.set_timer(Timer::Retry, RETRY_US);
            }
            (Request::Release(_), Some(ticket)) if self.inside => {
                self.inside = false;
                self.mine = None;
                cx.send_each(self.voters.iter().copied(), &Message::Release(ticket));
            }
            _ => {}
        }
    }

    fn waits_for(&self) -> Vec<PeerId> {
        match self.mine.is_some() && !self.inside {
            true => self.voters.difference(&self.votes).copied().collect(),
            false => Vec::new(),
        }
    }

    fn role(&self) -> &'static str {
        match (self.mine, self.inside) {
            (_, true) => "inside",
            (Some(_), false) => "waiting",
            _ => "",
        }
    }
}
