//! What the clients did and saw: the only thing that the checkers look at.

use crate::cache::CacheHistory;
use crate::files::FilesHistory;
use crate::globals::GlobalsHistory;
use crate::groups::GroupsHistory;
use crate::jobs::JobsHistory;
use crate::kafka::KafkaHistory;
use crate::locks::LockHistory;
use crate::services::ServicesHistory;
use crate::tellers::Asked;
use base::SessionId;
use coordination::Stat;
use node::ClientId;
use std::collections::BTreeMap;
use wire_zookeeper::client::MultiResult;

/// Position of an operation in [`History::operations`].
pub type OperationId = usize;
/// Position of a session in [`History::sessions`].
pub type SessionNumber = usize;

/// How long a node stays.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Life {
    /// Until it is deleted.
    Persistent,
    /// As long as its session.
    Ephemeral,
    /// Until its last child is gone.
    Container,
    /// Until it was not set for so many milliseconds.
    Ttl(u32),
}

/// How a node is created.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Kind {
    /// How long it stays.
    pub life: Life,
    /// A counter is appended to its name.
    pub sequential: bool,
}

impl Kind {
    /// Without a counter.
    pub fn of(life: Life) -> Self {
        let sequential = false;
        Self { life, sequential }
    }
}

/// What a client asks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Op {
    /// Data and metadata.
    Get { path: String, watch: bool },
    /// Metadata.
    Exists { path: String, watch: bool },
    /// Names of children, and metadata.
    Children { path: String, watch: bool },
    /// New data; a version of −1 matches any.
    Set {
        path: String,
        value: String,
        version: i32,
    },
    /// A new node.
    Create {
        path: String,
        value: String,
        kind: Kind,
    },
    /// Away with it; a version of −1 matches any.
    Delete { path: String, version: i32 },
    /// A guard inside a multi.
    Check { path: String, version: i32 },
    /// All or none.
    Multi(Vec<Op>),
    /// Wait until what was committed before can be read.
    Sync,
    /// A persistent watch.
    AddWatch { path: String, recursive: bool },
    /// End the session.
    Close,
}

/// What a successful reply held.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// Of exists and set.
    Stat(Stat),
    /// Of get.
    Data(String, Stat),
    /// Of children.
    Children(Vec<String>, Stat),
    /// Of create.
    Created(String, Stat),
    /// Of multi.
    Multi(Vec<MultiResult>),
    /// Of the others.
    Done,
}

/// A reply.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reply {
    /// When it reached the client.
    pub at_us: u64,
    /// The revision in its header.
    pub zxid: i64,
    /// The answer, or the protocol's error number.
    pub result: Result<Answer, i32>,
}

/// A request and what became of it. Without a reply, its outcome is unknown.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Operation {
    /// Whose.
    pub session: SessionNumber,
    /// On which connection.
    pub connection: ClientId,
    /// When it was sent.
    pub invoked_us: u64,
    /// What.
    pub op: Op,
    /// The `sync` just before it on the same connection, for reads that must be linearizable.
    pub synced_by: Option<OperationId>,
    /// Sent on a connection from which the session had been moved away on purpose.
    pub ghost: bool,
    /// The reply, if one came.
    pub reply: Option<Reply>,
}

/// How a session ended, as its client knows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    /// The client asked to close it, at this time.
    Closing(u64),
    /// The server said that it had expired, at this time.
    Expired(u64),
}

/// A session as its client knows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Session {
    /// Which client.
    pub client: usize,
    /// Its id.
    pub id: SessionId,
    /// Its client shows the credentials that [`crate::workload::GUARDED`] asks for.
    pub credentials: bool,
    /// Granted time-out in milliseconds.
    pub timeout_ms: u64,
    /// When the client sent the last request that was answered.
    pub vouched_us: u64,
    /// Its end, if the client knows of one.
    pub ending: Option<Ending>,
}

/// What happened to a node, by a notification.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum EventKind {
    /// It was created.
    Created,
    /// It was deleted.
    Deleted,
    /// Its data were set.
    DataChanged,
    /// A child came or went.
    ChildrenChanged,
}

/// Watches that a client registers anew after a reconnect.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct WatchSet {
    /// One-shot, on nodes that were there.
    pub data: Vec<String>,
    /// One-shot, on nodes that were not there.
    pub exist: Vec<String>,
    /// One-shot, on lists of children.
    pub child: Vec<String>,
    /// Persistent.
    pub persistent: Vec<String>,
    /// Persistent and recursive.
    pub recursive: Vec<String>,
}

impl WatchSet {
    /// True when there is nothing to register.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// One thing that a client saw, in order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Seen {
    /// A connection opened or resumed the session.
    Attached,
    /// Watches were registered anew; nothing else was sent before.
    WatchesSet(WatchSet),
    /// The registration was answered, at this revision.
    WatchesReplied(i64),
    /// A reply.
    Reply(OperationId),
    /// A ping's reply, with its revision.
    Pong(i64),
    /// A notification.
    Event(EventKind, String, i64),
    /// The connection ended.
    Detached,
    /// The session is known to have ended.
    Ended,
}

/// A line of the tape.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Line {
    /// When.
    pub at_us: u64,
    /// Whose.
    pub session: SessionNumber,
    /// On which connection.
    pub connection: ClientId,
    /// What.
    pub seen: Seen,
}

/// A whole tree: path to data and metadata.
pub type Tree = BTreeMap<String, (String, Stat)>;

/// Everything.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// In the order in which they were sent.
    pub operations: Vec<Operation>,
    /// In the order in which they were opened.
    pub sessions: Vec<Session>,
    /// In the order in which clients saw it.
    pub tape: Vec<Line>,
    /// The tree at the end, as each member showed it: (node, tree).
    pub trees: Vec<(usize, Tree)>,
    /// What the cache's clients did and saw.
    pub cache: CacheHistory,
    /// What Kafka's clients did and saw.
    pub kafka: KafkaHistory,
    /// What contenders for locks did and saw.
    pub locks: LockHistory,
    /// Transactions that tellers called for.
    pub asked: Vec<Asked>,
    /// What the services' clients did and saw.
    pub services: ServicesHistory,
    /// What the jobs' clients did and saw.
    pub jobs: JobsHistory,
    /// What initiators of global transactions and their services did and saw.
    pub globals: GlobalsHistory,
    /// What the files' clients did and saw, and what chunk servers have.
    pub files: FilesHistory,
    /// What users of the group of nodes did and saw.
    pub groups: GroupsHistory,
    /// What a client noticed at once.
    pub complaints: Vec<String>,
    /// Nodes may have lost touch with their leader: what they answered meanwhile vouches for less.
    pub cut_off: bool,
    /// Wall clocks were set: what lives by the clock may live longer or shorter.
    pub clocks_set: bool,
}

impl History {
    /// The lines of one session, in order.
    pub fn tape_of(&self, session: SessionNumber) -> impl Iterator<Item = &Line> {
        self.tape.iter().filter(move |line| line.session == session)
    }

    /// When the session of an operation was first attached elsewhere than where the operation was sent.
    pub fn moved_us(&self, operation: &Operation) -> Option<u64> {
        self.tape_of(operation.session)
            .find(|line| line.connection > operation.connection && line.seen == Seen::Attached)
            .map(|line| line.at_us)
    }

    /// Operations and, for a multi, its parts with their part of the answer:
    /// (operation, part, part's answer if the whole was answered).
    pub fn parts(&self) -> impl Iterator<Item = Part<'_>> {
        self.operations
            .iter()
            .enumerate()
            .flat_map(|(id, operation)| {
                let mut parts = Vec::new();
                match &operation.op {
                    Op::Multi(ops) => {
                        for (i, op) in ops.iter().enumerate() {
                            parts.push(Part {
                                id,
                                operation,
                                op,
                                outcome: multi_outcome(operation, i),
                            });
                        }
                    }
                    op => parts.push(Part {
                        id,
                        operation,
                        op,
                        outcome: match &operation.reply {
                            None => Outcome::Unknown,
                            Some(reply) => match &reply.result {
                                Err(_) => Outcome::Refused,
                                Ok(answer) => Outcome::Done(answer.clone()),
                            },
                        },
                    }),
                }
                parts
            })
    }
}

fn multi_outcome(operation: &Operation, part: usize) -> Outcome {
    let Some(reply) = &operation.reply else {
        return Outcome::Unknown;
    };
    let Ok(Answer::Multi(results)) = &reply.result else {
        return Outcome::Refused;
    };
    match results.get(part) {
        Some(MultiResult::Created { path, stat }) => {
            Outcome::Done(Answer::Created(path.clone(), stat.unwrap_or_default()))
        }
        Some(MultiResult::DataSet(stat)) => Outcome::Done(Answer::Stat(*stat)),
        Some(MultiResult::Deleted | MultiResult::Checked) => Outcome::Done(Answer::Done),
        _ => Outcome::Refused,
    }
}

/// What became of an operation or a part of one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// No reply: it may have taken effect, or may yet.
    Unknown,
    /// It was refused: it must have no effect.
    Refused,
    /// It was done.
    Done(Answer),
}

/// One of [`History::parts`].
#[derive(Clone, Debug)]
pub struct Part<'a> {
    /// The operation's position.
    pub id: OperationId,
    /// The whole operation.
    pub operation: &'a Operation,
    /// This part.
    pub op: &'a Op,
    /// What became of it.
    pub outcome: Outcome,
}
