//! `stream status`.

use super::{Where, paths};
use crate::{kafka, table};
use computing::stream::record::Record;
use computing::stream::topology::Topology;
use serde_json::{Value, json};

/// Prints how a stream fares.
pub fn status(place: &Where, as_json: bool) -> Result<(), String> {
    let mut tree = place.tree();
    let name = &place.name;
    let text = |found: Option<(bytes::Bytes, _)>| {
        found.map(|(data, _): (_, coordination::Stat)| String::from_utf8_lossy(&data).into_owned())
    };
    let file = text(tree.get(&paths::stream(name))?);
    let topology = Topology::parse(&file.ok_or_else(|| format!("there is no stream {name:?}"))?)?;
    let state = text(tree.get(&paths::state(name))?).unwrap_or_default();
    let leads = tree.get(&paths::master(name))?.is_some();
    let record = text(tree.get(&paths::checkpoint(name))?).unwrap_or_default();
    let record: Record = serde_json::from_str(&record).map_err(|e| e.to_string())?;
    let mut workers = Vec::new();
    for worker in tree.children(&paths::workers(name))? {
        if let Some(data) = text(tree.get(&paths::worker(name, &worker))?) {
            let mut data: Value = serde_json::from_str(&data).unwrap_or_default();
            data["name"] = worker.into();
            workers.push(data);
        }
    }
    tree.close();
    let topic = &topology.source.topic;
    let mut partitions = Vec::new();
    for partition in kafka::partitions(&place.kafka, topic)
        .map_err(|e| e.to_string())?
        .into_keys()
    {
        let end = kafka::leader(&place.kafka, topic, partition)
            .and_then(|mut broker| broker.offset(topic, partition, true));
        let end = end.map_err(|e| e.to_string())?;
        let position = record.positions.get(&partition).copied();
        let offset = position.unwrap_or_default().offset;
        partitions.push(json!({
            "partition": partition,
            "offset": offset,
            "end": end,
            "lag": (end - offset).max(0),
            "newest_ms": position.and_then(|position| position.newest_ms),
        }));
    }
    if as_json {
        let all = json!({
            "name": name,
            "state": state,
            "leads": leads,
            "operators": topology.words(),
            "workers": workers,
            "partitions": partitions,
            "record": record,
        });
        println!("{all:#}");
        return Ok(());
    }
    let master = if leads {
        "a master leads"
    } else {
        "nobody leads"
    };
    println!(
        "{name}: {state}, {master}, {} of {} workers",
        workers.len(),
        topology.workers
    );
    let sink = &topology.sink.topic;
    let steps = [topic.clone()].into_iter().chain(topology.words());
    let steps: Vec<String> = steps.chain([sink.clone()]).collect();
    println!("{}", steps.join(" ─▶ "));
    let watermark = record.watermark_ms.map_or("-".to_owned(), base::time::utc);
    println!(
        "checkpoint {} (epoch {}): {} read, {} late, {} unreadable; watermark {watermark}",
        record.checkpoint, record.epoch, record.read, record.late, record.unreadable
    );
    let rows: Vec<Vec<String>> = (partitions.iter())
        .map(|p| {
            let number = |key: &str| p[key].to_string();
            vec![
                number("partition"),
                number("offset"),
                number("end"),
                number("lag"),
            ]
        })
        .collect();
    print!(
        "{}",
        table::render(&["PARTITION", "OFFSET", "END", "LAG"], &rows)
    );
    Ok(())
}
