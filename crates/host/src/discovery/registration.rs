//! What clients send to register services and checks.
//!
//! Consul takes field names in any case, with or without underscores, and so do its clients send them.

use coordination::services::{CheckKind, CheckSpec, Instance, Pace, Status};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::time::Duration;

/// What a probe takes at most when it is not said, in milliseconds.
const TIMEOUT_DEFAULT_MS: u64 = 10_000;

/// A service.
#[derive(Deserialize, Default)]
#[serde(default)]
pub struct Service {
    id: Option<String>,
    #[serde(alias = "service")]
    name: String,
    tags: Option<Vec<String>>,
    address: Option<String>,
    port: Option<u16>,
    meta: Option<BTreeMap<String, String>>,
    weights: Option<Weights>,
    check: Option<Check>,
    checks: Option<Vec<Check>>,
}

#[derive(Deserialize)]
struct Weights {
    passing: u32,
    warning: u32,
}

/// A check.
#[derive(Deserialize, Default)]
#[serde(default)]
pub struct Check {
    id: Option<String>,
    checkid: Option<String>,
    name: Option<String>,
    notes: Option<String>,
    serviceid: Option<String>,
    status: Option<String>,
    ttl: Option<String>,
    http: Option<String>,
    method: Option<String>,
    header: Option<BTreeMap<String, Vec<String>>>,
    body: Option<String>,
    tcp: Option<String>,
    interval: Option<String>,
    timeout: Option<String>,
    successbeforepassing: Option<u32>,
    failuresbeforewarning: Option<u32>,
    failuresbeforecritical: Option<u32>,
    deregistercriticalserviceafter: Option<String>,
    // Kinds that are not there.
    args: Option<Value>,
    script: Option<Value>,
    grpc: Option<Value>,
    udp: Option<Value>,
    h2ping: Option<Value>,
    dockercontainerid: Option<Value>,
    aliasnode: Option<Value>,
    aliasservice: Option<Value>,
    osservice: Option<Value>,
}

/// What a check with a TTL is told.
#[derive(Deserialize, Default)]
#[serde(default)]
pub struct Told {
    /// `passing`, `warning` or `critical`.
    pub status: String,
    /// In words.
    pub output: String,
}

/// Reads a JSON object whose keys are in any case, with or without underscores.
pub fn read<T: DeserializeOwned>(body: &str) -> Result<T, String> {
    let wrong = |error: serde_json::Error| format!("Request decode failed: {error}");
    let value: Value = serde_json::from_str(body).map_err(wrong)?;
    if !value.is_object() {
        return Err("Request decode failed: a JSON object is wanted".into());
    }
    serde_json::from_value(plain(value)).map_err(wrong)
}

/// The same with plain keys; what stands in the client's own maps stays as it is.
fn plain(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let mut made = Map::new();
            for (key, value) in fields {
                let key = key.to_lowercase().replace('_', "");
                let is_own = matches!(key.as_str(), "meta" | "header" | "taggedaddresses");
                let value = if is_own { value } else { plain(value) };
                if !value.is_null() {
                    made.insert(key, value);
                }
            }
            Value::Object(made)
        }
        Value::Array(items) => items.into_iter().map(plain).collect(),
        other => other,
    }
}

/// Where a request came to, and from.
pub struct Place<'a> {
    /// The node.
    pub node: base::NodeId,
    /// The node's address.
    pub node_address: &'a str,
    /// Whoever asks, when that is another machine: its services have its address if they name none.
    pub client_address: Option<String>,
}

impl Service {
    /// The instance and its checks.
    pub fn instance(self, place: &Place<'_>) -> Result<(Instance, Vec<CheckSpec>), String> {
        let id = self.id.filter(|id| !id.is_empty());
        let id = id.unwrap_or_else(|| self.name.clone());
        let address = self.address.filter(|address| !address.is_empty());
        let instance = Instance {
            node: place.node,
            node_address: place.node_address.to_owned(),
            address: (address.or_else(|| place.client_address.clone())).unwrap_or_default(),
            port: self.port.unwrap_or_default(),
            tags: self.tags.unwrap_or_default(),
            meta: self.meta.unwrap_or_default(),
            weights: self.weights.map_or((1, 1), |w| (w.passing, w.warning)),
            service: self.name,
            id,
        };
        instance.check().map_err(|refusal| refusal.to_string())?;
        let checks: Vec<Check> = (self.check.into_iter())
            .chain(self.checks.into_iter().flatten())
            .collect();
        let count = checks.len();
        let mut specs = Vec::with_capacity(count);
        for (i, mut check) in checks.into_iter().enumerate() {
            check.serviceid = Some(instance.id.clone());
            let own = match count {
                1 => format!("service:{}", instance.id),
                _ => format!("service:{}:{}", instance.id, i + 1),
            };
            specs.push(check.spec(own, format!("Service '{}' check", instance.service))?);
        }
        Ok((instance, specs))
    }
}

impl Check {
    /// The check as it was named by its client.
    pub fn named(self) -> Result<CheckSpec, String> {
        let name = self.name.clone().unwrap_or_default();
        self.spec(name.clone(), name)
    }

    fn spec(self, id: String, name: String) -> Result<CheckSpec, String> {
        let foreign = [
            ("Args", &self.args),
            ("Script", &self.script),
            ("GRPC", &self.grpc),
            ("UDP", &self.udp),
            ("H2PING", &self.h2ping),
            ("DockerContainerID", &self.dockercontainerid),
            ("AliasNode", &self.aliasnode),
            ("AliasService", &self.aliasservice),
            ("OSService", &self.osservice),
        ];
        if let Some((kind, _)) = foreign.iter().find(|(_, value)| is_set(value)) {
            return Err(format!(
                "checks of kind {kind} are not there: use TTL, HTTP or TCP"
            ));
        }
        let status = self.status.filter(|status| !status.is_empty());
        let initial = match status {
            None => Status::Critical,
            Some(name) => Status::named(&name).ok_or_else(|| {
                format!("Status {name:?} is not one of passing, warning, critical")
            })?,
        };
        let ms = |text: Option<String>| match text.filter(|text| !text.is_empty()) {
            None => Ok(None),
            Some(text) => duration(&text).map(|time| Some(time.as_millis() as u64)),
        };
        let (interval_ms, timeout_ms) = (ms(self.interval)?, ms(self.timeout)?);
        let failures = self.failuresbeforecritical.unwrap_or_default();
        let pace = interval_ms.map(|interval_ms| Pace {
            interval_ms,
            timeout_ms: timeout_ms.unwrap_or(TIMEOUT_DEFAULT_MS),
            successes: self.successbeforepassing.unwrap_or_default(),
            failures_to_warn: self.failuresbeforewarning.unwrap_or_default(),
            failures,
        });
        let pace = pace.ok_or("a check that looks needs an Interval, as \"10s\"");
        let some = |text: Option<String>| text.filter(|text| !text.is_empty());
        let kind = match (ms(self.ttl)?, some(self.http), some(self.tcp)) {
            (Some(ttl_ms), None, None) => CheckKind::Ttl { ttl_ms },
            (None, Some(url), None) => {
                let headers = self.header.unwrap_or_default().into_iter();
                let pairs = headers.flat_map(|(key, values)| {
                    values.into_iter().map(move |value| (key.clone(), value))
                });
                CheckKind::Http {
                    url,
                    method: some(self.method).unwrap_or_else(|| "GET".into()),
                    headers: pairs.collect(),
                    body: self.body.unwrap_or_default(),
                    pace: pace?,
                }
            }
            (None, None, Some(address)) => CheckKind::Tcp {
                address,
                pace: pace?,
            },
            _ => return Err("a check has one of TTL, HTTP or TCP".into()),
        };
        let spec = CheckSpec {
            id: some(self.checkid).or(some(self.id)).unwrap_or(id),
            name: some(self.name).unwrap_or(name),
            notes: self.notes.unwrap_or_default(),
            instance: self.serviceid.unwrap_or_default(),
            kind,
            initial,
            deregister_after_ms: ms(self.deregistercriticalserviceafter)?.unwrap_or_default(),
        };
        spec.check().map_err(|refusal| refusal.to_string())?;
        Ok(spec)
    }
}

fn is_set(value: &Option<Value>) -> bool {
    match value {
        None | Some(Value::Null | Value::Bool(false)) => false,
        Some(Value::String(text)) => !text.is_empty(),
        Some(Value::Array(items)) => !items.is_empty(),
        Some(_) => true,
    }
}

/// A duration as Go writes it: `1h5m30.5s`, `10ms`.
pub fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no duration like 10s or 5m");
    let (mut rest, mut seconds) = (text, 0.0);
    if rest.is_empty() {
        return Err(wrong());
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: Place<'_> = Place {
        node: base::NodeId(1),
        node_address: "10.0.0.1",
        client_address: None,
    };

    #[test]
    fn durations_are_read_as_go_writes_them() {
        for (text, ms) in [
            ("10s", 10_000),
            ("1m30s", 90_000),
            ("250ms", 250),
            ("1.5s", 1_500),
            ("0s", 0),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in ["", "10", "s", "-1s", "1x", "1..5s", "99999999999999999999h"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn keys_are_read_in_any_case_and_the_clients_own_stay_as_they_are() {
        let body = r#"{"Name": "web", "ID": "w1", "Meta": {"A_b": "C"}, "port": 80, "tags": null,
            "check": {"http": "http://h/", "Interval": "2s", "Header": {"X-A": ["1", "2"]},
                      "deregister_critical_service_after": "1m", "TTL": ""}}"#;
        let service: Service = read(body).unwrap();
        let (instance, checks) = service.instance(&PLACE).unwrap();
        assert_eq!((instance.id.as_str(), instance.port), ("w1", 80));
        assert_eq!(instance.meta["A_b"], "C");
        assert_eq!(checks[0].id, "service:w1");
        assert_eq!(checks[0].deregister_after_ms, 60_000);
        let CheckKind::Http { headers, pace, .. } = &checks[0].kind else {
            panic!("{checks:?}");
        };
        assert_eq!(headers.len(), 2);
        assert_eq!((pace.interval_ms, pace.timeout_ms), (2_000, 10_000));
    }

    #[test]
    fn what_cannot_be_is_refused_with_what_can() {
        for (body, says) in [
            ("", "Request decode failed"),
            ("[]", "Request decode failed"),
            (r#"{"Name": ""}"#, "name has 1 to 253 bytes"),
            (r#"{"Name": "a", "Port": 99999}"#, "Request decode failed"),
            (r#"{"Name": "a", "Check": {}}"#, "one of TTL, HTTP or TCP"),
            (
                r#"{"Name": "a", "Check": {"HTTP": "http://h"}}"#,
                "Interval",
            ),
            (
                r#"{"Name": "a", "Check": {"HTTP": "https://h", "Interval": "1s"}}"#,
                "http://",
            ),
            (
                r#"{"Name": "a", "Check": {"Args": ["sh"], "Interval": "1s"}}"#,
                "kind Args",
            ),
            (r#"{"Name": "a", "Check": {"TTL": "soon"}}"#, "no duration"),
            (r#"{"Name": "a", "Check": {"TTL": "1ns"}}"#, "from 10ms"),
            (
                r#"{"Name": "a", "Check": {"TTL": "1s", "Status": "fine"}}"#,
                "passing, warning, critical",
            ),
        ] {
            let refusal = match read::<Service>(body) {
                Err(why) => why,
                Ok(service) => service.instance(&PLACE).expect_err(body),
            };
            assert!(refusal.contains(says), "{body}: {refusal}");
        }
    }
}
