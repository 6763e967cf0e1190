//! What a million of anything costs. One test, so that nothing else allocates meanwhile.

use base::{CoreAddress, Machine, SessionId, SnapshotPoll, Stamp, State};
use bytes::Bytes;
use coordination::{
    Acl, Command, Coordination, CreateMode, Envelope, Event, EventKind, Leases, Origin, TreeOp,
    Unit, WatchKind, Watches,
};

/// Memory of this process in bytes.
fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    let pages: usize = statm
        .split_whitespace()
        .nth(1)
        .expect("the second field")
        .parse()
        .expect("a number");
    pages * 4096
}

const COUNT: usize = 100_000;
const DATA_BYTES: usize = 16;

fn full_machine() -> Coordination {
    let mut machine = Coordination::new();
    let mut out = Vec::new();
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
    machine
        .apply_unit(Stamp::default(), open, &mut out)
        .expect("known");
    let session = machine.sessions().next().expect("opened").id;
    let mut sequence = 0;
    let mut create = |path: String| {
        sequence += 1;
        let unit = Unit {
            envelope: Envelope {
                session,
                generation: 1,
                sequence,
                ..Envelope::default()
            },
            command: Command::Write(TreeOp::Create {
                path,
                data: Bytes::from_static(&[7; DATA_BYTES]),
                acl: vec![Acl::open()],
                mode: CreateMode::Persistent { sequential: false },
            }),
        };
        out.clear();
        machine
            .apply(Stamp::default(), &unit.encode(), &mut out)
            .expect("known");
    };
    for folder in 0..COUNT / 1000 {
        create(format!("/folder-{folder:04}"));
        for leaf in 0..1000 {
            create(format!("/folder-{folder:04}/leaf-{leaf:05}"));
        }
    }
    machine
}

#[test]
fn nodes_watches_and_leases_stay_small() {
    // Each watch here is the only one on its path, the dearest case.
    let before = resident_bytes();
    let mut watches = Watches::new(COUNT);
    for leaf in 0..COUNT {
        let path = format!("/folder-{:04}/leaf-{:05}", leaf / 1000, leaf % 1000);
        let added = watches.add(leaf as u64 % 100, WatchKind::Data, &path);
        assert_eq!(added, Ok(()));
    }
    let per_watch = resident_bytes().saturating_sub(before) / COUNT;
    println!("{per_watch} bytes a watch, of which 23 are its path");
    assert!(per_watch <= 220, "{per_watch} bytes a watch");

    let before = resident_bytes();
    let mut machine = full_machine();
    let nodes = machine.counts().nodes;
    assert!(nodes > COUNT);
    let per_node = (resident_bytes() - before) / nodes;
    println!("{per_node} bytes a node, of which 10 are its name and {DATA_BYTES} its data");
    assert!(per_node <= 200 + 10 + DATA_BYTES, "{per_node} bytes a node");

    // Taking a snapshot holds a bit a slot and one chunk.
    let before = resident_bytes();
    let mut snapshot_bytes = 0;
    machine.begin_snapshot();
    while let SnapshotPoll::Chunk(chunk) = machine.poll_snapshot(64 << 10) {
        snapshot_bytes += chunk.len();
    }
    let grown = resident_bytes().saturating_sub(before);
    println!("{} bytes a node in a snapshot", snapshot_bytes / nodes);
    assert!(grown < 4 << 20, "a snapshot took {grown} bytes");
    drop(machine);

    let mut told = Vec::new();
    let event = Event {
        zxid: 1,
        kind: EventKind::Deleted,
        path: "/folder-0001/leaf-00007".into(),
    };
    watches.handle_event(&event, &mut told);
    assert_eq!(told, [(7, EventKind::Deleted)]);
    (0..100).for_each(|watcher| watches.remove_watcher(watcher));
    assert!(watches.is_empty());
    watches.reap(COUNT);
    assert_eq!(watches.path_count(), 0);

    // Sessions that are heard of cost one turn in the queue a time-out.
    let mut leases = Leases::new();
    let session = |n: usize| SessionId(n as i64 + 1);
    leases.reset(0, (0..COUNT).map(|n| (session(n), 1, 1000)));
    for tick in 1..=10 {
        (0..COUNT).for_each(|n| assert!(leases.touch(tick * 500_000, session(n))));
        assert!(leases.poll_expired(tick * 500_000, COUNT).is_empty());
    }
    assert_eq!(leases.poll_expired(5_999_999, COUNT).len(), 0);
    assert_eq!(leases.poll_expired(6_000_000, COUNT).len(), COUNT);
}
