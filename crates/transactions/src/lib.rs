//! Transactions over several chapters' data, in one shard or in several.
//!
//! In one shard a transaction is one unit. Across shards it is two-phase commit among replicated
//! participants: the participants are whole shards, which do not lose their promises, so that nobody has to
//! be waited for but a majority (Gray and Lamport: "Consensus on Transaction Commit", ACM TODS 2006, §3;
//! Corbett et al.: "Spanner", OSDI 2012, §4.2.1). The record lives in the first participant, and what has no
//! record was aborted (presumed abort: Mohan, Lindsay and Obermarck: "Transaction Management in the R*
//! Distributed Database Management System", ACM TODS 1986).
//!
//! A participant is asked only once those before it, in the order of their numbers, have promised, and waits
//! for what others hold: so waiting never goes in a circle (ordered resources: Havender, "Avoiding deadlock in
//! multitasking systems", IBM Systems Journal 1968), and no transaction is aborted for the sake of another.
//!
//! The crate knows no chapter: what a transaction does is a [`Work`], and a [`Store`] carries it out. For a
//! shard's leader: it proposes what [`Output::Tell`] says to the shard named, and now and then what
//! [`Transactions::due`] gives; all of it may come twice, late, or never.
//!
//! [`global`] is a machine of its own: transactions over services outside, which are called over HTTP.
//!
//! [`commit`] is apart from all that: the usual commit protocols among equals, for comparison.
//!
//! Reading order: [`unit`] (what may be asked), [`output`], [`machine`], then `locks`, `parked` and `ended`.

pub mod commit;
mod ended;
pub mod global;
mod locks;
pub mod machine;
pub mod output;
mod parked;
mod record;
mod snapshot;
pub mod unit;

pub use locks::{Resource, Touch};
pub use machine::{Counts, Store, Transactions, View};
pub use output::{Outcome, Output, Refusal};
pub use unit::{Part, TXN_ID_BYTES_MAX, TxnId, Unit, Work};
