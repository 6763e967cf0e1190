//! Primary and backups: synchronous, semi-synchronous (one, or a majority), asynchronous. Source: Alsberg,
//! Day, "A principle for resilient sharing of distributed resources" (ICSE 1976); the modes as in MySQL's
//! manual; epochs, the check of the entry before, and backing up where it fails as in Ongaro, Ousterhout,
//! "In search of an understandable consensus algorithm" (ATC 2014), section 5.3.
//!
//! Who is primary is not decided here: one is appointed from outside, with an epoch that only grows. What
//! is decided here is when a write is acknowledged, and whom a new primary must have heard so that it meets
//! every acknowledged write. The two belong together: with c copies before an acknowledgement, any
//! n + 1 - c peers include one that has it.

use base::algorithm::{Family, Header, Trouble};
use base::peer::{Context, Peer, PeerId, majority, others};
use base::planted::{PeerBug, misbehaves};
use std::collections::BTreeMap;

/// Those that are behind are sent what they lack this often.
const RESEND_US: u64 = 200_000;
/// A new primary asks those it has not heard this often.
const ASK_US: u64 = 300_000;

/// Names an appointment.
pub type Epoch = u64;
/// What is written, and in which epoch.
pub type Entry = (Epoch, u64);

/// When a write is acknowledged.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Mode {
    /// Once the primary has it.
    Asynchronous,
    /// Once one more has it.
    SemiOne,
    /// Once a majority has it.
    SemiMajority,
    /// Once all have it.
    Synchronous,
}

impl Mode {
    /// All modes.
    pub const ALL: [Self; 4] = [
        Self::Synchronous,
        Self::SemiMajority,
        Self::SemiOne,
        Self::Asynchronous,
    ];

    /// Copies on disk, the primary's included, before a write is acknowledged.
    pub fn copies(self, nodes: usize) -> usize {
        match self {
            Self::Asynchronous => 1,
            Self::SemiOne => 2,
            Self::SemiMajority => majority(nodes),
            Self::Synchronous => nodes,
        }
    }

    /// Peers, itself included, that a new primary must have heard. Asynchronous replication does not wait
    /// for the old primary, which alone may have what was acknowledged; so it loses that.
    pub fn heard(self, nodes: usize) -> usize {
        match self {
            Self::Asynchronous => 1,
            _ => nodes + 1 - self.copies(nodes),
        }
    }

    /// True when nothing acknowledged is lost with the primary.
    pub fn keeps(self) -> bool {
        self != Self::Asynchronous
    }

    /// What people are told.
    pub const fn header(self) -> Header {
        let common = Header {
            name: "",
            family: Family::Replication,
            title: "",
            source: "Alsberg, Day: A principle for resilient sharing of distributed resources (ICSE 1976); MySQL's manual on semi-synchronous replication",
            idea: "",
            assumptions: "One is appointed primary from outside, with an epoch that only grows; processes crash and come back with their disk; messages may be lost, late, repeated or reordered.",
            cost: "",
            not_guaranteed: "",
            choose_when: "",
            avoid_when: "",
            alternatives: &["synchronous", "semi-majority", "semi-one", "asynchronous"],
            survives: Trouble::PASSING_AND_DEATH,
        };
        match self {
            Self::Synchronous => Header {
                name: "synchronous",
                title: "Primary and backups, synchronous",
                idea: "The primary acknowledges a write when all backups have it on disk. So any of them may become primary at once, alone, and has everything.",
                cost: "2(n - 1) messages a write; it waits for the slowest of all.",
                not_guaranteed: "Progress while any replica is slow, paused, cut off or dead: one is enough to stop all writes.",
                choose_when: "there are two or three replicas close by, and any survivor must be able to go on alone.",
                avoid_when: "writes must go on while one replica is away: use semi-majority.",
                survives: Trouble::PASSING,
                ..common
            },
            Self::SemiMajority => Header {
                name: "semi-majority",
                title: "Primary and backups, semi-synchronous by majority",
                idea: "The primary acknowledges a write when a majority has it on disk. A new primary hears as many that it must meet one of them, and takes the longest log of the latest epoch.",
                cost: "2(n - 1) messages a write; it waits for the median replica.",
                not_guaranteed: "Progress while half or more are away.",
                choose_when: "neither a write nor a failover may wait for one replica. This is what raft does, which also elects.",
                avoid_when: "there are two replicas only.",
                ..common
            },
            Self::SemiOne => Header {
                name: "semi-one",
                title: "Primary and backups, semi-synchronous with one",
                idea: "The primary acknowledges a write when one backup has it on disk. A new primary has to hear all others but one: any of them may be the one.",
                cost: "2(n - 1) messages a write; it waits for the fastest backup.",
                not_guaranteed: "A failover while two are away: nobody can tell what they have. Systems that fail over all the same lose what was acknowledged.",
                choose_when: "writes must be fast, and at most one machine is lost at a time.",
                avoid_when: "two may be away at once.",
                ..common
            },
            Self::Asynchronous => Header {
                name: "asynchronous",
                title: "Primary and backups, asynchronous",
                idea: "The primary acknowledges a write when it has it on its own disk; backups get it a little later. When the primary dies, another takes over with what it has.",
                cost: "2(n - 1) messages a write; it waits for nobody.",
                not_guaranteed: "What was acknowledged last: it dies with the primary, and is dropped when that comes back. The lab counts and names it.",
                choose_when: "speed and availability matter more than the last writes, as in a cache.",
                avoid_when: "an acknowledgement must mean something.",
                ..common
            },
        }
    }
}

/// What a user, or who appoints, asks of a peer.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Request {
    /// Be primary, in this epoch, which is later than all before.
    Promote(Epoch),
    /// Write this; ignored by who is not primary.
    Write(u64),
}

/// What a peer tells its user.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Decision {
    /// It is primary now, with these values.
    Leads {
        /// Since which appointment.
        epoch: Epoch,
        /// All values, in their order.
        values: Vec<u64>,
    },
    /// This value is kept, as far as the mode promises.
    Acknowledged(u64),
    /// A backup has dropped these, for its primary does not have them.
    Dropped(Vec<u64>),
}

/// What peers tell each other. Positions count entries: `after` 0 is the beginning.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Message {
    /// Take these entries, which come after that one.
    Append {
        /// The primary's epoch.
        epoch: Epoch,
        /// The position of the entry before.
        after: usize,
        /// And its epoch.
        after_epoch: Epoch,
        /// The entries.
        entries: Vec<Entry>,
    },
    /// All up to here is on my disk.
    Appended(Epoch, usize),
    /// I do not have the entry before; try from here.
    Behind(Epoch, usize),
    /// I shall be primary; what do you have?
    HowFar(Epoch),
    /// This.
    SoFar(Epoch, Vec<Entry>),
    /// There is a later epoch.
    Later(Epoch),
}

/// Names of timers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Timer {
    /// Send those that are behind what they lack.
    Resend,
    /// Ask those not heard.
    Ask,
}

/// What survives a crash.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct State {
    epoch: Epoch,
    log: Vec<Entry>,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Stage {
    Backup,
    /// Appointed, and asking what the others have.
    Asking(BTreeMap<PeerId, Vec<Entry>>),
    /// Who has how much, and how much of it is acknowledged.
    Leading(BTreeMap<PeerId, usize>, usize),
}

/// One peer.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct PrimaryBackup {
    me: PeerId,
    nodes: usize,
    mode: Mode,
    state: State,
    stage: Stage,
}

fn rank(log: &[Entry]) -> (Epoch, usize) {
    (log.last().map_or(0, |(epoch, _)| *epoch), log.len())
}

fn values(log: &[Entry]) -> Vec<u64> {
    log.iter().map(|(_, value)| *value).collect()
}

impl PrimaryBackup {
    /// A peer of a group that acknowledges like this.
    pub fn acknowledging(me: PeerId, nodes: usize, mode: Mode) -> Self {
        Self {
            me,
            nodes,
            mode,
            state: State::default(),
            stage: Stage::Backup,
        }
    }

    fn append_after(&self, after: usize) -> Message {
        Message::Append {
            epoch: self.state.epoch,
            after,
            after_epoch: rank(&self.state.log[..after]).0,
            entries: self.state.log[after..].to_vec(),
        }
    }

    /// A later epoch was heard of: whatever this was, it is a backup now.
    fn follow(&mut self, epoch: Epoch) {
        if epoch > self.state.epoch {
            self.state.epoch = epoch;
            self.stage = Stage::Backup;
        }
    }

    fn ask(&mut self, cx: &mut Context<'_, Self>) {
        if let Stage::Asking(answers) = &self.stage {
            let missing = others(self.me, self.nodes).filter(|p| !answers.contains_key(p));
            cx.send_each(missing, &Message::HowFar(self.state.epoch));
            cx.set_timer(Timer::Ask, ASK_US);
            self.take_over(cx);
        }
    }

    fn take_over(&mut self, cx: &mut Context<'_, Self>) {
        let Stage::Asking(answers) = &self.stage else {
            return;
        };
        let enough = answers.len() + 1 >= self.mode.heard(self.nodes);
        if !enough && !misbehaves(PeerBug::PromoteUnheard) {
            return;
        }
        let best = answers.values().max_by_key(|log| rank(log));
        if let Some(best) = best.filter(|best| rank(best) > rank(&self.state.log)) {
            self.state.log = best.clone();
        }
        self.stage = Stage::Leading(BTreeMap::new(), self.state.log.len());
        let (me, nodes, epoch) = (self.me, self.nodes, self.state.epoch);
        let (append, len) = (
            self.append_after(self.state.log.len()),
            self.state.log.len(),
        );
        let values = values(&self.state.log);
        cx.decide(Decision::Leads { epoch, values });
        cx.persist(self.state.clone(), |then| {
            then.send(me, Message::Appended(epoch, len));
            then.send_each(others(me, nodes), &append);
            then.set_timer(Timer::Resend, RESEND_US);
        });
    }

    fn write(&mut self, cx: &mut Context<'_, Self>, value: u64) {
        if !matches!(self.stage, Stage::Leading(..)) {
            return;
        }
        let before = self.state.log.len();
        self.state.log.push((self.state.epoch, value));
        cx.send_each(others(self.me, self.nodes), &self.append_after(before));
        let mine = Message::Appended(self.state.epoch, before + 1);
        cx.send_durable(self.state.clone(), self.me, mine);
    }

    fn appended(&mut self, cx: &mut Context<'_, Self>, from: PeerId, upto: usize) {
        let copies = match misbehaves(PeerBug::AcknowledgeAlone) {
            true => 1,
            false => self.mode.copies(self.nodes),
        };
        let Stage::Leading(matched, acknowledged) = &mut self.stage else {
            return;
        };
        let known = matched.entry(from).or_default();
        *known = (*known).max(upto);
        let mut all: Vec<usize> = matched.values().copied().collect();
        all.sort_unstable_by(|a, b| b.cmp(a));
        let reached = all.get(copies - 1).copied().unwrap_or(0);
        while *acknowledged < reached.min(self.state.log.len()) {
            cx.decide(Decision::Acknowledged(self.state.log[*acknowledged].1));
            *acknowledged += 1;
        }
    }

    fn append(
        &mut self,
        cx: &mut Context<'_, Self>,
        from: PeerId,
        (after, after_epoch): (usize, Epoch),
        entries: Vec<Entry>,
    ) {
        let epoch = self.state.epoch;
        let log = &mut self.state.log;
        if after > log.len() || rank(&log[..after]).0 != after_epoch {
            let try_from = after.saturating_sub(1).min(log.len());
            cx.send_durable(self.state.clone(), from, Message::Behind(epoch, try_from));
            return;
        }
        let upto = after + entries.len();
        let mut dropped = Vec::new();
        for (i, entry) in entries.into_iter().enumerate() {
            let at = after + i;
            if log.get(at).is_some_and(|have| have.0 != entry.0) {
                dropped = values(&log[at..]);
                log.truncate(at);
            }
            if at == log.len() {
                log.push(entry);
            }
        }
        cx.persist(self.state.clone(), |then| {
            if !dropped.is_empty() {
                then.decide(Decision::Dropped(dropped));
            }
            then.send(from, Message::Appended(epoch, upto));
        });
    }
}

impl Peer for PrimaryBackup {
    type Message = Message;
    type Timer = Timer;
    type State = State;
    type Request = Request;
    type Decision = Decision;

    const HEADER: Header = Mode::SemiMajority.header();

    fn new(me: PeerId, nodes: usize) -> Self {
        Self::acknowledging(me, nodes, Mode::SemiMajority)
    }

    fn handle_start(&mut self, _: &mut Context<'_, Self>, recovered: Option<State>) {
        self.state = recovered.unwrap_or_default();
    }

    fn handle_message(&mut self, cx: &mut Context<'_, Self>, from: PeerId, message: Message) {
        match message {
            Message::Append { epoch, .. } | Message::HowFar(epoch) if epoch < self.state.epoch => {
                cx.send(from, Message::Later(self.state.epoch));
            }
            Message::Append {
                epoch,
                after,
                after_epoch,
                entries,
            } => {
                self.follow(epoch);
                self.append(cx, from, (after, after_epoch), entries);
            }
            Message::HowFar(epoch) => {
                self.follow(epoch);
                let answer = Message::SoFar(epoch, self.state.log.clone());
                cx.send_durable(self.state.clone(), from, answer);
            }
            Message::SoFar(epoch, log) if epoch == self.state.epoch => {
                if let Stage::Asking(answers) = &mut self.stage {
                    answers.insert(from, log);
                    self.take_over(cx);
                }
            }
            Message::Appended(epoch, upto) if epoch == self.state.epoch => {
                self.appended(cx, from, upto);
            }
            Message::Behind(epoch, have) if epoch == self.state.epoch => {
                if matches!(self.stage, Stage::Leading(..)) {
                    cx.send(from, self.append_after(have.min(self.state.log.len())));
                }
            }
            Message::Later(epoch) => self.follow(epoch),
            Message::SoFar(..) | Message::Appended(..) | Message::Behind(..) => {}
        }
    }

    fn handle_timer(&mut self, cx: &mut Context<'_, Self>, timer: Timer) {
        match timer {
            Timer::Ask => self.ask(cx),
            Timer::Resend => {
                let Stage::Leading(matched, _) = &self.stage else {
                    return;
                };
                let len = self.state.log.len();
                for peer in others(self.me, self.nodes) {
                    // Of whom nothing is known yet, the end is tried first: it says where it is.
                    let has = matched.get(&peer).copied();
                    if has != Some(len) {
                        cx.send(peer, self.append_after(has.unwrap_or(len).min(len)));
                    }
                }
                cx.set_timer(Timer::Resend, RESEND_US);
            }
        }
    }

    fn handle_request(&mut self, cx: &mut Context<'_, Self>, request: Request) {
        match request {
            Request::Promote(epoch) if epoch > self.state.epoch => {
                self.state.epoch = epoch;
                self.stage = Stage::Asking(BTreeMap::new());
                cx.persist(self.state.clone(), |then| then.set_timer(Timer::Ask, 0));
            }
            Request::Promote(_) => {}
            Request::Write(value) => self.write(cx, value),
        }
    }

    fn role(&self) -> &'static str {
        match self.stage {
            Stage::Backup => "follower",
            Stage::Asking(_) => "candidate",
            Stage::Leading(..) => "leader",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Mode;

    #[test]
    fn m26_whom_a_new_primary_hears_meets_every_acknowledged_write() {
        for nodes in 2..=9 {
            for mode in Mode::ALL {
                assert_eq!(
                    mode.copies(nodes) + mode.heard(nodes) > nodes,
                    mode.keeps(),
                    "{mode:?} of {nodes}"
                );
            }
        }
    }
}
