//! A pipeline's picture: in a line of text, and as SVG with what each stage did with its time.

use super::stage::Told;
use super::{Does, Ready};
use std::fmt::Write as _;

impl Does {
    fn words(&self) -> String {
        match self {
            Self::Command(_) => "command".to_owned(),
            Self::Map(_) => "map".to_owned(),
            Self::Shuffle { size, .. } => format!("shuffle {size}"),
            Self::Batch { size, .. } => format!("batch {size}"),
        }
    }
}

/// The stages in a line.
pub fn line(stages: &[Ready]) -> String {
    let each = stages
        .iter()
        .map(|stage| format!("{} ({})", stage.name, stage.does.words()));
    each.collect::<Vec<_>>().join(" ─▶ ")
}

const WIDTH: usize = 150;
const GAP: usize = 50;
const BAR: f64 = 130.0;

/// The stages as boxes, with a bar each: busy, starved, blocked.
pub fn svg(stages: &[Ready], told: &[Told], took_s: f64) -> String {
    let width = 20 + stages.len() * (WIDTH + GAP);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"170\" font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n"
    );
    for (at, (stage, told)) in stages.iter().zip(told).enumerate() {
        let x = 20 + at * (WIDTH + GAP);
        let middle = x + WIDTH / 2;
        let _ = writeln!(
            out,
            "<rect x=\"{x}\" y=\"20\" width=\"{WIDTH}\" height=\"90\" rx=\"6\" fill=\"#f4f6fa\" stroke=\"#456\"/>\n\
             <text x=\"{middle}\" y=\"42\" text-anchor=\"middle\" font-weight=\"bold\">{}</text>\n\
             <text x=\"{middle}\" y=\"60\" text-anchor=\"middle\">{}</text>\n\
             <text x=\"{middle}\" y=\"78\" text-anchor=\"middle\" fill=\"#567\">{} in, {} out</text>",
            escape(&stage.name),
            escape(&stage.does.words()),
            told.taken,
            told.given,
        );
        let mut from = x as f64 + 10.0;
        let parts = [
            (told.busy_s, "#2a7"),
            (told.starved_s, "#bcd"),
            (told.blocked_s, "#d86"),
        ];
        for (seconds, color) in parts {
            let long = BAR * (seconds / took_s.max(1e-9)).clamp(0.0, 1.0);
            let _ = writeln!(
                out,
                "<rect x=\"{from:.1}\" y=\"90\" width=\"{long:.1}\" height=\"10\" fill=\"{color}\"/>"
            );
            from += long;
        }
        if at + 1 < stages.len() {
            let (begin, end) = (x + WIDTH, x + WIDTH + GAP);
            let _ = writeln!(
                out,
                "<path d=\"M{begin} 65 H{} l-8 -5 m8 5 l-8 5\" fill=\"none\" stroke=\"#456\"/>\n\
                 <text x=\"{}\" y=\"56\" text-anchor=\"middle\" fill=\"#567\">{}</text>",
                end - 2,
                begin + GAP / 2,
                stage.prefetch
            );
        }
    }
    let _ = writeln!(
        out,
        "<text x=\"20\" y=\"145\" fill=\"#567\">green: at work; blue: waits for input; red: waits for room behind; {took_s:.2} s in all</text>\n</svg>"
    );
    out
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}
