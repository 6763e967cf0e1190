//! Which algorithms there are. Each is named by its type; everything told of it comes from the header in
//! its own file.

use super::fields::commit::{Commit, Outcomes, Promise};
use super::fields::detection::Detection;
use super::fields::election::{Election, Terms};
use super::fields::mutex::{Inside, Mutex};
use super::raft::Raft;
use super::search::{Bounds, Finding, search};
use super::simulation::{Outcome, Plan, run};
use base::algorithm::Header;
use base::peer::{Peer, PeerId, Searchable};
use cluster::detection as detectors;
use coordination::{election, mutex};
use transactions::commit;

/// Runs an algorithm with its family's usual workload.
pub type Run = Box<dyn Fn(&Plan) -> Outcome + Send + Sync>;
/// Searches all orders of events of a small group.
pub type Search = Box<dyn Fn(&Bounds) -> Finding + Send + Sync>;

/// An algorithm as the lab knows it.
pub struct Algorithm {
    /// What people are told.
    pub header: Header,
    /// Runs it.
    pub run: Run,
    /// Searches it; none for what cannot be searched.
    pub search: Option<Search>,
}

/// All algorithms, by family.
pub fn all() -> Vec<Algorithm> {
    use mutex::hashed::{HashedCoordinators, RESOURCES};
    vec![
        exclusion::<mutex::centralized::Centralized>(1),
        exclusion::<HashedCoordinators>(RESOURCES),
        exclusion::<mutex::lamport::Lamport>(1),
        exclusion::<mutex::ricart_agrawala::RicartAgrawala>(1),
        exclusion::<mutex::ricart_agrawala_detecting::RicartAgrawalaDetecting>(1),
        exclusion::<mutex::majority::Majority>(1),
        exclusion::<mutex::maekawa::Maekawa>(1),
        exclusion::<mutex::token_ring::TokenRing>(1),
        exclusion::<mutex::token_ring::WeightedTokenRing>(1),
        exclusion::<mutex::regenerating_ring::RegeneratingRing>(1),
        exclusion::<mutex::two_level_ring::TwoLevelRing>(1),
        electing::<election::bully::Bully>(false),
        electing::<election::ring::ChangRoberts>(false),
        electing::<election::zab::Zab>(true),
        Algorithm {
            header: Raft::HEADER,
            run: Box::new(|plan| run(plan, &|me| Raft::new(me, plan.nodes), Election::new(true))),
            // Its crate's states cannot be copied.
            search: None,
        },
        committing::<commit::two_phase::TwoPhase>(Promise::Atomic),
        committing::<commit::three_phase::ThreePhase>(Promise::Atomic),
        committing::<commit::tcc::Tcc>(Promise::Atomic),
        committing::<commit::saga::SagaBackward>(Promise::Undone),
        committing::<commit::saga::SagaForward>(Promise::Insistent),
        committing::<commit::reliable_message::ReliableMessage>(Promise::Followed),
        detecting::<detectors::heartbeat::Heartbeat>(|peer, nodes| {
            detectors::heartbeat::monitors(peer, nodes, None)
        }),
        detecting::<detectors::accrual::PhiAccrual>(Detection::by_all),
        detecting::<detectors::swim::Swim>(Detection::by_all),
    ]
}

/// The algorithm of this name.
///
/// # Errors
/// Names like it, or all.
pub fn find(name: &str) -> Result<Algorithm, String> {
    let mut all = all();
    let place = all
        .iter()
        .position(|algorithm| algorithm.header.name == name);
    place.map(|place| all.swap_remove(place)).ok_or_else(|| {
        let names: Vec<&str> = all.iter().map(|algorithm| algorithm.header.name).collect();
        format!(
            "no algorithm is called {name:?}; there are {}",
            names.join(", ")
        )
    })
}

fn exclusion<P>(resources: mutex::Resource) -> Algorithm
where
    P: Searchable + Peer<Request = mutex::Request, Decision = mutex::Decision>,
{
    Algorithm {
        header: P::HEADER,
        run: Box::new(move |plan| {
            let field = Mutex::usual(plan.nodes, resources);
            run(plan, &|me| P::new(me, plan.nodes), field)
        }),
        search: Some(Box::new(|bounds| {
            search(bounds, &|me| P::new(me, bounds.nodes), Inside::default())
        })),
    }
}

fn electing<P>(writes: bool) -> Algorithm
where
    P: Searchable + Peer<Request = election::Request, Decision = election::Decision>,
{
    Algorithm {
        header: P::HEADER,
        run: Box::new(move |plan| run(plan, &|me| P::new(me, plan.nodes), Election::new(writes))),
        search: Some(Box::new(|bounds| {
            search(bounds, &|me| P::new(me, bounds.nodes), Terms::default())
        })),
    }
}

fn committing<P>(promise: Promise) -> Algorithm
where
    P: Searchable + Peer<Request = commit::Request, Decision = commit::Decision>,
{
    Algorithm {
        header: P::HEADER,
        run: Box::new(move |plan| run(plan, &|me| P::new(me, plan.nodes), Commit::new(promise))),
        search: Some(Box::new(move |bounds| {
            search(
                bounds,
                &|me| P::new(me, bounds.nodes),
                Outcomes::new(promise),
            )
        })),
    }
}

fn detecting<P>(monitors: fn(PeerId, usize) -> Vec<PeerId>) -> Algorithm
where
    P: Peer<Request = (), Decision = detectors::Decision>,
{
    Algorithm {
        header: P::HEADER,
        run: Box::new(move |plan| {
            run(plan, &|me| P::new(me, plan.nodes), Detection::new(monitors))
        }),
        search: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_whole_and_their_alternatives_exist() {
        let all = all();
        for Algorithm { header, .. } in &all {
            let words = [
                header.title,
                header.source,
                header.idea,
                header.assumptions,
                header.cost,
                header.not_guaranteed,
                header.choose_when,
                header.avoid_when,
            ];
            assert!(words.iter().all(|w| w.len() > 3), "{}", header.name);
            assert!(!header.survives.is_empty(), "{}", header.name);
            for other in header.alternatives {
                assert!(find(other).is_ok(), "{} names {other}", header.name);
            }
        }
        let names: std::collections::BTreeSet<_> = all.iter().map(|a| a.header.name).collect();
        assert_eq!(names.len(), all.len());
    }
}
