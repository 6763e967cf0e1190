//! Placement in large cells: the same answers from fewer looks (Borg paper, section 3.4).
//!
//! * *Equivalence classes*: which nodes a task could ever run on is found out once for all tasks that want the
//!   same.
//! * *Score cache*: a node's score for a class is kept until the node changes.
//! * *Sampling* ("relaxed randomization"): nodes are looked at in turn, from where the last search ended, until
//!   enough feasible ones are found; the best of these is taken.
//!
//! With [`Effort::All`] the choice is that of [`super::place`]; with fewer candidates it is the best of a sample.

use super::score::{self, best, score, total};
use super::{
    Choice, NodeView, Part, Reason, Rule, TABLE_MAX, TaskSpec, WhyNot, objection, preempt,
};
use crate::cell::Cell;
use base::map::HashMap;

/// Classes that are remembered; beyond them all are forgotten.
const CLASSES_MAX: usize = 1024;

/// How many nodes are looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Effort {
    /// Every node that could ever run the task.
    All,
    /// As many as it takes to find so many feasible ones; at least 1.
    Feasible(usize),
}

/// Places tasks in one cell, and remembers what it found out. A private copy of a cell has a placer of its own.
#[derive(Clone, Debug)]
pub struct Placer {
    rule: Rule,
    effort: Effort,
    classes: HashMap<TaskSpec, Class>,
    next: usize,
}

#[derive(Clone, Debug)]
struct Class {
    shape: u64,
    /// Places of the nodes that could ever run it, and what was found out of each.
    nodes: Vec<(usize, Found)>,
}

/// What was found out of a node at a version: nothing when it cannot run the task, else its score without
/// the part that changes with other nodes.
#[derive(Clone, Copy, Debug)]
struct Found {
    version: u64,
    score: Option<u64>,
}

impl Placer {
    /// A placer that has found out nothing yet.
    pub fn new(rule: Rule, effort: Effort) -> Self {
        Self {
            rule,
            effort,
            classes: HashMap::default(),
            next: 0,
        }
    }

    /// Places `task` in `cell`, which must be the one that it was always called with.
    ///
    /// # Errors
    /// [`WhyNot`] when no node can run it, as [`super::place`] does.
    pub fn place(&mut self, cell: &Cell, task: &TaskSpec) -> Result<Choice, WhyNot> {
        let rule = self.rule;
        let by_job = rule
            .weights()
            .iter()
            .any(|(part, _)| matches!(part, Part::Zone | Part::Alone));
        let key = TaskSpec {
            job: if by_job { task.job } else { 0 },
            ..task.clone()
        };
        if self.classes.len() >= CLASSES_MAX && !self.classes.contains_key(&key) {
            self.classes.clear();
        }
        let class = self.classes.entry(key).or_insert_with(|| Class {
            shape: cell.shape() + 1,
            nodes: Vec::new(),
        });
        if class.shape != cell.shape() {
            *class = Class::of(cell, task);
        }
        let enough = match self.effort {
            Effort::All => usize::MAX,
            Effort::Feasible(enough) => enough.max(1),
        };
        let zoned = score::asks_for_zones(rule);
        let in_zone = |at| {
            if zoned {
                cell.zone_count(task.job, at)
            } else {
                0
            }
        };
        let all = class.nodes.len();
        let (mut looked, mut feasible) = (0, 0);
        let mut top: Vec<(std::cmp::Reverse<u64>, u64, usize)> = Vec::with_capacity(TABLE_MAX + 1);
        while looked < all && feasible < enough {
            let (at, found) = &mut class.nodes[(self.next + looked) % all];
            let at = *at;
            looked += 1;
            let node = &cell.nodes()[at];
            if found.version != cell.node_version(at) {
                *found = Found {
                    version: cell.node_version(at),
                    score: objection(node, task)
                        .is_none()
                        .then(|| total(node, task, rule, 0, |part| part != Part::Zone)),
                };
            }
            let Some(own) = found.score else { continue };
            feasible += 1;
            let zone = match zoned {
                true => total(node, task, rule, in_zone(at), |part| part == Part::Zone),
                false => 0,
            };
            let rank = (std::cmp::Reverse(own + zone), node.id, at);
            let place = top.partition_point(|other| *other < rank);
            if place < TABLE_MAX {
                top.insert(place, rank);
                top.truncate(TABLE_MAX);
            }
        }
        if all > 0 {
            self.next = (self.next + looked) % all;
        }
        if !top.is_empty() {
            let table = best(top.iter().map(|&(_, _, at)| {
                let node = &cell.nodes()[at];
                score(node, node.used, task, rule, in_zone(at))
            }));
            return Ok(Choice {
                node: table[0].node,
                preempt: Vec::new(),
                considered: looked,
                feasible,
                table,
            });
        }
        let nodes = cell.nodes();
        let full: Vec<&NodeView> = class
            .nodes
            .iter()
            .map(|(at, _)| &nodes[*at])
            .filter(|node| matches!(objection(node, task), Some(Reason::Taken(_))))
            .collect();
        let in_zone = |node: &NodeView| cell.place_of(node.id).map_or(0, in_zone);
        preempt::place(&full, task, rule, in_zone).ok_or_else(|| {
            let mut why = WhyNot {
                considered: nodes.len(),
                ..WhyNot::default()
            };
            nodes
                .iter()
                .filter_map(|node| objection(node, task))
                .for_each(|reason| why.add(reason));
            why
        })
    }
}

impl Class {
    fn of(cell: &Cell, task: &TaskSpec) -> Self {
        let nodes = cell.nodes().iter().enumerate();
        Self {
            shape: cell.shape(),
            nodes: nodes
                .filter(|(_, node)| {
                    task.constraints.iter().all(|c| c.holds(node))
                        && task.resources.fits(node.total)
                })
                .map(|(at, _)| {
                    let unknown = Found {
                        version: u64::MAX,
                        score: None,
                    };
                    (at, unknown)
                })
                .collect(),
        }
    }
}
