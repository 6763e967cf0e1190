//! What the verbs say, for a terminal.

use super::impossible::{Scenario, Shows};
use super::registry::Algorithm;
use super::search::{Bounds, Finding};
use super::simulation::{Outcome, Plan, What};
use super::study::{self, Downtimes};
use super::troubles;
use base::algorithm::{Family, Header, Trouble};
use cluster::placement::{self, Rule, equal};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};

/// Lines of a run that are shown unless all are asked for.
const LINES_MAX: usize = 60;

macro_rules! line {
    ($out:expr, $($what:tt)*) => {
        // A string takes everything.
        let _ = writeln!($out, $($what)*);
    };
}

/// Breaks a paragraph into lines.
fn wrap(text: &str, indent: usize) -> String {
    const WIDTH: usize = 100;
    let mut out = String::new();
    let mut column = indent;
    for word in text.split(' ') {
        if column > indent && column + word.len() + 1 > WIDTH {
            out.push('\n');
            out.push_str(&" ".repeat(indent));
            column = indent;
        } else if column > indent {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += word.len();
    }
    out
}

/// `althing lab list`.
pub fn list(all: &[Algorithm]) -> String {
    let mut out = String::new();
    for &family in Family::ALL.iter().filter(|f| **f != Family::Placement) {
        line!(out, "{}", family.name().to_uppercase());
        for Algorithm { header, .. } in all.iter().filter(|a| a.header.family == family) {
            line!(out, "  {}: {}", header.name, header.title);
            line!(out, "      assumes  {}", wrap(header.assumptions, 15));
            line!(out, "      costs    {}", wrap(header.cost, 15));
        }
        line!(out, "");
    }
    line!(out, "{}", Family::Placement.name().to_uppercase());
    for rule in Rule::ALL {
        line!(out, "  {}: {}", rule.name(), wrap(rule.told(), 6));
    }
    line!(out, "");
    line!(
        out,
        "FAULTS, for --faults, several separated by commas; or a script (FILE.toml)"
    );
    for (name, meaning) in troubles::names() {
        line!(out, "  {name:<16} {meaning}");
    }
    out
}

/// `althing explain`.
pub fn explain(header: &Header) -> String {
    let mut out = String::new();
    line!(
        out,
        "{} ({}, {})\n",
        header.title,
        header.name,
        header.family.name()
    );
    let survives: Vec<&str> = header.survives.iter().map(|t| t.key()).collect();
    for (name, text) in [
        ("Idea", header.idea),
        ("Assumes", header.assumptions),
        ("Costs", header.cost),
        ("Does not promise", header.not_guaranteed),
        ("Choose it when", header.choose_when),
        ("Do not when", header.avoid_when),
        ("Survives", &survives.join(", ")),
        ("Source", header.source),
        ("Compare with", &header.alternatives.join(", ")),
    ] {
        line!(out, "{name:<17} {}", wrap(text, 18));
    }
    line!(
        out,
        "\n  althing lab run {} --nodes 5 --seed 1 --faults survived",
        header.name
    );
    line!(
        out,
        "  althing lab compare {} {} --faults survived --seeds 100",
        header.name,
        header.alternatives.join(" ")
    );
    out
}

fn time(us: u64) -> String {
    format!("{}.{:03}", us / 1000, us % 1000)
}

/// `althing lab run` and `replay`.
pub fn run(algorithm: &Algorithm, plan: &Plan, outcome: &Outcome, trace: bool) -> String {
    let mut out = String::new();
    let header = &algorithm.header;
    line!(
        out,
        "{}: {} nodes, seed {}, {} ms of simulated time",
        header.title,
        plan.nodes,
        plan.seed,
        plan.until_ms
    );
    for planned in &plan.script.faults {
        let until = planned
            .until_ms
            .map(|ms| format!(" to {ms}"))
            .unwrap_or_default();
        line!(
            out,
            "  fault: {}{until} ms {:?}",
            planned.at_ms,
            planned.fault
        );
    }
    let mut texts: BTreeMap<usize, &str> = BTreeMap::new();
    let mut shown = 0;
    for s in &outcome.shown {
        let told = match &s.what {
            What::Sent(number, to, text) => {
                texts.insert(*number, text);
                trace.then(|| format!("-> node {to}  {text}"))
            }
            What::Received(number) if trace => {
                texts.get(number).map(|text| format!("gets      {text}"))
            }
            What::Lost(number) if trace => {
                texts.get(number).map(|text| format!("lost      {text}"))
            }
            What::Received(_) | What::Lost(_) => None,
            What::Asked(text) => trace.then(|| format!("asked     {text}")),
            What::Decided(text) => Some(format!("decides   {text}")),
            What::Role(role) => trace.then(|| format!("is now    {role}")),
            What::Fault(text) => Some(format!("FAULT     {text}")),
            What::Violation(text) => Some(format!("WRONG     {text}")),
        };
        let Some(told) = told else { continue };
        shown += 1;
        if shown <= LINES_MAX || trace || matches!(s.what, What::Violation(_)) {
            let node = if s.node == 0 {
                "        ".into()
            } else {
                format!("node {:<3}", s.node)
            };
            line!(out, "{:>12}  {node} {told}", time(s.at_us));
        }
    }
    if shown > LINES_MAX && !trace {
        line!(
            out,
            "              … {} more; --trace shows all, with every message",
            shown - LINES_MAX
        );
    }
    let kinds: Vec<String> = outcome
        .kinds
        .iter()
        .map(|(kind, n)| format!("{kind} {n}"))
        .collect();
    line!(
        out,
        "messages: {} sent ({}), {} delivered",
        outcome.sent,
        kinds.join(", "),
        outcome.delivered
    );
    for (name, values) in &outcome.figures {
        line!(out, "{name}: {}", spread(name, values));
    }
    for text in &outcome.told {
        line!(out, "{text}");
    }
    for text in &outcome.unsafe_ {
        line!(out, "UNSAFE: {text}");
    }
    for text in &outcome.stalled {
        line!(out, "STUCK: {text}");
    }
    let beyond: Vec<&str> = (plan.script.troubles().into_iter())
        .filter(|trouble| !header.survives.contains(trouble))
        .map(Trouble::key)
        .collect();
    if !beyond.is_empty() {
        line!(
            out,
            "{} does not promise to survive: {}",
            header.name,
            beyond.join(", ")
        );
    }
    if outcome.unsafe_.is_empty() && outcome.stalled.is_empty() {
        line!(out, "all promises held (hash {:016x})", outcome.hash);
    }
    out
}

/// Figures that count rather than measure time.
pub fn is_count(name: &str) -> bool {
    matches!(
        name,
        "entries"
            | "changes"
            | "committed"
            | "false suspicions"
            | "messages"
            | "acknowledged"
            | "lost"
            | "dropped"
            | "failed"
            | "stale reads"
            | "rounds"
            | "known to all"
            | "decided"
            | "overwritten unseen"
    )
}

/// The value that so many of a thousand do not exceed; 0 of none.
pub fn quantile(sorted: &[u64], per_mille: usize) -> u64 {
    let last = sorted.len().saturating_sub(1);
    sorted
        .get((last * per_mille).div_ceil(1000))
        .copied()
        .unwrap_or(0)
}

fn spread(name: &str, values: &[u64]) -> String {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    if is_count(name) && sorted.len() == 1 {
        return sorted[0].to_string();
    }
    let show = |value: u64| match is_count(name) {
        true => value.to_string(),
        false => format!("{:.1} ms", value as f64 / 1000.0),
    };
    format!(
        "median {}, 99 % {}, most {} (of {})",
        show(quantile(&sorted, 500)),
        show(quantile(&sorted, 990)),
        show(quantile(&sorted, 1000)),
        sorted.len()
    )
}

/// What many runs of one algorithm came to.
pub struct Sum {
    /// The algorithm's name.
    pub name: &'static str,
    /// Runs in which something was that must never be.
    pub unsafe_runs: u64,
    /// Runs that did not come to what they should.
    pub stalled_runs: u64,
    /// All figures.
    pub figures: BTreeMap<&'static str, Vec<u64>>,
}

impl Sum {
    /// No run yet.
    pub fn new(name: &'static str) -> Self {
        Self {
            name,
            unsafe_runs: 0,
            stalled_runs: 0,
            figures: BTreeMap::new(),
        }
    }

    /// One more.
    pub fn add(&mut self, outcome: &Outcome) {
        self.unsafe_runs += u64::from(!outcome.unsafe_.is_empty());
        self.stalled_runs += u64::from(!outcome.stalled.is_empty());
        self.figures
            .entry("messages")
            .or_default()
            .push(outcome.sent);
        for (name, values) in &outcome.figures {
            self.figures.entry(name).or_default().extend(values);
        }
    }
}

/// Lines up cells; the first column is to the left.
fn align(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns)
        .map(|i| {
            rows.iter()
                .filter_map(|row| row.get(i))
                .map(|c| c.chars().count())
                .max()
                .unwrap_or(0)
        })
        .collect();
    let mut out = String::new();
    for row in rows {
        for (i, cell) in row.iter().enumerate() {
            let _ = match i {
                0 => write!(out, "{cell:<width$}", width = widths[i]),
                _ => write!(out, "  {cell:>width$}", width = widths[i]),
            };
        }
        out.push('\n');
    }
    out
}

/// `althing lab compare`.
pub fn compare(columns: &[Sum], nodes: u64, seeds: u64, faults: &str) -> String {
    let mut rows = vec![
        std::iter::once(String::new())
            .chain(columns.iter().map(|c| c.name.to_owned()))
            .collect(),
        std::iter::once("unsafe runs".to_owned())
            .chain(columns.iter().map(|c| c.unsafe_runs.to_string()))
            .collect(),
        std::iter::once("stuck runs".to_owned())
            .chain(columns.iter().map(|c| c.stalled_runs.to_string()))
            .collect::<Vec<_>>(),
    ];
    let mut names: Vec<&'static str> = columns
        .iter()
        .flat_map(|c| c.figures.keys().copied())
        .collect();
    names.sort_unstable();
    names.dedup();
    for name in names {
        for (label, per_mille) in [("median", 500), ("99 %", 990), ("most", 1000)] {
            let unit = if is_count(name) { "a run" } else { "ms" };
            let mut row = vec![format!("{name}, {label} ({unit})")];
            for column in columns {
                let mut sorted = column.figures.get(name).cloned().unwrap_or_default();
                sorted.sort_unstable();
                row.push(match (sorted.is_empty(), is_count(name)) {
                    (true, _) => "-".into(),
                    (_, true) => quantile(&sorted, per_mille).to_string(),
                    (_, false) => format!("{:.1}", quantile(&sorted, per_mille) as f64 / 1000.0),
                });
            }
            rows.push(row);
        }
    }
    format!(
        "{nodes} nodes, {seeds} seeds, faults: {faults}\n{}",
        align(&rows)
    )
}

/// `althing lab scenario` without a name.
pub fn scenarios(all: &[Scenario]) -> String {
    let mut out = String::new();
    for scenario in all {
        line!(out, "{}: {}", scenario.name, scenario.claim);
        line!(out, "    {}", wrap(scenario.why, 4));
    }
    out
}

/// One of a scenario's two runs, behind what it said.
pub fn shown(name: &str, shows: Shows, outcome: &Outcome) -> String {
    let word = match shows.is_shown(outcome) {
        true => "SHOWN",
        false => "NOT SHOWN",
    };
    format!("{word} by {name}: {}\n", shows.told())
}

/// `althing lab compare` of placements: a node leaves, and a node comes.
pub fn placements(rules: &[Rule], nodes: u64, keys: u64) -> String {
    let mut rows = vec![
        [
            "",
            "fullest / mean",
            "moved, last leaves",
            "moved, first leaves",
            "moved, one comes",
        ]
        .map(str::to_owned)
        .to_vec(),
    ];
    let all = equal(nodes);
    for rule in rules {
        let last = placement::compare(*rule, &all, &all[..all.len() - 1], keys);
        let first = placement::compare(*rule, &all, &all[1..], keys);
        let comes = placement::compare(*rule, &all, &equal(nodes + 1), keys);
        let percent = |share: f64| format!("{:.2} %", share * 100.0);
        rows.push(vec![
            rule.name().to_owned(),
            format!("{:.3}", last.peak),
            percent(last.moved),
            percent(first.moved),
            percent(comes.moved),
        ]);
    }
    format!(
        "{nodes} nodes, {keys} keys; {:.2} % have to move when one leaves, {:.2} % when one comes\n{}",
        100.0 / nodes as f64,
        100.0 / (nodes + 1) as f64,
        align(&rows)
    )
}

/// `althing lab study raft-elections`.
pub fn study(all: &[Downtimes]) -> String {
    let head = [
        "time-outs",
        "trials",
        "no leader in 10 s",
        "median ms",
        "mean ms",
        "99 % ms",
        "worst ms",
        "paper",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for of in all {
        let ms = |us: u64| match us >= study::LIMIT_US {
            true => "> 10 s".to_owned(),
            false => format!("{:.0}", us as f64 / 1_000.0),
        };
        let sum: u64 = of.sorted_us.iter().sum();
        rows.push(vec![
            of.setting.told(),
            of.sorted_us.len().to_string(),
            of.leaderless.to_string(),
            ms(quantile(&of.sorted_us, 500)),
            match of.leaderless {
                0 => ms(sum / of.sorted_us.len().max(1) as u64),
                _ => "-".into(),
            },
            ms(quantile(&of.sorted_us, 990)),
            ms(quantile(&of.sorted_us, 1000)),
            of.setting.paper().to_owned(),
        ]);
    }
    format!(
        "five servers, 15 ms there and back, ticks of 1 ms, no pre-vote; time from a leader's death to the next\n{}",
        align(&rows)
    )
}

/// `althing lab search`.
pub fn finding(name: &str, bounds: &Bounds, finding: &Finding) -> String {
    let mut out = String::new();
    line!(
        out,
        "{name}: {} nodes, at most {} lost, {} crashes, {} timers, {}",
        bounds.nodes,
        bounds.losses,
        bounds.crashes,
        bounds.timers,
        if bounds.fifo {
            "in order"
        } else {
            "in any order"
        }
    );
    line!(
        out,
        "{} states, up to {} steps deep, {}",
        finding.states,
        finding.depth,
        match (&finding.violation, finding.whole) {
            (Some(_), _) => "a violation:",
            (None, true) => "all there are: no violation",
            (None, false) => "more are left (--states): no violation so far",
        }
    );
    if let Some((wrong, path)) = &finding.violation {
        for (i, step) in path.iter().enumerate() {
            line!(out, "{:>4}. {step}", i + 1);
        }
        line!(out, "WRONG: {wrong}");
    }
    out
}

/// `althing lab table`, one family.
pub fn table(
    family: Family,
    rows: &[&(Header, [&'static str; Trouble::ALL.len()])],
    seeds: u64,
) -> String {
    let mut cells = vec![
        std::iter::once(family.name().to_owned())
            .chain(Trouble::ALL.map(|t| t.key().to_owned()))
            .collect::<Vec<_>>(),
    ];
    for (header, row) in rows {
        let mut line = vec![header.name.to_owned()];
        for (trouble, cell) in Trouble::ALL.into_iter().zip(row) {
            let kept = *cell == "ok" || !header.survives.contains(&trouble);
            line.push(if kept {
                (*cell).into()
            } else {
                format!("{cell}!")
            });
        }
        cells.push(line);
    }
    format!(
        "{}ok: all held in {seeds} seeds; stuck: nothing wrong happened, but what should have did not; UNSAFE: a promise was broken; !: against what its header says\n\n",
        align(&cells)
    )
}

/// A bar on standard error, when that is a terminal.
pub struct Progress {
    name: &'static str,
    done: u64,
    of: u64,
    visible: bool,
}

impl Progress {
    /// Nothing is done yet.
    pub fn new(name: &'static str, of: u64) -> Self {
        let visible = std::io::stderr().is_terminal();
        Self {
            name,
            done: 0,
            of,
            visible,
        }
    }

    /// One more is done.
    pub fn step(&mut self) {
        const WIDTH: u64 = 40;
        self.done += 1;
        if self.visible && (self.done * 200 / self.of != (self.done - 1) * 200 / self.of) {
            let full = self.done * WIDTH / self.of;
            let bar: String = (0..WIDTH)
                .map(|i| if i < full { '#' } else { '.' })
                .collect();
            let mut stderr = std::io::stderr();
            // A bar that cannot be drawn is no reason to stop.
            let _ = write!(stderr, "\r{} [{bar}] {}/{}", self.name, self.done, self.of);
            let _ = stderr.flush();
        }
    }

    /// Takes the bar away.
    pub fn end(&mut self) {
        if self.visible {
            let mut stderr = std::io::stderr();
            let _ = write!(stderr, "\r{:80}\r", "");
            let _ = stderr.flush();
        }
    }
}
