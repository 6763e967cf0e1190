//! `althing group …`: protocols among equals between real nodes, through the console's `/v1/groups`; and Kafka's
//! consumer groups, which have the same name in their world (`topic`).

use crate::http::{Body, Console, ask, request};
use crate::{Failure, Outcome, failed, table, topic};
use base::peer::PeerId;
use clap::{Args, Subcommand};
use group::{Event, Kind, protocols};
use lab::peers::logs;
use node::admin::{GroupMember, GroupStatus};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

const ANSWER_TIME: Duration = Duration::from_secs(15);

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
    /// Make a group of nodes run a protocol
    Create {
        /// The group's name
        name: String,
        /// The protocol: `althing group protocols` lists them
        #[arg(long)]
        protocol: String,
        /// Its nodes, by node id or address between nodes; all members of the cluster unless told otherwise
        #[arg(long, value_name = "NODE", value_delimiter = ',')]
        nodes: Vec<String>,
    },
    /// The protocols that a group can run
    Protocols,
    /// List groups of nodes, and Kafka's consumer groups
    List {
        /// What their names begin with
        #[arg(default_value = "")]
        prefix: String,
    },
    /// Show a group of nodes as its members see it
    Status {
        /// The group's name
        name: String,
        /// Print what the asked node says, as JSON
        #[arg(long)]
        json: bool,
    },
    /// Enter, on the asked node; prints the fence when inside
    Lock {
        /// The group's name
        name: String,
        /// How long to wait, in seconds
        #[arg(long, value_name = "SECONDS", default_value_t = 10.0)]
        wait: f64,
    },
    /// Leave
    Unlock {
        /// The group's name
        name: String,
        /// Only if the asked node is inside with this fence
        #[arg(long)]
        fence: Option<u64>,
    },
    /// Say who leads, as far as the asked node knows
    Leader {
        /// The group's name
        name: String,
    },
    /// Put a value into the group's log; prints its place
    Append {
        /// The group's name
        name: String,
        /// A number from 1 on
        value: u64,
        /// How long to wait for its place, in seconds
        #[arg(long, value_name = "SECONDS", default_value_t = 10.0)]
        wait: f64,
    },
    /// Check what all members wrote down: who was inside when, who led in which term, which value has which place
    Check {
        /// The group's name
        name: String,
        /// Logs of members that do not answer: `lane-0/group-N.log` of their data directories
        #[arg(long, value_name = "FILE")]
        log: Vec<PathBuf>,
    },
    /// End a group of nodes
    Delete {
        /// The group's name
        name: String,
    },
    /// Show a consumer group's members, and how far it has come
    Describe {
        /// Its name
        name: String,
    },
}

/// Does it.
pub fn run(options: &Options) -> Outcome {
    let console = options.console.address.as_str();
    match &options.what {
        What::Create {
            name,
            protocol,
            nodes,
        } => {
            let body = json!({ "name": name, "protocol": protocol, "nodes": nodes });
            post(console, "/v1/groups", &body, ANSWER_TIME)?;
            let group = one(console, name)?;
            println!("{name} runs {protocol} on {} nodes", group.members.len());
            Ok(())
        }
        What::Protocols => {
            let rows = protocols::all().into_iter().map(|protocol| {
                let header = protocol.header;
                let words = [header.name, protocol.kind.name(), header.assumptions];
                words.map(str::to_owned).to_vec()
            });
            let rows: Vec<_> = rows.collect();
            print!("{}", table::render(&["PROTOCOL", "FOR", "ASSUMES"], &rows));
            println!("`althing explain PROTOCOL` says what one does, costs and does not promise");
            Ok(())
        }
        What::List { prefix } => list(console, prefix),
        What::Status { name, json } => status(console, name, *json),
        What::Lock { name, wait } => {
            let (wait_ms, time) = waiting(*wait)?;
            let path = format!("/v1/groups/{name}/lock");
            let answer = post(console, &path, &json!({ "wait_ms": wait_ms }), time)?;
            println!("{}", answer["fence"]);
            Ok(())
        }
        What::Unlock { name, fence } => {
            let path = format!("/v1/groups/{name}/unlock");
            post(console, &path, &json!({ "fence": fence }), ANSWER_TIME).map(drop)
        }
        What::Leader { name } => leader(&one(console, name)?),
        What::Append { name, value, wait } => {
            let (wait_ms, time) = waiting(*wait)?;
            let path = format!("/v1/groups/{name}/append");
            let body = json!({ "value": value, "wait_ms": wait_ms });
            println!("{}", post(console, &path, &body, time)?["place"]);
            Ok(())
        }
        What::Check { name, log } => check(console, name, log),
        What::Delete { name } => {
            let path = format!("/v1/groups/{name}");
            let answer = request(console, &path, Body::Delete, ANSWER_TIME)?;
            understand(console, answer.code, &answer.body).map(drop)
        }
        What::Describe { name } => topic::describe_group(console, name),
    }
}

/// Milliseconds, and how long the connection may be silent.
fn waiting(seconds: f64) -> Result<(u64, Duration), Failure> {
    match Duration::try_from_secs_f64(seconds) {
        Ok(wait) if wait <= Duration::from_secs(3_600) => {
            Ok((wait.as_millis() as u64, wait + ANSWER_TIME))
        }
        _ => Err(Failure::Usage(format!(
            "--wait takes 0 to 3600 seconds, not {seconds}"
        ))),
    }
}

fn understand(console: &str, code: u16, answer: &str) -> Result<Value, Failure> {
    let value: Option<Value> = serde_json::from_str(answer).ok();
    match (code, value) {
        (200, Some(value)) => Ok(value),
        (code, Some(value)) if value["error"].is_string() => {
            let words = value["error"].as_str().unwrap_or_default().to_owned();
            Err(match code {
                504 => Failure::Unknown(words),
                _ => failed(format!("refused: {words}")),
            })
        }
        _ => Err(crate::cluster::not_understood(console, code, answer)),
    }
}

fn post(console: &str, path: &str, body: &Value, time: Duration) -> Result<Value, Failure> {
    let (code, answer) = ask(console, path, Some(&body.to_string()), time)?;
    understand(console, code, &answer)
}

fn get<T: serde::de::DeserializeOwned>(console: &str, path: &str) -> Result<T, Failure> {
    let (code, answer) = ask(console, path, None, ANSWER_TIME)?;
    let value = understand(console, code, &answer)?;
    serde_json::from_value(value)
        .map_err(|_| crate::cluster::not_understood(console, code, &answer))
}

fn one(console: &str, name: &str) -> Result<GroupStatus, Failure> {
    get(console, &format!("/v1/groups/{name}"))
}

fn list(console: &str, prefix: &str) -> Outcome {
    let groups: Vec<GroupStatus> = get(console, "/v1/groups")?;
    let rows: Vec<Vec<String>> = (groups.iter())
        .filter(|group| group.name.starts_with(prefix))
        .map(|group| {
            vec![
                group.name.clone(),
                group.protocol.clone(),
                group.kind.clone(),
                group.members.len().to_string(),
                here(group),
            ]
        })
        .collect();
    if !rows.is_empty() {
        let heads = ["GROUP OF NODES", "PROTOCOL", "FOR", "NODES", "HERE"];
        println!("{}", table::render(&heads, &rows));
    }
    topic::list_groups(console, prefix)
}

/// What the asked node's peer does, in few words.
fn here(group: &GroupStatus) -> String {
    match (group.me, group.role.as_str()) {
        (0, _) => "no member".into(),
        (_, "") => "idle".into(),
        (_, role) => role.to_owned(),
    }
}

fn leader(group: &GroupStatus) -> Outcome {
    let refused = |words: &str| Err(failed(format!("refused: {}: {words}", group.name)));
    match (group.leader, group.kind.as_str()) {
        (_, kind) if !kind.starts_with("leader") => {
            refused(&format!("it elects nobody, it is for {kind}"))
        }
        _ if group.me == 0 => refused("this node is no member, and does not know"),
        (None, _) => Err(Failure::Unknown("no leader is known here now".into())),
        (Some(leader), _) => {
            let member = group.members.iter().find(|member| member.peer == leader);
            let empty = GroupMember::default();
            let member = member.unwrap_or(&empty);
            let term = match group.term {
                0 => String::new(),
                term => format!(" in term {term}"),
            };
            println!("peer {leader}: {} ({}){term}", member.address, member.node);
            Ok(())
        }
    }
}

fn status(console: &str, name: &str, json: bool) -> Outcome {
    let group = one(console, name)?;
    if json {
        let text = serde_json::to_string(&group).map_err(|why| failed(why.to_string()))?;
        println!("{text}");
        return Ok(());
    }
    println!("{name}: {}, for {}", group.protocol, group.kind);
    let row = |member: &GroupMember| {
        let theirs = match member.peer == group.me {
            true => Some(group.clone()),
            false => one(&member.console, name).ok(),
        };
        let peers = |peers: &[usize]| {
            let peers: Vec<String> = peers.iter().map(ToString::to_string).collect();
            peers.join(" ")
        };
        let mut words = vec![member.peer.to_string(), member.address.clone()];
        words.extend(match theirs {
            None => [
                "does not answer".to_owned(),
                String::new(),
                String::new(),
                String::new(),
            ],
            Some(theirs) if !theirs.fault.is_empty() => {
                [theirs.fault, String::new(), String::new(), String::new()]
            }
            Some(theirs) => [
                here(&theirs),
                peers(&theirs.waits_for),
                match (theirs.leader, theirs.term) {
                    (None, _) => String::new(),
                    (Some(leader), 0) => leader.to_string(),
                    (Some(leader), term) => format!("{leader} in {term}"),
                },
                match theirs.decided {
                    0 => String::new(),
                    decided => decided.to_string(),
                },
            ],
        });
        words
    };
    let rows: Vec<Vec<String>> = group.members.iter().map(row).collect();
    let heads = ["PEER", "NODE", "STATE", "WAITS FOR", "LEADER", "VALUES"];
    print!("{}", table::render(&heads, &rows));
    Ok(())
}

fn check(console: &str, name: &str, files: &[PathBuf]) -> Outcome {
    let group = one(console, name)?;
    let kind = protocols::find(&group.protocol).map_err(failed)?.kind;
    let mut logs: BTreeMap<PeerId, Vec<Event>> = BTreeMap::new();
    let mut missing: BTreeMap<PeerId, String> = BTreeMap::new();
    let path = format!("/v1/groups/{name}/log");
    for member in &group.members {
        let console = match member.peer == group.me {
            true => console,
            false => member.console.as_str(),
        };
        match get(console, &path) {
            Ok(log) => {
                logs.insert(member.peer, log);
            }
            Err(why) => {
                missing.insert(member.peer, why.words());
            }
        }
    }
    let mut dead = BTreeSet::new();
    for file in files {
        let shown = file.display();
        let text = std::fs::read_to_string(file)
            .map_err(|why| failed(format!("cannot read {shown}: {why}")))?;
        let log = Event::read(&text).map_err(|why| failed(format!("{shown}: {why}")))?;
        let Some(peer) = log.first().map(|event| event.peer) else {
            return Err(failed(format!("{shown} holds no events")));
        };
        if missing.remove(&peer).is_none() {
            return Err(failed(format!(
                "{shown} is the log of peer {peer}, which answers for itself"
            )));
        }
        dead.insert(peer);
        logs.insert(peer, log);
    }
    for (peer, why) in &missing {
        println!("peer {peer} is left out: {why}");
    }
    let from_start = |log: &Vec<Event>| {
        log.first()
            .is_none_or(|event| event.what == group::What::Started)
    };
    let whole = missing.is_empty() && logs.values().all(from_start);
    let verdict = logs::check(kind, &logs, &dead, whole);
    let told = match kind {
        Kind::Lock => format!("{} entries, never two inside", verdict.entries),
        Kind::Leader => format!(
            "{} times somebody began to lead; there are no terms, so nothing can be wrong with that",
            verdict.leaders
        ),
        Kind::LeaderLog => format!(
            "{} leaders, one a term; {} places, one value each",
            verdict.leaders, verdict.decided
        ),
        Kind::Log { .. } => format!("{} places, one value each", verdict.decided),
    };
    let of = format!(
        "{} events of {} of {} members",
        verdict.events,
        logs.len(),
        group.members.len()
    );
    if verdict.violations.is_empty() {
        println!("{of}: {told}");
        return Ok(());
    }
    for violation in &verdict.violations {
        println!("{violation}");
    }
    Err(failed(format!(
        "{of}: {} violations",
        verdict.violations.len()
    )))
}
