//! Counting an attempt, once, however it ends.

use crate::monitor::Monitor;
use crate::pool::Place;
use hyper::HeaderMap;
use hyper::body::{Body, Frame, SizeHint};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;
use tonic::Code;
use traffic::calls::{Key, Outcome};

/// An attempt that has not ended. Dropping it ends it, as one that was given up.
pub(crate) struct Count {
    pub monitor: Arc<Monitor>,
    pub call: Key,
    pub begun: Instant,
    pub deadline: Option<Instant>,
    pub is_repeated: bool,
    /// On the caller's side, where it is.
    pub place: Option<Place>,
    has_ended: bool,
}

impl Count {
    pub fn new(monitor: &Arc<Monitor>, call: Key, deadline: Option<Instant>) -> Self {
        Self {
            monitor: monitor.clone(),
            call,
            begun: Instant::now(),
            deadline,
            is_repeated: false,
            place: None,
            has_ended: false,
        }
    }

    /// The same, of an attempt at this place.
    pub fn at(mut self, place: Place) -> Self {
        self.place = Some(place);
        self
    }

    /// It ended without an answer.
    pub fn end(mut self, outcome: Outcome) {
        self.finish(outcome, false);
    }

    /// It was answered.
    pub fn answered(mut self, code: Code) {
        let outcome = match code {
            Code::Ok => Outcome::Ok,
            Code::DeadlineExceeded => Outcome::TimedOut,
            _ => Outcome::Failed,
        };
        let is_healthy = !matches!(code, Code::DeadlineExceeded | Code::Unavailable);
        self.finish(outcome, is_healthy);
    }

    fn finish(&mut self, outcome: Outcome, is_healthy: bool) {
        self.has_ended = true;
        let latency = self.begun.elapsed();
        if let Some(place) = &self.place {
            place.judge(is_healthy, latency);
        }
        let call = self.call.clone();
        self.monitor.add(call, outcome, latency, self.is_repeated);
    }
}

impl Drop for Count {
    fn drop(&mut self) {
        if self.has_ended {
            return;
        }
        let is_late = self.deadline.is_some_and(|at| Instant::now() >= at);
        if is_late {
            self.finish(Outcome::TimedOut, false);
        } else {
            // Given up by the caller, which says nothing of the instance.
            self.place = None;
            self.finish(Outcome::Unknown, true);
        }
    }
}

/// The status in a head or in trailers.
pub(crate) fn code_in(headers: &HeaderMap) -> Option<Code> {
    let value = headers.get("grpc-status")?;
    Some(Code::from_bytes(value.as_bytes()))
}

/// A body that tells how its call ended.
pub(crate) struct Counted<B> {
    inner: B,
    count: Option<Count>,
}

impl<B> Counted<B> {
    pub fn new(inner: B, count: Count) -> Self {
        let count = Some(count);
        Self { inner, count }
    }
}

impl<B: Body + Unpin> Body for Counted<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => {
                let code = frame.trailers_ref().and_then(code_in);
                if let (Some(code), Some(count)) = (code, self.count.take_if(|_| code.is_some())) {
                    count.answered(code);
                }
            }
            Some(Err(_)) | None => {
                if let Some(count) = self.count.take() {
                    count.end(Outcome::Unknown);
                }
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
