//! What may be asked of the services, what is told, and the byte form.

use base::{DecodeError, NodeId, Origin, Reader, Writer};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::fmt;

/// Bytes of the name of a service, of an id, of an address, and of a tag.
pub const NAME_BYTES_MAX: usize = 253;
/// Tags of an instance.
pub const TAGS_MAX: usize = 64;
/// Keys of an instance's metadata.
pub const META_MAX: usize = 64;
/// Bytes of such a key.
pub const META_KEY_BYTES_MAX: usize = 128;
/// Bytes of its value.
pub const META_VALUE_BYTES_MAX: usize = 512;
/// The greatest weight.
pub const WEIGHT_MAX: u32 = 65_535;

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
    /// Adds an instance, or puts it in place of what its node registered under its id.
    Register(Instance),
    /// Removes an instance.
    Deregister {
        /// The node that it was registered at.
        node: NodeId,
        /// Its id.
        id: String,
    },
}

/// One that offers a service.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Instance {
    /// The node that it was registered at.
    pub node: NodeId,
    /// That node's address, for instances without one of their own.
    pub node_address: String,
    /// What it is known by on its node.
    pub id: String,
    /// The service that it offers.
    pub service: String,
    /// Its address, or empty: the node's.
    pub address: String,
    /// Its port, or 0.
    pub port: u16,
    /// Labels that clients may ask for.
    pub tags: Vec<String>,
    /// Anything else.
    pub meta: BTreeMap<String, String>,
    /// Its share of requests while it passes its checks, and while it only warns; at most [`WEIGHT_MAX`].
    pub weights: (u32, u32),
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
    /// No such instance was registered at that node.
    UnknownInstance,
    /// There is no room for more instances.
    TooMany,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(what) => f.write_str(what),
            Self::UnknownInstance => f.write_str("no such service is registered at this node"),
            Self::TooMany => f.write_str("there are too many services; deregister some"),
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
    /// The instances of a service changed.
    Changed {
        /// Its name.
        service: String,
    },
}

impl Instance {
    /// Names the first field that does not keep its limits.
    pub fn check(&self) -> Result<(), Refusal> {
        let is_name = |name: &str| !name.is_empty() && name.len() <= NAME_BYTES_MAX;
        let is_pair = |(key, value): (&String, &String)| {
            key.len() <= META_KEY_BYTES_MAX && value.len() <= META_VALUE_BYTES_MAX
        };
        let rules = [
            (
                is_name(&self.service),
                "a service's name has 1 to 253 bytes",
            ),
            (is_name(&self.id), "a service's id has 1 to 253 bytes"),
            (
                self.address.len() <= NAME_BYTES_MAX && self.node_address.len() <= NAME_BYTES_MAX,
                "an address has at most 253 bytes",
            ),
            (
                self.tags.len() <= TAGS_MAX && self.tags.iter().all(|tag| is_name(tag)),
                "a service has at most 64 tags of 1 to 253 bytes",
            ),
            (
                self.meta.len() <= META_MAX && self.meta.iter().all(is_pair),
                "metadata have at most 64 keys of at most 128 bytes, with values of at most 512",
            ),
            (
                self.weights.0 <= WEIGHT_MAX && self.weights.1 <= WEIGHT_MAX,
                "weights are at most 65535",
            ),
        ];
        match rules.into_iter().find(|(holds, _)| !holds) {
            Some((_, rule)) => Err(Refusal::Invalid(rule)),
            None => Ok(()),
        }
    }

    pub(super) fn encode_into(&self, w: &mut Writer) {
        w.u64(self.node.0).str(&self.node_address).str(&self.id);
        w.str(&self.service).str(&self.address).u16(self.port);
        w.u32(self.tags.len() as u32);
        for tag in &self.tags {
            w.str(tag);
        }
        w.u32(self.meta.len() as u32);
        for (key, value) in &self.meta {
            w.str(key).str(value);
        }
        w.u32(self.weights.0).u32(self.weights.1);
    }

    pub(super) fn decode_from(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            node: NodeId(r.u64()?),
            node_address: r.str()?.to_owned(),
            id: r.str()?.to_owned(),
            service: r.str()?.to_owned(),
            address: r.str()?.to_owned(),
            port: r.u16()?,
            tags: (0..r.count(4)?)
                .map(|_| Ok(r.str()?.to_owned()))
                .collect::<Result<_, DecodeError>>()?,
            meta: (0..r.count(8)?)
                .map(|_| Ok((r.str()?.to_owned(), r.str()?.to_owned())))
                .collect::<Result<_, DecodeError>>()?,
            weights: (r.u32()?, r.u32()?),
        })
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
            Command::Register(instance) => {
                w.u8(1);
                instance.encode_into(w);
            }
            Command::Deregister { node, id } => {
                w.u8(2).u64(node.0).str(id);
            }
        }
    }

    /// Reads the byte form; everything must be consumed.
    pub fn decode(bytes: &Bytes) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        let origin = Origin::decode_from(&mut r)?;
        let command = match r.u8()? {
            1 => Command::Register(Instance::decode_from(&mut r)?),
            2 => Command::Deregister {
                node: NodeId(r.u64()?),
                id: r.str()?.to_owned(),
            },
            _ => return Err(DecodeError::Invalid("services command")),
        };
        r.finish()?;
        Ok(Self { origin, command })
    }
}
