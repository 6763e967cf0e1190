//! One peer of any algorithm, with bytes in place of its types: what the lab's simulation does for a peer, for one.
//!
//! A message to oneself arrives before anything else does. A state that is to be durable is handed out
//! ([`Effect::Persist`]), and what must not precede it waits for [`Seat::handle_persisted`]; states that come while
//! one is being written are written as one, the last, which says all that the earlier ones said.

use base::peer::{Action, ActionOf, Context, Peer, PeerId};
use base::planted::{Bug, planted};
use base::{Now, Rng};
use coordination::{election, mutex};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;

/// What a user asks of its peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ask {
    /// Enter.
    Acquire,
    /// Leave.
    Release,
    /// Put this value into the log.
    Append(u64),
}

/// What a peer tells its user.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fact {
    /// Its user is inside.
    Entered,
    /// It follows this leader in this term, or is it.
    Leader(PeerId, u64),
    /// It follows nobody.
    Leaderless,
    /// A place of the log, and its value.
    Decided(u64, u64),
    /// So few peers cannot do it.
    Refused,
}

/// What a peer wants done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Effect {
    /// Send a message to another peer.
    Send(PeerId, Vec<u8>),
    /// Make this durable in place of what was, then call [`Seat::handle_persisted`].
    Persist(Vec<u8>),
    /// Tell its user.
    Tell(Fact),
}

/// A peer of some algorithm.
pub trait Seat: fmt::Debug + Send {
    /// It starts, with what survived the last crash, if anything was ever persisted.
    ///
    /// # Errors
    /// What survived cannot be read: the peer must not start.
    fn handle_start(&mut self, now: Now, recovered: Option<&[u8]>) -> Result<(), String>;
    /// A message arrived.
    ///
    /// # Errors
    /// It is none, and was passed over.
    fn handle_message(&mut self, now: Now, from: PeerId, bytes: &[u8]) -> Result<(), String>;
    /// Its user asks; passed over by algorithms that do not know of it.
    fn handle_ask(&mut self, now: Now, ask: Ask);
    /// What was handed out last is durable.
    fn handle_persisted(&mut self, now: Now);
    /// Runs timers that are due.
    fn handle_tick(&mut self, now: Now);
    /// When the next timer is due, in monotonic microseconds; `u64::MAX`: none runs.
    fn deadline_us(&self) -> u64;
    /// What is to be done next.
    fn poll_effect(&mut self) -> Option<Effect>;
    /// One word for what it is doing, as [`Peer::role`].
    fn role(&self) -> &'static str;
    /// Whose answers it cannot go on without, as [`Peer::waits_for`].
    fn waits_for(&self) -> Vec<PeerId>;
}

/// Requests of a family of algorithms.
pub trait Request: Sized {
    /// How this is asked there, if it can be.
    fn of(ask: Ask) -> Option<Self>;
}

/// Decisions of a family of algorithms.
pub trait Decision {
    /// What it says.
    fn fact(&self) -> Fact;
}

impl Request for mutex::Request {
    fn of(ask: Ask) -> Option<Self> {
        match ask {
            Ask::Acquire => Some(Self::Acquire(0)),
            Ask::Release => Some(Self::Release(0)),
            Ask::Append(_) => None,
        }
    }
}

impl Decision for mutex::Decision {
    fn fact(&self) -> Fact {
        Fact::Entered
    }
}

impl Request for election::Request {
    fn of(ask: Ask) -> Option<Self> {
        match ask {
            Ask::Append(value) => Some(Self::Write(value)),
            Ask::Acquire | Ask::Release => None,
        }
    }
}

impl Decision for election::Decision {
    fn fact(&self) -> Fact {
        match *self {
            Self::Leader { leader, term } => Fact::Leader(leader, term),
            Self::Leaderless => Fact::Leaderless,
            Self::Applied { position, value } => Fact::Decided(position, value),
        }
    }
}

impl Request for u64 {
    fn of(ask: Ask) -> Option<Self> {
        match ask {
            Ask::Append(value) => Some(value),
            Ask::Acquire | Ask::Release => None,
        }
    }
}

impl Decision for ledger::Decision {
    fn fact(&self) -> Fact {
        match *self {
            Self::Decided { position, value } => Fact::Decided(position, value),
            Self::Refused => Fact::Refused,
        }
    }
}

/// A peer of algorithm `P`.
pub struct Hosted<P: Peer> {
    peer: P,
    me: PeerId,
    rng: Rng,
    timers: BTreeMap<P::Timer, u64>,
    /// Messages to itself.
    own: VecDeque<P::Message>,
    /// What leans on the state that is being written.
    writing: Option<Vec<ActionOf<P>>>,
    /// The state to be written after that one, and what leans on it.
    next: Option<(P::State, Vec<ActionOf<P>>)>,
    effects: VecDeque<Effect>,
}

impl<P: Peer> fmt::Debug for Hosted<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "peer {} of {}", self.me, P::HEADER.name)
    }
}

impl<P: Peer> Hosted<P> {
    /// Peer `me`, with its own stream of numbers.
    pub fn new(peer: P, me: PeerId, rng: Rng) -> Self {
        Self {
            peer,
            me,
            rng,
            timers: BTreeMap::new(),
            own: VecDeque::new(),
            writing: None,
            next: None,
            effects: VecDeque::new(),
        }
    }
}

impl<P: Peer> Hosted<P>
where
    P::Message: Serialize + DeserializeOwned,
    P::State: Serialize + DeserializeOwned,
    P::Request: Request,
    P::Decision: Decision,
{
    /// Lets the peer take a step, and the steps that follow from what it tells itself.
    fn step(&mut self, now: Now, step: impl FnOnce(&mut P, &mut Context<'_, P>)) {
        let mut out = Vec::new();
        step(
            &mut self.peer,
            &mut Context::new(now, &mut self.rng, &mut out),
        );
        self.carry_out(now, out);
        while let Some(message) = self.own.pop_front() {
            let mut out = Vec::new();
            let mut cx = Context::new(now, &mut self.rng, &mut out);
            self.peer.handle_message(&mut cx, self.me, message);
            self.carry_out(now, out);
        }
    }

    fn carry_out(&mut self, now: Now, actions: Vec<ActionOf<P>>) {
        for action in actions {
            match action {
                Action::Send { to, message } if to == self.me => self.own.push_back(message),
                Action::Send { to, message } => {
                    if let Ok(bytes) = serde_json::to_vec(&message) {
                        self.effects.push_back(Effect::Send(to, bytes));
                    }
                }
                Action::Persist { state, mut then } => {
                    if planted(Bug::LeaveBeforePersist) {
                        self.carry_out(now, std::mem::take(&mut then));
                    }
                    let mut all = self.next.take().map(|(_, then)| then).unwrap_or_default();
                    all.extend(then);
                    self.next = Some((state, all));
                    self.write();
                }
                Action::SetTimer { timer, after_us } => {
                    self.timers.insert(timer, now.mono_us + after_us);
                }
                Action::CancelTimer(timer) => {
                    self.timers.remove(&timer);
                }
                Action::Decide(decision) => self.effects.push_back(Effect::Tell(decision.fact())),
            }
        }
    }

    fn write(&mut self) {
        if self.writing.is_none()
            && let Some((state, then)) = self.next.take()
            && let Ok(bytes) = serde_json::to_vec(&state)
        {
            self.writing = Some(then);
            self.effects.push_back(Effect::Persist(bytes));
        }
    }
}

impl<P> Seat for Hosted<P>
where
    P: Peer + Send,
    P::Message: Serialize + DeserializeOwned + Send,
    P::Timer: Send,
    P::State: Serialize + DeserializeOwned + Send,
    P::Request: Request,
    P::Decision: Decision + Send,
{
    fn handle_start(&mut self, now: Now, recovered: Option<&[u8]>) -> Result<(), String> {
        let state = match recovered {
            None => None,
            Some(bytes) => Some(serde_json::from_slice(bytes).map_err(|why| why.to_string())?),
        };
        self.step(now, |peer, cx| peer.handle_start(cx, state));
        Ok(())
    }

    fn handle_message(&mut self, now: Now, from: PeerId, bytes: &[u8]) -> Result<(), String> {
        let message = serde_json::from_slice(bytes).map_err(|why| why.to_string())?;
        self.step(now, |peer, cx| peer.handle_message(cx, from, message));
        Ok(())
    }

    fn handle_ask(&mut self, now: Now, ask: Ask) {
        if let Some(request) = P::Request::of(ask) {
            self.step(now, |peer, cx| peer.handle_request(cx, request));
        }
    }

    fn handle_persisted(&mut self, now: Now) {
        let then = self.writing.take().unwrap_or_default();
        self.step(now, |_, cx| {
            then.into_iter().for_each(|action| cx.act(action))
        });
        self.write();
    }

    fn handle_tick(&mut self, now: Now) {
        // One that is set anew meanwhile is due later.
        let due: Vec<P::Timer> = (self.timers.iter())
            .filter(|(_, at_us)| **at_us <= now.mono_us)
            .map(|(timer, _)| *timer)
            .collect();
        for timer in due {
            if self.timers.remove(&timer).is_some() {
                self.step(now, |peer, cx| peer.handle_timer(cx, timer));
            }
        }
    }

    fn deadline_us(&self) -> u64 {
        self.timers.values().copied().min().unwrap_or(u64::MAX)
    }

    fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    fn role(&self) -> &'static str {
        self.peer.role()
    }

    fn waits_for(&self) -> Vec<PeerId> {
        self.peer.waits_for()
    }
}
