//! Kafka's wire protocol as pure functions of bytes: the server's side, and of the client's what the command
//! line needs ([`client`]). Messages are those of the
//! `kafka-protocol` crate; what stands around them (frames, headers, limits, versions, batches) is ours.
//!
//! For a front end: it feeds a [`Connection`] with what a client sent and polls [`Incoming`]s off it, each
//! a [`Header`] and a neutral [`Request`]; Kafka wants replies in the order of requests, one each, except
//! that a `Produce` with `acks` 0 has none. [`reply::encode`] appends a [`Reply`] as the whole frame that
//! the header's version asks for; a [`Request::UnknownApiVersions`] is answered by
//! [`Reply::ApiVersions`] like any other. Batches come parsed and checked as [`messaging::NewBatch`]es that
//! share the frame's memory; those that go out are gathered by [`records::write`], which writes the offsets
//! into them. [`records::find_time`] says which record of a batch `ListOffsets` by time means. Machine
//! errors become Kafka's by [`error_of`]; other errors are chosen from [`Error`] by the front end. Nothing
//! here knows topics' owners, shards or sockets.
//!
//! Reading order: [`api`] (what is spoken, in which versions), [`request`] and `decode`, [`connection`],
//! [`reply`], [`records`]; `frame` and `shape` lie below: a request's shape is checked against its frame
//! before the decoder, which allocates what counts announce, may see it.

pub mod api;
pub mod client;
pub mod connection;
mod decode;
mod error;
pub mod records;
pub mod reply;
pub mod request;
mod shape;

pub use api::{Api, Header};
pub use connection::{Connection, Incoming, Limits};
pub use error::{Error, ProtocolError, error_of};
pub use reply::Reply;
pub use request::{ByTopic, Request};
