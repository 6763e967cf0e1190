//! What the console shows of streams: read from the tree, as anybody may, and from the node's topics.

use crate::http::{Shared, read_topics, read_tree};
use computing::stream::topology::Topology;
use console::StreamRow;
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// Streams that are shown at most, and workers of each: each is a read or several.
const ROWS_MAX: usize = 50;

const DIRECTORY: &str = "/streams";

/// All of them.
///
/// # Errors
///
/// None was ever run, or the tree cannot be read here now.
pub async fn streams(app: &Shared, from: SocketAddr) -> Result<Vec<StreamRow>, String> {
    let names = read_tree(app, DIRECTORY, from).await?.children;
    let mut all = Vec::new();
    for name in names.into_iter().take(ROWS_MAX) {
        all.extend(stream(app, from, name).await);
    }
    Ok(all)
}

/// One, unless it is being made or forgotten.
async fn stream(app: &Shared, from: SocketAddr, name: String) -> Option<StreamRow> {
    let data = async |part: &str| {
        let path = format!("{DIRECTORY}/{name}{part}");
        read_tree(app, &path, from).await.map(|page| page.data)
    };
    let topology = Topology::parse(&data("").await.ok()?).ok()?;
    let record = serde_json::from_str(&data("/checkpoint").await.ok()?).ok()?;
    let names = read_tree(app, &format!("{DIRECTORY}/{name}/workers"), from).await;
    let mut workers = Vec::new();
    for worker in names.ok()?.children.iter().take(ROWS_MAX) {
        let told = data(&format!("/workers/{worker}")).await.ok();
        let told: Option<serde_json::Value> =
            told.and_then(|text| serde_json::from_str(&text).ok());
        if let Some(told) = told
            && let Some(address) = told["address"].as_str()
        {
            let pid = told["pid"].as_u64().unwrap_or_default();
            workers.push((address.to_owned(), pid));
        }
    }
    let source = &topology.source.topic;
    let topics = read_topics(app, source.clone()).await;
    let ends: BTreeMap<i32, i64> = (topics.ok().into_iter())
        .flat_map(|page| page.topics)
        .filter(|topic| topic.name == *source)
        .flat_map(|topic| topic.partitions)
        .filter_map(|partition| Some((i32::try_from(partition.index).ok()?, partition.end)))
        .collect();
    let mut parts = topology.words();
    parts.insert(0, format!("topic {source}"));
    parts.push(format!("topic {}", topology.sink.topic));
    Some(StreamRow {
        state: data("/state").await.unwrap_or_default(),
        is_led: data("/master").await.is_ok(),
        parts,
        wanted: topology.workers,
        workers,
        record,
        ends,
        name,
    })
}
