//! Which tasks have to go so that one of a higher priority fits.
//!
//! On one node: of the tasks of lower priority, the one that frees most of what is lacking goes first, until
//! it fits; then each that is not needed after all stays, the most important first. That is the fewest where
//! one kind of resource is lacking; where several are, it may be one more than the fewest (finding those is
//! a covering problem). Cost: O(k²) for k tasks on the node.

use super::score::{best, score};
use super::{Choice, NodeView, Rule, Running, TaskSpec};
use crate::resources::Resources;
use std::collections::BTreeMap;

/// The node among `full` (feasible but for what is taken) that needs the fewest tasks to go.
pub(super) fn place(
    full: &[&NodeView],
    task: &TaskSpec,
    rule: Rule,
    in_zone: impl Fn(&NodeView) -> u64,
) -> Option<Choice> {
    let mut victims = BTreeMap::new();
    let mut scored = Vec::new();
    for node in full {
        let Some(gone) = fewest(node, task) else {
            continue;
        };
        let freed = sum(&gone);
        let mut one = score(
            node,
            node.used.saturating_sub(freed),
            task,
            rule,
            in_zone(node),
        );
        one.preempted = gone.len() as u32;
        scored.push(one);
        victims.insert(node.id, gone);
    }
    let table = best(scored);
    let node = table.first()?.node;
    let mut preempt: Vec<u64> = victims[&node].iter().map(|task| task.instance).collect();
    preempt.sort_unstable();
    Some(Choice {
        node,
        preempt,
        considered: full.len(),
        feasible: victims.len(),
        table,
    })
}

fn sum(tasks: &[Running]) -> Resources {
    tasks.iter().fold(Resources::NONE, |sum, task| {
        sum.saturating_add(task.resources)
    })
}

/// The tasks that have to go from `node`, or `None` when not even all of lower priority are enough.
fn fewest(node: &NodeView, task: &TaskSpec) -> Option<Vec<Running>> {
    let mut candidates: Vec<Running> = node
        .running
        .iter()
        .filter(|other| other.priority < task.priority)
        .copied()
        .collect();
    let mut gone: Vec<Running> = Vec::new();
    loop {
        let lacking = task
            .resources
            .saturating_sub(node.free().saturating_add(sum(&gone)));
        if lacking.is_none() {
            break;
        }
        let frees = |one: &Running| one.resources.mean_per_mille(lacking);
        let at = (0..candidates.len()).min_by_key(|&at| {
            let one = &candidates[at];
            (std::cmp::Reverse(frees(one)), one.priority, one.instance)
        })?;
        if frees(&candidates[at]) == 0 {
            return None;
        }
        gone.push(candidates.swap_remove(at));
    }
    gone.sort_by_key(|one| (std::cmp::Reverse(one.priority), one.instance));
    let mut at = 0;
    while at < gone.len() {
        let one = gone.remove(at);
        let room = node.free().saturating_add(sum(&gone));
        if !task.resources.fits(room) {
            gone.insert(at, one);
            at += 1;
        }
    }
    Some(gone)
}
