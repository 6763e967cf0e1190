//! Identities. Cluster, node, shard and replica ids are 64 bits and are never reused.

use crate::{DecodeError, Reader, Writer};
use std::fmt;

/// Position of an entry in a shard's log, from 1.
pub type LogIndex = u64;
/// Raft's term: a logical clock of leaderships.
pub type Term = u64;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty), $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{:x}"), self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

id!(
    /// A cluster; 0 means "not yet of any cluster".
    ClusterId(u64), "cluster-"
);
id!(
    /// One life of one data directory. A wiped directory comes back under another id.
    NodeId(u64), "n"
);
id!(
    /// A replicated machine.
    ShardId(u64), "s"
);
id!(
    /// One copy of one shard. A copy that lost its log comes back under another id.
    ReplicaId(u64), "r"
);
id!(
    /// A core of a node, from 0.
    CoreId(u16), "c"
);
id!(
    /// A journal lane of a data directory, from 0; their number is fixed when the directory is made.
    LaneId(u16), "lane-"
);
id!(
    /// A replicated client session; 0 means none.
    SessionId(i64), "0x"
);

/// Where a core is: every address carries one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct CoreAddress {
    /// The node.
    pub node: NodeId,
    /// The core on it.
    pub core: CoreId,
}

/// Where the answer to a command goes that no replicated session stands behind: a core, and a number of
/// its own choosing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Origin {
    /// The core whose connection this is.
    pub home: CoreAddress,
    /// The home's own number for what waits, unique across restarts.
    pub token: u64,
}

impl Origin {
    /// Appends the byte form.
    pub fn encode_into(&self, w: &mut Writer) {
        w.u64(self.home.node.0).u16(self.home.core.0);
        w.u64(self.token);
    }

    /// Reads the byte form.
    pub fn decode_from(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            home: CoreAddress {
                node: NodeId(r.u64()?),
                core: CoreId(r.u16()?),
            },
            token: r.u64()?,
        })
    }
}
