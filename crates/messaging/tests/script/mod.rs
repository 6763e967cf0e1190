//! The language of the scripts: one command a line; members, groups and topics by name.
//!
//! `as NAME …` marks who waits for the answer, which is printed with that name whenever it comes.

use base::{CoreAddress, CoreId, Machine, NodeId, Origin, Stamp};
use bytes::Bytes;
use messaging::registry::describe;
use messaging::{
    Command, Group, GroupProtocol, GroupTimers, Join, Joined, LogConfig, MemberName, NewBatch,
    OffsetCommit, Output, PartitionId, ProducerMark, Registry, RegistryCommand, RegistryOutput,
    RegistryUnit, Reply, Sync, TopicId, TopicName, Topics, Unit,
};
use std::collections::BTreeMap;

/// Replays a script; yields it with the outputs that it has now.
pub fn run(text: &str) -> String {
    let mut world = World::default();
    let mut result = String::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        result.push_str(line);
        result.push('\n');
        if line == "----" {
            result.push_str(&std::mem::take(&mut world.printed));
            let rest = lines.by_ref().find(|l| l.is_empty());
            if rest.is_some() {
                result.push('\n');
            }
        } else if !line.is_empty() && !line.starts_with('#') {
            world.command(line);
        }
    }
    assert!(world.printed.is_empty(), "the script ends before ----");
    result
}

#[derive(Default)]
struct World {
    topics: Topics,
    registry: Registry,
    timers: GroupTimers,
    time_ms: i64,
    /// Who waits, by token; and the ids that members were given, by their names.
    names: Vec<String>,
    ids: BTreeMap<String, String>,
    printed: String,
}

/// `key=value` words, and the words that are none.
struct Words<'a> {
    plain: Vec<&'a str>,
    named: BTreeMap<&'a str, &'a str>,
}

impl<'a> Words<'a> {
    fn new(words: &[&'a str]) -> Self {
        let is_named = |w: &&&str| w.contains('=');
        Self {
            plain: words.iter().filter(|w| !is_named(w)).copied().collect(),
            named: (words.iter().filter(is_named))
                .filter_map(|w| w.split_once('='))
                .collect(),
        }
    }

    fn number<T: std::str::FromStr>(&self, key: &str, or: T) -> T {
        let parse = |v: &&str| v.parse().ok();
        self.named
            .get(key)
            .map_or(or, |v| parse(v).unwrap_or_else(|| panic!("{key}={v}")))
    }

    fn text(&self, key: &str) -> Option<String> {
        self.named.get(key).map(|v| (*v).to_owned())
    }
}

/// `3/0` is partition 0 of topic 3.
fn partition(word: &str) -> PartitionId {
    let (topic, index) = word.split_once('/').expect("topic/partition");
    PartitionId {
        topic: TopicId(topic.parse().expect("topic")),
        index: index.parse().expect("partition"),
    }
}

impl World {
    fn say(&mut self, line: impl AsRef<str>) {
        self.printed.push_str(line.as_ref());
        self.printed.push('\n');
    }

    fn origin(&mut self, name: &str) -> Origin {
        self.names.push(name.to_owned());
        Origin {
            home: CoreAddress {
                node: NodeId(1),
                core: CoreId(0),
            },
            token: self.names.len() as u64,
        }
    }

    fn name_of(&self, id: &str) -> String {
        let found = self.ids.iter().find(|(_, known)| *known == id);
        found.map_or_else(|| id.to_owned(), |(name, _)| name.clone())
    }

    fn id_of(&self, name: &str) -> String {
        self.ids.get(name).cloned().unwrap_or_else(|| name.into())
    }

    fn member(&self, words: &Words<'_>, name: &str) -> MemberName {
        let id = match words.text("id") {
            Some(other) if other == "none" => String::new(),
            Some(other) => self.id_of(&other),
            None => self.ids.get(name).cloned().unwrap_or_default(),
        };
        MemberName {
            id,
            instance: words.text("static"),
        }
    }

    fn command(&mut self, line: &str) {
        let all: Vec<&str> = line.split_whitespace().collect();
        let (who, all) = match all.as_slice() {
            ["as", who, rest @ ..] => (*who, rest),
            rest => ("-", rest),
        };
        let words = Words::new(&all[1..]);
        let arg = |at: usize| words.plain[at];
        let command = match all[0] {
            "time" => {
                self.time_ms = arg(0).parse().expect("milliseconds");
                return;
            }
            "open" => Command::OpenPartition {
                partition: partition(arg(0)),
                name: "logs".into(),
                config: LogConfig {
                    retention_bytes: words.number("retain", 1 << 20),
                    retention_records: words.text("records").map(|v| v.parse().expect("n")),
                    retention_ms: words.text("age").map(|v| v.parse().expect("ms")),
                    segment_bytes: words.number("segment", 100),
                    batch_bytes_max: words.number("max", 1000),
                },
            },
            "drop" => Command::DropPartition {
                partition: partition(arg(0)),
            },
            "append" => Command::Append {
                partition: partition(arg(0)),
                batch: NewBatch {
                    count: words.number("count", 1),
                    max_timestamp_ms: words.number("time", self.time_ms),
                    producer: words.text("producer").map(|id| ProducerMark {
                        id: id.parse().expect("id"),
                        epoch: words.number("epoch", 0),
                        sequence: words.number("seq", 0),
                    }),
                    bytes: Bytes::from(vec![b'x'; words.number("bytes", 10)]),
                },
            },
            "trim" => Command::Trim {
                partition: partition(arg(0)),
                log_start: arg(1).parse().expect("offset"),
            },
            "join" => Command::Join(self.join(who, &words)),
            "sync" => Command::Sync(self.sync(who, &words)),
            "leave" => Command::Leave {
                group: arg(0).into(),
                members: vec![self.member(&words, who)],
            },
            "commit" => Command::Commit {
                group: arg(0).into(),
                member: self.member(&words, who),
                generation: words.number("gen", -1),
                offsets: vec![OffsetCommit {
                    partition: partition(arg(1)),
                    offset: arg(2).parse().expect("offset"),
                    leader_epoch: -1,
                    metadata: "m".repeat(words.number("metadata", 1)),
                }],
            },
            "expire" => Command::ExpireMember {
                group: arg(0).into(),
                member: self.id_of(arg(1)),
                generation: words.number("gen", 1),
            },
            "end" => Command::EndRebalance {
                group: arg(0).into(),
                generation: words.number("gen", 0),
                joining: arg(1) == "joining",
            },
            "delete-group" => Command::DeleteGroup {
                group: arg(0).into(),
            },
            "due" => {
                for command in self.topics.due(self.time_ms, 100) {
                    self.say(format!("due: {command:?}"));
                    self.apply("-", command);
                }
                return;
            }
            "reconcile" => {
                let commands = self.topics.reconcile(&self.registry, |_, _| true, 100);
                for command in commands {
                    self.say(match &command {
                        Command::OpenPartition {
                            partition, config, ..
                        } => format!("open {partition} retain={}", config.retention_bytes),
                        other => format!("{other:?}"),
                    });
                    self.apply("-", command);
                }
                return;
            }
            "topic" => return self.registry(who, &words),
            _ => return self.look(all[0], who, &words),
        };
        self.apply(who, command);
    }

    fn join(&self, who: &str, words: &Words<'_>) -> Join {
        let protocols = words.text("protocols").unwrap_or_else(|| "range".into());
        Join {
            group: words.plain[0].into(),
            member: self.member(words, who),
            needs_id: words.plain.contains(&"needs-id"),
            client_id: who.into(),
            client_host: "/127.0.0.1".into(),
            session_timeout_ms: words.number("session", 10_000),
            rebalance_timeout_ms: words.number("rebalance", 60_000),
            protocol_type: words.text("type").unwrap_or_else(|| "consumer".into()),
            protocols: protocols
                .split(',')
                .map(|name| GroupProtocol {
                    name: name.into(),
                    metadata: Bytes::from(format!("{who}:{name}")),
                })
                .collect(),
        }
    }

    fn sync(&self, who: &str, words: &Words<'_>) -> Sync {
        let shares = words.plain[1..].iter().filter_map(|w| w.split_once(':'));
        Sync {
            group: words.plain[0].into(),
            member: self.member(words, who),
            generation: words.number("gen", 1),
            protocol_type: None,
            protocol: words.text("protocol"),
            assignments: shares
                .map(|(name, share)| (self.id_of(name), Bytes::copy_from_slice(share.as_bytes())))
                .collect(),
        }
    }

    fn apply(&mut self, who: &str, command: Command) {
        let origin = if who == "-" {
            Origin::default()
        } else {
            self.origin(who)
        };
        let unit = Unit { origin, command };
        let mut out = Vec::new();
        let stamp = Stamp {
            time_ms: self.time_ms,
            seed: 1,
        };
        (self.topics.apply(stamp, &unit.encode(), &mut out)).expect("known commands");
        for output in out {
            self.show(output);
        }
    }

    fn show(&mut self, output: Output) {
        match output {
            Output::Appended { partition, log_end } => {
                self.say(format!("{partition} ends at {log_end}"));
            }
            Output::GroupChanged { group } => {
                let now_us = self.time_ms as u64 * 1000;
                self.timers.group_changed(now_us, &self.topics, &group);
            }
            Output::Reply { origin, reply } => {
                let who = self.names[origin.token as usize - 1].clone();
                let line = match reply {
                    Ok(Reply::MemberId(id)) => {
                        self.ids.insert(who.clone(), id.clone());
                        format!("shall join as {id}")
                    }
                    Ok(Reply::Joined(joined)) => {
                        self.ids.insert(who.clone(), joined.member.clone());
                        self.show_joined(&joined)
                    }
                    Ok(Reply::Synced(s)) => {
                        format!("has {:?}", String::from_utf8_lossy(&s.assignment))
                    }
                    Ok(reply) => format!("{reply:?}"),
                    Err(error) => format!("{error:?}"),
                };
                self.say(format!("{who}: {line}"));
            }
        }
    }

    fn show_joined(&self, joined: &Joined) -> String {
        let members: Vec<String> = (joined.members.iter())
            .map(|m| {
                let metadata = String::from_utf8_lossy(&m.metadata).into_owned();
                let fixed = m.instance.as_deref().map(|i| format!("!{i}"));
                format!("{metadata}{}", fixed.unwrap_or_default())
            })
            .collect();
        let skip = if joined.skip_assignment { " skip" } else { "" };
        format!(
            "joined {} by {}, {} leads {members:?}{skip}",
            joined.generation,
            joined.protocol,
            self.name_of(&joined.leader)
        )
    }

    fn look(&mut self, verb: &str, who: &str, words: &Words<'_>) {
        let arg = |at: usize| words.plain[at];
        let now_us = self.time_ms as u64 * 1000;
        match verb {
            "log" => {
                let view = self.topics.partition(partition(arg(0)));
                let line = view.map_or("no such partition".to_owned(), |v| {
                    format!(
                        "{}..{} {} bytes in {} segments, {} producers",
                        v.log_start, v.log_end, v.bytes, v.segments, v.producers
                    )
                });
                self.say(line);
            }
            "read" => {
                let max = words.number("max", 1000);
                let offset = arg(1).parse().expect("offset");
                let line = match self.topics.read(partition(arg(0)), offset, max, true) {
                    Ok(f) => {
                        let all: Vec<_> = f.batches.iter().map(|b| b.base_offset).collect();
                        format!("batches {all:?}, high watermark {}", f.high_watermark)
                    }
                    Err(error) => format!("{error:?}"),
                };
                self.say(line);
            }
            "at-time" => {
                let time_ms = arg(1).parse().expect("ms");
                let found = self.topics.batch_at_time(partition(arg(0)), time_ms);
                let found = found.map(|b| b.map(|b| b.base_offset));
                self.say(format!("{found:?}"));
            }
            "group" => {
                let line = match self.topics.group(arg(0)) {
                    Some(group) => self.show_group(group),
                    None => "no such group".into(),
                };
                self.say(line);
            }
            "heartbeat" => {
                let member = self.member(words, who);
                let group = self.topics.group(arg(0)).expect("a group");
                let answer = group.heartbeat(&member, words.number("gen", 1));
                self.timers.touch(now_us, arg(0), &member.id);
                self.say(format!("{who}: {answer:?}"));
            }
            "poll" => {
                let expired = self.timers.poll_expired(now_us, 100);
                if expired.is_empty() {
                    self.say("nothing ran out");
                }
                for command in expired {
                    let line = match &command {
                        Command::ExpireMember {
                            member, generation, ..
                        } => format!("ran out: {}@{generation}", self.name_of(member)),
                        other => format!("ran out: {other:?}"),
                    };
                    self.say(line);
                    if !words.plain.contains(&"only") {
                        self.apply("-", command);
                    }
                }
            }
            "lead" => self.timers.reset(now_us, &self.topics),
            "stall" => self
                .timers
                .stalled(arg(0).parse::<u64>().expect("ms") * 1000),
            "next" => {
                let at_us = self.timers.deadline_us();
                self.say(format!("look at {} ms", at_us / 1000));
            }
            _ => panic!("no such command: {verb}"),
        }
    }

    fn show_group(&self, group: &Group) -> String {
        let members: Vec<String> = group.members.keys().map(|id| self.name_of(id)).collect();
        let offsets: Vec<String> = (group.offsets.iter())
            .map(|(p, c)| format!("{p}@{}", c.offset))
            .collect();
        format!(
            "{:?} {} members {members:?} pending {} offsets {offsets:?}",
            group.phase,
            group.generation,
            group.pending.len()
        )
    }

    fn registry(&mut self, who: &str, words: &Words<'_>) {
        let arg = |at: usize| words.plain[at];
        let configured = || words.named.iter().filter(|(key, _)| key.contains('.'));
        let validate_only = words.plain.contains(&"validate");
        let topic = |word: &str| match word.strip_prefix('#') {
            Some(id) => TopicName::Id(TopicId(id.parse().expect("id"))),
            None => TopicName::Name(word.into()),
        };
        let command = match arg(0) {
            "create" => RegistryCommand::CreateTopic {
                name: arg(1).into(),
                partition_count: words.number("partitions", 1),
                config: configured()
                    .map(|(k, v)| ((*k).into(), (*v).into()))
                    .collect(),
                validate_only,
            },
            "delete" => RegistryCommand::DeleteTopic {
                topic: topic(arg(1)),
            },
            "grow" => RegistryCommand::AddPartitions {
                name: arg(1).into(),
                partition_count: words.number("partitions", 1),
                validate_only,
            },
            "configure" => RegistryCommand::Configure {
                name: arg(1).into(),
                changes: configured()
                    .map(|(k, v)| ((*k).into(), (*v != "default").then(|| (*v).into())))
                    .collect(),
                replace: words.plain.contains(&"replace"),
                validate_only,
            },
            "producer" => RegistryCommand::NewProducer,
            "show" => {
                let found = self.registry.topic(arg(1)).map(|t| {
                    let own = describe(t).into_iter().filter(|e| !e.is_default);
                    let own: Vec<_> = own.map(|e| format!("{}={}", e.name, e.value)).collect();
                    format!("#{} {} partitions {own:?}", t.id.0, t.partition_count)
                });
                return self.say(found.unwrap_or_else(|| "no such topic".into()));
            }
            verb => panic!("no such command: topic {verb}"),
        };
        let unit = RegistryUnit {
            origin: self.origin(who),
            command,
        };
        let mut out = Vec::new();
        (self
            .registry
            .apply(Stamp::default(), &unit.encode(), &mut out))
        .expect("known");
        for output in out {
            match output {
                RegistryOutput::Changed => self.say("changed"),
                RegistryOutput::Reply { reply, .. } => self.say(format!("{reply:?}")),
            }
        }
    }
}
