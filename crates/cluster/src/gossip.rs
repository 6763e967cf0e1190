//! Gossip: what each member says of itself and of those that it watches, spread from hand to hand.
//!
//! Idea: every node owns one row, and nobody else writes it: its incarnation, facts about itself (where
//! clients reach it, its zone, its role), and φ of the members that it watches. Copies of a row differ in age
//! only, so the newest wins, and there is nothing to merge (van Renesse, Minsky, Hayden: "A gossip-style
//! failure detection service", Middleware 1998; rows of observers as in Akka's cluster). A node tells a few
//! members, drawn at random, how new its copies are ([`Mark`]); they send what is newer there and ask for
//! what is newer here. A counter in the mark shows that the owner lives, without its row being sent again.
//!
//! Each member is watched by k others, the next ones on the ring of ids ([`monitors`]). It is taken for
//! unreachable when more of the monitors *that are themselves heard of* suspect it than do not: so one
//! broken connection proves nothing, and a monitor that is cut off has no say.
//!
//! Not taken: SWIM's indirect probes and its list of members (a library, `foca`, has both): here members are
//! the catalog's alone, and whoever is suspected stays one. Cost: 32 bytes a member, to two members, five
//! times a second, whatever the number of nodes; a change has reached all of n nodes after about log n rounds.

use crate::detection::heartbeat;
use base::planted::{Bug, planted};
use base::{DecodeError, NodeId, Reader, Rng, Writer};
use std::collections::{BTreeMap, BTreeSet};

/// A monitor suspects from this φ on.
pub const THRESHOLD: f64 = 8.0;
/// Members that are told how new the copies here are, in each round.
const FANOUT: usize = 2;
/// A row that was not renewed for so many rounds says nothing any more.
const STALE_ROUNDS: u64 = 15;
/// Facts of one member.
const FACTS_MAX: usize = 32;
/// Bytes of a fact's name or value.
const FACT_BYTES_MAX: usize = 256;

/// How new a copy of a row is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Mark {
    /// Raised by the owner with each start, and whenever somebody has a newer copy than itself.
    pub incarnation: u64,
    /// Raised by the owner with each change.
    pub version: u64,
    /// Raised by the owner with each round.
    pub beat: u64,
}

impl Mark {
    /// True when the row of this mark has other content than that of `other`, and replaces it.
    fn replaces(self, other: Self) -> bool {
        if planted(Bug::OldIncarnationWins) {
            return self.version > other.version;
        }
        (self.incarnation, self.version) > (other.incarnation, other.version)
    }
}

/// What a member says.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Row {
    /// How new it is.
    pub mark: Mark,
    /// About itself, by name.
    pub facts: BTreeMap<String, String>,
    /// φ of those that it watches, rounded down and at most 255; what would be 0 is left out.
    pub phi: BTreeMap<NodeId, u8>,
}

impl Row {
    /// True when its owner suspects a member.
    fn suspects(&self, node: NodeId) -> bool {
        self.phi
            .get(&node)
            .is_some_and(|phi| f64::from(*phi) >= THRESHOLD)
    }
}

/// What nodes tell each other.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Rumor {
    /// How new the sender's copies are. Answered by `Rows` where they differ.
    Digest(BTreeMap<NodeId, Mark>),
    /// Rows, and those that the sender wants to have.
    Rows(BTreeMap<NodeId, Row>, BTreeSet<NodeId>),
}

/// What is thought of a member here.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Verdict {
    /// No monitor that is heard of suspects it.
    Reachable,
    /// Some do, not more than half.
    Suspected,
    /// Most do.
    Unreachable,
}

impl Verdict {
    /// In a word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Reachable => "reachable",
            Self::Suspected => "suspected",
            Self::Unreachable => "unreachable",
        }
    }
}

/// A member as seen from here.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Seen {
    /// What is thought of it.
    pub verdict: Verdict,
    /// Its monitors, whether each is heard of, and the φ that it sees.
    pub monitors: Vec<(NodeId, bool, u8)>,
    /// Microseconds since its row was renewed here; `None` when there is none.
    pub silent_us: Option<u64>,
}

/// The monitors of a member: the `k` behind it on the ring of `members` in the order of their ids (which are
/// drawn at random, so the ring is one of hashes). Without a `k`: all others below 6 members, else 5.
pub fn monitors(members: &BTreeSet<NodeId>, of: NodeId, k: Option<usize>) -> Vec<NodeId> {
    let ring: Vec<NodeId> = members.iter().copied().collect();
    let Some(at) = ring.iter().position(|node| *node == of) else {
        return Vec::new();
    };
    let places = heartbeat::monitors(at + 1, ring.len(), k);
    places.into_iter().map(|place| ring[place - 1]).collect()
}

#[derive(Clone, Debug)]
struct Copy {
    row: Row,
    renewed_us: u64,
}

/// The rows that a node has.
#[derive(Clone, Debug)]
pub struct Gossip {
    me: NodeId,
    k: Option<usize>,
    stale_us: u64,
    members: BTreeSet<NodeId>,
    mine: Row,
    copies: BTreeMap<NodeId, Copy>,
}

impl Gossip {
    /// The node's own row is its only one. `incarnation` should be greater than at the node's last start: the
    /// wall clock's milliseconds do; if they are not, the others' copies make it so. `round_us`: how often
    /// [`Self::round`] is called.
    pub fn new(me: NodeId, incarnation: u64, k: Option<usize>, round_us: u64) -> Self {
        let mark = Mark {
            incarnation,
            version: 1,
            beat: 0,
        };
        Self {
            me,
            k,
            stale_us: STALE_ROUNDS * round_us,
            members: BTreeSet::from([me]),
            mine: Row {
                mark,
                ..Row::default()
            },
            copies: BTreeMap::new(),
        }
    }

    /// Who is a member, from the catalog. Rows of others are forgotten.
    pub fn set_members(&mut self, members: BTreeSet<NodeId>) {
        self.copies.retain(|node, _| members.contains(node));
        self.members = members;
    }

    /// What this node says about itself.
    pub fn set_facts(&mut self, facts: BTreeMap<String, String>) {
        if self.mine.facts != facts {
            self.mine.facts = facts;
            self.mine.mark.version += 1;
        }
    }

    /// Whom this node watches.
    pub fn watched(&self) -> Vec<NodeId> {
        let watches = |of: &NodeId| monitors(&self.members, *of, self.k).contains(&self.me);
        self.members.iter().copied().filter(watches).collect()
    }

    /// φ of those that are watched here.
    pub fn set_phi(&mut self, phi: impl Iterator<Item = (NodeId, f64)>) {
        let phi = phi.map(|(node, phi)| (node, phi.min(255.0) as u8));
        let phi = phi.filter(|(_, phi)| *phi > 0).collect();
        if self.mine.phi != phi {
            self.mine.phi = phi;
            self.mine.mark.version += 1;
        }
    }

    /// A round begins: whom to tell what.
    pub fn round(&mut self, rng: &mut Rng) -> (Vec<NodeId>, Rumor) {
        self.mine.mark.beat += 1;
        let mut others: Vec<NodeId> = (self.members.iter().copied())
            .filter(|node| *node != self.me)
            .collect();
        let count = FANOUT.min(others.len());
        for i in 0..count {
            let j = rng.range(i as u64, others.len() as u64) as usize;
            others.swap(i, j);
        }
        others.truncate(count);
        (others, Rumor::Digest(self.marks()))
    }

    fn marks(&self) -> BTreeMap<NodeId, Mark> {
        let copies = self
            .copies
            .iter()
            .map(|(node, copy)| (*node, copy.row.mark));
        copies.chain([(self.me, self.mine.mark)]).collect()
    }

    /// What somebody told; the answer to it, if there is one.
    pub fn handle(&mut self, now_us: u64, rumor: Rumor) -> Option<Rumor> {
        let (rows, wanted) = match rumor {
            Rumor::Digest(theirs) => self.compare(now_us, &theirs),
            Rumor::Rows(rows, wanted) => {
                for (node, row) in rows {
                    self.take(now_us, node, row);
                }
                (wanted, BTreeSet::new())
            }
        };
        let rows: BTreeMap<NodeId, Row> = (rows.into_iter())
            .filter_map(|node| Some((node, self.row(node)?.clone())))
            .collect();
        (!rows.is_empty() || !wanted.is_empty()).then_some(Rumor::Rows(rows, wanted))
    }

    /// Which rows are newer here, and which there.
    fn compare(
        &mut self,
        now_us: u64,
        theirs: &BTreeMap<NodeId, Mark>,
    ) -> (BTreeSet<NodeId>, BTreeSet<NodeId>) {
        let mut wanted = BTreeSet::new();
        for (node, mark) in theirs {
            if *node == self.me {
                self.outdo(*mark);
                continue;
            }
            match self.copies.get_mut(node) {
                Some(copy) if mark.replaces(copy.row.mark) => {
                    wanted.insert(*node);
                }
                Some(copy) => renew(copy, *mark, now_us),
                None if self.members.contains(node) => {
                    wanted.insert(*node);
                }
                None => {}
            }
        }
        let newer = self.marks().into_iter().filter(|(node, ours)| {
            let theirs = theirs.get(node);
            theirs.is_none_or(|theirs| ours.replaces(*theirs))
        });
        (newer.map(|(node, _)| node).collect(), wanted)
    }

    fn take(&mut self, now_us: u64, node: NodeId, row: Row) {
        if node == self.me {
            return self.outdo(row.mark);
        }
        if !self.members.contains(&node) {
            return;
        }
        let renewed_us = now_us;
        match self.copies.get_mut(&node) {
            Some(copy) if row.mark.replaces(copy.row.mark) => *copy = Copy { row, renewed_us },
            Some(copy) => renew(copy, row.mark, now_us),
            None => {
                self.copies.insert(node, Copy { row, renewed_us });
            }
        }
    }

    /// Somebody has a copy of this node's row from an earlier life, under a clock that was ahead.
    fn outdo(&mut self, mark: Mark) {
        if mark > self.mine.mark {
            self.mine.mark.incarnation = mark.incarnation + 1;
        }
    }

    /// A member's row.
    pub fn row(&self, node: NodeId) -> Option<&Row> {
        match node == self.me {
            true => Some(&self.mine),
            false => Some(&self.copies.get(&node)?.row),
        }
    }

    fn is_fresh(&self, node: NodeId, now_us: u64) -> bool {
        let copy = self.copies.get(&node);
        node == self.me
            || copy.is_some_and(|copy| now_us.saturating_sub(copy.renewed_us) < self.stale_us)
    }

    /// What is thought of a member.
    pub fn seen(&self, node: NodeId, now_us: u64) -> Seen {
        let monitors: Vec<(NodeId, bool, u8)> = monitors(&self.members, node, self.k)
            .into_iter()
            .map(|monitor| {
                let phi = self.row(monitor).and_then(|row| row.phi.get(&node));
                let is_fresh = self.is_fresh(monitor, now_us);
                (monitor, is_fresh, phi.copied().unwrap_or(0))
            })
            .collect();
        let heard = || monitors.iter().filter(|(_, is_fresh, _)| *is_fresh);
        let suspects = |monitor: NodeId| self.row(monitor).is_some_and(|row| row.suspects(node));
        let suspecting = heard().filter(|(monitor, ..)| suspects(*monitor)).count();
        let verdict = match (heard().count(), suspecting) {
            _ if node == self.me => Verdict::Reachable,
            // Nobody is left who could say.
            (0, _) if self.is_fresh(node, now_us) => Verdict::Reachable,
            (0, _) => Verdict::Unreachable,
            (_, 0) => Verdict::Reachable,
            (all, some) if 2 * some > all => Verdict::Unreachable,
            _ => Verdict::Suspected,
        };
        let silent_us = match node == self.me {
            true => Some(0),
            false => (self.copies.get(&node)).map(|c| now_us.saturating_sub(c.renewed_us)),
        };
        Seen {
            verdict,
            monitors,
            silent_us,
        }
    }
}

/// The owner of a row that has not changed lives.
fn renew(copy: &mut Copy, mark: Mark, now_us: u64) {
    let ours = &mut copy.row.mark;
    if (mark.incarnation, mark.version) == (ours.incarnation, ours.version) && mark.beat > ours.beat
    {
        ours.beat = mark.beat;
        copy.renewed_us = now_us;
    }
}

// --- the byte form ---

impl Mark {
    fn encode_into(self, w: &mut Writer) {
        w.u64(self.incarnation).u64(self.version).u64(self.beat);
    }

    fn decode_from(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            incarnation: r.u64()?,
            version: r.u64()?,
            beat: r.u64()?,
        })
    }
}

impl Rumor {
    /// Appends the byte form.
    pub fn encode_into(&self, w: &mut Writer) {
        match self {
            Self::Digest(marks) => {
                w.u8(1).u32(marks.len() as u32);
                for (node, mark) in marks {
                    w.u64(node.0);
                    mark.encode_into(w);
                }
            }
            Self::Rows(rows, wanted) => {
                w.u8(2).u32(rows.len() as u32);
                for (node, row) in rows {
                    w.u64(node.0);
                    row.mark.encode_into(w);
                    w.u32(row.facts.len() as u32);
                    for (name, value) in &row.facts {
                        w.str(name).str(value);
                    }
                    w.u32(row.phi.len() as u32);
                    for (node, phi) in &row.phi {
                        w.u64(node.0).u8(*phi);
                    }
                }
                w.u32(wanted.len() as u32);
                wanted.iter().for_each(|node| {
                    w.u64(node.0);
                });
            }
        }
    }

    /// Reads the byte form.
    pub fn decode_from(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match r.u8()? {
            1 => {
                let mut marks = BTreeMap::new();
                for _ in 0..r.count(32)? {
                    marks.insert(NodeId(r.u64()?), Mark::decode_from(r)?);
                }
                Ok(Self::Digest(marks))
            }
            2 => {
                let mut rows = BTreeMap::new();
                for _ in 0..r.count(40)? {
                    rows.insert(NodeId(r.u64()?), read_row(r)?);
                }
                let mut wanted = BTreeSet::new();
                for _ in 0..r.count(8)? {
                    wanted.insert(NodeId(r.u64()?));
                }
                Ok(Self::Rows(rows, wanted))
            }
            _ => Err(DecodeError::Invalid("kind of rumor")),
        }
    }
}

fn read_row(r: &mut Reader<'_>) -> Result<Row, DecodeError> {
    let mut row = Row {
        mark: Mark::decode_from(r)?,
        ..Row::default()
    };
    let facts = r.count(8)?;
    if facts > FACTS_MAX {
        return Err(DecodeError::Invalid("number of facts"));
    }
    for _ in 0..facts {
        let (name, value) = (r.str()?, r.str()?);
        if name.len().max(value.len()) > FACT_BYTES_MAX {
            return Err(DecodeError::Invalid("length of a fact"));
        }
        row.facts.insert(name.to_owned(), value.to_owned());
    }
    for _ in 0..r.count(9)? {
        row.phi.insert(NodeId(r.u64()?), r.u8()?);
    }
    Ok(row)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUND_US: u64 = 200_000;

    fn ids(n: u64) -> BTreeSet<NodeId> {
        (1..=n).map(NodeId).collect()
    }

    /// Nodes that hear each other at once, unless a direction is cut.
    struct House {
        nodes: BTreeMap<NodeId, Gossip>,
        now_us: u64,
        rng: Rng,
        bytes: usize,
        dead: BTreeSet<NodeId>,
    }

    impl House {
        fn new(n: u64) -> Self {
            let member = |id: NodeId| {
                let mut gossip = Gossip::new(id, 1, None, ROUND_US);
                gossip.set_members(ids(n));
                (id, gossip)
            };
            Self {
                nodes: ids(n).into_iter().map(member).collect(),
                now_us: 0,
                rng: Rng::new(n),
                bytes: 0,
                dead: BTreeSet::new(),
            }
        }

        /// Every living node has one round; `hears` says whom a monitor hears.
        fn round(&mut self, hears: impl Fn(NodeId, NodeId) -> bool) {
            self.now_us += ROUND_US;
            for id in self.nodes.keys().copied().collect::<Vec<_>>() {
                if self.dead.contains(&id) {
                    continue;
                }
                let Some(node) = self.nodes.get_mut(&id) else {
                    continue;
                };
                let phi = |of: NodeId| if hears(id, of) { 0.0 } else { 20.0 };
                let watched = node.watched();
                node.set_phi(watched.into_iter().map(|of| (of, phi(of))));
                let (to, rumor) = node.round(&mut self.rng);
                for to in to {
                    self.tell(id, to, rumor.clone(), &hears);
                }
            }
        }

        fn tell(
            &mut self,
            from: NodeId,
            to: NodeId,
            rumor: Rumor,
            hears: &impl Fn(NodeId, NodeId) -> bool,
        ) {
            let mut w = Writer::new();
            rumor.encode_into(&mut w);
            self.bytes += w.len();
            if self.dead.contains(&to) || !hears(to, from) {
                return;
            }
            let now_us = self.now_us;
            let answer = self
                .nodes
                .get_mut(&to)
                .and_then(|n| n.handle(now_us, rumor));
            if let Some(answer) = answer {
                self.tell(to, from, answer, hears);
            }
        }

        fn verdicts(&self, of: u64) -> BTreeSet<Verdict> {
            let of = NodeId(of);
            let living = self
                .nodes
                .iter()
                .filter(|(id, _)| !self.dead.contains(id) && **id != of);
            living
                .map(|(_, node)| node.seen(of, self.now_us).verdict)
                .collect()
        }

        /// Rounds until all say so.
        fn until(
            &mut self,
            of: u64,
            verdict: Verdict,
            hears: impl Fn(NodeId, NodeId) -> bool,
        ) -> usize {
            for rounds in 1..100 {
                self.round(&hears);
                if self.verdicts(of) == BTreeSet::from([verdict]) {
                    return rounds;
                }
            }
            panic!("not within 100 rounds: {:?}", self.verdicts(of));
        }
    }

    #[test]
    fn m10_monitors_stand_behind_on_the_ring_of_ids() {
        let three: Vec<NodeId> = [2, 3, 4].map(NodeId).into();
        assert_eq!(monitors(&ids(6), NodeId(1), Some(3)), three);
        let ring: BTreeSet<NodeId> = [70, 10, 30].map(NodeId).into();
        assert_eq!(monitors(&ring, NodeId(70), None), [NodeId(10), NodeId(30)]);
        assert_eq!(monitors(&ring, NodeId(5), None), [], "no member");
        assert_eq!(monitors(&ids(9), NodeId(8), None).len(), 5);
    }

    #[test]
    fn dead_node_is_unreachable_for_all_and_reachable_again_when_it_is_back() {
        for n in [2, 3, 5, 12] {
            let mut house = House::new(n);
            for _ in 0..20 {
                house.round(|_, _| true);
            }
            assert_eq!(
                house.verdicts(1),
                BTreeSet::from([Verdict::Reachable]),
                "{n}"
            );
            house.dead.insert(NodeId(1));
            let rounds = house.until(1, Verdict::Unreachable, |_, of| of != NodeId(1));
            assert!(rounds < 12, "{n} nodes: {rounds} rounds");
            house.dead.clear();
            let rounds = house.until(1, Verdict::Reachable, |_, _| true);
            assert!(rounds < 12, "{n} nodes: {rounds} rounds");
        }
    }

    #[test]
    fn one_broken_connection_makes_nobody_unreachable() {
        let mut house = House::new(5);
        let broken = |a: NodeId, b: NodeId| (a.0, b.0) != (1, 2) && (a.0, b.0) != (2, 1);
        for _ in 0..40 {
            house.round(broken);
        }
        for of in 1..=5 {
            assert!(!house.verdicts(of).contains(&Verdict::Unreachable));
        }
        assert!(
            house.verdicts(2).contains(&Verdict::Suspected),
            "it is told"
        );
    }

    #[test]
    fn sides_of_a_split_see_each_other_unreachable_and_agree_again_after_it() {
        let mut house = House::new(5);
        for _ in 0..20 {
            house.round(|_, _| true);
        }
        let side = |node: NodeId| node.0 <= 2;
        for _ in 0..40 {
            house.round(|a, b| side(a) == side(b));
        }
        for (id, node) in &house.nodes {
            for of in house.nodes.keys() {
                let expected = match side(*id) == side(*of) {
                    true => Verdict::Reachable,
                    false => Verdict::Unreachable,
                };
                assert_eq!(
                    node.seen(*of, house.now_us).verdict,
                    expected,
                    "{id} of {of}"
                );
            }
        }
        for of in 1..=5 {
            house.until(of, Verdict::Reachable, |_, _| true);
        }
    }

    #[test]
    fn row_of_a_later_incarnation_wins_whatever_its_version() {
        let mut house = House::new(3);
        let facts = |text: &str| BTreeMap::from([("zone".to_owned(), text.to_owned())]);
        if let Some(first) = house.nodes.get_mut(&NodeId(1)) {
            for zone in ["a", "b", "c", "d"] {
                first.set_facts(facts(zone));
            }
        }
        for _ in 0..20 {
            house.round(|_, _| true);
        }
        // It starts again, under a clock that went back: as an incarnation that is too small.
        let mut again = Gossip::new(NodeId(1), 0, None, ROUND_US);
        again.set_members(ids(3));
        again.set_facts(facts("e"));
        house.nodes.insert(NodeId(1), again);
        for _ in 0..20 {
            house.round(|_, _| true);
        }
        for node in house.nodes.values() {
            let row = node.row(NodeId(1)).expect("its row");
            assert_eq!((row.mark.incarnation, &row.facts), (2, &facts("e")));
        }
    }

    #[test]
    fn rows_of_strangers_are_not_kept() {
        let mut house = House::new(2);
        let stranger = BTreeMap::from([(NodeId(9), Row::default())]);
        let node = house.nodes.get_mut(&NodeId(1)).expect("it is there");
        assert_eq!(node.handle(1, Rumor::Rows(stranger, BTreeSet::new())), None);
        assert_eq!(node.row(NodeId(9)), None);
        let digest = BTreeMap::from([(NodeId(9), Mark::default()), (NodeId(1), Mark::default())]);
        let answer = node.handle(1, Rumor::Digest(digest)).expect("its own row");
        assert!(
            matches!(answer, Rumor::Rows(rows, wanted) if rows.len() == 1 && wanted.is_empty())
        );
    }

    /// What the decision on gossip quotes.
    #[test]
    fn quiet_gossip_costs_little_and_news_are_soon_everywhere() {
        for (n, bytes_max, rounds_max) in [(3, 3_000, 8), (50, 40_000, 16)] {
            let mut house = House::new(n);
            for _ in 0..30 {
                house.round(|_, _| true);
            }
            house.bytes = 0;
            for _ in 0..25 {
                house.round(|_, _| true);
            }
            let bytes = house.bytes / n as usize / 5;
            house.dead.insert(NodeId(1));
            let rounds = house.until(1, Verdict::Unreachable, |_, of| of != NodeId(1));
            println!("{n} nodes: {bytes} bytes a second and node, {rounds} rounds until all know");
            assert!(
                bytes < bytes_max && rounds < rounds_max,
                "{n}: {bytes}, {rounds}"
            );
        }
    }

    #[test]
    fn rumors_survive_their_byte_form_and_refuse_cuts() {
        let row = Row {
            mark: Mark {
                incarnation: 1,
                version: 2,
                beat: 3,
            },
            facts: BTreeMap::from([("redis".to_owned(), "a:1".to_owned())]),
            phi: BTreeMap::from([(NodeId(4), 9)]),
        };
        let digest = Rumor::Digest(BTreeMap::from([(NodeId(7), row.mark)]));
        let rows = BTreeMap::from([(NodeId(7), row)]);
        for rumor in [digest, Rumor::Rows(rows, BTreeSet::from([NodeId(8)]))] {
            let mut w = Writer::new();
            rumor.encode_into(&mut w);
            let bytes = w.into_vec();
            assert_eq!(Rumor::decode_from(&mut Reader::new(&bytes)), Ok(rumor));
            for cut in 0..bytes.len() {
                assert!(Rumor::decode_from(&mut Reader::new(&bytes[..cut])).is_err());
            }
        }
    }
}
