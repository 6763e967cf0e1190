//! `cargo xtask`: what people and continuous integration run on this project.
//!
//! [`verify`] looks and never writes, [`mission`] and `fix` write what it looks at, [`stages`] runs
//! the tests within time budgets, [`bench`] compares with the peers.

mod arrows;
mod bench;
mod documents;
mod mission;
mod process;
mod results;
mod stages;
mod verify;

use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Parser)]
#[command(
    name = "cargo xtask",
    about = "Tests, checks and benchmarks of this project"
)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Look at everything that must hold without running tests; writes nothing.
    Verify,
    /// Write what `verify` looks at: formatting, generated documents.
    Fix {
        /// Only the documents.
        #[arg(long)]
        documents: bool,
    },
    /// Run the stages named, or all of them, each within its time.
    Test {
        /// Long versions: more seeds, more faults.
        #[arg(long)]
        all: bool,
        /// verify, unit, lab, clients-python, clients-redis, clients-kafka, clients-java, faults.
        stages: Vec<String>,
    },
    /// Compare with the peers on this machine.
    Bench {
        #[command(subcommand)]
        what: bench::Bench,
    },
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().task {
        Task::Verify => verify::run(),
        Task::Fix { documents } => verify::fix(documents),
        Task::Test { all, stages } => stages::run(&stages, all),
        Task::Bench { what } => bench::run(&what),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(message) => {
            eprintln!("xtask: {message}");
            ExitCode::FAILURE
        }
    }
}

/// The project's root directory.
fn root() -> PathBuf {
    let crate_directory = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    crate_directory
        .ancestors()
        .nth(2)
        .expect("the crate lies in crates/xtask")
        .to_owned()
}

/// Where cargo builds, and where everything else that is made belongs.
fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| root().join("target"), |dir| root().join(dir))
}
