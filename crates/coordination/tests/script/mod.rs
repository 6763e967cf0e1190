//! The language of the scripts: one command a line, clients by name.

use base::{CoreAddress, CoreId, Machine, NodeId, SessionId, Stamp};
use bytes::Bytes;
use coordination::{
    Acl, Answer, Command, Coordination, CreateMode, Envelope, Identity, Leases, OpReply, Origin,
    Output, Principal, Query, Stat, TreeOp, Unit, WatchKind, WatchReplay, WatchSelection, Watches,
};
use std::collections::BTreeMap;
use std::fmt::Write;

/// Replays a script; yields it with the outputs that it has now.
pub fn run(text: &str) -> String {
    let mut world = World::new();
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
struct Client {
    watcher: u64,
    session: SessionId,
    generation: u32,
    sequence: u64,
    password: [u8; 16],
    principal: Principal,
    last: Option<Unit>,
}

struct World {
    machine: Coordination,
    watches: Watches,
    leases: Leases,
    clients: BTreeMap<String, Client>,
    time_ms: i64,
    mono_us: u64,
    printed: String,
}

impl World {
    fn new() -> Self {
        Self {
            machine: Coordination::new(),
            watches: Watches::new(4),
            leases: Leases::new(),
            clients: BTreeMap::new(),
            time_ms: 1000,
            mono_us: 0,
            printed: String::new(),
        }
    }

    fn say(&mut self, line: impl AsRef<str>) {
        self.printed.push_str(line.as_ref());
        self.printed.push('\n');
    }

    fn command(&mut self, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (verb, args) = (words[0], &words[1..]);
        match verb {
            "time" => self.time_ms = args[0].parse().expect("milliseconds"),
            "open" => self.open(args),
            "attach" => self.attach(args),
            "expire" => self.expire(args),
            "auth" => {
                let id = coordination::acl::digest_id(args[1]).expect("user:password");
                let scheme = "digest".into();
                let identity = Identity { scheme, id };
                self.client(args[0]).principal.identities.push(identity);
            }
            "address" => self.client(args[0]).principal.address = args[1].into(),
            "super" => self.client(args[0]).principal.superuser = true,
            "close" => self.submit(args[0], Command::CloseSession),
            "create" | "delete" | "set" | "setacl" | "check" => {
                let op = parse_op(verb, &args[1..]);
                self.submit(args[0], Command::Write(op));
            }
            "multi" => {
                let ops = args[1..]
                    .split(|word| *word == ";")
                    .filter(|op| !op.is_empty())
                    .map(|op| parse_op(op[0], &op[1..]))
                    .collect();
                self.submit(args[0], Command::Multi(ops));
            }
            "again" => {
                let unit = self.client(args[0]).last.clone().expect("a unit was sent");
                self.apply(unit);
            }
            "skip" => self.client(args[0]).sequence += 1,
            "old" => self.client(args[0]).generation -= 1,
            "exists" | "get" | "ls" | "ls2" | "getacl" => self.read(verb, args),
            "kind" => {
                let kind = self.machine.kind(args[0]);
                self.say(format!("{} is {kind:?}", args[0]));
            }
            "watch" => {
                let watcher = self.client(args[0]).watcher;
                let result = self.watches.add(watcher, watch_kind(args[1]), args[2]);
                if result.is_err() {
                    self.say(format!("{} watches too much", args[0]));
                }
            }
            "unwatch" | "watched" => {
                let watcher = self.client(args[0]).watcher;
                let which = selection(args[1]);
                let found = match verb {
                    "unwatch" => self.watches.remove(watcher, which, args[2]),
                    _ => self.watches.contains(watcher, which, args[2]),
                };
                self.say(format!("{verb} {}", if found { "yes" } else { "no" }));
            }
            "disconnect" => {
                let watcher = self.client(args[0]).watcher;
                self.watches.remove_watcher(watcher);
                self.watches.reap(usize::MAX);
            }
            "watches" => {
                let w = &self.watches;
                let line = format!(
                    "{} on {} paths by {}",
                    w.len(),
                    w.path_count(),
                    w.watcher_count()
                );
                self.say(line);
            }
            "replay" => self.replay(args),
            "reapable" => {
                for command in self
                    .machine
                    .reapable(args[0].parse().expect("milliseconds"))
                {
                    if let Command::Reap { path, .. } = command {
                        self.say(format!("reapable {path}"));
                    }
                }
            }
            "reap" => {
                for command in self.machine.reapable(self.time_ms) {
                    let envelope = Envelope::default();
                    self.apply(Unit { envelope, command });
                }
            }
            "counts" => {
                let line = format!("{:?} zxid={}", self.machine.counts(), self.machine.zxid());
                self.say(line);
            }
            "sessions" => {
                let views: Vec<_> = self.machine.sessions().collect();
                for v in views {
                    let name = self.name_of(v.id);
                    self.say(format!(
                        "{name} timeout={} generation={} sequence={} ephemerals={} home={}",
                        v.timeout_ms, v.generation, v.sequence, v.ephemeral_count, v.home.node
                    ));
                }
            }
            "lead" | "touch" | "poll" | "stall" | "deadline" => self.lease(verb, args),
            _ => panic!("no such command: {line}"),
        }
    }

    fn client(&mut self, name: &str) -> &mut Client {
        self.clients.get_mut(name).expect("the client was opened")
    }

    fn name_of(&self, session: SessionId) -> String {
        let found = self.clients.iter().find(|(_, c)| c.session == session);
        found.map_or_else(|| "nobody".into(), |(name, _)| name.clone())
    }

    fn open(&mut self, args: &[&str]) {
        let watcher = self.clients.len() as u64 + 1;
        let client = Client {
            watcher,
            password: [watcher as u8; 16],
            ..Client::default()
        };
        let command = Command::OpenSession {
            origin: origin(watcher),
            password: client.password,
            timeout_ms: args.get(1).map_or(1000, |t| t.parse().expect("ms")),
        };
        self.clients.insert(args[0].into(), client);
        self.apply(Unit {
            envelope: Envelope::default(),
            command,
        });
    }

    fn attach(&mut self, args: &[&str]) {
        let client = self.client(args[0]);
        let mut password = client.password;
        if args.get(1) == Some(&"wrong") {
            password[0] ^= 1;
        }
        let mut from = origin(client.watcher);
        from.home.node.0 += 1;
        let command = Command::AttachSession {
            origin: from,
            session: client.session,
            password,
            timeout_ms: 2000,
        };
        self.apply(Unit {
            envelope: Envelope::default(),
            command,
        });
    }

    fn expire(&mut self, args: &[&str]) {
        let client = self.client(args[0]);
        let command = Command::ExpireSession {
            session: client.session,
            generation: args
                .get(1)
                .map_or(client.generation, |g| g.parse().expect("generation")),
        };
        self.apply(Unit {
            envelope: Envelope::default(),
            command,
        });
    }

    fn submit(&mut self, name: &str, command: Command) {
        let client = self.client(name);
        client.sequence += 1;
        let unit = Unit {
            envelope: Envelope {
                namespace: 0,
                principal: client.principal.clone(),
                session: client.session,
                generation: client.generation,
                sequence: client.sequence,
            },
            command,
        };
        client.last = Some(unit.clone());
        self.apply(unit);
    }

    fn apply(&mut self, unit: Unit) {
        let mut out = Vec::new();
        let stamp = Stamp {
            time_ms: self.time_ms,
            seed: 7,
        };
        self.machine
            .apply(stamp, &unit.encode(), &mut out)
            .expect("known commands");
        if out.is_empty() {
            self.say("(nothing)");
        }
        for output in out {
            self.show(output);
        }
    }

    fn show(&mut self, output: Output) {
        match output {
            Output::Event(event) => {
                self.say(format!("{} {:?} {}", event.zxid, event.kind, event.path));
                let mut told = Vec::new();
                self.watches.handle_event(&event, &mut told);
                for (watcher, kind) in told {
                    let name = self.clients.iter().find(|(_, c)| c.watcher == watcher);
                    let name = name.map(|(n, _)| n.clone()).expect("a client watches");
                    self.say(format!("  tells {name}: {kind:?} {}", event.path));
                }
            }
            Output::Reply {
                session,
                zxid,
                reply,
                ..
            } => {
                let name = self.name_of(session);
                let reply = match reply {
                    coordination::Reply::Write(Ok(reply)) => show_reply(&reply),
                    coordination::Reply::Write(Err(error)) => format!("{error:?}"),
                    coordination::Reply::Multi(Ok(replies)) => {
                        let all: Vec<_> = replies.iter().map(show_reply).collect();
                        format!("multi [{}]", all.join(" | "))
                    }
                    coordination::Reply::Multi(Err(errors)) => format!("multi {errors:?}"),
                    coordination::Reply::Closed => "closed".into(),
                };
                self.say(format!("{zxid} {name}: {reply}"));
            }
            Output::Refused { session, why, .. } => {
                let name = self.name_of(session);
                self.say(format!("{name}: refused, {why:?}"));
            }
            Output::SessionOpened {
                origin,
                session,
                timeout_ms,
                zxid,
                ..
            } => {
                let watcher = origin.token;
                let opened = self.clients.iter_mut().find(|(_, c)| c.watcher == watcher);
                let (name, client) = opened.expect("a client waits");
                (client.session, client.generation) = (session, 1);
                let line = format!("{zxid} {name}: opened {session} timeout={timeout_ms}");
                self.say(line);
                self.leases.opened(self.mono_us, session, 1, timeout_ms);
            }
            Output::SessionAttached {
                session,
                generation,
                timeout_ms,
                previous_home,
                zxid,
                ..
            } => {
                let name = self.name_of(session);
                self.leases
                    .attached(self.mono_us, session, generation, timeout_ms);
                let client = self.client(&name);
                (client.generation, client.sequence) = (generation, 0);
                self.say(format!(
                    "{zxid} {name}: attached generation={generation} timeout={timeout_ms} from={}",
                    previous_home.node
                ));
            }
            Output::AttachRefused { why, .. } => self.say(format!("attach refused, {why:?}")),
            Output::SessionEnded { session, why } => {
                let name = self.name_of(session);
                self.leases.ended(session);
                self.say(format!("{name}: ended, {why:?}"));
            }
        }
    }

    fn read(&mut self, verb: &str, args: &[&str]) {
        let path = args[1].to_owned();
        let query = match verb {
            "exists" => Query::Exists { path },
            "get" => Query::GetData { path },
            "ls" => Query::GetChildren { path },
            "ls2" => Query::GetChildren2 { path },
            _ => Query::GetAcl { path },
        };
        let principal = self.client(args[0]).principal.clone();
        let answer = match self.machine.query(&principal, &query) {
            Ok(Answer::Exists(stat)) => show_stat(&stat),
            Ok(Answer::Data(data, stat)) => {
                format!("{:?} {}", String::from_utf8_lossy(&data), show_stat(&stat))
            }
            Ok(Answer::Children(names)) => format!("{names:?}"),
            Ok(Answer::Children2(names, stat)) => format!("{names:?} {}", show_stat(&stat)),
            Ok(Answer::Acl(acl, stat)) => {
                let lines: Vec<_> = acl.iter().map(show_acl).collect();
                format!("{} aversion={}", lines.join(","), stat.aversion)
            }
            Err(error) => format!("{error:?}"),
        };
        self.say(answer);
    }

    fn replay(&mut self, args: &[&str]) {
        let watcher = self.client(args[0]).watcher;
        let mut replay = WatchReplay {
            relative_zxid: args[1].parse().expect("zxid"),
            ..WatchReplay::default()
        };
        for arg in &args[2..] {
            let (list, paths) = arg.split_once('=').expect("list=paths");
            let paths = paths.split(',').map(str::to_owned).collect();
            *match list {
                "data" => &mut replay.data,
                "exist" => &mut replay.exist,
                "child" => &mut replay.child,
                "persistent" => &mut replay.persistent,
                "recursive" => &mut replay.persistent_recursive,
                _ => panic!("no such list: {list}"),
            } = paths;
        }
        let mut told = Vec::new();
        let result = self
            .watches
            .replay(&self.machine, watcher, &replay, &mut told);
        for (kind, path) in told {
            self.say(format!("  tells {}: {kind:?} {path}", args[0]));
        }
        if result.is_err() {
            self.say(format!("{} watches too much", args[0]));
        }
    }

    /// Times of leases are in milliseconds here.
    fn lease(&mut self, verb: &str, args: &[&str]) {
        let now_us = |at: usize| args[at].parse::<u64>().expect("ms") * 1000;
        if matches!(verb, "lead" | "touch" | "poll") {
            self.mono_us = now_us(0);
        }
        match verb {
            "lead" => {
                let all: Vec<_> = self
                    .machine
                    .sessions()
                    .map(|s| (s.id, s.generation, s.timeout_ms))
                    .collect();
                self.leases.reset(now_us(0), all);
            }
            "touch" => {
                let session = self.client(args[1]).session;
                if !self.leases.touch(now_us(0), session) {
                    self.say(format!("{} has no lease", args[1]));
                }
            }
            "poll" => {
                let max = args.get(1).map_or(100, |m| m.parse().expect("max"));
                let expired = self.leases.poll_expired(now_us(0), max);
                let names: Vec<_> = expired
                    .iter()
                    .map(|(session, generation)| format!("{}@{generation}", self.name_of(*session)))
                    .collect();
                self.say(format!("ran out: [{}]", names.join(" ")));
            }
            "stall" => self.leases.stalled(now_us(0)),
            _ => {
                let line = format!(
                    "{} leases, look at {} us",
                    self.leases.len(),
                    self.leases.deadline_us()
                );
                self.say(line);
            }
        }
    }
}

fn origin(watcher: u64) -> Origin {
    Origin {
        home: CoreAddress {
            node: NodeId(watcher),
            core: CoreId(0),
        },
        token: watcher,
    }
}

fn watch_kind(word: &str) -> WatchKind {
    match word {
        "data" => WatchKind::Data,
        "children" => WatchKind::Children,
        "persistent" => WatchKind::Persistent,
        "recursive" => WatchKind::PersistentRecursive,
        _ => panic!("no such kind: {word}"),
    }
}

fn selection(word: &str) -> WatchSelection {
    match word {
        "data" => WatchSelection::Data,
        "children" => WatchSelection::Children,
        "any" => WatchSelection::Any,
        "persistent" => WatchSelection::Persistent,
        "recursive" => WatchSelection::PersistentRecursive,
        _ => panic!("no such selection: {word}"),
    }
}

/// Text in which `\0` and `\t` stand for those characters.
fn unescape(path: &str) -> String {
    path.replace("\\0", "\0").replace("\\t", "\t")
}

fn parse_acl(text: &str) -> Vec<Acl> {
    text.split(',')
        .filter(|line| !line.is_empty())
        .map(|line| {
            let mut parts = line.splitn(3, ':');
            let letters = parts.next().expect("permissions");
            let scheme = parts.next().expect("scheme").to_owned();
            let id = parts.next().unwrap_or("").to_owned();
            let bit = |c| 1 << "rwcda".find(c).expect("a permission letter");
            Acl {
                permissions: letters.chars().map(bit).sum(),
                identity: Identity { scheme, id },
            }
        })
        .collect()
}

fn show_acl(acl: &Acl) -> String {
    let letters: String = "rwcda"
        .chars()
        .enumerate()
        .filter(|(bit, _)| acl.permissions & (1 << bit) != 0)
        .map(|(_, c)| c)
        .collect();
    format!("{letters}:{}:{}", acl.identity.scheme, acl.identity.id)
}

fn parse_op(verb: &str, args: &[&str]) -> TreeOp {
    let path = unescape(args[0]);
    let version = |at: usize| args.get(at).map_or(-1, |v| v.parse().expect("version"));
    match verb {
        "delete" => TreeOp::Delete {
            path,
            version: version(1),
        },
        "set" => TreeOp::SetData {
            path,
            data: Bytes::copy_from_slice(args[1].as_bytes()),
            version: version(2),
        },
        "setacl" => TreeOp::SetAcl {
            path,
            acl: parse_acl(args[1]),
            version: version(2),
        },
        "check" => TreeOp::Check {
            path,
            version: version(1),
        },
        "create" => {
            let (mut data, mut acl) = (Bytes::new(), vec![Acl::open()]);
            let (mut sequential, mut ephemeral, mut container, mut ttl) =
                (false, false, false, None);
            for arg in &args[1..] {
                match arg.split_once('=') {
                    Some(("acl", text)) => acl = parse_acl(text),
                    Some(("ttl", ms)) => ttl = Some(ms.parse().expect("ms")),
                    _ => match *arg {
                        "seq" => sequential = true,
                        "eph" => ephemeral = true,
                        "container" => container = true,
                        text => data = Bytes::copy_from_slice(text.as_bytes()),
                    },
                }
            }
            let mode = match ttl {
                Some(ttl_ms) => CreateMode::Ttl { ttl_ms, sequential },
                None if container => CreateMode::Container,
                None if ephemeral => CreateMode::Ephemeral { sequential },
                None => CreateMode::Persistent { sequential },
            };
            TreeOp::Create {
                path,
                data,
                acl,
                mode,
            }
        }
        _ => panic!("no such operation: {verb}"),
    }
}

fn show_reply(reply: &OpReply) -> String {
    match reply {
        OpReply::Created { path, stat } => format!("created {path} {}", show_stat(stat)),
        OpReply::Deleted => "deleted".into(),
        OpReply::DataSet(stat) => format!("set {}", show_stat(stat)),
        OpReply::AclSet(stat) => format!("acl set {}", show_stat(stat)),
        OpReply::Checked => "checked".into(),
    }
}

fn show_stat(s: &Stat) -> String {
    let mut line = format!(
        "zxid c={} m={} p={} version {} c={} a={}",
        s.czxid, s.mzxid, s.pzxid, s.version, s.cversion, s.aversion
    );
    write!(line, " time {}/{}", s.ctime_ms, s.mtime_ms).expect("strings grow");
    write!(line, " bytes={} children={}", s.data_length, s.num_children).expect("strings grow");
    if s.ephemeral_owner != 0 {
        write!(line, " owner={}", SessionId(s.ephemeral_owner)).expect("strings grow");
    }
    line
}
