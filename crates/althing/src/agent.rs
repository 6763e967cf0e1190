//! `althing agent`: runs jobs' tasks on a machine that is no node.

use crate::signals::signals;
use crate::{Failure, Outcome, failed};
use clap::Args;
use host::{Agent, AgentConfig, AgentPlan};
use scheduling::Resources;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;

/// Flags of `althing agent`.
#[derive(Args)]
pub struct Options {
    /// Consoles of the cluster's nodes, with commas; the first that answers is asked
    #[arg(long, value_name = "HOST:PORT", required = true, value_delimiter = ',')]
    join: Vec<String>,
    /// Where tasks and the agent's identity are kept
    #[arg(long, value_name = "DIR", default_value = "./althing-agent")]
    data: PathBuf,
    /// Where nodes fetch logs; they must reach this address
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Allow listening beyond loopback: whoever reaches it can read the tasks' logs
    #[arg(long)]
    insecure: bool,
    /// A name for people (default: the address)
    #[arg(long)]
    name: Option<String>,
    /// The failure domain
    #[arg(long, default_value = "")]
    zone: String,
    /// What tasks may ask for; several times
    #[arg(long = "attribute", value_name = "NAME=VALUE", value_parser = pair)]
    attributes: Vec<(String, String)>,
    /// A package that is there; several times
    #[arg(long = "package", value_name = "NAME")]
    packages: Vec<String>,
    /// What it has to give, thousandths of a processor (default, for all three: what the machine has)
    #[arg(long, requires = "memory_mib", requires = "disk_mib")]
    cpu_milli: Option<u64>,
    /// What it has to give, memory
    #[arg(long, requires = "cpu_milli")]
    memory_mib: Option<u64>,
    /// What it has to give, disk
    #[arg(long, requires = "cpu_milli")]
    disk_mib: Option<u64>,
    /// From one beat to the next, milliseconds
    #[arg(long, default_value_t = 1_000)]
    beat_ms: u32,
    /// So many beats missed, and it is lost
    #[arg(long, default_value_t = 3)]
    misses: u32,
    /// Do not limit tasks by control groups, also where the machine allows it
    #[arg(long)]
    no_cgroups: bool,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let parts = text.split_once('=');
    let (name, value) = parts.ok_or("an attribute is NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// Runs until SIGINT or SIGTERM, then ends its tasks and leaves.
pub fn run(options: &Options) -> Outcome {
    if !options.listen.ip().is_loopback() && !options.insecure {
        return Err(Failure::Usage(format!(
            "--listen {} is beyond loopback, and there is no TLS: say --insecure if the network is yours alone",
            options.listen
        )));
    }
    let signals = signals()?;
    let listener = TcpListener::bind(options.listen)
        .map_err(|error| failed(format!("cannot listen on {}: {error}", options.listen)))?;
    let address = listener
        .local_addr()
        .map_err(|error| failed(error.to_string()))?
        .to_string();
    let amounts = (options.cpu_milli.zip(options.memory_mib)).zip(options.disk_mib);
    let plan = AgentPlan {
        beat_ms: options.beat_ms,
        misses: options.misses,
        ..AgentPlan::default()
    };
    plan.check().map_err(Failure::Usage)?;
    let config = AgentConfig {
        consoles: options.join.clone(),
        name: (options.name.clone()).unwrap_or_else(|| address.replace([':', '[', ']'], "-")),
        address,
        zone: options.zone.clone(),
        attributes: options.attributes.iter().cloned().collect(),
        packages: options.packages.iter().cloned().collect(),
        resources: amounts.map(|((cpu, memory), disk)| {
            let bytes = |mib: u64| mib.saturating_mul(1 << 20);
            Resources::new(cpu, bytes(memory), bytes(disk))
        }),
        directory: options.data.clone(),
        beat_ms: plan.beat_ms,
        misses: plan.misses,
        log_bytes_max: plan.log_bytes_max,
        cgroups: !options.no_cgroups,
    };
    let agent = Agent::start_alone(config, listener).map_err(|error| {
        failed(format!(
            "cannot run an agent in {}: {error}",
            options.data.display()
        ))
    })?;
    // Whichever it is, it ends in order; without the channel nobody could say so.
    let _ = signals.recv();
    drop(agent);
    Ok(())
}
