//! `althing cluster …`: what the console's `/v1/admin` is asked.

use crate::http::{Console, ask};
use crate::{Failure, Outcome, failed, table};
use clap::{Args, Subcommand};
use node::admin::MemberStatus;
use node::{AdminCommand, AdminReply, Status};
use std::time::{Duration, Instant};

const ANSWER_TIME: Duration = Duration::from_secs(10);
const PROMOTED_TIME: Duration = Duration::from_secs(30);

/// What can be asked.
#[derive(Args)]
pub struct Options {
    #[command(subcommand)]
    what: What,
    #[command(flatten)]
    console: Console,
}

#[derive(Subcommand)]
enum What {
    /// Show members, shards and sessions as one node sees them
    Status {
        /// Print everything as JSON
        #[arg(long)]
        json: bool,
    },
    /// Show who is reachable, by whom each member is watched, and what it says of itself
    Members {
        /// Print everything as JSON
        #[arg(long)]
        json: bool,
    },
    /// Make the asked node, which must be fresh, join the cluster of SEED
    Join {
        /// An address between nodes (host:port) of any member, or several with commas between them
        seed: String,
    },
    /// Remove a member
    Leave {
        /// Its node id or its address between nodes
        node: String,
    },
    /// Let the asked stand-by take the place of the cluster that it follows
    Promote {
        /// Although that cluster was heard a moment ago, or nothing of a shard has come
        #[arg(long)]
        force: bool,
    },
    /// Hand the leadership of a shard to a member
    TransferLeader {
        /// `meta` or `tree`
        shard: String,
        /// Its node id or its address between nodes
        node: String,
    },
    /// Take a snapshot of a shard on the asked node now
    Snapshot {
        /// `meta` or `tree`
        shard: String,
    },
}

/// Asks, and prints the answer.
pub fn run(options: &Options) -> Outcome {
    let command = match &options.what {
        What::Status { json } => return status(&options.console.address, *json),
        What::Promote { force } => return promote(&options.console.address, *force),
        What::Members { json } => return members(&options.console.address, *json),
        What::Join { seed } => AdminCommand::Join { seed: seed.clone() },
        What::Leave { node } => AdminCommand::Leave { node: node.clone() },
        What::TransferLeader { shard, node } => AdminCommand::TransferLeader {
            shard: shard.clone(),
            to: node.clone(),
        },
        What::Snapshot { shard } => AdminCommand::Snapshot {
            shard: shard.clone(),
        },
    };
    match order(&options.console.address, &command)? {
        AdminReply::Done { message } => {
            println!("{message}");
            Ok(())
        }
        AdminReply::Refused { message } => Err(failed(format!("refused: {message}"))),
        other => Err(failed(format!(
            "the node answered something else: {other:?}"
        ))),
    }
}

pub fn order(console: &str, command: &AdminCommand) -> Result<AdminReply, Failure> {
    let body = serde_json::to_string(command)
        .map_err(|error| failed(format!("cannot write the order as JSON: {error}")))?;
    let (code, answer) = ask(console, "/v1/admin", Some(&body), ANSWER_TIME)?;
    serde_json::from_str(&answer).map_err(|_| not_understood(console, code, &answer))
}

pub fn not_understood(console: &str, code: u16, answer: &str) -> Failure {
    let short: String = answer.trim().chars().take(300).collect();
    failed(format!("{console} answers {code}: {short}"))
}

fn status(console: &str, json: bool) -> Outcome {
    let (code, answer) = ask(console, "/v1/status", None, ANSWER_TIME)?;
    let statuses: Vec<Status> =
        serde_json::from_str(&answer).map_err(|_| not_understood(console, code, &answer))?;
    if json {
        println!("{}", answer.trim_end());
    } else {
        print!("{}", describe(&statuses));
    }
    Ok(())
}

/// Promotes, and waits until writes are taken.
fn promote(console: &str, force: bool) -> Outcome {
    let statuses = |text: &str| serde_json::from_str::<Vec<Status>>(text);
    let (_, before) = ask(console, "/v1/status", None, ANSWER_TIME)?;
    let silent = statuses(&before).ok().and_then(|all| {
        let follows = all.into_iter().find_map(|status| status.follows)?;
        follows.shards.iter().map(|row| row.silent_ms).min()
    });
    let began = Instant::now();
    match order(console, &AdminCommand::Promote { force })? {
        AdminReply::Done { message } => println!("{message}"),
        AdminReply::Refused { message } => return Err(failed(format!("refused: {message}"))),
        other => {
            return Err(failed(format!(
                "the node answered something else: {other:?}"
            )));
        }
    }
    while began.elapsed() < PROMOTED_TIME {
        let (code, answer) = ask(console, "/v1/status", None, ANSWER_TIME)?;
        let all = statuses(&answer).map_err(|_| not_understood(console, code, &answer))?;
        if all.iter().all(|status| status.phase == "serving") {
            let took_ms = began.elapsed().as_millis() as u64;
            let outage_ms = silent.unwrap_or(0) + took_ms;
            println!(
                "writes are taken {took_ms} ms after the order; the outage was {outage_ms} ms"
            );
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Err(failed(
        "ordered, but the node does not take writes yet: look at `althing cluster status`",
    ))
}

fn members(console: &str, json: bool) -> Outcome {
    let (code, answer) = ask(console, "/v1/members", None, ANSWER_TIME)?;
    let members: Vec<MemberStatus> =
        serde_json::from_str(&answer).map_err(|_| not_understood(console, code, &answer))?;
    if json {
        println!("{}", answer.trim_end());
        return Ok(());
    }
    let fact = |member: &MemberStatus, name: &str| {
        let fact = member.facts.get(name).cloned();
        fact.unwrap_or_else(|| "-".into())
    };
    let rows: Vec<Vec<String>> = (members.iter())
        .map(|member| {
            let monitors = member.monitors.iter().map(|monitor| match monitor.heard {
                true => format!("{} φ {:.1}", short(&monitor.node), monitor.phi),
                false => format!("{} not heard", short(&monitor.node)),
            });
            vec![
                member.node.clone(),
                member.address.clone(),
                member.state.clone(),
                member.verdict.clone(),
                format!("{:.1} s", member.since_ms as f64 / 1_000.0),
                fact(member, "zone"),
                fact(member, "version"),
                monitors.collect::<Vec<_>>().join(", "),
            ]
        })
        .collect();
    let heads = [
        "MEMBER",
        "ADDRESS",
        "STATE",
        "IS",
        "SINCE",
        "ZONE",
        "VERSION",
        "WATCHED BY",
    ];
    print!("{}", table::render(&heads, &rows));
    Ok(())
}

/// The first letters of an id, for a narrow column.
fn short(id: &str) -> &str {
    id.get(..6).unwrap_or(id)
}

fn describe(statuses: &[Status]) -> String {
    let Some(first) = statuses.first() else {
        return "the node has no cores\n".into();
    };
    let or_none = |text: &str| if text.is_empty() { "none" } else { text }.to_owned();
    let mut out = format!(
        "cluster {}, asked node {} ({}, version {})\n",
        or_none(&first.cluster),
        first.node,
        first.phase,
        first.version
    );
    for status in statuses.iter().filter(|s| !s.waiting_for.is_empty()) {
        out.push_str(&format!(
            "core {} waits: {}\n",
            status.core, status.waiting_for
        ));
    }
    let low: Vec<&str> = (first.members.iter())
        .filter(|member| member.disk_low)
        .map(|member| member.address.as_str())
        .collect();
    if !low.is_empty() {
        let refused = statuses.iter().any(|status| status.additions_refused);
        out.push_str(&format!(
            "disk nearly full at {}: {}\n",
            low.join(", "),
            if refused {
                "writes that add data are refused"
            } else {
                "a majority has room, all writes are taken"
            }
        ));
    }
    if let Some(follows) = &first.follows {
        let rows: Vec<Vec<String>> = (statuses.iter())
            .flat_map(|status| status.follows.iter().flat_map(|f| &f.shards))
            .map(|row| {
                vec![
                    row.shard.clone(),
                    row.index.to_string(),
                    row.commit.saturating_sub(row.index).to_string(),
                    format!("{} ms ago", row.silent_ms),
                ]
            })
            .collect();
        let verb = if follows.promoted {
            "followed"
        } else {
            "follows"
        };
        let heads = ["SHARD", "AT", "ENTRIES BEHIND", "PRIMARY HEARD"];
        let cluster = &follows.cluster;
        out.push_str(&format!(
            "{verb} cluster {cluster}\n\n{}",
            table::render(&heads, &rows)
        ));
    }
    let members: Vec<Vec<String>> = first
        .members
        .iter()
        .map(|member| {
            vec![
                member.node.clone(),
                member.address.clone(),
                member.state.clone(),
                if member.this_node {
                    "this node".into()
                } else if member.reachable {
                    "reachable".into()
                } else {
                    format!("silent for {:.1} s", member.silent_ms as f64 / 1_000.0)
                },
            ]
        })
        .collect();
    out.push('\n');
    out.push_str(&table::render(
        &["MEMBER", "ADDRESS", "STATE", "HEARD FROM"],
        &members,
    ));
    let shards: Vec<Vec<String>> = statuses
        .iter()
        .flat_map(|status| &status.shards)
        .map(|shard| {
            let mut role = shard.role.clone();
            if !shard.fault.is_empty() {
                role = format!("{role} ({})", shard.fault);
            }
            vec![
                shard.name.clone(),
                or_none(&shard.leader),
                shard.term.to_string(),
                shard.applied.to_string(),
                shard.lag.to_string(),
                shard.snapshot.to_string(),
                shard.replicas.len().to_string(),
                role,
            ]
        })
        .collect();
    out.push('\n');
    out.push_str(&table::render(
        &[
            "SHARD",
            "LEADER",
            "TERM",
            "APPLIED",
            "LAG",
            "SNAPSHOT",
            "REPLICAS",
            "ROLE HERE",
        ],
        &shards,
    ));
    let pools: Vec<Vec<String>> = (first.pools.iter())
        .map(|pool| {
            let copies = match pool.policy.as_str() {
                "single" => "one copy",
                _ => "a majority",
            };
            vec![
                pool.name.clone(),
                copies.into(),
                pool.durability.clone(),
                pool.slots.len().to_string(),
                if pool.holds_cache { "cache" } else { "" }.into(),
            ]
        })
        .collect();
    if !pools.is_empty() {
        let heads = ["POOL", "ACKNOWLEDGED BY", "ON DISK", "SHARDS", "KEYS"];
        out.push('\n');
        out.push_str(&table::render(&heads, &pools));
    }
    if let Some(tree) = statuses.iter().find_map(|status| status.tree.as_ref()) {
        out.push_str(&format!(
            "\ntree: {}, {}; {} and {} here; zxid 0x{:x}\n",
            counted(tree.znodes, "node"),
            counted(tree.sessions, "session"),
            counted(tree.connections, "connection"),
            counted(tree.watches, "watch"),
            tree.zxid
        ));
    }
    let caches = || statuses.iter().filter_map(|status| status.cache.as_ref());
    if caches().next().is_some() {
        out.push_str(&format!(
            "cache: {} and {} here\n",
            counted(caches().map(|c| c.keys).sum(), "key"),
            counted(caches().map(|c| c.clients).sum(), "client"),
        ));
    }
    out
}

fn counted(n: u64, what: &str) -> String {
    match (n, what.ends_with("ch")) {
        (1, _) => format!("1 {what}"),
        (_, true) => format!("{n} {what}es"),
        (_, false) => format!("{n} {what}s"),
    }
}
