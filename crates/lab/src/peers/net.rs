//! The network and the disks between peers. Every figure is drawn from the seed, a stream, the pair and
//! the number of the message in it: adding one fault does not reshuffle what the others meet.

use base::Rng;
use base::peer::PeerId;

/// How fast everything is while nothing is wrong; all in microseconds, least and most.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pace {
    /// A message.
    pub delay_us: (u64, u64),
    /// A sync.
    pub sync_us: (u64, u64),
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            delay_us: (1_000, 5_000),
            sync_us: (200, 2_000),
        }
    }
}

/// Streams of the seed.
pub(super) mod stream {
    pub const FAULTS: u64 = 1;
    pub const DELAY: u64 = 2;
    pub const LOSS: u64 = 3;
    pub const DUPLICATE: u64 = 4;
    pub const EXTRA: u64 = 5;
    pub const DISK: u64 = 6;
    pub const WORKLOAD: u64 = 7;
    pub const NODES: u64 = 1_000;
}

/// What is wrong with the network now; several of a kind add up.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Wrong {
    /// Nothing passes from any of these to any of those.
    Cut { from: Vec<PeerId>, to: Vec<PeerId> },
    /// So many of a hundred messages are lost.
    Loss { percent: u64 },
    /// Up to so much is added to the delay.
    Delay { up_to_us: u64 },
    /// So many of a hundred messages arrive twice.
    Duplicate { percent: u64 },
    /// Messages of one pair overtake each other.
    Reorder,
    /// What this node sends and gets takes so much longer.
    Slow { node: PeerId, by_us: u64 },
}

/// When a message arrives; twice, once, or not at all.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(super) struct Arrivals {
    pub first_us: Option<u64>,
    pub second_us: Option<u64>,
}

/// The network of `nodes` peers.
pub(super) struct Net {
    seed: u64,
    pace: Pace,
    nodes: usize,
    /// Messages of each pair so far, and when the last of them arrives.
    pairs: Vec<(u64, u64)>,
    syncs: Vec<u64>,
    /// Numbers of what is wrong, so that it can be mended, and what names its draws.
    wrong: Vec<(usize, u64, Wrong)>,
}

/// Draws a figure that belongs to this name alone.
pub(super) fn draw(seed: u64, stream: u64, who: u64, number: u64, low: u64, high: u64) -> u64 {
    let mut rng = Rng::new(seed).fork(stream).fork(who + 1).fork(number + 1);
    rng.range(low, high)
}

impl Net {
    pub fn new(seed: u64, nodes: usize, pace: Pace) -> Self {
        Self {
            seed,
            pace,
            nodes,
            pairs: vec![(0, 0); nodes * nodes],
            syncs: vec![0; nodes],
            wrong: Vec::new(),
        }
    }

    pub fn begin(&mut self, (number, draws): (usize, u64), wrong: Wrong) {
        self.wrong.push((number, draws, wrong));
    }

    pub fn end(&mut self, number: usize) {
        self.wrong.retain(|(other, ..)| *other != number);
    }

    pub fn passes(&self, from: PeerId, to: PeerId) -> bool {
        !self.wrong.iter().any(|(.., wrong)| {
            matches!(wrong, Wrong::Cut { from: a, to: b } if a.contains(&from) && b.contains(&to))
        })
    }

    /// A message leaves now.
    pub fn carry(&mut self, now_us: u64, from: PeerId, to: PeerId) -> Arrivals {
        let pair = (from - 1) * self.nodes + (to - 1);
        let number = self.pairs[pair].0;
        self.pairs[pair].0 += 1;
        let (seed, (least_us, most_us)) = (self.seed, self.pace.delay_us);
        let named = |stream, low, high| draw(seed, stream, pair as u64, number, low, high);
        let mut delay_us = named(stream::DELAY, least_us, most_us);
        let (mut lost, mut twice, mut ordered) = (false, false, true);
        for (_, draws, wrong) in &self.wrong {
            let chance = |stream| named(stream + 100 * (draws + 1), 0, 100);
            match wrong {
                Wrong::Cut { from: a, to: b } => lost |= a.contains(&from) && b.contains(&to),
                Wrong::Loss { percent } => lost |= chance(stream::LOSS) < *percent,
                Wrong::Delay { up_to_us } => delay_us += chance(stream::EXTRA) * up_to_us / 100,
                Wrong::Duplicate { percent } => twice |= chance(stream::DUPLICATE) < *percent,
                Wrong::Reorder => {
                    ordered = false;
                    delay_us += chance(stream::EXTRA) * most_us / 10;
                }
                Wrong::Slow { node, by_us } => {
                    if *node == from || *node == to {
                        delay_us += by_us;
                    }
                }
            }
        }
        if lost {
            return Arrivals::default();
        }
        let last_us = &mut self.pairs[pair].1;
        let mut at_us = now_us + delay_us;
        if ordered {
            at_us = at_us.max(*last_us + 1);
        }
        *last_us = at_us.max(*last_us);
        Arrivals {
            first_us: Some(at_us),
            second_us: twice.then(|| at_us + named(stream::EXTRA, 1, 20 * most_us)),
        }
    }

    /// How long the next sync of this node takes.
    pub fn sync_us(&mut self, node: PeerId) -> u64 {
        let number = self.syncs[node - 1];
        self.syncs[node - 1] += 1;
        draw(
            self.seed,
            stream::DISK,
            node as u64,
            number,
            self.pace.sync_us.0,
            self.pace.sync_us.1,
        )
    }
}
