//! Runs the scripts in `testscripts/`. A script is blocks between empty lines: commands, `----`, what they
//! print. `UPDATE_GOLDEN=1` writes the outputs instead of comparing them; read the difference before committing.

#[path = "script/mod.rs"]
mod script;

use std::fs;
use std::path::{Path, PathBuf};

fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testscripts")
}

#[allow(clippy::disallowed_methods)] // a switch for people, read by the test runner only
fn is_update() -> bool {
    std::env::var("UPDATE_GOLDEN").is_ok()
}

fn check(name: &str) {
    let path = scripts().join(name);
    let text = fs::read_to_string(&path).expect("the script is there");
    let actual = script::run(&text);
    if is_update() {
        fs::write(&path, actual).expect("the script is writable");
        return;
    }
    for (number, (want, have)) in text.lines().zip(actual.lines()).enumerate() {
        assert_eq!(have, want, "{name}, line {}", number + 1);
    }
    assert_eq!(actual, text, "{name}: length");
}

macro_rules! golden {
    ($($test:ident: $file:literal),* $(,)?) => {
        $(#[test]
        fn $test() {
            check($file);
        })*

        #[test]
        fn every_script_is_run_by_a_test() {
            let mut files: Vec<String> = fs::read_dir(scripts())
                .expect("the folder is there")
                .map(|entry| entry.expect("readable").file_name().into_string().expect("UTF-8"))
                .collect();
            files.sort();
            let mut named = vec![$($file),*];
            named.sort_unstable();
            assert_eq!(files, named);
        }
    };
}

golden! {
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
