//! Bodies on their way through, a frame at a time: nothing is gathered but what the cache keeps.

use super::cache::Keep;
use super::route::InFlight;
use super::upstream::Place;
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use hyper::client::conn::http1::SendRequest;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::Sleep;

/// Ends a body that stands still.
struct Idle {
    time: Duration,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Idle {
    fn new(time: Duration) -> Self {
        Self { time, timer: None }
    }

    fn watch<T>(&mut self, cx: &mut Context<'_>, polled: Poll<T>) -> Poll<io::Result<T>> {
        if let Poll::Ready(value) = polled {
            self.timer = None;
            return Poll::Ready(Ok(value));
        }
        let time = self.time;
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(time)));
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

/// The body of a request to a server.
pub struct Sent {
    body: Option<(Incoming, Idle)>,
}

impl Sent {
    /// None.
    pub fn empty() -> Self {
        Self { body: None }
    }

    /// What the client sends; a client that sends nothing for `idle` ends it.
    pub fn stream(body: Incoming, idle: Duration) -> Self {
        Self {
            body: Some((body, Idle::new(idle))),
        }
    }

    /// The client's body, if there is one.
    pub fn into_incoming(self) -> Option<Incoming> {
        self.body.map(|(body, _)| body)
    }
}

impl Body for Sent {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let Some((body, idle)) = &mut self.body else {
            return Poll::Ready(None);
        };
        let polled = Pin::new(body).poll_frame(cx);
        let frame = ready!(idle.watch(cx, polled))?;
        Poll::Ready(frame.map(|frame| frame.map_err(io::Error::other)))
    }

    fn is_end_stream(&self) -> bool {
        (self.body.as_ref()).is_none_or(|(body, _)| body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        match &self.body {
            Some((body, _)) => body.size_hint(),
            None => SizeHint::with_exact(0),
        }
    }
}

/// The body of an answer to a client.
pub enum Answered {
    /// All of it.
    Whole(Option<Bytes>),
    /// As the server sends it.
    Stream(Box<Stream>),
}

/// A server's answer under way. Its places are free again when it has ended.
pub struct Stream {
    body: Incoming,
    idle: Idle,
    place: Place,
    /// Used again when the body has ended well.
    sender: Option<SendRequest<Sent>>,
    keep: Option<Keep>,
    has_ended: bool,
    _in_flight: InFlight,
}

impl Answered {
    /// All of it.
    pub fn whole(bytes: impl Into<Bytes>) -> Self {
        Self::Whole(Some(bytes.into()).filter(|bytes: &Bytes| !bytes.is_empty()))
    }

    /// As the server sends it; one that sends nothing for `idle` is given up.
    pub fn stream(
        body: Incoming,
        idle: Duration,
        (place, sender): (Place, SendRequest<Sent>),
        keep: Option<Keep>,
        in_flight: InFlight,
    ) -> Self {
        Self::Stream(Box::new(Stream {
            body,
            idle: Idle::new(idle),
            place,
            sender: Some(sender),
            keep,
            has_ended: false,
            _in_flight: in_flight,
        }))
    }
}

impl Stream {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        let frame = ready!(self.idle.watch(cx, polled))?;
        Poll::Ready(match frame {
            Some(Ok(frame)) => {
                if let (Some(keep), Some(data)) = (&mut self.keep, frame.data_ref()) {
                    keep.add(data);
                }
                Some(Ok(frame))
            }
            Some(Err(error)) => Some(Err(io::Error::other(error))),
            None => {
                self.has_ended = true;
                None
            }
        })
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if self.has_ended || self.body.is_end_stream() {
            if let Some(sender) = self.sender.take() {
                self.place.give_back(sender);
            }
            if let Some(keep) = self.keep.take() {
                keep.store();
            }
        }
    }
}

impl Body for Answered {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match &mut *self {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Stream(stream) => stream.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_none(),
            Self::Stream(stream) => stream.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Self::Stream(stream) => stream.body.size_hint(),
        }
    }
}
