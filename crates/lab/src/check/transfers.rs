//! Transactions over shards: all or nothing in every chapter, one outcome for each id, and a sum that nobody
//! ever sees changed.

use crate::history::History;
use crate::tellers::{Asked, FUNDS, Kind, MOVES, accounts};
use node::Transacted;
use shard::transaction::StepResult;
use std::collections::BTreeSet;
use storage::cache::Reply;

/// Objections.
pub fn check(history: &History) -> Vec<String> {
    let mut objections = Vec::new();
    if history.asked.is_empty() {
        return objections;
    }
    let (mut moved, mut with_node) = (BTreeSet::new(), BTreeSet::new());
    for asked in &history.asked {
        let id = name(asked);
        let Some(first) = asked.heard.first() else {
            objections.push(format!("{id} was never answered"));
            continue;
        };
        if let Some(other) = asked.heard.iter().find(|other| *other != first) {
            objections.push(format!("{id} ended twice: {first:?}, then {other:?}"));
        }
        let Transacted::Committed(results) = first else {
            continue;
        };
        match asked.kind {
            Kind::Read | Kind::Look => check_sum(&id, results, &mut objections),
            Kind::Move { leaves_node } => {
                if leaves_node {
                    with_node.insert(id.clone());
                }
                if results.len() > 2 {
                    moved.insert(id);
                }
            }
            Kind::Found => {}
        }
    }
    let looks = history
        .asked
        .iter()
        .filter(|asked| asked.kind == Kind::Look);
    for asked in looks {
        let results = match asked.heard.first() {
            Some(Transacted::Committed(results)) => results,
            other => {
                let id = name(asked);
                objections.push(format!("{id} did not see all at the end: {other:?}"));
                continue;
            }
        };
        let lists = results.iter().skip(accounts().len());
        let elements: Vec<String> = lists.flat_map(elements_of).collect();
        let found: BTreeSet<String> = elements.iter().cloned().collect();
        if found.len() != elements.len() {
            objections.push(format!("{}: a move is in a list twice", name(asked)));
        }
        compare("in the lists", &found, &moved, &mut objections);
    }
    for (node, tree) in &history.trees {
        let prefix = format!("{MOVES}/");
        let found: BTreeSet<String> = (tree.keys())
            .filter_map(|path| Some(path.strip_prefix(&prefix)?.to_owned()))
            .collect();
        let place = format!("in the tree of node{node}");
        compare(&place, &found, &with_node, &mut objections);
    }
    objections
}

fn name(asked: &Asked) -> String {
    let id = asked.transaction.id.as_ref();
    id.map_or_else(String::new, ToString::to_string)
}

fn compare(
    place: &str,
    found: &BTreeSet<String>,
    committed: &BTreeSet<String>,
    objections: &mut Vec<String>,
) {
    for id in found.symmetric_difference(committed) {
        let is = if found.contains(id) { "is" } else { "is not" };
        let was = if committed.contains(id) {
            "was"
        } else {
            "was not"
        };
        objections.push(format!("{id} {was} committed and {is} {place}"));
    }
}

fn check_sum(id: &str, results: &[Option<StepResult>], objections: &mut Vec<String>) {
    let count = accounts().len();
    let balances: Option<Vec<i64>> = (results.iter().take(count))
        .map(|result| match result {
            Some(StepResult::Cache {
                reply: Reply::Bulk(text),
                ..
            }) => std::str::from_utf8(text).ok()?.parse().ok(),
            _ => None,
        })
        .collect();
    match balances {
        None => objections.push(format!("{id} did not see all accounts: {results:?}")),
        Some(balances) if balances.iter().sum::<i64>() != FUNDS * count as i64 => {
            objections.push(format!("{id} saw another sum: {balances:?}"));
        }
        Some(_) => {}
    }
}

fn elements_of(result: &Option<StepResult>) -> Vec<String> {
    match result {
        Some(StepResult::Cache {
            reply: Reply::Array(all),
            ..
        }) => (all.iter())
            .filter_map(|element| match element {
                Reply::Bulk(text) => Some(String::from_utf8_lossy(text).into_owned()),
                _ => None,
            })
            .collect(),
        _ => Vec::new(),
    }
}
