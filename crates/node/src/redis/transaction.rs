//! MULTI, EXEC, DISCARD, WATCH: commands are gathered here and go into the log as one unit.

use super::client::{Client, PendingKind, Transaction};
use super::many::Combine;
use super::{Context, Redis};
use crate::event::ClientId;
use base::{CoreAddress, ShardId};
use bytes::Bytes;
use std::collections::BTreeMap;
use storage::cache::{Body, Reply, Watched};

/// A version that no key has.
const NEVER: u64 = u64::MAX;

/// Notes what the watched keys are like, now that all before it is answered. The replica here may be behind:
/// then the transaction is refused although it need not be, never the other way round.
pub fn watch(cx: &Context<'_>, client: &mut Client, keys: Vec<(ShardId, Bytes)>) {
    let database = client.database;
    for (shard, key) in keys {
        let is_same = |w: &(ShardId, Watched)| w.1.database == database && w.1.key == key;
        if client.watched.iter().any(is_same) {
            continue;
        }
        // The replica may have gone since WATCH came: then the transaction is refused, too.
        let version = cx.cache(shard).map(|cache| cache.version(database, &key));
        let watched = Watched {
            database,
            key,
            version: version.unwrap_or(NEVER),
        };
        client.watched.push((shard, watched));
    }
}

impl Redis {
    pub(super) fn multi(&mut self, id: ClientId) -> Reply {
        let Some(client) = self.clients.get_mut(&id) else {
            return Reply::Nil;
        };
        if client.transaction.is_some() {
            return Reply::error("ERR MULTI calls can not be nested");
        }
        client.transaction = Some(Transaction::default());
        Reply::OK
    }

    pub(super) fn discard(&mut self, id: ClientId) -> Reply {
        let Some(client) = self.clients.get_mut(&id) else {
            return Reply::Nil;
        };
        if client.transaction.take().is_none() {
            return Reply::error("ERR DISCARD without MULTI");
        }
        self.unwatch(id);
        Reply::OK
    }

    /// `None`: it waits in the queue.
    pub(super) fn watch_keys(
        &mut self,
        cx: &mut Context<'_>,
        id: ClientId,
        keys: &[Bytes],
    ) -> Option<Reply> {
        let client = self.clients.get(&id)?;
        if client.transaction.is_some() {
            return Some(Reply::error("ERR WATCH inside MULTI is not allowed"));
        }
        let mut here = Vec::new();
        let mut there: BTreeMap<(ShardId, CoreAddress), Vec<Bytes>> = BTreeMap::new();
        for key in keys {
            let shard = match self.shard_of(cx, key) {
                Ok(shard) => shard,
                Err(refusal) => return Some(refusal),
            };
            let key = Bytes::copy_from_slice(key);
            match self.whereabouts(cx, client, shard) {
                Ok(None) => here.push((shard, key)),
                Ok(Some(to)) => there.entry((shard, to)).or_default().push(key),
                Err(refusal) => return Some(refusal),
            }
        }
        let mut parts: Vec<PendingKind> = (there.into_iter())
            .map(|(place, keys)| self.watch_there(id, place, keys))
            .collect();
        let client = self.clients.get_mut(&id)?;
        if parts.is_empty() && client.queue.is_empty() {
            watch(cx, client, here);
            return Some(Reply::OK);
        }
        client.stalled |= !here.is_empty();
        parts.push(PendingKind::Watch(here));
        client.push(cx.now, PendingKind::Many(parts, Combine::Same));
        None
    }

    /// `None`: the answer comes from the log.
    pub(super) fn exec(&mut self, cx: &mut Context<'_>, id: ClientId) -> Option<Reply> {
        let client = self.clients.get_mut(&id)?;
        let Some(transaction) = client.transaction.take() else {
            return Some(Reply::error("ERR EXEC without MULTI"));
        };
        let watched = std::mem::take(&mut client.watched);
        let watched_there: Vec<ShardId> = client.watched_there.iter().map(|(s, _)| *s).collect();
        let has_watched_there = !watched_there.is_empty();
        if transaction.failed {
            self.unwatch(id);
            return Some(Reply::error(
                "EXECABORT Transaction discarded because of previous errors.",
            ));
        }
        let mut shard = None;
        let keys = (transaction.commands.iter()).flat_map(storage::cache::Command::keys);
        let shards = keys.map(|key| self.shard_of(cx, key));
        let watched_in = watched.iter().map(|(shard, _)| *shard).chain(watched_there);
        let found: Vec<_> = shards.chain(watched_in.map(Ok)).collect();
        for found in found {
            match found {
                Err(refusal) => {
                    self.unwatch(id);
                    return Some(refusal);
                }
                Ok(found) if shard.is_some_and(|shard| shard != found) => {
                    self.unwatch(id);
                    return Some(Reply::error(
                        "CROSSSLOT Keys of a transaction don't lie in the same shard; give them one hash tag",
                    ));
                }
                Ok(found) => shard = Some(found),
            }
        }
        let Some(shard) = shard.or_else(|| {
            let pool = cx.catalog.pools.get(&cx.catalog.cache_pool)?;
            pool.shards().next()
        }) else {
            return Some(super::DOWN);
        };
        match self.whereabouts(cx, self.clients.get(&id)?, shard) {
            Ok(Some(to)) => {
                self.clients.get_mut(&id)?.watched = watched;
                return self.forward_exec(cx, id, (shard, to), transaction.commands);
            }
            // What it depends on is watched where the shard was before.
            Ok(None) if has_watched_there => {
                self.unwatch(id);
                return Some(Reply::NilArray);
            }
            Ok(None) => {}
            Err(refusal) => {
                self.unwatch(id);
                return Some(refusal);
            }
        }
        let body = Body::Exec {
            watched: watched.into_iter().map(|(_, watched)| watched).collect(),
            commands: transaction.commands,
        };
        self.propose(cx, id, shard, body, None);
        None
    }
}
