//! An answer as it came.

use bytes::Bytes;

/// One answer, or one message that was not asked for.
#[derive(Clone, PartialEq, Debug)]
pub enum Value {
    /// Nothing.
    Nil,
    /// Nothing in place of a list; only in the older version.
    NilArray,
    /// A short status.
    Status(Bytes),
    /// A refusal; begins with its code.
    Error(Bytes),
    /// A signed number.
    Integer(i64),
    /// A floating-point number.
    Double(f64),
    /// A number of any length, in decimal.
    BigNumber(Bytes),
    /// Yes or no.
    Bool(bool),
    /// Bytes.
    Bulk(Bytes),
    /// Text for people.
    Verbatim {
        /// `txt` or `mkd`.
        format: [u8; 3],
        /// The text.
        text: Bytes,
    },
    /// Several answers.
    Array(Vec<Value>),
    /// Members without order.
    Set(Vec<Value>),
    /// Fields with their values.
    Map(Vec<(Value, Value)>),
    /// A message that was not asked for: its kind, then what it says. Only in the newer version.
    Push(Vec<Value>),
}

impl Value {
    /// The bytes of a bulk string, a text or a status.
    pub fn as_bytes(&self) -> Option<&Bytes> {
        match self {
            Self::Bulk(bytes) | Self::Status(bytes) | Self::Verbatim { text: bytes, .. } => {
                Some(bytes)
            }
            _ => None,
        }
    }

    /// The number, where it is a whole one.
    pub fn as_integer(&self) -> Option<i64> {
        match self {
            Self::Integer(number) => Some(*number),
            _ => None,
        }
    }

    /// The members of an array, a set or a push.
    pub fn as_items(&self) -> Option<&[Value]> {
        match self {
            Self::Array(items) | Self::Set(items) | Self::Push(items) => Some(items),
            _ => None,
        }
    }

    /// The text of a refusal.
    pub fn as_error(&self) -> Option<&Bytes> {
        match self {
            Self::Error(text) => Some(text),
            _ => None,
        }
    }
}
