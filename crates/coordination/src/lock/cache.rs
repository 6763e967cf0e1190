//! A lock on a cache: a key with an expiry that one contender sets, and a queue so that they come in turn.
//!
//! Source: the documentation of Redis' SET ("Patterns") for a key set only where it is not there, with an owner and an
//! expiry, and removed only by its owner; the queue is the notes' ("a process that releases lets the first of the
//! queue in").
//!
//! Keys, all in one slot by the hash tag, for the lock `L`: `lock:{L}` the owner; `lock:{L}:fence` counts holders, and
//! counts in the very unit that sets the owner; `lock:{L}:queue` the waiters, the first in front; `lock:{L}:waits:ID`
//! says that a waiter lives, and expires; `lock:{L}:wake:ID` a list that a waiter blocks on. Every change is one MULTI
//! behind a WATCH of what it was decided by. Whoever releases wakes the first waiter that lives, and nobody else.
//!
//! Cost: three round trips to enter, two each third of the lease to stay, three to leave. A holder that died is noticed
//! when its lease is over, by the first waiter, who does not sleep longer than that.
//!
//! What holds, and what does not: the key is the holder's until its expiry, by the server's clock. A holder that is
//! stopped for longer believes that it holds what is another's by then: **held twice**, and only the fence tells them
//! apart. On a pool whose acknowledged writes can be lost, an owner can be lost, too, and a fence be given out again.

use super::State;

/// Waiters of one lock; further ones are refused.
pub const QUEUE_MAX: usize = 10_000;

/// Least and most that a lease may last, in milliseconds.
pub const TTL_MS: std::ops::RangeInclusive<u64> = 300..=3_600_000;

/// Before it asks again what was refused for now.
const RETRY_MS: u64 = 100;

/// Refusals that say: not now.
const TEMPORARY: [&str; 6] = [
    "TRYAGAIN",
    "CLUSTERDOWN",
    "LOADING",
    "MISCONF",
    "BUSY",
    "EXECABORT",
];

/// A command with its arguments.
pub type Command = Vec<Vec<u8>>;

/// Commands to send one behind the other; all are answered before the next batch.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Batch {
    /// The commands.
    pub commands: Vec<Command>,
    /// How long the last of them may wait on purpose, in milliseconds.
    pub wait_ms: u64,
}

/// One answer.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Reply {
    /// Nothing; of an EXEC, that it was not carried out.
    Nil,
    /// A status.
    Done,
    /// A number.
    Number(i64),
    /// Bytes.
    Text(Vec<u8>),
    /// Several.
    Many(Vec<Reply>),
    /// A refusal; begins with its code.
    Refused(String),
}

/// The keys of a lock.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Keys {
    base: String,
}

impl Keys {
    /// Of the lock `name`, which is not empty.
    pub fn new(name: &str) -> Self {
        Self {
            base: format!("lock:{{{name}}}"),
        }
    }

    /// Whose it is.
    pub fn owner(&self) -> String {
        self.base.clone()
    }

    /// The last fence that was given out.
    pub fn fence(&self) -> String {
        format!("{}:fence", self.base)
    }

    /// Who waits.
    pub fn queue(&self) -> String {
        format!("{}:queue", self.base)
    }

    /// There while the waiter `id` lives.
    pub fn waits(&self, id: &str) -> String {
        format!("{}:waits:{id}", self.base)
    }

    /// What the waiter `id` blocks on.
    pub fn wake(&self, id: &str) -> String {
        format!("{}:wake:{id}", self.base)
    }
}

/// What is under way.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Step {
    /// Whose is it, until when, and who waits?
    Look,
    /// Which of the waiters live?
    Ask(Seen),
    Take,
    Join,
    Wait,
    /// The key turned out to be ours already, from a take whose answer was lost, and its fence with it.
    TakeAnew,
    /// Is the key still ours?
    Check,
    Extend,
    Leave,
    /// Holds it, with nothing to do before the next extension.
    Idle,
    End,
}

/// What a look showed.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Seen {
    owner: Option<String>,
    /// Of the owner's lease; negative for none.
    left_ms: i64,
    queue: Vec<String>,
}

/// One contender for a lock.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Contender {
    keys: Keys,
    id: String,
    ttl_ms: u64,
    /// Stops waiting then.
    give_up_ms: u64,
    step: Step,
    /// When what `step` asks was handed out, until it is answered.
    asked_ms: Option<u64>,
    not_before_ms: u64,
    state: State,
    is_leaving: bool,
    lease_until_ms: u64,
    /// For the step that changes something.
    seen: Seen,
    dead: Vec<String>,
    /// Waiters in front that live.
    ahead: usize,
}

impl Contender {
    /// A contender for the lock `name` (not empty). `id` must be unique among all contenders ever. Its lease lasts
    /// `ttl_ms` ([`TTL_MS`]), and it stops waiting at `give_up_ms` of the monotonic clock, though not before it has looked once.
    pub fn new(name: &str, id: &str, ttl_ms: u64, give_up_ms: u64) -> Self {
        Self {
            keys: Keys::new(name),
            id: id.to_owned(),
            ttl_ms,
            give_up_ms,
            step: Step::Look,
            asked_ms: None,
            not_before_ms: 0,
            state: State::Waiting,
            is_leaving: false,
            lease_until_ms: 0,
            seen: Seen {
                owner: None,
                left_ms: 0,
                queue: Vec::new(),
            },
            dead: Vec::new(),
            ahead: 0,
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

    /// What to send now, if anything. Whoever drives it comes again within some tens of milliseconds.
    pub fn poll_request(&mut self, now_ms: u64) -> Option<Batch> {
        if matches!(self.state, State::Held(_)) && now_ms >= self.lease_until_ms {
            self.end(State::Lost("its lease ran out before it was extended"));
        }
        if self.asked_ms.is_some() || now_ms < self.not_before_ms {
            return None;
        }
        if self.step == Step::Idle {
            self.step = if self.is_leaving {
                Step::Look
            } else {
                Step::Check
            };
        }
        let batch = self.batch(now_ms)?;
        self.asked_ms = Some(now_ms);
        Some(batch)
    }

    fn batch(&self, now_ms: u64) -> Option<Batch> {
        let keys = &self.keys;
        let (owner, queue, fence) = (keys.owner(), keys.queue(), keys.fence());
        let (waits, wake) = (keys.waits(&self.id), keys.wake(&self.id));
        let ttl = self.ttl_ms.to_string();
        let mut wait_ms = 0;
        let mut commands = Vec::new();
        let mut say = |words: &[&str]| {
            commands.push(words.iter().map(|word| word.as_bytes().to_vec()).collect());
        };
        match &self.step {
            Step::Look => {
                say(&["WATCH", &owner, &queue]);
                say(&["GET", &owner]);
                say(&["PTTL", &owner]);
                say(&["LRANGE", &queue, "0", "-1"]);
            }
            Step::Ask(seen) => {
                let others: Vec<String> = seen.queue.iter().map(|id| keys.waits(id)).collect();
                let words = ["MGET"]
                    .into_iter()
                    .chain(others.iter().map(String::as_str));
                say(&words.collect::<Vec<_>>());
            }
            Step::Take => {
                say(&["MULTI"]);
                say(&["SET", &owner, &self.id, "NX", "PX", &ttl]);
                say(&["INCR", &fence]);
                for id in self.dead.iter().chain([&self.id]) {
                    say(&["LREM", &queue, "0", id]);
                }
                say(&["DEL", &waits, &wake]);
                say(&["EXEC"]);
            }
            Step::Join => {
                say(&["MULTI"]);
                self.dead
                    .iter()
                    .for_each(|id| say(&["LREM", &queue, "0", id]));
                say(&["RPUSH", &queue, &self.id]);
                say(&["SET", &waits, "1", "PX", &ttl]);
                say(&["EXEC"]);
            }
            Step::Wait => {
                wait_ms = self.nap_ms(now_ms);
                say(&["UNWATCH"]);
                say(&["SET", &waits, "1", "PX", &ttl]);
                let seconds = format!("{}.{:03}", wait_ms / 1_000, wait_ms % 1_000);
                say(&["BLPOP", &wake, &seconds]);
            }
            Step::TakeAnew => {
                say(&["MULTI"]);
                say(&["SET", &owner, &self.id, "PX", &ttl]);
                say(&["INCR", &fence]);
                say(&["EXEC"]);
            }
            Step::Check => {
                say(&["WATCH", &owner]);
                say(&["GET", &owner]);
            }
            Step::Extend => {
                say(&["MULTI"]);
                say(&["PEXPIRE", &owner, &ttl]);
                say(&["EXEC"]);
            }
            Step::Leave => {
                say(&["MULTI"]);
                let is_ours = self.seen.owner.as_ref() == Some(&self.id);
                if is_ours {
                    say(&["DEL", &owner]);
                }
                for id in self.dead.iter().chain([&self.id]) {
                    say(&["LREM", &queue, "0", id]);
                }
                say(&["DEL", &waits, &wake]);
                if let Some(next) = self.next().filter(|_| is_ours || self.seen.owner.is_none()) {
                    let wake = keys.wake(next);
                    say(&["RPUSH", &wake, "1"]);
                    say(&["PEXPIRE", &wake, &ttl]);
                }
                say(&["EXEC"]);
            }
            Step::Idle | Step::End => return None,
        }
        Some(Batch { commands, wait_ms })
    }

    /// The first waiter that lives, oneself apart.
    fn next(&self) -> Option<&String> {
        let lives = |id: &&String| !self.dead.contains(*id) && **id != self.id;
        self.seen.queue.iter().find(lives)
    }

    /// How long to sleep unless woken: the first in line until the lock expires, the others until they have to
    /// say that they live.
    fn nap_ms(&self, now_ms: u64) -> u64 {
        let refresh_ms = self.ttl_ms / 3;
        let nap_ms = match (self.ahead, u64::try_from(self.seen.left_ms)) {
            (0, Ok(left_ms)) => refresh_ms.min(left_ms + 1),
            _ => refresh_ms,
        };
        nap_ms.min(self.give_up_ms.saturating_sub(now_ms)).max(1)
    }

    /// Takes the answers to what was sent last, one for each command. An error is what the server refuses and
    /// would refuse again.
    pub fn handle_replies(&mut self, now_ms: u64, replies: Vec<Reply>) -> Result<(), String> {
        let Some(asked_ms) = self.asked_ms.take() else {
            return Ok(());
        };
        if let Some(why) = replies.iter().find_map(refusal) {
            let code = why.split(' ').next().unwrap_or_default();
            if !TEMPORARY.contains(&code) {
                return Err(why.to_owned());
            }
            self.not_before_ms = now_ms + RETRY_MS;
            self.look_again();
            return Ok(());
        }
        let mut replies = replies;
        let last = replies.pop().ok_or("no answer came")?;
        match (self.step.clone(), last) {
            (Step::Look, Reply::Many(queue)) => {
                let [_, owner, Reply::Number(left_ms)] = &replies[..] else {
                    return Err(format!("answers that cannot be: {replies:?}"));
                };
                let seen = Seen {
                    owner: text(owner),
                    left_ms: *left_ms,
                    queue: queue.iter().filter_map(text).collect(),
                };
                match seen.queue.is_empty() {
                    true => self.decide(now_ms, seen, &[])?,
                    false => self.step = Step::Ask(seen),
                }
            }
            (Step::Ask(seen), Reply::Many(alive)) => self.decide(now_ms, seen, &alive)?,
            (Step::Take | Step::TakeAnew, Reply::Many(done)) => match done[..] {
                [Reply::Done, Reply::Number(fence), ..] => self.hold(asked_ms, fence),
                _ => self.look_again(),
            },
            (Step::Check, owner) => match text(&owner) {
                Some(owner) if owner == self.id => self.step = Step::Extend,
                _ => self.end(State::Lost("somebody else has its key, or nobody")),
            },
            (Step::Extend, Reply::Many(done)) => match (&done[..], &self.state) {
                ([Reply::Number(1)], State::Held(fence)) => self.hold(asked_ms, *fence as i64),
                _ => self.step = Step::Check,
            },
            // Its key was touched between the look and the change.
            (Step::Extend, Reply::Nil) => self.step = Step::Check,
            (Step::Leave, Reply::Many(_)) => self.end(State::Released),
            (Step::Join | Step::Wait | Step::Take | Step::TakeAnew | Step::Leave, _) => {
                self.look_again();
            }
            (Step::Idle | Step::End, _) => {}
            (step, last) => return Err(format!("{last:?} as the answer to {step:?}")),
        }
        Ok(())
    }

    /// The connection broke and there is another: what was asked may have been done or not.
    pub fn handle_reconnected(&mut self) {
        self.asked_ms = None;
        self.look_again();
    }

    /// Gives the lock, or the place in the queue, back. Over once the state says so.
    pub fn release(&mut self) {
        self.is_leaving = true;
        self.not_before_ms = 0;
    }

    fn look_again(&mut self) {
        self.step = match (&self.step, &self.state) {
            (Step::End, _) => Step::End,
            (_, State::Held(_)) if !self.is_leaving => Step::Check,
            _ => Step::Look,
        };
    }

    /// What to do about what was seen; `alive` says of each in the queue whether it lives.
    fn decide(&mut self, now_ms: u64, seen: Seen, alive: &[Reply]) -> Result<(), String> {
        let lives = |(id, alive): (&String, &Reply)| *id == self.id || *alive != Reply::Nil;
        let waiters = || seen.queue.iter().zip(alive);
        let place = seen.queue.iter().position(|id| *id == self.id);
        let ahead = waiters().take(place.unwrap_or(usize::MAX));
        self.ahead = ahead.filter(|it| lives(*it)).count();
        self.dead = waiters()
            .filter(|it| !lives(*it))
            .map(|(id, _)| id.clone())
            .collect();
        let is_ours = seen.owner.as_ref() == Some(&self.id);
        self.step = match &seen.owner {
            _ if self.is_leaving => Step::Leave,
            Some(_) if is_ours => Step::TakeAnew,
            None if self.ahead == 0 => Step::Take,
            _ if now_ms >= self.give_up_ms => {
                self.is_leaving = true;
                Step::Leave
            }
            _ if place.is_some() => Step::Wait,
            _ if seen.queue.len() >= QUEUE_MAX => {
                return Err(format!("{QUEUE_MAX} wait for this lock already"));
            }
            _ => Step::Join,
        };
        self.seen = seen;
        Ok(())
    }

    fn hold(&mut self, asked_ms: u64, fence: i64) {
        self.state = State::Held(fence.unsigned_abs());
        // Clocks may run at different speeds.
        self.lease_until_ms = asked_ms + self.ttl_ms - self.ttl_ms / 20;
        self.not_before_ms = asked_ms + self.ttl_ms / 3;
        self.step = Step::Idle;
        if self.is_leaving {
            self.not_before_ms = 0;
        }
    }

    fn end(&mut self, state: State) {
        self.state = match state {
            State::Lost(_) if self.is_leaving => State::Released,
            state => state,
        };
        self.step = Step::End;
    }
}

fn refusal(reply: &Reply) -> Option<&str> {
    match reply {
        Reply::Refused(why) => Some(why),
        Reply::Many(replies) => replies.iter().find_map(refusal),
        _ => None,
    }
}

fn text(reply: &Reply) -> Option<String> {
    match reply {
        Reply::Text(bytes) => String::from_utf8(bytes.clone()).ok(),
        _ => None,
    }
}

#[cfg(test)]
#[path = "cache_tests.rs"]
mod tests;
