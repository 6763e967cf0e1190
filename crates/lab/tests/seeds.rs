//! A fixed set of seeds that must pass, and must repeat exactly.

use lab::{Options, Workload, run};

fn options(seed: u64) -> Options {
    Options {
        seed,
        duration_ms: 6_000,
        ..Options::default()
    }
}

#[test]
fn fixed_seeds_pass() {
    pass(20, Workload::All);
}

#[test]
fn m07_locks_hold_under_faults() {
    pass(12, Workload::Locks);
}

#[test]
fn m30_files_hold_under_faults() {
    pass(8, Workload::Files);
}

#[test]
fn m38_standby_holds_under_faults() {
    pass(8, Workload::Standby);
}

#[test]
fn groups_of_nodes_hold_under_faults() {
    pass(16, Workload::Groups);
}

fn pass(seeds: u64, workload: Workload) {
    let mut failed = Vec::new();
    std::thread::scope(|scope| {
        let halves = [1..=seeds / 2, seeds / 2 + 1..=seeds].map(|seeds| {
            scope.spawn(move || {
                let options = |seed| Options {
                    workload,
                    ..options(seed)
                };
                let reports = seeds.map(|seed| run(&options(seed)));
                reports
                    .filter(|r| !r.violations.is_empty())
                    .collect::<Vec<_>>()
            })
        });
        for half in halves {
            failed.extend(half.join().expect("a run yields a report"));
        }
    });
    let text: Vec<String> = failed
        .iter()
        .map(|report| {
            format!(
                "althing lab cluster --seed {} --duration-ms 6000 --workload {}\n  {}",
                report.seed,
                workload.key(),
                report.violations.join("\n  ")
            )
        })
        .collect();
    assert!(failed.is_empty(), "{}", text.join("\n"));
}

/// Faults that a single copy survives.
const SPARING: &str =
    "crash,blackout,pause,partition,streams,duplicate,connections,slow,clock,transfer,snapshot";

#[test]
fn cache_keys_of_other_cores_and_nodes_are_served_by_links() {
    let of = |seed, cores, single| {
        let faults = if single { SPARING } else { "all" };
        let options = Options {
            workload: Workload::Redis,
            lanes: Some(cores),
            cores: Some(cores),
            single,
            faults: faults.parse().expect("names of faults"),
            ..options(seed)
        };
        let report = run(&options);
        assert_eq!(
            report.violations,
            Vec::<String>::new(),
            "althing lab cluster --seed {seed} --workload redis --duration-ms 6000 --lanes {cores} --cores {cores} \
             --faults {faults}{}",
            if single { " --single" } else { "" }
        );
    };
    std::thread::scope(|scope| {
        scope.spawn(move || (1..=4).for_each(|seed| of(seed, 3, false)));
        scope.spawn(move || {
            (1..=4).for_each(|seed| of(seed, 1, true));
            (5..=8).for_each(|seed| of(seed, 2, true));
        });
    });
}

#[test]
fn a_seed_repeats_exactly() {
    let (first, second) = (run(&options(7)), run(&options(7)));
    assert_eq!(first.trace_hash, second.trace_hash);
    assert_eq!(first.events, second.events);
    assert_ne!(first.trace_hash, run(&options(8)).trace_hash);
}
