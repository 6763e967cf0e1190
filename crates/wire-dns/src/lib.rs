//! DNS (RFC 1035, 2782, 6891), the server's side, as two functions of bytes: [`read`] a question, [`write`]
//! its answer. Messages are taken apart and put together by the `simple-dns` crate, once the counts in their
//! heads have been checked.
//!
//! Names: `NAME.service.althing.`, `TAG.NAME.service.althing.`, `_NAME._TAG.service.althing.` (where the tag
//! `tcp` is any), and `HEX.addr.althing.`, which SRV records point to; each also under `.consul.`, and with
//! the datacenter's name before that. Whatever else is below these zones does not exist; whatever is not, is
//! refused.

mod answer;
mod name;
mod question;

pub use answer::{Target, write};
pub use question::{Asked, Malformed, Question, Wants, read};

/// The largest answer over UDP to a client that says nothing else.
pub const UDP_BYTES: usize = 512;
/// The largest answer over UDP, whatever the client says.
pub const UDP_BYTES_MAX: usize = 4_096;
/// The largest answer over TCP.
pub const TCP_BYTES_MAX: usize = 65_535;
