//! What every room shares: typed ids, time as a value, a seeded generator, the byte codec,
//! bounded queues, and the contracts ([`Machine`], [`Peer`]) that the chapters fulfil.
//!
//! Nothing here knows about sockets, files, threads or clocks.

pub mod algorithm;
pub mod chunk;
pub mod codec;
pub mod digest;
pub mod frames;
pub mod ids;
pub mod image;
pub mod machine;
pub mod map;
pub mod peer;
pub mod planted;
pub mod queue;
pub mod rng;
pub mod slot;
pub mod time;

pub use codec::{DecodeError, Reader, Writer};
pub use digest::Digest;
pub use ids::{
    ClusterId, CoreAddress, CoreId, LaneId, LogIndex, NodeId, Origin, ReplicaId, SessionId,
    ShardId, Term,
};
pub use image::Image;
pub use machine::{ApplyFault, Machine, SnapshotPoll, State};
pub use peer::Peer;
pub use queue::Bounded;
pub use rng::Rng;
pub use time::{Now, Stamp};
