//! The comparison with ZooKeeper: throughput, latency, processor time, memory, start-up, failover.

use super::load::{Clients, Report};
use super::machine::disk_sync_ms;
use super::median;
use super::systems::{Ensemble, Session, System};
use super::table::{Floor, figure, verdict};
use coordination::{Acl, CreateMode};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use wire_zookeeper::WriteShape;
use wire_zookeeper::client::request;

const DATA_BYTES: usize = 256;
const CLIENTS: usize = 64;

/// How long and how often.
pub struct Options {
    /// Length of a measurement.
    pub seconds: f64,
    /// Rounds, of which the medians are told.
    pub rounds: usize,
    /// Leaders killed.
    pub kills: usize,
    /// JSON in place of a table.
    pub json: bool,
}

/// Metric → values of the rounds.
type Values = BTreeMap<&'static str, Vec<f64>>;

/// Metrics in the order of the table, with what is asked of us.
const METRICS: &[(&str, Option<Floor>)] = &[
    ("writes/s, 1 client", None),
    ("writes/s, 64 clients", Some(Floor::TimesAtLeast(2.0))),
    ("reads/s, 1 client", Some(Floor::TimesAtLeast(2.0))),
    ("reads/s, 64 clients", Some(Floor::TimesAtLeast(2.0))),
    ("write p50 µs, 1 client", None),
    ("write p99 µs, 1 client", None),
    ("write p50 µs, 64 clients", None),
    ("write p99 µs, 64 clients", None),
    ("read p50 µs, 1 client", None),
    ("read p99 µs, 1 client", None),
    ("read p50 µs, 64 clients", None),
    ("read p99 µs, 64 clients", None),
    ("CPU s per 1,000 writes, 64 clients", None),
    ("CPU s per 1,000 reads, 64 clients", None),
    ("MiB idle", Some(Floor::TimesAtMost(0.2))),
    ("MiB after load", Some(Floor::TimesAtMost(0.2))),
    ("start-up s", Some(Floor::AtMost(0.2))),
    (
        "s without writes, leader of three killed",
        Some(Floor::AtMost(0.5)),
    ),
];

/// Appends the creation of a node open to everyone.
pub fn create_request(out: &mut Vec<u8>, xid: i32, path: &str, data: &[u8]) {
    let mode = CreateMode::Persistent { sequential: false };
    request::create(
        out,
        xid,
        path,
        data,
        &[Acl::open()],
        mode,
        WriteShape::Plain,
    );
}

/// Runs the comparison and prints it. False when a floor was missed.
pub fn run(options: &Options, systems: &[System]) -> Result<bool, String> {
    let sync_ms = disk_sync_ms()?;
    let mut all: BTreeMap<&'static str, Values> = BTreeMap::new();
    for round in 0..options.rounds {
        // The order alternates, so that neither always comes first.
        let order: Vec<System> = match round % 2 {
            0 => systems.to_vec(),
            _ => systems.iter().rev().copied().collect(),
        };
        for system in order {
            eprintln!(
                "round {} of {}: {}",
                round + 1,
                options.rounds,
                system.name()
            );
            let values = all.entry(system.name()).or_default();
            one_node(system, Duration::from_secs_f64(options.seconds), values)?;
        }
    }
    if options.kills > 0 {
        for system in systems {
            eprintln!(
                "leader of three killed {} times: {}",
                options.kills,
                system.name()
            );
            let gaps = failover(*system, options.kills)?;
            all.entry(system.name())
                .or_default()
                .insert("s without writes, leader of three killed", gaps);
        }
    }
    if options.json {
        let value = serde_json::json!({ "disk_sync_ms": sync_ms, "rounds": all });
        println!("{value:#}");
    }
    Ok(print_table(&all, sync_ms, options.json))
}

fn one_node(system: System, length: Duration, values: &mut Values) -> Result<(), String> {
    let mut add = |metric: &'static str, value: f64| values.entry(metric).or_default().push(value);
    let mut ensemble = Ensemble::prepare(system, 1)?;
    let begun = Instant::now();
    ensemble.servers[0].start()?;
    ensemble.servers[0].wait_answer()?;
    add("start-up s", begun.elapsed().as_secs_f64());
    std::thread::sleep(Duration::from_secs(2));
    let server = &ensemble.servers[0];
    add("MiB idle", server.memory_mib()?);

    let mut session = Session::open(server.address())?;
    session.create("/bench")?;
    for i in 0..CLIENTS {
        session.create(&path(i))?;
    }
    let mut many = Clients::open(server.address(), CLIENTS, 30_000)?;
    let mut one = Clients::open(server.address(), 1, 30_000)?;
    // A JVM needs to be warm before it shows what it can do.
    many.drive(1, Some(length / 2), &mut write_next)?;
    many.drive(1, Some(length / 2), &mut read_next)?;

    let measured = |clients: &mut Clients,
                    next: &mut dyn FnMut(usize, u64, &mut Vec<u8>) -> bool| {
        let cpu = server.cpu_s()?;
        let report = clients.drive(1, Some(length), next)?;
        let cpu = (server.cpu_s()? - cpu) * 1000.0 / report.operations.max(1) as f64;
        Ok::<(Report, f64), String>((report, cpu))
    };
    let (mut report, _) = measured(&mut one, &mut write_next)?;
    add("writes/s, 1 client", report.rate());
    add("write p50 µs, 1 client", report.percentile_us(0.5));
    add("write p99 µs, 1 client", report.percentile_us(0.99));
    let (mut report, cpu) = measured(&mut many, &mut write_next)?;
    add("writes/s, 64 clients", report.rate());
    add("write p50 µs, 64 clients", report.percentile_us(0.5));
    add("write p99 µs, 64 clients", report.percentile_us(0.99));
    add("CPU s per 1,000 writes, 64 clients", cpu);
    let (mut report, _) = measured(&mut one, &mut read_next)?;
    add("reads/s, 1 client", report.rate());
    add("read p50 µs, 1 client", report.percentile_us(0.5));
    add("read p99 µs, 1 client", report.percentile_us(0.99));
    let (mut report, cpu) = measured(&mut many, &mut read_next)?;
    add("reads/s, 64 clients", report.rate());
    add("read p50 µs, 64 clients", report.percentile_us(0.5));
    add("read p99 µs, 64 clients", report.percentile_us(0.99));
    add("CPU s per 1,000 reads, 64 clients", cpu);
    add("MiB after load", server.memory_mib()?);
    Ok(())
}

fn path(client: usize) -> String {
    format!("/bench/c{client:03}")
}

fn write_next(client: usize, number: u64, out: &mut Vec<u8>) -> bool {
    let data = [b'x'; DATA_BYTES];
    request::set_data(out, (number & 0x3fff_ffff) as i32, &path(client), &data, -1);
    true
}

fn read_next(client: usize, number: u64, out: &mut Vec<u8>) -> bool {
    request::get_data(out, (number & 0x3fff_ffff) as i32, &path(client), false);
    true
}

/// Seconds between the last answer before and the first after each kill, for one writer that goes to
/// the next server whenever its own fails it.
fn failover(system: System, kills: usize) -> Result<Vec<f64>, String> {
    let mut ensemble = Ensemble::start(system, 3)?;
    let addresses: Vec<_> = ensemble
        .servers
        .iter()
        .map(super::systems::Server::address)
        .collect();
    let mut gaps = Vec::new();
    let mut turn = 0;
    let mut reach = |give_up: Instant| loop {
        turn += 1;
        match Session::open(addresses[turn % addresses.len()]) {
            Ok(session) => return Ok(session),
            Err(_) if Instant::now() < give_up => std::thread::sleep(Duration::from_millis(2)),
            Err(why) => return Err(format!("no server answers: {why}")),
        }
    };
    let give_up = || Instant::now() + Duration::from_secs(60);
    let mut session = reach(give_up())?;
    session.create("/failover")?;
    for _ in 0..kills {
        let settled = Instant::now() + Duration::from_secs(2);
        while Instant::now() < settled {
            if session.write("/failover", b"before").is_err() {
                session = reach(give_up())?;
            }
        }
        let leader = ensemble.leader()?;
        session
            .write("/failover", b"last")
            .map_err(|e| format!("a write before the kill failed: {e}"))?;
        let last = Instant::now();
        ensemble.servers[leader].kill();
        let end = give_up();
        while session.write("/failover", b"after").is_err() {
            session = reach(end)?;
        }
        gaps.push(last.elapsed().as_secs_f64());
        ensemble.servers[leader].start()?;
        ensemble.servers[leader].wait_answer()?;
    }
    Ok(gaps)
}

fn print_table(all: &BTreeMap<&'static str, Values>, sync_ms: f64, quiet: bool) -> bool {
    let value = |system: System, metric: &str| {
        let values = all.get(system.name()).and_then(|values| values.get(metric));
        values.map_or(f64::NAN, |values| median(values))
    };
    let mut lines = vec![
        "| | ZooKeeper | Althing | ratio | floor | |".to_owned(),
        "|---|---|---|---|---|---|".to_owned(),
    ];
    let mut all_met = true;
    for (metric, floor) in METRICS {
        let (theirs, ours) = (
            value(System::Zookeeper, metric),
            value(System::Althing, metric),
        );
        let (asked, met) = verdict(floor.as_ref(), theirs, ours);
        all_met &= met != Some(false);
        let word = met.map_or("", |met| if met { "met" } else { "**missed**" });
        let ratio = figure(ours / theirs);
        lines.push(format!(
            "| {metric} | {} | {} | {ratio} | {asked} | {word} |",
            figure(theirs),
            figure(ours)
        ));
    }
    if !quiet {
        println!("{}", lines.join("\n"));
        println!(
            "\nMedians. A sync of 4 KiB appended took {sync_ms:.3} ms (median of 200) before the first round."
        );
    }
    all_met
}
