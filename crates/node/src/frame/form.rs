//! The byte form of frames.

use super::*;

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
            Self::Group { group, from, bytes } => {
                w.u8(31).u64(*group).u64(from.0).bytes(bytes);
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
            Self::Look {
                cluster,
                from,
                address,
            } => {
                core(w.u8(32).u64(cluster.0), *from).str(address);
            }
            Self::Stands { cluster } => {
                w.u8(33).u64(cluster.0);
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
            31 => Self::Group {
                group: r.u64()?,
                from: NodeId(r.u64()?),
                bytes: bytes.slice_ref(r.bytes()?),
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
            32 => Self::Look {
                cluster: ClusterId(r.u64()?),
                from: read_core(&mut r)?,
                address: r.str()?.to_owned(),
            },
            33 => Self::Stands {
                cluster: ClusterId(r.u64()?),
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
