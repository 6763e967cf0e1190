//! Gossip among nodes: which of them are reachable, and what each says of itself. For people and for gentle
//! decisions only: who is a member and who leads is decided by the meta shard and by elections.
//!
//! The core that holds the meta shard gossips for its node.

use crate::admin::{MemberStatus, MonitorStatus};
use crate::core::Core;
use crate::event::Level;
use crate::frame::Frame;
use crate::peers::CHUNKS;
use base::{ClusterId, NodeId, Now};
use catalog::{META_SHARD, MemberState};
use cluster::gossip::{Rumor, Verdict};
use std::collections::{BTreeMap, BTreeSet};

/// A round takes so many heartbeat intervals.
pub(crate) const ROUND_INTERVALS: u64 = 5;

/// What was thought of each member last, and since when.
pub(crate) type Verdicts = BTreeMap<NodeId, (Verdict, u64)>;

impl Core {
    /// One round, when it is due.
    pub(crate) fn gossip(&mut self, now: Now) {
        let rests = self.cluster == ClusterId(0) || !self.holds(META_SHARD);
        if rests || now.mono_us < self.timers.gossip_us {
            return;
        }
        self.timers.gossip_us = now.mono_us + ROUND_INTERVALS * self.ping_interval_us();
        let members: BTreeSet<NodeId> = self.catalog.members.keys().copied().collect();
        for node in members.iter().filter(|node| **node != self.me.node) {
            self.peers.detector.expect(node.0, now.mono_us);
        }
        self.gossip.set_members(members);
        let facts = self.facts();
        self.gossip.set_facts(facts);
        let detector = &self.peers.detector;
        let watched = self.gossip.watched().into_iter();
        let phi = watched.map(|node| (node, detector.phi(node.0, now.mono_us)));
        self.gossip.set_phi(phi.collect::<Vec<_>>().into_iter());
        let (to, rumor) = self.gossip.round(&mut self.gossip_rng);
        for node in to {
            let from = self.me.node;
            let rumor = rumor.clone();
            self.send_to_shard(node, META_SHARD, &Frame::Gossip { from, rumor });
        }
        self.note_verdicts(now);
    }

    /// What another node told.
    pub(crate) fn rumor(&mut self, now: Now, from: NodeId, rumor: Rumor) {
        if let Some(rumor) = self.gossip.handle(now.mono_us, rumor) {
            let me = self.me.node;
            self.send_to_shard(from, META_SHARD, &Frame::Gossip { from: me, rumor });
        }
    }

    /// What this node says about itself.
    fn facts(&self) -> BTreeMap<String, String> {
        let role = match self.catalog.members.get(&self.me.node) {
            Some(me) if me.state == MemberState::Leaving => "leaving",
            Some(me) if me.observes => "observer",
            _ => "member",
        };
        let mut facts = self.config.addresses();
        facts.insert("role".into(), role.into());
        facts.insert("version".into(), env!("CARGO_PKG_VERSION").into());
        if !self.config.zone.is_empty() {
            facts.insert("zone".into(), self.config.zone.clone());
        }
        facts
    }

    fn note_verdicts(&mut self, now: Now) {
        (self.verdicts).retain(|node, _| self.catalog.members.contains_key(node));
        for node in self.catalog.members.keys().copied().collect::<Vec<_>>() {
            let verdict = self.gossip.seen(node, now.mono_us).verdict;
            let before = self.verdicts.get(&node).map(|(before, _)| *before);
            if before != Some(verdict) {
                self.verdicts.insert(node, (verdict, now.mono_us));
                if before.is_some() {
                    let message = format!("{node} is {} by what its monitors say", verdict.name());
                    self.log(Level::Info, message);
                }
            }
        }
    }

    /// Adds what gossip knows of a member, where this core gossips.
    pub(crate) fn describe_member(&self, now: Now, node: NodeId, status: &mut MemberStatus) {
        let Some((verdict, since_us)) = self.verdicts.get(&node) else {
            return;
        };
        let seen = self.gossip.seen(node, now.mono_us);
        let hex = |node: NodeId| format!("{:x}", node.0);
        status.verdict = verdict.name().into();
        status.since_ms = now.mono_us.saturating_sub(*since_us) / 1_000;
        status.gossip_ms = seen.silent_us.map(|us| us / 1_000);
        let monitors = seen.monitors.into_iter();
        status.monitors = monitors
            .map(|(monitor, heard, phi)| MonitorStatus {
                node: hex(monitor),
                heard,
                // One's own view is not rounded.
                phi: match monitor == self.me.node {
                    true => self.peers.detector.phi(node.0, now.mono_us),
                    false => f64::from(phi),
                },
            })
            .collect();
        if let Some(row) = self.gossip.row(node) {
            status.incarnation = row.mark.incarnation;
            status.facts.clone_from(&row.facts);
            // It is between nodes alone.
            status.facts.remove(CHUNKS);
        }
    }
}
