//! The shapes of requests, to be checked against a frame before anything is decoded.
//!
//! The decoder of `kafka-protocol` allocates what a count announces. So each request is first walked by a
//! table of its fields: every length must lie within the frame, every count must fit what is left of it,
//! and all counts together must stay below [`ITEMS_MAX`]. The walk allocates nothing. What stands behind the
//! last field is passed over, as Kafka does: librdkafka leaves bytes behind a `Metadata` for all topics. A
//! test holds each table against the crate's encoder, version by version.

use base::{DecodeError, Reader};

/// Elements of all arrays of a request together.
pub const ITEMS_MAX: usize = 200_000;
/// Tagged fields of one structure.
const TAGS_MAX: u64 = 32;

/// A field, and the versions that have it.
pub struct Field(i16, i16, Kind);

enum Kind {
    /// So many bytes.
    Fixed(usize),
    /// A text, or null.
    Text,
    /// Bytes, or null.
    Blob,
    /// An array of structures, or null.
    Array(&'static [Field]),
    /// An array of 32-bit numbers, or null.
    Numbers,
    /// An array of texts, or null.
    Texts,
}

use Kind::{Array, Blob, Numbers, Text, Texts};
const LAST: i16 = i16::MAX;
const BYTE: Kind = Kind::Fixed(1);
const I16: Kind = Kind::Fixed(2);
const I32: Kind = Kind::Fixed(4);
const I64: Kind = Kind::Fixed(8);
const UUID: Kind = Kind::Fixed(16);

const fn all(kind: Kind) -> Field {
    Field(0, LAST, kind)
}

const fn from(version: i16, kind: Kind) -> Field {
    Field(version, LAST, kind)
}

pub const PRODUCE: &[Field] = &[
    from(3, Text), // transactional id
    all(I16),      // acks
    all(I32),      // time-out
    all(Array(&[
        all(Text),
        all(Array(&[all(I32), all(Blob)])), // partition, records
    ])),
];
pub const FETCH: &[Field] = &[
    all(I32),     // replica
    all(I32),     // longest wait
    all(I32),     // bytes, at least
    all(I32),     // bytes, at most
    all(BYTE),    // isolation
    from(7, I32), // session
    from(7, I32), // its epoch
    all(Array(&[
        all(Text),
        all(Array(&[
            all(I32),      // partition
            from(9, I32),  // leader epoch
            all(I64),      // offset
            from(12, I32), // epoch of what was fetched last
            from(5, I64),  // log start
            all(I32),      // bytes, at most
        ])),
    ])),
    from(7, Array(&[all(Text), all(Numbers)])), // forgotten partitions
    from(11, Text),                             // rack
];
pub const LIST_OFFSETS: &[Field] = &[
    all(I32),      // replica
    from(2, BYTE), // isolation
    all(Array(&[
        all(Text),
        all(Array(&[all(I32), from(4, I32), all(I64)])), // partition, leader epoch, time
    ])),
];
pub const METADATA: &[Field] = &[
    all(Array(&[from(10, UUID), all(Text)])), // topics
    from(4, BYTE),                            // may create topics
    Field(8, 10, BYTE),                       // operations allowed in the cluster
    from(8, BYTE),                            // operations allowed on topics
];
pub const OFFSET_COMMIT: &[Field] = &[
    all(Text),        // group
    all(I32),         // generation
    all(Text),        // member
    from(7, Text),    // static name
    Field(2, 4, I64), // retention
    all(Array(&[
        all(Text),
        all(Array(&[all(I32), all(I64), from(6, I32), all(Text)])), // partition, offset, epoch, metadata
    ])),
];
pub const OFFSET_FETCH: &[Field] = &[
    Field(0, 7, Text),                              // group
    Field(0, 7, Array(&[all(Text), all(Numbers)])), // partitions
    from(
        8,
        Array(&[all(Text), all(Array(&[all(Text), all(Numbers)]))]),
    ), // groups
    from(7, BYTE),                                  // only what is stable
];
pub const FIND_COORDINATOR: &[Field] = &[Field(0, 3, Text), from(1, BYTE), from(4, Texts)];
pub const JOIN_GROUP: &[Field] = &[
    all(Text),                           // group
    all(I32),                            // session's time-out
    from(1, I32),                        // rebalance's time-out
    all(Text),                           // member
    from(5, Text),                       // static name
    all(Text),                           // protocol type
    all(Array(&[all(Text), all(Blob)])), // protocols
    from(8, Text),                       // reason
];
pub const HEARTBEAT: &[Field] = &[all(Text), all(I32), all(Text), from(3, Text)];
pub const LEAVE_GROUP: &[Field] = &[
    all(Text),                                              // group
    Field(0, 2, Text),                                      // member
    from(3, Array(&[all(Text), all(Text), from(5, Text)])), // members, static names, reasons
];
pub const SYNC_GROUP: &[Field] = &[
    all(Text),                           // group
    all(I32),                            // generation
    all(Text),                           // member
    from(3, Text),                       // static name
    from(5, Text),                       // protocol type
    from(5, Text),                       // protocol
    all(Array(&[all(Text), all(Blob)])), // assignments
];
pub const DESCRIBE_GROUPS: &[Field] = &[all(Texts), from(3, BYTE)];
pub const LIST_GROUPS: &[Field] = &[from(4, Texts)];
pub const API_VERSIONS: &[Field] = &[from(3, Text), from(3, Text)];
pub const CREATE_TOPICS: &[Field] = &[
    all(Array(&[
        all(Text),                             // name
        all(I32),                              // partitions
        all(I16),                              // copies
        all(Array(&[all(I32), all(Numbers)])), // assignments
        all(Array(&[all(Text), all(Text)])),   // configuration
    ])),
    all(I32),      // time-out
    from(1, BYTE), // only validate
];
pub const DELETE_TOPICS: &[Field] = &[
    from(6, Array(&[all(Text), all(UUID)])),
    Field(0, 5, Texts),
    all(I32), // time-out
];
pub const DELETE_RECORDS: &[Field] = &[
    all(Array(&[all(Text), all(Array(&[all(I32), all(I64)]))])), // partition, offset
    all(I32),                                                    // time-out
];
pub const INIT_PRODUCER_ID: &[Field] = &[
    all(Text),    // transactional id
    all(I32),     // time-out
    from(3, I64), // producer
    from(3, I16), // its epoch
];
pub const OFFSET_FOR_LEADER_EPOCH: &[Field] = &[
    from(3, I32), // replica
    all(Array(&[
        all(Text),
        all(Array(&[all(I32), from(2, I32), all(I32)])), // partition, current epoch, epoch
    ])),
];
pub const DESCRIBE_CONFIGS: &[Field] = &[
    all(Array(&[all(BYTE), all(Text), all(Texts)])), // kind, name, keys
    from(1, BYTE),                                   // synonyms
    from(3, BYTE),                                   // documentation
];
pub const CREATE_PARTITIONS: &[Field] = &[
    all(Array(&[all(Text), all(I32), all(Array(&[all(Numbers)]))])), // name, count, assignments
    all(I32),                                                        // time-out
    all(BYTE),                                                       // only validate
];
pub const DELETE_GROUPS: &[Field] = &[all(Texts)];
pub const INCREMENTAL_ALTER_CONFIGS: &[Field] = &[
    all(Array(&[
        all(BYTE),                                      // kind
        all(Text),                                      // name
        all(Array(&[all(Text), all(BYTE), all(Text)])), // key, operation, value
    ])),
    all(BYTE), // only validate
];
pub const DESCRIBE_CLUSTER: &[Field] = &[all(BYTE), from(1, BYTE)];

/// Checks a request's body.
pub fn check(
    body: &[u8],
    shape: &'static [Field],
    version: i16,
    is_flexible: bool,
) -> Result<(), DecodeError> {
    let mut walk = Walk {
        r: Reader::new(body),
        version,
        is_flexible,
        items: 0,
    };
    walk.structure(shape)
}

struct Walk<'a> {
    r: Reader<'a>,
    version: i16,
    is_flexible: bool,
    items: usize,
}

impl Walk<'_> {
    fn structure(&mut self, fields: &'static [Field]) -> Result<(), DecodeError> {
        for Field(first, last, kind) in fields {
            if (*first..=*last).contains(&self.version) {
                self.field(kind)?;
            }
        }
        if self.is_flexible {
            skip_tags(&mut self.r)?;
        }
        Ok(())
    }

    fn field(&mut self, kind: &Kind) -> Result<(), DecodeError> {
        match kind {
            Kind::Fixed(size) => self.r.take(*size).map(|_| ()),
            Text => self.text(),
            Blob => {
                let length = self.length(4)?;
                self.r.take(length).map(|_| ())
            }
            Array(fields) => {
                for _ in 0..self.count()? {
                    self.structure(fields)?;
                }
                Ok(())
            }
            Numbers => {
                let count = self.count()?;
                self.r.take(count * 4).map(|_| ())
            }
            Texts => {
                for _ in 0..self.count()? {
                    self.text()?;
                }
                Ok(())
            }
        }
    }

    fn text(&mut self) -> Result<(), DecodeError> {
        let length = self.length(2)?;
        self.r.take(length).map(|_| ())
    }

    /// Elements of an array; each takes a byte at least.
    fn count(&mut self) -> Result<usize, DecodeError> {
        let count = self.length(4)?;
        self.items += count;
        if count > self.r.rest().len() {
            return Err(DecodeError::Truncated);
        }
        if self.items > ITEMS_MAX {
            return Err(DecodeError::Invalid("number of elements"));
        }
        Ok(count)
    }

    /// A length of 2 or 4 bytes, or a varint that is one more; null is 0.
    fn length(&mut self, bytes: usize) -> Result<usize, DecodeError> {
        let length = if self.is_flexible {
            i64::try_from(varint(&mut self.r)?).expect("35 bits fit") - 1
        } else if bytes == 2 {
            i64::from(self.r.u16()? as i16)
        } else {
            i64::from(self.r.i32()?)
        };
        match length {
            -1 => Ok(0),
            length => usize::try_from(length).map_err(|_| DecodeError::Invalid("length")),
        }
    }
}

/// Tagged fields, whatever they are.
pub fn skip_tags(r: &mut Reader<'_>) -> Result<(), DecodeError> {
    let count = varint(r)?;
    if count > TAGS_MAX {
        return Err(DecodeError::Invalid("number of tagged fields"));
    }
    for _ in 0..count {
        varint(r)?;
        let size = varint(r)?;
        r.take(usize::try_from(size).map_err(|_| DecodeError::Truncated)?)?;
    }
    Ok(())
}

/// An unsigned varint of at most five bytes and 32 bits.
fn varint(r: &mut Reader<'_>) -> Result<u64, DecodeError> {
    let mut value = 0u64;
    for shift in [0, 7, 14, 21, 28] {
        let byte = r.u8()?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            if value > u64::from(u32::MAX) {
                break;
            }
            return Ok(value);
        }
    }
    Err(DecodeError::Invalid("varint"))
}
