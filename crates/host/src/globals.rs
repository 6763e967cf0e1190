//! Global transactions over HTTP: the paths and fields of DTM's interface, so that its clients work. On a thread
//! and a port of its own. Nothing here decides anything: a request becomes a [`Call`] for a core, its reply
//! becomes JSON. What was done answers 200 and `SUCCESS`, what cannot be 409 and `FAILURE`, what is under way 425
//! and `ONGOING`; any other code says that nothing is known, or that the request cannot be meant.

mod request;
mod show;

use crate::http::{host_allowed, refuse};
use crate::mail::{self, Mailbox};
use crate::thread::Thread;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Query, Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, delete, get, post};
use axum::{Json, Router};
use base::Rng;
use node::{After, Call, CallReply, GlobalsAnswer, GlobalsQuery};
use serde::Deserialize;
use serde_json::{Value, json};
use std::io;
use std::net::TcpListener;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use transactions::global::{Command, GLOBAL_BYTES_MAX, Global, Kind, Refusal, Status};

/// Longest body: what a transaction may hold, in JSON's clothes.
const BODY_BYTES_MAX: usize = 4 * GLOBAL_BYTES_MAX;
/// Whoever waits for the end is told that it is under way after this; clients give up after 8 s.
const WAIT_TIME: Duration = Duration::from_secs(6);
/// Rows of a list unless told otherwise, and at most.
const LIST_DEFAULT: usize = 100;
const LIST_MAX: usize = 1_000;

/// The thread. Dropping it ends the thread.
pub struct GlobalsHttp {
    _thread: Thread,
}

struct Shared {
    cores: Vec<Mailbox>,
    hosts: Vec<String>,
    rng: Mutex<Rng>,
}

type App = Arc<Shared>;

impl GlobalsHttp {
    /// Starts serving on `listener`. `hosts`: names, besides `localhost` and IP addresses, under which it answers.
    pub fn start(
        listener: TcpListener,
        cores: Vec<Mailbox>,
        hosts: Vec<String>,
        seed: u64,
    ) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let app = Arc::new(Shared {
            cores,
            hosts,
            rng: Mutex::new(Rng::new(seed)),
        });
        let thread = Thread::serve("globals", "the interface of global transactions", || {
            serve(listener, app)
        })?;
        Ok(Self { _thread: thread })
    }
}

async fn serve(listener: TcpListener, app: App) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let routes = Router::new()
        .route("/version", get(version))
        .route("/newGid", get(new_gid))
        .route("/prepare", post(prepare))
        .route("/submit", post(submit))
        .route("/abort", post(abort))
        .route("/registerBranch", post(register))
        .route("/registerTccBranch", post(register))
        .route("/registerXaBranch", post(register))
        .route("/forceStop", post(stop))
        .route("/resetNextCronTime", post(resume))
        .route("/query", get(query))
        .route("/all", get(all))
        .route("/prepareWorkflow", any(absent))
        .route("/subscribe", any(absent))
        .route("/unsubscribe", any(absent))
        .route("/topic/{name}", delete(absent))
        .route("/scanKV", any(absent))
        .route("/queryKV", any(absent))
        .route("/resetCronTime", any(absent));
    let router = Router::new()
        .nest("/api/dtmsvr", routes)
        .route("/api/ping", any(ping))
        .route("/api/json-rpc", any(absent))
        .fallback(unknown_path)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(middleware::from_fn_with_state(app.clone(), guard))
        .with_state(app);
    axum::serve(listener, router).await
}

/// As the console's: a page of another site can neither come under a name that is not ours, nor send JSON.
async fn guard(State(app): State<App>, request: Request<Body>, next: Next) -> Response {
    if !host_allowed(request.headers(), request.uri(), &app.hosts) {
        return refuse(
            StatusCode::MISDIRECTED_REQUEST,
            "this host name is not known here: use localhost or the IP address, or add the name to `console_hosts` in the configuration",
        );
    }
    next.run(request).await
}

async fn ping() -> Response {
    Json(json!({ "msg": "pong" })).into_response()
}

async fn version() -> Response {
    Json(json!({ "version": env!("CARGO_PKG_VERSION") })).into_response()
}

async fn absent() -> Response {
    message(
        StatusCode::NOT_IMPLEMENTED,
        "this path is not there: sagas, TCC, messages and XA are, without workflows, topics, keys and values, JSON-RPC and gRPC",
    )
}

async fn unknown_path(request: Request<Body>) -> Response {
    let path = request.uri().path();
    message(
        StatusCode::NOT_FOUND,
        format!("{path} is no path of this interface; it begins with /api/dtmsvr/"),
    )
}

// ---- answers ---------------------------------------------------------------------------------

fn message(code: StatusCode, words: impl Into<String>) -> Response {
    (code, Json(json!({ "message": words.into() }))).into_response()
}

fn success() -> Response {
    Json(json!({ "dtm_result": "SUCCESS" })).into_response()
}

fn failure(words: &str) -> Response {
    let body = json!({ "dtm_result": "FAILURE", "message": format!("{words}. FAILURE") });
    (StatusCode::CONFLICT, Json(body)).into_response()
}

fn ongoing(words: &str) -> Response {
    let body = json!({ "dtm_result": "ONGOING", "message": format!("{words}. ONGOING") });
    (StatusCode::TOO_EARLY, Json(body)).into_response()
}

fn other(reply: CallReply) -> Response {
    match reply {
        CallReply::NotHere { message: words } | CallReply::Refused { message: words } => {
            message(StatusCode::SERVICE_UNAVAILABLE, words)
        }
        CallReply::Unknown { message: words } => message(StatusCode::GATEWAY_TIMEOUT, words),
        reply => message(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("the core answered something else: {reply:?}"),
        ),
    }
}

// ---- what changes ----------------------------------------------------------------------------

/// Carries out a command; `Err` is the answer of one that was not.
async fn carry_out(app: &App, command: Command) -> Result<(), Response> {
    match mail::call(&app.cores, Call::ChangeGlobals(command)).await {
        CallReply::GlobalsChanged(Ok(_)) => Ok(()),
        CallReply::GlobalsChanged(Err(refusal)) => Err(match &refusal {
            Refusal::NotFound(_) => message(StatusCode::NOT_FOUND, refusal.to_string()),
            Refusal::Conflict(_) => failure(&refusal.to_string()),
            Refusal::Invalid(_) => message(StatusCode::BAD_REQUEST, refusal.to_string()),
            Refusal::TooMany => message(StatusCode::SERVICE_UNAVAILABLE, refusal.to_string()),
        }),
        reply => Err(other(reply)),
    }
}

async fn done(app: &App, command: Command) -> Response {
    match carry_out(app, command).await {
        Ok(()) => success(),
        Err(answer) => answer,
    }
}

fn bad(why: String) -> Response {
    message(StatusCode::BAD_REQUEST, why)
}

fn json_body(headers: &HeaderMap, body: &str) -> Result<Value, Box<Response>> {
    crate::http::read_order(headers, body)
}

async fn new_gid(State(app): State<App>) -> Response {
    let mut rng = app.rng.lock().unwrap_or_else(PoisonError::into_inner);
    let gid = format!("{:016x}{:016x}", rng.next_u64(), rng.next_u64());
    Json(json!({ "gid": gid, "dtm_result": "SUCCESS" })).into_response()
}

async fn prepare(State(app): State<App>, headers: HeaderMap, body: String) -> Response {
    let body = match json_body(&headers, &body) {
        Ok(body) => body,
        Err(answer) => return *answer,
    };
    match request::transaction(body).and_then(|new| new.check(false).map(|()| new)) {
        Ok(new) => done(&app, Command::Prepare(new)).await,
        Err(why) => bad(why),
    }
}

async fn submit(State(app): State<App>, headers: HeaderMap, body: String) -> Response {
    let body = match json_body(&headers, &body) {
        Ok(body) => body,
        Err(answer) => return *answer,
    };
    let new = match request::transaction(body).and_then(|new| new.check(true).map(|()| new)) {
        Ok(new) => new,
        Err(why) => return bad(why),
    };
    let (gid, waits) = (new.gid.clone(), new.options.wait_result);
    match carry_out(&app, Command::Submit(new)).await {
        Err(answer) => answer,
        Ok(()) if waits => wait(&app, gid).await,
        Ok(()) => success(),
    }
}

/// Waits for the end of a transaction, or until it is clear that it does not end at once.
async fn wait(app: &App, gid: String) -> Response {
    let until = Instant::now() + WAIT_TIME;
    let mut seen = None;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let after = seen.map(|index| After {
            index,
            wait_us: left.as_micros() as u64,
        });
        let query = GlobalsQuery::One { gid: gid.clone() };
        let reply = mail::call(&app.cores, Call::ReadGlobals { query, after }).await;
        let (index, global) = match reply {
            CallReply::Globals { index, answer } => match *answer {
                GlobalsAnswer::One(Some(global)) => (index, global),
                _ => return message(StatusCode::NOT_FOUND, "it was forgotten"),
            },
            reply => return other(reply),
        };
        let is_delayed = global.next_ms().is_some() || global.parked.is_some();
        match global.status {
            Status::Succeeded => return success(),
            Status::Failed => return failure(&global.reason),
            Status::Aborting if is_delayed || left.is_zero() => {
                return failure(&global.reason);
            }
            _ if left.is_zero() => return ongoing("it has not ended yet"),
            _ if is_waiting(&global) => {
                let words = global.branches.iter().map(|branch| &*branch.words);
                let mut words = words.filter(|words| !words.is_empty());
                let words = words.next_back().unwrap_or_default();
                return ongoing(&format!(
                    "it has not ended yet, and will be tried again: {words}"
                ));
            }
            _ => seen = Some(index),
        }
    }
}

fn is_waiting(global: &Global) -> bool {
    use transactions::global::Call::Waits;
    let mut calls = global.branches.iter().map(|branch| branch.call);
    global.parked.is_some() || calls.any(|call| matches!(call, Waits { .. }))
}

async fn abort(State(app): State<App>, headers: HeaderMap, body: String) -> Response {
    let body = match json_body(&headers, &body) {
        Ok(body) => body,
        Err(answer) => return *answer,
    };
    match request::abort(&body) {
        Ok(command) => done(&app, command).await,
        Err(why) => bad(why),
    }
}

async fn register(State(app): State<App>, headers: HeaderMap, body: String) -> Response {
    let body = match json_body(&headers, &body) {
        Ok(body) => body,
        Err(answer) => return *answer,
    };
    match request::branch(&body) {
        Ok(command) => done(&app, command).await,
        Err(why) => bad(why),
    }
}

async fn stop(State(app): State<App>, headers: HeaderMap, body: String) -> Response {
    of_gid(&app, &headers, &body, |gid| Command::Stop { gid }).await
}

async fn resume(State(app): State<App>, headers: HeaderMap, body: String) -> Response {
    of_gid(&app, &headers, &body, |gid| Command::Resume { gid }).await
}

async fn of_gid(
    app: &App,
    headers: &HeaderMap,
    body: &str,
    command: impl FnOnce(String) -> Command,
) -> Response {
    match json_body(headers, body) {
        Err(answer) => *answer,
        Ok(body) => match request::gid(&body) {
            Ok(gid) => done(app, command(gid)).await,
            Err(why) => bad(why),
        },
    }
}

// ---- what is asked ---------------------------------------------------------------------------

#[derive(Deserialize)]
struct OneQuery {
    #[serde(default)]
    gid: String,
}

async fn read_one(app: &App, gid: String) -> Result<Option<Global>, Response> {
    let query = GlobalsQuery::One { gid };
    match mail::call(&app.cores, Call::ReadGlobals { query, after: None }).await {
        CallReply::Globals { answer, .. } => match *answer {
            GlobalsAnswer::One(global) => Ok(global),
            GlobalsAnswer::List { .. } => Ok(None),
        },
        reply => Err(other(reply)),
    }
}

async fn query(State(app): State<App>, Query(query): Query<OneQuery>) -> Response {
    if query.gid.is_empty() {
        return bad("no gid specified: ask for /api/dtmsvr/query?gid=…".into());
    }
    match read_one(&app, query.gid.clone()).await {
        Err(answer) => answer,
        Ok(None) => Json(json!({ "transaction": null, "branches": [] })).into_response(),
        Ok(Some(global)) => Json(json!({
            "transaction": show::transaction(&query.gid, &global),
            "branches": show::branches(&query.gid, &global),
        }))
        .into_response(),
    }
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct AllQuery {
    gid: String,
    position: String,
    limit: Option<usize>,
    status: String,
    trans_type: String,
    create_time_start: Option<i64>,
    create_time_end: Option<i64>,
    parked: bool,
}

async fn all(State(app): State<App>, Query(asked): Query<AllQuery>) -> Response {
    if !asked.gid.is_empty() {
        return match read_one(&app, asked.gid.clone()).await {
            Err(answer) => answer,
            Ok(global) => {
                let rows: Vec<Value> = (global.iter())
                    .map(|global| show::transaction(&asked.gid, global))
                    .collect();
                Json(json!({ "transactions": rows, "next_position": "" })).into_response()
            }
        };
    }
    let status = match asked.status.as_str() {
        "" => None,
        name => match Status::named(name) {
            None => {
                return bad(format!(
                    "no status {name:?}: prepared, submitted, aborting, succeed, failed"
                ));
            }
            status => status,
        },
    };
    let kind = match asked.trans_type.as_str() {
        "" => None,
        name => match Kind::named(name) {
            None => return bad(format!("no transType {name:?}: saga, tcc, msg, xa")),
            kind => kind,
        },
    };
    let query = GlobalsQuery::List {
        after: asked.position,
        count_max: asked.limit.unwrap_or(LIST_DEFAULT).clamp(1, LIST_MAX),
        parked: asked.parked,
        status,
        kind,
        created_ms: (
            asked.create_time_start.unwrap_or(i64::MIN),
            asked.create_time_end.unwrap_or(i64::MAX),
        ),
    };
    match mail::call(&app.cores, Call::ReadGlobals { query, after: None }).await {
        CallReply::Globals { answer, .. } => match *answer {
            GlobalsAnswer::List { rows, next } => {
                let rows: Vec<Value> = (rows.iter())
                    .map(|(gid, global)| show::transaction(gid, global))
                    .collect();
                Json(json!({ "transactions": rows, "next_position": next.unwrap_or_default() }))
                    .into_response()
            }
            GlobalsAnswer::One(_) => message(StatusCode::INTERNAL_SERVER_ERROR, "another answer"),
        },
        reply => other(reply),
    }
}
