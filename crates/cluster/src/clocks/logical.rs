//! Logical clocks: Lamport's, vectors, and hybrids of logical and physical time. Plain values: a node ticks
//! before it acts, and takes over what a message brings.

use base::peer::PeerId;
use std::cmp::Ordering;
use std::collections::BTreeMap;

/// Lamport's clock ("Time, clocks, and the ordering of events in a distributed system", CACM 21(7), 1978): if one event
/// could have caused another, its time is less. The reverse does not hold: it cannot tell what is concurrent.
/// One number; O(1).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Lamport(pub u64);

impl Lamport {
    /// Something happens here; its time.
    pub fn tick(&mut self) -> Self {
        self.0 += 1;
        *self
    }

    /// A message with this time arrives; the time of its arrival.
    pub fn receive(&mut self, sent: Self) -> Self {
        self.0 = self.0.max(sent.0);
        self.tick()
    }
}

/// A vector clock (Fidge 1988; Mattern, "Virtual time and global states of distributed systems", 1989): says exactly
/// what could have caused what, and what is concurrent. A number for each peer; O(n) in space and in every step.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Vector(BTreeMap<PeerId, u64>);

impl Vector {
    /// Something happens at `me`; its time.
    pub fn tick(&mut self, me: PeerId) -> Self {
        *self.0.entry(me).or_default() += 1;
        self.clone()
    }

    /// A message with this time arrives at `me`; the time of its arrival.
    pub fn receive(&mut self, me: PeerId, sent: &Self) -> Self {
        self.merge(sent);
        self.tick(me)
    }

    /// The least that is not before either.
    pub fn merge(&mut self, other: &Self) {
        for (peer, count) in &other.0 {
            let mine = self.0.entry(*peer).or_default();
            *mine = (*mine).max(*count);
        }
    }

    /// Events of `peer` that could have caused this.
    pub fn of(&self, peer: PeerId) -> u64 {
        self.0.get(&peer).copied().unwrap_or(0)
    }
}

impl PartialOrd for Vector {
    /// `None`: neither could have caused the other; they are concurrent.
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        let peers = || self.0.keys().chain(other.0.keys());
        let less = peers().any(|peer| self.of(*peer) < other.of(*peer));
        let more = peers().any(|peer| self.of(*peer) > other.of(*peer));
        match (less, more) {
            (true, true) => None,
            (true, false) => Some(Ordering::Less),
            (false, true) => Some(Ordering::Greater),
            (false, false) => Some(Ordering::Equal),
        }
    }
}

/// A hybrid clock (Kulkarni and others, "Logical physical clocks", OPODIS 2014): like Lamport's, and never far from
/// the wall clock: no farther ahead than the fastest wall clock that was heard of. Two numbers; O(1).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Hybrid {
    /// The latest wall clock heard of, in milliseconds.
    pub wall_ms: i64,
    /// Counts events within it.
    pub count: u32,
}

impl Hybrid {
    /// Something happens here, and the wall clock says `now_ms`; its time.
    pub fn tick(&mut self, now_ms: i64) -> Self {
        if now_ms > self.wall_ms {
            (self.wall_ms, self.count) = (now_ms, 0);
        } else {
            self.count += 1;
        }
        *self
    }

    /// A message with this time arrives; the time of its arrival.
    pub fn receive(&mut self, now_ms: i64, sent: Self) -> Self {
        let latest = (*self).max(sent);
        if now_ms > latest.wall_ms {
            (self.wall_ms, self.count) = (now_ms, 0);
        } else {
            (self.wall_ms, self.count) = (latest.wall_ms, latest.count + 1);
        }
        *self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::Rng;

    #[test]
    fn m08_vector_clocks_flag_concurrent_writes() {
        let (mut one, mut two) = (Vector::default(), Vector::default());
        let written = one.tick(1);
        let heard = two.receive(2, &written);
        assert_eq!(written.partial_cmp(&heard), Some(Ordering::Less));
        let (a, b) = (one.tick(1), two.tick(2));
        assert_eq!(a.partial_cmp(&b), None, "neither has heard of the other");
        one.merge(&b);
        let resolved = one.tick(1);
        assert!(resolved > a && resolved > b);
    }

    /// A random history of three nodes: all clocks against what could have caused what.
    #[test]
    fn clocks_follow_causes_and_only_vectors_tell_what_is_concurrent() {
        const NODES: usize = 3;
        let mut rng = Rng::new(5);
        let mut lamport = [Lamport::default(); NODES + 1];
        let mut vector = vec![Vector::default(); NODES + 1];
        let mut hybrid = [Hybrid::default(); NODES + 1];
        // Wall clocks up to 300 ms apart.
        let wall = |node: usize, at: i64| at + [0, 0, -100, 200][node];
        let mut events: Vec<(Vec<usize>, Lamport, Vector, Hybrid)> = Vec::new();
        let mut last: [Option<usize>; NODES + 1] = [None; NODES + 1];
        for at in 0..300 {
            let node = rng.range(1, NODES as u64 + 1) as usize;
            let sent = (!events.is_empty() && rng.one_in(2))
                .then(|| rng.range(0, events.len() as u64) as usize);
            let now_ms = wall(node, at);
            let times = match sent {
                Some(i) => (
                    lamport[node].receive(events[i].1),
                    vector[node].receive(node, &events[i].2.clone()),
                    hybrid[node].receive(now_ms, events[i].3),
                ),
                None => (
                    lamport[node].tick(),
                    vector[node].tick(node),
                    hybrid[node].tick(now_ms),
                ),
            };
            let mut causes: Vec<usize> = Vec::new();
            for cause in [sent, last[node]].into_iter().flatten() {
                causes.push(cause);
                causes.extend(events[cause].0.clone());
            }
            causes.sort_unstable();
            causes.dedup();
            last[node] = Some(events.len());
            events.push((causes, times.0, times.1, times.2));
        }
        for (i, (causes, l, v, h)) in events.iter().enumerate() {
            for (j, (_, lj, vj, hj)) in events.iter().enumerate().take(i) {
                let caused = causes.contains(&j);
                if caused {
                    assert!(lj < l && hj < h);
                }
                assert_eq!(vj < v, caused);
                assert_eq!(vj.partial_cmp(v).is_none(), !caused);
            }
            assert!(h.wall_ms <= wall(3, i as i64), "never ahead of the fastest");
        }
    }
}
