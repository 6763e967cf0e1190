//! A run as one HTML file that needs nothing else: a space-time diagram with lanes, messages, losses,
//! crashes and partitions; roles are colours, an event shows its vector clock and its causal past.

use super::registry::Algorithm;
use super::simulation::{Outcome, Plan, What};
use serde_json::{Value, json};

/// The page; its script is written out in full, so that the file is read without a network.
const PAGE: &str = include_str!("report.html");

/// The page of a run that kept what happened.
pub fn report(algorithm: &Algorithm, plan: &Plan, outcome: &Outcome) -> String {
    let title = format!(
        "{}: {} nodes, seed {}",
        algorithm.header.title, plan.nodes, plan.seed
    );
    // `<` could end the script.
    let data = data(algorithm, plan, outcome)
        .to_string()
        .replace('<', "\\u003c");
    PAGE.replace("{{TITLE}}", &title).replace("{{DATA}}", &data)
}

fn data(algorithm: &Algorithm, plan: &Plan, outcome: &Outcome) -> Value {
    let until_us = outcome
        .shown
        .last()
        .map_or(1_000, |shown| shown.at_us + 1_000);
    let mut lines = vec![
        json!(["", algorithm.header.idea]),
        json!([
            "",
            format!(
                "{} messages sent, {} delivered",
                outcome.sent, outcome.delivered
            )
        ]),
    ];
    lines.extend(
        outcome
            .unsafe_
            .iter()
            .map(|text| json!(["bad", format!("unsafe: {text}")])),
    );
    lines.extend(
        outcome
            .stalled
            .iter()
            .map(|text| json!(["bad", format!("stuck: {text}")])),
    );
    if lines.len() == 2 {
        lines.push(json!(["good", "all promises held"]));
    }
    let bands: Vec<Value> = (plan.script.faults.iter())
        .filter_map(|planned| {
            let until_ms = planned.until_ms?;
            let told = format!("{:?}", planned.fault);
            Some(json!([planned.at_ms * 1000, until_ms * 1000, told]))
        })
        .collect();
    json!({
        "nodes": plan.nodes,
        "until": until_us,
        "lines": lines,
        "bands": bands,
        "lanes": lanes(plan, outcome, until_us),
        "events": outcome.shown.iter().map(event).collect::<Vec<_>>(),
    })
}

fn event(shown: &super::simulation::Shown) -> Value {
    let (kind, message, text) = match &shown.what {
        What::Sent(number, to, text) => ("sent", Some(*number), format!("to node {to}: {text}")),
        What::Received(number) => ("received", Some(*number), String::new()),
        What::Lost(number) => ("lost", Some(*number), String::new()),
        What::Asked(text) => ("asked", None, text.clone()),
        What::Decided(text) => ("decided", None, text.clone()),
        What::Role(role) => ("role", None, (*role).to_owned()),
        What::Fault(text) => ("fault", None, text.clone()),
        What::Violation(text) => ("wrong", None, text.clone()),
    };
    json!({"t": shown.at_us, "n": shown.node, "k": kind, "m": message, "x": text})
}

/// For each node, from 1 on, the times during which it had a role, or was down.
fn lanes(plan: &Plan, outcome: &Outcome, until_us: u64) -> Vec<Vec<Value>> {
    let mut lanes = vec![Vec::new(); plan.nodes + 1];
    let mut now = vec![(0, ""); plan.nodes + 1];
    for shown in &outcome.shown {
        let role = match &shown.what {
            What::Role(role) => *role,
            What::Fault(text) if text.starts_with("Crash") || text.starts_with("Wipe") => "down",
            What::Fault(text) if text.starts_with("Restart") => "",
            _ => continue,
        };
        let (since_us, before) = now[shown.node];
        lanes[shown.node].push(json!([since_us, shown.at_us, before]));
        now[shown.node] = (shown.at_us, role);
    }
    for (lane, (since_us, role)) in lanes.iter_mut().zip(now) {
        lane.push(json!([since_us, until_us, role]));
    }
    lanes
}
