//! Runs the scripts in a crate's `testscripts/`: each file holds commands, `----`, and what they print.
//! `UPDATE_GOLDEN=1` rewrites what they print; read the difference before committing. A test takes this file in
//! by its path.

/// Runs every script of the crate in `root`, of which there are so many at least.
#[allow(clippy::disallowed_methods)] // a switch for people, read by the test runner only
pub fn check(root: &str, least: usize, run: impl Fn(&str) -> String) {
    let update = std::env::var("UPDATE_GOLDEN").is_ok();
    let mut paths: Vec<_> = std::fs::read_dir(format!("{root}/testscripts"))
        .expect("the scripts are beside the code")
        .map(|entry| entry.expect("a readable folder").path())
        .collect();
    paths.sort();
    let mut wrong = Vec::new();
    for path in &paths {
        let text = std::fs::read_to_string(path).expect("a readable script");
        let (script, expected) = text.split_once("----\n").unwrap_or((&text, ""));
        let printed = run(script);
        if printed != expected {
            if update {
                let text = format!("{}\n----\n{printed}", script.trim_end());
                std::fs::write(path, text).expect("a writable script");
            }
            wrong.push(format!("{}:\n{printed}", path.display()));
        }
    }
    assert!(paths.len() >= least, "only {} scripts", paths.len());
    assert!(
        update || wrong.is_empty(),
        "printed otherwise:\n{}",
        wrong.join("\n")
    );
}
