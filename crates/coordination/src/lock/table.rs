//! A lock on a table: one row a lock, unique by its name, that a contender writes itself into.
//!
//! Source: the recipe of the notes (a row inserted is a lock held; a unique key lets one insert succeed), with what
//! they name as its two faults mended: an expiry, so that a dead holder's row is taken over, and a fence. The row
//! stays when the lock is free, since the fence must go on growing.
//!
//! Cost: one statement to take, one each third of the lease to keep, one to give back. Whoever waits asks again,
//! from every 50 ms to every second: there is no queue, so it is not fair. Time is the database's, so that
//! contenders need not agree on theirs; a holder counts its lease from when it asked, less a twentieth for clocks
//! that run at different speeds.

use super::State;
use base::Rng;

const PAUSE_MS_MIN: u64 = 50;
const PAUSE_MS_MAX: u64 = 1_000;

/// Least and most that a lease may last, in milliseconds.
pub const TTL_MS: std::ops::RangeInclusive<u64> = 300..=3_600_000;

/// A database's own words, where they differ.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Dialect {
    /// SQLite 3.35 or later.
    Sqlite,
    /// PostgreSQL 9.5 or later.
    Postgres,
}

/// What a contender asks of the database.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Request {
    /// Take the row if it is free, expired, or its own: `$1` name, `$2` owner, `$3` lease in milliseconds.
    Take,
    /// Make the lease last longer: `$1`, `$2`, `$3` as before, `$4` fence.
    Extend(u64),
    /// Give the row back: `$1` name, `$2` owner, `$3` fence.
    Release(u64),
}

/// What the table answers.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Reply {
    /// A row was written, and this is its fence.
    Row(u64),
    /// No row was written.
    Nothing,
}

impl Dialect {
    /// The table; made once, by whoever comes first.
    pub fn create_table(self) -> &'static str {
        "CREATE TABLE IF NOT EXISTS althing_locks (name TEXT PRIMARY KEY, owner TEXT, \
         fence BIGINT NOT NULL, expires_ms BIGINT NOT NULL)"
    }

    /// The database's time in milliseconds since 1970.
    fn now_ms(self) -> &'static str {
        match self {
            Self::Sqlite => "CAST((julianday('now') - 2440587.5) * 86400000 AS BIGINT)",
            Self::Postgres => "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)",
        }
    }

    /// The statement of a request. It yields the fence of the row that it wrote, or no row.
    pub fn statement(self, request: &Request) -> String {
        let now = self.now_ms();
        match request {
            Request::Take => format!(
                "INSERT INTO althing_locks (name, owner, fence, expires_ms) VALUES ($1, $2, 1, {now} + $3) \
                 ON CONFLICT (name) DO UPDATE SET owner = excluded.owner, fence = althing_locks.fence + 1, \
                 expires_ms = excluded.expires_ms WHERE althing_locks.owner IS NULL \
                 OR althing_locks.owner = excluded.owner OR althing_locks.expires_ms <= {now} RETURNING fence"
            ),
            Request::Extend(_) => format!(
                "UPDATE althing_locks SET expires_ms = {now} + $3 WHERE name = $1 AND owner = $2 \
                 AND fence = $4 AND expires_ms > {now} RETURNING fence"
            ),
            Request::Release(_) => {
                "UPDATE althing_locks SET owner = NULL, expires_ms = 0 WHERE name = $1 \
                 AND owner = $2 AND fence = $3 RETURNING fence"
                    .to_owned()
            }
        }
    }

    /// Yields owner, fence and milliseconds left of the lock `$1`; no row when nobody ever had it.
    pub fn show(self) -> String {
        let now = self.now_ms();
        format!(
            "SELECT owner, fence, expires_ms - {now} AS left_ms FROM althing_locks WHERE name = $1"
        )
    }

    /// Takes the lock `$1` away from whoever has it; yields a row when somebody had.
    pub fn break_lock(self) -> &'static str {
        "UPDATE althing_locks SET owner = NULL, expires_ms = 0 WHERE name = $1 AND owner IS NOT NULL RETURNING fence"
    }
}

/// One contender for a lock.
#[derive(Clone, Debug)]
pub struct Contender {
    ttl_ms: u64,
    rng: Rng,
    state: State,
    /// What was asked, and when.
    asked: Option<(Request, u64)>,
    next_ms: u64,
    pause_ms: u64,
    lease_until_ms: u64,
    is_leaving: bool,
}

impl Contender {
    /// A contender whose lease lasts `ttl_ms` ([`TTL_MS`]).
    pub fn new(ttl_ms: u64, rng: Rng) -> Self {
        Self {
            ttl_ms,
            rng,
            state: State::Waiting,
            asked: None,
            next_ms: 0,
            pause_ms: PAUSE_MS_MIN,
            lease_until_ms: 0,
            is_leaving: false,
        }
    }

    /// Where it is.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Until when, by the monotonic clock in milliseconds, nobody else can have the lock.
    pub fn lease_until_ms(&self) -> u64 {
        self.lease_until_ms
    }

    /// What to ask now, if anything. Whoever drives it comes again within some tens of milliseconds.
    pub fn poll_request(&mut self, now_ms: u64) -> Option<Request> {
        if matches!(self.state, State::Held(_)) && now_ms >= self.lease_until_ms {
            self.state = State::Lost("its lease ran out before it was extended");
        }
        if self.asked.is_some() {
            return None;
        }
        let request = match self.state {
            State::Held(fence) if self.is_leaving => Request::Release(fence),
            State::Waiting if self.is_leaving => {
                self.state = State::Released;
                return None;
            }
            _ if now_ms < self.next_ms => return None,
            State::Waiting => Request::Take,
            State::Held(fence) => Request::Extend(fence),
            State::Lost(_) | State::Released => return None,
        };
        self.asked = Some((request.clone(), now_ms));
        Some(request)
    }

    /// Takes the answer to what was asked last.
    pub fn handle_reply(&mut self, now_ms: u64, reply: Reply) {
        let Some((request, asked_ms)) = self.asked.take() else {
            return;
        };
        match (request, reply) {
            (Request::Take, Reply::Row(fence)) => {
                self.state = State::Held(fence);
                self.renewed(asked_ms);
            }
            (Request::Take, Reply::Nothing) => {
                self.next_ms = now_ms + self.rng.range(self.pause_ms / 2, self.pause_ms);
                self.pause_ms = (self.pause_ms * 2).min(PAUSE_MS_MAX);
            }
            (Request::Extend(_), Reply::Row(_)) => self.renewed(asked_ms),
            (Request::Extend(_), Reply::Nothing) => {
                self.state = State::Lost("somebody else has its row");
            }
            (Request::Release(_), _) => self.state = State::Released,
        }
    }

    /// The connection broke: what was asked may have been done or not. All of it may be asked again.
    pub fn handle_reconnected(&mut self) {
        self.asked = None;
    }

    /// Gives the lock back, or stops waiting for it. Over once the state says so.
    pub fn release(&mut self) {
        self.is_leaving = true;
    }

    fn renewed(&mut self, asked_ms: u64) {
        self.lease_until_ms = asked_ms + self.ttl_ms - self.ttl_ms / 20;
        self.next_ms = asked_ms + self.ttl_ms / 3;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contender() -> Contender {
        Contender::new(3_000, Rng::new(1))
    }

    #[test]
    fn free_row_is_taken_kept_and_given_back() {
        let mut one = contender();
        assert_eq!(one.poll_request(0), Some(Request::Take));
        assert_eq!(one.poll_request(5), None);
        one.handle_reply(10, Reply::Row(4));
        assert_eq!(
            (one.state(), one.lease_until_ms()),
            (&State::Held(4), 2_850)
        );
        assert_eq!(one.poll_request(999), None);
        assert_eq!(one.poll_request(1_000), Some(Request::Extend(4)));
        one.handle_reply(1_010, Reply::Row(4));
        assert_eq!(one.lease_until_ms(), 3_850);
        one.release();
        assert_eq!(one.poll_request(1_020), Some(Request::Release(4)));
        one.handle_reply(1_030, Reply::Row(4));
        assert_eq!(one.state(), &State::Released);
        assert_eq!(one.poll_request(9_000), None);
    }

    #[test]
    fn taken_row_is_asked_for_again_and_a_holder_that_is_late_has_lost_it() {
        let mut one = contender();
        assert_eq!(one.poll_request(0), Some(Request::Take));
        one.handle_reply(1, Reply::Nothing);
        assert_eq!(one.poll_request(2), None);
        assert_eq!(one.poll_request(60), Some(Request::Take));
        // Whether it was carried out is not known: asking again is harmless, the fence only grows.
        one.handle_reconnected();
        assert_eq!(one.poll_request(100), Some(Request::Take));
        one.handle_reply(101, Reply::Row(6));
        assert_eq!(one.poll_request(2_950), None);
        assert!(matches!(one.state(), State::Lost(_)));
        let mut two = contender();
        two.poll_request(0);
        two.handle_reply(0, Reply::Row(7));
        two.poll_request(1_000);
        two.handle_reply(1_001, Reply::Nothing);
        assert!(matches!(two.state(), State::Lost(_)));
    }
}
