//! The scripts in `testscripts/`: see the runner.

#[macro_use]
#[path = "../../base/testing/golden.rs"]
mod golden;
#[path = "script/mod.rs"]
mod script;

golden! {
    script::run;
    m21_retention_golden: "m21_retention.txt",
    m21_duplicates_golden: "m21_duplicates.txt",
    m21_groups_golden: "m21_groups.txt",
    offsets_golden: "offsets.txt",
    registry_golden: "registry.txt",
    static_members_golden: "static_members.txt",
    timers_golden: "timers.txt",
}
