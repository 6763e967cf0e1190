//! Who is suspected, and rightly? After all was well for long, the dead and nobody else.

use super::{Desk, Field, GRACE_US};
use base::peer::PeerId;
use cluster::detection::Decision;
use std::collections::{BTreeMap, BTreeSet};

/// Watchers and the watched.
#[derive(Clone, Debug)]
pub struct Detection {
    /// Who watches a peer.
    monitors: fn(PeerId, usize) -> Vec<PeerId>,
    suspects: BTreeMap<PeerId, BTreeSet<PeerId>>,
    died_us: BTreeMap<PeerId, u64>,
    /// Of the dead, whose death was noticed by anybody.
    noticed: BTreeSet<PeerId>,
    wrong: u64,
}

impl Detection {
    /// Peers watched by those that `monitors` names.
    pub fn new(monitors: fn(PeerId, usize) -> Vec<PeerId>) -> Self {
        Self {
            monitors,
            suspects: BTreeMap::new(),
            died_us: BTreeMap::new(),
            noticed: BTreeSet::new(),
            wrong: 0,
        }
    }

    /// All others.
    pub fn by_all(peer: PeerId, nodes: usize) -> Vec<PeerId> {
        base::peer::others(peer, nodes).collect()
    }
}

impl Field for Detection {
    type Request = ();
    type Decision = Decision;

    fn started(&mut self, _: &mut Desk<()>, node: PeerId) {
        self.died_us.remove(&node);
        self.noticed.remove(&node);
    }

    fn decided(&mut self, desk: &mut Desk<()>, node: PeerId, decision: &Decision) {
        match *decision {
            Decision::Suspects(peer) => {
                self.suspects.entry(node).or_default().insert(peer);
                match self.died_us.get(&peer) {
                    Some(died_us) => {
                        desk.figure("detection", desk.now_us - died_us);
                        if self.noticed.insert(peer) {
                            desk.figure("first detection", desk.now_us - died_us);
                        }
                    }
                    None => self.wrong += 1,
                }
            }
            Decision::Trusts(peer) => {
                self.suspects.entry(node).or_default().remove(&peer);
            }
        }
    }

    fn crashed(&mut self, desk: &mut Desk<()>, node: PeerId) {
        self.died_us.insert(node, desk.now_us);
        self.suspects.remove(&node);
    }

    fn finish(&mut self, desk: &mut Desk<()>) {
        desk.figure("false suspicions", self.wrong);
        if desk.until_us < desk.healed_us + GRACE_US {
            return;
        }
        for peer in 1..=desk.nodes {
            for monitor in (self.monitors)(peer, desk.nodes) {
                let suspects = self
                    .suspects
                    .get(&monitor)
                    .is_some_and(|s| s.contains(&peer));
                if desk.up[monitor - 1] && suspects == desk.up[peer - 1] {
                    desk.stalled.push(if suspects {
                        format!("node {monitor} still suspects node {peer}, which lives")
                    } else {
                        format!("node {monitor} does not suspect node {peer}, which is dead")
                    });
                }
            }
        }
    }

    fn parse(&self, _: &str) -> Option<()> {
        None
    }
}
