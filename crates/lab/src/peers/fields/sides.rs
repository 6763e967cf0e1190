//! A cluster that falls apart: no two that serve may take themselves for clusters without each other,
//! and once all is well all serve in one.

use super::{Desk, Field, GRACE_US};
use base::peer::PeerId;
use cluster::split_brain::Decision;
use std::collections::{BTreeMap, BTreeSet};

/// Who serves, and in which cluster.
#[derive(Clone, Debug, Default)]
pub struct Sides {
    /// The last node is no member.
    referee: bool,
    serving: BTreeMap<PeerId, BTreeSet<PeerId>>,
    down_us: BTreeMap<PeerId, u64>,
    split: BTreeSet<BTreeSet<PeerId>>,
}

impl Sides {
    /// A cluster with or without a referee.
    pub fn new(referee: bool) -> Self {
        Self {
            referee,
            ..Self::default()
        }
    }

    fn member(&self, desk: &Desk<()>, node: PeerId) -> bool {
        !(self.referee && node == desk.nodes)
    }

    fn serves(&mut self, desk: &mut Desk<()>, node: PeerId) {
        if let Some(since_us) = self.down_us.remove(&node) {
            desk.figure("away", desk.now_us - since_us);
        }
    }

    fn one_cluster(&self, desk: &Desk<()>) -> Result<(), String> {
        let living: BTreeSet<PeerId> = desk.living().filter(|n| self.member(desk, *n)).collect();
        for node in &living {
            match self.serving.get(node) {
                None => return Err(format!("node {node} has stopped, and stays so")),
                Some(of) if *of != living => {
                    return Err(format!(
                        "node {node} is of the cluster {of:?}, and {living:?} live"
                    ));
                }
                Some(_) => {}
            }
        }
        Ok(())
    }
}

impl Field for Sides {
    type Request = ();
    type Decision = Decision;

    fn started(&mut self, desk: &mut Desk<()>, node: PeerId) {
        if self.member(desk, node) {
            self.down_us.insert(node, desk.now_us);
        }
    }

    fn decided(&mut self, desk: &mut Desk<()>, node: PeerId, decision: &Decision) {
        match decision {
            Decision::Down => {
                self.serving.remove(&node);
                self.down_us.insert(node, desk.now_us);
            }
            Decision::Cluster(members) => {
                self.serves(desk, node);
                self.serving.insert(node, members.clone());
                let other = self.serving.values().find(|of| of.is_disjoint(members));
                if let Some(other) = other {
                    let pair = format!("two clusters serve: {other:?} and {members:?}");
                    if self.split.insert(members.clone()) {
                        desk.object(Some(pair));
                    }
                }
            }
        }
        if desk.now_us > desk.healed_us
            && desk.healed_us > 0
            && self.one_cluster(desk).is_ok()
            && !self.split.contains(&BTreeSet::new())
        {
            // The first time all are together again.
            self.split.insert(BTreeSet::new());
            desk.figure("recovery", desk.now_us - desk.healed_us);
        }
    }

    fn crashed(&mut self, _: &mut Desk<()>, node: PeerId) {
        self.serving.remove(&node);
        self.down_us.remove(&node);
    }

    fn finish(&mut self, desk: &mut Desk<()>) {
        for since_us in self.down_us.values() {
            let away_us = desk.now_us - since_us;
            desk.figures.entry("away").or_default().push(away_us);
        }
        if desk.until_us < desk.healed_us + GRACE_US {
            return;
        }
        if let Err(why) = self.one_cluster(desk) {
            desk.stalled.push(why);
        }
    }

    fn parse(&self, _: &str) -> Option<()> {
        None
    }
}
