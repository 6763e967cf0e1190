//! The same jobs under three architectures, in simulated time: one scheduler for all, a master with offers to
//! two frameworks, schedulers on one shared state. The model is that of the Omega paper's section 4: a decision
//! takes a time for the job and a time for each of its tasks, and only then takes effect.
//!
//! Placement is not modelled: it is [`Placer`], on a [`Cell`] of real nodes. A run is a function of its plan
//! and its trace.

pub mod trace;

use crate::cell::{Cell, Check, Claim, Commit};
use crate::offers::{Master, Offer};
use crate::placement::{Effort, NodeView, Placer, Rule, TaskSpec};
use crate::resources::Resources;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::fmt;
use trace::Job;

/// A node of simulated cells: 16 processors, 64 GiB.
pub const NODE: Resources = Resources::new(16_000, 64 << 30, 0);
/// Tasks that found no room are tried again after so long.
const RETRY_MS: u64 = 1000;
/// Offers that a framework is made at once: it sees so many nodes of the cell.
const OFFERS_MAX: usize = 256;
/// A framework that got no offer asks again after so long.
const NO_OFFER_MS: u64 = 100;

/// Who decides.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Architecture {
    /// One scheduler for all jobs, one after the other.
    Monolithic,
    /// A master offers, two frameworks (batch, service) place.
    TwoLevel,
    /// Schedulers with copies of one state; commits may conflict.
    SharedState,
}

impl Architecture {
    /// Every architecture.
    pub const ALL: [Self; 3] = [Self::Monolithic, Self::TwoLevel, Self::SharedState];
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Monolithic => "monolithic",
            Self::TwoLevel => "two-level",
            Self::SharedState => "shared-state",
        })
    }
}

/// How a run goes.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Nodes, in zones of 20.
    pub nodes: u64,
    /// Who decides.
    pub architecture: Architecture,
    /// By which rule.
    pub rule: Rule,
    /// How many nodes are looked at.
    pub effort: Effort,
    /// Schedulers for batch jobs where the state is shared; there is one for services.
    pub batch_schedulers: usize,
    /// How long the decision about a batch job takes, for the job and for each task, in milliseconds.
    pub batch_ms: (u64, u64),
    /// The same of a service.
    pub service_ms: (u64, u64),
    /// How long an offer stands.
    pub offer_ms: u64,
    /// What a conflict does to a job's other tasks.
    pub commit: Commit,
    /// What counts as a conflict.
    pub check: Check,
}

impl Plan {
    /// 5,000 nodes, best fit of 64 feasible nodes, and times that keep one scheduler nearly busy.
    pub fn new(architecture: Architecture) -> Self {
        Self {
            nodes: 5000,
            architecture,
            rule: Rule::BestFit,
            effort: Effort::Feasible(64),
            batch_schedulers: 2,
            batch_ms: (20, 2),
            service_ms: (500, 25),
            offer_ms: 5000,
            commit: Commit::Incremental,
            check: Check::Fit,
        }
    }

    /// The cell, empty.
    pub fn cell(&self) -> Cell {
        Cell::new((1..=self.nodes).map(|id| NodeView {
            id,
            zone: format!("zone{}", (id - 1) / 20),
            healthy: true,
            total: NODE,
            ..NodeView::default()
        }))
    }
}

/// What came of a run.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Report {
    /// Tasks that were started, those again that had been preempted.
    pub placed: u64,
    /// Tasks that were never started until the last job had come and a minute had passed.
    pub waiting: u64,
    /// Claims that were refused at commit, or whose offer was withdrawn.
    pub conflicts: u64,
    /// Tasks for which no node was found, each time it was tried.
    pub no_room: u64,
    /// Tasks that had to go for others.
    pub preempted: u64,
    /// Nodes that were looked at.
    pub considered: u64,
    /// How long batch jobs waited for the first decision to begin, sorted, in milliseconds.
    pub batch_wait_ms: Vec<u64>,
    /// The same of services.
    pub service_wait_ms: Vec<u64>,
    /// How long batch jobs waited until all their tasks ran, sorted.
    pub batch_ready_ms: Vec<u64>,
    /// The same of services.
    pub service_ready_ms: Vec<u64>,
    /// Processors in use, averaged over the second half of the run, in thousandths.
    pub cpu_per_mille: u64,
    /// The same of memory.
    pub memory_per_mille: u64,
    /// Nodes on which nothing runs, averaged likewise: room for what is large.
    pub empty_per_mille: u64,
    /// How much of the time each scheduler was deciding, in thousandths.
    pub busy_per_mille: Vec<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Event {
    Arrive(usize),
    Begin(usize),
    Decided(usize),
    Retry(usize, usize, u32),
    Finish(u64),
    Sample,
}

struct Scheduler {
    /// Jobs, and how many of their tasks are to be placed.
    queue: VecDeque<(usize, u32)>,
    placer: Placer,
    /// What it sees, unless it sees the cell itself.
    view: Option<Cell>,
    deciding: Option<Deciding>,
    busy_ms: u64,
}

struct Deciding {
    job: usize,
    tasks: u32,
    claims: Vec<Claim>,
    offers: Vec<Offer>,
}

struct Simulation<'a> {
    plan: &'a Plan,
    jobs: &'a [Job],
    master: Master,
    cell: Cell,
    schedulers: Vec<Scheduler>,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    sequence: u64,
    now_ms: u64,
    instances: u64,
    /// Place and job of what runs.
    running: BTreeMap<u64, (usize, usize)>,
    /// Tasks of each job that have not been started yet, and whether a decision has begun.
    open: Vec<(u32, bool)>,
    report: Report,
    /// Their number, and sums of thousandths: processors, memory, empty nodes.
    samples: [u64; 4],
}

/// Runs `jobs` (in the order of their times) as `plan` says, until a minute after the last has come.
pub fn run(plan: &Plan, jobs: &[Job]) -> Report {
    let cell = plan.cell();
    let schedulers = match plan.architecture {
        Architecture::Monolithic => 1,
        Architecture::TwoLevel => 2,
        Architecture::SharedState => plan.batch_schedulers.max(1) + 1,
    };
    let mut master = Master::new(cell.clone(), plan.offer_ms);
    let mut schedulers: Vec<Scheduler> = (0..schedulers)
        .map(|_| Scheduler {
            queue: VecDeque::new(),
            placer: Placer::new(plan.rule, plan.effort),
            view: (plan.architecture != Architecture::Monolithic).then(|| cell.copy()),
            deciding: None,
            busy_ms: 0,
        })
        .collect();
    if plan.architecture == Architecture::TwoLevel {
        for (framework, scheduler) in schedulers.iter_mut().enumerate() {
            master.register(framework as u64, 1);
            let view = scheduler.view.iter_mut();
            view.for_each(|view| {
                (0..plan.nodes as usize).for_each(|at| view.show_free(at, Resources::NONE))
            });
        }
    }
    let mut simulation = Simulation {
        plan,
        jobs,
        master,
        cell,
        schedulers,
        events: BinaryHeap::new(),
        sequence: 0,
        now_ms: 0,
        instances: 0,
        running: BTreeMap::new(),
        open: jobs.iter().map(|job| (job.tasks, false)).collect(),
        report: Report::default(),
        samples: [0; 4],
    };
    simulation.run();
    simulation.report
}

impl Simulation<'_> {
    fn at(&mut self, at_ms: u64, event: Event) {
        self.sequence += 1;
        self.events.push(Reverse((at_ms, self.sequence, event)));
    }

    fn run(&mut self) {
        let end_ms = self.jobs.last().map_or(0, |job| job.at_ms) + 60_000;
        if !self.jobs.is_empty() {
            self.at(self.jobs[0].at_ms, Event::Arrive(0));
        }
        self.at(end_ms / 2, Event::Sample);
        while let Some(Reverse((at_ms, _, event))) = self.events.pop() {
            if at_ms > end_ms {
                break;
            }
            self.now_ms = at_ms;
            match event {
                Event::Arrive(job) => self.arrive(job),
                Event::Begin(scheduler) => self.begin(scheduler),
                Event::Decided(scheduler) => self.decided(scheduler),
                Event::Retry(scheduler, job, tasks) => {
                    self.schedulers[scheduler].queue.push_back((job, tasks));
                    self.begin(scheduler);
                }
                Event::Finish(instance) => {
                    if let Some((at, _)) = self.running.remove(&instance) {
                        self.finish(at, instance);
                    }
                }
                Event::Sample => self.sample(),
            }
        }
        let report = &mut self.report;
        report.waiting = self.open.iter().map(|(tasks, _)| u64::from(*tasks)).sum();
        for times in [
            &mut report.batch_wait_ms,
            &mut report.service_wait_ms,
            &mut report.batch_ready_ms,
            &mut report.service_ready_ms,
        ] {
            times.sort_unstable();
        }
        let busy = self.schedulers.iter().map(|s| s.busy_ms * 1000 / end_ms);
        report.busy_per_mille = busy.collect();
        let [samples, cpu, memory, empty] = self.samples;
        report.cpu_per_mille = cpu.checked_div(samples).unwrap_or(0);
        report.memory_per_mille = memory.checked_div(samples).unwrap_or(0);
        report.empty_per_mille = empty.checked_div(samples).unwrap_or(0);
    }

    /// The cell as it is.
    fn truth(&self) -> &Cell {
        match self.plan.architecture {
            Architecture::TwoLevel => self.master.cell(),
            _ => &self.cell,
        }
    }

    fn finish(&mut self, at: usize, instance: u64) {
        match self.plan.architecture {
            Architecture::TwoLevel => {
                let node = self.master.cell().nodes()[at].id;
                self.master.finish(node, instance);
                for scheduler in &mut self.schedulers {
                    if let Some(view) = &mut scheduler.view {
                        let free = view.nodes()[at].free();
                        if view.finish(at, instance).is_some() {
                            view.show_free(at, free);
                        }
                    }
                }
            }
            _ => {
                self.cell.finish(at, instance);
            }
        }
    }

    fn sample(&mut self) {
        let (total, used) = self.truth().usage();
        let mille = |used: u64, total: u64| used * 1000 / total.max(1);
        let nodes = self.truth().nodes();
        let empty = nodes.iter().filter(|node| node.running.is_empty()).count() as u64;
        let sample = [
            1,
            mille(used.cpu_milli, total.cpu_milli),
            mille(used.memory_bytes, total.memory_bytes),
            mille(empty, self.plan.nodes),
        ];
        for (sum, one) in self.samples.iter_mut().zip(sample) {
            *sum += one;
        }
        self.at(self.now_ms + 1000, Event::Sample);
    }

    fn arrive(&mut self, job: usize) {
        if let Some(next) = self.jobs.get(job + 1) {
            self.at(next.at_ms, Event::Arrive(job + 1));
        }
        let scheduler = self.scheduler_of(job);
        let tasks = self.jobs[job].tasks;
        self.schedulers[scheduler].queue.push_back((job, tasks));
        self.begin(scheduler);
    }

    fn scheduler_of(&self, job: usize) -> usize {
        let last = self.schedulers.len() - 1;
        match self.jobs[job].service {
            _ if last == 0 => 0,
            true => last,
            false => job % last,
        }
    }

    /// An idle scheduler takes up the next job.
    fn begin(&mut self, which: usize) {
        let two_levels = self.plan.architecture == Architecture::TwoLevel;
        let scheduler = &mut self.schedulers[which];
        if scheduler.deciding.is_some() {
            return;
        }
        let Some(&(job, tasks)) = scheduler.queue.front() else {
            if two_levels {
                self.master.set_wants(which as u64, false);
            }
            return;
        };
        let mut offers = Vec::new();
        if two_levels {
            self.master.set_wants(which as u64, true);
            // The other framework, if it wants, is polled in its own time: offers to it would lapse unseen.
            let other = 1 - which as u64;
            let other_waits = self.schedulers[1 - which].deciding.is_none()
                && !self.schedulers[1 - which].queue.is_empty();
            self.master.set_wants(other, other_waits);
            let made = self.master.poll_offers(self.now_ms, OFFERS_MAX);
            let (mine, theirs): (Vec<Offer>, Vec<Offer>) =
                made.into_iter().partition(|o| o.framework == which as u64);
            for offer in theirs {
                let _ = self.master.decline(self.now_ms, other, offer.id, 0);
            }
            if mine.is_empty() {
                self.at(self.now_ms + NO_OFFER_MS, Event::Begin(which));
                return;
            }
            offers = mine;
        }
        let scheduler = &mut self.schedulers[which];
        scheduler.queue.pop_front();
        let wanted = &self.jobs[job];
        if !std::mem::replace(&mut self.open[job].1, true) {
            let waited = self.now_ms - wanted.at_ms;
            match wanted.service {
                true => self.report.service_wait_ms.push(waited),
                false => self.report.batch_wait_ms.push(waited),
            }
        }
        let (job_ms, task_ms) = match wanted.service {
            true => self.plan.service_ms,
            false => self.plan.batch_ms,
        };
        let takes_ms = (job_ms + task_ms * u64::from(tasks)).max(1);
        scheduler.busy_ms += takes_ms;
        scheduler.deciding = Some(Deciding {
            job,
            tasks,
            claims: Vec::new(),
            offers,
        });
        if self.plan.architecture != Architecture::Monolithic {
            self.decide(which);
        }
        self.at(self.now_ms + takes_ms, Event::Decided(which));
    }

    /// Places the tasks in hand on what the scheduler sees.
    fn decide(&mut self, which: usize) {
        let scheduler = &mut self.schedulers[which];
        let Some(deciding) = &mut scheduler.deciding else {
            return;
        };
        let sole = scheduler.view.is_none();
        let view = match (&mut scheduler.view, self.plan.architecture) {
            (None, _) => &mut self.cell,
            (Some(view), Architecture::TwoLevel) => {
                for offer in &deciding.offers {
                    if let Some(at) = view.place_of(offer.node) {
                        view.show_free(at, offer.resources);
                    }
                }
                view
            }
            (Some(view), _) => {
                view.refresh(&self.cell);
                view
            }
        };
        let job = &self.jobs[deciding.job];
        let spec = TaskSpec {
            job: deciding.job as u64,
            priority: job.priority,
            resources: job.resources,
            ..TaskSpec::default()
        };
        for _ in 0..deciding.tasks {
            // What finds no room leaves none for its equals.
            let Ok(choice) = scheduler.placer.place(view, &spec) else {
                break;
            };
            self.report.considered += choice.considered as u64;
            let Some(at) = view.place_of(choice.node) else {
                break;
            };
            self.instances += 1;
            // The node as the cell has it: not as own tasks have changed the copy since.
            let mine = deciding.claims.iter().find(|c| c.node == choice.node);
            let seen = mine.map_or(view.node_version(at), |claim| claim.seen);
            let claim = Claim {
                instance: self.instances,
                spec: spec.clone(),
                node: choice.node,
                seen,
                preempt: choice.preempt,
            };
            if sole {
                // One scheduler sees the truth: what it decides it carries out.
                self.report.preempted += claim.preempt.len() as u64;
                let verdict = view.commit(vec![claim], Commit::Incremental, Check::Fit);
                deciding.claims.extend(verdict.committed);
                continue;
            }
            for instance in &claim.preempt {
                view.finish(at, *instance);
            }
            view.start(at, claim.running());
            deciding.claims.push(claim);
        }
    }

    /// The decision takes effect.
    fn decided(&mut self, which: usize) {
        if self.plan.architecture == Architecture::Monolithic {
            self.decide(which);
        }
        let Some(deciding) = self.schedulers[which].deciding.take() else {
            return;
        };
        let Deciding {
            job,
            tasks,
            claims,
            offers,
        } = deciding;
        let found = claims.len() as u32;
        let (committed, conflicts) = match self.plan.architecture {
            Architecture::Monolithic => (claims, Vec::new()),
            Architecture::SharedState => {
                let verdict = self.cell.commit(claims, self.plan.commit, self.plan.check);
                let gone: usize = verdict.committed.iter().map(|c| c.preempt.len()).sum();
                self.report.preempted += gone as u64;
                (verdict.committed, verdict.conflicts)
            }
            Architecture::TwoLevel => self.accept(which, claims, &offers),
        };
        self.report.conflicts += conflicts.len() as u64;
        self.started(job, &committed);
        let no_room = tasks - found;
        self.report.no_room += u64::from(no_room);
        if no_room > 0 {
            self.at(self.now_ms + RETRY_MS, Event::Retry(which, job, no_room));
        }
        if !conflicts.is_empty() {
            let again = (job, conflicts.len() as u32);
            self.schedulers[which].queue.push_front(again);
        }
        self.begin(which);
    }

    /// Accepts what tasks were placed on, and declines the rest.
    fn accept(
        &mut self,
        which: usize,
        claims: Vec<Claim>,
        offers: &[Offer],
    ) -> (Vec<Claim>, Vec<Claim>) {
        let mut by_node: BTreeMap<u64, Vec<Claim>> = BTreeMap::new();
        for claim in claims {
            by_node.entry(claim.node).or_default().push(claim);
        }
        let (mut committed, mut conflicts) = (Vec::new(), Vec::new());
        let framework = which as u64;
        for offer in offers {
            let claims = by_node.remove(&offer.node).unwrap_or_default();
            if let Some(view) = &mut self.schedulers[which].view
                && let Some(at) = view.place_of(offer.node)
            {
                view.show_free(at, Resources::NONE);
            }
            if claims.is_empty() {
                let _ = self.master.decline(self.now_ms, framework, offer.id, 0);
                continue;
            }
            let tasks: Vec<_> = claims.iter().map(Claim::running).collect();
            match self.master.accept(self.now_ms, framework, offer.id, &tasks) {
                Ok(()) => committed.extend(claims),
                Err(_) => conflicts.extend(claims),
            }
        }
        if let Some(view) = &mut self.schedulers[which].view {
            for claim in &conflicts {
                if let Some(at) = view.place_of(claim.node) {
                    view.finish(at, claim.instance);
                    view.show_free(at, Resources::NONE);
                }
            }
        }
        (committed, conflicts)
    }

    fn started(&mut self, job: usize, claims: &[Claim]) {
        let wanted = self.jobs[job];
        for claim in claims {
            for instance in &claim.preempt {
                if let Some((_, victim)) = self.running.remove(instance) {
                    let scheduler = self.scheduler_of(victim);
                    self.at(self.now_ms, Event::Retry(scheduler, victim, 1));
                }
            }
            if let Some(at) = self.truth().place_of(claim.node) {
                self.running.insert(claim.instance, (at, job));
            }
            let ends_ms = self.now_ms + wanted.duration_ms;
            self.at(ends_ms, Event::Finish(claim.instance));
        }
        self.report.placed += claims.len() as u64;
        let open = &mut self.open[job].0;
        if *open > 0 {
            *open = open.saturating_sub(claims.len() as u32);
            if *open == 0 {
                let waited = self.now_ms - wanted.at_ms;
                match wanted.service {
                    true => self.report.service_ready_ms.push(waited),
                    false => self.report.batch_ready_ms.push(waited),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
