//! Global transactions: work in several services, each with a database of its own, that is done everywhere or
//! undone everywhere. This is their coordinator's state; the services are called over HTTP.
//!
//! Four ways to the same end. A *saga* does step after step and, when one refuses, compensates those that ran
//! or may have run, backwards (Garcia-Molina and Salem: "Sagas", SIGMOD 1987). *TCC* reserves in each service
//! (try), then confirms or cancels everywhere (Helland: "Life beyond Distributed Transactions", CIDR 2007; Pardon
//! and Pautasso: "Towards Distributed Atomic Transactions over RESTful Services", 2011). A *message* is
//! half-sent, its sender's local transaction decides, and who has not said is asked (check-back). *XA* is
//! two-phase commit of databases (X/Open DTP, 1991), whose second phase is called for by URL.
//!
//! The state says which calls are wanted ([`Call::Wanted`]), each under an attempt number that is used once. A
//! shard's leader makes them ([`Driver`]) and proposes what came of each; a result whose attempt is no longer
//! wanted is passed over, so that what a former leader learns late changes nothing. A new leader makes all
//! wanted calls again: services are called at least once, and keep repetitions apart by gid, branch and
//! operation (the barrier). No call is ever taken to have failed because nothing was heard of it: it is repeated,
//! with back-off, and in the end the transaction is *parked*, visibly, until a person resumes or stops it.
//!
//! Not taken: a logged entry before each call. What a state wants is a function of the log already, so that
//! "may have run" is known without it, and a call costs one entry (its result) instead of two.
//!
//! Costs: one entry to begin, one for each result; a transaction is one row, rewritten as a whole by each.

mod command;
mod driver;
mod machine;
mod model;
mod restore;
mod steps;

pub use command::{Command, NewGlobal, Outcome, Refusal, Reply, Step, Unit};
pub use driver::{Driver, Request, Todo, judge};
pub use machine::{Counts, Globals, Output};
pub use model::{Branch, Call, Global, Kind, Known, Op, Options, Status};

/// Bytes of a gid.
pub const GID_BYTES_MAX: usize = 128;
/// Bytes of a branch's id.
pub const BRANCH_ID_BYTES_MAX: usize = 128;
/// Branches of one transaction, those of both directions counted.
pub const BRANCHES_MAX: usize = 1_000;
/// Bytes of one transaction.
pub const GLOBAL_BYTES_MAX: usize = 1 << 20;
/// Transactions that have not ended.
pub const UNDER_WAY_MAX: usize = 100_000;
/// Transactions that have ended and are remembered; beyond it the oldest are forgotten.
pub const ENDED_MAX: usize = 100_000;
/// Bytes of transactions that have ended; beyond it the oldest are forgotten.
pub const ENDED_BYTES_MAX: u64 = 64 << 20;
/// How long an ended transaction is remembered, in milliseconds.
pub const KEEP_MS: i64 = 7 * 86_400_000;
/// What is prepared, and neither submitted nor aborted for so long, is rolled back or asked about, unless it
/// says otherwise, in milliseconds.
pub const TIMEOUT_MS: u64 = 35_000;
/// A service that has not answered for so long is called again later, unless the transaction says otherwise, in
/// milliseconds.
pub const REQUEST_TIMEOUT_MS: u64 = 3_000;
/// The first pause before a repetition, unless the transaction says otherwise, in milliseconds; the next is
/// twice as long.
pub const RETRY_INTERVAL_MS: u64 = 10_000;
/// The longest pause, in milliseconds.
pub const RETRY_INTERVAL_MS_MAX: u64 = 300_000;
/// Repetitions of a call before its transaction is parked, unless the transaction says otherwise.
pub const RETRIES_MAX: u32 = 30;
/// Bytes of what is kept of a service's words.
pub const WORDS_BYTES_MAX: usize = 512;
