//! Hash: the key modulo the number of servers.
//!
//! Idea: the same key reaches the same server, as long as the number of servers stays; when it changes, nearly all
//! keys move ([`super::ConsistentHash`] moves few). While a key's server is not usable, the key is hashed again
//! until it meets one that is, so the others' keys stay. Cost: one step, and one more for each server met that is
//! not usable.

use super::{Ask, Balance};

/// Key modulo servers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Hash;

impl Balance for Hash {
    fn pick(&mut self, ask: &mut Ask<'_>) -> Option<usize> {
        let n = ask.servers.len() as u64;
        let mut key = ask.key;
        for _ in 0..4 * n {
            let i = (key % n) as usize;
            if ask.servers[i].usable {
                return Some(i);
            }
            key = crate::mix(key.wrapping_add(0x9E37_79B9_7F4A_7C15));
        }
        // So many draws miss a usable one seldom.
        ask.usable().next()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{pick, servers};
    use super::*;

    #[test]
    fn key_keeps_its_server_while_others_come_and_go() {
        let mut all = servers(&[1; 5]);
        let before: Vec<_> = (0..1_000).map(|key| pick(&mut Hash, &all, key)).collect();
        assert_eq!(before[7], Some(2));
        all[3].usable = false;
        for (key, old) in before.iter().enumerate() {
            let new = pick(&mut Hash, &all, key as u64);
            assert!(if *old == Some(3) {
                new != *old
            } else {
                new == *old
            });
        }
    }
}
