//! What a user runs outside of the cell: a scheduler, which decides on a copy of the cell that is old by the time it
//! commits, and a framework, which answers some offers with tasks and lets others be.

use crate::caller::Caller;
use crate::client::Context;
use crate::jobs::{Committed, LEASE_MS, Wanted, Work};
use base::Rng;
use node::{Call, CallReply, JobsAnswer, JobsQuery, RequestId};
use scheduling::cell::{Check, Commit};
use scheduling::command::Claim;
use scheduling::model::{Framework, OnLost, Policy, Restart};
use scheduling::query::{CellView, OfferView};
use scheduling::{Command, Refusal, Reply, Resources, Task};
use std::collections::BTreeMap;

/// What a call is waited for.
const PATIENCE_US: u64 = 3_000_000;
/// From one step to the next, at most.
const PAUSE_US: u64 = 250_000;
/// From one question for offers to the next, at most: well within the lease.
const ASK_US: u64 = LEASE_MS as u64 * 1_000 / 6;

#[derive(Clone, PartialEq, Eq, Debug)]
enum What {
    Read,
    Commit,
    Join,
    Renew(u64),
    Offers(u64),
    Answer,
}

/// Both of a user.
#[derive(Debug)]
pub(crate) struct Outside {
    number: usize,
    rng: Rng,
    caller: Caller<What>,
    copy: Option<CellView>,
    decide_us: u64,
    generation: Option<u64>,
    offers: Vec<OfferView>,
    ask_us: u64,
    /// The framework's place among the jobs that were wanted.
    job: Option<usize>,
    has_left: bool,
}

impl Outside {
    pub(crate) fn new(number: usize, rng: Rng) -> Self {
        Self {
            number,
            rng,
            caller: Caller::new(),
            copy: None,
            decide_us: 0,
            generation: None,
            offers: Vec::new(),
            ask_us: 0,
            job: None,
            has_left: false,
        }
    }

    /// The name of the scheduler of the user of that number.
    pub(crate) fn scheduler(number: usize) -> String {
        format!("s{number}")
    }

    /// The name of the framework of the user of that number.
    pub(crate) fn framework(number: usize) -> String {
        format!("f{number}")
    }

    pub(crate) fn calls(&self) -> (usize, usize) {
        self.caller.counts
    }

    /// The framework goes, and comes no more.
    pub(crate) fn leave(&mut self) {
        self.has_left = true;
        self.generation = None;
    }

    /// Goes on, to be called often.
    pub(crate) fn tick(&mut self, cx: &mut Context<'_>) {
        self.caller.forget_lost(cx, |_| PATIENCE_US);
        self.schedule(cx);
        if !self.has_left {
            self.offered(cx);
        }
    }

    fn schedule(&mut self, cx: &mut Context<'_>) {
        let now_us = cx.world.now_us;
        let is_busy = |what: &What| matches!(what, What::Read | What::Commit);
        if now_us < self.decide_us || self.caller.is_calling(is_busy) {
            return;
        }
        // What was read is old by then.
        self.decide_us = now_us + self.rng.range(1_000, PAUSE_US);
        let scheduler = Self::scheduler(self.number);
        let Some(mut copy) = self.copy.take() else {
            let query = JobsQuery::Cell { scheduler };
            let call = Call::ReadJobs { query, after: None };
            return self.caller.call(cx, &mut self.rng, What::Read, call);
        };
        let mut claims = Vec::new();
        for task in &copy.pending {
            let fits = |its: &&mut scheduling::query::CellAgent| task.resources.fits(its.free);
            if let Some(agent) = copy.agents.iter_mut().find(fits) {
                agent.free = agent.free.saturating_sub(task.resources);
                claims.push(Claim {
                    slot: task.slot,
                    agent: agent.id,
                    seen: agent.version,
                });
            }
        }
        if claims.is_empty() {
            return;
        }
        let call = Call::ChangeJobs(Command::Commit {
            scheduler,
            claims,
            commit: Commit::Incremental,
            check: match self.rng.one_in(4) {
                true => Check::Version,
                false => Check::Fit,
            },
        });
        self.caller.call(cx, &mut self.rng, What::Commit, call);
    }

    fn offered(&mut self, cx: &mut Context<'_>) {
        let now_us = cx.world.now_us;
        let is_busy = |what: &What| !matches!(what, What::Read | What::Commit);
        if self.caller.is_calling(is_busy) {
            return;
        }
        let name = Self::framework(self.number);
        let Some(generation) = self.generation else {
            if now_us < self.ask_us {
                return;
            }
            self.ask_us = now_us + ASK_US;
            self.job.get_or_insert_with(|| {
                cx.history.jobs.wanted.push(Wanted {
                    name: name.clone(),
                    work: Work::Ends(0),
                    acknowledged_us: None,
                    stopped_us: None,
                    removed_us: None,
                });
                cx.history.jobs.wanted.len() - 1
            });
            let call = Call::ChangeJobs(Command::Join {
                name,
                priority: 50,
                framework: Framework {
                    weight: 1 + self.number as u32 % 2,
                    lease_ms: LEASE_MS,
                    generation: 0,
                },
            });
            return self.caller.call(cx, &mut self.rng, What::Join, call);
        };
        if let Some(offer) = self.offers.pop() {
            return self.answer(cx, generation, &offer);
        }
        if now_us < self.ask_us {
            return;
        }
        self.ask_us = now_us + self.rng.range(1_000, ASK_US);
        let call = Call::ChangeJobs(Command::Renew {
            name,
            generation,
            wants: self.rng.range(0, 5) > 0,
        });
        let what = What::Renew(generation);
        self.caller.call(cx, &mut self.rng, what, call);
    }

    fn answer(&mut self, cx: &mut Context<'_>, generation: u64, offer: &OfferView) {
        let cpu_milli = (1 + self.number as u64 % 3) * 100;
        let given = Resources::new(cpu_milli, 0, 0);
        let wants = given.fits(offer.resources) && self.rng.one_in(2);
        let task = Task {
            name: "t".into(),
            count: 1,
            command: vec!["run".into(), "500".into()],
            env: BTreeMap::new(),
            resources: given,
            files_max: 0,
            cpu_seconds_max: 0,
            restart: Restart {
                policy: Policy::Never,
                attempts_max: 0,
                pause_ms: 0,
                pause_ms_max: 0,
            },
            on_lost: OnLost::Stop,
            grace_ms: 500,
            constraints: Vec::new(),
            packages: Default::default(),
        };
        let call = Call::ChangeJobs(Command::Answer {
            name: Self::framework(self.number),
            generation,
            offer: offer.id,
            tasks: wants.then_some(task).into_iter().collect(),
            filter_ms: self.rng.range(0, 500),
        });
        self.caller.call(cx, &mut self.rng, What::Answer, call);
    }

    /// Takes the answer to a call, if that is its own.
    pub(crate) fn handle_called(
        &mut self,
        cx: &mut Context<'_>,
        request: RequestId,
        reply: &CallReply,
    ) {
        let Some(pending) = self.caller.take(cx, request, reply) else {
            return;
        };
        match (pending.what, reply) {
            (What::Read, CallReply::Jobs { answer, .. }) => {
                if let JobsAnswer::Cell(view) = &**answer {
                    self.copy = Some(view.clone());
                }
            }
            (What::Commit, CallReply::JobsChanged(Ok(Reply::Committed { placed, .. }))) => {
                let at_us = cx.world.now_us;
                let placed = placed.iter().map(|(slot, instance)| Committed {
                    at_us,
                    slot: *slot,
                    instance: instance.0,
                });
                cx.history.jobs.committed.extend(placed);
            }
            (What::Join, CallReply::JobsChanged(Ok(Reply::Registered { generation }))) => {
                self.generation = (!self.has_left).then_some(*generation);
                self.offers.clear();
                self.ask_us = 0;
            }
            (What::Renew(generation), CallReply::JobsChanged(Ok(_)))
                if self.generation == Some(generation) =>
            {
                let query = JobsQuery::Offers {
                    framework: Self::framework(self.number),
                    generation,
                };
                let call = Call::ReadJobs { query, after: None };
                let what = What::Offers(generation);
                self.caller.call(cx, &mut self.rng, what, call);
            }
            (What::Offers(generation), CallReply::Jobs { answer, .. })
                if self.generation == Some(generation) =>
            {
                match &**answer {
                    JobsAnswer::Offers(Ok(view)) => self.offers.clone_from(&view.offers),
                    _ => self.generation = None,
                }
            }
            (_, CallReply::JobsChanged(Err(Refusal::Outdated))) => self.generation = None,
            // What was refused, or is not known, shows in what is read next.
            _ => {}
        }
    }
}
