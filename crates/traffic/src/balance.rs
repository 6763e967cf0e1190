//! Which of several servers gets the next request. One method a file, all behind [`Balance`]; a route
//! chooses one by its [`Method`]'s name.

mod consistent_hash;
mod hash;
mod least_connections;
mod peak_ewma;
mod random;
mod round_robin;
mod smooth_weighted;
mod weighted;

pub use consistent_hash::ConsistentHash;
pub use hash::Hash;
pub use least_connections::LeastConnections;
pub use peak_ewma::{BestResponse, TwoChoices};
pub use random::Random;
pub use round_robin::RoundRobin;
pub use smooth_weighted::SmoothWeighted;
pub use weighted::Weighted;

use base::Rng;

/// A server as its caller sees it now. Servers are named by their place in the list, which stays.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Server {
    /// Its share, from 1.
    pub weight: u32,
    /// Requests that it has and has not answered.
    pub in_flight: u32,
    /// False while it must not be picked.
    pub usable: bool,
}

/// What is known of a request when its server is picked.
pub struct Ask<'a> {
    /// The servers, always the same number in the same order.
    pub servers: &'a [Server],
    /// What the request is hashed by; see [`crate::hash`].
    pub key: u64,
    /// Monotonic microseconds.
    pub now_us: u64,
    /// For methods that draw.
    pub rng: &'a mut Rng,
}

impl Ask<'_> {
    /// Places of the usable servers.
    pub fn usable(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.servers.len()).filter(|i| self.servers[*i].usable)
    }
}

/// How a request ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Done {
    /// When, in monotonic microseconds.
    pub now_us: u64,
    /// How long it took.
    pub latency_us: u64,
    /// False when the server failed.
    pub ok: bool,
}

/// A way to choose.
pub trait Balance: Send {
    /// The place of a usable server, or `None` when there is none.
    fn pick(&mut self, ask: &mut Ask<'_>) -> Option<usize>;

    /// A request that was given to `server` ended.
    fn handle_done(&mut self, _server: usize, _done: Done) {}
}

/// The methods by name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Method {
    /// [`RoundRobin`].
    RoundRobin,
    /// [`Weighted`].
    Weighted,
    /// [`SmoothWeighted`].
    SmoothWeighted,
    /// [`Random`].
    Random,
    /// [`Hash`].
    Hash,
    /// [`ConsistentHash`].
    ConsistentHash,
    /// [`LeastConnections`].
    LeastConnections,
    /// [`BestResponse`].
    BestResponse,
    /// [`TwoChoices`].
    TwoChoices,
}

impl Method {
    /// All, with the names that they go by.
    pub const ALL: [(&'static str, Self); 9] = [
        ("round-robin", Self::RoundRobin),
        ("weighted", Self::Weighted),
        ("smooth-weighted", Self::SmoothWeighted),
        ("random", Self::Random),
        ("hash", Self::Hash),
        ("consistent-hash", Self::ConsistentHash),
        ("least-connections", Self::LeastConnections),
        ("best-response", Self::BestResponse),
        ("two-choices", Self::TwoChoices),
    ];

    /// The method of this name.
    pub fn named(name: &str) -> Option<Self> {
        let found = Self::ALL.into_iter().find(|(known, _)| *known == name);
        found.map(|(_, method)| method)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        let found = Self::ALL.into_iter().find(|(_, method)| *method == self);
        found.map_or("", |(name, _)| name)
    }

    /// True when it needs a key to hash.
    pub fn needs_key(self) -> bool {
        matches!(self, Self::Hash | Self::ConsistentHash)
    }

    /// A fresh one for servers of these names and weights.
    pub fn build(self, servers: &[(String, u32)]) -> Box<dyn Balance> {
        match self {
            Self::RoundRobin => Box::new(RoundRobin::default()),
            Self::Weighted => Box::new(Weighted::default()),
            Self::SmoothWeighted => Box::new(SmoothWeighted::default()),
            Self::Random => Box::new(Random),
            Self::Hash => Box::new(Hash),
            Self::ConsistentHash => Box::new(ConsistentHash::new(servers)),
            Self::LeastConnections => Box::new(LeastConnections),
            Self::BestResponse => Box::new(BestResponse::default()),
            Self::TwoChoices => Box::new(TwoChoices::default()),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Usable servers with these weights and nothing in flight.
    pub fn servers(weights: &[u32]) -> Vec<Server> {
        (weights.iter())
            .map(|weight| Server {
                weight: *weight,
                in_flight: 0,
                usable: true,
            })
            .collect()
    }

    pub fn pick(balance: &mut dyn Balance, servers: &[Server], key: u64) -> Option<usize> {
        pick_with(balance, servers, key, 0, &mut Rng::new(7))
    }

    pub fn pick_with(
        balance: &mut dyn Balance,
        servers: &[Server],
        key: u64,
        now_us: u64,
        rng: &mut Rng,
    ) -> Option<usize> {
        balance.pick(&mut Ask {
            servers,
            key,
            now_us,
            rng,
        })
    }

    /// The letters of the servers picked in a row.
    pub fn letters(balance: &mut dyn Balance, servers: &[Server], picks: usize) -> String {
        (0..picks)
            .map(|_| match pick(balance, servers, 0) {
                Some(i) => char::from(b'a' + i as u8),
                None => '-',
            })
            .collect()
    }

    #[test]
    fn every_method_picks_only_usable_servers_and_none_when_there_is_none() {
        let names: Vec<(String, u32)> = (0..5).map(|i| (format!("s{i}"), i + 1)).collect();
        for (name, method) in Method::ALL {
            assert_eq!((Method::named(name), method.name()), (Some(method), name));
            let mut balance = method.build(&names);
            let mut rng = Rng::new(3);
            for round in 0..2_000 {
                let all: Vec<Server> = (names.iter())
                    .map(|(_, weight)| Server {
                        weight: *weight,
                        in_flight: rng.range(0, 4) as u32,
                        usable: !rng.one_in(2),
                    })
                    .collect();
                let key = rng.next_u64();
                let picked = pick_with(&mut *balance, &all, key, round * 1_000, &mut rng);
                match picked {
                    Some(i) => assert!(all[i].usable, "{name} picked a server that is not usable"),
                    None => assert!(
                        all.iter().all(|s| !s.usable),
                        "{name} picked none of {all:?}"
                    ),
                }
                if let Some(i) = picked {
                    let done = Done {
                        now_us: round * 1_000,
                        latency_us: rng.range(1, 10_000),
                        ok: !rng.one_in(3),
                    };
                    balance.handle_done(i, done);
                }
            }
            assert_eq!(pick(&mut *balance, &[], 1), None, "{name}");
        }
        assert_eq!(Method::named("best"), None);
    }
}
