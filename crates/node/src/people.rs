//! What people ask: orders are refused or begun at once, questions are answered from the state.

mod cache;
mod files;
mod globals;
mod jobs;
mod services;
mod topics;
mod transactions;

use crate::admin::{
    AdminCommand, AdminReply, MemberStatus, ShardStatus, Status, TreePage, TreeStatus,
};
use crate::core::Core;
use crate::event::{Action, FrontEnd, RequestId};
use crate::frame::Frame;
use crate::zookeeper::Zookeeper;
use base::{ClusterId, NodeId, Now, ShardId};
use catalog::{CatalogCommand, META_SHARD, MemberState, SWITCHES_MAX, TREE_SHARD};
use coordination::{Answer, ErrorCode, Query};
use replication::raft::Role;
use shard::Shard;
use traffic::degrade::{Level, Switch};

/// Bytes of data, children and sessions that are shown.
const DATA_SHOWN_BYTES: usize = 64 << 10;
const CHILDREN_SHOWN: usize = 1_000;
const SESSIONS_SHOWN: usize = 1_000;

impl Core {
    pub(crate) fn admin(&mut self, now: Now, request: RequestId, command: AdminCommand) {
        let done = |result: Result<String, String>| match result {
            Ok(message) => AdminReply::Done { message },
            Err(message) => AdminReply::Refused { message },
        };
        let reply = match command {
            AdminCommand::Status => AdminReply::Status(Box::new(self.status(now))),
            AdminCommand::Join { seed } => done(self.join(&seed)),
            AdminCommand::Leave { node } => done(self.order_leave(&node)),
            AdminCommand::Promote { force } => done(self.order_promote(now, force)),
            AdminCommand::TransferLeader { shard, to } => done(self.order_transfer(&shard, &to)),
            AdminCommand::Snapshot { shard } => done(self.order_snapshot(&shard)),
            AdminCommand::TreeRead { path, address } => self.read_tree(&path, &address),
            AdminCommand::CacheKeys {
                shard,
                database,
                prefix,
                cursor,
            } => self.read_keys(now, (&shard, database), &prefix, cursor),
            AdminCommand::Topics { prefix } => self.read_topics(&prefix),
            AdminCommand::Switches => AdminReply::Switches {
                switches: self.catalog.switches.clone(),
            },
            AdminCommand::SetSwitch { name, value } => done(self.order_switch(&name, &value)),
        };
        self.actions
            .push_back(Action::AdminReply { request, reply });
    }

    pub(crate) fn member_named(&self, name: &str) -> Result<NodeId, String> {
        let bare = name.trim_start_matches('n');
        (self.catalog.members.iter())
            .find(|(id, m)| m.address == name || format!("{:x}", id.0) == bare)
            .map(|(id, _)| *id)
            .ok_or_else(|| {
                let known: Vec<String> = (self.catalog.members.iter())
                    .map(|(id, m)| format!("{:x} ({})", id.0, m.address))
                    .collect();
                format!(
                    "there is no member {name:?}; members are {}",
                    known.join(", ")
                )
            })
    }

    fn shard_named(&self, name: &str) -> Result<ShardId, String> {
        self.catalog.shard_named(name).ok_or_else(|| {
            let known: Vec<&str> = (self.catalog.shards.values())
                .map(|s| s.name.as_str())
                .collect();
            format!(
                "there is no shard {name:?}; shards are {}",
                known.join(", ")
            )
        })
    }

    fn order_leave(&mut self, name: &str) -> Result<String, String> {
        let node = self.member_named(name)?;
        let staying = (self.catalog.members.iter())
            .filter(|(id, m)| **id != node && m.state == MemberState::Member && !m.observes)
            .count();
        if staying == 0 {
            return Err("that is the last member that votes; stop it instead".into());
        }
        self.propose_meta(&CatalogCommand::Leave { node });
        Ok(format!(
            "{node} is to leave; its replicas are removed first"
        ))
    }

    fn order_switch(&mut self, name: &str, value: &str) -> Result<String, String> {
        let letters = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if name.is_empty() || name.len() > 100 || !name.chars().all(letters) {
            return Err(format!(
                "{name:?} is no switch's name: it is a route's, of 1 to 100 letters, digits, '-', '_' or '.'"
            ));
        }
        let Some(switch) = Switch::named(value) else {
            let levels = Level::ALL.map(Level::name).join(", ");
            return Err(format!("{value:?} is none of auto, on, off, {levels}"));
        };
        let set = &self.catalog.switches;
        if set.len() >= SWITCHES_MAX && !set.contains_key(name) {
            return Err(format!(
                "{SWITCHES_MAX} switches are set; set some to auto first"
            ));
        }
        if self.cluster == ClusterId(0) {
            return Err("the node has no cluster yet; ask again when it serves".into());
        }
        let value = match switch {
            Switch::Auto => "",
            _ => value,
        };
        self.propose_meta(&CatalogCommand::SetSwitch {
            name: name.to_owned(),
            value: value.to_owned(),
        });
        Ok(format!(
            "{name} is being set to {} on all nodes",
            switch.name()
        ))
    }

    fn order_transfer(&mut self, shard: &str, to: &str) -> Result<String, String> {
        let (shard, to) = (self.shard_named(shard)?, self.member_named(to)?);
        let Some((_, leader)) = self.router.leader(shard) else {
            return Err(format!(
                "no leader of {shard} is known here; try another node"
            ));
        };
        if leader == to {
            return Ok(format!("{to} leads {shard} already"));
        }
        if leader == self.me.node {
            if !self.transfer_to(shard, to) {
                return Err(format!("{to} has no vote in {shard}, so it cannot lead it"));
            }
        } else {
            self.send_to_shard(leader, shard, &Frame::Transfer { shard, to });
        }
        Ok(format!("{leader} is asked to hand {shard} over to {to}"))
    }

    fn order_snapshot(&mut self, name: &str) -> Result<String, String> {
        let shard = self.shard_named(name)?;
        match self.replicas.get_mut(shard) {
            Some(replica) if replica.group().is_some() => {
                replica.request_snapshot();
                let at = replica.applied();
                Ok(format!("taking a snapshot of {name} here, at index {at}"))
            }
            _ => Err(format!(
                "this core has no serving replica of {name}; ask another node"
            )),
        }
    }

    fn read_tree(&self, path: &str, address: &str) -> AdminReply {
        let refused = |message: &str| AdminReply::Refused {
            message: format!("{path}: {message}"),
        };
        let Some(tree) = self.tree().filter(|_| self.is_open()) else {
            return refused("this core does not serve the tree now; ask another node");
        };
        let who = Zookeeper::anonymous(address);
        let owned = || path.to_owned();
        let (bytes, stat) = match tree.query(&who, &Query::GetData { path: owned() }) {
            Ok(Answer::Data(bytes, stat)) => (bytes, stat),
            Err(ErrorCode::NoNode) => return refused("there is no such node"),
            Err(ErrorCode::NoAuth) => return refused("its access control list does not allow it"),
            _ => return refused("that is not a valid path"),
        };
        let mut page = TreePage {
            path: owned(),
            data_bytes: bytes.len() as u64,
            stat: stat_rows(&stat),
            ..TreePage::default()
        };
        let shown = &bytes[..bytes.len().min(DATA_SHOWN_BYTES)];
        match std::str::from_utf8(shown) {
            Ok(text) => text.clone_into(&mut page.data),
            Err(_) => {
                page.data_is_hex = true;
                page.data = shown.iter().map(|b| format!("{b:02x}")).collect();
            }
        }
        if let Ok(Answer::Children(names)) = tree.query(&who, &Query::GetChildren { path: owned() })
        {
            page.children_count = names.len() as u64;
            page.children = names.into_iter().take(CHILDREN_SHOWN).collect();
        }
        if let Ok(Answer::Acl(lines, _)) = tree.query(&who, &Query::GetAcl { path: owned() }) {
            page.acl = (lines.iter())
                .map(|l| {
                    let (scheme, id) = (&l.identity.scheme, &l.identity.id);
                    let letters: String = ("rwcda".chars().enumerate())
                        .filter(|(bit, _)| l.permissions >> bit & 1 == 1)
                        .map(|(_, letter)| letter)
                        .collect();
                    format!("{scheme}:{id}:{letters}")
                })
                .collect();
        }
        AdminReply::Tree(page)
    }

    fn status(&self, now: Now) -> Status {
        let (phase, waiting_for) = self.phase();
        Status {
            version: env!("CARGO_PKG_VERSION").into(),
            cluster: match self.cluster {
                ClusterId(0) => String::new(),
                ClusterId(id) => format!("{id:x}"),
            },
            node: format!("{:x}", self.me.node.0),
            core: self.me.core.0,
            cores: self.config.cores,
            lanes: self.config.lanes,
            phase: phase.into(),
            waiting_for,
            ready: self.serves() || !self.holds(TREE_SHARD) || phase == "following",
            uptime_us: now.mono_us.saturating_sub(self.started_us),
            members: self.member_statuses(now),
            shards: self.replicas.iter().map(|s| self.shard_status(s)).collect(),
            tree: self.tree_status(),
            services: self.services_status(now),
            files: self.files_status(),
            jobs: self.jobs_status(),
            cache: self.cache_status(),
            transactions: self.transactions_status(now),
            globals: self.globals_status(now),
            groups: self.group_statuses(now),
            topics: self.topics_status(),
            pools: self.pool_statuses(),
            follows: self.follow_status(now),
            superseded_by: self.superseded_by().cloned().unwrap_or_default(),
            disk: self.space.own,
            additions_refused: self.zookeeper.refuses_additions,
            counters: {
                let mut counters = self.counters.clone();
                counters.journal_bytes =
                    self.lanes.values().map(|l| l.journal.bytes_written()).sum();
                counters
            },
        }
    }

    /// True while clients' writes find a leader.
    fn serves(&self) -> bool {
        self.is_open() && self.router.leader(TREE_SHARD).is_some()
    }

    fn is_open(&self) -> bool {
        self.open_fronts.contains(&FrontEnd::Zookeeper)
    }

    fn phase(&self) -> (&'static str, String) {
        if self.stopped {
            return ("stopped", "see the log".into());
        }
        if self.cluster == ClusterId(0) {
            return self.formation.status();
        }
        if let Some(by) = self.superseded_by() {
            // Until then one that is started again serves once more, unless it is told again.
            let waits = match self.catalog.superseded_by.is_some() {
                true => "nothing",
                false => "a majority of the replicas of the meta shard, to record it",
            };
            let words = format!("{waits}: {by} took this cluster's place");
            return ("superseded", words);
        }
        if self.follows() && self.caught_up.contains(&TREE_SHARD) {
            let waits = "a command: `althing cluster promote` lets it take the place of the cluster that it follows";
            return ("following", waits.into());
        }
        if !self.has_looked() && self.caught_up.contains(&TREE_SHARD) {
            let waits = "a stand-by to say that it was not promoted, for five seconds at most";
            return ("looking", waits.into());
        }
        if self.serves() || !self.holds(TREE_SHARD) {
            return ("serving", String::new());
        }
        if self.is_open() {
            let waits = "a leader: a majority of the replicas must hear each other";
            return ("electing", waits.into());
        }
        let waits = if !self.catalog.formed {
            "all initial members to join and vote"
        } else if self.replicas.get(TREE_SHARD).is_none() {
            "the tree's leader to send this node a replica"
        } else if (self.replicas.get(TREE_SHARD)).is_some_and(|s| s.fault().is_some()) {
            "a new replica in place of the lost one"
        } else {
            "this replica to catch up with a leader"
        };
        ("starting", waits.into())
    }

    fn member_statuses(&self, now: Now) -> Vec<MemberStatus> {
        let interval_us = self.ping_interval_us();
        (self.catalog.members.iter())
            .map(|(node, member)| {
                let this_node = *node == self.me.node;
                let silent_us = self.peers.detector.silent_us(node.0, now.mono_us);
                let mut status = MemberStatus {
                    node: format!("{:x}", node.0),
                    address: member.address.clone(),
                    state: match member.state {
                        MemberState::Leaving => "leaving".into(),
                        MemberState::Member if member.observes => "observer".into(),
                        MemberState::Member if self.is_voter(*node) => "member".into(),
                        MemberState::Member => "joining".into(),
                    },
                    reachable: this_node || self.peers.is_reachable(*node, now, interval_us),
                    silent_ms: silent_us.filter(|_| !this_node).unwrap_or(0) / 1000,
                    clock_offset_ms: self.peers.clocks.offset_ms(node.0).unwrap_or(0),
                    this_node,
                    disk_low: self.disk_is_low(*node),
                    phi: if this_node {
                        0.0
                    } else {
                        self.peers.detector.phi(node.0, now.mono_us)
                    },
                    ..MemberStatus::default()
                };
                self.describe_member(now, *node, &mut status);
                status
            })
            .collect()
    }

    /// Five vote; a sixth member follows without a vote and is a member all the same.
    fn is_voter(&self, node: NodeId) -> bool {
        let Some(group) = self.replicas.get(META_SHARD).and_then(Shard::group) else {
            return true;
        };
        let members = group.membership();
        let full = members.conf.voters.len() >= catalog::VOTERS_MAX;
        (members.replicas.values()).any(|r| r.node == node && (full || members.is_voter(r.id)))
    }

    fn shard_status(&self, shard: &Shard) -> ShardStatus {
        let record = self.catalog.shards.get(&shard.id());
        let mut status = ShardStatus {
            name: record.map_or_else(|| self.label(shard.id()), |r| r.name.clone()),
            pool: record.map_or_else(String::new, |r| r.pool.clone()),
            shard: format!("{:x}", shard.id().0),
            replica: format!("{:x}", shard.replica().0),
            role: "loading".into(),
            applied: shard.applied(),
            snapshot: shard.snapshot_index(),
            machine_version: shard.version(),
            ..ShardStatus::default()
        };
        if let Some(fault) = shard.fault() {
            status.role = "silent".into();
            status.fault = fault.into();
        }
        let Some(group) = shard.group() else {
            return status;
        };
        status.role = match group.role() {
            Role::Leader => "leader",
            Role::Follower => "follower",
            Role::Candidate => "candidate",
            Role::Learner => "learner",
        }
        .into();
        if let Some((_, leader)) = self.router.leader(shard.id()) {
            status.leader = format!("{:x}", leader.0);
        }
        status.term = group.term();
        status.commit = group.commit();
        status.last = group.last();
        status.lag = group.commit().saturating_sub(shard.applied());
        status.hibernating = group.is_hibernating();
        status.log_bytes = group.log_bytes();
        let progress = group.progress();
        let members = group.membership();
        status.replicas = (members.replicas.values())
            .map(|r| {
                let matched = progress.iter().find(|p| p.replica == r.id);
                let kind = if members.is_voter(r.id) {
                    "voter"
                } else {
                    "learner"
                };
                let matched = matched.map_or(0, |p| p.matched);
                (format!("{:x}", r.node.0), kind.to_owned(), matched)
            })
            .collect();
        status
    }

    fn tree_status(&self) -> Option<TreeStatus> {
        let tree = self.tree()?;
        let counts = tree.counts();
        Some(TreeStatus {
            zxid: tree.zxid(),
            znodes: counts.nodes as u64,
            ephemerals: counts.ephemerals as u64,
            data_bytes: counts.data_bytes,
            sessions: counts.sessions as u64,
            connections: self.zookeeper.connection_count() as u64,
            watches: self.zookeeper.watch_count() as u64,
            outstanding: self.zookeeper.outstanding() as u64,
            session_list: (tree.sessions().take(SESSIONS_SHOWN))
                .map(|s| {
                    let home = format!("{:x}", s.home.node.0);
                    let ephemerals = s.ephemeral_count as u64;
                    (format!("{:x}", s.id.0), s.timeout_ms, home, ephemerals)
                })
                .collect(),
        })
    }
}

fn stat_rows(stat: &coordination::Stat) -> Vec<(String, String)> {
    [
        ("czxid", format!("{:#x}", stat.czxid)),
        ("mzxid", format!("{:#x}", stat.mzxid)),
        ("pzxid", format!("{:#x}", stat.pzxid)),
        ("ctime", base::time::utc(stat.ctime_ms)),
        ("mtime", base::time::utc(stat.mtime_ms)),
        ("version", stat.version.to_string()),
        ("cversion", stat.cversion.to_string()),
        ("aversion", stat.aversion.to_string()),
        ("ephemeral_owner", format!("{:#x}", stat.ephemeral_owner)),
        ("data_length", stat.data_length.to_string()),
        ("num_children", stat.num_children.to_string()),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect()
}
