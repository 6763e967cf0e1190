//! Putting and taking agents, jobs, slots and instances, with all that is kept up beside them.

use super::*;

impl Scheduling {
    pub(crate) fn put_agent(&mut self, agent: Agent) {
        self.rows.add(1, |w| agent.encode_into(w));
        let spec = &agent.spec;
        let mut attributes = spec.attributes.clone();
        attributes.insert("zone".into(), spec.zone.clone());
        attributes.insert("node".into(), spec.name.clone());
        let view = self.views.entry(spec.id).or_default();
        view.id = spec.id.0;
        view.zone = spec.zone.clone();
        view.healthy = agent.is_up;
        view.attributes = attributes;
        view.packages = spec.packages.clone();
        view.total = spec.resources;
        self.agents.insert(spec.id, agent);
    }

    /// Its view stays, for what is promised of it.
    pub(super) fn take_agent(&mut self, id: AgentId) -> Option<Agent> {
        let agent = self.agents.remove(&id)?;
        self.rows.remove(1, |w| agent.encode_into(w));
        if self.live_of(id).is_empty() {
            self.views.remove(&id);
        }
        Some(agent)
    }

    pub(crate) fn put_job(&mut self, number: u64, job: Job) {
        self.rows.add(2, |w| job.weigh_into(number, w));
        self.rows.bytes += job.spec_bytes;
        self.names.insert(job.spec.name.clone(), number);
        let framework = job.spec.placed_by.framework().filter(|_| !job.is_stopped);
        if let Some(framework) = framework {
            self.offers.join(number, u64::from(framework.weight));
        }
        self.jobs.insert(number, job);
    }

    pub(super) fn take_job(&mut self, number: u64) -> Option<Job> {
        let job = self.jobs.remove(&number)?;
        self.rows.remove(2, |w| job.weigh_into(number, w));
        self.rows.bytes -= job.spec_bytes;
        self.names.remove(&job.spec.name);
        Some(job)
    }

    pub(crate) fn put_slot(&mut self, slot: Slot, wanted: Wanted) {
        self.rows.add(3, |w| wanted.encode_into(slot, w));
        if let Some(job) = self.jobs.get_mut(&slot.job) {
            job.count(&wanted, 1);
            if !job.is_stopped && wanted.current.is_none() && wanted.end.is_none() {
                let waits = (Reverse(job.spec.priority), slot);
                match &job.spec.placed_by {
                    PlacedBy::Cell => drop(self.pending.insert(waits)),
                    PlacedBy::Scheduler(name) => {
                        let of = self.awaiting.entry(name.clone()).or_default();
                        of.insert(waits);
                    }
                    // It is placed as it comes.
                    PlacedBy::Framework(_) => {}
                }
            }
        }
        self.slots.insert(slot, wanted);
    }

    pub(super) fn take_slot(&mut self, slot: Slot) -> Option<Wanted> {
        let wanted = self.slots.remove(&slot)?;
        self.rows.remove(3, |w| wanted.encode_into(slot, w));
        if let Some(job) = self.jobs.get_mut(&slot.job) {
            job.count(&wanted, u32::MAX);
            let waits = (Reverse(job.spec.priority), slot);
            self.pending.remove(&waits);
            if let PlacedBy::Scheduler(name) = &job.spec.placed_by
                && let Some(of) = self.awaiting.get_mut(name)
            {
                of.remove(&waits);
                if of.is_empty() {
                    self.awaiting.remove(name);
                }
            }
        }
        Some(wanted)
    }

    pub(crate) fn put_instance(&mut self, id: InstanceId, instance: Instance) {
        self.rows.add(4, |w| instance.encode_into(id, w));
        if instance.is_live() {
            let agent = instance.agent;
            self.live_on.entry(agent).or_default().insert(id);
            let mut promise = self.promise(id, instance.slot);
            self.offers.take(instance.slot.job, promise.resources);
            for victim in &instance.waits_for {
                self.waiters.insert(*victim, id);
                let view = self.views.get_mut(&agent);
                if let Some((view, its)) = view.and_then(|v| v.remove(victim.0).map(|r| (v, r))) {
                    // Their room is counted as theirs until they have ended.
                    promise.resources = promise.resources.saturating_sub(its.resources);
                    view.add(Running {
                        priority: u32::MAX,
                        ..its
                    });
                }
                promise.priority = u32::MAX;
            }
            if let Some(view) = self.views.get_mut(&agent) {
                view.add(promise);
            }
        }
        self.instances.insert(id, instance);
    }

    /// What an agent's view says of an instance. One that waits for others, or for which another waits, is nobody's
    /// victim any more.
    fn promise(&self, id: InstanceId, slot: Slot) -> Running {
        let ask = self.ask(slot).unwrap_or_default();
        let is_evicted = self.waiters.contains_key(&id);
        Running {
            instance: id.0,
            job: ask.job,
            priority: if is_evicted { u32::MAX } else { ask.priority },
            resources: ask.resources,
        }
    }

    pub(super) fn take_instance(&mut self, id: InstanceId) -> Option<Instance> {
        let instance = self.instances.remove(&id)?;
        self.rows.remove(4, |w| instance.encode_into(id, w));
        if instance.is_live() {
            let its = self.promise(id, instance.slot).resources;
            self.offers.give_back(instance.slot.job, its);
            if let Some(view) = self.views.get_mut(&instance.agent) {
                view.remove(id.0);
            }
            if let Some(live) = self.live_on.get_mut(&instance.agent) {
                live.remove(&id);
                if live.is_empty() {
                    self.live_on.remove(&instance.agent);
                }
            }
        }
        Some(instance)
    }

    /// Of who is offered what; 0 before there was a framework, as in cells that know none.
    pub(crate) fn offers_digest(&self) -> u64 {
        if self.renewals.is_empty() && self.offers.is_unused() {
            return 0;
        }
        let mut w = Writer::new();
        self.encode_offers(&mut w);
        XxHash64::oneshot(7, w.as_slice())
    }
}
