//! The cache on this node.

use crate::View;
use crate::layout::{Chart, charts, figure, plain, table};
use crate::text::{bytes, count};
use maud::{Markup, html};
use node::admin::{CacheStatus, PoolStatus};
use std::collections::BTreeMap;

const CHARTS: [Chart; 2] = [
    (
        "Commands",
        "rate",
        &[("cache_commands", "of Redis clients")],
    ),
    (
        "Latency",
        "us",
        &[("p50_us", "median"), ("p99_us", "99th percentile")],
    ),
];

pub fn body(view: &View<'_>) -> Markup {
    let Some(status) = view.statuses.iter().find(|s| s.cache.is_some()) else {
        return html! { h1 { "Cache" } p.empty { "There is no cache before the cluster is formed." } };
    };
    let pool = status.pools.iter().find(|pool| pool.holds_cache);
    let mut databases: BTreeMap<u32, (u64, u64)> = BTreeMap::new();
    for (number, keys, ending) in caches(view).flat_map(|cache| &cache.databases) {
        let sum = databases.entry(*number).or_default();
        *sum = (sum.0 + keys, sum.1 + ending);
    }
    let rows: Vec<Vec<Markup>> = (databases.iter())
        .map(|(number, (keys, ending))| {
            vec![
                html! { a href={ "/keys?db=" (number) } { "db" (number) } },
                plain(count(*keys)),
                plain(count(*ending)),
            ]
        })
        .collect();
    html! {
        h1 { "Cache" }
        (charts(&CHARTS))
        h2 { "On this node" }
        (figures(view))
        @if let Some(pool) = pool {
            h2 { "Durability" }
            p { "Keys are of pool " strong { (pool.name) } ": " (promise(pool)) }
        }
        h2 { "Databases" }
        (table(&[("Database", false), ("Keys", true), ("With a time to live", true)], &rows, "No key is here."))
    }
}

fn caches<'a>(view: &View<'a>) -> impl Iterator<Item = &'a CacheStatus> + use<'a> {
    view.statuses.iter().filter_map(|s| s.cache.as_ref())
}

pub fn figures(view: &View<'_>) -> Markup {
    let sum = |field: fn(&CacheStatus) -> u64| -> u64 { caches(view).map(field).sum() };
    html! {
        div.figures {
            (figure("Keys", count(sum(|c| c.keys)), &format!("{} end some time", count(sum(|c| c.ending)))))
            (figure("Memory", bytes(sum(|c| c.memory_bytes)), "keys and values, an estimate"))
            (figure("Clients", count(sum(|c| c.clients)), &format!("{} since the start", count(sum(|c| c.connections)))))
            (figure("Blocked", count(sum(|c| c.blocked)), "clients that wait for a key"))
            (figure("Subscriptions", count(sum(|c| c.subscriptions)), "channels and patterns"))
            (figure("Commands", count(sum(|c| c.commands)), "since the start"))
        }
    }
}

/// What an answer is worth, and what it is not.
fn promise(pool: &PoolStatus) -> &'static str {
    match (pool.policy.as_str(), pool.durability.as_str()) {
        ("single", "always") => {
            "one copy, on disk before the answer. A crash loses nothing; while its node is away nothing is served, and \
             if its disk is lost, so are the keys."
        }
        ("single", "everysec") => {
            "one copy, on disk within a second after the answer. A crash loses at most that second; while its node is \
             away nothing is served, and if its disk is lost, so are the keys."
        }
        ("single", _) => {
            "one copy, on disk some seconds after the answer. A crash loses what was not written yet; while its node \
             is away nothing is served, and if its disk is lost, so are the keys."
        }
        _ => {
            "on the disks of a majority before the answer. Nothing answered is lost while a majority of the copies is left."
        }
    }
}
