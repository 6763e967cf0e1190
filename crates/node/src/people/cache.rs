//! What people are told of the cache and its pools.

use crate::admin::{AdminReply, CacheStatus, KeyRow, KeysPage, PoolStatus};
use crate::core::Core;
use base::{Now, ShardId};
use bytes::Bytes;
use catalog::{Durability, Policy};
use std::fmt::Write;
use storage::cache::{Cache, Command, DATABASES, Reply, spec};

/// Keys on one page; a few more when many lie in one place.
const KEYS_SHOWN: usize = 100;
/// Keys looked at for one page, in so many steps of so many: a core that looks serves nobody meanwhile.
const LOOKS_MAX: usize = 20;
const LOOKED_AT: &str = "500";
/// Elements and characters of a value that are shown.
const ELEMENTS_SHOWN: &str = "9";
const VALUE_SHOWN_CHARS: usize = 200;

impl Core {
    pub(super) fn pool_statuses(&self) -> Vec<PoolStatus> {
        let name = |shard: &ShardId| self.label(*shard);
        let leader = |shard: &ShardId| match self.router.leader(*shard) {
            Some((_, node)) => format!("{:x}", node.0),
            None => String::new(),
        };
        (self.catalog.pools.iter())
            .map(|(pool_name, pool)| PoolStatus {
                name: pool_name.clone(),
                policy: match pool.policy {
                    Policy::Raft => "raft",
                    Policy::Single => "single",
                }
                .into(),
                durability: match pool.durability {
                    Durability::Always => "always",
                    Durability::EverySecond => "everysec",
                    Durability::None => "none",
                }
                .into(),
                holds_cache: *pool_name == self.catalog.cache_pool,
                slots: (pool.ranges())
                    .map(|(first, last, shard)| (first, last, name(&shard), leader(&shard)))
                    .collect(),
            })
            .collect()
    }

    fn cache_of(&self, shard: ShardId) -> Option<&Cache> {
        Some(&self.replicas.get(shard)?.machine().data()?.cache)
    }

    pub(super) fn cache_status(&self) -> Option<CacheStatus> {
        let pool = self.catalog.pools.get(&self.catalog.cache_pool)?;
        let caches: Vec<&Cache> = (pool.shards())
            .filter_map(|shard| self.cache_of(shard))
            .collect();
        let mut status = CacheStatus {
            pool: self.catalog.cache_pool.clone(),
            memory_bytes: caches.iter().map(|cache| cache.bytes()).sum(),
            ..CacheStatus::default()
        };
        for database in 0..DATABASES {
            let sum = |count: fn(&Cache, u32) -> usize| -> u64 {
                caches.iter().map(|c| count(c, database) as u64).sum()
            };
            let (keys, ending) = (sum(Cache::key_count), sum(Cache::ending_count));
            if keys > 0 {
                status.databases.push((database, keys, ending));
            }
            status.keys += keys;
            status.ending += ending;
        }
        self.redis.describe(&mut status);
        Some(status)
    }

    /// As this node's replica has them, which may be a little behind.
    pub(super) fn read_keys(
        &mut self,
        now: Now,
        (name, database): (&str, u32),
        prefix: &str,
        mut cursor: u64,
    ) -> AdminReply {
        let refused = |message: String| AdminReply::Refused { message };
        let now_ms = self.stamp_clock.read_ms(now);
        let pool = self.catalog.pools.get(&self.catalog.cache_pool);
        let shard = match name {
            "" => pool.and_then(|pool| pool.shards().next()),
            name => self.catalog.shard_named(name),
        };
        let held = shard.filter(|shard| pool.is_some_and(|p| p.shards().any(|s| s == *shard)));
        let Some((shard, cache)) = held.and_then(|shard| Some((shard, self.cache_of(shard)?)))
        else {
            return refused(format!(
                "this core has no replica of the cache's shard {name:?}; ask another node"
            ));
        };
        if database >= DATABASES {
            return refused(format!("databases are 0 to {}", DATABASES - 1));
        }
        let look = Look {
            cache,
            now_ms,
            database,
        };
        let pattern = pattern(prefix);
        let mut page = KeysPage {
            shard: self.label(shard),
            database,
            prefix: prefix.into(),
            ..KeysPage::default()
        };
        for _ in 0..LOOKS_MAX {
            let at = cursor.to_string();
            let asked = [
                at.as_bytes(),
                b"MATCH",
                &pattern,
                b"COUNT",
                LOOKED_AT.as_bytes(),
            ];
            let Reply::Array(parts) = look.ask("scan", &asked) else {
                return refused("its keys cannot be read".into());
            };
            let [Reply::Bulk(next), Reply::Array(keys)] = &parts[..] else {
                return refused("its keys cannot be read".into());
            };
            for key in keys {
                if let Reply::Bulk(key) = key {
                    page.keys.push(look.row(key));
                }
            }
            cursor = text(next).parse().unwrap_or(0);
            if cursor == 0 || page.keys.len() >= KEYS_SHOWN {
                break;
            }
        }
        page.next = cursor;
        AdminReply::Keys(page)
    }
}

/// One database of one shard, at one time.
struct Look<'a> {
    cache: &'a Cache,
    now_ms: i64,
    database: u32,
}

impl Look<'_> {
    fn ask(&self, name: &str, args: &[&[u8]]) -> Reply {
        let Some(spec) = spec(name.as_bytes()) else {
            return Reply::error("ERR no such command");
        };
        let command = Command {
            id: spec.id,
            args: args.iter().map(|a| Bytes::copy_from_slice(a)).collect(),
        };
        self.cache.read(self.now_ms, self.database, &command)
    }

    fn row(&self, key: &Bytes) -> KeyRow {
        let kind = match self.ask("type", &[key]) {
            Reply::Status(kind) => kind.into_owned(),
            _ => String::new(),
        };
        let number = |reply| match reply {
            Reply::Integer(n) => u64::try_from(n).ok(),
            _ => None,
        };
        let size = number(match kind.as_str() {
            "string" => self.ask("strlen", &[key]),
            "list" => self.ask("llen", &[key]),
            "hash" => self.ask("hlen", &[key]),
            "set" => self.ask("scard", &[key]),
            "zset" => self.ask("zcard", &[key]),
            _ => Reply::Nil,
        });
        let last = ELEMENTS_SHOWN.as_bytes();
        let value = match kind.as_str() {
            "string" => self.ask("getrange", &[key, b"0", b"400"]),
            "list" => self.ask("lrange", &[key, b"0", last]),
            "hash" => scanned(self.ask("hscan", &[key, b"0", b"COUNT", last])),
            "set" => scanned(self.ask("sscan", &[key, b"0", b"COUNT", last])),
            "zset" => self.ask("zrange", &[key, b"0", last, b"WITHSCORES"]),
            _ => Reply::Nil,
        };
        let mut shown = String::new();
        show(&value, &mut shown);
        if let Some((end, _)) = shown.char_indices().nth(VALUE_SHOWN_CHARS) {
            shown.truncate(end);
            shown.push('…');
        }
        KeyRow {
            key: text(key),
            kind,
            ttl_ms: number(self.ask("pttl", &[key])),
            size: size.unwrap_or(0),
            value: shown,
        }
    }
}

/// Names that begin so.
fn pattern(prefix: &str) -> Vec<u8> {
    let mut pattern = Vec::with_capacity(prefix.len() + 1);
    for byte in prefix.bytes() {
        if b"*?[]^\\".contains(&byte) {
            pattern.push(b'\\');
        }
        pattern.push(byte);
    }
    pattern.push(b'*');
    pattern
}

/// What a scan found, without its cursor.
fn scanned(reply: Reply) -> Reply {
    match reply {
        Reply::Array(mut parts) => parts.pop().unwrap_or(Reply::Nil),
        other => other,
    }
}

fn show(reply: &Reply, out: &mut String) {
    if out.len() > 4 * VALUE_SHOWN_CHARS {
        return;
    }
    match reply {
        Reply::Bulk(bytes) => out.push_str(&text(&bytes[..bytes.len().min(2 * VALUE_SHOWN_CHARS)])),
        Reply::Array(parts) => {
            for (i, part) in parts.iter().enumerate() {
                if i > 0 {
                    out.push_str(", ");
                }
                show(part, out);
            }
        }
        Reply::Pairs(pairs) => {
            for (i, (member, score)) in pairs.iter().enumerate() {
                out.push_str(if i > 0 { ", " } else { "" });
                show(member, out);
                out.push_str(": ");
                show(score, out);
            }
        }
        Reply::Double(number) => {
            storage::cache::double_text(*number, |text| out.push_str(&self::text(text)));
        }
        Reply::Integer(number) => _ = write!(out, "{number}"),
        _ => {}
    }
}

/// Text as it is; other bytes as `\xNN`.
fn text(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        out.push_str(chunk.valid());
        for byte in chunk.invalid() {
            // Writing to a string cannot fail.
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    out
}
