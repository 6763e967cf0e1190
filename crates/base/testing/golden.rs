//! Runs the scripts in a crate's `testscripts/`. A script is blocks between empty lines: commands, `----`, what
//! they print. `UPDATE_GOLDEN=1` writes the outputs instead of comparing them; read the difference before
//! committing. A test takes this file in by its path, and says which scripts there are with `golden!`.

use std::fs;
use std::path::{Path, PathBuf};

#[allow(clippy::disallowed_methods)] // a switch for people, read by the test runner only
fn is_update() -> bool {
    std::env::var("UPDATE_GOLDEN").is_ok()
}

/// Where the scripts of the crate in `root` are.
pub fn scripts(root: &str) -> PathBuf {
    Path::new(root).join("testscripts")
}

/// Runs a script of the crate in `root`: it prints what it printed.
pub fn check(root: &str, name: &str, run: fn(&str) -> String) {
    let path = scripts(root).join(name);
    let text = fs::read_to_string(&path).expect("the script is there");
    let actual = run(&text);
    if is_update() {
        fs::write(&path, actual).expect("the script is writable");
        return;
    }
    for (number, (want, have)) in text.lines().zip(actual.lines()).enumerate() {
        assert_eq!(have, want, "{name}, line {}", number + 1);
    }
    assert_eq!(actual, text, "{name}: length");
}

/// The names of the scripts of the crate in `root`, sorted.
pub fn names(root: &str) -> Vec<String> {
    let mut files: Vec<String> = fs::read_dir(scripts(root))
        .expect("the folder is there")
        .map(|entry| {
            entry
                .expect("readable")
                .file_name()
                .into_string()
                .expect("UTF-8")
        })
        .collect();
    files.sort();
    files
}

/// A test for each script, and one that there is no other: `golden!(run; test: "script.txt", …)`.
macro_rules! golden {
    ($run:path; $($test:ident: $file:literal),* $(,)?) => {
        $(#[test]
        fn $test() {
            golden::check(env!("CARGO_MANIFEST_DIR"), $file, $run);
        })*

        #[test]
        fn every_script_is_run_by_a_test() {
            let mut named = vec![$($file),*];
            named.sort_unstable();
            assert_eq!(golden::names(env!("CARGO_MANIFEST_DIR")), named);
        }
    };
}
