//! What documents name must exist, and no file may tell where it was written.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

/// Every text file that the project keeps, by its path.
pub struct Sources {
    files: Vec<(String, String)>,
}

impl Sources {
    /// Reads all files that git knows or would take. Files that are not text are left out.
    pub fn read(root: &Path) -> Result<Self, String> {
        let list = crate::process::capture(
            Command::new("git")
                .args(["ls-files", "--cached", "--others", "--exclude-standard"])
                .current_dir(root),
        )?;
        let files = list
            .lines()
            .filter_map(|path| {
                Some((
                    path.to_owned(),
                    std::fs::read_to_string(root.join(path)).ok()?,
                ))
            })
            .collect();
        Ok(Self { files })
    }

    #[cfg(test)]
    pub fn of(files: &[(&str, &str)]) -> Self {
        let files = files
            .iter()
            .map(|(p, t)| ((*p).to_owned(), (*t).to_owned()))
            .collect();
        Self { files }
    }

    /// The content of one file, if it is there.
    fn file(&self, path: &str) -> Option<&str> {
        let found = self.files.iter().find(|(name, _)| name == path);
        found.map(|(_, text)| text.as_str())
    }

    fn code(&self) -> impl Iterator<Item = &(String, String)> {
        let kinds = [".rs", ".py", ".java", ".toml"];
        self.files.iter().filter(move |(path, _)| {
            kinds.iter().any(|kind| path.ends_with(kind)) && path != "docs/mission.toml"
        })
    }

    /// True when a test of this name is written in Rust or Python.
    pub fn has_test(&self, name: &str) -> bool {
        let (rust, python) = (format!("fn {name}("), format!("def {name}("));
        self.code()
            .any(|(_, text)| text.contains(&rust) || text.contains(&python))
    }

    /// Why a command line cannot be: its subcommands and options are looked for, by text, in the sources of the
    /// binary that it names.
    pub fn command_problem(&self, command: &str) -> Option<String> {
        let (folder, rest) = if let Some(rest) = command.strip_prefix("cargo xtask") {
            ("crates/xtask/src/", rest)
        } else if let Some(rest) = command.strip_prefix("althing lab") {
            // Its algorithms and scenarios are in the crates of their chapters.
            ("crates/", rest)
        } else if let Some(rest) = command.strip_prefix("althing") {
            ("crates/althing/src/", rest)
        } else if command.is_empty() {
            return None;
        } else {
            return Some(format!(
                "{command:?} starts neither with althing nor with cargo xtask"
            ));
        };
        let mut words = BTreeSet::new();
        for (_, text) in self
            .files
            .iter()
            .filter(|(path, _)| path.starts_with(folder))
        {
            words.extend(text.split(|c: char| !c.is_alphanumeric() && c != '_' && c != '-'));
        }
        let mut subcommands_end = false;
        for word in rest.split_whitespace() {
            let found = if let Some(option) = word.strip_prefix("--") {
                subcommands_end = true;
                words.contains(option) || words.contains(option.replace('-', "_").as_str())
            } else if subcommands_end || !word.starts_with(|c: char| c.is_ascii_lowercase()) {
                subcommands_end = true;
                true
            } else {
                words.contains(word) || words.contains(pascal_case(word).as_str())
            };
            if !found {
                return Some(format!("`{command}`: {folder} knows no {word:?}"));
            }
        }
        None
    }

    /// Symbols in backticks of a document that exist nowhere in the sources.
    pub fn unknown_symbols(&self, root: &Path, document: &str) -> Vec<String> {
        let Some(text) = self.file(document) else {
            return Vec::new();
        };
        let mut words = BTreeSet::new();
        for (_, text) in self.code() {
            words.extend(text.split(|c: char| !c.is_alphanumeric() && c != '_'));
        }
        let exists = |symbol: &str| {
            let symbol = symbol.trim_end_matches("()");
            match symbol.contains('/') || symbol.contains('.') {
                true => {
                    root.join(symbol).exists()
                        || self.files.iter().any(|(path, _)| path.ends_with(symbol))
                }
                false => {
                    root.join("crates").join(symbol).is_dir()
                        || symbol.split("::").all(|part| words.contains(part))
                }
            }
        };
        symbols(text)
            .into_iter()
            .filter(|symbol| !exists(symbol))
            .map(|symbol| format!("{document}: `{symbol}` does not exist in the sources"))
            .collect()
    }

    /// Files that name a directory of the machine on which they were written.
    pub fn home_paths(&self) -> Vec<String> {
        // In two pieces, so that this file does not name them.
        let telling = [
            ("/ho", "me/"),
            ("/Us", "ers/"),
            ("/ro", "ot/"),
            ("/work/", "main"),
        ];
        let mut problems = Vec::new();
        for (path, text) in self.files.iter().filter(|(path, _)| path != "Cargo.lock") {
            for (number, line) in text.lines().enumerate() {
                if telling
                    .iter()
                    .any(|(a, b)| line.contains(&format!("{a}{b}")))
                {
                    problems.push(format!(
                        "{path}:{}: an absolute path of somebody's machine",
                        number + 1
                    ));
                }
            }
        }
        problems
    }
}

/// `transfer-leader` → `TransferLeader`, as clap names variants.
fn pascal_case(word: &str) -> String {
    word.split('-')
        .map(|part| {
            let mut letters = part.chars();
            letters.next().map_or_else(String::new, |first| {
                first.to_uppercase().chain(letters).collect()
            })
        })
        .collect()
}

/// What stands in backticks and looks like a symbol or a path of the code: no spaces, no other signs.
fn symbols(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut fenced = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            found.extend(
                line.split('`')
                    .skip(1)
                    .step_by(2)
                    .filter(|s| is_symbol(s))
                    .map(str::to_owned),
            );
        }
    }
    found
}

fn is_symbol(text: &str) -> bool {
    let bare = text.strip_suffix("()").unwrap_or(text);
    bare.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && bare
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "_:/.-".contains(c))
        && !bare.ends_with([':', '-'])
        && (!bare.contains('-') || bare.contains('/') || bare.starts_with("wire-"))
        && !bare.contains(":7")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symbol_that_exists_nowhere_is_found() {
        let sources = Sources::of(&[
            (
                "ARCHITECTURE.md",
                "`Core::handle`, `Core::dance` and `src/a.rs`; `not a symbol`, `--flag`\n```\n`Nonsense`\n```\n",
            ),
            ("src/a.rs", "impl Core { fn handle() {} }"),
        ]);
        let problems = sources.unknown_symbols(Path::new("."), "ARCHITECTURE.md");
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].contains("Core::dance"));
    }

    #[test]
    fn path_of_a_home_directory_is_found() {
        let text = format!("fine\nsee {}{}", "/ho", "me/somebody/notes");
        let sources = Sources::of(&[("a.md", text.as_str()), ("b.md", "/home is where")]);
        assert_eq!(sources.home_paths().len(), 1);
        assert!(sources.home_paths()[0].starts_with("a.md:2"));
    }

    #[test]
    fn commands_are_found_by_variant_and_option() {
        let sources = Sources::of(&[(
            "crates/althing/src/main.rs",
            "enum Cluster { TransferLeader { shard: String } } struct Dev { port_offset: u16 }",
        )]);
        assert_eq!(
            sources.command_problem("althing cluster transfer-leader tree"),
            Some(
                "`althing cluster transfer-leader tree`: crates/althing/src/ knows no \"tree\""
                    .into()
            )
        );
        assert_eq!(
            sources.command_problem("althing cluster transfer-leader SHARD"),
            None
        );
        assert_eq!(
            sources.command_problem("althing dev --port-offset 10"),
            None
        );
        assert!(sources.command_problem("althing dev --port 10").is_some());
        assert!(sources.command_problem("rm -r").is_some());
    }
}
