//! Discovery over HTTP: the paths, parameters and field names of Consul's HTTP API, so that its clients work.
//!
//! The cluster is one agent in one datacenter: a service that is registered at one node may be told, asked for
//! and removed at any other. Nothing here decides anything: a request becomes a [`Call`] for a core, its reply
//! becomes JSON. What is not there answers 404, and whole parts of Consul that are not there 501: to its clients, 404
//! means that there is no such key.

mod registration;
mod show;

use crate::http::{App, call, status_of, text};
use axum::Router;
use axum::extract::{ConnectInfo, Path, RawQuery, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, put};
use coordination::services::{Answer, CheckView, Command, Found, Query as Asked, Refusal, Status};
use node::{After, Call, CallReply};
use registration::{Check, Place, Service, Told, duration, read};
use serde_json::{Map, Value, json};
use std::net::SocketAddr;
use std::time::Duration;

/// What a blocking query waits when it does not say how long.
const WAIT_DEFAULT: Duration = Duration::from_secs(300);
/// The longest that one waits.
const WAIT_MAX: Duration = Duration::from_secs(600);
/// Up to this part of its time is added, so that those who began together do not end together.
const JITTER_PART: u64 = 16;

/// Parts of Consul's interface that are not there.
const ABSENT: &[&str] = &[
    "/v1/acl/{*rest}",
    "/v1/config/{*rest}",
    "/v1/connect/{*rest}",
    "/v1/event/{*rest}",
    "/v1/kv/{*rest}",
    "/v1/query",
    "/v1/query/{*rest}",
    "/v1/session/{*rest}",
];

async fn absent(uri: Uri) -> Response {
    let path = uri.path();
    text(
        StatusCode::NOT_IMPLEMENTED,
        format!(
            "{path} is not there. Keys with watches and sessions are in the tree, for ZooKeeper's clients"
        ),
    )
}

/// The routes.
pub fn routes() -> Router<App> {
    ABSENT
        .iter()
        .fold(Router::new(), |routes, path| {
            routes.route(path, any(absent))
        })
        .route("/v1/agent/service/register", put(register))
        .route("/v1/agent/service/deregister/{id}", put(deregister))
        .route("/v1/agent/service/{id}", get(agent_service))
        .route("/v1/agent/services", get(agent_services))
        .route("/v1/agent/check/register", put(register_check))
        .route("/v1/agent/check/deregister/{id}", put(deregister_check))
        .route("/v1/agent/check/pass/{id}", put(pass))
        .route("/v1/agent/check/warn/{id}", put(warn))
        .route("/v1/agent/check/fail/{id}", put(fail))
        .route("/v1/agent/check/update/{id}", put(update))
        .route("/v1/agent/checks", get(agent_checks))
        .route("/v1/agent/self", get(agent_self))
        .route("/v1/catalog/datacenters", get(datacenters))
        .route("/v1/catalog/services", get(names))
        .route("/v1/catalog/service/{name}", get(catalog_service))
        .route("/v1/catalog/nodes", get(nodes))
        .route("/v1/health/service/{name}", get(health_service))
        .route("/v1/health/checks/{name}", get(health_checks))
        .route("/v1/health/node/{node}", get(health_node))
        .route("/v1/health/state/{state}", get(health_state))
        .route("/v1/status/leader", get(leader))
        .route("/v1/status/peers", get(peers))
}

// ---- what stands behind the question mark ----------------------------------------------------

/// The parameters of a request. Some stand there without a value, some several times.
struct Parameters(Vec<(String, String)>);

impl Parameters {
    fn new(query: Option<&str>) -> Self {
        let pairs = query.unwrap_or_default().split('&');
        let pairs = pairs.filter(|pair| !pair.is_empty()).map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decoded(key), decoded(value))
        });
        Self(pairs.collect())
    }

    fn all(&self, key: &str) -> impl Iterator<Item = &str> {
        let is_it = move |pair: &&(String, String)| pair.0 == key;
        self.0.iter().filter(is_it).map(|(_, value)| value.as_str())
    }

    fn get(&self, key: &str) -> Option<&str> {
        self.all(key).next()
    }

    /// Set, and not to no.
    fn is_set(&self, key: &str) -> bool {
        self.get(key)
            .is_some_and(|value| value != "false" && value != "0")
    }

    /// What is not there and must not be passed over, because it asks for less than would be answered.
    fn refusal(&self) -> Option<String> {
        if self.get("filter").is_some_and(|filter| !filter.is_empty()) {
            return Some("filter is not there: leave it out, and filter what is answered".into());
        }
        match self.get("dc") {
            None | Some("" | show::DATACENTER) => None,
            Some(_) => Some("No path to datacenter: there is only dc1".into()),
        }
    }

    /// How long to wait for what, if at all.
    fn after(&self) -> Result<Option<After>, String> {
        let Some(index) = self.get("index") else {
            return Ok(None);
        };
        let index: u64 = (index.parse()).map_err(|_| format!("Invalid index: {index:?}"))?;
        if index == 0 {
            return Ok(None);
        }
        let wait = match self.get("wait") {
            None | Some("") => WAIT_DEFAULT,
            Some(text) => duration(text).map_err(|why| format!("Invalid wait time: {why}"))?,
        };
        let wait = if wait.is_zero() {
            WAIT_DEFAULT
        } else {
            wait.min(WAIT_MAX)
        };
        let wait_us = wait.as_micros() as u64;
        Ok(Some(After { index, wait_us }))
    }
}

/// A part of a query with its plus signs and percent signs replaced.
fn decoded(text: &str) -> String {
    let text = text.replace('+', " ");
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let digits = part
            .get(..2)
            .filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()));
        match digits.map(|digits| u8::from_str_radix(digits, 16)) {
            Some(Ok(byte)) => {
                bytes.push(byte);
                bytes.extend_from_slice(&part.as_bytes()[2..]);
            }
            _ => {
                bytes.push(b'%');
                bytes.extend_from_slice(part.as_bytes());
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

// ---- registering and telling -----------------------------------------------------------------

async fn register(
    State(app): State<App>,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    RawQuery(query): RawQuery,
    body: String,
) -> Response {
    let parameters = Parameters::new(query.as_deref());
    let from = from.ip().to_canonical();
    let place = Place {
        node: app.config().node,
        node_address: &app.config().node_address,
        client_address: (!from.is_loopback()).then(|| from.to_string()),
    };
    match read::<Service>(&body).and_then(|service| service.instance(&place)) {
        Err(why) => text(StatusCode::BAD_REQUEST, why),
        Ok((instance, checks)) => {
            let replace_checks = parameters.is_set("replace-existing-checks");
            let command = Command::Register {
                instance,
                checks,
                replace_checks,
            };
            carry_out(&app, command).await
        }
    }
}

async fn deregister(State(app): State<App>, Path(id): Path<String>) -> Response {
    carry_out(&app, Command::Deregister { id }).await
}

async fn register_check(State(app): State<App>, body: String) -> Response {
    match read::<Check>(&body).and_then(Check::named) {
        Err(why) => text(StatusCode::BAD_REQUEST, why),
        Ok(check) => {
            let node = app.config().node;
            carry_out(&app, Command::RegisterCheck { node, check }).await
        }
    }
}

async fn deregister_check(State(app): State<App>, Path(id): Path<String>) -> Response {
    carry_out(&app, Command::DeregisterCheck { id }).await
}

async fn pass(State(app): State<App>, Path(id): Path<String>, query: RawQuery) -> Response {
    tell(&app, id, Status::Passing, &query).await
}

async fn warn(State(app): State<App>, Path(id): Path<String>, query: RawQuery) -> Response {
    tell(&app, id, Status::Warning, &query).await
}

async fn fail(State(app): State<App>, Path(id): Path<String>, query: RawQuery) -> Response {
    tell(&app, id, Status::Critical, &query).await
}

async fn tell(app: &App, id: String, status: Status, query: &RawQuery) -> Response {
    let parameters = Parameters::new(query.0.as_deref());
    let output = parameters.get("note").unwrap_or_default().to_owned();
    carry_out(app, Command::Tell { id, status, output }).await
}

async fn update(State(app): State<App>, Path(id): Path<String>, body: String) -> Response {
    let told: Told = match read(&body) {
        Ok(told) => told,
        Err(why) => return text(StatusCode::BAD_REQUEST, why),
    };
    let Some(status) = Status::named(&told.status) else {
        let why = format!(
            "Invalid check status {:?}: use passing, warning or critical",
            told.status
        );
        return text(StatusCode::BAD_REQUEST, why);
    };
    let output = told.output;
    carry_out(&app, Command::Tell { id, status, output }).await
}

async fn carry_out(app: &App, command: Command) -> Response {
    match call(app, Call::ChangeServices(command)).await {
        CallReply::ServicesChanged(Ok(_)) => StatusCode::OK.into_response(),
        CallReply::ServicesChanged(Err(refusal)) => {
            let code = match &refusal {
                Refusal::UnknownInstance(_) | Refusal::UnknownCheck(_) => StatusCode::NOT_FOUND,
                Refusal::Invalid(_) | Refusal::NotTtl(_) => StatusCode::BAD_REQUEST,
                Refusal::TooMany | Refusal::Outdated => StatusCode::INTERNAL_SERVER_ERROR,
            };
            text(code, refusal.to_string())
        }
        other => text(StatusCode::INTERNAL_SERVER_ERROR, failure(other)),
    }
}

/// Why a call failed, in words.
fn failure(reply: CallReply) -> String {
    match reply {
        CallReply::NotHere { message }
        | CallReply::Refused { message }
        | CallReply::Unknown { message } => message,
        other => format!("the core answered something else: {other:?}"),
    }
}

// ---- asking ----------------------------------------------------------------------------------

fn indexed(index: u64, body: Value) -> Response {
    let headers = [
        ("x-consul-index", HeaderValue::from(index)),
        ("x-consul-knownleader", HeaderValue::from_static("true")),
        ("x-consul-lastcontact", HeaderValue::from_static("0")),
    ];
    let headers = headers.map(|(name, value)| (HeaderName::from_static(name), value));
    (headers, axum::Json(body)).into_response()
}

/// Asks, and answers with what `show` makes of the answer, under its index.
async fn ask(
    app: &App,
    query: Asked,
    parameters: &Parameters,
    show: impl FnOnce(Answer) -> Value,
) -> Response {
    if let Some(why) = parameters.refusal() {
        return text(StatusCode::BAD_REQUEST, why);
    }
    let mut after = match parameters.after() {
        Ok(after) => after,
        Err(why) => return text(StatusCode::BAD_REQUEST, why),
    };
    if let Some(after) = &mut after {
        after.wait_us += app.draw() % (after.wait_us / JITTER_PART).max(1);
    }
    match call(app, Call::ReadServices { query, after }).await {
        CallReply::Services { index, answer } => indexed(index, show(answer)),
        other => text(StatusCode::INTERNAL_SERVER_ERROR, failure(other)),
    }
}

fn instances(answer: Answer) -> Vec<Found> {
    match answer {
        Answer::Instances(found) => found,
        Answer::Names(_) | Answer::Checks(_) => Vec::new(),
    }
}

fn checks(answer: Answer) -> Vec<CheckView> {
    match answer {
        Answer::Checks(views) => views,
        Answer::Names(_) | Answer::Instances(_) => Vec::new(),
    }
}

async fn names(State(app): State<App>, RawQuery(query): RawQuery) -> Response {
    let show = |answer| match answer {
        Answer::Names(names) => json!(names),
        Answer::Instances(_) | Answer::Checks(_) => Value::Null,
    };
    ask(&app, Asked::Names, &Parameters::new(query.as_deref()), show).await
}

fn has_tags(found: &Found, parameters: &Parameters) -> bool {
    let has = |tag: &str| tag.is_empty() || found.instance.tags.iter().any(|own| own == tag);
    parameters.all("tag").all(has)
}

async fn catalog_service(
    State(app): State<App>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
) -> Response {
    let parameters = Parameters::new(query.as_deref());
    let show = |answer| {
        let found = instances(answer);
        let wanted = found.iter().filter(|found| has_tags(found, &parameters));
        wanted.map(show::catalog_service).collect()
    };
    ask(&app, Asked::Service { name }, &parameters, show).await
}

async fn health_service(
    State(app): State<App>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
) -> Response {
    let parameters = Parameters::new(query.as_deref());
    let only_passing = parameters.is_set("passing");
    let show = |answer| {
        let is_wanted = |found: &&Found| {
            has_tags(found, &parameters) && (!only_passing || found.status() == Status::Passing)
        };
        let found = instances(answer);
        found
            .iter()
            .filter(is_wanted)
            .map(show::health_service)
            .collect()
    };
    ask(&app, Asked::Service { name }, &parameters, show).await
}

async fn health_checks(
    State(app): State<App>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
) -> Response {
    let show = |answer| {
        let found = instances(answer);
        let all = found.iter().flat_map(|found| &found.checks);
        // Those of nodes are not the service's.
        all.filter(|view| !view.check.spec.instance.is_empty())
            .map(show::check)
            .collect()
    };
    let parameters = Parameters::new(query.as_deref());
    ask(&app, Asked::Service { name }, &parameters, show).await
}

async fn health_node(
    State(app): State<App>,
    Path(node): Path<String>,
    RawQuery(query): RawQuery,
) -> Response {
    let show = |answer| {
        let views = checks(answer);
        let is_its = |view: &&CheckView| show::node_name(view.check.home) == node;
        views.iter().filter(is_its).map(show::check).collect()
    };
    ask(
        &app,
        Asked::Checks,
        &Parameters::new(query.as_deref()),
        show,
    )
    .await
}

async fn health_state(
    State(app): State<App>,
    Path(state): Path<String>,
    RawQuery(query): RawQuery,
) -> Response {
    if state != "any" && Status::named(&state).is_none() {
        let why = format!("{state:?} is no state: use any, passing, warning or critical");
        return text(StatusCode::BAD_REQUEST, why);
    }
    let show = |answer| {
        let views = checks(answer);
        let is_its = |view: &&CheckView| state == "any" || view.check.status.name() == state;
        views.iter().filter(is_its).map(show::check).collect()
    };
    ask(
        &app,
        Asked::Checks,
        &Parameters::new(query.as_deref()),
        show,
    )
    .await
}

async fn agent_services(State(app): State<App>) -> Response {
    let show = |answer| {
        let found = instances(answer);
        let pairs = found.iter().map(|found| {
            let instance = &found.instance;
            (instance.id.clone(), show::agent_service(instance))
        });
        Value::Object(pairs.collect::<Map<String, Value>>())
    };
    ask(&app, Asked::Instances, &Parameters::new(None), show).await
}

async fn agent_service(State(app): State<App>, Path(id): Path<String>) -> Response {
    let mut unknown = false;
    let show = |answer| {
        let found = instances(answer);
        let its = found.iter().find(|found| found.instance.id == id);
        unknown = its.is_none();
        its.map_or(Value::Null, |found| show::agent_service(&found.instance))
    };
    let answer = ask(&app, Asked::Instances, &Parameters::new(None), show).await;
    match unknown {
        true => text(StatusCode::NOT_FOUND, format!("unknown service ID: {id}")),
        false => answer,
    }
}

async fn agent_checks(State(app): State<App>) -> Response {
    let show = |answer| {
        let views = checks(answer);
        let pairs = views.iter().map(|view| {
            let id = view.check.spec.id.clone();
            (id, show::check(view))
        });
        Value::Object(pairs.collect::<Map<String, Value>>())
    };
    ask(&app, Asked::Checks, &Parameters::new(None), show).await
}

// ---- nodes -----------------------------------------------------------------------------------

/// (node, host name or IP address, whether it leads) of all members.
async fn members(app: &App) -> Result<Vec<(String, String, bool)>, Response> {
    let status =
        (status_of(app).await).map_err(|why| text(StatusCode::INTERNAL_SERVER_ERROR, why))?;
    let shards = || status.iter().flat_map(|core| &core.shards);
    let leader = shards()
        .find(|shard| shard.name == "tree")
        .map(|shard| &shard.leader);
    let first = status.first().into_iter().flat_map(|core| &core.members);
    let row = |member: &node::admin::MemberStatus| {
        let leads = leader == Some(&member.node);
        (member.node.clone(), member.address.clone(), leads)
    };
    Ok(first.map(row).collect())
}

fn host(address: &str) -> &str {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    host.trim_matches(['[', ']'])
}

async fn nodes(State(app): State<App>) -> Response {
    match members(&app).await {
        Ok(all) => {
            let shown = all
                .iter()
                .map(|(node, address, _)| show::node(node, host(address)));
            indexed(1, shown.collect())
        }
        Err(failed) => failed,
    }
}

async fn agent_self(State(app): State<App>) -> Response {
    let config = app.config();
    let name = show::node_name(config.node);
    let version = env!("CARGO_PKG_VERSION");
    let own = json!({
        "Config": {
            "Datacenter": show::DATACENTER,
            "NodeName": name,
            "NodeID": name,
            "Server": true,
            "Version": version,
        },
        "Member": { "Name": name, "Addr": config.node_address, "Status": 1 },
        "Meta": {},
    });
    axum::Json(own).into_response()
}

async fn datacenters() -> Response {
    axum::Json(json!([show::DATACENTER])).into_response()
}

async fn leader(State(app): State<App>) -> Response {
    match members(&app).await {
        Ok(all) => {
            let leader = all.into_iter().find(|(_, _, leads)| *leads);
            let address = leader.map(|(_, address, _)| address).unwrap_or_default();
            axum::Json(address).into_response()
        }
        Err(failed) => failed,
    }
}

async fn peers(State(app): State<App>) -> Response {
    match members(&app).await {
        Ok(all) => {
            let addresses: Vec<String> = all.into_iter().map(|(_, address, _)| address).collect();
            axum::Json(addresses).into_response()
        }
        Err(failed) => failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_read_with_and_without_values() {
        let p = Parameters::new(Some("passing&tag=a%20b&tag=c+d&index=7&wait=5s&x=%zz%4"));
        assert!(p.is_set("passing") && !p.is_set("stale"));
        assert_eq!(p.all("tag").collect::<Vec<_>>(), ["a b", "c d"]);
        assert_eq!(p.get("x"), Some("%zz%4"));
        let (index, wait_us) = (7, 5_000_000);
        assert_eq!(p.after(), Ok(Some(After { index, wait_us })));
        assert_eq!(Parameters::new(Some("index=0")).after(), Ok(None));
        assert!(Parameters::new(Some("index=x")).after().is_err());
        assert!(Parameters::new(Some("index=1&wait=x")).after().is_err());
        assert!(Parameters::new(Some("dc=other")).refusal().is_some());
        assert!(Parameters::new(Some("dc=dc1&filter=")).refusal().is_none());
    }
}
