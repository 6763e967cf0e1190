//! Ricart–Agrawala: permission of everybody. Source: Ricart, Agrawala, "An Optimal Algorithm for Mutual
//! Exclusion in Computer Networks" (CACM 24(1), 1981).
//!
//! Lamport's reply and release in one message: who is inside, or asked earlier, holds its answer back.

use super::{Decision, Request, Ticket};
use base::algorithm::{Family, Header, Trouble};
use base::peer::{Context, Peer, PeerId, others};
use base::planted::{PeerBug, misbehaves};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// What peers tell each other.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Message {
    /// May I enter?
    Ask(Ticket),
    /// You may, as far as I am concerned.
    Allow(Ticket),
}

/// One peer.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct RicartAgrawala {
    me: PeerId,
    nodes: usize,
    clock: u64,
    mine: Option<Ticket>,
    missing: BTreeSet<PeerId>,
    deferred: BTreeMap<PeerId, Ticket>,
    inside: bool,
}

impl RicartAgrawala {
    fn try_enter(&mut self, cx: &mut Context<'_, Self>) {
        if self.mine.is_some() && !self.inside && self.missing.is_empty() {
            self.inside = true;
            cx.decide(Decision::Entered(0));
        }
    }
}

impl Peer for RicartAgrawala {
    type Message = Message;
    type Timer = ();
    type State = ();
    type Request = Request;
    type Decision = Decision;

    const HEADER: Header = Header {
        name: "ricart-agrawala",
        family: Family::MutualExclusion,
        title: "Ricart-Agrawala: permission of everybody",
        source: "Ricart, Agrawala: An Optimal Algorithm for Mutual Exclusion in Computer Networks (CACM 1981)",
        idea: "A request with a Lamport time goes to everybody. Who is inside, or wants to enter and asked earlier, answers only on leaving; all others at once. One enters with everybody's answer.",
        assumptions: "Nobody crashes and nothing is lost. Neither order nor a bound on time is needed.",
        cost: "2(n - 1) messages an entry; entry after 2 delays.",
        not_guaranteed: "Progress when anybody dies; exclusion when somebody comes back with its clock reset.",
        choose_when: "there are few peers that rarely change, and no coordinator is wanted.",
        avoid_when: "anybody may fail: it has n single points of failure. There are many peers: each entry disturbs all.",
        alternatives: &[
            "lamport",
            "ricart-agrawala-detecting",
            "majority",
            "maekawa",
        ],
        survives: &[
            Trouble::Delay,
            Trouble::Slow,
            Trouble::Reorder,
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
            mine: None,
            missing: BTreeSet::new(),
            deferred: BTreeMap::new(),
            inside: false,
        }
    }

    fn handle_start(&mut self, _: &mut Context<'_, Self>, _: Option<()>) {}

    fn handle_message(&mut self, cx: &mut Context<'_, Self>, from: PeerId, message: Message) {
        match message {
            Message::Ask(theirs) => {
                self.clock = self.clock.max(theirs.clock) + 1;
                let goes_first = self.mine.is_some_and(|mine| {
                    self.inside || (mine < theirs && !misbehaves(PeerBug::AnswerRivals))
                });
                if goes_first {
                    // A repeated older request must not hide the one that waits.
                    let waits = self.deferred.entry(from).or_insert(theirs);
                    *waits = theirs.max(*waits);
                } else {
                    cx.send(from, Message::Allow(theirs));
                }
            }
            Message::Allow(ticket) if self.mine == Some(ticket) => {
                self.missing.remove(&from);
                self.try_enter(cx);
            }
            Message::Allow(_) => {}
        }
    }

    fn handle_timer(&mut self, _: &mut Context<'_, Self>, (): ()) {}

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
                self.missing = others(self.me, self.nodes).collect();
                cx.send_each(others(self.me, self.nodes), &Message::Ask(ticket));
                self.try_enter(cx);
            }
            (Request::Release(_), Some(_)) if self.inside => {
                self.inside = false;
                self.mine = None;
                for (peer, ticket) in std::mem::take(&mut self.deferred) {
                    cx.send(peer, Message::Allow(ticket));
                }
            }
            _ => {}
        }
    }

    fn waits_for(&self) -> Vec<PeerId> {
        self.missing.iter().copied().collect()
    }

    fn role(&self) -> &'static str {
        match (self.mine, self.inside) {
            (_, true) => "inside",
            (Some(_), false) => "waiting",
            _ => "",
        }
    }
}
