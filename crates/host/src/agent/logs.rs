//! What tasks have written: files `log.N` that begin with byte N of all that a task ever wrote.

use crate::http::{host_allowed, refuse};
use crate::log;
use axum::Router;
use axum::extract::{Path as Named, Query, Request};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Deserialize;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::net::TcpListener;
use std::path::{Path, PathBuf};

/// Most of a log that is given out at a time, bytes.
const PIECE_BYTES_MAX: u64 = 256 << 10;
/// Headers of an answer.
pub const OFFSET: &str = "x-log-offset";
/// True when the task has ended, and this is the last that it wrote.
pub const ENDED: &str = "x-log-ended";

/// A part of a log.
#[derive(Debug)]
pub struct Piece {
    /// Where it begins: later than was asked for where that is not kept any more.
    pub offset: u64,
    /// What was written.
    pub bytes: Vec<u8>,
    /// True when there is no more, and never will be.
    pub is_last: bool,
}

/// Reads from `offset` on; from the end where `offset` is beyond it.
pub fn read(task: &Path, offset: u64, bytes_max: u64) -> io::Result<Piece> {
    // Before the files: what is written then is seen.
    let has_ended = task.join("end.json").exists();
    let mut files: Vec<(u64, u64)> = Vec::new();
    for entry in fs::read_dir(task)? {
        let entry = entry?;
        let name = entry.file_name();
        let base = name.to_str().and_then(|name| name.strip_prefix("log."));
        if let Some(base) = base.and_then(|base| base.parse().ok()) {
            files.push((base, entry.metadata()?.len()));
        }
    }
    files.sort_unstable();
    let end = files.last().map_or(0, |(base, length)| base + length);
    let first = files.first().map_or(0, |(base, _)| *base);
    let offset = offset.clamp(first, end);
    let mut bytes = Vec::new();
    for (base, length) in files {
        let at = offset + bytes.len() as u64;
        let left = bytes_max - bytes.len() as u64;
        if at >= base && at < base + length && left > 0 {
            let mut file = File::open(task.join(format!("log.{base}")))?;
            file.seek(SeekFrom::Start(at - base))?;
            file.take(left).read_to_end(&mut bytes)?;
        }
    }
    let is_last = has_ended && offset + bytes.len() as u64 >= end;
    Ok(Piece {
        offset,
        bytes,
        is_last,
    })
}

#[derive(Deserialize)]
struct From {
    #[serde(default)]
    offset: u64,
}

/// Gives out the logs below an agent's directory.
pub fn routes<S: Clone + Send + Sync + 'static>(directory: PathBuf) -> Router<S> {
    let serve = move |Named(instance): Named<u64>, Query(from): Query<From>| {
        let task = directory.join("tasks").join(instance.to_string());
        async move { show(&task, from.offset) }
    };
    Router::new().route("/v1/agent/logs/{instance}", get(serve))
}

/// Gives them out where there is no console; under an IP address or `localhost` only (see `http`).
pub async fn serve(listener: TcpListener, directory: PathBuf) {
    let guard = |request: Request, next: Next| async move {
        match host_allowed(request.headers(), request.uri(), &[]) {
            true => next.run(request).await,
            false => refuse(
                StatusCode::MISDIRECTED_REQUEST,
                "this host name is not known here: use the IP address",
            ),
        }
    };
    let router = routes::<()>(directory).layer(from_fn(guard));
    let served = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => axum::serve(listener, router).await,
        Err(error) => Err(error),
    };
    if let Err(error) = served {
        log::error(format!("logs are not given out any more: {error}"));
    }
}

fn show(task: &Path, offset: u64) -> Response {
    match read(task, offset, PIECE_BYTES_MAX) {
        Ok(piece) => {
            let headers = [
                (OFFSET, piece.offset.to_string()),
                (ENDED, piece.is_last.to_string()),
            ];
            (headers, piece.bytes).into_response()
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => refuse(
            StatusCode::NOT_FOUND,
            "this agent has no log of this instance: it has not started it, or has removed it since",
        ),
        Err(error) => refuse(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}
