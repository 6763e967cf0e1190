//! `althing lab schedule`: the same jobs under each architecture of scheduling, or by each rule of placement.

use clap::{Args, ValueEnum};
use scheduling::Rule;
use scheduling::cell::{Check, Commit};
use scheduling::placement::Effort;
use scheduling::simulate::trace::{self, Draw, Job};
use scheduling::simulate::{Architecture, Plan, Report, run};
use std::path::PathBuf;
use std::time::Instant;

/// Schedulers in simulated time.
#[derive(Args, Clone, Debug)]
pub struct ScheduleArgs {
    /// Nodes of 16 processors and 64 GiB
    #[arg(long, default_value_t = 5000, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub nodes: u64,
    /// Everything drawn follows from it
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// How long jobs come, in simulated minutes
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub minutes: u64,
    /// Jobs from this file, in place of drawn ones
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,
    /// Write the jobs to this file, and run nothing
    #[arg(long, value_name = "FILE", conflicts_with = "trace")]
    pub write_trace: Option<PathBuf>,
    /// What is laid side by side
    #[arg(long, value_enum, default_value_t = Compare::Architectures)]
    pub compare: Compare,
    /// Where it goes: best-fit, worst-fit, spread, package-locality, mixed
    #[arg(long, default_value = "best-fit")]
    pub rule: Rule,
    /// Feasible nodes that are enough for a choice; 0 looks at all
    #[arg(long, default_value_t = 64)]
    pub candidates: usize,
    /// Schedulers for batch jobs where the state is shared
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=64))]
    pub batch_schedulers: u64,
    /// How long an offer stands, in simulated milliseconds
    #[arg(long, default_value_t = 5000)]
    pub offer_ms: u64,
    /// Refuse all claims of a job with one that conflicts
    #[arg(long)]
    pub all_or_nothing: bool,
    /// Refuse a claim whose node has changed at all
    #[arg(long)]
    pub by_version: bool,
}

/// What is laid side by side.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum Compare {
    /// One scheduler, offers on two levels, shared state
    Architectures,
    /// Rules of placement, under one scheduler
    Rules,
    /// Ways to commit to a shared state
    Commits,
}

/// Runs what `args` say and prints a table.
///
/// # Errors
/// What is wrong with the trace.
pub fn schedule(args: &ScheduleArgs) -> Result<(), String> {
    let jobs = jobs(args)?;
    if let Some(file) = &args.write_trace {
        return std::fs::write(file, trace::write(&jobs))
            .map_err(|e| format!("cannot write {}: {e}", file.display()));
    }
    let tasks: u64 = jobs.iter().map(|job| u64::from(job.tasks)).sum();
    println!(
        "{} nodes, {} jobs of {tasks} tasks; times are simulated, placements/s are this machine's, on one core\n",
        args.nodes,
        jobs.len()
    );
    let mut rows = Vec::new();
    for (name, plan) in plans(args) {
        let begun = Instant::now();
        let report = run(&plan, &jobs);
        rows.push((name, report, begun.elapsed().as_secs_f64()));
    }
    print!("{}", table(&rows));
    Ok(())
}

fn jobs(args: &ScheduleArgs) -> Result<Vec<Job>, String> {
    let Some(file) = &args.trace else {
        return Ok(trace::draw(Draw {
            seed: args.seed,
            nodes: args.nodes,
            duration_ms: args.minutes * 60_000,
        }));
    };
    let text = std::fs::read_to_string(file)
        .map_err(|e| format!("cannot read {}: {e}", file.display()))?;
    trace::read(&text).map_err(|why| format!("{}: {why}", file.display()))
}

fn plans(args: &ScheduleArgs) -> Vec<(String, Plan)> {
    let plan = |architecture| Plan {
        nodes: args.nodes,
        rule: args.rule,
        effort: match args.candidates {
            0 => Effort::All,
            enough => Effort::Feasible(enough),
        },
        batch_schedulers: args.batch_schedulers as usize,
        offer_ms: args.offer_ms,
        commit: match args.all_or_nothing {
            true => Commit::AllOrNothing,
            false => Commit::Incremental,
        },
        check: match args.by_version {
            true => Check::Version,
            false => Check::Fit,
        },
        ..Plan::new(architecture)
    };
    match args.compare {
        Compare::Architectures => Architecture::ALL
            .map(|architecture| (architecture.to_string(), plan(architecture)))
            .into(),
        Compare::Rules => Rule::ALL
            .map(|rule| {
                let base = plan(Architecture::Monolithic);
                (rule.to_string(), Plan { rule, ..base })
            })
            .into(),
        Compare::Commits => [
            ("fit, one by one", Check::Fit, Commit::Incremental),
            ("fit, all or none", Check::Fit, Commit::AllOrNothing),
            ("version, one by one", Check::Version, Commit::Incremental),
            ("version, all or none", Check::Version, Commit::AllOrNothing),
        ]
        .map(|(name, check, commit)| {
            let base = plan(Architecture::SharedState);
            let plan = Plan {
                check,
                commit,
                ..base
            };
            (name.to_owned(), plan)
        })
        .into(),
    }
}

/// What a line of the table is called, and how it is told of a run that took so many seconds.
type Line = (&'static str, fn(&Report, f64) -> String);

const LINES: &[Line] = &[
    ("tasks placed", |r, _| r.placed.to_string()),
    ("tasks still waiting", |r, _| r.waiting.to_string()),
    ("tasks without room, each try", |r, _| r.no_room.to_string()),
    ("conflicts", |r, _| r.conflicts.to_string()),
    ("preempted", |r, _| r.preempted.to_string()),
    ("batch: wait, mean / p95 (s)", |r, _| two(&r.batch_wait_ms)),
    ("batch: all run, mean / p95 (s)", |r, _| {
        two(&r.batch_ready_ms)
    }),
    ("service: wait, mean / p95 (s)", |r, _| {
        two(&r.service_wait_ms)
    }),
    ("service: all run, mean / p95 (s)", |r, _| {
        two(&r.service_ready_ms)
    }),
    ("processors, memory in use (%)", |r, _| {
        format!(
            "{} / {}",
            percent(r.cpu_per_mille),
            percent(r.memory_per_mille)
        )
    }),
    ("empty nodes (%)", |r, _| percent(r.empty_per_mille)),
    ("schedulers busy (%)", |r, _| {
        let each: Vec<String> = r.busy_per_mille.iter().map(|b| percent(*b)).collect();
        each.join(" / ")
    }),
    ("nodes looked at for a task", |r, _| {
        format!("{:.0}", r.considered as f64 / r.placed.max(1) as f64)
    }),
    ("placements/s", |r, seconds| {
        format!("{:.0}", r.placed as f64 / seconds.max(1e-6))
    }),
];

fn table(rows: &[(String, Report, f64)]) -> String {
    let mut columns = vec![
        std::iter::once(String::new())
            .chain(LINES.iter().map(|(name, _)| (*name).to_owned()))
            .collect::<Vec<String>>(),
    ];
    for (name, report, seconds) in rows {
        let cells = LINES.iter().map(|(_, tell)| tell(report, *seconds));
        columns.push(std::iter::once(name.clone()).chain(cells).collect());
    }
    let mut out = String::new();
    for line in 0..=LINES.len() {
        for (at, column) in columns.iter().enumerate() {
            let width = column.iter().map(String::len).max().unwrap_or(0);
            let cell = &column[line];
            out += &match at {
                0 => format!("{cell:width$}"),
                _ => format!("  {cell:>width$}"),
            };
        }
        out.push('\n');
    }
    out
}

fn percent(per_mille: u64) -> String {
    format!("{}.{}", per_mille / 10, per_mille % 10)
}

/// Mean and 95th percentile of sorted milliseconds, in seconds.
fn two(sorted_ms: &[u64]) -> String {
    let Some(last) = sorted_ms.len().checked_sub(1) else {
        return "-".to_owned();
    };
    let mean = sorted_ms.iter().sum::<u64>() as f64 / sorted_ms.len() as f64;
    let p95 = sorted_ms[(sorted_ms.len() * 95 / 100).min(last)] as f64;
    format!("{:.2} / {:.2}", mean / 1000.0, p95 / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        args: ScheduleArgs,
    }

    #[test]
    fn each_comparison_has_a_column_for_each_of_its_plans() {
        for (compare, columns) in [("architectures", 3), ("rules", 5), ("commits", 4)] {
            let words = [
                "schedule",
                "--nodes",
                "20",
                "--minutes",
                "2",
                "--compare",
                compare,
            ];
            let args = Command::parse_from(words).args;
            let jobs = jobs(&args).unwrap();
            let rows: Vec<_> = plans(&args)
                .into_iter()
                .map(|(name, plan)| (name, run(&plan, &jobs), 1.0))
                .collect();
            assert_eq!(rows.len(), columns);
            let table = table(&rows);
            assert_eq!(table.lines().count(), LINES.len() + 1);
            assert!(rows.iter().all(|(name, ..)| table.contains(name.as_str())));
        }
    }
}
