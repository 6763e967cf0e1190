//! Reading requests: JSON as DTM's clients send it, with `null` for what they do not say, to commands.

use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use transactions::global::{BRANCHES_MAX, Command, Kind, NewGlobal, Options, Step};

/// A transaction. Fields that are not here are passed over, as clients of all ages send some.
#[derive(Deserialize)]
struct Transaction {
    gid: Option<String>,
    trans_type: Option<String>,
    steps: Option<Vec<BTreeMap<String, String>>>,
    payloads: Option<Vec<String>>,
    query_prepared: Option<String>,
    custom_data: Option<String>,
    protocol: Option<String>,
    wait_result: Option<bool>,
    timeout_to_fail: Option<i64>,
    request_timeout: Option<i64>,
    retry_interval: Option<i64>,
    retry_limit: Option<i64>,
    branch_headers: Option<BTreeMap<String, String>>,
    passthrough_headers: Option<Vec<String>>,
    concurrent: Option<bool>,
}

/// What a saga or a message says in its custom data.
#[derive(Deserialize, Default)]
struct Custom {
    #[serde(default)]
    orders: Option<BTreeMap<String, Vec<u32>>>,
    #[serde(default)]
    concurrent: Option<bool>,
    #[serde(default)]
    delay: Option<i64>,
}

/// The kind of this name.
fn kind(name: Option<&str>) -> Result<Kind, String> {
    match name {
        None | Some("") => Err("trans_type is missing: saga, tcc, msg or xa".into()),
        Some("workflow") => Err("workflow is not there: use saga, tcc, msg or xa".into()),
        Some(name) => {
            Kind::named(name).ok_or_else(|| format!("no trans_type {name:?}: saga, tcc, msg or xa"))
        }
    }
}

/// Seconds to milliseconds.
fn ms(name: &str, seconds: Option<i64>) -> Result<u64, String> {
    let seconds = seconds.unwrap_or(0);
    let seconds = u32::try_from(seconds)
        .map_err(|_| format!("{name} = {seconds} is not a number of seconds"))?;
    Ok(u64::from(seconds) * 1_000)
}

fn is_header(name: &str, value: &str) -> bool {
    let is_token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    !name.is_empty() && name.bytes().all(is_token) && !value.bytes().any(|b| b < 0x20 || b == 0x7f)
}

/// The transaction that a body describes.
pub fn transaction(body: Value) -> Result<NewGlobal, String> {
    let all: Transaction =
        serde_json::from_value(body).map_err(|e| format!("not a transaction: {e}"))?;
    let kind = kind(all.trans_type.as_deref())?;
    match all.protocol.as_deref() {
        None | Some("" | "http") => {}
        Some(other) => {
            return Err(format!(
                "protocol {other:?} is not there: branches are called over http"
            ));
        }
    }
    if all
        .passthrough_headers
        .is_some_and(|names| !names.is_empty())
    {
        return Err("passthrough_headers is not there: name the headers in branch_headers".into());
    }
    let custom_data = all.custom_data.unwrap_or_default();
    let reads_custom = matches!(kind, Kind::Saga | Kind::Message);
    let custom: Custom = match custom_data.as_str() {
        text if reads_custom && !text.is_empty() => serde_json::from_str(text).map_err(|e| {
            format!(
                "custom_data of a {} is not the JSON that it should be: {e}",
                kind.name()
            )
        })?,
        _ => Custom::default(),
    };
    let steps = steps(
        all.steps.unwrap_or_default(),
        all.payloads.unwrap_or_default(),
    )?;
    let headers = all.branch_headers.unwrap_or_default();
    if let Some((name, _)) = headers.iter().find(|(name, value)| !is_header(name, value)) {
        return Err(format!(
            "branch_headers: {name:?} cannot be a header, or its value cannot"
        ));
    }
    let retry_limit = all.retry_limit.unwrap_or(0);
    Ok(NewGlobal {
        gid: all.gid.unwrap_or_default(),
        kind,
        options: Options {
            wait_result: all.wait_result.unwrap_or(false),
            concurrent: all.concurrent.unwrap_or(false) || custom.concurrent.unwrap_or(false),
            timeout_ms: ms("timeout_to_fail", all.timeout_to_fail)?,
            request_timeout_ms: ms("request_timeout", all.request_timeout)?,
            retry_interval_ms: ms("retry_interval", all.retry_interval)?,
            retry_limit: u32::try_from(retry_limit).map_err(|_| {
                format!("retry_limit = {retry_limit} is not a number of repetitions")
            })?,
            headers: headers.into_iter().collect(),
        },
        before: before(custom.orders.unwrap_or_default())?,
        delay_ms: ms("delay", custom.delay)?,
        custom_data,
        query_prepared: all.query_prepared.unwrap_or_default(),
        steps,
    })
}

fn steps(steps: Vec<BTreeMap<String, String>>, payloads: Vec<String>) -> Result<Vec<Step>, String> {
    if !payloads.is_empty() && payloads.len() != steps.len() {
        let (steps, payloads) = (steps.len(), payloads.len());
        return Err(format!(
            "{steps} steps have {payloads} payloads: each step has one"
        ));
    }
    let mut payloads = payloads.into_iter();
    let read = |(at, mut step): (usize, BTreeMap<String, String>)| {
        let mut take = |name: &str| step.remove(name).unwrap_or_default();
        let own = take("data");
        let made = Step {
            action: take("action"),
            compensate: take("compensate"),
            data: payloads.next().unwrap_or(own).into(),
        };
        match step.into_keys().next() {
            None => Ok(made),
            Some(name) => Err(format!(
                "step {}: there is no {name:?}, only action, compensate and data",
                at + 1
            )),
        }
    };
    steps.into_iter().enumerate().map(read).collect()
}

/// The order of steps: for each one those before it.
fn before(orders: BTreeMap<String, Vec<u32>>) -> Result<Vec<Vec<u32>>, String> {
    let mut before = Vec::new();
    for (step, steps) in orders {
        let at: usize = step
            .parse()
            .ok()
            .filter(|at| *at < BRANCHES_MAX)
            .ok_or_else(|| format!("orders: {step:?} is not the number of a step"))?;
        if before.len() <= at {
            before.resize(at + 1, Vec::new());
        }
        before[at] = steps;
    }
    Ok(before)
}

fn text(body: &Value, name: &str) -> Result<String, String> {
    match &body[name] {
        Value::Null => Ok(String::new()),
        Value::String(text) => Ok(text.clone()),
        other => Err(format!("{name} is {other}, not a string")),
    }
}

/// The gid that a body names.
pub fn gid(body: &Value) -> Result<String, String> {
    match text(body, "gid")?.as_str() {
        "" => Err("gid is missing".into()),
        gid => Ok(gid.to_owned()),
    }
}

/// What a body says of giving up.
pub fn abort(body: &Value) -> Result<Command, String> {
    let gid = gid(body)?;
    let kind = kind(body["trans_type"].as_str())?;
    let reason = match text(body, "rollback_reason")?.as_str() {
        "" => "aborted by its initiator".to_owned(),
        reason => reason.chars().take(512).collect(),
    };
    Ok(Command::Abort { gid, kind, reason })
}

/// The branch that a body describes.
pub fn branch(body: &Value) -> Result<Command, String> {
    let gid = gid(body)?;
    let kind = kind(body["trans_type"].as_str())?;
    let (forward, backward) = match kind {
        Kind::Tcc => (text(body, "confirm")?, text(body, "cancel")?),
        Kind::Xa => {
            let url = text(body, "url")?;
            if url.is_empty() {
                return Err("url is missing: whom to call to commit or roll back".into());
            }
            (url.clone(), url)
        }
        Kind::Saga | Kind::Message => {
            return Err(format!(
                "a {} has steps, no branches to be registered",
                kind.name()
            ));
        }
    };
    Ok(Command::Register {
        gid,
        kind,
        branch: text(body, "branch_id")?,
        forward,
        backward,
        data: text(body, "data")?.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn saga_is_read_as_clients_send_it() {
        let new = transaction(json!({
            "gid": "g", "trans_type": "saga", "protocol": null, "query_prepared": null,
            "steps": [{"action": "http://a/1", "compensate": "http://a/2"}, {"action": "http://b/1"}],
            "payloads": ["{\"n\": 1}", "2"], "custom_data": "{\"orders\": {\"1\": [0]}, \"concurrent\": true}",
            "timeout_to_fail": 7, "retry_limit": 3, "branch_headers": {"X-Who": "me"}, "passthrough_headers": [],
            "wait_result": true, "something_new": 5
        }))
        .expect("it is readable");
        assert_eq!(new.check(true), Ok(()));
        assert_eq!((new.kind, new.steps.len()), (Kind::Saga, 2));
        assert_eq!(&new.steps[0].data[..], b"{\"n\": 1}");
        assert_eq!(new.before, vec![vec![], vec![0]]);
        assert!(new.options.concurrent && new.options.wait_result);
        assert_eq!(
            (new.options.timeout_ms, new.options.retry_limit),
            (7_000, 3)
        );
    }

    #[test]
    fn what_cannot_be_meant_is_refused_in_words() {
        let saga = |field: &str, value: Value| {
            let mut body =
                json!({"gid": "g", "trans_type": "saga", "steps": [{"action": "http://a/"}]});
            body[field] = value;
            body
        };
        let cases = [
            (saga("gid", json!(5)), "not a transaction"),
            (saga("gid", json!(null)), "a gid has"),
            (saga("trans_type", json!(null)), "trans_type is missing"),
            (
                saga("trans_type", json!("workflow")),
                "workflow is not there",
            ),
            (saga("trans_type", json!("2pc")), "saga, tcc, msg or xa"),
            (saga("protocol", json!("grpc")), "protocol"),
            (saga("passthrough_headers", json!(["a"])), "branch_headers"),
            (saga("steps", json!([])), "at least one step"),
            (
                saga("steps", json!([{"compensate": ""}])),
                "step 1: it names nothing",
            ),
            (
                saga("steps", json!([{"try": "http://a/"}])),
                "there is no \"try\"",
            ),
            (
                saga("steps", json!([{"action": "https://a/"}])),
                "only http://",
            ),
            (
                saga("steps", json!([{"action": "http:///x"}])),
                "http://host:port/path",
            ),
            (
                saga("steps", json!([{"action": "http://a/ b"}])),
                "http://host:port/path",
            ),
            (
                saga("payloads", json!(["1", "2"])),
                "1 steps have 2 payloads",
            ),
            (saga("timeout_to_fail", json!(-1)), "timeout_to_fail"),
            (saga("retry_limit", json!(-1)), "retry_limit"),
            (
                saga("branch_headers", json!({"a b": "c"})),
                "cannot be a header",
            ),
            (
                saga("branch_headers", json!({"a": "b\r\nc"})),
                "cannot be a header",
            ),
            (saga("custom_data", json!("{")), "custom_data of a saga"),
            (
                saga("custom_data", json!("{\"orders\": {\"0\": [1]}}")),
                "beyond the last",
            ),
            (
                saga("custom_data", json!("{\"orders\": {\"0\": [0]}}")),
                "would never run",
            ),
            (
                saga("custom_data", json!("{\"orders\": {\"x\": [0]}}")),
                "number of a step",
            ),
        ];
        for (body, words) in cases {
            let why = transaction(body.clone()).and_then(|new| new.check(true));
            let why = why.expect_err(&body.to_string());
            assert!(why.contains(words), "{body}: {why}");
        }
        let message = json!({"gid": "g", "trans_type": "msg"});
        let why = transaction(message).and_then(|new| new.check(false));
        assert!(why.expect_err("nobody to ask").contains("query_prepared"));
        assert!(branch(&json!({"gid": "g", "trans_type": "saga"})).is_err());
        assert!(branch(&json!({"gid": "g", "trans_type": "xa", "branch_id": "01"})).is_err());
        assert!(abort(&json!({"trans_type": "tcc"})).is_err());
    }
}
