//! Permission of a majority. Source: Thomas, "A majority consensus approach to concurrency control for
//! multiple copy databases" (TODS 4(2), 1979), for one lock.

use super::permission::{Permission, Rule};
use base::algorithm::{Family, Header, Trouble};
use base::peer::{PeerId, majority};
use base::planted::{PeerBug, misbehaves};
use std::collections::BTreeSet;

/// Everybody is asked, more than half must agree.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct MajorityRule;

/// One peer.
pub type Majority = Permission<MajorityRule>;

impl Rule for MajorityRule {
    const HEADER: Header = Header {
        name: "majority",
        family: Family::MutualExclusion,
        title: "Permission of a majority",
        source: "Thomas: A majority consensus approach to concurrency control (TODS 1979)",
        idea: "Everybody has one vote and is asked; more than half of the votes let one in. A vote is written down before it is given, and asked back when somebody with an earlier request waits.",
        assumptions: "Processes crash and may come back with their disk; messages may be lost, late, repeated or reordered. No bound on time is needed.",
        cost: "3(n - 1) messages an entry when nobody else wants to, up to 5(n - 1) and more when many do; entry after 2 delays and a sync.",
        not_guaranteed: "Progress when who is inside dies for good: nobody can tell that from slowness. Fairness among restarts.",
        choose_when: "a minority may be dead or cut off and locks must still be given, never twice.",
        avoid_when: "holders may die for good (give locks with a lease and a fencing token instead), or n is large.",
        alternatives: &["maekawa", "ricart-agrawala-detecting", "centralized"],
        survives: Trouble::PASSING,
    };

    fn quorum(_: PeerId, nodes: usize) -> (BTreeSet<PeerId>, usize) {
        let needed = if misbehaves(PeerBug::HalfIsMajority) {
            nodes / 2
        } else {
            majority(nodes)
        };
        ((1..=nodes).collect(), needed)
    }
}
