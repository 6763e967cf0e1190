//! `althing service …`: services, over the console's HTTP.

use crate::http::{Body, Console, request};
use crate::{Failure, Outcome, failed, table};
use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};
use std::time::Duration;

const ANSWER_TIME: Duration = Duration::from_secs(40);
/// How long one blocking query waits, and how long its answer may take.
const WAIT: &str = "55s";
const WAIT_TIME: Duration = Duration::from_secs(100);
/// Before a node that does not answer is asked again.
const PAUSE: Duration = Duration::from_secs(1);

/// What can be done.
#[derive(Args)]
pub struct Options {
    #[command(subcommand)]
    what: What,
    #[command(flatten)]
    console: Console,
}

#[derive(Subcommand)]
enum What {
    /// Show all instances, or those of one service, with what their checks say
    List {
        /// The service
        name: Option<String>,
    },
    /// Register an instance of a service
    Register {
        /// The service
        name: String,
        /// What the instance is known by in the cluster; the service's name if not given
        #[arg(long)]
        id: Option<String>,
        /// Its IP address or host name
        #[arg(long, default_value = "")]
        address: String,
        /// Its port
        #[arg(long, default_value_t = 0)]
        port: u16,
        /// A label; may be given several times
        #[arg(long)]
        tag: Vec<String>,
        /// Critical when it was not told for so long, as 10s
        #[arg(long, group = "check")]
        ttl: Option<String>,
        /// Critical when this URL does not answer with 2xx
        #[arg(long, group = "check")]
        http: Option<String>,
        /// Critical when host:port takes no connections
        #[arg(long, group = "check")]
        tcp: Option<String>,
        /// How often --http and --tcp look
        #[arg(long, default_value = "10s")]
        interval: String,
        /// Removed when it was critical for so long
        #[arg(long, requires = "check")]
        deregister_after: Option<String>,
    },
    /// Remove an instance
    Deregister {
        /// Its id
        id: String,
    },
    /// Print the instances of a service that pass their checks, and again whenever that changes
    Watch {
        /// The service
        name: String,
    },
}

/// Carries it out.
pub fn run(options: &Options) -> Outcome {
    let console = &options.console.address;
    match &options.what {
        What::List { name: Some(name) } => list(console, std::slice::from_ref(name)),
        What::List { name: None } => {
            let (names, _) = get(console, "/v1/catalog/services", ANSWER_TIME)?;
            let names = names.as_object().cloned().unwrap_or_default();
            list(console, &names.keys().cloned().collect::<Vec<_>>())
        }
        What::Register {
            name,
            id,
            address,
            port,
            tag,
            ttl,
            http,
            tcp,
            interval,
            deregister_after,
        } => {
            let mut check = Map::new();
            let pairs = [("TTL", ttl), ("HTTP", http), ("TCP", tcp)];
            for (key, value) in pairs {
                check.extend(value.as_ref().map(|value| (key.to_owned(), json!(value))));
            }
            let mut body = json!({ "Name": name, "Address": address, "Port": port, "Tags": tag });
            if let Some(id) = id {
                body["ID"] = json!(id);
            }
            if !check.is_empty() {
                check.insert("Interval".into(), json!(interval));
                if let Some(after) = deregister_after {
                    check.insert("DeregisterCriticalServiceAfter".into(), json!(after));
                }
                body["Check"] = Value::Object(check);
            }
            put(console, "/v1/agent/service/register", &body.to_string())?;
            println!("registered {}", id.as_ref().unwrap_or(name));
            Ok(())
        }
        What::Deregister { id } => {
            put(
                console,
                &format!("/v1/agent/service/deregister/{}", encoded(id)),
                "",
            )?;
            println!("deregistered {id}");
            Ok(())
        }
        What::Watch { name } => watch(console, name),
    }
}

fn put(console: &str, path: &str, body: &str) -> Outcome {
    let answer = request(console, path, Body::Put(body), ANSWER_TIME)?;
    match answer.code {
        200 => Ok(()),
        code => Err(failed(format!(
            "{console} answers {code}: {}",
            answer.body.trim()
        ))),
    }
}

/// The answer and its index.
fn get(console: &str, path: &str, time: Duration) -> Result<(Value, u64), Failure> {
    let answer = request(console, path, Body::None, time)?;
    let value = serde_json::from_str(&answer.body)
        .ok()
        .filter(|_| answer.code == 200);
    let index = answer.header("x-consul-index").and_then(|i| i.parse().ok());
    match value {
        Some(value) => Ok((value, index.unwrap_or(0))),
        None => Err(failed(format!(
            "{console} answers {}: {}",
            answer.code,
            answer.body.trim().chars().take(300).collect::<String>()
        ))),
    }
}

fn list(console: &str, names: &[String]) -> Outcome {
    let mut rows = Vec::new();
    for name in names {
        let path = format!("/v1/health/service/{}", encoded(name));
        let (found, _) = get(console, &path, ANSWER_TIME)?;
        rows.extend(found.as_array().into_iter().flatten().map(row));
    }
    print!(
        "{}",
        table::render(
            &["SERVICE", "ID", "ADDRESS", "TAGS", "STATUS", "LAST OUTPUT"],
            &rows
        )
    );
    Ok(())
}

fn row(found: &Value) -> Vec<String> {
    let service = &found["Service"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let rank = |check: &&Value| match check["Status"].as_str() {
        Some("passing") => 0,
        Some("warning") => 1,
        _ => 2,
    };
    let checks = found["Checks"].as_array();
    let worst = checks.into_iter().flatten().max_by_key(rank);
    let tags = service["Tags"].as_array().into_iter().flatten().map(text);
    let output = worst
        .map(|check| text(&check["Output"]))
        .unwrap_or_default();
    vec![
        text(&service["Service"]),
        text(&service["ID"]),
        address(found),
        tags.collect::<Vec<_>>().join(","),
        worst.map_or_else(|| "passing".into(), |check| text(&check["Status"])),
        output.lines().next().unwrap_or_default().to_owned(),
    ]
}

fn address(found: &Value) -> String {
    let own = found["Service"]["Address"]
        .as_str()
        .filter(|own| !own.is_empty());
    let host = own
        .or(found["Node"]["Address"].as_str())
        .unwrap_or_default();
    format!("{host}:{}", found["Service"]["Port"])
}

/// Runs until it is stopped.
fn watch(console: &str, name: &str) -> Outcome {
    let (mut index, mut shown, mut is_lost) = (0, None, false);
    loop {
        let path = format!(
            "/v1/health/service/{}?passing&index={index}&wait={WAIT}",
            encoded(name)
        );
        match get(console, &path, WAIT_TIME) {
            Ok((found, seen)) => {
                // An index that goes back is another cluster's.
                index = if seen < index { 0 } else { seen };
                is_lost = false;
                let all = found.as_array().into_iter().flatten().map(|found| {
                    let id = found["Service"]["ID"].as_str().unwrap_or_default();
                    format!("{id} {}", address(found))
                });
                let now: Vec<String> = all.collect();
                if shown.as_ref() != Some(&now) {
                    println!(
                        "{name}: {}",
                        if now.is_empty() {
                            "none".into()
                        } else {
                            now.join(", ")
                        }
                    );
                    shown = Some(now);
                }
            }
            Err(why) if shown.is_none() => return Err(why),
            Err(why) => {
                if !is_lost {
                    eprintln!("{}", why.words());
                }
                is_lost = true;
                std::thread::sleep(PAUSE);
            }
        }
    }
}

/// What may stand in a path.
pub fn encoded(text: &str) -> String {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.~:".contains(&b);
    text.bytes()
        .map(|b| match is_plain(b) {
            true => (b as char).to_string(),
            false => format!("%{b:02X}"),
        })
        .collect()
}
