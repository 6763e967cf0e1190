//! What may be asked of the services, what is told, and the byte form.

use super::model::{CheckSpec, Instance, Status, decode_status};
use base::{DecodeError, NodeId, Origin, Reader, Writer};
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

/// Everything that the log may hold for this machine.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Command {
    /// Adds an instance with its checks, or puts them in place of what has its id. What is there already, as it
    /// is asked for, stays as it is: its node, and what its checks say.
    Register {
        /// The instance.
        instance: Instance,
        /// Its checks.
        checks: Vec<CheckSpec>,
        /// Removes those checks of it that are not among these.
        replace_checks: bool,
    },
    /// Removes an instance and its checks.
    Deregister {
        /// Its id.
        id: String,
    },
    /// Adds a check, or puts it in place of the one with its id.
    RegisterCheck {
        /// The node that it is registered at.
        node: NodeId,
        /// The check.
        check: CheckSpec,
    },
    /// Removes a check.
    DeregisterCheck {
        /// Its id.
        id: String,
    },
    /// Tells a check with a time-out.
    Tell {
        /// Its id.
        id: String,
        /// What it says from now on.
        status: Status,
        /// In words; what is too long is cut.
        output: String,
    },
    /// A check was not told in time, as the leader saw it.
    Expire {
        /// The check's number.
        number: u64,
        /// How often it had been told when its time ran out. One that was told since has not expired.
        beats: u64,
    },
    /// What the node that runs a check has seen.
    Observe {
        /// The check's number.
        number: u64,
        /// In which epoch the node was to run it. What one saw that is not to run it any more does not count.
        epoch: u32,
        /// What the check says.
        status: Status,
        /// In words; what is too long is cut.
        output: String,
    },
    /// Another node is to run a check, as the leader decided.
    Assign {
        /// The check's number.
        number: u64,
        /// The epoch in which that was decided.
        epoch: u32,
        /// Which node.
        runner: NodeId,
    },
    /// Removes the instance of a check that was critical for too long, as the leader saw it.
    Reap {
        /// The check's number.
        number: u64,
        /// Since when it was critical, Unix milliseconds.
        since_ms: i64,
    },
}

/// What was done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reply {
    /// It is so now.
    Done,
}

/// Why nothing was done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// A field does not keep its limits.
    Invalid(&'static str),
    /// There is no instance of this id.
    UnknownInstance(String),
    /// There is no check of this id.
    UnknownCheck(String),
    /// This check is not told, it looks.
    NotTtl(String),
    /// There is no room for more.
    TooMany,
    /// What the command leans on is not so any more.
    Outdated,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(what) => f.write_str(what),
            Self::UnknownInstance(id) => {
                write!(f, "Unknown service ID {id:?}: register it first")
            }
            Self::UnknownCheck(id) => write!(f, "Unknown check ID {id:?}: register it first"),
            Self::NotTtl(id) => {
                write!(f, "check {id:?} has no TTL: a node looks, it is not told")
            }
            Self::TooMany => f.write_str("there are too many services; deregister some"),
            Self::Outdated => f.write_str("what this leaned on is not so any more"),
        }
    }
}

/// What applying tells the outside.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Output {
    /// The answer to a command.
    Reply {
        /// Who waits for it.
        origin: Origin,
        /// The answer.
        reply: Result<Reply, Refusal>,
    },
    /// The instances of a service changed, or what their checks say.
    Changed {
        /// Its name.
        service: String,
        /// True when instances came, went or changed; false for checks only.
        instances: bool,
    },
    /// A check came, went, was told, or changed in any other way.
    Check {
        /// Its number.
        number: u64,
    },
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
            Command::Register {
                instance,
                checks,
                replace_checks,
            } => {
                w.u8(1).bool(*replace_checks);
                instance.encode_into(w);
                w.u32(checks.len() as u32);
                for check in checks {
                    check.encode_into(w);
                }
            }
            Command::Deregister { id } => {
                w.u8(2).str(id);
            }
            Command::RegisterCheck { node, check } => {
                w.u8(3).u64(node.0);
                check.encode_into(w);
            }
            Command::DeregisterCheck { id } => {
                w.u8(4).str(id);
            }
            Command::Tell { id, status, output } => {
                w.u8(5).str(id).u8(*status as u8).str(output);
            }
            Command::Expire { number, beats } => {
                w.u8(6).u64(*number).u64(*beats);
            }
            Command::Observe {
                number,
                epoch,
                status,
                output,
            } => {
                w.u8(7).u64(*number).u32(*epoch);
                w.u8(*status as u8).str(output);
            }
            Command::Assign {
                number,
                epoch,
                runner,
            } => {
                w.u8(8).u64(*number).u32(*epoch).u64(runner.0);
            }
            Command::Reap { number, since_ms } => {
                w.u8(9).u64(*number).i64(*since_ms);
            }
        }
    }

    /// Reads the byte form; everything must be consumed.
    pub fn decode(bytes: &Bytes) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        let origin = Origin::decode_from(&mut r)?;
        let command = match r.u8()? {
            1 => Command::Register {
                replace_checks: r.bool()?,
                instance: Instance::decode_from(&mut r)?,
                checks: (0..r.count(30)?)
                    .map(|_| CheckSpec::decode_from(&mut r))
                    .collect::<Result<_, DecodeError>>()?,
            },
            2 => Command::Deregister {
                id: r.str()?.to_owned(),
            },
            3 => Command::RegisterCheck {
                node: NodeId(r.u64()?),
                check: CheckSpec::decode_from(&mut r)?,
            },
            4 => Command::DeregisterCheck {
                id: r.str()?.to_owned(),
            },
            5 => Command::Tell {
                id: r.str()?.to_owned(),
                status: decode_status(&mut r)?,
                output: r.str()?.to_owned(),
            },
            6 => Command::Expire {
                number: r.u64()?,
                beats: r.u64()?,
            },
            7 => Command::Observe {
                number: r.u64()?,
                epoch: r.u32()?,
                status: decode_status(&mut r)?,
                output: r.str()?.to_owned(),
            },
            8 => Command::Assign {
                number: r.u64()?,
                epoch: r.u32()?,
                runner: NodeId(r.u64()?),
            },
            9 => Command::Reap {
                number: r.u64()?,
                since_ms: r.i64()?,
            },
            _ => return Err(DecodeError::Invalid("services command")),
        };
        r.finish()?;
        Ok(Self { origin, command })
    }
}
