//! The cache: keys with strings, hashes, lists, sets and sorted sets behind them.

mod command;
mod reply;
mod unit;

pub use command::{Access, Command, CommandId, KeyRange, Spec, spec, specs};
pub use reply::Reply;
pub use unit::{Body, Ended, Output, Unit, Watched};
