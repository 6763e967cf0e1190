//! Lamport's mutual exclusion. Source: Lamport, "Time, Clocks, and the Ordering of Events in a Distributed
//! System" (CACM 21(7), 1978).
//!
//! Everybody keeps the same queue, ordered by Lamport's clock. One enters when one's own request is first,
//! and when everybody was heard with a later time: over channels that keep order, nothing earlier can come.

use super::{Decision, Request, Ticket};
use base::algorithm::{Family, Header, Trouble};
use base::peer::{Context, Peer, PeerId, others};
use base::planted::{PeerBug, misbehaves};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// What peers tell each other.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Message {
    /// I want to enter.
    Want(Ticket),
    /// I have heard it; my clock.
    Reply(u64),
    /// I have left; my clock.
    Left(Ticket, u64),
}

/// One peer.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Lamport {
    me: PeerId,
    nodes: usize,
    clock: u64,
    queue: BTreeSet<Ticket>,
    heard: BTreeMap<PeerId, u64>,
    /// The last request of each peer that is over: a repeated message does not bring it back.
    over: BTreeMap<PeerId, Ticket>,
    mine: Option<Ticket>,
    inside: bool,
}

impl Lamport {
    fn hear(&mut self, from: PeerId, clock: u64) {
        self.clock = self.clock.max(clock) + 1;
        let heard = self.heard.entry(from).or_default();
        *heard = clock.max(*heard);
    }

    fn try_enter(&mut self, cx: &mut Context<'_, Self>) {
        let Some(mine) = self.mine.filter(|_| !self.inside) else {
            return;
        };
        let heard_later = |peer: PeerId| {
            let clock = self.heard.get(&peer).copied().unwrap_or_default();
            (clock, peer) > (mine.clock, mine.peer)
        };
        let all = others(self.me, self.nodes).all(heard_later);
        if self.queue.first() == Some(&mine) && (all || misbehaves(PeerBug::EnterUnheard)) {
            self.inside = true;
            cx.decide(Decision::Entered(0));
        }
    }
}

impl Peer for Lamport {
    type Message = Message;
    type Timer = ();
    type State = ();
    type Request = Request;
    type Decision = Decision;

    const HEADER: Header = Header {
        name: "lamport",
        family: Family::MutualExclusion,
        title: "Lamport's mutual exclusion",
        source: "Lamport: Time, Clocks, and the Ordering of Events in a Distributed System (CACM 1978)",
        idea: "A request with a Lamport time goes to everybody, who put it into their queue and reply. One enters when one's request is first and everybody was heard with a later time; on leaving, everybody is told.",
        assumptions: "Nobody crashes, nothing is lost, and messages of one pair keep their order. No bound on time is needed.",
        cost: "3(n - 1) messages an entry; entry after 2 delays.",
        not_guaranteed: "Anything once a process crashes, a message is lost, or messages overtake each other.",
        choose_when: "learning: it is where logical clocks come from. Entries are fair, in order of their times.",
        avoid_when: "anything may fail; ricart-agrawala does the same with fewer messages and without order.",
        alternatives: &["ricart-agrawala", "maekawa"],
        survives: &[
            Trouble::Delay,
            Trouble::Slow,
            Trouble::Duplicate,
            Trouble::Pause,
            Trouble::Clock,
        ],
    };

    fn new(me: PeerId, nodes: usize) -> Self {
        Self {
            me,
            nodes,
            clock: 0,
            queue: BTreeSet::new(),
            heard: BTreeMap::new(),
            over: BTreeMap::new(),
            mine: None,
            inside: false,
        }
    }

    fn handle_start(&mut self, _: &mut Context<'_, Self>, _: Option<()>) {}

    fn handle_message(&mut self, cx: &mut Context<'_, Self>, from: PeerId, message: Message) {
        match message {
            Message::Want(ticket) => {
                self.hear(from, ticket.clock);
                if self.over.get(&from).is_none_or(|over| *over < ticket) {
                    self.queue.insert(ticket);
                }
                cx.send(from, Message::Reply(self.clock));
            }
            Message::Reply(clock) => self.hear(from, clock),
            Message::Left(ticket, clock) => {
                self.hear(from, clock);
                self.queue.remove(&ticket);
                let over = self.over.entry(from).or_insert(ticket);
                *over = ticket.max(*over);
            }
        }
        self.try_enter(cx);
    }

    fn handle_timer(&mut self, _: &mut Context<'_, Self>, (): ()) {}

    fn handle_request(&mut self, cx: &mut Context<'_, Self>, request: Request) {
        self.clock += 1;
        match (request, self.mine) {
            (Request::Acquire(_), None) => {
                let ticket = Ticket {
                    clock: self.clock,
                    peer: self.me,
                    number: 0,
                };
                self.mine = Some(ticket);
                self.queue.insert(ticket);
                cx.send_each(others(self.me, self.nodes), &Message::Want(ticket));
                self.try_enter(cx);
            }
            (Request::Release(_), Some(ticket)) if self.inside => {
                self.inside = false;
                self.mine = None;
                self.queue.remove(&ticket);
                let left = Message::Left(ticket, self.clock);
                cx.send_each(others(self.me, self.nodes), &left);
            }
            _ => {}
        }
    }

    fn waits_for(&self) -> Vec<PeerId> {
        let Some(mine) = self.mine.filter(|_| !self.inside) else {
            return Vec::new();
        };
        others(self.me, self.nodes)
            .filter(|peer| {
                let clock = self.heard.get(peer).copied().unwrap_or_default();
                (clock, *peer) <= (mine.clock, mine.peer)
                    || (self.queue.iter()).any(|ticket| ticket.peer == *peer && *ticket < mine)
            })
            .collect()
    }

    fn role(&self) -> &'static str {
        match (self.mine, self.inside) {
            (_, true) => "inside",
            (Some(_), false) => "waiting",
            _ => "",
        }
    }
}
