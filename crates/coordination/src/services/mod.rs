//! Services: who offers what, where. One machine beside the tree, with a revision of its own.
//!
//! An instance is known by the node that it was registered at and an id. Each service has an index: the
//! revision at which its instances last changed, so that whoever waits for a change of one service is not
//! woken by another. The index of a service without instances is the revision at which any service last
//! lost its last one: never less than what was seen of it.
//!
//! Reading order: [`command`] (what may be asked of the log), this file (the state), [`query`] (what may be
//! read), `restore`.

pub mod command;
pub mod query;
mod restore;

pub use command::{Command, Instance, Output, Refusal, Reply, Unit};
pub use query::{Answer, Found, Query};

use base::{ApplyFault, Machine, NodeId, Origin, SnapshotPoll, Stamp, Writer};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use twox_hash::XxHash64;

/// Instances of all services together.
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

    fn bytes(&self) -> Vec<u8> {
        let mut w = Writer::new();
        self.encode_into(&mut w);
        w.into_vec()
    }
}

/// A service that has instances.
#[derive(Clone, Debug, Default)]
struct Service {
    /// The revision of its last change.
    index: u64,
    instances: BTreeSet<(NodeId, String)>,
}

/// All services.
#[derive(Clone, Debug, Default)]
pub struct Services {
    instances: BTreeMap<(NodeId, String), Entry>,
    services: BTreeMap<String, Service>,
    /// Raised by each change.
    revision: u64,
    /// The revision at which a service last lost its last instance.
    extinct: u64,
    bytes: u64,
    digest: u64,
    cut: Option<(Vec<u8>, usize)>,
    restoring: Vec<u8>,
}

impl Services {
    /// No services.
    pub fn new() -> Self {
        Self::default()
    }

    /// Instances of all services.
    pub fn instance_count(&self) -> usize {
        self.instances.len()
    }

    /// Bytes that a snapshot takes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Applies one decoded unit; [`Machine::apply`] without the decoding.
    pub fn apply_unit(&mut self, unit: Unit, out: &mut Vec<Output>) {
        let reply = match unit.command {
            Command::Register(instance) => self.register(instance, out),
            Command::Deregister { node, id } => self.deregister(node, id, out),
        };
        let origin = unit.origin;
        if origin != Origin::default() {
            out.push(Output::Reply { origin, reply });
        }
    }

    fn register(&mut self, instance: Instance, out: &mut Vec<Output>) -> Result<Reply, Refusal> {
        instance.check()?;
        let key = (instance.node, instance.id.clone());
        let old = self.instances.get(&key);
        if old.is_some_and(|entry| entry.instance == instance) {
            return Ok(Reply::Done);
        }
        let revision = self.revision + 1;
        let entry = Entry {
            created: old.map_or(revision, |entry| entry.created),
            modified: revision,
            instance,
        };
        let old_bytes = old.map_or(0, |entry| entry.bytes().len() as u64);
        let bytes = self.bytes - old_bytes + entry.bytes().len() as u64;
        if (old.is_none() && self.instances.len() >= INSTANCES_MAX) || bytes > BYTES_MAX {
            return Err(Refusal::TooMany);
        }
        self.revision = revision;
        let name = entry.instance.service.clone();
        let old_name = self.remove(&key).filter(|old| *old != name);
        self.insert(entry);
        for name in old_name.into_iter().chain([name]) {
            self.touch(name, out);
        }
        Ok(Reply::Done)
    }

    fn deregister(
        &mut self,
        node: NodeId,
        id: String,
        out: &mut Vec<Output>,
    ) -> Result<Reply, Refusal> {
        let key = (node, id);
        let name = self.remove(&key).ok_or(Refusal::UnknownInstance)?;
        self.revision += 1;
        self.touch(name, out);
        Ok(Reply::Done)
    }

    /// Notes that a service changed in this revision.
    fn touch(&mut self, name: String, out: &mut Vec<Output>) {
        match self.services.get_mut(&name) {
            Some(service) => service.index = self.revision,
            None => self.extinct = self.revision,
        }
        out.push(Output::Changed { service: name });
    }

    fn insert(&mut self, entry: Entry) {
        let bytes = entry.bytes();
        self.bytes += bytes.len() as u64;
        self.digest = self.digest.wrapping_add(XxHash64::oneshot(9, &bytes));
        let key = (entry.instance.node, entry.instance.id.clone());
        let service = (self.services.entry(entry.instance.service.clone())).or_default();
        service.index = service.index.max(entry.modified);
        service.instances.insert(key.clone());
        self.instances.insert(key, entry);
    }

    /// Removes an instance; the name of its service.
    fn remove(&mut self, key: &(NodeId, String)) -> Option<String> {
        let entry = self.instances.remove(key)?;
        let bytes = entry.bytes();
        self.bytes -= bytes.len() as u64;
        self.digest = self.digest.wrapping_sub(XxHash64::oneshot(9, &bytes));
        let name = entry.instance.service;
        if let Some(service) = self.services.get_mut(&name) {
            service.instances.remove(key);
            if service.instances.is_empty() {
                self.services.remove(&name);
            }
        }
        Some(name)
    }
}

impl Machine for Services {
    type Output = Output;

    fn apply(&mut self, _: Stamp, unit: &[u8], out: &mut Vec<Output>) -> Result<(), ApplyFault> {
        let unit = Unit::decode(&Bytes::copy_from_slice(unit))
            .map_err(|e| ApplyFault::UnknownCommand(format!("services: {e}")))?;
        self.apply_unit(unit, out);
        Ok(())
    }

    /// 0 for a machine that nothing was ever asked of.
    fn digest(&self) -> u64 {
        if self.revision == 0 {
            return 0;
        }
        let mut w = Writer::new();
        w.u64(self.revision).u64(self.extinct);
        for (name, service) in &self.services {
            w.str(name).u64(service.index);
        }
        (self.digest).wrapping_add(XxHash64::oneshot(10, w.as_slice()))
    }

    /// Services are few (see [`BYTES_MAX`]): the image is taken at once.
    fn begin_snapshot(&mut self) {
        self.cut = Some((self.image(), 0));
    }

    fn poll_snapshot(&mut self, bytes_max: usize) -> SnapshotPoll {
        match &mut self.cut {
            Some((image, at)) if *at < image.len() => {
                let end = image.len().min(*at + bytes_max.max(1));
                let chunk = image[*at..end].to_vec();
                *at = end;
                SnapshotPoll::Chunk(chunk)
            }
            _ => {
                self.cut = None;
                SnapshotPoll::Done
            }
        }
    }

    fn abort_snapshot(&mut self) {
        self.cut = None;
    }

    fn restore(&mut self, chunk: &[u8]) -> Result<(), String> {
        self.restoring.extend_from_slice(chunk);
        Ok(())
    }

    fn finish_restore(&mut self) -> Result<(), String> {
        let image = std::mem::take(&mut self.restoring);
        if !image.is_empty() {
            *self = Self::from_image(&image)
                .map_err(|e| format!("restoring the services: {e}; take another snapshot"))?;
        }
        Ok(())
    }
}
