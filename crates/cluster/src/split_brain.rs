//! When the network falls apart: which side goes on? [`verdict`] is the whole rule, a pure function of who
//! is a member and who is still heard; [`Resolver`] is a peer that lives by it, for the lab.
//!
//! Source: the strategies as in Akka's split brain resolver (its manual) and in the notes; a static quorum is
//! Gifford's (SOSP 1979). No side can know whether the others are dead or only cut off (Fischer, Lynch, Paterson,
//! JACM 32(2), 1985); a rule is safe when at most one side can conclude that it stays.

mod resolver;

pub use resolver::{Decision, Message, Request, Resolver, State, Timer};

use base::algorithm::{Family, Header, Trouble};
use base::peer::PeerId;
use base::planted::{PeerBug, misbehaves};
use std::collections::BTreeSet;

/// Who goes on when the cluster falls apart.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Strategy {
    /// A side of at least so many. Safe only as [`quorum_fits`] says.
    StaticQuorum(usize),
    /// The side with more than half of the members; of two halves the one with the smallest id.
    KeepMajority,
    /// The side of the oldest member (here: the smallest id); when that is alone, the other side.
    KeepOldest,
    /// The side that a third party names.
    Arbiter,
    /// The side that gets a lease on a shared resource.
    Lease,
    /// No side.
    DownAll,
}

/// What a side concludes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Verdict {
    /// It goes on, without the others.
    Stay,
    /// It stops.
    Down,
    /// It asks the arbiter, or for the lease, and does as that says.
    Ask,
}

/// What follows for the side that hears `reachable` (itself included) of `members`.
pub fn verdict(
    strategy: Strategy,
    members: &BTreeSet<PeerId>,
    reachable: &BTreeSet<PeerId>,
) -> Verdict {
    let side: BTreeSet<PeerId> = members.intersection(reachable).copied().collect();
    let stays = match strategy {
        Strategy::StaticQuorum(quorum) => {
            side.len() + usize::from(misbehaves(PeerBug::StayWithHalf)) >= quorum
        }
        Strategy::KeepMajority => match (2 * side.len()).cmp(&members.len()) {
            std::cmp::Ordering::Greater => true,
            std::cmp::Ordering::Equal => {
                side.first() == members.first() || misbehaves(PeerBug::StayWithHalf)
            }
            std::cmp::Ordering::Less => false,
        },
        Strategy::KeepOldest => {
            let oldest = members.first();
            let with = side.first() == oldest;
            let alone = |of: usize| of == 1 && members.len() > 2;
            match with {
                true => !alone(side.len()) || misbehaves(PeerBug::StayAlone),
                false => alone(members.len() - side.len()),
            }
        }
        Strategy::Arbiter | Strategy::Lease => return Verdict::Ask,
        Strategy::DownAll => false,
    };
    match stays {
        true => Verdict::Stay,
        false => Verdict::Down,
    }
}

/// Whether a static quorum suits so many nodes: with fewer than it nobody may go on, and with 2·quorum or
/// more two sides may.
///
/// # Errors
/// What can go wrong.
pub fn quorum_fits(quorum: usize, nodes: usize) -> Result<(), String> {
    if quorum > nodes {
        Err(format!(
            "a quorum of {quorum} is never reached by {nodes} nodes"
        ))
    } else if nodes > 2 * quorum - 1 {
        Err(format!(
            "{nodes} nodes may fall apart into two sides of {quorum}, which both go on: a quorum of {quorum} suits {quorum} to {} nodes",
            2 * quorum - 1
        ))
    } else {
        Ok(())
    }
}

impl Strategy {
    /// The strategies of the lab, for `nodes`.
    pub fn usual(nodes: usize) -> [Self; 6] {
        [
            Self::StaticQuorum(base::peer::majority(nodes)),
            Self::KeepMajority,
            Self::KeepOldest,
            Self::Arbiter,
            Self::Lease,
            Self::DownAll,
        ]
    }

    /// True when the last node is no member but arbitrates, or keeps the lease.
    pub const fn has_referee(self) -> bool {
        matches!(self, Self::Arbiter | Self::Lease)
    }

    /// What people are told.
    pub const fn header(self) -> Header {
        const SURVIVES: &[Trouble] = &[
            Trouble::Delay,
            Trouble::Slow,
            Trouble::Reorder,
            Trouble::Duplicate,
            Trouble::Pause,
            Trouble::Partition,
            Trouble::Clock,
        ];
        let common = Header {
            name: "",
            family: Family::SplitBrain,
            title: "",
            source: "Akka's manual on its split brain resolver; Gifford: Weighted voting (SOSP 1979)",
            idea: "",
            assumptions: "All of a side see the same: who is heard does not change for a while (1.5 s) before a side concludes. One split at a time, and nobody dies for good during it.",
            cost: "n - 1 heartbeats of each peer every 100 ms; a side that stops is away for the length of the partition.",
            not_guaranteed: "",
            choose_when: "",
            avoid_when: "",
            alternatives: &[
                "static-quorum",
                "keep-majority",
                "keep-oldest",
                "arbiter",
                "lease-majority",
                "down-all",
            ],
            survives: SURVIVES,
        };
        match self {
            Self::StaticQuorum(_) => Header {
                name: "static-quorum",
                title: "Split brain: static quorum",
                idea: "A side of at least q members goes on. With q <= n <= 2q - 1 at most one side has as many.",
                not_guaranteed: "Anything once more nodes than 2q - 1 have joined: both halves go on. That any side goes on.",
                choose_when: "the number of nodes is fixed.",
                avoid_when: "nodes come and go.",
                ..common
            },
            Self::KeepMajority => Header {
                name: "keep-majority",
                title: "Split brain: keep the majority",
                idea: "The side with more than half of the members of the moment goes on; of two halves the one with the smallest id.",
                not_guaranteed: "That any side goes on: three parts of a third each all stop.",
                choose_when: "nodes come and go. The usual choice.",
                avoid_when: "a minority in the right place must go on: use an arbiter.",
                ..common
            },
            Self::KeepOldest => Header {
                name: "keep-oldest",
                title: "Split brain: keep the oldest",
                idea: "The side of the oldest member goes on, for it runs what there is only one of; when it is alone, it stops and the others go on.",
                not_guaranteed: "That the larger side goes on: two with the oldest outlive many without. When the oldest and one more die, nobody is left.",
                choose_when: "moving what the oldest runs costs more than the nodes of the other side.",
                avoid_when: "as many as possible must go on.",
                ..common
            },
            Self::Arbiter => Header {
                name: "arbiter",
                title: "Split brain: a third party names the side",
                idea: "A side asks an arbiter outside of the cluster; it names the first side that asks, for ever, and refuses all others. Here the last node arbitrates.",
                not_guaranteed: "Progress without the arbiter: a side that does not reach it stops.",
                choose_when: "there are two sites, and a small third one for the arbiter.",
                avoid_when: "there is no third place that fails on its own.",
                ..common
            },
            Self::Lease => Header {
                name: "lease-majority",
                title: "Split brain: lease on a shared resource",
                idea: "A side takes a lease on something shared, a lock in a store or on a disk; who has it goes on, who does not get it stops. Here the last node keeps the lease, for 20 s.",
                not_guaranteed: "Progress without the store. One side, when a partition outlasts the lease and a side that slept through it claims it anew.",
                choose_when: "there is a store that all can reach, and it is more dependable than the nodes.",
                avoid_when: "the store is reached over the network that falls apart.",
                ..common
            },
            Self::DownAll => Header {
                name: "down-all",
                title: "Split brain: all stop",
                idea: "Whenever somebody is not heard, all stop, and start again once all are back.",
                not_guaranteed: "Progress while anybody is away.",
                choose_when: "the network is so unsteady that no side can be trusted to see right.",
                avoid_when: "anything must go on.",
                ..common
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(ids: impl IntoIterator<Item = PeerId>) -> BTreeSet<PeerId> {
        ids.into_iter().collect()
    }

    #[test]
    fn m24_static_quorum_suits_quorum_to_twice_quorum_less_one() {
        for quorum in 1..10 {
            for nodes in 1..25 {
                let golden = quorum <= nodes && nodes < 2 * quorum;
                assert_eq!(quorum_fits(quorum, nodes).is_ok(), golden);
                // It fits exactly when no two sides that share nobody both stay, and one can.
                let members = set(1..=nodes);
                let both = (1..nodes).any(|cut| {
                    [set(1..=cut), set(cut + 1..=nodes)].iter().all(|side| {
                        verdict(Strategy::StaticQuorum(quorum), &members, side) == Verdict::Stay
                    })
                });
                let whole = verdict(Strategy::StaticQuorum(quorum), &members, &members);
                assert_eq!(!both && whole == Verdict::Stay, golden);
            }
        }
        let why = quorum_fits(3, 6).expect_err("two sides of three");
        assert!(why.contains("suits 3 to 5 nodes"), "{why}");
    }

    #[test]
    fn m24_half_with_the_smallest_id_stays_and_the_other_does_not() {
        let members = set(1..=4);
        let of = |side| verdict(Strategy::KeepMajority, &members, &side);
        assert_eq!(of(set([1, 4])), Verdict::Stay);
        assert_eq!(of(set([2, 3])), Verdict::Down);
        assert_eq!(of(set([2, 3, 4])), Verdict::Stay);
        assert_eq!(of(set([1])), Verdict::Down);
    }

    #[test]
    fn m24_no_strategy_lets_two_sides_stay() {
        for nodes in 2..=9 {
            let members = set(1..=nodes);
            for strategy in Strategy::usual(nodes) {
                for bits in 0..1_u32 << nodes {
                    let (a, b): (BTreeSet<_>, BTreeSet<_>) =
                        (1..=nodes).partition(|id| bits >> (id - 1) & 1 == 1);
                    let stays =
                        |side: &BTreeSet<_>| verdict(strategy, &members, side) == Verdict::Stay;
                    assert!(!(stays(&a) && stays(&b)), "{strategy:?} {a:?} {b:?}");
                }
            }
        }
    }

    #[test]
    fn oldest_alone_stops_and_the_others_go_on() {
        let members = set(1..=5);
        let of = |side| verdict(Strategy::KeepOldest, &members, &side);
        assert_eq!(of(set([1])), Verdict::Down);
        assert_eq!(of(set([2, 3, 4, 5])), Verdict::Stay);
        assert_eq!(of(set([1, 5])), Verdict::Stay);
        assert_eq!(of(set([2, 3, 4])), Verdict::Down);
    }
}
