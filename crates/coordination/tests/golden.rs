//! The scripts in `testscripts/`: see the runner.

#[macro_use]
#[path = "../../base/testing/golden.rs"]
mod golden;
#[path = "script/mod.rs"]
mod script;

golden! {
    script::run;
    tree_golden: "tree.txt",
    tree_errors_golden: "tree_errors.txt",
    acl_golden: "acl.txt",
    sequence_golden: "sequence.txt",
    sessions_golden: "sessions.txt",
    multi_golden: "multi.txt",
    watches_golden: "watches.txt",
    replay_golden: "replay.txt",
    reaping_golden: "reaping.txt",
    leases_golden: "leases.txt",
    m7_lock_notifications_golden: "m7_lock_notifications.txt",
}
