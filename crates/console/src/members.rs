//! The members of the cluster, as this node sees them.

use crate::View;
use crate::layout::{code, plain, table};
use crate::text::span_ms;
use maud::{Markup, html};

/// Why a member is shown as bad.
fn verdict(member: &node::admin::MemberStatus) -> &'static str {
    match member.verdict.as_str() {
        "unreachable" => "unreachable",
        _ => "silent",
    }
}

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
                    @if member.verdict == "unreachable" || !member.reachable { span.pill.bad { (verdict(member)) } }
                    @else if member.verdict == "suspected" { span.pill.warn { "suspected" } }
                    @else { span.pill.good { "reachable" } }
                },
                plain(led.join(", ")),
                if member.this_node {
                    plain("–")
                } else {
                    plain(span_ms(member.silent_ms))
                },
                plain(format!("{:.1}", member.phi)),
                plain(format!("{:+} ms", member.clock_offset_ms)),
                plain(span_ms(member.since_ms)),
                html! {
                    @for monitor in &member.monitors {
                        div { (code(monitor.node.get(..6).unwrap_or(&monitor.node))) " "
                            @if monitor.heard { (format!("φ {:.1}", monitor.phi)) }
                            @else { span.dim { "not heard" } }
                        }
                    }
                },
                html! {
                    @for (name, value) in &member.facts { div { span.dim { (name) } " " (value) } }
                },
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
                ("So for", true),
                ("Watched by", false),
                ("Says of itself", false),
            ],
            &rows,
            "This node belongs to no cluster yet.",
        ))
        @for follows in view.statuses.iter().filter_map(|status| status.follows.as_ref()) {
            h2 { @if follows.promoted { "Followed until promoted" } @else { "Follows" } " cluster " (code(&follows.cluster)) }
            (table(
                &[("Shard", false), ("At", true), ("Entries behind", true), ("Primary heard", true)],
                &follows.shards.iter().map(|row| vec![
                    plain(&row.shard),
                    plain(row.index.to_string()),
                    plain(row.commit.saturating_sub(row.index).to_string()),
                    plain(span_ms(row.silent_ms)),
                ]).collect::<Vec<_>>(),
                "Nothing yet.",
            ))
        }
        p.note { "A member is unreachable when more of its monitors that are heard of suspect it (φ of 8 and more) than do not. That decides nothing: leaders are elected, and only the meta shard admits and removes members." }
        p.note { "To add a node: " code { "althing cluster join SEED --console ADDRESS" } " on a fresh one. To remove one: " code { "althing cluster leave NODE" } "." }
    }
}
