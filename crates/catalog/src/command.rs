//! What may be asked of the catalog.

use crate::pool::PoolSpec;
use base::{ClusterId, DecodeError, NodeId, Reader, ReplicaId, ShardId, Writer};
use bytes::Bytes;

/// Everything that the meta log may hold.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CatalogCommand {
    /// The first entry of a cluster's first log: it exists, and its founder holds the first replicas.
    Form {
        /// The new cluster.
        cluster: ClusterId,
        /// The founder.
        node: NodeId,
        /// Its `host:port` between nodes.
        address: String,
        /// How many nodes were named at the start; clients are served once so many vote.
        initial_members: u32,
        /// Its pools: `main`, and others; the tree has a shard of its own in `main`.
        pools: Vec<PoolSpec>,
        /// Of which pool cache keys are.
        cache_pool: String,
    },
    /// A node asks to be a member. Repeating it is harmless; another node at the same address is replaced by it.
    Admit {
        /// The node.
        node: NodeId,
        /// Its `host:port` between nodes.
        address: String,
        /// Whether it is to follow for ever, without a vote.
        observes: bool,
    },
    /// A member is to go; its replicas go first.
    Leave {
        /// The node.
        node: NodeId,
    },
    /// A leaving member holds nothing any more.
    Forget {
        /// The node.
        node: NodeId,
    },
    /// A replica has lost its log: a new one, with a new id, takes its place on the same node.
    ReplaceReplica {
        /// Of which shard.
        shard: ShardId,
        /// The lost one.
        replica: ReplicaId,
    },
    /// All initial members vote: the cluster may serve.
    Formed,
    /// The cluster is a stand-by of another. Repeated when that one's members change; nothing once promoted.
    Follow {
        /// The other one; 0 while it was not heard.
        cluster: ClusterId,
        /// Inter-node addresses of its nodes.
        addresses: Vec<String>,
    },
    /// The stand-by takes the place of the cluster that it followed.
    Promote,
    /// A stand-by of this cluster took its place.
    Supersede {
        /// Which one and where, for people.
        by: String,
    },
    /// A node of a stand-by follows this cluster: it is asked whether it took its place, before clients are served.
    FollowedBy {
        /// Its inter-node address.
        address: String,
    },
    /// A switch of the gateways is set, or, without a value, removed.
    SetSwitch {
        /// Whose: a route's name.
        name: String,
        /// To what.
        value: String,
    },
    /// These nodes are to run a protocol among equals; nothing when there is a group of this name.
    CreateGroup {
        /// For people.
        name: String,
        /// By its name.
        protocol: String,
        /// In the order of their peers' numbers, from 1 on.
        nodes: Vec<NodeId>,
    },
    /// A group is over.
    DeleteGroup {
        /// Its name.
        name: String,
    },
}

impl CatalogCommand {
    /// The byte form.
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        match self {
            Self::Form {
                cluster,
                node,
                address,
                initial_members,
                pools,
                cache_pool,
            } => {
                w.u8(1).u64(cluster.0).u64(node.0).str(address);
                w.u32(*initial_members).u32(pools.len() as u32);
                pools.iter().for_each(|pool| pool.encode_into(&mut w));
                w.str(cache_pool);
            }
            Self::Admit {
                node,
                address,
                observes,
            } => {
                let kind = if *observes { 8 } else { 2 };
                w.u8(kind).u64(node.0).str(address);
            }
            Self::Leave { node } => {
                w.u8(3).u64(node.0);
            }
            Self::Forget { node } => {
                w.u8(4).u64(node.0);
            }
            Self::ReplaceReplica { shard, replica } => {
                w.u8(5).u64(shard.0).u64(replica.0);
            }
            Self::Formed => {
                w.u8(6);
            }
            Self::Follow { cluster, addresses } => {
                w.u8(9).u64(cluster.0).u32(addresses.len() as u32);
                addresses.iter().for_each(|address| {
                    w.str(address);
                });
            }
            Self::Promote => {
                w.u8(10);
            }
            Self::Supersede { by } => {
                w.u8(11).str(by);
            }
            Self::FollowedBy { address } => {
                w.u8(14).str(address);
            }
            Self::SetSwitch { name, value } => {
                w.u8(7).str(name).str(value);
            }
            Self::CreateGroup {
                name,
                protocol,
                nodes,
            } => {
                w.u8(12).str(name).str(protocol).u32(nodes.len() as u32);
                nodes.iter().for_each(|node| {
                    w.u64(node.0);
                });
            }
            Self::DeleteGroup { name } => {
                w.u8(13).str(name);
            }
        }
        w.into_vec()
    }

    /// Reads the byte form.
    pub fn decode(bytes: &Bytes) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        let command = match r.u8()? {
            1 => Self::Form {
                cluster: ClusterId(r.u64()?),
                node: NodeId(r.u64()?),
                address: r.str()?.to_owned(),
                initial_members: r.u32()?,
                pools: (0..r.count(8)?)
                    .map(|_| PoolSpec::decode_from(&mut r))
                    .collect::<Result<_, _>>()?,
                cache_pool: r.str()?.to_owned(),
            },
            kind @ (2 | 8) => Self::Admit {
                node: NodeId(r.u64()?),
                address: r.str()?.to_owned(),
                observes: kind == 8,
            },
            3 => Self::Leave {
                node: NodeId(r.u64()?),
            },
            4 => Self::Forget {
                node: NodeId(r.u64()?),
            },
            5 => Self::ReplaceReplica {
                shard: ShardId(r.u64()?),
                replica: ReplicaId(r.u64()?),
            },
            6 => Self::Formed,
            9 => Self::Follow {
                cluster: ClusterId(r.u64()?),
                addresses: (0..r.count(4)?)
                    .map(|_| Ok(r.str()?.to_owned()))
                    .collect::<Result<_, DecodeError>>()?,
            },
            10 => Self::Promote,
            11 => Self::Supersede {
                by: r.str()?.to_owned(),
            },
            14 => Self::FollowedBy {
                address: r.str()?.to_owned(),
            },
            7 => Self::SetSwitch {
                name: r.str()?.to_owned(),
                value: r.str()?.to_owned(),
            },
            12 => Self::CreateGroup {
                name: r.str()?.to_owned(),
                protocol: r.str()?.to_owned(),
                nodes: (0..r.count(8)?)
                    .map(|_| Ok(NodeId(r.u64()?)))
                    .collect::<Result<_, DecodeError>>()?,
            },
            13 => Self::DeleteGroup {
                name: r.str()?.to_owned(),
            },
            _ => return Err(DecodeError::Invalid("catalog command")),
        };
        r.finish()?;
        Ok(command)
    }
}
