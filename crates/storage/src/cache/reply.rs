//! What a command answers, free of any protocol version.

use bytes::Bytes;
use std::borrow::Cow;

/// The answer to one command.
///
/// Where Redis' two protocol versions differ, the variant says what is meant and the wire decides how to
/// say it: a `Map`, a `Set` or `Pairs` is a flat array in the older one, a `Double` or a `Verbatim` a bulk
/// string, a `Bool` an integer.
#[derive(Clone, PartialEq, Debug)]
pub enum Reply {
    /// Nothing: a missing key or element.
    Nil,
    /// Nothing where a list would have been: a transaction that was not carried out, a pop that timed out.
    NilArray,
    /// A short status, `OK` for most.
    Status(Cow<'static, str>),
    /// A refusal; begins with its code (`ERR`, `WRONGTYPE`, …). Nothing was changed.
    Error(Cow<'static, str>),
    /// A signed number.
    Integer(i64),
    /// A floating-point number.
    Double(f64),
    /// Yes or no.
    Bool(bool),
    /// Bytes.
    Bulk(Bytes),
    /// Text for people.
    Verbatim(String),
    /// Several answers.
    Array(Vec<Reply>),
    /// Fields with their values.
    Map(Vec<(Reply, Reply)>),
    /// Members without order.
    Set(Vec<Reply>),
    /// Two by two: flat in the older protocol, nested in the newer.
    Pairs(Vec<(Reply, Reply)>),
}

impl Reply {
    /// The usual status.
    pub const OK: Self = Self::Status(Cow::Borrowed("OK"));

    /// The key holds something else.
    pub const WRONG_TYPE: Self = Self::Error(Cow::Borrowed(
        "WRONGTYPE Operation against a key holding the wrong kind of value",
    ));

    /// A refusal known beforehand.
    pub const fn error(text: &'static str) -> Self {
        Self::Error(Cow::Borrowed(text))
    }

    /// True for a refusal.
    pub fn is_error(&self) -> bool {
        matches!(self, Self::Error(_))
    }
}
