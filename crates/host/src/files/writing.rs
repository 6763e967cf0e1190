//! Writing: what a client sends is cut into chunks, each on enough disks before the next is acknowledged.
//!
//! A chunk goes along a chain of nodes. When a node of the chain dies, what was sent is still here in memory:
//! enough copies on the others are enough, and what they lack is made later; with fewer the chunk is sent again to
//! others. What decides so is [`Sending`], which the lab runs too.

use super::chunks::put_chunk;
use super::store::Key;
use super::{Files, Trouble, unexpected};
use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use std::time::Duration;
use storage::files::{ChunkId, Command, Reply, Sending, Sight, Target, WriteId, WriteMode};
use tokio::task::JoinHandle;

/// A client that sends nothing for this long has gone.
const CLIENT_TIME: Duration = Duration::from_secs(60);
/// Between attempts: meanwhile a dead node is found to be dead.
const ATTEMPT_TIME: Duration = Duration::from_millis(400);

/// What was written.
pub struct Written {
    /// Bytes.
    pub length: u64,
    /// Copies of the chunk that has fewest.
    pub copies: usize,
    /// Copies that it shall have.
    pub wanted: u8,
}

/// Writes a body to a file. It takes effect as a whole, or not at all. Runs to its end whoever listens.
pub async fn write(
    files: Files,
    path: String,
    mode: WriteMode,
    copies: u8,
    body: Body,
) -> Result<Written, Trouble> {
    let writing = tokio::spawn(async move {
        let Ok(_turn) = files.writers.acquire().await else {
            return Err(unexpected());
        };
        let begin = Command::Begin {
            path,
            mode,
            holder: draw()?,
            copies,
            lease_ms: files.config.lease_ms,
        };
        let Reply::Begun { write, copies } = files.change_surely(begin).await? else {
            return Err(unexpected());
        };
        let renewing = Renewing::start(&files, write);
        let outcome = send_all(&files, write, copies, body).await;
        drop(renewing);
        let outcome = match outcome {
            Ok(written) => {
                let closed = files.change_surely(Command::Close { write }).await;
                closed.map(|_| written)
            }
            Err(trouble) => Err(trouble),
        };
        if outcome.is_err() {
            // Should it not be heard: the lease ends.
            let _ = files.change(Command::Abandon { write }).await;
        }
        outcome
    });
    writing
        .await
        .unwrap_or_else(|ended| Err(Trouble::Unavailable(ended.to_string())))
}

/// A number that no other writer has drawn.
fn draw() -> Result<u64, Trouble> {
    crate::run::draw()
        .map(|seed| seed.max(1))
        .map_err(|error| Trouble::Unavailable(error.to_string()))
}

/// Keeps a writer's lease while its client is slow.
struct Renewing(JoinHandle<()>);

impl Renewing {
    fn start(files: &Files, write: WriteId) -> Self {
        let files = files.clone();
        let interval = Duration::from_millis(u64::from(files.config.lease_ms / 3).max(1));
        Self(tokio::spawn(async move {
            loop {
                tokio::time::sleep(interval).await;
                let _ = files.change(Command::Renew { write }).await;
            }
        }))
    }
}

impl Drop for Renewing {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn send_all(
    files: &Files,
    write: WriteId,
    copies: u8,
    body: Body,
) -> Result<Written, Trouble> {
    let mut source = Source {
        body,
        left: Bytes::new(),
        chunk_bytes: files.config.chunk_bytes as usize,
    };
    let mut written = Written {
        length: 0,
        copies: usize::from(copies),
        wanted: copies,
    };
    let mut number = 0;
    let mut next = source.next().await?;
    while let Some(data) = next {
        let id = ChunkId { write, number };
        // The next one comes in while this one goes out.
        let (sent, coming) = tokio::join!(send_chunk(files, id, copies, &data), source.next());
        written.copies = written.copies.min(sent?);
        written.length += data.len() as u64;
        number += 1;
        next = coming?;
    }
    Ok(written)
}

/// Cuts a body into chunks.
struct Source {
    body: Body,
    left: Bytes,
    chunk_bytes: usize,
}

impl Source {
    async fn next(&mut self) -> Result<Option<Bytes>, Trouble> {
        let broken = |why: String| {
            Trouble::Unavailable(format!(
                "the client sent only a part ({why}); nothing of it is kept"
            ))
        };
        let mut chunk = BytesMut::new();
        while chunk.len() < self.chunk_bytes {
            if self.left.is_empty() {
                let frame = tokio::time::timeout(CLIENT_TIME, self.body.frame()).await;
                match frame.map_err(|_| broken("it fell silent".into()))? {
                    None => break,
                    Some(Err(error)) => return Err(broken(error.to_string())),
                    Some(Ok(frame)) => self.left = frame.into_data().unwrap_or_default(),
                }
            }
            let taken = self.left.len().min(self.chunk_bytes - chunk.len());
            if chunk.capacity() == 0 {
                chunk.reserve(self.chunk_bytes);
            }
            chunk.extend_from_slice(&self.left.split_to(taken));
        }
        Ok((!chunk.is_empty()).then(|| chunk.freeze()))
    }
}

/// Puts a chunk on enough disks and commits it; how many have it.
async fn send_chunk(
    files: &Files,
    id: ChunkId,
    copies: u8,
    data: &Bytes,
) -> Result<usize, Trouble> {
    let checksum = crc32c::crc32c(data);
    let mut sending = Sending::new(id, copies, files.config.copies_min, files.node);
    loop {
        let servers = files.servers().await?;
        let seen: Vec<Target> = (servers.iter())
            .map(|server| Target {
                node: server.node,
                is_able: server.sight == Sight::Up && server.has_room,
                held: server.held,
            })
            .collect();
        let attempt = (sending.attempt(&seen))
            .map_err(|given_up| Trouble::Unavailable(given_up.to_string()))?;
        let addresses: Vec<String> = (attempt.targets.iter())
            .filter_map(|node| servers.iter().find(|server| server.node == *node))
            .map(|server| server.address.clone())
            .collect();
        let generation = attempt.generation;
        let holders = put_chunk(Key { id, generation }, data, checksum, &addresses).await;
        if let Some(new) = sending.ended(&attempt, holders, data.len() as u32, checksum) {
            let count = new.copies.len();
            files
                .change_surely(Command::Commit { chunk: id, new })
                .await?;
            return Ok(count);
        }
        tokio::time::sleep(ATTEMPT_TIME).await;
    }
}
