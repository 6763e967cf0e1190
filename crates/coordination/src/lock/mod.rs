//! Locks as their contenders see them: recipes without IO, over what other systems keep.
//!
//! A recipe says what to ask next (`poll_request`) and takes the answer (`handle_reply`); whoever drives it owns
//! the connection. The command line drives them over sockets, the lab over its simulated network. Three
//! substrates: nodes of a tree ([`tree`]), keys of a cache ([`cache`]), a row of a table ([`table`]).
//!
//! **Fencing.** No lock over a network keeps two from believing that they hold it: one may be stopped for longer
//! than its lease and go on afterwards. So every holder gets a *fence*, a number that grows from holder to
//! holder, and shows it to what the lock protects; what has seen a larger one refuses it. (Kleppmann, "How to do
//! distributed locking", 2016; Burrows, "The Chubby lock service", OSDI 2006, section 2.4, calls it a sequencer.)

pub mod cache;
pub mod guard;
pub mod stripe;
pub mod table;
pub mod tree;

/// What a lock lets in beside its holder.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Mode {
    /// Nobody.
    Exclusive,
    /// Others that share it.
    Shared,
}

/// Where a contender is.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum State {
    /// It has not got the lock yet.
    Waiting,
    /// It has the lock, and this is its fence.
    Held(u64),
    /// It had the lock, or a place in the queue, and has it no more, for this reason.
    Lost(&'static str),
    /// It gave the lock, or its place in the queue, back.
    Released,
}
