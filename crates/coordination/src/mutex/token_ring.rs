//! Token ring. Source: Le Lann, "Distributed systems: towards a formal approach" (IFIP 1977); weights as in
//! weighted round robin.
//!
//! The token carries how many steps it has made, so that a repeated message is not a second token.

use super::{Decision, Request};
use base::algorithm::{Family, Header, Trouble};
use base::peer::{Context, Peer, PeerId, next_on_ring};
use base::planted::{PeerBug, misbehaves};
use std::marker::PhantomData;

/// With entries left, a holder keeps the token so long for another request of its user.
const LINGER_US: u64 = 5_000;

/// How often each peer may enter before it passes the token on.
pub trait Weights: Clone + std::hash::Hash + PartialEq + Eq + std::fmt::Debug {
    /// What people are told about the algorithm.
    const HEADER: Header;
    /// Entries of `peer` in one visit of the token, at least 1.
    fn weight(peer: PeerId) -> u32;
}

/// Everybody once.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Equal;

/// Peer 1 three times, the others once.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct FirstThrice;

/// One peer of a ring where all are equal.
pub type TokenRing = Ring<Equal>;
/// One peer of a ring with weights.
pub type WeightedTokenRing = Ring<FirstThrice>;

const SURVIVES: &[Trouble] = &[
    Trouble::Delay,
    Trouble::Slow,
    Trouble::Reorder,
    Trouble::Duplicate,
    Trouble::Pause,
    Trouble::Clock,
];

impl Weights for Equal {
    const HEADER: Header = Header {
        name: "token-ring",
        family: Family::MutualExclusion,
        title: "Token ring",
        source: "Le Lann: Distributed systems - towards a formal approach (IFIP 1977)",
        idea: "A token goes round. Who has it may enter once, and passes it on; who does not want to passes it on at once.",
        assumptions: "Nobody crashes and nothing is lost.",
        cost: "1 message an entry when everybody wants to enter, n when only one does, and without end when nobody does; a wait of 0 to n - 1 hops.",
        not_guaranteed: "Anything once the token is lost, with its holder or on its way.",
        choose_when: "the load is high and even, and the wait shall have a bound.",
        avoid_when: "entries are rare (the token runs for nothing), or peers fail.",
        alternatives: &[
            "regenerating-token-ring",
            "two-level-token-ring",
            "centralized",
        ],
        survives: SURVIVES,
    };

    fn weight(_: PeerId) -> u32 {
        1
    }
}

impl Weights for FirstThrice {
    const HEADER: Header = Header {
        name: "weighted-token-ring",
        title: "Token ring with weights",
        idea: "As the token ring, but who has the token may enter as often as its weight says, and keeps it 5 ms for another request of its user. In the lab peer 1 has weight 3, the others 1.",
        cost: "As the token ring; a heavy user's further entries cost no message. The longest wait grows with the sum of weights.",
        choose_when: "some peers need the resource more often than others.",
        alternatives: &["token-ring"],
        ..Equal::HEADER
    };

    fn weight(peer: PeerId) -> u32 {
        if peer == 1 { 3 } else { 1 }
    }
}

/// One peer.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Ring<W> {
    me: PeerId,
    nodes: usize,
    /// Steps that the token had made when it was last here.
    steps: u64,
    /// Entries left, while the token is here.
    holds: Option<u32>,
    wants: bool,
    inside: bool,
    weights: PhantomData<W>,
}

impl<W: Weights> Ring<W> {
    fn go_on(&mut self, cx: &mut Context<'_, Self>) {
        match self.holds {
            None => {}
            Some(_) if self.inside && !misbehaves(PeerBug::PassWhileInside) => {}
            Some(left) if self.wants && left > 0 => {
                self.holds = Some(left - 1);
                self.wants = false;
                self.inside = true;
                cx.decide(Decision::Entered(0));
                if misbehaves(PeerBug::PassWhileInside) {
                    self.go_on(cx);
                }
            }
            // It has entered and may again: its user has a moment to ask.
            Some(left) if left > 0 && left < W::weight(self.me) => cx.set_timer((), LINGER_US),
            Some(_) => self.pass(cx),
        }
    }

    fn pass(&mut self, cx: &mut Context<'_, Self>) {
        self.holds = None;
        cx.send(next_on_ring(self.me, self.nodes), self.steps + 1);
    }
}

impl<W: Weights> Peer for Ring<W> {
    /// The token, with the steps that it has made.
    type Message = u64;
    type Timer = ();
    type State = ();
    type Request = Request;
    type Decision = Decision;

    const HEADER: Header = W::HEADER;

    fn new(me: PeerId, nodes: usize) -> Self {
        Self {
            me,
            nodes,
            steps: 0,
            holds: None,
            wants: false,
            inside: false,
            weights: PhantomData,
        }
    }

    fn handle_start(&mut self, cx: &mut Context<'_, Self>, recovered: Option<()>) {
        // The first start of peer 1 makes the token; a later one must not make another.
        if recovered.is_none() {
            let (next, first) = (next_on_ring(self.me, self.nodes), self.me == 1);
            cx.persist((), |then| {
                if first {
                    then.send(next, 1);
                }
            });
        }
    }

    fn handle_message(&mut self, cx: &mut Context<'_, Self>, _: PeerId, steps: u64) {
        if steps > self.steps {
            self.steps = steps;
            self.holds = Some(W::weight(self.me));
            self.go_on(cx);
        }
    }

    fn handle_timer(&mut self, cx: &mut Context<'_, Self>, (): ()) {
        if self.holds.is_some() && !self.inside {
            self.pass(cx);
        }
    }

    fn handle_request(&mut self, cx: &mut Context<'_, Self>, request: Request) {
        match request {
            Request::Acquire(_) if !self.inside => {
                self.wants = true;
                cx.cancel_timer(());
            }
            Request::Release(_) if self.inside => self.inside = false,
            _ => return,
        }
        self.go_on(cx);
    }

    fn role(&self) -> &'static str {
        match (self.inside, self.holds, self.wants) {
            (true, ..) => "inside",
            (_, Some(_), _) => "token",
            (_, _, true) => "waiting",
            _ => "",
        }
    }
}
