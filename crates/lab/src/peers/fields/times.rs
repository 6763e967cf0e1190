//! What peers say of their wall clocks, against how far these are really off.

use super::{Desk, Field, GRACE_US};
use base::peer::PeerId;
use cluster::clocks::offset::{Decision, Method};
use std::collections::BTreeMap;

/// Once all is well, what is said may be wrong by so much.
pub const WRONG_MAX_MS: i64 = 10;

/// The last words of each.
#[derive(Clone, Debug)]
pub struct Times {
    method: Method,
    said: BTreeMap<PeerId, (u64, i64)>,
}

impl Times {
    /// Peers that find out like this.
    pub fn new(method: Method) -> Self {
        Self {
            method,
            said: BTreeMap::new(),
        }
    }

    /// What `node` should say.
    fn truth(&self, desk: &Desk<()>, node: PeerId) -> i64 {
        let of = |node: PeerId| desk.skew_ms[node - 1];
        match self.method {
            Method::Cristian => of(node) - of(1),
            Method::Berkeley => {
                let all: Vec<i64> = desk.living().map(of).collect();
                let mut sorted = all.clone();
                sorted.sort_unstable();
                let median = sorted[sorted.len() / 2];
                let near: Vec<i64> = all
                    .into_iter()
                    .filter(|ms| (ms - median).abs() <= 1_000)
                    .collect();
                of(node) - near.iter().sum::<i64>() / near.len().max(1) as i64
            }
        }
    }
}

impl Field for Times {
    type Request = ();
    type Decision = Decision;

    fn decided(&mut self, desk: &mut Desk<()>, node: PeerId, Decision::Ahead(ms): &Decision) {
        self.said.insert(node, (desk.now_us, *ms));
        let wrong = (*ms - self.truth(desk, node)).unsigned_abs();
        desk.figure("error", wrong * 1_000);
    }

    fn crashed(&mut self, _: &mut Desk<()>, node: PeerId) {
        self.said.remove(&node);
    }

    fn finish(&mut self, desk: &mut Desk<()>) {
        if desk.until_us < desk.healed_us + GRACE_US {
            return;
        }
        for node in desk.living().collect::<Vec<_>>() {
            if self.method == Method::Cristian && node == 1 {
                continue;
            }
            let truth = self.truth(desk, node);
            match self.said.get(&node) {
                Some((at_us, ms)) if *at_us > desk.healed_us => {
                    if (ms - truth).abs() > WRONG_MAX_MS {
                        desk.stalled.push(format!(
                            "node {node} says that its clock is {ms} ms ahead, and it is {truth} ms"
                        ));
                    }
                }
                _ => desk
                    .stalled
                    .push(format!("node {node} has not said how far its clock is off")),
            }
        }
    }

    fn parse(&self, _: &str) -> Option<()> {
        None
    }
}
