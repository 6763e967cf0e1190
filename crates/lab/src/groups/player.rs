//! A user of the group. The first one makes it, and reads what its members wrote down.

use super::Hold;
use crate::caller::{Caller, Pending};
use crate::client::Context;
use crate::player::{self, Phase};
use crate::world::ConnectionNote;
use base::Rng;
use group::{Kind, protocols};
use node::admin::GroupStatus;
use node::{Call, CallReply, ClientId, GroupAnswer, GroupCall, RequestId};
use std::collections::{BTreeMap, BTreeSet};

const NAME: &str = "g";
/// A call that a living node has not answered for longer than this is never answered.
const PATIENCE_US: u64 = 45_000_000;
/// Values of one user lie so far apart from those of the next.
const SPAN: u64 = 1_000_000;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum What {
    Create,
    Lock,
    /// Of which entry of the history.
    Unlock(usize),
    Append(u64),
    /// What the group looks like from this node.
    Look(usize),
    /// What this node's member wrote down.
    Log(usize),
}

/// A user.
#[derive(Debug)]
pub(crate) struct Player {
    number: usize,
    protocol: &'static str,
    kind: Kind,
    rng: Rng,
    caller: Caller<What>,
    /// Where it is inside: the entry of the history, and the node's life.
    inside: Option<(usize, u64)>,
    next_us: u64,
    values: u64,
    phase: Phase,
    done: bool,
    /// It got through once since the faults ended.
    is_through: bool,
    /// What nodes say of the group since the last attempt.
    seen: BTreeMap<usize, GroupStatus>,
    /// Nodes whose member's log was read, or that have none.
    read: BTreeSet<usize>,
}

impl Player {
    pub(crate) fn new(number: usize, protocol: &'static str, rng: Rng) -> Self {
        Self {
            number,
            protocol,
            kind: protocols::find(protocol).map_or(Kind::Lock, |found| found.kind),
            rng,
            caller: Caller::new(),
            inside: None,
            next_us: 0,
            values: 0,
            phase: Phase::Setup,
            done: false,
            is_through: false,
            seen: BTreeMap::new(),
            read: BTreeSet::new(),
        }
    }

    fn create(&mut self, cx: &mut Context<'_>) {
        let call = GroupCall::Create {
            name: NAME.into(),
            protocol: self.protocol.into(),
            nodes: Vec::new(),
        };
        (self.caller).call(cx, &mut self.rng, What::Create, Call::Group(call));
    }

    /// Asks for something, of any node.
    fn ask(&mut self, cx: &mut Context<'_>) {
        let name = NAME.to_owned();
        let wait_us = self.rng.range(200, 3_000) * 1_000;
        let (what, call) = match self.kind {
            Kind::Lock => (What::Lock, GroupCall::Lock { name, wait_us }),
            Kind::Leader => return self.look_around(cx),
            Kind::LeaderLog | Kind::Log { .. } => {
                self.values += 1;
                let value = self.number as u64 * SPAN + self.values;
                cx.history.groups.asked.insert(value);
                let call = GroupCall::Append {
                    name,
                    value,
                    wait_us,
                };
                (What::Append(value), call)
            }
        };
        self.caller.call(cx, &mut self.rng, what, Call::Group(call));
    }

    /// Asks every node that is up what it knows of the group.
    fn look_around(&mut self, cx: &mut Context<'_>) {
        self.seen.clear();
        for node in cx.nodes.iter().copied() {
            (self.caller).call_at(cx, node, What::Look(node), Call::Group(GroupCall::List));
        }
    }

    fn leave(&mut self, cx: &mut Context<'_>, entry: usize) {
        let hold = &mut cx.history.groups.holds[entry];
        hold.until_us = cx.world.now_us;
        let (node, fence) = (hold.node, Some(hold.fence));
        let name = NAME.to_owned();
        let call = Call::Group(GroupCall::Unlock { name, fence });
        (self.caller).call_at(cx, node, What::Unlock(entry), call);
        self.inside = None;
    }

    /// Notices how long it is inside for certain, and that its node has died.
    fn stay(&mut self, cx: &mut Context<'_>) {
        let Some((entry, life)) = self.inside else {
            return;
        };
        let hold = &mut cx.history.groups.holds[entry];
        match cx.world.nodes[hold.node].lives(life) {
            true => hold.until_us = cx.world.now_us,
            false => self.inside = None,
        }
    }

    fn answered(&mut self, cx: &mut Context<'_>, pending: Pending<What>, answer: &GroupAnswer) {
        let now_us = cx.world.now_us;
        let groups = &mut cx.history.groups;
        match (pending.what, answer) {
            (What::Create, GroupAnswer::Done) => self.done = true,
            // An attempt that was not answered in time.
            (What::Create, GroupAnswer::Refused(why)) => self.done = why.contains("already"),
            (What::Lock, GroupAnswer::Locked(fence)) => {
                let life = cx.world.nodes[pending.place.node].life;
                self.inside = Some((groups.holds.len(), life));
                self.is_through = true;
                groups.holds.push(Hold {
                    user: self.number,
                    node: pending.place.node,
                    invoked_us: pending.invoked_us,
                    from_us: now_us,
                    until_us: now_us,
                    fence: *fence,
                });
                self.next_us = now_us + self.rng.range(1_000, 300_000);
            }
            (What::Unlock(entry), GroupAnswer::Refused(why)) if !why.contains("silent") => {
                let hold = groups.holds[entry];
                (cx.history.complaints).push(format!("user of {hold:?} could not leave: {why}"));
            }
            (What::Append(value), GroupAnswer::Appended(place)) => {
                self.is_through = true;
                groups.appended.push((value, *place));
            }
            (What::Look(node), GroupAnswer::Groups(all)) => {
                let status = all.iter().find(|status| status.name == NAME);
                self.seen
                    .extend(status.map(|status| (node, status.clone())));
                self.look(cx);
            }
            (What::Log(node), GroupAnswer::Log(events)) => {
                self.read.insert(node);
                let peer = events.first().map(|event| event.peer);
                groups.logs.extend(peer.map(|peer| (peer, events.clone())));
            }
            (What::Log(node), GroupAnswer::Refused(why)) if why.contains("no member") => {
                self.read.insert(node);
            }
            (What::Lock | What::Append(_), _) if self.phase == Phase::Heal => self.look_around(cx),
            // It is tried again.
            _ => {}
        }
    }

    /// All nodes have said what they know of the group: is it as it should be, or cannot it be?
    fn look(&mut self, cx: &mut Context<'_>) {
        if cx.nodes.iter().any(|node| !self.seen.contains_key(node)) {
            return;
        }
        let members: Vec<&GroupStatus> = self.seen.values().filter(|s| s.me > 0).collect();
        let all = self.seen.values().next().map_or(0, |s| s.members.len());
        cx.history.groups.members = all;
        cx.history.groups.kind = Some(self.kind);
        // A member that is gone for good, or could not write, may be whom the protocol cannot do without.
        let is_maimed = members.len() < all || members.iter().any(|s| !s.fault.is_empty());
        let is_fragile = self.protocol == "token-ring" && cx.history.cut_off;
        let leader = members.first().and_then(|status| status.leader);
        let agree = leader.is_some() && members.iter().all(|status| status.leader == leader);
        self.is_through |= is_maimed || is_fragile || (self.kind == Kind::Leader && agree);
    }
}

impl player::Player for Player {
    fn begin(&mut self, phase: Phase) {
        self.phase = phase;
        self.is_through = false;
        self.seen.clear();
        self.done = match phase {
            Phase::Setup | Phase::Work | Phase::Heal => false,
            Phase::Look | Phase::Quiet | Phase::Done => true,
            Phase::Dump => self.number > 0,
        };
    }

    fn is_done(&self) -> bool {
        self.done || (self.phase == Phase::Setup && self.number > 0)
    }

    fn handle(&mut self, _: &mut Context<'_>, _: ClientId, _: &ConnectionNote) {}

    fn handle_called(&mut self, cx: &mut Context<'_>, request: RequestId, reply: &CallReply) {
        if let Some(pending) = self.caller.take(cx, request, reply)
            && let CallReply::Group(answer) = reply
        {
            self.answered(cx, pending, answer);
        }
    }

    fn drive(&mut self, cx: &mut Context<'_>, phase: Phase) {
        self.stay(cx);
        for pending in self.caller.forget_lost(cx, |_| PATIENCE_US) {
            let (number, what) = (self.number, pending.what);
            (cx.history.complaints)
                .push(format!("user {number} of a group got no answer: {what:?}"));
        }
        if cx.world.now_us < self.next_us {
            return;
        }
        if let Some((entry, _)) = self.inside {
            return self.leave(cx, entry);
        }
        let is_idle = self.caller.kinds().next().is_none();
        match phase {
            Phase::Setup if self.number == 0 && is_idle && !self.done => self.create(cx),
            Phase::Heal if self.is_through && is_idle => self.done = true,
            Phase::Work | Phase::Heal if is_idle && !self.done => {
                let pause_us = self.rng.range(1_000, 400_000);
                self.next_us = cx.world.now_us + pause_us;
                self.ask(cx);
            }
            Phase::Dump if !self.done && is_idle => {
                if cx.nodes.iter().any(|node| !self.seen.contains_key(node)) {
                    return self.look_around(cx);
                }
                let left = cx.nodes.iter().find(|node| !self.read.contains(node));
                let Some(node) = left.copied() else {
                    self.done = true;
                    return;
                };
                let call = Call::Group(GroupCall::Log { name: NAME.into() });
                (self.caller).call_at(cx, node, What::Log(node), call);
            }
            _ => {}
        }
    }

    fn rng(&mut self) -> &mut Rng {
        &mut self.rng
    }

    fn calls(&self) -> (usize, usize) {
        self.caller.counts
    }

    fn describe(&self) -> String {
        let (number, protocol) = (self.number, self.protocol);
        let calls: Vec<&What> = self.caller.kinds().collect();
        let seen: Vec<String> = (self.seen.iter())
            .map(|(node, s)| {
                format!(
                    "node{node}: peer {} {} leader {:?} waits for {:?} fence {:?} {}",
                    s.me, s.role, s.leader, s.waits_for, s.fence, s.fault
                )
            })
            .collect();
        format!("user {number} of the group ({protocol}, calls {calls:?}, {seen:?})")
    }
}
