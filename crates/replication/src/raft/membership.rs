//! Who is in a group, and changes of that, in our own byte form.

use base::{DecodeError, NodeId, Reader, ReplicaId, Writer};
use raft::eraftpb::{ConfChangeSingle, ConfChangeType, ConfChangeV2, ConfState};
use std::collections::BTreeMap;

/// A replica and where it lives.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Replica {
    /// Its id in the group.
    pub id: ReplicaId,
    /// The node that holds it.
    pub node: NodeId,
    /// The node's address (`host:port` between nodes) when the replica was added; the catalog knows better.
    pub address: String,
}

/// Raft's configuration with the places of its replicas.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Membership {
    /// Voters, learners, and the outgoing half of a joint configuration.
    pub conf: ConfState,
    /// Where each of them lives.
    pub replicas: BTreeMap<ReplicaId, Replica>,
}

impl Membership {
    /// A group of one voter.
    pub fn single(replica: Replica) -> Self {
        let mut conf = ConfState::default();
        conf.voters.push(replica.id.0);
        Self {
            conf,
            replicas: BTreeMap::from([(replica.id, replica)]),
        }
    }

    /// True while a change is half done.
    pub fn is_joint(&self) -> bool {
        !self.conf.voters_outgoing.is_empty()
    }

    /// True for voters of the incoming or only configuration.
    pub fn is_voter(&self, id: ReplicaId) -> bool {
        self.conf.voters.contains(&id.0)
    }

    /// True when the replica counts in any part of the configuration.
    pub fn contains(&self, id: ReplicaId) -> bool {
        self.all_ids().any(|i| i == id.0)
    }

    fn all_ids(&self) -> impl Iterator<Item = u64> + '_ {
        let c = &self.conf;
        let parts = [&c.voters, &c.learners, &c.voters_outgoing, &c.learners_next];
        parts.into_iter().flatten().copied()
    }

    /// Takes the crate's new configuration; forgets the places of replicas that are out.
    pub fn set_conf(&mut self, conf: ConfState) {
        self.conf = conf;
        let inside: Vec<u64> = self.all_ids().collect();
        self.replicas.retain(|id, _| inside.contains(&id.0));
    }

    /// Appends the byte form.
    pub fn encode(&self, w: &mut Writer) {
        let c = &self.conf;
        for part in [&c.voters, &c.learners, &c.voters_outgoing, &c.learners_next] {
            w.u32(part.len() as u32);
            for id in part {
                w.u64(*id);
            }
        }
        w.bool(c.auto_leave).u32(self.replicas.len() as u32);
        for replica in self.replicas.values() {
            encode_replica(w, replica);
        }
    }

    /// The byte form.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut w = Writer::new();
        self.encode(&mut w);
        w.into_vec()
    }

    /// Reads the byte form.
    pub fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut conf = ConfState::default();
        for part in 0..4 {
            let n = r.count(8)?;
            let mut ids = Vec::with_capacity(n);
            for _ in 0..n {
                ids.push(r.u64()?);
            }
            match part {
                0 => conf.voters = ids,
                1 => conf.learners = ids,
                2 => conf.voters_outgoing = ids,
                _ => conf.learners_next = ids,
            }
        }
        conf.auto_leave = r.bool()?;
        let mut replicas = BTreeMap::new();
        for _ in 0..r.count(20)? {
            let replica = decode_replica(r)?;
            replicas.insert(replica.id, replica);
        }
        Ok(Self { conf, replicas })
    }
}

fn encode_replica(w: &mut Writer, replica: &Replica) {
    w.u64(replica.id.0)
        .u64(replica.node.0)
        .str(&replica.address);
}

fn decode_replica(r: &mut Reader<'_>) -> Result<Replica, DecodeError> {
    Ok(Replica {
        id: ReplicaId(r.u64()?),
        node: NodeId(r.u64()?),
        address: r.str()?.to_owned(),
    })
}

/// One step of a membership change. Several steps in one change go through a joint configuration.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    /// A new replica that receives the log and does not vote.
    AddLearner(Replica),
    /// A learner that has caught up votes from now on.
    Promote(ReplicaId),
    /// A replica is out, for ever.
    Remove(ReplicaId),
}

/// The byte form of a change, as it stands in an entry's context.
pub fn encode_changes(changes: &[Change]) -> Vec<u8> {
    let mut w = Writer::new();
    w.u32(changes.len() as u32);
    for change in changes {
        match change {
            Change::AddLearner(replica) => {
                w.u8(1);
                encode_replica(&mut w, replica);
            }
            Change::Promote(id) => {
                w.u8(2).u64(id.0);
            }
            Change::Remove(id) => {
                w.u8(3).u64(id.0);
            }
        }
    }
    w.into_vec()
}

/// Reads a change. An empty context is the crate's own "leave the joint configuration".
pub fn decode_changes(context: &[u8]) -> Result<Vec<Change>, DecodeError> {
    if context.is_empty() {
        return Ok(Vec::new());
    }
    let mut r = Reader::new(context);
    let n = r.count(9)?;
    let mut changes = Vec::with_capacity(n);
    for _ in 0..n {
        changes.push(match r.u8()? {
            1 => Change::AddLearner(decode_replica(&mut r)?),
            2 => Change::Promote(ReplicaId(r.u64()?)),
            3 => Change::Remove(ReplicaId(r.u64()?)),
            _ => return Err(DecodeError::Invalid("membership change")),
        });
    }
    r.finish()?;
    Ok(changes)
}

/// The crate's form of a change; empty for "leave the joint configuration".
pub(crate) fn conf_change(changes: &[Change]) -> ConfChangeV2 {
    let mut cc = ConfChangeV2::default();
    for change in changes {
        let (kind, id) = match change {
            Change::AddLearner(replica) => (ConfChangeType::AddLearnerNode, replica.id),
            Change::Promote(id) => (ConfChangeType::AddNode, *id),
            Change::Remove(id) => (ConfChangeType::RemoveNode, *id),
        };
        let mut single = ConfChangeSingle::default();
        single.set_change_type(kind);
        single.node_id = id.0;
        cc.changes.push(single);
    }
    cc
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replica(id: u64) -> Replica {
        Replica {
            id: ReplicaId(id),
            node: NodeId(id + 100),
            address: format!("127.0.0.1:{id}"),
        }
    }

    #[test]
    fn membership_survives_its_byte_form() {
        let mut m = Membership::single(replica(1));
        m.conf.learners.push(2);
        m.conf.voters_outgoing.push(3);
        m.conf.auto_leave = true;
        m.replicas.insert(ReplicaId(2), replica(2));
        let bytes = m.to_bytes();
        assert_eq!(Membership::decode(&mut Reader::new(&bytes)), Ok(m));
    }

    #[test]
    fn changes_survive_their_byte_form() {
        let changes = vec![
            Change::AddLearner(replica(4)),
            Change::Promote(ReplicaId(4)),
            Change::Remove(ReplicaId(1)),
        ];
        let bytes = encode_changes(&changes);
        assert_eq!(decode_changes(&bytes), Ok(changes));
        assert_eq!(decode_changes(&[]), Ok(vec![]));
        assert!(decode_changes(&bytes[..bytes.len() - 1]).is_err());
    }
}
