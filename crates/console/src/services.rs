//! Services: instances, what their checks say, and since when.

use crate::View;
use crate::layout::{code, figure, plain, table};
use crate::text::{count, span_ms};
use maud::{Markup, html};
use node::admin::InstanceRow;

pub fn body(view: &View<'_>) -> Markup {
    let Some(services) = view.statuses.iter().find_map(|s| s.services.as_ref()) else {
        return html! { h1 { "Services" } p.empty { "The services have no replica on this node." } };
    };
    let rows: Vec<Vec<Markup>> = services.list.iter().map(row).collect();
    html! {
        h1 { "Services" }
        div.figures {
            (figure("Services", count(services.services), "with an instance"))
            (figure("Instances", count(services.instances), "in the cluster"))
            (figure("Checks that pass", count(services.passing), "in the cluster"))
            (figure("that warn", count(services.warning), "in the cluster"))
            (figure("that are critical", count(services.critical), "not told over DNS"))
            (figure("Probes", count(services.probes), "run by this node"))
        }
        h2 {
            "Instances"
            @if services.instances > rows.len() as u64 { " · the first " (count(rows.len() as u64)) " of " (count(services.instances)) }
        }
        (table(
            &[
                ("Service", false), ("Id", false), ("Address", false), ("Tags", false), ("Status", false),
                ("Since", true), ("Last output", false), ("Checks", true), ("Checked by", false),
            ],
            &rows,
            "Nothing is registered.",
        ))
    }
}

fn row(row: &InstanceRow) -> Vec<Markup> {
    let has_checks = row.checks > 0;
    vec![
        plain(&row.service),
        code(&row.id),
        code(&row.address),
        plain(&row.tags),
        html! { @if row.status == "passing" { (row.status) } @else { strong { (row.status) } } },
        plain(if has_checks {
            span_ms(row.since_ms)
        } else {
            String::new()
        }),
        plain(&row.output),
        plain(count(row.checks)),
        code(&row.runner),
    ]
}
