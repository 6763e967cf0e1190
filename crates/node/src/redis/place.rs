//! Where the keys of a command lie, and whether it may be carried out there.

use super::*;

/// Where the keys of a command lie.
pub(super) enum Place {
    /// In one shard: here, or at another core.
    One(ShardId, Option<CoreAddress>),
    /// In several.
    Many(Vec<ShardId>),
}

/// The shards of a whole database.
pub(super) enum Whole {
    /// One shard has it all.
    One(ShardId),
    /// It is spread; these are meant.
    Several(Vec<ShardId>),
}

impl Redis {
    /// Where the keys of a command lie. `only`: the shard that another core means.
    pub(super) fn place(
        &self,
        cx: &Context<'_>,
        id: ClientId,
        spec: &Spec,
        command: &Command,
        only: Option<ShardId>,
    ) -> Result<Place, Reply> {
        let Some(client) = self.clients.get(&id) else {
            return Err(super::DOWN);
        };
        if cx.follows && spec.access == Access::Write {
            return Err(Reply::error(
                "READONLY You can't write against a read only replica: this cluster follows another one; write there, or promote this one with `althing cluster promote`",
            ));
        }
        let is_sent_on = !client.is_linked && (self.redirects || client.knows_cluster);
        let mut first = only;
        let mut others = Vec::new();
        for key in command.keys() {
            let shard = self.shard_of(cx, key)?;
            if *first.get_or_insert(shard) != shard && !others.contains(&shard) {
                others.push(shard);
            }
            if is_sent_on {
                self.redirect(cx, key, shard)?;
            }
        }
        let shard = match first {
            Some(shard) => shard,
            None => match self.whole(cx, is_sent_on)? {
                Whole::One(shard) => shard,
                Whole::Several(shards) if many::is_splittable(spec) => {
                    return Ok(Place::Many(shards));
                }
                Whole::Several(_) => {
                    return Err(Reply::Error(
                        format!(
                            "ERR '{}' would not be one step: the cache is spread over several shards",
                            spec.name
                        )
                        .into(),
                    ));
                }
            },
        };
        if !others.is_empty() {
            if is_sent_on || !many::is_splittable(spec) {
                return Err(Reply::error(
                    "CROSSSLOT Keys in request don't hash to the same slot",
                ));
            }
            others.insert(0, shard);
            return Ok(Place::Many(others));
        }
        self.refuse_write(cx, spec, shard)?;
        Ok(Place::One(shard, self.whereabouts(cx, client, shard)?))
    }

    pub(super) fn refuse_write(
        &self,
        cx: &Context<'_>,
        spec: &Spec,
        shard: ShardId,
    ) -> Result<(), Reply> {
        if spec.access == Access::Write && cx.is_held_up(shard) {
            return Err(Reply::error(
                "TRYAGAIN too many writes wait for a transaction that is not decided yet",
            ));
        }
        if spec.access == Access::Write && cx.full.contains(&shard) && !spec.frees {
            return Err(Reply::error(
                "MISCONF the disk is nearly full: writes that add data are refused, reads and deletes go on",
            ));
        }
        Ok(())
    }

    /// The shards that commands about a whole database are about: for a client that asks every node by itself,
    /// those that this one leads.
    pub(super) fn whole(&self, cx: &Context<'_>, is_sent_on: bool) -> Result<Whole, Reply> {
        let pool = cx
            .catalog
            .pools
            .get(&cx.catalog.cache_pool)
            .ok_or(super::DOWN)?;
        if let [(_, shard)] = pool.slots[..] {
            return Ok(Whole::One(shard));
        }
        let is_meant = |shard: &ShardId| {
            let leader = cx.router.leader(*shard).map(|(_, node)| node);
            !is_sent_on || leader == Some(self.me.node)
        };
        Ok(Whole::Several(pool.shards().filter(is_meant).collect()))
    }

    pub(super) fn shard_of(&self, cx: &Context<'_>, key: &[u8]) -> Result<ShardId, Reply> {
        router::key_shard(cx.catalog, key).ok_or(super::DOWN)
    }
}
