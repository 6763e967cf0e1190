//! A group that shall have one leader, and writes to it; no two leaders of one term, no two values in
//! one place of the log.

use super::{Desk, Field, GRACE_US, Safety};
use base::peer::PeerId;
use coordination::election::{Decision, Request};
use std::collections::{BTreeMap, BTreeSet};

/// Leaders by term, and values by place.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Terms {
    leaders: BTreeMap<u64, PeerId>,
    applied: BTreeMap<u64, u64>,
    follows: BTreeMap<PeerId, PeerId>,
    /// Elections begun by hand in a search.
    suspected: BTreeSet<PeerId>,
}

impl Safety for Terms {
    type Request = Request;
    type Decision = Decision;

    fn asked(&mut self, node: PeerId, request: &Request) {
        if *request == Request::Suspect {
            self.suspected.insert(node);
        }
    }

    fn decided(&mut self, node: PeerId, decision: &Decision) -> Option<String> {
        match *decision {
            Decision::Leader { leader, term } => {
                self.follows.insert(node, leader);
                if term == 0 {
                    return None;
                }
                let known = *self.leaders.entry(term).or_insert(leader);
                (known != leader).then(|| {
                    format!("node {node} takes node {leader} for the leader of term {term}, which is node {known}")
                })
            }
            Decision::Leaderless => {
                self.follows.remove(&node);
                None
            }
            Decision::Applied { position, value } => {
                let known = *self.applied.entry(position).or_insert(value);
                (known != value).then(|| {
                    format!(
                        "node {node} applies {value} at place {position}, where {known} was applied"
                    )
                })
            }
        }
    }

    fn crashed(&mut self, node: PeerId) {
        self.follows.remove(&node);
    }

    fn choices(&self, _: PeerId, _: usize) -> Vec<Request> {
        Vec::new()
    }

    fn at_rest(&self, nodes: usize) -> Option<String> {
        let leaders: BTreeSet<_> = self.follows.values().collect();
        (self.follows.len() == nodes && leaders.len() > 1)
            .then(|| format!("leaders {leaders:?} are followed, and nothing more will happen"))
    }
}

/// A group that elects.
#[derive(Clone, Debug)]
pub struct Election {
    safety: Terms,
    /// Whether values are written through the leader.
    writes: bool,
    written: u64,
    /// Since when not all that live follow one that lives.
    apart_us: Option<u64>,
    changes: u64,
    last_leader: Option<PeerId>,
    applied_healed: BTreeMap<PeerId, u64>,
}

impl Election {
    /// A group, whose leader is written to or not.
    pub fn new(writes: bool) -> Self {
        Self {
            safety: Terms::default(),
            writes,
            written: 0,
            apart_us: Some(0),
            changes: 0,
            last_leader: None,
            applied_healed: BTreeMap::new(),
        }
    }

    fn agreed(&self, desk: &Desk<Request>) -> Option<PeerId> {
        let mut living = desk.living();
        let leader = *self.safety.follows.get(&living.next()?)?;
        let all = living.all(|node| self.safety.follows.get(&node) == Some(&leader));
        (all && desk.up[leader - 1]).then_some(leader)
    }

    fn look(&mut self, desk: &mut Desk<Request>) {
        match (self.agreed(desk), self.apart_us) {
            (Some(leader), Some(since_us)) => {
                self.apart_us = None;
                desk.figure("leaderless", desk.now_us - since_us);
                if since_us < desk.healed_us && desk.now_us > desk.healed_us {
                    desk.figure("recovery", desk.now_us - desk.healed_us);
                }
                if self.last_leader.replace(leader) != Some(leader) {
                    self.changes += 1;
                }
            }
            (None, None) => self.apart_us = Some(desk.now_us),
            _ => {}
        }
    }
}

impl Field for Election {
    type Request = Request;
    type Decision = Decision;

    fn started(&mut self, desk: &mut Desk<Request>, _: PeerId) {
        self.look(desk);
    }

    fn decided(&mut self, desk: &mut Desk<Request>, node: PeerId, decision: &Decision) {
        let objection = self.safety.decided(node, decision);
        desk.object(objection);
        self.look(desk);
        match decision {
            Decision::Leader { leader, .. } if self.writes && *leader == node => {
                for i in 1..=5 {
                    self.written += 1;
                    desk.ask(i * 200_000, node, Request::Write(self.written));
                }
            }
            Decision::Applied { position, .. } if desk.now_us > desk.healed_us => {
                let last = self.applied_healed.entry(node).or_default();
                *last = (*last).max(*position);
            }
            _ => {}
        }
    }

    fn crashed(&mut self, desk: &mut Desk<Request>, node: PeerId) {
        self.safety.crashed(node);
        self.look(desk);
    }

    fn finish(&mut self, desk: &mut Desk<Request>) {
        desk.figure("changes", self.changes);
        if desk.until_us < desk.healed_us + GRACE_US {
            return;
        }
        if let Some(since_us) = self.apart_us {
            let follows: Vec<String> = (desk.living())
                .map(|node| match self.safety.follows.get(&node) {
                    Some(leader) => format!("{node} follows {leader}"),
                    None => format!("{node} nobody"),
                })
                .collect();
            desk.stalled.push(format!(
                "since {} ms there is no leader that all follow: {}",
                since_us / 1000,
                follows.join(", ")
            ));
        }
    }

    fn parse(&self, word: &str) -> Option<Request> {
        match word {
            "suspect" => Some(Request::Suspect),
            _ => Some(Request::Write(word.strip_prefix("write ")?.parse().ok()?)),
        }
    }
}
