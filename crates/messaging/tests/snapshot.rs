//! Snapshots taken while the machine changes are those of the cut; broken ones are refused.

#[path = "driver/mod.rs"]
mod driver;

use base::planted::{Bug, plant};
use base::{Rng, SnapshotPoll, State};
use driver::Driver;
use messaging::registry::{RegistryCommand, RegistryUnit};
use messaging::{Registry, Topics};

/// Takes a snapshot with up to `steps` changes between chunks.
fn snapshot(driver: &mut Driver, bytes_max: usize, steps: u64) -> Vec<Vec<u8>> {
    let mut chunks = Vec::new();
    driver.machine.begin_snapshot();
    loop {
        for _ in 0..driver.rng.range(0, steps + 1) {
            driver.step();
        }
        match driver.machine.poll_snapshot(bytes_max) {
            SnapshotPoll::Chunk(chunk) => chunks.push(chunk),
            SnapshotPoll::Done => return chunks,
        }
    }
}

fn restore(chunks: &[Vec<u8>]) -> Result<Topics, String> {
    let mut machine = Topics::new();
    for chunk in chunks {
        machine.restore(chunk)?;
    }
    machine.finish_restore()?;
    Ok(machine)
}

/// Everything that can be seen of a machine.
fn picture(machine: &Topics) -> String {
    let mut picture = format!("{:?} {}", machine.counts(), machine.revision());
    for view in machine.partitions() {
        let read = machine.read(view.id, view.log_start, usize::MAX, true);
        let newest = machine.newest_batch(view.id);
        picture.push_str(&format!("\n{view:?} {read:?} {newest:?}"));
    }
    for (name, group) in machine.groups() {
        picture.push_str(&format!("\n{name} {group:?}"));
    }
    picture.push_str(&format!(
        "\n{:?}",
        machine.due(machine.time_ms() + 200, 1000)
    ));
    picture
}

#[test]
fn snapshot_under_mutation_is_the_state_of_the_cut() {
    for seed in 0..150 {
        let mut driver = Driver::new(seed);
        for _ in 0..driver.rng.range(0, 1500) {
            driver.step();
        }
        let (digest, at_cut) = (driver.machine.digest(), picture(&driver.machine));
        let bytes_max = driver.rng.range(1, 2000) as usize;
        let chunks = snapshot(&mut driver, bytes_max, 6);
        let mut restored = restore(&chunks).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        assert_eq!(restored.digest(), digest, "seed {seed}");
        assert_eq!(picture(&restored), at_cut, "seed {seed}");
        // Both go on alike.
        let mut one = Driver::new(seed + 1000);
        one.machine = restored;
        let mut two = Driver::new(seed + 1000);
        two.machine = restore(&chunks).expect("whole");
        for _ in 0..200 {
            assert_eq!(one.step(), two.step(), "seed {seed}");
        }
        restored = one.machine;
        assert_eq!(restored.digest(), two.machine.digest(), "seed {seed}");
        // The original has gone on too: its incremental digest is that of a copy made now.
        let now = driver.machine.digest();
        let copy = restore(&snapshot(&mut driver, bytes_max, 0)).expect("whole");
        assert_eq!(copy.digest(), now, "seed {seed}");
    }
}

#[test]
fn snapshot_that_is_given_up_leaves_no_trace() {
    let mut driver = Driver::new(3);
    for _ in 0..500 {
        driver.step();
    }
    driver.machine.begin_snapshot();
    driver.machine.poll_snapshot(10);
    driver.machine.abort_snapshot();
    assert_eq!(driver.machine.poll_snapshot(10), SnapshotPoll::Done);
    let (digest, at_cut) = (driver.machine.digest(), picture(&driver.machine));
    let copy = restore(&snapshot(&mut driver, 100, 3)).expect("whole");
    assert_eq!((copy.digest(), picture(&copy)), (digest, at_cut));
}

#[test]
fn broken_snapshot_is_refused_and_never_a_panic() {
    let mut driver = Driver::new(9);
    for _ in 0..800 {
        driver.step();
    }
    let chunks = snapshot(&mut driver, 200, 0);
    assert!(chunks.len() > 5);
    for missing in 0..chunks.len() {
        let mut fewer = chunks.clone();
        fewer.remove(missing);
        assert!(restore(&fewer).is_err(), "chunk {missing} is missing");
    }
    let mut rng = Rng::new(1);
    for _ in 0..3000 {
        let mut broken = chunks.clone();
        let at = rng.range(0, broken.len() as u64) as usize;
        let byte = rng.range(0, broken[at].len() as u64) as usize;
        broken[at][byte] ^= 1 << rng.range(0, 8);
        assert!(restore(&broken).is_err(), "byte {byte} of chunk {at}");
        broken[at].truncate(byte);
        assert!(restore(&broken).is_err(), "chunk {at} cut at {byte}");
    }
}

#[test]
fn planted_bug_of_the_snapshot_is_found() {
    let finds = |bug| {
        plant(bug);
        let found = (0..20).any(|seed| {
            let mut driver = Driver::new(seed);
            for _ in 0..300 {
                driver.step();
            }
            restore(&snapshot(&mut driver, 100, 6)).is_err()
        });
        plant(None);
        found
    };
    assert!(finds(Some(Bug::SnapshotWithoutOldImage)));
    assert!(!finds(None));
}

#[test]
fn registry_is_restored_as_it_was_and_broken_images_are_refused() {
    let mut registry = Registry::new();
    for i in 0..20u32 {
        let command = RegistryCommand::CreateTopic {
            name: format!("t{i}"),
            partition_count: i + 1,
            config: vec![("retention.ms".into(), format!("{i}"))],
            validate_only: false,
        };
        let origin = base::Origin::default();
        registry.apply_unit(RegistryUnit { origin, command }, &mut Vec::new());
    }
    registry.begin_snapshot();
    let mut chunks = Vec::new();
    while let SnapshotPoll::Chunk(chunk) = registry.poll_snapshot(100) {
        chunks.push(chunk);
    }
    let restore = |chunks: &[Vec<u8>]| {
        let mut made = Registry::new();
        for chunk in chunks {
            made.restore(chunk)?;
        }
        made.finish_restore().map(|()| made)
    };
    let copy = restore(&chunks).expect("whole");
    assert_eq!(copy.digest(), registry.digest());
    assert!(copy.topics().eq(registry.topics()));
    let mut rng = Rng::new(2);
    for _ in 0..2000 {
        let mut broken = chunks.clone();
        let at = rng.range(0, broken.len() as u64) as usize;
        let byte = rng.range(0, broken[at].len() as u64) as usize;
        broken[at][byte] ^= 1 << rng.range(0, 8);
        assert!(restore(&broken).is_err());
    }
    assert!(restore(&chunks[1..]).is_err());
}
