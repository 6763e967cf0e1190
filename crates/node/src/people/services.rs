//! What people are told of services.

use crate::admin::{InstanceRow, ServicesStatus};
use crate::core::Core;
use base::Now;
use catalog::TREE_SHARD;
use coordination::services::{Answer, Found, Query, Status};

/// Instances that are shown.
const INSTANCES_SHOWN: usize = 1_000;

impl Core {
    pub(super) fn services_status(&self, now: Now) -> Option<ServicesStatus> {
        let services = &self.replicas.get(TREE_SHARD)?.machine().data()?.services;
        let time_ms = now.wall_ms;
        let count = |status| services.checks().filter(|c| c.status == status).count() as u64;
        let (_, Answer::Instances(found)) = services.read(&Query::Instances) else {
            return None;
        };
        let mut rows: Vec<InstanceRow> = (found.iter().take(INSTANCES_SHOWN))
            .map(|found| row(found, time_ms))
            .collect();
        rows.sort_by(|a, b| (&a.service, &a.id).cmp(&(&b.service, &b.id)));
        Some(ServicesStatus {
            services: services.service_count() as u64,
            instances: services.instance_count() as u64,
            passing: count(Status::Passing),
            warning: count(Status::Warning),
            critical: count(Status::Critical),
            probes: self.desk.probe_count(),
            calls: self.desk.call_count(),
            list: rows,
        })
    }
}

fn row(found: &Found, time_ms: i64) -> InstanceRow {
    let i = &found.instance;
    let address = match i.address.as_str() {
        "" => &i.node_address,
        own => own,
    };
    // What matters most: the first of the worst.
    let worst = found
        .checks
        .iter()
        .rev()
        .max_by_key(|view| view.check.status);
    let check = worst.map(|view| &view.check);
    InstanceRow {
        service: i.service.clone(),
        id: i.id.clone(),
        address: format!("{address}:{}", i.port),
        node: format!("{:x}", i.node.0),
        tags: i.tags.join(", "),
        status: found.status().name().into(),
        checks: found.checks.len() as u64,
        output: check.map(|c| c.output.clone()).unwrap_or_default(),
        runner: check
            .map(|c| format!("{:x}", c.runner.0))
            .unwrap_or_default(),
        since_ms: check.map_or(0, |c| time_ms.saturating_sub(c.since_ms).max(0) as u64),
    }
}
