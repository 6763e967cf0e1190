//! Spreading a rumour: push, pull, and both. Source: Demers and others, "Epidemic algorithms for replicated
//! database maintenance" (PODC 1987); Pittel, "On spreading a rumor" (SIAM J. Appl. Math. 47(1), 1987) for push: log₂ n + ln n + O(1)
//! rounds; Karp and others, "Randomized rumor spreading" (FOCS 2000).
//!
//! Each round a peer calls one other, at random, or one of its k neighbours on a ring. Peers know rumours
//! by number; all that a peer knows travels in one message.

use base::algorithm::{Family, Header, Trouble};
use base::peer::{Context, Peer, PeerId};
use base::planted::{PeerBug, misbehaves};
use std::collections::BTreeSet;

/// Between calls of a peer: a round.
pub const ROUND_US: u64 = 100_000;

/// Who tells whom in a call.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Way {
    /// The caller tells.
    Push,
    /// The called one tells.
    Pull,
    /// Both.
    PushPull,
    /// The caller tells one of its so many neighbours on the ring.
    Neighbours(usize),
}

impl Way {
    /// The ways of the lab.
    pub const ALL: [Self; 4] = [Self::Push, Self::Pull, Self::PushPull, Self::Neighbours(4)];

    /// What people are told.
    pub const fn header(self) -> Header {
        let common = Header {
            name: "",
            family: Family::Gossip,
            title: "",
            source: "Demers and others: Epidemic algorithms (PODC 1987)",
            idea: "",
            assumptions: "A peer that knows a rumour does not die for good before it has told one; otherwise none.",
            cost: "",
            not_guaranteed: "By when everybody knows: that holds with high probability only. In which order rumours arrive.",
            choose_when: "",
            avoid_when: "",
            alternatives: &["push", "pull", "push-pull", "ring-neighbours"],
            survives: Trouble::PASSING,
        };
        match self {
            Self::Push => Header {
                name: "push",
                title: "Gossip: push",
                source: "Demers and others: Epidemic algorithms (PODC 1987); Pittel: On spreading a rumor (1987)",
                idea: "Each round a peer that knows something tells a random other.",
                cost: "1 message a round of each peer that knows; log2 n + ln n + O(1) rounds to all: the last few take long to be met.",
                choose_when: "rumours are rare: without any, nothing is sent.",
                avoid_when: "there is always news: push-pull is faster.",
                ..common
            },
            Self::Pull => Header {
                name: "pull",
                title: "Gossip: pull",
                idea: "Each round a peer asks a random other what it knows.",
                cost: "2 messages a round of each peer, news or not; slow to begin, and log log n rounds for the last half.",
                choose_when: "there is always news, and the last ones must not be missed.",
                avoid_when: "there is rarely news.",
                ..common
            },
            Self::PushPull => Header {
                name: "push-pull",
                title: "Gossip: push and pull",
                source: "Karp and others: Randomized rumor spreading (FOCS 2000)",
                idea: "Each round a peer calls a random other, and both tell what they know.",
                cost: "2 messages a round of each peer; log3 n + O(log log n) rounds to all.",
                choose_when: "news must be everywhere soon.",
                avoid_when: "messages are dear and news are rare.",
                ..common
            },
            Self::Neighbours(_) => Header {
                name: "ring-neighbours",
                title: "Gossip: push to neighbours on a ring",
                idea: "Peers stand on a ring; each round a peer that knows something tells one of the 4 behind it.",
                cost: "1 message a round of each peer that knows; rounds grow with n, not with its logarithm.",
                choose_when: "a peer may know only a few others, as the monitors of heartbeats do.",
                avoid_when: "there are many peers.",
                ..common
            },
        }
    }
}

/// What peers tell each other.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Message {
    /// This is all I know.
    Tell(BTreeSet<u64>),
    /// Tell me what you know.
    Ask,
    /// This is all I know; tell me what you know.
    Both(BTreeSet<u64>),
}

/// Names of timers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Timer {
    /// A round.
    Round,
}

/// A rumour begins here.
pub type Request = u64;

/// What a peer tells its user.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Decision {
    /// It knows this rumour now.
    Knows(u64),
}

/// One peer.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Spread {
    me: PeerId,
    nodes: usize,
    way: Way,
    knows: BTreeSet<u64>,
    started: bool,
}

impl Spread {
    /// A peer of a group that spreads like this.
    pub fn by(me: PeerId, nodes: usize, way: Way) -> Self {
        Self {
            me,
            nodes,
            way,
            knows: BTreeSet::new(),
            started: false,
        }
    }

    /// What is new here is told once it is on disk.
    fn learn(&mut self, cx: &mut Context<'_, Self>, rumours: BTreeSet<u64>) {
        let new: Vec<u64> = rumours.difference(&self.knows).copied().collect();
        if new.is_empty() {
            return;
        }
        self.knows.extend(&new);
        cx.persist(self.knows.clone(), |then| {
            for rumour in new {
                then.decide(Decision::Knows(rumour));
            }
        });
    }

    fn called(&self, cx: &mut Context<'_, Self>) -> PeerId {
        let (reach, n) = match self.way {
            Way::Neighbours(k) => (k.min(self.nodes - 1), self.nodes),
            _ => (self.nodes - 1, self.nodes),
        };
        let step = cx.rng.range(1, reach as u64 + 1) as usize;
        (self.me - 1 + step) % n + 1
    }
}

impl Peer for Spread {
    type Message = Message;
    type Timer = Timer;
    type State = BTreeSet<u64>;
    type Request = Request;
    type Decision = Decision;

    const HEADER: Header = Way::PushPull.header();

    fn new(me: PeerId, nodes: usize) -> Self {
        Self::by(me, nodes, Way::PushPull)
    }

    fn handle_start(&mut self, cx: &mut Context<'_, Self>, recovered: Option<Self::State>) {
        self.knows = recovered.unwrap_or_default();
        cx.set_timer(Timer::Round, ROUND_US);
    }

    fn handle_message(&mut self, cx: &mut Context<'_, Self>, from: PeerId, message: Message) {
        match message {
            Message::Tell(_) | Message::Both(_)
                if misbehaves(PeerBug::HearOneRumour) && !self.knows.is_empty() => {}
            Message::Tell(rumours) => self.learn(cx, rumours),
            Message::Ask => cx.send(from, Message::Tell(self.knows.clone())),
            Message::Both(rumours) => {
                // What the caller did not say is what it lacks.
                cx.send(
                    from,
                    Message::Tell(self.knows.difference(&rumours).copied().collect()),
                );
                self.learn(cx, rumours);
            }
        }
    }

    fn handle_timer(&mut self, cx: &mut Context<'_, Self>, Timer::Round: Timer) {
        cx.set_timer(Timer::Round, ROUND_US);
        let silent = misbehaves(PeerBug::KeepRumour) && !self.started;
        let to = self.called(cx);
        match self.way {
            Way::Push | Way::Neighbours(_) if self.knows.is_empty() || silent => {}
            Way::Push | Way::Neighbours(_) => cx.send(to, Message::Tell(self.knows.clone())),
            Way::Pull => cx.send(to, Message::Ask),
            Way::PushPull => cx.send(to, Message::Both(self.knows.clone())),
        }
    }

    fn handle_request(&mut self, cx: &mut Context<'_, Self>, rumour: Request) {
        self.started = true;
        self.learn(cx, [rumour].into());
    }
}
