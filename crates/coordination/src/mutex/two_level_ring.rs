//! Two-level token ring, for wide areas: rings of neighbours, whose coordinators form a ring of rings.
//! Source: the ring of Le Lann (IFIP 1977) over itself.
//!
//! One global token goes from coordinator to coordinator. Its holder sends a local token once around its
//! own ring before it passes the global one on; so only one local token exists, wherever it is.

use super::{Decision, Request};
use base::algorithm::{Family, Header};
use base::peer::{Context, Peer, PeerId};
use base::planted::{PeerBug, misbehaves};
use serde::{Deserialize, Serialize};

/// What peers tell each other, each with the steps that the token has made.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Message {
    /// The token among coordinators.
    Global(u64),
    /// The token within one ring.
    Local(u64),
}

/// One peer. Ring r holds the peers r·w + 1 … (r + 1)·w for rings of w = ⌈√n⌉; the first coordinates.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct TwoLevelRing {
    me: PeerId,
    coordinator: PeerId,
    /// The next in one's own ring.
    next: PeerId,
    /// The next ring's coordinator.
    next_coordinator: PeerId,
    steps: u64,
    /// Steps of the global token when it was last here.
    global_steps: u64,
    holds: bool,
    /// True at a coordinator whose local token goes round.
    round: bool,
    wants: bool,
    inside: bool,
}

impl TwoLevelRing {
    fn go_on(&mut self, cx: &mut Context<'_, Self>) {
        if !self.holds || self.inside {
            return;
        }
        if self.wants {
            self.wants = false;
            self.inside = true;
            cx.decide(Decision::Entered(0));
            return;
        }
        self.holds = false;
        if self.next == self.me {
            self.end_round(cx);
        } else {
            cx.send(self.next, Message::Local(self.steps + 1));
        }
    }

    fn end_round(&mut self, cx: &mut Context<'_, Self>) {
        self.round = false;
        let token = Message::Global(self.global_steps + 1);
        cx.send(self.next_coordinator, token);
    }
}

impl Peer for TwoLevelRing {
    type Message = Message;
    type Timer = ();
    type State = ();
    type Request = Request;
    type Decision = Decision;

    const HEADER: Header = Header {
        name: "two-level-token-ring",
        family: Family::MutualExclusion,
        title: "Two-level token ring",
        source: "Le Lann's ring (IFIP 1977) of rings",
        idea: "Neighbours form rings of about sqrt(n), the rings' coordinators a ring of rings. The holder of the global token lets a local token go once around its own ring, and passes the global one on.",
        assumptions: "Nobody crashes and nothing is lost.",
        cost: "About 1 message an entry under full load, of which only one in sqrt(n) goes far; n + sqrt(n) when only one wants to enter.",
        not_guaranteed: "Anything once a token is lost.",
        choose_when: "peers sit in several sites: most messages stay within one.",
        avoid_when: "all are near each other: one ring is simpler and waits no longer.",
        alternatives: &["token-ring", "regenerating-token-ring"],
        survives: super::token_ring::TokenRing::HEADER.survives,
    };

    fn new(me: PeerId, nodes: usize) -> Self {
        let width = (1..).find(|w| w * w >= nodes).unwrap_or(1);
        let coordinator = (me - 1) / width * width + 1;
        let last = (coordinator + width - 1).min(nodes);
        let next_ring = coordinator + width;
        Self {
            me,
            coordinator,
            next: if me == last { coordinator } else { me + 1 },
            next_coordinator: if next_ring > nodes { 1 } else { next_ring },
            steps: 0,
            global_steps: 0,
            holds: false,
            round: false,
            wants: false,
            inside: false,
        }
    }

    fn handle_start(&mut self, cx: &mut Context<'_, Self>, recovered: Option<()>) {
        if recovered.is_none() {
            let first = self.me == 1;
            cx.persist((), |then| {
                if first {
                    then.send(1, Message::Global(1));
                }
            });
        }
    }

    fn handle_message(&mut self, cx: &mut Context<'_, Self>, _: PeerId, message: Message) {
        match message {
            Message::Global(steps) if steps > self.global_steps => {
                self.global_steps = steps;
                self.round = true;
                self.holds = true;
                self.go_on(cx);
                if misbehaves(PeerBug::PassGlobalEarly) && self.round {
                    self.end_round(cx);
                }
            }
            // Back at the coordinator, the round is over.
            Message::Local(steps) if steps > self.steps => {
                self.steps = steps;
                if self.me == self.coordinator {
                    self.end_round(cx);
                } else {
                    self.holds = true;
                    self.go_on(cx);
                }
            }
            _ => {}
        }
    }

    fn handle_timer(&mut self, _: &mut Context<'_, Self>, (): ()) {}

    fn handle_request(&mut self, cx: &mut Context<'_, Self>, request: Request) {
        match request {
            Request::Acquire(_) if !self.inside => self.wants = true,
            Request::Release(_) if self.inside => self.inside = false,
            _ => return,
        }
        self.go_on(cx);
    }

    fn role(&self) -> &'static str {
        match (self.inside, self.holds, self.wants) {
            (true, ..) => "inside",
            (_, true, _) => "token",
            (_, _, true) => "waiting",
            _ => "",
        }
    }
}
