//! Writers and readers at all nodes: a read begun after an acknowledgement sees that write or a later
//! one; no two acknowledged writes share a place. What a choice of W and R does not promise is counted.

use super::{Desk, Field, GRACE_US, Safety};
use base::peer::PeerId;
use replication::copies::quorum::{Decision, Request, Version};
use std::collections::{BTreeMap, BTreeSet};

/// Between operations of one node.
const EVERY_US: u64 = 150_000;

/// What was acknowledged, and what readers may therefore expect.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Fresh {
    /// Stale reads are violations.
    fresh: bool,
    /// Two acknowledged writes with one counter are violations.
    exclusive: bool,
    latest: Version,
    /// What was acknowledged when a read began.
    floors: BTreeMap<(PeerId, u64), Version>,
    written: BTreeMap<u64, u64>,
    stale: u64,
    conflicts: u64,
    asked: u8,
}

impl Fresh {
    /// Nothing yet.
    pub fn new(fresh: bool, exclusive: bool) -> Self {
        Self {
            fresh,
            exclusive,
            latest: (0, 0),
            floors: BTreeMap::new(),
            written: BTreeMap::new(),
            stale: 0,
            conflicts: 0,
            asked: 0,
        }
    }
}

impl Safety for Fresh {
    type Request = Request;
    type Decision = Decision;

    fn asked(&mut self, node: PeerId, request: &Request) {
        self.asked = self.asked.saturating_add(1);
        if let Request::Read(number) = request {
            self.floors.insert((node, *number), self.latest);
        }
    }

    fn decided(&mut self, node: PeerId, decision: &Decision) -> Option<String> {
        match *decision {
            Decision::Written { value, version } => {
                self.latest = self.latest.max(version);
                let other = *self.written.entry(version.0).or_insert(value);
                let conflict = other != value;
                self.conflicts += u64::from(conflict);
                (conflict && self.exclusive).then(|| {
                    format!("{other} and {value} are both acknowledged in place {}, and one is overwritten unseen", version.0)
                })
            }
            Decision::Read {
                number,
                value,
                version,
            } => {
                let floor = self.floors.remove(&(node, number))?;
                let stale = version < floor;
                self.stale += u64::from(stale);
                (stale && self.fresh).then(|| {
                    format!("node {node} reads {value} of version {version:?}, although version {floor:?} was acknowledged before")
                })
            }
            Decision::Failed(_) | Decision::Unanswered(_) => None,
        }
    }

    fn crashed(&mut self, node: PeerId) {
        self.floors.retain(|(reader, _), _| *reader != node);
    }

    fn choices(&self, node: PeerId, nodes: usize) -> Vec<Request> {
        match (node, self.asked) {
            (_, asked) if asked >= 3 => Vec::new(),
            (1, asked) => vec![Request::Write(u64::from(asked) + 1)],
            (node, asked) if node == nodes => vec![Request::Read(u64::from(asked) + 1)],
            _ => Vec::new(),
        }
    }

    fn at_rest(&self, _: usize) -> Option<String> {
        None
    }
}

/// A group that is written to and read everywhere.
#[derive(Clone, Debug)]
pub struct Quorums {
    safety: Fresh,
    asked_us: BTreeMap<(PeerId, bool, u64), u64>,
    next: u64,
    done: BTreeMap<bool, u64>,
    failed: u64,
    healed: BTreeSet<(PeerId, bool)>,
}

impl Quorums {
    /// With these promises.
    pub fn new(fresh: bool, exclusive: bool) -> Self {
        Self {
            safety: Fresh::new(fresh, exclusive),
            asked_us: BTreeMap::new(),
            next: 0,
            done: BTreeMap::new(),
            failed: 0,
            healed: BTreeSet::new(),
        }
    }

    fn done(&mut self, desk: &mut Desk<Request>, node: PeerId, writes: bool, number: u64) {
        if let Some(asked_us) = self.asked_us.remove(&(node, writes, number)) {
            let name = if writes { "acknowledgement" } else { "read" };
            desk.figure(name, desk.now_us - asked_us);
        }
        *self.done.entry(writes).or_default() += 1;
        if desk.now_us > desk.healed_us {
            if self.healed.is_empty() && desk.healed_us > 0 {
                desk.figure("recovery", desk.now_us - desk.healed_us);
            }
            self.healed.insert((node, writes));
        }
    }
}

impl Field for Quorums {
    type Request = Request;
    type Decision = Decision;

    fn started(&mut self, desk: &mut Desk<Request>, node: PeerId) {
        let mut at_us = desk.rng.range(0, EVERY_US);
        while desk.now_us + at_us < desk.until_us {
            self.next += 1;
            let request = match desk.rng.one_in(2) {
                true => Request::Write(self.next),
                false => Request::Read(self.next),
            };
            desk.ask(at_us, node, request);
            at_us += desk.rng.range(EVERY_US / 2, EVERY_US * 2);
        }
    }

    fn asked(&mut self, desk: &mut Desk<Request>, node: PeerId, request: &Request) {
        self.safety.asked(node, request);
        let (Request::Write(number) | Request::Read(number)) = *request;
        let writes = matches!(request, Request::Write(_));
        self.asked_us.insert((node, writes, number), desk.now_us);
    }

    fn decided(&mut self, desk: &mut Desk<Request>, node: PeerId, decision: &Decision) {
        let objection = self.safety.decided(node, decision);
        desk.object(objection);
        match *decision {
            Decision::Written { value, .. } => self.done(desk, node, true, value),
            Decision::Read { number, .. } => self.done(desk, node, false, number),
            Decision::Failed(_) | Decision::Unanswered(_) => self.failed += 1,
        }
    }

    fn crashed(&mut self, _: &mut Desk<Request>, node: PeerId) {
        self.safety.crashed(node);
    }

    fn finish(&mut self, desk: &mut Desk<Request>) {
        desk.figure("acknowledged", self.done.get(&true).copied().unwrap_or(0));
        desk.figure("failed", self.failed);
        desk.figure("stale reads", self.safety.stale);
        desk.figure("overwritten unseen", self.safety.conflicts);
        if desk.until_us < desk.healed_us + GRACE_US {
            return;
        }
        for node in desk.living().collect::<Vec<_>>() {
            for (writes, what) in [(true, "written"), (false, "read")] {
                if !self.healed.contains(&(node, writes)) {
                    desk.stalled.push(format!(
                        "nothing was {what} at node {node} after all was well"
                    ));
                }
            }
        }
    }

    fn parse(&self, word: &str) -> Option<Request> {
        let (verb, number) = word.split_once(' ')?;
        let number = number.parse().ok()?;
        match verb {
            "read" => Some(Request::Read(number)),
            "write" => Some(Request::Write(number)),
            _ => None,
        }
    }
}
