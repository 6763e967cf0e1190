//! `POST /v1/txn`: a transaction over chapters as JSON. Nothing here decides anything: the request becomes a
//! [`Call`] for a core, its reply becomes JSON.

use crate::http::{App, call};
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use coordination::{Acl, CreateMode, TreeOp};
use node::{Call, CallReply, Condition, Operation, TRANSACTION_BYTES_MAX, Transacted, Transaction};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use shard::transaction::{Place, StepResult};
use std::collections::BTreeMap;
use std::hash::Hasher;
use storage::cache::Reply;
use storage::cache::transaction::KeyCondition;
use transactions::{TXN_ID_BYTES_MAX, TxnId};
use wire_kafka::records::Record;

/// The longest body: what a transaction may hold, in base64 and JSON's clothes.
const BODY_BYTES_MAX: usize = 4 * TRANSACTION_BYTES_MAX;

/// The route.
pub fn routes() -> Router<App> {
    Router::new()
        .route("/v1/txn", post(transact))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
}

/// Bytes: text, or `{"base64": "…"}`.
#[derive(Deserialize)]
#[serde(untagged)]
enum Blob {
    Text(String),
    Binary { base64: String },
    Number(serde_json::Number),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    id: Option<String>,
    #[serde(default)]
    conditions: Vec<Wanted>,
    #[serde(default)]
    operations: Vec<Done>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    key: Option<Blob>,
    #[serde(default)]
    database: u32,
    equals: Option<Blob>,
    topic: Option<String>,
    #[serde(default)]
    partition: u32,
    end: Option<i64>,
    path: Option<String>,
    exists: Option<bool>,
    version: Option<i64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Done {
    cache: Option<Vec<Blob>>,
    #[serde(default)]
    database: u32,
    append: Option<Append>,
    create: Option<Create>,
    set: Option<Set>,
    delete: Option<Delete>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Append {
    topic: String,
    partition: Option<u32>,
    key: Option<Blob>,
    value: Option<Blob>,
    #[serde(default)]
    headers: BTreeMap<String, Option<Blob>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Create {
    path: String,
    data: Option<Blob>,
    #[serde(default)]
    sequential: bool,
    #[serde(default)]
    container: bool,
    ttl_ms: Option<i64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Set {
    path: String,
    data: Blob,
    version: Option<i32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Delete {
    path: String,
    version: Option<i32>,
}

impl Blob {
    fn bytes(self) -> Result<Bytes, String> {
        match self {
            Self::Text(text) => Ok(Bytes::from(text)),
            Self::Number(number) => Ok(Bytes::from(number.to_string())),
            Self::Binary { base64 } => (STANDARD.decode(&base64).map(Bytes::from))
                .map_err(|e| format!("{base64:?} is not base64: {e}")),
        }
    }
}

fn optional(blob: Option<Blob>) -> Result<Option<Bytes>, String> {
    blob.map(Blob::bytes).transpose()
}

impl Wanted {
    fn condition(self) -> Result<Condition, String> {
        let is_one = |all: &[bool]| all.iter().filter(|is| **is).count() == 1;
        let (has_equals, has_exists) = (self.equals.is_some(), self.exists.is_some());
        let (has_version, has_end) = (self.version.is_some(), self.end.is_some());
        let is_of_key = self.key.is_some() && self.topic.is_none() && self.path.is_none();
        if is_of_key && !has_end {
            if !is_one(&[has_equals, has_exists, has_version]) {
                return Err("of a key, say one of \"exists\", \"equals\", \"version\"".into());
            }
            let is = match (self.equals, self.exists, self.version) {
                (Some(value), ..) => KeyCondition::Equals(value.bytes()?),
                (_, Some(true), _) => KeyCondition::Exists,
                (_, Some(false), _) => KeyCondition::Missing,
                (_, _, version) => {
                    let version = u64::try_from(version.unwrap_or_default());
                    KeyCondition::Version(version.map_err(|_| "a key's version is not negative")?)
                }
            };
            return Ok(Condition::Key {
                database: self.database,
                key: optional(self.key)?.unwrap_or_default(),
                is,
            });
        }
        if has_equals || self.key.is_some() {
            return Err(ONE_OF.into());
        }
        match (self.topic, self.path, self.end) {
            (Some(topic), None, Some(offset)) if !has_exists && !has_version => {
                let partition = self.partition;
                Ok(Condition::LogEnd {
                    topic,
                    partition,
                    offset,
                })
            }
            (None, Some(path), None) => match (self.exists, self.version) {
                (None | Some(true), version) => {
                    let version = i32::try_from(version.unwrap_or(-1));
                    let version = version.map_err(|_| "a node's version has 32 bits")?;
                    Ok(Condition::Node { path, version })
                }
                (Some(false), None) => Ok(Condition::NoNode { path }),
                (Some(false), Some(_)) => {
                    Err("a node that shall not be there has no version".into())
                }
            },
            _ => Err(ONE_OF.into()),
        }
    }
}

const ONE_OF: &str = "a condition is one of {\"key\", and \"exists\", \"equals\" or \"version\"}, {\"topic\", \
                      \"partition\", \"end\"}, {\"path\", \"exists\" or \"version\"}";

impl Done {
    fn operation(self) -> Result<Operation, String> {
        let mut all = Vec::new();
        if let Some(words) = self.cache {
            let words = words.into_iter().map(Blob::bytes);
            all.push(Operation::Cache {
                database: self.database,
                words: words.collect::<Result<_, _>>()?,
            });
        }
        if let Some(append) = self.append {
            let headers = (append.headers.into_iter())
                .map(|(name, value)| Ok((name, optional(value)?)))
                .collect::<Result<_, String>>()?;
            all.push(Operation::Append {
                topic: append.topic,
                partition: append.partition,
                record: Record {
                    key: optional(append.key)?,
                    value: optional(append.value)?,
                    headers,
                },
            });
        }
        if let Some(create) = self.create {
            let sequential = create.sequential;
            let mode = match (create.container, create.ttl_ms) {
                (false, None) => CreateMode::Persistent { sequential },
                (false, Some(ttl_ms)) => CreateMode::Ttl { ttl_ms, sequential },
                (true, None) if !sequential => CreateMode::Container,
                _ => return Err("a container has neither a number nor a TTL".into()),
            };
            all.push(Operation::Tree(TreeOp::Create {
                path: create.path,
                data: optional(create.data)?.unwrap_or_default(),
                acl: vec![Acl::open()],
                mode,
            }));
        }
        if let Some(set) = self.set {
            all.push(Operation::Tree(TreeOp::SetData {
                path: set.path,
                data: set.data.bytes()?,
                version: set.version.unwrap_or(-1),
            }));
        }
        if let Some(delete) = self.delete {
            all.push(Operation::Tree(TreeOp::Delete {
                path: delete.path,
                version: delete.version.unwrap_or(-1),
            }));
        }
        match (all.pop(), all.is_empty()) {
            (Some(operation), true) => Ok(operation),
            _ => Err(
                "an operation is one of \"cache\", \"append\", \"create\", \"set\", \"delete\""
                    .into(),
            ),
        }
    }
}

/// The transaction that a body says.
fn parse(body: &str) -> Result<Transaction, String> {
    let request: Request = serde_json::from_str(body).map_err(|e| format!("not readable: {e}"))?;
    let id = match request.id {
        None => None,
        Some(id) => Some(TxnId::new(&id).ok_or_else(|| {
            format!("an id has from 1 to {TXN_ID_BYTES_MAX} visible ASCII characters, no spaces")
        })?),
    };
    let conditions = (request.conditions.into_iter().enumerate())
        .map(|(at, wanted)| {
            wanted
                .condition()
                .map_err(|e| format!("condition {at}: {e}"))
        })
        .collect::<Result<_, _>>()?;
    let operations = (request.operations.into_iter().enumerate())
        .map(|(at, done)| done.operation().map_err(|e| format!("operation {at}: {e}")))
        .collect::<Result<_, _>>()?;
    // The same whatever the order of fields and the white space.
    let plain: Value = serde_json::from_str(body).unwrap_or_default();
    let mut hasher = base::map::Fnv::default();
    hasher.write(plain.to_string().as_bytes());
    Ok(Transaction {
        id,
        content: hasher.finish(),
        conditions,
        operations,
    })
}

async fn transact(State(app): State<App>, headers: HeaderMap, body: String) -> Response {
    // What a page of another site cannot send without asking first.
    let kind = headers.get(header::CONTENT_TYPE);
    let is_json = kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
    if !is_json {
        let why = "send the header Content-Type: application/json";
        return (StatusCode::UNSUPPORTED_MEDIA_TYPE, error(why)).into_response();
    }
    let transaction = match parse(&body) {
        Ok(transaction) => transaction,
        Err(why) => return (StatusCode::BAD_REQUEST, error(&why)).into_response(),
    };
    let reply = call(&app, Call::Transact(Box::new(transaction))).await;
    let (status, answer) = match reply {
        CallReply::Transacted { id, transacted } => match transacted {
            Transacted::Committed(results) => {
                let results: Vec<Value> = results.into_iter().map(result).collect();
                let answer = json!({"id": id.as_str(), "outcome": "committed", "results": results});
                (StatusCode::OK, Json(answer))
            }
            Transacted::Refused { place, words } => {
                let mut answer = json!({"id": id.as_str(), "outcome": "refused", "why": words});
                put_place(&mut answer, place);
                (StatusCode::CONFLICT, Json(answer))
            }
        },
        CallReply::Misplaced { place, words } => {
            let mut answer = json!({ "error": words });
            put_place(&mut answer, place);
            (StatusCode::BAD_REQUEST, Json(answer))
        }
        CallReply::NotHere { message } | CallReply::Refused { message } => {
            (StatusCode::SERVICE_UNAVAILABLE, error(&message))
        }
        CallReply::Unknown { .. } => (
            StatusCode::GATEWAY_TIMEOUT,
            error(
                "not answered in time: it may be done or not. Send it again under the same \"id\" to hear; without \
                 an id, look before you do it again",
            ),
        ),
        other => {
            let why = format!("the core answered something else: {other:?}");
            (StatusCode::INTERNAL_SERVER_ERROR, error(&why))
        }
    };
    (status, answer).into_response()
}

fn put_place(answer: &mut Value, place: Option<Place>) {
    match place {
        Some(Place::Condition(at)) => answer["condition"] = at.into(),
        Some(Place::Operation(at)) => answer["operation"] = at.into(),
        None => {}
    }
}

fn error(why: &str) -> Json<Value> {
    Json(json!({ "error": why }))
}

fn result(result: Option<StepResult>) -> Value {
    match result {
        None => Value::Null,
        Some(StepResult::Cache {
            reply: told,
            version,
        }) => {
            json!({"reply": reply(told), "version": version})
        }
        Some(StepResult::Created { path }) => json!({ "path": path }),
        Some(StepResult::Set { version }) => json!({ "version": version }),
        Some(StepResult::Done) => Value::Object(Map::new()),
        Some(StepResult::Appended { offset }) => json!({ "offset": offset }),
    }
}

fn reply(told: Reply) -> Value {
    let all = |all: Vec<Reply>| Value::Array(all.into_iter().map(reply).collect());
    let pairs = |all: Vec<(Reply, Reply)>| {
        let pair = |(one, other)| Value::Array(vec![reply(one), reply(other)]);
        Value::Array(all.into_iter().map(pair).collect())
    };
    match told {
        Reply::Nil | Reply::NilArray => Value::Null,
        Reply::Status(text) | Reply::Error(text) => text.into(),
        Reply::Integer(number) => number.into(),
        Reply::Double(number) => number.into(),
        Reply::Bool(is) => is.into(),
        Reply::Bulk(bytes) => match std::str::from_utf8(&bytes) {
            Ok(text) => text.into(),
            Err(_) => json!({ "base64": STANDARD.encode(&bytes) }),
        },
        Reply::Verbatim(text) => text.into(),
        Reply::Array(each) | Reply::Set(each) => all(each),
        Reply::Map(each) | Reply::Pairs(each) => pairs(each),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_condition_and_operation_is_read() {
        let body = r#"{
            "id": "order-17",
            "conditions": [
                {"key": "stock", "equals": 3},
                {"key": {"base64": "AAE="}, "exists": false, "database": 1},
                {"key": "stock", "version": 12},
                {"topic": "orders", "partition": 2, "end": 17},
                {"path": "/orders", "version": 4},
                {"path": "/lock", "exists": false}
            ],
            "operations": [
                {"cache": ["SET", "stock", 2, "EX", "60"]},
                {"append": {"topic": "orders", "key": "k", "value": {"base64": "/w=="}, "headers": {"a": null}}},
                {"create": {"path": "/orders/n-", "sequential": true}},
                {"create": {"path": "/orders/t", "ttl_ms": 5}},
                {"set": {"path": "/orders", "data": "x", "version": 4}},
                {"delete": {"path": "/old"}}
            ]
        }"#;
        let made = parse(body).expect("it is readable");
        assert_eq!((made.conditions.len(), made.operations.len()), (6, 6));
        assert_eq!(made.id, TxnId::new("order-17"));
        let is_binary =
            |c: &Condition| matches!(c, Condition::Key { key, .. } if key[..] == [0, 1]);
        assert!(is_binary(&made.conditions[1]));
        let spaced = body.replace('\n', " ").replace(": ", ":");
        assert_eq!(parse(&spaced).expect("the same").content, made.content);
        let other = body.replace("17", "18");
        assert_ne!(parse(&other).expect("another").content, made.content);
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_its_place() {
        let refused = [
            ("{", "not readable"),
            (r#"{"conditons": []}"#, "conditons"),
            (r#"{"id": "a b"}"#, "visible ASCII"),
            (r#"{"conditions": [{"key": "a"}]}"#, "condition 0: of a key"),
            (
                r#"{"conditions": [{"key": "a", "exists": true, "version": 1}]}"#,
                "say one of",
            ),
            (
                r#"{"conditions": [{"key": "a", "path": "/b", "exists": true}]}"#,
                "condition 0",
            ),
            (
                r#"{"conditions": [{"topic": "a"}]}"#,
                "a condition is one of",
            ),
            (
                r#"{"conditions": [{"path": "/a", "exists": false, "version": 1}]}"#,
                "no version",
            ),
            (r#"{"operations": [{}]}"#, "operation 0"),
            (
                r#"{"operations": [{"cache": ["GET", "a"], "delete": {"path": "/a"}}]}"#,
                "is one of",
            ),
            (
                r#"{"operations": [{"cache": [{"base64": "?"}]}]}"#,
                "not base64",
            ),
            (
                r#"{"operations": [{"create": {"path": "/a", "container": true, "ttl_ms": 1}}]}"#,
                "container",
            ),
        ];
        for (body, words) in refused {
            let why = parse(body).expect_err(body);
            assert!(why.contains(words), "{body}: {why}");
        }
    }
}
