//! Fixed heartbeats to k monitors. Source: the notes' rule, as in Akka's cluster: peers stand on a ring in the order of
//! their ids, and each is watched by the k behind it.
//!
//! Nothing is spread: only monitors know of a suspicion. So that all may be asked, few peers have all
//! others for monitors.

use super::Decision;
use base::algorithm::{Family, Header, Trouble};
use base::peer::{Context, Peer, PeerId};
use base::planted::{PeerBug, misbehaves};
use std::collections::BTreeSet;

/// Between heartbeats (T).
pub const BEAT_US: u64 = 100_000;
/// Beats that may be missing.
pub const MISSING: u64 = 8;

/// The peers that watch `peer`: the `k` behind it on the ring; without a `k`, all others below 6 nodes, else 5.
pub fn monitors(peer: PeerId, nodes: usize, k: Option<usize>) -> Vec<PeerId> {
    let usual = if nodes < 6 { nodes - 1 } else { 5 };
    let k = k.unwrap_or(usual).min(nodes - 1);
    (1..=k).map(|step| (peer - 1 + step) % nodes + 1).collect()
}

/// Names of timers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Timer {
    /// Send a heartbeat.
    Beat,
    /// Too many of this peer's are missing.
    Silent(PeerId),
}

/// One peer.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Heartbeat {
    me: PeerId,
    nodes: usize,
    suspected: BTreeSet<PeerId>,
}

impl Peer for Heartbeat {
    type Message = ();
    type Timer = Timer;
    type State = ();
    type Request = ();
    type Decision = Decision;

    const HEADER: Header = Header {
        name: "heartbeat",
        family: Family::FailureDetection,
        title: "Fixed heartbeats to k monitors",
        source: "Akka's monitors on a ring; Chandra, Toueg: Unreliable failure detectors (JACM 1996) for what can be promised",
        idea: "Every T = 100 ms each peer sends a heartbeat to its k monitors, the next ones on a ring (all others below 6 nodes, else 5). A monitor that misses 8 in a row suspects, until the next one comes.",
        assumptions: "For no false suspicion: fewer than 8 heartbeats late or lost in a row.",
        cost: "k n messages every T; a death is suspected after 800 to 900 ms.",
        not_guaranteed: "That others than the monitors know; that the living are never suspected.",
        choose_when: "delays are steady, and a fixed bound is easy to explain.",
        avoid_when: "delays vary: the bound is too short or too long. Many peers must know: use swim.",
        alternatives: &["phi-accrual", "swim"],
        survives: &Trouble::ALL,
    };

    fn new(me: PeerId, nodes: usize) -> Self {
        Self {
            me,
            nodes,
            suspected: BTreeSet::new(),
        }
    }

    fn handle_start(&mut self, cx: &mut Context<'_, Self>, _: Option<()>) {
        for peer in 1..=self.nodes {
            if peer != self.me && monitors(peer, self.nodes, None).contains(&self.me) {
                cx.set_timer(Timer::Silent(peer), MISSING * BEAT_US);
            }
        }
        self.handle_timer(cx, Timer::Beat);
    }

    fn handle_message(&mut self, cx: &mut Context<'_, Self>, from: PeerId, (): ()) {
        cx.set_timer(Timer::Silent(from), MISSING * BEAT_US);
        if !misbehaves(PeerBug::SuspectForEver) && self.suspected.remove(&from) {
            cx.decide(Decision::Trusts(from));
        }
    }

    fn handle_timer(&mut self, cx: &mut Context<'_, Self>, timer: Timer) {
        match timer {
            Timer::Beat => {
                cx.send_each(monitors(self.me, self.nodes, None), &());
                cx.set_timer(Timer::Beat, BEAT_US);
            }
            Timer::Silent(peer) => {
                if self.suspected.insert(peer) {
                    cx.decide(Decision::Suspects(peer));
                }
            }
        }
    }

    fn handle_request(&mut self, _: &mut Context<'_, Self>, (): ()) {}
}

#[cfg(test)]
mod tests {
    use super::monitors;

    #[test]
    fn m10_monitors_golden() {
        assert_eq!(monitors(1, 6, Some(3)), [2, 3, 4]);
        assert_eq!(monitors(5, 6, Some(3)), [6, 1, 2]);
        for nodes in 2..6 {
            assert_eq!(monitors(1, nodes, None).len(), nodes - 1);
        }
        for nodes in 6..20 {
            assert_eq!(monitors(1, nodes, None).len(), 5);
        }
    }
}
