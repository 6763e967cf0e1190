//! What cores say to each other: a closed set, in our own byte form.

mod form;
#[cfg(test)]
mod tests;

use crate::holders::Held;
use crate::links::{Parcel, Step};
use crate::reports::Report;
use base::{
    ClusterId, CoreAddress, CoreId, DecodeError, LogIndex, NodeId, Reader, ReplicaId, ShardId,
    Term, Writer,
};
use bytes::Bytes;
use cluster::gossip::Rumor;
use replication::raft::{Membership, Message, decode_message, encode_message};
use scheduling::AgentId;
use shard::SnapshotPiece;
use std::collections::BTreeMap;

/// A frame between cores.
#[derive(Clone, PartialEq, Debug)]
pub enum Frame {
    /// "I am here, and my wall clock says this." Answered by a `Pong`.
    Ping {
        /// The sender.
        from: CoreAddress,
        /// Where to answer.
        address: String,
        /// The sender's monotonic clock, microseconds; comes back as it is.
        sent_us: u64,
    },
    /// The answer to a `Ping`.
    Pong {
        /// Who answers.
        from: NodeId,
        /// As it came.
        sent_us: u64,
        /// The answerer's wall clock, milliseconds.
        wall_ms: i64,
        /// The answerer's disk is nearly full.
        disk_low: bool,
    },
    /// A raft message for the replica named in it, on the node named here.
    Raft {
        /// Of which shard.
        shard: ShardId,
        /// The node of the sending replica.
        from: NodeId,
        /// The node meant: a replica of another node at the same address must not get it.
        to: NodeId,
        /// The message.
        message: Box<Message>,
        /// With a snapshot: the membership at its cut.
        at_cut: Option<Box<Membership>>,
    },
    /// The leader says that the group sleeps.
    Hibernate {
        /// Of which shard.
        shard: ShardId,
        /// The leader.
        from: ReplicaId,
        /// In which term.
        term: Term,
        /// With which last index.
        last: LogIndex,
    },
    /// Units for the leader of this term.
    Propose {
        /// Of which shard.
        shard: ShardId,
        /// The term in which the sender saw it lead.
        term: Term,
        /// Drawn by the sending core when it started.
        sender: u64,
        /// The sender's count of these frames, from 1: whatever comes twice is taken once.
        number: u64,
        /// In order.
        units: Vec<Bytes>,
    },
    /// A unit for the meta shard's leader, passed on at most a few times.
    ProposeMeta {
        /// Times it may still be passed on.
        hops: u8,
        /// The unit.
        unit: Bytes,
    },
    /// How far a shard's group is, for the meta shard's leader, passed on at most a few times.
    Report {
        /// Times it may still be passed on.
        hops: u8,
        /// What its leader says.
        report: Report,
    },
    /// These sessions were heard from. Answered by `Touched`.
    Touch {
        /// Of which shard.
        shard: ShardId,
        /// In which term the sender saw it lead.
        term: Term,
        /// The sender.
        from: CoreAddress,
        /// The sender's monotonic clock, microseconds.
        sent_us: u64,
        /// The sessions.
        sessions: Vec<i64>,
    },
    /// The leader has taken a `Touch`.
    Touched {
        /// Of which shard.
        shard: ShardId,
        /// As it came.
        sent_us: u64,
    },
    /// These agents were heard from. Answered by `Beaten`.
    Beat {
        /// The shard that holds jobs.
        shard: ShardId,
        /// In which term the sender saw it lead.
        term: Term,
        /// The sender.
        from: CoreAddress,
        /// The sender's number for each, the agent, and its generation.
        beats: Vec<(u64, AgentId, u64)>,
    },
    /// The leader has heard of a `Beat`.
    Beaten {
        /// The shard that holds jobs.
        shard: ShardId,
        /// The sender's number for each, and whether there is such an agent.
        heard: Vec<(u64, bool)>,
    },
    /// Ask for a piece of a snapshot.
    Fetch {
        /// Of which shard.
        shard: ShardId,
        /// The sender.
        from: CoreAddress,
        /// Which snapshot.
        index: LogIndex,
        /// From where, bytes.
        offset: u64,
        /// At most so many bytes.
        length: u32,
    },
    /// A piece of a snapshot.
    Piece {
        /// Of which shard.
        shard: ShardId,
        /// The piece.
        piece: SnapshotPiece,
    },
    /// "Are you of a cluster?"
    Probe {
        /// Where to answer.
        address: String,
    },
    /// The answer to a `Probe`: the stream's greeting says of which cluster.
    Probed {
        /// Who answers, by address.
        address: String,
        /// True while it is of none and waits to form one.
        fresh: bool,
    },
    /// "I want to be a member."
    Join {
        /// The node.
        node: NodeId,
        /// Its address.
        address: String,
        /// Whether it wants to follow without a vote.
        observes: bool,
    },
    /// "That replica of yours has been removed."
    Gone {
        /// Of which shard.
        shard: ShardId,
        /// The node meant.
        to: NodeId,
        /// Which replica.
        replica: ReplicaId,
    },
    /// Hand over the leadership of a shard; for its leader.
    Transfer {
        /// Of which shard.
        shard: ShardId,
        /// To the replica on this node.
        to: NodeId,
    },
    /// A message for whoever has subscribed to a channel on the receiving node.
    Publish {
        /// Where it was published.
        channel: Bytes,
        /// What.
        message: Bytes,
    },
    /// What others should know of the sender.
    About {
        /// The sender.
        from: NodeId,
        /// The machine version that it can apply.
        machine_version: u16,
        /// Where clients reach it, by the key of each protocol: `host:port`.
        addresses: BTreeMap<String, String>,
    },
    /// Between cores of one node: a unit of a transaction for the shard's leader, whoever that is. It may be lost.
    Tell {
        /// Which shard.
        shard: ShardId,
        /// The unit.
        unit: Bytes,
    },
    /// Which shards the sender can serve.
    Holds {
        /// The sender.
        from: CoreAddress,
        /// All of them.
        held: Vec<Held>,
    },
    /// A step of a link.
    Link(Parcel),
    /// Between cores of one node: asks the one that holds the tree for the registry of topics as it is now.
    AskRegistry {
        /// Who asks.
        from: CoreAddress,
        /// Comes back.
        token: u64,
    },
    /// Between cores of one node: the registry of topics.
    Registry {
        /// Its byte form.
        bytes: Bytes,
        /// Answers to what the receiver proposed, by its tokens.
        answers: Vec<(u64, Bytes)>,
        /// Tokens of its questions that this is the answer to.
        reached: Vec<u64>,
    },
    /// "What is new behind this index?", of a node of a stand-by. Answered by `Followed`.
    Follow {
        /// Of which shard.
        shard: ShardId,
        /// Who asks.
        from: CoreAddress,
        /// Where to answer.
        address: String,
        /// The first entry that is not there.
        index: LogIndex,
        /// Entries of at most so many bytes; 0: none.
        bytes_max: u64,
    },
    /// The answer to a `Follow`.
    Followed {
        /// Of which shard.
        shard: ShardId,
        /// The answerer's cluster.
        cluster: ClusterId,
        /// Its shards and slots, as a hash.
        layout: u64,
        /// Inter-node addresses of its members.
        addresses: Vec<String>,
        /// As far as is known committed.
        commit: LogIndex,
        /// Where the entries are not in memory any more: a snapshot that can be fetched, else 0.
        snapshot: LogIndex,
        /// Index and content, in order.
        entries: Vec<(LogIndex, Bytes)>,
    },
    /// A stand-by took the place of a cluster.
    Superseded {
        /// Of this one.
        cluster: ClusterId,
        /// Which one and where, for people.
        by: String,
    },
    /// "Have you taken my cluster's place?", of a node of a primary to one of a stand-by. Answered by `Superseded`, or by
    /// `Stands` of who leads there.
    Look {
        /// The asker's cluster.
        cluster: ClusterId,
        /// Who asks.
        from: CoreAddress,
        /// Where to answer.
        address: String,
    },
    /// A stand-by's answer to `Look`: it has not been promoted.
    Stands {
        /// The cluster that it follows.
        cluster: ClusterId,
    },
    /// What the sender knows of who is reachable, or wants to know.
    Gossip {
        /// The sender.
        from: NodeId,
        /// What.
        rumor: Rumor,
    },
    /// What a member of a group tells another.
    Group {
        /// The group's number.
        group: u64,
        /// The sender.
        from: NodeId,
        /// As the group's members write it.
        bytes: Bytes,
    },
    /// Between cores of one node: the catalog as of an applied index.
    Catalog {
        /// Applied up to here.
        index: LogIndex,
        /// Its byte form.
        bytes: Bytes,
    },
}

impl Frame {
    /// The shard whose core shall get the frame; `None`: any core.
    pub fn shard(&self) -> Option<ShardId> {
        match self {
            Self::Raft { shard, .. }
            | Self::Hibernate { shard, .. }
            | Self::Propose { shard, .. }
            | Self::Touch { shard, .. }
            | Self::Touched { shard, .. }
            | Self::Beat { shard, .. }
            | Self::Beaten { shard, .. }
            | Self::Fetch { shard, .. }
            | Self::Piece { shard, .. }
            | Self::Follow { shard, .. }
            | Self::Followed { shard, .. }
            | Self::Gone { shard, .. }
            | Self::Transfer { shard, .. }
            | Self::Tell { shard, .. } => Some(*shard),
            Self::ProposeMeta { .. }
            | Self::Report { .. }
            | Self::Join { .. }
            | Self::Gossip { .. }
            | Self::Group { .. }
            | Self::Superseded { .. }
            | Self::Look { .. }
            | Self::Probe { .. }
            | Self::Probed { .. } => Some(catalog::META_SHARD),
            Self::Ping { .. } | Self::Pong { .. } | Self::Catalog { .. } => None,
            Self::Stands { .. } => None,
            Self::Publish { .. } | Self::About { .. } => None,
            Self::Holds { .. } | Self::Link(_) | Self::Registry { .. } => None,
            Self::AskRegistry { .. } => Some(catalog::TREE_SHARD),
        }
    }

    /// What a node that is of no cluster may be told and may say.
    pub fn is_for_strangers(&self) -> bool {
        matches!(
            self,
            Self::Ping { .. }
                | Self::Pong { .. }
                | Self::Probe { .. }
                | Self::Probed { .. }
                | Self::Join { .. }
                // Between a stand-by and its primary.
                | Self::Follow { .. }
                | Self::Followed { .. }
                | Self::Fetch { .. }
                | Self::Piece { .. }
                | Self::Superseded { .. }
                | Self::Look { .. }
                | Self::Stands { .. }
        )
    }
}
