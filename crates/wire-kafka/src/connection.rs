//! The server's side of one connection: bytes to requests.

use crate::api::{Header, decode_header};
use crate::decode;
use crate::error::ProtocolError;
use crate::request::Request;
use crate::shape;
use base::frames::Frames;
use bytes::Bytes;

/// Bounds of one connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Longest frame in bytes, without its length; a longer one ends the connection. Records are slices of
    /// the frame; what else is decoded of it takes some 50 MiB at most (200,000 elements).
    pub frame_bytes_max: u32,
}

impl Default for Limits {
    /// Room for a batch of the largest size that can be configured, and some more beside it.
    fn default() -> Self {
        Self {
            frame_bytes_max: 32 << 20,
        }
    }
}

/// A request and what it began with.
#[derive(Clone, PartialEq, Debug)]
pub struct Incoming {
    /// For [`crate::reply::encode`].
    pub header: Header,
    /// What is asked.
    pub request: Request,
}

/// Decoder of one client connection.
#[derive(Debug)]
pub struct Connection {
    frames: Frames,
    failed: Option<ProtocolError>,
}

impl Connection {
    /// A connection on which nothing has arrived.
    pub fn new(limits: Limits) -> Self {
        Self {
            frames: Frames::new(limits.frame_bytes_max),
            failed: None,
        }
    }

    /// Takes what arrived. Poll until `None` before giving more: then at most one partial frame is held.
    pub fn handle_bytes(&mut self, bytes: &Bytes) {
        if self.failed.is_none() {
            self.frames.push(bytes);
        }
    }

    /// Bytes held that have not been polled as requests: the partial frame, and input while polling is held
    /// back.
    pub fn buffered_bytes(&self) -> usize {
        self.frames.len()
    }

    /// The next request, in order. After an error the connection must be closed, as Kafka closes it; every
    /// later call repeats the error.
    pub fn poll(&mut self) -> Result<Option<Incoming>, ProtocolError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let frame = self.frames.poll().map_err(ProtocolError::from);
        let polled = frame.and_then(|frame| match frame {
            Some(frame) => decode_frame(&frame).map(Some),
            None => Ok(None),
        });
        if let Err(error) = &polled {
            self.failed = Some(error.clone());
            self.frames.clear();
        }
        polled
    }
}

fn decode_frame(frame: &Bytes) -> Result<Incoming, ProtocolError> {
    let (header, body, is_unknown) = decode_header(frame)?;
    if is_unknown {
        let request = Request::UnknownApiVersions;
        return Ok(Incoming { header, request });
    }
    let (api, version) = (header.api, header.version);
    let malformed = |why: String| ProtocolError::Malformed { api, version, why };
    shape::check(&body, api.shape(), version, api.is_flexible(version))
        .map_err(|e| malformed(e.to_string()))?;
    let request = decode::request(&header, body).map_err(malformed)?;
    Ok(Incoming { header, request })
}
