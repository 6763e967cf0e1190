//! Rumours that begin here and there: how long, in rounds, until all that live know them.

use super::{Desk, Field, GRACE_US};
use base::peer::PeerId;
use cluster::spread::{Decision, ROUND_US};
use std::collections::{BTreeMap, BTreeSet};

/// Between rumours.
const EVERY_US: u64 = 1_500_000;

/// Who knows what.
#[derive(Clone, Debug, Default)]
pub struct Rumours {
    /// Rumours at most.
    most: u64,
    begun_us: BTreeMap<u64, u64>,
    knows: BTreeMap<u64, BTreeSet<PeerId>>,
    whole: BTreeSet<u64>,
}

impl Rumours {
    /// So many rumours at most, one after the other.
    pub fn new(most: u64) -> Self {
        Self {
            most,
            ..Self::default()
        }
    }
}

impl Field for Rumours {
    type Request = u64;
    type Decision = Decision;

    fn begin(&mut self, desk: &mut Desk<u64>) {
        let last_us = desk.until_us.saturating_sub(GRACE_US);
        for rumour in 1..=self.most {
            let at_us = rumour * EVERY_US;
            if at_us > last_us {
                break;
            }
            let node = desk.rng.range(1, desk.nodes as u64 + 1) as PeerId;
            desk.ask(at_us, node, rumour);
        }
    }

    fn asked(&mut self, desk: &mut Desk<u64>, _: PeerId, rumour: &u64) {
        self.begun_us.insert(*rumour, desk.now_us);
    }

    fn decided(&mut self, desk: &mut Desk<u64>, node: PeerId, Decision::Knows(rumour): &Decision) {
        let knows = self.knows.entry(*rumour).or_default();
        knows.insert(node);
        let all = desk.living().all(|node| knows.contains(&node));
        if all && self.whole.insert(*rumour) {
            let us = desk.now_us - self.begun_us.get(rumour).copied().unwrap_or(0);
            desk.figure("to all", us);
            desk.figure("rounds", us.div_ceil(ROUND_US));
        }
    }

    fn finish(&mut self, desk: &mut Desk<u64>) {
        desk.figure("known to all", self.whole.len() as u64);
        if desk.until_us < desk.healed_us + GRACE_US {
            return;
        }
        for (rumour, knows) in &self.knows {
            let missing = desk.living().find(|node| !knows.contains(node));
            if let (Some(node), false) = (missing, knows.is_empty()) {
                desk.stalled.push(format!(
                    "node {node} has not heard of rumour {rumour}, which {} know",
                    knows.len()
                ));
            }
        }
    }

    fn parse(&self, word: &str) -> Option<u64> {
        word.strip_prefix("start ")?.parse().ok()
    }
}
