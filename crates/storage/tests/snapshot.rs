//! A snapshot taken while units go on is the state of its cut.

mod rig;

use base::planted::{Bug, plant};
use base::{Rng, SnapshotPoll, State};
use rig::{apply, command, random_command, stamp};
use storage::cache::{Cache, Output};

/// Applies a random command to a machine; what it tells.
fn step(cache: &mut Cache, rng: &mut Rng, now_ms: i64) -> Vec<Output> {
    let mut out = Vec::new();
    let database = if rng.one_in(10) { 1 } else { 0 };
    let body = storage::cache::Body::One(random_command(rng));
    let unit = rig::unit(database, body);
    let stamp = stamp(now_ms, rng.next_u64());
    cache.apply_unit(stamp, unit, &mut out).expect("known");
    out
}

fn fill(cache: &mut Cache, rng: &mut Rng, units: usize) {
    (0..units).for_each(|_| drop(step(cache, rng, 1000)));
    for n in 0..300 {
        // In many slots, and many in one.
        let line = format!("MSET key:{n} {n} {{tag}}:{n} {n}");
        apply(cache, stamp(1000, 0), (n % 3) as u32, command(&line));
    }
}

fn restored(chunks: &[Vec<u8>]) -> Result<Cache, String> {
    let mut cache = Cache::new();
    for chunk in chunks {
        cache.restore(chunk)?;
    }
    cache.finish_restore()?;
    Ok(cache)
}

/// Takes a snapshot with `between` run before each poll.
fn snapshot(
    cache: &mut Cache,
    bytes_max: usize,
    mut between: impl FnMut(&mut Cache),
) -> Vec<Vec<u8>> {
    let mut chunks = Vec::new();
    cache.begin_snapshot();
    loop {
        between(cache);
        match cache.poll_snapshot(bytes_max) {
            SnapshotPoll::Chunk(chunk) => chunks.push(chunk),
            SnapshotPoll::Done => return chunks,
        }
    }
}

#[test]
fn snapshot_while_writing_is_the_state_of_the_cut() {
    for seed in 0..25 {
        let mut rng = Rng::new(seed);
        let mut cache = Cache::new();
        fill(&mut cache, &mut rng, 2000);
        let (digest, counts) = (cache.digest(), cache.counts());
        let bytes_max = [64, 500, 4096, 100_000][seed as usize % 4];
        let chunks = snapshot(&mut cache, bytes_max, |cache| {
            for _ in 0..20 {
                step(cache, &mut rng, 1001);
            }
            let all = [
                "FLUSHALL",
                "SWAPDB 0 1",
                "FLUSHDB",
                "SWAPDB 2 0",
                "RENAME {tag}:1 {tag}:2",
            ];
            if rng.one_in(10) {
                let line = all[rng.range(0, 5) as usize];
                apply(cache, stamp(1001, 0), 0, command(line));
            }
            if rng.one_in(3) {
                let line = format!(
                    "DEL key:{} {{tag}}:{}",
                    rng.range(0, 300),
                    rng.range(0, 300)
                );
                apply(cache, stamp(1001, 0), 0, command(&line));
            }
        });
        let copy = restored(&chunks).unwrap_or_else(|what| panic!("seed {seed}: {what}"));
        assert_eq!(
            (copy.digest(), copy.counts()),
            (digest, counts),
            "seed {seed}"
        );
    }
}

#[test]
fn restored_machine_goes_on_as_the_original() {
    for seed in 0..10 {
        let mut rng = Rng::new(100 + seed);
        let mut cache = Cache::new();
        fill(&mut cache, &mut rng, 3000);
        let chunks = snapshot(&mut cache, 1000, |_| {});
        let mut copy = restored(&chunks).expect("a whole snapshot");
        assert_eq!(copy.digest(), cache.digest());
        for now_ms in 1001..3000 {
            let mut same = rng.clone();
            let told = step(&mut cache, &mut rng, now_ms);
            let also = step(&mut copy, &mut same, now_ms);
            // What random choices yield depends on the order inside of a value: it was kept. That of keys
            // in a slot is not, and shows in nothing but lists of keys.
            if !format!("{told:?}").contains("Array") {
                assert_eq!(told, also, "seed {seed} at {now_ms}");
            }
            assert_eq!(cache.digest(), copy.digest(), "seed {seed} at {now_ms}");
        }
        for name in ["ks_1", "kl_1", "kz_0", "nothing"] {
            assert_eq!(
                cache.version(0, name.as_bytes()),
                copy.version(0, name.as_bytes())
            );
        }
        assert_eq!(
            cache.expired(i64::MAX - 1, 1000),
            copy.expired(i64::MAX - 1, 1000)
        );
    }
}

#[test]
fn chunks_stay_near_their_size_and_a_second_snapshot_begins_anew() {
    let mut rng = Rng::new(7);
    let mut cache = Cache::new();
    fill(&mut cache, &mut rng, 100);
    // Keys larger than a chunk.
    for name in ["RPUSH big", "SADD large", "APPEND long"] {
        let mut huge = command(name);
        let element = bytes::Bytes::from(vec![b'x'; 100_000]);
        huge.args.push(element);
        apply(&mut cache, stamp(1000, 0), 0, huge);
    }
    cache.begin_snapshot();
    cache.poll_snapshot(100);
    let chunks = snapshot(&mut cache, 2000, |cache| {
        apply(cache, stamp(1000, 0), 0, command("GET nothing"));
    });
    assert!(chunks.len() > 100);
    assert!(chunks.iter().all(|chunk| chunk.len() <= 2000));
    assert_eq!(restored(&chunks).expect("whole").digest(), cache.digest());
    assert_eq!(cache.poll_snapshot(100), SnapshotPoll::Done);
}

#[test]
fn damaged_snapshot_is_refused_and_the_old_state_serves() {
    let mut rng = Rng::new(8);
    let mut cache = Cache::new();
    fill(&mut cache, &mut rng, 1000);
    let chunks = snapshot(&mut cache, 3000, |_| {});
    let mut old = Cache::new();
    apply(&mut old, stamp(1, 1), 0, command("SET old 1"));
    let digest = old.digest();
    for round in 0..400 {
        let mut damaged = chunks.clone();
        let at = rng.range(0, damaged.len() as u64) as usize;
        let byte = rng.range(0, damaged[at].len() as u64) as usize;
        match round % 4 {
            0 => damaged[at].truncate(byte),
            1 => drop(damaged.remove(at)),
            2 if at > 0 => damaged.swap(at, at - 1),
            _ => damaged[at][byte] ^= 1 << rng.range(0, 8),
        }
        let fed = damaged.iter().try_for_each(|chunk| old.restore(chunk));
        let result = fed.and_then(|()| old.finish_restore());
        assert!(result.is_err(), "round {round}");
        assert_eq!(old.digest(), digest);
    }
    assert!(old.finish_restore().is_err());
}

#[test]
fn snapshot_without_old_images_is_found_out() {
    let mut rng = Rng::new(9);
    let mut cache = Cache::new();
    fill(&mut cache, &mut rng, 100);
    plant(Some(Bug::SnapshotWithoutOldImage));
    let chunks = snapshot(&mut cache, 1000, |cache| {
        let line = format!("SET key:{} changed", rng.range(0, 300));
        apply(cache, stamp(1000, 0), 0, command(&line));
    });
    plant(None);
    assert!(restored(&chunks).is_err());
}

#[test]
fn a_snapshot_under_way_makes_no_difference_to_the_state() {
    for seed in 0..10 {
        let (mut one, mut other) = (Cache::new(), Cache::new());
        let (mut rng, mut same) = (Rng::new(seed), Rng::new(seed));
        fill(&mut one, &mut rng, 1000);
        fill(&mut other, &mut same, 1000);
        let chunks = snapshot(&mut one, 500, |cache| {
            for _ in 0..20 {
                // Among them many that find all as they want it: SADD of a member, LREM of none.
                let told = step(cache, &mut rng, 1001);
                assert_eq!(told, step(&mut other, &mut same, 1001));
                assert_eq!(cache.digest(), other.digest(), "seed {seed}");
            }
        });
        restored(&chunks).expect("it is whole");
    }
}
