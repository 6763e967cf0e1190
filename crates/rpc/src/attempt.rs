//! One attempt at one instance: the connection, and what is known when it breaks.

use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::error::Error;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tonic::body::Body;

/// An instance that does not take a connection in this time is not there.
const CONNECT_TIME: Duration = Duration::from_secs(1);

/// Why an attempt has no answer.
#[derive(Debug)]
pub(crate) enum Lost {
    /// Surely not carried out.
    NotSent(String),
    /// It may have been carried out.
    Unknown(String),
}

/// The connection to an instance, made when it is first needed and again when it broke.
pub(crate) struct Link {
    address: String,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    sender: Option<SendRequest<Body>>,
    /// When connecting last failed, and why: those who waited meanwhile do not try it in turn.
    failed: Option<(Instant, String)>,
}

impl Link {
    pub fn new(address: &str) -> Self {
        Self {
            address: address.into(),
            state: Mutex::default(),
        }
    }

    async fn sender(&self) -> Result<SendRequest<Body>, String> {
        let asked = Instant::now();
        let mut state = self.state.lock().await;
        if let Some(sender) = state.sender.as_ref().filter(|sender| !sender.is_closed()) {
            return Ok(sender.clone());
        }
        if let Some((_, why)) = state.failed.as_ref().filter(|(at, _)| *at > asked) {
            return Err(why.clone());
        }
        match connect(&self.address).await {
            Ok(sender) => {
                *state = State {
                    sender: Some(sender.clone()),
                    failed: None,
                };
                Ok(sender)
            }
            Err(why) => {
                state.failed = Some((Instant::now(), why.clone()));
                Err(why)
            }
        }
    }

    /// Sends a request; the head of its answer.
    pub async fn send(&self, request: Request<Body>) -> Result<Response<Incoming>, Lost> {
        let mut sender = self.sender().await.map_err(Lost::NotSent)?;
        sender
            .send_request(request)
            .await
            .map_err(|error| lost(&error))
    }

    /// The same for a request that has to be put together again when there is no connection.
    pub async fn is_connected(&self) -> Result<(), Lost> {
        self.sender().await.map(drop).map_err(Lost::NotSent)
    }
}

async fn connect(address: &str) -> Result<SendRequest<Body>, String> {
    let connected = tokio::time::timeout(CONNECT_TIME, async {
        let stream = TcpStream::connect(address)
            .await
            .map_err(|e| e.to_string())?;
        stream.set_nodelay(true).map_err(|e| e.to_string())?;
        let builder = http2::Builder::new(TokioExecutor::new());
        let shaken = builder.handshake(TokioIo::new(stream)).await;
        shaken.map_err(|e| words(&e))
    });
    let why = match connected.await {
        Ok(Ok((sender, connection))) => {
            tokio::spawn(connection);
            return Ok(sender);
        }
        Ok(Err(why)) => why,
        Err(_) => format!("no connection within {CONNECT_TIME:?}"),
    };
    Err(format!("cannot connect to {address}: {why}"))
}

/// What is known of a request whose connection broke.
///
/// Not carried out are: what never left (`is_canceled`), what the other side refused before it looked at it
/// (REFUSED_STREAM, RFC 9113 section 8.7), and what came after its last words (GOAWAY, section 6.8: streams above the
/// last one that it names; those below go on and are not told this).
fn lost(error: &hyper::Error) -> Lost {
    let reason = error.source().and_then(|e| e.downcast_ref::<h2::Error>());
    let is_refused = reason.is_some_and(|e| {
        let refused =
            e.is_reset() && e.is_remote() && e.reason() == Some(h2::Reason::REFUSED_STREAM);
        let gone = e.is_go_away() && e.is_remote() && e.reason() == Some(h2::Reason::NO_ERROR);
        refused || gone
    });
    match is_refused || error.is_canceled() {
        true => Lost::NotSent(words(error)),
        false => Lost::Unknown(words(error)),
    }
}

/// An error with what stands behind it.
pub(crate) fn words(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut behind = error.source();
    while let Some(error) = behind {
        text += &format!(": {error}");
        behind = error.source();
    }
    text
}
