//! Jobs and agents over HTTP: for people and programs that want something run, and for agents.
//!
//! Nothing here decides anything: a request becomes a [`Call`] for a core, its reply becomes JSON in the shape of
//! `scheduling::query`. Orders are taken only as JSON or TOML, which a page of another site cannot send unasked.

pub mod file;
mod outside;

use crate::agent::logs;
use crate::files::client::{Connection, collect_up_to};
use crate::http::{App, call, refuse};
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use hyper::Method;
use node::{After, Call, CallReply, JobsAnswer, JobsQuery};
use scheduling::command::Seen;
use scheduling::model::AgentSpec;
use scheduling::query::JobView;
use scheduling::{AgentId, Command, InstanceId, Refusal, Reply};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// The longest wait for a change, milliseconds.
const WAIT_MS_MAX: u64 = 600_000;
/// Largest piece of a log.
const LOG_BYTES_MAX: usize = 1 << 20;

/// The paths of jobs and agents.
pub fn routes() -> Router<App> {
    Router::new()
        .route("/v1/jobs", post(run).get(jobs))
        .route("/v1/jobs/{name}", get(job).delete(stop))
        .route("/v1/jobs/{name}/logs", get(task_log))
        .route("/v1/agents", post(register).get(agents))
        .route("/v1/agents/{id}", delete(leave))
        .route("/v1/agents/{id}/beat", post(beat))
        .route("/v1/agents/{id}/work", get(work))
        .route("/v1/agents/{id}/report", post(report))
        .merge(outside::routes())
}

/// "Not before there is something new."
#[derive(Deserialize)]
struct Wait {
    index: Option<u64>,
    #[serde(default)]
    wait_ms: u64,
}

impl Wait {
    fn after(&self) -> Option<After> {
        self.index.filter(|index| *index > 0).map(|index| After {
            index,
            wait_us: self.wait_ms.min(WAIT_MS_MAX) * 1_000,
        })
    }
}

#[derive(Deserialize)]
struct Of {
    generation: u64,
}

// ---- asking ----------------------------------------------------------------------------------

fn refused(refusal: &Refusal) -> Response {
    let code = match refusal {
        Refusal::Invalid(_) => StatusCode::BAD_REQUEST,
        Refusal::UnknownJob(_) | Refusal::UnknownTask(_) => StatusCode::NOT_FOUND,
        Refusal::Runs(_) => StatusCode::CONFLICT,
        Refusal::TooMany => StatusCode::INSUFFICIENT_STORAGE,
        Refusal::Offer(_) => StatusCode::CONFLICT,
        Refusal::Outdated => StatusCode::GONE,
    };
    refuse(code, &refusal.to_string())
}

fn excuse(reply: CallReply) -> Response {
    let (code, message) = match reply {
        CallReply::NotHere { message } | CallReply::Refused { message } => {
            (StatusCode::SERVICE_UNAVAILABLE, message)
        }
        CallReply::Unknown { message } => (StatusCode::GATEWAY_TIMEOUT, message),
        _ => (
            StatusCode::INTERNAL_SERVER_ERROR,
            "the core answered something else".to_owned(),
        ),
    };
    refuse(code, &message)
}

async fn change(
    app: &App,
    command: Command,
    show: impl FnOnce(Reply) -> serde_json::Value,
) -> Response {
    match call(app, Call::ChangeJobs(command)).await {
        CallReply::JobsChanged(Ok(reply)) => Json(show(reply)).into_response(),
        CallReply::JobsChanged(Err(refusal)) => refused(&refusal),
        other => excuse(other),
    }
}

async fn ask(
    app: &App,
    query: JobsQuery,
    after: Option<After>,
) -> Result<(u64, JobsAnswer), Response> {
    match call(app, Call::ReadJobs { query, after }).await {
        CallReply::Jobs { index, answer } => Ok((index, *answer)),
        other => Err(excuse(other)),
    }
}

fn show<T: Serialize>(index: u64, value: &T) -> Response {
    Json(json!([index, value])).into_response()
}

// ---- jobs ------------------------------------------------------------------------------------

async fn run(State(app): State<App>, headers: HeaderMap, body: String) -> Response {
    let kind = headers.get(header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let job = match kind.split(';').next().unwrap_or_default().trim() {
        "application/toml" => file::parse(&body),
        "application/json" => file::parse_json(&body),
        other => {
            let why = format!(
                "a job is application/toml or application/json, not {other:?}: name it in Content-Type"
            );
            return refuse(StatusCode::UNSUPPORTED_MEDIA_TYPE, &why);
        }
    };
    let job = match job {
        Ok(job) => job,
        Err(why) => return refuse(StatusCode::BAD_REQUEST, &why),
    };
    let name = job.name.clone();
    change(&app, Command::Run { job }, |reply| match reply {
        Reply::Wanted { number } => json!({ "name": name, "number": number }),
        _ => json!({ "name": name }),
    })
    .await
}

async fn jobs(State(app): State<App>, Query(wait): Query<Wait>) -> Response {
    match ask(&app, JobsQuery::Jobs, wait.after()).await {
        Ok((index, JobsAnswer::Jobs(jobs))) => show(index, &jobs),
        Ok(_) => excuse(CallReply::Beaten { is_known: false }),
        Err(failed) => failed,
    }
}

async fn read_job(app: &App, name: String, wait: &Wait) -> Result<(u64, JobView), Response> {
    match ask(app, JobsQuery::Job { name }, wait.after()).await? {
        (index, JobsAnswer::Job(Ok(view))) => Ok((index, view)),
        (_, JobsAnswer::Job(Err(refusal))) => Err(refused(&refusal)),
        _ => Err(excuse(CallReply::Beaten { is_known: false })),
    }
}

async fn job(
    State(app): State<App>,
    Path(name): Path<String>,
    Query(wait): Query<Wait>,
) -> Response {
    match read_job(&app, name, &wait).await {
        Ok((index, view)) => show(index, &view),
        Err(failed) => failed,
    }
}

#[derive(Deserialize)]
struct Stop {
    #[serde(default)]
    remove: bool,
}

async fn stop(
    State(app): State<App>,
    Path(name): Path<String>,
    Query(stop): Query<Stop>,
) -> Response {
    let command = match stop.remove {
        true => Command::Remove { name },
        false => Command::Stop { name },
    };
    change(&app, command, |_| json!({})).await
}

#[derive(Deserialize)]
struct LogOf {
    task: Option<String>,
    #[serde(default)]
    n: u32,
    instance: Option<u64>,
    #[serde(default)]
    offset: u64,
}

/// Fetches a piece of a task's log from the agent that has it.
async fn task_log(
    State(app): State<App>,
    Path(name): Path<String>,
    Query(of): Query<LogOf>,
) -> Response {
    let wait = Wait {
        index: None,
        wait_ms: 0,
    };
    let view = match read_job(&app, name, &wait).await {
        Ok((_, view)) => view,
        Err(failed) => return failed,
    };
    let attempts = view.tasks.iter().filter(|task| {
        let is_its = |name: &String| *name == task.task;
        of.instance.is_some() || (of.task.as_ref().is_none_or(is_its) && task.index == of.n)
    });
    let is_it = |id: InstanceId| of.instance.is_none_or(|wanted| id == InstanceId(wanted));
    let mut found = attempts
        .flat_map(|task| &task.attempts)
        .filter(|a| is_it(a.id));
    let Some(attempt) = found.next() else {
        return refuse(
            StatusCode::NOT_FOUND,
            "there is no such task, or it has not been given to an agent yet",
        );
    };
    let path = format!("/v1/agent/logs/{}?offset={}", attempt.id, of.offset);
    let fetched = async {
        let connection = Connection::open(&attempt.address).await?;
        let answer = connection
            .send(Method::GET, &path, Body::empty(), 0)
            .await?;
        let status = answer.status();
        let headers = answer.headers().clone();
        collect_up_to(answer, LOG_BYTES_MAX)
            .await
            .map(|bytes| (status, headers, bytes))
    };
    match fetched.await {
        Ok((status, headers, bytes)) => {
            let mut response = (status, bytes).into_response();
            for name in [logs::OFFSET, logs::ENDED] {
                if let Some(value) = headers.get(name) {
                    response.headers_mut().insert(name, value.clone());
                }
            }
            let instance = attempt.id.0.into();
            response.headers_mut().insert("x-log-instance", instance);
            response
        }
        Err(error) => refuse(
            StatusCode::BAD_GATEWAY,
            &format!(
                "instance {} is on the agent {:?} at {}, which cannot be asked for its log: {error}",
                attempt.id, attempt.agent, attempt.address
            ),
        ),
    }
}

// ---- agents ----------------------------------------------------------------------------------

async fn agents(State(app): State<App>, Query(wait): Query<Wait>) -> Response {
    match ask(&app, JobsQuery::Agents, wait.after()).await {
        Ok((index, JobsAnswer::Agents(agents))) => show(index, &agents),
        Ok(_) => excuse(CallReply::Beaten { is_known: false }),
        Err(failed) => failed,
    }
}

#[derive(Deserialize)]
struct Registration {
    agent: AgentSpec,
    has: Vec<InstanceId>,
    #[serde(default)]
    attempt: u64,
}

async fn register(State(app): State<App>, Json(said): Json<Registration>) -> Response {
    let Registration {
        agent,
        has,
        attempt,
    } = said;
    change(
        &app,
        Command::Register {
            agent,
            has,
            attempt,
        },
        |reply| match reply {
            Reply::Registered { generation } => json!({ "generation": generation }),
            _ => json!({}),
        },
    )
    .await
}

async fn leave(
    State(app): State<App>,
    Path(agent): Path<AgentId>,
    Query(Of { generation }): Query<Of>,
) -> Response {
    let command = Command::Lose {
        agent,
        generation,
        forget: true,
    };
    change(&app, command, |_| json!({})).await
}

async fn beat(
    State(app): State<App>,
    Path(agent): Path<AgentId>,
    Query(Of { generation }): Query<Of>,
    Json(_): Json<serde_json::Value>,
) -> Response {
    match call(&app, Call::Beat { agent, generation }).await {
        CallReply::Beaten { is_known: true } => Json(json!({})).into_response(),
        CallReply::Beaten { is_known: false } => refused(&Refusal::Outdated),
        other => excuse(other),
    }
}

async fn work(
    State(app): State<App>,
    Path(agent): Path<AgentId>,
    Query(Of { generation }): Query<Of>,
    Query(wait): Query<Wait>,
) -> Response {
    let query = JobsQuery::Work { agent, generation };
    match ask(&app, query, wait.after()).await {
        Ok((index, JobsAnswer::Work(Ok(work)))) => show(index, &work),
        Ok((_, JobsAnswer::Work(Err(refusal)))) => refused(&refusal),
        Ok(_) => excuse(CallReply::Beaten { is_known: false }),
        Err(failed) => failed,
    }
}

#[derive(Deserialize)]
struct Report {
    seen: Vec<Seen>,
}

async fn report(
    State(app): State<App>,
    Path(agent): Path<AgentId>,
    Query(Of { generation }): Query<Of>,
    Json(Report { seen }): Json<Report>,
) -> Response {
    let command = Command::Report {
        agent,
        generation,
        seen,
    };
    change(&app, command, |_| json!({})).await
}
