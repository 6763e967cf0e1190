//! Groups: protocols among equals between nodes. The catalog says which there are and who is of them; the core that
//! holds the meta shard runs its node's peer of each. What a peer must not forget is a small file of its own, written
//! whole; what it did is a log beside it.
//!
//! A message that is lost stays lost, as peers expect. But none is lost because a member has not heard of its group
//! yet, or is still reading its file: those wait.

mod files;
mod users;

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
}
