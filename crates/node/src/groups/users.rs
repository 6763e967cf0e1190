//! What users ask of groups, and what people are shown of them.

use super::*;

impl Core {
    pub(crate) fn group_call(&mut self, now: Now, request: RequestId, call: GroupCall) {
        if !self.holds(META_SHARD) {
            let message = "another core of this node runs groups".into();
            let reply = CallReply::NotHere { message };
            return (self.actions).push_back(Action::CallReply { request, reply });
        }
        let outcome = match call {
            GroupCall::List => Ok(Some(GroupAnswer::Groups(self.group_statuses(now)))),
            GroupCall::Create {
                name,
                protocol,
                nodes,
            } => self.create_group(now, request, name, protocol, &nodes),
            GroupCall::Delete { name } => match self.catalog.group_named(&name) {
                None => Ok(Some(GroupAnswer::NotFound)),
                Some(_) => {
                    self.propose_meta(&CatalogCommand::DeleteGroup { name: name.clone() });
                    let until_us = now.mono_us + CREATE_US;
                    (self.groups.asked).push((request, until_us, name, false));
                    Ok(None)
                }
            },
            GroupCall::Log { name } => self.ask_member(now, &name, |member| {
                Ok(Some(GroupAnswer::Log(member.read_log(now))))
            }),
            GroupCall::Unlock { name, fence } => self.ask_member(now, &name, |member| {
                member.unlock(now, fence)?;
                Ok(Some(GroupAnswer::Done))
            }),
            GroupCall::Lock { name, wait_us } => {
                let waits = (request, wait_us, "lock");
                self.ask_waiting(now, &name, waits, |member, token| member.lock(now, token))
            }
            GroupCall::Append {
                name,
                value,
                wait_us,
            } => {
                let waits = (request, wait_us, "append");
                self.ask_waiting(now, &name, waits, |member, token| {
                    member.append(now, token, value)
                })
            }
        };
        match outcome {
            Ok(None) => {}
            Ok(Some(answer)) => self.group_answer(request, answer),
            Err(why) => self.group_answer(request, GroupAnswer::Refused(why)),
        }
    }

    fn create_group(
        &mut self,
        now: Now,
        request: RequestId,
        name: String,
        protocol: String,
        nodes: &[String],
    ) -> Result<Option<GroupAnswer>, String> {
        let letters = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if name.is_empty() || name.len() > 100 || !name.chars().all(letters) {
            return Err(format!(
                "{name:?} is no name: take 1 to 100 letters, digits, '-', '_' or '.'"
            ));
        }
        let found = protocols::find(&protocol)?;
        if self.follows() || self.superseded_by().is_some() {
            return Err("this cluster follows another one; make the group there".into());
        }
        if self.catalog.group_named(&name).is_some() {
            return Err(format!("there is a group {name:?} already"));
        }
        if self.catalog.groups.len() >= GROUPS_MAX {
            return Err(format!("there are {GROUPS_MAX} groups; delete one first"));
        }
        let mut members: Vec<NodeId> = match nodes {
            [] => (self.catalog.members.iter())
                .filter(|(_, member)| member.state == MemberState::Member)
                .map(|(node, _)| *node)
                .collect(),
            named => (named.iter())
                .map(|name| self.member_named(name))
                .collect::<Result<_, _>>()?,
        };
        if nodes.is_empty() {
            // In an order that people can foresee.
            members.sort_by_key(|node| self.catalog.members[node].address.clone());
        }
        let distinct: BTreeSet<&NodeId> = members.iter().collect();
        if distinct.len() < members.len() {
            return Err("a node is named twice".into());
        }
        let (least, most) = (found.nodes_min, protocols::NODES_MAX);
        if !(least..=most).contains(&members.len()) {
            let count = members.len();
            return Err(format!(
                "{protocol} needs {least} to {most} nodes, and these are {count}; name them with --nodes"
            ));
        }
        self.propose_meta(&CatalogCommand::CreateGroup {
            name: name.clone(),
            protocol,
            nodes: members,
        });
        let until_us = now.mono_us + CREATE_US;
        self.groups.asked.push((request, until_us, name, true));
        Ok(None)
    }

    fn ask_waiting(
        &mut self,
        now: Now,
        name: &str,
        (request, wait_us, what): (RequestId, u64, &'static str),
        ask: impl FnOnce(&mut Member, u64) -> Result<(), String>,
    ) -> Result<Option<GroupAnswer>, String> {
        self.groups.next_token += 1;
        let token = self.groups.next_token;
        let until_us = now.mono_us + wait_us.min(WAIT_US_MAX);
        let group = self.catalog.group_named(name).map_or(0, |(group, _)| group);
        let waiting = Waiting {
            request,
            group,
            until_us,
            what,
        };
        self.groups.waiting.insert(token, waiting);
        let outcome = self.ask_member(now, name, |member| ask(member, token).map(|()| None));
        if !matches!(outcome, Ok(None)) {
            self.groups.waiting.remove(&token);
        }
        outcome
    }

    /// Asks this node's member of a group.
    fn ask_member(
        &mut self,
        now: Now,
        name: &str,
        ask: impl FnOnce(&mut Member) -> Result<Option<GroupAnswer>, String>,
    ) -> Result<Option<GroupAnswer>, String> {
        let Some((number, record)) = self.catalog.group_named(name) else {
            return Ok(Some(GroupAnswer::NotFound));
        };
        let Some(running) = self.groups.running.get_mut(&number) else {
            let members: Vec<&str> = (record.nodes.iter())
                .filter_map(|node| self.catalog.members.get(node))
                .map(|member| member.address.as_str())
                .collect();
            return Err(format!(
                "this node is no member of {name}; ask one of {}",
                members.join(", ")
            ));
        };
        let Stage::Running(member) = &mut running.stage else {
            return Err("this node's member is being started; try again".into());
        };
        let outcome = ask(member);
        self.take_out(now, number);
        outcome
    }

    pub(super) fn group_answer(&mut self, request: RequestId, answer: GroupAnswer) {
        let reply = CallReply::Group(Box::new(answer));
        self.actions.push_back(Action::CallReply { request, reply });
    }

    /// Answers those whose time is over.
    pub(super) fn give_up_waiting(&mut self, now: Now) {
        let strange = &mut self.groups.strange;
        while strange.front().is_some_and(|(at, ..)| *at <= now.mono_us) {
            strange.pop_front();
        }
        let late: Vec<u64> = (self.groups.waiting.iter())
            .filter(|(_, waiting)| waiting.until_us <= now.mono_us)
            .map(|(token, _)| *token)
            .collect();
        for token in late {
            if let Some(waiting) = self.groups.forget(token) {
                let words = self.why_late(now, &waiting);
                self.group_answer(waiting.request, GroupAnswer::Late(words));
            }
        }
        let (late, asked): (Vec<_>, Vec<_>) = std::mem::take(&mut self.groups.asked)
            .into_iter()
            .partition(|(_, until_us, ..)| *until_us <= now.mono_us);
        self.groups.asked = asked;
        for (request, ..) in late {
            let words = "the catalog does not say so yet: no majority may be there; look again";
            self.group_answer(request, GroupAnswer::Late(words.into()));
        }
    }

    fn why_late(&self, now: Now, waiting: &Waiting) -> String {
        let began = match waiting.what {
            "lock" => "not let in in time, and does not wait any more",
            _ => "no place is known yet; it may still get one",
        };
        let status = (self.catalog.groups.get(&waiting.group))
            .map(|record| self.group_status(now, waiting.group, record));
        let Some(status) = status else {
            return began.into();
        };
        let name = |peer: &usize| {
            let member = status.members.get(peer.wrapping_sub(1));
            let (address, gone) = member.map_or(("?", false), |member| {
                (member.address.as_str(), !member.reachable)
            });
            let gone = if gone { ", which is not heard" } else { "" };
            format!("peer {peer} ({address}{gone})")
        };
        let waits: Vec<String> = status.waits_for.iter().map(name).collect();
        let silent = (status.members.iter()).filter(|member| !member.reachable);
        let silent: Vec<String> = silent.map(|member| name(&member.peer)).collect();
        match (waits.is_empty(), silent.is_empty()) {
            (false, _) => format!("{began}: waits for {}", waits.join(", ")),
            (true, false) => format!("{began}: {}", silent.join(", ")),
            (true, true) => began.into(),
        }
    }

    pub(crate) fn group_statuses(&self, now: Now) -> Vec<GroupStatus> {
        if !self.holds(META_SHARD) {
            return Vec::new();
        }
        (self.catalog.groups.iter())
            .map(|(number, record)| self.group_status(now, *number, record))
            .collect()
    }

    fn group_status(&self, now: Now, number: u64, record: &GroupRecord) -> GroupStatus {
        let interval_us = self.ping_interval_us();
        let members = (1..).zip(&record.nodes).map(|(peer, node)| {
            let member = self.catalog.members.get(node);
            GroupMember {
                peer,
                node: format!("{:x}", node.0),
                address: member.map(|m| m.address.clone()).unwrap_or_default(),
                console: (self.peers.chunks_address(*node))
                    .cloned()
                    .unwrap_or_default(),
                reachable: *node == self.me.node
                    || self.peers.is_reachable(*node, now, interval_us),
            }
        });
        let kind = protocols::find(&record.protocol).map(|protocol| protocol.kind);
        let mut status = GroupStatus {
            name: record.name.clone(),
            protocol: record.protocol.clone(),
            kind: kind.map_or("unknown here", Kind::name).into(),
            members: members.collect(),
            ..GroupStatus::default()
        };
        let Some(running) = self.groups.running.get(&number) else {
            return status;
        };
        status.me = running.me;
        let Stage::Running(member) = &running.stage else {
            status.role = "starting".into();
            return status;
        };
        status.role = member.role().into();
        status.waits_for = member.waits_for();
        status.waiters = member.waiters();
        status.fence = member.fence();
        status.leader = member.leader().map(|(leader, _)| leader);
        status.term = member.leader().map_or(0, |(_, term)| term);
        status.decided = member.decided().len() as u64;
        let last = member.decided().iter().rev().take(LAST_SHOWN);
        status.last = last.map(|(place, value)| (*place, *value)).collect();
        status.fault = member.fault().unwrap_or_default().into();
        status
    }
}
