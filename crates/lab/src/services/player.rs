//! A client of the services and what it is about.

use super::{Looked, SERVICES, Told, instance_of, service_of};
use crate::caller::{Caller, Pending};
use crate::client::Context;
use crate::player::{self, Phase};
use crate::world::ConnectionNote;
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
    calls: Caller<What>,
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
            calls: Caller::new(),
            done: false,
        }
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
        (self.calls).call(
            cx,
            &mut self.rng,
            What::Register,
            Call::ChangeServices(command),
        );
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
        (self.calls).call(
            cx,
            &mut self.rng,
            What::Tell(entry),
            Call::ChangeServices(command),
        );
    }

    fn look(&mut self, cx: &mut Context<'_>, after: Option<(u64, u64)>) {
        let query = Query::Service {
            name: service_of(self.number),
        };
        let call = Call::ReadServices {
            query,
            after: after.map(|(index, wait_us)| After { index, wait_us }),
        };
        (self.calls).call(cx, &mut self.rng, What::Look(after), call);
    }

    /// Takes the answer to a call, if that is its own.
    fn answered(&mut self, cx: &mut Context<'_>, pending: Pending<What>, reply: &CallReply) {
        let now_us = cx.world.now_us;
        let services = &mut cx.history.services;
        match (pending.what, reply) {
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
        if let Some(pending) = self.calls.take(cx, request, reply) {
            self.answered(cx, pending, reply);
        }
    }

    fn drive(&mut self, cx: &mut Context<'_>, phase: Phase) {
        let now_us = cx.world.now_us;
        let late = self.calls.forget_lost(cx, |what| match what {
            What::Look(Some((_, wait_us))) => wait_us + CALL_MAX_US,
            _ => CALL_MAX_US,
        });
        let services = &mut cx.history.services;
        services.unanswered.extend(late.iter().map(|pending| {
            let what = format!("{:?}", pending.what);
            (self.number, pending.invoked_us, what)
        }));
        if phase == Phase::Look {
            services.healed_us.get_or_insert(now_us);
            services.silent_us.get_or_insert(now_us);
        }
        if !self.is_registered {
            if !self.calls.is_calling(|what| *what == What::Register) {
                self.register(cx);
            }
            return;
        }
        let tells = matches!(phase, Phase::Setup | Phase::Work | Phase::Heal);
        if tells
            && now_us >= self.tell_us
            && !self.calls.is_calling(|what| matches!(what, What::Tell(_)))
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
        if looks && !self.calls.is_calling(|what| *what == What::Look(None)) {
            self.look(cx, None);
        }
        if let Some(index) = self.seen
            && phase != Phase::Dump
            && !self
                .calls
                .is_calling(|what| matches!(what, What::Look(Some(_))))
        {
            let wait_us = self.rng.range(500, 12_000) * 1_000;
            self.look(cx, Some((index, wait_us)));
        }
    }

    fn rng(&mut self) -> &mut Rng {
        &mut self.rng
    }

    fn calls(&self) -> (usize, usize) {
        self.calls.counts
    }

    fn describe(&self) -> String {
        let (number, registered) = (self.number, self.is_registered);
        let calls: Vec<&What> = self.calls.kinds().collect();
        format!("client {number} of the services (registered {registered}, calls {calls:?})")
    }
}
