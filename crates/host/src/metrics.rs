//! Prometheus' text format, from the cores' statuses.

pub mod calls;
mod jobs;

use crate::dns::Counts;
use crate::series::total;
use node::Status;
use std::fmt::Write;
use std::sync::atomic::Ordering::Relaxed;
use traffic::report::{GatewayReport, RouteReport};

/// Everything, as `/metrics` answers it.
pub fn render(
    statuses: &[Status],
    gateway: Option<&GatewayReport>,
    dns: Option<&Counts>,
) -> String {
    let mut out = Page(String::with_capacity(8 << 10));
    let c = total(statuses);
    for (name, help, value) in [
        ("reads", "Requests that read.", c.reads),
        ("writes", "Requests that write.", c.writes),
        ("errors", "Requests answered with an error.", c.errors),
        (
            "notifications",
            "Watch events and published messages sent to clients.",
            c.notifications,
        ),
        ("bytes_in", "Bytes from clients.", c.bytes_in),
        ("bytes_out", "Bytes to clients.", c.bytes_out),
        (
            "sessions_opened",
            "Sessions opened on this node.",
            c.sessions_opened,
        ),
        (
            "sessions_expired",
            "Sessions that expired with their home on this node.",
            c.sessions_expired,
        ),
        ("malformed", "Malformed frames from clients.", c.malformed),
        (
            "elections_won",
            "Elections won by replicas of this node.",
            c.elections_won,
        ),
        ("journal_syncs", "Journal syncs done.", c.syncs),
        ("journal_bytes", "Journal bytes written.", c.journal_bytes),
    ] {
        out.counter(&format!("althing_{name}_total"), help, value);
    }

    if let Some(dns) = dns {
        for (name, help, value) in [
            (
                "answered",
                "DNS questions that were answered.",
                &dns.answered,
            ),
            (
                "malformed",
                "Messages that were no DNS questions.",
                &dns.malformed,
            ),
            (
                "dropped",
                "DNS questions beyond what can be under way.",
                &dns.dropped,
            ),
        ] {
            out.counter(
                &format!("althing_dns_{name}_total"),
                help,
                value.load(Relaxed),
            );
        }
    }

    let name = "althing_request_duration_seconds";
    out.family(
        name,
        "histogram",
        "Time from a request's arrival to its reply.",
    );
    let mut below = 0;
    for (i, n) in c.latency.iter().enumerate() {
        below += n;
        let bound = format!("{}", 2f64.powi(i as i32) / 1e6);
        out.line(&format!("{name}_bucket"), &[("le", &bound)], below);
    }
    out.line(&format!("{name}_bucket"), &[("le", "+Inf")], below);
    out.line(&format!("{name}_sum"), &[], c.latency_sum_us as f64 / 1e6);
    out.line(&format!("{name}_count"), &[], below);

    let ready = !statuses.is_empty() && statuses.iter().all(|status| status.ready);
    out.gauge(
        "althing_ready",
        "1 when this node answers clients.",
        u64::from(ready),
    );
    let uptime = statuses.iter().map(|s| s.uptime_us).max().unwrap_or(0);
    out.gauge(
        "althing_uptime_seconds",
        "Seconds since the node started.",
        uptime as f64 / 1e6,
    );
    let refused = statuses.iter().any(|s| s.additions_refused);
    out.gauge(
        "althing_additions_refused",
        "1 while writes that add data are refused because disks are nearly full.",
        u64::from(refused),
    );
    if let Some(disk) = (statuses.iter())
        .map(|s| s.disk)
        .find(|d| d.total_bytes > 0)
    {
        out.gauge(
            "althing_disk_low",
            "1 when less of this node's disk is free than `disk_free_min_percent`.",
            u64::from(disk.low),
        );
        out.gauge(
            "althing_disk_free_bytes",
            "Bytes free on this node's disk.",
            disk.free_bytes,
        );
        out.gauge(
            "althing_disk_bytes",
            "Bytes that this node's disk holds, free or used.",
            disk.total_bytes,
        );
    }
    if let Some(status) = statuses.first() {
        out.family("althing_info", "gauge", "Always 1; what runs here.");
        out.line(
            "althing_info",
            &[
                ("version", &status.version),
                ("node", &status.node),
                ("cluster", &status.cluster),
            ],
            1,
        );
        let name = "althing_member_reachable";
        out.family(name, "gauge", "1 when the member was heard from lately.");
        for member in &status.members {
            let labels = [
                ("member", member.node.as_str()),
                ("address", &member.address),
            ];
            out.line(name, &labels, u64::from(member.reachable));
        }
        let follows = || statuses.iter().filter_map(|status| status.follows.as_ref());
        if follows().any(|f| !f.promoted) {
            let rows = || follows().flat_map(|f| &f.shards);
            let name = "althing_standby_lag_entries";
            let help = "Entries that the primary is known to have committed and that are not here.";
            out.family(name, "gauge", help);
            for row in rows() {
                let lag = row.commit.saturating_sub(row.index);
                out.line(name, &[("shard", &row.shard)], lag);
            }
            let name = "althing_standby_silent_ms";
            out.family(name, "gauge", "Milliseconds since the primary answered.");
            for row in rows() {
                out.line(name, &[("shard", &row.shard)], row.silent_ms);
            }
        }
        let name = "althing_member_phi";
        let help = "Suspicion of a member by each of its monitors; 8 and more is suspected.";
        out.family(name, "gauge", help);
        for member in &status.members {
            for monitor in member.monitors.iter().filter(|monitor| monitor.heard) {
                let labels = [("member", &*member.node), ("monitor", &*monitor.node)];
                out.line(name, &labels, monitor.phi);
            }
        }
        let name = "althing_member_unreachable";
        let help = "1 when most of the member's monitors suspect it.";
        out.family(name, "gauge", help);
        for member in &status.members {
            let labels = [
                ("member", member.node.as_str()),
                ("address", &member.address),
            ];
            let is = member.verdict == "unreachable";
            out.line(name, &labels, u64::from(is));
        }
    }
    shards(&mut out, statuses);
    trees(&mut out, statuses);
    files(&mut out, statuses);
    globals(&mut out, statuses);
    jobs::render(&mut out, statuses);
    caches(&mut out, statuses);
    topics(&mut out, statuses);
    if let Some(gateway) = gateway {
        routes(&mut out, gateway);
    }
    transactions(&mut out, statuses);
    services(&mut out, statuses);
    out.0
}

fn shards(out: &mut Page, statuses: &[Status]) {
    type Field = fn(&node::admin::ShardStatus) -> u64;
    let fields: [(&str, &str, Field); 7] = [
        ("leader", "1 when this node leads the shard.", |s| {
            u64::from(s.role == "leader")
        }),
        ("term", "Current term.", |s| s.term),
        ("commit_index", "Highest index known committed.", |s| {
            s.commit
        }),
        ("applied_index", "Highest index applied here.", |s| {
            s.applied
        }),
        ("lag", "Entries committed and not applied here.", |s| s.lag),
        ("log_bytes", "Bytes of log in memory.", |s| s.log_bytes),
        ("silent", "1 when the replica lost its log.", |s| {
            u64::from(s.role == "silent")
        }),
    ];
    for (name, help, field) in fields {
        let name = format!("althing_shard_{name}");
        out.family(&name, "gauge", help);
        for shard in statuses.iter().flat_map(|status| &status.shards) {
            out.line(&name, &[("shard", &shard.name)], field(shard));
        }
    }
}

fn globals(out: &mut Page, statuses: &[Status]) {
    let Some(globals) = statuses.iter().find_map(|s| s.globals.as_ref()) else {
        return;
    };
    for (name, help, value) in [
        (
            "under_way",
            "Global transactions under way.",
            globals.under_way,
        ),
        (
            "parked",
            "Global transactions that wait for a person.",
            globals.parked,
        ),
        (
            "calls_wanted",
            "Calls of services that are wanted now.",
            globals.wanted,
        ),
    ] {
        out.gauge(&format!("althing_globals_{name}"), help, value);
    }
    for (name, help, value) in [
        ("begun", "Global transactions begun.", globals.begun),
        (
            "succeeded",
            "Global transactions that succeeded.",
            globals.succeeded,
        ),
        (
            "failed",
            "Global transactions that failed and were undone.",
            globals.failed,
        ),
        (
            "calls",
            "Calls of services for them that this node has made.",
            globals.calls_made,
        ),
    ] {
        out.counter(&format!("althing_globals_{name}_total"), help, value);
    }
}

fn files(out: &mut Page, statuses: &[Status]) {
    let Some(files) = statuses.iter().find_map(|s| s.files.as_ref()) else {
        return;
    };
    for (name, help, value) in [
        ("files", "Files.", files.files),
        ("file_writers", "Files being written.", files.writers),
        ("chunks", "Chunks of all files.", files.chunks),
        (
            "chunks_missing",
            "Chunks without a good copy anywhere.",
            files.missing,
        ),
        (
            "chunks_unreachable",
            "Chunks whose good copies are all on nodes that are not heard.",
            files.unreachable,
        ),
        (
            "chunks_short",
            "Chunks with fewer good copies on nodes that are heard than wanted.",
            files.short,
        ),
        (
            "chunk_copies_corrupt",
            "Copies of chunks that are corrupt.",
            files.corrupt,
        ),
        (
            "chunk_copies_making",
            "Copies of chunks under way.",
            files.making,
        ),
    ] {
        out.gauge(&format!("althing_{name}"), help, value);
    }
}

fn trees(out: &mut Page, statuses: &[Status]) {
    let trees: Vec<_> = statuses.iter().filter_map(|s| s.tree.as_ref()).collect();
    let most = |field: fn(&node::admin::TreeStatus) -> u64| {
        trees.iter().map(|tree| field(tree)).max().unwrap_or(0)
    };
    let sum = |field: fn(&node::admin::TreeStatus) -> u64| {
        trees.iter().map(|tree| field(tree)).sum::<u64>()
    };
    out.gauge(
        "althing_tree_revision",
        "The tree's revision (zxid).",
        most(|t| t.zxid.max(0) as u64),
    );
    out.gauge("althing_znodes", "Nodes in the tree.", most(|t| t.znodes));
    out.gauge(
        "althing_ephemerals",
        "Ephemeral nodes in the tree.",
        most(|t| t.ephemerals),
    );
    out.gauge(
        "althing_data_bytes",
        "Bytes of paths and data.",
        most(|t| t.data_bytes),
    );
    out.gauge(
        "althing_sessions",
        "Sessions in the cluster.",
        most(|t| t.sessions),
    );
    out.gauge(
        "althing_connections",
        "Client connections here.",
        sum(|t| t.connections),
    );
    out.gauge("althing_watches", "Watches here.", sum(|t| t.watches));
    out.gauge(
        "althing_outstanding_requests",
        "Requests not yet answered here.",
        sum(|t| t.outstanding),
    );
}

fn caches(out: &mut Page, statuses: &[Status]) {
    let caches: Vec<_> = statuses.iter().filter_map(|s| s.cache.as_ref()).collect();
    if caches.is_empty() {
        return;
    }
    let sum = |field: fn(&node::admin::CacheStatus) -> u64| -> u64 {
        caches.iter().map(|cache| field(cache)).sum()
    };
    for (name, help, value) in [
        (
            "commands",
            "Commands of Redis clients.",
            sum(|c| c.commands),
        ),
        (
            "connections",
            "Redis clients that connected.",
            sum(|c| c.connections),
        ),
    ] {
        out.counter(&format!("althing_cache_{name}_total"), help, value);
    }
    let name = "althing_cache_keys";
    out.family(
        name,
        "gauge",
        "Keys of the shards that are here, by database.",
    );
    let mut databases = std::collections::BTreeMap::new();
    for (database, keys, _) in caches.iter().flat_map(|cache| &cache.databases) {
        *databases.entry(*database).or_insert(0) += keys;
    }
    for (database, keys) in databases {
        out.line(name, &[("database", &database.to_string())], keys);
    }
    for (name, help, value) in [
        (
            "ending_keys",
            "Keys that have a time to live.",
            sum(|c| c.ending),
        ),
        (
            "memory_bytes",
            "Memory that the keys take, an estimate.",
            sum(|c| c.memory_bytes),
        ),
        ("clients", "Redis clients here.", sum(|c| c.clients)),
        (
            "blocked_clients",
            "Redis clients that wait in a blocking command.",
            sum(|c| c.blocked),
        ),
        (
            "subscriptions",
            "Channels and patterns that somebody here listens to.",
            sum(|c| c.subscriptions),
        ),
        (
            "outstanding_requests",
            "Commands not yet answered here.",
            sum(|c| c.outstanding),
        ),
    ] {
        out.gauge(&format!("althing_cache_{name}"), help, value);
    }
}

fn transactions(out: &mut Page, statuses: &[Status]) {
    let all: Vec<_> = statuses.iter().flat_map(|s| &s.transactions).collect();
    let sum = |field: fn(&node::admin::TransactionsStatus) -> u64| -> u64 {
        all.iter().map(|shard| field(shard)).sum()
    };
    for (name, help, value) in [
        (
            "under_way",
            "Transactions under way whose record is in a shard here.",
            sum(|s| s.records),
        ),
        (
            "in_doubt",
            "Transactions promised by a shard here and not decided.",
            sum(|s| s.promises),
        ),
        (
            "locks",
            "Keys, partitions and nodes that transactions hold here.",
            sum(|s| s.locks),
        ),
        (
            "waiting_writes",
            "Writes that wait for transactions here.",
            sum(|s| s.parked),
        ),
        (
            "committed",
            "Transactions committed in shards here since they were made.",
            sum(|s| s.committed),
        ),
        (
            "refused",
            "Transactions refused in shards here since they were made.",
            sum(|s| s.refused),
        ),
    ] {
        out.gauge(&format!("althing_transactions_{name}"), help, value);
    }
}

fn topics(out: &mut Page, statuses: &[Status]) {
    let all: Vec<_> = statuses.iter().filter_map(|s| s.topics.as_ref()).collect();
    if all.is_empty() {
        return;
    }
    let sum = |field: fn(&node::admin::TopicsStatus) -> u64| -> u64 {
        all.iter().map(|topics| field(topics)).sum()
    };
    for (name, help, value) in [
        ("topics", "Topics in the cluster.", sum(|t| t.topics)),
        (
            "topic_partitions",
            "Partitions of the shards that are here.",
            sum(|t| t.partitions),
        ),
        (
            "topic_bytes",
            "Bytes of records of the shards that are here.",
            sum(|t| t.bytes),
        ),
        (
            "groups",
            "Consumer groups of the shards that are here.",
            sum(|t| t.groups),
        ),
        (
            "group_members",
            "Members of these groups.",
            sum(|t| t.members),
        ),
        (
            "topic_clients",
            "Kafka clients' connections here.",
            sum(|t| t.clients),
        ),
        (
            "topic_outstanding_requests",
            "Requests of Kafka's clients not yet answered here, with fetches that wait for records.",
            sum(|t| t.outstanding),
        ),
    ] {
        out.gauge(&format!("althing_{name}"), help, value);
    }
    let led = || all.iter().flat_map(|topics| &topics.led);
    type Field = fn(&(String, u32, i64, i64, u64)) -> i64;
    let fields: [(&str, &str, Field); 3] = [
        ("start", "The first offset that can be read.", |p| p.2),
        ("end", "The offset that comes next.", |p| p.3),
        ("bytes", "Bytes of records.", |p| p.4 as i64),
    ];
    for (name, help, field) in fields {
        let name = format!("althing_partition_{name}");
        out.family(
            &name,
            "gauge",
            &format!("Of partitions that are led here: {help}"),
        );
        for partition in led() {
            let index = partition.1.to_string();
            let labels = [("topic", partition.0.as_str()), ("partition", &index)];
            out.line(&name, &labels, field(partition));
        }
    }
    let name = "althing_group_lag";
    let help = "Records behind what a group has committed, of groups that are coordinated here.";
    out.family(name, "gauge", help);
    for (group, topic, lag) in all.iter().flat_map(|topics| &topics.lags) {
        out.line(name, &[("group", group), ("topic", topic)], lag);
    }
}

/// The golden signals of each route: latency, traffic, errors, saturation.
fn routes(out: &mut Page, gateway: &GatewayReport) {
    type Field = fn(&RouteReport) -> f64;
    let fields: [(&str, &str, &str, Field); 9] = [
        ("requests_total", "counter", "Requests answered.", |r| {
            r.requests as f64
        }),
        (
            "errors_total",
            "counter",
            "Requests that failed: a status from 500 on, or no answer.",
            |r| r.errors as f64,
        ),
        (
            "refused_total",
            "counter",
            "Requests that a limit refused.",
            |r| r.refused as f64,
        ),
        (
            "fallbacks_total",
            "counter",
            "Answers by the fallback.",
            |r| r.fallbacks as f64,
        ),
        ("in_flight", "gauge", "Requests under way.", |r| {
            r.in_flight as f64
        }),
        (
            "saturation",
            "gauge",
            "Part of the places taken, of the route or of its servers, from 0 to 1.",
            |r| r.saturation,
        ),
        (
            "level",
            "gauge",
            "How it fares: 0 normal, 1 general, 2 warning, 3 error, 4 severe.",
            |r| f64::from(r.level as u8),
        ),
        (
            "degraded",
            "gauge",
            "1 while the fallback answers in the servers' place.",
            |r| f64::from(u8::from(r.degraded)),
        ),
        ("requests_per_second", "gauge", "Over ten seconds.", |r| {
            r.rate
        }),
    ];
    for (name, kind, help, field) in fields {
        let name = format!("althing_gateway_{name}");
        out.family(&name, kind, help);
        for route in &gateway.routes {
            out.line(&name, &[("route", &route.name)], field(route));
        }
    }
    let name = "althing_gateway_alarm";
    out.family(name, "gauge", "1 while the alarm is raised.");
    for route in &gateway.routes {
        for (signal, is_raised) in route.alarms.named() {
            let labels = [("route", route.name.as_str()), ("signal", signal)];
            out.line(name, &labels, u64::from(is_raised));
        }
    }
    let name = "althing_gateway_request_duration_seconds";
    let help = "Time to the head of a server's answer.";
    out.family(name, "histogram", help);
    for route in &gateway.routes {
        let label = ("route", route.name.as_str());
        out.histogram(name, label, &route.latency, route.latency_sum_us);
    }
    let name = "althing_gateway_breaker_open";
    out.family(name, "gauge", "1 while a server is left alone.");
    for upstream in &gateway.upstreams {
        for server in &upstream.servers {
            let labels = [
                ("upstream", upstream.name.as_str()),
                ("server", &server.address),
            ];
            let is_open = server.breaker == "open";
            out.line(name, &labels, u64::from(is_open));
        }
    }
    for (name, help, value) in [
        (
            "cache_entries",
            "Answers that the cache keeps.",
            gateway.cache_entries,
        ),
        ("cache_bytes", "Bytes that they take.", gateway.cache_bytes),
        ("connections", "Client connections.", gateway.connections),
    ] {
        out.gauge(&format!("althing_gateway_{name}"), help, value);
    }
}

fn services(out: &mut Page, statuses: &[Status]) {
    let Some(services) = statuses.iter().find_map(|s| s.services.as_ref()) else {
        return;
    };
    for (name, help, value) in [
        ("services", "Services with an instance.", services.services),
        (
            "service_instances",
            "Instances of services.",
            services.instances,
        ),
        (
            "calls",
            "Calls over HTTP and DNS under way here.",
            services.calls,
        ),
    ] {
        out.gauge(&format!("althing_{name}"), help, value);
    }
    let name = "althing_service_checks";
    out.family(name, "gauge", "Checks of services, by what they say.");
    for (status, value) in [
        ("passing", services.passing),
        ("warning", services.warning),
        ("critical", services.critical),
    ] {
        out.line(name, &[("status", status)], value);
    }
    let name = "althing_probes_total";
    out.family(
        name,
        "counter",
        "Probes of services that this node has run.",
    );
    out.line(name, &[], services.probes);
}

struct Page(String);

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn line(&mut self, name: &str, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        self.0.push_str(name);
        for (i, (label, text)) in labels.iter().enumerate() {
            let text = text
                .replace('\\', "\\\\")
                .replace('"', "\\\"")
                .replace('\n', "\\n");
            let open = if i == 0 { '{' } else { ',' };
            let _ = write!(self.0, "{open}{label}=\"{text}\"");
        }
        if !labels.is_empty() {
            self.0.push('}');
        }
        let _ = writeln!(self.0, " {value}");
    }

    /// Of counts by powers of two of microseconds.
    fn histogram(&mut self, name: &str, label: (&str, &str), counts: &[u64], sum_us: u64) {
        let mut below = 0;
        for (i, n) in counts.iter().enumerate() {
            below += n;
            let bound = format!("{}", 2f64.powi(i as i32) / 1e6);
            self.line(&format!("{name}_bucket"), &[label, ("le", &bound)], below);
        }
        self.line(&format!("{name}_bucket"), &[label, ("le", "+Inf")], below);
        self.line(&format!("{name}_sum"), &[label], sum_us as f64 / 1e6);
        self.line(&format!("{name}_count"), &[label], below);
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl std::fmt::Display) {
        self.family(name, "gauge", help);
        self.line(name, &[], value);
    }

    fn counter(&mut self, name: &str, help: &str, value: impl std::fmt::Display) {
        self.family(name, "counter", help);
        self.line(name, &[], value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use node::admin::{Counters, ShardStatus};

    #[test]
    fn every_line_is_of_a_family_and_histogram_buckets_accumulate() {
        let status = Status {
            node: "a\"b".into(),
            counters: Counters {
                reads: 3,
                latency: vec![0, 1, 2],
                latency_sum_us: 9,
                ..Counters::default()
            },
            shards: vec![ShardStatus {
                name: "tree".into(),
                role: "leader".into(),
                ..ShardStatus::default()
            }],
            cache: Some(node::admin::CacheStatus {
                commands: 12,
                databases: vec![(0, 5, 1), (3, 2, 0)],
                ..Default::default()
            }),
            topics: Some(node::admin::TopicsStatus {
                led: vec![("logs".into(), 1, 3, 9, 700)],
                lags: vec![("readers".into(), "logs".into(), 4)],
                ..Default::default()
            }),
            globals: Some(node::admin::GlobalsStatus {
                parked: 2,
                begun: 5,
                ..Default::default()
            }),
            ..Status::default()
        };
        let gateway = GatewayReport {
            routes: vec![RouteReport {
                name: "shop".into(),
                requests: 3,
                latency: vec![0, 3],
                ..RouteReport::default()
            }],
            ..GatewayReport::default()
        };
        let text = render(&[status], Some(&gateway), None);
        assert!(text.contains("althing_gateway_requests_total{route=\"shop\"} 3\n"));
        assert!(text.contains("althing_gateway_alarm{route=\"shop\",signal=\"errors\"} 0\n"));
        assert!(text.contains("_seconds_bucket{route=\"shop\",le=\"0.000002\"} 3\n"));
        assert!(text.contains("althing_partition_end{topic=\"logs\",partition=\"1\"} 9\n"));
        assert!(text.contains("althing_group_lag{group=\"readers\",topic=\"logs\"} 4\n"));
        assert!(text.contains("althing_globals_parked 2\n"));
        assert!(text.contains("althing_globals_begun_total 5\n"));
        assert!(text.contains("althing_reads_total 3\n"));
        assert!(text.contains("node=\"a\\\"b\""));
        assert!(text.contains("althing_shard_leader{shard=\"tree\"} 1\n"));
        assert!(text.contains("althing_cache_commands_total 12\n"));
        assert!(text.contains("althing_cache_keys{database=\"3\"} 2\n"));
        assert!(text.contains("_bucket{le=\"0.000002\"} 1\n"));
        assert!(text.contains("_bucket{le=\"0.000004\"} 3\n"));
        assert!(text.contains("_bucket{le=\"+Inf\"} 3\n"));
        let families: Vec<&str> = text
            .lines()
            .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
            .collect();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            assert!(
                families.iter().any(|family| line.starts_with(family)),
                "{line}"
            );
        }
    }
}
