//! What a client can say, as values.

use base::{DecodeError, SessionId};
use bytes::Bytes;
use coordination::{ErrorCode, Query, TreeOp};

/// Bounds of one connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Longest frame in bytes, without its length; a longer one ends the connection. A decoded request
    /// takes at most twenty times its frame (a multi of nothing but checks), usually about the same.
    pub frame_bytes_max: u32,
}

impl Default for Limits {
    /// ZooKeeper's `jute.maxbuffer`, and a margin for headers.
    fn default() -> Self {
        Self {
            frame_bytes_max: 1_048_575 + 1024,
        }
    }
}

/// One thing that a client said.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Incoming {
    /// A four-letter word instead of a session. Answer in text and close; what follows it is ignored.
    Word(FourLetterWord),
    /// The first frame.
    Connect(ConnectRequest),
    /// Every later frame.
    Request {
        /// The client's number for it, to be echoed.
        xid: i32,
        /// What it asks.
        request: Request,
    },
}

/// A question in four letters.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum FourLetterWord {
    /// Are you well?
    Ruok,
    /// The server.
    Srvr,
    /// The server and its connections.
    Stat,
    /// Figures for monitoring.
    Mntr,
    /// Another word, in lower-case letters.
    Unknown(String),
}

impl FourLetterWord {
    /// The word that `bytes` are, if they are four lower-case letters. No frame length looks like one: as a
    /// number it is beyond 1.6 billion.
    pub fn parse(bytes: [u8; 4]) -> Option<Self> {
        if !bytes.iter().all(u8::is_ascii_lowercase) {
            return None;
        }
        Some(match &bytes {
            b"ruok" => Self::Ruok,
            b"srvr" => Self::Srvr,
            b"stat" => Self::Stat,
            b"mntr" => Self::Mntr,
            other => Self::Unknown(other.iter().map(|b| char::from(*b)).collect()),
        })
    }
}

/// Opens or resumes a session.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ConnectRequest {
    /// 0 in all known clients.
    pub protocol_version: i32,
    /// The latest revision that the client has seen; a server that is behind it must refuse.
    pub last_zxid_seen: i64,
    /// Wanted time-out in milliseconds; a negative one is read as 0.
    pub timeout_ms: u32,
    /// The session to resume, 0 for a new one.
    pub session: SessionId,
    /// The password of the session to resume; any length.
    pub password: Vec<u8>,
    /// The client would be content with a server that only reads.
    pub read_only: bool,
    /// The request had the `read_only` field; only then may the response have it.
    pub had_read_only_flag: bool,
}

/// What the reply to a create has besides the path.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum WriteShape {
    /// As the operation has it; a create (opcode 1) answers its path alone.
    #[default]
    Plain,
    /// create2, createContainer and createTTL answer path and metadata.
    WithStat,
}

/// Which watches `removeWatches` and `checkWatches` mean.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WatchKind {
    /// One-shot child watches (1).
    Children,
    /// One-shot data and exists watches (2).
    Data,
    /// All on the path (3).
    Any,
    /// Persistent watches (4).
    Persistent,
    /// Persistent recursive watches (5).
    PersistentRecursive,
}

impl WatchKind {
    /// The protocol's number.
    pub fn number(self) -> i32 {
        match self {
            Self::Children => 1,
            Self::Data => 2,
            Self::Any => 3,
            Self::Persistent => 4,
            Self::PersistentRecursive => 5,
        }
    }

    /// The kind of a number, from 1 to 5.
    pub fn from_number(number: i32) -> Option<Self> {
        Some(match number {
            1 => Self::Children,
            2 => Self::Data,
            3 => Self::Any,
            4 => Self::Persistent,
            5 => Self::PersistentRecursive,
            _ => return None,
        })
    }
}

/// What a frame behind the first asks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Request {
    /// Keeps the session alive.
    Ping,
    /// Ends the session.
    CloseSession,
    /// Adds an identity to the connection.
    AddAuth {
        /// For example `digest`.
        scheme: String,
        /// For `digest`, `user:password`.
        auth: Bytes,
    },
    /// Registers watches anew after a reconnect (setWatches and setWatches2).
    SetWatches {
        /// The latest revision that the client has seen; later changes are notified at once.
        relative_zxid: i64,
        /// One-shot data watches.
        data: Vec<String>,
        /// One-shot watches on nodes that were not there.
        exist: Vec<String>,
        /// One-shot child watches.
        child: Vec<String>,
        /// Persistent watches.
        persistent: Vec<String>,
        /// Persistent recursive watches.
        persistent_recursive: Vec<String>,
    },
    /// One change of the tree.
    Write {
        /// The change.
        op: TreeOp,
        /// What the reply looks like.
        shape: WriteShape,
    },
    /// Several changes, all or none.
    Multi(Vec<(TreeOp, WriteShape)>),
    /// Several reads (`GetData` and `GetChildren`), each with its own outcome.
    MultiRead(Vec<Query>),
    /// One read.
    Read {
        /// What to read.
        query: Query,
        /// Leave a one-shot watch; always false for `GetAcl`.
        watch: bool,
    },
    /// Adds a persistent watch.
    AddWatch {
        /// Absolute path.
        path: String,
        /// Also for everything below it.
        recursive: bool,
    },
    /// Removes watches; refused with `NoWatcher` if there are none.
    RemoveWatches {
        /// Absolute path.
        path: String,
        /// Which.
        kind: WatchKind,
    },
    /// Asks whether there are watches; refused with `NoWatcher` if there are none.
    CheckWatches {
        /// Absolute path.
        path: String,
        /// Which.
        kind: WatchKind,
    },
    /// Answered when all that was committed before it can be read here.
    Sync {
        /// Echoed.
        path: String,
    },
    /// Well-formed, but not allowed: answer with the error.
    Refused {
        /// The answer.
        error: ErrorCode,
    },
    /// An opcode that is not served: answer `Unimplemented`, as ZooKeeper does, and close.
    Unimplemented {
        /// The opcode.
        opcode: i32,
    },
    /// The body cannot be read: answer `MarshallingError`, as ZooKeeper does; the connection can go on.
    Malformed {
        /// The opcode.
        opcode: i32,
        /// What is wrong with the body, for the log.
        why: DecodeError,
    },
}
