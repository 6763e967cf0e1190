//! Seeds that once failed, with what was wrong: they pass for ever.

use lab::{Options, Workload, run};

struct Kept {
    seed: u64,
    nodes: usize,
    lanes: u16,
    cores: u16,
    faults: &'static str,
    workload: Workload,
}

const fn plain(seed: u64) -> Kept {
    Kept {
        seed,
        nodes: 3,
        lanes: 1,
        cores: 1,
        faults: "all",
        workload: Workload::Zookeeper,
    }
}

const fn spread(lanes: u16, cores: u16, kept: Kept) -> Kept {
    Kept {
        lanes,
        cores,
        ..kept
    }
}

const fn wide(seed: u64, lanes: u16, cores: u16) -> Kept {
    spread(lanes, cores, plain(seed))
}

const fn of(nodes: usize, seed: u64) -> Kept {
    Kept {
        nodes,
        ..plain(seed)
    }
}

const fn under(faults: &'static str, kept: Kept) -> Kept {
    Kept { faults, ..kept }
}

const fn by(workload: Workload, kept: Kept) -> Kept {
    Kept { workload, ..kept }
}

const KEPT: [Kept; 38] = [
    plain(1),
    plain(7),
    plain(10),
    plain(15),
    plain(28),
    plain(89),
    plain(122),
    plain(137),
    plain(220),
    plain(234),
    plain(235),
    plain(752),
    plain(823),
    plain(838),
    // What a failed sync left in the cache was vouched for without being on the disk.
    plain(2228),
    // A follower passed a departed replica's request on, and lost its own replica for it.
    plain(10258),
    // A read of one lane was taken for another lane's of the same ticket.
    wide(2, 2, 2),
    wide(11, 2, 2),
    wide(24, 2, 1),
    // A node stopped when the meta shard had let it go and the tree still needed its vote.
    of(1, 30056),
    of(1, 30063),
    // A replica dropped itself while only it knew for good that it was removed.
    under("crash,members", of(1, 70192)),
    // A leader that a change removed led on without a progress of its own.
    under("crash,partition,members", plain(80054)),
    // The sixth member follows without a vote.
    of(5, 20002),
    // A core that does not hold the tree let a node go that the tree's group still needed.
    spread(2, 2, under("crash,members", of(1, 70013))),
    spread(2, 2, under("crash,members", of(1, 70216))),
    // Of seven initial members five vote.
    under("none", of(7, 3)),
    // The crate put entries behind an empty append that they do not follow.
    wide(90136, 3, 3),
    // A frame with commands of the cache that came twice was carried out twice.
    by(Workload::All, wide(3, 2, 2)),
    // Who stood behind others was told that a list was empty without having been tried.
    by(Workload::All, plain(59)),
    by(Workload::Redis, plain(4)),
    by(Workload::Redis, plain(11)),
    // A key was watched where its replica had just gone: its transaction was carried out whatever had changed.
    by(Workload::Redis, plain(145)),
    // Stamps stood still behind what a leader whose clock was ahead had proposed last: nothing that was due came.
    by(Workload::Jobs, plain(166)),
    // Leadership went to and fro for ever: one node still counted the clock of a member that had left.
    by(Workload::Jobs, plain(46)),
    // A registration that came late ended tasks that its agent had started since: they ran twice.
    by(Workload::All, plain(7)),
    // A member of a group that had lost the last lines of its log gave fences that others had had.
    by(Workload::Groups, plain(164)),
    by(Workload::Groups, plain(172)),
];

#[test]
fn kept_seeds_pass() {
    let failed: Vec<String> = std::thread::scope(|scope| {
        let halves = KEPT.split_at(KEPT.len() / 2);
        let workers = [halves.0, halves.1].map(|kept| {
            scope.spawn(move || {
                let mut failed = Vec::new();
                for Kept {
                    seed,
                    nodes,
                    lanes,
                    cores,
                    faults,
                    workload,
                } in kept
                {
                    let report = run(&Options {
                        seed: *seed,
                        nodes: *nodes,
                        lanes: Some(*lanes),
                        cores: Some(*cores),
                        faults: faults.parse().expect("names of faults"),
                        workload: *workload,
                        ..Options::default()
                    });
                    if !report.violations.is_empty() {
                        failed.push(format!(
                            "althing lab cluster --seed {seed} --nodes {nodes} --lanes {lanes} --cores {cores} --faults {faults} --workload {}\n  {}",
                            workload.key(),
                            report.violations.join("\n  ")
                        ));
                    }
                }
                failed
            })
        });
        workers
            .into_iter()
            .flat_map(|worker| worker.join().expect("a run yields a report"))
            .collect()
    });
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}
