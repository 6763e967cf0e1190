//! What all pages share: head, navigation, and the style.

use crate::text::{bytes, span_ms};
use crate::{Page, View};
use maud::{DOCTYPE, Markup, PreEscaped, html};

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("charts.js");

/// A whole page around `body`.
pub fn page(page: Page, view: &View<'_>, body: &Markup) -> Markup {
    let first = view.statuses.first();
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                // The charts of the overview refresh themselves, and nobody's typing is to be lost.
                @if !matches!(page, Page::Tree | Page::Keys | Page::Topics | Page::Gateway | Page::Overview | Page::Lab) {
                    meta http-equiv="refresh" content="5";
                }
                link rel="icon" href="data:,";
                title { (page.title()) " · Althing" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                header {
                    a.brand href="/" { "Althing" }
                    @if let Some(status) = first {
                        span.node {
                            (phase(&status.phase, view.statuses.iter().all(|s| s.ready)))
                            span title="node id" { "node " code { (status.node) } }
                            span title="time since start" { "up " (span_ms(status.uptime_us / 1_000)) }
                            span title="version" { "v" (status.version) }
                        }
                    }
                }
                nav {
                    @for (about, pages) in Page::ALL {
                        section {
                            span.about { (about) }
                            @for other in *pages {
                                a href=(other.path()) aria-current=[(*other == page).then_some("page")] {
                                    (other.title())
                                }
                            }
                        }
                    }
                }
                main {
                    @for status in view.statuses {
                        @if !status.waiting_for.is_empty() {
                            p.notice { strong { (status.phase) } " " (status.waiting_for) }
                        }
                    }
                    (space(view))
                    (body)
                }
            }
        }
    }
}

/// What is to be said of disks that are nearly full.
fn space(view: &View<'_>) -> Markup {
    let refused = view.statuses.iter().any(|s| s.additions_refused);
    let low: Vec<String> = (view.statuses.first().into_iter())
        .flat_map(|status| (status.members.iter()).map(move |member| (status.disk, member)))
        .filter(|(_, member)| member.disk_low)
        .map(|(disk, member)| {
            let (free, all) = (bytes(disk.free_bytes), bytes(disk.total_bytes));
            match member.this_node {
                true => format!("this node ({free} of {all} free)"),
                false => member.address.clone(),
            }
        })
        .collect();
    html! {
        @if !low.is_empty() {
            p.notice {
                strong { "disk nearly full" } " at " (low.join(", ")) ": "
                @if refused { "writes that add data are refused; reads and deletes go on." }
                @else { "a majority has room, all writes are taken." }
            }
        }
    }
}

fn phase(phase: &str, ready: bool) -> Markup {
    html! { span.pill.good[ready].warn[!ready] { (phase) } }
}

/// Title, unit, and the lines as (field of a sample, name).
pub type Chart = (
    &'static str,
    &'static str,
    &'static [(&'static str, &'static str)],
);

/// Charts of the last five minutes, drawn by a script of ours.
pub fn charts(charts: &[Chart]) -> Markup {
    let fields = |lines: &[(&'static str, &str)]| -> String {
        let fields: Vec<&str> = lines.iter().map(|(field, _)| *field).collect();
        fields.join(" ")
    };
    html! {
        p #stale .notice hidden { "The node does not answer; the charts show the last that it said." }
        div.charts {
            @for (title, unit, lines) in charts {
                div.card.chart data-unit=(unit) data-lines=(fields(lines)) {
                    h3 { (title) small {} }
                    svg role="img" aria-label=(title) {}
                    div.legend {
                        @for (_, name) in *lines { span { i {} (name) " " b { "–" } } }
                    }
                }
            }
        }
        noscript { p.empty { "The charts need scripts; the figures below and " a href="/metrics" { "/metrics" } " do not." } }
        script { (PreEscaped(SCRIPT)) }
    }
}

/// A table that scrolls by itself when it is too wide, or `empty` in words.
pub fn table(heads: &[(&str, bool)], rows: &[Vec<Markup>], empty: &str) -> Markup {
    html! {
        @if rows.is_empty() {
            p.empty { (empty) }
        } @else {
            div.scroll {
                table {
                    thead { tr { @for (head, number) in heads { th.n[*number] { (head) } } } }
                    tbody {
                        @for row in rows {
                            tr {
                                @for (cell, (_, number)) in row.iter().zip(heads) {
                                    td.n[*number] { (cell) }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Plain text as markup.
pub fn plain(text: impl AsRef<str>) -> Markup {
    html! { (text.as_ref()) }
}

/// An identifier.
pub fn code(text: &str) -> Markup {
    html! { @if text.is_empty() { span.dim { "–" } } @else { code { (text) } } }
}

/// One figure with its name.
pub fn figure(name: &str, value: impl AsRef<str>, note: &str) -> Markup {
    html! {
        div.figure {
            span.name { (name) }
            span.value { (value.as_ref()) }
            @if !note.is_empty() { span.note { (note) } }
        }
    }
}
