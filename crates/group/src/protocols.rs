//! Which algorithms a group can run. Everything told of one comes from the header in its own file.

use crate::seat::{Hosted, Seat};
use base::Rng;
use base::algorithm::Header;
use base::peer::{Peer, PeerId};
use coordination::election::{bully::Bully, ring::ChangRoberts, zab::Zab};
use coordination::mutex;
use ledger::multi_paxos::MultiPaxos;
use ledger::stake_chain::{Rule, StakeChain};
use ledger::{paxos::Paxos, pbft::Pbft, work::ProofOfWork};

/// What a group is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// At most one is inside: `lock` and `unlock`.
    Lock,
    /// One leads: `leader`.
    Leader,
    /// One leads, and values are appended through it: `leader` and `append`.
    LeaderLog,
    /// Values are appended: by whoever is asked, or, where `by_all`, by all at once.
    Log {
        /// A value is told to all peers' users.
        by_all: bool,
    },
}

impl Kind {
    /// One word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Lock => "lock",
            Self::Leader => "leader",
            Self::LeaderLog => "leader and log",
            Self::Log { .. } => "log",
        }
    }
}

/// An algorithm that a group can run.
#[derive(Clone, Copy)]
pub struct Protocol {
    /// What people are told.
    pub header: Header,
    /// What it is for.
    pub kind: Kind,
    /// Fewest members.
    pub nodes_min: usize,
    make: fn(PeerId, usize, Rng) -> Box<dyn Seat>,
}

impl Protocol {
    /// Peer `me` of `nodes`.
    pub fn seat(&self, me: PeerId, nodes: usize, rng: Rng) -> Box<dyn Seat> {
        (self.make)(me, nodes, rng)
    }
}

/// Most members of a group.
pub const NODES_MAX: usize = 9;

fn of<P>(kind: Kind) -> Protocol
where
    P: Peer,
    Hosted<P>: Seat + 'static,
{
    Protocol {
        header: P::HEADER,
        kind,
        nodes_min: 2,
        make: |me, nodes, rng| Box::new(Hosted::new(P::new(me, nodes), me, rng)),
    }
}

/// All of them, by what they are for.
pub fn all() -> Vec<Protocol> {
    vec![
        of::<mutex::centralized::Centralized>(Kind::Lock),
        of::<mutex::hashed::HashedCoordinators>(Kind::Lock),
        of::<mutex::lease::Lease>(Kind::Lock),
        of::<mutex::lamport::Lamport>(Kind::Lock),
        of::<mutex::ricart_agrawala::RicartAgrawala>(Kind::Lock),
        of::<mutex::ricart_agrawala_detecting::RicartAgrawalaDetecting>(Kind::Lock),
        of::<mutex::majority::Majority>(Kind::Lock),
        of::<mutex::maekawa::Maekawa>(Kind::Lock),
        of::<mutex::token_ring::TokenRing>(Kind::Lock),
        of::<mutex::token_ring::WeightedTokenRing>(Kind::Lock),
        of::<mutex::regenerating_ring::RegeneratingRing>(Kind::Lock),
        of::<mutex::two_level_ring::TwoLevelRing>(Kind::Lock),
        of::<Bully>(Kind::Leader),
        of::<ChangRoberts>(Kind::Leader),
        of::<Zab>(Kind::LeaderLog),
        of::<Paxos>(Kind::Log { by_all: false }),
        of::<MultiPaxos>(Kind::Log { by_all: false }),
        Protocol {
            nodes_min: 4,
            ..of::<Pbft>(Kind::Log { by_all: true })
        },
        of::<ProofOfWork>(Kind::Log { by_all: true }),
        of::<StakeChain>(Kind::Log { by_all: true }),
        Protocol {
            header: Rule::Delegates.header(),
            nodes_min: 4,
            make: |me, nodes, rng| {
                let peer = StakeChain::by(me, nodes, Rule::Delegates);
                Box::new(Hosted::new(peer, me, rng))
            },
            ..of::<StakeChain>(Kind::Log { by_all: true })
        },
    ]
}

/// The protocol of this name.
///
/// # Errors
/// Which there are, and where else to look.
pub fn find(name: &str) -> Result<Protocol, String> {
    let all = all();
    let found = all.iter().find(|protocol| protocol.header.name == name);
    found.copied().ok_or_else(|| {
        let names: Vec<&str> = all.iter().map(|protocol| protocol.header.name).collect();
        let raft = match name {
            "raft" => " (raft is what every shard of the cluster runs: `althing cluster status`)",
            _ => "",
        };
        format!(
            "no group can run {name:?}{raft}; there are {}",
            names.join(", ")
        )
    })
}
