//! A global transaction, its branches, and their byte forms.

use super::{RETRY_INTERVAL_MS, RETRY_INTERVAL_MS_MAX, TIMEOUT_MS};
use base::{DecodeError, Reader, Writer};
use bytes::Bytes;

/// How a transaction gets to the same end everywhere.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum Kind {
    /// Actions, and compensations backwards.
    Saga = 1,
    /// Try, then confirm or cancel.
    Tcc = 2,
    /// A half message, a check-back, then actions.
    Message = 3,
    /// Two-phase commit of databases.
    Xa = 4,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Saga, Self::Tcc, Self::Message, Self::Xa];

    /// Its name in the interface.
    pub fn name(self) -> &'static str {
        match self {
            Self::Saga => "saga",
            Self::Tcc => "tcc",
            Self::Message => "msg",
            Self::Xa => "xa",
        }
    }

    /// The one of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// How far a transaction is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum Status {
    /// Begun; its initiator has not said whether it shall be.
    Prepared = 1,
    /// It shall be.
    Submitted = 2,
    /// It shall not be, and is being undone.
    Aborting = 3,
    /// It is, everywhere.
    Succeeded = 4,
    /// It is not, anywhere.
    Failed = 5,
}

impl Status {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Prepared,
        Self::Submitted,
        Self::Aborting,
        Self::Succeeded,
        Self::Failed,
    ];

    /// Its name in the interface.
    pub fn name(self) -> &'static str {
        match self {
            Self::Prepared => "prepared",
            Self::Submitted => "submitted",
            Self::Aborting => "aborting",
            Self::Succeeded => "succeed",
            Self::Failed => "failed",
        }
    }

    /// The one of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.name() == name)
    }

    /// True for what changes no more.
    pub fn is_ended(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed)
    }
}

/// What a service is asked to do for a branch.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum Op {
    /// A step of a saga, or what a message asks for.
    Action = 1,
    /// Undo a step of a saga.
    Compensate = 2,
    /// Use what was reserved.
    Confirm = 3,
    /// Give back what was reserved.
    Cancel = 4,
    /// Commit what was prepared.
    Commit = 5,
    /// Roll back what was prepared.
    Rollback = 6,
    /// Say whether the local transaction of a message's sender was committed.
    Check = 7,
}

impl Op {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Action,
        Self::Compensate,
        Self::Confirm,
        Self::Cancel,
        Self::Commit,
        Self::Rollback,
        Self::Check,
    ];

    /// Its name in the interface.
    pub fn name(self) -> &'static str {
        match self {
            Self::Action => "action",
            Self::Compensate => "compensate",
            Self::Confirm => "confirm",
            Self::Cancel => "cancel",
            Self::Commit => "commit",
            Self::Rollback => "rollback",
            Self::Check => "msg",
        }
    }
}

/// What a transaction's initiator wants of its coordinator.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Options {
    /// Whoever submits waits for the end.
    pub wait_result: bool,
    /// Branches are called at the same time, as far as their order allows.
    pub concurrent: bool,
    /// After so many milliseconds it is given up, or asked about; 0: as is usual for its kind.
    pub timeout_ms: u64,
    /// How long a service may take to answer, in milliseconds; 0: as is usual.
    pub request_timeout_ms: u64,
    /// The first pause before a repetition, in milliseconds; 0: as is usual.
    pub retry_interval_ms: u64,
    /// Repetitions of a call; 0: as is usual.
    pub retry_limit: u32,
    /// Sent with each call.
    pub headers: Vec<(String, String)>,
}

/// What came of a branch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Known {
    /// It is not known yet.
    Open = 0,
    /// It was done.
    Done = 1,
    /// The service refuses.
    Refused = 2,
}

/// Whether a branch is to be called.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Call {
    /// Not now.
    No,
    /// Now.
    Wanted {
        /// Under this number, which no other call of the transaction has.
        attempt: u64,
        /// Since when, Unix milliseconds.
        since_ms: i64,
    },
    /// Again, later.
    Waits {
        /// When, Unix milliseconds.
        until_ms: i64,
    },
}

/// One operation of one branch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Branch {
    /// The branch; operations of the same one share it.
    pub id: String,
    /// What is asked.
    pub op: Op,
    /// Of whom; empty: there is nothing to do.
    pub url: String,
    /// The body.
    pub data: Bytes,
    /// What came of it.
    pub result: Known,
    /// Whether it is to be called.
    pub call: Call,
    /// How often it was wanted: more than never, and it may have run.
    pub attempts: u32,
    /// Calls in a row of which nothing is known.
    pub misses: u32,
    /// What was heard last when it was not that it is done.
    pub words: String,
    /// When its result was known, Unix milliseconds; 0: it is not.
    pub ended_ms: i64,
}

/// A global transaction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Global {
    /// How it gets to its end.
    pub kind: Kind,
    /// How far it is.
    pub status: Status,
    /// What its initiator wants.
    pub options: Options,
    /// Its initiator's words for itself, and the order of its steps as it was given.
    pub custom_data: String,
    /// Of each step of a saga those that must be done before.
    pub before: Vec<Vec<u32>>,
    /// A message's actions are not called before, Unix milliseconds; 0: at once.
    pub hold_until_ms: i64,
    /// Operations. Of a saga, the compensation of each step stands before its action.
    pub branches: Vec<Branch>,
    /// Unix milliseconds.
    pub created_ms: i64,
    /// Unix milliseconds.
    pub updated_ms: i64,
    /// Unix milliseconds; 0: it has not ended.
    pub ended_ms: i64,
    /// Why it was given up.
    pub reason: String,
    /// Why nothing more is done until a person says so.
    pub parked: Option<String>,
    /// The last number of a call.
    pub attempt: u64,
    /// How often it was changed.
    pub version: u64,
}

impl Global {
    /// The pause after so many calls in a row of which nothing is known, in milliseconds.
    pub fn pause_ms(&self, misses: u32) -> i64 {
        let usual = match self.options.timeout_ms {
            0 => RETRY_INTERVAL_MS,
            timeout_ms => timeout_ms.min(RETRY_INTERVAL_MS),
        };
        let first = match self.options.retry_interval_ms {
            0 => usual,
            own => own,
        };
        let doublings = misses.saturating_sub(1).min(20);
        let pause = first.saturating_mul(1 << doublings);
        // A pause that was asked for is not cut.
        pause.min(RETRY_INTERVAL_MS_MAX.max(first)) as i64
    }

    /// When it is given up, or asked about, unless that is decided; Unix milliseconds.
    pub fn deadline_ms(&self) -> Option<i64> {
        let timeout_ms = match (self.kind, self.status, self.options.timeout_ms) {
            (Kind::Saga, Status::Submitted, 0) => return None,
            (Kind::Saga, Status::Submitted, own) => own,
            (Kind::Tcc | Kind::Xa | Kind::Message, Status::Prepared, 0) => TIMEOUT_MS,
            (Kind::Tcc | Kind::Xa | Kind::Message, Status::Prepared, own) => own,
            _ => return None,
        };
        Some(self.created_ms.saturating_add_unsigned(timeout_ms))
    }

    /// When there is something to do that no result brings about; Unix milliseconds.
    pub fn next_ms(&self) -> Option<i64> {
        if self.status.is_ended() {
            return Some(self.ended_ms + super::KEEP_MS);
        }
        // A message's check-back has its own pauses once it was made.
        let is_asked = self.kind == Kind::Message && self.branches.iter().any(is_called_check);
        let deadline = self.deadline_ms().filter(|_| !is_asked);
        if self.parked.is_some() {
            return deadline;
        }
        let held = (self.kind == Kind::Message && self.status == Status::Submitted)
            .then_some(self.hold_until_ms)
            .filter(|until_ms| *until_ms > 0);
        let waits = self.branches.iter().filter_map(|branch| match branch.call {
            Call::Waits { until_ms } => Some(until_ms),
            Call::No | Call::Wanted { .. } => None,
        });
        waits.chain(deadline).chain(held).min()
    }

    /// The byte form.
    pub fn encode_into(&self, w: &mut Writer) {
        w.u8(self.kind as u8).u8(self.status as u8);
        self.options.encode_into(w);
        w.str(&self.custom_data);
        encode_before(&self.before, w);
        w.i64(self.hold_until_ms);
        w.u32(self.branches.len() as u32);
        self.branches.iter().for_each(|b| b.encode_into(w));
        w.i64(self.created_ms).i64(self.updated_ms);
        w.i64(self.ended_ms).str(&self.reason);
        w.bool(self.parked.is_some());
        w.str(self.parked.as_deref().unwrap_or_default());
        w.u64(self.attempt).u64(self.version);
    }

    /// Reads the byte form.
    pub fn decode_from(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            kind: decode_kind(r)?,
            status: one_of(&Status::ALL, r.u8()?, "status of a transaction")?,
            options: Options::decode_from(r)?,
            custom_data: r.str()?.to_owned(),
            before: decode_before(r)?,
            hold_until_ms: r.i64()?,
            branches: (0..r.count(40)?)
                .map(|_| Branch::decode_from(r))
                .collect::<Result<_, _>>()?,
            created_ms: r.i64()?,
            updated_ms: r.i64()?,
            ended_ms: r.i64()?,
            reason: r.str()?.to_owned(),
            parked: {
                let is_parked = r.bool()?;
                let words = r.str()?.to_owned();
                is_parked.then_some(words)
            },
            attempt: r.u64()?,
            version: r.u64()?,
        })
    }
}

fn is_called_check(branch: &Branch) -> bool {
    branch.op == Op::Check && branch.attempts > 0
}

fn one_of<T: Copy>(all: &[T], number: u8, what: &'static str) -> Result<T, DecodeError> {
    let at = usize::from(number).checked_sub(1);
    at.and_then(|at| all.get(at).copied())
        .ok_or(DecodeError::Invalid(what))
}

/// Numbers of kinds, states and operations count from 1 in the order of their lists.
pub(super) fn decode_kind(r: &mut Reader<'_>) -> Result<Kind, DecodeError> {
    one_of(&Kind::ALL, r.u8()?, "kind of a transaction")
}

pub(super) fn decode_op(r: &mut Reader<'_>) -> Result<Op, DecodeError> {
    one_of(&Op::ALL, r.u8()?, "operation of a branch")
}

pub(super) fn encode_before(before: &[Vec<u32>], w: &mut Writer) {
    w.u32(before.len() as u32);
    for steps in before {
        w.u32(steps.len() as u32);
        for step in steps {
            w.u32(*step);
        }
    }
}

pub(super) fn decode_before(r: &mut Reader<'_>) -> Result<Vec<Vec<u32>>, DecodeError> {
    (0..r.count(4)?)
        .map(|_| (0..r.count(4)?).map(|_| r.u32()).collect())
        .collect()
}

impl Options {
    /// Appends the byte form.
    pub fn encode_into(&self, w: &mut Writer) {
        w.bool(self.wait_result).bool(self.concurrent);
        w.u64(self.timeout_ms).u64(self.request_timeout_ms);
        w.u64(self.retry_interval_ms).u32(self.retry_limit);
        w.u32(self.headers.len() as u32);
        for (name, value) in &self.headers {
            w.str(name).str(value);
        }
    }

    /// Reads the byte form.
    pub fn decode_from(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            wait_result: r.bool()?,
            concurrent: r.bool()?,
            timeout_ms: r.u64()?,
            request_timeout_ms: r.u64()?,
            retry_interval_ms: r.u64()?,
            retry_limit: r.u32()?,
            headers: (0..r.count(8)?)
                .map(|_| Ok((r.str()?.to_owned(), r.str()?.to_owned())))
                .collect::<Result<_, DecodeError>>()?,
        })
    }
}

impl Branch {
    /// One that was not called yet.
    pub fn new(id: String, op: Op, url: String, data: Bytes) -> Self {
        Self {
            id,
            op,
            url,
            data,
            result: Known::Open,
            call: Call::No,
            attempts: 0,
            misses: 0,
            words: String::new(),
            ended_ms: 0,
        }
    }

    fn encode_into(&self, w: &mut Writer) {
        w.str(&self.id).u8(self.op as u8).str(&self.url);
        w.bytes(&self.data).u8(self.result as u8);
        match self.call {
            Call::No => w.u8(0),
            Call::Wanted { attempt, since_ms } => w.u8(1).u64(attempt).i64(since_ms),
            Call::Waits { until_ms } => w.u8(2).i64(until_ms),
        };
        w.u32(self.attempts).u32(self.misses);
        w.str(&self.words).i64(self.ended_ms);
    }

    fn decode_from(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            id: r.str()?.to_owned(),
            op: decode_op(r)?,
            url: r.str()?.to_owned(),
            data: Bytes::copy_from_slice(r.bytes()?),
            result: match r.u8()? {
                0 => Known::Open,
                1 => Known::Done,
                2 => Known::Refused,
                _ => return Err(DecodeError::Invalid("result of a branch")),
            },
            call: match r.u8()? {
                0 => Call::No,
                1 => Call::Wanted {
                    attempt: r.u64()?,
                    since_ms: r.i64()?,
                },
                2 => Call::Waits { until_ms: r.i64()? },
                _ => return Err(DecodeError::Invalid("call of a branch")),
            },
            attempts: r.u32()?,
            misses: r.u32()?,
            words: r.str()?.to_owned(),
            ended_ms: r.i64()?,
        })
    }
}
