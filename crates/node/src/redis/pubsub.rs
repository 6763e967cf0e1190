//! Publish and subscribe: volatile, at most once, to whoever listens now, on every node of the cluster.

use super::client::Client;
use super::{Context, Redis};
use crate::core::Ask;
use crate::event::ClientId;
use crate::frame::Frame;
use bytes::Bytes;
use std::collections::BTreeMap;
use storage::cache::{Reply, glob_matches};
use wire_redis::Protocol;

/// The older protocol mixes answers and messages up unless a subscriber keeps to these.
pub fn is_allowed(client: &Client, name: &[u8]) -> bool {
    let always = [
        "ping",
        "quit",
        "reset",
        "subscribe",
        "psubscribe",
        "unsubscribe",
        "punsubscribe",
    ];
    client.protocol == Protocol::Resp3
        || always
            .iter()
            .any(|n| n.as_bytes().eq_ignore_ascii_case(name))
}

impl Redis {
    pub(super) fn subscriptions(
        &mut self,
        cx: &mut Context<'_>,
        id: ClientId,
        kind: &str,
        names: &[Bytes],
    ) {
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        let (mine, all) = if kind.starts_with('p') {
            (&mut client.patterns, &mut self.patterns)
        } else {
            (&mut client.channels, &mut self.channels)
        };
        let begins = !kind.ends_with("unsubscribe");
        let names: Vec<Bytes> = if names.is_empty() {
            mine.iter().cloned().collect()
        } else {
            names
                .iter()
                .map(|name| Bytes::copy_from_slice(name))
                .collect()
        };
        let mut told = Vec::new();
        for name in &names {
            if begins && mine.insert(name.clone()) {
                all.entry(name.clone()).or_default().push(id);
            } else if !begins && mine.remove(name) {
                leave(all, name, id);
            }
            told.push((Reply::Bulk(name.clone()), mine.len()));
        }
        if names.is_empty() {
            told.push((Reply::Nil, 0));
        }
        // The other kind's subscriptions count too.
        let others = client.subscriptions()
            - if kind.starts_with('p') {
                client.patterns.len()
            } else {
                client.channels.len()
            };
        for (name, count) in told {
            client.tell(
                cx.now,
                kind,
                &[name, Reply::Integer((count + others) as i64)],
            );
        }
    }

    pub(super) fn unsubscribe_all(&mut self, client: &Client) {
        for name in &client.channels {
            leave(&mut self.channels, name, client.id);
        }
        for name in &client.patterns {
            leave(&mut self.patterns, name, client.id);
        }
    }

    pub(super) fn unsubscribe_silently(&mut self, id: ClientId) {
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        for name in std::mem::take(&mut client.channels) {
            leave(&mut self.channels, &name, id);
        }
        for name in std::mem::take(&mut client.patterns) {
            leave(&mut self.patterns, &name, id);
        }
    }

    /// Answers how many heard it on this node, as a node of a Redis cluster does.
    pub(super) fn publish(
        &mut self,
        cx: &mut Context<'_>,
        channel: &Bytes,
        message: &Bytes,
    ) -> Reply {
        let pool = cx.catalog.pools.get(&cx.catalog.cache_pool);
        let Some(front) = pool.and_then(|pool| pool.shards().next()) else {
            return Reply::error("CLUSTERDOWN The cluster is not formed yet; try again");
        };
        for node in cx
            .catalog
            .members
            .keys()
            .filter(|node| **node != self.me.node)
        {
            let frame = Frame::Publish {
                channel: channel.clone(),
                message: message.clone(),
            };
            cx.asks.push(Ask::Send(*node, front, frame));
        }
        Reply::Integer(self.handle_published(cx, channel, message))
    }

    /// A message for whoever listens here.
    pub fn handle_published(
        &mut self,
        cx: &mut Context<'_>,
        channel: &Bytes,
        message: &Bytes,
    ) -> i64 {
        let mut heard = 0;
        let bulk = |bytes: &Bytes| Reply::Bulk(bytes.clone());
        for id in self.channels.get(channel).cloned().unwrap_or_default() {
            if let Some(client) = self.clients.get_mut(&id) {
                client.tell(cx.now, "message", &[bulk(channel), bulk(message)]);
                self.dirty.push(id);
                heard += 1;
            }
        }
        for (pattern, listeners) in &self.patterns {
            if !glob_matches(pattern, channel) {
                continue;
            }
            for id in listeners {
                if let Some(client) = self.clients.get_mut(id) {
                    let parts = [bulk(pattern), bulk(channel), bulk(message)];
                    client.tell(cx.now, "pmessage", &parts);
                    self.dirty.push(*id);
                    heard += 1;
                }
            }
        }
        cx.counters.notifications += heard as u64;
        heard
    }

    pub(super) fn pubsub(&self, arguments: &[Bytes]) -> Reply {
        match (
            arguments[0].to_ascii_uppercase().as_slice(),
            &arguments[1..],
        ) {
            (b"CHANNELS", []) => {
                Reply::Array(self.channels.keys().cloned().map(Reply::Bulk).collect())
            }
            (b"CHANNELS", [pattern]) => {
                let fitting = self
                    .channels
                    .keys()
                    .filter(|name| glob_matches(pattern, name));
                Reply::Array(fitting.cloned().map(Reply::Bulk).collect())
            }
            (b"NUMSUB", names) => {
                let count = |name: &Bytes| self.channels.get(name).map_or(0, Vec::len) as i64;
                let row = |name: &Bytes| [Reply::Bulk(name.clone()), Reply::Integer(count(name))];
                Reply::Array(names.iter().flat_map(row).collect())
            }
            (b"NUMPAT", []) => Reply::Integer(self.patterns.len() as i64),
            _ => Reply::error("ERR unknown subcommand. Try PUBSUB CHANNELS, NUMSUB, NUMPAT."),
        }
    }
}

fn leave(all: &mut BTreeMap<Bytes, Vec<ClientId>>, name: &Bytes, id: ClientId) {
    if let Some(listeners) = all.get_mut(name) {
        listeners.retain(|listener| *listener != id);
        if listeners.is_empty() {
            all.remove(name);
        }
    }
}
