//! Why a connection cannot go on.

use std::fmt;
use storage::cache::Reply;

/// Why a byte stream is not the protocol. The server sends [`ProtocolError::reply`] and closes.
///
/// Texts are Redis' own where it has one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ProtocolError {
    /// The number of arguments is no number, or beyond the cap.
    CountInvalid,
    /// The line with the number of arguments does not end.
    CountTooLong,
    /// An argument's length is no number, negative, or beyond the cap.
    LengthInvalid,
    /// The line with an argument's length does not end.
    LengthTooLong,
    /// Something else stands where an argument begins.
    NoBulk {
        /// Its first byte.
        got: u8,
    },
    /// An argument goes on behind its announced length.
    BulkEnd,
    /// A request without lengths does not end.
    InlineTooLong,
    /// A quote is not closed, or goes on behind its end.
    UnbalancedQuotes,
    /// A request's arguments are longer than allowed, taken together.
    RequestTooLong,
    /// The client speaks HTTP: a browser that was tricked into it.
    Http,
    /// No reply begins like this. Only on the client's side, like those below.
    UnknownType {
        /// Its first byte.
        got: u8,
    },
    /// A reply's line is not what its type asks for.
    ReplyInvalid,
    /// A reply's line does not end.
    ReplyTooLong,
    /// Replies within replies, beyond the cap.
    ReplyTooDeep,
}

impl ProtocolError {
    /// What the client is told before the connection is closed.
    pub fn reply(self) -> Reply {
        Reply::Error(self.to_string().into())
    }
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ERR Protocol error: ")?;
        f.write_str(match self {
            Self::CountInvalid => "invalid multibulk length",
            Self::CountTooLong => "too big mbulk count string",
            Self::LengthInvalid => "invalid bulk length",
            Self::LengthTooLong => "too big bulk count string",
            Self::NoBulk { got } => {
                return write!(f, "expected '$', got '{}'", got.escape_ascii());
            }
            Self::BulkEnd => "expected CRLF behind a bulk string",
            Self::InlineTooLong => "too big inline request",
            Self::UnbalancedQuotes => "unbalanced quotes in request",
            Self::RequestTooLong => "too big request",
            Self::Http => "this is not an HTTP server",
            Self::UnknownType { got } => {
                return write!(f, "no reply begins with '{}'", got.escape_ascii());
            }
            Self::ReplyInvalid => "a reply is malformed",
            Self::ReplyTooLong => "the line of a reply does not end",
            Self::ReplyTooDeep => "replies are nested too deep",
        })
    }
}

impl std::error::Error for ProtocolError {}
