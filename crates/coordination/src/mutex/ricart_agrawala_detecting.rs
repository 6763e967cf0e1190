//! Ricart–Agrawala with failure detection: only those that seem alive are waited for.
//!
//! Source: Ricart, Agrawala (CACM 1981), section "Node failure"; the detection is a fixed heartbeat. Who
//! comes back first asks everybody for their clock: with a clock that starts anew it would overtake those
//! that have its permission from its former life already.

use super::{Decision, Request, Ticket};
use base::algorithm::{Family, Header, Trouble};
use base::peer::{Context, Peer, PeerId, others};
use base::planted::{PeerBug, misbehaves};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Between heartbeats.
const BEAT_US: u64 = 100_000;
/// Silence after which a peer is taken for dead.
pub const SILENT_US: u64 = 800_000;
/// After so long without all answers, those missing are asked again.
const RETRY_US: u64 = 300_000;

/// What peers tell each other.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Message {
    /// May I enter?
    Ask(Ticket),
    /// You may, as far as I am concerned.
    Allow(Ticket),
    /// I have just started: what is your clock?
    Hello,
    /// My clock.
    Clock(u64),
    /// I am alive.
    Beat,
}

/// Names of timers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Timer {
    /// Send heartbeats.
    Beat,
    /// Nothing was heard of this peer for long.
    Silent(PeerId),
    /// Ask the missing again.
    Retry,
}

/// One peer.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct RicartAgrawalaDetecting {
    me: PeerId,
    nodes: usize,
    clock: u64,
    suspected: BTreeSet<PeerId>,
    /// Whose clock is still to come before this peer may ask for entry.
    unheard: BTreeSet<PeerId>,
    wants: bool,
    mine: Option<Ticket>,
    missing: BTreeSet<PeerId>,
    deferred: BTreeMap<PeerId, Ticket>,
    inside: bool,
}

impl RicartAgrawalaDetecting {
    fn try_go_on(&mut self, cx: &mut Context<'_, Self>) {
        let alive = |peers: &BTreeSet<PeerId>| peers.difference(&self.suspected).next().is_some();
        if self.wants && self.mine.is_none() && !alive(&self.unheard) {
            self.ask(cx);
        } else if self.mine.is_some() && !self.inside && !alive(&self.missing) {
            self.inside = true;
            cx.cancel_timer(Timer::Retry);
            cx.decide(Decision::Entered(0));
        }
    }

    fn ask(&mut self, cx: &mut Context<'_, Self>) {
        self.clock += 1;
        let ticket = Ticket {
            clock: self.clock,
            peer: self.me,
            number: cx.rng.next_u64() as u32,
        };
        self.mine = Some(ticket);
        self.missing = others(self.me, self.nodes).collect();
        cx.send_each(
            self.missing.difference(&self.suspected).copied(),
            &Message::Ask(ticket),
        );
        cx.set_timer(Timer::Retry, RETRY_US);
        self.try_go_on(cx);
    }
}

impl Peer for RicartAgrawalaDetecting {
    type Message = Message;
    type Timer = Timer;
    type State = ();
    type Request = Request;
    type Decision = Decision;

    const HEADER: Header = Header {
        name: "ricart-agrawala-detecting",
        family: Family::MutualExclusion,
        title: "Ricart-Agrawala with failure detection",
        source: "Ricart, Agrawala (CACM 1981), on node failure; fixed heartbeats",
        idea: "As Ricart-Agrawala, but only those that seem alive are asked and waited for. Everybody sends heartbeats; 800 ms of silence is death. Who comes back learns everybody's clock before it asks.",
        assumptions: "Processes crash and may come back; messages take less than the time-out, and nothing is lost.",
        cost: "2(a - 1) messages an entry among a alive, and n(n - 1) heartbeats every 100 ms.",
        not_guaranteed: "Exclusion when the living take each other for dead: under a partition, or after a pause longer than the time-out.",
        choose_when: "few peers on one dependable network, which die now and then.",
        avoid_when: "the network may split or processes may stall: then use majority, which blocks rather than lets two in.",
        alternatives: &["ricart-agrawala", "majority", "regenerating-token-ring"],
        survives: &[
            Trouble::Delay,
            Trouble::Slow,
            Trouble::Reorder,
            Trouble::Duplicate,
            Trouble::Crash,
            Trouble::Death,
        ],
    };

    fn new(me: PeerId, nodes: usize) -> Self {
        Self {
            me,
            nodes,
            clock: 0,
            suspected: BTreeSet::new(),
            unheard: BTreeSet::new(),
            wants: false,
            mine: None,
            missing: BTreeSet::new(),
            deferred: BTreeMap::new(),
            inside: false,
        }
    }

    fn handle_start(&mut self, cx: &mut Context<'_, Self>, recovered: Option<()>) {
        if recovered.is_none() {
            cx.persist((), |_| {});
        } else if !misbehaves(PeerBug::SkipClockSync) {
            self.unheard = others(self.me, self.nodes).collect();
            cx.send_each(self.unheard.iter().copied(), &Message::Hello);
        }
        for peer in others(self.me, self.nodes) {
            cx.set_timer(Timer::Silent(peer), SILENT_US);
        }
        self.handle_timer(cx, Timer::Beat);
    }

    fn handle_message(&mut self, cx: &mut Context<'_, Self>, from: PeerId, message: Message) {
        self.suspected.remove(&from);
        cx.set_timer(Timer::Silent(from), SILENT_US);
        match message {
            Message::Beat => {}
            Message::Hello => {
                // Its former life may have owed an answer, and this one may not be overtaken.
                cx.send(from, Message::Clock(self.clock));
                if let Some(mine) = self.mine.filter(|_| !self.inside) {
                    self.missing.insert(from);
                    cx.send(from, Message::Ask(mine));
                }
                self.deferred.remove(&from);
            }
            Message::Clock(clock) => {
                self.clock = self.clock.max(clock);
                self.unheard.remove(&from);
            }
            Message::Ask(theirs) => {
                self.clock = self.clock.max(theirs.clock) + 1;
                if (self.mine).is_some_and(|mine| self.inside || mine < theirs) {
                    let waits = self.deferred.entry(from).or_insert(theirs);
                    *waits = theirs.max(*waits);
                } else {
                    cx.send(from, Message::Allow(theirs));
                }
            }
            Message::Allow(ticket) => {
                if self.mine == Some(ticket) {
                    self.missing.remove(&from);
                }
            }
        }
        self.try_go_on(cx);
    }

    fn handle_timer(&mut self, cx: &mut Context<'_, Self>, timer: Timer) {
        match timer {
            Timer::Beat => {
                cx.send_each(others(self.me, self.nodes), &Message::Beat);
                cx.set_timer(Timer::Beat, BEAT_US);
            }
            Timer::Silent(peer) => {
                self.suspected.insert(peer);
                self.try_go_on(cx);
            }
            Timer::Retry => {
                cx.send_each(self.unheard.iter().copied(), &Message::Hello);
                if let Some(mine) = self.mine.filter(|_| !self.inside) {
                    cx.send_each(self.missing.iter().copied(), &Message::Ask(mine));
                    cx.set_timer(Timer::Retry, RETRY_US);
                }
            }
        }
    }

    fn handle_request(&mut self, cx: &mut Context<'_, Self>, request: Request) {
        match request {
            Request::Acquire(_) => {
                self.wants = true;
                self.try_go_on(cx);
            }
            Request::Release(_) if self.inside => {
                self.wants = false;
                self.inside = false;
                self.mine = None;
                for (peer, ticket) in std::mem::take(&mut self.deferred) {
                    cx.send(peer, Message::Allow(ticket));
                }
            }
            Request::Release(_) => {}
        }
    }

    fn waits_for(&self) -> Vec<PeerId> {
        let missing = match self.mine {
            Some(_) => &self.missing,
            None => &self.unheard,
        };
        missing.difference(&self.suspected).copied().collect()
    }

    fn role(&self) -> &'static str {
        match (self.wants, self.inside) {
            (_, true) => "inside",
            (true, false) => "waiting",
            _ => "",
        }
    }
}
