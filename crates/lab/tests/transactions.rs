//! Tellers move money between shards under all faults.

use lab::{Options, Workload, run};

const SEEDS: u64 = 12;

#[test]
fn m06_transfers_under_faults_are_all_or_nothing_and_all_end() {
    let seeds: Vec<u64> = (1..=SEEDS).collect();
    let failed: Vec<String> = std::thread::scope(|scope| {
        let halves = seeds.chunks(seeds.len().div_ceil(2));
        let workers: Vec<_> = halves
            .map(|seeds| scope.spawn(move || seeds.iter().filter_map(|s| fails(*s)).collect()))
            .collect();
        let ended = workers.into_iter().map(|w| w.join().expect("a worker"));
        ended.flat_map(|failed: Vec<String>| failed).collect()
    });
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

/// A third on two cores, a third among the clients of all protocols.
fn fails(seed: u64) -> Option<String> {
    let (workload, cores) = match seed % 3 {
        0 => (Workload::All, None),
        1 => (Workload::Transactions, Some(2)),
        _ => (Workload::Transactions, None),
    };
    let options = Options {
        seed,
        workload,
        lanes: cores,
        cores,
        ..Options::default()
    };
    let report = run(&options);
    let (sent, answered) = report.operations;
    println!("seed {seed}: {sent} sent, {answered} answered");
    let first: Vec<&String> = report.violations.iter().take(5).collect();
    let failed = !first.is_empty() || answered < 100;
    failed.then(|| format!("seed {seed}: {first:?}"))
}
