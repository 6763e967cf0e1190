//! Streams: what each one does, who works on it, and how far it has come.

use crate::View;
use crate::layout::{code, figure, plain, table};
use crate::text::{count, span_ms};
use computing::stream::record::Record;
use maud::{Markup, html};
use std::collections::BTreeMap;

/// A stream.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct StreamRow {
    /// Its name.
    pub name: String,
    /// What is wanted: `running`, `stopping`, `stopped`.
    pub state: String,
    /// True while somebody leads it.
    pub is_led: bool,
    /// What it is made of in a few words each, from the source to the sink.
    pub parts: Vec<String>,
    /// Workers that its topology asks for.
    pub wanted: u32,
    /// Where each of its workers is reached, and its process.
    pub workers: Vec<(String, u64)>,
    /// Its last checkpoint.
    pub record: Record,
    /// Where the source's partitions end, as far as this node knows.
    pub ends: BTreeMap<i32, i64>,
}

pub fn body(view: &View<'_>) -> Markup {
    html! {
        h1 { "Streams" }
        @match view.streams {
            None => {}
            Some(Err(why)) => p.empty { "There is nothing to show: " (why) "." },
            Some(Ok(streams)) if streams.is_empty() => p.empty {
                "There is none. A topology is run with " code { "althing stream run FILE" } "."
            },
            Some(Ok(streams)) => @for stream in streams { (show(stream)) },
        }
    }
}

fn show(stream: &StreamRow) -> Markup {
    let record = &stream.record;
    let mut behind = 0;
    let partitions: Vec<Vec<Markup>> = (stream.ends.iter())
        .map(|(partition, end)| {
            let position = record.positions.get(partition).copied();
            let position = position.unwrap_or_default();
            let lag = u64::try_from(end - position.offset).unwrap_or_default();
            behind += lag;
            vec![
                plain(partition.to_string()),
                plain(position.offset.to_string()),
                plain(end.to_string()),
                plain(count(lag)),
                plain(position.newest_ms.map_or("–".to_owned(), base::time::utc)),
            ]
        })
        .collect();
    let workers: Vec<Vec<Markup>> = (stream.workers.iter())
        .map(|(address, pid)| vec![code(address), plain(pid.to_string())])
        .collect();
    let newest_ms = (record.positions.values())
        .filter_map(|position| position.newest_ms)
        .max();
    let (behind_newest, watermark) = match (record.watermark_ms, newest_ms) {
        (Some(at), Some(newest)) => {
            let span = u64::try_from(newest - at).unwrap_or_default();
            (
                span_ms(span),
                format!("behind the newest event, at {}", base::time::utc(at)),
            )
        }
        _ => ("–".to_owned(), "none yet".to_owned()),
    };
    let leads = match stream.is_led {
        true => "a master leads",
        false => "nobody leads",
    };
    let (workers_of, epoch, aside) = (
        format!("of {} · {leads}", stream.wanted),
        format!("epoch {}", record.epoch),
        format!(
            "{} late, {} unreadable",
            count(record.late),
            count(record.unreadable)
        ),
    );
    html! {
        h2 {
            (stream.name) " "
            span.pill.good[stream.state == "running"].warn[stream.state != "running"] { (stream.state) }
        }
        (picture(&stream.parts))
        div.figures {
            (figure("Workers", count(stream.workers.len() as u64), &workers_of))
            (figure("Checkpoint", count(record.checkpoint), &epoch))
            (figure("Read", count(record.read), &aside))
            (figure("Lag", count(behind), "records behind the last checkpoint"))
            (figure("Watermark", behind_newest, &watermark))
        }
        (table(
            &[("Partition", true), ("Read to", true), ("End", true), ("Lag", true), ("Newest event", false)],
            &partitions,
            "This node does not know the source's partitions.",
        ))
        (table(&[("Worker", false), ("Process", true)], &workers, "There are no workers."))
    }
}

/// What it is made of, in a row.
fn picture(parts: &[String]) -> Markup {
    const HEIGHT: usize = 34;
    const GAP: usize = 26;
    let mut width = 1;
    let boxes: Vec<(usize, usize, &String)> = (parts.iter())
        .map(|words| {
            let (from, wide) = (width, words.chars().count() * 8 + 20);
            width += wide + GAP;
            (from, wide, words)
        })
        .collect();
    html! {
        div.scroll {
            svg role="img" aria-label="operators" width=(width) height=(HEIGHT + 14) {
                @for (number, (from, wide, words)) in boxes.iter().enumerate() {
                    @if number > 0 {
                        path d=(format!("M{} {} h{} m-6 -4 l6 4 l-6 4", from - GAP + 2, 7 + HEIGHT / 2, GAP - 4)) fill="none" stroke="currentColor" {}
                    }
                    rect x=(from) y="7" width=(wide) height=(HEIGHT) rx="6" fill="none" stroke="currentColor" {}
                    text x=(from + wide / 2) y=(12 + HEIGHT / 2) text-anchor="middle" fill="currentColor" font-size="13" { (words) }
                }
            }
        }
    }
}
