//! Runs and comparisons for a console: the pages that the verbs draw into files, within bounds that a node that
//! serves others can bear.

use super::registry::{self, Algorithm};
use super::simulation::{Pace, Plan};
use super::verbs::until_ms;
use super::{charts, html, text, troubles};
use base::algorithm::Header;

/// Most nodes of a run.
pub const NODES_MAX: usize = 9;
/// Most seeds of a comparison.
pub const SEEDS_MAX: u64 = 50;
/// Most algorithms of a comparison.
pub const COMPARED_MAX: usize = 6;
/// Events of a run that are drawn; a browser has to bear them.
const SHOWN_MAX: usize = 40_000;

/// What all algorithms say of themselves, by family.
pub fn headers() -> Vec<Header> {
    let all = registry::all().into_iter();
    all.map(|algorithm| algorithm.header).collect()
}

/// Faults by name, and what they do.
pub fn faults() -> Vec<(&'static str, &'static str)> {
    troubles::names()
}

fn check(nodes: usize) -> Result<(), String> {
    match (2..=NODES_MAX).contains(&nodes) {
        true => Ok(()),
        false => Err(format!("nodes: 2 to {NODES_MAX}, not {nodes}")),
    }
}

/// Faults are names here: a file of this machine is nothing for who asks over the network.
fn plan(algorithm: &Algorithm, nodes: usize, faults: &str, seed: u64) -> Result<Plan, String> {
    let script = troubles::parse(faults, algorithm.header.survives, nodes, seed)?;
    Ok(Plan {
        nodes,
        seed,
        until_ms: until_ms(&script),
        script,
        keep: false,
        pace: Pace::default(),
    })
}

/// The page of one run.
///
/// # Errors
/// What cannot be asked like this, and what can.
pub fn run(name: &str, nodes: usize, faults: &str, seed: u64) -> Result<String, String> {
    check(nodes)?;
    let algorithm = registry::find(name)?;
    let mut plan = plan(&algorithm, nodes, faults, seed)?;
    plan.keep = true;
    let mut outcome = (algorithm.run)(&plan);
    outcome.shown.truncate(SHOWN_MAX);
    Ok(html::report(&algorithm, &plan, &outcome))
}

/// The page of a comparison on seeds from 1 on.
///
/// # Errors
/// What cannot be asked like this, and what can.
pub fn compare(names: &[&str], nodes: usize, faults: &str, seeds: u64) -> Result<String, String> {
    check(nodes)?;
    if !(1..=SEEDS_MAX).contains(&seeds) {
        return Err(format!("seeds: 1 to {SEEDS_MAX}, not {seeds}"));
    }
    if !(2..=COMPARED_MAX).contains(&names.len()) {
        return Err(format!("compare 2 to {COMPARED_MAX} algorithms"));
    }
    let mut columns = Vec::new();
    for name in names {
        let algorithm = registry::find(name)?;
        let mut sum = text::Sum::new(algorithm.header.name);
        for seed in 1..=seeds {
            sum.add(&(algorithm.run)(&plan(&algorithm, nodes, faults, seed)?));
        }
        columns.push(sum);
    }
    let table = text::compare(&columns, nodes as u64, seeds, faults);
    let command = format!(
        "althing lab compare {} --nodes {nodes} --seeds {seeds} --faults {faults} --html FILE",
        names.join(" ")
    );
    let heading = charts::Heading {
        nodes: nodes as u64,
        seeds,
        faults,
        table: &table,
        command: &command,
    };
    Ok(charts::page(&heading, &columns))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_drawn_within_bounds_and_from_no_file() {
        assert!(run("bully", 3, "crash", 1).unwrap().contains("<html"));
        let page = compare(&["bully", "zab"], 3, "none", 2).unwrap();
        assert!(page.contains("althing lab compare bully zab"));
        assert!(run("bully", 10, "none", 1).unwrap_err().contains("2 to 9"));
        assert!(run("boss", 3, "none", 1).unwrap_err().contains("bully"));
        assert!(
            run("bully", 3, "/etc/passwd", 1)
                .unwrap_err()
                .contains("no fault")
        );
        assert!(compare(&["bully"], 3, "none", 2).is_err());
        assert!(compare(&["bully", "zab"], 3, "none", 51).is_err());
    }
}
