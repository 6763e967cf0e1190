//! The contract of protocols among equals: elections, mutual exclusion, commit, ledgers.

use crate::{Now, Rng};
use std::hash::Hash;

/// What a peer does in answer to an input.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum PeerAction<Message, State, Decision> {
    /// Send now.
    Send {
        /// The receiver's number, from 0.
        to: usize,
        /// The message.
        message: Message,
    },
    /// Make the state durable before anything in `then` leaves.
    Persist {
        /// What a restart gets back.
        state: State,
        /// Messages that must not precede the sync.
        then: Vec<(usize, Message)>,
    },
    /// Call `handle_timer` with `timer` after this many microseconds.
    SetTimer {
        /// The timer's name.
        timer: u32,
        /// Delay in microseconds.
        after_us: u64,
    },
    /// The protocol has decided something.
    Decide(Decision),
}

/// One participant. `Clone + Hash`, so that a checker can search all orders of events.
pub trait Peer: Clone + Hash {
    /// What peers tell each other.
    type Message: Clone + Hash;
    /// What survives a crash.
    type State: Clone + Hash;
    /// What the protocol is run for.
    type Decision: Clone + Hash;

    /// A message arrived.
    fn handle_message(
        &mut self,
        now: Now,
        rng: &mut Rng,
        from: usize,
        message: Self::Message,
        out: &mut Vec<PeerAction<Self::Message, Self::State, Self::Decision>>,
    );

    /// A timer ran out.
    fn handle_timer(
        &mut self,
        now: Now,
        rng: &mut Rng,
        timer: u32,
        out: &mut Vec<PeerAction<Self::Message, Self::State, Self::Decision>>,
    );

    /// The peer starts, with what survived the last crash, if anything did.
    fn handle_start(
        &mut self,
        now: Now,
        rng: &mut Rng,
        recovered: Option<Self::State>,
        out: &mut Vec<PeerAction<Self::Message, Self::State, Self::Decision>>,
    );
}
