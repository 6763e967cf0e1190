//! Keys of the cache, as this node's replica has them.

use crate::View;
use crate::layout::{plain, table};
use crate::text::{count, query_value, span_ms};
use maud::{Markup, html};
use node::admin::{KeyRow, KeysPage};

pub fn body(view: &View<'_>) -> Markup {
    let asked = view.keys.and_then(|keys| keys.as_ref().ok());
    let database = asked.map_or(0, |page| page.database).to_string();
    let prefix = asked.map_or("", |page| page.prefix.as_str());
    let shard = asked.map_or("", |page| page.shard.as_str());
    let pools = view.statuses.first().map_or(&[][..], |s| &s.pools);
    let pool = pools.iter().find(|pool| pool.holds_cache);
    let shards: Vec<&str> = pool
        .into_iter()
        .flat_map(|pool| pool.slots.iter().map(|(_, _, shard, _)| shard.as_str()))
        .collect();
    html! {
        form action="/keys" method="get" {
            input type="text" name="prefix" value=(prefix) placeholder="names begin with" aria-label="prefix" spellcheck="false";
            span.dim { "database" }
            input type="number" name="db" value=(database) min="0" max="15" aria-label="database";
            @if shards.len() > 1 {
                span.dim { "shard" }
                select name="shard" aria-label="shard" {
                    @for name in &shards { option value=(name) selected[*name == shard] { (name) } }
                }
            }
            button { "Show" }
        }
        @match view.keys {
            None => {}
            Some(Err(why)) => p.notice { strong { "Cannot show them: " } (why) },
            Some(Ok(page)) => (show(page)),
        }
    }
}

fn show(page: &KeysPage) -> Markup {
    let rows: Vec<Vec<Markup>> = page.keys.iter().map(row).collect();
    let none = if page.next == 0 {
        "No such key is here."
    } else {
        "None among the keys looked at so far."
    };
    html! {
        h2 { "Keys of " (page.shard) ", as they are on this node" }
        (table(
            &[("Key", false), ("Type", false), ("Time to live", true), ("Size", true), ("Value", false)],
            &rows,
            none,
        ))
        @if page.next != 0 {
            p {
                a href={
                    "/keys?db=" (page.database) "&shard=" (query_value(&page.shard))
                    "&prefix=" (query_value(&page.prefix)) "&cursor=" (page.next)
                } { "Go on" }
            }
        }
    }
}

fn row(row: &KeyRow) -> Vec<Markup> {
    vec![
        html! { code { (row.key) } },
        plain(&row.kind),
        match row.ttl_ms {
            Some(ms) => plain(span_ms(ms)),
            None => html! { span.dim { "–" } },
        },
        plain(count(row.size)),
        plain(&row.value),
    ]
}
