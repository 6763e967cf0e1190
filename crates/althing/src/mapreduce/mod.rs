//! `althing mapreduce`: any commands as mapper and reducer, over lines.
//!
//! The command is the coordinator: it divides the input, serves it, keeps account of who does what (which
//! `computing` decides), and publishes the output. Workers are processes that need nothing but its address: they
//! read their input from it, keep what they mapped on their own disk, fetch each other's, and hand in what they
//! reduced. So a worker may be on another machine, without a file system that both see: started by hand, or by
//! a cluster, as the task of a job.

mod command;
mod coordinator;
mod lines;
mod map;
mod reduce;
mod wire;
mod worker;
mod workers;

use crate::{Failure, Outcome, failed};
use clap::{Args, Subcommand};
use std::net::SocketAddr;
use std::path::PathBuf;

/// `althing mapreduce`.
#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Options {
    #[command(subcommand)]
    mode: Option<Mode>,
    #[command(flatten)]
    job: JobOptions,
}

#[derive(Subcommand, Debug)]
enum Mode {
    /// Work for a job whose coordinator runs elsewhere; its token is expected in ALTHING_MAPREDUCE_TOKEN
    Worker(WorkerOptions),
}

/// A job.
#[derive(Args, Debug, Clone)]
struct JobOptions {
    /// Reads lines of the input, writes lines; run by `sh -c`
    #[arg(long, value_name = "COMMAND", required = true)]
    mapper: Option<String>,
    /// Reads lines sorted by key (what stands before the first tab), writes lines
    #[arg(long, value_name = "COMMAND", required = true)]
    reducer: Option<String>,
    /// Reads sorted lines of one mapper, writes fewer of the same keys
    #[arg(long, value_name = "COMMAND")]
    combiner: Option<String>,
    /// Into how many splits the input is divided
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    maps: u32,
    /// Into how many files the output goes
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    reduces: u32,
    /// Files; may be said several times
    #[arg(long, value_name = "FILE", required = true, num_args = 1..)]
    input: Vec<PathBuf>,
    /// A directory that does not exist yet, or is empty
    #[arg(long, value_name = "DIRECTORY", required = true)]
    output: Option<PathBuf>,
    /// Worker processes that are started here; 0 waits for workers from elsewhere
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(0..=256))]
    workers: u32,
    /// Run the workers as tasks of a job, on the cluster that this node's console is of; the program has to be at
    /// the same path on each machine
    #[arg(long, value_name = "HOST:PORT")]
    on: Option<String>,
    /// Begin nothing a second time because it is slow
    #[arg(long)]
    no_speculation: bool,
    /// A mapper's output is sorted and written to disk when it has so many bytes
    #[arg(long, value_name = "BYTES", default_value_t = 64 << 20, value_parser = clap::value_parser!(u64).range(1024..=1 << 32))]
    sort_buffer: u64,
    /// A worker that is not heard of for so long is lost
    #[arg(long, value_name = "MS", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(500..=3_600_000))]
    worker_timeout_ms: u64,
    /// Where workers reach the coordinator
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Listen beyond this machine, in the clear: who knows the token can read the input and change the output
    #[arg(long)]
    insecure: bool,
    /// Where workers keep what they mapped [default: the system's directory for temporary files]
    #[arg(long, value_name = "DIRECTORY")]
    scratch: Option<PathBuf>,
    /// Tell of each task and worker on standard error
    #[arg(long)]
    progress: bool,
}

/// A worker.
#[derive(Args, Debug, Clone)]
struct WorkerOptions {
    /// The coordinator
    #[arg(long, value_name = "ADDRESS")]
    coordinator: SocketAddr,
    /// Where it keeps what it mapped, in a directory of its own that is removed at its end
    #[arg(long, value_name = "DIRECTORY")]
    scratch: PathBuf,
}

/// Runs a job, or a worker of one.
pub fn run(options: &Options) -> Outcome {
    match &options.mode {
        Some(Mode::Worker(worker)) => {
            let token = std::env::var(wire::TOKEN).map_err(|_| {
                Failure::Usage(format!(
                    "{} is not set: the coordinator says it",
                    wire::TOKEN
                ))
            })?;
            worker::run(worker.coordinator, &worker.scratch, &token).map_err(failed)
        }
        None => coordinator::run(&options.job),
    }
}
