//! Bytes that are no units, and units that are no sense, never harm a machine.

use base::{ApplyFault, CoreAddress, Machine, Rng, SessionId, Stamp, State};
use bytes::Bytes;
use coordination::{
    Acl, Command, Coordination, CreateMode, Envelope, Identity, Origin, Output, Principal, Query,
    TreeOp, Unit,
};

fn units() -> Vec<Unit> {
    let session = SessionId(0x1000);
    let envelope = |sequence| Envelope {
        namespace: 0,
        principal: Principal {
            identities: vec![Identity {
                scheme: "digest".into(),
                id: "bob:hash".into(),
            }],
            address: "10.0.0.1".into(),
            superuser: false,
        },
        session,
        generation: 1,
        sequence,
    };
    let create = |path: &str, mode| TreeOp::Create {
        path: path.into(),
        data: Bytes::from_static(b"data"),
        acl: vec![Acl::open()],
        mode,
    };
    let persistent = CreateMode::Persistent { sequential: false };
    let commands = [
        Command::Write(create("/a", persistent)),
        Command::Write(create("/a/b", CreateMode::Ephemeral { sequential: true })),
        Command::Multi(vec![
            create("/a/c", CreateMode::Container),
            TreeOp::SetData {
                path: "/a/c".into(),
                data: Bytes::from_static(b"more"),
                version: 0,
            },
            TreeOp::SetAcl {
                path: "/a/c".into(),
                acl: vec![Acl::open()],
                version: -1,
            },
            TreeOp::Check {
                path: "/a".into(),
                version: 0,
            },
        ]),
        Command::Write(TreeOp::Delete {
            path: "/a/c".into(),
            version: -1,
        }),
        Command::Reap {
            path: "/a".into(),
            pzxid: 1,
            mzxid: 1,
        },
        Command::ExpireSession {
            session,
            generation: 1,
        },
    ];
    let open = Unit {
        envelope: Envelope::default(),
        command: Command::OpenSession {
            origin: Origin {
                home: CoreAddress::default(),
                token: 1,
            },
            password: [0; 16],
            timeout_ms: 1000,
        },
    };
    let rest = commands.into_iter().zip(1..);
    std::iter::once(open)
        .chain(rest.map(|(command, sequence)| Unit {
            envelope: envelope(sequence),
            command,
        }))
        .collect()
}

#[test]
fn undecodable_unit_stops_the_replica_and_changes_nothing() {
    let mut machine = Coordination::new();
    let digest = machine.digest();
    for bytes in [&[][..], &[1, 2, 3], &[0xff; 100]] {
        let result = machine.apply(Stamp::default(), bytes, &mut Vec::new());
        assert!(matches!(result, Err(ApplyFault::UnknownCommand(_))));
    }
    let mut elsewhere = units().remove(0);
    elsewhere.envelope.namespace = 9;
    let stamp = Stamp {
        time_ms: 5,
        seed: 0,
    };
    let result = machine.apply_unit(stamp, elsewhere, &mut Vec::new());
    assert!(matches!(result, Err(ApplyFault::UnknownCommand(_))));
    assert_eq!(machine.digest(), digest);
}

#[test]
fn mutated_units_are_refused_or_applied_alike_everywhere() {
    let originals: Vec<Vec<u8>> = units().iter().map(Unit::encode).collect();
    let mut rng = Rng::new(2);
    for _ in 0..3000 {
        let mut machines = [Coordination::new(), Coordination::new()];
        let mut outputs = [Vec::<Output>::new(), Vec::new()];
        let mut stream = originals.clone();
        for _ in 0..rng.range(1, 4) {
            let at = rng.range(0, stream.len() as u64) as usize;
            let unit = &mut stream[at];
            let byte = rng.range(0, unit.len() as u64) as usize;
            match rng.range(0, 5) {
                0 => unit[byte] ^= 1 << rng.range(0, 8),
                1 => unit[byte] = [0, 0x7f, 0x80, 0xff][rng.range(0, 4) as usize],
                2 => unit.truncate(byte),
                3 => unit.insert(byte, rng.next_u64() as u8),
                _ => unit[byte..].iter_mut().take(4).for_each(|b| *b = 0xff),
            }
            if unit.is_empty() {
                unit.push(0);
            }
        }
        for (machine, out) in machines.iter_mut().zip(&mut outputs) {
            for (unit, time_ms) in stream.iter().zip(0..) {
                let stamp = Stamp { time_ms, seed: 0 };
                // A fault stops a replica; here the rest is applied all the same.
                let _ = machine.apply(stamp, unit, out);
            }
        }
        assert_eq!(outputs[0], outputs[1]);
        assert_eq!(machines[0].digest(), machines[1].digest());
        let query = Query::GetChildren { path: "/".into() };
        assert!(machines[0].query(&Principal::default(), &query).is_ok());
    }
}

#[test]
fn deep_tree_is_made_read_and_snapshotted_without_recursion() {
    let mut machine = Coordination::new();
    let mut out = Vec::new();
    let mut all = units();
    let open = all.remove(0);
    machine
        .apply_unit(Stamp::default(), open, &mut out)
        .expect("known");
    let mut path = String::new();
    for sequence in 1..=3000 {
        path.push_str("/d");
        let mut unit = all[0].clone();
        unit.envelope.sequence = sequence;
        unit.command = Command::Write(TreeOp::Create {
            path: path.clone(),
            data: Bytes::new(),
            acl: vec![Acl::open()],
            mode: CreateMode::Persistent { sequential: false },
        });
        machine
            .apply_unit(Stamp::default(), unit, &mut out)
            .expect("known");
    }
    assert!(machine.stat(&path).is_some());
    machine.begin_snapshot();
    let mut copy = Coordination::new();
    while let base::SnapshotPoll::Chunk(chunk) = machine.poll_snapshot(10_000) {
        copy.restore(&chunk).expect("whole");
    }
    copy.finish_restore().expect("whole");
    assert_eq!(copy.digest(), machine.digest());
}
