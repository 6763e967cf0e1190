//! Bully election. Source: Garcia-Molina, "Elections in a Distributed Computing System" (IEEE ToC 31(1), 1982).
//!
//! The greatest alive wins. Heartbeats of the leader are this file's way of noticing its death; the
//! paper leaves that open.

use super::{Decision, Request};
use base::algorithm::{Family, Header, Trouble};
use base::peer::{Context, Peer, PeerId, others};
use base::planted::{PeerBug, misbehaves};
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;

/// Between heartbeats of the leader.
pub const BEAT_US: u64 = 100_000;
/// Silence after which the leader is taken for dead.
pub const SILENT_US: u64 = 800_000;
/// A greater peer that lives answers within this time.
const ALIVE_US: u64 = 500_000;
/// A greater peer that has answered declares itself, or another, within this time.
const VICTORY_US: u64 = 1_500_000;

/// What peers tell each other.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Message {
    /// Is anybody greater than I?
    Election,
    /// I am.
    Alive,
    /// I lead.
    Victory,
    /// I still lead.
    Beat,
}

/// Names of timers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Timer {
    /// Nobody greater has answered.
    NobodyGreater,
    /// Nobody has declared itself.
    NoVictory,
    /// The leader is silent.
    Silent,
    /// Send heartbeats.
    Beat,
}

/// Which id wins.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Prefer {
    /// The largest.
    Largest,
    /// The smallest.
    Smallest,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Stage {
    /// Asks those that are greater.
    Asking,
    /// A greater one has answered.
    Waiting,
    Following(PeerId),
    Leading,
}

/// One peer.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Bully {
    me: PeerId,
    nodes: usize,
    prefer: Prefer,
    stage: Stage,
    /// True for a peer that starts under a leader it knows, and does not watch it.
    settled: bool,
}

impl Bully {
    /// A peer of a group where this id wins.
    pub fn preferring(me: PeerId, nodes: usize, prefer: Prefer) -> Self {
        Self {
            me,
            nodes,
            prefer,
            stage: Stage::Waiting,
            settled: false,
        }
    }

    /// A peer that follows `leader` from the start and learns of its death by [`Request::Suspect`] only:
    /// for counting the messages of one election.
    pub fn settled(me: PeerId, nodes: usize, leader: PeerId) -> Self {
        Self {
            stage: Stage::Following(leader),
            settled: true,
            ..Self::preferring(me, nodes, Prefer::Largest)
        }
    }

    fn beats(&self, a: PeerId, b: PeerId) -> bool {
        match self.prefer {
            Prefer::Largest => a > b,
            Prefer::Smallest => Reverse(a) > Reverse(b),
        }
    }

    fn greater(&self) -> Vec<PeerId> {
        let all = others(self.me, self.nodes);
        all.filter(|peer| self.beats(*peer, self.me)).collect()
    }

    fn lesser(&self) -> Vec<PeerId> {
        let all = others(self.me, self.nodes);
        all.filter(|peer| self.beats(self.me, *peer)).collect()
    }

    fn elect(&mut self, cx: &mut Context<'_, Self>) {
        if !matches!(self.stage, Stage::Asking | Stage::Waiting) {
            cx.decide(Decision::Leaderless);
        }
        self.stage = Stage::Asking;
        cx.cancel_timer(Timer::Silent);
        cx.cancel_timer(Timer::Beat);
        let greater = self.greater();
        if greater.is_empty() {
            self.lead(cx);
        } else {
            cx.send_each(greater, &Message::Election);
            cx.set_timer(Timer::NobodyGreater, ALIVE_US);
        }
    }

    fn lead(&mut self, cx: &mut Context<'_, Self>) {
        self.stage = Stage::Leading;
        cx.cancel_timer(Timer::NobodyGreater);
        cx.cancel_timer(Timer::NoVictory);
        cx.send_each(self.lesser(), &Message::Victory);
        cx.decide(Decision::Leader {
            leader: self.me,
            term: 0,
        });
        if !self.settled {
            cx.set_timer(Timer::Beat, BEAT_US);
        }
    }

    fn follow(&mut self, cx: &mut Context<'_, Self>, leader: PeerId) {
        if self.stage != Stage::Following(leader) {
            self.stage = Stage::Following(leader);
            cx.cancel_timer(Timer::NobodyGreater);
            cx.cancel_timer(Timer::NoVictory);
            cx.cancel_timer(Timer::Beat);
            cx.decide(Decision::Leader { leader, term: 0 });
        }
        if !self.settled {
            cx.set_timer(Timer::Silent, SILENT_US);
        }
    }
}

impl Peer for Bully {
    type Message = Message;
    type Timer = Timer;
    type State = ();
    type Request = Request;
    type Decision = Decision;

    const HEADER: Header = Header {
        name: "bully",
        family: Family::Election,
        title: "Bully election",
        source: "Garcia-Molina: Elections in a Distributed Computing System (IEEE ToC 1982)",
        idea: "Who notices that the leader is dead asks all greater peers. One that answers takes over; if none does, one declares oneself to all lesser ones. The greatest alive always wins, also when it comes back.",
        assumptions: "Processes crash and may come back; messages take less than the time-outs, and a lost one costs another election.",
        cost: "n - 1 messages at best (the second greatest notices), n^2 - n - 1 at worst (the smallest does), sends to the dead leader counted; and n - 1 heartbeats every 100 ms.",
        not_guaranteed: "A single leader: under a partition each side has one, and for a while after every change there may be two. There are no terms that would tell them apart.",
        choose_when: "the group is small, the network dependable, and the greatest id is the best leader.",
        avoid_when: "two leaders do harm, or the greatest peer comes and goes: leadership flaps with it. Use raft.",
        alternatives: &["chang-roberts", "zab", "raft"],
        survives: &[
            Trouble::Delay,
            Trouble::Slow,
            Trouble::Reorder,
            Trouble::Duplicate,
            Trouble::Loss,
            Trouble::Crash,
            Trouble::Death,
            Trouble::Pause,
            Trouble::Partition,
            Trouble::OneWay,
            Trouble::Clock,
            Trouble::Wipe,
        ],
    };

    fn new(me: PeerId, nodes: usize) -> Self {
        Self::preferring(me, nodes, Prefer::Largest)
    }

    fn handle_start(&mut self, cx: &mut Context<'_, Self>, _: Option<()>) {
        if !self.settled {
            self.elect(cx);
        }
    }

    fn handle_message(&mut self, cx: &mut Context<'_, Self>, from: PeerId, message: Message) {
        match message {
            Message::Election => {
                cx.send(from, Message::Alive);
                match self.stage {
                    Stage::Asking | Stage::Waiting => {}
                    Stage::Leading => cx.send(from, Message::Victory),
                    Stage::Following(_) => self.elect(cx),
                }
            }
            Message::Alive => {
                if self.stage == Stage::Asking && !misbehaves(PeerBug::IgnoreAlive) {
                    self.stage = Stage::Waiting;
                    cx.cancel_timer(Timer::NobodyGreater);
                    cx.set_timer(Timer::NoVictory, VICTORY_US);
                }
            }
            Message::Victory | Message::Beat => {
                if self.beats(from, self.me) {
                    // A leader less than the one that is followed has not heard of it yet.
                    let less = matches!(self.stage, Stage::Following(leader)
                        if message == Message::Beat && self.beats(leader, from));
                    let stays = misbehaves(PeerBug::IgnoreAlive) && self.stage == Stage::Leading;
                    if !(less || stays) {
                        self.follow(cx, from);
                    }
                } else {
                    // Someone lesser leads: it has not heard of this peer.
                    if !matches!(self.stage, Stage::Asking | Stage::Waiting) {
                        self.elect(cx);
                    }
                }
            }
        }
    }

    fn handle_timer(&mut self, cx: &mut Context<'_, Self>, timer: Timer) {
        match (timer, self.stage) {
            (Timer::NobodyGreater, Stage::Asking) => self.lead(cx),
            (Timer::NoVictory, Stage::Waiting) | (Timer::Silent, Stage::Following(_)) => {
                self.elect(cx);
            }
            (Timer::Beat, Stage::Leading) => {
                cx.send_each(self.lesser(), &Message::Beat);
                cx.set_timer(Timer::Beat, BEAT_US);
            }
            _ => {}
        }
    }

    fn handle_request(&mut self, cx: &mut Context<'_, Self>, request: Request) {
        if request == Request::Suspect && !matches!(self.stage, Stage::Asking | Stage::Leading) {
            self.elect(cx);
        }
    }

    fn role(&self) -> &'static str {
        match self.stage {
            Stage::Asking => "candidate",
            Stage::Waiting => "waiting",
            Stage::Following(_) => "follower",
            Stage::Leading => "leader",
        }
    }
}
