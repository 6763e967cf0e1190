//! As much of an HTTP client as nodes need for each other: one request, one connection.

use axum::body::Body;
use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Method, Request, Response, header};
use hyper_util::rt::TokioIo;
use std::io;
use std::time::Duration;
use tokio::net::TcpStream;

/// A node that does not take a connection in this time is not there.
const CONNECT_TIME: Duration = Duration::from_secs(2);
/// Largest answer that is not data.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// A connection to another node.
pub struct Connection {
    sender: SendRequest<Body>,
    host: String,
}

impl Connection {
    /// Connects to `host:port`.
    pub async fn open(address: &str) -> io::Result<Self> {
        let connected = tokio::time::timeout(CONNECT_TIME, TcpStream::connect(address)).await;
        let stream = connected.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        stream.set_nodelay(true)?;
        // Under its IP address the other side knows itself, whatever the name that led there.
        let host = stream.peer_addr()?.to_string();
        let shaken = http1::handshake(TokioIo::new(stream)).await;
        let (sender, connection) = shaken.map_err(io::Error::other)?;
        tokio::spawn(connection);
        Ok(Self { sender, host })
    }

    /// Sends the one request; its answer, with the body still to be read.
    pub async fn send(
        self,
        method: Method,
        path: &str,
        body: Body,
        length: u64,
    ) -> io::Result<Response<Incoming>> {
        self.send_as("application/octet-stream", method, path, body, length)
            .await
    }

    /// The same, with JSON.
    pub async fn send_json(
        self,
        method: Method,
        path: &str,
        body: Body,
        length: u64,
    ) -> io::Result<Response<Incoming>> {
        self.send_as("application/json", method, path, body, length)
            .await
    }

    async fn send_as(
        mut self,
        content_type: &'static str,
        method: Method,
        path: &str,
        body: Body,
        length: u64,
    ) -> io::Result<Response<Incoming>> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, self.host)
            .header(header::CONTENT_TYPE, content_type)
            .header(header::CONTENT_LENGTH, length);
        let request = request.body(body).map_err(io::Error::other)?;
        let answer = self.sender.send_request(request).await;
        answer.map_err(io::Error::other)
    }
}

/// The whole of a short answer.
pub async fn collect(answer: Response<Incoming>) -> io::Result<Bytes> {
    collect_up_to(answer, ANSWER_BYTES_MAX).await
}

/// The whole of an answer of at most so many bytes.
pub async fn collect_up_to(answer: Response<Incoming>, bytes_max: usize) -> io::Result<Bytes> {
    let limited = Limited::new(answer.into_body(), bytes_max);
    let whole = limited.collect().await.map_err(io::Error::other)?;
    Ok(whole.to_bytes())
}
