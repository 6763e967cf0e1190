//! `althing lab list | run | compare | check | search | replay | shrink | table | study | scenario` and `althing explain`.

use super::impossible::{self, Scenario};
use super::registry::{self, Algorithm};
use super::script::{self, RunFile, Script};
use super::search::Bounds;
use super::simulation::{Outcome, Pace, Plan};
use super::{charts, curves, fields::GRACE_US, html, study, text, troubles};
use base::algorithm::{Family, Trouble};
use clap::{Args, Subcommand};
use cluster::placement::Rule;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;

/// The shortest run, in milliseconds.
const UNTIL_MIN_MS: u64 = 10_000;
/// A search looks at so many states unless told otherwise.
const STATES: usize = 300_000;

/// What can be done with the lab's algorithms.
#[derive(Subcommand, Clone, Debug)]
pub enum Verb {
    /// All algorithms by family, and all faults by name
    List,
    /// One run: what happened, and what it cost
    Run(RunArgs),
    /// Several algorithms on the same seeds and faults, side by side
    Compare(CompareArgs),
    /// Many seeds of one algorithm: its promises must hold in all of them
    Check(CheckArgs),
    /// All orders of events of a small group, and the shortest path to a violation
    Search(SearchArgs),
    /// Run again what a file holds
    Replay {
        /// A run file, as `--save` writes it
        file: PathBuf,
        /// Print every message
        #[arg(long)]
        trace: bool,
    },
    /// The smallest fault script with which a failing run still fails
    Shrink {
        /// A run file, as `--save` writes it
        file: PathBuf,
        /// Write the smallest into this file
        #[arg(long, value_name = "FILE")]
        save: Option<PathBuf>,
    },
    /// Which promise survives which fault, from runs
    Table(TableArgs),
    /// A figure of a paper, measured again
    Study(StudyArgs),
    /// What cannot be had, shown: a run that fails as it must, and what is chosen instead
    Scenario(ScenarioArgs),
}

/// What a run is made from.
#[derive(Args, Clone, Debug)]
pub struct RunArgs {
    /// Its name, as `althing lab list` tells it
    pub algorithm: String,
    /// How many nodes
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(2..=100))]
    pub nodes: u64,
    /// Everything drawn follows from it
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// A fault script (TOML), or names separated by commas
    #[arg(long, default_value = "none", value_name = "FILE|NAMES")]
    pub faults: String,
    /// When it ends, in milliseconds [default: 10 s after the last fault]
    #[arg(long, value_name = "MS")]
    pub until: Option<u64>,
    /// Print every message
    #[arg(long)]
    pub trace: bool,
    /// Write the run into this file, for replay and shrink
    #[arg(long, value_name = "FILE")]
    pub save: Option<PathBuf>,
    /// Draw the run into this file, a page that needs nothing else
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
}

/// Several algorithms on the same seeds.
#[derive(Args, Clone, Debug)]
pub struct CompareArgs {
    /// Their names
    #[arg(required = true, num_args = 1..)]
    pub algorithms: Vec<String>,
    /// How many nodes
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(2..=100))]
    pub nodes: u64,
    /// How many seeds
    #[arg(long, default_value_t = 100)]
    pub seeds: u64,
    /// A fault script (TOML), or names separated by commas
    #[arg(long, default_value = "none", value_name = "FILE|NAMES")]
    pub faults: String,
    /// Draw it into this file, a page that needs nothing else
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Draw it into this file, a picture (SVG)
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
}

/// Many seeds.
#[derive(Args, Clone, Debug)]
pub struct CheckArgs {
    /// Its name, or `all`
    pub algorithm: String,
    /// How many nodes
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(2..=100))]
    pub nodes: u64,
    /// How many seeds
    #[arg(long, default_value_t = 2_000)]
    pub seeds: u64,
    /// The first of them
    #[arg(long, default_value_t = 1)]
    pub from: u64,
    /// A fault script (TOML), or names separated by commas
    #[arg(long, default_value = "survived", value_name = "FILE|NAMES")]
    pub faults: String,
    /// Write the first failing run into this file
    #[arg(long, value_name = "FILE")]
    pub save: Option<PathBuf>,
}

/// How far to search.
#[derive(Args, Clone, Debug)]
pub struct SearchArgs {
    /// Its name, as `althing lab list` tells it
    pub algorithm: String,
    /// How many nodes
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(2..=7))]
    pub nodes: u64,
    /// Messages lost, at most
    #[arg(long, default_value_t = 0)]
    pub losses: u8,
    /// Processes that die, at most
    #[arg(long, default_value_t = 0)]
    pub crashes: u8,
    /// Timers that run out, at most, at any time
    #[arg(long, default_value_t = 0)]
    pub timers: u8,
    /// Messages of one pair overtake each other
    #[arg(long)]
    pub reorder: bool,
    /// States looked at, at most
    #[arg(long, default_value_t = STATES)]
    pub states: usize,
}

/// Which promise survives which fault.
#[derive(Args, Clone, Debug)]
pub struct TableArgs {
    /// Seeds of each cell
    #[arg(long, default_value_t = 20)]
    pub seeds: u64,
    /// How many nodes
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(2..=100))]
    pub nodes: u64,
}

/// A figure of a paper.
#[derive(Args, Clone, Debug)]
pub struct StudyArgs {
    /// Which
    #[arg(value_parser = ["raft-elections"])]
    pub name: String,
    /// Trials of each setting
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(10..))]
    pub trials: u64,
    /// Draw it into this file, a picture (SVG)
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
}

/// Something that cannot be had.
#[derive(Args, Clone, Debug)]
pub struct ScenarioArgs {
    /// Its name [default: all are listed]
    pub name: Option<String>,
    /// Print every message
    #[arg(long)]
    pub trace: bool,
    /// Draw the run that fails into this file, a page that needs nothing else
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
}

/// Carries out a verb. `Ok(false)`: it was done, and what was looked at fails.
///
/// # Errors
/// What cannot be asked like this, and what can.
pub fn lab(verb: &Verb) -> Result<bool, String> {
    match verb {
        Verb::List => {
            print!("{}", text::list(&registry::all()));
            Ok(true)
        }
        Verb::Run(args) => run(args),
        Verb::Compare(args) => compare(args),
        Verb::Check(args) => check(args),
        Verb::Search(args) => search(args),
        Verb::Replay { file, trace } => {
            let (run, algorithm) = read_run(file)?;
            Ok(show(&algorithm, &plan_of(&run, true), *trace))
        }
        Verb::Shrink { file, save } => shrink(file, save.as_ref()),
        Verb::Table(args) => {
            table(args);
            Ok(true)
        }
        Verb::Study(args) => studied(args),
        Verb::Scenario(args) => scenario(args),
    }
}

/// Prints what the algorithm's header says.
///
/// # Errors
/// No algorithm has this name; which have.
pub fn explain(name: &str) -> Result<(), String> {
    match placement(name) {
        Some(rule) => println!(
            "{name} (placement): {}\n\n  althing lab compare modulo consistent-hash {name}",
            rule.told()
        ),
        None => print!("{}", text::explain(&registry::find(name)?.header)),
    }
    Ok(())
}

fn script_for(
    faults: &str,
    algorithm: &Algorithm,
    nodes: usize,
    seed: u64,
) -> Result<Script, String> {
    if faults.ends_with(".toml") || faults.contains('/') {
        let text = std::fs::read_to_string(faults).map_err(|e| format!("{faults}: {e}"))?;
        return script::read_script(&text, nodes).map_err(|why| format!("{faults}: {why}"));
    }
    troubles::parse(faults, algorithm.header.survives, nodes, seed)
}

pub(super) fn until_ms(script: &Script) -> u64 {
    UNTIL_MIN_MS.max(script.end_ms() + GRACE_US / 1000 + 2_000)
}

fn plan(algorithm: &Algorithm, faults: &str, nodes: u64, seed: u64) -> Result<Plan, String> {
    let nodes = nodes as usize;
    let script = script_for(faults, algorithm, nodes, seed)?;
    Ok(Plan {
        nodes,
        seed,
        until_ms: until_ms(&script),
        pace: Pace::default(),
        script,
        keep: false,
    })
}

fn plan_of(run: &RunFile, keep: bool) -> Plan {
    Plan {
        nodes: run.nodes,
        seed: run.seed,
        script: run.script.clone(),
        until_ms: run.until_ms,
        pace: Pace::default(),
        keep,
    }
}

fn file_of(algorithm: &Algorithm, plan: &Plan) -> RunFile {
    RunFile {
        algorithm: algorithm.header.name.to_owned(),
        nodes: plan.nodes,
        seed: plan.seed,
        until_ms: plan.until_ms,
        script: plan.script.clone(),
    }
}

fn read_run(file: &PathBuf) -> Result<(RunFile, Algorithm), String> {
    let told = |why: String| format!("{}: {why}", file.display());
    let text = std::fs::read_to_string(file).map_err(|e| told(e.to_string()))?;
    let run = script::read_run(&text).map_err(told)?;
    let algorithm = registry::find(&run.algorithm).map_err(told)?;
    Ok((run, algorithm))
}

fn save(file: &PathBuf, algorithm: &Algorithm, plan: &Plan) -> Result<(), String> {
    let text = script::write_run(&file_of(algorithm, plan));
    std::fs::write(file, text).map_err(|e| format!("{}: {e}", file.display()))
}

fn fails(outcome: &Outcome) -> bool {
    !outcome.unsafe_.is_empty() || !outcome.stalled.is_empty()
}

fn show(algorithm: &Algorithm, plan: &Plan, trace: bool) -> bool {
    let outcome = (algorithm.run)(plan);
    print!("{}", text::run(algorithm, plan, &outcome, trace));
    !fails(&outcome)
}

fn run(args: &RunArgs) -> Result<bool, String> {
    let algorithm = registry::find(&args.algorithm)?;
    let mut plan = plan(&algorithm, &args.faults, args.nodes, args.seed)?;
    plan.until_ms = args.until.unwrap_or(plan.until_ms);
    plan.keep = true;
    if let Some(file) = &args.save {
        save(file, &algorithm, &plan)?;
    }
    let outcome = (algorithm.run)(&plan);
    print!("{}", text::run(&algorithm, &plan, &outcome, args.trace));
    if let Some(file) = &args.html {
        let page = html::report(&algorithm, &plan, &outcome);
        std::fs::write(file, page).map_err(|e| format!("{}: {e}", file.display()))?;
        println!("drawn into {}", file.display());
    }
    Ok(!fails(&outcome))
}

/// Runs `count` seeds from `from` on all processors; `done` hears of each.
fn each_seed(
    from: u64,
    count: u64,
    one: &(dyn Fn(u64) -> Outcome + Sync),
    mut done: impl FnMut(u64, Outcome),
) {
    let jobs = std::thread::available_parallelism().map_or(1, usize::from);
    let next = AtomicU64::new(from);
    let (sender, receiver) = mpsc::channel();
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            let (sender, next) = (sender.clone(), &next);
            scope.spawn(move || {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= from + count || sender.send((seed, one(seed))).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        for (seed, outcome) in receiver {
            done(seed, outcome);
        }
    });
}

/// Keys that a comparison of placements places.
const KEYS: u64 = 200_000;

fn placement(name: &str) -> Option<Rule> {
    Rule::ALL.into_iter().find(|rule| rule.name() == name)
}

fn compare(args: &CompareArgs) -> Result<bool, String> {
    let rules: Vec<Rule> = args
        .algorithms
        .iter()
        .filter_map(|n| placement(n))
        .collect();
    if !rules.is_empty() {
        if rules.len() < args.algorithms.len() {
            return Err(
                "placements are compared with placements only: see `althing lab list`".into(),
            );
        }
        print!("{}", text::placements(&rules, args.nodes, KEYS));
        return Ok(true);
    }
    let mut columns = Vec::new();
    let mut well = true;
    for name in &args.algorithms {
        let algorithm = registry::find(name)?;
        plan(&algorithm, &args.faults, args.nodes, 1)?;
        let one = |seed| {
            let plan = plan(&algorithm, &args.faults, args.nodes, seed);
            plan.map(|plan| (algorithm.run)(&plan)).unwrap_or_default()
        };
        let mut sum = text::Sum::new(algorithm.header.name);
        each_seed(1, args.seeds, &one, |_, outcome| sum.add(&outcome));
        well &= sum.unsafe_runs == 0;
        columns.push(sum);
    }
    let table = text::compare(&columns, args.nodes, args.seeds, &args.faults);
    print!("{table}");
    if let Some(file) = &args.html {
        let command = format!(
            "althing lab compare {} --nodes {} --seeds {} --faults {} --html {}",
            args.algorithms.join(" "),
            args.nodes,
            args.seeds,
            args.faults,
            file.display()
        );
        let heading = charts::Heading {
            nodes: args.nodes,
            seeds: args.seeds,
            faults: &args.faults,
            table: &table,
            command: &command,
        };
        std::fs::write(file, charts::page(&heading, &columns))
            .map_err(|e| format!("{}: {e}", file.display()))?;
        println!("drawn into {}", file.display());
    }
    if let Some(file) = &args.svg {
        std::fs::write(file, charts::picture(&columns))
            .map_err(|e| format!("{}: {e}", file.display()))?;
        println!("drawn into {}", file.display());
    }
    Ok(well)
}

fn check(args: &CheckArgs) -> Result<bool, String> {
    if args.algorithm == "all" {
        let mut well = true;
        for algorithm in registry::all() {
            well &= check_one(&algorithm, args)?;
        }
        return Ok(well);
    }
    check_one(&registry::find(&args.algorithm)?, args)
}

fn check_one(algorithm: &Algorithm, args: &CheckArgs) -> Result<bool, String> {
    plan(algorithm, &args.faults, args.nodes, args.from)?;
    let one = |seed| {
        let plan = plan(algorithm, &args.faults, args.nodes, seed);
        plan.map(|plan| (algorithm.run)(&plan)).unwrap_or_default()
    };
    let name = algorithm.header.name;
    let began = std::time::Instant::now();
    let mut progress = text::Progress::new(name, args.seeds);
    let (mut failed, mut steps): (Vec<(u64, String)>, u64) = (Vec::new(), 0);
    each_seed(args.from, args.seeds, &one, |seed, outcome| {
        progress.step();
        steps += outcome.steps;
        let first = outcome.unsafe_.first().or(outcome.stalled.first());
        failed.extend(first.map(|why| (seed, why.clone())));
    });
    progress.end();
    failed.sort();
    let seconds = began.elapsed().as_secs_f64();
    println!(
        "{name}: {} seeds from {}, {} failed; {steps} events in {seconds:.1} s",
        args.seeds,
        args.from,
        failed.len()
    );
    for (seed, why) in failed.iter().take(5) {
        println!("  seed {seed}: {why}");
        println!(
            "  repeat: althing lab run {name} --nodes {} --seed {seed} --faults {}",
            args.nodes, args.faults
        );
    }
    if let (Some(file), Some((seed, _))) = (&args.save, failed.first()) {
        let plan = plan(algorithm, &args.faults, args.nodes, *seed)?;
        save(file, algorithm, &plan)?;
        println!("  written to {}", file.display());
    }
    Ok(failed.is_empty())
}

fn search(args: &SearchArgs) -> Result<bool, String> {
    let algorithm = registry::find(&args.algorithm)?;
    let name = algorithm.header.name;
    let search = algorithm.search.ok_or_else(|| {
        format!("{name} cannot be searched: its states cannot be copied and told apart, or it decides by time")
    })?;
    let bounds = Bounds {
        nodes: args.nodes as usize,
        losses: args.losses,
        crashes: args.crashes,
        timers: args.timers,
        fifo: !args.reorder,
        states: args.states,
    };
    let finding = search(&bounds);
    print!("{}", text::finding(name, &bounds, &finding));
    Ok(finding.violation.is_none())
}

/// Leaves faults out, one, two or several at a time, as long as the run still fails as gravely.
fn shrink(file: &PathBuf, into: Option<&PathBuf>) -> Result<bool, String> {
    let (mut run, algorithm) = read_run(file)?;
    let outcome = (algorithm.run)(&plan_of(&run, false));
    if !fails(&outcome) {
        return Err(format!("{}: this run does not fail", file.display()));
    }
    // A broken promise stays one; a run that is only stuck stays stuck.
    let unsafe_ = !outcome.unsafe_.is_empty();
    let mut runs = 1_u64;
    let mut still = |run: &RunFile| {
        runs += 1;
        let outcome = (algorithm.run)(&plan_of(run, false));
        match unsafe_ {
            true => !outcome.unsafe_.is_empty(),
            false => !outcome.stalled.is_empty(),
        }
    };
    let before = run.script.faults.len();
    while let Some(smaller) = without_some(&run, &mut still) {
        run = smaller;
    }
    for i in 0..run.script.faults.len() {
        // Half as long, as long as that still fails.
        while let Some(until_ms) = run.script.faults[i].until_ms {
            let mut shorter = run.clone();
            let at_ms = run.script.faults[i].at_ms;
            shorter.script.faults[i].until_ms = Some(at_ms + (until_ms - at_ms) / 2);
            if until_ms - at_ms < 20 || !still(&shorter) {
                break;
            }
            run = shorter;
        }
    }
    println!(
        "# {} of {before} faults, after {runs} runs",
        run.script.faults.len()
    );
    print!("{}", script::write_run(&run));
    if let Some(into) = into {
        std::fs::write(into, script::write_run(&run))
            .map_err(|e| format!("{}: {e}", into.display()))?;
        println!("# written to {}", into.display());
    }
    Ok(true)
}

/// The run without one fault, or without two (a death and its restart belong together), that still fails.
fn without_some(run: &RunFile, still: &mut dyn FnMut(&RunFile) -> bool) -> Option<RunFile> {
    let count = run.script.faults.len();
    let ones = (0..count).map(|i| (i, i));
    let pairs = (0..count).flat_map(|i| (i + 1..count).map(move |j| (i, j)));
    ones.chain(pairs).find_map(|(i, j)| {
        let mut smaller = run.clone();
        smaller.script.faults.remove(j);
        if i != j {
            smaller.script.faults.remove(i);
        }
        still(&smaller).then_some(smaller)
    })
}

fn studied(args: &StudyArgs) -> Result<bool, String> {
    let (top, bottom, others) = study::all();
    let mut measured = Vec::new();
    for setting in top.iter().chain(&bottom).chain(&others) {
        let count = setting.trials(args.trials);
        let mut sum = study::Downtimes::new(*setting);
        let mut progress = text::Progress::new("trials", count);
        each_seed(1, count, &|seed| study::trial(setting, seed), |_, trial| {
            progress.step();
            sum.add(&trial);
        });
        progress.end();
        sum.sort();
        measured.push(sum);
    }
    print!("{}", text::study(&measured));
    if let Some(file) = &args.svg {
        let panels = [
            ("randomness", &measured[..top.len()]),
            ("length", &measured[top.len()..top.len() + bottom.len()]),
        ];
        std::fs::write(file, curves::picture(&panels))
            .map_err(|e| format!("{}: {e}", file.display()))?;
        println!("drawn into {}", file.display());
    }
    Ok(true)
}

fn scenario(args: &ScenarioArgs) -> Result<bool, String> {
    let Some(name) = &args.name else {
        print!("{}", text::scenarios(impossible::ALL));
        return Ok(true);
    };
    let scenario = impossible::find(name)?;
    let plan = scenario.plan()?;
    println!("{}\n{}\n", scenario.claim, scenario.why);
    let mut well = true;
    for (name, shows) in [(scenario.algorithm, scenario.shows), scenario.instead] {
        let algorithm = Scenario::algorithm(name)?;
        let outcome = (algorithm.run)(&plan);
        print!("{}", text::run(&algorithm, &plan, &outcome, args.trace));
        println!("{}", text::shown(name, shows, &outcome));
        well &= shows.is_shown(&outcome);
        if let Some(file) = args.html.as_ref().filter(|_| name == scenario.algorithm) {
            let page = html::report(&algorithm, &plan, &outcome);
            std::fs::write(file, page).map_err(|e| format!("{}: {e}", file.display()))?;
            println!("drawn into {}\n", file.display());
        }
    }
    Ok(well)
}

fn table(args: &TableArgs) {
    let mut rows = Vec::new();
    for algorithm in registry::all() {
        let cells = Trouble::ALL.map(|trouble| {
            let one = |seed| {
                let plan = plan(&algorithm, trouble.key(), args.nodes, seed);
                plan.map(|plan| (algorithm.run)(&plan)).unwrap_or_default()
            };
            let (mut broken, mut stuck) = (false, false);
            each_seed(1, args.seeds, &one, |_, outcome| {
                broken |= !outcome.unsafe_.is_empty();
                stuck |= !outcome.stalled.is_empty();
            });
            match (broken, stuck) {
                (true, _) => "UNSAFE",
                (false, true) => "stuck",
                (false, false) => "ok",
            }
        });
        rows.push((algorithm.header, cells));
    }
    for &family in Family::ALL {
        let of: Vec<_> = rows
            .iter()
            .filter(|(header, _)| header.family == family)
            .collect();
        if !of.is_empty() {
            print!("{}", text::table(family, &of, args.seeds));
        }
    }
}
