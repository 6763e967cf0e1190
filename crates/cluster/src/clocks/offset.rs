//! How far wall clocks are apart: asked of a server (Cristian, "Probabilistic clock synchronization",
//! Distributed Computing 3, 1989; the least round trip of several as in NTP, RFC 5905), or averaged by a
//! coordinator (Gusella, Zatti, "The accuracy of the clock synchronization achieved by TEMPO in Berkeley UNIX
//! 4.3BSD", IEEE TSE 15(7), 1989).
//!
//! An answer that took a round trip of r may be wrong by r/2: nobody can know how it was spent.

use base::algorithm::{Family, Header, Trouble};
use base::peer::{Context, Peer, PeerId, others};
use base::planted::{PeerBug, misbehaves};
use std::collections::BTreeMap;

/// Between questions.
const EVERY_US: u64 = 500_000;
/// Of so many answers the one with the shortest round trip counts.
const SAMPLES: usize = 8;
/// Berkeley leaves clocks out that are farther than this from the median.
const FAR_MS: i64 = 1_000;
/// Who is asked, or who averages.
const SERVER: PeerId = 1;

/// How offsets are found.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Method {
    /// All ask one server.
    Cristian,
    /// One asks all, averages, and tells each.
    Berkeley,
}

impl Method {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Cristian, Self::Berkeley];

    /// What people are told.
    pub const fn header(self) -> Header {
        const SURVIVES: &[Trouble] = &[
            Trouble::Delay,
            Trouble::Slow,
            Trouble::Reorder,
            Trouble::Duplicate,
            Trouble::Loss,
            Trouble::Crash,
            Trouble::Pause,
            Trouble::Partition,
            Trouble::OneWay,
            Trouble::Clock,
            Trouble::Wipe,
        ];
        let common = Header {
            name: "",
            family: Family::Clocks,
            title: "",
            source: "",
            idea: "",
            assumptions: "There and back a message takes about as long; clocks run at about the same rate between two questions.",
            cost: "",
            not_guaranteed: "",
            choose_when: "",
            avoid_when: "",
            alternatives: &["cristian", "berkeley"],
            survives: SURVIVES,
        };
        match self {
            Self::Cristian => Header {
                name: "cristian",
                title: "Clock offset from a server",
                source: "Cristian: Probabilistic clock synchronization (1989); NTP (RFC 5905)",
                idea: "A peer asks a server for its time and adds half the round trip. Of the last eight answers the one with the shortest round trip counts: it can be wrong by half of that at most.",
                cost: "2 messages a question, every 500 ms.",
                not_guaranteed: "More than half a round trip of accuracy; anything when the server's clock is wrong.",
                choose_when: "one clock is right, or all need to agree with one only.",
                avoid_when: "no clock is better than the others: use berkeley.",
                ..common
            },
            Self::Berkeley => Header {
                name: "berkeley",
                title: "Clock average of a group",
                source: "Gusella, Zatti: The accuracy of TEMPO (IEEE TSE 1989)",
                idea: "A coordinator asks all for their time, takes the mean of those that are near the median, and tells each how far it is from it. A clock that is far off does not spoil the mean.",
                cost: "3(n - 1) messages a round, every 500 ms.",
                not_guaranteed: "The right time: only that all agree. Progress while the coordinator is away.",
                choose_when: "no outside time is at hand, and nodes must agree among themselves.",
                avoid_when: "time must be right.",
                ..common
            },
        }
    }
}

/// What peers tell each other.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Message {
    /// What time is it? With the asker's monotonic clock, in microseconds.
    Ask(u64),
    /// This, in milliseconds since 1970; and the question.
    Time(u64, i64),
    /// Your clock is so far from the group's, in milliseconds.
    Off(i64),
}

/// Names of timers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Timer {
    /// Ask again.
    Ask,
    /// The answers are in.
    Average,
}

/// What a peer tells its user.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Decision {
    /// Its wall clock is so many milliseconds ahead of the server's, or of the group's.
    Ahead(i64),
}

/// One peer.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Offset {
    me: PeerId,
    nodes: usize,
    method: Method,
    /// The last answers of each: round trip in microseconds, and how far we are ahead in milliseconds.
    samples: BTreeMap<PeerId, Vec<(u64, i64)>>,
}

impl Offset {
    /// A peer of a group that finds out like this.
    pub fn by(me: PeerId, nodes: usize, method: Method) -> Self {
        Self {
            me,
            nodes,
            method,
            samples: BTreeMap::new(),
        }
    }

    fn asks(&self) -> Vec<PeerId> {
        match (self.method, self.me) {
            (Method::Cristian, SERVER) => Vec::new(),
            (Method::Cristian, _) => vec![SERVER],
            (Method::Berkeley, SERVER) => others(SERVER, self.nodes).collect(),
            (Method::Berkeley, _) => Vec::new(),
        }
    }

    fn heard(&mut self, cx: &Context<'_, Self>, from: PeerId, asked_us: u64, their_ms: i64) {
        let trip_us = cx.now.mono_us.saturating_sub(asked_us);
        let half_ms = (trip_us / 2_000) as i64;
        let samples = self.samples.entry(from).or_default();
        samples.push((trip_us, cx.now.wall_ms - (their_ms + half_ms)));
        if samples.len() > SAMPLES && !misbehaves(PeerBug::KeepOldAnswers) {
            samples.remove(0);
        }
    }

    fn ahead_of(&self, peer: PeerId) -> Option<i64> {
        let samples = self.samples.get(&peer)?;
        samples.iter().min().map(|(_, ahead_ms)| *ahead_ms)
    }
}

impl Peer for Offset {
    type Message = Message;
    type Timer = Timer;
    type State = ();
    type Request = ();
    type Decision = Decision;

    const HEADER: Header = Method::Cristian.header();

    fn new(me: PeerId, nodes: usize) -> Self {
        Self::by(me, nodes, Method::Cristian)
    }

    fn handle_start(&mut self, cx: &mut Context<'_, Self>, _: Option<()>) {
        self.handle_timer(cx, Timer::Ask);
    }

    fn handle_message(&mut self, cx: &mut Context<'_, Self>, from: PeerId, message: Message) {
        match message {
            Message::Ask(asked_us) => cx.send(from, Message::Time(asked_us, cx.now.wall_ms)),
            Message::Time(asked_us, their_ms) => {
                self.heard(cx, from, asked_us, their_ms);
                if let (Method::Cristian, Some(ahead_ms)) = (self.method, self.ahead_of(SERVER)) {
                    cx.decide(Decision::Ahead(ahead_ms));
                }
            }
            Message::Off(ahead_ms) => cx.decide(Decision::Ahead(ahead_ms)),
        }
    }

    fn handle_timer(&mut self, cx: &mut Context<'_, Self>, timer: Timer) {
        match timer {
            Timer::Ask => {
                let asks = self.asks();
                if !asks.is_empty() {
                    cx.send_each(asks, &Message::Ask(cx.now.mono_us));
                    cx.set_timer(Timer::Average, EVERY_US / 2);
                }
                cx.set_timer(Timer::Ask, EVERY_US);
            }
            Timer::Average if self.method == Method::Berkeley => {
                // How far the others are ahead of the coordinator, which is one of them.
                let ahead: BTreeMap<PeerId, i64> = others(self.me, self.nodes)
                    .filter_map(|peer| Some((peer, -self.ahead_of(peer)?)))
                    .chain([(self.me, 0)])
                    .collect();
                let mut all: Vec<i64> = ahead.values().copied().collect();
                all.sort_unstable();
                let median = all[all.len() / 2];
                all.retain(|ms| (ms - median).abs() <= FAR_MS);
                let mean = all.iter().sum::<i64>() / all.len().max(1) as i64;
                for (peer, ahead_ms) in ahead {
                    match peer == self.me {
                        true => cx.decide(Decision::Ahead(-mean)),
                        false => cx.send(peer, Message::Off(ahead_ms - mean)),
                    }
                }
            }
            Timer::Average => {}
        }
    }

    fn handle_request(&mut self, _: &mut Context<'_, Self>, (): ()) {}
}
