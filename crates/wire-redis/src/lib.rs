//! Redis' wire protocol, both versions and both sides, as pure functions of bytes: RESP2 and RESP3.
//!
//! A server feeds a [`Connection`] with what a client sent and polls requests off it, each an argument
//! vector; answers are appended to a buffer by the functions of [`reply`]. A client writes with
//! [`client::request`] and reads with [`client::Decoder`]. Nothing here knows commands, keys or sockets:
//! what a request means is decided elsewhere.
//!
//! Reading order: [`Connection`] (bytes to requests), [`reply`] (answers to bytes), [`client`] (the other
//! side). `input` and `inline` lie below.

pub mod client;
mod connection;
mod error;
mod inline;
mod input;
pub mod reply;

pub use connection::{Connection, Limits};
pub use error::ProtocolError;
pub use reply::Protocol;
