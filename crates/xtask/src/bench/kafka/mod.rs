//! The comparison with Apache Kafka: processor time a record, throughput, latency, memory.
//!
//! The server has one processor, Kafka's own load tools (`ProducerPerformance`, `ConsumerPerformance`) another.
//! A server is started anew in each round, and who comes first alternates. Kafka's jars come from Maven Central.

mod server;

use super::machine::{self, disk_sync_ms};
use super::median;
use super::table::{Floor, figure, verdict};
use crate::process;
use server::Server;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub use server::System;

/// Bytes of a record, and what part of the records of the smallest size there are of it.
const SIZES: [(u64, u64); 2] = [(100, 1), (1_024, 5)];
/// At most so many times Kafka's processor time, in each cell.
const CPU_FLOOR: Floor = Floor::TimesAtMost(1.0);

/// How much and how often.
pub struct Options {
    /// Records of the smallest size.
    pub records: u64,
    /// Rounds, of which the medians are told.
    pub rounds: usize,
    /// JSON in place of a table.
    pub json: bool,
}

/// What Kafka's tools are asked to do: `produce` or `consume`, bytes of a record.
type Cell = (&'static str, u64);

/// What a measurement came to; later the medians of several.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Figures {
    cpu_us: f64,
    per_s: f64,
    mib_per_s: f64,
    /// Of produced records, from being handed to the client to being acknowledged.
    p50_ms: f64,
    p99_ms: f64,
}

const MISSING: Figures = Figures {
    cpu_us: f64::NAN,
    per_s: f64::NAN,
    mib_per_s: f64::NAN,
    p50_ms: f64::NAN,
    p99_ms: f64::NAN,
};

/// The systems asked for that can be had, and where Kafka's jars are.
pub fn chosen(only: Option<&str>) -> Result<(PathBuf, Vec<System>), String> {
    let wanted = match only {
        None => vec![System::Kafka, System::KafkaSynced, System::Althing],
        Some("kafka") => vec![System::Kafka, System::KafkaSynced],
        Some("althing") => vec![System::Althing],
        Some(other) => return Err(format!("--only takes althing or kafka, not {other:?}")),
    };
    for (program, package) in [("taskset", "util-linux"), ("mvn", "maven")] {
        if !process::present(program, "--version") {
            return Err(format!("{program} is not installed (Debian: {package})"));
        }
    }
    // The load is Kafka's, too: without it there is nothing to measure with.
    let libs = server::fetch()?;
    if wanted.contains(&System::Althing) {
        machine::build()?;
    }
    Ok((libs, wanted))
}

/// Runs the comparison and prints it. False when a floor was missed.
pub fn run(options: &Options, libs: &Path, systems: &[System]) -> Result<bool, String> {
    let sync_ms = disk_sync_ms()?;
    let mut cells: BTreeMap<(Cell, System), Vec<Figures>> = BTreeMap::new();
    let mut memory: BTreeMap<System, Vec<[f64; 2]>> = BTreeMap::new();
    for round in 0..options.rounds {
        // The order alternates, so that none always comes first.
        let mut order = systems.to_vec();
        if round % 2 == 1 {
            order.reverse();
        }
        for system in order {
            eprintln!(
                "round {} of {}: {}",
                round + 1,
                options.rounds,
                system.name()
            );
            let server = Server::start(system, libs)?;
            let idle = machine::memory_mib(server.process())?;
            for (cell, figures) in one_server(&server, options.records)? {
                cells.entry((cell, system)).or_default().push(figures);
            }
            let loaded = machine::memory_mib(server.process())?;
            memory.entry(system).or_default().push([idle, loaded]);
        }
    }
    let cells: BTreeMap<(Cell, System), Figures> = cells
        .into_iter()
        .map(|(key, rounds)| (key, medians(&rounds)))
        .collect();
    if options.json {
        let rows: serde_json::Map<_, _> = (cells.iter())
            .map(|(((what, bytes), system), f)| {
                let value = serde_json::json!({
                    "cpu_us": f.cpu_us, "per_s": f.per_s, "mib_per_s": f.mib_per_s,
                    "p50_ms": f.p50_ms, "p99_ms": f.p99_ms,
                });
                (format!("{}: {what} {bytes} B", system.name()), value)
            })
            .collect();
        let value = serde_json::json!({ "disk_sync_ms": sync_ms, "medians": rows });
        println!("{value:#}");
    }
    Ok(print_table(&cells, &memory, sync_ms, options))
}

fn one_server(server: &Server, records: u64) -> Result<Vec<(Cell, Figures)>, String> {
    let mut measured = Vec::new();
    for (bytes, part) in SIZES {
        let records = (records / part).max(1);
        let topic = format!("bench-{bytes}");
        let warm = format!("warm-{bytes}");
        server.produce(&warm, records / 5 + 1, bytes)?;
        server.consume(&warm, records / 5 + 1)?;
        let mut measure = |what: &'static str, run: &dyn Fn() -> Result<String, String>| {
            let before_s = machine::cpu_s(server.process())?;
            let output = run()?;
            let cpu_s = machine::cpu_s(server.process())? - before_s;
            let read = match what {
                "produce" => produced(&output),
                _ => consumed(&output),
            };
            let mut figures = read.ok_or(format!("no figures in: {output}"))?;
            figures.cpu_us = cpu_s * 1e6 / records as f64;
            measured.push(((what, bytes), figures));
            Ok::<(), String>(())
        };
        measure("produce", &|| server.produce(&topic, records, bytes))?;
        measure("consume", &|| server.consume(&topic, records))?;
    }
    Ok(measured)
}

/// Reads the last line of `ProducerPerformance`.
fn produced(output: &str) -> Option<Figures> {
    let line = output.lines().rfind(|line| line.contains(" 99th"))?;
    let before = |word: &str| -> Option<f64> {
        let (head, _) = line.split_once(word)?;
        head.rsplit([' ', '(']).next()?.parse().ok()
    };
    Some(Figures {
        per_s: before(" records/sec")?,
        mib_per_s: before(" MB/sec")?,
        p50_ms: before(" ms 50th")?,
        p99_ms: before(" ms 99th")?,
        ..MISSING
    })
}

/// Reads the two lines of `ConsumerPerformance`: a head that names the columns, and the figures.
fn consumed(output: &str) -> Option<Figures> {
    let cells = |line: &str| -> Vec<String> {
        let cells = line.split(',');
        cells.map(|cell| cell.trim().to_owned()).collect()
    };
    let mut lines = (output.lines()).skip_while(|line| !line.starts_with("start.time"));
    let (head, row) = (cells(lines.next()?), cells(lines.next()?));
    let value = |column: &str| -> Option<f64> {
        let at = head.iter().position(|name| name == column)?;
        row.get(at)?.parse().ok()
    };
    Some(Figures {
        per_s: value("fetch.nMsg.sec")?,
        mib_per_s: value("fetch.MB.sec")?,
        ..MISSING
    })
}

fn medians(rounds: &[Figures]) -> Figures {
    let of = |what: fn(&Figures) -> f64| median(&rounds.iter().map(what).collect::<Vec<_>>());
    Figures {
        cpu_us: of(|f| f.cpu_us),
        per_s: of(|f| f.per_s),
        mib_per_s: of(|f| f.mib_per_s),
        p50_ms: of(|f| f.p50_ms),
        p99_ms: of(|f| f.p99_ms),
    }
}

fn print_table(
    cells: &BTreeMap<(Cell, System), Figures>,
    memory: &BTreeMap<System, Vec<[f64; 2]>>,
    sync_ms: f64,
    options: &Options,
) -> bool {
    let mut lines = vec![
        "| | | CPU µs a record | ratio | floor | | records/s | MiB/s | p50 ms | p99 ms |"
            .to_owned(),
        "|---|---|---|---|---|---|---|---|---|---|".to_owned(),
    ];
    let mut all_met = true;
    for ((cell, system), f) in cells {
        let theirs = cells.get(&(*cell, System::Kafka)).unwrap_or(&MISSING);
        let (mut asked, mut word, mut ratio) = (String::new(), "", String::new());
        if *system == System::Althing {
            let (words, met) = verdict(Some(&CPU_FLOOR), theirs.cpu_us, f.cpu_us);
            all_met &= met != Some(false);
            word = met.map_or("", |met| if met { "met" } else { "**missed**" });
            (asked, ratio) = (words, figure(f.cpu_us / theirs.cpu_us));
        }
        let columns = [
            format!("{}, {} B", cell.0, cell.1),
            system.name().to_owned(),
            figure(f.cpu_us),
            ratio,
            asked,
            word.to_owned(),
            figure(f.per_s),
            figure(f.mib_per_s),
            figure(f.p50_ms),
            figure(f.p99_ms),
        ];
        lines.push(format!("| {} |", columns.join(" | ")));
    }
    lines.push("\n| | MiB empty | MiB after the load |\n|---|---|---|".to_owned());
    for (system, rounds) in memory {
        let of = |at: usize| figure(median(&rounds.iter().map(|r| r[at]).collect::<Vec<_>>()));
        lines.push(format!("| {} | {} | {} |", system.name(), of(0), of(1)));
    }
    if !options.json {
        println!("{}", lines.join("\n"));
        println!(
            "\nMedians of {} rounds; {} records of 100 B and a fifth of 1 KiB, one partition, acks=all. \
             A sync of 4 KiB appended took {sync_ms:.3} ms (median of 200) before the first round.",
            options.rounds, options.records
        );
    }
    all_met
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_kafkas_tools_are_read() {
        let output = "34360 records sent, 6867.9 records/sec (0.65 MB/sec), 981.6 ms avg latency, 2182.0 ms max latency.\n\
            200000 records sent, 23504.524621 records/sec (2.24 MB/sec), 2420.77 ms avg latency, 3285.00 ms max latency, \
            2785 ms 50th, 3168 ms 95th, 3238 ms 99th, 3274 ms 99.9th.\n";
        let read = produced(output).expect("figures");
        assert_eq!((read.per_s, read.mib_per_s), (23_504.524_621, 2.24));
        assert_eq!((read.p50_ms, read.p99_ms), (2785.0, 3238.0));
        let output = "log4j: nothing\nstart.time, end.time, data.consumed.in.MB, MB.sec, data.consumed.in.nMsg, nMsg.sec, \
            rebalance.time.ms, fetch.time.ms, fetch.MB.sec, fetch.nMsg.sec\n\
            2026-11-21 06:51:23:969, 2026-11-21 06:51:28:109, 19.0735, 4.6071, 200000, 48309.1787, 1892, 2248, 8.4846, 88967.9715\n";
        let read = consumed(output).expect("figures");
        assert_eq!((read.per_s, read.mib_per_s), (88_967.971_5, 8.4846));
    }

    #[test]
    fn output_without_figures_is_none() {
        for output in ["", "start.time, end.time", "org.apache.kafka.common.errors"] {
            assert_eq!(produced(output), None);
            assert_eq!(consumed(output), None);
        }
    }
}
