//! The scripts in `testscripts/`: see the runner.

#[macro_use]
#[path = "../../base/testing/golden.rs"]
mod golden;
#[path = "script/mod.rs"]
mod script;

golden! {
    script::run;
    bits_golden: "bits.txt",
    expiry_golden: "expiry.txt",
    hashes_golden: "hashes.txt",
    keys_golden: "keys.txt",
    lists_golden: "lists.txt",
    refusals_golden: "refusals.txt",
    sets_golden: "sets.txt",
    sort_golden: "sort.txt",
    sorted_golden: "sorted.txt",
    strings_golden: "strings.txt",
    transactions_golden: "transactions.txt",
}
