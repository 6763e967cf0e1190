//! Least connections: the server with the fewest requests in flight for its weight.
//!
//! Idea: a server that is slow keeps its requests longer, and so gets fewer; nothing is measured but that.
//! Among equals one is drawn, else the first would get every request of a quiet hour. Cost: one pass a pick.

use super::{Ask, Balance};

/// The fewest in flight by weight.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LeastConnections;

impl Balance for LeastConnections {
    fn pick(&mut self, ask: &mut Ask<'_>) -> Option<usize> {
        let usable: Vec<usize> = ask.usable().collect();
        let mut best: Option<usize> = None;
        let mut equals = 0;
        for i in usable {
            let order = best.map(|best| {
                let (new, old) = (ask.servers[i], ask.servers[best]);
                let load = |a: u32, b: u32| u64::from(a) * u64::from(b.max(1));
                load(new.in_flight, old.weight).cmp(&load(old.in_flight, new.weight))
            });
            match order {
                None | Some(std::cmp::Ordering::Less) => (best, equals) = (Some(i), 1),
                Some(std::cmp::Ordering::Equal) => {
                    equals += 1;
                    if ask.rng.one_in(equals) {
                        best = Some(i);
                    }
                }
                Some(std::cmp::Ordering::Greater) => {}
            }
        }
        best
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{pick, pick_with, servers};
    use super::*;

    #[test]
    fn fewest_in_flight_for_its_weight_is_picked() {
        let mut all = servers(&[1, 4, 1]);
        for (server, held) in all.iter_mut().zip([3, 8, 4]) {
            server.in_flight = held;
        }
        assert_eq!(pick(&mut LeastConnections, &all, 0), Some(1));
    }

    #[test]
    fn idle_servers_share() {
        let all = servers(&[1; 4]);
        let mut rng = base::Rng::new(1);
        let mut counts = [0; 4];
        for _ in 0..4_000 {
            counts[pick_with(&mut LeastConnections, &all, 0, 0, &mut rng).unwrap()] += 1;
        }
        assert!(
            counts.iter().all(|n| (850..1_150).contains(n)),
            "{counts:?}"
        );
    }
}
