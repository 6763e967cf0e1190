//! The client's side: requests to bytes, bytes to responses. For the command line, the lab's simulated
//! clients and the benchmark.
//!
//! [`request`] has one function for each request, with borrowed arguments, appending to a buffer;
//! [`Decoder`] yields [`Response`]s; [`body`] reads what a reply holds.

pub mod body;
mod decoder;
pub mod request;

pub use body::MultiResult;
pub use decoder::{ConnectResponse, Decoder, Response};
