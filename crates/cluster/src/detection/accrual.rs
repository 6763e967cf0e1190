//! φ accrual. Source: Hayashibara, Défago, Yared, Katayama, "The φ accrual failure detector" (SRDS 2004).
//!
//! The same `Detector` that serves the product, asked every 50 ms.

use super::Decision;
use crate::Detector;
use base::algorithm::{Family, Header};
use base::peer::{Context, Peer, PeerId, others};
use base::planted::{PeerBug, misbehaves};
use std::collections::BTreeSet;

const BEAT_US: u64 = 100_000;
const LOOK_US: u64 = 50_000;
/// Suspected above it: one error in 10⁸ under the distribution seen.
const THRESHOLD: f64 = 8.0;

/// Names of timers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Timer {
    /// Send a heartbeat.
    Beat,
    /// Compute φ of all.
    Look,
}

/// One peer.
#[derive(Clone, Debug)]
pub struct PhiAccrual {
    me: PeerId,
    nodes: usize,
    detector: Detector,
    started_us: u64,
    suspected: BTreeSet<PeerId>,
}

impl Peer for PhiAccrual {
    type Message = ();
    type Timer = Timer;
    type State = ();
    type Request = ();
    type Decision = Decision;

    const HEADER: Header = Header {
        name: "phi-accrual",
        family: Family::FailureDetection,
        title: "Phi accrual",
        source: "Hayashibara, Defago, Yared, Katayama: The phi accrual failure detector (SRDS 2004)",
        idea: "Heartbeats every 100 ms; from the mean and the deviation of the last 100 intervals follows how improbable the present silence is: phi = -log10 of it. Suspected above 8.",
        assumptions: "For few false suspicions: delays are distributed as they have been.",
        cost: "n(n - 1) messages every 100 ms; a death is suspected soon where delays are steady (some 300 ms here), later where they vary.",
        not_guaranteed: "That the living are never suspected, least of all when delays change suddenly.",
        choose_when: "delays vary from network to network and over time, and one setting shall do for all.",
        avoid_when: "a fixed bound must be kept, or n is large: use swim.",
        alternatives: &["heartbeat", "swim"],
        survives: super::heartbeat::Heartbeat::HEADER.survives,
    };

    fn new(me: PeerId, nodes: usize) -> Self {
        Self {
            me,
            nodes,
            detector: Detector::default(),
            started_us: 0,
            suspected: BTreeSet::new(),
        }
    }

    fn handle_start(&mut self, cx: &mut Context<'_, Self>, _: Option<()>) {
        self.started_us = cx.now.mono_us;
        self.handle_timer(cx, Timer::Beat);
        self.handle_timer(cx, Timer::Look);
    }

    fn handle_message(&mut self, cx: &mut Context<'_, Self>, from: PeerId, (): ()) {
        self.detector.heard(from as u64, cx.now.mono_us);
        if !misbehaves(PeerBug::SuspectForEver) && self.suspected.remove(&from) {
            cx.decide(Decision::Trusts(from));
        }
    }

    fn handle_timer(&mut self, cx: &mut Context<'_, Self>, timer: Timer) {
        match timer {
            Timer::Beat => {
                cx.send_each(others(self.me, self.nodes), &());
                cx.set_timer(Timer::Beat, BEAT_US);
            }
            Timer::Look => {
                let now_us = cx.now.mono_us;
                for peer in others(self.me, self.nodes) {
                    // Of whom there is no history there is no distribution either: then a second decides.
                    let dead = match self.detector.silent_us(peer as u64, now_us) {
                        None => now_us - self.started_us > 1_000_000,
                        Some(silent_us) => {
                            self.detector.phi(peer as u64, now_us) > THRESHOLD
                                || silent_us > 10_000_000
                        }
                    };
                    if dead && self.suspected.insert(peer) {
                        cx.decide(Decision::Suspects(peer));
                    }
                }
                cx.set_timer(Timer::Look, LOOK_US);
            }
        }
    }

    fn handle_request(&mut self, _: &mut Context<'_, Self>, (): ()) {}
}
