//! A limit for each key: each client address, each user.
//!
//! Idea: limits are made as keys appear, and the one unused for longest goes when there are too many; its key begins
//! afresh. So one user's flood meets that user's limit. Cost: a look-up in a tree; a pass over all when one has to go.

use super::{RateLimit, Verdict};
use std::collections::BTreeMap;

/// Most keys remembered.
pub const KEYS_MAX: usize = 10_000;

/// One limit a key, all alike.
#[derive(Clone, PartialEq, Debug)]
pub struct Keyed {
    fresh: RateLimit,
    by_key: BTreeMap<String, (u64, RateLimit)>,
    keys_max: usize,
}

impl Keyed {
    /// Each key begins with `fresh`. At most `keys_max` are remembered.
    pub fn new(fresh: RateLimit, keys_max: usize) -> Self {
        Self {
            fresh,
            by_key: BTreeMap::new(),
            keys_max: keys_max.max(1),
        }
    }

    /// Asks the limit of `key`.
    pub fn ask(&mut self, key: &str, now_us: u64) -> Verdict {
        if !self.by_key.contains_key(key) {
            if self.by_key.len() >= self.keys_max {
                let oldest = self.by_key.iter().min_by_key(|(_, (used_us, _))| *used_us);
                if let Some(oldest) = oldest.map(|(key, _)| key.clone()) {
                    self.by_key.remove(&oldest);
                }
            }
            let fresh = (now_us, self.fresh.clone());
            self.by_key.insert(key.to_owned(), fresh);
        }
        match self.by_key.get_mut(key) {
            Some((used_us, limit)) => {
                *used_us = now_us;
                limit.ask(now_us)
            }
            None => Verdict::Pass,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::TokenBucket;
    use super::*;

    #[test]
    fn one_keys_flood_meets_its_own_limit_and_old_keys_go() {
        let mut limits = Keyed::new(RateLimit::TokenBucket(TokenBucket::new(1.0, 1.0)), 2);
        assert_eq!(limits.ask("a", 0), Verdict::Pass);
        assert!(matches!(limits.ask("a", 1), Verdict::Refuse(_)));
        assert_eq!(limits.ask("b", 2), Verdict::Pass);
        assert_eq!(limits.ask("c", 3), Verdict::Pass);
        assert_eq!(limits.by_key.len(), 2);
        assert!(
            matches!(limits.ask("b", 4), Verdict::Refuse(_)),
            "a went, not b"
        );
    }
}
