//! A warm stand-by: a cluster that follows another one, shard by shard, until people promote it; and what is
//! left of a primary that was superseded.
//!
//! The leader of each shard asks any node of the primary for the committed entries behind those that it has
//! (or for a snapshot), and proposes them to its own group ([`shard::follow`]). Nothing is asked of the
//! primary but to answer; it does not wait for its stand-by, and what it acknowledged in the last moments
//! before its death may not be here. Promotion is a command of the meta shard's; a promoted cluster goes on
//! telling the old primary that it was superseded, and that, once it hears it, serves nobody any more.
//! Who does not hear it asks: a primary remembers who follows it, and a node of it that has started serves clients only
//! once the stand-by has said that it was not promoted, or could not be asked for [`LOOK_US_MAX`]. Where the two do not
//! reach each other for longer both serve: without a third party nobody can prevent that.

use crate::admin::{FollowRow, FollowStatus};
use crate::core::Core;
use crate::event::{Endpoint, Level};
use crate::frame::Frame;
use base::planted::{Bug, planted};
use base::{ClusterId, CoreAddress, CoreId, LogIndex, Now, ShardId};
use bytes::Bytes;
use catalog::{CatalogCommand, FOLLOWERS_MAX, META_SHARD};
use shard::SnapshotPiece;
use shard::follow::Followed;
use std::collections::BTreeMap;

/// Between questions of a leader, and of another replica, which only wants to know how far the primary is.
const ASK_US: u64 = 10_000;
const LOOK_US: u64 = 200_000;
/// Without an answer after this time the next node of the primary is asked.
const UNANSWERED_US: u64 = 300_000;
/// What was proposed and does not come back was lost with a leader.
const PROPOSED_US: u64 = 2_000_000;
const ADDRESS_BYTES_MAX: usize = 300;
const ENTRIES_BYTES_MAX: u64 = 256 << 10;
const PIECE_BYTES: u32 = 256 << 10;
/// How often a superseded primary is told so.
const TELL_US: u64 = 100_000;
/// Between a primary's questions whether it was superseded, at first and later.
const LOOK_SOON_US: u64 = 100_000;
const LOOK_AGAIN_US: u64 = 1_000_000;
/// A node that has started serves after this time although nobody has told it that it may, in microseconds.
const LOOK_US_MAX: u64 = 5_000_000;
/// A primary that was heard so lately is taken for alive.
const ALIVE_US: u64 = 2_000_000;

/// What this core knows of the primary.
#[derive(Debug, Default)]
pub(crate) struct Standby {
    shards: BTreeMap<ShardId, Following>,
    turn: usize,
    told_us: u64,
    followed: bool,
    mismatch: bool,
    /// When a stand-by of this cluster was last asked whether it was promoted.
    looked_us: u64,
    /// It has said that it was not, or nobody could be asked for long enough.
    may_serve: bool,
    /// When a node of a stand-by was last proposed to be remembered.
    recorded_us: u64,
    /// The cluster that superseded this one, as far as this node heard.
    superseded_by: Option<String>,
}

#[derive(Debug, Default)]
struct Following {
    asked_us: u64,
    answered_us: u64,
    commit: LogIndex,
    proposed: LogIndex,
    proposed_us: u64,
    snapshot: Option<LogIndex>,
    fetched: Option<(u64, u64)>,
}

impl Core {
    /// True while this cluster follows another: it takes no writes.
    pub(crate) fn follows(&self) -> bool {
        match &self.catalog.source {
            Some(source) => !source.is_promoted,
            None => !self.config.standby_of.is_empty(),
        }
    }

    /// The cluster that superseded this one.
    pub(crate) fn superseded_by(&self) -> Option<&String> {
        let told = self.standby.superseded_by.as_ref();
        told.or(self.catalog.superseded_by.as_ref())
    }

    /// True where a stream is of the cluster that this one follows.
    pub(crate) fn is_of_primary(&self, cluster: ClusterId, address: &String) -> bool {
        let source = self.catalog.source.as_ref();
        source.is_some_and(|s| s.cluster == cluster || s.addresses.contains(address))
            || self.config.standby_of.contains(address)
    }

    /// Asks for what is new, when it is due.
    pub(crate) fn keep_following(&mut self, now: Now) {
        let follows = self.follows();
        let rests = follows || self.superseded_by().is_some();
        for id in self.replicas.ids() {
            if let Some(shard) = self.replicas.get_mut(id).filter(|s| s.id() != META_SHARD) {
                shard.set_follows(rests);
            }
        }
        self.look(now);
        if std::mem::replace(&mut self.standby.followed, follows) && !follows {
            self.log(Level::Info, "serves as the primary from now on".into());
            for id in self.replicas.ids() {
                self.lead(now, id);
            }
        }
        if !follows {
            return self.tell_superseded(now);
        }
        let unknown = self.catalog.source.is_none() && self.cluster != ClusterId(0);
        if unknown && self.leads_meta() {
            let addresses = self.config.standby_of.clone();
            self.propose_meta(&CatalogCommand::Follow {
                cluster: ClusterId(0),
                addresses,
            });
        }
        if self.catalog.source.is_none() || !self.catalog.formed {
            return;
        }
        for id in self.replicas.ids() {
            if id != META_SHARD {
                self.ask_primary(now, id);
            }
        }
    }

    /// False in a node that has started until its catalog has caught up and names no stand-by, or one has said that it was
    /// not promoted, or none could be asked for long.
    pub(crate) fn has_looked(&self) -> bool {
        self.standby.may_serve || planted(Bug::ServeUnlooked)
    }

    /// Asks those who follow whether they have taken this cluster's place, until they say so.
    fn look(&mut self, now: Now) {
        let is_told = self.catalog_index > 0
            && (!self.holds(META_SHARD) || self.caught_up.contains(&META_SHARD));
        if !is_told || self.superseded_by().is_some() {
            return;
        }
        if !self.standby.may_serve {
            let is_late = now.mono_us >= self.started_us + LOOK_US_MAX;
            let is_alone = self.catalog.followers.is_empty();
            if is_late && !is_alone {
                let message = "serves although no stand-by could be asked whether it was promoted; it goes on asking";
                self.log(Level::Warn, message.into());
            }
            if is_late || is_alone {
                self.standby.may_serve = true;
                self.update_front_ends();
            }
        }
        let pause_us = match self.standby.may_serve {
            true => LOOK_AGAIN_US,
            false => LOOK_SOON_US,
        };
        if now.mono_us < self.standby.looked_us + pause_us {
            return;
        }
        self.standby.looked_us = now.mono_us;
        for address in self.catalog.followers.clone() {
            let frame = Frame::Look {
                cluster: self.cluster,
                from: self.me,
                address: self.config.address.clone(),
            };
            let core = CoreId(0);
            self.send(Endpoint { address, core }, &frame);
        }
    }

    /// A node of the primary asks whether its cluster was superseded. Only who leads may say that it was not.
    pub(crate) fn looked_at(&mut self, cluster: ClusterId, from: CoreAddress, address: String) {
        let Some(source) = self.catalog.source.as_ref() else {
            return;
        };
        if source.cluster != cluster || cluster == ClusterId(0) {
            return;
        }
        let frame = match source.is_promoted {
            true => self.superseding(cluster),
            false if self.leads_meta() => Frame::Stands { cluster },
            false => return,
        };
        let core = from.core;
        self.send(Endpoint { address, core }, &frame);
    }

    /// A stand-by says that it was not promoted.
    pub(crate) fn stands(&mut self, cluster: ClusterId) {
        if cluster == self.cluster && !std::mem::replace(&mut self.standby.may_serve, true) {
            self.update_front_ends();
        }
    }

    fn superseding(&self, cluster: ClusterId) -> Frame {
        Frame::Superseded {
            cluster,
            by: format!("{} at {}", self.cluster, self.config.address),
        }
    }

    fn primary(&self) -> Option<Endpoint> {
        let addresses = &self.catalog.source.as_ref()?.addresses;
        let address = addresses.get(self.standby.turn % addresses.len().max(1))?;
        Some(Endpoint {
            address: address.clone(),
            core: CoreId(0),
        })
    }

    fn ask_primary(&mut self, now: Now, id: ShardId) {
        let Some(replica) = self.replicas.get(id) else {
            return;
        };
        let (leads, source, staged) = (replica.is_leader(), replica.source(), replica.staged());
        let following = self.standby.shards.entry(id).or_default();
        if following.answered_us == 0 {
            // Silence counts from the beginning.
            following.answered_us = now.mono_us;
        }
        if leads && following.proposed > source.index {
            if now.mono_us < following.proposed_us + PROPOSED_US {
                return;
            }
            following.proposed = source.index;
        }
        let unanswered = following.asked_us > following.answered_us;
        let pause_us = match (unanswered, leads) {
            (true, _) => UNANSWERED_US,
            (false, true) => ASK_US,
            (false, false) => LOOK_US,
        };
        if now.mono_us < following.asked_us + pause_us {
            return;
        }
        following.asked_us = now.mono_us;
        following.snapshot = following.snapshot.filter(|at| leads && *at > source.index);
        if unanswered {
            self.standby.turn += 1;
            following.fetched = None;
        }
        let frame = match following.snapshot {
            Some(index) => {
                let offset = staged.filter(|(at, _)| *at == index).map_or(0, |(_, o)| o);
                let again_us = following
                    .fetched
                    .map_or(0, |(_, at_us)| at_us + PROPOSED_US);
                if following.fetched.is_some_and(|(o, _)| o == offset) && now.mono_us < again_us {
                    return;
                }
                following.fetched = Some((offset, now.mono_us));
                Frame::Fetch {
                    shard: id,
                    from: self.me,
                    index,
                    offset,
                    length: PIECE_BYTES,
                }
            }
            None => Frame::Follow {
                shard: id,
                from: self.me,
                address: self.config.address.clone(),
                index: source.index.max(1) + 1,
                bytes_max: if leads { ENTRIES_BYTES_MAX } else { 0 },
            },
        };
        if let Some(to) = self.primary() {
            self.send(to, &frame);
        }
    }

    /// A stand-by asks what is new.
    pub(crate) fn followed_by(
        &mut self,
        now: Now,
        shard: ShardId,
        (from, address): (CoreAddress, String),
        index: LogIndex,
        bytes_max: u64,
    ) {
        let is_known = self.catalog.followers.contains(&address)
            || self.catalog.followers.len() >= FOLLOWERS_MAX
            || address.len() > ADDRESS_BYTES_MAX;
        if !is_known && now.mono_us >= self.standby.recorded_us + LOOK_AGAIN_US {
            self.standby.recorded_us = now.mono_us;
            let address = address.clone();
            self.propose_meta(&CatalogCommand::FollowedBy { address });
        }
        let (layout, cluster) = (self.catalog.layout(), self.cluster);
        let addresses: Vec<String> = (self.catalog.members.values())
            .map(|member| member.address.clone())
            .collect();
        let Some(replica) = self.replicas.get_mut(shard) else {
            return;
        };
        let Some(commit) = replica.group().map(|group| group.commit()) else {
            return;
        };
        let entries = match bytes_max {
            0 => Some(Vec::new()),
            most => replica.committed_from(index, most.min(ENTRIES_BYTES_MAX)),
        };
        let mut snapshot = 0;
        if entries.is_none() {
            snapshot = replica.snapshot_index();
            if snapshot < index {
                replica.request_snapshot();
                snapshot = 0;
            }
        }
        let frame = Frame::Followed {
            shard,
            cluster,
            layout,
            addresses,
            commit,
            snapshot,
            entries: entries.unwrap_or_default(),
        };
        let core = from.core;
        self.send(Endpoint { address, core }, &frame);
    }

    /// The primary's answer.
    pub(crate) fn followed(&mut self, now: Now, answer: PrimarySays) {
        let Some(source) = self.catalog.source.as_ref().filter(|s| !s.is_promoted) else {
            return;
        };
        if answer.cluster == ClusterId(0) {
            return;
        }
        if source.cluster != ClusterId(0) && source.cluster != answer.cluster {
            // Another cluster listens there now.
            return;
        }
        if self.catalog.layout() != answer.layout {
            if !std::mem::replace(&mut self.standby.mismatch, true) {
                let message = "cannot follow: the primary's pools, or their shards, are others than those here; \
                               form this cluster with the same `pools` and `cache`";
                self.log(Level::Error, message.into());
            }
            return;
        }
        self.standby.mismatch = false;
        if (source.cluster, &source.addresses) != (answer.cluster, &answer.addresses)
            && !answer.addresses.is_empty()
        {
            let (cluster, addresses) = (answer.cluster, answer.addresses);
            self.propose_meta(&CatalogCommand::Follow { cluster, addresses });
        }
        let following = self.standby.shards.entry(answer.shard).or_default();
        following.answered_us = now.mono_us;
        following.commit = following.commit.max(answer.commit);
        let Some(replica) = self.replicas.get_mut(answer.shard) else {
            return;
        };
        if !replica.is_leader() {
            return;
        }
        let next = replica.source().index.max(1) + 1;
        if answer.snapshot >= next {
            following.snapshot = Some(answer.snapshot);
            following.fetched = None;
        }
        // An answer that comes late is about what is here already.
        if following.proposed >= next || answer.entries.first().map(|(i, _)| *i) != Some(next) {
            return;
        }
        for (index, data) in answer.entries {
            let commit = answer.commit;
            let entry = Followed::Entry {
                index,
                commit,
                data,
            };
            if !replica.propose_followed(&entry) {
                break;
            }
            following.proposed = index;
            following.proposed_us = now.mono_us;
        }
    }

    /// A piece of the primary's snapshot.
    pub(crate) fn followed_piece(&mut self, now: Now, shard: ShardId, piece: SnapshotPiece) {
        let Some(following) = self.standby.shards.get_mut(&shard) else {
            return;
        };
        following.answered_us = now.mono_us;
        if following.snapshot != Some(piece.index) {
            return;
        }
        if piece.total == 0 {
            // A newer one took its place.
            following.snapshot = None;
            return;
        }
        if let Some(replica) = self.replicas.get_mut(shard)
            && self.catalog.source.as_ref().is_some_and(|s| !s.is_promoted)
        {
            replica.propose_followed(&Followed::Piece {
                index: piece.index,
                offset: piece.offset,
                is_last: piece.offset + piece.bytes.len() as u64 >= piece.total,
                bytes: piece.bytes,
            });
        }
    }

    /// A promoted cluster tells the one that it followed.
    fn tell_superseded(&mut self, now: Now) {
        let Some(source) = self.catalog.source.as_ref().filter(|s| s.is_promoted) else {
            return;
        };
        if now.mono_us < self.standby.told_us + TELL_US || !self.holds(META_SHARD) {
            return;
        }
        self.standby.told_us = now.mono_us;
        let addresses = source.addresses.clone();
        let frame = self.superseding(source.cluster);
        for address in addresses {
            let core = CoreId(0);
            self.send(Endpoint { address, core }, &frame);
        }
    }

    /// Another cluster was promoted in this one's place.
    pub(crate) fn superseded(&mut self, cluster: ClusterId, by: String) {
        if cluster != self.cluster || cluster == ClusterId(0) || by.len() > 300 {
            return;
        }
        if self.superseded_by().is_none() {
            self.log(
                Level::Error,
                format!("serves nobody any more: {by} was promoted in this cluster's place"),
            );
            self.standby.superseded_by = Some(by.clone());
        }
        if self.catalog.superseded_by.is_none() {
            self.propose_meta(&CatalogCommand::Supersede { by });
        }
    }

    /// What a stream to the primary says of the dialler's cluster: none, since that is another one.
    pub(crate) fn cluster_for(&self, address: &String) -> ClusterId {
        let source = self.catalog.source.as_ref();
        let is_primary = source.is_some_and(|s| s.addresses.contains(address));
        let is_member = self.catalog.members.values().any(|m| m.address == *address);
        match is_primary && !is_member {
            true => ClusterId(0),
            false => self.cluster,
        }
    }

    // --- people ---

    pub(crate) fn order_promote(&mut self, now: Now, force: bool) -> Result<String, String> {
        if !self.follows() || self.catalog.source.is_none() {
            return Err("this cluster follows no other: there is nothing to promote".into());
        }
        let Some(status) = self.follow_status(now) else {
            return Err("this node knows nothing of the primary yet".into());
        };
        if let Some(empty) = status
            .shards
            .iter()
            .find(|row| row.index == 0 && row.commit != 1)
            && !force
        {
            return Err(format!(
                "nothing of {} has come here yet; --force promotes all the same, without it",
                empty.shard
            ));
        }
        let silent_ms = status.shards.iter().map(|row| row.silent_ms).min();
        let silent_ms = silent_ms.unwrap_or(0);
        if silent_ms < ALIVE_US / 1_000 && !force {
            return Err(format!(
                "the primary was heard {silent_ms} ms ago: stop it first, or say --force to take its place while it runs"
            ));
        }
        let lines: Vec<String> = (status.shards.iter())
            .map(|row| match row.commit.saturating_sub(row.index) {
                0 => format!(
                    "{}: nothing is known to be missing (at {})",
                    row.shard, row.index
                ),
                missing => format!(
                    "{}: {missing} entries are known to be missing ({} to {})",
                    row.shard,
                    row.index + 1,
                    row.commit
                ),
            })
            .collect();
        self.propose_meta(&CatalogCommand::Promote);
        Ok(format!(
            "{}\nthe primary was last heard {silent_ms} ms ago; what it acknowledged after that is not here",
            lines.join("\n")
        ))
    }

    pub(crate) fn follow_status(&self, now: Now) -> Option<FollowStatus> {
        let source = self.catalog.source.as_ref()?;
        let rows = self.replicas.iter().filter(|s| s.id() != META_SHARD);
        let shards = rows.map(|replica| {
            let at = replica.source();
            let following = self.standby.shards.get(&replica.id());
            let heard = following.map_or(0, |f| f.commit).max(at.commit);
            FollowRow {
                shard: self.label(replica.id()),
                index: at.index,
                commit: heard,
                silent_ms: following.map_or(0, |f| now.mono_us.saturating_sub(f.answered_us))
                    / 1_000,
            }
        });
        Some(FollowStatus {
            cluster: format!("{:x}", source.cluster.0),
            addresses: source.addresses.clone(),
            promoted: source.is_promoted,
            shards: shards.collect(),
        })
    }
}

/// How far a primary is.
pub(crate) struct PrimarySays {
    pub shard: ShardId,
    pub cluster: ClusterId,
    pub layout: u64,
    pub addresses: Vec<String>,
    pub commit: LogIndex,
    pub snapshot: LogIndex,
    pub entries: Vec<(LogIndex, Bytes)>,
}
