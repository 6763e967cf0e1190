//! A node's part in a group: its seat, the users on this node, and the log of what was decided.
//!
//! Users of one node stand in a line: the peer wants to enter on behalf of the first, and enters anew for each. The
//! stamp of an entry is its fence: whoever enters later, on any node, has heard of it, so its fence is greater. What
//! a member has heard must not be less after a restart: its clock is written with each state, and before a user is
//! told that it is inside.
//! Messages leave at most once in [`PACE_US`], together: a token that nobody wants must not keep a processor busy.

#[cfg(test)]
mod tests;

use crate::event::{Event, What};
use crate::protocols::{Kind, Protocol};
use crate::seat::{Ask, Effect, Fact, Seat};
use base::peer::{PeerId, others};
use base::{Now, Reader, Rng, Writer};
use cluster::clocks::logical::Hybrid;
use std::collections::{BTreeMap, VecDeque};

/// Messages leave so far apart, in microseconds.
pub const PACE_US: u64 = 5_000;
/// Largest message and largest state, in bytes: a peer that outgrows it falls silent.
pub const BYTES_MAX: usize = 1 << 20;
/// Events that are kept for people; the oldest half goes first.
pub const EVENTS_MAX: usize = 40_000;
/// Values that a log may hold.
pub const VALUES_MAX: usize = 40_000;
/// Users that wait on a node for one group.
pub const WAITERS_MAX: usize = 1_000;
/// Who is inside says so this often.
const INSIDE_US: u64 = 1_000_000;
/// No clock counts so far within a millisecond.
const COUNT_MAX: u32 = 1 << 30;
/// Bits of a fence that count within a millisecond.
const FENCE_BITS: u32 = 20;
/// Begins a state with a clock in front; no JSON begins so.
const WITH_CLOCK: u8 = 1;

/// What a member wants done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Out {
    /// Send to another member.
    Send(PeerId, Vec<u8>),
    /// Make durable in place of what was, then call [`Member::handle_persisted`].
    Persist(Vec<u8>),
    /// Add to the log on disk.
    Log(String),
    /// The log was halved: write all of [`Member::events`] anew.
    LogAnew,
    /// Answer a user.
    Answer(u64, Answer),
}

/// What a user is told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// It is inside, with this fence.
    Locked(u64),
    /// Its value has this place.
    Appended(u64),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Lock {
    Outside,
    /// The peer wants to enter.
    Asked,
    /// It has; this user is told this fence once that is durable.
    Entering(u64, u64),
    /// With this fence.
    Inside(u64),
}

/// A member.
#[derive(Debug)]
pub struct Member {
    kind: Kind,
    me: PeerId,
    nodes: usize,
    seat: Box<dyn Seat>,
    clock: Hybrid,
    lock: Lock,
    waiters: VecDeque<u64>,
    appends: BTreeMap<u64, Vec<u64>>,
    leader: Option<(PeerId, u64)>,
    decided: BTreeMap<u64, u64>,
    places: BTreeMap<u64, u64>,
    refused: bool,
    events: Vec<Event>,
    /// What waits for the next departure.
    leaving: Vec<(PeerId, Vec<u8>)>,
    left_us: u64,
    inside_us: u64,
    fault: Option<String>,
    /// The peer's last state, and what a write of it is for: the peer, or a user that has entered.
    state: Option<Vec<u8>>,
    to_write: Write,
    /// What the write under way is for.
    writing: Option<Write>,
    out: VecDeque<Out>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Write {
    peer: bool,
    entry: bool,
}

/// What one member sends another, behind the sender's clock.
enum Word<'a> {
    /// The peer's own.
    Peer(&'a [u8]),
    /// A user wants this value appended.
    Append(u64),
}

impl Member {
    /// Peer `me` of `nodes` that run `protocol`, with the events that an earlier life wrote down.
    pub fn new(
        protocol: &Protocol,
        me: PeerId,
        nodes: usize,
        rng: Rng,
        events: Vec<Event>,
    ) -> Self {
        // Stamps must not go back over a restart, whatever the wall clock did.
        let last = events.last().map(|event| Hybrid {
            wall_ms: event.ms,
            count: event.n,
        });
        Self {
            kind: protocol.kind,
            me,
            nodes,
            seat: protocol.seat(me, nodes, rng),
            clock: last.unwrap_or_default(),
            lock: Lock::Outside,
            waiters: VecDeque::new(),
            appends: BTreeMap::new(),
            leader: None,
            decided: BTreeMap::new(),
            places: BTreeMap::new(),
            refused: false,
            events,
            leaving: Vec::new(),
            left_us: 0,
            inside_us: 0,
            fault: None,
            state: None,
            to_write: Write::default(),
            writing: None,
            out: VecDeque::new(),
        }
    }

    // --- what happens ---

    /// It starts, with what survived the last crash, if anything was ever persisted.
    pub fn handle_start(&mut self, now: Now, recovered: Option<&[u8]>) {
        let (clock, state) = recovered.map_or((Hybrid::default(), None), split);
        self.clock = self.clock.max(clock);
        self.state = state.map(<[u8]>::to_vec);
        self.note(now, What::Started);
        if let Err(why) = self.seat.handle_start(now, state) {
            self.fail(format!("its state on disk cannot be read: {why}"));
        }
        self.take_effects(now);
    }

    /// Another member's bytes came.
    ///
    /// # Errors
    /// They cannot be read, and were passed over.
    pub fn handle_bytes(&mut self, now: Now, from: PeerId, bytes: &[u8]) -> Result<(), String> {
        if self.fault.is_some() {
            return Ok(());
        }
        let (sent, word) = read(bytes)?;
        self.clock.receive(now.wall_ms, sent);
        match word {
            Word::Peer(message) => self.seat.handle_message(now, from, message)?,
            Word::Append(value) => self.seat.handle_ask(now, Ask::Append(value)),
        }
        self.take_effects(now);
        Ok(())
    }

    /// What was handed out last is durable.
    pub fn handle_persisted(&mut self, now: Now) {
        if self.fault.is_some() {
            return;
        }
        let done = self.writing.take().unwrap_or_default();
        if let (true, Lock::Entering(token, fence)) = (done.entry, self.lock) {
            self.lock = Lock::Inside(fence);
            (self.out).push_back(Out::Answer(token, Answer::Locked(fence)));
        }
        if done.peer {
            self.seat.handle_persisted(now);
            self.take_effects(now);
        }
        self.write();
    }

    /// Time passed.
    pub fn handle_tick(&mut self, now: Now) {
        if self.fault.is_some() {
            return;
        }
        if self.seat.deadline_us() <= now.mono_us {
            self.seat.handle_tick(now);
            self.take_effects(now);
        }
        if matches!(self.lock, Lock::Inside(_)) && now.mono_us >= self.inside_us + INSIDE_US {
            self.inside_us = now.mono_us;
            self.note(now, What::Inside);
        }
        self.depart(now);
    }

    /// It cannot go on: what it should remember cannot be written or read. It says nothing any more.
    pub fn fail(&mut self, why: String) {
        self.fault.get_or_insert(why);
        self.leaving.clear();
        self.out.retain(|out| matches!(out, Out::Answer(..)));
    }

    // --- what users ask ---

    /// A user wants to enter; [`Answer::Locked`] follows.
    ///
    /// # Errors
    /// Why that cannot be asked.
    pub fn lock(&mut self, now: Now, token: u64) -> Result<(), String> {
        self.check(Kind::Lock, "lock")?;
        if self.waiters.len() >= WAITERS_MAX {
            return Err(format!("{WAITERS_MAX} users wait here already"));
        }
        self.waiters.push_back(token);
        self.acquire(now);
        Ok(())
    }

    /// A user leaves; with a fence, only if that is the one that it entered with.
    ///
    /// # Errors
    /// Why that cannot be asked.
    pub fn unlock(&mut self, now: Now, fence: Option<u64>) -> Result<(), String> {
        self.check(Kind::Lock, "unlock")?;
        match (self.lock, fence) {
            (Lock::Inside(held), Some(fence)) if held != fence => Err(format!(
                "that lock is not held any more: this node is inside with fence {held}"
            )),
            (Lock::Inside(_), _) => {
                self.release(now);
                self.acquire(now);
                Ok(())
            }
            _ => Err("nobody on this node is inside".into()),
        }
    }

    /// A user wants `value` in the log; [`Answer::Appended`] follows. A value has one place: who asks for it again
    /// is told that.
    ///
    /// # Errors
    /// Why that cannot be asked.
    pub fn append(&mut self, now: Now, token: u64, value: u64) -> Result<(), String> {
        let to: Vec<PeerId> = match self.kind {
            Kind::Log { by_all: true } => (1..=self.nodes).collect(),
            Kind::Log { by_all: false } => vec![self.me],
            Kind::LeaderLog => match self.leader {
                Some((leader, _)) => vec![leader],
                None => return Err("no leader is known here now; try again".into()),
            },
            Kind::Lock | Kind::Leader => {
                return Err(format!(
                    "this group has no log: it is for {}",
                    self.kind.name()
                ));
            }
        };
        self.check(self.kind, "append")?;
        if value == 0 {
            return Err("values are numbers from 1 on".into());
        }
        if self.decided.len() >= VALUES_MAX {
            return Err(format!(
                "the log holds {VALUES_MAX} values, and takes no more"
            ));
        }
        if let Some(place) = self.places.get(&value) {
            self.out
                .push_back(Out::Answer(token, Answer::Appended(*place)));
            return Ok(());
        }
        self.appends.entry(value).or_default().push(token);
        self.note(now, What::Asked { value });
        for to in to {
            if to == self.me {
                self.seat.handle_ask(now, Ask::Append(value));
            } else {
                self.leave(now, to, &Word::Append(value));
            }
        }
        self.take_effects(now);
        Ok(())
    }

    /// A user does not wait any more. If it is let in all the same, it leaves at once.
    pub fn cancel(&mut self, token: u64) {
        self.waiters.retain(|waiter| *waiter != token);
        self.appends.retain(|_, tokens| {
            tokens.retain(|other| *other != token);
            !tokens.is_empty()
        });
    }

    fn check(&self, kind: Kind, what: &str) -> Result<(), String> {
        if self.kind != kind {
            let name = self.kind.name();
            return Err(format!(
                "{what} is nothing for this group: it is for {name}"
            ));
        }
        if self.refused {
            return Err("the protocol cannot work among so few members".into());
        }
        match &self.fault {
            Some(why) => Err(format!("this member is silent: {why}")),
            None => Ok(()),
        }
    }

    fn acquire(&mut self, now: Now) {
        if self.lock == Lock::Outside && !self.waiters.is_empty() {
            self.lock = Lock::Asked;
            self.note(now, What::Acquire);
            self.seat.handle_ask(now, Ask::Acquire);
            self.take_effects(now);
        }
    }

    fn release(&mut self, now: Now) {
        self.lock = Lock::Outside;
        self.note(now, What::Release);
        self.seat.handle_ask(now, Ask::Release);
        self.take_effects(now);
    }

    // --- what the seat does ---

    fn take_effects(&mut self, now: Now) {
        while let Some(effect) = self.seat.poll_effect() {
            match effect {
                Effect::Send(_, bytes) | Effect::Persist(bytes) if bytes.len() > BYTES_MAX => {
                    let why = format!(
                        "it has grown beyond {BYTES_MAX} bytes, which is the most that a group may remember or tell"
                    );
                    return self.fail(why);
                }
                Effect::Send(to, bytes) => self.leave(now, to, &Word::Peer(&bytes)),
                Effect::Persist(bytes) => {
                    self.state = Some(bytes);
                    self.to_write.peer = true;
                    self.write();
                }
                Effect::Tell(fact) => self.told(now, fact),
            }
        }
        self.depart(now);
    }

    fn told(&mut self, now: Now, fact: Fact) {
        match fact {
            Fact::Entered => {
                self.note(now, What::Entered);
                let fence = fence(self.clock);
                self.inside_us = now.mono_us;
                match (self.lock, self.waiters.pop_front()) {
                    (Lock::Asked, Some(token)) => {
                        self.lock = Lock::Entering(token, fence);
                        self.to_write.entry = true;
                        self.write();
                    }
                    // Whoever wanted it is gone.
                    (Lock::Asked, None) => self.release(now),
                    // It was inside, and the protocol had let others in meanwhile.
                    (_, waiter) => waiter.into_iter().for_each(|w| self.waiters.push_front(w)),
                }
            }
            Fact::Leader(leader, term) => {
                self.leader = Some((leader, term));
                self.note(now, What::Leader { leader, term });
            }
            Fact::Leaderless => {
                self.leader = None;
                self.note(now, What::Leaderless);
            }
            Fact::Decided(position, value) => {
                if self.decided.insert(position, value) == Some(value) {
                    return;
                }
                self.places.entry(value).or_insert(position);
                self.note(now, What::Decided { position, value });
                for token in self.appends.remove(&value).unwrap_or_default() {
                    self.out
                        .push_back(Out::Answer(token, Answer::Appended(position)));
                }
            }
            Fact::Refused => {
                self.refused = true;
                self.note(now, What::Refused);
            }
        }
    }

    /// Writes the state and the clock, unless a write is under way.
    fn write(&mut self) {
        if self.writing.is_none() && self.to_write != Write::default() {
            self.writing = Some(std::mem::take(&mut self.to_write));
            let bytes = join(self.clock, self.state.as_deref());
            self.out.push_back(Out::Persist(bytes));
        }
    }

    fn note(&mut self, now: Now, what: What) {
        let event = Event::new(self.clock.tick(now.wall_ms), self.me, what);
        self.events.push(event);
        if self.events.len() > EVENTS_MAX {
            self.events.drain(..EVENTS_MAX / 2);
            self.out.push_back(Out::LogAnew);
        } else {
            self.out.push_back(Out::Log(event.line()));
        }
    }

    fn leave(&mut self, now: Now, to: PeerId, word: &Word<'_>) {
        if (1..=self.nodes).contains(&to) && to != self.me {
            let sent = self.clock.tick(now.wall_ms);
            self.leaving.push((to, write(sent, word)));
        }
    }

    fn depart(&mut self, now: Now) {
        if !self.leaving.is_empty() && now.mono_us >= self.left_us + PACE_US {
            self.left_us = now.mono_us;
            let all = self.leaving.drain(..);
            self.out.extend(all.map(|(to, bytes)| Out::Send(to, bytes)));
        }
    }

    // --- what there is to tell ---

    /// What is to be done next.
    pub fn poll(&mut self) -> Option<Out> {
        self.out.pop_front()
    }

    /// When it wants [`Self::handle_tick`], in monotonic microseconds.
    pub fn deadline_us(&self) -> u64 {
        if self.fault.is_some() {
            return u64::MAX;
        }
        let departs = match self.leaving.is_empty() {
            true => u64::MAX,
            false => self.left_us + PACE_US,
        };
        let says = match self.lock {
            Lock::Inside(_) => self.inside_us + INSIDE_US,
            _ => u64::MAX,
        };
        self.seat.deadline_us().min(departs).min(says)
    }

    /// Its number.
    pub fn me(&self) -> PeerId {
        self.me
    }

    /// One word for what it is doing now; empty when there is nothing to tell.
    pub fn role(&self) -> &'static str {
        match self.fault {
            Some(_) => "silent",
            None => self.seat.role(),
        }
    }

    /// Whose answers it cannot go on without, as far as it knows.
    pub fn waits_for(&self) -> Vec<PeerId> {
        self.seat.waits_for()
    }

    /// The fence of the user that is inside here.
    pub fn fence(&self) -> Option<u64> {
        match self.lock {
            Lock::Inside(fence) => Some(fence),
            _ => None,
        }
    }

    /// Users that wait here.
    pub fn waiters(&self) -> usize {
        self.waiters.len()
    }

    /// Who leads, and in which term.
    pub fn leader(&self) -> Option<(PeerId, u64)> {
        self.leader
    }

    /// The log, by place.
    pub fn decided(&self) -> &BTreeMap<u64, u64> {
        &self.decided
    }

    /// What was written down, as far as it is kept, and that it was read now.
    pub fn read_log(&mut self, now: Now) -> Vec<Event> {
        let read = Event::new(self.clock.tick(now.wall_ms), self.me, What::Read);
        self.events.iter().copied().chain([read]).collect()
    }

    /// What was written down, as far as it is kept.
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// Why it is silent.
    pub fn fault(&self) -> Option<&str> {
        self.fault.as_deref()
    }

    /// All other members.
    pub fn others(&self) -> impl Iterator<Item = PeerId> + use<> {
        others(self.me, self.nodes)
    }
}

fn fence(at: Hybrid) -> u64 {
    ((at.wall_ms.max(0) as u64) << FENCE_BITS) + u64::from(at.count)
}

/// A state as it is handed out: behind a clock.
fn join(clock: Hybrid, state: Option<&[u8]>) -> Vec<u8> {
    let mut w = Writer::new();
    w.u8(WITH_CLOCK).i64(clock.wall_ms).u32(clock.count);
    w.raw(state.unwrap_or_default());
    w.into_vec()
}

/// The clock and the state; what begins otherwise is a state that was written without a clock.
fn split(bytes: &[u8]) -> (Hybrid, Option<&[u8]>) {
    let mut r = Reader::new(bytes);
    let mut read = || -> Result<(Hybrid, &[u8]), base::DecodeError> {
        match r.u8()? {
            WITH_CLOCK => {}
            _ => return Err(base::DecodeError::Invalid("state of a group")),
        }
        let clock = Hybrid {
            wall_ms: r.i64()?,
            count: r.u32()?,
        };
        Ok((clock, r.rest()))
    };
    match read() {
        Ok((clock, state)) => (clock, (!state.is_empty()).then_some(state)),
        Err(_) => (Hybrid::default(), Some(bytes)),
    }
}

fn write(sent: Hybrid, word: &Word<'_>) -> Vec<u8> {
    let mut w = Writer::new();
    w.i64(sent.wall_ms).u32(sent.count);
    match word {
        Word::Peer(message) => w.u8(1).raw(message),
        Word::Append(value) => w.u8(2).u64(*value),
    };
    w.into_vec()
}

fn read(bytes: &[u8]) -> Result<(Hybrid, Word<'_>), String> {
    let mut r = Reader::new(bytes);
    let mut read = || {
        let sent = Hybrid {
            wall_ms: r.i64()?,
            count: r.u32()?,
        };
        if sent.count > COUNT_MAX {
            return Err(base::DecodeError::Invalid("clock of a group"));
        }
        let word = match r.u8()? {
            1 => Word::Peer(r.rest()),
            2 => Word::Append(r.u64()?),
            _ => return Err(base::DecodeError::Invalid("word of a group")),
        };
        Ok((sent, word))
    };
    read().map_err(|why| why.to_string())
}
