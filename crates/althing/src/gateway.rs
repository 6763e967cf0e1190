//! `althing gateway …` and `althing switch …`.

use crate::cluster::{not_understood, order};
use crate::http::{Console, ask};
use crate::{Failure, Outcome, failed, table};
use clap::{Args, Subcommand};
use node::{AdminCommand, AdminReply};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use traffic::degrade::{Level, Switch};
use traffic::report::GatewayReport;

const ANSWER_TIME: Duration = Duration::from_secs(10);
/// A switch is seen by the asked node after this time, or nobody knows.
const SWITCH_TIME: Duration = Duration::from_secs(5);

/// What can be asked of a gateway.
#[derive(Subcommand)]
pub enum Mode {
    /// Say whether a file of routes can be used, and if not, what is wrong where
    Check {
        /// The file (TOML)
        file: PathBuf,
    },
    /// Make a node's gateway read its file again now; no request is dropped
    Reload(Console),
    /// Forget kept answers
    Purge {
        /// Only of this route
        #[arg(long, default_value = "")]
        route: String,
        /// Only those whose paths begin so
        #[arg(default_value = "")]
        path: String,
        #[command(flatten)]
        console: Console,
    },
    /// Show routes and servers as one node sees them
    Status {
        #[command(flatten)]
        console: Console,
        /// Print everything as JSON
        #[arg(long)]
        json: bool,
    },
}

/// Switches.
#[derive(Args)]
pub struct SwitchOptions {
    #[command(subcommand)]
    what: SwitchMode,
    #[command(flatten)]
    console: Console,
}

#[derive(Subcommand)]
enum SwitchMode {
    /// Show the switches that are set
    List,
    /// Set a route's switch on all nodes
    Set {
        /// The route
        name: String,
        /// on: its fallback answers; off: it does not, whatever is measured; auto: the level decides; or a level
        #[arg(value_parser = value_named)]
        value: String,
    },
}

fn value_named(text: &str) -> Result<String, String> {
    match Switch::named(text) {
        Some(_) => Ok(text.to_owned()),
        None => Err(format!(
            "it is none of on, off, auto, {}",
            Level::ALL.map(Level::name).join(", ")
        )),
    }
}

/// `althing gateway …`.
pub fn run(mode: &Mode) -> Outcome {
    match mode {
        Mode::Check { file } => {
            let plan = host::gateway::read(file).map_err(Failure::Usage)?;
            println!("{}: can be used", file.display());
            for route in &plan.routes {
                println!(
                    "  {:<20} {}{} to {}",
                    route.name,
                    route.host.as_deref().unwrap_or("*"),
                    route.path,
                    route.upstream.get_ref()
                );
            }
            Ok(())
        }
        Mode::Reload(console) => gateway_order(&console.address, r#"{"order":"reload"}"#),
        Mode::Purge {
            route,
            path,
            console,
        } => {
            let order = serde_json::json!({ "order": "purge", "route": route, "path": path });
            gateway_order(&console.address, &order.to_string())
        }
        Mode::Status { console, json } => status(&console.address, *json),
    }
}

fn gateway_order(console: &str, body: &str) -> Outcome {
    let (code, answer) = ask(console, "/v1/gateway", Some(body), ANSWER_TIME)?;
    match serde_json::from_str(&answer) {
        Ok(AdminReply::Done { message }) => {
            println!("{message}");
            Ok(())
        }
        Ok(AdminReply::Refused { message }) => Err(failed(format!("refused: {message}"))),
        _ => Err(not_understood(console, code, &answer)),
    }
}

fn status(console: &str, json: bool) -> Outcome {
    let (code, answer) = ask(console, "/v1/gateway", None, ANSWER_TIME)?;
    let report: GatewayReport =
        serde_json::from_str(&answer).map_err(|_| not_understood(console, code, &answer))?;
    if json {
        println!("{}", answer.trim_end());
        return Ok(());
    }
    println!("gateway on {}, routes of {}", report.address, report.file);
    if !report.refused.is_empty() {
        println!("the file as it is now was not taken: {}", report.refused);
    }
    let routes: Vec<Vec<String>> = (report.routes.iter())
        .map(|route| {
            let raised = (route.alarms.named().into_iter())
                .filter_map(|(name, is_raised)| is_raised.then_some(name));
            let raised: Vec<&str> = raised.collect();
            vec![
                route.name.clone(),
                route.matches.clone(),
                format!("{:.1}", route.rate),
                route.errors.to_string(),
                route.refused.to_string(),
                format!("{:.1}", route.p99_us as f64 / 1_000.0),
                format!("{:.0} %", route.saturation * 100.0),
                route.level.name().into(),
                route.switch.clone(),
                if route.degraded {
                    "fallback"
                } else {
                    "servers"
                }
                .into(),
                raised.join(" "),
            ]
        })
        .collect();
    print!(
        "\n{}",
        table::render(
            &[
                "ROUTE",
                "FOR",
                "A SECOND",
                "ERRORS",
                "REFUSED",
                "P99 MS <",
                "SATURATION",
                "LEVEL",
                "SWITCH",
                "ANSWERED BY",
                "ALARMS"
            ],
            &routes
        )
    );
    let servers: Vec<Vec<String>> = (report.upstreams.iter())
        .flat_map(|upstream| {
            upstream.servers.iter().map(|server| {
                vec![
                    upstream.name.clone(),
                    server.address.clone(),
                    server.health.clone(),
                    server.breaker.clone(),
                    server.in_flight.to_string(),
                    server.requests.to_string(),
                    server.errors.to_string(),
                ]
            })
        })
        .collect();
    let heads = [
        "GROUP",
        "SERVER",
        "HEALTH",
        "BREAKER",
        "IN FLIGHT",
        "REQUESTS",
        "ERRORS",
    ];
    print!("\n{}", table::render(&heads, &servers));
    Ok(())
}

/// `althing switch …`.
pub fn switch(options: &SwitchOptions) -> Outcome {
    let console = options.console.address.as_str();
    match &options.what {
        SwitchMode::List => {
            let rows: Vec<Vec<String>> = (switches(console)?.into_iter())
                .map(|(name, value)| vec![name, value])
                .collect();
            match rows.is_empty() {
                true => println!("no switch is set: all are auto"),
                false => print!("{}", table::render(&["SWITCH", "SET TO"], &rows)),
            }
            Ok(())
        }
        SwitchMode::Set { name, value } => set(console, name, value),
    }
}

fn switches(console: &str) -> Result<BTreeMap<String, String>, Failure> {
    match order(console, &AdminCommand::Switches)? {
        AdminReply::Switches { switches } => Ok(switches),
        other => Err(failed(format!(
            "the node answered something else: {other:?}"
        ))),
    }
}

/// Sets it, and waits until the asked node has it from the log.
fn set(console: &str, name: &str, value: &str) -> Outcome {
    let command = AdminCommand::SetSwitch {
        name: name.to_owned(),
        value: value.to_owned(),
    };
    if let AdminReply::Refused { message } = order(console, &command)? {
        return Err(failed(format!("refused: {message}")));
    }
    let wanted = (value != Switch::Auto.name()).then_some(value);
    let deadline = Instant::now() + SWITCH_TIME;
    while Instant::now() < deadline {
        if switches(console)?.get(name).map(String::as_str) == wanted {
            println!("{name} is set to {value}");
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Err(failed(format!(
        "whether {name} was set is not known: {console} has not heard of it within {SWITCH_TIME:?}; is a majority of the nodes up? \
         Ask again with `althing switch list`"
    )))
}
