//! Scores of feasible nodes.

use super::{NodeView, Rule, SERVING_PRIORITY, TABLE_MAX, TaskSpec};
use crate::resources::Resources;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// What is good about a node for a task: 0…1000 points.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// How full it will be: the mean of its kinds of resources.
    Fullness,
    /// How empty it will be.
    Room,
    /// How few tasks of the job its zone has: 1000 ÷ (1 + so many).
    Zone,
    /// How few tasks of the job it has itself: 1000 ÷ (1 + so many).
    Alone,
    /// How many of the task's packages it has.
    Packages,
    /// How much of what runs on it is of the other sort (serving, batch); 500 when nothing runs.
    Mix,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fullness => "fullness",
            Self::Room => "room",
            Self::Zone => "zone",
            Self::Alone => "alone",
            Self::Packages => "packages",
            Self::Mix => "mix",
        })
    }
}

/// A node's score for a task.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Scored {
    /// The node's number.
    pub node: u64,
    /// Tasks that would have to go.
    pub preempted: u32,
    /// The sum of points × weight.
    pub total: u64,
    /// Part, points (0…1000) and weight.
    pub parts: Vec<(Part, u32, u32)>,
}

impl Scored {
    /// The order of choice: fewest preempted, then the greatest total, then the smallest number.
    fn rank(&self) -> impl Ord + use<> {
        (self.preempted, std::cmp::Reverse(self.total), self.node)
    }
}

/// True when the rule asks how many tasks of the job a node's zone has.
pub(crate) fn asks_for_zones(rule: Rule) -> bool {
    rule.weights().iter().any(|(part, _)| *part == Part::Zone)
}

/// Tasks of the job by zone, where the rule asks for them.
pub(super) fn zones<'a>(
    nodes: impl IntoIterator<Item = &'a NodeView>,
    task: &TaskSpec,
    rule: Rule,
) -> BTreeMap<&'a str, u64> {
    let mut zones = BTreeMap::new();
    if asks_for_zones(rule) {
        for node in nodes {
            *zones.entry(node.zone.as_str()).or_default() += node.count_of(task.job);
        }
    }
    zones
}

/// The points of `part` for `node`, of which `used` is taken before `task` comes, and whose zone has `in_zone`
/// tasks of the job.
fn points(part: Part, node: &NodeView, used: Resources, task: &TaskSpec, in_zone: u64) -> u32 {
    let fullness = || {
        used.saturating_add(task.resources)
            .mean_per_mille(node.total)
    };
    let points = match part {
        Part::Fullness => fullness(),
        Part::Room => 1000 - fullness(),
        Part::Zone => 1000 / (1 + in_zone),
        Part::Alone => 1000 / (1 + node.count_of(task.job)),
        Part::Packages => packages(node, task),
        Part::Mix => mix(node, task),
    };
    points as u32 // at most 1,000
}

/// The sum of points × weight of the parts that `counts` lets through.
pub(super) fn total(
    node: &NodeView,
    task: &TaskSpec,
    rule: Rule,
    in_zone: u64,
    counts: impl Fn(Part) -> bool,
) -> u64 {
    let weights = rule.weights().iter().filter(|(part, _)| counts(*part));
    weights
        .map(|&(part, weight)| {
            u64::from(points(part, node, node.used, task, in_zone)) * u64::from(weight)
        })
        .sum()
}

/// The score of `node`, of which `used` is taken before `task` comes.
pub(super) fn score(
    node: &NodeView,
    used: Resources,
    task: &TaskSpec,
    rule: Rule,
    in_zone: u64,
) -> Scored {
    let parts: Vec<(Part, u32, u32)> = rule
        .weights()
        .iter()
        .map(|&(part, weight)| (part, points(part, node, used, task, in_zone), weight))
        .collect();
    Scored {
        node: node.id,
        preempted: 0,
        total: parts
            .iter()
            .map(|(_, points, weight)| u64::from(*points) * u64::from(*weight))
            .sum(),
        parts,
    }
}

fn packages(node: &NodeView, task: &TaskSpec) -> u64 {
    match task.packages.len() as u64 {
        0 => 1000,
        wanted => task.packages.intersection(&node.packages).count() as u64 * 1000 / wanted,
    }
}

fn mix(node: &NodeView, task: &TaskSpec) -> u64 {
    let serving = |priority| priority >= SERVING_PRIORITY;
    let others = node
        .running
        .iter()
        .filter(|other| serving(other.priority) != serving(task.priority))
        .count();
    match node.running.len() {
        0 => 500,
        all => (others * 1000 / all) as u64,
    }
}

/// The best of `scored`, at most [`TABLE_MAX`], the very best first.
pub(super) fn best(scored: impl IntoIterator<Item = Scored>) -> Vec<Scored> {
    let mut table: Vec<Scored> = Vec::with_capacity(TABLE_MAX + 1);
    for one in scored {
        let at = table.partition_point(|other| other.rank() < one.rank());
        if at < TABLE_MAX {
            table.insert(at, one);
            table.truncate(TABLE_MAX);
        }
    }
    table
}
