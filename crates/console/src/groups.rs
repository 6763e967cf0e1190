//! Groups of nodes that run protocols among equals, as this node's peers see them.

use crate::View;
use crate::layout::{code, plain, table};
use crate::text::count;
use maud::{Markup, html};
use node::admin::GroupStatus;

pub fn body(view: &View<'_>) -> Markup {
    let rows: Vec<Vec<Markup>> = (view.statuses.iter())
        .flat_map(|status| &status.groups)
        .map(row)
        .collect();
    let heads = [
        ("Group", false),
        ("Protocol", false),
        ("For", false),
        ("Members", false),
        ("Here", false),
        ("Waits for", false),
        ("Leader", false),
        ("Values", true),
    ];
    html! {
        h1 { "Groups" }
        p.dim {
            "Nodes that lock, elect or agree by a protocol of choice: the files that the laboratory simulates. "
            code { "althing group create NAME --protocol token-ring" } " makes one, "
            code { "althing group check NAME" } " checks what its members wrote down."
        }
        (table(&heads, &rows, "There are no groups."))
    }
}

fn row(group: &GroupStatus) -> Vec<Markup> {
    let here = match (group.me, group.role.as_str()) {
        (0, _) => "no member".to_owned(),
        (me, "") => format!("peer {me}"),
        (me, role) => format!("peer {me}: {role}"),
    };
    let peers: Vec<String> = group.waits_for.iter().map(ToString::to_string).collect();
    let leader = match (group.leader, group.term) {
        (None, _) => String::new(),
        (Some(leader), 0) => format!("peer {leader}"),
        (Some(leader), term) => format!("peer {leader} in term {term}"),
    };
    vec![
        code(&group.name),
        plain(&group.protocol),
        plain(&group.kind),
        html! {
            @for member in &group.members {
                @let name = match member.address.as_str() {
                    "" => "left",
                    address => address,
                };
                div { (member.peer) ": " (name) @if !member.reachable { " " span.pill.warn { "not heard" } } }
            }
        },
        html! {
            (here)
            @if group.waiters > 0 { div.dim { (count(group.waiters as u64)) " wait here" } }
            @if !group.fault.is_empty() { div { span.pill.warn { "silent" } " " (group.fault) } }
        },
        plain(peers.join(", ")),
        plain(leader),
        html! {
            @if group.decided > 0 { (count(group.decided)) }
        },
    ]
}
