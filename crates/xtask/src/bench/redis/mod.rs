//! The comparison with Redis: processor time an operation, throughput, latency, memory.
//!
//! The server has one processor, redis-benchmark another. A server is started anew for each durability of
//! each round, and who comes first alternates.

mod server;

use super::machine::{self, disk_sync_ms};
use super::median;
use super::table::{Floor, figure, verdict};
use crate::process;
use server::{Client, Durability, Server};
use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

pub use server::System;

/// The processor that the client may use.
const CLIENT_CPU: &str = "1";
const CLIENTS: u32 = 50;
const KEYSPACE: u64 = 100_000;
const VALUE_BYTES: usize = 64;
const PIPELINES: [u64; 2] = [1, 16];
/// Values of the measurement of memory, in bytes; its keys have 16.
const MEMORY_VALUE_BYTES: usize = 100;
/// At most so many times Redis' processor time, in each cell.
const CPU_FLOOR: Floor = Floor::TimesAtMost(1.3);
const BENCHMARK_MAX: Duration = Duration::from_secs(600);

/// How much and how often.
pub struct Options {
    /// Operations of a cell without pipelining.
    pub operations: u64,
    /// Rounds, of which the medians are told.
    pub rounds: usize,
    /// Keys for the measurement of memory.
    pub keys: u64,
    /// JSON in place of a table.
    pub json: bool,
}

/// What a redis-benchmark is asked to do.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Cell {
    durability: Durability,
    command: &'static str,
    pipeline: u64,
}

impl Cell {
    fn name(&self) -> String {
        format!(
            "{}, pipeline {}, {}",
            self.command.to_uppercase(),
            self.pipeline,
            self.durability.name()
        )
    }
}

/// What a measurement of a cell came to; later the medians of several.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Figures {
    cpu_us: f64,
    per_s: f64,
    p50_us: f64,
    p99_us: f64,
}

/// The systems asked for that this machine has; says which it has not.
pub fn chosen(only: Option<&str>) -> Result<Vec<System>, String> {
    let wanted = match only {
        None => vec![System::Redis, System::Althing],
        Some("redis") => vec![System::Redis],
        Some("althing") => vec![System::Althing],
        Some(other) => return Err(format!("--only takes althing or redis, not {other:?}")),
    };
    for (program, package) in [
        ("redis-benchmark", "redis-tools"),
        ("taskset", "util-linux"),
    ] {
        if !process::present(program, "--version") {
            return Err(format!("{program} is not installed (Debian: {package})"));
        }
    }
    let mut found = Vec::new();
    for system in wanted {
        match system {
            System::Redis if !process::present("redis-server", "--version") => {
                eprintln!(
                    "!!! no redis-server: without it there is no comparison (Debian: redis-server)"
                );
            }
            System::Redis => found.push(system),
            System::Althing => {
                machine::build()?;
                found.push(system);
            }
        }
    }
    Ok(found)
}

/// Runs the comparison and prints it. False when a floor was missed.
pub fn run(options: &Options, systems: &[System]) -> Result<bool, String> {
    let sync_ms = disk_sync_ms()?;
    let mut cells: BTreeMap<(Cell, System), Vec<Figures>> = BTreeMap::new();
    for round in 0..options.rounds {
        for durability in Durability::ALL {
            // The order alternates, so that neither always comes first.
            let mut order = systems.to_vec();
            if round % 2 == 1 {
                order.reverse();
            }
            for system in order {
                eprintln!(
                    "round {} of {}, {}: {}",
                    round + 1,
                    options.rounds,
                    durability.name(),
                    system.name()
                );
                for (cell, figures) in one_server(system, durability, options.operations)? {
                    cells.entry((cell, system)).or_default().push(figures);
                }
            }
        }
    }
    let mut memory = BTreeMap::new();
    if options.keys > 0 {
        for system in systems {
            eprintln!("memory of {} keys: {}", options.keys, system.name());
            memory.insert(*system, key_bytes(*system, options.keys)?);
        }
    }
    let cells: BTreeMap<(Cell, System), Figures> = cells
        .into_iter()
        .map(|(key, rounds)| (key, medians(&rounds)))
        .collect();
    if options.json {
        print_json(&cells, &memory, sync_ms);
    }
    Ok(print_table(&cells, &memory, sync_ms, options))
}

/// Starts a server, fills it and measures its cells.
fn one_server(
    system: System,
    durability: Durability,
    operations: u64,
) -> Result<Vec<(Cell, Figures)>, String> {
    let server = Server::start(system, durability)?;
    Client::open(server.address())?.set_many(0, KEYSPACE, VALUE_BYTES)?;
    let mut measured = Vec::new();
    for pipeline in PIPELINES {
        for command in ["set", "get"] {
            let cell = Cell {
                durability,
                command,
                pipeline,
            };
            let operations = if pipeline == 1 {
                operations
            } else {
                4 * operations
            };
            benchmark(&server, &cell, operations / 10)?; // to be warm
            let before_s = machine::cpu_s(server.process())?;
            let mut figures = benchmark(&server, &cell, operations)?;
            let cpu_s = machine::cpu_s(server.process())? - before_s;
            figures.cpu_us = cpu_s * 1e6 / operations as f64;
            measured.push((cell, figures));
        }
    }
    Ok(measured)
}

/// Runs redis-benchmark on its own processor.
fn benchmark(server: &Server, cell: &Cell, operations: u64) -> Result<Figures, String> {
    let mut command = Command::new("taskset");
    command.args(["-c", CLIENT_CPU, "redis-benchmark", "--csv"]);
    command.args(["-h", "127.0.0.1", "-t", cell.command]);
    for (flag, value) in [
        ("-p", u64::from(server.address().port())),
        ("-n", operations.max(1)),
        ("-c", u64::from(CLIENTS)),
        ("-r", KEYSPACE),
        ("-d", VALUE_BYTES as u64),
        ("-P", cell.pipeline),
    ] {
        command.args([flag, &value.to_string()]);
    }
    let outcome = process::run(&mut command, BENCHMARK_MAX, true)?;
    match figures(&outcome.output) {
        Some(figures) if outcome.ok => Ok(figures),
        _ => Err(format!(
            "redis-benchmark of {} failed: {}",
            cell.name(),
            outcome.output
        )),
    }
}

/// Reads redis-benchmark's comma-separated lines: a head that names the columns, and one test.
fn figures(output: &str) -> Option<Figures> {
    let cells = |line: &str| -> Vec<String> {
        line.split(',')
            .map(|cell| cell.trim_matches('"').to_owned())
            .collect()
    };
    let mut lines = output
        .lines()
        .skip_while(|line| !line.starts_with("\"test\""));
    let (head, row) = (cells(lines.next()?), cells(lines.next()?));
    let value = |column: &str| -> Option<f64> {
        let at = head.iter().position(|name| name == column)?;
        row.get(at)?.parse().ok()
    };
    Some(Figures {
        cpu_us: f64::NAN,
        per_s: value("rps")?,
        p50_us: value("p50_latency_ms")? * 1000.0,
        p99_us: value("p99_latency_ms")? * 1000.0,
    })
}

/// MiB of an empty server, MiB with `keys` keys of 16 bytes, and bytes a key.
fn key_bytes(system: System, keys: u64) -> Result<[f64; 3], String> {
    const SETTLE: Duration = Duration::from_secs(3);
    let server = Server::start(system, Durability::None)?;
    std::thread::sleep(SETTLE);
    let idle = machine::memory_mib(server.process())?;
    Client::open(server.address())?.set_many(0, keys, MEMORY_VALUE_BYTES)?;
    std::thread::sleep(SETTLE);
    let filled = machine::memory_mib(server.process())?;
    Ok([idle, filled, (filled - idle) * 1_048_576.0 / keys as f64])
}

fn medians(rounds: &[Figures]) -> Figures {
    let of = |what: fn(&Figures) -> f64| median(&rounds.iter().map(what).collect::<Vec<_>>());
    Figures {
        cpu_us: of(|f| f.cpu_us),
        per_s: of(|f| f.per_s),
        p50_us: of(|f| f.p50_us),
        p99_us: of(|f| f.p99_us),
    }
}

fn print_json(
    cells: &BTreeMap<(Cell, System), Figures>,
    memory: &BTreeMap<System, [f64; 3]>,
    sync_ms: f64,
) {
    let mut rows = serde_json::Map::new();
    for ((cell, system), figures) in cells {
        let value = serde_json::json!({
            "cpu_us": figures.cpu_us, "per_s": figures.per_s,
            "p50_us": figures.p50_us, "p99_us": figures.p99_us,
        });
        rows.insert(format!("{}: {}", system.name(), cell.name()), value);
    }
    let memory: serde_json::Map<_, _> = memory
        .iter()
        .map(|(system, [idle, filled, key])| {
            let value =
                serde_json::json!({ "idle_mib": idle, "filled_mib": filled, "bytes_a_key": key });
            (system.name().to_owned(), value)
        })
        .collect();
    let value = serde_json::json!({ "disk_sync_ms": sync_ms, "medians": rows, "memory": memory });
    println!("{value:#}");
}

fn print_table(
    cells: &BTreeMap<(Cell, System), Figures>,
    memory: &BTreeMap<System, [f64; 3]>,
    sync_ms: f64,
    options: &Options,
) -> bool {
    let missing = Figures {
        cpu_us: f64::NAN,
        per_s: f64::NAN,
        p50_us: f64::NAN,
        p99_us: f64::NAN,
    };
    let mut lines = vec![
        "| | CPU µs an operation: Redis | Althing | ratio | floor | | operations/s: Redis | Althing \
         | p50 µs: Redis | Althing | p99 µs: Redis | Althing |"
            .to_owned(),
        "|---|---|---|---|---|---|---|---|---|---|---|---|".to_owned(),
    ];
    let mut all_met = true;
    let mut names: Vec<Cell> = cells.keys().map(|(cell, _)| *cell).collect();
    names.dedup();
    for cell in names {
        let of = |system| cells.get(&(cell, system)).unwrap_or(&missing);
        let (theirs, ours) = (of(System::Redis), of(System::Althing));
        let (asked, met) = verdict(Some(&CPU_FLOOR), theirs.cpu_us, ours.cpu_us);
        all_met &= met != Some(false);
        let word = met.map_or("", |met| if met { "met" } else { "**missed**" });
        let mut columns = vec![
            cell.name(),
            figure(theirs.cpu_us),
            figure(ours.cpu_us),
            figure(ours.cpu_us / theirs.cpu_us),
            asked,
            word.to_owned(),
        ];
        for what in [
            |f: &Figures| f.per_s,
            |f: &Figures| f.p50_us,
            |f: &Figures| f.p99_us,
        ] {
            columns.extend([figure(what(theirs)), figure(what(ours))]);
        }
        lines.push(format!("| {} |", columns.join(" | ")));
    }
    if !memory.is_empty() {
        lines.push(format!(
            "\n| {} keys of 16 B, values of {MEMORY_VALUE_BYTES} B | MiB empty | MiB filled | bytes a key |",
            options.keys
        ));
        lines.push("|---|---|---|---|".to_owned());
        for (system, values) in memory {
            let [idle, filled, key] = values.map(figure);
            lines.push(format!("| {} | {idle} | {filled} | {key} |", system.name()));
        }
    }
    if !options.json {
        println!("{}", lines.join("\n"));
        println!(
            "\nMedians of {} rounds; {CLIENTS} clients, {VALUE_BYTES} B, {KEYSPACE} keys. A sync of 4 KiB \
             appended took {sync_ms:.3} ms (median of 200) before the first round.",
            options.rounds
        );
    }
    all_met
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_redis_benchmark_are_read_by_the_names_of_their_columns() {
        let output = "WARNING: something\n\
            \"test\",\"rps\",\"avg_latency_ms\",\"min_latency_ms\",\"p50_latency_ms\",\"p95_latency_ms\",\"p99_latency_ms\",\"max_latency_ms\"\n\
            \"SET\",\"101010.10\",\"0.300\",\"0.100\",\"0.255\",\"0.400\",\"0.711\",\"1.000\"\n";
        let read = figures(output).expect("figures");
        assert_eq!(
            (read.per_s, read.p50_us, read.p99_us),
            (101_010.10, 255.0, 711.0)
        );
        assert!(read.cpu_us.is_nan(), "it does not tell");
    }

    #[test]
    fn output_without_figures_is_none() {
        let head = "\"test\",\"rps\",\"p50_latency_ms\",\"p99_latency_ms\"\n";
        for output in [
            "",
            "Could not connect",
            head,
            &format!("{head}\"SET\",\"x\",\"1\",\"1\""),
        ] {
            assert_eq!(figures(output), None, "{output}");
        }
    }

    #[test]
    fn medians_are_taken_of_each_figure_by_itself() {
        let round = |a: f64, b: f64| Figures {
            cpu_us: a,
            per_s: b,
            p50_us: a,
            p99_us: b,
        };
        let middle = medians(&[round(1.0, 9.0), round(3.0, 7.0), round(2.0, 8.0)]);
        assert_eq!(middle, round(2.0, 8.0));
    }
}
