//! Topics and consumer groups, as this node's replicas have them.

use crate::View;
use crate::layout::{code, figure, plain, table};
use crate::text::{bytes, count};
use maud::{Markup, html};
use node::admin::{GroupRow, TopicRow, TopicsPage, TopicsStatus};

pub fn body(view: &View<'_>) -> Markup {
    let asked = view.topics.and_then(|page| page.as_ref().ok());
    let prefix = asked.map_or("", |page| page.prefix.as_str());
    html! {
        form action="/topics" method="get" {
            input type="text" name="prefix" value=(prefix) placeholder="names begin with" aria-label="prefix" spellcheck="false";
            button { "Show" }
        }
        (figures(view))
        @match view.topics {
            None => {}
            Some(Err(why)) => p.notice { strong { "Cannot show them: " } (why) },
            Some(Ok(page)) => (show(page)),
        }
    }
}

pub fn figures(view: &View<'_>) -> Markup {
    let all = || view.statuses.iter().filter_map(|s| s.topics.as_ref());
    let sum = |field: fn(&TopicsStatus) -> u64| -> u64 { all().map(field).sum() };
    html! {
        div.figures {
            (figure("Topics", count(sum(|t| t.topics)), "in the cluster"))
            (figure("Partitions", count(sum(|t| t.partitions)), "here"))
            (figure("Records", bytes(sum(|t| t.bytes)), "here, in memory"))
            (figure("Groups", count(sum(|t| t.groups)), &format!("members: {}", count(sum(|t| t.members)))))
            (figure("Clients", count(sum(|t| t.clients)), "connections here"))
        }
    }
}

fn show(page: &TopicsPage) -> Markup {
    let topics: Vec<Vec<Markup>> = page.topics.iter().flat_map(partitions).collect();
    html! {
        h2 { "Topics" }
        (table(
            &[
                ("Topic", false), ("Partition", true), ("Leader", false), ("Shard", false), ("Begins at", true),
                ("Ends at", true), ("Size", true), ("Producers", true), ("Configured", false),
            ],
            &topics,
            "There is no such topic. Kafka's clients make them: see the README.",
        ))
        (more(page.topic_count, page.topics.len(), "topics"))
        h2 { "Consumer groups" }
        @if page.groups.is_empty() {
            p.empty { "No such group has joined or committed anything." }
        }
        @for group in &page.groups { (show_group(group)) }
        (more(page.group_count, page.groups.len(), "groups"))
    }
}

fn more(there: u64, shown: usize, what: &str) -> Markup {
    let left = there.saturating_sub(shown as u64);
    html! { @if left > 0 { p.dim { "and " (count(left)) " more " (what) "; say what their names begin with" } } }
}

fn partitions(topic: &TopicRow) -> Vec<Vec<Markup>> {
    let config: Vec<String> = (topic.config.iter())
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    let row = |(place, p): (usize, &node::admin::PartitionRow)| {
        vec![
            html! { @if place == 0 { code { (topic.name) } } },
            plain(p.index.to_string()),
            code(&p.leader),
            plain(&p.shard),
            plain(p.start.to_string()),
            plain(p.end.to_string()),
            plain(bytes(p.bytes)),
            plain(count(p.producers)),
            html! { @if place == 0 { (config.join(", ")) } },
        ]
    };
    let mut rows: Vec<Vec<Markup>> = topic.partitions.iter().enumerate().map(row).collect();
    let left = topic.partition_count.saturating_sub(rows.len() as u64);
    if left > 0 {
        let note = html! { span.dim { (count(left)) " not shown: they are on other nodes, not open yet, or too many" } };
        let name = html! { @if rows.is_empty() { code { (topic.name) } } };
        rows.push(vec![name, plain(""), note]);
    }
    rows
}

fn show_group(group: &GroupRow) -> Markup {
    let positions: Vec<Vec<Markup>> = (group.positions.iter())
        .map(|p| {
            vec![
                html! { code { (p.topic) } },
                plain(p.index.to_string()),
                plain(p.offset.to_string()),
                match p.end {
                    Some(end) => plain(end.to_string()),
                    None => html! { span.dim { "–" } },
                },
                plain(count(p.lag)),
            ]
        })
        .collect();
    let members: Vec<Vec<Markup>> = (group.members.iter())
        .map(|m| {
            vec![
                html! { code { (m.id) } @if m.leads { " " span.dim { "shares out" } } },
                plain(&m.instance),
                plain(&m.client),
                plain(m.host.trim_start_matches('/')),
            ]
        })
        .collect();
    html! {
        h3 { code { (group.name) } }
        p {
            span.pill.good[group.state == "Stable"] { (group.state) }
            " generation " (group.generation)
            @if !group.protocol.is_empty() { ", " (group.protocol) }
            ", " (count(group.lag)) " records behind"
            ", coordinated by " (code(&group.coordinator))
        }
        (table(
            &[("Topic", false), ("Partition", true), ("Committed", true), ("Ends at", true), ("Behind", true)],
            &positions,
            "Nothing is committed.",
        ))
        @if !members.is_empty() {
            p.dim { "Members" }
            (table(
                &[("Member", false), ("Static name", false), ("Client", false), ("Host", false)],
                &members,
                "",
            ))
            (more(group.member_count, members.len(), "members"))
        }
    }
}
