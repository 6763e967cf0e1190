//! Writers, an appointer that names another primary when one has died, and a reader of the losses:
//! what was acknowledged must be there, or is named.

use super::{Desk, Field, GRACE_US, Safety};
use base::peer::PeerId;
use replication::copies::primary_backup::{Decision, Epoch, Request};
use std::collections::{BTreeMap, BTreeSet};

/// Between writes.
const EVERY_US: u64 = 100_000;
/// From a primary's death to the next appointment.
const APPOINT_US: u64 = 500_000;
/// Values of one node, and of one life of it, lie so far apart.
const SPAN: u64 = 10_000;

/// What was acknowledged, and what of it was lost.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Kept {
    /// Nothing may be lost.
    keeps: bool,
    acknowledged: BTreeSet<u64>,
    lost: BTreeSet<u64>,
    /// In a search: appointments and writes so far, and whether the first primary has died.
    appointed: Epoch,
    written: u64,
    died: bool,
}

impl Kept {
    /// Nothing yet.
    pub fn new(keeps: bool) -> Self {
        Self {
            keeps,
            acknowledged: BTreeSet::new(),
            lost: BTreeSet::new(),
            appointed: 0,
            written: 0,
            died: false,
        }
    }
}

impl Safety for Kept {
    type Request = Request;
    type Decision = Decision;

    fn asked(&mut self, _: PeerId, request: &Request) {
        match request {
            Request::Promote(epoch) => self.appointed = *epoch,
            Request::Write(_) => self.written += 1,
        }
    }

    fn decided(&mut self, node: PeerId, decision: &Decision) -> Option<String> {
        match decision {
            Decision::Acknowledged(value) => {
                self.acknowledged.insert(*value);
                None
            }
            Decision::Leads { epoch, values } => {
                let has: BTreeSet<u64> = values.iter().copied().collect();
                let lost: Vec<u64> = self.acknowledged.difference(&has).copied().collect();
                self.acknowledged.retain(|value| has.contains(value));
                self.lost.extend(&lost);
                (self.keeps && !lost.is_empty()).then(|| {
                    format!("node {node} leads in epoch {epoch} without {lost:?}, which had been acknowledged")
                })
            }
            Decision::Dropped(_) => None,
        }
    }

    fn crashed(&mut self, node: PeerId) {
        self.died |= node == 1;
    }

    fn choices(&self, node: PeerId, _: usize) -> Vec<Request> {
        match (node, self.appointed) {
            (1, 0) => vec![Request::Promote(1)],
            (1, 1) if self.written < 2 && !self.died => vec![Request::Write(self.written + 1)],
            (2, 1) if self.died => vec![Request::Promote(2)],
            _ => Vec::new(),
        }
    }

    fn at_rest(&self, _: usize) -> Option<String> {
        None
    }
}

/// A group with one primary at a time.
#[derive(Clone, Debug)]
pub struct Copies {
    safety: Kept,
    primary: Option<PeerId>,
    epoch: Epoch,
    lives: BTreeMap<PeerId, u64>,
    asked_us: BTreeMap<u64, u64>,
    last_us: u64,
    count: u64,
    dropped: u64,
    healed: bool,
}

impl Copies {
    /// A group that may lose what it acknowledged, or not.
    pub fn new(keeps: bool) -> Self {
        Self {
            safety: Kept::new(keeps),
            primary: None,
            epoch: 0,
            lives: BTreeMap::new(),
            asked_us: BTreeMap::new(),
            last_us: 0,
            count: 0,
            dropped: 0,
            healed: false,
        }
    }

    fn appoint(&mut self, desk: &mut Desk<Request>, after_us: u64) {
        self.primary = desk.living().next();
        if let Some(node) = self.primary {
            self.epoch += 1;
            desk.ask(after_us, node, Request::Promote(self.epoch));
        }
    }
}

impl Field for Copies {
    type Request = Request;
    type Decision = Decision;

    /// Everybody is written to all the time: who is not primary ignores it.
    fn started(&mut self, desk: &mut Desk<Request>, node: PeerId) {
        if self.primary.is_none() {
            self.appoint(desk, 5_000);
        }
        let life = self.lives.entry(node).or_default();
        *life += 1;
        let base = (node as u64 * 100 + *life) * SPAN;
        let mut at_us = EVERY_US;
        for number in 1..SPAN {
            if desk.now_us + at_us > desk.until_us {
                break;
            }
            desk.ask(at_us, node, Request::Write(base + number));
            at_us += EVERY_US;
        }
    }

    fn asked(&mut self, desk: &mut Desk<Request>, _: PeerId, request: &Request) {
        if let Request::Write(value) = request {
            self.asked_us.insert(*value, desk.now_us);
        }
    }

    fn decided(&mut self, desk: &mut Desk<Request>, node: PeerId, decision: &Decision) {
        let objection = self.safety.decided(node, decision);
        desk.object(objection);
        match decision {
            Decision::Acknowledged(value) => {
                if let Some(asked_us) = self.asked_us.remove(value) {
                    desk.figure("acknowledgement", desk.now_us - asked_us);
                }
                desk.figure("without a write", desk.now_us - self.last_us);
                self.last_us = desk.now_us;
                self.count += 1;
                if desk.now_us > desk.healed_us && !self.healed {
                    self.healed = true;
                    if desk.healed_us > 0 {
                        desk.figure("recovery", desk.now_us - desk.healed_us);
                    }
                }
            }
            Decision::Dropped(values) => self.dropped += values.len() as u64,
            Decision::Leads { .. } => {}
        }
    }

    fn crashed(&mut self, desk: &mut Desk<Request>, node: PeerId) {
        if self.primary == Some(node) {
            self.appoint(desk, APPOINT_US);
        }
    }

    fn finish(&mut self, desk: &mut Desk<Request>) {
        desk.figure("acknowledged", self.count);
        desk.figure("lost", self.safety.lost.len() as u64);
        desk.figure("dropped", self.dropped);
        desk.figure("without a write", desk.now_us - self.last_us);
        if !self.safety.lost.is_empty() {
            let lost: Vec<String> = self.safety.lost.iter().map(u64::to_string).collect();
            desk.told
                .push(format!("lost although acknowledged: {}", lost.join(", ")));
        }
        if desk.until_us >= desk.healed_us + GRACE_US && !self.healed {
            desk.stalled.push(format!(
                "no write was acknowledged in the {} ms after all was well",
                desk.now_us.saturating_sub(desk.healed_us) / 1000
            ));
        }
    }

    fn parse(&self, word: &str) -> Option<Request> {
        let (verb, number) = word.split_once(' ')?;
        let number = number.parse().ok()?;
        match verb {
            "promote" => Some(Request::Promote(number)),
            "write" => Some(Request::Write(number)),
            _ => None,
        }
    }
}
