//! What the log holds for the cache, and what applying it tells.

use super::{Command, CommandId, Reply};
use base::{DecodeError, Origin, Reader, Writer};
use bytes::Bytes;

/// One replicated unit: seen whole or not at all by everybody else.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unit {
    /// Who waits for the answer; the default when nobody does.
    pub origin: Origin,
    /// Number of the database (Redis' SELECT), which stands in front of every key.
    pub database: u32,
    /// What to do.
    pub body: Body,
}

/// What a unit does.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Body {
    /// One command.
    One(Command),
    /// Redis' EXEC: if no watched key was touched, all commands in order; one that is refused does not
    /// stop those behind it. Reads may be among them.
    Exec {
        /// What must not have been touched.
        watched: Vec<Watched>,
        /// What to do then.
        commands: Vec<Command>,
    },
    /// Proposed by a leader: removes keys whose time ran out, each if it still ends at exactly that time.
    Expire(Vec<Ended>),
}

/// A key that a transaction depends on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Watched {
    /// Its database.
    pub database: u32,
    /// The key.
    pub key: Bytes,
    /// `Cache::version` when the client began to watch.
    pub version: u64,
}

/// A key whose time ran out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ended {
    /// Its database.
    pub database: u32,
    /// The key.
    pub key: Bytes,
    /// When it was to end, Unix milliseconds.
    pub at_ms: i64,
}

/// What applying tells the outside, in order.
#[derive(Clone, PartialEq, Debug)]
pub enum Output {
    /// The answer to a unit; `Exec` answers with an array, or `NilArray` when it was not carried out.
    Reply {
        /// Who waits.
        origin: Origin,
        /// The answer.
        reply: Reply,
    },
    /// A list or sorted set has elements that it did not have: somebody may wait for one.
    Ready {
        /// The database.
        database: u32,
        /// The key.
        key: Bytes,
    },
}

const ONE: u8 = 1;
const EXEC: u8 = 2;
const EXPIRE: u8 = 3;

impl Unit {
    /// Appends the byte form.
    pub fn encode_into(&self, w: &mut Writer) {
        self.origin.encode_into(w);
        w.u32(self.database);
        match &self.body {
            Body::One(command) => {
                w.u8(ONE);
                encode_command(w, command);
            }
            Body::Exec { watched, commands } => {
                w.u8(EXEC).u32(watched.len() as u32);
                for watched in watched {
                    w.u32(watched.database).bytes(&watched.key);
                    w.u64(watched.version);
                }
                w.u32(commands.len() as u32);
                for command in commands {
                    encode_command(w, command);
                }
            }
            Body::Expire(ended) => {
                w.u8(EXPIRE).u32(ended.len() as u32);
                for ended in ended {
                    w.u32(ended.database).bytes(&ended.key).i64(ended.at_ms);
                }
            }
        }
    }

    /// Length of the byte form for one command, and about that for the rest.
    pub fn encoded_bytes(&self) -> usize {
        let command = |command: &Command| -> usize {
            6 + command.args.iter().map(|arg| 4 + arg.len()).sum::<usize>()
        };
        23 + match &self.body {
            Body::One(one) => command(one),
            Body::Exec { watched, commands } => {
                64 * watched.len() + commands.iter().map(command).sum::<usize>()
            }
            Body::Expire(ended) => 64 * ended.len(),
        }
    }

    /// The byte form.
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        self.encode_into(&mut w);
        w.into_vec()
    }

    /// Of the byte form of one command: its database and its first argument, the key as a rule. `None` for
    /// anything else.
    pub fn key_of(bytes: &[u8]) -> Option<(u32, &[u8])> {
        let r = &mut Reader::new(bytes);
        Origin::decode_from(r).ok()?;
        let database = r.u32().ok()?;
        if r.u8().ok()? != ONE {
            return None;
        }
        let _ = r.u16().ok()?;
        if r.u32().ok()? == 0 {
            return None;
        }
        Some((database, r.bytes().ok()?))
    }

    /// Reads the byte form. Keys and arguments are slices of `source`, which lives as long as they do.
    pub fn decode(source: &Bytes) -> Result<Self, DecodeError> {
        let r = &mut Reader::new(source);
        let origin = Origin::decode_from(r)?;
        let database = r.u32()?;
        let body = match r.u8()? {
            ONE => Body::One(decode_command(source, r)?),
            EXEC => Body::Exec {
                watched: (0..r.count(16)?)
                    .map(|_| {
                        Ok(Watched {
                            database: r.u32()?,
                            key: source.slice_ref(r.bytes()?),
                            version: r.u64()?,
                        })
                    })
                    .collect::<Result<_, DecodeError>>()?,
                commands: (0..r.count(6)?)
                    .map(|_| decode_command(source, r))
                    .collect::<Result<_, DecodeError>>()?,
            },
            EXPIRE => Body::Expire(
                (0..r.count(16)?)
                    .map(|_| {
                        Ok(Ended {
                            database: r.u32()?,
                            key: source.slice_ref(r.bytes()?),
                            at_ms: r.i64()?,
                        })
                    })
                    .collect::<Result<_, DecodeError>>()?,
            ),
            _ => return Err(DecodeError::Invalid("kind of a cache unit")),
        };
        r.finish()?;
        Ok(Self {
            origin,
            database,
            body,
        })
    }
}

fn encode_command(w: &mut Writer, command: &Command) {
    w.u16(command.id as u16).u32(command.args.len() as u32);
    for arg in &command.args {
        w.bytes(arg);
    }
}

fn decode_command(source: &Bytes, r: &mut Reader<'_>) -> Result<Command, DecodeError> {
    let id = CommandId::from_number(r.u16()?).ok_or(DecodeError::Invalid("command number"))?;
    let count = r.count(4)?;
    let mut args = Vec::with_capacity(count);
    for _ in 0..count {
        args.push(source.slice_ref(r.bytes()?));
    }
    Ok(Command { id, args })
}
