//! Snapshots taken while the tree changes are those of the cut; broken ones are refused.

use base::planted::{Bug, plant};
use base::{CoreAddress, CoreId, NodeId, Rng, SessionId, SnapshotPoll, Stamp, State};
use bytes::Bytes;
use coordination::{
    Acl, Command, Coordination, CreateMode, Envelope, Identity, Origin, Output, Principal, Query,
    Reply, TreeOp, Unit,
};

struct Driver {
    rng: Rng,
    machine: Coordination,
    sessions: Vec<(SessionId, u64)>,
    time_ms: i64,
    paths: Vec<String>,
}

impl Driver {
    fn new(seed: u64) -> Self {
        Self {
            rng: Rng::new(seed),
            machine: Coordination::new(),
            sessions: Vec::new(),
            time_ms: 0,
            paths: vec![String::new()],
        }
    }

    fn apply(&mut self, envelope: Envelope, command: Command) {
        let mut out = Vec::new();
        self.time_ms += self.rng.range(0, 3) as i64;
        let stamp = Stamp {
            time_ms: self.time_ms,
            seed: self.rng.next_u64(),
        };
        let unit = Unit { envelope, command };
        let before = (self.machine.zxid(), self.machine.tree_digest());
        self.machine
            .apply_unit(stamp, unit, &mut out)
            .expect("known");
        let is_refusal = |o: &Output| {
            let Output::Reply { reply, .. } = o else {
                return false;
            };
            matches!(reply, Reply::Write(Err(_)) | Reply::Multi(Err(_)))
        };
        if out.iter().any(is_refusal) {
            let after = (self.machine.zxid(), self.machine.tree_digest());
            assert_eq!(after, before, "a refused unit left a trace");
            assert_eq!(out.len(), 1, "a refused unit told of events");
        }
        for output in out {
            match output {
                Output::SessionOpened { session, .. } => self.sessions.push((session, 0)),
                Output::SessionEnded { session, .. } => {
                    self.sessions.retain(|(s, _)| *s != session);
                }
                Output::Reply {
                    reply:
                        coordination::Reply::Write(Ok(coordination::OpReply::Created { path, .. })),
                    ..
                } => self.paths.push(path),
                _ => {}
            }
        }
    }

    fn path(&mut self) -> String {
        let at = self.rng.range(0, self.paths.len() as u64) as usize;
        match self.paths[at].as_str() {
            "" => "/".into(),
            path => path.into(),
        }
    }

    fn op(&mut self) -> TreeOp {
        let version = if self.rng.one_in(10) { 1 } else { -1 };
        let data = Bytes::from(vec![7; self.rng.range(0, 60) as usize]);
        let acl = match self.rng.range(0, 5) {
            0 => vec![Acl {
                permissions: 31,
                identity: Identity {
                    scheme: "digest".into(),
                    id: format!("u{}:x", self.rng.range(0, 4)),
                },
            }],
            _ => vec![Acl::open()],
        };
        match self.rng.range(0, 10) {
            0..=4 => {
                let at = self.rng.range(0, self.paths.len() as u64) as usize;
                let sequential = self.rng.one_in(3);
                let mode = match self.rng.range(0, 5) {
                    0 => CreateMode::Ephemeral { sequential },
                    1 => CreateMode::Container,
                    2 => CreateMode::Ttl {
                        ttl_ms: 50,
                        sequential,
                    },
                    _ => CreateMode::Persistent { sequential },
                };
                TreeOp::Create {
                    path: format!("{}/n{}", self.paths[at], self.rng.range(0, 30)),
                    data,
                    acl,
                    mode,
                }
            }
            5..=6 => TreeOp::Delete {
                path: self.path(),
                version,
            },
            7..=8 => TreeOp::SetData {
                path: self.path(),
                data,
                version,
            },
            _ => TreeOp::SetAcl {
                path: self.path(),
                acl,
                version: -1,
            },
        }
    }

    fn step(&mut self) {
        let draw = self.rng.range(0, 100);
        if self.sessions.is_empty() || draw == 0 {
            let command = Command::OpenSession {
                origin: Origin {
                    home: CoreAddress {
                        node: NodeId(draw),
                        core: CoreId(1),
                    },
                    token: draw,
                },
                password: [draw as u8; 16],
                timeout_ms: 100,
            };
            return self.apply(Envelope::default(), command);
        }
        if draw == 1 {
            for command in self.machine.reapable(self.time_ms) {
                self.apply(Envelope::default(), command);
            }
            return;
        }
        let at = self.rng.range(0, self.sessions.len() as u64) as usize;
        self.sessions[at].1 += 1;
        let (session, sequence) = self.sessions[at];
        let command = match draw {
            2 => Command::CloseSession,
            3..=30 => Command::Multi((0..self.rng.range(1, 6)).map(|_| self.op()).collect()),
            _ => Command::Write(self.op()),
        };
        let envelope = Envelope {
            session,
            generation: 1,
            sequence,
            principal: Principal {
                superuser: true,
                ..Principal::default()
            },
            namespace: 0,
        };
        self.apply(envelope, command);
    }

    /// Takes a snapshot with `steps` changes between chunks.
    fn snapshot(&mut self, bytes_max: usize, steps: u64) -> Vec<Vec<u8>> {
        let mut chunks = Vec::new();
        self.machine.begin_snapshot();
        loop {
            for _ in 0..self.rng.range(0, steps + 1) {
                self.step();
            }
            match self.machine.poll_snapshot(bytes_max) {
                SnapshotPoll::Chunk(chunk) => chunks.push(chunk),
                SnapshotPoll::Done => return chunks,
            }
        }
    }
}

fn restore(chunks: &[Vec<u8>]) -> Result<Coordination, String> {
    let mut machine = Coordination::new();
    for chunk in chunks {
        machine.restore(chunk)?;
    }
    machine.finish_restore()?;
    Ok(machine)
}

/// Everything that can be seen of a machine.
fn picture(machine: &Coordination) -> String {
    let principal = Principal {
        superuser: true,
        ..Principal::default()
    };
    let mut picture = format!(
        "{:?} {} {}",
        machine.counts(),
        machine.zxid(),
        machine.time_ms()
    );
    for session in machine.sessions() {
        picture.push_str(&format!("\n{session:?}"));
    }
    let mut reapable: Vec<String> = machine
        .reapable(i64::MAX)
        .iter()
        .map(|command| format!("\n{command:?}"))
        .collect();
    reapable.sort();
    picture.extend(reapable);
    let mut todo = vec!["/".to_owned()];
    while let Some(path) = todo.pop() {
        let ask = |query| machine.query(&principal, &query).expect("it is there");
        let data = ask(Query::GetData { path: path.clone() });
        let acl = ask(Query::GetAcl { path: path.clone() });
        let kind = machine.kind(&path);
        picture.push_str(&format!("\n{path} {data:?} {acl:?} {kind:?}"));
        let coordination::Answer::Children(names) = ask(Query::GetChildren { path: path.clone() })
        else {
            panic!("children are answered by children");
        };
        todo.extend(
            names
                .iter()
                .map(|n| format!("{}/{n}", path.trim_end_matches('/'))),
        );
    }
    picture
}

#[test]
fn snapshot_under_mutation_is_the_state_of_the_cut() {
    for seed in 0..80 {
        let mut driver = Driver::new(seed);
        for _ in 0..driver.rng.range(0, 1500) {
            driver.step();
        }
        let (digest, at_cut) = (driver.machine.digest(), picture(&driver.machine));
        let bytes_max = driver.rng.range(1, 3000) as usize;
        let chunks = driver.snapshot(bytes_max, 8);
        let restored = restore(&chunks).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        assert_eq!(restored.digest(), digest, "seed {seed}");
        assert_eq!(picture(&restored), at_cut, "seed {seed}");
        // Once more from the restored machine, at rest, and once more from the original.
        let mut again = Driver::new(seed);
        again.machine = restored;
        let copy = restore(&again.snapshot(bytes_max, 0)).expect("whole");
        assert_eq!(picture(&copy), at_cut, "seed {seed}");
        let now = picture(&driver.machine);
        let second = restore(&driver.snapshot(bytes_max, 3)).expect("whole");
        assert_eq!(picture(&second), now, "seed {seed}");
    }
}

#[test]
fn restored_machine_goes_on_like_the_original() {
    let mut driver = Driver::new(11);
    for _ in 0..2000 {
        driver.step();
    }
    let chunks = driver.snapshot(500, 0);
    let mut twin = Driver::new(0);
    twin.machine = restore(&chunks).expect("whole");
    twin.sessions = driver.sessions.clone();
    twin.paths = driver.paths.clone();
    (twin.rng, twin.time_ms) = (driver.rng.clone(), driver.time_ms);
    for step in 0..2000 {
        driver.step();
        twin.step();
        // Reaping is proposed in the order of slots, which a restore may change; the state may not.
        if driver.machine.digest() != twin.machine.digest() {
            assert_eq!(
                picture(&driver.machine),
                picture(&twin.machine),
                "step {step}"
            );
        }
        assert_eq!(
            driver.machine.digest(),
            twin.machine.digest(),
            "step {step}"
        );
    }
}

#[test]
fn chunks_keep_to_the_size_asked_for() {
    let mut driver = Driver::new(3);
    for _ in 0..2000 {
        driver.step();
    }
    // No node here is longer than 300 bytes; the last record may exceed by its own 13.
    let chunks = driver.snapshot(4000, 2);
    assert!(chunks.len() > 5);
    assert!(chunks.iter().all(|chunk| chunk.len() <= 4013));
}

#[test]
fn aborted_snapshot_leaves_no_trace_and_may_be_begun_again() {
    let mut driver = Driver::new(4);
    for _ in 0..500 {
        driver.step();
    }
    driver.machine.begin_snapshot();
    driver.machine.poll_snapshot(100);
    driver.machine.abort_snapshot();
    assert_eq!(driver.machine.poll_snapshot(100), SnapshotPoll::Done);
    let at_cut = picture(&driver.machine);
    let restored = restore(&driver.snapshot(200, 5)).expect("whole");
    assert_eq!(picture(&restored), at_cut);
}

#[test]
fn missing_repeated_or_reordered_chunks_are_refused() {
    let mut driver = Driver::new(6);
    for _ in 0..800 {
        driver.step();
    }
    let chunks = driver.snapshot(1000, 3);
    assert!(chunks.len() > 4);
    let mut missing = chunks.clone();
    missing.remove(2);
    assert!(restore(&missing).is_err());
    let mut swapped = chunks.clone();
    swapped.swap(1, 2);
    assert!(restore(&swapped).is_err());
    assert!(restore(&chunks[..chunks.len() - 1]).is_err());
    let mut doubled = chunks.clone();
    doubled.push(chunks[0].clone());
    assert!(restore(&doubled).is_err());
    assert!(restore(&[]).is_err());
    let mut future = chunks.clone();
    future[0][1] = 2;
    let error = restore(&future).expect_err("unknown format");
    assert!(error.contains("upgrade"), "{error}");
    restore(&chunks).expect("the whole one is fine");
}

#[test]
fn flipped_bits_are_refused_or_harmless() {
    let mut driver = Driver::new(8);
    for _ in 0..300 {
        driver.step();
    }
    let at_cut = picture(&driver.machine);
    let chunks = driver.snapshot(2000, 0);
    let mut rng = Rng::new(1);
    for _ in 0..3000 {
        let mut broken = chunks.clone();
        for _ in 0..rng.range(1, 4) {
            let chunk = rng.range(0, broken.len() as u64) as usize;
            let at = rng.range(0, broken[chunk].len() as u64) as usize;
            match rng.range(0, 3) {
                0 => broken[chunk][at] ^= 1 << rng.range(0, 8),
                1 => broken[chunk][at] = 0xff,
                _ => broken[chunk].truncate(at.max(1)),
            }
        }
        if let Ok(machine) = restore(&broken) {
            assert_eq!(picture(&machine), at_cut);
        }
    }
}

#[test]
fn planted_snapshot_without_old_images_is_refused_on_restore() {
    let mut refused = 0;
    for seed in 0..20 {
        let mut driver = Driver::new(seed);
        for _ in 0..800 {
            driver.step();
        }
        plant(Some(Bug::SnapshotWithoutOldImage));
        let chunks = driver.snapshot(300, 20);
        plant(None);
        refused += usize::from(restore(&chunks).is_err());
    }
    assert_eq!(refused, 20);
}

#[test]
fn snapshot_after_a_failed_one_is_restored() {
    let mut driver = Driver::new(9);
    for _ in 0..500 {
        driver.step();
    }
    let chunks = driver.snapshot(1000, 0);
    let mut machine = Coordination::new();
    let empty = machine.digest();
    machine.restore(&chunks[0]).expect("the first");
    machine
        .restore(&chunks[2])
        .expect_err("the second is missing");
    machine.restore(&chunks[1]).expect_err("begin anew");
    assert_eq!(
        machine.digest(),
        empty,
        "what is served is still the old state"
    );
    machine.restore(&chunks[0]).expect("the first");
    chunks
        .iter()
        .for_each(|c| machine.restore(c).expect("anew"));
    machine.finish_restore().expect("whole");
    assert_eq!(machine.digest(), driver.machine.digest());
}

/// Format 1 of snapshots, kept for ever: later versions must read it.
#[test]
fn snapshot_of_format_1_is_read_for_ever() {
    let mut driver = Driver::new(77);
    for _ in 0..60 {
        driver.step();
    }
    let hex = |chunk: &Vec<u8>| chunk.iter().map(|b| format!("{b:02x}")).collect::<String>();
    let chunks: Vec<String> = driver.snapshot(800, 0).iter().map(hex).collect();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/snapshot_v1.hex");
    #[allow(clippy::disallowed_methods)] // a switch for people
    if std::env::var("UPDATE_GOLDEN").is_ok() {
        std::fs::write(path, chunks.join("\n") + "\n").expect("writable");
    }
    let golden = std::fs::read_to_string(path).expect("the file is there");
    let bytes = |line: &str| -> Vec<u8> {
        let digits: Vec<u8> = line
            .chars()
            .map(|c| c.to_digit(16).expect("hex") as u8)
            .collect();
        digits
            .chunks(2)
            .map(|pair| pair[0] << 4 | pair[1])
            .collect()
    };
    let golden: Vec<Vec<u8>> = golden.lines().map(bytes).collect();
    let restored = restore(&golden).expect("format 1 is known");
    assert_eq!(picture(&restored), picture(&driver.machine));
    assert_eq!(
        golden.iter().map(hex).collect::<Vec<_>>(),
        chunks,
        "the form has changed: raise FORMAT"
    );
}
