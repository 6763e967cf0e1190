//! Machine versions: raised through the log, and never past what a replica's build knows.

#[allow(dead_code)] // The rig serves several tests; each uses its part.
mod rig;

use rig::Node;
use shard::{FIRST_VERSION, MACHINE_VERSION};

#[test]
fn version_is_raised_through_the_log_and_survives_a_snapshot_and_a_restart() {
    let mut node = Node::bootstrap_with(1, MACHINE_VERSION + 2);
    node.settle();
    assert_eq!(node.shard.version(), FIRST_VERSION);
    assert!(node.shard.raise_version(MACHINE_VERSION + 1));
    node.settle();
    assert_eq!(node.shard.version(), MACHINE_VERSION + 1);
    assert!(
        !node.shard.raise_version(MACHINE_VERSION + 1),
        "it is there"
    );
    node.shard.request_snapshot();
    node.settle();
    let mut again = node.restart_with(MACHINE_VERSION + 2);
    again.settle();
    assert_eq!(again.shard.fault(), None);
    assert_eq!(again.shard.version(), MACHINE_VERSION + 1);
}

#[test]
fn replica_of_an_older_build_falls_silent_at_a_later_version() {
    let mut node = Node::bootstrap_with(1, MACHINE_VERSION + 1);
    node.settle();
    assert!(node.shard.raise_version(MACHINE_VERSION + 1));
    node.settle();
    let mut older = node.restart_with(MACHINE_VERSION);
    older.settle();
    let fault = older.shard.fault().expect("it cannot follow");
    assert!(fault.contains("upgrade this node"), "{fault}");
}
