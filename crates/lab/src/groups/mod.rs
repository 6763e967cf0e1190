//! Groups of nodes in a run: users who lock, append and look through whichever member is up, while the nodes that
//! host the protocol die, lose power and are cut off.
//!
//! When a user was inside, and which place its value was given, is written down here, by simulated time; the
//! checkers compare that with itself and with what the members wrote down.

pub(crate) mod player;

use base::Rng;
use base::peer::PeerId;
use group::{Event, Kind, protocols};
use std::collections::{BTreeMap, BTreeSet};

/// Those that keep what they promise whatever the faults do to nodes and streams. Not PBFT: of its replicas only a
/// third may ever have died, for they keep nothing on disk.
const PROTOCOLS: [&str; 7] = [
    "centralized",
    "token-ring",
    "majority",
    "maekawa",
    "bully",
    "zab",
    "multi-paxos",
];

/// Which of them a run's group has, among so many nodes.
pub fn draw(rng: &mut Rng, nodes: usize) -> &'static str {
    let fits = |name: &&str| protocols::find(name).is_ok_and(|found| found.nodes_min <= nodes);
    let all: Vec<&'static str> = PROTOCOLS.into_iter().filter(fits).collect();
    all[rng.range(0, all.len() as u64) as usize]
}

/// A user was inside.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hold {
    /// Which user.
    pub user: usize,
    /// On which node.
    pub node: usize,
    /// When it asked.
    pub invoked_us: u64,
    /// When it was told that it is inside.
    pub from_us: u64,
    /// When it was inside for certain the last time: it left, or the node lived.
    pub until_us: u64,
    /// Its fence.
    pub fence: u64,
}

/// What was done and seen.
#[derive(Clone, Debug, Default)]
pub struct GroupsHistory {
    /// What the group is for, once there is one.
    pub kind: Option<Kind>,
    /// In the order in which users were let in.
    pub holds: Vec<Hold>,
    /// Values that were asked for.
    pub asked: BTreeSet<u64>,
    /// Values with the places that their users were told.
    pub appended: Vec<(u64, u64)>,
    /// Members.
    pub members: usize,
    /// What those of them that are still there wrote down, as it was read at the end.
    pub logs: BTreeMap<PeerId, Vec<Event>>,
}
