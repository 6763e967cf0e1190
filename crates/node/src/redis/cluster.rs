//! CLUSTER: what clients that know of slots ask, from the catalog and the router.

use super::local::{key_slot, number};
use super::{Context, Redis};
use crate::event::{ClientId, FrontEnd};
use base::slot::slot_of;
use base::{NodeId, ShardId};
use bytes::Bytes;
use storage::cache::Reply;

impl Redis {
    /// A refusal that names the leader's node, when that is another one.
    pub(super) fn redirect(
        &self,
        cx: &Context<'_>,
        key: &[u8],
        shard: ShardId,
    ) -> Result<(), Reply> {
        match cx.router.leader(shard) {
            Some((_, node)) if node != self.me.node => match self.listener(cx, node) {
                Some((host, port)) => {
                    let text = format!("MOVED {} {host}:{port}", slot_of(key));
                    Err(Reply::Error(text.into()))
                }
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }

    /// Where clients reach a node: host and port.
    fn listener(&self, cx: &Context<'_>, node: NodeId) -> Option<(String, i64)> {
        let address = if node == self.me.node {
            self.listeners.get(&FrontEnd::Redis)
        } else {
            cx.peers.listener(node, FrontEnd::Redis)
        };
        let (host, port) = address?.rsplit_once(':')?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        Some((host.to_owned(), port.parse().ok()?))
    }

    /// Ranges of slots, and the nodes that hold them, the leader first.
    fn ranges(&self, cx: &Context<'_>) -> Vec<(u16, u16, Vec<NodeId>)> {
        let Some(pool) = cx.catalog.pools.get(&cx.catalog.cache_pool) else {
            return Vec::new();
        };
        (pool.ranges())
            .map(|(first, last, shard)| {
                let leader = cx.router.leader(shard).map(|(_, node)| node);
                let record = cx.catalog.shards.get(&shard);
                let all = record
                    .into_iter()
                    .flat_map(|r| r.replicas.values().copied());
                let mut nodes: Vec<NodeId> = all.collect();
                nodes.sort_unstable_by_key(|node| (Some(*node) != leader, *node));
                (first, last, nodes)
            })
            .collect()
    }

    pub(super) fn cluster(
        &mut self,
        cx: &mut Context<'_>,
        id: ClientId,
        arguments: &[Bytes],
    ) -> Reply {
        let text = |t: String| Reply::Bulk(t.into());
        match (arguments[0].to_ascii_uppercase().as_slice(), &arguments[1..]) {
            (b"KEYSLOT", [key]) => key_slot(key),
            (b"MYID", []) => text(name(self.me.node)),
            (b"COUNTKEYSINSLOT", [slot]) => match number(slot) {
                Some(slot) if (0..16_384).contains(&slot) => Reply::error(
                    "ERR keys are not counted by slot; DBSIZE counts them all",
                ),
                _ => Reply::error("ERR Invalid slot"),
            },
            (b"INFO", []) => {
                let ranges = self.ranges(cx);
                let led = ranges.iter().all(|(.., nodes)| !nodes.is_empty());
                let known = cx.catalog.members.len();
                let size = ranges.len();
                text(format!(
                    "cluster_enabled:1\r\ncluster_state:{}\r\ncluster_slots_assigned:16384\r\n\
                     cluster_slots_ok:16384\r\ncluster_slots_pfail:0\r\ncluster_slots_fail:0\r\n\
                     cluster_known_nodes:{known}\r\ncluster_size:{size}\r\ncluster_current_epoch:1\r\n\
                     cluster_my_epoch:1\r\n",
                    if led { "ok" } else { "fail" }
                ))
            }
            (b"SLOTS", []) => {
                self.learns_cluster(id);
                Reply::Array((self.ranges(cx).into_iter()).filter_map(|r| self.slots_row(cx, r)).collect())
            }
            (b"SHARDS", []) => {
                self.learns_cluster(id);
                Reply::Array((self.ranges(cx).into_iter()).map(|r| self.shards_row(cx, r)).collect())
            }
            (b"NODES", []) => {
                self.learns_cluster(id);
                text(self.nodes_text(cx))
            }
            _ => Reply::Error(
                format!(
                    "ERR unknown subcommand or wrong number of arguments for '{}'. Members are managed with `althing \
                     cluster`; here are CLUSTER INFO, KEYSLOT, MYID, NODES, SHARDS, SLOTS.",
                    String::from_utf8_lossy(&arguments[0])
                )
                .into(),
            ),
        }
    }

    fn learns_cluster(&mut self, id: ClientId) {
        if let Some(client) = self.clients.get_mut(&id) {
            client.knows_cluster = true;
        }
    }

    /// `None` while no node that holds them has said where clients reach it.
    fn slots_row(
        &self,
        cx: &Context<'_>,
        (first, last, nodes): (u16, u16, Vec<NodeId>),
    ) -> Option<Reply> {
        let mut row = vec![Reply::Integer(first.into()), Reply::Integer(last.into())];
        for node in nodes {
            if let Some((host, port)) = self.listener(cx, node) {
                row.push(Reply::Array(vec![
                    Reply::Bulk(host.into()),
                    Reply::Integer(port),
                    Reply::Bulk(name(node).into()),
                    Reply::Array(Vec::new()),
                ]));
            }
        }
        (row.len() > 2).then_some(Reply::Array(row))
    }

    fn shards_row(&self, cx: &Context<'_>, (first, last, nodes): (u16, u16, Vec<NodeId>)) -> Reply {
        let text = |t: &str| Reply::Bulk(Bytes::copy_from_slice(t.as_bytes()));
        let described = nodes.iter().enumerate().filter_map(|(i, node)| {
            let (host, port) = self.listener(cx, *node)?;
            Some(Reply::Map(vec![
                (text("id"), text(&name(*node))),
                (text("port"), Reply::Integer(port)),
                (text("ip"), text(&host)),
                (text("endpoint"), text(&host)),
                (
                    text("role"),
                    text(if i == 0 { "master" } else { "replica" }),
                ),
                (text("replication-offset"), Reply::Integer(0)),
                (text("health"), text("online")),
            ]))
        });
        let slots = vec![Reply::Integer(first.into()), Reply::Integer(last.into())];
        Reply::Map(vec![
            (text("slots"), Reply::Array(slots)),
            (text("nodes"), Reply::Array(described.collect())),
        ])
    }

    fn nodes_text(&self, cx: &Context<'_>) -> String {
        let ranges = self.ranges(cx);
        let mut lines = String::new();
        for node in cx.catalog.members.keys() {
            let Some((host, port)) = self.listener(cx, *node) else {
                continue;
            };
            let led = ranges
                .iter()
                .filter(|(.., nodes)| nodes.first() == Some(node));
            let slots: String = led
                .map(|(first, last, _)| format!(" {first}-{last}"))
                .collect();
            let follows = ranges.iter().find(|(.., nodes)| nodes.contains(node));
            let role = match follows.and_then(|(.., nodes)| nodes.first()) {
                Some(leader) if slots.is_empty() => format!("slave {}", name(*leader)),
                _ => "master -".to_owned(),
            };
            let myself = if *node == self.me.node { "myself," } else { "" };
            lines += &format!(
                "{} {host}:{port}@{port} {myself}{role} 0 0 1 connected{slots}\n",
                name(*node)
            );
        }
        lines
    }
}

/// Forty hexadecimal digits, as clients expect a node's name.
fn name(node: NodeId) -> String {
    format!("{:040x}", node.0)
}
