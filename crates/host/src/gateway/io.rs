//! A client's connection, with its framing read strictly and without patience for one that does not read.

use super::framing::Scanner;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;

/// Bytes read at a time.
const READ_BYTES: usize = 16 << 10;

/// The stream that the HTTP library sees.
pub struct Guarded {
    stream: TcpStream,
    scanner: Scanner,
    /// Passed by the scanner and not read yet, from `at` on.
    passed: Vec<u8>,
    at: usize,
    ended: Option<io::ErrorKind>,
    idle: Duration,
    stalled: Option<Pin<Box<Sleep>>>,
}

impl Guarded {
    /// Guards `stream`; a client that takes no byte for `idle` is given up.
    pub fn new(stream: TcpStream, idle: Duration) -> Self {
        Self {
            stream,
            scanner: Scanner::default(),
            passed: Vec::new(),
            at: 0,
            ended: None,
            idle,
            stalled: None,
        }
    }

    /// What a write came to; one that stands still for too long fails.
    fn watch<T>(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let idle = self.idle;
        let stalled = self
            .stalled
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(idle)));
        ready!(stalled.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Guarded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            let waiting = &this.passed[this.at..];
            if !waiting.is_empty() {
                let n = waiting.len().min(buffer.remaining());
                buffer.put_slice(&waiting[..n]);
                this.at += n;
                return Poll::Ready(Ok(()));
            }
            if let Some(kind) = this.ended {
                return Poll::Ready(Err(kind.into()));
            }
            let mut raw = [0; READ_BYTES];
            let mut raw = ReadBuf::new(&mut raw);
            ready!(Pin::new(&mut this.stream).poll_read(cx, &mut raw))?;
            if raw.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            this.passed.clear();
            this.at = 0;
            if this.scanner.feed(raw.filled(), &mut this.passed).is_err() {
                this.ended = Some(io::ErrorKind::InvalidData);
            }
        }
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.watch(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.watch(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
