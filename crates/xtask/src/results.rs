//! Which test passed when it last ran: read from what cargo and pytest print, kept by stage in
//! `target/test-results.json`.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What became of a test.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It ran and held.
    Passed,
    /// It ran and did not hold, or never ended.
    Failed,
    /// It did not run.
    Skipped,
}

/// Name → verdict. When two tests share a name, the worse verdict counts.
pub type Tests = BTreeMap<String, Verdict>;

/// Verdicts by stage.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Results(pub BTreeMap<String, Tests>);

fn file() -> PathBuf {
    crate::target().join("test-results.json")
}

impl Results {
    /// What earlier runs left; nothing when there were none.
    pub fn load() -> Self {
        std::fs::read_to_string(file())
            .ok()
            .and_then(|text| serde_json::from_str(&text).ok())
            .unwrap_or_default()
    }

    /// Keeps them for `fix`.
    pub fn save(&self) -> Result<(), String> {
        let path = file();
        let text = serde_json::to_string_pretty(self).map_err(|e| e.to_string())?;
        std::fs::create_dir_all(crate::target())
            .and_then(|()| std::fs::write(&path, text + "\n"))
            .map_err(|e| format!("cannot write {}: {e}", path.display()))
    }

    /// True when a test of this function name ran, and it passed wherever and with whatever parameters it ran.
    pub fn passed(&self, function: &str) -> bool {
        let mut verdicts = self
            .0
            .values()
            .flatten()
            .filter(|(name, _)| function_of(name) == function)
            .map(|(_, verdict)| *verdict)
            .peekable();
        verdicts.peek().is_some() && verdicts.all(|verdict| verdict == Verdict::Passed)
    }
}

/// `module::tests::name` and `file::name[parameter]` are both `name`.
fn function_of(name: &str) -> &str {
    let name = name.split('[').next().unwrap_or(name);
    name.rsplit("::").next().unwrap_or(name)
}

fn add(tests: &mut Tests, name: String, verdict: Verdict) {
    let entry = tests.entry(name).or_insert(verdict);
    if verdict == Verdict::Failed || *entry == Verdict::Skipped {
        *entry = verdict;
    }
}

/// Passed, failed and skipped.
pub fn count(tests: &Tests) -> (usize, usize, usize) {
    let of = |wanted| tests.values().filter(|v| **v == wanted).count();
    (
        of(Verdict::Passed),
        of(Verdict::Failed),
        of(Verdict::Skipped),
    )
}

/// Reads `test name ... ok` lines.
pub fn from_cargo(output: &str) -> Tests {
    let mut tests = Tests::new();
    for line in output.lines() {
        let Some((name, verdict)) = line
            .strip_prefix("test ")
            .and_then(|l| l.rsplit_once(" ... "))
        else {
            continue;
        };
        let verdict = match verdict.split([',', ' ']).next() {
            Some("ok") => Verdict::Passed,
            Some("FAILED") => Verdict::Failed,
            Some("ignored") => Verdict::Skipped,
            _ => continue,
        };
        add(
            &mut tests,
            name.trim_end_matches(" - should panic").to_owned(),
            verdict,
        );
    }
    tests
}

/// Reads pytest's JUnit file.
pub fn from_junit(xml: &str) -> Tests {
    let mut tests = Tests::new();
    for case in xml.split("<testcase ").skip(1) {
        let head = case.split('>').next().unwrap_or(case);
        let body = case
            .split("</testcase>")
            .next()
            .filter(|_| !head.ends_with('/'))
            .unwrap_or("");
        let Some(name) = attribute(head, "name") else {
            continue;
        };
        let class = attribute(head, "classname").unwrap_or_default();
        let verdict = if body.contains("<failure") || body.contains("<error") {
            Verdict::Failed
        } else if body.contains("<skipped") {
            Verdict::Skipped
        } else {
            Verdict::Passed
        };
        add(
            &mut tests,
            format!("{}::{name}", class.rsplit('.').next().unwrap_or("")),
            verdict,
        );
    }
    tests
}

fn attribute(head: &str, name: &str) -> Option<String> {
    let rest = head
        .split_once(&format!(" {name}=\""))
        .map(|(_, rest)| rest)
        .or_else(|| head.strip_prefix(&format!("{name}=\"")))?;
    let value = rest.split('"').next()?;
    Some(
        value
            .replace("&quot;", "\"")
            .replace("&lt;", "<")
            .replace("&gt;", ">")
            .replace("&amp;", "&"),
    )
}

/// Reads the verdicts of one stage from a file that it wrote.
pub fn read_junit(path: &Path) -> Result<Tests, String> {
    let xml = std::fs::read_to_string(path)
        .map_err(|e| format!("cannot read {}: {e}", path.display()))?;
    Ok(from_junit(&xml))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargo_lines_give_names_and_verdicts() {
        let tests = from_cargo(
            "running 3 tests\ntest codec::tests::a ... ok\ntest b - should panic ... ok\ntest c ... FAILED\n\
             test d ... ignored, too slow\ntest e has been running for over 60 seconds\ntest c ... ok\n",
        );
        assert_eq!(tests["codec::tests::a"], Verdict::Passed);
        assert_eq!(tests["b"], Verdict::Passed);
        assert_eq!(tests["c"], Verdict::Failed);
        assert_eq!(tests["d"], Verdict::Skipped);
        assert_eq!(count(&tests), (2, 1, 1));
    }

    #[test]
    fn junit_cases_give_names_and_verdicts() {
        let tests = from_junit(
            "<testsuites><testsuite><testcase classname=\"tests.python.test_a\" name=\"test_x[one]\" time=\"1\" />\
             <testcase classname=\"test_a\" name=\"test_x[two]\" time=\"1\"><failure message=\"a &gt; b\">text</failure></testcase>\
             <testcase classname=\"test_a\" name=\"test_y\" time=\"1\"><skipped/></testcase></testsuite></testsuites>",
        );
        assert_eq!(tests["test_a::test_x[one]"], Verdict::Passed);
        assert_eq!(tests["test_a::test_x[two]"], Verdict::Failed);
        assert_eq!(tests["test_a::test_y"], Verdict::Skipped);
    }

    #[test]
    fn test_counts_as_passed_only_when_it_ran_and_held_everywhere() {
        let mut results = Results::default();
        let tests = [
            ("a::t[1]", Verdict::Passed),
            ("a::t[2]", Verdict::Failed),
            ("b::u", Verdict::Passed),
        ];
        let tests = tests.map(|(n, v)| (n.to_owned(), v));
        results.0.insert("unit".into(), tests.into_iter().collect());
        assert!(results.passed("u"));
        assert!(!results.passed("t"));
        assert!(!results.passed("v"));
    }
}
