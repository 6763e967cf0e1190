//! What a key holds besides a string: a list, a hash, a set or a sorted set.
//!
//! Each keeps the bytes of its elements and a *content*, the digest of what it holds, up with every change,
//! so that neither costs a walk.

mod fields;
mod list;
mod members;
mod order;
mod sorted;

pub use fields::{Field, Fields};
pub use list::{End, List};
pub use members::Members;
pub use sorted::{Scored, Sorted};

/// What Redis' TYPE says.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum Kind {
    /// Bytes.
    String = 1,
    /// Elements in an order of the clients' making.
    List = 2,
    /// Fields with values.
    Hash = 3,
    /// Members.
    Set = 4,
    /// Members by score.
    Sorted = 5,
}

impl Kind {
    /// The kind of a name, in any case.
    pub fn of_name(name: &[u8]) -> Option<Self> {
        [
            Self::String,
            Self::List,
            Self::Hash,
            Self::Set,
            Self::Sorted,
        ]
        .into_iter()
        .find(|kind| kind.name().as_bytes().eq_ignore_ascii_case(name))
    }

    /// As Redis names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::List => "list",
            Self::Hash => "hash",
            Self::Set => "set",
            Self::Sorted => "zset",
        }
    }
}

/// A value that is no string. Never empty inside of an entry.
#[derive(Clone, Debug)]
pub enum Value {
    /// A list.
    List(List),
    /// A hash.
    Hash(Fields),
    /// A set.
    Set(Members),
    /// A sorted set.
    Sorted(Sorted),
}

/// What the four have in common.
pub trait Held: Default {
    /// Its kind.
    const KIND: Kind;
    /// True when clients may wait for elements.
    const IS_WAITED_FOR: bool;
    /// Elements.
    fn len(&self) -> usize;
    /// The digest of what it holds.
    fn content(&self) -> u64;
    /// Itself out of a value.
    fn of(value: &Value) -> Option<&Self>;
    /// Itself out of a value.
    fn of_mut(value: &mut Value) -> Option<&mut Self>;
    /// Itself as a value.
    fn into_value(self) -> Value;
}

macro_rules! held {
    ($type:ident, $variant:ident, $waited:literal) => {
        impl Held for $type {
            const KIND: Kind = Kind::$variant;
            const IS_WAITED_FOR: bool = $waited;
            fn len(&self) -> usize {
                self.len()
            }
            fn content(&self) -> u64 {
                self.content()
            }
            fn of(value: &Value) -> Option<&Self> {
                match value {
                    Value::$variant(held) => Some(held),
                    _ => None,
                }
            }
            fn of_mut(value: &mut Value) -> Option<&mut Self> {
                match value {
                    Value::$variant(held) => Some(held),
                    _ => None,
                }
            }
            fn into_value(self) -> Value {
                Value::$variant(self)
            }
        }
    };
}

held!(List, List, true);
held!(Fields, Hash, false);
held!(Members, Set, false);
held!(Sorted, Sorted, true);

macro_rules! each {
    ($value:expr, $held:ident => $result:expr) => {
        match $value {
            Value::List($held) => $result,
            Value::Hash($held) => $result,
            Value::Set($held) => $result,
            Value::Sorted($held) => $result,
        }
    };
}

impl Value {
    /// Its kind.
    pub fn kind(&self) -> Kind {
        match self {
            Self::List(_) => Kind::List,
            Self::Hash(_) => Kind::Hash,
            Self::Set(_) => Kind::Set,
            Self::Sorted(_) => Kind::Sorted,
        }
    }

    /// Elements.
    pub fn len(&self) -> usize {
        each!(self, held => held.len())
    }

    /// Bytes of the elements.
    pub fn bytes(&self) -> usize {
        each!(self, held => held.bytes())
    }

    /// The digest of what it holds.
    pub fn content(&self) -> u64 {
        each!(self, held => held.content())
    }
}
