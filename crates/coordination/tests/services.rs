//! The services' machine: what commands do, in order; snapshots, digests, byte forms, and bytes that are none.

use base::{CoreAddress, CoreId, Machine, NodeId, Origin, Rng, SnapshotPoll, Stamp, State};
use bytes::Bytes;
use coordination::services::{
    Answer, CheckKind, CheckSpec, Command, Found, Instance, Output, Pace, Query, Refusal, Reply,
    Services, Status, Unit,
};

const ORIGIN: Origin = Origin {
    home: CoreAddress {
        node: NodeId(9),
        core: CoreId(0),
    },
    token: 1,
};

fn instance(id: &str, service: &str) -> Instance {
    Instance {
        node: NodeId(1),
        node_address: "10.0.0.1".into(),
        id: id.into(),
        service: service.into(),
        address: String::new(),
        port: 80,
        tags: vec!["blue".into()],
        meta: [("zone".to_owned(), "a".to_owned())].into(),
        weights: (1, 1),
    }
}

fn check(id: &str, instance: &str, kind: CheckKind) -> CheckSpec {
    CheckSpec {
        id: id.into(),
        name: "alive".into(),
        notes: String::new(),
        instance: instance.into(),
        kind,
        initial: Status::Critical,
        deregister_after_ms: 0,
    }
}

fn ttl(id: &str, instance: &str) -> CheckSpec {
    check(id, instance, CheckKind::Ttl { ttl_ms: 1_000 })
}

fn tcp(id: &str, instance: &str) -> CheckSpec {
    let pace = Pace {
        interval_ms: 1_000,
        timeout_ms: 500,
        successes: 2,
        failures_to_warn: 1,
        failures: 3,
    };
    let address = "127.0.0.1:80".into();
    check(id, instance, CheckKind::Tcp { address, pace })
}

fn register(instance: Instance, checks: Vec<CheckSpec>) -> Command {
    Command::Register {
        instance,
        checks,
        replace_checks: false,
    }
}

fn tell(id: &str, status: Status, output: &str) -> Command {
    Command::Tell {
        id: id.into(),
        status,
        output: output.into(),
    }
}

/// A machine and its time.
#[derive(Default)]
struct Rig {
    services: Services,
    time_ms: i64,
}

impl Rig {
    /// The answer, and the services that were said to have changed, with whether their instances had.
    fn apply(&mut self, command: Command) -> (Result<Reply, Refusal>, Vec<(String, bool)>) {
        let unit = Unit {
            origin: ORIGIN,
            command,
        };
        let stamp = Stamp {
            time_ms: self.time_ms,
            seed: 0,
        };
        let mut out = Vec::new();
        (self.services.apply(stamp, &unit.encode(), &mut out)).expect("it is understood");
        let (mut reply, mut changed) = (None, Vec::new());
        for output in out {
            match output {
                Output::Reply { origin, reply: own } => {
                    assert_eq!(origin, ORIGIN);
                    reply = Some(own);
                }
                Output::Changed { service, instances } => changed.push((service, instances)),
                Output::Check { .. } => {}
            }
        }
        (reply.expect("it is answered"), changed)
    }

    fn done(&mut self, command: Command) -> Vec<(String, bool)> {
        let (reply, changed) = self.apply(command);
        assert_eq!(reply, Ok(Reply::Done));
        changed
    }

    fn refused(&mut self, command: Command) -> Refusal {
        let all = |services: &Services| {
            [Query::Names, Query::Instances, Query::Checks].map(|query| services.read(&query))
        };
        let before = all(&self.services);
        let (reply, changed) = self.apply(command);
        assert_eq!((changed, all(&self.services)), (Vec::new(), before));
        reply.expect_err("it is refused")
    }

    fn found(&self, name: &str) -> (u64, Vec<Found>) {
        match self.services.read(&Query::Service { name: name.into() }) {
            (index, Answer::Instances(found)) => (index, found),
            other => panic!("{other:?}"),
        }
    }

    fn status(&self, name: &str) -> Status {
        self.found(name).1[0].status()
    }

    fn number(&self, id: &str) -> u64 {
        let mut checks = self.services.checks();
        checks
            .find(|c| c.spec.id == id)
            .expect("it is there")
            .number
    }
}

fn changed(service: &str, instances: bool) -> Vec<(String, bool)> {
    vec![(service.to_owned(), instances)]
}

// --- commands ---

#[test]
fn what_is_registered_again_as_it_is_changes_nothing() {
    let mut rig = Rig::default();
    let own = || register(instance("w1", "web"), vec![ttl("c1", "w1")]);
    assert_eq!(rig.done(own()), changed("web", true));
    rig.done(tell("c1", Status::Passing, "fine"));
    let (index, found) = rig.found("web");
    assert_eq!(rig.done(own()), []);
    // Nor does it at another node.
    let elsewhere = Instance {
        node: NodeId(2),
        node_address: "10.0.0.2".into(),
        ..instance("w1", "web")
    };
    assert_eq!(rig.done(register(elsewhere, vec![ttl("c1", "w1")])), []);
    assert_eq!(rig.found("web"), (index, found));
    // What differs takes its place, and keeps what its check says.
    let other = Instance {
        port: 81,
        ..instance("w1", "web")
    };
    assert_eq!(
        rig.done(register(other, vec![ttl("c1", "w1")])),
        changed("web", true)
    );
    assert_eq!(rig.status("web"), Status::Passing);
    // An id is one instance: under another name, it leaves its service.
    let moved = rig.done(register(instance("w1", "shop"), vec![]));
    assert_eq!(moved, [("shop".to_owned(), true), ("web".to_owned(), true)]);
    assert_eq!(rig.found("web").1, []);
}

#[test]
fn index_of_a_service_rises_with_its_changes_only_and_never_goes_back() {
    let mut rig = Rig::default();
    assert_eq!(
        rig.found("web").0,
        1,
        "nothing was ever there, and 0 is no index"
    );
    rig.done(register(instance("w1", "web"), vec![ttl("c1", "w1")]));
    rig.done(register(instance("d1", "db"), vec![]));
    let (web, _) = rig.found("web");
    assert_eq!(
        rig.done(tell("c1", Status::Passing, "fine")),
        changed("web", false)
    );
    let (passing, _) = rig.found("web");
    assert!(passing > web);
    assert_eq!(rig.done(tell("c1", Status::Passing, "other words")), []);
    assert_eq!(rig.found("web").0, passing);
    assert_eq!(rig.found("web").1[0].checks[0].check.output, "other words");
    rig.done(Command::Deregister { id: "d1".into() });
    assert_eq!(rig.found("web").0, passing);
    rig.done(Command::Deregister { id: "w1".into() });
    let (gone, _) = rig.found("web");
    assert!(gone > passing);
    rig.done(register(instance("w1", "web"), vec![]));
    assert!(rig.found("web").0 > gone);
}

#[test]
fn expiry_that_was_decided_before_a_check_was_told_does_not_count() {
    let mut rig = Rig::default();
    rig.done(register(instance("w1", "web"), vec![ttl("c1", "w1")]));
    rig.done(tell("c1", Status::Passing, ""));
    let number = rig.number("c1");
    rig.done(tell("c1", Status::Passing, ""));
    assert_eq!(
        rig.refused(Command::Expire { number, beats: 1 }),
        Refusal::Outdated
    );
    assert_eq!(rig.status("web"), Status::Passing);
    rig.done(Command::Expire { number, beats: 2 });
    assert_eq!(rig.status("web"), Status::Critical);
}

#[test]
fn only_the_node_that_is_to_look_is_believed() {
    let mut rig = Rig::default();
    rig.done(register(instance("w1", "web"), vec![tcp("c1", "w1")]));
    let number = rig.number("c1");
    let observe = |number, epoch, status| Command::Observe {
        number,
        epoch,
        status,
        output: "seen".into(),
    };
    let assign = |epoch| Command::Assign {
        number,
        epoch,
        runner: NodeId(3),
    };
    rig.done(observe(number, 0, Status::Passing));
    rig.done(assign(0));
    assert_eq!(rig.refused(assign(0)), Refusal::Outdated, "decided twice");
    assert_eq!(
        rig.refused(observe(number, 0, Status::Critical)),
        Refusal::Outdated
    );
    assert_eq!(rig.status("web"), Status::Passing);
    rig.done(observe(number, 1, Status::Warning));
    assert_eq!(rig.status("web"), Status::Warning);
    // Another check in its place has another number.
    rig.done(register(instance("w1", "web"), vec![ttl("c1", "w1")]));
    assert_eq!(
        rig.refused(observe(number, 1, Status::Passing)),
        Refusal::Outdated
    );
}

#[test]
fn instance_is_removed_when_its_check_was_critical_for_so_long_without_a_break() {
    let mut rig = Rig {
        time_ms: 10_000,
        ..Rig::default()
    };
    let doomed = CheckSpec {
        deregister_after_ms: 5_000,
        ..ttl("c1", "w1")
    };
    rig.done(register(instance("w1", "web"), vec![doomed]));
    let number = rig.number("c1");
    assert_eq!(rig.services.reapable(14_999, 10), []);
    let since_ms = 10_000;
    let reap = Command::Reap { number, since_ms };
    assert_eq!(
        rig.services.reapable(15_000, 10),
        std::slice::from_ref(&reap)
    );
    rig.time_ms = 14_999;
    assert_eq!(rig.refused(reap.clone()), Refusal::Outdated, "too early");
    rig.done(tell("c1", Status::Passing, ""));
    assert_eq!(rig.services.reapable(i64::MAX, 10), []);
    rig.done(tell("c1", Status::Critical, ""));
    rig.time_ms = 15_500;
    assert_eq!(rig.refused(reap), Refusal::Outdated, "it passed meanwhile");
    rig.time_ms = 19_999;
    let since_ms = 14_999;
    assert_eq!(
        rig.done(Command::Reap { number, since_ms }),
        changed("web", true)
    );
    assert_eq!(rig.found("web").1, []);
    assert_eq!(rig.services.checks().count(), 0);
}

#[test]
fn check_of_a_node_is_about_all_that_was_registered_there() {
    let mut rig = Rig::default();
    for (id, service, node) in [("w1", "web", 1), ("d1", "db", 1), ("w2", "web", 2)] {
        let node = NodeId(node);
        let own = Instance {
            node,
            ..instance(id, service)
        };
        rig.done(register(own, vec![]));
    }
    let of_node = CheckSpec {
        initial: Status::Passing,
        ..ttl("disk", "")
    };
    let node = NodeId(1);
    let both = vec![("db".to_owned(), false), ("web".to_owned(), false)];
    assert_eq!(
        rig.done(Command::RegisterCheck {
            node,
            check: of_node
        }),
        both
    );
    assert_eq!(rig.done(tell("disk", Status::Critical, "full")), both);
    let statuses: Vec<Status> = rig.found("web").1.iter().map(Found::status).collect();
    assert_eq!(statuses, [Status::Critical, Status::Passing]);
    assert_eq!(
        rig.done(Command::DeregisterCheck { id: "disk".into() }),
        both
    );
    assert_eq!(rig.status("db"), Status::Passing);
}

#[test]
fn checks_that_are_not_named_any_more_go_when_that_is_wanted() {
    let mut rig = Rig::default();
    let checks = vec![ttl("c1", "w1"), ttl("c2", "w1")];
    rig.done(register(instance("w1", "web"), checks));
    rig.done(register(instance("w1", "web"), vec![ttl("c1", "w1")]));
    assert_eq!(rig.services.checks().count(), 2);
    let replaced = rig.done(Command::Register {
        instance: instance("w1", "web"),
        checks: vec![ttl("c1", "w1")],
        replace_checks: true,
    });
    assert_eq!(replaced, changed("web", false));
    assert_eq!(rig.services.checks().count(), 1);
}

#[test]
fn what_cannot_be_is_refused_and_touches_nothing() {
    let mut rig = Rig::default();
    rig.done(register(instance("w1", "web"), vec![tcp("c1", "w1")]));
    let long = "x".repeat(254);
    let invalid = [
        register(
            Instance {
                service: String::new(),
                ..instance("a", "a")
            },
            vec![],
        ),
        register(
            Instance {
                id: long.clone(),
                ..instance("a", "a")
            },
            vec![],
        ),
        register(
            Instance {
                tags: vec![String::new()],
                ..instance("a", "a")
            },
            vec![],
        ),
        register(
            Instance {
                tags: vec!["t".into(); 65],
                ..instance("a", "a")
            },
            vec![],
        ),
        register(
            Instance {
                weights: (65_536, 1),
                ..instance("a", "a")
            },
            vec![],
        ),
        register(instance("a", "a"), vec![ttl("c", "b")]),
        register(instance("a", "a"), vec![ttl(&long, "a")]),
        register(instance("a", "a"), vec![ttl("c", "a"); 65]),
        register(
            instance("a", "a"),
            vec![check("c", "a", CheckKind::Ttl { ttl_ms: 9 })],
        ),
    ];
    for command in invalid {
        let refusal = rig.refused(command.clone());
        assert!(
            matches!(refusal, Refusal::Invalid(_)),
            "{command:?}: {refusal:?}"
        );
    }
    let unknown = |id: &str| Refusal::UnknownInstance(id.into());
    let gone = Command::Deregister { id: "gone".into() };
    assert_eq!(rig.refused(gone), unknown("gone"));
    let node = NodeId(1);
    let check = ttl("c9", "gone");
    assert_eq!(
        rig.refused(Command::RegisterCheck { node, check }),
        unknown("gone")
    );
    let told = tell("gone", Status::Passing, "");
    assert_eq!(rig.refused(told), Refusal::UnknownCheck("gone".into()));
    let told = tell("c1", Status::Passing, "");
    assert_eq!(rig.refused(told), Refusal::NotTtl("c1".into()));
    let number = rig.number("c1");
    assert_eq!(
        rig.refused(Command::Expire { number, beats: 0 }),
        Refusal::Outdated
    );
    assert_eq!(
        rig.refused(Command::Reap {
            number,
            since_ms: 0
        }),
        Refusal::Outdated
    );
}

#[test]
fn output_is_cut_at_a_whole_character() {
    let mut rig = Rig::default();
    rig.done(register(instance("w1", "web"), vec![ttl("c1", "w1")]));
    rig.done(tell("c1", Status::Passing, &"é".repeat(4_000)));
    let output = rig.found("web").1[0].checks[0].check.output.clone();
    assert_eq!(output, "é".repeat(2_048));
}

// --- snapshots and bytes ---

fn chunks(services: &mut Services, bytes_max: usize) -> Vec<Vec<u8>> {
    let mut chunks = Vec::new();
    while let SnapshotPoll::Chunk(chunk) = services.poll_snapshot(bytes_max) {
        chunks.push(chunk);
    }
    chunks
}

/// Anything, mostly about few things.
fn anything(rng: &mut Rng) -> Command {
    let id = |rng: &mut Rng, letter: char| format!("{letter}{}", rng.range(0, 6));
    let own = id(rng, 'i');
    let number = rng.range(0, 30);
    let status = Status::ALL[rng.range(0, 3) as usize];
    match rng.range(0, 9) {
        0 | 1 => {
            let service = id(rng, 's');
            let checks = (0..rng.range(0, 3)).map(|_| {
                let deregister_after_ms = rng.range(0, 2) * 1_000;
                let own = match rng.one_in(2) {
                    true => ttl(&id(rng, 'c'), &own),
                    false => tcp(&id(rng, 'c'), &own),
                };
                CheckSpec {
                    deregister_after_ms,
                    ..own
                }
            });
            Command::Register {
                checks: checks.collect(),
                replace_checks: rng.one_in(2),
                instance: Instance {
                    node: NodeId(rng.range(1, 4)),
                    port: rng.range(1, 3) as u16,
                    ..instance(&own, &service)
                },
            }
        }
        2 => Command::Deregister { id: own },
        3 => {
            let about = if rng.one_in(2) { own } else { String::new() };
            Command::RegisterCheck {
                node: NodeId(rng.range(1, 4)),
                check: ttl(&id(rng, 'c'), &about),
            }
        }
        4 => Command::DeregisterCheck { id: id(rng, 'c') },
        5 => tell(&id(rng, 'c'), status, &own),
        6 => Command::Expire {
            number,
            beats: rng.range(0, 3),
        },
        7 => {
            let epoch = rng.range(0, 2) as u32;
            match rng.one_in(2) {
                true => Command::Observe {
                    number,
                    epoch,
                    status,
                    output: own,
                },
                false => Command::Assign {
                    number,
                    epoch,
                    runner: NodeId(rng.range(1, 4)),
                },
            }
        }
        _ => Command::Reap {
            number,
            since_ms: rng.range(0, 3_000) as i64,
        },
    }
}

#[test]
fn restored_machine_is_the_same_and_goes_on_alike_whatever_happened() {
    for seed in 0..40 {
        let mut rng = Rng::new(seed);
        let mut rig = Rig::default();
        for _ in 0..rng.range(0, 150) {
            rig.time_ms += rng.range(0, 200) as i64;
            let _ = rig.apply(anything(&mut rng));
        }
        rig.services.begin_snapshot();
        let at_cut = rig.services.clone();
        // What comes behind the cut is not in it.
        rig.done(register(instance("late", "late"), vec![]));
        let mut restored = Services::new();
        for chunk in chunks(&mut rig.services, 1 + rng.range(0, 300) as usize) {
            restored.restore(&chunk).expect("a chunk is taken");
        }
        restored.finish_restore().expect("it is whole");
        assert_eq!(restored.digest(), at_cut.digest(), "seed {seed}");
        for query in [Query::Names, Query::Instances, Query::Checks] {
            assert_eq!(restored.read(&query), at_cut.read(&query), "seed {seed}");
        }
        assert_eq!(
            restored.reapable(i64::MAX, 99),
            at_cut.reapable(i64::MAX, 99)
        );
        let time_ms = rig.time_ms;
        let mut both = [at_cut, restored].map(|services| Rig { services, time_ms });
        for _ in 0..50 {
            let command = anything(&mut rng);
            let [one, other] = &mut both;
            assert_eq!(
                one.apply(command.clone()),
                other.apply(command),
                "seed {seed}"
            );
            assert_eq!(
                one.services.digest(),
                other.services.digest(),
                "seed {seed}"
            );
            assert_eq!(one.services.bytes(), other.services.bytes(), "seed {seed}");
        }
    }
}

#[test]
fn damaged_snapshots_are_refused_and_never_panic() {
    let mut rig = Rig::default();
    rig.done(register(
        instance("w1", "web"),
        vec![ttl("c1", "w1"), tcp("c2", "w1")],
    ));
    rig.services.begin_snapshot();
    let image = chunks(&mut rig.services, usize::MAX).concat();
    let restored = |image: &[u8]| {
        let mut services = Services::new();
        services.restore(image)?;
        services.finish_restore()
    };
    assert_eq!(restored(&image), Ok(()));
    for end in 1..image.len() {
        assert!(restored(&image[..end]).is_err(), "cut at {end}");
    }
    for at in 0..image.len() {
        let mut damaged = image.clone();
        damaged[at] ^= 0x41;
        assert!(restored(&damaged).is_err(), "flipped at {at}");
    }
}

fn every_command() -> Vec<Command> {
    let http = CheckKind::Http {
        url: "http://h:1/p".into(),
        method: "GET".into(),
        headers: vec![("a".into(), "b".into())],
        body: "x".into(),
        pace: Pace {
            interval_ms: 1_000,
            timeout_ms: 500,
            successes: 1,
            failures_to_warn: 2,
            failures: 3,
        },
    };
    let (number, epoch, status) = (7, 2, Status::Warning);
    vec![
        register(instance("w1", "web"), vec![check("c1", "w1", http)]),
        Command::Deregister { id: "w1".into() },
        Command::RegisterCheck {
            node: NodeId(2),
            check: tcp("c2", ""),
        },
        Command::DeregisterCheck { id: "c2".into() },
        tell("c1", Status::Passing, "ok"),
        Command::Expire { number, beats: 3 },
        Command::Observe {
            number,
            epoch,
            status,
            output: "o".into(),
        },
        Command::Assign {
            number,
            epoch,
            runner: NodeId(3),
        },
        Command::Reap {
            number,
            since_ms: -1,
        },
    ]
}

#[allow(clippy::disallowed_methods)] // a switch for people, read by the test runner only
fn is_update() -> bool {
    std::env::var("UPDATE_GOLDEN").is_ok()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[test]
fn byte_forms_are_as_they_were() {
    let lines: Vec<String> = (every_command().into_iter())
        .map(|command| {
            let unit = Unit {
                origin: ORIGIN,
                command,
            };
            let bytes = unit.encode();
            assert_eq!(Unit::decode(&Bytes::from(bytes.clone())), Ok(unit));
            hex(&bytes)
        })
        .collect();
    let mut rig = Rig {
        time_ms: 5,
        ..Rig::default()
    };
    for command in every_command() {
        let _ = rig.apply(command);
    }
    rig.done(register(instance("w2", "web"), vec![ttl("c3", "w2")]));
    rig.services.begin_snapshot();
    let image = chunks(&mut rig.services, usize::MAX).concat();
    let text = lines.join("\n") + "\n" + &hex(&image) + "\n";
    if is_update() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/services_v1.hex");
        std::fs::write(path, &text).expect("the golden file is writable");
        return;
    }
    let golden = include_str!("services_v1.hex");
    assert_eq!(
        text, golden,
        "the forms of a release must not change; new commands are new lines"
    );
}

#[test]
fn bytes_that_are_no_unit_are_refused_and_never_panic() {
    let mut rng = Rng::new(5);
    for command in every_command() {
        let good = Unit {
            origin: ORIGIN,
            command,
        }
        .encode();
        for end in 0..good.len() {
            assert!(Unit::decode(&Bytes::copy_from_slice(&good[..end])).is_err());
        }
        let mut longer = good.clone();
        longer.push(0);
        assert!(Unit::decode(&Bytes::from(longer)).is_err());
        for _ in 0..500 {
            let mut bytes = good.clone();
            let at = rng.range(0, bytes.len() as u64) as usize;
            bytes[at] = rng.next_u64() as u8;
            // Whatever is understood can be applied.
            if Unit::decode(&Bytes::from(bytes.clone())).is_ok() {
                let (stamp, mut out) = (Stamp::default(), Vec::new());
                assert_eq!(Services::new().apply(stamp, &bytes, &mut out), Ok(()));
            }
        }
    }
}
