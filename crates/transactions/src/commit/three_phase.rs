//! Three-phase commit. Source: Skeen, "Nonblocking commit protocols" (SIGMOD 1981), with its termination
//! and recovery rules.
//!
//! Between agreement and commit, all are told that all have agreed. So whoever is left can decide when
//! the coordinator is dead: somebody knows of the agreement, and they commit; nobody does, and they abort.
//! That holds as long as "silent" means "dead"; when the network splits, each side decides for itself.
//!
//! A time-out first asks the others. (The textbook's rule, to abort or commit at a time-out without a
//! question, is wrong already when the coordinator dies having told some and not all of the agreement.)

use super::{COORDINATOR, Decision, Request, Txn};
use base::algorithm::{Family, Header, Trouble};
use base::peer::{Context, Peer, PeerId, others};
use base::planted::{PeerBug, misbehaves};
use std::collections::{BTreeMap, BTreeSet};

/// Votes and acknowledgements are waited for so long.
const ANSWERS_US: u64 = 600_000;
/// After so long without news a participant asks the others.
const SILENT_US: u64 = 1_500_000;
/// Answers to that are waited for so long.
const ASK_US: u64 = 600_000;

/// How far a peer is with a transaction. Graver is later.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Phase {
    /// It has not agreed to anything.
    Unknown,
    /// It has agreed.
    Agreed,
    /// It knows that all have agreed.
    PreCommitted,
    /// It has aborted.
    Aborted,
    /// It has committed.
    Committed,
}

/// What peers tell each other.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Message {
    /// Can you commit?
    CanCommit(Txn),
    /// Yes or no.
    Vote(Txn, bool),
    /// All can.
    PreCommit(Txn),
    /// I know.
    PreCommitted(Txn),
    /// Do it.
    DoCommit(Txn),
    /// Do not.
    Abort(Txn),
    /// I am so far and have not heard of it for long; how far are you?
    HowFar(Txn, Phase),
    /// So far; and whether I have been here all the time.
    SoFar(Txn, Phase, bool),
}

/// Names of timers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Timer {
    /// The coordinator waits for votes or acknowledgements.
    Answers(Txn),
    /// No news.
    Silent(Txn),
    /// The others' answers are in.
    Asked(Txn),
}

/// The answers to a question after news.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
struct Question {
    answers: BTreeMap<PeerId, (Phase, bool)>,
}

/// One peer. What survives a crash is how far it is with each transaction.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct ThreePhase {
    me: PeerId,
    nodes: usize,
    phases: BTreeMap<Txn, Phase>,
    /// The coordinator's transactions, with whose answer is missing.
    missing: BTreeMap<Txn, BTreeSet<PeerId>>,
    questions: BTreeMap<Txn, Question>,
    /// Transactions that were under way when this peer died: it may have missed what the others decided.
    returned: BTreeSet<Txn>,
    refused: BTreeSet<Txn>,
}

impl ThreePhase {
    fn participants(&self) -> impl Iterator<Item = PeerId> + use<> {
        others(COORDINATOR, self.nodes)
    }

    fn phase(&self, txn: Txn) -> Phase {
        self.phases.get(&txn).copied().unwrap_or(Phase::Unknown)
    }

    fn is_open(&self, txn: Txn) -> bool {
        matches!(self.phase(txn), Phase::Agreed | Phase::PreCommitted)
    }

    /// Goes on to `phase` in writing, then does what `then` emits.
    fn enter(
        &mut self,
        cx: &mut Context<'_, Self>,
        txn: Txn,
        phase: Phase,
        then: impl FnOnce(&mut Context<'_, Self>),
    ) {
        self.phases.insert(txn, phase);
        cx.persist(self.phases.clone(), then);
    }

    fn conclude(&mut self, cx: &mut Context<'_, Self>, txn: Txn, phase: Phase) {
        if self.phase(txn) >= Phase::Aborted {
            return;
        }
        self.missing.remove(&txn);
        self.questions.remove(&txn);
        self.returned.remove(&txn);
        cx.cancel_timer(Timer::Answers(txn));
        cx.cancel_timer(Timer::Silent(txn));
        cx.cancel_timer(Timer::Asked(txn));
        let (tells, participants) = (self.me == COORDINATOR, self.participants());
        self.enter(cx, txn, phase, |then| {
            let commits = phase == Phase::Committed;
            if tells {
                let word = if commits {
                    Message::DoCommit(txn)
                } else {
                    Message::Abort(txn)
                };
                then.send_each(participants, &word);
            }
            then.decide(if commits {
                Decision::Committed(txn)
            } else {
                Decision::Aborted(txn)
            });
        });
    }

    fn pre_commit(&mut self, cx: &mut Context<'_, Self>, txn: Txn, to: PeerId) {
        match self.phase(txn) {
            Phase::Agreed => {
                cx.set_timer(Timer::Silent(txn), SILENT_US);
                self.enter(cx, txn, Phase::PreCommitted, |then| {
                    then.send(to, Message::PreCommitted(txn));
                });
            }
            Phase::PreCommitted => {
                cx.send_durable(self.phases.clone(), to, Message::PreCommitted(txn));
            }
            _ => {}
        }
    }

    fn answered(&mut self, cx: &mut Context<'_, Self>, from: PeerId, txn: Txn) {
        let Some(missing) = self.missing.get_mut(&txn) else {
            return;
        };
        missing.remove(&from);
        if missing.is_empty() {
            if self.phase(txn) == Phase::Agreed {
                self.announce(cx, txn);
            } else {
                self.conclude(cx, txn, Phase::Committed);
            }
        }
    }

    /// All have agreed: all shall know.
    fn announce(&mut self, cx: &mut Context<'_, Self>, txn: Txn) {
        if misbehaves(PeerBug::CommitUnprepared) {
            self.conclude(cx, txn, Phase::Committed);
            return;
        }
        let all = self.participants();
        self.missing.insert(txn, self.participants().collect());
        self.enter(cx, txn, Phase::PreCommitted, |then| {
            then.send_each(all, &Message::PreCommit(txn));
            then.set_timer(Timer::Answers(txn), ANSWERS_US);
        });
    }

    fn ask(&mut self, cx: &mut Context<'_, Self>, txn: Txn) {
        self.questions.insert(txn, Question::default());
        let question = Message::HowFar(txn, self.phase(txn));
        cx.send_each(others(self.me, self.nodes), &question);
        cx.set_timer(Timer::Asked(txn), ASK_US);
    }

    /// Everybody who lives has answered: what follows?
    fn terminate(&mut self, cx: &mut Context<'_, Self>, txn: Txn) {
        let Some(question) = self.questions.remove(&txn) else {
            return;
        };
        let mut phases = question.answers.values().map(|(phase, _)| *phase);
        let graver = phases.clone().max().unwrap_or(Phase::Unknown);
        if graver >= Phase::Aborted {
            self.conclude(cx, txn, graver);
            return;
        }
        // Who was away may have missed an outcome that only the dead know. Somebody who was here all
        // the time knows that there was none; and so do all together.
        let returned = self.returned.contains(&txn);
        let witness = !returned || question.answers.values().any(|(_, here)| *here);
        if !witness && question.answers.len() + 1 < self.nodes {
            self.ask(cx, txn);
            return;
        }
        let agreed = phases.any(|phase| phase == Phase::PreCommitted);
        let commits = agreed || self.phase(txn) == Phase::PreCommitted;
        self.conclude(
            cx,
            txn,
            if commits {
                Phase::Committed
            } else {
                Phase::Aborted
            },
        );
    }
}

impl Peer for ThreePhase {
    type Message = Message;
    type Timer = Timer;
    type State = BTreeMap<Txn, Phase>;
    type Request = Request;
    type Decision = Decision;

    const HEADER: Header = Header {
        name: "3pc",
        family: Family::Commit,
        title: "Three-phase commit",
        source: "Skeen: Nonblocking commit protocols (SIGMOD 1981)",
        idea: "Once all have agreed, all are told so before anybody commits. When the coordinator is silent, those left ask each other: if one knows of the agreement they commit, else they abort. Nobody waits for the dead.",
        assumptions: "Processes crash and may come back with their disk; messages take less than the time-outs, and nothing is lost: who is silent is dead.",
        cost: "5n messages for n participants, 6n with acknowledgements of the commit; 3 round trips; 2n + 2 syncs before the outcome.",
        not_guaranteed: "One outcome when the network splits, messages are lost, or a process pauses: each side decides for itself.",
        choose_when: "participants must never wait for a dead coordinator, on a network that does not split.",
        avoid_when: "the network may split: replicate the coordinator of 2pc instead.",
        alternatives: &["2pc", "2pc-replicated"],
        survives: &[
            Trouble::Delay,
            Trouble::Slow,
            Trouble::Duplicate,
            Trouble::Reorder,
            Trouble::Death,
            Trouble::Crash,
        ],
    };

    fn new(me: PeerId, nodes: usize) -> Self {
        Self {
            me,
            nodes,
            phases: BTreeMap::new(),
            missing: BTreeMap::new(),
            questions: BTreeMap::new(),
            returned: BTreeSet::new(),
            refused: BTreeSet::new(),
        }
    }

    fn handle_start(&mut self, cx: &mut Context<'_, Self>, recovered: Option<Self::State>) {
        self.phases = recovered.unwrap_or_default();
        let open = self
            .phases
            .iter()
            .filter(|(_, phase)| **phase < Phase::Aborted);
        self.returned = open.map(|(txn, _)| *txn).collect();
        for txn in self.returned.clone() {
            self.ask(cx, txn);
        }
    }

    fn handle_message(&mut self, cx: &mut Context<'_, Self>, from: PeerId, message: Message) {
        match message {
            Message::CanCommit(txn) => match self.phase(txn) {
                Phase::Unknown if !self.refused.contains(&txn) => {
                    self.enter(cx, txn, Phase::Agreed, |then| {
                        then.send(from, Message::Vote(txn, true));
                        then.decide(Decision::Reserved(txn));
                        then.set_timer(Timer::Silent(txn), SILENT_US);
                    });
                }
                Phase::Unknown => {
                    self.phases.insert(txn, Phase::Aborted);
                    cx.persist(self.phases.clone(), |then| {
                        then.send(from, Message::Vote(txn, false));
                        then.decide(Decision::Aborted(txn));
                    });
                }
                phase => {
                    let answer = Message::Vote(txn, phase != Phase::Aborted);
                    cx.send_durable(self.phases.clone(), from, answer);
                }
            },
            Message::Vote(txn, true) if self.phase(txn) == Phase::Agreed => {
                self.answered(cx, from, txn);
            }
            Message::Vote(txn, false) if self.missing.contains_key(&txn) => {
                self.conclude(cx, txn, Phase::Aborted);
            }
            Message::Vote(..) => {}
            Message::PreCommit(txn) => self.pre_commit(cx, txn, from),
            Message::PreCommitted(txn) => {
                if self.phase(txn) == Phase::PreCommitted {
                    self.answered(cx, from, txn);
                }
            }
            Message::DoCommit(txn) => {
                if self.is_open(txn) {
                    self.conclude(cx, txn, Phase::Committed);
                }
            }
            Message::Abort(txn) => self.conclude(cx, txn, Phase::Aborted),
            Message::HowFar(txn, theirs) => {
                // Who never agreed will not: the asker counts on it.
                if self.phase(txn) == Phase::Unknown {
                    self.conclude(cx, txn, Phase::Aborted);
                }
                if theirs == Phase::PreCommitted && self.phase(txn) == Phase::Agreed {
                    self.phases.insert(txn, Phase::PreCommitted);
                }
                let answer = Message::SoFar(txn, self.phase(txn), !self.returned.contains(&txn));
                cx.persist(self.phases.clone(), |then| then.send(from, answer));
            }
            Message::SoFar(txn, phase, here) => {
                if let Some(question) = self.questions.get_mut(&txn) {
                    question.answers.insert(from, (phase, here));
                }
            }
        }
    }

    fn handle_timer(&mut self, cx: &mut Context<'_, Self>, timer: Timer) {
        match timer {
            Timer::Answers(txn) if self.missing.contains_key(&txn) => {
                // Without a vote nothing was agreed. Without an acknowledgement one is dead, and will ask.
                let agreed = self.phase(txn) == Phase::PreCommitted;
                self.conclude(
                    cx,
                    txn,
                    if agreed {
                        Phase::Committed
                    } else {
                        Phase::Aborted
                    },
                );
            }
            Timer::Silent(txn) if self.is_open(txn) => self.ask(cx, txn),
            Timer::Asked(txn) => self.terminate(cx, txn),
            Timer::Answers(_) | Timer::Silent(_) => {}
        }
    }

    fn handle_request(&mut self, cx: &mut Context<'_, Self>, request: Request) {
        match request {
            Request::Begin(txn) if self.me == COORDINATOR => {
                let all = self.participants();
                self.missing.insert(txn, self.participants().collect());
                self.enter(cx, txn, Phase::Agreed, |then| {
                    then.send_each(all, &Message::CanCommit(txn));
                    then.set_timer(Timer::Answers(txn), ANSWERS_US);
                });
            }
            Request::Refuse(txn) => {
                self.refused.insert(txn);
            }
            Request::Begin(_) => {}
        }
    }

    fn role(&self) -> &'static str {
        let at = |phase| self.phases.values().any(|p| *p == phase);
        match (at(Phase::PreCommitted), at(Phase::Agreed)) {
            (true, _) => "pre-committed",
            (_, true) => "agreed",
            _ => "",
        }
    }
}
