//! Several groups joined by a network that moves only when told. Each file of `testscripts/` holds commands,
//! `----`, and the transcript: what every group yields, until none has anything more to say.
//!
//! ```text
//! group ID.. [seed N] [election N] [log-bytes N] [hibernate N] [behind N]
//!                                  voters, as if N entries (1 if not told) of term N were applied and trimmed
//! empty ID..                       replicas that a leader will fill
//! tick ID N · campaign ID · propose ID DATA
//! hold ID · persist ID [N]         syncs wait; then the N oldest (or all) are done
//! restart ID                       from what was synced; messages under way to and from it stay
//! deliver [FROM->TO]               what is under way now, of that pair (`*` is anyone)
//! drop FROM->TO                    loses what is under way now
//! go                               deliver until nothing is under way, without a transcript
//! partition A,B | C,D · heal       messages between the sides are lost from now on
//! read-index ID NAME · transfer ID TO
//! add-learner ID NEW · change ID [promote X] [remove X] ..
//! snapshot ID                      offers the applied state to whoever is too far behind
//! wake ID                          it ticks again
//! elections SEED ID N              ticks that one alone waits before each of N elections
//! state                            everyone's, with what was applied
//! ```
//!
//! Every message passes through our codec on its way.

use base::{NodeId, Reader, ReplicaId, Rng, Writer};
use bytes::Bytes;
use replication::raft::log::SnapshotOffer;
use replication::raft::{
    Change, Entry, EntryType, Group, GroupConfig, GroupLog, Membership, Message, MessageType,
    Persist, Ready, Replica, Role, decode_message, encode_message,
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write as _;

/// What a replica's disk holds: all that a restart gets back.
#[derive(Clone, Default)]
struct Disk {
    membership: Membership,
    before: (u64, u64),
    entries: Vec<Entry>,
    term: u64,
    vote: u64,
    /// What was applied at `before`.
    state: Vec<String>,
}

pub struct Member {
    pub group: Group,
    disk: Disk,
    held: Option<VecDeque<Persist>>,
    /// What was applied, in order; the replicated machine.
    pub state: Vec<String>,
    applied: (u64, u64),
    arriving: Vec<String>,
    seen: (Role, u64, u64),
}

struct Flight {
    from: u64,
    to: u64,
    what: Parcel,
}

enum Parcel {
    Message(Bytes),
    /// The leader says that the group sleeps: in which term, with which last index.
    Sleep(u64, u64),
}

#[derive(Default)]
pub struct Sim {
    config: GroupConfig,
    seed: u64,
    pub members: BTreeMap<u64, Member>,
    flights: VecDeque<Flight>,
    sides: Vec<BTreeSet<u64>>,
    quiet: bool,
    out: String,
}

macro_rules! say {
    ($sim:expr, $($what:tt)*) => {
        if !$sim.quiet {
            writeln!($sim.out, $($what)*).expect("a string takes everything");
        }
    };
}

fn replica(id: u64) -> Replica {
    Replica {
        id: ReplicaId(id),
        node: NodeId(id),
        address: format!("node{id}:7401"),
    }
}

/// Deliveries after which a script is taken to go round in circles.
const DELIVERIES_MAX: usize = 10_000;

impl Sim {
    /// Runs a script; its transcript.
    pub fn run(&mut self, script: &str) -> String {
        for line in script.lines() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let before = self.out.len();
            self.command(line);
            if self.out.len() > before {
                self.out.insert_str(before, &format!("> {line}\n"));
            }
        }
        std::mem::take(&mut self.out)
    }

    fn member(&mut self, id: u64) -> &mut Member {
        self.members
            .get_mut(&id)
            .expect("the script names a member")
    }

    fn command(&mut self, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let number = |i: usize| -> u64 { words[i].parse().expect("a number") };
        match words[0] {
            "group" => self.found(&words[1..]),
            "empty" => {
                for word in &words[1..] {
                    self.add(word.parse().expect("a number"), Disk::default());
                }
            }
            "tick" => {
                for _ in 0..number(2) {
                    self.member(number(1)).group.tick();
                    self.hibernate(number(1));
                    self.settle();
                }
            }
            "campaign" => self.member(number(1)).group.campaign(),
            "propose" => {
                let taken = (self.member(number(1)).group).propose(words[2].as_bytes().to_vec());
                self.note_refusal(taken);
            }
            "hold" => {
                self.member(number(1)).held.get_or_insert_default();
            }
            "persist" => self.persist_held(number(1), words.get(2).map(|_| number(2))),
            "restart" => {
                let disk = self.members.remove(&number(1)).expect("a member").disk;
                self.add(number(1), disk);
            }
            "deliver" => {
                let flights = self.take(words.get(1).copied().unwrap_or("*->*"));
                for flight in flights {
                    self.deliver(flight);
                }
            }
            "drop" => {
                let n = self.take(words[1]).len();
                say!(self, "{n} lost");
            }
            "go" => self.go(),
            "partition" => {
                self.sides = (line["partition".len()..].split('|'))
                    .map(|side| {
                        let ids = side.trim().split(',');
                        ids.map(|id| id.parse().expect("a number")).collect()
                    })
                    .collect();
            }
            "heal" => self.sides.clear(),
            "read-index" => {
                let name = words[2].as_bytes().to_vec();
                self.member(number(1)).group.read_index(name);
            }
            "transfer" => {
                let to = ReplicaId(number(2));
                self.member(number(1)).group.transfer_leader(to);
            }
            "add-learner" => {
                let change = Change::AddLearner(replica(number(2)));
                let taken = self.member(number(1)).group.propose_membership(&[change]);
                self.note_refusal(taken);
            }
            "change" => {
                let changes: Vec<Change> = (words[2..].chunks(2))
                    .map(|pair| match (pair[0], pair[1].parse()) {
                        ("promote", Ok(id)) => Change::Promote(ReplicaId(id)),
                        ("remove", Ok(id)) => Change::Remove(ReplicaId(id)),
                        other => panic!("no such change: {other:?}"),
                    })
                    .collect();
                let taken = self.member(number(1)).group.propose_membership(&changes);
                self.note_refusal(taken);
            }
            "wake" => self.member(number(1)).group.wake(),
            "snapshot" => self.snapshot(number(1)),
            "elections" => self.elections(number(1), number(2), number(3)),
            "state" => {
                for (id, line) in self.members.iter().map(|(id, m)| (id, m.describe())) {
                    say!(self, "r{id} {line}");
                }
            }
            other => panic!("no such command: {other}"),
        }
        self.settle();
    }

    fn note_refusal(&mut self, taken: bool) {
        if !taken {
            say!(self, "refused");
        }
    }

    // --- members ---

    fn found(&mut self, words: &[&str]) {
        let mut ids = Vec::new();
        let mut behind = 1;
        let mut words = words.iter();
        self.config.hibernate_ticks = u32::MAX;
        while let Some(word) = words.next() {
            if let Ok(id) = word.parse::<u64>() {
                ids.push(id);
                continue;
            }
            let n: u64 = words.next().and_then(|w| w.parse().ok()).expect("a number");
            match *word {
                "seed" => self.seed = n,
                "election" => self.config.election_ticks = n as u32,
                "log-bytes" => self.config.log_bytes_max = n,
                "behind" => behind = n,
                "hibernate" => self.config.hibernate_ticks = n as u32,
                other => panic!("no such setting: {other}"),
            }
        }
        let mut membership = Membership::default();
        membership.conf.voters.clone_from(&ids);
        membership.replicas = ids
            .iter()
            .map(|id| (ReplicaId(*id), replica(*id)))
            .collect();
        for id in ids {
            let disk = Disk {
                membership: membership.clone(),
                before: (behind, behind),
                term: behind,
                ..Disk::default()
            };
            self.add(id, disk);
        }
    }

    fn add(&mut self, id: u64, disk: Disk) {
        let log = GroupLog::new(
            disk.membership.clone(),
            disk.before,
            disk.entries.clone(),
            disk.term,
            disk.vote,
            0,
        );
        let rng = Rng::new(self.seed).fork(id);
        let group = Group::new(ReplicaId(id), self.config.clone(), log, disk.before.0, rng);
        let member = Member {
            seen: (group.role(), group.term(), 0),
            group,
            state: disk.state.clone(),
            applied: disk.before,
            held: None,
            arriving: Vec::new(),
            disk,
        };
        self.members.insert(id, member);
    }

    fn snapshot(&mut self, id: u64) {
        let member = self.member(id);
        let offer = SnapshotOffer {
            index: member.applied.0,
            term: member.applied.1,
            conf: member.group.membership().conf.clone(),
            manifest: Bytes::from(member.state.join(" ")),
        };
        member.group.offer_snapshot(Some(offer));
    }

    fn hibernate(&mut self, leader: u64) {
        let group = &mut self.member(leader).group;
        if !group.may_hibernate() {
            return;
        }
        let (term, last) = (group.term(), group.last());
        group.hibernate(ReplicaId(leader), term, last);
        say!(self, "r{leader} sleeps");
        let others = self.members.keys().filter(|id| **id != leader);
        self.flights.extend(others.map(|to| Flight {
            from: leader,
            to: *to,
            what: Parcel::Sleep(term, last),
        }));
    }

    fn elections(&mut self, seed: u64, id: u64, n: u64) {
        let mut alone = Sim {
            quiet: true,
            ..Sim::default()
        };
        alone.found(&["1", "2", "3", "seed", &seed.to_string()]);
        let mut waits = Vec::new();
        while (waits.len() as u64) < n {
            let mut ticks = 0;
            alone.flights.clear();
            while alone.flights.is_empty() {
                alone.member(id).group.tick();
                alone.settle();
                ticks += 1;
            }
            waits.push(ticks);
        }
        say!(self, "seed {seed} r{id}: {waits:?}");
    }

    // --- the network ---

    fn reaches(&self, from: u64, to: u64) -> bool {
        self.sides.is_empty() || (self.sides.iter()).any(|s| s.contains(&from) && s.contains(&to))
    }

    fn take(&mut self, pair: &str) -> Vec<Flight> {
        let (from, to) = pair.split_once("->").expect("FROM->TO");
        let fits = |wanted: &str, id: u64| wanted == "*" || wanted.parse() == Ok(id);
        let (taken, left) = std::mem::take(&mut self.flights)
            .into_iter()
            .partition(|f| fits(from, f.from) && fits(to, f.to));
        self.flights = left;
        Vec::from_iter::<VecDeque<Flight>>(taken)
    }

    /// Delivers until nothing is under way, without a transcript.
    pub fn go(&mut self) {
        self.quiet = true;
        let mut deliveries = 0;
        while let Some(flight) = self.flights.pop_front() {
            self.deliver(flight);
            deliveries += 1;
            assert!(deliveries < DELIVERIES_MAX, "messages go round in circles");
        }
        self.quiet = false;
    }

    fn deliver(&mut self, flight: Flight) {
        let reaches = self.reaches(flight.from, flight.to);
        let bytes = match flight.what {
            Parcel::Message(bytes) => bytes,
            Parcel::Sleep(term, last) => {
                let (from, to) = (flight.from, flight.to);
                if reaches {
                    let group = &mut self.member(to).group;
                    group.hibernate(ReplicaId(from), term, last);
                    let does = if group.is_hibernating() {
                        "sleeps"
                    } else {
                        "stays awake"
                    };
                    say!(self, "delivered {from}->{to} Sleep, r{to} {does}");
                }
                return;
            }
        };
        let (message, at_cut) = decode_message(&mut Reader::new(&bytes), &bytes)
            .expect("what was encoded is read back");
        let line = describe(&message);
        let Some(member) = self.members.get_mut(&flight.to).filter(|_| reaches) else {
            say!(self, "lost      {line}");
            return;
        };
        match at_cut {
            Some(at_cut) => {
                let text = String::from_utf8_lossy(&message.get_snapshot().data).into_owned();
                member.arriving = text.split_whitespace().map(str::to_owned).collect();
                member.group.step_snapshot(message, at_cut);
            }
            None => member.group.step(message),
        }
        say!(self, "delivered {line}");
        self.settle();
    }

    fn send(&mut self, from: u64, message: &Message, when: &str) {
        say!(self, "r{from} {when} {}", describe(message));
        let membership = self.member(from).group.membership().clone();
        let mut w = Writer::new();
        encode_message(&mut w, message, &membership);
        let (to, bytes) = (message.to, w.into_bytes());
        let what = Parcel::Message(bytes);
        self.flights.push_back(Flight { from, to, what });
    }

    // --- work ---

    /// Takes every group's work until none has any.
    fn settle(&mut self) {
        let ids: Vec<u64> = self.members.keys().copied().collect();
        let mut settled = false;
        while !settled {
            settled = true;
            for id in &ids {
                while let Some(ready) = self.member(*id).group.poll_ready() {
                    settled = false;
                    self.ready(*id, ready);
                }
                self.note_role(*id);
            }
        }
    }

    fn note_role(&mut self, id: u64) {
        let member = self.member(id);
        let group = &member.group;
        let now = (
            group.role(),
            group.term(),
            group.leader().map_or(0, |l| l.0),
        );
        if now == member.seen {
            return;
        }
        member.seen = now;
        let (role, term, leader) = now;
        let role = format!("{role:?}").to_lowercase();
        match leader {
            0 => say!(self, "r{id} is {role} in term {term}, knows no leader"),
            _ => say!(self, "r{id} is {role} in term {term}, leader is r{leader}"),
        }
    }

    fn ready(&mut self, id: u64, ready: Ready) {
        self.note_role(id);
        for message in &ready.messages {
            self.send(id, message, "sends");
        }
        if let Some(persist) = ready.persist {
            self.write(id, persist);
        }
        for entry in ready.committed {
            let at = (entry.index, entry.term);
            if let Some(changes) = &entry.changes {
                self.member(id).group.apply_membership(changes);
                let members = describe_members(self.member(id).group.membership());
                say!(self, "r{id} applies {}/{} members {members}", at.0, at.1);
            } else if entry.data.is_empty() {
                say!(self, "r{id} applies {}/{} nothing", at.0, at.1);
            } else {
                let data = String::from_utf8_lossy(&entry.data).into_owned();
                say!(self, "r{id} applies {}/{} {data}", at.0, at.1);
                self.member(id).state.push(data);
            }
            let member = self.member(id);
            member.applied = at;
            member.group.handle_applied(at.0);
        }
        for (name, index) in ready.reads {
            let name = String::from_utf8_lossy(&name).into_owned();
            say!(self, "r{id} may read {name} once {index} is applied");
        }
    }

    fn write(&mut self, id: u64, persist: Persist) {
        if let Some((index, term)) = persist.installed {
            let member = self.member(id);
            member.state = std::mem::take(&mut member.arriving);
            member.applied = (index, term);
            say!(self, "r{id} installs a snapshot of {index}/{term}");
        }
        let mut what = Vec::new();
        if let Some((term, vote, _)) = persist.hard_state {
            what.push(format!("term {term} vote {vote}"));
        }
        what.extend(persist.entries.iter().map(describe_entry));
        let holds = self.member(id).held.is_some();
        if !what.is_empty() {
            say!(self, "r{id} writes {}", what.join(", "));
        }
        if holds {
            for message in &persist.messages_after {
                say!(self, "r{id} holds back {}", describe(message));
            }
            (self.member(id).held.as_mut().expect("it holds")).push_back(persist);
        } else {
            self.synced(id, persist);
        }
    }

    fn persist_held(&mut self, id: u64, n: Option<u64>) {
        let held = self.member(id).held.as_mut().expect("it holds");
        let n = n.map_or(held.len(), |n| n as usize);
        let steps: Vec<Persist> = held.drain(..n).collect();
        if self
            .member(id)
            .held
            .as_ref()
            .is_some_and(VecDeque::is_empty)
        {
            self.member(id).held = None;
        }
        for step in steps {
            self.synced(id, step);
        }
    }

    fn synced(&mut self, id: u64, step: Persist) {
        let member = self.member(id);
        let disk = &mut member.disk;
        if let Some(before) = step.installed {
            *disk = Disk {
                membership: member.group.membership().clone(),
                before,
                entries: Vec::new(),
                state: member.state.clone(),
                ..*disk
            };
        }
        if let Some(first) = step.entries.first() {
            disk.entries.retain(|e| e.index < first.index);
            disk.entries.extend(step.entries);
        }
        if let Some((term, vote, _)) = step.hard_state {
            (disk.term, disk.vote) = (term, vote);
        }
        member.group.handle_persisted(step.number);
        if let Some((index, _)) = step.installed {
            member.group.handle_applied(index);
        }
        for message in &step.messages_after {
            self.send(id, message, "sends, synced,");
        }
    }
}

impl Member {
    fn describe(&self) -> String {
        let g = &self.group;
        let role = format!("{:?}", g.role()).to_lowercase();
        let mut line = format!("{role} term {} ", g.term());
        let leader = g.leader().map_or("nobody".into(), |l| format!("r{}", l.0));
        write!(
            line,
            "leader {leader} last {} commit {} ",
            g.last(),
            g.commit()
        )
        .expect("a string");
        write!(line, "members {} ", describe_members(g.membership())).expect("a string");
        if g.is_hibernating() {
            line.push_str("sleeping ");
        }
        line + &format!("applied [{}]", self.state.join(" "))
    }
}

fn describe_members(m: &Membership) -> String {
    let list = |ids: &[u64]| {
        let mut ids = ids.to_vec();
        ids.sort_unstable();
        let words: Vec<String> = ids.iter().map(u64::to_string).collect();
        words.join(",")
    };
    let mut text = format!("({})", list(&m.conf.voters));
    if m.is_joint() {
        write!(text, "&&({})", list(&m.conf.voters_outgoing)).expect("a string");
    }
    if !m.conf.learners.is_empty() {
        write!(text, " learners ({})", list(&m.conf.learners)).expect("a string");
    }
    text
}

fn describe_entry(entry: &Entry) -> String {
    let what = match entry.get_entry_type() {
        EntryType::EntryNormal if entry.data.is_empty() => "nothing".into(),
        EntryType::EntryNormal => String::from_utf8_lossy(&entry.data).into_owned(),
        _ if entry.context.is_empty() => "leave joint".into(),
        _ => "members".into(),
    };
    format!("{}/{} {what}", entry.index, entry.term)
}

fn describe(m: &Message) -> String {
    use MessageType as T;
    let kind = format!("{:?}", m.get_msg_type());
    let mut text = format!("{}->{} {} term {}", m.from, m.to, &kind[3..], m.term);
    match m.get_msg_type() {
        T::MsgAppend => {
            write!(text, " behind {}/{}", m.index, m.log_term).expect("a string");
            for entry in &m.entries {
                write!(text, " [{}]", describe_entry(entry)).expect("a string");
            }
            write!(text, " commit {}", m.commit).expect("a string");
        }
        T::MsgAppendResponse if m.reject => {
            write!(
                text,
                " no at {} hint {}/{}",
                m.index, m.reject_hint, m.log_term
            )
            .expect("a string");
        }
        T::MsgAppendResponse => write!(text, " up to {}", m.index).expect("a string"),
        T::MsgRequestVote | T::MsgRequestPreVote => {
            write!(text, " log ends {}/{}", m.index, m.log_term).expect("a string");
        }
        T::MsgRequestVoteResponse | T::MsgRequestPreVoteResponse => {
            text.push_str(if m.reject { " no" } else { " yes" });
        }
        T::MsgSnapshot => {
            let at = m.get_snapshot().get_metadata();
            write!(text, " of {}/{}", at.index, at.term).expect("a string");
        }
        T::MsgHeartbeat => write!(text, " commit {}", m.commit).expect("a string"),
        T::MsgReadIndexResp => write!(text, " index {}", m.index).expect("a string"),
        _ => {}
    }
    text
}
