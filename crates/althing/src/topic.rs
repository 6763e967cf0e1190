//! `althing topic …`, and what `althing group …` says of consumer groups: made, deleted, appended to and read over
//! Kafka's protocol, shown by the console.

mod read;
mod send;

use crate::http::ask;
use crate::{Failure, Outcome, failed, kafka, table};
use clap::{Args, Subcommand};
use node::admin::{GroupRow, TopicRow, TopicsPage};
use std::time::Duration;
use wire_kafka::{Error, client};

/// The console answers within this time, or nobody knows.
const ANSWER_TIME: Duration = Duration::from_secs(30);

/// What can be asked of topics.
#[derive(Args)]
pub struct TopicOptions {
    #[command(subcommand)]
    what: TopicMode,
    /// Where Kafka's clients are served, with commas: to make, delete, send and read
    #[arg(
        long,
        value_name = "HOST:PORT,…",
        default_value = "127.0.0.1:9092",
        value_delimiter = ',',
        global = true
    )]
    server: Vec<String>,
    /// The console of the node that is asked, to list and describe
    #[arg(
        long,
        value_name = "HOST:PORT",
        default_value = "127.0.0.1:7400",
        global = true
    )]
    console: String,
}

#[derive(Subcommand)]
enum TopicMode {
    /// List topics
    List {
        /// What their names begin with
        #[arg(default_value = "")]
        prefix: String,
    },
    /// Show a topic's partitions
    Describe {
        /// Its name
        name: String,
    },
    /// Make a topic
    Create {
        /// Its name
        name: String,
        /// How many partitions it has [default: as the node is configured]
        #[arg(long)]
        partitions: Option<u32>,
        /// Something that is not as by default, by Kafka's names
        #[arg(long, value_name = "KEY=VALUE")]
        config: Vec<String>,
    },
    /// Delete a topic with all that is in it
    Delete {
        /// Its name
        name: String,
    },
    /// Append records to a topic: the values given here, or else each line of standard input
    Send(send::Options),
    /// Print a topic's records, each partition's in their order, up to where they end now
    Read(read::Options),
}

/// Does it.
pub fn run_topic(options: &TopicOptions) -> Outcome {
    let (server, console) = (&options.server, &options.console);
    match &options.what {
        TopicMode::List { prefix } => {
            let page = page(console, prefix)?;
            print!("{}", topics(&page));
            rest(page.topic_count, page.topics.len(), "topics");
            Ok(())
        }
        TopicMode::Describe { name } => {
            let page = page(console, name)?;
            let found = page.topics.iter().find(|topic| topic.name == *name);
            let topic = found.ok_or_else(|| failed(format!("there is no topic {name:?}")))?;
            print!("{}", partitions(topic));
            Ok(())
        }
        TopicMode::Create {
            name,
            partitions,
            config,
        } => {
            let pair = |text: &String| match text.split_once('=') {
                Some((key, value)) => Ok((key.to_owned(), value.to_owned())),
                None => Err(Failure::Usage(format!(
                    "--config takes KEY=VALUE, not {text:?}"
                ))),
            };
            let config = config.iter().map(pair).collect::<Result<Vec<_>, _>>()?;
            change(
                server,
                name,
                &client::create_topic(name, *partitions, &config),
            )?;
            println!("made {name}");
            Ok(())
        }
        TopicMode::Delete { name } => {
            change(server, name, &client::delete_topic(name))?;
            println!("deleted {name}");
            Ok(())
        }
        TopicMode::Send(options) => send::run(server, options),
        TopicMode::Read(options) => read::run(server, options),
    }
}

/// Lists consumer groups.
pub fn list_groups(console: &str, prefix: &str) -> Outcome {
    let page = page(console, prefix)?;
    print!("{}", groups(&page));
    rest(page.group_count, page.groups.len(), "groups");
    Ok(())
}

/// Shows a consumer group's members, and how far it has come.
pub fn describe_group(console: &str, name: &str) -> Outcome {
    let page = page(console, name)?;
    let found = page.groups.iter().find(|group| group.name == *name);
    let group = found.ok_or_else(|| failed(format!("there is no group {name:?}")))?;
    print!("{}", describe(group));
    Ok(())
}

fn page(console: &str, prefix: &str) -> Result<TopicsPage, Failure> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.~".contains(c);
    let mut query = String::new();
    for c in prefix.chars() {
        if plain(c) {
            query.push(c);
        } else {
            let mut bytes = [0; 4];
            let bytes = c.encode_utf8(&mut bytes).bytes();
            query.extend(bytes.map(|byte| format!("%{byte:02X}")));
        }
    }
    let path = format!("/v1/topics?prefix={query}");
    let (code, body) = ask(console, &path, None, ANSWER_TIME)?;
    if code != 200 {
        return Err(failed(format!("the node refuses: {}", body.trim())));
    }
    serde_json::from_str(&body)
        .map_err(|e| failed(format!("the console answered something else: {e}")))
}

fn rest(there: u64, shown: usize, what: &str) {
    let left = there.saturating_sub(shown as u64);
    if left > 0 {
        println!("and {left} more {what}; say what their names begin with");
    }
}

fn topics(page: &TopicsPage) -> String {
    let row = |topic: &TopicRow| {
        let records: i64 = topic.partitions.iter().map(|p| p.end - p.start).sum();
        let bytes: u64 = topic.partitions.iter().map(|p| p.bytes).sum();
        let count = topic.partition_count.to_string();
        vec![
            topic.name.clone(),
            count,
            records.to_string(),
            bytes.to_string(),
        ]
    };
    let rows: Vec<_> = page.topics.iter().map(row).collect();
    table::render(&["TOPIC", "PARTITIONS", "RECORDS", "BYTES"], &rows)
}

fn partitions(topic: &TopicRow) -> String {
    let row = |p: &node::admin::PartitionRow| {
        vec![
            p.index.to_string(),
            p.leader.clone(),
            p.shard.clone(),
            p.start.to_string(),
            p.end.to_string(),
            p.bytes.to_string(),
        ]
    };
    let rows: Vec<_> = topic.partitions.iter().map(row).collect();
    let mut out = table::render(
        &["PARTITION", "LEADER", "SHARD", "START", "END", "BYTES"],
        &rows,
    );
    for (key, value) in &topic.config {
        out += &format!("{key}={value}\n");
    }
    let left = topic.partition_count.saturating_sub(rows.len() as u64);
    if left > 0 {
        out += &format!(
            "{left} partitions are not shown: the asked node does not hold them, or they are many\n"
        );
    }
    out
}

fn groups(page: &TopicsPage) -> String {
    let row = |group: &GroupRow| {
        vec![
            group.name.clone(),
            group.state.clone(),
            group.member_count.to_string(),
            group.lag.to_string(),
            group.coordinator.clone(),
        ]
    };
    let rows: Vec<_> = page.groups.iter().map(row).collect();
    table::render(&["GROUP", "STATE", "MEMBERS", "LAG", "COORDINATOR"], &rows)
}

fn describe(group: &GroupRow) -> String {
    let (state, generation) = (&group.state, group.generation);
    let mut out = format!("{state}, generation {generation}, {} behind\n", group.lag);
    let position = |p: &node::admin::PositionRow| {
        let end = p.end.map_or_else(|| "-".into(), |end| end.to_string());
        vec![
            p.topic.clone(),
            p.index.to_string(),
            p.offset.to_string(),
            end,
            p.lag.to_string(),
        ]
    };
    let rows: Vec<_> = group.positions.iter().map(position).collect();
    out += &table::render(&["TOPIC", "PARTITION", "COMMITTED", "END", "LAG"], &rows);
    let member = |m: &node::admin::MemberRow| {
        let host = m.host.trim_start_matches('/').to_owned();
        vec![m.id.clone(), m.client.clone(), host, m.instance.clone()]
    };
    let rows: Vec<_> = group.members.iter().map(member).collect();
    out + &table::render(&["MEMBER", "CLIENT", "HOST", "STATIC NAME"], &rows)
}

fn change(servers: &[String], name: &str, frame: &[u8]) -> Outcome {
    let answer = kafka::any(servers, frame).map_err(|error| unreached(&error))?;
    let number = client::error_in(&answer)
        .map_err(|_| failed("what answers does not speak Kafka's protocol"))?;
    match Error::try_from_code(number) {
        None => Ok(()),
        Some(error) => Err(failed(format!("{name}: {}", explain(&error)))),
    }
}

fn unreached(error: &std::io::Error) -> Failure {
    failed(format!(
        "cannot ask {error}. Is the node running, and is this where it serves Kafka's clients (--server HOST:PORT)?"
    ))
}

/// An error in words, with what to do.
fn explain(error: &Error) -> String {
    match error {
        Error::TopicAlreadyExists => "there is a topic of this name".into(),
        Error::UnknownTopicOrPartition => "there is no such topic".into(),
        Error::InvalidTopicException => {
            "not a name that a topic may have: letters, digits, `.`, `_` and `-`, at most 249"
                .into()
        }
        Error::InvalidPartitions => "a topic has at least one partition".into(),
        Error::InvalidConfig => {
            "a key or a value of --config does not exist; see the README for what can be configured"
                .into()
        }
        Error::PolicyViolation => "the cluster has as many partitions as it may have".into(),
        Error::KafkaStorageError => "the disks are nearly full".into(),
        other => format!("the server answers {other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use node::admin::{MemberRow, PartitionRow, PositionRow};

    #[test]
    fn topics_and_groups_are_shown_in_columns() {
        let topic = TopicRow {
            name: "logs".into(),
            partition_count: 2,
            partitions: vec![PartitionRow {
                index: 1,
                start: 3,
                end: 9,
                bytes: 70,
                ..PartitionRow::default()
            }],
            config: vec![("retention.ms".into(), "5".into())],
        };
        let page = TopicsPage {
            topics: vec![topic],
            ..TopicsPage::default()
        };
        assert_eq!(
            topics(&page),
            "TOPIC  PARTITIONS  RECORDS  BYTES\nlogs   2           6        70\n"
        );
        let text = partitions(&page.topics[0]);
        assert!(text.contains("retention.ms=5\n") && text.contains("1 partitions are not shown"));
        let group = GroupRow {
            state: "Stable".into(),
            generation: 4,
            lag: 2,
            positions: vec![PositionRow {
                topic: "logs".into(),
                offset: 7,
                end: None,
                ..PositionRow::default()
            }],
            members: vec![MemberRow {
                id: "a-1".into(),
                host: "/127.0.0.1".into(),
                ..MemberRow::default()
            }],
            ..GroupRow::default()
        };
        let text = describe(&group);
        assert!(text.starts_with("Stable, generation 4, 2 behind\n"));
        assert!(
            text.contains("logs   0          7          -    0\n"),
            "{text}"
        );
        assert!(text.contains("127.0.0.1"));
    }
}
