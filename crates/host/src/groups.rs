//! Groups of nodes over HTTP: `/v1/groups`. Nothing here decides anything: a request becomes a [`Call`] for the core
//! that runs groups, its reply becomes JSON.

use crate::http::{App, call, read_order, refuse};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use node::{Call, CallReply, GroupAnswer, GroupCall};
use serde::Deserialize;
use serde_json::json;

/// How long a lock or a place is waited for unless told otherwise, in milliseconds.
const WAIT_MS: u64 = 10_000;

/// The paths.
pub fn routes() -> Router<App> {
    Router::new()
        .route("/v1/groups", get(list).post(create))
        .route("/v1/groups/{name}", get(show).delete(delete))
        .route("/v1/groups/{name}/log", get(log))
        .route("/v1/groups/{name}/lock", post(lock))
        .route("/v1/groups/{name}/unlock", post(unlock))
        .route("/v1/groups/{name}/append", post(append))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Create {
    name: String,
    protocol: String,
    #[serde(default)]
    nodes: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Lock {
    wait_ms: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Unlock {
    fence: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Append {
    value: u64,
    wait_ms: Option<u64>,
}

fn wait_us(wait_ms: Option<u64>) -> u64 {
    wait_ms.unwrap_or(WAIT_MS).saturating_mul(1_000)
}

async fn ask(app: &App, asked: GroupCall) -> Response {
    let answer = match call(app, Call::Group(asked)).await {
        CallReply::Group(answer) => *answer,
        CallReply::NotHere { message } | CallReply::Refused { message } => {
            return refuse(StatusCode::SERVICE_UNAVAILABLE, &message);
        }
        CallReply::Unknown { message } => return refuse(StatusCode::GATEWAY_TIMEOUT, &message),
        reply => {
            let words = format!("the core answered something else: {reply:?}");
            return refuse(StatusCode::INTERNAL_SERVER_ERROR, &words);
        }
    };
    match answer {
        GroupAnswer::Done => Json(json!({})).into_response(),
        GroupAnswer::Groups(groups) => Json(groups).into_response(),
        GroupAnswer::Locked(fence) => Json(json!({ "fence": fence })).into_response(),
        GroupAnswer::Appended(place) => Json(json!({ "place": place })).into_response(),
        GroupAnswer::Log(events) => Json(events).into_response(),
        GroupAnswer::NotFound => refuse(StatusCode::NOT_FOUND, "there is no such group"),
        GroupAnswer::Refused(words) => refuse(StatusCode::CONFLICT, &words),
        GroupAnswer::Late(words) => refuse(StatusCode::GATEWAY_TIMEOUT, &words),
    }
}

async fn list(State(app): State<App>) -> Response {
    ask(&app, GroupCall::List).await
}

async fn show(State(app): State<App>, Path(name): Path<String>) -> Response {
    let CallReply::Group(answer) = call(&app, Call::Group(GroupCall::List)).await else {
        return ask(&app, GroupCall::List).await;
    };
    let found = match *answer {
        GroupAnswer::Groups(groups) => groups.into_iter().find(|group| group.name == name),
        _ => None,
    };
    match found {
        Some(group) => Json(group).into_response(),
        None => refuse(StatusCode::NOT_FOUND, "there is no such group"),
    }
}

async fn create(State(app): State<App>, headers: HeaderMap, body: String) -> Response {
    match read_order::<Create>(&headers, &body) {
        Err(refusal) => *refusal,
        Ok(Create {
            name,
            protocol,
            nodes,
        }) => {
            let asked = GroupCall::Create {
                name,
                protocol,
                nodes,
            };
            ask(&app, asked).await
        }
    }
}

/// A page of another site cannot send this method without asking first.
async fn delete(State(app): State<App>, Path(name): Path<String>) -> Response {
    ask(&app, GroupCall::Delete { name }).await
}

async fn log(State(app): State<App>, Path(name): Path<String>) -> Response {
    ask(&app, GroupCall::Log { name }).await
}

async fn lock(
    State(app): State<App>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: String,
) -> Response {
    match read_order::<Lock>(&headers, &body) {
        Err(refusal) => *refusal,
        Ok(Lock { wait_ms }) => {
            let wait_us = wait_us(wait_ms);
            ask(&app, GroupCall::Lock { name, wait_us }).await
        }
    }
}

async fn unlock(
    State(app): State<App>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: String,
) -> Response {
    match read_order::<Unlock>(&headers, &body) {
        Err(refusal) => *refusal,
        Ok(Unlock { fence }) => ask(&app, GroupCall::Unlock { name, fence }).await,
    }
}

async fn append(
    State(app): State<App>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: String,
) -> Response {
    match read_order::<Append>(&headers, &body) {
        Err(refusal) => *refusal,
        Ok(Append { value, wait_ms }) => {
            let asked = GroupCall::Append {
                name,
                value,
                wait_us: wait_us(wait_ms),
            };
            ask(&app, asked).await
        }
    }
}
