//! What may be asked of the machine, what it answers, and the byte form of units.

use super::model::{self, Branch, Kind, Op, Options};
use super::{BRANCH_ID_BYTES_MAX, BRANCHES_MAX, GID_BYTES_MAX, GLOBAL_BYTES_MAX};
use base::{DecodeError, Origin, Reader, Writer};
use bytes::Bytes;
use std::fmt;

/// One replicated unit: a command and who waits for its answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unit {
    /// Who waits; the default when nobody does, and then no reply is told.
    pub origin: Origin,
    /// What to do.
    pub command: Command,
}

/// A step of a saga or a message.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Step {
    /// Whom to call.
    pub action: String,
    /// Whom to call to undo it; empty: nobody. Of a saga only.
    pub compensate: String,
    /// The body of both calls.
    pub data: Bytes,
}

/// A transaction as its initiator describes it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewGlobal {
    /// Its name, given by its initiator.
    pub gid: String,
    /// How it gets to its end.
    pub kind: Kind,
    /// What is wanted of the coordinator.
    pub options: Options,
    /// Kept as it is.
    pub custom_data: String,
    /// Of each step of a saga those that must be done before; may be shorter than the steps.
    pub before: Vec<Vec<u32>>,
    /// How long a message's actions are held back, in milliseconds.
    pub delay_ms: u64,
    /// Whom to ask whether a message is to be sent.
    pub query_prepared: String,
    /// What to do; of a saga and a message.
    pub steps: Vec<Step>,
}

/// What came of a call.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The service says that it is done.
    Done,
    /// The service says that it cannot be done, and that nothing was.
    Refused(String),
    /// The service says that it is under way.
    Ongoing,
    /// Anything else: no answer, or one that is none of those.
    Unknown(String),
}

/// Everything that the log may hold for this machine.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Command {
    /// Begins one whose initiator will say later whether it shall be. Asking again is harmless.
    Prepare(NewGlobal),
    /// It shall be; a saga or a message begins with this. Asking again is harmless.
    Submit(NewGlobal),
    /// It shall not be.
    Abort {
        /// Which.
        gid: String,
        /// Which kind its initiator takes it for.
        kind: Kind,
        /// Why.
        reason: String,
    },
    /// Adds a branch of TCC or XA: the operation of each of its two ends.
    Register {
        /// Of which transaction.
        gid: String,
        /// Which kind its initiator takes it for.
        kind: Kind,
        /// The branch.
        branch: String,
        /// Whom to call if it shall be.
        forward: String,
        /// Whom to call if it shall not.
        backward: String,
        /// The body of both.
        data: Bytes,
    },
    /// A call has ended.
    Called {
        /// Of which transaction.
        gid: String,
        /// Which of its operations, from 0.
        index: u32,
        /// Which call of it.
        attempt: u64,
        /// How it ended.
        outcome: Outcome,
    },
    /// The leader found times come. Those for which they have not are left alone.
    Wake {
        /// Which transactions.
        gids: Vec<String>,
    },
    /// A person gives it up as it is: nothing more is called.
    Stop {
        /// Which.
        gid: String,
    },
    /// A person wants what waits, or is parked, to be tried at once.
    Resume {
        /// Which.
        gid: String,
    },
}

/// A command that was carried out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reply {
    /// It was, now or before.
    Done,
}

/// Why a command was refused; it has changed nothing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// There is no such transaction.
    NotFound(String),
    /// It is not in a state, or not of a kind, for that.
    Conflict(String),
    /// It cannot be meant.
    Invalid(String),
    /// There are as many under way as there may be.
    TooMany,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound(gid) => write!(f, "there is no transaction {gid:?}"),
            Self::Conflict(why) | Self::Invalid(why) => f.write_str(why),
            Self::TooMany => write!(f, "too many transactions are under way; try again later"),
        }
    }
}

/// Says what is wrong with a gid, if anything.
pub(super) fn check_gid(gid: &str) -> Result<(), String> {
    if gid.is_empty() || gid.len() > GID_BYTES_MAX || gid.chars().any(char::is_control) {
        return Err(format!(
            "a gid has from 1 to {GID_BYTES_MAX} bytes, none of them a control character"
        ));
    }
    Ok(())
}

pub(super) fn check_branch_id(id: &str) -> Result<(), String> {
    if id.is_empty() || id.len() > BRANCH_ID_BYTES_MAX || id.chars().any(char::is_control) {
        return Err(format!(
            "a branch_id has from 1 to {BRANCH_ID_BYTES_MAX} bytes, none of them a control character"
        ));
    }
    Ok(())
}

/// Says what is wrong with a URL that is to be called, if anything.
pub(super) fn check_url(url: &str) -> Result<(), String> {
    let Some(rest) = url.strip_prefix("http://") else {
        return Err(format!(
            "{url:?} cannot be called: only http:// URLs can (https and gRPC are not there)"
        ));
    };
    let is_plain = |c: char| c.is_ascii_graphic();
    if rest.is_empty() || rest.starts_with(['/', '?', '#', ':']) || !url.chars().all(is_plain) {
        return Err(format!("{url:?} is not of the form http://host:port/path"));
    }
    Ok(())
}

fn check_optional_url(url: &str) -> Result<(), String> {
    if url.is_empty() {
        Ok(())
    } else {
        check_url(url)
    }
}

impl NewGlobal {
    /// Says what is wrong with it, and what to do. `submits`: it is submitted, not prepared.
    pub fn check(&self, submits: bool) -> Result<(), String> {
        check_gid(&self.gid)?;
        let kind = self.kind.name();
        match self.kind {
            Kind::Saga if !submits => return Err("a saga is submitted, not prepared".into()),
            Kind::Saga if self.steps.is_empty() => {
                return Err("a saga has at least one step".into());
            }
            Kind::Message if !submits && self.query_prepared.is_empty() => {
                return Err("a message that is prepared needs query_prepared: whom to ask whether it is to be sent".into());
            }
            Kind::Tcc | Kind::Xa if !self.steps.is_empty() => {
                return Err(format!("{kind} has no steps: register its branches"));
            }
            _ => {}
        }
        let operations = if self.kind == Kind::Saga { 2 } else { 1 };
        if self.steps.len() * operations > BRANCHES_MAX {
            return Err(format!(
                "{kind}: at most {} steps",
                BRANCHES_MAX / operations
            ));
        }
        check_optional_url(&self.query_prepared)?;
        for (at, step) in self.steps.iter().enumerate() {
            let place = |why: String| format!("step {}: {why}", at + 1);
            if step.action.is_empty() && step.compensate.is_empty() {
                return Err(place("it names nothing to call".into()));
            }
            check_optional_url(&step.action).map_err(place)?;
            check_optional_url(&step.compensate).map_err(place)?;
        }
        self.check_order()?;
        let mut w = Writer::new();
        self.encode_into(&mut w);
        if w.len() > GLOBAL_BYTES_MAX {
            return Err(format!(
                "a transaction has at most {GLOBAL_BYTES_MAX} bytes, this one has {}",
                w.len()
            ));
        }
        Ok(())
    }

    /// Steps that wait for each other in a circle would never run.
    fn check_order(&self) -> Result<(), String> {
        let steps = self.steps.len();
        if self.before.len() > steps || self.before.iter().flatten().any(|b| *b as usize >= steps) {
            return Err(format!(
                "orders names a step beyond the last: steps count from 0 to {}",
                steps.max(1) - 1
            ));
        }
        let mut is_done = vec![false; steps];
        loop {
            let may_run = |i: usize| {
                let is_next = self.options.concurrent || i == 0 || is_done[i - 1];
                let before = self.before.get(i).into_iter().flatten();
                is_next && before.into_iter().all(|b| is_done[*b as usize])
            };
            match (0..steps).find(|i| !is_done[*i] && may_run(*i)) {
                Some(next) => is_done[next] = true,
                None if is_done.contains(&false) => {
                    return Err(
                        "orders has steps wait for each other (or, without concurrent, for later ones): they would never run".into(),
                    );
                }
                None => return Ok(()),
            }
        }
    }

    /// Its operations.
    pub(super) fn branches(&self) -> Vec<Branch> {
        let mut branches = Vec::new();
        if self.kind == Kind::Message && !self.query_prepared.is_empty() {
            branches.push(Branch::new(
                "00".into(),
                Op::Check,
                self.query_prepared.clone(),
                Bytes::new(),
            ));
        }
        for (at, step) in self.steps.iter().enumerate() {
            let id = format!("{:02}", at + 1);
            if self.kind == Kind::Saga {
                let (id, url) = (id.clone(), step.compensate.clone());
                branches.push(Branch::new(id, Op::Compensate, url, step.data.clone()));
            }
            branches.push(Branch::new(
                id,
                Op::Action,
                step.action.clone(),
                step.data.clone(),
            ));
        }
        branches
    }

    fn encode_into(&self, w: &mut Writer) {
        w.str(&self.gid).u8(self.kind as u8);
        self.options.encode_into(w);
        w.str(&self.custom_data);
        model::encode_before(&self.before, w);
        w.u64(self.delay_ms).str(&self.query_prepared);
        w.u32(self.steps.len() as u32);
        for step in &self.steps {
            w.str(&step.action).str(&step.compensate).bytes(&step.data);
        }
    }

    fn decode_from(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            gid: r.str()?.to_owned(),
            kind: model::decode_kind(r)?,
            options: Options::decode_from(r)?,
            custom_data: r.str()?.to_owned(),
            before: model::decode_before(r)?,
            delay_ms: r.u64()?,
            query_prepared: r.str()?.to_owned(),
            steps: (0..r.count(12)?)
                .map(|_| {
                    Ok(Step {
                        action: r.str()?.to_owned(),
                        compensate: r.str()?.to_owned(),
                        data: Bytes::copy_from_slice(r.bytes()?),
                    })
                })
                .collect::<Result<_, DecodeError>>()?,
        })
    }
}

impl Command {
    /// True for what adds data, and is refused where disks are nearly full.
    pub fn adds(&self) -> bool {
        matches!(
            self,
            Self::Prepare(_) | Self::Submit(_) | Self::Register { .. }
        )
    }
}

impl Unit {
    /// The byte form, as it stands in the log.
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        self.encode_into(&mut w);
        w.into_vec()
    }

    /// Appends the byte form.
    pub fn encode_into(&self, w: &mut Writer) {
        self.origin.encode_into(w);
        match &self.command {
            Command::Prepare(new) => {
                w.u8(1);
                new.encode_into(w);
            }
            Command::Submit(new) => {
                w.u8(2);
                new.encode_into(w);
            }
            Command::Abort { gid, kind, reason } => {
                w.u8(3).str(gid).u8(*kind as u8).str(reason);
            }
            Command::Register {
                gid,
                kind,
                branch,
                forward,
                backward,
                data,
            } => {
                w.u8(4).str(gid).u8(*kind as u8).str(branch);
                w.str(forward).str(backward).bytes(data);
            }
            Command::Called {
                gid,
                index,
                attempt,
                outcome,
            } => {
                w.u8(5).str(gid).u32(*index).u64(*attempt);
                match outcome {
                    Outcome::Done => w.u8(1),
                    Outcome::Refused(words) => w.u8(2).str(words),
                    Outcome::Ongoing => w.u8(3),
                    Outcome::Unknown(words) => w.u8(4).str(words),
                };
            }
            Command::Wake { gids } => {
                w.u8(6).u32(gids.len() as u32);
                for gid in gids {
                    w.str(gid);
                }
            }
            Command::Stop { gid } => {
                w.u8(7).str(gid);
            }
            Command::Resume { gid } => {
                w.u8(8).str(gid);
            }
        }
    }

    /// Reads the byte form; everything must be consumed.
    pub fn decode(bytes: &Bytes) -> Result<Self, DecodeError> {
        let r = &mut Reader::new(bytes);
        let origin = Origin::decode_from(r)?;
        let command = match r.u8()? {
            1 => Command::Prepare(NewGlobal::decode_from(r)?),
            2 => Command::Submit(NewGlobal::decode_from(r)?),
            3 => Command::Abort {
                gid: r.str()?.to_owned(),
                kind: model::decode_kind(r)?,
                reason: r.str()?.to_owned(),
            },
            4 => Command::Register {
                gid: r.str()?.to_owned(),
                kind: model::decode_kind(r)?,
                branch: r.str()?.to_owned(),
                forward: r.str()?.to_owned(),
                backward: r.str()?.to_owned(),
                data: Bytes::copy_from_slice(r.bytes()?),
            },
            5 => Command::Called {
                gid: r.str()?.to_owned(),
                index: r.u32()?,
                attempt: r.u64()?,
                outcome: match r.u8()? {
                    1 => Outcome::Done,
                    2 => Outcome::Refused(r.str()?.to_owned()),
                    3 => Outcome::Ongoing,
                    4 => Outcome::Unknown(r.str()?.to_owned()),
                    _ => return Err(DecodeError::Invalid("outcome of a call")),
                },
            },
            6 => Command::Wake {
                gids: (0..r.count(4)?)
                    .map(|_| Ok(r.str()?.to_owned()))
                    .collect::<Result<_, DecodeError>>()?,
            },
            7 => Command::Stop {
                gid: r.str()?.to_owned(),
            },
            8 => Command::Resume {
                gid: r.str()?.to_owned(),
            },
            _ => return Err(DecodeError::Invalid("command about global transactions")),
        };
        r.finish()?;
        Ok(Self { origin, command })
    }
}
