//! What may be read of the services.

use super::{Entry, Instance, Services};
use base::NodeId;
use std::collections::{BTreeMap, BTreeSet};

/// A question about the services.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Query {
    /// The names of all services, with their instances' tags.
    Names,
    /// The instances of one service.
    Service {
        /// Its name.
        name: String,
    },
    /// The instances that were registered at a node.
    Node {
        /// Which.
        node: NodeId,
    },
}

/// The answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// Of `Names`.
    Names(BTreeMap<String, BTreeSet<String>>),
    /// Of `Service` and `Node`.
    Instances(Vec<Found>),
}

/// An instance that was found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Found {
    /// What was registered.
    pub instance: Instance,
    /// The revision at which it was first registered.
    pub created: u64,
    /// The revision of its last change.
    pub modified: u64,
}

impl Services {
    /// The answer, and its index: it is higher whenever the answer may be another. Never 0.
    pub fn read(&self, query: &Query) -> (u64, Answer) {
        let (index, answer) = match query {
            Query::Names => {
                let mut names: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
                for entry in self.instances.values() {
                    let tags = names.entry(entry.instance.service.clone()).or_default();
                    tags.extend(entry.instance.tags.iter().cloned());
                }
                (self.revision, Answer::Names(names))
            }
            Query::Service { name } => match self.services.get(name) {
                Some(service) => {
                    let entries = service
                        .instances
                        .iter()
                        .filter_map(|k| self.instances.get(k));
                    (
                        service.index,
                        Answer::Instances(entries.map(found).collect()),
                    )
                }
                None => (self.extinct, Answer::Instances(Vec::new())),
            },
            Query::Node { node } => {
                let from = (*node, String::new());
                let entries = self.instances.range(from..).map(|(_, entry)| entry);
                let entries = entries.take_while(|entry| entry.instance.node == *node);
                (
                    self.revision,
                    Answer::Instances(entries.map(found).collect()),
                )
            }
        };
        (index.max(1), answer)
    }
}

fn found(entry: &Entry) -> Found {
    Found {
        instance: entry.instance.clone(),
        created: entry.created,
        modified: entry.modified,
    }
}
