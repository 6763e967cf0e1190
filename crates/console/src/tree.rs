//! The tree, a node at a time, as an unauthenticated client would see it.

use crate::View;
use crate::layout::{plain, table};
use crate::text::{bytes, count, query_value};
use coordination::lock::Mode;
use coordination::lock::tree::{is_lock, queue, waits_for};
use maud::{Markup, html};
use node::admin::TreePage;

pub fn body(view: &View<'_>) -> Markup {
    html! {
        form action="/tree" method="get" {
            input type="text" name="path" value=(view.path) aria-label="path" spellcheck="false";
            button { "Show" }
        }
        (crumbs(view.path))
        @match view.tree {
            None => {}
            Some(Err(why)) => p.notice { strong { "Cannot show it: " } (why) },
            Some(Ok(node)) => (show(node)),
        }
    }
}

fn link(path: &str) -> String {
    format!("/tree?path={}", query_value(path))
}

fn child(parent: &str, name: &str) -> String {
    format!("{}/{name}", parent.trim_end_matches('/'))
}

fn crumbs(path: &str) -> Markup {
    let mut at = String::new();
    let steps: Vec<(String, &str)> = path
        .split('/')
        .filter(|name| !name.is_empty())
        .map(|name| {
            at = child(&at, name);
            (at.clone(), name)
        })
        .collect();
    html! {
        div.crumbs {
            a href=(link("/")) { "root" }
            @for (path, name) in &steps { span { "/" } a href=(link(path)) { (name) } }
        }
    }
}

fn show(node: &TreePage) -> Markup {
    let fields: Vec<Vec<Markup>> = node
        .stat
        .iter()
        .map(|(name, value)| vec![plain(name), html! { code { (value) } }])
        .collect();
    let acl: Vec<Vec<Markup>> = node
        .acl
        .iter()
        .map(|line| vec![html! { code { (line) } }])
        .collect();
    let shown = node.children.len() as u64;
    html! {
        @if is_lock(&node.children) {
            @if shown < node.children_count {
                p.notice { "This is a lock with more contenders than are shown." }
            } @else {
                h2 { "Lock · " (count(node.children_count)) }
                (contenders(node))
            }
        }
        div.columns {
            section {
                h2 {
                    "Children · " (count(node.children_count))
                    @if shown < node.children_count { " · the first " (count(shown)) }
                }
                @if node.children.is_empty() {
                    p.empty { "None." }
                } @else {
                    ul.children.card {
                        @for name in &node.children {
                            li { a href=(link(&child(&node.path, name))) { (name) } }
                        }
                    }
                }
            }
            section {
                h2 {
                    "Data · " (bytes(node.data_bytes))
                    @if node.data_is_hex { " · in hexadecimal" }
                }
                @if node.data.is_empty() {
                    p.empty { "None." }
                } @else {
                    pre.data.card { (node.data) }
                }
                h2 { "Metadata" }
                (table(&[("Field", false), ("Value", false)], &fields, "None."))
                h2 { "Access" }
                (table(&[("Who may do what", false)], &acl, "None."))
            }
        }
    }
}

/// Who holds the lock that this node is, and who waits for whom.
fn contenders(node: &TreePage) -> Markup {
    let places = queue(&node.children);
    let rows: Vec<Vec<Markup>> = (0..places.len())
        .map(|index| {
            let place = &places[index];
            let mode = match place.mode {
                Mode::Exclusive => "exclusive",
                Mode::Shared => "shared",
            };
            let state = match waits_for(&places, index) {
                None => html! { strong { "holds it" } },
                Some(before) => html! { "waits for " (before.number) },
            };
            let path = link(&child(&node.path, &place.name));
            vec![
                html! { (place.number) },
                plain(mode),
                state,
                html! { a href=(path) { (place.name) } },
            ]
        })
        .collect();
    let heads = [
        ("Place", true),
        ("Mode", false),
        ("State", false),
        ("Contender", false),
    ];
    table(&heads, &rows, "Nobody.")
}
