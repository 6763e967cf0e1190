//! Discovery over HTTP: the paths, parameters and field names of Consul's HTTP API, so that its clients work.
//!
//! Every node is an agent, and there is one datacenter. Nothing here decides anything: a request becomes a
//! [`Call`] for a core, its reply becomes JSON.

use crate::http::{App, call, text};
use axum::Router;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, put};
use coordination::services::{Answer, Command, Found, Instance, Query as Asked};
use node::{After, Call, CallReply};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

/// What a blocking query waits when it does not say how long.
const WAIT_DEFAULT: Duration = Duration::from_secs(300);
/// The longest that one waits.
const WAIT_MAX: Duration = Duration::from_secs(600);
/// The name of the one datacenter.
const DATACENTER: &str = "dc1";

/// The routes.
pub fn routes() -> Router<App> {
    Router::new()
        .route("/v1/agent/service/register", put(register))
        .route("/v1/agent/service/deregister/{id}", put(deregister))
        .route("/v1/catalog/services", get(names))
        .route("/v1/catalog/service/{name}", get(service))
}

// ---- registering -----------------------------------------------------------------------------

/// What a client sends to register an instance.
#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Registration {
    #[serde(rename = "ID")]
    id: Option<String>,
    name: String,
    tags: Option<Vec<String>>,
    address: Option<String>,
    port: Option<u16>,
    meta: Option<BTreeMap<String, String>>,
    weights: Option<Weights>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Weights {
    passing: u32,
    warning: u32,
}

async fn register(State(app): State<App>, body: String) -> Response {
    let wanted: Registration = match serde_json::from_str(&body) {
        Ok(wanted) => wanted,
        Err(error) => {
            let why = format!("Request decode failed: {error}");
            return text(StatusCode::BAD_REQUEST, why);
        }
    };
    let instance = Instance {
        node: app.config().node,
        node_address: app.config().node_address.clone(),
        id: (wanted.id.filter(|id| !id.is_empty())).unwrap_or_else(|| wanted.name.clone()),
        service: wanted.name,
        address: wanted.address.unwrap_or_default(),
        port: wanted.port.unwrap_or_default(),
        tags: wanted.tags.unwrap_or_default(),
        meta: wanted.meta.unwrap_or_default(),
        weights: wanted.weights.map_or((1, 1), |w| (w.passing, w.warning)),
    };
    if let Err(refusal) = instance.check() {
        return text(StatusCode::BAD_REQUEST, refusal.to_string());
    }
    change(&app, Command::Register(instance)).await
}

async fn deregister(State(app): State<App>, Path(id): Path<String>) -> Response {
    let node = app.config().node;
    change(&app, Command::Deregister { node, id }).await
}

async fn change(app: &App, command: Command) -> Response {
    match call(app, Call::ChangeServices(command)).await {
        CallReply::ServicesChanged(Ok(_)) => StatusCode::OK.into_response(),
        CallReply::ServicesChanged(Err(refusal)) => {
            text(StatusCode::NOT_FOUND, refusal.to_string())
        }
        other => failed(other),
    }
}

fn failed(reply: CallReply) -> Response {
    let message = match reply {
        CallReply::NotHere { message }
        | CallReply::Refused { message }
        | CallReply::Unknown { message } => message,
        other => format!("the core answered something else: {other:?}"),
    };
    text(StatusCode::INTERNAL_SERVER_ERROR, message)
}

// ---- asking ----------------------------------------------------------------------------------

/// What stands behind the question mark.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Blocking {
    index: Option<u64>,
    wait: Option<String>,
}

impl Blocking {
    /// How long to wait for what, if at all.
    fn after(&self) -> Result<Option<After>, String> {
        let Some(index) = self.index.filter(|index| *index > 0) else {
            return Ok(None);
        };
        let wait = match self.wait.as_deref() {
            None | Some("" | "0" | "0s") => WAIT_DEFAULT,
            Some(text) => duration(text)?.min(WAIT_MAX),
        };
        let wait_us = wait.as_micros() as u64;
        Ok(Some(After { index, wait_us }))
    }
}

/// A duration as Go writes it: `1h5m30.5s`, `10ms`.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("Invalid wait time: {text:?} is no duration like 10s or 5m");
    let (mut rest, mut seconds) = (text, 0.0);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.');
        let (number, behind) = rest.split_at(digits.ok_or_else(wrong)?);
        let letters = behind.find(|c: char| c.is_ascii_digit() || c == '.');
        let (unit, behind) = behind.split_at(letters.unwrap_or(behind.len()));
        let factor = match unit {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3_600.0,
            _ => return Err(wrong()),
        };
        seconds += number.parse::<f64>().map_err(|_| wrong())? * factor;
        rest = behind;
    }
    Duration::try_from_secs_f64(seconds).map_err(|_| wrong())
}

/// Asks, and answers with what `show` makes of the answer, under the index of the answer.
async fn ask(
    app: &App,
    query: Asked,
    blocking: &Blocking,
    show: impl FnOnce(Answer) -> Value,
) -> Response {
    let after = match blocking.after() {
        Ok(after) => after,
        Err(why) => return text(StatusCode::BAD_REQUEST, why),
    };
    match call(app, Call::ReadServices { query, after }).await {
        CallReply::Services { index, answer } => {
            let headers = [
                ("x-consul-index", HeaderValue::from(index)),
                ("x-consul-knownleader", HeaderValue::from_static("true")),
                ("x-consul-lastcontact", HeaderValue::from_static("0")),
            ];
            let headers = headers.map(|(name, value)| (HeaderName::from_static(name), value));
            (headers, axum::Json(show(answer))).into_response()
        }
        other => failed(other),
    }
}

async fn names(State(app): State<App>, Query(blocking): Query<Blocking>) -> Response {
    let show = |answer| match answer {
        Answer::Names(names) => json!(names),
        Answer::Instances(_) => Value::Null,
    };
    ask(&app, Asked::Names, &blocking, show).await
}

async fn service(
    State(app): State<App>,
    Path(name): Path<String>,
    Query(blocking): Query<Blocking>,
) -> Response {
    let show = |answer| match answer {
        Answer::Instances(found) => found.iter().map(catalog_service).collect(),
        Answer::Names(_) => Value::Null,
    };
    ask(&app, Asked::Service { name }, &blocking, show).await
}

/// An instance as Consul's catalog shows it.
fn catalog_service(found: &Found) -> Value {
    let i = &found.instance;
    json!({
        "ID": "",
        "Node": format!("{:x}", i.node.0),
        "Address": i.node_address,
        "Datacenter": DATACENTER,
        "TaggedAddresses": null,
        "NodeMeta": Map::new(),
        "ServiceKind": "",
        "ServiceID": i.id,
        "ServiceName": i.service,
        "ServiceTags": i.tags,
        "ServiceAddress": i.address,
        "ServiceTaggedAddresses": Map::new(),
        "ServiceWeights": { "Passing": i.weights.0, "Warning": i.weights.1 },
        "ServiceMeta": i.meta,
        "ServicePort": i.port,
        "ServiceEnableTagOverride": false,
        "CreateIndex": found.created,
        "ModifyIndex": found.modified,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_writes_them() {
        for (text, ms) in [
            ("10s", 10_000),
            ("1m30s", 90_000),
            ("250ms", 250),
            ("1.5s", 1_500),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in ["10", "s", "-1s", "1x", "1..5s", "99999999999999999999h"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
