//! The replicas of this core: opening lanes, creating and losing replicas, moving their messages.

use crate::core::{Core, LaneStart};
use crate::event::{Action, Endpoint, Level};
use crate::frame::Frame;
use crate::lane::{Found, Lane, Opened};
use crate::peers::lane_of;
use base::planted::{Bug, planted};
use base::{ClusterId, LaneId, NodeId, Now, ReplicaId, ShardId};
use bytes::Bytes;
use catalog::{CatalogCommand, META_SHARD, TREE_SHARD};
use coordination::Output;
use journal::{DiskResult, JournalProgress, Ticket};
use replication::raft::{GroupConfig, Membership, Message, MessageType, Replica, Role};
use shard::{Shard, ShardConfig, ShardEvent, ShardMachine, ShardOutput};
use std::collections::BTreeMap;

/// The replicas of a core, by shard.
#[derive(Debug, Default)]
pub struct Replicas {
    shards: BTreeMap<ShardId, Shard>,
}

impl Replicas {
    /// A shard's replica.
    pub fn get(&self, shard: ShardId) -> Option<&Shard> {
        self.shards.get(&shard)
    }

    /// A shard's replica.
    pub fn get_mut(&mut self, shard: ShardId) -> Option<&mut Shard> {
        self.shards.get_mut(&shard)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Shard> {
        self.shards.values()
    }

    /// All of them.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Shard> {
        self.shards.values_mut()
    }

    /// Shards that have a replica here.
    pub fn ids(&self) -> Vec<ShardId> {
        self.shards.keys().copied().collect()
    }

    /// True when one has work that waits for nothing.
    pub fn is_busy(&self) -> bool {
        self.shards.values().any(Shard::is_busy)
    }
}

impl Core {
    fn shard_config(&self) -> ShardConfig {
        ShardConfig {
            group: GroupConfig {
                election_ticks: self.config.election_ticks,
                election_spread_ticks: self.config.election_ticks.saturating_sub(1),
                heartbeat_ticks: self.config.heartbeat_ticks,
                ..GroupConfig::default()
            },
            machine_version: self.config.machine_version,
            snapshot_log_bytes: self.config.snapshot_log_bytes,
            snapshot_chunk_bytes: self.config.snapshot_chunk_bytes,
        }
    }

    pub(crate) fn open_lane(&mut self, id: LaneId, start: LaneStart) {
        let Opened {
            mut lane,
            found,
            stale,
        } = match Lane::open(id, self.config.node, start) {
            Ok(opened) => opened,
            Err(reason) => return self.stop(reason),
        };
        (self.actions).extend(stale.into_iter().map(|op| Action::Disk { lane: id, op }));
        if lane.identity.cluster != ClusterId(0) {
            self.cluster = lane.identity.cluster;
        }
        for (shard, found) in found {
            let config = self.shard_config();
            let rng = self.rng.fork(shard.0);
            let replica = match found {
                Found::Whole(recovered) => {
                    Shard::recover(shard, recovered, config, rng, &mut lane.journal)
                }
                Found::Lost(replica, reason) => Shard::lost(shard, replica, config, rng, reason),
            };
            if replica.replica() != ReplicaId(0) {
                (lane.identity.replicas).insert(shard, replica.replica());
            }
            self.replicas.shards.insert(shard, replica);
        }
        self.lanes.insert(id, lane);
    }

    /// The first replica of a shard of a new cluster.
    pub(crate) fn bootstrap(&mut self, shard: ShardId) {
        let replica = Replica {
            id: ReplicaId(shard.0),
            node: self.me.node,
            address: self.config.address.clone(),
        };
        let (config, rng) = (self.shard_config(), self.rng.fork(shard.0));
        let lane = self.lane_of(shard);
        let Some(lane) = self.lanes.get_mut(&lane) else {
            return;
        };
        (lane.identity.replicas).insert(shard, replica.id);
        let replica = Shard::bootstrap(shard, replica, config, rng, &mut lane.journal);
        self.replicas.shards.insert(shard, replica);
    }

    /// A raft message for a replica of this node that this core does not have: when its id is newer than
    /// what was given to the lane, it is a new replica, and its leader will fill it.
    fn create_for(&mut self, shard: ShardId, replica: ReplicaId) -> bool {
        let (config, rng) = (self.shard_config(), self.rng.fork(shard.0 ^ replica.0));
        let lane = self.lane_of(shard);
        let Some(lane) = self.lanes.get_mut(&lane) else {
            return false;
        };
        let given = lane.identity.replicas.get(&shard).copied();
        let is_newer = given.is_none_or(|g| replica > g);
        let taken_for_new =
            planted(Bug::VoteAfterLostLog) && !self.replicas.shards.contains_key(&shard);
        if !is_newer && !taken_for_new {
            return false;
        }
        lane.identity.replicas.insert(shard, replica);
        let created = Shard::create(shard, replica, config, rng, &mut lane.journal);
        self.replicas.shards.insert(shard, created);
        self.lose_touch(shard);
        self.log(
            Level::Info,
            format!(
                "created replica {replica} of {}; its leader will fill it",
                self.label(shard)
            ),
        );
        true
    }

    pub(crate) fn raft_frame(
        &mut self,
        now: Now,
        shard: ShardId,
        (from, to): (NodeId, NodeId),
        message: Message,
        at_cut: Option<Membership>,
    ) {
        if to != self.me.node {
            return;
        }
        let replica = ReplicaId(message.to);
        let is_mine = (self.replicas.get(shard)).is_some_and(|s| s.replica() == replica);
        if !is_mine && !self.create_for(shard, replica) {
            return;
        }
        let sender = ReplicaId(message.from);
        self.origins.insert((shard, sender), from);
        self.answer_the_removed(shard, from, sender);
        let Some(target) = self.replicas.get_mut(shard) else {
            return;
        };
        target.handle_message(now, message, at_cut);
    }

    /// A replica that the catalog does not want any more and the group has let go still calls: tell it.
    fn answer_the_removed(&mut self, shard: ShardId, node: NodeId, from: ReplicaId) {
        let Some(record) = self.catalog.shards.get(&shard) else {
            return;
        };
        let Some(group) = self.replicas.get(shard).and_then(Shard::group) else {
            return;
        };
        let was_given = from.0 < self.catalog.next_replica;
        if was_given && !record.replicas.contains_key(&from) && !group.membership().contains(from) {
            let frame = Frame::Gone {
                shard,
                to: node,
                replica: from,
            };
            self.send_to_shard(node, shard, &frame);
        }
    }

    /// A learner without a leader calls its group until a leader answers. A replica that has applied its own
    /// removal calls it until a member for whom that is durable says that it is gone. Before, its log may be what the removal's commitment rests upon.
    pub(crate) fn call_group(&mut self, id: ShardId) {
        let Some(group) = self.replicas.get(id).and_then(Shard::group) else {
            return;
        };
        let (me, members) = (group.id(), group.membership());
        let is_gone = !members.contains(me);
        // A learner never campaigns, so a sleeping group does not notice that it has started again.
        let is_lonely = group.role() == Role::Learner && group.leader().is_none();
        if members.replicas.is_empty() || !(is_gone || is_lonely) {
            return;
        }
        let lane = self.lane_of(id);
        let calls: Vec<Message> = (members.replicas.keys())
            .map(|to| {
                let mut call = Message::default();
                (call.to, call.from, call.term) = (to.0, me.0, group.term());
                if is_gone {
                    call.set_msg_type(MessageType::MsgHeartbeatResponse);
                } else {
                    // Refused by all, for a log this short, and woken all the same.
                    call.set_msg_type(MessageType::MsgRequestPreVote);
                    call.term += 1;
                }
                call
            })
            .collect();
        for call in calls {
            self.send_raft(id, lane, call);
        }
    }

    /// A member says that a replica of ours has been removed.
    pub(crate) fn gone(&mut self, shard: ShardId, to: NodeId, replica: ReplicaId) {
        let is_ours = (self.replicas.get(shard)).is_some_and(|s| s.replica() == replica);
        if to == self.me.node && is_ours {
            self.drop_replica(shard);
        }
    }

    fn drop_replica(&mut self, shard: ShardId) {
        self.replicas.shards.remove(&shard);
        self.router.forget(shard);
        let lane = self.lane_of(shard);
        if let Some(lane) = self.lanes.get_mut(&lane) {
            lane.journal.append(shard, journal::Frame::Removed);
        }
        self.lose_touch(shard);
        self.log(
            Level::Info,
            format!("this node's replica of {} was removed", self.label(shard)),
        );
        let leaving = !(self.catalog.members.get(&self.me.node))
            .is_some_and(|m| m.state == catalog::MemberState::Member);
        if shard == META_SHARD && leaving {
            self.stopped = true;
            self.actions.push_back(Action::Stop {
                reason: "this node has left the cluster; its data directory is not needed any more"
                    .into(),
                orderly: true,
            });
        }
    }

    /// A frame could not be sent: what went there before may be lost too.
    pub(crate) fn send_failed(&mut self, now: Now, to: &Endpoint) {
        let mut nodes = self.peers.nodes_at(&to.address);
        if to.address == self.config.address {
            nodes.push(self.me.node);
        }
        self.lose_links(now, |core| {
            nodes.contains(&core.node) && core.core == to.core
        });
        nodes.retain(|node| *node != self.me.node);
        for shard in self.replicas.iter_mut() {
            let Some(group) = shard.group() else { continue };
            let there: Vec<ReplicaId> = (group.membership().replicas.values())
                .filter(|r| nodes.contains(&r.node))
                .map(|r| r.id)
                .collect();
            for replica in there {
                shard.handle_unreachable(replica);
            }
        }
        let leads = |(_, node): (u64, NodeId)| nodes.contains(&node);
        let lost: Vec<ShardId> = (self.catalog.shards.keys().copied())
            .filter(|shard| self.router.leader(*shard).is_some_and(leads))
            .collect();
        for shard in lost {
            self.leader_lost(now, shard);
        }
    }

    pub(crate) fn disk_done(&mut self, now: Now, id: LaneId, ticket: Ticket, result: &DiskResult) {
        if self.group_disk_done(now, id, ticket, result) {
            return;
        }
        let Some(lane) = self.lanes.get_mut(&id) else {
            return;
        };
        match lane.journal.handle_done(now, ticket, result) {
            JournalProgress::Synced(_) => {
                lane.synced();
                self.counters.syncs += 1;
            }
            JournalProgress::Pending => {}
            JournalProgress::Full => self.disk_full(now, id),
            JournalProgress::Failed(reason) => {
                self.stop(format!(
                    "the disk of {id} failed ({reason}); nothing more can be promised from it: replace it, \
                     and start the node with an empty data directory"
                ));
            }
            JournalProgress::NotMine => {
                let mut ops = Vec::new();
                if !lane.handle_disk(ticket, result, &mut ops) {
                    // Tickets are unique within a lane only.
                    let lanes = self.config.lanes;
                    let here = (self.replicas.shards.iter_mut())
                        .filter(|(shard, _)| lane_of(**shard, lanes) == id.0);
                    for (_, shard) in here {
                        if shard.handle_disk(now, ticket, result, &mut lane.journal) {
                            break;
                        }
                    }
                }
                (self.actions).extend(ops.into_iter().map(|op| Action::Disk { lane: id, op }));
            }
        }
    }

    /// A leader without room hands over to whoever follows best; the journal tries again meanwhile.
    fn disk_full(&mut self, now: Now, id: LaneId) {
        if now.mono_us < self.timers.hand_over_us {
            return;
        }
        self.timers.hand_over_us = now.mono_us + 1_000_000;
        self.log(
            Level::Error,
            format!("the disk of {id} is full: writes wait until there is room again"),
        );
        for shard in self.replicas.ids() {
            if self.lane_of(shard) == id {
                self.hand_over(shard, |core, node| i64::from(core.disk_is_low(node)));
            }
        }
    }

    /// Hands the leadership of a shard to the best follower: the least by `cost`, then the one that is furthest.
    pub(crate) fn hand_over(&mut self, shard: ShardId, cost: impl Fn(&Core, NodeId) -> i64) {
        let Some(replica) = self.replicas.get(shard) else {
            return;
        };
        let Some(group) = replica.group().filter(|g| g.is_leader()) else {
            return;
        };
        let me = replica.replica();
        let members = group.membership();
        let best = (group.progress().into_iter())
            .filter(|p| p.replica != me && p.recent_active && members.is_voter(p.replica))
            .filter_map(|p| {
                let node = members.replicas.get(&p.replica)?.node;
                Some((cost(self, node), u64::MAX - p.matched, p.replica))
            })
            .min();
        if let Some((_, _, to)) = best
            && let Some(replica) = self.replicas.get_mut(shard)
        {
            replica.transfer_leader(to);
        }
    }

    /// Hands the leadership of a shard to the node that people named. Unlike [`Self::hand_over`], it does
    /// not matter whether it was heard from in the last moments: nobody else is meant. False when it has
    /// no vote, or this node does not lead.
    pub(crate) fn transfer_to(&mut self, shard: ShardId, node: NodeId) -> bool {
        let Some(replica) = self.replicas.get_mut(shard) else {
            return false;
        };
        let Some(group) = replica.group().filter(|g| g.is_leader()) else {
            return false;
        };
        let members = group.membership();
        let to = (members.replicas.values())
            .find(|r| r.node == node && members.is_voter(r.id))
            .map(|r| r.id);
        if let Some(to) = to {
            replica.transfer_leader(to);
        }
        to.is_some()
    }

    /// Lets every shard work until it has nothing left to do.
    pub(crate) fn flush_shards(&mut self, now: Now) {
        self.keep_clock(now);
        for id in self.replicas.ids() {
            let stamp_ms = self.stamp_clock.read_ms(now);
            let lane_id = self.lane_of(id);
            let (Some(shard), Some(lane)) = (
                self.replicas.shards.get_mut(&id),
                self.lanes.get_mut(&lane_id),
            ) else {
                continue;
            };
            // Until the identity names it, whoever starts again without the identity is another node and
            // throws the log away: so nothing is committed, answered or promised before.
            if shard.group().is_none() || lane.names(id, shard.replica()) {
                shard.flush(now, stamp_ms, &mut lane.journal);
            }
            self.shard_events(now, id, lane_id);
        }
        self.refresh_catalog();
    }

    fn shard_events(&mut self, now: Now, id: ShardId, lane: LaneId) {
        while let Some(event) = (self.replicas.get_mut(id)).and_then(Shard::poll_event) {
            match event {
                ShardEvent::Send(message) => self.send_raft(id, lane, message),
                ShardEvent::Output(ShardOutput::Coordination(output)) => {
                    self.coordination_output(now, output);
                }
                ShardEvent::Output(ShardOutput::Catalog(_)) => {}
                ShardEvent::Output(ShardOutput::Cache(output)) => {
                    self.with_redis(now, |front, cx| front.handle_output(cx, id, output));
                }
                ShardEvent::Output(ShardOutput::Topics(output)) => {
                    self.with_kafka(now, |front, cx| front.handle_output(cx, id, output));
                }
                ShardEvent::Output(ShardOutput::Registry(output)) => {
                    self.registry_output(&output);
                    self.with_kafka(now, |front, cx| front.handle_registry(cx, output));
                }
                ShardEvent::Output(ShardOutput::Services(output)) => {
                    self.with_desk(now, |desk, cx| desk.handle_services(cx, output));
                }
                ShardEvent::Output(ShardOutput::Transactions(output)) => {
                    self.transactions_output(now, id, output);
                }
                ShardEvent::Output(ShardOutput::Scheduling(output)) => {
                    self.with_desk(now, |desk, cx| desk.handle_scheduling(cx, output));
                }
                ShardEvent::Output(ShardOutput::Files(output)) => {
                    self.with_desk(now, |desk, cx| desk.handle_files(cx, output));
                }
                ShardEvent::Output(ShardOutput::Globals(output)) => {
                    self.with_desk(now, |desk, cx| desk.handle_globals(cx, output));
                }
                ShardEvent::Barrier(token) => self.barrier(now, token),
                ShardEvent::Role => self.role_changed(now, id),
                ShardEvent::Fetch {
                    from,
                    index,
                    offset,
                    length,
                } => {
                    let frame = Frame::Fetch {
                        shard: id,
                        from: self.me,
                        index,
                        offset,
                        length,
                    };
                    if let Some(node) = self.node_of(id, from) {
                        self.send_to_shard(node, id, &frame);
                    }
                }
                ShardEvent::Piece { to, piece } => {
                    self.send_to_shard(to, id, &Frame::Piece { shard: id, piece });
                }
                ShardEvent::Installed => {
                    if id == TREE_SHARD {
                        self.registry_changed();
                        self.zookeeper.close_all(&mut self.actions);
                    }
                    self.redis.close_all(&mut self.actions);
                    self.kafka.close_all(&mut self.actions);
                    self.with_desk(now, |desk, cx| desk.handle_installed(cx, id));
                }
                ShardEvent::Silent(reason) => {
                    self.log(
                        Level::Error,
                        format!("the replica of {} here is silent: {reason}", self.label(id)),
                    );
                    self.lose_touch(id);
                    self.router.forget(id);
                }
                ShardEvent::Hibernate { to, term, last } => {
                    let from = self.replicas.get(id).map_or(ReplicaId(0), Shard::replica);
                    let frame = Frame::Hibernate {
                        shard: id,
                        from,
                        term,
                        last,
                    };
                    if let Some(node) = self.node_of(id, to) {
                        self.send_to_shard(node, id, &frame);
                    }
                }
                ShardEvent::Disk(op) => self.actions.push_back(Action::Disk { lane, op }),
                ShardEvent::SnapshotTaken(index) => {
                    let name = self.label(id);
                    self.log(Level::Info, format!("snapshot of {name} at index {index}"));
                }
            }
        }
    }

    fn node_of(&self, shard: ShardId, replica: ReplicaId) -> Option<NodeId> {
        // A replica that is being filled has no membership yet; the catalog and the stream know more.
        let group = self.replicas.get(shard)?.group()?;
        let place = group.membership().replicas.get(&replica).map(|r| r.node);
        let wanted = || {
            let record = self.catalog.shards.get(&shard)?;
            record.replicas.get(&replica).copied()
        };
        place
            .or_else(wanted)
            .or_else(|| self.origins.get(&(shard, replica)).copied())
    }

    fn send_raft(&mut self, id: ShardId, lane: LaneId, message: Message) {
        let Some(shard) = self.replicas.get(id) else {
            return;
        };
        // Nothing is promised before the identity names the replica.
        let named = (self.lanes.get(&lane)).is_some_and(|l| l.names(id, shard.replica()));
        if !named {
            return;
        }
        let Some(node) = self.node_of(id, ReplicaId(message.to)) else {
            return;
        };
        let Some(to) = self.peers.endpoint(node, id) else {
            return;
        };
        let Some(group) = shard.group() else {
            return;
        };
        let frame = Frame::Raft {
            shard: id,
            from: self.me.node,
            to: node,
            message: Box::new(message),
            at_cut: None,
        };
        let frame = frame.encode(self.cluster, group.membership());
        self.actions.push_back(Action::SendPeer { to, frame });
    }

    fn coordination_output(&mut self, now: Now, output: Output) {
        let leads = (self.replicas.get(TREE_SHARD)).is_some_and(Shard::is_leader);
        if leads {
            match &output {
                Output::SessionOpened {
                    session,
                    timeout_ms,
                    ..
                } => self.leases.opened(now.mono_us, *session, 1, *timeout_ms),
                Output::SessionAttached {
                    session,
                    generation,
                    timeout_ms,
                    ..
                } => {
                    (self.leases).attached(now.mono_us, *session, *generation, *timeout_ms);
                }
                Output::SessionEnded { session, .. } => self.leases.ended(*session),
                _ => {}
            }
        }
        self.with_zookeeper(now, |front, cx| front.handle_output(cx, output));
    }

    fn barrier(&mut self, now: Now, token: u64) {
        if let Some(shard) = self.catch_up.remove(&token) {
            self.caught_up.insert(shard);
            return;
        }
        if self.registry_barrier(token) {
            return;
        }
        self.with_zookeeper(now, |front, cx| front.handle_barrier(cx, token));
        self.with_redis(now, |front, cx| front.handle_barrier(cx, token));
        self.with_kafka(now, |front, cx| front.handle_barrier(cx, token));
        self.with_desk(now, |desk, cx| desk.handle_barrier(cx, token));
    }

    fn role_changed(&mut self, now: Now, id: ShardId) {
        let Some(group) = self.replicas.get(id).and_then(Shard::group) else {
            return;
        };
        let (role, term, leader) = (group.role(), group.term(), group.leader());
        let leader = leader.and_then(|replica| self.node_of(id, replica));
        let changed = self.router.set_leader(id, term, leader);
        if id == META_SHARD && changed {
            self.reports.clear();
        }
        if changed {
            self.leader_lost(now, id);
        }
        if role == Role::Leader && changed {
            self.counters.elections_won += 1;
            self.log(
                Level::Info,
                format!("leads {} in term {term}", self.label(id)),
            );
            self.lead(now, id);
        }
    }

    /// What the four-letter words call this server.
    pub(crate) fn update_mode(&mut self) {
        let Some(group) = self.replicas.get(TREE_SHARD).and_then(Shard::group) else {
            return;
        };
        self.zookeeper.mode = match group.role() {
            Role::Leader if self.catalog.members.len() <= 1 => "standalone",
            Role::Leader => "leader",
            Role::Learner => "observer",
            Role::Follower | Role::Candidate => "follower",
        };
    }

    /// A new leader of the tree takes the time over, and grants every session a full time-out.
    pub(crate) fn lead(&mut self, now: Now, id: ShardId) {
        let machine = self.replicas.get(id).map(Shard::machine);
        let data = machine.and_then(ShardMachine::data);
        if let Some(data) = data.filter(|_| id == TREE_SHARD) {
            let sessions = data.coordination.sessions();
            let sessions = sessions.map(|s| (s.id, s.generation, s.timeout_ms));
            self.leases.reset(now.mono_us, sessions);
            self.stamp_clock.start(now, data.coordination.time_ms());
        }
    }

    /// The clock is not behind what shards that are led here have applied. A leader's first look is not enough: what
    /// an earlier one proposed last, perhaps by a clock that was ahead, is applied after it has begun. Stamps would
    /// stand still until the clock had caught up, and what is due by them would not come.
    fn keep_clock(&mut self, now: Now) {
        let led = self.replicas.iter().filter(|shard| shard.is_leader());
        let floor_ms = led.map(|shard| shard.machine().time_ms()).max();
        if let Some(floor_ms) = floor_ms
            && floor_ms > self.stamp_clock.read_ms(now)
        {
            self.stamp_clock.start(now, floor_ms);
        }
    }

    /// Units from another core for the leader here.
    /// `from`: who sent it, and how many before it.
    pub(crate) fn propose_frame(
        &mut self,
        shard: ShardId,
        term: u64,
        from: (u64, u64),
        units: Vec<Bytes>,
    ) {
        let Some(replica) = self.replicas.get_mut(shard) else {
            return;
        };
        // The sender will see the change of leader, and close whatever depended on these.
        if replica
            .group()
            .is_some_and(|g| g.is_leader() && g.term() == term)
        {
            let taken = &mut self.proposals_taken;
            taken.retain(|(of, _), (in_term, _)| *of != shard || *in_term == term);
            let (in_term, once) = taken.entry((shard, from.0)).or_default();
            *in_term = term;
            if !once.is_first(from.1) && !planted(Bug::ApplyTwice) {
                return;
            }
            for unit in units {
                replica.propose(unit);
            }
        }
    }

    /// A command for the catalog, on its way to the leader of the meta shard.
    pub(crate) fn propose_meta(&mut self, command: &CatalogCommand) {
        self.pass_on_meta(2, Bytes::from(command.encode()));
    }

    pub(crate) fn pass_on_meta(&mut self, hops: u8, unit: Bytes) {
        if let Some(meta) = self.replicas.get_mut(META_SHARD)
            && meta.is_leader()
        {
            meta.propose(unit);
        } else {
            self.send_to_meta(hops, |hops| Frame::ProposeMeta { hops, unit });
        }
    }

    pub(crate) fn leads_meta(&self) -> bool {
        (self.replicas.get(META_SHARD)).is_some_and(Shard::is_leader)
    }

    /// Sends a frame, made of the hops that are left, nearer to the leader of the meta shard.
    pub(crate) fn send_to_meta(&mut self, hops: u8, frame: impl FnOnce(u8) -> Frame) {
        if hops == 0 {
            return;
        }
        let frame = frame(hops - 1);
        if !self.holds(META_SHARD) {
            let address = self.config.address.clone();
            let core = crate::peers::core_of(META_SHARD, self.config.lanes, self.config.cores);
            return self.send(Endpoint { address, core }, &frame);
        }
        match self.router.leader(META_SHARD) {
            Some((_, node)) if node != self.me.node => {
                self.send_to_shard(node, META_SHARD, &frame);
            }
            // The meta replica here is lost or knows no leader: somebody will.
            _ => {
                for address in self.known_addresses() {
                    let core = base::CoreId(0);
                    self.send(Endpoint { address, core }, &frame);
                }
            }
        }
    }

    /// Addresses of the others, from the catalog or, without one, from the identity.
    pub(crate) fn known_addresses(&self) -> Vec<String> {
        let mut all: std::collections::BTreeSet<String> = (self.catalog.members.values())
            .map(|m| m.address.clone())
            .collect();
        for lane in self.lanes.values() {
            all.extend(lane.identity.addresses.iter().cloned());
        }
        all.remove(&self.config.address);
        all.into_iter().collect()
    }
}
