//! Which algorithms there are. Each is named by its type; everything told of it comes from the header in
//! its own file.

use super::fields::agreement::{Agreement, Asking, Places};
use super::fields::commit::{Commit, Outcomes, Promise};
use super::fields::copies::{Copies, Kept};
use super::fields::detection::Detection;
use super::fields::election::{Election, Terms};
use super::fields::mutex::{Inside, Mutex};
use super::fields::quorums::{Fresh, Quorums};
use super::fields::rumours::Rumours;
use super::fields::sides::Sides;
use super::fields::times::Times;
use super::raft::Raft;
use super::replicated_commit::ReplicatedTwoPhase;
use super::search::{Bounds, Finding, search};
use super::simulation::{Outcome, Plan, run};
use base::algorithm::Header;
use base::peer::{Peer, PeerId, Searchable};
use cluster::clocks::offset::{Method, Offset};
use cluster::detection as detectors;
use cluster::split_brain::{Resolver, Strategy};
use cluster::spread::{Spread, Way};
use coordination::{election, mutex};
use ledger::multi_paxos::MultiPaxos;
use ledger::paxos::Paxos;
use ledger::pbft::Pbft;
use ledger::stake_chain::{Rule, StakeChain};
use ledger::work::ProofOfWork;
use replication::copies::primary_backup::{Mode, PrimaryBackup};
use replication::copies::quorum::{Choice, Counts, Quorum};
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
    let mut all = vec![
        exclusion::<mutex::centralized::Centralized>(1),
        exclusion::<HashedCoordinators>(RESOURCES),
        exclusion::<mutex::lease::Lease>(1),
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
        Algorithm {
            header: ReplicatedTwoPhase::HEADER,
            run: Box::new(|plan| {
                let make = |me| ReplicatedTwoPhase::new(me, plan.nodes);
                run(plan, &make, Commit::new(Promise::Replicated))
            }),
            // Its states are those of many logs: too many.
            search: None,
        },
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
    ];
    all.extend(Mode::ALL.map(copying));
    all.extend(Choice::ALL.map(|choice| quorum(choice.header(), move |n| choice.counts(n))));
    all.extend((0..Strategy::usual(2).len()).map(|i| {
        resolving(Strategy::usual(2)[i].header(), move |nodes| {
            Strategy::usual(nodes)[i]
        })
    }));
    all.push(deciding::<Paxos>(Asking::One));
    all.push(deciding::<MultiPaxos>(Asking::All));
    all.push(deciding::<Pbft>(Asking::All));
    all.push(deciding::<ProofOfWork>(Asking::All));
    all.extend(Rule::ALL.map(staking));
    all.extend(Way::ALL.map(spreading));
    all.extend(Method::ALL.map(timing));
    all
}

fn deciding<P>(asking: Asking) -> Algorithm
where
    P: Searchable + Peer<Request = u64, Decision = ledger::Decision>,
{
    Algorithm {
        header: P::HEADER,
        run: Box::new(move |plan| run(plan, &|me| P::new(me, plan.nodes), Agreement::new(asking))),
        search: Some(Box::new(|bounds| {
            search(bounds, &|me| P::new(me, bounds.nodes), Places::default())
        })),
    }
}

fn staking(rule: Rule) -> Algorithm {
    Algorithm {
        header: rule.header(),
        run: Box::new(move |plan| {
            let make = |me| StakeChain::by(me, plan.nodes, rule);
            run(plan, &make, Agreement::new(Asking::All))
        }),
        // Whose turn it is follows from the time.
        search: None,
    }
}

fn spreading(way: Way) -> Algorithm {
    Algorithm {
        header: way.header(),
        run: Box::new(move |plan| {
            let make = |me| Spread::by(me, plan.nodes, way);
            run(plan, &make, Rumours::new(u64::MAX))
        }),
        search: None,
    }
}

fn timing(method: Method) -> Algorithm {
    Algorithm {
        header: method.header(),
        run: Box::new(move |plan| {
            let make = |me| Offset::by(me, plan.nodes, method);
            run(plan, &make, Times::new(method))
        }),
        search: None,
    }
}

fn copying(mode: Mode) -> Algorithm {
    Algorithm {
        header: mode.header(),
        run: Box::new(move |plan| {
            let make = |me| PrimaryBackup::acknowledging(me, plan.nodes, mode);
            run(plan, &make, Copies::new(mode.keeps()))
        }),
        search: Some(Box::new(move |bounds| {
            let make = |me| PrimaryBackup::acknowledging(me, bounds.nodes, mode);
            search(bounds, &make, Kept::new(mode.keeps()))
        })),
    }
}

/// Quorums with W and R as `counts` says of a number of nodes.
pub fn quorum(
    header: Header,
    counts: impl Fn(usize) -> Counts + Copy + Send + Sync + 'static,
) -> Algorithm {
    Algorithm {
        header,
        run: Box::new(move |plan| {
            let of = counts(plan.nodes);
            let field = Quorums::new(of.is_fresh(plan.nodes), of.is_exclusive(plan.nodes));
            run(plan, &|me| Quorum::with(me, plan.nodes, of), field)
        }),
        search: Some(Box::new(move |bounds| {
            let of = counts(bounds.nodes);
            let safety = Fresh::new(of.is_fresh(bounds.nodes), of.is_exclusive(bounds.nodes));
            search(bounds, &|me| Quorum::with(me, bounds.nodes, of), safety)
        })),
    }
}

/// A cluster with a strategy that follows from the number of nodes.
pub fn resolving(
    header: Header,
    strategy: impl Fn(usize) -> Strategy + Send + Sync + 'static,
) -> Algorithm {
    Algorithm {
        header,
        run: Box::new(move |plan| {
            let strategy = strategy(plan.nodes);
            let make = |me| Resolver::with(me, plan.nodes, strategy);
            run(plan, &make, Sides::new(strategy.has_referee()))
        }),
        search: None,
    }
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
