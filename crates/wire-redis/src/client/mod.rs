//! The client's side: requests to bytes, bytes to answers. For the command line, the lab's simulated
//! clients, the benchmark and tests.

mod decoder;
mod value;

pub use decoder::Decoder;
pub use value::Value;

use crate::reply;

/// Appends a request: its name, then its arguments.
pub fn request<A: AsRef<[u8]>>(out: &mut Vec<u8>, arguments: &[A]) {
    reply::array_head(out, arguments.len());
    for argument in arguments {
        reply::bulk(out, argument.as_ref());
    }
}
