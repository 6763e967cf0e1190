//! Coordinators chosen by consistent hashing: each resource has one of the peers as its coordinator.
//! Source: Karger et al., "Consistent hashing and random trees" (STOC 1997), over the centralized algorithm.
//!
//! One peer is a coordinator for some resources and a user of all. Within, each resource is a whole
//! [`Centralized`], so there is no second copy of the protocol.

use super::centralized::{self, Centralized};
use super::{Decision, Request, Resource};
use base::algorithm::{Family, Header};
use base::peer::{Action, ActionOf, Context, Peer, PeerId};
use base::planted::{PeerBug, misbehaves};
use std::collections::BTreeMap;
use std::hash::Hasher;
use twox_hash::XxHash64;

/// Points that each peer has on the ring.
const VIRTUAL_NODES: u64 = 64;
/// Resources that the lab uses.
pub const RESOURCES: Resource = 4;

fn hash(kind: u64, a: u64, b: u64) -> u64 {
    let mut hasher = XxHash64::with_seed(kind);
    hasher.write_u64(a);
    hasher.write_u64(b);
    hasher.finish()
}

/// The coordinator of `resource`: the owner of the first point at or behind its hash.
pub fn coordinator(resource: Resource, nodes: usize) -> PeerId {
    let at = hash(1, u64::from(resource), 0);
    let points = (1..=nodes).flat_map(|peer| {
        (0..VIRTUAL_NODES).map(move |point| (hash(0, peer as u64, point).wrapping_sub(at), peer))
    });
    points.min().map_or(1, |(_, peer)| peer)
}

/// One peer.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct HashedCoordinators {
    locks: Vec<Centralized>,
    durable: BTreeMap<Resource, Option<(PeerId, u32)>>,
}

impl HashedCoordinators {
    fn step(
        &mut self,
        cx: &mut Context<'_, Self>,
        resource: Resource,
        step: impl FnOnce(&mut Centralized, &mut Context<'_, Centralized>),
    ) {
        let Some(lock) = self.locks.get_mut(usize::from(resource)) else {
            return;
        };
        for action in cx.within::<Centralized>(|inner| step(lock, inner)) {
            let action = self.wrap(resource, action);
            cx.act(action);
        }
    }

    fn wrap(&mut self, resource: Resource, action: ActionOf<Centralized>) -> ActionOf<Self> {
        match action {
            Action::Send { to, message } => Action::Send {
                to,
                message: (resource, message),
            },
            Action::Persist { state, then } => {
                self.durable.insert(resource, state);
                Action::Persist {
                    state: self.durable.clone(),
                    then: (then.into_iter())
                        .map(|action| self.wrap(resource, action))
                        .collect(),
                }
            }
            Action::SetTimer { timer, after_us } => Action::SetTimer {
                timer: (resource, timer),
                after_us,
            },
            Action::CancelTimer(timer) => Action::CancelTimer((resource, timer)),
            Action::Decide(Decision::Entered(_)) => Action::Decide(Decision::Entered(resource)),
        }
    }
}

impl Peer for HashedCoordinators {
    type Message = (Resource, centralized::Message);
    type Timer = (Resource, centralized::Timer);
    type State = BTreeMap<Resource, Option<(PeerId, u32)>>;
    type Request = Request;
    type Decision = Decision;

    const HEADER: Header = Header {
        name: "hashed-coordinators",
        family: Family::MutualExclusion,
        title: "Centralized over coordinators by consistent hashing",
        source: "Karger et al.: Consistent hashing and random trees (STOC 1997)",
        idea: "Every resource is hashed onto a ring of the peers; the peer behind it coordinates it, as in the centralized algorithm. Everybody computes the same place.",
        assumptions: "As the centralized algorithm; everybody has the same list of peers.",
        cost: "3 messages an entry, 0 where the user is the coordinator; each peer coordinates about 1/n of the resources.",
        not_guaranteed: "Progress on the resources of a coordinator that is gone for good; a change of the list of peers while locks are held.",
        choose_when: "there are many resources, and one coordinator would be the bottleneck or take all down with it.",
        avoid_when: "there is one hot resource: its coordinator is as single as ever.",
        alternatives: &["centralized", "majority"],
        survives: Centralized::HEADER.survives,
    };

    fn new(me: PeerId, nodes: usize) -> Self {
        let locks = (0..RESOURCES)
            .map(|resource| {
                let coordinator = if misbehaves(PeerBug::CoordinatorOfOnesOwn) {
                    me
                } else {
                    coordinator(resource, nodes)
                };
                Centralized::with_coordinator(me, coordinator)
            })
            .collect();
        Self {
            locks,
            durable: BTreeMap::new(),
        }
    }

    fn handle_start(&mut self, cx: &mut Context<'_, Self>, recovered: Option<Self::State>) {
        self.durable = recovered.unwrap_or_default();
        for resource in 0..RESOURCES {
            let state = self.durable.get(&resource).copied();
            self.step(cx, resource, |lock, inner| lock.handle_start(inner, state));
        }
    }

    fn handle_message(
        &mut self,
        cx: &mut Context<'_, Self>,
        from: PeerId,
        (resource, message): Self::Message,
    ) {
        self.step(cx, resource, |lock, inner| {
            lock.handle_message(inner, from, message);
        });
    }

    fn handle_timer(&mut self, cx: &mut Context<'_, Self>, (resource, timer): Self::Timer) {
        self.step(cx, resource, |lock, inner| lock.handle_timer(inner, timer));
    }

    fn handle_request(&mut self, cx: &mut Context<'_, Self>, request: Request) {
        let (Request::Acquire(resource) | Request::Release(resource)) = request;
        self.step(cx, resource, |lock, inner| {
            lock.handle_request(inner, request)
        });
    }

    fn waits_for(&self) -> Vec<PeerId> {
        let all = self.locks.iter().flat_map(Peer::waits_for);
        all.collect::<std::collections::BTreeSet<_>>()
            .into_iter()
            .collect()
    }

    fn role(&self) -> &'static str {
        let roles = || self.locks.iter().map(Peer::role);
        roles()
            .find(|role| *role == "inside")
            .unwrap_or_else(|| roles().find(|role| *role == "waiting").unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaving_last_peer_moves_only_its_own_resources() {
        for resource in 0..=Resource::MAX {
            let (before, after) = (coordinator(resource, 5), coordinator(resource, 4));
            assert!(
                before == after || before == 5,
                "{resource}: {before} -> {after}"
            );
        }
        let owners: std::collections::BTreeSet<_> =
            (0..=Resource::MAX).map(|r| coordinator(r, 5)).collect();
        assert_eq!(owners.len(), 5);
    }
}
