//! Which node runs a task (Verma et al.: "Large-scale cluster management at Google with Borg", EuroSys 2015,
//! section 3.2): first *feasibility*, the nodes on which it could run, then *scoring*, the best of them.
//!
//! A score is a sum of [`Part`]s, each 0…1000 and weighted by the [`Rule`]; the best few are kept with their
//! parts, so that everybody can ask why a node was chosen. Only where the task would fit nowhere are tasks of
//! lower priority looked at that would have to go: there the node with the fewest of them wins, before any
//! score.
//!
//! [`place`] looks at each node it is given: cost O(nodes + running tasks). [`Placer`] looks at fewer.

mod placer;
mod preempt;
mod score;

pub use placer::{Effort, Placer};
pub use score::{Part, Scored};

use crate::resources::{Kind, Resources};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

/// Nodes whose scores a [`Choice`] keeps.
pub const TABLE_MAX: usize = 5;

/// From this priority on a task counts as one that serves people, below it as batch work ([`Rule::Mixed`]).
pub const SERVING_PRIORITY: u32 = 100;

/// A node as it is seen by who places.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct NodeView {
    /// Its number; of equally good nodes the smallest is taken.
    pub id: u64,
    /// Where it stands: what fails together. Constraints see it as the attribute `zone`.
    pub zone: String,
    /// False keeps tasks away: it is not heard of, or is being emptied.
    pub healthy: bool,
    /// What constraints are about.
    pub attributes: BTreeMap<String, String>,
    /// Packages that it has already.
    pub packages: BTreeSet<String>,
    /// What it has for tasks.
    pub total: Resources,
    /// The sum of what runs on it. Kept beside `running` for speed: see [`NodeView::add`].
    pub used: Resources,
    /// What runs on it.
    pub running: Vec<Running>,
}

impl NodeView {
    /// What is left on it.
    pub fn free(&self) -> Resources {
        self.total.saturating_sub(self.used)
    }

    /// `task` runs on it from now on.
    pub fn add(&mut self, task: Running) {
        self.used = self.used.saturating_add(task.resources);
        self.running.push(task);
    }

    /// The task of that instance runs on it no more; `None` when it did not.
    pub fn remove(&mut self, instance: u64) -> Option<Running> {
        let at = self.running.iter().position(|r| r.instance == instance)?;
        let task = self.running.swap_remove(at);
        self.used = self.used.saturating_sub(task.resources);
        Some(task)
    }

    /// How many tasks of that job run on it.
    fn count_of(&self, job: u64) -> u64 {
        self.running.iter().filter(|task| task.job == job).count() as u64
    }

    /// What a constraint compares.
    fn attribute(&self, name: &str) -> Option<&str> {
        match self.attributes.get(name) {
            None if name == "zone" => Some(&self.zone),
            found => found.map(String::as_str),
        }
    }
}

/// A task that runs on a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Running {
    /// Its instance: never used twice.
    pub instance: u64,
    /// Its job.
    pub job: u64,
    /// Its priority; the greater is the more important.
    pub priority: u32,
    /// What it was promised.
    pub resources: Resources,
}

/// A task to be placed.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub struct TaskSpec {
    /// Its job: tasks of one are spread.
    pub job: u64,
    /// Its priority. Tasks of a smaller one may have to go for it.
    pub priority: u32,
    /// What it wants.
    pub resources: Resources,
    /// What must hold of its node.
    pub constraints: Vec<Constraint>,
    /// Packages that it needs; a node that has them starts it sooner.
    pub packages: BTreeSet<String>,
}

/// What must hold of a node's attribute.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Constraint {
    /// The attribute's name; `zone` is each node's zone unless it has an attribute of that name.
    pub attribute: String,
    /// How it is compared.
    pub operator: Operator,
    /// With what.
    pub value: String,
}

/// How a constraint compares.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Operator {
    /// The attribute is there and is the value.
    #[serde(rename = "=")]
    Equal,
    /// The attribute is not there, or is something else.
    #[serde(rename = "!=")]
    NotEqual,
}

impl Constraint {
    /// True when it holds of `node`.
    pub fn holds(&self, node: &NodeView) -> bool {
        let equal = node.attribute(&self.attribute) == Some(self.value.as_str());
        equal == (self.operator == Operator::Equal)
    }
}

impl fmt::Display for Constraint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let operator = match self.operator {
            Operator::Equal => "=",
            Operator::NotEqual => "!=",
        };
        write!(f, "{} {operator} {}", self.attribute, self.value)
    }
}

impl FromStr for Constraint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (attribute, operator, value) = match text.split_once("!=") {
            Some((attribute, value)) => (attribute, Operator::NotEqual, value),
            None => match text.split_once('=') {
                Some((attribute, value)) => (attribute, Operator::Equal, value),
                None => {
                    return Err(format!(
                        "{text:?} is no constraint: write `attribute = value` or `attribute != value`"
                    ));
                }
            },
        };
        let (attribute, value) = (attribute.trim(), value.trim());
        if attribute.is_empty() || value.is_empty() {
            return Err(format!(
                "{text:?} is no constraint: it needs an attribute and a value"
            ));
        }
        Ok(Self {
            attribute: attribute.to_owned(),
            operator,
            value: value.to_owned(),
        })
    }
}

/// What makes one feasible node better than another.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    /// The fullest: room for large tasks stays. Bursts beyond what was asked for hurt.
    #[default]
    BestFit,
    /// The emptiest: bursts find room. Large tasks find less.
    WorstFit,
    /// The zone, then the node, with the fewest tasks of the same job.
    Spread,
    /// The node that has the task's packages already.
    PackageLocality,
    /// Serving and batch tasks beside each other, packages, and domains, all a little.
    Mixed,
}

impl Rule {
    /// Every rule.
    pub const ALL: [Self; 5] = [
        Self::BestFit,
        Self::WorstFit,
        Self::Spread,
        Self::PackageLocality,
        Self::Mixed,
    ];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::BestFit => "best-fit",
            Self::WorstFit => "worst-fit",
            Self::Spread => "spread",
            Self::PackageLocality => "package-locality",
            Self::Mixed => "mixed",
        }
    }

    /// How much each part of a score counts, in the order of the table.
    pub const fn weights(self) -> &'static [(Part, u32)] {
        match self {
            Self::BestFit => &[(Part::Fullness, 1)],
            Self::WorstFit => &[(Part::Room, 1)],
            Self::Spread => &[(Part::Zone, 1000), (Part::Alone, 10), (Part::Room, 1)],
            Self::PackageLocality => &[(Part::Packages, 1000), (Part::Fullness, 1)],
            Self::Mixed => &[
                (Part::Mix, 2),
                (Part::Packages, 2),
                (Part::Zone, 2),
                (Part::Alone, 1),
                (Part::Fullness, 1),
            ],
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Rule {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|rule| rule.name() == name);
        found.ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            format!("no rule of placement {name:?}: there are {names}")
        })
    }
}

/// Where a task goes, and why.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Choice {
    /// The node's number.
    pub node: u64,
    /// Instances that have to go first, in the order of their numbers. Empty unless it fits nowhere.
    pub preempt: Vec<u64>,
    /// Nodes that were looked at.
    pub considered: usize,
    /// Nodes of these on which it could run (with preemption, when there is any).
    pub feasible: usize,
    /// The best of them, the chosen one first, at most [`TABLE_MAX`].
    pub table: Vec<Scored>,
}

/// Why a task goes nowhere: how many nodes each reason rules out, a node by the first that holds.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct WhyNot {
    /// Nodes that were looked at.
    pub considered: usize,
    /// Nodes by reason.
    pub reasons: BTreeMap<Reason, usize>,
}

/// Why a node cannot run a task.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reason {
    /// It is not healthy.
    Unhealthy,
    /// A constraint does not hold, in its written form.
    Constraint(String),
    /// It never had so much.
    TooSmall(Kind),
    /// What it has is taken, by tasks that need not go for this one.
    Taken(Kind),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unhealthy => f.write_str("not healthy"),
            Self::Constraint(constraint) => write!(f, "not {constraint}"),
            Self::TooSmall(kind) => write!(f, "too small ({kind})"),
            Self::Taken(kind) => write!(f, "too full ({kind})"),
        }
    }
}

impl WhyNot {
    fn add(&mut self, reason: Reason) {
        *self.reasons.entry(reason).or_default() += 1;
    }
}

impl fmt::Display for WhyNot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.considered == 0 {
            return f.write_str("there is no node");
        }
        write!(f, "none of {} nodes can run it: ", self.considered)?;
        for (at, (reason, nodes)) in self.reasons.iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            write!(f, "{comma}{nodes} {reason}")?;
        }
        Ok(())
    }
}

/// Why `task` cannot run on `node` as it is, or `None` when it can. The one check of feasibility: who plans
/// and who carries out use the same.
pub fn objection(node: &NodeView, task: &TaskSpec) -> Option<Reason> {
    if !node.healthy {
        return Some(Reason::Unhealthy);
    }
    if let Some(failed) = task.constraints.iter().find(|c| !c.holds(node)) {
        return Some(Reason::Constraint(failed.to_string()));
    }
    if let Some(kind) = task.resources.lacking(node.total) {
        return Some(Reason::TooSmall(kind));
    }
    task.resources.lacking(node.free()).map(Reason::Taken)
}

/// Places `task` on one of `nodes` by `rule`.
///
/// # Errors
/// [`WhyNot`] when no node can run it, not even if all tasks of lower priority went.
pub fn place(nodes: &[NodeView], task: &TaskSpec, rule: Rule) -> Result<Choice, WhyNot> {
    let mut why = WhyNot {
        considered: nodes.len(),
        ..WhyNot::default()
    };
    let mut feasible = Vec::new();
    let mut full = Vec::new();
    for node in nodes {
        match objection(node, task) {
            None => feasible.push(node),
            Some(reason) => {
                if matches!(reason, Reason::Taken(_)) {
                    full.push(node);
                }
                why.add(reason);
            }
        }
    }
    let zones = score::zones(nodes, task, rule);
    let in_zone = |node: &NodeView| zones.get(node.zone.as_str()).copied().unwrap_or(0);
    if !feasible.is_empty() {
        let scored = feasible
            .iter()
            .map(|node| score::score(node, node.used, task, rule, in_zone(node)));
        let table = score::best(scored);
        return Ok(Choice {
            node: table[0].node,
            preempt: Vec::new(),
            considered: nodes.len(),
            feasible: feasible.len(),
            table,
        });
    }
    preempt::place(&full, task, rule, in_zone)
        .map(|choice| Choice {
            considered: nodes.len(),
            ..choice
        })
        .ok_or(why)
}

#[cfg(test)]
mod tests;
