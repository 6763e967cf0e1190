//! Transactions that some participants refuse; all or nothing, and each effect once.

use super::{Desk, Field, GRACE_US, Safety};
use base::peer::PeerId;
use std::collections::{BTreeMap, BTreeSet};
use transactions::commit::{COORDINATOR, Decision, Request, Txn};

/// Between transactions.
const EVERY_US: u64 = 400_000;

#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
struct Effects {
    begun: bool,
    reserved: BTreeSet<PeerId>,
    committed: BTreeSet<PeerId>,
    aborted: BTreeSet<PeerId>,
    compensated: BTreeSet<PeerId>,
    refused: BTreeSet<PeerId>,
}

/// What a protocol promises of its effects.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Promise {
    /// No two ever differ.
    Atomic,
    /// Those of a transaction that is refused are undone.
    Undone,
    /// Who refuses does it in the end.
    Insistent,
    /// The sender alone may refuse; the others follow it.
    Followed,
    /// No two ever differ, and a refusal counts once it is told, not when it is asked for.
    Replicated,
}

impl Promise {
    fn is_atomic(self) -> bool {
        matches!(self, Self::Atomic | Self::Replicated)
    }
}

/// The effects of every transaction.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Outcomes {
    promise: Promise,
    txns: BTreeMap<Txn, Effects>,
}

impl Outcomes {
    /// No transaction yet.
    pub fn new(promise: Promise) -> Self {
        Self {
            promise,
            txns: BTreeMap::new(),
        }
    }

    /// Why `node` must not commit, if it must not.
    fn objection(&self, node: PeerId, txn: Txn) -> Option<String> {
        let effects = self.txns.get(&txn)?;
        let refuser = effects
            .refused
            .first()
            .filter(|refuser| match self.promise {
                Promise::Atomic | Promise::Followed => true,
                Promise::Undone => **refuser == node,
                Promise::Insistent | Promise::Replicated => false,
            });
        let aborter = effects.aborted.first().filter(|_| self.promise.is_atomic());
        if let Some(refuser) = refuser {
            Some(format!(
                "node {node} commits transaction {txn}, which node {refuser} refused"
            ))
        } else {
            aborter.map(|other| {
                format!("node {node} commits transaction {txn}, which node {other} aborted")
            })
        }
    }
}

impl Safety for Outcomes {
    type Request = Request;
    type Decision = Decision;

    fn asked(&mut self, node: PeerId, request: &Request) {
        match request {
            Request::Begin(txn) => self.txns.entry(*txn).or_default().begun = true,
            Request::Refuse(txn) => {
                self.txns.entry(*txn).or_default().refused.insert(node);
            }
        }
    }

    fn decided(&mut self, node: PeerId, decision: &Decision) -> Option<String> {
        let (Decision::Reserved(txn)
        | Decision::Committed(txn)
        | Decision::Aborted(txn)
        | Decision::Compensated(txn)) = *decision;
        let (atomic, objection) = (self.promise.is_atomic(), self.objection(node, txn));
        let effects = self.txns.entry(txn).or_default();
        match decision {
            Decision::Reserved(_) => {
                let late = effects.aborted.contains(&node) || effects.committed.contains(&node);
                effects.reserved.insert(node);
                late.then(|| format!("node {node} reserves for transaction {txn} after its end"))
            }
            Decision::Committed(_) => {
                effects.reserved.remove(&node);
                if !effects.committed.insert(node) {
                    return Some(format!(
                        "transaction {txn} takes effect at node {node} twice"
                    ));
                }
                objection
            }
            Decision::Aborted(_) => {
                effects.reserved.remove(&node);
                effects.aborted.insert(node);
                let other = effects.committed.first().filter(|_| atomic);
                other.map(|other| {
                    format!("node {node} aborts transaction {txn}, which node {other} committed")
                })
            }
            Decision::Compensated(_) => {
                let had = effects.committed.contains(&node);
                let first = effects.compensated.insert(node);
                (!had || !first).then(|| {
                    format!("node {node} undoes transaction {txn}, which has no effect there")
                })
            }
        }
    }

    fn crashed(&mut self, node: PeerId) {
        for effects in self.txns.values_mut() {
            effects.refused.remove(&node);
        }
    }

    fn choices(&self, node: PeerId, nodes: usize) -> Vec<Request> {
        let effects = self.txns.get(&1).cloned().unwrap_or_default();
        match node {
            COORDINATOR if !effects.begun => vec![Request::Begin(1)],
            _ if node == nodes
                && self.promise != Promise::Followed
                && !effects.begun
                && effects.refused.is_empty() =>
            {
                vec![Request::Refuse(1)]
            }
            _ => Vec::new(),
        }
    }

    fn at_rest(&self, _: usize) -> Option<String> {
        self.txns.iter().find_map(|(txn, effects)| {
            let waiting = effects.reserved.first()?;
            Some(format!("node {waiting} waits for the outcome of transaction {txn}, and nothing more will happen"))
        })
    }
}

/// A stream of transactions.
#[derive(Clone, Debug)]
pub struct Commit {
    safety: Outcomes,
    begun_us: BTreeMap<Txn, u64>,
    reserved_us: BTreeMap<(Txn, PeerId), u64>,
    /// No transaction is refused.
    agreeable: bool,
    last: Txn,
}

impl Commit {
    /// Some of them are refused.
    pub fn new(promise: Promise) -> Self {
        Self {
            safety: Outcomes::new(promise),
            begun_us: BTreeMap::new(),
            reserved_us: BTreeMap::new(),
            agreeable: false,
            last: Txn::MAX,
        }
    }

    /// So many transactions, which all agree to.
    pub fn agreeable(promise: Promise, last: Txn) -> Self {
        Self {
            agreeable: true,
            last,
            ..Self::new(promise)
        }
    }
}

impl Field for Commit {
    type Request = Request;
    type Decision = Decision;

    fn begin(&mut self, desk: &mut Desk<Request>) {
        let last_us = desk.until_us.saturating_sub(GRACE_US);
        for txn in 1..=self.last {
            let at_us = txn * EVERY_US;
            if at_us > last_us {
                break;
            }
            if desk.rng.one_in(4) && !self.agreeable {
                let node = match self.safety.promise {
                    Promise::Followed => COORDINATOR,
                    _ => desk.rng.range(2, desk.nodes as u64 + 1) as PeerId,
                };
                desk.ask(at_us - 1_000, node, Request::Refuse(txn));
            }
            desk.ask(at_us, COORDINATOR, Request::Begin(txn));
        }
    }

    fn asked(&mut self, desk: &mut Desk<Request>, node: PeerId, request: &Request) {
        self.safety.asked(node, request);
        if let Request::Begin(txn) = request {
            self.begun_us.insert(*txn, desk.now_us);
        }
    }

    fn decided(&mut self, desk: &mut Desk<Request>, node: PeerId, decision: &Decision) {
        let objection = self.safety.decided(node, decision);
        desk.object(objection);
        match *decision {
            Decision::Reserved(txn) => {
                self.reserved_us.insert((txn, node), desk.now_us);
            }
            Decision::Committed(txn) | Decision::Aborted(txn) | Decision::Compensated(txn) => {
                if let Some(since_us) = self.reserved_us.remove(&(txn, node)) {
                    desk.figure("reserved", desk.now_us - since_us);
                }
                if let (COORDINATOR, Some(since_us)) = (node, self.begun_us.get(&txn)) {
                    desk.figure("outcome", desk.now_us - since_us);
                }
            }
        }
    }

    fn crashed(&mut self, _: &mut Desk<Request>, node: PeerId) {
        self.safety.crashed(node);
    }

    fn finish(&mut self, desk: &mut Desk<Request>) {
        let committed = |effects: &&Effects| effects.committed.len() > effects.compensated.len();
        let count = self.safety.txns.values().filter(committed).count();
        desk.figure("committed", count as u64);
        if desk.until_us < desk.healed_us + GRACE_US {
            return;
        }
        let living: Vec<PeerId> = desk.living().collect();
        for (txn, effects) in &self.safety.txns {
            if let Some(node) = living.iter().find(|node| effects.reserved.contains(node)) {
                desk.stalled.push(format!(
                    "node {node} still waits for the outcome of transaction {txn}"
                ));
            }
            let has = |node: &&PeerId| {
                effects.committed.contains(node) && !effects.compensated.contains(node)
            };
            let with = living.iter().filter(has).count();
            if with > 0 && with < living.len() {
                let without = living.iter().find(|node| !has(node)).unwrap_or(&0);
                desk.stalled.push(format!("transaction {txn} has taken effect at {with} of {} nodes, and not at node {without}", living.len()));
            }
        }
    }

    fn parse(&self, word: &str) -> Option<Request> {
        let (verb, txn) = word.split_once(' ')?;
        let txn = txn.parse().ok()?;
        match verb {
            "begin" => Some(Request::Begin(txn)),
            "refuse" => Some(Request::Refuse(txn)),
            _ => None,
        }
    }
}
