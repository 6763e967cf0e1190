//! The registry of topics at cores that do not hold it.
//!
//! The registry lies in the tree's shard, the records in pool `main`: with several cores and lanes, at another
//! core. The core that holds the tree gives the others of its node a copy, whenever the registry changes and
//! when one asks for it as of now (a barrier); by the same frames it hands back the answers to what they
//! proposed to the registry, behind a copy in which that is done. The registry is small, so it is sent whole.

use crate::core::Core;
use crate::event::{Endpoint, FrontEnd};
use crate::frame::Frame;
use crate::peers::core_of;
use base::{CoreAddress, CoreId, Now, Origin};
use bytes::Bytes;
use catalog::TREE_SHARD;
use messaging::{Registry, RegistryOutput, RegistryReply};
use std::collections::BTreeMap;

/// What is under way between the cores of a node.
#[derive(Debug, Default)]
pub(crate) struct Copies {
    /// The copy of this core, if another one holds the registry and has sent it.
    pub copy: Option<Box<Registry>>,
    /// Barriers that other cores wait for: who, and by which token of theirs.
    asked: BTreeMap<u64, (CoreId, u64)>,
    /// Of these, those that are reached.
    reached: BTreeMap<CoreId, Vec<u64>>,
    /// Answers, by the token of who proposed.
    answers: BTreeMap<CoreId, Vec<(u64, Bytes)>>,
    is_changed: bool,
}

impl Core {
    /// True when another core of this node holds the registry.
    pub(crate) fn registry_is_elsewhere(&self) -> bool {
        !self.holds(TREE_SHARD)
    }

    /// Asks for the registry as it is now. Barriers of token 0 are nobody's.
    pub(crate) fn ask_for_registry(&mut self, token: u64) {
        if self.config.listeners.contains_key(&FrontEnd::Kafka) {
            let core = core_of(TREE_SHARD, self.config.lanes, self.config.cores);
            let (from, address) = (self.me, self.config.address.clone());
            let frame = Frame::AskRegistry { from, token };
            self.send(Endpoint { address, core }, &frame);
        }
    }

    pub(crate) fn registry_asked(&mut self, from: CoreAddress, token: u64) {
        let own = self.rng.next_u64();
        if let Some(shard) = self.replicas.get_mut(TREE_SHARD)
            && from.node == self.me.node
        {
            self.copies.asked.insert(own, (from.core, token));
            shard.request_barrier(own);
        }
    }

    /// True when another core waited for this barrier.
    pub(crate) fn registry_barrier(&mut self, token: u64) -> bool {
        let Some((core, theirs)) = self.copies.asked.remove(&token) else {
            return false;
        };
        self.copies.reached.entry(core).or_default().push(theirs);
        true
    }

    /// Something was applied to the registry here.
    pub(crate) fn registry_output(&mut self, output: &RegistryOutput) {
        match output {
            RegistryOutput::Changed => self.registry_changed(),
            RegistryOutput::Reply { origin, reply }
                if origin.home.node == self.me.node && origin.home.core != self.me.core =>
            {
                let answer = RegistryReply::encode_result(reply);
                let answers = self.copies.answers.entry(origin.home.core).or_default();
                answers.push((origin.token, answer));
            }
            RegistryOutput::Reply { .. } => {}
        }
    }

    pub(crate) fn registry_changed(&mut self) {
        self.copies.is_changed = true;
    }

    /// Sends what the other cores wait for.
    pub(crate) fn flush_registry(&mut self) {
        let copies = &mut self.copies;
        let is_changed = std::mem::take(&mut copies.is_changed);
        let mut reached = std::mem::take(&mut copies.reached);
        let mut answers = std::mem::take(&mut copies.answers);
        if self.config.cores == 1 || !self.config.listeners.contains_key(&FrontEnd::Kafka) {
            return;
        }
        for core in (0..self.config.cores).map(CoreId) {
            let (reached, answers) = (reached.remove(&core), answers.remove(&core));
            let is_due = is_changed || reached.is_some() || answers.is_some();
            let Some(data) = self
                .replicas
                .get(TREE_SHARD)
                .and_then(|s| s.machine().data())
            else {
                return;
            };
            if core == self.me.core || !is_due {
                continue;
            }
            let frame = Frame::Registry {
                bytes: data.registry.encode().into(),
                answers: answers.unwrap_or_default(),
                reached: reached.unwrap_or_default(),
            };
            let address = self.config.address.clone();
            self.send(Endpoint { address, core }, &frame);
        }
    }

    /// A copy came, with answers that are in it and barriers that it is behind.
    pub(crate) fn registry_frame(
        &mut self,
        now: Now,
        bytes: &Bytes,
        answers: Vec<(u64, Bytes)>,
        reached: Vec<u64>,
    ) {
        let Ok(copy) = Registry::decode(bytes) else {
            return;
        };
        if !self.registry_is_elsewhere() {
            return;
        }
        let is_new = self.copies.copy.as_ref().is_none_or(|c| **c != copy);
        self.copies.copy = Some(Box::new(copy));
        let home = self.me;
        self.with_kafka(now, |front, cx| {
            if is_new {
                front.handle_registry(cx, RegistryOutput::Changed);
            }
            for (token, answer) in answers {
                if let Ok(reply) = RegistryReply::decode_result(&answer) {
                    let origin = Origin { home, token };
                    front.handle_registry(cx, RegistryOutput::Reply { origin, reply });
                }
            }
            for token in reached {
                front.handle_barrier(cx, token);
            }
        });
    }
}
