//! What the console shows of actors of names: read from the tree, as anybody may.

use crate::http::{Shared, read_tree};
use console::{ActorRow, Actors};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// Actors that are shown at most: each is two reads.
const ROWS_MAX: usize = 200;

const DIRECTORY: &str = "/althing/actors";

#[derive(Deserialize)]
struct Wanted {
    kind: String,
}

#[derive(Deserialize)]
struct Owner {
    host: String,
    address: String,
}

#[derive(Deserialize)]
struct Host {
    address: String,
    kinds: Vec<String>,
    actors: BTreeMap<String, Told>,
}

#[derive(Deserialize)]
struct Told {
    generation: i64,
    mailbox: u64,
    restarts: u64,
    handled: u64,
}

/// What can be read there now, and the revision that made it; `None` where it is no such JSON, or is not there any more.
async fn read<T: DeserializeOwned>(app: &Shared, path: &str, from: SocketAddr) -> Option<(T, i64)> {
    let page = read_tree(app, path, from).await.ok()?;
    let revision = page.stat.iter().find(|(field, _)| field == "czxid")?;
    let revision = i64::from_str_radix(revision.1.trim_start_matches("0x"), 16).ok()?;
    Some((serde_json::from_str(&page.data).ok()?, revision))
}

/// All of them.
///
/// # Errors
///
/// None was ever wanted, or the tree cannot be read here now.
pub async fn actors(app: &Shared, from: SocketAddr) -> Result<Actors, String> {
    let wanted = read_tree(app, &format!("{DIRECTORY}/wanted"), from).await?;
    let mut actors = Actors {
        wanted: wanted.children_count,
        ..Actors::default()
    };
    let mut told = BTreeMap::new();
    if let Ok(hosts) = read_tree(app, &format!("{DIRECTORY}/hosts"), from).await {
        for id in hosts.children {
            let path = format!("{DIRECTORY}/hosts/{id}");
            if let Some((host, _)) = read::<Host>(app, &path, from).await {
                let kinds = host.kinds.join(", ");
                actors.hosts.push((host.address, kinds));
                told.insert(id, host.actors);
            }
        }
    }
    for name in wanted.children.into_iter().take(ROWS_MAX) {
        let path = format!("{DIRECTORY}/wanted/{name}");
        let Some((wanted, _)) = read::<Wanted>(app, &path, from).await else {
            continue;
        };
        let path = format!("{DIRECTORY}/owners/{name}");
        let mut row = ActorRow {
            name,
            kind: wanted.kind,
            ..ActorRow::default()
        };
        if let Some((owner, generation)) = read::<Owner>(app, &path, from).await {
            let told = (told.get(&owner.host))
                .and_then(|actors| actors.get(&row.name))
                .filter(|told| told.generation == generation);
            if let Some(told) = told {
                (row.mailbox, row.restarts) = (told.mailbox, told.restarts);
                row.handled = told.handled;
            }
            (row.address, row.generation) = (owner.address, generation.to_string());
        }
        actors.list.push(row);
    }
    Ok(actors)
}
