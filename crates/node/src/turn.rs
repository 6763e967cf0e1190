//! What a core does because time passed.

use crate::core::Core;
use crate::event::{Action, Endpoint, FrontEnd, Level};
use crate::frame::Frame;
use crate::holders::Held;
use crate::kafka;
use crate::peers::core_of;
use base::{CoreAddress, NodeId, Now, ShardId, Term};
use catalog::{CatalogCommand, META_SHARD, MemberState, TREE_SHARD};
use coordination::{Command, Envelope, Unit};
use replication::raft::{Change, Role};
use shard::{DataUnit, Shard, next_changes};
use std::collections::BTreeSet;
use storage::cache;

const TOUCH_US: u64 = 100_000;
const RECONCILE_US: u64 = 50_000;
const SEEK_US: u64 = 100_000;
const REAP_US: u64 = 1_000_000;
const TELL_US: u64 = 500_000;
const LISTENERS_US: u64 = 250_000;
/// A front end waits so long after the start for other cores that serve a part of its keys.
const OTHERS_US: u64 = 3_000_000;
pub(crate) const HAND_OVER_US: u64 = 5_000_000;
/// Sessions expired per turn; the rest follow in the next.
const EXPIRED_MAX: usize = 1_000;
/// A leader whose clock is further than this from the median hands over, in milliseconds.
const CLOCK_MS_MAX: i64 = 2_000;
/// Journal that a single cold shard may pin before it is snapshotted, in bytes.
const PINNED_BYTES_MAX: u64 = 64 << 20;

impl Core {
    pub(crate) fn run_timers(&mut self, now: Now) {
        if now.mono_us >= self.timers.tick_us {
            // After a pause, one tick: elections are about silence, not about lost time.
            self.timers.tick_us = now.mono_us + self.config.tick_us;
            self.tick(now);
        }
    }

    fn tick(&mut self, now: Now) {
        self.keep_following(now);
        for shard in self.replicas.iter_mut() {
            shard.tick(now);
        }
        let interval_us = self.ping_interval_us();
        if now.mono_us >= self.timers.ping_us {
            self.timers.ping_us = now.mono_us + interval_us;
            self.ping(now, interval_us);
        }
        self.gossip(now);
        if now.mono_us >= self.timers.formation_us {
            self.timers.formation_us = now.mono_us + SEEK_US;
            self.seek_cluster(now);
            self.found();
        }
        if now.mono_us >= self.timers.touch_us {
            self.timers.touch_us = now.mono_us + TOUCH_US;
            self.touch(now);
            if self.registry_is_elsewhere() && self.copies.copy.is_none() {
                self.ask_for_registry(0);
            }
            self.expire_keys(now);
        }
        if now.mono_us >= self.timers.reconcile_us {
            self.timers.reconcile_us = now.mono_us + RECONCILE_US;
            self.reconcile(now);
        }
        self.expire(now);
        self.resend_transactions(now);
        self.reap(now);
        self.keep_files(now);
        self.keep_jobs(now);
        self.send_beats(now);
        self.check_clock(now);
        self.check_space(now);
        self.catch_up();
        self.tell_held();
        self.update_front_ends();
        self.update_mode();
        let contact_us = self.contact_us;
        self.with_zookeeper(now, |front, cx| front.handle_tick(cx, contact_us));
        self.with_redis(now, |front, cx| front.handle_tick(cx));
        self.with_kafka(now, |front, cx| front.handle_tick(cx));
        self.with_desk(now, |desk, cx| desk.handle_tick(cx));
    }

    pub(crate) fn ping_interval_us(&self) -> u64 {
        self.config.tick_us * u64::from(self.config.heartbeat_ticks)
    }

    fn others(&self) -> Vec<NodeId> {
        let me = self.me.node;
        self.catalog
            .members
            .keys()
            .copied()
            .filter(|n| *n != me)
            .collect()
    }

    fn ping(&mut self, now: Now, interval_us: u64) {
        let others = self.others();
        for node in &others {
            let frame = Frame::Ping {
                from: self.me,
                address: self.config.address.clone(),
                sent_us: now.mono_us,
            };
            self.send_to_shard(*node, META_SHARD, &frame);
        }
        let silent = self.peers.newly_silent(&others, now, interval_us);
        if now.mono_us >= self.timers.listeners_us {
            self.timers.listeners_us = now.mono_us + LISTENERS_US;
            let frame = Frame::About {
                from: self.me.node,
                machine_version: self.config.machine_version,
                addresses: self.config.addresses(),
            };
            for to in self.other_cores() {
                if to.address != self.config.address {
                    self.send(to, &frame);
                }
            }
            self.held.clear();
        }
        for node in silent {
            self.wake_led_by(node);
            self.lose_links(now, |core| core.node == node);
            self.log(Level::Warn, format!("{node} is not heard"));
        }
    }

    /// A sleeping group whose leader falls silent must look for another, and so must one whose leader's stream
    /// breaks: its node may be back, without its log, before anybody has missed it.
    pub(crate) fn wake_led_by(&mut self, node: NodeId) {
        for id in self.replicas.ids() {
            let leader = self.router.leader(id).map(|(_, node)| node);
            if leader == Some(node)
                && let Some(shard) = self.replicas.get_mut(id)
            {
                shard.wake();
            }
        }
    }

    /// Every core but this one that may hold a shard.
    fn other_cores(&self) -> BTreeSet<Endpoint> {
        let nodes = || self.catalog.members.keys();
        let shards = self.catalog.shards.keys();
        let places = shards.flat_map(|shard| {
            nodes().filter_map(|node| match *node == self.me.node {
                false => self.peers.endpoint(*node, *shard),
                true => self.endpoint_of(CoreAddress {
                    node: *node,
                    core: core_of(*shard, self.config.lanes, self.config.cores),
                }),
            })
        });
        let mut places: BTreeSet<Endpoint> = places.collect();
        places.remove(&Endpoint {
            address: self.config.address.clone(),
            core: self.me.core,
        });
        places
    }

    /// Tells the other cores which shards are served here, if that is not what they were told last.
    fn tell_held(&mut self) {
        let held: Vec<Held> = (self.caught_up.iter())
            .filter_map(|shard| {
                let group = self.replicas.get(*shard)?.group()?;
                Some(Held {
                    shard: *shard,
                    term: group.term(),
                    leads: group.is_leader(),
                })
            })
            .collect();
        if held != self.held {
            self.held.clone_from(&held);
            let from = self.me;
            let frame = Frame::Holds { from, held };
            for to in self.other_cores() {
                self.send(to, &frame);
            }
        }
    }

    pub(crate) fn holds_frame(&mut self, now: Now, from: CoreAddress, held: Vec<Held>) {
        for held in held.iter().filter(|held| held.leads) {
            // What a replica here knows of its leader is what counts.
            let is_newer = |(term, _): (Term, NodeId)| held.term > term;
            let is_here = self.replicas.get(held.shard).is_some();
            if !is_here
                && self.router.leader(held.shard).is_none_or(is_newer)
                && (self.router).set_leader(held.shard, held.term, Some(from.node))
            {
                self.leader_lost(now, held.shard);
            }
        }
        self.holders.heard(now, from, held);
    }

    /// Tells the tree's leader which sessions were heard from.
    fn touch(&mut self, now: Now) {
        let Some((term, leader)) = self.router.leader(TREE_SHARD) else {
            return;
        };
        let sessions = self.zookeeper.take_touched();
        if leader == self.me.node {
            self.contact_us = now.mono_us;
            for session in sessions {
                self.leases.touch(now.mono_us, base::SessionId(session));
            }
        } else if self.zookeeper.has_sessions() {
            let frame = Frame::Touch {
                shard: TREE_SHARD,
                term,
                from: self.me,
                sent_us: now.mono_us,
                sessions,
            };
            self.send_to_shard(leader, TREE_SHARD, &frame);
        } else {
            // Nothing depends on it.
            self.contact_us = now.mono_us;
        }
    }

    fn expire(&mut self, now: Now) {
        let leads = (self.replicas.get(TREE_SHARD)).is_some_and(Shard::is_leader);
        if !leads || self.follows() {
            return;
        }
        for (session, generation) in self.leases.poll_expired(now.mono_us, EXPIRED_MAX) {
            let command = Command::ExpireSession {
                session,
                generation,
            };
            self.propose_as_leader(command);
        }
    }

    fn reap(&mut self, now: Now) {
        if now.mono_us < self.timers.reap_us {
            return;
        }
        self.timers.reap_us = now.mono_us + REAP_US;
        for lane in self.lanes.values() {
            if let Some((shard, bytes)) = lane.journal.oldest_pinning_shard()
                && bytes > PINNED_BYTES_MAX
                && let Some(replica) = self.replicas.get_mut(shard)
            {
                replica.request_snapshot();
            }
        }
        let leads = (self.replicas.get(TREE_SHARD)).is_some_and(Shard::is_leader);
        if !leads {
            return;
        }
        let time_ms = self.stamp_clock.read_ms(now);
        let due = self.tree().map(|t| t.reapable(time_ms)).unwrap_or_default();
        for command in due {
            self.propose_as_leader(command);
        }
    }

    fn propose_as_leader(&mut self, command: Command) {
        let envelope = Envelope::default();
        let unit = DataUnit::Coordination(Unit { envelope, command });
        if let Some(shard) = self.replicas.get_mut(TREE_SHARD) {
            // One that is refused is due again.
            shard.propose(unit.encode());
        }
    }

    /// A leader whose clock is far from the majority's hands over to the one that is nearest.
    fn check_clock(&mut self, now: Now) {
        let median = self.peers.clocks.median_ms(now);
        if median.abs() <= CLOCK_MS_MAX || now.mono_us < self.timers.hand_over_us {
            return;
        }
        self.timers.hand_over_us = now.mono_us + HAND_OVER_US;
        for id in self.replicas.ids() {
            if (self.replicas.get(id)).is_some_and(Shard::is_leader) {
                self.log(
                    Level::Warn,
                    format!(
                        "hands over {}: this clock is {median} ms off the majority's",
                        self.label(id)
                    ),
                );
                self.hand_over(id, |core, node| {
                    let offset = core.peers.clocks.offset_ms(node.0).unwrap_or(median * 2);
                    (offset - median).abs()
                });
            }
        }
    }

    // --- wanted and actual membership ---

    fn reconcile(&mut self, now: Now) {
        self.report_lost_replicas(now);
        if self.config.cores > 1
            && self.catalog_index > 0
            && self.holds(META_SHARD)
            && now.mono_us >= self.timers.tell_us
        {
            // A core that has just started missed what it was told before.
            self.timers.tell_us = now.mono_us + TELL_US;
            self.tell_other_cores();
        }
        self.report();
        for id in self.replicas.ids() {
            self.raise_version(id);
            self.reconcile_shard(id);
            self.call_group(id);
        }
        if self.leads_meta() {
            self.lead_meta();
        }
    }

    /// As a shard's leader: raises its machine version to what all of its members can apply.
    fn raise_version(&mut self, id: ShardId) {
        let Some(shard) = self.replicas.get(id).filter(|s| s.is_leader()) else {
            return;
        };
        let members = shard.group().map(|group| &group.membership().replicas);
        let known = members.into_iter().flat_map(|all| all.values()).map(|r| {
            match r.node == self.me.node {
                true => Some(self.config.machine_version),
                false => self.peers.machine_version(r.node),
            }
        });
        let supported = known.min().flatten().unwrap_or(0);
        let name = self.label(id);
        if let Some(shard) = self.replicas.get_mut(id)
            && shard.raise_version(supported)
        {
            let message = format!("raises {name} to machine version {supported}");
            self.log(Level::Info, message);
        }
    }

    fn reconcile_shard(&mut self, id: base::ShardId) {
        let Some(record) = self.catalog.shards.get(&id) else {
            return;
        };
        let Some(shard) = self.replicas.get(id) else {
            return;
        };
        let Some(group) = shard.group().filter(|g| g.is_leader()) else {
            return;
        };
        let me = shard.replica();
        if group.change_is_pending() || group.is_handing_over() {
            return;
        }
        let mut changes = next_changes(
            me,
            group.membership(),
            (&record.replicas, self.catalog.next_replica),
            |node| self.catalog.members.get(&node).map(|m| m.address.clone()),
            |node| (self.catalog.members.get(&node)).is_none_or(|m| !m.observes),
            &group.progress(),
            group.last(),
        );
        if id == META_SHARD {
            // A node stops once the meta shard has let it go: the other groups, which may need its votes for
            // that, let it go before.
            let place = &group.membership().replicas;
            let state = |node| self.catalog.members.get(&node).map(|m| m.state);
            changes.retain(|change| match change {
                Change::Remove(replica) => (place.get(replica)).is_none_or(|r| {
                    state(r.node) != Some(MemberState::Leaving) || self.is_released(r.node)
                }),
                _ => true,
            });
        }
        if !record.replicas.contains_key(&me) {
            let wanted = record.replicas.clone();
            return self.hand_over(id, move |_, node| {
                i64::from(!wanted.values().any(|n| *n == node))
            });
        }
        if !changes.is_empty()
            && let Some(shard) = self.replicas.get_mut(id)
            && shard.propose_membership(&changes)
        {
            let name = self.label(id);
            self.log(Level::Info, format!("proposes for {name}: {changes:?}"));
        }
    }

    fn report_lost_replicas(&mut self, now: Now) {
        if now.mono_us < self.timers.lost_us {
            return;
        }
        self.timers.lost_us = now.mono_us + 500_000;
        for id in self.replicas.ids() {
            let Some(shard) = self.replicas.get(id) else {
                continue;
            };
            if shard.fault().is_none() {
                continue;
            }
            let lane = self.lanes.get(&self.lane_of(id));
            let given = lane.and_then(|l| l.identity.replicas.get(&id)).copied();
            if let Some(replica) = given {
                self.propose_meta(&CatalogCommand::ReplaceReplica { shard: id, replica });
            }
        }
    }

    // --- serving ---

    /// Asks, for each replica that has not been as new as any since it came to be, whether it is now.
    fn catch_up(&mut self) {
        if !self.catalog.formed {
            return;
        }
        for id in self.replicas.ids() {
            let asked = self.catch_up.values().any(|shard| *shard == id);
            let Some(shard) = self.replicas.get_mut(id) else {
                continue;
            };
            let Some(group) = shard.group() else { continue };
            let knows_itself =
                group.role() != Role::Learner || group.membership().contains(group.id());
            let has_leader = self.router.leader(id).is_some();
            if knows_itself && has_leader && !asked && !self.caught_up.contains(&id) {
                let token = self.rng.next_u64();
                self.catch_up.insert(token, id);
                shard.request_barrier(token);
            }
        }
    }

    /// The replica of a shard is another one now, or gone.
    pub(crate) fn lose_touch(&mut self, shard: ShardId) {
        self.caught_up.remove(&shard);
        self.catch_up.retain(|_, s| *s != shard);
        self.update_front_ends();
    }

    /// Opens front ends whose shards have caught up with a cluster that is complete, and closes others. None opens
    /// before the catalog has caught up, too: it may say that another cluster has taken this one's place.
    pub(crate) fn update_front_ends(&mut self) {
        let is_told = !self.holds(META_SHARD) || self.caught_up.contains(&META_SHARD);
        for front in FrontEnd::ALL {
            let serves_tree = self.holds(TREE_SHARD) && self.caught_up.contains(&TREE_SHARD);
            let is_open = self.open_fronts.contains(&front);
            let serves = match front {
                _ if self.superseded_by().is_some() => false,
                _ if !is_open && !is_told => false,
                _ if !is_open && !self.has_looked() => false,
                // Of a stand-by, keys may be read; sessions and groups are writes.
                FrontEnd::Zookeeper | FrontEnd::Kafka if self.follows() => false,
                FrontEnd::Zookeeper => serves_tree,
                FrontEnd::Redis => self.serves_pool(&self.catalog.cache_pool, is_open),
                // The registry of topics is in the tree's shard. All records are at one core.
                FrontEnd::Kafka => {
                    let pool = self.catalog.pools.get(kafka::POOL);
                    (serves_tree || self.copies.copy.is_some())
                        && pool.is_some_and(|pool| pool.shards().all(|shard| self.holds(shard)))
                        && self.serves_pool(kafka::POOL, is_open)
                }
            };
            if !is_open {
                if serves {
                    self.open_fronts.insert(front);
                    self.actions.push_back(Action::OpenFrontEnd(front));
                }
            } else if !serves {
                self.open_fronts.remove(&front);
                match front {
                    FrontEnd::Zookeeper => self.zookeeper.close_all(&mut self.actions),
                    FrontEnd::Redis => self.redis.close_all(&mut self.actions),
                    FrontEnd::Kafka => self.kafka.close_all(&mut self.actions),
                }
                self.actions.push_back(Action::CloseFrontEnd(front));
            }
        }
    }

    /// The core with a pool's first shard takes the connections of what is there, once the replicas here have
    /// caught up and, for a while after the start, those at other cores have said that they have.
    fn serves_pool(&self, name: &str, is_open: bool) -> bool {
        let Some(pool) = self.catalog.pools.get(name) else {
            return false;
        };
        let first = pool.shards().next().is_some_and(|shard| self.holds(shard));
        let here = |shard: &ShardId| {
            let wanted = |r: &catalog::ShardRecord| r.replicas.values().any(|n| *n == self.me.node);
            self.holds(*shard) && self.catalog.shards.get(shard).is_some_and(wanted)
        };
        let is_served = |shard: &ShardId| {
            let now_us = self.timers.last_turn_us;
            self.caught_up.contains(shard)
                || (self.holders.of(now_us, self.me.node, *shard)).is_some()
        };
        let waits = !is_open && self.timers.last_turn_us < self.started_us + OTHERS_US;
        first
            && (pool.shards().filter(here)).all(|shard| self.caught_up.contains(&shard))
            && (!waits || pool.shards().all(|shard| is_served(&shard)))
    }

    /// The leader of a shard removes keys whose time ran out.
    fn expire_keys(&mut self, now: Now) {
        let time_ms = self.stamp_clock.read_ms(now);
        for id in self.replicas.ids() {
            let Some(shard) = self.replicas.get_mut(id).filter(|s| s.is_leader()) else {
                continue;
            };
            let Some(data) = shard.machine().data() else {
                continue;
            };
            let ended = data.cache.expired(time_ms, EXPIRED_MAX);
            if !ended.is_empty() {
                let unit = DataUnit::Cache(cache::Unit {
                    origin: base::Origin::default(),
                    database: 0,
                    body: cache::Body::Expire(ended),
                });
                // One that is refused is due again.
                shard.propose(unit.encode());
            }
        }
    }
}
