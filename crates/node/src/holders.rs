//! Which cores hold which shards, as each says of itself.
//!
//! Every core tells all others which shards it can serve, and which of them it leads: at once when that
//! changes, and again and again. The catalog says only where replicas shall be.

use base::{CoreAddress, NodeId, Now, ShardId, Term};
use std::collections::BTreeMap;

/// Who has not said anything for so long holds nothing, microseconds.
const SILENCE_US: u64 = 2_000_000;

/// A replica that its core can serve from: in which term it is, and whether it leads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Held {
    /// Of which shard.
    pub shard: ShardId,
    /// Its term.
    pub term: Term,
    /// True for the leader of that term.
    pub leads: bool,
}

/// What the other cores have said.
#[derive(Debug, Default)]
pub struct Holders {
    said: BTreeMap<CoreAddress, (u64, Vec<Held>)>,
}

impl Holders {
    /// A core says what it holds.
    pub fn heard(&mut self, now: Now, from: CoreAddress, held: Vec<Held>) {
        self.said.insert(from, (now.mono_us, held));
    }

    /// Nothing is known of these cores any more.
    pub fn forget(&mut self, is: impl Fn(CoreAddress) -> bool) {
        self.said.retain(|core, _| !is(*core));
    }

    /// The core that serves a shard best: one of this node, else the leader's, else any. `now_us`: the
    /// monotonic clock.
    pub fn of(&self, now_us: u64, me: NodeId, shard: ShardId) -> Option<CoreAddress> {
        let is_fresh = |at_us: u64| now_us < at_us + SILENCE_US;
        (self.said.iter())
            .filter(|(_, (at_us, _))| is_fresh(*at_us))
            .filter_map(|(core, (_, held))| {
                let held = held.iter().find(|held| held.shard == shard)?;
                Some((core.node != me, !held.leads, *core))
            })
            .min()
            .map(|(_, _, core)| core)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::CoreId;

    #[test]
    fn own_cores_come_first_then_the_leader_and_the_silent_never() {
        let core = |node, core| CoreAddress {
            node: NodeId(node),
            core: CoreId(core),
        };
        let held = |leads| {
            let (shard, term) = (ShardId(3), 1);
            vec![Held { shard, term, leads }]
        };
        let now = Now::default();
        let mut holders = Holders::default();
        let of = |holders: &Holders, us| holders.of(us, NodeId(9), ShardId(3));
        holders.heard(now, core(1, 0), held(false));
        assert_eq!(of(&holders, 1), Some(core(1, 0)));
        holders.heard(now, core(2, 1), held(true));
        assert_eq!(of(&holders, 1), Some(core(2, 1)));
        holders.heard(now, core(9, 1), held(false));
        assert_eq!(of(&holders, 1), Some(core(9, 1)));
        holders.heard(now, core(9, 1), Vec::new());
        holders.forget(|core| core.node == NodeId(2));
        assert_eq!(of(&holders, 1), Some(core(1, 0)));
        assert_eq!(of(&holders, SILENCE_US), None);
    }
}
