//! Groups: protocols among equals between nodes. The catalog says which there are and who is of them; the core that
//! holds the meta shard runs its node's peer of each. What a peer must not forget is a small file of its own, written
//! whole; what it did is a log beside it.
//!
//! A message that is lost stays lost, as peers expect. But none is lost because a member has not heard of its group
//! yet, or is still reading its file: those wait.

use crate::admin::{GroupMember, GroupStatus};
use crate::core::Core;
use crate::desk::CallReply;
use crate::event::{Action, Level, RequestId};
use crate::frame::Frame;
use base::peer::PeerId;
use base::{ClusterId, DecodeError, LaneId, NodeId, Now, Reader, Rng, Writer};
use bytes::Bytes;
use catalog::{CatalogCommand, GROUPS_MAX, GroupRecord, META_SHARD, MemberState};
use group::{Answer, Event, Kind, Member, Out, protocols};
use journal::{DiskOp, DiskResult, FileId, Ticket};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Messages for a group that is not known here yet wait so long, in microseconds.
const STRANGE_US: u64 = 10_000_000;
/// Messages that wait for a group.
const HELD_MAX: usize = 1_000;
/// A group must be there so long after it was asked for, in microseconds.
const CREATE_US: u64 = 10_000_000;
/// Longest wait for a lock or a place, in microseconds.
const WAIT_US_MAX: u64 = 3_600_000_000;
/// Largest log that is read.
const LOG_BYTES_MAX: u32 = 16 << 20;
/// Values of a group's log that people are shown.
const LAST_SHOWN: usize = 20;

/// Something for a group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum GroupCall {
    /// Makes one. Answered when this node has it.
    Create {
        /// Its name.
        name: String,
        /// The protocol's name.
        protocol: String,
        /// Members, by node id in hexadecimal or address; empty: all members of the cluster.
        nodes: Vec<String>,
    },
    /// Ends one.
    Delete {
        /// Its name.
        name: String,
    },
    /// All of them.
    List,
    /// Enters, as the user of this node's peer. Answered when it is inside.
    Lock {
        /// The group's name.
        name: String,
        /// How long to wait, in microseconds.
        wait_us: u64,
    },
    /// Leaves.
    Unlock {
        /// The group's name.
        name: String,
        /// Only if it entered with this.
        fence: Option<u64>,
    },
    /// Puts a value into the group's log. Answered when it has its place.
    Append {
        /// The group's name.
        name: String,
        /// From 1 on.
        value: u64,
        /// How long to wait, in microseconds.
        wait_us: u64,
    },
    /// What the peer here wrote down.
    Log {
        /// The group's name.
        name: String,
    },
}

/// The answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum GroupAnswer {
    /// It was done.
    Done,
    /// Of `List`.
    Groups(Vec<GroupStatus>),
    /// Of `Lock`: it is inside, with this fence.
    Locked(u64),
    /// Of `Append`: its place.
    Appended(u64),
    /// Of `Log`.
    Log(Vec<Event>),
    /// There is no such group.
    NotFound,
    /// It was not done.
    Refused(String),
    /// It was asked for, and has not come about in time; what is to be known of that.
    Late(String),
}

/// What a ticket is of.
#[derive(Clone, Copy, Debug)]
enum Use {
    State,
    Log,
    Synced,
    Renamed,
}

#[derive(Debug)]
enum Stage {
    /// Its files are being read.
    Reading {
        state: Option<Option<Bytes>>,
        log: Option<Vec<Event>>,
        held: Vec<(PeerId, Bytes)>,
    },
    Running(Box<Member>),
}

/// This node's part in a group.
#[derive(Debug)]
struct Running {
    record: GroupRecord,
    me: PeerId,
    stage: Stage,
    /// Where the log on disk ends.
    log_end: u64,
}

impl Running {
    fn member(&mut self) -> Option<&mut Member> {
        match &mut self.stage {
            Stage::Running(member) => Some(member),
            Stage::Reading { .. } => None,
        }
    }
}

#[derive(Debug)]
struct Waiting {
    request: RequestId,
    group: u64,
    until_us: u64,
    what: &'static str,
}

/// The groups of a node.
#[derive(Debug)]
pub(crate) struct Groups {
    running: BTreeMap<u64, Running>,
    /// Of which catalog.
    index: u64,
    tickets: BTreeMap<Ticket, (u64, Use)>,
    /// Users that wait, by the token that their group knows them by.
    waiting: BTreeMap<u64, Waiting>,
    next_token: u64,
    /// Who waits for a group to be there, or to be gone: name, and which.
    asked: Vec<(RequestId, u64, String, bool)>,
    /// Messages for groups that are not known yet.
    strange: VecDeque<(u64, u64, NodeId, Bytes)>,
    rng: Rng,
}

impl Groups {
    pub(crate) fn new(rng: Rng) -> Self {
        Self {
            running: BTreeMap::new(),
            index: 0,
            tickets: BTreeMap::new(),
            waiting: BTreeMap::new(),
            next_token: 0,
            asked: Vec::new(),
            strange: VecDeque::new(),
            rng,
        }
    }

    /// When the next timer of a peer is due, in monotonic microseconds.
    pub(crate) fn deadline_us(&self) -> u64 {
        let members = self.running.values().map(|running| match &running.stage {
            Stage::Running(member) => member.deadline_us(),
            Stage::Reading { .. } => u64::MAX,
        });
        members.min().unwrap_or(u64::MAX)
    }

    /// Nobody waits for the answer to this call any more.
    pub(crate) fn handle_hung_up(&mut self, request: RequestId) {
        self.asked.retain(|(other, ..)| *other != request);
        let waits = self.waiting.iter().find(|(_, w)| w.request == request);
        if let Some(token) = waits.map(|(token, _)| *token) {
            self.forget(token);
        }
    }

    fn forget(&mut self, token: u64) -> Option<Waiting> {
        let waiting = self.waiting.remove(&token)?;
        let running = self.running.get_mut(&waiting.group);
        if let Some(member) = running.and_then(Running::member) {
            member.cancel(token);
        }
        Some(waiting)
    }
}

impl Core {
    /// What is due.
    pub(crate) fn run_groups(&mut self, now: Now) {
        if !self.holds(META_SHARD) || self.cluster == ClusterId(0) {
            return;
        }
        if self.groups.index != self.catalog_index {
            self.groups.index = self.catalog_index;
            self.update_groups(now);
        }
        let due: Vec<u64> = (self.groups.running.iter_mut())
            .filter_map(|(number, running)| {
                let member = running.member()?;
                (member.deadline_us() <= now.mono_us).then(|| member.handle_tick(now))?;
                Some(*number)
            })
            .collect();
        for number in due {
            self.take_out(now, number);
        }
        self.give_up_waiting(now);
    }

    /// Begins what the catalog has, and ends what it has not.
    fn update_groups(&mut self, now: Now) {
        let wanted = &self.catalog.groups;
        let gone: Vec<u64> = (self.groups.running.keys())
            .filter(|number| !wanted.contains_key(number))
            .copied()
            .collect();
        let new: Vec<(u64, GroupRecord)> = (wanted.iter())
            .filter(|(number, _)| !self.groups.running.contains_key(number))
            .map(|(number, record)| (*number, record.clone()))
            .collect();
        for number in gone {
            self.end_group(number);
        }
        for (number, record) in new {
            let place = record.nodes.iter().position(|node| *node == self.me.node);
            if let Some(place) = place {
                self.begin_group(now, number, record, place + 1);
            }
        }
        let catalog = &self.catalog;
        let done = |name: &str, there: bool| catalog.group_named(name).is_some() == there;
        let (done, asked): (Vec<_>, Vec<_>) = std::mem::take(&mut self.groups.asked)
            .into_iter()
            .partition(|(_, _, name, there)| done(name, *there));
        self.groups.asked = asked;
        for (request, ..) in done {
            self.group_answer(request, GroupAnswer::Done);
        }
    }

    fn begin_group(&mut self, now: Now, number: u64, record: GroupRecord, me: PeerId) {
        let strange = std::mem::take(&mut self.groups.strange);
        let (ours, strange): (VecDeque<_>, _) =
            strange.into_iter().partition(|(_, of, ..)| *of == number);
        self.groups.strange = strange;
        let stage = Stage::Reading {
            state: None,
            log: None,
            held: Vec::new(),
        };
        let running = Running {
            record,
            me,
            stage,
            log_end: 0,
        };
        self.groups.running.insert(number, running);
        self.read_group_file(number, FileId::Group(number), Use::State);
        self.read_group_file(number, FileId::GroupLog(number), Use::Log);
        for (_, _, from, bytes) in ours {
            self.group_frame(now, number, from, bytes);
        }
    }

    fn end_group(&mut self, number: u64) {
        self.groups.running.remove(&number);
        self.groups.tickets.retain(|_, (of, _)| *of != number);
        let lost: Vec<u64> = (self.groups.waiting.iter())
            .filter(|(_, waiting)| waiting.group == number)
            .map(|(token, _)| *token)
            .collect();
        for token in lost {
            if let Some(waiting) = self.groups.forget(token) {
                let words = "the group was deleted".to_owned();
                self.group_answer(waiting.request, GroupAnswer::Refused(words));
            }
        }
        for file in [FileId::Group(number), FileId::GroupLog(number)] {
            self.group_disk(DiskOp::Delete { file });
        }
    }

    // --- messages ---

    pub(crate) fn group_frame(&mut self, now: Now, number: u64, from: NodeId, bytes: Bytes) {
        let Some(running) = self.groups.running.get_mut(&number) else {
            let strange = &mut self.groups.strange;
            strange.push_back((now.mono_us + STRANGE_US, number, from, bytes));
            if strange.len() > HELD_MAX {
                strange.pop_front();
            }
            return;
        };
        let Some(peer) = running.record.nodes.iter().position(|node| *node == from) else {
            return;
        };
        match &mut running.stage {
            Stage::Reading { held, .. } => {
                if held.len() < HELD_MAX {
                    held.push((peer + 1, bytes));
                }
            }
            Stage::Running(member) => {
                let outcome = member.handle_bytes(now, peer + 1, &bytes);
                if let Err(why) = outcome {
                    self.counters.malformed += 1;
                    let message = format!("passed over what {from} said in group {number}: {why}");
                    self.log(Level::Warn, message);
                }
                self.take_out(now, number);
            }
        }
    }

    /// Does what a member wants done.
    fn take_out(&mut self, now: Now, number: u64) {
        loop {
            let Some(running) = self.groups.running.get_mut(&number) else {
                return;
            };
            let log_end = running.log_end;
            let nodes = &running.record.nodes;
            let Stage::Running(member) = &mut running.stage else {
                return;
            };
            match member.poll() {
                None => return,
                Some(Out::Send(to, bytes)) => {
                    let Some(node) = nodes.get(to - 1).copied() else {
                        continue;
                    };
                    let frame = Frame::Group {
                        group: number,
                        from: self.me.node,
                        bytes: bytes.into(),
                    };
                    self.send_to_shard(node, META_SHARD, &frame);
                }
                Some(Out::Persist(state)) => self.write_group_state(number, &state),
                Some(Out::Log(line)) => {
                    running.log_end += line.len() as u64;
                    self.group_disk(DiskOp::Write {
                        file: FileId::GroupLog(number),
                        offset: log_end,
                        bytes: line.into(),
                    });
                }
                Some(Out::LogAnew) => {
                    let lines: String = member.events().iter().map(Event::line).collect();
                    running.log_end = lines.len() as u64;
                    let file = FileId::GroupLog(number);
                    self.group_disk(DiskOp::Delete { file });
                    self.group_disk(DiskOp::Write {
                        file,
                        offset: 0,
                        bytes: lines.into(),
                    });
                }
                Some(Out::Answer(token, answer)) => {
                    let answer = match answer {
                        Answer::Locked(fence) => GroupAnswer::Locked(fence),
                        Answer::Appended(place) => GroupAnswer::Appended(place),
                    };
                    match self.groups.waiting.remove(&token) {
                        Some(waiting) => self.group_answer(waiting.request, answer),
                        // Whoever asked hung up in this very turn.
                        None => {
                            if let GroupAnswer::Locked(fence) = answer {
                                let _ = member.unlock(now, Some(fence));
                            }
                        }
                    }
                }
            }
        }
    }

    // --- files ---

    fn group_lane(&self) -> LaneId {
        self.lane_of(META_SHARD)
    }

    fn group_disk(&mut self, op: DiskOp) {
        let lane = self.group_lane();
        self.actions.push_back(Action::Disk { lane, op });
    }

    fn group_ticket(&mut self, number: u64, what: Use) -> Option<Ticket> {
        let lane = self.group_lane();
        let ticket = self.lanes.get_mut(&lane)?.journal.next_ticket();
        self.groups.tickets.insert(ticket, (number, what));
        Some(ticket)
    }

    fn read_group_file(&mut self, number: u64, file: FileId, what: Use) {
        if let Some(ticket) = self.group_ticket(number, what) {
            self.group_disk(DiskOp::Read {
                file,
                offset: 0,
                length: LOG_BYTES_MAX,
                ticket,
            });
        }
    }

    /// The whole of it, into another file that then takes the place of the old one.
    fn write_group_state(&mut self, number: u64, state: &[u8]) {
        let file = FileId::GroupPart(number);
        if let Some(ticket) = self.group_ticket(number, Use::Synced) {
            let bytes = seal(state);
            self.group_disk(DiskOp::Delete { file });
            self.group_disk(DiskOp::Write {
                file,
                offset: 0,
                bytes,
            });
            self.group_disk(DiskOp::Sync { file, ticket });
        }
    }

    /// The end of a disk operation. False when it was not for a group.
    pub(crate) fn group_disk_done(
        &mut self,
        now: Now,
        lane: LaneId,
        ticket: Ticket,
        result: &DiskResult,
    ) -> bool {
        if lane != self.group_lane() {
            return false;
        }
        let Some((number, what)) = self.groups.tickets.remove(&ticket) else {
            return false;
        };
        if let (Use::Synced, DiskResult::Done(_)) = (what, result) {
            if let Some(ticket) = self.group_ticket(number, Use::Renamed) {
                let (from, to) = (FileId::GroupPart(number), FileId::Group(number));
                self.group_disk(DiskOp::Rename { from, to, ticket });
            }
            return true;
        }
        let Some(running) = self.groups.running.get_mut(&number) else {
            return true;
        };
        match (what, &mut running.stage) {
            (Use::State, Stage::Reading { state, .. }) => {
                *state = Some(match result {
                    DiskResult::Done(bytes) => Some(bytes.clone()),
                    DiskResult::NotFound => None,
                    // It will not be understood, and so the peer not be started.
                    DiskResult::Full | DiskResult::Failed(_) => Some(Bytes::new()),
                });
                self.start_group(now, number);
            }
            (Use::Log, Stage::Reading { log, .. }) => {
                let bytes = match result {
                    DiskResult::Done(bytes) => bytes.clone(),
                    _ => Bytes::new(),
                };
                let text = String::from_utf8_lossy(&bytes);
                let whole = text.rfind('\n').map_or(0, |end| end + 1);
                // What cannot be read is begun anew.
                let events = Event::read(&text).unwrap_or_default();
                running.log_end = if events.is_empty() { 0 } else { whole as u64 };
                *log = Some(events);
                if running.log_end < bytes.len() as u64 {
                    let lines = bytes.slice(..running.log_end as usize);
                    let file = FileId::GroupLog(number);
                    self.group_disk(DiskOp::Delete { file });
                    self.group_disk(DiskOp::Write {
                        file,
                        offset: 0,
                        bytes: lines,
                    });
                }
                self.start_group(now, number);
            }
            (Use::Synced | Use::Renamed, Stage::Running(member)) => {
                match result {
                    DiskResult::Done(_) => member.handle_persisted(now),
                    DiskResult::NotFound | DiskResult::Full => {
                        member.fail("the disk had no room for its state; restart the node".into());
                    }
                    DiskResult::Failed(why) => {
                        member.fail(format!("its state cannot be written: {why}"));
                    }
                }
                self.take_out(now, number);
            }
            _ => {}
        }
        true
    }

    /// Starts a peer whose files are read.
    fn start_group(&mut self, now: Now, number: u64) {
        let Some(running) = self.groups.running.get_mut(&number) else {
            return;
        };
        let Stage::Reading {
            state: Some(state),
            log: Some(log),
            held,
        } = &mut running.stage
        else {
            return;
        };
        let (state, log, held) = (state.take(), std::mem::take(log), std::mem::take(held));
        let protocol = match protocols::find(&running.record.protocol) {
            Ok(protocol) => protocol,
            Err(why) => {
                let name = &running.record.name;
                let message = format!("group {name} is not run here: {why}; upgrade this node");
                return self.log(Level::Error, message);
            }
        };
        let rng = self.groups.rng.fork(number);
        let nodes = running.record.nodes.len();
        let mut member = Member::new(&protocol, running.me, nodes, rng, log);
        match state.as_deref().map(unseal).transpose() {
            Ok(state) => member.handle_start(now, state),
            Err(why) => member.fail(format!("its state on disk cannot be read: {why}")),
        }
        running.stage = Stage::Running(Box::new(member));
        self.take_out(now, number);
        for (from, bytes) in held {
            if let Some(node) = self.group_node(number, from) {
                self.group_frame(now, number, node, bytes);
            }
        }
    }

    fn group_node(&self, number: u64, peer: PeerId) -> Option<NodeId> {
        let running = self.groups.running.get(&number)?;
        running.record.nodes.get(peer - 1).copied()
    }

    // --- users ---

    pub(crate) fn group_call(&mut self, now: Now, request: RequestId, call: GroupCall) {
        if !self.holds(META_SHARD) {
            let message = "another core of this node runs groups".into();
            let reply = CallReply::NotHere { message };
            return (self.actions).push_back(Action::CallReply { request, reply });
        }
        let outcome = match call {
            GroupCall::List => Ok(Some(GroupAnswer::Groups(self.group_statuses(now)))),
            GroupCall::Create {
                name,
                protocol,
                nodes,
            } => self.create_group(now, request, name, protocol, &nodes),
            GroupCall::Delete { name } => match self.catalog.group_named(&name) {
                None => Ok(Some(GroupAnswer::NotFound)),
                Some(_) => {
                    self.propose_meta(&CatalogCommand::DeleteGroup { name: name.clone() });
                    let until_us = now.mono_us + CREATE_US;
                    (self.groups.asked).push((request, until_us, name, false));
                    Ok(None)
                }
            },
            GroupCall::Log { name } => self.ask_member(now, &name, |member, _| {
                Ok(Some(GroupAnswer::Log(member.read_log(now))))
            }),
            GroupCall::Unlock { name, fence } => self.ask_member(now, &name, |member, _| {
                member.unlock(now, fence)?;
                Ok(Some(GroupAnswer::Done))
            }),
            GroupCall::Lock { name, wait_us } => {
                let waits = (request, wait_us, "lock");
                self.ask_waiting(now, &name, waits, |member, token| member.lock(now, token))
            }
            GroupCall::Append {
                name,
                value,
                wait_us,
            } => {
                let waits = (request, wait_us, "append");
                self.ask_waiting(now, &name, waits, |member, token| {
                    member.append(now, token, value)
                })
            }
        };
        match outcome {
            Ok(None) => {}
            Ok(Some(answer)) => self.group_answer(request, answer),
            Err(why) => self.group_answer(request, GroupAnswer::Refused(why)),
        }
    }

    fn create_group(
        &mut self,
        now: Now,
        request: RequestId,
        name: String,
        protocol: String,
        nodes: &[String],
    ) -> Result<Option<GroupAnswer>, String> {
        let letters = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if name.is_empty() || name.len() > 100 || !name.chars().all(letters) {
            return Err(format!(
                "{name:?} is no name: take 1 to 100 letters, digits, '-', '_' or '.'"
            ));
        }
        let found = protocols::find(&protocol)?;
        if self.follows() || self.superseded_by().is_some() {
            return Err("this cluster follows another one; make the group there".into());
        }
        if self.catalog.group_named(&name).is_some() {
            return Err(format!("there is a group {name:?} already"));
        }
        if self.catalog.groups.len() >= GROUPS_MAX {
            return Err(format!("there are {GROUPS_MAX} groups; delete one first"));
        }
        let mut members: Vec<NodeId> = match nodes {
            [] => (self.catalog.members.iter())
                .filter(|(_, member)| member.state == MemberState::Member)
                .map(|(node, _)| *node)
                .collect(),
            named => (named.iter())
                .map(|name| self.member_named(name))
                .collect::<Result<_, _>>()?,
        };
        if nodes.is_empty() {
            // In an order that people can foresee.
            members.sort_by_key(|node| self.catalog.members[node].address.clone());
        }
        let distinct: BTreeSet<&NodeId> = members.iter().collect();
        if distinct.len() < members.len() {
            return Err("a node is named twice".into());
        }
        let (least, most) = (found.nodes_min, protocols::NODES_MAX);
        if !(least..=most).contains(&members.len()) {
            let count = members.len();
            return Err(format!(
                "{protocol} needs {least} to {most} nodes, and these are {count}; name them with --nodes"
            ));
        }
        self.propose_meta(&CatalogCommand::CreateGroup {
            name: name.clone(),
            protocol,
            nodes: members,
        });
        let until_us = now.mono_us + CREATE_US;
        self.groups.asked.push((request, until_us, name, true));
        Ok(None)
    }

    fn ask_waiting(
        &mut self,
        now: Now,
        name: &str,
        (request, wait_us, what): (RequestId, u64, &'static str),
        ask: impl FnOnce(&mut Member, u64) -> Result<(), String>,
    ) -> Result<Option<GroupAnswer>, String> {
        self.groups.next_token += 1;
        let token = self.groups.next_token;
        let until_us = now.mono_us + wait_us.min(WAIT_US_MAX);
        let group = self.catalog.group_named(name).map_or(0, |(group, _)| group);
        let waiting = Waiting {
            request,
            group,
            until_us,
            what,
        };
        self.groups.waiting.insert(token, waiting);
        let outcome = self.ask_member(now, name, |member, _| ask(member, token).map(|()| None));
        if !matches!(outcome, Ok(None)) {
            self.groups.waiting.remove(&token);
        }
        outcome
    }

    /// Asks this node's member of a group.
    fn ask_member(
        &mut self,
        now: Now,
        name: &str,
        ask: impl FnOnce(&mut Member, &GroupRecord) -> Result<Option<GroupAnswer>, String>,
    ) -> Result<Option<GroupAnswer>, String> {
        let Some((number, record)) = self.catalog.group_named(name) else {
            return Ok(Some(GroupAnswer::NotFound));
        };
        let Some(running) = self.groups.running.get_mut(&number) else {
            let members: Vec<&str> = (record.nodes.iter())
                .filter_map(|node| self.catalog.members.get(node))
                .map(|member| member.address.as_str())
                .collect();
            return Err(format!(
                "this node is no member of {name}; ask one of {}",
                members.join(", ")
            ));
        };
        let Stage::Running(member) = &mut running.stage else {
            return Err("this node's member is being started; try again".into());
        };
        let outcome = ask(member, &running.record);
        self.take_out(now, number);
        outcome
    }

    fn group_answer(&mut self, request: RequestId, answer: GroupAnswer) {
        let reply = CallReply::Group(Box::new(answer));
        self.actions.push_back(Action::CallReply { request, reply });
    }

    /// Answers those whose time is over.
    fn give_up_waiting(&mut self, now: Now) {
        let strange = &mut self.groups.strange;
        while strange.front().is_some_and(|(at, ..)| *at <= now.mono_us) {
            strange.pop_front();
        }
        let late: Vec<u64> = (self.groups.waiting.iter())
            .filter(|(_, waiting)| waiting.until_us <= now.mono_us)
            .map(|(token, _)| *token)
            .collect();
        for token in late {
            if let Some(waiting) = self.groups.forget(token) {
                let words = self.why_late(now, &waiting);
                self.group_answer(waiting.request, GroupAnswer::Late(words));
            }
        }
        let (late, asked): (Vec<_>, Vec<_>) = std::mem::take(&mut self.groups.asked)
            .into_iter()
            .partition(|(_, until_us, ..)| *until_us <= now.mono_us);
        self.groups.asked = asked;
        for (request, ..) in late {
            let words = "the catalog does not say so yet: no majority may be there; look again";
            self.group_answer(request, GroupAnswer::Late(words.into()));
        }
    }

    fn why_late(&self, now: Now, waiting: &Waiting) -> String {
        let began = match waiting.what {
            "lock" => "not let in in time, and does not wait any more",
            _ => "no place is known yet; it may still get one",
        };
        let status = (self.catalog.groups.get(&waiting.group))
            .map(|record| self.group_status(now, waiting.group, record));
        let Some(status) = status else {
            return began.into();
        };
        let name = |peer: &usize| {
            let member = status.members.get(peer.wrapping_sub(1));
            let (address, gone) = member.map_or(("?", false), |member| {
                (member.address.as_str(), !member.reachable)
            });
            let gone = if gone { ", which is not heard" } else { "" };
            format!("peer {peer} ({address}{gone})")
        };
        let waits: Vec<String> = status.waits_for.iter().map(name).collect();
        let silent = (status.members.iter()).filter(|member| !member.reachable);
        let silent: Vec<String> = silent.map(|member| name(&member.peer)).collect();
        match (waits.is_empty(), silent.is_empty()) {
            (false, _) => format!("{began}: waits for {}", waits.join(", ")),
            (true, false) => format!("{began}: {}", silent.join(", ")),
            (true, true) => began.into(),
        }
    }

    pub(crate) fn group_statuses(&self, now: Now) -> Vec<GroupStatus> {
        if !self.holds(META_SHARD) {
            return Vec::new();
        }
        (self.catalog.groups.iter())
            .map(|(number, record)| self.group_status(now, *number, record))
            .collect()
    }

    fn group_status(&self, now: Now, number: u64, record: &GroupRecord) -> GroupStatus {
        let interval_us = self.ping_interval_us();
        let members = (1..).zip(&record.nodes).map(|(peer, node)| {
            let member = self.catalog.members.get(node);
            GroupMember {
                peer,
                node: format!("{:x}", node.0),
                address: member.map(|m| m.address.clone()).unwrap_or_default(),
                console: (self.peers.chunks_address(*node))
                    .cloned()
                    .unwrap_or_default(),
                reachable: *node == self.me.node
                    || self.peers.is_reachable(*node, now, interval_us),
            }
        });
        let kind = protocols::find(&record.protocol).map(|protocol| protocol.kind);
        let mut status = GroupStatus {
            name: record.name.clone(),
            protocol: record.protocol.clone(),
            kind: kind.map_or("unknown here", Kind::name).into(),
            members: members.collect(),
            ..GroupStatus::default()
        };
        let Some(running) = self.groups.running.get(&number) else {
            return status;
        };
        status.me = running.me;
        let Stage::Running(member) = &running.stage else {
            status.role = "starting".into();
            return status;
        };
        status.role = member.role().into();
        status.waits_for = member.waits_for();
        status.waiters = member.waiters();
        status.fence = member.fence();
        status.leader = member.leader().map(|(leader, _)| leader);
        status.term = member.leader().map_or(0, |(_, term)| term);
        status.decided = member.decided().len() as u64;
        let last = member.decided().iter().rev().take(LAST_SHOWN);
        status.last = last.map(|(place, value)| (*place, *value)).collect();
        status.fault = member.fault().unwrap_or_default().into();
        status
    }
}

/// A state as it lies on disk: behind its checksum.
fn seal(state: &[u8]) -> Bytes {
    let mut w = Writer::with_capacity(state.len() + 8);
    w.u64(checksum(state)).raw(state);
    w.into_bytes()
}

fn unseal(bytes: &[u8]) -> Result<&[u8], DecodeError> {
    let mut r = Reader::new(bytes);
    let sum = r.u64()?;
    match checksum(r.rest()) == sum {
        true => Ok(r.rest()),
        false => Err(DecodeError::Invalid("checksum of a group's file")),
    }
}

fn checksum(bytes: &[u8]) -> u64 {
    use std::hash::Hasher;
    let mut hasher = base::map::Fnv::default();
    hasher.write(bytes);
    hasher.finish()
}
