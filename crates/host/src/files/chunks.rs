//! Single chunks: taken and handed on to the next node (GFS §3.2: data flow along a chain, each node sending
//! while it receives), given out, and asked for.

use super::client::{Connection, collect};
use super::store::{BLOCK_BYTES, ChunkWriter, Key, ReadError};
use super::{Files, blocking};
use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::put;
use base::NodeId;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use http_body_util::channel::{Channel, Sender};
use hyper::Method;
use serde::{Deserialize, Serialize};
use std::io;
use std::time::Duration;
use storage::files::CHUNK_BYTES_MAX;
use tokio::task::JoinHandle;

/// Written to disk and handed on in pieces of about this many bytes.
const PIECE_BYTES: usize = 256 << 10;
/// A node that neither takes nor answers for this long, and for as long again for each behind it, is given up.
const HOP_TIME: Duration = Duration::from_secs(3);
/// Who sends, has all it sends in memory.
const SENDER_TIME: Duration = Duration::from_secs(30);
/// Blocks that are read from disk at a time.
pub const BLOCKS_AT_ONCE: usize = 8;

pub fn routes() -> Router<Files> {
    Router::new().route("/v1/chunks/{key}", put(take).get(give))
}

#[derive(Deserialize)]
struct TakeQuery {
    length: u32,
    checksum: u32,
    /// Addresses of those who shall have it too, with commas.
    #[serde(default)]
    next: String,
}

/// Who has a chunk on disk.
#[derive(Serialize, Deserialize)]
struct Taken {
    copies: Vec<String>,
}

/// Sends a chunk to the first of `addresses`, which hands it on. The nodes that have it on disk now.
pub async fn put_chunk(key: Key, data: &Bytes, checksum: u32, addresses: &[String]) -> Vec<NodeId> {
    let Some(mut forward) = Forward::open(key, data.len() as u32, checksum, addresses).await else {
        return Vec::new();
    };
    for at in (0..data.len()).step_by(PIECE_BYTES) {
        let piece = data.slice(at..data.len().min(at + PIECE_BYTES));
        if forward.send(piece).await.is_err() {
            break;
        }
    }
    forward.finish().await
}

/// The way on to the next node.
struct Forward {
    pieces: Sender<Bytes, io::Error>,
    answer: JoinHandle<io::Result<Vec<NodeId>>>,
    time: Duration,
}

impl Forward {
    /// To the first of `addresses` that takes a connection.
    async fn open(key: Key, length: u32, checksum: u32, addresses: &[String]) -> Option<Self> {
        for (number, address) in addresses.iter().enumerate() {
            let Ok(connection) = Connection::open(address).await else {
                continue;
            };
            let behind = &addresses[number + 1..];
            let path = format!(
                "/v1/chunks/{}?length={length}&checksum={checksum}&next={}",
                key.text(),
                behind.join(",")
            );
            let (pieces, body) = Channel::<Bytes, io::Error>::new(2);
            let body = Body::new(body);
            let answer = tokio::spawn(async move {
                let answer = connection.send(Method::PUT, &path, body, u64::from(length));
                let answer = answer.await?;
                let is_taken = answer.status() == StatusCode::OK;
                let text = collect(answer).await?;
                if !is_taken {
                    return Err(io::Error::other(
                        String::from_utf8_lossy(&text).into_owned(),
                    ));
                }
                let taken: Taken = serde_json::from_slice(&text).map_err(io::Error::other)?;
                let nodes = taken
                    .copies
                    .iter()
                    .map(|node| u64::from_str_radix(node, 16));
                nodes
                    .map(|node| Ok(NodeId(node.map_err(io::Error::other)?)))
                    .collect()
            });
            return Some(Self {
                pieces,
                answer,
                time: HOP_TIME * (1 + behind.len() as u32),
            });
        }
        None
    }

    async fn send(&mut self, piece: Bytes) -> Result<(), ()> {
        match tokio::time::timeout(self.time, self.pieces.send_data(piece)).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(()),
        }
    }

    /// Who has it. After a failure whoever is behind has nothing that counts.
    async fn finish(mut self) -> Vec<NodeId> {
        drop(self.pieces);
        match tokio::time::timeout(self.time, &mut self.answer).await {
            Ok(Ok(Ok(nodes))) => nodes,
            _ => {
                self.answer.abort();
                Vec::new()
            }
        }
    }
}

async fn take(
    State(files): State<Files>,
    Path(key): Path<String>,
    Query(query): Query<TakeQuery>,
    body: Body,
) -> Response {
    let (Some(key), Some(_)) = (Key::parse(&key), &files.store) else {
        return (
            StatusCode::NOT_FOUND,
            "no chunks are kept here under that name",
        )
            .into_response();
    };
    if query.length == 0 || query.length > CHUNK_BYTES_MAX {
        return (StatusCode::BAD_REQUEST, "that is not the length of a chunk").into_response();
    }
    match store_and_forward(&files, key, &query, body).await {
        Ok(copies) => {
            let copies = copies.iter().map(|node| format!("{:x}", node.0)).collect();
            axum::Json(Taken { copies }).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn store_and_forward(
    files: &Files,
    key: Key,
    query: &TakeQuery,
    mut body: Body,
) -> io::Result<Vec<NodeId>> {
    let store = files.store.clone().ok_or(io::ErrorKind::NotFound)?;
    let addresses: Vec<String> = (query.next.split(',').filter(|a| !a.is_empty()))
        .map(str::to_owned)
        .collect();
    let creating = {
        let store = store.clone();
        blocking(move || store.create(key))
    };
    let (writer, mut forward) = tokio::join!(
        creating,
        Forward::open(key, query.length, query.checksum, &addresses)
    );
    let mut writer = writer?;
    let mut piece = BytesMut::with_capacity(PIECE_BYTES);
    loop {
        let frame = tokio::time::timeout(SENDER_TIME, body.frame()).await;
        let frame = frame.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?;
        let is_end = frame.is_none();
        if let Some(frame) = frame {
            let frame = frame.map_err(io::Error::other)?;
            piece.extend_from_slice(frame.data_ref().map_or(&[], |data| &data[..]));
        }
        if piece.len() >= PIECE_BYTES || (is_end && !piece.is_empty()) {
            let bytes = piece.split().freeze();
            if u64::from(writer.length()) + bytes.len() as u64 > u64::from(query.length) {
                return Err(io::Error::other("more came than was announced"));
            }
            if let Some(way) = &mut forward
                && way.send(bytes.clone()).await.is_err()
            {
                // Whoever is behind is given up; what is here goes on.
                forward = None;
            }
            writer = write(writer, bytes).await?;
        }
        if is_end {
            break;
        }
    }
    let (length, checksum) = (query.length, query.checksum);
    let storing = blocking(move || {
        if writer.length() != length || writer.checksum() != checksum {
            return Err(io::Error::other("what came is not what was announced"));
        }
        store.finish(writer)
    });
    let behind = async {
        match forward {
            Some(forward) => forward.finish().await,
            None => Vec::new(),
        }
    };
    let (stored, behind) = tokio::join!(storing, behind);
    stored?;
    let mut copies = vec![files.node];
    copies.extend(behind);
    Ok(copies)
}

async fn write(mut writer: ChunkWriter, bytes: Bytes) -> io::Result<ChunkWriter> {
    blocking(move || writer.write(&bytes).map(|()| writer)).await
}

#[derive(Deserialize)]
struct GiveQuery {
    /// The first block.
    #[serde(default)]
    from: usize,
}

/// The blocks of a chunk from one on, each behind the four bytes of its checksum. They go out as they are on
/// the disk: who reads them compares.
async fn give(
    State(files): State<Files>,
    Path(key): Path<String>,
    Query(query): Query<GiveQuery>,
) -> Response {
    let (Some(key), Some(store)) = (Key::parse(&key), files.store.clone()) else {
        return (
            StatusCode::NOT_FOUND,
            "no chunks are kept here under that name",
        )
            .into_response();
    };
    let opened = tokio::task::spawn_blocking(move || store.read(key)).await;
    let mut reader = match opened {
        Ok(Ok(reader)) => reader,
        Ok(Err(ReadError::Corrupt)) => {
            return (StatusCode::CONFLICT, "the chunk is corrupt").into_response();
        }
        Ok(Err(ReadError::Io(error))) if error.kind() == io::ErrorKind::NotFound => {
            return (StatusCode::NOT_FOUND, "the chunk is not here").into_response();
        }
        Ok(Err(ReadError::Io(error))) => {
            return (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response();
        }
        Err(_) => return StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    };
    let (mut sender, body) = Channel::<Bytes, io::Error>::new(2);
    tokio::spawn(async move {
        let mut at = query.from;
        while at < reader.blocks() {
            let until = reader.blocks().min(at + BLOCKS_AT_ONCE);
            let read = blocking(move || {
                let mut bytes = BytesMut::with_capacity((until - at) * (BLOCK_BYTES + 4));
                for number in at..until {
                    let (sum, block) = reader.block(number)?;
                    bytes.extend_from_slice(&sum.to_be_bytes());
                    bytes.extend_from_slice(&block);
                }
                Ok((reader, bytes.freeze()))
            });
            let bytes = match read.await {
                Ok((back, bytes)) => {
                    reader = back;
                    bytes
                }
                Err(error) => return sender.abort(error),
            };
            if sender.send_data(bytes).await.is_err() {
                return;
            }
            at = until;
        }
    });
    Response::new(Body::new(body))
}
