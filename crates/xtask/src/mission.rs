//! `docs/mission.md` from `docs/mission.toml`: what each row of the mission means here, the command and the
//! tests that show it, and a status that nobody writes by hand.

use crate::documents::Sources;
use crate::results::Results;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Mission {
    row: Vec<Row>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    id: String,
    /// What it means here, in a sentence or two.
    here: String,
    /// How a user comes to it: a command line of the binary or of `cargo xtask`.
    #[serde(default)]
    command: String,
    /// Function names of tests.
    #[serde(default)]
    tests: Vec<String>,
    /// What of the row is not there yet, in words.
    #[serde(default)]
    missing: String,
}

const SOURCE: &str = "docs/mission.toml";
const DOCUMENT: &str = "docs/mission.md";

/// The status that the last runs of a row's tests give it.
fn status(row: &Row, results: &Results) -> &'static str {
    if row.tests.is_empty() {
        "absent"
    } else if !row.tests.iter().all(|test| results.passed(test)) {
        "unproven"
    } else if row.missing.is_empty() {
        "works"
    } else {
        "works in part"
    }
}

fn load(root: &Path) -> Result<Mission, String> {
    let path = root.join(SOURCE);
    let text = std::fs::read_to_string(&path).map_err(|e| format!("cannot read {SOURCE}: {e}"))?;
    toml::from_str(&text).map_err(|e| format!("{SOURCE}: {e}"))
}

fn render(mission: &Mission, status_of: impl Fn(&Row) -> String) -> String {
    let mut out = String::from(
        "# The mission, row by row\n\n\
         Made by `cargo xtask fix` from `docs/mission.toml` and the last test results; do not edit.\n\n\
         * **works**: the tests named passed, and nothing of the row is missing.\n\
         * **works in part**: the tests named passed; what is missing is said.\n\
         * **unproven**: a test named failed, or has not run since.\n\
         * **absent**: nothing shows it yet.\n\n",
    );
    let mut counts = BTreeMap::<String, usize>::new();
    for row in &mission.row {
        *counts.entry(status_of(row)).or_default() += 1;
    }
    let counts: Vec<String> = counts
        .iter()
        .map(|(status, n)| format!("{n} {status}"))
        .collect();
    out.push_str(&format!(
        "{} rows: {}.\n\n",
        mission.row.len(),
        counts.join(", ")
    ));
    out.push_str("| id | what it means here | command | tests | status |\n|---|---|---|---|---|\n");
    for row in &mission.row {
        let missing = match row.missing.is_empty() {
            true => String::new(),
            false => format!(" *Missing: {}*", row.missing),
        };
        let code = |text: &str| format!("`{}`", text.replace('|', "\\|"));
        let command = if row.command.is_empty() {
            String::new()
        } else {
            code(&row.command)
        };
        let tests: Vec<String> = row.tests.iter().map(|test| code(test)).collect();
        out.push_str(&format!(
            "| {} | {}{missing} | {command} | {} | {} |\n",
            row.id,
            row.here,
            tests.join("<br>"),
            status_of(row),
        ));
    }
    out
}

/// Row id → status, as the document says it now.
fn statuses(document: &str) -> BTreeMap<String, String> {
    document
        .lines()
        .filter_map(|line| {
            let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
            (cells.len() >= 5).then(|| {
                (
                    cells[0].to_owned(),
                    (*cells.last().expect("five cells")).to_owned(),
                )
            })
        })
        .collect()
}

/// The document as it should be, by the results there are.
fn wanted(root: &Path) -> Result<String, String> {
    let results = Results::load();
    Ok(render(&load(root)?, |row| status(row, &results).to_owned()))
}

/// Writes the document; true when that changed it.
pub fn write(root: &Path) -> Result<bool, String> {
    let new = wanted(root)?;
    let path = root.join(DOCUMENT);
    if std::fs::read_to_string(&path).is_ok_and(|old| old == new) {
        return Ok(false);
    }
    std::fs::write(&path, new).map_err(|e| format!("cannot write {DOCUMENT}: {e}"))?;
    Ok(true)
}

/// True when the statuses in the document are those that the last results give.
pub fn is_current(root: &Path) -> bool {
    wanted(root)
        .is_ok_and(|new| std::fs::read_to_string(root.join(DOCUMENT)).is_ok_and(|old| old == new))
}

/// Everything wrong with the rows and the document. Statuses come from test runs, which a fresh checkout
/// does not have: here they are only held against what the row can claim at all.
pub fn check(root: &Path, sources: &Sources) -> Vec<String> {
    let mission = match load(root) {
        Ok(mission) => mission,
        Err(why) => return vec![why],
    };
    let document = std::fs::read_to_string(root.join(DOCUMENT)).unwrap_or_default();
    let said = statuses(&document);
    let mut problems = rows_problems(&mission, sources);
    for row in &mission.row {
        let status = said.get(&row.id).map_or("", String::as_str);
        let possible: &[&str] = match (row.tests.is_empty(), row.missing.is_empty()) {
            (true, _) => &["absent"],
            (false, true) => &["works", "unproven"],
            (false, false) => &["works in part", "unproven"],
        };
        if !possible.contains(&status) {
            problems.push(format!(
                "{DOCUMENT}: {} says {status:?}; run cargo xtask fix",
                row.id
            ));
        }
    }
    let same = render(&mission, |row| {
        said.get(&row.id).cloned().unwrap_or_default()
    });
    if problems.is_empty() && same != document {
        problems.push(format!(
            "{DOCUMENT} is not what {SOURCE} makes; run cargo xtask fix"
        ));
    }
    problems
}

/// Rows in their order, each command and test there.
fn rows_problems(mission: &Mission, sources: &Sources) -> Vec<String> {
    let mut problems = Vec::new();
    let expected = (1..=41)
        .map(|n| format!("M{n}"))
        .chain((1..=4).map(|n| format!("X{n}")));
    let ids: Vec<&str> = mission.row.iter().map(|row| row.id.as_str()).collect();
    if !expected.eq(ids.iter().map(|id| (*id).to_owned())) {
        problems.push(format!(
            "{SOURCE}: rows must be M1 to M41 and X1 to X4 in order, found {}",
            ids.join(" ")
        ));
    }
    for row in &mission.row {
        for test in row.tests.iter().filter(|test| !sources.has_test(test)) {
            problems.push(format!(
                "{SOURCE}: {} names the test {test}, which does not exist",
                row.id
            ));
        }
        if row.tests.is_empty() != row.command.is_empty() {
            problems.push(format!(
                "{SOURCE}: {} must name a command and tests, or neither",
                row.id
            ));
        }
        if row.here.trim().is_empty() {
            problems.push(format!(
                "{SOURCE}: {} does not say what it means here",
                row.id
            ));
        }
        problems.extend(
            sources
                .command_problem(&row.command)
                .map(|why| format!("{SOURCE}: {}: {why}", row.id)),
        );
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::Verdict;

    fn row(tests: &[&str], missing: &str) -> Row {
        Row {
            id: "M1".into(),
            here: "x".into(),
            command: "althing dev".into(),
            tests: tests.iter().map(|t| (*t).to_owned()).collect(),
            missing: missing.into(),
        }
    }

    #[test]
    fn status_follows_from_results_and_what_is_missing() {
        let mut results = Results::default();
        let tests = [
            ("m::good".to_owned(), Verdict::Passed),
            ("m::bad".to_owned(), Verdict::Failed),
        ];
        results.0.insert("unit".into(), tests.into_iter().collect());
        assert_eq!(status(&row(&[], ""), &results), "absent");
        assert_eq!(status(&row(&["good"], ""), &results), "works");
        assert_eq!(status(&row(&["good"], "much"), &results), "works in part");
        assert_eq!(status(&row(&["good", "bad"], ""), &results), "unproven");
        assert_eq!(status(&row(&["never ran"], ""), &results), "unproven");
    }

    #[test]
    fn document_gives_its_statuses_back() {
        let mission = Mission {
            row: vec![row(&["good", "other"], "much")],
        };
        let document = render(&mission, |_| "works in part".into());
        assert_eq!(statuses(&document)["M1"], "works in part");
    }

    #[test]
    fn row_that_names_what_does_not_exist_is_found() {
        let sources = Sources::of(&[
            ("crates/althing/src/main.rs", "enum Mode { Dev }"),
            ("a.py", "def test_there(x):"),
        ]);
        let mut mission = Mission {
            row: vec![row(&["test_there", "test_not_there"], "")],
        };
        mission.row[0].command = "althing fly".into();
        let problems = rows_problems(&mission, &sources);
        assert!(problems.iter().any(|p| p.contains("test_not_there")));
        assert!(problems.iter().any(|p| p.contains("fly")));
        assert!(problems.iter().all(|p| !p.contains("test_there,")));
    }
}
