//! `althing lab cluster`.

use crate::faults::Faults;
use crate::kinds::Workload;
use crate::run::{Options, Report, run};
use clap::Args;
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Instant;

/// Whole nodes under simulated faults.
#[derive(Args, Clone, Debug)]
pub struct ClusterArgs {
    /// Repeat the run of this seed
    #[arg(long, conflicts_with = "seeds")]
    pub seed: Option<u64>,
    /// Run this many seeds, one after the other
    #[arg(long)]
    pub seeds: Option<u64>,
    /// First of the seeds
    #[arg(long, default_value_t = 1)]
    pub from: u64,
    /// Members at the start
    #[arg(long, default_value_t = 3)]
    pub nodes: usize,
    /// Clients of each kind
    #[arg(long, default_value_t = 4)]
    pub clients: usize,
    /// Which kinds of clients
    #[arg(long, value_enum, default_value_t = Workload::All)]
    pub workload: Workload,
    /// Each seed has one workload, by its number: all of them in turn
    #[arg(long, conflicts_with = "workload")]
    pub turns: bool,
    /// How long faults go on, in simulated milliseconds
    #[arg(long, default_value_t = 12_000)]
    pub duration_ms: u64,
    /// Journal lanes of each node [default: drawn from the seed, mostly 1]
    #[arg(long)]
    pub lanes: Option<u16>,
    /// Each start of a node draws its number of cores from 1 to this [default: drawn from the seed, mostly 1]
    #[arg(long)]
    pub cores: Option<u16>,
    /// Cache keys lie in a pool of single copies; spare it faults that lose a disk
    #[arg(long)]
    pub single: bool,
    /// all, none, or some of: crash,blackout,pause,partition,streams,duplicate,connections,slow,full,fail,clock,wipe,flip,lose,rot,members,transfer,snapshot
    #[arg(long, default_value = "all")]
    pub faults: Faults,
    /// Runs at the same time [default: one for each processor]
    #[arg(long)]
    pub jobs: Option<usize>,
    /// Print every event and action
    #[arg(long)]
    pub trace: bool,
}

impl ClusterArgs {
    fn workload(&self, seed: u64) -> Workload {
        match self.turns {
            true => Workload::of_turn(seed),
            false => self.workload,
        }
    }

    fn options(&self, seed: u64) -> Options {
        Options {
            seed,
            nodes: self.nodes.clamp(1, 9),
            clients: self.clients.clamp(1, 64),
            workload: self.workload(seed),
            duration_ms: self.duration_ms,
            faults: self.faults.clone(),
            lanes: self.lanes.map(|lanes| lanes.clamp(1, 16)),
            cores: self.cores.map(|cores| cores.clamp(1, 16)),
            single: self.single,
            trace: self.trace,
        }
    }

    fn repeat(&self, seed: u64) -> String {
        let default = Options::default();
        let mut command = format!("althing lab cluster --seed {seed}");
        if self.nodes != default.nodes {
            command += &format!(" --nodes {}", self.nodes);
        }
        if self.clients != default.clients {
            command += &format!(" --clients {}", self.clients);
        }
        let workload = self.workload(seed);
        if workload != default.workload {
            command += &format!(" --workload {}", workload.key());
        }
        if self.duration_ms != default.duration_ms {
            command += &format!(" --duration-ms {}", self.duration_ms);
        }
        if let Some(lanes) = self.lanes {
            command += &format!(" --lanes {lanes}");
        }
        if let Some(cores) = self.cores {
            command += &format!(" --cores {cores}");
        }
        if self.single {
            command += " --single";
        }
        if self.faults != default.faults {
            command += &format!(" --faults {}", self.faults);
        }
        command
    }
}

/// Runs the seeds of `args` and prints what came of them. Failure when any seed failed.
pub fn cluster(args: &ClusterArgs) -> ExitCode {
    let (from, count) = match args.seed {
        Some(seed) => (seed, 1),
        None => (args.from, args.seeds.unwrap_or(1)),
    };
    let jobs = args
        .jobs
        .or_else(|| std::thread::available_parallelism().ok().map(usize::from))
        .unwrap_or(1)
        .clamp(1, 64);
    let begun = Instant::now();
    let next = AtomicU64::new(from);
    let (sender, receiver) = mpsc::channel();
    let (mut failed, mut events, mut simulated_ms) = (0, 0, 0);
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            let (sender, next) = (sender.clone(), &next);
            scope.spawn(move || {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= from.saturating_add(count) {
                        return;
                    }
                    if sender.send(run(&args.options(seed))).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        for report in receiver {
            events += report.events;
            simulated_ms += report.simulated_ms;
            failed += u64::from(!report.violations.is_empty());
            print_report(args, &report, count == 1);
        }
    });
    let seconds = begun.elapsed().as_secs_f64();
    println!(
        "{count} seed(s) from {from}: {failed} failed; {events} events, {} simulated s in {seconds:.1} s \
         ({:.0} events/s)",
        simulated_ms / 1000,
        events as f64 / seconds
    );
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn print_report(args: &ClusterArgs, report: &Report, always: bool) {
    const KINDS_SHOWN_MAX: usize = 12;
    if report.violations.is_empty() && !always {
        return;
    }
    println!(
        "seed {}: trace {:016x}, {} events, {} of {} requests answered, {} violation(s)",
        report.seed,
        report.trace_hash,
        report.events,
        report.operations.1,
        report.operations.0,
        report.violations.len()
    );
    let mut kinds: BTreeMap<String, (usize, &str)> = BTreeMap::new();
    for violation in &report.violations {
        kinds.entry(kind_of(violation)).or_insert((0, violation)).0 += 1;
    }
    for (count, violation) in kinds.values().take(KINDS_SHOWN_MAX) {
        if *count > 1 {
            println!("  {violation} (and {} more of this kind)", count - 1);
        } else {
            println!("  {violation}");
        }
    }
    if !report.violations.is_empty() {
        println!("  repeat: {}", args.repeat(report.seed));
    }
}

/// A violation without its figures and names of nodes.
fn kind_of(violation: &str) -> String {
    let plain = |word: &&str| !word.contains(|c: char| c.is_ascii_digit() || c == '/');
    let words: Vec<&str> = violation.split(' ').filter(plain).take(12).collect();
    words.join(" ")
}
