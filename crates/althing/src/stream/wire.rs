//! What a stream's processes say to each other: frames behind their lengths, over TCP. The first of a connection is a
//! [`Hello`]; a master sends [`Order`]s and hears [`Word`]s, both JSON; a peer sends elements in their byte form.

use computing::stream::master::Ack;
use computing::stream::record::Record;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::io::{self, Read, Write};
use std::net::SocketAddr;

/// The longest frame: what one fetch gives, with every record's key beside its value.
const FRAME_BYTES_MAX: u32 = 256 << 20;

/// Who calls. Who does not know the stream's token is not answered.
#[derive(Serialize, Deserialize)]
pub enum Hello {
    /// A master.
    Master {
        /// The stream's.
        token: String,
    },
    /// Another worker, which has that task.
    Peer {
        /// The stream's.
        token: String,
        /// In this epoch.
        epoch: u64,
        /// Its number.
        from: usize,
    },
}

/// What a worker is told.
#[derive(Serialize, Deserialize)]
pub enum Order {
    /// Begin anew, as that task.
    Assign {
        /// The task.
        index: usize,
        /// Where the workers are reached, by task.
        members: Vec<SocketAddr>,
        /// From where.
        record: Record,
    },
    /// Put the barrier of a checkpoint.
    Begin { epoch: u64, checkpoint: u64 },
}

/// What a worker says.
#[derive(Serialize, Deserialize)]
pub enum Word {
    /// Its part of a checkpoint is on disk.
    Ack {
        epoch: u64,
        checkpoint: u64,
        ack: Ack,
    },
    /// It cannot go on.
    Failed { epoch: u64, why: String },
}

/// Sends a frame.
pub fn send(stream: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    if length > FRAME_BYTES_MAX {
        return Err(io::Error::other("a frame that is too long"));
    }
    stream.write_all(&length.to_be_bytes())?;
    stream.write_all(bytes)
}

/// Sends a frame of JSON.
pub fn say(stream: &mut impl Write, what: &impl Serialize) -> io::Result<()> {
    send(stream, &serde_json::to_vec(what)?)
}

/// Receives a frame; its memory grows with what arrives.
pub fn receive(stream: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length);
    if length > FRAME_BYTES_MAX {
        return Err(io::Error::other("a frame that is too long"));
    }
    let mut bytes = Vec::new();
    stream.take(length.into()).read_to_end(&mut bytes)?;
    match bytes.len() == length as usize {
        true => Ok(bytes),
        false => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// Receives a frame of JSON.
pub fn hear<T: DeserializeOwned>(stream: &mut impl Read) -> io::Result<T> {
    Ok(serde_json::from_slice(&receive(stream)?)?)
}
