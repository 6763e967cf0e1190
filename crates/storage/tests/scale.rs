//! What many keys cost. One test, so that nothing else allocates meanwhile.

mod rig;

use base::{SnapshotPoll, State};
use bytes::Bytes;
use rig::{apply, command, stamp};
use storage::cache::{Cache, Command, Reply};

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

const COUNT: usize = 300_000;
const KEY_BYTES: usize = 16;
const VALUE_BYTES: usize = 100;
/// What Redis 7.0 takes for such a key.
const REDIS_BYTES: usize = 208;

#[test]
fn a_key_costs_no_more_than_in_redis_and_all_go_away_again() {
    let value = Bytes::from_static(&[b'v'; VALUE_BYTES]);
    let set = command("SET").id;
    let mut cache = Cache::new();
    let before = resident_bytes();
    for n in 0..COUNT {
        let key = Bytes::from(format!("key:{n:012}"));
        assert_eq!(key.len(), KEY_BYTES);
        let args = vec![key, value.clone()];
        let reply = apply(&mut cache, stamp(1, 1), 0, Command { id: set, args });
        assert_eq!(reply, Reply::OK);
    }
    let a_key = (resident_bytes() - before) / COUNT;
    assert!(a_key <= REDIS_BYTES, "{a_key} bytes a key");
    let estimate = cache.bytes() as usize / COUNT;
    assert!(
        estimate.abs_diff(a_key) < 30,
        "{estimate} estimated, {a_key} taken"
    );

    // Emptied while a snapshot goes on: the snapshot is whole, and the memory comes back by and by.
    let (digest, mut copy) = (cache.digest(), Cache::new());
    cache.begin_snapshot();
    apply(&mut cache, stamp(1, 1), 0, command("FLUSHALL"));
    assert_eq!((cache.key_count(0), cache.bytes()), (0, 0));
    while let SnapshotPoll::Chunk(chunk) = cache.poll_snapshot(1 << 20) {
        copy.restore(&chunk).expect("in order");
    }
    copy.finish_restore().expect("whole");
    assert_eq!(copy.digest(), digest);
    let with_both = resident_bytes();
    for _ in 0..5000 {
        apply(&mut cache, stamp(1, 1), 0, command("SET a b"));
    }
    // The allocator has it back; a second filling takes hardly anything.
    for n in 0..COUNT {
        let key = Bytes::from(format!("key:{n:012}"));
        let args = vec![key, value.clone()];
        apply(&mut cache, stamp(1, 1), 0, Command { id: set, args });
    }
    let grown = resident_bytes().saturating_sub(with_both) / COUNT;
    assert!(grown < REDIS_BYTES / 4, "{grown} bytes a key more");
}
