//! Following the registry: blocking queries for the instances of a service.

use crate::agent::{AgentError, Shared};
use crate::pool::Pool;
use serde::Deserialize;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::oneshot;

/// How long a query waits for a change.
const WAIT: Duration = Duration::from_secs(20);
/// After a query that failed; doubled each time up to the second.
const PAUSE: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(2);

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    node: Node,
    service: Service,
    checks: Vec<Check>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Node {
    address: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Service {
    address: String,
    port: u16,
    weights: Option<Weights>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Weights {
    passing: u32,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Check {
    status: String,
}

/// Asks for what differs from what had `index` (0: asks at once), gives it to the pool, and says its index.
pub(crate) async fn ask(
    agent: &Shared,
    service: &str,
    index: u64,
    pool: &Pool,
) -> Result<u64, AgentError> {
    let path = match index {
        0 => format!("/v1/health/service/{service}"),
        _ => format!(
            "/v1/health/service/{service}?index={index}&wait={}s",
            WAIT.as_secs()
        ),
    };
    // The node may add a sixteenth.
    let answer = agent.get(&path, WAIT + WAIT / 16).await?;
    let wrong = |error: serde_json::Error| {
        AgentError::Unreachable(format!(
            "what is told of {service:?} cannot be read: {error}"
        ))
    };
    let entries: Vec<Entry> = serde_json::from_slice(&answer.body).map_err(wrong)?;
    let registered = entries.len();
    let passing = entries.into_iter().filter(|entry| {
        let mut checks = entry.checks.iter();
        checks.all(|check| check.status == "passing") && entry.service.port > 0
    });
    let found = passing.map(|entry| {
        let service = entry.service;
        let host = match service.address.is_empty() {
            true => entry.node.address,
            false => service.address,
        };
        let weight = service.weights.map_or(1, |weights| weights.passing.max(1));
        match host.contains(':') {
            true => (format!("[{host}]:{}", service.port), weight),
            false => (format!("{host}:{}", service.port), weight),
        }
    });
    pool.set(found.collect(), registered);
    Ok(answer.index.unwrap_or(0))
}

/// Follows until the other end of `gone` is dropped. While no node answers, the pool stays as it is.
pub(crate) async fn follow(
    agent: Arc<Shared>,
    service: String,
    mut index: u64,
    pool: Weak<Pool>,
    mut gone: oneshot::Receiver<()>,
) {
    let mut pause = PAUSE;
    loop {
        let Some(pool) = pool.upgrade() else { return };
        let asked = tokio::select! {
            asked = ask(&agent, &service, index, &pool) => asked,
            _ = &mut gone => return,
        };
        match asked {
            // An index that went back is of another history: all is asked for again.
            Ok(next) => {
                index = if next < index { 0 } else { next };
                pause = PAUSE;
                if index == 0 {
                    tokio::time::sleep(PAUSE_MAX).await;
                }
            }
            Err(_) => {
                index = 0;
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(PAUSE_MAX);
            }
        }
    }
}
