//! Sessions and watches.

use crate::View;
use crate::layout::{code, figure, plain, table};
use crate::text::{count, span_ms};
use maud::{Markup, html};

pub fn body(view: &View<'_>) -> Markup {
    let Some(tree) = view.statuses.iter().find_map(|s| s.tree.as_ref()) else {
        return html! { h1 { "Sessions" } p.empty { "The tree has no replica on this node." } };
    };
    let rows: Vec<Vec<Markup>> = tree
        .session_list
        .iter()
        .map(|(id, timeout_ms, home, ephemerals)| {
            vec![
                code(id),
                plain(span_ms(u64::from(*timeout_ms))),
                code(home),
                plain(count(*ephemerals)),
            ]
        })
        .collect();
    html! {
        h1 { "Sessions" }
        div.figures {
            (figure("Sessions", count(tree.sessions), "in the cluster"))
            (figure("Connections", count(tree.connections), "to this node"))
            (figure("Watches", count(tree.watches), "on this node"))
            (figure("Ephemeral nodes", count(tree.ephemerals), "go with their sessions"))
            (figure("Requests under way", count(tree.outstanding), "on this node"))
        }
        h2 {
            "Sessions"
            @if tree.sessions > rows.len() as u64 { " · the first " (count(rows.len() as u64)) " of " (count(tree.sessions)) }
        }
        (table(
            &[("Session", false), ("Time-out", true), ("Home node", false), ("Ephemeral nodes", true)],
            &rows,
            "No client has a session.",
        ))
    }
}
