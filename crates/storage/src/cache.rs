//! The cache: keys with strings, hashes, lists, sets and sorted sets behind them.
//!
//! Reading order: `command` (what may be asked), `unit` (what the log holds), `machine` (the replicated
//! state and the dispatch), `context` (what a command works on), `commands` (their meaning, a file a data
//! type), then what carries them: `database`, `entry`, `value`, `table`, `snapshot`.

mod args;
mod blob;
mod command;
mod commands;
mod context;
mod database;
mod entry;
mod glob;
mod hash;
mod machine;
mod number;
mod reply;
mod restore;
mod snapshot;
mod table;
pub mod transaction;
mod unit;
mod value;

use context::Answer;

pub use command::{Access, Command, CommandId, KeyRange, Spec, spec, specs};
pub use glob::matches as glob_matches;
pub use machine::{APPROACHED_MAX, Cache, Counts, DATABASES};
pub use number::{double_text, parse_integer};
pub use reply::Reply;
pub use unit::{Body, Ended, Output, Unit, Watched};
