//! The laboratory for a node's console. Host and lab do not know each other; here is who knows both.

use base::algorithm::Family;
use console::{Algorithm, Laboratory};
use host::{Lab, LabQuestion};
use lab::peers::pages;
use std::sync::Arc;

/// What a host is handed.
pub fn of_node() -> Option<Arc<Lab>> {
    let mut headers = pages::headers();
    headers.sort_by_key(|header| {
        Family::ALL
            .iter()
            .position(|family| *family == header.family)
    });
    let algorithms = headers.into_iter().map(|header| Algorithm {
        family: header.family.name().into(),
        name: header.name.into(),
        title: header.title.into(),
        assumptions: header.assumptions.into(),
        cost: header.cost.into(),
    });
    let faults = pages::faults().into_iter();
    let about = Laboratory {
        algorithms: algorithms.collect(),
        faults: faults
            .map(|(name, what)| (name.into(), what.into()))
            .collect(),
        nodes_max: pages::NODES_MAX,
        seeds_max: pages::SEEDS_MAX,
    };
    Some(Arc::new(Lab::new(about, draw)))
}

fn draw(asked: &LabQuestion) -> Result<String, String> {
    let names: Vec<&str> = asked.algorithms.iter().map(String::as_str).collect();
    match names[..] {
        [one] => pages::run(one, asked.nodes, &asked.faults, asked.number),
        _ => pages::compare(&names, asked.nodes, &asked.faults, asked.number),
    }
}
