//! Units and snapshots of files: their bytes, and bytes that are none.

use base::{
    ApplyFault, CoreAddress, CoreId, Machine, NodeId, Origin, Rng, SnapshotPoll, Stamp, State,
};
use bytes::Bytes;
use storage::files::{
    ChunkId, Command, CopyChange, Files, NewChunk, Refusal, Reply, Unit, WriteMode, check_path,
};

fn units() -> Vec<Unit> {
    let path = || "/a/b".to_owned();
    let chunk = ChunkId {
        write: 1,
        number: 0,
    };
    let (node, generation) = (NodeId(7), 2);
    let new = NewChunk {
        generation,
        length: 9,
        checksum: 0xabcd,
        copies: vec![node, NodeId(8)],
    };
    let commands = vec![
        Command::MakeDirectory { path: "/a".into() },
        Command::Begin {
            path: path(),
            mode: WriteMode::Create,
            holder: 5,
            copies: 3,
            lease_ms: 1_000,
        },
        Command::Commit { chunk, new },
        Command::Renew { write: 1 },
        Command::Copies {
            changes: vec![
                CopyChange::Make {
                    chunk,
                    node: NodeId(9),
                },
                CopyChange::Made {
                    chunk,
                    generation,
                    node: NodeId(9),
                },
                CopyChange::Corrupt {
                    chunk,
                    generation,
                    node,
                },
                CopyChange::Surplus {
                    chunk,
                    node: NodeId(8),
                },
                CopyChange::Lost { chunk, node },
                CopyChange::Gone { node: NodeId(9) },
            ],
        },
        Command::Close { write: 1 },
        Command::SetWanted {
            path: path(),
            copies: 2,
        },
        Command::Rename {
            from: path(),
            to: "/c".into(),
        },
        Command::Abandon { write: 2 },
        Command::Expire {
            write: 2,
            deadline_ms: -5,
        },
        Command::Delete {
            path: "/c".into(),
            recursive: true,
        },
        Command::Sweep,
    ];
    let origin = Origin {
        home: CoreAddress {
            node: NodeId(0x11),
            core: CoreId(2),
        },
        token: 3,
    };
    let unit = |command| Unit { origin, command };
    commands.into_iter().map(unit).collect()
}

fn stamp(time_ms: i64) -> Stamp {
    Stamp { time_ms, seed: 0 }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn snapshot(files: &mut Files) -> Vec<Vec<u8>> {
    files.begin_snapshot();
    let mut chunks = Vec::new();
    while let SnapshotPoll::Chunk(chunk) = files.poll_snapshot(1 << 20) {
        chunks.push(chunk);
    }
    chunks
}

/// Whatever changes here cannot read the logs of clusters that exist.
#[test]
fn byte_forms_golden() {
    let origin = "00000000000000110002".to_owned() + "0000000000000003";
    let expected = [
        "01000000022f61",
        "05000000042f612f6201000000000000000503000003e8",
        "07000000000000000100000000000000020000000900\
         00abcd0000000200000000000000070000000000000008",
        "060000000000000001",
        "0b00000006010000000000000009000000000000000100000000\
         0200000000000000090000000000000001000000000000000203\
         000000000000000700000000000000010000000000000002050000\
         0000000000080000000000000001000000000400000000000000\
         07000000000000000100000000060000000000000009",
        "080000000000000001",
        "04000000042f612f6202",
        "03000000042f612f62000000022f63",
        "090000000000000002",
        "0a0000000000000002fffffffffffffffb",
        "02000000022f6301",
        "0c",
    ];
    let units = units();
    assert_eq!(units.len(), expected.len());
    for (unit, expected) in units.iter().zip(expected) {
        let expected = origin.clone() + expected;
        assert_eq!(hex(&unit.encode()), expected, "{:?}", unit.command);
    }
    let mut files = Files::new();
    for unit in units.iter().take(4) {
        let applied = files.apply(stamp(1_000), &unit.encode(), &mut Vec::new());
        applied.expect("it is a unit");
    }
    let chunks = snapshot(&mut files);
    let text: Vec<String> = chunks.iter().map(|chunk| hex(chunk)).collect();
    assert_eq!(text.len(), 1);
    assert!(text[0].starts_with("000100000000"), "{text:?}");
    let head = 2 * (2 + 4 + 1 + 4 * 8);
    assert_eq!(
        &text[0][head..],
        "0100000000000000030000000000000001000000016100000000000003e801\
         0100000000000000040000000000000003000000016200000000000003e802\
         00000000000000000000000000000000000100000000\
         02000000000000000100000000000000000000000400000002000000090000abcd03\
         00000002000000000000000702000000000000000802\
         0300000000000000010000000000000004010000000000000005\
         03000003e800000000000007d0000000010000000000000009"
    );
}

#[test]
fn units_come_back_and_cut_ones_do_not() {
    for unit in units() {
        let bytes = Bytes::from(unit.encode());
        assert_eq!(Unit::decode(&bytes), Ok(unit));
        for length in 0..bytes.len() {
            assert!(Unit::decode(&bytes.slice(..length)).is_err());
        }
    }
    let result = Files::new().apply(stamp(0), &[0xff; 40], &mut Vec::new());
    assert!(matches!(result, Err(ApplyFault::UnknownCommand(_))));
}

#[test]
fn mutated_units_are_refused_or_applied_alike_everywhere() {
    let mut rng = Rng::new(6);
    for _ in 0..3_000 {
        let mut machines = [Files::new(), Files::new()];
        let mut outputs = [Vec::new(), Vec::new()];
        let mut stream: Vec<Vec<u8>> = units().iter().map(Unit::encode).collect();
        for _ in 0..rng.range(1, 4) {
            let at = rng.range(0, stream.len() as u64) as usize;
            let byte = rng.range(18, stream[at].len() as u64) as usize;
            stream[at][byte] = rng.next_u64() as u8;
        }
        for (machine, out) in machines.iter_mut().zip(&mut outputs) {
            for unit in &stream {
                let _ = machine.apply(stamp(5), unit, out);
            }
        }
        assert_eq!(outputs[0], outputs[1]);
        assert_eq!(machines[0].digest(), machines[1].digest());
    }
}

#[test]
fn machine_that_was_never_used_has_no_digest_and_no_snapshot() {
    let mut files = Files::new();
    assert_eq!((files.digest(), snapshot(&mut files).len()), (0, 0));
    files.finish_restore().expect("nothing to restore");
}

#[test]
fn damaged_snapshots_are_refused() {
    let mut files = Files::new();
    for unit in units().iter().take(6) {
        let applied = files.apply(stamp(1_000), &unit.encode(), &mut Vec::new());
        applied.expect("it is a unit");
    }
    let chunks = snapshot(&mut files);
    let restore = |chunks: &[Vec<u8>]| {
        let mut copy = Files::new();
        for chunk in chunks {
            copy.restore(chunk)?;
        }
        copy.finish_restore().map(|()| copy.digest())
    };
    assert_eq!(restore(&chunks), Ok(files.digest()));
    let (good, mut differs) = (&chunks[0], 0);
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1;
        differs += u32::from(restore(&[bad]).is_err());
        assert!(
            restore(&[good[..at].to_vec()]).is_err() || at == 0,
            "cut at {at}"
        );
    }
    // Only the time is in no digest.
    assert!(
        differs >= good.len() as u32 - 8,
        "{differs} of {}",
        good.len()
    );
}

#[test]
fn paths_that_are_none_are_refused() {
    assert_eq!(check_path("/"), Ok(vec![]));
    assert_eq!(check_path("//a//ä b/"), Ok(vec!["a", "ä b"]));
    let long = format!("/{}", "x".repeat(256));
    let deep = "/x".repeat(65);
    for path in ["", "a", "/a/../b", "/.", "/a\nb", "/a\0", &long, &deep] {
        let refused = check_path(path);
        assert!(matches!(refused, Err(Refusal::InvalidPath(_))), "{path:?}");
    }
}

/// A table of who is told what; each line sees what those before it left.
#[test]
fn commands_are_carried_out_or_refused_golden() {
    let begin = |path: &str, mode, holder| Command::Begin {
        path: path.into(),
        mode,
        holder,
        copies: 2,
        lease_ms: 100,
    };
    let commit = |write, number| Command::Commit {
        chunk: ChunkId { write, number },
        new: NewChunk {
            generation: 1,
            length: 4,
            checksum: 1,
            copies: vec![NodeId(1), NodeId(2)],
        },
    };
    let close = |write| Command::Close { write };
    let delete = |path: &str, recursive| Command::Delete {
        path: path.into(),
        recursive,
    };
    let rename = |from: &str, to: &str| Command::Rename {
        from: from.into(),
        to: to.into(),
    };
    let make = |path: &str| Command::MakeDirectory { path: path.into() };
    let begun = |write| Ok(Reply::Begun { write, copies: 2 });
    use Refusal as R;
    use WriteMode::{Append, Create, Replace};
    let steps = [
        (0, begin("/d/f", Append, 1), Err(R::NotFound)),
        (0, begin("/", Create, 1), Err(R::IsADirectory)),
        (0, begin("/d/f", Create, 0), Err(R::OutOfRange("the lease"))),
        (0, begin("/d/f", Create, 1), begun(1)),
        (0, begin("/d/f", Create, 1), begun(1)),
        // It is not there yet for anybody else, and its name is not free.
        (0, rename("/d/f", "/g"), Err(R::NotFound)),
        (0, delete("/d/f", true), Err(R::NotFound)),
        (0, rename("/d", "/d/f"), Err(R::BeingWritten)),
        (50, begin("/d/f", Create, 2), Err(R::BeingWritten)),
        (60, commit(1, 1), Err(R::OutOfOrder)),
        (60, commit(1, 0), Ok(Reply::Done)),
        (60, commit(1, 0), Ok(Reply::Done)),
        (160, begin("/d/f", Create, 2), Err(R::BeingWritten)),
        // Its lease is over: what it wrote is gone, with its name.
        (161, begin("/d/f", Create, 2), begun(2)),
        (161, commit(1, 1), Err(R::NoSuchWrite)),
        (161, close(1), Err(R::NoSuchWrite)),
        (161, commit(2, 0), Ok(Reply::Done)),
        (161, close(2), Ok(Reply::Done)),
        (161, close(2), Ok(Reply::Done)),
        (161, begin("/d/f", Create, 3), Err(R::Exists)),
        (161, begin("/d/f/g", Create, 3), Err(R::NotADirectory)),
        (161, begin("/d", Replace, 3), Err(R::IsADirectory)),
        (161, begin("/d/f", Append, 3), begun(3)),
        (161, commit(3, 0), Ok(Reply::Done)),
        // One that was renewed meanwhile lives.
        (162, Command::Renew { write: 3 }, Ok(Reply::Done)),
        (
            300,
            Command::Expire {
                write: 3,
                deadline_ms: 261,
            },
            Ok(Reply::Done),
        ),
        (300, close(3), Ok(Reply::Done)),
        (300, make("/d/f"), Err(R::Exists)),
        (300, make("/d/f/g"), Err(R::NotADirectory)),
        (300, make("/e"), Ok(Reply::Done)),
        (300, make("/e"), Ok(Reply::Done)),
        (300, rename("/d", "/d/x"), Err(R::IntoItself)),
        (300, rename("/x", "/y"), Err(R::NotFound)),
        (300, rename("/", "/y"), Err(R::Root)),
        (300, rename("/e", "/d/f"), Err(R::Exists)),
        (300, rename("/d", "/e"), Ok(Reply::Done)),
        (300, delete("/e", false), Err(R::NotEmpty)),
        (300, delete("/d", true), Err(R::NotFound)),
        (300, begin("/e/d/f", Append, 4), begun(4)),
        (300, delete("/e", true), Ok(Reply::Done)),
        // It writes to what is gone.
        (300, commit(4, 0), Err(R::NoSuchWrite)),
        (300, close(4), Err(R::NoSuchWrite)),
        (300, delete("/", true), Err(R::Root)),
        // Two files, two directories, and three chunks.
        (300, Command::Sweep, Ok(Reply::Changed { count: 7 })),
        (300, Command::Sweep, Ok(Reply::Changed { count: 0 })),
    ];
    let mut files = Files::new();
    for (number, (time_ms, command, expected)) in steps.into_iter().enumerate() {
        let origin = Origin {
            token: 1,
            ..Origin::default()
        };
        let mut out = Vec::new();
        let text = format!("step {number}: {command:?}");
        files.apply_unit(stamp(time_ms), Unit { origin, command }, &mut out);
        let storage::files::Output::Reply { reply, .. } = out.remove(0);
        assert_eq!(reply, expected, "{text}");
    }
    assert_eq!(files.counts(), (0, 0, 0));
}
