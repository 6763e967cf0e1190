//! `althing global`: global transactions of services, by DTM's interface.

use crate::http::{Body, exchange};
use crate::service::encoded;
use crate::{Failure, Outcome, failed, table};
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::time::Duration;

/// A little more than a node takes to give up.
const ANSWER_TIME: Duration = Duration::from_secs(35);

/// What is asked for.
#[derive(Args)]
pub struct Options {
    #[command(subcommand)]
    mode: Mode,
    /// The node that is asked: where it takes global transactions
    #[arg(
        long,
        value_name = "HOST:PORT",
        default_value = "127.0.0.1:36789",
        global = true
    )]
    server: String,
    /// Print the answer as JSON, as it came
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand)]
enum Mode {
    /// Those that are there, by gid
    List {
        /// Only parked ones: they wait for a person
        #[arg(long)]
        parked: bool,
        /// Only those in this state: prepared, submitted, aborting, succeed, failed
        #[arg(long, value_name = "STATE")]
        status: Option<String>,
        /// At most so many
        #[arg(long, default_value_t = 100)]
        limit: usize,
        /// Behind this gid
        #[arg(long, value_name = "GID", default_value = "")]
        after: String,
    },
    /// One, with its branches
    Show {
        /// Which
        gid: String,
    },
    /// Try at once what waits or is parked
    Retry {
        /// Which
        gid: String,
    },
    /// Give one up as it is: its branches are neither completed nor undone
    Stop {
        /// Which
        gid: String,
    },
}

/// Asks, and prints the answer.
pub fn run(options: &Options) -> Outcome {
    match &options.mode {
        Mode::List {
            parked,
            status,
            limit,
            after,
        } => {
            let path = format!(
                "/api/dtmsvr/all?parked={parked}&status={}&limit={limit}&position={}",
                encoded(status.as_deref().unwrap_or_default()),
                encoded(after)
            );
            let found = get(options, &path)?;
            if options.json {
                println!("{found}");
                return Ok(());
            }
            let rows = found["transactions"].as_array().map(Vec::as_slice);
            let row = |one: &Value| {
                let words = [text(one, "parked"), text(one, "rollback_reason")];
                let words = words.into_iter().find(|words| !words.is_empty());
                vec![
                    text(one, "gid"),
                    text(one, "trans_type"),
                    text(one, "status"),
                    text(one, "create_time"),
                    words.unwrap_or_default(),
                ]
            };
            let rows: Vec<Vec<String>> = rows.unwrap_or_default().iter().map(row).collect();
            print!(
                "{}",
                table::render(&["GID", "TYPE", "STATE", "BEGUN", "WHY"], &rows)
            );
            match text(&found, "next_position") {
                next if next.is_empty() => {}
                next => println!("there are more: --after {next}"),
            }
            Ok(())
        }
        Mode::Show { gid } => {
            let found = get(options, &format!("/api/dtmsvr/query?gid={}", encoded(gid)))?;
            if options.json {
                println!("{found}");
                return Ok(());
            }
            let one = &found["transaction"];
            if one.is_null() {
                return Err(failed(format!("there is no transaction {gid:?}")));
            }
            println!(
                "{} {} {}",
                text(one, "gid"),
                text(one, "trans_type"),
                text(one, "status")
            );
            for (name, key) in [
                ("begun", "create_time"),
                ("ended", "finish_time"),
                ("undone", "rollback_time"),
                ("next", "next_cron_time"),
                ("why", "rollback_reason"),
                ("parked", "parked"),
            ] {
                match text(one, key) {
                    value if value.is_empty() => {}
                    value => println!("  {name:<8}{value}"),
                }
            }
            let branches = found["branches"].as_array().map(Vec::as_slice);
            let row = |branch: &Value| {
                let attempts = branch["attempts"].to_string();
                let [id, op, status, url, error] =
                    ["branch_id", "op", "status", "url", "error"].map(|key| text(branch, key));
                vec![id, op, status, attempts, url, error]
            };
            let rows: Vec<Vec<String>> = branches.unwrap_or_default().iter().map(row).collect();
            let heads = [
                "BRANCH",
                "OPERATION",
                "STATE",
                "CALLS",
                "URL",
                "LAST ANSWER",
            ];
            print!("{}", table::render(&heads, &rows));
            Ok(())
        }
        Mode::Retry { gid } => change(options, "resetNextCronTime", gid, "it is tried at once"),
        Mode::Stop { gid } => change(
            options,
            "forceStop",
            gid,
            "it is stopped; its branches are as they were",
        ),
    }
}

fn change(options: &Options, what: &str, gid: &str, words: &str) -> Outcome {
    let body = json!({ "gid": gid }).to_string();
    let (code, answer) = ask(options, &format!("/api/dtmsvr/{what}"), Body::Post(&body))?;
    match (code, options.json) {
        (200, true) => println!("{}", answer.trim()),
        (200, false) => println!("{words}"),
        _ => return Err(failed(said(code, &answer))),
    }
    Ok(())
}

fn ask(options: &Options, path: &str, body: Body<'_>) -> Result<(u16, String), Failure> {
    let server = &options.server;
    let answer = exchange(server, path, body, ANSWER_TIME).map_err(|error| {
        failed(format!(
            "cannot ask {server}: {error}. Is the node running, and does it take global transactions there (--server HOST:PORT)?"
        ))
    })?;
    Ok((answer.code, answer.body))
}

fn get(options: &Options, path: &str) -> Result<Value, Failure> {
    let (code, answer) = ask(options, path, Body::None)?;
    match (code, serde_json::from_str(&answer)) {
        (200, Ok(value)) => Ok(value),
        _ => Err(failed(said(code, &answer))),
    }
}

/// What the node says went wrong.
fn said(code: u16, answer: &str) -> String {
    let value: Value = serde_json::from_str(answer).unwrap_or_default();
    match value["message"].as_str().or(value["error"].as_str()) {
        Some(words) => words.to_owned(),
        None => format!("the node answered {code}: {}", answer.trim()),
    }
}

fn text(value: &Value, key: &str) -> String {
    value[key].as_str().unwrap_or_default().to_owned()
}
