//! Files over HTTP: the chunks on this node's disk, the way of data between nodes, and the interface of
//! WebHDFS for everybody else.
//!
//! Names and places are in the tree's shard; they are asked for and changed through the desk of a core. Data
//! go from node to node over the console's port: [`chunks`] takes, hands on and gives out single chunks,
//! [`writing`] cuts what a client sends into chunks, [`reading`] puts them together again, [`keeper`] does
//! what the shard's leader wants done about copies, [`webhdfs`] is the outside.

mod chunks;
pub mod client;
mod keeper;
mod reading;
mod store;
mod webhdfs;
mod writing;

pub use store::ChunkStore;

use crate::http::{App, call};
use axum::Router;
use base::NodeId;
use node::{Call, CallReply, ChunkServer, FilesAnswer, FilesQuery};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use storage::files::{
    CHUNK_BYTES_MAX, COPIES_MAX, ChunkPlace, Command, LEASE_MS_MAX, Refusal, Reply, Unreadable,
};
use tokio::sync::Semaphore;

/// What clients write at a time; each takes memory for two chunks. More wait.
const WRITERS_MAX: usize = 8;
/// How often a change whose outcome is unknown is tried again, and how long after.
const TRIES: u32 = 20;
const TRY_AGAIN_TIME: Duration = Duration::from_millis(250);

/// How files are kept.
#[derive(Clone, Debug)]
pub struct FilesConfig {
    /// Whether this node keeps chunks.
    pub serves_chunks: bool,
    /// Bytes of a chunk of a new file, up to [`storage::files::CHUNK_BYTES_MAX`].
    pub chunk_bytes: u32,
    /// Copies of a chunk of a new file, unless its writer says otherwise.
    pub copies: u8,
    /// Copies that are on disk before a chunk is acknowledged, where there are so many nodes.
    pub copies_min: u8,
    /// A writer that is not heard of for this long has lost its file, in milliseconds.
    pub lease_ms: u32,
    /// Bytes a second that copies are made with.
    pub repair_bytes_per_s: u64,
    /// Bytes a second that are read to find damage; 0: none.
    pub scrub_bytes_per_s: u64,
}

impl Default for FilesConfig {
    fn default() -> Self {
        Self {
            serves_chunks: true,
            chunk_bytes: 8 << 20,
            copies: 3,
            copies_min: 2,
            lease_ms: 30_000,
            repair_bytes_per_s: 64 << 20,
            scrub_bytes_per_s: 8 << 20,
        }
    }
}

impl FilesConfig {
    /// Refuses what cannot be, in words of the configuration.
    pub fn check(&self) -> Result<(), String> {
        let chunk_bytes = u64::from(self.chunk_bytes);
        for (key, value, most) in [
            ("chunk_bytes", chunk_bytes, u64::from(CHUNK_BYTES_MAX)),
            ("copies", u64::from(self.copies), u64::from(COPIES_MAX)),
            (
                "copies_min",
                u64::from(self.copies_min),
                u64::from(self.copies),
            ),
            (
                "lease_ms",
                u64::from(self.lease_ms),
                u64::from(LEASE_MS_MAX),
            ),
            ("repair_bytes_per_s", self.repair_bytes_per_s, u64::MAX),
        ] {
            if !(1..=most).contains(&value) {
                return Err(format!("files.{key} = {value} must be from 1 to {most}"));
            }
        }
        Ok(())
    }
}

/// What all parts share.
pub struct Shared {
    app: App,
    config: FilesConfig,
    /// This node.
    node: NodeId,
    /// `None` where no chunks are kept.
    store: Option<Arc<ChunkStore>>,
    writers: Semaphore,
    /// Nodes that could not be read from, and when. Nobody else is told: the fault may be on this side.
    unreadable: Mutex<Unreadable>,
    started: Instant,
}

type Files = Arc<Shared>;

/// Why something was not done.
#[derive(Debug)]
pub enum Trouble {
    /// By what is there.
    Refused(Refusal),
    /// It cannot be now, or whether it was done is not known.
    Unavailable(String),
}

impl From<Refusal> for Trouble {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Refused(refusal) => refusal.fmt(f),
            Self::Unavailable(why) => why.fmt(f),
        }
    }
}

/// Serves files, and begins to keep the chunks in `store`.
pub fn routes(
    app: App,
    config: FilesConfig,
    node: NodeId,
    store: Option<Arc<ChunkStore>>,
) -> Router<App> {
    let files = Arc::new(Shared {
        app,
        config,
        node,
        store,
        writers: Semaphore::new(WRITERS_MAX),
        unreadable: Mutex::default(),
        started: Instant::now(),
    });
    keeper::start(&files);
    chunks::routes().merge(webhdfs::routes()).with_state(files)
}

impl Shared {
    /// Asks about files.
    async fn ask(&self, query: FilesQuery) -> Result<FilesAnswer, Trouble> {
        match call(&self.app, Call::ReadFiles(query)).await {
            CallReply::Files(answer) => Ok(*answer),
            other => Err(Trouble::Unavailable(excuse(other))),
        }
    }

    /// The chunk servers, as a core of this node sees them.
    async fn servers(&self) -> Result<Vec<ChunkServer>, Trouble> {
        match self.ask(FilesQuery::Servers).await? {
            FilesAnswer::Servers(servers) => Ok(servers),
            _ => Err(unexpected()),
        }
    }

    /// Changes something once.
    async fn change(&self, command: Command) -> Result<Reply, Trouble> {
        match call(&self.app, Call::ChangeFiles(command)).await {
            CallReply::FilesChanged(reply) => Ok(reply?),
            other => Err(Trouble::Unavailable(excuse(other))),
        }
    }

    /// Changes something that may be asked for twice, and tries again while its fate is unknown.
    async fn change_surely(&self, command: Command) -> Result<Reply, Trouble> {
        let mut tries = 0;
        loop {
            let outcome = self.change(command.clone()).await;
            tries += 1;
            match outcome {
                Err(Trouble::Unavailable(_)) if tries < TRIES => {
                    tokio::time::sleep(TRY_AGAIN_TIME).await;
                }
                outcome => return outcome,
            }
        }
    }

    fn unreadable(&self) -> MutexGuard<'_, Unreadable> {
        self.unreadable
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn now_us(&self) -> u64 {
        self.started.elapsed().as_micros() as u64
    }

    fn remember_unreadable(&self, node: NodeId) {
        self.unreadable().remember(node, self.now_us());
    }

    /// Copies of a chunk in the order in which they are tried from here.
    fn in_order(&self, place: &ChunkPlace) -> VecDeque<NodeId> {
        self.unreadable().in_order(place, self.node, self.now_us())
    }
}

fn excuse(reply: CallReply) -> String {
    match reply {
        CallReply::NotHere { message }
        | CallReply::Refused { message }
        | CallReply::Unknown { message } => message,
        _ => "the core answered something else".into(),
    }
}

fn unexpected() -> Trouble {
    Trouble::Unavailable("the core answered something else".into())
}

/// Runs what blocks on a thread for that.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> std::io::Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome,
        Err(ended) => Err(std::io::Error::other(ended)),
    }
}
