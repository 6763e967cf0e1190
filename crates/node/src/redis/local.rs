//! Commands about the connection and the server: answered here, without the log.

use super::client::Client;
use super::{Context, DATABASES, Redis};
use crate::event::ClientId;
use base::Origin;
use base::slot::slot_of;
use bytes::Bytes;
use catalog::META_SHARD;
use storage::cache::{KeyRange, Reply, Spec, specs};
use wire_redis::Protocol;

/// Name and arity (with the name; at least so many when negative), as in Redis' COMMAND.
const COMMANDS: &[(&str, i8)] = &[
    ("auth", -2),
    ("bgsave", -1),
    ("client", -2),
    ("cluster", -2),
    ("command", -1),
    ("config", -2),
    ("discard", 1),
    ("echo", 2),
    ("exec", 1),
    ("hello", -1),
    ("info", -1),
    ("lastsave", 1),
    ("multi", 1),
    ("ping", -1),
    ("psubscribe", -2),
    ("publish", 3),
    ("pubsub", -2),
    ("punsubscribe", -1),
    ("quit", -1),
    ("readonly", 1),
    ("readwrite", 1),
    ("reset", 1),
    ("role", 1),
    ("save", 1),
    ("select", 2),
    ("subscribe", -2),
    ("time", 1),
    ("unsubscribe", -1),
    ("unwatch", 1),
    ("wait", 3),
    ("watch", -2),
];

const SYNTAX: Reply = Reply::error("ERR syntax error");

impl Redis {
    pub(super) fn local(&mut self, cx: &mut Context<'_>, id: ClientId, arguments: &[Bytes]) {
        let name = String::from_utf8_lossy(&arguments[0]).to_lowercase();
        let known = COMMANDS.iter().find(|(n, _)| *n == name);
        let fits = |arity: i8| match arity {
            n if n < 0 => arguments.len() >= usize::from(n.unsigned_abs()),
            n => arguments.len() == usize::from(n.unsigned_abs()),
        };
        let in_transaction =
            (self.clients.get(&id)).is_some_and(|client| client.transaction.is_some());
        let may_in_transaction =
            ["discard", "exec", "multi", "quit", "reset", "watch"].contains(&name.as_str());
        let answer = match known {
            None => Some(unknown(arguments)),
            Some((_, arity)) if !fits(*arity) => Some(Reply::Error(
                format!("ERR wrong number of arguments for '{name}' command").into(),
            )),
            Some(_) if in_transaction && !may_in_transaction => Some(Reply::Error(
                format!("ERR '{name}' is not possible inside MULTI; say it before").into(),
            )),
            Some((known, _)) => {
                cx.counters.reads += 1;
                if let Some(client) = self.clients.get_mut(&id) {
                    client.last_command = match (known, arguments.get(1)) {
                        (
                            &"client" | &"cluster" | &"command" | &"config" | &"pubsub",
                            Some(what),
                        ) => {
                            let what = String::from_utf8_lossy(what).to_lowercase();
                            format!("{known}|{what}").into()
                        }
                        (known, _) => (*known).into(),
                    };
                }
                self.local_known(cx, id, &name, &arguments[1..])
            }
        };
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        if let Some(answer) = answer {
            if answer.is_error() {
                cx.counters.errors += 1;
                if let Some(transaction) = &mut client.transaction
                    && !may_in_transaction
                {
                    transaction.failed = true;
                }
            }
            client.answer(cx.now, answer);
        }
    }

    /// `None`: it has told by itself, or the answer comes later.
    fn local_known(
        &mut self,
        cx: &mut Context<'_>,
        id: ClientId,
        name: &str,
        arguments: &[Bytes],
    ) -> Option<Reply> {
        let client = self.clients.get_mut(&id)?;
        let answer = match name {
            "ping" => ping(client, arguments),
            "echo" => Reply::Bulk(arguments[0].clone()),
            "quit" => {
                client.quits = true;
                Reply::OK
            }
            "reset" => {
                let id = client.id;
                let client = self.clients.get_mut(&id)?;
                client.transaction = None;
                client.database = 0;
                client.protocol = Protocol::Resp2;
                client.names = Default::default();
                client.knows_cluster = false;
                self.unsubscribe_silently(id);
                self.unwatch(id);
                Reply::Status("RESET".into())
            }
            "select" => match number(&arguments[0]) {
                None => Reply::error("ERR value is not an integer or out of range"),
                Some(n) if (0..i64::from(DATABASES)).contains(&n) => {
                    client.database = n as u32;
                    Reply::OK
                }
                Some(_) => Reply::error("ERR DB index is out of range"),
            },
            "auth" => auth(arguments),
            "hello" => return Some(self.hello(id, arguments)),
            "client" => return Some(self.client_command(cx, id, arguments)),
            "multi" => return Some(self.multi(id)),
            "discard" => return Some(self.discard(id)),
            "watch" => return self.watch_keys(cx, id, arguments),
            "unwatch" => {
                self.unwatch(id);
                Reply::OK
            }
            "exec" => return self.exec(cx, id),
            "subscribe" | "unsubscribe" | "psubscribe" | "punsubscribe" => {
                self.subscriptions(cx, id, name, arguments);
                return None;
            }
            "publish" => return Some(self.publish(cx, &arguments[0], &arguments[1])),
            "pubsub" => return Some(self.pubsub(arguments)),
            "cluster" => return Some(self.cluster(cx, id, arguments)),
            "readonly" | "readwrite" => {
                client.knows_cluster = true;
                Reply::OK
            }
            "command" => commands(arguments),
            "config" => return Some(self.config(cx, arguments)),
            "info" => return Some(self.info(cx, arguments)),
            "role" => Reply::Array(vec![
                Reply::Bulk(Bytes::from_static(b"master")),
                Reply::Integer(0),
                Reply::Array(Vec::new()),
            ]),
            "time" => {
                let us = cx.now.wall_ms.max(0) as u64 * 1000 + cx.now.mono_us % 1000;
                let text = |n: u64| Reply::Bulk(n.to_string().into());
                Reply::Array(vec![text(us / 1_000_000), text(us % 1_000_000)])
            }
            // All that was acknowledged is on as many copies as its pool promises.
            "wait" => Reply::Integer(self.copies(cx).saturating_sub(1) as i64),
            "save" | "bgsave" | "lastsave" => Reply::Error(
                format!(
                    "ERR '{name}' has no use here: what is acknowledged is kept by the log, and snapshots are taken \
                     without stopping; `althing cluster snapshot SHARD` takes one now"
                )
                .into(),
            ),
            _ => unknown(&[Bytes::copy_from_slice(name.as_bytes())]),
        };
        Some(answer)
    }

    /// Voters of the cache's first shard, as far as they matter: a majority of them has what is acknowledged.
    fn copies(&self, cx: &Context<'_>) -> usize {
        let pool = cx.catalog.pools.get(&cx.catalog.cache_pool);
        let shard = pool
            .and_then(|pool| pool.shards().next())
            .unwrap_or(META_SHARD);
        let group = cx.shard(shard).and_then(|shard| shard.group());
        group.map_or(1, |group| group.membership().conf.voters.len() / 2 + 1)
    }

    fn hello(&mut self, id: ClientId, arguments: &[Bytes]) -> Reply {
        let Some(client) = self.clients.get_mut(&id) else {
            return Reply::Nil;
        };
        let mut protocol = client.protocol;
        let mut name = None;
        let mut rest = arguments.iter();
        if let Some(version) = rest.next() {
            protocol = match number(version) {
                Some(2) => Protocol::Resp2,
                Some(3) => Protocol::Resp3,
                None => {
                    return Reply::error("ERR Protocol version is not an integer or out of range");
                }
                _ => return Reply::error("NOPROTO unsupported protocol version"),
            };
        }
        while let Some(option) = rest.next() {
            match option.to_ascii_uppercase().as_slice() {
                b"AUTH" => {
                    let (Some(user), Some(_)) = (rest.next(), rest.next()) else {
                        return SYNTAX;
                    };
                    if user.as_ref() != b"default" {
                        return WRONG_PASSWORD;
                    }
                }
                b"SETNAME" => match rest.next() {
                    Some(given) => name = Some(given),
                    None => return SYNTAX,
                },
                _ => {
                    let option = String::from_utf8_lossy(option);
                    return Reply::Error(
                        format!("ERR Syntax error in HELLO option '{option}'").into(),
                    );
                }
            }
        }
        if let Some(name) = name
            && let Err(refusal) = set_name(client, 0, name)
        {
            return refusal;
        }
        client.protocol = protocol;
        let text = |t: &str| Reply::Bulk(Bytes::copy_from_slice(t.as_bytes()));
        let version = if protocol == Protocol::Resp3 { 3 } else { 2 };
        Reply::Map(vec![
            (text("server"), text("redis")),
            (text("version"), text(super::server::REDIS_VERSION)),
            (text("proto"), Reply::Integer(version)),
            (text("id"), Reply::Integer(id.0 as i64)),
            (text("mode"), text("standalone")),
            (text("role"), text("master")),
            (text("modules"), Reply::Array(Vec::new())),
        ])
    }

    fn client_command(&mut self, cx: &mut Context<'_>, id: ClientId, arguments: &[Bytes]) -> Reply {
        let me = Origin {
            home: self.me,
            token: id.0,
        };
        let Some(client) = self.clients.get_mut(&id) else {
            return Reply::Nil;
        };
        let what = arguments[0].to_ascii_uppercase();
        match (what.as_slice(), &arguments[1..]) {
            (b"ID", []) => Reply::Integer(me.token as i64),
            (b"GETNAME", []) if client.names[0].is_empty() => Reply::Nil,
            (b"GETNAME", []) => Reply::Bulk(client.names[0].clone().into()),
            (b"SETNAME", [name]) => match set_name(client, 0, name) {
                Ok(()) => Reply::OK,
                Err(refusal) => refusal,
            },
            (b"SETINFO", [attribute, value]) => {
                let at = match attribute.to_ascii_uppercase().as_slice() {
                    b"LIB-NAME" => 1,
                    b"LIB-VER" => 2,
                    _ => return Reply::error("ERR Unrecognized option for CLIENT SETINFO"),
                };
                match set_name(client, at, value) {
                    Ok(()) => Reply::OK,
                    Err(refusal) => refusal,
                }
            }
            (b"NO-EVICT" | b"NO-TOUCH", [_]) => Reply::OK,
            (b"INFO", []) => Reply::Verbatim(self.client_line(cx, id)),
            (b"LIST", _) => {
                let here = self.clients.values().filter(|client| !client.is_linked);
                let mut all: Vec<ClientId> = here.map(|client| client.id).collect();
                all.sort_unstable();
                Reply::Verbatim(all.into_iter().map(|id| self.client_line(cx, id)).collect())
            }
            (b"KILL", [b_id, wanted]) if b_id.eq_ignore_ascii_case(b"ID") => {
                let wanted = number(wanted).and_then(|n| u64::try_from(n).ok());
                let Some(wanted) = wanted.map(ClientId) else {
                    return Reply::error("ERR client-id should be greater than 0");
                };
                if wanted == id {
                    client.quits = true;
                    return Reply::Integer(1);
                }
                let killed = self.clients.contains_key(&wanted);
                self.close(wanted, cx.actions);
                Reply::Integer(killed.into())
            }
            _ => Reply::Error(
                format!(
                    "ERR unknown subcommand or wrong number of arguments for '{}'. Try CLIENT ID, GETNAME, SETNAME, \
                     SETINFO, INFO, LIST, KILL ID, NO-EVICT, NO-TOUCH.",
                    String::from_utf8_lossy(&arguments[0])
                )
                .into(),
            ),
        }
    }

    fn client_line(&self, cx: &Context<'_>, id: ClientId) -> String {
        let Some(client) = self.clients.get(&id) else {
            return String::new();
        };
        let since = |us: u64| cx.now.mono_us.saturating_sub(us) / 1_000_000;
        let multi = client
            .transaction
            .as_ref()
            .map_or(-1, |t| t.commands.len() as i64);
        let version = if client.protocol == Protocol::Resp3 {
            3
        } else {
            2
        };
        format!(
            "id={} addr={} name={} age={} idle={} flags=N db={} sub={} psub={} multi={multi} qbuf={} \
             oll={} watch={} cmd={} resp={version} lib-name={} lib-ver={}\n",
            id.0,
            client.address,
            client.names[0],
            since(client.seen_us.0),
            since(client.seen_us.1),
            client.database,
            client.channels.len(),
            client.patterns.len(),
            client.wire.buffered_bytes(),
            client.queue.len(),
            client.watched.len() + client.watched_there.len(),
            client.last_command,
            client.names[1],
            client.names[2],
        )
    }
}

const WRONG_PASSWORD: Reply =
    Reply::error("WRONGPASS invalid username-password pair or user is disabled.");

/// There are no users yet: the one that everybody is has no password.
fn auth(arguments: &[Bytes]) -> Reply {
    match arguments {
        [_] => Reply::error(
            "ERR AUTH <password> called without any password configured for the default user. Are you sure your \
             configuration is correct?",
        ),
        [user, _] if user.as_ref() == b"default" => Reply::OK,
        [_, _] => WRONG_PASSWORD,
        _ => SYNTAX,
    }
}

fn ping(client: &Client, arguments: &[Bytes]) -> Reply {
    let text = arguments.first().cloned().unwrap_or_default();
    if client.subscriptions() > 0 && client.protocol == Protocol::Resp2 {
        let pong = Reply::Bulk(Bytes::from_static(b"pong"));
        return Reply::Array(vec![pong, Reply::Bulk(text)]);
    }
    match arguments {
        [] => Reply::Status("PONG".into()),
        [_] => Reply::Bulk(text),
        _ => Reply::error("ERR wrong number of arguments for 'ping' command"),
    }
}

fn set_name(client: &mut Client, at: usize, name: &[u8]) -> Result<(), Reply> {
    let is_plain = name.iter().all(|b| (b'!'..=b'~').contains(b));
    match std::str::from_utf8(name) {
        Ok(name) if is_plain => {
            name.clone_into(&mut client.names[at]);
            Ok(())
        }
        _ => Err(Reply::error(
            "ERR Client names cannot contain spaces, newlines or special characters.",
        )),
    }
}

pub(super) fn number(text: &[u8]) -> Option<i64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn unknown(arguments: &[Bytes]) -> Reply {
    let shown = |bytes: &Bytes| {
        let text = String::from_utf8_lossy(bytes);
        text.chars().take(128).collect::<String>()
    };
    let mut text = format!(
        "ERR unknown command '{}', with args beginning with: ",
        shown(&arguments[0])
    );
    for argument in arguments.iter().skip(1).take(8) {
        text += &format!("'{}' ", shown(argument));
    }
    Reply::Error(text.into())
}

// --- COMMAND ---

fn commands(arguments: &[Bytes]) -> Reply {
    let all = || {
        let data = specs().iter().map(of_spec);
        data.chain(COMMANDS.iter().map(of_local)).collect()
    };
    let Some(what) = arguments.first() else {
        return Reply::Array(all());
    };
    let named = |name: &Bytes| {
        let local = COMMANDS
            .iter()
            .find(|(n, _)| n.as_bytes().eq_ignore_ascii_case(name));
        storage::cache::spec(name)
            .map(of_spec)
            .or_else(|| local.map(of_local))
    };
    match (what.to_ascii_uppercase().as_slice(), &arguments[1..]) {
        (b"COUNT", []) => Reply::Integer((specs().len() + COMMANDS.len()) as i64),
        (b"INFO", []) => Reply::Array(all()),
        (b"INFO", names) => Reply::Array(
            (names.iter())
                .map(|name| named(name).unwrap_or(Reply::NilArray))
                .collect(),
        ),
        (b"LIST", []) => {
            let data = specs().iter().map(|spec| spec.name);
            let names = data.chain(COMMANDS.iter().map(|(name, _)| *name));
            Reply::Array(
                names
                    .map(|name| Reply::Bulk(Bytes::from_static(name.as_bytes())))
                    .collect(),
            )
        }
        // The texts are Redis' own; what is known here is the arity.
        (b"DOCS", names) => {
            let all = || {
                let data = specs().iter().map(|spec| (spec.name, spec.arity));
                data.chain(COMMANDS.iter().copied())
            };
            let fits = |name: &str| {
                let is = |wanted: &Bytes| wanted.eq_ignore_ascii_case(name.as_bytes());
                names.is_empty() || names.iter().any(is)
            };
            let bulk = |text: &'static str| Reply::Bulk(Bytes::from_static(text.as_bytes()));
            let row = |arity: i8| Reply::Map(vec![(bulk("arity"), Reply::Integer(arity.into()))]);
            let found = all().filter(|(name, _)| fits(name));
            Reply::Map(
                found
                    .map(|(name, arity)| (bulk(name), row(arity)))
                    .collect(),
            )
        }
        (b"GETKEYS", [name, rest @ ..]) => {
            let Some(spec) = storage::cache::spec(name) else {
                return Reply::error("ERR Invalid command specified");
            };
            let command = storage::cache::Command {
                id: spec.id,
                args: rest.to_vec(),
            };
            if let Err(refusal) = command.check() {
                return refusal;
            }
            let keys: Vec<Reply> = command.keys().map(|key| Reply::Bulk(key.clone())).collect();
            if keys.is_empty() {
                return Reply::error("ERR The command has no key arguments");
            }
            Reply::Array(keys)
        }
        _ => Reply::Error(
            format!(
                "ERR unknown subcommand '{}'. Try COMMAND, COMMAND COUNT, INFO, LIST, GETKEYS.",
                String::from_utf8_lossy(what)
            )
            .into(),
        ),
    }
}

fn of_spec(spec: &Spec) -> Reply {
    let flag = match spec.access {
        storage::cache::Access::Read => "readonly",
        storage::cache::Access::Write => "write",
    };
    let (first, last, step) = match spec.keys {
        KeyRange::None => (0, 0, 0),
        KeyRange::Range { first, last, step } => {
            let last = if last < 0 { last } else { last + 1 };
            (i64::from(first) + 1, i64::from(last), i64::from(step))
        }
        KeyRange::Counted { extra_first, .. } => match extra_first {
            true => (1, 1, 1),
            false => (0, 0, 0),
        },
    };
    let mut flags = vec![Reply::Status(flag.into())];
    if spec.is_blocking {
        flags.push(Reply::Status("blocking".into()));
    }
    if matches!(spec.keys, KeyRange::Counted { .. }) {
        flags.push(Reply::Status("movablekeys".into()));
    }
    info_row(spec.name, spec.arity, flags, (first, last, step))
}

fn of_local((name, arity): &(&'static str, i8)) -> Reply {
    info_row(name, *arity, Vec::new(), (0, 0, 0))
}

fn info_row(name: &'static str, arity: i8, flags: Vec<Reply>, keys: (i64, i64, i64)) -> Reply {
    Reply::Array(vec![
        Reply::Bulk(Bytes::from_static(name.as_bytes())),
        Reply::Integer(arity.into()),
        Reply::Set(flags),
        Reply::Integer(keys.0),
        Reply::Integer(keys.1),
        Reply::Integer(keys.2),
        Reply::Set(Vec::new()),
        Reply::Array(Vec::new()),
        Reply::Array(Vec::new()),
        Reply::Array(Vec::new()),
    ])
}

/// The slot of a key, for CLUSTER KEYSLOT.
pub(super) fn key_slot(key: &[u8]) -> Reply {
    Reply::Integer(slot_of(key).into())
}
