//! Services: who offers what, where, and whether it is well. One machine beside the tree, with a revision of
//! its own.
//!
//! The cluster is one agent: instances and checks are known by ids that are unique in it, and whoever
//! registers, tells or removes one may do so at any node. Each service has an index: the revision at which
//! its instances or what their checks say last changed, so that whoever waits for one service is not woken by
//! another, nor by a check that says the same in other words. The index of a service without instances is the
//! revision at which any service last lost its last one: never less than what was seen of it.
//!
//! No replica decides by its own clock. Time-outs run at the leader, who proposes [`Command::Expire`] with how
//! often the check had been told; a probe's result names the epoch in which its node was to look.
//!
//! Reading order: [`model`] (what is registered), [`command`] (what may be asked of the log), this file (the
//! state), [`query`] (what may be read), `restore`.

pub mod command;
pub mod model;
pub mod query;
mod restore;

pub use command::{Command, Output, Refusal, Reply, Unit};
pub use model::{Check, CheckKind, CheckSpec, Instance, Pace, Status};
pub use query::{Answer, CheckView, Found, Query};

use base::planted::{Bug, planted};
use base::{
    ApplyFault, Digest, Image, Machine, NodeId, Origin, SnapshotPoll, Stamp, State, Writer,
};
use bytes::Bytes;
use model::{CHECKS_MAX, OUTPUT_BYTES_MAX, cut};
use std::collections::{BTreeMap, BTreeSet};
use twox_hash::XxHash64;

/// Instances of all services together, and checks.
pub const INSTANCES_MAX: usize = 100_000;
/// Bytes of all of them together, in their byte form.
pub const BYTES_MAX: u64 = 64 << 20;

/// An instance and when it changed, in revisions.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Entry {
    instance: Instance,
    created: u64,
    modified: u64,
}

impl Entry {
    fn encode_into(&self, w: &mut Writer) {
        w.u64(self.created).u64(self.modified);
        self.instance.encode_into(w);
    }
}

/// A service that has instances.
#[derive(Clone, Debug, Default)]
struct Service {
    /// The revision of its last change.
    index: u64,
    instances: BTreeSet<String>,
}

/// All services.
#[derive(Clone, Debug, Default)]
pub struct Services {
    instances: BTreeMap<String, Entry>,
    checks: BTreeMap<String, Check>,
    /// Raised by each change that somebody may wait for.
    revision: u64,
    /// The revision at which an instance last came, went or changed.
    names: u64,
    /// The revision at which a service last lost its last instance.
    extinct: u64,
    /// The last check's number.
    last_number: u64,
    /// The latest time seen.
    time_ms: i64,

    // --- what follows from the above ---
    services: BTreeMap<String, Service>,
    numbers: BTreeMap<u64, String>,
    /// Checks by instance; those of nodes under the empty id.
    checks_of: BTreeMap<String, BTreeSet<String>>,
    /// Checks that will remove their instance, by when.
    doomed: BTreeSet<(i64, u64)>,
    /// All instances and checks, and in the hash the services' indexes.
    rows: Digest,

    cut: Image,
    restoring: Vec<u8>,
}

impl Services {
    /// No services.
    pub fn new() -> Self {
        Self::default()
    }

    /// Services that have instances.
    pub fn service_count(&self) -> usize {
        self.services.len()
    }

    /// Instances of all services.
    pub fn instance_count(&self) -> usize {
        self.instances.len()
    }

    /// All checks, by id.
    pub fn checks(&self) -> impl Iterator<Item = &Check> {
        self.checks.values()
    }

    /// The check of this number, unless it is gone.
    pub fn check(&self, number: u64) -> Option<&Check> {
        self.checks.get(self.numbers.get(&number)?)
    }

    /// Bytes that a snapshot takes.
    pub fn bytes(&self) -> u64 {
        self.rows.bytes
    }

    /// The latest time that was seen, Unix milliseconds.
    pub fn time_ms(&self) -> i64 {
        self.time_ms
    }

    /// For the leader: at most `max` commands that remove instances whose checks were critical too long.
    pub fn reapable(&self, time_ms: i64, max: usize) -> Vec<Command> {
        let due = self.doomed.range(..=(time_ms, u64::MAX)).take(max);
        let checks = due.filter_map(|(_, number)| self.check(*number));
        let command = |check: &Check| Command::Reap {
            number: check.number,
            since_ms: check.since_ms,
        };
        checks.map(command).collect()
    }

    // --- applying ---

    /// Applies one decoded unit; [`Machine::apply`] without the decoding.
    pub fn apply_unit(&mut self, stamp: Stamp, unit: Unit, out: &mut Vec<Output>) {
        self.time_ms = self.time_ms.max(stamp.time_ms);
        let reply = match unit.command {
            Command::Register {
                instance,
                checks,
                replace_checks,
            } => self.register(instance, checks, replace_checks, out),
            Command::Deregister { id } => self.deregister(&id, out),
            Command::RegisterCheck { node, check } => self.register_check(node, check, out),
            Command::DeregisterCheck { id } => self.deregister_check(&id, out),
            Command::Tell { id, status, output } => self.tell(&id, status, output, out),
            Command::Expire { number, beats } => self.expire(number, beats, out),
            Command::Observe {
                number,
                epoch,
                status,
                output,
            } => self.observe((number, epoch), status, output, out),
            Command::Assign {
                number,
                epoch,
                runner,
            } => self.assign(number, epoch, runner, out),
            Command::Reap { number, since_ms } => self.reap(number, since_ms, out),
        };
        let origin = unit.origin;
        if origin != Origin::default() {
            out.push(Output::Reply { origin, reply });
        }
    }

    fn register(
        &mut self,
        instance: Instance,
        checks: Vec<CheckSpec>,
        replace_checks: bool,
        out: &mut Vec<Output>,
    ) -> Result<Reply, Refusal> {
        instance.check()?;
        if checks.len() > CHECKS_MAX {
            return Err(Refusal::Invalid("a service has at most 64 checks"));
        }
        for check in &checks {
            check.check()?;
            if check.instance != instance.id {
                return Err(Refusal::Invalid("a check is about another service"));
            }
        }
        // More than enough for all: what is replaced still counts.
        let mut w = Writer::new();
        instance.encode_into(&mut w);
        checks.iter().for_each(|check| check.encode_into(&mut w));
        self.has_room(1 + checks.len(), w.len())?;

        let (node, id) = (instance.node, instance.id.clone());
        let old = self.instances.get(&id);
        let is_same = old.is_some_and(|entry| {
            let (node, node_address) = (instance.node, instance.node_address.clone());
            let old = entry.instance.clone();
            Instance {
                node,
                node_address,
                ..old
            } == instance
        });
        let name = instance.service.clone();
        let mut changed = BTreeSet::new();
        if !is_same {
            self.revision += 1;
            self.names = self.revision;
            let created = old.map_or(self.revision, |entry| entry.created);
            changed.extend(self.take_instance(&id).map(|old| old.instance.service));
            self.put_instance(Entry {
                instance,
                created,
                modified: self.revision,
            });
            changed.insert(name.clone());
        }
        let mut kept = BTreeSet::new();
        for check in checks {
            kept.insert(check.id.clone());
            self.put_spec(node, check, &mut changed, out);
        }
        if replace_checks {
            for check in self.checks_of(&id) {
                if !kept.contains(&check) {
                    self.drop_check(&check, out);
                    changed.insert(name.clone());
                }
            }
        }
        for service in changed {
            self.touch(service, !is_same, out);
        }
        Ok(Reply::Done)
    }

    fn deregister(&mut self, id: &str, out: &mut Vec<Output>) -> Result<Reply, Refusal> {
        let unknown = || Refusal::UnknownInstance(cut(id.to_owned(), model::NAME_BYTES_MAX));
        let entry = self.take_instance(id).ok_or_else(unknown)?;
        for check in self.checks_of(id) {
            self.drop_check(&check, out);
        }
        self.revision += 1;
        self.names = self.revision;
        self.touch(entry.instance.service, true, out);
        Ok(Reply::Done)
    }

    fn register_check(
        &mut self,
        node: NodeId,
        spec: CheckSpec,
        out: &mut Vec<Output>,
    ) -> Result<Reply, Refusal> {
        spec.check()?;
        if !spec.instance.is_empty() && !self.instances.contains_key(&spec.instance) {
            return Err(Refusal::UnknownInstance(spec.instance));
        }
        let mut w = Writer::new();
        spec.encode_into(&mut w);
        self.has_room(1, w.len())?;
        let mut changed = BTreeSet::new();
        self.put_spec(node, spec, &mut changed, out);
        for service in changed {
            self.touch(service, false, out);
        }
        Ok(Reply::Done)
    }

    fn deregister_check(&mut self, id: &str, out: &mut Vec<Output>) -> Result<Reply, Refusal> {
        let changed = self.services_of(id);
        if !self.drop_check(id, out) {
            let id = cut(id.to_owned(), model::NAME_BYTES_MAX);
            return Err(Refusal::UnknownCheck(id));
        }
        self.revision += 1;
        for service in changed {
            self.touch(service, false, out);
        }
        Ok(Reply::Done)
    }

    fn tell(
        &mut self,
        id: &str,
        status: Status,
        output: String,
        out: &mut Vec<Output>,
    ) -> Result<Reply, Refusal> {
        let named = || cut(id.to_owned(), model::NAME_BYTES_MAX);
        let check = self.checks.get(id);
        let check = check.ok_or_else(|| Refusal::UnknownCheck(named()))?;
        if check.spec.kind.pace().is_some() {
            return Err(Refusal::NotTtl(named()));
        }
        let number = check.number;
        self.change(number, status, output, out, |check| check.beats += 1)
    }

    fn expire(&mut self, number: u64, beats: u64, out: &mut Vec<Output>) -> Result<Reply, Refusal> {
        let check = self.check(number).ok_or(Refusal::Outdated)?;
        if check.beats != beats && !planted(Bug::ExpireToldCheck) {
            return Err(Refusal::Outdated);
        }
        let output = match check.spec.kind {
            CheckKind::Ttl { ttl_ms } => format!("TTL expired: not told for {ttl_ms} ms"),
            _ => return Err(Refusal::Outdated),
        };
        self.change(number, Status::Critical, output, out, |_| {})
    }

    fn observe(
        &mut self,
        (number, epoch): (u64, u32),
        status: Status,
        output: String,
        out: &mut Vec<Output>,
    ) -> Result<Reply, Refusal> {
        let is_its = |check: &&Check| check.epoch == epoch;
        self.check(number).filter(is_its).ok_or(Refusal::Outdated)?;
        self.change(number, status, output, out, |_| {})
    }

    fn assign(
        &mut self,
        number: u64,
        epoch: u32,
        runner: NodeId,
        out: &mut Vec<Output>,
    ) -> Result<Reply, Refusal> {
        let is_its = |check: &&Check| check.epoch == epoch;
        let check = self.check(number).filter(is_its).ok_or(Refusal::Outdated)?;
        let (status, output) = (check.status, check.output.clone());
        self.change(number, status, output, out, |check| {
            check.runner = runner;
            check.epoch += 1;
        })
    }

    fn reap(
        &mut self,
        number: u64,
        since_ms: i64,
        out: &mut Vec<Output>,
    ) -> Result<Reply, Refusal> {
        let check = self.check(number).ok_or(Refusal::Outdated)?;
        let is_due = check.due_ms().is_some_and(|due| due <= self.time_ms);
        if !is_due || check.since_ms != since_ms {
            return Err(Refusal::Outdated);
        }
        let id = check.spec.instance.clone();
        self.deregister(&id, out)
    }

    // --- parts ---

    fn has_room(&self, items: usize, bytes: usize) -> Result<(), Refusal> {
        let count = self.instances.len().max(self.checks.len());
        // What is kept beside the definition of a check, its longest output included.
        let bytes = bytes + items * (OUTPUT_BYTES_MAX + 128);
        if count + items > INSTANCES_MAX || self.rows.bytes + bytes as u64 > BYTES_MAX {
            return Err(Refusal::TooMany);
        }
        Ok(())
    }

    /// Lets a check say something, and changes what else `more` does.
    fn change(
        &mut self,
        number: u64,
        status: Status,
        output: String,
        out: &mut Vec<Output>,
        more: impl FnOnce(&mut Check),
    ) -> Result<Reply, Refusal> {
        let id = self.numbers.get(&number).cloned();
        let taken = id.and_then(|id| self.take_check(&id));
        let mut check = taken.ok_or(Refusal::Outdated)?;
        let is_news = check.status != status;
        check.output = cut(output, OUTPUT_BYTES_MAX);
        more(&mut check);
        let id = check.spec.id.clone();
        if is_news {
            self.revision += 1;
            check.status = status;
            check.since_ms = self.time_ms;
            check.modified = self.revision;
        }
        self.put_check(check);
        out.push(Output::Check { number });
        if is_news {
            for service in self.services_of(&id) {
                self.touch(service, false, out);
            }
        }
        Ok(Reply::Done)
    }

    /// Puts a check in place of what has its id, unless that is the same. Adds to `changed` which services it
    /// is about, and was.
    fn put_spec(
        &mut self,
        node: NodeId,
        spec: CheckSpec,
        changed: &mut BTreeSet<String>,
        out: &mut Vec<Output>,
    ) {
        let id = spec.id.clone();
        let old = self.checks.get(&id);
        if old.is_some_and(|check| check.spec == spec) {
            return;
        }
        changed.extend(self.services_of(&id));
        let old = self.take_check(&id);
        self.revision += 1;
        self.last_number += 1;
        let number = self.last_number;
        let is_known = |old: &&Check| old.spec.instance == spec.instance;
        let known = old.as_ref().filter(is_known);
        let check = Check {
            number,
            home: node,
            runner: node,
            epoch: 0,
            beats: 0,
            status: known.map_or(spec.initial, |old| old.status),
            output: known.map(|old| old.output.clone()).unwrap_or_default(),
            since_ms: known.map_or(self.time_ms, |old| old.since_ms),
            created: known.map_or(self.revision, |old| old.created),
            modified: self.revision,
            spec,
        };
        self.put_check(check);
        for number in old.map(|old| old.number).into_iter().chain([number]) {
            out.push(Output::Check { number });
        }
        changed.extend(self.services_of(&id));
    }

    fn drop_check(&mut self, id: &str, out: &mut Vec<Output>) -> bool {
        let taken = self.take_check(id);
        let number = taken.map(|check| check.number);
        out.extend(number.map(|number| Output::Check { number }));
        number.is_some()
    }

    fn checks_of(&self, instance: &str) -> Vec<String> {
        let checks = self.checks_of.get(instance);
        checks.into_iter().flatten().cloned().collect()
    }

    /// The services that a check is about.
    fn services_of(&self, id: &str) -> BTreeSet<String> {
        let Some(check) = self.checks.get(id) else {
            return BTreeSet::new();
        };
        let is_meant = |entry: &&Entry| match check.spec.instance.as_str() {
            "" => entry.instance.node == check.home,
            instance => entry.instance.id == instance,
        };
        let name = |entry: &Entry| entry.instance.service.clone();
        match check.spec.instance.as_str() {
            "" => self.instances.values().filter(is_meant).map(name).collect(),
            instance => self.instances.get(instance).map(name).into_iter().collect(),
        }
    }

    /// Notes that a service changed in this revision.
    fn touch(&mut self, name: String, instances: bool, out: &mut Vec<Output>) {
        match self.services.get_mut(&name) {
            Some(service) => {
                let old = std::mem::replace(&mut service.index, self.revision);
                self.rows.hash = self.rows.hash.wrapping_sub(index_hash(&name, old));
                self.rows.hash = (self.rows.hash).wrapping_add(index_hash(&name, self.revision));
            }
            None => self.extinct = self.revision,
        }
        out.push(Output::Changed {
            service: name,
            instances,
        });
    }

    fn put_instance(&mut self, entry: Entry) {
        self.rows.add(9, |w| entry.encode_into(w));
        let (id, name) = (entry.instance.id.clone(), entry.instance.service.clone());
        let service = self.services.entry(name).or_default();
        service.instances.insert(id.clone());
        self.instances.insert(id, entry);
    }

    fn take_instance(&mut self, id: &str) -> Option<Entry> {
        let entry = self.instances.remove(id)?;
        self.rows.remove(9, |w| entry.encode_into(w));
        let name = &entry.instance.service;
        if let Some(service) = self.services.get_mut(name) {
            service.instances.remove(id);
            if service.instances.is_empty() {
                self.rows.hash = (self.rows.hash).wrapping_sub(index_hash(name, service.index));
                self.services.remove(name);
            }
        }
        Some(entry)
    }

    fn put_check(&mut self, check: Check) {
        self.rows.add(11, |w| check.encode_into(w));
        self.numbers.insert(check.number, check.spec.id.clone());
        let checks = self.checks_of.entry(check.spec.instance.clone());
        checks.or_default().insert(check.spec.id.clone());
        let due = check.due_ms().map(|due_ms| (due_ms, check.number));
        self.doomed.extend(due);
        self.checks.insert(check.spec.id.clone(), check);
    }

    fn take_check(&mut self, id: &str) -> Option<Check> {
        let check = self.checks.remove(id)?;
        self.rows.remove(11, |w| check.encode_into(w));
        self.numbers.remove(&check.number);
        if let Some(checks) = self.checks_of.get_mut(&check.spec.instance) {
            checks.remove(id);
            if checks.is_empty() {
                self.checks_of.remove(&check.spec.instance);
            }
        }
        if let Some(due_ms) = check.due_ms() {
            self.doomed.remove(&(due_ms, check.number));
        }
        Some(check)
    }
}

/// What a service's index adds to the digest; a service that was never touched adds nothing.
fn index_hash(name: &str, index: u64) -> u64 {
    if index == 0 {
        return 0;
    }
    let mut w = Writer::new();
    w.str(name).u64(index);
    XxHash64::oneshot(12, w.as_slice())
}

impl Machine for Services {
    type Output = Output;

    fn apply(
        &mut self,
        stamp: Stamp,
        unit: &[u8],
        out: &mut Vec<Output>,
    ) -> Result<(), ApplyFault> {
        let unit = Unit::decode(&Bytes::copy_from_slice(unit))
            .map_err(|e| ApplyFault::UnknownCommand(format!("services: {e}")))?;
        self.apply_unit(stamp, unit, out);
        Ok(())
    }
}

impl State for Services {
    fn digest(&self) -> u64 {
        let mut w = Writer::new();
        w.u64(self.revision).u64(self.names).u64(self.extinct);
        w.u64(self.last_number).i64(self.time_ms);
        (self.rows.hash).wrapping_add(XxHash64::oneshot(10, w.as_slice()))
    }

    /// Services are few (see [`BYTES_MAX`]): the image is taken at once.
    fn begin_snapshot(&mut self) {
        self.cut = Image::of(self.image());
    }

    fn poll_snapshot(&mut self, bytes_max: usize) -> SnapshotPoll {
        self.cut.poll(bytes_max)
    }

    fn abort_snapshot(&mut self) {
        self.cut = Image::default();
    }

    fn restore(&mut self, chunk: &[u8]) -> Result<(), String> {
        self.restoring.extend_from_slice(chunk);
        Ok(())
    }

    fn finish_restore(&mut self) -> Result<(), String> {
        let image = std::mem::take(&mut self.restoring);
        if image.is_empty() {
            // The snapshot is from before there were services.
            return Ok(());
        }
        *self = Self::from_image(&image)
            .map_err(|e| format!("restoring the services: {e}; take another snapshot"))?;
        Ok(())
    }
}
