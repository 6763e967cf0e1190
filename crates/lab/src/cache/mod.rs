//! The cache's side of a run: clients that speak Redis' protocol, what they do and what they saw.
//!
//! Every key carries one of two hash tags, [`TAGS`], whose slots lie in different halves: with two data shards
//! there is something in each, and commands of several keys stay within one.
//!
//! `register.N` are set and read; every value is unique. `count` is incremented, `log` appended to. `from` and
//! `to` hold a sum that transfers leave as it is. `list` gives each element to one taker. `mortal.*` end, by
//! the clock or because they are deleted; each has one writer.

pub mod client;
pub mod dump;
pub mod player;
pub mod workload;

use node::ClientId;
use std::collections::BTreeMap;

/// Hash tags; "a" is slot 15495 and "b" slot 3300.
pub const TAGS: [&str; 2] = ["a", "b"];
/// Registers of each tag.
pub const REGISTERS: u64 = 2;
/// What each of two accounts holds at first.
pub const FIRST_BALANCE: i64 = 500;
/// Bytes of a piece appended to a log.
pub const PIECE_BYTES: usize = 10;

/// Position of an operation in [`CacheHistory::operations`].
pub type OperationId = usize;

/// A key.
pub fn key(tag: &str, name: &str) -> String {
    format!("{{{tag}}}{name}")
}

/// A register.
pub fn register(tag: &str, number: u64) -> String {
    key(tag, &format!("register.{number}"))
}

/// The two accounts of a tag.
pub fn accounts(tag: &str) -> [String; 2] {
    [key(tag, "from"), key(tag, "to")]
}

/// What a client asks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Op {
    /// GET.
    Get(String),
    /// MGET.
    GetAll(Vec<String>),
    /// LRANGE, the whole of it.
    Range(String),
    /// SET, perhaps with PX.
    Set {
        key: String,
        value: String,
        ends_ms: Option<u32>,
    },
    /// MSETNX.
    Establish(Vec<(String, String)>),
    /// DEL.
    Delete(String),
    /// INCR.
    Increment(String),
    /// APPEND.
    Append { key: String, piece: String },
    /// RPUSH.
    Push { list: String, element: String },
    /// LPOP, or BLPOP when there is a time to wait, in milliseconds.
    Pop { list: String, wait_ms: Option<u32> },
    /// WATCH.
    Watch(Vec<String>),
    /// MULTI, these, EXEC.
    Exec(Vec<Op>),
}

/// What an answer held.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// Nothing; of an EXEC, that it was not carried out.
    Nil,
    /// A status.
    Done,
    /// A number.
    Number(i64),
    /// Bytes.
    Text(String),
    /// Several.
    Many(Vec<Answer>),
}

/// An answer, or a refusal in words, and when it reached the client.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reply {
    /// When.
    pub at_us: u64,
    /// What.
    pub result: Result<Answer, String>,
}

/// A request and what became of it. Without a reply, its outcome is unknown.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Operation {
    /// Whose.
    pub client: usize,
    /// On which connection.
    pub connection: ClientId,
    /// Through which node.
    pub node: usize,
    /// When it was sent.
    pub invoked_us: u64,
    /// What.
    pub op: Op,
    /// The reply, if one came.
    pub reply: Option<Reply>,
}

impl Operation {
    /// When its answer came; never, for one without.
    pub fn completed_us(&self) -> u64 {
        self.reply.as_ref().map_or(u64::MAX, |reply| reply.at_us)
    }

    /// The answer, unless it is unknown or a refusal.
    pub fn answer(&self) -> Option<&Answer> {
        self.reply.as_ref()?.result.as_ref().ok()
    }

    /// True when it was refused: it must have no effect.
    pub fn is_refused(&self) -> bool {
        matches!(&self.reply, Some(reply) if reply.result.is_err())
    }
}

/// What a member showed at the end, by key.
pub type Dump = BTreeMap<String, Answer>;

/// What the cache's clients did and saw.
#[derive(Clone, Debug, Default)]
pub struct CacheHistory {
    /// In the order in which they were sent.
    pub operations: Vec<Operation>,
    /// The keys at the end, as each member showed them: (node, when it was asked, keys).
    pub dumps: Vec<(usize, u64, Dump)>,
}
