//! Raft as the product runs it: the `Group` of `replication`, as one more peer. It stands here and not in
//! a chapter because it is made of both the engine and the language of elections.

use base::algorithm::{Family, Header, Trouble};
use base::peer::{Context, Peer, PeerId};
use base::planted::{PeerBug, misbehaves};
use base::{NodeId, ReplicaId};
use coordination::election::{Decision, Request};
use replication::raft::{
    Entry, Group, GroupConfig, GroupLog, Membership, Message as RaftMessage, Ready, Replica,
};
use std::collections::BTreeMap;

/// The engine's number of a heartbeat, in `eraftpb.proto`.
const MSG_HEARTBEAT: i32 = 8;
/// And of answers: to entries, to a candidate, to a heartbeat.
const ANSWERS: [i32; 3] = [4, 6, 9];

/// How a replica runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Settings {
    /// Between ticks of the engine, in microseconds.
    pub tick_us: u64,
    /// Least election time-out, in ticks.
    pub election_ticks: u32,
    /// Up to so many ticks are added to it at random.
    pub spread_ticks: u32,
    /// Between heartbeats, in ticks.
    pub heartbeat_ticks: u32,
    /// Ask before standing, and the like (`GroupConfig::pre_vote`).
    pub pre_vote: bool,
    /// How much longer than its sync an answer takes to leave, in microseconds.
    pub answer_us: u64,
}

impl Settings {
    /// As the product runs: election time-outs of 150 to 300 ms.
    pub fn usual() -> Self {
        let config = GroupConfig::default();
        Self {
            tick_us: 10_000,
            election_ticks: config.election_ticks,
            spread_ticks: config.election_spread_ticks,
            heartbeat_ticks: config.heartbeat_ticks,
            pre_vote: config.pre_vote,
            answer_us: 0,
        }
    }
}

/// Names of timers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Timer {
    /// The engine's clock.
    Tick,
    /// An answer that was held back leaves.
    Answer(u64),
}

/// What peers tell each other.
#[derive(Clone, Debug)]
pub enum Message {
    /// The engine's own.
    Raft(Box<RaftMessage>),
    /// To oneself: what this step wrote is durable.
    Persisted(u64),
}

/// What survives a crash.
#[derive(Clone, Debug, Default)]
pub struct State {
    term: u64,
    vote: u64,
    entries: Vec<Entry>,
}

/// One replica.
pub struct Raft {
    me: PeerId,
    nodes: usize,
    settings: Settings,
    state: State,
    group: Option<Group>,
    told: Option<(PeerId, u64)>,
    /// Answers held back, by number.
    held: BTreeMap<u64, RaftMessage>,
    answers: u64,
}

fn send(cx: &mut Context<'_, Raft>, message: RaftMessage) {
    cx.send(message.to as PeerId, Message::Raft(Box::new(message)));
}

impl Raft {
    /// A replica that runs like this.
    pub fn with(me: PeerId, nodes: usize, settings: Settings) -> Self {
        Self {
            me,
            nodes,
            settings,
            state: State::default(),
            group: None,
            told: None,
            held: BTreeMap::new(),
            answers: 0,
        }
    }

    /// Sends now, but an answer when its time has come.
    fn emit(&mut self, cx: &mut Context<'_, Self>, message: RaftMessage) {
        let is_answer = ANSWERS.contains(&(message.msg_type as i32));
        if self.settings.answer_us == 0 || !is_answer {
            return send(cx, message);
        }
        self.answers += 1;
        self.held.insert(self.answers, message);
        cx.set_timer(Timer::Answer(self.answers), self.settings.answer_us);
    }

    fn work(&mut self, cx: &mut Context<'_, Self>) {
        while let Some(ready) = self.group.as_mut().and_then(Group::poll_ready) {
            self.ready(cx, ready);
        }
        let Some(group) = &self.group else { return };
        let leader = group
            .leader()
            .map(|leader| (leader.0 as PeerId, group.term()));
        if leader != self.told {
            self.told = leader;
            cx.decide(match leader {
                Some((leader, term)) => Decision::Leader { leader, term },
                None => Decision::Leaderless,
            });
        }
    }

    fn ready(&mut self, cx: &mut Context<'_, Self>, ready: Ready) {
        for message in ready.messages {
            self.emit(cx, message);
        }
        if let Some(persist) = ready.persist {
            if let Some((term, vote, _)) = persist.hard_state {
                (self.state.term, self.state.vote) = (term, vote);
            }
            if let Some(first) = persist.entries.first() {
                self.state.entries.retain(|entry| entry.index < first.index);
                self.state.entries.extend(persist.entries);
            }
            let me = self.me;
            cx.persist(self.state.clone(), |then| {
                for message in persist.messages_after {
                    self.emit(then, message);
                }
                then.send(me, Message::Persisted(persist.number));
            });
        }
        for committed in ready.committed {
            if let Ok(value) = committed.data.as_ref().try_into() {
                cx.decide(Decision::Applied {
                    position: committed.index,
                    value: u64::from_be_bytes(value),
                });
            }
            if let Some(group) = &mut self.group {
                group.handle_applied(committed.index);
            }
        }
    }
}

impl Peer for Raft {
    type Message = Message;
    type Timer = Timer;
    type State = State;
    type Request = Request;
    type Decision = Decision;

    const HEADER: Header = Header {
        name: "raft",
        family: Family::Election,
        title: "Raft",
        source: "Ongaro, Ousterhout: In Search of an Understandable Consensus Algorithm (USENIX ATC 2014); Ongaro's thesis, section 9.6, for the pre-vote",
        idea: "Time goes in terms, and everybody has one vote a term. Who hears no leader for a random time asks for votes; a majority elects, if the candidate's log is as late as the voter's. This is the engine that the product runs on.",
        assumptions: "A majority lives and comes back with its disk; messages may be lost, late, repeated or reordered. Time-outs decide only how soon.",
        cost: "4(n - 1) messages an election with its pre-vote when nobody else stands; 2(n - 1) a write, and 2(n - 1) every 40 ms as heartbeats.",
        not_guaranteed: "A leader while no majority hears each other; an old leader that has not noticed yet may still think that it leads, in its older term.",
        choose_when: "two leaders would do harm: writes of an older term never commit.",
        avoid_when: "half of the nodes may be gone and somebody must lead nevertheless: use bully, and live with two.",
        alternatives: &["zab", "bully", "chang-roberts"],
        survives: Trouble::PASSING_AND_DEATH,
    };

    fn new(me: PeerId, nodes: usize) -> Self {
        Self::with(me, nodes, Settings::usual())
    }

    fn handle_start(&mut self, cx: &mut Context<'_, Self>, recovered: Option<State>) {
        self.state = recovered.unwrap_or_default();
        let mut membership = Membership::default();
        membership.conf.voters = (1..=self.nodes as u64).collect();
        membership.replicas = (1..=self.nodes as u64)
            .map(|id| {
                let replica = Replica {
                    id: ReplicaId(id),
                    node: NodeId(id),
                    address: String::new(),
                };
                (ReplicaId(id), replica)
            })
            .collect();
        let config = GroupConfig {
            hibernate_ticks: u32::MAX,
            election_ticks: self.settings.election_ticks,
            election_spread_ticks: self.settings.spread_ticks,
            heartbeat_ticks: self.settings.heartbeat_ticks,
            pre_vote: self.settings.pre_vote,
            ..GroupConfig::default()
        };
        // As if one entry of term 1 had been applied and trimmed: the engine needs a membership to start from.
        let entries = self.state.entries.clone();
        let term = self.state.term.max(1);
        let vote = match misbehaves(PeerBug::ForgetVote) {
            false => self.state.vote,
            true => 0,
        };
        let log = GroupLog::new(membership, (1, 1), entries, term, vote, 0);
        let id = ReplicaId(self.me as u64);
        let rng = cx.rng.fork(7);
        self.group = Some(Group::new(id, config, log, 1, rng));
        // The clocks of processes are not in step.
        let first_us = cx.rng.range(1, self.settings.tick_us + 1);
        cx.set_timer(Timer::Tick, first_us);
        self.work(cx);
    }

    fn handle_message(&mut self, cx: &mut Context<'_, Self>, _: PeerId, message: Message) {
        if let (Message::Raft(message), Some(group)) = (&message, &self.group) {
            // A heartbeat says how much of the log is known to be here. Whoever has lost it falls silent; in
            // the product it would come back under another id.
            let is_heartbeat = message.msg_type as i32 == MSG_HEARTBEAT;
            if is_heartbeat && message.commit > group.last() {
                self.group = None;
            }
        }
        if let Some(group) = &mut self.group {
            match message {
                Message::Raft(message) => group.step(*message),
                Message::Persisted(number) => group.handle_persisted(number),
            }
        }
        self.work(cx);
    }

    fn handle_timer(&mut self, cx: &mut Context<'_, Self>, timer: Timer) {
        match timer {
            Timer::Tick => {
                if let Some(group) = &mut self.group {
                    group.tick();
                }
                cx.set_timer(Timer::Tick, self.settings.tick_us);
                self.work(cx);
            }
            Timer::Answer(number) => {
                if let Some(message) = self.held.remove(&number) {
                    send(cx, message);
                }
            }
        }
    }

    fn handle_request(&mut self, cx: &mut Context<'_, Self>, request: Request) {
        if let Some(group) = &mut self.group {
            match request {
                Request::Suspect => group.campaign(),
                // Who does not lead refuses.
                Request::Write(value) => {
                    group.propose(value.to_be_bytes().to_vec());
                }
            }
        }
        self.work(cx);
    }

    fn role(&self) -> &'static str {
        match &self.group {
            Some(group) if group.is_leader() => "leader",
            Some(group) if group.leader().is_some() => "follower",
            Some(_) => "candidate",
            None => "",
        }
    }
}
