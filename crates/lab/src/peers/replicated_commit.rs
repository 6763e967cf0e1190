//! Two-phase commit over replicated participants. Source: Gray, Lamport, "Consensus on transaction commit" (ACM TODS 31(1),
//! 2006), section 5, for the idea; Corbett and others, "Spanner" (OSDI 2012), section 4.2.1, for this shape.
//!
//! The coordinator and each participant are groups of up to three, each with a log of its own by Multi-Paxos. What
//! two-phase commit writes to a disk goes into the log instead; whoever leads a group at the time speaks for it.
//! It stands here and not in a chapter because it is made of the ledger's log and of the language of commits.
//!
//! Group g begins at node g and goes on at the nodes behind it; node g tells the effects of its group.

use base::algorithm::{Family, Header, Trouble};
use base::peer::{Action, ActionOf, Context, Peer, PeerId};
use base::planted::{PeerBug, misbehaves};
use ledger::multi_paxos::{self, MultiPaxos};
use std::collections::{BTreeMap, BTreeSet};
use transactions::commit::{COORDINATOR, Decision, Request, Txn};

/// Replicas of a group.
const REPLICAS: usize = 3;
/// Who leads a group asks again for what it waits for, this often.
const ASK_US: u64 = 300_000;
/// So many rounds of asking without all votes, and the transaction is aborted.
const PATIENCE: u32 = 4;

/// A group, by the number of its first node.
pub type Group = PeerId;

/// What a group writes into its log.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Entry {
    /// The coordinator: a transaction begins.
    Begin,
    /// A participant has set aside what it needs.
    Yes,
    /// A participant refuses.
    No,
    /// The outcome: commit.
    Commit,
    /// The outcome: abort.
    Abort,
}

const ENTRIES: [Entry; 5] = [
    Entry::Begin,
    Entry::Yes,
    Entry::No,
    Entry::Commit,
    Entry::Abort,
];

/// Entries as the log's numbers.
fn number(txn: Txn, entry: Entry) -> u64 {
    txn * 8 + entry as u64
}

fn entry(number: u64) -> Option<(Txn, Entry)> {
    let entry = ENTRIES.get((number % 8) as usize)?;
    Some((number / 8, *entry))
}

/// What peers tell each other.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Message {
    /// Within a group: of its log.
    Log(Group, multi_paxos::Message),
    /// To a participant's group: can it commit?
    Prepare(Group, Txn),
    /// From this one: it can, or it cannot.
    Vote(Group, Txn, bool),
    /// To a participant's group: it commits, or it aborts.
    Outcome(Group, Txn, bool),
    /// From this one: that is in its log.
    Ack(Group, Txn),
}

/// Names of timers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Timer {
    /// Of a group's log.
    Log(Group, multi_paxos::Timer),
    /// Ask again.
    Ask,
}

/// What survives a crash: the logs, and what this node has told of its own group.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct State {
    logs: BTreeMap<Group, multi_paxos::State>,
    told: BTreeSet<(Txn, Entry)>,
}

/// What a group's log says of a transaction, and what its leader has heard.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
struct Progress {
    begun: bool,
    vote: Option<bool>,
    outcome: Option<bool>,
    /// Participants by how they voted.
    votes: BTreeMap<Group, bool>,
    acks: BTreeSet<Group>,
    asked: u32,
}

/// One node: a replica of up to three groups.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct ReplicatedTwoPhase {
    me: PeerId,
    nodes: usize,
    state: State,
    logs: BTreeMap<Group, MultiPaxos>,
    progress: BTreeMap<(Group, Txn), Progress>,
}

impl ReplicatedTwoPhase {
    /// Who keeps a group's log, in the order of their ids in it.
    fn members(&self, group: Group) -> Vec<PeerId> {
        (0..REPLICAS.min(self.nodes))
            .map(|step| (group - 1 + step) % self.nodes + 1)
            .collect()
    }

    fn participants(&self) -> impl Iterator<Item = Group> + use<> {
        (1..=self.nodes).filter(|group| *group != COORDINATOR)
    }

    fn leads(&self, group: Group) -> bool {
        self.logs.get(&group).is_some_and(MultiPaxos::leads)
    }

    /// Lets a group's log take a step, and does what it says.
    fn log(
        &mut self,
        cx: &mut Context<'_, Self>,
        group: Group,
        step: impl FnOnce(&mut MultiPaxos, &mut Context<'_, MultiPaxos>),
    ) {
        let Some(log) = self.logs.get_mut(&group) else {
            return;
        };
        let led = log.leads();
        let actions = cx.within(|inner| step(log, inner));
        let leads = log.leads();
        self.act(cx, group, actions);
        if leads && !led {
            self.ask(cx);
        }
    }

    fn act(
        &mut self,
        cx: &mut Context<'_, Self>,
        group: Group,
        actions: Vec<ActionOf<MultiPaxos>>,
    ) {
        let members = self.members(group);
        for action in actions {
            match action {
                Action::Send { to, message } => {
                    cx.send(members[to - 1], Message::Log(group, message));
                }
                Action::Persist { state, then } => {
                    self.state.logs.insert(group, state);
                    let state = self.state.clone();
                    cx.persist(state, |cx| self.act(cx, group, then));
                }
                Action::SetTimer { timer, after_us } => {
                    cx.set_timer(Timer::Log(group, timer), after_us);
                }
                Action::CancelTimer(timer) => cx.cancel_timer(Timer::Log(group, timer)),
                Action::Decide(ledger::Decision::Decided { value, .. }) => {
                    if let Some((txn, entry)) = entry(value) {
                        self.apply(cx, group, txn, entry);
                    }
                }
                Action::Decide(ledger::Decision::Refused) => {}
            }
        }
    }

    fn write(&mut self, cx: &mut Context<'_, Self>, group: Group, txn: Txn, entry: Entry) {
        self.log(cx, group, |log, cx| {
            log.handle_request(cx, number(txn, entry));
        });
    }

    /// The group's log has this entry now. Of two that exclude each other the first counts.
    fn apply(&mut self, cx: &mut Context<'_, Self>, group: Group, txn: Txn, entry: Entry) {
        let leads = self.leads(group);
        let progress = self.progress.entry((group, txn)).or_default();
        match entry {
            Entry::Begin => {
                progress.begun = true;
                if leads {
                    self.ask_one(cx, txn);
                }
            }
            Entry::Yes | Entry::No => {
                if progress.vote.is_some() || progress.outcome.is_some() {
                    return;
                }
                progress.vote = Some(entry == Entry::Yes);
                self.tell(cx, group, txn, entry);
                if leads {
                    self.send_group(cx, COORDINATOR, |_| {
                        Message::Vote(group, txn, entry == Entry::Yes)
                    });
                }
            }
            Entry::Commit | Entry::Abort => {
                if progress.outcome.is_some() {
                    return;
                }
                let commit = entry == Entry::Commit;
                progress.outcome = Some(commit);
                let refused = progress.vote == Some(false);
                if !refused {
                    self.tell(cx, group, txn, entry);
                }
                if leads && group == COORDINATOR {
                    self.ask_one(cx, txn);
                } else if leads {
                    self.send_group(cx, COORDINATOR, |_| Message::Ack(group, txn));
                }
            }
        }
    }

    /// Node g tells what has come about in group g, once.
    fn tell(&mut self, cx: &mut Context<'_, Self>, group: Group, txn: Txn, entry: Entry) {
        if group != self.me || !self.state.told.insert((txn, entry)) {
            return;
        }
        let decision = match entry {
            Entry::Yes => Decision::Reserved(txn),
            Entry::Commit => Decision::Committed(txn),
            Entry::No | Entry::Abort => Decision::Aborted(txn),
            Entry::Begin => return,
        };
        cx.persist(self.state.clone(), |then| then.decide(decision));
    }

    /// To whom a group's word goes: all of its members, of whom the one that leads it answers.
    fn send_group(
        &self,
        cx: &mut Context<'_, Self>,
        group: Group,
        word: impl Fn(Group) -> Message,
    ) {
        cx.send_each(self.members(group), &word(group));
    }

    /// As the coordinators' leader: does for every transaction what is to be done next.
    fn ask(&mut self, cx: &mut Context<'_, Self>) {
        if !self.leads(COORDINATOR) {
            return;
        }
        let open: Vec<Txn> = (self.progress.iter())
            .filter(|((group, _), progress)| *group == COORDINATOR && progress.begun)
            .filter(|(_, progress)| progress.acks.len() < self.nodes - 1)
            .map(|((_, txn), _)| *txn)
            .collect();
        for txn in open {
            self.ask_one(cx, txn);
        }
    }

    fn ask_one(&mut self, cx: &mut Context<'_, Self>, txn: Txn) {
        let all: Vec<Group> = self.participants().collect();
        let progress = self.progress.entry((COORDINATOR, txn)).or_default();
        match progress.outcome {
            Some(commit) => {
                let silent: Vec<Group> = (all.into_iter())
                    .filter(|group| !progress.acks.contains(group))
                    .collect();
                for group in silent {
                    self.send_group(cx, group, |group| Message::Outcome(group, txn, commit));
                }
            }
            None => {
                progress.asked += 1;
                let (impatient, votes) = (progress.asked > PATIENCE, progress.votes.clone());
                for group in all.into_iter().filter(|group| !votes.contains_key(group)) {
                    self.send_group(cx, group, |group| Message::Prepare(group, txn));
                }
                if impatient && misbehaves(PeerBug::TellUnwritten) {
                    for group in self.participants() {
                        self.send_group(cx, group, |group| Message::Outcome(group, txn, false));
                    }
                } else if impatient {
                    self.write(cx, COORDINATOR, txn, Entry::Abort);
                }
            }
        }
    }

    /// As the coordinators' leader: a participant has voted.
    fn voted(&mut self, cx: &mut Context<'_, Self>, group: Group, txn: Txn, yes: bool) {
        let of = self.participants().count();
        let progress = self.progress.entry((COORDINATOR, txn)).or_default();
        if progress.votes.insert(group, yes).is_some() || progress.outcome.is_some() {
            return;
        }
        if !yes {
            self.write(cx, COORDINATOR, txn, Entry::Abort);
        } else if progress.votes.len() == of && progress.votes.values().all(|yes| *yes) {
            self.write(cx, COORDINATOR, txn, Entry::Commit);
        }
    }
}

impl Peer for ReplicatedTwoPhase {
    type Message = Message;
    type Timer = Timer;
    type State = State;
    type Request = Request;
    type Decision = Decision;

    const HEADER: Header = Header {
        name: "2pc-replicated",
        family: Family::Commit,
        title: "Two-phase commit over replicated participants",
        source: "Corbett and others: Spanner (OSDI 2012), section 4.2.1; Gray, Lamport: Consensus on transaction commit (ACM TODS 2006)",
        idea: "Two-phase commit whose coordinator and participants are groups of three, each with a replicated log. What was written to a disk goes into the log; when a node dies, another one of its group leads and goes on from there.",
        assumptions: "Of each group a majority lives and comes back with its disk; messages may be lost, late, repeated or reordered.",
        cost: "20n messages for n participants, besides heartbeats: 12n - 8 words (each of four to all three of a group) and 4 for each of 2n + 2 entries in logs; 2 round trips and 3 of logs.",
        not_guaranteed: "Progress while a group has no majority: then it blocks as 2pc does.",
        choose_when: "all must agree, and nobody shall wait for a dead coordinator: this is what replaces 3pc.",
        avoid_when: "there is one copy of everything anyhow: 2pc costs a seventh.",
        alternatives: &["2pc", "3pc", "tcc"],
        survives: Trouble::PASSING_AND_DEATH,
    };

    fn new(me: PeerId, nodes: usize) -> Self {
        let mut peer = Self {
            me,
            nodes,
            state: State::default(),
            logs: BTreeMap::new(),
            progress: BTreeMap::new(),
        };
        for group in 1..=nodes {
            let members = peer.members(group);
            if let Some(place) = members.iter().position(|member| *member == me) {
                let log = MultiPaxos::new(place + 1, members.len());
                peer.logs.insert(group, log);
            }
        }
        peer
    }

    fn handle_start(&mut self, cx: &mut Context<'_, Self>, recovered: Option<State>) {
        self.state = recovered.unwrap_or_default();
        for group in self.logs.keys().copied().collect::<Vec<_>>() {
            let known = self.state.logs.get(&group).cloned();
            self.log(cx, group, |log, cx| log.handle_start(cx, known));
        }
        cx.set_timer(Timer::Ask, ASK_US);
    }

    fn handle_message(&mut self, cx: &mut Context<'_, Self>, from: PeerId, message: Message) {
        match message {
            Message::Log(group, message) => {
                let place = self.members(group).iter().position(|peer| *peer == from);
                if let Some(place) = place {
                    self.log(cx, group, |log, cx| {
                        log.handle_message(cx, place + 1, message);
                    });
                }
            }
            Message::Prepare(group, txn) if self.leads(group) => {
                let progress = self.progress.entry((group, txn)).or_default();
                match progress.vote {
                    Some(yes) => {
                        self.send_group(cx, COORDINATOR, |_| Message::Vote(group, txn, yes));
                    }
                    None => self.write(cx, group, txn, Entry::Yes),
                }
            }
            Message::Outcome(group, txn, commit) if self.leads(group) => {
                let progress = self.progress.entry((group, txn)).or_default();
                let entry = if commit { Entry::Commit } else { Entry::Abort };
                match progress.outcome {
                    Some(_) => self.send_group(cx, COORDINATOR, |_| Message::Ack(group, txn)),
                    None => self.write(cx, group, txn, entry),
                }
            }
            Message::Vote(group, txn, yes) if self.leads(COORDINATOR) => {
                self.voted(cx, group, txn, yes);
            }
            Message::Ack(group, txn) if self.leads(COORDINATOR) => {
                let progress = self.progress.entry((COORDINATOR, txn)).or_default();
                progress.acks.insert(group);
            }
            // Somebody else leads the group.
            Message::Prepare(..) | Message::Outcome(..) | Message::Vote(..) | Message::Ack(..) => {}
        }
    }

    fn handle_timer(&mut self, cx: &mut Context<'_, Self>, timer: Timer) {
        match timer {
            Timer::Log(group, timer) => {
                self.log(cx, group, |log, cx| log.handle_timer(cx, timer));
            }
            Timer::Ask => {
                self.ask(cx);
                cx.set_timer(Timer::Ask, ASK_US);
            }
        }
    }

    fn handle_request(&mut self, cx: &mut Context<'_, Self>, request: Request) {
        match request {
            Request::Begin(txn) if self.me == COORDINATOR => {
                self.write(cx, COORDINATOR, txn, Entry::Begin);
            }
            Request::Refuse(txn) => self.write(cx, self.me, txn, Entry::No),
            Request::Begin(_) => {}
        }
    }

    fn role(&self) -> &'static str {
        match self.leads(COORDINATOR) {
            true => "coordinator",
            false => "",
        }
    }
}
