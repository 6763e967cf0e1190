//! Quorums without a primary: N copies, W that take a write, R that answer a read. Source: Gifford,
//! "Weighted voting for replicated data" (SOSP 1979); DeCandia and others, "Dynamo: Amazon's highly available
//! key-value store" (SOSP 2007), sections 4.5 and 4.6, for read repair and hinted hand-off.
//!
//! One register. A version is a counter and the peer that coordinated the write. A copy takes a write
//! whose counter is greater than any it has seen; so of two writes that do not know of each other only
//! one gets a majority. What is late is repaired: after a read those that answered with less are sent the
//! latest, and a write is kept for those that did not take it (a hint, which never counts as a copy).

use base::algorithm::{Family, Header, Trouble};
use base::peer::{Context, Peer, PeerId, majority, others};
use base::planted::{PeerBug, misbehaves};
use std::collections::{BTreeMap, BTreeSet};

/// An operation is given up after this.
const GIVE_UP_US: u64 = 500_000;
/// What is kept for those that are away is sent this often.
const HAND_OFF_US: u64 = 400_000;

/// Later is greater: a counter, and who coordinated the write.
pub type Version = (u64, PeerId);

/// How many must take part.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Counts {
    /// Copies that take a write before it is acknowledged.
    pub write: usize,
    /// Copies that answer a read.
    pub read: usize,
}

/// Usual choices of W and R.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Choice {
    /// W a majority, R as many as meet it.
    Majority,
    /// W all, R one.
    WriteAll,
    /// W one, R all.
    WriteOne,
    /// W one, R one.
    OneOne,
}

impl Choice {
    /// All choices.
    pub const ALL: [Self; 4] = [Self::Majority, Self::WriteAll, Self::WriteOne, Self::OneOne];

    /// W and R of `nodes`.
    pub fn counts(self, nodes: usize) -> Counts {
        let (write, read) = match self {
            Self::Majority => (majority(nodes), nodes + 1 - majority(nodes)),
            Self::WriteAll => (nodes, 1),
            Self::WriteOne => (1, nodes),
            Self::OneOne => (1, 1),
        };
        Counts { write, read }
    }

    /// What people are told.
    pub const fn header(self) -> Header {
        let common = Header {
            name: "",
            family: Family::Replication,
            title: "",
            source: "Gifford: Weighted voting for replicated data (SOSP 1979); DeCandia and others: Dynamo (SOSP 2007)",
            idea: "",
            assumptions: "Processes crash and come back with their disk; messages may be lost, late, repeated or reordered. No leader, no bound on time.",
            cost: "2(n - 1) messages an operation, and repairs; one round trip.",
            not_guaranteed: "",
            choose_when: "",
            avoid_when: "",
            alternatives: &[
                "quorum-majority",
                "quorum-write-all",
                "quorum-write-one",
                "quorum-one-one",
            ],
            survives: Trouble::PASSING,
        };
        match self {
            Self::Majority => Header {
                name: "quorum-majority",
                title: "Quorums: W a majority, R as many as meet it",
                idea: "W + R > N: every read meets the last acknowledged write. W > N/2: two writes meet, and one of two with the same counter is refused.",
                not_guaranteed: "That one operation follows the other for all readers: a write that failed may still surface, and two reads beside a write may see it and then not. It is no lock.",
                choose_when: "any minority may be away, and reads must be fresh.",
                avoid_when: "operations build on each other: use a log (raft).",
                survives: Trouble::PASSING_AND_DEATH,
                ..common
            },
            Self::WriteAll => Header {
                name: "quorum-write-all",
                title: "Quorums: W all, R one",
                idea: "All copies take a write, so any one answers a read.",
                not_guaranteed: "Writes while any copy is away.",
                choose_when: "reads are many and must be fast and fresh, writes are few and may wait.",
                avoid_when: "writes must go on while a copy is away.",
                ..common
            },
            Self::WriteOne => Header {
                name: "quorum-write-one",
                title: "Quorums: W one, R all",
                idea: "One copy takes a write; a read asks all, so that it meets it.",
                not_guaranteed: "Two writes that do not know of each other are both acknowledged, and one is overwritten. Reads while any copy is away.",
                choose_when: "writes must never wait, and two that miss each other do no harm.",
                avoid_when: "an acknowledged write must not vanish under another one.",
                ..common
            },
            Self::OneOne => Header {
                name: "quorum-one-one",
                title: "Quorums: W one, R one",
                idea: "One copy takes a write, one answers a read; the others hear of it later.",
                not_guaranteed: "Fresh reads: W + R <= N, so a read may meet a copy that has not heard of the write. Nor that writes see each other.",
                choose_when: "speed and availability matter more than being up to date.",
                avoid_when: "a reader must see what was acknowledged.",
                survives: Trouble::PASSING_AND_DEATH,
                ..common
            },
        }
    }
}

impl Counts {
    /// W + R > N: a read meets the last acknowledged write.
    pub fn is_fresh(self, nodes: usize) -> bool {
        self.write + self.read > nodes
    }

    /// W > N/2: two writes meet.
    pub fn is_exclusive(self, nodes: usize) -> bool {
        2 * self.write > nodes
    }
}

/// What a user asks of a peer.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Request {
    /// Write this.
    Write(u64),
    /// Read; the number names the answer.
    Read(u64),
}

/// What a peer tells its user.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Decision {
    /// W copies have it.
    Written {
        /// What.
        value: u64,
        /// As which version.
        version: Version,
    },
    /// Fewer than W have taken it in time, or another write was first. It may surface all the same.
    Failed(u64),
    /// R copies have answered; this is the latest of what they have.
    Read {
        /// Which read.
        number: u64,
        /// The value; 0 before the first write.
        value: u64,
        /// Its version.
        version: Version,
    },
    /// Fewer than R have answered in time.
    Unanswered(u64),
}

/// A copy.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Register {
    /// Of the value.
    pub version: Version,
    /// The value.
    pub value: u64,
}

/// What survives a crash.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct State {
    held: Register,
    /// The last write that was taken as such; what is only repaired does not count. Its value too: a
    /// coordinator that died may use a counter twice.
    taken: Register,
}

/// What peers tell each other. The first number names the operation.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Message {
    /// Take this.
    Put(u64, Register),
    /// I have it on disk.
    Took(u64),
    /// I have seen another one that is as late.
    Refused(u64, Register),
    /// What do you have?
    Get(u64),
    /// This.
    Got(u64, Register),
    /// You lack this.
    Repair(Register),
    /// I have it, or later.
    Repaired(Version),
}

/// Names of timers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Timer {
    /// An operation has taken too long.
    GiveUp(u64),
    /// Send what is kept for others.
    HandOff,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Operation {
    Write {
        register: Register,
        took: BTreeSet<PeerId>,
        told: bool,
    },
    Read {
        number: u64,
        got: BTreeMap<PeerId, Register>,
        told: bool,
    },
}

/// One peer: a copy, and the coordinator of what its users ask.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Quorum {
    me: PeerId,
    nodes: usize,
    counts: Counts,
    state: State,
    operations: BTreeMap<u64, Operation>,
    hints: BTreeMap<PeerId, Register>,
}

impl Quorum {
    /// A peer of a group with this W and R.
    pub fn with(me: PeerId, nodes: usize, counts: Counts) -> Self {
        Self {
            me,
            nodes,
            counts,
            state: State::default(),
            operations: BTreeMap::new(),
            hints: BTreeMap::new(),
        }
    }

    fn everybody(&self) -> std::ops::RangeInclusive<PeerId> {
        1..=self.nodes
    }

    fn put(&mut self, cx: &mut Context<'_, Self>, from: PeerId, number: u64, register: Register) {
        let known = self.state.held.version.0.max(self.state.taken.version.0);
        if register.version.0 > known {
            self.state.held = register;
            self.state.taken = register;
            cx.send_durable(self.state, from, Message::Took(number));
        } else if register == self.state.taken {
            cx.send_durable(self.state, from, Message::Took(number));
        } else {
            cx.send_durable(self.state, from, Message::Refused(number, self.state.held));
        }
    }

    fn repair(&mut self, cx: &mut Context<'_, Self>, register: Register) {
        if register.version > self.state.held.version {
            self.state.held = register;
            cx.persist(self.state, |_| {});
        }
    }

    fn took(&mut self, cx: &mut Context<'_, Self>, from: PeerId, number: u64) {
        let needed = self.counts.write;
        if let Some(Operation::Write {
            register,
            took,
            told,
        }) = self.operations.get_mut(&number)
        {
            took.insert(from);
            if took.len() >= needed && !*told {
                *told = true;
                cx.decide(Decision::Written {
                    value: register.value,
                    version: register.version,
                });
            }
            if took.len() == self.nodes {
                self.close(cx, number);
            }
        }
    }

    fn got(&mut self, cx: &mut Context<'_, Self>, from: PeerId, number: u64, register: Register) {
        let needed = match misbehaves(PeerBug::ReadFirst) {
            true => 1,
            false => self.counts.read,
        };
        if let Some(Operation::Read {
            number: read,
            got,
            told,
        }) = self.operations.get_mut(&number)
        {
            got.insert(from, register);
            if got.len() >= needed && !*told {
                *told = true;
                let latest = got.values().max_by_key(|r| r.version);
                let Register { version, value } = latest.copied().unwrap_or_default();
                cx.decide(Decision::Read {
                    number: *read,
                    value,
                    version,
                });
            }
            if got.len() == self.nodes {
                self.close(cx, number);
            }
        }
    }

    /// Nothing more is waited for: who lacks something gets it.
    fn close(&mut self, cx: &mut Context<'_, Self>, number: u64) {
        cx.cancel_timer(Timer::GiveUp(number));
        match self.operations.remove(&number) {
            Some(Operation::Write {
                register,
                mut took,
                mut told,
            }) => {
                for peer in others(self.me, self.nodes).filter(|peer| !took.contains(peer)) {
                    let hint = self.hints.entry(peer).or_insert(register);
                    if register.version > hint.version {
                        *hint = register;
                    }
                }
                if misbehaves(PeerBug::CountHints) && !told {
                    took.extend(self.everybody());
                    told = true;
                    cx.decide(Decision::Written {
                        value: register.value,
                        version: register.version,
                    });
                }
                if !told {
                    cx.decide(Decision::Failed(register.value));
                }
            }
            Some(Operation::Read { number, got, told }) => {
                if !told {
                    cx.decide(Decision::Unanswered(number));
                }
                let latest = got.values().max_by_key(|r| r.version).copied();
                let latest = latest.unwrap_or_default();
                let late = got.iter().filter(|(_, r)| r.version < latest.version);
                cx.send_each(late.map(|(peer, _)| *peer), &Message::Repair(latest));
            }
            None => {}
        }
    }

    fn open(&mut self, cx: &mut Context<'_, Self>, operation: Operation, word: Message) {
        let number = match &word {
            Message::Put(number, _) | Message::Get(number) => *number,
            _ => return,
        };
        self.operations.insert(number, operation);
        cx.send_each(self.everybody(), &word);
        cx.set_timer(Timer::GiveUp(number), GIVE_UP_US);
    }
}

impl Peer for Quorum {
    type Message = Message;
    type Timer = Timer;
    type State = State;
    type Request = Request;
    type Decision = Decision;

    const HEADER: Header = Choice::Majority.header();

    fn new(me: PeerId, nodes: usize) -> Self {
        Self::with(me, nodes, Choice::Majority.counts(nodes))
    }

    fn handle_start(&mut self, cx: &mut Context<'_, Self>, recovered: Option<State>) {
        self.state = recovered.unwrap_or_default();
        cx.set_timer(Timer::HandOff, HAND_OFF_US);
    }

    fn handle_message(&mut self, cx: &mut Context<'_, Self>, from: PeerId, message: Message) {
        match message {
            Message::Put(number, register) => self.put(cx, from, number, register),
            Message::Took(number) => self.took(cx, from, number),
            Message::Refused(number, register) => {
                // Another write was first: the next one from here counts on from it.
                self.repair(cx, register);
                let beyond = match self.operations.get(&number) {
                    Some(Operation::Write { register, told, .. }) if !told => Some(register.value),
                    _ => None,
                };
                if let (Some(value), true) = (beyond, self.counts.write == self.nodes) {
                    self.operations.remove(&number);
                    cx.cancel_timer(Timer::GiveUp(number));
                    cx.decide(Decision::Failed(value));
                }
            }
            Message::Get(number) => {
                // What is not on disk yet could be gone after it was read.
                cx.send_durable(self.state, from, Message::Got(number, self.state.held));
            }
            Message::Got(number, register) => self.got(cx, from, number, register),
            Message::Repair(register) => {
                self.repair(cx, register);
                let version = self.state.held.version;
                cx.send_durable(self.state, from, Message::Repaired(version));
            }
            Message::Repaired(version) => {
                if self.hints.get(&from).is_some_and(|h| h.version <= version) {
                    self.hints.remove(&from);
                }
            }
        }
    }

    fn handle_timer(&mut self, cx: &mut Context<'_, Self>, timer: Timer) {
        match timer {
            Timer::GiveUp(number) => self.close(cx, number),
            Timer::HandOff => {
                for (peer, register) in &self.hints {
                    cx.send(*peer, Message::Repair(*register));
                }
                cx.set_timer(Timer::HandOff, HAND_OFF_US);
            }
        }
    }

    fn handle_request(&mut self, cx: &mut Context<'_, Self>, request: Request) {
        let number = cx.rng.next_u64();
        match request {
            Request::Write(value) => {
                let known = self.state.held.version.0.max(self.state.taken.version.0);
                let version = (known + 1, self.me);
                let register = Register { version, value };
                let operation = Operation::Write {
                    register,
                    took: BTreeSet::new(),
                    told: false,
                };
                self.open(cx, operation, Message::Put(number, register));
            }
            Request::Read(read) => {
                let operation = Operation::Read {
                    number: read,
                    got: BTreeMap::new(),
                    told: false,
                };
                self.open(cx, operation, Message::Get(number));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Choice, Counts};

    #[test]
    fn m27_which_w_and_r_are_fresh_and_exclusive() {
        let of = |write, read| {
            let counts = Counts { write, read };
            (counts.is_fresh(3), counts.is_exclusive(3))
        };
        assert_eq!(of(3, 1), (true, true));
        assert_eq!(of(2, 2), (true, true));
        assert_eq!(of(1, 3), (true, false));
        assert_eq!(of(1, 1), (false, false));
        assert_eq!(of(2, 1), (false, true));
        for nodes in 2..=9 {
            let majority = Choice::Majority.counts(nodes);
            assert!(majority.is_fresh(nodes) && majority.is_exclusive(nodes));
        }
    }
}
