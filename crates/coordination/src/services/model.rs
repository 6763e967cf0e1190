//! What is registered: instances and their checks, their limits, and their byte form.

use super::Refusal;
use base::{DecodeError, NodeId, Reader, Writer};
use std::collections::BTreeMap;

/// Bytes of the name of a service, of an id, of an address, and of a tag.
pub const NAME_BYTES_MAX: usize = 253;
/// Tags of an instance.
pub const TAGS_MAX: usize = 64;
/// Keys of an instance's metadata, and headers of a probe.
pub const META_MAX: usize = 64;
/// Bytes of such a key.
pub const META_KEY_BYTES_MAX: usize = 128;
/// Bytes of its value.
pub const META_VALUE_BYTES_MAX: usize = 512;
/// The greatest weight.
pub const WEIGHT_MAX: u32 = 65_535;
/// Checks of one instance that are registered with it.
pub const CHECKS_MAX: usize = 64;
/// Bytes of a check's notes, of a probe's address, and of its body.
pub const TEXT_BYTES_MAX: usize = 4_096;
/// Bytes of what a check said last; what is longer is cut.
pub const OUTPUT_BYTES_MAX: usize = 4_096;
/// The shortest and the longest of a check's times, in milliseconds.
pub const TIME_MS: std::ops::RangeInclusive<u64> = 10..=30 * 86_400_000;

/// One that offers a service.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Instance {
    /// The node that it was registered at.
    pub node: NodeId,
    /// That node's address, for instances without one of their own.
    pub node_address: String,
    /// What it is known by in the cluster.
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

/// What a check says.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Status {
    /// All is well.
    Passing = 1,
    /// It serves, with something amiss.
    Warning = 2,
    /// It is not to be used.
    Critical = 3,
}

impl Status {
    /// All of them, the best first.
    pub const ALL: [Self; 3] = [Self::Passing, Self::Warning, Self::Critical];

    /// The word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Passing => "passing",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }

    /// The one with this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.name() == name)
    }

    fn decode_from(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let number = r.u8()?;
        (Self::ALL.into_iter().find(|status| *status as u8 == number))
            .ok_or(DecodeError::Invalid("status"))
    }
}

/// How a check finds out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CheckKind {
    /// It is told; when it was not told for so many milliseconds, it is critical.
    Ttl {
        /// How long.
        ttl_ms: u64,
    },
    /// A node asks over HTTP: 2xx passes, 429 warns, all else is critical.
    Http {
        /// Whom, as `http://host:port/path`.
        url: String,
        /// By which method, as `GET`.
        method: String,
        /// With which headers.
        headers: Vec<(String, String)>,
        /// With which body.
        body: String,
        /// How often and for how long.
        pace: Pace,
    },
    /// A node connects.
    Tcp {
        /// Where to, as `host:port`.
        address: String,
        /// How often and for how long.
        pace: Pace,
    },
}

/// When a node looks, and how often it must see the same before it counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pace {
    /// From one look to the next, in milliseconds.
    pub interval_ms: u64,
    /// How long a look may take, in milliseconds.
    pub timeout_ms: u64,
    /// So many good ones in a row before it passes; 0 is 1.
    pub successes: u32,
    /// So many bad ones in a row before it warns; 0: it does not.
    pub failures_to_warn: u32,
    /// So many bad ones in a row before it is critical; 0 is 1.
    pub failures: u32,
}

impl CheckKind {
    /// How a node looks, or `None` when it is told.
    pub fn pace(&self) -> Option<Pace> {
        match self {
            Self::Ttl { .. } => None,
            Self::Http { pace, .. } | Self::Tcp { pace, .. } => Some(*pace),
        }
    }

    /// The word for it.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Ttl { .. } => "ttl",
            Self::Http { .. } => "http",
            Self::Tcp { .. } => "tcp",
        }
    }
}

/// What is to be checked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CheckSpec {
    /// What it is known by in the cluster.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// For people.
    pub notes: String,
    /// The instance that it is about, or empty: all that were registered at its node.
    pub instance: String,
    /// How.
    pub kind: CheckKind,
    /// What holds until it says otherwise.
    pub initial: Status,
    /// When it was critical for so many milliseconds, its instance is removed; 0: never.
    pub deregister_after_ms: u64,
}

/// A check and what is known of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Check {
    /// What is to be checked.
    pub spec: CheckSpec,
    /// Given anew whenever another spec takes the place of one; never given twice.
    pub number: u64,
    /// The node that it was registered at, which runs it while it can.
    pub home: NodeId,
    /// The node that runs it.
    pub runner: NodeId,
    /// Raised whenever another node is to run it.
    pub epoch: u32,
    /// How often it was told.
    pub beats: u64,
    /// What it says.
    pub status: Status,
    /// In words, at most [`OUTPUT_BYTES_MAX`].
    pub output: String,
    /// Since when it says so, Unix milliseconds.
    pub since_ms: i64,
    /// The revision at which it was first registered.
    pub created: u64,
    /// The revision at which what it says, or what it is, last changed.
    pub modified: u64,
}

impl Check {
    /// When its instance is to be removed, Unix milliseconds.
    pub(super) fn due_ms(&self) -> Option<i64> {
        let is_doomed = self.status == Status::Critical
            && self.spec.deregister_after_ms > 0
            && !self.spec.instance.is_empty();
        is_doomed.then(|| self.since_ms + self.spec.deregister_after_ms as i64)
    }

    pub(super) fn encode_into(&self, w: &mut Writer) {
        self.spec.encode_into(w);
        w.u64(self.number).u64(self.home.0).u64(self.runner.0);
        w.u32(self.epoch).u64(self.beats).u8(self.status as u8);
        w.str(&self.output).i64(self.since_ms);
        w.u64(self.created).u64(self.modified);
    }

    pub(super) fn decode_from(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            spec: CheckSpec::decode_from(r)?,
            number: r.u64()?,
            home: NodeId(r.u64()?),
            runner: NodeId(r.u64()?),
            epoch: r.u32()?,
            beats: r.u64()?,
            status: Status::decode_from(r)?,
            output: r.str()?.to_owned(),
            since_ms: r.i64()?,
            created: r.u64()?,
            modified: r.u64()?,
        })
    }
}

/// At most so many bytes of `text`, whole characters.
pub(super) fn cut(mut text: String, bytes_max: usize) -> String {
    if text.len() > bytes_max {
        let mut end = bytes_max;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
    }
    text
}

fn first_broken(rules: &[(bool, &'static str)]) -> Result<(), Refusal> {
    match rules.iter().find(|(holds, _)| !holds) {
        Some((_, rule)) => Err(Refusal::Invalid(rule)),
        None => Ok(()),
    }
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= NAME_BYTES_MAX
}

fn is_pair(key: &str, value: &str) -> bool {
    key.len() <= META_KEY_BYTES_MAX && value.len() <= META_VALUE_BYTES_MAX
}

impl Instance {
    /// Names the first field that does not keep its limits.
    pub fn check(&self) -> Result<(), Refusal> {
        first_broken(&[
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
                self.meta.len() <= META_MAX && self.meta.iter().all(|(k, v)| is_pair(k, v)),
                "metadata have at most 64 keys of at most 128 bytes, with values of at most 512",
            ),
            (
                self.weights.0 <= WEIGHT_MAX && self.weights.1 <= WEIGHT_MAX,
                "weights are at most 65535",
            ),
        ])
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
            meta: pairs(r)?.into_iter().collect(),
            weights: (r.u32()?, r.u32()?),
        })
    }
}

impl CheckSpec {
    /// Names the first field that does not keep its limits.
    pub fn check(&self) -> Result<(), Refusal> {
        first_broken(&[
            (is_name(&self.id), "a check's id has 1 to 253 bytes"),
            (is_name(&self.name), "a check's name has 1 to 253 bytes"),
            (
                self.notes.len() <= TEXT_BYTES_MAX,
                "a check's notes have at most 4096 bytes",
            ),
            (
                self.instance.len() <= NAME_BYTES_MAX,
                "a service's id has 1 to 253 bytes",
            ),
            (
                self.deregister_after_ms == 0 || TIME_MS.contains(&self.deregister_after_ms),
                "a check's times are from 10ms to 720h",
            ),
        ])?;
        match &self.kind {
            CheckKind::Ttl { ttl_ms } => first_broken(&[(
                TIME_MS.contains(ttl_ms),
                "a check's times are from 10ms to 720h",
            )]),
            CheckKind::Http {
                url,
                method,
                headers,
                body,
                pace,
            } => {
                pace.check()?;
                first_broken(&[
                    (
                        url.starts_with("http://") && url.len() <= TEXT_BYTES_MAX,
                        "a check asks a URL that begins with http:// and has at most 4096 bytes (https:// is not possible yet)",
                    ),
                    (
                        method.bytes().all(|b| b.is_ascii_uppercase())
                            && (1..=16).contains(&method.len()),
                        "a check's method is 1 to 16 capital letters",
                    ),
                    (
                        headers.len() <= META_MAX && headers.iter().all(|(k, v)| is_pair(k, v)),
                        "a check has at most 64 headers of at most 128 bytes, with values of at most 512",
                    ),
                    (
                        body.len() <= TEXT_BYTES_MAX,
                        "a check's body has at most 4096 bytes",
                    ),
                ])
            }
            CheckKind::Tcp { address, pace } => {
                pace.check()?;
                first_broken(&[(
                    is_name(address) && address.contains(':'),
                    "a check connects to host:port of at most 253 bytes",
                )])
            }
        }
    }

    pub(super) fn encode_into(&self, w: &mut Writer) {
        w.str(&self.id).str(&self.name).str(&self.notes);
        w.str(&self.instance).u8(self.initial as u8);
        w.u64(self.deregister_after_ms);
        match &self.kind {
            CheckKind::Ttl { ttl_ms } => {
                w.u8(1).u64(*ttl_ms);
            }
            CheckKind::Http {
                url,
                method,
                headers,
                body,
                pace,
            } => {
                w.u8(2);
                pace.encode_into(w);
                w.str(url).str(method).str(body);
                w.u32(headers.len() as u32);
                for (key, value) in headers {
                    w.str(key).str(value);
                }
            }
            CheckKind::Tcp { address, pace } => {
                w.u8(3);
                pace.encode_into(w);
                w.str(address);
            }
        }
    }

    pub(super) fn decode_from(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            id: r.str()?.to_owned(),
            name: r.str()?.to_owned(),
            notes: r.str()?.to_owned(),
            instance: r.str()?.to_owned(),
            initial: Status::decode_from(r)?,
            deregister_after_ms: r.u64()?,
            kind: match r.u8()? {
                1 => CheckKind::Ttl { ttl_ms: r.u64()? },
                2 => CheckKind::Http {
                    pace: Pace::decode_from(r)?,
                    url: r.str()?.to_owned(),
                    method: r.str()?.to_owned(),
                    body: r.str()?.to_owned(),
                    headers: pairs(r)?,
                },
                3 => CheckKind::Tcp {
                    pace: Pace::decode_from(r)?,
                    address: r.str()?.to_owned(),
                },
                _ => return Err(DecodeError::Invalid("kind of a check")),
            },
        })
    }
}

impl Pace {
    fn check(self) -> Result<(), Refusal> {
        let is_time = TIME_MS.contains(&self.interval_ms) && TIME_MS.contains(&self.timeout_ms);
        first_broken(&[(is_time, "a check's times are from 10ms to 720h")])
    }

    fn encode_into(self, w: &mut Writer) {
        w.u64(self.interval_ms).u64(self.timeout_ms);
        w.u32(self.successes).u32(self.failures_to_warn);
        w.u32(self.failures);
    }

    fn decode_from(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            interval_ms: r.u64()?,
            timeout_ms: r.u64()?,
            successes: r.u32()?,
            failures_to_warn: r.u32()?,
            failures: r.u32()?,
        })
    }
}

pub(super) fn decode_status(r: &mut Reader<'_>) -> Result<Status, DecodeError> {
    Status::decode_from(r)
}

fn pairs(r: &mut Reader<'_>) -> Result<Vec<(String, String)>, DecodeError> {
    (0..r.count(8)?)
        .map(|_| Ok((r.str()?.to_owned(), r.str()?.to_owned())))
        .collect()
}
