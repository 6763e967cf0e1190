//! The side of global transactions of a run: initiators who move money between services, and the services, which
//! the leader's calls reach late, twice, or not at all.
//!
//! What the services' databases hold is part of the history: the checkers compare it with how each transaction
//! ended.

pub(crate) mod callouts;
pub(crate) mod player;

use std::collections::BTreeMap;
use transactions::global::{Kind, Status};

/// Services; each has this many accounts, and each of these so much at first.
pub const SERVICES: usize = 2;
/// See [`SERVICES`].
pub const ACCOUNTS: u64 = 3;
/// See [`SERVICES`].
pub const FUNDS: i64 = 100;

/// What a service answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    /// It is done, now or before.
    Yes,
    /// It cannot be done, and nothing was.
    No,
}

/// A service: balances, what is reserved, and the rows of its barrier, which keeps repetitions apart.
#[derive(Clone, Debug, Default)]
pub struct Service {
    balances: BTreeMap<u64, i64>,
    held: BTreeMap<(String, String), i64>,
    barrier: BTreeMap<(String, String, String), String>,
    /// What each transaction has changed.
    changed: BTreeMap<String, i64>,
}

impl Service {
    /// One local transaction. `change` says by how much `account` is to change in the end.
    pub fn handle(
        &mut self,
        gid: &str,
        branch: &str,
        op: &str,
        account: u64,
        change: i64,
    ) -> Answer {
        let key = |op: &str| (gid.to_owned(), branch.to_owned(), op.to_owned());
        if op == "check" {
            let row = (self.barrier)
                .entry(key("msg"))
                .or_insert_with(|| "rollback".into());
            return match row == "msg" {
                true => Answer::Yes,
                false => Answer::No,
            };
        }
        let before = self.clone();
        let origin = match op {
            "compensate" => Some("action"),
            "cancel" | "rollback" => Some("try"),
            _ => None,
        };
        let mut insert = |of: &str| match self.barrier.contains_key(&key(of)) {
            true => false,
            false => self.barrier.insert(key(of), op.to_owned()).is_none(),
        };
        let is_empty = origin.is_some_and(&mut insert);
        let is_first = insert(op);
        if is_empty || !is_first {
            // A message's own transaction that finds the check-back before it may not be.
            let row = self.barrier.get(&key("msg"));
            let was_asked = op == "msg" && row.is_some_and(|row| row != "msg");
            return if was_asked { Answer::No } else { Answer::Yes };
        }
        let place = (gid.to_owned(), branch.to_owned());
        let by = match op {
            "action" | "msg" => change,
            "compensate" => -change,
            "try" if change < 0 => {
                self.held.insert(place, -change);
                change
            }
            "confirm" | "commit" if change < 0 => {
                self.held.remove(&place);
                0
            }
            "confirm" | "commit" => change,
            "cancel" | "rollback" if change < 0 => self.held.remove(&place).unwrap_or(0),
            _ => 0,
        };
        let balance = self.balances.entry(account).or_insert(FUNDS);
        *balance += by;
        // What goes out must be there; a compensation takes back what came in, whatever is there.
        if *balance < 0 && by < 0 && matches!(op, "action" | "try" | "msg") {
            *self = before;
            return Answer::No;
        }
        *self.changed.entry(gid.to_owned()).or_insert(0) += by;
        Answer::Yes
    }

    /// What all accounts hold, and what is reserved.
    pub fn sums(&self) -> (i64, i64) {
        let held = self.held.values().sum();
        let full = (0..ACCOUNTS).map(|account| self.balances.get(&account).unwrap_or(&FUNDS));
        (full.sum(), held)
    }

    /// What a transaction has changed of the balances.
    pub fn changed(&self, gid: &str) -> i64 {
        self.changed.get(gid).copied().unwrap_or(0)
    }
}

/// Money that is to move.
#[derive(Clone, Debug)]
pub struct Transfer {
    /// How.
    pub kind: Kind,
    /// Its transaction.
    pub gid: String,
    /// Service and account that it comes from, and goes to.
    pub from: (usize, u64),
    /// See `from`.
    pub to: (usize, u64),
    /// How much.
    pub amount: i64,
    /// A cluster said that there is such a transaction.
    pub acknowledged: bool,
    /// Some service refused, its initiator gave up or died, or its own time was over: it may fail.
    pub may_fail: bool,
}

/// A transaction as it was read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Seen {
    /// Which.
    pub gid: String,
    /// When it was asked for, and answered.
    pub invoked_us: u64,
    /// See `invoked_us`.
    pub at_us: u64,
    /// What it was; `None`: it was not there.
    pub was: Option<(Status, u64)>,
}

/// What was done and seen.
#[derive(Clone, Debug, Default)]
pub struct GlobalsHistory {
    /// In the order in which they were begun.
    pub transfers: Vec<Transfer>,
    /// The services as they are.
    pub services: [Service; SERVICES],
    /// Operations that the cluster has called for, of each transaction, with how often.
    pub called: BTreeMap<(String, String), u64>,
    /// In the order in which it was read.
    pub seen: Vec<Seen>,
    /// How each ended, as it was read at the very end.
    pub last: BTreeMap<String, Status>,
}
