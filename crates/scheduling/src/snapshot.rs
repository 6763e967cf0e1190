//! The image of a cell, reading it back, and the byte forms of its records.

use crate::command::{Slot, Why, put_end, put_instances, read_end, read_instances};
use crate::machine::{Agent, Instance, Job, Phase, Scheduling, Wanted};
use crate::model::{AgentId, AgentSpec, End, InstanceId, JobSpec, PlacedBy};
use base::{DecodeError, Reader, State, Writer};

/// Version of the form.
const FORMAT: u16 = 3;
/// The one before, in which the cell placed all jobs itself.
const FORMAT_ALONE: u16 = 2;
/// The first, in which registrations of agents were not counted.
const FORMAT_UNCOUNTED: u16 = 1;

impl Scheduling {
    pub(crate) fn image(&self) -> Vec<u8> {
        let mut w = Writer::with_capacity(self.bytes() as usize + 128);
        w.u16(FORMAT).u64(self.revision).u64(self.last_job);
        w.u64(self.last_instance).i64(self.time_ms);
        w.u64(self.digest());
        w.u32(self.agents.len() as u32);
        for agent in self.agents.values() {
            agent.encode_into(&mut w);
        }
        w.u32(self.jobs.len() as u32);
        for (number, job) in &self.jobs {
            job.weigh_into(*number, &mut w);
            job.spec.encode_into(&mut w);
            job.spec.placed_by.encode_into(&mut w);
        }
        self.encode_offers(&mut w);
        w.u32(self.instances.len() as u32);
        for (id, instance) in &self.instances {
            instance.encode_into(*id, &mut w);
        }
        w.u32(self.slots.len() as u32);
        for (slot, wanted) in &self.slots {
            wanted.encode_into(*slot, &mut w);
        }
        w.into_vec()
    }

    pub(crate) fn from_image(image: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(image);
        let format = r.u16()?;
        if ![FORMAT, FORMAT_ALONE, FORMAT_UNCOUNTED].contains(&format) {
            return Err(DecodeError::Invalid("format"));
        }
        let mut made = Self {
            revision: r.u64()?,
            last_job: r.u64()?,
            last_instance: r.u64()?,
            time_ms: r.i64()?,
            ..Self::default()
        };
        let digest = r.u64()?;
        for _ in 0..r.count(40)? {
            made.put_agent(Agent::decode_from(&mut r, format)?);
        }
        for _ in 0..r.count(40)? {
            let (number, job) = Job::decode_from(&mut r, format)?;
            made.put_job(number, job);
        }
        if format == FORMAT {
            made.decode_offers(&mut r)?;
        }
        for _ in 0..r.count(60)? {
            let (id, instance) = Instance::decode_from(&mut r)?;
            made.put_instance(id, instance);
        }
        for _ in 0..r.count(30)? {
            let (slot, wanted) = Wanted::decode_from(&mut r)?;
            made.put_slot(slot, wanted);
        }
        r.finish()?;
        if format != FORMAT_UNCOUNTED && made.digest() != digest {
            return Err(DecodeError::Invalid("digest"));
        }
        Ok(made)
    }
}

impl Scheduling {
    pub(crate) fn encode_offers(&self, w: &mut Writer) {
        w.u32(self.renewals.len() as u32);
        for (number, renewals) in &self.renewals {
            w.u64(*number).u64(*renewals);
        }
        self.offers.encode_into(w);
    }

    fn decode_offers(&mut self, r: &mut Reader<'_>) -> Result<(), DecodeError> {
        for _ in 0..r.count(16)? {
            self.renewals.insert(r.u64()?, r.u64()?);
        }
        self.offers.set_total(self.total());
        self.offers.decode_from(r)
    }
}

impl Agent {
    pub(crate) fn encode_into(&self, w: &mut Writer) {
        w.u64(self.generation).bool(self.is_up);
        w.i64(self.since_ms).u64(self.index);
        self.spec.encode_into(w);
        w.u64(self.attempt);
    }

    fn decode_from(r: &mut Reader<'_>, format: u16) -> Result<Self, DecodeError> {
        Ok(Self {
            generation: r.u64()?,
            is_up: r.bool()?,
            since_ms: r.i64()?,
            index: r.u64()?,
            spec: AgentSpec::decode_from(r)?,
            attempt: match format {
                FORMAT_UNCOUNTED => 0,
                _ => r.u64()?,
            },
        })
    }
}

impl Job {
    /// All but what is wanted, of which there is a hash.
    pub(crate) fn weigh_into(&self, number: u64, w: &mut Writer) {
        w.u64(number).bool(self.is_stopped);
        w.i64(self.created_ms).u64(self.index).u64(self.spec_hash);
    }

    fn decode_from(r: &mut Reader<'_>, format: u16) -> Result<(u64, Self), DecodeError> {
        let (number, is_stopped) = (r.u64()?, r.bool()?);
        let (created_ms, index, hash) = (r.i64()?, r.u64()?, r.u64()?);
        let mut spec = JobSpec::decode_from(r)?;
        if format == FORMAT {
            spec.placed_by = PlacedBy::decode_from(r)?;
        }
        let mut job = Self::new(spec, created_ms);
        if job.spec_hash != hash {
            return Err(DecodeError::Invalid("job"));
        }
        (job.is_stopped, job.index) = (is_stopped, index);
        Ok((number, job))
    }
}

impl Wanted {
    pub(crate) fn encode_into(&self, slot: Slot, w: &mut Writer) {
        slot.encode_into(w);
        w.u64(self.current.unwrap_or_default().0);
        put_end(w, self.end.as_ref());
        w.u32(self.restarts).u32(self.streak).i64(self.due_ms);
        put_instances(w, self.past.iter().copied());
    }

    fn decode_from(r: &mut Reader<'_>) -> Result<(Slot, Self), DecodeError> {
        let slot = Slot::decode_from(r)?;
        let current = InstanceId(r.u64()?);
        let wanted = Self {
            current: (current != InstanceId::default()).then_some(current),
            end: read_end(r)?,
            restarts: r.u32()?,
            streak: r.u32()?,
            due_ms: r.i64()?,
            past: read_instances(r)?,
        };
        Ok((slot, wanted))
    }
}

impl Instance {
    pub(crate) fn encode_into(&self, id: InstanceId, w: &mut Writer) {
        w.u64(id.0);
        self.slot.encode_into(w);
        w.u64(self.agent.0);
        w.u8(match &self.phase {
            Phase::Placed => 1,
            Phase::Runs => 2,
            Phase::Stopping => 3,
            Phase::Ended(_) => 4,
        });
        if let Phase::Ended(end) = &self.phase {
            end.encode_into(w);
        }
        w.i64(self.placed_ms).i64(self.started_ms);
        w.i64(self.ended_ms);
        put_instances(w, self.waits_for.iter().copied());
        self.why.encode_into(w);
    }

    fn decode_from(r: &mut Reader<'_>) -> Result<(InstanceId, Self), DecodeError> {
        let id = InstanceId(r.u64()?);
        let (slot, agent) = (Slot::decode_from(r)?, AgentId(r.u64()?));
        let phase = match r.u8()? {
            1 => Phase::Placed,
            2 => Phase::Runs,
            3 => Phase::Stopping,
            4 => Phase::Ended(End::decode_from(r)?),
            _ => return Err(DecodeError::Invalid("phase")),
        };
        let instance = Self {
            slot,
            agent,
            phase,
            placed_ms: r.i64()?,
            started_ms: r.i64()?,
            ended_ms: r.i64()?,
            waits_for: read_instances(r)?,
            why: Why::decode_from(r)?,
        };
        Ok((id, instance))
    }
}
