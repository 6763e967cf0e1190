//! Users that want values decided; nobody that does not lie may decide another value in the same place.

use super::{Desk, Field, GRACE_US, Safety};
use base::peer::PeerId;
use ledger::Decision;
use ledger::stake::Vote;
use std::collections::{BTreeMap, BTreeSet};

/// Between values.
const EVERY_US: u64 = 300_000;

/// What has which place.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Places {
    decided: BTreeMap<u64, u64>,
    asked: BTreeSet<u64>,
    askers: BTreeSet<PeerId>,
}

impl Safety for Places {
    type Request = u64;
    type Decision = Decision;

    fn asked(&mut self, node: PeerId, value: &u64) {
        self.asked.insert(*value);
        self.askers.insert(node);
    }

    fn decided(&mut self, node: PeerId, decision: &Decision) -> Option<String> {
        let Decision::Decided { position, value } = *decision else {
            return None;
        };
        let known = *self.decided.entry(position).or_insert(value);
        if known != value {
            Some(format!(
                "node {node} decides {value} in place {position}, where {known} was decided"
            ))
        } else if !self.asked.contains(&value) {
            Some(format!(
                "node {node} decides {value}, which nobody asked for"
            ))
        } else {
            None
        }
    }

    fn crashed(&mut self, _: PeerId) {}

    fn choices(&self, node: PeerId, _: usize) -> Vec<u64> {
        match node <= 2 && !self.askers.contains(&node) {
            true => vec![node as u64],
            false => Vec::new(),
        }
    }

    fn at_rest(&self, _: usize) -> Option<String> {
        None
    }
}

/// How values are asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Asking {
    /// Each node has one value of its own, and one of them all is decided.
    One,
    /// Nothing but what the script asks.
    Scripted,
    /// A stream of values, each asked of all nodes, and all of them are decided.
    All,
}

/// A group that decides.
#[derive(Clone, Debug)]
pub struct Agreement {
    safety: Places,
    asking: Asking,
    asked_us: BTreeMap<u64, u64>,
    /// Values by who has decided them.
    has: BTreeMap<PeerId, BTreeSet<u64>>,
    refused: BTreeSet<PeerId>,
    healed: bool,
}

impl Agreement {
    /// A group that is asked like this.
    pub fn new(asking: Asking) -> Self {
        Self {
            safety: Places::default(),
            asking,
            asked_us: BTreeMap::new(),
            has: BTreeMap::new(),
            refused: BTreeSet::new(),
            healed: false,
        }
    }
}

impl Field for Agreement {
    type Request = u64;
    type Decision = Decision;

    fn begin(&mut self, desk: &mut Desk<u64>) {
        if self.asking != Asking::All {
            return;
        }
        let last_us = desk.until_us.saturating_sub(GRACE_US);
        for value in 1.. {
            let at_us = value * EVERY_US;
            if at_us > last_us {
                break;
            }
            for node in 1..=desk.nodes {
                desk.ask(at_us, node, value);
            }
        }
    }

    fn started(&mut self, desk: &mut Desk<u64>, node: PeerId) {
        if self.asking == Asking::One {
            let after_us = desk.rng.range(1_000, 2_000_000);
            desk.ask(after_us, node, node as u64);
        }
    }

    fn asked(&mut self, desk: &mut Desk<u64>, node: PeerId, value: &u64) {
        self.safety.asked(node, value);
        self.asked_us.entry(*value).or_insert(desk.now_us);
    }

    fn decided(&mut self, desk: &mut Desk<u64>, node: PeerId, decision: &Decision) {
        if desk.liars.contains(&node) {
            return;
        }
        let objection = self.safety.decided(node, decision);
        desk.object(objection);
        match *decision {
            Decision::Refused => {
                self.refused.insert(node);
            }
            Decision::Decided { value, .. } => {
                self.has.entry(node).or_default().insert(value);
                if let Some(asked_us) = self.asked_us.get(&value) {
                    desk.figure("decision", desk.now_us - asked_us);
                }
                if desk.now_us > desk.healed_us && desk.healed_us > 0 && !self.healed {
                    self.healed = true;
                    desk.figure("recovery", desk.now_us - desk.healed_us);
                }
            }
        }
    }

    fn finish(&mut self, desk: &mut Desk<u64>) {
        desk.figure("decided", self.safety.decided.len() as u64);
        if desk.until_us < desk.healed_us + GRACE_US || !self.refused.is_empty() {
            return;
        }
        let none = BTreeSet::new();
        for node in desk.living().collect::<Vec<_>>() {
            if desk.liars.contains(&node) {
                continue;
            }
            let has = self.has.get(&node).unwrap_or(&none);
            match self.asking {
                Asking::One if has.is_empty() => {
                    desk.stalled
                        .push(format!("node {node} has decided nothing"));
                }
                Asking::All => {
                    if let Some(missing) = self.safety.asked.difference(has).next() {
                        desk.stalled
                            .push(format!("node {node} has not decided value {missing}"));
                    }
                }
                Asking::One | Asking::Scripted => {}
            }
        }
    }

    fn parse(&self, word: &str) -> Option<u64> {
        if let Some(value) = word.strip_prefix("propose ") {
            return value.parse().ok();
        }
        let words: Vec<&str> = word.split(' ').collect();
        let ["vote", number, "by", voter, "for", candidate] = words[..] else {
            return None;
        };
        let vote = Vote {
            number: number.parse().ok()?,
            voter: voter.parse().ok()?,
            candidate: candidate.parse().ok()?,
        };
        Some(vote.value())
    }
}
