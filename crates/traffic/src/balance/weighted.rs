//! Weighted round robin: each server in turn, as many times in a row as it weighs.
//!
//! Idea: the simplest that respects weights. Its runs are a burst for the heavy server: with weights 4, 1, 1 the
//! first gets four in a row ([`super::SmoothWeighted`] spreads them). Cost: one step a pick.

use super::{Ask, Balance};

/// As many in a row as a server weighs, then the next.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Weighted {
    at: usize,
    given: u32,
}

impl Balance for Weighted {
    fn pick(&mut self, ask: &mut Ask<'_>) -> Option<usize> {
        let n = ask.servers.len();
        for _ in 0..=n {
            if let Some(server) = ask.servers.get(self.at)
                && server.usable
                && self.given < server.weight.max(1)
            {
                self.given += 1;
                return Some(self.at);
            }
            self.at = (self.at + 1) % n.max(1);
            self.given = 0;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{letters, servers};
    use super::*;

    #[test]
    fn heavy_server_gets_its_requests_in_a_row() {
        let mut all = servers(&[4, 1, 1]);
        let mut balance = Weighted::default();
        assert_eq!(letters(&mut balance, &all, 8), "aaaabcaa");
        all[0].usable = false;
        assert_eq!(letters(&mut balance, &all, 4), "bcbc");
    }
}
