//! How a node comes to be of a cluster.
//!
//! A node without a cluster asks all initial members whether they are of one. If any is, it asks to
//! join there. Only when *every* initial member has answered that it is fresh too does the one with the
//! smallest address form the cluster, alone; the others then find it and join. So a wiped node never
//! forms a second cluster beside the one that it was of. There is one way in: joining.

use crate::config::CoreConfig;
use crate::core::Core;
use crate::event::{Endpoint, Level};
use crate::frame::Frame;
use base::{ClusterId, CoreId, Now, ReplicaId};
use catalog::{CatalogCommand, META_SHARD};
use shard::Shard;
use std::collections::{BTreeMap, BTreeSet};

/// An answer of a fresh member counts for this long, in microseconds.
const ANSWER_US: u64 = 2_000_000;

/// What a node without a cluster knows.
#[derive(Debug, Default)]
pub struct Formation {
    others: BTreeSet<String>,
    fresh: BTreeMap<String, u64>,
    /// Members to be asked to admit this node, in turn: any of them may be dead.
    seeds: Vec<String>,
    asked: usize,
    empty_config: bool,
}

impl Formation {
    /// From the configuration.
    pub fn new(config: &CoreConfig) -> Self {
        let mut others: BTreeSet<String> = config.initial_members.iter().cloned().collect();
        others.remove(&config.address);
        Self {
            others,
            seeds: config.join.clone(),
            empty_config: config.initial_members.is_empty(),
            ..Self::default()
        }
    }

    /// Phase and what it waits for.
    pub fn status(&self) -> (&'static str, String) {
        if !self.seeds.is_empty() {
            let seeds = self.seeds.join(" or ");
            let waits = format!("the cluster of {seeds} to admit this node");
            return ("joining", waits);
        }
        if self.empty_config {
            let how = "run `althing cluster join SEED` or set initial_members";
            return ("waiting", format!("a cluster to join: {how}"));
        }
        let missing: Vec<&str> = (self.others.iter())
            .filter(|a| !self.fresh.contains_key(*a))
            .map(String::as_str)
            .collect();
        ("waiting", format!("initial members {}", missing.join(", ")))
    }
}

impl Core {
    /// People name members of the cluster to join, with commas between them.
    pub(crate) fn join(&mut self, seeds: &str) -> Result<String, String> {
        if self.cluster != ClusterId(0) {
            return Err(format!(
                "this node is of {} already; a node joins once, with a fresh data directory",
                self.cluster
            ));
        }
        let seeds: Vec<String> = seeds.split(',').map(|s| s.trim().to_owned()).collect();
        if seeds.contains(&self.config.address) {
            return Err("that is this node's own address; name another member".into());
        }
        if seeds.iter().any(String::is_empty) {
            return Err("name members as host:port, with commas between them".into());
        }
        let message = format!("asking {} to admit this node", seeds.join(" or "));
        self.formation.seeds = seeds;
        Ok(message)
    }

    /// A node without a cluster looks around, from time to time.
    pub(crate) fn seek_cluster(&mut self, now: Now) {
        if self.cluster != ClusterId(0) || !self.holds(META_SHARD) {
            return;
        }
        if !self.formation.seeds.is_empty() {
            let turn = self.formation.asked % self.formation.seeds.len();
            self.formation.asked += 1;
            let frame = Frame::Join {
                node: self.me.node,
                address: self.config.address.clone(),
                observes: self.config.observes,
            };
            let (address, core) = (self.formation.seeds[turn].clone(), CoreId(0));
            return self.send(Endpoint { address, core }, &frame);
        }
        if self.formation.empty_config {
            return;
        }
        let horizon = now.mono_us.saturating_sub(ANSWER_US);
        self.formation.fresh.retain(|_, at| *at >= horizon);
        let all_fresh = self.formation.fresh.len() == self.formation.others.len();
        let first = self.formation.others.first();
        if all_fresh && first.is_none_or(|f| self.config.address < *f) {
            return self.form();
        }
        for address in self.formation.others.clone() {
            let frame = Frame::Probe {
                address: self.config.address.clone(),
            };
            let core = CoreId(0);
            self.send(Endpoint { address, core }, &frame);
        }
    }

    /// The cluster begins with this node alone.
    fn form(&mut self) {
        let cluster = ClusterId(self.rng.next_u64().max(1));
        self.set_cluster(cluster);
        self.bootstrap(META_SHARD);
        self.log(Level::Info, format!("forms {cluster}"));
    }

    /// The first command of a cluster, proposed by its founder until it is applied.
    pub(crate) fn found(&mut self) {
        let leads = (self.replicas.get(META_SHARD)).is_some_and(Shard::is_leader);
        if leads && self.catalog.cluster == ClusterId(0) {
            self.propose_meta(&CatalogCommand::Form {
                cluster: self.cluster,
                node: self.me.node,
                address: self.config.address.clone(),
                initial_members: self.formation.others.len() as u32 + 1,
                pools: self.config.pools.clone(),
                cache_pool: self.config.cache_pool.clone(),
            });
        }
    }

    /// The founder's replica of a shard that the catalog has just named: nobody else has it to fill ours.
    pub(crate) fn bootstrap_founding_replicas(&mut self) {
        for shard in self.catalog.shards.keys().copied().collect::<Vec<_>>() {
            let founding = ReplicaId(shard.0);
            let wanted = self.catalog.shards[&shard].replicas.get(&founding);
            let lane = self.lanes.get(&self.lane_of(shard));
            let never_given = lane.is_some_and(|l| !l.identity.replicas.contains_key(&shard));
            if wanted == Some(&self.me.node) && never_given && self.holds(shard) {
                self.bootstrap(shard);
            }
        }
    }

    /// Somebody asks whether we are of a cluster; our greeting says of which.
    pub(crate) fn probed_by(&mut self, address: String) {
        let frame = Frame::Probed {
            address: self.config.address.clone(),
            fresh: self.cluster == ClusterId(0),
        };
        let core = CoreId(0);
        self.send(Endpoint { address, core }, &frame);
    }

    /// The answer to our probe.
    pub(crate) fn probe_answered(&mut self, now: Now, address: String, fresh: bool) {
        if self.cluster != ClusterId(0) || !self.formation.others.contains(&address) {
            return;
        }
        if fresh {
            self.formation.fresh.insert(address, now.mono_us);
        } else if self.formation.seeds.is_empty() {
            self.formation.seeds.push(address);
        }
    }

    /// True while a leader's first message may take this node into its cluster.
    pub(crate) fn is_joining(&self) -> bool {
        !self.formation.seeds.is_empty()
    }
}
