//! Reading: chunk after chunk, each block compared with its checksum where it is used.
//!
//! Which copy is tried first, and who is remembered as unreadable, is decided by [`storage::files::Unreadable`], which
//! the lab runs too. A copy whose checksum is wrong is reported, for only readers find that.

use super::chunks::BLOCKS_AT_ONCE;
use super::client::Connection;
use super::store::{BLOCK_BYTES, ChunkReader, Key, ReadError};
use super::{Files, Trouble, blocking, unexpected};
use axum::body::Body;
use axum::http::StatusCode;
use base::NodeId;
use bytes::{Buf, Bytes, BytesMut};
use http_body_util::BodyExt;
use http_body_util::channel::Channel;
use hyper::Method;
use hyper::body::Incoming;
use node::{ChunkServer, FilesAnswer, FilesQuery};
use std::collections::VecDeque;
use std::io;
use std::time::Duration;
use storage::files::{ChunkId, ChunkPlace, Command, CopyChange, FileStat};

/// A node that sends nothing for this long is not read from.
const READ_TIME: Duration = Duration::from_secs(5);
/// How often the places of a chunk are asked for anew when none could be read.
const LOOKS: u32 = 4;
const LOOK_AGAIN_TIME: Duration = Duration::from_millis(500);

/// A file's places.
pub struct Located {
    /// The file.
    pub stat: FileStat,
    /// Its chunks that hold what was asked for.
    pub places: Vec<ChunkPlace>,
    /// Where nodes are.
    pub servers: Vec<ChunkServer>,
}

pub async fn locate(
    files: &Files,
    path: &str,
    offset: u64,
    length: u64,
) -> Result<Located, Trouble> {
    let query = FilesQuery::Locate {
        path: path.to_owned(),
        offset,
        length,
    };
    match files.ask(query).await? {
        FilesAnswer::Located { located, servers } => {
            let (stat, places) = located?;
            Ok(Located {
                stat,
                places,
                servers,
            })
        }
        _ => Err(unexpected()),
    }
}

/// What is read: the bytes from `offset` on, at most `length`. A chunk that no copy can be read of ends the
/// body with an error.
pub fn stream(files: Files, path: String, located: Located, offset: u64, length: u64) -> Body {
    let (mut sender, body) = Channel::<Bytes, io::Error>::new(2);
    tokio::spawn(async move {
        let end = located.stat.length.min(offset.saturating_add(length));
        let mut servers = located.servers;
        for place in located.places {
            let from = offset.max(place.offset) - place.offset;
            let until = end.min(place.offset + u64::from(place.length)) - place.offset;
            let mut reading = Reading::new(&files, place, from, until);
            let mut looks = 0;
            loop {
                match reading.next(&files, &servers).await {
                    Ok(Some(bytes)) => {
                        if sender.send_data(bytes).await.is_err() {
                            return;
                        }
                    }
                    Ok(None) => break,
                    Err(error) if looks == LOOKS => return sender.abort(error),
                    Err(_) => {
                        // Copies may have been made meanwhile.
                        looks += 1;
                        tokio::time::sleep(LOOK_AGAIN_TIME).await;
                        if let Ok(again) = locate(&files, &path, offset, length).await {
                            servers = again.servers;
                            reading.look_again(&files, again.places);
                        }
                    }
                }
            }
        }
    });
    Body::new(body)
}

/// A chunk that is being read, from one copy or the next.
pub struct Reading {
    place: ChunkPlace,
    /// Copies that were not tried yet, the best first.
    untried: VecDeque<NodeId>,
    source: Option<(NodeId, Source)>,
    /// The next block, and bytes in it that are not wanted.
    block: usize,
    skip: usize,
    /// Bytes that are still wanted.
    left: u64,
}

enum Source {
    Local(ChunkReader),
    Remote { body: Incoming, have: BytesMut },
}

impl Reading {
    /// Of the bytes from `from` to before `until` in a chunk.
    pub fn new(files: &Files, place: ChunkPlace, from: u64, until: u64) -> Self {
        Self {
            untried: files.in_order(&place),
            place,
            source: None,
            block: (from / BLOCK_BYTES as u64) as usize,
            skip: (from % BLOCK_BYTES as u64) as usize,
            left: until.saturating_sub(from),
        }
    }

    fn look_again(&mut self, files: &Files, places: Vec<ChunkPlace>) {
        if let Some(place) = places.into_iter().find(|place| place.id == self.place.id) {
            self.untried = files.in_order(&place);
            self.place = place;
        }
    }

    /// The next bytes, compared with their checksum; `None` at the end. An error when no copy is left.
    pub async fn next(
        &mut self,
        files: &Files,
        servers: &[ChunkServer],
    ) -> io::Result<Option<Bytes>> {
        if self.left == 0 {
            return Ok(None);
        }
        let mut last = io::Error::other(format!("no copy of chunk {} can be read", self.place.id));
        loop {
            let (node, source) = match self.source.take() {
                Some(open) => open,
                None => {
                    let Some(node) = self.untried.pop_front() else {
                        return Err(last);
                    };
                    match self.open(files, servers, node).await {
                        Ok(source) => (node, source),
                        Err(failure) => {
                            last = self.failed(files, node, failure);
                            continue;
                        }
                    }
                }
            };
            match self.read(source).await {
                Ok((mut bytes, source)) => {
                    self.source = Some((node, source));
                    bytes.advance(std::mem::take(&mut self.skip).min(bytes.len()));
                    let wanted = self.left.min(bytes.len() as u64);
                    bytes.truncate(wanted as usize);
                    self.left -= wanted;
                    return Ok(Some(bytes));
                }
                Err(failure) => last = self.failed(files, node, failure),
            }
        }
    }

    async fn open(
        &self,
        files: &Files,
        servers: &[ChunkServer],
        node: NodeId,
    ) -> Result<Source, ReadError> {
        let key = Key {
            id: self.place.id,
            generation: self.place.generation,
        };
        if let (true, Some(store)) = (node == files.node, files.store.clone()) {
            let opened = tokio::task::spawn_blocking(move || store.read(key)).await;
            let reader = opened.map_err(|ended| ReadError::Io(io::Error::other(ended)))??;
            return if reader.length() == self.place.length {
                Ok(Source::Local(reader))
            } else {
                Err(ReadError::Corrupt)
            };
        }
        let server = servers.iter().find(|server| server.node == node);
        let server = server.ok_or(ReadError::Io(io::ErrorKind::AddrNotAvailable.into()))?;
        let path = format!("/v1/chunks/{}?from={}", key.text(), self.block);
        let asking = async {
            let connection = Connection::open(&server.address).await?;
            connection.send(Method::GET, &path, Body::empty(), 0).await
        };
        let answer = tokio::time::timeout(READ_TIME, asking).await;
        let answer = answer.map_err(|_| ReadError::Io(io::ErrorKind::TimedOut.into()))??;
        match answer.status() {
            StatusCode::OK => Ok(Source::Remote {
                body: answer.into_body(),
                have: BytesMut::new(),
            }),
            StatusCode::CONFLICT => Err(ReadError::Corrupt),
            other => Err(ReadError::Io(io::Error::other(format!(
                "the node answered {other}"
            )))),
        }
    }

    /// Some whole blocks.
    async fn read(&mut self, source: Source) -> Result<(Bytes, Source), ReadError> {
        match source {
            Source::Local(mut reader) => {
                let (at, last) = (self.block, self.last_block());
                let until = (last + 1).min(at + BLOCKS_AT_ONCE);
                let (reader, sums, bytes) = blocking(move || {
                    let (mut sums, mut bytes) = (Vec::new(), BytesMut::new());
                    for number in at..until {
                        let (sum, block) = reader.block(number)?;
                        sums.push((sum, crc32c::crc32c(&block)));
                        bytes.extend_from_slice(&block);
                    }
                    Ok((reader, sums, bytes.freeze()))
                })
                .await?;
                if sums.iter().any(|(wanted, found)| wanted != found) {
                    return Err(ReadError::Corrupt);
                }
                self.block = until;
                Ok((bytes, Source::Local(reader)))
            }
            Source::Remote { mut body, mut have } => {
                let length = self.block_bytes(self.block);
                while have.len() < 4 + length {
                    let frame = tokio::time::timeout(READ_TIME, body.frame()).await;
                    let frame = frame.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?;
                    let frame = frame.ok_or(io::Error::from(io::ErrorKind::UnexpectedEof))?;
                    let frame = frame.map_err(io::Error::other)?;
                    have.extend_from_slice(frame.data_ref().map_or(&[], |data| &data[..]));
                }
                let sum = have.get_u32();
                let bytes = have.split_to(length).freeze();
                if crc32c::crc32c(&bytes) != sum {
                    return Err(ReadError::Corrupt);
                }
                self.block += 1;
                Ok((bytes, Source::Remote { body, have }))
            }
        }
    }

    fn last_block(&self) -> usize {
        (self.place.length as usize).div_ceil(BLOCK_BYTES) - 1
    }

    fn block_bytes(&self, number: usize) -> usize {
        BLOCK_BYTES.min((self.place.length as usize).saturating_sub(number * BLOCK_BYTES))
    }

    fn failed(&self, files: &Files, node: NodeId, failure: ReadError) -> io::Error {
        match failure {
            ReadError::Corrupt => {
                report_corrupt(files, self.place.id, self.place.generation, node);
                io::Error::other(format!(
                    "the copy of chunk {} on {node} is corrupt",
                    self.place.id
                ))
            }
            ReadError::Io(error) => {
                if node != files.node {
                    files.remember_unreadable(node);
                }
                error
            }
        }
    }
}

/// Tells the name service that a copy is corrupt, without waiting for it.
pub fn report_corrupt(files: &Files, chunk: ChunkId, generation: u32, node: NodeId) {
    let change = CopyChange::Corrupt {
        chunk,
        generation,
        node,
    };
    crate::log::warn(format!("the copy of chunk {chunk} on {node} is corrupt"));
    let files = files.clone();
    tokio::spawn(async move {
        let changes = vec![change];
        // One that fails is found again.
        let _ = files.change_surely(Command::Copies { changes }).await;
    });
}
