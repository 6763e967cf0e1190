//! The golden signals, and where the node stands.

use crate::View;
use crate::layout::{figure, plain, table};
use crate::text::{bytes, count};
use maud::{Markup, PreEscaped, html};
use node::admin::Counters;

const SCRIPT: &str = include_str!("charts.js");

/// Title, unit, and the lines as (field of a sample, name).
type Chart = (
    &'static str,
    &'static str,
    &'static [(&'static str, &'static str)],
);

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
    ("Watch events", "rate", &[("notifications", "events sent")]),
];

pub fn body(view: &View<'_>) -> Markup {
    let sum = |field: fn(&Counters) -> u64| -> u64 {
        view.statuses.iter().map(|s| field(&s.counters)).sum()
    };
    let tree = view.statuses.iter().find_map(|s| s.tree.as_ref());
    let first = view.statuses.first();
    html! {
        p #stale .notice hidden { "The node does not answer; the charts show the last that it said." }
        div.charts {
            @for (title, unit, lines) in CHARTS {
                div.card.chart data-unit=(unit) data-lines=(names(lines)) {
                    h3 { (title) small {} }
                    svg role="img" aria-label=(title) {}
                    div.legend {
                        @for (_, name) in lines { span { i {} (name) " " b { "–" } } }
                    }
                }
            }
        }
        noscript { p.empty { "The charts need scripts; the figures below and " a href="/metrics" { "/metrics" } " do not." } }
        h2 { "Since the node started" }
        div.figures {
            (figure("Reads", count(sum(|c| c.reads)), ""))
            (figure("Writes", count(sum(|c| c.writes)), ""))
            (figure("Errors", count(sum(|c| c.errors)), "answers with a code"))
            (figure("Watch events", count(sum(|c| c.notifications)), ""))
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
        script { (PreEscaped(SCRIPT)) }
    }
}

fn names(lines: &[(&str, &str)]) -> String {
    let fields: Vec<&str> = lines.iter().map(|(field, _)| *field).collect();
    fields.join(" ")
}
