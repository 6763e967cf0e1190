//! ZooKeeper's wire protocol, both sides, as pure functions of bytes: big-endian records behind
//! a four-byte length ("jute").
//!
//! A server feeds a [`Connection`] with what a client sent and polls [`Incoming`]s off it; answers are
//! appended to a buffer by the functions of [`reply`]. A client writes with [`client::request`] and reads
//! with [`client::Decoder`]. Nothing here knows sessions, sockets or the tree: what a request means
//! is decided elsewhere.
//!
//! Reading order: [`request`] (what can be asked), [`connection`] (bytes to requests), [`reply`]
//! (answers to bytes), [`client`] (the other side). `frame` and `jute` lie below both sides.

pub mod client;
pub mod connection;
mod digest;
mod error;
mod jute;
pub mod opcode;
pub mod reply;
pub mod request;

pub use connection::Connection;
pub use digest::digest_identity;
pub use error::{ProtocolError, error_code, error_number};
pub use request::{
    ConnectRequest, FourLetterWord, Incoming, Limits, Request, WatchKind, WriteShape,
};
