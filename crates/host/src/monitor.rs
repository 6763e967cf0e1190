//! What services tell of their calls, and what this node and the others know of them: `/v1/monitor/calls`.
//!
//! Reports are kept in memory where they came to, and added up over the nodes when somebody asks. Nodes find each other
//! as chunk servers do, so one with `files.serve = false` is not asked.

use crate::files::client::{Connection, collect_up_to};
use crate::http::{App, Shared, call, read_order, refuse, status_of};
use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Query, State};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use node::{Call, CallReply, ChunkServer, FilesAnswer, FilesQuery};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use storage::files::Sight;
use traffic::calls::{Board, Counts, Heard, Report, Row, Table, merge};

/// Largest report: all rows, with long names.
const REPORT_BYTES_MAX: usize = 1 << 20;
/// Most that another node tells.
const TOLD_BYTES_MAX: usize = 32 << 20;
/// A node that does not tell in this time is left out.
const TELL_TIME: Duration = Duration::from_secs(2);
/// Of a reporter that was silent for so long, metrics say nothing: it may have turned to another node.
const SILENT_MS: u64 = 15_000;

/// What this node was told.
pub struct Calls {
    start: Instant,
    board: Mutex<Board>,
}

impl Calls {
    /// Nothing yet.
    pub fn new() -> Self {
        Self {
            start: Instant::now(),
            board: Mutex::default(),
        }
    }

    fn handle_report(&self, report: Report) {
        let now_us = self.now_us();
        self.board().handle_report(report, now_us);
    }

    fn heard(&self) -> Vec<Heard> {
        self.board().heard(self.now_us())
    }

    /// What reporters tell here, and nowhere else by now.
    pub fn fresh(&self) -> Vec<Row> {
        let mut heard = self.heard();
        heard.retain(|heard| heard.silent_ms < SILENT_MS);
        merge(heard)
    }

    /// Nothing panics while it holds the lock; if something did, what it guards is still whole.
    fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now_us(&self) -> u64 {
        self.start.elapsed().as_micros() as u64
    }
}

/// The path.
pub fn routes() -> Router<App> {
    Router::new()
        .route("/v1/monitor/calls", get(show).post(report))
        .layer(DefaultBodyLimit::max(REPORT_BYTES_MAX))
}

async fn report(State(app): State<App>, headers: HeaderMap, body: String) -> Response {
    let report: Report = match read_order(&headers, &body) {
        Ok(report) => report,
        Err(refusal) => return *refusal,
    };
    match report.check() {
        Ok(()) => {
            app.calls().handle_report(report);
            StatusCode::NO_CONTENT.into_response()
        }
        Err(why) => refuse(StatusCode::BAD_REQUEST, &why),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    /// What this node was told, and nobody else.
    #[serde(default)]
    local: bool,
}

async fn show(State(app): State<App>, Query(asked): Query<Asked>) -> Response {
    if asked.local {
        return axum::Json(app.calls().heard()).into_response();
    }
    let told = table(&app).await;
    let rows: Vec<Value> = told.rows.iter().map(row).collect();
    let told = json!({ "nodes": told.nodes, "missing": told.missing, "rows": rows });
    axum::Json(told).into_response()
}

fn row(row: &Row) -> Value {
    let counts = |counts: &Counts| {
        let quantile = |part: f64| counts.quantile_us(part);
        json!({
            "counts": counts,
            "p50_us": quantile(0.5),
            "p99_us": quantile(0.99),
        })
    };
    json!({ "call": row.call, "minute": counts(&row.minute), "total": counts(&row.total) })
}

/// What all nodes were told.
pub async fn table(app: &Shared) -> Table {
    let mut told = Table {
        nodes: 1,
        ..Table::default()
    };
    let mut heard = app.calls().heard();
    let servers = match call(app, Call::ReadFiles(FilesQuery::Servers)).await {
        CallReply::Files(answer) => match *answer {
            FilesAnswer::Servers(servers) => servers,
            _ => Vec::new(),
        },
        CallReply::NotHere { message }
        | CallReply::Refused { message }
        | CallReply::Unknown { message } => {
            let why = format!("only this node is counted: {message}");
            told.missing.push(why);
            Vec::new()
        }
        _ => Vec::new(),
    };
    let me = app.config().node;
    let others: Vec<ChunkServer> = (servers.into_iter())
        .filter(|server| server.node != me)
        .collect();
    if let Ok(statuses) = status_of(app).await {
        let members = statuses.first().map_or(0, |status| status.members.len());
        let unknown = members.saturating_sub(1 + others.len());
        if unknown > 0 && told.missing.is_empty() {
            let why =
                format!("{unknown} nodes have not said where they keep chunks, and are not asked");
            told.missing.push(why);
        }
    }
    let asked: Vec<_> = (others.into_iter())
        .map(|server| {
            let answer = tokio::spawn(ask(server.clone()));
            (server, answer)
        })
        .collect();
    for (server, answer) in asked {
        match answer.await.unwrap_or_else(|ended| Err(ended.to_string())) {
            Ok(theirs) => {
                told.nodes += 1;
                heard.extend(theirs);
            }
            Err(why) => told.missing.push(format!("{}: {why}", server.address)),
        }
    }
    told.rows = merge(heard);
    told
}

/// What another node was told.
async fn ask(server: ChunkServer) -> Result<Vec<Heard>, String> {
    if matches!(server.sight, Sight::Silent | Sight::Dead) {
        return Err("it is not heard".into());
    }
    let asked = async {
        let connection = Connection::open(&server.address).await?;
        let path = "/v1/monitor/calls?local=true";
        let answer = connection.send(Method::GET, path, Body::empty(), 0).await?;
        collect_up_to(answer, TOLD_BYTES_MAX).await
    };
    let told = match tokio::time::timeout(TELL_TIME, asked).await {
        Ok(told) => told.map_err(|error| error.to_string())?,
        Err(_) => return Err(format!("it did not answer within {TELL_TIME:?}")),
    };
    let heard: Vec<Heard> = serde_json::from_slice(&told)
        .map_err(|error| format!("what it told cannot be read: {error}"))?;
    for heard in &heard {
        heard.report.check()?;
    }
    Ok(heard)
}
