//! Calls about files.

use super::{CallReply, Seen};
use crate::files::views;
use crate::front::Context;
use base::{NodeId, Origin, ShardId};
use catalog::TREE_SHARD;
use shard::DataUnit;
use std::collections::BTreeSet;
use std::sync::Arc;
use storage::files::{
    ChunkId, ChunkPlace, Command, Duties, FileStat, Files, Health, Refusal, Sight, Summary, Unit,
};

/// The shard that holds names and places.
pub const SHARD: ShardId = TREE_SHARD;

/// A question about files.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum FilesQuery {
    /// One file or directory.
    Stat {
        /// Which.
        path: String,
    },
    /// What is in a directory.
    List {
        /// Which.
        path: String,
        /// Behind this name.
        after: String,
        /// At most so many.
        count_max: usize,
    },
    /// Where the content of a file is.
    Locate {
        /// Which.
        path: String,
        /// From where, bytes.
        offset: u64,
        /// How much, bytes.
        length: u64,
    },
    /// Everything below a path, added up.
    Summary {
        /// Which.
        path: String,
        /// At most so many names.
        rows_max: usize,
    },
    /// How all chunks are.
    Health {
        /// Chunks with faults to tell one by one, at most.
        faults_max: usize,
    },
    /// What this node has to do as a chunk server.
    Duties {
        /// What is on its disk, with generations.
        inventory: Arc<BTreeSet<(ChunkId, u32)>>,
        /// Of each kind at most so many.
        count_max: usize,
    },
    /// Who keeps chunks.
    Servers,
}

/// The answer to the question of the same name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum FilesAnswer {
    /// One file or directory.
    Stat(Result<FileStat, Refusal>),
    /// Some of a directory, and how many more there are.
    List(Result<(Vec<FileStat>, u64), Refusal>),
    /// A file with its chunks.
    Located {
        /// It.
        located: Result<(FileStat, Vec<ChunkPlace>), Refusal>,
        /// Where nodes are.
        servers: Vec<ChunkServer>,
    },
    /// Added up; `None` where there is more than was to be counted.
    Summary(Result<Option<Summary>, Refusal>),
    /// How all chunks are.
    Health {
        /// It.
        health: Health,
        /// Where nodes are.
        servers: Vec<ChunkServer>,
    },
    /// What is to be done.
    Duties {
        /// It.
        duties: Duties,
        /// Where nodes are.
        servers: Vec<ChunkServer>,
    },
    /// Who keeps chunks.
    Servers(Vec<ChunkServer>),
}

/// A node that keeps chunks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ChunkServer {
    /// It.
    pub node: NodeId,
    /// `host:port` where it takes and gives chunks over HTTP.
    pub address: String,
    /// Whether it is heard here.
    pub sight: Sight,
    /// False while its disk is nearly full.
    pub has_room: bool,
    /// Chunks that it has, or is to get.
    pub held: usize,
}

/// The unit of a command.
pub fn unit(origin: Origin, command: Command) -> DataUnit {
    DataUnit::Files(Unit { origin, command })
}

/// What a query sees.
pub fn look(cx: &Context<'_>, files: &Files, query: &FilesQuery) -> Seen {
    let answer = match query {
        FilesQuery::Stat { path } => FilesAnswer::Stat(files.stat(path)),
        FilesQuery::List {
            path,
            after,
            count_max,
        } => FilesAnswer::List(files.list(path, after, *count_max)),
        FilesQuery::Locate {
            path,
            offset,
            length,
        } => FilesAnswer::Located {
            located: files.locate(path, *offset, *length),
            servers: servers(cx, files),
        },
        FilesQuery::Summary { path, rows_max } => {
            FilesAnswer::Summary(files.summary(path, *rows_max))
        }
        FilesQuery::Health { faults_max } => FilesAnswer::Health {
            health: files.health(&views(cx.catalog, cx.peers, cx.space), *faults_max),
            servers: servers(cx, files),
        },
        FilesQuery::Duties {
            inventory,
            count_max,
        } => FilesAnswer::Duties {
            duties: (cx.peers.me()).map_or_else(Duties::default, |node| {
                files.duties(node, inventory, *count_max)
            }),
            servers: servers(cx, files),
        },
        FilesQuery::Servers => FilesAnswer::Servers(servers(cx, files)),
    };
    Seen {
        reply: CallReply::Files(Box::new(answer)),
        index: 0,
        watched: Vec::new(),
    }
}

fn servers(cx: &Context<'_>, files: &Files) -> Vec<ChunkServer> {
    let views = views(cx.catalog, cx.peers, cx.space);
    let serving = views.into_iter().filter_map(|(node, view)| {
        Some(ChunkServer {
            node,
            address: cx.peers.chunks_address(node)?.clone(),
            sight: view.sight,
            has_room: view.has_room,
            held: files.held_by(node),
        })
    });
    serving.collect()
}
