//! A machine with its agent and its tasks, as [the host's](../../../host/src/agent) are, without processes: the agent
//! may die and leave its tasks running, and a task that is to stop without its agent is ended by its supervisor once
//! three quarters of the lease are over, counted from when the beat was sent that was heard last.

use super::{LEASE_MS, ROOM_MILLI, Ran};
use crate::caller::Caller;
use crate::client::Context;
use base::Rng;
use node::{After, Call, CallReply, JobsAnswer, JobsQuery, RequestId};
use scheduling::command::Seen;
use scheduling::model::{AgentSpec, End, OnLost};
use scheduling::query::Work;
use scheduling::{AgentId, Command, InstanceId, Refusal, Reply, Resources};
use std::collections::{BTreeMap, BTreeSet};

/// From one beat to the next.
const BEAT_US: u64 = LEASE_MS as u64 * 1_000 / 3;
/// What a heard beat is worth.
const WORTH_US: u64 = LEASE_MS as u64 * 1_000 / 4 * 3;
/// How long a question for work may be kept.
const WORK_US: u64 = 5_000_000;
/// Any other answer is waited for so long.
const ANSWER_US: u64 = 4_000_000;
/// From the word that a task is to end to its end, at most.
const GRACE_US: u64 = 400_000;

#[derive(Clone, PartialEq, Eq, Debug)]
enum What {
    Register,
    Beat(u64),
    Work(u64),
    Report(u64, Vec<Seen>),
}

/// A task of this machine, or what is left of it.
#[derive(Clone, Debug)]
struct Local {
    /// Its place among what ran; `None` for one that never did.
    ran: Option<usize>,
    on_lost: OnLost,
    /// When it ends by itself, and how.
    ends: Option<(u64, End)>,
    /// When it ends because it was told to.
    stops_us: Option<u64>,
    end: Option<End>,
    said: Option<Option<End>>,
}

impl Local {
    fn ended(end: End) -> Self {
        Self {
            ran: None,
            on_lost: OnLost::Keep,
            ends: None,
            stops_us: None,
            end: Some(end),
            said: None,
        }
    }
}

/// A machine.
#[derive(Debug)]
pub(crate) struct Machine {
    number: usize,
    rng: Rng,
    /// Registrations that it has asked for, as its disk says.
    attempt: u64,
    tasks: BTreeMap<InstanceId, Local>,
    lease_until_us: u64,
    generation: Option<u64>,
    index: u64,
    beat_us: u64,
    again_us: u64,
    caller: Caller<What>,
    /// The agent's process is dead until then.
    dead_until_us: u64,
    /// Nothing reaches the cell until then, and nothing comes back.
    cut_until_us: u64,
    held: Vec<(RequestId, CallReply)>,
    /// It lost power for good.
    pub is_fallen: bool,
}

impl Machine {
    pub(crate) fn new(number: usize, rng: Rng) -> Self {
        Self {
            number,
            rng,
            attempt: 0,
            tasks: BTreeMap::new(),
            lease_until_us: 0,
            generation: None,
            index: 0,
            beat_us: 0,
            again_us: 0,
            caller: Caller::new(),
            dead_until_us: 0,
            cut_until_us: 0,
            held: Vec::new(),
            is_fallen: false,
        }
    }

    fn id(&self) -> AgentId {
        AgentId(1 + self.number as u64)
    }

    /// The cell knows it, as far as it knows.
    pub(crate) fn is_of_the_cell(&self) -> bool {
        self.generation.is_some()
    }

    pub(crate) fn calls(&self) -> (usize, usize) {
        self.caller.counts
    }

    /// Something goes wrong, perhaps.
    pub(crate) fn suffer(&mut self, cx: &mut Context<'_>) {
        let now_us = cx.world.now_us;
        if now_us < self.dead_until_us.max(self.cut_until_us) {
            return;
        }
        let most_us = u64::from(LEASE_MS) * 2_000;
        let long_us = now_us + self.rng.range(50_000, most_us);
        match self.rng.range(0, 300) {
            0 => self.die(long_us),
            1 => self.lose_power(cx, long_us),
            2 => self.cut_until_us = long_us,
            _ => {}
        }
    }

    /// The agent's process ends; its tasks run on.
    fn die(&mut self, until_us: u64) {
        self.dead_until_us = until_us;
        self.cut_until_us = 0;
        self.generation = None;
        self.caller.forget();
        self.held.clear();
        for local in self.tasks.values_mut() {
            local.said = None;
        }
    }

    fn lose_power(&mut self, cx: &mut Context<'_>, until_us: u64) {
        self.die(until_us);
        for local in std::mem::take(&mut self.tasks).into_values() {
            if let Some(ran) = local.ran.filter(|_| local.end.is_none()) {
                cx.history.jobs.ran[ran].until_us = Some(cx.world.now_us);
            }
        }
    }

    /// It loses power, and does not come back.
    pub(crate) fn fall(&mut self, cx: &mut Context<'_>) {
        self.lose_power(cx, u64::MAX);
        self.is_fallen = true;
        cx.history.jobs.fallen = Some((self.number, cx.world.now_us));
    }

    /// What is broken is mended.
    pub(crate) fn heal(&mut self, now_us: u64) {
        if !self.is_fallen {
            self.dead_until_us = self.dead_until_us.min(now_us);
            self.cut_until_us = self.cut_until_us.min(now_us);
        }
    }

    /// Goes on, to be called often.
    pub(crate) fn tick(&mut self, cx: &mut Context<'_>) {
        let now_us = cx.world.now_us;
        self.supervise(cx);
        if now_us < self.dead_until_us || now_us < self.cut_until_us {
            return;
        }
        for (request, reply) in std::mem::take(&mut self.held) {
            self.handle_called(cx, request, &reply);
        }
        self.caller.forget_lost(cx, |what| match what {
            What::Work(_) => WORK_US + ANSWER_US,
            What::Beat(_) => BEAT_US,
            What::Register | What::Report(..) => ANSWER_US,
        });
        if now_us < self.again_us {
            return;
        }
        self.again_us = now_us + 20_000;
        let Some(generation) = self.generation else {
            if !self.caller.is_calling(|what| *what == What::Register) {
                self.register(cx);
            }
            return;
        };
        let agent = self.id();
        if now_us >= self.beat_us && !self.caller.is_calling(|w| matches!(w, What::Beat(_))) {
            self.beat_us = now_us + BEAT_US;
            let call = Call::Beat { agent, generation };
            self.caller
                .call(cx, &mut self.rng, What::Beat(generation), call);
        }
        if !self.caller.is_calling(|w| *w == What::Work(generation)) {
            let query = JobsQuery::Work { agent, generation };
            let after = (self.index > 0).then_some(After {
                index: self.index,
                wait_us: WORK_US,
            });
            let call = Call::ReadJobs { query, after };
            self.caller
                .call(cx, &mut self.rng, What::Work(generation), call);
        }
        let seen = self.unsaid();
        if !seen.is_empty() && !self.caller.is_calling(|w| matches!(w, What::Report(..))) {
            let what = What::Report(generation, seen.clone());
            let call = Call::ChangeJobs(Command::Report {
                agent,
                generation,
                seen,
            });
            self.caller.call(cx, &mut self.rng, what, call);
        }
    }

    fn register(&mut self, cx: &mut Context<'_>) {
        let agent = AgentSpec {
            id: self.id(),
            name: format!("m{}", self.number),
            address: String::new(),
            zone: format!("z{}", self.number % 2),
            attributes: BTreeMap::new(),
            packages: BTreeSet::new(),
            resources: Resources::new(ROOM_MILLI, 1 << 30, 0),
            enforces: String::new(),
            lease_ms: LEASE_MS,
        };
        let has = self.tasks.keys().copied().collect();
        self.attempt += 1;
        let attempt = self.attempt;
        let call = Call::ChangeJobs(Command::Register {
            agent,
            has,
            attempt,
        });
        self.caller.call(cx, &mut self.rng, What::Register, call);
    }

    fn unsaid(&self) -> Vec<Seen> {
        let unsaid = self
            .tasks
            .iter()
            .filter(|(_, local)| local.said.as_ref() != Some(&local.end));
        unsaid
            .map(|(id, local)| Seen {
                instance: *id,
                end: local.end.clone(),
            })
            .collect()
    }

    fn said(&mut self, seen: &[Seen]) {
        for seen in seen {
            if let Some(local) = self.tasks.get_mut(&seen.instance) {
                local.said = Some(seen.end.clone());
            }
        }
    }

    /// The cell does not know this generation any more.
    fn outdated(&mut self, generation: u64) {
        if self.generation == Some(generation) {
            self.generation = None;
        }
    }

    fn renew(&mut self, sent_us: u64) {
        self.lease_until_us = self.lease_until_us.max(sent_us + WORTH_US);
    }

    /// Takes the answer to a call, if that is its own.
    pub(crate) fn handle_called(
        &mut self,
        cx: &mut Context<'_>,
        request: RequestId,
        reply: &CallReply,
    ) {
        if cx.world.now_us < self.cut_until_us {
            self.held.push((request, reply.clone()));
            return;
        }
        let Some(pending) = self.caller.take(cx, request, reply) else {
            return;
        };
        match (pending.what, reply) {
            (What::Register, CallReply::JobsChanged(Ok(Reply::Registered { generation }))) => {
                self.renew(pending.invoked_us);
                self.generation = Some(*generation);
                self.index = 0;
                self.beat_us = 0;
            }
            (What::Beat(_), CallReply::Beaten { is_known: true }) => self.renew(pending.invoked_us),
            (What::Beat(generation), CallReply::Beaten { is_known: false }) => {
                self.outdated(generation);
            }
            (What::Work(generation), CallReply::Jobs { index, answer }) => match &**answer {
                JobsAnswer::Work(Ok(work)) if self.generation == Some(generation) => {
                    self.index = *index;
                    self.want(cx, work);
                }
                JobsAnswer::Work(Err(_)) => self.outdated(generation),
                _ => {}
            },
            (What::Report(_, seen), CallReply::JobsChanged(Ok(_))) => self.said(&seen),
            (What::Report(generation, _), CallReply::JobsChanged(Err(Refusal::Outdated))) => {
                self.outdated(generation)
            }
            _ => {}
        }
    }

    /// What the cell wants here; whatever else there is has to end.
    fn want(&mut self, cx: &mut Context<'_>, work: &[Work]) {
        let wanted: BTreeSet<InstanceId> = work.iter().map(|work| work.instance).collect();
        (self.tasks).retain(|id, local| local.end.is_none() || wanted.contains(id));
        let stops_us = cx.world.now_us + self.rng.range(1, GRACE_US);
        for (id, local) in &mut self.tasks {
            if !wanted.contains(id) {
                local.stops_us.get_or_insert(stops_us);
            }
        }
        for work in work {
            match (self.tasks.get_mut(&work.instance), work.run) {
                (Some(local), false) => drop(local.stops_us.get_or_insert(stops_us)),
                (Some(_), true) => {}
                (None, false) => {
                    let ended = Local::ended(End::Stopped);
                    self.tasks.insert(work.instance, ended);
                }
                (None, true) => {
                    let local = self.start(cx, work);
                    self.tasks.insert(work.instance, local);
                }
            }
        }
    }

    fn start(&mut self, cx: &mut Context<'_>, work: &Work) -> Local {
        let now_us = cx.world.now_us;
        let on_lost = work.task.on_lost;
        if on_lost == OnLost::Stop && now_us >= self.lease_until_us {
            return Local::ended(End::Lost);
        }
        let takes_ms: Option<u64> = work.task.command.last().and_then(|word| word.parse().ok());
        let ends = takes_ms.map(|ms| match self.rng.one_in(4) {
            true => (now_us + ms * 500, End::Failed { code: 1 }),
            false => (now_us + ms * 1_000, End::Succeeded),
        });
        let ran = &mut cx.history.jobs.ran;
        ran.push(Ran {
            machine: self.number,
            instance: work.instance.0,
            task: (work.job.clone(), work.index),
            cpu_milli: work.task.resources.cpu_milli,
            on_lost,
            from_us: now_us,
            until_us: None,
        });
        Local {
            ran: Some(ran.len() - 1),
            on_lost,
            ends,
            stops_us: None,
            end: None,
            said: None,
        }
    }

    /// What supervisors do, whether the agent lives or not.
    fn supervise(&mut self, cx: &mut Context<'_>) {
        let now_us = cx.world.now_us;
        for local in self.tasks.values_mut().filter(|local| local.end.is_none()) {
            let is_over = local.on_lost == OnLost::Stop && now_us >= self.lease_until_us;
            let end = match &local.ends {
                _ if local.stops_us.is_some_and(|us| now_us >= us) => End::Stopped,
                Some((at_us, end)) if now_us >= *at_us => end.clone(),
                _ if is_over => End::Lost,
                _ => continue,
            };
            local.end = Some(end);
            if let Some(ran) = local.ran {
                cx.history.jobs.ran[ran].until_us = Some(now_us);
            }
        }
    }
}
