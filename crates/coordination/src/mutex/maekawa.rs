//! Maekawa's algorithm: permission of about √n. Source: Maekawa, "A √N algorithm for mutual exclusion in
//! decentralized systems" (TOCS 3(2), 1985); the return of votes is `permission`'s.

use super::permission::{Permission, Rule};
use base::algorithm::{Family, Header, Trouble};
use base::peer::PeerId;
use std::collections::BTreeSet;

/// One's own row and column of a grid, or a line of a projective plane; all of it must agree.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct GridRule;

/// One peer.
pub type Maekawa = Permission<GridRule>;

/// Perfect difference sets: shifted around the circle, any two meet in exactly one place.
const PLANES: &[(usize, &[usize])] = &[
    (3, &[0, 1]),
    (7, &[0, 1, 3]),
    (13, &[0, 1, 3, 9]),
    (21, &[0, 1, 4, 14, 16]),
    (31, &[0, 1, 3, 8, 12, 18]),
];

/// The quorum of `me`, with `me` in it; any two meet. Its size is optimal (√n) where n is that of a
/// projective plane, and at most 2⌈√n⌉ - 1 elsewhere.
pub fn quorum(me: PeerId, nodes: usize) -> BTreeSet<PeerId> {
    let place = me - 1;
    if let Some((_, plane)) = PLANES.iter().find(|(n, _)| *n == nodes) {
        return plane
            .iter()
            .map(|step| (place + step) % nodes + 1)
            .collect();
    }
    let width = (1..).find(|w| w * w >= nodes).unwrap_or(1);
    (0..nodes)
        .filter(|other| other / width == place / width || other % width == place % width)
        .map(|other| other + 1)
        .collect()
}

impl Rule for GridRule {
    const HEADER: Header = Header {
        name: "maekawa",
        family: Family::MutualExclusion,
        title: "Maekawa: permission of about the square root",
        source: "Maekawa: A sqrt(N) algorithm for mutual exclusion in decentralized systems (TOCS 1985); Sanders (TOCS 1987)",
        idea: "Everybody has one vote and a fixed set of about sqrt(n) voters; any two sets meet, so nobody else can have all of his. Votes are asked back when somebody with an earlier request waits, which mends deadlocks.",
        assumptions: "As majority, but every voter of one's set must answer.",
        cost: "3(K - 1) messages an entry for sets of K (about sqrt(n)) when nobody else wants to, 5(K - 1) and more when many do.",
        not_guaranteed: "Progress while a single voter of one's set is down.",
        choose_when: "there are many peers, little contention, and few failures: it has the fewest messages without a token.",
        avoid_when: "peers fail often: majority goes on with half of them, Maekawa stops with one.",
        alternatives: &["majority", "ricart-agrawala"],
        survives: Trouble::PASSING,
    };

    fn quorum(me: PeerId, nodes: usize) -> (BTreeSet<PeerId>, usize) {
        let voters = quorum(me, nodes);
        let all = voters.len();
        (voters, all)
    }
}

#[cfg(test)]
mod tests {
    use super::quorum;

    #[test]
    fn quorums_of_any_two_peers_meet_and_hold_oneself() {
        for nodes in 1..=50 {
            for a in 1..=nodes {
                assert!(quorum(a, nodes).contains(&a), "{a} of {nodes}");
                for b in 1..a {
                    let common = quorum(a, nodes).intersection(&quorum(b, nodes)).count();
                    assert!(common > 0, "{a} and {b} of {nodes}");
                }
            }
        }
        assert_eq!(quorum(1, 7).len(), 3);
        assert_eq!(quorum(1, 13).len(), 4);
        assert_eq!(quorum(1, 9).len(), 5);
    }
}
