//! Names, writers and copies under crashes, lost disks, flipped bits and slow servers.

mod files_world;

use base::planted::{Bug, plant};
use files_world::World;

fn run(seed: u64, steps: u32) -> Result<World, String> {
    let mut world = World::new(seed, 3 + seed % 3);
    for step in 0..steps {
        let outcome = world.step();
        outcome.map_err(|what| format!("seed {seed}, step {step}: {what}"))?;
    }
    let healed = world.heal();
    healed.map_err(|what| format!("seed {seed}, healed: {what}"))?;
    Ok(world)
}

#[test]
fn nothing_acknowledged_is_lost_and_everything_settles() {
    let (mut reads, mut flips, mut closed) = (0, 0, 0);
    for seed in 0..60 {
        let world = run(seed, 600).unwrap();
        reads += world.reads;
        flips += world.flips;
        closed += world.closed;
    }
    assert!(
        reads > 500 && flips > 100 && closed > 500,
        "{reads} {flips} {closed}"
    );
}

fn is_found(bug: Bug) -> bool {
    plant(Some(bug));
    let found = (0..60).any(|seed| run(seed, 600).is_err());
    plant(None);
    found
}

#[test]
fn chunks_of_a_writer_without_a_lease_are_found() {
    assert!(is_found(Bug::CommitWithoutLease));
}

#[test]
fn copies_that_stay_corrupt_are_found() {
    assert!(is_found(Bug::TrustCorruptCopy));
}
