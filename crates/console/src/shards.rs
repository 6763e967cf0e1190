//! The replicas on this node.

use crate::View;
use crate::layout::{code, plain, table};
use crate::text::{bytes, count};
use maud::{Markup, html};
use node::admin::{PoolStatus, ShardStatus};

pub fn body(view: &View<'_>) -> Markup {
    let shards: Vec<(u16, &ShardStatus)> = view
        .statuses
        .iter()
        .flat_map(|status| status.shards.iter().map(|shard| (status.core, shard)))
        .collect();
    let rows: Vec<Vec<Markup>> = shards
        .iter()
        .map(|(core, shard)| row(*core, shard))
        .collect();
    html! {
        h1 { "Shards" }
        (table(
            &[
                ("Shard", false),
                ("Pool", false),
                ("Role here", false),
                ("Leader", false),
                ("Term", true),
                ("Applied", true),
                ("Committed", true),
                ("Last", true),
                ("Lag", true),
                ("Snapshot at", true),
                ("Log", true),
                ("Core", true),
            ],
            &rows,
            "No replica on this node yet.",
        ))
        @if let Some(status) = view.statuses.first().filter(|s| !s.pools.is_empty()) {
            h2 { "Pools" }
            (pools(&status.pools))
        }
        @for (_, shard) in &shards {
            h2 { "Replicas of " (shard.name) }
            @if !shard.fault.is_empty() { p.notice { strong.bad { "Silent: " } (shard.fault) } }
            (replicas(shard))
        }
    }
}

fn pools(pools: &[PoolStatus]) -> Markup {
    let mut rows: Vec<Vec<Markup>> = Vec::new();
    for pool in pools {
        for (i, (first, last, shard, leader)) in pool.slots.iter().enumerate() {
            let of_pool = |text: &str| html! { @if i == 0 { (text) } };
            rows.push(vec![
                html! {
                    @if i == 0 { strong { (pool.name) } @if pool.holds_cache { span.dim { " the cache's keys" } } }
                },
                of_pool(if pool.policy == "single" { "one copy" } else { "a majority" }),
                of_pool(&pool.durability),
                plain(format!("{first}–{last}")),
                plain(shard),
                code(leader),
            ]);
        }
    }
    table(
        &[
            ("Pool", false),
            ("Acknowledged by", false),
            ("On disk", false),
            ("Slots", true),
            ("Shard", false),
            ("Leader", false),
        ],
        &rows,
        "",
    )
}

fn row(core: u16, shard: &ShardStatus) -> Vec<Markup> {
    let leader = shard.role == "leader";
    let silent = shard.role == "silent";
    vec![
        html! { strong { (shard.name) } " " span.dim title="shard id" { (shard.shard.trim_start_matches('0')) } },
        plain(&shard.pool),
        html! {
            span.pill.good[leader].bad[silent].warn[shard.role == "candidate"] { (shard.role) }
            @if shard.hibernating { " " span.dim { "hibernating" } }
        },
        code(&shard.leader),
        plain(count(shard.term)),
        plain(count(shard.applied)),
        plain(count(shard.commit)),
        plain(count(shard.last)),
        html! { span.warn[shard.lag > 0] { (count(shard.lag)) } },
        plain(count(shard.snapshot)),
        plain(bytes(shard.log_bytes)),
        plain(core.to_string()),
    ]
}

fn replicas(shard: &ShardStatus) -> Markup {
    let leader = shard.role == "leader";
    let rows: Vec<Vec<Markup>> = shard
        .replicas
        .iter()
        .map(|(node, kind, matched)| {
            let behind = shard.last.saturating_sub(*matched);
            vec![
                html! { (code(node)) @if *node == shard.leader { span.dim { " leader" } } },
                plain(kind),
                if leader {
                    plain(count(*matched))
                } else {
                    html! { span.dim { "–" } }
                },
                if leader {
                    html! { span.warn[behind > 0] { (count(behind)) } }
                } else {
                    html! { span.dim { "the leader knows" } }
                },
            ]
        })
        .collect();
    table(
        &[
            ("Node", false),
            ("Kind", false),
            ("Log matches to", true),
            ("Behind by", true),
        ],
        &rows,
        "Its members are not known here.",
    )
}
