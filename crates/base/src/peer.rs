//! The contract of protocols among equals: elections, mutual exclusion, commit, failure detection.
//!
//! A peer is a value. What happens to it comes in through the `handle_*` methods; what it does about
//! it goes out as [`Action`]s through the [`Context`], which also carries the time and the generator:
//! a peer fetches neither. So the same file runs in the lab, in an exhaustive search and between real nodes.
//!
//! Rules that every peer keeps, and that the search leans on: it reacts to timers and never compares
//! times to decide (failure detectors excepted, which are not searched); what it must not forget it
//! persists, and what leans on that leaves only after the sync.

use crate::algorithm::Header;
use crate::{Now, Rng};
use std::fmt::Debug;
use std::hash::Hash;

/// The number of a peer, from 1 to the number of nodes.
pub type PeerId = usize;

/// What a peer does in answer to an input.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Action<Message, Timer, State, Decision> {
    /// Send now. To oneself: it arrives next, is never lost, and does not count as a message.
    Send {
        /// The receiver.
        to: PeerId,
        /// The message.
        message: Message,
    },
    /// Make the state durable; only then do what follows.
    Persist {
        /// What a restart gets back; it replaces what was persisted before.
        state: State,
        /// What must not precede the sync.
        then: Vec<Action<Message, Timer, State, Decision>>,
    },
    /// Call `handle_timer` with it after this many microseconds. A timer of the same name is replaced.
    SetTimer {
        /// The timer's name.
        timer: Timer,
        /// Delay in microseconds by the peer's own clock.
        after_us: u64,
    },
    /// The timer of this name will not run out.
    CancelTimer(Timer),
    /// What the protocol is run for has come about, as far as this peer is concerned.
    Decide(Decision),
}

/// The actions of `P`.
pub type ActionOf<P> =
    Action<<P as Peer>::Message, <P as Peer>::Timer, <P as Peer>::State, <P as Peer>::Decision>;

/// How a liar lies (Lamport, Shostak, Pease: "The Byzantine generals problem", ACM TOPLAS 4(3), 1982).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Lie {
    /// It sends nothing, though it is there.
    Withhold,
    /// It tells one thing to some and another to others.
    Equivocate,
    /// It tells what is not so, to all.
    Forge,
}

impl Lie {
    /// All kinds.
    pub const ALL: [Self; 3] = [Self::Withhold, Self::Equivocate, Self::Forge];
}

/// One participant. Everything volatile is in the value; a restart makes a new one.
pub trait Peer: Sized {
    /// What peers tell each other.
    type Message: Clone + Debug;
    /// Names of timers.
    type Timer: Copy + Ord + Debug;
    /// What survives a crash.
    type State: Clone + Debug;
    /// What its user asks of it.
    type Request: Clone + Debug;
    /// What the protocol is run for.
    type Decision: Clone + Debug;

    /// What people are told about the algorithm.
    const HEADER: Header;

    /// Peer `me` of `nodes`, as it is before its start, with the usual settings.
    fn new(me: PeerId, nodes: usize) -> Self;

    /// The peer starts, with what survived the last crash, if anything was ever persisted.
    fn handle_start(&mut self, cx: &mut Context<'_, Self>, recovered: Option<Self::State>);

    /// A message arrived.
    fn handle_message(&mut self, cx: &mut Context<'_, Self>, from: PeerId, message: Self::Message);

    /// A timer ran out.
    fn handle_timer(&mut self, cx: &mut Context<'_, Self>, timer: Self::Timer);

    /// Its user asks for something.
    fn handle_request(&mut self, cx: &mut Context<'_, Self>, request: Self::Request);

    /// What a liar sends to `to` instead of this; nothing, when it withholds it. By default liars only
    /// withhold. Who sends cannot be forged, nor what another peer has signed.
    fn lie(message: Self::Message, _to: PeerId, lie: Lie) -> Option<Self::Message> {
        (lie != Lie::Withhold).then_some(message)
    }

    /// One word for what it is doing now, for pictures; empty when there is nothing to tell.
    fn role(&self) -> &'static str {
        ""
    }

    /// Whose answers it cannot go on without, as far as it knows; for people.
    fn waits_for(&self) -> Vec<PeerId> {
        Vec::new()
    }
}

/// A peer whose states can be copied and told apart, so that all orders of events can be searched.
pub trait Searchable:
    Clone + Hash + Peer<Message: Hash, Timer: Hash, State: Hash, Request: Hash, Decision: Hash>
{
}

impl<P> Searchable for P where
    P: Clone + Hash + Peer<Message: Hash, Timer: Hash, State: Hash, Request: Hash, Decision: Hash>
{
}

/// What a handler may use: the time, the generator, and the actions that it emits.
pub struct Context<'a, P: Peer> {
    /// The peer's own clocks.
    pub now: Now,
    /// The peer's own stream of numbers.
    pub rng: &'a mut Rng,
    out: &'a mut Vec<ActionOf<P>>,
}

impl<'a, P: Peer> Context<'a, P> {
    /// A context that writes into `out`.
    pub fn new(now: Now, rng: &'a mut Rng, out: &'a mut Vec<ActionOf<P>>) -> Self {
        Self { now, rng, out }
    }

    /// Sends `message` to `to`.
    pub fn send(&mut self, to: PeerId, message: P::Message) {
        self.out.push(Action::Send { to, message });
    }

    /// Sends `message` to each of `to`.
    pub fn send_each(&mut self, to: impl IntoIterator<Item = PeerId>, message: &P::Message) {
        for to in to {
            self.send(to, message.clone());
        }
    }

    /// Makes `state` durable, then does what `then` emits.
    pub fn persist(&mut self, state: P::State, then: impl FnOnce(&mut Context<'_, P>)) {
        let mut after = Vec::new();
        then(&mut Context::new(self.now, self.rng, &mut after));
        self.out.push(Action::Persist { state, then: after });
    }

    /// Sends what leans on `state` once that is durable. For repeated answers too: the first may still
    /// wait for its sync.
    pub fn send_durable(&mut self, state: P::State, to: PeerId, message: P::Message) {
        self.persist(state, |then| then.send(to, message));
    }

    /// Sets `timer` to run out in `after_us` microseconds, instead of when it was to before.
    pub fn set_timer(&mut self, timer: P::Timer, after_us: u64) {
        self.out.push(Action::SetTimer { timer, after_us });
    }

    /// Stops `timer`, if it runs.
    pub fn cancel_timer(&mut self, timer: P::Timer) {
        self.out.push(Action::CancelTimer(timer));
    }

    /// Tells the user what has come about.
    pub fn decide(&mut self, decision: P::Decision) {
        self.out.push(Action::Decide(decision));
    }

    /// Lets a peer within this one take a step, and gives what it did.
    pub fn within<Q: Peer>(&mut self, step: impl FnOnce(&mut Context<'_, Q>)) -> Vec<ActionOf<Q>> {
        let mut out = Vec::new();
        step(&mut Context::new(self.now, self.rng, &mut out));
        out
    }

    /// Emits an action made elsewhere.
    pub fn act(&mut self, action: ActionOf<P>) {
        self.out.push(action);
    }
}

/// All peers from 1 to `nodes` but `me`.
pub fn others(me: PeerId, nodes: usize) -> impl Iterator<Item = PeerId> {
    (1..=nodes).filter(move |peer| *peer != me)
}

/// The peer behind `me` on the ring 1, 2, … `nodes`, 1.
pub fn next_on_ring(me: PeerId, nodes: usize) -> PeerId {
    me % nodes + 1
}

/// More than half of `nodes`.
pub fn majority(nodes: usize) -> usize {
    nodes / 2 + 1
}
