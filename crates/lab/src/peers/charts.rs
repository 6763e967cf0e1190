//! A comparison as one HTML file that needs nothing else: the table, and for each figure how it is
//! distributed, a row an algorithm on one logarithmic scale.

use super::text::{Sum, is_count, quantile};
use std::fmt::Write as _;

const WIDTH: f64 = 760.0;
const LEFT: f64 = 170.0;
const ROW: f64 = 44.0;
const BINS: usize = 60;

/// What leads a page.
pub struct Heading<'a> {
    /// Peers.
    pub nodes: u64,
    /// Runs of each algorithm.
    pub seeds: u64,
    /// What went wrong.
    pub faults: &'a str,
    /// The same, for a terminal.
    pub table: &'a str,
    /// What makes the page again.
    pub command: &'a str,
}

const STYLE: &str = "body{font:14px/1.45 system-ui,sans-serif;margin:24px auto;max-width:960px;padding:0 16px;color:#1b1f24;background:#fff}\
 h1{font-size:20px;margin:0 0 4px}h2{font-size:15px;margin:26px 0 2px}pre{font:12px/1.5 ui-monospace,monospace;overflow:auto;background:#f6f8fa;padding:10px}\
 svg{width:100%;height:auto;display:block}text{font:12px system-ui,sans-serif;fill:#1b1f24}.s{fill:#57606a}.g{stroke:#d0d7de}.m{stroke:#1b1f24;stroke-width:2}code{background:#f6f8fa;padding:1px 4px}";
const COLOURS: [&str; 8] = [
    "#0969da", "#1a7f37", "#bf8700", "#8250df", "#b42318", "#0f766e", "#a0395f", "#57606a",
];

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

/// A figure as people read it.
fn show(name: &str, value: f64) -> String {
    match is_count(name) {
        true => format!("{value:.0}"),
        false if value >= 1_000_000.0 => format!("{:.1} s", value / 1_000_000.0),
        false => format!("{:.1} ms", value / 1_000.0),
    }
}

/// Where a value stands: zero at the left edge, the rest by its logarithm.
fn place(value: f64, low: f64, high: f64) -> f64 {
    if value < low {
        return LEFT;
    }
    let share = (value.ln() - low.ln()) / (high.ln() - low.ln()).max(1e-9);
    LEFT + 20.0 + share.min(1.0) * (WIDTH - LEFT - 40.0)
}

/// What is inside of a figure's chart, and how tall that is.
fn chart(name: &'static str, columns: &[Sum]) -> (String, f64) {
    let values = || columns.iter().filter_map(|c| c.figures.get(name)).flatten();
    let low = values().copied().filter(|v| *v > 0).min().unwrap_or(1) as f64;
    let high = (values().copied().max().unwrap_or(1) as f64).max(low * 1.01);
    let height = ROW * columns.len() as f64 + 26.0;
    let mut out = String::new();
    for step in 0..=4 {
        let value = (low.ln() + (high.ln() - low.ln()) * f64::from(step) / 4.0).exp();
        let x = place(value, low, high);
        let (bottom, label) = (height - 22.0, show(name, value));
        // A string takes everything.
        let _ = write!(
            out,
            "<line class=\"g\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"0\" y2=\"{bottom}\"/><text class=\"s\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{label}</text>",
            height - 6.0
        );
    }
    for (i, column) in columns.iter().enumerate() {
        let base = ROW * (i as f64 + 1.0) - 8.0;
        let mut sorted = column.figures.get(name).cloned().unwrap_or_default();
        sorted.sort_unstable();
        let _ = write!(
            out,
            "<text x=\"0\" y=\"{:.1}\">{}</text>",
            base - 12.0,
            escape(column.name)
        );
        if sorted.is_empty() {
            let _ = write!(out, "<text class=\"s\" x=\"{LEFT}\" y=\"{base}\">-</text>");
            continue;
        }
        let mut bins = [0_u32; BINS];
        let wide = (WIDTH - LEFT) / BINS as f64;
        for value in &sorted {
            let x = place(*value as f64, low, high) - LEFT;
            bins[((x / wide) as usize).min(BINS - 1)] += 1;
        }
        let most = f64::from(bins.iter().copied().max().unwrap_or(1));
        for (bin, count) in bins.iter().enumerate().filter(|(_, count)| **count > 0) {
            let tall = (f64::from(*count) / most * (ROW - 14.0)).max(1.0);
            let _ = write!(
                out,
                "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{tall:.1}\" fill=\"{}\" opacity=\".75\"/>",
                LEFT + bin as f64 * wide,
                base - tall,
                wide - 1.0,
                COLOURS[i % COLOURS.len()]
            );
        }
        let median = quantile(&sorted, 500);
        let x = place(median as f64, low, high);
        let told = format!(
            "median {}, 99 % {}, most {}, of {}",
            show(name, median as f64),
            show(name, quantile(&sorted, 990) as f64),
            show(name, quantile(&sorted, 1000) as f64),
            sorted.len()
        );
        let _ = write!(
            out,
            "<line class=\"m\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{:.1}\" y2=\"{:.1}\"><title>{told}</title></line><text class=\"s\" x=\"0\" y=\"{:.1}\">{}</text>",
            base - ROW + 12.0,
            base + 4.0,
            base + 2.0,
            show(name, median as f64)
        );
    }
    (out, height)
}

fn figures(columns: &[Sum]) -> Vec<&'static str> {
    let all = columns.iter().flat_map(|c| c.figures.keys().copied());
    let mut figures: Vec<&'static str> = all.collect();
    figures.sort_unstable();
    figures.dedup();
    figures
}

/// All charts of a comparison as one picture.
pub fn picture(columns: &[Sum]) -> String {
    const HEAD: f64 = 34.0;
    let mut body = String::new();
    let mut top = 0.0;
    for name in figures(columns) {
        let (chart, height) = chart(name, columns);
        let _ = write!(
            body,
            "<text x=\"8\" y=\"{:.0}\" font-weight=\"bold\">{name}</text><svg x=\"8\" y=\"{:.0}\" width=\"{WIDTH}\" height=\"{height}\" viewBox=\"0 0 {WIDTH} {height}\">{chart}</svg>",
            top + HEAD - 12.0,
            top + HEAD,
        );
        top += HEAD + height;
    }
    let wide = WIDTH + 16.0;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {wide} {top}\" width=\"{wide}\" height=\"{top}\" role=\"img\"><style>text{{font:12px sans-serif;fill:#1b1f24}}.s{{fill:#57606a}}.g{{stroke:#d0d7de}}.m{{stroke:#1b1f24;stroke-width:2}}</style><rect width=\"{wide}\" height=\"{top}\" fill=\"#fff\"/>{body}</svg>\n"
    )
}

/// The page of a comparison.
pub fn page(heading: &Heading<'_>, columns: &[Sum]) -> String {
    let names: Vec<&str> = columns.iter().map(|c| c.name).collect();
    let title = names.join(", ");
    let charts: String = figures(columns)
        .into_iter()
        .map(|name| {
            let (chart, height) = chart(name, columns);
            format!(
                "<h2>{name}</h2><svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\">{chart}</svg>"
            )
        })
        .collect();
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title><style>{STYLE}</style></head><body>\
         <h1>{title}</h1><p>{} nodes, {} seeds each, the same for all; faults: {}. Each row is a distribution over all runs, on one logarithmic scale; the line is the median.</p>\
         <p><code>{}</code></p><pre>{}</pre>{charts}</body></html>\n",
        heading.nodes,
        heading.seeds,
        escape(heading.faults),
        escape(heading.command),
        escape(heading.table)
    )
}
