//! A lock with a lease and without fences. Source: Gray, Cheriton, "Leases: an efficient fault-tolerant
//! mechanism for distributed file cache consistency" (SOSP 1989), for the lease; Kleppmann, "How to do
//! distributed locking" (2016), for what is missing without fences.
//!
//! Peer 1 keeps the lock. Who holds it loses it when its lease is over, so a dead holder blocks nobody;
//! a holder that only slept does not know that it was taken for dead.

use super::{Decision, Request, Resource};
use base::algorithm::{Family, Header, Trouble};
use base::peer::{Context, Peer, PeerId};
use base::planted::{PeerBug, misbehaves};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// A holder has the lock for so long.
pub const LEASE_US: u64 = 600_000;
/// Who waits asks again this often.
const ASK_US: u64 = 700_000;
const KEEPER: PeerId = 1;

/// One asking: who, and a number drawn for it.
pub type Asking = (PeerId, u64);

/// What peers tell each other.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Message {
    /// I want it.
    Ask(u64),
    /// You have it, for as long as a lease.
    Granted(u64),
    /// I do not need it any more.
    Release(u64),
}

/// Names of timers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Timer {
    /// The holder's lease is over.
    Over,
    /// Nothing came of asking.
    Again,
}

/// One peer.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Lease {
    me: PeerId,
    /// The keeper's: who has the lock, and who waits. Durable: that somebody has it.
    holder: Option<Asking>,
    waiting: VecDeque<Asking>,
    /// A user's: what it asks for, and whether it is inside.
    wants: Option<u64>,
    inside: Option<u64>,
    resource: Resource,
}

impl Lease {
    fn grant_next(&mut self, cx: &mut Context<'_, Self>) {
        let Some((peer, number)) = self.waiting.pop_front() else {
            return;
        };
        self.holder = Some((peer, number));
        cx.persist(self.holder, |then| {
            then.set_timer(Timer::Over, LEASE_US);
            then.send(peer, Message::Granted(number));
        });
    }

    fn freed(&mut self, cx: &mut Context<'_, Self>) {
        self.holder = None;
        cx.cancel_timer(Timer::Over);
        cx.persist(None, |_| {});
        self.grant_next(cx);
    }

    fn ask(&mut self, cx: &mut Context<'_, Self>) {
        if let Some(number) = self.wants {
            cx.send(KEEPER, Message::Ask(number));
            cx.set_timer(Timer::Again, ASK_US);
        }
    }
}

impl Peer for Lease {
    type Message = Message;
    type Timer = Timer;
    type State = Option<Asking>;
    type Request = Request;
    type Decision = Decision;

    const HEADER: Header = Header {
        name: "lease",
        family: Family::MutualExclusion,
        title: "Lock with a lease, without fences",
        source: "Gray, Cheriton: Leases (SOSP 1989); Kleppmann: How to do distributed locking (2016)",
        idea: "Peer 1 keeps the lock and gives it to one for 600 ms. When that is over the next one gets it, whether the holder has released it or is dead.",
        assumptions: "A holder is done, or notices that its lease is over, before the next one enters: no process stops for longer than the lease, and no message takes that long. Clocks run at about the same rate.",
        cost: "3 messages an entry; 2 syncs at the keeper. A dead holder costs the rest of its lease.",
        not_guaranteed: "One inside: a holder that stops for longer than its lease (a pause for garbage collection, a swapped-out process) goes on as if it still had the lock. What the lock protects has to look at fences. Progress while peer 1 is dead.",
        choose_when: "two inside only waste work, or what is protected checks fences.",
        avoid_when: "two inside do harm, and what is protected cannot tell them apart.",
        alternatives: &["centralized", "majority"],
        survives: &[
            Trouble::Delay,
            Trouble::Slow,
            Trouble::Reorder,
            Trouble::Duplicate,
            Trouble::Loss,
            Trouble::Crash,
            Trouble::Partition,
            Trouble::OneWay,
            Trouble::Clock,
        ],
    };

    fn new(me: PeerId, _: usize) -> Self {
        Self {
            me,
            holder: None,
            waiting: VecDeque::new(),
            wants: None,
            inside: None,
            resource: 0,
        }
    }

    fn handle_start(&mut self, cx: &mut Context<'_, Self>, recovered: Option<Self::State>) {
        self.holder = recovered.flatten();
        if self.holder.is_some() {
            // How much of the lease is over is not known: all of it is waited for.
            cx.set_timer(Timer::Over, LEASE_US);
        }
    }

    fn handle_message(&mut self, cx: &mut Context<'_, Self>, from: PeerId, message: Message) {
        match message {
            Message::Ask(number) => {
                if self.holder == Some((from, number)) || self.waiting.contains(&(from, number)) {
                    return;
                }
                self.waiting.push_back((from, number));
                if self.holder.is_none() || misbehaves(PeerBug::GrantDuringLease) {
                    self.grant_next(cx);
                }
            }
            Message::Granted(number) => {
                if self.wants == Some(number) {
                    self.wants = None;
                    self.inside = Some(number);
                    cx.cancel_timer(Timer::Again);
                    cx.decide(Decision::Entered(self.resource));
                } else if self.inside != Some(number) {
                    // Of an asking before a crash: nobody needs it.
                    cx.send(KEEPER, Message::Release(number));
                }
            }
            Message::Release(number) => {
                self.waiting.retain(|asking| *asking != (from, number));
                if self.holder == Some((from, number)) {
                    self.freed(cx);
                }
            }
        }
    }

    fn handle_timer(&mut self, cx: &mut Context<'_, Self>, timer: Timer) {
        match timer {
            Timer::Over => self.freed(cx),
            Timer::Again => {
                // The asking may have been granted and the word lost: another one, not the same.
                if self.wants.is_some() {
                    self.wants = Some(cx.rng.next_u64());
                }
                self.ask(cx);
            }
        }
    }

    fn handle_request(&mut self, cx: &mut Context<'_, Self>, request: Request) {
        match request {
            Request::Acquire(resource) => {
                if self.wants.is_none() && self.inside.is_none() {
                    self.resource = resource;
                    self.wants = Some(cx.rng.next_u64());
                    self.ask(cx);
                }
            }
            Request::Release(_) => {
                if let Some(number) = self.inside.take() {
                    cx.send(KEEPER, Message::Release(number));
                }
            }
        }
    }

    fn role(&self) -> &'static str {
        match (self.inside.is_some(), self.wants.is_some()) {
            (true, _) => "inside",
            (false, true) => "waiting",
            (false, false) if self.me == KEEPER => "coordinator",
            (false, false) => "",
        }
    }
}
