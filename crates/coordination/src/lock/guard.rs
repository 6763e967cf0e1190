//! What a lock protects, as it has to be for fences to be worth anything.

use base::planted::{Bug, planted};

/// The largest fence that a resource has seen.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Guard {
    newest: u64,
}

impl Guard {
    /// A guard that has seen `newest`; 0 for none.
    pub fn new(newest: u64) -> Self {
        Self { newest }
    }

    /// True when whoever shows `fence` may change the resource: nobody with a larger one has. The same holder
    /// may come again.
    pub fn admit(&mut self, fence: u64) -> bool {
        if fence < self.newest && !planted(Bug::AdmitOldFence) {
            return false;
        }
        self.newest = self.newest.max(fence);
        true
    }

    /// The largest fence that was admitted.
    pub fn newest(self) -> u64 {
        self.newest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn older_fence_behind_a_newer_one_is_refused() {
        let mut guard = Guard::default();
        assert!(guard.admit(7));
        assert!(guard.admit(7));
        assert!(guard.admit(9));
        assert!(!guard.admit(8));
        assert_eq!(guard.newest(), 9);
        assert!(!Guard::new(9).admit(7));
    }
}
