//! The golden signals, and where the node stands.

use crate::View;
use crate::layout::{Chart, charts, figure, plain, table};
use crate::text::{bytes, count};
use maud::{Markup, html};
use node::admin::Counters;

const CHARTS: [Chart; 6] = [
    (
        "Latency",
        "us",
        &[("p50_us", "median"), ("p99_us", "99th percentile")],
    ),
    (
        "Traffic",
        "rate",
        &[("reads", "reads"), ("writes", "writes")],
    ),
    (
        "Errors",
        "rate",
        &[("errors", "requests answered with an error")],
    ),
    (
        "Saturation",
        "count",
        &[("outstanding", "requests under way")],
    ),
    ("Journal", "bytes", &[("journal_bytes", "written")]),
    (
        "Events",
        "rate",
        &[("notifications", "watch events and messages")],
    ),
];

pub fn body(view: &View<'_>) -> Markup {
    let sum = |field: fn(&Counters) -> u64| -> u64 {
        view.statuses.iter().map(|s| field(&s.counters)).sum()
    };
    let tree = view.statuses.iter().find_map(|s| s.tree.as_ref());
    let first = view.statuses.first();
    html! {
        (charts(&CHARTS))
        h2 { "Since the node started" }
        div.figures {
            (figure("Reads", count(sum(|c| c.reads)), ""))
            (figure("Writes", count(sum(|c| c.writes)), ""))
            (figure("Errors", count(sum(|c| c.errors)), "answers with a code"))
            (figure("Events", count(sum(|c| c.notifications)), "watches and messages"))
            (figure("Received", bytes(sum(|c| c.bytes_in)), "from clients"))
            (figure("Sent", bytes(sum(|c| c.bytes_out)), "to clients"))
            (figure("Journal", bytes(sum(|c| c.journal_bytes)), &format!("{} syncs", count(sum(|c| c.syncs)))))
            @if let Some(status) = first.filter(|s| s.disk.total_bytes > 0) {
                (figure("Disk free", bytes(status.disk.free_bytes), &format!("of {}", bytes(status.disk.total_bytes))))
            }
            (figure("Elections won", count(sum(|c| c.elections_won)), "by replicas here"))
            (figure("Sessions expired", count(sum(|c| c.sessions_expired)), &format!("{} opened here", count(sum(|c| c.sessions_opened)))))
            (figure("Malformed frames", count(sum(|c| c.malformed)), "connections closed"))
        }
        @if let Some(tree) = tree {
            h2 { "The tree" }
            div.figures {
                (figure("Nodes", count(tree.znodes), &format!("{} ephemeral", count(tree.ephemerals))))
                (figure("Data", bytes(tree.data_bytes), "paths and data"))
                (figure("Revision", format!("0x{:x}", tree.zxid), "zxid"))
                (figure("Sessions", count(tree.sessions), "in the cluster"))
                (figure("Connections", count(tree.connections), "here"))
                (figure("Watches", count(tree.watches), "here"))
            }
        }
        @if view.statuses.iter().any(|s| s.cache.is_some()) {
            h2 { "The cache" }
            (crate::cache::figures(view))
        }
        @if view.statuses.iter().any(|s| s.topics.as_ref().is_some_and(|t| t.topics > 0)) {
            h2 { "Topics" }
            (crate::topics::figures(view))
        }
        @if let Some(status) = first {
            h2 { "This node" }
            (table(
                &[("Cluster", false), ("Node", false), ("Version", false), ("Phase", false), ("Members", true), ("Reachable", true), ("Cores", true), ("Lanes", true)],
                &[vec![
                    crate::layout::code(&status.cluster),
                    crate::layout::code(&status.node),
                    plain(&status.version),
                    plain(&status.phase),
                    plain(count(status.members.len() as u64)),
                    plain(count(status.members.iter().filter(|m| m.reachable).count() as u64)),
                    plain(status.cores.to_string()),
                    plain(status.lanes.to_string()),
                ]],
                "",
            ))
        }
    }
}
