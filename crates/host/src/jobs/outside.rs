//! Schedulers and frameworks over HTTP: programs that place tasks themselves.
//!
//! * A *scheduler* reads the cell (`GET /v1/cell?scheduler=NAME`) and commits what it decided (`POST /v1/cell/commit`).
//! * A *framework* registers (`POST /v1/frameworks`), asks for its offers (`GET /v1/frameworks/NAME/offers`), which also
//!   says that it lives, and answers them (`POST /v1/frameworks/NAME/answer`).

use super::file::TaskFile;
use super::{Of, Wait, ask, change, excuse, refused, show};
use crate::http::{App, call};
use axum::extract::{Path, Query, State};
use axum::response::Response;
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use node::{Call, CallReply, JobsAnswer, JobsQuery};
use scheduling::cell::{Check, Commit};
use scheduling::command::{Claim, Slot};
use scheduling::model::{Framework, InstanceId};
use scheduling::{Command, Reply};
use serde::Deserialize;
use serde_json::{Value, json};

/// The longest wait for offers, milliseconds: whoever waits is heard again after it.
const OFFERS_WAIT_MS_MAX: u64 = 60_000;

pub fn routes() -> Router<App> {
    Router::new()
        .route("/v1/cell", get(cell))
        .route("/v1/cell/commit", post(commit))
        .route("/v1/frameworks", post(join).get(frameworks))
        .route("/v1/frameworks/{name}", delete(quit))
        .route("/v1/frameworks/{name}/offers", get(offers))
        .route("/v1/frameworks/{name}/answer", post(answer))
}

fn other() -> Response {
    excuse(CallReply::Beaten { is_known: false })
}

fn placed(all: &[(Slot, InstanceId)]) -> Vec<Value> {
    let one = |(slot, instance): &(Slot, InstanceId)| json!({ "slot": slot, "instance": instance });
    all.iter().map(one).collect()
}

// ---- schedulers ------------------------------------------------------------------------------

#[derive(Deserialize)]
struct Who {
    scheduler: String,
}

async fn cell(
    State(app): State<App>,
    Query(Who { scheduler }): Query<Who>,
    Query(wait): Query<Wait>,
) -> Response {
    match ask(&app, JobsQuery::Cell { scheduler }, wait.after()).await {
        Ok((index, JobsAnswer::Cell(view))) => show(index, &view),
        Ok(_) => other(),
        Err(failed) => failed,
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Decided {
    scheduler: String,
    claims: Vec<Claim>,
    #[serde(default)]
    all_or_nothing: bool,
    #[serde(default)]
    by_version: bool,
}

async fn commit(State(app): State<App>, Json(decided): Json<Decided>) -> Response {
    let command = Command::Commit {
        scheduler: decided.scheduler,
        claims: decided.claims,
        commit: match decided.all_or_nothing {
            true => Commit::AllOrNothing,
            false => Commit::Incremental,
        },
        check: match decided.by_version {
            true => Check::Version,
            false => Check::Fit,
        },
    };
    change(&app, command, |reply| match reply {
        Reply::Committed {
            placed: done,
            conflicts,
        } => {
            let conflicts = conflicts.iter();
            let conflicts = conflicts.map(|(slot, why)| json!({ "slot": slot, "why": why }));
            json!({ "placed": placed(&done), "conflicts": conflicts.collect::<Vec<_>>() })
        }
        _ => json!({}),
    })
    .await
}

// ---- frameworks ------------------------------------------------------------------------------

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Joining {
    name: String,
    #[serde(default = "weight")]
    weight: u32,
    #[serde(default = "lease_ms")]
    lease_ms: u32,
    #[serde(default = "priority")]
    priority: u32,
}

fn weight() -> u32 {
    1
}

fn lease_ms() -> u32 {
    30_000
}

fn priority() -> u32 {
    50
}

async fn join(State(app): State<App>, Json(joining): Json<Joining>) -> Response {
    let Joining {
        name,
        weight,
        lease_ms,
        priority,
    } = joining;
    let command = Command::Join {
        name: name.clone(),
        priority,
        framework: Framework {
            weight,
            lease_ms,
            generation: 0,
        },
    };
    change(&app, command, |reply| match reply {
        Reply::Registered { generation } => json!({ "name": name, "generation": generation }),
        _ => json!({}),
    })
    .await
}

async fn frameworks(State(app): State<App>, Query(wait): Query<Wait>) -> Response {
    match ask(&app, JobsQuery::Frameworks, wait.after()).await {
        Ok((index, JobsAnswer::Frameworks(all))) => show(index, &all),
        Ok(_) => other(),
        Err(failed) => failed,
    }
}

async fn quit(
    State(app): State<App>,
    Path(name): Path<String>,
    Query(Of { generation }): Query<Of>,
) -> Response {
    let command = Command::Quit {
        name,
        generation,
        renewals: None,
    };
    change(&app, command, |_| json!({})).await
}

#[derive(Deserialize)]
struct Asking {
    #[serde(default = "yes")]
    wants: bool,
}

fn yes() -> bool {
    true
}

/// A framework that asks lives: that is said first, then its offers are read, or waited for.
async fn offers(
    State(app): State<App>,
    Path(framework): Path<String>,
    Query(Of { generation }): Query<Of>,
    Query(Asking { wants }): Query<Asking>,
    Query(mut wait): Query<Wait>,
) -> Response {
    let renew = Command::Renew {
        name: framework.clone(),
        generation,
        wants,
    };
    match call(&app, Call::ChangeJobs(renew)).await {
        CallReply::JobsChanged(Ok(_)) => {}
        CallReply::JobsChanged(Err(refusal)) => return refused(&refusal),
        failed => return excuse(failed),
    }
    wait.wait_ms = wait.wait_ms.min(OFFERS_WAIT_MS_MAX);
    let query = JobsQuery::Offers {
        framework,
        generation,
    };
    match ask(&app, query, wait.after()).await {
        Ok((index, JobsAnswer::Offers(Ok(view)))) => show(index, &view),
        Ok((_, JobsAnswer::Offers(Err(refusal)))) => refused(&refusal),
        Ok(_) => other(),
        Err(failed) => failed,
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Answered {
    offer: u64,
    #[serde(default)]
    tasks: Vec<TaskFile>,
    #[serde(default = "filter_ms")]
    filter_ms: u64,
}

fn filter_ms() -> u64 {
    5_000
}

async fn answer(
    State(app): State<App>,
    Path(name): Path<String>,
    Query(Of { generation }): Query<Of>,
    Json(answered): Json<Answered>,
) -> Response {
    let command = Command::Answer {
        name,
        generation,
        offer: answered.offer,
        tasks: answered.tasks.into_iter().map(TaskFile::build).collect(),
        filter_ms: answered.filter_ms,
    };
    change(&app, command, |reply| match reply {
        Reply::Launched(launched) => json!({ "launched": placed(&launched) }),
        _ => json!({}),
    })
    .await
}
