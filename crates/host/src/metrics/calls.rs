//! Calls between services, as reported to this node.

use super::Page;
use traffic::calls::{Counts, Row, Side};

/// Their families.
pub fn render(rows: &[Row]) -> String {
    let mut out = Page(String::new());
    let name = "althing_calls_total";
    out.family(
        name,
        "counter",
        "Attempts of calls between services, by who counted, and by how they ended.",
    );
    for row in rows {
        for (outcome, count) in row.total.outcomes() {
            let [side, service, method, instance, caller] = labels(row);
            let labels = [
                side,
                service,
                method,
                instance,
                caller,
                ("outcome", outcome),
            ];
            out.line(name, &labels, count);
        }
    }
    type Field = fn(&Counts) -> f64;
    let fields: [(&str, &str, Field); 2] = [
        (
            "althing_calls_repeated_total",
            "Of these, such that were not their call's first attempt.",
            |counts| counts.repeated as f64,
        ),
        (
            "althing_calls_answered_seconds_total",
            "What those that were answered took together.",
            |counts| counts.latency_sum_us as f64 / 1e6,
        ),
    ];
    for (name, help, field) in fields {
        out.family(name, "counter", help);
        for row in rows {
            out.line(name, &labels(row), field(&row.total));
        }
    }
    out.0
}

fn labels(row: &Row) -> [(&'static str, &str); 5] {
    let call = &row.call;
    let side = match call.side {
        Side::Caller => "caller",
        Side::Provider => "provider",
    };
    [
        ("side", side),
        ("service", &call.service),
        ("method", &call.method),
        ("instance", &call.instance),
        ("caller", &call.caller),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use traffic::calls::{Book, Key, Outcome};

    #[test]
    fn each_outcome_has_a_line() {
        let mut book = Book::new("r".into());
        let call = Key::new(Side::Caller, "greeter", "g.G/M", "10.0.0.1:1", "front");
        book.add(call, Outcome::Ok, 1_500_000, true, 0);
        let text = render(&book.report(0).rows);
        let labels = r#"side="caller",service="greeter",method="g.G/M",instance="10.0.0.1:1",caller="front""#;
        for line in [
            format!("althing_calls_total{{{labels},outcome=\"ok\"}} 1\n"),
            format!("althing_calls_total{{{labels},outcome=\"unknown\"}} 0\n"),
            format!("althing_calls_repeated_total{{{labels}}} 1\n"),
            format!("althing_calls_answered_seconds_total{{{labels}}} 1.5\n"),
        ] {
            assert!(text.contains(&line), "{line} is not in {text}");
        }
    }
}
