//! Joining: who becomes a member, and how a generation begins.

use super::{
    Cx, Group, MEMBERS_MAX, Member, Phase, SESSION_TIMEOUT_MS_MAX, SESSION_TIMEOUT_MS_MIN, Waiting,
};
use crate::command::{GroupProtocol, Join};
use crate::reply::{ErrorCode, Joined, JoinedMember, Reply};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};

impl Group {
    /// A member joins; the answer comes now, or when the generation begins.
    pub(crate) fn join(&mut self, join: Join, cx: &mut Cx<'_>) -> bool {
        match self.try_join(join, cx) {
            Ok(()) => {
                self.used_ms = cx.time_ms;
                true
            }
            Err(error) => {
                cx.reply(Err(error));
                false
            }
        }
    }

    fn try_join(&mut self, join: Join, cx: &mut Cx<'_>) -> Result<(), ErrorCode> {
        if !(SESSION_TIMEOUT_MS_MIN..=SESSION_TIMEOUT_MS_MAX).contains(&join.session_timeout_ms) {
            return Err(ErrorCode::InvalidSessionTimeout);
        }
        let id = &join.member.id;
        let held = join.member.instance.as_deref();
        let held = held
            .and_then(|instance| self.holder(instance))
            .map(str::to_owned);
        let is_pending = !id.is_empty() && self.pending.contains_key(id);
        if !id.is_empty() && !is_pending {
            self.check_member(&join.member)?;
        }
        self.check_protocols(&join, held.as_deref().unwrap_or(id))?;
        if id.is_empty() {
            return match held {
                Some(old) => {
                    self.replace_static(&old, join, cx);
                    Ok(())
                }
                None => self.join_new(join, cx),
            };
        }
        if is_pending {
            self.pending.remove(id);
            let id = id.clone();
            self.add(id, join, cx);
            return Ok(());
        }
        let id = id.clone();
        self.rejoin(&id, join, cx);
        Ok(())
    }

    /// A member must be of the group's type and share a protocol with everybody else.
    fn check_protocols(&self, join: &Join, own_id: &str) -> Result<(), ErrorCode> {
        if join.protocol_type.is_empty() || join.protocols.is_empty() {
            return Err(ErrorCode::InconsistentProtocol);
        }
        if self.members.is_empty() {
            return Ok(());
        }
        let others = self.members.iter().filter(|(id, _)| *id != own_id);
        let common = common_protocols(others.map(|(_, m)| m));
        let is_common = |name: &str| common.as_ref().is_none_or(|all| all.contains(name));
        if join.protocol_type == self.protocol_type
            && join.protocols.iter().any(|p| is_common(&p.name))
        {
            Ok(())
        } else {
            Err(ErrorCode::InconsistentProtocol)
        }
    }

    fn join_new(&mut self, join: Join, cx: &mut Cx<'_>) -> Result<(), ErrorCode> {
        if self.members.len() + self.pending.len() >= MEMBERS_MAX {
            return Err(ErrorCode::GroupFull);
        }
        let id = new_id(&join, cx);
        if join.needs_id && join.member.instance.is_none() {
            self.pending.insert(id.clone(), join.session_timeout_ms);
            cx.reply(Ok(Reply::MemberId(id)));
        } else {
            self.add(id, join, cx);
        }
        Ok(())
    }

    fn add(&mut self, id: String, join: Join, cx: &mut Cx<'_>) {
        if self.members.is_empty() {
            self.leader = id.clone();
            self.protocol_type = join.protocol_type.clone();
        }
        let member = Member {
            instance: join.member.instance.clone(),
            client_id: join.client_id.clone(),
            client_host: join.client_host.clone(),
            session_timeout_ms: join.session_timeout_ms,
            rebalance_timeout_ms: join.rebalance_timeout_ms,
            protocols: copied(&join.protocols),
            assignment: Bytes::new(),
            waiting: Waiting::Join(cx.origin),
        };
        self.members.insert(id, member);
        if self.phase == Phase::Joining {
            self.complete_if_all_joined(cx);
        } else {
            self.prepare_rebalance(cx);
        }
    }

    /// A client came back under its static name: it takes the place of its predecessor.
    fn replace_static(&mut self, old: &str, join: Join, cx: &mut Cx<'_>) {
        let id = new_id(&join, cx);
        let mut member = self.members.remove(old).expect("it holds the name");
        if let Waiting::Join(origin) | Waiting::Sync(origin) = member.waiting {
            cx.reply_to(origin, Err(ErrorCode::FencedInstance));
        }
        update(&mut member, &join);
        member.waiting = Waiting::Join(cx.origin);
        let was_leader = self.leader == old;
        if was_leader {
            self.leader = id.clone();
        }
        self.members.insert(id.clone(), member);
        let is_same = choose_protocol(&self.members) == self.protocol;
        match self.phase {
            // The same protocol would be chosen: the generation goes on, and so do the assignments.
            Phase::Stable if is_same => self.tell_again(&id, was_leader, cx),
            Phase::Joining => self.complete_if_all_joined(cx),
            Phase::Empty | Phase::Syncing | Phase::Stable => self.prepare_rebalance(cx),
        }
    }

    fn rejoin(&mut self, id: &str, join: Join, cx: &mut Cx<'_>) {
        let is_leader = self.leader == id;
        let member = self.members.get_mut(id).expect("it was checked");
        if let Waiting::Join(origin) | Waiting::Sync(origin) = member.waiting {
            // The same member asks again, over another connection.
            cx.reply_to(origin, Err(ErrorCode::RebalanceInProgress));
        }
        let had = member.protocols.clone();
        update(member, &join);
        let is_same = had == member.protocols;
        member.waiting = Waiting::Join(cx.origin);
        match self.phase {
            Phase::Joining => self.complete_if_all_joined(cx),
            // Its answer was lost: it is given again.
            Phase::Syncing if is_same => self.tell_again(id, false, cx),
            Phase::Stable if is_same && !is_leader => self.tell_again(id, false, cx),
            Phase::Empty | Phase::Syncing | Phase::Stable => self.prepare_rebalance(cx),
        }
    }

    /// Answers a join with the generation as it is.
    fn tell_again(&mut self, id: &str, skip_assignment: bool, cx: &mut Cx<'_>) {
        let member = self.members.get_mut(id).expect("it was checked");
        member.waiting = Waiting::No;
        let joined = self.joined(id, skip_assignment);
        cx.reply(Ok(Reply::Joined(joined)));
    }

    fn joined(&self, id: &str, skip_assignment: bool) -> Joined {
        let members = if self.leader == id {
            let all = self.members.iter();
            all.map(|(id, m)| JoinedMember {
                id: id.clone(),
                instance: m.instance.clone(),
                metadata: m.metadata(&self.protocol),
            })
            .collect()
        } else {
            Vec::new()
        };
        Joined {
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            member: id.to_owned(),
            skip_assignment,
            members,
        }
    }

    /// The joining is over: everybody who waits is told the new generation.
    pub(super) fn begin_generation(&mut self, cx: &mut Cx<'_>) {
        self.generation = self.generation.checked_add(1).unwrap_or(1);
        self.protocol.clear();
        if self.members.is_empty() {
            self.phase = Phase::Empty;
            self.leader.clear();
            self.used_ms = cx.time_ms;
            return;
        }
        self.protocol = choose_protocol(&self.members);
        self.phase = Phase::Syncing;
        let joined = |m: &Member| matches!(m.waiting, Waiting::Join(_));
        if !self.members.get(&self.leader).is_some_and(joined) {
            let mut all = self.members.iter();
            let first = all.find(|(_, m)| joined(m)).expect("somebody joined");
            self.leader = first.0.clone();
        }
        let ids: Vec<String> = self.members.keys().cloned().collect();
        for id in ids {
            let member = self.members.get_mut(&id).expect("it is there");
            member.assignment = Bytes::new();
            if let Waiting::Join(origin) = member.waiting {
                member.waiting = Waiting::No;
                let joined = self.joined(&id, false);
                cx.reply_to(origin, Ok(Reply::Joined(joined)));
            }
        }
    }
}

fn new_id(join: &Join, cx: &Cx<'_>) -> String {
    let name = join.member.instance.as_deref().unwrap_or(&join.client_id);
    format!("{name}-{:016x}", cx.unique)
}

fn update(member: &mut Member, join: &Join) {
    member.client_id = join.client_id.clone();
    member.client_host = join.client_host.clone();
    member.session_timeout_ms = join.session_timeout_ms;
    member.rebalance_timeout_ms = join.rebalance_timeout_ms;
    member.protocols = copied(&join.protocols);
}

/// Out of the log entry's buffer, which would be held otherwise.
fn copied(protocols: &[GroupProtocol]) -> Vec<GroupProtocol> {
    let copy = |p: &GroupProtocol| GroupProtocol {
        name: p.name.clone(),
        metadata: Bytes::copy_from_slice(&p.metadata),
    };
    protocols.iter().map(copy).collect()
}

/// The protocols that all of these members have; `None` when there is no member.
fn common_protocols<'a>(
    mut members: impl Iterator<Item = &'a Member>,
) -> Option<BTreeSet<&'a str>> {
    let names = |m: &'a Member| m.protocols.iter().map(|p| p.name.as_str());
    let mut common: BTreeSet<&str> = names(members.next()?).collect();
    for member in members {
        let own: BTreeSet<&str> = names(member).collect();
        common.retain(|name| own.contains(name));
    }
    Some(common)
}

/// Each member votes for the first of its protocols that all have; the most votes win, the first name
/// among equals.
fn choose_protocol(members: &BTreeMap<String, Member>) -> String {
    let common = common_protocols(members.values()).unwrap_or_default();
    let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
    for member in members.values() {
        let mut own = member.protocols.iter().map(|p| p.name.as_str());
        if let Some(name) = own.find(|name| common.contains(name)) {
            *votes.entry(name).or_default() += 1;
        }
    }
    let best = votes.iter().max_by(|a, b| a.1.cmp(b.1).then(b.0.cmp(a.0)));
    best.map_or_else(String::new, |(name, _)| (*name).to_owned())
}
