//! Bytes to responses.

use crate::error::ProtocolError;
use crate::jute::In;
use crate::opcode;
use base::frames::Frames;
use base::{DecodeError, SessionId};
use bytes::Bytes;

/// One thing that a server said.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Response {
    /// The first frame.
    Connect(ConnectResponse),
    /// The answer to a request, in the order of requests (pings and authentications aside).
    Reply {
        /// The request's.
        xid: i32,
        /// The server's revision, 0 or −1 where it does not tell.
        zxid: i64,
        /// 0 for success, else a number that [`crate::error_code`] may know.
        error: i32,
        /// For the readers in [`crate::client::body`]; empty unless `error` is 0.
        body: Bytes,
    },
    /// A watch fired.
    Notification {
        /// Revision of the change, or −1.
        zxid: i64,
        /// 1 created, 2 deleted, 3 data changed, 4 children changed.
        kind: i32,
        /// 3: connected.
        state: i32,
        /// The node.
        path: String,
    },
}

/// How the server answers a connect request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConnectResponse {
    /// The server's, 0.
    pub protocol_version: i32,
    /// Granted time-out in milliseconds; 0 or less: the session has expired.
    pub timeout_ms: i32,
    /// The session; 0: it has expired.
    pub session: SessionId,
    /// For resuming it.
    pub password: Vec<u8>,
    /// The server only reads. None when the field is not there.
    pub read_only: Option<bool>,
}

/// Decoder of one connection to a server.
#[derive(Debug)]
pub struct Decoder {
    frames: Frames,
    connected: bool,
    failed: Option<ProtocolError>,
}

impl Decoder {
    /// A connection on which nothing has arrived. A response longer than `frame_bytes_max` is an error;
    /// lists of children can exceed a server's own limit, so choose it generously.
    pub fn new(frame_bytes_max: u32) -> Self {
        Self {
            frames: Frames::new(frame_bytes_max),
            connected: false,
            failed: None,
        }
    }

    /// Takes what arrived. Poll until `None` before giving more.
    pub fn handle_bytes(&mut self, bytes: &Bytes) {
        if self.failed.is_none() {
            self.frames.push(bytes);
        }
    }

    /// The next thing that the server said. After an error the connection must be closed; every later call repeats it.
    pub fn poll(&mut self) -> Result<Option<Response>, ProtocolError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let response = self.decode_next();
        if let Err(error) = response {
            self.failed = Some(error);
            self.frames.clear();
        }
        response
    }

    fn decode_next(&mut self) -> Result<Option<Response>, ProtocolError> {
        let Some(frame) = self.frames.poll()? else {
            return Ok(None);
        };
        if !self.connected {
            self.connected = true;
            let connect = decode_connect(&frame).map_err(ProtocolError::Connect)?;
            return Ok(Some(Response::Connect(connect)));
        }
        decode_reply(&frame).map(Some)
    }
}

fn decode_connect(frame: &Bytes) -> Result<ConnectResponse, DecodeError> {
    let mut body = In::new(frame);
    let response = ConnectResponse {
        protocol_version: body.i32()?,
        timeout_ms: body.i32()?,
        session: SessionId(body.i64()?),
        password: body.buffer()?.to_vec(),
        read_only: if body.is_empty() {
            None
        } else {
            Some(body.bool()?)
        },
    };
    body.finish()?;
    Ok(response)
}

fn decode_reply(frame: &Bytes) -> Result<Response, ProtocolError> {
    let mut body = In::new(frame);
    let header = |body: &mut In<'_>| Ok::<_, DecodeError>((body.i32()?, body.i64()?, body.i32()?));
    let (xid, zxid, error) = header(&mut body).map_err(|_| ProtocolError::Header {
        length: frame.len(),
    })?;
    if xid == opcode::NOTIFICATION_XID {
        return decode_notification(zxid, &mut body).map_err(ProtocolError::Notification);
    }
    Ok(Response::Reply {
        xid,
        zxid,
        error,
        body: body.rest(),
    })
}

fn decode_notification(zxid: i64, body: &mut In<'_>) -> Result<Response, DecodeError> {
    let notification = Response::Notification {
        zxid,
        kind: body.i32()?,
        state: body.i32()?,
        path: body.string()?,
    };
    body.finish()?;
    Ok(notification)
}
