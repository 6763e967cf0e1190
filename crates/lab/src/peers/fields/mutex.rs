//! Users that enter, stay, leave, think and enter again; at most one inside.

use super::{Desk, Field, GRACE_US, Safety};
use base::peer::PeerId;
use coordination::mutex::{Decision, Request, Resource};
use std::collections::{BTreeMap, BTreeSet};

/// Who is inside, and who wants to be.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Inside {
    inside: BTreeMap<Resource, BTreeSet<PeerId>>,
    wants: BTreeSet<PeerId>,
    entered: BTreeMap<PeerId, u8>,
}

/// Entries of each user in a search.
const ENTRIES: u8 = 1;

impl Safety for Inside {
    type Request = Request;
    type Decision = Decision;

    fn asked(&mut self, node: PeerId, request: &Request) {
        match request {
            Request::Acquire(_) => {
                self.wants.insert(node);
            }
            Request::Release(resource) => {
                self.inside.entry(*resource).or_default().remove(&node);
            }
        }
    }

    fn decided(&mut self, node: PeerId, Decision::Entered(resource): &Decision) -> Option<String> {
        self.wants.remove(&node);
        let entered = self.entered.entry(node).or_default();
        *entered = entered.saturating_add(1);
        let inside = self.inside.entry(*resource).or_default();
        let other = inside.iter().find(|other| **other != node).copied();
        inside.insert(node);
        other.map(|other| format!("node {node} enters while node {other} is inside"))
    }

    fn crashed(&mut self, node: PeerId) {
        self.wants.remove(&node);
        for inside in self.inside.values_mut() {
            inside.remove(&node);
        }
    }

    fn choices(&self, node: PeerId, _: usize) -> Vec<Request> {
        if self.inside.values().any(|inside| inside.contains(&node)) {
            vec![Request::Release(0)]
        } else if !self.wants.contains(&node)
            && self.entered.get(&node).copied().unwrap_or_default() < ENTRIES
        {
            vec![Request::Acquire(0)]
        } else {
            Vec::new()
        }
    }

    fn at_rest(&self, _: usize) -> Option<String> {
        let waiting = self.wants.first()?;
        Some(format!(
            "node {waiting} waits, and nothing more will happen"
        ))
    }
}

/// How users behave.
#[derive(Clone, Debug)]
pub struct Users {
    /// Who wants to enter at all.
    pub who: Vec<PeerId>,
    /// Between resources 0 and this, exclusive.
    pub resources: Resource,
    /// Time inside, in microseconds.
    pub stay_us: u64,
    /// Longest time between leaving and wanting to enter again, in microseconds.
    pub think_us: u64,
    /// Each user stops after so many entries.
    pub entries: u64,
    /// Nobody wants to enter before this moment, in microseconds.
    pub from_us: u64,
}

/// Users of a mutual exclusion.
#[derive(Clone, Debug)]
pub struct Mutex {
    users: Users,
    safety: Inside,
    asked_us: BTreeMap<PeerId, u64>,
    entered: BTreeMap<PeerId, u64>,
    entered_healed: BTreeSet<PeerId>,
}

impl Mutex {
    /// These users.
    pub fn new(users: Users) -> Self {
        Self {
            users,
            safety: Inside::default(),
            asked_us: BTreeMap::new(),
            entered: BTreeMap::new(),
            entered_healed: BTreeSet::new(),
        }
    }

    /// Everybody wants to enter, now and then.
    pub fn usual(nodes: usize, resources: Resource) -> Self {
        Self::new(Users {
            who: (1..=nodes).collect(),
            resources,
            stay_us: 20_000,
            think_us: 400_000,
            entries: u64::MAX,
            from_us: 0,
        })
    }

    fn want(&mut self, desk: &mut Desk<Request>, node: PeerId, after_us: u64) {
        let done = self.entered.get(&node).copied().unwrap_or_default();
        if self.users.who.contains(&node) && done < self.users.entries {
            let resource = desk.rng.range(0, u64::from(self.users.resources)) as Resource;
            desk.ask(after_us, node, Request::Acquire(resource));
        }
    }
}

impl Field for Mutex {
    type Request = Request;
    type Decision = Decision;

    fn started(&mut self, desk: &mut Desk<Request>, node: PeerId) {
        let wait_us = self.users.from_us.saturating_sub(desk.now_us);
        let think_us = desk.rng.range(0, self.users.think_us + 1);
        self.want(desk, node, wait_us + think_us);
    }

    fn asked(&mut self, desk: &mut Desk<Request>, node: PeerId, request: &Request) {
        self.safety.asked(node, request);
        match request {
            Request::Acquire(_) => {
                self.asked_us.insert(node, desk.now_us);
            }
            Request::Release(_) => {
                let done = |node: &PeerId| self.entered.get(node) >= Some(&self.users.entries);
                desk.enough = self.users.who.iter().all(done);
                let think_us = desk.rng.range(0, self.users.think_us + 1);
                self.want(desk, node, think_us);
            }
        }
    }

    fn decided(&mut self, desk: &mut Desk<Request>, node: PeerId, decision: &Decision) {
        let objection = self.safety.decided(node, decision);
        desk.object(objection);
        let Decision::Entered(resource) = decision;
        if let Some(asked_us) = self.asked_us.remove(&node) {
            desk.figure("wait", desk.now_us - asked_us);
        }
        *self.entered.entry(node).or_default() += 1;
        if desk.now_us > desk.healed_us {
            if self.entered_healed.is_empty() && desk.healed_us > 0 {
                desk.figure("recovery", desk.now_us - desk.healed_us);
            }
            self.entered_healed.insert(node);
        }
        desk.ask(self.users.stay_us, node, Request::Release(*resource));
    }

    fn crashed(&mut self, _: &mut Desk<Request>, node: PeerId) {
        self.safety.crashed(node);
        self.asked_us.remove(&node);
    }

    fn finish(&mut self, desk: &mut Desk<Request>) {
        desk.figure("entries", self.entered.values().sum());
        if desk.until_us < desk.healed_us + GRACE_US || desk.enough {
            return;
        }
        for node in desk.living().collect::<Vec<_>>() {
            if self.users.who.contains(&node) && !self.entered_healed.contains(&node) {
                desk.stalled.push(format!(
                    "node {node} has not entered once in the {} ms after all was well",
                    (desk.now_us.saturating_sub(desk.healed_us)) / 1000
                ));
            }
        }
    }

    fn parse(&self, word: &str) -> Option<Request> {
        match word {
            "acquire" => Some(Request::Acquire(0)),
            "release" => Some(Request::Release(0)),
            _ => None,
        }
    }
}
