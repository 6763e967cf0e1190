//! `althing`: flags, configuration, wiring. Each mode is a function of a module.

mod actor;
mod agent;
mod cluster;
mod config;
mod dev;
mod fs;
mod gateway;
mod global;
mod group;
mod http;
mod job;
mod kafka;
mod laboratory;
mod lock;
mod mapreduce;
mod patterns;
mod pipeline;
mod redis;
mod service;
mod signals;
mod stream;
mod table;
mod topic;
mod tree;
mod txn;
mod zookeeper;

use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

/// Why a mode failed, which decides the exit code.
#[derive(Debug)]
pub enum Failure {
    /// What was asked cannot be asked like this: exit code 2.
    Usage(String),
    /// It was tried and failed: exit code 1.
    Failed(String),
    /// Whether it was done is not known: exit code 3.
    Unknown(String),
    /// An exit code with a meaning of its own, and words where there is something to say.
    Exit(u8, Option<String>),
}

impl Failure {
    /// What is said of it.
    pub fn words(self) -> String {
        match self {
            Self::Usage(words) | Self::Failed(words) | Self::Unknown(words) => words,
            Self::Exit(_, words) => words.unwrap_or_default(),
        }
    }
}

/// What every mode ends with.
pub type Outcome = Result<(), Failure>;

/// Shorthand for [`Failure::Failed`].
pub fn failed(message: impl Into<String>) -> Failure {
    Failure::Failed(message.into())
}

#[derive(Parser)]
#[command(
    name = "althing",
    version,
    about = "A coordination service for ZooKeeper clients in one small binary",
    after_help = "Start here:  althing dev\nThen:        althing tree create /hello world && althing tree get /hello"
)]
struct Cli {
    #[command(subcommand)]
    mode: Mode,
}

#[derive(Subcommand)]
enum Mode {
    /// Run a node, or a small cluster, on this machine for development
    Dev(dev::Options),
    /// Run one node as a configuration file says
    Serve {
        /// The configuration file (TOML)
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Join the cluster of one of these members (host:port between nodes), unless the node is of one already
        #[arg(long, value_name = "SEED", value_delimiter = ',')]
        join: Vec<String>,
        /// Follow the cluster of one of these members (host:port between nodes) as its warm stand-by
        #[arg(long, value_name = "PRIMARY", value_delimiter = ',')]
        standby_of: Vec<String>,
        /// Stop when standard input ends; `althing dev` runs its nodes with it
        #[arg(long, hide = true)]
        until_stdin_ends: bool,
    },
    /// Look at a configuration before it is used
    #[command(subcommand)]
    Config(ConfigMode),
    /// Look at a cluster and change it
    Cluster(cluster::Options),
    /// Check routes, make a node read them again, see how they fare
    #[command(subcommand)]
    Gateway(gateway::Mode),
    /// Send routes to their fallbacks on all nodes, or back
    Switch(gateway::SwitchOptions),
    /// Services: list, register, deregister, watch
    Service(service::Options),
    /// Read and write the tree as a ZooKeeper client
    Tree(tree::Options),
    /// Do several things to the cache, topics and the tree, all or none of them
    Txn(txn::Options),
    /// Global transactions of services: list, show, retry, stop
    Global(global::Options),
    /// Topics of Kafka's clients
    Topic(topic::TopicOptions),
    /// Groups of nodes that lock, elect or agree by a protocol of choice; consumer groups of Kafka's clients
    Group(group::Options),
    /// Hold a lock on the tree, on the cache or on a table, and run a command under it
    #[command(after_help = lock::EXIT_CODES)]
    Lock(lock::Options),
    /// Any commands as mapper and reducer over lines, on several workers
    #[command(name = "mapreduce")]
    MapReduce(mapreduce::Options),
    /// Run stages from a file at the same time
    Pipeline(pipeline::Options),
    /// Streams: operators over topics, in windows, with checkpoints
    Stream(stream::Options),
    /// Divide one job in different ways, and compare
    Patterns(patterns::Options),
    /// Put, get and look at files
    Fs(fs::Options),
    /// Jobs: run, show, follow, stop
    Job(job::Options),
    /// Actors of names: start, list, tell, ask, stop
    #[command(after_help = actor::EXIT_CODES)]
    Actor(actor::Options),
    /// Run jobs' tasks on this machine, without being a node
    Agent(agent::Options),
    /// The agents that run jobs' tasks, and what they have left
    Agents(job::AgentOptions),
    /// The supervisor of a task; agents start it
    #[command(hide = true)]
    Supervise {
        /// The task's directory
        directory: PathBuf,
    },
    /// Simulate what is shipped, under faults, from a seed
    #[command(subcommand, after_help = LAB_HELP)]
    Lab(LabMode),
    /// What an algorithm of the lab does, costs and promises, and when to choose it
    Explain {
        /// Its name, as `althing lab list` tells it
        algorithm: String,
    },
}

/// Comparisons that are worth a look.
const LAB_HELP: &str = "Try:
  althing lab list
  althing lab compare centralized lamport ricart-agrawala majority maekawa token-ring
  althing lab compare bully chang-roberts zab raft --faults crash
  althing lab compare 2pc 3pc tcc saga-backward --faults crash
  althing lab compare heartbeat phi-accrual swim --faults death";

#[derive(Subcommand)]
enum LabMode {
    /// Whole nodes with clients under crashes, partitions, disk faults, pauses and clock steps
    Cluster(lab::ClusterArgs),
    /// The same jobs under one scheduler, offers on two levels and shared state; or by each rule of placement
    Schedule(lab::ScheduleArgs),
    #[command(flatten)]
    Algorithm(lab::peers::verbs::Verb),
}

#[derive(Subcommand)]
enum ConfigMode {
    /// Say whether a configuration file can be used, and if not, what is wrong where
    Check {
        /// The configuration file (TOML)
        file: PathBuf,
    },
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().mode {
        Mode::Dev(options) => dev::run(&options),
        Mode::Serve {
            config,
            join,
            standby_of,
            until_stdin_ends,
        } => dev::serve(&config, (join, standby_of), until_stdin_ends),
        Mode::Config(ConfigMode::Check { file }) => config::check(&file),
        Mode::Cluster(options) => cluster::run(&options),
        Mode::Gateway(mode) => gateway::run(&mode),
        Mode::Switch(options) => gateway::switch(&options),
        Mode::Service(options) => service::run(&options),
        Mode::Tree(options) => tree::run(options),
        Mode::Txn(options) => txn::run(&options),
        Mode::Global(options) => global::run(&options),
        Mode::Topic(options) => topic::run_topic(&options),
        Mode::Group(options) => group::run(&options),
        Mode::Lock(options) => lock::run(options),
        Mode::MapReduce(options) => mapreduce::run(&options),
        Mode::Pipeline(options) => pipeline::run(&options),
        Mode::Stream(options) => stream::run(&options),
        Mode::Patterns(options) => patterns::run(&options),
        Mode::Fs(options) => fs::run(&options),
        Mode::Job(options) => job::run(&options),
        Mode::Actor(options) => actor::run(&options),
        Mode::Agent(options) => agent::run(&options),
        Mode::Agents(options) => job::agents(&options),
        Mode::Supervise { directory } => host::supervise(&directory).map_err(failed),
        Mode::Lab(LabMode::Cluster(args)) => return lab::cluster(&args),
        Mode::Lab(LabMode::Schedule(args)) => lab::schedule(&args).map_err(Failure::Usage),
        Mode::Lab(LabMode::Algorithm(verb)) => match lab::peers::verbs::lab(&verb) {
            Ok(true) => Ok(()),
            Ok(false) => return ExitCode::FAILURE,
            Err(why) => Err(Failure::Usage(why)),
        },
        Mode::Explain { algorithm } => {
            lab::peers::verbs::explain(&algorithm).map_err(Failure::Usage)
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Failed(message)) => {
            eprintln!("althing: {message}");
            ExitCode::from(1)
        }
        Err(Failure::Unknown(message)) => {
            eprintln!("althing: {message}");
            ExitCode::from(3)
        }
        Err(Failure::Usage(message)) => {
            eprintln!("althing: {message}");
            ExitCode::from(2)
        }
        Err(Failure::Exit(code, message)) => {
            if let Some(message) = message {
                eprintln!("althing: {message}");
            }
            ExitCode::from(code)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn flags_are_consistent() {
        Cli::command().debug_assert();
    }
}
