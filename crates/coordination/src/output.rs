//! What the coordination machine tells: replies, events, the ends of sessions, and answers to reads.

use crate::command::Acl;
use base::{CoreAddress, Origin, SessionId};
use bytes::Bytes;

/// A node's metadata. Revisions (`*zxid`) are the machine's one counter of changes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stat {
    /// Revision that created the node.
    pub czxid: i64,
    /// Revision of the last data change.
    pub mzxid: i64,
    /// Creation, milliseconds since 1970.
    pub ctime_ms: i64,
    /// Last data change, milliseconds since 1970.
    pub mtime_ms: i64,
    /// Data changes since creation.
    pub version: i32,
    /// Changes of the list of children.
    pub cversion: i32,
    /// Changes of the access control list.
    pub aversion: i32,
    /// Owning session, 0 for any node that is not ephemeral: ZooKeeper tells its clients of containers and TTL
    /// nodes no otherwise. [`crate::Coordination::kind`] knows.
    pub ephemeral_owner: i64,
    /// Bytes of data.
    pub data_length: i32,
    /// Children now.
    pub num_children: i32,
    /// Revision of the last change of the list of children.
    pub pzxid: i64,
}

/// Why a request was refused; the same on every replica.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ErrorCode {
    /// The server cannot do that now. Never the outcome of applying: a home says it of what it did not propose.
    SystemError,
    /// A part of a multi that was not reached or was rolled back.
    RuntimeInconsistency,
    /// The request cannot be read as what its opcode says.
    MarshallingError,
    /// This server does not do that.
    Unimplemented,
    /// A path, mode or value that is not allowed.
    BadArguments,
    /// There is no such node.
    NoNode,
    /// The access control list does not allow it.
    NoAuth,
    /// The version given is not the node's.
    BadVersion,
    /// An ephemeral node cannot have children.
    NoChildrenForEphemerals,
    /// The node is there already.
    NodeExists,
    /// The node has children.
    NotEmpty,
    /// The session has ended.
    SessionExpired,
    /// The list names a scheme or id that is not valid.
    InvalidAcl,
    /// The credentials were not accepted.
    AuthFailed,
    /// The session is served elsewhere now.
    SessionMoved,
    /// There is no such watch.
    NoWatcher,
}

/// What one tree operation yields.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum OpReply {
    /// The node's final path (with its counter) and metadata.
    Created {
        /// Final path.
        path: String,
        /// Its metadata.
        stat: Stat,
    },
    /// Deleted.
    Deleted,
    /// The new metadata after `SetData`.
    DataSet(Stat),
    /// The new metadata after `SetAcl`.
    AclSet(Stat),
    /// The guard held.
    Checked,
}

/// What a session's command yields.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reply {
    /// Of [`crate::Command::Write`].
    Write(Result<OpReply, ErrorCode>),
    /// Of [`crate::Command::Multi`]: all replies, or for each operation its error (`None`: it would have succeeded; those behind the failing one say `RuntimeInconsistency`).
    Multi(Result<Vec<OpReply>, Vec<Option<ErrorCode>>>),
    /// Of [`crate::Command::CloseSession`].
    Closed,
}

/// Why a command of a session was not even looked at. Its connection must be closed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum UnitRefusal {
    /// The session does not exist (any more).
    NoSession,
    /// The session has been attached elsewhere since.
    OldGeneration,
    /// A command before this one was lost.
    Gap,
}

/// Why a session could not be resumed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AttachRefusal {
    /// It does not exist (any more). This is the honest "expired": it went through the log.
    NoSession,
    /// The password is not the session's.
    WrongPassword,
}

/// Why a session ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SessionEnd {
    /// Its client closed it.
    Closed,
    /// Its time-out ran out.
    Expired,
}

/// What happened to a node.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum EventKind {
    /// It was created.
    Created,
    /// It was deleted.
    Deleted,
    /// Its data were set.
    DataChanged,
    /// A child was created or deleted.
    ChildrenChanged,
}

/// One element of the event stream; watches are filters over it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Event {
    /// Revision of the change.
    pub zxid: i64,
    /// What happened.
    pub kind: EventKind,
    /// To which node.
    pub path: String,
}

/// What applying a unit tells the outside, in order: the events of a change come before its reply.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Output {
    /// A change, for watches.
    Event(Event),
    /// The answer to a session's command.
    Reply {
        /// The session.
        session: SessionId,
        /// Its attachment.
        generation: u32,
        /// The command's place in it.
        sequence: u64,
        /// The machine's revision after the command.
        zxid: i64,
        /// The answer.
        reply: Reply,
    },
    /// The command was not looked at; close the connection that sent it.
    Refused {
        /// The session.
        session: SessionId,
        /// The generation that the command carried.
        generation: u32,
        /// The sequence that the command carried.
        sequence: u64,
        /// Why.
        why: UnitRefusal,
    },
    /// A session was opened (generation 1).
    SessionOpened {
        /// Who waits.
        origin: Origin,
        /// Its id.
        session: SessionId,
        /// Its password.
        password: [u8; 16],
        /// Its time-out.
        timeout_ms: u32,
        /// The machine's revision after it.
        zxid: i64,
    },
    /// A session has a new home; an older one closes its connection.
    SessionAttached {
        /// Who waits; `origin.home` is the new home.
        origin: Origin,
        /// The session.
        session: SessionId,
        /// Its new generation.
        generation: u32,
        /// Its password.
        password: [u8; 16],
        /// Its time-out.
        timeout_ms: u32,
        /// Where it was before.
        previous_home: CoreAddress,
        /// The machine's revision.
        zxid: i64,
    },
    /// A session could not be resumed.
    AttachRefused {
        /// Who waits.
        origin: Origin,
        /// Why.
        why: AttachRefusal,
    },
    /// A session ended; its ephemeral nodes' events came before this, and so did the reply to its close.
    SessionEnded {
        /// The session.
        session: SessionId,
        /// Why.
        why: SessionEnd,
    },
}

/// A read of the tree, answered from a replica's state.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Query {
    /// Metadata.
    Exists {
        /// Absolute path.
        path: String,
    },
    /// Data and metadata.
    GetData {
        /// Absolute path.
        path: String,
    },
    /// Names of children, sorted.
    GetChildren {
        /// Absolute path.
        path: String,
    },
    /// Names of children, sorted, and the node's metadata.
    GetChildren2 {
        /// Absolute path.
        path: String,
    },
    /// Access control list and metadata.
    GetAcl {
        /// Absolute path.
        path: String,
    },
}

impl Query {
    /// The node asked about.
    pub fn path(&self) -> &str {
        match self {
            Self::Exists { path }
            | Self::GetData { path }
            | Self::GetChildren { path }
            | Self::GetChildren2 { path }
            | Self::GetAcl { path } => path,
        }
    }
}

/// What a [`Query`] yields.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// Of `Exists`.
    Exists(Stat),
    /// Of `GetData`.
    Data(Bytes, Stat),
    /// Of `GetChildren`.
    Children(Vec<String>),
    /// Of `GetChildren2`.
    Children2(Vec<String>, Stat),
    /// Of `GetAcl`.
    Acl(Vec<Acl>, Stat),
}
