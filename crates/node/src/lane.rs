//! A lane: one journal, and the identity file that says which replicas were given to it.
//!
//! A replica acts only once the identity names it; so one whose log is gone is known to be lost, and
//! is never taken for a new one (decision 0005).

use crate::core::LaneStart;
use base::planted::{Bug, planted};
use base::{ClusterId, DecodeError, LaneId, NodeId, Now, Reader, ReplicaId, ShardId, Writer};
use bytes::Bytes;
use journal::{
    DiskOp, DiskResult, FileId, Frame, Journal, JournalConfig, LaneVerdict, Position, Recovered,
    RecoveredShard, ShardVerdict, Ticket,
};
use std::collections::{BTreeMap, BTreeSet};

const VERSION: u8 = 1;

/// What the identity file says.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Identity {
    /// The node.
    pub node: NodeId,
    /// Its cluster, 0 while it has none.
    pub cluster: ClusterId,
    /// The replica that was given last of each shard.
    pub replicas: BTreeMap<ShardId, ReplicaId>,
    /// Members' addresses, to ask them when the log of the meta shard is lost.
    pub addresses: BTreeSet<String>,
}

impl Identity {
    fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        w.u8(VERSION).u64(self.node.0).u64(self.cluster.0);
        w.u32(self.replicas.len() as u32);
        for (shard, replica) in &self.replicas {
            w.u64(shard.0).u64(replica.0);
        }
        w.u32(self.addresses.len() as u32);
        for address in &self.addresses {
            w.str(address);
        }
        let sum = checksum(w.as_slice());
        w.u64(sum);
        w.into_vec()
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let Some((body, sum)) = bytes.split_last_chunk::<8>() else {
            return Err(DecodeError::Truncated);
        };
        if checksum(body) != u64::from_be_bytes(*sum) {
            return Err(DecodeError::Invalid("checksum of the identity file"));
        }
        let mut r = Reader::new(body);
        if r.u8()? != VERSION {
            return Err(DecodeError::Invalid("version of the identity file"));
        }
        let mut identity = Self {
            node: NodeId(r.u64()?),
            cluster: ClusterId(r.u64()?),
            ..Self::default()
        };
        for _ in 0..r.count(16)? {
            let shard = ShardId(r.u64()?);
            identity.replicas.insert(shard, ReplicaId(r.u64()?));
        }
        for _ in 0..r.count(4)? {
            identity.addresses.insert(r.str()?.to_owned());
        }
        r.finish()?;
        Ok(identity)
    }
}

fn checksum(bytes: &[u8]) -> u64 {
    use std::hash::Hasher;
    let mut hasher = base::map::Fnv::default();
    hasher.write(bytes);
    hasher.finish()
}

/// How a replica that was given to this lane was found.
#[derive(Debug)]
pub enum Found {
    /// Its log is whole.
    Whole(RecoveredShard),
    /// Its log or vote is lost or rotten.
    Lost(ReplicaId, String),
}

/// A lane just opened.
#[derive(Debug)]
pub struct Opened {
    /// The lane.
    pub lane: Lane,
    /// What became of each replica that was given to it.
    pub found: BTreeMap<ShardId, Found>,
    /// Files that nothing needs any more.
    pub stale: Vec<DiskOp>,
}

/// One lane of the data directory.
#[derive(Debug)]
pub struct Lane {
    /// Its number.
    pub id: LaneId,
    /// Its journal.
    pub journal: Journal,
    /// What the identity file shall say.
    pub identity: Identity,
    written: Identity,
    writing: Option<(Identity, Ticket, bool)>,
    /// The identity names a replica only once what its journal says of it is durable.
    after: Option<Position>,
    /// A sync has ended in this turn.
    has_synced: bool,
    /// The next sync waits for the next turn, which comes at once.
    rests: bool,
}

impl Lane {
    /// A lane over what its directory held, and what became of each replica that it was given.
    /// An error says why the directory must not be used.
    pub fn open(id: LaneId, node: NodeId, start: LaneStart) -> Result<Opened, String> {
        let identity = match &start.identity {
            None => None,
            Some(bytes) => Some(Identity::decode(bytes).map_err(|e| {
                format!(
                    "{id}'s identity file cannot be read ({e}); move the data directory away and start again: \
                     the node then joins as a new one"
                )
            })?),
        };
        let recovered = start.recovery.finish();
        let config = JournalConfig {
            lane: id,
            ..JournalConfig::default()
        };
        let mut journal = Journal::new(&recovered, config);
        let mut found = BTreeMap::new();
        let known = identity.filter(|i| i.node == node);
        match &known {
            Some(identity) => found = judge(identity, recovered),
            // Another node's leftovers: never taken up.
            None => {
                for shard in recovered.shards.keys() {
                    journal.append(*shard, Frame::Removed);
                }
            }
        }
        let needed: BTreeSet<FileId> = (found.iter())
            .filter_map(|(shard, found)| match found {
                Found::Whole(r) => Some(FileId::Snapshot(*shard, r.mark.as_ref()?.index)),
                Found::Lost(..) => None,
            })
            .collect();
        let stale = (start.snapshots.into_iter())
            .filter(|file| !needed.contains(file))
            .map(|file| DiskOp::Delete { file })
            .collect();
        let written = known.clone().unwrap_or_default();
        let mut identity = known.unwrap_or_default();
        identity.node = node;
        let lane = Self {
            id,
            journal,
            identity,
            written,
            writing: None,
            after: None,
            has_synced: false,
            rests: false,
        };
        Ok(Opened { lane, found, stale })
    }

    /// True once the identity on disk names this replica.
    pub fn names(&self, shard: ShardId, replica: ReplicaId) -> bool {
        self.written.replicas.get(&shard) == Some(&replica)
    }

    /// Flushes the journal, and writes the identity when it changed; appends what is to be done.
    pub fn flush(&mut self, now: Now, ops: &mut Vec<DiskOp>) {
        let changed = self.writing.is_none() && self.written != self.identity;
        if changed && self.after.is_none() {
            self.after = Some(self.journal.appended());
        }
        self.journal.handle_tick(now);
        // Who is answered in this turn has a turn to ask for more. Else clients fall into two halves that wait for
        // each other's syncs, and all pay for two where one would do.
        self.rests = std::mem::take(&mut self.has_synced) && self.journal.is_gathering();
        if !self.rests {
            self.journal.flush(now);
        }
        while let Some(op) = self.journal.poll_op() {
            ops.push(op);
        }
        if changed
            && self
                .after
                .take_if(|p| *p <= self.journal.durable())
                .is_some()
        {
            let ticket = self.journal.next_ticket();
            // What an attempt that failed left behind may be longer than this one.
            ops.push(DiskOp::Delete {
                file: FileId::IdentityPart,
            });
            ops.push(DiskOp::Write {
                file: FileId::IdentityPart,
                offset: 0,
                bytes: Bytes::from(self.identity.encode()),
            });
            ops.push(DiskOp::Sync {
                file: FileId::IdentityPart,
                ticket,
            });
            self.writing = Some((self.identity.clone(), ticket, false));
        }
    }

    /// A sync of the journal has ended.
    pub fn synced(&mut self) {
        self.has_synced = true;
    }

    /// Monotonic microseconds at which [`Self::flush`] is to be called, if nothing happens before.
    pub fn deadline_us(&self) -> Option<u64> {
        match self.rests {
            true => Some(0),
            false => self.journal.deadline_us(),
        }
    }

    /// A ticket that may be the identity's. True when it was.
    pub fn handle_disk(
        &mut self,
        ticket: Ticket,
        result: &DiskResult,
        ops: &mut Vec<DiskOp>,
    ) -> bool {
        let Some((identity, _, renaming)) = self.writing.take_if(|(_, t, _)| *t == ticket) else {
            return false;
        };
        match result {
            DiskResult::Done(_) if renaming => self.written = identity,
            DiskResult::Done(_) => {
                let ticket = self.journal.next_ticket();
                ops.push(DiskOp::Rename {
                    from: FileId::IdentityPart,
                    to: FileId::Identity,
                    ticket,
                });
                self.writing = Some((identity, ticket, true));
            }
            // Written again with the next flush.
            _ => {}
        }
        true
    }
}

fn judge(identity: &Identity, recovered: Recovered) -> BTreeMap<ShardId, Found> {
    let lane_fault = match &recovered.verdict {
        LaneVerdict::Empty => Some("its journal is gone".to_owned()),
        LaneVerdict::Rotten(reason) => Some(reason.clone()),
        LaneVerdict::Clean | LaneVerdict::TornTail { .. } => None,
    };
    let mut found = BTreeMap::new();
    let mut shards = recovered.shards;
    for (shard, given) in &identity.replicas {
        let lost = |reason: String| Found::Lost(*given, reason);
        let verdict = match shards.remove(shard) {
            // A fault of the lane is about what the journal does not name; what it names has its own verdict.
            None => {
                let unnamed = || "its journal does not hold it".to_owned();
                lost(lane_fault.clone().unwrap_or_else(unnamed))
            }
            Some(r) if r.removed => continue,
            Some(r) => match (&r.verdict, r.mark.as_ref().map(|m| m.replica)) {
                (ShardVerdict::Rotten(reason), _) => lost(reason.clone()),
                (_, Some(replica)) if replica >= *given => Found::Whole(r),
                _ => lost("its journal holds an older replica".into()),
            },
        };
        found.insert(*shard, verdict);
    }
    // Journaled, but the crash came before the identity named it.
    for (shard, r) in shards {
        if lane_fault.is_none()
            && !r.removed
            && r.verdict == ShardVerdict::Clean
            && r.mark.is_some()
        {
            found.insert(shard, Found::Whole(r));
        }
    }
    if planted(Bug::VoteAfterLostLog) {
        found.retain(|_, f| matches!(f, Found::Whole(_)));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> Identity {
        Identity {
            node: NodeId(7),
            cluster: ClusterId(8),
            replicas: BTreeMap::from([(ShardId(1), ReplicaId(5))]),
            addresses: BTreeSet::from(["a:1".to_owned()]),
        }
    }

    #[test]
    fn identity_survives_its_byte_form_and_refuses_damage() {
        let bytes = identity().encode();
        assert_eq!(Identity::decode(&bytes), Ok(identity()));
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            assert!(Identity::decode(&bad).is_err());
            assert!(Identity::decode(&bytes[..at]).is_err());
        }
    }

    #[test]
    fn empty_journal_under_an_identity_is_a_lost_log() {
        let start = LaneStart {
            identity: Some(identity().encode().into()),
            ..LaneStart::default()
        };
        let Opened { found, .. } = Lane::open(LaneId(0), NodeId(7), start).unwrap();
        assert!(matches!(found[&ShardId(1)], Found::Lost(ReplicaId(5), _)));
    }

    #[test]
    fn identity_of_another_node_is_not_taken_up() {
        let start = LaneStart {
            identity: Some(identity().encode().into()),
            ..LaneStart::default()
        };
        let Opened { lane, found, .. } = Lane::open(LaneId(0), NodeId(9), start).unwrap();
        assert!(found.is_empty());
        assert_eq!(lane.identity.node, NodeId(9));
        assert_eq!(lane.identity.cluster, ClusterId(0));
    }

    #[test]
    fn sync_that_ends_gives_a_turn_to_whom_it_answers() {
        let start = LaneStart::default();
        let mut lane = (Lane::open(LaneId(0), NodeId(7), start).unwrap()).lane;
        let now = Now {
            mono_us: 1,
            wall_ms: 0,
        };
        let turn = |lane: &mut Lane| -> Option<Ticket> {
            let mut ops = Vec::new();
            lane.flush(now, &mut ops);
            ops.into_iter().find_map(|op| match op {
                DiskOp::Sync {
                    file: FileId::Segment(_),
                    ticket,
                } => Some(ticket),
                _ => None,
            })
        };
        let done = |lane: &mut Lane, ticket| {
            let result = DiskResult::Done(Bytes::new());
            lane.journal.handle_done(now, ticket, &result);
            lane.synced();
        };
        let append = |lane: &mut Lane, index| {
            let mark = Frame::Mark {
                replica: ReplicaId(1),
                index,
                term: 1,
                conf: Bytes::new(),
            };
            lane.journal.append(ShardId(1), mark);
        };
        append(&mut lane, 1);
        let first = turn(&mut lane).expect("nothing goes before it");
        append(&mut lane, 2);
        assert_eq!(turn(&mut lane), None, "one is under way");
        done(&mut lane, first);
        assert_eq!(turn(&mut lane), None, "who was answered may ask for more");
        assert_eq!(lane.deadline_us(), Some(0), "at once");
        append(&mut lane, 3);
        let second = turn(&mut lane).expect("with both");
        done(&mut lane, second);
        // Nothing waits: there is nothing to hurry for, and what comes next goes at once.
        assert_eq!(turn(&mut lane), None);
        assert_ne!(lane.deadline_us(), Some(0));
        append(&mut lane, 4);
        assert!(turn(&mut lane).is_some());
    }
}
