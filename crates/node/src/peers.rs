//! The other cores: streams, addresses, who is heard, and whose clock is where.

use crate::event::{Endpoint, FrontEnd, Hello, StreamId};
use base::{CoreId, NodeId, Now, ShardId};
use cluster::{ClockOffsets, Detector, Patience};
use std::collections::BTreeMap;

/// A peer is taken for unreachable after this many ping intervals of silence.
const SILENT_INTERVALS: u64 = 4;

/// What a chunk server's address is told under.
pub const CHUNKS: &str = "chunks";

/// What is known of a node.
#[derive(Clone, Debug)]
struct Known {
    address: String,
    cores: u16,
    lanes: u16,
}

/// The other cores as this one sees them.
#[derive(Debug, Default)]
pub struct Peers {
    streams: BTreeMap<StreamId, Hello>,
    known: BTreeMap<NodeId, Known>,
    /// Who is heard, by node.
    pub detector: Detector,
    /// Whose clock is where, by node.
    pub clocks: ClockOffsets,
    unreachable: BTreeMap<NodeId, bool>,
    about: BTreeMap<NodeId, (u16, BTreeMap<String, String>)>,
    me: Option<NodeId>,
}

/// A silence that is accepted before a peer is suspected, in ping intervals.
const PAUSE_INTERVALS: u64 = 20;
/// Least deviation of intervals that suspicion reckons with, in microseconds.
const SIGMA_MIN_US: u64 = 100_000;

impl Peers {
    /// Nobody is known; signs of life will come at this interval.
    pub fn new(interval_us: u64) -> Self {
        let patience = Patience {
            sigma_min_us: SIGMA_MIN_US,
            pause_us: PAUSE_INTERVALS * interval_us,
            first_us: interval_us,
        };
        Self {
            detector: Detector::new(patience),
            ..Self::default()
        }
    }

    /// A stream was opened to us.
    pub fn opened(&mut self, stream: StreamId, hello: Hello) {
        let known = Known {
            address: hello.address.clone(),
            cores: hello.cores,
            lanes: hello.lanes,
        };
        self.known.insert(hello.from.node, known);
        self.streams.insert(stream, hello);
    }

    /// A stream ended. Yields the node that spoke on it.
    pub fn closed(&mut self, stream: StreamId) -> Option<NodeId> {
        self.streams.remove(&stream).map(|hello| hello.from.node)
    }

    /// Who speaks on a stream.
    pub fn hello(&self, stream: StreamId) -> Option<&Hello> {
        self.streams.get(&stream)
    }

    /// Where a node is, from the catalog.
    pub fn set_address(&mut self, node: NodeId, address: &str) {
        match self.known.get_mut(&node) {
            Some(known) => address.clone_into(&mut known.address),
            None => {
                let known = Known {
                    address: address.to_owned(),
                    cores: 1,
                    lanes: 1,
                };
                self.known.insert(node, known);
            }
        }
    }

    /// This node says of itself what it tells the others.
    pub fn introduce(&mut self, me: NodeId, version: u16, addresses: BTreeMap<String, String>) {
        self.me = Some(me);
        self.about.insert(me, (version, addresses));
    }

    /// This node.
    pub fn me(&self) -> Option<NodeId> {
        self.me
    }

    /// True for this node, and for one that was heard lately.
    pub fn is_heard(&self, node: NodeId) -> bool {
        // Whoever was never heard has not fallen silent.
        let is_known = self.detector.silent_us(node.0, u64::MAX).is_some();
        self.me == Some(node) || (is_known && self.unreachable.get(&node) == Some(&false))
    }

    /// Where a node takes and gives chunks of files, if it keeps any.
    pub fn chunks_address(&self, node: NodeId) -> Option<&String> {
        self.about.get(&node)?.1.get(CHUNKS)
    }

    /// A node says which machine version it can apply, and where clients reach it.
    pub fn set_about(
        &mut self,
        node: NodeId,
        machine_version: u16,
        addresses: BTreeMap<String, String>,
    ) {
        if self.known.contains_key(&node) {
            self.about.insert(node, (machine_version, addresses));
        }
    }

    /// The machine version that a node can apply, once it has said so.
    pub fn machine_version(&self, node: NodeId) -> Option<u16> {
        self.about.get(&node).map(|(version, _)| *version)
    }

    /// Where clients of a protocol reach a node.
    pub fn listener(&self, node: NodeId, front: FrontEnd) -> Option<&String> {
        self.about.get(&node)?.1.get(front.key())
    }

    /// A node is no member any more.
    pub fn forget(&mut self, node: NodeId) {
        self.known.remove(&node);
        self.about.remove(&node);
        self.detector.forget(node.0);
        self.clocks.forget(node.0);
        self.unreachable.remove(&node);
    }

    /// Where frames for a shard's replica on a node go.
    pub fn endpoint(&self, node: NodeId, shard: ShardId) -> Option<Endpoint> {
        let known = self.known.get(&node)?;
        Some(Endpoint {
            address: known.address.clone(),
            core: core_of(shard, known.lanes, known.cores),
        })
    }

    /// Nodes known at an address.
    pub fn nodes_at(&self, address: &str) -> Vec<NodeId> {
        (self.known.iter())
            .filter(|(_, k)| k.address == address)
            .map(|(node, _)| *node)
            .collect()
    }

    /// True while a node is heard; never heard counts as reachable until `since_us` is long ago.
    pub fn is_reachable(&self, node: NodeId, now: Now, interval_us: u64) -> bool {
        match self.detector.silent_us(node.0, now.mono_us) {
            Some(silent) => silent < SILENT_INTERVALS * interval_us,
            None => false,
        }
    }

    /// Nodes that have just fallen silent.
    pub fn newly_silent(&mut self, nodes: &[NodeId], now: Now, interval_us: u64) -> Vec<NodeId> {
        let mut silent = Vec::new();
        for node in nodes {
            // One that was never heard has not fallen silent.
            let was_heard = self.detector.silent_us(node.0, now.mono_us).is_some();
            let is = was_heard && !self.is_reachable(*node, now, interval_us);
            if is && self.unreachable.insert(*node, true) != Some(true) {
                silent.push(*node);
            } else if !is {
                self.unreachable.insert(*node, false);
            }
        }
        silent
    }
}

/// The core of a node that holds a shard: shards lie in lanes, lanes are given to cores.
pub fn core_of(shard: ShardId, lanes: u16, cores: u16) -> CoreId {
    let lane = lane_of(shard, lanes);
    CoreId(lane % cores.max(1))
}

/// The lane that a shard lies in.
pub fn lane_of(shard: ShardId, lanes: u16) -> u16 {
    // The meta shard (1) lies in lane 0.
    ((shard.0 - 1) % u64::from(lanes.max(1))) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_keep_their_lane_whatever_the_number_of_cores() {
        for cores in 1..4 {
            assert_eq!(core_of(ShardId(1), 2, cores), CoreId(0));
            assert_eq!(core_of(ShardId(2), 2, cores), CoreId(1 % cores));
        }
        assert_eq!(lane_of(ShardId(2), 1), 0);
    }
}
