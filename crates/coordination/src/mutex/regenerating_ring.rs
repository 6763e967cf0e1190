//! Token ring that goes on without the dead, and makes a new token when the old one died with its holder.
//!
//! Source: Misra, "Detecting termination of distributed computations using markers" (PODC 1983), for
//! tokens that are missed; skipping and the search for the token are written for this ring.
//!
//! A token is handed over with an acknowledgement; who does not acknowledge in time is skipped. Who has
//! not seen the token for long asks everybody. If nobody has it, and nobody smaller is alive, it makes one
//! of the next epoch; tokens of an earlier epoch are worth nothing from then on.

use super::{Decision, Request};
use base::algorithm::{Family, Header, Trouble};
use base::peer::{Context, Peer, PeerId, next_on_ring, others};
use base::planted::{PeerBug, misbehaves};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Without an acknowledgement after this time the receiver is taken for dead.
const ACK_US: u64 = 500_000;
/// After so long without the token, plus as much for each of the others to be skipped, it is searched.
const MISSED_US: u64 = 1_000_000;
/// Answers to a search are waited for so long.
const SEARCH_US: u64 = 500_000;

/// A token: its epoch, and the steps that it has made.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Token {
    /// Raised when a lost token is replaced.
    pub epoch: u64,
    /// Steps since then.
    pub steps: u64,
}

/// What peers tell each other.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Message {
    /// The token.
    Pass(Token),
    /// I have it.
    Ack(Token),
    /// Who has the token?
    Search,
    /// The last that I saw of it, and whether it is here.
    Seen(Token, bool),
}

/// Names of timers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Timer {
    /// The receiver has not acknowledged.
    Ack,
    /// The token has not come for long.
    Missed,
    /// All answers that come have come.
    Searched,
}

/// A search asks twice: a token that moves has made more steps when asked again.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Search {
    answered: BTreeSet<PeerId>,
    found: bool,
    latest: Token,
    /// The latest that the first round heard of, in the second.
    before: Option<Token>,
}

/// One peer.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct RegeneratingRing {
    me: PeerId,
    nodes: usize,
    seen: Token,
    holds: bool,
    /// To whom the token is being handed over.
    passing: Option<PeerId>,
    search: Option<Search>,
    wants: bool,
    inside: bool,
}

impl RegeneratingRing {
    fn miss(&mut self, cx: &mut Context<'_, Self>) {
        cx.set_timer(Timer::Missed, MISSED_US + ACK_US * self.nodes as u64);
    }

    fn take(&mut self, cx: &mut Context<'_, Self>, token: Token) {
        self.seen = token;
        self.holds = true;
        self.passing = None;
        self.search = None;
        cx.cancel_timer(Timer::Ack);
        cx.cancel_timer(Timer::Missed);
        self.go_on(cx);
    }

    fn go_on(&mut self, cx: &mut Context<'_, Self>) {
        if !self.holds || self.inside {
            return;
        }
        if self.wants {
            self.wants = false;
            self.inside = true;
            cx.decide(Decision::Entered(0));
        } else {
            self.holds = false;
            self.pass(cx, next_on_ring(self.me, self.nodes));
        }
    }

    fn search(&mut self, cx: &mut Context<'_, Self>, before: Option<Token>) {
        self.search = Some(Search {
            answered: BTreeSet::new(),
            found: false,
            latest: self.seen,
            before,
        });
        cx.send_each(others(self.me, self.nodes), &Message::Search);
        cx.set_timer(Timer::Searched, SEARCH_US);
    }

    fn conclude(&mut self, cx: &mut Context<'_, Self>, search: &Search) {
        let blindly = misbehaves(PeerBug::ReplaceUnasked);
        let smaller_lives = (search.answered.first()).is_some_and(|first| *first < self.me);
        let moves = (search.before).is_some_and(|before| search.latest > before);
        if !blindly && (search.found || smaller_lives || moves) {
            self.miss(cx);
        } else if search.before.is_none() {
            self.search(cx, Some(search.latest));
        } else {
            let epoch = search.latest.epoch + 1;
            self.take(cx, Token { epoch, steps: 0 });
        }
    }

    fn pass(&mut self, cx: &mut Context<'_, Self>, to: PeerId) {
        let Token { epoch, steps } = self.seen;
        self.passing = Some(to);
        cx.send(
            to,
            Message::Pass(Token {
                epoch,
                steps: steps + 1,
            }),
        );
        cx.set_timer(Timer::Ack, ACK_US);
        self.miss(cx);
    }
}

impl Peer for RegeneratingRing {
    type Message = Message;
    type Timer = Timer;
    type State = ();
    type Request = Request;
    type Decision = Decision;

    const HEADER: Header = Header {
        name: "regenerating-token-ring",
        family: Family::MutualExclusion,
        title: "Token ring that skips the dead and replaces a lost token",
        source: "Le Lann (IFIP 1977); Misra (PODC 1983) on lost tokens",
        idea: "As the token ring, with acknowledgements: who does not acknowledge is skipped. Who misses the token asks everybody; when nobody has it, the smallest alive makes one of the next epoch.",
        assumptions: "Processes crash and may come back; messages take less than the time-outs, and nothing is lost.",
        cost: "2 messages a step of the token; a dead successor costs 500 ms a round, a lost token 1 s + 500 ms n, and a search of 2(n - 1) messages.",
        not_guaranteed: "Exclusion under partitions, pauses or delays longer than the time-outs: there may be two tokens for a while.",
        choose_when: "a token ring fits, and peers die now and then on one dependable network.",
        avoid_when: "exclusion must hold whatever the network does: use majority.",
        alternatives: &["token-ring", "majority"],
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
            seen: Token { epoch: 0, steps: 0 },
            holds: false,
            passing: None,
            search: None,
            wants: false,
            inside: false,
        }
    }

    fn handle_start(&mut self, cx: &mut Context<'_, Self>, recovered: Option<()>) {
        self.miss(cx);
        if recovered.is_none() {
            let first = self.me == 1;
            cx.persist((), |then| {
                if first {
                    then.send(1, Message::Pass(Token { epoch: 1, steps: 1 }));
                }
            });
        }
    }

    fn handle_message(&mut self, cx: &mut Context<'_, Self>, from: PeerId, message: Message) {
        match message {
            Message::Pass(token) => {
                cx.send(from, Message::Ack(token));
                if token > self.seen {
                    self.take(cx, token);
                }
            }
            Message::Ack(token) => {
                let mine = token.epoch == self.seen.epoch && token.steps == self.seen.steps + 1;
                if mine && self.passing == Some(from) {
                    self.passing = None;
                    cx.cancel_timer(Timer::Ack);
                }
            }
            Message::Search => {
                let here = self.holds || self.passing.is_some();
                cx.send(from, Message::Seen(self.seen, here));
            }
            Message::Seen(token, here) => {
                if let Some(search) = &mut self.search {
                    search.answered.insert(from);
                    search.found |= here;
                    search.latest = token.max(search.latest);
                }
            }
        }
    }

    fn handle_timer(&mut self, cx: &mut Context<'_, Self>, timer: Timer) {
        match timer {
            Timer::Ack => {
                if let Some(dead) = self.passing {
                    let next = next_on_ring(dead, self.nodes);
                    if next == self.me {
                        // All others are dead.
                        let Token { epoch, steps } = self.seen;
                        self.take(
                            cx,
                            Token {
                                epoch,
                                steps: steps + 1,
                            },
                        );
                    } else {
                        self.pass(cx, next);
                    }
                }
            }
            Timer::Missed if !self.holds => self.search(cx, None),
            Timer::Searched => {
                if let Some(search) = self.search.take() {
                    self.conclude(cx, &search);
                }
            }
            Timer::Missed => {}
        }
    }

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
