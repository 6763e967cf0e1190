//! What a chunk server does unasked: it compares what it has with what it should have, makes the copies that
//! the shard's leader wants here, and reads everything again and again to find damage before it is needed.

use super::reading::{Reading, report_corrupt};
use super::store::{ChunkStore, Key};
use super::{Files, Trouble, blocking, unexpected};
use node::{ChunkServer, FilesAnswer, FilesQuery};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};
use storage::files::{ChunkPlace, Command, CopyChange, Duties};

/// Between two comparisons.
const INTERVAL: Duration = Duration::from_secs(1);
/// What is done after one comparison, of each kind.
const DUTIES_MAX: usize = 64;
/// Between two rounds through all chunks, at least.
const SCRUB_TIME: Duration = Duration::from_secs(10);

pub fn start(files: &Files) {
    let Some(store) = files.store.clone() else {
        return;
    };
    tokio::spawn(keep(files.clone(), store.clone()));
    if files.config.scrub_bytes_per_s > 0 {
        tokio::spawn(scrub(files.clone(), store));
    }
}

async fn keep(files: Files, store: Arc<ChunkStore>) {
    loop {
        tokio::time::sleep(INTERVAL).await;
        // Without an answer there is nothing to be done now.
        if let Ok((duties, servers)) = duties(&files, &store).await {
            carry_out(&files, &store, duties, &servers).await;
        }
    }
}

async fn duties(files: &Files, store: &ChunkStore) -> Result<(Duties, Vec<ChunkServer>), Trouble> {
    let query = FilesQuery::Duties {
        inventory: Arc::new(store.inventory()),
        count_max: DUTIES_MAX,
    };
    match files.ask(query).await? {
        FilesAnswer::Duties { duties, servers } => Ok((duties, servers)),
        _ => Err(unexpected()),
    }
}

async fn carry_out(
    files: &Files,
    store: &Arc<ChunkStore>,
    duties: Duties,
    servers: &[ChunkServer],
) {
    let node = files.node;
    for (id, generation) in duties.remove {
        let (store, key) = (store.clone(), Key { id, generation });
        if let Err(error) = blocking(move || store.remove(key)).await {
            crate::log::warn(format!("cannot remove chunk {id}: {error}"));
        }
    }
    let mut changes = Vec::new();
    for (id, generation) in duties.lost {
        // It may have come meanwhile.
        if !store.has(Key { id, generation }) {
            changes.push(CopyChange::Lost { chunk: id, node });
        }
    }
    for (id, generation) in duties.suspect {
        // Whoever said so may have been wrong.
        if is_good(store, Key { id, generation }).await {
            changes.push(CopyChange::Made {
                chunk: id,
                generation,
                node,
            });
        }
    }
    tell(files, changes).await;
    for place in duties.make {
        let (chunk, generation) = (place.id, place.generation);
        let key = Key {
            id: chunk,
            generation,
        };
        let begun = Instant::now();
        let made = match is_good(store, key).await {
            true => Ok(()),
            false => copy(files, store, &place, servers).await,
        };
        let change = match made {
            Ok(()) => CopyChange::Made {
                chunk,
                generation,
                node,
            },
            Err(error) => {
                crate::log::warn(format!("cannot copy chunk {chunk} to here: {error}"));
                continue;
            }
        };
        tell(files, vec![change]).await;
        pace(
            begun,
            u64::from(place.length),
            files.config.repair_bytes_per_s,
        )
        .await;
    }
}

async fn is_good(store: &Arc<ChunkStore>, key: Key) -> bool {
    let store = store.clone();
    let verified = blocking(move || Ok(store.has(key) && store.verify(key)?));
    verified.await.unwrap_or(false)
}

async fn tell(files: &Files, changes: Vec<CopyChange>) {
    if !changes.is_empty() {
        // What was not heard is found again.
        let _ = files.change(Command::Copies { changes }).await;
    }
}

/// Waits until what was done since `begun` was done no faster than at this rate.
async fn pace(begun: Instant, bytes: u64, bytes_per_s: u64) {
    let time = Duration::from_micros(bytes.saturating_mul(1_000_000) / bytes_per_s.max(1));
    tokio::time::sleep(time.saturating_sub(begun.elapsed())).await;
}

/// Copies a chunk from another node to this one.
async fn copy(
    files: &Files,
    store: &Arc<ChunkStore>,
    place: &ChunkPlace,
    servers: &[ChunkServer],
) -> io::Result<()> {
    let key = Key {
        id: place.id,
        generation: place.generation,
    };
    let creating = store.clone();
    let mut writer = blocking(move || creating.create(key)).await?;
    let mut reading = Reading::new(files, place.clone(), 0, u64::from(place.length));
    while let Some(bytes) = reading.next(files, servers).await? {
        writer = blocking(move || writer.write(&bytes).map(|()| writer)).await?;
    }
    let (store, checksum) = (store.clone(), place.checksum);
    blocking(move || {
        if writer.checksum() != checksum {
            return Err(io::Error::other("what came has another checksum"));
        }
        store.finish(writer).map(|_| ())
    })
    .await
}

/// Reads all chunks, slowly, for ever.
async fn scrub(files: Files, store: Arc<ChunkStore>) {
    loop {
        tokio::time::sleep(SCRUB_TIME).await;
        for (id, generation) in store.inventory() {
            let key = Key { id, generation };
            if !store.has(key) {
                continue;
            }
            let begun = Instant::now();
            let verifying = store.clone();
            let verified = blocking(move || {
                let good = verifying.verify(key)?;
                Ok((good, verifying.size(key)?))
            });
            let bytes = match verified.await {
                Ok((true, bytes)) => bytes,
                Ok((false, bytes)) => {
                    report_corrupt(&files, id, generation, files.node);
                    bytes
                }
                // It was removed, or the disk says more when it is read for somebody.
                Err(_) => continue,
            };
            pace(begun, bytes, files.config.scrub_bytes_per_s).await;
        }
    }
}
