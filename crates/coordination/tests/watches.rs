//! Watches of connections that have ended.

use coordination::watches::{WatchKind, Watches};
use coordination::{Event, EventKind};

#[test]
fn ended_watchers_are_told_nothing_and_given_back_piece_by_piece() {
    let mut watches = Watches::new(100);
    for (watcher, kind) in [
        (1, WatchKind::Data),
        (2, WatchKind::Data),
        (3, WatchKind::PersistentRecursive),
    ] {
        for n in 0..10 {
            (watches.add(watcher, kind, &format!("/a/{n}"))).expect("it fits");
        }
    }
    watches
        .add(3, WatchKind::PersistentRecursive, "/")
        .expect("it fits");
    watches.remove_watcher(1);
    watches.remove_watcher(3);
    assert_eq!((watches.len(), watches.watcher_count()), (10, 1));
    let tell = |watches: &mut Watches, path: &str| {
        let mut told = Vec::new();
        let event = Event {
            zxid: 1,
            kind: EventKind::Created,
            path: path.into(),
        };
        watches.handle_event(&event, &mut told);
        told.into_iter()
            .map(|(watcher, _)| watcher)
            .collect::<Vec<_>>()
    };
    assert_eq!(tell(&mut watches, "/a/0"), [2]);
    // 9 paths are watched by the one who stays, the others by nobody; "/" and "/a/0" go with the last.
    for (pieces, paths) in [(4, 11), (10, 9), (7, 9), (1, 9)] {
        watches.reap(pieces);
        assert_eq!(watches.path_count(), paths);
        assert_eq!(watches.len(), 9);
    }
    assert_eq!(tell(&mut watches, "/a/0"), [] as [u64; 0]);
    assert_eq!(tell(&mut watches, "/a/1"), [2]);
    watches.remove_watcher(2);
    watches.reap(usize::MAX);
    assert_eq!((watches.len(), watches.path_count()), (0, 0));
}
