//! Which node has a key: every usual rule, as a pure function of the nodes and the key's hash. They differ
//! in how evenly they spread keys, in how many keys move when a node comes or goes, and in what they
//! ask for: memory, time, or that nodes leave in order.
//!
//! A placement is built once for a set of nodes ([`Placement::new`]) and asked for each key. Bounded loads are an
//! exception: where a key goes depends on the keys before it, so storage would need it written down.

use std::collections::BTreeMap;

/// Names a node; weights count virtual nodes, 1 is usual.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Node {
    /// Its id.
    pub id: u64,
    /// Its share, in comparison with the others'.
    pub weight: u32,
}

/// Which rule.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Rule {
    /// Hash modulo the number of nodes.
    Modulo,
    /// A fixed number of slots, which nodes have shares of (Redis Cluster's way).
    Slots,
    /// One point of each node on a ring; the next one behind the key has it (Karger and others, STOC 1997).
    Ring,
    /// So many points of each node on the ring.
    VirtualNodes(u32),
    /// Virtual nodes; a node that has more than so many hundredths of the mean is passed over (Mirrokni, Thorup, Zadimoghaddam, SODA 2018).
    BoundedLoads(u32, u32),
    /// The node whose hash with the key is greatest has it (Thaler, Ravishankar, IEEE/ACM ToN 6(1), 1998).
    Rendezvous,
    /// A walk whose jumps depend on the key (Lamping, Veach, 2014). Only the last node can leave.
    Jump,
    /// A table that nodes fill in turns, each in an order of its own (Eisenbud and others, NSDI 2016).
    Maglev,
}

/// Slots of [`Rule::Slots`].
pub const SLOTS: u64 = 16_384;
/// Entries of Maglev's table: a prime, far greater than the number of nodes.
pub const MAGLEV_TABLE: usize = 65_537;

impl Rule {
    /// All rules as the lab compares them.
    pub const ALL: [Self; 8] = [
        Self::Modulo,
        Self::Slots,
        Self::Ring,
        Self::VirtualNodes(100),
        Self::BoundedLoads(100, 125),
        Self::Rendezvous,
        Self::Jump,
        Self::Maglev,
    ];

    /// Its word on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Modulo => "modulo",
            Self::Slots => "slots",
            Self::Ring => "consistent-hash",
            Self::VirtualNodes(_) => "virtual-nodes",
            Self::BoundedLoads(..) => "bounded-loads",
            Self::Rendezvous => "rendezvous",
            Self::Jump => "jump",
            Self::Maglev => "maglev",
        }
    }

    /// What it is good and bad for, in one line.
    pub fn told(self) -> &'static str {
        match self {
            Self::Modulo => {
                "hash modulo nodes: even, no memory; nearly all keys move when a node comes or goes"
            }
            Self::Slots => {
                "16,384 slots, each with a node: the map is written down, so moves are chosen and planned"
            }
            Self::Ring => {
                "one point a node on a ring (Karger 1997): only a neighbour's keys move; very uneven"
            }
            Self::VirtualNodes(_) => {
                "100 points a node on the ring: spread falls as 1/sqrt(points); weights by points"
            }
            Self::BoundedLoads(..) => {
                "virtual nodes, at most 1.25 of the mean each (Mirrokni 2018): depends on the keys before"
            }
            Self::Rendezvous => {
                "greatest hash of key and node (1998): even, least moves; asks all nodes for each key"
            }
            Self::Jump => {
                "a walk of jumps (Lamping 2014): even, least moves, no memory; only the last node can leave"
            }
            Self::Maglev => {
                "a table filled in turns (NSDI 2016): even, one look-up; a few more keys move than must"
            }
        }
    }
}

/// Mixes well enough that neighbouring numbers lie anywhere (the finalizer of SplitMix64).
pub fn hash(key: u64) -> u64 {
    let mut z = key.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

fn hash2(a: u64, b: u64) -> u64 {
    hash(hash(a) ^ b.wrapping_mul(0xD6E8_FEB8_6659_FD93))
}

/// A ring: points with their nodes, in order. A key belongs to the first point at or behind it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Ring {
    points: BTreeMap<u64, u64>,
}

impl Ring {
    /// Points and the nodes that have them.
    pub fn new(points: impl IntoIterator<Item = (u64, u64)>) -> Self {
        Self {
            points: points.into_iter().collect(),
        }
    }

    /// So many points of each node, times its weight.
    pub fn of(nodes: &[Node], points: u32) -> Self {
        Self::new(nodes.iter().flat_map(|node| {
            (0..u64::from(points * node.weight)).map(|i| (hash2(node.id, i), node.id))
        }))
    }

    /// The nodes from this point on, once around. Some come more than once.
    pub fn from(&self, point: u64) -> impl Iterator<Item = u64> + '_ {
        let behind = self.points.range(point..);
        behind.chain(self.points.range(..point)).map(|(_, id)| *id)
    }

    /// Who has the key at this point.
    pub fn owner(&self, point: u64) -> Option<u64> {
        self.from(point).next()
    }

    /// Takes a node's points away.
    pub fn remove(&mut self, id: u64) {
        self.points.retain(|_, other| *other != id);
    }
}

#[derive(Clone, Debug)]
enum Table {
    Modulo,
    Slots(Vec<u64>),
    Ring(Ring),
    Bounded {
        ring: Ring,
        percent: u32,
        loads: BTreeMap<u64, u64>,
        placed: u64,
    },
    Rendezvous,
    Jump,
    Maglev(Vec<u64>),
}

/// A rule made ready for a set of nodes.
#[derive(Clone, Debug)]
pub struct Placement {
    nodes: Vec<Node>,
    table: Table,
}

impl Placement {
    /// `rule` for these nodes, at least one, in the order in which they joined.
    pub fn new(rule: Rule, nodes: &[Node]) -> Self {
        let table = match rule {
            Rule::Modulo => Table::Modulo,
            Rule::Slots => Table::Slots(slots(nodes)),
            Rule::Ring => Table::Ring(Ring::of(nodes, 1)),
            Rule::VirtualNodes(points) => Table::Ring(Ring::of(nodes, points)),
            Rule::BoundedLoads(points, percent) => Table::Bounded {
                ring: Ring::of(nodes, points),
                percent,
                loads: BTreeMap::new(),
                placed: 0,
            },
            Rule::Rendezvous => Table::Rendezvous,
            Rule::Jump => Table::Jump,
            Rule::Maglev => Table::Maglev(maglev(nodes, MAGLEV_TABLE)),
        };
        Self {
            nodes: nodes.to_vec(),
            table,
        }
    }

    /// The same rule for other nodes. Slots stay where they are as far as that is even; everything else
    /// follows from the nodes alone.
    pub fn with(&self, rule: Rule, nodes: &[Node]) -> Self {
        match &self.table {
            Table::Slots(before) => Self {
                nodes: nodes.to_vec(),
                table: Table::Slots(move_slots(before, nodes)),
            },
            _ => Self::new(rule, nodes),
        }
    }

    /// The node of this key. Bounded loads count it.
    pub fn place(&mut self, key: u64) -> u64 {
        let point = hash(key);
        match &mut self.table {
            Table::Modulo => self.nodes[(point % self.nodes.len() as u64) as usize].id,
            Table::Slots(slots) => slots[(point % SLOTS) as usize],
            Table::Ring(ring) => ring.owner(point).unwrap_or(self.nodes[0].id),
            Table::Bounded {
                ring,
                percent,
                loads,
                placed,
            } => {
                *placed += 1;
                let n = self.nodes.len() as u64;
                let most = (*placed * u64::from(*percent)).div_ceil(100 * n);
                let free = |id: &u64| loads.get(id).copied().unwrap_or(0) < most;
                let id = ring.from(point).find(free).unwrap_or(self.nodes[0].id);
                *loads.entry(id).or_default() += 1;
                id
            }
            Table::Rendezvous => rendezvous(&self.nodes, key),
            Table::Jump => self.nodes[jump(point, self.nodes.len() as u64) as usize].id,
            Table::Maglev(table) => table[(point % table.len() as u64) as usize],
        }
    }
}

/// Slots in ranges, by weight, in the order of the nodes.
fn slots(nodes: &[Node]) -> Vec<u64> {
    let sum: u64 = nodes.iter().map(|n| u64::from(n.weight)).sum();
    let mut until = 0;
    let mut all = Vec::with_capacity(SLOTS as usize);
    for node in nodes {
        until += u64::from(node.weight);
        all.resize((SLOTS * until / sum) as usize, node.id);
    }
    all
}

/// The fewest slots move: those of nodes that left, and what nodes have beyond their share.
fn move_slots(before: &[u64], nodes: &[Node]) -> Vec<u64> {
    let mut wanted: BTreeMap<u64, usize> = BTreeMap::new();
    for id in slots(nodes) {
        *wanted.entry(id).or_default() += 1;
    }
    let mut after = before.to_vec();
    let mut free = Vec::new();
    for (slot, id) in before.iter().enumerate() {
        match wanted.get_mut(id).filter(|left| **left > 0) {
            Some(left) => *left -= 1,
            None => free.push(slot),
        }
    }
    let lacking = wanted
        .into_iter()
        .flat_map(|(id, left)| std::iter::repeat_n(id, left));
    for (slot, id) in free.into_iter().zip(lacking) {
        after[slot] = id;
    }
    after
}

/// The greatest of −weight / ln(hash): weights count (Mosharaf, Schindelhauer, "Weighted distributed hash tables", 2005).
fn rendezvous(nodes: &[Node], key: u64) -> u64 {
    let score = |node: &Node| {
        let unit = (hash2(node.id, key) >> 11) as f64 / (1_u64 << 53) as f64;
        -f64::from(node.weight) / unit.max(f64::MIN_POSITIVE).ln()
    };
    let best = nodes.iter().max_by(|a, b| score(a).total_cmp(&score(b)));
    best.map_or(0, |node| node.id)
}

/// The bucket of `key` among `buckets`.
fn jump(mut key: u64, buckets: u64) -> u64 {
    let (mut at, mut next) = (0, 0_u64);
    while next < buckets {
        at = next;
        key = key.wrapping_mul(2_862_933_555_777_941_757).wrapping_add(1);
        let stretch = (1_u64 << 31) as f64 / ((key >> 33) + 1) as f64;
        next = ((at + 1) as f64 * stretch) as u64;
    }
    at
}

/// Nodes take entries in turns (as many in a turn as they weigh), each by its own offset and step.
fn maglev(nodes: &[Node], size: usize) -> Vec<u64> {
    let m = size as u64;
    let mut walks: Vec<(u64, u64)> = nodes
        .iter()
        .map(|n| (hash2(n.id, 1) % m, hash2(n.id, 2) % (m - 1) + 1))
        .collect();
    let mut table: Vec<Option<u64>> = vec![None; size];
    let mut filled = 0;
    'all: loop {
        for (node, (at, step)) in nodes.iter().zip(&mut walks) {
            for _ in 0..node.weight {
                while table[*at as usize].is_some() {
                    *at = (*at + *step) % m;
                }
                table[*at as usize] = Some(node.id);
                filled += 1;
                if filled == size {
                    break 'all;
                }
            }
        }
    }
    table.into_iter().flatten().collect()
}

/// What a change of nodes means for a number of keys.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Moves {
    /// The fullest node's keys over the mean, by weight, before the change.
    pub peak: f64,
    /// The share of the keys that move.
    pub moved: f64,
    /// The share that has to move: of the nodes that leave, or for those that come.
    pub least: f64,
}

/// Places `keys` keys on `before`, then on `after`, and counts.
pub fn compare(rule: Rule, before: &[Node], after: &[Node], keys: u64) -> Moves {
    let mut first = Placement::new(rule, before);
    let mut second = first.with(rule, after);
    let mut loads: BTreeMap<u64, u64> = BTreeMap::new();
    let mut moved = 0;
    for key in 0..keys {
        let (from, to) = (first.place(key), second.place(key));
        *loads.entry(from).or_default() += 1;
        moved += u64::from(from != to);
    }
    let weight = |nodes: &[Node]| nodes.iter().map(|n| f64::from(n.weight)).sum::<f64>();
    let sum = weight(before);
    let share = |n: &Node| {
        let load = loads.get(&n.id).copied().unwrap_or(0) as f64;
        load / keys as f64 * sum / f64::from(n.weight)
    };
    let gone = before.iter().filter(|n| !after.contains(n));
    let come = after.iter().filter(|n| !before.contains(n));
    let gone: f64 = gone.map(|n| f64::from(n.weight)).sum::<f64>() / sum;
    let come: f64 = come.map(|n| f64::from(n.weight)).sum::<f64>() / weight(after);
    Moves {
        peak: before.iter().map(share).fold(0.0, f64::max),
        moved: moved as f64 / keys as f64,
        least: gone.max(come),
    }
}

/// Nodes 1 to `n`, of one weight.
pub fn equal(n: u64) -> Vec<Node> {
    (1..=n).map(|id| Node { id, weight: 1 }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: u64 = 100_000;

    /// Points 100 to 600 for weights 1 : 2 : 3. Node 2, which has 200 and 300, leaves.
    #[test]
    fn m25_ring_golden_what_node_2_had_goes_to_400_and_nothing_else_moves() {
        let points = [(100, 1), (200, 2), (300, 2), (400, 3), (500, 3), (600, 3)];
        let before = Ring::new(points);
        let mut after = before.clone();
        after.remove(2);
        for point in 0..700 {
            let (was, is) = (before.owner(point), after.owner(point));
            if point > 100 && point <= 300 {
                assert_eq!((was, is), (Some(2), Some(3)), "{point}");
            } else {
                assert_eq!(was, is, "{point}");
            }
        }
    }

    #[test]
    fn m25_modulo_three_to_four_moves_three_quarters() {
        let moved = (0..12_000_u64).filter(|id| id % 3 != id % 4).count();
        assert_eq!(moved, 9_000);
        let moves = compare(Rule::Modulo, &equal(3), &equal(4), KEYS);
        assert!((moves.moved - 0.75).abs() < 0.01, "{moves:?}");
    }

    /// 100 GB on four nodes, one is lost: its 25 GB move, and nothing else.
    #[test]
    fn m25_one_of_four_lost_only_its_quarter_moves() {
        let (before, after) = (equal(4), equal(3));
        for rule in [
            Rule::Slots,
            Rule::VirtualNodes(1_000),
            Rule::Rendezvous,
            Rule::Jump,
        ] {
            let mut first = Placement::new(rule, &before);
            let mut second = first.with(rule, &after);
            let mut moved = 0;
            for key in 0..KEYS {
                let (from, to) = (first.place(key), second.place(key));
                assert!(from == 4 || from == to, "{rule:?}");
                moved += u64::from(from == 4);
            }
            let share = moved as f64 / KEYS as f64;
            assert!((share - 0.25).abs() < 0.02, "{rule:?} {share}");
        }
    }

    #[test]
    fn m25_spread_of_virtual_nodes_falls_as_one_over_the_root_of_their_number() {
        // The deviation of ten nodes' shares over the mean, over 40 rings.
        let deviation = |points: u32| {
            let mut sum = 0.0;
            for ring in 0..40_u64 {
                let nodes: Vec<Node> = (0..10)
                    .map(|i| Node {
                        id: 1_000 * (ring + 1) + i,
                        weight: 1,
                    })
                    .collect();
                let ring = Ring::of(&nodes, points);
                let mut shares: BTreeMap<u64, f64> = BTreeMap::new();
                let mut last = ring.points.last_key_value().map_or(0, |(at, _)| *at);
                for (at, id) in &ring.points {
                    *shares.entry(*id).or_default() +=
                        at.wrapping_sub(last) as f64 / u64::MAX as f64;
                    last = *at;
                }
                sum += shares
                    .values()
                    .map(|s| (s * 10.0 - 1.0).powi(2))
                    .sum::<f64>()
                    / 10.0;
            }
            (sum / 40.0).sqrt()
        };
        for points in [1, 16, 100, 256] {
            let scaled = deviation(points) * f64::from(points).sqrt();
            assert!((0.7..1.2).contains(&scaled), "{points}: {scaled}");
        }
    }

    #[test]
    fn m25_bounded_loads_keep_every_node_under_the_bound() {
        for nodes in [3, 10] {
            let mut placement = Placement::new(Rule::BoundedLoads(16, 125), &equal(nodes));
            let mut loads: BTreeMap<u64, u64> = BTreeMap::new();
            for key in 0..KEYS {
                *loads.entry(placement.place(key)).or_default() += 1;
            }
            let most = (KEYS * 125).div_ceil(100 * nodes);
            assert!(loads.values().all(|load| *load <= most), "{loads:?}");
        }
    }

    #[test]
    fn m25_jump_and_rendezvous_move_the_least_and_maglev_a_little_more() {
        let (before, after) = (equal(10), equal(9));
        for rule in [Rule::Jump, Rule::Rendezvous] {
            let moves = compare(rule, &before, &after, KEYS);
            assert!(moves.moved < moves.least + 0.01, "{rule:?} {moves:?}");
            assert!(moves.peak < 1.05, "{rule:?} {moves:?}");
        }
        let maglev = compare(Rule::Maglev, &before, &after, KEYS);
        assert!(maglev.moved - maglev.least < 0.02, "{maglev:?}");
        assert!(maglev.moved > maglev.least, "{maglev:?}");
        assert!(maglev.peak < 1.05, "{maglev:?}");
    }

    #[test]
    fn weights_are_shares() {
        let nodes: Vec<Node> = (1..=3)
            .map(|id| Node {
                id,
                weight: id as u32,
            })
            .collect();
        for rule in [
            Rule::Slots,
            Rule::VirtualNodes(500),
            Rule::Rendezvous,
            Rule::Maglev,
        ] {
            let moves = compare(rule, &nodes, &nodes, KEYS);
            assert!(
                moves.moved == 0.0 && moves.peak < 1.15,
                "{rule:?} {moves:?}"
            );
        }
    }
}
