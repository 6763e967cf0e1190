//! What transactions under way hold: each resource is one transaction's alone.
//!
//! One kind of lock, exclusive. Shared ones would let transactions that only look at the same key run side by
//! side; they are as short as two log entries, and a second kind would be a second case everywhere.

use crate::unit::TxnId;
use std::collections::BTreeMap;

/// A thing that can be held: the number of a chapter, then the chapter's own name for it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Resource(pub Vec<u8>);

/// What a unit reads or changes, as far as it meets locks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Touch {
    /// This.
    One(Resource),
    /// Everything whose name begins like this.
    All(Resource),
}

#[derive(Debug, Default)]
pub(crate) struct Locks {
    held: BTreeMap<Resource, TxnId>,
}

impl Locks {
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    pub fn len(&self) -> usize {
        self.held.len()
    }

    pub fn take(&mut self, id: &TxnId, resources: Vec<Resource>) {
        for resource in resources {
            let holder = self.held.insert(resource, id.clone());
            debug_assert!(holder.is_none_or(|h| h == *id), "who waits is not asked");
        }
    }

    pub fn release(&mut self, id: &TxnId, resources: Vec<Resource>) {
        for resource in resources {
            if self.held.get(&resource) == Some(id) {
                self.held.remove(&resource);
            }
        }
    }

    pub fn holds(&self, resource: &Resource) -> bool {
        self.held.contains_key(resource)
    }

    pub fn meets(&self, touch: &Touch) -> bool {
        match touch {
            Touch::One(resource) => self.holds(resource),
            Touch::All(prefix) => (self.held.range(prefix.clone()..))
                .next()
                .is_some_and(|(resource, _)| resource.0.starts_with(&prefix.0)),
        }
    }

    pub fn clear(&mut self) {
        self.held.clear();
    }
}
