//! A client of the services and what it is about.

use super::{Looked, SERVICES, Told, instance_of, service_of};
use crate::client::Context;
use crate::player::{self, Phase};
use crate::world::{ConnectionNote, Place};
use base::{NodeId, Rng};
use coordination::services::{
    Answer, CheckKind, CheckSpec, Command, Found, Instance, Query, Refusal, Status,
};
use node::{After, Call, CallReply, ClientId, RequestId};

/// A call that a living node has not answered for longer than this is never answered.
const CALL_MAX_US: u64 = 45_000_000;

/// What a call was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Register,
    /// Which entry of the history.
    Tell(usize),
    Look(Option<(u64, u64)>),
}

#[derive(Clone, Debug)]
struct Pending {
    what: What,
    call: Call,
    place: Place,
    life: u64,
    invoked_us: u64,
}

/// A client and its intentions.
#[derive(Debug)]
pub struct Player {
    number: usize,
    rng: Rng,
    ttl_us: u64,
    is_registered: bool,
    /// When to tell the check next; it is told nothing before.
    tell_us: u64,
    /// How often it is told before it falls silent.
    tells_left: u64,
    phase: Phase,
    /// Index that the watcher has seen.
    seen: Option<u64>,
    /// What was registered, told, looked at, or waited for, one of each kind at a time.
    calls: Vec<(RequestId, Pending)>,
    done: bool,
}

impl Player {
    /// A client with intentions.
    pub fn new(number: usize, mut rng: Rng) -> Self {
        Self {
            number,
            ttl_us: rng.range(1_500, 4_000) * 1_000,
            rng,
            is_registered: false,
            tell_us: 0,
            tells_left: 0,
            phase: Phase::Setup,
            seen: None,
            calls: Vec::new(),
            done: false,
        }
    }

    fn is_calling(&self, is_it: impl Fn(&What) -> bool) -> bool {
        self.calls.iter().any(|(_, pending)| is_it(&pending.what))
    }

    fn call(&mut self, cx: &mut Context<'_>, what: What, call: Call) {
        let up: Vec<usize> = (cx.nodes.iter().copied())
            .filter(|node| cx.world.is_up(*node))
            .collect();
        if up.is_empty() {
            return;
        }
        let node = up[self.rng.range(0, up.len() as u64) as usize];
        cx.history.services.calls.0 += 1;
        self.call_core(cx, what, call, Place { node, core: 0 });
    }

    fn call_core(&mut self, cx: &mut Context<'_>, what: What, call: Call, place: Place) {
        let life = cx.world.nodes[place.node].life;
        let request = cx.world.call(place, call.clone());
        let pending = Pending {
            what,
            call,
            place,
            life,
            invoked_us: cx.world.now_us,
        };
        self.calls.push((request, pending));
    }

    fn register(&mut self, cx: &mut Context<'_>) {
        let id = instance_of(self.number);
        let check = CheckSpec {
            id: id.clone(),
            name: "alive".into(),
            notes: String::new(),
            instance: id.clone(),
            kind: CheckKind::Ttl {
                ttl_ms: self.ttl_us / 1_000,
            },
            initial: Status::Critical,
            deregister_after_ms: 0,
        };
        let instance = Instance {
            node: NodeId(1),
            node_address: "10.0.0.1".into(),
            id,
            service: service_of(self.number),
            address: String::new(),
            port: self.number as u16,
            tags: Vec::new(),
            meta: Default::default(),
            weights: (1, 1),
        };
        let command = Command::Register {
            instance,
            checks: vec![check],
            replace_checks: true,
        };
        self.call(cx, What::Register, Call::ChangeServices(command));
    }

    fn tell(&mut self, cx: &mut Context<'_>) {
        let now_us = cx.world.now_us;
        if self.tells_left == 0 {
            // Silent for so long that it is noticed, or nearly.
            self.tells_left = self.rng.range(3, 30);
            self.tell_us = now_us + self.rng.range(self.ttl_us / 2, self.ttl_us * 2);
            return;
        }
        self.tells_left -= 1;
        self.tell_us = now_us + self.ttl_us / 4;
        let entry = cx.history.services.told.len();
        cx.history.services.told.push(Told {
            client: self.number,
            invoked_us: now_us,
            reply_us: None,
            ttl_us: self.ttl_us,
        });
        let command = Command::Tell {
            id: instance_of(self.number),
            status: Status::Passing,
            output: format!("told {entry}"),
        };
        self.call(cx, What::Tell(entry), Call::ChangeServices(command));
    }

    fn look(&mut self, cx: &mut Context<'_>, after: Option<(u64, u64)>) {
        let query = Query::Service {
            name: service_of(self.number),
        };
        let call = Call::ReadServices {
            query,
            after: after.map(|(index, wait_us)| After { index, wait_us }),
        };
        self.call(cx, What::Look(after), call);
    }

    /// Takes the answer to a call, if that is its own.
    fn answered(&mut self, cx: &mut Context<'_>, pending: Pending, reply: &CallReply) {
        let now_us = cx.world.now_us;
        let services = &mut cx.history.services;
        services.calls.1 += 1;
        match (pending.what, reply) {
            (_, CallReply::NotHere { .. }) => {
                let place = Place {
                    core: pending.place.core + 1,
                    ..pending.place
                };
                services.calls.1 -= 1;
                if place.core < cx.world.nodes[place.node].cores() {
                    self.call_core(cx, pending.what, pending.call, place);
                }
            }
            (What::Register, CallReply::ServicesChanged(Ok(_))) => self.is_registered = true,
            (What::Tell(entry), CallReply::ServicesChanged(Ok(_))) => {
                services.told[entry].reply_us = Some(now_us);
            }
            (What::Tell(_), CallReply::ServicesChanged(Err(Refusal::UnknownCheck(_)))) => {
                let number = self.number;
                (cx.history.complaints).push(format!("the check of client {number} is gone"));
            }
            (What::Look(after), CallReply::Services { index, answer }) => {
                let Answer::Instances(found) = answer else {
                    return;
                };
                let looked = Looked {
                    service: self.number % SERVICES,
                    node: pending.place.node,
                    invoked_us: pending.invoked_us,
                    at_us: now_us,
                    after,
                    index: *index,
                    instances: found.iter().map(instance).collect(),
                };
                if after.is_some() || self.seen.is_none() {
                    self.seen = Some(*index);
                }
                if self.phase == Phase::Dump && after.is_none() {
                    self.done = true;
                    services.last.push(looked.clone());
                }
                services.looked.push(looked);
            }
            // It is tried again.
            _ => {}
        }
    }
}

fn instance(found: &Found) -> (usize, Status) {
    (usize::from(found.instance.port), found.status())
}

impl player::Player for Player {
    fn begin(&mut self, phase: Phase) {
        self.phase = phase;
        self.done = matches!(phase, Phase::Look | Phase::Quiet | Phase::Done);
    }

    fn is_done(&self) -> bool {
        match self.phase {
            Phase::Setup => self.is_registered,
            _ => self.done,
        }
    }

    fn handle(&mut self, _: &mut Context<'_>, _: ClientId, _: &ConnectionNote) {}

    fn handle_called(&mut self, cx: &mut Context<'_>, request: RequestId, reply: &CallReply) {
        if let Some(at) = self.calls.iter().position(|(own, _)| *own == request) {
            let (_, pending) = self.calls.remove(at);
            self.answered(cx, pending, reply);
        }
    }

    fn drive(&mut self, cx: &mut Context<'_>, phase: Phase) {
        let now_us = cx.world.now_us;
        let number = self.number;
        let services = &mut cx.history.services;
        let world = &cx.world;
        self.calls.retain(|(_, pending)| {
            // Whoever died answers nothing.
            let lives = world.nodes[pending.place.node].lives(pending.life);
            let waits_us = match pending.what {
                What::Look(Some((_, wait_us))) => wait_us,
                _ => 0,
            };
            let is_late = now_us > pending.invoked_us + waits_us + CALL_MAX_US;
            if lives && is_late {
                let what = format!("{:?}", pending.what);
                services.unanswered.push((number, pending.invoked_us, what));
            }
            lives && !is_late
        });
        if phase == Phase::Look {
            services.healed_us.get_or_insert(now_us);
            services.silent_us.get_or_insert(now_us);
        }
        if !self.is_registered {
            if !self.is_calling(|what| *what == What::Register) {
                self.register(cx);
            }
            return;
        }
        let tells = matches!(phase, Phase::Setup | Phase::Work | Phase::Heal);
        if tells && now_us >= self.tell_us && !self.is_calling(|what| matches!(what, What::Tell(_)))
        {
            self.tell(cx);
        }
        if phase == Phase::Heal && self.tells_left > 0 {
            self.done = true;
        }
        let looks = match phase {
            Phase::Dump => !self.done,
            _ => self.rng.one_in(8),
        };
        if looks && !self.is_calling(|what| *what == What::Look(None)) {
            self.look(cx, None);
        }
        if let Some(index) = self.seen
            && phase != Phase::Dump
            && !self.is_calling(|what| matches!(what, What::Look(Some(_))))
        {
            let wait_us = self.rng.range(500, 12_000) * 1_000;
            self.look(cx, Some((index, wait_us)));
        }
    }

    fn rng(&mut self) -> &mut Rng {
        &mut self.rng
    }

    fn describe(&self) -> String {
        let (number, registered) = (self.number, self.is_registered);
        let calls: Vec<&What> = self.calls.iter().map(|(_, p)| &p.what).collect();
        format!("client {number} of the services (registered {registered}, calls {calls:?})")
    }
}
