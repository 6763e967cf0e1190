//! Consensus: one order of values for all, also among some that lie.
//!
//! [`paxos`] (one value) and [`multi_paxos`] (a log of them) among processes that crash, [`pbft`] among processes
//! that lie, [`work`] (blocks and proof of work) among processes of which nobody knows how many there are;
//! [`stake`] says whose turn it is when weight is stake or votes, and [`stake_chain`] makes chains by that.
//!
//! Counting rule of every figure here: sends to oneself do not count, sends to dead peers do.

pub mod multi_paxos;
pub mod paxos;
pub mod pbft;
pub mod stake;
pub mod stake_chain;
pub mod work;

use std::collections::BTreeMap;

/// What a user asks of a peer: that this value be decided. Values are told apart by their numbers, from 1 on;
/// in a ledger they stand for signed transactions, so nobody but a user can make one.
pub type Request = u64;

/// What a peer tells its user.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Decision {
    /// This value has this place, for ever.
    Decided {
        /// Its place, from 1 on.
        position: u64,
        /// The value.
        value: u64,
    },
    /// So few peers cannot do it: 3f + 1 are needed for f that lie.
    Refused,
}

/// What a chain's user was told of its values: a longer chain may undo it.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
struct Told(BTreeMap<u64, u64>);

impl Told {
    /// What is news when these are the values that count as decided; a value's place is its place among them.
    fn news<'a>(&mut self, values: impl Iterator<Item = &'a u64>) -> Vec<Decision> {
        let mut news = Vec::new();
        for (position, value) in (1..).zip(values.copied()) {
            if self.0.insert(position, value) != Some(value) {
                news.push(Decision::Decided { position, value });
            }
        }
        news
    }
}
