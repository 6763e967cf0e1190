//! HTTP for people and machines: console pages, JSON, metrics and health, on a thread of its own.
//!
//! Nothing here decides anything: each answer is made from what the cores say. Orders are taken only
//! as JSON, which a page of another site cannot send without asking first; and only under a host name
//! that is ours, so that a foreign name that resolves to this machine (DNS rebinding) gets nothing.

use crate::files::{self, ChunkStore, FilesConfig};
use crate::gateway::{self, GatewayHandle};
use crate::mail::{self, Mail, Mailbox};
use crate::metrics;
use crate::series::Series;
use crate::thread::Thread;
use crate::{actors, agent, discovery, dns, groups, jobs, lab, monitor, streams, transactions};
use axum::Router;
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{ConnectInfo, DefaultBodyLimit, Query, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use base::{NodeId, Rng};
use node::admin::{KeysPage, TopicsPage, TreePage};
use node::{AdminCommand, AdminReply, Call, CallReply, Status};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::oneshot;

/// A core that does not answer in this time is said not to respond.
const ANSWER_TIME: Duration = Duration::from_secs(5);
/// The sampler does not wait as long.
const SAMPLE_TIME: Duration = Duration::from_millis(900);
/// Largest order.
const ORDER_BYTES_MAX: usize = 64 << 10;

/// What the HTTP side is told.
#[derive(Clone)]
pub struct HttpConfig {
    /// Host names, besides `localhost` and IP addresses, under which it answers.
    pub hosts: Vec<String>,
    /// This node.
    pub node: NodeId,
    /// How files are kept.
    pub files: FilesConfig,
    /// Its host name or IP address, without a port, for services that have none of their own.
    pub node_address: String,
    /// The directory of this node's agent.
    pub agent: PathBuf,
    /// The gateway of this node, if there is one.
    pub gateway: Option<GatewayHandle>,
    /// For what has to be drawn at random.
    pub seed: u64,
    /// The laboratory, where there is one.
    pub lab: Option<Arc<lab::Lab>>,
    /// What DNS counts, where it is served.
    pub dns: Option<Arc<dns::Counts>>,
}

/// The HTTP thread. Dropping it ends the thread.
pub struct Http {
    _thread: Thread,
}

pub struct Shared {
    cores: Vec<Mailbox>,
    config: HttpConfig,
    series: Mutex<Series>,
    rng: Mutex<Rng>,
    calls: monitor::Calls,
}

pub type App = Arc<Shared>;

impl Shared {
    /// What it was told at its start.
    pub fn config(&self) -> &HttpConfig {
        &self.config
    }

    /// What services told of their calls.
    pub fn calls(&self) -> &monitor::Calls {
        &self.calls
    }

    /// A number that nobody could have said before.
    pub fn draw(&self) -> u64 {
        lock(&self.rng).next_u64()
    }
}

impl Http {
    /// Starts serving on `listener`.
    pub fn start(
        listener: TcpListener,
        cores: Vec<Mailbox>,
        config: HttpConfig,
        chunks: Option<Arc<ChunkStore>>,
    ) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let app = Arc::new(Shared {
            cores,
            series: Mutex::default(),
            rng: Mutex::new(Rng::new(config.seed)),
            calls: monitor::Calls::new(),
            config,
        });
        let thread = Thread::serve("http", "the console", || serve(listener, app, chunks))?;
        Ok(Self { _thread: thread })
    }
}

async fn serve(listener: TcpListener, app: App, chunks: Option<Arc<ChunkStore>>) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    tokio::spawn(sample(app.clone()));
    let router = Router::new()
        .route("/v1/status", get(status))
        .route("/v1/members", get(members))
        .route("/v1/tree", get(tree))
        .route("/v1/keys", get(keys))
        .route("/v1/topics", get(topics))
        .route("/v1/series", get(series))
        .route("/v1/admin", post(admin))
        .route("/metrics", get(metrics_text))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .merge(jobs::routes())
        .merge(agent::logs::routes(app.config.agent.clone()))
        .merge(discovery::routes())
        .merge(gateway::routes())
        .merge(groups::routes())
        .merge(lab::routes())
        .merge(files::routes(
            app.clone(),
            app.config.files.clone(),
            app.config.node,
            chunks,
        ))
        .fallback(get(page))
        .layer(DefaultBodyLimit::max(ORDER_BYTES_MAX))
        .merge(transactions::routes())
        .merge(monitor::routes())
        .layer(middleware::from_fn_with_state(app.clone(), guard))
        .with_state(app);
    axum::serve(
        listener,
        router.into_make_service_with_connect_info::<SocketAddr>(),
    )
    .await
}

async fn sample(app: App) {
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Ok(statuses) = statuses(&app, SAMPLE_TIME).await {
            let wall = SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default();
            lock(&app.series).add(wall.as_millis() as i64, &statuses);
        }
    }
}

/// Nothing panics while it holds a lock; if something did, what it guards is still whole.
fn lock<T>(value: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    value
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

// ---- who may ask -----------------------------------------------------------------------------

async fn guard(State(app): State<App>, request: Request, next: Next) -> Response {
    if !host_allowed(request.headers(), request.uri(), &app.config.hosts) {
        return refuse(
            StatusCode::MISDIRECTED_REQUEST,
            "this host name is not known here: use localhost or the IP address, or add the name to `console_hosts` in the configuration",
        );
    }
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; img-src data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
        ),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// An IP address cannot be rebound, and `localhost` is ours; other names must be configured.
pub(crate) fn host_allowed(headers: &HeaderMap, uri: &Uri, names: &[String]) -> bool {
    let host = match (headers.get(header::HOST), uri.authority()) {
        (Some(host), _) => host.to_str().unwrap_or_default(),
        (None, Some(authority)) => authority.as_str(),
        // HTTP/1.0 without a name: no browser does that.
        (None, None) => return true,
    };
    let name = if let Some(rest) = host.strip_prefix('[') {
        rest.split(']').next().unwrap_or_default()
    } else {
        host.rsplit_once(':').map_or(host, |(name, _)| name)
    };
    name.parse::<IpAddr>().is_ok()
        || name.eq_ignore_ascii_case("localhost")
        || names.iter().any(|known| known.eq_ignore_ascii_case(name))
}

// ---- asking the cores ------------------------------------------------------------------------

pub(crate) async fn ask(
    core: &Mailbox,
    command: AdminCommand,
    time: Duration,
) -> Result<AdminReply, String> {
    let (reply, answer) = oneshot::channel();
    core.send(Mail::Admin { command, reply });
    match tokio::time::timeout(time, answer).await {
        Ok(Ok(reply)) => Ok(reply),
        Ok(Err(_)) => Err("the core has stopped".into()),
        Err(_) => Err(format!("the core did not answer within {time:?}")),
    }
}

async fn statuses(app: &Shared, time: Duration) -> Result<Vec<Status>, String> {
    let mut all = Vec::with_capacity(app.cores.len());
    for (number, core) in app.cores.iter().enumerate() {
        match ask(core, AdminCommand::Status, time).await {
            Ok(AdminReply::Status(status)) => all.push(*status),
            Ok(_) => return Err(format!("core {number} did not answer with its status")),
            Err(why) => return Err(format!("core {number}: {why}")),
        }
    }
    Ok(all)
}

/// What each core says of itself.
pub async fn status_of(app: &Shared) -> Result<Vec<Status>, String> {
    statuses(app, ANSWER_TIME).await
}

/// Asks the cores in turn until one does not refuse: a shard lives on one core of a node.
async fn order(app: &Shared, command: AdminCommand) -> Result<AdminReply, String> {
    let mut answer = Err("the node has no cores".to_owned());
    for core in &app.cores {
        answer = ask(core, command.clone(), ANSWER_TIME).await;
        match answer {
            Ok(AdminReply::Refused { .. }) => {}
            _ => break,
        }
    }
    answer
}

/// See [`mail::call`].
pub async fn call(app: &Shared, call: Call) -> CallReply {
    mail::call(&app.cores, call).await
}

pub(crate) async fn read_tree(
    app: &Shared,
    path: &str,
    from: SocketAddr,
) -> Result<TreePage, String> {
    let command = AdminCommand::TreeRead {
        path: path.to_owned(),
        address: from.ip().to_canonical().to_string(),
    };
    match order(app, command).await? {
        AdminReply::Tree(page) => Ok(page),
        AdminReply::Refused { message } => Err(message),
        _ => Err("the core answered something else".into()),
    }
}

async fn read_keys(app: &Shared, query: KeysQuery) -> Result<KeysPage, String> {
    let command = AdminCommand::CacheKeys {
        shard: query.shard,
        database: query.db,
        prefix: query.prefix,
        cursor: query.cursor,
    };
    match order(app, command).await? {
        AdminReply::Keys(page) => Ok(page),
        AdminReply::Refused { message } => Err(message),
        _ => Err("the core answered something else".into()),
    }
}

pub async fn read_topics(app: &Shared, prefix: String) -> Result<TopicsPage, String> {
    match order(app, AdminCommand::Topics { prefix }).await? {
        AdminReply::Topics(page) => Ok(page),
        AdminReply::Refused { message } => Err(message),
        _ => Err("the core answered something else".into()),
    }
}

// ---- answers ---------------------------------------------------------------------------------

pub fn refuse(status: StatusCode, message: &str) -> Response {
    let body = serde_json::json!({ "error": message });
    (status, axum::Json(body)).into_response()
}

fn unavailable(message: &str) -> Response {
    refuse(StatusCode::SERVICE_UNAVAILABLE, message)
}

pub fn text(status: StatusCode, body: impl Into<String>) -> Response {
    (status, body.into()).into_response()
}

async fn status(State(app): State<App>) -> Response {
    match statuses(&app, ANSWER_TIME).await {
        Ok(all) => axum::Json(all).into_response(),
        Err(why) => unavailable(&why),
    }
}

/// The members as this node sees them; the core that holds the meta shard, the first, gossips for the node.
async fn members(State(app): State<App>) -> Response {
    match statuses(&app, ANSWER_TIME).await {
        Ok(all) => {
            let members = all.into_iter().next().unwrap_or_default().members;
            axum::Json(members).into_response()
        }
        Err(why) => unavailable(&why),
    }
}

#[derive(Deserialize)]
struct TreeQuery {
    #[serde(default = "root")]
    path: String,
}

fn root() -> String {
    "/".into()
}

async fn tree(
    State(app): State<App>,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    Query(query): Query<TreeQuery>,
) -> Response {
    match read_tree(&app, &query.path, from).await {
        Ok(page) => axum::Json(page).into_response(),
        Err(why) => refuse(StatusCode::CONFLICT, &why),
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct KeysQuery {
    shard: String,
    db: u32,
    prefix: String,
    cursor: u64,
}

async fn keys(State(app): State<App>, Query(query): Query<KeysQuery>) -> Response {
    match read_keys(&app, query).await {
        Ok(page) => axum::Json(page).into_response(),
        Err(why) => refuse(StatusCode::CONFLICT, &why),
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct TopicsQuery {
    prefix: String,
}

async fn topics(State(app): State<App>, Query(query): Query<TopicsQuery>) -> Response {
    match read_topics(&app, query.prefix).await {
        Ok(page) => axum::Json(page).into_response(),
        Err(why) => refuse(StatusCode::CONFLICT, &why),
    }
}

async fn series(State(app): State<App>) -> Response {
    let samples = lock(&app.series).samples();
    axum::Json(serde_json::json!({ "interval_ms": 1_000, "samples": samples })).into_response()
}

async fn admin(State(app): State<App>, headers: HeaderMap, body: String) -> Response {
    let command: AdminCommand = match read_order(&headers, &body) {
        Ok(command) => command,
        Err(refusal) => return *refusal,
    };
    match order(&app, command).await {
        Ok(reply @ AdminReply::Refused { .. }) => {
            (StatusCode::CONFLICT, axum::Json(reply)).into_response()
        }
        Ok(reply) => axum::Json(reply).into_response(),
        Err(why) => unavailable(&why),
    }
}

/// An order as JSON, which a page of another site cannot send without asking first.
pub fn read_order<T: DeserializeOwned>(
    headers: &HeaderMap,
    body: &str,
) -> Result<T, Box<Response>> {
    let json = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.split(';').next() == Some("application/json"));
    if !json {
        return Err(Box::new(refuse(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "orders need the header `content-type: application/json`",
        )));
    }
    serde_json::from_str(body).map_err(|error| {
        Box::new(refuse(
            StatusCode::BAD_REQUEST,
            &format!("the body is not an order: {error}"),
        ))
    })
}

async fn metrics_text(State(app): State<App>) -> Response {
    match statuses(&app, ANSWER_TIME).await {
        Ok(all) => (
            [(
                header::CONTENT_TYPE,
                "text/plain; version=0.0.4; charset=utf-8",
            )],
            metrics::render(
                &all,
                gateway::report_of(&app).await.as_ref(),
                app.config.dns.as_deref(),
            ) + &metrics::calls::render(&app.calls.fresh()),
        )
            .into_response(),
        Err(why) => text(StatusCode::SERVICE_UNAVAILABLE, why + "\n"),
    }
}

async fn healthz(State(app): State<App>) -> Response {
    match statuses(&app, ANSWER_TIME).await {
        Ok(_) => text(StatusCode::OK, "ok\n"),
        Err(why) => text(StatusCode::SERVICE_UNAVAILABLE, why + "\n"),
    }
}

async fn readyz(State(app): State<App>) -> Response {
    match statuses(&app, ANSWER_TIME).await {
        Ok(all) => match all.iter().find(|status| !status.ready) {
            None => text(StatusCode::OK, "ready\n"),
            Some(status) => text(
                StatusCode::SERVICE_UNAVAILABLE,
                format!("{}: {}\n", status.phase, status.waiting_for),
            ),
        },
        Err(why) => text(StatusCode::SERVICE_UNAVAILABLE, why + "\n"),
    }
}

async fn page(
    State(app): State<App>,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    uri: Uri,
    query: Result<Query<TreeQuery>, QueryRejection>,
    keys_query: Result<Query<KeysQuery>, QueryRejection>,
    topics_query: Result<Query<TopicsQuery>, QueryRejection>,
) -> Response {
    let path = query.map_or_else(|_| root(), |Query(query)| query.path);
    let Some(page) = console::Page::at(uri.path()) else {
        return refuse(StatusCode::NOT_FOUND, "there is no such page");
    };
    let statuses = match statuses(&app, ANSWER_TIME).await {
        Ok(all) => all,
        Err(why) => return text(StatusCode::SERVICE_UNAVAILABLE, why + "\n"),
    };
    let tree = match page {
        console::Page::Tree => Some(read_tree(&app, &path, from).await),
        _ => None,
    };
    let keys = match (page, keys_query) {
        (console::Page::Keys, Ok(Query(query))) => Some(read_keys(&app, query).await),
        (console::Page::Keys, Err(why)) => Some(Err(why.body_text())),
        _ => None,
    };
    let gateway_report = match page {
        console::Page::Gateway => gateway::report_of(&app).await,
        _ => None,
    };
    let calls = match page {
        console::Page::Calls => Some(monitor::table(&app).await),
        _ => None,
    };
    let actors = match page {
        console::Page::Actors => Some(actors::actors(&app, from).await),
        _ => None,
    };
    let streams = match page {
        console::Page::Streams => Some(streams::streams(&app, from).await),
        _ => None,
    };
    let topics = match (page, topics_query) {
        (console::Page::Topics, Ok(Query(query))) => Some(read_topics(&app, query.prefix).await),
        (console::Page::Topics, Err(why)) => Some(Err(why.body_text())),
        _ => None,
    };
    let html = console::render(
        page,
        &console::View {
            statuses: &statuses,
            path: &path,
            tree: tree.as_ref(),
            keys: keys.as_ref(),
            topics: topics.as_ref(),
            gateway: gateway_report.as_ref(),
            calls: calls.as_ref(),
            actors: actors.as_ref(),
            streams: streams.as_ref(),
            lab: app.config.lab.as_ref().map(|lab| &lab.about),
        },
    );
    (
        [(header::CONTENT_TYPE, "text/html; charset=utf-8")],
        Body::from(html),
    )
        .into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_host_names_are_turned_away() {
        let names = ["console.example".to_owned()];
        let asked = |host: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, host.parse().unwrap());
            host_allowed(&headers, &Uri::from_static("/"), &names)
        };
        for host in [
            "localhost:7400",
            "LOCALHOST",
            "127.0.0.1:7400",
            "[::1]:7400",
            "10.1.2.3",
            "console.example:7400",
        ] {
            assert!(asked(host), "{host}");
        }
        for host in [
            "evil.example:7400",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "",
        ] {
            assert!(!asked(host), "{host}");
        }
    }
}
