//! The file of a job: TOML, or the same as JSON. A key that is not known is refused, with the nearest that is.

use scheduling::model::{JobSpec, OnLost, PlacedBy, Policy, Restart, Task};
use scheduling::placement::Constraint;
use scheduling::{Resources, Rule};
use serde::Deserialize;
use serde::de::Error;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct JobFile {
    name: String,
    #[serde(default = "priority")]
    priority: u32,
    #[serde(default)]
    rule: Word<Rule>,
    tasks: Vec<TaskFile>,
    /// Who places them, where the cell does not.
    scheduler: Option<String>,
}

/// A task, as a job's file and a framework's answer have it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskFile {
    #[serde(default = "task_name")]
    name: String,
    #[serde(default = "one")]
    count: u32,
    command: Vec<String>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    #[serde(default = "cpu_milli")]
    cpu_milli: u64,
    #[serde(default = "memory_mib")]
    memory_mib: u64,
    #[serde(default)]
    disk_mib: u64,
    #[serde(default)]
    files_max: u32,
    #[serde(default)]
    cpu_seconds_max: u32,
    #[serde(default)]
    restart: RestartFile,
    #[serde(default = "on_lost")]
    on_lost: OnLost,
    #[serde(default = "grace_ms")]
    grace_ms: u32,
    #[serde(default)]
    constraints: Vec<Word<Constraint>>,
    #[serde(default)]
    packages: BTreeSet<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RestartFile {
    policy: Policy,
    attempts_max: u32,
    pause_ms: u32,
    pause_ms_max: u32,
}

impl Default for RestartFile {
    fn default() -> Self {
        Self {
            policy: Policy::OnFailure,
            attempts_max: 5,
            pause_ms: 500,
            pause_ms_max: 30_000,
        }
    }
}

/// What is written as one word.
#[derive(Default)]
struct Word<T>(T);

impl<'de, T: std::str::FromStr<Err = String>> Deserialize<'de> for Word<T> {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        text.parse().map(Self).map_err(D::Error::custom)
    }
}

fn priority() -> u32 {
    50
}

fn task_name() -> String {
    "main".into()
}

fn one() -> u32 {
    1
}

fn cpu_milli() -> u64 {
    100
}

fn memory_mib() -> u64 {
    64
}

fn on_lost() -> OnLost {
    OnLost::Stop
}

fn grace_ms() -> u32 {
    5_000
}

/// Reads TOML.
///
/// # Errors
/// What is wrong, on which line, and what to do.
pub fn parse(text: &str) -> Result<JobSpec, String> {
    let file: JobFile = toml::from_str(text).map_err(|error| {
        let line = error.span().map(|span| {
            let before = &text[..span.start.min(text.len())];
            before.matches('\n').count() + 1
        });
        let words = describe(error.message());
        line.map_or(words.clone(), |line| format!("line {line}: {words}"))
    })?;
    file.build()
}

/// Reads JSON.
///
/// # Errors
/// What is wrong, on which line, and what to do.
pub fn parse_json(text: &str) -> Result<JobSpec, String> {
    let file: JobFile = serde_json::from_str(text).map_err(|e| describe(&e.to_string()))?;
    file.build()
}

impl JobFile {
    fn build(self) -> Result<JobSpec, String> {
        let job = JobSpec {
            name: self.name,
            priority: self.priority,
            rule: self.rule.0,
            tasks: self.tasks.into_iter().map(TaskFile::build).collect(),
            placed_by: self.scheduler.map_or(PlacedBy::Cell, PlacedBy::Scheduler),
        };
        job.check().map_err(|refusal| refusal.to_string())?;
        Ok(job)
    }
}

impl TaskFile {
    /// With what it does not say.
    pub fn build(self) -> Task {
        Task {
            name: self.name,
            count: self.count,
            command: self.command,
            env: self.env,
            resources: Resources::new(
                self.cpu_milli,
                self.memory_mib.saturating_mul(1 << 20),
                self.disk_mib.saturating_mul(1 << 20),
            ),
            files_max: self.files_max,
            cpu_seconds_max: self.cpu_seconds_max,
            restart: Restart {
                policy: self.restart.policy,
                attempts_max: self.restart.attempts_max,
                pause_ms: self.restart.pause_ms,
                pause_ms_max: self.restart.pause_ms_max,
            },
            on_lost: self.on_lost,
            grace_ms: self.grace_ms,
            constraints: self.constraints.into_iter().map(|word| word.0).collect(),
            packages: self.packages,
        }
    }
}

/// Says which key was meant, where one is near.
fn describe(message: &str) -> String {
    let Some(rest) = message.strip_prefix("unknown field `") else {
        return message.trim().to_owned();
    };
    let (wrong, known) = rest.split_once('`').unwrap_or((rest, ""));
    let known: Vec<&str> = known.split('`').skip(1).step_by(2).collect();
    let nearest = known.iter().min_by_key(|name| distance(wrong, name));
    match nearest.filter(|name| distance(wrong, name) <= name.len() / 2) {
        Some(name) => format!("there is no key `{wrong}` here: did you mean `{name}`?"),
        None => format!(
            "there is no key `{wrong}` here; there are {}",
            known.join(", ")
        ),
    }
}

/// Letters to put in, take out or exchange to make one of the other (Levenshtein, 1965).
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let exchanged = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = exchanged.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &str = r#"
name = "web"
rule = "spread"
[[tasks]]
name = "server"
count = 3
command = ["python3", "-m", "http.server"]
memory_mib = 128
constraints = ["zone = a", "disk != slow"]
restart = { policy = "always", pause_ms = 100 }
"#;

    #[test]
    fn sample_is_read_with_what_it_does_not_say() {
        let job = parse(SAMPLE).unwrap();
        let task = &job.tasks[0];
        assert_eq!((job.priority, job.rule), (50, Rule::Spread));
        assert_eq!((task.count, task.resources.memory_bytes), (3, 128 << 20));
        assert_eq!(task.constraints.len(), 2);
        assert_eq!(task.restart.policy, Policy::Always);
        assert_eq!((task.restart.pause_ms, task.restart.attempts_max), (100, 5));
        assert_eq!((task.on_lost, task.grace_ms), (OnLost::Stop, 5_000));
    }

    #[test]
    fn mistakes_are_named_with_their_line_and_what_was_meant() {
        for (from, to, says) in [
            (
                "count = 3",
                "cuont = 3",
                "line 6: there is no key `cuont` here: did you mean `count`?",
            ),
            (
                "count = 3",
                "xyzzy = 3",
                "there is no key `xyzzy` here; there are name, count",
            ),
            (
                "\"spread\"",
                "\"sprad\"",
                "line 3: no rule of placement \"sprad\"",
            ),
            (
                "\"zone = a\"",
                "\"zone\"",
                "line 9: \"zone\" is no constraint",
            ),
            (
                "count = 3",
                "count = 0",
                "task \"server\": count = 0 must be from 1",
            ),
            ("\"web\"", "\"a b\"", "the job's name \"a b\" must have"),
            (
                "\"python3\", \"-m\", \"http.server\"",
                "",
                "command must name a program",
            ),
            (
                "\"always\"",
                "\"sometimes\"",
                "line 10: unknown variant `sometimes`",
            ),
        ] {
            let why = parse(&SAMPLE.replace(from, to)).unwrap_err();
            assert!(why.contains(says), "{why:?} does not say {says:?}");
        }
        let why = parse_json(r#"{"name": "a", "task": []}"#).unwrap_err();
        assert!(why.contains("did you mean `tasks`?"), "{why}");
    }
}
