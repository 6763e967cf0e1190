//! MULTI, EXEC, DISCARD, WATCH: commands are gathered here and go into the log as one unit.

use super::client::{Client, PendingKind, Transaction};
use super::{Context, Redis};
use crate::event::ClientId;
use base::ShardId;
use bytes::Bytes;
use storage::cache::{Body, Reply, Watched};

/// Notes what the watched keys are like, now that all before it is answered. The replica here may be behind:
/// then the transaction is refused although it need not be, never the other way round.
pub fn watch(cx: &Context<'_>, client: &mut Client, keys: Vec<(ShardId, Bytes)>) {
    let database = client.database;
    for (shard, key) in keys {
        let is_same = |w: &(ShardId, Watched)| w.1.database == database && w.1.key == key;
        if client.watched.iter().any(is_same) {
            continue;
        }
        if let Some(cache) = cx.cache(shard) {
            let version = cache.version(database, &key);
            let watched = Watched {
                database,
                key,
                version,
            };
            client.watched.push((shard, watched));
        }
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
        client.watched.clear();
        Reply::OK
    }

    /// `None`: it waits in the queue.
    pub(super) fn watch_keys(
        &mut self,
        cx: &mut Context<'_>,
        id: ClientId,
        keys: &[Bytes],
    ) -> Option<Reply> {
        let placed: Result<Vec<(ShardId, Bytes)>, Reply> = (keys.iter())
            .map(|key| Ok((self.shard_of(cx, key)?, Bytes::copy_from_slice(key))))
            .collect();
        let client = self.clients.get_mut(&id)?;
        if client.transaction.is_some() {
            return Some(Reply::error("ERR WATCH inside MULTI is not allowed"));
        }
        match placed {
            Err(refusal) => Some(refusal),
            Ok(placed) if client.queue.is_empty() => {
                watch(cx, client, placed);
                Some(Reply::OK)
            }
            Ok(placed) => {
                client.stalled = true;
                client.push(cx.now, PendingKind::Watch(placed));
                None
            }
        }
    }

    /// `None`: the answer comes from the log.
    pub(super) fn exec(&mut self, cx: &mut Context<'_>, id: ClientId) -> Option<Reply> {
        let client = self.clients.get_mut(&id)?;
        let Some(transaction) = client.transaction.take() else {
            return Some(Reply::error("ERR EXEC without MULTI"));
        };
        let watched = std::mem::take(&mut client.watched);
        if transaction.failed {
            return Some(Reply::error(
                "EXECABORT Transaction discarded because of previous errors.",
            ));
        }
        let mut shard = None;
        let keys = (transaction.commands.iter()).flat_map(storage::cache::Command::keys);
        let shards = keys.map(|key| self.shard_of(cx, key));
        for found in shards.chain(watched.iter().map(|(shard, _)| Ok(*shard))) {
            match found {
                Err(refusal) => return Some(refusal),
                Ok(found) if shard.is_some_and(|shard| shard != found) => {
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
            return Some(Reply::error(
                "CLUSTERDOWN The cluster is not formed yet; try again",
            ));
        };
        let body = Body::Exec {
            watched: watched.into_iter().map(|(_, watched)| watched).collect(),
            commands: transaction.commands,
        };
        self.propose(cx, id, shard, body, None);
        None
    }
}
