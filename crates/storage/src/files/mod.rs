//! Files: which names there are, of which chunks their contents are, and which nodes hold copies of those.
//!
//! The division is GFS' (Ghemawat, Gobioff, Leung: The Google File System, SOSP 2003) and HDFS' (Shvachko et
//! al., MSST 2010): a name service that holds only names and places, and chunk servers that hold the data. It
//! differs where a replicated log allows it to. Places are part of the state (GFS §2.6.2 asks the chunk
//! servers at every start): any replica can tell a reader or a chunk server what it needs, and there is no
//! start-up phase in which files are unknown. What takes a writer to a new place is its [`WriteId`], which no
//! two writers share, instead of a chunk's version (GFS §4.5): a chunk never changes once it is committed.
//!
//! A file changes when a writer closes it, as a whole: whoever reads sees what the last close left. A writer
//! holds a lease (GFS §3.1); when that ends, what it wrote is garbage, and its name is free again.
//!
//! Costs: about 200 bytes of memory a file and 150 a chunk, on each replica. Contents never pass the log.

mod command;
mod copies;
mod machine;
mod names;
mod plan;
mod query;
mod readable;
mod reply;
mod restore;
mod row;
mod sending;
mod table;
mod writes;

pub use command::{ChunkId, Command, CopyChange, NewChunk, Unit, WriteId, WriteMode};
pub use machine::Files;
pub use names::check_path;
pub use plan::{Lack, NodeView, Plan, Sight};
pub use query::{ChunkPlace, Duties, Fault, FileStat, Health, Summary};
pub use readable::{REMEMBERED_US, Unreadable};
pub use reply::{Output, Refusal, Reply};
pub use row::CopyState;
pub use sending::{Attempt, GENERATIONS_MAX, GivenUp, Sending, Target};

/// Bytes of a path.
pub const PATH_BYTES_MAX: usize = 4_096;
/// Bytes of one name in it.
pub const NAME_BYTES_MAX: usize = 255;
/// Names in a path.
pub const DEPTH_MAX: usize = 64;
/// Directories and files.
pub const INODES_MAX: usize = 20_000_000;
/// Chunks of all files.
pub const CHUNKS_MAX: usize = 20_000_000;
/// Writers at a time.
pub const WRITES_MAX: usize = 10_000;
/// Bytes of a chunk.
pub const CHUNK_BYTES_MAX: u32 = 64 << 20;
/// Copies of a chunk that can be wanted, and that it can have.
pub const COPIES_MAX: u8 = 16;
/// Rows that one sweep forgets.
pub const SWEEP_ROWS_MAX: usize = 1_000;
/// Longest lease of a writer, in milliseconds.
pub const LEASE_MS_MAX: u32 = 600_000;
