//! A cell whose state several schedulers share (Schwarzkopf et al.: "Omega: flexible, scalable schedulers for
//! large compute clusters", EuroSys 2013): each works on a private [`copy`](Cell::copy), and what it decided is
//! checked when it is [`committed`](Cell::commit). Whoever comes second to the same room has a conflict,
//! refreshes its copy, and decides again.
//!
//! Each node has a version of its own, so that a copy is refreshed by what has changed. A claim is refused only
//! if it does not *fit* any more ([`Check::Fit`]): refusing it because its node has changed at all
//! ([`Check::Version`]) and refusing all claims with one ([`Commit::AllOrNothing`]) are there to be compared;
//! the paper measured both to cost two to three times the conflicts.

use crate::placement::{NodeView, Running, TaskSpec, objection};
use crate::resources::Resources;
use base::planted::{Bug, planted};
use std::collections::BTreeMap;

/// Versions of a copy's own changes have this bit: they never equal one of the cell's.
const OWN: u64 = 1 << 63;

/// Nodes with versions.
#[derive(Clone, Debug, Default)]
pub struct Cell {
    nodes: Vec<NodeView>,
    places: BTreeMap<u64, usize>,
    versions: Vec<u64>,
    /// The last version given; with [`OWN`] in a copy.
    version: u64,
    /// Raised when a node comes or its attributes change: what was found out from those is void.
    shape: u64,
    zones: Vec<String>,
    zone_of: Vec<usize>,
    /// Tasks of a job in each zone.
    spread: BTreeMap<u64, Vec<u64>>,
}

impl Cell {
    /// A cell of `nodes`.
    pub fn new(nodes: impl IntoIterator<Item = NodeView>) -> Self {
        let mut cell = Self::default();
        for node in nodes {
            cell.put(node);
        }
        cell
    }

    /// A cell of nodes with versions of their own.
    pub fn at(nodes: impl IntoIterator<Item = (NodeView, u64)>) -> Self {
        let mut cell = Self::default();
        for (node, version) in nodes {
            let id = node.id;
            cell.put(node);
            if let Some(at) = cell.place_of(id) {
                cell.versions[at] = version;
            }
        }
        cell
    }

    /// Adds a node, or puts it in place of the one with its number.
    pub fn put(&mut self, node: NodeView) {
        let zone = match self.zones.iter().position(|zone| *zone == node.zone) {
            Some(at) => at,
            None => {
                self.zones.push(node.zone.clone());
                self.zones.len() - 1
            }
        };
        let at = match self.places.get(&node.id) {
            Some(&at) => {
                for task in std::mem::take(&mut self.nodes[at].running) {
                    self.count(task.job, at, false);
                }
                at
            }
            None => {
                let at = self.nodes.len();
                self.places.insert(node.id, at);
                self.nodes.push(NodeView::default());
                self.versions.push(0);
                self.zone_of.push(zone);
                at
            }
        };
        self.zone_of[at] = zone;
        self.nodes[at] = node;
        for task in 0..self.nodes[at].running.len() {
            self.count(self.nodes[at].running[task].job, at, true);
        }
        self.shape += 1;
        self.touch(at);
    }

    fn touch(&mut self, at: usize) {
        self.version += 1;
        self.versions[at] = self.version;
    }

    fn count(&mut self, job: u64, at: usize, more: bool) {
        let zone = self.zone_of[at];
        let zones = self.spread.entry(job).or_default();
        if zones.len() <= zone {
            zones.resize(zone + 1, 0);
        }
        if more {
            zones[zone] += 1;
        } else {
            zones[zone] -= 1;
            if zones.iter().all(|tasks| *tasks == 0) {
                self.spread.remove(&job);
            }
        }
    }

    /// Its nodes, in the order of [`Cell::place_of`].
    pub fn nodes(&self) -> &[NodeView] {
        &self.nodes
    }

    /// Where in [`Cell::nodes`] the node of that number is.
    pub fn place_of(&self, node: u64) -> Option<usize> {
        self.places.get(&node).copied()
    }

    /// The version of the node there.
    pub fn node_version(&self, at: usize) -> u64 {
        self.versions[at]
    }

    /// Raised when a node comes or its attributes change.
    pub fn shape(&self) -> u64 {
        self.shape
    }

    /// How many tasks of `job` run in the zone of the node there.
    pub fn zone_count(&self, job: u64, at: usize) -> u64 {
        let zones = self.spread.get(&job);
        zones
            .and_then(|zones| zones.get(self.zone_of[at]))
            .copied()
            .unwrap_or(0)
    }

    /// What all nodes have, and what of it is taken.
    pub fn usage(&self) -> (Resources, Resources) {
        let none = (Resources::NONE, Resources::NONE);
        self.nodes.iter().fold(none, |(total, used), node| {
            (
                total.saturating_add(node.total),
                used.saturating_add(node.used),
            )
        })
    }

    /// `task` runs on the node there from now on, whether it fits or not.
    pub fn start(&mut self, at: usize, task: Running) {
        self.count(task.job, at, true);
        self.nodes[at].add(task);
        self.touch(at);
    }

    /// The task of `instance` runs there no more; `None` when it did not.
    pub fn finish(&mut self, at: usize, instance: u64) -> Option<Running> {
        let task = self.nodes[at].remove(instance)?;
        self.count(task.job, at, false);
        self.touch(at);
        Some(task)
    }

    /// Only so much of the node there may be used by who sees this cell: what an offer says.
    pub fn show_free(&mut self, at: usize, free: Resources) {
        let node = &mut self.nodes[at];
        node.used = node.total.saturating_sub(free);
        self.touch(at);
    }

    /// A private copy.
    pub fn copy(&self) -> Self {
        Self {
            version: OWN,
            ..self.clone()
        }
    }

    /// Brings a private copy to the state of `cell`, by what has changed since it was copied or refreshed.
    /// Returns how many nodes had changed.
    pub fn refresh(&mut self, cell: &Self) -> usize {
        if self.shape != cell.shape {
            let version = self.version;
            *self = cell.copy();
            self.version = version | OWN;
            return cell.nodes.len();
        }
        let mut changed = 0;
        for at in 0..cell.nodes.len() {
            if self.versions[at] == cell.versions[at] {
                continue;
            }
            let new = &cell.nodes[at];
            let mut running = std::mem::take(&mut self.nodes[at].running);
            for task in &running {
                self.count(task.job, at, false);
            }
            for task in &new.running {
                self.count(task.job, at, true);
            }
            running.clone_from(&new.running);
            let mine = &mut self.nodes[at];
            mine.healthy = new.healthy;
            mine.used = new.used;
            mine.running = running;
            self.versions[at] = cell.versions[at];
            changed += 1;
        }
        changed
    }

    /// Commits what schedulers decided on their copies, the claims of higher priority first, else in the order
    /// given. Claims that came at the same time are handed in together.
    pub fn commit(&mut self, mut claims: Vec<Claim>, commit: Commit, check: Check) -> Verdict {
        claims.sort_by_key(|claim| std::cmp::Reverse(claim.spec.priority));
        let mut verdict = Verdict::default();
        if commit == Commit::AllOrNothing {
            // Claims lean on each other, so they are tried in order and taken back.
            let mut trial = self.clone();
            if claims
                .iter()
                .any(|claim| !trial.carry_out(claim, self, check))
            {
                verdict.conflicts = claims;
                return verdict;
            }
        }
        // `Version` compares with the versions before this commit: several claims on one node are no conflict
        // within one transaction, but are between two that came together.
        let before = (check == Check::Version).then(|| self.clone());
        for claim in claims {
            let seen = before.as_ref();
            let done = match seen {
                Some(before) => self.carry_out(&claim, before, check),
                None => self.carry_out_fitting(&claim),
            };
            if done {
                verdict.committed.push(claim);
            } else {
                verdict.conflicts.push(claim);
            }
        }
        verdict
    }

    fn carry_out(&mut self, claim: &Claim, before: &Self, check: Check) -> bool {
        let unchanged = self
            .place_of(claim.node)
            .is_some_and(|at| before.versions[at] == claim.seen);
        (check == Check::Fit || unchanged) && self.carry_out_fitting(claim)
    }

    /// Carries out one claim if all that it would make go is there still and it fits then.
    fn carry_out_fitting(&mut self, claim: &Claim) -> bool {
        let Some(at) = self.place_of(claim.node) else {
            return false;
        };
        if claim.preempt.is_empty() {
            let refused = objection(&self.nodes[at], &claim.spec).is_some();
            if refused && !planted(Bug::PromiseTwice) {
                return false;
            }
        } else {
            let mut node = self.nodes[at].clone();
            let gone = claim.preempt.iter().all(|instance| {
                node.remove(*instance)
                    .is_some_and(|task| task.priority < claim.spec.priority)
            });
            if !gone || objection(&node, &claim.spec).is_some() {
                return false;
            }
            for instance in &claim.preempt {
                self.finish(at, *instance);
            }
        }
        self.start(at, claim.running());
        true
    }
}

/// What a scheduler wants: a task on a node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Claim {
    /// The instance that the task will be.
    pub instance: u64,
    /// The task.
    pub spec: TaskSpec,
    /// The node.
    pub node: u64,
    /// The node's version that was looked at.
    pub seen: u64,
    /// Instances that have to go.
    pub preempt: Vec<u64>,
}

impl Claim {
    /// The task once it runs.
    pub fn running(&self) -> Running {
        Running {
            instance: self.instance,
            job: self.spec.job,
            priority: self.spec.priority,
            resources: self.spec.resources,
        }
    }
}

/// What becomes of the other claims when one has a conflict.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Commit {
    /// They are committed.
    Incremental,
    /// None is: gangs.
    AllOrNothing,
}

/// What counts as a conflict.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Check {
    /// The task does not fit, or what should go is gone or has become more important.
    Fit,
    /// The node has changed at all since it was looked at.
    Version,
}

/// What became of claims.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Verdict {
    /// Carried out.
    pub committed: Vec<Claim>,
    /// To be decided again.
    pub conflicts: Vec<Claim>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(nodes: u64) -> Cell {
        Cell::new((1..=nodes).map(|id| NodeView {
            id,
            healthy: true,
            total: Resources::new(1000, 1000, 0),
            ..NodeView::default()
        }))
    }

    fn claim(instance: u64, node: u64, cpu_milli: u64, priority: u32, seen: u64) -> Claim {
        Claim {
            instance,
            spec: TaskSpec {
                job: instance,
                priority,
                resources: Resources::new(cpu_milli, 1, 0),
                ..TaskSpec::default()
            },
            node,
            seen,
            preempt: Vec::new(),
        }
    }

    fn instances(claims: &[Claim]) -> Vec<u64> {
        claims.iter().map(|claim| claim.instance).collect()
    }

    #[test]
    fn m13_two_schedulers_claim_one_machine_exactly_one_commits() {
        for check in [Check::Fit, Check::Version] {
            for commit in [Commit::Incremental, Commit::AllOrNothing] {
                let mut cell = cell(1);
                let (mut first, mut second) = (cell.copy(), cell.copy());
                let seen = first.node_version(0);
                let verdict = cell.commit(vec![claim(1, 1, 800, 0, seen)], commit, check);
                assert_eq!(instances(&verdict.committed), [1]);
                let seen = second.node_version(0);
                let verdict = cell.commit(vec![claim(2, 1, 800, 0, seen)], commit, check);
                assert_eq!(instances(&verdict.conflicts), [2]);
                assert_eq!(cell.nodes()[0].running.len(), 1);
                // The loser refreshes, and sees that there is no room.
                assert_eq!((first.refresh(&cell), second.refresh(&cell)), (1, 1));
                assert_eq!(second.nodes()[0].free().cpu_milli, 200);
                assert_eq!(second.refresh(&cell), 0);
            }
        }
    }

    #[test]
    fn m13_of_claims_that_come_together_priority_decides() {
        let mut cell = cell(1);
        let seen = cell.node_version(0);
        let together = vec![claim(1, 1, 800, 1, seen), claim(2, 1, 800, 9, seen)];
        let verdict = cell.commit(together, Commit::Incremental, Check::Fit);
        assert_eq!(instances(&verdict.committed), [2]);
        assert_eq!(instances(&verdict.conflicts), [1]);
    }

    #[test]
    fn a_changed_node_with_room_is_a_conflict_by_version_only() {
        for (check, committed) in [(Check::Fit, 1), (Check::Version, 0)] {
            let mut cell = cell(1);
            let seen = cell.node_version(0);
            cell.commit(vec![claim(1, 1, 100, 0, seen)], Commit::Incremental, check);
            let late = vec![claim(2, 1, 100, 0, seen)];
            let verdict = cell.commit(late, Commit::Incremental, check);
            assert_eq!(verdict.committed.len(), committed);
        }
    }

    #[test]
    fn all_or_nothing_commits_nothing_beside_a_conflict() {
        for (commit, committed) in [(Commit::Incremental, 1), (Commit::AllOrNothing, 0)] {
            let mut cell = cell(2);
            let gang = vec![claim(1, 1, 600, 0, 1), claim(2, 1, 600, 0, 1)];
            let verdict = cell.commit(gang, commit, Check::Fit);
            assert_eq!(verdict.committed.len(), committed);
            let running: usize = cell.nodes().iter().map(|node| node.running.len()).sum();
            assert_eq!(running, committed);
        }
    }

    #[test]
    fn preemption_commits_only_while_its_victims_are_there() {
        let mut cell = cell(1);
        cell.start(0, claim(1, 1, 900, 1, 0).running());
        let seen = cell.node_version(0);
        let mut wanted = claim(2, 1, 900, 5, seen);
        wanted.preempt = vec![1];
        let mut other = claim(3, 1, 900, 5, seen);
        other.preempt = vec![1];
        let verdict = cell.commit(vec![wanted, other], Commit::Incremental, Check::Fit);
        assert_eq!(instances(&verdict.committed), [2]);
        assert_eq!(instances(&verdict.conflicts), [3]);
        assert_eq!(cell.nodes()[0].used.cpu_milli, 900);
    }

    #[test]
    fn a_copys_own_changes_are_forgotten_by_a_refresh() {
        let mut cell = cell(3);
        let mut copy = cell.copy();
        copy.start(1, claim(7, 2, 500, 0, 0).running());
        assert_eq!(copy.zone_count(7, 1), 1);
        assert_eq!(cell.zone_count(7, 1), 0);
        cell.start(2, claim(8, 3, 500, 0, 0).running());
        assert_eq!(copy.refresh(&cell), 2);
        assert_eq!(copy.nodes(), cell.nodes());
        assert_eq!(copy.zone_count(7, 1), 0);
    }
}
