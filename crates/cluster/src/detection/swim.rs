//! SWIM. Source: Das, Gupta, Motivala, "SWIM: Scalable Weakly-consistent Infection-style Process Group
//! Membership Protocol" (DSN 2002): round-robin probes (§4.3), suspicion with incarnations (§4.2), news on the back of probes (§4.1).

use super::Decision;
use base::algorithm::{Family, Header};
use base::peer::{Context, Peer, PeerId, others};
use base::planted::{PeerBug, misbehaves};
use std::collections::BTreeMap;

/// A protocol period: one probe.
pub const PERIOD_US: u64 = 200_000;
/// Without an answer after this time others are asked to probe.
const DIRECT_US: u64 = 70_000;
/// How many others.
const HELPERS: usize = 3;
/// A suspect has so long to refute before it is taken for dead.
const SUSPICION_US: u64 = 600_000;
/// News ride on a message at most so many at a time.
const NEWS_MAX: usize = 6;

/// What is thought of a peer. The later incarnation counts, then the graver word.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Health {
    /// Answers.
    Alive,
    /// Has not answered once.
    Suspect,
    /// Has not refuted in time.
    Dead,
}

/// News of a peer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct News {
    /// Of whom.
    pub peer: PeerId,
    /// Raised by itself only.
    pub incarnation: u64,
    /// What.
    pub health: Health,
}

/// What peers tell each other, with news on its back.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Message {
    /// Are you there? Answer to this peer's probe.
    Ping(PeerId, Vec<News>),
    /// I am, says the first, for the second to know; it passes by the helper that was asked.
    Ack(PeerId, PeerId, Vec<News>),
    /// Ask this peer for me.
    PingFor(PeerId),
}

/// Names of timers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Timer {
    /// Probe the next.
    Period,
    /// The probed one has not answered.
    Direct,
    /// The suspect has not refuted.
    Suspicion(PeerId),
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Opinion {
    incarnation: u64,
    health: Health,
    /// How often it is still told.
    tell: u32,
}

/// One peer.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Swim {
    me: PeerId,
    nodes: usize,
    incarnation: u64,
    opinions: BTreeMap<PeerId, Opinion>,
    /// Who is still to be probed in this round, in a random order.
    round: Vec<PeerId>,
    probed: Option<PeerId>,
}

impl Swim {
    fn tells(&self) -> u32 {
        3 * (self.nodes as u32 + 1).ilog2() + 3
    }

    /// What was told least often goes first.
    fn news(&mut self, to: PeerId) -> Vec<News> {
        let mine = News {
            peer: self.me,
            incarnation: self.incarnation,
            health: Health::Alive,
        };
        let mut fresh: Vec<(u32, PeerId)> = (self.opinions.iter())
            .filter(|(peer, opinion)| opinion.tell > 0 && **peer != to)
            .map(|(peer, opinion)| (u32::MAX - opinion.tell, *peer))
            .collect();
        fresh.sort_unstable();
        fresh.truncate(NEWS_MAX);
        let mut news = vec![mine];
        // Whoever is thought ill of hears it, so that it can refute.
        let of_receiver = self.opinions.get(&to).filter(|o| o.health > Health::Alive);
        news.extend(of_receiver.map(|o| News {
            peer: to,
            incarnation: o.incarnation,
            health: o.health,
        }));
        for (_, peer) in fresh {
            if let Some(opinion) = self.opinions.get_mut(&peer) {
                opinion.tell -= 1;
                news.push(News {
                    peer,
                    incarnation: opinion.incarnation,
                    health: opinion.health,
                });
            }
        }
        news
    }

    fn hear(&mut self, cx: &mut Context<'_, Self>, news: &News) {
        if news.peer == self.me {
            if news.health > Health::Alive && news.incarnation >= self.incarnation {
                self.incarnation = news.incarnation + 1;
            }
            return;
        }
        let tell = self.tells();
        let opinion = self.opinions.entry(news.peer).or_insert(Opinion {
            incarnation: 0,
            health: Health::Alive,
            tell: 0,
        });
        if (news.incarnation, news.health) <= (opinion.incarnation, opinion.health) {
            return;
        }
        if news.health == Health::Alive && misbehaves(PeerBug::DeafToRefutation) {
            return;
        }
        let before = opinion.health;
        *opinion = Opinion {
            incarnation: news.incarnation,
            health: news.health,
            tell,
        };
        match (before, news.health) {
            (_, Health::Suspect) => cx.set_timer(Timer::Suspicion(news.peer), SUSPICION_US),
            (_, Health::Alive) => cx.cancel_timer(Timer::Suspicion(news.peer)),
            _ => {}
        }
        if before < Health::Dead && news.health == Health::Dead {
            cx.decide(Decision::Suspects(news.peer));
        } else if before == Health::Dead && news.health < Health::Dead {
            cx.decide(Decision::Trusts(news.peer));
        }
    }

    fn think(&mut self, cx: &mut Context<'_, Self>, peer: PeerId, health: Health) {
        let incarnation = self.opinions.get(&peer).map_or(0, |o| o.incarnation);
        self.hear(
            cx,
            &News {
                peer,
                incarnation,
                health,
            },
        );
    }

    fn ping(&mut self, cx: &mut Context<'_, Self>, to: PeerId, asker: PeerId) {
        let news = self.news(to);
        cx.send(to, Message::Ping(asker, news));
    }
}

impl Peer for Swim {
    type Message = Message;
    type Timer = Timer;
    /// The incarnation, so that a restart can refute what was said of the former life.
    type State = u64;
    type Request = ();
    type Decision = Decision;

    const HEADER: Header = Header {
        name: "swim",
        family: Family::FailureDetection,
        title: "SWIM",
        source: "Das, Gupta, Motivala: SWIM (DSN 2002)",
        idea: "Every period each peer probes one other, in rounds of random order; without an answer, three more are asked to. Then it is suspected, and taken for dead unless it refutes in time. News ride on probes, so that all know soon.",
        assumptions: "For few false suspicions: one of four paths to the probed works.",
        cost: "n probes and n answers every 200 ms, whatever n is for each peer; the first detection after e/(e - 1) periods on average, then the time for refutation, then about log n periods until all know.",
        not_guaranteed: "That the living are never suspected; a bound for the last to know.",
        choose_when: "there are many peers, and all shall know who lives.",
        avoid_when: "there are few peers and seconds count: heartbeats are sooner.",
        alternatives: &["heartbeat", "phi-accrual"],
        survives: super::heartbeat::Heartbeat::HEADER.survives,
    };

    fn new(me: PeerId, nodes: usize) -> Self {
        Self {
            me,
            nodes,
            incarnation: 0,
            opinions: BTreeMap::new(),
            round: Vec::new(),
            probed: None,
        }
    }

    fn handle_start(&mut self, cx: &mut Context<'_, Self>, recovered: Option<u64>) {
        self.incarnation = recovered.map_or(1, |last| last + 1);
        cx.persist(self.incarnation, |_| {});
        // Not all at the same moment.
        let first_us = cx.rng.range(0, PERIOD_US);
        cx.set_timer(Timer::Period, first_us);
    }

    fn handle_message(&mut self, cx: &mut Context<'_, Self>, from: PeerId, message: Message) {
        match message {
            Message::Ping(asker, news) => {
                for news in &news {
                    self.hear(cx, news);
                }
                // Through the helper, when there is one: the direct way may be the broken one.
                let news = self.news(from);
                cx.send(from, Message::Ack(self.me, asker, news));
            }
            Message::Ack(peer, asker, news) => {
                for news in &news {
                    self.hear(cx, news);
                }
                if asker != self.me {
                    let news = self.news(asker);
                    cx.send(asker, Message::Ack(peer, asker, news));
                } else if self.probed == Some(peer) {
                    self.probed = None;
                    cx.cancel_timer(Timer::Direct);
                }
            }
            Message::PingFor(peer) => self.ping(cx, peer, from),
        }
    }

    fn handle_timer(&mut self, cx: &mut Context<'_, Self>, timer: Timer) {
        match timer {
            Timer::Period => {
                if let Some(peer) = self.probed.take() {
                    self.think(cx, peer, Health::Suspect);
                }
                if self.round.is_empty() {
                    self.round = others(self.me, self.nodes).collect();
                    for i in (1..self.round.len()).rev() {
                        self.round.swap(i, cx.rng.range(0, i as u64 + 1) as usize);
                    }
                }
                if let Some(peer) = self.round.pop() {
                    self.probed = Some(peer);
                    self.ping(cx, peer, self.me);
                    cx.set_timer(Timer::Direct, DIRECT_US);
                }
                cx.set_timer(Timer::Period, PERIOD_US);
            }
            Timer::Direct => {
                if let Some(peer) = self.probed {
                    let mut helpers: Vec<PeerId> =
                        others(self.me, self.nodes).filter(|p| *p != peer).collect();
                    for i in (1..helpers.len()).rev() {
                        helpers.swap(i, cx.rng.range(0, i as u64 + 1) as usize);
                    }
                    helpers.truncate(HELPERS);
                    cx.send_each(helpers, &Message::PingFor(peer));
                }
            }
            Timer::Suspicion(peer) => {
                if (self.opinions.get(&peer)).is_some_and(|o| o.health == Health::Suspect) {
                    self.think(cx, peer, Health::Dead);
                }
            }
        }
    }

    fn handle_request(&mut self, _: &mut Context<'_, Self>, (): ()) {}
}
