//! What a successful reply holds, by the kind of its request. All of a body must be consumed.

use crate::jute::In;
use crate::opcode;
use base::DecodeError;
use bytes::Bytes;
use coordination::{Acl, Stat};

type Result<T> = std::result::Result<T, DecodeError>;

/// One element of a multi's or multiRead's reply.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum MultiResult {
    /// Of a create (without metadata) or create2 and its kin (with).
    Created {
        /// Final path.
        path: String,
        /// Its metadata, where the request asks for it.
        stat: Option<Stat>,
    },
    /// Of a delete.
    Deleted,
    /// Of a setData.
    DataSet(Stat),
    /// Of a check.
    Checked,
    /// Of a getData.
    Data(Bytes, Stat),
    /// Of a getChildren.
    Children(Vec<String>),
    /// The element failed, or others did: 0 for those before the one that failed, −2 for those behind it.
    Error(i32),
}

/// Of exists, setData and setACL.
pub fn stat(body: &Bytes) -> Result<Stat> {
    whole(body, In::stat)
}

/// Of create and sync.
pub fn path(body: &Bytes) -> Result<String> {
    whole(body, In::path)
}

/// Of create2, createContainer and createTTL.
pub fn path_and_stat(body: &Bytes) -> Result<(String, Stat)> {
    whole(body, |body| Ok((body.path()?, body.stat()?)))
}

/// Of getData. The data share the body's memory.
pub fn data(body: &Bytes) -> Result<(Bytes, Stat)> {
    whole(body, |body| Ok((body.buffer()?, body.stat()?)))
}

/// Of getChildren.
pub fn children(body: &Bytes) -> Result<Vec<String>> {
    whole(body, In::strings)
}

/// Of getChildren2.
pub fn children_and_stat(body: &Bytes) -> Result<(Vec<String>, Stat)> {
    whole(body, |body| Ok((body.strings()?, body.stat()?)))
}

/// Of getACL.
pub fn acl(body: &Bytes) -> Result<(Vec<Acl>, Stat)> {
    whole(body, |body| Ok((body.acl()?, body.stat()?)))
}

/// Of addWatch: an error number, 0 for success.
pub fn error(body: &Bytes) -> Result<i32> {
    whole(body, In::i32)
}

/// Of multi and multiRead.
pub fn multi(body: &Bytes) -> Result<Vec<MultiResult>> {
    whole(body, |body| {
        let mut results = Vec::new();
        loop {
            let (kind, done, _) = (body.i32()?, body.bool()?, body.i32()?);
            if done {
                return Ok(results);
            }
            results.push(multi_element(kind, body)?);
        }
    })
}

fn multi_element(kind: i32, body: &mut In<'_>) -> Result<MultiResult> {
    Ok(match kind {
        opcode::CREATE => MultiResult::Created {
            path: body.path()?,
            stat: None,
        },
        opcode::CREATE2 => MultiResult::Created {
            path: body.path()?,
            stat: Some(body.stat()?),
        },
        opcode::DELETE => MultiResult::Deleted,
        opcode::SET_DATA => MultiResult::DataSet(body.stat()?),
        opcode::CHECK => MultiResult::Checked,
        opcode::GET_DATA => MultiResult::Data(body.buffer()?, body.stat()?),
        opcode::GET_CHILDREN => MultiResult::Children(body.strings()?),
        opcode::ERROR => MultiResult::Error(body.i32()?),
        _ => return Err(DecodeError::Invalid("kind of a multi's result")),
    })
}

fn whole<'a, T>(body: &'a Bytes, read: impl FnOnce(&mut In<'a>) -> Result<T>) -> Result<T> {
    let mut reader = In::new(body);
    let value = read(&mut reader)?;
    reader.finish()?;
    Ok(value)
}
