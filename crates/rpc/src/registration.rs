//! Being found: a service registers, says that it lives, and leaves.

use crate::agent::{Agent, AgentError, Shared, is_name};
use crate::provider::Layer;
use serde_json::{Map, Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// An instance that was critical for so long is forgotten by the registry.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(60);
/// After a word that did not arrive, the next is said so soon.
const TRY_AGAIN_TIME: Duration = Duration::from_millis(200);

/// How an instance of a service is to be registered.
#[derive(Clone, Debug)]
pub struct Registration {
    name: String,
    id: Option<String>,
    address: String,
    tags: Vec<String>,
    meta: Map<String, Value>,
    weight: u32,
    ttl: Duration,
}

/// An instance that is registered, and stays so while this is held. Dropping it removes the instance soon;
/// [`Registered::leave`] waits for that.
pub struct Registered {
    agent: Agent,
    service: String,
    address: String,
    stop: Option<oneshot::Sender<()>>,
    task: Option<JoinHandle<Result<(), AgentError>>>,
}

impl Registration {
    /// An instance of the service of this name.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            id: None,
            address: String::new(),
            tags: Vec::new(),
            meta: Map::new(),
            weight: 1,
            ttl: Duration::from_secs(5),
        }
    }

    /// Where callers reach it: `host:port`, a host name or an IP address.
    #[must_use]
    pub fn address(mut self, address: impl ToString) -> Self {
        self.address = address.to_string();
        self
    }

    /// Its id, of no other instance in the cluster; without one it is made of name and address.
    #[must_use]
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// A tag, of any number.
    #[must_use]
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.tags.push(tag.into());
        self
    }

    /// A pair of metadata, of any number.
    #[must_use]
    pub fn meta(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.meta.insert(key.into(), Value::String(value.into()));
        self
    }

    /// Its share, from 1, for methods of balancing that look at it.
    #[must_use]
    pub fn weight(mut self, weight: u32) -> Self {
        self.weight = weight.max(1);
        self
    }

    /// When it has not said for so long that it lives, it counts as dead; 5 s without a word about it. It says so three
    /// times in that time.
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// Registers it, and keeps it registered.
    ///
    /// # Errors
    ///
    /// What is wrong with it, or that no node answers.
    pub async fn register(self, agent: &Agent) -> Result<Registered, AgentError> {
        let refuse = |why: String| Err(AgentError::Refused(why));
        if !is_name(&self.name) {
            return refuse(format!(
                "{:?} is no name of a service: use 1 to 128 letters, digits, '-', '_' and '.'",
                self.name
            ));
        }
        let parts = self.address.rsplit_once(':');
        let parts = parts.and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?)));
        let Some((host, port @ 1..)) = parts else {
            return refuse(format!(
                "{:?} is no address where {:?} can be reached: use host:port",
                self.address, self.name
            ));
        };
        if self.ttl < Duration::from_millis(100) {
            return refuse(format!(
                "a TTL of {:?} is too short: use 100 ms or more",
                self.ttl
            ));
        }
        let id = (self.id.clone()).unwrap_or_else(|| format!("{}-{host}-{port}", self.name));
        // It stands in paths.
        let id: String = id
            .chars()
            .map(|c| {
                if c.is_ascii_alphanumeric() || "-_.".contains(c) {
                    c
                } else {
                    '-'
                }
            })
            .collect();
        let host = host.trim_matches(['[', ']']);
        let body = json!({
            "ID": id,
            "Name": self.name,
            "Address": host,
            "Port": port,
            "Tags": self.tags,
            "Meta": self.meta,
            "Weights": { "Passing": self.weight, "Warning": 1 },
            "Check": {
                "CheckID": format!("service:{id}"),
                "TTL": format!("{}ms", self.ttl.as_millis()),
                "Status": "passing",
                "DeregisterCriticalServiceAfter": format!("{}s", FORGOTTEN_AFTER.max(self.ttl * 4).as_secs()),
            },
        });
        let kept = Kept {
            agent: agent.shared().clone(),
            id,
            body: body.to_string(),
            ttl: self.ttl,
        };
        kept.register().await?;
        let (stop, stopped) = oneshot::channel();
        Ok(Registered {
            agent: agent.clone(),
            service: self.name,
            address: self.address,
            stop: Some(stop),
            task: Some(tokio::spawn(kept.keep(stopped))),
        })
    }
}

impl Registered {
    /// Counts the calls that this instance serves, and keeps what they call within their deadlines: for
    /// `tonic::transport::Server::layer`.
    pub fn layer(&self) -> Layer {
        Layer::new(&self.agent, &self.service, &self.address)
    }

    /// Removes the instance, so that nobody is sent there any more. Do this before the server stops.
    ///
    /// # Errors
    ///
    /// See [`AgentError`]; the registry then finds out by itself when the TTL is over.
    pub async fn leave(mut self) -> Result<(), AgentError> {
        drop(self.stop.take());
        match self.task.take() {
            Some(task) => task
                .await
                .unwrap_or_else(|error| Err(AgentError::Unreachable(error.to_string()))),
            None => Ok(()),
        }
    }
}

/// What keeps it registered.
struct Kept {
    agent: Arc<Shared>,
    id: String,
    body: String,
    ttl: Duration,
}

impl Kept {
    async fn register(&self) -> Result<(), AgentError> {
        let path = "/v1/agent/service/register";
        let told = self.agent.put(path, self.body.clone(), Duration::MAX).await;
        told.map(drop)
    }

    async fn keep(self, mut stopped: oneshot::Receiver<()>) -> Result<(), AgentError> {
        let mut pause = self.ttl / 3;
        loop {
            tokio::select! {
                _ = &mut stopped => break,
                () = tokio::time::sleep(pause) => {}
            }
            let path = format!("/v1/agent/check/pass/service:{}", self.id);
            // So that another node hears it in time when one hangs.
            let limit = (self.ttl / 3).max(TRY_AGAIN_TIME);
            let told = match self.agent.put(&path, "", limit).await {
                // It was forgotten, for instance because it was silent for too long.
                Err(AgentError::Refused(_)) => self.register().await,
                told => told.map(drop),
            };
            pause = match told {
                Ok(()) => self.ttl / 3,
                Err(_) => TRY_AGAIN_TIME.min(self.ttl / 3),
            };
        }
        let path = format!("/v1/agent/service/deregister/{}", self.id);
        self.agent.put(&path, "", Duration::MAX).await.map(drop)
    }
}
