//! `verify` looks, `fix` writes: the same things in the same order.

use crate::documents::Sources;
use crate::{arrows, mission, process, root};
use std::process::Command;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(1800);

/// True when everything holds; says what does not.
pub fn run() -> Result<bool, String> {
    let root = root();
    let mut failed = Vec::new();
    let mut section = |name: &'static str, problems: Vec<String>| {
        println!(
            "verify: {name}: {}",
            if problems.is_empty() { "ok" } else { "FAILED" }
        );
        for problem in &problems {
            println!("  {problem}");
        }
        if !problems.is_empty() {
            failed.push(name);
        }
    };
    let sources = Sources::read(&root)?;
    section("arrows", arrows::check(&root)?);
    section("mission", mission::check(&root, &sources));
    section("symbols", sources.unknown_symbols(&root, "ARCHITECTURE.md"));
    section("paths", sources.home_paths());
    section(
        "format",
        cargo(&["fmt", "--all", "--", "--check", "--color", "never"])?,
    );
    section(
        "clippy",
        cargo(&[
            "clippy",
            "--workspace",
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ])?,
    );
    if !failed.is_empty() {
        println!(
            "verify: failed: {}. `cargo xtask fix` writes what can be written.",
            failed.join(", ")
        );
    }
    Ok(failed.is_empty())
}

/// Writes generated documents, and formatting unless only `documents` are wanted.
pub fn fix(documents: bool) -> Result<bool, String> {
    let problems = match documents {
        true => Vec::new(),
        false => cargo(&["fmt", "--all"])?,
    };
    for problem in &problems {
        println!("{problem}");
    }
    if mission::write(&root())? {
        println!("fix: docs/mission.md written");
    }
    Ok(problems.is_empty())
}

/// The output of a cargo command as problems, none when it succeeds.
fn cargo(arguments: &[&str]) -> Result<Vec<String>, String> {
    let outcome = process::run(
        Command::new(env!("CARGO"))
            .args(arguments)
            .current_dir(root()),
        LIMIT,
        true,
    )?;
    if outcome.ok {
        return Ok(Vec::new());
    }
    let lines: Vec<String> = outcome.output.lines().map(str::to_owned).collect();
    Ok(lines
        .into_iter()
        .filter(|line| !line.trim_start().starts_with("Checking "))
        .collect())
}
