//! What an agent says to the cell, over HTTP, to the console of a node.

use crate::files::client::{Connection, collect_up_to};
use axum::body::Body;
use hyper::{Method, StatusCode};
use scheduling::command::Seen;
use scheduling::model::AgentSpec;
use scheduling::query::Work;
use scheduling::{AgentId, InstanceId};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Largest answer: work for many tasks.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// An answer that does not come in this time, beyond what it may wait for, does not come.
const ANSWER_TIME: Duration = Duration::from_secs(10);

/// Why something was not heard.
pub enum Trouble {
    /// The cell does not know the agent in this generation.
    Outdated,
    /// Anything else, in words.
    Failed(String),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

/// The consoles of the cell's nodes.
pub struct Cell {
    consoles: Vec<String>,
    current: AtomicUsize,
}

impl Cell {
    pub fn new(consoles: Vec<String>) -> Self {
        Self {
            consoles,
            current: AtomicUsize::new(0),
        }
    }

    /// Another node is asked from now on.
    pub fn next(&self) {
        self.current.fetch_add(1, Ordering::Relaxed);
    }

    pub async fn register(
        &self,
        agent: &AgentSpec,
        has: Vec<InstanceId>,
        attempt: u64,
    ) -> Result<u64, Trouble> {
        let body = json!({ "agent": agent, "has": has, "attempt": attempt });
        let answer: Value = self
            .ask(Method::POST, "/v1/agents".into(), body, ANSWER_TIME)
            .await?;
        let generation = answer["generation"].as_u64();
        generation.ok_or_else(|| Trouble::Failed("the answer names no generation".into()))
    }

    pub async fn beat(&self, id: AgentId, generation: u64) -> Result<(), Trouble> {
        let path = format!("/v1/agents/{id}/beat?generation={generation}");
        let answer: Result<Value, Trouble> =
            self.ask(Method::POST, path, json!({}), ANSWER_TIME).await;
        answer.map(drop)
    }

    /// The index to ask with next, and what is to be done.
    pub async fn work(
        &self,
        id: AgentId,
        generation: u64,
        index: u64,
        wait: Duration,
    ) -> Result<(u64, Vec<Work>), Trouble> {
        let wait_ms = wait.as_millis();
        let path =
            format!("/v1/agents/{id}/work?generation={generation}&index={index}&wait_ms={wait_ms}");
        self.ask(Method::GET, path, Value::Null, wait + ANSWER_TIME)
            .await
    }

    pub async fn report(&self, id: AgentId, generation: u64, seen: &[Seen]) -> Result<(), Trouble> {
        let path = format!("/v1/agents/{id}/report?generation={generation}");
        let body = json!({ "seen": seen });
        let answer: Result<Value, Trouble> = self.ask(Method::POST, path, body, ANSWER_TIME).await;
        answer.map(drop)
    }

    pub async fn leave(&self, id: AgentId, generation: u64) -> Result<(), Trouble> {
        let path = format!("/v1/agents/{id}?generation={generation}");
        let answer: Result<Value, Trouble> = self
            .ask(Method::DELETE, path, Value::Null, ANSWER_TIME)
            .await;
        answer.map(drop)
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: String,
        body: Value,
        time: Duration,
    ) -> Result<T, Trouble> {
        let at = self.current.load(Ordering::Relaxed) % self.consoles.len().max(1);
        let console = self.consoles.get(at).map_or("", String::as_str);
        let asked = async {
            let body = match body {
                Value::Null => String::new(),
                body => body.to_string(),
            };
            let length = body.len() as u64;
            let connection = Connection::open(console).await?;
            let answer = connection
                .send_json(method, &path, Body::from(body), length)
                .await?;
            let status = answer.status();
            Ok::<_, io::Error>((status, collect_up_to(answer, ANSWER_BYTES_MAX).await?))
        };
        let timed = tokio::time::timeout(time, asked).await;
        let (status, bytes) = timed.map_err(|_| Trouble::Failed("no answer in time".into()))??;
        match status {
            StatusCode::GONE => Err(Trouble::Outdated),
            status if status.is_success() => {
                serde_json::from_slice(&bytes).map_err(|e| Trouble::Failed(e.to_string()))
            }
            status => Err(Trouble::Failed(format!(
                "{console} answered {status}: {}",
                String::from_utf8_lossy(&bytes)
            ))),
        }
    }
}
