//! Deadlines of sessions, and of others that must be heard of, kept in memory by the leader only, on its
//! monotonic clock.
//!
//! The idea: a keep-alive only moves the deadline in a table; the queue of deadlines is corrected lazily,
//! when an entry's turn comes. So `touch` is one look-up, and each session costs one queue operation a
//! time-out, however often it is heard of. Expiry is never done here: what ran out is handed to the caller,
//! who proposes `ExpireSession`; `apply` decides.

use base::SessionId;
use base::map::HashMap;
use base::planted::{Bug, planted};
use std::collections::BTreeSet;
use std::hash::Hash;
use std::time::Duration;

/// A home that has not heard from the sessions' leader for a time-out divided by this closes the session's connection.
pub const CUT_OFF_DIVISOR: u32 = 4;

/// For how long a session surely lives from when its home has answered, on clocks that run alike: the home may have
/// been cut off from the leader before that.
pub fn certain_life(timeout: Duration) -> Duration {
    timeout - timeout / CUT_OFF_DIVISOR
}

/// How long a proposal to expire may take before it is made again.
const RETRY_US: u64 = 1_000_000;

#[derive(Clone, Copy, Debug)]
struct Lease<G> {
    generation: G,
    timeout_us: u64,
    /// When it runs out, on the shifted clock.
    deadline_us: u64,
    /// Where it stands in the queue; never after `deadline_us`.
    queued_us: u64,
}

/// The deadlines of all sessions, or of whatever else has ids `K` and a generation `G`. Times are monotonic
/// microseconds.
#[derive(Clone, Debug)]
pub struct Leases<K = SessionId, G = u32> {
    leases: HashMap<K, Lease<G>>,
    queue: BTreeSet<(u64, K)>,
    /// Time during which this core was not running: deadlines are kept on a clock without it.
    stalled_us: u64,
}

impl<K, G> Default for Leases<K, G> {
    fn default() -> Self {
        Self {
            leases: HashMap::default(),
            queue: BTreeSet::new(),
            stalled_us: 0,
        }
    }
}

impl<K: Copy + Ord + Hash, G: Copy> Leases<K, G> {
    /// No sessions.
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts over as a new leader: each session (id, generation, time-out in ms) is granted a full time-out.
    pub fn reset(&mut self, now_us: u64, sessions: impl IntoIterator<Item = (K, G, u32)>) {
        *self = Self::default();
        for (session, generation, timeout_ms) in sessions {
            self.arm(now_us, session, generation, timeout_ms);
        }
    }

    /// A session was opened.
    pub fn opened(&mut self, now_us: u64, session: K, generation: G, timeout_ms: u32) {
        self.arm(now_us, session, generation, timeout_ms);
    }

    /// A session was attached anew, perhaps with another time-out.
    pub fn attached(&mut self, now_us: u64, session: K, generation: G, timeout_ms: u32) {
        self.arm(now_us, session, generation, timeout_ms);
    }

    /// A session ended.
    pub fn ended(&mut self, session: K) {
        if let Some(lease) = self.leases.remove(&session) {
            self.queue.remove(&(lease.queued_us, session));
        }
    }

    /// The session was heard of; false when there is no such session.
    pub fn touch(&mut self, now_us: u64, session: K) -> bool {
        let now_us = now_us.saturating_sub(self.stalled_us);
        match self.leases.get_mut(&session) {
            Some(lease) => {
                lease.deadline_us = lease.deadline_us.max(now_us + lease.timeout_us);
                true
            }
            None => false,
        }
    }

    /// At most `max` sessions whose time has run out, with the generation to name in the proposal. Each is
    /// handed out once, and again a second later if it is still there and silent.
    pub fn poll_expired(&mut self, now_us: u64, max: usize) -> Vec<(K, G)> {
        let now_us = now_us.saturating_sub(self.stalled_us);
        let mut expired = Vec::new();
        while expired.len() < max {
            let Some(&(queued_us, session)) = self.queue.first() else {
                break;
            };
            if queued_us > now_us {
                break;
            }
            self.queue.pop_first();
            let lease = self
                .leases
                .get_mut(&session)
                .expect("queued sessions have leases");
            if lease.deadline_us <= now_us {
                expired.push((session, lease.generation));
                lease.deadline_us = now_us + RETRY_US;
            }
            lease.queued_us = lease.deadline_us;
            self.queue.insert((lease.queued_us, session));
        }
        expired
    }

    /// When to call [`Self::poll_expired`] next; `u64::MAX` without sessions. It may be early, never late.
    pub fn deadline_us(&self) -> u64 {
        self.queue
            .first()
            .map_or(u64::MAX, |(at, _)| at.saturating_add(self.stalled_us))
    }

    /// The core itself did not run for this long: sessions are not to blame, and all deadlines move.
    pub fn stalled(&mut self, by_us: u64) {
        self.stalled_us = self.stalled_us.saturating_add(by_us);
    }

    /// Sessions watched over.
    pub fn len(&self) -> usize {
        self.leases.len()
    }

    /// True when there is no session.
    pub fn is_empty(&self) -> bool {
        self.leases.is_empty()
    }

    fn arm(&mut self, now_us: u64, session: K, generation: G, timeout_ms: u32) {
        self.ended(session);
        let mut timeout_us = u64::from(timeout_ms) * 1000;
        if planted(Bug::ExpireEarly) {
            timeout_us /= 2;
        }
        let deadline_us = now_us.saturating_sub(self.stalled_us) + timeout_us;
        let lease = Lease {
            generation,
            timeout_us,
            deadline_us,
            queued_us: deadline_us,
        };
        self.leases.insert(session, lease);
        self.queue.insert((deadline_us, session));
    }
}
