//! What cores say to each other: a closed set, in our own byte form.

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
    /// What the sender knows of who is reachable, or wants to know.
    Gossip {
        /// The sender.
        from: NodeId,
        /// What.
        rumor: Rumor,
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
    /// The byte form, behind the sender's cluster (0 while it is of none: a stream may be older than
    /// that). `membership` says where the replicas of a raft message live.
    pub fn encode(&self, cluster: ClusterId, membership: &Membership) -> Bytes {
        let mut w = Writer::new();
        w.u64(cluster.0);
        match self {
            Self::Ping {
                from,
                address,
                sent_us,
            } => {
                w.u8(1);
                core(&mut w, *from).str(address).u64(*sent_us);
            }
            Self::Pong {
                from,
                sent_us,
                wall_ms,
                disk_low,
            } => {
                w.u8(2).u64(from.0).u64(*sent_us).i64(*wall_ms);
                w.bool(*disk_low);
            }
            Self::Raft {
                shard,
                from,
                to,
                message,
                ..
            } => {
                w.u8(3).u64(shard.0).u64(from.0).u64(to.0);
                encode_message(&mut w, message, membership);
            }
            Self::Hibernate {
                shard,
                from,
                term,
                last,
            } => {
                w.u8(4).u64(shard.0).u64(from.0).u64(*term).u64(*last);
            }
            Self::Propose {
                shard,
                term,
                sender,
                number,
                units,
            } => {
                w.u8(5).u64(shard.0).u64(*term).u64(*sender).u64(*number);
                w.u32(units.len() as u32);
                for unit in units {
                    w.bytes(unit);
                }
            }
            Self::ProposeMeta { hops, unit } => {
                w.u8(6).u8(*hops).bytes(unit);
            }
            Self::Touch {
                shard,
                term,
                from,
                sent_us,
                sessions,
            } => {
                w.u8(7).u64(shard.0).u64(*term);
                core(&mut w, *from).u64(*sent_us);
                w.u32(sessions.len() as u32);
                for session in sessions {
                    w.i64(*session);
                }
            }
            Self::Beat {
                shard,
                term,
                from,
                beats,
            } => {
                w.u8(25).u64(shard.0).u64(*term);
                core(&mut w, *from).u32(beats.len() as u32);
                for (number, agent, generation) in beats {
                    w.u64(*number).u64(agent.0).u64(*generation);
                }
            }
            Self::Beaten { shard, heard } => {
                w.u8(26).u64(shard.0).u32(heard.len() as u32);
                for (number, is_known) in heard {
                    w.u64(*number).bool(*is_known);
                }
            }
            Self::Touched { shard, sent_us } => {
                w.u8(8).u64(shard.0).u64(*sent_us);
            }
            Self::Fetch {
                shard,
                from,
                index,
                offset,
                length,
            } => {
                w.u8(9).u64(shard.0);
                core(&mut w, *from).u64(*index).u64(*offset).u32(*length);
            }
            Self::Piece { shard, piece } => {
                w.u8(10).u64(shard.0).u64(piece.index).u64(piece.offset);
                w.u64(piece.total).bytes(&piece.bytes);
            }
            Self::Probe { address } => {
                w.u8(11).str(address);
            }
            Self::Probed { address, fresh } => {
                w.u8(12).str(address).bool(*fresh);
            }
            Self::Join {
                node,
                address,
                observes,
            } => {
                w.u8(13).u64(node.0).str(address).bool(*observes);
            }
            Self::Gone { shard, to, replica } => {
                w.u8(14).u64(shard.0).u64(to.0).u64(replica.0);
            }
            Self::Transfer { shard, to } => {
                w.u8(15).u64(shard.0).u64(to.0);
            }
            Self::Catalog { index, bytes } => {
                w.u8(16).u64(*index).bytes(bytes);
            }
            Self::Report { hops, report } => {
                w.u8(17).u8(*hops).u64(report.shard.0).u64(report.term);
                w.u32(report.voters).u32(report.released.len() as u32);
                for node in &report.released {
                    w.u64(node.0);
                }
            }
            Self::Tell { shard, unit } => {
                w.u8(22).u64(shard.0).bytes(unit);
            }
            Self::Publish { channel, message } => {
                w.u8(18).bytes(channel).bytes(message);
            }
            Self::About {
                from,
                machine_version,
                addresses,
            } => {
                w.u8(19).u64(from.0).u16(*machine_version);
                w.u32(addresses.len() as u32);
                for (front, address) in addresses {
                    w.str(front).str(address);
                }
            }
            Self::AskRegistry { from, token } => {
                core(w.u8(23), *from).u64(*token);
            }
            Self::Registry {
                bytes,
                answers,
                reached,
            } => {
                w.u8(24).bytes(bytes).u32(answers.len() as u32);
                for (token, answer) in answers {
                    w.u64(*token).bytes(answer);
                }
                w.u32(reached.len() as u32);
                for token in reached {
                    w.u64(*token);
                }
            }
            Self::Holds { from, held } => {
                core(w.u8(20), *from).u32(held.len() as u32);
                for Held { shard, term, leads } in held {
                    w.u64(shard.0).u64(*term).bool(*leads);
                }
            }
            Self::Follow {
                shard,
                from,
                address,
                index,
                bytes_max,
            } => {
                core(w.u8(28).u64(shard.0), *from).str(address);
                w.u64(*index).u64(*bytes_max);
            }
            Self::Followed {
                shard,
                cluster,
                layout,
                addresses,
                commit,
                snapshot,
                entries,
            } => {
                w.u8(29).u64(shard.0).u64(cluster.0).u64(*layout);
                w.u64(*commit).u64(*snapshot).u32(addresses.len() as u32);
                for address in addresses {
                    w.str(address);
                }
                w.u32(entries.len() as u32);
                for (index, data) in entries {
                    w.u64(*index).bytes(data);
                }
            }
            Self::Superseded { cluster, by } => {
                w.u8(30).u64(cluster.0).str(by);
            }
            Self::Gossip { from, rumor } => {
                rumor.encode_into(w.u8(27).u64(from.0));
            }
            Self::Link(parcel) => {
                core(w.u8(21), parcel.from).u64(parcel.to.0);
                w.u64(parcel.link).bool(parcel.back).u64(parcel.number);
                parcel.step.encode_into(&mut w);
            }
        }
        w.into_bytes()
    }

    /// Reads the sender's cluster and the frame.
    pub fn decode(bytes: &Bytes) -> Result<(ClusterId, Self), DecodeError> {
        let mut r = Reader::new(bytes);
        let cluster = ClusterId(r.u64()?);
        let frame = match r.u8()? {
            1 => Self::Ping {
                from: read_core(&mut r)?,
                address: r.str()?.to_owned(),
                sent_us: r.u64()?,
            },
            2 => Self::Pong {
                from: NodeId(r.u64()?),
                sent_us: r.u64()?,
                wall_ms: r.i64()?,
                disk_low: r.bool()?,
            },
            3 => {
                let shard = ShardId(r.u64()?);
                let (from, to) = (NodeId(r.u64()?), NodeId(r.u64()?));
                let (message, at_cut) = decode_message(&mut r, bytes)?;
                Self::Raft {
                    shard,
                    from,
                    to,
                    message: Box::new(message),
                    at_cut: at_cut.map(Box::new),
                }
            }
            4 => Self::Hibernate {
                shard: ShardId(r.u64()?),
                from: ReplicaId(r.u64()?),
                term: r.u64()?,
                last: r.u64()?,
            },
            5 => {
                let (shard, term) = (ShardId(r.u64()?), r.u64()?);
                let (sender, number) = (r.u64()?, r.u64()?);
                let n = r.count(4)?;
                let mut units = Vec::with_capacity(n);
                for _ in 0..n {
                    units.push(bytes.slice_ref(r.bytes()?));
                }
                Self::Propose {
                    shard,
                    term,
                    sender,
                    number,
                    units,
                }
            }
            6 => Self::ProposeMeta {
                hops: r.u8()?,
                unit: bytes.slice_ref(r.bytes()?),
            },
            7 => {
                let (shard, term) = (ShardId(r.u64()?), r.u64()?);
                let (from, sent_us) = (read_core(&mut r)?, r.u64()?);
                let n = r.count(8)?;
                let mut sessions = Vec::with_capacity(n);
                for _ in 0..n {
                    sessions.push(r.i64()?);
                }
                Self::Touch {
                    shard,
                    term,
                    from,
                    sent_us,
                    sessions,
                }
            }
            25 => Self::Beat {
                shard: ShardId(r.u64()?),
                term: r.u64()?,
                from: read_core(&mut r)?,
                beats: (0..r.count(24)?)
                    .map(|_| Ok((r.u64()?, AgentId(r.u64()?), r.u64()?)))
                    .collect::<Result<_, DecodeError>>()?,
            },
            26 => Self::Beaten {
                shard: ShardId(r.u64()?),
                heard: (0..r.count(9)?)
                    .map(|_| Ok((r.u64()?, r.bool()?)))
                    .collect::<Result<_, DecodeError>>()?,
            },
            8 => Self::Touched {
                shard: ShardId(r.u64()?),
                sent_us: r.u64()?,
            },
            9 => Self::Fetch {
                shard: ShardId(r.u64()?),
                from: read_core(&mut r)?,
                index: r.u64()?,
                offset: r.u64()?,
                length: r.u32()?,
            },
            10 => Self::Piece {
                shard: ShardId(r.u64()?),
                piece: SnapshotPiece {
                    index: r.u64()?,
                    offset: r.u64()?,
                    total: r.u64()?,
                    bytes: bytes.slice_ref(r.bytes()?),
                },
            },
            11 => Self::Probe {
                address: r.str()?.to_owned(),
            },
            12 => Self::Probed {
                address: r.str()?.to_owned(),
                fresh: r.bool()?,
            },
            13 => Self::Join {
                node: NodeId(r.u64()?),
                address: r.str()?.to_owned(),
                observes: r.bool()?,
            },
            14 => Self::Gone {
                shard: ShardId(r.u64()?),
                to: NodeId(r.u64()?),
                replica: ReplicaId(r.u64()?),
            },
            15 => Self::Transfer {
                shard: ShardId(r.u64()?),
                to: NodeId(r.u64()?),
            },
            22 => Self::Tell {
                shard: ShardId(r.u64()?),
                unit: bytes.slice_ref(r.bytes()?),
            },
            18 => Self::Publish {
                channel: Bytes::copy_from_slice(r.bytes()?),
                message: Bytes::copy_from_slice(r.bytes()?),
            },
            19 => Self::About {
                from: NodeId(r.u64()?),
                machine_version: r.u16()?,
                addresses: (0..r.count(8)?)
                    .map(|_| Ok((r.str()?.to_owned(), r.str()?.to_owned())))
                    .collect::<Result<_, DecodeError>>()?,
            },
            23 => Self::AskRegistry {
                from: read_core(&mut r)?,
                token: r.u64()?,
            },
            24 => Self::Registry {
                bytes: bytes.slice_ref(r.bytes()?),
                answers: (0..r.count(12)?)
                    .map(|_| Ok((r.u64()?, bytes.slice_ref(r.bytes()?))))
                    .collect::<Result<_, DecodeError>>()?,
                reached: (0..r.count(8)?)
                    .map(|_| r.u64())
                    .collect::<Result<_, DecodeError>>()?,
            },
            20 => Self::Holds {
                from: read_core(&mut r)?,
                held: (0..r.count(17)?)
                    .map(|_| {
                        Ok(Held {
                            shard: ShardId(r.u64()?),
                            term: r.u64()?,
                            leads: r.bool()?,
                        })
                    })
                    .collect::<Result<_, DecodeError>>()?,
            },
            21 => Self::Link(Parcel {
                from: read_core(&mut r)?,
                to: NodeId(r.u64()?),
                link: r.u64()?,
                back: r.bool()?,
                number: r.u64()?,
                step: Step::decode_from(&mut r, bytes)?,
            }),
            16 => Self::Catalog {
                index: r.u64()?,
                bytes: bytes.slice_ref(r.bytes()?),
            },
            17 => {
                let hops = r.u8()?;
                let (shard, term) = (ShardId(r.u64()?), r.u64()?);
                let voters = r.u32()?;
                let n = r.count(8)?;
                let mut released = Vec::with_capacity(n);
                for _ in 0..n {
                    released.push(NodeId(r.u64()?));
                }
                let report = Report {
                    shard,
                    term,
                    voters,
                    released,
                };
                Self::Report { hops, report }
            }
            28 => Self::Follow {
                shard: ShardId(r.u64()?),
                from: read_core(&mut r)?,
                address: r.str()?.to_owned(),
                index: r.u64()?,
                bytes_max: r.u64()?,
            },
            29 => {
                let (shard, cluster) = (ShardId(r.u64()?), ClusterId(r.u64()?));
                let layout = r.u64()?;
                let (commit, snapshot) = (r.u64()?, r.u64()?);
                let mut addresses = Vec::new();
                for _ in 0..r.count(4)? {
                    addresses.push(r.str()?.to_owned());
                }
                let mut entries = Vec::new();
                for _ in 0..r.count(12)? {
                    entries.push((r.u64()?, bytes.slice_ref(r.bytes()?)));
                }
                Self::Followed {
                    shard,
                    cluster,
                    layout,
                    addresses,
                    commit,
                    snapshot,
                    entries,
                }
            }
            30 => Self::Superseded {
                cluster: ClusterId(r.u64()?),
                by: r.str()?.to_owned(),
            },
            27 => Self::Gossip {
                from: NodeId(r.u64()?),
                rumor: Rumor::decode_from(&mut r)?,
            },
            _ => return Err(DecodeError::Invalid("frame kind")),
        };
        r.finish()?;
        Ok((cluster, frame))
    }

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
            | Self::Superseded { .. }
            | Self::Probe { .. }
            | Self::Probed { .. } => Some(catalog::META_SHARD),
            Self::Ping { .. } | Self::Pong { .. } | Self::Catalog { .. } => None,
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
        )
    }
}

fn core(w: &mut Writer, address: CoreAddress) -> &mut Writer {
    w.u64(address.node.0).u16(address.core.0)
}

fn read_core(r: &mut Reader<'_>) -> Result<CoreAddress, DecodeError> {
    Ok(CoreAddress {
        node: NodeId(r.u64()?),
        core: CoreId(r.u16()?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(step: Step) -> Frame {
        Frame::Link(Parcel {
            from: CoreAddress {
                node: NodeId(1),
                core: CoreId(2),
            },
            to: NodeId(3),
            link: 4,
            back: true,
            number: 5,
            step,
        })
    }

    fn samples() -> Vec<Frame> {
        let from = CoreAddress {
            node: NodeId(1),
            core: CoreId(2),
        };
        let (shard, to) = (ShardId(3), NodeId(4));
        let text = || "127.0.0.1:7401".to_owned();
        let mut message = Message::default();
        message.set_msg_type(replication::raft::MessageType::MsgHeartbeat);
        vec![
            Frame::Ping {
                from,
                address: text(),
                sent_us: 5,
            },
            Frame::Pong {
                from: to,
                sent_us: 5,
                wall_ms: -6,
                disk_low: true,
            },
            Frame::Raft {
                shard,
                from: to,
                to,
                message: Box::new(message),
                at_cut: None,
            },
            Frame::Hibernate {
                shard,
                from: ReplicaId(9),
                term: 1,
                last: 2,
            },
            Frame::Propose {
                shard,
                term: 1,
                sender: 2,
                number: 3,
                units: vec![Bytes::from_static(b"u")],
            },
            Frame::ProposeMeta {
                hops: 1,
                unit: Bytes::from_static(b"u"),
            },
            Frame::Report {
                hops: 1,
                report: Report {
                    shard,
                    term: 2,
                    voters: 3,
                    released: vec![to],
                },
            },
            Frame::Touch {
                shard,
                term: 1,
                from,
                sent_us: 7,
                sessions: vec![-8],
            },
            Frame::Touched { shard, sent_us: 7 },
            Frame::Beat {
                shard,
                term: 1,
                from,
                beats: vec![(7, AgentId(8), 9)],
            },
            Frame::Beaten {
                shard,
                heard: vec![(7, true)],
            },
            Frame::Fetch {
                shard,
                from,
                index: 1,
                offset: 2,
                length: 3,
            },
            Frame::Piece {
                shard,
                piece: SnapshotPiece {
                    index: 1,
                    offset: 2,
                    total: 3,
                    bytes: Bytes::new(),
                },
            },
            Frame::Probe { address: text() },
            Frame::Probed {
                address: text(),
                fresh: true,
            },
            Frame::Join {
                node: to,
                address: text(),
                observes: true,
            },
            Frame::Gone {
                shard,
                to,
                replica: ReplicaId(1),
            },
            Frame::Transfer { shard, to },
            Frame::Publish {
                channel: Bytes::from_static(b"news"),
                message: Bytes::from_static(b"m"),
            },
            Frame::About {
                from: NodeId(1),
                machine_version: 2,
                addresses: BTreeMap::from([("redis".to_owned(), text())]),
            },
            Frame::Tell {
                shard,
                unit: Bytes::from_static(b"t"),
            },
            Frame::Follow {
                shard,
                from,
                address: text(),
                index: 7,
                bytes_max: 8,
            },
            Frame::Followed {
                shard,
                cluster: ClusterId(5),
                layout: 6,
                addresses: vec![text()],
                commit: 9,
                snapshot: 7,
                entries: vec![(8, Bytes::from_static(b"e"))],
            },
            Frame::Superseded {
                cluster: ClusterId(5),
                by: text(),
            },
            Frame::Gossip {
                from: to,
                rumor: Rumor::Digest(BTreeMap::from([(to, Default::default())])),
            },
            Frame::Catalog {
                index: 1,
                bytes: Bytes::from_static(b"c"),
            },
            Frame::Holds {
                from,
                held: vec![Held {
                    shard,
                    term: 4,
                    leads: true,
                }],
            },
            link(Step::Open {
                front: crate::FrontEnd::Kafka,
                address: text(),
            }),
            link(Step::Bytes(Bytes::from_static(b"b"))),
            link(Step::Await),
            Frame::AskRegistry { from, token: 5 },
            Frame::Registry {
                bytes: Bytes::from_static(b"r"),
                answers: vec![(6, Bytes::from_static(b"a"))],
                reached: vec![7],
            },
            link(Step::Drained),
            link(Step::Close),
        ]
    }

    #[test]
    fn frames_survive_their_byte_form_and_refuse_cuts() {
        for frame in samples() {
            let bytes = frame.encode(ClusterId(9), &Membership::default());
            assert_eq!(Frame::decode(&bytes), Ok((ClusterId(9), frame)));
            for cut in 0..bytes.len() {
                assert!(Frame::decode(&bytes.slice(..cut)).is_err());
            }
        }
    }

    #[test]
    fn mutated_frames_are_refused_or_read_never_more() {
        let mut rng = base::Rng::new(3);
        for frame in samples() {
            let good = frame.encode(ClusterId(9), &Membership::default());
            for _ in 0..2_000 {
                let mut bad = good.to_vec();
                let at = rng.range(0, bad.len() as u64) as usize;
                bad[at] = rng.next_u64() as u8;
                let _ = Frame::decode(&Bytes::from(bad));
            }
        }
    }
}
