//! Carries faults out: picks whom they hit, keeps to what a cluster must survive, and heals.

use crate::faults::{Fault, Shape};
use crate::run::{Alarm, Run, address};
use crate::world::NodeState;
use node::AdminCommand;
use std::collections::BTreeSet;

/// A disk's failure is told to its core this much later at most.
const GRACE_US: u64 = 3_000_000;

impl Run {
    fn pick(&self, pick: u64) -> Option<usize> {
        let up: Vec<usize> = self
            .members
            .iter()
            .copied()
            .filter(|m| self.world.is_up(*m))
            .collect();
        (!up.is_empty()).then(|| up[(pick % up.len() as u64) as usize])
    }

    /// The node that last said to lead a shard, if it runs.
    #[cfg(test)]
    fn leader(&self, shard: &str) -> Option<usize> {
        let leads = |node: usize| {
            self.statuses.get(&node).is_some_and(|(_, life, status)| {
                *life == self.world.nodes[node].life
                    && (status.shards.iter()).any(|s| s.name == shard && s.role == "leader")
            })
        };
        let mut members = self.members.iter().copied().rev();
        members.find(|m| self.world.is_up(*m) && leads(*m))
    }

    fn say(&mut self, text: &str) {
        let now_us = self.world.now_us;
        self.world.trace.note(now_us, &format!("fault: {text}"));
    }

    /// Everything is as it should be: a log may be lost now.
    fn can_lose_a_log(&self) -> bool {
        self.victim.is_none()
            && self.joining.is_none()
            && self.leaving.is_none()
            && self.members.len() >= 3
            && self
                .members
                .iter()
                .all(|m| self.world.is_up(*m) && self.serves(*m))
            && self.groups_are_whole()
    }

    /// No group waits for a replica to be removed or made: each has one on every member and no other.
    fn groups_are_whole(&self) -> bool {
        let statuses = || self.members.iter().filter_map(|m| self.statuses.get(m));
        let nodes: BTreeSet<&str> = statuses().map(|(_, _, s)| &s.node[..]).collect();
        statuses().all(|(_, _, status)| {
            status.shards.iter().all(|shard| {
                let held: BTreeSet<&str> = shard.replicas.iter().map(|r| &r.0[..]).collect();
                held == nodes
            })
        })
    }

    pub(crate) fn inject(&mut self, fault: &Fault) {
        self.say(&format!("{fault:?}"));
        let now_us = self.world.now_us;
        match *fault {
            Fault::Crash {
                pick,
                power,
                down_us,
            } => {
                if let Some(node) = self.pick(pick) {
                    self.world.crash(node, power);
                    self.world.boot_at(now_us + down_us, node);
                }
            }
            #[cfg(test)]
            Fault::CrashLeader { power, down_us } => {
                if let Some(node) = self.leader("tree") {
                    self.world.crash(node, power);
                    self.world.boot_at(now_us + down_us, node);
                }
            }
            Fault::Blackout { down_us } => {
                for node in self.members.clone() {
                    self.world.crash(node, true);
                    let at_us = now_us + self.rng.range(1_000, down_us);
                    self.world.boot_at(at_us, node);
                }
            }
            Fault::Pause { pick, for_us } => {
                if let Some(node) = self.pick(pick) {
                    self.world.pause(node, now_us + for_us);
                }
            }
            Fault::Partition {
                shape,
                pick,
                for_us,
            } => {
                self.divide(shape, pick);
                self.alarm(now_us + for_us, Alarm::Unblock);
            }
            Fault::Streams { pick } => {
                if let (Some(a), Some(b)) = (self.pick(pick), self.pick(pick / 7)) {
                    self.world.break_streams(a, b);
                }
            }
            Fault::Duplicate { for_us } => {
                self.world.duplicate(true);
                self.alarm(now_us + for_us, Alarm::DuplicatesEnd);
            }
            Fault::Connections { pick } => {
                if let Some(node) = self.pick(pick) {
                    self.world.reset_connections_of(node);
                }
            }
            Fault::Slow {
                pick,
                everyone,
                extra_us,
                for_us,
            } => {
                let hit = if everyone {
                    self.members.clone()
                } else {
                    self.pick(pick).into_iter().collect()
                };
                for node in hit {
                    self.world.nodes[node].disk.fault.slow_us = extra_us;
                    self.alarm(now_us + for_us, Alarm::SlowEnds(node));
                }
            }
            Fault::Full { pick, for_us } => {
                if let Some(node) = self.pick(pick) {
                    self.world.nodes[node].disk.fault.full = true;
                    self.excused_until_us
                        .insert(node, now_us + for_us + GRACE_US);
                    self.alarm(now_us + for_us, Alarm::FullEnds(node));
                }
            }
            Fault::Fail { pick, for_us } => {
                if let Some(node) = self.pick(pick) {
                    self.world.nodes[node].disk.fault.failing = true;
                    self.excused_until_us
                        .insert(node, now_us + for_us + GRACE_US);
                    let life = self.world.nodes[node].life;
                    self.alarm(now_us + for_us, Alarm::FailEnds(node, life));
                }
            }
            Fault::Step { pick, by_ms } => {
                if let Some(node) = self.pick(pick) {
                    self.world.nodes[node].clock.step_wall(now_us, by_ms);
                }
            }
            Fault::Drift { pick, ppm } => {
                if let Some(node) = self.pick(pick) {
                    self.world.nodes[node].clock.set_drift(now_us, ppm);
                }
            }
            Fault::Wipe { pick } | Fault::Flip { pick } | Fault::Lose { pick } => {
                if self.can_lose_a_log()
                    && let Some(node) = self.pick(pick)
                    && self.history.files.can_spare_all(node)
                {
                    self.lose(node, fault);
                    self.world.boot_at(now_us + 300_000, node);
                }
            }
            Fault::Rot { pick, lose } => self.begin_rot(pick, lose),
            Fault::Members { pick } => self.change_members(pick),
            Fault::Transfer { pick, to, meta } => {
                if let (Some(node), Some(to)) = (self.pick(pick), self.pick(to)) {
                    let command = AdminCommand::TransferLeader {
                        shard: if meta { "meta" } else { "tree" }.into(),
                        to: address(to),
                    };
                    self.world.ask(node, command);
                }
            }
            Fault::Snapshot { pick, meta } => {
                if let Some(node) = self.pick(pick) {
                    let shard = if meta { "meta" } else { "tree" }.into();
                    self.world.ask(node, AdminCommand::Snapshot { shard });
                }
            }
        }
    }

    fn lose(&mut self, node: usize, fault: &Fault) {
        let now_us = self.world.now_us;
        // Whoever may have to join again is configured with those who are members now.
        let members = self.members.iter().map(|member| address(*member)).collect();
        self.world.nodes[node].config.initial_members = members;
        let wiped = matches!(fault, Fault::Wipe { .. });
        self.world.crash(node, wiped);
        let disk = &mut self.world.nodes[node].disk;
        let what = match fault {
            Fault::Wipe { .. } => {
                disk.wipe();
                self.history.files.wipe(node, now_us);
                Some("everything".to_owned())
            }
            Fault::Lose { .. } => {
                disk.lose_log();
                Some("its log".to_owned())
            }
            _ => disk.flip(),
        };
        if let Some(what) = what {
            self.say(&format!("node{node} loses {what}"));
            self.victim = Some((node, self.world.nodes[node].life));
        }
    }

    fn divide(&mut self, shape: Shape, pick: u64) {
        let members = self.members.clone();
        let n = members.len();
        let turn = (pick % n as u64) as usize;
        let place = |i: usize| (i + turn) % n;
        for (i, a) in members.iter().enumerate() {
            for (j, b) in members.iter().enumerate() {
                let (p, q) = (place(i), place(j));
                let cut = match shape {
                    Shape::Halves => (p < n / 2) != (q < n / 2),
                    Shape::Isolate => (p == 0) != (q == 0),
                    Shape::OneWay => p == 0 && q != 0,
                    Shape::Bridge => p != 0 && q != 0 && (p <= n / 2) != (q <= n / 2),
                };
                if cut && a != b {
                    self.world.block(*a, *b);
                }
            }
        }
    }

    /// One falls behind, one loses its log, one goes down for a while: those left must not decide.
    fn begin_rot(&mut self, pick: u64, lose: bool) {
        if self.members.len() != 3 || !self.can_lose_a_log() {
            return;
        }
        let now_us = self.world.now_us;
        let at = |i: u64| self.members[((pick + i) % 3) as usize];
        let (behind, victim, other) = (at(0), at(1), at(2));
        for node in [victim, other] {
            self.world.block(behind, node);
            self.world.block(node, behind);
        }
        // Whoever falls behind must be out before the log is lost, or there is nobody to be misled.
        self.alarm(
            now_us + 1_500_000,
            Alarm::RotElect {
                victim,
                other,
                lose,
            },
        );
    }

    pub(crate) fn follow_up(&mut self, alarm: Alarm) {
        let now_us = self.world.now_us;
        match alarm {
            Alarm::Unblock => {
                self.say("the network is whole again");
                self.world.unblock_all();
            }
            Alarm::DuplicatesEnd => self.world.duplicate(false),
            Alarm::SlowEnds(node) => self.world.nodes[node].disk.fault.slow_us = 0,
            Alarm::FullEnds(node) => self.world.nodes[node].disk.fault.full = false,
            Alarm::FailEnds(node, life) => {
                self.world.nodes[node].disk.fault.failing = false;
                // Whoever has not seen its disk fail is none the wiser; whoever has must have stopped.
                if self.world.nodes[node].life == life {
                    self.world.crash(node, true);
                }
                self.world.boot_at(now_us + 100_000, node);
            }
            Alarm::RotElect {
                victim,
                other,
                lose,
            } => {
                if self.victim.is_none()
                    && self.world.is_up(victim)
                    && self.world.is_up(other)
                    && self.history.files.can_spare_all(victim)
                {
                    let fault = if lose {
                        Fault::Lose { pick: 0 }
                    } else {
                        Fault::Flip { pick: 0 }
                    };
                    self.lose(victim, &fault);
                    self.world.crash(other, false);
                    self.world.boot_at(now_us + 50_000, victim);
                    self.world.boot_at(now_us + 4_000_000, other);
                }
                self.world.unblock_all();
            }
            Alarm::Join(node) => {
                if self.joining != Some(node) || self.members.contains(&node) {
                    return;
                }
                if let Some(seed) = self.pick(self.world.now_us)
                    && self.world.is_up(node)
                {
                    let seed = address(seed);
                    self.world.ask(node, AdminCommand::Join { seed });
                }
                self.alarm(now_us + 1_500_000, Alarm::Join(node));
            }
            Alarm::Leave(node) => {
                if self.leaving != Some(node) {
                    return;
                }
                let others: Vec<usize> = self
                    .members
                    .iter()
                    .copied()
                    .filter(|m| *m != node && self.world.is_up(*m))
                    .collect();
                if !others.is_empty() {
                    let via = others[self.rng.range(0, others.len() as u64) as usize];
                    let command = AdminCommand::Leave {
                        node: address(node),
                    };
                    self.world.ask(via, command);
                }
                self.alarm(now_us + 1_500_000, Alarm::Leave(node));
            }
            _ => {}
        }
    }

    fn change_members(&mut self, pick: u64) {
        if self.joining.is_some() || self.leaving.is_some() || self.victim.is_some() {
            return;
        }
        let now_us = self.world.now_us;
        if self.members.len() <= self.initial {
            let number = self.world.nodes.len();
            let mut config = self.config(number);
            config.initial_members = Vec::new();
            let node = self.world.add_node(config);
            self.say(&format!("node{node} joins"));
            self.joining = Some(node);
            self.world.boot_at(now_us, node);
            self.alarm(now_us + 200_000, Alarm::Join(node));
        } else if let Some(node) = self.pick(pick) {
            self.say(&format!("node{node} leaves"));
            self.leaving = Some(node);
            self.alarm(now_us, Alarm::Leave(node));
        }
    }

    /// A status came: has the victim recovered, the newcomer joined, the one that leaves left?
    pub(crate) fn watch_members(&mut self, node: usize) {
        if let Some((victim, life)) = self.victim
            && victim == node
            && self.world.nodes[node].life > life
            && self.serves(node)
        {
            self.say(&format!("node{node} serves again"));
            self.victim = None;
        }
        if self.joining == Some(node) && self.serves(node) {
            self.say(&format!("node{node} has joined"));
            self.joining = None;
            self.members.push(node);
        }
        if let Some(leaving) = self.leaving
            && leaving != node
            && self.serves(node)
            && let Some((_, _, status)) = self.statuses.get(&node)
            && !status
                .members
                .iter()
                .any(|member| member.address == address(leaving))
        {
            self.say(&format!("node{leaving} has left"));
            self.leaving = None;
            self.members.retain(|member| *member != leaving);
            self.world.crash(leaving, false);
        }
    }

    pub(crate) fn stopped(&mut self, node: usize, reason: &str) {
        let now_us = self.world.now_us;
        if self.leaving == Some(node) || !self.members.contains(&node) && self.joining != Some(node)
        {
            return;
        }
        if self
            .excused_until_us
            .get(&node)
            .is_some_and(|until_us| now_us <= *until_us)
        {
            // The disk will be put right; then someone starts the node again.
            self.world.boot_at(now_us + GRACE_US, node);
            return;
        }
        if self.victim.is_some_and(|(victim, _)| victim == node) {
            self.say(&format!(
                "someone reads `{reason}`, wipes node{node} and starts it again"
            ));
            self.world.nodes[node].disk.wipe();
            self.history.files.wipe(node, now_us);
            self.world.boot_at(now_us + 500_000, node);
            return;
        }
        self.violations
            .push(format!("node{node} stopped: {reason}"));
        self.world.boot_at(now_us + 500_000, node);
    }

    /// No more faults: disks work, the network is whole, every member runs.
    pub(crate) fn heal(&mut self) {
        self.say("all faults end");
        let now_us = self.world.now_us;
        self.world.unblock_all();
        self.world.duplicate(false);
        for node in 0..self.world.nodes.len() {
            self.world.nodes[node].disk.fault = Default::default();
            self.world.nodes[node].paused_until_us =
                self.world.nodes[node].paused_until_us.min(now_us);
        }
        for node in self.members.clone() {
            if self.world.nodes[node].state != NodeState::Up && self.leaving != Some(node) {
                self.world.boot_at(now_us + 100_000, node);
            }
        }
    }
}
