//! Global transactions: those under way, those parked and why, and the last that ended.

use crate::View;
use crate::layout::{code, figure, plain, table};
use crate::text::{count, span_ms};
use maud::{Markup, html};
use node::admin::{GlobalRow, GlobalsStatus};

pub fn body(view: &View<'_>) -> Markup {
    let globals = view.statuses.iter().find_map(|s| s.globals.as_ref());
    html! {
        h1 { "Global transactions" }
        @match globals {
            Some(globals) => (found(globals)),
            None => p.dim {
                "None was begun yet, or this node does not hold them. Services begin them at DTM's port; see "
                code { "althing global --help" } "."
            },
        }
    }
}

fn found(globals: &GlobalsStatus) -> Markup {
    let (parked, busy): (Vec<_>, Vec<_>) =
        globals.list.iter().partition(|row| !row.parked.is_empty());
    let parked: Vec<Vec<Markup>> = parked.into_iter().map(|r| row(r, &r.parked)).collect();
    let busy: Vec<Vec<Markup>> = busy.into_iter().map(|r| row(r, &r.words)).collect();
    let last: Vec<Vec<Markup>> = globals.last.iter().map(|r| row(r, &r.words)).collect();
    let columns = |since, words| {
        [
            ("Gid", false),
            ("Type", false),
            ("State", false),
            (since, true),
            (words, false),
        ]
    };
    html! {
        div.figures {
            (figure("Under way", count(globals.under_way), &format!("{} calls wanted now", count(globals.wanted))))
            (figure("Parked", count(globals.parked), "wait for a person"))
            (figure("Succeeded", count(globals.succeeded), &format!("of {} begun", count(globals.begun))))
            (figure("Failed", count(globals.failed), "undone everywhere"))
            (figure("Calls", count(globals.called), "of services, answered or given up"))
        }
        h2 { "Parked" }
        @if !parked.is_empty() {
            p { "Nothing is done about them until somebody says so: " code { "althing global retry GID" } " or " code { "althing global stop GID" } "." }
        }
        (table(&columns("Since", "Why"), &parked, "None."))
        h2 { "Under way" }
        (table(&columns("Since", "Now"), &busy, "None."))
        h2 { "Ended" }
        (table(&columns("Ago", "Why"), &last, "None."))
    }
}

fn row(row: &GlobalRow, words: &str) -> Vec<Markup> {
    vec![
        code(&row.gid),
        plain(&row.kind),
        plain(&row.status),
        plain(span_ms(row.since_ms)),
        plain(words),
    ]
}
