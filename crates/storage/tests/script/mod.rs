//! The language of the scripts. A line in capitals is a command for the machine, with words in quotes where
//! they hold blanks; other lines tell the world what to do. What a list or sorted set newly has is told as
//! `ready`, in front of the reply.

use base::{Origin, Stamp};
use bytes::Bytes;
use storage::cache::{
    Body, Cache, Command, Ended, Output, Reply, Unit, Watched, double_text, spec,
};

/// Replays a script; yields it with the outputs that it has now.
pub fn run(text: &str) -> String {
    let mut world = World {
        cache: Cache::new(),
        time_ms: 1000,
        seed: 7,
        database: 0,
        watched: Vec::new(),
        seen: Vec::new(),
        printed: String::new(),
    };
    let mut result = String::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        result.push_str(line);
        result.push('\n');
        if line == "----" {
            result.push_str(&std::mem::take(&mut world.printed));
            if lines.by_ref().any(str::is_empty) {
                result.push('\n');
            }
        } else if !line.is_empty() && !line.starts_with('#') {
            world.line(line);
        }
    }
    assert!(world.printed.is_empty(), "the script ends before ----");
    result
}

struct World {
    cache: Cache,
    time_ms: i64,
    seed: u64,
    database: u32,
    watched: Vec<Watched>,
    seen: Vec<Ended>,
    printed: String,
}

impl World {
    fn say(&mut self, line: impl AsRef<str>) {
        self.printed.push_str(line.as_ref());
        self.printed.push('\n');
    }

    fn line(&mut self, line: &str) {
        let words = words(line);
        let text = |at: usize| String::from_utf8_lossy(&words[at]).into_owned();
        let number = |at: usize| text(at).parse::<i64>().expect("a number");
        match text(0).as_str() {
            "time" => self.time_ms = number(1),
            "seed" => self.seed = number(1) as u64,
            "database" => self.database = number(1) as u32,
            // A read, as a front end serves it: at its own time, without a unit.
            "read" => {
                let reply = self
                    .cache
                    .read(number(1), self.database, &command(&words[2..]));
                self.say(show(&reply));
            }
            "watch" => self.watched.extend(words[1..].iter().map(|key| Watched {
                database: self.database,
                key: key.clone(),
                version: self.cache.version(self.database, key),
            })),
            "exec" => {
                let commands = words[1..]
                    .split(|word| *word == ";")
                    .filter(|words| !words.is_empty())
                    .map(command)
                    .collect();
                let watched = std::mem::take(&mut self.watched);
                self.apply(Body::Exec { watched, commands });
            }
            // What a leader would propose now; kept until `expire`.
            "expired" => {
                self.seen = self.cache.expired(self.time_ms, number(1) as usize);
                for ended in self.seen.clone() {
                    let key = ended.key.escape_ascii();
                    self.say(format!("{} {key} at {}", ended.database, ended.at_ms));
                }
                let next = self.cache.next_expiry_ms();
                self.say(format!("next {next:?}"));
            }
            "expire" => {
                let seen = self.seen.clone();
                self.apply(Body::Expire(seen));
            }
            "counts" => self.say(format!(
                "{:?} revision={}",
                self.cache.counts(),
                self.cache.revision()
            )),
            _ => self.apply(Body::One(command(&words))),
        }
    }

    fn apply(&mut self, body: Body) {
        let unit = Unit {
            origin: Origin::default(),
            database: self.database,
            body,
        };
        let unit = Unit::decode(&Bytes::from(unit.encode())).expect("what was encoded");
        let stamp = Stamp {
            time_ms: self.time_ms,
            seed: self.seed,
        };
        let mut out = Vec::new();
        let result = self.cache.apply_unit(stamp, unit, &mut out);
        result.expect("a known command");
        for output in out {
            match output {
                Output::Reply { reply, .. } => self.say(show(&reply)),
                Output::Ready { database, key } => {
                    self.say(format!("ready {database} {}", key.escape_ascii()));
                }
            }
        }
    }
}

fn words(line: &str) -> Vec<Bytes> {
    let mut words = Vec::new();
    let mut rest = line.trim();
    while !rest.is_empty() {
        let (word, behind) = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').expect("a closing quote"),
            None => rest.split_once(' ').unwrap_or((rest, "")),
        };
        words.push(Bytes::copy_from_slice(word.as_bytes()));
        rest = behind.trim_start();
    }
    words
}

fn command(words: &[Bytes]) -> Command {
    let spec = spec(&words[0]).unwrap_or_else(|| panic!("no such command: {:?}", words[0]));
    Command {
        id: spec.id,
        args: words[1..].to_vec(),
    }
}

fn show(reply: &Reply) -> String {
    let all = |replies: &[Reply]| replies.iter().map(show).collect::<Vec<_>>().join(" ");
    let pairs = |pairs: &[(Reply, Reply)]| {
        let shown = pairs
            .iter()
            .map(|(a, b)| format!("{}={}", show(a), show(b)));
        shown.collect::<Vec<_>>().join(" ")
    };
    match reply {
        Reply::Nil => "nil".into(),
        Reply::NilArray => "nil array".into(),
        Reply::Status(text) => text.to_string(),
        Reply::Error(text) => format!("! {text}"),
        Reply::Integer(value) => value.to_string(),
        Reply::Double(value) => double_text(*value, |t| format!("~{}", String::from_utf8_lossy(t))),
        Reply::Bool(value) => value.to_string(),
        Reply::Bulk(bytes) => format!("\"{}\"", bytes.escape_ascii()),
        Reply::Verbatim(text) => text.clone(),
        Reply::Array(replies) => format!("[{}]", all(replies)),
        Reply::Set(replies) => format!("set[{}]", all(replies)),
        Reply::Map(entries) => format!("map[{}]", pairs(entries)),
        Reply::Pairs(entries) => format!("pairs[{}]", pairs(entries)),
    }
}
