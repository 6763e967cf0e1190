//! Byte forms of groups, for snapshots and digests.

use super::{Committed, Group, Member, Phase, Waiting};
use crate::command::{GroupProtocol, PartitionId, decode_option, encode_option};
use base::{DecodeError, Origin, Reader, Writer};
use bytes::Bytes;
use twox_hash::XxHash64;

impl Group {
    /// Hash of everything.
    pub(crate) fn digest(&self, name: &str) -> u64 {
        let mut w = Writer::new();
        self.encode_head(&mut w, name);
        XxHash64::oneshot(3, w.as_slice()).wrapping_add(
            self.offsets_digest
                .wrapping_mul(XxHash64::oneshot(4, name.as_bytes()) | 1),
        )
    }

    /// Appends the byte form of all but the offsets.
    pub(crate) fn encode_head(&self, w: &mut Writer, name: &str) {
        let phase = match self.phase {
            Phase::Empty => 0,
            Phase::Joining => 1,
            Phase::Syncing => 2,
            Phase::Stable => 3,
        };
        w.str(name).u8(phase).i32(self.generation);
        w.str(&self.protocol_type).str(&self.protocol);
        w.str(&self.leader).i64(self.used_ms);
        w.u32(self.pending.len() as u32);
        for (id, timeout_ms) in &self.pending {
            w.str(id).u32(*timeout_ms);
        }
        w.u32(self.members.len() as u32);
        for (id, member) in &self.members {
            w.str(id);
            encode_member(w, member);
        }
    }

    /// Reads it back.
    pub(crate) fn decode_head(r: &mut Reader<'_>) -> Result<(String, Self), DecodeError> {
        let name = r.str()?.to_owned();
        let mut group = Self::new(0);
        group.phase = match r.u8()? {
            0 => Phase::Empty,
            1 => Phase::Joining,
            2 => Phase::Syncing,
            3 => Phase::Stable,
            _ => return Err(DecodeError::Invalid("phase of a group")),
        };
        group.generation = r.i32()?;
        group.protocol_type = r.str()?.to_owned();
        group.protocol = r.str()?.to_owned();
        group.leader = r.str()?.to_owned();
        group.used_ms = r.i64()?;
        for _ in 0..r.count(8)? {
            let id = r.str()?.to_owned();
            group.pending.insert(id, r.u32()?);
        }
        for _ in 0..r.count(35)? {
            let id = r.str()?.to_owned();
            group.members.insert(id, decode_member(r)?);
        }
        Ok((name, group))
    }
}

/// Appends the byte form of a committed offset.
pub(crate) fn encode_offset(w: &mut Writer, partition: PartitionId, committed: &Committed) {
    partition.encode_into(w);
    w.i64(committed.offset).i32(committed.leader_epoch);
    w.str(&committed.metadata).i64(committed.committed_ms);
}

/// Reads it back.
pub(crate) fn decode_offset(r: &mut Reader<'_>) -> Result<(PartitionId, Committed), DecodeError> {
    let partition = PartitionId::decode_from(r)?;
    let committed = Committed {
        offset: r.i64()?,
        leader_epoch: r.i32()?,
        metadata: r.str()?.to_owned(),
        committed_ms: r.i64()?,
    };
    Ok((partition, committed))
}

pub(super) fn offset_hash(partition: PartitionId, committed: &Committed) -> u64 {
    let mut w = Writer::new();
    encode_offset(&mut w, partition, committed);
    XxHash64::oneshot(5, w.as_slice())
}

fn encode_member(w: &mut Writer, member: &Member) {
    encode_option(w, member.instance.as_deref());
    w.str(&member.client_id).str(&member.client_host);
    w.u32(member.session_timeout_ms);
    w.u32(member.rebalance_timeout_ms);
    w.u32(member.protocols.len() as u32);
    for protocol in &member.protocols {
        w.str(&protocol.name).bytes(&protocol.metadata);
    }
    w.bytes(&member.assignment);
    match member.waiting {
        Waiting::No => {
            w.u8(0);
        }
        Waiting::Join(origin) => {
            w.u8(1);
            origin.encode_into(w);
        }
        Waiting::Sync(origin) => {
            w.u8(2);
            origin.encode_into(w);
        }
    }
}

fn decode_member(r: &mut Reader<'_>) -> Result<Member, DecodeError> {
    Ok(Member {
        instance: decode_option(r)?,
        client_id: r.str()?.to_owned(),
        client_host: r.str()?.to_owned(),
        session_timeout_ms: r.u32()?,
        rebalance_timeout_ms: r.u32()?,
        protocols: (0..r.count(8)?)
            .map(|_| {
                Ok(GroupProtocol {
                    name: r.str()?.to_owned(),
                    metadata: Bytes::copy_from_slice(r.bytes()?),
                })
            })
            .collect::<Result<_, DecodeError>>()?,
        assignment: Bytes::copy_from_slice(r.bytes()?),
        waiting: match r.u8()? {
            0 => Waiting::No,
            1 => Waiting::Join(Origin::decode_from(r)?),
            2 => Waiting::Sync(Origin::decode_from(r)?),
            _ => return Err(DecodeError::Invalid("what a member waits for")),
        },
    })
}
