//! Frameworks: they are offered room and bring the tasks for it themselves.
//!
//! A framework is a job whose tasks come one offer after another, under the framework's name; so its tasks are seen,
//! read and stopped like any other's. Whose turn it is, how long an offer stands and what it holds are
//! [`Offers`](crate::offers::Offers)', here over the cell's agents.
//!
//! An offer holds its room against other frameworks only: whoever else is first has it, and then the offer is
//! withdrawn. Holding it against all (as Mesos does) would let a slow framework keep a job waiting.

use super::*;
use crate::model::{COUNT_MAX, Framework};
use crate::offers::{Offer, Refused};
use crate::resources::Resources;

/// How long an offer stands, milliseconds.
pub const OFFER_MS: u64 = 5_000;
/// Offers that are made at a time.
pub const OFFERS_MAX: usize = 1_000;
/// Frameworks.
pub const FRAMEWORKS_MAX: usize = 1_000;
/// Tasks of a framework that have ended and are remembered.
pub const ENDED_MAX: usize = 100;
/// The longest filter of a declined offer, milliseconds.
pub const FILTER_MS_MAX: u64 = 3_600_000;

impl Scheduling {
    /// A framework is there, or there again: then its former self is not heard any more.
    pub(super) fn join(
        &mut self,
        name: String,
        priority: u32,
        framework: Framework,
        out: &mut Vec<Output>,
    ) -> Result<Reply, Refusal> {
        let spec = JobSpec::of_framework(name, priority, framework)?;
        let known = self.names.get(&spec.name).copied();
        let known = known.and_then(|number| Some((number, self.jobs.get(&number)?)));
        let number = match known {
            Some((number, job)) if !job.is_stopped && job.spec.placed_by.framework().is_some() => {
                let mut job = self.take_job(number).expect("it was just seen");
                let last = job.spec.placed_by.framework().map_or(0, |f| f.generation);
                let generation = last + 1;
                let framework = Framework {
                    generation,
                    ..framework
                };
                job.set_spec(JobSpec {
                    placed_by: PlacedBy::Framework(framework),
                    ..job.spec.clone()
                });
                self.put_job(number, job);
                self.offers.withdraw(number);
                number
            }
            Some((_, job)) if !job.has_ended() => return Err(Refusal::Runs(spec.name)),
            known => {
                if known.is_some() {
                    self.remove(&spec.name.clone(), out)?;
                }
                if self.renewals.len() >= FRAMEWORKS_MAX || self.jobs.len() >= JOBS_MAX {
                    return Err(Refusal::TooMany);
                }
                self.last_job += 1;
                let number = self.last_job;
                self.renewals.insert(number, 0);
                self.put_job(number, Job::new(spec, self.time_ms));
                number
            }
        };
        self.changed_jobs.insert(number);
        let job = self.jobs.get(&number);
        let framework = job.and_then(|job| job.spec.placed_by.framework());
        let generation = framework.map_or(0, |framework| framework.generation);
        Ok(Reply::Registered { generation })
    }

    /// The number of a framework, if it is there in this generation.
    fn framework(&self, name: &str, generation: u64) -> Result<u64, Refusal> {
        let number = self.number(name)?;
        let job = self.jobs.get(&number).filter(|job| !job.is_stopped);
        let framework = job.and_then(|job| job.spec.placed_by.framework());
        match framework {
            Some(framework) if framework.generation == generation => Ok(number),
            _ => Err(Refusal::Outdated),
        }
    }

    /// A framework lives, and wants offers or none.
    pub(super) fn renew(
        &mut self,
        name: &str,
        generation: u64,
        wants: bool,
    ) -> Result<Reply, Refusal> {
        let number = self.framework(name, generation)?;
        *self.renewals.entry(number).or_default() += 1;
        let mut has_changed = self.offers.set_wants(number, wants);
        if !wants {
            has_changed |= !self.offers.withdraw(number).is_empty();
        }
        if has_changed {
            self.changed_jobs.insert(number);
        }
        Ok(Reply::Done)
    }

    /// A framework leaves, or was not heard since so many renewals; its tasks are told to end.
    pub(super) fn quit(
        &mut self,
        name: &str,
        generation: u64,
        renewals: Option<u64>,
    ) -> Result<Reply, Refusal> {
        let number = self.framework(name, generation)?;
        let last = self.renewals.get(&number);
        match renewals.is_none_or(|seen| last == Some(&seen)) {
            true => self.stop(name),
            false => Err(Refusal::Outdated),
        }
    }

    /// Makes the offers that are due, and withdraws those that are over.
    pub(super) fn offer(&mut self) -> Result<Reply, Refusal> {
        let (now_ms, total) = (self.now_ms(), self.total());
        self.offers.set_total(total);
        let over = self.offers.handle_time(now_ms);
        self.tally.offers_withdrawn += over.len() as u64;
        let nodes: Vec<&NodeView> = self.views.values().collect();
        let made = self.offers.poll(now_ms, OFFER_MS, &nodes, OFFERS_MAX);
        self.tally.offers_made += made.len() as u64;
        let told = over.iter().chain(&made).map(|offer| offer.framework);
        self.changed_jobs.extend(told);
        Ok(Reply::Done)
    }

    /// Whether there is anything for [`Self::offer`] to do.
    pub fn wants_offers(&self, time_ms: i64) -> bool {
        if self.renewals.is_empty() {
            return false;
        }
        let now_ms = u64::try_from(time_ms.max(self.time_ms)).unwrap_or_default();
        let nodes: Vec<&NodeView> = self.views.values().collect();
        let mut trial = self.offers.clone();
        !trial.handle_time(now_ms).is_empty() || !trial.poll(now_ms, OFFER_MS, &nodes, 1).is_empty()
    }

    /// A framework runs `tasks` on what it was offered; with none, it does not want the offer, nor any of that agent
    /// for a while.
    pub(super) fn answer(
        &mut self,
        name: &str,
        generation: u64,
        offer: u64,
        tasks: Vec<Task>,
        filter_ms: u64,
    ) -> Result<Reply, Refusal> {
        let number = self.framework(name, generation)?;
        let now_ms = self.now_ms();
        if tasks.is_empty() {
            let filter_ms = filter_ms.min(FILTER_MS_MAX);
            (self.offers.decline(now_ms, number, offer, filter_ms)).map_err(Refusal::Offer)?;
            self.tally.offers_declined += 1;
            self.changed_jobs.insert(number);
            return Ok(Reply::Launched(Vec::new()));
        }
        let count = tasks.iter().map(|task| u64::from(task.count)).sum::<u64>();
        if count > u64::from(COUNT_MAX) {
            return Err(Refusal::Offer(Refused::TooMuch));
        }
        let wanted = tasks.iter().try_fold(Resources::NONE, |sum, task| {
            let all = task.resources.checked_mul(u64::from(task.count))?;
            sum.checked_add(all)
        });
        let made = self.offers.check(now_ms, number, offer, wanted);
        let made = made.map_err(Refusal::Offer)?;
        let slots = self.launch(number, made, tasks)?;
        self.offers.end(offer);
        self.tally.offers_accepted += 1;
        self.changed_jobs.insert(number);
        let agent = AgentId(made.node);
        let mut launched = Vec::new();
        for slot in slots {
            self.put_slot(slot, Wanted::default());
            let placed = self.place(Placement {
                slot,
                agent,
                generation: self.agents.get(&agent).map_or(0, |a| a.generation),
                evict: Vec::new(),
                why: Why::default(),
            });
            match placed {
                Some(instance) => launched.push((slot, instance)),
                None => drop(self.take_slot(slot)),
            }
        }
        Ok(Reply::Launched(launched))
    }

    /// Adds `tasks` to those of a framework's job. Returns what is to be placed.
    fn launch(
        &mut self,
        number: u64,
        offer: Offer,
        tasks: Vec<Task>,
    ) -> Result<Vec<Slot>, Refusal> {
        self.forget_ended(number);
        let view = self.views.get(&AgentId(offer.node));
        let view = view.ok_or(Refusal::Offer(Refused::NoOffer))?;
        let job = self.jobs.get(&number).ok_or(Refusal::Outdated)?;
        let mut spec = job.spec.clone();
        let mut used: BTreeSet<Slot> = self.slots_of(number).into_iter().collect();
        let mut slots = Vec::new();
        for task in tasks {
            let count = task.count;
            let is_it = |known: &Task| known.name == task.name;
            let is_free = |at: usize| !used.iter().any(|slot| usize::from(slot.task) == at);
            let at = match spec.tasks.iter().position(is_it) {
                Some(at) if spec.tasks[at].is_like(&task) => at,
                Some(at) if !is_free(at) => {
                    return Err(Refusal::Invalid(format!(
                        "another task {:?} of this framework is there, with another command or other resources: take another name",
                        task.name
                    )));
                }
                Some(at) => at,
                None => (0..spec.tasks.len())
                    .find(|at| is_free(*at))
                    .unwrap_or(spec.tasks.len()),
            };
            let ask = placement::TaskSpec {
                job: number,
                priority: spec.priority,
                resources: task.resources,
                constraints: task.constraints.clone(),
                packages: task.packages.clone(),
            };
            if let Some(reason) = objection(view, &ask) {
                return Err(Refusal::Invalid(format!(
                    "task {:?} cannot run on the agent of this offer: {reason}",
                    task.name
                )));
            }
            let free = (0..).map(|index| Slot {
                job: number,
                task: at as u16,
                index,
            });
            let new: Vec<Slot> = (free.filter(|slot| !used.contains(slot)))
                .take(count as usize)
                .collect();
            used.extend(&new);
            // Its count is how far the numbers of its instances go.
            let known = spec.tasks.get(at).filter(|known| known.name == task.name);
            let last = new.last().map_or(0, |slot| slot.index + 1);
            let count = known.map_or(0, |known| known.count).max(last);
            let task = Task { count, ..task };
            match at < spec.tasks.len() {
                true => spec.tasks[at] = task,
                false => spec.tasks.push(task),
            }
            slots.extend(new);
        }
        spec.check()?;
        if self.slots.len() + slots.len() > SLOTS_MAX {
            return Err(Refusal::TooMany);
        }
        let mut job = self.take_job(number).ok_or(Refusal::Outdated)?;
        job.set_spec(spec);
        self.put_job(number, job);
        Ok(slots)
    }

    /// Forgets all but the newest of a framework's tasks that have ended.
    fn forget_ended(&mut self, number: u64) {
        let ended = self.slots_of(number).into_iter().filter_map(|slot| {
            let wanted = self
                .slots
                .get(&slot)
                .filter(|wanted| wanted.end.is_some())?;
            Some((wanted.past.last().copied(), slot))
        });
        let mut ended: Vec<_> = ended.collect();
        ended.sort_unstable();
        for (_, slot) in ended.iter().take(ended.len().saturating_sub(ENDED_MAX)) {
            let wanted = self.take_slot(*slot).unwrap_or_default();
            for id in wanted.past {
                self.take_instance(id);
            }
        }
    }

    /// What is on offer of an agent is no more than what is left of it.
    pub(super) fn rescind(&mut self, id: AgentId) {
        let view = self.views.get(&id).filter(|view| view.healthy);
        let free = view.map_or(Resources::NONE, NodeView::free);
        let ended = self.offers.rescind(id.0, free);
        self.tally.offers_withdrawn += ended.len() as u64;
        (self.changed_jobs).extend(ended.iter().map(|offer| offer.framework));
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.time_ms).unwrap_or_default()
    }

    /// What all agents that are up have.
    pub(crate) fn total(&self) -> Resources {
        let up = self.views.values().filter(|view| view.healthy);
        up.fold(Resources::NONE, |sum, view| sum.saturating_add(view.total))
    }
}
