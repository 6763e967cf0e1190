//! Answers as Consul's clients read them.

use coordination::services::{CheckKind, CheckView, Found, Instance};
use serde_json::{Map, Value, json};

/// The name of the one datacenter.
pub const DATACENTER: &str = "dc1";

/// How a node is called.
pub fn node_name(node: base::NodeId) -> String {
    format!("{:x}", node.0)
}

/// An instance in the catalog.
pub fn catalog_service(found: &Found) -> Value {
    let i = &found.instance;
    json!({
        "ID": "",
        "Node": node_name(i.node),
        "Address": i.node_address,
        "Datacenter": DATACENTER,
        "TaggedAddresses": null,
        "NodeMeta": Map::new(),
        "ServiceKind": "",
        "ServiceID": i.id,
        "ServiceName": i.service,
        "ServiceTags": i.tags,
        "ServiceAddress": i.address,
        "ServiceTaggedAddresses": Map::new(),
        "ServiceWeights": { "Passing": i.weights.0, "Warning": i.weights.1 },
        "ServiceMeta": i.meta,
        "ServicePort": i.port,
        "ServiceEnableTagOverride": false,
        "CreateIndex": found.created,
        "ModifyIndex": found.modified,
    })
}

/// An instance as an agent shows it.
pub fn agent_service(i: &Instance) -> Value {
    json!({
        "ID": i.id,
        "Service": i.service,
        "Tags": i.tags,
        "Meta": i.meta,
        "Port": i.port,
        "Address": i.address,
        "TaggedAddresses": Map::new(),
        "Weights": { "Passing": i.weights.0, "Warning": i.weights.1 },
        "EnableTagOverride": false,
        "Datacenter": DATACENTER,
    })
}

/// An instance with its node and its checks.
pub fn health_service(found: &Found) -> Value {
    let i = &found.instance;
    let mut service = agent_service(i);
    if let Value::Object(fields) = &mut service {
        fields.insert("CreateIndex".into(), found.created.into());
        fields.insert("ModifyIndex".into(), found.modified.into());
    }
    json!({
        "Node": node(&node_name(i.node), &i.node_address),
        "Service": service,
        "Checks": found.checks.iter().map(check).collect::<Value>(),
    })
}

/// A node.
pub fn node(name: &str, address: &str) -> Value {
    json!({
        "ID": "",
        "Node": name,
        "Address": address,
        "Datacenter": DATACENTER,
        "TaggedAddresses": null,
        "Meta": Map::new(),
        "CreateIndex": 1,
        "ModifyIndex": 1,
    })
}

/// A check.
pub fn check(view: &CheckView) -> Value {
    let check = &view.check;
    let spec = &check.spec;
    let ms = |ms: u64| format!("{ms}ms");
    let definition = match &spec.kind {
        CheckKind::Ttl { ttl_ms } => json!({ "TTL": ms(*ttl_ms) }),
        CheckKind::Http {
            url, method, pace, ..
        } => json!({
            "HTTP": url,
            "Method": method,
            "Interval": ms(pace.interval_ms),
            "Timeout": ms(pace.timeout_ms),
        }),
        CheckKind::Tcp { address, pace } => json!({
            "TCP": address,
            "Interval": ms(pace.interval_ms),
            "Timeout": ms(pace.timeout_ms),
        }),
    };
    json!({
        "Node": node_name(check.home),
        "CheckID": spec.id,
        "Name": spec.name,
        "Status": check.status.name(),
        "Notes": spec.notes,
        "Output": check.output,
        "ServiceID": spec.instance,
        "ServiceName": view.service,
        "ServiceTags": view.tags,
        "Type": spec.kind.name(),
        "Interval": "",
        "Timeout": "",
        "ExposedPort": 0,
        "Definition": definition,
        "Runner": node_name(check.runner),
        "Since": base::time::utc(check.since_ms),
        "CreateIndex": check.created,
        "ModifyIndex": check.modified,
    })
}
