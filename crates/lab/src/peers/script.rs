//! Fault scripts and run files, in TOML. A run file is a fault script with the run's own keys on top, so
//! one reader serves both.

use base::algorithm::Trouble;
use base::peer::{Lie, PeerId};
use serde::{Deserialize, Serialize};
use std::ops::Range;
use toml::Spanned;

/// What goes wrong, and with whom.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Fault {
    /// A process dies.
    Crash {
        /// Whose.
        node: PeerId,
    },
    /// A dead process starts again with what it persisted. One that was never started starts.
    Restart {
        /// Whose.
        node: PeerId,
    },
    /// A process dies and its disk is empty.
    Wipe {
        /// Whose.
        node: PeerId,
    },
    /// A process stops, and goes on at the end.
    Pause {
        /// Whose.
        node: PeerId,
    },
    /// Everything that this node sends and gets takes longer.
    Slow {
        /// Which.
        node: PeerId,
        /// By so many milliseconds.
        by_ms: u64,
    },
    /// The network falls apart into these sides; a node may be on several. Those on none are alone.
    Partition {
        /// Who still hears whom.
        sides: Vec<Vec<PeerId>>,
    },
    /// Nothing passes from these to those.
    OneWay {
        /// Senders.
        from: Vec<PeerId>,
        /// Receivers.
        to: Vec<PeerId>,
    },
    /// Messages are lost.
    Loss {
        /// So many of a hundred.
        percent: u64,
    },
    /// Messages take longer.
    Delay {
        /// By up to so many milliseconds.
        up_to_ms: u64,
    },
    /// Messages arrive twice.
    Duplicate {
        /// So many of a hundred.
        percent: u64,
    },
    /// Messages of one pair overtake each other.
    Reorder,
    /// A wall clock steps.
    ClockStep {
        /// Whose.
        node: PeerId,
        /// By so many milliseconds, either way.
        by_ms: i64,
    },
    /// A clock runs fast or slow.
    ClockDrift {
        /// Whose.
        node: PeerId,
        /// By so many millionths, either way; at most 200,000.
        ppm: i64,
    },
    /// What a node sends is withheld, differs from receiver to receiver, or is not so.
    Lie {
        /// Who lies.
        node: PeerId,
        /// How.
        how: How,
    },
    /// A user asks something of a node: a word that the algorithm's family knows.
    Ask {
        /// Whom.
        node: PeerId,
        /// What.
        request: String,
    },
}

/// How a liar lies, in a script.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum How {
    /// It sends nothing.
    Withhold,
    /// It tells different receivers different things.
    Equivocate,
    /// It tells what is not so.
    Forge,
}

impl How {
    /// All, in the order of [`Lie::ALL`].
    pub const ALL: [Self; 3] = [Self::Withhold, Self::Equivocate, Self::Forge];

    /// What peers know it as.
    pub fn lie(self) -> Lie {
        match self {
            Self::Withhold => Lie::Withhold,
            Self::Equivocate => Lie::Equivocate,
            Self::Forge => Lie::Forge,
        }
    }
}

impl Fault {
    /// Words of all kinds, for messages.
    pub const KINDS: &str = "crash, restart, wipe, pause, slow, partition, one-way, loss, delay, duplicate, reorder, clock-step, clock-drift, lie, ask";

    /// Its word in a script.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Crash { .. } => "crash",
            Self::Restart { .. } => "restart",
            Self::Wipe { .. } => "wipe",
            Self::Pause { .. } => "pause",
            Self::Slow { .. } => "slow",
            Self::Partition { .. } => "partition",
            Self::OneWay { .. } => "one-way",
            Self::Loss { .. } => "loss",
            Self::Delay { .. } => "delay",
            Self::Duplicate { .. } => "duplicate",
            Self::Reorder => "reorder",
            Self::ClockStep { .. } => "clock-step",
            Self::ClockDrift { .. } => "clock-drift",
            Self::Lie { .. } => "lie",
            Self::Ask { .. } => "ask",
        }
    }

    /// True for what lasts until an end.
    pub fn lasts(&self) -> bool {
        !matches!(
            self,
            Self::Crash { .. }
                | Self::Restart { .. }
                | Self::Wipe { .. }
                | Self::ClockStep { .. }
                | Self::Ask { .. }
        )
    }

    /// Which trouble it is; `None` for what mends.
    pub fn trouble(&self) -> Option<Trouble> {
        Some(match self {
            Self::Crash { .. } => Trouble::Crash,
            Self::Restart { .. } | Self::Ask { .. } => return None,
            Self::Wipe { .. } => Trouble::Wipe,
            Self::Pause { .. } => Trouble::Pause,
            Self::Slow { .. } => Trouble::Slow,
            Self::Partition { .. } => Trouble::Partition,
            Self::OneWay { .. } => Trouble::OneWay,
            Self::Loss { .. } => Trouble::Loss,
            Self::Delay { .. } => Trouble::Delay,
            Self::Duplicate { .. } => Trouble::Duplicate,
            Self::Reorder => Trouble::Reorder,
            Self::ClockStep { .. } | Self::ClockDrift { .. } => Trouble::Clock,
            Self::Lie { .. } => Trouble::Liar,
        })
    }

    fn nodes(&self) -> Vec<PeerId> {
        match self {
            Self::Crash { node }
            | Self::Restart { node }
            | Self::Wipe { node }
            | Self::Pause { node }
            | Self::Slow { node, .. }
            | Self::ClockStep { node, .. }
            | Self::ClockDrift { node, .. }
            | Self::Lie { node, .. }
            | Self::Ask { node, .. } => vec![*node],
            Self::Partition { sides } => sides.concat(),
            Self::OneWay { from, to } => [from.as_slice(), to].concat(),
            Self::Loss { .. } | Self::Delay { .. } | Self::Duplicate { .. } | Self::Reorder => {
                Vec::new()
            }
        }
    }
}

/// A fault with its times, in milliseconds from the start.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Planned {
    /// When it begins.
    pub at_ms: u64,
    /// When it ends; none for what happens at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until_ms: Option<u64>,
    /// What.
    #[serde(flatten)]
    pub fault: Fault,
}

/// What goes wrong in a run.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Script {
    /// In the order of the file.
    pub faults: Vec<Planned>,
}

impl Script {
    /// The last moment at which something begins or ends, in milliseconds.
    pub fn end_ms(&self) -> u64 {
        let ends = self.faults.iter().map(|f| f.until_ms.unwrap_or(f.at_ms));
        ends.max().unwrap_or(0)
    }

    /// The troubles in it. A crash that nothing restarts is a death.
    pub fn troubles(&self) -> Vec<Trouble> {
        let mut found: Vec<Trouble> = (self.faults.iter().enumerate())
            .filter_map(|(i, planned)| match planned.fault {
                Fault::Crash { node } => {
                    let later = &self.faults[i + 1..];
                    let back = (later.iter()).any(|f| f.fault == Fault::Restart { node });
                    Some(if back { Trouble::Crash } else { Trouble::Death })
                }
                _ => planned.fault.trouble(),
            })
            .collect();
        found.sort_unstable();
        found.dedup();
        found
    }
}

/// A whole run, as it is kept in a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RunFile {
    /// The algorithm's word.
    pub algorithm: String,
    /// How many nodes.
    pub nodes: usize,
    /// Everything drawn follows from it.
    pub seed: u64,
    /// When the run ends, in milliseconds.
    pub until_ms: u64,
    /// What goes wrong.
    pub script: Script,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    algorithm: Option<String>,
    nodes: Option<usize>,
    seed: Option<u64>,
    until_ms: Option<u64>,
    #[serde(default)]
    fault: Vec<Spanned<toml::Table>>,
}

#[derive(Serialize)]
struct Written<'a> {
    algorithm: &'a str,
    nodes: usize,
    seed: u64,
    until_ms: u64,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    fault: &'a [Planned],
}

fn line_of(text: &str, span: &Range<usize>) -> usize {
    text[..span.start.min(text.len())].matches('\n').count() + 1
}

fn read_file(text: &str) -> Result<(File, Script), String> {
    let file: File = toml::from_str(text).map_err(|e| {
        let line = e.span().map_or(1, |span| line_of(text, &span));
        format!("line {line}: {}", e.message())
    })?;
    let mut script = Script::default();
    for entry in &file.fault {
        let line = line_of(text, &entry.span());
        let planned = read_fault(entry.get_ref()).map_err(|why| format!("line {line}: {why}"))?;
        script.faults.push(planned);
    }
    Ok((file, script))
}

fn read_fault(table: &toml::Table) -> Result<Planned, String> {
    for key in ["at_ms", "until_ms"] {
        let time = table.get(key).and_then(toml::Value::as_integer);
        if let Some(time) = time.filter(|time| *time < 0) {
            return Err(format!(
                "{key} = {time}: a time is 0 or later, in milliseconds"
            ));
        }
    }
    let at_ms = table
        .get("at_ms")
        .ok_or("at_ms is missing: when does it begin, in milliseconds?")?
        .as_integer()
        .ok_or("at_ms is a whole number of milliseconds")? as u64;
    let until_ms = match table.get("until_ms") {
        None => None,
        Some(until) => {
            let until = until.as_integer();
            Some(until.ok_or("until_ms is a whole number of milliseconds")? as u64)
        }
    };
    let mut rest = table.clone();
    rest.remove("at_ms");
    rest.remove("until_ms");
    let fault: Fault = rest.try_into().map_err(|e: toml::de::Error| {
        format!("{} (kinds of faults: {})", e.message(), Fault::KINDS)
    })?;
    match until_ms {
        None if fault.lasts() => Err("until_ms is missing: it lasts, so it needs an end".into()),
        Some(_) if !fault.lasts() => Err("until_ms: this happens at once, it has no end".into()),
        Some(until) if until <= at_ms => {
            Err(format!("until_ms = {until} is not after at_ms = {at_ms}"))
        }
        _ => {
            check_figures(&fault)?;
            Ok(Planned {
                at_ms,
                until_ms,
                fault,
            })
        }
    }
}

fn check_figures(fault: &Fault) -> Result<(), String> {
    match fault {
        Fault::Loss { percent } | Fault::Duplicate { percent } if *percent > 100 => {
            Err(format!("percent = {percent}: 0 to 100 are allowed"))
        }
        Fault::ClockDrift { ppm, .. } if ppm.abs() > 200_000 => {
            Err(format!("ppm = {ppm}: -200000 to 200000 are allowed"))
        }
        _ => Ok(()),
    }
}

/// Reads a fault script for a run of `nodes`.
///
/// # Errors
/// The line and what is allowed there.
pub fn read_script(text: &str, nodes: usize) -> Result<Script, String> {
    let (file, script) = read_file(text)?;
    for (entry, planned) in file.fault.iter().zip(&script.faults) {
        let unknown = planned.fault.nodes();
        if let Some(node) = unknown.iter().find(|n| !(1..=nodes).contains(*n)) {
            let line = line_of(text, &entry.span());
            return Err(format!(
                "line {line}: node {node}: there are nodes 1 to {nodes}"
            ));
        }
    }
    Ok(script)
}

/// Reads a run file.
///
/// # Errors
/// The line and what is allowed there, or the key that is missing.
pub fn read_run(text: &str) -> Result<RunFile, String> {
    let (file, _) = read_file(text)?;
    let missing = |key: &str| format!("{key} is missing: this is a fault script, not a run");
    let nodes = file.nodes.ok_or_else(|| missing("nodes"))?;
    Ok(RunFile {
        algorithm: file.algorithm.ok_or_else(|| missing("algorithm"))?,
        nodes,
        seed: file.seed.ok_or_else(|| missing("seed"))?,
        until_ms: file.until_ms.ok_or_else(|| missing("until_ms"))?,
        script: read_script(text, nodes)?,
    })
}

/// The text that [`read_run`] reads.
pub fn write_run(run: &RunFile) -> String {
    let written = Written {
        algorithm: &run.algorithm,
        nodes: run.nodes,
        seed: run.seed,
        until_ms: run.until_ms,
        fault: &run.script.faults,
    };
    toml::to_string(&written).unwrap_or_else(|e| format!("# cannot be written: {e}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn script_with_a_mistake_names_the_line_and_what_is_allowed() {
        for (text, expected) in [
            (
                "[[fault]]\nat_ms = 5\nkind = \"crash\"\nnode = 9\n",
                "line 1: node 9: there are nodes 1 to 3",
            ),
            (
                "\n[[fault]]\nat_ms = -5\nkind = \"crash\"\nnode = 1\n",
                "line 2: at_ms = -5: a time is 0 or later",
            ),
            (
                "[[fault]]\nat_ms = 5\nkind = \"flood\"\n",
                "line 1: unknown variant `flood`",
            ),
            (
                "[[fault]]\nat_ms = 5\nkind = \"pause\"\nnode = 1\n",
                "until_ms is missing",
            ),
            (
                "[[fault]]\nat_ms = 5\nuntil_ms = 4\nkind = \"reorder\"\n",
                "not after",
            ),
            (
                "[[fault]]\nat_ms = 5\nuntil_ms = 9\nkind = \"loss\"\npercent = 101\n",
                "0 to 100",
            ),
            (
                "[[fault]]\nat_ms = 5\nkind = \"crash\"\nnode = 1\nspeed = 4\n",
                "speed",
            ),
            ("faults = 3\n", "line 1: unknown field `faults`"),
        ] {
            let why = read_script(text, 3).expect_err(text);
            assert!(why.contains(expected), "{text:?}: {why}");
        }
    }

    #[test]
    fn run_file_is_read_back_as_it_was_written() {
        let run = RunFile {
            algorithm: "bully".into(),
            nodes: 5,
            seed: 7,
            until_ms: 9_000,
            script: Script {
                faults: vec![
                    Planned {
                        at_ms: 1,
                        until_ms: None,
                        fault: Fault::Crash { node: 5 },
                    },
                    Planned {
                        at_ms: 2,
                        until_ms: Some(4),
                        fault: Fault::Partition {
                            sides: vec![vec![1, 2], vec![3, 4, 5]],
                        },
                    },
                    Planned {
                        at_ms: 2,
                        until_ms: Some(3),
                        fault: Fault::Reorder,
                    },
                ],
            },
        };
        assert_eq!(read_run(&write_run(&run)), Ok(run));
    }
}
