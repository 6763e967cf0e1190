//! Round robin: the servers in turn.
//!
//! Idea: a pointer that goes on by one. It knows nothing of the servers' strength or load. Cost: one step a
//! pick, and one more for each server in between that is not usable.

use super::{Ask, Balance};

/// The servers in turn, whatever their weight.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RoundRobin {
    next: usize,
}

impl Balance for RoundRobin {
    fn pick(&mut self, ask: &mut Ask<'_>) -> Option<usize> {
        let n = ask.servers.len();
        let picked = (0..n)
            .map(|step| (self.next + step) % n)
            .find(|i| ask.servers[*i].usable)?;
        self.next = (picked + 1) % n;
        Some(picked)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{letters, servers};
    use super::*;

    #[test]
    fn servers_take_turns_and_one_that_is_down_is_left_out() {
        let mut all = servers(&[1, 1, 1]);
        let mut balance = RoundRobin::default();
        assert_eq!(letters(&mut balance, &all, 5), "abcab");
        all[2].usable = false;
        assert_eq!(letters(&mut balance, &all, 4), "abab");
        all[2].usable = true;
        assert_eq!(letters(&mut balance, &all, 3), "cab");
    }
}
