//! Calls between services: what callers counted, beside what providers did, and who calls whom.

use crate::View;
use crate::layout::{code, figure, plain, table};
use crate::text::count;
use maud::{Markup, html};
use std::collections::{BTreeMap, BTreeSet};
use traffic::calls::{Counts, MINUTE_US, Row, Side};

/// Rows of a table at most.
const ROWS_MAX: usize = 500;

#[derive(Default)]
struct Line {
    total: Counts,
    minute: Counts,
    served: u64,
}

pub fn body(view: &View<'_>) -> Markup {
    let Some(told) = view.calls else {
        return html! { h1 { "Calls" } p.empty { "This node was told of no calls." } };
    };
    let called = || told.rows.iter().filter(|row| row.call.side == Side::Caller);
    let mut minute = Counts::default();
    called().for_each(|row| minute.merge(&row.minute));
    let services: BTreeSet<&str> = told.rows.iter().map(|r| r.call.service.as_str()).collect();
    let callers: BTreeSet<&str> = called().map(|row| row.call.caller.as_str()).collect();

    let by_instance = lines(&told.rows, |row| {
        let call = &row.call;
        [&call.service, &call.method, &call.instance].map(String::as_str)
    });
    let by_caller = lines(&told.rows, |row| {
        let call = &row.call;
        [&call.caller, &call.service].map(String::as_str)
    });
    let instances: Vec<Vec<Markup>> = (by_instance.iter().take(ROWS_MAX))
        .map(|([service, method, instance], line)| {
            let mut row = vec![html! { strong { (service) } }, code(method), code(instance)];
            row.extend(figures(line));
            row.push(plain(count(line.served)));
            row
        })
        .collect();
    let pairs: Vec<Vec<Markup>> = (by_caller.iter().take(ROWS_MAX))
        .map(|([caller, service], line)| {
            let mut row = vec![
                html! { strong { (caller) } },
                html! { strong { (service) } },
            ];
            row.extend(figures(line));
            row
        })
        .collect();
    let figures = [
        ("Calls", true),
        ("Errors", true),
        ("Median", true),
        ("99 %", true),
        ("Calls in all", true),
        ("Errors", true),
        ("Repeated", true),
        ("Median", true),
        ("99 %", true),
    ];
    let mut heads = vec![("Service", false), ("Method", false), ("Instance", false)];
    heads.extend(figures);
    heads.push(("Served", true));
    let mut pair_heads = vec![("Caller", false), ("Service", false)];
    pair_heads.extend(figures);
    html! {
        h1 { "Calls" }
        @for missing in &told.missing {
            p.notice { strong { "Not all nodes are counted" } ": " (missing) }
        }
        div.figures {
            (figure("Calls", per_s(&minute), "in the last minute"))
            (figure("Errors", count(minute.errors()), "in the last minute"))
            (figure("Services", count(services.len() as u64), "that are called"))
            (figure("Callers", count(callers.len() as u64), "by name"))
            (figure("Nodes", count(told.nodes), "that were told of calls"))
        }
        h2 { "Services, methods, instances" @if by_instance.len() > ROWS_MAX { " · the first " (count(ROWS_MAX as u64)) } }
        (table(&heads, &instances, "Nothing was called."))
        h2 { "Who calls whom" @if by_caller.len() > ROWS_MAX { " · the first " (count(ROWS_MAX as u64)) } }
        (table(&pair_heads, &pairs, "Nothing was called."))
        p.dim {
            "Attempts as callers counted them: first of the last minute, then since each caller's start. "
            "“Served” is what instances say that they answered, those that report. "
            "Kept in memory at the nodes that were told, and added up when this page is made."
        }
    }
}

/// Rows with the same key added up.
fn lines<'a, const N: usize>(
    rows: &'a [Row],
    key: impl Fn(&'a Row) -> [&'a str; N],
) -> BTreeMap<[&'a str; N], Line> {
    let mut lines: BTreeMap<[&str; N], Line> = BTreeMap::new();
    for row in rows {
        let line = lines.entry(key(row)).or_default();
        match row.call.side {
            Side::Caller => {
                line.total.merge(&row.total);
                line.minute.merge(&row.minute);
            }
            Side::Provider => line.served += row.total.ok + row.total.failed,
        }
    }
    lines
}

fn figures(line: &Line) -> Vec<Markup> {
    let errors = |counts: &Counts| {
        let errors = counts.errors();
        html! { @if errors == 0 { "0" } @else { strong { (count(errors)) } } }
    };
    let (minute, total) = (&line.minute, &line.total);
    vec![
        plain(per_s(minute)),
        errors(minute),
        plain(ms(minute.quantile_us(0.5))),
        plain(ms(minute.quantile_us(0.99))),
        plain(count(total.all())),
        errors(total),
        plain(count(total.repeated)),
        plain(ms(total.quantile_us(0.5))),
        plain(ms(total.quantile_us(0.99))),
    ]
}

fn per_s(minute: &Counts) -> String {
    format!("{:.1}/s", minute.all() as f64 * 1e6 / MINUTE_US as f64)
}

fn ms(us: Option<u64>) -> String {
    us.map_or("–".into(), |us| {
        format!("< {:.2} ms", us as f64 / 1_000.0)
    })
}
