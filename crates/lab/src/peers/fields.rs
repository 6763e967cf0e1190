//! What each family of algorithms is asked for, and what must hold of its answers.

pub mod agreement;
pub mod commit;
pub mod copies;
pub mod detection;
pub mod election;
pub mod mutex;
pub mod quorums;
pub mod rumours;
pub mod sides;
pub mod times;

use super::script::Fault;
use super::simulation::Plan;
use base::Rng;
use base::peer::PeerId;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::hash::Hash;

/// After the last fault has ended, everything must work again within this time.
pub const GRACE_US: u64 = 8_000_000;

/// What must never be: the part of a [`Field`] that an exhaustive search carries along.
pub trait Safety: Clone + Hash + Debug {
    /// Of the family's peers.
    type Request: Clone + Debug + Hash;
    /// Of the family's peers.
    type Decision: Clone + Debug;

    /// The user asked.
    fn asked(&mut self, node: PeerId, request: &Self::Request);
    /// A peer decided; what is wrong with that, if anything.
    fn decided(&mut self, node: PeerId, decision: &Self::Decision) -> Option<String>;
    /// A process died.
    fn crashed(&mut self, node: PeerId);
    /// What the user of `node` may ask next, in a search of `nodes`.
    fn choices(&self, node: PeerId, nodes: usize) -> Vec<Self::Request>;
    /// What is wrong when nothing more will happen, and nothing failed.
    fn at_rest(&self, nodes: usize) -> Option<String>;
}

/// Who asks the peers for something, and watches.
pub trait Field {
    /// Of the family's peers.
    type Request;
    /// Of the family's peers.
    type Decision;

    /// Nothing has happened yet.
    fn begin(&mut self, _: &mut Desk<Self::Request>) {}
    /// A process starts, for the first time or again.
    fn started(&mut self, _: &mut Desk<Self::Request>, _: PeerId) {}
    /// A peer is asked for what this field, or a script, has wanted.
    fn asked(&mut self, _: &mut Desk<Self::Request>, _: PeerId, _: &Self::Request) {}
    /// A peer has decided.
    fn decided(&mut self, desk: &mut Desk<Self::Request>, node: PeerId, decision: &Self::Decision);
    /// A process died.
    fn crashed(&mut self, _: &mut Desk<Self::Request>, _: PeerId) {}
    /// The run is over.
    fn finish(&mut self, desk: &mut Desk<Self::Request>);
    /// A request by its word in a script.
    fn parse(&self, word: &str) -> Option<Self::Request>;
}

/// Where a [`Field`] finds what it needs, and leaves what it wants.
pub struct Desk<R> {
    /// Simulated time.
    pub now_us: u64,
    /// Peers.
    pub nodes: usize,
    /// Whose process lives, from node 1 on.
    pub up: Vec<bool>,
    /// How far each wall clock is ahead of the right time, in milliseconds, from node 1 on.
    pub skew_ms: Vec<i64>,
    /// Who lies at any time of the run: what they decide binds nobody.
    pub liars: BTreeSet<PeerId>,
    /// When the last fault has ended.
    pub healed_us: u64,
    /// When the run ends.
    pub until_us: u64,
    /// The workload's own stream.
    pub rng: Rng,
    /// What to ask: when, whom, what.
    pub requests: Vec<(u64, PeerId, R)>,
    /// What must never be, and was.
    pub unsafe_: Vec<String>,
    /// What should have come about.
    pub stalled: Vec<String>,
    /// What a run has to tell that is neither.
    pub told: Vec<String>,
    /// Figures by name.
    pub figures: BTreeMap<&'static str, Vec<u64>>,
    /// The run may end.
    pub enough: bool,
}

impl<R> Desk<R> {
    /// A desk at the beginning.
    pub fn new(plan: &Plan, rng: Rng, healed_us: u64) -> Self {
        Self {
            now_us: 0,
            nodes: plan.nodes,
            up: vec![false; plan.nodes],
            skew_ms: vec![0; plan.nodes],
            liars: (plan.script.faults.iter())
                .filter_map(|planned| match planned.fault {
                    Fault::Lie { node, .. } => Some(node),
                    _ => None,
                })
                .collect(),
            healed_us,
            until_us: plan.until_ms * 1000,
            rng,
            requests: Vec::new(),
            unsafe_: Vec::new(),
            stalled: Vec::new(),
            told: Vec::new(),
            figures: BTreeMap::new(),
            enough: false,
        }
    }

    /// Asks `node` so much later.
    pub fn ask(&mut self, after_us: u64, node: PeerId, request: R) {
        self.requests.push((self.now_us + after_us, node, request));
    }

    /// Those whose process lives.
    pub fn living(&self) -> impl Iterator<Item = PeerId> + '_ {
        (1..=self.nodes).filter(|node| self.up[node - 1])
    }

    /// Adds a figure.
    pub fn figure(&mut self, name: &'static str, value: u64) {
        self.figures.entry(name).or_default().push(value);
    }

    /// Something that must never be.
    pub fn object(&mut self, what: Option<String>) {
        let at_ms = self.now_us / 1000;
        self.unsafe_
            .extend(what.map(|what| format!("at {at_ms} ms {what}")));
    }

    /// True from the moment on at which everything must work again.
    pub fn is_long_healed(&self) -> bool {
        self.now_us >= self.healed_us + GRACE_US
    }
}
