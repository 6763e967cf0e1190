//! A member that hears the others, and stops or goes on as its strategy says. Membership has a version;
//! the later one wins, of two of the same version the one that is first in order. Who has stopped asks to
//! join again, and when all have stopped and all are heard, the cluster starts anew.

use super::{Strategy, Verdict, verdict};
use base::algorithm::Header;
use base::peer::{Context, Peer, PeerId, others};
use base::planted::{PeerBug, misbehaves};
use std::collections::BTreeSet;

/// Between heartbeats.
const BEAT_US: u64 = 100_000;
/// Silence after which a peer counts as not heard.
const SILENT_US: u64 = 800_000;
/// Who is heard must not have changed for so long before a side concludes.
const STABLE_US: u64 = 1_500_000;
/// A lease ends after this.
const LEASE_US: u64 = 20_000_000;

/// What peers tell each other.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Message {
    /// I live, and this is the cluster as I know it.
    Beat(u64, BTreeSet<PeerId>),
    /// I have stopped, at this version; take me in.
    Join(u64),
    /// To the referee: our side, after this version.
    Claim(u64, BTreeSet<PeerId>),
    /// The referee: this side goes on after that version.
    Named(u64, BTreeSet<PeerId>),
}

/// Names of timers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Timer {
    /// Send a heartbeat.
    Beat,
    /// This peer was not heard for long.
    Silent(PeerId),
    /// Who is heard has not changed for long.
    Stable,
    /// The lease is over.
    LeaseOver,
}

/// Nothing is asked.
pub type Request = ();

/// What a peer tells its user.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Decision {
    /// It serves, in a cluster of these.
    Cluster(BTreeSet<PeerId>),
    /// It has stopped.
    Down,
}

/// What survives a crash: that it was of a cluster, and at which version; the referee's word.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct State {
    version: u64,
    named: Option<(u64, BTreeSet<PeerId>)>,
}

/// One peer.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Resolver {
    me: PeerId,
    nodes: usize,
    strategy: Strategy,
    state: State,
    members: BTreeSet<PeerId>,
    heard: BTreeSet<PeerId>,
    down: bool,
    /// Of those that have stopped too, who asked to join.
    joining: BTreeSet<PeerId>,
}

impl Resolver {
    /// A peer of a cluster with this strategy.
    pub fn with(me: PeerId, nodes: usize, strategy: Strategy) -> Self {
        Self {
            me,
            nodes,
            strategy,
            state: State::default(),
            members: BTreeSet::new(),
            heard: BTreeSet::new(),
            down: false,
            joining: BTreeSet::new(),
        }
    }

    fn referee(&self) -> Option<PeerId> {
        self.strategy.has_referee().then_some(self.nodes)
    }

    fn is_referee(&self) -> bool {
        self.referee() == Some(self.me)
    }

    fn all(&self) -> BTreeSet<PeerId> {
        let referee = self.referee();
        (1..=self.nodes)
            .filter(|peer| Some(*peer) != referee)
            .collect()
    }

    fn persist(&self, cx: &mut Context<'_, Self>) {
        cx.persist(self.state.clone(), |_| {});
    }

    /// Serves in this cluster from now on.
    fn adopt(&mut self, cx: &mut Context<'_, Self>, version: u64, members: BTreeSet<PeerId>) {
        self.down = false;
        self.joining.clear();
        self.state.version = version;
        self.members = members;
        self.persist(cx);
        cx.decide(Decision::Cluster(self.members.clone()));
        cx.set_timer(Timer::Stable, STABLE_US);
    }

    fn stop(&mut self, cx: &mut Context<'_, Self>) {
        if !self.down {
            self.down = true;
            self.joining.clear();
            cx.decide(Decision::Down);
        }
    }

    fn beat(&mut self, cx: &mut Context<'_, Self>, version: u64, members: BTreeSet<PeerId>) {
        let later = version > self.state.version
            || (version == self.state.version && members < self.members)
            || (version == self.state.version && self.down);
        if !later {
        } else if members.contains(&self.me) {
            self.adopt(cx, version, members);
        } else if version > self.state.version || !self.down {
            // Removed while it lived.
            self.state.version = version;
            self.stop(cx);
        }
    }

    fn join(&mut self, cx: &mut Context<'_, Self>, from: PeerId, version: u64) {
        if !self.down {
            // One answers: the first of the members that are heard.
            let first = self
                .members
                .iter()
                .find(|m| **m == self.me || (self.heard.contains(m) && **m != from));
            if first == Some(&self.me) {
                let mut members = self.members.clone();
                members.insert(from);
                self.adopt(cx, self.state.version.max(version) + 1, members);
            }
            return;
        }
        self.state.version = self.state.version.max(version);
        self.joining.insert(from);
        let mut all = self.all();
        if all.first() == Some(&self.me) {
            all.remove(&self.me);
            if all.is_subset(&self.joining) {
                let version = self.state.version + 1;
                self.adopt(cx, version, self.all());
            }
        }
    }

    fn conclude(&mut self, cx: &mut Context<'_, Self>) {
        let mut side = self.heard.clone();
        side.insert(self.me);
        side = self.members.intersection(&side).copied().collect();
        if self.down || side == self.members {
            return;
        }
        match verdict(self.strategy, &self.members, &side) {
            Verdict::Stay => self.adopt(cx, self.state.version + 1, side),
            Verdict::Down => self.stop(cx),
            Verdict::Ask => {
                let referee = self.nodes;
                if self.heard.contains(&referee) {
                    cx.send(referee, Message::Claim(self.state.version, side));
                    cx.set_timer(Timer::Stable, STABLE_US);
                } else {
                    self.stop(cx);
                }
            }
        }
    }

    /// The referee names one side after each version, and sticks to it.
    fn claim(
        &mut self,
        cx: &mut Context<'_, Self>,
        from: PeerId,
        version: u64,
        side: BTreeSet<PeerId>,
    ) {
        let named = self.state.named.clone();
        let named = named.filter(|(_, of)| !misbehaves(PeerBug::NameAgain) || of.contains(&from));
        let (after, named) = match named {
            Some((after, named)) if after >= version => (after, named),
            // What an arbiter has named holds for later claims of others, too: who is not of it goes.
            Some((after, named)) if !named.contains(&from) => (after, named),
            _ => {
                self.state.named = Some((version, side.clone()));
                cx.set_timer(Timer::LeaseOver, LEASE_US);
                (version, side)
            }
        };
        cx.persist(self.state.clone(), |then| {
            then.send(from, Message::Named(after, named));
        });
    }
}

impl Peer for Resolver {
    type Message = Message;
    type Timer = Timer;
    type State = State;
    type Request = Request;
    type Decision = Decision;

    const HEADER: Header = Strategy::KeepMajority.header();

    fn new(me: PeerId, nodes: usize) -> Self {
        Self::with(me, nodes, Strategy::KeepMajority)
    }

    fn handle_start(&mut self, cx: &mut Context<'_, Self>, recovered: Option<State>) {
        for peer in others(self.me, self.nodes) {
            self.heard.insert(peer);
            cx.set_timer(Timer::Silent(peer), SILENT_US);
        }
        match recovered {
            Some(state) if !self.is_referee() => {
                self.state = state;
                self.down = true;
            }
            Some(state) => self.state = state,
            None if self.is_referee() => self.persist(cx),
            None => {
                let all = self.all();
                self.adopt(cx, 1, all);
            }
        }
        self.handle_timer(cx, Timer::Beat);
    }

    fn handle_message(&mut self, cx: &mut Context<'_, Self>, from: PeerId, message: Message) {
        cx.set_timer(Timer::Silent(from), SILENT_US);
        if self.heard.insert(from) {
            cx.set_timer(Timer::Stable, STABLE_US);
        }
        match message {
            Message::Claim(version, side) => self.claim(cx, from, version, side),
            _ if self.is_referee() => {}
            Message::Beat(version, members) => self.beat(cx, version, members),
            Message::Join(version) => self.join(cx, from, version),
            Message::Named(after, side) => {
                if self.down || after < self.state.version {
                    return;
                }
                if side.contains(&self.me) {
                    self.adopt(cx, after + 1, side);
                } else {
                    self.stop(cx);
                }
            }
        }
    }

    fn handle_timer(&mut self, cx: &mut Context<'_, Self>, timer: Timer) {
        match timer {
            Timer::Beat => {
                let word = match self.down {
                    true => Message::Join(self.state.version),
                    false => Message::Beat(self.state.version, self.members.clone()),
                };
                cx.send_each(others(self.me, self.nodes), &word);
                cx.set_timer(Timer::Beat, BEAT_US);
            }
            Timer::Silent(peer) => {
                self.heard.remove(&peer);
                self.joining.remove(&peer);
                cx.set_timer(Timer::Stable, STABLE_US);
            }
            Timer::Stable => self.conclude(cx),
            Timer::LeaseOver => {
                if self.strategy == Strategy::Lease {
                    self.state.named = None;
                    self.persist(cx);
                }
            }
        }
    }

    fn handle_request(&mut self, _: &mut Context<'_, Self>, (): ()) {}

    fn role(&self) -> &'static str {
        match (self.is_referee(), self.down) {
            (true, _) => "coordinator",
            (_, true) => "stopped",
            _ => "follower",
        }
    }
}
