//! Mutual exclusion through one coordinator. Source: Tanenbaum, van Steen, "Distributed Systems" (3rd
//! edition, 2017), §6.3.
//!
//! Beyond the textbook: the coordinator writes down who holds the lock before it grants it, asks a holder
//! that keeps others waiting whether it is still inside, and users ask again. So a lost message or a
//! restart of anybody costs time and nothing else. Not taken: a lease, which would let in a second user
//! while the first is merely slow.

use super::{Decision, Request};
use base::algorithm::{Family, Header, Trouble};
use base::peer::{Context, Peer, PeerId};
use base::planted::{PeerBug, misbehaves};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// After so long without an answer a user asks again.
const RETRY_US: u64 = 300_000;
/// A holder that keeps others waiting is asked this often.
const CHECK_US: u64 = 500_000;

/// What peers tell each other; the number is the asking user's.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Message {
    /// May I enter?
    Acquire(u32),
    /// You may.
    Grant(u32),
    /// I have left, or do not know of it.
    Release(u32),
    /// Are you still inside?
    Check(u32),
}

/// Names of timers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Timer {
    /// Ask again.
    Retry,
    /// Ask the holder.
    Check,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Stage {
    Outside,
    Waiting(u32),
    Inside(u32),
}

/// One peer; that of the lowest number coordinates too.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Centralized {
    me: PeerId,
    coordinator: PeerId,
    stage: Stage,
    holder: Option<(PeerId, u32)>,
    queue: VecDeque<(PeerId, u32)>,
}

impl Centralized {
    /// A peer that turns to `coordinator`.
    pub fn with_coordinator(me: PeerId, coordinator: PeerId) -> Self {
        Self {
            me,
            coordinator,
            stage: Stage::Outside,
            holder: None,
            queue: VecDeque::new(),
        }
    }

    fn asked(&mut self, cx: &mut Context<'_, Self>, user: PeerId, number: u32) {
        match self.holder {
            Some(holder) if holder == (user, number) => {
                cx.send_durable(self.holder, user, Message::Grant(number));
            }
            Some((holder, held)) if !misbehaves(PeerBug::GrantWhileHeld) => {
                // One that asks again does not put off that the holder is asked.
                if self.queue.is_empty() {
                    cx.set_timer(Timer::Check, CHECK_US);
                }
                self.queue.retain(|(waiting, _)| *waiting != user);
                self.queue.push_back((user, number));
                // A user has one request at a time: this one is a late repetition, or it has left.
                if holder == user {
                    cx.send(user, Message::Check(held));
                }
            }
            _ => self.grant(cx, Some((user, number))),
        }
    }

    fn grant(&mut self, cx: &mut Context<'_, Self>, to: Option<(PeerId, u32)>) {
        self.holder = to;
        cx.persist(self.holder, |then| {
            if let Some((user, number)) = to {
                then.send(user, Message::Grant(number));
            }
        });
        if self.queue.is_empty() {
            cx.cancel_timer(Timer::Check);
        } else {
            cx.set_timer(Timer::Check, CHECK_US);
        }
    }

    fn released(&mut self, cx: &mut Context<'_, Self>, user: PeerId, number: u32) {
        self.queue.retain(|waiting| *waiting != (user, number));
        if self.holder == Some((user, number)) {
            let next = self.queue.pop_front();
            self.grant(cx, next);
        }
    }
}

impl Peer for Centralized {
    type Message = Message;
    type Timer = Timer;
    type State = Option<(PeerId, u32)>;
    type Request = Request;
    type Decision = Decision;

    const HEADER: Header = Header {
        name: "centralized",
        family: Family::MutualExclusion,
        title: "Centralized mutual exclusion",
        source: "Tanenbaum, van Steen: Distributed Systems, 3rd edition (2017), section 6.3",
        idea: "One peer is the coordinator. Who wants to enter asks it, waits in its queue, is granted entry, and tells it on leaving. The holder is written down before it is granted.",
        assumptions: "Processes crash and may come back with their disk; messages may be lost, late, repeated or reordered. No bound on time is needed.",
        cost: "3 messages an entry (request, grant, release) for all but the coordinator itself; entry after 2 delays and a sync.",
        not_guaranteed: "Progress while the coordinator, or the holder, is gone for good.",
        choose_when: "the coordinator is reliable or replicated; there are many users; each shall know one address only.",
        avoid_when: "one peer must not be the bottleneck, or nobody may be special.",
        alternatives: &["hashed-coordinators", "majority", "token-ring"],
        survives: Trouble::PASSING,
    };

    fn new(me: PeerId, _nodes: usize) -> Self {
        Self::with_coordinator(me, 1)
    }

    fn handle_start(&mut self, cx: &mut Context<'_, Self>, recovered: Option<Self::State>) {
        self.holder = recovered.flatten();
        if self.holder.is_some() {
            cx.set_timer(Timer::Check, CHECK_US);
        }
    }

    fn handle_message(&mut self, cx: &mut Context<'_, Self>, from: PeerId, message: Message) {
        match message {
            Message::Acquire(number) => self.asked(cx, from, number),
            Message::Release(number) => self.released(cx, from, number),
            Message::Grant(number) => match self.stage {
                Stage::Waiting(mine) if mine == number => {
                    self.stage = Stage::Inside(number);
                    cx.cancel_timer(Timer::Retry);
                    cx.decide(Decision::Entered(0));
                }
                Stage::Inside(mine) if mine == number => {}
                _ => cx.send(from, Message::Release(number)),
            },
            Message::Check(number) => {
                let known = match self.stage {
                    Stage::Waiting(mine) | Stage::Inside(mine) => mine == number,
                    Stage::Outside => false,
                };
                if !known {
                    cx.send(from, Message::Release(number));
                }
            }
        }
    }

    fn handle_timer(&mut self, cx: &mut Context<'_, Self>, timer: Timer) {
        match (timer, self.stage, self.holder) {
            (Timer::Retry, Stage::Waiting(number), _) => {
                cx.send(self.coordinator, Message::Acquire(number));
                cx.set_timer(Timer::Retry, RETRY_US);
            }
            (Timer::Check, _, Some((user, number))) => {
                cx.send(user, Message::Check(number));
                cx.set_timer(Timer::Check, CHECK_US);
            }
            _ => {}
        }
    }

    fn handle_request(&mut self, cx: &mut Context<'_, Self>, request: Request) {
        match (request, self.stage) {
            (Request::Acquire(_), Stage::Outside) => {
                let number = cx.rng.next_u64() as u32;
                self.stage = Stage::Waiting(number);
                cx.send(self.coordinator, Message::Acquire(number));
                cx.set_timer(Timer::Retry, RETRY_US);
            }
            (Request::Release(_), Stage::Inside(number)) => {
                self.stage = Stage::Outside;
                cx.send(self.coordinator, Message::Release(number));
            }
            _ => {}
        }
    }

    fn waits_for(&self) -> Vec<PeerId> {
        match (self.stage, self.holder) {
            (Stage::Waiting(_), Some((holder, _))) => vec![holder],
            (Stage::Waiting(_), None) => vec![self.coordinator],
            _ => Vec::new(),
        }
    }

    fn role(&self) -> &'static str {
        match self.stage {
            Stage::Inside(_) => "inside",
            Stage::Waiting(_) => "waiting",
            Stage::Outside if self.me == self.coordinator => "coordinator",
            Stage::Outside => "",
        }
    }
}
