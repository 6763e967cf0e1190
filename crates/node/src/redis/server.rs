//! INFO and CONFIG: the server described in the terms that tools look for.

use super::local::number;
use super::{Context, DATABASES, Redis};
use crate::admin::CacheStatus;
use crate::event::FrontEnd;
use bytes::Bytes;
use catalog::Durability;
use std::collections::BTreeMap;
use storage::cache::{Reply, glob_matches};

/// The version of Redis whose commands and answers these are.
pub const REDIS_VERSION: &str = "7.0.15";

impl Redis {
    /// Adds what people are told of the connections here.
    pub fn describe(&self, status: &mut CacheStatus) {
        let here = || self.clients.values().filter(|client| !client.is_linked);
        status.clients = here().count() as u64;
        status.blocked = here().filter(|client| client.stalled).count() as u64;
        status.subscriptions = (self.channels.len() + self.patterns.len()) as u64;
        status.outstanding = here().map(|c| c.queue.len() as u64).sum();
        status.commands = self.commands;
        status.connections = self.connections;
    }

    pub(super) fn info(&self, cx: &Context<'_>, wanted: &[Bytes]) -> Reply {
        let mut text = String::new();
        for (name, lines) in self.sections(cx) {
            let all = wanted.is_empty();
            let fits = |w: &Bytes| {
                ["all", "default", "everything", name]
                    .iter()
                    .any(|n| w.eq_ignore_ascii_case(n.as_bytes()))
            };
            if all || wanted.iter().any(fits) {
                let mut title = name.to_owned();
                title[..1].make_ascii_uppercase();
                text += &format!("# {title}\r\n");
                for (key, value) in lines {
                    text += &format!("{key}:{value}\r\n");
                }
                text += "\r\n";
            }
        }
        Reply::Verbatim(text)
    }

    fn sections(&self, cx: &Context<'_>) -> Vec<(&'static str, Vec<(String, String)>)> {
        let row = |key: &str, value: String| (key.to_owned(), value);
        let pool = cx.catalog.pools.get(&cx.catalog.cache_pool);
        let shards: Vec<_> = pool.into_iter().flat_map(|pool| pool.shards()).collect();
        let caches = || shards.iter().filter_map(|shard| cx.cache(*shard));
        let bytes: u64 = caches().map(|cache| cache.bytes()).sum();
        let blocked = self
            .clients
            .values()
            .filter(|client| client.stalled)
            .count();
        let port = self.listeners.get(&FrontEnd::Redis);
        let port = port
            .and_then(|address| address.rsplit_once(':'))
            .map_or("0", |(_, port)| port);
        let replicas = cx.catalog.members.len().saturating_sub(1);
        let keyspace = (0..DATABASES)
            .filter_map(|database| {
                let keys: usize = caches().map(|cache| cache.key_count(database)).sum();
                let ending: usize = caches().map(|cache| cache.ending_count(database)).sum();
                let value = format!("keys={keys},expires={ending},avg_ttl=0");
                (keys > 0).then(|| row(&format!("db{database}"), value))
            })
            .collect();
        vec![
            (
                "server",
                vec![
                    row("redis_version", REDIS_VERSION.into()),
                    row("althing_version", env!("CARGO_PKG_VERSION").into()),
                    row(
                        "redis_mode",
                        if self.redirects {
                            "cluster"
                        } else {
                            "standalone"
                        }
                        .into(),
                    ),
                    row("tcp_port", port.into()),
                    row("uptime_in_seconds", {
                        (cx.now.mono_us.saturating_sub(self.started_us) / 1_000_000).to_string()
                    }),
                    row("run_id", format!("{:040x}", self.me.node.0)),
                ],
            ),
            (
                "clients",
                vec![
                    row("connected_clients", self.clients.len().to_string()),
                    row("blocked_clients", blocked.to_string()),
                    row("pubsub_clients", {
                        let listens = |c: &&super::Client| c.subscriptions() > 0;
                        self.clients.values().filter(listens).count().to_string()
                    }),
                ],
            ),
            (
                "memory",
                vec![
                    row("used_memory", bytes.to_string()),
                    row("maxmemory", "0".into()),
                    row("maxmemory_policy", "noeviction".into()),
                ],
            ),
            (
                "persistence",
                vec![
                    row("loading", "0".into()),
                    row("aof_enabled", "1".into()),
                    row(
                        "althing_durability",
                        durability_text(pool.map(|p| p.durability)).into(),
                    ),
                ],
            ),
            (
                "stats",
                vec![
                    row("total_connections_received", self.connections.to_string()),
                    row("total_commands_processed", self.commands.to_string()),
                    row("pubsub_channels", self.channels.len().to_string()),
                    row("pubsub_patterns", self.patterns.len().to_string()),
                ],
            ),
            (
                "replication",
                vec![
                    row("role", "master".into()),
                    row("connected_slaves", replicas.to_string()),
                ],
            ),
            (
                "cluster",
                vec![row("cluster_enabled", u8::from(self.redirects).to_string())],
            ),
            ("keyspace", keyspace),
        ]
    }

    pub(super) fn config(&mut self, cx: &Context<'_>, arguments: &[Bytes]) -> Reply {
        let pool = cx.catalog.pools.get(&cx.catalog.cache_pool);
        let durability = pool.map(|pool| pool.durability);
        let values = BTreeMap::from([
            (
                "appendonly",
                if durability == Some(Durability::None) {
                    "no"
                } else {
                    "yes"
                }
                .to_owned(),
            ),
            ("appendfsync", durability_text(durability).to_owned()),
            (
                "cluster-enabled",
                if self.redirects { "yes" } else { "no" }.to_owned(),
            ),
            ("databases", DATABASES.to_string()),
            ("maxmemory", "0".to_owned()),
            ("maxmemory-policy", "noeviction".to_owned()),
            ("proto-max-bulk-len", self.limits.bulk_bytes_max.to_string()),
            ("save", String::new()),
            ("timeout", self.idle_seconds_max.to_string()),
        ]);
        match (
            arguments[0].to_ascii_uppercase().as_slice(),
            &arguments[1..],
        ) {
            (b"GET", patterns) if !patterns.is_empty() => {
                let fits = |name: &str| {
                    let lower = |p: &Bytes| p.to_ascii_lowercase();
                    patterns
                        .iter()
                        .any(|p| glob_matches(&lower(p), name.as_bytes()))
                };
                let bulk = |text: &str| Reply::Bulk(Bytes::copy_from_slice(text.as_bytes()));
                let found = values.iter().filter(|(name, _)| fits(name));
                Reply::Map(
                    found
                        .map(|(name, value)| (bulk(name), bulk(value)))
                        .collect(),
                )
            }
            (b"SET", pairs) if !pairs.is_empty() && pairs.len().is_multiple_of(2) => {
                // All else is set in the configuration file or, for the cluster, in its catalog; what is so
                // already may be said again.
                for pair in pairs.chunks(2) {
                    let name = String::from_utf8_lossy(&pair[0]).to_lowercase();
                    if name == "timeout" {
                        let seconds = number(&pair[1]).and_then(|n| u64::try_from(n).ok());
                        let Some(seconds) = seconds else {
                            return Reply::error(
                                "ERR CONFIG SET failed - 'timeout' must be a number of seconds, 0 for never",
                            );
                        };
                        self.idle_seconds_max = seconds;
                        continue;
                    }
                    match values.get(name.as_str()) {
                        Some(value) if value.as_bytes() == pair[1].as_ref() => {}
                        Some(value) => {
                            return Reply::Error(
                                format!(
                                    "ERR CONFIG SET failed - '{name}' is '{value}' and cannot change while the server \
                                     runs; see `althing config check`"
                                )
                                .into(),
                            );
                        }
                        None => {
                            return Reply::Error(
                                format!(
                                    "ERR Unknown option or number of arguments for CONFIG SET - '{name}'"
                                )
                                .into(),
                            );
                        }
                    }
                }
                Reply::OK
            }
            (b"RESETSTAT", []) => {
                Reply::error("ERR counters are never reset; read their difference")
            }
            _ => Reply::error("ERR unknown subcommand. Try CONFIG GET, CONFIG SET."),
        }
    }
}

fn durability_text(durability: Option<Durability>) -> &'static str {
    match durability {
        None | Some(Durability::Always) => "always",
        Some(Durability::EverySecond) => "everysec",
        Some(Durability::None) => "no",
    }
}
