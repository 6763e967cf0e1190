//! The laboratory: all algorithms with what they assume and cost, and forms that run and compare them.

use crate::View;
use crate::layout::{code, plain, table};
use maud::{Markup, html};

/// What a node can say of the laboratory.
#[derive(Clone, Debug, Default)]
pub struct Laboratory {
    /// All algorithms, by family.
    pub algorithms: Vec<Algorithm>,
    /// Faults by name, and what they do.
    pub faults: Vec<(String, String)>,
    /// Most nodes of a run.
    pub nodes_max: usize,
    /// Most seeds of a comparison.
    pub seeds_max: u64,
}

/// An algorithm of the laboratory.
#[derive(Clone, Debug, Default)]
pub struct Algorithm {
    /// Its family.
    pub family: String,
    /// Its name.
    pub name: String,
    /// Its title.
    pub title: String,
    /// What must be so for it to keep its promises.
    pub assumptions: String,
    /// Messages, and how long it takes.
    pub cost: String,
}

pub fn body(view: &View<'_>) -> Markup {
    html! {
        h1 { "Laboratory" }
        @match view.lab {
            Some(lab) => (found(lab)),
            None => p.dim { "This node was started without it." },
        }
    }
}

fn found(lab: &Laboratory) -> Markup {
    html! {
        p.dim {
            "Algorithms among equals under simulated faults, one run at a time, beside what this node serves. "
            "The same, without these bounds: " code { "althing lab --help" } "; between real nodes: "
            code { "althing group --help" } "."
        }
        h2 { "One run" }
        form method="get" action="/lab/run" {
            label { "algorithm " select name="algorithm" { (options(lab)) } } " "
            (shared(lab)) " "
            label { "seed " input type="number" name="seed" value="1" min="0"; } " "
            button { "Run" }
        }
        h2 { "Side by side" }
        form method="get" action="/lab/compare" {
            @for (i, first) in ["centralized", "ricart-agrawala", "majority", "token-ring", "", ""].iter().enumerate() {
                select name=(format!("a{i}")) aria-label=(format!("algorithm {}", i + 1)) {
                    option value="" { "–" }
                    @for algorithm in &lab.algorithms {
                        option value=(algorithm.name) selected[algorithm.name == *first] { (algorithm.name) }
                    }
                }
                " "
            }
            (shared(lab)) " "
            label { "seeds " input type="number" name="seeds" value="20" min="1" max=(lab.seeds_max); } " "
            button { "Compare" }
        }
        @for (family, rows) in families(lab) {
            h2 { (family) }
            (table(&[("Name", false), ("Algorithm", false), ("Assumes", false), ("Costs", false)], &rows, ""))
        }
        h2 { "Faults" }
        (table(&[("Name", false), ("What goes wrong", false)], &faults(lab), ""))
    }
}

fn options(lab: &Laboratory) -> Markup {
    html! {
        @for algorithm in &lab.algorithms { option value=(algorithm.name) { (algorithm.name) } }
    }
}

/// Fields of both forms.
fn shared(lab: &Laboratory) -> Markup {
    html! {
        label { "nodes " input type="number" name="nodes" value="5" min="2" max=(lab.nodes_max); } " "
        label {
            "faults "
            select name="faults" { @for (name, _) in &lab.faults { option value=(name) { (name) } } }
        }
    }
}

fn families(lab: &Laboratory) -> Vec<(&str, Vec<Vec<Markup>>)> {
    let mut families: Vec<(&str, Vec<Vec<Markup>>)> = Vec::new();
    for algorithm in &lab.algorithms {
        let row = vec![
            code(&algorithm.name),
            plain(&algorithm.title),
            plain(&algorithm.assumptions),
            plain(&algorithm.cost),
        ];
        match families.last_mut() {
            Some((family, rows)) if *family == algorithm.family => rows.push(row),
            _ => families.push((&algorithm.family, vec![row])),
        }
    }
    families
}

fn faults(lab: &Laboratory) -> Vec<Vec<Markup>> {
    let row = |(name, meaning): &(String, String)| vec![code(name), plain(meaning)];
    lab.faults.iter().map(row).collect()
}
