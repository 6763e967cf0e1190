//! The members of the cluster, as this node sees them.

use crate::View;
use crate::layout::{code, plain, table};
use crate::text::span_ms;
use maud::{Markup, html};

pub fn body(view: &View<'_>) -> Markup {
    let members = view.statuses.first().map_or(&[][..], |s| &s.members);
    let rows: Vec<Vec<Markup>> = members
        .iter()
        .map(|member| {
            let led: Vec<&str> = view
                .statuses
                .iter()
                .flat_map(|status| &status.shards)
                .filter(|shard| shard.leader == member.node)
                .map(|shard| shard.name.as_str())
                .collect();
            vec![
                html! { (code(&member.node)) @if member.this_node { span.dim { " this node" } } },
                code(&member.address),
                plain(&member.state),
                html! {
                    @if member.reachable { span.pill.good { "reachable" } }
                    @else { span.pill.bad { "silent" } }
                },
                plain(led.join(", ")),
                if member.this_node {
                    plain("–")
                } else {
                    plain(span_ms(member.silent_ms))
                },
                plain(format!("{:.1}", member.phi)),
                plain(format!("{:+} ms", member.clock_offset_ms)),
            ]
        })
        .collect();
    html! {
        h1 { "Members" }
        (table(
            &[
                ("Node", false),
                ("Address", false),
                ("State", false),
                ("Heard from", false),
                ("Leads", false),
                ("Silent for", true),
                ("Suspicion φ", true),
                ("Clock", true),
            ],
            &rows,
            "This node belongs to no cluster yet.",
        ))
        p.note { "To add a node: " code { "althing cluster join SEED --console ADDRESS" } " on a fresh one. To remove one: " code { "althing cluster leave NODE" } "." }
    }
}
