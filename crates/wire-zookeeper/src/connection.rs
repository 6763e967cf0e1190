//! The server's side of one connection: bytes to requests.

use crate::error::ProtocolError;
use crate::jute::In;
use crate::opcode;
use crate::request::{
    ConnectRequest, FourLetterWord, Incoming, Limits, Request, WatchKind, WriteShape,
};
use base::frames::Frames;
use base::{DecodeError, SessionId};
use bytes::Bytes;
use coordination::{CreateMode, ErrorCode, Query, TreeOp};

/// The longest time to live: ZooKeeper keeps it in 40 bits of the owner field.
const TTL_MS_MAX: i64 = (1 << 40) - 1;

/// Decoder of one client connection.
#[derive(Debug)]
pub struct Connection {
    frames: Frames,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    /// Nothing has been decoded.
    First,
    /// The session was asked for.
    Requests,
    /// A four-letter word came; the rest is ignored.
    Word,
    /// The stream is not the protocol.
    Failed(ProtocolError),
}

impl Connection {
    /// A connection on which nothing has arrived.
    pub fn new(limits: Limits) -> Self {
        Self {
            frames: Frames::new(limits.frame_bytes_max),
            phase: Phase::First,
        }
    }

    /// Takes what arrived. Poll until `None` before giving more: then at most one partial frame is held.
    pub fn handle_bytes(&mut self, bytes: &Bytes) {
        match self.phase {
            Phase::First | Phase::Requests => self.frames.push(bytes),
            Phase::Word | Phase::Failed(_) => {}
        }
    }

    /// Bytes held that have not been polled as requests: the partial frame, and input while polling is held back.
    pub fn buffered_bytes(&self) -> usize {
        self.frames.len()
    }

    /// The next thing that the client said, in order. After an error the connection must be closed; every
    /// later call repeats the error.
    pub fn poll(&mut self) -> Result<Option<Incoming>, ProtocolError> {
        let incoming = match self.phase {
            Phase::First => self.poll_first(),
            Phase::Requests => self.poll_request(),
            Phase::Word => Ok(None),
            Phase::Failed(error) => Err(error),
        };
        if let Err(error) = incoming {
            self.phase = Phase::Failed(error);
            self.frames.clear();
        }
        incoming
    }

    fn poll_first(&mut self) -> Result<Option<Incoming>, ProtocolError> {
        let word = self.frames.peek_length().and_then(FourLetterWord::parse);
        if let Some(word) = word {
            self.phase = Phase::Word;
            self.frames.clear();
            return Ok(Some(Incoming::Word(word)));
        }
        let Some(frame) = self.frames.poll()? else {
            return Ok(None);
        };
        let connect = decode_connect(&frame).map_err(ProtocolError::Connect)?;
        self.phase = Phase::Requests;
        Ok(Some(Incoming::Connect(connect)))
    }

    fn poll_request(&mut self) -> Result<Option<Incoming>, ProtocolError> {
        let Some(frame) = self.frames.poll()? else {
            return Ok(None);
        };
        let mut body = In::new(&frame);
        let header = body.i32().and_then(|xid| Ok((xid, body.i32()?)));
        let (xid, opcode) = header.map_err(|_| ProtocolError::Header {
            length: frame.len(),
        })?;
        let request = decode_request(opcode, &mut body)
            .unwrap_or_else(|why| Request::Malformed { opcode, why });
        Ok(Some(Incoming::Request { xid, request }))
    }
}

fn decode_connect(frame: &Bytes) -> Result<ConnectRequest, DecodeError> {
    let mut body = In::new(frame);
    let mut connect = ConnectRequest {
        protocol_version: body.i32()?,
        last_zxid_seen: body.i64()?,
        timeout_ms: u32::try_from(body.i32()?).unwrap_or(0),
        session: SessionId(body.i64()?),
        password: body.buffer()?.to_vec(),
        ..ConnectRequest::default()
    };
    // Clients older than ZooKeeper 3.4 end here.
    if !body.is_empty() {
        connect.had_read_only_flag = true;
        connect.read_only = body.bool()?;
    }
    body.finish()?;
    Ok(connect)
}

fn decode_request(code: i32, body: &mut In<'_>) -> Result<Request, DecodeError> {
    let request = match code {
        opcode::PING => Request::Ping,
        opcode::CLOSE_SESSION => Request::CloseSession,
        opcode::AUTH => {
            body.i32()?; // a type that no scheme uses
            Request::AddAuth {
                scheme: body.string()?,
                auth: body.buffer()?,
            }
        }
        opcode::SET_WATCHES | opcode::SET_WATCHES2 => decode_set_watches(code, body)?,
        opcode::CREATE
        | opcode::CREATE2
        | opcode::CREATE_CONTAINER
        | opcode::CREATE_TTL
        | opcode::DELETE
        | opcode::SET_DATA
        | opcode::SET_ACL
        | opcode::CHECK => match decode_op(code, body)? {
            Ok((op, shape)) => Request::Write { op, shape },
            Err(error) => Request::Refused { error },
        },
        opcode::MULTI => decode_multi(body)?,
        opcode::MULTI_READ => decode_multi_read(body)?,
        opcode::EXISTS
        | opcode::GET_DATA
        | opcode::GET_CHILDREN
        | opcode::GET_CHILDREN2
        | opcode::GET_ACL => {
            let query = decode_query(code, body)?;
            let watch = code != opcode::GET_ACL && body.bool()?;
            Request::Read { query, watch }
        }
        opcode::ADD_WATCH => Request::AddWatch {
            path: body.path()?,
            recursive: match body.i32()? {
                0 => false,
                1 => true,
                _ => return Err(DecodeError::Invalid("watch mode")),
            },
        },
        opcode::REMOVE_WATCHES => Request::RemoveWatches {
            path: body.path()?,
            kind: decode_watch_kind(body)?,
        },
        opcode::CHECK_WATCHES => Request::CheckWatches {
            path: body.path()?,
            kind: decode_watch_kind(body)?,
        },
        opcode::SYNC => Request::Sync { path: body.path()? },
        opcode => return Ok(Request::Unimplemented { opcode }),
    };
    body.finish()?;
    Ok(request)
}

fn decode_set_watches(code: i32, body: &mut In<'_>) -> Result<Request, DecodeError> {
    let relative_zxid = body.i64()?;
    let (data, exist, child) = (body.strings()?, body.strings()?, body.strings()?);
    let (persistent, persistent_recursive) = if code == opcode::SET_WATCHES2 {
        (body.strings()?, body.strings()?)
    } else {
        (Vec::new(), Vec::new())
    };
    Ok(Request::SetWatches {
        relative_zxid,
        data,
        exist,
        child,
        persistent,
        persistent_recursive,
    })
}

fn decode_watch_kind(body: &mut In<'_>) -> Result<WatchKind, DecodeError> {
    WatchKind::from_number(body.i32()?).ok_or(DecodeError::Invalid("watch kind"))
}

fn decode_query(code: i32, body: &mut In<'_>) -> Result<Query, DecodeError> {
    let path = body.path()?;
    Ok(match code {
        opcode::EXISTS => Query::Exists { path },
        opcode::GET_DATA => Query::GetData { path },
        opcode::GET_CHILDREN => Query::GetChildren { path },
        opcode::GET_CHILDREN2 => Query::GetChildren2 { path },
        opcode::GET_ACL => Query::GetAcl { path },
        _ => return Err(DecodeError::Invalid("read")),
    })
}

/// The inner error is a well-formed operation that is not allowed.
fn decode_op(
    code: i32,
    body: &mut In<'_>,
) -> Result<Result<(TreeOp, WriteShape), ErrorCode>, DecodeError> {
    let op = match code {
        opcode::CREATE | opcode::CREATE2 | opcode::CREATE_CONTAINER | opcode::CREATE_TTL => {
            let path = body.path()?;
            let data = body.buffer()?;
            let acl = body.acl()?;
            let flags = body.i32()?;
            let ttl_ms = if code == opcode::CREATE_TTL {
                Some(body.i64()?)
            } else {
                None
            };
            let Some(mode) = create_mode(flags, ttl_ms) else {
                return Ok(Err(ErrorCode::BadArguments));
            };
            TreeOp::Create {
                path,
                data,
                acl,
                mode,
            }
        }
        opcode::DELETE => TreeOp::Delete {
            path: body.path()?,
            version: body.i32()?,
        },
        opcode::SET_DATA => TreeOp::SetData {
            path: body.path()?,
            data: body.buffer()?,
            version: body.i32()?,
        },
        opcode::SET_ACL => TreeOp::SetAcl {
            path: body.path()?,
            acl: body.acl()?,
            version: body.i32()?,
        },
        opcode::CHECK => TreeOp::Check {
            path: body.path()?,
            version: body.i32()?,
        },
        _ => return Err(DecodeError::Invalid("operation")),
    };
    let shape = match code {
        opcode::CREATE2 | opcode::CREATE_CONTAINER | opcode::CREATE_TTL => WriteShape::WithStat,
        _ => WriteShape::Plain,
    };
    Ok(Ok((op, shape)))
}

/// The flags alone choose the mode, whichever create they came with; a TTL goes with a TTL's flag only.
fn create_mode(flags: i32, ttl_ms: Option<i64>) -> Option<CreateMode> {
    let mode = match flags {
        0 => CreateMode::Persistent { sequential: false },
        1 => CreateMode::Ephemeral { sequential: false },
        2 => CreateMode::Persistent { sequential: true },
        3 => CreateMode::Ephemeral { sequential: true },
        4 => CreateMode::Container,
        5 | 6 => {
            let ttl_ms = ttl_ms.filter(|ttl_ms| (1..=TTL_MS_MAX).contains(ttl_ms))?;
            let sequential = flags == 6;
            return Some(CreateMode::Ttl { ttl_ms, sequential });
        }
        _ => return None,
    };
    ttl_ms.is_none_or(|ttl_ms| ttl_ms < 0).then_some(mode)
}

fn decode_multi(body: &mut In<'_>) -> Result<Request, DecodeError> {
    let mut ops = Vec::new();
    while let Some(code) = next_in_multi(body)? {
        // ZooKeeper has no setACL in a multi.
        if code == opcode::SET_ACL {
            return Err(DecodeError::Invalid("operation in a multi"));
        }
        // A mode that is not allowed makes the whole unreadable there, rather than one refused element.
        let op = decode_op(code, body)?.map_err(|_| DecodeError::Invalid("create mode"))?;
        ops.push(op);
    }
    Ok(Request::Multi(ops))
}

fn decode_multi_read(body: &mut In<'_>) -> Result<Request, DecodeError> {
    let mut queries = Vec::new();
    while let Some(code) = next_in_multi(body)? {
        if code != opcode::GET_DATA && code != opcode::GET_CHILDREN {
            return Err(DecodeError::Invalid("read in a multi"));
        }
        queries.push(decode_query(code, body)?);
        body.bool()?; // watches are not left by these
    }
    Ok(Request::MultiRead(queries))
}

fn next_in_multi(body: &mut In<'_>) -> Result<Option<i32>, DecodeError> {
    let code = body.i32()?;
    let done = body.bool()?;
    body.i32()?;
    Ok((!done).then_some(code))
}
