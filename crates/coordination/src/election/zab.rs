//! ZAB: fast leader election, discovery, synchronization and broadcast. Source: Junqueira, Reed, Serafini,
//! "Zab: High-performance broadcast for primary-backup systems" (DSN 2011); Medeiros, "ZooKeeper's atomic
//! broadcast protocol: theory and practice" (2012) for the election and for what ZooKeeper does.
//!
//! Phases: *looking* (votes until a quorum agrees), *discovery* (a new epoch, promised by a quorum),
//! *synchronization* (a quorum has the leader's history), *broadcast*. A vote is ranked by epoch, then
//! zxid, then server. Two figures go up for different reasons: the *round* counts elections and is only
//! for telling old votes; the *epoch* counts leaderships and is written down.

use super::{Decision, Request};
use base::algorithm::{Family, Header, Trouble};
use base::peer::{Context, Peer, PeerId, majority, others};
use base::planted::{PeerBug, misbehaves};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// A quorum agrees: a better vote may still come within this time.
const FINALIZE_US: u64 = 200_000;
/// Votes are told again this often while nothing comes of them.
const NOTIFY_US: u64 = 400_000;
/// A follower knocks again this often.
const KNOCK_US: u64 = 200_000;
/// Discovery and synchronization must be over within this time.
const ESTABLISH_US: u64 = 1_500_000;
const PING_US: u64 = 100_000;
/// A leader without a quorum, or a follower without a leader, for so long looks again.
const SILENT_US: u64 = 800_000;

/// Names an entry: the epoch of its leader, and its number there.
pub type Zxid = (u64, u64);

/// A vote. The greater wins.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Ballot {
    /// Of the leadership that the candidate last followed.
    pub epoch: u64,
    /// Its last entry.
    pub zxid: Zxid,
    /// The candidate.
    pub server: PeerId,
}

/// What a server is doing, as told with votes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Status {
    /// Votes.
    Looking,
    /// Follows.
    Following,
    /// Leads.
    Leading,
    /// Has no vote.
    Observing,
}

/// The entries of a log.
pub type History = Vec<(Zxid, u64)>;

/// What peers tell each other.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Message {
    /// My vote, in this round.
    Vote(Ballot, u64, Status),
    /// I follow you; the last epoch that I promised.
    Knock(u64),
    /// This will be my epoch.
    NewEpoch(u64),
    /// Promised; the epoch and last entry of my history.
    Promise(u64, u64, Zxid),
    /// The history of this epoch; so many entries of it are committed.
    NewLeader(u64, History, usize),
    /// I have it.
    Synchronized(u64),
    /// My leadership stands.
    UpToDate(u64, usize),
    /// One more entry, at this place.
    Propose(u64, usize, Zxid, u64),
    /// I have so many.
    Ack(u64, usize),
    /// I still lead; so many entries, so many of them committed.
    Ping(u64, usize, usize),
    /// I still follow.
    Pong(u64),
}

/// Names of timers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Timer {
    /// A quorum agrees, and nothing better has come.
    Finalize,
    /// Tell the vote again.
    Notify,
    /// Knock at the leader's again.
    Knock,
    /// The leadership has not come about, or has lost its quorum, or its leader.
    Silent,
    /// Send pings.
    Ping,
}

/// What survives a crash.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub struct State {
    /// The last epoch promised.
    promised: u64,
    /// To whom: it may ask again, also after a restart of this server.
    promised_to: PeerId,
    /// The epoch of the history.
    current: u64,
    history: History,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Mode {
    Looking {
        ballot: Ballot,
        /// Votes of this round.
        votes: BTreeMap<PeerId, Ballot>,
        /// Who has a leader already, and which.
        settled: BTreeMap<PeerId, (PeerId, Status)>,
        /// A quorum agrees; the timer runs.
        finalizing: bool,
    },
    Following {
        leader: PeerId,
        /// Its epoch, once promised.
        epoch: Option<u64>,
        established: bool,
    },
    Leading {
        epoch: Option<u64>,
        /// Promises asked for before there is an epoch.
        knocks: BTreeMap<PeerId, u64>,
        promises: BTreeSet<PeerId>,
        /// Who has the history: how many entries of it.
        synced: BTreeMap<PeerId, usize>,
        established: bool,
        /// Heard since the last look.
        heard: BTreeSet<PeerId>,
    },
}

/// One server.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Zab {
    me: PeerId,
    nodes: usize,
    observers: BTreeSet<PeerId>,
    state: State,
    round: u64,
    mode: Mode,
    committed: usize,
    applied: usize,
}

impl Zab {
    /// A server of an ensemble of which these have no vote.
    pub fn with_observers(me: PeerId, nodes: usize, observers: BTreeSet<PeerId>) -> Self {
        Self {
            me,
            nodes,
            observers,
            state: State::default(),
            round: 0,
            mode: Mode::Looking {
                ballot: Ballot {
                    epoch: 0,
                    zxid: (0, 0),
                    server: me,
                },
                votes: BTreeMap::new(),
                settled: BTreeMap::new(),
                finalizing: false,
            },
            committed: 0,
            applied: 0,
        }
    }

    fn votes(&self, peer: PeerId) -> bool {
        !self.observers.contains(&peer)
    }

    fn is_quorum<'a>(&self, peers: impl Iterator<Item = &'a PeerId>) -> bool {
        let voters = peers.filter(|peer| self.votes(**peer)).count();
        voters >= majority(self.nodes - self.observers.len())
    }

    fn last(&self) -> Zxid {
        self.state.history.last().map_or((0, 0), |(zxid, _)| *zxid)
    }

    fn status(&self) -> Status {
        match self.mode {
            Mode::Leading { .. } => Status::Leading,
            _ if !self.votes(self.me) => Status::Observing,
            Mode::Looking { .. } => Status::Looking,
            Mode::Following { .. } => Status::Following,
        }
    }

    fn beats(a: &Ballot, b: &Ballot) -> bool {
        if misbehaves(PeerBug::RankByIdFirst) {
            return a.server > b.server;
        }
        a > b
    }

    // --- looking ---

    fn own_ballot(&self) -> Ballot {
        Ballot {
            epoch: self.state.current,
            zxid: self.last(),
            server: self.me,
        }
    }

    fn look(&mut self, cx: &mut Context<'_, Self>) {
        if !matches!(self.mode, Mode::Looking { .. }) {
            cx.decide(Decision::Leaderless);
        }
        for timer in [Timer::Finalize, Timer::Knock, Timer::Silent, Timer::Ping] {
            cx.cancel_timer(timer);
        }
        self.round += 1;
        let ballot = self.own_ballot();
        let votes = self.votes(self.me).then_some((self.me, ballot));
        self.mode = Mode::Looking {
            ballot,
            votes: votes.into_iter().collect(),
            settled: BTreeMap::new(),
            finalizing: false,
        };
        self.notify(cx);
        self.count(cx);
    }

    fn notify(&mut self, cx: &mut Context<'_, Self>) {
        if let Mode::Looking { ballot, .. } = &self.mode {
            let vote = Message::Vote(*ballot, self.round, self.status());
            cx.send_each(others(self.me, self.nodes), &vote);
            cx.set_timer(Timer::Notify, NOTIFY_US);
        }
    }

    fn hear_vote(
        &mut self,
        cx: &mut Context<'_, Self>,
        from: PeerId,
        theirs: Ballot,
        round: u64,
        status: Status,
    ) {
        let (me, votes, my_round) = (self.me, self.votes(self.me), self.round);
        let (own, my_status) = (self.own_ballot(), self.status());
        let counts = self.votes(from);
        let Mode::Looking {
            ballot,
            votes: cast,
            settled,
            finalizing,
        } = &mut self.mode
        else {
            // Who looks learns whom this server follows.
            let leader = match &self.mode {
                Mode::Following { leader, .. } => *leader,
                _ => me,
            };
            if matches!(status, Status::Looking | Status::Observing) {
                let told = Ballot {
                    server: leader,
                    ..own
                };
                cx.send(from, Message::Vote(told, my_round, my_status));
            }
            return;
        };
        match status {
            Status::Looking if !votes || !counts => {}
            Status::Looking if round < my_round => {
                cx.send(from, Message::Vote(*ballot, my_round, my_status));
            }
            Status::Looking => {
                let newer = round > my_round;
                let standing = if newer { own } else { *ballot };
                let better = Self::beats(&theirs, &standing);
                if newer {
                    self.round = round;
                    cast.clear();
                }
                if newer || better {
                    *ballot = if better { theirs } else { standing };
                    cast.insert(me, *ballot);
                    *finalizing = false;
                    cx.cancel_timer(Timer::Finalize);
                }
                cast.insert(from, theirs);
                if newer || better {
                    self.notify(cx);
                }
            }
            Status::Observing => {}
            Status::Following | Status::Leading => {
                settled.insert(from, (theirs.server, status));
            }
        }
        self.count(cx);
    }

    fn count(&mut self, cx: &mut Context<'_, Self>) {
        let Mode::Looking {
            ballot,
            votes,
            settled,
            finalizing,
        } = &self.mode
        else {
            return;
        };
        // A leadership that a quorum follows, and that its leader confirms, is joined.
        let standing = settled.values().find_map(|(leader, _)| {
            let follows = settled
                .iter()
                .filter(|(_, (l, _))| l == leader)
                .map(|(peer, _)| peer);
            let confirmed = settled
                .get(leader)
                .is_some_and(|(_, s)| *s == Status::Leading);
            (confirmed && self.is_quorum(follows)).then_some(*leader)
        });
        if let Some(leader) = standing {
            self.follow(cx, leader);
        } else if self.votes(self.me) {
            let agree = votes
                .iter()
                .filter(|(_, vote)| *vote == ballot)
                .map(|(peer, _)| peer);
            if !finalizing && self.is_quorum(agree) {
                cx.set_timer(Timer::Finalize, FINALIZE_US);
                if let Mode::Looking { finalizing, .. } = &mut self.mode {
                    *finalizing = true;
                }
            }
        }
    }

    // --- discovery and synchronization ---

    fn follow(&mut self, cx: &mut Context<'_, Self>, leader: PeerId) {
        cx.cancel_timer(Timer::Notify);
        cx.cancel_timer(Timer::Finalize);
        self.mode = Mode::Following {
            leader,
            epoch: None,
            established: false,
        };
        cx.set_timer(Timer::Silent, ESTABLISH_US);
        self.knock(cx);
    }

    fn knock(&mut self, cx: &mut Context<'_, Self>) {
        if let Mode::Following {
            leader,
            established: false,
            ..
        } = self.mode
        {
            cx.send(leader, Message::Knock(self.state.promised));
            cx.set_timer(Timer::Knock, KNOCK_US);
        }
    }

    fn lead(&mut self, cx: &mut Context<'_, Self>) {
        cx.cancel_timer(Timer::Notify);
        self.mode = Mode::Leading {
            epoch: None,
            knocks: BTreeMap::from([(self.me, self.state.promised)]),
            promises: BTreeSet::new(),
            synced: BTreeMap::new(),
            established: false,
            heard: BTreeSet::new(),
        };
        cx.set_timer(Timer::Silent, ESTABLISH_US);
        self.discover(cx);
    }

    /// A quorum has knocked: a new epoch.
    fn discover(&mut self, cx: &mut Context<'_, Self>) {
        let Mode::Leading {
            epoch: None,
            knocks,
            ..
        } = &self.mode
        else {
            return;
        };
        if !self.is_quorum(knocks.keys()) {
            return;
        }
        let new = knocks.values().max().copied().unwrap_or(0) + 1;
        let waiting: Vec<PeerId> = knocks.keys().copied().collect();
        if let Mode::Leading { epoch, .. } = &mut self.mode {
            *epoch = Some(new);
        }
        (self.state.promised, self.state.promised_to) = (new, self.me);
        let (me, promise) = (
            self.me,
            Message::Promise(new, self.state.current, self.last()),
        );
        cx.persist(self.state.clone(), |then| {
            then.send_each(
                waiting.into_iter().filter(|p| *p != me),
                &Message::NewEpoch(new),
            );
            then.send(me, promise);
        });
    }

    fn knocked(&mut self, cx: &mut Context<'_, Self>, from: PeerId, promised: u64) {
        let Mode::Leading {
            epoch,
            knocks,
            heard,
            established,
            ..
        } = &mut self.mode
        else {
            return;
        };
        heard.insert(from);
        let stands = *established;
        match *epoch {
            // Perhaps it promised this epoch to another one, that came to nothing: a quorum has promised it
            // to this leader. Its promise cannot be had again, and is not needed.
            Some(epoch) if stands && promised == epoch => self.synchronize(cx, from),
            // It has promised more than this leader can offer.
            Some(epoch) if promised > epoch => self.look(cx),
            Some(epoch) => cx.send_durable(self.state.clone(), from, Message::NewEpoch(epoch)),
            None => {
                knocks.insert(from, promised);
                self.discover(cx);
            }
        }
    }

    fn new_epoch(&mut self, cx: &mut Context<'_, Self>, from: PeerId, new: u64) {
        let Mode::Following { leader, epoch, .. } = &mut self.mode else {
            return;
        };
        let repeated = (new, from) == (self.state.promised, self.state.promised_to);
        if *leader != from || (new <= self.state.promised && !repeated) {
            return;
        }
        *epoch = Some(new);
        (self.state.promised, self.state.promised_to) = (new, from);
        let promise = Message::Promise(new, self.state.current, self.last());
        cx.send_durable(self.state.clone(), from, promise);
    }

    fn promised(
        &mut self,
        cx: &mut Context<'_, Self>,
        from: PeerId,
        new: u64,
        history_of: (u64, Zxid),
    ) {
        let mine = (self.state.current, self.last());
        let Mode::Leading {
            epoch,
            promises,
            established,
            ..
        } = &mut self.mode
        else {
            return;
        };
        if *epoch != Some(new) {
            return;
        }
        if history_of > mine && !*established && !misbehaves(PeerBug::RankByIdFirst) {
            // The election was wrong about who has the latest history.
            self.look(cx);
            return;
        }
        promises.insert(from);
        let all = promises.clone();
        if !self.is_quorum(all.iter()) {
            return;
        }
        if self.state.current == new {
            self.synchronize(cx, from);
        } else {
            self.state.current = new;
            let me = self.me;
            cx.send_durable(self.state.clone(), me, Message::Synchronized(new));
            for peer in all.into_iter().filter(|peer| *peer != me) {
                self.synchronize(cx, peer);
            }
        }
    }

    fn synchronize(&mut self, cx: &mut Context<'_, Self>, to: PeerId) {
        if to != self.me {
            let committed = self.committed;
            let history = self.state.history.clone();
            let word = Message::NewLeader(self.state.current, history, committed);
            cx.send_durable(self.state.clone(), to, word);
        }
    }

    fn new_leader(
        &mut self,
        cx: &mut Context<'_, Self>,
        from: PeerId,
        new: u64,
        history: History,
        committed: usize,
    ) {
        let Mode::Following { leader, epoch, .. } = &mut self.mode else {
            return;
        };
        if *leader != from || self.state.promised != new {
            return;
        }
        *epoch = Some(new);
        self.state.promised_to = from;
        // A late repetition must not take back what came behind it.
        if self.state.current < new || history.len() >= self.state.history.len() {
            self.state.current = new;
            self.state.history = history;
        }
        self.commit(cx, committed.min(self.state.history.len()));
        let have = self.state.history.len();
        cx.persist(self.state.clone(), |then| {
            then.send(from, Message::Synchronized(new));
            then.send(from, Message::Ack(new, have));
        });
    }

    fn synchronized(&mut self, cx: &mut Context<'_, Self>, from: PeerId, of: u64) {
        let entries = self.state.history.len();
        let Mode::Leading {
            epoch,
            synced,
            established,
            ..
        } = &mut self.mode
        else {
            return;
        };
        if *epoch != Some(of) {
            return;
        }
        let first = synced.len();
        synced.entry(from).or_insert(0);
        if from == self.me {
            synced.insert(from, entries);
        }
        let (stands, all) = (*established, synced.clone());
        if stands {
            if synced.len() > first {
                let committed = self.committed;
                cx.send(from, Message::UpToDate(of, committed));
            }
        } else if self.is_quorum(all.keys()) {
            if let Mode::Leading { established, .. } = &mut self.mode {
                *established = true;
            }
            // All of the history was with a quorum when it synchronized.
            self.commit(cx, entries);
            cx.decide(Decision::Leader {
                leader: self.me,
                term: of,
            });
            let me = self.me;
            let others = all.keys().copied().filter(|peer| *peer != me);
            cx.send_each(others, &Message::UpToDate(of, entries));
            cx.set_timer(Timer::Silent, SILENT_US);
            cx.set_timer(Timer::Ping, PING_US);
        }
    }

    // --- broadcast ---

    fn commit(&mut self, cx: &mut Context<'_, Self>, upto: usize) {
        self.committed = self.committed.max(upto);
        while self.applied < self.committed.min(self.state.history.len()) {
            let (_, value) = self.state.history[self.applied];
            self.applied += 1;
            let position = self.applied as u64;
            cx.decide(Decision::Applied { position, value });
        }
    }

    fn write(&mut self, cx: &mut Context<'_, Self>, value: u64) {
        let Mode::Leading {
            epoch: Some(epoch),
            established: true,
            synced,
            ..
        } = &self.mode
        else {
            return;
        };
        let (epoch, to) = (*epoch, synced.keys().copied().collect::<Vec<_>>());
        let place = self.state.history.len();
        let zxid = (epoch, place as u64 + 1);
        self.state.history.push((zxid, value));
        let me = self.me;
        cx.send_each(
            to.into_iter().filter(|peer| *peer != me),
            &Message::Propose(epoch, place, zxid, value),
        );
        cx.send_durable(self.state.clone(), me, Message::Ack(epoch, place + 1));
    }

    fn proposed(
        &mut self,
        cx: &mut Context<'_, Self>,
        from: PeerId,
        word: (u64, usize, Zxid, u64),
    ) {
        let (of, place, zxid, value) = word;
        let Mode::Following { leader, epoch, .. } = &self.mode else {
            return;
        };
        if *leader != from || *epoch != Some(of) || self.state.current != of {
            return;
        }
        let have = self.state.history.len();
        if place == have {
            self.state.history.push((zxid, value));
            cx.send_durable(self.state.clone(), from, Message::Ack(of, have + 1));
        }
    }

    fn acked(&mut self, cx: &mut Context<'_, Self>, from: PeerId, of: u64, have: usize) {
        let Mode::Leading {
            epoch,
            synced,
            established,
            ..
        } = &mut self.mode
        else {
            return;
        };
        if *epoch != Some(of) {
            return;
        }
        let known = synced.entry(from).or_insert(0);
        *known = have.max(*known);
        if !*established {
            return;
        }
        let mut counts: Vec<usize> = (synced.iter())
            .filter(|(peer, _)| !self.observers.contains(peer))
            .map(|(_, have)| *have)
            .collect();
        counts.sort_unstable_by(|a, b| b.cmp(a));
        let needed = majority(self.nodes - self.observers.len());
        if let Some(upto) = counts.get(needed - 1).copied()
            && upto > self.committed
        {
            self.commit(cx, upto);
            self.ping(cx);
        }
    }

    fn ping(&mut self, cx: &mut Context<'_, Self>) {
        if let Mode::Leading {
            epoch: Some(epoch),
            established: true,
            synced,
            ..
        } = &self.mode
        {
            let word = Message::Ping(*epoch, self.state.history.len(), self.committed);
            let me = self.me;
            cx.send_each(synced.keys().copied().filter(|peer| *peer != me), &word);
            cx.set_timer(Timer::Ping, PING_US);
        }
    }

    fn pinged(
        &mut self,
        cx: &mut Context<'_, Self>,
        from: PeerId,
        of: u64,
        entries: usize,
        committed: usize,
    ) {
        let Mode::Following {
            leader,
            epoch,
            established,
        } = &mut self.mode
        else {
            return;
        };
        if *leader != from || *epoch != Some(of) || self.state.current != of {
            return;
        }
        if !*established {
            *established = true;
            cx.cancel_timer(Timer::Knock);
            cx.decide(Decision::Leader {
                leader: from,
                term: of,
            });
        }
        cx.set_timer(Timer::Silent, SILENT_US);
        cx.send(from, Message::Pong(of));
        self.commit(cx, committed.min(self.state.history.len()));
        if self.state.history.len() < entries {
            // Something was lost on the way: the whole history again.
            cx.send(from, Message::Knock(self.state.promised));
        }
    }
}

impl Peer for Zab {
    type Message = Message;
    type Timer = Timer;
    type State = State;
    type Request = Request;
    type Decision = Decision;

    const HEADER: Header = Header {
        name: "zab",
        family: Family::Election,
        title: "ZAB: fast leader election and broadcast",
        source: "Junqueira, Reed, Serafini: Zab (DSN 2011); Medeiros: ZooKeeper's atomic broadcast protocol (2012)",
        idea: "All vote for the server with the latest history, the greater id among equals, and change their vote when they hear of a better one. Whom a quorum votes for asks a quorum to promise a new epoch, gives it its history, and leads. In the lab an even group has its last server as an observer, which follows without a vote.",
        assumptions: "A majority lives and comes back with its disk; messages may be lost, late, repeated or reordered. Time-outs decide only how soon.",
        cost: "n(n - 1) votes at the least and another n - 1 for each change of a vote, then 3 round trips with the history; 2 messages a follower for each write, and 2 every 100 ms.",
        not_guaranteed: "A leader while no majority hears each other; an old leader that has not noticed yet may still think that it leads, in its older epoch.",
        choose_when: "the one with the latest history shall lead at once, and votes shall converge without random time-outs.",
        avoid_when: "the group is large: all talk to all. raft does with less.",
        alternatives: &["raft", "bully"],
        survives: Trouble::PASSING_AND_DEATH,
    };

    fn new(me: PeerId, nodes: usize) -> Self {
        let observes = nodes >= 4 && nodes.is_multiple_of(2);
        Self::with_observers(me, nodes, observes.then_some(nodes).into_iter().collect())
    }

    fn handle_start(&mut self, cx: &mut Context<'_, Self>, recovered: Option<State>) {
        self.state = recovered.unwrap_or_default();
        self.look(cx);
    }

    fn handle_message(&mut self, cx: &mut Context<'_, Self>, from: PeerId, message: Message) {
        match message {
            Message::Vote(ballot, round, status) => {
                self.hear_vote(cx, from, ballot, round, status);
            }
            Message::Knock(promised) => self.knocked(cx, from, promised),
            Message::NewEpoch(epoch) => self.new_epoch(cx, from, epoch),
            Message::Promise(epoch, current, last) => {
                self.promised(cx, from, epoch, (current, last));
            }
            Message::NewLeader(epoch, history, committed) => {
                self.new_leader(cx, from, epoch, history, committed);
            }
            Message::Synchronized(epoch) => self.synchronized(cx, from, epoch),
            Message::UpToDate(epoch, committed) => {
                self.pinged(cx, from, epoch, 0, committed);
            }
            Message::Propose(epoch, place, zxid, value) => {
                self.proposed(cx, from, (epoch, place, zxid, value));
            }
            Message::Ack(epoch, have) => self.acked(cx, from, epoch, have),
            Message::Ping(epoch, entries, committed) => {
                self.pinged(cx, from, epoch, entries, committed);
            }
            Message::Pong(of) => {
                if let Mode::Leading { epoch, heard, .. } = &mut self.mode
                    && *epoch == Some(of)
                {
                    heard.insert(from);
                }
            }
        }
    }

    fn handle_timer(&mut self, cx: &mut Context<'_, Self>, timer: Timer) {
        match timer {
            Timer::Finalize => {
                if let Mode::Looking { ballot, .. } = &self.mode {
                    let leader = ballot.server;
                    if leader == self.me {
                        self.lead(cx);
                    } else {
                        self.follow(cx, leader);
                    }
                }
            }
            Timer::Notify => self.notify(cx),
            Timer::Knock => self.knock(cx),
            Timer::Ping => self.ping(cx),
            Timer::Silent => {
                let me = self.me;
                let quorum = match &self.mode {
                    Mode::Leading {
                        heard,
                        established: true,
                        ..
                    } => self.is_quorum(heard.iter().chain([&me])),
                    _ => false,
                };
                match &mut self.mode {
                    Mode::Leading { heard, .. } if quorum => {
                        heard.clear();
                        cx.set_timer(Timer::Silent, SILENT_US);
                    }
                    _ => self.look(cx),
                }
            }
        }
    }

    fn handle_request(&mut self, cx: &mut Context<'_, Self>, request: Request) {
        match request {
            Request::Suspect => self.look(cx),
            Request::Write(value) => self.write(cx, value),
        }
    }

    fn role(&self) -> &'static str {
        match self.mode {
            Mode::Looking { .. } => "looking",
            Mode::Leading {
                established: true, ..
            } => "leader",
            Mode::Leading { .. } => "discovery",
            Mode::Following {
                established: true, ..
            } => "follower",
            Mode::Following { .. } => "synchronizing",
        }
    }
}
