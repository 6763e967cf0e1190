//! The core's closed sets: what can happen to it ([`Event`]) and what it wants done ([`Action`]).
//!
//! This is the whole boundary between the product and the world; the host and the lab both stand on
//! its other side.

use crate::admin::{AdminCommand, AdminReply, DiskSpace};
use crate::desk::{Call, CallReply, Probe, ProbeResult, ProbeTarget};
use base::{ClusterId, CoreAddress, CoreId, LaneId};
use bytes::Bytes;
use journal::{DiskOp, DiskResult, Ticket};

/// An accepted stream from another core, numbered by the host; never reused in a run.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct StreamId(pub u64);

/// An accepted client connection, numbered by the host; never reused in a run.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct ClientId(pub u64);

/// A question from people (console, REST, command line) or a call, numbered by the host.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct RequestId(pub u64);

/// Where frames are sent: an address between nodes and the core wanted there.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct Endpoint {
    /// `host:port` of the node's inter-node listener.
    pub address: String,
    /// The core that shall receive.
    pub core: CoreId,
}

/// What the dialling side says first on a stream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hello {
    /// The dialler's cluster, 0 while it has none. Streams of another cluster are closed.
    pub cluster: ClusterId,
    /// The dialler.
    pub from: CoreAddress,
    /// Where the dialler can be reached: its own `host:port`.
    pub address: String,
    /// The core that the frames are for.
    pub to_core: CoreId,
    /// Cores of the dialling node.
    pub cores: u16,
    /// Lanes of the dialling node's data directory; with `cores`, says which core holds which shard.
    pub lanes: u16,
}

/// A protocol spoken to clients.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum FrontEnd {
    /// ZooKeeper's.
    Zookeeper,
    /// Redis'.
    Redis,
    /// Kafka's.
    Kafka,
}

impl FrontEnd {
    /// All of them, in the order in which people see them.
    pub const ALL: [Self; 3] = [Self::Zookeeper, Self::Redis, Self::Kafka];

    /// The word for it in configuration keys and flags, as in `listen.zookeeper`.
    pub const fn key(self) -> &'static str {
        match self {
            Self::Zookeeper => "zookeeper",
            Self::Redis => "redis",
            Self::Kafka => "kafka",
        }
    }

    /// What people call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Zookeeper => "ZooKeeper",
            Self::Redis => "Redis",
            Self::Kafka => "Kafka",
        }
    }

    /// The port that its clients expect.
    pub const fn port(self) -> u16 {
        match self {
            Self::Zookeeper => 2181,
            Self::Redis => 6379,
            Self::Kafka => 9092,
        }
    }
}

/// What can happen to a core.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// Time passed. Sent when [`crate::Core::deadline_us`] is reached, and harmless otherwise.
    Tick,
    /// Another core opened a stream to this one.
    PeerOpened {
        /// The stream.
        stream: StreamId,
        /// Its first frame, decoded.
        hello: Hello,
    },
    /// A frame arrived on a stream, in the order in which it was sent.
    PeerFrame {
        /// The stream.
        stream: StreamId,
        /// Whole frame, without its length.
        frame: Bytes,
    },
    /// A stream ended.
    PeerClosed {
        /// The stream.
        stream: StreamId,
    },
    /// The outgoing stream to an endpoint could not be opened or broke: frames sent since the last
    /// successful one may be lost. A later `SendPeer` dials again.
    SendFailed {
        /// The endpoint.
        to: Endpoint,
    },
    /// A client connected.
    ClientOpened {
        /// The connection.
        client: ClientId,
        /// On which front end.
        front: FrontEnd,
        /// Its IP address in text.
        address: String,
        /// Its port.
        port: u16,
    },
    /// Bytes from a client.
    ClientBytes {
        /// The connection.
        client: ClientId,
        /// Any number of them.
        bytes: Bytes,
    },
    /// All that was sent to a client has left this process; asked for by [`Action::AwaitDrain`].
    ClientDrained {
        /// The connection.
        client: ClientId,
    },
    /// A client's connection ended, from its side or because its buffers overflowed.
    ClientClosed {
        /// The connection.
        client: ClientId,
    },
    /// The process is to end: what may wait to be written waits no longer. See [`crate::Core::is_written`].
    Stopping,
    /// A disk operation with a ticket ended.
    DiskDone {
        /// Whose.
        lane: LaneId,
        /// Which.
        ticket: Ticket,
        /// How.
        result: DiskResult,
    },
    /// The room on this node's disks was measured. Sent every few seconds.
    DiskSpace(DiskSpace),
    /// People ask something. Always answered by [`Action::AdminReply`].
    Admin {
        /// To be named in the reply.
        request: RequestId,
        /// What.
        command: AdminCommand,
    },
    /// Somebody calls for a shard. Always answered by [`Action::CallReply`], unless it hangs up.
    Call {
        /// To be named in the reply.
        request: RequestId,
        /// What.
        call: Call,
    },
    /// An [`Action::Probe`] ended, or its time was over.
    Probed {
        /// Which.
        probe: Probe,
        /// What it has seen.
        result: ProbeResult,
    },
    /// Nobody waits for the answer to a call any more. What was called for may be done all the same.
    HungUp {
        /// Which call.
        request: RequestId,
    },
}

/// What a core wants done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// Send a frame on the one ordered stream to an endpoint, dialling if need be.
    SendPeer {
        /// To whom.
        to: Endpoint,
        /// Whole frame, without its length.
        frame: Bytes,
    },
    /// Close an accepted stream.
    ClosePeer {
        /// Which.
        stream: StreamId,
    },
    /// Much is sent to this client with the next [`Action::SendClient`]: however long it takes to read it, keep
    /// it, and say when it is gone ([`Event::ClientDrained`]). Nothing more comes before.
    AwaitDrain {
        /// Whom.
        client: ClientId,
    },
    /// Send bytes to a client.
    SendClient {
        /// To whom.
        client: ClientId,
        /// What.
        bytes: Bytes,
    },
    /// Stop (or resume) reading from a client that has too much under way.
    PauseClient {
        /// Whom.
        client: ClientId,
        /// Stop or resume.
        paused: bool,
    },
    /// Send what is queued, then close the connection.
    CloseClient {
        /// Whose.
        client: ClientId,
    },
    /// Carry out a disk operation, in order within the lane.
    Disk {
        /// Whose.
        lane: LaneId,
        /// What.
        op: DiskOp,
    },
    /// The node is ready to serve clients of this protocol: accept connections from now on.
    OpenFrontEnd(FrontEnd),
    /// The node cannot serve now (it has left, or lost its replica): close the listener's connections and accept none.
    CloseFrontEnd(FrontEnd),
    /// The answer to an [`Event::Admin`].
    AdminReply {
        /// Which.
        request: RequestId,
        /// What.
        reply: AdminReply,
    },
    /// The answer to an [`Event::Call`].
    CallReply {
        /// Which.
        request: RequestId,
        /// What.
        reply: CallReply,
    },
    /// See whether something answers. Always answered by [`Event::Probed`].
    Probe {
        /// To be named in the answer.
        probe: Probe,
        /// Whom to ask.
        target: ProbeTarget,
        /// How long it may take, in microseconds.
        timeout_us: u64,
    },
    /// A line for the log.
    Log {
        /// How important.
        level: Level,
        /// What was attempted, on what, and what happened.
        message: String,
    },
    /// The node has left the cluster, or cannot go on: stop the process with this message.
    Stop {
        /// In words, with what to do.
        reason: String,
        /// True when this was asked for: the node has left.
        orderly: bool,
    },
}

/// Importance of a log line.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Level {
    /// Something is lost or stopped.
    Error,
    /// Something is not as it should be, and is being handled.
    Warn,
    /// A change of role, membership or state.
    Info,
}
