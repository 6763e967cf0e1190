//! Which crate may depend on which: the table of decision 0001, closed over its own arrows.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

const CHAPTERS: &[&str] = &[
    "coordination",
    "storage",
    "messaging",
    "transactions",
    "scheduling",
    "computing",
    "traffic",
    "ledger",
];

/// Rooms and what they lean on. `chapters` and `wires` stand for each of their kind. What can be reached
/// over several arrows may also be named directly.
const ARROWS: &[(&str, &[&str])] = &[
    ("base", &[]),
    ("chapters", &["base"]),
    ("catalog", &["base"]),
    ("replication", &["base"]),
    ("journal", &["base"]),
    ("cluster", &["base"]),
    ("shard", &["replication", "journal", "chapters", "catalog"]),
    ("group", &["chapters", "cluster", "replication"]),
    ("router", &["shard", "cluster"]),
    ("wires", &["chapters"]),
    ("node", &["wires", "router", "group", "cluster"]),
    ("console", &["node"]),
    ("host", &["node", "console"]),
    ("rpc", &["chapters"]),
    ("actors", &["wires"]),
    ("lab", &["node", "chapters", "cluster", "replication"]),
    ("althing", &["host", "lab", "actors"]),
];

/// Crates below the line: they may touch the machine, and nothing above may lean on them.
const BELOW_THE_LINE: &[&str] = &["host", "lab", "althing", "rpc", "actors", "xtask"];

/// The room that a crate is in, or `None` for a crate that the house does not have.
fn room(name: &str) -> Option<&str> {
    if CHAPTERS.contains(&name) {
        Some("chapters")
    } else if name.starts_with("wire-") {
        Some("wires")
    } else {
        ARROWS
            .iter()
            .map(|(room, _)| *room)
            .chain(["xtask"])
            .find(|room| *room == name)
    }
}

/// Every room that `from` reaches over one arrow or several.
fn reachable(from: &str) -> BTreeSet<&'static str> {
    let mut found = BTreeSet::new();
    let mut open = vec![from];
    while let Some(at) = open.pop() {
        for (_, to) in ARROWS.iter().filter(|(room, _)| *room == at) {
            for next in *to {
                if found.insert(*next) {
                    open.push(next);
                }
            }
        }
    }
    found
}

/// Why `from` may not depend on `to`, or `None` when it may.
fn objection(from: &str, to: &str) -> Option<String> {
    let Some(from_room) = room(from) else {
        return Some(format!(
            "{from} is no room of the house: add it to DESIGN's table and to arrows.rs"
        ));
    };
    let Some(to_room) = room(to) else {
        return Some(format!("{from} -> {to}: {to} is no room of the house"));
    };
    let allowed = if from_room == "xtask" {
        !BELOW_THE_LINE.contains(&to_room)
    } else {
        reachable(from_room).contains(to_room)
    };
    (!allowed).then(|| format!("{from} -> {to} is not among the allowed arrows (decision 0001)"))
}

/// A crate's name and the crates of this workspace in its manifest, in all kinds of dependencies.
fn dependencies(manifest: &str) -> Result<(String, BTreeSet<String>), String> {
    let table: toml::Table = manifest.parse().map_err(|e| format!("unreadable: {e}"))?;
    let name = table
        .get("package")
        .and_then(|package| package.get("name")?.as_str())
        .ok_or("no package.name")?
        .to_owned();
    let mut found = BTreeSet::new();
    collect(&table, &mut found);
    Ok((name, found))
}

/// Dependencies may stand at the top, under `target.'cfg(…)'`, and be renamed by `package = "…"`.
fn collect(table: &toml::Table, found: &mut BTreeSet<String>) {
    for (key, value) in table {
        let Some(inner) = value.as_table() else {
            continue;
        };
        match key.as_str() {
            "dependencies" | "dev-dependencies" | "build-dependencies" => {
                for (name, spec) in inner {
                    let real = spec.get("package").and_then(|p| p.as_str());
                    found.insert(real.unwrap_or(name).to_owned());
                }
            }
            "target" => inner
                .values()
                .filter_map(|platform| platform.as_table())
                .for_each(|platform| collect(platform, found)),
            _ => {}
        }
    }
}

/// Objections against manifests given as (path, content).
fn judge(manifests: &[(String, String)]) -> Vec<String> {
    let mut problems = Vec::new();
    let mut crates = BTreeMap::new();
    for (path, text) in manifests {
        match dependencies(text) {
            Ok((name, found)) => {
                crates.insert(name, found);
            }
            Err(why) => problems.push(format!("{path}: {why}")),
        }
    }
    for (from, all) in &crates {
        if room(from).is_none() {
            problems.extend(objection(from, "base"));
            continue;
        }
        for to in all
            .iter()
            .filter(|to| crates.contains_key(*to) && *to != from)
        {
            problems.extend(objection(from, to));
        }
    }
    problems
}

/// Objections against the manifests under `root`/crates.
pub fn check(root: &Path) -> Result<Vec<String>, String> {
    let mut manifests = Vec::new();
    let folder = root.join("crates");
    let entries =
        std::fs::read_dir(&folder).map_err(|e| format!("cannot list {}: {e}", folder.display()))?;
    for entry in entries {
        let path = entry.map_err(|e| e.to_string())?.path().join("Cargo.toml");
        if let Ok(text) = std::fs::read_to_string(&path) {
            manifests.push((path.display().to_string(), text));
        }
    }
    manifests.sort();
    Ok(judge(&manifests))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(name: &str, dependencies: &str) -> (String, String) {
        let text = format!("[package]\nname = \"{name}\"\n{dependencies}\n");
        (format!("crates/{name}/Cargo.toml"), text)
    }

    #[test]
    fn arrows_named_by_the_design_are_allowed_also_over_several_steps() {
        for (from, to) in [
            ("coordination", "base"),
            ("shard", "coordination"),
            ("shard", "base"),
            ("router", "journal"),
            ("wire-zookeeper", "coordination"),
            ("node", "wire-zookeeper"),
            ("node", "shard"),
            ("host", "base"),
            ("lab", "wire-zookeeper"),
            ("althing", "lab"),
            ("xtask", "wire-zookeeper"),
            ("rpc", "traffic"),
            ("actors", "wire-zookeeper"),
            ("althing", "actors"),
        ] {
            assert_eq!(objection(from, to), None, "{from} -> {to}");
        }
    }

    #[test]
    fn arrows_that_must_never_be_are_refused() {
        for (from, to) in [
            ("coordination", "storage"),
            ("coordination", "wire-zookeeper"),
            ("wire-zookeeper", "shard"),
            ("wire-zookeeper", "wire-redis"),
            ("host", "lab"),
            ("lab", "host"),
            ("node", "host"),
            ("node", "console"),
            ("base", "journal"),
            ("journal", "replication"),
            ("xtask", "host"),
            ("althing", "xtask"),
            ("rpc", "node"),
            ("actors", "node"),
            ("host", "actors"),
            ("host", "rpc"),
        ] {
            assert!(objection(from, to).is_some(), "{from} -> {to}");
        }
    }

    #[test]
    fn forbidden_arrow_in_a_manifest_is_found_in_every_kind_of_dependency() {
        let all = "[dependencies]\nbase.workspace = true\nserde = \"1\"";
        for kind in [
            "dependencies",
            "dev-dependencies",
            "build-dependencies",
            "target.'cfg(unix)'.dependencies",
        ] {
            let manifests = [
                manifest("base", ""),
                manifest("host", all),
                manifest("coordination", &format!("[{kind}]\nhost.workspace = true")),
            ];
            let problems = judge(&manifests);
            assert_eq!(problems.len(), 1, "{kind}: {problems:?}");
            assert!(problems[0].contains("coordination -> host"));
        }
    }

    #[test]
    fn renamed_dependency_is_found() {
        let manifests = [
            manifest("host", ""),
            manifest(
                "journal",
                "[dependencies]\nfiles = { package = \"host\", path = \"../host\" }",
            ),
        ];
        assert_eq!(judge(&manifests).len(), 1);
    }

    #[test]
    fn room_that_the_house_does_not_have_is_refused() {
        assert_eq!(judge(&[manifest("utils", "")]).len(), 1);
    }
}
