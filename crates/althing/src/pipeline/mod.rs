//! `althing pipeline`: stages from a file, overlapped; items are lines.

mod picture;
mod stage;

use crate::{Failure, Outcome, failed, table};
use clap::{Args, Subcommand};
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Stages that a file may have.
const STAGES_MAX: usize = 64;
/// Items that may wait behind a stage, unless it says otherwise.
const PREFETCH: usize = 16;
/// What joins the items of a batch.
const SEPARATOR: &str = "\t";

/// What can be done.
#[derive(Args, Debug)]
pub struct Options {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand, Debug)]
enum Verb {
    /// Run a pipeline's stages at the same time, the last one's output to standard output
    #[command(after_help = FILE_HELP)]
    Run {
        /// Its stages (TOML)
        file: PathBuf,
        /// Draw the stages and what they waited for (SVG)
        #[arg(long, value_name = "FILE")]
        picture: Option<PathBuf>,
    },
    /// Say whether a pipeline's file can be used
    Check {
        /// Its stages (TOML)
        file: PathBuf,
    },
}

const FILE_HELP: &str = "A file:
  [[stage]]
  name = \"extract\"
  command = \"cat input.txt\"   # a process that reads and writes lines all the time

  [[stage]]
  name = \"mix\"
  shuffle = 1000              # lines to choose from; seed = 1

  [[stage]]
  name = \"batch\"
  batch = 32                  # lines to one, separator = \"\\t\"

  [[stage]]
  name = \"transform\"
  map = \"tr a-z A-Z\"          # a process for each line
  prefetch = 8                # lines that may wait behind it";

#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields)]
struct File {
    stage: Vec<Stage>,
}

/// A stage, as the file has it.
#[derive(Deserialize, Debug, Clone)]
#[serde(deny_unknown_fields)]
struct Stage {
    name: String,
    command: Option<String>,
    map: Option<String>,
    shuffle: Option<usize>,
    seed: Option<u64>,
    batch: Option<usize>,
    separator: Option<String>,
    prefetch: Option<usize>,
}

/// What a stage does.
#[derive(Debug, Clone, PartialEq)]
enum Does {
    Command(String),
    Map(String),
    Shuffle { size: usize, seed: u64 },
    Batch { size: usize, separator: String },
}

/// A stage that can be run.
#[derive(Debug, Clone, PartialEq)]
struct Ready {
    name: String,
    does: Does,
    prefetch: usize,
}

/// Runs a pipeline, or checks its file.
pub fn run(options: &Options) -> Outcome {
    match &options.verb {
        Verb::Check { file } => {
            let stages = read(file)?;
            println!("{}", picture::line(&stages));
            Ok(())
        }
        Verb::Run { file, picture } => {
            let stages = read(file)?;
            let begun = Instant::now();
            let told = stage::run(&stages).map_err(failed)?;
            let took_s = begun.elapsed().as_secs_f64();
            let rows: Vec<Vec<String>> = stages
                .iter()
                .zip(&told)
                .map(|(stage, told)| {
                    vec![
                        stage.name.clone(),
                        told.taken.to_string(),
                        told.given.to_string(),
                        format!("{:.2}", told.busy_s),
                        format!("{:.2}", told.starved_s),
                        format!("{:.2}", told.blocked_s),
                    ]
                })
                .collect();
            eprintln!("{}\n", picture::line(&stages));
            let heads = ["STAGE", "IN", "OUT", "BUSY S", "STARVED S", "BLOCKED S"];
            eprint!("{}", table::render(&heads, &rows));
            let sum: f64 = told.iter().map(|told| told.busy_s).sum();
            eprintln!("\n{took_s:.2} s; one stage after the other would be busy for {sum:.2} s");
            if let Some(path) = picture {
                std::fs::write(path, picture::svg(&stages, &told, took_s))
                    .map_err(|e| failed(format!("cannot write {}: {e}", path.display())))?;
            }
            Ok(())
        }
    }
}

fn read(path: &Path) -> Result<Vec<Ready>, Failure> {
    let text = std::fs::read_to_string(path)
        .map_err(|e| failed(format!("cannot read {}: {e}", path.display())))?;
    parse(&text).map_err(|why| Failure::Usage(format!("{}: {why}", path.display())))
}

fn parse(text: &str) -> Result<Vec<Ready>, String> {
    let file: File = toml::from_str(text).map_err(|e| e.to_string())?;
    if file.stage.len() > STAGES_MAX {
        return Err(format!("more than {STAGES_MAX} stages"));
    }
    let stages: Vec<Ready> = file
        .stage
        .into_iter()
        .map(ready)
        .collect::<Result<_, _>>()?;
    match stages.first() {
        Some(Ready {
            does: Does::Command(_),
            ..
        }) => Ok(stages),
        Some(first) => Err(format!(
            "stage {:?} is the first, so it has to be a command: nothing comes to it",
            first.name
        )),
        None => Err("there is no [[stage]]".to_owned()),
    }
}

fn ready(stage: Stage) -> Result<Ready, String> {
    let Stage {
        name,
        command,
        map,
        shuffle,
        seed,
        batch,
        separator,
        prefetch,
    } = stage;
    let wrong = |why: &str| format!("stage {name:?}: {why}");
    let positive = |what: &str, size: usize| match size {
        1..=10_000_000 => Ok(size),
        _ => Err(wrong(&format!("{what} is {size}, expected 1 to 10000000"))),
    };
    if shuffle.is_none() && seed.is_some() {
        return Err(wrong("`seed` is for `shuffle`"));
    }
    if batch.is_none() && separator.is_some() {
        return Err(wrong("`separator` is for `batch`"));
    }
    let does = match (command, map, shuffle, batch) {
        (Some(command), None, None, None) => Does::Command(command),
        (None, Some(map), None, None) => Does::Map(map),
        (None, None, Some(size), None) => Does::Shuffle {
            size: positive("shuffle", size)?,
            seed: seed.unwrap_or(1),
        },
        (None, None, None, Some(size)) => Does::Batch {
            size: positive("batch", size)?,
            separator: separator.unwrap_or_else(|| SEPARATOR.to_owned()),
        },
        _ => {
            return Err(wrong(
                "needs one of `command`, `map`, `shuffle` and `batch`",
            ));
        }
    };
    let prefetch = positive("prefetch", prefetch.unwrap_or(PREFETCH))?;
    Ok(Ready {
        name,
        does,
        prefetch,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_checked_before_it_is_used() {
        let bad = |text: &str| parse(text).unwrap_err();
        assert!(bad("").contains("missing field `stage`"));
        assert!(bad("[[stage]]\nname='a'\ncomand='x'").contains("unknown field `comand`"));
        assert_eq!(
            bad("[[stage]]\nname='a'\nbatch=2"),
            "stage \"a\" is the first, so it has to be a command: nothing comes to it"
        );
        assert_eq!(
            bad("[[stage]]\nname='a'\ncommand='x'\nmap='y'"),
            "stage \"a\": needs one of `command`, `map`, `shuffle` and `batch`"
        );
        assert_eq!(
            bad("[[stage]]\nname='a'\nshuffle=0"),
            "stage \"a\": shuffle is 0, expected 1 to 10000000"
        );
        assert_eq!(
            bad("[[stage]]\nname='a'\ncommand='x'\nseed=1"),
            "stage \"a\": `seed` is for `shuffle`"
        );
        let stages =
            parse("[[stage]]\nname='a'\ncommand='x'\n[[stage]]\nname='b'\nbatch=2").unwrap();
        assert_eq!(picture::line(&stages), "a (command) ─▶ b (batch 2)");
    }
}
