//! Election on a ring. Source: Chang, Roberts, "An improved algorithm for decentralized extrema-finding in
//! circular configurations of processes" (CACM 22(5), 1979).
//!
//! Beyond the paper: a message is acknowledged, and who does not acknowledge is skipped, so that the ring
//! goes on without the dead; and a leader sends heartbeats, so that its death is noticed.

use super::{Decision, Request};
use base::algorithm::{Family, Header};
use base::peer::{Context, Peer, PeerId};
use base::planted::{PeerBug, misbehaves};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

const BEAT_US: u64 = 100_000;
const SILENT_US: u64 = 800_000;
/// Without an acknowledgement after this time the receiver is taken for dead.
const ACK_US: u64 = 300_000;
/// An election is over, or begun anew, after this time and [`ACK_US`] for each peer.
const OVER_US: u64 = 1_000_000;

/// What goes round the ring.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Word {
    /// This peer wants to lead; and by how many it was passed on.
    Candidate(PeerId, usize),
    /// This peer leads.
    Elected(PeerId),
}

/// What peers tell each other.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Message {
    /// Goes round.
    Word(Word),
    /// It has arrived.
    Ack(Word),
    /// I lead.
    Beat,
}

/// Names of timers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Timer {
    /// The receiver of this word has not acknowledged it.
    Ack(Word),
    /// The leader is silent.
    Silent,
    /// The election has come to nothing.
    Over,
    /// Send heartbeats.
    Beat,
}

/// One peer.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct ChangRoberts {
    me: PeerId,
    /// All peers, in the order of the ring.
    ring: Vec<PeerId>,
    leader: Option<PeerId>,
    /// The greatest candidacy passed on in this election, one's own included.
    passed: Option<PeerId>,
    /// Words handed over, and to whom.
    sent: BTreeMap<Word, PeerId>,
    beats: bool,
}

impl ChangRoberts {
    /// A peer of a ring in this order. Without `beats`, nobody watches the leader: for counting messages.
    pub fn on_ring(me: PeerId, ring: Vec<PeerId>, beats: bool) -> Self {
        Self {
            me,
            ring,
            leader: None,
            passed: None,
            sent: BTreeMap::new(),
            beats,
        }
    }

    fn behind(&self, peer: PeerId) -> PeerId {
        let place = self.ring.iter().position(|p| *p == peer).unwrap_or(0);
        self.ring[(place + 1) % self.ring.len()]
    }

    fn pass(&mut self, cx: &mut Context<'_, Self>, word: Word, to: PeerId) {
        if to == self.me {
            // Everybody else is dead.
            self.sent.remove(&word);
            self.hear(cx, word);
            return;
        }
        self.sent.insert(word, to);
        cx.send(to, Message::Word(word));
        cx.set_timer(Timer::Ack(word), ACK_US);
    }

    fn run(&mut self, cx: &mut Context<'_, Self>) {
        if self.leader.take().is_some() {
            cx.decide(Decision::Leaderless);
        }
        cx.cancel_timer(Timer::Silent);
        cx.cancel_timer(Timer::Beat);
        self.passed = Some(self.me);
        cx.set_timer(Timer::Over, OVER_US + ACK_US * self.ring.len() as u64);
        self.pass(cx, Word::Candidate(self.me, 0), self.behind(self.me));
    }

    fn hear(&mut self, cx: &mut Context<'_, Self>, word: Word) {
        let next = self.behind(self.me);
        match word {
            Word::Candidate(peer, _) if peer == self.me => {
                if self.passed.is_some() {
                    self.become_known(cx, peer);
                    self.pass(cx, Word::Elected(peer), next);
                }
            }
            // All have seen it, but its owner, who is dead: it would go round for ever.
            Word::Candidate(_, passed) if passed >= self.ring.len() => {}
            Word::Candidate(peer, passed) => {
                let word = Word::Candidate(peer, passed + 1);
                let greatest = self.passed.unwrap_or(self.me);
                if peer > greatest || peer > self.me && self.passed == Some(peer) {
                    self.passed = Some(peer);
                    cx.set_timer(Timer::Over, OVER_US + ACK_US * self.ring.len() as u64);
                    self.pass(cx, word, next);
                } else if misbehaves(PeerBug::ForwardSmaller) {
                    self.pass(cx, word, next);
                } else if self.passed.is_none() {
                    // The candidate is smaller than this peer, which takes part then.
                    self.run(cx);
                }
            }
            // Known, and passed on before: behind a leader that died meanwhile it would go round for ever.
            Word::Elected(peer) if self.leader == Some(peer) && self.passed.is_none() => {}
            Word::Elected(peer) if peer != self.me => {
                self.become_known(cx, peer);
                self.pass(cx, word, next);
            }
            Word::Elected(_) => {}
        }
    }

    fn become_known(&mut self, cx: &mut Context<'_, Self>, leader: PeerId) {
        self.passed = None;
        cx.cancel_timer(Timer::Over);
        if self.leader != Some(leader) {
            self.leader = Some(leader);
            cx.decide(Decision::Leader { leader, term: 0 });
        }
        if self.beats && leader == self.me {
            cx.cancel_timer(Timer::Silent);
            cx.set_timer(Timer::Beat, BEAT_US);
        } else if self.beats {
            cx.cancel_timer(Timer::Beat);
            cx.set_timer(Timer::Silent, SILENT_US);
        }
    }
}

impl Peer for ChangRoberts {
    type Message = Message;
    type Timer = Timer;
    type State = ();
    type Request = Request;
    type Decision = Decision;

    const HEADER: Header = Header {
        name: "chang-roberts",
        family: Family::Election,
        title: "Chang-Roberts: election on a ring",
        source: "Chang, Roberts: An improved algorithm for decentralized extrema-finding in circular configurations of processes (CACM 1979)",
        idea: "A candidacy goes round the ring; greater peers replace it by their own, so only the greatest comes back to its owner, who leads and says so once around. Messages are acknowledged; who does not answer is skipped.",
        assumptions: "Everybody knows the ring. Processes crash and may come back; messages take less than the time-outs.",
        cost: "2n - 1 to n(n + 1)/2 messages for the candidacies when all begin, about 0.69 n log2 n in the mean, and n to tell all; as many acknowledgements; and n - 1 heartbeats every 100 ms.",
        not_guaranteed: "A single leader under partitions; an end of the election while peers die in it (it begins anew).",
        choose_when: "peers know only their neighbours, or few messages matter more than time.",
        avoid_when: "the time counts: it grows with n. Two leaders do harm: use raft.",
        alternatives: &["bully", "zab", "raft"],
        survives: super::bully::Bully::HEADER.survives,
    };

    fn new(me: PeerId, nodes: usize) -> Self {
        Self::on_ring(me, (1..=nodes).collect(), true)
    }

    fn handle_start(&mut self, cx: &mut Context<'_, Self>, _: Option<()>) {
        self.run(cx);
    }

    fn handle_message(&mut self, cx: &mut Context<'_, Self>, from: PeerId, message: Message) {
        match message {
            Message::Word(word) => {
                cx.send(from, Message::Ack(word));
                self.hear(cx, word);
            }
            Message::Ack(word) => {
                if self.sent.get(&word) == Some(&from) {
                    self.sent.remove(&word);
                    cx.cancel_timer(Timer::Ack(word));
                }
            }
            Message::Beat => match self.leader {
                Some(leader) if leader == from => cx.set_timer(Timer::Silent, SILENT_US),
                // It leads while another is followed, or it is smaller: let the ring decide.
                Some(_) if self.passed.is_none() => self.run(cx),
                _ => {}
            },
        }
    }

    fn handle_timer(&mut self, cx: &mut Context<'_, Self>, timer: Timer) {
        match timer {
            Timer::Ack(word) => {
                if let Some(dead) = self.sent.get(&word).copied() {
                    self.pass(cx, word, self.behind(dead));
                }
            }
            Timer::Silent | Timer::Over => self.run(cx),
            Timer::Beat => {
                if self.leader == Some(self.me) {
                    let all: Vec<PeerId> = self.ring.clone();
                    cx.send_each(all.into_iter().filter(|p| *p != self.me), &Message::Beat);
                    cx.set_timer(Timer::Beat, BEAT_US);
                }
            }
        }
    }

    fn handle_request(&mut self, cx: &mut Context<'_, Self>, request: Request) {
        if request == Request::Suspect && self.passed.is_none() {
            self.run(cx);
        }
    }

    fn role(&self) -> &'static str {
        match self.leader {
            Some(leader) if leader == self.me => "leader",
            Some(_) => "follower",
            None => "candidate",
        }
    }
}
