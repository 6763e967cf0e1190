//! A user of the cell with a machine of his own.

use super::machine::Machine;
use super::outside::Outside;
use super::{Account, Listed, ROOM_MILLI, Wanted, Work};
use crate::caller::Caller;
use crate::client::Context;
use crate::player::{self, Phase};
use crate::world::ConnectionNote;
use base::Rng;
use node::{Call, CallReply, ClientId, JobsAnswer, JobsQuery, RequestId};
use scheduling::model::{OnLost, PlacedBy, Policy, Restart};
use scheduling::query::JobState;
use scheduling::{Command, JobSpec, Resources, Rule, Task};
use std::collections::BTreeMap;

/// Jobs of a user that have not ended, at most.
const OPEN_MAX: usize = 3;
/// What a call is waited for: what became of it shows in the next list.
const PATIENCE_US: u64 = 3_000_000;
/// From one list to the next while nothing new is done.
const LIST_US: u64 = 300_000;

#[derive(Clone, PartialEq, Eq, Debug)]
enum What {
    Run(usize),
    Stop(usize),
    Remove(usize),
    List,
    Agents,
}

/// A client of the cell.
#[derive(Debug)]
pub(crate) struct Player {
    number: usize,
    /// Clients that there are.
    clients: usize,
    rng: Rng,
    machine: Machine,
    outside: Outside,
    caller: Caller<What>,
    /// Its jobs, by their places in the history.
    own: Vec<usize>,
    /// All jobs, as they were listed last.
    states: BTreeMap<String, (JobState, u32, u32)>,
    /// When that was asked for.
    listed_us: u64,
    next_us: u64,
    phase: Phase,
    since_us: Option<u64>,
    /// The job that is to run once all is healed.
    last: Option<usize>,
    done: bool,
}

impl Player {
    /// Of so many clients the one with this number.
    pub(crate) fn new(number: usize, clients: usize, rng: Rng) -> Self {
        Self {
            number,
            clients,
            machine: Machine::new(number, rng.fork(1)),
            outside: Outside::new(number, rng.fork(2)),
            rng,
            caller: Caller::new(),
            own: Vec::new(),
            states: BTreeMap::new(),
            listed_us: 0,
            next_us: 0,
            phase: Phase::Setup,
            since_us: None,
            last: None,
            done: false,
        }
    }

    fn state(&self, cx: &Context<'_>, job: usize) -> Option<JobState> {
        let name = &cx.history.jobs.wanted[job].name;
        self.states.get(name).map(|(state, ..)| *state)
    }

    fn run(&mut self, cx: &mut Context<'_>, work: Work, cpu_milli: u64, count: u32) -> usize {
        let wanted = &mut cx.history.jobs.wanted;
        let job = wanted.len();
        let name = format!("j{}-{job}", self.number);
        wanted.push(Wanted {
            name: name.clone(),
            work,
            acknowledged_us: None,
            stopped_us: None,
            removed_us: None,
        });
        self.own.push(job);
        let (word, policy) = match work {
            Work::Serves => ("serve".into(), Policy::Always),
            Work::Ends(ms) => (ms.to_string(), Policy::OnFailure),
        };
        let task = Task {
            name: "t".into(),
            count,
            command: vec!["run".into(), word],
            env: BTreeMap::new(),
            resources: Resources::new(cpu_milli, 0, 0),
            files_max: 0,
            cpu_seconds_max: 0,
            restart: Restart {
                policy,
                attempts_max: 0,
                pause_ms: 50,
                pause_ms_max: 400,
            },
            on_lost: match self.rng.one_in(4) {
                true => OnLost::Keep,
                false => OnLost::Stop,
            },
            grace_ms: 500,
            constraints: Vec::new(),
            packages: Default::default(),
        };
        let spec = JobSpec {
            name,
            priority: self.rng.range(0, 4) as u32 * 50,
            rule: Rule::ALL[self.rng.range(0, Rule::ALL.len() as u64) as usize],
            tasks: vec![task],
            placed_by: match self.rng.one_in(3) {
                true => PlacedBy::Scheduler(Outside::scheduler(self.number)),
                false => PlacedBy::Cell,
            },
        };
        let call = Call::ChangeJobs(Command::Run { job: spec });
        self.caller.call(cx, &mut self.rng, What::Run(job), call);
        job
    }

    fn stop(&mut self, cx: &mut Context<'_>, job: usize) {
        let now_us = cx.world.now_us;
        let wanted = &mut cx.history.jobs.wanted[job];
        wanted.stopped_us.get_or_insert(now_us);
        let name = wanted.name.clone();
        let call = Call::ChangeJobs(Command::Stop { name });
        self.caller.call(cx, &mut self.rng, What::Stop(job), call);
    }

    fn remove(&mut self, cx: &mut Context<'_>, job: usize) {
        let now_us = cx.world.now_us;
        let wanted = &mut cx.history.jobs.wanted[job];
        wanted.removed_us.get_or_insert(now_us);
        let name = wanted.name.clone();
        let call = Call::ChangeJobs(Command::Remove { name });
        self.caller.call(cx, &mut self.rng, What::Remove(job), call);
    }

    fn list(&mut self, cx: &mut Context<'_>) {
        let (what, query) = match self.rng.one_in(3) {
            true => (What::Agents, JobsQuery::Agents),
            false => (What::List, JobsQuery::Jobs),
        };
        let after = None;
        let call = Call::ReadJobs { query, after };
        self.caller.call(cx, &mut self.rng, what, call);
    }

    fn is_open(&self, cx: &Context<'_>, job: usize) -> bool {
        let is_open = |state| matches!(state, JobState::Runs | JobState::Stopping);
        self.state(cx, job).is_none_or(is_open)
    }

    fn work(&mut self, cx: &mut Context<'_>) {
        let now_us = cx.world.now_us;
        if self.caller.is_calling(|_| true) || now_us < self.next_us {
            return;
        }
        self.next_us = now_us + self.rng.range(1_000, 300_000);
        let open: Vec<usize> = (self.own.iter().copied())
            .filter(|job| self.is_open(cx, *job))
            .collect();
        match self.rng.range(0, 10) {
            0..4 if open.len() < OPEN_MAX => {
                let work = match self.rng.one_in(2) {
                    true => Work::Serves,
                    false => Work::Ends(self.rng.range(20, 2_000)),
                };
                let cpu_milli = self.rng.range(1, 8) * 100;
                let count = self.rng.range(1, 4) as u32;
                self.run(cx, work, cpu_milli, count);
            }
            4 | 5 if !open.is_empty() => {
                let job = open[self.rng.range(0, open.len() as u64) as usize];
                self.stop(cx, job);
            }
            6 => {
                let ended = |job: &&usize| !open.contains(job);
                if let Some(job) = self.own.iter().find(ended).copied() {
                    self.own.retain(|own| *own != job);
                    self.remove(cx, job);
                }
            }
            _ => self.list(cx),
        }
    }

    /// All but one small job are stopped, and that runs.
    fn insist(&mut self, cx: &mut Context<'_>) {
        let now_us = cx.world.now_us;
        let since_us = *self.since_us.get_or_insert(now_us);
        if self.done || self.caller.is_calling(|_| true) || now_us < self.next_us {
            return;
        }
        self.next_us = now_us + LIST_US;
        if self.listed_us <= since_us {
            return self.list(cx);
        }
        // One of unknown outcome may turn up late: it is looked for again and again.
        let prefix = format!("j{}-", self.number);
        let framework = Outside::framework(self.number);
        let is_own = |name: &String| name.starts_with(&prefix) || *name == framework;
        let last = self
            .last
            .map(|job| cx.history.jobs.wanted[job].name.clone());
        let runs = |(name, (state, ..)): &(&String, &(JobState, u32, u32))| {
            is_own(name) && *state == JobState::Runs && Some(*name) != last.as_ref()
        };
        if let Some((name, _)) = self.states.iter().find(runs) {
            let wanted = &cx.history.jobs.wanted;
            let job = wanted.iter().position(|wanted| wanted.name == *name);
            let job = job.expect("only what was asked for is there");
            self.listed_us = 0;
            return self.stop(cx, job);
        }
        let Some(last) = last else {
            self.last = Some(self.run(cx, Work::Serves, ROOM_MILLI / 10, 2));
            self.listed_us = 0;
            return;
        };
        let is_open = |name: &str| {
            let state = self.states.get(name).map(|(state, ..)| *state);
            matches!(state, Some(JobState::Runs | JobState::Stopping))
        };
        let others_ended =
            (self.states.keys()).all(|name| !is_own(name) || *name == last || !is_open(name));
        match self.states.get(&last) {
            Some((JobState::Runs, running, wanted)) if running == wanted && others_ended => {
                self.done = true;
            }
            Some((JobState::Runs, ..)) => self.list(cx),
            _ => {
                // It may have been refused.
                let calls = self.caller.is_calling(|what| matches!(what, What::Run(_)));
                let is_known = self.states.contains_key(&last);
                if !calls && !is_known {
                    self.last = None;
                }
                self.list(cx);
            }
        }
    }

    /// One machine falls; what ran there runs elsewhere.
    fn look(&mut self, cx: &mut Context<'_>) {
        let now_us = cx.world.now_us;
        let fallen = cx.history.jobs.fallen;
        if self.number == 0 && self.clients > 1 && fallen.is_none() {
            self.machine.fall(cx);
        }
        let settles_us = u64::from(super::LEASE_MS) * 1_500;
        let fallen_us = match cx.history.jobs.fallen {
            Some((_, fallen_us)) => fallen_us,
            None if self.clients == 1 => 0,
            None => return,
        };
        if self.done || self.caller.is_calling(|_| true) || now_us < self.next_us {
            return;
        }
        self.next_us = now_us + LIST_US;
        let last = self.last.map(|job| &cx.history.jobs.wanted[job].name);
        let its = last.and_then(|name| self.states.get(name));
        let runs = its
            .is_some_and(|(state, running, wanted)| *state == JobState::Runs && running == wanted);
        if runs && self.listed_us > fallen_us + settles_us {
            self.done = true;
            return;
        }
        self.list(cx);
    }

    fn last_look(&mut self, cx: &mut Context<'_>) {
        if !self.done && !self.caller.is_calling(|_| true) {
            let query = JobsQuery::Jobs;
            let call = Call::ReadJobs { query, after: None };
            self.caller.call(cx, &mut self.rng, What::List, call);
        }
    }
}

impl player::Player for Player {
    fn begin(&mut self, phase: Phase) {
        self.phase = phase;
        self.since_us = None;
        self.next_us = 0;
        self.done = matches!(phase, Phase::Quiet | Phase::Done);
    }

    fn is_done(&self) -> bool {
        match self.phase {
            Phase::Setup => self.machine.is_of_the_cell(),
            _ => self.done,
        }
    }

    fn handle(&mut self, _: &mut Context<'_>, _: ClientId, _: &ConnectionNote) {}

    fn handle_called(&mut self, cx: &mut Context<'_>, request: RequestId, reply: &CallReply) {
        let now_us = cx.world.now_us;
        self.machine.handle_called(cx, request, reply);
        self.outside.handle_called(cx, request, reply);
        let Some(pending) = self.caller.take(cx, request, reply) else {
            return;
        };
        let jobs = &mut cx.history.jobs;
        match (pending.what, reply) {
            (What::Run(job), CallReply::JobsChanged(Ok(_))) => {
                jobs.wanted[job].acknowledged_us = Some(now_us);
            }
            (What::List, CallReply::Jobs { answer, .. }) => {
                let JobsAnswer::Jobs(list) = &**answer else {
                    return;
                };
                let listed = Listed {
                    invoked_us: pending.invoked_us,
                    at_us: now_us,
                    jobs: (list.iter())
                        .map(|job| (job.name.clone(), job.state, job.running, job.wanted))
                        .collect(),
                };
                self.listed_us = pending.invoked_us;
                self.states = (list.iter())
                    .map(|job| (job.name.clone(), (job.state, job.running, job.wanted)))
                    .collect();
                if self.phase == Phase::Dump {
                    self.done = true;
                    jobs.last.push(listed.clone());
                }
                jobs.listed.push(listed);
            }
            (What::Agents, CallReply::Jobs { answer, .. }) => {
                if let JobsAnswer::Agents(views) = &**answer {
                    let used = (views.iter())
                        .map(|view| (view.agent.spec.id.0 - 1, view.used.cpu_milli))
                        .collect();
                    jobs.accounts.push(Account {
                        at_us: now_us,
                        used_milli: used,
                    });
                }
            }
            // What was refused, or is not known, shows in the next list.
            _ => {}
        }
    }

    fn drive(&mut self, cx: &mut Context<'_>, phase: Phase) {
        if phase == Phase::Work {
            self.machine.suffer(cx);
        } else {
            self.machine.heal(cx.world.now_us);
        }
        if !matches!(phase, Phase::Setup | Phase::Work) {
            self.outside.leave();
        }
        self.machine.tick(cx);
        self.outside.tick(cx);
        self.caller.forget_lost(cx, |_| PATIENCE_US);
        match phase {
            Phase::Work => self.work(cx),
            Phase::Heal => self.insist(cx),
            Phase::Look => self.look(cx),
            Phase::Dump => self.last_look(cx),
            Phase::Setup | Phase::Quiet | Phase::Done => {}
        }
    }

    fn rng(&mut self) -> &mut Rng {
        &mut self.rng
    }

    fn calls(&self) -> (usize, usize) {
        let all = [
            self.caller.counts,
            self.machine.calls(),
            self.outside.calls(),
        ];
        let add = |sum: (usize, usize), of: (usize, usize)| (sum.0 + of.0, sum.1 + of.1);
        all.into_iter().fold((0, 0), add)
    }

    fn describe(&self) -> String {
        let number = self.number;
        let prefix = format!("j{number}-");
        let its = self
            .states
            .iter()
            .filter(|(name, _)| name.starts_with(&prefix));
        let states: Vec<_> = its.collect();
        format!(
            "user {number} (last {:?}, listed at {}, {states:?}, of the cell {})",
            self.last,
            self.listed_us,
            self.machine.is_of_the_cell()
        )
    }
}
