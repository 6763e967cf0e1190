//! `althing actor`: actors of names, wherever they run.

use crate::{Failure, Outcome, failed, table};
use actors::{CallError, Listed, Names, NamesError};
use clap::{Args, Subcommand};
use serde_json::Value;
use std::time::Duration;

/// What the exit codes mean.
pub const EXIT_CODES: &str = "Exit codes of tell and ask:
  1  not carried out
  3  not known whether it was, or the actor failed while it handled it

Hosts are programs over the library `actors`; try:
  cargo run -p actors --example counter
  althing actor start hits counter
  althing actor ask hits '{\"Add\":1}'";

/// What is asked for.
#[derive(Args)]
pub struct Options {
    #[command(subcommand)]
    mode: Mode,
    /// ZooKeeper addresses of the cluster
    #[arg(
        long,
        value_name = "HOST:PORT[,…]",
        default_value = "127.0.0.1:2181",
        env = "ALTHING_SERVER",
        global = true
    )]
    server: String,
    /// Give up after so many milliseconds
    #[arg(long, value_name = "MS", default_value_t = 10_000, global = true)]
    deadline_ms: u64,
}

#[derive(Subcommand)]
enum Mode {
    /// Those that shall be, who runs them, and how they fare
    List {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// From now on there shall be an actor of this name: a host that knows its kind runs it
    Start {
        /// Its name
        name: String,
        /// What it is; hosts say which kinds they know
        kind: String,
        /// What it is made from
        #[arg(long = "with", value_name = "JSON")]
        with: Option<String>,
    },
    /// There shall be no actor of this name any more
    Stop {
        /// Its name
        name: String,
        /// What it has kept is removed, too
        #[arg(long)]
        forget: bool,
    },
    /// Put a message into an actor's mailbox
    Tell {
        /// Its name
        name: String,
        /// The message
        #[arg(value_name = "JSON")]
        message: String,
    },
    /// Send a message to an actor, and print its answer
    Ask {
        /// Its name
        name: String,
        /// The message
        #[arg(value_name = "JSON")]
        message: String,
    },
}

/// Does it.
pub fn run(options: &Options) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| failed(format!("no runtime: {error}")))?;
    let deadline = Duration::from_millis(options.deadline_ms);
    runtime.block_on(async {
        let names = Names::connect(&options.server);
        let carried_out = carry_out(&names, &options.mode, deadline);
        match options.mode {
            // They have their own deadline, and say more about it.
            Mode::Tell { .. } | Mode::Ask { .. } => carried_out.await,
            _ => tokio::time::timeout(deadline, carried_out)
                .await
                .unwrap_or_else(|_| {
                    let why = format!(
                        "no answer from {} within {deadline:?}. Is it the cluster's ZooKeeper address (--server HOST:PORT[,…])?",
                        options.server
                    );
                    Err(Failure::Unknown(why))
                }),
        }
    })
}

async fn carry_out(names: &Names, mode: &Mode, deadline: Duration) -> Outcome {
    match mode {
        Mode::List { json } => {
            let all = names.list().await.map_err(refused)?;
            match json {
                true => println!("{}", Value::from_iter(all.iter().map(row))),
                false => print!("{}", rows(&all)),
            }
        }
        Mode::Start { name, kind, with } => {
            let with = with.as_deref().map_or(Ok(Value::Null), json)?;
            match names.want(name, kind, with).await.map_err(refused)? {
                true => println!("{name} is wanted"),
                false => return Err(failed(format!("there is an actor {name:?} already"))),
            }
        }
        Mode::Stop { name, forget } => match names.unwant(name, *forget).await.map_err(refused)? {
            true => println!("{name} is not wanted any more"),
            false => return Err(failed(format!("there is no actor {name:?}"))),
        },
        Mode::Tell { name, message } => {
            let told = names.tell(name, json(message)?, deadline).await;
            told.map_err(not_answered)?;
        }
        Mode::Ask { name, message } => {
            let answer = names.ask(name, json(message)?, deadline).await;
            println!("{}", answer.map_err(not_answered)?);
        }
    }
    Ok(())
}

fn json(text: &str) -> Result<Value, Failure> {
    serde_json::from_str(text)
        .map_err(|error| Failure::Usage(format!("{text:?} is no JSON: {error}")))
}

fn refused(error: NamesError) -> Failure {
    failed(error.to_string())
}

fn not_answered(error: CallError) -> Failure {
    match error {
        CallError::NotDone(_) => failed(error.to_string()),
        CallError::Failed(_) | CallError::Unknown(_) => Failure::Unknown(error.to_string()),
    }
}

fn row(one: &Listed) -> Value {
    serde_json::json!({
        "name": one.name,
        "kind": one.kind,
        "address": one.address,
        "generation": one.generation,
        "mailbox": one.mailbox,
        "restarts": one.restarts,
        "handled": one.handled,
    })
}

fn rows(all: &[Listed]) -> String {
    let heads = [
        "NAME",
        "KIND",
        "HOST",
        "GENERATION",
        "MAILBOX",
        "RESTARTS",
        "HANDLED",
    ];
    let rows: Vec<Vec<String>> = (all.iter())
        .map(|one| {
            let host = one.address.clone();
            let figures = [one.mailbox, one.restarts, one.handled];
            [
                one.name.clone(),
                one.kind.clone(),
                host.unwrap_or_else(|| "nobody".into()),
                one.generation.to_string(),
            ]
            .into_iter()
            .chain(figures.map(|figure| figure.to_string()))
            .collect()
        })
        .collect();
    table::render(&heads, &rows)
}
