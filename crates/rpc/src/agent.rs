//! The way to the cluster: what any of its nodes answers over HTTP.

use crate::monitor::Monitor;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper::{Method, Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::net::TcpStream;

/// A node that does not take a connection in this time is not there.
const CONNECT_TIME: Duration = Duration::from_secs(2);
/// What an answer takes at most, connecting and all, beyond what it was asked to wait.
const ANSWER_TIME: Duration = Duration::from_secs(5);
/// Largest answer that is read.
const ANSWER_BYTES_MAX: usize = 8 << 20;

/// The nodes that a process talks to, and its own name there. A copy is the same agent.
///
/// Any node answers for the whole cluster; when one does not answer, the next is asked.
#[derive(Clone)]
pub struct Agent(Arc<Shared>);

pub(crate) struct Shared {
    name: String,
    addresses: Vec<String>,
    /// Place of the one that answered last.
    current: AtomicUsize,
    monitor: Arc<Monitor>,
}

/// Why nothing came of a request to the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AgentError {
    /// What was asked for cannot be; asking again does not help.
    Refused(String),
    /// No node answered.
    Unreachable(String),
}

impl fmt::Display for AgentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(why) => write!(f, "the cluster refuses: {why}"),
            Self::Unreachable(why) => write!(f, "no node of the cluster answers: {why}"),
        }
    }
}

impl std::error::Error for AgentError {}

/// What a node answered.
pub(crate) struct Answer {
    /// Of what was asked for, where the node says one (`x-consul-index`).
    pub index: Option<u64>,
    pub body: Bytes,
}

impl Agent {
    /// `name` is what this process is called as a caller; `addresses` are `host:port` of the HTTP port of nodes, one or
    /// several. Its calls are reported each second, as long as the agent or anything made with it is there.
    ///
    /// # Errors
    ///
    /// No or wrong names. Whether the nodes are there is not asked.
    ///
    /// # Panics
    ///
    /// Outside of a Tokio runtime.
    pub fn new<A: Into<String>>(
        name: &str,
        addresses: impl IntoIterator<Item = A>,
    ) -> Result<Self, AgentError> {
        let addresses: Vec<String> = addresses.into_iter().map(Into::into).collect();
        if !is_name(name) {
            return Err(AgentError::Refused(format!(
                "{name:?} is no name: use 1 to 128 letters, digits, '-', '_' and '.'"
            )));
        }
        if addresses.is_empty() {
            let why = "no node is named: give host:port of a node's HTTP port, as 127.0.0.1:7400";
            return Err(AgentError::Refused(why.into()));
        }
        for address in &addresses {
            let port = address
                .rsplit_once(':')
                .map(|(_, port)| port.parse::<u16>());
            if !matches!(port, Some(Ok(1..))) {
                return Err(AgentError::Refused(format!(
                    "{address:?} is no address: use host:port, as 127.0.0.1:7400"
                )));
            }
        }
        let shared = Arc::new(Shared {
            name: name.into(),
            addresses,
            current: AtomicUsize::new(0),
            monitor: Arc::new(Monitor::new(name)),
        });
        tokio::spawn(crate::monitor::tell(Arc::downgrade(&shared)));
        Ok(Self(shared))
    }

    /// The name it was made with.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Tells the cluster now what was counted, instead of within a second; a process that ends does so last.
    ///
    /// # Errors
    ///
    /// See [`AgentError`].
    pub async fn report(&self) -> Result<(), AgentError> {
        let report = self.0.monitor.report();
        self.0.tell(&report).await
    }

    pub(crate) fn monitor(&self) -> &Arc<Monitor> {
        &self.0.monitor
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.0
    }
}

impl Shared {
    pub fn monitor(&self) -> &Monitor {
        &self.monitor
    }

    /// Asks for something, and lets the node wait so long with its answer.
    pub async fn get(&self, path: &str, wait: Duration) -> Result<Answer, AgentError> {
        let limit = wait + ANSWER_TIME;
        self.ask(Method::GET, path, Bytes::new(), limit).await
    }

    /// Says something; a node that has not taken it within `limit` is passed over.
    pub async fn put(
        &self,
        path: &str,
        body: impl Into<Bytes>,
        limit: Duration,
    ) -> Result<Answer, AgentError> {
        let limit = limit.min(ANSWER_TIME);
        self.ask(Method::PUT, path, body.into(), limit).await
    }

    pub async fn tell(&self, report: &traffic::calls::Report) -> Result<(), AgentError> {
        let refused = |error: serde_json::Error| AgentError::Refused(error.to_string());
        let body = serde_json::to_vec(report).map_err(refused)?;
        let path = "/v1/monitor/calls";
        let told = self.ask(Method::POST, path, body.into(), ANSWER_TIME).await;
        told.map(drop)
    }

    /// Asks the nodes in turn, beginning with the one that answered last. All that is asked here may be asked twice.
    async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        limit: Duration,
    ) -> Result<Answer, AgentError> {
        let first = self.current.load(Ordering::Relaxed);
        let mut trouble = String::new();
        for step in 0..self.addresses.len() {
            let place = (first + step) % self.addresses.len();
            let address = &self.addresses[place];
            let asked = exchange(address, method.clone(), path, body.clone());
            let why = match tokio::time::timeout(limit, asked).await {
                Ok(Ok((status, answer))) if status.is_success() => {
                    self.current.store(place, Ordering::Relaxed);
                    return Ok(answer);
                }
                Ok(Ok((status, answer))) => {
                    let text = String::from_utf8_lossy(&answer.body).trim().to_owned();
                    if status.is_client_error() {
                        return Err(AgentError::Refused(text));
                    }
                    format!("{status}: {text}")
                }
                Ok(Err(why)) => why,
                Err(_) => format!("no answer within {limit:?}"),
            };
            if !trouble.is_empty() {
                trouble += "; ";
            }
            trouble += &format!("{address}: {why}");
        }
        // So that the next request does not begin with one that fails.
        let next = (first + 1) % self.addresses.len();
        self.current.store(next, Ordering::Relaxed);
        Err(AgentError::Unreachable(trouble))
    }
}

async fn exchange(
    address: &str,
    method: Method,
    path: &str,
    body: Bytes,
) -> Result<(StatusCode, Answer), String> {
    let connected = tokio::time::timeout(CONNECT_TIME, TcpStream::connect(address)).await;
    let stream = match connected {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(format!("cannot connect: {error}")),
        Err(_) => return Err(format!("cannot connect within {CONNECT_TIME:?}")),
    };
    // Under its IP address a node knows itself, whatever the name that led there.
    let host = stream.peer_addr().map_err(|error| error.to_string())?;
    let wrong = |error: hyper::Error| error.to_string();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(wrong)?;
    let driver = tokio::spawn(connection);
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, host.to_string())
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(body))
        .map_err(|error| error.to_string())?;
    let answer = sender.send_request(request).await.map_err(wrong)?;
    let status = answer.status();
    let index = answer.headers().get("x-consul-index");
    let index = index.and_then(|value| value.to_str().ok()?.parse().ok());
    let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect();
    let body = body.await.map_err(|error| error.to_string())?.to_bytes();
    driver.abort();
    Ok((status, Answer { index, body }))
}

/// Names stand in paths, in headers and in DNS.
pub(crate) fn is_name(name: &str) -> bool {
    let is_letter = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    (1..=128).contains(&name.len()) && name.chars().all(is_letter)
}
