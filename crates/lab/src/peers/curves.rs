//! Cumulative distributions of down-times as one picture: a panel a group of settings, a curve a setting.

use super::study::{Downtimes, LIMIT_US};
use std::fmt::Write as _;

const WIDTH: f64 = 760.0;
const LEFT: f64 = 46.0;
const RIGHT: f64 = 590.0;
const TALL: f64 = 200.0;
const PANEL: f64 = TALL + 64.0;
const LOW_US: f64 = 10_000.0;
const COLOURS: [&str; 6] = [
    "#57606a", "#b42318", "#bf8700", "#1a7f37", "#0969da", "#8250df",
];

fn x(us: f64) -> f64 {
    let share = (us.max(LOW_US) / LOW_US).ln() / (LIMIT_US as f64 / LOW_US).ln();
    LEFT + share.min(1.0) * (RIGHT - LEFT)
}

fn panel(out: &mut String, name: &str, curves: &[Downtimes], top: f64) {
    let bottom = top + TALL;
    // A string takes everything.
    let _ = write!(
        out,
        "<text x=\"{LEFT}\" y=\"{:.0}\" class=\"h\">Time without a leader, by the {name} of election time-outs</text>",
        top - 10.0
    );
    for (us, label) in [
        (10_000.0, "10 ms"),
        (100_000.0, "100 ms"),
        (1_000_000.0, "1 s"),
        (10_000_000.0, "10 s"),
    ] {
        let at = x(us);
        let _ = write!(
            out,
            "<line class=\"g\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{top}\" y2=\"{bottom}\"/><text x=\"{at:.1}\" y=\"{:.0}\" text-anchor=\"middle\">{label}</text>",
            bottom + 16.0
        );
    }
    for percent in [0, 25, 50, 75, 100] {
        let y = bottom - TALL * f64::from(percent) / 100.0;
        let _ = write!(
            out,
            "<line class=\"g\" x1=\"{LEFT}\" x2=\"{RIGHT}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/><text x=\"{:.0}\" y=\"{:.1}\" text-anchor=\"end\">{percent} %</text>",
            LEFT - 4.0,
            y + 4.0
        );
    }
    for (i, of) in curves.iter().enumerate() {
        let colour = COLOURS[i % COLOURS.len()];
        let ended: Vec<u64> = (of.sorted_us.iter().copied())
            .filter(|us| *us < LIMIT_US)
            .collect();
        let all = of.sorted_us.len().max(1) as f64;
        // Two hundred points are as smooth as a screen.
        let step = (ended.len() / 200).max(1);
        let mut points = String::new();
        for (rank, us) in ended.iter().enumerate().step_by(step) {
            let y = bottom - TALL * (rank + 1) as f64 / all;
            let _ = write!(points, "{:.1},{y:.1} ", x(*us as f64));
        }
        let _ = write!(
            out,
            "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" points=\"{points}\"/><rect x=\"{:.0}\" y=\"{:.0}\" width=\"12\" height=\"12\" fill=\"{colour}\"/><text x=\"{:.0}\" y=\"{:.0}\">{}{}</text>",
            RIGHT + 14.0,
            top + 22.0 * i as f64,
            RIGHT + 32.0,
            top + 22.0 * i as f64 + 11.0,
            of.setting.told(),
            match ended.is_empty() {
                true => ": never",
                false => "",
            }
        );
    }
}

/// The picture.
pub fn picture(panels: &[(&str, &[Downtimes])]) -> String {
    let height = PANEL * panels.len() as f64 + 10.0;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" role=\"img\"><style>text{{font:12px sans-serif;fill:#1b1f24}}.h{{font-weight:bold}}.g{{stroke:#d0d7de}}</style><rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#fff\"/>"
    );
    for (i, (name, curves)) in panels.iter().enumerate() {
        panel(&mut out, name, curves, 30.0 + PANEL * i as f64);
    }
    out.push_str("</svg>\n");
    out
}
