//! Messages between hosts: frames of a length (four bytes, the highest first) and JSON, over TCP.
//!
//! ```text
//! → {"id":1,"to":"hits","generation":4294967301,"ask":true,"left_ms":2000,"message":{"Add":1}}
//! ← {"id":1,"generation":4294967301,"outcome":{"answer":42}}
//! ```

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::io;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Longest frame.
pub const FRAME_BYTES_MAX: usize = 1 << 20;

/// A message to an actor.
#[derive(Serialize, Deserialize, Debug)]
pub struct Request {
    /// The sender's, of no other request on this connection that waits.
    pub id: u64,
    /// The actor's name.
    pub to: String,
    /// The owner of the name that it is for.
    pub generation: i64,
    /// Whether an answer is wanted; else the request is answered when the message is in the mailbox.
    pub ask: bool,
    /// The sender waits for so long, in milliseconds.
    pub left_ms: u64,
    /// What the actor is told.
    pub message: Value,
}

/// What became of it.
#[derive(Serialize, Deserialize, Debug)]
pub struct Answer {
    /// The request's.
    pub id: u64,
    /// The request's.
    pub generation: i64,
    /// What came of it.
    pub outcome: Outcome,
}

/// What became of a message.
#[derive(Serialize, Deserialize, Clone, PartialEq, Debug)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The actor's answer.
    Answer(Value),
    /// It is in the mailbox.
    Taken,
    /// It was not carried out.
    Refused {
        /// Whether it may be later, or elsewhere.
        again: bool,
        /// Why not.
        why: String,
    },
    /// The actor failed while it handled it.
    Failed(String),
    /// Not known.
    Unknown(String),
}

/// A frame of it.
///
/// # Errors
///
/// It is too long.
pub fn frame(value: &impl Serialize) -> Result<Vec<u8>, String> {
    let mut bytes = vec![0; 4];
    serde_json::to_writer(&mut bytes, value).map_err(|error| error.to_string())?;
    let length = bytes.len() - 4;
    if length > FRAME_BYTES_MAX {
        return Err(format!(
            "a message of {length} bytes is too long: at most {FRAME_BYTES_MAX}"
        ));
    }
    bytes[..4].copy_from_slice(&(length as u32).to_be_bytes());
    Ok(bytes)
}

/// The next frame; `None` at the connection's end.
pub async fn read<T: DeserializeOwned>(
    stream: &mut (impl AsyncReadExt + Unpin),
) -> io::Result<Option<T>> {
    let mut length = [0; 4];
    match stream.read_exact(&mut length).await {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let length = u32::from_be_bytes(length) as usize;
    let invalid = |why: String| io::Error::new(io::ErrorKind::InvalidData, why);
    if length > FRAME_BYTES_MAX {
        return Err(invalid(format!("a frame of {length} bytes is too long")));
    }
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).await?;
    let value = serde_json::from_slice(&bytes).map_err(|error| invalid(error.to_string()))?;
    Ok(Some(value))
}

/// Writes what comes, several frames at once where they wait.
pub async fn write(
    mut stream: impl AsyncWriteExt + Unpin,
    mut frames: tokio::sync::mpsc::Receiver<Vec<u8>>,
) {
    while let Some(mut out) = frames.recv().await {
        while out.len() < FRAME_BYTES_MAX
            && let Ok(more) = frames.try_recv()
        {
            out.extend_from_slice(&more);
        }
        if stream.write_all(&out).await.is_err() {
            return;
        }
    }
    let _ = stream.shutdown().await;
}
