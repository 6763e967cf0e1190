//! `althing stream`: topologies that stay, over topics of the cluster.
//!
//! A stream's processes meet in the tree, below `/streams/NAME`: its topology, who leads it, which workers there are,
//! its last checkpoint. `stream run` keeps workers alive and stands ready to lead; there may be several, on several
//! machines. What is decided is decided by `computing::stream`; here are sockets, files and processes.

mod inbox;
mod lead;
mod ledger;
mod run;
mod show;
mod store;
mod tree;
mod wire;
mod worker;

use crate::http::Consoles;
use crate::{Failure, Outcome, failed};
use clap::{Args, Subcommand};
use std::io::{self, Read};
use std::net::SocketAddr;
use std::path::PathBuf;
use store::Store;
use tree::Tree;

/// `althing stream`.
#[derive(Args)]
pub struct Options {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    cluster: Cluster,
}

/// Where the cluster is.
#[derive(Args, Clone)]
struct Cluster {
    /// Where ZooKeeper's clients are served, with commas
    #[arg(
        long,
        value_name = "HOST:PORT,…",
        default_value = "127.0.0.1:2181",
        global = true
    )]
    server: String,
    /// Where Kafka's clients are served, with commas
    #[arg(
        long,
        value_name = "HOST:PORT,…",
        default_value = "127.0.0.1:9092",
        value_delimiter = ',',
        global = true
    )]
    kafka: Vec<String>,
    #[command(flatten)]
    consoles: Consoles,
    /// A process that the tree has not heard of for so long is lost
    #[arg(long, value_name = "MS", default_value_t = 6_000, global = true, value_parser = clap::value_parser!(u32).range(1_000..=600_000))]
    session_ms: u32,
}

#[derive(Subcommand)]
enum Verb {
    /// Run a topology until it is stopped; several may be run for one stream, and one of them leads
    Run(RunOptions),
    /// Show how a stream fares
    Status {
        /// Its name
        name: String,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// End a stream behind a last checkpoint, from which `run` goes on
    Stop {
        /// Its name
        name: String,
    },
    /// Forget a stream that does not run: its topology, its checkpoint and its state
    Forget {
        /// Its name
        name: String,
    },
    /// A worker; `run` starts it
    #[command(hide = true)]
    Worker {
        /// The stream's name
        name: String,
        /// Where it is reached; else where it reaches the cluster from
        #[arg(long)]
        listen: Option<SocketAddr>,
        /// End when standard input does
        #[arg(long)]
        until_stdin_ends: bool,
    },
    /// One that stands ready to lead a stream whose topology is known; jobs start it
    #[command(hide = true)]
    Master {
        /// The stream's name
        name: String,
    },
}

#[derive(Args, Clone)]
struct RunOptions {
    /// The topology (TOML)
    file: PathBuf,
    /// Workers that are started here [default: as many as the topology says]; 0 waits for those of others
    #[arg(long, value_parser = clap::value_parser!(u32).range(0..=64))]
    workers: Option<u32>,
    /// Where workers are reached by the others
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Let them be reached from beyond their machine, in the clear: who knows the stream's token can send records. With
    /// --on-cluster each listens where it reaches the cluster from, and else on loopback
    #[arg(long)]
    insecure: bool,
    /// Let the cluster run it, as a job: two that stand ready to lead, and the workers. The program has to be at the same
    /// path on each machine. This command ends then
    #[arg(long, conflicts_with_all = ["workers", "listen"])]
    on_cluster: bool,
    /// Tell what happens on standard error
    #[arg(long)]
    progress: bool,
}

/// Where a stream's things are.
#[derive(Clone)]
pub struct Where {
    name: String,
    server: String,
    kafka: Vec<String>,
    consoles: Vec<String>,
    session_ms: u32,
}

impl Where {
    fn new(cluster: &Cluster, name: &str) -> Self {
        Self {
            name: name.to_owned(),
            server: cluster.server.clone(),
            kafka: cluster.kafka.clone(),
            consoles: cluster.consoles.addresses.clone(),
            session_ms: cluster.session_ms,
        }
    }

    fn tree(&self) -> Tree {
        Tree::new(&self.server, self.session_ms)
    }

    fn store(&self) -> Store {
        Store::new(&self.consoles, &self.name)
    }

    /// What another process needs to find them.
    fn arguments(&self) -> Vec<String> {
        vec![
            "--server".to_owned(),
            self.server.clone(),
            "--kafka".to_owned(),
            self.kafka.join(","),
            "--console".to_owned(),
            self.consoles.join(","),
            "--session-ms".to_owned(),
            self.session_ms.to_string(),
        ]
    }
}

/// A stream's nodes in the tree.
mod paths {
    /// Above all streams.
    pub const ALL: &str = "/streams";

    /// The topology's text.
    pub fn stream(name: &str) -> String {
        format!("{ALL}/{name}")
    }

    /// Who leads, while it does.
    pub fn master(name: &str) -> String {
        format!("{ALL}/{name}/master")
    }

    /// Above the workers.
    pub fn workers(name: &str) -> String {
        format!("{ALL}/{name}/workers")
    }

    /// A worker, while it is there.
    pub fn worker(name: &str, worker: &str) -> String {
        format!("{ALL}/{name}/workers/{worker}")
    }

    /// The record of the last checkpoint.
    pub fn checkpoint(name: &str) -> String {
        format!("{ALL}/{name}/checkpoint")
    }

    /// What is wanted: `running`, `stopping`, `stopped`.
    pub fn state(name: &str) -> String {
        format!("{ALL}/{name}/state")
    }

    /// What the stream's processes know each other by.
    pub fn token(name: &str) -> String {
        format!("{ALL}/{name}/token")
    }
}

/// Twelve random bytes, as text.
fn random() -> io::Result<String> {
    let mut bytes = [0; 12];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Does it.
pub fn run(options: &Options) -> Outcome {
    let place = |name: &str| Where::new(&options.cluster, name);
    match &options.verb {
        Verb::Run(run) => run::run(&options.cluster, run),
        Verb::Status { name, json } => show::status(&place(name), *json).map_err(failed),
        Verb::Stop { name } => run::stop(&place(name)).map_err(failed),
        Verb::Forget { name } => run::forget(&place(name)).map_err(failed),
        Verb::Worker {
            name,
            listen,
            until_stdin_ends,
        } => worker::run(&place(name), *listen, *until_stdin_ends).map_err(failed),
        Verb::Master { name } => run::master(&place(name)),
    }
}

fn usage(words: String) -> Failure {
    Failure::Usage(words)
}
